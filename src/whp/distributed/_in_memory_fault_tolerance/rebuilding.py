"""How a member that lost blocks makes them anew from the others', a few megabytes at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.memory import State, checksums, room_for
from whp.distributed._in_memory_fault_tolerance.wire import Kind, WireError

if TYPE_CHECKING:
    from whp.distributed._in_memory_fault_tolerance.holding import Holding
    from whp.distributed._in_memory_fault_tolerance.memory import Slot

__all__ = ["all_blocks", "rebuild", "recoverable"]

CHUNK = 4 << 20
Lost = dict[int, list[list[Any]]]


def all_blocks(group: ErasureGroup) -> list[list[Any]]:
    """What a member loses with its memory."""
    parts = 1 if group.codec == "replica" else group.k
    return [*(["d", j] for j in range(parts)), *(["p", r] for r in range(group.m))]


def _gone(lost: Lost, member: int, what: str, index: int) -> bool:
    return [what, index] in lost.get(member, [])


def recoverable(group: ErasureGroup, lost: Lost) -> str:
    """Empty if everything can be made anew, else what cannot."""
    if group.codec == "replica":
        for node in range(group.n):
            held = [((node + 1 + r) % group.n, r) for r in range(group.m)]
            if _gone(lost, node, "d", 0) and all(_gone(lost, at, "p", r) for at, r in held):
                return f"all {group.m + 1} copies of the shard of member {node} are lost"
        return ""
    for s in range(group.n):
        data = [
            node for node in group.data_nodes(s) if _gone(lost, node, "d", group.block_of(node, s))
        ]
        parity = [node for r, node in enumerate(group.parity_nodes(s)) if _gone(lost, node, "p", r)]
        if len(data) + len(parity) > group.m and data:
            return f"stripe {s} lost blocks of members {sorted(data + parity)}, and the code survives {group.m}"
    return ""


def _fetch(
    holding: Holding, slot: Slot, member: int, what: str, index: int, at: int, size: int
) -> np.ndarray:
    if member == holding.member:
        whole = (
            slot.data[index * slot.length // holding.parts :] if what == "d" else slot.parity(index)
        )
        return whole[at : at + size].copy()
    channel, lock = holding.line(member)
    said = {"version": slot.version, "what": what, "index": index, "at": at, "size": size}
    try:
        with lock:
            _, carried = channel.ask(Kind.FETCH, said)
    except WireError:
        raise
    except (OSError, EOFError) as error:
        holding.hang_up(member)
        raise WireError(f"member {member} was lost while its blocks were read") from error
    return np.frombuffer(carried, dtype=np.uint8)


def _heads(holding: Holding, version: int, lost: Lost) -> dict[int, dict[str, Any]]:
    every = all_blocks(holding.group)
    for member in range(holding.group.n):
        if member == holding.member or lost.get(member) == every:
            continue
        channel, lock = holding.line(member)
        with lock:
            told, _ = channel.ask(Kind.HEADS, {"version": version})
        return {int(i): head for i, head in told["heads"].items()}
    raise WireError("no member has the headers")


def rebuild(holding: Holding, version: int, lost: Lost) -> dict[str, Any]:
    """Make this member's lost blocks of a version, check them against the trainer's checksums, and hold the version as committed.

    Raises
    ------
    WireError
        If too much is lost or a rebuilt block has another checksum than it had.
    """
    group, me = holding.group, holding.member
    why = recoverable(group, lost)
    if why:
        raise WireError(why)
    slot = holding.slot_of(version)
    if slot is None:
        heads = _heads(holding, version, lost)
        length = int(heads[me]["length"])
        with holding.changed:
            slot = next(s for s in holding.slots if s.state is State.EMPTY)
            if slot.length != length:
                room_for(holding.directory, 1, length + group.m * group.block_length(length))
            slot.fit(length, group)
            slot.begin(version)
            slot.heads = heads
    mine = lost.get(me, [])
    (_copies if group.codec == "replica" else _stripes)(holding, slot, lost)
    found = checksums(slot.data, holding.parts)
    if found != slot.heads[me]["crc"]:
        raise WireError(
            f"member {me} of version {version} does not have its checksum after it was rebuilt"
        )
    with holding.changed:
        slot.seal()
        slot.state = State.COMMITTED
        holding.floor = max(holding.floor, version)
        holding.changed.notify_all()
    return {"blocks": len(mine)}


def _stripes(holding: Holding, slot: Slot, lost: Lost) -> None:
    group, me = holding.group, holding.member
    for s in range(group.n):
        nodes, holders = group.data_nodes(s), group.parity_nodes(s)
        data_here = me in nodes and _gone(lost, me, "d", group.block_of(me, s))
        parity_here = me in holders and _gone(lost, me, "p", holders.index(me))
        if not (data_here or parity_here):
            continue
        at = [group.block_of(node, s) for node in nodes]
        gone = [_gone(lost, node, "d", j) for node, j in zip(nodes, at, strict=True)]
        spare = [r for r, node in enumerate(holders) if not _gone(lost, node, "p", r)][: sum(gone)]
        for start in range(0, slot.block, CHUNK):
            size = min(CHUNK, slot.block - start)
            columns = [
                None if absent else _fetch(holding, slot, node, "d", j, start, size)
                for node, j, absent in zip(nodes, at, gone, strict=True)
            ]
            rows = [
                _fetch(holding, slot, holders[r], "p", r, start, size) if r in spare else None
                for r in range(group.m)
            ]
            whole = group.restore_stripe(columns, rows)
            if data_here:
                first = group.block_of(me, s) * slot.block + start
                slot.data[first : first + size] = whole[nodes.index(me)]
            if parity_here:
                r = holders.index(me)
                slot.parity(r)[start : start + size] = group.parity_of_stripe(whole)[r]


def _copies(holding: Holding, slot: Slot, lost: Lost) -> None:
    group, me = holding.group, holding.member
    wanted = [(me, slot.data)] if _gone(lost, me, "d", 0) else []
    wanted += [
        ((me - 1 - r) % group.n, slot.parity(r)) for r in range(group.m) if _gone(lost, me, "p", r)
    ]
    for node, to in wanted:
        places = [(node, "d", 0), *(((node + 1 + r) % group.n, "p", r) for r in range(group.m))]
        member, what, index = next(p for p in places if not _gone(lost, *p))
        for start in range(0, len(to), CHUNK):
            size = min(CHUNK, len(to) - start)
            to[start : start + size] = _fetch(holding, slot, member, what, index, start, size)
