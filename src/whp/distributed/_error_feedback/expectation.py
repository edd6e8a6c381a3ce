"""What independent runs say about the expectation of a number that may be rarely very large."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from whp.intervals import Estimate

__all__ = ["lower_end"]

BETS = np.array([0.1, 0.3, 0.6, 0.9, 0.99])


def lower_end(values: Any, delta: float) -> Estimate:
    """Mean of independent values that are at least 0, with the lower end that bets give.

    Were the mean at most m, Π(1 + λ(X/m − 1)) would have mean at most 1, averaged over λ too; where
    it exceeds 1/δ, m is refuted, with probability δ by mistake. Nothing bounds such a mean from
    above: a value seen in one run of a million may carry it.

    Parameters
    ----------
    values : array_like, shape (n,)
        At least 0.
    delta : float
        Failure probability.
    """
    array = np.asarray(values, float).ravel()
    mean = float(array.mean())

    def refuted(m: float) -> bool:
        with np.errstate(over="ignore"):
            logs = np.log1p(BETS[:, None] * (array / m - 1)).sum(axis=1)
        return float(np.logaddexp.reduce(logs)) - math.log(len(BETS)) >= math.log(1 / delta)

    low, high = 0.0, mean
    for _ in range(60 if mean > 0 else 0):
        middle = (low + high) / 2
        low, high = (middle, high) if middle > 0 and refuted(middle) else (low, middle)
    return Estimate(mean, min(low, mean), math.inf, 1 - delta, array.size, "betting")
