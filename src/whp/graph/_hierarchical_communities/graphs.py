"""Graphs of every common kind as one symmetric adjacency matrix and the names of its nodes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp

from whp.io import edge_weight
from whp.validate import as_sparse

__all__ = ["adjacency", "own_labels", "split"]

KINDS = "a networkx or igraph graph, a data frame, a sparse or a dense matrix"
OUTSIDE = "-1"


def adjacency(
    graph: Any, weighted: bool = False, at_least: float | None = None
) -> tuple[sp.csr_array, tuple[Any, ...]]:
    """Symmetric adjacency without a diagonal, and the names of the nodes.

    Parameters
    ----------
    graph : networkx or igraph graph, data frame, sparse or dense matrix
        Undirected; a data frame has the same names as index and columns.
    weighted : bool
        Keep weights; else every edge counts 1.
    at_least : float, optional
        Pairs of a smaller weight, or of fewer parallel edges where edges carry no weight, are no
        edges.

    Raises
    ------
    ValueError, TypeError
        If it is no undirected graph with weights that are finite and not negative.
    """
    A, nodes = _matrix(graph, weighted, at_least)
    if not np.isfinite(A.data).all():
        raise ValueError("graph must not have NaN or infinite weights")
    if (A.data < 0).any():
        raise ValueError("graph must have weights that are not negative")
    _refuse_directed(A)
    if (A.diagonal() != 0).any():
        warnings.warn("graph has self-loops, which are dropped", stacklevel=4)
        A.setdiag(0)
    A = A.maximum(A.T)  # rounding must not leave one direction below at_least
    if at_least is not None:
        if A.nnz and A.data.max() < at_least:
            raise ValueError(
                f"at_least must leave an edge: the largest weight is {A.data.max():.4g}, got "
                f"{at_least:g}"
            )
        A.data[A.data < at_least] = 0
    A.eliminate_zeros()
    if not weighted:
        if at_least is None and A.nnz and np.ptp(A.data) > 1e-12 * A.data.max():
            warnings.warn(
                f"graph has weights from {A.data.min():.4g} to {A.data.max():.4g}, which are left "
                "out: every edge counts once; weighted=True uses them, at_least= makes edges of "
                "the larger ones",
                stacklevel=4,
            )
        A.data[:] = 1.0
    return sp.csr_array(A), nodes


def _weights_left_out(weight: np.ndarray) -> None:
    """Say that weights of edges are not looked at, and refuse those of 0 or less, which are no ties."""
    if not len(weight):
        return
    if (weight < 0).any():
        raise ValueError(
            f"graph must have weights that are not negative, got {int((weight < 0).sum()):,} that "
            "are: leave those edges out"
        )
    if (weight == 0).any():
        raise ValueError(
            f"graph has {int((weight == 0).sum()):,} edges of weight 0, which a matrix would not "
            "have; weighted=True or at_least= leaves them out"
        )
    if np.ptp(weight) > 1e-12 * np.abs(weight).max():
        warnings.warn(
            f"graph has weights from {weight.min():.4g} to {weight.max():.4g}, which are left out: "
            "every edge counts once; weighted=True uses them, at_least= makes edges of the larger "
            "ones",
            stacklevel=6,
        )


def _numbers(values: list[Any]) -> np.ndarray:
    """Those of the weights that are finite numbers, or text of one."""
    numbers = []
    for value in values:
        try:
            numbers.append(float(value))
        except (TypeError, ValueError):
            continue
    weight = np.array(numbers, np.float64)
    return weight[np.isfinite(weight)]


def _matrix(
    graph: Any, weighted: bool, at_least: float | None
) -> tuple[sp.csr_array, tuple[Any, ...]]:
    """The matrix of weights as it is given, and names."""
    if hasattr(graph, "is_directed") and hasattr(graph, "get_edgelist"):
        return _of_igraph(graph, weighted, at_least)
    if hasattr(graph, "is_directed") and hasattr(graph, "edges"):
        return _of_networkx(graph, weighted, at_least)
    names: tuple[Any, ...] | None = None
    if hasattr(graph, "columns") and hasattr(graph, "index"):
        names = tuple(graph.index)
        if len(set(names)) < len(names) or set(names) != set(graph.columns):
            raise ValueError(
                "graph must have the same names as index and columns, each once; a list of edges "
                "is read by networkx.from_pandas_edgelist"
            )
        graph = graph[list(names)].to_numpy()
    elif not sp.issparse(graph) and "sparse" not in str(getattr(graph, "layout", "")):
        if graph is None or isinstance(graph, str | bytes):
            raise TypeError(f"graph must be {KINDS}, got {type(graph).__name__}")
        if isinstance(graph, list | tuple) and [len(np.atleast_1d(row)) for row in graph] == [2, 2]:
            raise TypeError(
                "graph must not be a list of two pairs, which may be two edges or a matrix; make "
                "edges a graph by networkx.Graph(edges), a matrix an array by np.array(matrix)"
            )
        try:
            dense = np.asarray(graph)
        except ValueError as error:
            raise TypeError(f"graph must be {KINDS}: {error}") from error
        if dense.dtype.kind not in "fiubc" or dense.ndim != 2:
            raise TypeError(
                f"graph must be {KINDS}, got {type(graph).__name__} of dtype {dense.dtype} and "
                f"shape {dense.shape}"
            )
    A = as_sparse(graph, "graph").copy()
    A.sum_duplicates()
    if A.shape[0] != A.shape[1] or A.shape[0] == 0:
        raise ValueError(
            f"graph must be a square matrix with at least one row, got shape {A.shape}"
        )
    return A, tuple(range(A.shape[0])) if names is None else names


def _of_networkx(
    graph: Any, weighted: bool, at_least: float | None
) -> tuple[sp.csr_array, tuple[Any, ...]]:
    import networkx as nx

    nodes = tuple(graph)
    if not nodes:
        raise ValueError("graph must have nodes, got none")
    carried = any("weight" in data for *_, data in graph.edges(data=True))
    if graph.is_multigraph() and not weighted and at_least is None:
        _tell_parallel(graph.number_of_edges(), len({frozenset(e[:2]) for e in graph.edges}))
        graph = (nx.DiGraph if graph.is_directed() else nx.Graph)(graph)
    elif weighted and not carried and not graph.is_multigraph() and graph.number_of_edges():
        edge_weight(graph)  # raises, and says what edges carry
    wanted = carried and (weighted or at_least is not None)
    if carried and not wanted:
        _weights_left_out(_numbers([data.get("weight") for *_, data in graph.edges(data=True)]))
    if wanted:
        edge_weight(graph)
    plain: dict[str, Any] = {} if wanted else {"weight": None}
    A = nx.to_scipy_sparse_array(graph, nodelist=list(nodes), dtype=np.float64, **plain)
    return sp.csr_array(A), nodes


def _of_igraph(
    graph: Any, weighted: bool, at_least: float | None
) -> tuple[sp.csr_array, tuple[Any, ...]]:
    n = graph.vcount()
    if n == 0:
        raise ValueError("graph must have nodes, got none")
    nodes = tuple(graph.vs["name"]) if "name" in graph.vs.attributes() else tuple(range(n))
    edges = np.array(graph.get_edgelist(), dtype=np.int64).reshape(-1, 2)
    carried = "weight" in graph.es.attributes()
    if weighted and not carried and len(edges) and not graph.has_multiple():
        raise ValueError(
            "graph has no 'weight' on its edges; edges carry "
            f"{', '.join(map(repr, graph.es.attributes())) or 'nothing'}"
        )
    weight = np.ones(len(edges))
    if carried and (weighted or at_least is not None):
        try:
            weight = np.array(graph.es["weight"], dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"graph must have numbers as weights: {error}") from error
    elif carried:
        _weights_left_out(_numbers(graph.es["weight"]))
    if not weighted and at_least is None and graph.has_multiple():
        ends = edges if graph.is_directed() else np.sort(edges, axis=1)
        _tell_parallel(len(edges), len(np.unique(np.sort(edges, axis=1), axis=0)))
        edges = np.unique(ends, axis=0)
        weight = np.ones(len(edges))
    A = sp.csr_array(sp.coo_array((weight, (edges[:, 0], edges[:, 1])), shape=(n, n)))
    loops = A.diagonal()
    return (A if graph.is_directed() else sp.csr_array(A + A.T - sp.diags_array(loops))), nodes


def _tell_parallel(edges: int, pairs: int) -> None:
    if edges > pairs:
        warnings.warn(
            f"graph has parallel edges: {edges:,} over {pairs:,} pairs, each pair counted once; "
            "weighted=True adds them up, at_least= asks for several",
            stacklevel=6,
        )


def _refuse_directed(A: sp.csr_array) -> None:
    scale = np.abs(A.data).max(initial=0)
    if abs(A - A.T).max() <= 1e-10 * scale:
        return
    there = sp.csr_array((np.ones(A.nnz), A.indices, A.indptr), shape=A.shape)
    both = there + there.T
    pairs = sp.triu(both, 1).nnz
    one_way = int((sp.triu(both, 1).data == 1).sum())
    what = (
        f"{one_way:,} of {pairs:,} pairs appear in one direction only"
        if one_way
        else "some pairs carry different weights in the two directions"
    )
    raise ValueError(
        f"graph must be undirected: {what}; --undirected, graph.to_undirected() or A + A.T joins "
        "both directions"
    )


def own_labels(leaves: Any, nodes: tuple[Any, ...]) -> np.ndarray:
    """The user's labels as whole numbers, -1 for nodes outside of all communities.

    Parameters
    ----------
    leaves : sequence or mapping
        Whole numbers or text, one a node in the order of `nodes`, or from node to label. -1, as a
        number or as text, is outside.
    nodes : tuple
        Names of the nodes.
    """
    if hasattr(leaves, "index") and hasattr(leaves, "to_dict") and set(leaves.index) == set(nodes):
        if not leaves.index.is_unique:
            raise ValueError("leaves must name every node once")
        leaves = leaves.to_dict()  # a series of pandas goes by its index
    elif hasattr(leaves, "index") and hasattr(leaves, "to_dict"):
        raise ValueError(
            "leaves must have the names of the nodes as index; .to_numpy() goes by the order of nodes"
        )
    if isinstance(leaves, Mapping):
        if missing := [v for v in nodes if v not in leaves]:
            raise ValueError(f"leaves must name every node, {missing[0]!r} is missing")
        leaves = [leaves[v] for v in nodes]
    if isinstance(leaves, list | tuple) and len({isinstance(v, str) for v in leaves}) > 1:
        raise ValueError("leaves must hold either whole numbers or text, not both")
    values = np.asarray(leaves)
    if values.ndim != 1 or len(values) != len(nodes):
        raise ValueError(
            f"leaves must have {len(nodes)} entries, one a node, got shape {values.shape}"
        )
    if values.dtype.kind == "O" and all(isinstance(v, str) for v in values):
        values = values.astype(str)
    if values.dtype.kind == "U":
        outside = values == OUTSIDE
    elif values.dtype.kind in "iuf" and np.isfinite(values).all() and (values % 1 == 0).all():
        outside = values == -1
    else:
        raise ValueError("leaves must hold whole numbers or text, one label a node")
    if outside.all():
        raise ValueError("leaves must have a node that is not outside (-1)")
    labels = np.full(len(values), -1, dtype=np.int64)
    labels[~outside] = np.unique(values[~outside], return_inverse=True)[1]
    return labels


def split(A: sp.csr_array, f: float, rng: np.random.Generator) -> tuple[sp.csr_array, sp.csr_array]:
    """Training and test graph: each edge is held out with probability `f`, both directions at once."""
    upper = sp.coo_array(sp.triu(A, 1))
    out = rng.random(upper.nnz) < f
    parts = []
    for chosen in (~out, out):
        row, column = (c[chosen] for c in upper.coords)
        part = sp.coo_array((upper.data[chosen], (row, column)), shape=A.shape)
        parts.append(sp.csr_array(part + part.T))
    return parts[0], parts[1]
