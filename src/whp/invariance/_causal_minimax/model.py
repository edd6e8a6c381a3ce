"""Causal models with finite alphabets, in which every number of the method is a sum."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import numpy as np

from whp.invariance._causal_minimax.graph import Dag, as_dag, names_of
from whp.invariance._causal_minimax.risk import Worst, one_node, several_nodes
from whp.validate import as_floats

__all__ = [
    "DiscreteSCM",
    "in_units",
    "joined_parents",
    "predictor_table",
    "risk_of",
    "worst_case_risk",
]

ROUNDING = 1e-9
MOST = 4_000_000  # entries of the joint table
SMALLEST, LARGEST = 1e-150, 1e150  # widths whose squares are floats


@dataclass(frozen=True, eq=False)
class DiscreteSCM:
    """A graph with a table of probabilities for every node.

    Parameters
    ----------
    graph : networkx.DiGraph
        From causes to effects.
    tables : mapping of str to array_like
        Of each node P(node | parents): an axis for each parent, in the order of the names in
        `parents[node]`, then its own.
    target : str
    mutable : str or sequence of str
        Nodes whose table may be replaced by any other.
    values : array_like, optional
        The target's values; 0, 1, 2, … by default.
    parents : mapping of str to sequence of str, optional
        Order of the parents; sorted by name where it is not given.

    Raises
    ------
    ValueError
        If a table has a wrong shape or rows that are no probabilities; the message names the node.
    """

    graph: nx.DiGraph
    tables: Mapping[str, Any]
    target: str
    mutable: str | Sequence[str]
    values: Sequence[float] | None = None
    parents: Mapping[str, Sequence[str]] | None = None
    dag: Dag = field(init=False, repr=False)

    def __post_init__(self) -> None:
        dag = as_dag(self.graph, self.target, self.mutable)
        order = {v: tuple((self.parents or {}).get(v, sorted(dag.parents[v]))) for v in dag.order}
        tables = {}
        for v in dag.order:
            if v not in self.tables:
                raise ValueError(f"tables lacks the node {v!r}")
            if set(order[v]) != set(dag.parents[v]):
                raise ValueError(f"parents of {v!r} must be {dag.parents[v]}, got {order[v]}")
            table = np.array(as_floats(self.tables[v], f"tables[{v!r}]"))
            if table.ndim != len(order[v]) + 1:
                raise ValueError(
                    f"tables[{v!r}] must have an axis for each of its parents {order[v]} and its own, "
                    f"got shape {table.shape}"
                )
            wrong = ~np.isfinite(table).all() or (table < 0).any()
            if wrong or (np.abs(table.sum(axis=-1) - 1) > ROUNDING).any():
                raise ValueError(f"tables[{v!r}] must hold probabilities that sum to 1 in each row")
            tables[v] = table / table.sum(axis=-1, keepdims=True)
            tables[v].setflags(write=False)
        sizes = {v: tables[v].shape[-1] for v in dag.order}
        for v in dag.order:
            wanted = tuple(sizes[p] for p in order[v])
            if tables[v].shape[:-1] != wanted:
                raise ValueError(
                    f"tables[{v!r}] must have shape {(*wanted, sizes[v])}, got {tables[v].shape}"
                )
        if np.prod([float(s) for s in sizes.values()]) > MOST:
            raise ValueError(f"the joint table has more than {MOST:,} entries; name fewer nodes")
        values = np.arange(sizes[self.target], dtype=float)
        if self.values is not None:
            values = as_floats(self.values, "values").ravel()
        if len(values) != sizes[self.target] or not np.isfinite(values).all():
            raise ValueError(f"values must hold {sizes[self.target]} finite numbers")
        if (width := float(values.max() - values.min())) and not SMALLEST <= width <= LARGEST:
            raise ValueError(
                "values: squares of their differences are no floats; take another unit"
            )
        for name, value in {
            "tables": tables,
            "parents": order,
            "values": values,
            "dag": dag,
            "mutable": dag.mutable,
        }.items():
            object.__setattr__(self, name, value)

    @property
    def axes(self) -> list[str]:
        """All nodes, causes first."""
        return self.dag.order

    def kept(self) -> np.ndarray:
        """Product of all tables that are kept, an axis a node: the law given that the mutable ones are set."""
        made = np.ones([1] * len(self.axes))
        for v in self.axes:
            if v not in self.mutable:
                made = made * self._spread(v)
        shape = [self.tables[v].shape[-1] for v in self.axes]
        return np.broadcast_to(made, shape)

    def law(self) -> np.ndarray:
        """The joint law, an axis a node."""
        made = self.kept()
        for v in self.mutable:
            made = made * self._spread(v)
        return made

    def _spread(self, node: str) -> np.ndarray:
        assert self.parents is not None
        names = (*self.parents[node], node)
        place = [self.axes.index(n) for n in names]
        table = self.tables[node].transpose(np.argsort(place))
        shape = [1] * len(self.axes)
        for i, size in zip(sorted(place), table.shape, strict=True):
            shape[i] = size
        return table.reshape(shape)


def in_units(model: DiscreteSCM) -> tuple[DiscreteSCM, float]:
    """The same model with a target from 0 to 1, and its unit.

    Far from 0 the mean of a target has fewer digits than the differences that a risk is made of.
    """
    values = np.asarray(model.values)
    width = float(np.ptp(values)) or 1.0
    made = copy(model)
    object.__setattr__(made, "values", (values - values.min()) / width)
    return made, width


def predictor_table(model: DiscreteSCM, subset: Iterable[str]) -> np.ndarray:
    """f(x) = E[Y | x of the subset, do(mutable)], an axis a node; those that it does not see have length 1."""
    used = {*subset, *model.mutable}
    out = tuple(i for i, v in enumerate(model.axes) if v not in used)
    kept = model.kept()
    y = model.axes.index(model.target)
    values = np.asarray(model.values).reshape([-1 if i == y else 1 for i in range(kept.ndim)])
    mass = kept.sum(axis=out, keepdims=True)
    total = (kept * values).sum(axis=out, keepdims=True)
    mean = (kept * values).sum() / kept.sum()
    return np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), mean)


def joined_parents(dag: Dag) -> tuple[str, ...] | None:
    """All parents of mutable nodes, if these can be taken as one node: no stable node lies between them."""
    mutable = dag.mask(dag.mutable)
    after = 0
    for v in dag.mutable:
        after |= dag.future[dag.place[v]]
    between = after & dag.ancestors(mutable) & ~mutable
    if between:
        return None
    return tuple(
        v
        for v in dag.order
        if any(v in dag.parents[m] for m in dag.mutable) and v not in dag.mutable
    )


def risk_of(
    model: DiscreteSCM, prediction: np.ndarray, rng: np.random.Generator | None = None
) -> Worst:
    """Largest expected squared error of a prediction over all tables of the mutable nodes.

    Parameters
    ----------
    model : DiscreteSCM
    prediction : ndarray
        An axis a node, of length 1 where it does not depend on it.
    rng : Generator, optional
        Of the starts where functions are too many to be compared.
    """
    dag, axes = model.dag, model.axes
    y = axes.index(model.target)
    kept = model.kept()
    values = np.asarray(model.values).reshape([-1 if i == y else 1 for i in range(kept.ndim)])
    gains = kept * (values - prediction) ** 2
    if not model.mutable:
        value = float(gains.sum())
        return Worst(value, value, {})
    assert model.parents is not None
    parents = {m: model.parents[m] for m in model.mutable}
    if len(parents) == 1:
        ((node, above),) = parents.items()
        names = [*above, node]
        keep = [axes.index(n) for n in names]
        table = gains.sum(axis=tuple(i for i in range(gains.ndim) if i not in keep))
        table = table.transpose(np.argsort(np.argsort(keep)))
        value, choice = one_node(table.reshape(-1, table.shape[-1]))
        return Worst(value, value, {node: choice.reshape(table.shape[:-1])})
    used = {*parents, *(p for above in parents.values() for p in above)}
    order = _mutable_first(dag, used)
    keep = [axes.index(n) for n in order]
    table = gains.sum(axis=tuple(i for i in range(gains.ndim) if i not in keep))
    table = table.transpose(np.argsort(np.argsort(keep)))
    return several_nodes(table, order, parents, rng=rng)


def _mutable_first(dag: Dag, used: Iterable[str]) -> list[str]:
    """Causes first, and each mutable node as early as its ancestors let it: who sees little is bounded well."""
    order: list[str] = []
    for m in dag.mutable:
        above = dag.names(dag.past[dag.place[m]])
        order += [v for v in dag.order if v in above and v not in order]
    order += [v for v in dag.order if v not in order]
    wanted = set(used)
    return [v for v in order if v in wanted]


def worst_case_risk(model: DiscreteSCM, subset: str | Iterable[str]) -> float:
    """Worst expected squared error of E[Y | x of the subset, do(mutable)] over all mechanisms of the mutable nodes.

    Parameters
    ----------
    model : DiscreteSCM
    subset : iterable of str
        Stable nodes.

    Returns
    -------
    float
        The supremum itself, by comparing functions from parents to values.

    Raises
    ------
    ValueError
        If a node is not stable, or there are too many functions to compare.

    Examples
    --------
    >>> G = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])
    >>> X = np.array([[[1, 0], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]]])
    >>> tables = {"Y": [0.2, 0.8], "M": [[0.5, 0.5], [0.5, 0.5]], "X": X}
    >>> model = DiscreteSCM(G, tables, "Y", ["M"], parents={"X": ("Y", "M")})
    >>> round(worst_case_risk(model, []), 3), round(worst_case_risk(model, ["X"]), 3)
    (0.16, 0.178)
    """
    chosen = names_of(subset)
    if wrong := [s for s in chosen if s not in model.dag.stable]:
        raise ValueError(
            f"subset must name stable nodes, got {wrong[0]!r}; there are {', '.join(model.dag.stable)}"
        )
    model, width = in_units(model)
    found = risk_of(model, predictor_table(model, chosen))
    if not found.exact:
        raise ValueError(
            "mutable: there are too many functions from parents to values to compare them all; "
            "minimax_of_model brackets the worst case"
        )
    return found.lower * width**2
