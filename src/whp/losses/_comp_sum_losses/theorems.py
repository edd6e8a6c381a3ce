"""What a loss says about an error, and on which conditions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.theorem import AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "BOX",
    "EVAL_MODE",
    "H_CONSISTENCY",
    "INDEPENDENT",
    "NOT_TRAINED_ON",
    "NU_LARGE",
    "POINTWISE",
    "ROBUST_COUNT",
    "ROBUST_ERROR",
    "ROBUST_MARGIN",
    "ROBUST_SMOOTH",
    "SHARP",
    "SOURCE",
    "SUP_TRUE",
    "THEOREMS",
    "excess",
]

PAPER = "Mao, Mohri, Zhong 2023"

INDEPENDENT = Condition(
    "rows-independent",
    "rows (groups, where they are given) are independent draws from one law, each there once",
    remedy="drop copies, or pass what rows have in common as groups=; distinct=False where inputs "
    "are discrete and repeat by themselves, or scores do, as those of one tree.",
)
NOT_TRAINED_ON = Condition(
    "not-trained-on", "the model was trained and chosen without a look at these rows"
)
SOURCE = Condition(
    "labels-as-stated",
    "labels are drawn as stated: from the probabilities given, or certain but for flips to another "
    "class at the rate given, whatever the input; y_clean are the classes before, found without the "
    "model",
    remedy="state nothing (the least risk is then taken as 0), or what the flips of y_clean say, "
    "y_clean beside it: the limits of a rate that was estimated from these rows are used then.",
)
SHARP = Condition("sharp-transformation", "no distribution has less regret than those searched")
EVAL_MODE = Condition(
    "evaluation-mode",
    "the model treats each row by itself and always alike, as it is",
    remedy="call model.eval() first; layers that use statistics of the batch have no robust error.",
)
BOX = Condition(
    "inputs-in-the-box",
    "inputs lie in the box that attacks stay in",
    remedy="give the box in the units of x.",
)
SUP_TRUE = Condition(
    "margins-over-the-ball",
    "no point of the ball has a smaller margin than the one that was counted",
    remedy="use the layers that interval arithmetic knows, in a plain nn.Sequential.",
)
NU_LARGE = Condition(
    "nu-large-enough", "ν is at least √(C − 1)/ρ", remedy="leave nu out: the least is taken."
)

_ROWS = (INDEPENDENT, NOT_TRAINED_ON)
_NEEDS = "y_clean beside noise, or conditional, which measure the excess error."

H_CONSISTENCY = Theorem(
    "h-consistency",
    claim="the error of the predictions, less that of the best classifier there is, is at most what "
    "the excess of the risk over the least possible one allows",
    quantity="excess error",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("comp-sum-losses#excess", extends=f"{PAPER}, Theorem 3.1"),
    conditions=(*_ROWS, SOURCE),
    needs=_NEEDS,
    remedy="where labels are almost certain, error ≤ risk/ℓ(½) or the errors counted say more, and "
    "both are printed; with noisy labels say how noisy (noise=, conditional=), or try another tau.",
)
POINTWISE = Theorem(
    "pointwise",
    claim="the error of the predictions, less that of the best classifier there is, is at most the "
    "mean of what the excess risk of each row allows, by the probabilities given",
    quantity="excess error",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("comp-sum-losses#pointwise", extends=f"{PAPER}, Theorem 3.1"),
    conditions=(*_ROWS, SOURCE),
    needs="more rows, or true probabilities in place of votes.",
    remedy="try another tau.",
)
ROBUST_COUNT = Theorem(
    "robust-count",
    claim="of these rows, an attack within the ball makes wrong at most the share whose margin is not "
    "positive over the whole ball",
    quantity="share of these rows that an attack makes wrong, between what was found and what is proven",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("comp-sum-losses#robust"),
    conditions=(EVAL_MODE, BOX, SUP_TRUE),
    needs="at_most=, the share that can be tolerated: it is decided by what was found and proven.",
    remedy="a smaller radius, or a network trained for its intervals: they are loose for deep ones.",
)
ROBUST_ERROR = ROBUST_COUNT.variant(
    name="robust-error",
    claim="of rows to come, an attack within the ball makes wrong at most the upper Clopper-Pearson "
    "limit of the share whose margin is not positive over the whole ball",
    quantity="share of rows to come that an attack makes wrong, with the interval of both shares",
    scope=POPULATION,
    source=Derived("comp-sum-losses#robust-rows-to-come"),
    conditions=(*_ROWS, EVAL_MODE, BOX, SUP_TRUE),
)
ROBUST_MARGIN = ROBUST_COUNT.variant(
    name="robust-margin",
    claim="of these rows, an attack within the ball makes wrong at most the mean ρ-margin loss over Φ(1)",
    source=Derived("comp-sum-losses#margin-loss", extends=f"{PAPER}, Section 5"),
    remedy="choose a smaller rho; robust-count is at least as good always.",
)
ROBUST_SMOOTH = ROBUST_MARGIN.variant(
    name="robust-smooth",
    claim="of these rows, an attack within the ball makes wrong at most the mean smooth loss over Φ(1)",
    conditions=(EVAL_MODE, BOX, SUP_TRUE, NU_LARGE),
)
THEOREMS = (H_CONSISTENCY, POINTWISE, ROBUST_COUNT, ROBUST_ERROR, ROBUST_MARGIN, ROBUST_SMOOTH)


def excess(
    theorem: Theorem,
    *,
    bound: float,
    trivial: float,
    delta: float,
    measured: Estimate | None,
    answers: Iterable[Answer],
    sharp: bool,
    inputs: dict[str, Any],
) -> Certificate:
    """A certificate of the excess error; `sharp` if it rests on the unproved transformation."""
    given = list(answers)
    if sharp:
        theorem = theorem.variant(conditions=(*theorem.conditions, SHARP))
        given.append(
            SHARP.unchecked("none was found among thousands drawn at random; there is no proof")
        )
    return theorem(
        bound=bound,
        confidence=1 - delta,
        trivial=trivial,
        measured=measured,
        answers=given,
        inputs=inputs,
    )
