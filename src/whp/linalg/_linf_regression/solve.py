"""From a problem and its sketch to a solution with certificates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse.linalg import LinearOperator

from whp.certificate import Certificate
from whp.linalg._linf_regression import bounds, factor, theorems
from whp.linalg._linf_regression.blocks import BlockSRHT, repeated, spread
from whp.linalg._linf_regression.factor import Factored
from whp.linalg._linf_regression.problem import Problem, one_or_two
from whp.linalg._linf_regression.refine import refined
from whp.linalg._linf_regression.sketches import (
    SRHT,
    GaussianSketch,
    PooledHadamard,
    Sketch,
    SubsampledCirculant,
    TensorSRHT,
)
from whp.linalg._linf_regression.solution import LinfRegression
from whp.linalg._linf_regression.statistical import Statistics
from whp.linalg._linf_regression.theorems import Evidence, Law
from whp.provenance import made_here

__all__ = ["Sketched", "exactly", "from_sketch"]

PROBES = 16
MIXING: tuple[type, ...] = (SRHT, PooledHadamard, SubsampledCirculant, BlockSRHT, TensorSRHT)


@dataclass(frozen=True, eq=False)
class Sketched:
    """A sketch of a problem, SA and Sb.

    Parameters
    ----------
    operator : LinearOperator
        S.
    SA, Sb : ndarray
        ``S @ A`` and ``S @ b``.
    """

    operator: LinearOperator
    SA: np.ndarray
    Sb: np.ndarray

    @property
    def family(self) -> str:
        """Name of the sketch."""
        named = type(self.operator) if self.law != "unknown" else self.operator
        return str(getattr(named, "family", "this sketch"))

    @property
    def law(self) -> Law:
        """What is known of its rows by its making; nothing that a caller's class can claim."""
        S = self.operator
        if made_here(S, GaussianSketch):
            return "gaussian"
        if isinstance(S, BlockSRHT) and not all(made_here(part, SRHT) for part in S.blocks):
            return "unknown"
        return "here" if made_here(S, *MIXING) else "unknown"

    def lengths(self, problem: Problem, delta: float) -> tuple[float, float, float]:
        """Smallest and largest ‖Sv‖/‖v‖ of columns v of A and b, and how far from 1 is allowed.

        For Gaussian rows ‖Sv‖²/‖v‖² is χ²/m, and √χ² leaves √m by t with probability 2 exp(−t²/2)
        at most; less than one by which its mean is below √m.
        """
        m = len(self.SA)
        after = np.linalg.norm(np.column_stack([self.SA.astype(float), self.Sb]), axis=0)
        before = np.append(problem.norms, np.linalg.norm(problem.b, axis=0))
        seen = np.append((np.abs(self.SA) > 0).any(axis=0), before[len(problem.norms) :] > 0)
        ratios = after[seen] / before[seen]
        room = (1 + np.sqrt(2 * np.log(2 * len(before) / delta))) / np.sqrt(m)
        return float(ratios.min()), float(ratios.max()), float(room)

    def probed(self) -> tuple[int, int] | None:
        """How many of some rows of S were looked at, and how many of them have one entry."""
        looked = single = 0
        m = self.operator.shape[0]
        try:
            for i in np.unique(np.linspace(0, m - 1, min(m, PROBES)).astype(int)):
                unit = np.zeros(m)
                unit[i] = 1.0
                row = np.abs(self.operator.T @ unit)
                entries = int((row > 1e-12 * row.max()).sum())
                looked += entries > 0
                single += entries == 1
        # What scipy raises for an operator without an adjoint.
        except (NotImplementedError, AttributeError, TypeError):
            return None
        return looked, single


def from_sketch(
    problem: Problem,
    sketched: Sketched,
    *,
    delta: float,
    scale: bool,
    refine: int | Literal["lsqr"],
    x_exact: Any,
    measure: bool,
    solver: Callable[[Problem], tuple[Factored, np.ndarray]] | None = None,
    inflation: float | None = None,
) -> LinfRegression:
    """Solve the sketched problem, and say how far its solution is from that of A.

    Raises
    ------
    numpy.linalg.LinAlgError
        If the sketch has not the rank of A, or A not that of its columns; the message says which.
    """
    solver = solver or factor.factor_exact
    SA, Sb = sketched.SA, sketched.Sb
    m, (d, k) = len(SA), (SA.shape[1], Sb.shape[1])
    fit = _factor(problem, sketched, solver)
    operator = sketched.operator
    scaled = SA / problem.norms
    if isinstance(operator, BlockSRHT):
        uneven = spread(operator.row_edges, operator.repeats, scaled, Sb, fit)
    elif isinstance(operator, Sketch):
        uneven = repeated(operator.repeats, operator.population, scaled, fit)
    else:
        uneven = repeated(np.ones(m), math.inf, scaled, fit)
    # Terms of ‖Sr‖² have variance 8 ‖r‖⁴ at most for a tensor sketch, 2 ‖r‖⁴ for Gaussian rows.
    degrees = uneven.degrees / (4 if isinstance(operator, TensorSRHT) else 1)
    # A caller's class may make its bars wider, never narrower.
    if inflation is None:
        inflation = max(1.0, float(getattr(operator, "inflation", 1.0)))
    variance = inflation * uneven.factor
    distortion = bounds.embedding_distortion(uneven.rows, d, delta / 2)  # of both ends
    wider = (1 + distortion) ** 2
    deviation = np.sqrt(fit.diagonal)[:, None]
    size = np.linalg.norm(problem.b, axis=0)
    residual = np.sqrt(m * fit.rss / uneven.left)
    if refine == 0:
        y, spreads = fit.y, deviation * np.sqrt(variance * fit.rss / uneven.left)
        rounding = fit.rounding(y, np.sqrt(fit.rss), problem.dtype)
        quantile = bounds.student_quantile(delta, d * k, degrees)
    else:
        y = refined(problem, fit, m, refine)
        left = problem.left(y)
        residual = np.linalg.norm(left, axis=0)
        gradient = fit.reduce(problem.gradient(left))
        spreads = deviation * np.linalg.norm(gradient, axis=0)
        rounding = wider * fit.rounding(y, residual, problem.dtype)
        quantile = bounds.refined_quantile(delta, uneven.rows, d)
    half = bounds.times(quantile, spreads) + rounding

    smallest = _smallest(fit, problem, scale)
    pinv = (max(1 - distortion, 0.0) / smallest, (1 + distortion) / smallest)
    known = _Reference(residual, pinv)
    if x_exact is not None:
        reference = problem.from_user(_as_solution(x_exact, d, k))
        with np.errstate(over="ignore", invalid="ignore"):
            off = problem.left(reference)
            finite = np.square(off).sum() < np.inf and np.square(reference).sum() < np.inf
        if not finite:
            raise ValueError("x_exact must be near the solution, but A x_exact overflows")
        known = _Reference(
            np.linalg.norm(off, axis=0),
            pinv,
            problem.given(y) - reference,
            wider * deviation * factor.gradient_norm(problem, reference, fit),
            1 - delta,
        )
    elif measure:
        known = _measured(problem, y, solver, scale)
    evidence = Evidence(
        d=d,
        m=m,
        embedding_rows=uneven.rows,
        delta=delta,
        sketch=sketched.family,
        law=sketched.law,
        probed=sketched.probed() if sketched.law == "unknown" else None,
        lengths=sketched.lengths(problem, delta),
        condition=fit.condition,
        backward=fit.backward,
        half=half,
        rounding=rounding,
        reach=np.abs(y) + (1 + distortion) * deviation * size,
        variance=float(variance.max()),
        uneven=math.sqrt(uneven.factor.max()) if refine == 0 else 1.0,
        residual=known.residual,
        pinv=known.pinv,
        scale=None if scale else 1 / _relative_norms(problem)[:, None],
        error=known.error,
        radius=known.radius,
        level=known.level,
    )
    if refine == 0:
        certificates = (theorems.error_bars(evidence), theorems.linf_bound(evidence))
    else:
        certificates = (theorems.refined_error_bars(evidence),)
    return _result(
        problem,
        y,
        spreads + rounding,
        rounding,
        rows=m,
        residual=known.residual,
        sketch=sketched.family,
        solved="sketched" if refine == 0 else "refined",
        delta=delta,
        certificates=certificates,
        degrees=degrees,
        embedding_rows=uneven.rows,
        statistics=Statistics(problem, known.factor, solver),
    )


@dataclass(frozen=True, eq=False)
class _Reference:
    """What is known of the exact solution; norms alone, estimated, where there is no reference."""

    residual: np.ndarray
    pinv: tuple[float, float]
    error: np.ndarray | None = None
    radius: np.ndarray | None = None
    level: float = 1.0
    factor: Factored | None = None


def _measured(
    problem: Problem,
    y: np.ndarray,
    solver: Callable[[Problem], tuple[Factored, np.ndarray]],
    scale: bool,
) -> _Reference:
    """The distance to the exact solution, which is computed and checked by its own gradient."""
    truth, gap = solver(problem)
    residual = np.sqrt(truth.rss)
    own = truth.leaves(truth.y, residual) / factor.ROUNDING
    radius = np.sqrt(truth.diagonal)[:, None] * (gap + own)
    pinv = 1 / _smallest(truth, problem, scale)
    return _Reference(residual, (pinv, pinv), problem.given(y) - truth.y, radius, 1.0, truth)


def exactly(problem: Problem, delta: float) -> LinfRegression:
    """The exact solution, each coefficient with the radius of rounding."""
    fit, remaining = factor.factor_exact(problem)
    y, residual = fit.y, np.sqrt(fit.rss)
    n, d = problem.A.shape
    rounding = fit.rounding(y, residual, problem.dtype)
    certificate = theorems.exact_solution(
        remaining,
        fit.leaves(y, residual),
        np.linalg.norm(fit.R @ y, axis=0),
        factor.ROUNDING,
        fit.condition,
        fit.backward,
    )
    return _result(
        problem,
        y,
        rounding,
        rounding,
        rows=n,
        residual=residual,
        sketch="none",
        solved="exactly",
        delta=delta,
        certificates=(certificate,),
        degrees=np.full(y.shape[1], float(n - d)),
        embedding_rows=float(n),
        statistics=Statistics(problem, fit, factor.factor_exact),
    )


def _factor(
    problem: Problem, sketched: Sketched, solver: Callable[[Problem], tuple[Factored, np.ndarray]]
) -> Factored:
    """The factor of the sketch; where it has lost rank, an error that says whether A has."""
    unit = float(np.finfo(problem.A.dtype).eps)
    SA, Sb = sketched.SA, sketched.Sb
    if not (np.isfinite(SA).all() and np.isfinite(Sb).all()):
        raise ValueError("operator must give finite numbers, got NaN or infinity")
    try:
        return factor.factor_sketch(SA, Sb, problem.norms, unit, problem.names)
    except np.linalg.LinAlgError:
        solver(problem)  # says so where the columns of A depend
        raise np.linalg.LinAlgError(
            f"after {sketched.family}, the {len(SA)} rows of the sketch have lost the rank of A, "
            "which is full; take more rows, another seed, or sketch='pooled'"
        ) from None


def _smallest(fit: Factored, problem: Problem, scale: bool) -> float:
    """Smallest singular value of A, its columns scaled to norm 1 or as they are."""
    if scale:
        return float(fit.singular[-1])
    return float(np.linalg.svd(fit.R * _relative_norms(problem), compute_uv=False)[-1])


def _relative_norms(problem: Problem) -> np.ndarray:
    """Norms of the user's columns over a power of two, which the ℓ∞ bound does not depend on."""
    return np.ldexp(problem.norms, problem.exponents - problem.exponents.max())


def _as_solution(x_exact: Any, d: int, k: int) -> np.ndarray:
    solution = one_or_two(x_exact, "x_exact")
    if solution.size != d * k:
        raise ValueError(
            f"x_exact must have the shape of the solution, {d} by {k}, got {solution.shape}"
        )
    return solution.reshape(d, k)


def _result(
    problem: Problem,
    y: np.ndarray,
    stderr: np.ndarray,
    rounding: np.ndarray,
    *,
    residual: np.ndarray,
    certificates: tuple[Certificate, ...],
    **others: Any,
) -> LinfRegression:
    """Everything in the user's units and shapes."""
    n, d = problem.A.shape
    shape = (d,) if problem.flat else y.shape
    x = problem.kept(y).reshape(shape)
    if not np.isfinite(x).all():
        at = int(np.flatnonzero(~np.isfinite(x.reshape(d, -1)).all(axis=1))[0])
        raise ValueError(
            f"A must leave coefficients in the range of {problem.dtype}, that of column "
            f"{problem.names[at]} is not; divide the column or b by a constant"
        )
    norm = np.ldexp(residual, problem.targets)
    lost = float(np.finfo(problem.dtype).smallest_subnormal)  # by coefficients too small for it
    return LinfRegression(
        x=x,
        stderr=problem.to_user(stderr).reshape(shape) + lost,
        rounding=problem.to_user(rounding).reshape(shape) + lost,
        residual_estimate=float(norm[0]) if problem.flat else norm,
        shape=(int(n), int(d)),
        names=problem.names,
        certificates=certificates,
        column_norms=problem.user_norms,
        **others,
    )
