"""Unknown curves: a confidence band for every arm and gap, a plan on its upper end, phase after phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from whp.bandits.recovering_bandits.guarantee import learning_certificate
from whp.bandits.recovering_bandits.plan import (
    RecoveringPlan,
    as_curves,
    plan_recovering,
    upper_bound,
)
from whp.certificate import Certificate
from whp.intervals import exact
from whp.progress import track
from whp.result import Result
from whp.undeclared import met, unchecked, violated
from whp.validate import as_fraction, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RecoveringPolicy", "RecoveringRun", "learn_recovering"]


class RecoveringPolicy:
    """Plans on upper confidence limits, acts by the plan, learns from rewards under their true gaps.

    Parameters
    ----------
    N, K, T, D : int
        Arms, pulls a period, periods, and the gap beyond which curves are taken to be flat.
    bound : float
        Rewards lie in [0, bound] in mean.
    noise : float, optional
        σ of sub-Gaussian rewards; bound/2 by default, which holds for rewards in [0, bound].
    delta : float
        Probability with which the bands may be wrong anywhere.
    phase : int, optional
        Periods between two plans; max(2D, ⌈√T⌉) by default.
    periods : {"auto", "pow2"}, int or sequence of int
        As in :func:`plan_recovering`.
    local_search : bool
        As there; costs time at every phase.

    Attributes
    ----------
    counts, means : ndarray, shape (N, D)
    lcb, ucb : ndarray, shape (N, D)
        Non-decreasing confidence band: with probability 1 − δ all curves lie in it at all times.
    plan : RecoveringPlan
        In force.
    """

    def __init__(
        self,
        N: int,
        K: int,
        T: int,
        *,
        D: int,
        bound: float = 1.0,
        noise: float | None = None,
        delta: float = 0.05,
        phase: int | None = None,
        periods: Literal["auto", "pow2"] | int | Sequence[int] = "auto",
        local_search: bool = False,
    ) -> None:
        self.N, self.K, self.D = as_int(N, "N", low=1), as_int(K, "K", low=1), as_int(D, "D", low=1)
        self.T = as_int(T, "T", low=2 * self.D)
        self.bound = as_real(bound, "bound", low=0, high=math.inf, open_ends=True)
        self.noise = (
            self.bound / 2 if noise is None else as_real(noise, "noise", low=0, high=math.inf)
        )
        self.delta = as_fraction(delta, "delta")
        self.phase = (
            max(2 * self.D, math.ceil(math.sqrt(self.T)))
            if phase is None
            else as_int(phase, "phase", low=1)
        )
        self.periods: Any = periods
        self.local_search = local_search
        self.counts, self.sums = (
            np.zeros((self.N, self.D), dtype=np.int64),
            np.zeros((self.N, self.D)),
        )
        self.last = np.full(
            self.N, -1, dtype=np.int64
        )  # all just pulled in the period before the first
        self.t, self._began = 0, 0
        self.regret_bound, self.benchmark_share = 0.0, 0.0
        self.worst, self.refused = 0.0, 0
        self.gammas: list[float] = []
        self.plan = self._replan(None)

    @property
    def means(self) -> Float[np.ndarray, "N D"]:
        """Mean reward of each arm and gap; NaN where nothing was seen."""
        with np.errstate(invalid="ignore"):
            return np.where(self.counts > 0, self.sums / np.maximum(self.counts, 1), np.nan)

    def _band(self) -> tuple[np.ndarray, np.ndarray]:
        n = np.maximum(self.counts, 1)
        radius = self.noise * np.sqrt(2 * math.log(2 * self.N * self.D * self.T / self.delta) / n)
        seen = self.counts > 0
        mean = self.sums / n
        high = np.where(seen, np.minimum(self.bound, mean + radius), self.bound)
        low = np.where(seen, np.maximum(0.0, mean - radius), 0.0)
        # A longer gap cannot pay less.
        return np.maximum.accumulate(low, axis=1), np.minimum.accumulate(high[:, ::-1], axis=1)[
            :, ::-1
        ]

    @property
    def lcb(self) -> Float[np.ndarray, "N D"]:
        """Lower limits."""
        return self._band()[0]

    @property
    def ucb(self) -> Float[np.ndarray, "N D"]:
        """Upper limits."""
        return self._band()[1]

    def _replan(self, before: RecoveringPlan | None) -> RecoveringPlan:
        low, high = self._band()
        high = np.maximum(
            high, low
        )  # disjoint where a band is broken: the plan still needs a curve
        plan = plan_recovering(
            high, self.K, periods=self.periods, local_search=self.local_search, monotone="envelope"
        )
        length = min(self.phase, self.T - self.t)
        used = np.flatnonzero(plan.period)
        at = np.minimum(plan.period[used], self.D) - 1
        width = float(((high - low)[used, at] / plan.period[used]).sum())
        moved = (
            used
            if before is None
            else [
                i
                for i in used
                if before.period[i] != plan.period[i] or before.offset[i] != plan.offset[i]
            ]
        )
        lost = 2 * sum(float(high[i, min(int(plan.period[i]), self.D) - 1]) for i in moved)
        share = min(plan.ratio, 1.0)
        self.gammas.append(share)
        self.regret_bound += length * width + lost
        self.benchmark_share += share * length
        return plan

    def act(self, t: int | None = None) -> np.ndarray:
        """Arms to pull in period t, by default the next one; at most K."""
        if t is not None and t != self.t:
            raise ValueError(f"t must be {self.t}, the next period, got {t}")
        if self.t >= self.T:
            raise ValueError(f"t must be below T = {self.T}: the run is over")
        if self.t - self._began == self.phase:
            self._began = self.t
            self.plan = self._replan(self.plan)
        used = np.flatnonzero(self.plan.period)
        return used[(self.t - self.plan.offset[used]) % self.plan.period[used] == 0]

    def update(self, arms: Any, rewards: Any) -> None:
        """Rewards of the arms that were really pulled in this period; fewer than planned where some were refused.

        Raises
        ------
        ValueError
            If they do not fit together, or a reward is not finite; nothing is then learnt.
        """
        pulled, paid = (
            np.asarray(arms, dtype=np.int64).ravel(),
            np.asarray(rewards, dtype=np.float64).ravel(),
        )
        if pulled.shape != paid.shape:
            raise ValueError(
                f"rewards must have one entry an arm, got {paid.shape} for {pulled.shape}"
            )
        if (
            len(pulled) > self.K
            or len(np.unique(pulled)) < len(pulled)
            or (len(pulled) and not 0 <= pulled.min() <= pulled.max() < self.N)
        ):
            raise ValueError(f"arms must be at most {self.K} different numbers below {self.N}")
        if not np.isfinite(paid).all():
            raise ValueError("rewards must be finite, got NaN or infinity")
        planned = self.act()
        self.refused += len(np.setdiff1d(planned, pulled))
        if len(paid):
            self.worst = max(self.worst, float(np.maximum(paid - self.bound, -paid).max()))
        gap = (
            np.minimum(self.t - self.last[pulled], self.D) - 1
        )  # the true gap, also the odd first one of a phase
        np.add.at(self.counts, (pulled, gap), 1)
        np.add.at(self.sums, (pulled, gap), paid)
        self.last[pulled] = self.t
        self.t += 1

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, and where in which phase."""
        return {
            "counts": self.counts.copy(),
            "sums": self.sums.copy(),
            "last": self.last.copy(),
            "t": self.t,
            "began": self._began,
            "period": self.plan.period.copy(),
            "offset": self.plan.offset.copy(),
            "gammas": list(self.gammas),
            "totals": [self.regret_bound, self.benchmark_share, self.worst, float(self.refused)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a policy of the same settings."""
        if set(state) != set(self.state_dict()):
            raise ValueError(f"state must hold {', '.join(self.state_dict())}")
        counts, sums = (
            np.array(state["counts"], dtype=np.int64),
            np.array(state["sums"], dtype=np.float64),
        )
        if (
            counts.shape != (self.N, self.D)
            or sums.shape != counts.shape
            or not np.isfinite(sums).all()
        ):
            raise ValueError(
                f"state must hold finite counts and sums of shape ({self.N}, {self.D})"
            )
        from dataclasses import replace

        self.counts, self.sums, self.last = counts, sums, np.array(state["last"], dtype=np.int64)
        self.t, self._began, self.gammas = (
            int(state["t"]),
            int(state["began"]),
            list(state["gammas"]),
        )
        self.plan = replace(
            self.plan, period=np.array(state["period"]), offset=np.array(state["offset"])
        )
        self.regret_bound, self.benchmark_share, self.worst, refused = map(float, state["totals"])
        self.refused = int(refused)


@dataclass(frozen=True, eq=False)
class RecoveringRun(Result):
    """A run of the learner.

    Attributes
    ----------
    reward : ndarray, shape (T,)
    ucb, lcb, counts : ndarray, shape (N, D)
        The band at the end.
    plan : RecoveringPlan
        The last one.
    gamma_hat : float
        Mean share of its bound that a plan had.
    regret_bound : float
        G4, on the run.
    regret : float or None
        Expected reward short of Σ γ̂ L UB, where the true curves were given.
    certificates : tuple of Certificate
        ``regret``.
    """

    reward: np.ndarray
    ucb: np.ndarray
    lcb: np.ndarray
    counts: np.ndarray
    gamma_hat: float
    regret_bound: float
    certificates: tuple[Certificate, ...]
    regret: float | None = None
    plan: RecoveringPlan | None = field(repr=False, default=None)
    benchmark: float = math.nan

    def plot(self, ax: Axes | None = None) -> Axes:
        """Mean reward so far, against what no policy exceeds where that is known."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        t = np.arange(1, len(self.reward) + 1)
        ax.plot(t, np.cumsum(self.reward) / t, label="learnt as it goes")
        if math.isfinite(self.benchmark):
            ax.axhline(self.benchmark, color="0.4", linestyle="--", label="no policy above")
        ax.set(xlabel="periods", ylabel="mean reward a period so far")
        ax.legend(frameon=False)
        return ax


def learn_recovering(
    pull: Callable[[int, np.ndarray], Any],
    N: int,
    K: int,
    T: int,
    *,
    D: int,
    bound: float = 1.0,
    noise: float | None = None,
    delta: float = 0.05,
    phase: int | None = None,
    periods: Literal["auto", "pow2"] | int | Sequence[int] = "auto",
    local_search: bool = False,
    truth: Any = None,
    callback: Callable[[RecoveringPolicy], Any] | None = None,
) -> RecoveringRun:
    """Learn recovery curves while earning on them.

    Parameters
    ----------
    pull : callable
        ``pull(t, arms) -> rewards``, one an arm: the user's environment.
    N, K, T, D, bound, noise, delta, phase, periods, local_search
        As in :class:`RecoveringPolicy`.
    truth : array_like, shape (N, D), optional
        The true mean curves, in a simulator: regret is then measured.
    callback : callable, optional
        Called with the policy after each period.

    Returns
    -------
    RecoveringRun
    """
    policy = RecoveringPolicy(
        N,
        K,
        T,
        D=D,
        bound=bound,
        noise=noise,
        delta=delta,
        phase=phase,
        periods=periods,
        local_search=local_search,
    )
    curves = None if truth is None else as_curves(truth, "truth")
    if curves is not None and curves.shape != (policy.N, policy.D):
        raise ValueError(f"truth must have shape ({policy.N}, {policy.D}), got {curves.shape}")
    reward, expected = np.zeros(policy.T), 0.0
    inside = True
    for t in track(range(policy.T), "learning"):
        arms = policy.act()
        if curves is not None:
            expected += float(curves[arms, np.minimum(t - policy.last[arms], policy.D) - 1].sum())
        paid = np.asarray(pull(t, arms), dtype=np.float64).ravel()
        policy.update(arms, paid)
        reward[t] = paid.sum()
        if callback is not None:
            callback(policy)
    best = math.nan
    regret = None
    if curves is not None:
        best = upper_bound(curves, policy.K)
        regret = policy.benchmark_share * best - expected
        inside = bool((policy.lcb <= curves + 1e-12).all() and (curves <= policy.ucb + 1e-12).all())
    certificates = (_certify(policy, regret, best, inside, curves is not None),)
    return RecoveringRun(
        reward=reward,
        ucb=policy.ucb,
        lcb=policy.lcb,
        counts=policy.counts,
        gamma_hat=policy.benchmark_share / policy.T,
        regret_bound=policy.regret_bound,
        certificates=certificates,
        regret=regret,
        plan=policy.plan,
        benchmark=best,
    )


def _certify(
    policy: RecoveringPolicy, regret: float | None, best: float, inside: bool, known: bool
) -> Certificate:
    margin = f"furthest outside by {policy.worst:.4g}, σ = {policy.noise:g}"
    tails = policy.noise * math.sqrt(
        2 * math.log(2 * policy.N * policy.D * policy.T / policy.delta)
    )
    within = "rewards are sub-Gaussian around means in [0, bound]"
    checked = [
        violated(within, margin, "give a larger bound, or a larger noise.")
        if policy.worst > tails
        else met(within, margin),
        violated(
            "every pull that was planned was made",
            f"{policy.refused} were refused",
            "plan without those arms.",
        )
        if policy.refused
        else met("every pull that was planned was made", f"{policy.t} periods"),
        unchecked(
            "rewards depend on the gap alone, and rise with it",
            "stationary curves without effects across arms",
        ),
    ]
    inputs: dict[str, float | int | str] = {
        "T": policy.T,
        "N": policy.N,
        "K": policy.K,
        "D": policy.D,
        "phases": len(policy.gammas),
    }
    trivial = math.inf
    if known:
        inputs |= {
            "UB of the true curves": best,
            "true curves within the band at the end": str(inside),
        }
        trivial = policy.benchmark_share * best
    else:  # what could be lost at most if every slot paid the bound
        trivial = policy.T * policy.K * policy.bound
    return learning_certificate(
        policy.regret_bound,
        None if regret is None else exact(regret),
        trivial,
        policy.delta,
        checked,
        inputs,
    )
