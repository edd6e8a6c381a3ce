"""Formulas of the paper and of our bounds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.special import betainc
from scipy.stats import norm

from whp.validate import as_fraction, as_int, as_matrix, as_real

__all__ = [
    "cap_chance",
    "code_bound",
    "coherence",
    "nearest",
    "recovery_rate",
    "resonance_band",
    "rounding",
    "targets",
    "unit_rows",
    "width_bound",
]


def targets(
    n_neurons: int, n_groups: int, high: float, low: float
) -> tuple[np.ndarray, np.ndarray]:
    """Target frequency and group of each neuron: group k of K has high·(low/high)^(k/(K−1)); all `high` if K = 1.

    Raises
    ------
    TypeError, ValueError
        If there are more groups than neurons, or 0 < low ≤ high < 1 is not so.
    """
    n_neurons = as_int(n_neurons, "n_neurons", low=1)
    n_groups = as_int(n_groups, "n_groups", low=1, high=n_neurons)
    high, low = as_fraction(high, "high"), as_fraction(low, "low")
    if low > high:
        raise ValueError(f"low must not be above high, got {low:g} and {high:g}")
    group = np.arange(n_neurons) * n_groups // n_neurons
    step = np.arange(n_groups) / max(n_groups - 1, 1)
    return (high * (low / high) ** step)[group], group


def unit_rows(W: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Rows over their lengths, whatever their unit; zero stays zero."""
    largest = np.abs(W).max(axis=1, keepdims=True, initial=0)
    # By a power of two, which rounds nothing: else squares under- or overflow.
    W = np.ldexp(W, -np.frexp(largest)[1])
    return W / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-30)


def width_bound(s: int, p: float, n: int, delta: float = 0.05) -> int:
    """Neurons that suffice for one to fire on every feature whenever it is present, at the start, with probability 1 − delta.

    For equal coefficients 1/√s: ⟨w, v⟩ ~ N(0, 1) fires alone if it reaches √s Φ⁻¹(1 − p), with probability q ≈ p^s; so that
    n(1 − q)^M ≤ δ. It speaks of the start only and proves no convergence (derived here).

    Raises
    ------
    TypeError, ValueError
        If s or n is no positive number, or p or delta does not lie between 0 and 1.
    """
    s, n = as_int(s, "s", low=1), as_int(n, "n", low=1)
    p, delta = as_fraction(p, "p"), as_fraction(delta, "delta")
    q = float(norm.sf(math.sqrt(s) * norm.isf(p)))
    return math.ceil(math.log(delta / n) / math.log1p(-q)) if q > 0 else 2**63


def resonance_band(
    n: int, d: int, s: int, epsilon: float = 0.0, varsigma: float = 0.1
) -> tuple[float, float]:
    """Frequencies that Theorem 6.1 allows, its hidden constants taken as 1."""
    return 1 / n, min(
        n ** (-(1 + 1 / s) / 2), n ** (-2 * (1 + epsilon) ** 2 / s), d ** (1 - varsigma) / n
    )


def cap_chance(d: int, threshold: float, n_neurons: int) -> tuple[float, float]:
    """Probability that a random direction in ℝ^d is within a cosine of a given one, and of at least one among `n_neurons`.

    Raises
    ------
    TypeError, ValueError
        If d is no positive number, n_neurons is negative, or the cosine lies outside [−1, 1].
    """
    d, n_neurons = as_int(d, "d", low=1), as_int(n_neurons, "n_neurons", low=0)
    threshold = as_real(threshold, "threshold", low=-1, high=1)
    c = 0.5 * float(betainc((d - 1) / 2, 0.5, 1 - threshold**2))
    if threshold < 0:
        c = 1 - c
    return c, -math.expm1(n_neurons * math.log1p(-c)) if c < 1 else float(n_neurons > 0)


def code_bound(coherence: float) -> float:
    """Below so many active neurons a code is the only one as sparse: ½(1 + 1/μ) (Donoho and Elad 2003).

    Raises
    ------
    TypeError, ValueError
        If the largest |cosine| lies outside [0, 1].
    """
    return 0.5 * (1 + 1 / max(as_real(coherence, "coherence", low=0, high=1), 1e-300))


def nearest(A: Float[np.ndarray, "m d"], B: Float[np.ndarray, "n d"]) -> np.ndarray:
    """For each row of A its largest cosine, signed, to a row of B."""
    A, B = unit_rows(A), unit_rows(B)
    if not len(A) or not len(B):
        return np.full(len(A), -1.0)
    return np.concatenate([(A[i : i + 1024] @ B.T).max(axis=1) for i in range(0, len(A), 1024)])


def rounding(d: int, dtype: np.dtype | type = np.float32) -> float:
    """How far a cosine of two unit rows of length d may be off in floating point."""
    return (d + 8) * float(np.finfo(dtype).eps) / 2


def coherence(decoder: Float[np.ndarray, "m d"]) -> float:
    """Largest absolute cosine between two different rows, rounding included; 0 for a single row."""
    W = unit_rows(decoder)
    if len(W) < 2:
        return 0.0
    worst = 0.0
    for start in range(0, len(W), 1024):
        cosines = np.abs(W[start : start + 1024] @ W.T)
        cosines[np.arange(len(cosines)), start + np.arange(len(cosines))] = 0
        worst = max(worst, float(cosines.max()))
    return min(worst + rounding(W.shape[1], W.dtype), 1.0)


def recovery_rate(
    truth: Any, decoder: Any, threshold: float = 0.9, *, matched: bool = False
) -> float:
    """Share of true features with a neuron at cosine `threshold` or more; `matched` lets each neuron count once.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    threshold = as_real(threshold, "threshold", low=-1, high=1)
    V, W = (
        as_matrix(truth, "truth", dtype=np.float64),
        as_matrix(decoder, "decoder", dtype=np.float64),
    )
    if V.shape[1] != W.shape[1]:
        raise ValueError(f"decoder must have {V.shape[1]} columns as truth has, got {W.shape[1]}")
    if not matched:
        return float((nearest(V, W) >= threshold).mean())
    cosines = unit_rows(V) @ unit_rows(W).T
    rows, columns = linear_sum_assignment(-(cosines >= threshold).astype(float))
    return float((cosines[rows, columns] >= threshold).sum() / len(V))
