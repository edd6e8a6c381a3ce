"""``whp tour``: every method once on real data, in a live table, with one HTML page at the end."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table

from whp.catalogue import Method
from whp.certificate import COLOUR, Verdict
from whp.cli._console import console as make_console
from whp.experiment.findings import published
from whp.experiment.study import load
from whp.io import save
from whp.report import Card, page, svg

__all__ = ["tour"]

LEAD = (
    "Published methods with guarantees, each run on real data against its baseline, with the paper's theorem evaluated on "
    "that very run."
)


def _card(method: Method, known: dict) -> Card:
    start = time.perf_counter()
    try:
        method.load()
        shown = load(method.slug).showcase()
        picture = svg(shown.draw, salt=method.slug)
    except ModuleNotFoundError as error:
        told = (
            str(error)
            if "pip install" in str(error)
            else f"needs {error.name}: pip install 'whp[study]'"
        )
        return Card(method, error=told, findings=known.get(method.slug))
    except (
        Exception
    ) as error:  # one broken showcase must not end the tour; the row and the exit code say so
        return Card(
            method, error=f"{type(error).__name__}: {error}", findings=known.get(method.slug)
        )
    return Card(
        method,
        **{
            k: getattr(shown, k)
            for k in ("data", "quantity", "ours", "baseline", "baseline_name", "caption", "code")
        },
        seconds=time.perf_counter() - start,
        certificates=shown.certificates,
        picture=picture,
        findings=known.get(method.slug),
    )


def _table(cards: Sequence[Card], running: Method | None, left: Sequence[Method]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("method on real data", "ours", "baseline", "certificates", "time"):
        table.add_column(column, no_wrap=column in ("ours", "certificates", "time"))
    for card in cards:
        name = f"[bold]{card.method.slug}[/]"
        if card.error:
            table.add_row(f"{name}\n[red]{escape(card.error)}[/]")
            continue
        verdicts = "\n".join(f"[{COLOUR[Verdict(v)]}]{n} {v}[/]" for v, n in card.verdicts)
        table.add_row(
            f"{name}\n{escape(card.quantity)}\n[dim]{escape(card.data)}[/]",
            f"[bold]{escape(card.ours)}[/]",
            f"{escape(card.baseline)}\n[dim]{escape(card.baseline_name)}[/]",
            verdicts,
            f"{card.seconds:.1f} s",
        )
    if running is not None:
        table.add_row(
            Spinner("dots", f"[bold]{running.slug}[/]\n{escape(running.problem)}", style="cyan")
        )
    for method in left:
        table.add_row(f"[dim]{method.slug}[/]")
    return table


def _picture(cards: Sequence[Card], path: Path) -> None:
    """The finished table as SVG that loads nothing from elsewhere."""
    console = Console(record=True, width=128, file=io.StringIO())
    console.print(_table(cards, None, []))
    text = re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title="whp tour"), flags=re.S)
    save(path.parent, {path.name: text})


def tour(methods: Sequence[Method], out: Path, picture: Path | None = None) -> int:
    """Run the showcases; the page is written anew after each, so that an interrupted tour leaves what it has."""
    console = make_console()
    known = published()
    cards: list[Card] = []
    start = time.perf_counter()
    path = out / "index.html"
    with Live(console=console, refresh_per_second=8, transient=not console.is_terminal) as live:
        for index, method in enumerate(methods):
            live.update(_table(cards, method, methods[index + 1 :]), refresh=True)
            cards.append(_card(method, known))
            save(out, {"index.html": page(cards, title="With high probability", lead=LEAD)})
            live.update(_table(cards, None, methods[index + 1 :]), refresh=True)
    if not console.is_terminal:
        console.print(_table(cards, None, []))
    console.print(
        f"\n{len(cards)} methods in {time.perf_counter() - start:.0f} s. Look at [bold]{path.resolve()}[/]",
        soft_wrap=True,
    )
    if picture is not None:
        _picture(cards, picture)
    return 1 if any(c.error for c in cards) else 0
