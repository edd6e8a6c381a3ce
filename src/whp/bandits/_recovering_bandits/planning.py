"""Searching for a timetable: many candidates that pack, and changes of single periods and pairs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from whp.bandits._recovering_bandits.curves import rate_of, static_arms
from whp.bandits._recovering_bandits.packing import pack
from whp.bandits._recovering_bandits.rates import Segments, chains, period_set, relax, segments
from whp.validate import as_choice, as_int

__all__ = ["search"]

SEARCHED = 80  # arms that local search looks at
PAIRS = 200_000  # pairs of changes that it tries
STEPS = 25  # of the bisection of the capacity
LARGE = 100_000  # curve entries beyond which fewer period sets are tried
ALL = 50_000  # timetables that are all looked at
STARTS = 8  # candidates that local search starts from
LONGEST = 4096  # period that may be given, or twice the longest gap


def search(
    R: Float[np.ndarray, "N D"], K: int, periods: Any, local_search: bool, price: float
) -> Int[np.ndarray, " N"]:
    """The best timetable among all candidates.

    Parameters
    ----------
    R : ndarray, shape (N, D)
    K : int
    periods : {"auto", "pow2"}, int or sequence of int
        Which periods may be used.
    local_search : bool
        Whether to improve candidates, or to look at all timetables where they are few.
    price : float
        What one more slot is worth.
    """
    N, D = R.shape
    static, single = np.zeros((2, N), dtype=np.int64)
    static[static_arms(R, K)] = 1
    i, d = np.unravel_index(int((R / np.arange(1, D + 1)).argmax()), R.shape)
    single[i] = d + 1
    candidates = [static, single]
    sets = _sets(periods, N, D, K)
    seen: set[tuple[int, ...]] = set()
    for m, allowed in sets:
        if allowed in seen and m != 0:
            continue
        seen.add(allowed)
        pieces = segments(R, allowed)
        candidates += _by_capacity(R, pieces, K)
        if m and m <= K:
            candidates += _guaranteed(pieces, K, m)
    candidates.sort(key=lambda p: -rate_of(R, p))  # stable: the first of equals stays first
    if not local_search:
        return candidates[0]
    if periods == "auto" and N * math.log(D + 1) < math.log(ALL):
        return max(candidates[0], _best_of_all(R, K), key=lambda p: rate_of(R, p))
    distinct = list({tuple(p): p for p in candidates}.values())[: STARTS if N <= SEARCHED else 1]
    return max((_local(R, p, K, price) for p in distinct), key=lambda p: rate_of(R, p))


def _sets(periods: Any, N: int, D: int, K: int) -> list[tuple[int, tuple[int, ...]]]:
    """Period sets to be tried, each with its m; 0 for a set that is no S_m."""
    if isinstance(periods, str):
        as_choice(periods, "periods", ("auto", "pow2"))
        most = min(D, max(8, 2 * math.ceil(math.sqrt(K + 1)))) if periods == "auto" else 1
        tried: Iterable[int] = range(1, most + 1)
        if N * D > LARGE:  # neighbouring sets hardly differ; with so many arms little is lost
            tried = np.unique(np.geomspace(1, most, 8).round().astype(int)).tolist()
        sets = [(m, period_set(m, D)) for m in tried]
        return [*sets, (0, tuple(range(1, D + 1)))] if periods == "auto" else sets
    if isinstance(periods, Sequence | np.ndarray):
        longest = max(LONGEST, 2 * D)
        values = np.asarray(periods).tolist()
        given = [as_int(p, "periods", low=1, high=longest) for p in values]
        if not given or sorted(set(given)) != given:
            raise ValueError("periods must be a rising sequence of whole numbers")
        return [(0, tuple(given))]
    m = as_int(periods, "periods", low=1, high=max(LONGEST, 2 * D))
    return [(m, period_set(m, D))]


def _best_of_all(R: Float[np.ndarray, "N D"], K: int) -> Int[np.ndarray, " N"]:
    """The best timetable of periods up to D that the tree packs, by a look at every one."""
    N, D = R.shape
    rates = np.concatenate([np.zeros((N, 1)), R / np.arange(1, D + 1)], axis=1)
    total = np.zeros(1)
    for row in rates:
        total = (total[:, None] + row).ravel()
    ranked = np.argsort(-total, kind="stable").tolist()
    every = (np.array(np.unravel_index(flat, (D + 1,) * N), dtype=np.int64) for flat in ranked)
    return next(period for period in every if pack(period, K) is not None)


def _by_capacity(R: np.ndarray, pieces: Segments, K: int) -> list[np.ndarray]:
    """The best of all capacities whose periods the tree packs, the fractional arm at either end."""
    found = []
    for shorter in (False, True):
        low, high = 0.0, float(K)
        for step in range(STEPS):
            capacity = high if step == 0 else (low + high) / 2
            solved = relax(pieces, capacity)
            period = solved.period
            if shorter and solved.fractional >= 0:
                period = period.copy()
                period[solved.fractional] = solved.shorter
            if pack(period, K) is not None:
                found.append(period)
                if step == 0:
                    break
                low = capacity
            elif step:
                high = capacity
    return [max(found, key=lambda p: rate_of(R, p))] if found else []


def _guaranteed(pieces: Segments, K: int, m: int) -> list[np.ndarray]:
    """The schedule of the proof: capacity K − m + 1, whole slots for each chain."""
    C = K - m + 1
    solved = relax(pieces, C)
    made = [solved.period]
    if C == 1 and solved.fractional >= 0:
        alone = np.zeros_like(solved.period)
        alone[solved.fractional] = solved.shorter
        made.append(alone)
    kept = []
    for period in made:
        whole = sum(
            math.ceil(sum(1 / int(period[i]) for i in arms) - 1e-9)
            for arms in chains(m, period).values()
        )
        if whole <= K and pack(period, K) is not None:
            kept.append(period)
    return kept


def _local(R: np.ndarray, period: np.ndarray, K: int, price: float) -> np.ndarray:
    """Change one period, then two, while the value rises and the tree packs.

    Most changes that gain overload the slots, Σ 1/d > K, which is seen before packing.
    """
    N, D = R.shape
    shares = np.concatenate([[0.0], 1 / np.arange(1, D + 1)])
    rates = np.concatenate([np.zeros((N, 1)), R], axis=1) * shares
    # Arms whose best net gain at the price is closest to zero are those that could be in or out.
    net = (rates - price * shares).max(axis=1)
    near = np.argsort(np.abs(net), kind="stable")[:SEARCHED] if N > SEARCHED else np.arange(N)
    arms: list[int] = near.tolist()
    pairs = (len(arms) * (D + 1)) ** 2 / 2 <= PAIRS

    def moves(best: np.ndarray) -> Iterable[np.ndarray]:
        """Timetables that earn more and might fit: single changes, then pairs, the best first."""
        used = best > 0
        load = np.divide(1.0, best, out=np.zeros(N), where=used)
        own = np.where(used, R[np.arange(N), np.minimum(best, D) - 1], 0.0) * load
        least = 1e-12 * max(float(own.sum()), 1e-300)
        room = K + 1e-9 - load.sum()
        for i in arms:
            gain, more = rates[i] - own[i], shares - load[i]
            for d in _ranked(gain, (gain > least) & (more <= room)):
                yield _changed(best, [i], [int(d)])
        for a, i in enumerate(arms if pairs else ()):
            for j in arms[a + 1 :]:
                gain = np.add.outer(rates[i] - own[i], rates[j] - own[j])
                more = np.add.outer(shares - load[i], shares - load[j])
                for flat in _ranked(gain, (gain > least) & (more <= room)):
                    yield _changed(best, [i, j], divmod(int(flat), D + 1))

    best = period
    while True:
        better = next((tried for tried in moves(best) if pack(tried, K) is not None), None)
        if better is None:
            return best
        best = better


def _ranked(gain: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Flat places of the gains that are allowed, the largest first."""
    places = np.flatnonzero(allowed)
    return places[np.argsort(-gain.ravel()[places], kind="stable")]


def _changed(best: np.ndarray, arms: Sequence[int], periods: Sequence[int]) -> np.ndarray:
    tried = best.copy()
    tried[arms] = periods
    return tried
