"""Triangles and 4-cycles of graphs with the same degrees: what independent edges make, exactly."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.stats import norm

from whp.kernel import compiled

__all__ = ["few_enough", "rewired_cycles"]

EDGES, NODES = 10_000, 2_000  # up to which rewiring takes three seconds and 40 MB at most
# Graphs after which a p-value so large needs no more; 1e-12 is small enough after the fewest.
ENOUGH, MANY = {40: 0.2, 120: 0.02}, 400
SWAPS = 4  # tried for each edge between two graphs that are counted


def few_enough(A: sp.csr_array) -> bool:
    """Whether a graph is small enough to be rewired: tables are of all pairs of nodes."""
    return A.nnz <= 2 * EDGES and A.shape[0] <= NODES


def rewired_cycles(
    A: sp.csr_array, labels: np.ndarray, groups: np.ndarray, p: np.ndarray, counted: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Mean and spread of triangles and of 4-cycles where the edges of a graph are swapped.

    Two edges that lead into one leaf swap these ends, where that makes no loop and no parallel
    edge: nodes keep their degrees, and pairs of leaves their edges. Given these, independent edges
    make such graphs in proportion to the product of the odds of their edges, which is what a swap is
    accepted by (Metropolis).

    Parameters
    ----------
    A : sparse array
        Zeros and ones, symmetric.
    labels : ndarray of int
        Leaf of each node.
    groups : ndarray of int
        Nodes of one density.
    p : ndarray
        Densities between groups.
    counted : tuple of int
        Triangles and 4-cycles of `A`; where they are far from or near to the mean, few graphs do.
    """
    rng = np.random.default_rng(0)
    upper = sp.coo_array(sp.triu(A, 1))
    # Half edge h leads from tail[h] to tail[h ^ 1]; the leaf that it leads to never changes.
    tail = np.column_stack([upper.coords[0], upper.coords[1]]).ravel().astype(np.int64)
    into = labels[tail.reshape(-1, 2)[:, ::-1].ravel()]
    order = np.argsort(into, kind="stable")
    many = np.bincount(into, minlength=int(labels.max()) + 1)
    first = np.cumsum(many) - many
    there = np.zeros(A.shape, dtype=np.bool_)
    there[tail[::2], tail[1::2]] = there[tail[1::2], tail[::2]] = True

    likely = np.clip(p, 1e-9, 0.999)
    odds = np.log(likely / (1 - likely))

    swaps = SWAPS * upper.nnz
    drawn = np.empty((MANY, 2))
    for graph in range(MANY):
        for _ in range(3 if graph == 0 else 1):
            one = rng.integers(len(tail), size=swaps)
            other = order[first[into[one]] + (rng.random(swaps) * many[into[one]]).astype(np.int64)]
            _swap(there, tail, one, other, groups, odds, np.log(rng.random(swaps)))
        drawn[graph] = _cycles(there)
        if graph + 1 in ENOUGH:
            mean, spread = drawn[: graph + 1].mean(axis=0), drawn[: graph + 1].std(axis=0)
            p = norm.sf((counted - mean) / np.maximum(spread, 1e-12)).min()
            if p > ENOUGH[graph + 1] or p < 1e-12:
                drawn = drawn[: graph + 1]
                break
    mean, spread = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
    return (float(mean[0]), float(spread[0])), (float(mean[1]), float(spread[1]))


@compiled
def _swap(there, tail, one, other, groups, odds, chance):
    for step in range(len(one)):
        h, g = one[step], other[step]
        a, b, c, d = tail[h], tail[h ^ 1], tail[g], tail[g ^ 1]
        if a in (c, d) or b in (c, d) or there[a, d] or there[c, b]:
            continue
        i, j, k, m = groups[a], groups[b], groups[c], groups[d]
        if odds[i, m] + odds[k, j] - odds[i, j] - odds[k, m] < chance[step]:
            continue
        there[a, b] = there[b, a] = there[c, d] = there[d, c] = False
        there[a, d] = there[d, a] = there[c, b] = there[b, c] = True
        tail[h ^ 1], tail[g ^ 1] = d, b


@compiled
def _cycles(there):
    """Triangles and 4-cycles, each found from its last node."""
    n = len(there)
    ends = np.empty((n, n), np.int64)
    degree = np.zeros(n, np.int64)
    for i in range(n):
        for j in range(n):
            if there[i, j]:
                ends[i, degree[i]] = j
                degree[i] += 1
    triangles, squares = 0, 0
    paths = np.zeros(n, np.int64)
    for last in range(n):
        for again in range(2):  # count, then clear
            for first in range(degree[last]):
                middle = ends[last, first]
                if middle > last:
                    break
                for second in range(degree[middle]):
                    opposite = ends[middle, second]
                    if opposite >= last:
                        break
                    if again == 1:
                        paths[opposite] = 0
                        continue
                    squares += paths[opposite]
                    paths[opposite] += 1
                    if opposite < middle and there[last, opposite]:
                        triangles += 1
    return triangles, squares
