"""Checks of conditions that several methods need, and what each would have seen.

A test returns a :class:`Test`: its p-value and, in words, which departure it would have noticed.
Hand both to :meth:`whp.theorem.Condition.tested`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Test", "copies", "dependence_within_groups", "exchangeable", "finite_scale", "same_law"]

CHANCE = 0.001  # level at which near pairs are more than the density of the rows explains


@dataclass(frozen=True)
class Test:
    """A statistical test of a condition.

    Parameters
    ----------
    p : float
        Probability, were the condition true, of data at least as far off.
    sees : str
        What it would have noticed, and how surely.
    """

    p: float
    sees: str


def exchangeable(scores: Any, *, blocks: int = 10, rng: Any = 0, permutations: int = 999) -> Test:
    """Whether the order of `scores` matters: spread of block means against permutations.

    Parameters
    ----------
    scores : array_like, shape (n,)
        One number a row, in the order in which rows came (losses, residuals, labels).
    blocks : int
        Consecutive blocks to compare.
    rng : Generator, int or None
        Source of the permutations; a fixed one by default, so that a run repeats.
    permutations : int
        How many; the smallest p-value is 1/(permutations + 1).
    """
    values = np.asarray(scores, float).ravel()
    n = values.size
    blocks = max(2, min(blocks, n // 5))
    if n < 20 or np.ptp(values) == 0:
        return Test(1.0, "nothing: fewer than 20 rows, or all the same")
    edges = np.linspace(0, n, blocks + 1).astype(int)[:-1]
    sizes = np.diff(np.append(edges, n))

    def spread(order: np.ndarray) -> float:
        return float((np.add.reduceat(order, edges) ** 2 / sizes).sum())

    centred = values - values.mean()
    generator = np.random.default_rng(rng)
    seen = spread(centred)
    beaten = sum(spread(generator.permutation(centred)) >= seen for _ in range(permutations))
    shift = 2.5 * math.sqrt(2 * blocks / n)
    return Test(
        (1 + beaten) / (1 + permutations),
        f"a block of {int(sizes.max())} rows that is {shift:.2g} standard deviations off, "
        "about nine times in ten",
    )


def same_law(first: Any, second: Any) -> Test:
    """Whether two samples of numbers come from one law: two-sample Kolmogorov-Smirnov."""
    from scipy.stats import ks_2samp

    a, b = np.asarray(first, float).ravel(), np.asarray(second, float).ravel()
    if min(a.size, b.size) < 5:
        return Test(1.0, "nothing: a part has fewer than 5 rows")
    p = float(ks_2samp(a, b).pvalue)
    gap = 2.3 * math.sqrt(1 / a.size + 1 / b.size)
    return Test(p, f"distribution functions {min(gap, 1):.2g} apart, about nine times in ten")


def copies(rows: Any, labels: Any = None, *, within: float = 1e-6) -> tuple[float, float]:
    """Share of rows that repeat another exactly, and share that nearly do.

    Parameters
    ----------
    rows : array_like, shape (n,) or (n, d)
        Numbers a row.
    labels : array_like, shape (n,), optional
        Copies must agree in these.
    within : float
        "Nearly": no entry further apart than this times the spread of its column.

    Returns
    -------
    exact, near : float
        Near copies do not count exact ones, nor as many as rows this dense leave by chance: in one
        dimension or more a tenth of the pairs within ten times the distance. Where many rows tie
        exactly (rounded scores, trees) neither says that units repeat: ask for an id.
    """
    from scipy.spatial import cKDTree
    from scipy.stats import binom

    array = np.asarray(rows, float)
    array = array.reshape(len(array), -1)
    if len(array) < 2:
        return 0.0, 0.0
    spread = array.std(axis=0)
    scaled = array / np.where(spread > 0, spread, 1.0)
    if labels is not None:
        codes = np.unique(np.asarray(labels), return_inverse=True)[1].astype(float)
        scaled = np.column_stack([scaled, codes.ravel()])
    first = np.sort(np.unique(scaled, axis=0, return_index=True)[1])
    exact = 1 - len(first) / len(scaled)
    distinct = scaled[first]
    if len(distinct) < 2:
        return float(exact), 0.0
    tree = cKDTree(distinct)
    beside = tree.query(distinct, k=2, p=np.inf, distance_upper_bound=within)[0][:, 1]
    near = float(np.isfinite(beside).mean())
    if not near:
        return float(exact), 0.0
    counted = tree.count_neighbors(tree, np.array([within, 10 * within]), p=np.inf)
    close, around = ((int(c) - len(distinct)) // 2 for c in counted)  # pairs, once each
    if binom.sf(close - 1, around, 0.1) > CHANCE:
        return float(exact), 0.0
    return float(exact), near * (1 - (around - close) / 9 / close)


def dependence_within_groups(
    values: Any, groups: Any, *, rng: Any = 0, permutations: int = 999
) -> Test:
    """Whether rows of one group resemble each other: spread of group sums against permutations."""
    array = np.asarray(values, float).ravel()
    codes = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
    sizes = np.bincount(codes)
    pairs = float((sizes * (sizes - 1.0)).sum())
    if pairs == 0 or np.ptp(array) == 0:
        return Test(1.0, "nothing: no group has two rows, or all values are the same")
    centred = array - array.mean()
    generator = np.random.default_rng(rng)

    def likeness(order: np.ndarray) -> float:
        return float((np.bincount(codes, order) ** 2).sum())

    seen = likeness(centred)
    beaten = sum(likeness(generator.permutation(centred)) >= seen for _ in range(permutations))
    correlation = 3.3 * math.sqrt(2 / pairs)
    return Test(
        (1 + beaten) / (1 + permutations),
        f"a correlation of {min(correlation, 1):.2g} between rows of one group, nine times in ten",
    )


def finite_scale(*arrays: Any) -> tuple[bool, str]:
    """Whether squares and sums of the entries neither overflow nor vanish in double precision."""
    largest = max(float(np.abs(np.asarray(a)).max(initial=0.0)) for a in arrays)
    size = sum(np.asarray(a).size for a in arrays)
    fits = largest == 0 or 1e-140 < largest < 1e140 / max(size, 1)
    return fits, f"largest entry {largest:.3g} of {size} numbers"
