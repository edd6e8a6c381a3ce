"""The statistical model of superposition: more features than dimensions, a few of them in each row."""

from __future__ import annotations

import numpy as np

__all__ = ["simulated"]


def simulated(
    n: int,
    d: int,
    sizes: tuple[int, ...],
    N: int,
    rng: np.random.Generator,
    *,
    same_length: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """X = H V, with V and H.

    Parameters
    ----------
    n, d : int
        Features and dimensions.
    sizes : tuple of int
        How many features a row holds, each for an equal part of the rows; coefficients are 1/√s.
    N : int
        Rows.
    rng : Generator
        Source of randomness.
    same_length : bool
        Features of length 1; otherwise Gaussian.

    Returns
    -------
    X : ndarray, shape (N, d)
    V : ndarray, shape (n, d)
    H : ndarray, shape (N, n)
    """
    V = rng.normal(size=(n, d))
    if same_length:
        V = V / np.linalg.norm(V, axis=1, keepdims=True)
    H = np.zeros((N, n))
    order = np.argsort(rng.random((N, n)), axis=1)
    for part, s in zip(np.array_split(np.arange(N), len(sizes)), sizes, strict=True):
        np.put_along_axis(H[part[0] : part[-1] + 1], order[part, :s], 1 / np.sqrt(s), 1)
    return H @ V, V, H
