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
    return 0 if done.exit_code == 0 else 1


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
    from whp.distributed._in_memory_fault_tolerance.client import clean
    from whp.distributed._in_memory_fault_tolerance.launch import end_keepers

    ended = 0 if run is None else end_keepers(run, smp_dir)
    gone = clean(smp_dir)
    Console().print(f"{len(gone)} files of dead keepers removed, {ended} keepers ended")
    return 0
