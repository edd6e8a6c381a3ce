"""Class search against brute force by networkx, and the sizes that users have."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np

from whp.experiment.benchmark import Case, Target
from whp.invariance import causal_minimax, stable_classes
from whp.peers.minimax import BOOSTING, CDNOD, NETWORKX, OFFICIAL
from whp.studies.causal_minimax.experiments import (
    BINS,
    FLIGHTS,
    SIMULATION,
    flights_table,
    simulated,
)

MUTABLE = ["X9", "X10"]


def graph() -> dict[str, Any]:
    return {"graph": SIMULATION, "mutable": MUTABLE}


def chain() -> dict[str, Any]:
    return {
        "graph": nx.DiGraph([("Y" if i == 0 else f"A{i}", f"A{i + 1}") for i in range(60)]),
        "mutable": [],
    }


def flown() -> dict[str, Any]:
    table = flights_table()
    return {
        "table": table,
        "X": table.drop(columns="late").to_numpy(float),
        "y": table["late"].to_numpy(float),
    }


def on_flights(data: dict[str, Any]) -> Any:
    return causal_minimax(data["table"], FLIGHTS, target="late", mutable="speed", bins=BINS, rng=0)


def environments() -> dict[str, Any]:
    table = simulated(np.random.default_rng(0), 100, [e - 4.5 for e in range(10)])
    X = table.drop(columns="env").to_numpy()
    return {"table": table, "X": X, "context": table[["env"]].to_numpy(float)}


def classes(data: dict[str, Any]) -> Any:
    return stable_classes(data["graph"], "Y", data["mutable"])


CASES = [
    Case(
        name="45 classes of the simulation's 256 subsets",
        setup=graph,
        ours=classes,
        peers=[NETWORKX.on(lambda data: (data["graph"], "Y", data["mutable"])), OFFICIAL],
        repeats=5,
        target=(Target(NETWORKX.name, 0.2), Target(seconds=0.01)),
    ),
    Case(
        name="a chain of 60 nodes", setup=chain, ours=classes, repeats=3, target=Target(seconds=1.0)
    ),
    Case(
        name="327,346 flights, eight subsets, with tests and certificates",
        setup=flown,
        ours=on_flights,
        peers=[BOOSTING.on(lambda data: (data["X"], data["y"]))],
        repeats=3,
        target=Target(seconds=1.5),
        note="The peer is one fit without a worst case.",
    ),
    Case(
        name="1,000 rows of ten environments, 45 classes by regression",
        setup=environments,
        ours=lambda data: causal_minimax(
            data["table"], SIMULATION, target="Y", mutable=MUTABLE, env="env", rng=0
        ),
        peers=[CDNOD.on(lambda data: (data["X"], data["context"]))],
        repeats=1,
        target=Target(seconds=120.0),
        note="The peer discovers the graph, which ours is given; it predicts nothing.",
    ),
]
