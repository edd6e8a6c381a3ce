"""Coming back: which version all can have, who lost what of it, and the state filled from it."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance import client, persistence
from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.errors import (
    RunInUseError,
    StateMismatchError,
    UnrecoverableError,
)
from whp.distributed._in_memory_fault_tolerance.generators import set_random_states
from whp.distributed._in_memory_fault_tolerance.memory import State, checksums
from whp.distributed._in_memory_fault_tolerance.objects import collect, load
from whp.distributed._in_memory_fault_tolerance.rebuilding import all_blocks, recoverable
from whp.distributed._in_memory_fault_tolerance.session import Session
from whp.distributed._in_memory_fault_tolerance.shards import flatten, from_plain, to_plain
from whp.distributed._in_memory_fault_tolerance.stats import Report
from whp.distributed._in_memory_fault_tolerance.wire import WireError

__all__ = ["Agreed", "Live", "agree", "connected", "restore", "settle"]

Live = tuple[int, dict[str, Any]] | None  # step and random states of a rank that did not die


def connected(session: Session) -> client.SMP:
    """A connection to this member's keeper, started if it does not run.

    Raises
    ------
    RunInUseError
        If a living process trains under this name, or the keeper there is of another run and holds something.
    """
    found = client.present(session.run, session.rank, session.directory)
    if found is not None and client.alive(found.pid) and found.token != session.token:
        stranger = client.SMP(found, role="control")
        told = stranger.query()
        if told["trainer"] or told["held"]:
            stranger.close()
            raise RunInUseError(
                f"keeper {found.pid} of member {session.rank} holds memory of another run named {session.run}; "
                f"whp guard clean --run {session.run} ends it"
            )
        stranger.end()
    last: Exception | None = None
    for _ in range(3):
        found = client.start(
            session.run,
            session.rank,
            session.directory,
            session.token,
            host=session.host,
            linger=session.linger,
            about=session.about,
        )
        try:
            return client.SMP(found)
        except (OSError, EOFError) as error:
            last = error
            time.sleep(0.2)
    raise RunInUseError(f"the keeper of run {session.run} does not answer: {last}")


def _meet(session: Session) -> None:
    """Agree on the run's token and connect.

    Raises
    ------
    RunInUseError
        On all ranks, if on one of them another process trains under this name.
    """
    found = client.present(session.run, session.rank, session.directory)
    lives = found is not None and client.alive(found.pid)
    said = session.ranks.tell(
        {
            "token": found.token if found else "",
            "alive": lives,
            "new": secrets.token_hex(16),
            "run": session.run,
        }
    )
    if len({s["run"] for s in said}) > 1:
        raise ValueError(
            f"run must be the same on all ranks, got {sorted({s['run'] for s in said})}"
        )
    tokens = [s["token"] for s in said if s["alive"]] or [s["token"] for s in said if s["token"]]
    session.token = (
        max(set(tokens), key=lambda t: (tokens.count(t), t)) if tokens else said[0]["new"]
    )
    if session.smp is not None:
        session.smp.close()
    session.smp, fault = None, ""
    try:
        session.smp = connected(session)
    except RunInUseError as error:
        fault = str(error)
    faults = [s["fault"] for s in session.ranks.tell({"fault": fault})]
    if any(faults):
        if session.smp is not None:
            session.smp.close()
            session.smp = None
        raise RunInUseError(next(filter(None, faults)))


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


def settle(session: Session, told: Mapping[str, Any] | None = None) -> Agreed:
    """Agree on a version, rebuild what members lost of it and forget all others.

    Raises
    ------
    UnrecoverableError
        If more is lost than can be rebuilt, or rebuilding failed. What is held stays as it is in the first case.
    """
    smp = session.keeper
    mine = dict(told or smp.query(verify=session.verify))
    everyone = session.ranks.tell({**mine, "host": session.host})
    smp.peers({i: (s["host"], s["port"]) for i, s in enumerate(everyone) if i != session.rank})
    session.keepers = [s["pid"] for s in everyone]
    found = agree(session.code, everyone)
    if found.why:
        return found
    smp.alloc(session.n, session.code.m, session.code.codec, 0, session.persist)
    smp.drop(found.version, found.floor)
    session.ranks.tell({})
    fault = ""
    if found.version and session.rank in found.lost:
        try:
            smp.rebuild(found.version, found.lost)
        except WireError as error:
            fault = str(error)
    faults = [s["fault"] for s in session.ranks.tell({"fault": fault})]
    if any(faults):
        raise UnrecoverableError(next(filter(None, faults)))
    session.next_version, session.committed, session.flying = found.floor + 1, found.version, 0
    return found


def begin_anew(session: Session, floor: int) -> None:
    """Forget everything that is held; later versions have larger numbers."""
    smp = session.keeper
    smp.alloc(session.n, session.code.m, session.code.codec, 0, session.persist)
    smp.drop(0, floor)
    session.ranks.tell({})
    session.next_version, session.committed, session.flying = floor + 1, 0, 0


@dataclass(frozen=True)
class _Past:
    """What keepers remember of the processes that trained before."""

    last: int
    begun: int
    replaces: tuple[int, ...]
    arguments: tuple[str, ...]


def _past(session: Session) -> _Past:
    told = session.keeper.query()
    own = {**told["mark"], "replaces": told["replaces"], "about": told["about"]}
    everyone = session.ranks.tell(own)
    stats = session.stats
    outlive = ("torn", "unfenced", "abandoned", "keepers_lost", "longest_period", "longest_stride")
    for name in outlive:
        setattr(stats, name, max(getattr(stats, name), *(s.get(name, 0) for s in everyone)))
    return _Past(
        max(s["step"] for s in everyone),
        max(s["begun"] for s in everyone),
        tuple(i for i, s in enumerate(everyone) if s["replaces"]),
        tuple(dict.fromkeys(" ".join(s["about"].get("arguments", ())) for s in everyone)),
    )


def restore(
    session: Session, objects: Mapping[str, Any], source: str, live: Live
) -> tuple[Report, Live]:
    """Fill the objects; see :meth:`SnapshotGuard.restore`. Returns what was done, and the live state of this rank."""
    start = time.perf_counter()
    _meet(session)
    aside = ""
    if source == "fresh":
        session.keeper.drop(0, 0, fresh=True)
        if session.persist and session.rank == 0:
            aside = persistence.set_aside(Path(session.persist["directory"]))
        session.ranks.tell({})
    past = _past(session)
    at = _living(session, live if source == "auto" else None)
    found = settle(session)
    version, rebuilt, why = found.version, tuple(found.lost), found.why

    def report(
        kind: str, number: int, step: int, common: int, digest: str, good: bool, note: str = ""
    ) -> Report:
        good = all(s["good"] for s in session.ranks.tell({"good": good}))
        seconds = time.perf_counter() - start
        said = _sentence(session, kind, step, past, rebuilt, note)
        return Report(
            kind, number, step, common, rebuilt, seconds, digest, good, past.last, past.begun, said
        )

    if at is not None:
        if why:  # what memory held is beyond repair, but a rank that lives has it all
            begin_anew(session, found.floor)
        step, rank = at
        good, live = _from_replica(session, objects, rank, step, live)
        return report("replica", version, step, version, "", good), live
    if version and source != "persist":
        head, digest, good = _from_memory(session, objects, version)
        note = _other_arguments(session, head)
        kind = "erasure" if rebuilt else "smp"
        return report(kind, version, head["step"], version, digest, good, note), None
    on_disk = _on_disk(session) if session.persist and source in ("auto", "persist") else None
    if on_disk is not None:
        head, good, passed = _from_disk(session, objects, *on_disk)
        if why:
            begin_anew(session, found.floor)
        number = int(head["version"])
        session.next_version = max(session.next_version, number + 1)
        note = ". ".join(filter(None, (passed, _other_arguments(session, head))))
        return report("persist", number, head["step"], 0, "", good, note), None
    if why or (past.replaces and source == "auto"):
        lost = ", ".join(map(str, past.replaces))
        told = why or (
            f"the keepers of members {lost} of run {session.run} died, and their memory went with them"
        )
        raise UnrecoverableError(
            f"{told}; parity={session.code.m} and no version on disk. restore(source='fresh') begins anew"
        )
    if source in ("smp", "persist"):
        raise UnrecoverableError(f"nothing is held to restore from source={source!r}")
    note = f"What was on disk is set aside in {aside}" if aside else ""
    return report("fresh", 0, -1, 0, "", True, note), None


def _sentence(
    session: Session, kind: str, step: int, past: _Past, rebuilt: tuple[int, ...], note: str
) -> str:
    """What a start is, for a reader who did not expect it."""
    if kind == "fresh" and past.begun:
        said = (
            f"begins at step 0: {past.begun} snapshots were begun under run {session.run} and none was kept"
            + (f", {session.stats.torn} of them torn" if session.stats.torn else "")
        )
    elif kind == "fresh":
        said = f"begins at step 0: nothing is held under run {session.run}"
    else:
        names = {"smp": "memory", "erasure": "memory", "replica": "a living rank"}
        said = f"run {session.run} goes on at step {step + 1}, from {names.get(kind, 'disk')}"
        if past.last >= 0:
            said += f", {max(0, past.last - step)} steps are done again"
        if rebuilt:
            said += f"; members {', '.join(map(str, rebuilt))} were rebuilt"
    return f"{said}. {note}" if note else said


def _other_arguments(session: Session, head: Mapping[str, Any]) -> str:
    """A warning where what is restored was made by other arguments, learning rate and all."""
    theirs, ours = head.get("about", {}).get("arguments"), session.about.get("arguments")
    if theirs is None or theirs == ours:
        return ""
    return (
        f"What is held was made with the arguments {' '.join(theirs)!r} and this process has {' '.join(ours or ())!r}: "
        "learning rates and all else that is in the state are those of before"
    )


def _from_memory(
    session: Session, objects: Mapping[str, Any], version: int
) -> tuple[dict[str, Any], str, bool]:
    smp = session.keeper
    held = next(h for h in smp.query()["held"] if h["version"] == version)
    shard = smp.view(held["path"], held["size"])[: held["length"]].copy()
    heads = smp.heads(version)
    head = heads[session.rank]
    _alike(session, head)
    intact = checksums(shard, len(head["crc"])) == head["crc"]
    stream = shard if session.sharded else session.ranks.shards(shard)
    good = load(objects, stream[: head["size"]], head)
    set_random_states(from_plain(head["rng"]))
    digest = hashlib.sha256(
        json.dumps([heads[i]["crc"] for i in range(session.n)]).encode()
    ).hexdigest()
    return head, digest, intact and good


def _on_disk(session: Session) -> tuple[dict[str, Any], np.ndarray, str] | None:
    """This member's part of the newest version of which all parts are undamaged, and a word on those that were passed over.

    Raises
    ------
    ValueError
        If there are versions and all are damaged.
    """
    assert session.persist is not None
    passed: list[str] = []
    folders = {p.name: p for p in persistence.published(Path(session.persist["directory"]))}
    everywhere = [set(s["folders"]) for s in session.ranks.tell({"folders": list(folders)})]
    begun = [int(name.partition("-")[2]) for name in set().union(*everywhere)]
    # A damaged version keeps its place on disk, and the next ones must not have its number.
    session.next_version = max([session.next_version, *(1 + number for number in begun)])
    for name in sorted(set.intersection(*everywhere), reverse=True):
        found, fault = None, ""
        try:
            found = _part(session, folders[name])
        except ValueError as error:
            fault = str(error)
        faults = [s["fault"] for s in session.ranks.tell({"fault": fault}) if s["fault"]]
        if found is not None and not faults:
            return *found, ". ".join(f"Passed over: {why}" for why in passed)
        passed += faults[:1]
    if passed:
        raise ValueError(passed[0])
    return None


def _part(session: Session, folder: Path) -> tuple[dict[str, Any], np.ndarray]:
    if (folder / f"member-{session.n}.json").exists() or not (
        folder / f"member-{session.n - 1}.json"
    ).exists():
        raise ValueError(
            f"{folder} is of another number of ranks than this group's {session.n}: restart with as many"
        )
    return persistence.read(folder, session.rank)


def _from_disk(
    session: Session,
    objects: Mapping[str, Any],
    head: dict[str, Any],
    shard: np.ndarray,
    passed: str,
) -> tuple[dict[str, Any], bool, str]:
    _alike(session, head)
    stream = shard if session.sharded else session.ranks.shards(shard)
    good = load(objects, stream[: head["size"]], head)
    set_random_states(from_plain(head["rng"]))
    return head, good, passed


def _alike(session: Session, head: Mapping[str, Any]) -> None:
    """Refuse parts of one state as wholes, and wholes as parts: each rank would be given the first one's."""
    if bool(head.get("sharded", session.sharded)) != session.sharded:
        kinds = {True: "a state of its own on each rank", False: "one state of all ranks"}
        raise StateMismatchError(
            f"what is held is {kinds[not session.sharded]}, and this run has {kinds[session.sharded]}: "
            f"give sharded={not session.sharded}"
        )


def _living(session: Session, live: Live) -> tuple[int, int] | None:
    """Step and lowest rank of those that still hold the state, if all of them are at one step and somebody is not."""
    mine = live[0] if live is not None and not session.sharded else None
    steps = [s["step"] for s in session.ranks.tell({"step": mine})]
    have = {s for s in steps if s is not None}
    return (
        (have.pop(), next(r for r, s in enumerate(steps) if s is not None))
        if len(have) == 1
        else None
    )


def _from_replica(
    session: Session, objects: Mapping[str, Any], root: int, step: int, live: Live
) -> tuple[bool, Live]:
    """Take a living rank's copy; a rank that died takes that rank's random states too, since its own went with it."""
    mine = live is not None and live[0] == step
    flat = flatten(collect(objects))
    said: dict[str, Any] = {}
    if session.rank == root and live is not None:
        rng = to_plain(live[1], "rng")
        said = {"manifest": flat.manifest, "plain": flat.plain, "size": flat.size, "rng": rng}
    said = session.ranks.tell(said)[root]
    stream = flat.stream() if session.rank == root else np.zeros(said["size"], dtype=np.uint8)
    session.ranks.spread(stream, root)
    if mine and live is not None:
        set_random_states(live[1])
        return bool(np.array_equal(flat.stream(), stream)), live
    good = load(objects, stream, said)
    set_random_states(from_plain(said["rng"]))
    return good, (step, from_plain(said["rng"]))
