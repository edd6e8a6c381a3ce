"""Planning in a known model: exactly, over all histories that can happen, level by level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from whp.rl._latent_mdp.policy import Layer, Policy

__all__ = [
    "MAX_NODES",
    "Model",
    "PlanResult",
    "PlanningBudgetError",
    "Successors",
    "alpha_vectors",
    "best",
    "by_context",
    "dead",
]

MAX_NODES = 5_000_000  # nodes times contexts of one step
SAME = 1e12  # beliefs that agree to 12 digits are one
TIE = 1e-12


class PlanningBudgetError(RuntimeError):
    """The exact plan is larger than the budget allows."""


@dataclass(frozen=True, eq=False)
class PlanResult:
    """A plan for a known model.

    Attributes
    ----------
    value : float
        What the policy earns on average, in the unit of the rewards.
    policy : Policy
    n_nodes : int
        Nodes of the policy.
    exact : bool
        Whether no policy earns more, up to rounding.
    gap : float
        The most by which another policy may earn more; 0 where exact.
    upper : float
        What no policy exceeds, found from the histories, not from the policy.
    """

    value: float
    policy: Policy
    n_nodes: int
    exact: bool
    gap: float
    upper: float


@dataclass(frozen=True, eq=False)
class Successors:
    """Next states that are possible.

    Attributes
    ----------
    index : ndarray of int, shape (S, A, G)
        Filled up with the first one.
    there : ndarray of bool, shape (S, A, G)
    """

    index: np.ndarray
    there: np.ndarray

    @classmethod
    def of(cls, possible: np.ndarray) -> Successors:
        """Out of a mask of shape (S, A, S)."""
        most = max(1, int(possible.sum(axis=-1).max()))
        order = np.argsort(~possible, axis=-1, kind="stable")[..., :most]
        there = np.take_along_axis(possible, order, axis=-1)
        return cls(np.where(there, order, order[..., :1]), there)

    def take(self, P: np.ndarray) -> np.ndarray:
        """P of shape (..., S, A, S) at these places, 0 where there is none."""
        index = np.broadcast_to(self.index, (*P.shape[:-1], self.index.shape[-1]))
        return np.where(self.there, np.take_along_axis(P, index, axis=-1), 0.0)


@runtime_checkable
class Model(Protocol):
    """What planning asks of a latent MDP; see :class:`LatentMDP`."""

    w: np.ndarray
    nu: np.ndarray
    P: np.ndarray
    R: np.ndarray
    horizon: int
    reward_scale: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """Contexts, states, actions."""
        ...

    @property
    def successors(self) -> Successors:
        """Next states that are possible at all."""
        ...

    def value(self, policy: Policy) -> float:
        """What a policy earns on average."""
        ...


def dead(R: np.ndarray, possible: np.ndarray) -> np.ndarray:
    """States from which nothing is ever earned, in any context; shape (S,)."""
    found = (R == 0).all(axis=(0, 2))
    while True:
        on = found & (found | ~possible).all(axis=(1, 2))
        if (on == found).all():
            return found
        found = on


def alpha_vectors(model: Model, policy: Policy) -> list[np.ndarray]:
    """What is still earned from each node on, in each context: an array (N, M) a step, and zeros after the last."""
    reach = model.successors
    P = np.moveaxis(reach.take(model.P), 0, -1)  # (S, A, G, M)
    R = np.moveaxis(model.R, 0, -1)
    alphas = [np.zeros((1, len(model.w)))]
    for t in range(len(policy.layers) - 1, -1, -1):
        layer = policy.layers[t]
        at = layer.state, layer.action
        alpha = R[at].copy()
        if t + 1 < len(policy.layers):
            for j in range(P.shape[2]):
                child = layer.child[np.arange(len(layer.state)), reach.index[..., j][at]]
                alpha += P[:, :, j][at] * alphas[0][child]
        alphas.insert(0, alpha)
    return alphas


def by_context(model: Model) -> np.ndarray:
    """Values of each step for somebody who knows the context; shape (H + 1, M, S)."""
    values = np.zeros((model.horizon + 1, *model.R.shape[:2]))
    for t in range(model.horizon - 1, -1, -1):
        on = np.einsum("msat,mt->msa", model.P, values[t + 1])
        values[t] = (model.R + on).max(axis=-1)
    return values


class _Level:
    """Nodes of a step with what follows from each action."""

    def __init__(self, state: np.ndarray, belief: np.ndarray) -> None:
        self.state, self.belief = state, belief
        self.child: Any = None  # (N, A, G) of the next step, -1 where none
        self.mass: Any = None  # (N, A, G)


def best(model: Model, exact: bool, max_nodes: int) -> PlanResult:
    """The best policy, or one with a bound on what it lacks; see :meth:`LatentMDP.optimal`."""
    reach = model.successors
    S = model.shape[1]
    P = np.moveaxis(reach.take(model.P), 0, -1)
    over = dead(model.R, np.asarray(np.any(model.P, axis=0)))
    joint = (model.w[:, None] * model.nu).T
    start = np.flatnonzero(joint.sum(axis=1) > 0)
    sums = joint[start].sum(axis=1)
    levels = [_Level(start, joint[start] / sums[:, None])]
    for _ in range(model.horizon - 1):
        grown = _expand(levels[-1], reach, P, over, max_nodes)
        if grown is None:
            if exact:
                raise PlanningBudgetError(
                    f"the plan has more than {max_nodes:,} nodes times contexts after "
                    f"{len(levels)} of {model.horizon} steps: pass a larger max_nodes, or "
                    "method='auto' for a plan with a gap"
                )
            break
        levels.append(grown)
    whole = len(levels) == model.horizon
    layers: list[Layer] = []
    lower = upper = np.zeros(
        1
    )  # of the nodes that follow, and at the end a 0 for what earns nothing
    inner = levels
    if not whole:
        lower, upper, layers = _leaves(model, levels[-1], len(levels) - 1)
        inner = levels[:-1]
    R = np.moveaxis(model.R, 0, -1)
    for level in reversed(inner):
        Q = np.einsum("nm,nam->na", level.belief, R[level.state])
        high = Q.copy()
        if level.child is not None:
            Q += (level.mass * lower[level.child]).sum(axis=-1)
            high += (level.mass * upper[level.child]).sum(axis=-1)
        action = (Q.max(axis=1, keepdims=True) - TIE <= Q).argmax(axis=1)
        at = np.arange(len(Q))
        child = np.full((len(Q), S), -1, dtype=np.int32)
        if level.child is not None:
            places, chosen = reach.index[level.state, action], level.child[at, action]
            there = chosen < len(lower) - 1
            for j in range(places.shape[1]):
                child[at[there[:, j]], places[there[:, j], j]] = chosen[there[:, j], j]
        layers.insert(0, Layer(level.state.astype(np.int32), action.astype(np.int32), child))
        lower = np.append(Q[at, action], 0.0)
        upper = np.append(high.max(axis=1), 0.0)
    root = np.full(S, -1, dtype=np.int32)
    root[start] = np.arange(len(start))
    policy = Policy.of(layers, root)
    scale = model.reward_scale
    value, most = model.value(policy), scale * float(sums @ upper[:-1])
    gap = 0.0 if whole else max(0.0, most - value)
    return PlanResult(value, policy, policy.n_nodes, whole, gap, most)


def _expand(
    level: _Level, reach: Successors, P: np.ndarray, over: np.ndarray, max_nodes: int
) -> _Level | None:
    """The next step; None if it is too large."""
    N, M = level.belief.shape
    A, G = P.shape[1:3]
    if 20 * max_nodes < N * A * G * M:
        return None
    joint = level.belief[:, None, None, :] * P[level.state]
    mass = joint.sum(axis=-1)
    to = reach.index[level.state]
    alive = (mass > 0) & ~over[to] & reach.there[level.state]
    belief = joint[alive] / mass[alive][:, None]
    state = to[alive]
    codes = np.rint(belief * SAME).astype(np.int64)
    first, which = _distinct(np.column_stack([state, codes]))
    if len(first) * M > max_nodes:
        return None
    level.mass = np.where(alive, mass, 0.0)
    level.child = np.full(mass.shape, len(first), dtype=np.int64)
    level.child[alive] = which
    return _Level(state[first], belief[first])


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of distinct rows of whole numbers, and which of them each row is.

    By a hash of 64 bits, which is looked at: rows of one hash that differ are compared in full.
    """
    weights = np.random.default_rng(0).integers(1, 2**63, rows.shape[1], dtype=np.uint64) | 1
    mixed = (rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)) * weights
    hashed = (mixed ^ (mixed >> np.uint64(29))).sum(axis=1, dtype=np.uint64)
    _, first, which = np.unique(hashed, return_index=True, return_inverse=True)
    if (rows[first][which] != rows).any():
        _, first, which = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return first, which.ravel()


def _leaves(model: Model, last: _Level, d: int) -> tuple[np.ndarray, np.ndarray, list[Layer]]:
    """Lower and upper values of the nodes of step d, a zero after them, and the layers from d on.

    Nodes go on by the best, for them, of M + 1 policies that know step and state alone: the best of
    each context, and that of the mean over contexts. What is gained by knowing the context is the
    upper value.
    """
    M, S, _ = model.shape
    H = model.horizon
    mean, pay = np.tensordot(model.w, model.P, axes=1), np.tensordot(model.w, model.R, axes=1)
    known, values = by_context(model), np.zeros(S)
    actions = np.zeros((H, M + 1, S), dtype=np.int32)
    alpha = np.zeros((M + 1, S, M))
    contexts, each = np.arange(M)[:, None], np.arange(S)
    for t in range(H - 1, d - 1, -1):
        Q = model.R + np.einsum("msat,mt->msa", model.P, known[t + 1])
        actions[t, :M] = Q.argmax(axis=-1)
        one = pay + mean @ values
        actions[t, M], values = one.argmax(axis=-1), one.max(axis=-1)
        for c in range(M + 1):
            at = contexts, each, actions[t, c]
            alpha[c] = model.R[at].T + np.einsum("mst,tm->sm", model.P[at], alpha[c])
    earns = np.einsum("nm,cnm->nc", last.belief, alpha[:, last.state])
    chosen = earns.argmax(axis=1)
    high = (last.belief * known[d][:, last.state].T).sum(axis=1)
    follow = (np.arange(M + 1)[:, None] * S + each).astype(np.int32)
    layers = [Layer(last.state.astype(np.int32), actions[d, chosen, last.state], follow[chosen])]
    for t in range(d + 1, H):
        state = np.tile(each.astype(np.int32), M + 1)
        layers.append(Layer(state, actions[t].ravel(), np.repeat(follow, S, axis=0)))
    return np.append(earns.max(axis=1), 0.0), np.append(high, 0.0), layers
