"""ℓp and quantile regression on all rows given: a linear program in its dual form, or Newton's method with an exact line search."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg as sl
from scipy.optimize import brentq

from whp.linalg.lp_sensitivity_sampling.basis import Basis, as_design, as_power, whiten
from whp.validate import as_fraction, as_vector

__all__ = ["as_quantile", "cost_of", "lp_regression", "pinball"]

FLOOR = 1e-8  # of the largest residual: what curvature is taken to be where it would be infinite or zero
OPTIMAL = 1e-14  # a duality gap that is rounding
NEARLY = 1e-9  # one at which steps that no longer halve it move residuals below rounding (p near 1)


def as_quantile(quantile: Any, p: float) -> float | None:
    """The quantile as a fraction; ValueError if p is not 1."""
    if quantile is None:
        return None
    level = as_fraction(quantile, "quantile")
    if p != 1:
        raise ValueError(f"quantile must be None unless p = 1, got {level:g} with p = {p:g}")
    return level


def pinball(r: np.ndarray, quantile: float) -> np.ndarray:
    """``q r`` above zero, ``(q − 1) r`` below."""
    return np.where(r > 0, quantile * r, (quantile - 1) * r)


def cost_of(
    r: np.ndarray, p: float, quantile: float | None = None, weights: np.ndarray | None = None
) -> float:
    """``Σ w|r|^p``, or the pinball cost."""
    loss = pinball(r, quantile) if quantile is not None else powers(np.abs(r), p)
    return float(loss.sum() if weights is None else weights @ loss)


def powers(size: np.ndarray, p: float) -> np.ndarray:
    """``size^p`` for size ≥ 0, by products and roots where that is faster than the general power."""
    match p:
        case 0.5:
            return np.sqrt(size)
        case 1:
            return size
        case 1.5:
            return size * np.sqrt(size)
        case 2:
            return size * size
        case 3:
            return size * size * size
        case 4:
            square = size * size
            return square * square
    return size**p


def least_absolute(
    U: np.ndarray, b: np.ndarray, half: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Minimise ``Σ half_i |b_i − u_iᵀz| + hᵀz``: the pair (z, y) of solutions of primal and dual, None if unbounded.

    HiGHS is given the dual, ``max bᵀy`` with ``Uᵀy = h`` and ``|y_i| ≤ half_i``: d constraints, where the usual primal form
    has n, which makes it many times faster.
    """
    from scipy.optimize import linprog

    size = float(np.abs(b).max()) or 1.0
    unit = float(half.max()) or 1.0
    bounds = np.column_stack([-half, half]) / unit
    found = linprog(-b / size, A_eq=U.T, b_eq=h / unit, bounds=bounds, method="highs")
    if found.status != 0:
        return None
    return -found.eqlin.marginals * size, found.x * unit


def newton(
    U: np.ndarray, b: np.ndarray, p: float, weights: np.ndarray, z: np.ndarray, steps: int = 200
) -> np.ndarray:
    """Minimise ``Σ w|b − Uz|^p``, p > 1, from z, until the duality gap is down to rounding."""
    r = b - U @ z
    cost = float(weights @ powers(np.abs(r), p))
    best, idle = np.inf, 0
    for _ in range(steps):
        size = np.abs(r)
        top = float(size.max())
        if top == 0:
            break
        # All in units of the largest residual: powers of it neither overflow nor vanish.
        relative = size / top
        dual = powers(relative, p - 1) * np.sign(r)
        curve = (p - 1) * np.maximum(relative, FLOOR) ** (p - 2)
        gradient = U.T @ (weights * dual)
        hessian = U.T @ (U * (weights * curve)[:, None])
        ridge = np.finfo(float).eps * np.trace(hessian)
        try:
            step = sl.cho_solve(
                sl.cho_factor(hessian + ridge * np.eye(len(z)), check_finite=False), gradient
            )
        except np.linalg.LinAlgError:
            step = np.linalg.lstsq(hessian, gradient)[0]
        move = U @ step
        # Where Newton expects the gradient to vanish, the dual is orthogonal to the columns, hence feasible.
        gap = _gap(r / top, dual - curve * move, p, weights)
        descent = float(gradient @ step)
        t = _line_minimum(r / top, move, p, weights, descent)
        z, r = z + t * top * step, r - t * top * move
        new = float(weights @ powers(np.abs(r), p))
        best, idle = (gap, 0) if gap < best / 2 else (best, idle + 1)
        if (
            gap <= OPTIMAL
            or new >= cost
            or descent * p * top**p <= 1e-15 * cost
            or (idle >= 5 and best <= NEARLY)
        ):
            break
        cost = new
    return z


def _gap(r: np.ndarray, y: np.ndarray, p: float, weights: np.ndarray) -> float:
    """``cost / bound − 1`` by Hölder's inequality, for a dual y with ``Uᵀ(wy) = 0``."""
    peak = float(np.abs(y).max())
    against = float(weights @ (r * y))
    if not 0 < against < np.inf:
        return np.inf
    conjugate = p / (p - 1)
    norm = peak * float(weights @ (np.abs(y) / peak) ** conjugate) ** (1 / conjugate)
    return (float(weights @ powers(np.abs(r), p)) ** (1 / p) * norm / against) ** p - 1


def _line_minimum(
    r: np.ndarray, move: np.ndarray, p: float, weights: np.ndarray, descent: float
) -> float:
    """t that minimises ``Σ w|r − t move|^p``: the zero of its derivative, which grows with t from ``−descent``."""

    def slope(t: float) -> float:
        left = r - t * move
        return -float(weights @ (powers(np.abs(left), p - 1) * np.sign(left) * move))

    low, high = 0.0, 1.0
    for _ in range(60):
        at = slope(high)
        if high == 1 and abs(at) <= 1e-3 * descent:
            return 1.0  # the whole Newton step: what keeps convergence quadratic
        if at >= 0:
            break
        low, high = high, 2 * high
    else:
        return low
    if low == 0 and slope(0.0) >= 0:  # nothing but rounding is left to gain
        return 0.0
    return float(brentq(slope, low, high, xtol=1e-9, rtol=1e-9, maxiter=60, disp=False))


def path(p: float) -> list[float]:
    """Powers to solve for in turn, each from the solution before: Newton's region shrinks for large p and for p near 1."""
    if p < 1.25:
        return [q for q in (1.5, 1.25, 1.1) if q > p] + [p]
    steps = [p]
    while steps[0] >= 8:
        steps.insert(0, steps[0] / 2)
    return steps


def solve(
    basis: Basis,
    b: np.ndarray,
    p: float,
    weights: np.ndarray | None = None,
    quantile: float | None = None,
    slope: np.ndarray | None = None,
) -> np.ndarray:
    """z that minimises the cost of ``b − Uz``; `slope` is the exact linear part of a quantile's cost, ``−(q − ½) Uᵀ1``."""
    U = basis.U
    if p == 2:
        root = np.ones(len(b)) if weights is None else np.sqrt(weights)
        return np.linalg.lstsq(U * root[:, None], b * root)[0] if weights is not None else U.T @ b
    w = np.ones(len(b)) if weights is None else weights
    if p == 1:
        q = 0.5 if quantile is None else quantile
        pair = None
        if slope is not None:
            pair = least_absolute(U, b, w / 2, slope)
        if (
            pair is None
        ):  # no linear part given, or rows too few to hold it up: take it from the rows, always bounded
            pair = least_absolute(U, b, w / 2, -(q - 0.5) * (U.T @ w))
        if pair is None:
            raise ArithmeticError(
                "the linear program of the regression was not solved; scale the columns of A"
            )
        return pair[0]
    root = np.sqrt(w)
    z = np.linalg.lstsq(U * root[:, None], b * root)[0]
    for q in path(p):
        z = newton(U, b, q, w, z)
    return z


def lp_regression(
    A: Any,
    b: Any,
    p: float,
    weights: Any = None,
    quantile: float | None = None,
    *,
    on_rank: str = "raise",
) -> np.ndarray:
    """Minimise ``Σ w_i |b_i − a_iᵀx|^p``, or a pinball cost, over all rows given.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    b : array_like, shape (n,)
        Right-hand side.
    p : float
        Power: 1 is solved as a linear program, others by Newton's method.
    weights : array_like, shape (n,), optional
        Of the rows, not negative.
    quantile : float, optional
        With p = 1, the quantile in place of the median.
    on_rank : {"raise", "drop"}
        What to do about dependent columns: complain, or give them coefficient zero.

    Returns
    -------
    ndarray, shape (d,)
        The minimiser.
    """
    clean, names = as_design(A)
    p = as_power(p)
    level = as_quantile(quantile, p)
    target = as_vector(b, "b", size=len(clean), dtype=np.float64)
    w = None
    if weights is not None:
        w = as_vector(weights, "weights", size=len(clean), dtype=np.float64)
        if w.min() < 0 or not w.any():
            raise ValueError("weights must not be negative, nor all zero")
        keep = w > 0
        clean, target, w = clean[keep], target[keep], w[keep]
    basis = whiten(clean, names, "drop" if on_rank == "drop" else "raise")
    return basis.coefficients(solve(basis, target, p, w, level))
