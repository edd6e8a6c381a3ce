"""What a run is made of, added up over its episodes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from whp.rl._adversarial_linear_mdp import passes
from whp.rl._adversarial_linear_mdp.model import LinearQModel

__all__ = ["Sums"]


@dataclass(eq=False)
class Sums:
    """What a run is made of; the leading axis is the replays."""

    scores: Float[np.ndarray, "R H X A"]  # Σ Q̂ − B
    played: Float[np.ndarray, "R H X"]  # Σ ⟨π, Q̂ − B⟩
    squares: Float[np.ndarray, "R H X"]  # Σ ⟨π, (Q̂ − B)²⟩
    worst: Float[np.ndarray, "R H X"]  # Σ max (Q̂ − B)
    extremes: Float[np.ndarray, "R 4"]
    thetas: Float[np.ndarray, "R H d"]  # Σ Σ†φL
    pi: Float[np.ndarray, "R H X A"]  # the last policies played
    Q: Float[np.ndarray, "R H X A"]
    B: Float[np.ndarray, "R H X A"]
    paid: Float[np.ndarray, " R"]
    values: Float[np.ndarray, " R"]  # Σ V^π, known where whole tables were replayed
    streams: list[np.random.Generator]
    total: Float[np.ndarray, "H X A"]  # Σ of the tables
    ends: Float[np.ndarray, " 2"]  # Σ of the least and of the largest value of any policy
    residual: float = 0.0  # of the losses from linear
    episodes: int = 0
    curve: list[tuple[int, float, float]] = field(default_factory=list)

    @classmethod
    def zero(cls, model: LinearQModel, runs: int) -> Sums:
        """Before the first episode."""
        H, X, A, d = model.shape
        extremes = np.zeros((runs, 4))
        extremes[:, [passes.MOVE_MIN, passes.ESTIMATE_MIN]] = np.inf
        table, states = (runs, H, X, A), (runs, H, X)
        return cls(
            np.zeros(table),
            np.zeros(states),
            np.zeros(states),
            np.zeros(states),
            extremes,
            np.zeros((runs, H, d)),
            np.full(table, 1 / A),
            np.zeros(table),
            np.zeros(table),
            np.zeros(runs),
            np.zeros(runs),
            [],
            np.zeros((H, X, A)),
            np.zeros(2),
        )
