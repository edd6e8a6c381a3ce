"""The theorems evaluated on one run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import beta, chi2

from whp.certificate import Certificate
from whp.graph._hierarchical_communities.threshold import (
    divergences,
    divergences_of_rows,
    finite_divergences,
)
from whp.graph._hierarchical_communities.tree import Tree
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["density_from_rate", "held_out_rate", "linkage_lemma"]

PAPER = "Dreveton, Kuroda, Grossglauser & Thiran 2026"
RELATIVE = 1e-12
BOOTSTRAP = 200
HOMOGENEITY = 0.01


def held_out_rate(p: Any, f: float) -> Any:
    """Probability that a pair which shows no training edge shows a test edge, when pairs are joined with probability p."""
    return p * f / (1 - p * (1 - f))


def density_from_rate(r: Any, f: float) -> Any:
    """Inverse of :func:`held_out_rate` in p; increasing."""
    return r / (f + r * (1 - f))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one run knows: its tree, edge counts between leaves in the training and the test graph, and how they were made."""

    tree: Tree
    sizes: np.ndarray  # nodes of each leaf
    train: np.ndarray  # edges between leaves that the tree was built on
    test: np.ndarray  # edges between leaves that were held out
    built: np.ndarray  # density of each tree node on the training graph
    holdout: float
    delta: float
    bottom_up: bool
    weighted: bool
    own_labels: bool
    labels_independent: bool

    @property
    def pairs(self) -> np.ndarray:
        """Pairs of nodes between leaves, and within them on the diagonal."""
        pairs = np.outer(self.sizes, self.sizes).astype(np.float64)
        np.fill_diagonal(pairs, self.sizes * (self.sizes - 1) / 2)
        return pairs

    @property
    def all_edges(self) -> np.ndarray:
        return self.train + self.test

    @property
    def density(self) -> np.ndarray:
        """Density of each tree node on all edges; 0 where there is no pair."""
        total = self.tree.totals(self.pairs)
        return np.divide(
            self.tree.totals(self.all_edges), total, out=np.zeros_like(total), where=total > 0
        )


def count_inversions(tree: Tree, built: np.ndarray) -> int:
    """Edges between internal nodes whose child is sparser than its parent."""
    child = np.arange(tree.leaves, tree.root)
    return int((built[child] < built[tree.parent[child]] * (1 - RELATIVE)).sum())


def support(e: Evidence) -> np.ndarray:
    """Margin p_child − p_parent with its simultaneous interval, for every node but the root; NaN for weighted graphs."""
    if e.weighted:
        return np.full((e.tree.nodes - 1, 3), math.nan)
    found, pairs = e.tree.totals(e.test), e.tree.totals(e.pairs)
    if e.holdout == 0:
        found, free = e.tree.totals(e.train), pairs
    else:
        free = pairs - e.tree.totals(
            e.train
        )  # given the training graph, only pairs without an edge can carry a test edge
    tail = e.delta / (2 * e.tree.nodes)
    with np.errstate(invalid="ignore"):
        low = np.where(found > 0, beta.ppf(tail, found, free - found + 1), 0.0)
        high = np.where(found < free, beta.isf(tail, found + 1, free - found), 1.0)
    rate = np.divide(found, free, out=(low + high) / 2, where=free > 0)
    if e.holdout > 0:
        low, rate, high = (density_from_rate(r, e.holdout) for r in (low, rate, high))
    child = np.arange(e.tree.nodes - 1)
    parent = e.tree.parent[child]
    return np.column_stack(
        [rate[child] - rate[parent], low[child] - high[parent], high[child] - low[parent]]
    )


def _edges_independent(e: Evidence) -> Assumption:
    if e.weighted:
        return violated(
            "edges are present or absent",
            "the graph is weighted",
            "pass weighted=False to count edges instead.",
        )
    return unchecked(
        "edges are independent given the communities",
        "one graph cannot show it; checked: binary, undirected, no loops",
    )


def _labels_right() -> Assumption:
    return unchecked("the leaves are right", "their truth is not known")


def _separate(e: Evidence) -> Assumption:
    statement = "leaves and tree were found without the edges that test them"
    if e.holdout == 0:
        return violated(statement, "no edge was held out", "pass holdout=0.2 or so.")
    if e.own_labels and not e.labels_independent:
        return violated(
            statement,
            "the labels given may come from the whole graph",
            "pass labels_independent=True if they come from elsewhere than this graph's edges.",
        )
    return met(statement, f"a fraction {e.holdout:g} of the edges was held out")


def no_inversion(e: Evidence) -> Certificate:
    """G1: merge densities along every path from leaf to root do not increase."""
    return undeclared(
        "no-inversion",
        "no internal branch of the tree is sparser than the branch above it",
        f"{PAPER}: average linkage on densities is a weighted mean of smaller numbers",
        "<=",
        0.0,
        1.0,
        exact(float(count_inversions(e.tree, e.built))),
        inputs={
            "internal branches": max(e.tree.leaves - 2, 0),
            "method": "bottom-up" if e.bottom_up else "top-down",
        },
        remedy="method='bottom-up' never inverts; do not cut this tree by height.",
    )


def supported_tree(e: Evidence, margins: np.ndarray) -> Certificate:
    """G2: every branch is denser than what surrounds it, tested on the edges held out, all branches at once."""
    measured = None
    if len(margins) and not e.weighted:
        value, low, high = margins.min(axis=0)
        measured = Estimate(
            float(value),
            float(low),
            float(high),
            1 - e.delta,
            method="Clopper-Pearson, simultaneous",
        )
    single = e.tree.leaves == 1
    supported = int((margins[:, 1] > 0).sum()) if not e.weighted else 0
    return undeclared(
        "supported-tree",
        "every branch is at least as dense inside as towards its sibling: p(child) − p(parent) ≥ 0 for all branches at once",
        f"derived here (Clopper-Pearson on held-out edges); executable form of {PAPER}, Theorem 1",
        ">=",
        0.0,
        1 - e.delta,
        measured,
        trivial=0.0 if single else -1.0,
        assumptions=(_separate(e), _edges_independent(e)),
        inputs={
            "branches": len(margins),
            "supported": supported,
            "holdout": e.holdout,
            "delta": e.delta,
            "edges held out": float(e.test.sum() - np.tril(e.test, -1).sum()),
        },
        needs="contract() keeps the supported branches only; a denser graph or a larger holdout decides more of them.",
        remedy="one community claims nothing."
        if single
        else "a branch is sparser than its surroundings: communities are wrong or repel.",
    )


def linkage_lemma(
    tree: Tree,
    counts: np.ndarray,
    sizes: np.ndarray,
    density: np.ndarray,
    assumptions: tuple[Assumption, ...] = (),
) -> Certificate:
    """G3: if every density between leaves is within half of the smallest gap Δ of its truth, linkage returns the true tree.

    Parameters
    ----------
    tree : Tree
        The true tree, or the one found.
    counts, sizes : ndarray
        Edges between leaves that linkage was given, and sizes of the leaves.
    density : ndarray
        Density p of each tree node, true or estimated.
    assumptions : tuple of Assumption
        What is known of the labels and the tree.
    """
    inner = np.arange(tree.leaves, tree.root)
    gap = float((density[inner] - density[tree.parent[inner]]).min()) if len(inner) else math.inf
    off = ~np.eye(tree.leaves, dtype=bool)
    truth = density[tree.meet]
    pairs = np.outer(sizes, sizes).astype(np.float64)
    error = float(np.abs(counts / pairs - truth)[off].max()) if tree.leaves > 1 else 0.0
    top = float(density.max())
    return undeclared(
        "linkage-lemma",
        "every density between two leaves is within Δ/2 of its truth, Δ the smallest gap between nested merges; then average "
        "linkage returns the true tree",
        f"derived here; the deterministic core of {PAPER}, Theorem 1",
        "<=",
        gap / 2,
        1.0,
        exact(error),
        trivial=top if math.isfinite(gap) else 0.0,
        assumptions=assumptions,
        inputs={
            "smallest gap": gap,
            "chance of a larger error": _chance(truth, pairs, gap / 2)
            if math.isfinite(gap)
            else 0.0,
        },
        remedy="with fewer than three leaves there is only one tree."
        if not math.isfinite(gap)
        else "merges whose densities are this close may come in another order; contract() shows what is certain.",
    )


def _chance(p: np.ndarray, pairs: np.ndarray, deviation: float) -> float:
    """Σ_{a<b} exp(−m kl(p + Δ/2 ‖ p)) + exp(−m kl(p − Δ/2 ‖ p)), at most 1 (Chernoff)."""
    upper = np.triu_indices(len(p), 1)
    q, m = np.clip(p[upper], 1e-300, 1 - 1e-16), pairs[upper]
    total = 0.0
    for sign in (1, -1):
        x = q + sign * deviation
        possible = (x >= 0) & (x <= 1)
        x = np.clip(x, 0, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kl = np.nan_to_num(x * np.log(x / q)) + np.nan_to_num(
                (1 - x) * np.log((1 - x) / (1 - q))
            )
        total += float(np.exp(-m * kl)[possible].sum())
    return min(1.0, total)


def homogeneity(e: Evidence) -> tuple[float, int]:
    """Smallest p-value of the chi-square tests that leaf pairs under one merge share one density, and how many tests."""
    worst, tests = 1.0, 0
    for node in range(e.tree.leaves, e.tree.nodes):
        left, right = e.tree.children[node - e.tree.leaves]
        pairs = np.ix_(e.tree.below[left], e.tree.below[right])
        m, x = e.pairs[pairs].ravel(), e.all_edges[pairs].ravel()
        p = x.sum() / m.sum()
        usable = m * min(p, 1 - p) >= 5  # where the chi-square approximation is sound
        if usable.sum() < 2:
            continue
        tests += 1
        p = x[usable].sum() / m[usable].sum()
        statistic = float(((x - m * p)[usable] ** 2 / (m * p * (1 - p))[usable]).sum())
        worst = min(worst, float(chi2.sf(statistic, int(usable.sum()) - 1)))
    return worst, tests


def paths(tree: Tree, kept: np.ndarray) -> list[list[int]]:
    """For each leaf the nodes from below the root down to it in the tree that keeps only the branches `kept`."""
    found = []
    for leaf in range(tree.leaves):
        path, node = [], leaf
        while node != tree.root:
            if kept[node]:
                path.append(node)
            node = int(tree.parent[node])
        found.append(path[::-1])
    return found


def separated(tree: Tree, kept: np.ndarray) -> list[np.ndarray]:
    """For each depth q of the contracted tree, which pairs of leaves lie in different communities at that depth."""
    ways = paths(tree, kept)
    depth = max((len(w) for w in ways), default=0)
    result = []
    for q in range(1, depth + 1):
        at = np.array([w[min(q, len(w)) - 1] if w else -1 for w in ways])
        differ = at[:, None] != at[None, :]
        result.append(differ & np.outer(at >= 0, at >= 0) if (at < 0).any() else differ)
    return result


def _depth_values(
    value: Callable[[np.ndarray], np.ndarray], masks: list[np.ndarray]
) -> tuple[list[float], np.ndarray]:
    """Smallest value at each depth over pairs it separates; and all pairs with a chance to be smallest."""
    pairs = np.argwhere(np.triu(masks[-1] | np.logical_or.reduce(masks), 1))
    values = value(pairs)
    lowest, near = [], np.zeros(len(pairs), dtype=bool)
    for mask in masks:
        inside = mask[pairs[:, 0], pairs[:, 1]]
        smallest = float(values[inside].min())
        lowest.append(smallest)
        near |= inside & (values <= 2 * smallest + 0.05)
    return lowest, pairs[near][np.argsort(values[near])[: 4 * len(masks[0])]]


def exact_recovery(e: Evidence, margins: np.ndarray, rng: np.random.Generator) -> Certificate:
    """G4: the Chernoff-Hellinger threshold at every depth of the supported tree, and the errors expected at this n."""
    assumptions: list[Assumption] = [
        _edges_independent(e),
        _labels_right(),
        unchecked("n is large", "the threshold is asymptotic"),
    ]
    n = float(e.sizes.sum())
    kept = np.append(margins[:, 1] > 0, False)
    masks = [] if e.weighted or n < 3 else [m for m in separated(e.tree, kept) if m.any()]
    inputs: dict[str, Any] = {"depths": len(masks)}
    measured = None
    if not e.weighted and e.tree.leaves > 1:
        worst, tests = homogeneity(e)
        level = HOMOGENEITY / max(e.tree.leaves - 1, 1)
        statement = "densities are constant within each merge (hierarchical block model)"
        evidence = f"smallest p-value {worst:.2g} of {tests} chi-square tests, level {level:.2g}"
        if tests == 0:
            assumptions.append(unchecked(statement, "too few edges between leaves to test"))
        elif worst >= level:
            assumptions.append(met(statement, evidence))
        else:
            assumptions.append(
                violated(
                    statement,
                    evidence,
                    "read densities of merges as means; the threshold is not theirs.",
                )
            )
    if masks:
        scale, weight = n / math.log(n), e.sizes / n
        p = e.density
        at = p[e.tree.meet]
        values, near = _depth_values(lambda pairs: divergences(at * scale, weight, pairs)[0], masks)
        draws = _bootstrap(e, p, masks[-1], near, scale, weight, rng)
        low, high = np.quantile(draws, [0.025, 0.975])
        measured = Estimate(
            values[-1],
            min(low, values[-1]),
            max(high, values[-1]),
            0.95,
            method="parametric bootstrap",
        )
        inputs |= {f"I_{q + 1}": v for q, v in enumerate(values)}
        pairs = np.argwhere(np.triu(np.logical_or.reduce(masks), 1))
        cost = finite_divergences(np.clip(at, 0, 1), e.sizes.astype(np.float64), pairs)
        each = (e.sizes[pairs[:, 0]] + e.sizes[pairs[:, 1]]) * np.exp(-cost)
        for q, mask in enumerate(masks):
            inputs[f"expected errors at depth {q + 1}"] = float(
                each[mask[pairs[:, 0], pairs[:, 1]]].sum()
            )
    return undeclared(
        "exact-recovery",
        "at every depth of the supported tree the Chernoff-Hellinger divergence I_q is at least 1, so that its communities can be "
        "recovered without error as n grows",
        f"{PAPER}, Theorem 3",
        ">=",
        1.0,
        0.95,
        measured,
        trivial=None if masks else 1.0,
        assumptions=tuple(assumptions),
        inputs=inputs,
        needs="more edges: the interval of the divergence straddles 1.",
        remedy="no algorithm can be free of errors at this depth; cut the tree higher up."
        if masks
        else "no branch is supported, so there is nothing to recover.",
    )


def _bootstrap(
    e: Evidence,
    p: np.ndarray,
    deepest: np.ndarray,
    near: np.ndarray,
    scale: float,
    weight: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    near = near[deepest[near[:, 0], near[:, 1]]]
    total = e.tree.totals(e.pairs)
    found = rng.binomial(total.astype(np.int64), np.clip(p, 0, 1), size=(BOOTSTRAP, len(p)))
    rates = np.divide(found, total, out=np.zeros(found.shape), where=total > 0)
    x = rates[:, e.tree.meet] * scale
    rows = [x[:, near[:, side]].reshape(-1, e.tree.leaves) for side in (0, 1)]
    return divergences_of_rows(rows[0], rows[1], weight, 25)[0].reshape(BOOTSTRAP, -1).min(axis=1)


def all_certificates(
    e: Evidence, margins: np.ndarray, rng: np.random.Generator
) -> tuple[Certificate, ...]:
    """G1 to G4."""
    known = [_edges_independent(e), _labels_right()]
    built_on = (
        met("the tree was built by average linkage", "method='bottom-up'")
        if e.bottom_up
        else violated(
            "the tree was built by average linkage", "method='top-down'", "use method='bottom-up'."
        )
    )
    plug_in = unchecked(
        "Δ and the true densities are known", "those of the tree found stand in for them"
    )
    lemma = linkage_lemma(e.tree, e.train, e.sizes, e.built, (built_on, *known, plug_in))
    return no_inversion(e), supported_tree(e, margins), lemma, exact_recovery(e, margins, rng)
