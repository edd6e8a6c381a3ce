"""Values of policies and the best of all, by ways of their own: forwards, and by plain recursion."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["best_value", "earned", "probe"]


def earned(policy: Any, w: np.ndarray, nu: np.ndarray, P: np.ndarray, R: np.ndarray) -> float:
    """What a policy earns on average: weights of nodes and contexts pushed forwards."""
    M = len(w)
    weight = np.zeros((len(policy.layers[0].state), M))
    np.add.at(weight, policy.root, (w[:, None] * nu).T)
    total = 0.0
    for t, layer in enumerate(policy.layers):
        laws = P[:, layer.state, layer.action]  # (M, N, S)
        total += float((weight * R[:, layer.state, layer.action].T).sum())
        if t + 1 < len(policy.layers):
            after = np.zeros((len(policy.layers[t + 1].state), M))
            np.add.at(after, layer.child, np.moveaxis(laws, 0, -1) * weight[:, None, :])
            weight = after
    return total


def best_value(w: np.ndarray, nu: np.ndarray, P: np.ndarray, R: np.ndarray, horizon: int) -> float:
    """What the best policy over histories earns, history by history."""

    def on(t: int, s: int, b: np.ndarray) -> float:
        if t == horizon:
            return 0.0
        best = 0.0
        for a in range(P.shape[2]):
            value = float(b @ R[:, s, a])
            for to in np.flatnonzero(b @ P[:, s, a]):
                if R[:, to].any() or P[:, to, :, to].min() < 1:  # it may still earn something
                    value += on(t + 1, int(to), b * P[:, s, a, to])
            best = max(best, value)
        return best

    joint = w[:, None] * nu
    return sum(on(0, int(s), joint[:, s]) for s in np.flatnonzero(joint.any(axis=0)))


def probe(horizon: int) -> dict[str, Any]:
    """Two contexts; a sure thing of .55, or asking which context it is and then acting on it.

    States start, two hints, good, bad, end; the best policy earns .74 at every horizon from 3 on.
    """
    start, one, two, good, bad, end = range(6)
    P = np.zeros((2, 6, 2, 6))
    P[:, start, 0, good], P[:, start, 0, bad] = 0.55, 0.45
    P[0, start, 1, [one, two]] = 0.8, 0.2
    P[1, start, 1, [one, two]] = 0.2, 0.8
    for m in range(2):
        for a in range(2):
            P[m, [one, two], a, good] = 0.9 if a == m else 0.1
            P[m, [one, two], a, bad] = 0.1 if a == m else 0.9
    P[:, [good, bad, end], :, end] = 1.0
    R = np.zeros((2, 6, 2))
    R[:, good] = 1.0
    nu = np.zeros((2, 6))
    nu[:, start] = 1.0
    return {"w": np.array([0.5, 0.5]), "nu": nu, "P": P, "R": R, "horizon": horizon}
