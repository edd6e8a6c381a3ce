"""Whether rows that are counted are independent: neighbours in the file, and rows that are there again."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from whp.conditions import Test

__all__ = [
    "distance_of_relatives",
    "hashes",
    "in_file_order",
    "nearly_repeated",
    "neighbouring_pairs",
    "neighbours",
    "repeated",
    "whole_groups",
]

PERMUTATIONS = 4999
PAIRS = 1000
SEARCHED = 16_384  # rows of the file among which the distance of relatives is looked for
DIRECTIONS = 64  # random combinations of neurons that stand for all of them in the search
FEWEST = 50  # pairs at a distance
REACH = 16  # multiples of it
ENOUGH = 20  # permutations as good as the file's own order: there is nothing to see
MOST_NEURONS = 2048
NEAR, TENTH = 0.02, 10  # how much nearer than the tenth nearest row a copy is


def neighbouring_pairs(
    inside: np.ndarray,
    groups: np.ndarray | None,
    most: int,
    rng: np.random.Generator,
    distance: int = 1,
    reach: int = 1,
) -> np.ndarray:
    """Pairs of rows at a distance in the file, of different groups, no row in two pairs.

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
    distance : int
        Of the two; 1 for rows that follow each other.
    reach : int
        Up to so many distances apart, where rows in between are not among those given.

    Returns
    -------
    ndarray, shape (k, 2)
    """
    rows = inside[np.lexsort((inside, inside % distance))]
    first, second = rows[:-1], rows[1:]
    apart = second - first
    kept = (apart > 0) & (apart % distance == 0) & (apart <= reach * distance)
    if groups is not None:
        kept &= groups[first] != groups[second]
    starts = np.flatnonzero(kept)
    # Of a run of neighbours every other pair: a row in two pairs could not be permuted.
    run = np.cumsum(np.diff(starts, prepend=-2) != 1)
    place = np.arange(len(starts)) - np.searchsorted(run, run)
    starts = starts[place % 2 == 0]
    if len(starts) > most:
        starts = np.sort(rng.choice(starts, most, replace=False))
    return np.stack([first[starts], second[starts]], axis=1)


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


def distance_of_relatives(
    fires: np.ndarray, places: np.ndarray, least: int, rng: np.random.Generator
) -> int:
    """The distance in the file at which rows agree most beyond chance; 0 where none has enough pairs.

    Parameters
    ----------
    fires : ndarray of bool, shape (k, M)
        Which neurons fire on the rows looked at.
    places : ndarray of int, shape (k,)
        Where in the file they stand, no two in one place.
    least : int
        The smallest distance of interest.
    rng : Generator
        Of the combinations that stand for many neurons.
    """
    share = fires.mean(axis=0) if len(fires) else np.zeros(fires.shape[1])
    kept = np.flatnonzero((share > 0) & (share < 1))
    if not len(kept):
        return 0
    share = share[kept]
    z = ((fires[:, kept] - share) / np.sqrt(share * (1 - share))).astype(np.float32)
    if len(kept) > DIRECTIONS:
        z = z @ rng.choice(np.array([-1, 1], np.float32), (len(kept), DIRECTIONS))
    span = int(np.ptp(places)) + 1
    size = 1 << (2 * span - 1).bit_length()  # twice as long: no end meets the beginning
    laid = np.zeros((z.shape[1] + 1, size), np.float32)
    laid[:-1, places - places.min()] = z.T
    laid[-1, places - places.min()] = 1
    power = np.square(np.abs(np.fft.rfft(laid, axis=1)))
    agree = np.fft.irfft(power[:-1].sum(axis=0), size)[:span]
    pairs = np.fft.irfft(power[-1], size)[:span]
    # Texts that come in turn agree at every multiple of the distance; together they show it best.
    sums, counts = np.zeros(span), np.zeros(span)
    for k in range(1, REACH + 1):
        upto = -(-span // k)
        sums[:upto] += agree[::k]
        counts[:upto] += pairs[::k]
    enough = counts > FEWEST
    enough[:least] = False
    beyond = np.where(enough, sums / np.sqrt(np.maximum(counts, 1)), -np.inf)
    return int(beyond.argmax()) if enough.any() else 0


def in_file_order(
    fires: Callable[[np.ndarray], np.ndarray],
    inside: np.ndarray,
    groups: np.ndarray | None,
    rng: np.random.Generator,
) -> tuple[Test, int]:
    """Whether rows that stand next to each other in the file, or at some other distance, agree more than strangers.

    Texts whose first tokens come first, then their second ones, and so on (batches of a network whose
    first axis is the position) have relatives a batch apart. That distance is looked for among half of
    the rows of a window and tested among the others; of groups one row each is looked at.

    Parameters
    ----------
    fires : callable
        From rows to which neurons fire on them, (k, M).
    inside : ndarray of int
        Rows that may be looked at.
    groups : ndarray, shape (N,), optional
        Group of every row of the file.
    rng : Generator
        Of what is looked at, and of the permutations.

    Returns
    -------
    Test
        Of both distances together.
    int
        That of the two at which relatives agree most, in rows, or in groups where there are groups.
    """

    def test(pairs: np.ndarray) -> Test:
        return neighbours(fires(pairs[:, 0]), fires(pairs[:, 1]), rng, PERMUTATIONS)

    near = test(neighbouring_pairs(inside, groups, PAIRS, rng))
    rows, least = np.sort(inside), 2
    places = rows
    if groups is not None:
        first = np.unique(groups, return_index=True)[1]
        order = np.argsort(first)
        places, least = np.flatnonzero(np.isin(first[order], inside)), 1
        rows = first[order][places]
    begin = int(rng.integers(max(1, int(places[-1]) - SEARCHED + 2))) if len(places) else 0
    looked = (places >= begin) & (places < begin + SEARCHED) & (rng.random(len(places)) < 0.5)
    some = np.flatnonzero(looked)
    distance = (
        distance_of_relatives(fires(rows[some]), places[some], least, rng) if len(some) else 0
    )
    if not distance:
        return near, 1
    left = np.flatnonzero(~looked)
    pairs = neighbouring_pairs(places[left], None, PAIRS, rng, distance, REACH)
    far = test(rows[np.searchsorted(places, pairs)])
    told = far.sees.replace("of neighbours", f"{distance:,} apart")
    both = Test(min(1.0, 2 * min(near.p, far.p)), f"{near.sees}, or {told}")
    return both, distance if far.p < near.p else 1


def whole_groups(keys: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which groups there are, and a number of 64 bits for each, the same for groups of equal rows in any order.

    Parameters
    ----------
    keys : ndarray of uint64
        Of rows, see :func:`hashes`.
    groups : ndarray of int
        Of rows.
    """
    kinds, place = np.unique(groups, return_inverse=True)
    sums = np.zeros(len(kinds), np.uint64)
    with np.errstate(over="ignore"):
        np.add.at(sums, place, keys * (keys | np.uint64(1)))
    return kinds, sums


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
