import inspect

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from block_graphs import planted

from whp.door import front_door
from whp.graph import hierarchical_communities
from whp.graph._hierarchical_communities.graphs import adjacency, own_labels

# Without the type checker of the tests, which users do not have.
UNTYPED = front_door(inspect.unwrap(hierarchical_communities))
GOOD = planted(np.random.default_rng(1), size=20)[0]
BAD = [
    ({"graph": nx.DiGraph([(0, 1)])}, "graph must be undirected: 1 of 1 pairs appear in one"),
    ({"graph": nx.DiGraph([(0, 1), (1, 0), (1, 2)])}, r"undirected: 1 of 2 pairs.*--undirected"),
    ({"graph": nx.Graph()}, "graph must have nodes"),
    ({"graph": np.triu(np.ones((3, 3)))}, "graph must be undirected"),
    ({"graph": np.ones((3, 2))}, "graph must be a square"),
    ({"graph": np.empty((0, 0))}, "graph must be a square"),
    ({"graph": -GOOD}, "graph must have weights"),
    ({"graph": GOOD * np.nan}, "graph must not have NaN"),
    ({"graph": np.full((3, 3), np.inf)}, "graph must not have NaN"),
    ({"graph": GOOD * 1j}, "graph must be real"),
    ({"graph": None}, "graph must be"),
    ({"graph": "abc"}, "graph must be"),
    ({"graph": [["0", "x", "1"]] * 3}, "graph must be"),
    ({"graph": [[0, 1], [1]]}, "graph must be"),
    ({"graph": [[0, 1], [1, 2]]}, "graph must not be a list of two pairs"),
    ({"graph": ((0, 1), (1, 2))}, "graph must not be a list of two pairs"),
    (
        {"graph": nx.Graph([(0, 1, {"weight": "heavy"})]), "weighted": True},
        "graph has 'heavy' as 'weight'",
    ),
    (
        {"graph": nx.Graph([(0, 1, {"weight": np.nan})]), "weighted": True},
        "graph must not have NaN",
    ),
    ({"n_communities": 0}, "n_communities"),
    ({"n_communities": 61}, "n_communities"),
    ({"n_communities": 2.5}, "n_communities"),
    ({"method": "sideways"}, "method"),
    ({"leaves": "laplacian"}, "leaves"),
    ({"leaves": ["a", 1] * 30}, "leaves must hold either"),
    ({"leaves": [None] * 60}, "leaves must hold"),
    ({"leaves": ["-1"] * 60}, "leaves must have a node"),
    ({"leaves": {0: "a"}}, "leaves must name every node, 1 is missing"),
    ({"leaves": [0, 1] * 30, "refine": 1}, "refine must be 0"),
    ({"method": "top-down", "refine": 1}, "refine must be 0"),
    ({"method": "top-down", "leaves": "adjacency"}, "leaves must be left out"),
    ({"weighted": True, "refine": 1}, "refine must be 0"),
    ({"labels_independent": True}, "labels_independent is about"),
    ({"n_communities": 2, "max_communities": 5}, "max_communities is only"),
    ({"graph": nx.Graph([(0, 1)]), "weighted": True}, "graph has no 'weight'"),
    ({"graph": pd.DataFrame(np.eye(2), list("ab"), list("ac"))}, "same names as index"),
    ({"at_least": 0}, "at_least"),
    ({"at_least": 1.5}, "at_least must leave an edge: the largest weight is 1, got 1.5"),
    ({"graph": nx.empty_graph(300), "n_communities": 2}, "graph has no edge left to train on"),
    ({"weighted": "no"}, "weighted"),
    ({"rng": "no"}, "rng"),
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
        UNTYPED(**{"graph": GOOD, **arguments})


def test_all_kinds_of_graph_agree():
    torch = pytest.importorskip("torch")
    A, _ = planted(np.random.default_rng(0))
    names = [f"v{7 * i % 180}" for i in range(180)]
    graph = nx.relabel_nodes(nx.from_scipy_sparse_array(A), dict(enumerate(names)))
    first = hierarchical_communities(A, rng=0)
    for other in (
        A.toarray(),
        A.toarray().astype(bool),
        sp.csr_matrix(A),
        sp.coo_array(A),
        torch.tensor(A.toarray()).to_sparse(),
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
    with pytest.warns(UserWarning, match="5 edges|over .* pairs, each pair counted once"):
        plain = hierarchical_communities(graph, 2, holdout=0, rng=0)
    added = hierarchical_communities(graph, 2, holdout=0, weighted=True, rng=0)
    assert added.density.sum() > plain.density.sum()


def labelled(k=3):
    A, labels = planted(np.random.default_rng(0), k=k, size=30, inside=0.5)
    return A, labels, [f"p{i}" for i in range(len(labels))]


def same(one, other):
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.support, other.support)


def test_a_data_frame_keeps_the_names_of_nodes():
    A, _, names = labelled()
    table = pd.DataFrame(A.toarray(), index=names, columns=names)
    result = hierarchical_communities(table, rng=0)
    assert result.nodes == tuple(names)
    same(result, hierarchical_communities(A, rng=0))
    shuffled = table[sorted(names, reverse=True)]  # columns in another order than rows
    same(result, hierarchical_communities(shuffled, rng=0))


def test_an_igraph_graph_is_taken_as_it_is():
    igraph = pytest.importorskip("igraph")
    A, _, names = labelled()
    graph = igraph.Graph(n=len(names), edges=np.column_stack(sp.coo_array(sp.triu(A)).coords))
    same(hierarchical_communities(graph, rng=0), hierarchical_communities(A, rng=0))
    graph.vs["name"] = names
    assert hierarchical_communities(graph, rng=0).nodes == tuple(names)
    graph.es["weight"] = [2.0] * graph.ecount()
    one = hierarchical_communities(graph, weighted=True, holdout=0, rng=0)
    assert one.density[0] == pytest.approx(
        2 * hierarchical_communities(A, holdout=0, rng=0).density[0]
    )
    graph.add_edges([graph.get_edgelist()[0]])
    with pytest.warns(UserWarning, match="parallel"):
        hierarchical_communities(graph, rng=0)
    with pytest.raises(ValueError, match="1 of 1 pairs"):
        hierarchical_communities(igraph.Graph(2, [(0, 1)], directed=True))


def test_labels_may_be_text_or_by_name_and_some_nodes_outside():
    A, labels, names = labelled()
    table = pd.DataFrame(A.toarray(), index=names, columns=names)
    text = [f"class {v}" for v in labels]
    given = hierarchical_communities(A, leaves=labels, rng=0)
    for leaves in (text, np.array(text, dtype=object), dict(zip(names, text, strict=True))):
        same(given, hierarchical_communities(table, leaves=leaves, rng=0))
    some = labels.copy()
    some[:5] = -1
    result = hierarchical_communities(A, leaves=some, rng=0)
    assert (result.labels < 0).sum() == 5
    assert result.sizes.sum() == 85
    same(result, hierarchical_communities(A, leaves=[str(v) for v in some], rng=0))
    again = hierarchical_communities(A, leaves=result.labels, rng=0)  # what came out goes in
    np.testing.assert_array_equal(again.labels, result.labels)


def test_pairs_of_few_contacts_can_be_left_out():
    A, _, _ = labelled()
    rare = sp.csr_array(np.triu(np.ones(A.shape), 1) - sp.triu(A).toarray())
    B = A * 4 + rare + rare.T
    same(hierarchical_communities(B, at_least=4, rng=0), hierarchical_communities(A, rng=0))
    graph = nx.MultiGraph()
    graph.add_nodes_from(range(A.shape[0]))
    for i, j in zip(*sp.coo_array(sp.triu(A)).coords, strict=True):
        graph.add_edges_from([(int(i), int(j))] * 2)
    graph.add_edges_from([(i, i + 1) for i in range(0, 80, 7) if not graph.has_edge(i, i + 1)])
    same(hierarchical_communities(graph, at_least=2, rng=0), hierarchical_communities(A, rng=0))


def test_weights_that_are_left_out_are_told():
    A, _, _ = labelled()
    rng = np.random.default_rng(0)
    upper = sp.triu(A).toarray() * rng.integers(1, 9, A.shape)
    with pytest.warns(UserWarning, match="weights from 1 to 8, which are left out"):
        same(hierarchical_communities(upper + upper.T, rng=0), hierarchical_communities(A, rng=0))


def test_weights_that_are_left_out_are_said_of_every_kind_of_graph():
    igraph = pytest.importorskip("igraph")
    one = nx.Graph()
    one.add_weighted_edges_from([(0, 1, 1.0), (1, 2, 5.0)])
    other = igraph.Graph([(0, 1), (1, 2)])
    other.es["weight"] = [1.0, 5.0]
    for graph in (one, other):
        with pytest.warns(UserWarning, match="from 1 to 5, which are left out"):
            adjacency(graph)
    for none in (0.0, "0"):
        one[0][1]["weight"] = none
        other.es["weight"] = [none, 5.0]
        for graph in (one, other):
            with pytest.raises(ValueError, match="1 edges of weight 0"):
                adjacency(graph)


def test_labels_in_a_series_go_by_its_index():
    series = pd.Series([1, 0, 0], index=["c", "b", "a"])
    assert own_labels(series, ("a", "b", "c")).tolist() == [0, 0, 1]
    with pytest.raises(ValueError, match="names of the nodes as index"):
        own_labels(series, ("a", "b", "d"))


def test_rounding_between_directions_does_not_halve_edges_at_the_threshold():
    weight = np.round(np.random.default_rng(0).random((30, 30)), 1)
    upper = np.triu(weight, 1)
    A, _ = adjacency(upper + upper.T * (1 - 1e-15), at_least=0.3)
    assert abs(A - A.T).max() == 0
    assert A.nnz == 2 * int((upper >= 0.3).sum())


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_negative_ties_are_no_edges_in_any_kind_of_graph(sign):
    ig = pytest.importorskip("igraph")
    signed = nx.Graph([(0, 1, {"weight": -1.0}), (1, 2, {"weight": sign})])
    for graph in (signed, nx.to_numpy_array(signed), ig.Graph.from_networkx(signed)):
        for options in ({}, {"weighted": True}, {"at_least": 0.5}):
            with pytest.raises(ValueError, match="graph must have weights that are not negative"):
                adjacency(graph, **options)
