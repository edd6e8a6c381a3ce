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
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.client import end_keepers
from whp.distributed._in_memory_fault_tolerance.errors import (
    RunInUseError,
    StateMismatchError,
    UnrecoverableError,
)
from whp.distributed._in_memory_fault_tolerance.memory import Mark
from whp.distributed.processes import Crew, Died, Worker, interrupted_once, quiet_store, undisturbed
from whp.validate import as_int

__all__ = ["Launched", "launch", "status"]

UNRECOVERABLE, MISMATCH, IN_USE, REPEATED = 4, 5, 6, 7
FATAL = {UnrecoverableError: UNRECOVERABLE, StateMismatchError: MISMATCH, RunInUseError: IN_USE}
# What a rank says that lost another one: not the cause of a failure.
ECHOES = ("connection", "gloo", "nccl", "tcpstore", "peer", "timed out")
NEAR = 10  # steps: a failure that comes again so soon is no accident
KILLED = (-9, -15)  # by somebody from outside, as a rule


@dataclass(frozen=True)
class Launched:
    """How a launch ended.

    Attributes
    ----------
    run : str
        Its name.
    restarts : int
        Times that the ranks were started again.
    exit_code : int
        0; 4 if more was lost than the code survives; 5 if what is held is another model's; 6 if another process has the run; 7 if
        it failed twice at the same place; else that of the rank that could not be helped.
    seconds : float
        From beginning to end.
    why : str
        What the last failure was.
    """

    run: str
    restarts: int
    exit_code: int
    seconds: float
    why: str = ""


@dataclass(frozen=True)
class _Failed:
    """What became of an attempt: exit code, a sentence, and the places at which ranks failed by themselves."""

    code: int = 0
    why: str = ""
    places: frozenset[str] = frozenset()
    struck: frozenset[str] = frozenset()
    step: int = -1


def _place(error: BaseException) -> str:
    """Where an error came from; empty if it only tells of another rank's end."""
    told = str(error).lower()
    lost = isinstance(error, ConnectionError | EOFError) or type(error).__name__.startswith("Dist")
    if lost or (type(error) is RuntimeError and any(word in told for word in ECHOES)):
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    at = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {at}"


def _run_script(
    pipe: Connection, script: str, arguments: list[str], environment: dict[str, str]
) -> None:
    os.environ.update(environment)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(Path(script).resolve().parent))
    code, place = 0, ""
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        place = f"exit code {code}"
    except BaseException as error:
        traceback.print_exc()
        code = next((n for kind, n in FATAL.items() if isinstance(error, kind)), 1)
        place = _place(error)
    sys.stdout.flush()
    sys.stderr.flush()
    pipe.send((code, place))
    with contextlib.suppress(EOFError):
        pipe.recv()  # stay until all have ended: others may still be reading from us


@dataclass
class _Keepers:
    """The keepers of a launch, and what they had committed before they died."""

    run: str
    nproc: int
    directory: Path
    about: dict[str, Any]
    marks: dict[int, Mark] = field(default_factory=dict)

    def ready(self) -> None:
        """Start those that do not run; one whose predecessor had versions knows that they are lost."""
        living = [client.present(self.run, i, self.directory) for i in range(self.nproc)]
        tokens = [k.token for k in living if k is not None and client.alive(k.pid)]
        tokens += [k.token for k in living if k is not None]
        token = tokens[0] if tokens else secrets.token_hex(16)
        for member in range(self.nproc):
            # The page stays readable here after its file went with the node.
            had = member in self.marks and self.marks[member]["committed"] > 0
            found = client.start(
                self.run,
                member,
                self.directory,
                token,
                replaces=True if had else None,
                about=self.about,
            )
            smp = client.SMP(found, role="control")
            path = Path(smp.query()["mark"]["path"])
            smp.close()
            old = self.marks.get(member)
            if old is None or old.path != path:
                self.marks[member] = Mark(path)

    def step(self) -> int:
        """Newest step that a rank has finished."""
        return max((mark["step"] for mark in self.marks.values()), default=-1)

    def hold(self) -> bool:
        """Whether a version can be restored."""
        return any("version" in row for row in status(self.run, self.directory))


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
    :class:`SnapshotGuard` finds the run's name and parity there. It is not started again if more is lost than the code survives,
    if what is held is another model's, or if it fails twice in a row at the same line and step.

    Parameters
    ----------
    script : str or Path
        A Python file.
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
    RunInUseError
        If a living process has launched a run of this name.
    """
    path, directory = Path(script), Path(smp_dir).absolute()
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
    with interrupted_once(), client.alone(f"launch-{directory}-{name}", 0.5) as holder:
        if holder:
            raise RunInUseError(
                f"process {holder} has launched run {name}; end it, or give this one another name"
            )
        about = {"script": os.path.abspath(script), "arguments": list(arguments)}
        keepers = _Keepers(name, nproc, directory, about)
        started = time.monotonic()
        try:
            keepers.ready()
            say(
                f"run {name}: {nproc} ranks, each with a keeper; up to {parity} may be lost at once"
            )
            with Crew(threads) as crew:
                attempts = _Attempts(crew, path, list(arguments), nproc, parity, name, keepers, say)
                code, restarts, why = attempts.until_it_ends(max_restarts)
        except (
            BaseException
        ):  # an interruption too: what is held stays, and what holds nothing goes
            with undisturbed():
                if not keepers.hold():
                    end_keepers(name, directory)
            raise
        if code == 0:
            end_keepers(name, directory)
            say(f"run {name}: finished after {restarts} restarts")
        elif code != IN_USE and not keepers.hold():
            end_keepers(name, directory)
            say(f"run {name}: gave up after {restarts} restarts: {why}; nothing was held")
        else:
            say(
                f"run {name}: gave up after {restarts} restarts: {why}; its memory is kept, take it up with run={name}"
            )
        return Launched(name, restarts, code, time.monotonic() - started, why)


@dataclass
class _Attempts:
    """One start of all ranks after the other."""

    crew: Crew
    script: Path
    arguments: list[str]
    nproc: int
    parity: int
    run: str
    keepers: _Keepers
    say: Callable[[str], None]

    def until_it_ends(self, max_restarts: int) -> tuple[int, int, str]:
        """Exit code, restarts, and why it ended if it did not end well."""
        history: list[_Failed] = []
        while True:
            store = quiet_store()  # keys of an attempt that failed would mislead the next
            failed = self._once(len(history), store.port)
            if not failed.code:
                return 0, len(history), ""
            history.append(failed)
            if failed.code in FATAL.values():
                return failed.code, len(history) - 1, failed.why
            if why := _repeated(history):
                return REPEATED, len(history) - 1, why
            if len(history) > max_restarts:
                return failed.code, len(history) - 1, failed.why
            self.say(f"run {self.run}: {failed.why}; all ranks start again")
            self.keepers.ready()

    def _once(self, attempt: int, port: int) -> _Failed:
        workers = []
        for rank in range(self.nproc):
            environment = {
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(self.nproc),
                "LOCAL_WORLD_SIZE": str(self.nproc),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "TORCHELASTIC_USE_AGENT_STORE": "True",
                "TORCHELASTIC_RESTART_COUNT": str(attempt),
                "WHP_GUARD_RUN": self.run,
                "WHP_GUARD_PARITY": str(self.parity),
                "WHP_GUARD_KEEP": "1",
            }
            options = (str(self.script), self.arguments, environment)
            workers.append(self.crew.start(_run_script, *options, name=str(rank)))
        try:
            failed = self._watched()
        finally:
            with undisturbed():
                for worker in workers:
                    self.crew.dismiss(worker)
        return failed

    def _watched(self) -> _Failed:
        left, ends = set(range(self.nproc)), []
        while left and not ends:
            for worker, message in self.crew.wait(None):
                fate = _fate(worker, message)
                if fate[0]:
                    ends.append(fate)
                else:
                    left.discard(int(worker.name))
        if not ends:
            for worker in self.crew.workers:
                worker.send("end")
            for worker in self.crew.workers:
                worker.process.join(5)
            return _Failed()
        deadline = (
            time.monotonic() + 0.5
        )  # those that lost a rank often end before its death is seen
        while time.monotonic() < deadline:
            for worker, message in self.crew.wait(0.1):
                fate = _fate(worker, message)
                if fate[0]:
                    ends.append(fate)
        fatal = [e for e in ends if e[0] in FATAL.values()]
        own = [e for e in ends if e[2]]
        code, why, _ = (fatal or own or ends)[0]
        step = self.keepers.step()
        places = frozenset(p for c, _, p in ends if p and c not in KILLED)
        struck = frozenset(p for c, _, p in ends if p and c in KILLED)
        return _Failed(code, why, places, struck, step)


def _repeated(history: Sequence[_Failed]) -> str:
    """The place at which the last attempts failed by themselves, twice in a row, or were struck, three times; empty if none."""
    for kind, times, words in (
        ("places", 2, "failed twice"),
        ("struck", 3, "was struck three times"),
    ):
        last = history[-times:]
        same = frozenset.intersection(*(getattr(f, kind) for f in last))
        if len(last) == times and same and last[-1].step - last[0].step < NEAR:
            return f"it {words} at the same place: {min(same)} after step {last[-1].step}"
    return ""


def _fate(worker: Worker, message: Any) -> tuple[int, str, str]:
    """Exit code of a rank, what to say of it, and the place at which it failed."""
    rank = worker.name
    if isinstance(message, Died):
        code = message.exitcode or 1
        return code, f"rank {rank} died with exit code {code}", f"exit code {code} of rank {rank}"
    code, place = message
    return (
        int(code),
        f"rank {rank} ended with exit code {code}: {place or 'it lost another rank'}",
        place,
    )


def status(run: str | None = None, directory: Path = Path("/dev/shm")) -> list[dict[str, Any]]:
    """What the keepers of a run (or of all runs) hold: one row a version; those that run though their file is damaged are shown."""
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
            rows.append({**row, "state": "does not answer"})
            continue
        held = told["held"] or [{}]
        shown = ("version", "state", "step", "length")
        rows += [
            {**row, "trainer": told["trainer"], **{k: h[k] for k in shown if k in h}} for h in held
        ]
    return rows
