"""The variance of returns: of a policy by where it comes from, and the largest of all policies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whp.rl._latent_mdp import planning
from whp.rl._latent_mdp.policy import Policy

__all__ = ["MOST", "VarianceParts", "enumerated", "of_policy", "saddle"]

MOST = 1_000_000  # nodes of histories, and policies that are enumerated
PRECISION = 1e-10


@dataclass(frozen=True)
class VarianceParts:
    """Where the variance of the return of a policy comes from.

    Attributes
    ----------
    initial : float
        Which context and first state it was.
    transitions : float
        Next states.
    total : float
        Their sum, the variance of the return.
    """

    initial: float
    transitions: float
    total: float


def of_policy(model: planning.Model, policy: Policy) -> VarianceParts:
    """Variance of the return of a deterministic policy."""
    alphas = planning.alpha_vectors(model, policy)
    joint = model.w[:, None] * model.nu
    first = alphas[0][policy.root].T
    initial = float((joint * first**2).sum() - (joint * first).sum() ** 2)
    reach, P = model.successors, np.moveaxis(model.successors.take(model.P), 0, -1)
    weight = np.zeros((len(policy.layers[0].state), len(model.w)))
    weight[policy.root] = joint.T
    transitions = 0.0
    for t, layer in enumerate(policy.layers[:-1]):
        at = layer.state, layer.action
        rows = np.arange(len(layer.state))[:, None]
        child = layer.child[rows, reach.index[at]]  # (N, G)
        p, on = P[at], alphas[t + 1][child]
        mean = (p * on).sum(axis=1, keepdims=True)
        transitions += float((weight * (p * (on - mean) ** 2).sum(axis=1)).sum())
        after = np.zeros((len(policy.layers[t + 1].state), len(model.w)))
        np.add.at(after, child, weight[:, None, :] * p)
        weight = after
    scale = model.reward_scale**2
    initial = max(initial, 0.0)
    return VarianceParts(scale * initial, scale * transitions, scale * (initial + transitions))


class _Tree:
    """All histories, with the weight of each context and the reward that it would have paid."""

    def __init__(self, model: planning.Model) -> None:
        reach, P = model.successors, np.moveaxis(model.successors.take(model.P), 0, -1)
        R = np.moveaxis(model.R, 0, -1)
        M, S, A = model.shape
        state = np.arange(S)
        weight = (model.w[:, None] * model.nu).T
        earned = np.zeros((S, M))
        self.parents: list[np.ndarray] = []  # (node, action) as one number, for each later node
        self.sizes = [S]
        for _ in range(model.horizon - 1):
            joint = weight[:, None, None, :] * P[state]
            node, action, j = np.nonzero(joint.sum(axis=-1) > 0)
            if len(node) > MOST:
                raise planning.PlanningBudgetError(f"there are more than {MOST:,} histories")
            self.parents.append(node * A + action)
            earned = earned[node] + R[state[node], action]
            weight, state = joint[node, action, j], reach.index[state[node], action, j]
            self.sizes.append(len(node))
        # Each action of the last step, as leaves: nodes times A.
        self.weight = np.repeat(weight, A, axis=0)
        self.earned = (earned[:, None, :] + R[state]).reshape(-1, M)
        self.A = A

    def largest(self, v: float) -> tuple[float, float]:
        """The largest E(G − v)² of all policies, and E(G) − v of that policy."""
        off = self.earned - v
        value = (self.weight * off**2).sum(axis=1)
        slope = (self.weight * off).sum(axis=1)
        for t in range(len(self.sizes) - 1, -1, -1):
            rows = value.reshape(self.sizes[t], self.A)
            at = np.arange(len(rows)), rows.argmax(axis=1)
            value, slope = rows[at], slope.reshape(rows.shape)[at]
            if t:
                size = self.sizes[t - 1] * self.A
                value = np.bincount(self.parents[t - 1], value, size)
                slope = np.bincount(self.parents[t - 1], slope, size)
        return float(value.sum()), float(slope.sum())


def saddle(model: planning.Model) -> float:
    """min over v of max over policies of E(G − v)², by bisection on its slope: it is convex in v."""
    tree = _Tree(model)
    low, high = 0.0, 1.0
    while high - low > PRECISION:
        v = (low + high) / 2
        slope = tree.largest(v)[1]
        low, high = (v, high) if slope > 0 else (low, v)
    return min(tree.largest(v)[0] for v in (low, high))


def enumerated(model: planning.Model) -> float:
    """The largest variance of all deterministic policies: their pairs of E G and E G²."""
    tree = _Tree(model)
    first = [np.array([x]) for x in (tree.weight * tree.earned).sum(axis=1)]
    second = [np.array([x]) for x in (tree.weight * tree.earned**2).sum(axis=1)]
    for t in range(len(tree.sizes) - 1, -1, -1):
        nodes = [slice(n * tree.A, (n + 1) * tree.A) for n in range(tree.sizes[t])]
        first = [np.concatenate(first[n]) for n in nodes]
        second = [np.concatenate(second[n]) for n in nodes]
        size = tree.sizes[t - 1] * tree.A if t else 1
        owner = tree.parents[t - 1] if t else np.zeros(tree.sizes[0], dtype=np.int64)
        first, second = _sums(first, second, owner, size)
    return float((second[0] - first[0] ** 2).max())


def _sums(
    first: list[np.ndarray], second: list[np.ndarray], owner: np.ndarray, size: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """All sums of one pair from each node of an owner."""
    one, two = [np.zeros(1)] * size, [np.zeros(1)] * size
    for n, o in enumerate(owner):
        if len(one[o]) * len(first[n]) > MOST:
            raise planning.PlanningBudgetError(f"there are more than {MOST:,} policies")
        one[o] = np.add.outer(one[o], first[n]).ravel()
        two[o] = np.add.outer(two[o], second[n]).ravel()
    return one, two
