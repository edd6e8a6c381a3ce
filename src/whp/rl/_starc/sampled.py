"""Distances of rewards over real numbers, from samples of transitions."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from whp.certificate import Answer, Certificate
from whp.door import Above, AtLeast, Fraction, front_door
from whp.intervals import Estimate
from whp.result import PALETTE, Result
from whp.rl._starc import theorems as t
from whp.rl._starc.analysis import cut_off
from whp.rl._starc.canonical import size
from whp.rl._starc.dynamics import Classic, Dynamics, Points, dynamics_of
from whp.rl._starc.regret import DISCOUNT
from whp.validate import as_floats, as_sequence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SampledResult", "starc_sampled"]

FEATURES = 256
LENGTH = 1.5  # waves in a unit box, as standard deviation of their slopes
RIDGE = 1e-6  # times the number of rows
RESAMPLES = 999
ROLLOUTS = 200
REMAINDER = 1e-3  # of the value lies beyond a rollout
TWICE = 50  # pairs that are stepped twice, to see whether the dynamics draw
LITTLE = 1e-4  # of a reward is left by its form: that may be the fit's error
SAME = 0.01  # of the rows may be in both samples before they count as the same data

Reward = Callable[[Points, Points, Points], Any]
Policy = Callable[[Points], Any]


@dataclass(frozen=True, eq=False)
class SampledResult(Result):
    """Distance of two rewards under a coverage.

    Attributes
    ----------
    distance : float
        From 0 to 2.
    interval : Estimate
        95 % BCa bootstrap interval over pairs of state and action; asymptotic.
    canonical1, canonical2 : ndarray, shape (n_eval,)
        R + γV(s′) − V(s) in the mean over drawn next states, of the evaluation pairs.
    residual1, residual2 : float
        Root mean square of what the fitted values leave of the reward, as a share of it.
    deterministic : bool
        Whether next states were the same in all pairs.
    """

    distance: float
    interval: Estimate
    certificates: tuple[Certificate, ...]
    canonical1: np.ndarray = field(repr=False)
    canonical2: np.ndarray = field(repr=False)
    residual1: float
    residual2: float
    deterministic: bool
    discount: float

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The distance with its interval, and how well values were fitted."""
        return {
            "distance": f"{self.interval}",
            "discount": self.discount,
            "pairs": len(self.canonical1),
            "next_states": "equal in all pairs: read as deterministic"
            if self.deterministic
            else "drawn",
            "left_of_reward_1_by_the_fit": self.residual1,
            "left_of_reward_2_by_the_fit": self.residual2,
        }

    def draw(self, ax: Axes) -> None:
        """Pairs by both canonical rewards, each divided by its size."""
        first, second = (
            c / max(float(np.sqrt((c**2).mean())), 1e-300)
            for c in (self.canonical1[:4000], self.canonical2[:4000])
        )
        limit = float(np.quantile(np.abs(np.concatenate([first, second])), 0.999))
        ax.plot([-limit, limit], [-limit, limit], color=PALETTE["quiet"], lw=0.8)
        ax.scatter(first, second, s=3, alpha=0.3, color=PALETTE["ours"])
        ax.set(
            xlim=(-limit, limit),
            ylim=(-limit, limit),
            xlabel="reward 1, canonical",
            ylabel="reward 2, canonical",
        )
        ax.set_aspect("equal")


@dataclass(frozen=True, eq=False)
class _Sample:
    """Pairs with drawn next states, shape (n, k, d)."""

    states: Points
    actions: Points
    after: Float[np.ndarray, "n k d"]

    def rewards(self, reward: Reward, name: str) -> Float[np.ndarray, "n k"]:
        """The reward of each draw, which must be a function."""
        made = [_paid(reward, self, j, name) for j in range(self.after.shape[1])]
        again = _paid(reward, self, 0, name)
        if not np.array_equal(made[0], again):
            raise ValueError(f"{name} is not a function of (s, a, s′): two calls gave two answers")
        return np.stack(made, axis=1)


def _paid(reward: Reward, sample: _Sample, draw: int, name: str) -> np.ndarray:
    # Copies: what works in place must not change what the others see.
    given = (x.copy() for x in (sample.states, sample.actions, sample.after[:, draw]))
    paid = as_floats(reward(*given), name)
    if paid.shape != (len(sample.states),) or not np.isfinite(paid).all():
        raise ValueError(
            f"{name} must return one finite number a row, got shape {paid.shape} for "
            f"{len(sample.states)} rows"
        )
    return paid


def _sample(world: Dynamics, n: int, k: int, rng: np.random.Generator) -> _Sample:
    states, actions = (np.asarray(x, dtype=float) for x in world.draw(n, rng))
    if states.ndim != 2 or actions.ndim != 2 or len(states) != n or len(actions) != n:
        raise ValueError(
            f"coverage must draw states (n, d) and actions (n, k), got {states.shape} and "
            f"{actions.shape}"
        )
    drawn = [world.after(states, actions, rng) for _ in range(k)]
    if any(d.shape != states.shape or not np.isfinite(d).all() for d in drawn):
        raise ValueError("step must return finite next states of the shape of the states")
    return _Sample(states, actions, np.stack(drawn, axis=1))


class _Fitted:
    """Values of the coverage's own policy by LSTD on random Fourier features."""

    def __init__(
        self, fit: _Sample, world: Dynamics, discount: float, rng: np.random.Generator
    ) -> None:
        embedded = _embed(fit.states, world)
        self.world, self.discount, self.centre = world, discount, embedded.min(0)
        self.width = np.maximum(np.ptp(embedded, axis=0), 1e-12)
        self.slopes = rng.standard_normal((embedded.shape[1], FEATURES)) * LENGTH
        self.shifts = rng.uniform(0, 2 * math.pi, FEATURES)
        self.here = self._features(fit.states)
        self.changes = discount * self._features(fit.after[:, 0]) - self.here
        self.matrix = RIDGE * len(self.here) * np.eye(FEATURES + 1) - self.here.T @ self.changes

    def _features(self, states: Points) -> Points:
        unit = (_embed(states, self.world) - self.centre) / self.width
        waves = np.cos(unit @ self.slopes + self.shifts)
        return np.concatenate([waves, np.ones((len(states), 1))], axis=1)

    def differences(self, sample: _Sample, same: bool) -> list[Points]:
        """γφ(s′) − φ(s) of each draw; where all draws are the same, of one."""
        here, draws = self._features(sample.states), sample.after.shape[1]
        made = [
            self.discount * self._features(sample.after[:, j]) - here
            for j in range(1 if same else draws)
        ]
        return made * draws if same else made

    def weights(self, paid: np.ndarray) -> tuple[np.ndarray, float]:
        """Of V̂ = φᵀw for a reward, and what they leave of the equations, as a share of it."""
        right = self.here.T @ paid
        w = np.linalg.solve(self.matrix, right)
        left = right + self.here.T @ (self.changes @ w)
        return w, size(left, 2) / max(size(right, 2), 1e-300)


def _embed(states: Points, world: Dynamics) -> Points:
    """Angles as cosine and sine."""
    angles = list(world.angles)
    rest = [i for i in range(states.shape[1]) if i not in angles]
    turned = states[:, angles]
    return np.concatenate([states[:, rest], np.cos(turned), np.sin(turned)], axis=1)


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """mean over j ≠ k of c1^(j) c2^(k), a pair: unbiased, where the square of a mean is not."""
    k = first.shape[1]
    if k == 1:
        return first[:, 0] * second[:, 0]
    return (first.sum(1) * second.sum(1) - (first * second).sum(1)) / (k * (k - 1))


def _distance(means: Float[np.ndarray, "... 3"]) -> np.ndarray:
    """√(2 − 2ρ) from means of c1², c1 c2, c2²; a reward of which nothing is left is 0."""
    sizes = np.sqrt(np.maximum(means[..., 0], 0)) * np.sqrt(np.maximum(means[..., 2], 0))
    there = (means[..., 0] > 0).astype(float) + (means[..., 2] > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(sizes > 0, means[..., 1] / sizes, 0.0)
    return np.asarray(np.sqrt(np.clip(there - 2 * rho, 0.0, 4.0)))


def _interval(parts: Float[np.ndarray, "n 3"], rng: np.random.Generator) -> Estimate:
    """BCa bootstrap over pairs: all that counts of a resample is how often each pair is in it."""
    n = len(parts)
    value = float(_distance(parts.mean(0)))
    draws = np.array(
        [np.bincount(rng.integers(n, size=n), minlength=n) @ parts / n for _ in range(RESAMPLES)]
    )
    found = np.sort(_distance(draws))
    left = _distance((parts.sum(0) - parts) / (n - 1))
    off = left.mean() - left
    spread = float((off**2).sum()) ** 1.5
    skew = float((off**3).sum()) / (6 * spread) if spread > 0 else 0.0
    below = (np.sum(found < value) + 0.5 * np.sum(found == value)) / RESAMPLES
    z0 = ndtri(np.clip(below, 0.5 / RESAMPLES, 1 - 0.5 / RESAMPLES))
    z = z0 + ndtri(np.array([0.025, 0.975]))
    low, high = np.quantile(found, ndtr(z0 + z / (1 - skew * z)))
    return Estimate.between(float(low), float(high), value=value, level=0.95, n=n, method="BCa")


@front_door
def starc_sampled(
    reward1: Any,
    reward2: Any,
    env: Any,
    *,
    discount: Annotated[float, DISCOUNT],
    coverage: Callable[..., Any] | None = None,
    value: Callable[..., Any] | None = None,
    n_fit: Annotated[int, AtLeast(100)] = 20_000,
    n_eval: Annotated[int, AtLeast(100)] = 20_000,
    n_next: Annotated[int, AtLeast(1)] = 2,
    policies: Any = None,
    concentrability: Annotated[float, Above(0)] | None = None,
    n_rollouts: Annotated[int, AtLeast(100)] = ROLLOUTS,
    delta: Annotated[float, Fraction()] = 0.05,
    rng: np.random.Generator | int | None = None,
) -> SampledResult:
    """Distance of two rewards over real numbers, where transitions can be sampled from any state.

    Parameters
    ----------
    reward1, reward2 : callable
        From states (n, d), actions (n, k) and next states (n, d) to n rewards.
    env : gymnasium.Env, str or Dynamics
        Classic control, MuJoCo with `coverage`, or functions of one's own as :class:`Dynamics`.
    discount : float
        γ in [0, 1).
    coverage : callable, optional
        From a number and a generator to states and actions; by default uniform over the box of
        states. The distance is that of this law of pairs, and depends on it.
    value : callable, optional
        From one of the rewards to a function of states: potentials in place of fitted values. Any
        bounded ones are valid; bad ones loosen the bound and make shaping show in the distance.
    n_fit, n_eval : int
        Pairs that values are fitted to, and fresh ones that the distance is measured on.
    n_next : int
        Next states drawn for each evaluation pair; at least 2 where the dynamics are random, since
        their noise would make all rewards seem apart.
    policies : sequence of two callables, optional
        A pair, the second of which was deployed for the first: from states (n, d) to actions (n, k).
    concentrability : float, optional
        C ≥ ‖(η − η′)/ν‖ in L2(ν) of their visits η, η′ and the coverage ν; without it nothing bounds what the pair loses.
    n_rollouts : int
        Rollouts of each policy.
    delta : float
        Probability with which the certificate may fail.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    SampledResult

    Raises
    ------
    ValueError
        If the environment cannot be put into a state, its states have no bounds and no coverage is
        given, its dynamics are random and n_next is 1, or a reward answers twice differently.

    References
    ----------
    Skalse, Farnik, Motwani, Jenner, Gleave, Abate (ICLR 2024), arXiv 2309.15257.
    """
    random = np.random.default_rng(rng)
    world = dynamics_of(env, coverage)
    _look_twice(world, n_next, random)
    rewards = (reward1, reward2)
    fit = _sample(world, n_fit, 1, random)
    evaluation = _sample(world, n_eval, n_next, random)
    same = bool((evaluation.after == evaluation.after[:, :1]).all())
    fitted = None if value is not None else _Fitted(fit, world, discount, random)
    changes = [] if fitted is None else fitted.differences(evaluation, same)
    forms, sizes, left = [], [], []
    for i, reward in enumerate(rewards, 1):
        paid = fit.rewards(reward, f"reward{i}")
        rewarded = evaluation.rewards(reward, f"reward{i}")
        if fitted is None:
            assert value is not None
            potential = value(reward)
            first, form = (
                _shaped(s, p, potential, discount) for s, p in ((fit, paid), (evaluation, rewarded))
            )
            left.append(math.nan)
        else:
            w, share = fitted.weights(paid[:, 0])
            first = paid[:, 0] + fitted.changes @ w
            form = rewarded + np.stack([c @ w for c in changes], axis=1)
            left.append(share)
        sizes.append(size(first, 2) / math.sqrt(len(first)))
        if 0 < size(form, 2) <= LITTLE * size(rewarded, 2):
            warnings.warn(
                f"reward{i} is nearly shaping: little is left of it but what the fit leaves",
                stacklevel=2,
            )
        forms.append(form)
    # Scaled, so that no square of theirs under- or overflows.
    scaled = [form / (np.abs(form).max() or 1.0) for form in forms]
    parts = np.stack([_products(scaled[i], scaled[j]) for i, j in ((0, 0), (0, 1), (1, 1))], axis=1)
    interval = _interval(parts, random)
    certificates: tuple[Certificate, ...] = ()
    if policies is not None:
        lam = sizes[0] / sizes[1] if sizes[1] > 0 else 0.0
        mixed = forms[0] - lam * forms[1]
        unit = float(np.abs(mixed).max()) or 1.0
        square = _products(mixed / unit, mixed / unit)
        certificates = (
            _certified(
                world,
                rewards,
                policies,
                square,
                unit,
                lam,
                fit,
                evaluation,
                discount,
                concentrability,
                n_rollouts,
                delta,
                random,
            ),
        )
    return SampledResult(
        interval.value,
        interval,
        certificates,
        forms[0].mean(1),
        forms[1].mean(1),
        left[0],
        left[1],
        same,
        discount,
    )


def _look_twice(world: Dynamics, n_next: int, rng: np.random.Generator) -> None:
    if n_next > 1:
        return
    twice = _sample(world, TWICE, 2, rng)
    if not np.array_equal(twice.after[:, 0], twice.after[:, 1]):
        raise ValueError("the dynamics are random: n_next must be at least 2")


def _shaped(
    sample: _Sample, paid: np.ndarray, potential: Callable[[Points], np.ndarray], discount: float
) -> Float[np.ndarray, "n k"]:
    """R + γV(s′) − V(s) of each draw."""

    def of(states: Points) -> np.ndarray:
        made = as_floats(potential(states.copy()), "value")
        if made.shape != (len(states),) or not np.isfinite(made).all():
            raise ValueError(
                f"value must make a function that returns one finite number a state, got shape "
                f"{made.shape} for {len(states)} states"
            )
        return made

    later = np.stack([of(sample.after[:, j]) for j in range(paid.shape[1])], axis=1)
    return paid + discount * later - of(sample.states)[:, None]


def _certified(
    world: Dynamics,
    rewards: tuple[Reward, Reward],
    policies: Any,
    square: np.ndarray,
    unit: float,
    lam: float,
    fit: _Sample,
    evaluation: _Sample,
    discount: float,
    C: float | None,
    n: int,
    delta: float,
    rng: np.random.Generator,
) -> Certificate:
    """C m + λ [J2(π) − J2(π′)]₊ against what rollouts show."""
    pair = as_sequence(policies, "policies")
    if len(pair) != 2 or not all(callable(p) for p in pair):
        raise TypeError("policies must be two functions of states")
    steps = max(1, math.ceil(math.log(REMAINDER) / math.log(discount))) if discount > 0 else 1
    earned, largest, outside = [], np.zeros(2), False
    starts = np.asarray(world.draw(n, rng)[0], dtype=float)
    if isinstance(world.step, Classic):
        world.step.ended = False
    for policy in pair:
        sums, most, left = _rollout(world, rewards, policy, starts, steps, discount, rng)
        earned.append(sums)
        largest, outside = np.maximum(largest, most), outside or left
    # Beyond the last step lies at most γ^H max|R|/(1 − γ) of each return.
    beyond = 2 * discount**steps * largest / (1 - discount)
    lost, lacked = earned[0][:, 0] - earned[1][:, 0], earned[0][:, 1] - earned[1][:, 1]
    ends = [_ends(x, d) for x, d in ((lost, delta / 3), (lacked, delta / 3), (square, delta / 3))]
    m = unit * math.sqrt(max(0.0, ends[2][1]))
    bound = math.inf if C is None else C * m + lam * max(0.0, ends[1][1] + beyond[1])
    seen = fit.rewards(rewards[0], "reward1")
    shared = _shared(fit, evaluation)
    said = t.COVERAGE.unchecked("C is your word") if C is not None else t.COVERAGE.unchecked("no C")
    return t.sampled(
        bound,
        Estimate.between(
            ends[0][0] - beyond[0],
            ends[0][1] + beyond[0],
            value=float(lost.mean()),
            level=1 - delta / 3,
            n=n,
            method="t",
        ),
        1 - 2 * delta / 3,
        float(np.ptp(seen)) / (1 - discount),
        (
            _horizon(world, discount),
            t.FRESH.check(shared <= SAME, f"{100 * shared:.2g} % of the pairs are in both samples"),
            t.COVERAGE.check(False, "a rollout left the box of the coverage") if outside else said,
            t.DRAWN.unchecked("the environment draws next states itself"),
            t.LIMITS.unchecked(f"{n} rollouts, {len(square):,} pairs"),
        ),
        {"C": math.nan if C is None else C, "m": m, "lambda": lam, "steps of a rollout": steps},
    )


def _horizon(world: Dynamics, discount: float) -> Answer:
    """Whether episodes are cut off, or ended in a rollout that went on."""
    if isinstance(world.step, Classic) and world.step.ended:
        return t.HORIZON.check(False, "an episode of the environment ends where a rollout went on")
    if world.time_limit is None:
        return t.HORIZON.unchecked("no time limit was given; rollouts are cut where little is left")
    return cut_off(discount, world.time_limit)


def _shared(fit: _Sample, evaluation: _Sample) -> float:
    """Share of the evaluation pairs that are in the other sample.

    Pairs of a few values coincide by themselves: only whole samples that are the same count.
    """
    first, second = (np.hstack([s.states, s.actions]) for s in (fit, evaluation))
    known = {row.tobytes() for row in first}
    if len(known) > len(first) / 2:
        return float(np.mean([row.tobytes() in known for row in second]))
    n = min(len(first), len(second))
    return 1.0 if np.array_equal(first[:n], second[:n]) else 0.0


def _ends(sample: np.ndarray, delta: float) -> tuple[float, float]:
    """Two-sided Student limits."""
    n = len(sample)
    half = float(student.ppf(1 - delta / 2, n - 1)) * float(sample.std(ddof=1)) / math.sqrt(n)
    return float(sample.mean()) - half, float(sample.mean()) + half


def _rollout(
    world: Dynamics,
    rewards: tuple[Reward, Reward],
    policy: Policy,
    starts: Points,
    steps: int,
    discount: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, bool]:
    """Discounted sums of both rewards, the largest rewards seen, and whether the box was left."""
    states, sums, largest, left = starts, np.zeros((len(starts), 2)), np.zeros(2), False
    for k in range(steps):
        actions = np.asarray(policy(states.copy()), dtype=float).reshape(len(states), -1)
        after = world.after(states, actions, rng)
        here = _Sample(states, actions, after[:, None])
        for i, reward in enumerate(rewards):
            paid = _paid(reward, here, 0, f"reward{i + 1}")
            sums[:, i] += discount**k * paid
            largest[i] = max(largest[i], float(np.abs(paid).max()))
        states = after
        left |= not world.inside(states).all()
    return sums, largest, left
