"""A few weighted rows for all of them: scores, coins, the regression on the rows kept."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np

from whp.certificate import Answer, Certificate
from whp.door import Above, AtLeast, Between, Fraction, front_door
from whp.intervals import Estimate, exact
from whp.io import Data
from whp.linalg._lp_sensitivity_sampling import theorems as th
from whp.linalg._lp_sensitivity_sampling.basis import Basis, as_design, squared_rows, whiten
from whp.linalg._lp_sensitivity_sampling.coreset import LpCoreset
from whp.linalg._lp_sensitivity_sampling.distortion import Distortion, as_rows, search
from whp.linalg._lp_sensitivity_sampling.gap import OptimalityGap, gap_at
from whp.linalg._lp_sensitivity_sampling.lewis import fixed_point, ratio_in_basis
from whp.linalg._lp_sensitivity_sampling.sampling import (
    Draw,
    draw,
    inclusion,
    root_leverage_in_basis,
)
from whp.linalg._lp_sensitivity_sampling.sensitivities import ALL_ROWS, from_basis, majorant
from whp.linalg._lp_sensitivity_sampling.solvers import (
    Solved,
    as_quantile,
    least_absolute,
    newton,
    norm_of,
    solve,
)
from whp.validate import as_vector, private_stream, same_order

__all__ = ["certify", "lp_sensitivity_sampling"]

Scores = Literal["lewis", "sensitivity", "augmented", "mix", "root-leverage", "leverage", "uniform"]
Sampling = Literal["poisson", "fixed", "multinomial"]
ROUNDS = 4
NUMPY = tuple(getattr(np.random, n) for n in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"))
EPSILON, GAP = 0.5, 0.1  # what is asked for where nothing is said
WEIGHTS_SLACK = 1e-9
# So few rows that carry nearly all of the cost deserve a warning: they are typing errors as a rule.
HEAVY_ROWS, HEAVY_SHARE = 10, 0.99


@front_door
def lp_sensitivity_sampling(
    A: Annotated[Any, Data("design")],
    b: Annotated[Any, Data("vector", column="target")] = None,
    *,
    p: Annotated[float, Between(1, 64)] = 1.0,
    quantile: Annotated[float, Fraction()] | None = None,
    rows: Annotated[int, AtLeast(1)] | None = None,
    epsilon: Annotated[float, Above(0)] | None = None,
    gap: Annotated[float, Above(0)] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    scores: Scores = "lewis",
    importance: Annotated[Any, Data("vector")] = None,
    sampling: Sampling = "poisson",
    refine: bool = False,
    measure: bool = False,
    on_rank: Literal["raise", "drop"] = "raise",
    sharp_constant: Annotated[float, Above(0)] = 1.0,
    rng: np.random.Generator | int | None = None,
) -> LpCoreset:
    """Keep a few weighted rows that preserve every ℓp norm, and solve a regression on them.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Tall design matrix of full column rank. A sparse one is made dense.
    b : array_like, shape (n,), optional
        Right-hand side of a regression; rows are then chosen for [A | b], without which a row with
        a huge entry of b would go unprotected.
    p : float
        Power, from 1 (least absolute deviations) to 64.
    quantile : float, optional
        With p = 1, regress on this quantile in place of the median.
    rows : int, optional
        Expected number of rows to keep. By default the fewest for which the best explicit bound
        reaches epsilon; if that is more than half of the rows, all are kept.
    epsilon : float, optional
        Distortion that sets the default of rows, 0.5 if not given. Not beside rows.
    gap : float, optional
        How far above the optimum on all rows, relative to it, the cost of the regression may be,
        0.1 if not given: what the certificate ``optimality-gap`` is held against.
    delta : float
        Probability with which the certificates about the rows may fail.
    scores : {"lewis", "sensitivity", "augmented", "mix", "root-leverage", "leverage", "uniform"}
        Keep rows in proportion to Lewis weights; sensitivities; sensitivities plus leverage; both,
        each with half the budget, for p > 2; root leverage, in four rounds, for p ≤ 2; leverage; or
        all alike.
    importance : array_like, shape (n,), optional
        Scores of your own, in place of `scores`.
    sampling : {"poisson", "fixed", "multinomial"}
        A coin for each row, so that the number of rows varies by √m; exactly m rows, which no
        theorem covers; or draws with replacement, for comparison: they void the certificates.
    refine : bool
        Improve the solution on all rows: to the optimum for p = 1, by three Newton steps else.
    measure : bool
        Search for the worst direction, and solve with all rows, to measure what is promised.
    on_rank : {"raise", "drop"}
        What to do about dependent columns: complain, or give them coefficient zero.
    sharp_constant : float
        Calibrated constant of the certificate ``sharp-rate``.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    LpCoreset
        Rows and weights, the solution, and the certificates.

    Raises
    ------
    ValueError
        If an argument is out of range, not finite, of a wrong shape, or would be ignored.
    numpy.linalg.LinAlgError
        If columns of A are linearly dependent; they are named.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((20000, 5))
    >>> b = A @ np.arange(5.0) + rng.standard_t(3, 20000)
    >>> result = lp_sensitivity_sampling(A, b, p=1, rows=4000, gap=0.05, rng=0)
    >>> print(result.certificates[3].headline)
    holds
    """
    same_order(A=A, b=b, importance=importance)
    A, names = as_design(A)
    n, width = A.shape
    level = as_quantile(quantile, p)
    target = None if b is None else as_vector(b, "b", size=n, dtype=np.float64)
    _refuse_ignored(target, p, level, rows, epsilon, gap, scores, importance, sampling, refine)
    source = np.random.default_rng(rng)
    random = private_stream(source)
    inner = whiten(A, names, on_rank)
    basis = inner if target is None else _extend(inner, target)
    d = basis.U.shape[1]
    if rows is not None and rows <= d:
        what = "A" if target is None else "[A | b]"
        raise ValueError(f"rows must be more than {d}, the columns of {what}, got {rows}")
    v = fixed_point(basis.U, p, 1e-3, 500)[1]
    if importance is None:
        u, bound = _scores(scores, basis, p, v, random)
    else:
        u, bound = (
            as_vector(importance, "importance", size=n, dtype=np.float64),
            majorant(v, basis.leverage, p),
        )
        if u.min() < 0 or not u.any():
            raise ValueError("importance must not be negative, nor all zero")
    facts = _evidence(
        basis,
        p,
        delta,
        v,
        bound,
        coins=_coins(sampling, source),
        weights=th.WEIGHTS.by_construction("set to 1/q by the draw"),
        kappa=1.0 if level is None else 1 / (2 * min(level, 1 - level)),
        sharp_constant=sharp_constant,
    )
    if rows is None:
        accuracy = EPSILON if epsilon is None else epsilon
        rows = _fewest_rows(u, accuracy, facts)
        if rows > n / 2:
            message = f"epsilon = {accuracy:g} needs {rows} of {n} rows; keeping all"
            warnings.warn(message, stacklevel=3)
            rows = n
    assert rows is not None  # set above where it was None
    drawn, facts = _draw(facts, u, rows, sampling, scores, importance is None, random)
    if not len(drawn.index):
        raise ValueError(f"rows = {rows} left no row at all; take more")
    found, measured = _measured(basis, drawn.index, drawn.xi, p, 12 * measure, 30, random)
    evidence = replace(facts.evidence, rows=len(drawn.index), measured=measured)
    certificates = [th.subspace_embedding(evidence), th.sharp_rate(evidence)]
    fit = None
    if target is not None:
        fit = _regress(A, target, inner, drawn, p, level, refine)
        best = _best(A, target, inner, p, level) if measure else None
        size = norm_of(target, p, level)
        demand = GAP if gap is None else gap
        certificates += [
            th.regression_cost(evidence, fit.gap, fit.solved, fit.linear_part, size, best),
            th.optimality_gap_certificate(
                fit.gap, demand, p, len(inner.columns), inner.smallest, size, best
            ),
        ]
    return LpCoreset(
        index=drawn.index,
        xi=drawn.xi,
        probabilities=drawn.probabilities,
        scores=u,
        total_score=float(u.sum()),
        x=None if fit is None else fit.x,
        cost=None if fit is None else fit.gap.cost,
        lower_bound=None if fit is None else fit.gap.lower_bound,
        gap=None if fit is None else fit.gap.gap,
        exact=_all_rows(basis, drawn.index, drawn.xi),
        p=p,
        shape=(n, width),
        names=names,
        certificates=tuple(certificates),
        distortion=found,
        left_out=tuple(names[j] for j in np.setdiff1d(np.arange(width), inner.columns)),
        heavy=0 if fit is None else fit.heavy,
    )


def _refuse_ignored(
    b: np.ndarray | None,
    p: float,
    quantile: float | None,
    rows: int | None,
    epsilon: float | None,
    gap: float | None,
    scores: str,
    importance: Any,
    sampling: str,
    refine: bool,
) -> None:
    """Refuse what would be ignored, and what does not fit together."""
    for name, given in {
        "quantile": quantile is not None,
        "gap": gap is not None,
        "refine": refine,
    }.items():
        if given and b is None:
            raise ValueError(f"{name} needs b: without it there is no regression")
    if epsilon is not None and rows is not None:
        raise ValueError("epsilon must be None where rows is given: it sets the number of rows")
    if importance is not None and scores != "lewis":
        raise ValueError("scores must be left out where importance is given in their place")
    if scores == "root-leverage" and (p > 2 or sampling != "poisson"):
        raise ValueError(
            "scores must not be 'root-leverage' but for p ≤ 2 and sampling 'poisson', got "
            f"p = {p:g} and {sampling!r}"
        )
    if scores == "mix" and p <= 2:
        raise ValueError(f"scores must not be 'mix' unless p > 2, got p = {p:g}")


def _extend(basis: Basis, b: np.ndarray) -> Basis:
    """The basis of [A | b]; that of A where b lies in its range but for rounding."""
    unit = float(np.abs(b).max()) or 1.0  # whose square may over- or underflow
    b = b / unit
    inside = basis.U.T @ b
    left = b - basis.U @ inside
    again = basis.U.T @ left
    left, inside = left - basis.U @ again, inside + again
    size = float(np.linalg.norm(left))
    if size <= 16 * th.UNIT * np.linalg.norm(b):
        return basis
    d = len(inside)
    R = np.zeros((d + 1, d + 1))
    R[:d, :d], R[:d, d], R[d, d] = basis.R, inside * unit, size * unit
    U = np.column_stack([basis.U, left / size])
    return Basis(U, R, np.append(basis.columns, basis.width), basis.width + 1)


def _scores(
    kind: str, basis: Basis, p: float, v: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scores u of every row, and the certain upper bound on its sensitivity."""
    tau = basis.leverage
    if kind not in ("sensitivity", "augmented", "mix"):
        u = {
            "lewis": v,
            "leverage": tau,
            "root-leverage": tau ** (p / 2),
            "uniform": squared_rows(basis.U).astype(bool).astype(float),
        }
        return u[kind], majorant(v, tau, p)
    n, d = basis.U.shape
    rows = None if n <= ALL_ROWS else max(2000, 40 * d)
    found = from_basis(basis, p, v, np.arange(n), rows, rng)
    s = found.lower
    match kind:
        case "augmented":
            return s + tau, found.certified
        case "mix":  # half the budget to each
            return s / s.sum() + tau / tau.sum(), found.certified
    return s, found.certified


def _coins(sampling: str, rng: np.random.Generator) -> Answer:
    """How the rows are about to be drawn; a generator of the user's making is not vouched for."""
    if sampling == "multinomial":
        return th.COINS.check(
            False, "drawn with replacement, so that certain rows may be missing or there twice"
        )
    if sampling == "fixed":
        return th.COINS.unchecked("exactly so many rows were drawn, which are not independent")
    if type(rng) is np.random.Generator and type(rng.bit_generator) in NUMPY:
        return th.COINS.by_construction("a coin a row was tossed here")
    return th.COINS.unchecked(f"the coins come from a {type(rng).__name__} that is not numpy's")


@dataclass(frozen=True, eq=False)
class _Facts:
    """What is known before the coins: evidence follows for any probabilities."""

    basis: Basis
    v: np.ndarray
    bound: np.ndarray
    evidence: th.Evidence

    def at(self, q: np.ndarray) -> th.Evidence:
        """The evidence for rows kept with probabilities q."""
        alpha = min(_ratio(self.bound, q), 1e300)
        return replace(self.evidence, alphas=(alpha,), alpha_lewis=_ratio(self.v, q))


def _ratio(numerator: np.ndarray, q: np.ndarray) -> float:
    """``max numerator/q`` over rows that are not certain; infinite if one that matters is never."""
    free = (q < 1) & (numerator > 0)
    if not free.any():
        return 0.0
    with np.errstate(divide="ignore"):
        return float((numerator[free] / q[free]).max())


def _evidence(
    basis: Basis,
    p: float,
    delta: float,
    v: np.ndarray,
    bound: np.ndarray,
    *,
    coins: Answer,
    weights: Answer,
    **known: Any,
) -> _Facts:
    n, d = basis.U.shape
    evidence = th.Evidence(
        n=n,
        d=d,
        rows=n,
        p=p,
        delta=delta,
        alphas=(0.0,),
        alpha_lewis=0.0,
        mass=float(v.sum()),
        total=float(bound.sum()),
        one_sided=ratio_in_basis(basis.U, v, p),
        smallest=basis.smallest,
        coins=coins,
        weights=weights,
        **known,
    )
    return _Facts(basis, v, bound, evidence)


def _fewest_rows(u: np.ndarray, epsilon: float, facts: _Facts) -> int:
    """The smallest m whose best bound is at most epsilon; all positive scores if none is."""
    low, high = 0, int(np.count_nonzero(u))
    while high - low > 1:
        middle = (low + high) // 2
        enough = facts.at(inclusion(u, middle)[0]).bound[1] <= epsilon
        low, high = (low, middle) if enough else (middle, high)
    return high


def _draw(
    facts: _Facts,
    u: np.ndarray,
    rows: int,
    sampling: Sampling,
    scores: str,
    ours: bool,
    rng: np.random.Generator,
) -> tuple[Draw, _Facts]:
    """The rows, and what their probabilities say; no coin is tossed where all rows are kept."""
    q = inclusion(u, rows)[0]
    live = squared_rows(facts.basis.U) > 0
    if (q[live] >= 1).all():
        index = np.flatnonzero(live)
        certain = replace(
            facts.evidence,
            coins=th.COINS.by_construction("all rows are kept"),
            weights=th.WEIGHTS.by_construction("all rows are kept, with weight 1"),
        )
        return Draw(index, np.ones(len(index)), live.astype(float)), replace(
            facts, evidence=certain
        )
    if scores == "root-leverage" and ours:
        sample = root_leverage_in_basis(facts.basis.U, facts.evidence.p, rows, ROUNDS, rng)
        drawn = Draw(sample.index, sample.xi, np.full(len(u), np.nan))
        known = replace(facts.evidence, alphas=sample.alphas, alpha_lewis=np.inf)
    else:
        drawn, known = draw(q, sampling, rng), facts.at(q)
    return drawn, replace(facts, evidence=known)


def _all_rows(basis: Basis, index: np.ndarray, xi: np.ndarray) -> bool:
    """Whether every row that is not zero is there, as it is."""
    live = np.flatnonzero(squared_rows(basis.U) > 0)
    return bool((xi == 1).all() and np.array_equal(live, np.sort(index[np.isin(index, live)])))


def _measured(
    basis: Basis,
    index: np.ndarray,
    xi: np.ndarray,
    p: float,
    starts: int,
    steps: int,
    rng: np.random.Generator,
) -> tuple[Distortion | None, Estimate | None]:
    """The distortion: exactly where that is cheap, from below by a search from so many starts."""
    d = basis.U.shape[1]
    if _all_rows(basis, index, xi):
        return None, exact(0.0)
    if not starts and p != 2 and d > 1:
        return None, None
    found = search(basis, index, xi, p, max(starts, 1), steps, rng)
    # The basis is that of A up to κu.
    radius = 16 * th.UNIT * d / basis.smallest * (1 + found.value)
    if found.exact:
        return found, exact(found.value, radius)
    low = max(found.value - p * radius, 0.0)
    return found, Estimate(max(found.value, low), low, np.inf, 1.0, method="search, from below")


@dataclass(frozen=True, eq=False)
class _Fit:
    x: np.ndarray
    gap: OptimalityGap
    solved: float
    linear_part: Answer
    heavy: int


def _regress(
    A: np.ndarray,
    b: np.ndarray,
    inner: Basis,
    drawn: Draw,
    p: float,
    quantile: float | None,
    refine: bool,
) -> _Fit:
    """The solution on the rows kept, refined if wanted, and its gap on all rows."""
    whole = len(drawn.index) == len(A) and bool((drawn.xi == 1).all())
    # The rows kept may be of lower rank; of dependent columns those that A keeps.
    rows = inner
    if not whole:
        part = whiten(A[np.ix_(drawn.index, inner.columns)], on_rank="drop")
        rows = replace(part, columns=inner.columns[part.columns], width=inner.width)
    slope = None
    if quantile is not None and not whole:  # A x = U z in the rows' basis: Aᵀ1 becomes R⁻ᵀ(Aᵀ1)
        tilt = A.sum(axis=0)[rows.columns]
        slope = -(quantile - 0.5) * np.linalg.solve(rows.R.T, tilt)
    solved, linear = solve(rows, b[drawn.index], p, drawn.xi, quantile, slope)
    x, dual = rows.coefficients(solved.z), solved.dual if whole else None
    if refine:
        better = _refined(inner, b, inner.U.T @ (A @ x), p, quantile)
        other = inner.coefficients(better.z)
        if norm_of(b - A @ other, p, quantile) < norm_of(b - A @ x, p, quantile):
            x, dual = other, better.dual
    # Where the rows have lost a direction the exact linear part is unbounded along it.
    linear = linear and len(rows.columns) == len(inner.columns)
    if quantile is None:
        tilted = th.LINEAR_PART.by_construction("a sum of powers has none")
    else:
        tilted = th.LINEAR_PART.check(linear, "that of all rows" if linear else "that of rows kept")
    return _Fit(
        x, gap_at(A, inner, b, x, p, quantile, dual), solved.gap, tilted, _heavy(b - A @ x, p)
    )


def _refined(
    inner: Basis, b: np.ndarray, z: np.ndarray, p: float, quantile: float | None
) -> Solved:
    """A better solution, from z, with all rows."""
    U = inner.U
    if p > 1:
        return Solved(newton(U, b, p, np.ones(len(b)), z, steps=3)[0], None, np.inf)
    q = 0.5 if quantile is None else quantile
    pair = least_absolute(U, b, np.full(len(b), 0.5), -(q - 0.5) * U.sum(axis=0), z)
    if pair is None:
        return Solved(z, None, np.inf)
    return Solved(pair[0], (2.0 if quantile is None else 1.0) * (pair[1] + q - 0.5), 0.0)


def _best(
    A: np.ndarray, b: np.ndarray, inner: Basis, p: float, quantile: float | None
) -> OptimalityGap:
    """The solution with all rows, to measure against."""
    solved, _ = solve(inner, b, p, None, quantile)
    return gap_at(A, inner, b, inner.coefficients(solved.z), p, quantile, solved.dual)


def _heavy(r: np.ndarray, p: float) -> int:
    """How few rows carry nearly all of the cost, at most ten; else 0, and always for p > 2."""
    size = np.abs(r)
    top = float(size.max(initial=0.0))
    if p > 2 or len(r) < 100 * HEAVY_ROWS or not 0 < top < np.inf:
        return 0
    loss = (size / top) ** p
    largest = np.sort(np.partition(loss, -HEAVY_ROWS)[-HEAVY_ROWS:])[::-1]
    reached = np.cumsum(largest) >= HEAVY_SHARE * loss.sum()
    if not reached.any():
        return 0
    few = int(np.argmax(reached)) + 1
    warnings.warn(
        f"{few} rows carry 99 % of the cost, and the gap is relative to it: look at the largest "
        "entries of b",
        stacklevel=5,
    )
    return few


@front_door
def certify(
    A: Any,
    index: Any,
    xi: Any,
    p: Annotated[float, Between(1, 64)],
    *,
    probabilities: Any = None,
    one_sided: Any = None,
    delta: Annotated[float, Fraction()] = 0.05,
    sharp_constant: Annotated[float, Above(0)] = 1.0,
    measure: bool = True,
    rng: np.random.Generator | int | None = None,
) -> tuple[Certificate, Certificate]:
    """The certificates ``subspace-embedding`` and ``sharp-rate`` of rows that came from elsewhere.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    index, xi : array_like, shape (m,)
        Rows and their weights.
    p : float
        Power, at least 1.
    probabilities : array_like, shape (n,), optional
        With which each row was kept, by a coin of its own, as whoever drew them says; the rows are
        tested for it. Without them, the theorem is void.
    one_sided : array_like, shape (n,), optional
        One-sided Lewis weights of your own; they are checked.
    delta : float
        Failure probability.
    sharp_constant : float
        Calibrated constant of the sharp rate.
    measure : bool
        Search for the worst direction; for p = 2 it is computed in any case.
    rng : numpy.random.Generator, int or None
        Source of randomness of the search.

    Returns
    -------
    tuple of Certificate
    """
    clean, names = as_design(A)
    n = len(clean)
    rows, weights = as_rows(index, xi, n)
    basis = whiten(clean, names)
    v = fixed_point(basis.U, p, 1e-3, 500)[1]
    if one_sided is not None:
        v = as_vector(one_sided, "one_sided", size=n, dtype=np.float64)
        if v.min() < 0:
            raise ValueError(f"one_sided must not be negative, got {v.min():g}")
    if probabilities is None:
        q = np.zeros(n)
        q[rows] = np.minimum(1.0, 1 / np.maximum(weights, 1e-300))
        coins = th.COINS.check(False, "the rows were given without probabilities: not drawn")
        inverse = th.WEIGHTS.unchecked("there are no probabilities to hold them against")
    else:
        q = as_vector(probabilities, "probabilities", size=n, dtype=np.float64)
        if q.min() < 0 or q.max() > 1:
            raise ValueError(f"probabilities must be in [0, 1], got {q.min():g} to {q.max():g}")
        live = squared_rows(basis.U) > 0
        coins = th.coins_of(q, rows, live, clean[:, : th.LOOKED_AT], basis.leverage)
        off = float(np.abs(weights * q[rows] - 1).max())
        inverse = th.WEIGHTS.check(off <= WEIGHTS_SLACK, f"the largest |ξ q − 1| is {off:.3g}")
    facts = _evidence(
        basis,
        p,
        delta,
        v,
        majorant(v, basis.leverage, p),
        coins=coins,
        weights=inverse,
        sharp_constant=sharp_constant,
    )
    random = np.random.default_rng(rng)
    measured = _measured(basis, rows, weights, p, 24 * measure, 60, random)[1]
    evidence = replace(facts.at(q), rows=len(rows), measured=measured)
    return th.subspace_embedding(evidence), th.sharp_rate(evidence)
