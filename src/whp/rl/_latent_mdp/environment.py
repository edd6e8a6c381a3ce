"""A latent MDP as an environment of gymnasium."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from whp.rl._latent_mdp.model import LatentMDP

__all__ = ["LatentMDPEnv"]


class LatentMDPEnv(gymnasium.Env[int, int]):
    """Episodes of a latent MDP; the context is ``info["context"]`` of the last step.

    Parameters
    ----------
    model : LatentMDP
        An episode is cut off after its horizon (`truncated`).

    Examples
    --------
    >>> model = LatentMDP([0.5, 0.5], [[1.0], [1.0]], [[[[1.0], [1.0]]]] * 2, [[[1, 0]], [[0, 1]]], 1)
    >>> env = LatentMDPEnv(model)
    >>> state, info = env.reset(seed=0)
    >>> env.step(0)[4]["context"] in (0, 1)
    True
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, model: LatentMDP) -> None:
        _, S, A = model.shape
        self.model = model
        self.observation_space: Any = gymnasium.spaces.Discrete(S)
        self.action_space: Any = gymnasium.spaces.Discrete(A)
        self._steps = {"w": model.w.cumsum(), "nu": model.nu.cumsum(-1), "P": model.P.cumsum(-1)}
        self._context = self._state = self._t = 0

    def _drawn(self, steps: np.ndarray) -> int:
        """A place, never one of probability 0."""
        return int((steps > self.np_random.random() * steps[-1]).argmax())

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """A new context, which stays hidden, and its first state."""
        super().reset(seed=seed, options=options)
        self._context = self._drawn(self._steps["w"])
        self._state, self._t = self._drawn(self._steps["nu"][self._context]), 0
        return self._state, {}

    def step(self, action: int | np.integer) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """One step; the last one reveals the context."""
        m, s, a = self._context, self._state, int(action)
        paid = float(self.model.R[m, s, a] * self.model.reward_scale)
        self._state = self._drawn(self._steps["P"][m, s, a])
        self._t += 1
        over = self._t >= self.model.horizon
        return self._state, paid, False, over, {"context": m} if over else {}
