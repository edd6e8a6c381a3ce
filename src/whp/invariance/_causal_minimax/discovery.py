"""A graph from half A, by CD-NOD: the environment is a variable, and its children are what changes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from whp.invariance._causal_minimax.coding import levels_of

__all__ = ["discovered_graph"]

MOST = 400  # rows of the kernel test, which costs their cube
LEVEL = 0.05


def discovered_graph(
    table: pd.DataFrame,
    target: str,
    names: Sequence[str],
    env: str | None,
    rng: np.random.Generator,
) -> tuple[nx.DiGraph, list[str]]:
    """A directed graph over target and covariates, and the children of the environment.

    Raises
    ------
    ModuleNotFoundError
        If causal-learn is not installed.
    ValueError
        If an edge that touches the target or a child of the environment has no direction.
    """
    try:
        module: Any = import_module("causallearn.search.ConstraintBased.CDNOD")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "graph: to discover one needs causal-learn (pip install 'whp[causal]'); or give a graph"
        ) from error
    assert env is not None
    part = _stratified(table, env, rng)
    nodes = [target, *names]
    columns = [
        part[c].to_numpy(float)
        if pd.api.types.is_numeric_dtype(part[c])
        else levels_of(part[c]).get_indexer(pd.Index(part[c])).astype(float)
        for c in nodes
    ]
    context = np.unique(part[env].astype(str), return_inverse=True)[1].reshape(-1, 1)
    found = module.cdnod(np.column_stack(columns), context, LEVEL, "kci", show_progress=False)
    return oriented(np.asarray(found.G.graph), nodes, target)


def oriented(matrix: np.ndarray, nodes: Sequence[str], target: str) -> tuple[nx.DiGraph, list[str]]:
    """The graph of causal-learn's matrix: i → j where entry (j, i) is 1 and (i, j) is −1; the last node is the environment."""
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    last = len(nodes)
    children = [nodes[i] for i in range(last) if matrix[i, last] == 1 and matrix[last, i] == -1]
    loose = []
    for i in range(last):
        for j in range(last):
            if matrix[j, i] == 1 and matrix[i, j] == -1:
                graph.add_edge(nodes[i], nodes[j])
            elif i < j and matrix[i, j] == -1 and matrix[j, i] == -1:
                loose.append((nodes[i], nodes[j]))
    bad = [f"{a!r} - {b!r}" for a, b in loose if {a, b} & {target, *children}]
    if bad:
        raise ValueError(
            f"graph: the discovered one has no direction for {', '.join(bad)}, which touch the target or a "
            "mutable variable; give a graph"
        )
    for (
        a,
        b,
    ) in loose:  # none of them matters to the target's own neighbourhood: any way without a cycle
        graph.add_edge(a, b) if not nx.has_path(graph, b, a) else graph.add_edge(b, a)
    return graph, [c for c in children if c != target]


def _stratified(table: pd.DataFrame, env: str, rng: np.random.Generator) -> pd.DataFrame:
    """At most 400 rows, of each environment as many."""
    if len(table) <= MOST:
        return table
    groups = table.groupby(env, sort=True).indices
    each = max(1, MOST // len(groups))
    rows = [rng.permutation(g)[:each] for g in groups.values()]
    return table.iloc[np.sort(np.concatenate(rows))]
