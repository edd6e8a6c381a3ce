"""What is promised about the accuracy of a model on old tasks while it learns new ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate, exact
from whp.theorem import AT_LEAST, AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "BAND_AUDIT",
    "CENTRED",
    "COUNTS",
    "ENVELOPE",
    "EVERY_UPDATE",
    "EXACT",
    "FIRST_STEP",
    "FRESH",
    "HIDDEN_DROP",
    "INDEPENDENT",
    "NOT_CHOSEN",
    "NO_TRACE",
    "SAME_FUNCTION",
    "SAME_ROWS",
    "SUBSET",
    "TEMPORARY_FORGETTING",
    "THEOREMS",
    "UNSEEN",
    "band_audit",
    "envelope",
    "first_step",
    "hidden_drop",
    "resting_on",
    "temporary_forgetting",
]

PAPER = "De Lange, van de Ven & Tuytelaars 2023"
AT_REST = 1e-5  # single precision leaves 1e-8 to 1e-7 of a gradient that is zero
FAR_LESS = 0.02  # rounding at a first step is up to 0.005 of a pull of tiny steps; anchors 0.1 on
ROUNDED = 5e-4  # of numbers in a report, three digits

UNSEEN = Condition(
    "not-trained-on",
    "rows for evaluation are not trained on",
    remedy="take rows that are in both sets out of one of them.",
)
SUBSET = Condition(
    "random-subset",
    "each task's rows were drawn uniformly before training, and are the same at all times",
    remedy="draw the rows uniformly, once, before training: ContinualEvaluator does.",
)
NOT_CHOSEN = Condition(
    "nothing-chosen", "nothing was chosen by these evaluations: no early stopping, no tuning"
)
EVERY_UPDATE = Condition(
    "every-update",
    "every update of the model was followed by an evaluation",
    remedy="evaluate after every update, or say with every how many updates lie between.",
)
NO_TRACE = Condition(
    "no-trace",
    "evaluating leaves training as it was",
    remedy="evaluate in evaluation mode, without random numbers that training uses.",
)
INDEPENDENT = Condition(
    "independent-rows",
    "evaluation rows are independent draws of their task",
    remedy="keep one row of each group that belongs together: groups=.",
)
COUNTS = Condition(
    "counts-of-n",
    "accuracies are numbers of right rows over n",
    remedy="give the number of rows that were evaluated, and accuracies with all their digits.",
)
EXACT = Condition(
    "exact-accuracies",
    "accuracies are those of the same rows at all times, and no other rows matter",
)
CENTRED = Condition(
    "centred",
    "the stability loss is least at the model that the last task left",
    remedy="replay and projections pull from the start: the statement is not about them.",
)
FRESH = Condition(
    "fresh-optimiser",
    "the optimiser carries nothing into a new task",
    remedy="reset the optimiser when a task begins.",
)
SAME_FUNCTION = Condition(
    "same-function",
    "the model computes the same twice in training, and in evaluation",
    remedy="without dropout, batch statistics or noise the first step would be plain fine-tuning.",
)
SAME_ROWS = Condition("same-rows", "reported numbers are of these rows")

ROWS = (UNSEEN, SUBSET, NOT_CHOSEN, EVERY_UPDATE, NO_TRACE, INDEPENDENT, COUNTS)
HIDDEN_DROP = Theorem(
    "hidden-drop",
    claim="the accuracy at the end exceeds the worst-case accuracy by at most gap: evaluating at "
    "the ends of tasks hides no more than that. It fails where a stability gap is proved",
    quantity="ACC − WC-ACC at the end",
    relation=AT_MOST,
    scope=POPULATION,
    source=Derived("stability-gap#hidden-drop", extends=f"the metrics of {PAPER}"),
    conditions=ROWS,
    needs="evaluate more rows, or pass correct for paired limits.",
    remedy="the model was worse on old tasks between the ends of tasks: do not serve it there, or "
    "serve the one before. A gap as large as the accuracy on old tasks can hide nothing: where "
    "that is small, the model is bad at the end already.",
)
TEMPORARY_FORGETTING = Theorem(
    "temporary-forgetting",
    claim="some old task lost at least gap while one new task was learnt, and got at least that "
    "back before it ended",
    quantity="largest min(drop, recovery) of an old and a new task",
    relation=AT_LEAST,
    scope=POPULATION,
    source=Derived("stability-gap#temporary-forgetting", extends=f"the phenomenon of {PAPER}"),
    conditions=ROWS,
    needs="evaluate more rows, after every update, or pass correct for paired limits.",
    remedy="there was no such gap.",
)
BAND_AUDIT = Theorem(
    "band-audit",
    claim="accuracies on the whole sets, looked at where new minima appeared, lie within the band "
    "that their subsets gave",
    quantity="largest |subset − whole set| over the distance from the subset to the band's end",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("stability-gap#band"),
    needs="let the recorder look at whole sets: audit of 1 or more.",
    remedy="the subset is no random sample of its set, or so large a part of it that nothing can "
    "be off: draw it uniformly, before training.",
)
FIRST_STEP = Theorem(
    "first-step",
    claim="at the first step of every new task the stability loss has no gradient, whatever its "
    "strength: that step is plain fine-tuning, and what it does to old tasks nobody holds back",
    quantity="norm of the stability gradient over that of the plasticity gradient, with the weight "
    "that it had and with a weight of 1, largest",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("stability-gap#first-step", extends=f"the explanation of {PAPER} in words"),
    conditions=(CENTRED, FRESH, SAME_FUNCTION),
    needs="train at least two tasks with record_gradients=True.",
    remedy="an anchor is not where the old model was: with one anchor for each old task only the "
    "first switch starts at rest. Where the stability loss never pulls, nothing is said.",
)
ENVELOPE = Theorem(
    "envelope",
    claim="reported numbers fit these curves: the mean accuracy is theirs, and the worst case lies "
    "between what all evaluations give and the mean, since fewer evaluations can only flatter",
    quantity="largest distance of a reported accuracy from where it may lie",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("stability-gap#envelope"),
    conditions=(SAME_ROWS, EVERY_UPDATE),
    remedy="the reported numbers do not belong to these curves.",
)
THEOREMS = (HIDDEN_DROP, TEMPORARY_FORGETTING, BAND_AUDIT, FIRST_STEP, ENVELOPE)
OF_THE_LOG = {
    HIDDEN_DROP: "in the accuracies of this log as they stand, ",
    TEMPORARY_FORGETTING: "in the accuracies of this log as they stand, ",
}


def resting_on(
    theorem: Theorem, answers: Iterable[Answer], *, population: bool, exact_rows: bool
) -> Theorem:
    """The relative of a theorem that rests on the conditions that are answered.

    Parameters
    ----------
    theorem : Theorem
        Of the accuracies.
    answers : iterable of Answer
        What is known; a log with gaps needs no every-update, rows that were counted no counts.
    population : bool
        Whether it is about the tasks' populations, or about the rows of this run.
    exact_rows : bool
        Whether the numbers are taken as they stand, because nobody said of how many rows.
    """
    known = (*ROWS, EXACT)
    names = {a.name for a in answers}
    return theorem.variant(
        conditions=tuple(c for c in known if c.name in names),
        scope=POPULATION if population else THIS_RUN,
        claim=(OF_THE_LOG[theorem] if exact_rows else "") + theorem.claim,
    )


def hidden_drop(
    theorem: Theorem,
    measured: Estimate,
    gap: float,
    *,
    trivial: float,
    delta: float,
    answers: Sequence[Answer],
    inputs: dict[str, bool | int | float | str],
    needs: str = "",
) -> Certificate:
    """At most `gap` was hidden; `measured` is the interval that holds with probability 1 − δ.

    The failure probability is that of the interval, which `measured.level` states, so that the
    demand itself is certain.
    """
    made = theorem.variant(needs=needs) if needs else theorem
    return made(
        bound=gap,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs={**inputs, "delta": delta},
    )


def temporary_forgetting(
    theorem: Theorem,
    measured: Estimate | None,
    gap: float,
    *,
    delta: float,
    answers: Sequence[Answer],
    pairs: int,
    needs: str = "",
) -> Certificate:
    """Some old task fell by `gap` and came back; every fall is at least 0."""
    made = theorem.variant(needs=needs) if needs else theorem
    return made(
        bound=gap,
        confidence=1.0,
        trivial=0.0,
        measured=measured,
        answers=answers,
        inputs={"pairs of tasks": pairs, "delta": delta},
    )


def band_audit(
    looks: Sequence[tuple[float, float, float, float, int, int]], *, delta: float, cells: int
) -> Certificate:
    """Whole sets against the band.

    Parameters
    ----------
    looks : sequence of (seen, low, high, whole, n, n_total)
        Accuracy on the subset, the band's ends, accuracy on the whole set, and rows of both.
    delta : float
        Failure probability of the band.
    cells : int
        Evaluations that the band covers.
    """
    worst, possible = 0.0, 0.0
    for seen, low, high, whole, n, total in looks:
        least, most = seen * n / total, 1 - (1 - seen) * n / total  # all other rows wrong, or right
        worst = max(worst, _share(seen, low, high, whole))
        possible = max(possible, _share(seen, low, high, least), _share(seen, low, high, most))
    return BAND_AUDIT(
        bound=1.0,
        confidence=1 - delta,
        trivial=possible if looks else 1.0,
        measured=exact(worst) if looks else None,
        inputs={"looked at": len(looks), "evaluations in the band": cells},
    )


def _share(seen: float, low: float, high: float, whole: float) -> float:
    """How far the whole set is from the subset, as a share of the way to the band's end."""
    off, room = abs(whole - seen), high - seen if whole > seen else seen - low
    if off <= 1e-12:
        return 0.0
    return off / room if room > 0 else float("inf")


def first_step(grads: pd.DataFrame, answers: Sequence[Answer]) -> Certificate:
    """Norms of both parts of the gradient at the first step of every task but the first.

    Where the weight of the stability loss is known, its gradient is also taken with a weight of 1:
    the claim is about every strength, and a weak anchor must not look like one at rest, nor the
    rounding of a strong one like a pull. What they could have been at worst is what they were at
    later steps; where the stability loss never pulled, or pulled no more than at the first step,
    nothing is said, and the certificate is vacuous.
    """
    new = grads[grads["task"] > 0]
    first, later = new[new["step"] == 0], new[new["step"] > 0]
    both = _ratios(first), _ratios(first, alone=True)
    ends = [float(r.max(initial=0.0)) for r in both]
    pulled = float(_ratios(later).max(initial=0.0)) if len(later) else 1.0
    if len(later) and not _starts_at_rest(first, later):
        pulled = 0.0
    return FIRST_STEP(
        bound=AT_REST,
        confidence=1.0,
        trivial=pulled,
        measured=Estimate.between(min(ends), max(ends), value=ends[0], method="both weights")
        if len(first)
        else None,
        answers=answers,
        inputs={
            f"task {int(t) + 1}": float(r) for t, r in zip(first["task"], both[0], strict=True)
        },
    )


def _starts_at_rest(first: pd.DataFrame, later: pd.DataFrame) -> bool:
    """Whether the stability loss pulls far less at the first step of each task than it does later."""
    most = later.groupby("task")["stability"].max()
    at_start = first.set_index("task")["stability"].to_numpy(float)
    after = most.reindex(first["task"]).fillna(np.inf).to_numpy(float)
    return bool((at_start <= FAR_LESS * after).all())


def _ratios(rows: pd.DataFrame, *, alone: bool = False) -> np.ndarray:
    """Stability over plasticity, `alone` without its weight; nothing over nothing is no pull."""
    held, own = rows["stability"].to_numpy(float), rows["plasticity"].to_numpy(float)
    if alone and "weight" in rows.columns:
        own = own * rows["weight"].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(held == 0, 0.0, held / own)


def envelope(
    acc: float, wc_acc: float, reported: dict[str, float], *, dense: bool, answers: Sequence[Answer]
) -> Certificate:
    """Reported numbers against the curves; below the worst case only where nothing is missing."""
    off = 0.0
    if "acc" in reported:
        off = max(off, abs(reported["acc"] - acc))
    if "wc_acc" in reported:
        off = max(off, reported["wc_acc"] - reported.get("acc", acc))
        if dense:
            off = max(off, wc_acc - reported["wc_acc"])
    conditions = tuple(
        c for c in ENVELOPE.conditions if c.name in {answer.name for answer in answers}
    )
    return ENVELOPE.variant(conditions=conditions)(
        bound=ROUNDED,
        confidence=1.0,
        trivial=max(acc, 1 - acc),
        measured=exact(off),
        answers=answers,
        inputs={
            "ACC": acc,
            "WC-ACC": wc_acc,
            **{f"reported {name}": value for name, value in reported.items()},
        },
    )
