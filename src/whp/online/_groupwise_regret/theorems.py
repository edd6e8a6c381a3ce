"""What is promised to every group, and when."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from whp.certificate import Answer, Certificate
from whp.concentration import azuma
from whp.intervals import Estimate, exact
from whp.theorem import AT_MOST, ON_AVERAGE, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "AWAKE",
    "COINS",
    "COSTS",
    "IN_RANGE",
    "KNOWN_BEFORE",
    "LABELS_IN_TIME",
    "OWN_REGRET",
    "PATH_REGRET",
    "PERTURBED",
    "REGRET",
    "SAME_COSTS",
    "SAME_LOSS",
    "SAMPLED_REGRET",
    "THEOREMS",
    "Group",
    "coins_bound",
    "group_regret",
    "own_regret",
    "path_regret",
]

PAPER = "Acharya, Arunachaleswaran, Kannan, Roth & Ziani 2024"

AWAKE = Condition("awake", "every row lies in a group", remedy="add a group of everyone.")
IN_RANGE = Condition(
    "losses-in-range",
    "losses, of learners and of the prediction, lie in their range",
    remedy="give a wider loss_range.",
)
KNOWN_BEFORE = Condition(
    "known-before",
    "rows, memberships and the range of the targets were known before each prediction",
)
LABELS_IN_TIME = Condition(
    "labels-in-time",
    "each prediction was made when all earlier labels had been learnt",
    remedy="learn each label before the next prediction.",
)
SAME_LOSS = Condition(
    "same-loss",
    "what learners say of their best predictor in hindsight, and of their bound, is of this loss in "
    "its units, on the rounds of their group alone",
    remedy="hand in a new learner for each group.",
)
COINS = Condition("coins", "nature does not see the coins of a round before it chooses")
PERTURBED = Condition("perturbed", "each group's leader is perturbed", remedy="leave noise=True.")
SAME_COSTS = Condition(
    "same-costs",
    "the runs whose regrets are averaged went over the same edges, costs and groups as this one, each "
    "with coins of its own",
    remedy="hand in runs that saw what this one saw, each with another random_state.",
)
COSTS = Condition("costs-in-range", "edge costs lie in [0, 1]", remedy="scale them.")

NEEDS = "rounds in this group."
REMEDY = "a handful of rounds has no bound better than being wrong by the whole range."
META = (AWAKE, IN_RANGE, KNOWN_BEFORE, LABELS_IN_TIME)

REGRET = Theorem(
    "regret",
    claim="the loss of the group's rounds is at most that of its best penalised linear predictor in "
    "hindsight, plus √(3C(ln 1/q + ln B)) for the mixture, the executed bound E of its learner, rounding",
    quantity="loss above that of the best predictor in hindsight",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("groupwise-regret#regret", extends=f"{PAPER}, main theorem"),
    conditions=(*META, SAME_LOSS),
    needs=NEEDS,
    remedy=REMEDY,
)
SAMPLED_REGRET = REGRET.variant(
    name="sampled-regret",
    claim=f"{REGRET.claim}, and √(¼(T + 20)(2 ln(N/δ) + ln(1 + T/20))) for the coins",
    source=Derived("groupwise-regret#coins", extends=f"{PAPER}, main theorem"),
    conditions=(*REGRET.conditions, COINS),
)
OWN_REGRET = Theorem(
    "own-regret",
    claim="the loss of the group's rounds is at most that of the group's own learner, plus "
    "√(3C(ln 1/q + ln B)) for the mixture and, where groups are sampled, "
    "√(¼(T + 20)(2 ln(N/δ) + ln(1 + T/20))) for the coins",
    quantity="loss above that of the group's own learner",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("groupwise-regret#mixture", extends="Luo & Schapire 2015"),
    conditions=META,
    needs=NEEDS,
    remedy=REMEDY,
)
SAMPLED_OWN_REGRET = OWN_REGRET.variant(conditions=(*META, COINS))
PATH_REGRET = Theorem(
    "path-regret",
    claim="the expected cost of the group's rounds is at most that of its best path plus "
    "3√(KT(1 + ln(n/K))) for the perturbed leader and √(3T(ln N + ln B)) for the mixture, B = 5/2 + (3/2) "
    "times the mean of ln(1 + T) over the groups",
    quantity="expected cost above that of the best path, in units of K edges",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived("groupwise-regret#paths", extends=f"{PAPER}, online shortest paths"),
    conditions=(COSTS, PERTURBED, SAME_COSTS, COINS),
    needs="regrets of many runs on the same costs with coins of their own.",
    remedy="more rounds: the bound grows like their root.",
)
THEOREMS = (REGRET, SAMPLED_REGRET, OWN_REGRET, PATH_REGRET)


def coins_bound(rounds: float, groups: int, delta: float) -> float:
    """How far sampled losses stray above the mixture's, all groups and all numbers of rounds at once.

    √(¼(T + 20)(2 ln(N/δ) + ln(1 + T/20))).
    """
    return azuma(rounds, 1.0, delta / groups)


@dataclass(frozen=True)
class Group:
    """One group after its rounds, losses in units of the loss.

    Parameters
    ----------
    name : str
    rounds : int
    groups : int
        How many there are.
    loss, against : float
        Of the predictions, and of what they are compared with.
    rounding : float
        How far `against` may be off.
    meta, learner, coins : float
        Bounds of mixture, learner and coins.
    worst : float
        Largest loss that was possible.
    delta : float
        Failure probability of all groups together; 0 where nothing is drawn.
    """

    name: str
    rounds: int
    groups: int
    loss: float
    against: float
    rounding: float
    meta: float
    learner: float
    coins: float
    worst: float
    delta: float

    @property
    def bound(self) -> float:
        """What may be lost; it is attained where nothing was clipped, so that it has room for rounding."""
        return self.meta + self.learner + self.coins + 2 * self.rounding


def group_regret(
    g: Group, answers: Iterable[Answer], inputs: dict[str, float | int]
) -> Certificate:
    """Against the best predictor in hindsight."""
    return _certificate(SAMPLED_REGRET if g.delta else REGRET, g, answers, inputs)


def own_regret(g: Group, answers: Iterable[Answer]) -> Certificate:
    """Against the group's own learner."""
    return _certificate(SAMPLED_OWN_REGRET if g.delta else OWN_REGRET, g, answers, {})


def _certificate(
    theorem: Theorem, g: Group, answers: Iterable[Answer], inputs: dict[str, float | int]
) -> Certificate:
    made = theorem(
        bound=g.bound,
        confidence=1 - g.delta / g.groups,
        # Without a round nothing is promised, and nothing could be worse.
        trivial=g.worst * g.rounds - g.against if g.rounds else math.inf,
        measured=exact(g.loss - g.against, g.rounding) if g.rounds else None,
        answers=answers,
        inputs={
            "rounds": g.rounds,
            "bound of the mixture": g.meta,
            **({"bound of the coins": g.coins} if g.delta else {}),
            **inputs,
        },
    )
    return replace(made, name=f"{made.name} of {g.name}")


def path_regret(
    name: str,
    bound: float,
    measured: Estimate | None,
    trivial: float,
    answers: Iterable[Answer],
    inputs: dict[str, float | int],
) -> Certificate:
    """Shortest paths, in expectation over coins."""
    made = PATH_REGRET(
        bound=bound,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )
    return replace(made, name=f"{made.name} of {name}")
