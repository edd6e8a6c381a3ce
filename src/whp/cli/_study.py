"""``whp study``: trials with live progress, then the claims' verdicts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

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
from whp.experiment.findings import Published, judge, published
from whp.experiment.runner import Backend, run_study
from whp.experiment.study import Outcome, Scale, load
from whp.io import save
from whp.report.ledger import ledger

__all__ = ["study"]

STYLE = {Outcome.REPRODUCED: "green", Outcome.NOT_REPRODUCED: "red", Outcome.INCONCLUSIVE: "yellow"}


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
    console = Console()
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
            _publish(entry)
    return 1 if failed else 0


def _run(
    console: Console,
    method: Method,
    module: Any,
    scale: Scale,
    backend: Backend,
    address: str | None,
    jobs: int,
) -> Any:
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
        outcome = f"[{STYLE[f.outcome]}]{f.outcome}[/]"
        table.add_row(
            f.id, escape(f.statement), f"{f.relation} {f.threshold:.4g}", str(f.ours), outcome
        )
    console.print(table)
    console.print(
        f"{entry.trials} trials, {entry.failed} failed, {entry.seconds:.0f} s of computing"
    )


def _publish(entry: Published) -> None:
    package = Path(str(files("whp")))
    root = package.parent.parent
    if not (root / "pyproject.toml").exists():
        raise ValueError(
            "--publish writes into a checkout of the source; this is an installed package"
        )
    directory = package / "studies" / "findings"
    directory.mkdir(exist_ok=True)
    entry.write(directory / f"{entry.slug}.json")
    text = ledger(published())
    (root / "LEDGER.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")
