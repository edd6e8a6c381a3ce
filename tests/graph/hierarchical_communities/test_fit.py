import itertools
import math

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from block_graphs import planted

from whp.datasets.graph_models import block_model
from whp.graph._hierarchical_communities.fit import (
    Cycles,
    _expected_squares,
    _expected_triangles,
    count_longer,
    count_squares,
    count_triangles,
    equal_degrees,
    fit,
    one_density,
)
from whp.graph._hierarchical_communities.spectral import block_counts
from whp.graph._hierarchical_communities.tree import Tree, node_pairs

PAIR = Tree(np.array([[0, 1]]))


def fitted(A, labels, tree=PAIR):
    A = sp.csr_array(A)
    sizes = np.bincount(labels)
    return fit(A, labels, tree, block_counts(A, labels, len(sizes)), node_pairs(sizes))


@pytest.mark.parametrize("seed", range(5))
def test_triangles_are_those_of_networkx(seed):
    graph = nx.powerlaw_cluster_graph(80, 4, 0.5, seed=seed)
    wanted = sum(nx.triangles(graph).values()) // 3
    assert count_triangles(nx.to_scipy_sparse_array(graph, format="csr")) == wanted


def test_expected_triangles_by_summing_over_all_triples():
    p, sizes = np.array([[0.6, 0.2], [0.2, 0.4]]), np.array([5, 4])
    Q = p[np.ix_(np.repeat([0, 1], sizes), np.repeat([0, 1], sizes))]
    n, triples, shared = 9, 0.0, 0.0
    for i in range(n):
        for j in range(i):
            others = [k for k in range(n) if k not in (i, j)]
            paths = sum(Q[i, k] * Q[j, k] for k in others)
            shared += Q[i, j] * (1 - Q[i, j]) * paths**2
            triples += sum(Q[i, j] * Q[i, k] * Q[j, k] for k in others if k < j)
    assert _expected_triangles(p, sizes) == pytest.approx((triples, math.sqrt(triples + shared)))


@pytest.mark.parametrize("seed", range(5))
def test_squares_are_those_of_common_neighbours(seed):
    graph = nx.powerlaw_cluster_graph(80, 4, 0.5, seed=seed)
    A = nx.to_scipy_sparse_array(graph, format="csr")
    common = np.triu((A @ A).toarray(), 1)
    assert count_squares(A) == (common * (common - 1) / 2).sum() / 2
    assert count_squares(sp.csr_array(nx.to_scipy_sparse_array(nx.cycle_graph(4)))) == 1
    assert count_squares(sp.csr_array(nx.to_scipy_sparse_array(nx.complete_graph(6)))) == 45


def test_expected_squares_by_summing_over_all_cycles():
    p, sizes = np.array([[0.6, 0.2], [0.2, 0.4]]), np.array([4, 3])
    groups = np.repeat([0, 1], sizes)
    Q = p[np.ix_(groups, groups)]
    total = sum(
        Q[i, j] * Q[j, k] * Q[k, m] * Q[m, i] for i, j, k, m in itertools.permutations(range(7), 4)
    )
    assert _expected_squares(p, sizes)[0] == pytest.approx(total / 8)


def test_squares_vary_no_more_than_their_spread():
    """Where densities are known the spread is the standard deviation, and little above it."""
    p, sizes = np.array([[0.3, 0.1], [0.1, 0.2]]), np.array([15, 20])
    counted = [
        count_squares(block_model(p, sizes, r)[0]) for r in np.random.default_rng(0).spawn(800)
    ]
    expected, spread = _expected_squares(p, sizes)
    assert np.mean(counted) == pytest.approx(expected, abs=4 * spread / math.sqrt(800))
    assert 0.9 < np.std(counted) / spread < 1.05


def test_squares_of_a_large_graph_with_a_hub_need_no_product_of_matrices():
    rng = np.random.default_rng(0)
    i, j = rng.integers(20_000, size=(2, 100_000))
    j[:20_000] = 0  # a hub, whose common neighbours would fill a product of matrices
    i[:20_000] = np.arange(20_000)
    A = sp.csr_array(sp.coo_array((np.ones(100_000), (i, j)), shape=(20_000, 20_000)))
    A = sp.csr_array(((A + A.T) > 0).astype(float))
    A.setdiag(0)
    A.eliminate_zeros()
    assert count_squares(A) > 0


def test_independent_edges_are_seldom_refuted():
    p, refuted, worst = [], 0, 0
    for rng in np.random.default_rng(0).spawn(200):
        A, labels = planted(rng, k=2, size=60, inside=0.25, between=0.05)
        made = fitted(A, labels)
        p += [made.plain.p, made.scaled.p]
        refuted += made.density[0] < 0.01
        worst += made.degrees[0] < 0.01
    assert min(p) > 1e-4
    assert refuted == 0  # there is one leaf pair: nothing to compare
    assert worst <= 9


def test_few_triangles_are_judged_by_poisson():
    A = sp.csr_array(nx.to_scipy_sparse_array(nx.path_graph(60), format="csr"))
    made = fitted(A, np.arange(60) // 30)
    assert made.plain.triangles.counted == 0
    assert made.plain.p == 1


@pytest.mark.parametrize("tail", [2.0, 4.0])
def test_uneven_degrees_are_seen_and_taken_out_of_the_triangles(tail):
    seen = closed = 0
    for rng in np.random.default_rng(1).spawn(20):
        weight = (1 - rng.random(300)) ** (-1 / tail)
        weight /= weight.mean()
        labels = np.repeat([0, 1], 150)
        P = np.array([[0.16, 0.02], [0.02, 0.16]])[np.ix_(labels, labels)]
        upper = np.triu(rng.random(P.shape) < P * np.outer(weight, weight), 1)
        made = fitted((upper | upper.T).astype(float), labels)
        seen += made.degrees[0] < 0.01
        closed += made.scaled.p < 0.00135
        assert made.plain.squares.z > made.scaled.squares.z
        assert made.plain.triangles.z > made.scaled.triangles.z
    assert seen == 20
    assert tail < 3 or closed <= 1  # two of 20 at this level: 4e-4


def test_leaf_pairs_under_a_merge_are_compared():
    tree = Tree(np.array([[0, 1], [2, 3]]))
    pairs = node_pairs(np.full(3, 100))
    counts = np.array([[2000, 500, 300], [500, 2000, 300], [300, 300, 2000]], float)
    assert one_density(tree, counts, pairs)[0] == pytest.approx(1)
    counts[0, 2] = counts[2, 0] = 500
    assert one_density(tree, counts, pairs)[0] < 1e-9
    assert one_density(PAIR, counts[:2, :2], pairs[:2, :2])[1] == 0


def test_equal_degrees_have_the_dispersion_of_the_model():
    p_values = []
    for rng in np.random.default_rng(2).spawn(300):
        A, labels = block_model(np.array([[0.05]]), np.array([150]), rng)
        counts = block_counts(A, labels, 1) / node_pairs(np.array([150]))
        p_values.append(equal_degrees(np.diff(A.indptr).astype(float), labels, counts)[0])
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize(
    "graph",
    [
        nx.hexagonal_lattice_graph(6, 6),
        nx.gnp_random_graph(300, 2.5 / 300, seed=1),
        nx.gnp_random_graph(500, 2 / 500, seed=1),
        nx.cycle_graph(9),
    ],
)
def test_longer_cycles_are_those_of_networkx(graph):
    counted = count_longer(sp.csr_array(nx.to_scipy_sparse_array(graph, dtype=float)))
    longest = min(len(counted) + 4, 10)
    assert longest > 4
    lengths = [len(cycle) for cycle in nx.simple_cycles(graph, length_bound=longest)]
    assert counted[: longest - 4] == [lengths.count(n) for n in range(5, longest + 1)]


def test_longer_cycles_are_not_looked_at_where_they_are_many():
    A = sp.csr_array(nx.to_scipy_sparse_array(nx.gnp_random_graph(300, 0.1, seed=0), dtype=float))
    assert count_longer(A) == []


@pytest.mark.parametrize("mean", [1.5, 2.5])
def test_longer_cycles_of_sparse_blocks_number_what_is_expected(mean):
    """In the mean over graphs of independent edges, and vary no more than their spread."""
    z = []
    for rng in np.random.default_rng(2).spawn(60):
        A, labels = planted(rng, k=2, size=300, inside=1.8 * mean / 600, between=0.2 * mean / 600)
        z += [[c.z for c in fitted(A, labels).scaled.longer[:2]]]
    z = np.array(z)
    assert (abs(z.mean(axis=0)) < 4 / math.sqrt(60)).all()
    assert (z.std(axis=0) > 0.5).all()
    assert (z.std(axis=0) < 1.35).all()


def test_a_hexagonal_lattice_is_refuted_by_its_hexagons():
    graph = nx.hexagonal_lattice_graph(12, 12)
    A = sp.csr_array(nx.to_scipy_sparse_array(graph, dtype=float))
    made = fitted(A, np.arange(A.shape[0]) // (A.shape[0] // 2 + 1))
    assert made.scaled.triangles.p == made.scaled.squares.p == 1
    assert made.scaled.p < 1e-9
    assert made.scaled.longer[1].counted == 144


def test_leaves_that_make_too_many_cycles_do_not_fit():
    cycles = Cycles(counted=0, expected=30.0, spread=6.0, open=100.0)
    assert cycles.p == 1
    assert cycles.fits < 1e-5
