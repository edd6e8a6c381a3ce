"""How far a regression is from the optimum on all rows: a dual solution made from its residuals, without any randomness."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg as sl

from whp.linalg.lp_sensitivity_sampling.basis import as_design, as_power, whiten
from whp.linalg.lp_sensitivity_sampling.solvers import FLOOR, as_quantile, cost_of, powers
from whp.validate import as_vector

__all__ = ["OptimalityGap", "optimality_gap"]

NEAR = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True, eq=False)
class OptimalityGap:
    """``lower_bound ≤ OPT ≤ cost``, so ``cost ≤ (1 + gap) OPT``.

    `gap` is infinite where the lower bound is 0. `dual` is the y behind the bound, ``Aᵀy = 0`` up to `residual` = ``‖Uᵀy‖/‖y‖``
    for an orthonormal basis U.
    """

    cost: float
    lower_bound: float
    gap: float
    dual: np.ndarray
    residual: float


def from_residual(
    U: np.ndarray, b: np.ndarray, r: np.ndarray, p: float, quantile: float | None
) -> OptimalityGap:
    """See :func:`optimality_gap`."""
    cost = cost_of(r, p, quantile)
    if cost ** (1 / p) <= 1e-12 * cost_of(b, p, quantile) ** (
        1 / p
    ):  # norms, not powers of them: a consistent system: nothing is left to gain
        return OptimalityGap(cost, cost, 0.0, np.zeros(len(b)), 0.0)
    if p > 1:
        top = float(np.abs(r).max())
        gradient = powers(np.abs(r) / top, p - 1) * np.sign(r)
        z, bound = max(
            (_feasible(U, r, y, p) for y in (gradient, _one_newton_step(U, r / top, gradient, p))),
            key=lambda pair: pair[1],
        )
    else:
        z, bound = _dual_of_absolute(
            U, r, 0.5 if quantile is None else quantile, 1.0 if quantile is not None else 2.0
        )
    bound = min(bound, cost)
    gap = cost / bound - 1 if bound > 0 else math.inf
    residual = float(np.linalg.norm(U.T @ z) / (np.linalg.norm(z) or 1.0))
    return OptimalityGap(cost, bound, max(gap, 0.0), z, residual)


def _one_newton_step(U: np.ndarray, r: np.ndarray, gradient: np.ndarray, p: float) -> np.ndarray:
    """The gradient where a Newton step from r would lead: orthogonal to U, and close to optimal where r is.

    The correction falls on the rows near zero, whose part of the gradient is the least certain: with p near 1 it jumps there.
    """
    curve = np.maximum(np.abs(r), FLOOR) ** (p - 2)
    try:
        hessian = sl.cho_factor(U.T @ (U * curve[:, None]), check_finite=False)
    except np.linalg.LinAlgError:
        return gradient
    return gradient - curve * (U @ sl.cho_solve(hessian, U.T @ gradient, check_finite=False))


def _feasible(U: np.ndarray, r: np.ndarray, y: np.ndarray, p: float) -> tuple[np.ndarray, float]:
    """y made orthogonal to U and of norm 1 in the conjugate of p, and the bound ``(rᵀy)^p``."""
    z = y.copy()
    for _ in range(2):
        z -= U @ (U.T @ z)
    conjugate = p / (p - 1)
    peak = float(np.abs(z).max())
    if not 0 < peak < math.inf:
        return np.zeros(len(r)), 0.0
    z /= peak * float(((np.abs(z) / peak) ** conjugate).sum()) ** (1 / conjugate)
    return z, max(0.0, float(r @ z)) ** p  # bᵀz = rᵀz, and r is the smaller


def _dual_of_absolute(
    U: np.ndarray, r: np.ndarray, q: float, scale: float
) -> tuple[np.ndarray, float]:
    """The best of several y with ``Uᵀy = 0`` in the box ``scale [q − 1, q]``, and ``rᵀy``.

    At the optimum y is at an end of the box by the sign of the residual, except for residuals near zero, where it is free to
    make ``Uᵀy`` vanish. What "near" is depends on the data: h runs through quantiles of |r|, and only rows below it move.
    """
    size = np.abs(r)
    positive = np.sort(size[size > 0])
    low, high = scale * (q - 1), scale * q
    best, best_bound = np.zeros(len(r)), 0.0
    order = np.argsort(size, kind="stable")
    V, s = U[order], r[order]
    sizes = size[order]
    gram, counted = np.zeros((U.shape[1], U.shape[1])), 0
    for share in NEAR:
        h = positive[min(int(share * len(positive)), len(positive) - 1)]
        k = int(np.searchsorted(sizes, h, side="right"))  # rows with |r| ≤ h come first
        if k > counted:
            gram += V[counted:k].T @ V[counted:k]
            counted = k
        y = np.clip(s / h, -1, 1) * (scale / 2) + scale * (q - 0.5)
        try:
            inner = sl.cho_factor(gram, check_finite=False)
        except np.linalg.LinAlgError:
            continue  # too few rows near zero to span the columns
        for _ in range(3):
            y[:k] -= V[:k] @ sl.cho_solve(inner, V.T @ y, check_finite=False)
            np.clip(y, low, high, out=y)
        inside = y.copy()
        inside[:k] -= V[:k] @ sl.cho_solve(inner, V.T @ inside, check_finite=False)
        for z in (y, inside):  # orthogonal exactly, then back into the box by a factor
            for _ in range(2):
                z = z - V @ (V.T @ z)
            over = max(1.0, float(z.max()) / high, float(z.min()) / low)
            bound = float(s @ z) / over
            if bound > best_bound:
                best_bound = bound
                best = np.empty_like(z)
                best[order] = z / over
    return best, best_bound


def optimality_gap(
    A: Any, b: Any, x: Any, p: float, quantile: float | None = None
) -> OptimalityGap:
    """A certain bound on how much the cost of x exceeds the optimum on all rows, in O(nd²).

    By duality of norms ``bᵀz/‖z‖_{p'} ≤ min_x ‖b − Ax‖_p`` for every z with ``Aᵀz = 0``. The z taken is the gradient of the
    cost in the residual, made orthogonal to the columns; at an optimum with p > 1 it already is, and the gap is zero.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Design; dependent columns do no harm.
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
    clean, names = as_design(A)
    p = as_power(p)
    level = as_quantile(quantile, p)
    target = as_vector(b, "b", size=len(clean), dtype=np.float64)
    solution = as_vector(x, "x", dtype=np.float64)
    if len(solution) != clean.shape[1]:
        raise ValueError(
            f"x must have {clean.shape[1]} entries, one a column of A, got {len(solution)}"
        )
    return from_residual(
        whiten(clean, names, "drop").U, target, target - clean @ solution, p, level
    )
