"""Error bounds that hold at all times at once, and the plan that makes them smallest without a look at the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from whp.privacy._dp_continual_release.budget import Budget
from whp.validate import as_choice, as_fraction, as_int

__all__ = [
    "QUERIES",
    "STRATEGIES",
    "Alternative",
    "ReleasePlan",
    "levels",
    "over_epochs",
    "plan_release",
    "root_above",
    "square_root",
]

Query = Literal["counts", "maxsum", "sumselect"]
Strategy = Literal["auto", "recompute", "tree", "sqrt", "naive"]
Neighbours = Literal["replace", "add-remove"]
QUERIES = ("counts", "maxsum", "sumselect")
STRATEGIES = ("recompute", "tree", "sqrt", "naive")
LONGEST = 10**9  # records of a stream that is planned
ROOM = 5 * 10**7  # entries that the square-root factorisation may hold
# A larger scale leaves rounded coefficients too few binary places for the bound to be theirs.
COARSE = 2**13
ROUNDING = 2.0**-40  # of an answer of the square-root factorisation, for each record


def levels(T: int) -> int:
    """Levels h = ⌊log₂ T⌋ + 1 of the tree: the number of nodes that a record lies in."""
    return T.bit_length()


def square_root(T: int) -> Float[np.ndarray, " T"]:
    """First T coefficients of (1 − x)^{−1/2}: the matrix of all prefix sums is the square of their Toeplitz matrix."""
    k = np.arange(1, T)
    return np.concatenate([[1.0], np.cumprod((2 * k - 1) / (2 * k))])


def sensitivity(d: int, max_ones: int | None, neighbours: str) -> int:
    """Entries of a row that a neighbouring stream can change: squared ℓ₂ and ℓ₁ sensitivity of a row of zeros and ones."""
    ones = d if max_ones is None else max_ones
    return min(d, 2 * ones) if neighbours == "replace" else min(d, ones)


@dataclass(frozen=True)
class Alternative:
    """One way to spend the budget.

    Attributes
    ----------
    strategy : str
    period : int
        Records between two releases of "recompute"; 1 for the others.
    scale : Fraction
        σ of the discrete Gaussian noise, scale of the discrete Laplace noise; for "sumselect" by recompute the ε′ of each
        selection.
    bound : float
        On the largest error at any time, with probability 1 − β.
    """

    strategy: str
    period: int
    scale: Fraction
    bound: float


@dataclass(frozen=True)
class ReleasePlan:
    """What will be released, decided from public numbers alone.

    Attributes
    ----------
    query, strategy, neighbours : str
    T, d : int
        Longest stream and columns.
    budget : Budget
    period : int
        Records between releases.
    scale : Fraction
        Of the noise, see :class:`Alternative`.
    bound : float
        On the largest error at any time, with probability 1 − `beta`.
    sensitivity : int
        Entries of a row in which neighbouring streams differ.
    alternatives : tuple of Alternative
        Every strategy that there is, best first.
    """

    query: str
    strategy: str
    T: int
    d: int
    budget: Budget
    period: int
    scale: Fraction
    bound: float
    beta: float
    sensitivity: int
    max_ones: int | None
    neighbours: str
    column_seed: int = 0
    alternatives: tuple[Alternative, ...] = field(default=(), repr=False)

    @property
    def releases(self) -> int:
        """Releases of "recompute"."""
        return self.T // self.period


def plan_release(
    query: Query,
    T: int,
    d: int = 1,
    *,
    rho: float | None = None,
    epsilon: float | None = None,
    delta: float | None = None,
    strategy: Strategy = "auto",
    max_ones: int | None = None,
    neighbours: Neighbours = "replace",
    beta: float = 0.05,
) -> ReleasePlan:
    """The strategy with the smallest error bound, from public numbers alone.

    Parameters
    ----------
    query : {"counts", "maxsum", "sumselect"}
        All running counts, the largest one, or which column leads.
    T, d : int
        Longest stream, and columns.
    rho, epsilon, delta : float, optional
        Budget of the whole stream: `rho` of zCDP; or `epsilon` with `delta`, zero for pure differential privacy.
    strategy : {"auto", "recompute", "tree", "sqrt", "naive"}
        Recompute the answer every r records; a binary tree of partial sums; the square-root factorisation; fresh noise.
    max_ones : int, optional
        Ones that a row may have; rows with more are cut. By default all of them.
    neighbours : {"replace", "add-remove"}
        Whether a neighbouring stream has one record replaced, or a row of zeros in the place of one ("add-remove").
    beta : float
        Probability with which the error bound may be broken.

    Returns
    -------
    ReleasePlan

    Raises
    ------
    ValueError
        If a number is out of range, or the strategy does not exist for the query.
    """
    as_choice(query, "query", QUERIES)
    as_choice(strategy, "strategy", ("auto", *STRATEGIES))
    as_choice(neighbours, "neighbours", ("replace", "add-remove"))
    T, d = as_int(T, "T", low=1, high=LONGEST), as_int(d, "d", low=1, high=10**7)
    beta = as_fraction(beta, "beta")
    ones = None if max_ones is None else as_int(max_ones, "max_ones", low=1, high=d)
    budget = Budget.of(rho, epsilon, delta)
    plan = planned(query, T, d, budget, strategy, ones, neighbours, beta)
    if plan.strategy == "sqrt" and plan.scale > COARSE:
        raise ValueError(
            f"strategy must be 'tree' with so small a budget: of {budget} 'sqrt' makes noise of scale "
            f"{float(plan.scale):.3g}, above {COARSE}"
        )
    return plan


def planned(
    query: str,
    T: int,
    d: int,
    budget: Budget,
    strategy: str,
    max_ones: int | None,
    neighbours: str,
    beta: float,
    period: int | None = None,
) -> ReleasePlan:
    """:func:`plan_release` with checked arguments, and the period of "recompute" where it is given."""
    changed = sensitivity(d, max_ones, neighbours)
    made: list[Alternative] = []
    if query != "counts":
        made.append(_recompute(query, T, d, budget, beta, period))
    for name in ("tree", "sqrt", "naive"):
        if name == "sqrt" and (budget.pure or (T * d > ROOM and strategy != "sqrt")):
            continue  # no ℓ₁ version; and it holds the whole stream
        counts = _counts(name, query, T, d, budget, changed, beta)
        if name != "sqrt" or strategy == "sqrt" or counts.scale <= COARSE:
            made.append(counts)
    made.sort(key=lambda a: a.bound)
    chosen = (
        made[0] if strategy == "auto" else next((a for a in made if a.strategy == strategy), None)
    )
    if chosen is None:
        there = ", ".join(a.strategy for a in made)
        raise ValueError(
            f"strategy must be one of auto, {there} for {query} with {budget}, got {strategy!r}"
        )
    return ReleasePlan(
        query,
        chosen.strategy,
        T,
        d,
        budget,
        chosen.period,
        chosen.scale,
        chosen.bound,
        beta,
        changed,
        max_ones,
        neighbours,
        alternatives=tuple(made),
    )


def root_above(value: Fraction) -> Fraction:
    """A fraction not below the square root, and above it by a part in 2⁴⁰ at most."""
    places = 1 << max(
        0, 40 - max(value.numerator.bit_length() - value.denominator.bit_length(), 0) // 2
    )
    return Fraction(math.isqrt(math.ceil(value * places * places)) + 1, places)


def _counts(
    name: str, query: str, T: int, d: int, budget: Budget, changed: int, beta: float
) -> Alternative:
    """Noisy counts: scale of the noise, and the bound on the worst of them."""
    h = levels(T)
    if budget.pure:
        assert budget.epsilon is not None
        scale = Fraction((h if name == "tree" else T) * changed) / budget.epsilon
        terms = np.arange(1, h + 1) if name == "tree" else np.ones(1, dtype=int)
        count = _popcounts(T) if name == "tree" else np.array([T])
        bound = _laplace_bound(float(scale), terms, count, d, beta)
    else:
        assert budget.rho is not None
        if name == "sqrt":  # holds T numbers, and the others none
            squares = square_root(T) ** 2
            nodes = Fraction(float(squares.sum()))
            size, count = np.cumsum(squares), np.ones(T)
        elif name == "tree":
            nodes, size, count = Fraction(h), np.arange(1.0, h + 1), _popcounts(T)
        else:
            nodes, size, count = Fraction(T), np.ones(1), np.array([T])
        scale = root_above(nodes * changed / (2 * budget.rho))
        bound = _gaussian_bound(float(scale) ** 2 * size, count, d, beta)
    if name == "sqrt":  # transforms in doubles, whose answers are off by less
        bound += T * ROUNDING
    return Alternative(name, 1, scale, 2 * bound if query == "sumselect" else bound)


def over_epochs(plans: Sequence[ReleasePlan]) -> float:
    """Bound on the largest error over epochs that followed each other, the running one last.

    Noisy counts carry the last total along, so that errors add. A recomputed answer outlives its epoch: until the first
    release of the next one it is stale by what was left over of its own epoch and by r − 1 records of the next.
    """
    if plans[0].strategy != "recompute":
        return sum(p.bound for p in plans)
    stale = 1.0 if plans[0].query == "sumselect" else 0.5  # MaxSum answers in the middle
    worst = max(p.bound for p in plans)
    for old, new in pairwise(plans):
        noise = old.bound - stale * (old.period - 1)
        worst = max(worst, noise + stale * (old.T % old.period + new.period - 1))
    return worst


def _popcounts(T: int) -> Int[np.ndarray, " h"]:
    """How many of 1…T have 1, 2, …, h binary digits that are set."""
    counts = np.zeros(levels(T) + 1, dtype=np.int64)
    above = 0
    for place in reversed(range(levels(T))):
        if T >> place & 1:
            for k in range(place + 1):
                counts[above + k] += math.comb(place, k)
            above += 1
    counts[above] += 1
    return counts[1:]


def _least(tail: Callable[[float], float], top: float, beta: float) -> float:
    """The smallest x with tail(x) ≤ β, tail falling."""
    low, high = 0.0, top
    while tail(high) > beta:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if tail(middle) > beta else (low, middle)
    return high


def _gaussian_bound(
    variance: Float[np.ndarray, " m"], count: np.ndarray, d: int, beta: float
) -> float:
    """Smallest x with Σ 2d exp(−x²/(2v)) ≤ β: discrete Gaussians are as sub-Gaussian as continuous ones."""

    def tail(x: float) -> float:
        return float(2 * d * (count * np.exp(-x * x / (2 * variance))).sum())

    return _least(tail, math.sqrt(float(variance.max())), beta)


def _laplace_bound(
    scale: float, terms: np.ndarray, count: np.ndarray, d: int, beta: float
) -> float:
    """Chernoff: P(|Σ of m| > x) ≤ 2 min over λ < 1/s of (1 − λ²s²)^{−m} exp(−λx), at its stationary point."""

    def tail(x: float) -> float:
        y, m = x / scale, terms.astype(float)
        lam = (np.sqrt(m * m + y * y) - m) / max(y, 1e-300)
        return float(2 * d * (count * np.exp(-m * np.log1p(-lam * lam) - lam * y)).sum())

    return _least(tail, scale, beta)


def _recompute(
    query: str, T: int, d: int, budget: Budget, beta: float, period: int | None
) -> Alternative:
    """Every period that can be best: the shortest one for each number of releases."""
    small = np.arange(1, math.isqrt(T) + 1)
    periods = np.unique(np.concatenate([small, T // small, T // (small + 1) + 1]))
    periods = np.array([float(period)]) if period else periods[periods <= T].astype(np.float64)
    k = np.floor(T / periods)
    b = budget.size
    if query == "maxsum":
        log = np.log(2 * k / beta)
        if budget.pure:
            noise = k / b * np.log(2 * k / (beta * (1 + np.exp(-b / k))))
        else:
            noise = np.sqrt(k / b * log)
        bounds = (periods - 1) / 2 + noise
    else:
        each = b / k if budget.pure else np.sqrt(8 * b / k)
        bounds = periods - 1 + 2 / each * (math.log(d) + np.log(k / beta))
    best = int(bounds.argmin())
    every = int(periods[best])
    n = T // every
    if query == "sumselect":
        if budget.pure:
            scale = budget.epsilon / n  # type: ignore[operator]
        else:  # ε′ rounded down: 8ρ/k ≥ ε′²
            scale = Fraction(math.isqrt(math.floor(8 * budget.rho / n * (1 << 80))), 1 << 40)  # type: ignore[operator]
    else:
        scale = n / budget.epsilon if budget.pure else root_above(n / (2 * budget.rho))  # type: ignore[operator]
    return Alternative("recompute", every, Fraction(scale), float(bounds[best]))
