"""Policies that remember the history: one node for all histories after which they go on alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

__all__ = ["Layer", "Policy", "memoryless"]


@dataclass(frozen=True, eq=False)
class Layer:
    """The nodes of one step.

    Attributes
    ----------
    state, action : ndarray, shape (N,)
        State that a node is in, and what is done there.
    child : ndarray, shape (N, S)
        Node of the next layer for each next state.
    """

    state: Int[np.ndarray, " N"]
    action: Int[np.ndarray, " N"]
    child: Int[np.ndarray, "N S"]


@dataclass(frozen=True, eq=False)
class Policy:
    """A deterministic policy over histories, as layers of nodes.

    Attributes
    ----------
    layers : tuple of Layer
        One a step, from the first on.
    root : ndarray, shape (S,)
        Node of the first layer for each first state.
    """

    layers: tuple[Layer, ...]
    root: Int[np.ndarray, " S"]

    @classmethod
    def of(cls, layers: Sequence[Layer], root: np.ndarray) -> Policy:
        """The policy with these nodes; -1 for a child or root that was not planned for.

        There it goes on as at some node of the same step and state and, where there is none, with
        action 0.
        """
        S = len(root)
        made: list[Layer] = []
        after = np.zeros(S, dtype=np.int32)
        for layer in reversed(layers):
            known = np.full(S, -1, dtype=np.int32)
            known[layer.state[::-1]] = np.arange(len(layer.state), dtype=np.int32)[::-1]
            lost = np.flatnonzero(known < 0)
            child = np.where(layer.child < 0, after, layer.child).astype(np.int32)
            made.append(
                Layer(
                    np.concatenate([layer.state, lost]).astype(np.int32),
                    np.concatenate([layer.action, np.zeros(len(lost))]).astype(np.int32),
                    np.concatenate([child, np.tile(after, (len(lost), 1))]),
                )
            )
            known[lost] = len(layer.state) + np.arange(len(lost))
            after = known
        return cls(tuple(made[::-1]), np.where(root < 0, after, root).astype(np.int32))

    @property
    def horizon(self) -> int:
        """Number of steps."""
        return len(self.layers)

    @property
    def n_nodes(self) -> int:
        """Number of nodes of all steps."""
        return sum(len(layer.state) for layer in self.layers)

    def action(self, t: int, node: int | np.integer) -> int:
        """What is done at a node of step t."""
        return int(self.layers[t].action[node])

    def after(self, t: int, node: int | np.integer, action: int, state: int) -> int:
        """Node of step t + 1, whatever was done: after another action than the planned one any node of its state."""
        layer = self.layers[t]
        if action == layer.action[node]:
            return int(layer.child[node, state])
        return int((self.layers[t + 1].state == state).argmax())


def memoryless(actions: np.ndarray) -> Policy:
    """The policy that looks at step and state alone.

    Parameters
    ----------
    actions : ndarray of int, shape (H, S)
    """
    S = actions.shape[1]
    each = np.arange(S, dtype=np.int32)
    layers = [Layer(each, row.astype(np.int32), np.tile(each, (S, 1))) for row in actions]
    return Policy.of(layers, each)
