"""Whether accuracies can be shares of n rows: everybody's log rounds, averages and smooths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from whp.certificate import Answer
from whp.continual._stability_gap.theorems import COUNTS

__all__ = ["counted", "half_a_digit"]

LEVEL = 0.01
FEWEST = 5  # different counts: a model may stand still at a half
DIGITS = 12
FEW, USUAL = 3, 3  # values that show how many digits there are; digits of a log
SINGLE = 6e-8  # what single precision leaves of a number below 1
HALF = 2.0**-12  # what half precision moves it by


def _digits(values: np.ndarray) -> int:
    """Decimal places that write all values, also in single precision; at most DIGITS."""
    exact = SINGLE if _stored(values, np.float32) else 1e-9
    for d in range(1, DIGITS):
        scaled = values * 10.0**d
        slack = exact * 10.0**d
        if slack < 0.1 and np.abs(scaled - np.rint(scaled)).max(initial=0.0) < slack:
            return d
    return DIGITS


def _stored(values: np.ndarray, kind: Any) -> bool:
    """Whether values are numbers of this type."""
    return bool((values == values.astype(kind)).all())


def half_a_digit(rows: Sequence[np.ndarray]) -> float:
    """How far rounding moved accuracies at most: half of the last decimal place of all of them.

    One or two values, such as 1 or 0.5, do not show how many digits were written: three are assumed
    where there may be fewer. Numbers of half precision were rounded by it, though they have many
    digits.
    """
    values = np.unique(np.concatenate([r.ravel() for r in rows]))
    places = _digits(values)
    if ((values > 0) & (values < 1)).sum() < FEW:
        places = max(places, USUAL)
    half = 0.5 * 10.0**-places if places < DIGITS else 0.0
    return max(half, HALF) if _stored(values, np.float16) else half


def counted(rows: Sequence[np.ndarray], sizes: Sequence[int]) -> Answer:
    """Whether each task's accuracies are whole numbers over n, and not all over a divisor of n.

    Parameters
    ----------
    rows : sequence of ndarray
        Accuracies of each task, at all its evaluations.
    sizes : sequence of int
        The n of each.

    Notes
    -----
    Rounding to d decimal places moves accuracy·n by up to n·10^{−d}/2, single precision by n·1e−7.
    If n rows were looked at, no divisor g of n above 1 is favoured: m different counts other than
    0 and n are all multiples of g with probability about g^{−m}, and less without replacement.
    """
    half = half_a_digit(rows)
    found: dict[int, list[np.ndarray]] = {}
    for values, n in zip(rows, sizes, strict=True):
        scaled = np.asarray(values, float) * n
        slack = 1e-6 + n * 1e-7 + n * half
        off = np.abs(scaled - np.rint(scaled))
        if (off > slack).any():
            at = int(off.argmax())
            return COUNTS.check(
                False,
                f"an accuracy of {float(values.flat[at]):.6g} is no number of right rows out of "
                f"{n}; smoothed or averaged ones are none",
            )
        found.setdefault(n, []).append(np.unique(np.rint(scaled).astype(np.int64)))
    worst, most, most_rows = 1.0, 0, max(sizes)
    for n, parts in found.items():
        counts = np.unique(np.concatenate(parts))
        inner = counts[(counts > 0) & (counts < n)]
        common = int(np.gcd.reduce(inner, initial=n))
        p, most = _chance(n, common, len(inner)), max(most, len(inner))
        worst = min(worst, p)
        if p * len(found) < LEVEL:
            return COUNTS.check(
                False,
                f"all accuracies are multiples of {common / n:.4g}, as if from {n // common} "
                f"rows, and n = {n} was given (p = {p:.2g})",
            )
    if most_rows * half > 0.5 + 1e-9:  # in three digits, 1,000 rows are all there is
        return COUNTS.unchecked(
            f"with so few digits any number is a share of {most_rows:,} rows; smoothed or averaged "
            "ones are none"
        )
    factor = max(2, math.ceil(LEVEL ** (-1 / most))) if most >= FEWEST else 0
    sees = (
        f"accuracies of n/{factor} rows, or of fewer"
        if factor
        else f"nothing: fewer than {FEWEST} different accuracies"
    )
    return COUNTS.tested(min(1.0, worst * len(found)), LEVEL, sees)


def _chance(n: int, common: int, m: int) -> float:
    """Probability that m counts have a common divisor with n of at least `common`, by the union."""
    if common <= 1 or m < FEWEST:
        return 1.0
    divisors = [d for d in range(common, min(n, common * 64) + 1) if n % d == 0]
    return min(1.0, sum(float(d) ** -m for d in divisors))
