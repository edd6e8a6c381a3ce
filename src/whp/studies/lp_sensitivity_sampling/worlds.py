"""Runs whose distortion and optimum are known, honest and broken.

The distortion is known where it is a ratio (one column), an eigenvalue (p = 2), or taken at one of
n directions (p = 1 and two columns); optima come from a linear program on centred data, from
Newton's method in extended precision, or from rational arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.linalg as sl
from scipy.optimize import linprog

from whp.certificate import Certificate
from whp.experiment.worlds import Instance, Worlds
from whp.linalg import LpCoreset, certify, leverage_scores, lewis_weights, lp_sensitivity_sampling
from whp.linalg._lp_sensitivity_sampling import theorems as t

__all__ = ["worlds"]

worlds = Worlds("lp-sensitivity-sampling", t.THEOREMS)
HERE = "whp.linalg._lp_sensitivity_sampling"
EQUAL = 1e-9  # truths that differ by less, relative, are one
Rng = np.random.Generator
Array = np.ndarray


# What is true


def distortion(M: Array, index: Array, xi: Array, p: float) -> float | None:
    """The largest relative error over all directions; None where nobody knows it."""
    d = M.shape[1]
    if p == 2:
        kept = M[index] * np.sqrt(xi)[:, None]
        values = sl.eigh(kept.T @ kept, M.T @ M, eigvals_only=True)
        return float(np.abs(values - 1).max())
    if d == 1:
        X = np.ones((1, 1))
    elif d == 2 and p == 1:
        X = np.array([-M[:, 1], M[:, 0]])
    else:
        return None
    full, part = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    weight = np.bincount(index, xi, len(M))
    for i in range(0, len(M), 256):
        sizes = np.abs(M[i : i + 256] @ X) ** p
        full += sizes.sum(axis=0)
        part += weight[i : i + 256] @ sizes
    return float(np.abs(part / full - 1).max())


def costs(r: Array, p: float, q: float | None) -> Any:
    """Cost of residuals, in their own arithmetic."""
    if q is not None:
        return (np.where(r > 0, 2 * q, 2 * (q - 1)) * r).sum()
    return (np.abs(r) ** p).sum()


def least(A: Array, b: Array, p: float, q: float | None) -> float:
    """The optimum, of b of order one."""
    x = np.linalg.lstsq(A, b)[0]
    if p == 1:
        r, level = b - A @ x, 0.5 if q is None else q
        size = float(np.median(np.abs(r))) or 1.0
        norms = np.linalg.norm(A, axis=0) / math.sqrt(len(A))
        found = linprog(
            -r / size,
            A_eq=(A / norms).T,
            b_eq=np.zeros(A.shape[1]),
            bounds=(2 * (level - 1), 2 * level),
            method="highs",
        )
        return -float(found.fun) * size
    if p == 2:
        return float(costs(b - A @ x, p, q))
    wide, right, x = A.astype(np.longdouble), b.astype(np.longdouble), x.astype(np.longdouble)
    powers = [p] if 1.2 < p < 8 else [*(v for v in (4.0, 16.0) if v < p), p]
    for power in powers:
        before = math.inf
        for _ in range(200):
            r = right - wide @ x
            unit = np.abs(r).max()
            size = np.abs(r / unit)
            floor = max(1e-7, 10 ** (-200 / power))
            curve = (np.maximum(size, floor) ** (power - 2)).astype(float)
            slope = (size ** (power - 1) * np.sign(r)).astype(float)
            step = np.linalg.lstsq(A * np.sqrt(curve)[:, None], slope / np.sqrt(curve))[0]
            along = step.astype(np.longdouble) * unit / (power - 1)
            now, best = min(
                (costs((right - wide @ (x + s * along)) / unit, power, None), s)
                for s in (0.0, 0.03, 0.3, 1.0, power - 1)
            )
            now = float(np.log(now) + power * np.log(unit))
            x = x + best * along
            if best == 0 or before - now < 1e-13:
                break
            before = now
    return float(costs(right - wide @ x, p, q))


def least_of_fractions(A: Array, b: Array) -> Any:
    """The least sum of squares, by Gaussian elimination of the normal equations."""
    rows = np.array([[Fraction(v) for v in row] for row in np.column_stack([A, b]).tolist()])
    gram, d = rows.T @ rows, A.shape[1]
    for i in range(d):
        for j in range(i + 1, d + 1):
            gram[j] = gram[j] - gram[j, i] / gram[i, i] * gram[i]
    return gram[d, d]


@dataclass(frozen=True)
class Regression:
    """A regression whose optimum is known."""

    A: Array
    b: Array
    p: float
    q: float | None = None
    rational: bool = False
    centre: float = 0.0  # what an intercept, the first column, takes out of b exactly
    unit: float = 1.0  # a factor of b, kept out of all powers

    def judge(self, result: LpCoreset) -> dict[str, bool | None]:
        """Whether the optimum is where the user is told, and the cost what is promised of it."""
        x = result.x
        assert x is not None
        if self.rational:
            left = np.array([Fraction(v) for v in self.b.tolist()])
            for j, value in enumerate(x.tolist()):
                left = left - np.array([Fraction(v) for v in self.A[:, j].tolist()]) * Fraction(
                    value
                )
            cost, best, unit = (left * left).sum(), least_of_fractions(self.A, self.b), 1.0
        else:
            unit = self.unit
            wide = self.A.astype(np.longdouble) @ x.astype(np.longdouble)
            cost = costs((self.b.astype(np.longdouble) - wide) / unit, self.p, self.q)
            best = least(self.A, (self.b - self.centre) / unit, self.p, self.q)
            if self.q is not None:
                cost, best = cost / 2, best / 2
        slack = 0 if self.rational else EQUAL
        promised = {c.name: c for c in result.certificates}
        assert result.gap is not None
        assert result.lower_bound is not None
        gap, lower = result.gap, result.lower_bound
        if unit != 1:  # in units of b powers of it may overflow: take roots
            lower = 0.0 if lower == 0 else math.exp(math.log(lower) - self.p * math.log(unit))
        valid = math.isinf(gap) or cost <= (1 + gap) * best * (1 + slack)
        valid = valid and (math.isinf(lower) or lower <= best * (1 + slack))
        demand = promised["optimality-gap"].bound
        met = bool(cost <= demand * best * (1 + slack))
        bound = promised["regression-cost"].bound
        return {
            # An unmet demand is no promise: only what duality proves is.
            "optimality-gap": (True if met else None) if valid else False,
            "regression-cost": math.isinf(bound) or bool(cost <= bound * best * (1 + slack)),
        }


def embedded(
    certificates: Sequence[Certificate], M: Array, index: Array, xi: Array, p: float
) -> dict[str, bool | None]:
    """Whether the rows preserve all norms as well as promised."""
    off = distortion(M, index, xi, p)
    return {
        c.name: None if off is None else off <= c.bound + 1e-12
        for c in certificates
        if c.name in ("subspace-embedding", "sharp-rate")
    }


def run(A: Array, rng: Rng, b: Array | None = None, p: float = 1.0, **given: Any) -> Instance:
    """A run of the front door, its coins from a stream of its own."""
    known = {k: given.pop(k) for k in ("rational", "centre", "unit") if k in given}
    arguments = {"A": A, "b": b, "p": p, "rng": int(rng.integers(1 << 32)), **given}
    M = (
        A
        if b is None
        else np.column_stack([A, (b - known.get("centre", 0)) / known.get("unit", 1)])
    )
    problem = None if b is None else Regression(A, b, p, given.get("quantile"), **known)

    def truths(result: LpCoreset) -> Mapping[str, bool | None]:
        judged = {} if problem is None else problem.judge(result)
        if known.get("rational"):
            return judged
        return judged | embedded(result.certificates, M, result.index, result.xi, p)

    return Instance(arguments, truths)


def regression(rng: Rng, n: int, d: int = 5, tail: float = 3.0) -> tuple[Array, Array]:
    """Intercept and d − 1 normal columns, Student noise."""
    A = np.column_stack([np.ones(n), rng.standard_normal((n, d - 1))])
    return A, A @ np.arange(1.0, d + 1) + rng.standard_t(tail, n)


# Honest worlds


@worlds.world(run=lp_sensitivity_sampling, strengths=(1, 1.5, 2, 3))
def ordinary(rng: Rng, strength: float) -> Instance:
    """Intercept and 4 columns, t₃ noise, 3,000 rows, 1,000 kept, p as the strength says."""
    A, b = regression(rng, 3000)
    return run(A, rng, b, p=strength, rows=1000)


@worlds.world(run=lp_sensitivity_sampling, strengths=(200, 1000))
def equal_rows_squared(rng: Rng, strength: float) -> Instance:
    """One column, all entries equal, so many of 5,000 rows, p = 2: matrix Chernoff without room."""
    return run(np.ones((5000, 1)), rng, p=2.0, rows=int(strength))


@worlds.world(run=lp_sensitivity_sampling, strengths=(5000, 200))
def equal_rows_absolute(rng: Rng, strength: float) -> Instance:
    """One column, all entries equal, so many of 20,000 rows, p = 1: the net without room."""
    return run(np.ones((20000, 1)), rng, rows=int(strength))


@worlds.world(run=lp_sensitivity_sampling, strengths=(200, 600))
def lognormal_column(rng: Rng, strength: float) -> Instance:
    """One lognormal column, 4,000 rows, p = 2."""
    return run(rng.lognormal(0, 1.5, (4000, 1)), rng, p=2.0, rows=int(strength))


@worlds.world(run=lp_sensitivity_sampling, strengths=(0, 1, 2, 3))
def heavy_design(rng: Rng, strength: float) -> Instance:
    """t₁.₅ design of 3,000×3, 400 rows, p = 2, by each of four scores.

    Lewis weights, sensitivities, root leverage in rounds, all alike (0 to 3).
    """
    scores = ("lewis", "sensitivity", "root-leverage", "uniform")[int(strength)]
    A = rng.standard_t(1.5, (3000, 3))
    return run(A, rng, p=2.0, rows=400, scores=scores)


@worlds.world(run=lp_sensitivity_sampling, strengths=(1.5, 1, 3))
def two_heavy_columns(rng: Rng, strength: float) -> Instance:
    """Student design of 1,500×2 with so many degrees of freedom, 600 rows, p = 1."""
    return run(rng.standard_t(strength, (1500, 2)), rng, rows=600)


@worlds.world(run=lp_sensitivity_sampling, strengths=(1, 1.5, 2, 3))
def all_rows_kept(rng: Rng, strength: float) -> Instance:
    """A small file, 300×4, p as the strength says: nothing is sampled."""
    A, b = regression(rng, 300, 4)
    return run(A, rng, b, p=strength)


@worlds.world(run=lp_sensitivity_sampling, strengths=(0, 1, 2, 3))
def units(rng: Rng, strength: float) -> Instance:
    """b × 10⁻⁸ at p = 2 and 64, × 10⁶ at 64, × 10¹⁰⁰ at 16; 100 of 300 rows."""
    unit, p = ((1e-8, 2.0), (1e-8, 64.0), (1e6, 64.0), (1e100, 16.0))[int(strength)]
    A, b = regression(rng, 300, 4)
    return run(A, rng, b * unit, p=p, rows=100, unit=unit)


@worlds.world(run=lp_sensitivity_sampling, strengths=(1e6, 1e9, 1e11))
def offset(rng: Rng, strength: float) -> Instance:
    """Least absolute deviations of b plus a constant, an intercept there, 400 of 1,500 rows."""
    A, b = regression(rng, 1500, 4)
    return run(A, rng, b + strength, rows=400, centre=strength)


@worlds.world(run=lp_sensitivity_sampling, strengths=(0, 1))
def offset_of_squares(rng: Rng, strength: float) -> Instance:
    """Sum of squares, 50×3, b + 10¹² with noise of 1, b + 10¹⁰ with noise of .01."""
    size, noise = ((1e12, 1.0), (1e10, 0.01))[int(strength)]
    A, b = regression(rng, 50, 3)
    return run(A, rng, b * noise + size, p=2.0, rational=True)


@worlds.world(run=lp_sensitivity_sampling, strengths=(1e6, 1e8))
def outlier(rng: Rng, strength: float) -> Instance:
    """One entry of b is so large, 500 of 2,000 rows, p = 1."""
    A, b = regression(rng, 2000, 4)
    b[rng.integers(2000)] = strength
    return run(A, rng, b, rows=500)


@worlds.world(run=lp_sensitivity_sampling, strengths=(0.5, 0.9))
def counts(rng: Rng, strength: float) -> Instance:
    """Visits, mostly none: the median and the .9 quantile, 500 of 2,000 rows."""
    A, _ = regression(rng, 2000, 4)
    b = rng.poisson(np.exp(-1.5 + 0.5 * A[:, 1])).astype(float)
    return run(A, rng, b, quantile=strength, rows=500)


@worlds.world(run=lp_sensitivity_sampling, strengths=(0.5, 0.75, 0.9))
def rounded(rng: Rng, strength: float) -> Instance:
    """Whole numbers on both sides, so that residuals of zero abound: 600 of 2,000 rows."""
    A = np.column_stack([np.ones(2000), rng.integers(0, 3, (2000, 3))]).astype(float)
    b = np.round(A.sum(axis=1) + rng.standard_t(3, 2000))
    return run(A, rng, b, quantile=strength, rows=600)


@worlds.world(run=lp_sensitivity_sampling, strengths=(0, 1, 2))
def one_seed_for_all(rng: Rng, strength: float) -> Instance:
    """A column drawn from the seed that is then given as rng=, 1,000 of 4,000×2 rows, p = 2.

    Uniform, exponential or normal (0 to 2).
    """
    seed = int(rng.integers(1 << 32))
    data = np.random.default_rng(seed)
    kind = (data.random, data.exponential, data.standard_normal)[int(strength)]
    A = np.column_stack([np.ones(4000), kind(size=4000)])
    given = {"A": A, "p": 2.0, "rows": 1000, "rng": seed}
    return Instance(given, lambda r: embedded(r.certificates, A, r.index, r.xi, 2.0))


# Broken worlds


def drawn(
    rng: Rng, A: Array, rows: int, p: float, q: Array | None = None
) -> tuple[Array, Array, Array]:
    """A draw by Lewis weights, with coins of this world's own: rows, weights, probabilities."""
    w = lewis_weights(A, p, tol=1e-3).one_sided
    rates: Array = np.minimum(1, w * rows / w.sum()) if q is None else q
    index = np.flatnonzero(rng.random(len(A)) < rates)
    return index, 1 / rates[index], rates


def stated(A: Array, index: Array, xi: Array, q: Array, p: float = 2.0, **more: Any) -> Instance:
    """A run of certify on rows that somebody drew."""
    given = {"A": A, "index": index, "xi": xi, "p": p, "probabilities": q, **more}
    return Instance(given, lambda made: embedded(made, A, index, xi, p))


def design(rng: Rng, heavy: bool = True) -> Array:
    """3,000×3, Student t₁.₅ or normal."""
    return rng.standard_t(1.5, (3000, 3)) if heavy else rng.standard_normal((3000, 3))


@worlds.world(run=certify, strengths=(0, 1))
def drawn_elsewhere(rng: Rng, strength: float) -> Instance:
    """An honest draw of 600 of 3,000×3 handed over, normal or heavy; p = 2."""
    A = design(rng, bool(strength))
    return stated(A, *drawn(rng, A, 600, 2.0))


@worlds.world(run=certify, breaks=t.WEIGHTS, strengths=(1.2, 1.05, 1 + 1e-6), broken_from=1 + 1e-6)
def weights_scaled(rng: Rng, strength: float) -> Instance:
    """All weights times a factor."""
    A = design(rng, False)
    index, xi, q = drawn(rng, A, 600, 2.0)
    return stated(A, index, xi * strength, q)


@worlds.world(run=certify, breaks=t.WEIGHTS, strengths=(0, 1))
def weights_of_habit(rng: Rng, strength: float) -> Instance:
    """Weights scaled to mean 1, as sample weights are; or n/m for every row."""
    A = design(rng)
    index, xi, q = drawn(rng, A, 600, 2.0)
    xi = np.full(len(index), 3000 / len(index)) if strength else xi / xi.mean()
    return stated(A, index, xi, q)


@worlds.world(run=certify, breaks=t.COINS, strengths=(5, 1))
def outliers_deleted(rng: Rng, strength: float) -> Instance:
    """The largest rows of a heavy design are deleted from the coreset afterwards."""
    A = design(rng)
    index, xi, q = drawn(rng, A, 600, 2.0)
    keep = np.sort(np.argsort(-(xi**-1) * (A[index] ** 2).sum(axis=1))[int(strength) :])
    return stated(A, index[keep], xi[keep], q)


@worlds.world(run=certify, breaks=t.COINS)
def bootstrapped(rng: Rng, strength: float) -> Instance:
    """The coreset's rows drawn once more, with replacement."""
    A = design(rng)
    index, xi, q = drawn(rng, A, 600, 2.0)
    again = rng.integers(len(index), size=len(index))
    return stated(A, index[again], xi[again], q)


@worlds.world(run=certify, breaks=t.COINS, strengths=(50, 10, 3, 2), broken_from=10)
def shared_coins(rng: Rng, strength: float) -> Instance:
    """One coin for so many rows that are neighbours in the order of the first column."""
    A = design(rng, False)
    run_of = np.empty(len(A), int)
    run_of[np.argsort(A[:, 0])] = np.arange(len(A)) // int(strength)
    index = np.flatnonzero(rng.random(len(A))[run_of] < 0.2)
    return stated(A, index, np.full(len(index), 5.0), np.full(len(A), 0.2))


@worlds.world(run=certify, breaks=t.COINS, strengths=(200, 100, 50), broken_from=50)
def whole_groups(rng: Rng, strength: float) -> Instance:
    """One coin for every group of so many of 6,000 rows, its number the sixth column; p = 2."""
    group = rng.permutation(6000) // int(strength)
    A = np.column_stack([rng.standard_normal((6000, 5)), 1 + group / group.max()])
    index = np.flatnonzero(rng.random(group.max() + 1)[group] < 0.3)
    return stated(A, index, np.full(len(index), 1 / 0.3), np.full(6000, 0.3))


@worlds.world(run=certify, breaks=t.COINS, strengths=(0.8, 0.5, 0.3, 0.1), broken_from=0.3)
def few_answers(rng: Rng, strength: float) -> Instance:
    """Of 20,000×6 rows those beyond 1 in the last column lack such a share, others make up for it.

    The number of rows is as stated, p = 2.
    """
    A = rng.standard_normal((20000, 6))
    far = np.abs(A[:, 5]) > 1
    share = far.mean()
    rates = 0.3 * np.where(far, 1 - strength, 1 + strength * share / (1 - share))
    index = np.flatnonzero(rng.random(20000) < rates)
    return stated(A, index, np.full(len(index), 1 / 0.3), np.full(20000, 0.3))


@worlds.world(run=certify, breaks=t.COINS, strengths=(0, 1))
def drawn_by_choice(rng: Rng, strength: float) -> Instance:
    """5,000 rows by choice(p=…), without replacement or with and then unique, said to be coins."""
    A = rng.lognormal(0, 0.5, (20000, 1))
    w = A[:, 0] ** 2
    w = np.minimum(w, np.quantile(w, 0.9))
    w /= w.sum()
    index = np.unique(rng.choice(20000, 5000, replace=bool(strength), p=w))
    return stated(A, index, 1 / (5000 * w[index]), 5000 * w)


@worlds.world(run=certify, breaks=t.COINS)
def first_rows(rng: Rng, strength: float) -> Instance:
    """The first 600 rows, said to be drawn with probability .2."""
    A = design(rng)
    return stated(A, np.arange(600), np.full(600, 5.0), np.full(3000, 0.2))


@worlds.world(run=lp_sensitivity_sampling, breaks=t.COINS, strengths=(2, 1, 0))
def with_replacement(rng: Rng, strength: float) -> Instance:
    """Multinomial draws of 1,000 from 4,000×3: normal, t₃, Cauchy (0 to 2); p = 2."""
    A = (
        rng.standard_normal((4000, 3)),
        rng.standard_t(3, (4000, 3)),
        rng.standard_cauchy((4000, 3)),
    )[int(strength)]
    return run(A, rng, p=2.0, rows=1000, sampling="multinomial")


@worlds.world(
    run=lp_sensitivity_sampling, breaks=t.COINS, strengths=(8, 2), noticeable=False, rising=False
)
def exactly_so_many(rng: Rng, strength: float) -> Instance:
    """Systematic sampling of 500 rows of a file with that period, all alike; p = 2."""
    n = 4000
    A = np.column_stack([np.ones(n), np.arange(n) % int(strength) == 0]).astype(float)
    return run(A, rng, p=2.0, rows=500, scores="uniform", sampling="fixed")


def chosen(A: Array, p: float, rows: int, seeds: list[int], best: bool) -> Any:
    """Of several draws the one that a user likes best, or least."""
    runs = [lp_sensitivity_sampling(A, p=p, rows=rows, rng=seed) for seed in seeds]
    return (min if best else max)(runs, key=lambda r: r.distortion.value if r.distortion else 0.0)


@worlds.world(run=chosen, breaks=t.FIXED_BEFORE, strengths=(10, 3), noticeable=False)
def best_of_some(rng: Rng, strength: float) -> Instance:
    """Of so many draws the one with the least distortion, t₁.₅ design."""
    return _some(rng, int(strength), True)


@worlds.world(run=chosen, breaks=t.FIXED_BEFORE, strengths=(10, 3), noticeable=False)
def worst_of_some(rng: Rng, strength: float) -> Instance:
    """Of so many draws the one with the largest distortion, all rows alike."""
    return _some(rng, int(strength), False)


def _some(rng: Rng, k: int, best: bool) -> Instance:
    A = rng.standard_t(1.5, (1000, 2)) if best else np.ones((1000, 1))
    seeds = rng.integers(1 << 32, size=k).tolist()
    given = {"A": A, "p": 2.0, "rows": 200, "seeds": seeds, "best": best}
    return Instance(given, lambda made: embedded(made.certificates, A, made.index, made.xi, 2.0))


@worlds.world(run=certify, breaks=t.ONE_SIDED, strengths=(0.1, 0.5, 0.9, 0.99, 0.999), rising=False)
def forged_weights(rng: Rng, strength: float) -> Instance:
    """One-sided Lewis weights times a factor below 1, p = 2."""
    A = design(rng)
    v = lewis_weights(A, 2.0, tol=1e-9).one_sided * strength
    return stated(A, *drawn(rng, A, 600, 2.0), one_sided=v)


@worlds.world(run=certify, breaks=t.ONE_SIDED, strengths=(1.5, 3))
def leverage_for_lewis(rng: Rng, strength: float) -> Instance:
    """Leverage scores handed over as Lewis weights for p = 1, Student design of 1,500×2."""
    A = rng.standard_t(strength, (1500, 2))
    tau = leverage_scores(A)
    q = np.minimum(1, tau * 300)
    q[q <= 0] = 1e-6
    return stated(A, *drawn(rng, A, 600, 1.0, q), p=1.0, one_sided=tau, measure=False)


@worlds.world(
    run=lp_sensitivity_sampling,
    breaks=t.RANK,
    strengths=(1e15, 6e13, 1e12, 1e9, 1e6),
    broken_from=6e13,
    refuses=(np.linalg.LinAlgError,),
)
def nearly_dependent(rng: Rng, strength: float) -> Instance:
    """The second column is the first plus 1/κ of noise, 50 rows, p = 2, all of them kept."""
    A = rng.standard_normal((50, 2))
    A[:, 1] = A[:, 0] + A[:, 1] / strength
    return run(A, rng, rng.standard_normal(50), p=2.0, rational=True)


@worlds.world(
    run=lp_sensitivity_sampling,
    breaks=t.RANK,
    strengths=(1e15, 6e13, 1e12, 1e9),
    broken_from=6e13,
    refuses=(np.linalg.LinAlgError,),
)
def nearly_a_sum(rng: Rng, strength: float) -> Instance:
    """The third column is the sum of two plus 1/κ of noise, 30 of 60 rows, p = 2."""
    A = rng.standard_normal((60, 3))
    A[:, 2] = A[:, 0] + A[:, 1] + A[:, 2] / strength
    return run(A, rng, rng.standard_normal(60), p=2.0, rows=30, rational=True)


@worlds.world(
    run=lp_sensitivity_sampling,
    breaks=t.RESOLVED,
    strengths=(1e15, 1e13, 1e12, 1e9),
    broken_from=1e15,
)
def residuals_of_rounding(rng: Rng, strength: float) -> Instance:
    """Sum of squares, 50×3, noise of .1 on an offset so large."""
    A, b = regression(rng, 50, 3)
    return run(A, rng, 0.1 * b + strength, p=2.0, rows=20, rational=True)


@worlds.world(run=lp_sensitivity_sampling, breaks=t.RESOLVED, strengths=(0, 1e-16))
def consistent_system(rng: Rng, strength: float) -> Instance:
    """b is a combination of the columns, and that much noise; 30 of 60 rows, p = 2."""
    A = rng.standard_normal((60, 3))
    b = A @ np.array([1.0, 2.0, 3.0]) + strength * rng.standard_normal(60)
    return run(A, rng, b, p=2.0, rows=30, rational=True)


def too_light(rng: Rng, A: Array, b: Array, q: float, rows: int) -> Instance:
    """A quantile from rows that weigh so little that the program with all rows' tilt is unbounded.

    With an intercept it needs Σ ξ ≥ |2q − 1| n.
    """
    while True:
        given = run(A, rng, b, quantile=q, rows=rows)
        coreset = lp_sensitivity_sampling(
            np.column_stack([A, b]), rows=rows, rng=given.arguments["rng"]
        )
        if coreset.xi.sum() < abs(2 * q - 1) * len(A):
            return given


@worlds.world(run=lp_sensitivity_sampling, breaks=t.LINEAR_PART, strengths=(0.999, 0.99, 0.95))
def extreme_quantile(rng: Rng, strength: float) -> Instance:
    """An extreme quantile from 12 of 1,500 rows: they cannot hold up the linear part of all."""
    return too_light(rng, *regression(rng, 1500, 3), strength, 12)


@worlds.world(run=lp_sensitivity_sampling, breaks=t.LINEAR_PART, strengths=(0.001, 0.01))
def low_quantile_of_counts(rng: Rng, strength: float) -> Instance:
    """A low quantile of skewed times from 12 of 1,500 rows."""
    A, b = regression(rng, 1500, 3)
    return too_light(rng, A, np.exp(b / 3), strength, 12)


@worlds.world(
    run=lp_sensitivity_sampling,
    breaks=t.CONSTANT,
    strengths=(0.01, 0.1, 0.5),
    noticeable=False,
    rising=False,
)
def constant_too_small(rng: Rng, strength: float) -> Instance:
    """A constant of the sharp rate below 1, all rows alike, p = 2."""
    return run(np.ones((5000, 1)), rng, p=2.0, rows=400, sharp_constant=strength)


@worlds.world(
    run=lp_sensitivity_sampling,
    breaks=t.CONSTANT,
    strengths=(0.01, 0.1, 0.5),
    noticeable=False,
    rising=False,
)
def constant_too_small_and_heavy(rng: Rng, strength: float) -> Instance:
    """The same on a t₁.₅ design of three columns."""
    return run(design(rng), rng, p=2.0, rows=600, sharp_constant=strength)


# Mutants


def times(factor: float) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What it returns, times a factor."""
    return lambda function: lambda *given, **named: factor * function(*given, **named)


for target in ("chernoff_bound", "net_bound"):
    squared = target == "chernoff_bound"
    worlds.mutant(
        "subspace-embedding",
        f"half of {target}" if squared else f"a quarter of {target}",
        target=f"{HERE}.bounds:{target}",
        change=times(0.5 if squared else 0.25),
        world=equal_rows_squared if squared else equal_rows_absolute,
        seeds=400,
    )
worlds.mutant(
    "subspace-embedding",
    "weights 1/√q",
    target=f"{HERE}.sampling:inverse",
    change=lambda f: lambda q: np.sqrt(f(q)),
    world=equal_rows_squared,
)
worlds.mutant(
    "sharp-rate",
    "half of the rate",
    target=f"{HERE}.bounds:sharp_bound",
    change=times(0.5),
    world=equal_rows_squared,
    seeds=400,
)
worlds.mutant(
    "regression-cost",
    "the best on a sample taken for the best",
    target=f"{HERE}.theorems:cost_factor",
    change=lambda f: lambda epsilon: 1.0,
    world=ordinary,
)
worlds.mutant(
    "optimality-gap",
    "lower bound a thousandth too large",
    target=f"{HERE}.gap:proven",
    change=times(1.001),
    world=all_rows_kept,
    strength=2,
)
worlds.mutant(
    "optimality-gap",
    "no rounding",
    target=f"{HERE}.gap:UNIT",
    change=lambda unit: 0.0,
    world=offset_of_squares,
)
