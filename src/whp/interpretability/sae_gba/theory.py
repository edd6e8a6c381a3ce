"""Formulas of the paper and of our bounds, and the theorem's own algorithm."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.special import betainc
from scipy.stats import norm

from whp.progress import track
from whp.validate import as_fraction, as_int, as_matrix

__all__ = [
    "bias_adaptation",
    "cap_chance",
    "code_bound",
    "nearest",
    "recovery_rate",
    "resonance_band",
    "targets",
    "unit_rows",
    "width_bound",
]

BLOCK = 256


def targets(
    n_neurons: int, n_groups: int, high: float, low: float
) -> tuple[np.ndarray, np.ndarray]:
    """Target frequency and group of each neuron: group k of K has high·(low/high)^(k/(K−1)); all `high` if K = 1."""
    group = np.arange(n_neurons) * n_groups // n_neurons
    step = np.arange(n_groups) / max(n_groups - 1, 1)
    return (high * (low / high) ** step)[group], group


def unit_rows(W: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Rows over their lengths."""
    return W / np.maximum(np.linalg.norm(W, axis=1, keepdims=True), 1e-30)


def bias_adaptation(
    X: Any,
    n_neurons: int,
    p: float,
    steps: int = 12,
    *,
    rng: np.random.Generator | int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The algorithm of the paper's Theorem 6.1: every neuron by itself, one target frequency, steps on the sphere.

    w ← normalise(Σ max(w·x − θ, 0) x), θ the (k + 1)-th largest w·x, k = max(1, round(pN)); the limit of large steps and small
    output scale, which makes it a power iteration on the rows that fire.

    Parameters
    ----------
    X : array-like, shape (N, d)
        Activations, not centred.
    n_neurons : int
    p : float
        Target frequency.
    steps : int
        12 to 15 in the paper.
    rng : Generator or int, optional
        Of the directions it starts from; never rows of X, whose mixtures are fixed points.

    Returns
    -------
    W : ndarray, shape (n_neurons, d)
        Unit rows.
    theta : ndarray, shape (n_neurons,)
        Thresholds; each neuron's bias is −theta.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    A = np.ascontiguousarray(as_matrix(X, "X"), dtype=np.float32)
    n_neurons, steps = as_int(n_neurons, "n_neurons", low=1), as_int(steps, "steps", low=1)
    k = min(max(1, round(as_fraction(p, "p") * len(A))), len(A) - 1)
    W = unit_rows(
        np.random.default_rng(rng).standard_normal((n_neurons, A.shape[1]), dtype=np.float32)
    )
    theta = np.empty(n_neurons, dtype=np.float32)
    for start in track(range(0, n_neurons, BLOCK), "neurons", total=-(-n_neurons // BLOCK)):
        w = W[start : start + BLOCK]
        for _ in range(steps):
            w = _power(A, w, k)[0]
        W[start : start + BLOCK] = w
        theta[start : start + BLOCK] = _power(A, w, k)[1]
    return W, theta


def _power(A: np.ndarray, w: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The next directions, and the thresholds of those given."""
    u = w @ A.T
    theta = np.partition(u, len(A) - k - 1, axis=1)[:, len(A) - k - 1]
    u -= theta[:, None]
    np.maximum(u, 0, out=u)
    return unit_rows(u @ A), theta


def width_bound(s: int, p: float, n: int, delta: float = 0.05) -> int:
    """Neurons that suffice for one to fire on every feature whenever it is present, at the start, with probability 1 − delta.

    For equal coefficients 1/√s: ⟨w, v⟩ ~ N(0, 1) fires alone if it reaches √s Φ⁻¹(1 − p), with probability q ≈ p^s; so that
    n(1 − q)^M ≤ δ. It speaks of the start only and proves no convergence (derived here).
    """
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
    """Probability that a random direction in ℝ^d is within a cosine of a given one, and of at least one among `n_neurons`."""
    c = 0.5 * float(betainc((d - 1) / 2, 0.5, 1 - threshold**2))
    return c, -math.expm1(n_neurons * math.log1p(-c))


def code_bound(coherence: float) -> float:
    """Below so many active neurons a code is the only one as sparse: ½(1 + 1/μ) (Donoho and Elad 2003)."""
    return 0.5 * (1 + 1 / max(coherence, 1e-300))


def nearest(A: Float[np.ndarray, "m d"], B: Float[np.ndarray, "n d"]) -> np.ndarray:
    """For each row of A its largest cosine, signed, to a row of B."""
    A, B = unit_rows(A), unit_rows(B)
    return np.concatenate([(A[i : i + 1024] @ B.T).max(axis=1) for i in range(0, len(A), 1024)])


def recovery_rate(
    truth: Any, decoder: Any, threshold: float = 0.9, *, matched: bool = False
) -> float:
    """Share of true features with a neuron at cosine `threshold` or more; `matched` lets each neuron count once."""
    V, W = (
        as_matrix(truth, "truth", dtype=np.float64),
        as_matrix(decoder, "decoder", dtype=np.float64),
    )
    if not matched:
        return float((nearest(V, W) >= threshold).mean())
    cosines = unit_rows(V) @ unit_rows(W).T
    rows, columns = linear_sum_assignment(-(cosines >= threshold).astype(float))
    return float((cosines[rows, columns] >= threshold).sum() / len(V))
