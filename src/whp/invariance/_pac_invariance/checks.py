"""What data can say against the conditions: shared rows, drift, tails, and environments that are all alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from whp.conditions import Test
from whp.invariance._pac_invariance.environments import Environments, Rows

__all__ = ["LEVEL", "SHARED", "drift", "gaussian", "heterogeneity", "shared_rows"]

LEVEL = 0.001  # of a test that voids
SHARED = 0.05  # share of rows that may occur in another environment
DISTINCT = 0.99  # of rows have a value of their own in a column that tells rows apart
HANDFUL = 5  # values, such as 0, that many rows have
OFTEN = 4  # times as often as within environments: what equal rows between them must be
FEWEST = 20  # rows of an environment whose tails are tested
FAR_TAIL = 100  # p-values of D'Agostino's test below 1e-5 are too small by up to a factor of 45


def shared_rows(rows: Rows, codes: np.ndarray, labels: Sequence[Any]) -> tuple[bool, float]:
    """Whether draws share rows that they do not share by chance, and how large a share of a draw's rows, in the mean.

    Rows are compared as a whole, and by the target and each column alone: a number of the row, or a
    column that was made for the environment, tells copies of one row apart.

    Raises
    ------
    ValueError
        If two draws have the very same rows.
    """
    import pandas as pd

    table = np.column_stack([rows.X, rows.y]) + 0.0  # -0 is 0
    hashes = [pd.util.hash_array(column) for column in table.T]
    p = len(hashes) - 1
    key = _joined(hashes)
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
    found = [_shared(key, codes, table)]
    if p > 1:
        found += [
            _shared(_joined([hashes[j], hashes[p]]), codes, table[:, [j, p]]) for j in range(p)
        ]
    return max((one for one in found if one[0]), key=lambda one: one[1], default=found[0])


def _joined(hashes: Sequence[np.ndarray]) -> np.ndarray:
    """One number a row, from those of its values."""
    key = np.zeros(len(hashes[0]), np.uint64)
    with np.errstate(over="ignore"):
        for one in hashes:
            key = key * np.uint64(0x9E3779B97F4A7C15) + one
    return key


def _shared(key: np.ndarray, codes: np.ndarray, table: np.ndarray) -> tuple[bool, float]:
    """The same of rows that are equal where `key` is."""
    import pandas as pd
    from scipy.stats import binom

    row, unique = pd.factorize(key)
    counts = pd.DataFrame({"env": codes, "row": row}).value_counts(sort=False)
    homes = np.bincount(counts.index.get_level_values("row"))
    sizes = np.bincount(codes)
    elsewhere = float((np.bincount(codes, homes[row] > 1) / sizes).mean())
    if elsewhere < SHARED:
        return False, elsewhere

    def pairs(numbers: np.ndarray) -> float:
        return float((numbers * (numbers - 1.0)).sum()) / 2

    # Rows repeat because numbers are few, or many are 0: then they do so within a draw as often.
    here, all_here = pairs(counts.to_numpy()), pairs(sizes)
    both, all_pairs = pairs(np.bincount(row)), pairs(np.array([len(row)]))
    part = all_here / all_pairs
    if here <= part * both / OFTEN and binom.cdf(here, both, part) < LEVEL:
        return True, elsewhere
    # Draws with replacement do so too: there rows repeat that one column tells apart, and not a handful.
    homes[np.argsort(np.bincount(row))[-HANDFUL:]] = 1
    many = (np.bincount(codes, homes[row] > 1) / sizes).mean() >= SHARED
    once = np.unique(row, return_index=True)[1]
    apart = max(len(np.unique(column)) for column in table[once].T)
    fine = apart >= DISTINCT * len(unique)
    return bool(many and fine and _ungridded(table[once])), elsewhere


def _ungridded(table: np.ndarray) -> bool:
    """Whether the column with most values has them closer together than an even grid of as many."""
    values = max((np.unique(c) for c in table.T), key=len)
    return bool(np.diff(values).min() < np.ptp(values) / (5 * len(values)))


def drift(environments: Environments, subset: np.ndarray, w: np.ndarray, order: np.ndarray) -> Test:
    """Whether a signed normal equation A w − b follows `order` from environment to environment.

    Kendall's rank correlation of each equation, which is exact for few draws, Bonferroni over
    equations; of blocks the means.
    """
    from scipy.stats import kendalltau

    signed = environments.equations(subset, w)
    _, block = np.unique(environments.block, return_inverse=True)
    counts = np.bincount(block)
    when = np.bincount(block, order) / counts
    m = len(counts)
    if 2 * signed.shape[1] / math.gamma(min(m, 100) + 1) > LEVEL or np.ptp(when) == 0:
        return Test(1.0, f"nothing: {m} draws are too few, or all have one place in the order")
    p = 1.0
    for j in range(signed.shape[1]):
        values = np.bincount(block, signed[:, j]) / counts
        if np.ptp(values) > 0:
            p = min(p, float(kendalltau(when, values).pvalue))
    seen = min(1.0, 4.6 * np.sqrt((4 * m + 10) / (9 * m * (m - 1))))
    return Test(
        min(1.0, p * signed.shape[1]),
        f"a rank correlation (Kendall's) of {seen:.2g} with the order, nine times in ten",
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
