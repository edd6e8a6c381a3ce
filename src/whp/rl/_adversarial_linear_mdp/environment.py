"""A layered problem as a gymnasium environment whose losses are a table."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from whp.rl._adversarial_linear_mdp.model import LinearQModel
from whp.validate import as_floats

__all__ = ["LayeredEnv"]


class LayeredEnv(gymnasium.Env):
    """Episodes of a model; the reward is minus the loss of episode, step, state and action.

    Parameters
    ----------
    model : LinearQModel
    losses : array_like, shape (K, H, X, A)
        Each reset begins the next episode, after the last the first again; one with a seed begins the
        first.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(self, model: LinearQModel, losses: Any) -> None:
        self.model, self.losses = model, as_floats(losses, "losses")
        H, X, A, _ = model.shape
        if self.losses.shape[1:] != (H, X, A) or not np.isfinite(self.losses).all():
            raise ValueError(
                f"losses must be finite, of shape (K, {H}, {X}, {A}), got {self.losses.shape}"
            )
        self.observation_space = gymnasium.spaces.Discrete(X)
        self.action_space = gymnasium.spaces.Discrete(A)
        self._episode, self._step, self._state = -1, 0, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Begin the next episode; the observation is the number of the state."""
        super().reset(seed=seed)
        self._episode = 0 if seed is not None else (self._episode + 1) % len(self.losses)
        self._step = 0
        self._state = int(self.np_random.choice(len(self.model.init), p=self.model.init))
        return self._state, {"step": 0}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """Take an action; the episode ends after H of them."""
        h, a = self._step, int(action)
        if not self.action_space.contains(a) or h >= self.model.shape[0]:
            raise ValueError(f"action {action!r} at step {h}: reset() first, or choose another")
        reward = -float(self.losses[self._episode, h, self._state, a])
        self._step += 1
        ended = self._step == self.model.shape[0]
        if not ended:
            law = self.model.P[h, self._state, a]
            self._state = int(self.np_random.choice(len(law), p=law))
        return self._state, reward, ended, False, {"step": self._step}
