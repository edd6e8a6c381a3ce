"""Predictors for other environments by other libraries and papers: ICP, anchor regression, IRM, vREx, CD-NOD."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import combinations
from typing import Any, Literal

import networkx as nx
import numpy as np
import pandas as pd

from whp.experiment.benchmark import Peer

__all__ = [
    "ANCHOR",
    "BOOSTING",
    "CDNOD",
    "ICP",
    "NETWORKX",
    "OFFICIAL",
    "anchor_predictions",
    "boosted",
    "brute_force_classes",
    "icp_subset",
    "invariant_predictions",
]

PENALTIES = tuple(10.0**k for k in range(6))


def icp_subset(train: pd.DataFrame, target: str, names: Sequence[str], env: str) -> list[str]:
    """Columns that invariant causal prediction takes for parents of the target, at 5 %."""
    icp: Any = import_module("causalicp")
    parts = [part[[*names, target]].to_numpy(float) for _, part in train.groupby(env)]
    found = icp.fit(parts, len(names), alpha=0.05, color=False)
    chosen = set() if found.estimate is None else found.estimate
    return [str(names[i]) for i in sorted(chosen)]


def anchor_predictions(
    train: pd.DataFrame,
    test: pd.DataFrame,
    target: str,
    names: Sequence[str],
    env: str,
    gamma: float,
) -> np.ndarray:
    """Anchor regression with a dummy an environment."""
    module: Any = import_module("ivmodels")
    dummies = pd.get_dummies(train[env], dtype=float).iloc[:, 1:].to_numpy()
    columns = list(names)
    model = module.models.AnchorRegression(gamma=gamma)
    model.fit(train[columns].to_numpy(float), train[target].to_numpy(float), Z=dummies)
    return np.asarray(model.predict(test[columns].to_numpy(float)))


def invariant_predictions(
    train: pd.DataFrame,
    test: pd.DataFrame,
    target: str,
    names: Sequence[str],
    env: str,
    penalty: Literal["IRM", "vREx"],
) -> np.ndarray:
    """Linear regression penalised as IRMv1 or vREx, the weight chosen by the largest training error.

    The authors' code trains networks; on ten columns this is the same objective, solved by BFGS.
    """
    from scipy.optimize import minimize

    columns = list(names)
    X = train[columns].to_numpy(float)
    centre, scale = X.mean(axis=0), X.std(axis=0) + 1e-12
    y = train[target].to_numpy(float)
    unit = y.std() + 1e-12

    def designed(table: pd.DataFrame) -> np.ndarray:
        return np.column_stack(
            [np.ones(len(table)), (table[columns].to_numpy(float) - centre) / scale]
        )

    parts = [
        (designed(part), part[target].to_numpy(float) / unit) for _, part in train.groupby(env)
    ]

    def errors(w: np.ndarray) -> np.ndarray:
        return np.array([((A @ w - b) ** 2).mean() for A, b in parts])

    def objective(w: np.ndarray, weight: float) -> float:
        risks = errors(w)
        if penalty == "vREx":
            more = float(risks.var())
        else:
            more = float(np.mean([(2 * ((A @ w - b) * (A @ w)).mean()) ** 2 for A, b in parts]))
        return (float(risks.mean()) + weight * more) / max(weight, 1.0)

    start = np.linalg.lstsq(designed(train), y / unit)[0]
    found = [minimize(objective, start, args=(weight,), method="BFGS").x for weight in PENALTIES]
    best = min(found, key=lambda w: float(errors(w).max()))
    return designed(test) @ best * unit


def boosted(X: np.ndarray, y: np.ndarray) -> Any:
    """Plain gradient boosting on all columns."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=200, early_stopping=True, random_state=0).fit(
        X, y
    )


def brute_force_classes(
    graph: nx.DiGraph, target: str, mutable: Sequence[str]
) -> set[frozenset[str]]:
    """Markov boundaries of all subsets by networkx's d-separation."""
    left = graph.copy()
    left.remove_nodes_from(mutable)
    stable = [v for v in left if v != target]
    chosen = (set(s) for r in range(len(stable) + 1) for s in combinations(stable, r))
    return {
        frozenset(v for v in s if not nx.is_d_separator(left, {target}, {v}, s - {v}))
        for s in chosen
    }


def _cdnod(X: np.ndarray, context: np.ndarray) -> Any:
    module: Any = import_module("causallearn.search.ConstraintBased.CDNOD")
    return module.cdnod(X, context, 0.05, "fisherz", show_progress=False)


NETWORKX = Peer("networkx, all subsets", brute_force_classes, "networkx==3.6.1")
BOOSTING = Peer(
    "scikit-learn gradient boosting",
    boosted,
    "scikit-learn==1.9.1",
    "one fit of all columns: no worst case",
)
ICP = Peer(
    "causalicp", icp_subset, "causalicp==0.1.1", "linear, and empty where the target changes"
)
ANCHOR = Peer(
    "ivmodels AnchorRegression", anchor_predictions, "ivmodels==0.10.0", "linear, bounded shifts"
)
CDNOD = Peer(
    "causal-learn CD-NOD, Fisher's z", _cdnod, "causal-learn==0.1.4.8", "discovers the graph"
)
OFFICIAL = Peer(
    "which_invariance, the authors' code",
    None,
    note="needs R's ggm through rpy2; its cached classes of the simulation's graph are reproduced",
)
