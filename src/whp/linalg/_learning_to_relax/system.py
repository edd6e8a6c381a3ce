"""A square sparse matrix as sweeps want it, and whether it is symmetric."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.validate import as_sparse, as_vector

__all__ = ["Skew", "System"]

# What rounding may leave between a_ij and a_ji, as a share of √(a_ii a_jj), which bounds both where
# A is positive definite: a scale that no units of the unknowns change.
SYMMETRY = 64 * np.finfo(np.float64).eps / 2
USUAL = 160  # powers of two that the diagonal may be from 1


@dataclass(frozen=True)
class Skew:
    """An entry that differs from its mirror image.

    Parameters
    ----------
    row, column : int
        Counted from 0.
    value, mirrored : float
        a_ij and a_ji.
    """

    row: int
    column: int
    value: float
    mirrored: float

    def __str__(self) -> str:
        return (
            f"entry {self.row + 1}, {self.column + 1}: {self.value:.4g} and {self.mirrored:.4g}, "
            f"which differ by {abs(self.value - self.mirrored):.2g}"
        )


@dataclass(eq=False)
class _Pattern:
    """Where the entries stand, shared by matrices that have them at the same places."""

    indptr: np.ndarray
    indices: np.ndarray
    rows: np.ndarray = field(init=False)
    place: np.ndarray = field(init=False)  # of each row's diagonal among the entries

    def __post_init__(self) -> None:
        n = len(self.indptr) - 1
        self.rows = np.repeat(np.arange(n), np.diff(self.indptr))
        self.place = np.flatnonzero(self.indices == self.rows)
        if len(self.place) < n:
            missing = int(np.setdiff1d(np.arange(n), self.rows[self.place])[0])
            raise ValueError(f"A has a non-positive diagonal entry at row {missing}")

    @cached_property
    def mirror(self) -> np.ndarray | None:
        """Place of a_ji for each a_ij; None where the pattern is not symmetric."""
        turned = np.lexsort((self.rows, self.indices))  # entries in the order of the transpose
        same = np.array_equal(self.rows[turned], self.indices)
        return turned if same and np.array_equal(self.indices[turned], self.rows) else None


class System:
    """A square matrix in CSR with the place of each row's diagonal, so that sweeps compare nothing.

    Parameters
    ----------
    A : scipy.sparse or array_like, shape (n, n)
        Real, with a positive diagonal.
    like : System, optional
        One whose pattern is reused where it is the same.

    Raises
    ------
    ValueError
        If it is complex, not square, not finite, or has a diagonal entry that is not positive.
    """

    def __init__(self, A: Any, like: System | None = None) -> None:
        matrix = as_sparse(A, "A")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise ValueError(f"A must be square and not empty, got shape {matrix.shape}")
        if not matrix.has_sorted_indices or not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if not np.isfinite(matrix.data).all():
            raise ValueError("A must be finite, got NaN or infinity")
        self.matrix, self.n = matrix, matrix.shape[0]
        self.pattern = self._shared(like) or _Pattern(
            matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64)
        )
        self.data = matrix.data
        self.diagonal = self.data[self.place]
        if (self.diagonal <= 0).any():
            row = int(np.argmax(self.diagonal <= 0))
            raise ValueError(f"A has a non-positive diagonal entry at row {row}")

    def _shared(self, like: System | None) -> _Pattern | None:
        if like is None or like.n != self.n:
            return None
        theirs = like.pattern
        same = np.array_equal(theirs.indptr, self.matrix.indptr) and np.array_equal(
            theirs.indices, self.matrix.indices
        )
        return theirs if same else None

    @property
    def indptr(self) -> np.ndarray:
        """Where rows begin among the entries."""
        return self.pattern.indptr

    @property
    def indices(self) -> np.ndarray:
        """Columns of the entries."""
        return self.pattern.indices

    @property
    def place(self) -> np.ndarray:
        """Of each row's diagonal among the entries."""
        return self.pattern.place

    @cached_property
    def scaled(self) -> tuple[np.ndarray, int]:
        """The entries over a power of two, and its exponent: 0 but for far-off units, where rᵀM⁻¹r would vanish."""
        ends = math.log2(self.diagonal.min()), math.log2(self.diagonal.max())
        exponent = round(sum(ends) / 2)
        if abs(exponent) <= USUAL:
            return self.data, 0
        return np.ldexp(self.data, -exponent), exponent

    @cached_property
    def skew(self) -> Skew | None:
        """The entry that breaks the symmetry most; None where A = Aᵀ but for rounding."""
        if (mirror := self.pattern.mirror) is not None:
            rows, columns, mirrored = self.pattern.rows, self.indices, self.data[mirror]
            gap = np.abs(self.data - mirrored)
        else:
            apart = (self.matrix - self.matrix.T).tocoo()
            rows, columns = apart.coords
            gap = np.abs(apart.data)
        if not gap.size:
            return None
        with np.errstate(over="ignore"):
            gap = gap / (np.sqrt(self.diagonal[rows]) * np.sqrt(self.diagonal[columns]))
        worst = int(gap.argmax())
        if gap[worst] <= SYMMETRY:
            return None
        i, j = int(rows[worst]), int(columns[worst])
        return Skew(i, j, float(self.matrix[i, j]), float(self.matrix[j, i]))

    @property
    def symmetric(self) -> bool:
        """Whether A = Aᵀ, but for rounding."""
        return self.skew is None

    def right(self, b: Any) -> Float[np.ndarray, " n"]:
        """A right-hand side of fitting length."""
        return as_vector(b, "b", size=self.n, dtype=np.float64)
