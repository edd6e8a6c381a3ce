"""How much is forgotten, and whether less with views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from whp.certificate import Answer, Certificate
from whp.concentration import simultaneous_proportions
from whp.continual._view_batch import theorems as th
from whp.intervals import Estimate

if TYPE_CHECKING:
    from whp.continual._view_batch.runs import Run, Setting

__all__ = ["compared", "forgetting_of", "paired_rows"]

NEAR = 0.1  # updates and stored images may differ by so much: last batches are short


def forgetting_of(accuracy: np.ndarray) -> float:
    """Mean over old tasks of the best accuracy before the last task, less that after it; accuracy is (K, K)."""
    K = len(accuracy)
    if K < 2:
        return 0.0
    return float(np.mean([accuracy[i : K - 1, i].max() - accuracy[-1, i] for i in range(K - 1)]))


def compared(
    setting: Setting, ours: Sequence[Run], theirs: Sequence[Run], drawn: bool
) -> Certificate:
    """``forgetting`` of runs with views and as many without.

    Parameters
    ----------
    drawn : bool
        Whether each run drew its split, weights and order by itself, through code of this library.
    """
    differences = np.array(
        [
            forgetting_of(a.accuracy) - forgetting_of(b.accuracy)
            for a, b in zip(ours, theirs, strict=False)
        ]
    )
    independent = (
        th.INDEPENDENT_RUNS.by_construction("each run draws its split, weights and order")
        if drawn
        else th.INDEPENDENT_RUNS.unchecked(
            "with a model of one's own all runs start from its weights, and strategies or views of one's own may keep state"
        )
    )
    answers = (
        _differ(setting, ours, theirs, differences),
        _equal(ours, theirs),
        independent,
        th.CHOSEN_BEFORE.unchecked("runs do not show how they were chosen"),
    )
    figures = {"updates": ours[-1].updates, "images": ours[-1].new + ours[-1].stored}
    if theirs:
        figures |= {
            "updates of the baseline": theirs[-1].updates,
            "images of the baseline": theirs[-1].new + theirs[-1].stored,
        }
    return th.forgetting(differences if theirs else None, answers, figures)


def _differ(
    setting: Setting, ours: Sequence[Run], theirs: Sequence[Run], differences: np.ndarray
) -> Answer:
    if setting.views == 1:
        return th.ARMS_DIFFER.check(False, "views=1: both are the same training")
    if not theirs:
        return th.ARMS_DIFFER.unchecked("compare=False: there was no training without views")
    moved = max(float(np.abs(r.moved).max(initial=0.0)) for r in (*ours, *theirs))
    apart = max(
        float(np.abs(a.moved - b.moved).max(initial=0.0)) for a, b in zip(ours, theirs, strict=True)
    )
    # one or two runs may well come to equal accuracies
    if all(s.views == 1 for run in ours for _, s in run.schedules) and any(
        run.schedules for run in ours
    ):
        return th.ARMS_DIFFER.check(
            False,
            "no image was shown in views: the memory holds fewer than a step of them wants",
            remedy="take a larger memory, or views of the new images as well.",
        )
    trained = apart > 0 and (len(differences) < 3 or bool(np.any(np.abs(differences) > th.TIE)))
    trained = trained and apart > 1e-6 * max(float(np.abs(r.start).max(initial=0.0)) for r in ours)
    return th.ARMS_DIFFER.check(
        trained,
        f"weights moved by at most {moved:.3g} and ended at most {apart:.3g} apart; forgetting "
        f"differed in {int((np.abs(differences) > th.TIE).sum())} of {len(differences)} runs",
    )


def _equal(ours: Sequence[Run], theirs: Sequence[Run]) -> Answer:
    if not theirs:
        return th.EQUAL_ARMS.unchecked("compare=False: there was no training without views")
    evidence = ""
    for a, b in zip(ours, theirs, strict=True):
        near = all(
            abs(p - q) <= NEAR * max(p, q)
            for p, q in ((a.updates, b.updates), (a.stored, b.stored))
        )
        same = a.new == b.new and np.array_equal(a.start, b.start)
        evidence = (
            f"{a.new} and {b.new} images of new samples, {a.stored} and {b.stored} of stored ones, "
            f"{a.updates} and {b.updates} updates"
        )
        if not (near and same):
            return th.EQUAL_ARMS.check(
                False,
                evidence,
                remedy="take a batch_size that divides the rows of each task and is below the "
                "memory, and a multiple of views as epochs.",
            )
    return th.EQUAL_ARMS.check(True, evidence)


def paired_rows(ours: Run, theirs: Run, delta: float = 0.05) -> Estimate:
    """Difference of forgetting of two models, with limits over test rows alone.

    The falls of both are bounded by rows right before and wrong after, and the other way round, all
    of them at once; a mean of maxima of falls lies between those of the limits.
    """
    K = len(ours.accuracy)
    at = [(i, k) for i in range(K - 1) for k in range(i, K - 1)]
    counts, rows = [], []
    for run in (ours, theirs):
        for i, k in at:
            before, last = run.right[i][k], run.right[i][K - 1]
            counts += [int((before & ~last).sum()), int((~before & last).sum())]
            rows += [len(last)] * 2
    low, high = simultaneous_proportions(counts, rows, delta)
    shape = (2, len(at), 2)
    low, high = np.reshape(low, shape), np.reshape(high, shape)
    falls = np.stack([low[:, :, 0] - high[:, :, 1], high[:, :, 0] - low[:, :, 1]])
    tasks = np.array([i for i, _ in at])
    ends = np.stack([falls[:, :, tasks == i].max(axis=2) for i in range(K - 1)]).mean(axis=0)
    value = forgetting_of(ours.accuracy) - forgetting_of(theirs.accuracy)
    return Estimate(
        value,
        min(value, float(ends[0, 0] - ends[1, 1])),
        max(value, float(ends[1, 0] - ends[0, 1])),
        1 - delta,
        len(ours.right[0][0]),
        "exact, paired test rows",
    )
