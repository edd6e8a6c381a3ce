"""What is promised about view batches, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from whp.certificate import Answer, Certificate, Scalar
from whp.intervals import Estimate, exact, proportion
from whp.theorem import AT_LEAST, AT_MOST, FITTED, ON_AVERAGE, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "ALIKE",
    "ARMS_DIFFER",
    "BEST_INTERVAL",
    "CHOSEN_BEFORE",
    "CONSISTENCY",
    "CURVED",
    "DETERMINED",
    "DIFFER",
    "EFFECTIVE_BATCH",
    "EQUAL_ARMS",
    "EQUAL_WORK",
    "FORGETTING",
    "FORM",
    "INDEPENDENT_RUNS",
    "INSIDE",
    "MEAN_RECALL",
    "MINIMUM_REST",
    "MORE_ROWS",
    "POINTS",
    "SEPARATE",
    "THEOREMS",
    "TRAINED",
    "TWO_CYCLES",
    "WHOLE_CYCLES",
    "best_interval",
    "effective_batch",
    "equal_work",
    "forgetting",
    "mean_recall",
    "minimum_rest",
    "view_consistency",
]

PAPER = "Kang, Seifer, Lee, Ryu 2025"
SIX = "6 runs (seeds=6), and more where some are lost: 5 of 5 are no proof at 95 %."

# Rest

TRAINED = Condition(
    "trained-as-planned",
    "the batches that were trained are those of the schedule, all of them and in its order",
    remedy="train every batch that the sampler yields, as it is and in order.",
)
TWO_CYCLES = Condition(
    "two-whole-cycles",
    "the run holds two whole cycles",
    remedy="train for at least 2·views epochs.",
)
WHOLE_CYCLES = Condition(
    "ends-with-a-cycle",
    "the run ends with a cycle",
    remedy="let views divide the number of epochs, and train to the end.",
)

MINIMUM_REST = Theorem(
    "minimum-rest",
    claim="within the stream of one task there are always at least C − window + 1 steps between two "
    "visits of a sample",
    quantity="least number of steps between two visits of a sample",
    relation=AT_LEAST,
    scope=THIS_RUN,
    source=Derived("view-batch#minimum-rest"),
    conditions=(TRAINED,),
    needs="at least two visits of some sample: 2·views epochs.",
    remedy="a full shuffle promises no rest at all: use shuffle='window'. If a window was used, "
    "something between the sampler and the model reorders, shards or repeats samples.",
)
MEAN_RECALL = Theorem(
    "mean-recall",
    claim="within the stream of one task the mean number of steps until a sample comes back is exactly "
    f"C = ⌈n·views/batch⌉, in every pair of cycles; the interval that {PAPER} call optimal is this mean",
    quantity="largest difference of a pair of cycles' mean gap from C, in steps",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("view-batch#mean-recall"),
    conditions=(TRAINED, TWO_CYCLES),
    needs="two whole cycles: 2·views epochs.",
    remedy="samples are dropped, repeated or drawn with replacement.",
)
EQUAL_WORK = Theorem(
    "equal-work",
    claim="every sample of the stream of one task was shown equally often",
    quantity="images of the sample that was shown most often, less those of the least",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("view-batch#equal-work"),
    conditions=(TRAINED, WHOLE_CYCLES),
    needs="a whole cycle: views epochs.",
    remedy="samples are dropped or repeated.",
)


def minimum_rest(
    gaps: np.ndarray, cycle: int, window: int, trained: Answer, inputs: Mapping[str, Scalar]
) -> Certificate:
    """The least gap of a run against what a window promises."""
    return MINIMUM_REST(
        bound=least_gap(cycle, window),
        confidence=1.0,
        trivial=1.0,
        measured=exact(float(gaps.min())) if len(gaps) else None,
        answers=(trained,),
        inputs={
            "C": cycle,
            "window": window,
            "largest gap": int(gaps.max()) if len(gaps) else 0,
            **inputs,
        },
    )


def least_gap(cycle: int, window: int) -> int:
    """C − window + 1."""
    return cycle - window + 1


def mean_recall(
    off: float, cycle: int, steps: int, trained: Answer, inputs: Mapping[str, Scalar]
) -> Certificate:
    """How far mean gaps are from a cycle; `off` is infinite where a sample never returned."""
    whole = steps >= 2 * cycle
    return MEAN_RECALL(
        bound=0.0,
        confidence=1.0,
        trivial=cycle,
        measured=exact(off) if whole else None,
        answers=(trained, TWO_CYCLES.check(whole, f"{steps} steps, C = {cycle}")),
        inputs={"C": cycle, "steps": steps, **inputs},
    )


def equal_work(
    counts: np.ndarray, cycle: int, steps: int, trained: Answer, inputs: Mapping[str, Scalar]
) -> Certificate:
    """How unequally often samples were shown; `counts` are images."""
    unseen = int((counts == 0).sum())
    evidence = f"{steps} steps, C = {cycle}" + (
        f"; {unseen} samples were never seen" if unseen else ""
    )
    return EQUAL_WORK(
        bound=0.0,
        confidence=1.0,
        trivial=float(counts.max()),
        measured=exact(float(counts.max() - counts.min())),
        answers=(trained, WHOLE_CYCLES.check(steps > 0 and steps % cycle == 0, evidence)),
        inputs={"images of a sample": int(counts.max()), "steps": steps, **inputs},
    )


# Noise

ALIKE = Condition(
    "views-drawn-alike",
    "all views of a sample are drawn alike",
    remedy="take strong=None; a first view that is weaker than the others has another mean and "
    "another spread, and the variance may exceed that of copies.",
)
DIFFER = Condition(
    "views-differ",
    "the views of a sample differ",
    remedy="give workers seeds of their own, and take views that change something.",
)
SEPARATE = Condition(
    "scores-of-an-image-alone",
    "in training the scores of an image do not depend on the others of its batch",
    remedy="take group norm for batch norm.",
)
MORE_ROWS = Condition(
    "more-rows-than-a-batch",
    "there are more samples than a batch holds",
    remedy="take a smaller batch_size.",
)

EFFECTIVE_BATCH = Theorem(
    "effective-batch",
    claim="at these weights the gradient of the cross-entropy of a view batch varies at most as much "
    "more than an ordinary batch's as if all views were copies",
    quantity="variance of a view batch's gradient over that of an ordinary batch's, along random "
    "directions",
    relation=AT_MOST,
    scope=FITTED,
    source=Derived("view-batch#design-effect"),
    conditions=(ALIKE, DIFFER, SEPARATE, MORE_ROWS),
    needs="diagnostics=True.",
    remedy="batches are not drawn as the schedule says.",
)


def copies_ratio(n: int, batch_size: int, views: int) -> float:
    """(nV − B)/(n − B): the ratio of variances if all views of a sample are equal."""
    return (n * views - batch_size) / (n - batch_size) if n > batch_size else math.inf


def effective_batch(
    ratio: Estimate | None,
    n: int,
    batch_size: int,
    views: int,
    answers: Sequence[Answer],
    inputs: Mapping[str, Scalar],
) -> Certificate:
    """A measured ratio of variances against that of copies; `answers` are to the others."""
    return EFFECTIVE_BATCH(
        bound=copies_ratio(n, batch_size, views),
        confidence=1.0,
        trivial=copies_ratio(n, batch_size, batch_size),
        measured=ratio,
        answers=(
            *answers,
            MORE_ROWS.check(n > batch_size, f"{n} samples, batches of {batch_size}"),
        ),
        inputs={"n": n, "batch": batch_size, "views": views, **inputs},
    )


# Decisions

CONSISTENCY = Theorem(
    "view-consistency",
    claim="no view changes the first one's decision where the first one's margin exceeds √(2 KL), "
    "KL the divergence that was handed in, give or take its rounding",
    quantity="share of views that change a decision which the divergence does not let them change",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("view-batch#pinsker"),
    remedy="the divergence is not KL(p⁰ ‖ pʲ) summed over classes (a mean divides it by their "
    "number), or the views are mixed up.",
)


def largest_margin(divergence: np.ndarray) -> np.ndarray:
    """√(2 KL): up to this margin a view may change a decision; more by rounding alone."""
    return np.sqrt(2 * np.maximum(divergence, 0)) + 1e-6


def view_consistency(
    log_p: np.ndarray, divergence: np.ndarray, precision: float = 0.0
) -> Certificate:
    """Whether views change decisions only where a divergence that was computed elsewhere allows it.

    Parameters
    ----------
    log_p : ndarray, shape (d, views, classes)
        Log-probabilities, the first view first.
    divergence : ndarray, shape (d, views − 1)
        KL(p⁰ ‖ pʲ).
    precision : float
        Distance of the divergence's floating-point numbers, relative to them. Each logarithm is off
        by so much of itself, and their differences are what is summed: of views that are close
        the divergence is mostly rounding.
    """
    p = np.exp(log_p[:, 0])
    top = np.partition(p, -2, axis=1)[:, -2:]
    margin = (top[:, 1] - top[:, 0])[:, None]
    flipped = log_p[:, 1:].argmax(axis=2) != log_p[:, :1].argmax(axis=2)
    sizes = np.where(p[:, None] > 0, np.abs(log_p[:, :1]) + np.abs(log_p[:, 1:]), 0.0)
    rounding = 4 * precision * (1 + (p[:, None] * sizes).sum(axis=2))
    allowed = margin <= largest_margin(np.maximum(divergence, 0) + rounding)
    return CONSISTENCY(
        bound=0.0,
        confidence=1.0,
        trivial=float(flipped.mean()),
        measured=exact(float((flipped & ~allowed).mean())),
        inputs={
            "views compared": int(flipped.size),
            "share flipped": float(flipped.mean()),
            "share that may flip": float(allowed.mean()),
        },
    )


# Forgetting

ARMS_DIFFER = Condition(
    "arms-differ",
    "training with views is another training than that without",
    remedy="take views above 1 and a learning rate that moves the weights.",
)
EQUAL_ARMS = Condition(
    "equal-arms",
    "both saw as many images, from the same weights, at the same learning rate",
    remedy="compare trainings that differ in their views alone.",
)
INDEPENDENT_RUNS = Condition(
    "independent-runs",
    "runs are independent, given the data",
    remedy="draw split, weights and order anew in each run.",
)
CHOSEN_BEFORE = Condition(
    "chosen-before",
    "learning rate, views and number of runs were fixed before these runs were looked at",
    remedy="choose on runs of their own.",
)

FORGETTING = Theorem(
    "forgetting",
    claim="in more than half of all training runs on these data less is forgotten with views than "
    "with an ordinary loader",
    quantity="share of runs in which less is forgotten with views, equal ones counted against",
    relation=AT_LEAST,
    scope=ON_AVERAGE,
    source=Derived("view-batch#forgetting", extends=f"the claim of {PAPER}"),
    conditions=(ARMS_DIFFER, EQUAL_ARMS, INDEPENDENT_RUNS, CHOSEN_BEFORE),
    needs=SIX,
    remedy="views do not help here: views=1.",
)
HALF = 0.5
LEVEL = 0.95
TIE = 1e-9  # means of shares are off by rounding, and as much forgotten is not less


def majority() -> float:
    """The share of runs that is demanded."""
    return HALF


def forgetting(
    differences: np.ndarray | None, answers: Sequence[Answer], inputs: Mapping[str, Scalar]
) -> Certificate:
    """How many runs forgot less: `differences` are those of forgetting, views less ordinary.

    One run says nothing about others and leaves the share unmeasured.
    """
    measured = None
    if differences is not None and len(differences) > 1:
        measured = proportion(int((differences < -TIE).sum()), len(differences), level=LEVEL)
    runs = 0 if differences is None else len(differences)
    figures = {} if differences is None else {"mean difference": float(np.mean(differences))}
    return FORGETTING(
        bound=majority(),
        confidence=1.0,
        trivial=0.0,
        measured=measured,
        answers=answers,
        inputs={"runs": runs, **figures, **inputs},
    )


# The best interval

CURVED = Condition(
    "best-inside",
    "retention depends on the interval and falls off on both sides of the best one (c > 0)",
    remedy="the data show no best interval: more rows, or intervals further apart.",
)
DETERMINED = Condition(
    "determined",
    "the points determine the four parameters, and there are more of them than that",
    remedy="measure retention after several times at each interval.",
)
INSIDE = Condition(
    "range-tried",
    "the best interval lies, interval and all, among those that were tried",
    remedy="try intervals beyond the best one, on both sides.",
)
FORM = Condition(
    "form-of-the-curve", "retention has the form A(bt + 1)^−S, S = 1 + c(ln(I + 1) − d)²"
)
POINTS = Condition(
    "independent-points",
    "points, or the groups that were named, are independent, and none is repeated",
    remedy="give one point a training, or name the points of a training as a group.",
)

BEST_INTERVAL = Theorem(
    "best-interval",
    claim="retention lasts longest at an interval I* that differs from the fitted one, each plus "
    "one, by at most the factor that is the bound",
    quantity="factor between the best interval and the fitted one",
    relation=AT_MOST,
    scope=FITTED,
    source=Derived("view-batch#best-interval", extends=f"the retention model of {PAPER}"),
    conditions=(CURVED, DETERMINED, INSIDE, FORM, POINTS),
    needs="within=, the factor that would do: it is then decided by the interval of I*.",
    remedy="more rows, or more intervals near the best one.",
)


def best_interval(
    best: float,
    ends: tuple[float, float],
    curvature: tuple[float, float],
    tried: tuple[float, float],
    level: float,
    determined: Answer,
    inputs: Mapping[str, Scalar],
    within: float | None = None,
) -> Certificate:
    """How sharply a fit says which interval is best, or whether as sharply as is demanded.

    Parameters
    ----------
    best : float
        I*.
    ends, curvature : pair of float
        Intervals, at `level` each, of I* and of c.
    tried : pair of float
        Least and largest interval in the data.
    determined : Answer
        To DETERMINED.
    within : float, optional
        The demand, a factor.
    """
    low, high = ends
    factor = math.inf
    if low > -1 and math.isfinite(high):
        factor = max((high + 1) / (best + 1), (best + 1) / (low + 1))
    inside = tried[0] <= low and high <= tried[1]
    known = None
    if within is not None:  # the best interval is anywhere between the ends
        known = Estimate.between(1.0, factor, value=1.0, level=level, method="sandwich")
    return BEST_INTERVAL(
        bound=factor if within is None else within,
        confidence=level,
        measured=known,
        trivial=(tried[1] + 1) / (tried[0] + 1),
        answers=(
            CURVED.check(curvature[0] > 0, f"c in [{curvature[0]:.3g}, {curvature[1]:.3g}]"),
            determined,
            INSIDE.check(
                inside, f"[{low:.4g}, {high:.4g}]; {tried[0]:g} to {tried[1]:g} were tried"
            ),
            FORM.unchecked("a few intervals cannot tell one smooth curve from another"),
            POINTS.unchecked("shares do not show which test rows and trainings they come from"),
        ),
        inputs={"I*": best, **inputs},
    )


THEOREMS = (
    MINIMUM_REST,
    MEAN_RECALL,
    EQUAL_WORK,
    EFFECTIVE_BATCH,
    CONSISTENCY,
    FORGETTING,
    BEST_INTERVAL,
)
