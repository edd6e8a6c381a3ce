"""Leverage scores and Lewis weights: importances of rows at the cost of a few least squares."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import scipy.linalg as sl

from whp.door import AtLeast, Between, Fraction, front_door
from whp.linalg._lp_sensitivity_sampling.basis import as_design, squared_rows, whiten
from whp.validate import as_vector

__all__ = ["LewisWeights", "leverage_scores", "lewis_weights", "one_sided_ratio"]


@dataclass(frozen=True, eq=False)
class LewisWeights:
    """ℓp Lewis weights of the rows of A.

    Attributes
    ----------
    weights : ndarray, shape (n,)
        w with ``w_i^{2/p} = a_iᵀM⁻¹a_i``, ``M = AᵀW^{1−2/p}A``, up to the tolerance; they sum to d.
        Zero for rows of zeros.
    one_sided : ndarray, shape (n,)
        v = max(c, 1) w, for which ``a_iᵀM_v⁻¹a_i ≤ v_i^{2/p}`` whatever the tolerance: all that the
        proofs need.
    iterations : int
        Steps taken.
    R : ndarray, shape (d, d)
        ``RᵀR = M_v`` in the coordinates of A.
    """

    weights: np.ndarray
    one_sided: np.ndarray
    iterations: int
    R: np.ndarray


def leverage_scores(A: Any) -> np.ndarray:
    """``τ_i = a_iᵀ(AᵀA)⁻¹a_i``, which are the ℓ₂ sensitivities: O(nd²).

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.

    Returns
    -------
    ndarray, shape (n,)
    """
    clean, names = as_design(A)
    return whiten(clean, names).leverage


def factor(U: np.ndarray, logs: np.ndarray, p: float) -> np.ndarray:
    """Upper triangle T with ``TᵀT = UᵀW^{1−2/p}U``, w given by its logarithms."""
    scaled = U * np.exp((0.5 - 1 / p) * logs)[:, None]
    gram = scaled.T @ scaled
    try:
        T = sl.cholesky(gram, check_finite=False)
        diagonal = np.diag(T)
        if diagonal.min() > 1e-5 * diagonal.max():
            return T
    except np.linalg.LinAlgError:
        pass
    return sl.qr(scaled, mode="r", check_finite=False)[0][: U.shape[1]]


def quadratic(U: np.ndarray, T: np.ndarray) -> np.ndarray:
    """``u_iᵀ(TᵀT)⁻¹u_i`` of every row."""
    return squared_rows(U @ sl.solve_triangular(T, np.eye(len(T)), check_finite=False))


def fixed_point(
    U: np.ndarray, p: float, tol: float, max_iter: int
) -> tuple[np.ndarray, np.ndarray, int, float, np.ndarray]:
    """w, v, steps, last change of log w, and T of M_v; U orthonormal, its zero rows get zero."""
    live = np.flatnonzero(squared_rows(U) > 0)
    rows = U[live] if len(live) < len(U) else U
    n, d = rows.shape
    logs = np.full(n, math.log(d / n))
    done, change = 0, math.inf
    T = np.eye(d)
    for done in range(1, max_iter + 1):  # noqa: B007
        T = factor(rows, logs, p)
        size = np.log(quadratic(rows, T))
        if p < 4:  # contracts by |1 − p/2|
            new = p / 2 * size
        else:  # that map diverges; averaging with t = w^{1−2/p} aᵀM⁻¹a does not
            step = size - 2 / p * logs
            new = logs + np.log1p(2 / p * np.expm1(np.minimum(step, 500)))
        change = float(np.abs(new - logs).max())
        logs = new
        if change < tol:
            break
    T = factor(rows, logs, p)
    excess = max(0.0, float((np.log(quadratic(rows, T)) - 2 / p * logs).max()))  # log c
    w, v = np.zeros(len(U)), np.zeros(len(U))
    w[live] = np.exp(logs)
    v[live] = np.exp(logs + excess)
    return w, v, done, change, T * math.exp((0.5 - 1 / p) * excess)


@front_door
def lewis_weights(
    A: Any,
    p: Annotated[float, Between(1, 64)],
    *,
    tol: Annotated[float, Fraction()] = 1e-6,
    max_iter: Annotated[int, AtLeast(1)] = 500,
) -> LewisWeights:
    """ℓp Lewis weights by fixed-point iteration, O(nd²) a step (Cohen & Peng 2015 for p < 4).

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    p : float
        Power, at least 1.
    tol : float
        Stop when no logarithm of a weight changes by more.
    max_iter : int
        Stop after so many steps in any case: the one-sided weights are right at every step.

    Returns
    -------
    LewisWeights

    Raises
    ------
    ValueError
        If an argument is out of range.
    numpy.linalg.LinAlgError
        If columns of A are linearly dependent.
    """
    clean, names = as_design(A)
    basis = whiten(clean, names)
    w, v, steps, _, T = fixed_point(basis.U, p, tol, max_iter)
    R = np.empty_like(T)
    R[:, basis.columns] = T @ basis.R
    return LewisWeights(w, v, steps, R)


def ratio_in_basis(U: np.ndarray, v: np.ndarray, p: float) -> float:
    """See :func:`one_sided_ratio`; infinite if a row that is not zero has weight zero."""
    live = squared_rows(U) > 0
    if (v[live] <= 0).any():
        return math.inf
    logs = np.log(v[live])
    return float(np.exp(np.log(quadratic(U[live], factor(U[live], logs, p))) - 2 / p * logs).max())


@front_door
def one_sided_ratio(A: Any, v: Any, p: Annotated[float, Between(1, 64)]) -> float:
    """``max_i a_iᵀM_v⁻¹a_i / v_i^{2/p}``, which the proofs need to be at most 1."""
    clean, names = as_design(A)
    v = as_vector(v, "v", size=len(clean), dtype=np.float64)
    if v.min() < 0:
        raise ValueError(f"v must not be negative, got {v.min():g}")
    return ratio_in_basis(whiten(clean, names).U, v, p)
