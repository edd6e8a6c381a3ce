"""The front door, its result and the estimator."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClusterMixin

from whp.certificate import Certificate, Verdict
from whp.graph._hierarchical_communities import guarantee
from whp.graph._hierarchical_communities.linkage import average_linkage
from whp.graph._hierarchical_communities.spectral import (
    bisect,
    block_counts,
    refine,
    spectral_leaves,
)
from whp.graph._hierarchical_communities.tree import Tree
from whp.io import Data
from whp.result import Result
from whp.validate import as_choice, as_int, as_labels, as_real

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["HierarchicalCommunities", "HierarchicalCommunityClustering", "hierarchical_communities"]


@dataclass(frozen=True, eq=False)
class HierarchicalCommunities(Result):
    """A tree of communities.

    Attributes
    ----------
    labels : (n,) ndarray of int
        Leaf of each node, 0..K−1 from left to right in the tree; −1 for a node without edges.
    nodes : tuple
        The nodes in the order of `labels`, as the graph named them.
    linkage : (K − 1, 4) ndarray
        scipy's linkage matrix: the two merged, their distance −log(density / largest density) on the edges that built the tree,
        and the number of leaves; the nodes are counted in `table`. A density of 0 is at 1 + the largest finite distance.
    density : (2K − 1,) ndarray
        Density on all edges: inside each leaf, then between the two children of each merge.
    support : (2K − 2, 3) ndarray
        Margin p(child) − p(parent) of every branch with its simultaneous interval, indexed by child; NaN for weighted graphs.
    inversions : int
        Internal branches that are sparser than the branch above.
    n_communities : int
        K.
    eigenvalues : ndarray
        Eigenvalues of the Bethe-Hessian that were looked at, ascending; empty where none were.
    sizes : (K,) ndarray of int
        Nodes of each leaf.
    delta : float
        Failure probability of the certificates.
    certificates : tuple of Certificate
        ``no-inversion``, ``supported-tree``, ``linkage-lemma``, ``exact-recovery``.
    """

    labels: np.ndarray
    nodes: tuple[Any, ...]
    linkage: np.ndarray
    density: np.ndarray
    support: np.ndarray
    inversions: int
    n_communities: int
    eigenvalues: np.ndarray
    sizes: np.ndarray
    delta: float
    certificates: tuple[Certificate, ...]
    built: np.ndarray = field(repr=False, default_factory=lambda: np.ones(1))

    @cached_property
    def tree(self) -> Tree:
        """The tree over the leaves."""
        return Tree(self.linkage[:, :2])

    @property
    def supported(self) -> np.ndarray:
        """Which branches the graph supports: those whose interval of the margin is positive; none where the test is void."""
        void = self.certificates[1].verdict is Verdict.VOID
        return np.zeros(len(self.support), dtype=bool) if void else self.support[:, 1] > 0

    def _spread(self, cluster: np.ndarray) -> np.ndarray:
        return np.where(self.labels >= 0, cluster[np.maximum(self.labels, 0)], -1)

    def cut(self, k: int) -> np.ndarray:
        """Labels of exactly `k` communities, 1 ≤ k ≤ K: the sparsest splits are made, never a child's before its parent's."""
        k = as_int(k, "k", low=1, high=self.n_communities)
        return self._spread(self.tree.cut(k, self.built))

    def cut_density(self, p: float) -> np.ndarray:
        """Labels when every split of density below `p` that the root reaches is made."""
        return self._spread(self.tree.cut_density(as_real(p, "p", low=0), self.built))

    def cut_depth(self, depth: int) -> np.ndarray:
        """Labels of the communities at a depth of the tree, 0 being the whole; shallower leaves stay as they are."""
        depth = as_int(depth, "depth", low=0)
        ways = guarantee.paths(
            self.tree, np.append(np.ones(self.tree.nodes - 1, dtype=bool), False)
        )
        cluster = [-1 if depth == 0 or not w else w[min(depth, len(w)) - 1] for w in ways]
        return self._spread(np.unique(cluster, return_inverse=True)[1])

    def contract(self) -> nx.DiGraph:
        """The tree of the supported branches alone, from parent to child; it may have nodes of many children.

        A leaf whose branch is not supported is absorbed by its parent: attribute ``leaves`` of a node lists the leaves that
        belong to it and to none of its children, ``size`` counts the nodes below, ``density`` is its density.
        """
        kept = np.append(self.supported, False)
        return self._digraph(kept)

    def to_networkx(self) -> nx.DiGraph:
        """The whole binary tree, from parent to child, with the attributes of :meth:`contract` and ``supported``."""
        return self._digraph(np.append(np.ones(self.tree.nodes - 1, dtype=bool), False))

    def _digraph(self, kept: np.ndarray) -> nx.DiGraph:
        import networkx as nx

        graph = nx.DiGraph()
        tree = self.tree
        for node in range(tree.root, -1, -1):
            if node != tree.root and not kept[node]:
                continue
            graph.add_node(
                node,
                size=int(self.sizes[tree.below[node]].sum()),
                density=float(self.density[node]),
                leaves=[],
                supported=bool(node != tree.root and self.supported[node]),
            )
            if node != tree.root:
                parent = int(tree.parent[node])
                while parent != tree.root and not kept[parent]:
                    parent = int(tree.parent[parent])
                graph.add_edge(parent, node)
        for leaf, way in enumerate(guarantee.paths(tree, kept)):
            graph.nodes[way[-1] if way else tree.root]["leaves"].append(leaf)
        return graph

    def to_newick(self) -> str:
        """The tree in Newick format: leaves ``c0_n24`` (community 0 of 24 nodes), branch lengths from `linkage`."""
        height = np.concatenate([np.zeros(self.n_communities), self.linkage[:, 2]])
        text = [f"c{i}_n{s}" for i, s in enumerate(self.sizes)]
        for i, (left, right) in enumerate(self.tree.children):
            top = height[self.n_communities + i]
            text.append(
                "(" + ",".join(f"{text[c]}:{top - height[c]:.6g}" for c in (left, right)) + ")"
            )
        return text[-1] + ";"

    @property
    def table(self) -> pd.DataFrame:
        """One row a tree node: its parent, size, density, margin to the parent with interval, and whether that is supported."""
        import pandas as pd

        tree = self.tree
        margins = np.vstack([self.support, np.full((1, 3), np.nan)])
        return pd.DataFrame(
            {
                "node": np.arange(tree.nodes),
                "parent": tree.parent,
                "size": tree.below @ self.sizes,
                "density": self.density,
                "margin": margins[:, 0],
                "low": margins[:, 1],
                "high": margins[:, 2],
                "supported": np.append(self.supported, False),
            }
        )

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Sizes, and how much of the tree is supported."""
        inner = self.supported[self.n_communities :]
        return {
            "nodes": len(self.labels),
            "nodes_without_edges": int((self.labels < 0).sum()),
            "communities": self.n_communities,
            "supported_communities": f"{int(self.supported[: self.n_communities].sum())} of {self.n_communities}",
            "supported_inner_branches": f"{int(inner.sum())} of {len(inner)}",
            "inversions": self.inversions,
        }

    def artifacts(self) -> dict[str, Any]:
        """Labels, the tree as a table and in Newick format, and the arrays."""
        import pandas as pd

        arrays = {
            k: getattr(self, k) for k in ("labels", "linkage", "density", "support", "eigenvalues")
        }
        labels = pd.DataFrame({"node": [str(v) for v in self.nodes], "label": self.labels})
        return {
            "arrays.npz": arrays,
            "labels.csv": labels,
            "tree.csv": self.table,
            "tree.nwk": self.to_newick(),
        }

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.tree import Tree as RichTree

        def name(node: int) -> str:
            kind = f"community {node}" if node < self.n_communities else "merge"
            mark = ""
            if node != self.tree.root:
                mark = " [green]✓[/]" if self.supported[node] else " [yellow]?[/]"
            size = int(self.sizes[self.tree.below[node]].sum())
            return f"{kind}, {size} nodes, density {self.density[node]:.4g}{mark}"

        drawn = {self.tree.root: RichTree(name(self.tree.root))}
        for node in range(self.tree.root, self.n_communities - 1, -1):
            for child in self.tree.children[node - self.n_communities]:
                drawn[int(child)] = drawn[node].add(name(int(child)))
        return Group(
            super().__rich__(),
            drawn[self.tree.root],
            "✓ denser than its surroundings at level 1 − delta, ? not shown to be",
        )

    def plot(self, ax: Axes | None = None) -> Axes:
        """Dendrogram of the leaves over edge density; a filled mark on each branch that the graph supports."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        tree = self.tree
        lowest = self.density[self.density > 0].min(initial=1.0)
        height = np.maximum(
            self.density, lowest / 3
        )  # a density of 0 has no place on a logarithmic axis
        x = np.zeros(tree.nodes)
        x[: tree.leaves] = np.arange(tree.leaves)
        for i, pair in enumerate(tree.children):
            node = tree.leaves + i
            x[node] = x[pair].mean()
            ax.plot(x[pair], height[[node, node]], color="0.5", linewidth=1.5, zorder=1)
        for child in range(tree.nodes - 1):
            parent = tree.parent[child]
            ax.plot(
                x[[child, child]], height[[child, parent]], color="0.5", linewidth=1.5, zorder=1
            )
        marks = np.arange(tree.nodes - 1)
        for chosen, fill, label in (
            (self.supported, "#1f9d6b", "supported"),
            (~self.supported, "none", "not shown"),
        ):
            at = marks[chosen]
            ax.scatter(
                x[at],
                height[at],
                s=36,
                facecolor=fill,
                edgecolor="#1f9d6b",
                linewidth=1.3,
                label=label,
                zorder=2,
            )
        ax.set_yscale("log")
        ax.set_xticks(
            np.arange(tree.leaves),
            [str(s) for s in self.sizes],
            rotation=90 if tree.leaves > 20 else 0,
        )
        ax.set_xlabel("communities, by number of nodes")
        ax.set_ylabel("edge density")
        if tree.leaves > 1:
            ax.legend(title="branch")
        return ax


def _adjacency(graph: Any, weighted: bool) -> tuple[sp.csr_array, tuple[Any, ...]]:
    """Symmetric adjacency without diagonal and the names of the nodes."""
    if hasattr(graph, "is_directed") and hasattr(graph, "edges"):
        import networkx as nx

        if graph.is_directed():
            raise ValueError(
                "graph must be undirected, got a directed one; graph.to_undirected() makes it so"
            )
        if graph.number_of_nodes() == 0:
            raise ValueError("graph must have nodes, got none")
        if graph.is_multigraph() and not weighted:
            warnings.warn(
                "graph has parallel edges, counted once; weighted=True adds them up", stacklevel=3
            )
        nodes = tuple(graph)
        try:
            plain: dict[str, Any] = {} if weighted else {"weight": None}
            A = nx.to_scipy_sparse_array(graph, nodelist=list(nodes), dtype=np.float64, **plain)
        except (TypeError, ValueError) as error:
            raise ValueError(f"graph must have numbers as weights: {error}") from error
    else:
        if sp.issparse(graph):
            A = sp.csr_array(graph)
        else:
            try:
                dense = np.asarray(graph)
            except ValueError as error:
                raise TypeError(
                    f"graph must be a networkx graph, a sparse or a dense matrix: {error}"
                ) from error
            if dense.dtype.kind not in "fiub" or dense.ndim != 2:
                raise TypeError(
                    "graph must be a networkx graph, a sparse or a dense matrix of numbers, got "
                    f"{type(graph).__name__} of dtype {dense.dtype} and shape {dense.shape}"
                )
            if not np.isfinite(dense).all():
                raise ValueError("graph must not have NaN or infinite weights")
            A = sp.csr_array(dense)
        if A.dtype.kind not in "fiub":
            raise TypeError(f"graph must have real weights, got dtype {A.dtype}")
        A = A.astype(np.float64)
        if A.shape[0] != A.shape[1] or A.shape[0] == 0:
            raise ValueError(
                f"graph must be a square matrix with at least one row, got shape {A.shape}"
            )
        if not np.isfinite(A.data).all():
            raise ValueError("graph must not have NaN or infinite weights")
        scale = np.abs(A.data).max(initial=0)
        if abs(A - A.T).max() > 1e-10 * scale:
            raise ValueError(
                "graph must be undirected, got a matrix that is not symmetric; A + A.T makes it so"
            )
        A = sp.csr_array((A + A.T) / 2)
        nodes = tuple(range(A.shape[0]))
    if not np.isfinite(A.data).all() or (A.data < 0).any():
        raise ValueError("graph must have weights that are finite and not negative")
    if (A.diagonal() != 0).any():
        warnings.warn("graph has self-loops, which are dropped", stacklevel=3)
        A.setdiag(0)
    A.eliminate_zeros()
    if not weighted:
        A.data[:] = 1.0
    return sp.csr_array(A), nodes


def _split(
    A: sp.csr_array, f: float, rng: np.random.Generator
) -> tuple[sp.csr_array, sp.csr_array]:
    """Training and test graph: each edge is held out with probability f, once for both of its directions."""
    upper = sp.coo_array(sp.triu(A, 1))
    out = rng.random(upper.nnz) < f
    parts = []
    for chosen in (~out, out):
        part = sp.coo_array(
            (upper.data[chosen], (upper.coords[0][chosen], upper.coords[1][chosen])), shape=A.shape
        )
        parts.append(sp.csr_array(part + part.T))
    return parts[0], parts[1]


def hierarchical_communities(
    graph: Annotated[Any, Data("graph")],
    n_communities: int | None = None,
    *,
    method: Literal["bottom-up", "top-down"] = "bottom-up",
    leaves: Literal["bethe-hessian", "adjacency"] | Sequence[int] | np.ndarray = "bethe-hessian",
    refine: int = 1,
    weighted: bool = False,
    holdout: float = 0.2,
    delta: float = 0.05,
    max_communities: int = 200,
    labels_independent: bool = False,
    rng: np.random.Generator | int | None = None,
) -> HierarchicalCommunities:
    """Tree of nested communities, with a test of every branch.

    Parameters
    ----------
    graph : networkx graph, sparse or dense matrix
        Undirected.
    n_communities : int, optional
        Number of leaves; estimated by the negative eigenvalues of the Bethe-Hessian if not given.
    method : {"bottom-up", "top-down"}
        Average linkage of spectral communities, or the baseline, recursive spectral bisection.
    leaves : {"bethe-hessian", "adjacency"} or sequence of int
        Eigenvectors that give the smallest communities, or your own labels, e.g. Leiden's, which are then left as they are.
    refine : int
        Passes of likelihood refinement of the leaves. The published method has none; without it plain spectral leaves are
        often too far from optimal for the recovery threshold to apply.
    weighted : bool
        Use weights. Refinement and the tests of branches need plain edges and are then left out.
    holdout : float
        Fraction of the edges that is kept from the method and used to test the branches it found; 0 leaves them untested.
    delta : float
        Probability with which the certificates may fail.
    max_communities : int
        Most communities that are looked for when their number is estimated.
    labels_independent : bool
        Say that labels of your own come from elsewhere than the edges of this graph, so that edges can test them.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    HierarchicalCommunities
        Labels, tree, densities, support of every branch and the certificates.

    Raises
    ------
    ValueError
        If the graph is directed or empty, has negative or NaN weights, or an argument is out of range.
    TypeError
        If `graph` is not a graph.

    Examples
    --------
    >>> import networkx as nx
    >>> result = hierarchical_communities(nx.planted_partition_graph(3, 50, 0.5, 0.02, seed=0), rng=0)
    >>> result.n_communities, sorted(result.sizes.tolist())
    (3, [50, 50, 50])
    """
    A, nodes = _adjacency(graph, weighted)
    n = A.shape[0]
    if n_communities is not None:
        n_communities = as_int(n_communities, "n_communities", low=1, high=n)
    as_choice(method, "method", ("bottom-up", "top-down"))
    passes = as_int(refine, "refine", low=0)
    holdout = as_real(holdout, "holdout", low=0, high=1)
    if holdout == 1:
        raise ValueError("holdout must be in [0, 1), got 1")
    delta = as_real(delta, "delta", low=0, high=1, open_ends=True)
    limit = as_int(max_communities, "max_communities", low=1)
    own = None
    if not isinstance(leaves, str):
        own = as_labels(leaves, "leaves", size=n)
        if method == "top-down":
            raise ValueError(
                "leaves must be 'bethe-hessian' or 'adjacency' for method 'top-down', which makes its own"
            )
        found = len(np.unique(own))
        if n_communities not in (None, found):
            raise ValueError(
                f"n_communities must agree with leaves, which has {found} communities, got {n_communities}"
            )
    else:
        as_choice(leaves, "leaves", ("bethe-hessian", "adjacency"))
    rng = np.random.default_rng(rng)

    linked = np.asarray(A.sum(axis=1)).ravel() > 0
    if own is not None or not linked.any():
        linked[:] = (
            True  # the user's labels stand, and without any edge all nodes are one community
        )
    inside = A[linked][:, linked]
    train, test = _split(inside, holdout, rng) if holdout > 0 else (inside, inside * 0)
    values = np.empty(0)
    tree = None
    if own is not None:
        labels = np.unique(own[linked], return_inverse=True)[1].astype(np.int64)
    elif method == "top-down":
        parts, splits = bisect(train, n_communities, limit, rng)
        labels = np.unique(parts, return_inverse=True)[1].astype(np.int64)
        tree = _tree_of_splits(parts, splits)
    else:
        k = None if n_communities is None else min(n_communities, int(linked.sum()))
        labels, values = spectral_leaves(train, k, str(leaves), limit, rng)
        if not weighted:
            labels = _refined(train, labels, passes)
    k = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=k)
    counts = block_counts(train, labels, k)
    if tree is None:
        tree = Tree(average_linkage(counts, sizes)[0])
    first = np.full(k, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    position, tree = tree.canonical(sizes, first)
    order = np.argsort(position)
    labels, sizes, counts = position[labels], sizes[order], counts[np.ix_(order, order)]

    evidence = guarantee.Evidence(
        tree,
        sizes,
        counts,
        block_counts(test, labels, k),
        _density(tree, counts, sizes),
        holdout,
        delta,
        method == "bottom-up",
        weighted,
        own is not None,
        labels_independent,
    )
    margins = guarantee.support(evidence)
    full = np.full(n, -1, dtype=np.int64)
    full[linked] = labels
    return HierarchicalCommunities(
        labels=full,
        nodes=nodes,
        linkage=_linkage(tree, evidence.built),
        density=evidence.density,
        support=margins,
        inversions=guarantee.count_inversions(tree, evidence.built),
        n_communities=k,
        eigenvalues=values,
        sizes=sizes,
        delta=delta,
        certificates=guarantee.all_certificates(evidence, margins, rng),
        built=evidence.built,
    )


_refined = refine  # the option of this name hides the function inside the front door


def _density(tree: Tree, counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    pairs = np.outer(sizes, sizes).astype(np.float64)
    np.fill_diagonal(pairs, sizes * (sizes - 1) / 2)
    total = tree.totals(pairs)
    return np.divide(tree.totals(counts), total, out=np.zeros_like(total), where=total > 0)


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


class HierarchicalCommunityClustering(ClusterMixin, BaseEstimator):
    """scikit-learn estimator of :func:`hierarchical_communities` on an adjacency matrix.

    Parameters
    ----------
    n_clusters : int, optional
        Clusters of `labels_`, by the cut of the estimated tree; its leaves if not given.
    depth_cut : int, optional
        Cut at this depth of the tree instead.
    metric : {"precomputed"}
        X is an adjacency matrix.
    weighted : bool
        Use weights.
    random_state : int, RandomState or None
        Source of randomness.

    Attributes
    ----------
    labels_ : (n,) ndarray of int
        Cluster of each node; −1 for a node without edges.
    children_ : (K − 1, 2) ndarray of int
        The two merged at each step.
    distances_ : (K − 1,) ndarray
        Their distance.
    n_leaves_, n_clusters_ : int
        Leaves of the tree and clusters of `labels_`.
    result_ : HierarchicalCommunities
        The whole result, with its certificates.
    """

    def __init__(
        self,
        n_clusters: Any = None,  # checked by fit, as scikit-learn wants it
        depth_cut: Any = None,
        metric: Any = "precomputed",
        weighted: Any = False,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.depth_cut = depth_cut
        self.metric = metric
        self.weighted = weighted
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = True
        tags.input_tags.positive_only = True
        tags.input_tags.sparse = True
        return tags

    def fit(self, X: Any, y: Any = None) -> HierarchicalCommunityClustering:
        """Find the tree of the graph with adjacency matrix `X`; `y` is ignored."""
        from sklearn.utils import check_random_state
        from sklearn.utils.validation import validate_data

        as_choice(self.metric, "metric", ("precomputed",))
        X = validate_data(self, X, accept_sparse="csr", ensure_min_samples=2)
        if X.shape[0] != X.shape[1]:
            raise ValueError(f"X must be a square adjacency matrix, got shape {X.shape}")
        if self.n_clusters is not None:
            as_int(self.n_clusters, "n_clusters", low=1, high=X.shape[0])
        if X.min() < 0:
            raise ValueError(
                "Negative values in data: X must be an adjacency matrix with weights >= 0"
            )
        seed = int(check_random_state(self.random_state).randint(1 << 31))
        self.result_ = hierarchical_communities(X, weighted=bool(self.weighted), rng=seed)
        if self.n_clusters is not None and self.n_clusters > self.result_.n_communities:
            self.result_ = hierarchical_communities(
                X, self.n_clusters, weighted=bool(self.weighted), rng=seed
            )
        self.n_leaves_ = self.result_.n_communities
        self.children_ = self.result_.linkage[:, :2].astype(np.int64)
        self.distances_ = self.result_.linkage[:, 2]
        if self.depth_cut is not None:
            self.labels_ = self.result_.cut_depth(self.depth_cut)
        else:
            self.labels_ = self.result_.cut(min(self.n_clusters or self.n_leaves_, self.n_leaves_))
        self.n_clusters_ = int(self.labels_.max()) + 1
        return self
