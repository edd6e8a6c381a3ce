"""The forgetting curve: how much is still known after t steps, by the interval at which it was learnt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

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
        I* = e^d − 1, where retention is longest; None where there is none.
    reason : str
        Why there is none.
    """

    A: float
    b: float
    c: float
    d: float
    best_interval: Estimate | None
    reason: str = ""

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


def _fit(
    interval: np.ndarray,
    elapsed: np.ndarray,
    retention: np.ndarray,
    weight: np.ndarray,
    starts: Any,
) -> np.ndarray:
    def off(theta: np.ndarray) -> np.ndarray:
        return weight * (_curve(theta, interval, elapsed) - retention)

    ends = ([1e-6, -25, -50, -5], [1.0, 10, 50, 40])
    top = float(np.clip(retention.max(), 0.01, 0.999))
    fits = [
        least_squares(
            off, [top, b, c, d], bounds=ends, xtol=1e-14, ftol=1e-14, gtol=1e-14, max_nfev=400
        )
        for d in starts
        for b, c in ((-4.0, 0.3), (-7.0, 0.05))
    ]
    return min(fits, key=lambda f: f.cost).x


def fit_forgetting_curve(
    interval: Any,
    elapsed: Any,
    retention: Any,
    *,
    n: Any = None,
    groups: Any = None,
    resamples: int = 500,
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
        Bootstrap samples.
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
    resamples = as_int(resamples, "resamples", low=0)
    theta = _fit(I, t, R, weight, np.log1p(distinct))
    found = (float(theta[0]), float(np.exp(theta[1])), float(theta[2]), float(theta[3]))
    best = float(np.expm1(theta[3]))
    if theta[2] <= 1e-3:
        return ForgettingCurve(
            *found,
            None,
            "retention does not depend on the interval, or is longest at the ends (c ≤ 0)",
        )
    if not distinct[0] < best < distinct[-1]:
        told = f"the best interval, {best:.3g}, lies outside of what was tried, {distinct[0]:g} to {distinct[-1]:g}"
        return ForgettingCurve(*found, None, told)
    rng = np.random.default_rng(rng)
    labels = (
        np.arange(len(I))
        if groups is None
        else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    drawn = []
    for _ in range(resamples):
        picked = rng.integers(0, labels.max() + 1, labels.max() + 1)
        rows = np.concatenate([np.flatnonzero(labels == g) for g in picked])
        if len(np.unique(I[rows])) < 3:
            continue
        again = least_squares(
            lambda th, rows=rows: weight[rows] * (_curve(th, I[rows], t[rows]) - R[rows]),
            theta,
            max_nfev=50,
        ).x
        drawn.append(np.expm1(np.clip(again[3], -5, 40)))
    ends = np.quantile(drawn, [0.025, 0.975]) if drawn else (best, best)
    return ForgettingCurve(
        *found,
        Estimate(best, min(ends[0], best), max(ends[1], best), 0.95, len(I), "case bootstrap"),
    )
