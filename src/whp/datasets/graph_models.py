"""Random graphs with a known tree of communities."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

__all__ = ["block_model", "btsbm_densities", "path_of_powers"]


def block_model(
    p: Float[np.ndarray, "K K"], sizes: Int[np.ndarray, " K"], rng: np.random.Generator
) -> tuple[sp.csr_array, np.ndarray]:
    """Stochastic block model: pairs of communities a, b are joined with probability p[a, b]. No dense n×n array is made.

    Returns
    -------
    A : sparse array
        Symmetric adjacency without diagonal.
    labels : ndarray
        Community of each node, in order.
    """
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows, columns = [], []
    for a in range(len(sizes)):
        for b in range(a, len(sizes)):
            na, nb = int(sizes[a]), int(sizes[b])
            pairs = na * (na - 1) // 2 if a == b else na * nb
            chosen = _sample(pairs, rng.binomial(pairs, p[a, b]), rng)
            if a == b:  # pair number k is (i, j) with j < i and k = i(i − 1)/2 + j
                i = ((1 + np.sqrt(1 + 8 * chosen.astype(np.float64))) / 2).astype(np.int64)
                i -= i * (i - 1) // 2 > chosen
                j = chosen - i * (i - 1) // 2
            else:
                i, j = np.divmod(chosen, nb)
            rows.append(starts[a] + i)
            columns.append(starts[b] + j)
    i, j = np.concatenate(rows), np.concatenate(columns)
    n = int(starts[-1])
    upper = sp.coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    return sp.csr_array(upper + upper.T), np.repeat(np.arange(len(sizes)), sizes)


def _sample(total: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """`k` different numbers below `total`."""
    return (
        rng.choice(total, size=int(k), replace=False, shuffle=False)
        if k
        else np.empty(0, dtype=np.int64)
    )


def btsbm_densities(levels: Float[np.ndarray, " d1"]) -> Float[np.ndarray, "K K"]:
    """Densities of the balanced binary tree model: p[a, b] = levels[depth of the lowest common ancestor], K = 2^d."""
    d = len(levels) - 1
    a = np.arange(2**d)
    differ = a[:, None] ^ a[None, :]
    bits = np.zeros_like(differ)
    for shift in range(d):
        bits = np.where(differ >> shift, shift + 1, bits)
    return np.asarray(levels, dtype=np.float64)[d - bits]


def path_of_powers(a: float, beta: float, depth: int, n: int) -> Float[np.ndarray, " d1"]:
    """Geometric densities p_k = a β^(d−k) log n / n of the binary tree model, from the root to the leaves."""
    return a * beta ** np.arange(depth, -1, -1.0) * np.log(n) / n
