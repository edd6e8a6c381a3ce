"""``whp study``: trials with live progress, then the claims' verdicts."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from whp.catalogue import Method
from whp.cli._console import console as make_console
from whp.experiment.findings import Published, judge, published, relisted
from whp.experiment.runner import Backend, run_study
from whp.experiment.study import Loaded, NotTested, Scale, load
from whp.io import save
from whp.report import ledger, ledger_page, svg

__all__ = ["relist", "study"]


def study(
    methods: Sequence[Method],
    scale: Scale,
    backend: Backend,
    address: str | None,
    jobs: int,
    out: Path,
    publish: bool,
) -> int:
    """Run, judge, print and save the studies; exit code 1 if a trial failed."""
    console = make_console()
    failed = 0
    for method in methods:
        module = load(method.slug)
        records = _run(console, method, module, scale, backend, address, jobs)
        name = f"{method.slug}-{scale}"
        save(out, {f"{name}.parquet": records})
        broken = records.loc[records["error"].astype(bool), "error"]
        failed += len(broken)
        for error in broken.head(3):
            console.print(f"[red]a trial failed:[/] {escape(str(error).strip().splitlines()[-1])}")
        entry = judge(method.slug, module, scale, records)
        _show(console, entry)
        save(out, {f"{name}.json": lambda path, entry=entry: entry.write(path)})
        console.print(f"records in {out / name}.parquet\n", highlight=False)
        if publish:
            _publish(entry, module, records)
    return 1 if failed else 0


def _run(
    console: Console,
    method: Method,
    module: Loaded,
    scale: Scale,
    backend: Backend,
    address: str | None,
    jobs: int,
) -> pd.DataFrame:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[cached]} from the cache"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(f"{method.slug}, {scale}", total=None, cached=0)
        cached = 0

        def on_result(finished: int, total: int, rows: Any, from_cache: bool) -> None:
            nonlocal cached
            cached += from_cache
            progress.update(task, completed=finished, total=total, cached=cached)

        return run_study(
            module, scale, backend=backend, address=address, jobs=jobs, on_result=on_result
        )


def _show(console: Console, entry: Published) -> None:
    table = Table(
        box=None,
        padding=(0, 2, 0, 0),
        header_style="bold",
        title=f"{entry.slug}, {entry.scale} scale",
    )
    for column in ("", "claim", "must be", "ours (95 %)", "verdict"):
        table.add_column(column)
    for f in entry.findings:
        outcome = f"[{f.outcome.colour}]{f.outcome}[/]"
        shown = f.measured if not f.reason else f"{f.measured} ({f.reason})"
        table.add_row(f.id, escape(f.statement), f.demand, escape(shown), outcome)
    console.print(table)
    for o in dict.fromkeys(f.outcome for f in entry.findings):
        console.print(f"[{o.colour}]{o}[/]: {o.meaning}", highlight=False)
    console.print(
        f"{entry.trials} trials, {entry.failed} failed, {entry.seconds:.0f} s of computing"
    )


def relist() -> int:
    """Write the ledger anew from the published findings, under what the claims now say of themselves."""
    for entry in published().values():
        _write(relisted(entry, load(entry.slug).CLAIMS))
    _list()
    return 0


def _publish(entry: Published, study: Loaded, records: pd.DataFrame) -> None:
    """Findings, figures and ledger of a study that was just run."""
    _write(entry)
    pages = _root() / "docs" / "ledger"
    pages.mkdir(parents=True, exist_ok=True)
    for old in pages.glob(f"{entry.slug}-*.svg"):
        old.unlink()
    good = records[~records["error"].astype(bool)]
    for name, draw in study.FIGURES.items():
        with contextlib.suppress(NotTested):  # a figure of what this scale does not run is left out
            picture = svg(lambda figure, d=draw: d(good, figure.subplots()), salt=entry.slug + name)
            file = f"{entry.slug}-{name.replace(' ', '_')}.svg"
            (pages / file).write_text(picture, encoding="utf-8")
    _list()


def _root() -> Path:
    root = Path(str(files("whp"))).parent.parent
    if not (root / "pyproject.toml").exists():
        raise ValueError(
            "the ledger is written into a checkout of the source; this is an installed package"
        )
    return root


def _write(entry: Published) -> None:
    directory = _root() / "src" / "whp" / "studies" / "findings"
    directory.mkdir(exist_ok=True)
    entry.write(directory / f"{entry.slug}.json")


def _list() -> None:
    """LEDGER.md and a page a paper."""
    entries, pages = published(), _root() / "docs" / "ledger"
    pages.mkdir(parents=True, exist_ok=True)
    for slug, entry in entries.items():
        figures = sorted(p.name for p in pages.glob(f"{slug}-*.svg"))
        (pages / f"{slug}.md").write_text(ledger_page(entry, figures), encoding="utf-8")
    (_root() / "LEDGER.md").write_text(ledger(entries), encoding="utf-8")
