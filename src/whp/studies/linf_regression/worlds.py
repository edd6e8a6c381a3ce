"""Runs whose exact least-squares solution is known, honest and broken.

The truth is computed here, by steps of refinement in extended precision, or by rational arithmetic
where the condition number asks for it; a solution is judged by the intervals that the user gets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.linalg as sl
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from whp.datasets.linear_models import spike
from whp.experiment.worlds import Instance, Worlds
from whp.linalg import (
    LinfRegression,
    SketchedLinearRegression,
    linf_regression,
    sketch_and_solve,
    tensor_linf_regression,
)
from whp.linalg._linf_regression import theorems as t

__all__ = ["worlds"]

worlds = Worlds("linf-regression", t.THEOREMS)
HERE = "whp.linalg._linf_regression"
SKETCHES = ("srht", "pooled", "gaussian", "circulant")
SHAPES = ((32, 3), (16, 2))  # of the factors of a product
Rng = np.random.Generator


def extended(A: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The exact solution in extended precision, off by about κ² 1e-19 of its size."""
    wide, right = A.astype(np.longdouble), b.astype(np.longdouble)
    norms = np.linalg.norm(A, axis=0)
    R = sl.qr(A / norms, mode="r")[0][: A.shape[1]]
    x = np.zeros((A.shape[1], *b.shape[1:]), np.longdouble)
    for _ in range(5):
        g = (wide.T @ (right - wide @ x)).astype(np.float64)
        step = sl.solve_triangular(R, sl.solve_triangular(R, (g.T / norms).T, trans="T"))
        x = x + (step.T / norms).T
    return x


def rational(A: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """The exact solution as fractions, by Gaussian elimination of the normal equations."""
    wide = np.array([[Fraction(v) for v in row] for row in np.column_stack([A, b]).tolist()])
    left = wide if weights is None else wide * [[Fraction(w)] for w in weights.tolist()]
    rows, d = left.T @ wide, A.shape[1]
    rows = rows[:d]
    for i in range(d):
        rows[i] = rows[i] / rows[i, i]
        for j in range(d):
            if j != i:
                rows[j] = rows[j] - rows[j, i] * rows[i]
    return rows[:, d]


def judge(
    A: np.ndarray, b: np.ndarray, exact: Callable[[np.ndarray, np.ndarray], np.ndarray] = extended
) -> Callable[[LinfRegression], Mapping[str, bool | None]]:
    """Whether intervals cover the exact solution, and the ℓ∞ bound its distance."""

    def truths(result: LinfRegression) -> Mapping[str, bool | None]:
        x = exact(A, b)
        low, high = np.moveaxis(result.conf_int(1 - result.delta), -1, 0)
        covered = bool(((low <= x) & (x <= high)).all())
        judged: dict[str, bool | None] = {
            c.name: covered for c in result.certificates if c.name != "linf-bound"
        }
        for c in result.certificates:
            if c.name == "linf-bound":
                unit = "columns as they are" in c.claim
                judged[c.name] = _within(A, b, x.astype(float), result, c.bound, unit)
        return judged

    return truths


def _within(
    A: np.ndarray, b: np.ndarray, x: np.ndarray, result: LinfRegression, bound: float, unit: bool
) -> bool:
    norms = np.ones(A.shape[1]) if unit else np.linalg.norm(A, axis=0)
    pinv = 1 / np.linalg.svd(A / norms, compute_uv=False)[-1]
    beyond = np.maximum(np.abs(result.x - x) - result.rounding, 0).reshape(A.shape[1], -1)
    left = np.linalg.norm((b - A @ x).reshape(len(b), -1), axis=0)
    return bool((beyond * norms[:, None] <= bound * left * pinv).all())


def instance(A: np.ndarray, b: np.ndarray, rng: Rng, **arguments: Any) -> Instance:
    """A run on A and b, its sketch from a stream of its own."""
    given = {"A": A, "b": b, "rng": int(rng.integers(1 << 32)), **arguments}
    return Instance(given, judge(np.asarray(A, float), np.asarray(b, float)))


def ordinary(rng: Rng, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Houses: intercept, area, age, distance, districts of which the rarest has 3 %."""
    district = rng.choice(6, n, p=[0.4, 0.25, 0.17, 0.1, 0.05, 0.03])
    A = np.column_stack(
        [
            np.ones(n),
            np.exp(4 + 0.5 * rng.standard_normal(n)),
            rng.integers(0, 80, n),
            rng.exponential(5, n),
            *(district == j for j in range(1, 6)),
        ]
    ).astype(float)
    return A, A @ rng.standard_normal(A.shape[1]) + 0.4 * rng.standard_t(4, n)


def heavy(rng: Rng, n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Student's design with 2 degrees of freedom, Cauchy noise."""
    A = rng.standard_t(2, (n, d))
    return A, A.sum(axis=1) + rng.standard_cauchy(n)


# Honest worlds


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def houses(rng: Rng, strength: float) -> Instance:
    """A table of 1,000 houses with 9 columns, 200 rows of srht, pooled, gaussian, circulant (0 to 3)."""
    A, b = ordinary(rng)
    return instance(A, b, rng, rows=200, sketch=SKETCHES[int(strength)])


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def heavy_tails(rng: Rng, strength: float) -> Instance:
    """Student's t₂ design and Cauchy noise, 1,024×10, 200 rows of the four sketches."""
    A, b = heavy(rng, 1024, 10)
    return instance(A, b, rng, rows=200, sketch=SKETCHES[int(strength)])


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def short(rng: Rng, strength: float) -> Instance:
    """Few degrees of freedom: a normal 500×16 design and 20 rows of the four sketches."""
    A = rng.standard_normal((500, 16))
    return instance(
        A, rng.standard_normal(500) + A[:, 0], rng, rows=20, sketch=SKETCHES[int(strength)]
    )


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def spiked(rng: Rng, strength: float) -> Instance:
    """A = [I; 0] and 4 spikes in b, 512×16, 64 rows of the four sketches."""
    A, b = np.zeros((512, 16)), np.zeros(512)
    A[:16] = np.eye(16)
    b[rng.choice(np.arange(16, 512), 4, replace=False)] = 0.5
    return instance(A, b, rng, rows=64, sketch=SKETCHES[int(strength)])


@worlds.world(run=linf_regression)
def half_pooled(rng: Rng, strength: float) -> Instance:
    """A pooled sketch of half as many rows as there are, 512×8: blocks of two share weights."""
    A = rng.standard_normal((512, 8))
    return instance(A, rng.standard_normal(512), rng, rows=256, sketch="pooled")


@worlds.world(run=linf_regression)
def one_column(rng: Rng, strength: float) -> Instance:
    """One column, 700 rows, 300 rows of srht: nothing for a union bound to hide in."""
    A = rng.standard_normal((700, 1))
    return instance(A, A[:, 0] + rng.standard_normal(700), rng, rows=300)


@worlds.world(run=linf_regression)
def edge_of_epsilon(rng: Rng, strength: float) -> Instance:
    """Ten columns at the 842 rows that reach ε = 0.5, Gaussian: the ℓ∞ bound has no room."""
    A = rng.standard_normal((1024, 10))
    return instance(A, rng.standard_normal(1024), rng, rows=842, sketch="gaussian")


@worlds.world(run=linf_regression)
def several_targets(rng: Rng, strength: float) -> Instance:
    """Five right-hand sides of scales 1 to 10⁶, 600×6, 60 rows."""
    A = rng.standard_normal((600, 6))
    b = rng.standard_normal((600, 5)) * np.logspace(0, 6, 5)
    return instance(A, b, rng, rows=60)


@worlds.world(run=linf_regression, strengths=(0, 1))
def scales(rng: Rng, strength: float) -> Instance:
    """Columns of scales 10⁻¹² to 10¹², in float64 or, 10⁻⁵ to 10⁵, in float32 (1)."""
    reach = 5 if strength else 12
    A = rng.standard_normal((600, 7)) * np.logspace(-reach, reach, 7)
    A = A.astype(np.float32 if strength else np.float64)
    return instance(A, rng.standard_normal(600), rng, rows=100)


@worlds.world(run=linf_regression, strengths=(0, 1))
def no_residual(rng: Rng, strength: float) -> Instance:
    """b = A x exactly, entries on a grid of 2⁻¹⁰, 100 rows: nothing is left but rounding.

    In float32 at strength 1.
    """
    A = np.round(rng.standard_normal((3000, 4)) * 1024) / 1024
    x = np.round(rng.standard_normal(4) * 1024) / 1024
    A = A.astype(np.float32 if strength else np.float64)
    return instance(A, A.astype(float) @ x, rng, rows=100)


@worlds.world(run=linf_regression, strengths=(0, 3, 10))
def refined(rng: Rng, strength: float) -> Instance:
    """So many steps of refinement, or LSQR to machine precision (0), 5,000×4, 100 rows.

    Coefficients a thousand times the noise, so that the last bit of each counts.
    """
    A = rng.standard_normal((5000, 4))
    b = A @ (1000 * rng.standard_normal(4)) + rng.standard_normal(5000)
    return instance(A, b, rng, rows=100, refine=int(strength) or "lsqr")


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def refined_one_column(rng: Rng, strength: float) -> Instance:
    """One step of refinement for one column, 700 rows: Cauchy-Schwarz loses nothing here."""
    A = rng.standard_normal((700, 1))
    b = A[:, 0] + rng.standard_normal(700)
    return instance(A, b, rng, rows=100, refine=1, sketch=SKETCHES[int(strength)])


@worlds.world(run=linf_regression, strengths=(0, 1, 2))
def solved_exactly(rng: Rng, strength: float) -> Instance:
    """The exact solution, 80×4 normal, in float64, in float32 (1), with weights (2)."""
    A = rng.standard_normal((80, 4)).astype(np.float32 if strength == 1 else np.float64)
    b = rng.standard_normal(80)
    if strength < 2:
        return instance(A, b, rng)
    weights = 4.0 ** rng.integers(-3, 4, 80)  # their roots are exact
    root = np.sqrt(weights)
    return Instance({"A": A, "b": b, "sample_weight": weights}, judge(A * root[:, None], b * root))


@worlds.world(run=linf_regression, seeds=200)
def calendar_years(rng: Rng, strength: float) -> Instance:
    """A cubic in the years 2000 to 2010, 120 rows, solved exactly: κ of 10⁹ after scaling."""
    years = rng.integers(2000, 2011, 120).astype(float)
    A = np.vander(years / 2000, 4)
    b = rng.standard_normal(120)
    return Instance({"A": A, "b": b}, judge(A, b, rational))


@worlds.world(run=linf_regression, strengths=(0, 1))
def weighted_in_single_precision(rng: Rng, strength: float) -> Instance:
    """A design of float32, 60×4, solved exactly with weights of .1 to 3, or e⁻²⁰⁰ to e⁻²⁰⁵ (1)."""
    A = rng.standard_normal((60, 4)).astype(np.float32)
    A[:, 0] = 1
    b = A.astype(float) @ [1000, 1, 1e-3, 0] + rng.standard_normal(60)
    weights = np.exp(-200 - 5 * rng.random(60)) if strength else rng.uniform(0.1, 3, 60)
    return Instance(
        {"A": A, "b": b, "sample_weight": weights},
        judge(A.astype(float), b, lambda A, b: rational(A, b, weights)),
    )


def means(groups: np.ndarray, b: np.ndarray) -> list[Fraction]:
    """Exact means of b, which has few values, in the groups 0, 1, ..."""
    result = []
    for g in np.unique(groups):
        values, counts = np.unique(b[groups == g], return_counts=True)
        total = sum(Fraction(v) * n for v, n in zip(values.tolist(), counts.tolist(), strict=True))
        result.append(total / int(counts.sum()))
    return result


@worlds.world(run=linf_regression, strengths=(0, 1), seeds=200)
def sorted_by_outcome(rng: Rng, strength: float) -> Instance:
    """30,000 rows sorted by group and outcome, solved exactly: rounding of one value, repeated.

    An intercept and a treatment with outcomes .1 and .7, or three groups of ratings 0 to 1 (1).
    """
    n = 30_000
    if strength:
        group, b = np.sort(rng.integers(0, 3, n)), np.sort(rng.integers(0, 11, n)) * 0.1
        A = (group[:, None] == np.arange(3)).astype(float)
        x = np.array(means(group, b))
    else:
        group = np.repeat([0, 1], n // 2)
        b = np.where(rng.random(n) < 0.1, 0.7, 0.1)
        b = np.concatenate([np.sort(b[: n // 2]), np.sort(b[n // 2 :])])
        A = np.column_stack([np.ones(n), group])
        first, second = means(group, b)
        x = np.array([first, second - first])
    return Instance({"A": A, "b": b}, judge(A, b, lambda A, b: x))


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def nearly_the_same(rng: Rng, strength: float) -> Instance:
    """Two columns equal up to 10⁻⁶ and no residual, 100×3, in three orders; from 40 rows (3)."""
    A = rng.standard_normal((100, 3))
    A[:, 1] = A[:, 0] + A[:, 1] / 1e6
    A = A[:, [[0, 1, 2], [2, 0, 1], [0, 2, 1], [0, 1, 2]][int(strength)]]
    b = A @ [1, 2, 3]
    more = {"rows": 40, "rng": int(rng.integers(1 << 32))} if strength == 3 else {}
    return Instance({"A": A, "b": b, **more}, judge(A, b, rational))


def fitted(X: np.ndarray, y: np.ndarray) -> LinfRegression | None:
    """The result of the scikit-learn estimator."""
    return SketchedLinearRegression().fit(X, y).result_


@worlds.world(run=fitted, strengths=(1e2, 1e4, 1e5))
def far_from_the_origin(rng: Rng, strength: float) -> Instance:
    """The estimator with an intercept on columns of float32 of mean h and spread 10, 80×3."""
    X = (rng.standard_normal((80, 3)) * 10 + strength).astype(np.float32)
    y = (X.astype(float) @ [1, 2, 0] + rng.standard_normal(80)).astype(np.float32)
    wide = np.column_stack([X, np.ones(80)]).astype(float)
    x = rational(wide, y.astype(float))[:3]
    return Instance({"X": X, "y": y}, judge(X.astype(float), y.astype(float), lambda A, b: x))


@worlds.world(run=linf_regression, strengths=(1e-4, 1, 1e4))
def columns_as_they_are(rng: Rng, strength: float) -> Instance:
    """scale=False on columns of that size, and one ten times smaller: 1,000×4, 600 rows."""
    A = rng.standard_normal((1000, 4)) * strength * np.array([1, 1, 1, 0.1])
    return instance(A, A[:, 0] + rng.standard_normal(1000), rng, rows=600, scale=False)


@worlds.world(run=tensor_linf_regression, strengths=(0, 1, 2))
def products(rng: Rng, strength: float) -> Instance:
    """A Kronecker product of 32×3 and 16×2, intercepts in both, 120 rows.

    The residual is white, the same in all rows of B (1), or the same in all rows and columns but
    for the means (2), which makes the variance of a coefficient three times as large.
    """
    A1, A2 = (np.column_stack([np.ones(n), rng.standard_normal((n, d - 1))]) for n, d in SHAPES)
    rows, columns = rng.standard_normal(32), rng.standard_normal(16)
    noise = (
        rng.standard_normal((32, 16)),
        np.outer(np.ones(32), columns),
        np.add.outer(rows - rows.mean(), columns - columns.mean()),
    )[int(strength)]
    B = A1 @ rng.standard_normal((3, 2)) @ A2.T + noise
    given = {"A1": A1, "A2": A2, "B": B, "rows": 120, "rng": int(rng.integers(1 << 32))}
    return Instance(given, judge(np.kron(A1, A2), B.ravel()))


@worlds.world(run=tensor_linf_regression, strengths=(-170, 160))
def products_out_of_range(rng: Rng, strength: float) -> Instance:
    """The same with B times 10 to that power, whose squares do not exist."""
    given = products.make(rng, 0.0).arguments
    B = given["B"] * 10.0**strength
    A = np.kron(given["A1"], given["A2"])
    # Judged in units of 2^e, as squares are taken here too.
    e = int(np.frexp(np.abs(B).max())[1])
    x = extended(A, np.ldexp(B, -e).ravel())

    def truths(result: LinfRegression) -> Mapping[str, bool | None]:
        low, high = np.moveaxis(np.ldexp(result.conf_int(1 - result.delta), -e), -1, 0)
        return {"coordinate-error-bars": bool(((low <= x) & (x <= high)).all())}

    return Instance({**given, "B": B}, truths)


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def faulty_pair(rng: Rng, strength: float) -> Instance:
    """Sixteen rare levels of two adjacent rows, and one pair of rows off by 9 and −9; 2,048×17.

    Structure aligned with powers of two; 200 rows of the four sketches.
    """
    A, b = np.zeros((2048, 17)), 0.05 * rng.standard_normal(2048)
    A[:, 16] = 1
    A[np.arange(32), np.arange(32) // 2] = 1
    b[1000:1002] = [9, -9]
    return instance(A, b, rng, rows=200, sketch=SKETCHES[int(strength)])


@worlds.world(run=linf_regression, strengths=(64, 256))
def blocks_and_a_rare_level(rng: Rng, strength: float) -> Instance:
    """Blocks of so many of 2,048 rows, a level of 12 adjacent rows that are noisy; 256 rows."""
    A = rng.standard_normal((2048, 8))
    A[:, 0] = np.arange(2048) < 12
    noise = rng.standard_normal(2048) * np.where(A[:, 0] > 0, 5, 1)
    return instance(A, A.sum(axis=1) + noise, rng, rows=256, block_rows=int(strength))


@worlds.world(run=linf_regression, strengths=(0.3, 1.0))
def blocks_of_uneven_residual(rng: Rng, strength: float) -> Instance:
    """Blocks of 512 of 2,048 rows sorted by their residual's spread e^{hg}, 200 sketched rows."""
    spread = np.sort(np.exp(strength * rng.standard_normal(2048)))
    A = np.column_stack([np.ones(2048), rng.standard_normal((2048, 7))])
    return instance(A, spread * rng.standard_normal(2048), rng, rows=200, block_rows=512)


@worlds.world(run=linf_regression, strengths=(0.6, 0.3, 0.1, 0.01))
def blocks_of_one_size(rng: Rng, strength: float) -> Instance:
    """The second half of A and b times f, blocks of 1,024 of 2,048 rows, 16 columns, 256 rows."""
    A, b = rng.standard_normal((2048, 16)), rng.standard_normal(2048)
    A[1024:] *= strength
    b[1024:] *= strength
    return instance(A, b, rng, rows=256, block_rows=1024)


@worlds.world(run=linf_regression, strengths=(0.5, 1.0))
def blocks_that_decay(rng: Rng, strength: float) -> Instance:
    """A and b times 10^{-zi/n}, 8 blocks of 256 of 2,048 rows, 8 columns, 256 rows."""
    decay = 10.0 ** (-strength * np.arange(2048) / 2048)
    A = rng.standard_normal((2048, 8)) * decay[:, None]
    return instance(A, rng.standard_normal(2048) * decay, rng, rows=256, block_rows=256)


@worlds.world(run=linf_regression, strengths=(0, 1))
def blocks_of_months(rng: Rng, strength: float) -> Instance:
    """A file sorted by month: a column that lives in one block, which has the noise.

    At strength 1 instead a level that shifts between blocks, so that residuals lean on the intercept.
    """
    n = 1024
    month = np.arange(n) // 128
    A = np.column_stack([np.ones(n), month == 5, rng.standard_normal((n, 4))]).astype(float)
    noise = np.where(month == 5, 30.0, 1.0) * rng.standard_normal(n)
    if strength:
        A = np.delete(A, 1, axis=1)
        noise = rng.standard_normal(n) + 5 * (month % 2)
    return instance(A, noise, rng, rows=256, block_rows=128)


@worlds.world(run=linf_regression, strengths=(0, 1, 2, 3))
def rows_drawn_again(rng: Rng, strength: float) -> Instance:
    """Rows drawn with replacement, so many that they repeat, by srht, circulant, in blocks of 64.

    250 rows and 20 columns, 125 rows of the sketch; at strength 3 one column, circulant.
    """
    kind = ({}, {"sketch": "circulant"}, {"block_rows": 64}, {"sketch": "circulant"})[int(strength)]
    A, b = rng.standard_normal((250, 20 if strength < 3 else 1)), rng.standard_normal(250)
    return instance(A, b, rng, rows=125 if strength < 3 else 250, replace=True, **kind)


@worlds.world(run=linf_regression, strengths=(0, 1, 2))
def seed_of_the_treatment(rng: Rng, strength: float) -> Instance:
    """Who is treated was drawn from the very seed that the sketch gets; one step of refinement."""
    seed, n = int(rng.integers(1 << 32)), 1000
    treated = np.random.default_rng(seed).choice(["control", "treated"], n) == "treated"
    A, sketch = np.where(treated, 1.0, -1.0)[:, None], ("srht", "pooled", "circulant")
    b = A[:, 0] + rng.standard_normal(n)
    given = {"rows": 256, "refine": 1, "sketch": sketch[int(strength)], "rng": seed}
    return Instance({"A": A, "b": b, **given}, judge(A, b))


# Broken worlds


@worlds.world(run=sketch_and_solve, breaks=t.SINGLE_ROWS, strengths=(0, 1))
def sampled_rows(rng: Rng, strength: float) -> Instance:
    """Rows drawn uniformly, handed over as an operator; at strength 1 one row is 10 times larger."""
    A, b = heavy(rng, 1000, 6)
    if strength:
        A, b = rng.standard_normal((1000, 6)), rng.standard_normal(1000)
        A[0] *= 10
        b[0] += 300
    rows = rng.integers(1000, size=200)
    S = csr_array((np.full(200, math.sqrt(5)), (np.arange(200), rows)), (200, 1000))
    return Instance({"operator": aslinearoperator(S), "A": A, "b": b}, judge(A, b))


@worlds.world(run=sketch_and_solve, breaks=t.SINGLE_ROWS)
def sampled_by_leverage(rng: Rng, strength: float) -> Instance:
    """Rows drawn by leverage and weighted, handed over as an operator."""
    A, b = heavy(rng, 1000, 6)
    p = (np.linalg.qr(A)[0] ** 2).sum(axis=1) / 6
    rows = rng.choice(1000, 200, p=p / p.sum())
    S = csr_array((1 / np.sqrt(200 * p[rows]), (np.arange(200), rows)), (200, 1000))
    return Instance({"operator": aslinearoperator(S), "A": A, "b": b}, judge(A, b))


def mixed(rng: Rng, m: int, n: int, q: int) -> LinearOperator:
    """Each row of the sketch adds up q random rows with random signs."""
    columns = rng.integers(n, size=(m, q))
    signs = rng.choice([-1.0, 1.0], m * q) * math.sqrt(n / (m * q))
    return aslinearoperator(
        csr_array((signs, (np.repeat(np.arange(m), q), columns.ravel())), (m, n))
    )


@worlds.world(
    run=sketch_and_solve,
    breaks=t.GAUSSIAN,
    strengths=(512, 64, 16, 4),
    rising=False,
    noticeable=False,
)
def few_rows_mixed(rng: Rng, strength: float) -> Instance:
    """Each row of a sketch made by hand mixes q rows; t₂ design, Cauchy noise."""
    A, b = heavy(rng, 1000, 6)
    return Instance({"operator": mixed(rng, 200, 1000, int(strength)), "A": A, "b": b}, judge(A, b))


@worlds.world(
    run=sketch_and_solve,
    breaks=t.GAUSSIAN,
    strengths=(512, 64, 16, 4),
    rising=False,
    noticeable=False,
)
def few_rows_mixed_one_large(rng: Rng, strength: float) -> Instance:
    """The same, with one row 10 times larger that has a residual of 300."""
    A, b = rng.standard_normal((1000, 6)), rng.standard_normal(1000)
    A[0] *= 10
    b[0] += 300
    return Instance({"operator": mixed(rng, 200, 1000, int(strength)), "A": A, "b": b}, judge(A, b))


@worlds.world(
    run=sketch_and_solve,
    breaks=t.ROW_COUNT,
    strengths=(16, 64),
    noticeable=False,
    refuses=(np.linalg.LinAlgError,),
)
def countsketch_of_spikes(rng: Rng, strength: float) -> Instance:
    """One sign a column, so that a spike of b falls on a row of the identity; m = s d, d = 16."""
    d = 16
    m = int(strength) * d
    A, b = spike(d, m)
    A, b = np.pad(A, ((0, 2 * m - len(A)), (0, 0))), np.pad(b, (0, 2 * m - len(b)))
    where = (rng.integers(m, size=2 * m), np.arange(2 * m))
    S = csr_array((rng.choice([-1.0, 1.0], 2 * m), where), (m, 2 * m))
    return Instance({"operator": aslinearoperator(S), "A": A, "b": b}, judge(A, b))


@worlds.world(
    run=sketch_and_solve, breaks=t.ROW_COUNT, strengths=(4, 64), rising=False, noticeable=False
)
def mixed_at_few_rows(rng: Rng, strength: float) -> Instance:
    """Rows that mix q rows each, one of them large, at the row count of a dense sketch."""
    A, b = rng.standard_normal((1000, 6)), rng.standard_normal(1000)
    A[0] *= 10
    b[0] += 300
    S = mixed(rng, 200, 1000, int(strength))
    return Instance({"operator": S, "A": A, "b": b}, judge(A, b))


@worlds.world(
    run=sketch_and_solve,
    breaks=t.ISOMETRY,
    strengths=(1.1, 1.2, 1.5, 2, math.sqrt(200)),
    broken_from=1.5,
)
def not_divided(rng: Rng, strength: float) -> Instance:
    """A Gaussian sketch made by hand, 200 rows, that factor too large; √200: not divided by √m.

    One step of refinement, 2,000×4.
    """
    A = rng.standard_normal((2000, 4))
    b = A.sum(axis=1) + rng.standard_normal(2000)
    S = aslinearoperator(rng.standard_normal((200, 2000)) * (strength / math.sqrt(200)))
    return Instance({"operator": S, "A": A, "b": b, "refine": 1}, judge(A, b))


@worlds.world(run=sketch_and_solve, breaks=t.ISOMETRY, strengths=(64, 512))
def added_up(rng: Rng, strength: float) -> Instance:
    """Each row of a sketch adds up q random rows with random signs and divides by nothing."""
    A = rng.standard_normal((1000, 6))
    b = A.sum(axis=1) + rng.standard_normal(1000)
    S = mixed(rng, 200, 1000, int(strength)) * math.sqrt(200 * strength / 1000)
    return Instance({"operator": S, "A": A, "b": b, "refine": 2}, judge(A, b))


def kept(
    A: np.ndarray, b: np.ndarray, seeds: list[int], by: str, measure: bool = True
) -> LinfRegression:
    """The run of that seed of which the user likes the outcome best."""
    runs = [linf_regression(A, b, rows=80, measure=measure, rng=s) for s in seeds]
    if by == "residual":
        return min(runs, key=lambda r: float(r.residual_estimate))
    return max(runs, key=lambda r: float((np.abs(r.x) / r.stderr).max()))


@worlds.world(run=kept, breaks=t.FIXED_BEFORE, strengths=(3, 10), noticeable=False)
def most_significant_seed(rng: Rng, strength: float) -> Instance:
    """Of K seeds the one is kept whose coefficient is most significant, 600×8, 80 rows."""
    A, b = rng.standard_normal((600, 8)), rng.standard_normal(600)
    seeds = rng.integers(1 << 32, size=int(strength)).tolist()
    return Instance({"A": A, "b": b, "seeds": seeds, "by": "significance"}, judge(A, b))


@worlds.world(run=kept, breaks=t.FIXED_BEFORE, strengths=(3, 10), noticeable=False)
def least_residual_seed(rng: Rng, strength: float) -> Instance:
    """Of K seeds the one with the least residual."""
    A, b = rng.standard_normal((600, 8)), rng.standard_normal(600)
    seeds = rng.integers(1 << 32, size=int(strength)).tolist()
    return Instance({"A": A, "b": b, "seeds": seeds, "by": "residual"}, judge(A, b))


@worlds.world(run=linf_regression, breaks=t.X_EXACT, strengths=(0, 1, 2, 3))
def not_the_exact_solution(rng: Rng, strength: float) -> Instance:
    """x_exact is what generated b, 10⁶, the fit of half of the rows, or of standardised columns."""
    A = rng.standard_normal((2000, 8)) + 1
    b = A.sum(axis=1) + rng.standard_normal(2000)
    given = (
        lambda: np.ones(8),
        lambda: np.full(8, 1e6),
        lambda: np.linalg.lstsq(A[:1000], b[:1000])[0],
        lambda: np.linalg.lstsq((A - A.mean(axis=0)) / A.std(axis=0), b)[0],
    )[int(strength)]()
    return instance(A, b, rng, rows=200, x_exact=given, measure=False)


@worlds.world(run=linf_regression, breaks=t.X_EXACT, strengths=(1e-3, 1e-2, 0.1, 1))
def ridge_as_reference(rng: Rng, strength: float) -> Instance:
    """x_exact is the ridge solution with λ/n of that size."""
    A = rng.standard_normal((2000, 8))
    b = A.sum(axis=1) + rng.standard_normal(2000)
    x = np.linalg.solve(A.T @ A + strength * 2000 * np.eye(8), A.T @ b)
    return instance(A, b, rng, rows=200, x_exact=x, measure=False)


@worlds.world(
    run=linf_regression,
    breaks=t.RANK,
    strengths=(1e3, 1e6, 1e9, 1e12, 6e13, 1e15),
    broken_from=6e13,
    refuses=(np.linalg.LinAlgError,),
)
def nearly_dependent(rng: Rng, strength: float) -> Instance:
    """The second column is the first plus 1/κ of noise, 80×2, solved exactly."""
    A = rng.standard_normal((80, 2))
    A[:, 1] = A[:, 0] + A[:, 1] / strength
    b = rng.standard_normal(80)
    return Instance({"A": A, "b": b}, judge(A, b, rational))


@worlds.world(
    run=linf_regression,
    breaks=t.RANK,
    strengths=(1e6, 1e12, 6e13, 1e15),
    broken_from=6e13,
    refuses=(np.linalg.LinAlgError,),
)
def nearly_dependent_and_sketched(rng: Rng, strength: float) -> Instance:
    """The same from 30 rows of a sketch of 120."""
    A = rng.standard_normal((120, 2))
    A[:, 1] = A[:, 0] + A[:, 1] / strength
    b = rng.standard_normal(120)
    given = {"A": A, "b": b, "rows": 30, "rng": int(rng.integers(1 << 32))}
    return Instance(given, judge(A, b, rational))


# Mutants


def halved(function: Callable[..., Any]) -> Callable[..., Any]:
    """Half of what it returns."""
    return lambda *given, **named: function(*given, **named) / 2


def nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Zeros in place of what it returns."""
    return lambda *given, **named: 0 * function(*given, **named)


for world, seeds in ((houses, 40), (heavy_tails, 40), (short, 200), (one_column, 200)):
    worlds.mutant(
        "coordinate-error-bars",
        f"t halved, {world.name}",
        target=f"{HERE}.bounds:student_quantile",
        change=halved,
        world=world,
        seeds=seeds,
    )
worlds.mutant(
    "coordinate-error-bars",
    "normal for t",
    target=f"{HERE}.bounds:student_quantile",
    change=lambda f: lambda delta, bars, degrees: f(delta, bars, np.full_like(degrees, 1e6)),
    world=short,
    strength=2,
    seeds=200,
)
worlds.mutant(
    "coordinate-error-bars",
    "pooled blocks share their weights for nothing",
    target="whp.linalg:PooledHadamard.inflation",
    change=lambda original: 1.0,
    world=half_pooled,
    seeds=300,
)
worlds.mutant(
    "coordinate-error-bars",
    "one bar instead of all at once",
    target=f"{HERE}.bounds:student_quantile",
    change=lambda f: lambda delta, bars, degrees: f(delta, 1, degrees),
    world=houses,
    seeds=200,
)
worlds.mutant(
    "coordinate-error-bars",
    "rows of a tensor sketch taken for Gaussian",
    target=f"{HERE}.tensor:INFLATION",
    change=lambda original: 1.0,
    world=products,
    strength=2,
    seeds=300,
)
worlds.mutant(
    "coordinate-error-bars",
    "uneven blocks not widened",
    target=f"{HERE}.solve:spread",
    change=lambda f: lambda *given: type(s := f(*given))(np.ones_like(s.factor), s.degrees, s.rows),
    world=blocks_of_one_size,
    strength=0.01,
    seeds=120,
)
worlds.mutant(
    "coordinate-error-bars",
    "a share of all leverage in place of each coefficient's",
    target=f"{HERE}.solve:spread",
    change=lambda f: (
        lambda *given: type(s := f(*given))(
            np.full_like(s.factor, np.median(s.factor)), s.degrees, s.rows
        )
    ),
    world=blocks_of_months,
    strength=0,
    seeds=200,
)
worlds.mutant(
    "coordinate-error-bars",
    "no rounding",
    target=f"{HERE}.factor:Factored.rounding",
    change=nothing,
    world=no_residual,
    seeds=200,
)
worlds.mutant(
    "refined-error-bars",
    "(1 + ε₀)² halved",
    target=f"{HERE}.bounds:refined_quantile",
    change=halved,
    world=refined_one_column,
    strength=2,
)
worlds.mutant(
    "linf-bound",
    "ε halved",
    target=f"{HERE}.bounds:eps_explicit",
    change=halved,
    world=edge_of_epsilon,
    seeds=200,
)
worlds.mutant(
    "exact-solution",
    "no rounding",
    target=f"{HERE}.factor:Factored.rounding",
    change=nothing,
    world=calendar_years,
)
