"""Worlds of hierarchical communities: graphs whose pair probabilities are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from scipy.spatial import Delaunay

from whp.certificate import Verdict
from whp.datasets.graph_models import block_model, btsbm_densities
from whp.experiment.worlds import Instance, Worlds
from whp.graph import HierarchicalCommunities, hierarchical_communities
from whp.graph._hierarchical_communities.theorems import (
    AVERAGE_LINKAGE,
    CHOSEN_ONCE,
    EDGES_INDEPENDENT,
    EQUAL_DEGREES,
    LABELS_RIGHT,
    ONE_DENSITY,
    PLAIN_EDGES,
    SPLIT_FIRST,
    THEOREMS,
)
from whp.studies.hierarchical_communities.truth import (
    INVERSION,
    LEMMA,
    RECOVERY,
    TREE,
    truths,
    within,
    wrong_nodes,
)

worlds = Worlds("hierarchical-communities", THEOREMS)
TWO = np.array([[0.16, 0.02], [0.02, 0.16]])


# Generators


def _blocks(rng: np.random.Generator, p: Any, sizes: Any, *only: str, **options: Any) -> Instance:
    p, sizes = np.asarray(p, float), np.asarray(sizes)
    A, labels = block_model(p, sizes, rng)
    arguments = {"graph": A, "rng": int(rng.integers(1 << 31)), **options}
    return Instance(arguments, truths(p[np.ix_(labels, labels)], labels, *only))


def _independent(rng: np.random.Generator, P: np.ndarray) -> np.ndarray:
    upper = np.triu(rng.random(P.shape) < P, 1)
    return (upper | upper.T).astype(float)


def _flat(k: int, inside: float, between: float) -> np.ndarray:
    return np.where(np.eye(k, dtype=bool), inside, between)


def _known(rng: np.random.Generator, p: Any, size: int, *only: str) -> Instance:
    """Blocks whose labels are given, from elsewhere."""
    labels = np.repeat(np.arange(len(p)), size)
    return _blocks(rng, p, np.full(len(p), size), *only, leaves=labels, labels_independent=True)


# Honest worlds


@worlds.world(run=hierarchical_communities)
def good_run(rng: np.random.Generator, strength: float) -> Instance:
    """Eight blocks of 60 in a binary tree of densities .02, .06, .2, .6."""
    return _blocks(rng, btsbm_densities(np.array([0.02, 0.06, 0.2, 0.6])), np.full(8, 60))


@worlds.world(run=hierarchical_communities)
def two_blocks(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 150, .16 inside and .02 between."""
    return _blocks(rng, TWO, [150, 150])


@worlds.world(run=hierarchical_communities)
def large_leaves(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 150 in a binary tree of densities .05, .2, .6: the lemma is decided."""
    return _blocks(rng, btsbm_densities(np.array([0.05, 0.2, 0.6])), np.full(4, 150))


@worlds.world(run=hierarchical_communities, strengths=(1.0, 2.0, 4.0, 8.0))
def sparse_noise(rng: np.random.Generator, strength: float) -> Instance:
    """No blocks: 1,500 nodes of this mean degree, two communities asked for; many are isolated."""
    return _blocks(rng, [[strength / 1500]], [1500], TREE, INVERSION, n_communities=2)


@worlds.world(run=hierarchical_communities)
def noise(rng: np.random.Generator, strength: float) -> Instance:
    """No blocks: 400 nodes of mean degree 8, four communities asked for."""
    return _blocks(rng, [[8 / 400]], [400], TREE, LEMMA, INVERSION, n_communities=4)


@worlds.world(run=hierarchical_communities)
def sparse_blocks(rng: np.random.Generator, strength: float) -> Instance:
    """Three blocks of 300, mean degree 3 inside and .3 to each other block."""
    return _blocks(rng, _flat(3, 3 / 300, 0.3 / 300), [300, 300, 300], TREE, INVERSION)


@worlds.world(run=hierarchical_communities)
def flat(rng: np.random.Generator, strength: float) -> Instance:
    """Five blocks of 60 without a tree above them, .33 inside and .03 between."""
    return _blocks(rng, _flat(5, 0.33, 0.03), np.full(5, 60), TREE, RECOVERY, INVERSION)


@worlds.world(run=hierarchical_communities)
def half_held_out(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 50, densities .05, .15, .4, half of the edges held out."""
    p = btsbm_densities(np.array([0.05, 0.15, 0.4]))
    return _blocks(rng, p, np.full(4, 50), TREE, LEMMA, INVERSION, holdout=0.5)


@worlds.world(run=hierarchical_communities)
def unequal_sizes(rng: np.random.Generator, strength: float) -> Instance:
    """Blocks of 12 to 120 nodes, densities .05, .15, .4."""
    p = btsbm_densities(np.array([0.05, 0.15, 0.4]))
    return _blocks(rng, p, rng.permutation([12, 30, 60, 120]), INVERSION, TREE)


@worlds.world(run=hierarchical_communities)
def small_blocks_beside_large(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 12 and two of 60, densities .05, .15, .4, told that there are four."""
    p = btsbm_densities(np.array([0.05, 0.15, 0.4]))
    return _blocks(rng, p, [12, 12, 60, 60], INVERSION, TREE, n_communities=4)


@worlds.world(run=hierarchical_communities, strengths=(0.042, 0.045, 0.06, 0.09))
def close_merges(rng: np.random.Generator, strength: float) -> Instance:
    """Three blocks of 40, .3 inside, .04 between but for one pair, which is at the strength."""
    p = _flat(3, 0.3, 0.04)
    p[0, 1] = p[1, 0] = strength
    return _known(rng, p, 40)


@worlds.world(run=hierarchical_communities, strengths=(0.8, 1.0, 1.3, 2.0, 3.0))
def near_the_threshold(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 200, labels known, at this Chernoff-Hellinger divergence."""
    scale = math.log(400) / 400
    inside = (math.sqrt(2.0) + math.sqrt(2 * strength)) ** 2
    return _known(rng, _flat(2, inside * scale, 2.0 * scale), 200)


@worlds.world(run=hierarchical_communities, strengths=(0.2272, 0.23))
def bound_above_the_demand(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 240, .1 between: fewer wrong nodes than demanded, though more by the upper bound."""
    return _blocks(rng, _flat(2, strength, 0.1), [240, 240], RECOVERY, TREE)


@worlds.world(run=hierarchical_communities, strengths=(2.0, 3.0))
def too_few_communities_asked(rng: np.random.Generator, strength: float) -> Instance:
    """Six blocks of 30, .5 inside and .05 between, so many communities asked for: leaves are coarse."""
    return _blocks(
        rng, _flat(6, 0.5, 0.05), np.full(6, 30), TREE, LEMMA, n_communities=int(strength)
    )


@worlds.world(run=hierarchical_communities, strengths=(0.5, 0.7))
def too_many_edges_held_out(rng: np.random.Generator, strength: float) -> Instance:
    """Six blocks of 30, .5 inside and .05 between, of which the edges left show four or five."""
    return _blocks(rng, _flat(6, 0.5, 0.05), np.full(6, 30), TREE, holdout=strength)


@worlds.world(run=hierarchical_communities)
def many_small_blocks(rng: np.random.Generator, strength: float) -> Instance:
    """Twenty blocks of 10, .7 inside and .05 between, of which training edges show a few only."""
    return _blocks(rng, _flat(20, 0.7, 0.05), np.full(20, 10), TREE, LEMMA)


@worlds.world(run=hierarchical_communities, seeds=100)
def thirty_small_blocks(rng: np.random.Generator, strength: float) -> Instance:
    """Thirty blocks of 10, .7 inside and .05 between, of which training edges show four or so."""
    return _blocks(rng, _flat(30, 0.7, 0.05), np.full(30, 10), TREE)


@worlds.world(run=hierarchical_communities)
def users_and_items(rng: np.random.Generator, strength: float) -> Instance:
    """Two kinds of users and of items, 50 each, .25 to items of their kind and .03 to others."""
    p = np.zeros((4, 4))
    p[:2, 2:] = p[2:, :2] = _flat(2, 0.25, 0.03)
    return _blocks(rng, p, np.full(4, 50), TREE)


@worlds.world(run=hierarchical_communities)
def two_that_avoid_themselves(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 60: two of .3 inside, two of .02 inside and .3 between; all else .03."""
    p = np.full((4, 4), 0.03)
    p[0, 0] = p[1, 1] = p[2, 3] = p[3, 2] = 0.3
    p[2, 2] = p[3, 3] = 0.02
    return _blocks(rng, p, np.full(4, 60), TREE)


@worlds.world(run=hierarchical_communities)
def in_two_communities_each(rng: np.random.Generator, strength: float) -> Instance:
    """240 nodes, each in one of three schools and three clubs: .02, and .2 more for either in common."""
    school, club = rng.integers(0, 3, (2, 240))
    same = [np.equal.outer(x, x).astype(float) for x in (school, club)]
    P = 0.02 + 0.2 * (same[0] + same[1])
    options = {"n_communities": 3, "rng": int(rng.integers(1 << 31))}
    return Instance({"graph": _independent(rng, P), **options}, truths(P, None, TREE))


@worlds.world(run=hierarchical_communities, strengths=(2.0, 3.0))
def few_nodes(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 25, .4 inside and .1 between, so many communities asked for."""
    return _blocks(rng, _flat(2, 0.4, 0.1), [25, 25], TREE, n_communities=int(strength))


@worlds.world(run=hierarchical_communities, strengths=(1.5, 2.0, 3.0))
def sparse_noise_cut_up(rng: np.random.Generator, strength: float) -> Instance:
    """No blocks: 600 nodes of this mean degree, of which cycles up to 24 or 6 nodes are looked at."""
    return _blocks(rng, [[strength / 600]], [600], TREE, INVERSION, n_communities=4)


@worlds.world(run=hierarchical_communities)
def two_close_levels(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 200, .5 inside, .10 in each pair of them and .08 between pairs, half held out."""
    p = _flat(4, 0.5, 0.08)
    p[[0, 1, 2, 3], [1, 0, 3, 2]] = 0.10
    return _blocks(rng, p, np.full(4, 200), TREE, LEMMA, INVERSION, holdout=0.5)


@worlds.world(run=hierarchical_communities)
def names(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 40 as a data frame of names in random order."""
    p = btsbm_densities(np.array([0.03, 0.15, 0.5]))
    A, labels = block_model(p, np.full(4, 40), rng)
    order = rng.permutation(160)
    called = [f"person {i:03d}" for i in order]
    table = pd.DataFrame(A.toarray()[np.ix_(order, order)], index=called, columns=called)
    shuffled = labels[order]
    return Instance(
        {"graph": table, "rng": int(rng.integers(1 << 31))},
        truths(p[np.ix_(shuffled, shuffled)], shuffled),
    )


def _pareto(rng: np.random.Generator, tail: float) -> np.ndarray:
    weight = (1 - rng.random(300)) ** (-1 / tail)
    weight /= weight.mean()
    labels = np.repeat([0, 1], 150)
    return np.minimum(TWO[np.ix_(labels, labels)] * np.outer(weight, weight), 1.0)


@worlds.world(run=hierarchical_communities, strengths=(4.0, 10.0))
def uneven_degrees_of_branches(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 150 with Pareto degrees of this tail: the test of branches does not mind."""
    P = _pareto(rng, strength)
    return Instance(
        {"graph": _independent(rng, P), "rng": int(rng.integers(1 << 31))},
        truths(P, None, TREE, INVERSION),
    )


@worlds.world(run=hierarchical_communities, expects=Verdict.FAILS, strengths=(0.02, 0.05, 0.1))
def disassortative(rng: np.random.Generator, strength: float) -> Instance:
    """Three blocks of 60 that avoid themselves: .2 between, less inside; labels given."""
    return _known(rng, _flat(3, strength, 0.2), 60, TREE)


# Broken worlds


@worlds.world(run=hierarchical_communities, breaks=SPLIT_FIRST)
def no_holdout(rng: np.random.Generator, strength: float) -> Instance:
    """No structure, no edge held out, six communities asked for."""
    return _blocks(rng, [[0.08]], [200], TREE, LEMMA, holdout=0.0, n_communities=6)


def _modular(rng: np.random.Generator, **options: Any) -> Instance:
    A = _independent(rng, np.full((200, 200), 12 / 200))
    parts = nx.community.greedy_modularity_communities(nx.from_numpy_array(A), cutoff=3, best_n=3)
    labels = np.zeros(200, dtype=int)
    for i, part in enumerate(parts):
        labels[list(part)] = i
    arguments = {"graph": A, "leaves": labels, "rng": int(rng.integers(1 << 31)), **options}
    return Instance(arguments, truths(np.full((200, 200), 12 / 200), None, TREE))


@worlds.world(run=hierarchical_communities, breaks=SPLIT_FIRST)
def labels_of_the_same_graph(rng: np.random.Generator, strength: float) -> Instance:
    """No structure; labels from greedy modularity on all edges."""
    return _modular(rng)


@worlds.world(run=hierarchical_communities, breaks=SPLIT_FIRST, noticeable=False)
def labels_said_independent(rng: np.random.Generator, strength: float) -> Instance:
    """The same, and the user says that they come from elsewhere."""
    return _modular(rng, labels_independent=True)


def until_marked(graph: Any, tries: int, rng: int, **options: Any) -> HierarchicalCommunities:
    """Another seed until a branch is marked."""
    for seed in range(rng, rng + tries):
        result = hierarchical_communities(graph, rng=seed, **options)
        if result.supported.any():
            break
    return result  # pyright: ignore[reportPossiblyUnboundVariable]


@worlds.world(run=until_marked, breaks=CHOSEN_ONCE, noticeable=False, seeds=200)
def another_seed(rng: np.random.Generator, strength: float) -> Instance:
    """No structure; run again, up to ten times, until a branch is marked."""
    instance = _blocks(rng, [[0.08]], [120], TREE, n_communities=3, holdout=0.4)
    return Instance({**instance.arguments, "tries": 10}, instance.truths)


def most_marked(graph: Any, rng: int) -> HierarchicalCommunities:
    """The number of communities with the most marks."""
    made = [hierarchical_communities(graph, k, rng=rng) for k in range(2, 8)]
    return max(made, key=lambda r: int(r.supported.sum()))


@worlds.world(run=most_marked, breaks=CHOSEN_ONCE, noticeable=False, seeds=200)
def best_number(rng: np.random.Generator, strength: float) -> Instance:
    """No structure; the number of communities is the one that has the most marks."""
    return _blocks(rng, [[0.08]], [120], TREE)


@worlds.world(run=hierarchical_communities, breaks=PLAIN_EDGES, strengths=(0.01, 1.0, 100.0))
def scaled_weights(rng: np.random.Generator, strength: float) -> Instance:
    """Five blocks of 40, every edge of this weight."""
    A, labels = block_model(_flat(5, 0.33, 0.03), np.full(5, 40), rng)
    P = _flat(5, 0.33, 0.03)[np.ix_(labels, labels)]
    options = {"weighted": True, "rng": int(rng.integers(1 << 31))}
    return Instance({"graph": A * strength, **options}, truths(P))


@worlds.world(run=hierarchical_communities, breaks=PLAIN_EDGES)
def counted_contacts(rng: np.random.Generator, strength: float) -> Instance:
    """Three blocks of 50, numbers of contacts as weights."""
    labels = np.repeat(np.arange(3), 50)
    mean = _flat(3, 0.6, 0.1)[np.ix_(labels, labels)]
    upper = np.triu(rng.poisson(mean), 1).astype(float)
    options = {"weighted": True, "rng": int(rng.integers(1 << 31))}
    return Instance({"graph": upper + upper.T, **options}, truths(1 - np.exp(-mean)))


def _without_blocks(
    graph: np.ndarray, k: int | None, rng: np.random.Generator, *, bipartite: bool = False
) -> Instance:
    """Every branch is as dense as what surrounds it, between the two halves of the nodes if so said."""
    options = {"n_communities": k, "rng": int(rng.integers(1 << 31))}
    P = np.full(graph.shape, graph.mean())
    if bipartite:
        half = np.arange(len(graph)) < len(graph) / 2
        P = np.where(half[:, None] != half, 2 * P, 0.0)
    return Instance({"graph": graph, **options}, truths(P, None, TREE, LEMMA))


@worlds.world(
    run=hierarchical_communities,
    breaks=EDGES_INDEPENDENT,
    strengths=(0.0, 0.02, 0.05, 0.2, 0.5),
    broken_from=0.02,
)
def friends_of_friends(rng: np.random.Generator, strength: float) -> Instance:
    """300 nodes of mean degree 6, this share of open wedges closed, three communities asked for."""
    A = _independent(rng, np.full((300, 300), 6 / 300))
    open_pairs = (A @ A > 0) & (A == 0)
    closed = np.triu(open_pairs & (rng.random(A.shape) < strength), 1)
    return _without_blocks(A + closed + closed.T, 3, rng)


@worlds.world(
    run=hierarchical_communities,
    breaks=EDGES_INDEPENDENT,
    strengths=(2.0, 3.0, 4.0, 6.0),
    broken_from=3.0,
)
def meetings(rng: np.random.Generator, strength: float) -> Instance:
    """300 people who met in random groups of this size, four communities asked for."""
    size = int(strength)
    A = np.zeros((300, 300))
    for _ in range(int(1800 / (size * (size - 1) / 2))):
        group = rng.choice(300, size, replace=False)
        A[np.ix_(group, group)] = 1
    np.fill_diagonal(A, 0)
    return _without_blocks(A, 4, rng)


@worlds.world(run=hierarchical_communities, breaks=EDGES_INDEPENDENT)
def near_in_space(rng: np.random.Generator, strength: float) -> Instance:
    """300 points in a square, joined within .1: distance is no tree of blocks."""
    points = rng.random((300, 2))
    near = ((points[:, None] - points[None]) ** 2).sum(axis=2) < 0.01
    np.fill_diagonal(near, False)
    return _without_blocks(near.astype(float), None, rng)


@worlds.world(
    run=hierarchical_communities, breaks=EDGES_INDEPENDENT, strengths=(4.0, 5.0, 6.0), broken_from=5
)
def meetings_of_few(rng: np.random.Generator, strength: float) -> Instance:
    """50 people who met in groups of this size, 300 pairs in all; three communities asked for."""
    size = int(strength)
    A = np.zeros((50, 50))
    for _ in range(round(300 / (size * (size - 1) / 2))):
        group = rng.choice(50, size, replace=False)
        A[np.ix_(group, group)] = 1
    np.fill_diagonal(A, 0)
    return _without_blocks(A, 3, rng)


@worlds.world(
    run=hierarchical_communities, breaks=EDGES_INDEPENDENT, strengths=(2.0, 4.0), seeds=100
)
def hexagons(rng: np.random.Generator, strength: float) -> Instance:
    """14 by 14 hexagons, so many communities asked for: no triangle, no 4-cycle."""
    graph = nx.to_numpy_array(nx.hexagonal_lattice_graph(14, 14))
    order = rng.permutation(len(graph))
    return _without_blocks(graph[np.ix_(order, order)], int(strength), rng)


@worlds.world(
    run=hierarchical_communities, breaks=EDGES_INDEPENDENT, strengths=(0.4, 0.5), seeds=100
)
def streets(rng: np.random.Generator, strength: float) -> Instance:
    """300 crossings, each street to a neighbour with a bend, this share of them left out; connected."""
    corners = np.sort(Delaunay(rng.random((300, 2))).simplices, axis=1)
    pairs = np.unique(corners[:, [[0, 1], [0, 2], [1, 2]]].reshape(-1, 2), axis=0)
    graph = nx.Graph(pairs.tolist())
    tree = nx.minimum_spanning_tree(graph)
    bent = nx.Graph()
    for u, v in graph.edges:
        if tree.has_edge(u, v) or rng.random() > strength:
            nx.add_path(bent, [u, (u, v), v])
    return _without_blocks(nx.to_numpy_array(bent), 3, rng)


@worlds.world(run=hierarchical_communities, breaks=EDGES_INDEPENDENT, strengths=(0.5, 0.7, 1.0))
def copies_of_nodes(rng: np.random.Generator, strength: float) -> Instance:
    """100 nodes of mean degree 4 three times over, this share of the edges kept; no triangle more."""
    A = np.kron(_independent(rng, np.full((100, 100), 0.04)), np.ones((3, 3)))
    return _without_blocks(A * _independent(rng, np.full(A.shape, strength)), 4, rng)


@worlds.world(run=hierarchical_communities, breaks=EDGES_INDEPENDENT, strengths=(2.0, 3.0))
def variants_of_items(rng: np.random.Generator, strength: float) -> Instance:
    """150 users who take items each in so many variants: no triangle, many 4-cycles."""
    many = int(strength)
    chosen = np.kron((rng.random((150, 150 // many)) < 0.06).astype(float), np.ones((1, many)))
    zero = np.zeros((150, 150))
    return _without_blocks(np.block([[zero, chosen], [chosen.T, zero]]), 4, rng, bipartite=True)


@worlds.world(
    run=hierarchical_communities,
    breaks=EDGES_INDEPENDENT,
    strengths=(0.0, 0.1, 0.3),
    broken_from=0.1,
)
def closed_squares(rng: np.random.Generator, strength: float) -> Instance:
    """300 nodes of mean degree 4, this share of ends of three edges joined, no triangle closed."""
    A = _independent(rng, np.full((300, 300), 4 / 300))
    open_pairs = (A @ A @ A > 0) & (A @ A == 0) & (A == 0)
    closed = np.triu(open_pairs & (rng.random(A.shape) < strength), 1)
    return _without_blocks(A + closed + closed.T, 4, rng)


@worlds.world(run=hierarchical_communities, breaks=AVERAGE_LINKAGE)
def top_down_on_a_ternary_tree(rng: np.random.Generator, strength: float) -> Instance:
    """Nine blocks of 30 in a ternary tree, split top-down."""
    a = np.arange(9)
    p = np.where(a[:, None] == a, 0.5, np.where(a[:, None] // 3 == a // 3, 0.15, 0.03))
    return _blocks(rng, p, np.full(9, 30), LEMMA, method="top-down", n_communities=9)


@worlds.world(run=hierarchical_communities, breaks=AVERAGE_LINKAGE)
def top_down_on_a_binary_tree(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 50 in a binary tree, split top-down."""
    p = btsbm_densities(np.array([0.05, 0.2, 0.6]))
    return _blocks(rng, p, np.full(4, 50), LEMMA, method="top-down", n_communities=4)


@worlds.world(run=hierarchical_communities, breaks=ONE_DENSITY)
def no_tree(rng: np.random.Generator, strength: float) -> Instance:
    """Four blocks of 60: one is close to two that are not close to each other."""
    p = _flat(4, 0.7, 0.05)
    for a, b, density in ((0, 2, 0.3), (1, 3, 0.2), (0, 1, 0.28)):
        p[a, b] = p[b, a] = density
    return _blocks(rng, p, np.full(4, 60), LEMMA, RECOVERY)


@worlds.world(
    run=hierarchical_communities,
    breaks=ONE_DENSITY,
    strengths=(0.0, 0.3, 0.6, 0.9),
    broken_from=0.6,
)
def chain(rng: np.random.Generator, strength: float) -> Instance:
    """Five blocks of 50 in a row, .5 inside, .08 between; the further the sparser, by this share."""
    apart = np.abs(np.subtract.outer(np.arange(5), np.arange(5)))
    p = np.where(apart == 0, 0.5, 0.08 * (1 - strength * (apart - 1) / 3))
    return _blocks(rng, p, np.full(5, 50), LEMMA, RECOVERY)


@worlds.world(
    run=hierarchical_communities, breaks=EQUAL_DEGREES, strengths=(4.0, 2.0), rising=False
)
def pareto_degrees(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 150 with Pareto degrees of this tail."""
    P = _pareto(rng, strength)
    labels = np.repeat([0, 1], 150)
    return Instance(
        {"graph": _independent(rng, P), "rng": int(rng.integers(1 << 31))},
        truths(P, labels, RECOVERY),
    )


@worlds.world(
    run=hierarchical_communities, breaks=EQUAL_DEGREES, strengths=(1.0, 1.5, 3.0), broken_from=3.0
)
def hubs(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 150; one node in ten has this many times the edges."""
    weight = np.where(rng.random(300) < 0.1, strength, 1.0)
    labels = np.repeat([0, 1], 150)
    P = np.minimum(TWO[np.ix_(labels, labels)] * np.outer(weight, weight), 1.0)
    truth = labels if strength == 1 else None
    return Instance(
        {"graph": _independent(rng, P), "rng": int(rng.integers(1 << 31))},
        lambda r: {RECOVERY: None} | dict(truths(P, truth, RECOVERY)(r)),
    )


def _mislabelled(rng: np.random.Generator, labels: np.ndarray) -> Instance:
    truth = np.repeat([0, 1], 150)
    A, _ = block_model(TWO, np.array([150, 150]), rng)
    right = hierarchical_communities(A, leaves=truth, labels_independent=True, rng=0)
    value = (math.nan, math.nan)
    if right.supported.any():
        value = wrong_nodes(right, TWO[np.ix_(truth, truth)])

    def judge(r: HierarchicalCommunities) -> dict[str, bool | None]:
        c = r.certificates[3]
        missed = c.measured is not None and not within(c, *value)
        return {RECOVERY: False if missed else None}

    arguments = {"graph": A, "leaves": labels, "labels_independent": True}
    return Instance({**arguments, "rng": int(rng.integers(1 << 31))}, judge)


@worlds.world(
    run=hierarchical_communities, breaks=LABELS_RIGHT, strengths=(0.02, 0.1), noticeable=False
)
def wrong_labels(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 150, this share of the labels given is of the other block."""
    labels = np.repeat([0, 1], 150)
    return _mislabelled(rng, np.where(rng.random(300) < strength, 1 - labels, labels))


@worlds.world(run=hierarchical_communities, breaks=LABELS_RIGHT, noticeable=False)
def leaf_cut_in_two(rng: np.random.Generator, strength: float) -> Instance:
    """Two blocks of 150, the labels given cut one of them in two at random."""
    labels = np.repeat([0, 1], 150)
    return _mislabelled(rng, np.where((labels == 1) & (rng.random(300) < 0.5), 2, labels))


# Mutants


def _narrower(original: Callable[..., Any]) -> Callable[..., Any]:
    def halved(successes: Any, trials: Any, delta: float) -> tuple[np.ndarray, np.ndarray]:
        low, high = original(successes, trials, delta)
        middle = np.divide(successes, trials, out=(low + high) / 2, where=np.asarray(trials) > 0)
        return (low + middle) / 2, (high + middle) / 2

    return halved


_HOME = "whp.graph._hierarchical_communities"
worlds.mutant(
    INVERSION,
    "leaves linked by counts instead of densities",
    target=f"{_HOME}.linkage:_link",
    change=lambda link: lambda edges, size: link(edges, np.ones_like(size)),
    world=small_blocks_beside_large,
)
worlds.mutant(
    TREE,
    "intervals half as wide",
    target=f"{_HOME}.support:simultaneous_proportions",
    change=_narrower,
    world=two_close_levels,
)
worlds.mutant(
    TREE,
    "rate of held-out edges taken for the density",
    target=f"{_HOME}.support:density_from_rate",
    change=lambda _: lambda r, f: r,
    world=half_held_out,
)
worlds.mutant(
    LEMMA,
    "the gap in place of half of it",
    target=f"{_HOME}.theorems:half_gap",
    change=lambda half: lambda gap: 2 * half(gap),
    world=large_leaves,
)
worlds.mutant(
    RECOVERY,
    "sum over the other nodes doubled",
    target=f"{_HOME}.theorems:exponent",
    change=lambda whole: lambda *given: whole(*given) * 2,
    world=near_the_threshold,
    strength=2.0,
)
worlds.mutant(
    RECOVERY,
    "upper bound taken for the lower",
    target=f"{_HOME}.theorems:fewest",
    change=lambda _: lambda overlap, own, other: (own + other) * overlap,
    world=bound_above_the_demand,
    caught_by="false fails",
)
