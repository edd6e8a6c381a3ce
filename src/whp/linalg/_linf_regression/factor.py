"""Triangular factors, solutions, and how far rounding may have moved them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.linalg as sl
from scipy.sparse import issparse

from whp.linalg._linf_regression.problem import Problem, row_blocks
from whp.progress import track

__all__ = [
    "RANK_LOST",
    "ROUNDING",
    "Factored",
    "corrected",
    "factor_exact",
    "factor_sketch",
    "gradient_norm",
]

# Backward error of least squares in units of u ‖A‖_F; the largest seen was 0.25 (docs: rounding).
ROUNDING = 8.0
# A smallest singular value below this many u ‖R‖_F is rounding: the columns are dependent.
RANK_LOST = 16.0
# A Gram matrix whose eigenvalues span more than this is left to QR.
GRAM_SPAN = 1e10


@dataclass(frozen=True, eq=False)
class Factored:
    """R of a matrix with columns of norm about 1, its solution y (d, k), all in double precision.

    `rss` and `size` are ‖b − Ay‖² and ‖b‖ of each of the k right-hand sides, `unit` is the
    precision that A was computed in.
    """

    R: np.ndarray
    inverse: np.ndarray
    y: np.ndarray
    rss: np.ndarray
    size: np.ndarray
    singular: np.ndarray
    unit: float

    @property
    def condition(self) -> float:
        """Largest over smallest singular value."""
        return float(self.singular[0] / self.singular[-1])

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Diagonal of (RᵀR)⁻¹."""
        return np.einsum("ij,ij->i", self.inverse, self.inverse)

    @property
    def backward(self) -> float:
        """‖E‖ for which y solves the problem of A + E, over σ_min: first order needs it small."""
        return float(ROUNDING * self.unit * np.linalg.norm(self.R) / self.singular[-1])

    def leaves(self, y: np.ndarray, residual: np.ndarray) -> np.ndarray:
        """How large ‖R⁻ᵀAᵀ(b − Ay)‖ may be left by rounding, for each right-hand side."""
        reached = np.linalg.norm(y, axis=0) + self.size + self.condition * residual
        return ROUNDING * self.unit * float(np.linalg.norm(self.R)) * reached

    def rounding(self, y: np.ndarray, residual: np.ndarray, kept: Any) -> np.ndarray:
        """Radius (d, k) that rounding may have moved a solution y by, itself kept as type `kept`."""
        last = float(np.finfo(kept).eps) * np.abs(y)
        return np.sqrt(self.diagonal)[:, None] * self.leaves(y, residual) + last

    # By substitution, which is backward stable; a product with the inverse is not.
    def reduce(self, gradient: np.ndarray) -> np.ndarray:
        """R⁻ᵀ g."""
        return sl.solve_triangular(self.R, gradient, trans="T", check_finite=False)

    def solve(self, gradient: np.ndarray) -> np.ndarray:
        """(RᵀR)⁻¹ g."""
        return sl.solve_triangular(self.R, self.reduce(gradient), check_finite=False)


def gradient_norm(problem: Problem, y: np.ndarray, factor: Factored) -> np.ndarray:
    """``‖R⁻ᵀAᵀ(b − Ay)‖``, the distance of y to the solution in the metric of A."""
    return np.linalg.norm(factor.reduce(problem.gradient(problem.left(y))), axis=0)


def _inverse(R: np.ndarray, unit: float, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Inverse and singular values of the triangle R; LinAlgError naming dependent columns."""
    d = len(R)
    singular = sl.svdvals(R, check_finite=False)
    rank = int((singular > RANK_LOST * unit * np.linalg.norm(R)).sum())
    if rank < d:
        raise np.linalg.LinAlgError(f"A has rank {rank} < d = {d}; {_dependent(R, rank, names)}")
    return sl.solve_triangular(R, np.eye(d), check_finite=False), singular


def _dependent(R: np.ndarray, rank: int, names: tuple[str, ...]) -> str:
    """Which columns to drop, and which others take part in a combination that is zero."""

    def listed(columns: Any) -> str:
        return ", ".join(names[j] for j in sorted(columns)[:10])

    dropped = sl.qr(R, mode="r", pivoting=True, check_finite=False)[1][rank:]
    null = np.abs(sl.svd(R, check_finite=False)[2][rank:]).max(axis=0)
    text = f"drop dependent columns: {listed(dropped)}"
    # A number that hardly varies (an id of 2^60 + i) depends on the intercept as much as it on the
    # number, and the user knows which of them is none.
    if len(taking_part := np.flatnonzero(null > 1e-3)) > len(dropped):
        text += f", or as many others among {listed(taking_part)}"
    return text


def factor_sketch(
    SA: np.ndarray, Sb: np.ndarray, norms: np.ndarray, unit: float, names: tuple[str, ...]
) -> Factored:
    """QR of [SA/norms | Sb]: its last columns hold QᵀSb and, below, what is left of Sb."""
    d, k = SA.shape[1], Sb.shape[1]
    both = np.empty((len(SA), d + k), order="F")
    np.divide(SA, norms, out=both[:, :d])
    both[:, d:] = Sb
    triangle = sl.qr(both, mode="r", overwrite_a=True, check_finite=False)[0][: d + k]
    R, right = triangle[:d, :d], triangle[:, d:]
    inverse, singular = _inverse(R, unit, names)
    rss = np.einsum("ij,ij->j", right[d:], right[d:])
    size = np.linalg.norm(right, axis=0)
    y = sl.solve_triangular(R, right[:d], check_finite=False)
    return Factored(R, inverse, y, rss, size, singular, unit)


def factor_exact(problem: Problem) -> tuple[Factored, np.ndarray]:
    """Exact least squares, with ``‖R⁻ᵀAᵀ(b − Ay)‖`` of each right-hand side.

    R is of the Gram matrix while its condition allows, else of QR; the seminormal equations with
    corrections (Björck 1987) do the rest, which contract by κ² u or κ u, and stop once the gradient
    is no larger than rounding leaves it.
    """
    A, b, norms = problem.A, problem.b, problem.norms
    given, unit = float(np.finfo(problem.dtype).eps), float(np.finfo(np.float64).eps)
    gram, moment = _gram(A, b)
    gram /= np.multiply.outer(norms, norms)
    values = sl.eigvalsh(gram, check_finite=False)
    if values[0] <= values[-1] / GRAM_SPAN:
        dense = A.toarray() if issparse(A) else A
        fit = factor_sketch(np.asarray(dense, np.float64), b, norms, unit, problem.names)
        if fit.singular[-1] <= RANK_LOST * given * np.linalg.norm(fit.R):
            _inverse(fit.R, given, problem.names)
    else:
        R = sl.cholesky(gram, check_finite=False)
        inverse, singular = _inverse(R, given, problem.names)
        blank = np.zeros((len(R), b.shape[1]))
        size = np.linalg.norm(b, axis=0)
        fit = Factored(R, inverse, blank, size**2, size, singular, unit)
        fit = replace(fit, y=fit.solve(moment / norms[:, None]))
    return corrected(problem, fit)


def corrected(problem: Problem, fit: Factored) -> tuple[Factored, np.ndarray]:
    """Two corrections of y at most, and ``‖R⁻ᵀAᵀ(b − Ay)‖`` after them."""
    for last in (False, False, True):
        left = problem.left(fit.y)
        gradient = problem.gradient(left)
        fit = replace(fit, rss=np.einsum("ij,ij->j", left, left))
        remaining = np.linalg.norm(fit.reduce(gradient), axis=0)
        if last or (4 * ROUNDING * remaining <= fit.leaves(fit.y, np.sqrt(fit.rss))).all():
            return fit, remaining
        fit = replace(fit, y=fit.y + fit.solve(gradient))
    raise AssertionError("the loop returns")


def _gram(A: Any, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AᵀA and Aᵀb in double precision."""
    if issparse(A):
        wide = A.astype(np.float64)
        return (wide.T @ wide).toarray(), np.asarray(wide.T @ b)
    if A.dtype == np.float64:
        return A.T @ A, A.T @ b
    gram, moment = np.zeros((A.shape[1],) * 2), np.zeros((A.shape[1], b.shape[1]))
    step = row_blocks(A).step
    for i in track(row_blocks(A), "exact solution"):
        piece = A[i : i + step].astype(np.float64)
        gram += piece.T @ piece
        moment += piece.T @ b[i : i + step]
    return gram, moment
