"""When communities can be recovered at all: Chernoff-Hellinger divergences, their thresholds, and what finite n allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from whp.validate import as_matrix, as_vector

__all__ = [
    "btsbm_threshold",
    "btsbm_top_down_threshold",
    "chernoff_hellinger",
    "divergences",
    "overlaps",
]

GOLDEN = (np.sqrt(5) - 1) / 2


def _maximise(
    f: Callable[[np.ndarray], np.ndarray], size: int, steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Maxima over t in [0, 1] of `size` concave functions at once, by golden section."""
    low, high = np.zeros(size), np.ones(size)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = f(left), f(right)
    for _ in range(steps):
        up = at_left < at_right
        low, high = np.where(up, left, low), np.where(up, high, right)
        new_left, new_right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        fresh = f(np.where(up, new_right, new_left))
        at_left, at_right = np.where(up, at_right, fresh), np.where(up, fresh, at_left)
        left, right = new_left, new_right
    middle = (low + high) / 2
    return f(middle), middle


def divergences(
    x: Float[np.ndarray, "K K"], weight: Float[np.ndarray, " K"], pairs: Int[np.ndarray, "P 2"]
) -> tuple[np.ndarray, np.ndarray]:
    """Chernoff-Hellinger divergence of each pair of communities and the t that attains it.

    ``I(a, b) = max_t Σ_c π_c [t x_ac + (1 − t) x_bc − x_ac^t x_bc^(1−t)]`` with x = p n / log n
    (Abbe & Sandon 2015).
    """
    a, b = x[pairs[:, 0]], x[pairs[:, 1]]

    def value(t: np.ndarray) -> np.ndarray:
        u = t[:, None]
        return (u * a + (1 - u) * b - a**u * b ** (1 - u)) @ weight

    return _maximise(value, len(a), 50)


def overlaps(
    low: Float[np.ndarray, "K K"],
    high: Float[np.ndarray, "K K"],
    entry: Int[np.ndarray, "K K"],
    pairs: Int[np.ndarray, "P 2"],
) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest ``-log(sqrt(p_ac p_bc) + sqrt((1 - p_ac)(1 - p_bc)))`` of pairs a, b, each (P, K).

    Summed over the other nodes, c being the leaf of each, they bound from above and below the
    logarithm of the probability (Bhattacharyya) that a node of a, all other labels known, is taken
    for one of b.

    Parameters
    ----------
    low, high : (K, K) ndarray
        Ends of the densities' intervals; the same twice where densities are known.
    entry : (K, K) ndarray of int
        Which density each is: equal numbers are one and the same, however wide its interval.
    pairs : (P, 2) ndarray
        Leaves a and b.
    """
    a, b = pairs[:, 0], pairs[:, 1]

    def apart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            logs = np.log(np.sqrt(x * y) + np.sqrt((1 - x) * (1 - y)))
        return np.clip(-logs, 0.0, 1e12)

    far = np.maximum(apart(low[a], high[b]), apart(high[a], low[b]))
    near = np.where(
        low[a] > high[b],
        apart(low[a], high[b]),
        np.where(low[b] > high[a], apart(high[a], low[b]), 0.0),
    )
    return near, np.where(entry[a] == entry[b], 0.0, far)


def chernoff_hellinger(x: Any, weight: Any, a: int = 0, b: int = 1) -> tuple[float, float]:
    """Chernoff-Hellinger divergence of communities `a` and `b`: they can be told apart exactly iff it exceeds 1.

    Parameters
    ----------
    x : (K, K) array_like
        Scaled densities ``p n / log n``, symmetric.
    weight : (K,) array_like
        Fractions of the nodes.
    a, b : int
        Which two.

    Returns
    -------
    value, t : float
        The divergence and the t in [0, 1] that attains it.

    Raises
    ------
    ValueError
        If `x` is not square and non-negative or `weight` does not fit.

    Examples
    --------
    >>> value, t = chernoff_hellinger([[9, 2], [2, 5]], [0.3, 0.7])
    >>> round(value, 6), round(t, 4)
    (0.614977, 0.5239)
    """
    matrix = as_matrix(x, "x", dtype=np.float64)
    pi = as_vector(weight, "weight", size=len(matrix), dtype=np.float64)
    if matrix.shape[0] != matrix.shape[1] or (matrix < 0).any():
        raise ValueError(f"x must be square with entries >= 0, got shape {matrix.shape}")
    value, t = divergences(matrix, pi, np.array([[a, b]]))
    return float(value[0]), float(t[0])


def btsbm_threshold(x: Any, depth: int) -> float:
    """I_q of the binary tree model at depth q: exact recovery of the communities at that depth iff it exceeds 1.

    ``I_q = (1/K)[(√x_d − √x_k)² + Σ_{j=k+1}^{d−1} 2^{d−j−1} (√x_j − √x_k)²]``, k = q − 1, K = 2^d (Theorem 3, at t = ½).

    Parameters
    ----------
    x : (d + 1,) array_like
        Scaled density p_k n / log n of pairs whose lowest common ancestor is at depth k, from the root to the leaves.
    depth : int
        q in 1..d.
    """
    roots = np.sqrt(as_vector(x, "x", dtype=np.float64))
    d, k = len(roots) - 1, depth - 1
    if not 0 <= k < d:
        raise ValueError(f"depth must be in 1..{d}, got {depth}")
    inner = sum(2.0 ** (d - j - 1) * (roots[j] - roots[k]) ** 2 for j in range(k + 1, d))
    return float(((roots[d] - roots[k]) ** 2 + inner) / 2**d)


def btsbm_top_down_threshold(x: Any) -> float:
    """What recursive bisection needs at depth 1, ``½(√x̄ − √x_0)²``: it sees two blocks of mean density x̄ (Theorem 3)."""
    levels = as_vector(x, "x", dtype=np.float64)
    d = len(levels) - 1
    share = np.array([2.0**-j for j in range(1, d)] + [2.0 ** (1 - d)])
    return float((np.sqrt(levels[1:] @ share) - np.sqrt(levels[0])) ** 2 / 2)
