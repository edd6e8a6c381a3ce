"""The data of a regression: checked, weighted and brought into a range in which squares exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import diags_array, issparse

from whp.validate import as_frame, as_matrix, as_vector, column_names, same_order

__all__ = ["Problem", "adjoint", "in_range", "one_or_two", "prepare", "product", "row_blocks"]

BLOCK_ENTRIES = 1 << 20
# Sums over rows are of so many terms, then pairwise: in a file sorted by outcome rounding of one
# value, repeated, would add up, n/4 times for n rows.
TERMS = 64
# Columns and targets whose peak leaves 2^±limit are multiplied by a power of two, which is exact.
LIMIT = {np.dtype(np.float64): 400, np.dtype(np.float32): 40}


@dataclass(frozen=True, eq=False)
class Problem:
    """A (n, d) and b (n, k) with what was done to them.

    Parameters
    ----------
    A : array, CSC array or anything with ``@``, ``.T``, `shape` and `dtype`
        The design, of float32 or float64.
    dtype : dtype
        Of the user's design, which coefficients are returned in.
    b : ndarray
        The right-hand sides, float64.
    names : tuple of str
        Names of the columns.
    norms : ndarray
        Norms of the columns of A; 1 where a column is zero.
    flat : bool
        Whether the user's b was one vector.
    exponents, targets : ndarray
        The user's columns and right-hand sides are these times 2 to the exponent.
    """

    A: Any
    dtype: Any
    b: np.ndarray
    names: tuple[str, ...]
    norms: np.ndarray
    flat: bool
    exponents: np.ndarray
    targets: np.ndarray

    @property
    def user_norms(self) -> np.ndarray:
        """Norms of the user's columns."""
        return np.ldexp(self.norms, self.exponents)

    def to_user(self, y: np.ndarray) -> np.ndarray:
        """Coefficients, or bars, of A's columns scaled to norm 1, in the user's units."""
        shift = self.targets[None, :] - self.exponents[:, None]
        return np.ldexp(y / self.norms[:, None], shift)

    def from_user(self, x: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`to_user`."""
        shift = self.exponents[:, None] - self.targets[None, :]
        return np.ldexp(x, shift) * self.norms[:, None]

    def kept(self, y: np.ndarray) -> np.ndarray:
        """The user's coefficients in the type of A; infinite where that has no such numbers."""
        with np.errstate(over="ignore"):
            return self.to_user(y).astype(self.dtype)

    def given(self, y: np.ndarray) -> np.ndarray:
        """y as the user's coefficients have it, to the last bit that their type keeps."""
        return self.from_user(self.kept(y).astype(np.float64))

    def left(self, y: np.ndarray) -> np.ndarray:
        """b − A x for coefficients y of the scaled columns."""
        return self.b - product(self.A, y / self.norms[:, None])

    def gradient(self, left: np.ndarray) -> np.ndarray:
        """Aᵀ left, for the scaled columns."""
        return adjoint(self.A, left) / self.norms[:, None]


def row_blocks(A: Any) -> range:
    """Where blocks of rows start that are small enough to be converted one at a time."""
    return range(0, A.shape[0], max(1, BLOCK_ENTRIES // A.shape[1]))


def product(A: Any, x: np.ndarray) -> np.ndarray:
    """A x in double precision."""
    if isinstance(A, np.ndarray) and A.dtype == np.float32:
        step = row_blocks(A).step
        return np.concatenate([A[i : i + step].astype(np.float64) @ x for i in row_blocks(A)])
    return np.asarray(A @ x, dtype=np.float64)


def adjoint(A: Any, left: np.ndarray) -> np.ndarray:
    """Aᵀ left in double precision, its sums short and pairwise (docs: rounding)."""
    d, k = A.shape[1], left.shape[1]
    if issparse(A):
        result, filled = np.zeros((d, k)), np.flatnonzero(np.diff(A.indptr))
        for t in range(k if len(filled) else 0):
            terms = A.data * left[A.indices, t]
            result[filled, t] = np.add.reduceat(terms, A.indptr[filled])  # sums pairwise
        return result
    if not isinstance(A, np.ndarray):
        return np.asarray(A.T @ left, dtype=np.float64)
    sums = []
    step = -(-row_blocks(A).step // TERMS) * TERMS
    for i in range(0, len(A), step):
        part, other = A[i : i + step].astype(np.float64, copy=False), left[i : i + step]
        whole = len(part) // TERMS * TERMS
        rows = part[:whole].reshape(-1, TERMS, d).transpose(0, 2, 1)
        sums.append(_pairwise(rows @ other[:whole].reshape(-1, TERMS, k)))
        sums.append(part[whole:].T @ other[whole:])
    return _pairwise(np.stack(sums))


def _pairwise(parts: np.ndarray) -> np.ndarray:
    """Sum over the first axis: each term takes part in log₂ of its length additions."""
    while len(parts) > 1:
        even = len(parts) // 2 * 2
        parts = np.concatenate([parts[0:even:2] + parts[1:even:2], parts[even:]])
    return parts.sum(axis=0)


def prepare(A: Any, b: Any, sample_weight: Any = None) -> Problem:
    """Check A and b, multiply rows by the roots of their weights, scale what is out of range.

    Raises
    ------
    ValueError
        If an argument is not finite, of a wrong shape, or in another order than A.
    """
    design, names = _design(A)
    n, d = design.shape
    target = one_or_two(b, "b")
    if len(target) != n:
        raise ValueError(f"b must have {n} rows, as A has, got {len(target)}")
    if n < d:
        raise ValueError(f"A must have at least as many rows as columns, got shape {design.shape}")
    same_order(A=A, b=b)
    flat = target.ndim == 1
    target = target.reshape(n, -1)
    dtype = design.dtype
    if sample_weight is not None:
        same_order(A=A, sample_weight=sample_weight)
        weights = as_vector(sample_weight, "sample_weight", size=n, dtype=np.float64)
        if weights.min() < 0 or weights.max() == 0:
            raise ValueError(
                f"sample_weight must be at least 0 and not all 0, got {weights.min():g} to "
                f"{weights.max():g}"
            )
        root = np.sqrt(weights)
        target = target * root[:, None]
        # In double precision also where A is of single: each row of A and b has the same weight.
        design = (
            (diags_array(root) @ design).tocsc() if issparse(design) else design * root[:, None]
        )
        if not _finite(design):
            raise ValueError("sample_weight must not overflow with A; divide it by its largest")
    design, norms, exponents = in_range(design)
    target, _, targets = in_range(target)
    return Problem(design, dtype, target, names, norms, flat, exponents, targets)


def one_or_two(value: Any, argument: str) -> np.ndarray:
    """A float64 vector or matrix."""
    convert = as_matrix if np.ndim(value) == 2 else as_vector
    return convert(value, argument, dtype=np.float64)


def _design(A: Any) -> tuple[Any, tuple[str, ...]]:
    """A as a finite float array (or CSC array) and the names of its columns."""
    A = as_frame(A)
    names = column_names(A)
    if issparse(A):
        if A.dtype.kind not in "fiub":
            raise TypeError(f"A must hold real numbers, got dtype {A.dtype}")
        clean: Any = A.tocsc() if A.dtype == np.float32 else A.tocsc().astype(np.float64)
        if not clean.has_canonical_format:  # entries that are given twice are to be added up
            clean = clean.copy()
            clean.sum_duplicates()
        if not _finite(clean):
            raise ValueError("A must be finite, got NaN or infinity")
        if 0 in A.shape:
            raise ValueError(f"A must not be empty, got shape {A.shape}")
    else:
        try:
            clean = as_matrix(A, "A")
        except TypeError as error:
            if names is None:
                raise
            texts = [
                str(c) for c, kind in A.dtypes.items() if getattr(kind, "kind", "O") not in "fiub"
            ]
            if not texts:
                raise
            raise TypeError(
                f"A must hold numbers, but has text in: {', '.join(texts[:10])}"
            ) from error
    return clean, names or tuple(f"x{j}" for j in range(clean.shape[1]))


def _finite(A: Any) -> bool:
    return bool(np.isfinite(A.data if issparse(A) else A).all())


def in_range(A: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """A with columns out of range scaled by powers of two, its column norms, the exponents."""
    limit = LIMIT[np.dtype(A.dtype)]
    squares = _squares(A)
    exponents = np.zeros(A.shape[1], dtype=np.int64)
    odd = ~((squares > 4.0**-limit) & (squares < 4.0**limit))
    if odd.any():
        part = A[:, np.flatnonzero(odd)]
        peaks = np.maximum(part.max(axis=0), -part.min(axis=0))
        peaks = np.asarray(peaks.toarray() if issparse(peaks) else peaks, dtype=float).ravel()
        exponents[odd] = np.where(peaks > 0, np.frexp(peaks)[1], 0)
        if exponents.any():
            if issparse(A):
                shift = np.repeat(exponents, np.diff(A.indptr))
                A = type(A)((np.ldexp(A.data, -shift), A.indices, A.indptr), shape=A.shape)
            else:
                A = np.ldexp(A, -exponents)
            squares = _squares(A)
    norms = np.sqrt(squares)
    return A, np.where(norms > 0, norms, 1.0), exponents


def _squares(A: Any) -> np.ndarray:
    """Sums of squares of the columns; infinite where they overflow."""
    with np.errstate(over="ignore", under="ignore"):
        if issparse(A):
            data = A.data.astype(np.float64)
            return np.bincount(
                np.repeat(np.arange(A.shape[1]), np.diff(A.indptr)), data**2, A.shape[1]
            )
        if A.dtype == np.float64:
            return np.einsum("ij,ij->j", A, A)
        step = row_blocks(A).step
        blocks = (A[i : i + step].astype(np.float64) for i in row_blocks(A))
        return np.sum([np.einsum("ij,ij->j", p, p) for p in blocks], axis=0)
