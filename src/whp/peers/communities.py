"""Communities and trees of communities by other libraries; graphs come as sparse symmetric adjacency matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from whp.experiment.benchmark import Foreign, Peer

__all__ = [
    "GRASPOLOGIC",
    "LEIDEN",
    "LOUVAIN",
    "PARIS",
    "cut",
    "edges_of",
    "int32_csr",
    "leiden",
    "louvain_iteration",
    "paris",
    "walktrap",
]


def int32_csr(A: Any) -> sp.csr_matrix:
    """The matrix as scikit-network takes it: csr with 32-bit indices."""
    csr = sp.csr_matrix(A, dtype=np.float64)
    csr.indices, csr.indptr = csr.indices.astype(np.int32), csr.indptr.astype(np.int32)
    return csr


def edges_of(A: Any) -> np.ndarray:
    """Edges (i, j) with i < j of an adjacency matrix, shape (m, 2)."""
    return np.column_stack(sp.coo_array(sp.triu(A, 1)).coords)


def paris(csr: sp.csr_matrix) -> np.ndarray:
    """Dendrogram by Paris."""
    from sknetwork.hierarchy import Paris

    return Paris().fit_predict(csr)


def louvain_iteration(csr: sp.csr_matrix) -> np.ndarray:
    """Dendrogram by repeated Louvain."""
    from sknetwork.hierarchy import LouvainIteration

    return LouvainIteration().fit_predict(csr)


def cut(dendrogram: np.ndarray, communities: int) -> np.ndarray:
    """Labels of a dendrogram cut to a number of communities."""
    from sknetwork.hierarchy import cut_straight

    return cut_straight(dendrogram, n_clusters=communities)


def leiden(n: int, edges: np.ndarray) -> np.ndarray:
    """Flat communities of greatest modularity."""
    import igraph
    import leidenalg

    graph = igraph.Graph(n=n, edges=edges)
    partition = leidenalg.find_partition(graph, leidenalg.ModularityVertexPartition, seed=0)
    return np.array(partition.membership)


def walktrap(n: int, edges: np.ndarray, communities: int) -> np.ndarray:
    """Labels of random walks' dendrogram cut to a number of communities."""
    import igraph

    walks = igraph.Graph(n=n, edges=edges).community_walktrap()
    return np.array(walks.as_clustering(communities).membership)


PARIS = Peer("scikit-network Paris", paris, "scikit-network>=0.33")
LOUVAIN = Peer("scikit-network LouvainIteration", louvain_iteration, "scikit-network>=0.33")
LEIDEN = Peer("leidenalg (flat)", leiden, "leidenalg>=0.10")
GRASPOLOGIC = Peer(
    "graspologic hierarchical_leiden",
    Foreign(
        requirements="graspologic==3.4.4\n",
        script="""
import json, sys, time
import numpy as np
from graspologic.partition import hierarchical_leiden
edges = [(str(i), str(j), 1.0) for i, j in np.load(sys.argv[1])["edges"].tolist()]
for _ in sys.stdin:
    start = time.perf_counter()
    hierarchical_leiden(edges, random_seed=1)
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
""",
        arrays=lambda data: {"edges": data["edges"]},
    ),
    "graspologic==3.4.4",
)
