"""Environments of known law, and residuals in them by code of their own."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["chain", "excess", "flat", "gradient", "pair", "sem"]

Array = np.ndarray
Rng = np.random.Generator


def noise(rng: Rng, shape: Any, df: float) -> Array:
    """Student's t with so many degrees of freedom; normal for infinitely many."""
    return rng.standard_normal(shape) if np.isinf(df) else rng.standard_t(df, shape)


def pair(rng: Rng, a: Array, n: int, df: float = np.inf) -> tuple[Array, Array]:
    """A cause of varying scale, and an effect of strength `a`: X (K, n, 2) and y (K, n)."""
    K = len(a)
    cause = np.exp(0.5 * rng.standard_normal((K, 1))) * noise(rng, (K, n), df)
    y = cause + noise(rng, (K, n), df)
    effect = a[:, None] * y + noise(rng, (K, n), df)
    return np.stack([cause, effect], axis=2), y


def sem(rng: Rng, K: int, n: int) -> tuple[Array, Array]:
    """X1 → Y → X2 and X3 → Y: scale of X1 and strength of Y → X2 vary."""
    X1 = np.exp(0.5 * rng.standard_normal((K, 1))) * rng.standard_normal((K, n))
    X3 = rng.standard_normal((K, n))
    y = X1 - 0.5 * X3 + rng.standard_normal((K, n))
    X2 = (1 + rng.standard_normal((K, 1))) * y + rng.standard_normal((K, n))
    return np.stack([X1, X2, X3], axis=2), y


def chain(theta: Array) -> tuple[Array, Array]:
    """Exact covariances of X1 → X2 → X3, X2 → Y ← X3 where X1 → X2 has strength θ: (m, 3, 3), (m, 3)."""
    B = np.zeros((len(theta), 4, 4))
    B[:, 1, 0], B[:, 2, 1], B[:, 3, 1], B[:, 3, 2] = theta, 1, 1, 0.5
    reach = np.linalg.inv(np.eye(4) - B)
    Sigma = reach @ reach.swapaxes(1, 2)
    return Sigma[:, :3, :3], Sigma[:, :3, 3]


def flat(X: Array, y: Array, first: int = 0) -> tuple[Array, Array, Array]:
    """Rows of environments of one size under each other, with labels from `first`."""
    K, n, p = X.shape
    return X.reshape(K * n, p), y.ravel(), np.repeat(np.arange(first, first + K), n)


def _projected(X: Array, y: Array) -> tuple[Array, Array, Array]:
    """Centred columns and targets, and targets projected on the columns."""
    X = X - X.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    gram = np.matmul(X.swapaxes(1, 2), X)
    beta = np.linalg.solve(gram, np.matmul(X.swapaxes(1, 2), y[..., None]))
    return X, y, np.matmul(X, beta)[..., 0]


def excess(X: Array, y: Array, coef: Array, per: str = "variance") -> Array:
    """What `coef` loses in each environment against its own least squares, as a root share of the variance, or of the residual."""
    X, y, best = _projected(X, y)
    lost = ((X @ coef - best) ** 2).sum(axis=1)
    whole = (y**2).sum(axis=1) if per == "variance" else ((y - best) ** 2).sum(axis=1)
    return np.sqrt(lost / whole)


def gradient(X: Array, y: Array, coef: Array) -> Array:
    """Length of the correlations of columns with what `coef` leaves, in deviations of column and target."""
    X = X - X.mean(axis=1, keepdims=True)
    y = y - y.mean(axis=1, keepdims=True)
    left = y - X @ coef
    products = (X * left[..., None]).mean(axis=1)
    return np.linalg.norm(products / X.std(axis=1) / y.std(axis=1, keepdims=True), axis=1)
