"""Counted transitions: what holds of every law that the counts do not refute.

With probability 1 − δ over the counts each row of the true P lies within ε of its frequencies in ℓ1
(docs: world). On that event the range of returns is between W⁻ and W⁺, found here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from whp.rl._starc.mdp import MDP, Table
from whp.validate import as_floats

__all__ = ["WorldBound", "as_counts", "radius", "world_bound"]

STEPS = 500  # of policy iteration; it ends after a handful
CLOSE = 1e-12  # of the largest number: a smaller gain is rounding


def as_counts(counts: Any) -> Int[np.ndarray, "S A S2"]:
    """Visits (S, A, S) as whole numbers.

    Raises
    ------
    ValueError
        If shapes do not fit, or a count is negative or no whole number; the first one is named.
    """
    array = as_floats(counts, "counts")
    if array.ndim != 3 or 0 in array.shape or array.shape[0] != array.shape[2]:
        raise ValueError(f"counts must be (S, A, S), got {array.shape}")
    wrong = ~np.isfinite(array) | (array < 0) | (array != np.floor(array)) | (array > 2**53)
    if wrong.any():
        s, a, t = np.argwhere(wrong)[0]
        raise ValueError(
            f"counts must be whole numbers from 0, got {array[s, a, t]:g} at state {s}, action {a}, "
            f"next state {t}"
        )
    return array.astype(np.int64)


def radius(n: Int[np.ndarray, "S A"], S: int, delta: float) -> Table:
    """ε(s, a) = min(2, √(2 (S ln 2 + ln(SA n(n+1)/δ))/n)), 2 where nothing was counted.

    Weissman's bound at every n at once, since Σ 1/(n(n+1)) = 1: counts that grew along a
    trajectory did not stop at a number chosen beforehand.
    """
    at = np.maximum(n, 1).astype(float)
    logs = S * math.log(2) + math.log(n.size / delta) + np.log(at) + np.log(at + 1)
    return np.where(n > 0, np.minimum(2.0, np.sqrt(2 * logs / at)), 2.0)


@dataclass(frozen=True)
class WorldBound:
    """Bound on the share that is lost in the world, and its parts.

    Parameters
    ----------
    bound : float
        W⁺(R1 − λR2)/W⁻(R1), infinite where W⁻ is not above 0.
    highest, lowest : float
        W⁺ and W⁻.
    unvisited : int
        Pairs of state and action that were never seen.
    """

    bound: float
    highest: float
    lowest: float
    unvisited: int


def world_bound(
    mdp: MDP,
    counts: Int[np.ndarray, "S A S2"],
    rewards: tuple[np.ndarray, np.ndarray],
    lam: float,
    delta: float,
) -> WorldBound:
    """WRR in the world is at most W⁺(R1 − λR2)/W⁻(R1) with probability 1 − δ.

    Parameters
    ----------
    rewards : tuple of ndarray, shape (S, A, S)
    lam : float
        λ for the rewards as they are; any λ ≥ 0 is valid, the model's minimiser is a good one.
    """
    n = counts.sum(-1)
    rows = counts / np.maximum(n, 1)[..., None]
    rows[n == 0] = 1 / counts.shape[2]
    ball = (rows, radius(n, counts.shape[2], delta))
    first, second = rewards
    mixed = first - lam * second
    highest = _value(mdp, mixed, ball, 1)[1] + _value(mdp, -mixed, ball, 1)[1]
    lowest = _value(mdp, first, ball, -1)[0] + _value(mdp, -first, ball, -1)[0]
    bound = highest / lowest if lowest > 0 else math.inf
    return WorldBound(bound, highest, lowest, int((n == 0).sum()))


Ball = tuple[Float[np.ndarray, "S A S2"], Table]


def _extreme(worth: Float[np.ndarray, "S A S2"], ball: Ball, sign: int) -> np.ndarray:
    """The law within each ball that makes the mean of `worth` largest (sign 1) or least (−1).

    Half of ε goes to the best next state, taken from the worst ones in their order.
    """
    rows, epsilon = ball
    order = np.argsort(sign * worth, axis=-1)  # worst first
    law = np.take_along_axis(rows, order, -1)
    added = np.minimum(epsilon / 2, 1 - law[..., -1])[..., None]
    before = np.cumsum(law[..., :-1], axis=-1)
    left = np.clip(before - added, 0.0, None)  # what is left of all states up to each
    kept = np.minimum(law[..., :-1], np.diff(left, axis=-1, prepend=0.0))
    law = np.concatenate([kept, law[..., -1:] + added], axis=-1)
    made = np.empty_like(law)
    np.put_along_axis(made, order, law, -1)
    return made / made.sum(-1, keepdims=True)


def _value(mdp: MDP, reward: np.ndarray, ball: Ball, sign: int) -> tuple[float, float]:
    """Ends of the best policy's return where nature helps (1) or resists (−1), by policy iteration.

    The ends are those of the last policy and law, moved by their Bellman residual/(1 − γ): valid
    wherever the iteration stops.
    """
    S, gamma = mdp.n_states, mdp.discount
    at, v, actions = np.arange(S), np.zeros(S), None
    close = CLOSE * float(np.abs(reward).max()) / (1 - gamma)
    for _ in range(STEPS):
        worth = reward + gamma * v
        law = _extreme(worth, ball, sign)
        q = (law * worth).sum(-1)
        # Where nature resists, a policy is changed only when nature has answered it.
        answered = actions is not None and np.abs(q[at, actions] - v).max() <= close
        if answered and (q.max(1) - v).max() <= close:
            break
        if actions is None or sign > 0 or answered:
            actions = q.argmax(1)
        chosen = law[at, actions]
        v = np.linalg.solve(np.eye(S) - gamma * chosen, (chosen * reward[at, actions]).sum(-1))
    worth = reward + gamma * v
    off = (_extreme(worth, ball, sign) * worth).sum(-1).max(1) - v
    middle = float(mdp.start @ v)
    return middle + min(off.min(), 0.0) / (1 - gamma), middle + max(off.max(), 0.0) / (1 - gamma)
