"""Episodes of a latent MDP without gymnasium: the same two methods, for loops of the library's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.rl._latent_mdp.model import LatentMDP

__all__ = ["Simulation"]


class Simulation:
    """Draws episodes of a model; ``info["context"]`` of the last step is the context.

    Parameters
    ----------
    model : LatentMDP
    rng : numpy.random.Generator
    """

    def __init__(self, model: LatentMDP, rng: np.random.Generator) -> None:
        self.model, self.rng = model, rng
        self._w, self._nu, self._P = (x.cumsum(-1) for x in (model.w, model.nu, model.P))
        self.context = self.state = self.t = 0

    def drawn(self, steps: np.ndarray) -> int:
        """A place, never one of probability 0."""
        return int((steps > self.rng.random() * steps[-1]).argmax())

    def reset(self, seed: int | None = None) -> tuple[int, dict[str, Any]]:
        """A new context, which stays hidden, and its first state; `seed` is left aside."""
        self.context, self.t = self.drawn(self._w), 0
        self.state = self.drawn(self._nu[self.context])
        return self.state, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """One step."""
        at = self.context, self.state, action
        paid = float(self.model.R[at]) * self.model.reward_scale
        self.state = self.drawn(self._P[at])
        self.t += 1
        over = self.t >= self.model.horizon
        return self.state, paid, False, over, {"context": self.context} if over else {}
