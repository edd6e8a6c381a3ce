"""Learning a latent MDP from episodes whose context is revealed afterwards."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np

from whp import provenance
from whp.io import write
from whp.progress import track
from whp.rl._latent_mdp import optimism, planning
from whp.rl._latent_mdp.checks import Steps
from whp.rl._latent_mdp.model import TOLERANCE, LatentMDP, longest_return
from whp.rl._latent_mdp.optimism import KINDS, OptimisticPlan, Snapshot, Structure
from whp.rl._latent_mdp.planning import PlanningBudgetError
from whp.rl._latent_mdp.policy import Layer, Policy
from whp.validate import as_array, as_choice, as_floats, as_fraction, as_int, as_real, as_rng

__all__ = ["LatentMDPLearner", "log_term"]

SOLVERS = ("bernstein", "mvp", "l1", "posterior", "greedy")
REDRAW = 20  # episodes after which posterior sampling draws anew
QUICK = 50_000  # ways to go on up to which planner="auto" plans exactly
MAX_VECTORS = 2_000_000
ALIKE = 1e-6  # rewards this close are one: single precision


def log_term(coordinates: float, snapshots: float, delta: float) -> float:
    """The logarithm ι of a confidence box, so that all boxes of the stream hold with probability 1 − δ/2.

    Parameters
    ----------
    coordinates : float
        Probabilities and mean rewards that have a box.
    snapshots : float
        How many each has; j(j + 1) for the j-th of a stream without an end.
    delta : float
        δ of the certificate, of which half is spent here.
    """
    return math.log(2 * coordinates * snapshots / (delta / 2))


class LatentMDPLearner:
    """Plays episodes, is told their context at the end, and learns which policy over histories is best.

    Parameters
    ----------
    n_contexts, n_states, n_actions, horizon : int
        M, S, A and the most steps of an episode, H.
    solver : {"bernstein", "mvp", "l1", "posterior", "greedy"}
        How plans deal with what is not known: the kindest law in a box of Maurer and Pontil; a
        bonus for the spread of values (monotonic value propagation); a bonus for the distance in
        l1; a draw from the posterior; not at all. The last two have no guarantee.
    planner : {"auto", "exact", "alternating"}
        ``"exact"`` keeps all attainable alpha vectors; ``"alternating"`` improves one policy on the
        tree of histories, with a gap; ``"auto"`` is exact while that is quick.
    bonus_scale : float
        1 is the theory; smaller is a heuristic, and the certificate is void from then on.
    delta : float
        Failure probability of the certificate, spent in the boxes: it cannot be changed later.
    n_episodes : int, optional
        Episodes that will be played at most. Without it bounds hold for ever, and are wider.
    model : LatentMDP, optional
        The true model, where the stream is a simulation: measures regret, is never learnt from.
    rewards : {"known", "learn"}
        Whether `reward_table` is given or mean rewards are learnt, with boxes of their own.
    reward_table : array_like, shape (M, S, A), optional
        What each context pays, in the unit of the rewards.
    groups : array_like of int, shape (S, A) or (M, S, A), optional
        Pairs with the same number have the same law (within each context for the first shape), and
        their counts are pooled. By default each has its own.
    possible : array_like of bool, shape (S, A, S) or (M, S, A, S), optional
        Transitions that can happen; all, if not given. A state that leads to itself alone and pays
        nothing ends an episode.
    starts : array_like of bool, shape (S,) or (M, S), optional
        First states that can happen.
    reward_scale : float, optional
        Most that an episode can earn; 1 if not given.
    max_vectors : int, optional
        Ways to go on at one place that an exact plan may try: 50,000 for "auto", else 2,000,000.
    random_state : numpy.random.Generator, int or None
        Of the draws of ``"posterior"``.

    Attributes
    ----------
    policy_ : Policy
        In force.
    n_visits_ : ndarray of int, shape (M, S, A)
    P_hat_ : ndarray, shape (M, S, A, S)
        Frequencies so far; even where nothing was seen.
    w_hat_, nu_hat_ : ndarray, shapes (M,), (M, S)
    optimistic_value_, planning_gap_ : float
        Of the policy in force, in the unit of the rewards.
    n_plans_ : int
    history_ : dict of ndarray
        ``optimistic``, ``gap``, ``earned``, ``plan`` of each episode.

    Raises
    ------
    ValueError
        If something is out of range, or arrays do not fit together.

    Examples
    --------
    >>> learner = LatentMDPLearner(2, 1, 2, 1, reward_table=[[[1, 0]], [[0, 1]]], n_episodes=1)
    >>> learner.begin_episode(0)
    >>> action = learner.act()
    >>> learner.observe(action, reward=float(action == 0), next_state=0)
    >>> learner.end_episode(context=0)
    >>> learner.n_visits_.sum()
    np.int64(1)
    """

    def __init__(
        self,
        n_contexts: int,
        n_states: int,
        n_actions: int,
        horizon: int,
        *,
        solver: Literal["bernstein", "mvp", "l1", "posterior", "greedy"] = "bernstein",
        planner: Literal["auto", "exact", "alternating"] = "auto",
        bonus_scale: float = 1.0,
        delta: float = 0.05,
        n_episodes: int | None = None,
        model: LatentMDP | None = None,
        rewards: Literal["known", "learn"] = "known",
        reward_table: Any = None,
        groups: Any = None,
        possible: Any = None,
        starts: Any = None,
        reward_scale: float | None = None,
        max_vectors: int | None = None,
        random_state: np.random.Generator | int | None = None,
    ) -> None:
        M, S = as_int(n_contexts, "n_contexts", low=1), as_int(n_states, "n_states", low=1)
        A, self._horizon = as_int(n_actions, "n_actions", low=1), as_int(horizon, "horizon", low=1)
        self._shape = M, S, A
        self._solver = as_choice(solver, "solver", SOLVERS)
        self._planner = as_choice(planner, "planner", ("auto", "exact", "alternating"))
        self._delta = as_fraction(delta, "delta")
        self._n_episodes = None if n_episodes is None else as_int(n_episodes, "n_episodes", low=1)
        scale = 1.0 if reward_scale is None else reward_scale
        self._reward_scale = as_real(scale, "reward_scale", low=0, high=math.inf, open_ends=True)
        self._learns_rewards = as_choice(rewards, "rewards", ("known", "learn")) == "learn"
        self._table = self._rewards(reward_table)
        self._possible = _mask(possible, "possible", (S, A, S), M)
        self._starts = _mask(starts, "starts", (S,), M)
        self._free = possible is None and starts is None
        self._row, self._tied = self._rows(groups)
        quick = QUICK if self.planner == "auto" else MAX_VECTORS
        self._max_vectors = (
            quick if max_vectors is None else as_int(max_vectors, "max_vectors", low=1)
        )
        self._random = as_rng(random_state, "random_state")
        self._model = self._fitting(model)
        rows = int(self._row.max()) + 1
        # Counts of all steps; what plans see are the snapshots, taken at 1, 2, 4, … visits.
        self._counts = np.zeros((rows, S))
        self._seen = np.zeros(rows, dtype=np.int64)
        self._visits = np.zeros(self.shape, dtype=np.int64)
        self._begun = np.zeros((M, S))
        self._paid, self._squares = np.zeros(self.shape), np.zeros(self.shape)
        self._phat, self._nhat, self._iota = np.zeros((rows, S)), np.zeros(rows), np.zeros(rows)
        self._start, self._k, self._start_iota = np.zeros((M, S)), 0.0, 0.0
        self._upper = np.ones(self.shape) if self._learns_rewards else self._table.copy()
        self._bonus_scale = self._smallest = math.inf
        self.bonus_scale = bonus_scale
        # One entry an episode, and the steps of all, one after the other.
        self._optimistic: list[float] = []
        self._gaps: list[float] = []
        self._earned: list[float] = []
        self._true: list[float] = []
        self._plans: list[int] = []
        self._contexts: list[int] = []
        self._states: list[list[int]] = []
        self._actions: list[list[int]] = []
        self._pays: list[list[float]] = []
        self.n_plans_, self._exact, self._inexact = 0, 0, 0
        self._solvers = {self.solver}
        self._confirmed, self._overridden, self._dropped = 0, 0, 0
        self._wrong, self._outside = "", ""
        self._stale, self._hopeless = True, False
        self._plan: OptimisticPlan | None = None
        self._value = math.nan
        self._now: _Episode | None = None
        provenance.register(self)

    # What is given

    def _rewards(self, table: Any) -> np.ndarray:
        if self._learns_rewards:
            if table is not None:
                raise ValueError("reward_table must be left out with rewards='learn'")
            return np.ones(self.shape)
        if table is None:
            raise ValueError(
                "reward_table must be given with rewards='known'; rewards='learn' learns it"
            )
        array = as_floats(table, "reward_table")
        if array.shape != self.shape:
            raise ValueError(f"reward_table must have shape {self.shape}, got {array.shape}")
        if not np.isfinite(array).all() or array.min() < 0:
            raise ValueError("reward_table must be finite and not negative")
        return array / self._reward_scale

    def _rows(self, groups: Any) -> tuple[np.ndarray, bool]:
        M, S, A = self.shape
        if groups is None:
            return np.arange(M * S * A).reshape(self.shape), False
        array = as_array(groups, "groups")
        if array.dtype.kind not in "iu" or array.shape not in ((S, A), self.shape):
            raise ValueError(
                f"groups must hold whole numbers of shape {(S, A)} or {self.shape}, got "
                f"{array.dtype} of shape {array.shape}"
            )
        codes = np.unique(array, return_inverse=True)[1].reshape(array.shape)
        if array.ndim == 2:
            codes = codes + np.arange(M)[:, None, None] * (codes.max() + 1)
        row = np.unique(codes, return_inverse=True)[1].reshape(self.shape)
        first = np.unique(row, return_index=True)[1]
        masks = self._possible.reshape(-1, S)
        if (masks[first][row.ravel()] != masks).any():
            raise ValueError("groups must not tie pairs of which possible says different things")
        return row, len(first) < M * S * A

    def _fitting(self, model: LatentMDP | None) -> LatentMDP | None:
        if model is None:
            return None
        if type(model) is not LatentMDP:
            raise TypeError(f"model must be a LatentMDP, got {type(model).__name__}")
        ours = (self.shape, self.horizon, self._reward_scale)
        if (model.shape, model.horizon, model.reward_scale) != ours:
            raise ValueError(
                f"model must have sizes, horizon and reward_scale {ours}, got "
                f"{(model.shape, model.horizon, model.reward_scale)}"
            )
        return model

    @property
    def shape(self) -> tuple[int, int, int]:
        """Contexts, states, actions."""
        return self._shape

    @property
    def horizon(self) -> int:
        """Most steps of an episode."""
        return self._horizon

    @property
    def solver(self) -> str:
        """How plans deal with what is not known."""
        return self._solver

    @property
    def planner(self) -> str:
        """How policies are searched."""
        return self._planner

    @property
    def max_vectors(self) -> int:
        """Ways to go on at one place that an exact plan may try."""
        return self._max_vectors

    @property
    def model(self) -> LatentMDP | None:
        """The true model, if it was given."""
        return self._model

    @property
    def delta(self) -> float:
        """Failure probability; spent in the boxes, and fixed."""
        return self._delta

    @property
    def n_episodes(self) -> int | None:
        """Episodes that the boxes were made for."""
        return self._n_episodes

    @property
    def reward_scale(self) -> float:
        """Most that an episode can earn."""
        return self._reward_scale

    @property
    def bonus_scale(self) -> float:
        """Scale of bonuses of plans to come; the smallest that was ever set is certified."""
        return self._bonus_scale

    @bonus_scale.setter
    def bonus_scale(self, value: float) -> None:
        self._bonus_scale = as_real(value, "bonus_scale", low=0, high=1e100, open_ends=True)
        self._smallest = min(self._smallest, self._bonus_scale)
        self._stale = True

    # What came out

    @property
    def policy_(self) -> Any:
        """The policy in force."""
        self._replan()
        assert self._plan is not None
        return self._plan.policy

    @property
    def optimistic_value_(self) -> float:
        """Optimistic value of the policy in force."""
        self._replan()
        assert self._plan is not None
        return self._reward_scale * self._plan.value

    @property
    def planning_gap_(self) -> float:
        """What has to be added to it where the planner is not exact."""
        self._replan()
        assert self._plan is not None
        return self._reward_scale * self._plan.gap

    @property
    def n_visits_(self) -> np.ndarray:
        """Visits of each context, state and action."""
        return self._visits.copy()

    @property
    def P_hat_(self) -> np.ndarray:
        """Frequencies of next states so far, pooled by group; even where nothing was seen."""
        even = self._possible / np.maximum(self._possible.sum(axis=-1, keepdims=True), 1)
        n = self._seen[self._row][..., None]
        return np.where(n > 0, self._counts[self._row] / np.maximum(n, 1), even)

    @property
    def w_hat_(self) -> np.ndarray:
        """Frequencies of contexts; even before the first episode."""
        n = self._begun.sum()
        M = self.shape[0]
        return self._begun.sum(axis=1) / n if n else np.full(M, 1 / M)

    @property
    def nu_hat_(self) -> np.ndarray:
        """Frequencies of first states in each context; even where nothing was seen."""
        n = self._begun.sum(axis=1, keepdims=True)
        even = self._starts / np.maximum(self._starts.sum(axis=1, keepdims=True), 1)
        return np.where(n > 0, self._begun / np.maximum(n, 1), even)

    @property
    def history_(self) -> dict[str, np.ndarray]:
        """Optimistic value and gap that each episode was played with, what it earned, and by which plan."""
        scale = self._reward_scale
        return {
            "optimistic": scale * np.array(self._optimistic),
            "gap": scale * np.array(self._gaps),
            "earned": scale * np.array(self._earned),
            "plan": np.array(self._plans, dtype=np.int64),
        }

    @property
    def n_episodes_(self) -> int:
        """Episodes played and learnt from."""
        return len(self._contexts)

    def steps(self) -> Steps:
        """All steps of the stream."""
        lengths = np.array([len(a) for a in self._actions], dtype=np.int64)
        states = np.array([s for run in self._states for s in run], dtype=np.int64)
        episode = np.repeat(np.arange(len(lengths)), lengths)
        first = np.cumsum(lengths + 1) - lengths - 1  # where the states of each episode begin
        at = np.arange(len(episode)) + episode
        early = at == first[episode] if len(episode) else np.zeros(0, bool)
        contexts = np.array(self._contexts, dtype=np.int64)
        return Steps(
            episode,
            contexts[episode],
            states[at],
            np.array([a for run in self._actions for a in run], dtype=np.int64),
            states[at + 1],
            np.array([r for run in self._pays for r in run], dtype=np.float64),
            np.where(early, -1, states[at - 1]),
            states[first[episode]],
            contexts,
            states[first],
        )

    # An episode

    def begin_episode(self, state: int) -> None:
        """Begin an episode in a state.

        Raises
        ------
        RuntimeError
            If the last one was not ended.
        ValueError
            If it is one more than `n_episodes`, or there is no such state.
        """
        if self._now is not None:
            raise RuntimeError("end_episode(context) was not called")
        if self._n_episodes is not None and len(self._contexts) >= self._n_episodes:
            raise ValueError(
                f"n_episodes was {self._n_episodes}, and all were played: the bounds were made for so many"
            )
        first = as_int(state, "state", low=0, high=self.shape[1] - 1)
        if not self._starts[:, first].any():
            raise ValueError(f"state {first} was ruled out as a first state by starts")
        if self.solver == "posterior" and len(self._contexts) % REDRAW == 0:
            self._stale = True
        self._replan()
        assert self._plan is not None
        self._now = _Episode(first, int(self._plan.policy.root[first]))

    def act(self, state: int | None = None) -> int:
        """What the policy does now.

        Parameters
        ----------
        state : int, optional
            Where the episode is; only checked.
        """
        now = self._running()
        if state is not None and state != now.states[-1]:
            raise ValueError(f"state must be {now.states[-1]}, where the episode is, got {state}")
        if len(now.actions) >= self.horizon:
            raise ValueError(f"the episode is over after {self.horizon} steps: call end_episode")
        assert self._plan is not None
        return self._plan.policy.action(len(now.actions), now.node)

    def observe(self, action: int, reward: float, next_state: int) -> None:
        """What was done, perhaps against the plan, what it paid, and where it led.

        Raises
        ------
        ValueError
            If something is out of range, or the episode earns more than `reward_scale`; nothing is
            then taken down.
        """
        now = self._running()
        t = len(now.actions)
        if t >= self.horizon:
            raise ValueError(f"the episode is over after {self.horizon} steps: call end_episode")
        did = as_int(action, "action", low=0, high=self.shape[2] - 1)
        to = as_int(next_state, "next_state", low=0, high=self.shape[1] - 1)
        where = f"in step {t + 1} of episode {len(self._contexts)}"
        try:
            paid = float(reward)
        except (TypeError, ValueError):
            raise TypeError(f"reward must be a number, got {reward!r} {where}") from None
        if not (math.isfinite(paid) and paid >= 0):
            raise ValueError(f"reward must be finite and not negative, got {paid} {where}")
        total = math.fsum([*now.rewards, paid / self._reward_scale])
        if total > 1 + TOLERANCE * self.horizon:
            raise ValueError(
                f"episode return {total * self._reward_scale:g} > {self._reward_scale:g}: pass "
                "reward_scale, the most that any episode can earn"
            )
        assert self._plan is not None
        policy = self._plan.policy
        now.overridden |= did != policy.action(t, now.node)
        if t + 1 < self.horizon:
            now.node = policy.after(t, now.node, did, to)
        now.actions.append(did)
        now.rewards.append(paid / self._reward_scale)
        now.states.append(to)

    def end_episode(self, context: int) -> None:
        """End the episode, perhaps before its last step, and learn from it.

        Parameters
        ----------
        context : int
            The one that drew it.

        Raises
        ------
        ValueError
            If there is no such context; the episode then goes on.
        """
        now = self._running()
        M = self.shape[0]
        if isinstance(context, bool | np.bool_) or not isinstance(context, int | np.integer):
            raise TypeError(f"context must be a whole number, got {context!r}")
        if not 0 <= context < M:
            raise ValueError(f"context {context} outside 0..{M - 1}")
        self._now = None
        m, k = int(context), len(self._contexts)
        states, actions = now.states, now.actions
        self._look(m, k, now)
        for t, (s, a, to) in enumerate(zip(states, actions, states[1:], strict=False)):
            self._take(m, s, a, to, now.rewards[t])
        self._begun[m, states[0]] += 1
        if (k + 1) & k == 0:
            self._start, self._k = self._begun / (k + 1), float(k + 1)
            self._start_iota = self._iota_of(k + 1)
            self._stale = True
        assert self._plan is not None
        self._optimistic.append(self._plan.value)
        self._gaps.append(self._plan.gap)
        self._exact += self._plan.exact
        self._inexact += not self._plan.exact
        self._earned.append(math.fsum(now.rewards))
        self._true.append(self._value)
        self._plans.append(self.n_plans_ - 1)
        self._overridden += now.overridden
        self._contexts.append(m)
        self._states.append(states)
        self._actions.append(actions)
        self._pays.append(now.rewards)

    def drop_episode(self) -> None:
        """Leave the running episode out, because its context never came to light; this is counted and told."""
        self._running()
        self._now = None
        self._dropped += 1

    def _running(self) -> _Episode:
        if self._now is None:
            raise RuntimeError("begin_episode(state) was not called")
        return self._now

    def _look(self, m: int, k: int, now: _Episode) -> None:
        """Whether the episode is one that its context could have drawn."""
        s, a, to = (
            np.array(now.states[:-1], int),
            np.array(now.actions, int),
            np.array(now.states[1:], int),
        )
        if not self._outside:
            bad = np.flatnonzero(~self._possible[m, s, a, to])
            if not self._starts[m, now.states[0]]:
                self._outside = f"episode {k} began in state {now.states[0]} in context {m}"
            elif len(bad):
                i = bad[0]
                self._outside = (
                    f"episode {k} went from state {s[i]} to {to[i]} by action {a[i]} in context {m}"
                )
        if self._learns_rewards:
            return
        off: Any = np.abs(self._table[:, s, a] - np.array(now.rewards)) > ALIKE
        agrees = ~off.any(axis=1)
        self._confirmed += bool(agrees[m] and agrees.sum() == 1)
        if not agrees[m] and not self._wrong:
            i = int(off[m].argmax())
            pays = np.flatnonzero(~off[:, i])
            who = (
                f"which only context {pays[0]} pays"
                if len(pays) == 1
                else (
                    f"which contexts {', '.join(map(str, pays))} pay"
                    if len(pays)
                    else "which none pays"
                )
            )
            paid = now.rewards[i] * self._reward_scale
            self._wrong = f"episode {k}: label {m} but reward {paid:.6g}, {who}"

    def _take(self, m: int, s: int, a: int, to: int, paid: float) -> None:
        row = self._row[m, s, a]
        self._counts[row, to] += 1
        self._seen[row] += 1
        n = int(self._seen[row])
        if n & (n - 1) == 0:  # of its own counts, at once: the box is one for n fixed beforehand
            self._phat[row], self._nhat[row] = self._counts[row] / n, n
            self._iota[row] = self._iota_of(n)
            self._stale = True
        self._visits[m, s, a] += 1
        if self._learns_rewards:
            self._paid[m, s, a] += paid
            self._squares[m, s, a] += paid**2
            v = int(self._visits[m, s, a])
            if v & (v - 1) == 0:
                mean = self._paid[m, s, a] / v
                spread = max(0.0, self._squares[m, s, a] / v - mean**2)
                iota = self._bonus_scale**2 * self._iota_of(v)
                wide = 2 * math.sqrt(spread * iota / v) + 5 * iota / v
                self._upper[m, s, a] = min(1.0, mean + wide)
                self._stale = True

    def _iota_of(self, n: int) -> float:
        """The logarithm of the box at n visits, a power of 2."""
        M, S, A = self.shape
        rewards = M * S * A if self._learns_rewards else 0
        coordinates = len(self._seen) * S + M * S + rewards
        if self._n_episodes is None:
            j = n.bit_length()
            return log_term(coordinates, j * (j + 1), self._delta)
        L = math.ceil(math.log2(self.horizon * self._n_episodes)) + 1
        return log_term(coordinates, L, self._delta)

    # Plans

    def _structure(self) -> Structure:
        return Structure.of(self.horizon, self._possible, self._starts, self._row, self._table)

    def _replan(self) -> None:
        if not self._stale and self._plan is not None:
            return
        if self._now is not None:
            return  # an episode is played to its end with the plan that it began with
        plan = self._sampled() if self.solver in ("posterior", "greedy") else self._hopeful()
        self._plan, self._stale = plan, False
        self.n_plans_ += 1
        self._value = math.nan if self.model is None else self.model.value_of(plan.policy)

    def _hopeful(self) -> OptimisticPlan:
        squared = self._bonus_scale**2
        seen = Snapshot(
            self._phat,
            self._nhat,
            self._iota * squared,
            self._start,
            self._k,
            self._start_iota * squared,
            self._upper,
            self._visits.sum(axis=0).astype(float),
        )
        kind = KINDS[self.solver]
        if not hasattr(self, "_known"):
            self._known = self._structure()
        if self.planner != "alternating" and not self._hopeless:
            try:
                return optimism.exact(self._known, seen, kind, self.max_vectors)
            except PlanningBudgetError:
                if self.planner == "exact":
                    raise
                self._hopeless = True
        return optimism.alternating(self._known, seen, kind)

    def _sampled(self) -> OptimisticPlan:
        """The best plan for a draw from the posterior, or for its mean."""
        a, b = self._counts[self._row], self._begun
        a, b = (a + 1) * self._possible, (b + 1) * self._starts
        if self.solver == "posterior":
            draws = self._random.standard_gamma(
                np.where(self._possible, self._counts[self._row] + 1, 1)
            )
            if self._tied:  # one draw a group
                first = np.unique(self._row, return_index=True)[1]
                draws = draws.reshape(-1, draws.shape[-1])[first][self._row]
            a = np.where(self._possible, draws, 0.0)
            b = np.where(self._starts, self._random.standard_gamma(b + ~self._starts), 0.0)
        R = self._table
        if self._learns_rewards:
            R = (self._paid + 0.5) / (self._visits + 1)
        w = b.sum(axis=1)
        drawn = _Drawn(
            w / w.sum(),
            b / np.maximum(b.sum(axis=1, keepdims=True), 1e-300),
            a / a.sum(axis=-1, keepdims=True),
            R,
            self.horizon,
        )
        made = planning.best(drawn, False, planning.MAX_NODES // 10)
        return OptimisticPlan(made.policy, min(1.0, made.value), 0.0, made.exact)

    # A whole stream

    def fit(self, env: Any, n_episodes: int) -> LatentMDPLearner:
        """Play episodes of a gymnasium environment with discrete states and actions.

        The context is ``info["context"]`` of the last step.

        Raises
        ------
        KeyError
            If the last step does not reveal it.
        """
        count = as_int(n_episodes, "n_episodes", low=1)
        if self._n_episodes is not None and self.n_episodes_ + count > self._n_episodes:
            raise ValueError(
                f"n_episodes was {self._n_episodes}, of which {self.n_episodes_} were played: "
                f"{count} more are too many"
            )
        for number in track(range(count), "episodes"):
            seed = int(self._random.integers(1 << 31)) if number == 0 else None
            state, info = env.reset(seed=seed)
            self.begin_episode(np.asarray(state).item())  # 1.7 is no state, and refused
            for _ in range(self.horizon):
                action = self.act()
                state, reward, terminated, truncated, info = env.step(action)
                self.observe(action, float(reward), np.asarray(state).item())
                if terminated or truncated:
                    break
            if "context" not in info:
                self.drop_episode()
                raise KeyError("info['context'] must be there at the last step of an episode")
            self.end_episode(np.asarray(info["context"]).item())
        return self

    # State

    def _settings(self) -> dict[str, Any]:
        return {
            "shape": list(self.shape),
            "horizon": self.horizon,
            "solver": self.solver,
            "planner": self.planner,
            "delta": self._delta,
            "n_episodes": self._n_episodes,
            "reward_scale": self._reward_scale,
            "learns_rewards": self._learns_rewards,
            "max_vectors": self.max_vectors,
            "free": self._free,
            "tied": self._tied,
            "model": self._model_mark(),
        }

    def _model_mark(self) -> str | None:
        """By which the model is known again: values measured by two do not go together."""
        if self.model is None:
            return None
        arrays = (self.model.w, self.model.nu, self.model.P, self.model.R)
        return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]

    _ARRAYS = (
        "_table",
        "_possible",
        "_starts",
        "_row",
        "_counts",
        "_seen",
        "_visits",
        "_begun",
        "_paid",
        "_squares",
        "_phat",
        "_nhat",
        "_iota",
        "_start",
        "_upper",
    )
    _LISTS = ("_optimistic", "_gaps", "_earned", "_true", "_plans", "_contexts")
    _SCALARS = (
        "_k",
        "_start_iota",
        "_bonus_scale",
        "_smallest",
        "n_plans_",
        "_exact",
        "_inexact",
        "_confirmed",
        "_overridden",
        "_dropped",
        "_wrong",
        "_outside",
        "_hopeless",
        "_stale",
        "_value",
    )

    def state_dict(self) -> dict[str, Any]:
        """What was given and learnt, between two episodes: arrays, and the rest as JSON.

        Raises
        ------
        RuntimeError
            If an episode is running.
        """
        if self._now is not None:
            raise RuntimeError("end_episode(context) was not called")
        self._replan()
        rest = {name: getattr(self, name) for name in self._SCALARS}
        made = {
            "settings": json.dumps(self._settings()),
            "rest": json.dumps(rest | {"solvers": sorted(self._solvers)}),
            "random": json.dumps(self._random.bit_generator.state, default=int),
            "lengths": np.array([len(a) for a in self._actions], dtype=np.int64),
            "states": np.array([s for run in self._states for s in run], dtype=np.int64),
            "actions": np.array([a for run in self._actions for a in run], dtype=np.int64),
            "pays": np.array([r for run in self._pays for r in run], dtype=np.float64),
            **self._plan_state(),
        }
        made |= {name.strip("_"): getattr(self, name).copy() for name in self._ARRAYS}
        return made | {name.strip("_"): np.array(getattr(self, name)) for name in self._LISTS}

    def _plan_state(self) -> dict[str, np.ndarray]:
        """The plan in force, which later counts or draws would not bring back."""
        assert self._plan is not None
        layers = self._plan.policy.layers
        return {
            "plan_sizes": np.array([len(layer.state) for layer in layers]),
            "plan_state": np.concatenate([layer.state for layer in layers]),
            "plan_action": np.concatenate([layer.action for layer in layers]),
            "plan_child": np.concatenate([layer.child for layer in layers]),
            "plan_root": self._plan.policy.root,
            "plan_values": np.array([self._plan.value, self._plan.gap, self._plan.exact]),
        }

    def _plan_of(self, state: Mapping[str, Any]) -> OptimisticPlan:
        _, S, A = self.shape
        sizes = np.asarray(state["plan_sizes"], dtype=np.int64)
        parts = [
            np.asarray(state[f"plan_{n}"], dtype=np.int32) for n in ("state", "action", "child")
        ]
        root = np.asarray(state["plan_root"], dtype=np.int32)
        N = int(sizes.sum())
        follows = np.repeat(np.append(sizes[1:], sizes[-1:]), sizes)
        value, gap, exact = map(float, state["plan_values"])
        sound = (
            sizes.shape == (self.horizon,)
            and sizes.min() > 0
            and [x.shape for x in parts] == [(N,), (N,), (N, S)]
            and root.shape == (S,)
            and all(x.min() >= 0 for x in (*parts, root))
            and parts[0].max() < S
            and parts[1].max() < A
            and root.max() < sizes[0]
            and (parts[2][: N - sizes[-1]] < follows[: N - sizes[-1], None]).all()
            and 0 <= value <= 1
            and 0 <= gap <= 1
        )
        if not sound:
            raise ValueError("state is damaged: its plan is none")
        split = [np.split(x, np.cumsum(sizes)[:-1]) for x in parts]
        layers = tuple(Layer(*of) for of in zip(*split, strict=True))
        return OptimisticPlan(Policy(layers, root), value, gap, bool(exact))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken.

        Raises
        ------
        ValueError
            If it is of other settings, or damaged; nothing is then changed.
        """
        own = self.state_dict()
        if set(state) != set(own):
            raise ValueError(f"state must hold {', '.join(own)}")
        theirs = json.loads(str(state["settings"]))
        for name, value in self._settings().items():
            if theirs.get(name) != value:
                raise ValueError(
                    f"state must be of the same settings: {name} is {theirs.get(name)!r} there and "
                    f"{value!r} here"
                )
        fresh: dict[str, Any] = {}
        for name in self._ARRAYS:
            array, ours = np.array(state[name.strip("_")]), getattr(self, name)
            if array.shape != ours.shape or array.dtype.kind != ours.dtype.kind:
                raise ValueError(f"state: {name.strip('_')} must have shape {ours.shape}")
            if array.dtype.kind == "f" and not (np.isfinite(array).all() and array.min() >= 0):
                raise ValueError(f"state: {name.strip('_')} must be finite and not negative")
            fresh[name] = array.astype(ours.dtype)
        for name in ("_table", "_possible", "_starts", "_row"):
            if (fresh[name] != getattr(self, name)).any():
                raise ValueError(f"state must be of the same {name.strip('_')}")
        lists = {name: np.asarray(state[name.strip("_")]).tolist() for name in self._LISTS}
        lengths = np.asarray(state["lengths"], dtype=np.int64)
        states, actions = (np.asarray(state[n], dtype=np.int64) for n in ("states", "actions"))
        pays = np.asarray(state["pays"], dtype=np.float64)
        M, S, A = self.shape
        K = len(lengths)
        sound = (
            all(len(x) == K for x in lists.values())
            and (K == 0 or (lengths.min() >= 0 and lengths.max() <= self.horizon))
            and len(states) == lengths.sum() + K
            and len(actions) == len(pays) == lengths.sum()
            and bool(np.isfinite(pays).all())
            and all(
                x.size == 0 or (x.min() >= 0 and x.max() < most)
                for x, most in ((states, S), (actions, A), (np.array(lists["_contexts"], int), M))
            )
            and self._matching(fresh, lists, lengths, states, actions)
            and all(0 <= x <= 1 for x in lists["_optimistic"] + lists["_gaps"])
            and all(not x < 0 and not x > 1 + TOLERANCE * self.horizon for x in lists["_true"])
            and lists["_earned"]
            == [math.fsum(run) for run in np.split(pays, lengths.cumsum()[:-1])][:K]
        )
        if not sound:
            raise ValueError("state is damaged: its counts are not those of its episodes")
        rest = json.loads(str(state["rest"]))
        scalars = {name: type(getattr(self, name))(rest[name]) for name in self._SCALARS}
        solvers = set(map(str, rest["solvers"])) | self._solvers
        generator = np.random.default_rng()
        random = json.loads(str(state["random"]))
        generator.bit_generator.state = random
        plan = self._plan_of(state)
        ends = np.cumsum(lengths)
        # All was read: from here on nothing can fail.
        smallest = min(self._smallest if self._contexts else math.inf, scalars["_smallest"])
        for name, value in (fresh | lists | scalars).items():
            setattr(self, name, value)
        self._smallest = smallest
        self._solvers, self._random = solvers, generator
        self._states = (
            [run.tolist() for run in np.split(states, (ends + np.arange(1, K + 1))[:-1])]
            if K
            else []
        )
        self._actions = [run.tolist() for run in np.split(actions, ends[:-1])] if K else []
        self._pays = [run.tolist() for run in np.split(pays, ends[:-1])] if K else []
        self._plan = plan
        provenance.forget(self)

    def _matching(
        self,
        fresh: dict[str, Any],
        lists: dict[str, Any],
        lengths: np.ndarray,
        states: np.ndarray,
        actions: np.ndarray,
    ) -> bool:
        """Whether the counts are those of the episodes."""
        context = np.repeat(np.array(lists["_contexts"], dtype=np.int64), lengths)
        at = np.arange(len(actions)) + np.repeat(np.arange(len(lengths)), lengths)
        visits = np.zeros(self.shape, dtype=np.int64)
        np.add.at(visits, (context, states[at], actions), 1)
        counts = np.zeros_like(fresh["_counts"])
        np.add.at(counts, (self._row[context, states[at], actions], states[at + 1]), 1)
        return bool(
            (visits == fresh["_visits"]).all()
            and (counts == fresh["_counts"]).all()
            and (counts.sum(axis=1) == fresh["_seen"]).all()
            and fresh["_begun"].sum() == len(lengths)
        )

    def save(self, path: str | Path) -> None:
        """Write :meth:`state_dict` to an npz file."""
        if Path(path).suffix != ".npz":
            raise ValueError(f"path must end in .npz, got {path}")
        state = self.state_dict()
        texts = {
            n: np.frombuffer(v.encode(), dtype=np.uint8)
            for n, v in state.items()
            if isinstance(v, str)
        }
        write(Path(path), {**state, **texts})

    def load(self, path: str | Path) -> LatentMDPLearner:
        """Go on from a file of :meth:`save`, with the settings of this learner; nothing is unpickled."""
        with np.load(path, allow_pickle=False) as file:
            state: dict[str, Any] = {name: file[name] for name in file.files}
        for name in ("settings", "rest", "random"):
            if name in state:
                state[name] = bytes(state[name]).decode()
        self.load_state_dict(state)
        return self

    def __copy__(self) -> LatentMDPLearner:
        """What was learnt is changed in place, so that no copy may share it."""
        return deepcopy(self)

    def longest_return(self) -> float:
        """The most that an episode can earn by the table of rewards, in units of the scale."""
        return longest_return(self._table, self._possible, self._starts, self.horizon)


class _Episode:
    """The one that is running."""

    def __init__(self, state: int, node: int) -> None:
        self.states, self.actions, self.rewards = [state], [], []
        self.node, self.overridden = node, False
        self.actions: list[int]
        self.rewards: list[float]


class _Drawn(LatentMDP):
    """A model that was drawn: rare paths may earn more than 1 in it."""

    def __init__(
        self, w: np.ndarray, nu: np.ndarray, P: np.ndarray, R: np.ndarray, horizon: int
    ) -> None:
        self.w, self.nu, self.P, self.R = w, nu, P, R
        self.horizon, self.reward_scale = horizon, 1.0
        self._successors = planning.Successors.of(np.asarray(np.any(P, axis=0)))


def _mask(given: Any, name: str, shape: tuple[int, ...], M: int) -> np.ndarray:
    if given is None:
        return np.ones((M, *shape), dtype=bool)
    array = np.asarray(given)
    if array.dtype != bool or array.shape not in (shape, (M, *shape)):
        raise ValueError(
            f"{name} must hold True and False in shape {shape} or {(M, *shape)}, got {array.dtype} "
            f"of shape {array.shape}"
        )
    full: np.ndarray = np.array(np.broadcast_to(array, (M, *shape)))
    if not full.any(axis=-1).all() if name == "possible" else not full.any():
        raise ValueError(f"{name} must allow something everywhere")
    return full
