"""What is run: streams with groups against one global model, shortest paths, and peers."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from whp.experiment.study import Study
from whp.online import GroupwiseShortestPath, grid, groupwise_regret
from whp.peers.online import finite_class, river_pass

__all__ = ["study", "synthetic_stream"]

Row = dict[str, Any]
SEEDS = {"quick": 3, "standard": 20, "full": 50}

study = Study("groupwise-regret")


@lru_cache(maxsize=1)
def _adults() -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    from whp.datasets.tables import census_groups

    X, y, groups = census_groups()
    return X.to_numpy(dtype=np.float64), y.to_numpy(dtype=np.float64), groups


@lru_cache(maxsize=1)
def _patients() -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    from whp.datasets.tables import medical_costs

    X, y, groups = medical_costs()
    return X.to_numpy(dtype=np.float64), y.to_numpy(dtype=np.float64), groups


def _report(X: np.ndarray, y: np.ndarray, groups: pd.DataFrame) -> list[Row]:
    """A row a group: regret of ours, of one global model, of the average of learners; certificate."""
    result = groupwise_regret(X, y, groups, target_range=(0, 1))
    rows = []
    for certificate, row in zip(result.certificates, result.report.to_dict("records"), strict=True):
        rows.append(
            {
                "group": row["group"],
                "size": row["rounds"],
                "ours": row["regret"],
                "global": row["global_regret"],
                "gain": row["global_regret"] - row["regret"],
                "average": row["average"] - row["best"],
                "bound": row["bound"],
                "loss": row["loss"],
                "verdict_regret": str(certificate.verdict),
                "tightness_regret": certificate.tightness,
            }
        )
    return rows


@study.experiment(seeds=SEEDS, grid=lambda scale: [{"indicators": True, "order": "shuffled"}])
def census(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Income of 32,561 adults, memberships among the features, in random order."""
    X, y, groups = _adults()
    rows = np.column_stack([X, groups.to_numpy(dtype=np.float64)])
    chosen = rng.permutation(len(X))
    return _report(rows[chosen], y[chosen], groups.iloc[chosen])


@study.experiment(seeds=1, order=("given", "by age"))
def census_in_order(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """The same without memberships among the features, in the file's order or sorted by age."""
    X, y, groups = _adults()
    by_age = config["order"] == "by age"
    chosen = np.argsort(X[:, 0], kind="stable") if by_age else np.arange(len(X))
    return _report(X[chosen], y[chosen], groups.iloc[chosen])


@study.experiment(seeds=SEEDS)
def medical(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Drug expenses of 10,391 people over 65."""
    X, y, groups = _patients()
    chosen = rng.permutation(len(X))
    return _report(X[chosen], y[chosen], groups.iloc[chosen])


def synthetic_stream(label: str, T: int) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """The paper's synthetic stream: three shapes and two colours, each with linear labels."""
    rng = np.random.default_rng(21)
    shape, colour = rng.choice(3, T, p=[0.5, 0.3, 0.2]), rng.choice(2, T, p=[0.6, 0.4])
    flags = {
        "circle": shape == 0,
        "square": shape == 1,
        "triangle": shape == 2,
        "red": colour == 0,
        "green": colour == 1,
    }
    X, weights = rng.random((T, 20)), rng.random((20, 5))
    linear = X @ weights + 0.16 * rng.standard_normal((T, 5))
    active = np.column_stack(list(flags.values()))
    if label == "mean":
        y = np.where(active, linear, 0).sum(axis=1) / active.sum(axis=1)
    else:
        y = np.where(active, linear, np.inf).min(axis=1)
    return np.column_stack([X, active]), (y - y.min()) / (y.max() - y.min()), pd.DataFrame(flags)


@study.experiment(
    seeds=SEEDS,
    label=("mean", "min"),
    rounds=20_000,
    full={"label": ("mean", "min"), "rounds": 100_000},
)
def synthetic(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """The paper's synthetic stream in random order."""
    X, y, groups = synthetic_stream(config["label"], config["rounds"])
    chosen = rng.permutation(len(X))
    return _report(X[chosen], y[chosen], groups.iloc[chosen])


@study.experiment(seeds=SEEDS, groups=(4, 8, 16, 32))
def cost(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Seconds at four numbers of groups; the fastest of three, since other work only adds."""
    X, y, G = rng.random((4000, 30)), rng.random(4000), rng.random((4000, config["groups"])) < 0.5
    groupwise_regret(X[:5], y[:5], G[:5], target_range=(0, 1))
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        groupwise_regret(X, y, G, target_range=(0, 1))
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds)}


@study.experiment(seeds=SEEDS, rounds=3000, quick={"rounds": 500})
def paths(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Two complementary groups and everyone on a 5×5 grid, Bernoulli costs with means of the group."""
    T, model = config["rounds"], np.random.default_rng(5)
    means = model.random((2, 40))
    first = model.random(T) < 0.3
    active = np.column_stack([first, ~first, np.ones(T, dtype=bool)])
    costs = (model.random((T, 40)) < means[np.where(first, 0, 1)]) * 1.0
    ours = GroupwiseShortestPath(grid(5, 5), (0, 0), (4, 4), 3, random_state=rng)
    alone = GroupwiseShortestPath(grid(5, 5), (0, 0), (4, 4), 1, random_state=rng)
    theirs = np.zeros(3)
    for c, a in zip(costs, active, strict=True):
        ours.choose(a)
        ours.update(c)
        alone.choose([True])
        theirs[a] += alone.update(c) / alone.K
    regret, bound, best = ours.regret(), ours.bound(), ours.best()
    return [
        {
            "group": name,
            "ours": float(regret[g]),
            "global": float(theirs[g] - best[g]),
            "gain": float(theirs[g] - best[g] - regret[g]),
            "bound": float(bound[g]),
            "share": float(regret[g] / bound[g]),
        }
        for g, name in enumerate(("group of 0.3", "group of 0.7", "everyone"))
    ]


@study.experiment(seeds={"quick": 2, "standard": 5, "full": 20}, rows=6000, quick={"rows": 2000})
def peers(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Squared errors of one pass over the census: ours, river's models, a finite class."""
    X, y, groups = _adults()
    chosen = rng.permutation(len(X))[: config["rows"]]
    rows, target = X[chosen], y[chosen]
    flags = groups.iloc[chosen].assign(everyone=True)
    active = flags.to_numpy()
    losses = {"ours": groupwise_regret(rows, target, flags, target_range=(0, 1)).losses}
    table = [{str(k): v for k, v in enumerate(r) if v} for r in rows.tolist()]
    for kind in ("SGD", "AdaGrad", "Bayesian"):
        losses[f"river {kind}"] = river_pass(kind, table, target.tolist())
    losses["finite class"] = finite_class(rows, target, active)
    return [
        {
            "peer": name,
            "group": group,
            "loss": float(errors[active[:, g]].sum()),
            "ratio": float(losses["ours"][active[:, g]].sum() / errors[active[:, g]].sum()),
        }
        for name, errors in losses.items()
        for g, group in enumerate(flags.columns)
    ]
