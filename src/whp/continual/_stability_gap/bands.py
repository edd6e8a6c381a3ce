"""Intervals for accuracies on a subset, valid for all evaluations at once.

The subset is fixed before training, so given the model of any one moment its number of correct rows
is hypergeometric in the whole evaluation set, or binomial if that is itself a sample; a union bound
over the moments does the rest (derived here).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import betainccinv, betaincinv
from scipy.stats import hypergeom

__all__ = ["Target", "band", "count_interval", "paired_limits"]

SINGLE = 1e-7  # single precision
Target = str  # "population" or "set"


def count_interval(
    counts: Any, n: int, level: float, n_total: int | None = None, target: Target = "population"
) -> tuple[np.ndarray, np.ndarray]:
    """Exact limits of the accuracy behind `counts` right rows of `n`, each missed with `level`.

    Clopper and Pearson for ``"population"``. For ``"set"``, of `n_total` rows: both hypergeometric
    tails are inverted, and the limits coincide when n = n_total.
    """
    counts = np.asarray(counts, dtype=np.int64)
    found, inverse = np.unique(counts, return_inverse=True)
    if target == "population":
        low = np.where(found > 0, betaincinv(np.maximum(found, 1), n - found + 1, level), 0.0)
        high = np.where(found < n, betainccinv(found + 1, np.maximum(n - found, 1), level), 1.0)
    else:
        assert n_total is not None
        low = _hypergeometric(found, n, n_total, level) / n_total
        high = 1 - _hypergeometric(n - found, n, n_total, level) / n_total
    return np.asarray(low[inverse].reshape(counts.shape)), np.asarray(
        high[inverse].reshape(counts.shape)
    )


def _hypergeometric(found: np.ndarray, n: int, N: int, level: float) -> np.ndarray:
    """Least number of right rows in all N for which so many of n are not too rare.

    That is, P(X ≥ found) > level.
    """
    low, high = (
        found.copy(),
        N - n + found,
    )  # as many at least, and at most all that was not seen besides
    while (low < high).any():
        middle = (low + high) // 2
        enough = hypergeom.sf(found - 1, N, middle, n) > level
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
    return low.astype(float)


def band(
    accuracy: np.ndarray,
    n: int,
    delta: float,
    n_total: int | None,
    target: Target,
    half: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Limits for accuracies of one task, two-sided at `delta` for each.

    `half` is what rounding to decimal places may have moved accuracies by: the limits are those of
    all counts that the digits leave open.
    """
    counts = np.rint(accuracy * n)
    low, high = count_interval(counts, n, delta / 2, n_total, target)
    off = n * (half + SINGLE)
    if off >= 0.5:
        fewest = np.clip(np.minimum(counts, np.ceil(accuracy * n - off)), 0, n)
        most = np.clip(np.maximum(counts, np.floor(accuracy * n + off)), 0, n)
        low, _ = count_interval(fewest, n, delta / 2, n_total, target)
        _, high = count_interval(most, n, delta / 2, n_total, target)
    return low, high


def paired_limits(
    lost: Any,
    gained: Any,
    n: int,
    level: float,
    n_total: int | None = None,
    target: Target = "population",
) -> tuple[np.ndarray, np.ndarray]:
    """Limits of A(s) − A(s') from rows right at s and wrong at s' (`lost`), and the reverse (`gained`).

    Four one-sided limits, each missed with probability `level` at most: far narrower than the
    difference of two bands, since most rows are right, or wrong, at both.
    """
    lost_low, lost_high = count_interval(lost, n, level, n_total, target)
    gained_low, gained_high = count_interval(gained, n, level, n_total, target)
    return np.asarray(lost_low - gained_high), np.asarray(lost_high - gained_low)
