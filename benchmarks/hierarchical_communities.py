"""Trees of communities against Paris, Louvain, Leiden and recursive bisection."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.datasets.graph_models import block_model, btsbm_densities, path_of_powers
from whp.experiment.benchmark import Case, Peer, Target
from whp.graph._hierarchical_communities import hierarchical_communities
from whp.peers import communities


def problem(n: int, depth: int, a: int) -> Any:
    def setup() -> dict[str, Any]:
        p = btsbm_densities(path_of_powers(a, 0.3, depth, n))
        A, _ = block_model(p, np.full(2**depth, n // 2**depth), np.random.default_rng(0))
        return {"A": A, "csr": communities.int32_csr(A), "edges": communities.edges_of(A)}

    return setup


def ours(data: dict[str, Any]) -> Any:
    return hierarchical_communities(data["A"], holdout=0, rng=0)


def tested(data: dict[str, Any]) -> Any:
    return hierarchical_communities(data["A"], rng=0)


def top_down(data: dict[str, Any]) -> Any:
    return hierarchical_communities(data["A"], method="top-down", holdout=0, rng=0)


PARIS, LOUVAIN = (
    peer.on(lambda data: (data["csr"],)) for peer in (communities.PARIS, communities.LOUVAIN)
)
LEIDEN = communities.LEIDEN.on(lambda data: (data["A"].shape[0], data["edges"]))
PEERS = (PARIS, LOUVAIN, LEIDEN, Peer("top-down (ours)", top_down))

CASES = [
    Case(
        name="n = 3,200, 16 communities",
        setup=problem(3200, 4, 16),
        ours=ours,
        peers=(*PEERS, communities.GRASPOLOGIC),
        repeats=5,
        note="The number of communities is estimated.",
    ),
    Case(
        name="n = 3,200, branches tested",
        setup=problem(3200, 4, 16),
        ours=tested,
        peers=(PARIS, LEIDEN),
        repeats=5,
        note="The default: a fifth of the edges is held out. No peer tests its branches.",
    ),
    Case(
        name="n = 20,000, 32 communities",
        setup=problem(20000, 5, 60),
        ours=ours,
        peers=PEERS,
        repeats=3,
        target=(Target(PARIS.name, 0.5), Target(LEIDEN.name, 1.0)),
        note="About 300,000 edges; most of the time is spent on eigenvectors.",
    ),
]
