"""Losses as sums over samples, in the outputs of a model: value, gradient, smoothness, least value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit, log_softmax, softmax, xlogy

__all__ = ["LOSSES", "Loss"]


@dataclass(frozen=True)
class Loss:
    """A loss ℓ(z; y), summed over rows.

    Parameters
    ----------
    name : str
    value, gradient : callable
        Of outputs z, shape (n,) or (n, C), and targets y.
    smoothness : float or None
        L in the outputs; None where there is none, so that steps are found by search.
    least : callable
        Of targets: a number that the loss is never below.
    """

    name: str
    value: Callable[[Any, Any], float]
    gradient: Callable[[Any, Any], Any]
    smoothness: float | None
    least: Callable[[Any], float] = lambda y: 0.0


def _cross_entropy_slopes(z: np.ndarray, y: np.ndarray) -> np.ndarray:
    G = softmax(z, axis=1)
    G[np.arange(len(y)), y] -= 1
    return G


def _huber(z: Any, y: Any) -> float:
    off = np.abs(z - y)
    near = np.minimum(off, 1.0)
    return float((near * (off - near / 2)).sum())


def _poisson(z: Any, y: Any) -> float:
    with np.errstate(over="ignore"):
        return float((np.exp(z) - y * z).sum())


LOSSES: dict[str, Loss] = {
    "squared": Loss(
        "squared", lambda z, y: 0.5 * float(np.square(z - y).sum()), lambda z, y: z - y, 1.0
    ),
    # y is 0 or 1
    "logistic": Loss(
        "logistic",
        lambda z, y: float((np.logaddexp(0, z) - y * z).sum()),
        lambda z, y: expit(z) - y,
        0.25,
    ),
    "softmax": Loss(
        "softmax",
        lambda z, y: -float(log_softmax(z, axis=1)[np.arange(len(y)), y].sum()),
        _cross_entropy_slopes,
        0.5,
    ),
    "huber": Loss("huber", _huber, lambda z, y: np.clip(z - y, -1, 1), 1.0),
    "poisson": Loss(
        "poisson",
        _poisson,
        lambda z, y: np.exp(np.minimum(z, 700)) - y,
        None,
        lambda y: float((y - xlogy(y, y)).sum()),
    ),
}
