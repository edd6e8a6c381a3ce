"""Canonical forms: one reward for each class of rewards that potentials tell apart.

Two rewards order all policies alike if they differ by shaping R + γΦ(s') − Φ(s), by where a reward
of the same mean falls among next states, and by a positive factor. A canonical form is the same for
all rewards that differ in the first two ways.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

from whp.rl._starc.mdp import MDP, Reward, Table

__all__ = ["DEPENDENT", "Kind", "canonical_form", "size", "trivial"]

Kind = Literal["val", "minimal", "val-potential", "epic", "dard", "none"]
DEPENDENT = ("val-potential", "epic", "dard", "none")  # on where rewards fall among next states
ZERO = 2e-13  # of ‖r‖∞/(1 − γ): what is left of a shaping by rounding


def canonical_form(
    reward: Reward,
    mdp: MDP,
    kind: Kind | Callable[..., Any] = "val",
    *,
    policy: Table | None = None,
    norm: float = 2,
    weights: Table | None = None,
) -> np.ndarray:
    """The form of that kind, (S, A), or (S, A, S) of those that depend on the next state."""
    r, gamma = reward.table, mdp.discount
    if callable(kind):
        # Copies: what works in place must not change the table that everything else is about.
        made = np.array(kind(r.copy(), _dense(mdp).copy(), gamma), dtype=np.float64)
        if made.shape != mdp.shape or not np.isfinite(made).all():
            raise ValueError(f"canonical must return finite numbers (S, A), got {made.shape}")
        return made
    policy = mdp.uniform if policy is None else policy
    if kind == "minimal":
        return _smallest(r, mdp, norm, weights)
    if kind == "val":
        v = mdp.values(policy, r)
        return r + gamma * mdp.expected(v) - v[:, None]
    R = reward.whole(mdp.shape)
    if kind == "none":
        return reward.given if reward.given.ndim > 1 else np.array(R)
    if kind == "val-potential":
        raw = (_dense(mdp) * R).sum(-1)
        v = mdp.values(policy, raw)
        return R + gamma * v - v[:, None, None]
    if kind == "epic":
        m = R.mean((1, 2))
        return R + gamma * m - m[:, None, None] - gamma * R.mean()
    P = _dense(mdp)
    m = (P * R).sum(-1).mean(1)
    # E R(S', A, S'') with S' ~ P(s, A), S'' ~ P(t, A) and the same A: O(A S³) time, O(A S²) memory.
    after = np.matmul(R.transpose(1, 0, 2), P.transpose(1, 2, 0))  # (A, u, t)
    both = np.matmul(P.transpose(1, 0, 2), after).mean(0)
    return R + gamma * m - m[:, None, None] - gamma * both[:, None, :]


def _dense(mdp: MDP) -> Float[np.ndarray, "S A S2"]:
    P = mdp.P.toarray() if mdp.sparse else mdp.P
    return P.reshape(*mdp.shape, mdp.n_states)


def _smallest(r: Table, mdp: MDP, norm: float, weights: Table | None) -> Table:
    """r + M φ of the smallest norm: least squares, or a linear program for norms 1 and ∞."""
    shaping = mdp.shaping
    if norm == 2:
        return r - shaping.of(shaping.fit(r, weights))
    from scipy.optimize import linprog

    M = sp.csr_array(shaping.matrix)
    n, S = M.shape
    w = np.ones(n) if weights is None else weights.ravel()
    scale = max(np.abs(r).max(), 1e-300)
    bounds = -sp.eye_array(n) if norm == 1 else sp.csr_array(-np.ones((n, 1)))
    upper = sp.vstack([sp.hstack([M, bounds]), sp.hstack([-M, bounds])], format="csr")
    right = np.concatenate([-r.ravel(), r.ravel()]) / scale
    cost = np.concatenate([np.zeros(S), w if norm == 1 else np.ones(1)])
    free = [(None, None)] * S + [(0, None)] * (len(cost) - S)
    found = linprog(cost, A_ub=upper, b_ub=right, bounds=free, method="highs")
    if found.status:
        raise ArithmeticError(f"the smallest reward was not found: {found.message}")
    return r + shaping.of(found.x[:S] * scale)


def trivial(form: np.ndarray, reward: Reward, discount: float) -> bool:
    """Whether nothing but rounding is left of a reward."""
    return bool(np.abs(form).max() <= ZERO * np.abs(reward.table).max() / (1 - discount))


def size(table: np.ndarray, norm: float, weights: Table | None = None) -> float:
    """(Σ w |x|^p)^{1/p}, scaled so that no power under- or overflows; ‖x‖∞ has no weights."""
    largest = float(np.abs(table).max())
    if norm == np.inf or largest == 0:
        return largest
    w = 1.0 if weights is None else weights
    return largest * float((w * np.abs(table / largest) ** norm).sum() ** (1 / norm))
