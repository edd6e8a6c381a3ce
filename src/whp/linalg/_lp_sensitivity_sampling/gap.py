"""How far a regression is from the optimum on all rows, without any randomness.

A dual solution is made from the residuals; rounding of the residuals, and of the dual's
orthogonality to the columns of A, is in the numbers that the user gets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
import scipy.linalg as sl

from whp.door import Between, Fraction, front_door
from whp.linalg._lp_sensitivity_sampling.basis import Basis, as_design, column_norms, whiten
from whp.linalg._lp_sensitivity_sampling.solvers import FLOOR, as_quantile, norm_of, powers, raised
from whp.validate import as_vector, same_order

__all__ = ["OptimalityGap", "gap_at", "optimality_gap"]

NEAR = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
UNIT = float(np.finfo(float).eps) / 2
# First-order rounding needs 8u√d κ small; where it is larger than this nothing is said.
LARGEST_BACKWARD = 0.05
LEAST = float(np.finfo(float).smallest_subnormal)  # what a product may lose by vanishing
# Steps between the box and what is orthogonal to the columns: with many residuals of zero, as
# counts and rounded numbers have, three are not enough.
PROJECTIONS = 30
FEASIBLE = 1e-12
BLOCK = 65536


@dataclass(frozen=True, eq=False)
class OptimalityGap:
    """``lower_bound ≤ OPT`` and ``cost ≤ (1 + gap) OPT``, rounding included.

    Attributes
    ----------
    cost : float
        Of the solution on all rows.
    lower_bound : float
        No coefficients of the columns kept have a smaller cost; 0 where nothing is known.
    gap : float
        What the solution's cost may be above the optimum, relative to it; infinite where the lower
        bound is 0.
    dual : ndarray, shape (n,)
        The y behind the bound.
    residual : float
        ``‖Aᵀy‖/‖y‖`` for columns of norm 1.
    roots : tuple of float
        The lower bound, and between which numbers the cost lies, each to the power 1/p.
    """

    cost: float
    lower_bound: float
    gap: float
    dual: np.ndarray = field(repr=False)
    residual: float
    roots: tuple[float, float, float]


def _residuals(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``b − Ax`` and how far rounding may have moved each entry."""
    size, absolute = np.abs(b), np.abs(x)
    for i in range(0, len(A), BLOCK):
        size[i : i + BLOCK] += np.abs(A[i : i + BLOCK]) @ absolute
    return b - A @ x, (len(x) + 2) * (UNIT * size + LEAST)


def gap_at(
    A: np.ndarray,
    basis: Basis,
    b: np.ndarray,
    x: np.ndarray,
    p: float,
    quantile: float | None,
    dual: np.ndarray | None = None,
) -> OptimalityGap:
    """See :func:`optimality_gap`; `dual` is one more candidate, near an optimal one."""
    r, off = _residuals(A, b, x)
    norm, radius = norm_of(r, p, quantile), norm_of(off, p)
    if quantile is not None:
        radius *= max(quantile, 1 - quantile)
    radius += 4 * UNIT * math.sqrt(len(b)) * norm + 4 * LEAST
    low, high = max(norm - radius, 0.0), norm + radius
    top = float(np.abs(r).max(initial=0.0))
    if not 0 < top < math.inf:
        return OptimalityGap(raised(norm, p), 0.0, math.inf, np.zeros(len(b)), 0.0, (0, low, high))
    U, unit = basis.U, r / top
    if p > 1:
        gradient = powers(np.abs(unit), p - 1) * np.sign(r)
        candidates = [gradient, _one_newton_step(U, unit, gradient, p)]
        feasible = [_of_unit_norm(U, y, p / (p - 1)) for y in candidates]
    else:
        q = 0.5 if quantile is None else quantile
        scale = 2.0 if quantile is None else 1.0
        box = scale * (q - 1), scale * q
        feasible = [_dual_of_absolute(U, unit, *box)]
        if dual is not None:
            feasible.append(_into_the_box(U, dual, *box))
    y = max(feasible, key=lambda z: float(unit @ z))
    # A solution of cost at most that of x differs from it in residuals by Aw, ‖Aw‖₂ ≤ reach; what
    # y gains by not being orthogonal to A itself is at most leak times that.
    columns = A[:, basis.columns]
    scales = basis.norms
    slack = float(np.linalg.norm((columns.T @ y) / scales))
    length = float(np.linalg.norm(y))
    leak = (slack + 8 * UNIT * math.sqrt(len(scales)) * length) / basis.smallest
    reach = 2 * high * max(len(b), 1) ** max(0.0, 0.5 - 1 / p)
    if quantile is not None:
        reach /= min(quantile, 1 - quantile)
    rounding = float(off @ np.abs(y)) + 4 * UNIT * math.sqrt(len(b)) * norm + 4 * LEAST
    bound = proven(float(unit @ y) * top, high, leak * reach + rounding)
    gap = math.inf if bound == 0 else max(0.0, raised(high / bound, p) - 1)
    return OptimalityGap(
        raised(norm, p),
        math.nextafter(raised(bound, p), 0.0),
        gap,
        y,
        slack / (length or 1.0),
        (bound, low, high),
    )


def proven(product: float, high: float, rounding: float) -> float:
    """The lower bound on the optimum's root, of ``rᵀy`` and what rounding may have added to it."""
    return max(0.0, min(product, high) - rounding)


def _one_newton_step(U: np.ndarray, r: np.ndarray, gradient: np.ndarray, p: float) -> np.ndarray:
    """The gradient where a Newton step from r would lead: near to optimal where r is.

    The correction falls on rows near zero, whose part of the gradient is the least certain: with p
    near 1 it jumps there.
    """
    curve = np.maximum(np.abs(r), FLOOR) ** (p - 2)
    try:
        hessian = sl.cho_factor(U.T @ (U * curve[:, None]), check_finite=False)
    except np.linalg.LinAlgError:
        return gradient
    return gradient - curve * (U @ sl.cho_solve(hessian, U.T @ gradient, check_finite=False))


def _orthogonal(U: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The part of y that is orthogonal to the columns; twice, for rounding."""
    for _ in range(2):
        y = y - U @ (U.T @ y)
    return y


def _of_unit_norm(U: np.ndarray, y: np.ndarray, conjugate: float) -> np.ndarray:
    """The orthogonal part of y, of norm 1 in the conjugate of p."""
    z = _orthogonal(U, y)
    size = norm_of(z, conjugate)
    return z / size if 0 < size < math.inf else np.zeros(len(y))


def _into_the_box(U: np.ndarray, y: np.ndarray, low: float, high: float) -> np.ndarray:
    """The orthogonal part of y, shrunk into the box [low, high]."""
    z = _orthogonal(U, y)
    return z / max(1.0, float(z.max()) / high, float(z.min()) / low)


def _dual_of_absolute(U: np.ndarray, r: np.ndarray, low: float, high: float) -> np.ndarray:
    """The best of several y in the box [low, high] that are orthogonal to the columns.

    At the optimum y is at an end of the box by the sign of the residual, except for residuals near
    zero, where it is free to make ``Uᵀy`` vanish. What "near" is depends on the data: h runs
    through quantiles of |r|, and only rows below it move.
    """
    size = np.abs(r)
    positive = np.sort(size[size > 0])
    best, best_bound = np.zeros(len(r)), 0.0
    order = np.argsort(size, kind="stable")
    V, s, sizes = U[order], r[order], size[order]
    gram, counted = np.zeros((U.shape[1], U.shape[1])), 0
    for share in NEAR:
        h = positive[min(int(share * len(positive)), len(positive) - 1)]
        k = int(np.searchsorted(sizes, h, side="right"))  # rows with |r| ≤ h come first
        if k > counted:
            gram += V[counted:k].T @ V[counted:k]
            counted = k
        y = np.clip(s / h, -1, 1) * (high - low) / 2 + (high + low) / 2
        try:
            inner = sl.cho_factor(gram, check_finite=False)
        except np.linalg.LinAlgError:
            continue  # too few rows near zero to span the columns
        near, moved, rest = V[:k], y[:k], V[k:].T @ y[k:]
        length = float(np.linalg.norm(y))
        for _ in range(PROJECTIONS):
            leak = rest + near.T @ moved
            if np.linalg.norm(leak) <= FEASIBLE * length:
                break
            moved -= near @ sl.cho_solve(inner, leak, check_finite=False)
            np.clip(moved, low, high, out=moved)
        inside = y.copy()
        inside[:k] -= V[:k] @ sl.cho_solve(inner, V.T @ inside, check_finite=False)
        for z in (y, inside):
            shrunk = _into_the_box(V, z, low, high)
            if (bound := float(s @ shrunk)) > best_bound:
                best_bound = bound
                best = np.empty_like(shrunk)
                best[order] = shrunk
    return best


@front_door
def optimality_gap(
    A: Any,
    b: Any,
    x: Any,
    p: Annotated[float, Between(1, 64)],
    quantile: Annotated[float, Fraction()] | None = None,
) -> OptimalityGap:
    """A certain bound on how much the cost of x exceeds the optimum on all rows, in O(nd²).

    By duality of norms ``bᵀz/‖z‖_{p'} ≤ min_x ‖b − Ax‖_p`` for every z with ``Aᵀz = 0``. The z
    taken is the gradient of the cost in the residual, made orthogonal to the columns; at an optimum
    with p > 1 it already is, and the gap is rounding.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Design; of dependent columns enough are kept to span the others. Where one is left out
        though it differs from those kept by more than rounding, the gap is infinite: a large
        coefficient there may cost less than any bound over the others.
    b : array_like, shape (n,)
        Right-hand side.
    x : array_like, shape (d,)
        Coefficients, from wherever.
    p : float
        Power, at least 1.
    quantile : float, optional
        With p = 1: the pinball cost of that quantile in place of the sum of absolute residuals.

    Returns
    -------
    OptimalityGap
    """
    same_order(A=A, b=b)
    clean, names = as_design(A)
    level = as_quantile(quantile, p)
    target = as_vector(b, "b", size=len(clean), dtype=np.float64)
    solution = as_vector(x, "x", dtype=np.float64)
    if len(solution) != clean.shape[1]:
        raise ValueError(
            f"x must have {clean.shape[1]} entries, one a column of A, got {len(solution)}"
        )
    basis = whiten(clean, names, "drop")
    found = gap_at(clean, basis, target, solution, p, level)
    if _spans(clean, basis):
        return found
    _, low, high = found.roots
    return replace(found, lower_bound=0.0, gap=math.inf, roots=(0.0, low, high))


def _spans(A: np.ndarray, basis: Basis) -> bool:
    """Whether the columns left out are combinations of those kept, but for rounding."""
    others = A[:, np.setdiff1d(np.arange(A.shape[1]), basis.columns)]
    sizes = column_norms(others)
    others = others[:, sizes > 0] / sizes[sizes > 0]
    left = _orthogonal(basis.U, others)
    resolved = 8 * UNIT * math.sqrt(A.shape[1]) / LARGEST_BACKWARD
    return bool((np.linalg.norm(left, axis=0) <= resolved).all())
