"""Worlds of two rewards: tables whose worst case a linear program knows, and samples of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from whp.certificate import Certificate
from whp.experiment.worlds import Instance, Worlds
from whp.peers.rewards import regret_by_program
from whp.rl import Dynamics, SampledResult, StarcResult, starc, starc_sampled
from whp.rl._starc import theorems as t

__all__ = ["worlds"]

worlds = Worlds("starc", t.THEOREMS)
HERE = "whp.rl._starc"
NEAR = 1e-6  # HiGHS's own tolerance, as a share of the range
Rng = np.random.Generator
Truths = Mapping[str, bool | None]


class Truth:
    """Two expected rewards on a table, by linear programs and plain policy evaluation."""

    def __init__(
        self, P: np.ndarray, r1: np.ndarray, r2: np.ndarray, discount: float, start: Any = None
    ) -> None:
        self.P, self.r1, self.r2, self.discount = P, r1, r2, discount
        self.start = np.full(len(P), 1 / len(P)) if start is None else np.asarray(start)
        # Scaled for the program's tolerance, with potentials and constants as they are.
        scale = max(float(np.ptp(r1)), 1e-300)
        other = float(np.ptp(r2)) or 1.0
        self.range = scale * self._program(r1 / scale, -r1 / scale)
        lost = scale * self._program(r1 / scale, r2 / other)
        self.share = lost / self.range if self.range > 0 else 0.0

    def _program(self, r1: np.ndarray, r2: np.ndarray) -> float:
        return regret_by_program(self.P, r1, r2, self.start, self.discount)

    def earns(self, policy: np.ndarray, reward: np.ndarray) -> float:
        """Discounted return of a stochastic policy."""
        flow = np.einsum("sa,sat->st", policy, self.P)
        paid = (policy * reward).sum(1)
        values = np.linalg.solve(np.eye(len(flow)) - self.discount * flow, paid)
        return float(self.start @ values)


def below(number: float, bound: float, near: float = NEAR) -> bool | None:
    """Whether a number is at most the bound; None where the truth's own rounding decides."""
    if abs(number - bound) <= near:
        return None
    return number <= bound


def of_table(truth: Truth, **also: Callable[[Certificate], bool | None]) -> Any:
    """Truths of all certificates of a run about a table, by the bounds and the pair shown."""

    def judge(result: StarcResult) -> Truths:
        given = {c.name: c for c in result.certificates}
        found: dict[str, bool | None] = {}
        for name, certificate in given.items():
            if name in also:
                found[name] = also[name](certificate)
            elif name in ("upper", "range-upper", "world"):
                found[name] = below(truth.share, certificate.bound)
            elif name in ("lower", "range-lower"):
                found[name] = below(certificate.bound, truth.share)
            elif name == "canonical":
                found[name] = None if result.canonical1.ndim == 3 else is_canonical(result, truth)
            elif name == "duality":
                found[name] = attains(result, truth)
        return found

    return judge


def attains(result: StarcResult, truth: Truth) -> bool | None:
    """Whether the pair shown loses as much as any, and nothing by reward 2."""
    pair = result.regret
    if pair is None:
        return None
    lost = truth.earns(pair.policy_good, truth.r1) - truth.earns(pair.policy_bad, truth.r1)
    ahead = truth.earns(pair.policy_good, truth.r2) - truth.earns(pair.policy_bad, truth.r2)
    limit = NEAR * max(float(np.ptp(truth.r2)), 1e-300) / (1 - truth.discount)
    return lost >= (truth.share - NEAR) * truth.range and ahead <= limit


def is_canonical(result: StarcResult, truth: Truth) -> bool | None:
    """Whether both forms are the advantages of the uniform policy: the form of the plain runs."""
    if result.canonical != "val":
        return None
    for form, r in ((result.canonical1, truth.r1), (result.canonical2, truth.r2)):
        policy = np.full(r.shape, 1 / r.shape[1])
        flow = np.einsum("sa,sat->st", policy, truth.P)
        values = np.linalg.solve(np.eye(len(r)) - truth.discount * flow, r.mean(1))
        wanted = r + truth.discount * truth.P @ values - values[:, None]
        limit = 1e-7 * float(np.abs(r).max()) / (1 - truth.discount)
        if np.abs(form - wanted).max() > limit:
            return False
    return True


def drawn(rng: Rng, S: int = 0, A: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transitions and two rewards of a few states."""
    S, A = S or int(rng.integers(2, 7)), A or int(rng.integers(2, 4))
    return rng.dirichlet(np.full(S, 0.3), (S, A)), rng.normal(size=(S, A)), rng.normal(size=(S, A))


def table(
    P: np.ndarray, r1: np.ndarray, r2: np.ndarray, discount: float, **options: Any
) -> Instance:
    """A run whose truth is that of the table handed in."""
    truth = Truth(P, r1, r2, discount, options.get("start"))
    arguments = {"reward1": r1, "reward2": r2, "transitions": P, "discount": discount}
    return Instance(arguments | options, of_table(truth))


# Honest tables


@worlds.world(run=starc, strengths=(0.5, 0.9, 0.99))
def tables(rng: Rng, strength: float) -> Instance:
    """Two to six states at this discount, rewards that have something in common or not."""
    P, r1, r2 = drawn(rng)
    return table(P, r1, rng.choice([0.0, 1.0, 3.0]) * r1 + r2, strength)


@worlds.world(run=starc, strengths=(0.5, 0.9, 0.99))
def near_rewards(rng: Rng, strength: float) -> Instance:
    """The second reward is the first with a tenth of noise: bounds that tell something."""
    P, r1, r2 = drawn(rng)
    return table(P, r1, r1 + 0.1 * r2, strength)


@worlds.world(run=starc, strengths=(0.0, 0.5, 0.9, 0.999))
def ties(rng: Rng, strength: float) -> Instance:
    """Certain transitions and rewards of −1, 0, 1: many policies are as good."""
    S, A = int(rng.integers(2, 7)), int(rng.integers(2, 4))
    P = np.eye(S)[rng.integers(S, size=(S, A))]
    r1, r2 = (rng.integers(-1, 2, (S, A)).astype(float) for _ in range(2))
    return table(P, r1, 3 * r1 if rng.random() < 0.3 else r2, strength)


@worlds.world(run=starc, strengths=(1e-12, 1.0, 1e12))
def other_units(rng: Rng, strength: float) -> Instance:
    """Rewards in these units, the second with a million added and then shaped."""
    P, r1, r2 = drawn(rng)
    phi = rng.normal(size=len(P))
    made = strength * (r1 + r2 + 1e3 + 0.9 * P @ phi - phi[:, None])
    return table(P, strength * r1, made, 0.9)


@worlds.world(run=starc, strengths=(1.0, 2.0))
def norms_and_forms(rng: Rng, strength: float) -> Instance:
    """Every pair of norms; the smallest reward, and weights (2)."""
    P, r1, r2 = drawn(rng)
    options: dict[str, Any] = {"norm": str(rng.choice(["1", "2", "inf"]))}
    if strength == 1:
        options["distance_norm"] = str(rng.choice(["1", "2", "inf"]))
    elif rng.random() < 0.5:
        options["weights"] = rng.uniform(0.1, 3, r1.shape)
    else:
        options = {"canonical": "minimal"}
    return table(P, r1, r1 + r2, 0.9, **options)


@worlds.world(run=starc, strengths=(5, 10, 20, 40))
def a_corridor(rng: Rng, strength: float) -> Instance:
    """So many cells; one action leads on, the other back to the start."""
    L = int(strength)
    P = np.zeros((L, 2, L))
    P[:, 0, 0] = 1
    P[np.arange(L), 1, np.minimum(np.arange(L) + 1, L - 1)] = 1
    r1, r2 = np.zeros((L, 2)), np.zeros((L, 2))
    r1[0, 0], r1[-1], r2[-1] = 0.3 * rng.uniform(0.5, 1), 1, 0.5
    return table(P, r1, r2, 0.95, start=np.eye(L)[0])


@worlds.world(run=starc)
def from_one_state(rng: Rng, strength: float) -> Instance:
    """All begins in one state, and transitions are dense."""
    S, A = int(rng.integers(3, 8)), 3
    P = rng.dirichlet(np.ones(S), (S, A))
    r1 = rng.normal(size=(S, A))
    return table(P, r1, r1 + 0.3 * rng.normal(size=(S, A)), 0.9, start=np.eye(S)[0])


@worlds.world(run=starc)
def one_state_and_many_actions(rng: Rng, strength: float) -> Instance:
    """One action pays, the other reward is the opposite: the lower bound is nearly attained."""
    A = int(rng.integers(10, 40))
    r1 = rng.uniform(0.5, 2) * np.eye(A)[:1]
    return table(np.ones((1, A, 1)), r1, -r1, 0.0, norm="inf")


# Pairs of policies


@worlds.world(run=starc, strengths=(1e6, 1e8))
def a_pair_that_rounding_calls_even(rng: Rng, strength: float) -> Instance:
    """Reward 2 is reward 1 and this much shaping, beside which the loss of the second vanishes."""
    P, r1, _ = drawn(rng, 4, 2)
    phi = strength * rng.normal(size=4)
    first = rng.dirichlet(np.ones(2), 4)
    second = (1 - (near := 10 ** rng.uniform(-10, -2))) * first + near * rng.dirichlet(
        np.ones(2), 4
    )
    truth = Truth(P, r1, r1, 0.99)
    lost = truth.earns(first, r1) - truth.earns(second, r1)
    arguments = {"reward1": r1, "reward2": r1 + 0.99 * P @ phi - phi[:, None], "transitions": P}
    arguments |= {"discount": 0.99, "policies": (first, second)}
    return Instance(arguments, lambda result: {"policies": below(lost, policies_bound(result), 0)})


def policies_bound(result: StarcResult) -> float:
    """What the pair may lose."""
    return next(c.bound for c in result.certificates if c.name == "policies")


def paired(rng: Rng, *, turned: bool = False, attaining: bool = True) -> Instance:
    """A pair of policies with what it loses; the worst there is, or two at random."""
    P, r1, r2 = drawn(rng)
    r2 = r1 + r2
    truth = Truth(P, r1, r2, 0.9)
    if attaining:
        worst = starc(r1, r2, P, discount=0.9).regret
        assert worst is not None
        pair = [worst.policy_good, worst.policy_bad]
        tilt = 1e-3  # so that reward 2 prefers the second a little
        pair[1] = (1 - tilt) * pair[1] + tilt * np.eye(r1.shape[1])[_best(truth)]
    else:
        pair = [rng.dirichlet(np.ones(r1.shape[1]), len(r1)) for _ in range(2)]
        pair.sort(key=lambda p: truth.earns(p, r2))
    pair = pair[::-1] if turned else pair
    lost = truth.earns(pair[0], r1) - truth.earns(pair[1], r1)
    made = table(P, r1, r2, 0.9, policies=tuple(pair))
    near = 1e-9 * truth.range
    judge = of_table(truth, policies=lambda c: below(lost, c.bound, near))
    return Instance(made.arguments, judge)


def _best(truth: Truth) -> np.ndarray:
    v = np.zeros(len(truth.P))
    for _ in range(400):
        v = (truth.r2 + truth.discount * truth.P @ v).max(1)
    return (truth.r2 + truth.discount * truth.P @ v).argmax(1)


@worlds.world(run=starc)
def the_worst_pair(rng: Rng, strength: float) -> Instance:
    """The pair that loses nearly as much as any."""
    return paired(rng)


@worlds.world(run=starc)
def a_pair_at_random(rng: Rng, strength: float) -> Instance:
    """Two random policies, the one that reward 2 prefers deployed."""
    return paired(rng, attaining=False)


@worlds.world(run=starc, breaks=t.NO_WORSE)
def a_pair_turned_round(rng: Rng, strength: float) -> Instance:
    """The random pair the other way round: reward 2 prefers the first."""
    return paired(rng, turned=True, attaining=False)


@worlds.world(run=starc, breaks=t.NO_WORSE, strengths=(1.0, 0.1, 0.01))
def trained_too_little(rng: Rng, strength: float) -> Instance:
    """The deployed policy is still the worst by reward 2 in this share of all states' actions."""
    P, r1, r2 = drawn(rng)
    truth = Truth(P, r1, r2, 0.9)
    opposite = Truth(P, r1, -r2, 0.9)
    eye = np.eye(r1.shape[1])
    best, worst = eye[_best(truth)], eye[_best(opposite)]
    pair = (best, (1 - strength) * best + strength * worst)
    lost = truth.earns(pair[0], r1) - truth.earns(pair[1], r1)
    made = table(P, r1, r2, 0.9, policies=pair)
    near = 1e-9 * truth.range
    return Instance(made.arguments, of_table(truth, policies=lambda c: below(lost, c.bound, near)))


# The table is not the world


def world_of(
    P: np.ndarray, r1: np.ndarray, r2: np.ndarray, discount: float, arguments: dict[str, Any]
) -> Instance:
    """A run whose truth is that of other transitions than those handed in."""
    judge = of_table(Truth(P, r1, r2, discount), duality=lambda c: None, canonical=lambda c: None)
    return Instance(arguments | {"reward1": r1, "reward2": r2}, judge)


def visits(rng: Rng, P: np.ndarray, n: int) -> np.ndarray:
    """Counts of n visits of each state and action."""
    return rng.multinomial(n, P)


@worlds.world(run=starc, breaks=t.TABLE, strengths=(10, 100, 1000), rising=False, noticeable=False)
def estimated_transitions(rng: Rng, strength: float) -> Instance:
    """Transitions are frequencies of so many visits a pair, handed in without their counts."""
    P, r1, r2 = drawn(rng, 6, 2)
    n = int(strength)
    arguments = {"transitions": visits(rng, P, n) / n, "discount": 0.9}
    return world_of(P, r1, r1 + 0.5 * r2, 0.9, arguments)


@worlds.world(run=starc, breaks=t.TABLE, strengths=(1.0, 0.1), noticeable=False)
def episodes_that_go_on(rng: Rng, strength: float) -> Instance:
    """Episodes end in the last state, where the table handed in begins anew with this probability."""
    P, r1, r2 = drawn(rng, 6, 2)
    ends, onward = P.copy(), P.copy()
    ends[-1], onward[-1] = np.eye(6)[-1], np.eye(6)[-1]
    onward[-1] = (1 - strength) * onward[-1] + strength / 5 * np.r_[np.ones(5), 0]
    r1[-1] = r2[-1] = 0
    arguments = {"transitions": onward, "discount": 0.9}
    return world_of(ends, r1, r1 + r2, 0.9, arguments)


@worlds.world(
    run=starc, breaks=t.HORIZON, strengths=(0.5, 0.9, 0.94), rising=False, noticeable=False
)
def another_discount(rng: Rng, strength: float) -> Instance:
    """Policies are valued at .95, and this was said."""
    P, r1, r2 = drawn(rng, 6, 2)
    return world_of(P, r1, r1 + 0.5 * r2, 0.95, {"transitions": P, "discount": strength})


@worlds.world(run=starc, breaks=t.HORIZON, strengths=(5, 20, 60), broken_from=60, rising=False)
def a_time_limit(rng: Rng, strength: float) -> Instance:
    """Episodes are cut off after so many steps at a discount of .95."""
    P, r1, r2 = drawn(rng, 5, 2)
    arguments = {"transitions": P, "discount": 0.95, "time_limit": int(strength)}
    return world_of(P, r1, r1 + r2, 0.95, arguments)


@worlds.world(run=starc, breaks=t.AXES, refuses=(ValueError,))
def actions_first(rng: Rng, strength: float) -> Instance:
    """Transitions with the action first, of more states than actions."""
    P, r1, r2 = drawn(rng, 5, 2)
    return world_of(P, r1, r2, 0.9, {"transitions": np.moveaxis(P, 1, 0), "discount": 0.9})


@worlds.world(run=starc, breaks=t.AXES, noticeable=False)
def as_many_actions(rng: Rng, strength: float) -> Instance:
    """The same with as many actions as states: nothing shows."""
    P, r1, r2 = drawn(rng, 4, 4)
    arguments = {"transitions": np.moveaxis(P, 1, 0), "discount": 0.9}
    return world_of(P, r1, r1 + r2, 0.9, arguments)


# Rewards that prefer nothing


@worlds.world(run=starc, breaks=t.PREFERS)
def reward_1_is_shaping(rng: Rng, strength: float) -> Instance:
    """γPφ − φ and a constant: all policies earn alike."""
    P, _, r2 = drawn(rng)
    phi = rng.normal(size=len(P))
    r1 = 0.9 * P @ phi - phi[:, None] + rng.normal()
    arguments = {"reward1": r1, "reward2": r2, "transitions": P, "discount": 0.9}
    return Instance(arguments, lambda result: dict.fromkeys(("range-upper", "upper")))


@worlds.world(
    run=starc, breaks=t.PREFERS, strengths=(1e-16, 1e-14, 1e-10), broken_from=1e-14, rising=False
)
def little_beside_shaping(rng: Rng, strength: float) -> Instance:
    """This share of the reward is more than shaping; below 10⁻¹³ it is rounding."""
    P, r1, r2 = drawn(rng, 5, 2)
    phi = rng.normal(size=5)
    shaping = 0.9 * P @ phi - phi[:, None]
    handed = shaping / np.linalg.norm(shaping) + strength * r1 / np.linalg.norm(r1)
    arguments = {"reward1": handed, "reward2": r2, "transitions": P, "discount": 0.9}
    truth = Truth(P, r1, r2, 0.9)
    near = 1e-3
    return Instance(
        arguments,
        of_table(
            truth,
            duality=lambda c: None,
            canonical=lambda c: None,
            **{
                "range-upper": lambda c: below(truth.share, c.bound, near),
                "upper": lambda c: below(truth.share, c.bound, near),
                "range-lower": lambda c: below(c.bound, truth.share, near),
                "lower": lambda c: below(c.bound, truth.share, near),
            },
        ),
    )


# Canonical forms that are none


def advantage(r: np.ndarray, P: np.ndarray, discount: float) -> np.ndarray:
    """VAL of the uniform policy, written out."""
    flow = P.mean(1)
    v = np.linalg.solve(np.eye(len(r)) - discount * flow, r.mean(1))
    return r + discount * P @ v - v[:, None]


def formed(rng: Rng, form: Callable[..., np.ndarray]) -> Instance:
    """A run with a form of the caller's."""
    P, r1, r2 = drawn(rng, 5, 2)
    return table(P, r1, r1 + r2, 0.9, canonical=form)


@worlds.world(run=starc)
def a_form_of_ones_own(rng: Rng, strength: float) -> Instance:
    """The caller's own function is the advantage."""
    return formed(rng, advantage)


@worlds.world(run=starc, breaks=t.SHAPING, strengths=(1e-2, 1e-4, 1e-7), broken_from=1e-7)
def a_form_of_another_discount(rng: Rng, strength: float) -> Instance:
    """The caller's form uses a discount that is off by this share."""
    return formed(rng, lambda r, P, g: advantage(r, P, g * (1 - strength)))


@worlds.world(run=starc, breaks=t.SHAPING, strengths=(0.0, 2.0, 0.5))
def a_form_that_scales(rng: Rng, strength: float) -> Instance:
    """The caller's form is this many times the advantage."""
    return formed(rng, lambda r, P, g: strength * advantage(r, P, g))


@worlds.world(run=starc, breaks=t.INVARIANT)
def a_form_with_potentials_left(rng: Rng, strength: float) -> Instance:
    """The caller adds the potential of the mean reward, and nothing is taken off."""

    def form(r: np.ndarray, P: np.ndarray, discount: float) -> np.ndarray:
        phi = r.mean(1)
        return r + discount * P @ phi - phi[:, None]

    return formed(rng, form)


@worlds.world(run=starc, breaks=t.INVARIANT)
def a_form_that_is_not_linear(rng: Rng, strength: float) -> Instance:
    """The advantage of the best policy, which is another for each reward."""

    def form(r: np.ndarray, P: np.ndarray, discount: float) -> np.ndarray:
        v = np.zeros(len(r))
        for _ in range(600):
            v = (r + discount * P @ v).max(1)
        return r + discount * P @ v - v[:, None]

    return formed(rng, form)


def compared(rng: Rng, kind: str) -> Instance:
    """A run with a form that depends on next states, rewards by next state."""
    P, r1, r2 = drawn(rng, 4, 2)
    wild = rng.normal(size=(2, 4, 2, 4))
    wild -= (P * wild).sum(-1, keepdims=True)
    R1, R2 = (r[:, :, None] + w for r, w in zip((r1, r1 + r2), wild, strict=True))
    truth = Truth(P, r1, r1 + r2, 0.9)
    arguments = {"reward1": R1, "reward2": R2, "transitions": P, "discount": 0.9}
    judge = of_table(truth, canonical=lambda c: False)
    return Instance(arguments | {"canonical": kind}, judge)


@worlds.world(run=starc, breaks=t.RESOLVED)
def reward_2_is_shaping(rng: Rng, strength: float) -> Instance:
    """γPφ − φ: what its rounding prefers is nothing that was meant."""
    P, r1, _ = drawn(rng)
    phi = rng.normal(size=len(P))
    arguments = {"reward1": r1, "reward2": 0.9 * P @ phi - phi[:, None], "transitions": P}
    return Instance(arguments | {"discount": 0.9}, lambda result: {"range-lower": None})


@worlds.world(
    run=starc, breaks=t.RESOLVED, strengths=(1e-16, 1e-14, 1e-9), broken_from=1e-14, rising=False
)
def reward_1_beside_shaping(rng: Rng, strength: float) -> Instance:
    """Reward 2 is reward 1 at this share of a shaping: below 10⁻¹³ nothing of it can be seen."""
    P, r1, _ = drawn(rng, 5, 2)
    phi = rng.normal(size=5)
    shaping = 0.9 * P @ phi - phi[:, None]
    handed = shaping / np.linalg.norm(shaping) + strength * r1 / np.linalg.norm(r1)
    arguments = {"reward1": r1, "reward2": handed, "transitions": P, "discount": 0.9}
    truth = Truth(P, r1, r1, 0.9)
    judge = of_table(truth, duality=lambda c: None, canonical=lambda c: None)
    return Instance(arguments, judge)


@worlds.world(run=starc, breaks=t.REDISTRIBUTION)
def epic(rng: Rng, strength: float) -> Instance:
    """EPIC's form."""
    return compared(rng, "epic")


@worlds.world(run=starc, breaks=t.REDISTRIBUTION)
def dard(rng: Rng, strength: float) -> Instance:
    """DARD's form."""
    return compared(rng, "dard")


@worlds.world(run=starc, breaks=t.REACHED)
def a_state_apart(rng: Rng, strength: float) -> Instance:
    """A last state that nothing leads to, where the rewards are opposite."""
    P, r1, r2 = drawn(rng, 4, 2)
    whole = np.zeros((5, 2, 5))
    whole[:4, :, :4], whole[4, :, 4] = P, 1
    first, second = (np.vstack([r, extra]) for r, extra in ((r1, [5, 0]), (r1 + r2, [0, 5])))
    return table(whole, first, second, 0.8, start=np.eye(5)[0])


@worlds.world(run=starc, breaks=t.REACHED)
def two_rooms_without_a_door(rng: Rng, strength: float) -> Instance:
    """Half of the states cannot be reached from where it starts."""
    P, r1, r2 = drawn(rng, 3, 2)
    whole = np.zeros((6, 2, 6))
    whole[:3, :, :3], whole[3:, :, 3:] = P, P
    first, second = np.vstack([r1, r2]), np.vstack([r1, -r2])
    start = np.r_[np.full(3, 1 / 3), np.zeros(3)]
    return table(whole, first, second, 0.9, start=start)


@worlds.world(run=starc, breaks=t.SUPPORT)
def one_action_is_never_taken(rng: Rng, strength: float) -> Instance:
    """The reference policy leaves out an action of the first state."""
    P, r1, r2 = drawn(rng, 4, 2)
    policy = np.full((4, 2), 0.5)
    policy[0] = (1, 0)
    made = table(P, r1, r1 + r2, 0.9, policy=policy)
    judge = of_table(Truth(P, r1, r1 + r2, 0.9), canonical=lambda c: None)
    return Instance(made.arguments, judge)


@worlds.world(run=starc, breaks=t.SUPPORT)
def a_policy_that_never_draws(rng: Rng, strength: float) -> Instance:
    """The reference policy is deterministic."""
    P, r1, r2 = drawn(rng, 4, 3)
    made = table(P, r1, r1 + r2, 0.9, policy=rng.integers(3, size=4))
    judge = of_table(Truth(P, r1, r1 + r2, 0.9), canonical=lambda c: None)
    return Instance(made.arguments, judge)


# Counts


@worlds.world(run=starc, strengths=(100, 1000, 10_000))
def counted(rng: Rng, strength: float) -> Instance:
    """So many visits of each state and action."""
    P, r1, r2 = drawn(rng, 6, 2)
    counts = visits(rng, P, int(strength))
    return counts_of(P, r1, r1 + 0.5 * r2, counts)


def counts_of(P: np.ndarray, r1: np.ndarray, r2: np.ndarray, counts: np.ndarray) -> Instance:
    """A run with counts, which only the certificate of the world is judged on."""
    truth = Truth(P, r1, r2, 0.9)
    arguments = {"reward1": r1, "reward2": r2, "counts": counts, "discount": 0.9}

    def judge(result: StarcResult) -> Truths:
        (made,) = [c for c in result.certificates if c.name == "world"]
        return {"world": below(truth.share, made.bound)}

    return Instance(arguments, judge)


@worlds.world(run=starc)
def counted_along_a_path(rng: Rng, strength: float) -> Instance:
    """One long path under random actions: how often a state is seen depends on what was seen."""
    P, r1, r2 = drawn(rng, 4, 2)
    P = 0.8 * P + 0.05
    counts = np.zeros((4, 2, 4), dtype=int)
    s, u, actions = 0, rng.random(4000), rng.integers(2, size=4000)
    steps = P.cumsum(-1)
    for x, a in zip(u, actions, strict=True):
        after = min(int((steps[s, a] < x).sum()), 3)
        counts[s, a, after] += 1
        s = after
    return counts_of(P, r1, r1 + 0.5 * r2, counts)


def with_gaps(rng: Rng, gap: Callable[[np.ndarray], np.ndarray]) -> Instance:
    """Rewards by next state, large and not given where `gap` of the counts says so."""
    P, r1, r2 = drawn(rng, 4, 2)
    counts = visits(rng, P, 10_000)
    counts[0, 0] = 0  # never tried
    R1, R2 = (np.repeat(r[:, :, None], 4, axis=2) for r in (r1, r1 + 0.5 * r2))
    missing = gap(counts)
    R2[missing] -= 100.0
    made = counts_of(P, (P * R1).sum(-1), (P * R2).sum(-1), counts)
    given = (np.where(missing, np.nan, R) for R in (R1, R2))
    rewards = dict(zip(("reward1", "reward2"), given, strict=True))
    return Instance({**made.arguments, **rewards}, made.truths)


@worlds.world(run=starc, breaks=t.KNOWN)
def no_reward_where_nothing_was_seen(rng: Rng, strength: float) -> Instance:
    """Rewards were logged with the visits: a next state that never came has none."""
    return with_gaps(rng, lambda counts: counts == 0)


@worlds.world(run=starc, breaks=t.KNOWN)
def no_reward_of_an_untried_action(rng: Rng, strength: float) -> Instance:
    """One pair was never visited, and its reward is not given."""
    return with_gaps(rng, lambda counts: (counts.sum(-1, keepdims=True) == 0) & (counts == 0))


@worlds.world(run=starc, breaks=t.DRAWN, strengths=(0.3, 1.0), noticeable=False)
def counts_of_another_law(rng: Rng, strength: float) -> Instance:
    """This share of the visits came from another law."""
    P, r1, r2 = drawn(rng, 6, 2)
    other = rng.dirichlet(np.full(6, 0.3), (6, 2))
    n = 10_000
    counts = visits(rng, P, n - int(strength * n)) + visits(rng, other, int(strength * n))
    return counts_of(P, r1, r1 + 0.5 * r2, counts)


@worlds.world(run=starc, breaks=t.DRAWN, strengths=(10, 1000), noticeable=False)
def every_visit_many_times(rng: Rng, strength: float) -> Instance:
    """A log of ten visits a pair, written so many times."""
    P, r1, r2 = drawn(rng, 6, 2)
    return counts_of(P, r1, r1 + 0.5 * r2, int(strength) * visits(rng, P, 10))


# Samples


class Sampled:
    """A table that can only be sampled, with its two best policies and what is true of them."""

    def __init__(self, rng: Rng, S: int = 10, A: int = 2, discount: float = 0.9) -> None:
        self.P, self.discount = rng.dirichlet(np.ones(S), (S, A)), discount
        self.R1 = rng.normal(size=(S, A, S))
        self.R2 = self.R1 + 0.7 * rng.normal(size=(S, A, S))
        self.steps = self.P.cumsum(-1)
        r1, r2 = ((self.P * R).sum(-1) for R in (self.R1, self.R2))
        self.truth = Truth(self.P, r1, r2, discount)
        self.pair = [_best(Truth(self.P, r1, r, discount)) for r in (r1, r2)]
        eye = np.eye(A)
        self.lost = self.truth.earns(eye[self.pair[0]], r1) - self.truth.earns(
            eye[self.pair[1]], r1
        )

    @property
    def C(self) -> float:
        """‖(η − η′)/ν‖ in L2(ν), ν uniform over states and actions."""
        S, A = self.P.shape[:2]
        seen = []
        for policy in self.pair:
            flow = self.P[np.arange(S), policy]
            at = np.linalg.solve(np.eye(S) - self.discount * flow.T, self.truth.start)
            seen.append(at[:, None] * np.eye(A)[policy])
        return float(np.sqrt(S * A * ((seen[0] - seen[1]) ** 2).sum())) + 1e-9

    def step(self, states: np.ndarray, actions: np.ndarray, rng: Rng) -> np.ndarray:
        """Next states."""
        rows = self.steps[states[:, 0].astype(int), actions[:, 0].astype(int)]
        after = (rows < rng.random((len(rows), 1))).sum(1)
        return np.minimum(after, self.P.shape[0] - 1)[:, None].astype(float)

    def draw(self, n: int, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of the uniform law."""
        S, A = self.P.shape[:2]
        states, actions = (rng.integers(m, size=(n, 1)).astype(float) for m in (S, A))
        return states, actions

    def reward(self, R: np.ndarray) -> Callable[..., np.ndarray]:
        """Of the table, by rows."""
        return lambda s, a, u: R[tuple(x[:, 0].astype(int) for x in (s, a, u))]

    def values(self, R: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """Of the uniform policy."""
        r = (self.P * R).sum(-1)
        v = np.linalg.solve(np.eye(len(r)) - self.discount * self.P.mean(1), r.mean(1))
        return lambda states: v[states[:, 0].astype(int)]


def sampled(
    world: Sampled,
    seed: int,
    *,
    draw: Any = None,
    C: float | None = None,
    flat: bool = False,
    heavy: float = 0.0,
) -> SampledResult:
    """Distances and what the pair loses, from 2,000 pairs and 200 rollouts."""
    first, second = world.reward(world.R1), world.reward(world.R2)
    known = {id(first): world.values(world.R1), id(second): world.values(world.R2)}

    def potential(reward: Any) -> Any:
        return (lambda s: np.zeros(len(s))) if flat else known[id(reward)]

    dynamics = Dynamics(world.step, world.draw if draw is None else draw)
    if heavy:
        dynamics = Dynamics(world.step, world.draw, np.array([0.0]), np.array([heavy]))
    return starc_sampled(
        first,
        second,
        dynamics,
        discount=world.discount,
        value=potential,
        policies=[lambda s, p=p: p[s[:, 0].astype(int)].astype(float) for p in world.pair],
        concentrability=world.C if C is None else C,
        n_fit=2000,
        n_eval=2000,
        n_rollouts=200,
        rng=seed,
    )


def judge_sampled(world: Sampled) -> Any:
    """Whether the pair loses at most the bound."""
    near = 1e-9 * world.truth.range
    return lambda result: {"sampled": below(world.lost, result.certificates[0].bound, near)}


@worlds.world(run=sampled, strengths=(0.0, 1.0))
def a_sampled_table(rng: Rng, strength: float) -> Instance:
    """Ten states, two actions; the two best policies; potentials are values, or nothing (1)."""
    world = Sampled(rng)
    arguments = {"world": world, "seed": int(rng.integers(1 << 31)), "flat": strength == 1}
    return Instance(arguments, judge_sampled(world))


class Bandit(Sampled):
    """One state, two actions, no future; reward 2 is nothing: the bound is attained."""

    def __init__(self, rng: Rng) -> None:
        super().__init__(rng, 1, 2, 0.5)
        size = float(rng.uniform(0.5, 2))
        self.R1 = np.array([[[size], [-size]]])
        self.R2 = np.zeros((1, 2, 1))
        self.truth = Truth(self.P, self.R1[:, :, 0], self.R2[:, :, 0], 0.5)
        self.pair = [np.array([0]), np.array([1])]
        self.lost = 4 * size


@worlds.world(run=sampled)
def a_bound_that_is_attained(rng: Rng, strength: float) -> Instance:
    """One state, two actions, reward 2 is nothing: what is lost is all that the bound allows."""
    world = Bandit(rng)
    return Instance({"world": world, "seed": int(rng.integers(1 << 31))}, judge_sampled(world))


@worlds.world(run=sampled, breaks=t.FRESH)
def the_same_pairs_again(rng: Rng, strength: float) -> Instance:
    """The coverage hands out the same rows each time."""
    world = Sampled(rng)
    rows = tuple(world.draw(2000, rng))
    arguments = {
        "world": world,
        "seed": int(rng.integers(1 << 31)),
        "draw": lambda n, _: tuple(np.resize(x, (n, 1)) for x in rows),
    }
    return Instance(arguments, judge_sampled(world))


@worlds.world(run=sampled, breaks=t.FRESH)
def pairs_out_of_a_file(rng: Rng, strength: float) -> Instance:
    """Pairs come from one file of 2,000 rows, in its order from the start, with noise of no weight."""
    world = Sampled(rng)
    states, actions = world.draw(2000, rng)
    states = states + 1e-3 * rng.random(states.shape)
    arguments = {
        "world": world,
        "seed": int(rng.integers(1 << 31)),
        "draw": lambda n, r: tuple(
            x[at] for at in [r.permutation(2000)[np.arange(n) % 2000]] for x in (states, actions)
        ),
    }
    return Instance(arguments, judge_sampled(world))


@worlds.world(run=sampled, breaks=t.COVERAGE, strengths=(0.5, 0.1), rising=False, noticeable=False)
def too_small_a_concentrability(rng: Rng, strength: float) -> Instance:
    """C is said to be this share of what it is."""
    world = Bandit(rng)
    arguments = {"world": world, "seed": int(rng.integers(1 << 31)), "C": strength * world.C}
    return Instance(arguments, judge_sampled(world))


@worlds.world(run=sampled, breaks=t.COVERAGE)
def rollouts_leave_the_box(rng: Rng, strength: float) -> Instance:
    """The box of the coverage ends before the states do."""
    world = Sampled(rng)
    arguments = {"world": world, "seed": int(rng.integers(1 << 31)), "heavy": 4.0}
    return Instance(arguments, judge_sampled(world))


@worlds.world(run=sampled, breaks=t.LIMITS, strengths=(0.01, 0.001), rising=False, noticeable=False)
def rare_and_large(rng: Rng, strength: float) -> Instance:
    """Nearly all of reward 1 is paid on transitions of this probability."""
    world = Rare(rng, strength)
    return Instance({"world": world, "seed": int(rng.integers(1 << 31))}, judge_sampled(world))


class Rare(Bandit):
    """Two states, one of them rare; reward 1 is paid on entering it, by the first action alone."""

    def __init__(self, rng: Rng, p: float) -> None:
        Sampled.__init__(self, rng, 2, 2, 0.5)
        self.P = np.tile([1 - p, p], (2, 2, 1))
        self.steps = self.P.cumsum(-1)
        self.R1, self.R2 = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
        self.R1[:, 0, 1] = 1 / p
        r1, r2 = ((self.P * R).sum(-1) for R in (self.R1, self.R2))
        self.truth = Truth(self.P, r1, r2, 0.5)
        self.pair = [np.array([0, 0]), np.array([1, 1])]
        self.lost = 2.0


@worlds.world(run=sampled, breaks=t.LIMITS, strengths=(3.0, 1.0), rising=False, noticeable=False)
def heavy_tails(rng: Rng, strength: float) -> Instance:
    """Rewards of thirty states are Student's with so many degrees of freedom."""
    world = Sampled(rng, 30, 2)
    tails = rng.standard_t(strength, size=(30, 2, 1))
    world.R1 = np.broadcast_to(tails, (30, 2, 30)).copy()
    world.R2 = np.zeros((30, 2, 30))
    r1, r2 = world.R1[:, :, 0], world.R2[:, :, 0]
    world.truth = Truth(world.P, r1, r2, 0.9)
    world.pair = [_best(Truth(world.P, r1, r, 0.9)) for r in (r1, -r1)]
    eye = np.eye(2)
    world.lost = world.truth.earns(eye[world.pair[0]], r1) - world.truth.earns(
        eye[world.pair[1]], r1
    )
    return Instance({"world": world, "seed": int(rng.integers(1 << 31))}, judge_sampled(world))


# Mutants


def halved(theorem: str) -> Callable[[Any], Any]:
    """The bound of that theorem at half its height, or double for one from below."""

    def change(original: Any) -> Any:
        def mutant(declared: Any, bound: float, *more: Any) -> Any:
            factor = 2 if "lower" in theorem else 0.5
            return original(declared, bound * (factor if declared.name == theorem else 1), *more)

        return mutant

    return change


def half_first(original: Any) -> Any:
    """The first argument at half."""
    return lambda first, *more: original(first / 2, *more)


def half_discount(original: Any) -> Any:
    """Forms of another discount."""

    def mutant(reward: Any, mdp: Any, kind: Any = "val", **options: Any) -> Any:
        return original(reward, replace(mdp, discount=mdp.discount / 2), kind, **options)

    return mutant


for name, function, world, strength in (
    ("upper", "at_most", near_rewards, 0.9),
    ("range-upper", "at_most", near_rewards, 0.9),
    ("range-lower", "at_least", near_rewards, 0.9),
    ("lower", "at_least", one_state_and_many_actions, 1.0),
):
    how = "bound doubled" if "lower" in name else "bound halved"
    worlds.mutant(
        name,
        how,
        target=f"{HERE}.theorems:{function}",
        change=halved(name),
        world=world,
        strength=strength,
    )
for name, world, strength in (
    ("policies", the_worst_pair, 1.0),
    ("world", counted, 10_000.0),
    ("sampled", a_bound_that_is_attained, 1.0),
):
    worlds.mutant(
        name,
        "bound halved",
        target=f"{HERE}.theorems:{name}",
        change=half_first,
        world=world,
        strength=strength,
    )
worlds.mutant(
    "duality",
    "cutting planes stopped early",
    target=f"{HERE}.regret:CLOSE",
    change=lambda close: 0.5,
    world=near_rewards,
    strength=0.9,
)
worlds.mutant(
    "canonical",
    "discount halved",
    target=f"{HERE}.analysis:canonical_form",
    change=half_discount,
    world=near_rewards,
    strength=0.9,
)
