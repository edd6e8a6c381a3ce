"""``whp guard``: run a script whose memory survives it, look at what is kept, measure what keeping costs, clean up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

__all__ = ["guard"]

RESERVED = (4, 5, 6, 7)  # see Launched.exit_code

guard = cyclopts.App(
    name="guard",
    help="Keep a training script's state in other processes' memory, and start it again from there.",
    version_flags=[],
)


@guard.command(name="run")
def run_(
    script: str,
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True)],
    nproc: int = 1,
    parity: int | None = None,
    run: str | None = None,
    smp_dir: Path = Path("/dev/shm"),
    max_restarts: int = 100,
    threads: int = 1,
) -> int:
    """Run SCRIPT on several ranks and start them again when one dies.

    Exit code 4: more was lost than the code survives; 5: what is held is another model's; 6: another process has the run; 7: the
    script failed twice at the same place.

    Parameters
    ----------
    script
        A Python file that uses whp.distributed.SnapshotGuard.
    arguments
        For the script, after --.
    nproc
        Ranks, each with a keeper of memory.
    parity
        Keepers that may be lost at once; by default 1, or 0 for one rank.
    run
        Name of the run, to take it up again.
    smp_dir
        A memory file system.
    max_restarts
        Give up after so many.
    threads
        Torch's threads in each rank.
    """
    from whp.distributed._in_memory_fault_tolerance.launch import launch

    console = Console(stderr=True)
    done = launch(
        script,
        arguments,
        nproc=nproc,
        parity=parity,
        run=run,
        smp_dir=smp_dir,
        max_restarts=max_restarts,
        threads=threads,
        say=lambda line: console.print(
            f"[bold]whp guard:[/] {line}", soft_wrap=True, highlight=False
        ),
    )
    return done.exit_code if done.exit_code in (0, *RESERVED) else 1


@guard.command(name="status")
def status_(
    run: str | None = None,
    *,
    smp_dir: Path = Path("/dev/shm"),
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """What the keepers of a run hold, or those of all runs.

    Parameters
    ----------
    run
        Name of the run.
    smp_dir
        Where they keep it.
    json_
        Print one JSON array.
    """
    from whp.distributed._in_memory_fault_tolerance.launch import status

    rows = status(run, smp_dir)
    if json_:
        print(json.dumps(rows))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("run", "member", "pid", "alive", "trainer", "version", "state", "step", "MB"):
        table.add_column(column)
    for row in rows:
        size = f"{row['length'] / 1e6:.1f}" if "length" in row else ""
        shown = [
            row.get(c, "")
            for c in ("run", "member", "pid", "alive", "trainer", "version", "state", "step")
        ]
        table.add_row(*map(str, shown), size)
    Console().print(table if rows else "no keepers")
    return 0


@guard.command(name="survival")
def survival_(
    file: Path,
    *,
    nodes: int,
    parity: int = 1,
    window: float = 300.0,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    groups: int = 1,
    rho: float = 0.0,
    demand: float | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """How surely groups of nodes live through their failures, from a table of failures.

    Parameters
    ----------
    file
        Table with the columns time and node, and perhaps rack and group; one failure a row.
    nodes
        Nodes of a group.
    parity
        Losses at once that a group survives.
    window
        Length of a window in seconds: twice the time from a loss until it is rebuilt, since losses less than that time
        apart may lie on both sides of a border between two windows.
    from_
        When watching began, a date or a number of seconds.
    to
        When watching ended.
    groups
        Number of groups.
    rho
        Correlation of losses within a group to reckon with.
    demand
        Probability of living through a window that is wanted; by default the formula is held against what happened.
    json_
        Print the certificate as JSON.
    """
    from whp.distributed._in_memory_fault_tolerance.log_file import read_log
    from whp.distributed._in_memory_fault_tolerance.theorems import survival

    log = read_log(file, nodes=nodes, window=window, start=from_, stop=to, groups=groups)
    certificate = survival(
        log, n=nodes, m=parity, window=window, groups=groups, rho=rho, demand=demand
    )
    if json_:
        print(certificate.to_json())
        return 0
    console = Console()
    console.print(
        f"{log.windows:,} windows of {window:g} s, {log.losses:,} losses of members, {log.pairs} pairs in one window and group; "
        f"correlation {log.correlation:.3g}",
        highlight=False,
    )
    console.print(certificate)
    return 0


@guard.command(name="bench")
def bench_(*, mb: int = 300, steps: int = 12, smp_dir: Path = Path("/dev/shm")) -> int:
    """Measure stall, copy and coding on this machine.

    Parameters
    ----------
    mb
        Size of the state in megabytes.
    steps
        Iterations.
    smp_dir
        A memory file system.
    """
    from whp.distributed._in_memory_fault_tolerance.measure import measure

    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in measure(mb, steps, smp_dir).items():
        table.add_row(name, value)
    Console().print(table)
    return 0


@guard.command(name="clean")
def clean_(*, smp_dir: Path = Path("/dev/shm"), run: str | None = None) -> int:
    """Remove what dead keepers left; with a run's name, end its living keepers too.

    Parameters
    ----------
    smp_dir
        Where.
    run
        Name of a run to end.
    """
    from whp.distributed._in_memory_fault_tolerance.client import clean, end_keepers

    ended = 0 if run is None else end_keepers(run, smp_dir)
    gone = clean(smp_dir)
    Console().print(f"{len(gone)} files of dead keepers removed, {ended} keepers ended")
    return 0
