"""ℓp and quantile regression on all rows: a linear program in its dual form, or Newton's method.

All is scale-free: powers are taken of residuals over the largest one, and the linear program sees
residuals of a robust first fit, so that neither an offset nor an outlier of b takes its digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import scipy.linalg as sl
from scipy.optimize import brentq

from whp.door import Between, Fraction, front_door
from whp.linalg._lp_sensitivity_sampling.basis import Basis, as_design, squared_rows, whiten
from whp.validate import as_vector, same_order

__all__ = ["Solved", "as_quantile", "cost_of", "lp_regression", "norm_of", "pinball", "powers"]

FLOOR = 1e-8  # of the largest residual: its curvature stands in where that is infinite or zero
OPTIMAL = 1e-14  # a duality gap that is rounding
NEARLY = 1e-9  # one at which steps that no longer halve it move nothing (p near 1)
FAR = (
    1e4  # median residuals from which a row keeps its sign, as the linear program's tolerances ask
)
FEW = 1500  # rows up to which all of them enter the linear program


@dataclass(frozen=True, eq=False)
class Solved:
    """Coefficients z in the basis, a dual solution if there is one, the relative duality gap."""

    z: np.ndarray
    dual: np.ndarray | None
    gap: float


def as_quantile(quantile: float | None, p: float) -> float | None:
    """The quantile; ValueError if p is not 1."""
    if quantile is not None and p != 1:
        raise ValueError(f"quantile needs p = 1, got p = {p:g}")
    return quantile


def pinball(r: np.ndarray, quantile: float) -> np.ndarray:
    """``q r`` above zero, ``(q − 1) r`` below."""
    return np.where(r > 0, quantile * r, (quantile - 1) * r)


def norm_of(
    r: np.ndarray, p: float, quantile: float | None = None, weights: np.ndarray | None = None
) -> float:
    """``(Σ w|r|^p)^{1/p}``, or the pinball cost; no power over- or underflows."""
    if quantile is not None:
        loss = pinball(r, quantile)
        return float(loss.sum() if weights is None else weights @ loss)
    size = np.abs(r)
    top = float(size.max(initial=0.0))
    if not 0 < top < np.inf:
        return top
    loss = powers(size / top, p)
    return top * float(loss.sum() if weights is None else weights @ loss) ** (1 / p)


def raised(value: float, p: float) -> float:
    """``value^p``, infinite where it overflows."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float64(value) ** p)


def cost_of(r: np.ndarray, p: float, quantile: float | None = None) -> float:
    """``Σ|r|^p``, or the pinball cost."""
    return raised(norm_of(r, p, quantile), p)


def powers(size: np.ndarray, p: float) -> np.ndarray:
    """``size^p`` for size ≥ 0, by products and roots where that is faster than a general power."""
    match p:
        case 0.5:
            return np.sqrt(size)
        case 1:
            return size
        case 1.5:
            return size * np.sqrt(size)
        case 2:
            return size * size
        case 3:
            return size * size * size
        case 4:
            square = size * size
            return square * square
    return size**p


def _typical(size: np.ndarray) -> float:
    """Median of the positive entries, 1 if there are none."""
    positive = size[size > 0]
    return float(np.median(positive)) if len(positive) else 1.0


def _definite(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve with a matrix that is positive definite up to rounding."""
    ridge = np.finfo(float).eps * np.trace(matrix)
    try:
        factor = sl.cho_factor(matrix + ridge * np.eye(len(right)), check_finite=False)
        return sl.cho_solve(factor, right, check_finite=False)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, right)[0]


def _reweighted(U: np.ndarray, b: np.ndarray, half: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Close to the minimum of ``Σ half|b − Uz| + hᵀz``, by weighted least squares.

    Each step minimises a parabola above the cost, so that outliers lose their weight by and by.
    """
    z = _definite(U.T @ (U * half[:, None]), U.T @ (half * b))
    r = b - U @ z
    before = np.inf
    for _ in range(60):
        weights = half / np.maximum(np.abs(r), 1e-3 * _typical(np.abs(r)))
        step = _definite(U.T @ (U * weights[:, None]), U.T @ (weights * r) - h)
        z = z + step
        r = b - U @ z
        # The rows between the outliers decide: their size is what must come to rest.
        now = _typical(np.abs(r))
        if abs(now - before) <= 1e-3 * now:
            break
        before = now
    return z


def _program(
    U: np.ndarray, r: np.ndarray, half: np.ndarray, h: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Minimise ``Σ half|r − Uz| + hᵀz``: solutions of primal and dual, None if unbounded.

    HiGHS is given the dual, ``max rᵀy`` with ``Uᵀy = h`` and ``|y| ≤ half``: d constraints, where
    the usual primal form has n, which makes it many times faster.
    """
    from scipy.optimize import linprog

    size, unit = _typical(np.abs(r)), float(half.max()) or 1.0
    spread = float(np.sqrt(squared_rows(U).mean())) or 1.0
    found = linprog(
        -r / size,
        A_eq=U.T / spread,
        b_eq=h / (unit * spread),
        bounds=np.column_stack([-half, half]) / unit,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9},
    )
    if found.status != 0:
        return None
    return -found.eqlin.marginals * (size / spread), found.x * unit


def least_absolute(
    U: np.ndarray, b: np.ndarray, half: np.ndarray, h: np.ndarray, start: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Minimise ``Σ half_i |b_i − u_iᵀz| + hᵀz``: solutions (z, y) of primal and dual.

    Only rows near the change of their sign at a first fit enter the linear program; the others
    keep theirs and become a linear term (Portnoy & Koenker 1997). Rows whose sign was kept wrongly
    enter as well, and more of the others where these are many or the program has no bound. None if
    all of them leave it without a bound.
    """
    z = _reweighted(U, b, half, h) if start is None else start
    n, d = U.shape
    sizes = np.sqrt(squared_rows(U))
    rows, far = (n if n <= FEW else max(n // 16, 40 * d, FEW)), FAR
    turned, tries = np.zeros(n, bool), 0
    r = b - U @ z
    cost = float(half @ np.abs(r) + h @ z)
    while True:
        size = np.abs(r)
        inside = size <= far * _typical(size)
        if rows < n:
            with np.errstate(divide="ignore", invalid="ignore"):
                sooner = np.where(sizes > 0, size / sizes, np.inf)  # how far z moves for the sign
            near = np.zeros(n, bool)
            near[np.argpartition(sooner, rows)[:rows]] = True
            inside &= near
        inside |= turned
        sign = np.where(inside, 0.0, np.sign(r))
        tilt = h - U.T @ (half * sign)
        solved = _program(U[inside], r[inside], half[inside], tilt) if inside.any() else None
        enough = solved is not None
        if solved is not None:
            step, y = solved
            moved = r - U @ step
            wrong = moved * sign < 0
            if not wrong.any():
                dual = half * sign
                dual[inside] = y
                return z + step, dual
            turned |= wrong
            tries += 1
            enough = tries % 4 > 0 and 10 * int(wrong.sum()) < rows
            if (now := float(half @ np.abs(moved) + h @ (z + step))) < cost:
                z, cost = z + step, now
                r = b - U @ z
        elif rows >= n and far == np.inf:
            return None
        if not enough:
            rows, far = (2 * rows, far) if rows < n else (rows, far * 1e6 if far < 1e12 else np.inf)


def newton(
    U: np.ndarray, b: np.ndarray, p: float, weights: np.ndarray, z: np.ndarray, steps: int = 200
) -> tuple[np.ndarray, float]:
    """Minimise ``Σ w|b − Uz|^p``, p > 1, from z, until the duality gap is down to rounding.

    Returns z and the last duality gap, relative.
    """
    r = b - U @ z
    best, idle, gap = np.inf, 0, np.inf
    norm = norm_of(r, p, None, weights)
    for _ in range(steps):
        size = np.abs(r)
        top = float(size.max(initial=0.0))
        if top == 0:
            return z, 0.0
        # All in units of the largest residual: powers of it neither overflow nor vanish.
        relative = size / top
        dual = powers(relative, p - 1) * np.sign(r)
        curve = (p - 1) * np.maximum(relative, FLOOR) ** (p - 2)
        gradient = U.T @ (weights * dual)
        step = _definite(U.T @ (U * (weights * curve)[:, None]), gradient)
        move = U @ step
        # Where Newton expects the gradient to vanish the dual is orthogonal to the columns.
        gap = _gap(r / top, dual - curve * move, p, weights)
        descent = float(gradient @ step)
        t = _line_minimum(r / top, move, p, weights, descent)
        cost = float(weights @ powers(relative, p))
        z, r = z + t * top * step, r - t * top * move
        new = norm_of(r, p, None, weights)
        best, idle = (gap, 0) if gap < best / 2 else (best, idle + 1)
        if (
            gap <= OPTIMAL
            or new >= norm
            or descent * p <= 1e-15 * cost
            or (idle >= 5 and best <= NEARLY)
        ):
            break
        norm = new
    return z, max(min(gap, best), 0.0)


def _gap(r: np.ndarray, y: np.ndarray, p: float, weights: np.ndarray) -> float:
    """``cost / bound − 1`` by Hölder's inequality, for a dual y with ``Uᵀ(wy) = 0``."""
    peak = float(np.abs(y).max())
    against = float(weights @ (r * y))
    if not 0 < against < np.inf:
        return np.inf
    conjugate = p / (p - 1)
    norm = peak * float(weights @ (np.abs(y) / peak) ** conjugate) ** (1 / conjugate)
    return raised(norm_of(r, p, None, weights) * norm / against, p) - 1


def _line_minimum(
    r: np.ndarray, move: np.ndarray, p: float, weights: np.ndarray, descent: float
) -> float:
    """t that minimises ``Σ w|r − t move|^p``: the zero of its derivative, which grows with t."""

    def slope(t: float) -> float:
        left = r - t * move
        with np.errstate(over="ignore"):  # far beyond the minimum: infinite, and so positive
            return -float(weights @ (powers(np.abs(left), p - 1) * np.sign(left) * move))

    low, high = 0.0, 1.0
    for _ in range(60):
        at = slope(high)
        if high == 1 and abs(at) <= 1e-3 * descent:
            return 1.0  # the whole Newton step: what keeps convergence quadratic
        if at >= 0:
            break
        low, high = high, 2 * high
    else:
        return low
    if low == 0 and slope(0.0) >= 0:  # nothing but rounding is left to gain
        return 0.0
    return float(brentq(slope, low, high, xtol=1e-9, rtol=1e-9, maxiter=60, disp=False))


def path(p: float) -> list[float]:
    """Powers to solve for in turn, each from the solution before.

    Newton's region shrinks for large p and for p near 1.
    """
    if p < 1.25:
        return [q for q in (1.5, 1.25, 1.1) if q > p] + [p]
    steps = [p]
    while steps[0] >= 8:
        steps.insert(0, steps[0] / 2)
    return steps


def solve(
    basis: Basis,
    b: np.ndarray,
    p: float,
    weights: np.ndarray | None = None,
    quantile: float | None = None,
    slope: np.ndarray | None = None,
) -> tuple[Solved, bool]:
    """Minimise the cost of ``b − Uz``; and whether the linear part of a quantile's cost is exact.

    `slope` is that part where rows stand for others: ``−(q − ½) Uᵀ1`` over all of them. Where the
    rows are too few to hold it up, it is taken from the rows, which is always bounded.
    """
    U = basis.U
    w = np.ones(len(b)) if weights is None else weights
    if p == 1:
        q = 0.5 if quantile is None else quantile
        own = -(q - 0.5) * (U.T @ w)
        for linear in (own,) if slope is None else (slope, own):
            pair = least_absolute(U, b, w / 2, linear)
            if pair is not None:
                z, y = pair
                primal = float(w @ np.abs(b - U @ z)) / 2 + float(linear @ z)
                # Up to a constant that primal and dual share; relative to the least that it can be.
                least = min(q, 1 - q) * float(w @ np.abs(b - U @ z)) or 1.0
                gap = max(0.0, primal - float(b @ y)) / least
                scale = 2.0 if quantile is None else 1.0
                return Solved(z, scale * (y + (q - 0.5) * w), gap), linear is not own or (
                    slope is None
                )
        raise ArithmeticError(
            "the linear program of the regression was not solved; scale the columns of A"
        )
    root = np.sqrt(w)
    z = U.T @ b if weights is None else np.linalg.lstsq(U * root[:, None], b * root)[0]
    if p == 2:
        z = z + (
            U.T @ (b - U @ z)
            if weights is None
            else np.linalg.lstsq(U * root[:, None], (b - U @ z) * root)[0]
        )
        return Solved(z, None, 0.0), True
    gap = np.inf
    for q in path(p):
        z, gap = newton(U, b, q, w, z)
    return Solved(z, None, gap), True


@front_door
def lp_regression(
    A: Any,
    b: Any,
    p: Annotated[float, Between(1, 64)],
    weights: Any = None,
    quantile: Annotated[float, Fraction()] | None = None,
    *,
    on_rank: Literal["raise", "drop"] = "raise",
) -> np.ndarray:
    """Minimise ``Σ w_i |b_i − a_iᵀx|^p``, or a pinball cost, over all rows given.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    b : array_like, shape (n,)
        Right-hand side.
    p : float
        Power: 1 is solved as a linear program, others by Newton's method.
    weights : array_like, shape (n,), optional
        Of the rows, not negative.
    quantile : float, optional
        With p = 1, the quantile in place of the median.
    on_rank : {"raise", "drop"}
        What to do about dependent columns: complain, or give them coefficient zero.

    Returns
    -------
    ndarray, shape (d,)
        The minimiser.
    """
    same_order(A=A, b=b)
    clean, names = as_design(A)
    level = as_quantile(quantile, p)
    target = as_vector(b, "b", size=len(clean), dtype=np.float64)
    w = None
    if weights is not None:
        w = as_vector(weights, "weights", size=len(clean), dtype=np.float64)
        if w.min() < 0 or not w.any():
            raise ValueError("weights must not be negative, nor all zero")
        keep = w > 0
        clean, target, w = clean[keep], target[keep], w[keep]
    basis = whiten(clean, names, on_rank)
    return basis.coefficients(solve(basis, target, p, w, level)[0].z)
