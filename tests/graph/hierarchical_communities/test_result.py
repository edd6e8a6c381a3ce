import pickle

import networkx as nx
import numpy as np
from block_graphs import planted
from scipy.cluster.hierarchy import dendrogram, is_valid_linkage

from whp.certificate import Certificate
from whp.datasets.graph_models import block_model, btsbm_densities
from whp.graph import hierarchical_communities


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
    # Its own bytes: a study's processes exchange results so.
    again = pickle.loads(pickle.dumps(result))
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


def shown(result):
    import io

    from rich.console import Console

    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(result)
    return console.export_text()


def test_where_the_test_is_void_the_tree_is_printed_without_marks():
    rng = np.random.default_rng(0)
    A = np.zeros((300, 300))
    for _ in range(300):
        group = rng.choice(300, 4, replace=False)
        A[np.ix_(group, group)] = 1
    np.fill_diagonal(A, 0)
    result = hierarchical_communities(A, 4, rng=0)
    text = shown(result)
    assert result.void
    assert "no marks" in text
    assert "✓" not in text
    assert text.count("community ") == 4
    assert not result.supported.any()
    assert result.plot().get_legend() is None


def test_the_number_of_communities_on_all_edges_is_told():
    result = hierarchical_communities(nx.karate_club_graph(), rng=0)
    assert (result.n_communities, result.n_communities_on_all_edges) == (1, 2)
    assert "all edges show 2 communities, the training edges 1" in shown(result)
    assert result.summary()["communities_on_all_edges"] == 2
    for options in ({"n_communities": 2}, {"holdout": 0.0}):
        other = hierarchical_communities(nx.karate_club_graph(), rng=0, **options)
        assert other.n_communities_on_all_edges is None


def test_names_that_read_alike_are_told_apart_in_the_file():
    A, _ = planted(np.random.default_rng(0))
    graph = nx.from_scipy_sparse_array(A)
    nodes = hierarchical_communities(graph, rng=0).artifacts()["labels.csv"]["node"]
    assert nodes[1] == "1"
    nodes = hierarchical_communities(nx.relabel_nodes(graph, {0: "1"}), rng=0).artifacts()
    assert {"1", "'1'"} <= set(nodes["labels.csv"]["node"])
