"""Which way microbatches take through the stages, and in which order every stage works on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

__all__ = ["Op", "route", "schedule", "timeline"]


@dataclass(frozen=True)
class Op:
    """One unit's work on one microbatch.

    Parameters
    ----------
    unit : str
        ``"embed"``, ``"head"`` or the number of a stage.
    rank : int
        Where it is done.
    microbatch : int
    before, after : int or None
        Ranks of the work before and after it; None at the ends.
    """

    unit: str
    rank: int
    microbatch: int
    before: int | None
    after: int | None


def route(microbatch: int, stages: int, swap: bool, head: int) -> list[Op]:
    """Way of a microbatch: through the stages in order, or, if it swaps and is odd, first two and last two exchanged."""
    order = list(range(stages))
    if swap and microbatch % 2:
        order[:2], order[-2:] = order[1::-1], order[:-3:-1]
    places = [("embed", 0), *((str(i), i) for i in order), ("head", head)]
    return [
        Op(
            unit,
            rank,
            microbatch,
            places[i - 1][1] if i else None,
            places[i + 1][1] if i + 1 < len(places) else None,
        )
        for i, (unit, rank) in enumerate(places)
    ]


@cache
def timeline(microbatches: int, stages: int, swap: bool, head: int) -> tuple[Op, ...]:
    """Forward work of all ranks in the order in which it would be done if every step took equally long, oldest first."""
    ways = [route(m, stages, swap, head) for m in range(microbatches)]
    place = [0] * microbatches
    ready = [0.0] * microbatches
    free = [0.0] * stages
    found: list[Op] = []
    while open_ways := [m for m in range(microbatches) if place[m] < len(ways[m])]:
        start, m = min((max(ready[m], free[ways[m][place[m]].rank]), m) for m in open_ways)
        op = ways[m][place[m]]
        found.append(op)
        ready[m] = free[op.rank] = start + (1.0 if op.unit.isdigit() else 0.25)
        place[m] += 1
    return tuple(found)


@cache
def schedule(microbatches: int, stages: int, swap: bool, head: int) -> tuple[tuple[Op, ...], ...]:
    """Order of the forward work of each rank; backward work takes the opposite order (GPipe).

    All ranks' orders come from one timeline, so that routes that cross cannot block each other.
    """
    whole = timeline(microbatches, stages, swap, head)
    return tuple(tuple(op for op in whole if op.rank == rank) for rank in range(stages))
