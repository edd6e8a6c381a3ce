"""The price of views: how much more the gradients of view batches vary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whp.certificate import Answer, Certificate
from whp.continual._view_batch import theorems as th
from whp.intervals import Estimate

__all__ = ["Gradients", "certified", "design_effect"]

LEVEL = 1e-3  # how often views that are drawn alike may be called unlike
PERMUTATIONS = 2500
ROUNDING = 1e-4  # of scores in float32
CARRIED = 10  # batches: fewer that carry a variance tell nothing of how often there are such
QUANTILE = 1.959964  # of the normal law, two-sided at 95 %
SEES = (
    "a first view of two thirds of the others' spread, or one that is off by their spread, in nine "
    "of ten runs with 64 samples and four views; with two views only other lengths of gradients"
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


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients along some directions, at fixed weights.

    Parameters
    ----------
    batches : ndarray, shape (m, 2, D)
        Of m view batches, and of m ordinary ones.
    singles : ndarray, shape (k, V, D)
        Of single views of k samples.
    equal : int
        Pairs of views of a sample that are equal to the last bit.
    company : float
        How far an image's scores move when others of its batch are exchanged, over how those of
        images differ.
    """

    batches: np.ndarray
    singles: np.ndarray
    equal: int
    company: float


def ratio_of_variances(batches: np.ndarray) -> Estimate | None:
    """Ratio of the variances, summed over directions; None where ordinary batches do not vary.

    The interval is that of the logarithm by the delta method: each variance is a mean over batches
    of squared deviations, and the two kinds of batches are independent. Where a few batches carry
    one of the variances, because a few rows do, the ratio may be anything: as many of the other kind
    may have missed those rows.
    """
    m = len(batches)
    squares = ((batches - batches.mean(axis=0)) ** 2).sum(axis=2)  # (m, 2)
    means = squares.mean(axis=0)
    if not means[1] > 0:
        return None
    if not means[0] > 0:
        return Estimate(0.0, 0.0, 0.0, 0.95, m, "delta method")
    ratio = means[0] / means[1]
    carried = 1 / ((squares / squares.sum(axis=0)) ** 2).sum(axis=0)
    if carried.min() < CARRIED:
        return Estimate(ratio, 0.0, np.inf, 0.95, m, "none: few batches carry a variance")
    spread = np.sqrt((squares.var(axis=0, ddof=1) / m / means**2).sum())
    reach = np.exp(QUANTILE * spread)
    return Estimate(ratio, ratio / reach, ratio * reach, 0.95, m, "delta method on logarithms")


def unlike(singles: np.ndarray, rng: np.random.Generator) -> float:
    """Probability, were all views of a sample drawn alike, of a first view that is as unlike the others.

    Two looks, each with half of the level: the first view's share of the squared deviations from the
    sample's mean, which is always a half where there are two views, and its squared length beside
    the others'. View numbers are permuted within samples, which is exact.
    """
    off = ((singles - singles.mean(axis=1, keepdims=True)) ** 2).sum(axis=2)
    total = off.sum(axis=1, keepdims=True)
    shares = np.divide(off, total, out=np.full_like(off, 1 / off.shape[1]), where=total > 0)
    length = (singles**2).sum(axis=2)
    whole = length.sum(axis=1, keepdims=True)
    lengths = np.divide(length, whole, out=np.full_like(length, 1 / off.shape[1]), where=whole > 0)
    k, views = off.shape
    first = rng.integers(0, views, (PERMUTATIONS, k)) + views * np.arange(k)
    ps = []
    for values in (shares, lengths):
        centre = values.mean(axis=1).sum()
        seen = abs(values[:, 0].sum() - centre)
        drawn = np.abs(values.ravel().take(first).sum(axis=1) - centre)
        # sums in another order differ by rounding; equal ones count as such
        ps.append((1 + int((drawn >= seen * (1 - 1e-9) - 1e-12).sum())) / (1 + PERMUTATIONS))
    return min(1.0, 2 * min(ps))


def certified(
    found: Gradients | None,
    n: int,
    batch_size: int,
    views: int,
    rng: np.random.Generator,
    alike: Answer | None = None,
) -> Certificate:
    """``effective-batch`` of measured gradients.

    Parameters
    ----------
    found : Gradients or None
        None where nothing was measured.
    alike : Answer, optional
        To "views are drawn alike", where it is known; tested by default.
    """
    if found is None or n <= batch_size:
        why = "nothing was measured"
        answers: Sequence[Answer] = (
            alike or th.ALIKE.unchecked(why),
            th.DIFFER.unchecked(why),
            th.SEPARATE.unchecked(why),
        )
        return th.effective_batch(None, n, batch_size, views, answers, {})
    singles = found.singles
    k, V, _ = singles.shape
    within = float(singles.var(axis=1, ddof=1).sum(axis=1).mean())
    between = float(singles.mean(axis=1).var(axis=0, ddof=1).sum()) - within / V
    between = max(0.0, between)
    predicted = design_effect(n, batch_size, views, between, within)
    pairs = k * V * (V - 1) // 2
    answers = (
        alike or th.ALIKE.tested(unlike(singles, rng), LEVEL, SEES),
        th.DIFFER.check(
            found.equal == 0, f"{found.equal} of {pairs} pairs of views are equal to the last bit"
        ),
        th.SEPARATE.check(
            found.company <= ROUNDING,
            f"they move by {found.company:.2g} of what images differ by when others are exchanged",
        ),
    )
    inputs = {
        "rho": between / max(between + within, 1e-300),
        "predicted ratio": predicted[0] / predicted[1] if predicted[1] > 0 else 1.0,
    }
    ratio = ratio_of_variances(found.batches)
    return th.effective_batch(ratio, n, batch_size, views, answers, inputs)
