"""How the block model of the leaves fits a graph: short cycles, leaf pairs under a merge, degrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.stats import chi2, norm, poisson

from whp.graph._hierarchical_communities.rewiring import few_enough, rewired_cycles
from whp.graph._hierarchical_communities.tree import Tree, node_pairs
from whp.kernel import compiled

LEVEL_CYCLES = 0.00135  # three standard deviations
LONGEST = 24  # nodes of the longest cycles that are looked at, in the sparsest graphs
WORK = 5e6  # paths that are followed in search of them, a fraction of a second
CUTS = (0.25, 0.5, 0.75, 0.9, 0.96, 0.99)  # shares of a leaf's nodes, by degree

__all__ = [
    "LEVEL_CYCLES",
    "Closed",
    "Cycles",
    "Fit",
    "count_longer",
    "count_squares",
    "count_triangles",
    "equal_degrees",
    "fit",
    "one_density",
    "rewired",
    "with_leaves",
]


@dataclass(frozen=True)
class Cycles:
    """Triangles, 4-cycles or longer ones of a graph against what independent edges of the same densities make.

    Attributes
    ----------
    counted : int
        Such cycles in the graph.
    expected, spread : float
        Mean and standard deviation where edges are independent.
    z, p : float
        Standard deviations above the mean, and how likely so many are.
    open : float
        Open paths that one edge would close to such a cycle.
    sees : float
        Share of them that would have to be closed to be noticed nine times in ten; above 1 where
        nothing would be.
    """

    counted: int
    expected: float
    spread: float
    open: float

    @property
    def z(self) -> float:
        return (self.counted - self.expected) / max(self.spread, 1e-12)

    @property
    def p(self) -> float:
        # Few cycles are nearly Poisson, whose tail is longer than the normal one.
        few = float(poisson.sf(self.counted - 1, max(self.expected, 1e-300)))
        return 1.0 if self.counted <= self.expected else max(few, float(norm.sf(self.z)))

    @property
    def fits(self) -> float:
        """How likely it is to be so far from the mean, on either side."""
        fewer = max(float(poisson.cdf(self.counted, self.expected)), float(norm.cdf(self.z)))
        return min(1.0, 2 * min(self.p, fewer))

    @property
    def sees(self) -> float:
        # Where next to none is expected, two are too many, and four must be made to have two.
        return (4.5 * self.spread + 4) / self.open if self.open > 0 else math.inf


@dataclass(frozen=True)
class Closed:
    """Short cycles of a graph: where edges depend on each other, some of them show it.

    Attributes
    ----------
    triangles, squares : Cycles
        In any graph.
    longer : tuple of Cycles
        Of five nodes and more, where the graph is so sparse that they are rare.
    """

    triangles: Cycles
    squares: Cycles
    longer: tuple[Cycles, ...] = ()

    @property
    def tests(self) -> list[tuple[str, str, Cycles, float]]:
        """Name of the cycles and of the paths that one edge closes, counts, and p-value, Bonferroni."""
        kinds = 3 if self.longer else 2
        each = [
            ("triangles", "wedges", self.triangles, kinds),
            ("4-cycles", "3-paths", self.squares, kinds),
        ]
        for edges, cycles in enumerate(self.longer, 4):
            each.append((f"{edges + 1}-cycles", f"{edges}-paths", cycles, kinds * len(self.longer)))
        return [(name, paths, c, min(1.0, times * c.p)) for name, paths, c, times in each]

    @property
    def fits(self) -> float:
        """The same on both sides: leaves that make more cycles than there are fit no better."""
        kinds, longer = (3, [c.fits for c in self.longer]) if self.longer else (2, [1.0])
        least = min(self.triangles.fits, self.squares.fits, len(longer) * min(longer))
        return min(1.0, kinds * least)

    @property
    def p(self) -> float:
        """The smallest p-value, times the number of tests."""
        return min(p for *_, p in self.tests)


@dataclass(frozen=True)
class Fit:
    """Three looks at the block model of the leaves.

    Attributes
    ----------
    plain, scaled : Closed
        Expected with one density a leaf pair, and with edges in proportion to degrees.
    density : tuple of float, int and float
        Smallest p-value of leaf pairs under a merge times the number of tests, that number, and
        the relative spread of densities that would be noticed.
    degrees : tuple of float, int and float
        The same for degrees inside leaves.
    """

    plain: Closed
    scaled: Closed
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
    triangles, squares = count_triangles(A), count_squares(A)
    degree = np.diff(A.indptr).astype(np.float64)
    wedges = float((degree * (degree - 1) / 2).sum()) - 3 * triangles
    ends = (degree - 1) @ (A @ (degree - 1)) / 2  # of each edge, further edges at either end
    paths = float(ends) - 3 * triangles - 4 * squares
    p = np.divide(counts, pairs, out=np.zeros_like(pairs), where=pairs > 0)
    sizes = np.bincount(labels, minlength=len(p))

    plain = Closed(
        Cycles(triangles, *_expected_triangles(p, sizes), wedges),
        Cycles(squares, *_expected_squares(p, sizes), paths),
        _longer(count_longer(A), A, labels),
    )
    scaled = expect(plain, *_by_degree(degree, labels, p)[:2])
    if scaled.p >= LEVEL_CYCLES and few_enough(A):
        # Of smaller spread: densities are given, not estimated.
        scaled = rewired(A, scaled, labels, p)
    return Fit(plain, scaled, one_density(tree, counts, pairs), equal_degrees(degree, labels, p))


def expect(closed: Closed, p: np.ndarray, sizes: np.ndarray) -> Closed:
    """The same cycles against densities `p` between groups of these sizes."""
    return Closed(
        Cycles(closed.triangles.counted, *_expected_triangles(p, sizes), closed.triangles.open),
        Cycles(closed.squares.counted, *_expected_squares(p, sizes), closed.squares.open),
        closed.longer,
    )


def rewired(A: sp.csr_array, closed: Closed, labels: np.ndarray, p: np.ndarray) -> Closed:
    """The same cycles against graphs of the same degrees and edges between leaves."""
    triangles, squares = closed.triangles, closed.squares
    parts, _, groups = _by_degree(np.diff(A.indptr).astype(np.float64), labels, p)
    three, four = rewired_cycles(A, labels, groups, parts, (triangles.counted, squares.counted))
    return Closed(
        Cycles(triangles.counted, *three, triangles.open),
        Cycles(squares.counted, *four, squares.open),
        closed.longer,
    )


def with_leaves(A: sp.csr_array, closed: Closed, labels: np.ndarray, p: np.ndarray) -> Closed:
    """The same cycles against other leaves, of densities `p`, and edges in proportion to degrees."""
    found = expect(closed, *_by_degree(np.diff(A.indptr).astype(np.float64), labels, p)[:2])
    longer = _longer([c.counted for c in closed.longer], A, labels)
    return Closed(found.triangles, found.squares, longer)


def count_triangles(A: sp.csr_array) -> int:
    """Triangles of a symmetric 0/1 matrix, in O(edges^1.5) time and no further memory."""
    return int(_triangles(*_by_rank(A, upwards=True)))


def count_squares(A: sp.csr_array) -> int:
    """4-cycles of a symmetric 0/1 matrix, with or without chords, in O(edges^1.5) time.

    Each is found from its node of highest degree, as two paths to the node opposite (Chiba &
    Nishizeki 1985): no product of matrices, which hubs would fill.
    """
    return int(_squares(*_by_rank(A, upwards=False)))


def count_longer(A: sp.csr_array) -> list[int]:
    """Cycles of 5, 6, ... nodes of a symmetric 0/1 matrix, as long as chance makes few of them.

    Cycles of as many edges as take a walk to all nodes are no longer rare, nor nearly Poisson: the
    longest have log(nodes) / log(branching number) nodes, or fewer where the paths are too many.
    """
    degree = np.diff(A.indptr).astype(np.float64)
    branching = float((degree * (degree - 1)).sum() / max(degree.sum(), 1))
    longest = LONGEST
    if branching > 1:
        longest = min(longest, int(math.log(len(degree)) / math.log(branching)))
    while (degree == 1).any():  # cycles have no ends
        kept = degree > 1
        A = sp.csr_array(A[kept][:, kept])
        degree = np.diff(A.indptr).astype(np.float64)
    if longest < 5 or A.nnz == 0:
        return [0] * max(longest - 4, 0)
    before, walks = degree, A @ degree - degree  # of one and two edges that do not turn back
    length = 2
    while length < longest - 1:
        before, walks = walks, A @ walks - (degree - 1) * before
        length += 1
        if walks.sum() > WORK:
            break
    else:
        length = longest
    counted = np.zeros(length + 1, np.int64)
    _longer_cycles(A.indptr.astype(np.int64), A.indices.astype(np.int64), counted)
    return [int(c) for c in counted[5:]]


@compiled
def _longer_cycles(starts, ends, counted):
    """Depth-first from the last node of each cycle, in the direction of its smaller neighbour."""
    longest = len(counted) - 1
    path, at = np.empty(longest, np.int64), np.empty(longest, np.int64)
    on = np.zeros(len(starts) - 1, np.bool_)
    for last in range(len(starts) - 1):
        path[0], at[0], depth = last, starts[last], 0
        on[last] = True
        while depth >= 0:
            node = path[depth]
            if at[depth] == starts[node + 1]:
                on[node] = False
                depth -= 1
                continue
            new = ends[at[depth]]
            at[depth] += 1
            if new == last and depth > 1 and path[1] < node:
                counted[depth + 1] += 1
            elif new < last and not on[new] and depth + 1 < longest:
                depth += 1
                path[depth], at[depth] = new, starts[new]
                on[new] = True


def _longer(counted: list[int], A: sp.csr_array, labels: np.ndarray) -> tuple[Cycles, ...]:
    """Cycles of 5, 6, ... nodes against those of random graphs of the same degrees.

    In the configuration model of leaves r with m_r half edges, m_rs of which lead to s, the paths of
    j edges between two half edges are G_j = G_1 diag(m c) G_{j-1}, with G_1 = m_rs / (m_r m_s) and
    c = E d(d - 1) / E d; cycles of L nodes are tr (G_1 diag(m c))^L / 2L. Two that share a path of j
    edges meet at two nodes of degree 3 or more.
    """
    if not counted:
        return ()
    k, degree = int(labels.max()) + 1, np.diff(A.indptr).astype(np.float64)
    Z = sp.csr_array(
        (np.ones(len(labels)), (np.arange(len(labels)), labels)), shape=(len(labels), k)
    )
    ends = (Z.T @ A @ Z).toarray()
    m, two, three = (
        np.bincount(labels, w, minlength=k)
        for w in (degree, degree * (degree - 1), degree * (degree - 1) * (degree - 2))
    )
    first = np.divide(ends, np.outer(m, m), out=np.zeros_like(ends), where=ends > 0)
    paths = [first]
    for _ in range(len(counted) + 3):
        paths.append(paths[-1] * two @ first)
    made = []
    for length, number in enumerate(counted, 5):
        expected = float(np.trace(paths[length - 1] * two)) / (2 * length)
        pairs = sum(paths[j - 1] * paths[length - j - 1] ** 2 for j in range(1, length - 1))
        spread = math.sqrt(expected + float(three @ pairs @ three) / 2)
        made.append(Cycles(number, expected, spread, float(m @ paths[length - 2] @ m) / 2))
    return tuple(made)


def _by_rank(A: sp.csr_array, upwards: bool) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of each node, of higher degree alone or all in order; nodes numbered by degree."""
    degree = np.diff(A.indptr)
    rank = np.empty(len(degree), np.int64)
    rank[np.argsort(degree, kind="stable")] = np.arange(len(degree))
    entries = sp.coo_array(A)
    i, j = rank[entries.coords[0]], rank[entries.coords[1]]
    kept = i < j if upwards else np.ones(len(i), dtype=bool)
    ranked = sp.csr_array((np.ones(kept.sum()), (i[kept], j[kept])), shape=A.shape)
    ranked.sort_indices()
    return ranked.indptr.astype(np.int64), ranked.indices.astype(np.int64)


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


@compiled
def _squares(starts, ends):
    total = 0
    paths = np.zeros(len(starts) - 1, np.int64)
    for top in range(len(starts) - 1):
        for again in range(2):  # count, then clear
            for first in range(starts[top], starts[top + 1]):
                middle = ends[first]
                if middle >= top:
                    break
                for second in range(starts[middle], starts[middle + 1]):
                    opposite = ends[second]
                    if opposite >= top:
                        break
                    if again == 0:
                        total += paths[opposite]
                        paths[opposite] += 1
                    else:
                        paths[opposite] = 0
    return total


def _by_degree(
    degree: np.ndarray, labels: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Densities and sizes of leaves cut by degree, and the part of each node; edges in proportion to expected degrees.

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
    return np.minimum(finer, 1.0), many, groups


def _expected_triangles(p: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Mean and spread of triangles of independent edges, with densities `p` between groups of nodes.

    Two triangles are dependent where they share an edge; what all triangles share is taken out by
    fitting the densities, so the spread is too large by that, and z too small.
    """
    inside = np.diag(p)
    two = (p * sizes) @ p  # paths of two edges, by the groups of their ends
    closed = float((p * two * np.outer(sizes, sizes)).sum())
    closed -= float(3 * (sizes * inside * np.diag(two)).sum() - 2 * (sizes * inside**3).sum())
    expected = max(closed / 6, 0.0)
    shared = node_pairs(sizes) * p * (1 - p) * _paths(p, sizes) ** 2
    return expected, math.sqrt(expected + float(np.triu(shared).sum()))


def _paths(p: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Expected paths of two edges between two nodes, by their groups."""
    inside = np.diag(p)
    return np.maximum((p * sizes) @ p - p * (inside[:, None] + inside[None, :]), 0.0)


def _expected_squares(p: np.ndarray, sizes: np.ndarray) -> tuple[float, float]:
    """Mean and spread of 4-cycles of independent edges, with densities `p` between groups of nodes.

    Two of them are dependent where they share an edge, or two, next to each other or opposite. As
    for triangles the spread is too large where densities are fitted.
    """
    inside, ordered = np.diag(p), np.outer(sizes, sizes) - np.diag(sizes)
    two = _paths(p, sizes)
    ends = np.maximum((p**2) @ sizes - inside**2, 0.0)
    closed = float((ordered * (two**2 + p**4)).sum() - (sizes * ends**2).sum())
    expected = max(closed / 8, 0.0)
    v = p * (1 - p)
    adjacent = float((ordered * two**2 * _paths(v, sizes)).sum()) / 2
    across = (v * sizes) @ (p**2 * sizes)
    opposite = float(np.trace(across @ across)) / 2
    three = np.maximum((two * sizes) @ p, 0.0)
    shared = float((ordered * v * three**2).sum()) / 2
    return expected, math.sqrt(expected + adjacent + opposite + shared)


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
