"""The guard of a training loop: a consistent copy of its state in other processes' memory every few iterations, and back again."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import math
import os
import secrets
import socket
import sys
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from whp.certificate import Certificate
from whp.distributed._in_memory_fault_tolerance import recovery
from whp.distributed._in_memory_fault_tolerance.client import SMP, keepers
from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.collectives import Group
from whp.distributed._in_memory_fault_tolerance.copying import Copy
from whp.distributed._in_memory_fault_tolerance.generators import random_states
from whp.distributed._in_memory_fault_tolerance.memory import checksums, room_for
from whp.distributed._in_memory_fault_tolerance.objects import (
    changing,
    checked,
    collect,
    schedules,
    shape_of,
)
from whp.distributed._in_memory_fault_tolerance.session import Session
from whp.distributed._in_memory_fault_tolerance.shards import Flat, flatten, to_plain
from whp.distributed._in_memory_fault_tolerance.stats import Report, Stats
from whp.distributed._in_memory_fault_tolerance.survival import every_steps
from whp.distributed._in_memory_fault_tolerance.theorems import (
    Failure,
    Pace,
    Watch,
    exact_recovery,
    rollback,
    stall_budget,
)
from whp.validate import as_choice, as_int, as_real

__all__ = ["SnapshotGuard"]

STUCK = 60.0
GONE = (OSError, EOFError)


class SnapshotGuard:
    """Snapshots of a training loop in the memory of separate processes, sharded over the ranks and erasure coded.

    Call :meth:`restore` before the loop, :meth:`pre_step` right before ``optimizer.step()`` and :meth:`post_step` after it; every
    rank of the group does. A killed trainer restarts from the newest common version, and up to `parity` lost members are rebuilt
    bit for bit. Use it as a context manager, or :meth:`close` it.

    Parameters
    ----------
    state : mapping of str to object
        Objects with ``state_dict`` and ``load_state_dict``, tensors, or (getter, setter) pairs of plain data and tensors. The step
        and the random generators of torch, numpy and Python are always added; a sampler's position is not unless it is given.
    group : ProcessGroup, optional
        The ranks that hold this state. None: this process alone.
    parity : int, optional
        Members m that may be lost, 0 ≤ m < n; by default ``$WHP_GUARD_PARITY``, or else 1, or 0 for one rank.
    every : int, optional
        Iterations between snapshots; by default Young's optimum for what snapshots were measured to cost.
    nodes : "auto" or sequence of str
        Host of each rank; by default ``$WHP_GUARD_NODE``, or else the host's name. Two members on one host are lost together.
    smp_dir : str or Path
        A memory file system.
    codec : {"auto", "power", "cauchy", "replica"}
        See :class:`ErasureGroup`.
    verify : bool
        Check every checksum before a version is restored.
    mode : {"overlap", "sync"}
        Copy while the next forward and backward pass run, or at once.
    persist_dir : str or Path, optional
        Where every `persist_every`-th version also goes to disk.
    persist_every : int, optional
    sharded : bool
        Each rank has a state of its own (FSDP, a stage of a pipeline) instead of a copy of the same.
    run : str, optional
        Name under which a restarted process finds its memory; by default ``$WHP_GUARD_RUN``, or one made from the script, its
        arguments, the directory and the shapes in `state`.
    failure_rate : float
        Failures a second of the whole job, for `every`.
    host : str
        Address on which keepers of memory listen to each other.
    linger : float
        Seconds after which a keeper that no trainer comes back to ends.
    verbose : bool
        Say in a line on standard error where each start begins.

    Attributes
    ----------
    report_ : Report
        What :meth:`restore` did.
    stats_ : Stats
        What snapshots cost.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.

    References
    ----------
    Wang et al. Reliable and Efficient In-Memory Fault Tolerance of Large Language Model Pretraining. 2023.

    Examples
    --------
    ::

        with SnapshotGuard({"model": model, "optimizer": optimizer}) as guard:
            for step in range(guard.restore(), steps):
                loss().backward()
                guard.pre_step()
                optimizer.step()
                guard.post_step(step)
    """

    def __init__(
        self,
        state: Mapping[str, Any],
        group: Any = None,
        *,
        parity: int | None = None,
        every: int | None = None,
        nodes: str | Sequence[str] = "auto",
        smp_dir: str | Path = "/dev/shm",
        codec: str = "auto",
        verify: bool = True,
        mode: str = "overlap",
        persist_dir: str | Path | None = None,
        persist_every: int | None = None,
        sharded: bool = False,
        run: str | None = None,
        failure_rate: float = 1 / 3600,
        host: str = "127.0.0.1",
        linger: float = 3600.0,
        verbose: bool = True,
    ) -> None:
        self.state = checked(state)
        self.ranks = Group(group)
        self.rank, self.n = self.ranks.rank, self.ranks.size
        if parity is None:
            parity = int(os.environ.get("WHP_GUARD_PARITY", min(1, self.n - 1)))
        if as_int(parity, "parity", low=0) >= self.n:
            raise ValueError(
                f"parity must be less than the number of ranks, got {parity} and {self.n} rank(s)"
            )
        self.code = ErasureGroup(self.n, parity, codec)
        self.every = None if every is None else as_int(every, "every", low=1)
        self.mode = as_choice(mode, "mode", ("overlap", "sync"))
        self.sharded, self.verbose = bool(sharded), bool(verbose)
        self.directory = Path(smp_dir).absolute()
        if not self.directory.is_dir():
            raise ValueError(f"smp_dir must be a directory in memory, got {smp_dir}")
        if (persist_dir is None) != (persist_every is None):
            raise ValueError("persist_dir and persist_every must be given together")
        self.run = _run_name(run, self.state)
        self.persist = None
        if persist_dir is not None:
            place = Path(persist_dir).absolute() / self.run
            self.persist = {
                "directory": str(place),
                "every": as_int(persist_every, "persist_every", low=1),
            }
        self.failure_rate = as_real(failure_rate, "failure_rate", low=0, high=1e6, open_ends=True)
        if isinstance(nodes, str):
            if nodes != "auto":
                raise ValueError(
                    f"nodes must be 'auto' or name the host of each of {self.n} ranks, got {nodes!r}"
                )
            mine = os.environ.get("WHP_GUARD_NODE") or socket.gethostname()
            self.nodes = tuple(said["node"] for said in self.ranks.tell({"node": mine}))
        elif len(nodes) != self.n:
            raise ValueError(
                f"nodes must name the host of each of {self.n} ranks, got {len(nodes)}"
            )
        else:
            self.nodes = tuple(nodes)
        self.report_: Report | None = None
        self.session = Session(
            self.run,
            self.ranks,
            self.code,
            self.directory,
            host,
            as_real(linger, "linger", low=0.1, high=1e9),
            bool(verify),
            self.sharded,
            self.persist,
            _about(),
            Stats(n=self.n, m=parity),
        )
        self.due, self.period = 0, self.every or 1
        self._copier: threading.Thread | None = None
        self._copying: Copy | None = None
        self._fenced = True
        self._broken = self._disk_fault = ""
        self._began = self._last = 0.0
        self._size, self._sent = 0, 0.0
        self._steps: list[float] = []
        self._done_here = 0
        self._watched_from = self._watched_before = 0.0
        self.live: recovery.Live = None
        self._writing = False  # between pre_step() and post_step() the optimizer writes
        self._failures: list[Failure] = []
        self._schedule: tuple[int, ...] = ()
        self._stepped_first: bool | None = None
        self._closed = False
        self._process = os.getpid()
        atexit.register(self._at_exit)

    @property
    def stats_(self) -> Stats:
        """What snapshots cost."""
        return self.session.stats

    @stats_.setter
    def stats_(self, stats: Stats) -> None:
        self.session.stats = stats

    @property
    def smp(self) -> SMP | None:
        """The connection to this rank's keeper."""
        return self.session.smp

    @property
    def keepers(self) -> list[int]:
        """Process numbers of all members' keepers."""
        return self.session.keepers

    # The loop

    def restore(self, source: str = "auto", *, live: bool = False) -> int:
        """Fill the state from the newest recoverable version.

        Parameters
        ----------
        source : {"auto", "smp", "persist", "fresh"}
            Memory, then disk; one of them alone; or begin anew and forget what is held.
        live : bool
            This process did not die and still holds the state as its last :meth:`post_step` left it. If all such ranks are at one
            step, the others take their copy, which is newer than any snapshot and costs one broadcast. A rank that was stopped
            after :meth:`pre_step` and before :meth:`post_step` may have stepped its optimizer, and counts as dead.

        Returns
        -------
        int
            Step to start from: 0 on a fresh run.

        Raises
        ------
        UnrecoverableError
            If more is lost than the code survives and there is nothing on disk.
        StateMismatchError
            If what is held is another model's; the message has the first three names.
        """
        as_choice(source, "source", ("auto", "smp", "persist", "fresh"))
        self._fence()
        whole = live and not self._writing
        whole = whole and not changing(self.state, flatten(collect(self.state)))
        self.report_ = None  # what an earlier restore did says nothing of one that is refused
        self.report_, self.live = recovery.restore(
            self.session, self.state, source, self.live if whole else None
        )
        self._writing = False
        self._failures += _failure(self.report_)
        self._schedule, self._stepped_first = schedules(self.state), None
        step = self.report_.step
        self.due = step + self.period if step >= 0 else 0
        self._last, self._fenced, self._done_here = 0.0, True, 0
        if step < 0:
            self._room()
            self.report_ = replace(self.report_, said=self.report_.said + self._elsewhere())
        if self.verbose and self.rank == 0:
            print(f"whp guard: {self.report_.said}", file=sys.stderr, flush=True)
        return step + 1

    def _room(self) -> None:
        """Refuse to begin where not even what there is now would fit; an optimizer makes its moments later."""
        length = self.shard_length(flatten(collect(self.state)).size)
        buffer = length + self.code.m * self.code.block_length(length)
        here = sum(node == self.nodes[self.rank] for node in self.nodes)
        if self.session.keeper.query()["allocated"] < 2 * buffer:
            room_for(self.directory, 2 * here, buffer)

    def _elsewhere(self) -> str:
        """A hint at what is held under other names of the same script."""
        script = self.session.about.get("script")
        others = {
            k.run: " ".join(k.about.get("arguments", ()))
            for k in keepers(self.directory)
            if k.run != self.run and script and k.about.get("script") == script
        }
        shown = [f"{run} (arguments {words!r})" for run, words in list(others.items())[:3]]
        return f"; of this script there is also run {', '.join(shown)}" if shown else ""

    def pre_step(self) -> None:
        """The fence: wait until the running copy no longer reads what ``optimizer.step()`` will write."""
        start = time.perf_counter()
        copying = self._copying
        waited = copying is not None and not copying.over.is_set()
        self._fenced = True
        self._look_at_schedules()
        if copying is not None:
            copying.over.wait()
            self._copying = None
            self.stats_.fence_waits += waited
            self.stats_.add_stall(time.perf_counter() - start)
        self._writing = True

    def _look_at_schedules(self) -> None:
        """Warn once of a scheduler that is stepped after post_step(): its step is not in the copy.

        One that is stepped at the head of every iteration is stepped before the first fence, too, and loses nothing.
        """
        now = schedules(self.state)
        if self._stepped_first is None:
            self._stepped_first = now != self._schedule
        elif now != self._schedule and not self._stepped_first:
            self._stepped_first = True
            warnings.warn(
                "a scheduler was stepped after post_step(): in the copy it is one step behind, and stays so after a restore. "
                "Call post_step() last",
                stacklevel=3,
            )

    def post_step(self, step: int) -> None:
        """Record the end of a step, and start the next snapshot if it is due.

        Parameters
        ----------
        step : int
            Number of the step that ``optimizer.step()`` has just finished. It grows from call to call, and is larger than the
            one that was restored.

        Raises
        ------
        ValueError
            If it does not grow: a number within the epoch, or a loop that begins at 0 whatever :meth:`restore` said. Snapshots
            would not be taken, and the copies that are held stay.
        """
        if self.smp is None:
            raise RuntimeError(
                "restore() must be called before the first step: it finds or starts the keeper of memory"
            )
        before = self.report_.step if self.report_ is not None else -1
        before = before if self.live is None else max(before, self.live[0])
        if step <= before:
            raise ValueError(
                f"step must grow, got {step} after {before}: number the steps of all epochs, from what restore() returns"
            )
        now = time.perf_counter()
        if not self._watched_from and self.stats_.begun:  # from the end of the first snapshot on
            self._watched_from, self._watched_before = now, self.stats_.watched_ms
        missed, self._fenced = not self._fenced, True
        with contextlib.suppress(*GONE):  # a keeper that has just died is replaced below
            seconds, stride = (now - self._last, int(step) - before) if self._last else (0.0, 1)
            self._record(int(step), seconds, stride, missed)
        self._last = now
        self.live, self._writing = (int(step), random_states()), False
        self._schedule = schedules(self.state)
        if step >= self.due:
            self._snapshot(int(step))
        if self._done_here < 3:  # allocation is not part of a step
            self._last += time.perf_counter() - now
        if self._watched_from:
            here = 1e3 * (time.perf_counter() - self._watched_from)
            self.stats_.watched_ms = self._watched_before + here

    def _record(self, step: int, seconds: float, stride: int, missed: bool) -> None:
        """Write down what has to outlive this process, in memory that the keeper holds."""
        marks, stats = self.session.keeper.marks(), self.stats_
        marks["step"] = step
        self._done_here += 1
        if missed:
            stats.unfenced += 1
            marks["unfenced"] += 1
        if seconds and self._done_here > 3:  # the first steps load code and allocate
            self._steps = [*self._steps[-30:], seconds]
            shortest = marks["shortest_step"]
            marks["shortest_step"] = min(shortest or 1 << 62, int(1e9 * seconds))
        for name, value in (("longest_stride", stride), ("longest_period", self.period)):
            value = max(getattr(stats, name), value, marks[name])
            marks[name] = value
            setattr(stats, name, value)
        for name in ("abandoned", "keepers_lost"):
            marks[name] = max(marks[name], getattr(stats, name))
        stats.shortest_step_ms = marks["shortest_step"] / 1e6
        stats.longest_lag_ms = marks["longest_lag"] / 1e6

    @property
    def step_seconds(self) -> float:
        """Median seconds of a step."""
        return float(np.median(self._steps)) if self._steps else 0.0

    def close(self, keep: bool = False) -> None:
        """End the guard.

        Parameters
        ----------
        keep : bool
            Leave the copies in memory for a later process, instead of unlinking them.
        """
        # A fork has a copy of this object, and the memory is its parent's.
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        atexit.unregister(self._at_exit)
        self._fence()
        if self.smp is None:
            return
        if keep:
            self.smp.close()
        else:
            self.smp.end()

    def abandon(self) -> None:
        """Let go of the keeper without a word to it, as a killed process would; another guard can then take over."""
        self._closed = True
        atexit.unregister(self._at_exit)
        self._fence()
        self.ranks.control = None
        if self.smp is not None:
            self.smp.close()

    def __enter__(self) -> SnapshotGuard:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.close(keep=kind is not None)

    def _at_exit(self) -> None:
        """Leave nothing behind after a normal end, and everything after a failure."""
        self.close(keep=hasattr(sys, "last_value") or bool(os.environ.get("WHP_GUARD_KEEP")))

    def certificates(
        self, *, budget: float = 0.05, steps: int | None = None
    ) -> tuple[Certificate, ...]:
        """What is promised of this process's restores and of its snapshots so far.

        Parameters
        ----------
        budget : float
            Share of the time that snapshots may block.
        steps : int, optional
            Of the whole run, to tell whether a bound on lost steps says anything; by default those done so far.
        """
        stats = self.stats_
        failures = self._failures if self.report_ is not None else []
        done = 1 + (self.live[0] if self.live is not None else -1)
        watch = Watch(self.mode, stats.torn, stats.unfenced, type(self) is SnapshotGuard)
        known = tuple(f for f in failures if f.last_step >= 0)
        return (
            exact_recovery(failures, watch, self.code.m),
            rollback(known, Pace.of(stats, self.period), steps or max(done, 1), self.code.m),
            stall_budget(
                stats.stalls_ms, stats.watched_ms, budget, snapshots=max(0, stats.begun - 1)
            ),
        )

    # A snapshot

    def shard_length(self, size: int) -> int:
        """Bytes of a shard of a stream: a share or the whole, in blocks of 64-byte lines."""
        unit = 64 * self.code.k
        return max(1, -(-(size if self.sharded else -(-size // self.n)) // unit)) * unit

    def _fence(self) -> None:
        if self._copier is not None:
            self._copier.join()
            self._copier = None

    def _snapshot(self, step: int) -> None:
        start = time.perf_counter()
        self._fence()
        flat = flatten(collect(self.state))
        if not self._agree(step, flat):
            self.due = step + 1
            self.stats_.add_stall(time.perf_counter() - start)  # it held the loop up all the same
            return
        session = self.session
        try:
            self._begin(step, flat)
        except GONE as error:
            self._broken = str(error)  # the keeper died; the next round starts another
            session.flying = session.flying or session.next_version
            session.next_version += 1
        self.due = step + self.period
        self.stats_.begin_stall(time.perf_counter() - start)

    def _status(self) -> dict[str, Any]:
        session = self.session
        try:
            return session.keeper.query()
        except GONE:
            session.keeper.close()
            session.smp = recovery.connected(session)
            return session.keeper.query()

    def _agree(self, step: int, flat: Flat) -> bool:
        """One round among the ranks: whether a new snapshot may begin, after healing what broke since the last."""
        told, session = self._status(), self.session
        if (fault := told.get("disk_fault", "")) and fault != self._disk_fault:
            warnings.warn(
                f"a snapshot could not be written to {fault}. What is on disk is older than persist_every= says",
                stacklevel=4,
            )
            self._disk_fault = fault
        state = {h["version"]: h["state"] for h in told["held"]}
        age = time.perf_counter() - self._began if session.flying else 0.0
        costs = {
            "stall": self.stats_.typical_stall,
            "lag": self.stats_.typical_lag,
            "step": self.step_seconds,
        }
        mine = {
            "pid": told["pid"],
            "flying": state.get(session.flying, "none"),
            "age": age,
            "size": flat.size,
            "print": "" if self.sharded else flat.fingerprint,
            **costs,
        }
        if session.flying and told["timings"].get("committed", 0) >= (self._sent or math.inf):
            self.stats_.lags_ms.append(1e3 * (told["timings"]["committed"] - self._sent))
            self._sent = 0.0
        everyone = self.ranks.tell(mine)
        if len({said["print"] for said in everyone}) > 1:
            raise ValueError(
                "state must be the same on all ranks, got different tensors; give sharded=True if each has its own"
            )
        self._size = max(said["size"] for said in everyone)
        if self.every is None and all(said["step"] for said in everyone):
            stall, lag, tau = (max(said[k] for said in everyone) for k in ("stall", "lag", "step"))
            self.period = every_steps(max(stall, 1e-6), lag, tau, self.failure_rate)
        self.stats_.longest_period = max(self.stats_.longest_period, self.period)
        if [said["pid"] for said in everyone] != session.keepers:
            self.stats_.keepers_lost += 1
            found = recovery.settle(session)
            if (
                found.why
            ):  # too many died at once; what is trained lives, and the next version begins anew
                recovery.begin_anew(session, found.floor)
            return True
        if not session.flying:
            return True
        states = {said["flying"] for said in everyone}
        if states <= {"encoded", "committed"}:
            with contextlib.suppress(*GONE):  # a keeper that dies now is noticed in the next round
                session.keeper.commit(session.flying)
            session.committed, session.flying = session.flying, 0
            self.stats_.versions += 1
            return True
        if "none" in states or max(said["age"] for said in everyone) > STUCK:
            self.stats_.abandoned += 1
            with contextlib.suppress(*GONE):
                session.keeper.drop(session.committed, session.flying)
            session.flying = 0
            self.ranks.tell({})  # nobody writes before all have dropped
            return True
        self.stats_.postponed += 1
        return False

    def _begin(self, step: int, flat: Flat) -> None:
        session, smp = self.session, self.session.keeper
        length = self.shard_length(self._size)
        if length != self.stats_.shard_bytes:
            start = time.perf_counter()
            smp.alloc(self.n, self.code.m, self.code.codec, length, self.persist)
            self.stats_.shard_bytes, self.stats_.state_bytes = length, flat.size
            self.stats_.setup_ms += 1e3 * (time.perf_counter() - start)
        version, session.next_version = session.next_version, session.next_version + 1
        session.flying, self._began, self._broken = version, time.perf_counter(), ""
        self._sent = time.time()
        self.stats_.begun += 1
        into = smp.begin(version, length)
        at = 0 if self.sharded else self.rank * length
        copying = Copy(flat, at, into, changing(self.state, flat))
        header = {
            "version": version,
            "step": step,
            "member": self.rank,
            "n": self.n,
            "m": self.code.m,
            "codec": self.code.codec,
            "length": length,
            "size": flat.size,
            "sharded": self.sharded,
            "manifest": flat.manifest,
            "plain": flat.plain,
            "print": flat.fingerprint,
            "about": session.about,
        }
        states = self.live[1] if self.live is not None else random_states()
        if self.mode == "sync":
            copying.take()
        else:
            self._copying, self._fenced = copying, False
        self._copier = threading.Thread(
            target=self._finish, args=(copying, into, header, states), daemon=True
        )
        self._copier.start()

    def _finish(
        self, copying: Copy, into: np.ndarray, header: dict[str, Any], rng: dict[str, Any]
    ) -> None:
        """Copy if that is to be done beside training, and hand the version to the keeper."""
        session, smp, stats = self.session, self.session.keeper, self.stats_
        try:
            if self.mode == "overlap":
                copying.take()
            stats.copies_ms.append(copying.copy_ms)
            stats.checks_ms.append(copying.check_ms)
            if copying.torn:
                stats.torn += 1
                smp.marks()["torn"] += 1
                smp.drop(session.committed, header["version"])
                warnings.warn(
                    f"the snapshot of step {header['step']} is thrown away: {copying.torn}. Call pre_step() before "
                    "optimizer.step(), and write nothing of the state between post_step() and the next pre_step()",
                    stacklevel=1,
                )
                return
            _yield_to_trainer()
            header["rng"] = to_plain(rng, "rng")
            header["crc"] = checksums(into, 1 if self.code.codec == "replica" else self.code.k)
            smp.copied(header["version"], header)
        except GONE as error:
            self._broken = str(error)
        finally:
            copying.over.set()


def _failure(r: Report) -> list[Failure]:
    """What a start recovered from, if it was not the first of its run."""
    if r.source == "fresh" and not r.begun:
        return []
    return [
        Failure(
            (),
            r.rebuilt_nodes,
            r.last_step,
            r.step,
            r.source != "fresh",
            r.digest_ok,
            r.version,
            source=r.source,
            seconds=r.seconds,
        )
    ]


def _yield_to_trainer() -> None:
    """Let this thread, which has no more to read of the trainer's tensors, run where a core is idle."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _about() -> dict[str, Any]:
    """Script and arguments of this process."""
    script = os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else ""
    return {"script": script, "arguments": list(sys.argv[1:])}


def _run_name(run: str | None, state: Mapping[str, Any]) -> str:
    name = run or os.environ.get("WHP_GUARD_RUN")
    if name is None:
        about = _about()
        script = about["script"] or secrets.token_hex(8)
        words = [script, os.getcwd(), *about["arguments"], shape_of(state)]
        name = "script" + hashlib.sha256("\0".join(words).encode()).hexdigest()[:10]
    if not name.replace("_", "").isalnum():
        raise ValueError(f"run must be made of letters, digits and underscores, got {name!r}")
    return name
