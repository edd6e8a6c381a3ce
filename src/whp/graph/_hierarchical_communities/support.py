"""What held-out edges say of the branches: densities of tree nodes, and margins with intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from whp.concentration import simultaneous_proportions
from whp.graph._hierarchical_communities.fit import Closed, Fit
from whp.graph._hierarchical_communities.tree import Tree, node_pairs

__all__ = ["Evidence", "density_from_rate", "held_out_rate"]

RELATIVE = 1e-12
Split = Literal["ours", "own generator", "none", "labels given", "labels said independent"]


def held_out_rate(p: Any, f: float) -> Any:
    """Rate at which pairs without a training edge carry a test edge.

    Parameters
    ----------
    p : float or ndarray
        Probability of an edge.
    f : float
        Share of the edges that is held out.

    Examples
    --------
    >>> round(held_out_rate(0.3, 0.2), 6)
    0.078947
    """
    return p * f / (1 - p * (1 - f))


def density_from_rate(r: Any, f: float) -> Any:
    """Inverse of :func:`held_out_rate` in `p`; increasing."""
    return r / (f + r * (1 - f))


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one run knows of its tree.

    Parameters
    ----------
    tree : Tree
        Over K leaves.
    sizes : (K,) ndarray
        Nodes of each leaf.
    train, test : (K, K) ndarray
        Edges, or their weight, between leaves: those that built the tree, and those held out.
    holdout, delta : float
        Share held out, and failure probability.
    split : str
        How labels and tree came about.
    bottom_up, weighted : bool
        By which method, and whether edges carry weights.
    fit : Fit or None
        How the block model fits; None for weights.
    finer : (int, Closed), optional
        A larger number of communities, whose block model explains the cycles that this one does not.
    """

    tree: Tree
    sizes: np.ndarray
    train: np.ndarray
    test: np.ndarray
    holdout: float
    delta: float
    split: Split
    bottom_up: bool
    weighted: bool
    fit: Fit | None
    finer: tuple[int, Closed] | None = None

    @cached_property
    def pairs(self) -> np.ndarray:
        """Pairs of graph nodes that each tree node stands for."""
        return self.tree.totals(node_pairs(self.sizes))

    def _density(self, counts: np.ndarray) -> np.ndarray:
        total = self.tree.totals(counts)
        return np.divide(total, self.pairs, out=np.zeros_like(total), where=self.pairs > 0)

    @cached_property
    def built(self) -> np.ndarray:
        """Density of each tree node on the edges that built the tree."""
        return self._density(self.train)

    @cached_property
    def density(self) -> np.ndarray:
        """Density of each tree node on all edges; 0 where there is no pair."""
        return self._density(self.train + self.test)

    @property
    def inversions(self) -> int:
        """Internal branches whose child is sparser than its parent."""
        child = np.arange(self.tree.leaves, self.tree.root)
        limit = self.built[self.tree.parent[child]] * (1 - RELATIVE)
        return int((self.built[child] < limit).sum())

    def intervals(self, counted: np.ndarray, free: np.ndarray) -> np.ndarray:
        """Simultaneous intervals (value, low, high) of the densities of all tree nodes."""
        low, high = simultaneous_proportions(counted, free, self.delta)
        rate = np.divide(counted, free, out=(low + high) / 2, where=free > 0)
        if self.holdout > 0:
            low, rate, high = (density_from_rate(r, self.holdout) for r in (low, rate, high))
        return np.column_stack([rate, low, high])

    @cached_property
    def densities(self) -> np.ndarray:
        """(2K - 1, 3): density of each tree node by the edges held out, with its interval."""
        if self.weighted:
            return np.full((self.tree.nodes, 3), math.nan)
        if self.holdout == 0:
            return self.intervals(self.tree.totals(self.train), self.pairs)
        # Given the training graph, only a pair without a training edge can carry a test edge.
        return self.intervals(self.tree.totals(self.test), self.free)

    @cached_property
    def free(self) -> np.ndarray:
        """Pairs of each tree node that carry no training edge."""
        return self.pairs - self.tree.totals(self.train)

    @cached_property
    def margins(self) -> np.ndarray:
        """(2K - 2, 3): p(child) - p(parent) of every branch with its simultaneous interval."""
        return _margins(self.tree, self.densities)

    @cached_property
    def supported(self) -> np.ndarray:
        """Which branches have a positive margin for sure, by this run's intervals alone."""
        return self.margins[:, 1] > 0

    def reachable(self, times: float = 1.0) -> bool:
        """Whether some branch is supported, or could be if held-out edges were as dense as the others.

        Parameters
        ----------
        times : float
            In a graph with so many times the pairs.
        """
        if self.supported.any():
            return True
        free = self.free * times
        counted = held_out_rate(self.built, self.holdout) * free
        return bool((_margins(self.tree, self.intervals(counted, free))[:, 1] > 0).any())


def _margins(tree: Tree, densities: np.ndarray) -> np.ndarray:
    child = np.arange(tree.nodes - 1)
    (value, low, high), (at, least, most) = densities[child].T, densities[tree.parent[child]].T
    return np.column_stack([value - at, low - most, high - least])
