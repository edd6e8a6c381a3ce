"""The tree of communities as a user gets it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Certificate, Verdict
from whp.graph._hierarchical_communities.tree import Tree, paths
from whp.result import PALETTE, Result
from whp.validate import as_int, as_real

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["HierarchicalCommunitiesResult"]


def _texts(nodes: tuple[Any, ...]) -> list[str]:
    """Names as text; as Python writes them where two would be alike, as 1 and "1" are."""
    texts = [str(v) for v in nodes]
    written = [repr(v) for v in nodes]
    return texts if len(set(texts)) == len(set(written)) else written


@dataclass(frozen=True, eq=False)
class HierarchicalCommunitiesResult(Result):
    """A tree of communities.

    Attributes
    ----------
    labels : (n,) ndarray of int
        Leaf of each node, 0..K-1 from left to right in the tree; -1 for a node outside: without a
        training edge, or said to be outside.
    nodes : tuple
        The nodes in the order of `labels`, as the graph named them.
    linkage : (K - 1, 4) ndarray
        scipy's linkage matrix: the two merged, their distance -log(density / largest density) on
        the edges that built the tree, and the number of leaves; the nodes are counted in `table`. A
        density of 0 is at 1 + the largest finite distance.
    density : (2K - 1,) ndarray
        Density on all edges: inside each leaf, then between the two children of each merge.
    support : (2K - 2, 3) ndarray
        Margin p(child) - p(parent) of every branch with its simultaneous interval, indexed by
        child; NaN for weighted graphs.
    inversions : int
        Internal branches that are sparser than the branch above.
    n_communities : int
        K.
    n_communities_on_all_edges : int or None
        How many communities the same estimate sees on all edges, held-out ones too; None where K was
        given or nothing held out.
    eigenvalues : ndarray
        Eigenvalues of the Bethe-Hessian that were looked at, ascending; empty where none were.
    sizes : (K,) ndarray of int
        Nodes of each leaf.
    delta : float
        Failure probability of the certificates.
    certificates : tuple of Certificate
        ``no-inversion``, ``supported-tree``, ``linkage-lemma``, ``exact-recovery``.
    built : (2K - 1,) ndarray
        Like `density`, on the edges that built the tree.
    between : (K, K) ndarray
        Density between leaves on the edges that built the tree.
    """

    labels: np.ndarray
    nodes: tuple[Any, ...]
    linkage: np.ndarray
    density: np.ndarray
    support: np.ndarray
    inversions: int
    n_communities: int
    n_communities_on_all_edges: int | None
    eigenvalues: np.ndarray
    sizes: np.ndarray
    delta: float
    certificates: tuple[Certificate, ...]
    built: np.ndarray = field(repr=False)
    between: np.ndarray = field(repr=False)

    @cached_property
    def tree(self) -> Tree:
        """The tree over the leaves."""
        return Tree(self.linkage[:, :2])

    @property
    def supported(self) -> np.ndarray:
        """Which branches the graph supports: those of a positive interval; none where it is void."""
        return (self.support[:, 1] > 0) & (not self.void)

    @property
    def void(self) -> bool:
        """Whether a condition of the test of branches is violated, so that none is marked."""
        return self.certificates[1].verdict is Verdict.VOID

    def _spread(self, cluster: np.ndarray) -> np.ndarray:
        return np.where(self.labels >= 0, cluster[np.maximum(self.labels, 0)], -1)

    def cut(self, k: int) -> np.ndarray:
        """Labels of exactly `k` communities, 1 ≤ k ≤ K.

        The sparsest splits are made, never a child's before its parent's.
        """
        k = as_int(k, "k", low=1, high=self.n_communities)
        return self._spread(self.tree.cut(k, self.built))

    def cut_density(self, p: float) -> np.ndarray:
        """Labels when every split of density below `p` that the root reaches is made."""
        return self._spread(self.tree.cut_density(as_real(p, "p", low=0), self.built))

    def cut_depth(self, depth: int) -> np.ndarray:
        """Labels of the communities at a depth of the tree, 0 being the whole; leaves above stay."""
        depth = as_int(depth, "depth", low=0)
        ways = paths(self.tree, np.arange(self.tree.nodes) < self.tree.root)
        cluster = [-1 if depth == 0 or not w else w[min(depth, len(w)) - 1] for w in ways]
        return self._spread(np.unique(cluster, return_inverse=True)[1])

    def contract(self) -> nx.DiGraph:
        """The tree of the supported branches alone, from parent to child; nodes may have many children.

        A leaf whose branch is not supported is absorbed by its parent: attribute ``leaves`` of a
        node lists the leaves that belong to it and to none of its children, ``size`` counts the
        nodes below, ``density`` is its density.
        """
        return self._digraph(np.append(self.supported, False))

    def to_networkx(self) -> nx.DiGraph:
        """The whole binary tree, with the attributes of :meth:`contract` and ``supported``."""
        return self._digraph(np.arange(self.tree.nodes) < self.tree.root)

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
        for leaf, way in enumerate(paths(tree, kept)):
            graph.nodes[way[-1] if way else tree.root]["leaves"].append(leaf)
        return graph

    def to_newick(self) -> str:
        """The tree in Newick format: leaves ``c0_n24`` (community 0 of 24 nodes), branch lengths."""
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
        """One row a tree node: parent, size, density, margin to the parent with interval, support."""
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
        k = self.n_communities
        inner = self.supported[k:]
        return {
            "nodes": len(self.labels),
            "nodes_outside": int((self.labels < 0).sum()),
            "communities": k,
            "communities_on_all_edges": self.n_communities_on_all_edges,
            "supported_communities": f"{int(self.supported[:k].sum())} of {k}",
            "supported_inner_branches": f"{int(inner.sum())} of {len(inner)}",
            "inversions": self.inversions,
        }

    def artifacts(self) -> dict[str, Any]:
        """Labels, the tree as a table and in Newick format, and the arrays."""
        import pandas as pd

        arrays = {
            k: getattr(self, k) for k in ("labels", "linkage", "density", "support", "eigenvalues")
        }
        labels = pd.DataFrame({"node": _texts(self.nodes), "label": self.labels})
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
            if node != self.tree.root and not self.void:
                mark = " [green]✓[/]" if self.supported[node] else " [yellow]?[/]"
            size = int(self.sizes[self.tree.below[node]].sum())
            return f"{kind}, {size} nodes, density {self.density[node]:.4g}{mark}"

        drawn = {self.tree.root: RichTree(name(self.tree.root))}
        for node in range(self.tree.root, self.n_communities - 1, -1):
            for child in self.tree.children[node - self.n_communities]:
                drawn[int(child)] = drawn[node].add(name(int(child)))
        legend = "✓ denser than the merge above it at level 1 − delta, ? not shown to be"
        if self.void:
            legend = "no marks: the test of branches is void, see supported-tree"
        lines = [legend]
        on_all = self.n_communities_on_all_edges
        if on_all not in (None, self.n_communities):
            lines.append(
                f"all edges show {on_all} communities, the training edges {self.n_communities}: "
                "holdout=0 uses all, a smaller holdout loses less"
            )
        return Group(super().__rich__(), drawn[self.tree.root], *lines)

    def draw(self, ax: Axes) -> None:
        """Dendrogram of the leaves over edge density; a filled mark on each supported branch."""
        tree = self.tree
        lowest = self.density[self.density > 0].min(initial=1.0)
        # A density of 0 has no place on a logarithmic axis.
        height = np.maximum(self.density, lowest / 3)
        ours, quiet = PALETTE["ours"], PALETTE["quiet"]
        x = np.zeros(tree.nodes)
        x[: tree.leaves] = np.arange(tree.leaves)
        for i, pair in enumerate(tree.children):
            node = tree.leaves + i
            x[node] = x[pair].mean()
            ax.plot(x[pair], height[[node, node]], color=quiet, linewidth=1.5, zorder=1)
        for child in range(tree.nodes - 1):
            parent = tree.parent[child]
            ax.plot(
                x[[child, child]], height[[child, parent]], color=quiet, linewidth=1.5, zorder=1
            )
        for chosen, fill, label in (
            (self.supported, ours, "supported"),
            (~self.supported, "none", "not shown"),
        ):
            at = np.flatnonzero(chosen & (not self.void))
            ax.scatter(
                x[at],
                height[at],
                s=36,
                facecolor=fill,
                edgecolor=ours,
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
        if tree.leaves > 1 and not self.void:
            ax.legend(title="branch")
