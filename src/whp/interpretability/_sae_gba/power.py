"""The algorithm that the paper's theorem is about."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.interpretability._sae_gba.formulas import unit_rows
from whp.progress import track
from whp.validate import as_fraction, as_int, as_matrix, private_stream

__all__ = ["bias_adaptation"]

BLOCK = 256


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
    given = as_matrix(X, "X")
    # By a power of two, which rounds nothing: products of rows then neither vanish nor overflow.
    power = int(np.frexp(np.abs(given).max())[1])
    A = np.ascontiguousarray(np.ldexp(given, -power), dtype=np.float32)
    n_neurons, steps = as_int(n_neurons, "n_neurons", low=1), as_int(steps, "steps", low=1)
    k = min(max(1, round(as_fraction(p, "p") * len(A))), len(A) - 1)
    W = unit_rows(private_stream(rng).standard_normal((n_neurons, A.shape[1]), dtype=np.float32))
    theta = np.empty(n_neurons, dtype=np.float32)
    for start in track(range(0, n_neurons, BLOCK), "neurons", total=-(-n_neurons // BLOCK)):
        w = W[start : start + BLOCK]
        for _ in range(steps):
            w = _power(A, w, k)[0]
        W[start : start + BLOCK] = w
        # Between the last row that fires and the next: at the next one itself rounding would decide.
        u = np.partition(w @ A.T, (len(A) - k - 1, len(A) - k), axis=1)
        theta[start : start + BLOCK] = u[:, len(A) - k - 1 : len(A) - k + 1].mean(axis=1)
    return W, np.ldexp(theta, power)


def _power(A: np.ndarray, w: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The next directions, and the thresholds of those given."""
    u = w @ A.T
    theta = np.partition(u, len(A) - k - 1, axis=1)[:, len(A) - k - 1]
    u -= theta[:, None]
    np.maximum(u, 0, out=u)
    pulled = u @ A
    # Where the largest are one row that is there more than k times (padding, first tokens), nothing
    # lies above θ: the direction stays, and its neuron does not fire.
    none = np.linalg.norm(pulled, axis=1, keepdims=True) <= 1e-30
    return np.where(none, w, unit_rows(pulled)), theta
