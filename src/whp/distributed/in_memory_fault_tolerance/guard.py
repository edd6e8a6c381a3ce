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
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.distributed.in_memory_fault_tolerance import client, recovery
from whp.distributed.in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed.in_memory_fault_tolerance.exchange import Group
from whp.distributed.in_memory_fault_tolerance.generators import random_states
from whp.distributed.in_memory_fault_tolerance.memory import checksums
from whp.distributed.in_memory_fault_tolerance.recovery import Report, Stats, UnrecoverableError
from whp.distributed.in_memory_fault_tolerance.shards import (
    Flat,
    StateMismatchError,
    flatten,
    to_plain,
)
from whp.distributed.in_memory_fault_tolerance.survival import every_steps
from whp.validate import as_choice, as_int, as_real

__all__ = ["Report", "SnapshotGuard", "StateMismatchError", "Stats", "UnrecoverableError"]

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
        Name under which a restarted process finds its memory; by default ``$WHP_GUARD_RUN``, or one made from script and directory.
    failure_rate : float
        Failures a second of the whole job, for `every`.
    host : str
        Address on which keepers of memory listen to each other.
    linger : float
        Seconds after which a keeper that no trainer comes back to ends.

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
    ) -> None:
        self.state = _checked(state)
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
        self.verify, self.sharded = bool(verify), bool(sharded)
        self.directory = Path(smp_dir)
        if not self.directory.is_dir():
            raise ValueError(f"smp_dir must be a directory in memory, got {smp_dir}")
        if (persist_dir is None) != (persist_every is None):
            raise ValueError("persist_dir and persist_every must be given together")
        self.run = _run_name(run)
        self.persist = None
        if persist_dir is not None:
            place = Path(persist_dir).absolute() / self.run
            self.persist = {
                "directory": str(place),
                "every": as_int(persist_every, "persist_every", low=1),
            }
        self.failure_rate = as_real(failure_rate, "failure_rate", low=0, high=1e6, open_ends=True)
        self.host, self.linger = host, as_real(linger, "linger", low=0.1, high=1e9)
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
        self.stats_ = Stats(n=self.n, m=parity)
        self.smp: client.SMP | None = None
        self.token = ""
        self.keepers: list[int] = []  # process numbers of all members' keepers, as last agreed
        self.committed = self.flying = 0
        self.next_version, self.due, self.period = 1, 0, self.every or 1
        self._copier: threading.Thread | None = None
        self._done = threading.Event()
        self._fenced = True
        self._broken = ""
        self._began = self._last = 0.0
        self._steps: list[float] = []
        self.live: tuple[int, dict[str, Any]] | None = None
        self._closed = False
        atexit.register(self._at_exit)

    # The loop

    def restore(self, source: str = "auto", *, live: bool = False) -> int:
        """Fill the state from the newest recoverable version.

        Parameters
        ----------
        source : {"auto", "smp", "persist", "fresh"}
            Memory, then disk; one of them alone; or begin anew and forget what is held.
        live : bool
            This process did not die and still holds the state as its last :meth:`post_step` left it. If all such ranks are at one
            step, the others take their copy, which is newer than any snapshot and costs one broadcast.

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
        return recovery.restore(self, source, live)

    def pre_step(self) -> None:
        """The fence: wait until the running copy no longer reads what ``optimizer.step()`` will write."""
        start = time.perf_counter()
        waited = self._copier is not None and not self._done.is_set()
        self._fenced = True
        if self._copier is not None:
            self._done.wait()
            self.stats_.fence_waits += waited
            self.stats_.add_stall(time.perf_counter() - start)

    def post_step(self, step: int) -> None:
        """Record the end of a step, and start the next snapshot if it is due.

        Parameters
        ----------
        step : int
            Number of the step that ``optimizer.step()`` has just finished.
        """
        if self.smp is None:
            raise RuntimeError(
                "restore() must be called before the first step: it finds or starts the keeper of memory"
            )
        now = time.perf_counter()
        if self._last:
            self._steps = [*self._steps[-30:], now - self._last]
        self._last = now
        if not self._fenced:
            self.stats_.unfenced += 1
        self._fenced = True
        self.live = (int(step), random_states())
        if step >= self.due:
            self._snapshot(int(step))
        self._last += (
            time.perf_counter() - now if len(self._steps) < 2 else 0.0
        )  # allocation is not part of a step

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
        if self._closed:
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

    # A snapshot

    def collect(self) -> dict[str, Any]:
        """The state, as nested dicts."""
        found: dict[str, Any] = {}
        for name, thing in self.state.items():
            if isinstance(thing, Tensor):
                found[name] = thing
            elif isinstance(thing, tuple):
                found[name] = thing[0]()
            else:
                found[name] = thing.state_dict()
        return found

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
        flat = flatten(self.collect())
        if not self._agree(step, flat):
            self.due = step + 1
            return
        try:
            self._begin(step, flat)
        except GONE as error:
            self._broken = str(error)  # the keeper died; the next round starts another
            self.flying = self.flying or self.next_version
            self.next_version += 1
        self.due = step + self.period
        self.stats_.begin_stall(time.perf_counter() - start)

    def _status(self) -> dict[str, Any]:
        try:
            assert self.smp is not None
            told = self.smp.query()
        except GONE:
            self.smp = recovery.connected(self)
            told = self.smp.query()
        return told

    def _agree(self, step: int, flat: Flat) -> bool:
        """One round among the ranks: whether a new snapshot may begin, after healing what broke since the last."""
        told = self._status()
        state = {h["version"]: h["state"] for h in told["held"]}
        age = time.perf_counter() - self._began if self.flying else 0.0
        costs = {
            "stall": self.stats_.typical_stall,
            "lag": self.stats_.typical_lag,
            "step": self.step_seconds,
        }
        mine = {
            "pid": told["pid"],
            "flying": state.get(self.flying, "none"),
            "age": age,
            "size": flat.size,
            "print": "" if self.sharded else flat.fingerprint,
            **costs,
        }
        if self.flying and told["timings"].get("committed", 0) >= (self._sent or math.inf):
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
        if [said["pid"] for said in everyone] != self.keepers:
            self.stats_.keepers_lost += 1
            recovery.settle(self)
            return True
        if not self.flying:
            return True
        assert self.smp is not None
        states = {said["flying"] for said in everyone}
        if states <= {"encoded", "committed"}:
            with contextlib.suppress(*GONE):  # a keeper that dies now is noticed in the next round
                self.smp.commit(self.flying)
            self.committed, self.flying = self.flying, 0
            self.stats_.versions += 1
            return True
        if "none" in states or max(said["age"] for said in everyone) > STUCK:
            self.stats_.abandoned += 1
            with contextlib.suppress(*GONE):
                self.smp.drop(self.committed, self.flying)
            self.flying = 0
            self.ranks.tell({})  # nobody writes before all have dropped
            return True
        self.stats_.postponed += 1
        return False

    _size = 0
    _sent = 0.0

    def _begin(self, step: int, flat: Flat) -> None:
        assert self.smp is not None
        length = self.shard_length(self._size)
        if length != self.stats_.shard_bytes:
            start = time.perf_counter()
            self.smp.alloc(self.n, self.code.m, self.code.codec, length, self.persist)
            self.stats_.shard_bytes, self.stats_.state_bytes = length, flat.size
            self.stats_.setup_ms += 1e3 * (time.perf_counter() - start)
        version, self.next_version = self.next_version, self.next_version + 1
        self.flying, self._began, self._broken = version, time.perf_counter(), ""
        into = self.smp.begin(version, length)
        at = 0 if self.sharded else self.rank * length
        changing = self._changing()
        now = {
            i
            for i, e in enumerate(flat.extents)
            if e.tensor.untyped_storage().data_ptr() in changing
        }
        watched = [
            (e.tensor, e.tensor._version) for i, e in enumerate(flat.extents) if i not in now
        ]
        flat.copy_range(at, into, only=now)
        flat.clear_gaps(at, into)
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
        }
        self._done = threading.Event()
        self._fenced = False
        states = self.live[1] if self.live is not None else random_states()
        self._copier = threading.Thread(
            target=self._copy, args=(flat, at, into, now, watched, header, states), daemon=True
        )
        self._copier.start()
        if self.mode == "sync":
            self._done.wait()
            self._fenced = True

    def _changing(self) -> set[int]:
        """Storages that a forward pass writes, so that they cannot be copied while one runs."""
        modules = [thing for thing in self.state.values() if isinstance(thing, nn.Module)]
        return {
            b.untyped_storage().data_ptr()
            for module in modules
            for b in module.buffers()
            if b.layout is torch.strided
        }

    def _copy(
        self,
        flat: Flat,
        at: int,
        into: np.ndarray,
        skip: set[int],
        watched: list[Any],
        header: dict[str, Any],
        rng: dict[str, Any],
    ) -> None:
        smp = self.smp
        assert smp is not None
        try:
            start = time.perf_counter()
            flat.copy_range(at, into, skip=skip)
            torn = [tensor for tensor, version in watched if tensor._version != version]
            self.stats_.copies_ms.append(1e3 * (time.perf_counter() - start))
            self._done.set()
            if torn:
                self.stats_.torn += 1
                smp.drop(self.committed, header["version"])
                warnings.warn(
                    f"{len(torn)} tensors changed while they were copied: call pre_step() before optimizer.step()",
                    stacklevel=1,
                )
                return
            _yield_to_trainer()
            header["rng"] = to_plain(rng, "rng")
            header["crc"] = checksums(into, 1 if self.code.codec == "replica" else self.code.k)
            self._sent = time.time()
            smp.copied(header["version"], header)
        except GONE as error:
            self._broken = str(error)
        finally:
            self._done.set()


def _yield_to_trainer() -> None:
    """Let this thread, which has no more to read of the trainer's tensors, run where a core is idle."""
    with contextlib.suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)


def _checked(state: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(state, Mapping) or not state:
        raise TypeError("state must be a mapping of names to what is to be saved, and not empty")
    for name, thing in state.items():
        if not isinstance(name, str):
            raise TypeError(f"state must have names as keys, got {name!r}")
        pair = isinstance(thing, tuple) and len(thing) == 2 and all(callable(f) for f in thing)
        if not (
            pair
            or isinstance(thing, Tensor)
            or (hasattr(thing, "state_dict") and hasattr(thing, "load_state_dict"))
        ):
            raise TypeError(
                f"state[{name!r}] must be a tensor, have state_dict and load_state_dict, or be a (getter, setter) pair, "
                f"got {type(thing).__name__}"
            )
    return dict(state)


def _run_name(run: str | None) -> str:
    name = run or os.environ.get("WHP_GUARD_RUN")
    if name is None:
        script = os.path.abspath(sys.argv[0]) if sys.argv and sys.argv[0] else secrets.token_hex(8)
        name = "script" + hashlib.sha256(f"{script}\0{os.getcwd()}".encode()).hexdigest()[:10]
    if not name.replace("_", "").isalnum():
        raise ValueError(f"run must be made of letters, digits and underscores, got {name!r}")
    return name
