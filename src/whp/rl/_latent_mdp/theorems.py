"""What is promised of learning, of a plan for a known model, and of naming the right label."""

from __future__ import annotations

from collections.abc import Iterable

from whp.certificate import Answer, Certificate, Scalar
from whp.intervals import Estimate
from whp.theorem import AT_LEAST, AT_MOST, FITTED, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "ACCURACY",
    "COMPLETE",
    "CONSTANT",
    "CONTEXT_SUFFICES",
    "DISTINCT",
    "KNOWN_CONTEXT",
    "LABELS",
    "MODEL",
    "OPTIMISTIC",
    "PLAN",
    "PLANNED",
    "REGRET",
    "RETURNS",
    "ROWS",
    "SHAPE",
    "SHARED",
    "SPLIT",
    "STATIONARY",
    "STRUCTURE",
    "THEOREMS",
    "TRUE_MODEL",
]

PAPER = "Zhou, Wang, Du 2023"

RETURNS = Condition(
    "returns-in-range",
    "no episode can earn more than reward_scale, and no reward is negative",
    remedy="pass the most that an episode can earn as reward_scale.",
)
LABELS = Condition(
    "labels-right",
    "the context revealed after an episode is the one that drew it",
    remedy="look at how labels are matched to episodes: numbering from 0, order, late corrections.",
)
COMPLETE = Condition(
    "no-episode-left-out", "every episode that was played is in the stream, with its label"
)
STATIONARY = Condition(
    "stationary",
    "contexts, first states, transitions and rewards have one law for the whole stream",
    remedy="learn anew after the change, or from the part of the stream that resembles today.",
)
CONTEXT_SUFFICES = Condition(
    "context-suffices",
    "given context, state and action, next state and reward do not depend on what was before",
    remedy="split contexts, or put what matters into the state.",
)
SHARED = Condition(
    "groups-share-a-law",
    "pairs of a group have the same law",
    remedy="leave groups= out, or tie fewer pairs.",
)
STRUCTURE = Condition(
    "impossible-never-happens",
    "what possible= and starts= rule out does not happen",
    remedy="allow the transition that happened.",
)
OPTIMISTIC = Condition(
    "optimistic",
    "all plans were optimistic, with bonuses at least as large as the theory's",
    remedy="solver='bernstein' with bonus_scale=1 from the first episode on.",
)
PLANNED = Condition(
    "optimum-of-the-boxes",
    "the value of each plan with its gap is the optimum within its confidence boxes",
)
MODEL = Condition(
    "model-of-the-stream",
    "the model that regret is measured by is that of the stream",
    remedy="pass the model that the stream is drawn from, or none.",
)
CONSTANT = Condition("constant", "the constant C is that of the theorem")
TRUE_MODEL = Condition("the-model-is-the-world", "episodes follow the model that was given")
DISTINCT = Condition(
    "distinct-rows",
    "no unit has rows in both halves",
    remedy="keep one row a unit, or split by unit before.",
)
SPLIT = Condition(
    "half-not-seen", "nothing of the half that counts hits went into bins, ranking, model and plan"
)
ROWS = Condition(
    "rows-to-come-alike", "rows to come are drawn independently from the law of these rows"
)

STREAM = (
    RETURNS,
    LABELS,
    COMPLETE,
    STATIONARY,
    CONTEXT_SUFFICES,
    SHARED,
    STRUCTURE,
    OPTIMISTIC,
    PLANNED,
    MODEL,
)

REGRET = Theorem(
    "regret",
    claim="the policies played earn at most this much less, on average, than the best policy over "
    "histories would have",
    quantity="sum over episodes of the optimal value less the value of the policy played",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("latent-mdp#regret", extends=f"{PAPER}, upper bound"),
    conditions=STREAM,
    needs="the true model (model=).",
    remedy="more episodes: the bound is not below what was left to earn before optimistic values "
    "have come down from 1.",
)
KNOWN_CONTEXT = REGRET.variant(
    name="known-context",
    claim="the policies played earn at most this much less, on average, than the best policy that is "
    "told the context beforehand",
    quantity="sum over episodes of the value with the context known less that of the policy played",
    source=Derived("latent-mdp#known-context", extends=f"{PAPER}, upper bound"),
    remedy="planner='exact' where it is small enough: against a policy that is told the context the "
    "bound grows with every episode.",
)
SHAPE = REGRET.variant(
    name="shape",
    claim="regret is at most C (√(Var* M Γ S A K ι) + M S² A ι)",
    source=f"{PAPER}, upper bound, with the constant that was given",
    conditions=(*STREAM, CONSTANT),
)
PLAN = Theorem(
    "plan",
    claim="no policy earns more in the model than the plan, up to rounding",
    quantity="what any policy may earn above the plan",
    relation=AT_MOST,
    scope=FITTED,
    source=Derived("latent-mdp#plan"),
    conditions=(TRUE_MODEL,),
    needs="a larger max_nodes, which makes the plan exact.",
    remedy="the code is wrong, or rounding rules: do not use the plan.",
)
ACCURACY = Theorem(
    "accuracy",
    claim="the plan names the right label at least this often, in rows to come",
    quantity="share of right labels",
    relation=AT_LEAST,
    scope=POPULATION,
    source="Clopper and Pearson 1934, on rows that were not fitted",
    conditions=(SPLIT, DISTINCT, ROWS),
    needs="measure=True, and rows in which all was done that the plan asks for; more of them, or a "
    "smaller demand (at_least=).",
    remedy="more queries, more tests, or other features.",
)
THEOREMS = (REGRET, KNOWN_CONTEXT, SHAPE, PLAN, ACCURACY)

Answers = Iterable[Answer]
Inputs = dict[str, Scalar]
AGREE = 1e-9  # what two ways to the same value may differ by, as a share of the scale


def regret(
    theorem: Theorem,
    bound: float,
    delta: float,
    trivial: float,
    measured: Estimate | None,
    answers: Answers,
    inputs: Inputs,
) -> Certificate:
    """Regret of a stream of episodes."""
    return theorem(
        bound=bound,
        confidence=1 - delta,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )


def plan(
    lacking: float, exact: bool, upper: float, scale: float, answers: Answers, inputs: Inputs
) -> Certificate:
    """A plan against what no policy exceeds: weights of histories down, alpha vectors up.

    Parameters
    ----------
    lacking : float
        What no policy exceeds, less what the plan earns; by rounding it may be below 0.
    exact : bool
        Without, the best policy lies anywhere between.
    upper, scale : float
        What no policy exceeds, and the most that an episode can earn.
    """
    low = lacking if exact else min(0.0, lacking)
    return PLAN(
        bound=AGREE * scale,
        confidence=1.0,
        trivial=max(upper, 2 * AGREE * scale),
        measured=Estimate.between(low, lacking, value=lacking, method="exact"),
        answers=answers,
        inputs=inputs,
    )


def accuracy(
    demand: float, trivial: float, measured: Estimate | None, answers: Answers, inputs: Inputs
) -> Certificate:
    """Share of right labels among rows that were kept apart."""
    return ACCURACY(
        bound=demand,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs=inputs,
    )
