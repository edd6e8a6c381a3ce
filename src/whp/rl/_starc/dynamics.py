"""Environments of real numbers that can be put into a state: what is sampled from, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from whp.rl._starc.environments import environment

__all__ = ["Classic", "Dynamics", "Points", "dynamics_of"]

Points = np.ndarray  # (n, d): states have d entries, actions another number
Step = Callable[[Points, Points, np.random.Generator], Points]
Draw = Callable[[int, np.random.Generator], tuple[Points, Points]]
PI = np.pi
ROUNDED = 1e-6  # of the box: environments keep states in single precision
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
    time_limit : int, optional
        Steps after which an episode is cut off.
    """

    step: Step
    draw: Draw
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    angles: tuple[int, ...] = ()
    time_limit: int | None = None

    def after(self, states: Points, actions: Points, rng: np.random.Generator) -> Points:
        """Next states; a step that works in place gets copies to work on."""
        return np.array(self.step(states.copy(), actions.copy(), rng), dtype=float)

    def inside(self, states: Points) -> np.ndarray:
        """Which states the coverage can draw; angles are so at any turn."""
        if self.low is None or self.high is None:
            return np.ones(len(states), dtype=bool)
        near = ROUNDED * (self.high - self.low)
        ok = (states >= self.low - near) & (states <= self.high + near)
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
    bare, limit = made.unwrapped, getattr(made.spec, "max_episode_steps", None)
    if hasattr(bare, "set_state") and hasattr(bare, "data"):
        if coverage is None:
            raise ValueError(
                "coverage must be given: the states of this environment have no bounds; pass a function "
                "of a number and a generator that draws states (qpos, qvel) and actions"
            )
        return Dynamics(_mujoco(bare), coverage, time_limit=limit)
    made.reset()
    if getattr(bare, "state", None) is None:
        raise ValueError(f"env must be one that can be put into a state, got {made}")
    known = BOXES.get(type(bare).__name__)
    step = Classic(bare)
    if coverage is not None:
        angles = known[2] if known else ()
        return Dynamics(step, coverage, angles=angles, time_limit=limit)
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

    return Dynamics(step, draw, low, high, known[2], limit)


class Classic:
    """Steps of classic control, which remember whether one of them ended an episode."""

    def __init__(self, bare: Any) -> None:
        self.bare, self.discrete, self.ended = bare, hasattr(bare.action_space, "n"), False

    def __call__(self, states: Points, actions: Points, rng: np.random.Generator) -> Points:
        """Next states, past the end of an episode as before it."""
        made = np.empty_like(states)
        for i, (state, action) in enumerate(zip(states, actions, strict=True)):
            self.bare.reset()
            self.bare.state = np.array(state)
            ended = self.bare.step(int(action[0]) if self.discrete else action)[2]
            self.ended |= bool(ended)
            made[i] = self.bare.state
        return made


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
