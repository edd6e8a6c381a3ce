"""Tsallis-INF: a bandit that is optimal for random and for adversarial costs, with a bound on regret that is executed as it runs.

Follow the regularised leader with regulariser −(R_t/2)·4Σ(√p_i − p_i/2). Costs are shifted by their least value, 1, and need no
known range: the rate R_t follows their running mean.

References
----------
J. Zimmert, Y. Seldin. Tsallis-INF: An Optimal Algorithm for Stochastic and Adversarial Bandits. JMLR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled
from whp.validate import as_int, as_real, as_vector

__all__ = ["TsallisINF", "tsallis_probabilities"]


@compiled
def _probabilities(k, R, p):
    """p_i = (R/(k_i − min k − x))² with Σp = 1: Newton's method from x = −R, where it is monotone.

    Estimates less their least: beside it, a rate may be smaller than a rounding.
    """
    least = k.min()
    x = -R
    for _ in range(100):
        total, slope = 0.0, 0.0
        for i in range(len(k)):
            gap = (k[i] - least) - x
            q = R / gap
            total += q * q
            slope += 2 * q * q / gap
        step = (total - 1) / slope
        x -= step
        if abs(step) <= 1e-15 * (abs(x) + R):
            break
    total = 0.0
    for i in range(len(k)):
        p[i] = (R / ((k[i] - least) - x)) ** 2
        total += p[i]
    for i in range(len(k)):
        p[i] /= total


@compiled
def replays(costs, cell, cells, sigma, uniforms, paid, bounds):
    """Replays of Tsallis-INF on a table of costs: expected costs and the executed bound, for tests and certificates.

    One learner a cell, `sigma` 0 for the running scale; what a draw decides is averaged over where that is possible.
    """
    T, d = costs.shape
    k, p = np.zeros((cells, d)), np.zeros(d)
    total, rate, before = np.zeros(cells), np.zeros(cells), np.zeros(cells)
    rounds = np.zeros(cells)
    for n in range(len(uniforms)):
        k[:] = 0
        total[:] = 0
        rate[:] = 0
        before[:] = 0
        rounds[:] = 0
        cost, bound = 0.0, 0.0
        for t in range(T):
            c = cell[t]
            if rounds[c] == 0:
                p[:] = 1 / d
            else:
                _probabilities(k[c], rate[c], p)
            u, arm, run, roots, spread = uniforms[n, t], 0, 0.0, 0.0, 0.0
            while arm < d - 1:
                run += p[arm]
                if u < run:
                    break
                arm += 1
            for i in range(d):
                root = math.sqrt(p[i])
                roots += root
                cost += p[i] * costs[t, i]
                spread += root * (costs[t, i] - 1) ** 2
            a = costs[t, arm] - 1
            rounds[c] += 1
            total[c] += a
            scale = sigma if sigma > 0 else max(total[c] / rounds[c], 1.0)
            if rounds[c] == 1:
                # The rate of the first round depends on its draw: so does what stands over it.
                rate[c] = scale * math.sqrt(2)
                spread = 0.0
                for i in range(d):
                    own = sigma if sigma > 0 else max(costs[t, i] - 1, 1.0)
                    spread += math.sqrt(p[i]) * (costs[t, i] - 1) ** 2 / (own * math.sqrt(2))
                bound += spread
            else:
                bound += spread / rate[c]
            bound += 2 * (rate[c] - before[c]) * (roots - 1)
            k[c, arm] += a / p[arm]
            before[c] = rate[c]
            rate[c] = max(rate[c], scale * math.sqrt(rounds[c] + 1))
        paid[n], bounds[n] = cost, bound


def tsallis_probabilities(k: Any, R: float) -> Float[np.ndarray, " d"]:
    """Weights of arms with cumulated cost estimates `k` at rate `R`.

    Parameters
    ----------
    k : array_like, shape (d,)
        Estimates.
    R : float
        Rate, positive; 2/η times the scale of the costs.
    """
    estimates = as_vector(k, "k", dtype=np.float64)
    p = np.empty(len(estimates))
    _probabilities(estimates, as_real(R, "R", low=0, high=math.inf, open_ends=True), p)
    return p


class TsallisINF:
    """Arms of costs at least 1, one drawn a round.

    Parameters
    ----------
    n_arms : int
    rate : str
        ``"running"``: R_{t+1} = max(R_t, σ_t √(t + 1)) with σ_t the running mean of costs less 1; ``"fixed:σ"`` with a σ of your
        own, e.g. ``"fixed:150"``. The worst case is σ = the largest cost less 1.
    rng : numpy.random.Generator, int or None
        Of the draws.

    Attributes
    ----------
    k : ndarray, shape (d,)
        Importance-weighted estimates of cumulated costs.
    rounds : int
    rate : float
        R in force.
    bound : float
        Executed bound on expected regret: the sum over rounds of 2(R_t − R_{t−1})(Σ√p − 1) and (c − 1)²/(R_t √p_I).
    """

    def __init__(
        self, n_arms: int, rate: str = "running", rng: np.random.Generator | int | None = None
    ) -> None:
        self.n_arms = as_int(n_arms, "n_arms", low=1)
        kind, _, sigma = str(rate).partition(":")
        if kind not in ("running", "fixed") or (kind == "running") == bool(sigma):
            raise ValueError(f"rate must be 'running' or 'fixed:' with a number, got {rate!r}")
        try:
            self._sigma = (
                as_real(float(sigma), "rate", low=0, open_ends=True, high=math.inf)
                if sigma
                else 0.0
            )
        except ValueError as error:
            raise ValueError(f"rate must end in a positive number, got {rate!r}") from error
        self.k, self.rounds, self.rate, self.bound = np.zeros(self.n_arms), 0, 0.0, 0.0
        self._total, self._before, self._arm = 0.0, 0.0, -1
        self._p = np.full(self.n_arms, 1 / self.n_arms)
        self._rng = np.random.default_rng(rng)

    @property
    def probabilities(self) -> Float[np.ndarray, " d"]:
        """Of the next draw."""
        if self.rounds and self._arm < 0:
            _probabilities(self.k, self.rate, self._p)
        return self._p.copy()

    def ask(self) -> int:
        """Draw an arm."""
        p = self.probabilities
        self._arm = min(
            int(np.searchsorted(np.cumsum(p), self._rng.random() * p.sum(), side="right")),
            self.n_arms - 1,
        )
        return self._arm

    def tell(self, cost: float | np.number) -> None:
        """Learn the cost, at least 1, of the arm that was drawn.

        Raises
        ------
        ValueError
            If nothing was drawn, or the cost is below 1.
        """
        if self._arm < 0:
            raise ValueError("ask must come before tell")
        c = as_real(float(cost), "cost", low=1, high=1e300) - 1
        t, arm, p = self.rounds + 1, self._arm, self._p
        self._total += c
        sigma = self._sigma or max(self._total / t, 1.0)
        if (
            t == 1
        ):  # the first round is uniform at any rate: it counts as if played at the second one's
            self.rate = sigma * math.sqrt(2)
        self.bound += 2 * (self.rate - self._before) * (float(np.sqrt(p).sum()) - 1) + c * c / (
            self.rate * math.sqrt(p[arm])
        )
        self.k[arm] += c / p[arm]
        self._before = self.rate
        self.rate = max(self.rate, sigma * math.sqrt(t + 1))
        self.rounds, self._arm = t, -1

    def state_dict(self) -> dict[str, Any]:
        """All that has been learnt, and the state of the draws; plain numbers and arrays."""
        return {
            "k": self.k.copy(),
            "rounds": self.rounds,
            "rate": self.rate,
            "bound": self.bound,
            "total": self._total,
            "before": self._before,
            "p": self._p.copy(),
            "arm": self._arm,
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken: the draws that follow are the same."""
        if set(state) != set(self.state_dict()):
            raise ValueError(f"state must hold {', '.join(self.state_dict())}")
        k, p = (
            as_vector(state[n], f"state[{n!r}]", size=self.n_arms, dtype=np.float64)
            for n in ("k", "p")
        )
        self._rng.bit_generator.state = state["rng"]
        self.k, self._p = k.copy(), p.copy()
        self.rounds, self._arm = int(state["rounds"]), int(state["arm"])
        self.rate, self.bound = float(state["rate"]), float(state["bound"])
        self._total, self._before = float(state["total"]), float(state["before"])
