"""The learner where states cannot be listed: dynamics are sampled, policies computed where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from jaxtyping import Float

from whp.certificate import Certificate
from whp.door import Above, AtLeast, front_door
from whp.progress import track
from whp.rl._adversarial_linear_mdp import certify
from whp.rl._adversarial_linear_mdp.ftrl import log_barrier
from whp.rl._adversarial_linear_mdp.learner import as_span
from whp.rl._adversarial_linear_mdp.passes import pick
from whp.rl._adversarial_linear_mdp.tuning import Method, tuned
from whp.validate import as_floats, as_rng

__all__ = ["Simulator", "SimulatorPolicyOptimizer"]

MOST = 10_000  # K·H: every new state is paid for with all episodes before
PAIRS = 50  # simulated state-action pairs behind the mean of the negative part


class Simulator(Protocol):
    """Dynamics that can be sampled from any state."""

    def reset(self, rng: np.random.Generator) -> Hashable:
        """A first state."""
        ...

    def step(self, h: int, state: Any, action: int, rng: np.random.Generator) -> Hashable:
        """A state after `action` in `state` at step h, from 0."""
        ...


class _Node:
    """What is known at one state of one step: scores, policies and bonuses of every episode so far."""

    def __init__(self, features: Float[np.ndarray, "A d"]) -> None:
        A = len(features)
        self.features = features
        self.scores = np.zeros(A)
        self.policies: list[np.ndarray] = []
        self.bonuses: list[np.ndarray] = []
        self.after: list[_Node] | None = None


class SimulatorPolicyOptimizer:
    """Log-barrier or magnitude-reduced learning on states that only a simulator lists.

    Nothing is stored but what each episode estimated; the policy at a state is summed over all
    episodes when it is asked for, and the dilated bonus follows one simulated successor of each state
    and action. Covariances are means over simulated episodes, so that the guarantee, which is for
    exact ones, does not cover it.

    Parameters
    ----------
    simulator : Simulator
        With ``reset(rng)`` and ``step(h, state, action, rng)``; states must be hashable.
    features : callable
        ``features(h, state)`` to an array (A, d) of norms at most 1.
    n_actions, horizon, dim : int
        A, H, d.
    n_episodes : int
        K, for the rates; K·H at most 10,000.
    method : {"magnitude-reduced", "log-barrier", "hedge"}
    eta : {"tuned"} or float
    n_sim : int
        Simulated episodes behind each covariance.
    loss_range : (float, float)
    random_state : int, Generator or None
    """

    @front_door
    def __init__(
        self,
        simulator: Any,
        features: Callable[[int, Any], Any],
        n_actions: Annotated[int, AtLeast(2)],
        horizon: Annotated[int, AtLeast(1)],
        dim: Annotated[int, AtLeast(1)],
        *,
        n_episodes: Annotated[int, AtLeast(2)],
        method: Method = "magnitude-reduced",
        eta: Annotated[float, Above(0)] | Literal["tuned"] = "tuned",
        n_sim: Annotated[int, AtLeast(1)] = 100,
        loss_range: tuple[float, float] = (0.0, 1.0),
        random_state: Any = None,
    ) -> None:
        if n_episodes * horizon > MOST:
            raise ValueError(
                f"n_episodes times horizon must be at most {MOST:,}, got {n_episodes * horizon:,}: each "
                "new state costs a pass over all episodes; list the states in a LinearQModel"
            )
        self.simulator, self.features = simulator, features
        self.A, self.H, self.d, self.K = n_actions, horizon, dim, n_episodes
        self.method: Method = method
        self.n_sim, self.loss_range = n_sim, as_span(loss_range)
        rates = tuned(method, horizon, n_actions, dim, n_episodes)
        scale = 1.0 if isinstance(eta, str) else eta / rates.eta
        self.eta, self.beta, self.gamma = rates.eta * scale, rates.beta * scale, rates.gamma
        self._random = as_rng(random_state, "random_state")
        self._nodes: list[dict[Hashable, _Node]] = [{} for _ in range(horizon)]
        # Of each episode: Σ† (H, d, d), Σ†φ of the path, cost to go, Σ† times simulated features.
        self._past: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    @property
    def episodes_(self) -> int:
        """Episodes so far."""
        return len(self._past)

    def policy(self, h: int, state: Hashable) -> Float[np.ndarray, " A"]:
        """The policy of the next episode at a state of step `h`, from 0."""
        node = self._node(h, state)
        self._extend(node, h, state)
        return self._point(node.scores)

    def act(self, h: int, state: Hashable) -> int:
        """Draw an action."""
        return int(pick(self.policy(h, state), self._random.random()))

    def update(self, states: Any, actions: Any, losses: Any) -> None:
        """Learn from an episode of the policy: H states, actions and losses."""
        seen = as_floats(losses, "losses")
        low, high = self.loss_range
        if len(states) != self.H or len(actions) != self.H or seen.shape != (self.H,):
            raise ValueError(f"states, actions and losses must be {self.H} each, one a step")
        taken = np.asarray(actions)
        if taken.dtype.kind not in "iu" or (taken < 0).any() or (taken >= self.A).any():
            raise ValueError(
                f"actions must be whole numbers in 0..{self.A - 1}, got {actions!r:.80}"
            )
        wrong = ~((seen >= low) & (seen <= high))
        if wrong.any():
            h = int(np.argmax(wrong))
            raise ValueError(f"loss {seen[h]:.6g} at step {h} outside ({low:g}, {high:g})")
        if len(self._past) >= self.K:
            raise ValueError(f"n_episodes = {self.K:,} were played: make a new learner for more")
        togo = np.cumsum(((seen - low) / (high - low))[::-1])[::-1]
        drawn = self._simulated()  # apart from the episode that is learnt
        inv = np.empty((self.H, self.d, self.d))
        side = np.empty((self.H, self.d))
        means = np.empty((self.H, min(PAIRS, self.n_sim), self.d))
        for h, (x, a) in enumerate(zip(states, actions, strict=True)):
            second = drawn[h].T @ drawn[h] / len(drawn[h])
            inv[h] = np.linalg.inv(second + self.gamma * np.eye(self.d))
            side[h] = inv[h] @ self._node(h, x).features[int(a)]
            means[h] = drawn[h][: means.shape[1]] @ inv[h]
        self._past.append((inv, side, togo, means))

    def run(self, losses: Callable[[int, int, Any, int], float], K: int | None = None) -> float:
        """Play K episodes in the simulator; `losses` gets episode, step, state and action. The summed loss."""
        total = 0.0
        first = self.episodes_
        count = self.K - first if K is None else K
        for k in track(range(first, first + count), "episodes"):
            x = self.simulator.reset(self._random)
            path, taken, seen = [], [], []
            for h in range(self.H):
                path.append(x)
                taken.append(self.act(h, x))
                seen.append(float(losses(k, h, x, taken[-1])))
                if h < self.H - 1:
                    x = self.simulator.step(h, x, taken[-1], self._random)
            self.update(path, taken, seen)
            total += sum(seen)
        return total

    def certificates(self) -> tuple[Certificate, ...]:
        """That of the regret, void: covariances are simulated, and rates not the theory's."""
        return certify.without_theory(
            self.method,
            (self.H, self.A, self.d),
            self.episodes_,
            self.loss_range[1] - self.loss_range[0],
            f"covariances of {self.n_sim} simulated episodes, η = {self.eta:.4g}",
        )

    def _node(self, h: int, state: Hashable) -> _Node:
        nodes = self._nodes[h]
        if state not in nodes:
            made = as_floats(self.features(h, state), "features")
            if made.shape != (self.A, self.d) or not np.isfinite(made).all():
                raise ValueError(
                    f"features({h}, {state!r:.60}) must have shape {(self.A, self.d)}, got {made.shape}"
                )
            if np.linalg.norm(made, axis=1).max() > 1 + 1e-9:
                raise ValueError(f"features({h}, {state!r:.60}) are longer than 1")
            nodes[state] = _Node(made)
        return nodes[state]

    def _point(self, scores: np.ndarray) -> np.ndarray:
        if self.method == "log-barrier":
            return log_barrier(scores, self.eta)
        weights = np.exp(-self.eta * (scores - scores.min()))
        return weights / weights.sum()

    def _extend(self, node: _Node, h: int, state: Hashable) -> None:
        """Bring a state up to date with all episodes."""
        J = len(self._past)
        if len(node.policies) == J:
            return
        if h < self.H - 1:
            if node.after is None:  # one successor of each action, for all episodes
                node.after = []
                for a in range(self.A):
                    x = self.simulator.step(h, state, a, self._random)
                    child = self._node(h + 1, x)
                    node.after.append(child)
                    self._extend(child, h + 1, x)
            else:
                for child in node.after:
                    self._catch_up(child, h + 1)
        self._sum(node, h)

    def _catch_up(self, node: _Node, h: int) -> None:
        for child in node.after or ():
            self._catch_up(child, h + 1)
        if h < self.H - 1 and node.after is None:
            key = next(k for k, v in self._nodes[h].items() if v is node)
            self._extend(node, h, key)
        else:
            self._sum(node, h)

    def _sum(self, node: _Node, h: int) -> None:
        F = node.features
        for j in range(len(node.policies), len(self._past)):
            inv, side, togo, means = self._past[j]
            pi = self._point(node.scores)
            norms = np.einsum("ai,ij,aj->a", F, inv[h], F)
            z = F @ side[h]
            Q = z * togo[h]
            if self.method == "magnitude-reduced":
                Q = Q - self.H * np.minimum(z, 0)
                Q = Q + self.H * np.minimum(F @ means[h].T, 0).mean(axis=1)
            B = self.beta * (norms + pi @ norms)
            if node.after is not None:
                later = [c.policies[j] @ c.bonuses[j] for c in node.after]
                B = B + (1 + 1 / self.H) * np.array(later)
            node.policies.append(pi)
            node.bonuses.append(B)
            node.scores = node.scores + Q - B

    def _simulated(self) -> Float[np.ndarray, "H n d"]:
        """Features along simulated episodes of the policy."""
        drawn = np.empty((self.H, self.n_sim, self.d))
        for n in range(self.n_sim):
            x = self.simulator.reset(self._random)
            for h in range(self.H):
                a = self.act(h, x)
                drawn[h, n] = self._node(h, x).features[a]
                if h < self.H - 1:
                    x = self.simulator.step(h, x, a, self._random)
        return drawn
