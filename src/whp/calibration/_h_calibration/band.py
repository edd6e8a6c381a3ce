"""The reliability band: blocks of like probability, with simultaneous intervals for the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from whp.concentration import chernoff, simultaneous_proportions
from whp.scores import as_probabilities, as_units
from whp.validate import as_fraction, as_int

__all__ = ["CLASS", "POOLED", "TOP", "band", "blocks_for", "kl_interval", "rows_needed"]

TOP, POOLED, CLASS = "top label", "all classes", "one class"
FEWEST, MOST = 5, 20
PER_BLOCK = 300  # rows a block that bring a calibrated model within .1 at 95 %, all blocks at once
ROUNDING = 1e-9  # of the beta quantiles and the means


def rows_needed(blocks: int, epsilon: float) -> int:
    """About how many rows it takes until a calibrated model holds in so many blocks."""
    return math.ceil(blocks * PER_BLOCK * (0.1 / epsilon) ** 2 / 100) * 100


def blocks_for(rows: int, epsilon: float) -> int:
    """How many blocks so many rows can decide for, from 5 to 20."""
    return min(MOST, max(FEWEST, int(rows / (PER_BLOCK * (0.1 / epsilon) ** 2))))


def band(
    probs: Any,
    y: Any,
    blocks: int | None = None,
    delta: float = 0.05,
    classwise: bool = False,
    *,
    groups: Any = None,
    epsilon: float = 0.1,
) -> pd.DataFrame:
    """Blocks of entries of like probability, with simultaneous intervals for their mean truth.

    There are blocks of top labels, of which a row owns one, and blocks of all entries of all classes
    (or, with `classwise`, of each class). Given the inputs, the outcomes of a block sum to S, a sum
    of m independent Bernoulli variables, one a row (a row has one occurring class at most). The
    Clopper-Pearson interval of S of m covers their mean rate (Hoeffding 1956), so that with
    probability 1 - delta all blocks at once have their true mean within m/|W| times its ends.

    Parameters
    ----------
    probs : array_like, shape (n, C)
        Probabilities.
    y : array_like of int, shape (n,)
        Classes 0 to C - 1.
    blocks : int, optional
        Number of blocks of all entries (of each class), and two fifths as many of top labels; cut by
        probability and never by outcome, equal probabilities together. By default as many as the
        rows can decide for `epsilon`, from 5 to 20, about 300 rows a block at .1.
    delta : float
        Failure probability for all of them.
    classwise : bool
        Blocks of each class's column in place of those over all classes.
    groups : array_like, shape (n,), optional
        Rows of one group may depend on each other: a group counts as one event. Its share of hits
        among the most rows that a group has in the block lies in [0, 1], and Chernoff's bound with
        m = groups takes the place of Clopper-Pearson.
    epsilon : float
        Only chooses the number of blocks.

    Returns
    -------
    DataFrame
        A row a block: ``part`` (top label, all classes, one class), ``class`` (-1 for several),
        ``entries``, ``events`` (rows or groups in it), ``most`` (how many of its entries could
        occur), ``lowest``, ``highest``, ``mean_predicted``, ``frequency``, ``lower``, ``upper``, and
        for the error of the mean ``error``, ``error_low``, ``error_high``.
    """
    P, labels = as_probabilities(probs, y)
    n, classes = P.shape
    delta = as_fraction(delta, "delta")
    wanted = blocks_for(n, epsilon) if blocks is None else as_int(blocks, "blocks", low=1)
    units = None
    if groups is not None:
        units = np.unique(as_units(groups, "groups", n), return_inverse=True)[1]
    rows, best = np.arange(n), P.argmax(axis=1)
    # Of top labels a row owns one entry, of all entries one a class: fewer blocks, more rows each.
    tops = max(min(2, wanted), 2 * wanted // 5)
    found = [_rows(TOP, -1, P[rows, best], best == labels, rows, tops, units)]
    if classwise:
        found += [
            _rows(CLASS, c, P[:, c], labels == c, rows, wanted, units) for c in range(classes)
        ]
    else:
        hits = np.zeros(n * classes, dtype=bool)
        hits[rows * classes + labels] = True
        owner = np.repeat(rows, classes)
        found.append(_rows(POOLED, -1, P.ravel(), hits, owner, wanted, units))
    table = pd.DataFrame([row for part in found for row in part])
    events, largest = table["events"].to_numpy(), table.pop("largest").to_numpy()
    total, entries = table.pop("sum").to_numpy(), table["entries"].to_numpy()
    if (largest == 1).all():
        low, high = simultaneous_proportions(total, events, delta)
    else:
        low, high = chernoff(total / (events * largest), events, delta / len(table))
    scale = events * largest / entries
    lower = np.maximum(low * scale - ROUNDING, 0.0)
    upper = np.minimum(high * scale, table["most"] / entries) + ROUNDING
    stated, frequency = table["mean_predicted"].to_numpy(), total / entries
    return table.assign(
        frequency=frequency,
        lower=lower,
        upper=np.minimum(upper, 1.0),
        error=np.abs(stated - frequency),
        error_low=np.maximum(0.0, np.maximum(lower - stated, stated - upper)),
        error_high=np.maximum(np.abs(stated - lower), np.abs(stated - upper)),
    )


def cut(values: np.ndarray, count: int) -> list[np.ndarray]:
    """Places of the entries of `count` blocks, or fewer, of consecutive values of about equal size.

    Equal values stay together, so the order in which they came means nothing.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    n = len(ordered)
    sizes = np.full(min(count, n), n // min(count, n))
    sizes[: n % min(count, n)] += 1
    wanted = np.cumsum(sizes)[:-1]
    left = np.searchsorted(ordered, ordered[wanted], side="left")
    right = np.searchsorted(ordered, ordered[wanted], side="right")
    cuts = np.unique(np.where(wanted - left <= right - wanted, left, right))
    return np.split(order, cuts[(cuts > 0) & (cuts < n)])


def _rows(
    part: str,
    number: int,
    values: np.ndarray,
    hits: np.ndarray,
    owner: np.ndarray,
    count: int,
    units: np.ndarray | None,
) -> list[dict[str, Any]]:
    """What is in each block of one list of entries, before the intervals."""
    rows = []
    for block in cut(values, count):
        samples = np.unique(owner[block])
        sizes = np.ones(len(samples), int) if units is None else np.bincount(units[samples])
        sizes = sizes[sizes > 0]
        stated = values[block]
        rows.append(
            {
                "part": part,
                "class": number,
                "entries": len(block),
                "events": len(sizes),
                "most": len(samples),
                "largest": int(sizes.max()),
                "lowest": float(stated.min()),
                "highest": float(stated.max()),
                "mean_predicted": float(stated.mean()),
                "sum": float(hits[block].sum()),
            }
        )
    return rows


def kl_interval(rates: Any, sizes: Any, log_term: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of {q : m·kl(rate, q) <= log_term} for rates of m values in [0, 1]."""
    return chernoff(rates, sizes, 2 * math.exp(-log_term))
