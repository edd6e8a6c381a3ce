"""ℓp sensitivities: how much of ‖Ax‖_p^p one row can be, between a witness and its dual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import scipy.linalg as sl

from whp.door import AtLeast, Between, front_door
from whp.linalg._lp_sensitivity_sampling.basis import Basis, as_design, squared_rows, whiten
from whp.linalg._lp_sensitivity_sampling.lewis import factor, fixed_point, quadratic
from whp.linalg._lp_sensitivity_sampling.sampling import draw, inclusion
from whp.linalg._lp_sensitivity_sampling.solvers import least_absolute, newton, path, powers
from whp.progress import track
from whp.validate import as_vector, private_stream

__all__ = ["Sensitivities", "sensitivities"]

ALL_ROWS = 8192  # up to here every row is held against every other, beyond against a coreset
BLOCK = 1024
STEEP = 4  # powers of a dual beyond this are taken in units of its largest entry
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Sensitivities:
    """Sensitivities ``s_i = max_x |a_iᵀx|^p/‖Ax‖_p^p`` of the chosen rows.

    Attributes
    ----------
    lower, upper : ndarray
        Ends of the bracket. Certain where `approximate` is False; else both are right up to the
        distortion of the coreset.
    certified : ndarray
        An upper bound that is certain in any case, by one-sided Lewis weights and leverage scores.
    total : float
        Σ lower, the estimate of the total sensitivity: the lower side is within a few per cent on
        real data.
    approximate : bool
        Whether rows were held against a coreset in place of all rows.
    """

    lower: np.ndarray
    upper: np.ndarray
    certified: np.ndarray
    total: float
    approximate: bool


def majorant(v: np.ndarray, tau: np.ndarray, p: float) -> np.ndarray:
    """Upper bound on every s_i from one-sided Lewis weights and leverage scores (Hölder).

    p ≤ 2: ``s ≤ min(v, τ^{p/2})``; p ≥ 2: ``s ≤ min(v (Σv)^{p/2−1}, n^{p/2−1}τ^{p/2})``.
    """
    n = np.count_nonzero(v)
    root = tau ** (p / 2)
    if p <= 2:
        return np.minimum(1.0, np.minimum(v, root))
    return np.minimum(1.0, np.minimum(v * v.sum() ** (p / 2 - 1), root * n ** (p / 2 - 1)))


def bracket(
    rows: np.ndarray, against: np.ndarray, v: np.ndarray, p: float
) -> tuple[np.ndarray, np.ndarray]:  # O(k n d), in tiles that stay in the cache
    """Both ends for k `rows`, held against B = `against` of n rows with one-sided weights v.

    The witness is ``x_i = M⁻¹a_i``; the dual is ``y_i = V^{1−2/p}B x_i``, which meets
    ``Bᵀy_i = a_i``, so that by duality of norms ``s_i ≤ ‖y_i‖_{p'}^p``.
    """
    live = np.flatnonzero(v > 0)
    B, logs = against[live], np.log(v[live])
    T = factor(B, logs, p)
    inverse = sl.solve_triangular(T, np.eye(len(T)), check_finite=False)
    X = (rows @ inverse) @ inverse.T
    own = np.einsum("ij,ij->i", rows, X)
    unit = np.where(own > 0, own, 1.0)
    X /= unit[:, None]  # a_iᵀx_i = 1, lest powers of small numbers vanish
    dual = np.exp((1 - 2 / p) * logs)
    conjugate = p / (p - 1) if p > 1 else np.inf
    norms, duals, peaks = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
    for i in track(range(0, len(rows), BLOCK), "sensitivities"):
        tile = slice(i, i + BLOCK)
        part = X[tile].T
        for j in range(0, len(B), BLOCK):
            F = np.abs(B[j : j + BLOCK] @ part)
            with np.errstate(over="ignore"):
                norms[tile] += powers(F, p).sum(axis=0)
            F *= dual[j : j + BLOCK, None]
            if conjugate > STEEP:  # such powers vanish: in units of the largest entry so far
                peak = np.maximum(np.maximum(peaks[tile], F.max(axis=0)), TINY)
                if p > 1:
                    duals[tile] *= (peaks[tile] / peak) ** conjugate
                    duals[tile] += ((F / peak) ** conjugate).sum(axis=0)
                peaks[tile] = peak
            elif p == 4:  # p' = 4/3, by the cube root
                duals[tile] += (F * np.cbrt(F)).sum(axis=0)
            else:
                duals[tile] += powers(F, conjugate).sum(axis=0)
    with np.errstate(divide="ignore"):
        lower = np.where(own > 0, 1 / norms, 0.0)
    size = duals ** (1 - 1 / p) if p > 1 else 1.0
    size = peaks * size if conjugate > STEEP else size
    upper = np.minimum(1.0, (unit * size) ** p)  # ‖y‖_{p'}^p
    return np.minimum(lower, 1.0), np.maximum(upper, np.minimum(lower, 1.0))


def exact_one(U: np.ndarray, row: np.ndarray, p: float) -> float:
    """``s = 1/min ‖Ux‖_p^p`` over ``rowᵀx = 1``: a regression in the d − 1 directions left."""
    size = float(row @ row)
    if size == 0:
        return 0.0
    start = row / size
    if len(row) == 1:
        return float(1 / powers(np.abs(U @ start), p).sum())
    free = sl.qr(row[:, None], check_finite=False)[0][:, 1:]
    G, target = U @ free, U @ start
    if p == 1:
        pair = least_absolute(G, target, np.ones(len(G)), np.zeros(G.shape[1]))
        if pair is None:
            raise ArithmeticError(
                "the linear program of a sensitivity was not solved; scale the columns of A"
            )
        z = pair[0]
    elif p == 2:
        return size
    else:
        z = np.linalg.lstsq(G, target)[0]
        for q in path(p):
            z = newton(G, target, q, np.ones(len(G)), z)[0]
    return float(1 / powers(np.abs(target - G @ z), p).sum())


def from_basis(
    basis: Basis,
    p: float,
    v: np.ndarray,
    chosen: np.ndarray,
    coreset_rows: int | None,
    rng: np.random.Generator,
) -> Sensitivities:
    """The bracket for rows `chosen`, against a Lewis coreset of so many rows if given."""
    U = basis.U
    certified = majorant(v, basis.leverage, p)[chosen]
    if coreset_rows is None or coreset_rows >= len(U):
        lower, upper = bracket(U[chosen], U, v, p)
        certified = np.minimum(certified, upper)
        return Sensitivities(
            lower, np.maximum(certified, lower), certified, float(lower.sum()), False
        )
    sample = draw(inclusion(v, coreset_rows)[0], "poisson", rng)
    B = U[sample.index] * (sample.xi ** (1 / p))[:, None]
    inner = fixed_point(whiten(B, on_rank="drop").U, p, 1e-3, 200)[1]
    lower, upper = bracket(U[chosen], B, inner, p)
    lower = np.minimum(lower, certified)
    return Sensitivities(
        lower, np.clip(upper, lower, certified), certified, float(lower.sum()), True
    )


@front_door
def sensitivities(
    A: Any,
    p: Annotated[float, Between(1, 64)],
    *,
    method: Literal["bracket", "exact", "lewis", "root-leverage"] = "bracket",
    index: Any = None,
    coreset_rows: Annotated[int, AtLeast(2)] | Literal["auto", "all"] = "auto",
    rng: np.random.Generator | int | None = 0,
) -> Sensitivities:
    """ℓp sensitivities of the rows of A, from below and above.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    p : float
        Power, at least 1.
    method : {"bracket", "exact", "lewis", "root-leverage"}
        A witness and its dual for each row; one optimisation a row; or bounds by Lewis weights or
        leverage scores alone.
    index : array_like of int, optional
        Rows wanted; all by default.
    coreset_rows : int, "auto" or "all"
        For brackets, against how many rows each row is held, at least 2 d: O(n k d) for k rows.
        "auto" takes all up to 8,192 rows, then a coreset by Lewis weights of 2,000 rows, or 40 d if
        that is more.
    rng : numpy.random.Generator, int or None
        Source of randomness of that coreset.

    Returns
    -------
    Sensitivities

    Raises
    ------
    ValueError
        If an argument is out of range.
    numpy.linalg.LinAlgError
        If columns of A are linearly dependent.

    Examples
    --------
    >>> s = sensitivities([[1, 0], [0, 1], [1, 1], [2, -1]], 1, method="exact")
    >>> s.lower.round(4).tolist()
    [0.25, 0.3333, 0.5, 0.6]
    """
    clean, names = as_design(A)
    n, d = clean.shape
    if index is None:
        chosen = np.arange(n)
    else:
        wanted = as_vector(index, "index", dtype=np.float64)
        if (wanted != np.floor(wanted)).any() or wanted.min() < 0 or wanted.max() >= n:
            raise ValueError(f"index must hold whole row numbers 0 to {n - 1}")
        chosen = wanted.astype(np.int64)
    if coreset_rows in ("auto", "all"):
        rows = max(2000, 40 * d) if coreset_rows == "auto" and n > ALL_ROWS else None
    else:
        rows = int(coreset_rows)
        if rows < 2 * d:
            raise ValueError(f"coreset_rows must be at least 2 d = {2 * d}, got {rows}")
    basis = whiten(clean, names)
    tau = basis.leverage
    _, v, _, _, T = fixed_point(basis.U, p, 1e-8 if rows is None else 1e-3, 500)
    certified = majorant(v, tau, p)[chosen]
    match method:
        case "exact":
            live = basis.U[squared_rows(basis.U) > 0]
            found = np.array(
                [exact_one(live, basis.U[i], p) for i in track(chosen, "exact sensitivities")]
            )
            return Sensitivities(
                found, found, np.maximum(certified, found), float(found.sum()), False
            )
        case "lewis":
            # By the witness M⁻¹a: ‖Ax‖_p^p ≤ (Σv)^{1−p/2} (xᵀMx)^{p/2} for p < 2 (Hölder), and
            # without that factor beyond, since |aᵀx|² ≤ v^{2/p} xᵀMx. It needs no fixed point.
            mass = float(v.sum()) if p < 2 else 1.0
            lower = quadratic(basis.U[chosen], T) ** (p / 2) * mass ** (p / 2 - 1)
        case "root-leverage":
            live = int(np.count_nonzero(v))
            lower = tau[chosen] ** (p / 2) * (live ** (p / 2 - 1) if p < 2 else 1.0)
            root = tau[chosen] ** (p / 2) * (live ** (p / 2 - 1) if p > 2 else 1.0)
            certified = np.minimum(1.0, root)
        case _:
            return from_basis(basis, p, v, chosen, rows, private_stream(rng))
    lower = np.minimum(lower, certified)
    return Sensitivities(lower, certified, certified, float(lower.sum()), False)
