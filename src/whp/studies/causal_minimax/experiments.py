"""What is run: the paper's theorem on random models, its simulation with baselines, and flights."""

from __future__ import annotations

import time
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from whp.datasets.tables import late_flights
from whp.experiment.study import Study
from whp.invariance import (
    MinimaxResult,
    causal_minimax,
    minimal_representative,
    minimax_of_model,
    stable_classes,
    worst_case_risk,
)
from whp.invariance._causal_minimax.regression import regressor
from whp.peers.minimax import anchor_predictions, icp_subset, invariant_predictions
from whp.studies.causal_minimax.laws import best_prediction, random_law
from whp.studies.causal_minimax.worlds import as_model, subsets, surprising

__all__ = ["BINS", "FLIGHTS", "SIMULATION", "flights_table", "simulated", "study"]

Row = dict[str, Any]
study = Study("causal-minimax")

SIMULATION = nx.DiGraph(
    [
        *(("Y", v) for v in ("X9", "X1")),
        *(("X6", v) for v in ("X5", "X1")),
        *((v, "X1") for v in ("X9", "X5")),
        *(("X1", "X3"), ("X3", "X2"), ("X8", "X2"), ("X8", "X7")),
        *((v, "X4") for v in ("X2", "X7", "X8")),
        *((v, "X10") for v in ("X5", "X3", "X8")),
    ]
)
STABLE = [f"X{i}" for i in range(1, 9)]
# A complete graph: with 327,346 rows distance and hour, or distance and lateness, are not independent.
FLIGHTS = nx.DiGraph(
    [
        *(("hour", v) for v in ("dist", "late", "speed", "arr")),
        *(("dist", v) for v in ("late", "speed", "arr")),
        *(("late", v) for v in ("speed", "arr")),
        ("speed", "arr"),
    ]
)
BINS = {
    "hour": [12, 17],
    "dist": [659, 1085],
    "speed": [1391 / 222, 762 / 107],
    "arr": [-15, 0, 15, 45],
}


def flights_table(
    columns: tuple[str, ...] = ("late", "hour", "dist", "speed", "arr"),
) -> pd.DataFrame:
    """Columns of the flights."""
    return late_flights()[list(columns)]


@study.experiment(seeds={"quick": 4, "standard": 25, "full": 100}, mutable=(1, 2))
def theorem(config: Row, rng: np.random.Generator) -> Row:
    """A hundred random models: how often is the whole set beaten, where the graph says no and where it does not?"""
    made = {"holds": 0, "violated": 0, "fails": 0, "beaten": 0, "worst_loss": 0.0}
    for _ in range(100):
        law, chosen = random_law(rng, int(rng.integers(4, 6)), config["mutable"])
        model = as_model(law, chosen)
        stable = [v for v in law.names if v != "Y" and v not in chosen]
        risks = [worst_case_risk(model, s) for s in subsets(stable)]
        whole = risks[-1]
        loss = whole - min(risks)
        if minimax_of_model(model).graph_condition.holds:
            made["holds"] += 1
            made["violated"] += loss > 1e-10
        else:
            made["fails"] += 1
            made["beaten"] += loss > 1e-10
            made["worst_loss"] = max(
                made["worst_loss"], loss / min(risks) if min(risks) > 1e-6 else 0.0
            )
    return {k: float(v) for k, v in made.items()}


@study.experiment(seeds=1)
def surprise(config: Row, rng: np.random.Generator) -> Row:
    """The whole stable set against nothing at all, in the surprising example."""
    model = as_model(surprising(0.8, 0.75), ("M",))
    whole, nothing = worst_case_risk(model, ["X"]), worst_case_risk(model, [])
    return {"whole": whole, "nothing": nothing, "ratio": whole / nothing}


@study.experiment(seeds=1)
def classes(config: Row, rng: np.random.Generator) -> list[Row]:
    """Numbers of classes of the simulation's graph, of chains and stars, and the time that it takes."""
    graphs = {
        "simulation": (SIMULATION, ["X9", "X10"], 45),
        **{f"chain {n}": (_chain(n), [], n + 1) for n in (5, 10, 60)},
        **{f"star {n}": (nx.DiGraph([("Y", f"A{i}") for i in range(n)]), [], 2**n) for n in (5, 8)},
    }
    rows = []
    for name, (graph, mutable, wanted) in graphs.items():
        start = time.perf_counter()
        found = len(stable_classes(graph, "Y", mutable))
        rows.append(
            {
                "graph": name,
                "found": found,
                "wanted": wanted,
                "right": found == wanted,
                "milliseconds": 1e3 * (time.perf_counter() - start),
            }
        )
    return rows


def _chain(n: int) -> nx.DiGraph:
    return nx.DiGraph([("Y" if i == 0 else f"A{i}", f"A{i + 1}") for i in range(n)])


@study.experiment(seeds={"quick": 2, "standard": 10, "full": 50})
def equivalence(config: Row, rng: np.random.Generator) -> Row:
    """Twenty random models: largest difference between predictions of members of one class."""
    worst = 0.0
    for _ in range(20):
        law, chosen = random_law(rng, 5, 1)
        reached = law.mass(chosen) > 0
        stable = [v for v in law.names if v != "Y" and v not in chosen]
        for subset in subsets(stable):
            other = minimal_representative(law.graph, "Y", list(chosen), subset)
            gap = best_prediction(law, subset, chosen) - best_prediction(law, sorted(other), chosen)
            worst = max(worst, float(np.abs(gap[reached]).max(initial=0.0)))
    return {"difference": worst}


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def simulated(rng: np.random.Generator, n: int, alphas: list[float]) -> pd.DataFrame:
    """The paper's simulation: an environment a value of α, which scales the mechanisms of X9 and X10."""
    parts = []
    for e, alpha in enumerate(alphas):
        noise = {v: rng.normal(0, 0.1, n) for v in ("Y", *(f"X{i}" for i in range(1, 11)))}
        t: dict[str, np.ndarray] = {"Y": noise["Y"], "X6": noise["X6"], "X8": noise["X8"]}
        t["X9"] = alpha * np.tanh(1.91 * t["Y"]) + noise["X9"]
        t["X5"] = _sigmoid(0.84 * t["X6"]) + noise["X5"]
        t["X1"] = (
            _sigmoid(0.63 * t["Y"] - 0.58 * t["X9"] + 1.51 * t["X6"] + 1.13 * t["X5"]) + noise["X1"]
        )
        t["X3"] = np.tanh(-0.95 * t["X1"]) + noise["X3"]
        t["X2"] = np.tanh(1.47 * t["X3"] - 0.64 * t["X8"]) + noise["X2"]
        t["X7"] = -1.52 * t["X8"] + noise["X7"]
        t["X4"] = _sigmoid(1.42 * t["X2"] + 0.99 * t["X7"] + 0.72 * t["X8"]) + noise["X4"]
        t["X10"] = alpha * np.tanh(-1.2 * t["X5"] + 1.33 * t["X3"] + 0.64 * t["X8"]) + noise["X10"]
        parts.append(pd.DataFrame(t).assign(env=e))
    return pd.concat(parts, ignore_index=True)


@study.experiment(seeds={"standard": 10, "full": 10})
def synthetic(config: Row, rng: np.random.Generator) -> list[Row]:
    """Largest error over ten unseen environments: ours and baselines, and the ranking of all classes."""
    from scipy.stats import spearmanr

    trained = set(rng.permutation(20)[:10].tolist())
    table = simulated(rng, 100, [e - 9.5 for e in range(20)])
    inside = table["env"].isin(trained)
    train, test = table[inside], table[~inside]
    made = causal_minimax(train, SIMULATION, target="Y", mutable=["X9", "X10"], env="env", rng=rng)
    largest = [_largest(test, p.predict(test)) for p in made.predictors]
    rank = float(spearmanr(made.table["worst_risk"], largest).statistic)
    return [
        {
            "method": name,
            "largest_error": _largest(test, f),
            "rank": rank if name == "ours" else None,
        }
        for name, f in _all_predictions(made, train, test).items()
    ]


def _largest(test: pd.DataFrame, prediction: np.ndarray) -> float:
    losses = (test["Y"] - prediction) ** 2
    return float(losses.groupby(test["env"]).mean().max())


def _all_predictions(
    made: MinimaxResult, train: pd.DataFrame, test: pd.DataFrame
) -> dict[str, np.ndarray]:
    every = [*STABLE, "X9", "X10"]

    def fitted(columns: list[str]) -> np.ndarray:
        if not columns:
            return np.full(len(test), float(train["Y"].mean()))
        return (
            regressor().fit(train[columns].to_numpy(), train["Y"]).predict(test[columns].to_numpy())
        )

    sizes = made.table["size"].to_numpy()
    found = {
        "ours": made.predict(test),
        "whole stable set": made.predictors[int(sizes.argmax())].predict(test),
        "ERM": fitted(every),
        "ERM on stable": fitted(STABLE),
        "ICP": fitted(icp_subset(train, "Y", every, "env")),
    }
    for gamma in (1.5, 7.0, 50.0):
        found[f"anchor {gamma:g}"] = anchor_predictions(train, test, "Y", every, "env", gamma)
    for penalty in ("IRM", "vREx"):
        found[penalty] = invariant_predictions(train, test, "Y", every, "env", penalty)
    return found


@study.experiment(seeds={"quick": 2, "standard": 10, "full": 20})
def flights(config: Row, rng: np.random.Generator) -> list[Row]:
    """Worst cases of all subsets of the flights' stable variables, ours and ERM's, and 200 random mechanisms."""
    table = flights_table()
    made = causal_minimax(table, FLIGHTS, target="late", mutable="speed", bins=BINS, rng=rng)
    rows = [
        {
            "subset": row["subset"] or "none",
            "ours": float(row["worst_risk"]),
            "erm": float(row["erm_worst_risk"]),
            "gain": 1 - float(row["worst_risk"]) / float(row["erm_worst_risk"]),
            "limit": float(row["upper_limit"]),
            "training": float(row["training_risk"]),
        }
        for row in made.table.to_dict("records")
    ]
    sample = table.iloc[rng.permutation(len(table))[:100_000]]
    losses = ((sample["late"] - made.predict(sample)) ** 2).to_numpy()
    cut = [np.digitize(sample[c], BINS[c]) for c in ("hour", "dist", "speed")]
    place = (sample["late"].to_numpy() * 3 + cut[0]) * 3 + cut[1]
    counted = np.bincount(place * 3 + cut[2], minlength=54).reshape(18, 3)
    share = counted / counted.sum(axis=1, keepdims=True)
    reweighted = np.array(
        [
            (losses * (rng.dirichlet(np.full(3, 0.2), 18) / share)[place, cut[2]]).mean()
            for _ in range(200)
        ]
    )
    risk = made.certificates[0]
    rows.append(
        {
            "subset": "chosen",
            "mechanisms": len(reweighted),
            "exceed": int((reweighted > made.upper_limit).sum()),
            "largest": float(reweighted.max()),
            "over_U": float(reweighted.max()) / made.upper_limit,
            "verdict": str(risk.verdict),
        }
    )
    return rows


@study.experiment(seeds={"quick": 1, "standard": 5, "full": 20}, env=("month", "carrier"))
def natural(config: Row, rng: np.random.Generator) -> Row:
    """Natural environments change more than the speed: what the certificate says, and the largest risk in one."""
    env = config["env"]
    table = flights_table(("late", "hour", "dist", "speed", "arr", env))
    made = causal_minimax(
        table, FLIGHTS, target="late", mutable="speed", bins=BINS, env=env, rng=rng
    )
    losses = (table["late"] - made.predict(table)) ** 2
    groups = losses.groupby(table[env])
    largest = float(groups.mean()[groups.size() >= 1000].max())
    return {
        "largest": largest,
        "worst_risk": made.worst_risk,
        "above": largest - made.worst_risk,
        "void": str(made.certificates[0].verdict) == "void",
    }
