"""Online regression by river, and sleeping experts over a finite class (Blum & Lykouris 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer
from whp.online import AdaNormalHedge

__all__ = ["RIVER", "RIVER_BY_GROUP", "finite_class", "river_pass"]

Rows = Sequence[dict[Any, float]]


def _makers() -> dict[str, Callable[[], Any]]:
    from river import linear_model, optim

    return {
        "SGD": lambda: linear_model.LinearRegression(optimizer=optim.SGD(0.01)),
        "AdaGrad": lambda: linear_model.LinearRegression(optimizer=optim.AdaGrad(0.1)),
        "Bayesian": linear_model.BayesianLinearRegression,
    }


def river_pass(
    kind: str, rows: Rows, y: Sequence[float], active: np.ndarray | None = None
) -> np.ndarray:
    """Squared errors of one pass, predictions clipped to [0, 1].

    Parameters
    ----------
    kind : {"SGD", "AdaGrad", "Bayesian"}
        Which linear model.
    rows, y : sequences
        Features by name, and targets.
    active : ndarray, shape (T, N), optional
        One model a group, averaged over those that a row is in; by default one model for all.
    """
    make = _makers()[kind]
    models = [make() for _ in range(1 if active is None else active.shape[1])]
    losses = np.empty(len(rows))
    for t, (x, truth) in enumerate(zip(rows, y, strict=True)):
        mine = models if active is None else [models[g] for g in np.flatnonzero(active[t])]
        said = sum(m.predict_one(x) for m in mine) / len(mine)
        losses[t] = (min(max(said, 0.0), 1.0) - truth) ** 2
        for m in mine:
            m.learn_one(x, truth)
    return losses


def finite_class(X: np.ndarray, y: np.ndarray, active: np.ndarray, models: int = 16) -> np.ndarray:
    """Squared errors of sleeping experts over all pairs of a group and a fixed linear model.

    Each model is ridge regression on 100 rows of the stream itself: more than a finite class can
    know beforehand.
    """
    rng, fixed = np.random.default_rng(0), []
    for _ in range(models):
        part = rng.choice(len(X), min(100, len(X)), replace=False)
        A = np.eye(X.shape[1]) + X[part].T @ X[part]
        fixed.append(np.linalg.solve(A, X[part].T @ y[part]))
    said = np.clip(X @ np.array(fixed).T, 0, 1)
    hedge, losses = AdaNormalHedge(active.shape[1] * models), np.empty(len(X))
    for t in range(len(X)):
        awake, every = np.repeat(active[t], models), np.tile(said[t], active.shape[1])
        losses[t] = (hedge.weights(awake) @ every - y[t]) ** 2
        hedge.update((every - y[t]) ** 2, awake)
    return losses


RIVER = {
    kind: Peer(
        f"river {kind}, one global model",
        lambda rows, y, kind=kind: river_pass(kind, rows, y),
        "river==0.26.1",
    )
    for kind in ("SGD", "AdaGrad", "Bayesian")
}
RIVER_BY_GROUP = Peer(
    "river SGD, one model a group",
    lambda rows, y, active: river_pass("SGD", rows, y, active),
    "river==0.26.1",
)
