"""Least squares with a Kronecker product as its matrix, which is never formed."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.linalg._linf_regression.regression import (
    LinfRegression,
    _factor_sketch,
    _Factored,
    _finish,
    _norms,
)
from whp.linalg._linf_regression.sketches import TensorSRHT
from whp.validate import as_fraction, as_int, as_matrix

__all__ = ["tensor_linf_regression"]


class _Kronecker:
    """A1 ⊗ A2 with just what regression needs of a matrix."""

    dtype = np.dtype(np.float64)

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        self.factors = (left, right)
        self.shape = (left.shape[0] * right.shape[0], left.shape[1] * right.shape[1])

    @property
    def T(self) -> _Kronecker:
        return _Kronecker(self.factors[0].T, self.factors[1].T)

    def __matmul__(self, X: np.ndarray) -> np.ndarray:
        left, right = self.factors
        cube = X.reshape(left.shape[1], right.shape[1], -1)
        return np.einsum("ai,bj,ijk->abk", left, right, cube, optimize=True).reshape(
            self.shape[0], -1
        )


def _factor_separately(factors: tuple[np.ndarray, np.ndarray], B: np.ndarray) -> _Factored:
    """The exact solution: the pseudo-inverse of a Kronecker product is that of its factors."""
    norms = [_norms(A) for A in factors]
    parts = [
        _factor_sketch(
            A,
            np.zeros((len(A), 1)),
            c,
            float(np.finfo(float).eps),
            tuple(f"A{i}[{j}]" for j in range(A.shape[1])),
        )
        for i, (A, c) in enumerate(zip(factors, norms, strict=True), start=1)
    ]
    pseudo = [
        p.inverse @ (p.inverse.T @ (A / p.norms).T) for p, A in zip(parts, factors, strict=True)
    ]
    y = pseudo[0] @ B @ pseudo[1].T
    left = B - (factors[0] / norms[0]) @ y @ (factors[1] / norms[1]).T
    return _Factored(
        np.kron(parts[0].R, parts[1].R),
        np.kron(parts[0].inverse, parts[1].inverse),
        y.reshape(-1, 1),
        np.array([np.einsum("ij,ij->", left, left)]),
        np.kron(*norms),
        np.sort(np.multiply.outer(parts[0].singular, parts[1].singular).ravel())[::-1],
    )


def tensor_linf_regression(
    A1: Any,
    A2: Any,
    B: Any,
    *,
    rows: int,
    delta: float = 0.05,
    replace: bool = True,
    verify: bool = False,
    rng: np.random.Generator | int | None = None,
) -> LinfRegression:
    """Minimise ``‖(A1 ⊗ A2) x − vec(B)‖₂`` from a TensorSRHT sketch, without forming the product.

    The exact solution is ``A1⁺ B A2⁺ᵀ`` and often as cheap; the sketch is for losses and stacked problems that do not
    separate, and is here as the paper has it.

    Parameters
    ----------
    A1, A2 : array_like, shapes (n1, d1) and (n2, d2)
        The factors.
    B : array_like, shape (n1, n2)
        Right-hand side; vec goes row by row, as ``numpy.kron`` wants it.
    rows : int
        Rows of the sketch, more than d1 d2.
    delta : float
        Probability with which the certificates may fail.
    replace : bool
        Draw pairs of rows with replacement, as the theory does.
    verify : bool
        Also compute the exact solution, and so measure what the certificates promise.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    LinfRegression
        Its `x` is the solution row by row: ``x.reshape(d1, d2)``.
    """
    left, right, target = (
        as_matrix(v, k, dtype=np.float64) for k, v in (("A1", A1), ("A2", A2), ("B", B))
    )
    for name, factor in (("A1", left), ("A2", right)):
        if factor.shape[0] < factor.shape[1]:
            raise ValueError(
                f"{name} must have at least as many rows as columns, got shape {factor.shape}"
            )
    if target.shape != (len(left), len(right)):
        raise ValueError(f"B must have shape ({len(left)}, {len(right)}), got {target.shape}")
    delta = as_fraction(delta, "delta")
    product = _Kronecker(left, right)
    m = as_int(rows, "rows", low=1)
    if m <= product.shape[1]:
        raise ValueError(f"rows must be more than d1 d2 = {product.shape[1]}, got {m}")
    operator = TensorSRHT(len(left), len(right), m, rng, replace=replace)
    names = tuple(f"x{i},{j}" for i in range(left.shape[1]) for j in range(right.shape[1]))
    vec = target.reshape(-1, 1)
    return _finish(
        product,
        vec,
        names,
        np.kron(_norms(left), _norms(right)),
        operator,
        operator.kron(left, right),
        operator @ vec,
        delta=delta,
        refine=0,
        x_exact=None,
        verify=verify,
        flat=True,
        truth=_factor_separately((left, right), target) if verify else None,
    )
