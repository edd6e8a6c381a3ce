"""Unknown curves: limits for every arm and gap, a plan on the upper ones, phase after phase."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float

from whp.bandits._recovering_bandits import theorems as th
from whp.bandits._recovering_bandits.curves import as_curves
from whp.bandits._recovering_bandits.plan import Timetable, best_timetable, upper_bound
from whp.certificate import Answer, Certificate
from whp.door import Above, AtLeast, Fraction, front_door
from whp.progress import track
from whp.result import PALETTE, Result
from whp.validate import as_choice, as_floats, as_fraction, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RecoveringPolicy", "RecoveringRun", "learn_recovering"]

LEVEL = 0.01  # of each of the four tests of conditions


class RecoveringPolicy:
    """Plans on upper confidence limits, acts by the plan, learns from rewards under their gaps.

    Parameters
    ----------
    N, K, T, D : int
        Arms, pulls a period, periods, and the gap beyond which curves are taken to be flat.
    bound : float
        Mean rewards lie in [0, bound].
    noise : float, optional
        σ of sub-Gaussian rewards; bound/2 by default, which holds for rewards in [0, bound].
    delta : float
        Probability with which the limits may be wrong anywhere.
    phase : int, optional
        Periods between two plans; max(2D, ⌈√T⌉) by default.
    periods : {"auto", "pow2"}, int or sequence of int
        As in :func:`plan_recovering`.
    local_search : bool
        As there; costs time at every phase.
    start : {"just_pulled", "rested"}
        Gaps of the first pulls: all arms were pulled in the period before the first, or have rested
        D periods or more.

    Attributes
    ----------
    counts, means : ndarray, shape (N, D)
        Rewards seen of each arm and gap, and their mean.
    lcb, ucb : ndarray, shape (N, D)
        Limits: with probability 1 − δ all curves lie in them at all times, whether they rise or not.
    plan : Timetable
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
        start: Literal["just_pulled", "rested"] = "just_pulled",
    ) -> None:
        self.N, self.K, self.D = as_int(N, "N", low=1), as_int(K, "K", low=1), as_int(D, "D", low=1)
        self.T = as_int(T, "T", low=2 * self.D)
        self.bound = as_real(bound, "bound", low=0, high=math.inf, open_ends=True)
        self.bounded = noise is None
        self.noise = self.bound / 2 if noise is None else as_real(noise, "noise", low=0)
        self.delta = as_fraction(delta, "delta")
        usual = max(2 * self.D, math.ceil(math.sqrt(self.T)))
        self.phase = usual if phase is None else as_int(phase, "phase", low=1)
        self.periods: Any = periods
        self.local_search = local_search
        self.start = as_choice(start, "start", ("just_pulled", "rested"))
        # Rewards of the first half of the periods [0], and of the second [1]; squares around means.
        self._counts = np.zeros((2, self.N, self.D), dtype=np.int64)
        self._sums = np.zeros((2, self.N, self.D))
        self._squares = np.zeros((self.N, self.D))
        self.last = np.full(self.N, -1 if start == "just_pulled" else -self.D, dtype=np.int64)
        self.t, self._began = 0, 0
        self.regret_bound, self.benchmark_share = 0.0, 0.0
        self.outside, self.refused = 0.0, 0
        self.gammas: list[float] = []
        self.plan = self._replan(None)

    @property
    def counts(self) -> np.ndarray:
        """Rewards seen of each arm and gap."""
        return self._counts.sum(axis=0)

    @property
    def means(self) -> Float[np.ndarray, "N D"]:
        """Mean reward of each arm and gap; NaN where nothing was seen."""
        n = self.counts
        return np.where(n > 0, self._sums.sum(axis=0) / np.maximum(n, 1), np.nan)

    def radius(self, n: Any, delta: float | None = None) -> Any:
        """How far the mean of n rewards is from the true one, for all cells and all n up to T."""
        cells = 2 * self.N * self.D * self.T / (self.delta if delta is None else delta)
        return self.noise * np.sqrt(2 * math.log(cells) / np.maximum(n, 1))

    def _band(self) -> tuple[np.ndarray, np.ndarray]:
        n = self.counts
        seen, mean, radius = n > 0, np.nan_to_num(self.means), self.radius(n)
        high = np.where(seen, np.minimum(self.bound, mean + radius), self.bound)
        low = np.where(seen, np.maximum(0.0, mean - radius), 0.0)
        return low, high

    @property
    def lcb(self) -> Float[np.ndarray, "N D"]:
        """Lower limits."""
        return self._band()[0]

    @property
    def ucb(self) -> Float[np.ndarray, "N D"]:
        """Upper limits."""
        return self._band()[1]

    def _replan(self, before: Timetable | None) -> Timetable:
        low, high = self._band()
        # A longer gap cannot pay less.
        low = np.maximum.accumulate(low, axis=1)
        high = np.minimum.accumulate(high[:, ::-1], axis=1)[:, ::-1]
        # Limits that contradict each other mean a broken condition; the plan still needs a curve.
        high = np.maximum(high, low)
        plan = best_timetable(high, self.K, self.periods, self.local_search)
        length = min(self.phase, self.T - self.t)
        used = np.flatnonzero(plan.period)
        at = np.minimum(plan.period[used], self.D) - 1
        width = float(((high - low)[used, at] / plan.period[used]).sum())
        moved = np.ones(len(used), dtype=bool)
        if before is not None:
            moved = (before.period[used] != plan.period[used]) | (
                before.offset[used] != plan.offset[used]
            )
        lost = 2 * float(high[used, at][moved].sum())
        share = min(plan.ratio, 1.0)
        self.gammas.append(share)
        self.regret_bound += self.cost(length, width, lost)
        self.benchmark_share += share * length
        return plan

    def cost(self, length: int, width: float, lost: float) -> float:
        """What a phase adds to the bound on regret (docs: regret)."""
        return length * width + lost

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

    def gaps(self, arms: Any) -> np.ndarray:
        """True gaps of these arms if they are pulled now, D at most."""
        return np.minimum(self.t - self.last[np.asarray(arms, dtype=np.int64)], self.D)

    def update(self, arms: Any, rewards: Any) -> None:
        """Rewards of the arms that were really pulled in this period.

        Parameters
        ----------
        arms : array_like of int
            Fewer than planned where some were refused.
        rewards : array_like of float
            One an arm.

        Raises
        ------
        ValueError
            If they do not fit together, or a reward is not finite; nothing is then learnt.
        """
        pulled = np.asarray(arms).ravel()
        if pulled.dtype.kind not in "iu" and len(pulled):
            raise ValueError(f"arms must hold whole numbers, got dtype {pulled.dtype}")
        pulled, paid = pulled.astype(np.int64), as_floats(rewards, "rewards").ravel()
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
        self.refused += len(np.setxor1d(planned, pulled))
        if len(paid):
            self.outside = max(self.outside, float(np.maximum(paid - self.bound, -paid).max()))
        gap = self.gaps(pulled) - 1  # the true gap, also the odd first one of a phase
        half = int(2 * self.t >= self.T)
        n, total = (a[:, pulled, gap].sum(axis=0) for a in (self._counts, self._sums))
        # Welford's: where means are 10⁷ times the noise, Σ x² − n mean² is all rounding.
        self._squares[pulled, gap] += n / (n + 1) * (paid - total / np.maximum(n, 1)) ** 2
        self._counts[half, pulled, gap] += 1
        self._sums[half, pulled, gap] += paid
        self.last[pulled] = self.t
        self.t += 1

    def __copy__(self) -> RecoveringPolicy:
        """What was learnt is changed in place, so that no copy may share it."""
        return deepcopy(self)

    def _settings(self) -> dict[str, Any]:
        return {
            "N": self.N,
            "K": self.K,
            "T": self.T,
            "D": self.D,
            "bound": self.bound,
            "noise": self.noise,
            "bounded": self.bounded,
            "delta": self.delta,
            "phase": self.phase,
            "periods": self.periods
            if isinstance(self.periods, str)
            else np.asarray(self.periods).tolist(),
            "local_search": bool(self.local_search),
            "start": self.start,
        }

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, where in which phase, and with which settings."""
        return {
            "settings": self._settings(),
            "counts": self._counts.copy(),
            "sums": self._sums.copy(),
            "squares": self._squares.copy(),
            "last": self.last.copy(),
            "t": self.t,
            "began": self._began,
            "period": self.plan.period.copy(),
            "offset": self.plan.offset.copy(),
            "channel": self.plan.channel.copy(),
            "planned": [self.plan.value, self.plan.bound.value, self.plan.bound.price],
            "gammas": list(self.gammas),
            "totals": [self.regret_bound, self.benchmark_share, self.outside, float(self.refused)],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises
        ------
        ValueError
            If it is of other settings, or damaged.
        """
        if set(state) != set(self.state_dict()):
            raise ValueError(f"state must hold {', '.join(self.state_dict())}")
        own = self._settings()
        if other := [k for k, v in own.items() if state["settings"].get(k) != v]:
            k = other[0]
            raise ValueError(
                f"state must be of the same settings: {k} is {state['settings'].get(k)!r} there and "
                f"{own[k]!r} here"
            )
        counts = np.array(state["counts"], dtype=np.int64)
        sums = np.array(state["sums"], dtype=np.float64)
        squares = np.array(state["squares"], dtype=np.float64)
        last = np.array(state["last"], dtype=np.int64)
        period, offset, channel = (
            np.array(state[k], dtype=np.int64) for k in ("period", "offset", "channel")
        )
        shapes = [a.shape for a in (counts, sums, squares, last, period, offset, channel)]
        cells = (self.N, self.D)
        right = shapes == [(2, *cells), (2, *cells), cells, *((self.N,),) * 4]
        now = as_int(state["t"], "t", low=0, high=self.T)
        if (
            not right
            or not (np.isfinite(sums).all() and np.isfinite(squares).all())
            or counts.min() < 0
            or last.max() >= now > 0
            or not ((offset >= 0) & (offset < np.maximum(period, 1)) & (period >= 0)).all()
        ):
            raise ValueError("state must hold finite sums and counts of this policy's shape")
        began = as_int(state["began"], "began", low=0, high=now)
        gammas = [float(g) for g in state["gammas"]]
        promised, share, outside, refused = map(float, state["totals"])
        value, bound, price = map(float, state["planned"])
        # All was read: from here on nothing can fail.
        self._counts, self._sums, self._squares, self.last = counts, sums, squares, last
        self.t, self._began, self.gammas = now, began, gammas
        solved = replace(self.plan.bound, value=bound, price=price)
        self.plan = Timetable(period, offset, channel, value, solved)
        self.regret_bound, self.benchmark_share = promised, share
        self.outside, self.refused = outside, int(refused)

    def answers(self) -> dict[th.Condition, Answer]:
        """What the rewards seen so far say about each condition."""
        n, mean = self.counts, np.nan_to_num(self.means)
        inside = self.outside <= 1e-12 * self.bound  # rounding
        where = (
            f"all rewards in [0, {self.bound:g}]"
            if inside
            else f"a reward was {self.outside:.4g} outside of [0, {self.bound:g}]"
        )
        if self.bounded:
            noise = th.NOISE.check(
                inside, f"{where}, where σ = bound/2", remedy="give a larger bound, or noise=."
            )
            reach = th.MEANS_IN_RANGE.check(inside, where)
        else:
            noise = self._noise()
            beyond = np.where(n > 0, np.maximum(mean - self.bound, -mean), 0.0)
            reach = self._tested(
                th.MEANS_IN_RANGE, beyond, np.sqrt(np.maximum(n, 1)), "a mean outside by {:.3g}"
            )
        roots = np.sqrt(np.maximum(n, 1))
        both = (n[:, 1:] > 0) & (n[:, :-1] > 0)
        fall = np.where(both, mean[:, :-1] - mean[:, 1:], 0.0)
        rises = self._tested(
            th.RISING,
            fall,
            1 / (1 / roots[:, 1:] + 1 / roots[:, :-1]),
            "a fall of {:.3g} between neighbouring gaps",
        )
        counts = np.maximum(self._counts, 1)
        halves = self._sums / counts
        known = (self._counts > 0).all(axis=0)
        same = self._tested(
            th.SAME_LATER,
            np.where(known, np.abs(halves[0] - halves[1]), 0.0),
            np.where(known, 1 / (1 / np.sqrt(counts)).sum(axis=0), 0.0),
            "a change of {:.3g} between the halves of the periods",
        )
        pulled = th.PULLED.check(
            self.refused == 0, f"{self.refused} pulls of {self.t} periods were not as planned"
        )
        own = th.OWN_GAP.unchecked("rewards do not show what else moved them, or when they came")
        return {
            th.NOISE: noise,
            th.MEANS_IN_RANGE: reach,
            th.RISING: rises,
            th.SAME_LATER: same,
            th.PULLED: pulled,
            th.OWN_GAP: own,
        }

    def _tested(
        self, condition: th.Condition, size: np.ndarray, precision: np.ndarray, sees: str
    ) -> Answer:
        """By the union bound over cells and numbers of pulls, which adaptive pulls keep.

        `size` may be exceeded by σ √(2 ln(2NDT/p))/precision with probability p.
        """
        least = 1e-12 * self.bound  # rounding
        if not size.size or not (precision > 0).any():
            return condition.unchecked("no two cells to compare were seen")
        cells = 2 * self.N * self.D * self.T
        if self.noise == 0:
            return condition.tested(float(size.max() <= least), LEVEL, "any")
        power = np.where(size > least, size * precision / self.noise, 0.0)
        p = min(1.0, cells * math.exp(-min(float(power.max()) ** 2 / 2, 700.0)))
        needed = self.noise * math.sqrt(2 * math.log(cells / LEVEL)) / float(precision.max())
        return condition.tested(p, LEVEL, f"{sees.format(2 * needed)}, in the cell seen most")

    def _noise(self) -> Answer:
        """Residuals within cells against σ: ‖z‖² > n + 2√(nt) + 2t has probability e^{−t} at most."""
        n = self.counts
        left = float(self._squares.sum())
        size = float(np.maximum(n - 1, 0).sum())
        if size == 0:
            return th.NOISE.unchecked("no cell was seen twice")
        rounding = float(n.sum()) * (1e-12 * self.bound) ** 2
        if self.noise == 0:
            return th.NOISE.tested(float(left <= rounding), LEVEL, "any noise at all")
        excess = max(0.0, (left - rounding) / self.noise**2 - size)
        # 2√(nt) + 2t = excess
        t = (math.sqrt(size + 2 * excess) - math.sqrt(size)) ** 2 / 4
        seen = math.sqrt(1 + 2 * math.sqrt(5 / size) + 10 / size)
        return th.NOISE.tested(math.exp(-min(t, 700.0)), LEVEL, f"{seen:.3g} times the noise")


@dataclass(frozen=True, eq=False)
class RecoveringRun(Result):
    """A run of the learner.

    Attributes
    ----------
    reward : ndarray, shape (T,)
        Of each period.
    ucb, lcb, counts : ndarray, shape (N, D)
        Limits at the end, and how often each cell was seen.
    gamma_hat : float
        Mean share of its bound that a plan had.
    regret_bound : float
        What the bands were wide along the schedules.
    regret : float or None
        Expected reward short of Σ γ̂ L UB, where the true curves were given.
    certificates : tuple of Certificate
        ``regret`` and ``bands``.
    plan : Timetable
        The last one.
    benchmark : float
        What no policy exceeds a period, where the true curves were given; else NaN.
    """

    reward: np.ndarray
    ucb: np.ndarray
    lcb: np.ndarray
    counts: np.ndarray
    gamma_hat: float
    regret_bound: float
    certificates: tuple[Certificate, ...]
    regret: float | None
    plan: Timetable = field(repr=False)
    benchmark: float

    def draw(self, ax: Axes) -> None:
        """Mean reward so far, against what no policy exceeds where that is known."""
        t = np.arange(1, len(self.reward) + 1)
        mean = np.cumsum(self.reward) / t
        ax.plot(t, mean, color=PALETTE["ours"], label="learnt as it goes")
        if math.isfinite(self.benchmark):
            ax.axhline(
                self.benchmark, color=PALETTE["quiet"], linestyle="--", label="no policy above"
            )
        ax.set(xlabel="periods", ylabel="mean reward a period so far")
        ax.legend(frameon=False)


@front_door
def learn_recovering(
    pull: Callable[[int, np.ndarray], Any],
    N: Annotated[int, AtLeast(1)],
    K: Annotated[int, AtLeast(1)],
    T: Annotated[int, AtLeast(2)],
    *,
    D: Annotated[int, AtLeast(1)],
    bound: Annotated[float, Above(0)] = 1.0,
    noise: Annotated[float, AtLeast(0)] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    phase: Annotated[int, AtLeast(1)] | None = None,
    periods: Any = "auto",
    local_search: bool = False,
    start: Literal["just_pulled", "rested"] = "just_pulled",
    truth: Any = None,
    callback: Callable[[RecoveringPolicy], Any] | None = None,
) -> RecoveringRun:
    """Learn recovery curves while earning on them.

    Parameters
    ----------
    pull : callable
        ``pull(t, arms) -> rewards``, one an arm: the user's environment.
    N, K, T, D, bound, noise, delta, phase, periods, local_search, start
        As in :class:`RecoveringPolicy`.
    truth : array_like, shape (N, D), optional
        The true mean curves, in a simulator: regret and bands are then measured.
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
        start=start,
    )
    curves = None if truth is None else as_curves(truth, "truth")
    if curves is not None:
        if curves.shape != (policy.N, policy.D):
            raise ValueError(f"truth must have shape ({policy.N}, {policy.D}), got {curves.shape}")
        if curves.max() > policy.bound:
            raise ValueError(
                f"truth must not exceed bound = {policy.bound:g}, got {curves.max():g}"
            )
    reward, expected, furthest = np.zeros(policy.T), 0.0, 0.0
    for t in track(range(policy.T), "learning"):
        arms = policy.act()
        gap = policy.gaps(arms) - 1
        paid = as_floats(pull(t, arms.copy()), "rewards").ravel()
        policy.update(arms, paid)
        reward[t] = paid.sum()
        if curves is not None and len(arms):
            expected += float(curves[arms, gap].sum())
            low, high = policy.lcb[arms, gap], policy.ucb[arms, gap]  # others are as they were
            out = np.maximum(low - curves[arms, gap], curves[arms, gap] - high)
            furthest = max(furthest, float(out.max()) / policy.bound)
        if callback is not None:
            callback(policy)
    distance = None if curves is None else furthest
    return finished(policy, reward, truth=curves, expected=expected, distance=distance)


def finished(
    policy: RecoveringPolicy,
    reward: Any,
    *,
    truth: Any = None,
    expected: float | None = None,
    distance: float | None = None,
) -> RecoveringRun:
    """The result of a run, e.g. of one whose loop was the user's own.

    Parameters
    ----------
    policy : RecoveringPolicy
        After its last period.
    reward : array_like, shape (t,)
        Of each period.
    truth : ndarray, shape (N, D), optional
        The true mean curves.
    expected : float, optional
        The sum of the mean rewards of all pulls; goes with `truth`.
    distance : float, optional
        How far a true mean was outside of its limits at most, as a share of the bound.
    """
    best, regret = math.nan, None
    if truth is not None and expected is not None:
        best = upper_bound(truth, policy.K)
        regret = policy.benchmark_share * best - expected
    return RecoveringRun(
        reward=np.asarray(reward, dtype=np.float64),
        ucb=policy.ucb,
        lcb=policy.lcb,
        counts=policy.counts,
        gamma_hat=policy.benchmark_share / policy.T,
        regret_bound=policy.regret_bound,
        certificates=_certify(policy, regret, distance, best),
        regret=regret,
        plan=policy.plan,
        benchmark=best,
    )


def _certify(
    policy: RecoveringPolicy, regret: float | None, distance: float | None, best: float
) -> tuple[Certificate, ...]:
    answers = policy.answers()
    # Without the truth all that can be said is that every slot could have paid the bound.
    trivial = (
        policy.T * policy.K * policy.bound if regret is None else policy.benchmark_share * best
    )
    return (
        th.regret(
            policy.regret_bound,
            regret,
            [answers[c] for c in th.REGRET.conditions],
            policy.delta,
            trivial=trivial,
            inputs={
                "T": policy.T,
                "N": policy.N,
                "K": policy.K,
                "D": policy.D,
                "phases": len(policy.gammas),
                "σ": policy.noise,
            },
        ),
        th.bands(distance, [answers[c] for c in th.BANDS.conditions], policy.delta),
    )
