"""Discrete laws over a graph, sampled and summed entry by entry, without the code of the method."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

__all__ = ["Law", "best_prediction", "random_law"]

Table = Mapping[tuple[int, ...], np.ndarray]
Tables = dict[str, tuple[tuple[str, ...], Any]]


class Law:
    """Nodes in causal order, each with its parents and P(node | parents) as an array.

    Parameters
    ----------
    nodes : dict of str to (parents, array_like)
        Axes of the array are the parents in their order, then the node.
    """

    def __init__(self, nodes: Tables) -> None:
        self.nodes = {
            v: (parents, np.asarray(table, float)) for v, (parents, table) in nodes.items()
        }
        self.names = list(self.nodes)
        sizes = [range(table.shape[-1]) for _, table in self.nodes.values()]
        self.grid = pd.DataFrame(list(itertools.product(*sizes)), columns=self.names)

    @property
    def graph(self) -> nx.DiGraph:
        """Its own graph."""
        made = nx.DiGraph()
        made.add_nodes_from(self.names)
        made.add_edges_from((p, v) for v, (parents, _) in self.nodes.items() for p in parents)
        return made

    def replaced(self, **tables: Any) -> Law:
        """With other tables of some nodes."""
        return Law({v: (p, tables.get(v, t)) for v, (p, t) in self.nodes.items()})

    def sample(self, rng: np.random.Generator, n: int) -> pd.DataFrame:
        """n independent rows."""
        made = pd.DataFrame(index=range(n))
        for v, (parents, table) in self.nodes.items():
            rows = (
                table[tuple(made[p].to_numpy() for p in parents)]
                if parents
                else np.tile(table, (n, 1))
            )
            made[v] = (
                (rows.cumsum(axis=-1) < rng.random((n, 1)))
                .sum(axis=-1)
                .clip(max=table.shape[-1] - 1)
            )
        return made

    def mass(self, without: Iterable[str] = ()) -> np.ndarray:
        """Probability of each row of the grid, factors of some nodes left out."""
        left = set(without)
        made = np.ones(len(self.grid))
        for v, (parents, table) in self.nodes.items():
            if v not in left:
                made *= table[tuple(self.grid[c].to_numpy() for c in (*parents, v))]
        return made

    def risk(self, prediction: np.ndarray, target: str = "Y") -> float:
        """Mean squared error of a prediction on each row of the grid."""
        return float((self.mass() * (self.grid[target].to_numpy() - prediction) ** 2).sum())

    def worst(
        self,
        prediction: np.ndarray,
        mutable: tuple[str, ...],
        parents: tuple[str, ...],
        supported: Callable[[tuple[int, ...], tuple[int, ...]], bool] = lambda pa, m: True,
        target: str = "Y",
    ) -> float:
        """Largest mean squared error over mechanisms that see `parents` and set the mutable nodes together."""
        gain = self.mass(mutable) * (self.grid[target].to_numpy() - prediction) ** 2
        total: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
        above = self.grid[list(parents)].to_numpy()
        own = self.grid[list(mutable)].to_numpy()
        for g, pa, m in zip(gain, map(tuple, above), map(tuple, own), strict=True):
            inner = total.setdefault(pa, {})
            inner[m] = inner.get(m, 0.0) + float(g)
        return sum(
            max((v for m, v in inner.items() if supported(pa, m)), default=0.0)
            for pa, inner in total.items()
        )


def best_prediction(
    law: Law, subset: Iterable[str], mutable: tuple[str, ...], target: str = "Y"
) -> np.ndarray:
    """E[Y | x of the subset, do(mutable)] on each row of the grid."""
    mass, y = law.mass(mutable), law.grid[target].to_numpy(float)
    keys = [*subset, *mutable]
    code = law.grid[keys].apply(tuple, axis=1) if keys else pd.Series([()] * len(law.grid))
    total = pd.Series(mass * y).groupby(code).transform("sum").to_numpy()
    weight = pd.Series(mass).groupby(code).transform("sum").to_numpy()
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), 0.0)


def random_law(
    rng: np.random.Generator, n: int, mutable: int, edges: float = 0.6
) -> tuple[Law, tuple[str, ...]]:
    """Binary nodes "Y", "V1", … in random order with random tables, and some of them mutable."""
    names = ["Y", *(f"V{i}" for i in range(1, n))]
    order = [names[i] for i in rng.permutation(n)]
    nodes: Tables = {}
    for i, v in enumerate(order):
        parents = tuple(u for u in order[:i] if rng.random() < edges)
        nodes[v] = (
            parents,
            rng.dirichlet(np.full(2, 0.5), (2,) * len(parents))
            if parents
            else rng.dirichlet([2.0, 2.0]),
        )
    chosen = tuple(names[1 + int(i)] for i in rng.choice(n - 1, mutable, replace=False))
    return Law(nodes), chosen
