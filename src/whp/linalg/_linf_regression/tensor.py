"""Least squares with a Kronecker product as its matrix, which is never formed."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np

from whp.door import AtLeast, Fraction, front_door
from whp.linalg._linf_regression.factor import Factored, corrected, factor_sketch
from whp.linalg._linf_regression.problem import Problem, in_range
from whp.linalg._linf_regression.sketches import TensorSRHT
from whp.linalg._linf_regression.solution import LinfRegression
from whp.linalg._linf_regression.solve import Sketched, from_sketch
from whp.validate import as_matrix

__all__ = ["tensor_linf_regression"]

# Of the variance of gᵀSᵀSr over that of a Gaussian sketch, where g is of a Kronecker product and
# orthogonal to r (docs: tensor).
INFLATION = 3.0


class _Kronecker:
    """A1 ⊗ A2 with just what regression needs of a matrix."""

    dtype = np.dtype(np.float64)

    def __init__(self, left: np.ndarray, right: np.ndarray) -> None:
        self.factors = (left, right)
        self.shape = (left.shape[0] * right.shape[0], left.shape[1] * right.shape[1])

    @property
    def T(self) -> _Kronecker:
        return _Kronecker(self.factors[0].T, self.factors[1].T)

    def __getitem__(self, rows: slice) -> np.ndarray:
        left, right = self.factors
        i, j = np.divmod(np.arange(self.shape[0])[rows], len(right))
        return (left[i][:, :, None] * right[j][:, None, :]).reshape(len(i), -1)

    def __matmul__(self, X: np.ndarray) -> np.ndarray:
        left, right = self.factors
        cube = X.reshape(left.shape[1], right.shape[1], -1)
        product = np.einsum("ai,bj,ijk->abk", left, right, cube, optimize=True)
        return product.reshape(self.shape[0], -1)


def _factor_separately(problem: Problem) -> tuple[Factored, np.ndarray]:
    """The exact solution: the pseudo-inverse of a Kronecker product is that of its factors."""
    factors, unit = problem.A.factors, float(np.finfo(float).eps)
    parts = []
    for i, A in enumerate(factors, start=1):
        names = tuple(f"A{i}[{j}]" for j in range(A.shape[1]))
        norms = np.linalg.norm(A, axis=0)
        norms = np.where(norms > 0, norms, 1.0)
        parts.append(factor_sketch(A, np.zeros((len(A), 1)), norms, unit, names))
    inverse = np.kron(parts[0].inverse, parts[1].inverse)
    moment = problem.gradient(problem.b)
    size = np.linalg.norm(problem.b, axis=0)
    fit = Factored(
        np.kron(parts[0].R, parts[1].R),
        inverse,
        np.zeros_like(moment),
        size**2,
        size,
        np.sort(np.multiply.outer(parts[0].singular, parts[1].singular).ravel())[::-1],
        unit,
    )
    return corrected(problem, replace(fit, y=fit.solve(moment)))


@front_door
def tensor_linf_regression(
    A1: Any,
    A2: Any,
    B: Any,
    *,
    rows: Annotated[int, AtLeast(1)],
    delta: Annotated[float, Fraction()] = 0.05,
    replace: bool = True,
    measure: bool = False,
    rng: np.random.Generator | int | None = None,
) -> LinfRegression:
    """Minimise ``‖(A1 ⊗ A2) x − vec(B)‖₂`` from a TensorSRHT sketch, without forming the product.

    The exact solution is ``A1⁺ B A2⁺ᵀ`` and often as cheap; the sketch is for losses and stacked
    problems that do not separate, and is here as the paper has it.

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
    measure : bool
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
    d = left.shape[1] * right.shape[1]
    if rows <= d:
        raise ValueError(f"rows must be more than d1 d2 = {d}, got {rows}")
    target = target.reshape(-1, 1)
    (left, norms1, powers1), (right, norms2, powers2), (target, _, targets) = map(
        in_range, (left, right, target)
    )
    product = _Kronecker(left, right)
    operator = TensorSRHT(len(left), len(right), rows, rng, replace=replace)
    problem = Problem(
        product,
        product.dtype,
        target,
        tuple(f"x{i},{j}" for i in range(left.shape[1]) for j in range(right.shape[1])),
        np.kron(norms1, norms2),
        True,
        np.add.outer(powers1, powers2).ravel(),
        targets,
    )
    return from_sketch(
        problem,
        Sketched(operator, operator.kron(left, right), operator @ problem.b),
        delta=delta,
        scale=True,
        refine=0,
        x_exact=None,
        measure=measure,
        solver=_factor_separately,
        inflation=INFLATION,
    )
