"""The commands and how they are put together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from whp import __version__
from whp.catalogue import CATALOGUE, find
from whp.cli._console import console as make_console
from whp.experiment.runner import Backend
from whp.experiment.study import Scale

__all__ = ["application"]

HELP = """Published methods with guarantees, each checked on your run.

`whp list` shows the methods, `whp run METHOD FILE` runs one on your file, `whp tour` shows them all at work.
"""


def application(tokens: Sequence[str] = ()) -> cyclopts.App:
    """The command-line application.

    Only the method that `tokens` name is imported; without tokens all built ones are, as shell completion needs them.
    """
    app = cyclopts.App(
        name="whp",
        help=HELP,
        version=__version__,
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        help_format="markdown",
    )
    app.command(_list, name="list")
    app.command(_info, name="info")
    app.command(_tour, name="tour")
    app.command(_study, name="study")
    app.command(_soundness, name="soundness")
    app.command(_bench, name="bench")
    for method in CATALOGUE:
        if method.commands:  # imported when its name is typed, or its help shown
            name = method.commands.split(":")[1]
            app.command(method.commands, name=name, help=f"Commands of {method.slug}.")
    app.command(_completion, name="completion")
    run = cyclopts.App(
        name="run",
        help="Run METHOD on FILE…, or on its built-in real example. `whp run METHOD --help` shows its options.",
        version_flags=[],
    )
    app.command(run)
    wanted = (
        [t for t in tokens if not t.startswith("-")][1:2]
        if tokens[:1] in (["run"], ("run",))
        else None
    )
    for method in CATALOGUE:
        if (wanted is None and not tokens) or wanted == [method.slug]:
            if method.status == "planned":
                if tokens:
                    method.load()
                continue
            from whp.cli._run import command

            run.command(command(method), name=method.slug)
        elif method.status == "built":
            run.command(_placeholder, name=method.slug, help=method.problem)
    if wanted and wanted[0] not in {m.slug for m in CATALOGUE}:
        find(wanted[0])
    return app


def _placeholder() -> None:
    """Stands for a method in the help of ``whp run``; the method itself is only imported when it is named."""


def _list(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List all methods, those not built yet as planned.

    Parameters
    ----------
    json_
        Print a list of rows with slug, field, status, title and problem instead.
    """
    if json_:
        rows = [
            {k: getattr(m, k) for k in ("slug", "field", "status", "title", "problem", "guarantee")}
            for m in CATALOGUE
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("field", no_wrap=True)
    table.add_column("what it does")
    for method in sorted(CATALOGUE, key=lambda m: m.status):
        if method.status == "built":
            table.add_row(f"[bold green]{method.slug}[/]", method.field, method.problem)
        else:
            table.add_row(
                f"[dim]{method.slug}", f"[dim]{method.field}", f"[dim]planned · {method.problem}"
            )
    console = make_console()
    console.print(table)
    built = sum(m.status == "built" for m in CATALOGUE)
    console.print(
        f"\n{built} built, {len(CATALOGUE) - built} planned. Next: [bold]whp run METHOD FILE[/], [bold]whp info METHOD[/]"
    )


def _info(method: str, /) -> None:
    """Show a method: problem, guarantee, cost, claims with their verdicts, citation.

    Parameters
    ----------
    method
        Its slug, as `whp list` shows it.
    """
    from whp.experiment.findings import published

    row = find(method)
    console = make_console()
    console.print(
        f"[bold]{row.slug}[/]  ({row.field}, {row.status})\n{row.problem}\n", highlight=False
    )
    if row.guarantee:
        console.print(
            f"[bold]Guarantee[/]  {row.guarantee}\n[bold]Cost[/]  {row.cost}", highlight=False
        )
    for theorem in row.load_theorems():
        console.print(
            f"\n[bold]{theorem.name}[/]  {escape(theorem.claim)}\n  [dim]measured:[/] "
            f"{escape(theorem.quantity)}, {theorem.relation.words} the bound\n  [dim]about:[/] "
            f"{theorem.scope}\n  [dim]source:[/] {escape(str(theorem.source))}",
            highlight=False,
        )
        for condition in theorem.conditions:
            console.print(f"  [dim]rests on:[/] {escape(condition.statement)}", highlight=False)
    if entry := published([row.slug]).get(row.slug):
        table = Table(
            title=f"claims, {entry.scale} scale",
            title_justify="left",
            box=None,
            padding=(0, 2, 0, 0),
        )
        for column in ("", "claim", "must be", "ours", "verdict"):
            table.add_column(column)
        for f in entry.findings:
            verdict = f"[{f.outcome.colour}]{f.outcome}[/]"
            table.add_row(f.id, escape(f.statement), f.demand, escape(f.measured), verdict)
        console.print(table)
    console.print(f"[bold]Cite[/]  {row.citation}", highlight=False)
    if row.status == "built":
        module, function = row.front_door.split(":")
        console.print(
            f"[bold]Run[/]  whp run {row.slug} --help\n[bold]Import[/]  from {module} import "
            f"{function}\n[bold]Page[/]  docs/methods/{row.slug}.md",
            highlight=False,
        )


def _tour(*methods: str, out: Path = Path("whp-out/tour"), picture: Path | None = None) -> int:
    """Run every built method once on real data and write one HTML page.

    Parameters
    ----------
    methods
        Only these; all that are built if none is named.
    out
        Directory for the page.
    picture
        An SVG file to save the finished table to.
    """
    from whp.cli._tour import tour

    return tour(
        [find(m) for m in methods] or [m for m in CATALOGUE if m.status == "built"], out, picture
    )


def _study(
    *methods: str,
    scale: Scale = "quick",
    backend: Backend = "loky",
    address: str | None = None,
    jobs: int = -1,
    out: Path = Path("whp-out/study"),
    publish: bool = False,
    relist: bool = False,
) -> int:
    """Run again what papers claim; resumes where an earlier run was stopped.

    Parameters
    ----------
    methods
        Slugs; all that are built if none is named.
    scale
        quick (half a minute), standard (ten minutes a study: what the ledger reports) or full (the paper's own sizes).
    backend
        loky runs on this machine, dask and ray on a cluster.
    address
        Of the Dask scheduler or the Ray head; without it one is started on this machine.
    jobs
        Processes on this machine; -1 is one a core.
    out
        Directory for records (parquet) and findings (JSON).
    publish
        Write the findings into the package, LEDGER.md and the pages of docs/ledger; for a checkout of the source.
    relist
        Run nothing: write LEDGER.md and docs/ledger anew from what is published.
    """
    if relist:
        from whp.cli._study import relist as write_again

        return write_again()
    from whp.cli._study import study

    chosen = [find(m) for m in methods] or [m for m in CATALOGUE if m.status == "built"]
    return study(chosen, scale, backend, address, jobs, out, publish)


def _soundness(
    *methods: str,
    seeds: int = 1000,
    backend: Backend = "loky",
    address: str | None = None,
    jobs: int = -1,
    out: Path = Path("whp-out/soundness"),
    publish: bool = False,
) -> int:
    """Attack the certificates: run them in worlds whose truth is known; resumes where it was stopped.

    Parameters
    ----------
    methods
        Slugs; all that have worlds if none is named.
    seeds
        Runs of each world at each strength.
    backend
        loky runs on this machine, dask and ray on a cluster.
    address
        Of the Dask scheduler or the Ray head; without it one is started on this machine.
    jobs
        Processes on this machine; -1 is one a core.
    out
        Directory for counts (JSON) and tables (Markdown).
    publish
        Write the counts into the package and SOUNDNESS.md anew; for a checkout of the source.
    """
    from whp.cli._soundness import run_soundness

    if seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {seeds}")
    chosen = [find(m) for m in methods] or [m for m in CATALOGUE if m.status == "built"]
    return run_soundness(chosen, seeds, backend, address, jobs, out, publish)


def _bench(*methods: str, source: Path = Path("benchmarks"), out: Path | None = None) -> int:
    """Measure methods against named peers, interleaved, as ratios.

    Parameters
    ----------
    methods
        Slugs; all that have a benchmark if none is named.
    source
        Directory of the benchmark modules, in a checkout of the source.
    out
        A file such as BENCHMARKS.md to write the tables to as well.
    """
    from whp.cli._bench import bench

    return bench([find(m).slug for m in methods], source, out)


def _completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a completion script for a shell, e.g. `whp completion bash > ~/.local/share/bash-completion/completions/whp`.

    Parameters
    ----------
    shell
        Which shell.
    """
    print(application().generate_completion(shell=shell))
