"""How the block model of the leaves fits a graph: triangles, leaf pairs under a merge, degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.stats import chi2, norm, poisson

from whp.graph._hierarchical_communities.tree import Tree, node_pairs
from whp.kernel import compiled

CUTS = (0.25, 0.5, 0.75, 0.9, 0.96, 0.99)  # shares of a leaf's nodes, by degree

__all__ = ["Fit", "Triangles", "count_triangles", "equal_degrees", "fit", "one_density"]


@dataclass(frozen=True)
class Triangles:
    """Triangles of a graph against what independent edges of the same densities make.

    Attributes
    ----------
    counted : int
        Triangles of the graph.
    expected, spread : float
        Mean and standard deviation where edges are independent.
    z, p : float
        Standard deviations above the mean, and how likely so many are.
    sees : float
        Share of open wedges that would have to be closed to be noticed nine times in ten.
    """

    counted: int
    expected: float
    spread: float
    sees: float

    @property
    def z(self) -> float:
        return (self.counted - self.expected) / max(self.spread, 1e-12)

    @property
    def p(self) -> float:
        # Few triangles are nearly Poisson, whose tail is longer than the normal one.
        few = float(poisson.sf(self.counted - 1, max(self.expected, 1e-300)))
        return 1.0 if self.counted <= self.expected else max(few, float(norm.sf(self.z)))


@dataclass(frozen=True)
class Fit:
    """Three looks at the block model of the leaves.

    Attributes
    ----------
    plain, scaled : Triangles
        Expected with one density a leaf pair, and with edges in proportion to degrees.
    density : tuple of float, int and float
        Smallest p-value of leaf pairs under a merge times the number of tests, that number, and
        the relative spread of densities that would be noticed.
    degrees : tuple of float, int and float
        The same for degrees inside leaves.
    """

    plain: Triangles
    scaled: Triangles
    density: tuple[float, int, float]
    degrees: tuple[float, int, float]


def fit(
    A: sp.csr_array, labels: np.ndarray, tree: Tree, counts: np.ndarray, pairs: np.ndarray
) -> Fit:
    """Confront a graph with its leaves.

    Parameters
    ----------
    A : sparse array
        Zeros and ones, all edges.
    labels : ndarray of int
        Leaf of each node.
    tree : Tree
        Over the leaves.
    counts, pairs : (K, K) ndarray
        Edges and pairs of nodes between and, on the diagonal, within leaves.
    """
    counted = count_triangles(A)
    degree = np.diff(A.indptr).astype(np.float64)
    wedges = float((degree * (degree - 1) / 2).sum()) - 3 * counted
    p = np.divide(counts, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    sizes = np.bincount(labels, minlength=len(p))
    return Fit(
        _expected(counted, wedges, p, sizes),
        _expected(counted, wedges, *_by_degree(degree, labels, p)),
        one_density(tree, counts, pairs),
        equal_degrees(degree, labels, p),
    )


def count_triangles(A: sp.csr_array) -> int:
    """Triangles of a symmetric 0/1 matrix, in O(edges^1.5) time and no further memory."""
    degree = np.diff(A.indptr)
    rank = np.empty(len(degree), np.int64)
    rank[np.argsort(degree, kind="stable")] = np.arange(len(degree))
    entries = sp.coo_array(A)
    i, j = rank[entries.coords[0]], rank[entries.coords[1]]
    up = sp.csr_array((np.ones((i < j).sum()), (i[i < j], j[i < j])), shape=A.shape)
    up.sort_indices()
    return int(_triangles(up.indptr.astype(np.int64), up.indices.astype(np.int64)))


@compiled
def _triangles(starts, ends):
    total = 0
    for u in range(len(starts) - 1):
        for edge in range(starts[u], starts[u + 1]):
            v = ends[edge]
            a, b = edge + 1, starts[v]
            while a < starts[u + 1] and b < starts[v + 1]:
                if ends[a] == ends[b]:
                    total += 1
                    a += 1
                    b += 1
                elif ends[a] < ends[b]:
                    a += 1
                else:
                    b += 1
    return total


def _by_degree(
    degree: np.ndarray, labels: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Densities and sizes of leaves cut by degree, edges in proportion to expected degrees.

    Degrees are drawn together to the variance that they have beyond the noise of edges; no density
    exceeds 1, and each leaf pair keeps its edges.
    """
    k, sizes = len(p), np.bincount(labels, minlength=len(p))
    spread, _ = _degree_moments(p, sizes)
    mean = np.bincount(labels, degree) / sizes
    centred = degree - mean[labels]
    squares = np.bincount(labels, centred**2)
    excess = np.maximum(squares - (sizes - 1) * spread, 0.0)
    shrink = np.sqrt(np.divide(excess, squares, out=np.zeros(k), where=squares > 0))
    shrink = np.divide(shrink, mean, out=np.zeros(k), where=mean > 0)
    weight = np.maximum(1 + shrink[labels] * centred, 0.0)

    order = np.lexsort((degree, labels))
    starts = np.cumsum(sizes) - sizes
    place = np.empty(len(labels))
    place[order] = (np.arange(len(labels)) - starts[labels[order]] + 0.5) / sizes[labels[order]]
    groups = labels * (len(CUTS) + 1) + np.searchsorted(CUTS, place)
    names, groups = np.unique(groups, return_inverse=True)
    of = names // (len(CUTS) + 1)
    many = np.bincount(groups)
    weight = np.bincount(groups, weight) / many
    member = (of[:, None] == np.arange(k)).astype(float)
    ordered = np.outer(many, many) - np.diag(many)
    wanted = p * (np.outer(sizes, sizes) - np.diag(sizes))
    finer = p[np.ix_(of, of)] * np.outer(weight, weight)
    for _ in range(5):
        finer = np.minimum(finer, 1.0)
        there = member.T @ (ordered * finer) @ member
        factor = np.divide(wanted, there, out=np.ones_like(p), where=there > 0)
        finer *= factor[np.ix_(of, of)]
    return np.minimum(finer, 1.0), many


def _expected(counted: int, wedges: float, p: np.ndarray, sizes: np.ndarray) -> Triangles:
    """Triangles where edges are independent, with densities `p` between groups of nodes.

    Two triangles are dependent where they share an edge; what all triangles share is taken out by
    fitting the densities, so the spread is too large by that, and z too small.
    """
    inside = np.diag(p)
    two = (p * sizes) @ p  # paths of two edges, by the groups of their ends
    closed = float((p * two * np.outer(sizes, sizes)).sum())
    closed -= float(3 * (sizes * inside * np.diag(two)).sum() - 2 * (sizes * inside**3).sum())
    expected = max(closed / 6, 0.0)
    two = np.maximum(two - p * (inside[:, None] + inside[None, :]), 0.0)
    shared = node_pairs(sizes) * p * (1 - p) * two**2
    spread = math.sqrt(expected + float(np.triu(shared).sum()))
    return Triangles(counted, expected, spread, 4.3 * spread / wedges if wedges > 0 else math.inf)


def _degree_moments(p: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spread about the mean of the leaf, and mean, of degrees in the block model.

    Two nodes of a leaf share an edge, so the spread about their mean has n - 2 of its pairs.
    """
    inside = np.diag(p)
    return (p * (1 - p)) @ sizes - 2 * inside * (1 - inside), p @ sizes - inside


def one_density(tree: Tree, counts: np.ndarray, pairs: np.ndarray) -> tuple[float, int, float]:
    """Whether leaf pairs under one merge share one density: chi-square, Bonferroni over merges."""
    worst, tests, sees = 1.0, 0, math.inf
    for node in range(tree.leaves, tree.nodes):
        left, right = tree.children[node - tree.leaves]
        under = np.ix_(tree.below[left], tree.below[right])
        m, x = pairs[under].ravel(), counts[under].ravel()
        p = x.sum() / m.sum()
        usable = m * min(p, 1 - p) >= 5  # where the chi-square approximation is sound
        freedom = int(usable.sum()) - 1
        if freedom < 1:
            continue
        tests += 1
        m, x = m[usable], x[usable]
        p = x.sum() / m.sum()
        statistic = float(((x - m * p) ** 2 / (m * p * (1 - p))).sum())
        worst = min(worst, float(chi2.sf(statistic, freedom)))
        sees = min(sees, 4 * math.sqrt((1 - p) / (p * m.mean() * math.sqrt(freedom))))
    return min(1.0, worst * max(tests, 1)), tests, sees


def equal_degrees(
    degree: np.ndarray, labels: np.ndarray, p: np.ndarray
) -> tuple[float, int, float]:
    """Whether nodes of a leaf have one expected degree: dispersion, Bonferroni over leaves."""
    sizes = np.bincount(labels, minlength=len(p))
    spread, mean = _degree_moments(p, sizes)
    worst, tests, sees = 1.0, 0, math.inf
    for leaf in np.flatnonzero((sizes >= 5) & (spread > 0) & (mean >= 1)):
        inside = degree[labels == leaf]
        statistic = float(((inside - inside.mean()) ** 2).sum() / spread[leaf])
        freedom, tests = sizes[leaf] - 1, tests + 1
        inflated = 1 + 1 / (2 * spread[leaf])  # its variance, over that of chi-square
        worst = min(worst, float(chi2.sf(statistic / inflated, freedom / inflated)))
        excess = 4.3 * math.sqrt(2 * inflated / freedom)
        sees = min(sees, math.sqrt(excess * spread[leaf]) / mean[leaf])
    return min(1.0, worst * max(tests, 1)), tests, sees
