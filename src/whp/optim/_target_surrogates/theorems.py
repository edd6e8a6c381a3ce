"""What is promised about surrogates, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact
from whp.theorem import AT_MOST, COMPUTED, ON_AVERAGE, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "BATCHES",
    "DESCENT",
    "FULL_PROJECTION",
    "HALF_STEP",
    "LOWER",
    "MAJORISATION",
    "RECURSION",
    "SAME_ROWS",
    "SMOOTH",
    "STEP",
    "THEOREMS",
    "Steps",
    "descent",
    "half_step",
    "lower_bound",
    "majorisation",
    "recursion",
    "step_size",
]

PAPER = "Lavington et al. 2023"
EDGE = 1 + 1e-9  # 1/L times L is not 1 in floating point

STEP = Condition(
    "step-at-most-one-over-l",
    "η is at most 1/L at every step",
    remedy="take eta='auto' or at most 1/L; the rules sls, adagrad and newton take longer steps.",
)
SMOOTH = Condition(
    "smooth-in-outputs",
    "the loss is L-smooth in the outputs, with the gradient that the oracle gives",
    remedy="give a larger L, and a gradient that is that of the value, both sums over rows.",
)
SAME_ROWS = Condition(
    "same-rows",
    "every step asks about the same rows and targets, of the same parameters and weight decay",
    remedy="ask about all rows at every step, and freeze nothing on the way; minibatches have "
    "majorisation and recursion.",
)
LOWER = Condition(
    "lower-bound",
    "the loss is never below the number given",
    remedy="give a number that the loss cannot fall below.",
)
HALF_STEP = Condition(
    "step-at-most-half",
    "η is at most b/(2n), half the inverse of the smoothness of a batch's estimate",
    remedy="take eta='auto' or at most b/(2n).",
)
FULL_PROJECTION = Condition(
    "full-projection",
    "the proximity term covers all rows, nothing is added, no direction of the outputs is left out, "
    "and it is known what inner steps miss",
    remedy="take projection='full', alpha=0, inner='exact' or 'gd', and drop near-copies of columns.",
)
BATCHES = Condition(
    "independent-batches",
    "each step draws its batch anew, without replacement and independently of the others",
    remedy="take batches='independent'; shuffled passes are another scheme.",
)

MAJORISATION = Theorem(
    "majorisation",
    claim="after every step the loss of the rows asked about is at most the surrogate's value, up to "
    "the slack for rounding, so that no inner step can have raised it unseen",
    quantity="loss after the step that came nearest to its surrogate, whose value is the bound",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("target-surrogates#majorisation", extends=PAPER),
    conditions=(STEP, SMOOTH),
    needs="measure=True, which asks for the loss's value after each step.",
    remedy="nothing was gained, or eta exceeds 1/L in the outputs.",
)
DESCENT = Theorem(
    "descent",
    claim="the least squared gradient so far is at most (h(θ_0) − h*)/Σ a_t, a_t what the surrogate "
    "must fall by for each unit of squared gradient: 1/(2β), or what the inner steps reached",
    quantity="least squared gradient of the loss, penalty included, over all steps",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("target-surrogates#descent", extends=f"{PAPER}, deterministic case"),
    conditions=(STEP, SMOOTH, SAME_ROWS, LOWER),
    needs="a step.",
    remedy="more steps: the bound falls like one over their number.",
)
RECURSION = Theorem(
    "recursion",
    claim="the mean squared distance to the best outputs, over independent batches, is at most what "
    "D ← (√((1 − 2η(1 − ηn/b)) D + 2η²σ²) + ε)² comes to after the last step",
    quantity="mean squared distance of the outputs to the best ones, after the last step",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived("target-surrogates#recursion", extends=f"{PAPER}, stochastic case"),
    conditions=(HALF_STEP, FULL_PROJECTION, BATCHES),
    needs="measure=True, which computes the mean exactly.",
    remedy="more steps or smaller ones; the noise that is left goes with eta.",
)
THEOREMS = (MAJORISATION, DESCENT, RECURSION)


@dataclass(frozen=True, eq=False)
class Steps:
    """What is known of each step, an array of length T each.

    Parameters
    ----------
    loss, after, surrogate : ndarray
        Loss of the step's rows before and after it, and the surrogate's value after it; `after` is
        NaN where it was not asked for.
    slack, rounding : ndarray
        What the surrogate may be below the loss by rounding, and how far the losses may be off.
    eta : ndarray
    gradient, gradient_rounding : ndarray
        ‖∇h‖² before the step, penalty included, and how far it may be off.
    share : ndarray
        a_t: what the surrogate fell by, at least, for each unit of `gradient`.
    penalty : float
        Before the first step.
    """

    loss: np.ndarray
    after: np.ndarray
    surrogate: np.ndarray
    slack: np.ndarray
    rounding: np.ndarray
    eta: np.ndarray
    gradient: np.ndarray
    gradient_rounding: np.ndarray
    share: np.ndarray
    penalty: float


def step_size(etas: Sequence[float] | np.ndarray, L: float | None) -> Answer:
    """Whether steps are short enough for a known L."""
    largest = float(np.max(etas))
    if L is None:
        return STEP.check(False, f"largest η {largest:.4g}; the loss has no L")
    return STEP.check(largest * L <= EDGE, f"largest η {largest:.6g}, 1/L = {1 / L:.6g}")


def half_step(etas: np.ndarray, n: int, b: int) -> Answer:
    """The same for batches of the squared loss."""
    largest, most = float(np.max(etas)), b / (2 * n)
    return HALF_STEP.check(largest <= most * EDGE, f"largest η {largest:.6g}, b/(2n) = {most:.6g}")


def lower_bound(lower: float, losses: np.ndarray, known: str = "") -> Answer:
    """Whether a loss was below its lower bound; `known` says why it cannot be."""
    least = float(np.nanmin(losses))
    room = 1e-9 * float(np.nanmax(np.abs(losses)))
    if not least >= lower - room:
        return LOWER.check(False, f"a loss of {least:.6g} was seen, below {lower:.6g}")
    if known:
        return LOWER.by_construction(known)
    return LOWER.unchecked(f"{lower:.4g} was given; the least loss seen was {least:.4g}")


def majorisation(s: Steps, answers: Sequence[Answer], inputs: dict[str, float]) -> Certificate:
    """The step at which the loss came nearest to its surrogate, or above it."""
    if not len(s.loss):
        raise ValueError("no step was made")
    measured, at = None, len(s.loss) - 1
    if not np.isnan(s.after).any():
        with np.errstate(invalid="ignore", divide="ignore"):
            over = (s.after - s.surrogate) / np.where(s.slack > 0, s.slack, 1e-300)
        at = int(np.argmax(np.nan_to_num(over, nan=np.inf)))
        after = float(s.after[at])
        measured = exact(after, float(s.rounding[at])) if math.isfinite(after) else exact(math.inf)
    return MAJORISATION(
        bound=float(s.surrogate[at] + s.slack[at]),
        confidence=1.0,
        trivial=float(s.loss.max()),
        measured=measured,
        answers=answers,
        inputs={
            "steps": len(s.loss),
            "step": at + 1,
            "loss before it": float(s.loss[at]),
            "surrogate": float(s.surrogate[at]),
            "slack": float(s.slack[at]),
            "largest eta": float(s.eta.max()),
            **inputs,
        },
    )


def descent_bound(room: float, total: float) -> float:
    """(h(θ_0) − h*)/Σ a_t."""
    return room / total if total > 0 else math.inf


def descent(
    s: Steps, lower: float, answers: Sequence[Answer], inputs: dict[str, float]
) -> Certificate:
    """The least gradient, against what all the steps together must have brought."""
    if not len(s.loss):
        raise ValueError("no step was made")
    at, finite = int(np.argmin(s.gradient)), s.gradient[np.isfinite(s.gradient)]
    total = float(s.share.sum())
    room = float(s.loss[0] + s.rounding[0]) + s.penalty - lower
    bound = descent_bound(max(room, 0.0), total)
    # Gradients that overflowed, by the scale of a GradScaler, are not known.
    rounding = float(s.gradient_rounding[at]) if len(finite) else 0.0
    return DESCENT(
        bound=bound * EDGE + 2 * rounding,
        confidence=1.0,
        trivial=float(finite[0]) if len(finite) else math.inf,
        measured=exact(float(s.gradient[at]), rounding) if len(finite) else None,
        answers=answers,
        inputs={
            "steps": len(s.loss),
            "first loss": float(s.loss[0]),
            "h* at least": lower,
            "sum of a": total,
            **inputs,
        },
    )


def recursion(
    bounds: np.ndarray,
    rounding: float,
    start: float,
    mean: np.ndarray | None,
    radius: float,
    answers: Sequence[Answer],
    inputs: dict[str, float],
) -> Certificate:
    """After the last step, against the exact mean if there is one.

    Parameters
    ----------
    bounds : ndarray, shape (T,)
        What the recursion comes to after each step.
    rounding : float
        How far rounding may keep the outputs, or the best ones that were computed, from where they
        should be.
    start : float
        ‖z_0 − z*‖².
    mean : ndarray, shape (T,), optional
        The mean after each step.
    radius : float
        How far its last entry may be off.
    """
    measured = None
    if mean is not None:
        last = float(mean[-1])
        ends = (
            max(math.sqrt(max(last - radius, 0.0)) - rounding, 0.0) ** 2,
            (math.sqrt(last + radius) + rounding) ** 2,
        )
        measured = Estimate.between(*ends, value=last, method=COMPUTED)
    return RECURSION(
        bound=(math.sqrt(float(bounds[-1]) + 2 * radius) + 2 * rounding) ** 2,
        confidence=1.0,
        trivial=start,
        measured=measured,
        answers=answers,
        inputs={"steps": len(bounds), "at the start": start, **inputs},
    )
