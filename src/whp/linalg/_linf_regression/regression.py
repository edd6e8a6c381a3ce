"""Sketch and solve, with an error bar on every coefficient."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import scipy.linalg as sl
from scipy.sparse import issparse
from scipy.sparse.linalg import LinearOperator, lsqr
from scipy.stats import t as student

from whp.certificate import Certificate
from whp.io import Data
from whp.linalg._linf_regression import guarantee
from whp.linalg._linf_regression.hadamard import next_power_of_two
from whp.linalg._linf_regression.sketches import (
    SRHT,
    BlockSRHT,
    GaussianSketch,
    PooledHadamard,
    Sketch,
    SubsampledCirculant,
)
from whp.progress import track
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_matrix, as_real, as_vector, column_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["LinfRegression", "linf_regression", "sketch_and_solve"]

SKETCHES = ("srht", "pooled", "gaussian", "circulant")
# One entry of A costs the sketch about as much as this many columns cost the Gram matrix (docs: honest cost).
COLUMNS_TO_PAY = 64
CHUNK_ROWS = 8192


@dataclass(frozen=True, eq=False)
class LinfRegression(Result):
    """A sketched least-squares solution and how far each coefficient may be from the exact one.

    Attributes
    ----------
    x : ndarray
        The d coefficients, or d×k for k right-hand sides.
    stderr : ndarray
        Standard error of each coefficient's distance to the *exact least-squares solution*, caused by the sketch alone: not
        the statistical standard error, for which see `total_stderr`. After refinement the radius of a bound; zero if exact.
    rows : int
        Rows of the sketch, m; the rows of A if it was solved exactly.
    residual_estimate : float or ndarray
        √(m RSS / (m − d)), the estimate of ‖b − Ax*‖, one a right-hand side.
    sketch : str
        Which sketch; "none" if it was solved exactly.
    exact : bool
        Whether a sketch would not have paid and the exact solution was computed.
    shape : tuple of int
        Rows and columns of A.
    names : tuple of str
        Names of the columns.
    delta : float
        Failure probability of the certificates.
    certificates : tuple of Certificate
        ``coordinate-error-bars`` and ``linf-bound``; ``exact-solution`` if exact.
    """

    x: np.ndarray
    stderr: np.ndarray
    rows: int
    residual_estimate: float | np.ndarray
    sketch: str
    exact: bool
    shape: tuple[int, int]
    names: tuple[str, ...]
    delta: float
    certificates: tuple[Certificate, ...]
    refined: bool = False
    column_norms: np.ndarray = field(repr=False, default_factory=lambda: np.ones(0))
    variances: np.ndarray = field(repr=False, default_factory=lambda: np.ones(0))

    def _multiplier(self, level: float, simultaneous: bool) -> float:
        if self.exact:
            return 0.0
        d = self.shape[1]
        if self.refined:
            return (1 + guarantee.embedding_distortion(self.rows, d, 1 - level)) ** 2
        return float(
            student.isf((1 - level) / (2 * (self.x.size if simultaneous else 1)), self.rows - d)
        )

    def conf_int(self, level: float = 0.95, *, simultaneous: bool = True) -> np.ndarray:
        """Interval of each coefficient for the exact least-squares solution.

        Parameters
        ----------
        level : float
            Confidence level.
        simultaneous : bool
            Whether all coefficients are to be covered at once (Bonferroni), or each by itself.

        Returns
        -------
        ndarray
            Lower and upper ends in the last axis: shape (d, 2) or (d, k, 2).
        """
        half = self._multiplier(as_fraction(level, "level"), simultaneous) * self.stderr
        return np.stack([self.x - half, self.x + half], axis=-1)

    @cached_property
    def total_stderr(self) -> np.ndarray:
        """√(stderr² + σ̂² [(AᵀA)⁻¹]ⱼⱼ): error of the sketch and of the noise in b, for homoscedastic noise."""
        n, d = self.shape
        statistical = np.multiply.outer(
            self.variances, np.atleast_1d(self.residual_estimate) ** 2 / max(n - d, 1)
        )
        return np.sqrt(self.stderr**2 + statistical.reshape(self.stderr.shape)).astype(self.x.dtype)

    @property
    def coefficients(self) -> pd.DataFrame:
        """Name, coefficient, stderr and ends of the simultaneous interval at level 1 − delta, one row a coefficient."""
        import pandas as pd

        ends = self.conf_int(1 - self.delta).reshape(-1, 2)
        k = self.x.size // len(self.names)
        table = pd.DataFrame(
            {
                "name": np.repeat(np.array(self.names, dtype=object), k),
                "coefficient": self.x.ravel(),
                "stderr": self.stderr.ravel(),
                "low": ends[:, 0],
                "high": ends[:, 1],
            }
        )
        if self.x.ndim == 2:
            table.insert(1, "target", np.tile(np.arange(k), len(self.names)))
        return table

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Size, sketch, residual and the widest error bar relative to its coefficient's column."""
        n, d = self.shape
        half = self._multiplier(1 - self.delta, True) * self.stderr
        scale = self.column_norms.reshape(-1, *[1] * (self.x.ndim - 1)) / math.sqrt(n)
        return {
            "rows_of_A": n,
            "columns_of_A": d,
            "solved": "exactly, which is cheaper here than a sketch"
            if self.exact
            else f"from {self.rows} sketched rows",
            "sketch": self.sketch,
            "residual_norm": float(np.max(self.residual_estimate)),
            "residual_rms": float(np.max(self.residual_estimate)) / math.sqrt(n),
            "widest_error_bar_as_effect": float((half * scale).max()),
        }

    def artifacts(self) -> dict[str, Any]:
        """The table of coefficients."""
        return {"coefficients.csv": self.coefficients}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Coefficients times the r.m.s. of their columns, with simultaneous error bars; the 30 largest if there are more."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(6.4, 1 + 0.22 * min(30, len(self.names))))[1]
        scale = self.column_norms / math.sqrt(self.shape[0])
        x, stderr = (
            np.reshape(v, (len(self.names), -1))[:, 0] * scale for v in (self.x, self.stderr)
        )
        shown = np.sort(np.argsort(-np.abs(x), kind="stable")[:30])[::-1]
        half = self._multiplier(1 - self.delta, True) * stderr
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.errorbar(
            x[shown],
            np.arange(len(shown)),
            xerr=half[shown],
            fmt="o",
            markersize=4,
            color="tab:blue",
            ecolor="tab:orange",
            elinewidth=2,
            capsize=3,
        )
        ax.set_yticks(np.arange(len(shown)), [self.names[i] for i in shown])
        ax.set_xlabel(
            f"coefficient × r.m.s. of its column, with {1 - self.delta:.0%} simultaneous bars"
        )
        return ax


@dataclass(frozen=True)
class _Factored:
    """R of the (sketched) A with columns scaled to `norms`, its solution y in scaled coordinates, and RSS, all float64."""

    R: np.ndarray
    inverse: np.ndarray
    y: np.ndarray
    rss: np.ndarray
    norms: np.ndarray
    singular: np.ndarray

    @property
    def condition(self) -> float:
        return float(self.singular[0] / self.singular[-1])

    @property
    def diagonal(self) -> np.ndarray:
        """Diagonal of (RᵀR)⁻¹."""
        return np.einsum("ij,ij->i", self.inverse, self.inverse)

    def solve(self, gradient: np.ndarray) -> np.ndarray:
        """(RᵀR)⁻¹ g."""
        return self.inverse @ (self.inverse.T @ gradient)


def _invert(
    R: np.ndarray, rows: int, unit: float, names: tuple[str, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Inverse and singular values of the triangle R; LinAlgError naming dependent columns."""
    d = len(R)
    singular = sl.svdvals(R, check_finite=False)
    tolerance = max(rows, d) * unit * singular[0]
    rank = int((singular > tolerance).sum())
    if rank < d:
        pivots = sl.qr(R, mode="r", pivoting=True, check_finite=False)[1]
        dropped = ", ".join(names[j] for j in sorted(pivots[rank:])[:10])
        raise np.linalg.LinAlgError(
            f"A has rank {rank} < d = {d}; drop dependent columns: {dropped}"
        )
    return sl.solve_triangular(R, np.eye(d), check_finite=False), singular


def _factor_sketch(
    SA: np.ndarray, Sb: np.ndarray, norms: np.ndarray, unit: float, names: tuple[str, ...]
) -> _Factored:
    """QR of [SA/norms | Sb]: its last column holds QᵀSb and, below, what is left of Sb."""
    d, k = SA.shape[1], Sb.shape[1]
    both = np.empty((len(SA), d + k), order="F")
    np.divide(SA, norms, out=both[:, :d])
    both[:, d:] = Sb
    triangle = sl.qr(both, mode="r", overwrite_a=True, check_finite=False)[0][: d + k]
    R = triangle[:d, :d]
    inverse, singular = _invert(R, len(SA), unit, names)
    rss = np.einsum("ij,ij->j", triangle[d:, d:], triangle[d:, d:])
    return _Factored(R, inverse, inverse @ triangle[:d, d:], rss, norms, singular)


def _dot(A: Any, y: np.ndarray) -> np.ndarray:
    return np.asarray(A @ y.astype(A.dtype, copy=False), dtype=np.float64)


def _gradient(A: Any, residual: np.ndarray) -> np.ndarray:
    return np.asarray(A.T @ residual.astype(A.dtype, copy=False), dtype=np.float64)


def _factor_exact(
    A: Any, b: np.ndarray, norms: np.ndarray, unit: float, names: tuple[str, ...]
) -> _Factored:
    """Exact least squares by the Gram matrix while its condition allows, else by QR.

    The seminormal equations with one correction (Björck 1987) are as accurate as QR while κ² u ≪ 1.
    """
    n, d = A.shape
    gram, moment = np.zeros((d, d)), np.zeros((d, b.shape[1]))
    if issparse(A):
        gram += (A.T @ A).toarray()
        moment += A.T @ b
    elif A.dtype == np.float64:
        gram += A.T @ A
        moment += A.T @ b
    else:
        for i in track(range(0, n, CHUNK_ROWS), "exact solution"):
            piece = A[i : i + CHUNK_ROWS].astype(np.float64)
            gram += piece.T @ piece
            moment += piece.T @ b[i : i + CHUNK_ROWS]
    gram /= np.multiply.outer(norms, norms)
    values = sl.eigvalsh(gram, check_finite=False)
    if values[0] > 1e-10 * values[-1]:
        inverse = sl.solve_triangular(
            sl.cholesky(gram, check_finite=False), np.eye(d), check_finite=False
        )
        y = inverse @ (inverse.T @ (moment / norms[:, None]))
        for _ in range(2):
            left = b - np.asarray(A @ (y / norms[:, None]), dtype=np.float64)
            y += inverse @ (inverse.T @ (np.asarray(A.T @ left, dtype=np.float64) / norms[:, None]))
        left = b - np.asarray(A @ (y / norms[:, None]), dtype=np.float64)
        R, singular = sl.cholesky(gram, check_finite=False), np.sqrt(values[::-1])
        return _Factored(R, inverse, y, np.einsum("ij,ij->j", left, left), norms, singular)
    dense = A.toarray() if issparse(A) else A
    return _factor_sketch(dense.astype(np.float64, copy=False), b, norms, unit, names)


def _refine(
    A: Any, b: np.ndarray, start: _Factored, m: int, refine: int | Literal["lsqr"]
) -> np.ndarray:
    """Improve the sketched solution with the full A, preconditioned by R; scaled coordinates."""
    y, scale = start.y, start.norms[:, None]
    if refine == "lsqr":
        n, d = A.shape
        preconditioned = LinearOperator(
            (n, d),
            dtype=np.float64,
            matvec=lambda z: _dot(A, (start.inverse @ z) / start.norms),
            rmatvec=lambda r: start.inverse.T @ (_gradient(A, r) / start.norms),
        )
        unit = float(np.finfo(A.dtype).eps)
        left = b - _dot(A, y / scale)
        steps = [
            lsqr(preconditioned, left[:, j], atol=unit, btol=unit, conlim=0, iter_lim=200)[0]
            for j in range(b.shape[1])
        ]
        return y + start.inverse @ np.stack(steps, axis=1)
    # Plain steps diverge once m < 11.7 d: the preconditioned spectrum ends at 1/(1 - √ρ)², ρ = d/m. The heavy ball with
    # these two constants contracts by √ρ a step for every m > d.
    rho = len(y) / m
    previous = y
    for _ in track(range(refine), "refining"):
        gradient = _gradient(A, b - _dot(A, y / scale)) / scale
        y, previous = y + (1 - rho) ** 2 * start.solve(gradient) + rho * (y - previous), y
    return y


def _block_share(operator: BlockSRHT, SA: np.ndarray, Sb: np.ndarray, fit: _Factored) -> float:
    """Largest share of leverage or residual of a block, relative to its part of the sketch's rows."""
    basis = (SA / fit.norms) @ fit.inverse
    left = Sb - (SA / fit.norms) @ fit.y
    leverage, residual = np.einsum("ij,ij->i", basis, basis), np.einsum("ij,ij->i", left, left)
    shares = [
        np.add.reduceat(v, operator.row_edges[:-1]) / max(v.sum(), np.finfo(float).tiny)
        for v in (leverage, residual)
    ]
    part = np.diff(operator.row_edges) / operator.shape[0]
    return float(max((share / part).max() for share in shares))


def _as_design(A: Any) -> tuple[Any, tuple[str, ...]]:
    """A as a finite float array (or sparse CSC array) and the names of its columns."""
    if issparse(A):
        if A.dtype.kind not in "fiub":
            raise TypeError(f"A must hold real numbers, got dtype {A.dtype}")
        clean = A.tocsc() if A.dtype == np.float32 else A.tocsc().astype(np.float64)
        if not np.isfinite(clean.data).all():
            raise ValueError("A must be finite, got NaN or infinity")
        if 0 in A.shape:
            raise ValueError(f"A must not be empty, got shape {A.shape}")
    else:
        names = column_names(A)
        try:
            clean = as_matrix(A, "A")
        except TypeError as error:
            if names is None:
                raise
            texts = [
                str(c) for c, kind in A.dtypes.items() if getattr(kind, "kind", "O") not in "fiub"
            ]
            raise TypeError(
                f"A must hold numbers, but has text in: {', '.join(texts[:10])}"
            ) from error
        if names is not None:
            return clean, names
    return clean, tuple(f"x{j}" for j in range(clean.shape[1]))


def _one_or_two(value: Any, argument: str) -> np.ndarray:
    """A float64 vector or matrix."""
    convert = as_matrix if np.ndim(value) == 2 else as_vector
    return convert(value, argument, dtype=np.float64)


def _as_target(b: Any, n: int) -> np.ndarray:
    target = _one_or_two(b, "b")
    if len(target) != n:
        raise ValueError(f"b must have {n} rows, as A has, got {len(target)}")
    return target


def _norms(A: Any) -> np.ndarray:
    if issparse(A):
        squares = np.asarray(A.multiply(A).sum(axis=0), dtype=np.float64).ravel()
    else:
        squares = (
            np.einsum("ij,ij->j", A, A, dtype=np.float64)
            if A.dtype == np.float64
            else (A**2).sum(0, dtype=np.float64)
        )
    norms = np.sqrt(squares)
    if not np.isfinite(norms).all():
        raise ValueError(
            "A must have columns of finite norm; divide its columns by their largest entry"
        )
    return np.where(norms > 0, norms, 1.0)


def _finish(
    A: Any,
    b: np.ndarray,
    names: tuple[str, ...],
    norms: np.ndarray,
    operator: Sketch | LinearOperator,
    SA: np.ndarray,
    Sb: np.ndarray,
    *,
    delta: float,
    refine: int | Literal["lsqr"],
    x_exact: Any,
    verify: bool,
    flat: bool,
    truth: _Factored | None = None,
) -> LinfRegression:
    """Everything after the sketch; `A` may be any matrix with ``@``, ``.T`` and `dtype`."""
    n, d = A.shape
    m = len(SA)
    k = b.shape[1]
    unit = float(np.finfo(A.dtype).eps)
    law, family = (
        getattr(operator, "row_law", "unknown"),
        getattr(operator, "family", "this sketch"),
    )
    inflation = float(getattr(operator, "inflation", 1.0))
    try:
        fit = _factor_sketch(SA, Sb, norms, unit, names)
    except np.linalg.LinAlgError as error:
        if law in ("gaussian", "asymptotic"):
            raise
        raise np.linalg.LinAlgError(
            f"after {family}, {error}; or use a dense sketch, which keeps the rank of A"
        ) from None
    diagonal = fit.diagonal
    refined = refine != 0
    y = _refine(A, b, fit, m, refine) if refined else fit.y
    if refined:
        gradient = fit.inverse.T @ (_gradient(A, b - _dot(A, y / norms[:, None])) / norms[:, None])
        scale = np.linalg.norm(gradient, axis=0)
    else:
        scale = np.sqrt(inflation * fit.rss / (m - d))
    stderr = np.sqrt(diagonal)[:, None] * scale
    residual = np.sqrt(m * fit.rss / (m - d))
    distortion = guarantee.embedding_distortion(m, d, delta / 2)
    pinv, exact_norms, solution = (1 + distortion) / float(fit.singular[-1]), False, None
    true_residual = residual
    if verify and truth is None:
        truth = _factor_exact(A, b, norms, unit, names)
    if truth is not None:
        solution, pinv, exact_norms = truth.y, 1 / float(truth.singular[-1]), True
        true_residual = np.sqrt(truth.rss)
    if x_exact is not None:
        solution = _one_or_two(x_exact, "x_exact")
        if solution.size != d * k:
            raise ValueError(
                f"x_exact must have the shape of the solution, {d} by {k}, got {solution.shape}"
            )
        solution = solution.reshape(d, k) * norms[:, None]
        true_residual = np.linalg.norm(b - _dot(A, solution / norms[:, None]), axis=0)
    pooling = None
    if isinstance(operator, PooledHadamard):
        distortion = math.nan
        if truth is not None and isinstance(A, np.ndarray) and operator.padded * (d + 1) <= 1 << 22:
            left = b[:, :1] - _dot(A, truth.y[:, :1] / norms[:, None])
            size = float(np.linalg.norm(left))
            basis = (A / norms) @ truth.inverse
            distortion = operator.distortion(
                np.hstack([basis, left / size]) if size > 1e3 * unit * np.linalg.norm(b) else basis
            )
        pooling = (operator.padded // m, distortion)
    evidence = guarantee.Evidence(
        n=n,
        d=d,
        m=m,
        delta=delta,
        family=family,
        row_law=law,
        refined=refined,
        stderr=stderr,
        rounding=16 * unit * fit.condition * np.linalg.norm(y, axis=0),
        condition=fit.condition,
        residual=true_residual,
        pinv=pinv,
        exact_norms=exact_norms,
        error=None if solution is None else y - solution,
        one_shot_error=None if solution is None else fit.y - solution,
        inflation=inflation,
        block_share=_block_share(operator, SA, Sb, fit)
        if isinstance(operator, BlockSRHT)
        else None,
        pooling=pooling,
    )
    x, stderr = y / norms[:, None], stderr / norms[:, None]
    shape = (d,) if flat else (d, k)
    return LinfRegression(
        x=x.reshape(shape).astype(A.dtype),
        stderr=stderr.reshape(shape).astype(A.dtype),
        rows=m,
        residual_estimate=float(residual[0]) if flat else residual,
        sketch=family,
        exact=False,
        shape=(int(n), int(d)),
        names=names,
        delta=delta,
        certificates=(guarantee.error_bars(evidence), guarantee.linf_bound(evidence)),
        refined=refined,
        column_norms=norms,
        variances=diagonal
        * max(m - d - 1, 1)
        / m
        / norms**2,  # E ((SA)ᵀSA)⁻¹ = m/(m − d − 1) (AᵀA)⁻¹
    )


def _solve_exactly(
    A: Any, b: np.ndarray, names: tuple[str, ...], norms: np.ndarray, delta: float, flat: bool
) -> LinfRegression:
    n, d = A.shape
    unit = float(np.finfo(A.dtype).eps)
    fit = _factor_exact(A, b, norms, unit, names)
    gradient = fit.inverse.T @ (_gradient(A, b - _dot(A, fit.y / norms[:, None])) / norms[:, None])
    shape = (d,) if flat else (d, b.shape[1])
    residual = np.sqrt(fit.rss)
    certificate = guarantee.optimality(
        float(np.linalg.norm(gradient, axis=0).max()),
        float(np.linalg.norm(b, axis=0).max()),
        d,
        fit.condition,
        unit,
    )
    return LinfRegression(
        x=(fit.y / norms[:, None]).reshape(shape).astype(A.dtype),
        stderr=np.zeros(shape, dtype=A.dtype),
        rows=n,
        residual_estimate=float(residual[0]) if flat else residual,
        sketch="none",
        exact=True,
        shape=(int(n), int(d)),
        names=names,
        delta=delta,
        certificates=(certificate,),
        column_norms=norms,
        variances=fit.diagonal / norms**2,
    )


def _tall(A: Any) -> None:
    n, d = A.shape
    if n < d:
        raise ValueError(f"A must have at least as many rows as columns, got shape {A.shape}")


def sketch_and_solve(
    operator: LinearOperator,
    A: Any,
    b: Any,
    *,
    delta: float = 0.05,
    scale: bool = True,
    refine: int | Literal["lsqr"] = 0,
    x_exact: Any = None,
    verify: bool = False,
) -> LinfRegression:
    """Sketch-and-solve with any m×n linear operator; see :func:`linf_regression` for the other parameters.

    Parameters
    ----------
    operator : LinearOperator
        The sketch, scaled so that E SᵀS = I. Attributes `row_law` and `family`, where it has them, tell the certificates what
        kind it is (see :class:`Sketch`); of any other operator they take nothing for granted.
    """
    A, names = _as_design(A)
    target = _as_target(b, A.shape[0])
    _tall(A)
    delta = as_fraction(delta, "delta")
    m, n = operator.shape
    if n != A.shape[0]:
        raise ValueError(f"operator must have {A.shape[0]} columns, one for each row of A, got {n}")
    if m <= A.shape[1]:
        raise ValueError(f"operator must have more than d = {A.shape[1]} rows, got {m}")
    refine = _as_refine(refine)
    flat = target.ndim == 1
    b2 = target.reshape(len(target), -1)
    norms = _norms(A) if scale else np.ones(A.shape[1])
    return _finish(
        A,
        b2,
        names,
        norms,
        operator,
        operator @ A,
        operator @ b2,
        delta=delta,
        refine=refine,
        x_exact=x_exact,
        verify=verify,
        flat=flat,
    )


def _as_refine(refine: Any) -> int | Literal["lsqr"]:
    if isinstance(refine, str):
        as_choice(refine, "refine", ("lsqr",))
        return "lsqr"
    return as_int(refine, "refine", low=0)


def exact_is_cheaper(n: int, d: int, m: int) -> bool:
    """Whether the Gram matrix, n d² operations, beats a sketch: its transform and the QR of m rows (4 m d², slower a flop)."""
    return 2 * m >= n or n * d <= n * COLUMNS_TO_PAY + 4 * m * d


def linf_regression(
    A: Annotated[Any, Data("design")],
    b: Annotated[Any, Data("vector", column="target")],
    *,
    epsilon: float = 0.5,
    delta: float = 0.05,
    rows: int | None = None,
    sketch: Literal["srht", "pooled", "gaussian", "circulant"] = "srht",
    replace: bool = False,
    scale: bool = True,
    refine: int | Literal["lsqr"] = 0,
    block_rows: int | None = None,
    verify: bool = False,
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
    epsilon : float
        Accuracy that sets the number of rows: no coefficient is off by more than (epsilon/√d) ‖r‖ ‖A†‖. Where that many rows
        would cost more than the exact solution, the exact solution is computed.
    delta : float
        Probability with which the certificates may fail.
    rows : int, optional
        Rows of the sketch, more than d; overrides epsilon. By default the fewest that reach epsilon.
    sketch : {"srht", "pooled", "gaussian", "circulant"}
        Subsampled randomized Hadamard transform; Hadamard flattening with Gaussian pooling, whose proof is complete;
        Gaussian, slow and exact in theory; subsampled randomized circulant.
    replace : bool
        Draw rows of srht and circulant with replacement, as the theory does; without, errors are a little smaller.
    scale : bool
        Divide columns by their norms first and undo it at the end, so that one badly scaled column cannot ruin the bound.
    refine : int or "lsqr"
        Steps of refinement on all of A, each contracting the error by about √(d/rows); "lsqr" goes to machine precision.
    block_rows : int, optional
        Sketch blocks of that many rows by themselves, as when data arrive in blocks. Only with srht.
    verify : bool
        Also compute the exact solution, and so measure what the certificates promise.
    x_exact : array_like, optional
        The exact solution where it is known, in place of verify.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    LinfRegression
        Coefficients, their error bars and the certificates.

    Raises
    ------
    ValueError
        If an argument is out of range, not finite or of a wrong shape.
    numpy.linalg.LinAlgError
        If columns of A are linearly dependent; they are named.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((4096, 8))
    >>> b = A @ np.arange(8.0) + rng.standard_normal(4096)
    >>> result = linf_regression(A, b, rows=256, verify=True, rng=0)
    >>> [str(c.verdict) for c in result.certificates]
    ['holds', 'holds']
    """
    A, names = _as_design(A)
    target = _as_target(b, A.shape[0])
    _tall(A)
    n, d = (int(s) for s in A.shape)
    flat = target.ndim == 1
    b2 = target.reshape(n, -1)
    epsilon = as_real(epsilon, "epsilon", low=0, high=np.inf, open_ends=True)
    delta = as_fraction(delta, "delta")
    as_choice(sketch, "sketch", SKETCHES)
    refine = _as_refine(refine)
    if block_rows is not None:
        as_int(block_rows, "block_rows", low=2)
        if sketch != "srht":
            raise ValueError(
                f"block_rows must be None for sketch {sketch!r}: only srht is offered in blocks"
            )
    norms = _norms(A) if scale else np.ones(d)
    limit = n if sketch == "circulant" else next_power_of_two(n)
    if rows is None:
        m = guarantee.rows_needed(d, epsilon, delta, b2.shape[1])
        if exact_is_cheaper(n, d, m):
            if m >= n / 2 and d > COLUMNS_TO_PAY:
                warnings.warn(
                    f"epsilon = {epsilon:g} needs {m} of {n} rows; solving exactly instead",
                    stacklevel=2,
                )
            return _solve_exactly(A, b2, names, norms, delta, flat)
    else:
        m = as_int(rows, "rows", low=1)
        if m <= d:
            raise ValueError(f"rows must be more than d = {d}, the columns of A, got {m}")
        unlimited = sketch == "gaussian" or (replace and sketch in ("srht", "circulant"))
        if m > limit and not unlimited:
            raise ValueError(
                f"rows must be at most {limit} for sketch {sketch!r} of {n} rows, got {m}"
            )
    rng = np.random.default_rng(rng)
    if block_rows is not None and block_rows < n:
        operator: Sketch = BlockSRHT(n, m, block_rows, rng, replace=replace)
    elif sketch == "srht":
        operator = SRHT(n, m, rng, replace=replace)
    elif sketch == "pooled":
        operator = PooledHadamard(n, m, rng)
    elif sketch == "circulant":
        operator = SubsampledCirculant(n, m, rng, replace=replace)
    else:
        operator = GaussianSketch(n, m, rng)
    return _finish(
        A,
        b2,
        names,
        norms,
        operator,
        operator @ A,
        operator @ b2,
        delta=delta,
        refine=refine,
        x_exact=x_exact,
        verify=verify,
        flat=flat,
    )
