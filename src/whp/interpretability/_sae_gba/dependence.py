"""Whether rows that are counted are independent: neighbours in the file, and rows that are there again."""

from __future__ import annotations

import math

import numpy as np

from whp.conditions import Test

__all__ = ["hashes", "nearly_repeated", "neighbouring_pairs", "neighbours", "repeated"]

PERMUTATIONS = 1999
ENOUGH = 20  # permutations as good as the file's own order: there is nothing to see
MOST_NEURONS = 2048
NEAR, TENTH = 0.02, 10  # how much nearer than the tenth nearest row a copy is


def neighbouring_pairs(
    inside: np.ndarray, groups: np.ndarray | None, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Pairs of rows that follow each other in the file, of different groups, no row in two pairs.

    Parameters
    ----------
    inside : ndarray of int
        Rows that may be looked at, all of one kind (all trained on): else those that were and those
        that were not would be told apart.
    groups : ndarray, shape (N,), optional
        Group of every row of the file.
    most : int
        At most so many pairs.
    rng : Generator
        Chooses among them.

    Returns
    -------
    ndarray, shape (k, 2)
    """
    rows = np.sort(inside)
    first, second = rows[:-1], rows[1:]
    kept = second == first + 1
    if groups is not None:
        kept &= groups[first] != groups[second]
    starts = first[kept]
    # Of a run of neighbours every other pair: a row in two pairs could not be permuted.
    run = np.cumsum(np.diff(starts, prepend=-2) != 1)
    place = np.arange(len(starts)) - np.searchsorted(run, run)
    starts = starts[place % 2 == 0]
    if len(starts) > most:
        starts = np.sort(rng.choice(starts, most, replace=False))
    return np.stack([starts, starts + 1], axis=1)


def neighbours(
    first: np.ndarray,
    second: np.ndarray,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> Test:
    """Whether the codes of neighbours agree more than those of strangers.

    Parameters
    ----------
    first, second : ndarray of bool, shape (k, M)
        Which neurons fire on the rows of each pair.
    rng : Generator
        Of the permutations.
    permutations : int
        The smallest p-value is 1/(permutations + 1).
    """
    k = len(first)
    both = np.concatenate([first, second]).astype(np.float32)
    share = both.mean(axis=0)
    kept = np.flatnonzero((share > 0) & (share < 1))
    if k < 10 or not len(kept):
        return Test(1.0, "nothing: fewer than 10 pairs of neighbours, or nothing fires")
    if len(kept) > MOST_NEURONS:
        kept = np.sort(rng.choice(kept, MOST_NEURONS, replace=False))
    share = share[kept]
    z = (both[:, kept] - share) / np.sqrt(share * (1 - share))
    products = (z[:k] @ z[k:].T).astype(np.float64)
    places = np.arange(k)
    seen = float(np.trace(products))
    beaten = done = 0
    while done < permutations and beaten < ENOUGH:
        beaten += bool(products[places, rng.permutation(k)].sum() >= seen)
        done += 1
    # Stopped at so many, their share of the permutations is a p-value too (Besag and Clifford 1991).
    p = beaten / done if beaten == ENOUGH else (1 + beaten) / (1 + done)
    spread = math.sqrt(float(np.square(products).sum()) / k)
    copies = 4.4 * spread / max(float(np.square(z).sum()) / 2, 1e-300)
    copies = max(copies, 4 / k)  # of fewer there would too often be none among the pairs
    return Test(
        p, f"{min(copies, 1):.2g} of all {k:,} pairs of neighbours being copies, nine times in ten"
    )


def hashes(rows: np.ndarray) -> np.ndarray:
    """A number of 64 bits for each row, the same for rows that are equal."""
    parts = np.ascontiguousarray(rows.astype(np.float32) + np.float32(0)).view(np.uint32)  # -0 is 0
    weights = np.random.default_rng(0).integers(1, 2**63, parts.shape[1], dtype=np.uint64) * 2 + 1
    with np.errstate(over="ignore"):
        return (parts.astype(np.uint64) * weights).sum(axis=1, dtype=np.uint64)


def repeated(rows: np.ndarray, others: np.ndarray) -> float:
    """Share of `rows` that equal another one of them or of `others`, all given by their hashes."""
    _, place, count = np.unique(
        np.concatenate([rows, others]), return_inverse=True, return_counts=True
    )
    return float((count[place.ravel()[: len(rows)]] > 1).mean()) if len(rows) else 0.0


def nearly_repeated(rows: np.ndarray, others: np.ndarray) -> float:
    """Share of `rows` with one of `others` fifty times nearer than the tenth nearest of them.

    Independent rows of a law with a density in D dimensions have one with probability at most
    9 · 0.02^D: 0.4 % in two dimensions, nothing in more. In one dimension nothing is told.

    Parameters
    ----------
    rows, others : ndarray, shape (n, d), (m, d)
        No row is in both; equal ones do not count, see :func:`repeated`.
    """
    if rows.shape[1] < 2 or len(others) < TENTH or not len(rows):
        return 0.0
    centre = others.mean(axis=0, dtype=np.float64)
    A, B = rows - centre, others - centre
    lengths = np.square(B).sum(axis=1)
    near = 0
    for part in np.array_split(A, max(1, len(A) // 256)):
        apart = lengths - 2 * (part @ B.T) + np.square(part).sum(axis=1)[:, None]
        ends = np.partition(apart, (0, TENTH - 1), axis=1)[:, [0, TENTH - 1]]
        least = 1e-13 * lengths.max()  # rounding: below, rows are equal
        near += int(((ends[:, 0] > least) & (ends[:, 0] < NEAR**2 * ends[:, 1])).sum())
    return near / len(rows)
