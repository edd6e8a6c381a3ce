"""Coming back: which version all can have, who lost what of it, and the state filled from it."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from whp.distributed.in_memory_fault_tolerance import client, persistence
from whp.distributed.in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed.in_memory_fault_tolerance.generators import set_random_states
from whp.distributed.in_memory_fault_tolerance.memory import State, checksums
from whp.distributed.in_memory_fault_tolerance.rebuilding import all_blocks, recoverable
from whp.distributed.in_memory_fault_tolerance.shards import (
    compare,
    flatten,
    from_plain,
    to_plain,
    unflatten,
)
from whp.distributed.in_memory_fault_tolerance.wire import WireError

if TYPE_CHECKING:
    from whp.distributed.in_memory_fault_tolerance.guard import SnapshotGuard

__all__ = [
    "Agreed",
    "Report",
    "Stats",
    "UnrecoverableError",
    "agree",
    "connected",
    "restore",
    "settle",
]


class UnrecoverableError(RuntimeError):
    """More is lost than the code survives."""


@dataclass(frozen=True)
class Report:
    """What a restore did.

    Attributes
    ----------
    source : {"smp", "replica", "erasure", "persist", "fresh"}
        The keeper's memory, a living rank's, memory after members were rebuilt, disk, or nothing.
    version, step : int
        What was restored; −1 on a fresh run.
    newest_common : int
        The newest version that every keeper had whole.
    rebuilt_nodes : tuple of int
        Members of which blocks were made anew.
    seconds : float
    digest : str
        Of all members' checksums, taken when the version was copied.
    digest_ok : bool
        Whether the state that was loaded has the bytes that were copied then.
    """

    source: str
    version: int
    step: int
    newest_common: int
    rebuilt_nodes: tuple[int, ...]
    seconds: float
    digest: str
    digest_ok: bool


@dataclass
class Stats:
    """What snapshots cost.

    Attributes
    ----------
    stalls_ms : list of float
        Milliseconds of each snapshot for which the trainer waited, at both ends, for the other ranks too.
    copies_ms, lags_ms : list of float
        Milliseconds of copying, and from the copy to the commit (encoding is most of it).
    setup_ms : float
        Milliseconds of the first allocation.
    versions, abandoned, postponed : int
        Committed; given up; due while the previous was not committed.
    torn, unfenced : int
        Snapshots thrown away because tensors changed under the copy; steps without :meth:`SnapshotGuard.pre_step`.
    """

    n: int = 1
    m: int = 0
    stalls_ms: list[float] = field(default_factory=list)
    copies_ms: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    setup_ms: float = 0.0
    shard_bytes: int = 0
    state_bytes: int = 0
    versions: int = 0
    abandoned: int = 0
    postponed: int = 0
    fence_waits: int = 0
    torn: int = 0
    unfenced: int = 0
    keepers_lost: int = 0
    longest_period: int = 0

    def begin_stall(self, seconds: float) -> None:
        """The first half of a snapshot's stall; the first snapshot's, which allocates, is not typical and not counted."""
        if len(self.copies_ms) or len(self.stalls_ms):
            self.stalls_ms.append(1e3 * seconds)

    def add_stall(self, seconds: float) -> None:
        """The second half, at the fence."""
        if self.stalls_ms:
            self.stalls_ms[-1] += 1e3 * seconds

    @property
    def typical_stall(self) -> float:
        """Median seconds for which a snapshot blocks."""
        return float(np.median(self.stalls_ms)) / 1e3 if self.stalls_ms else 0.0

    @property
    def typical_lag(self) -> float:
        """Median seconds from the start of a copy to its commit."""
        return float(np.median(self.lags_ms or [0.0]) + np.median(self.copies_ms or [0.0])) / 1e3

    def summary(self) -> dict[str, float]:
        """Medians in milliseconds, and counts."""
        middle = {
            k: float(np.median(getattr(self, k) or [0.0]))
            for k in ("stalls_ms", "copies_ms", "lags_ms")
        }
        counts = {
            k: getattr(self, k)
            for k in (
                "versions",
                "abandoned",
                "postponed",
                "fence_waits",
                "torn",
                "unfenced",
                "shard_bytes",
            )
        }
        return {**middle, **counts, "n": self.n, "m": self.m}


def connected(guard: SnapshotGuard) -> client.SMP:
    """A connection to this member's keeper, started if it does not run."""
    found = client.find(guard.run, guard.rank, guard.directory)
    if found is not None and client.alive(found.pid):
        try:
            if not guard.token or found.token == guard.token:
                return client.SMP(found)
            client.SMP(found, role="control").end()  # it belongs to an earlier run of this name
        except (OSError, EOFError):
            pass
    return client.SMP(
        client.start(
            guard.run,
            guard.rank,
            guard.directory,
            guard.token,
            host=guard.host,
            linger=guard.linger,
        )
    )


def _meet(guard: SnapshotGuard) -> bool:
    """Agree on the run's token and connect; whether some keeper of this run died."""
    found = client.find(guard.run, guard.rank, guard.directory)
    lives = found is not None and client.alive(found.pid)
    said = guard.ranks.tell(
        {
            "token": found.token if found else "",
            "alive": lives,
            "new": secrets.token_hex(16),
            "run": guard.run,
        }
    )
    if len({s["run"] for s in said}) > 1:
        raise ValueError(
            f"run must be the same on all ranks, got {sorted({s['run'] for s in said})}"
        )
    tokens = [s["token"] for s in said if s["alive"]] or [s["token"] for s in said if s["token"]]
    guard.token = max(set(tokens), key=lambda t: (tokens.count(t), t)) if tokens else said[0]["new"]
    if guard.smp is not None:
        guard.smp.close()
    guard.smp = connected(guard)
    return any(s["token"] and not s["alive"] for s in said) and not any(s["alive"] for s in said)


@dataclass(frozen=True)
class Agreed:
    """What members can have together.

    Attributes
    ----------
    version : int
        The newest common version that can be rebuilt; 0: none.
    lost : dict
        Of each member that misses blocks of it, which.
    floor : int
        The newest version that anybody began.
    why : str
        Why there is none, if something is held.
    """

    version: int
    lost: dict[int, list[list[Any]]]
    floor: int
    why: str


def agree(code: ErasureGroup, told: list[dict[str, Any]]) -> Agreed:
    """The newest version that every keeper with a whole version holds, if the code can make anew what is missing of it.

    Parameters
    ----------
    code : ErasureGroup
    told : list of dict
        Answers of all members' keepers to QUERY.

    Raises
    ------
    ValueError
        If they are of a group of another size.
    """
    whole = [{h["version"]: h for h in s["held"] if State(h["state"]).whole} for s in told]
    floor = max([s["floor"] for s in told] + [h["version"] for s in told for h in s["held"]])
    sizes = {s["n"] for s, held in zip(told, whole, strict=True) if held}
    if sizes - {code.n}:
        raise ValueError(
            f"the copies in memory are of {max(sizes)} ranks and this group has {code.n}: restart with as many"
        )
    why, every = "", all_blocks(code)
    for version in sorted({v for held in whole for v in held}, reverse=True):
        if any(held and version not in held for held in whole):
            continue  # some keeper has only another: it is not common
        missing = {i: held[version]["bad"] if held else every for i, held in enumerate(whole)}
        why = recoverable(code, missing)
        if not why:
            return Agreed(version, {i: bad for i, bad in missing.items() if bad}, floor, "")
    return Agreed(0, {}, floor, why)


def settle(guard: SnapshotGuard) -> Agreed:
    """Agree on a version, rebuild what members lost of it and forget all others.

    Raises
    ------
    UnrecoverableError
        If rebuilding failed.
    """
    smp = guard.smp
    assert smp is not None
    told = smp.query(verify=guard.verify)
    everyone = guard.ranks.tell({**told, "host": guard.host})
    smp.peers({i: (s["host"], s["port"]) for i, s in enumerate(everyone) if i != guard.rank})
    guard.keepers = [s["pid"] for s in everyone]
    found = agree(guard.code, everyone)
    smp.alloc(guard.n, guard.code.m, guard.code.codec, 0, guard.persist)
    smp.drop(found.version, found.floor)
    guard.ranks.tell({})
    fault = ""
    if found.version and guard.rank in found.lost:
        try:
            smp.rebuild(found.version, found.lost)
        except WireError as error:
            fault = str(error)
    faults = [s["fault"] for s in guard.ranks.tell({"fault": fault})]
    if any(faults):
        raise UnrecoverableError(next(filter(None, faults)))
    guard.next_version, guard.committed, guard.flying = found.floor + 1, found.version, 0
    return found


def restore(guard: SnapshotGuard, source: str, live: bool) -> int:
    """See :meth:`SnapshotGuard.restore`."""
    start = time.perf_counter()
    died = _meet(guard)
    if source == "fresh":
        assert guard.smp is not None
        guard.smp.drop(0, 0)
    at = _living(guard, live and source == "auto")
    found = settle(guard)
    version, rebuilt, why = found.version, tuple(found.lost), found.why
    if at is not None:
        step, rank = at
        good = _from_replica(guard, rank, step)
        return _reported(guard, start, "replica", version, step, version, rebuilt, "", good)
    if version and source != "persist":
        head, digest, good = _from_memory(guard, version)
        kind = "erasure" if rebuilt else "smp"
        return _reported(guard, start, kind, version, head["step"], version, rebuilt, digest, good)
    folder = (
        persistence.newest(Path(guard.persist["directory"]))
        if guard.persist and source in ("auto", "persist")
        else None
    )
    have = guard.ranks.tell({"folder": folder.name if folder else ""})
    if folder is not None and all(s["folder"] == folder.name for s in have):
        head, good = _from_disk(guard, folder)
        number = int(head["version"])
        guard.next_version = max(guard.next_version, number + 1)
        return _reported(guard, start, "persist", number, head["step"], 0, rebuilt, "", good)
    if why or (died and source == "auto"):
        told = (
            why
            or f"all {guard.n} keepers of run {guard.run} are dead, and their memory went with them"
        )
        raise UnrecoverableError(
            f"{told}; parity={guard.code.m} and no version on disk. restore(source='fresh') begins anew"
        )
    if source in ("smp", "persist"):
        raise UnrecoverableError(f"nothing is held to restore from source={source!r}")
    return _reported(guard, start, "fresh", 0, -1, 0, rebuilt, "", True)


def _reported(
    guard: SnapshotGuard,
    start: float,
    source: str,
    version: int,
    step: int,
    common: int,
    rebuilt: tuple[int, ...],
    digest: str,
    good: bool,
) -> int:
    good = all(s["good"] for s in guard.ranks.tell({"good": good}))
    guard.report_ = Report(
        source, version, step, common, rebuilt, time.perf_counter() - start, digest, good
    )
    guard.due = step + guard.period if step >= 0 else 0
    guard._last, guard._fenced = 0.0, True
    return step + 1


def _apply(guard: SnapshotGuard, state: dict[str, Any]) -> None:
    for name, thing in guard.state.items():
        if isinstance(thing, Tensor):
            with torch.no_grad():
                thing.copy_(state[name])
        elif isinstance(thing, tuple):
            thing[1](state[name])
        else:
            thing.load_state_dict(state[name])


def _load(guard: SnapshotGuard, stream: np.ndarray, head: dict[str, Any]) -> bool:
    """Fill the objects, and whether they then have the bytes of the stream."""
    lazy = tuple(
        f"{name}.state." for name, thing in guard.state.items() if hasattr(thing, "param_groups")
    )
    compare(head["manifest"], flatten(guard.collect()).manifest, lazy)
    state = unflatten(stream, head["manifest"], head["plain"])
    _apply(guard, state)
    expected, loaded = flatten(state), flatten(guard.collect())
    if expected.fingerprint == loaded.fingerprint:
        return bool(np.array_equal(expected.stream(), loaded.stream()))
    wanted, found = ({e[0]: e for e in flat.manifest} for flat in (expected, loaded))
    one, two = expected.stream(), loaded.stream()
    return wanted.keys() == found.keys() and all(
        torch.equal(_bits(one, wanted[name]), _bits(two, found[name])) for name in wanted
    )


def _bits(stream: np.ndarray, entry: list[Any]) -> Tensor:
    tensor: Tensor = unflatten(stream, [entry], {"it": {"%": "tensor", "at": 0}})["it"]
    return tensor.contiguous().view(-1).view(torch.uint8) if tensor.numel() else tensor


def _from_memory(guard: SnapshotGuard, version: int) -> tuple[dict[str, Any], str, bool]:
    smp = guard.smp
    assert smp is not None
    held = next(h for h in smp.query()["held"] if h["version"] == version)
    shard = smp.view(held["path"], held["size"])[: held["length"]].copy()
    heads = smp.heads(version)
    head = heads[guard.rank]
    intact = checksums(shard, len(head["crc"])) == head["crc"]
    stream = shard if guard.sharded else guard.ranks.shards(shard)
    good = _load(guard, stream[: head["size"]], head)
    set_random_states(from_plain(head["rng"]))
    digest = hashlib.sha256(
        json.dumps([heads[i]["crc"] for i in range(guard.n)]).encode()
    ).hexdigest()
    return head, digest, intact and good


def _from_disk(guard: SnapshotGuard, folder: Path) -> tuple[dict[str, Any], bool]:
    if (folder / f"member-{guard.n}.json").exists() or not (
        folder / f"member-{guard.n - 1}.json"
    ).exists():
        raise ValueError(
            f"{folder} is of another number of ranks than this group's {guard.n}: restart with as many"
        )
    head, shard = persistence.read(folder, guard.rank)
    stream = shard if guard.sharded else guard.ranks.shards(shard)
    good = _load(guard, stream[: head["size"]], head)
    set_random_states(from_plain(head["rng"]))
    return head, good


def _living(guard: SnapshotGuard, live: bool) -> tuple[int, int] | None:
    """Step and lowest rank of those that still hold the state, if all of them are at one step and somebody is not."""
    mine = (
        guard.live[0]
        if live and guard.live is not None and not guard.sharded and not guard._changing()
        else None
    )
    steps = [s["step"] for s in guard.ranks.tell({"step": mine})]
    have = {s for s in steps if s is not None}
    return (
        (have.pop(), next(r for r, s in enumerate(steps) if s is not None))
        if len(have) == 1
        else None
    )


def _from_replica(guard: SnapshotGuard, root: int, step: int) -> bool:
    """Take a living rank's copy; a rank that died takes that rank's random states too, since its own went with it."""
    mine = guard.live is not None and guard.live[0] == step
    flat = flatten(guard.collect())
    said: dict[str, Any] = {}
    if guard.rank == root and guard.live is not None:
        rng = to_plain(guard.live[1], "rng")
        said = {"manifest": flat.manifest, "plain": flat.plain, "size": flat.size, "rng": rng}
    said = guard.ranks.tell(said)[root]
    stream = flat.stream() if guard.rank == root else np.zeros(said["size"], dtype=np.uint8)
    guard.ranks.spread(stream, root)
    good = True
    if not mine:
        good = _load(guard, stream, said)
        set_random_states(from_plain(said["rng"]))
        guard.live = (step, from_plain(said["rng"]))
    elif guard.live is not None:
        set_random_states(guard.live[1])
        good = np.array_equal(flat.stream(), stream)
    return bool(good)
