"""Bounds that several methods need: what a sample says about a mean, at every sample size.

All are one-sided or two-sided with the stated failure probability `delta`, proven for every n, and
vectorised. Bonferroni over all that is looked at is :func:`simultaneous_proportions` for counts and
`delta / k` elsewhere.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.intervals import Estimate

__all__ = [
    "azuma",
    "betting",
    "chernoff",
    "empirical_bernstein",
    "hoeffding",
    "simultaneous_proportions",
]

SOON = 20  # steps around which the bound of a martingale is closest to that of one fixed number


def simultaneous_proportions(
    successes: Any, trials: Any, delta: float
) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Clopper-Pearson intervals that cover all mean rates at once with probability at least 1 - delta.

    Trials are independent and may have different rates; the mean of a count's rates is covered. The
    ends are those of Clopper and Pearson, but for one success and for one failure, where unequal
    trials miss a little more often than equal ones and tail / n takes the place of
    1 - (1 - tail)^(1/n). A tail, delta / (2 counts), above 1/4 is taken as 1/4.

    Proof for the upper end U at the tail a <= 1/4 (the lower one is that of the failures). Let S be
    the sum, p its trials' mean rate, B binomial(n, p). If S = s < n - 1 and U(s) < p, then
    P(B <= s) < a <= 1/4. Either p < 1 - 1/n, and P(B <= np) > 1/4 (Greenberg and Mohri 2014), so
    that s <= np - 1; or p >= 1 - 1/n, and s <= n - 2 <= np - 1. Both times P(S <= s) <= P(B <= s) < a
    (Hoeffding 1956, theorem 4). If S = n - 1 and U(n - 1) = 1 - a/n < p, the chance of any failure is
    at most n (1 - p) < a, by the union bound, whatever the single rates. As U grows with s, P(U(S) < p)
    is P(S <= s) for the largest such s, and below a.

    Parameters
    ----------
    successes, trials : array_like of int
        Counts of the same shape; where `trials` is 0 the interval is [0, 1].
    delta : float
        Failure probability of all of them together, shared out equally.

    Returns
    -------
    low, high : ndarray
        Ends of the intervals.

    Raises
    ------
    ValueError
        If a count is negative or exceeds its trials.

    References
    ----------
    W. Hoeffding. On the distribution of the number of successes in independent trials. Annals of
    Mathematical Statistics 1956.
    S. Greenberg, M. Mohri. Tight lower bound on the probability of a binomial exceeding its
    expectation. Statistics and Probability Letters 2014.
    """
    from scipy.special import betaincinv

    hits, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    if (hits < 0).any() or (hits > n).any():
        raise ValueError("successes must lie between 0 and trials")
    tail = min(delta / (2 * max(hits.size, 1)), 0.25)
    with np.errstate(invalid="ignore", divide="ignore"):
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), n - hits + 1, tail), 0.0)
        high = np.where(hits < n, betaincinv(hits + 1, np.maximum(n - hits, 1), 1 - tail), 1.0)
        low = np.where(hits == 1, tail / n, low)
        high = np.where(hits == n - 1, 1 - tail / n, high)
    return low, high


def chernoff(mean: Any, n: Any, delta: float) -> tuple[Any, Any]:
    """Ends of {q : n KL(mean ‖ q) <= ln(2/delta)} for means of n independent values in [0, 1].

    Wider than Clopper-Pearson for counts, and valid where values are not 0 or 1.
    """
    value = np.clip(np.asarray(mean, float), 0.0, 1.0)
    level = np.log(2 / delta) / np.asarray(n, float)

    def divergence(q: np.ndarray) -> np.ndarray:
        from scipy.special import rel_entr

        return rel_entr(value, q) + rel_entr(1 - value, 1 - q)

    ends = []
    for outer in (np.zeros_like(value), np.ones_like(value)):
        inner = value.copy()  # divergence grows from 0 at the mean towards the outer end
        for _ in range(60):
            middle = (inner + outer) / 2
            inside = divergence(middle) <= level
            inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
        ends.append(outer)
    return ends[0], ends[1]


def hoeffding(values: Any, delta: float, *, low: float = 0.0, high: float = 1.0) -> Estimate:
    """Mean of independent values in [low, high] with Hoeffding's two-sided interval."""
    array = _bounded(values, low, high)
    half = (high - low) * math.sqrt(math.log(2 / delta) / (2 * array.size))
    return _around(float(array.mean()), half, delta, array.size, "Hoeffding", low, high)


def empirical_bernstein(
    values: Any, delta: float, *, low: float = 0.0, high: float = 1.0
) -> Estimate:
    """Mean of independent values in [low, high] with Maurer & Pontil's two-sided interval (2009)."""
    array = _bounded(values, low, high)
    n, width = array.size, high - low
    if n < 2:
        return _around(float(array.mean()), width, delta, n, "empirical Bernstein", low, high)
    log = math.log(4 / delta)
    half = math.sqrt(2 * float(array.var(ddof=1)) * log / n) + 7 * width * log / (3 * (n - 1))
    return _around(float(array.mean()), half, delta, n, "empirical Bernstein", low, high)


def betting(
    values: Any, delta: float, *, low: float = 0.0, high: float = 1.0, boldness: float = 0.5
) -> Estimate:
    """Mean of values in [low, high] with the hedged-capital interval.

    Valid for independent values of one mean, and for any sequence whose conditional means agree;
    much narrower than Hoeffding's where the spread is small. The values' order counts: bets are
    laid on earlier values only. `boldness`, below 1, is the largest share of the capital that a bet
    may lose: towards 1 the interval is narrower where the spread is tiny, and wider where it is not.

    References
    ----------
    I. Waudby-Smith, A. Ramdas. Estimating means of bounded random variables by betting. JRSS B 2024.
    """
    array = (_bounded(values, low, high) - low) / (high - low)
    n = array.size
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(array)) / (counts + 1)
    spread = (0.25 + np.cumsum((array - means) ** 2)) / (counts + 1)
    before = np.concatenate(([0.25], spread[:-1]))
    bets = np.sqrt(2 * math.log(2 / delta) / (n * before))
    grid = np.linspace(0.0, 1.0, 1001)
    logs = np.full((2, grid.size), -np.inf)
    for row, (sign, room) in enumerate(((1.0, grid), (-1.0, 1 - grid))):
        capital = np.zeros(grid.size)
        cap = boldness / np.maximum(room, 1e-12)
        for value, bet in zip(array, bets, strict=True):
            capital += np.log1p(np.minimum(bet, cap) * sign * (value - grid))
        logs[row] = capital + math.log(0.5)
    inside = grid[np.maximum(logs[0], logs[1]) < math.log(1 / delta)]
    step = grid[1]
    centre = float(array.mean())
    # The set is an interval; a grid point outside excludes nothing beyond its neighbour inside.
    ends = (
        (inside.min() - step, inside.max() + step)
        if inside.size
        else (centre - step, centre + step)
    )
    bottom, top = max(0.0, min(ends[0], centre)), min(1.0, max(ends[1], centre))
    scale = high - low
    return Estimate(
        low + scale * centre, low + scale * bottom, low + scale * top, 1 - delta, n, "betting"
    )


def azuma(n: float, width: float, delta: float) -> float:
    """How far a martingale strays above 0 whose steps lie, given the past, within `width`.

    Probability at most `delta` for all numbers of steps at once, so that n may depend on them: who can
    stop when it has strayed, or looks after every step, breaks the bound of one fixed n, √(n w²/2 ln 1/δ),
    more often than δ. With S the sum in units of `width`, exp(λS − λ²n/8) is a supermartingale for every
    λ (Hoeffding's lemma), and so is its mean over a normal λ of variance 4/c, √(c/(n + c)) exp(2S²/(n +
    c)) (Robbins 1970), which exceeds 1/δ at any n with probability at most δ (Ville).
    """
    if n <= 0:
        return 0.0
    log = 2 * math.log(1 / delta) + math.log1p(n / SOON)
    return width * math.sqrt((n + SOON) / 4 * log)


def _bounded(values: Any, low: float, high: float) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise ValueError("values must hold at least one value")
    if not (np.isfinite(array).all() and low <= array.min() and array.max() <= high):
        raise ValueError(f"values must lie in [{low:g}, {high:g}]")
    return array


def _around(
    centre: float, half: float, delta: float, n: int, method: str, low: float, high: float
) -> Estimate:
    return Estimate(centre, max(low, centre - half), min(high, centre + half), 1 - delta, n, method)
