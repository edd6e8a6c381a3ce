"""What the paper and this library promise of a tree of communities, evaluated on one run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from whp.certificate import Answer, Certificate
from whp.graph._hierarchical_communities.fit import LEVEL_CYCLES, Closed, Fit
from whp.graph._hierarchical_communities.support import Evidence
from whp.graph._hierarchical_communities.threshold import divergences, overlaps
from whp.graph._hierarchical_communities.tree import Tree, node_pairs, paths
from whp.intervals import Estimate, exact
from whp.theorem import AT_LEAST, AT_MOST, POPULATION, THIS_RUN, Condition, Derived, Theorem

__all__ = ["THEOREMS", "certificates", "linkage_lemma"]

PAPER = "Dreveton, Kuroda, Grossglauser & Thiran 2026"
SLUG = "hierarchical-communities"
WRONG_NODES = 0.05  # demand of exact-recovery: so few wrong nodes are expected
LEVEL_BLOCKS = 0.01

SPLIT_FIRST = Condition(
    "split-first",
    "edges were held out before leaves, their number or isolated nodes were looked at",
    remedy="pass holdout=0.2, and say labels_independent=True of labels of your own only if they "
    "come from elsewhere than the edges of this graph.",
)
CHOSEN_ONCE = Condition(
    "chosen-once",
    "graph, its threshold, the number of communities and the seed were chosen before any support "
    "was seen",
)
PLAIN_EDGES = Condition(
    "plain-edges",
    "an edge is there or not",
    remedy="pass weighted=False, or at_least= to make edges of the large weights.",
)
EDGES_INDEPENDENT = Condition("edges-independent", "edges are independent given the communities")
AVERAGE_LINKAGE = Condition(
    "average-linkage", "the tree was built by average linkage", remedy="use method='bottom-up'."
)
ONE_DENSITY = Condition(
    "one-density",
    "leaf pairs under one merge share one density",
    remedy="read densities of merges as means; contract() shows what does not rest on this.",
)
EQUAL_DEGREES = Condition(
    "equal-degrees",
    "nodes of a leaf have one expected degree",
    remedy="do not take leaves for exact: hubs and fringe of a leaf are recovered differently.",
)
LABELS_RIGHT = Condition("labels-right", "every node is in its leaf")

NO_INVERSION = Theorem(
    "no-inversion",
    "no internal branch of the tree is sparser than the branch above it, on the edges that built it",
    "inverted branches",
    AT_MOST,
    THIS_RUN,
    f"{PAPER}: a merged density is a weighted mean of smaller ones",
    remedy="method='bottom-up' never inverts; do not cut this tree by height.",
)
SUPPORTED_TREE = Theorem(
    "supported-tree",
    "every community, and every merge that the contracted tree keeps, is denser inside than "
    "towards its sibling",
    "smallest density of such a branch less that of the merge above",
    AT_LEAST,
    POPULATION,
    Derived(f"{SLUG}#supported-tree", f"{PAPER}, Theorem 1"),
    (SPLIT_FIRST, CHOSEN_ONCE, PLAIN_EDGES, EDGES_INDEPENDENT),
    needs="contract() keeps the supported branches only; a denser graph decides more of them, and so "
    "do a larger holdout or fewer communities while no leaf holds several communities.",
    remedy="a community that is sparser than its surroundings is wrong, or its members avoid each "
    "other; where nothing can be shown, more edges help, and a larger holdout or fewer communities "
    "while no leaf holds several of them.",
)
LINKAGE_LEMMA = Theorem(
    "linkage-lemma",
    "every density between two leaves, as estimated from the edges that built the tree, is within half "
    "of the smallest gap between nested merges of its truth, so that average linkage returned the true "
    "tree over these leaves",
    "largest error of such a density less half of the smallest gap",
    AT_MOST,
    POPULATION,
    Derived(f"{SLUG}#linkage-lemma", f"{PAPER}, Theorem 1"),
    (SPLIT_FIRST, CHOSEN_ONCE, PLAIN_EDGES, EDGES_INDEPENDENT, AVERAGE_LINKAGE, ONE_DENSITY),
    needs="more edges, or a larger holdout: merges whose densities are this close may come in "
    "another order; contract() shows which are certain.",
    remedy="merges may come in another order; with fewer than three leaves there is one tree only.",
)
EXACT_RECOVERY = Theorem(
    "exact-recovery",
    f"with all other labels known, at most {WRONG_NODES:g} nodes are expected in a wrong community "
    "at every depth of the contracted tree",
    "expected number of wrong nodes (between Bhattacharyya bounds, largest over depths)",
    AT_MOST,
    POPULATION,
    Derived(f"{SLUG}#exact-recovery", f"{PAPER}, Theorem 3"),
    (PLAIN_EDGES, EDGES_INDEPENDENT, ONE_DENSITY, EQUAL_DEGREES, LABELS_RIGHT),
    needs="more edges: what they say of the densities leaves it open.",
    remedy="cut the tree higher up; where no branch is supported there is nothing to recover.",
)
THEOREMS = (NO_INVERSION, SUPPORTED_TREE, LINKAGE_LEMMA, EXACT_RECOVERY)


def certificates(e: Evidence) -> tuple[Certificate, ...]:
    """All theorems on one run."""
    return no_inversion(e), supported_tree(e), linkage(e), exact_recovery(e)


# Answers


def _split_first(e: Evidence) -> Answer:
    match e.split:
        case "ours":
            return SPLIT_FIRST.by_construction(f"a share {e.holdout:g} was held out, then looked")
        case "own generator":
            return SPLIT_FIRST.unchecked("the edges were drawn by a generator of your own")
        case "none":
            return SPLIT_FIRST.check(False, "no edge was held out")
        case "labels given":
            return SPLIT_FIRST.check(False, "the labels given may come from all edges")
        case _:
            return SPLIT_FIRST.unchecked("the labels given are said to come from elsewhere")


def _chosen_once() -> Answer:
    return CHOSEN_ONCE.unchecked("no data show what was tried before")


def _plain_edges(e: Evidence) -> Answer:
    return PLAIN_EDGES.check(not e.weighted, "weights" if e.weighted else "zeros and ones")


def _edges_independent(e: Evidence, scaled: bool) -> Answer:
    """By the cycles of the leaves, or, for statements on means alone, of finer ones."""
    if e.fit is None:
        return EDGES_INDEPENDENT.unchecked("weights have no number of cycles to compare with")
    found, by = (e.fit.scaled if scaled else e.fit.plain), ""
    if scaled and e.finer is not None:
        found = e.finer[1]
        by = f", by {e.finer[0]} communities: the {e.tree.leaves} leaves are coarser"
    seeing = [test for test in found.tests if test[2].sees <= 1]
    if found.p >= LEVEL_CYCLES and not seeing:
        return EDGES_INDEPENDENT.unchecked("too few paths for short cycles to show dependence")
    sees = " or ".join(f"{c.sees:.2g} of the open {paths} closed" for _, paths, c, _ in seeing[:3])
    longest = len(found.longer) + 4
    return EDGES_INDEPENDENT.tested(
        found.p,
        LEVEL_CYCLES,
        f"{sees}, nine times in ten{by}; cycles of more than {longest} nodes are not looked at",
        remedy=_excess(found, e.finer),
    )


def _excess(found: Closed, finer: tuple[int, Closed] | None) -> str:
    counts = " and ".join(
        f"{c.counted:,} {name} where independent edges of these densities make {c.expected:,.0f} ± "
        f"{c.spread:,.0f} (z = {c.z:.1f})"
        for name, _, c, p in found.tests
        if p < LEVEL_CYCLES
    )
    if finer is not None:
        return (
            f"the graph has {counts}, but no more than {finer[0]} communities make: leaves hold "
            f"several of them. Ask for more (n_communities={finer[0]}) or hold out less; those that "
            "avoid themselves or overlap are found by neither, and can be given (leaves=)."
        )
    return (
        f"the graph has {counts}, as where friends of friends meet, edges come from groups or "
        "distances, nodes are copies or variants of each other, or a leaf holds several "
        "communities. Ask for more communities (n_communities=) or hold out less (holdout=), which "
        "finds more of them; if edges come from papers, meetings or households, build two graphs "
        "from two random halves of those and trust the branches that both trees have; else read "
        "this tree as a description."
    )


def _one_density(fit: Fit | None) -> Answer:
    if fit is None:
        return ONE_DENSITY.unchecked("weights are no counts")
    p, tests, sees = fit.density
    if tests == 0:
        return ONE_DENSITY.unchecked("no merge has two leaf pairs with edges enough to compare")
    return ONE_DENSITY.tested(
        p, LEVEL_BLOCKS, f"densities that differ by {sees:.0%} under one of {tests} merges"
    )


def _equal_degrees(fit: Fit | None) -> Answer:
    if fit is None:
        return EQUAL_DEGREES.unchecked("weights are no counts")
    p, tests, sees = fit.degrees
    if tests == 0:
        return EQUAL_DEGREES.unchecked("no leaf has nodes and edges enough to compare")
    return EQUAL_DEGREES.tested(
        p, LEVEL_BLOCKS, f"expected degrees that vary by {sees:.0%} in one of {tests} leaves"
    )


# Certificates


def no_inversion(e: Evidence) -> Certificate:
    """Merge densities along every path from leaf to root do not increase."""
    inner = max(e.tree.leaves - 2, 0)
    return NO_INVERSION(
        bound=0.0,
        confidence=1.0,
        trivial=math.inf if e.bottom_up else inner,
        measured=exact(float(e.inversions)),
        inputs={"internal branches": inner, "method": "bottom-up" if e.bottom_up else "top-down"},
    )


def supported_tree(e: Evidence) -> Certificate:
    """Every branch of the contracted tree is real, tested on the edges held out, all at once."""
    measured, trivial, leaves = None, 0.0, e.tree.leaves
    inputs: dict[str, Any] = {
        "branches": len(e.margins),
        "supported": int(e.supported.sum()),
        "holdout": e.holdout,
        "delta": e.delta,
        "edges held out": float(np.triu(e.test).sum()),
    }
    if leaves > 1 and not e.weighted:
        claimed = e.supported | (np.arange(len(e.margins)) < leaves)
        value, low, high = e.margins[claimed].min(axis=0)
        measured = Estimate.between(
            low, high, value=value, level=1 - e.delta, method="Clopper-Pearson, simultaneous"
        )
        if e.holdout == 0 or e.reachable():
            trivial = -1.0
        else:
            times = next((2.0**t for t in range(1, 21) if e.reachable(2.0**t)), math.inf)
            inputs["edges held out that could show a branch"] = times * inputs["edges held out"]
    return SUPPORTED_TREE(
        bound=0.0,
        confidence=1 - e.delta,
        trivial=trivial,
        measured=measured,
        answers=(
            _split_first(e),
            _chosen_once(),
            _plain_edges(e),
            _edges_independent(e, scaled=True),
        ),
        inputs=inputs,
    )


def half_gap(gap: float) -> float:
    """How far densities may be off for average linkage to find the tree."""
    return gap / 2


def linkage(e: Evidence) -> Certificate:
    """Densities that built the tree against the intervals that held-out edges give its merges."""
    measured, trivial, leaves = None, 0.0, e.tree.leaves
    inputs: dict[str, Any] = {}
    if leaves > 2:
        trivial = 1.0
        gap = e.margins[leaves:].min(axis=0)
        if not e.weighted:
            off = ~np.eye(leaves, dtype=bool)
            # Linkage got a share of the edges; all its densities over that share, its merges stay.
            built = (e.train / node_pairs(e.sizes).clip(1))[off] / (1 - e.holdout)
            value, low, high = e.densities[e.tree.meet][off].T
            error = [np.abs(built - end) for end in (value, low, high)]
            inside = (low <= built) & (built <= high)
            least = float(np.where(inside, 0.0, np.minimum(error[1], error[2])).max())
            most = float(np.maximum(error[1], error[2]).max())
            measured = Estimate.between(
                least - half_gap(gap[2]),
                most - half_gap(gap[1]),
                value=float(error[0].max()) - half_gap(gap[0]),
                level=1 - e.delta,
                method="Clopper-Pearson, simultaneous",
            )
            chance = _chance(e.density[e.tree.meet], node_pairs(e.sizes), half_gap(gap[0]))
            inputs = {"smallest gap": gap[0], "chance of a larger error": chance}
    return LINKAGE_LEMMA(
        bound=0.0,
        confidence=1 - e.delta,
        trivial=trivial,
        measured=measured,
        answers=(
            _split_first(e),
            _chosen_once(),
            _plain_edges(e),
            _edges_independent(e, scaled=True),
            AVERAGE_LINKAGE.check(e.bottom_up, "bottom-up" if e.bottom_up else "top-down"),
            _one_density(e.fit),
        ),
        inputs=inputs,
    )


def linkage_lemma(
    tree: Tree, counts: np.ndarray, sizes: np.ndarray, density: np.ndarray
) -> Certificate:
    """The lemma where the true densities are known, as in a simulation.

    Parameters
    ----------
    tree : Tree
        The true tree.
    counts : (K, K) ndarray
        Edges between leaves that linkage was given.
    sizes : (K,) ndarray
        Nodes of each leaf.
    density : (2K - 1,) ndarray
        True density of each tree node.

    Returns
    -------
    Certificate
        *Holds*: average linkage of `counts` returns `tree`.
    """
    inner = np.arange(tree.leaves, tree.root)
    gap = float((density[inner] - density[tree.parent[inner]]).min()) if len(inner) else math.inf
    off = ~np.eye(tree.leaves, dtype=bool)
    truth, pairs = density[tree.meet], np.outer(sizes, sizes).astype(np.float64)
    known = len(inner) > 0
    error = float(np.abs(counts / pairs - truth)[off].max()) if known else 0.0
    why = "the densities are yours"
    return LINKAGE_LEMMA(
        bound=0.0,
        confidence=1.0,
        trivial=1.0 if known else 0.0,
        measured=exact(error - half_gap(gap), 1e-15) if known else None,
        answers=[c.unchecked(why) for c in LINKAGE_LEMMA.conditions],
        inputs={
            "smallest gap": gap,
            "chance of a larger error": _chance(truth, pairs, half_gap(gap)) if known else 0.0,
        },
    )


def _chance(p: np.ndarray, pairs: np.ndarray, deviation: float) -> float:
    """Σ_{a<b} exp(-m kl(p + Δ/2 ‖ p)) + exp(-m kl(p - Δ/2 ‖ p)), at most 1 (Chernoff)."""
    from scipy.special import rel_entr

    if deviation <= 0:
        return 1.0
    upper = np.triu_indices(len(p), 1)
    q, m = np.clip(p[upper], 1e-300, 1 - 1e-16), pairs[upper]
    total = 0.0
    for x in (q + deviation, q - deviation):
        possible = (x >= 0) & (x <= 1)
        x = np.clip(x, 0, 1)
        kl = rel_entr(x, q) + rel_entr(1 - x, 1 - q)
        total += float(np.exp(-m * kl)[possible].sum())
    return min(1.0, total)


def separated(tree: Tree, kept: np.ndarray) -> list[np.ndarray]:
    """For each depth of the contracted tree, which pairs of leaves lie in different communities."""
    ways = paths(tree, kept)
    masks = []
    for q in range(1, max((len(w) for w in ways), default=0) + 1):
        at = np.array([w[min(q, len(w)) - 1] if w else -1 for w in ways])
        masks.append((at[:, None] != at[None, :]) & np.outer(at >= 0, at >= 0))
    return [m for m in masks if m.any()]


def exponent(terms: np.ndarray, sizes: np.ndarray, own: np.ndarray) -> np.ndarray:
    """-log of the probability that a node of leaf `own` is misplaced: all others' terms summed."""
    return terms @ sizes - terms[np.arange(len(own)), own]


def fewest(overlap: np.ndarray, own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Fewest wrong nodes that any rule can expect of leaves of sizes `own` and `other`.

    The smaller of the two weighted likelihoods is what the best rule misplaces, and sums to at least
    ``(S - sqrt(S² - 4 own other overlap²)) / 2`` with ``S = own + other``.
    """
    both, apart = own + other, 4 * own * other * overlap**2
    return apart / (2 * (both + np.sqrt(np.maximum(both**2 - apart, 0.0))))


def exact_recovery(e: Evidence) -> Certificate:
    """Whether nodes can be placed without error, at the densities that all edges show."""
    tree, n = e.tree, float(e.sizes.sum())
    believed = e.split in ("ours", "own generator", "labels said independent") and not e.weighted
    kept = np.append(e.supported & believed, False)
    masks = separated(tree, kept)
    inputs: dict[str, Any] = {"depths": len(masks)}
    measured = None
    if masks:
        pairs = np.argwhere(np.logical_or.reduce(masks))
        own, other = e.sizes[pairs].T.astype(np.float64)
        low, high = _on_all_edges(e)
        near, far = overlaps(low[tree.meet], high[tree.meet], tree.meet, pairs)
        seen = overlaps(e.density[tree.meet], e.density[tree.meet], tree.meet, pairs)[0]
        at_least = fewest(np.exp(-(far @ e.sizes)), own, other)
        ends = [own * np.exp(-exponent(t, e.sizes, pairs[:, 0])) for t in (seen, near)]
        of = [m[pairs[:, 0], pairs[:, 1]] for m in masks]
        measured = Estimate.between(
            max(float(at_least[m].max()) for m in of),
            max(min(n, float(ends[1][m].sum())) for m in of),
            value=max(min(n, float(ends[0][m].sum())) for m in of),
            level=1 - e.delta,
            method="Clopper-Pearson, simultaneous",
        )
        x = e.density[tree.meet] * n / math.log(n)
        values = divergences(x, e.sizes / n, pairs)[0]
        for q, mask in enumerate(of, 1):
            inputs[f"I_{q}"] = float(values[mask].min())
    return EXACT_RECOVERY(
        bound=WRONG_NODES,
        confidence=1 - e.delta,
        trivial=n if masks else 0.0,
        measured=measured,
        answers=(
            _plain_edges(e),
            _edges_independent(e, scaled=False),
            _one_density(e.fit),
            _equal_degrees(e.fit),
            LABELS_RIGHT.unchecked("their truth is not known"),
        ),
        inputs=inputs,
    )


def _on_all_edges(e: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Simultaneous intervals by all edges: no selection to mind where the labels are right."""
    from whp.concentration import simultaneous_proportions

    return simultaneous_proportions(e.tree.totals(e.train + e.test), e.pairs, e.delta)
