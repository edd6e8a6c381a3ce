"""Losses of linear predictions: their constants, and the best point of a ball in hindsight."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from whp.online._optimistic_mirror_descent import kernels
from whp.validate import as_real

__all__ = ["Linear", "best_point", "normalized_rows"]

CODES = {"logistic": kernels.LOGISTIC, "squared": kernels.SQUARED, "linear": kernels.LINEAR}


def normalized_rows(X: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d+1"]:
    """A bias in front, then every row divided by its norm: nothing about the future is needed."""
    unit = np.maximum(np.abs(X).max(axis=1, initial=0.0), 1.0)  # else large entries overflow
    inside = X / unit[:, None]
    scale = 1 / np.sqrt(1 / unit / unit + np.einsum("ij,ij->i", inside, inside))
    return np.column_stack([scale / unit, inside * scale[:, None]])


@dataclass(frozen=True)
class Linear:
    """A loss of the prediction ⟨a, w⟩ and its target, plus ½λ‖w‖².

    `B`, `R` and `Y` bound ‖a‖, ‖w‖ and the targets.
    """

    name: str
    B: float
    R: float
    Y: float
    l2: float = 0.0

    @property
    def code(self) -> int:
        """What the compiled loops know it by."""
        return CODES[self.name]

    @property
    def gradient_bound(self) -> float:
        """G."""
        data = {
            "logistic": self.B,
            "squared": self.B * (self.B * self.R + self.Y),
            "linear": self.B * self.Y,
        }[self.name]
        return data + self.l2 * self.R

    @property
    def smoothness(self) -> float:
        """L."""
        return {"logistic": self.B**2 / 4, "squared": self.B**2, "linear": 0.0}[self.name] + self.l2

    @property
    def exp_concavity(self) -> float:
        """α of the loss without its ridge term; zero where it is not exp-concave."""
        match self.name:
            case "logistic":
                return math.exp(-self.B * self.R)
            case "squared":
                return 1 / (self.B * self.R + self.Y) ** 2
            case _:
                return 0.0

    def slopes(
        self, z: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Derivatives at the predictions z."""
        match self.name:
            case "logistic":
                return -y * expit(-y * z)
            case "squared":
                return z - y
            case _:
                return y

    def values(
        self, z: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Losses at the predictions z, without the ridge term."""
        match self.name:
            case "logistic":
                return np.logaddexp(0, -y * z)
            case "squared":
                return 0.5 * (z - y) ** 2
            case _:
                return y * z


def best_point(
    loss: Linear,
    A: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    *,
    tolerance: float = 1e-8,
    rounds: int = 50_000,
) -> tuple[Float[np.ndarray, " d"], float, float]:
    """Minimiser over the ball of Σ weightsᵢ lossᵢ, by accelerated projected gradient with restarts.

    The ridge term counts Σ weights times. Returns the point, its value and a bound on the gap to the minimum (Frank and
    Wolfe's), which is at most `tolerance` times 1 + |value| unless the rounds ran out.
    """
    as_real(tolerance, "tolerance", low=0, open_ends=True)
    total, R = float(weights.sum()), loss.R
    curve = 0.25 if loss.name == "logistic" else 1.0
    L = loss.l2 * total
    if loss.name != "linear":
        L += curve * float(np.linalg.eigvalsh((A * weights[:, None]).T @ A)[-1])

    def at(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = A @ w
        value = float(weights @ loss.values(z, y)) + total * loss.l2 / 2 * float(w @ w)
        return value, A.T @ (weights * loss.slopes(z, y)) + total * loss.l2 * w

    def onto(w: np.ndarray) -> np.ndarray:
        return w * min(1.0, R / max(float(np.linalg.norm(w)), 1e-300))

    if loss.name == "linear" and loss.l2 == 0:
        s = A.T @ (weights * y)
        size = float(np.linalg.norm(s))
        w = -R / size * s if size else np.zeros(A.shape[1])
        return w, float(s @ w), 0.0
    w = ahead = np.zeros(A.shape[1])
    momentum, value, gap = 1.0, math.inf, math.inf
    for k in range(rounds):
        _, g = at(ahead)
        following = onto(ahead - g / max(L, 1e-300))
        if (ahead - following) @ (
            following - w
        ) > 0:  # restart where momentum points uphill (O'Donoghue & Candès 2015)
            momentum = 1.0
        later = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        ahead, w, momentum = following + (momentum - 1) / later * (following - w), following, later
        if k % 10 == 9:
            value, g = at(w)
            gap = float(g @ w) + R * float(np.linalg.norm(g))
            if gap <= tolerance * (1 + abs(value)):
                break
    return w, value, max(gap, 0.0)
