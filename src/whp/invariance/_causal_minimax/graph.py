"""Causal graphs: when the whole stable set is best, and which subsets predict alike.

Sets of nodes are bit masks inside, since the search asks thousands of questions of a small graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

from whp.text import nearest

__all__ = [
    "Dag",
    "GraphCondition",
    "as_dag",
    "minimal_representative",
    "names_of",
    "reversible_edges",
    "stable_classes",
    "whole_stable_set_is_optimal",
]

MAX_CLASSES = 4096


@dataclass(frozen=True)
class GraphCondition:
    """Whether the graph alone says that the whole stable set is best.

    Attributes
    ----------
    holds : bool
        Sufficient, not necessary.
    K : frozenset of str
        Descendants of mutable children of the target, without those children.
    offending : frozenset of str
        Members of K that are children of the target.
    """

    holds: bool
    K: frozenset[str]
    offending: frozenset[str]


class Dag:
    """A directed acyclic graph with its target and mutable nodes, as bit masks.

    Parameters
    ----------
    graph : networkx.DiGraph
    target : str
    mutable : sequence of str
    """

    def __init__(self, graph: nx.DiGraph, target: str, mutable: Sequence[str]) -> None:
        self.order: list[str] = list(nx.lexicographical_topological_sort(graph, key=str))
        self.place = {v: i for i, v in enumerate(self.order)}
        self.target, self.mutable = target, tuple(v for v in self.order if v in set(mutable))
        self.stable = tuple(v for v in self.order if v != target and v not in self.mutable)
        self.parents = {v: tuple(p for p in self.order if graph.has_edge(p, v)) for v in self.order}
        self.up = [self.mask(self.parents[v]) for v in self.order]
        self.down = [
            sum(1 << j for j, m in enumerate(self.up) if m >> i & 1) for i in range(len(self.up))
        ]
        self.past = self._closed(self.up)
        self.future = self._closed(self.down)

    def mask(self, nodes: Iterable[str]) -> int:
        """Bits of some nodes."""
        return sum(1 << self.place[v] for v in set(nodes))

    def names(self, mask: int) -> frozenset[str]:
        """The nodes of some bits."""
        return frozenset(self.order[i] for i in _bits(mask))

    def _closed(self, step: list[int]) -> list[int]:
        """Of each node all that is reached by `step`, itself included."""
        found = []
        for i in range(len(step)):
            seen, todo = 1 << i, 1 << i
            while todo:
                reached = 0
                for j in _bits(todo):
                    reached |= step[j]
                todo = reached & ~seen
                seen |= todo
            found.append(seen)
        return found

    def ancestors(self, mask: int, without: int = 0) -> int:
        """All nodes with a directed path into `mask` that avoids `without`; members included."""
        if not without:
            found = 0
            for i in _bits(mask):
                found |= self.past[i]
            return found
        seen = todo = mask & ~without
        while todo:
            reached = 0
            for j in _bits(todo):
                reached |= self.up[j]
            todo = reached & ~seen & ~without
            seen |= todo
        return seen

    def reached(self, start: int, through: int, within: int) -> int:
        """Nodes joined to `start` in the moral graph on `within` by a path whose inner nodes lie in `through`."""
        seen = todo = start
        found = 0
        while todo:
            beside = 0
            for i in _bits(todo):
                beside |= self.up[i] & within
                for child in _bits(self.down[i] & within):
                    beside |= 1 << child | (self.up[child] & within)
            found |= beside
            todo = beside & through & ~seen
            seen |= todo
        return found & ~start

    def separated(self, a: int, b: int, given: int, without: int = 0) -> bool:
        """Whether `given` d-separates a and b in the graph without the nodes `without`."""
        within = self.ancestors(a | b | given, without)
        return not self.reached(a, within & ~given, within) & b

    def boundary(self, subset: int, without: int) -> int:
        """Members of a subset that the others do not separate from the target: a Markov boundary."""
        y = 1 << self.place[self.target]
        found = 0
        for i in _bits(subset):
            one = 1 << i
            if not self.separated(y, one, subset & ~one, without):
                found |= one
        return found

    def classes(self, most: int) -> list[int]:
        """Minimal representatives of all classes of subsets of the stable nodes.

        Each step asks which of the undecided nodes no set of the others can separate from the
        target, and decides all of them: selected or latent. What then remains says nothing.
        """
        y, gone = 1 << self.place[self.target], self.mask(self.mutable)
        stable = self.mask(self.stable)
        found: list[int] = []

        def recover(latent: int, chosen: int) -> None:
            near = 0
            for i in _bits(stable & ~latent & ~chosen):
                v = 1 << i
                within = self.ancestors(y | v | chosen, gone)
                if self.reached(y, within & latent, within) & v:
                    near |= v
            if not near:
                if len(found) >= most:
                    raise ValueError(
                        f"max_classes: the graph has more than {most:,} classes of subsets of "
                        f"{len(self.stable)} stable variables; name fewer covariates in the graph, "
                        "or raise max_classes"
                    )
                found.append(chosen)
                return
            part = near
            while True:
                recover(latent | (near & ~part), chosen | part)
                if not part:
                    break
                part = (part - 1) & near

        recover(0, 0)
        return sorted(found, key=lambda m: (m.bit_count(), sorted(self.names(m))))


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def names_of(given: str | Iterable[Any]) -> list[str]:
    """Names as text; a text is one name, not its letters."""
    return [given] if isinstance(given, str) else [str(v) for v in given]


def as_dag(graph: Any, target: str, mutable: str | Iterable[str]) -> Dag:
    """A checked graph.

    Raises
    ------
    TypeError, ValueError
        If it is no directed acyclic graph, lacks a node, or the target is mutable; the message names
        the edge or the node.
    """
    if not isinstance(graph, nx.Graph) or not graph.is_directed():
        raise TypeError(
            f"graph must be a networkx.DiGraph, got {type(graph).__name__}; an edge runs from cause "
            "to effect"
        )
    made = nx.DiGraph()
    made.add_nodes_from(map(str, graph.nodes))
    made.add_edges_from((str(u), str(v)) for u, v in graph.edges())
    names = list(made)
    if len(names) < graph.number_of_nodes():
        raise ValueError("graph has two nodes of one name")
    wanted = names_of(mutable)
    for name, what in [(target, "target"), *((m, "mutable") for m in wanted)]:
        if name not in made:
            raise ValueError(f"{what}: the graph has no node {name!r}{nearest(name, names)}")
    if target in wanted:
        raise ValueError(f"mutable must not name the target {target!r}, whose mechanism is kept")
    touching = {target, *wanted}
    for u, v in made.edges():
        if u != v and made.has_edge(v, u) and touching & {u, v}:
            raise ValueError(
                f"graph has no direction for {u!r} - {v!r}, which touches the target or a mutable "
                "variable: say which one causes the other"
            )
    try:
        cycle = nx.find_cycle(made)
    except nx.NetworkXNoCycle:
        return Dag(made, target, wanted)
    shown = " -> ".join([cycle[0][0], *(v for _, v in cycle)])
    raise ValueError(f"graph has the cycle {shown}; take out one of its edges")


def whole_stable_set_is_optimal(
    graph: nx.Graph, target: str, mutable: str | Sequence[str]
) -> GraphCondition:
    """Whether no search is needed: the target has no child among K.

    K are the descendants of mutable children of the target without those children (Theorem 1 of the
    paper). Sufficient, not necessary; about predictors of the population, not about fitted ones.

    Parameters
    ----------
    graph : networkx.DiGraph
        From causes to effects.
    target : str
    mutable : sequence of str
        Nodes whose mechanism may change.

    Examples
    --------
    >>> G = nx.DiGraph([("Y", "M"), ("M", "X"), ("Y", "X")])
    >>> whole_stable_set_is_optimal(G, "Y", ["M"])
    GraphCondition(holds=False, K=frozenset({'X'}), offending=frozenset({'X'}))
    """
    return condition(as_dag(graph, target, mutable))


def condition(dag: Dag) -> GraphCondition:
    """The same of a checked graph."""
    children = dag.down[dag.place[dag.target]]
    first = dag.mask(dag.mutable) & children
    K = 0
    for i in _bits(first):
        K |= dag.future[i]
    K &= ~first
    return GraphCondition(not K & children, dag.names(K), dag.names(K & children))


def stable_classes(
    graph: nx.Graph, target: str, mutable: str | Sequence[str], *, max_classes: int = MAX_CLASSES
) -> list[frozenset[str]]:
    """The smallest member of each class of subsets of stable variables that predict alike.

    With the mutable variables observed and set, they are constants: in the graph without them, two
    subsets predict alike in every model of the graph if their Markov boundaries agree.

    Parameters
    ----------
    graph : networkx.DiGraph
    target : str
    mutable : sequence of str
    max_classes : int
        Where to give up: a star of n has 2^n.

    Returns
    -------
    list of frozenset of str
        Small ones first.

    Examples
    --------
    >>> stable_classes(nx.DiGraph([("Y", "A"), ("A", "B")]), "Y", [])
    [frozenset(), frozenset({'A'}), frozenset({'B'})]
    """
    dag = as_dag(graph, target, mutable)
    return [dag.names(c) for c in dag.classes(max_classes)]


def minimal_representative(
    graph: nx.Graph, target: str, mutable: str | Sequence[str], subset: str | Iterable[str]
) -> frozenset[str]:
    """The smallest subset that predicts as `subset` does in every model of the graph."""
    dag = as_dag(graph, target, mutable)
    chosen = names_of(subset)
    if wrong := [s for s in chosen if s not in dag.stable]:
        raise ValueError(
            f"subset must name stable variables, got {wrong[0]!r}; there are {', '.join(dag.stable)}"
        )
    return dag.names(dag.boundary(dag.mask(chosen), dag.mask(dag.mutable)))


def reversible_edges(dag: Dag) -> list[tuple[str, str]]:
    """Edges that some graph with the same independences has the other way round: no test sees their direction.

    From the pattern of colliders with parents that are not adjacent, directions are propagated by
    Meek's rules; what remains undirected is reversible.
    """
    nodes = range(len(dag.order))
    adjacent = [dag.up[i] | dag.down[i] for i in nodes]
    known = [0] * len(dag.order)  # of each node the parents whose direction is forced
    for v in nodes:
        for a in _bits(dag.up[v]):
            if dag.up[v] & ~adjacent[a] & ~(1 << a):
                known[v] |= 1 << a
    changed = True
    while changed:
        changed = False
        for v in nodes:
            for a in _bits(dag.up[v] & ~known[v]):
                open_ = [adjacent[i] & ~known[i] for i in (a, v)]
                first = known[a] & ~adjacent[v]  # c -> a - v, c and v apart
                second = any(known[c] >> a & 1 for c in _bits(known[v] & adjacent[a]))
                sides = known[v] & adjacent[a]
                third = any(
                    sides & ~adjacent[c] & ~(1 << c) for c in _bits(sides) if open_[0] >> c & 1
                )
                fourth = any(
                    known[c] & adjacent[a] & ~adjacent[v] for c in _bits(known[v] & adjacent[a])
                )
                if first or second or third or fourth:
                    known[v] |= 1 << a
                    changed = True
    return [(dag.order[a], dag.order[v]) for v in nodes for a in _bits(dag.up[v] & ~known[v])]
