"""Least squares from a short sketch, with an error bar on every coefficient."""

from __future__ import annotations

import warnings
from typing import Annotated, Any, Literal

import numpy as np
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from whp.door import Above, AtLeast, Fraction, front_door
from whp.io import Data
from whp.linalg._linf_regression.blocks import BlockSRHT
from whp.linalg._linf_regression.bounds import rows_needed
from whp.linalg._linf_regression.hadamard import next_power_of_two
from whp.linalg._linf_regression.problem import prepare
from whp.linalg._linf_regression.sketches import (
    SRHT,
    GaussianSketch,
    PooledHadamard,
    Sketch,
    SubsampledCirculant,
)
from whp.linalg._linf_regression.solution import LinfRegression
from whp.linalg._linf_regression.solve import Sketched, exactly, from_sketch
from whp.validate import as_matrix

__all__ = ["exact_is_cheaper", "linf_regression", "sketch_and_solve"]

EPSILON = 0.5
# Nanoseconds an entry of A, measured on one thread: the exact solution takes 4.5 + d/37, a sketch
# 6 + m d/(5 n). It pays if it is 1.5 times faster.
COLUMNS, ROWS = 170, 11


def exact_is_cheaper(n: int, d: int, m: int) -> bool:
    """Whether a sketch of m rows is less than 1.5 times as fast as the exact solution.

    The Gram matrix takes n d² operations; a sketch its transform and the QR of m rows.
    """
    return 2 * m >= n or n * d <= n * COLUMNS + ROWS * m * d


@front_door
def linf_regression(
    A: Annotated[Any, Data("design")],
    b: Annotated[Any, Data("vector", column="target")],
    *,
    epsilon: Annotated[float, Above(0)] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    rows: Annotated[int, AtLeast(1)] | None = None,
    sketch: Literal["srht", "pooled", "gaussian", "circulant"] = "srht",
    replace: bool = False,
    scale: bool = True,
    refine: Annotated[int, AtLeast(0)] | Literal["lsqr"] = 0,
    block_rows: Annotated[int, AtLeast(64)] | None = None,
    sample_weight: Annotated[Any, Data("vector")] = None,
    measure: bool = False,
    x_exact: Annotated[Any, Data("vector")] = None,
    rng: np.random.Generator | int | None = None,
) -> LinfRegression:
    """Least squares from a short sketch, with an error bar on every coefficient.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Tall design matrix of full column rank. Names of a table's columns go into the result.
    b : array_like, shape (n,) or (n, k)
        Right-hand side, or several.
    epsilon : float, optional
        Accuracy that sets the number of rows, 0.5 by default: no coefficient is off by more than
        (epsilon/√d) ‖r‖ ‖A†‖. Where a sketch of so many rows is not 1.5 times as fast as the exact
        solution, the exact solution is computed. Not beside rows.
    delta : float
        Probability with which the error bars and certificates may fail.
    rows : int, optional
        Rows of the sketch, more than d, in place of epsilon.
    sketch : {"srht", "pooled", "gaussian", "circulant"}
        Subsampled randomized Hadamard transform; Hadamard flattening with Gaussian pooling, whose
        proof is complete; Gaussian, slow and exact in theory; subsampled randomized circulant.
    replace : bool
        Draw rows of srht and circulant with replacement, as the theory does; without, errors are a
        little smaller.
    scale : bool
        State the ℓ∞ bound for columns divided by their norms, so that one badly scaled column
        cannot ruin it. Coefficients and error bars do not depend on it.
    refine : int or "lsqr"
        Steps of refinement on all of A, each contracting the error by about √(d/rows); "lsqr" goes
        to machine precision.
    block_rows : int, optional
        Sketch blocks of that many rows by themselves, as when data arrive in blocks; error bars are
        widened by what uneven blocks cost. Only with srht.
    sample_weight : array_like, shape (n,), optional
        Weights of the rows in the sum of squares, at least 0.
    measure : bool
        Also compute the exact solution, and so measure what the certificates promise.
    x_exact : array_like, optional
        The exact solution where it is known, in place of measure; one product with A checks it.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    LinfRegression
        Coefficients, their error bars and the certificates.

    Raises
    ------
    ValueError
        If an argument is out of range, not finite, of a wrong shape, or would be ignored.
    numpy.linalg.LinAlgError
        If columns of A are linearly dependent; they are named.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((4096, 8))
    >>> b = A @ np.arange(8.0) + rng.standard_normal(4096)
    >>> result = linf_regression(A, b, rows=256, measure=True, rng=0)
    >>> [str(c.verdict) for c in result.certificates]
    ['holds', 'holds']
    """
    _ignored(sketch, replace, block_rows, epsilon, rows, measure, x_exact)
    problem = prepare(A, b, sample_weight)
    (n, d), k = problem.A.shape, problem.b.shape[1]
    if rows is None:
        accuracy = EPSILON if epsilon is None else epsilon
        m = rows_needed(d, accuracy, delta, k)
        if exact_is_cheaper(n, d, m):
            if x_exact is not None:
                raise ValueError(
                    f"x_exact must be None where the {d} columns are solved exactly, as here: there "
                    "is no sketch to measure; or say how many rows to sketch"
                )
            if m >= n / 2 and d > COLUMNS:
                warnings.warn(
                    f"epsilon = {accuracy:g} needs {m} of {n} rows; solving exactly instead",
                    stacklevel=2,
                )
            return exactly(problem, delta)
    else:
        m = rows
        if m <= d:
            raise ValueError(f"rows must be more than d = {d}, the columns of A, got {m}")
        limit = n if sketch == "circulant" else next_power_of_two(n)
        if m > limit and not (sketch == "gaussian" or replace):
            raise ValueError(
                f"rows must be at most {limit} for sketch {sketch!r} of {n} rows, got {m}"
            )
    rng = np.random.default_rng(rng)
    operator: Sketch
    if block_rows is not None and block_rows < n:
        operator = BlockSRHT(n, m, block_rows, rng, replace=replace)
    elif sketch == "srht":
        operator = SRHT(n, m, rng, replace=replace)
    elif sketch == "pooled":
        operator = PooledHadamard(n, m, rng)
    elif sketch == "circulant":
        operator = SubsampledCirculant(n, m, rng, replace=replace)
    else:
        operator = GaussianSketch(n, m, rng)
    try:
        return from_sketch(
            problem,
            Sketched(operator, operator @ problem.A, operator @ problem.b),
            delta=delta,
            scale=scale,
            refine=refine,
            x_exact=x_exact,
            measure=measure,
        )
    except np.linalg.LinAlgError as error:
        if not str(error).startswith("after"):
            raise
        warnings.warn(f"{error}; solved exactly instead", stacklevel=2)
        return exactly(problem, delta)


def _ignored(
    sketch: str,
    replace: bool,
    block_rows: int | None,
    epsilon: float | None,
    rows: int | None,
    measure: bool,
    x_exact: Any,
) -> None:
    """Refuse what would be given and ignored."""
    if block_rows is not None and sketch != "srht":
        raise ValueError(
            f"block_rows must be None for sketch {sketch!r}: only srht is offered in blocks"
        )
    if replace and sketch not in ("srht", "circulant"):
        raise ValueError(f"replace must be False for sketch {sketch!r}, which samples no rows")
    if epsilon is not None and rows is not None:
        raise ValueError("epsilon must be None where rows is given: it sets the number of rows")
    if measure and x_exact is not None:
        raise ValueError("x_exact must be None where measure is True: both are the reference")


@front_door
def sketch_and_solve(
    operator: Any,
    A: Any,
    b: Any,
    *,
    delta: Annotated[float, Fraction()] = 0.05,
    scale: bool = True,
    refine: Annotated[int, AtLeast(0)] | Literal["lsqr"] = 0,
    measure: bool = False,
    x_exact: Any = None,
) -> LinfRegression:
    """Sketch-and-solve with any m×n linear operator.

    For the other parameters see :func:`linf_regression`.

    Parameters
    ----------
    operator : LinearOperator, matrix or sparse array
        The sketch, scaled so that E SᵀS = I. Of an operator that this library did not draw in this
        process the certificates take nothing for granted; a few of its rows are looked at.
    """
    _ignored("srht", False, None, None, None, measure, x_exact)
    problem = prepare(A, b)
    operator = _as_operator(operator)
    m, n = operator.shape
    if n != problem.A.shape[0]:
        raise ValueError(
            f"operator must have {problem.A.shape[0]} columns, one for each row of A, got {n}"
        )
    if m <= problem.A.shape[1]:
        raise ValueError(f"operator must have more than d = {problem.A.shape[1]} rows, got {m}")
    sketched = Sketched(operator, _applied(operator, problem.A), _applied(operator, problem.b))
    again, size = _applied(operator, problem.A[:, [0]]), np.linalg.norm(sketched.SA[:, 0])
    if np.linalg.norm(again[:, 0] - sketched.SA[:, 0]) > 1e-3 * size:
        raise ValueError("operator must be the same at every application, but draws itself anew")
    return from_sketch(
        problem, sketched, delta=delta, scale=scale, refine=refine, x_exact=x_exact, measure=measure
    )


def _as_operator(operator: Any) -> LinearOperator:
    """An operator of two sizes and real numbers, as it is or of a table or list."""
    if not hasattr(operator, "shape") or hasattr(operator, "columns"):
        operator = as_matrix(operator, "operator")
    if len(operator.shape) != 2:
        raise ValueError(f"operator must have two dimensions, got shape {operator.shape}")
    if np.dtype(getattr(operator, "dtype", None) or np.float64).kind == "c":
        raise TypeError(f"operator must be real, got dtype {operator.dtype}")
    return operator if isinstance(operator, LinearOperator) else aslinearoperator(operator)


def _applied(operator: LinearOperator, X: Any) -> np.ndarray:
    """S X as an array; of a sparse X column by column, which only our own sketches take whole."""
    if not issparse(X) or isinstance(operator, Sketch):
        return np.asarray(operator @ X)
    columns = [operator @ X[:, [j]].toarray() for j in range(X.shape[1])]
    return np.concatenate(columns, axis=1)
