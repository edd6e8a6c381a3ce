"""What is run: tree models, contacts in schools, power grids."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
from sklearn.metrics import adjusted_mutual_info_score as ami
from sklearn.metrics import adjusted_rand_score

from whp.datasets.graph_models import block_model, btsbm_densities, path_of_powers
from whp.datasets.graphs import power_grid, primary_school, thiers_high_school
from whp.datasets.packaged import available
from whp.experiment.study import Study
from whp.graph import HierarchicalCommunitiesResult, btsbm_threshold, hierarchical_communities
from whp.peers import communities

__all__ = ["GRIDS", "SWEEP", "THRESHOLDS", "study"]

GRIDS = ("case300", "case1354pegase", "case2869pegase")
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"refine": 0},
    "refined": {"refine": 1},
    "top-down": {"method": "top-down"},
}
SWEEP = (4, 6, 8, 10, 12, 15, 18)  # a of the geometric model; I_1 = 0.110 a at β = 0.3
THRESHOLDS = (1, 2, 4, 8)
MODELS = {"quick": 3, "standard": 20, "full": 200}
REAL = {"quick": 2, "standard": 10, "full": 50}
Row = dict[str, Any]

study = Study("hierarchical-communities")


def _depth_one(levels: np.ndarray, rng: np.random.Generator) -> list[Row]:
    A, truth = block_model(btsbm_densities(levels), np.full(8, 100), rng)
    rows = []
    for way, options in WAYS.items():
        result = hierarchical_communities(A, 8, holdout=0, rng=rng, **options)
        half = result.cut_depth(1) if way == "top-down" else result.cut(2)
        top, leaf = float(ami(truth // 4, half)), float(ami(truth, result.labels))
        rows.append({"way": way, "top": top, "leaf": leaf})
    return rows


@study.experiment(seeds=MODELS, p0=(0.018, 0.014))
def close_root(config: Row, rng: np.random.Generator) -> list[Row]:
    """Where the density at the root is close to the next one."""
    return _depth_one(np.array([config["p0"], 0.02, 0.04, 0.16]), rng)


@study.experiment(seeds=MODELS, grid=[{"a": 12, "beta": 0.5}, {"a": 8, "beta": 0.3}])
def geometric(config: Row, rng: np.random.Generator) -> list[Row]:
    """Densities that fall by a factor a level."""
    return _depth_one(path_of_powers(config["a"], config["beta"], 3, 800), rng)


@study.experiment(
    seeds=MODELS,
    n=(800, 1600, 3200),
    a=SWEEP,
    quick={"n": (400, 800)},
    full={"n": (800, 3200, 12800)},
)
def threshold(config: Row, rng: np.random.Generator) -> Row:
    """Whether the two halves are recovered without error, over the divergence."""
    n = config["n"]
    levels = path_of_powers(config["a"], 0.3, 3, n)
    A, truth = block_model(btsbm_densities(levels), np.full(8, n // 8), rng)
    half = hierarchical_communities(A, 8, holdout=0, rng=rng).cut(2)
    right = adjusted_rand_score(truth // 4, half) == 1.0
    divergence = btsbm_threshold(levels * n / math.log(n), 1)
    return {"way": "refined", "divergence": divergence, "exact": bool(right)}


def _inversions(graph: Any, rng: np.random.Generator, k: int | None = None) -> list[Row]:
    rows = []
    for way in ("refined", "top-down"):
        result = hierarchical_communities(graph, k, holdout=0, rng=rng, **WAYS[way])
        inner = max(result.n_communities - 2, 0)
        rows.append({"way": way, "inversions": result.inversions, "inner": inner})
    return rows


@study.experiment(seeds=MODELS)
def ternary(config: Row, rng: np.random.Generator) -> list[Row]:
    """Inversions where each merge has three children."""
    a = np.arange(9)
    p = np.where(a[:, None] == a, 0.32, np.where(a[:, None] // 3 == a // 3, 0.08, 0.02))
    return _inversions(block_model(p, np.full(9, 60), rng)[0], rng, 9)


@study.experiment(seeds=REAL, data=GRIDS, quick={"data": GRIDS[:2]})
def grid(config: Row, rng: np.random.Generator) -> list[Row]:
    """Inversions in trees of power grids."""
    return _inversions(power_grid(config["data"]), rng)


def _peers(A: Any, k: int, coarse: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Leaves and coarse labels of the installed peers; Paris and walktrap are told both numbers."""
    labels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    if available("sknetwork"):
        calls = {"Paris": communities.paris, "LouvainIteration": communities.louvain_iteration}
        for name, call in calls.items():
            D = call(A)
            labels[name] = communities.cut(D, k), communities.cut(D, coarse)
    if available("leidenalg") and available("igraph"):
        n, edges = A.shape[0], communities.edges_of(A)
        flat = communities.leiden(n, edges)
        labels["Leiden"] = flat, flat
        walks = [communities.walktrap(n, edges, count) for count in (k, coarse)]
        labels["walktrap"] = walks[0], walks[1]
    return labels


@study.experiment(
    seeds=REAL,
    grid=[
        *({"data": "primary", "least": least} for least in THRESHOLDS),
        {"data": "thiers", "least": 1},
    ],
)
def school(config: Row, rng: np.random.Generator) -> list[Row]:
    """Classes and grades out of contacts."""
    primary = config["data"] == "primary"
    graph = (primary_school if primary else thiers_high_school)(config["least"])
    groups = [graph.nodes[v]["group"] for v in graph]
    grades = [g[0] for g in groups] if primary else groups
    coarse = len(set(grades))
    rows = []
    for way, options in WAYS.items():
        result = hierarchical_communities(graph, holdout=0, rng=rng, **options)
        cuts = [result.cut(min(coarse, result.n_communities))]
        if way == "top-down":  # the best depth, chosen with the truth in hand
            cuts = [result.cut_depth(depth) for depth in range(1, result.n_communities)]
        grade = max(float(ami(grades, cut)) for cut in cuts)
        leaf = float(ami(groups, result.labels))
        rows.append({"way": way, "communities": result.n_communities, "leaf": leaf, "grade": grade})
    A = communities.int32_csr(nx.to_scipy_sparse_array(graph, dtype=np.float64))
    for way, (fine, cut) in _peers(A, len(set(groups)), coarse).items():
        leaf, grade = float(ami(groups, fine)), float(ami(grades, cut))
        found = len(np.unique(fine))
        rows.append({"way": way, "communities": found, "leaf": leaf, "grade": grade})
    return rows


def _support(way: str, result: HierarchicalCommunitiesResult) -> Row:
    inner = result.supported[result.n_communities :]
    row: Row = {
        "way": way,
        "communities": result.n_communities,
        "leaves_supported": int(result.supported.sum() - inner.sum()),
        "inner_supported": int(inner.sum()),
        "inner": len(inner),
    }
    for c in result.certificates:
        row |= {f"verdict_{c.name}": str(c.verdict), f"tightness_{c.name}": c.tightness}
    return row


@study.experiment(seeds=REAL)
def school_support(config: Row, rng: np.random.Generator) -> Row:
    """Which branches of the primary school held-out contacts support."""
    return _support("refined", hierarchical_communities(primary_school(4), rng=rng))


@study.experiment(seeds={"quick": 4, "standard": 40, "full": 200})
def support(config: Row, rng: np.random.Generator) -> list[Row]:
    """Which branches of a tree model are supported, with the right and a wrong number of leaves."""
    p = btsbm_densities(path_of_powers(16, 0.3, 3, 800))
    A, _ = block_model(p, np.full(8, 100), rng)
    return [
        _support("estimated", hierarchical_communities(A, rng=rng)),
        _support("forced", hierarchical_communities(A, 12, rng=rng)),
    ]
