import itertools

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp

from whp.graph._hierarchical_communities.fit import count_squares, count_triangles
from whp.graph._hierarchical_communities.rewiring import _cycles, _swap, rewired_cycles


def _edges(A):
    return np.argwhere(np.triu(A)).ravel()


def test_cycles_are_counted_as_elsewhere():
    for seed in range(5):
        A = sp.csr_array(nx.to_scipy_sparse_array(nx.gnp_random_graph(40, 0.3, seed=seed)))
        A = A.astype(float)
        assert tuple(_cycles(A.toarray() > 0, _edges(A.toarray()))) == (
            count_triangles(A),
            count_squares(A),
        )


def test_mean_and_spread_are_those_of_all_graphs_of_these_degrees():
    """Six nodes, by enumeration: each graph counts by the odds of its edges."""
    A = nx.to_numpy_array(nx.Graph([(0, 1), (0, 2), (0, 3), (1, 2), (3, 4), (4, 5), (1, 5)]))
    groups = np.array([0, 0, 0, 1, 1, 1])
    p = np.array([[0.8, 0.3], [0.3, 0.4]])
    pairs = list(itertools.combinations(range(6), 2))
    odds = p / (1 - p)
    counted, weight = [], []
    for edges in itertools.combinations(pairs, 7):
        if (np.bincount(np.ravel(edges), minlength=6) == A.sum(axis=0)).all():
            B = sp.csr_array(nx.to_numpy_array(nx.Graph(edges), nodelist=range(6)))
            counted.append((count_triangles(B), count_squares(B)))
            weight.append(np.prod([odds[groups[a], groups[b]] for a, b in edges]))
    counted, weight = np.array(counted), np.array(weight) / np.sum(weight)
    mean = weight @ counted
    spread = np.sqrt(weight @ (counted - mean) ** 2)
    # Counts at the mean: all graphs are drawn.
    made = rewired_cycles(sp.csr_array(A), np.zeros(6, dtype=int), groups, p, (2, 2))
    for (middle, about), true, sd in zip(made, mean, spread, strict=True):
        assert middle == pytest.approx(true, abs=0.35)
        assert about == pytest.approx(sd, abs=0.3)


def test_swaps_keep_degrees_and_the_edges_between_leaves():
    A = nx.to_numpy_array(nx.gnp_random_graph(40, 0.2, seed=0))
    labels, there = np.arange(40) % 3, A > 0
    tail = _edges(A)
    into = labels[tail.reshape(-1, 2)[:, ::-1].ravel()]
    rng = np.random.default_rng(0)
    many = np.bincount(into)
    order = np.argsort(into, kind="stable")
    drawn = rng.random((3000, 3))
    _swap(there, tail, into, order, np.cumsum(many) - many, many, labels, np.ones((3, 3)), drawn)
    assert (there != A).sum() > 50
    assert (there == there.T).all()
    assert not there.diagonal().any()
    assert (there.sum(axis=0) == A.sum(axis=0)).all()
    member = np.eye(3)[labels]
    assert (member.T @ there @ member == member.T @ A @ member).all()
