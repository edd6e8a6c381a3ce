"""What data can say against the conditions: shared rows, drift, tails, and environments that are all alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whp.conditions import Test
from whp.invariance._pac_invariance.environments import Environments, Rows

__all__ = ["LEVEL", "SHARED", "drift", "gaussian", "heterogeneity", "shared_rows"]

LEVEL = 0.001  # of a test that voids
SHARED = 0.05  # share of rows that may occur in another environment
DISTINCT = 0.99  # of rows, or of values of one column: else rows repeat because numbers are few
FEWEST = 20  # rows of an environment whose tails are tested
FAR_TAIL = 100  # p-values of D'Agostino's test below 1e-5 are too small by up to a factor of 45


def shared_rows(rows: Rows, codes: np.ndarray, labels: Sequence[Any]) -> tuple[bool, float]:
    """Whether environments share rows that numbers this fine do not share by chance, and the share of rows that do.

    Raises
    ------
    ValueError
        If two environments have the very same rows.
    """
    import pandas as pd

    key = np.zeros(len(codes), np.uint64)
    table = np.column_stack([rows.X, rows.y]) + 0.0  # -0 is 0
    for j in range(table.shape[1]):
        with np.errstate(over="ignore"):
            key = key * np.uint64(0x9E3779B97F4A7C15) + pd.util.hash_array(table[:, j])
    pairs = pd.DataFrame({"env": codes, "row": pd.factorize(key)[0]})
    sizes = np.bincount(codes)
    with np.errstate(over="ignore"):
        sums = np.zeros(len(sizes), np.uint64)
        np.add.at(sums, codes, pd.util.hash_array(key))
    _, first, copies = np.unique(
        np.rec.fromarrays([sizes.astype(np.uint64), sums]), return_index=True, return_counts=True
    )
    if (copies > 1).any():
        i = int(first[int(np.argmax(copies > 1))])
        j = int(np.flatnonzero((sums == sums[i]) & (sizes == sizes[i]))[1])
        raise ValueError(
            f"environments {labels[i]!r} and {labels[j]!r} have the same rows: they are one draw; "
            "leave one out"
        )
    distinct = pairs.drop_duplicates()
    homes = np.bincount(distinct["row"])
    elsewhere = float((homes[pairs["row"].to_numpy()] > 1).mean())
    fine = len(distinct) >= DISTINCT * len(pairs)
    if not fine and elsewhere >= SHARED:
        # Rows repeat within environments as well: because numbers are few, unless one column tells
        # rows apart, so that equal values of it mean the same row (draws with replacement).
        once = np.unique(pairs["row"].to_numpy(), return_index=True)[1]
        apart = max(len(np.unique(table[once, j])) for j in range(table.shape[1]))
        fine = apart >= DISTINCT * len(once) and _ungridded(table[once])
    return fine and elsewhere >= SHARED, elsewhere


def _ungridded(table: np.ndarray) -> bool:
    """Whether the column with most values has them closer together than an even grid of as many."""
    values = max((np.unique(c) for c in table.T), key=len)
    return bool(np.diff(values).min() < np.ptp(values) / (5 * len(values)))


def drift(environments: Environments, subset: np.ndarray, w: np.ndarray, order: np.ndarray) -> Test:
    """Whether a signed normal equation A w − b follows `order` from environment to environment.

    Spearman's rank correlation of each equation, Bonferroni over equations; of blocks the means.
    """
    from scipy.stats import spearmanr

    signed = environments.equations(subset, w)
    _, block = np.unique(environments.block, return_inverse=True)
    counts = np.bincount(block)
    when = np.bincount(block, order) / counts
    if len(counts) < 5 or np.ptp(when) == 0:
        return Test(1.0, "nothing: fewer than 5 draws, or one place in the order for all")
    p = 1.0
    for j in range(signed.shape[1]):
        values = np.bincount(block, signed[:, j]) / counts
        if np.ptp(values) > 0:
            p = min(p, float(spearmanr(when, values).pvalue))
    seen = min(1.0, 4.4 / np.sqrt(len(counts)))
    return Test(
        min(1.0, p * signed.shape[1]),
        f"a rank correlation of {seen:.2g} with the order, nine times in ten",
    )


def gaussian(rows: Rows, codes: np.ndarray, subset: Sequence[int]) -> Test:
    """Whether columns, and residuals of each environment's own least squares, are skewed or have heavy tails.

    Skewness and kurtosis of each, summed over environments by their exact moments under the normal law, and
    D'Agostino and Pearson's test of the worst environment; Bonferroni over all of them.
    """
    from scipy.stats import norm, normaltest

    X, y = rows.X[:, list(subset)], rows.y
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    k = len(subset) + 1
    smallest, count = 1.0, 0
    sums, variances = np.zeros((2, k)), np.zeros(2)
    for n in np.unique(sizes[sizes >= FEWEST]):
        place = order[starts[sizes == n][:, None] + np.arange(n)]
        part = X[place] - X[place].mean(axis=1, keepdims=True)
        part = part / part.std(axis=1, keepdims=True)
        target = y[place] - y[place].mean(axis=1, keepdims=True)
        Q = np.linalg.qr(part)[0]
        left = target - np.matmul(Q, np.matmul(Q.swapaxes(1, 2), target[..., None]))[..., 0]
        values = np.concatenate([part, left[..., None]], axis=2)
        values = values / np.maximum(np.sqrt((values**2).mean(axis=1, keepdims=True)), 1e-300)
        sums[0] += (values**3).mean(axis=1).sum(axis=0)
        sums[1] += ((values**4).mean(axis=1) - 3 * (n - 1) / (n + 1)).sum(axis=0)
        # As floats: products of whole numbers this large overflow.
        f = float(n)
        variances += len(place) * np.array(
            [
                6 * (f - 2) / ((f + 1) * (f + 3)),
                24 * f * (f - 2) * (f - 3) / ((f + 1) ** 2 * (f + 3) * (f + 5)),
            ]
        )
        p = normaltest(values, axis=1).pvalue
        smallest, count = min(smallest, float(np.nanmin(p))), count + p.size
    if not count:
        return Test(1.0, f"nothing: no environment has {FEWEST} rows")
    pooled = 2 * float(norm.sf(np.abs(sums / np.sqrt(variances)[:, None]).max()))
    p = min(pooled * 2 * k, smallest * count * FAR_TAIL)
    heavier = 6 / np.sqrt(sum(sizes[sizes >= FEWEST]) / 24)
    return Test(
        min(1.0, 2 * p),
        f"an excess kurtosis of {heavier:.2g} of the noise in all environments, nine times in ten",
    )


def heterogeneity(environments: Environments, subset: np.ndarray) -> float:
    """p-value of the F test that all environments have one best head; 1 where there is no noise."""
    from scipy.stats import f as fisher

    S = environments.columns(subset[None])[0]
    A, b = environments.A[:, S[:, None], S], environments.b[:, S]
    n, m = environments.sizes, len(environments)
    total = float((n * environments.variance * environments.total).sum())
    beta = np.stack([np.linalg.lstsq(a, c)[0] for a, c in zip(A, b, strict=True)])
    apart = total - float((n * (b * beta).sum(axis=1)).sum())
    pooled = np.linalg.lstsq(np.einsum("m,mij->ij", n, A), np.einsum("m,mi->i", n, b))[0]
    together = total - float(np.einsum("m,mi->i", n, b) @ pooled)
    s = len(S)
    more, free = (m - 1) * s, int(n.sum()) - m * (s + environments.center)
    if m == 1 or free <= 0 or apart <= 1e-12 * total:
        return 1.0
    return float(fisher.sf((together - apart) / more / (apart / free), more, free))
