"""Average linkage on edge densities: the tree out of a flat partition."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.kernel import compiled
from whp.validate import as_matrix, as_vector

__all__ = ["average_linkage"]


def average_linkage(counts: Any, sizes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Merge the two communities with the densest connection until one is left.

    The density between two communities is the number of edges between them over the number of pairs; after a merge it is
    the size-weighted mean of the two old ones, both of which are at most the density just merged. So merge densities never
    increase and the tree has no inversion, for any input.

    Parameters
    ----------
    counts : (K, K) array_like
        Edges (or their total weight) between communities, symmetric and not negative; the diagonal is ignored.
    sizes : (K,) array_like
        Nodes of each community, positive.

    Returns
    -------
    children : (K - 1, 2) ndarray of int
        The two merged at each step; K + i is what step i made.
    density : (K - 1,) ndarray
        Density between the two at each step, not increasing. Ties go to the smallest pair.

    Raises
    ------
    ValueError
        If `counts` is not square, symmetric and non-negative, or `sizes` does not fit it.

    Notes
    -----
    O(K²) time: each row keeps its densest partner, and only rows that lose theirs are searched again.
    """
    edges = as_matrix(counts, "counts", dtype=np.float64)
    size = as_vector(sizes, "sizes", size=len(edges), dtype=np.float64)
    if edges.shape[0] != edges.shape[1] or (edges < 0).any() or not np.array_equal(edges, edges.T):
        raise ValueError(
            f"counts must be a symmetric square array of numbers >= 0, got shape {edges.shape}"
        )
    if (size <= 0).any():
        raise ValueError("sizes must be positive")
    return _link(edges.copy(), size.copy())


@compiled
def _densest(edges, size, live, i):
    """The later row with which row i is connected most densely; -1 if none is left."""
    best, partner = -1.0, -1
    for j in range(i + 1, len(size)):
        if live[j]:
            density = edges[i, j] / (size[i] * size[j])
            if density > best:
                best, partner = density, j
    return best, partner


@compiled
def _link(edges, size):
    k = len(size)
    children = np.empty((max(k - 1, 0), 2), np.int64)
    heights = np.empty(max(k - 1, 0))
    live = np.ones(k, np.bool_)
    name = np.arange(k)
    best = np.empty(k)
    partner = np.empty(k, np.int64)
    for i in range(k):
        best[i], partner[i] = _densest(edges, size, live, i)
    for step in range(k - 1):
        a = -1
        for i in range(k):
            if live[i] and partner[i] >= 0 and (a < 0 or best[i] > best[a]):
                a = i
        b = partner[a]
        children[step, 0], children[step, 1] = name[a], name[b]
        heights[step] = best[a]
        for c in range(k):
            edges[a, c] += edges[b, c]
            edges[c, a] = edges[a, c]
        size[a] += size[b]
        live[b] = False
        name[a] = k + step
        for i in range(k):
            if not live[i]:
                continue
            if i == a or partner[i] == a or partner[i] == b:
                best[i], partner[i] = _densest(edges, size, live, i)
            elif i < a:
                density = edges[i, a] / (size[i] * size[a])
                if density > best[i] or (density == best[i] and a < partner[i]):
                    best[i], partner[i] = density, a
    return children, heights
