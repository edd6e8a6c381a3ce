"""Groupwise online regression against river, and online shortest paths."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.datasets.tables import census_groups
from whp.experiment.benchmark import Case, Peer, Target
from whp.online import (
    GroupwiseRegressor,
    GroupwiseShortestPath,
    OnlineRidge,
    grid,
    groupwise_regret,
)
from whp.peers.online import RIVER, RIVER_BY_GROUP


def adults(rows: int) -> Any:
    def setup() -> dict[str, Any]:
        X, y, groups = census_groups()
        chosen = np.random.default_rng(0).permutation(len(X))[:rows]
        A, flags = (
            X.to_numpy(dtype=np.float64)[chosen],
            groups.assign(everyone=True).to_numpy()[chosen],
        )
        table = [dict(zip(X.columns, r, strict=True)) for r in A.tolist()]
        return {
            "X": A,
            "y": y.to_numpy()[chosen],
            "G": flags,
            "rows": table,
            "names": [*groups.columns, "everyone"],
        }

    return setup


def block(data: dict[str, Any]) -> Any:
    return groupwise_regret(data["X"], data["y"], data["G"], target_range=(0, 1)).certificates


def one_by_one(data: dict[str, Any]) -> Any:
    model = GroupwiseRegressor(target_range=(0, 1), fit_intercept=False)
    for x, y, g in zip(data["rows"], data["y"].tolist(), data["G"][:, :-1], strict=True):
        model.learn_one(x, y, g)


def rows(data: dict[str, Any]) -> tuple[Any, Any]:
    return data["rows"], data["y"].tolist()


GLOBAL = [peer.on(rows) for peer in RIVER.values()]
BY_GROUP = RIVER_BY_GROUP.on(lambda data: (*rows(data), data["G"]))


def many_groups() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "X": rng.random((100_000, 10)),
        "y": rng.random(100_000),
        "G": rng.random((100_000, 200)) < 0.05,
        "names": [f"group {g}" for g in range(200)],
    }


def single(data: dict[str, Any]) -> Any:
    learner = OnlineRidge(data["X"].shape[1])
    for x, y in zip(data["X"][:5000], data["y"][:5000].tolist(), strict=True):
        learner.predict_one(x)
        learner.learn_one(x, y)


def paths(groups: int) -> Any:
    def work(costs: np.ndarray) -> Any:
        learner = GroupwiseShortestPath(grid(5, 5), (0, 0), (4, 4), groups, random_state=0)
        for c in costs:
            learner.choose([True] * groups)
            learner.update(c)

    return work


def networkx_paths(costs: np.ndarray) -> Any:
    """The shortest path of each round alone, nothing learnt."""
    import networkx as nx

    graph = grid(5, 5)
    edges = list(graph.edges())
    for c in costs:
        for edge, value in zip(edges, c.tolist(), strict=True):
            graph.edges[edge]["weight"] = value
        nx.bellman_ford_path(graph, (0, 0), (4, 4))


CASES = [
    Case(
        name="census, 6,000 rows of 43 features, 13 groups, with certificates",
        setup=adults(6000),
        ours=block,
        peers=[*GLOBAL, BY_GROUP],
        repeats=3,
        target=Target(RIVER_BY_GROUP.name, 0.05),
    ),
    Case(
        name="the same row by row from dictionaries, 2,000 rows",
        setup=adults(2000),
        ours=one_by_one,
        peers=[BY_GROUP, RIVER["Bayesian"].on(rows)],
        repeats=3,
        target=Target(seconds=0.12),
        note="60 µs a row.",
    ),
    Case(
        name="100,000 rows, 10 features, 200 overlapping groups",
        setup=many_groups,
        ours=block,
        peers=[Peer("own single ridge, 5,000 rows by hand", single)],
        repeats=3,
        target=Target(seconds=3.0),
    ),
    Case(
        name="1,000 rounds on the 5×5 grid, three groups",
        setup=lambda: np.random.default_rng(0).random((1000, 40)),
        ours=paths(3),
        peers=[
            Peer("networkx Bellman-Ford, one path a round, nothing learnt", networkx_paths),
            Peer("own, one group", paths(1)),
        ],
        repeats=3,
    ),
]
