"""What steps of the torch optimizer leave behind, and the certificates that they make."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whp.certificate import Answer, Certificate
from whp.optim._target_surrogates import theorems as th

__all__ = ["Record", "certificates"]


@dataclass(frozen=True)
class Record:
    """One step, losses as sums.

    Attributes
    ----------
    loss, after, surrogate, slack, rounding, eta, gradient, share, penalty : float
        As in :class:`whp.optim._target_surrogates.theorems.Steps`; `after` may be None.
    L : float or None
        As the oracle says.
    known, none : bool
        Whether L was worked out here from the loss, or the loss is known to have none.
    least : float or None
        A number that the loss is never below, worked out here.
    bend : float
        The least L with which the measured values agree; 0 where none were measured.
    same : bool or None
        Whether outputs and penalty were those that the step before ended with; None where that is
        not known.
    unit : float
        Of rounding.
    trained : str
        Which parameters were trained, and their weight decay; empty in older states.
    """

    loss: float
    after: float | None
    surrogate: float
    slack: float
    rounding: float
    eta: float
    L: float | None
    known: bool
    none: bool
    least: float | None
    bend: float
    gradient: float
    share: float
    penalty: float
    same: bool | None
    unit: float
    trained: str = ""


def certificates(
    records: list[Record], lower: float, loaded: bool
) -> tuple[Certificate, Certificate]:
    """Majorisation and descent."""
    if not records:
        raise ValueError("no step was made")
    gradient = np.array([r.gradient for r in records])
    steps = th.Steps(
        loss=np.array([r.loss for r in records]),
        after=np.array([np.nan if r.after is None else r.after for r in records]),
        surrogate=np.array([r.surrogate for r in records]),
        slack=np.array([r.slack for r in records]),
        rounding=np.array([r.rounding for r in records]),
        eta=np.array([r.eta for r in records]),
        gradient=gradient,
        gradient_rounding=1e3 * np.array([r.unit for r in records]) * gradient,
        share=np.array([r.share for r in records]),
        penalty=records[0].penalty,
    )
    known = all(r.known for r in records) and not loaded
    answers = _step(records), _smooth(records, known)
    least = known and all(r.least is not None and r.least >= lower for r in records)
    floor = "a loss of torch that is never negative" if least else ""
    return (
        th.majorisation(steps, answers, {}),
        th.descent(
            steps, lower, (*answers, _same(records), th.lower_bound(lower, _seen(steps), floor)), {}
        ),
    )


def _seen(s: th.Steps) -> np.ndarray:
    return np.concatenate([s.loss, s.after[~np.isnan(s.after)]])


def _step(records: list[Record]) -> Answer:
    if any(r.none for r in records):
        return th.step_size([r.eta for r in records], None)
    used = [r.eta * r.L for r in records if r.L is not None]
    if used and max(used) > th.EDGE:
        return th.STEP.check(False, f"η reached {max(used):.6g}/L")
    if len(used) == len(records):
        return th.STEP.check(True, f"η is at most {max(used):.6g}/L")
    bent = max(r.eta * r.bend for r in records)
    if bent > th.EDGE:
        return th.STEP.check(False, f"the loss bends so that η reached at least {bent:.4g}/L")
    largest = max(r.eta for r in records)
    return th.STEP.unchecked(f"no L was given; it must be at most {1 / largest:.4g}")


def _smooth(records: list[Record], known: bool) -> Answer:
    if any(r.none for r in records):
        return th.SMOOTH.check(False, "the loss has no L")
    over = [r for r in records if r.L is not None and r.bend > r.L * th.EDGE]
    if over:
        worst = max(over, key=lambda r: r.bend)
        return th.SMOOTH.check(False, f"it bends by {worst.bend:.4g}, and L = {worst.L:.4g}")
    if known:
        return th.SMOOTH.by_construction("a loss of torch whose L was worked out with its weights")
    if any(r.after is not None for r in records):
        bend = max(r.bend for r in records)
        return th.SMOOTH.unchecked(f"the values asked for bend by {bend:.4g}; others may by more")
    return th.SMOOTH.unchecked("L or eta was given, and no value was asked for")


def _same(records: list[Record]) -> Answer:
    later = records[1:]
    for i, r in enumerate(later):
        if r.trained != records[0].trained:
            return th.SAME_ROWS.check(
                False, f"step {i + 2} had other parameters to train, or another weight decay"
            )
    wrong = [i + 2 for i, r in enumerate(later) if r.same is False]
    if wrong:
        return th.SAME_ROWS.check(
            False,
            f"step {wrong[0]} began with other outputs or weights than step {wrong[0] - 1} ended with",
        )
    for i, (a, b) in enumerate(zip(records, later, strict=False)):
        if a.after is not None and abs(a.after - b.loss) > 2 * (a.rounding + b.rounding):
            return th.SAME_ROWS.check(
                False, f"step {i + 2} began with another loss than step {i + 1} ended with"
            )
    if all(r.same and r.trained for r in later) and all(r.after is not None for r in records[:-1]):
        return th.SAME_ROWS.check(
            True, "each step began with outputs and loss of the last one, and trained the same"
        )
    return th.SAME_ROWS.unchecked("outputs or losses at the start of a step were not compared")
