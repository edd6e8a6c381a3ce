"""Finite Markov decision processes: transitions and rewards read and checked, policies solved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_solve, qr
from scipy.sparse.csgraph import breadth_first_order
from scipy.sparse.linalg import splu

from whp.validate import as_floats

__all__ = [
    "MDP",
    "Reward",
    "Shaping",
    "Solved",
    "as_policy",
    "as_reward",
    "as_start",
    "as_transitions",
    "middle",
    "seen",
]

ROWS_SUM = 1e-6  # float32 tables do no better
SPARSE = (
    100,
    0.1,
)  # from so many states on, with at most this share of entries, matrices are sparse
IMPROVED = 1e-12  # a smaller advantage, as a share of the largest number, is rounding
INVERTED = 3000  # states up to which the matrix of discounted visits is inverted whole
FULL = 0.1  # of all entries in a sparse factor: a dense one takes less time

Table = Float[np.ndarray, "S A"]
States = Float[np.ndarray, " S"]
Actions = Int[np.ndarray, " S"]


@dataclass(frozen=True, eq=False)
class Solved:
    """An optimal policy and its values.

    Parameters
    ----------
    actions : ndarray, shape (S,), int
    values : ndarray, shape (S,)
        Of that policy.
    residual : float
        Largest amount by which one action promises more than the policy's value: the optimum is at
        most ``residual / (1 - discount)`` above it.
    """

    actions: Actions
    values: States
    residual: float


@dataclass(frozen=True, eq=False)
class MDP:
    """States, actions, transitions, a start and a discount, without a reward.

    Parameters
    ----------
    P : ndarray or csr_array, shape (S·A, S)
        Row s·A + a is the law of the next state.
    n_actions : int
    discount : float
    start : ndarray, shape (S,)
    correction : float
        Largest amount by which a row was off 1 before it was divided by its sum.
    states, actions : tuple of str
        Names, empty where there are none.
    """

    P: Any
    n_actions: int
    discount: float
    start: States
    correction: float = 0.0
    states: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    _factors: dict[bytes, Any] = field(default_factory=dict, repr=False)

    @property
    def n_states(self) -> int:
        """S."""
        return self.P.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """S and A."""
        return self.n_states, self.n_actions

    @property
    def sparse(self) -> bool:
        """Whether matrices are sparse."""
        return sp.issparse(self.P)

    def expected(self, values: States) -> Table:
        """E[values(S') | s, a]."""
        return np.asarray(self.P @ values).reshape(self.shape)

    def under(self, policy: Table | Actions) -> Any:
        """Transitions of the policy, of shape (S, S)."""
        S, A = self.shape
        if policy.ndim == 1:
            return self.P[np.arange(S) * A + policy]
        if self.sparse:
            rows = np.repeat(np.arange(S), A)
            mix = sp.csr_array((policy.ravel(), (rows, np.arange(S * A))), shape=(S, S * A))
            return (mix @ self.P).tocsr()
        return np.einsum("sa,sat->st", policy, self.P.reshape(S, A, S))

    @cached_property
    def _fills_in(self) -> bool:
        """Whether factors of a sparse matrix are nearly dense, as those of random graphs are."""
        S = self.n_states
        if S > INVERTED:
            return False
        flow = self.under(np.zeros(S, dtype=np.int64))
        made = splu((sp.eye_array(S, format="csc") - self.discount * flow).tocsc())
        return made.L.nnz + made.U.nnz > FULL * S**2

    def _solve(self, policy: Table | Actions, right: np.ndarray, transposed: bool) -> np.ndarray:
        """(I − γP_π)⁻¹ times `right`, or its transpose times `right`."""
        flow = self.under(policy)
        if self.sparse and not self._fills_in:
            key = policy.tobytes()
            if key not in self._factors:
                eye = sp.eye_array(self.n_states, format="csc")
                self._factors.clear()  # one policy is asked for several times in a row
                self._factors[key] = splu((eye - self.discount * flow).tocsc())
            return self._factors[key].solve(right, "T" if transposed else "N")
        if self.sparse:
            flow = flow.toarray()
        matrix = np.eye(self.n_states) - self.discount * flow
        return np.linalg.solve(matrix.T if transposed else matrix, right)

    def values(self, policy: Table | Actions, reward: Table) -> States:
        """Discounted sum of the reward (S, A) from each state under the policy."""
        return self._solve(policy, self.on(policy, reward), False)

    def on(self, policy: Table | Actions, table: Table) -> States:
        """Mean of a table over the policy's actions."""
        if policy.ndim == 1:
            return table[np.arange(self.n_states), policy]
        return (policy * table).sum(1)

    def visits(self, policy: Table | Actions) -> Table:
        """Discounted visits of states and actions, which add up to 1/(1 − γ)."""
        there = np.maximum(self._solve(policy, self.start, True), 0.0)
        if policy.ndim == 2:
            return there[:, None] * policy
        made = np.zeros(self.shape)
        made[np.arange(self.n_states), policy] = there
        return made

    def best(self, reward: Table, actions: Actions | None = None) -> Solved:
        """Policy iteration from `actions`; an action is changed only for more than rounding."""
        at = np.arange(self.n_states)
        taken = np.array(reward.argmax(1) if actions is None else actions)
        while True:
            values = self.values(taken, reward)
            q = reward + self.discount * self.expected(values)
            gain = q.max(1) - q[at, taken]
            better = gain > IMPROVED * max(np.abs(q).max(), np.abs(reward).max())
            if not better.any():
                return Solved(taken, values, float(max(0.0, (q.max(1) - values).max())))
            taken[better] = q[better].argmax(1)

    @cached_property
    def uniform(self) -> Table:
        """The policy that draws every action alike."""
        return np.full(self.shape, 1 / self.n_actions)

    @cached_property
    def shaping(self) -> Shaping:
        """What potentials add; its factor serves all rewards."""
        return Shaping(self)

    def reached(self, policy: Table) -> Bool[np.ndarray, " S"]:
        """Which states the policy reaches from the start, by the graph: ρ > 0 up to rounding is not."""
        S = self.n_states
        edges = sp.lil_array((S + 1, S + 1))
        edges[:S, :S] = sp.csr_array(self.under(policy)) != 0
        edges[S, np.flatnonzero(self.start)] = 1
        order: Any = breadth_first_order(edges.tocsr(), S, return_predecessors=False)
        found = np.zeros(S + 1, dtype=bool)
        found[order] = True
        return found[:S]

    def first_visits(self, policy: Table) -> States:
        """ρ(s) = E γ^T for the first visit T of s: (μG)(s)/G(s, s) with G = (I − γP_π)⁻¹."""
        S = self.n_states
        if self.sparse and S > INVERTED:
            diagonal = np.empty(S)
            for first in range(0, S, 500):
                block = np.zeros((S, min(500, S - first)))
                block[first + np.arange(block.shape[1]), np.arange(block.shape[1])] = 1.0
                solved = self._solve(policy, block, False)
                diagonal[first : first + block.shape[1]] = solved[
                    first + np.arange(block.shape[1]), np.arange(block.shape[1])
                ]
        else:
            diagonal = np.diag(self._solve(policy, np.eye(S), False))
        hits = self._solve(policy, self.start, True) / diagonal
        return np.where(self.reached(policy), np.clip(hits, 0.0, 1.0), 0.0)


@dataclass(frozen=True, eq=False)
class Shaping:
    """M φ = γ E φ(S') − φ(s): what potentials φ add to an expected reward."""

    mdp: MDP

    @cached_property
    def matrix(self) -> Any:
        """M, of shape (S·A, S)."""
        S, A = self.mdp.shape
        rows = np.arange(S * A)
        if self.mdp.sparse:
            here = sp.csr_array((np.ones(S * A), (rows, rows // A)), shape=(S * A, S))
            return (self.mdp.discount * self.mdp.P - here).tocsr()
        M = self.mdp.discount * self.mdp.P
        M[rows, rows // A] -= 1
        return M

    def fit(self, table: Table, weights: Table | None = None) -> Float[np.ndarray, " S"]:
        """φ that makes ‖√w (table − M φ)‖₂ least, by seminormal equations and refinement.

        They square the condition number of M, about 2/(1 − γ), which refinement takes back.
        """
        M, y = self.matrix, table.ravel()
        w = np.ones(len(y)) if weights is None else weights.ravel()
        solve = self._alike if weights is None else self._solver(w)
        phi = np.zeros(M.shape[1])
        for _ in range(3):
            phi = phi + solve(M.T @ (w * (y - M @ phi)))
        return phi

    @cached_property
    def _alike(self) -> Callable[[np.ndarray], np.ndarray]:
        return self._solver(np.ones(self.matrix.shape[0]))

    def _solver(self, w: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """(MᵀwM)⁻¹."""
        M = self.matrix
        if self.mdp.sparse:
            return splu((M.T @ sp.diags_array(w) @ M).tocsc()).solve
        # The factor of √w M by QR: that of MᵀwM does not exist for discounts near 1.
        upper = qr(np.sqrt(w)[:, None] * M, mode="r", check_finite=False)[0][: M.shape[1]]
        return lambda right: cho_solve((upper, False), right)

    def of(self, phi: Float[np.ndarray, " S"]) -> Table:
        """M φ as a table."""
        return (self.matrix @ phi).reshape(self.mdp.shape)

    def rest(self, table: Table) -> Table:
        """What the best φ leaves of a table."""
        return table - self.of(self.fit(table))


def middle(table: np.ndarray) -> float:
    """Of its range."""
    return float(table.max() / 2 + table.min() / 2)


def as_transitions(transitions: Any) -> tuple[Any, int, float]:
    """Rows of laws as (S·A, S), the number of actions, and the largest correction of a sum.

    Raises
    ------
    ValueError
        If shapes do not fit, or a row is no law; the first state and action are named.
    """
    if isinstance(transitions, tuple | list) and any(sp.issparse(t) for t in transitions):
        P, A = _of_matrices(transitions)
    else:
        P, A = _of_array(as_floats(transitions, "transitions"))
    values = np.asarray(P.data if sp.issparse(P) else P)
    if not (np.isfinite(values) & (values >= 0)).all():
        rows = P.toarray() if sp.issparse(P) else P
        row, after = np.argwhere(~(np.isfinite(rows) & (rows >= 0)))[0]
        raise ValueError(
            f"transitions must be finite and at least 0, got {rows[row, after]:g} at state "
            f"{row // A}, action {row % A}, next state {after}"
        )
    sums = np.asarray(P.sum(axis=1)).ravel()
    off = np.abs(sums - 1)
    if off.max() > ROWS_SUM:
        row = int(np.argmax(off > ROWS_SUM))
        raise ValueError(
            f"transitions must sum to 1 over next states, got {sums[row]:.9g} at state "
            f"{row // A}, action {row % A}"
        )
    if sp.issparse(P):
        return (sp.diags_array(1 / sums) @ P).tocsr(), A, float(off.max())
    P = P / sums[:, None]
    if P.shape[1] >= SPARSE[0] and (P != 0).mean() <= SPARSE[1]:
        P = sp.csr_array(P)
    return P, A, float(off.max())


def _of_array(array: np.ndarray) -> tuple[Any, int]:
    shape = array.shape
    if len(shape) != 3 or 0 in shape or shape[0] != shape[2]:
        told = ""
        if len(shape) == 3 and shape[1] == shape[2]:
            told = ": did you mean np.moveaxis(P, 0, 1)?"
        raise ValueError(f"transitions must be (S, A, S), got {shape}{told}")
    return array.reshape(-1, shape[2]), shape[1]


def _of_matrices(matrices: Sequence[Any]) -> tuple[Any, int]:
    """A matrix (S, S) for each action, as mdptoolbox has them."""
    made = [sp.csr_array(m, dtype=np.float64) for m in matrices]
    shapes = {m.shape for m in made}
    S, A = made[0].shape[0], len(made)
    if shapes != {(S, S)}:
        raise ValueError(
            f"transitions must be one square matrix for each action, got {sorted(shapes)}"
        )
    stacked = sp.vstack(made, format="csr")
    return stacked[np.arange(S * A).reshape(A, S).T.ravel()], A


def as_start(start: Any, S: int) -> States:
    """A law of the first state, uniform where None is given."""
    if start is None:
        return np.full(S, 1 / S)
    law = as_floats(start, "start")
    if law.shape != (S,):
        raise ValueError(f"start must have {S} entries, one a state, got shape {law.shape}")
    if not np.isfinite(law).all() or law.min() < 0 or abs(law.sum() - 1) > ROWS_SUM:
        raise ValueError("start must be a law over states: at least 0, with sum 1")
    return law / law.sum()


def as_policy(policy: Any, shape: tuple[int, int], argument: str) -> Table:
    """Probabilities (S, A) from themselves, or from one action a state."""
    S, A = shape
    array = as_floats(policy, argument)
    if array.shape == (S,):
        if not (np.isfinite(array).all() and (array == np.floor(array)).all()):
            raise ValueError(f"{argument} must hold whole numbers of actions, or be (S, A)")
        if array.min() < 0 or array.max() >= A:
            raise ValueError(f"{argument} must hold actions 0..{A - 1}")
        return np.eye(A)[array.astype(np.int64)]
    if array.shape != shape:
        raise ValueError(f"{argument} must be (S,) actions or (S, A) = {shape}, got {array.shape}")
    off = np.abs(array.sum(1) - 1)
    if not np.isfinite(array).all() or array.min() < 0 or off.max() > ROWS_SUM:
        raise ValueError(
            f"{argument} must be a law over actions in each state, not so in state "
            f"{int(np.argmax((array < 0).any(1) | ~(off <= ROWS_SUM)))}"
        )
    return array / array.sum(1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Reward:
    """A reward function on an MDP.

    Parameters
    ----------
    table : ndarray, shape (S, A)
        What is expected, less `offset`.
    offset : float
        Near the middle of its range: a constant is shaping, and would cost digits.
    given : ndarray, shape (S,), (S, A) or (S, A, S)
        As it was given; 0 in place of what is no number on transitions that cannot happen, or were
        never seen.
    unknown : int
        How many such numbers there are.
    """

    table: Table
    offset: float
    given: np.ndarray
    unknown: int = 0

    def whole(self, shape: tuple[int, int]) -> Float[np.ndarray, "S A S2"]:
        """By state, action and next state."""
        S, A = shape
        given = self.given[:, :, None] if self.given.ndim == 2 else self.given
        return np.broadcast_to(given, (S, A, S))


def as_reward(
    reward: Any, mdp: MDP, argument: str, visits: Int[np.ndarray, "S A S2"] | None = None
) -> Reward:
    """A reward by state entered (S,), by state and action, or by both and the next state.

    What lies on transitions that cannot happen is taken as 0 wherever rewards are expected,
    whatever it is. NaN may stand where nothing was visited, and is counted.
    """
    S, A = mdp.shape
    array = as_floats(reward, argument)
    if array.shape not in ((S,), (S, A), (S, A, S)):
        raise ValueError(
            f"{argument} must be (S,), (S, A) or (S, A, S) with S = {S}, A = {A}, got {array.shape}"
        )
    unknown = 0
    if visits is not None:
        missing = np.isnan(array) & (seen(visits, array.ndim) == 0)
        array, unknown = np.where(missing, 0.0, array), int(missing.sum())
    if array.ndim < 3:
        if not np.isfinite(array).all():
            where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{argument} must be finite, got NaN or infinity, first at {where}")
        offset = middle(array)
        table = array - offset
        return Reward(mdp.expected(table) if array.ndim == 1 else table, offset, array, unknown)
    rows = array.reshape(S * A, S)
    possible = (mdp.P != 0).toarray() if mdp.sparse else mdp.P != 0
    wrong = possible & ~np.isfinite(rows)
    if wrong.any():
        row, after = np.argwhere(wrong)[0]
        raise ValueError(
            f"{argument} must be finite where a transition can happen, not so at state {row // A}, "
            f"action {row % A}, next state {after}"
        )
    offset = middle(rows[possible])
    rows = np.where(possible, rows - offset, 0.0)
    paid = mdp.P.multiply(rows).sum(axis=1) if mdp.sparse else np.einsum("ij,ij->i", mdp.P, rows)
    table = np.asarray(paid).reshape(S, A)
    known = np.isfinite(array)
    unknown += int((~known).sum())
    return Reward(table, offset, np.where(known, array, 0.0), unknown)


def seen(visits: np.ndarray, axes: int) -> np.ndarray:
    """Visits of what a reward goes by: the state entered, the pair, or the pair and next state."""
    return {1: visits.sum((0, 1)), 2: visits.sum(2), 3: visits}[axes]
