"""Other ways to a predictor for many environments: invariant causal prediction, and penalised least squares."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize

from whp.experiment.benchmark import Peer

__all__ = ["CAUSALICP", "IVMODELS", "anchor", "icp", "irm", "moments", "pooled", "vrex"]

Moments = tuple[np.ndarray, np.ndarray, np.ndarray]


def moments(X: np.ndarray, y: np.ndarray, env: np.ndarray) -> Moments:
    """Second moments within each environment: of columns (m, p, p), with the target (m, p), of the target (m,)."""
    A, b, v = [], [], []
    codes = np.unique(env, return_inverse=True)[1]
    order, ends = np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))
    for rows in np.split(order, ends[:-1]):
        part, target = X[rows], y[rows]
        part, target = part - part.mean(axis=0), target - target.mean()
        A.append(part.T @ part / len(part))
        b.append(part.T @ target / len(part))
        v.append(target @ target / len(part))
    return np.array(A), np.array(b), np.array(v)


def pooled(of: Moments) -> np.ndarray:
    """Least squares with an intercept for each environment, environments counted alike."""
    return np.linalg.solve(of[0].mean(axis=0), of[1].mean(axis=0))


def irm(of: Moments, penalty: float) -> np.ndarray:
    """IRMv1 with a linear representation: mean risk, and the squared slope of each risk along the head (Arjovsky et al. 2019)."""
    A, b, v = of

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        Aw = A @ w
        risk = Aw @ w - 2 * b @ w + v
        slope = 2 * (Aw @ w - b @ w)
        value = risk.mean() + penalty * (slope**2).mean()
        by = (2 * (Aw - b)).mean(axis=0)
        by = by + penalty * (2 * slope[:, None] * (4 * Aw - 2 * b)).mean(axis=0)
        return value / (1 + penalty), by / (1 + penalty)

    return _least(objective, pooled(of))


def vrex(of: Moments, penalty: float) -> np.ndarray:
    """Mean risk and the variance of risks over environments (Krueger et al. 2021)."""
    A, b, v = of

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        Aw = A @ w
        risk, by = Aw @ w - 2 * b @ w + v, 2 * (Aw - b)
        off = risk - risk.mean()
        value = risk.mean() + penalty * (off**2).mean()
        slope = by.mean(axis=0) + penalty * (2 * off[:, None] * by).mean(axis=0)
        return value / (1 + penalty), slope / (1 + penalty)

    return _least(objective, pooled(of))


def _least(objective: Any, start: np.ndarray) -> np.ndarray:
    """The best of two starts, since neither penalty is convex."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tries = [
            minimize(objective, w, jac=True, method="BFGS", options={"maxiter": 500})
            for w in (start, np.zeros_like(start))
        ]
    return min(tries, key=lambda r: r.fun).x


def anchor(X: np.ndarray, y: np.ndarray, env: np.ndarray, gamma: float) -> np.ndarray:
    """Anchor regression with a dummy for each environment (Rothenhäusler et al. 2021): shifts of means weigh γ."""
    codes = np.unique(env, return_inverse=True)[1]
    table = np.column_stack([X, y])
    table = table - table.mean(axis=0)
    means = np.stack([np.bincount(codes, c) for c in table.T], axis=1) / np.bincount(codes)[:, None]
    table = table + (np.sqrt(gamma) - 1) * means[codes]
    return np.linalg.lstsq(table[:, :-1], table[:, -1])[0]


def icp(X: np.ndarray, y: np.ndarray, env: np.ndarray, alpha: float = 0.05) -> Any:
    """Invariant causal prediction (Peters et al. 2016): columns in every accepted subset, and those subsets."""
    import causalicp

    parts: Sequence[np.ndarray] = [
        np.c_[X[env == label], y[env == label]] for label in np.unique(env)
    ]
    found = causalicp.fit(parts, target=X.shape[1], alpha=alpha, verbose=False)
    return found.estimate, [tuple(sorted(s)) for s in found.accepted_sets]


def ivmodels_anchor(X: np.ndarray, y: np.ndarray, env: np.ndarray, gamma: float) -> np.ndarray:
    """Anchor regression of ivmodels."""
    from ivmodels.models.anchor_regression import AnchorRegression

    dummies = (env[:, None] == np.unique(env)[None, 1:]).astype(float)
    return AnchorRegression(gamma=gamma).fit(X, y, Z=dummies).coef_


CAUSALICP = Peer("causalicp", icp, needs="causalicp==0.1.1")
IVMODELS = Peer(
    "ivmodels AnchorRegression",
    ivmodels_anchor,
    needs="ivmodels==0.10.0",
    note="brings glum, which brings numexpr: install it in an environment of its own",
)
