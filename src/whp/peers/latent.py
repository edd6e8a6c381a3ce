"""Planning in latent MDPs by a recursion over histories, and why other solvers are not run."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer

__all__ = ["POMDP_PY", "RECURSION", "UCBVI", "by_recursion"]


def by_recursion(model: Any) -> float:
    """The best value, history by history, in plain Python."""
    w, nu, P, R, H = model.w, model.nu, model.P, model.R, model.horizon
    S, A = P.shape[1:3]

    def on(t: int, s: int, b: np.ndarray) -> float:
        best = 0.0
        for a in range(A):
            value = float(b @ R[:, s, a])
            if t + 1 < H:
                for to in range(S):
                    next_b = b * P[:, s, a, to]
                    if next_b.any() and R[:, to].any():
                        value += on(t + 1, to, next_b)
            best = max(best, value)
        return best

    return sum(on(0, s, w * nu[:, s]) for s in range(S) if nu[:, s].any())


RECURSION = Peer("recursion over histories", by_recursion)
POMDP_PY = Peer(
    "pomdp-py",
    None,
    note="exact solving needs pomdp-solve or SARSOP, compiled apart; its own value iteration is reported to index states wrongly",
)
UCBVI = Peer(
    "rlberry-scool UCBVI",
    None,
    note="plans without memory, so that it earns less at any number of episodes: another problem",
)
