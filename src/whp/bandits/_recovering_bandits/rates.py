"""What a pull is worth at what rate: concave envelopes and the linear program over them.

A pull of an arm with gap d uses d of its periods and pays R(d). F is the least concave function above
(0, 0) and all (1/d, R(d)/d), cut at its maximum; the largest ΣF_i(x_i) with Σx_i ≤ K bounds what any
policy earns in the long run, since its gaps are a mixture of such points (docs: upper-bound).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from whp.kernel import compiled

__all__ = ["Relaxation", "a_priori_ratio", "period_set", "relax", "segments"]


def a_priori_ratio(K: int) -> float:
    """γ_K, a share of the bound that is certain beforehand, ≈ 1 − 2/√K; a quarter for K = 1."""
    return max([m * (K - m) / ((m + 1) * K) for m in range(1, K)], default=0.25) if K > 1 else 0.25


def period_set(m: int, D: int) -> tuple[int, ...]:
    """S_m: all j·2^l with m ≤ j < 2m, l any integer, up to D, or beyond it the next.

    Every d has one in [d, d(m + 1)/m).
    """
    found = set(range(1, min(2 * m, 2 * D + 1)))
    for j in range(m, 2 * m):
        p = j
        while p <= 2 * D:
            found.add(p)
            p *= 2
    return tuple(sorted(p for p in found if p <= D or not any(q >= D for q in found if q < p)))


@compiled
def _segments(R, periods, slope, length, low, high, arm):
    """Concave envelopes by one monotone chain an arm, from the longest period on; how many pieces.

    Periods whose point lies on a piece part it, so that each of them can be chosen.
    """
    N, D = R.shape
    count = 0
    X, Y = np.empty(len(periods) + 1), np.empty(len(periods) + 1)
    P = np.empty(len(periods) + 1, np.int64)
    for i in range(N):
        top = 1
        X[0], Y[0], P[0] = 0.0, 0.0, 0
        for k in range(len(periods) - 1, -1, -1):
            d = periods[k]
            x, y = 1.0 / d, R[i, min(d, D) - 1] / d
            if y <= Y[top - 1]:  # pays no more for more of the budget
                continue
            while top >= 2 and (Y[top - 1] - Y[top - 2]) * (x - X[top - 1]) <= (y - Y[top - 1]) * (
                X[top - 1] - X[top - 2]
            ):
                top -= 1
            X[top], Y[top], P[top] = x, y, d
            top += 1
        tested = len(periods) - 1
        for k in range(1, top):
            rise = (Y[k] - Y[k - 1]) / (X[k] - X[k - 1])
            last, at = P[k - 1], X[k - 1]
            while periods[tested] >= P[k]:
                d = periods[tested]
                tested -= 1
                x = 1.0 / d
                on = R[i, min(d, D) - 1] / d >= Y[k] - rise * (X[k] - x) - 1e-12 * Y[top - 1]
                if x > X[k - 1] and (d == P[k] or on):
                    slope[count], length[count] = rise, x - at
                    low[count], high[count], arm[count] = last, d, i
                    last, at = d, x
                    count += 1
                if tested < 0:
                    break
    return count


@dataclass(frozen=True, eq=False)
class Segments:
    """Pieces of all envelopes, the steepest first; those of one arm in their order."""

    slope: Float[np.ndarray, " n"]
    length: Float[np.ndarray, " n"]
    low: Int[np.ndarray, " n"]
    high: Int[np.ndarray, " n"]
    arm: Int[np.ndarray, " n"]
    arms: int


def segments(R: Float[np.ndarray, "N D"], periods: Sequence[int]) -> Segments:
    """Envelopes over the given periods."""
    given = np.asarray(periods, dtype=np.int64)
    size = len(R) * len(given)
    slope, length = np.empty(size), np.empty(size)
    low, high, arm = (np.empty(size, np.int64) for _ in range(3))
    n = _segments(np.ascontiguousarray(R), given, slope, length, low, high, arm)
    order = np.argsort(-slope[:n], kind="stable")
    return Segments(slope[order], length[order], low[order], high[order], arm[order], len(R))


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Optimum of the linear program.

    Attributes
    ----------
    value : float
        UB: no policy earns more a period in the long run.
    period : ndarray, shape (N,)
        Whole period of each arm, 0 for never; the fractional arm at its longer one.
    fractional : int
        The one arm that stops inside a segment, −1 if there is none.
    shorter : int
        The period that it was on its way to.
    price : float
        λ: what one more slot is worth.
    """

    value: float
    period: Int[np.ndarray, " N"]
    fractional: int
    shorter: int
    price: float


@compiled
def _take(slope, length, low, high, arm, capacity, period):
    value, used = 0.0, 0.0
    for k in range(len(slope)):
        if used + length[k] <= capacity * (1 + 1e-15):
            used += length[k]
            value += slope[k] * length[k]
            period[arm[k]] = high[k]
        else:
            value += slope[k] * (capacity - used)
            return value, k
    return value, -1


def relax(pieces: Segments, capacity: float) -> Relaxation:
    """Fill the capacity with the steepest pieces: the optimum, as envelopes are concave."""
    period = np.zeros(pieces.arms, dtype=np.int64)
    value, k = _take(
        pieces.slope, pieces.length, pieces.low, pieces.high, pieces.arm, capacity, period
    )
    if k < 0:
        return Relaxation(float(value), period, -1, 0, 0.0)
    left = capacity - float(pieces.length[:k].sum())
    if left <= 1e-12 * max(1.0, capacity):
        return Relaxation(float(value), period, -1, 0, float(pieces.slope[k]))
    return Relaxation(
        float(value), period, int(pieces.arm[k]), int(pieces.high[k]), float(pieces.slope[k])
    )


def chains(m: int, periods: Int[np.ndarray, " N"]) -> dict[int, list[int]]:
    """Arms by the chain j·2^l of their period; within a chain each period divides the next."""
    found: dict[int, list[int]] = {}
    for i, p in enumerate(periods.tolist()):
        if p:
            odd = p
            while odd % 2 == 0:
                odd //= 2
            # Every period has one j in m…2m − 1 (or lies below m, and doubles into it).
            j = odd * 2 ** max(0, math.ceil(math.log2(m / odd)))
            found.setdefault(j, []).append(i)
    return found
