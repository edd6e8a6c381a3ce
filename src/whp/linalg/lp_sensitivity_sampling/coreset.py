"""The front door: scores, coins, the regression on the rows kept, and what is certain about both."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from whp.certificate import Certificate
from whp.io import Data
from whp.linalg.lp_sensitivity_sampling import guarantee
from whp.linalg.lp_sensitivity_sampling.basis import (
    Basis,
    as_design,
    as_power,
    squared_rows,
    whiten,
)
from whp.linalg.lp_sensitivity_sampling.distortion import Distortion, as_rows, search
from whp.linalg.lp_sensitivity_sampling.gap import OptimalityGap, from_residual
from whp.linalg.lp_sensitivity_sampling.guarantee import Evidence
from whp.linalg.lp_sensitivity_sampling.lewis import fixed_point, ratio_in_basis
from whp.linalg.lp_sensitivity_sampling.sampling import (
    Draw,
    Scheme,
    draw,
    inclusion,
    root_leverage_in_basis,
)
from whp.linalg.lp_sensitivity_sampling.sensitivities import ALL_ROWS, from_basis, majorant
from whp.linalg.lp_sensitivity_sampling.solvers import (
    as_quantile,
    cost_of,
    least_absolute,
    newton,
    solve,
)
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_real, as_vector

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["LpCoreset", "certify", "lp_sensitivity_sampling"]

SCORES = ("lewis", "sensitivity", "augmented", "mix", "root-leverage", "leverage", "uniform")
ROUNDS = 4
SEARCHED = 2_000_000  # entries of A up to which verify="auto" looks for the worst direction


@dataclass(frozen=True, eq=False)
class LpCoreset(Result):
    """Weighted rows that stand for all of them, and the regression solved on them.

    Attributes
    ----------
    index : ndarray of int, shape (m,)
        Rows kept.
    xi : ndarray, shape (m,)
        What multiplies their ``|aᵀx|^p``: the `sample_weight` of a refit.
    probabilities, scores : ndarray, shape (n,)
        With which each row was kept (of the last round for recursive sampling: nan), and in proportion to what.
    total_score : float
        Sum of the scores.
    x : ndarray, shape (d,), or None
        Coefficients, if there was a right-hand side.
    cost, gap : float or None
        Cost of x on *all* rows, and a certain bound on its relative distance to the optimum.
    exact : bool
        Whether all rows were kept.
    p : float
        The power.
    shape : tuple of int
        Rows and columns of A.
    names : tuple of str
        Of the columns.
    distortion : Distortion or None
        The worst directions found.
    certificates : tuple of Certificate
        ``subspace-embedding``, ``sharp-rate``; with a right-hand side ``regression-cost`` and ``optimality-gap``.
    """

    index: np.ndarray
    xi: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray
    total_score: float
    x: np.ndarray | None
    cost: float | None
    gap: float | None
    exact: bool
    p: float
    shape: tuple[int, int]
    names: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    distortion: Distortion | None = field(default=None, repr=False)

    @property
    def row_scale(self) -> np.ndarray:
        """``xi^{1/p}``, which multiplies the rows themselves."""
        return self.xi ** (1 / self.p)

    @property
    def table(self) -> pd.DataFrame:
        """Row number and weight, one line a row kept: all that a refit needs."""
        import pandas as pd

        return pd.DataFrame({"row": self.index, "weight": self.xi})

    def transform(self, A: Any) -> np.ndarray:
        """The rows kept, scaled so that the ℓp norm of their products is that of all rows."""
        A = np.asarray(A, dtype=np.float64)
        if len(A) != self.shape[0]:
            raise ValueError(f"A must have {self.shape[0]} rows, got {len(A)}")
        scale = self.row_scale
        return A[self.index] * (scale[:, None] if A.ndim == 2 else scale)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Sizes, and how good the regression is."""
        n, d = self.shape
        said: dict[str, bool | int | float | str | None] = {
            "rows_of_A": n,
            "columns_of_A": d,
            "p": self.p,
            "rows_kept": len(self.index),
            "all_rows_kept": self.exact,
            "total_score": self.total_score,
        }
        if self.distortion is not None:
            said["worst_distortion_found"] = self.distortion.value
        if self.x is not None:
            said |= {"cost_on_all_rows": self.cost, "cost_above_optimum_at_most": self.gap}
        return said

    def artifacts(self) -> dict[str, Any]:
        """The rows with their weights, and the coefficients."""
        import pandas as pd

        made: dict[str, Any] = {"coreset.csv": self.table}
        if self.x is not None:
            made["coefficients.csv"] = pd.DataFrame({"name": self.names, "coefficient": self.x})
        return made

    def plot(self, ax: Axes | None = None) -> Axes:
        """Share of all scores that the rows from the most important on carry, against the share of rows kept."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        ordered = np.sort(self.scores)[::-1]
        share = np.cumsum(ordered) / ordered.sum()
        rank = np.arange(1, len(share) + 1)
        ax.plot(rank, share, label="rows by importance")
        ax.plot(rank, rank / len(share), "--", color="0.6", label="all rows alike")
        ax.axvline(len(self.index), color="tab:orange", label=f"{len(self.index):,} rows kept")
        ax.set(
            xscale="log",
            xlabel="rows, the most important first",
            ylabel="share of the total score",
            ylim=(0, 1.02),
        )
        ax.legend(frameon=False)
        return ax


def _extend(basis: Basis, b: np.ndarray) -> Basis:
    """The basis of [A | b]; that of A where b lies in its range."""
    inside = basis.U.T @ b
    left = b - basis.U @ inside
    again = basis.U.T @ left
    left, inside = left - basis.U @ again, inside + again
    size = float(np.linalg.norm(left))
    if size <= 1e-10 * np.linalg.norm(b):
        return basis
    d = len(inside)
    R = np.zeros((d + 1, d + 1))
    R[:d, :d], R[:d, d], R[d, d] = basis.R, inside, size
    return Basis(
        np.column_stack([basis.U, left / size]),
        R,
        np.append(basis.columns, basis.width),
        basis.width + 1,
    )


def _scores(
    kind: str, basis: Basis, p: float, v: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scores u of every row, and the certain upper bound on its sensitivity."""
    tau = basis.leverage
    bound = majorant(v, tau, p)
    if kind not in ("sensitivity", "augmented", "mix"):
        u = {
            "lewis": v,
            "leverage": tau,
            "root-leverage": tau ** (p / 2),
            "uniform": squared_rows(basis.U).astype(bool).astype(float),
        }
        return u[kind], bound
    n, d = basis.U.shape
    rows = None if n <= ALL_ROWS else max(2000, 40 * d)
    found = from_basis(basis, p, v, np.arange(n), rows, rng)
    s = found.lower
    match kind:
        case "augmented":
            return s + tau, found.certified
        case "mix":  # half the budget to each
            return s / s.sum() + tau / tau.sum(), found.certified
    return s, found.certified


def _ratio(numerator: np.ndarray, q: np.ndarray) -> float:
    """``max numerator/q`` over rows that are not certain; infinite if one that matters is never kept."""
    free = (q < 1) & (numerator > 0)
    if not free.any():
        return 0.0
    with np.errstate(divide="ignore"):
        return float((numerator[free] / q[free]).max())


def _evidence(
    basis: Basis,
    p: float,
    delta: float,
    q: np.ndarray,
    bound: np.ndarray,
    v: np.ndarray,
    **known: Any,
) -> Evidence:
    n, d = basis.U.shape
    return Evidence(
        n=n,
        d=d,
        p=p,
        delta=delta,
        alphas=(min(_ratio(bound, q), 1e300),),
        alpha_lewis=_ratio(v, q),
        mass=float(v.sum()),
        total=float(bound.sum()),
        **known,
    )


def certify(
    A: Any,
    index: Any,
    xi: Any,
    p: float,
    *,
    probabilities: Any = None,
    one_sided: Any = None,
    delta: float = 0.05,
    sharp_constant: float = 1.0,
    rng: np.random.Generator | int | None = None,
) -> tuple[Certificate, Certificate]:
    """The certificates ``subspace-embedding`` and ``sharp-rate`` of rows that came from elsewhere.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    index, xi : array_like, shape (m,)
        Rows and their weights.
    p : float
        Power, at least 1.
    probabilities : array_like, shape (n,), optional
        With which each row was kept, by a coin of its own, as whoever drew them says. Without them, the theorem is void.
    one_sided : array_like, shape (n,), optional
        One-sided Lewis weights of your own; they are checked.
    delta : float
        Failure probability.
    sharp_constant : float
        Calibrated constant of the sharp rate.
    rng : numpy.random.Generator, int or None
        Source of randomness of the search.

    Returns
    -------
    tuple of Certificate
    """
    clean, names = as_design(A)
    n = len(clean)
    p = as_power(p)
    rows, weights = as_rows(index, xi, n)
    delta = as_fraction(delta, "delta")
    basis = whiten(clean, names)
    v = fixed_point(basis.U, p, 1e-3, 500)[1]
    if one_sided is not None:
        v = as_vector(one_sided, "one_sided", size=n, dtype=np.float64)
        if v.min() < 0:
            raise ValueError(f"one_sided must not be negative, got {v.min():g}")
    q = np.zeros(n)
    if probabilities is None:
        q[rows] = np.minimum(1.0, 1 / np.maximum(weights, 1e-300))
    else:
        q = as_vector(probabilities, "probabilities", size=n, dtype=np.float64)
        if q.min() < 0 or q.max() > 1:
            raise ValueError(f"probabilities must be in [0, 1], got {q.min():g} to {q.max():g}")
    evidence = _evidence(
        basis,
        p,
        delta,
        q,
        majorant(v, basis.leverage, p),
        v,
        rows=len(rows),
        origin="hand" if probabilities is None else "stated",
        one_sided=ratio_in_basis(basis.U, v, p),
        sharp_constant=as_real(sharp_constant, "sharp_constant", low=0, open_ends=True),
        found=search(basis, rows, weights, p, 24, 60, np.random.default_rng(rng)),
    )
    return guarantee.subspace_embedding(evidence), guarantee.sharp_rate(evidence)


def _fewest_rows(u: np.ndarray, epsilon: float, evidence: Any) -> int:
    """The smallest m whose best bound is at most epsilon; the number of positive scores if none is."""
    low, high = 0, int(np.count_nonzero(u))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (
            (low, middle)
            if evidence(inclusion(u, middle)[0]).bound[1] <= epsilon
            else (middle, high)
        )
    return high


def _solve_rows(
    A: np.ndarray, b: np.ndarray, drawn: Draw, p: float, quantile: float | None, tilt: np.ndarray
) -> np.ndarray:
    """Coefficients from the rows kept; `tilt` = Aᵀ1 over all rows, the exact linear part of a quantile's cost."""
    rows = whiten(A[drawn.index], on_rank="drop")
    slope = None
    if quantile is not None:  # in the rows' basis A x = U z, so Aᵀ1 becomes R⁻ᵀ(Aᵀ1)
        slope = -(quantile - 0.5) * np.linalg.solve(rows.R.T, tilt[rows.columns])
    return rows.coefficients(solve(rows, b[drawn.index], p, drawn.xi, quantile, slope))


def _refine(
    U: np.ndarray, b: np.ndarray, z: np.ndarray, p: float, quantile: float | None, rows: int
) -> np.ndarray:
    """One more pass with all rows: Newton steps, or the linear program in the rows nearest to their sign change.

    Rows with a large residual keep its sign, and so enter the program as a linear term (Portnoy & Koenker 1997).
    """
    if p > 1:
        return newton(U, b, p, np.ones(len(b)), z, steps=3)
    r = b - U @ z
    sizes = np.sqrt(squared_rows(U))
    sooner = np.where(
        sizes > 0, np.abs(r) / np.where(sizes > 0, sizes, 1.0), np.inf
    )  # how far z must move to change the sign
    q = 0.5 if quantile is None else quantile
    while rows < len(r):
        near = np.argpartition(sooner, rows)[:rows]
        sign = np.sign(r)
        sign[near] = 0.0
        tilt = -(q - 0.5) * U.sum(axis=0) - 0.5 * (U.T @ sign)
        pair = least_absolute(U[near], b[near], np.full(len(near), 0.5), tilt)
        if pair is not None:
            return pair[0]
        rows *= (
            2  # a sign was kept that the optimum changes, which left the program without a bound
        )
    return z


def lp_sensitivity_sampling(
    A: Annotated[Any, Data("design")],
    b: Annotated[Any, Data("vector", column="target")] = None,
    *,
    p: float = 1.0,
    quantile: float | None = None,
    rows: int | None = None,
    epsilon: float = 0.5,
    delta: float = 0.05,
    scores: Literal[
        "lewis", "sensitivity", "augmented", "mix", "root-leverage", "leverage", "uniform"
    ] = "lewis",
    importance: Annotated[Any, Data("vector")] = None,
    sampling: Literal["poisson", "fixed", "multinomial"] = "poisson",
    refine: bool = False,
    verify: bool | Literal["auto"] = "auto",
    on_rank: Literal["raise", "drop"] = "raise",
    sharp_constant: float = 1.0,
    rng: np.random.Generator | int | None = None,
) -> LpCoreset:
    """Keep a few weighted rows that preserve every ℓp norm, and solve ℓp or quantile regression on them.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Tall design matrix of full column rank. A sparse one is made dense.
    b : array_like, shape (n,), optional
        Right-hand side of a regression; rows are then chosen for [A | b], without which a row with a huge entry of b would
        go unprotected.
    p : float
        Power, from 1 (least absolute deviations) to 64.
    quantile : float, optional
        With p = 1, regress on this quantile in place of the median.
    rows : int, optional
        Expected number of rows to keep. By default the fewest for which the best explicit bound reaches epsilon; if that is
        more than half of the rows, all are kept.
    epsilon : float
        Distortion that sets the default of rows.
    delta : float
        Probability with which the certificates may fail.
    scores : {"lewis", "sensitivity", "augmented", "mix", "root-leverage", "leverage", "uniform"}
        Keep rows in proportion to Lewis weights; sensitivities; sensitivities plus leverage; both, each with half the budget,
        for p > 2; root leverage, in four rounds, for p ≤ 2; leverage; or all alike.
    importance : array_like, shape (n,), optional
        Scores of your own, in place of `scores`.
    sampling : {"poisson", "fixed", "multinomial"}
        A coin for each row, so that the number of rows varies by √m; exactly m rows, which no theorem covers; or draws with
        replacement, for comparison.
    refine : bool
        Improve the solution by one more pass over all rows.
    verify : bool or "auto"
        Search for the worst direction. "auto" does so up to two million entries of A.
    on_rank : {"raise", "drop"}
        What to do about dependent columns: complain, or give them coefficient zero.
    sharp_constant : float
        Calibrated constant of the certificate ``sharp-rate``.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    LpCoreset
        Rows and weights, the solution, and the certificates.

    Raises
    ------
    ValueError
        If an argument is out of range, not finite or of a wrong shape.
    numpy.linalg.LinAlgError
        If columns of A are linearly dependent; they are named.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((20000, 5))
    >>> b = A @ np.arange(5.0) + rng.standard_t(3, 20000)
    >>> result = lp_sensitivity_sampling(A, b, p=1, rows=4000, rng=0)
    >>> str(result.certificates[0].verdict), result.gap < 0.05
    ('holds', True)
    """
    A, names = as_design(A)
    n, width = A.shape
    p = as_power(p)
    level = as_quantile(quantile, p)
    target = None if b is None else as_vector(b, "b", size=n, dtype=np.float64)
    if level is not None and target is None:
        raise ValueError("b must be given for a quantile")
    epsilon = as_real(epsilon, "epsilon", low=0, high=np.inf, open_ends=True)
    delta = as_fraction(delta, "delta")
    as_choice(scores, "scores", SCORES)
    as_choice(sampling, "sampling", ("poisson", "fixed", "multinomial"))
    as_choice(on_rank, "on_rank", ("raise", "drop"))
    sharp_constant = as_real(sharp_constant, "sharp_constant", low=0, high=np.inf, open_ends=True)
    if scores == "root-leverage" and p > 2:
        raise ValueError(f"scores must not be 'root-leverage' for p > 2, got p = {p:g}")
    if scores == "mix" and p <= 2:
        raise ValueError(f"scores must not be 'mix' unless p > 2, got p = {p:g}")
    if verify != "auto" and not isinstance(verify, (bool, np.bool_)):
        raise ValueError(f"verify must be True, False or 'auto', got {verify!r}")
    rng = np.random.default_rng(rng)
    inner = whiten(A, names, on_rank)
    basis = inner if target is None else _extend(inner, target)
    d = basis.U.shape[1]
    if rows is not None and as_int(rows, "rows", low=1) <= d:
        raise ValueError(
            f"rows must be more than {d}, the columns of {'A' if target is None else '[A | b]'}, got {rows}"
        )
    v = fixed_point(basis.U, p, 1e-3, 500)[1]
    if importance is not None:
        u, bound = (
            as_vector(importance, "importance", size=n, dtype=np.float64),
            majorant(v, basis.leverage, p),
        )
        if u.min() < 0 or not u.any():
            raise ValueError("importance must not be negative, nor all zero")
    else:
        u, bound = _scores(scores, basis, p, v, rng)
    kappa = 1.0 if level is None else 1 / (2 * min(level, 1 - level))
    known: dict[str, Any] = {
        "one_sided": ratio_in_basis(basis.U, v, p),
        "kappa": kappa,
        "sharp_constant": sharp_constant,
        "origin": sampling,
    }

    def evidence(q: np.ndarray) -> Evidence:
        return _evidence(basis, p, delta, q, bound, v, rows=round(q.sum()), **known)

    if rows is None:
        rows = _fewest_rows(u, epsilon, evidence)
        if rows > n / 2:
            warnings.warn(
                f"epsilon = {epsilon:g} needs {rows} of {n} rows; keeping all", stacklevel=2
            )
            rows = n
    assert rows is not None  # set above where it was None
    keep_all = rows >= np.count_nonzero(u) and importance is None
    if keep_all:
        live = np.flatnonzero(squared_rows(basis.U) > 0)
        drawn = Draw(live, np.ones(len(live)), (squared_rows(basis.U) > 0).astype(float))
        facts = evidence(np.ones(n))
    elif scores == "root-leverage" and importance is None and sampling == "poisson":
        sample = root_leverage_in_basis(basis.U, p, rows, ROUNDS, rng)
        drawn = Draw(sample.index, sample.xi, np.full(n, np.nan))
        facts = replace(
            evidence(np.ones(n)), origin="recursive", alphas=sample.alphas, alpha_lewis=np.inf
        )
    else:
        q = inclusion(u, rows)[0]
        scheme: Scheme = sampling
        drawn = draw(q, scheme, rng)
        facts = evidence(q)
    facts = replace(facts, rows=len(drawn.index))
    if not len(drawn.index):
        raise ValueError(f"rows = {rows} left no row at all; take more")
    if verify is True or (verify == "auto" and A.size <= SEARCHED):
        facts = replace(facts, found=search(basis, drawn.index, drawn.xi, p, 12, 30, rng))
    certificates = [guarantee.subspace_embedding(facts), guarantee.sharp_rate(facts)]
    x, gap = None, None
    if target is not None:
        x, gap = _regress(A, target, inner, drawn, p, level, refine)
        zero = cost_of(target, p, level)
        certificates += [
            guarantee.regression_cost(facts, gap, zero),
            guarantee.gap_certificate(gap, zero),
        ]
    return LpCoreset(
        index=drawn.index,
        xi=drawn.xi,
        probabilities=drawn.probabilities,
        scores=u,
        total_score=float(u.sum()),
        x=x,
        cost=None if gap is None else gap.cost,
        gap=None if gap is None else gap.gap,
        exact=bool(keep_all),
        p=p,
        shape=(n, width),
        names=names,
        certificates=tuple(certificates),
        distortion=facts.found,
    )


def _regress(
    A: np.ndarray,
    b: np.ndarray,
    inner: Basis,
    drawn: Draw,
    p: float,
    quantile: float | None,
    refine: bool,
) -> tuple[np.ndarray, OptimalityGap]:
    """The solution on the rows kept, refined if wanted, and its gap on all rows."""
    x = _solve_rows(A, b, drawn, p, quantile, A.sum(axis=0))
    r = b - A @ x
    if refine:
        z = _refine(
            inner.U, b, inner.U.T @ (b - r), p, quantile, max(len(drawn.index), len(A) // 16)
        )
        better = b - inner.U @ z
        if cost_of(better, p, quantile) < cost_of(r, p, quantile):
            x, r = inner.coefficients(z), better
    return x, from_residual(inner.U, b, r, p, quantile)
