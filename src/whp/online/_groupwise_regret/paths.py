"""Shortest paths whose costs are learnt, nearly as good for every group as its best path in hindsight."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.certificate import Answer, Certificate
from whp.concentration import betting
from whp.kernel import compiled
from whp.online._groupwise_regret import theorems as th
from whp.online._groupwise_regret.hedge import AdaNormalHedge, as_active
from whp.validate import as_bool, as_int, as_matrix, as_rng

__all__ = ["GroupwiseShortestPath", "follow_the_perturbed_leader_bound", "grid"]


@compiled
def _shortest(tails, starts, edges, costs, source, target, distance, back):
    """Dynamic programme over nodes in topological order; edges[starts[v]:starts[v + 1]] enter v."""
    for v in range(len(distance)):
        distance[v] = np.inf
        back[v] = -1
    distance[source] = 0.0
    for v in range(source + 1, target + 1):
        for k in range(starts[v], starts[v + 1]):
            e = edges[k]
            through = distance[tails[e]] + costs[e]
            if through < distance[v]:
                distance[v] = through
                back[v] = e
    return distance[target]


def follow_the_perturbed_leader_bound(n: int, K: int, rounds: int) -> float:
    """3√(K T (1 + ln(n/K))): bound on the expected regret, in units of the longest path's cost."""
    return 3 * math.sqrt(K * rounds * (1 + math.log(n / K)))


def grid(rows: int, columns: int) -> Any:
    """The monotone grid as a directed graph: from each node right, then down; edges in that order."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from((i, j) for i in range(rows) for j in range(columns))
    for i in range(rows):
        for j in range(columns):
            if j + 1 < columns:
                graph.add_edge((i, j), (i, j + 1))
            if i + 1 < rows:
                graph.add_edge((i, j), (i + 1, j))
    return graph


class GroupwiseShortestPath:
    """Choose a path, see the costs of all edges, learn: a perturbed leader a group, mixed.

    Parameters
    ----------
    graph : networkx.DiGraph
        Without cycles: perturbed costs can be negative.
    source, target : node
        Ends of the path.
    n_groups : int
        Everyone is a group like any other: put it among them.
    noise : bool
        False follows the leader without perturbation, which an adversary makes lose a constant
        fraction.
    random_state : numpy.random.Generator, int or None
        Of the perturbations and of the group that is followed.

    Attributes
    ----------
    edges : list
        In the order of cost arrays.
    rounds, losses : ndarray, shape (N,)
        Of each group; losses in units of K edges of cost one.

    References
    ----------
    A. Kalai, S. Vempala (2005); G. Neu, G. Bartók (2016) for the shift argument.
    """

    def __init__(
        self,
        graph: Any,
        source: Any,
        target: Any,
        n_groups: int,
        *,
        noise: bool = True,
        random_state: np.random.Generator | int | None = None,
    ) -> None:
        import networkx as nx

        if not isinstance(graph, nx.DiGraph):
            raise TypeError(f"graph must be a networkx.DiGraph, got {type(graph).__name__}")
        if graph.is_multigraph():
            raise ValueError("graph must have at most one edge from one node to another")
        if not nx.is_directed_acyclic_graph(graph):
            raise ValueError("graph must have no cycle")
        for name, node in (("source", source), ("target", target)):
            if node not in graph:
                raise ValueError(f"{name} must be a node of the graph, got {node!r}")
        if source == target:
            raise ValueError("target must differ from source")
        if not nx.has_path(graph, source, target):
            raise ValueError("target must be reached from source")
        place = {v: i for i, v in enumerate(nx.topological_sort(graph))}
        self.nodes, self.edges = list(place), list(graph.edges())
        self._tails = np.array([place[a] for a, _ in self.edges])
        heads = np.array([place[b] for _, b in self.edges])
        self._into = np.argsort(heads, kind="stable")
        self._starts = np.searchsorted(heads[self._into], np.arange(len(place) + 1))
        self._source, self._target = place[source], place[target]
        self._distance, self._back = np.zeros(len(place)), np.zeros(len(place), dtype=np.int64)
        n, N = len(self.edges), as_int(n_groups, "n_groups", low=1)
        _, longest = self._solve(-np.ones(n))
        self.n, self.K = n, len(longest)
        self.noise = as_bool(noise, "noise")
        self.hedge = AdaNormalHedge(N)
        self._totals, self.rounds, self.losses = np.zeros((N, n)), np.zeros(N), np.zeros(N)
        self._executed, self._largest = np.zeros(N), 0.0
        self._random = as_rng(random_state, "random_state")
        self._began = str(self._random.bit_generator.state)
        self._said: dict[int, np.ndarray] = {}
        self._awake = np.zeros(N, dtype=bool)
        self._path = np.zeros(0, dtype=np.int64)

    def _solve(self, costs: Float[np.ndarray, " n"]) -> tuple[float, np.ndarray]:
        value = _shortest(
            self._tails,
            self._starts,
            self._into,
            costs,
            self._source,
            self._target,
            self._distance,
            self._back,
        )
        path, v = [], self._target
        while v != self._source:
            e = int(self._back[v])
            path.append(e)
            v = int(self._tails[e])
        return float(value), np.array(path[::-1])

    def _step(self, t: float) -> float:
        """η_t = √((1 + ln(n/K))/(K t))."""
        return math.sqrt((1 + math.log(self.n / self.K)) / (self.K * t))

    def choose(self, active: Any) -> list[Any]:
        """The path to take now, as its nodes.

        Parameters
        ----------
        active : array_like, shape (N,)
            Which groups this round belongs to.
        """
        self._awake = as_active(active, len(self.rounds))
        self._said = {}
        for g in np.flatnonzero(self._awake):
            costs = self._totals[g].copy()
            if self.noise:
                costs -= self._random.exponential(1 / self._step(self.rounds[g] + 1), self.n)
            self._said[int(g)] = self._solve(costs)[1]
        if not self._said:
            raise ValueError("active must hold at least one group")
        p = self.hedge.weights(self._awake)
        self._path = self._said[int(self._random.choice(len(p), p=p / p.sum()))]
        return [self.nodes[self._source], *(self.edges[e][1] for e in self._path)]

    def update(self, edge_costs: Any) -> float:
        """Learn the costs of all edges in the round of the last :meth:`choose`; what the path cost.

        Parameters
        ----------
        edge_costs : array_like, shape (n,), or mapping of edge to cost
            In [0, 1], in the order of :attr:`edges`.
        """
        if not self._said:
            raise ValueError("choose must come before update")
        if isinstance(edge_costs, Mapping):
            if missing := [e for e in self.edges if e not in edge_costs]:
                raise ValueError(f"edge_costs must hold every edge, {missing[0]!r} is missing")
            edge_costs = [edge_costs[e] for e in self.edges]
        costs = np.asarray(edge_costs, dtype=np.float64)
        if costs.shape != (self.n,):
            raise ValueError(f"edge_costs must have shape ({self.n},), got {costs.shape}")
        if not np.isfinite(costs).all() or (costs < 0).any():
            raise ValueError(
                f"edge_costs must be finite and not negative, edge {int(np.argmin(costs))} is not"
            )
        self._largest = max(self._largest, float(costs.max()))
        ell = np.zeros(len(self.rounds))
        for g, path in self._said.items():
            ell[g] = costs[path].sum() / self.K
        ours = float(costs[self._path].sum())
        self.hedge.update(np.minimum(ell, 1.0), self._awake)
        self.rounds[self._awake] += 1
        for g in self._said:
            self._executed[g] += self._step(self.rounds[g]) * ell[g] ** 2
        self._totals[self._awake] += costs
        self.losses[self._awake] += ours / self.K
        self._said = {}
        return ours

    def best(self) -> Float[np.ndarray, " N"]:
        """Cost of each group's best path in hindsight, in units of K."""
        return np.array([self._solve(total)[0] / self.K for total in self._totals])

    def regret(self) -> Float[np.ndarray, " N"]:
        """Of each group on its own rounds, in units of K."""
        return self.losses - self.best()

    def bound(self) -> Float[np.ndarray, " N"]:
        """Bound on its expectation: that of the perturbed leader, and that of the mixture."""
        T = np.maximum(self.rounds, 1)
        leader = np.array([follow_the_perturbed_leader_bound(self.n, self.K, int(t)) for t in T])
        budget = 2.5 + 1.5 * np.log1p(self.rounds).mean()  # of all groups, not of this one alone
        mixture = np.sqrt(3 * T * (math.log(len(T)) + math.log(budget)))
        return np.where(self.rounds > 0, leader + mixture, 0.0)

    def _runs(self, regret: Any) -> tuple[np.ndarray | None, Answer]:
        """Regrets, runs by groups, and whether the runs saw what this one saw."""
        N = len(self.rounds)
        if regret is None:
            return None, th.SAME_COSTS.by_construction("no other runs are looked at")
        if isinstance(regret, Iterable) and not isinstance(regret, np.ndarray):
            regret = list(regret)
        if len(regret) and all(isinstance(r, GroupwiseShortestPath) for r in regret):
            differ = sum(not self._saw_the_same(r) for r in regret)
            again = len(regret) - len(_distinct(list(regret)))
            same = th.SAME_COSTS.check(
                differ + again == 0,
                f"{differ} of {len(regret)} runs had other edges, rounds or total costs, {again} the "
                "coins of one before",
            )
            if differ or again:
                return None, same
            return np.array([r.regret() for r in regret]), same
        runs = as_matrix(regret, "regret")
        if runs.shape[1] != N:
            raise ValueError(f"regret must have {N} columns, one a group, got {runs.shape[1]}")
        beyond = np.abs(runs) > self.rounds * max(1.0, self._largest) * (1 + 1e-12)
        if beyond.any():
            g = int(np.flatnonzero(beyond.any(axis=0))[0])
            return runs, th.SAME_COSTS.check(
                False, f"a regret is more than all {int(self.rounds[g])} rounds of group {g}"
            )
        return runs, th.SAME_COSTS.unchecked("numbers cannot show it; hand in the runs themselves")

    def _saw_the_same(self, other: GroupwiseShortestPath) -> bool:
        return (
            self.edges == other.edges
            and (self._source, self._target) == (other._source, other._target)
            and self.noise == other.noise
            and np.array_equal(self.rounds, other.rounds)
            and np.allclose(self._totals, other._totals, rtol=1e-12, atol=1e-12)
        )

    def certificates(self, regret: Any = None, names: Any = None) -> tuple[Certificate, ...]:
        """One a group, in expectation over coins.

        Parameters
        ----------
        regret : sequence of GroupwiseShortestPath, or array_like of shape (runs, N), optional
            Several runs on the same costs, each with coins of its own, or what their :meth:`regret`
            said, which cannot be checked; without it the verdicts are `unmeasured`. The interval of
            their mean is by betting, valid at any number of runs, δ = .05 over all groups.
        names : sequence of str, optional
            Of the groups.
        """
        N = len(self.rounds)
        called = [f"group {g}" for g in range(N)] if names is None else [str(v) for v in names]
        if len(called) != N:
            raise ValueError(f"names must have {N} entries, one a group, got {len(called)}")
        runs, same = self._runs(regret)
        answers = (
            th.COSTS.check(self._largest <= 1, f"largest {self._largest:.4g}"),
            th.PERTURBED.check(self.noise, f"noise={self.noise}"),
            same,
            th.COINS.unchecked("data cannot show it"),
        )
        made = []
        for g, (bound, best) in enumerate(zip(self.bound(), self.best(), strict=True)):
            T = float(self.rounds[g])
            measured = None
            # No run loses or gains more than all of its rounds, unless a cost was above 1.
            if runs is not None and T and not (np.abs(runs[:, g]) > T * (1 + 1e-12)).any():
                measured = betting(np.clip(runs[:, g], -T, T), 0.05 / N, low=-T, high=T)
            made.append(
                th.path_regret(
                    called[g],
                    float(bound),
                    measured,
                    float(T - best) if T else math.inf,
                    answers,
                    {
                        "rounds": int(T),
                        "edges n": self.n,
                        "longest path K": self.K,
                        "Σ ηℓ² of this run": float(self._executed[g]),
                    },
                )
            )
        return tuple(made)


def _distinct(runs: list[Any]) -> set[Any]:
    """What tells coins apart: the states in which their source began and ended.

    One source may have served several runs in turn, each with numbers of its own.
    """
    serves = Counter(id(r._random) for r in {id(r): r for r in runs}.values())
    return {
        id(r) if serves[id(r._random)] > 1 else (r._began, str(r._random.bit_generator.state))
        for r in runs
    }
