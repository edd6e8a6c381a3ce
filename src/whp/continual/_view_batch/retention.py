"""The forgetting curve: how much is still known after t steps, by the interval at which it was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares
from scipy.stats import t as student

from whp.certificate import Certificate, Status
from whp.continual._view_batch import theorems as th
from whp.intervals import Estimate
from whp.validate import as_real, as_vector

__all__ = ["ForgettingCurve", "fit_forgetting_curve"]

LEVEL = 0.95
MADE_AT = 0.98  # of first order, at few points of high leverage: 95 % would cover 92 % of the time
SINGULAR = 1e-6  # of columns of length 1: below it a parameter is not determined but by rounding
CURVATURE = 5e-4  # where c = 0 the fit may choose d, and c is above 0 far more often than by chance


@dataclass(frozen=True)
class ForgettingCurve:
    """R = A (b t + 1)^(−S), S = 1 + c (ln(I + 1) − d)².

    Attributes
    ----------
    A, b, c, d : float
        Parameters.
    best_interval : Estimate or None
        I* = e^d − 1, where retention is longest; None where the data show none: where it is not
        clear that c > 0, or that of I* leaves the range that was tried.
    reason : str
        Why there is none.
    certificates : tuple of Certificate
        ``best-interval``: how far the best interval may be from the fitted one.
    """

    A: float
    b: float
    c: float
    d: float
    best_interval: Estimate | None
    reason: str = ""
    certificates: tuple[Certificate, ...] = ()

    def __call__(self, interval: Any, elapsed: Any) -> Any:
        """Retention after `elapsed` steps of what was learnt at `interval`."""
        return _curve(
            np.array([self.A, np.log(self.b), self.c, self.d]),
            np.asarray(interval),
            np.asarray(elapsed),
        )


def _curve(theta: np.ndarray, interval: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
    A, log_b, c, d = theta
    S = 1 + c * (np.log1p(interval) - d) ** 2
    return A * np.exp(-S * np.log1p(np.exp(log_b) * elapsed))


def _slopes(theta: np.ndarray, interval: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
    """Derivatives of the curve by A, ln b, c, d: (m, 4)."""
    A, log_b, c, d = theta
    off = np.log1p(interval) - d
    S, bt = 1 + c * off**2, np.exp(log_b) * elapsed
    R = A * np.exp(-S * np.log1p(bt))
    by_S = -R * np.log1p(bt)
    return np.stack([R / A, -R * S * bt / (1 + bt), by_S * off**2, -2 * c * off * by_S], axis=1)


ENDS = ([1e-6, -25, -50, -5], [1.0, 10, 50, 40])


def _solve(
    start: Any,
    interval: np.ndarray,
    elapsed: np.ndarray,
    retention: np.ndarray,
    weight: np.ndarray,
    tolerance: float,
    most: int,
) -> Any:
    return least_squares(
        lambda theta: weight * (_curve(theta, interval, elapsed) - retention),
        np.clip(start, np.array(ENDS[0]) + 1e-9, np.array(ENDS[1]) - 1e-9),
        jac=lambda theta: weight[:, None] * _slopes(theta, interval, elapsed),  # type: ignore[arg-type]
        bounds=ENDS,
        xtol=tolerance,
        ftol=tolerance,
        gtol=tolerance,
        max_nfev=most,
    )


def _fit(
    interval: np.ndarray,
    elapsed: np.ndarray,
    retention: np.ndarray,
    weight: np.ndarray,
    starts: Any,
) -> np.ndarray:
    top = float(np.clip(retention.max(), 0.01, 0.999))
    data = (interval, elapsed, retention, weight)
    begins = [(-4.0, 0.3, d) for d in starts] + [(-7.0, 0.05, starts[len(starts) // 2])]
    fits = [_solve([top, b, c, d], *data, 1e-7, 60) for b, c, d in begins]
    return _solve(min(fits, key=lambda f: f.cost).x, *data, 1e-15, 100).x


def fit_forgetting_curve(
    interval: Any,
    elapsed: Any,
    retention: Any,
    *,
    n: Any = None,
    groups: Any = None,
    within: float | None = None,
) -> ForgettingCurve:
    """Fit the paper's model of retention by weighted least squares.

    Parameters
    ----------
    interval, elapsed, retention : array-like, shape (m,)
        Recall interval in steps, steps since, and the share that is still right.
    n : array-like, optional
        Rows behind each share; weights are their roots.
    groups : array-like, optional
        Points that belong together, e.g. by their seed; by default each point is independent.
    within : float, optional
        A factor above 1 by which the best interval may differ from the fitted one, each plus one: a
        demand that ``best-interval`` decides. Without it the certificate says which factor is sure.

    Returns
    -------
    ForgettingCurve

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    I = as_vector(interval, "interval", dtype=np.float64)  # noqa: E741
    t = as_vector(elapsed, "elapsed", size=len(I), dtype=np.float64)
    R = as_vector(retention, "retention", size=len(I), dtype=np.float64)
    if (I < 0).any() or (t < 0).any():
        raise ValueError("interval and elapsed must be at least 0")
    if (R < 0).any() or (R > 1).any():
        raise ValueError(f"retention must lie in [0, 1], got {R.min():g} to {R.max():g}")
    distinct = np.unique(I)
    if len(distinct) < 3 or len(np.unique(t)) < 2:
        raise ValueError(
            f"interval must have three different values, and elapsed two, got {len(distinct)} and {len(np.unique(t))}"
        )
    rows = np.ones(len(I)) if n is None else as_vector(n, "n", size=len(I))
    if rows.min() <= 0:
        raise ValueError(f"n must be above 0, got {rows.min():g}")
    within = None if within is None else as_real(within, "within", low=1, open_ends=True)
    weight = np.sqrt(rows / rows.max())
    labels = np.arange(len(I))
    if groups is not None:
        labels = np.unique(np.asarray(groups), return_inverse=True)[1]
        if len(labels) != len(I):
            raise ValueError(f"groups must have {len(I)} entries, got {len(labels)}")
    theta = _fit(I, t, R, weight, np.quantile(np.log1p(distinct), [0.1, 0.5, 0.9]))
    spread, freedom, lowest = _spread(theta, (I, t, R, weight), labels)
    pairs = len(np.unique(np.stack([I, t]), axis=1).T)
    enough = freedom >= 1 and pairs >= len(theta) and lowest > SINGULAR
    determined = th.DETERMINED.check(
        enough,
        f"{len(I)} points in {int(labels.max()) + 1} groups, of {pairs} different pairs of interval "
        f"and elapsed; least singular value {lowest:.2g} of the largest",
    )
    freedom = max(freedom, 1)
    best, reach = float(np.expm1(theta[3])), student.isf((1 - MADE_AT) / 2, freedom) * spread[3]
    ends = (float(np.expm1(theta[3] - reach)), float(np.expm1(min(theta[3] + reach, 700.0))))
    sure = student.isf(CURVATURE, freedom) * spread[2]
    certificate = th.best_interval(
        best,
        ends,
        (float(theta[2] - sure), float(theta[2] + sure)),
        (float(distinct[0]), float(distinct[-1])),
        LEVEL,
        determined,
        {"c": float(theta[2]), "points": len(I), "groups": int(labels.max()) + 1},
        within,
    )
    broken = [a for a in certificate.conditions if a.status is Status.VIOLATED]
    reason = "; ".join(f"not so: {a.statement} ({a.evidence})" for a in broken)
    made = None
    if not broken:
        made = Estimate.between(*ends, value=best, level=LEVEL, n=len(I), method="sandwich")
    A, b, c, d = float(theta[0]), float(np.exp(theta[1])), float(theta[2]), float(theta[3])
    return ForgettingCurve(A, b, c, d, made, reason, (certificate,))


def _spread(
    theta: np.ndarray, data: tuple[np.ndarray, ...], labels: np.ndarray
) -> tuple[np.ndarray, int, float]:
    """Standard errors of the parameters, degrees of freedom, and how well they are determined.

    The sandwich of MacKinnon and White (HC3), which no unequal variances mislead; over groups that
    are left out in turn where points belong together.
    """
    I, t, R, weight = data  # noqa: E741
    J = weight[:, None] * _slopes(theta, I, t)
    off = weight * (R - _curve(theta, I, t))
    length = np.sqrt((J**2).sum(axis=0))
    length[length == 0] = 1.0
    _, values, V = np.linalg.svd(J / length, full_matrices=False)
    lowest = float(values[-1] / values[0]) if len(values) == len(theta) and values[0] > 0 else 0.0
    # an unweighted inverse of J'J would drop parameters that are small in their own units
    kept = values > SINGULAR * values[0]
    root = (V[kept] / values[kept, None]) / length
    inverse = root.T @ root
    members = [np.flatnonzero(labels == g) for g in range(int(labels.max()) + 1)]
    scores = np.empty((len(members), len(theta)))
    for k, rows in enumerate(members):
        H = J[rows] @ inverse @ J[rows].T
        left_out = np.linalg.pinv(np.eye(len(rows)) - H) @ off[rows]
        scores[k] = J[rows].T @ left_out
    covariance = inverse @ scores.T @ scores @ inverse
    freedom = len(members) - (len(theta) if len(members) == len(I) else 1)
    return half_widths(covariance), freedom, lowest


def half_widths(covariance: np.ndarray) -> np.ndarray:
    """Standard errors."""
    return np.sqrt(np.diag(covariance))
