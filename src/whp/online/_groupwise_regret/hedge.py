"""AdaNormalHedge for experts that sleep: no learning rate, no horizon, an executed bound.

References
----------
H. Luo, R. Schapire. Achieving All with No Parameters: AdaNormalHedge. COLT 2015.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from whp.kernel import compiled
from whp.validate import as_int, as_vector

__all__ = [
    "AdaNormalHedge",
    "as_active",
    "hedge_update",
    "hedge_weights",
    "log_weight",
    "meta_bound",
]


@compiled
def log_weight(R, C):
    """ln w(R, C), w = ½(Φ(R+1, C+1) − Φ(R−1, C+1)), Φ(R, C) = exp([R]₊²/(3C)).

    In logarithms nothing overflows.
    """
    a, b = max(R + 1.0, 0.0) ** 2 / (3 * (C + 1)), max(R - 1.0, 0.0) ** 2 / (3 * (C + 1))
    return -np.inf if a == b else a + math.log(-math.expm1(b - a)) - math.log(2.0)


@compiled
def hedge_weights(R, C, prior, active, p):
    """Probabilities of the active experts into p, exact zeros where they sleep; whether any is active."""
    top, awake = -np.inf, False
    for g in range(len(R)):
        p[g] = 0.0
        if active[g]:
            awake = True
            p[g] = log_weight(R[g], C[g])
            top = max(top, p[g])
    if not awake:
        return False
    total = 0.0
    for g in range(len(R)):
        if active[g]:
            # With all weights zero (every regret ≤ −1) the prior among the active ones decides.
            p[g] = prior[g] * (math.exp(p[g] - top) if top > -np.inf else 1.0)
            total += p[g]
    for g in range(len(R)):
        p[g] /= total
    return True


@compiled
def hedge_update(R, C, prior, active, p, losses):
    """Regrets after the losses of the active experts: mixture loss, growth of the budget, largest |r|."""
    mixture, growth, worst = 0.0, 0.0, 0.0
    for g in range(len(R)):
        if active[g]:
            mixture += p[g] * losses[g]
    for g in range(len(R)):
        if active[g]:
            r = mixture - losses[g]
            growth += 1.5 * prior[g] * abs(r) / (C[g] + 1)  # C before its update
            R[g] += r
            C[g] += abs(r)
            worst = max(worst, abs(r))
    return mixture, growth, worst


def meta_bound(C: Any, prior: Any, budget: float) -> Any:
    """√(3 C (ln 1/q + ln B)): what the mixture can lose to each expert over its rounds (docs: mixture)."""
    with np.errstate(divide="ignore"):
        return np.sqrt(3 * C * (-np.log(prior) + math.log(budget)))


def as_active(value: Any, size: int, name: str = "active") -> Bool[np.ndarray, " N"]:
    """Membership of one round."""
    array = np.asarray(value)
    if array.shape != (size,):
        raise ValueError(f"{name} must have {size} entries, one a group, got shape {array.shape}")
    if array.dtype.kind not in "bif" or not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold 0/1 only")
    return array.astype(bool)


class AdaNormalHedge:
    """Weights for experts of which only some are awake each round.

    Parameters
    ----------
    n_experts : int
    prior : array_like, shape (N,), optional
        Positive and summing to 1; uniform by default.

    Attributes
    ----------
    R, C : ndarray, shape (N,)
        Regret of the mixture to each expert over its rounds, and the sum of its sizes.
    B : float
        Budget of the potential, 1 at the start; its logarithm grows like ln ln T.

    Examples
    --------
    >>> hedge = AdaNormalHedge(2)
    >>> hedge.update([0.0, 1.0], [True, True])
    0.5
    >>> hedge.weights([True, True])
    array([1., 0.])
    """

    def __init__(self, n_experts: int, prior: Any = None) -> None:
        n = as_int(n_experts, "n_experts", low=1)
        self.prior = (
            np.full(n, 1 / n)
            if prior is None
            else as_vector(prior, "prior", size=n, dtype=np.float64)
        )
        if (self.prior <= 0).any() or abs(self.prior.sum() - 1) > 1e-9:
            raise ValueError(
                f"prior must be positive and sum to 1, got a sum of {self.prior.sum():g}"
            )
        self.R, self.C, self.B = np.zeros(n), np.zeros(n), 1.0
        self.largest = 0.0

    def weights(self, active: Any) -> Float[np.ndarray, " N"]:
        """Probabilities of this round; uniform where nobody is awake."""
        p = np.empty(len(self.R))
        if not hedge_weights(self.R, self.C, self.prior, as_active(active, len(p)), p):
            p[:] = 1 / len(p)
        return p

    def update(self, losses: Any, active: Any) -> float:
        """Learn from losses in [0, 1], those of sleeping experts left alone; the mixture's loss.

        Raises
        ------
        ValueError
            If the loss of an active expert is not in [0, 1]; nothing is then learnt.
        """
        awake = as_active(active, len(self.R))
        ell = np.asarray(losses, dtype=np.float64)
        if ell.shape != self.R.shape:
            raise ValueError(f"losses must have shape {self.R.shape}, got {ell.shape}")
        if not ((ell >= 0) & (ell <= 1))[awake].all():
            raise ValueError(
                "losses must be in [0, 1] for active experts; scale them by their range"
            )
        if not awake.any():
            return 0.0
        mixture, growth, worst = hedge_update(
            self.R, self.C, self.prior, awake, self.weights(awake), ell
        )
        self.B += growth
        self.largest = max(self.largest, worst)
        return float(mixture)

    def bound(self) -> Float[np.ndarray, " N"]:
        """Bound on each entry of `R`."""
        return meta_bound(self.C, self.prior, self.B)

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that has been learnt."""
        return {
            "R": self.R.copy(),
            "C": self.C.copy(),
            "B": np.array([self.B, self.largest]),
            "prior": self.prior.copy(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, with the prior of then, for which its budget is."""
        if set(state) != {"R", "C", "B", "prior"}:
            raise ValueError("state must hold R, C, B, prior")
        arrays = {k: np.array(v, dtype=np.float64) for k, v in state.items()}
        if (
            arrays["R"].shape != self.R.shape
            or arrays["C"].shape != self.C.shape
            or arrays["B"].shape != (2,)
        ):
            raise ValueError(f"state must be of {len(self.R)} experts")
        if not np.array_equal(arrays["prior"], self.prior):
            raise ValueError(
                "state must have been learnt with this prior, to which its budget belongs"
            )
        self.R, self.C = arrays["R"], arrays["C"]
        self.B, self.largest = map(float, arrays["B"])
