"""What is true of a tree of communities where the generator's pair probabilities are known.

The truth of a branch is the mean of those probabilities on its two sides, in the tree that came out.
Judged are the intervals of all branches, the marks, and the intervals of the measured quantities.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from scipy.signal import fftconvolve
from scipy.stats import binom

from whp.certificate import Certificate, Verdict
from whp.graph import HierarchicalCommunitiesResult as HierarchicalCommunities

__all__ = ["INVERSION", "LEMMA", "RECOVERY", "TREE", "beaten", "truths", "within", "wrong_nodes"]

TREE, LEMMA, RECOVERY, INVERSION = (
    "supported-tree",
    "linkage-lemma",
    "exact-recovery",
    "no-inversion",
)
ROUNDING = 1e-9


def _pairs(sizes: np.ndarray) -> np.ndarray:
    pairs = np.outer(sizes, sizes).astype(float)
    np.fill_diagonal(pairs, sizes * (sizes - 1) / 2)
    return pairs


def _below(r: HierarchicalCommunities) -> list[list[int]]:
    below = [[leaf] for leaf in range(r.n_communities)]
    for a, b in r.linkage[:, :2].astype(int):
        below.append(below[a] + below[b])
    return below


def _over_tree(r: HierarchicalCommunities, blocks: np.ndarray) -> np.ndarray:
    """Sum of a leaf-pair matrix over what each tree node stands for."""
    below = _below(r)
    merges = [blocks[np.ix_(below[int(a)], below[int(b)])].sum() for a, b in r.linkage[:, :2]]
    return np.array([*np.diag(blocks), *merges])


def _parents(r: HierarchicalCommunities) -> np.ndarray:
    parent = np.full(2 * r.n_communities - 1, -1)
    for i, pair in enumerate(r.linkage[:, :2].astype(int)):
        parent[pair] = r.n_communities + i
    return parent


def _densities(r: HierarchicalCommunities, P: np.ndarray) -> np.ndarray:
    """Mean probability of the pairs of each tree node; NaN where it has none."""
    inside = r.labels >= 0
    Z = np.eye(r.n_communities)[r.labels[inside]]
    within = P[np.ix_(inside, inside)].copy()
    np.fill_diagonal(within, 0)
    blocks = Z.T @ within @ Z
    np.fill_diagonal(blocks, np.diag(blocks) / 2)
    pairs = _over_tree(r, _pairs(r.sizes))
    with np.errstate(invalid="ignore"):
        return np.where(pairs > 0, _over_tree(r, blocks) / pairs, np.nan)


def judged(c: Certificate, claim: bool, covered: bool) -> bool | None:
    """Whether what the user reads is true: a verdict of fails, or else claim and intervals."""
    if c.verdict is Verdict.FAILS:
        return True if claim else None if covered else False
    return covered and (claim or c.verdict is not Verdict.HOLDS)


def within(c: Certificate, low: float, high: float | None = None) -> bool:
    """Whether the interval that a user is given holds the true value, which lies in [low, high]."""
    assert c.measured is not None
    high = low if high is None else high
    return bool(c.measured.low - ROUNDING <= high and low <= c.measured.high + ROUNDING)


def _tree(r: HierarchicalCommunities, density: np.ndarray) -> bool | None:
    margin = (density - density[_parents(r)])[:-1]
    known = np.isfinite(margin)
    if not known.any():
        return None
    low, high = r.support[known, 1], r.support[known, 2]
    covered = bool(((margin[known] >= low - ROUNDING) & (margin[known] <= high + ROUNDING)).all())
    real = not (r.supported[known] & (margin[known] <= 1e-12)).any()
    leaf = np.arange(len(margin)) < r.n_communities
    claimed = margin[known & (leaf | (r.support[:, 1] > 0))]
    return judged(r.certificates[1], bool((claimed >= -1e-12).all()), covered and real)


def _lemma(r: HierarchicalCommunities, density: np.ndarray) -> bool | None:
    c, k = r.certificates[2], r.n_communities
    if c.measured is None or not np.isfinite(density).all():
        return None
    meet = np.zeros((k, k), dtype=int)
    below = _below(r)
    for i, (a, b) in enumerate(r.linkage[:, :2].astype(int)):
        for x in below[a]:
            meet[x, below[b]] = k + i
            meet[below[b], x] = k + i
    off = ~np.eye(k, dtype=bool)
    share = 1 - float(r.certificates[1].inputs["holdout"])  # of the edges that linkage got
    error = np.abs(r.between / share - density[meet])[off].max()
    inner = np.arange(k, 2 * k - 2)
    value = float(error - (density[inner] - density[_parents(r)[inner]]).min() / 2)
    return judged(c, value <= 0, within(c, value))


def beaten(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Probability that edges of probabilities `x` are likelier by `y`, ties excluded and included.

    The exact law of the log likelihood ratio, a sum of binomials, on a grid: each of them is rounded
    down, so that the sum is right to as many steps as there are binomials.
    """
    x, y = (np.clip(v, 1e-12, 1 - 1e-12) for v in (x, y))
    kinds, many = np.unique(np.column_stack([x, y])[x != y], axis=0, return_counts=True)
    if len(kinds) == 0:
        return 0.0, 1.0
    parts = []
    for (p, q), n in zip(kinds, many, strict=True):
        k = np.arange(n + 1)
        mass = binom.pmf(k, n, p)
        ratio = k * np.log(q / p) + (n - k) * np.log((1 - q) / (1 - p))
        parts.append((ratio[mass > 1e-18], mass[mass > 1e-18]))
    step = sum(float(np.ptp(ratio)) for ratio, _ in parts) / 2**15 + 1e-12
    law, first = np.ones(1), 0
    for ratio, mass in parts:
        place = np.floor(ratio / step).astype(int)
        law = fftconvolve(law, np.bincount(place - place.min(), mass))
        first += int(place.min())
    at = first + np.arange(len(law))
    return float(law[at > 0].sum()), float(law[at + len(parts) > 0].sum())


def wrong_nodes(r: HierarchicalCommunities, P: np.ndarray) -> tuple[float, float]:
    """Expected number of wrong nodes, all other labels known, largest over depths.

    Exact between two leaves; with more, between the worst of the others and their sum.
    """
    tree = r.contract()
    root = 2 * r.n_communities - 2
    ways = {}
    for node, data in tree.nodes(data=True):
        for leaf in data["leaves"]:
            ways[leaf] = nx.shortest_path(tree, root, node)[1:]
    deepest = max(map(len, ways.values()))
    example = [int(np.flatnonzero(r.labels == leaf)[0]) for leaf in range(r.n_communities)]
    inside = np.flatnonzero(r.labels >= 0)
    chance: dict[tuple[int, int], tuple[float, float]] = {}
    for a, i in enumerate(example):
        for b, j in enumerate(example):
            if a != b:  # a node of leaf a against a node of leaf b
                others = inside[inside != i]
                y = P[j, others].copy()
                y[others == j] = P[example[b], np.flatnonzero(r.labels == b)[-1]]
                chance[a, b] = beaten(P[i, others], y)
    least = most = 0.0
    for q in range(1, deepest + 1):
        at = {a: w[min(q, len(w)) - 1] if w else None for a, w in ways.items()}
        low = high = 0.0
        for a, size in enumerate(r.sizes):
            away = [
                chance[a, b]
                for b in range(r.n_communities)
                if None not in (at[a], at[b]) and at[a] != at[b]
            ]
            if away:
                low += size * max(c[0] for c in away)
                high += size * min(1.0, sum(c[1] for c in away))
        least, most = max(least, low), max(most, high)
    return float(least), float(most)


def _recovery(r: HierarchicalCommunities, P: np.ndarray, truth: np.ndarray) -> bool | None:
    c, inside = r.certificates[3], r.labels >= 0
    pure = pd.crosstab(truth[inside], r.labels[inside]).to_numpy()
    if c.measured is None or (pure > 0).sum(axis=0).max() > 1 or (pure > 0).sum() != len(pure):
        return None  # its leaves are not the blocks: the condition that labels are right
    low, high = wrong_nodes(r, P)
    covered = within(c, low, high)
    if low <= c.bound < high:
        return None if covered else False
    return judged(c, bool(high <= c.bound), covered)


def _inversion(r: HierarchicalCommunities) -> bool:
    sums = _over_tree(r, r.between * _pairs(r.sizes).clip(1))
    built = sums / _over_tree(r, _pairs(r.sizes)).clip(1)
    parent = _parents(r)
    return all(
        built[t] >= built[parent[t]] * (1 - ROUNDING)
        for t in range(r.n_communities, 2 * r.n_communities - 2)
    )


def truths(
    P: np.ndarray, truth: np.ndarray | None = None, *only: str
) -> Callable[[Any], Mapping[str, bool | None]]:
    """A judge of runs on a graph of independent edges.

    Parameters
    ----------
    P : (n, n) ndarray
        Probability of each pair.
    truth : (n,) ndarray, optional
        Block of each node, where there are blocks.
    *only : str
        Theorems to judge; all by default.
    """

    def judge(r: HierarchicalCommunities) -> dict[str, bool | None]:
        density = _densities(r, P)
        answers = {INVERSION: _inversion(r)}
        if not np.isnan(r.support).any() and r.n_communities > 1:
            answers |= {TREE: _tree(r, density), LEMMA: _lemma(r, density)}
            if truth is not None:
                answers[RECOVERY] = _recovery(r, P, truth)
        else:
            answers |= dict.fromkeys((TREE, LEMMA, RECOVERY))
        return {k: v for k, v in answers.items() if not only or k in only}

    return judge
