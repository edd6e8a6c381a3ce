"""Timetables without conflicts: arms placed into classes of residues, split by primes as needed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from whp.kernel import compiled

__all__ = ["pack", "rows"]


@compiled
def _pack(period, order, channels, offset, channel):
    """Put each arm into the free class (q, r) with the largest q that divides its period.

    What the arm does not need of the class is split off. Exact integers: what comes out has no
    conflict. False where an arm finds no class.
    """
    top = 1
    for i in order:
        top = max(top, period[i])
    room = channels * top + top
    residue, lane, following = (
        np.empty(room, np.int64),
        np.empty(room, np.int64),
        np.empty(room, np.int64),
    )
    head = np.full(top + 1, -1, np.int64)
    for k in range(room - 1):
        following[k] = k + 1
    following[room - 1] = -1
    spare = 0
    for c in range(channels - 1, -1, -1):
        node = spare
        spare = following[node]
        residue[node], lane[node], following[node] = 0, c, head[1]
        head[1] = node
    for i in order:
        p = period[i]
        q = 0
        for candidate in range(p, 0, -1):
            if p % candidate == 0 and head[candidate] >= 0:
                q = candidate
                break
        if q == 0:
            return False
        node = head[q]
        head[q] = following[node]
        r, c = residue[node], lane[node]
        following[node] = spare
        spare = node
        while q < p:
            f = 2
            while (p // q) % f:
                f += 1
            for k in range(1, f):
                node = spare
                spare = following[node]
                residue[node], lane[node], following[node] = r + k * q, c, head[q * f]
                head[q * f] = node
            q *= f
        offset[i], channel[i] = r, c
    return True


def pack(
    period: Int[np.ndarray, " N"], channels: int
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]] | None:
    """Offsets and channels for arms of these periods (0: none), or None where the tree finds no place.

    Parameters
    ----------
    period : ndarray, shape (N,), int
    channels : int
        K, pulls a period.
    """
    used = np.flatnonzero(period)
    rate = period[used]
    if (1 / rate).sum() > channels + 1e-9:
        return None
    offset, channel = np.zeros(len(period), np.int64), np.full(len(period), -1, np.int64)
    small = rate.astype(np.int16) if len(rate) and rate.max() < 1 << 15 else rate  # sorted by radix
    order = used[np.argsort(small, kind="stable")]
    return (
        (offset, channel)
        if _pack(np.ascontiguousarray(period), order, channels, offset, channel)
        else None
    )


@compiled
def rows(period, offset, T):
    """Arms of each of T periods one after the other, and where each period begins."""
    begins = np.zeros(T + 1, np.int64)
    for i in range(len(period)):
        if period[i]:
            for t in range(offset[i], T, period[i]):
                begins[t + 1] += 1
    for t in range(T):
        begins[t + 1] += begins[t]
    at, who = begins[:-1].copy(), np.empty(begins[T], np.int64)
    for i in range(len(period)):
        if period[i]:
            for t in range(offset[i], T, period[i]):
                who[at[t]] = i
                at[t] += 1
    return who, begins
