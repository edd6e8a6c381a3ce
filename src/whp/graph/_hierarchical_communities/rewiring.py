"""Triangles and 4-cycles of graphs with the same degrees: what independent edges make, exactly."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.stats import norm

from whp.kernel import compiled
from whp.validate import private_stream

__all__ = ["few_enough", "rewired_cycles"]

EDGES, NODES = 10_000, 2_000  # up to which rewiring takes three seconds and 40 MB at most
# Graphs after which a p-value below the first or above the second needs no more: their spread is
# then known to a ninth and a sixteenth, and such deviations stay on their side of three of it.
ENOUGH, MANY = {40: (3e-6, 0.2), 120: (7e-5, 0.02)}, 400
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
    rng = private_stream(0)
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
    odds = likely / (1 - likely)

    swaps = SWAPS * upper.nnz
    drawn = np.empty((MANY, 2))
    for graph in range(MANY):
        for _ in range(3 if graph == 0 else 1):
            _swap(there, tail, into, order, first, many, groups, odds, rng.random((swaps, 3)))
        drawn[graph] = _cycles(there, tail)
        if graph + 1 in ENOUGH:
            mean, spread = drawn[: graph + 1].mean(axis=0), drawn[: graph + 1].std(axis=0)
            p = norm.sf((counted - mean) / np.maximum(spread, 1e-12)).min()
            least, most = ENOUGH[graph + 1]
            if not least <= p <= most:
                drawn = drawn[: graph + 1]
                break
    mean, spread = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
    return (float(mean[0]), float(spread[0])), (float(mean[1]), float(spread[1]))


@compiled
def _swap(there, tail, into, order, first, many, groups, odds, drawn):
    for step in range(len(drawn)):
        h = int(drawn[step, 0] * len(tail))
        leaf = into[h]
        g = order[first[leaf] + int(drawn[step, 1] * many[leaf])]
        a, b, c, d = tail[h], tail[h ^ 1], tail[g], tail[g ^ 1]
        if a in (c, d) or b in (c, d) or there[a, d] or there[c, b]:
            continue
        i, j, k, m = groups[a], groups[b], groups[c], groups[d]
        if odds[i, m] * odds[k, j] < drawn[step, 2] * odds[i, j] * odds[k, m]:
            continue
        there[a, b] = there[b, a] = there[c, d] = there[d, c] = False
        there[a, d] = there[d, a] = there[c, b] = there[b, c] = True
        tail[h ^ 1], tail[g ^ 1] = d, b


@compiled
def _cycles(there, tail):
    """Triangles and 4-cycles, each found from its last node."""
    n = len(there)
    degree = np.zeros(n, np.int64)
    for node in tail:
        degree[node] += 1
    starts = np.zeros(n + 1, np.int64)
    starts[1:] = np.cumsum(degree)
    # Neighbours in order: filled from nodes in order, whose own neighbours come as edges do.
    unsorted, ends = np.empty(len(tail), np.int64), np.empty(len(tail), np.int64)
    filled = starts[:-1].copy()
    for h in range(len(tail)):
        unsorted[filled[tail[h]]] = tail[h ^ 1]
        filled[tail[h]] += 1
    filled = starts[:-1].copy()
    for node in range(n):
        for edge in range(starts[node], starts[node + 1]):
            other = unsorted[edge]
            ends[filled[other]] = node
            filled[other] += 1
    triangles, squares = 0, 0
    paths = np.zeros(n, np.int64)
    for last in range(n):
        for again in range(2):  # count, then clear
            for first in range(starts[last], starts[last + 1]):
                middle = ends[first]
                if middle > last:
                    break
                for second in range(starts[middle], starts[middle + 1]):
                    opposite = ends[second]
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
