"""An orthonormal basis of the columns: scores are the same in any basis.

In this one no digit is lost to a bad scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.linalg as sl
from scipy.sparse import issparse

from whp.validate import as_matrix, as_real, column_names

__all__ = ["Basis", "as_design", "as_power", "squared_rows", "whiten"]

OnRank = Literal["raise", "drop"]
SAFE = 1e-10  # the Gram matrix is factored while its eigenvalues span less than this, else A itself


@dataclass(frozen=True, eq=False)
class Basis:
    """``A[:, columns] = U R`` with ``UᵀU = I``; rows of zeros stay rows of zeros."""

    U: np.ndarray
    R: np.ndarray
    columns: np.ndarray
    width: int

    @cached_property
    def norms(self) -> np.ndarray:
        """Of the columns kept."""
        return column_norms(self.R)

    @cached_property
    def smallest(self) -> float:
        """Smallest singular value of the columns kept, each scaled to norm 1."""
        return float(sl.svdvals(self.R / self.norms, check_finite=False)[-1])

    @cached_property
    def leverage(self) -> np.ndarray:
        """Leverage scores τ, between 0 and 1."""
        return np.minimum(squared_rows(self.U), 1.0)

    def coefficients(self, z: np.ndarray) -> np.ndarray:
        """x with ``A x = U z``; zero in dropped columns."""
        x = np.zeros((self.width, *z.shape[1:]))
        x[self.columns] = sl.solve_triangular(self.R, z, check_finite=False) if len(self.R) else z
        return x


def column_norms(A: np.ndarray) -> np.ndarray:
    """Norm of every column; no square over- or underflows."""
    peaks = np.abs(A).max(axis=0, initial=0.0)
    peaks[peaks == 0] = 1.0
    with np.errstate(over="ignore"):
        return peaks * np.linalg.norm(A / peaks, axis=0)


def squared_rows(Z: np.ndarray) -> np.ndarray:
    """Squared norm of every row."""
    return np.einsum("ij,ij->i", Z, Z)


def as_power(p: Any) -> float:
    """The power as a float in [1, 64]; beyond that the maximum norm is what is meant."""
    return as_real(p, "p", low=1, high=64)


def as_design(A: Any, argument: str = "A") -> tuple[np.ndarray, tuple[str, ...]]:
    """A as a finite float64 matrix, tall and not all zero, and the names of its columns.

    A sparse A is made dense.
    """
    names = column_names(A)
    if issparse(A):
        A = A.toarray()
    try:
        clean = as_matrix(A, argument, dtype=np.float64)
    except TypeError as error:
        texts = [
            str(c)
            for c, kind in getattr(A, "dtypes", {}).items()
            if getattr(kind, "kind", "O") not in "fiub"
        ]
        if not texts:
            raise
        raise TypeError(
            f"{argument} must hold numbers, but has text in: {', '.join(texts[:10])}"
        ) from error
    if clean.shape[0] < clean.shape[1]:
        raise ValueError(
            f"{argument} must have at least as many rows as columns, got shape {clean.shape}"
        )
    if not clean.any():
        raise ValueError(f"{argument} must not be zero everywhere")
    return clean, names or tuple(f"x{j}" for j in range(clean.shape[1]))


def whiten(A: np.ndarray, names: tuple[str, ...] | None = None, on_rank: OnRank = "raise") -> Basis:
    """Orthonormal basis of the columns of A, in O(nd²).

    Two rounds of Cholesky QR are as accurate as Householder's while κ² u ≪ 1, at the speed of a
    matrix product; beyond that pivoted QR, which also tells the rank.

    Raises
    ------
    ValueError
        If the norm of a column exceeds floats.
    numpy.linalg.LinAlgError
        If columns are linearly dependent and `on_rank` is "raise"; they are named.
    """
    n, d = A.shape
    scale = column_norms(A)
    if not np.isfinite(scale).all():
        raise ValueError("A must be smaller: the norm of a column exceeds floats")
    scale[scale == 0] = 1.0
    U = A / scale
    every = np.arange(d)
    gram = U.T @ U
    values = sl.eigvalsh(gram, check_finite=False)
    if n >= d and values[0] > SAFE * values[-1]:
        first = sl.cholesky(gram, check_finite=False)
        U = U @ sl.solve_triangular(first, np.eye(d), check_finite=False)
        second = sl.cholesky(U.T @ U, check_finite=False)
        U = U @ sl.solve_triangular(second, np.eye(d), check_finite=False)
        return Basis(U, (second @ first) * scale, every, d)
    Q, R, pivots = sl.qr(U, mode="economic", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diag(R))
    rank = int((diagonal > max(n, d) * np.finfo(float).eps * diagonal[0]).sum())
    if rank < d and on_rank == "raise":
        names = names or tuple(f"x{j}" for j in range(d))
        dropped = ", ".join(names[j] for j in sorted(pivots[rank:])[:10])
        raise np.linalg.LinAlgError(
            f"A has rank {rank} < d = {d}; drop dependent columns: {dropped}"
        )
    columns = pivots[:rank]
    Q = np.ascontiguousarray(Q[:, :rank])
    Q[~A.any(axis=1)] = 0.0
    return Basis(Q, R[:rank, :rank] * scale[columns], columns, d)
