"""What is promised about the distance of two rewards and the regret of confusing them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from whp.certificate import Answer, Certificate, Scalar
from whp.intervals import Estimate, exact
from whp.theorem import AT_LEAST, AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "AXES",
    "CANONICAL",
    "COVERAGE",
    "DRAWN",
    "DUALITY",
    "FRESH",
    "HORIZON",
    "INVARIANT",
    "KNOWN",
    "LIMITS",
    "LOWER",
    "NO_WORSE",
    "POLICIES",
    "PREFERS",
    "RANGE_LOWER",
    "RANGE_UPPER",
    "REACHED",
    "REDISTRIBUTION",
    "RESOLVED",
    "SAMPLED",
    "SHAPING",
    "SUPPORT",
    "TABLE",
    "THEOREMS",
    "UPPER",
    "WORLD",
]

PAPER = "Skalse et al. 2024"

TABLE = Condition(
    "table-is-the-world",
    "policies run under the transitions that were given",
    remedy="pass counts= where the transitions were estimated.",
)
HORIZON = Condition(
    "horizon",
    "policies run without end, valued at this discount",
    remedy="a smaller discount, or a longer time limit.",
)
AXES = Condition("axes", "transitions and rewards are by state, action and next state")
PREFERS = Condition(
    "prefers",
    "reward 1 prefers some policy to another",
    remedy="reward 1 is a constant or shaping up to rounding: there is nothing to lose.",
)
RESOLVED = Condition(
    "resolved",
    "rounding does not hide what reward 2 prefers",
    remedy="give reward 2 without its potential, or exactly constant if it prefers nothing.",
)
REACHED = Condition(
    "reached",
    "every state is reached from the start",
    remedy="leave out states that cannot be reached, or give another start.",
)
SUPPORT = Condition(
    "support",
    "the reference policy takes every action in every state",
    remedy="give a policy without zeros.",
)
SHAPING = Condition(
    "shaping",
    "the canonical form of each reward is the reward plus a potential",
    remedy="the canonical form is of another discount, or no canonical form at all.",
)
REDISTRIBUTION = Condition(
    "redistribution",
    "the canonical form does not depend on where reward falls among next states",
    remedy="canonical='val' or 'minimal'; the others are there for comparison.",
)
INVARIANT = Condition(
    "linear-and-invariant",
    "the canonical form is linear and the same for all rewards that differ by shaping",
    remedy="canonical='val', or 'minimal' with norm 2.",
)
NO_WORSE = Condition(
    "no-worse",
    "reward 2 finds the second policy no worse than the first",
    remedy="the pair says nothing of reward 2: exchange them.",
)
KNOWN = Condition(
    "rewards-known",
    "rewards are given wherever the law behind the counts may lead",
    remedy="give both rewards a value for every state, action and next state, visited or not.",
)
DRAWN = Condition(
    "one-law", "next states were drawn independently from one law for each state and action"
)
FRESH = Condition(
    "fresh-pairs",
    "potentials were fitted to other transitions than those that measure",
    remedy="draw other pairs for the evaluation.",
)
COVERAGE = Condition(
    "concentrability",
    "visits of both policies differ from the coverage by no more than C",
    remedy="widen the coverage.",
)
LIMITS = Condition(
    "normal-limits", "means of the samples are as near to normal as limits take them"
)

MODEL = (TABLE, HORIZON, AXES)
REGRET = "share of the range of returns of reward 1 that optimising reward 2 can lose"
COARSE = "use range-upper, whose constants are the best there are."

DUALITY = Theorem(
    "duality",
    claim="the pair of policies shown loses as much by reward 1 as any that reward 2 allows",
    quantity="distance of the pair's loss from the dual, or of its returns by reward 2 from a tie, "
    "as a share of the range of returns",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("starc#duality"),
    conditions=(AXES, PREFERS, RESOLVED),
    remedy="the numbers are at the edge of arithmetic, or the code is wrong: do not use them.",
)
UPPER = Theorem(
    "upper",
    claim="a policy that reward 2 finds no worse loses at most W(s1 − s2)/W(s1) by reward 1",
    quantity=REGRET,
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("starc#upper", extends=f"{PAPER}, soundness"),
    conditions=(*MODEL, PREFERS, RESOLVED, SHAPING, REDISTRIBUTION),
    needs="measure=True.",
    remedy=COARSE,
)
LOWER = UPPER.variant(
    name="lower",
    claim="some policy that reward 2 finds no worse loses at least ℓ d/(2 W(s1)) by reward 1",
    relation=AT_LEAST,
    source=Derived("starc#lower", extends=f"{PAPER}, completeness"),
    conditions=(*UPPER.conditions, INVARIANT, REACHED, SUPPORT),
    remedy="use range-lower, whose constants are the best there are.",
)
RANGE_UPPER = Theorem(
    "range-upper",
    claim="a policy that reward 2 finds no worse loses at most the range distance by reward 1",
    quantity=REGRET,
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("starc#range"),
    conditions=(*MODEL, PREFERS, RESOLVED),
    needs="measure=True.",
    remedy="the rewards are so far apart that optimising one can lose all of the other.",
)
RANGE_LOWER = RANGE_UPPER.variant(
    name="range-lower",
    claim="some policy that reward 2 finds no worse loses at least half of the range distance",
    relation=AT_LEAST,
    remedy="the rewards prefer the same policies.",
)
CANONICAL = Theorem(
    "canonical",
    claim="the canonical form is shaping of the reward, the same after shaping and redistribution, "
    "and its own canonical form",
    quantity="largest deviation, as a share of the reward",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("starc#canonical", extends=f"{PAPER}, canonicalisation functions"),
    conditions=(AXES, REDISTRIBUTION),
    remedy="the canonical form is wrong: do not use the distance.",
)
POLICIES = Theorem(
    "policies",
    claim="the second policy loses at most n(c1) W(s1 − s2) of reward 1 to the first",
    quantity="return of reward 1 under the first policy less that under the second",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("starc#upper", extends=f"{PAPER}, soundness"),
    conditions=(*MODEL, PREFERS, SHAPING, REDISTRIBUTION, NO_WORSE),
    remedy=COARSE,
)
WORLD = Theorem(
    "world",
    claim="under the law that the counts came from, a policy that reward 2 finds no worse loses at "
    "most W⁺(R1 − λR2)/W⁻(R1) by reward 1",
    quantity=REGRET,
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("starc#world"),
    conditions=(HORIZON, AXES, KNOWN, DRAWN),
    needs="the true transitions.",
    remedy="more visits of each state and action: the bound narrows like their root.",
)
SAMPLED = Theorem(
    "sampled",
    claim="the second policy loses at most C m + λ (what it lacks of reward 2) of reward 1",
    quantity="return of reward 1 under the first policy less that under the second",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("starc#sampled"),
    conditions=(HORIZON, FRESH, COVERAGE, DRAWN, LIMITS),
    needs="policies=(first, second).",
    remedy="a bound on ‖(η − η′)/ν‖: concentrability=; a better fit of values; more pairs.",
)
THEOREMS = (DUALITY, UPPER, LOWER, RANGE_UPPER, RANGE_LOWER, CANONICAL, POLICIES, WORLD, SAMPLED)

Answers = Iterable[Answer]
Inputs = dict[str, Scalar]
AGREE = 1e-9  # of the range: what two ways to the same number may differ by
UNDECIDED = 1e-3  # rounding of more than this decides nothing


def _shared(low: float, high: float, tau: float) -> Estimate:
    """The share that is lost, between a pair of policies and the dual; all of [0, 1] where rounding rules."""
    if tau > UNDECIDED:
        return Estimate.between(0.0, 1.0, value=low, method="numerically undecided")
    return Estimate.between(min(low, high), max(low, high), value=low, method="exact")


def duality(low: float, high: float, off: float, tau: float, answers: Answers) -> Certificate:
    """Both ends of the worst case agree; they share no code but policy evaluation."""
    return DUALITY(
        bound=AGREE + min(tau, UNDECIDED),
        confidence=1.0,
        trivial=1.0,
        measured=exact(off) if tau <= UNDECIDED else _shared(off, off, tau),
        answers=answers,
        inputs={"loss of the pair": low, "loss by duality": high, "rounding": tau},
    )


def at_most(
    theorem: Theorem,
    bound: float,
    regret: tuple[float, float] | None,
    tau: float,
    answers: Answers,
    inputs: Inputs,
) -> Certificate:
    """An upper bound on the share that is lost, raised by rounding."""
    return theorem(
        bound=bound + tau,
        confidence=1.0,
        trivial=1.0,
        measured=None if regret is None else _shared(*regret, tau),
        answers=answers,
        inputs=inputs,
    )


def at_least(
    theorem: Theorem,
    bound: float,
    regret: tuple[float, float] | None,
    tau: float,
    answers: Answers,
    inputs: Inputs,
) -> Certificate:
    """A lower bound on the share that is lost, lowered by rounding; 0 is trivial."""
    return theorem(
        bound=max(0.0, bound - tau),
        confidence=1.0,
        trivial=0.0,
        measured=None if regret is None else _shared(*regret, tau),
        answers=answers,
        inputs=inputs,
    )


def canonical(deviation: float, slack: float, answers: Answers, inputs: Inputs) -> Certificate:
    """The canonical form has the properties of one, by trial; rounding only adds to a deviation."""
    return CANONICAL(
        bound=AGREE,
        confidence=1.0,
        trivial=1.0,
        measured=Estimate.between(
            max(0.0, deviation - slack), deviation, value=deviation, method="exact"
        ),
        answers=answers,
        inputs=inputs,
    )


def policies(
    bound: float, lost: float, rounding: float, trivial: float, answers: Answers, inputs: Inputs
) -> Certificate:
    """What a pair of policies loses, in units of reward 1."""
    return POLICIES(
        bound=bound + rounding,
        confidence=1.0,
        trivial=trivial,
        measured=exact(lost, rounding),
        answers=answers,
        inputs=inputs,
    )


def world(bound: float, delta: float, answers: Answers, inputs: Inputs) -> Certificate:
    """What can be lost under the law behind the counts."""
    return WORLD(
        bound=bound if math.isfinite(bound) else math.inf,
        confidence=1 - delta,
        trivial=1.0,
        measured=None,
        answers=answers,
        inputs=inputs,
    )


def sampled(
    bound: float,
    measured: Estimate | None,
    confidence: float,
    trivial: float,
    answers: Answers,
    inputs: Inputs,
) -> Certificate:
    """What a pair of policies loses, by samples of transitions and rollouts."""
    return SAMPLED(
        bound=bound,
        confidence=confidence,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )
