"""Environments of real numbers that can be put into a state: what is sampled from, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whp.rl._starc.environments import environment

__all__ = ["Dynamics", "Points", "dynamics_of"]

Points = np.ndarray  # (n, d): states have d entries, actions another number
Step = Callable[[Points, Points, np.random.Generator], Points]
Draw = Callable[[int, np.random.Generator], tuple[Points, Points]]
PI = np.pi
# Classic control: box of the state that is stored, and which of its entries are angles.
BOXES: dict[str, tuple[list[float], list[float], tuple[int, ...]]] = {
    "PendulumEnv": ([-PI, -8.0], [PI, 8.0], (0,)),
    "MountainCarEnv": ([-1.2, -0.07], [0.6, 0.07], ()),
    "Continuous_MountainCarEnv": ([-1.2, -0.07], [0.6, 0.07], ()),
    "AcrobotEnv": ([-PI, -PI, -4 * PI, -9 * PI], [PI, PI, 4 * PI, 9 * PI], (0, 1)),
}


@dataclass(frozen=True, eq=False)
class Dynamics:
    """What can be sampled.

    Parameters
    ----------
    step : callable
        From states (n, d), actions (n, k) and a generator to next states (n, d).
    draw : callable
        From a number and a generator to that many states and actions: the coverage.
    low, high : ndarray, shape (d,), optional
        Box outside of which the coverage has no states.
    angles : tuple of int
        Entries of the state that are angles.
    """

    step: Step
    draw: Draw
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    angles: tuple[int, ...] = ()

    def inside(self, states: Points) -> np.ndarray:
        """Which states the coverage can draw; angles are so at any turn."""
        if self.low is None or self.high is None:
            return np.ones(len(states), dtype=bool)
        ok = (states >= self.low - 1e-9) & (states <= self.high + 1e-9)
        ok[:, list(self.angles)] = True
        return np.asarray(ok.all(1))


def dynamics_of(env: Any, coverage: Draw | None) -> Dynamics:
    """Dynamics of an environment or of its name, or those given, with another coverage.

    Raises
    ------
    ValueError
        If it cannot be put into a state, or its states have no bounds and no coverage is given.
    """
    if isinstance(env, Dynamics):
        return env if coverage is None else replace(env, draw=coverage, low=None, high=None)
    made = environment(env)
    bare = made.unwrapped
    if hasattr(bare, "set_state") and hasattr(bare, "data"):
        if coverage is None:
            raise ValueError(
                "coverage must be given: the states of this environment have no bounds; pass a function "
                "of a number and a generator that draws states (qpos, qvel) and actions"
            )
        return Dynamics(_mujoco(bare), coverage)
    made.reset()
    if getattr(bare, "state", None) is None:
        raise ValueError(f"env must be one that can be put into a state, got {made}")
    known = BOXES.get(type(bare).__name__)
    step = _classic(bare)
    if coverage is not None:
        return Dynamics(step, coverage, angles=known[2] if known else ())
    if known is None:
        raise ValueError(
            f"coverage must be given: the states of {type(bare).__name__} have no bounds"
        )
    low, high = np.array(known[0]), np.array(known[1])
    space: Any = made.action_space

    def draw(n: int, rng: np.random.Generator) -> tuple[Points, Points]:
        states = rng.uniform(low, high, (n, len(low)))
        if hasattr(space, "n"):
            return states, rng.integers(space.n, size=(n, 1)).astype(float)
        return states, rng.uniform(space.low, space.high, (n, *space.shape))

    return Dynamics(step, draw, low, high, known[2])


def _classic(bare: Any) -> Step:
    discrete = hasattr(bare.action_space, "n")

    def step(states: Points, actions: Points, rng: np.random.Generator) -> Points:
        made = np.empty_like(states)
        for i, (state, action) in enumerate(zip(states, actions, strict=True)):
            bare.reset()
            bare.state = np.array(state)
            bare.step(int(action[0]) if discrete else action)
            made[i] = bare.state
        return made

    return step


def _mujoco(bare: Any) -> Step:
    n = bare.model.nq

    def step(states: Points, actions: Points, rng: np.random.Generator) -> Points:
        made = np.empty_like(states)
        for i, (state, action) in enumerate(zip(states, actions, strict=True)):
            bare.set_state(state[:n], state[n:])
            bare.do_simulation(action, bare.frame_skip)
            made[i] = np.concatenate([bare.data.qpos, bare.data.qvel])
        return made

    return step
