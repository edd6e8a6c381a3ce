"""Adversarial episodes in plain NumPy loops: no package offers them for more than one step."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer

__all__ = ["LOOPS", "by_loops"]


def by_loops(
    model: Any, losses: np.ndarray, rates: tuple[float, float, float], rng: np.random.Generator
) -> float:
    """One run of hedge on magnitude-reduced estimates, a step, state and action at a time."""
    eta, beta, gamma = rates
    phi, P, init = model.phi, model.P, model.init
    H, X, A, d = phi.shape
    scores = np.zeros((H, X, A))
    total = 0.0
    for table in losses:
        weights = np.exp(-eta * (scores - scores.min(axis=-1, keepdims=True)))
        pi = weights / weights.sum(axis=-1, keepdims=True)
        x, path, seen = int(rng.choice(X, p=init)), [], []
        q = [init]
        for h in range(H):
            a = int(rng.choice(A, p=pi[h, x]))
            path.append((x, a))
            seen.append(table[h, x, a])
            if h < H - 1:
                q.append(np.einsum("x,xa,xay->y", q[h], pi[h], P[h]))
                x = int(rng.choice(X, p=P[h, x, a]))
        total += sum(seen)
        after = np.zeros((X, A))
        for h in reversed(range(H)):
            visits = q[h][:, None] * pi[h]
            inverse = np.linalg.inv(
                gamma * np.eye(d) + np.einsum("xa,xai,xaj->ij", visits, phi[h], phi[h])
            )
            G = np.einsum("xai,ij,ybj->xayb", phi[h], inverse, phi[h])
            z = G[:, :, path[h][0], path[h][1]]
            Q = z * sum(seen[h:]) - H * np.minimum(z, 0)
            Q += H * np.einsum("xayb,yb->xa", np.minimum(G, 0), visits)
            norms = np.einsum("xaxa->xa", G)
            B = beta * (norms + (pi[h] * norms).sum(axis=-1, keepdims=True))
            if h < H - 1:
                B = B + (1 + 1 / H) * P[h] @ (pi[h + 1] * after).sum(axis=-1)
            scores[h] += Q - B
            after = B
    return total


LOOPS = Peer("plain NumPy loops", by_loops, "numpy", "one run; the same numbers")
