"""From a graph to its tree of communities."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import scipy.sparse as sp
from scipy.special import xlogy
from scipy.stats import binom

from whp.door import Above, AtLeast, Fraction, Range, front_door
from whp.graph._hierarchical_communities import spectral
from whp.graph._hierarchical_communities.fit import (
    LEVEL_CYCLES,
    Closed,
    Fit,
    fit,
    rewired,
    with_leaves,
)
from whp.graph._hierarchical_communities.graphs import adjacency, own_labels, split
from whp.graph._hierarchical_communities.linkage import average_linkage
from whp.graph._hierarchical_communities.result import HierarchicalCommunitiesResult
from whp.graph._hierarchical_communities.rewiring import few_enough
from whp.graph._hierarchical_communities.support import Evidence, Split
from whp.graph._hierarchical_communities.theorems import certificates
from whp.graph._hierarchical_communities.tree import Tree, node_pairs
from whp.io import Data
from whp.provenance import plain_generator
from whp.validate import as_rng

__all__ = ["hierarchical_communities"]

FITS = 0.05  # p-value from which on more communities explain what fewer do not
FITS_REWIRED = 0.01  # the same against rewired graphs, which show much less dependence
LEAST = 4  # nodes of a community, on average, where more of them are tried
MANY = 64  # communities up to which held-out edges are asked for their number
MOST = 200  # communities that are looked for unless told otherwise


@front_door
def hierarchical_communities(
    graph: Annotated[Any, Data("graph")],
    n_communities: Annotated[int, AtLeast(1)] | None = None,
    *,
    method: Literal["bottom-up", "top-down"] = "bottom-up",
    leaves: Literal["bethe-hessian", "adjacency"]
    | Mapping[Any, Any]
    | Sequence[Any]
    | np.ndarray = "bethe-hessian",
    refine: Annotated[int, AtLeast(0)] | None = None,
    weighted: bool = False,
    at_least: Annotated[float, Above(0)] | None = None,
    holdout: Annotated[float, Range(0.0, 1.0, open_high=True)] = 0.2,
    delta: Annotated[float, Fraction()] = 0.05,
    max_communities: Annotated[int, AtLeast(1)] | None = None,
    labels_independent: bool = False,
    rng: np.random.Generator | np.random.SeedSequence | int | None = None,
) -> HierarchicalCommunitiesResult:
    """Tree of nested communities, with a test of every branch.

    Parameters
    ----------
    graph : networkx or igraph graph, data frame, sparse or dense matrix
        Undirected. A data frame is an adjacency matrix with node names as index and columns.
    n_communities : int, optional
        Number of leaves; by default estimated on the training edges, by the negative eigenvalues of
        the Bethe-Hessian.
    method : {"bottom-up", "top-down"}
        Average linkage of spectral communities, or the baseline, recursive spectral bisection.
    leaves : {"bethe-hessian", "adjacency"}, sequence or mapping
        Eigenvectors that give the smallest communities, or labels of your own, e.g. Leiden's, which
        stay as they are: whole numbers or text, in the order of nodes or by name; -1 is outside.
    refine : int, optional
        Passes of likelihood refinement of the leaves; by default 1 for plain edges. The published
        method has none; without it plain spectral leaves are often too far from optimal.
    weighted : bool
        Use weights, whose unit does not matter. There is then no refinement, and no test of
        branches, which needs plain edges.
    at_least : float, optional
        Pairs of a smaller weight, or of fewer parallel edges, are no edges.
    holdout : float
        Share of the edges that is kept from the method and tests the branches; 0 leaves all of them
        to the method, and the branches untested.
    delta : float
        Probability with which each of the certificates may fail.
    max_communities : int, optional
        Most communities that are looked for when their number is estimated; 200 by default.
    labels_independent : bool
        Say that labels of your own come from elsewhere than the edges of this graph, so that edges
        can test them.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    HierarchicalCommunitiesResult
        Labels, tree, densities, support of every branch and the certificates.

    Raises
    ------
    ValueError
        If the graph is directed or empty, has negative or NaN weights, an argument is out of range,
        or one is given that would be ignored.
    TypeError
        If `graph` is not a graph.

    Examples
    --------
    >>> import networkx as nx
    >>> result = hierarchical_communities(
    ...     nx.planted_partition_graph(3, 50, 0.5, 0.02, seed=0), rng=0
    ... )
    >>> result.n_communities, sorted(result.sizes.tolist())
    (3, [50, 50, 50])
    """
    A, nodes = adjacency(graph, weighted, at_least)
    n = A.shape[0]
    if n_communities is not None and n_communities > n:
        raise ValueError(f"n_communities must be at most {n}, the nodes, got {n_communities}")
    own = None if isinstance(leaves, str) else own_labels(leaves, nodes)
    _refuse_ignored(
        own, method, leaves, refine, weighted, n_communities, max_communities, labels_independent
    )
    generator = as_rng(rng)
    limit = MOST if max_communities is None else max_communities

    # Split before anything is looked at: whether a node has edges, their number, the labels.
    train, test = split(A, holdout, generator) if holdout > 0 else (A, sp.csr_array(A * 0))
    if own is not None:
        linked = own >= 0
    else:
        linked = np.asarray(train.sum(axis=1)).ravel() > 0
        if not linked.any():
            linked[:] = True  # without any edge all nodes are one community
    train, test, inside = (M[linked][:, linked] for M in (train, test, A))
    labels, tree, values = _leaves(
        train,
        own[linked] if own is not None else None,
        method,
        str(leaves) if own is None else "",
        n_communities,
        refine,
        weighted,
        limit,
        generator,
    )
    k = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=k)
    counts = spectral.block_counts(train, labels, k)
    if tree is None:
        tree = Tree(average_linkage(counts, sizes)[0])
    first = np.full(k, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    position, tree = tree.canonical(sizes, first)
    order = np.argsort(position)
    labels, sizes, counts = position[labels], sizes[order], counts[np.ix_(order, order)]
    held = spectral.block_counts(test, labels, k)

    fitted = None if weighted else fit(inside, labels, tree, counts + held, node_pairs(sizes))
    evidence = Evidence(
        tree=tree,
        sizes=sizes,
        train=counts,
        test=held,
        holdout=holdout,
        delta=delta,
        split=_how_split(own is not None, labels_independent, holdout, generator),
        bottom_up=method == "bottom-up",
        weighted=weighted,
        fit=fitted,
        finer=None if fitted is None else _finer(train, test, labels, fitted),
    )
    on_all = None
    if own is None and n_communities is None and method == "bottom-up" and holdout > 0:
        on_all = _communities_of_all(A, limit, k)
    full = np.full(n, -1, dtype=np.int64)
    full[linked] = labels
    return HierarchicalCommunitiesResult(
        labels=full,
        nodes=nodes,
        linkage=_linkage(tree, evidence.built),
        density=evidence.density,
        support=evidence.margins,
        inversions=evidence.inversions,
        n_communities=k,
        n_communities_on_all_edges=on_all,
        eigenvalues=values,
        sizes=sizes,
        delta=delta,
        certificates=certificates(evidence),
        built=evidence.built,
        between=counts / node_pairs(sizes).clip(1),
    )


def _refuse_ignored(
    own: np.ndarray | None,
    method: str,
    leaves: Any,
    refine: int | None,
    weighted: bool,
    n_communities: int | None,
    max_communities: int | None,
    labels_independent: bool,
) -> None:
    """Whatever would be given and ignored."""
    if own is None:
        if labels_independent:
            raise ValueError("labels_independent is about leaves of your own, and none are given")
        if method == "top-down" and leaves != "bethe-hessian":
            raise ValueError("leaves must be left out for method 'top-down', which makes its own")
    else:
        if method == "top-down":
            raise ValueError(
                "leaves must be 'bethe-hessian' for method 'top-down', which makes its own"
            )
        there = int(own.max()) + 1
        if n_communities not in (None, there):
            raise ValueError(
                f"n_communities must agree with leaves, which has {there} communities, got "
                f"{n_communities}"
            )
    if refine and (own is not None or method == "top-down" or weighted):
        why = "weights" if weighted else "leaves of your own" if own is not None else "top-down"
        raise ValueError(f"refine must be 0 with {why}: there is no refinement, got {refine}")
    if max_communities is not None and (own is not None or n_communities is not None):
        raise ValueError("max_communities is only looked at where n_communities is estimated")


def _how_split(own: bool, independent: bool, holdout: float, rng: np.random.Generator) -> Split:
    if holdout == 0:
        return "none"
    if own:
        return "labels said independent" if independent else "labels given"
    return "ours" if plain_generator(rng) else "own generator"


def _leaves(
    train: sp.csr_array,
    own: np.ndarray | None,
    method: str,
    kind: str,
    n_communities: int | None,
    refine: int | None,
    weighted: bool,
    limit: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, Tree | None, np.ndarray]:
    """Label of each node, the tree where recursive splits made it, and eigenvalues."""
    if own is not None:
        return own, None, np.empty(0)
    if n_communities is not None and not train.nnz:
        raise ValueError(
            f"graph has no edge left to train on, and {n_communities} communities were asked for: "
            "a smaller holdout keeps more, and n_communities=None finds one"
        )
    k = None if n_communities is None else min(n_communities, train.shape[0])
    if k != n_communities:
        warnings.warn(
            f"{n_communities} communities were asked for, but only {k} nodes have a training edge",
            stacklevel=4,
        )
    if method == "top-down":
        parts, splits = spectral.bisect(train, k, limit, rng)
        labels = np.unique(parts, return_inverse=True)[1].astype(np.int64)
        return labels, _tree_of_splits(parts, splits), np.empty(0)
    labels, values = spectral.spectral_leaves(train, k, kind, limit, rng)
    if k is None and int((values < 0).sum()) >= limit < train.shape[0]:
        warnings.warn(
            f"there may be more than {limit} communities; raise max_communities", stacklevel=4
        )
    if not weighted:
        labels = spectral.refine(train, labels, 1 if refine is None else refine)
    return labels, None, values


def _finer(
    train: sp.csr_array, test: sp.csr_array, labels: np.ndarray, fitted: Fit
) -> tuple[int, Closed] | None:
    """A larger number of communities whose block model explains cycles that the leaves do not.

    Leaves that are too coarse have more cycles than their densities make though edges are
    independent. Twice or four times as many are tried, from the training edges, then twice as many
    from all edges, and must fit well: dependent edges can be explained by many small communities,
    though not by so few. In a small graph, where rewiring tells these apart, as many more are tried
    as held-out edges confirm.
    """
    if fitted.scaled.p >= LEVEL_CYCLES:
        return None
    A = sp.csr_array(train + test)
    small = few_enough(A)

    def described(leaves: np.ndarray) -> tuple[int, np.ndarray, Closed]:
        found = int(leaves.max()) + 1
        pairs = node_pairs(np.bincount(leaves, minlength=found))
        density = spectral.block_counts(A, leaves, found) / pairs.clip(1)
        return found, density, with_leaves(A, fitted.scaled, leaves, density)

    # What only rewiring refutes, only rewiring can explain.
    subtle = small and described(labels)[2].p >= LEVEL_CYCLES
    for finer, plain in _candidates(train, test, A, labels, small):
        found, density, closed = described(finer)
        if closed.p < FITS:
            continue
        least = FITS_REWIRED if subtle and plain else FITS
        if subtle or not plain:
            closed = rewired(A, closed, finer, density)
        if min(closed.p, closed.fits) >= least:
            return found, closed
    return None


def _candidates(
    train: sp.csr_array, test: sp.csr_array, A: sp.csr_array, labels: np.ndarray, small: bool
) -> Iterator[tuple[np.ndarray, bool]]:
    """Communities that are tried in turn, and whether they need not be rewired."""
    k = int(labels.max()) + 1

    def refined(*tries: tuple[sp.csr_array, int]) -> Iterator[np.ndarray]:
        yield from (_refined(M, many) for M, many in tries if many <= A.shape[0] / LEAST)

    for found in refined((train, 2 * k), (train, 4 * k), (A, 2 * k)):
        yield found, True
    for times in (1, 2, 3, 4):
        yield _two_sided(A, times), not small
    if small:
        yield _halved(A, labels), False
        for found in refined((A, k)):
            yield found, False
        if many := _confirmed(train, test, labels):
            for found in refined((A, many), (A, round(1.2 * many)), (A, round(many / 1.2))):
                yield found, False


def _two_sided(A: sp.csr_array, times: int) -> np.ndarray:
    """Communities that avoid themselves or overlap, which no number of the others explains."""
    most = max(1, min(MANY, A.shape[0] // LEAST))
    labels = spectral.two_sided_leaves(A, times, most, np.random.default_rng(0), starts=3)
    return spectral.refine(A, labels, 3)


def _halved(A: sp.csr_array, labels: np.ndarray) -> np.ndarray:
    """Every leaf in two, by how many edges its nodes have to each leaf.

    A small community under a large one is hidden from eigenvectors and not from these counts.
    """
    from sklearn.cluster import KMeans

    k = int(labels.max()) + 1
    edges = np.sqrt(A @ np.eye(k)[labels])  # whose noise is alike everywhere
    halves = labels.copy()
    for leaf in range(k):
        nodes = np.flatnonzero(labels == leaf)
        if len(nodes) >= 2 * LEAST:
            halves[nodes] += k * KMeans(2, n_init=10, random_state=0).fit_predict(edges[nodes])
    return spectral.refine(A, np.unique(halves, return_inverse=True)[1].astype(np.int64), 3)


def _refined(graph: sp.csr_array, many: int) -> np.ndarray:
    """So many spectral communities; a source of randomness of its own."""
    rng = np.random.default_rng(0)
    labels, _ = spectral.spectral_leaves(graph, many, "bethe-hessian", many, rng, starts=3)
    return spectral.refine(graph, labels, 1)


def _confirmed(train: sp.csr_array, test: sp.csr_array, labels: np.ndarray) -> int | None:
    """The number of communities, by training edges, in which held-out edges are likeliest.

    By one density within and one between. None where those inside are not surely denser than the
    leaves.
    """
    n, k = len(labels), int(labels.max()) + 1
    total, free = test.nnz / 2, n * (n - 1) / 2 - train.nnz / 2

    def inside(labels: np.ndarray) -> tuple[float, float]:
        sizes = np.bincount(labels)
        held, built = (
            np.trace(spectral.block_counts(M, labels, len(sizes))) for M in (test, train)
        )
        return float(held), float((sizes * (sizes - 1)).sum() / 2 - built)

    coarse, best, many, worse = inside(labels), -math.inf, None, 0
    wanted = 1.4 * k
    while wanted <= min(n / (2 * LEAST), MANY) and worse < 3:
        held, pairs = inside(_refined(train, round(wanted)))
        within, between = held / max(pairs, 1), (total - held) / max(free - pairs, 1)
        value = float(xlogy(held, within) + xlogy(pairs - held, 1 - within))
        value += float(
            xlogy(total - held, between) + xlogy(free - pairs - total + held, 1 - between)
        )
        worse += 1
        if value > best:
            best, worse = value, 0
            denser = binom.sf(held - 1, pairs, coarse[0] / max(coarse[1], 1)) < LEVEL_CYCLES
            many = round(wanted) if denser else None
        wanted *= 1.4
    return many


def _communities_of_all(A: sp.csr_array, limit: int, near: int) -> int:
    """How many communities all edges show; a source of randomness of its own."""
    linked = np.asarray(A.sum(axis=1)).ravel() > 0
    if not linked.any():
        return 1
    return spectral.count_communities(A[linked][:, linked], limit, np.random.default_rng(0), near)


def _tree_of_splits(parts: np.ndarray, splits: list[tuple[int, int, int]]) -> Tree:
    """The tree of recursive splits, the last split first."""
    name = {int(part): i for i, part in enumerate(np.unique(parts))}
    leaves = len(name)
    children: list[tuple[int, int]] = []
    for part, left, right in reversed(splits):  # a part is split before its parts are
        name[part] = leaves + len(children)
        children.append((name[left], name[right]))
    return Tree(np.array(children, dtype=np.int64).reshape(-1, 2))


def _linkage(tree: Tree, built: np.ndarray) -> np.ndarray:
    merges = built[tree.leaves :]
    with np.errstate(divide="ignore"):
        distance = -np.log(merges / max(built.max(initial=0), np.finfo(float).tiny))
    finite = distance[np.isfinite(distance)]
    distance[~np.isfinite(distance)] = 1 + finite.max(initial=0)
    below = tree.below[tree.leaves :].sum(axis=1)
    return np.column_stack([tree.children, distance, below]).reshape(-1, 4).astype(np.float64)
