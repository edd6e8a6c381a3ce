"""Follow the regularised leader on a simplex: with the log-barrier, or with entropy (hedge)."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from whp.door import Above, AtLeast, front_door
from whp.kernel import compiled
from whp.validate import as_floats

__all__ = ["LogBarrierFTRL", "barrier_point", "hedge_point", "log_barrier"]


@compiled
def barrier_point(scores: np.ndarray, eta: float, point: np.ndarray) -> None:
    """argmin_p η⟨p, C⟩ + Σ ln(1/p_a), into `point`: p = 1/(g + λ), g = η(C − min C), Σp = 1.

    Σ 1/(g + λ) falls and is convex in λ, and is at least 1 at λ = 1 since some g is 0: Newton's steps
    from there rise to the root and never pass it.
    """
    low = scores.min()
    size = scores.shape[0]
    shift = 1.0
    for _ in range(200):
        total = 0.0
        slope = 0.0
        for a in range(size):
            p = 1.0 / (eta * (scores[a] - low) + shift)
            total += p
            slope += p * p
        after = shift + (total - 1.0) / slope
        if after <= shift * (1 + 1e-16):
            break
        shift = after
    total = 0.0
    for a in range(size):
        point[a] = 1.0 / (eta * (scores[a] - low) + shift)
        total += point[a]
    for a in range(size):
        point[a] /= total


@compiled
def hedge_point(scores: np.ndarray, eta: float, point: np.ndarray) -> None:
    """p ∝ exp(−ηC), into `point`."""
    low = scores.min()
    total = 0.0
    for a in range(scores.shape[0]):
        point[a] = np.exp(-eta * (scores[a] - low))
        total += point[a]
    for a in range(scores.shape[0]):
        point[a] /= total


@compiled
def _rows(scores: np.ndarray, eta: float, points: np.ndarray) -> None:
    for i in range(scores.shape[0]):
        barrier_point(scores[i], eta, points[i])


@front_door
def log_barrier(scores: Any, eta: Annotated[float, Above(0)] = 1.0) -> np.ndarray:
    """The point of the simplex that follows the log-barrier-regularised leader.

    Parameters
    ----------
    scores : array_like, shape (..., A)
        Summed losses of each action; a point is found for each row.
    eta : float
        Learning rate η.

    Returns
    -------
    ndarray, shape (..., A)
        argmin_p η⟨p, scores⟩ + Σ_a ln(1/p_a).

    Examples
    --------
    >>> log_barrier([0, 1, 5]).round(4)
    array([0.5157, 0.3402, 0.1441])
    """
    array = as_floats(scores, "scores")
    if array.ndim < 1 or array.shape[-1] < 1 or not np.isfinite(array).all():
        raise ValueError(f"scores must be finite, with an action a column, got shape {array.shape}")
    rows = np.ascontiguousarray(array.reshape(-1, array.shape[-1]))
    points = np.empty_like(rows)
    _rows(rows, eta, points)
    return points.reshape(array.shape)


class LogBarrierFTRL:
    """Learn which of A actions loses least, from losses of any size and sign.

    The regret to p′ = (1 − Aε) p* + ε1 is at most Σ_a ln(1/(A p′_a))/η + (η/2) Σ_k Σ_a p_k(a) ℓ_k(a)²,
    however negative the losses: hedge has such a bound only while ηℓ ≥ −1.

    Parameters
    ----------
    n_actions : int
        A.
    eta : float
        Learning rate η; √(A ln K / Σ p ℓ²) is best in hindsight.

    Attributes
    ----------
    scores_ : ndarray, shape (A,)
        Summed losses.
    policy_ : ndarray, shape (A,)
        What to play next.
    """

    @front_door
    def __init__(
        self, n_actions: Annotated[int, AtLeast(1)], eta: Annotated[float, Above(0)]
    ) -> None:
        self.n_actions, self.eta = n_actions, eta
        self.scores_ = np.zeros(n_actions)
        self.policy_ = np.full(n_actions, 1 / n_actions)

    def update(self, losses: Any) -> np.ndarray:
        """Take the losses (or their estimates) of all actions, and return the next policy."""
        array = as_floats(losses, "losses")
        if array.shape != (self.n_actions,) or not np.isfinite(array).all():
            raise ValueError(f"losses must be {self.n_actions} finite numbers, got {array.shape}")
        scores = self.scores_ + array
        self.policy_ = log_barrier(scores, self.eta)  # refuses an overflow, and nothing is learnt
        self.scores_ = scores
        return self.policy_
