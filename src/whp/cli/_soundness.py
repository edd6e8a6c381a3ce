"""``whp soundness``: certificates in their worlds, cached and resumable as studies are."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from whp.catalogue import Method
from whp.cli._console import console as make_console
from whp.experiment.runner import Backend, run_tasks
from whp.experiment.soundness import Soundness, published_soundness, soundness_tasks, summed
from whp.experiment.worlds import load_worlds
from whp.io import save
from whp.report.soundness import highest_rates, soundness, soundness_page

__all__ = ["run_soundness"]


def run_soundness(
    methods: Sequence[Method],
    seeds: int,
    backend: Backend,
    address: str | None,
    jobs: int,
    out: Path,
    publish: bool,
) -> int:
    """Run, sum up, print and save; exit code 1 if a run crashed or a mutant was not caught."""
    console = make_console()
    bad = 0
    for method in methods:
        worlds = load_worlds(method.slug)
        if worlds is None:
            continue
        tasks = soundness_tasks(worlds, seeds)
        rows = _run(console, method.slug, tasks, backend, address, jobs)
        entry = summed(worlds, seeds, tasks, rows)
        save(out, {f"{method.slug}.json": entry.write, f"{method.slug}.md": soundness_page(entry)})
        _show(console, entry, out / f"{method.slug}.md")
        bad += sum(r.counts.crashed > 0 or (bool(r.mutant) and not r.caught) for r in entry.rows)
        if publish:
            _publish(entry)
    return 1 if bad else 0


def _show(console: Console, entry: Soundness, page: Path) -> None:
    """The worst rates; the page has a row a world, too wide for a terminal."""
    console.print(f"[bold]{entry.slug}[/bold], up to {entry.seeds:,} seeds a world")
    table = Table.grid(padding=(0, 2))
    for label, text in highest_rates(entry).items():
        table.add_row(f"  {label}", escape(text))
    console.print(table)
    for row in entry.rows:
        if row.counts.crashed:
            console.print(f"  {row.world}, {row.strength:g}: {row.counts.crashed} crashed")
        elif row.mutant and not row.caught:
            console.print(f"  not caught: {escape(row.mutant)} of {row.theorem} in {row.world}")
    console.print(f"  every world: {escape(str(page))}", soft_wrap=True)


def _run(
    console: Any, slug: str, tasks: Any, backend: Backend, address: str | None, jobs: int
) -> Any:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(f"{slug}, blocks of runs", total=len(tasks))

        def on_result(finished: int, total: int, rows: Any, cached: bool) -> None:
            bar.update(task, completed=finished, total=total)

        return run_tasks(tasks, backend=backend, address=address, jobs=jobs, on_result=on_result)


def _publish(entry: Soundness) -> None:
    package = Path(str(files("whp")))
    root = package.parent.parent
    if not (root / "pyproject.toml").exists():
        raise ValueError("--publish writes into a checkout of the source; this is an installed one")
    directory = package / "studies" / "soundness"
    directory.mkdir(exist_ok=True)
    entry.write(directory / f"{entry.slug}.json")
    pages = root / "docs" / "soundness"
    pages.mkdir(parents=True, exist_ok=True)
    (pages / f"{entry.slug}.md").write_text(soundness_page(entry), encoding="utf-8")
    (root / "SOUNDNESS.md").write_text(soundness(published_soundness()), encoding="utf-8")
