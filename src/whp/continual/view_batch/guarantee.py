"""Certificates: how long samples really rested, what the views cost in gradient noise, and whether less was forgotten."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Certificate, Verdict
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

if TYPE_CHECKING:
    from whp.continual.view_batch.schedule import Schedule

__all__ = [
    "design_effect",
    "effective_batch",
    "forgetting",
    "of_schedule",
    "view_consistency",
    "worst",
]

PAPER = "Kang, Seifer, Lee, Ryu 2025"
SEVERITY = (
    Verdict.FAILS,
    Verdict.VOID,
    Verdict.INCONCLUSIVE,
    Verdict.UNMEASURED,
    Verdict.VACUOUS,
    Verdict.HOLDS,
)


def worst(found: list[Certificate]) -> Certificate:
    """The one with the worst verdict, the first of equals."""
    return min(found, key=lambda c: SEVERITY.index(c.verdict))


def of_schedule(schedule: Any) -> tuple[Certificate, ...]:
    """Certificates of the steps that were delivered."""
    return _minimum_rest(schedule), _mean_recall(schedule), _equal_work(schedule)


def _minimum_rest(s: Schedule) -> Certificate:
    gaps = s.gaps()
    bound = s.cycle - s.window + 1
    return undeclared(
        "minimum-rest",
        "between two visits of a sample there are always at least C − window + 1 steps",
        "derived here: a sample's place moves by less than a window from cycle to cycle",
        ">=",
        float(bound),
        1.0,
        exact(float(gaps.min())) if len(gaps) else None,
        trivial=1.0,
        inputs={
            "C": s.cycle,
            "window": s.window,
            "largest gap": int(gaps.max()) if len(gaps) else 0,
            "visits": len(s.samples),
        },
        needs="at least two visits of some sample",
        remedy="a full shuffle promises no rest at all: use shuffle='window'. If a window was used, something between the sampler "
        "and the model reorders, shards or repeats samples.",
    )


def _mean_recall(s: Schedule) -> Certificate:
    enough = "the run holds two full cycles"
    whole = s.total >= 2 * s.cycle
    off = np.abs(s.mean_gaps() - s.cycle).max()
    return undeclared(
        "mean-recall",
        "the mean number of steps until a sample comes back is exactly C = ⌈n·views/batch⌉, in every pair of cycles",
        f"derived here: sums of places are equal in all cycles; the interval that {PAPER} call optimal is this mean",
        "<=",
        1e-9,
        1.0,
        exact(float(off)) if whole else None,
        assumptions=((met if whole else violated)(enough, f"{s.total} steps, C = {s.cycle}"),),
        inputs={"C": s.cycle, "steps": s.total},
        remedy="samples are dropped, repeated or drawn with replacement.",
    )


def _equal_work(s: Schedule) -> Certificate:
    counts = s.counts()
    whole = s.total % s.cycle == 0
    unseen = int((counts == 0).sum())
    evidence = f"{s.total} steps, C = {s.cycle}" + (
        f"; {unseen} samples were never seen" if unseen else ""
    )
    statement = "the run ends with a cycle"
    return undeclared(
        "equal-work",
        "every sample was shown equally often",
        "derived here: once a cycle, in all views",
        "<=",
        0.0,
        1.0,
        exact(float(counts.max() - counts.min())),
        assumptions=(
            met(statement, evidence)
            if whole
            else violated(statement, evidence, "let views divide the number of epochs"),
        ),
        inputs={"images of a sample": int(counts.max()), "views": s.views},
        remedy="samples are dropped or repeated.",
    )


def design_effect(
    n: int, batch_size: int, views: int, between: float, within: float
) -> tuple[float, float]:
    """Variance of the mean gradient of a batch, with views and without.

    Var = between·(1/d − 1/n) + within/B for d = B/V distinct samples without replacement; `between` is the variance of samples'
    mean gradients (divisor n − 1), `within` that of views around them (derived here).
    """

    def variance(v: int) -> float:
        return between * (v / batch_size - 1 / n) + within / batch_size

    return variance(views), variance(1)


def effective_batch(
    ratio: Estimate | None,
    n: int,
    batch_size: int,
    views: int,
    inputs: dict[str, Any],
    differ: bool | None,
) -> Certificate:
    """Whether views cost no more gradient noise than copies would."""
    statement = "the views of a sample differ"
    if differ is None:
        known: Assumption = unchecked(statement)
    else:
        known = (
            met(statement)
            if differ
            else violated(
                statement, "two are equal to the last bit", "give workers seeds of their own"
            )
        )
    bound = (n * views - batch_size) / (n - batch_size) if n > batch_size else math.inf
    return undeclared(
        "effective-batch",
        "the gradient of a view batch varies at most as much more than an ordinary one's as if all views were copies",
        "derived here: the design effect of cluster samples without replacement",
        "<=",
        bound,
        0.95 if ratio is not None and ratio.low < ratio.high else 1.0,
        ratio,
        assumptions=(known,),
        inputs=inputs,
        needs="diagnostics=True",
        remedy="batches are not drawn as the schedule says.",
    )


def view_consistency(
    log_p: np.ndarray, views: int, divergence: np.ndarray | None = None
) -> Certificate:
    """Whether views change the decision only where the divergence allows it.

    A flip needs a margin of at most twice the total variation, and that is at most √(KL/2) (Pinsker): m ≤ √(2 KL).

    Parameters
    ----------
    log_p : ndarray, shape (d, views, C)
        Log-probabilities, the teacher's view first.
    views : int
    divergence : ndarray, shape (d, views − 1), optional
        KL(p⁰ ‖ p^j) if it was computed elsewhere.
    """
    teacher, others = log_p[:, :1], log_p[:, 1:]
    kl = np.asarray(
        (np.exp(teacher) * (teacher - others)).sum(axis=2) if divergence is None else divergence
    )
    p = np.exp(teacher[:, 0])
    top = np.partition(p, -2, axis=1)[:, -2:]
    margin = (top[:, 1] - top[:, 0])[:, None]
    flipped = others.argmax(axis=2) != teacher.argmax(axis=2)
    allowed = margin <= np.sqrt(2 * np.maximum(kl, 0)) + 1e-9
    broken = flipped & ~allowed
    return undeclared(
        "view-consistency",
        "no view changes the teacher's decision where the teacher's margin exceeds √(2 KL)",
        "derived here: Pinsker's inequality",
        "<=",
        0.0,
        1.0,
        exact(float(broken.mean())),
        inputs={
            "views compared": int(flipped.size),
            "share flipped": float(flipped.mean()),
            "share that may flip": float(allowed.mean()),
        },
        remedy="the divergence is not summed over classes (a mean divides it by their number), or the views are mixed up.",
    )


def forgetting(difference: Estimate | None, seeds: int) -> Certificate:
    """Whether views reduced forgetting."""
    known: tuple[Assumption, ...]
    if seeds > 1:
        known = (unchecked("runs are independent", "seeds share the data"),)
    else:
        known = (
            unchecked(
                "one training run speaks for the method", "the interval is about test rows alone"
            ),
        )
    return undeclared(
        "forgetting",
        "with views less is forgotten than with an ordinary loader, at equal images, weights and learning rate",
        f"the claim of {PAPER}; paired over " + ("runs (t)" if seeds > 1 else "test rows (exact)"),
        "<=",
        0.0,
        0.95,
        difference,
        assumptions=known,
        inputs={"runs": seeds},
        needs="compare=True and more seeds" if difference is None else "more seeds",
        remedy="views do not help here: views=1.",
    )
