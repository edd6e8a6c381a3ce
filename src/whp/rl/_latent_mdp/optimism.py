"""Optimistic plans: the best policy when every law is as kind as what was seen allows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from whp.rl._latent_mdp import kernels
from whp.rl._latent_mdp.planning import PlanningBudgetError, Successors, dead
from whp.rl._latent_mdp.policy import Layer, Policy

__all__ = ["KINDS", "OptimisticPlan", "Snapshot", "Structure", "alternating", "exact"]

KINDS = {"bernstein": kernels.BERNSTEIN, "mvp": kernels.MVP, "l1": kernels.L1}
SWEEPS = 10
GROWS = 1e-9
TREE = 20_000_000  # nodes times actions, next states and contexts


@dataclass(frozen=True, eq=False)
class Structure:
    """What is known before the first episode: sizes, rewards that are surely zero, what is possible.

    Attributes
    ----------
    horizon : int
    possible : ndarray of bool, shape (M, S, A, S)
        Transitions that can happen.
    starts : ndarray of bool, shape (M, S)
        First states that can happen.
    row : ndarray of int, shape (M, S, A)
        Which law each triple has; ties are shared laws.
    nothing : ndarray of bool, shape (S,)
        States from which nothing is earned.
    """

    horizon: int
    possible: np.ndarray
    starts: np.ndarray
    row: np.ndarray
    nothing: np.ndarray

    @classmethod
    def of(
        cls, horizon: int, possible: np.ndarray, starts: np.ndarray, row: np.ndarray, R: np.ndarray
    ) -> Structure:
        """With the rewards R of shape (M, S, A), or an upper bound on them."""
        nothing = dead(R, np.asarray(possible.any(axis=0)))
        return cls(horizon, possible, starts, row, nothing)

    @cached_property
    def successors(self) -> Successors:
        """Next states possible in some context."""
        return Successors.of(np.asarray(self.possible.any(axis=0)))

    @cached_property
    def mask(self) -> np.ndarray:
        """Which of them are possible in each context; shape (M, S, A, G)."""
        reach = self.successors
        index = np.broadcast_to(reach.index, (len(self.possible), *reach.index.shape))
        return np.take_along_axis(self.possible, index, axis=-1) & reach.there

    @cached_property
    def size(self) -> np.ndarray:
        """How many next states each law may have; shape (M, S, A)."""
        return self.possible.sum(axis=-1)

    @cached_property
    def first(self) -> np.ndarray:
        """States in which an episode can start."""
        return np.flatnonzero(self.starts.any(axis=0))

    @cached_property
    def tree(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Histories: states (N,) and children (N, A, G) of each step, -1 where nothing is earned."""
        reach = self.successors
        A, G = reach.index.shape[1:]
        state, made = self.first, []
        for t in range(self.horizon):
            if len(state) * A * G * len(self.possible) > TREE:
                raise PlanningBudgetError(
                    f"there are {len(state):,} histories of {t} steps: tell what cannot happen "
                    "(possible=, starts=), or take a shorter horizon"
                )
            to = reach.index[state]
            alive = reach.there[state] & ~self.nothing[to] & (t + 1 < self.horizon)
            child = np.full(to.shape, -1, dtype=np.int64)
            child[alive] = np.arange(int(alive.sum()))
            made.append((state, child))
            state = to[alive]
        return made


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What was known at the last doubling of each law.

    Attributes
    ----------
    phat : ndarray, shape (rows, S)
        Frequencies of next states.
    n, iota : ndarray, shape (rows,)
        Visits, and logarithms times the square of the scale of bonuses.
    start : ndarray, shape (M, S)
        Frequencies of context and first state.
    k, start_iota : float
        Episodes, and their logarithm.
    R : ndarray, shape (M, S, A)
        Rewards, or upper bounds on them.
    visits : ndarray, shape (S, A)
        Of all contexts.
    """

    phat: np.ndarray
    n: np.ndarray
    iota: np.ndarray
    start: np.ndarray
    k: float
    start_iota: float
    R: np.ndarray
    visits: np.ndarray


@dataclass(frozen=True, eq=False)
class OptimisticPlan:
    """A policy with the value that optimism gives it.

    Attributes
    ----------
    policy : Policy
    value : float
        Optimistic value of the policy.
    gap : float
        With it, an optimistic value of knowing the context; 0 for an exact plan.
    exact : bool
    """

    policy: Policy
    value: float
    gap: float
    exact: bool


class _Root:
    """The optimistic mean over context and first state."""

    def __init__(self, known: Structure, seen: Snapshot, kind: int) -> None:
        self.at = np.ix_(np.arange(len(known.starts)), np.asarray(known.first))
        self.p = seen.start[self.at].ravel()
        self.possible = known.starts[self.at].ravel()
        self.size = int(known.starts.sum())
        self.seen, self.kind = seen, kind
        self.law = np.zeros(self.p.size)

    def value(self, alpha: np.ndarray) -> float:
        """Of alpha vectors (first states, M); `law` is then what attains it."""
        v = np.ascontiguousarray(alpha.T).ravel()
        s = self.seen
        found = kernels.backup(
            v, self.p, self.possible, s.k, s.start_iota, self.size, self.kind, self.law
        )
        return min(1.0, float(found))

    def weights(self) -> np.ndarray:
        """The law, as (first states, M)."""
        return self.law.reshape(len(self.seen.start), -1).T


def exact(known: Structure, seen: Snapshot, kind: int, max_vectors: int) -> OptimisticPlan:
    """The best of all policies over histories, by finite sets of attainable alpha vectors.

    Both bounds are monotone in what follows, so that a vector below another one is never needed.

    Raises
    ------
    PlanningBudgetError
        If there are more than `max_vectors` ways to go on at one place.
    """
    M, S, _A = known.row.shape
    reach, mask = known.successors, known.mask
    vectors, first, sizes = np.zeros((1, M)), np.zeros(S, np.int64), np.ones(S, np.int64)
    layers: list[Layer] = []
    for t in range(known.horizon - 1, -1, -1):
        last = t == known.horizon - 1
        made: list[np.ndarray] = []
        nodes: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        begin, count = np.zeros(S, np.int64), np.ones(S, np.int64)
        total = 0
        for s in range(S):
            begin[s] = total
            if known.nothing[s]:
                made.append(np.zeros((1, M)))
                nodes.append((np.array([s]), np.array([0]), first[None, :]))
                total += 1
                continue
            each, actions, choices = [], [], []
            for a in np.argsort(seen.visits[s], kind="stable"):
                to, there = reach.index[s, a], reach.there[s, a]
                rows = known.row[:, s, a]
                p = np.where(mask[:, s, a], seen.phat[rows[:, None], to], 0.0)
                there = (
                    there
                    if kind == kernels.BERNSTEIN
                    else there & _matters(p, mask[:, s, a], seen.n[rows])
                )
                many = np.where(there, sizes[to], 1) if not last else np.ones(len(to), np.int64)
                if np.prod(many.astype(float)) > max_vectors:
                    raise PlanningBudgetError(
                        f"step {t}, state {s}, action {a}: more than {max_vectors:,} ways to go "
                        "on; planner='alternating', or 'auto', does without them"
                    )
                found = kernels.attainable(
                    vectors,
                    first[to],
                    many,
                    seen.R[:, s, a],
                    p,
                    mask[:, s, a],
                    seen.n[rows],
                    seen.iota[rows],
                    known.size[:, s, a],
                    kind,
                    last,
                )
                keep = kernels.pareto(found, _order(found))
                follow = np.tile(first, (len(keep), 1))
                digits = np.unravel_index(keep, tuple(many))
                for j in np.flatnonzero(there):
                    follow[:, to[j]] = first[to[j]] + digits[j]
                each.append(found[keep])
                actions.append(np.full(len(keep), a))
                choices.append(follow)
            found = np.concatenate(each)
            keep = kernels.pareto(found, _order(found))
            made.append(found[keep])
            nodes.append(
                (
                    np.full(len(keep), s),
                    np.concatenate(actions)[keep],
                    np.concatenate(choices)[keep],
                )
            )
            count[s] = len(keep)
            total += len(keep)
        vectors, first, sizes = np.concatenate(made), begin, count
        state, action, child = (np.concatenate(part) for part in zip(*nodes, strict=True))
        layers.insert(0, Layer(state.astype(np.int32), action.astype(np.int32), child))
    return _best_root(known, seen, kind, max_vectors, vectors, first, sizes, layers)


def _best_root(
    known: Structure,
    seen: Snapshot,
    kind: int,
    max_vectors: int,
    vectors: np.ndarray,
    first: np.ndarray,
    sizes: np.ndarray,
    layers: list[Layer],
) -> OptimisticPlan:
    """The best choice of a vector for each first state, all of them tried."""
    root, starts = _Root(known, seen, kind), known.first
    many = sizes[starts]
    if np.prod(many.astype(float)) > max_vectors:
        raise PlanningBudgetError(f"more than {max_vectors:,} ways to start")
    # All at once, as the continuations of one action of one context that the starts are.
    M = vectors.shape[1]
    total = int(np.prod(many))
    digits = np.stack(np.unravel_index(np.arange(total), tuple(many)), axis=1)
    values = kernels.roots(
        vectors,
        first[starts],
        digits,
        root.p,
        root.possible,
        seen.k,
        seen.start_iota,
        root.size,
        kind,
        M,
    )
    best = int((values >= values.max() - 1e-12).argmax())
    at = np.full(known.row.shape[1], -1, dtype=np.int32)
    at[starts] = first[starts] + digits[best]
    policy = _reached(layers, at)
    return OptimisticPlan(policy, min(1.0, float(values[best])), 0.0, True)


def _reached(layers: list[Layer], root: np.ndarray) -> Policy:
    """The policy of these nodes without those that are never reached."""
    kept, wanted = [], np.unique(root[root >= 0])
    place = np.full(len(layers[0].state), -1, dtype=np.int32)
    place[wanted] = np.arange(len(wanted))
    root = np.where(root >= 0, place[root], -1)
    for t, layer in enumerate(layers):
        child = layer.child[wanted]
        state, action = layer.state[wanted], layer.action[wanted]
        if t + 1 < len(layers):
            wanted = np.unique(child)
            place = np.full(len(layers[t + 1].state), -1, dtype=np.int32)
            place[wanted] = np.arange(len(wanted))
            child = place[child]
        kept.append(Layer(state, action, child.astype(np.int32)))
    return Policy.of(kept, root)


def _matters(p: np.ndarray, mask: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Next states whose values the bonus solvers look at: seen in some context, or the only one."""
    alone = mask & (mask.sum(axis=1, keepdims=True) == 1)
    return ((p > 0) & (n > 0)[:, None] | alone).any(axis=0)


def _order(vectors: np.ndarray) -> np.ndarray:
    """From larger sums to smaller, equal ones as they come."""
    return np.argsort(-np.round(vectors.sum(axis=1), 12), kind="stable")


def alternating(known: Structure, seen: Snapshot, kind: int) -> OptimisticPlan:
    """A policy on the tree of histories, improved in turn with the laws that are kindest to it.

    For "bernstein" the value grows from sweep to sweep: laws are a subgradient of a convex function.
    The gap is up to what could be earned, at the kindest, by knowing the context.
    """
    tree, reach = known.tree, known.successors
    M, S, _ = known.row.shape
    root = _Root(known, seen, kind)
    center = np.where(root.possible.reshape(M, -1), seen.start[root.at] if seen.k else 1.0, 0.0)
    weights = (center / max(center.sum(), 1e-300)).T
    laws = _frequencies(known, seen)
    best, kept = -1.0, None
    for _ in range(SWEEPS):
        down = [weights]
        for t, (state, child) in enumerate(tree[:-1]):
            node, action, j = np.nonzero(child >= 0)
            law = (
                laws[t][node, action, j]
                if isinstance(laws, list)
                else (laws[state[node], action, j])
            )
            down.append(down[-1][node] * law)
        after = np.zeros((0, M))
        new, actions = [], []
        for (state, child), weight in zip(reversed(tree), reversed(down), strict=True):
            alpha, action = np.zeros((len(state), M)), np.zeros(len(state), np.int64)
            law = np.zeros((*child.shape, M))
            kernels.sweep(
                state,
                child,
                after,
                reach.index,
                seen.R,
                known.row,
                seen.phat,
                known.mask,
                seen.n,
                seen.iota,
                known.size,
                kind,
                weight,
                seen.visits,
                alpha,
                action,
                law,
            )
            new.insert(0, law)
            actions.insert(0, action)
            after = alpha
        value = root.value(after)
        if value <= best + GROWS:
            break
        best, kept = value, actions
        laws, weights = new, root.weights()
    assert kept is not None
    known_context = root.value(
        kernels.by_context(
            known.horizon,
            known.nothing,
            reach.index,
            seen.R,
            known.row,
            seen.phat,
            known.mask,
            seen.n,
            seen.iota,
            known.size,
            kind,
        )[known.first]
    )
    layers = []
    for (state, child), action in zip(tree, kept, strict=True):
        at, to = np.arange(len(state)), reach.index[state, action]
        chosen = child[at, action]
        follow = np.full((len(state), S), -1, dtype=np.int32)
        for j in range(to.shape[1]):
            there = chosen[:, j] >= 0
            follow[at[there], to[there, j]] = chosen[there, j]
        layers.append(Layer(state.astype(np.int32), action.astype(np.int32), follow))
    start = np.full(S, -1, dtype=np.int32)
    start[known.first] = np.arange(len(known.first))
    policy = Policy.of(layers, start)
    return OptimisticPlan(policy, best, max(0.0, known_context - best), False)


def _frequencies(known: Structure, seen: Snapshot) -> np.ndarray:
    """Laws to begin with, (S, A, G, M): as seen, or all alike where nothing was."""
    rows, to = known.row[..., None], known.successors.index[None]
    even = known.mask / np.maximum(known.size, 1)[..., None]
    law = np.where((seen.n[known.row] > 0)[..., None], seen.phat[rows, to], even)
    return np.ascontiguousarray(np.moveaxis(np.where(known.mask, law, 0.0), 0, -1))


def unvisited(known: Structure, R: np.ndarray) -> Any:
    """The snapshot before anything was seen."""
    M, S, A = known.row.shape
    rows = int(known.row.max()) + 1
    return Snapshot(
        np.zeros((rows, S)),
        np.zeros(rows),
        np.zeros(rows),
        np.zeros((M, S)),
        0.0,
        0.0,
        R,
        np.zeros((S, A)),
    )
