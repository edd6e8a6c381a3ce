"""Estimates with confidence intervals.

Every interval is computed by scipy; this module gives them one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["Estimate", "bootstrap", "exact", "mean", "paired", "proportion", "ratio", "stratified"]


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval.

    Parameters
    ----------
    value : float
        The point estimate.
    low, high : float
        Ends of the interval; `low <= value <= high`.
    level : float
        Confidence level of the interval; 1 for a quantity known exactly.
    n : int, optional
        Number of observations behind it.
    method : str
        How the interval was made, e.g. ``"Clopper-Pearson"``.

    Raises
    ------
    ValueError
        If a number is NaN or the value lies outside of its interval.
    """

    value: float
    low: float
    high: float
    level: float = 0.95
    n: int | None = None
    method: str = "given"

    def __post_init__(self) -> None:
        for field in ("value", "low", "high", "level"):
            object.__setattr__(self, field, float(getattr(self, field)))
        if math.isnan(self.value) or not self.low <= self.value <= self.high:
            raise ValueError(
                f"value must lie in [low, high], got {self.value} in [{self.low}, {self.high}]"
            )
        if not 0 < self.level <= 1:
            raise ValueError(f"level must be in (0, 1], got {self.level}")

    @classmethod
    def between(
        cls,
        low: float,
        high: float,
        *,
        value: float | None = None,
        level: float = 1.0,
        n: int | None = None,
        method: str = "given",
    ) -> Estimate:
        """The estimate with these ends and the given value, by default their middle.

        A value that rounding put outside of its ends is moved to the nearer one.
        """
        centre = (low + high) / 2 if value is None else value
        return cls(min(max(centre, low), high), low, high, level, n, method)

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def exact(value: float, rounding: float = 0.0) -> Estimate:
    """A quantity that was computed, with the radius that rounding may have moved it by.

    Parameters
    ----------
    value : float
        What came out.
    rounding : float
        How far the exact value may be from it; 0 for integers and for what is compared as it is.
    """
    return Estimate(value, value - rounding, value + rounding, level=1.0, method="exact")


def _sample(values: Any, argument: str, least: int = 2) -> Float[np.ndarray, " n"]:
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size < least:
        raise ValueError(f"{argument} must hold at least {least} values, got {array.size}")
    if not np.isfinite(array).all():
        raise ValueError(f"{argument} must be finite, got NaN or infinity")
    return array


def proportion(successes: int, n: int, *, level: float = 0.95) -> Estimate:
    """Rate of `successes` in `n` trials with the Clopper-Pearson interval, which is never too short."""
    from scipy.stats import binomtest

    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"successes must be in 0..n with n >= 1, got {successes} of {n}")
    interval = binomtest(int(successes), int(n)).proportion_ci(
        confidence_level=level, method="exact"
    )
    return Estimate(successes / n, interval.low, interval.high, level, int(n), "Clopper-Pearson")


def mean(values: Any, *, level: float = 0.95) -> Estimate:
    """Mean of independent values with Student's t interval."""
    from scipy.stats import ttest_1samp

    array = _sample(values, "values")
    centre = float(array.mean())
    if np.ptp(array) == 0:  # t is undefined without spread; the interval has no width
        return Estimate(centre, centre, centre, level, array.size, "t")
    low, high = ttest_1samp(array, 0.0).confidence_interval(level)
    return Estimate(centre, min(low, centre), max(high, centre), level, array.size, "t")


def paired(ours: Any, theirs: Any, *, level: float = 0.95) -> Estimate:
    """Mean of the differences `ours - theirs` of paired values (same seed, same split), t interval."""
    a, b = _sample(ours, "ours"), _sample(theirs, "theirs")
    if a.size != b.size:
        raise ValueError(f"ours and theirs must pair up, got {a.size} and {b.size} values")
    result = mean(a - b, level=level)
    return Estimate(result.value, result.low, result.high, level, result.n, "paired t")


def ratio(ours: Any, theirs: Any, *, level: float = 0.95) -> Estimate:
    """Geometric mean of the ratios `ours / theirs` of paired positive values, t interval on the logarithm.

    Made for timings: runs measured in turn share the machine's mood, so their ratio is steadier than either.
    """
    a, b = _sample(ours, "ours"), _sample(theirs, "theirs")
    if a.size != b.size:
        raise ValueError(f"ours and theirs must pair up, got {a.size} and {b.size} values")
    if a.min() <= 0 or b.min() <= 0:
        raise ValueError("ours and theirs must be positive to have a ratio")
    logs = mean(np.log(a / b), level=level)
    return Estimate(
        math.exp(logs.value),
        math.exp(logs.low),
        math.exp(logs.high),
        level,
        logs.n,
        "paired t of logs",
    )


def bootstrap(
    values: Any,
    statistic: Callable[..., Any] = np.mean,
    *,
    level: float = 0.95,
    resamples: int = 9999,
    rng: np.random.Generator | int | None = 0,
) -> Estimate:
    """`statistic` of independent values with the BCa bootstrap interval (percentile where BCa is undefined).

    Rows are resampled when `values` is two-dimensional, so paired columns stay together.
    """
    from scipy.stats import bootstrap as scipy_bootstrap

    array = np.asarray(values, dtype=np.float64)
    _sample(array, "values")
    data = tuple(array.T) if array.ndim == 2 else (array,)
    value = float(statistic(*data))
    if np.ptp(array, axis=0).max() == 0:
        return Estimate(value, value, value, level, len(array), "bootstrap")
    ends = (math.nan, math.nan)
    for method in ("BCa", "percentile"):
        with np.errstate(all="ignore"):
            result = scipy_bootstrap(
                data,
                statistic,
                paired=array.ndim == 2,
                vectorized=False,
                n_resamples=resamples,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(rng),
            )
        ends = result.confidence_interval
        if np.isfinite(ends).all():
            break
    return Estimate(value, min(ends[0], value), max(ends[1], value), level, len(array), "bootstrap")


def stratified(
    scores: Any,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    rng: np.random.Generator | int | None = 0,
) -> Estimate:
    """Interquartile mean of scores (runs, tasks) with the bootstrap interval that resamples runs within each task.

    The aggregate that reinforcement learning reports (Agarwal et al. 2021, who use the percentile bootstrap).
    """
    from scipy.stats import bootstrap as scipy_bootstrap
    from scipy.stats import trim_mean

    array = np.asarray(scores, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"scores must be two-dimensional (runs, tasks), got shape {array.shape}")
    _sample(array, "scores")

    def iqm(*tasks: np.ndarray) -> float:
        return float(trim_mean(np.concatenate(tasks), 0.25))

    value = iqm(*array.T)
    ends = scipy_bootstrap(
        tuple(array.T),
        iqm,
        vectorized=False,
        n_resamples=resamples,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(rng),
    ).confidence_interval
    return Estimate(
        value,
        min(ends.low, value),
        max(ends.high, value),
        level,
        len(array),
        "stratified bootstrap",
    )
