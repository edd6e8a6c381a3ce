"""What is promised of recalibrated probabilities, and on which conditions.

Everything here is conditional on the inputs of the certified rows and on the map: only labels are
random.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from whp.calibration._h_calibration import kernels
from whp.calibration._h_calibration.band import CLASS, TOP, band, blocks_for, rows_needed
from whp.calibration._h_calibration.maps import softmax
from whp.calibration._h_calibration.objective import WEIGHTS, Objective
from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact
from whp.scores import as_probabilities, as_units
from whp.theorem import AT_LEAST, AT_MOST, FITTED, POPULATION, THIS_RUN, Condition, Derived, Theorem
from whp.validate import as_floats, as_fraction, as_int, as_labels, as_matrix

__all__ = ["THEOREMS", "accuracy_preserved", "calibration_test", "error_band", "overfit", "unknown"]

INDEPENDENT = Condition(
    "independent-events",
    "certified rows (groups, where they are given) are independent events, each there once",
    "pass the repeated ids as groups=, which counts each once.",
)
NO_COPIES = Condition(
    "no-near-copies",
    "no row of continuous scores nearly repeats another",
    "find out where the copies come from and pass their common origin as groups=.",
)
UNUSED = Condition(
    "unused-rows",
    "the map was fitted without the certified rows",
    "hold rows back (certify > 0) or give a test sample that shares no row with the fit.",
)
NEW_TO_MODEL = Condition(
    "new-to-the-model", "the classifier was trained without the rows that fit and certify the map"
)
ONE_LAW = Condition(
    "one-law",
    "rows that fitted, rows that certify and rows to come are draws from one law",
    "calibrate on rows from where the probabilities will be used.",
)
CHOSEN_BEFORE = Condition(
    "chosen-beforehand",
    "classifier, map, options and split were settled without the classes of the certified rows",
    "certify once, on rows that chose nothing.",
)
CUT = Condition("cut-by-probability", "blocks are cut by stated probability, never by outcome")
_TEST = (INDEPENDENT, NO_COPIES, UNUSED, NEW_TO_MODEL, CHOSEN_BEFORE, ONE_LAW)
_BAND = (*_TEST, CUT)
_MORE = "try mapping='ensemble' or 'auto', or state a larger epsilon."

TOP_LABEL_ERROR = Theorem(
    "top-label-error",
    claim="in each block of rows next to each other in the stated probability of their top label, the "
    "mean stated probability is within epsilon of how often the top label is right; the blocks' ranges "
    "are given, and errors of both signs within one cancel",
    quantity="largest error of a block of top labels, with its simultaneous interval",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("h-calibration#band"),
    conditions=_BAND,
    remedy=_MORE,
)
ERROR_BOUND = Theorem(
    "error-bound",
    claim="in each block of neighbouring stated probabilities of any class their mean is within "
    "epsilon of the mean true probability; the blocks' ranges are given, and errors of both signs "
    "within one cancel",
    quantity="largest error of a block of entries, with its simultaneous interval",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("h-calibration#band", "the error that Huang et al. 2025 bound asymptotically"),
    conditions=_BAND,
    remedy="if vacuous: blocks over many classes hold small probabilities only, and the top label "
    f"(top-label-error) or objective='classwise' decides; else {_MORE}",
)
CALIBRATION_TEST = Theorem(
    "calibration-test",
    claim="the stated probabilities are the true ones (perfect calibration)",
    quantity="windowed error above what perfect calibration leaves, from its lower confidence limit "
    "to infinity: a test refutes or stays silent, it proves nothing",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("h-calibration#test"),
    conditions=_TEST,
    needs="nothing: silence of a test is no proof; top-label-error says how large an error can be.",
    remedy="some error is left: top-label-error and error-bound say how large; try "
    "mapping='ensemble', 'piecewise' or 'auto'.",
)
ACCURACY_PRESERVED = Theorem(
    "accuracy-preserved",
    claim="no row's classes change their order (to 1e-12) and no row's arg-max is another than the "
    "scores' and the classifier's decision, so the accuracy stays as it was (ties may break either way)",
    quantity="rows of this run whose classes changed their order or their arg-max",
    relation=AT_MOST,
    scope=THIS_RUN,
    source="Huang et al. 2025: the maps increase strictly with each logit",
    remedy="the classifier decides otherwise than by its largest score (a tuned threshold, votes), "
    "or the map is not one of ours; decide by the classifier's own predict.",
)
OVERFIT = Theorem(
    "overfit",
    claim="on the rows that fitted the map its error is not below what refitting one temperature "
    "leaves of perfectly calibrated probabilities; below it the map has fitted the labels' noise",
    quantity="windowed error on the rows that fitted the map",
    relation=AT_LEAST,
    scope=FITTED,
    source=Derived("h-calibration#overfit"),
    conditions=(INDEPENDENT, NO_COPIES),
    remedy="use a map with fewer parameters, or more rows; trust only what was measured on "
    "held-out rows.",
)
THEOREMS = (TOP_LABEL_ERROR, ERROR_BOUND, CALIBRATION_TEST, ACCURACY_PRESERVED, OVERFIT)

ORDER_TOLERANCE = 1e-12
MOST_SHOWN = 20
MOST_TESTED = 500_000  # entries of the resampled tests; more are thinned out evenly
MOST_REFITTED = 200_000
REFITS, MOST_REFITS, STEPS = 39, 999, np.linspace(-0.75, 0.75, 31)

Answers = Mapping[str, Answer]


def unknown() -> dict[str, Answer]:
    """Answers for probabilities of which nothing else is known."""
    return {
        INDEPENDENT.name: INDEPENDENT.unchecked(
            "scores cannot tell; if rows come in groups (visits of a patient, frames of a film), "
            "pass groups="
        ),
        NO_COPIES.name: NO_COPIES.unchecked("not looked for"),
        UNUSED.name: UNUSED.unchecked("the fit was not seen"),
        NEW_TO_MODEL.name: NEW_TO_MODEL.unchecked("scores cannot tell; ask who trained it"),
        CHOSEN_BEFORE.name: CHOSEN_BEFORE.unchecked(
            "one run cannot show how many were tried: the best of many classifiers, epochs, settings or "
            "seeds by these rows looks better than it is"
        ),
        ONE_LAW.name: ONE_LAW.unchecked("there is one sample only"),
        CUT.name: CUT.by_construction("equal probabilities go to one block, whatever their labels"),
    }


def _of(theorem: Theorem, answers: Answers | None) -> list[Answer]:
    known = unknown() | dict(answers or {})
    return [known[c.name] for c in theorem.conditions]


def error_band(
    probs: np.ndarray,
    y: np.ndarray,
    *,
    epsilon: float = 0.1,
    delta: float = 0.05,
    blocks: int | None = None,
    classwise: bool = False,
    groups: np.ndarray | None = None,
) -> tuple[Certificate, Certificate]:
    """Certificates of the top label and of all entries: no block is off by more than `epsilon`.

    Parameters
    ----------
    probs, y, delta, blocks, classwise, groups
        As in :func:`band`; `probs` must not depend on `y`.
    epsilon : float
        The error that can be lived with.

    Returns
    -------
    tuple of Certificate
        ``top-label-error`` and ``error-bound``, which hold together with probability 1 - delta.
        Where the rows came from is unchecked.
    """
    table = band(probs, y, blocks, delta, classwise, groups=groups, epsilon=epsilon)
    return of_band(table, len(y), epsilon, delta, blocks, unknown())


def of_band(
    table: pd.DataFrame,
    rows: int,
    epsilon: float,
    delta: float,
    blocks: int | None,
    answers: Answers,
) -> tuple[Certificate, Certificate]:
    """The certificates of a band that was computed from so many rows."""
    epsilon = as_fraction(epsilon, "epsilon")
    count = blocks_for(rows, epsilon) if blocks is None else blocks
    wanted = rows_needed(count, epsilon)
    made = []
    for theorem, part in (
        (TOP_LABEL_ERROR, table[table["part"] == TOP]),
        (ERROR_BOUND, table[table["part"] != TOP]),
    ):
        stated = part["mean_predicted"].to_numpy()
        most = np.minimum(1.0, part["most"].to_numpy() / part["entries"].to_numpy())
        # The failure probability of the interval is the certificate's own and is spent once.
        measured = Estimate.between(
            float(part["error_low"].max()),
            float(part["error_high"].max()),
            value=float(part["error"].max()),
            n=rows,
            method="simultaneous",
        )
        claim = theorem.claim
        if (part["part"] == CLASS).any():
            claim = claim.replace("of any class", "of one class")
        made.append(
            theorem.variant(
                claim=claim,
                needs=f"with {count} blocks a calibrated model needs about {wanted:,} certified "
                f"rows for epsilon = {epsilon:g}; there were {rows:,}.",
            )(
                bound=epsilon,
                confidence=1 - delta,
                trivial=float(np.maximum(stated, most - stated).max()),
                measured=measured,
                answers=_of(theorem, answers),
                inputs={
                    "rows": rows,
                    "blocks": len(part),
                    "delta": delta,
                    "least independent events in a block": int(part["events"].min()),
                    "ranges of the blocks": _ranges(part),
                },
            )
        )
    return made[0], made[1]


def _ranges(part: pd.DataFrame) -> str:
    """Where blocks of a band begin and end; of many the widest."""
    ends = part[["lowest", "highest"]].to_numpy()
    if len(ends) > MOST_SHOWN:
        widest = ends[np.argmax(ends[:, 1] - ends[:, 0])]
        return f"widest {widest[0]:.3g} to {widest[1]:.3g}"
    return ", ".join(f"{low:.3g} to {high:.3g}" for low, high in ends)


def upper_quantile(null: np.ndarray, delta: float) -> float:
    """The value that one more draw of the law of `null` exceeds with probability at most `delta`."""
    allowed = math.floor(delta * (len(null) + 1) + 1e-9)
    return float(np.sort(null)[len(null) - allowed]) if allowed >= 1 else math.inf


def thinned(shape: tuple[int, ...], most: int) -> slice:
    """Every k-th row, so that at most `most` entries remain; chosen without a look at labels."""
    return slice(None, None, max(1, math.ceil(math.prod(shape) / most)))


def one_a_group(groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Places of one row of each group, drawn evenly."""
    order = rng.permutation(len(groups))
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def calibration_test(
    probs: np.ndarray,
    y: np.ndarray,
    objective: Objective,
    *,
    delta: float = 0.05,
    resamples: int = 199,
    rng: np.random.Generator | int | None = None,
    groups: np.ndarray | None = None,
    answers: Answers | None = None,
) -> tuple[Certificate, np.ndarray]:
    """Exact test of perfect calibration, and the resampled errors it rests on.

    If the probabilities are the true ones, the labels are one more draw from them: the rank of their
    error among those of `resamples` draws is uniform, for any n, any number of classes and any
    fixed map. Of rows in groups, one a group is tested; of very many rows, every k-th.
    """
    rng = np.random.default_rng(rng)
    probs, y = as_probabilities(probs, y)
    delta, resamples = as_fraction(delta, "delta"), as_int(resamples, "resamples", low=1)
    if groups is not None:
        kept = one_a_group(as_units(groups, "groups", len(y)), rng)
        probs, y = probs[kept], y[kept]
    kept = thinned(probs.shape, MOST_TESTED)
    probs, y = np.ascontiguousarray(probs[kept]), y[kept]
    value, null = objective(probs, y), objective.null(probs, resamples, rng)
    limit = upper_quantile(null, delta)
    # Labels that are always, and never, the likeliest: as far off as labels can put these rows.
    worst = max(value, *(objective(probs, pick(probs, axis=1)) for pick in (np.argmin, np.argmax)))
    theorem = CALIBRATION_TEST
    if math.isinf(limit):
        theorem = theorem.variant(
            needs=f"delta = {delta:g} needs at least {math.ceil(1 / delta) - 1:,} resamples; there "
            f"were {resamples:,}."
        )
    certificate = theorem(
        bound=0.0,
        confidence=1 - delta,
        trivial=worst - limit,
        measured=Estimate.between(
            value - limit,
            math.inf,
            value=value - float(np.median(null)),
            n=len(y),
            method="exact rank test",
        ),
        answers=_of(CALIBRATION_TEST, answers),
        inputs={
            "p-value": (1 + int((null >= value).sum())) / (resamples + 1),
            "windowed error": value,
            "median if calibrated": float(np.median(null)),
            "objective": objective.kind,
            "window": objective.window,
            "rows": len(y),
            "resamples": resamples,
        },
    )
    return certificate, null


def accuracy_preserved(
    before: np.ndarray, after: np.ndarray, decisions: np.ndarray | None = None
) -> Certificate:
    """Certificate that no row's classes changed order and no decision changed.

    Parameters
    ----------
    before : ndarray, shape (n, C)
        Logits or probabilities as they came; ties there may break either way, -infinity is below
        every number.
    after : ndarray, shape (n, C)
        Probabilities of any map, a stranger's as well: the rows are counted.
    decisions : ndarray of int, shape (n,), optional
        The column that the classifier itself decided for.
    """
    raw = np.asarray(as_floats(before, "before"), dtype=np.float64)
    absent = np.isneginf(raw)
    before = as_matrix(np.where(absent, np.finfo(np.float64).min, raw), "before")
    after = as_matrix(after, "after")
    if before.shape != after.shape:
        raise ValueError(f"before and after must agree, got {before.shape} and {after.shape}")
    changed = reordered(before, after)
    if decisions is not None:
        decisions = as_labels(decisions, "decisions", size=len(after), classes=after.shape[1])
        changed |= after[np.arange(len(after)), decisions] < after.max(axis=1)
    return ACCURACY_PRESERVED(
        bound=0.0,
        confidence=1.0,
        trivial=float(len(before)),
        measured=exact(float(changed.sum())),
        inputs={"rows": len(before), "scores of -infinity": int(absent.sum())},
    )


def reordered(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Which rows' classes changed their order or their arg-max."""
    rows = np.arange(len(before))
    order = np.argsort(before, axis=1, kind="stable")
    falls = np.diff(np.take_along_axis(after, order, axis=1), axis=1) < -ORDER_TOLERANCE
    ordered = np.take_along_axis(before, order, axis=1)
    falls &= ordered[:, 1:] > ordered[:, :-1]
    top = before[rows, after.argmax(axis=1)] < before.max(axis=1)
    # Where saturated logits round to equal probabilities, arg-max may point to any of the equals.
    top &= after.max(axis=1) > after[rows, before.argmax(axis=1)]
    return falls.any(axis=1) | top


def overfit(
    probs: np.ndarray,
    y: np.ndarray,
    objective: Objective,
    *,
    delta: float = 0.05,
    resamples: int = REFITS,
    rng: np.random.Generator | int | None = None,
    groups: np.ndarray | None = None,
    answers: Answers | None = None,
) -> Certificate:
    """Certificate that the error on the rows that fitted the map is not below what a fit leaves.

    Labels are drawn from the fitted probabilities, and in each draw one temperature is fitted again;
    the map's own error is minimised over the same temperatures. For a map of one temperature the
    two are alike. A map that leaves less has fitted more noise than one parameter can.
    """
    probs, y = as_probabilities(probs, y)
    delta, resamples = as_fraction(delta, "delta"), as_int(resamples, "resamples", low=1)
    kept = thinned(probs.shape, MOST_REFITTED)
    P, labels = np.ascontiguousarray(probs[kept]), y[kept]
    if objective.kind == "leave-one-class-out":
        objective = Objective("pooled", objective.window, objective.tolerance, objective.clusters)
    wanted = math.ceil(2 / delta) - 1
    draws = max(resamples, min(wanted, MOST_REFITS))
    errors = refitted_errors(P, labels, objective, draws, np.random.default_rng(rng))
    value, null = float(errors[0]), np.sort(errors[1:])
    allowed = math.floor(delta * (draws + 1) + 1e-9)
    known = dict(answers or {})
    if groups is not None:
        units = as_units(groups, "groups", len(y))
        known[INDEPENDENT.name] = (
            INDEPENDENT.unchecked("no two rows share a group; scores cannot tell more")
            if len(np.unique(units)) == len(y)
            else INDEPENDENT.check(
                False,
                "rows share groups, and labels are drawn row by row",
                remedy="give one row a group to judge the fit.",
            )
        )
    theorem = OVERFIT
    if not allowed:  # no quantile that low: nothing is promised
        theorem = OVERFIT.variant(
            needs=f"delta = {delta:g} needs {math.ceil(1 / delta) - 1:,} refits; there were {draws:,}."
        )
    return theorem(
        bound=float(null[allowed - 1]) if allowed else 0.0,
        confidence=1 - delta,
        trivial=0.0,
        measured=exact(value),
        answers=_of(OVERFIT, known),
        inputs={
            "rows": len(labels),
            "refits": draws,
            "median after a refit": float(np.median(null)),
        },
    )


def refitted_errors(
    P: np.ndarray, y: np.ndarray, objective: Objective, draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Least error over temperatures of the labels `y`, and of `draws` sets of labels drawn from P."""
    cumulative = np.cumsum(P, axis=1)
    cumulative /= cumulative[:, -1:]
    last = P.shape[1] - 1
    drawn = [
        np.minimum((cumulative < rng.random((len(P), 1))).sum(axis=1), last) for _ in range(draws)
    ]
    labels = np.stack([y, *drawn])
    logs = np.log(np.maximum(P, 1e-300))
    least = np.full(draws + 1, np.inf)
    # The real labels' minimum stands at 0 exactly; shifted, no labels have the grid to their favour.
    shift = (STEPS[1] - STEPS[0]) * rng.uniform(-0.5, 0.5)
    for step in STEPS + shift:
        Q = softmax(math.exp(step) * logs)
        if objective.kind == "pooled":
            p, where = kernels.order_of(Q.ravel())
            place = np.empty(Q.size, dtype=np.int64)
            place[where] = np.arange(Q.size)
            kernels.refitted(
                p,
                place.reshape(Q.shape),
                labels,
                objective.window,
                objective.tolerance,
                WEIGHTS[objective.weights],
                objective.clusters,
                least,
            )
        else:
            least = np.minimum(least, [objective(Q, row) for row in labels])
    return least
