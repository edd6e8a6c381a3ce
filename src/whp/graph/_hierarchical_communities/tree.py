"""A rooted binary tree over K leaves: what is computed along it."""

from __future__ import annotations

import heapq
from functools import cached_property

import numpy as np

__all__ = ["Tree", "node_pairs", "paths"]


class Tree:
    """Leaves 0..K−1, internal nodes K..2K−2, each after its children; the last is the root.

    Parameters
    ----------
    children : (K - 1, 2) ndarray of int
        The two children of node K + i.
    """

    def __init__(self, children: np.ndarray) -> None:
        self.children = np.asarray(children, dtype=np.int64).reshape(-1, 2)
        self.leaves = len(self.children) + 1
        self.nodes = 2 * self.leaves - 1
        self.root = self.nodes - 1

    @cached_property
    def parent(self) -> np.ndarray:
        """Parent of each node, −1 for the root."""
        parent = np.full(self.nodes, -1)
        parent[self.children.ravel()] = np.repeat(np.arange(self.leaves, self.nodes), 2)
        return parent

    @cached_property
    def below(self) -> np.ndarray:
        """Which leaves are below each node, as a (2K − 1, K) array of bool."""
        below = np.eye(self.nodes, self.leaves, dtype=bool)
        for i, (left, right) in enumerate(self.children):
            below[self.leaves + i] = below[left] | below[right]
        return below

    @cached_property
    def meet(self) -> np.ndarray:
        """Lowest common ancestor of each pair of leaves; a leaf itself on the diagonal."""
        meet = np.diag(np.arange(self.leaves))
        for i, (left, right) in enumerate(self.children):
            pairs = np.ix_(self.below[left], self.below[right])
            meet[pairs] = self.leaves + i
            meet.T[pairs] = self.leaves + i
        return meet

    def totals(self, counts: np.ndarray) -> np.ndarray:
        """For a leaf its diagonal entry of `counts`, for an internal node the sum between its two sides."""
        below = self.below.astype(np.float64)
        between = ((below[self.children[:, 0]] @ counts) * below[self.children[:, 1]]).sum(axis=1)
        return np.concatenate([np.diag(counts), between])

    def cut(self, k: int, density: np.ndarray) -> np.ndarray:
        """Cluster of each leaf in the cut into k: the sparsest split goes first, never a child before its parent."""
        frontier = [self.root]
        queue = [(density[self.root], self.root)] if self.leaves > 1 else []
        while len(frontier) < k:
            _, node = heapq.heappop(queue)
            frontier.remove(node)
            for child in self.children[node - self.leaves]:
                frontier.append(int(child))
                if child >= self.leaves:
                    heapq.heappush(queue, (density[child], int(child)))
        cluster = np.empty(self.leaves, dtype=np.int64)
        for node in frontier:
            cluster[self.below[node]] = node
        return _by_appearance(cluster)

    def cut_density(self, p: float, density: np.ndarray) -> np.ndarray:
        """Cluster of each leaf when every split of density below p, reached from the root, is made."""
        cluster = np.full(self.leaves, self.root)
        todo = [self.root]
        while todo:
            node = todo.pop()
            cluster[self.below[node]] = node
            if node >= self.leaves and density[node] < p:
                todo.extend(int(c) for c in self.children[node - self.leaves])
        return _by_appearance(cluster)

    def canonical(self, sizes: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, Tree]:
        """Leaves renumbered from left to right, the larger side to the left; ties by the smallest node.

        Returns
        -------
        position : ndarray
            New number of each leaf.
        tree : Tree
            The same tree over the new numbers.
        """
        below = self.below
        size = below @ sizes
        smallest = np.where(below, first, np.iinfo(np.int64).max).min(axis=1)
        order: list[int] = []
        todo = [self.root]
        sides = {}
        while todo:
            node = todo.pop()
            if node < self.leaves:
                order.append(node)
                continue
            pair = sorted(
                self.children[node - self.leaves].tolist(), key=lambda c: (-size[c], smallest[c])
            )
            sides[node] = pair
            todo.extend(reversed(pair))
        position = np.empty(self.leaves, dtype=np.int64)
        position[order] = np.arange(self.leaves)
        rename = np.concatenate([position, np.arange(self.leaves, self.nodes)])
        children = np.array(
            [[rename[c] for c in sides[self.leaves + i]] for i in range(self.leaves - 1)],
            dtype=np.int64,
        )
        return position, Tree(children)


def paths(tree: Tree, kept: np.ndarray) -> list[list[int]]:
    """For each leaf the nodes from below the root down to it, of those branches that are `kept`."""
    ways = []
    for leaf in range(tree.leaves):
        way, node = [], leaf
        while node != tree.root:
            if kept[node]:
                way.append(node)
            node = int(tree.parent[node])
        ways.append(way[::-1])
    return ways


def node_pairs(sizes: np.ndarray) -> np.ndarray:
    """Pairs of graph nodes between leaves, and within them on the diagonal."""
    pairs = np.outer(sizes, sizes).astype(np.float64)
    np.fill_diagonal(pairs, sizes * (sizes - 1) / 2)
    return pairs


def _by_appearance(cluster: np.ndarray) -> np.ndarray:
    """Renumbered 0, 1, ... in the order in which clusters appear."""
    _, index, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(index))[inverse].astype(np.int64)
