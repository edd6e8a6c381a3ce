"""Predictors for other environments by other libraries and papers, on tables with names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import combinations
from typing import Any, Literal

import networkx as nx
import numpy as np
import pandas as pd

from whp.experiment.benchmark import Peer
from whp.peers import invariance

__all__ = [
    "BOOSTING",
    "CDNOD",
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
    found, _ = invariance.icp(*_arrays(train, target, names, env))
    return [str(names[i]) for i in sorted(found or ())]


def anchor_predictions(
    train: pd.DataFrame,
    test: pd.DataFrame,
    target: str,
    names: Sequence[str],
    env: str,
    gamma: float,
) -> np.ndarray:
    """Anchor regression with a dummy an environment."""
    X, y, labels = _arrays(train, target, names, env)
    head = invariance.anchor(X, y, labels, gamma)
    return y.mean() + (test[list(names)].to_numpy(float) - X.mean(axis=0)) @ head


def invariant_predictions(
    train: pd.DataFrame,
    test: pd.DataFrame,
    target: str,
    names: Sequence[str],
    env: str,
    penalty: Literal["IRM", "vREx"],
) -> np.ndarray:
    """Linear regression penalised as IRMv1 or vREx, the weight chosen by the largest training error."""
    X, y, labels = _arrays(train, target, names, env)
    centre, scale, unit = X.mean(axis=0), X.std(axis=0) + 1e-12, y.std() + 1e-12
    standard, aim = (X - centre) / scale, (y - y.mean()) / unit
    of = invariance.moments(standard, aim, labels)
    fit = invariance.irm if penalty == "IRM" else invariance.vrex

    def largest(head: np.ndarray) -> float:
        errors = (aim - standard @ head) ** 2
        return max(float(errors[labels == label].mean()) for label in np.unique(labels))

    best = min((fit(of, weight) for weight in PENALTIES), key=largest)
    return y.mean() + unit * ((test[list(names)].to_numpy(float) - centre) / scale) @ best


def _arrays(
    train: pd.DataFrame, target: str, names: Sequence[str], env: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return train[list(names)].to_numpy(float), train[target].to_numpy(float), train[env].to_numpy()


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
CDNOD = Peer(
    "causal-learn CD-NOD, Fisher's z", _cdnod, "causal-learn==0.1.4.8", "discovers the graph"
)
OFFICIAL = Peer(
    "which_invariance, the authors' code",
    None,
    note="needs R's ggm through rpy2; its cached classes of the simulation's graph are reproduced",
)
