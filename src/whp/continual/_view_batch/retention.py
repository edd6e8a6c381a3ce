"""The forgetting curve: how much is still known after t steps, by the interval at which it was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from scipy.optimize import least_squares

from whp.certificate import Certificate, Status
from whp.continual._view_batch import theorems as th
from whp.door import AtLeast
from whp.intervals import Estimate
from whp.validate import as_int, as_vector

__all__ = ["ForgettingCurve", "fit_forgetting_curve"]


@dataclass(frozen=True)
class ForgettingCurve:
    """R = A (b t + 1)^(−S), S = 1 + c (ln(I + 1) − d)².

    Attributes
    ----------
    A, b, c, d : float
        Parameters.
    best_interval : Estimate or None
        I* = e^d − 1, where retention is longest; None where the data show none: where the interval
        of c contains 0, or that of I* leaves the range that was tried.
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
    fits = [
        _solve([top, b, c, d], *data, 1e-8, 100)
        for d in starts
        for b, c in ((-4.0, 0.3), (-7.0, 0.05))
    ]
    return _solve(min(fits, key=lambda f: f.cost).x, *data, 1e-15, 400).x


def fit_forgetting_curve(
    interval: Any,
    elapsed: Any,
    retention: Any,
    *,
    n: Any = None,
    groups: Any = None,
    resamples: Annotated[int, AtLeast(20)] = 500,
    rng: np.random.Generator | int | None = 0,
) -> ForgettingCurve:
    """Fit the paper's model of retention by weighted least squares.

    Parameters
    ----------
    interval, elapsed, retention : array-like, shape (m,)
        Recall interval in steps, steps since, and the share that is still right.
    n : array-like, optional
        Rows behind each share; weights are their roots.
    groups : array-like, optional
        What is resampled together for the interval of I*, e.g. seeds; by default each point by itself.
    resamples : int
        Bootstrap samples; at least 20, or there is no interval.
    rng : Generator or int, optional
        Of the bootstrap.

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
    weight = (
        np.ones(len(I)) if n is None else np.sqrt(as_vector(n, "n", size=len(I), dtype=np.float64))
    )
    resamples = as_int(resamples, "resamples", low=20)
    if groups is None:
        labels = np.arange(len(I))
    else:
        labels = np.unique(np.asarray(groups), return_inverse=True)[1]
        if len(labels) != len(I):
            raise ValueError(f"groups must have {len(I)} entries, got {len(labels)}")
    theta = _fit(I, t, R, weight, np.log1p(distinct))
    drawn = _drawn_again(theta, (I, t, R, weight), labels, resamples, np.random.default_rng(rng))
    tails = (0.025, 0.975)
    best = float(np.expm1(theta[3]))
    curvature, place = (np.quantile(drawn[:, k], tails) for k in (2, 3))
    # where c < 0 the fitted d is the interval at which retention is shortest
    ends = np.expm1(place)
    low, high = min(float(ends[0]), best), max(float(ends[1]), best)
    certificate = th.best_interval(
        best,
        (low, high),
        (min(float(curvature[0]), float(theta[2])), float(curvature[1])),
        (float(distinct[0]), float(distinct[-1])),
        0.95,
        {"c": float(theta[2]), "points": len(I), "resamples": resamples},
    )
    broken = [a for a in certificate.conditions if a.status is Status.VIOLATED]
    reason = "; ".join(f"not so: {a.statement} ({a.evidence})" for a in broken)
    made = Estimate(best, low, high, 0.95, len(I), "case bootstrap") if not broken else None
    A, b, c, d = float(theta[0]), float(np.exp(theta[1])), float(theta[2]), float(theta[3])
    return ForgettingCurve(A, b, c, d, made, reason, (certificate,))


def _drawn_again(
    theta: np.ndarray,
    data: tuple[np.ndarray, ...],
    labels: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Parameters of fits to groups drawn again: (resamples, 4).

    A draw with fewer than three intervals determines no curve; it counts as one that has no best
    interval, since leaving it out would make the data look surer than they are.
    """
    members = [np.flatnonzero(labels == g) for g in range(labels.max() + 1)]
    drawn = np.empty((resamples, 4))
    for k in range(resamples):
        rows = np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))])
        part = tuple(a[rows] for a in data)
        if len(np.unique(part[0])) < 3:
            drawn[k] = (theta[0], theta[1], -np.inf, theta[3])
            continue
        drawn[k] = _solve(theta, *part, 1e-6, 30).x  # type: ignore[arg-type]
    return drawn
