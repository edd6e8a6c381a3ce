"""Latent Markov decision processes: what is given, what a policy earns in them, and draws of episodes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from whp.rl._latent_mdp import planning, variance
from whp.rl._latent_mdp.planning import PlanResult
from whp.rl._latent_mdp.policy import Policy
from whp.rl._latent_mdp.variance import VarianceParts
from whp.validate import as_array, as_choice, as_int, as_real, as_rng

__all__ = ["Episodes", "LatentMDP", "longest_return"]

SUMS = 1e-5  # what single precision leaves of a sum of 1
TOLERANCE = 1e-9  # a step, in a return of at most 1


@dataclass(frozen=True, eq=False)
class Episodes:
    """Episodes that were drawn.

    Attributes
    ----------
    context : ndarray of int, shape (n,)
    states : ndarray of int, shape (n, H + 1)
    actions : ndarray of int, shape (n, H)
    rewards : ndarray, shape (n, H)
    """

    context: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray


class LatentMDP:
    """A Markov decision process of each context; which context it is stays hidden during an episode.

    Parameters
    ----------
    w : array_like, shape (M,)
        Probabilities of the contexts.
    nu : array_like, shape (M, S)
        Law of the first state in each context.
    P : array_like, shape (M, S, A, S)
        Transitions.
    R : array_like, shape (M, S, A)
        Rewards, not negative; no episode may earn more than `reward_scale`.
    horizon : int
        Steps H of an episode.
    reward_scale : float
        Most that an episode can earn, in the unit of `R`; all values come out in this unit.

    Raises
    ------
    ValueError
        If shapes do not fit, a law does not sum to 1, or an episode can earn more than the scale.

    Examples
    --------
    >>> model = LatentMDP([0.5, 0.5], [[1.0], [1.0]], [[[[1.0], [1.0]]]] * 2, [[[1, 0]], [[0, 1]]], 1)
    >>> model.optimal().value
    0.5
    """

    def __init__(
        self, w: Any, nu: Any, P: Any, R: Any, horizon: int, *, reward_scale: float = 1.0
    ) -> None:
        self.horizon = as_int(horizon, "horizon", low=1)
        self.reward_scale = as_real(
            reward_scale, "reward_scale", low=0, high=math.inf, open_ends=True
        )
        self.P = _laws(P, "P", 4)
        M, S, A, after = self.P.shape
        if after != S:
            raise ValueError(f"P must have shape (M, S, A, S), got {self.P.shape}")
        self.w = _laws(w, "w", 1)
        self.nu = _laws(nu, "nu", 2)
        rewards = as_array(R, "R").astype(np.float64)
        for name, array, shape in (
            ("w", self.w, (M,)),
            ("nu", self.nu, (M, S)),
            ("R", rewards, (M, S, A)),
        ):
            if array.shape != shape:
                raise ValueError(f"{name} must have shape {shape} to go with P, got {array.shape}")
        if not np.isfinite(rewards).all() or rewards.min() < 0:
            place = np.argwhere(~(rewards >= 0) | np.isinf(rewards))[0]
            raise ValueError(
                f"R must be finite and not negative, got {rewards[tuple(place)]} at "
                f"[{', '.join(map(str, place))}]"
            )
        self.R = rewards / self.reward_scale
        most = longest_return(self.R, self.P > 0, self.nu > 0, self.horizon)
        if most > 1 + TOLERANCE * self.horizon:
            reach = most * self.reward_scale
            raise ValueError(
                f"episode return can reach {reach:g} > {self.reward_scale:g}: pass "
                f"reward_scale={reach:g}"
            )
        self._successors = planning.Successors.of(np.asarray(np.any(self.P, axis=0)))
        self._freeze()

    def _freeze(self) -> None:
        for array in (self.w, self.nu, self.P, self.R):
            array.setflags(write=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set once: plans and what a learner was measured by are of what was given."""
        if name in self.__dict__:
            raise AttributeError(f"{name} cannot be changed: make another LatentMDP")
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._freeze()  # copies of arrays can be written to

    @property
    def shape(self) -> tuple[int, int, int]:
        """Contexts, states, actions."""
        return self.R.shape  # type: ignore[return-value]

    def __repr__(self) -> str:
        M, S, A = self.shape
        return f"LatentMDP({M} contexts, {S} states, {A} actions, horizon {self.horizon})"

    @property
    def successors(self) -> planning.Successors:
        """Next states that are possible at all, a short list for each state and action."""
        return self._successors

    def value(self, policy: Policy) -> float:
        """What a policy earns on average, from alpha vectors; in the unit of the rewards."""
        return self.reward_scale * self.value_of(policy)

    def value_of(self, policy: Policy) -> float:
        """The same in units of `reward_scale`."""
        first = planning.alpha_vectors(self, policy)[0]
        return float((self.w[:, None] * self.nu * first[policy.root].T).sum())

    def optimal(
        self, method: Literal["auto", "exact"] = "auto", *, max_nodes: int = planning.MAX_NODES
    ) -> PlanResult:
        """The best policy over histories.

        Parameters
        ----------
        method : {"auto", "exact"}
            ``"auto"``: exact to the depth that `max_nodes` allows, and from there on the best of
            a few policies that know step and state alone, with the gap that this leaves.
        max_nodes : int
            Nodes times contexts of one step.

        Raises
        ------
        PlanningBudgetError
            If the exact plan has more nodes.
        """
        exact = as_choice(method, "method", ("auto", "exact")) == "exact"
        return planning.best(self, exact, as_int(max_nodes, "max_nodes", low=1))

    @cached_property
    def best(self) -> PlanResult:
        """The best policy, found once."""
        return self.optimal()

    def known_context(self) -> float:
        """What could be earned by somebody who is told the context; in the unit of the rewards."""
        return self.reward_scale * float(
            (self.w[:, None] * self.nu * planning.by_context(self)[0]).sum()
        )

    def variance(self, policy: Policy) -> VarianceParts:
        """Variance of the return, by where it comes from; in the squared unit of the rewards."""
        return variance.of_policy(self, policy)

    def var_star(self, bound: Literal["saddle", "enumerate"] = "saddle") -> float:
        """The largest variance of the return that any policy has.

        Parameters
        ----------
        bound : {"saddle", "enumerate"}
            ``"saddle"``: an upper bound, min over v of max over policies of E(G - v)²;
            ``"enumerate"``: the value itself, over all deterministic policies (tiny models).
        """
        as_choice(bound, "bound", ("saddle", "enumerate"))
        of = variance.saddle if bound == "saddle" else variance.enumerated
        return self.reward_scale**2 * of(self)

    def simulate(
        self, policy: Policy, n: int, rng: np.random.Generator | int | None = None
    ) -> Episodes:
        """Draw n episodes of a policy."""
        random = as_rng(rng)
        n, H = as_int(n, "n", low=1), self.horizon
        context = random.choice(len(self.w), n, p=self.w)
        states = np.zeros((n, H + 1), dtype=np.int64)
        actions = np.zeros((n, H), dtype=np.int64)
        rewards = np.zeros((n, H))
        states[:, 0] = _draw(self.nu[context], random)
        node = policy.root[states[:, 0]]
        for t, layer in enumerate(policy.layers):
            actions[:, t] = layer.action[node]
            here = context, states[:, t], actions[:, t]
            rewards[:, t] = self.R[here]
            states[:, t + 1] = _draw(self.P[here], random)
            node = layer.child[node, states[:, t + 1]]
        return Episodes(context, states, actions, rewards * self.reward_scale)


def longest_return(R: np.ndarray, possible: np.ndarray, starts: np.ndarray, horizon: int) -> float:
    """The most that an episode can earn, over all contexts, policies and draws.

    Parameters
    ----------
    R : ndarray, shape (M, S, A)
    possible : ndarray of bool, shape (M, S, A, S)
    starts : ndarray of bool, shape (M, S)
    """
    most = np.zeros(R.shape[:2])
    for _ in range(horizon):
        on = np.where(possible, most[:, None, None, :], 0.0).max(axis=-1)
        most = (R + on).max(axis=-1)
    return float(np.where(starts, most, 0.0).max())


def _draw(laws: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A place from each row of probabilities, never one of probability 0."""
    steps = laws.cumsum(axis=-1)
    u = random.random(len(laws)) * steps[:, -1]
    return (steps > u[:, None]).argmax(axis=-1)


def _laws(value: Any, name: str, ndim: int) -> Float[np.ndarray, ...]:
    array = as_array(value, name).astype(np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} dimensions, got shape {array.shape}")
    if not np.isfinite(array).all() or array.min() < 0:
        raise ValueError(f"{name} must hold probabilities, got NaN, infinity or a negative number")
    sums = array.sum(axis=-1)
    if np.abs(sums - 1).max() > SUMS:
        place = np.unravel_index(int(np.abs(sums - 1).argmax()), sums.shape) if ndim > 1 else ()
        at = {4: "P[m,s,a]", 2: "nu[m]", 1: "w"}[ndim]
        where = f" at [{', '.join(map(str, map(int, place)))}]" if place else ""
        raise ValueError(f"{at} must sum to 1, got {float(sums[place]):.6g}{where}")
    return array / sums[..., None]
