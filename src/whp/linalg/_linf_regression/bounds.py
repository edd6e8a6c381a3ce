"""The numbers behind the theorems: how many rows, how wide a bar, how large an error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import t as student

__all__ = [
    "embedding_distortion",
    "eps_explicit",
    "plain_bound",
    "refined_quantile",
    "rows_needed",
    "student_quantile",
    "times",
]


def embedding_distortion(m: float, d: int, delta: float) -> float:
    """ε₀ such that an end of the singular values of SU leaves 1 ± ε₀ with probability `delta`.

    For a Gaussian S of `m` rows (Davidson & Szarek); each of the two ends by itself.
    """
    return math.sqrt(d / m) + math.sqrt(2 * math.log(1 / delta) / m)


def eps_explicit(m: float, d: int, delta: float, targets: int = 1) -> float:
    """The ε for which ``‖x̃ − x*‖∞ ≤ (ε/√d) ‖r‖ ‖A†‖`` holds with probability 1 − delta.

    For a Gaussian sketch of `m` rows. Derived here: given SA the error is normal with covariance
    ‖r‖²/m ((SA)ᵀSA)⁻¹, which takes care of the numerator, a union over the coordinates; the bound
    on the smallest singular value of SU takes care of the denominator.

    Parameters
    ----------
    m, d : int
        Rows of the sketch and columns of A.
    delta : float
        Failure probability, one half for each of the two events.
    targets : int
        Number of right-hand sides for which it must hold at once.

    Returns
    -------
    float
        Infinite where `m` is too small to say anything.
    """
    room = 1 - embedding_distortion(m, d, delta / 2)
    if room <= 0:
        return math.inf
    return math.sqrt(d) * math.sqrt(2 * math.log(4 * d * targets / delta) / m) / room


def rows_needed(d: int, epsilon: float = 0.5, delta: float = 0.05, targets: int = 1) -> int:
    """The smallest number of rows m, at least d + 10, with ``eps_explicit(m, d, delta) <= epsilon``."""
    a = math.sqrt(2 * d * math.log(4 * d * targets / delta))
    b = math.sqrt(d) + math.sqrt(2 * math.log(2 / delta))
    m = max(d + 10, math.ceil((a / epsilon + b) ** 2))
    while m > d + 10 and eps_explicit(m - 1, d, delta, targets) <= epsilon:
        m -= 1
    while eps_explicit(m, d, delta, targets) > epsilon:
        m += 1
    return m


def plain_bound(m: float, d: int, delta: float) -> float:
    """What an embedding of the range alone says about ``‖x̃ − x*‖₂ / (‖r‖ ‖A†‖)``."""
    distortion = embedding_distortion(m, d, delta / 2)
    return distortion / (1 - distortion) if distortion < 1 else math.inf


def student_quantile(delta: float, bars: int, degrees: Any) -> np.ndarray:
    """Half-width of `bars` simultaneous error bars in standard errors; infinite below one degree."""
    degrees = np.asarray(degrees, dtype=float)
    usable = degrees >= 1
    return np.where(
        usable, student.isf(delta / (2 * bars), np.where(usable, degrees, 1.0)), math.inf
    )


def times(quantile: Any, spreads: np.ndarray) -> np.ndarray:
    """Half-widths; infinite where the quantile is, also where the sketch left no residual."""
    return np.where(np.isinf(quantile), math.inf, np.nan_to_num(quantile, posinf=0) * spreads)


def refined_quantile(delta: float, m: float, d: int) -> float:
    """(1 + ε₀)²: by how much the metric of the sketch may understate a distance, squared."""
    return (1 + embedding_distortion(m, d, delta)) ** 2
