"""Trees of communities against Paris, Louvain, Leiden and recursive bisection."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from whp.datasets.graph_models import block_model, btsbm_densities, path_of_powers
from whp.experiment.benchmark import Case, Foreign
from whp.graph._hierarchical_communities import hierarchical_communities


def problem(n: int, depth: int, a: int) -> Any:
    def setup() -> dict[str, Any]:
        p = btsbm_densities(path_of_powers(a, 0.3, depth, n))
        A, _ = block_model(p, np.full(2**depth, n // 2**depth), np.random.default_rng(0))
        csr = sp.csr_matrix(A)
        csr.indices, csr.indptr = csr.indices.astype(np.int32), csr.indptr.astype(np.int32)
        return {"A": A, "csr": csr, "edges": np.column_stack(sp.coo_array(sp.triu(A, 1)).coords)}

    return setup


def ours(data: dict[str, Any]) -> Any:
    return hierarchical_communities(data["A"], holdout=0, rng=0)


def tested(data: dict[str, Any]) -> Any:
    return hierarchical_communities(data["A"], rng=0)


def top_down(data: dict[str, Any]) -> Any:
    return hierarchical_communities(data["A"], method="top-down", holdout=0, rng=0)


def paris(data: dict[str, Any]) -> Any:
    from sknetwork.hierarchy import Paris

    return Paris().fit_predict(data["csr"])


def louvain(data: dict[str, Any]) -> Any:
    from sknetwork.hierarchy import LouvainIteration

    return LouvainIteration().fit_predict(data["csr"])


def leiden(data: dict[str, Any]) -> Any:
    import igraph
    import leidenalg

    graph = igraph.Graph(n=data["A"].shape[0], edges=data["edges"])
    return leidenalg.find_partition(graph, leidenalg.ModularityVertexPartition, seed=0)


GRASPOLOGIC = Foreign(
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
)

PEERS = {
    "scikit-network Paris": paris,
    "scikit-network LouvainIteration": louvain,
    "leidenalg (flat)": leiden,
    "top-down (ours)": top_down,
}

CASES = [
    Case(
        name="n = 3,200, 16 communities",
        setup=problem(3200, 4, 16),
        ours=ours,
        peers={**PEERS, "graspologic hierarchical_leiden": GRASPOLOGIC},
        repeats=5,
        note="The number of communities is estimated.",
    ),
    Case(
        name="n = 3,200, branches tested",
        setup=problem(3200, 4, 16),
        ours=tested,
        peers={"scikit-network Paris": paris, "leidenalg (flat)": leiden},
        repeats=5,
        note="The default: a fifth of the edges is held out. No peer tests its branches.",
    ),
    Case(
        name="n = 20,000, 32 communities",
        setup=problem(20000, 5, 60),
        ours=ours,
        peers=PEERS,
        repeats=3,
        target="≤ 0.5 × Paris and ≤ 1 × Leiden",
        note="About 300,000 edges; most of the time is spent on eigenvectors.",
    ),
]
