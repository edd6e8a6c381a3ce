"""Run a training script on several ranks, each with a keeper of memory, and start it again when one of them dies."""

from __future__ import annotations

import contextlib
import os
import runpy
import secrets
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from whp.distributed.in_memory_fault_tolerance import client
from whp.distributed.processes import Crew, Died, quiet_store, undisturbed
from whp.validate import as_int

__all__ = ["Launched", "end_keepers", "launch", "status"]


@dataclass(frozen=True)
class Launched:
    """How a launch ended.

    Attributes
    ----------
    run : str
    restarts : int
        Times that the ranks were started again.
    exit_code : int
        0, or that of the rank that could not be helped.
    seconds : float
    """

    run: str
    restarts: int
    exit_code: int
    seconds: float


def _run_script(
    pipe: Connection, script: str, arguments: list[str], environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    code = 0
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.send(code)
    with contextlib.suppress(EOFError):
        pipe.recv()  # stay until all have ended: others may still be reading from us


def launch(
    script: str | Path,
    arguments: Sequence[str] = (),
    *,
    nproc: int = 1,
    parity: int | None = None,
    run: str | None = None,
    smp_dir: str | Path = "/dev/shm",
    max_restarts: int = 100,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> Launched:
    """Run a script on `nproc` ranks until it ends, starting all ranks again whenever one dies.

    The script finds ``RANK``, ``WORLD_SIZE`` and what ``torch.distributed.init_process_group`` needs in its environment, and its
    :class:`SnapshotGuard` finds the run's name and parity there.

    Parameters
    ----------
    script : str or Path
    arguments : sequence of str
        For the script.
    nproc : int
        Ranks, each with a keeper of its own.
    parity : int, optional
        Keepers that may be lost at once; by default 1, or 0 for one rank.
    run : str, optional
        Name of the run; an interrupted one is taken up again under its name.
    smp_dir : str or Path
        A memory file system.
    max_restarts : int
        Give up after so many.
    threads : int
        Torch's threads in each rank.
    say : callable
        Told in a line what happens.

    Raises
    ------
    ValueError
        If there is no such script, or a number is out of range.
    """
    path, directory = Path(script), Path(smp_dir)
    if not path.is_file():
        raise ValueError(f"script must be a file, got {script}")
    nproc, max_restarts = (
        as_int(nproc, "nproc", low=1, high=255),
        as_int(max_restarts, "max_restarts", low=0),
    )
    parity = min(1, nproc - 1) if parity is None else as_int(parity, "parity", low=0)
    if parity >= nproc:
        raise ValueError(f"parity must be less than nproc, got {parity} and {nproc}")
    name = run or f"r{secrets.token_hex(3)}"
    started = time.monotonic()
    token = next(
        (k.token for k in client.keepers(directory) if k.run == name), secrets.token_hex(16)
    )
    for member in range(nproc):
        found = client.find(name, member, directory)
        if found is None or not client.alive(found.pid):
            client.start(name, member, directory, token)
    say(f"run {name}: {nproc} ranks, each with a keeper; up to {parity} may be lost at once")
    attempt, code = 0, 0
    try:
        with Crew(threads) as crew:
            while True:
                store = quiet_store()  # keys of an attempt that failed would mislead the next
                code = _attempt(
                    crew, path, list(arguments), nproc, parity, name, attempt, store.port, say
                )
                if code == 0 or attempt >= max_restarts:
                    break
                attempt += 1
    except BaseException:  # an interruption too: what is held stays, and what holds nothing goes
        with undisturbed():
            if all("version" not in row for row in status(name, directory)):
                end_keepers(name, directory)
        raise
    if code == 0:
        end_keepers(name, directory)
        say(f"run {name}: finished after {attempt} restarts")
    else:
        say(
            f"run {name}: gave up after {attempt} restarts; its memory is kept, take it up with run={name}"
        )
    return Launched(name, attempt, code, time.monotonic() - started)


def _attempt(
    crew: Crew,
    script: Path,
    arguments: list[str],
    nproc: int,
    parity: int,
    run: str,
    attempt: int,
    port: int,
    say: Callable[[str], None],
) -> int:
    workers = []
    for rank in range(nproc):
        environment = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(nproc),
            "LOCAL_WORLD_SIZE": str(nproc),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": str(attempt),
            "WHP_GUARD_RUN": run,
            "WHP_GUARD_PARITY": str(parity),
            "WHP_GUARD_KEEP": "1",
        }
        workers.append(crew.start(_run_script, str(script), arguments, environment, name=str(rank)))
    left, code, why = set(range(nproc)), 0, ""
    while left and not code:
        for worker, message in crew.wait(None):
            code, why = _fate(worker.name, message)
            if code:
                break
            left.discard(int(worker.name))
    if code > 0:  # those that lost a rank often end before its death is seen
        for worker, message in crew.wait(0.3):
            if isinstance(message, Died) and (message.exitcode or 0) < 0:
                code, why = _fate(worker.name, message)
    if code:
        say(f"run {run}: {why}; all ranks start again")
    for worker in workers:
        if not code:
            worker.send("end")
            worker.process.join(5)
        crew.dismiss(worker)
    return code


def _fate(rank: str, message: Any) -> tuple[int, str]:
    if isinstance(message, Died):
        return message.exitcode or 1, f"rank {rank} died with exit code {message.exitcode}"
    return int(message), f"rank {rank} ended with exit code {message}"


def end_keepers(run: str, directory: Path = Path("/dev/shm")) -> int:
    """End all keepers of a run and unlink their memory; returns how many there were."""
    count = 0
    for found in client.keepers(directory):
        if found.run == run and client.alive(found.pid):
            with contextlib.suppress(OSError, EOFError):
                client.SMP(found, role="control").end()
                count += 1
    client.clean(directory, run=run)
    return count


def status(run: str | None = None, directory: Path = Path("/dev/shm")) -> list[dict[str, Any]]:
    """What the keepers of a run (or of all runs) hold: one row a version."""
    rows: list[dict[str, Any]] = []
    for found in client.keepers(directory):
        if run is not None and found.run != run:
            continue
        row: dict[str, Any] = {
            "run": found.run,
            "member": found.member,
            "pid": found.pid,
            "alive": client.alive(found.pid),
        }
        if not row["alive"]:
            rows.append(row)
            continue
        try:
            smp = client.SMP(found, role="control")
            told = smp.query()
            smp.close()
        except (OSError, EOFError):
            rows.append({**row, "alive": False})
            continue
        held = told["held"] or [{}]
        shown = ("version", "state", "step", "length")
        rows += [
            {**row, "trainer": told["trainer"], **{k: h[k] for k in shown if k in h}} for h in held
        ]
    return rows
