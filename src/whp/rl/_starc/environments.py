"""Tables out of gymnasium's toy-text environments, which carry their transitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

__all__ = ["TabularModel", "environment", "tabular_model"]


@dataclass(frozen=True, eq=False)
class TabularModel:
    """Transitions and reward of an environment.

    Attributes
    ----------
    transitions, reward : ndarray, shape (S, A, S)
        The reward is the mean of what that transition pays.
    start : ndarray, shape (S,)
        Law of the first state.
    time_limit : int or None
        Steps after which gymnasium cuts an episode off.
    """

    transitions: Float[np.ndarray, "S A S2"]
    reward: Float[np.ndarray, "S A S2"]
    start: Float[np.ndarray, " S"]
    time_limit: int | None


def tabular_model(env: Any) -> TabularModel:
    """The table behind an environment such as ``FrozenLake-v1``, ``CliffWalking-v1`` or ``Taxi-v3``.

    Where an episode has ended, gymnasium's table goes on: such transitions lead into one absorbing
    state without reward here, the last one, unless the state entered is absorbing and pays nothing,
    as holes and goal of FrozenLake are.

    Parameters
    ----------
    env : str or gymnasium.Env
        Name or environment with a table ``P`` and ``initial_state_distrib``.

    Returns
    -------
    TabularModel

    Raises
    ------
    ValueError
        If the environment has no table.
    ModuleNotFoundError
        If gymnasium is not installed.
    """
    made = environment(env)
    bare, spec = made.unwrapped, made.spec
    table, first = getattr(bare, "P", None), getattr(bare, "initial_state_distrib", None)
    if not isinstance(table, dict) or first is None:
        raise ValueError(
            f"env must have a table P and initial_state_distrib, as gymnasium's toy-text "
            f"environments have, got {made}"
        )
    S, A = len(table), len(table[0])
    absorbing = {
        s for s in table if all(t == s and r == 0 for a in table[s] for _, t, r, _ in table[s][a])
    }
    ends = any(
        done and t not in absorbing
        for s in table
        for a in table[s]
        for _, t, _, done in table[s][a]
    )
    size = S + ends
    P, R = np.zeros((size, A, size)), np.zeros((size, A, size))
    for s, rows in table.items():
        for a, outcomes in rows.items():
            for p, after, reward, done in outcomes:
                t = S if done and after not in absorbing else after
                P[s, a, t] += p
                R[s, a, t] += p * reward
    np.divide(R, P, out=R, where=P > 0)
    start = np.zeros(size)
    start[:S] = first
    if ends:
        P[S, :, S] = 1.0
    return TabularModel(P, R, start / start.sum(), getattr(spec, "max_episode_steps", None))


def environment(env: Any) -> Any:
    """A gymnasium environment, as it is or by its name."""
    if not isinstance(env, str):
        if not hasattr(env, "unwrapped"):
            raise TypeError(
                f"env must be a gymnasium environment or its name, got {type(env).__name__}"
            )
        return env
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "env needs gymnasium: pip install 'whp[study]', or pass the tables themselves"
        ) from error
    try:
        return gymnasium.make(env)
    except gymnasium.error.Error as error:
        raise ValueError(f"env: gymnasium has no {env!r}: {error}") from error
