"""Arms that recover, as a gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from whp.bandits._recovering_bandits.plan import as_curves
from whp.validate import as_choice, as_int, as_real

__all__ = ["RecoveringEnv"]


class RecoveringEnv(gymnasium.Env):
    """Each step pulls a set of arms; the observation is how long each has been idle, up to D.

    Parameters
    ----------
    curves : array_like, shape (N, D)
        Mean rewards by gap.
    K : int
        Arms that may be pulled at once; of more, those with the smallest numbers are.
    T : int
        Steps of an episode.
    noise : float
        Standard deviation of normal noise on each reward.
    start : {"just_pulled", "rested"}
        Idle times at the start: 1, or D.
    """

    metadata = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self, curves: Any, K: int, T: int = 1000, *, noise: float = 0.0, start: str = "just_pulled"
    ) -> None:
        self.curves = as_curves(curves)
        self.K, self.T = as_int(K, "K", low=1), as_int(T, "T", low=1)
        self.noise, self.start = (
            as_real(noise, "noise", low=0),
            as_choice(start, "start", ("just_pulled", "rested")),
        )
        N, D = self.curves.shape
        self.action_space = gymnasium.spaces.MultiBinary(N)
        self.observation_space = gymnasium.spaces.Box(1, D, (N,), dtype=np.int64)
        self._idle, self._t = np.ones(N, dtype=np.int64), 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        N, D = self.curves.shape
        self._idle, self._t = np.full(N, 1 if self.start == "just_pulled" else D, dtype=np.int64), 0
        return self._idle.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pull the arms whose entry is 1; ``info["rewards"]`` has one a pulled arm."""
        flags = np.asarray(action)
        if flags.shape != self._idle.shape or not np.isin(flags, (0, 1)).all():
            raise ValueError(
                f"action must hold {len(self._idle)} zeros and ones, got shape {flags.shape}"
            )
        arms = np.flatnonzero(flags)[: self.K]
        rewards = self.curves[
            arms, self._idle[arms] - 1
        ] + self.noise * self.np_random.standard_normal(len(arms))
        self._idle = np.minimum(self._idle + 1, self.curves.shape[1])
        self._idle[arms] = 1
        self._t += 1
        return (
            self._idle.copy(),
            float(rewards.sum()),
            False,
            self._t >= self.T,
            {"arms": arms, "rewards": rewards},
        )
