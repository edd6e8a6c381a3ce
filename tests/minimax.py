"""Models and graphs that tests of causal minimax share."""

import networkx as nx
import numpy as np
import pandas as pd

from whp.invariance import DiscreteSCM

SIMULATION = nx.DiGraph(
    [
        ("Y", "X9"),
        ("X6", "X5"),
        ("Y", "X1"),
        ("X9", "X1"),
        ("X6", "X1"),
        ("X5", "X1"),
        ("X1", "X3"),
        ("X3", "X2"),
        ("X8", "X2"),
        ("X8", "X7"),
        ("X2", "X4"),
        ("X7", "X4"),
        ("X8", "X4"),
        ("X5", "X10"),
        ("X3", "X10"),
        ("X8", "X10"),
    ]
)
K = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X"), ("Y", "W")])


def surprising(p, q, z=False):
    """Y -> M, (Y, M) -> X, and perhaps X -> Z: using X can be worse than using nothing."""
    graph = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])
    tables = {
        "Y": [1 - p, p],
        "M": [[0.5, 0.5], [0.5, 0.5]],
        "X": [[[1, 0], [0.5, 0.5]], [[1 - q, q], [0.5, 0.5]]],
    }
    if z:
        graph.add_edge("X", "Z")
        tables["Z"] = [[0.9, 0.1], [0.2, 0.8]]
    return DiscreteSCM(graph, tables, "Y", ["M"], parents={"X": ("Y", "M")})


def rows(n, seed=0, w=0.1):
    """Rows of the useful model: Y -> M, (Y, M) -> X, Y -> W."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    m = (rng.random(n) < np.where(y, 0.65, 0.35)).astype(int)
    x = (rng.random(n) < np.where(m == 1, 0.5, 0.75 * y)).astype(int)
    wrong = (rng.random(n) < w).astype(int)
    return pd.DataFrame({"Y": y, "M": m, "X": x, "W": y ^ wrong})


def random_dag(rng, n, edges=0.4):
    order = rng.permutation(n)
    graph = nx.DiGraph()
    graph.add_nodes_from(map(str, range(n)))
    graph.add_edges_from(
        (str(order[j]), str(order[i])) for i in range(n) for j in range(i) if rng.random() < edges
    )
    return graph
