"""Linear dynamics that are not known, without a simulator: explore first, then learn in epochs."""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from whp.certificate import Certificate
from whp.door import Above, AtLeast, front_door
from whp.progress import track
from whp.rl._adversarial_linear_mdp import certify
from whp.rl._adversarial_linear_mdp.ftrl import log_barrier
from whp.rl._adversarial_linear_mdp.learner import as_span
from whp.rl._adversarial_linear_mdp.passes import pick
from whp.validate import as_floats, as_rng

__all__ = ["LinearMDPPolicyOptimizer"]


class LinearMDPPolicyOptimizer:
    """Learn in episodes of an unknown linear MDP, from its features alone.

    First K₀ episodes without regard to losses, each greedy for what has been seen least (LSVI-UCB on
    bonuses), make a cover of policies. Then epochs of W episodes with one policy each: the first half
    of an epoch estimates the covariance, the second the action values and the dilated bonus; with
    probability δ an episode begins with a policy of the cover. Published for regret of order K^{8/9};
    constants are not known, so that nothing is certified.

    Parameters
    ----------
    features : array_like, shape (H, X, A, d)
        Of norm at most 1.
    n_episodes : int
        K, exploration included.
    explore : int, optional
        K₀, K^{8/9}/4 by default.
    epoch : int, optional
        W, K^{1/3} rounded up by default.
    share : float, optional
        δ, K^{-1/9} by default.
    gamma : float, optional
        K^{-2/9} by default.
    eta : float, optional
        √(A ln J/(d H J)) by default, J the number of epochs.
    known : float
        α: states are known whose features have ‖φ‖² ≤ α in the inverse covariance of the exploration;
        elsewhere estimates are 0.
    loss_range : (float, float)
    random_state : int, Generator or None

    Attributes
    ----------
    policies_ : ndarray, shape (H, X, A)
        Of the last epoch.
    history_ : list of float
        Loss of each episode.
    """

    @front_door
    def __init__(
        self,
        features: Any,
        *,
        n_episodes: Annotated[int, AtLeast(16)],
        explore: Annotated[int, AtLeast(1)] | None = None,
        epoch: Annotated[int, AtLeast(2)] | None = None,
        share: Annotated[float, AtLeast(0)] | None = None,
        gamma: Annotated[float, Above(0)] | None = None,
        eta: Annotated[float, Above(0)] | None = None,
        known: Annotated[float, Above(0)] = 0.5,
        loss_range: tuple[float, float] = (0.0, 1.0),
        random_state: Any = None,
    ) -> None:
        phi = as_floats(features, "features")
        if phi.ndim != 4 or not np.isfinite(phi).all():
            raise ValueError(f"features must be finite, of shape (H, X, A, d), got {phi.shape}")
        if np.linalg.norm(phi, axis=-1).max() > 1 + 1e-9:
            raise ValueError("features must have norm at most 1")
        K = n_episodes
        self.phi, self.K = phi, K
        H, X, A, d = phi.shape
        self.K0 = min(K // 2, explore or math.ceil(K ** (8 / 9) / 4))
        self.W = epoch or max(2, math.ceil(K ** (1 / 3)))
        self.share = K ** (-1 / 9) if share is None else share
        self.gamma = gamma or K ** (-2 / 9)
        epochs = max(2, (K - self.K0) // self.W)
        self.eta = eta or math.sqrt(A * math.log(epochs) / (d * H * epochs))
        self.beta = 0.003 * self.eta
        self.known = known
        self.loss_range = as_span(loss_range)
        self._random = as_rng(random_state, "random_state")
        self.policies_ = np.full((H, X, A), 1 / A)
        self.history_: list[float] = []

    def run(self, env: Any) -> LinearMDPPolicyOptimizer:
        """Play all K episodes in a gymnasium environment; observations are numbers of states, the loss minus the reward."""
        if self.history_:
            raise RuntimeError("this learner was run: make a new one")
        cover, seen = self._explore(env)
        left = self.K - self.K0
        scores = np.zeros(self.phi.shape[:3])
        for _ in track(range(math.ceil(left / self.W)), "epochs"):
            size = min(self.W, self.K - len(self.history_))
            self.policies_ = log_barrier(scores, self.eta)
            episodes = [self._mixed(env, cover) for _ in range(size)]
            if size >= 2:
                Q, B = self._estimates(episodes[: size // 2], episodes[size // 2 :], seen)
                scores = scores + Q - B
        return self

    def certificates(self) -> tuple[Certificate, ...]:
        """That of the regret, void: the published bound has no constants."""
        H, _, A, d = self.phi.shape
        return certify.without_theory(
            "log-barrier",
            (H, A, d),
            len(self.history_),
            self.loss_range[1] - self.loss_range[0],
            "dynamics are not known here: regret of order K^{8/9} with constants that nobody stated",
        )

    def _explore(self, env: Any) -> tuple[list[np.ndarray], Float[np.ndarray, "H X"]]:
        """A cover of greedy policies, and which states are known afterwards."""
        H, X, A, d = self.phi.shape
        inverse = np.stack([np.eye(d)] * H)
        moments = np.zeros((H, d, X))  # Σ φ 1{x′}
        cover = []
        width = math.sqrt(d) * H
        for _ in range(self.K0):
            after = np.zeros(X)
            greedy = np.zeros((H, X), dtype=np.int64)
            for h in reversed(range(H)):
                norms = np.sqrt(np.einsum("xai,ij,xaj->xa", self.phi[h], inverse[h], self.phi[h]))
                Q = np.minimum(1.0, width * norms)
                if h < H - 1:
                    Q = np.clip(Q + self.phi[h] @ (inverse[h] @ (moments[h] @ after)), 0, H)
                greedy[h] = Q.argmax(axis=-1)
                after = Q.max(axis=-1)
            cover.append(greedy)
            path, taken, _ = self._episode(env, np.eye(A)[greedy])
            for h in range(H):
                f = self.phi[h, path[h], taken[h]]
                side = inverse[h] @ f
                inverse[h] -= np.outer(side, side) / (1 + f @ side)
                if h < H - 1:
                    moments[h, :, path[h + 1]] += f
        norms = np.einsum("hxai,hij,hxaj->hxa", self.phi, inverse, self.phi)
        return cover, (norms.max(axis=-1) <= self.known).astype(float)

    def _mixed(self, env: Any, cover: list[np.ndarray]) -> Any:
        """An episode of the epoch's policy, which sometimes begins with one of the cover."""
        H, _, A, _ = self.phi.shape
        pi = self.policies_
        if self._random.random() < self.share:
            first = np.eye(A)[cover[int(self._random.integers(len(cover)))]]
            until = int(self._random.integers(H))
            pi = np.concatenate([first[:until], pi[until:]])
        return self._episode(env, pi)

    def _estimates(
        self, first: list[Any], second: list[Any], seen: Float[np.ndarray, "H X"]
    ) -> tuple[np.ndarray, np.ndarray]:
        H, X, A, d = self.phi.shape
        Q, B = np.zeros((2, H, X, A))
        for h in reversed(range(H)):
            rows = np.array([self.phi[h, p[h], a[h]] for p, a, _ in first])
            inv = np.linalg.inv(self.gamma * np.eye(d) + rows.T @ rows / len(rows))
            rows = np.array([self.phi[h, p[h], a[h]] for p, a, _ in second])
            togo = np.array([loss[h:].sum() for _, _, loss in second])
            Q[h] = self.phi[h] @ (inv @ (rows.T @ togo / len(rows)))
            norms = np.einsum("xai,ij,xaj->xa", self.phi[h], inv, self.phi[h])
            mean = (self.policies_[h] * norms).sum(axis=-1, keepdims=True)
            B[h] = self.beta * (norms + mean)
            if h < H - 1:
                later = (self.policies_[h + 1] * B[h + 1]).sum(axis=-1)
                after = np.array([later[p[h + 1]] for p, _, _ in second])
                B[h] += self.phi[h] @ (inv @ (rows.T @ ((1 + 1 / H) * after) / len(rows)))
            B[h] = np.clip(B[h], 0, 2 * math.e * H * self.beta / self.gamma) * seen[h][:, None]
            Q[h] *= seen[h][:, None]
        return Q, B

    def _episode(self, env: Any, pi: np.ndarray) -> tuple[list[int], list[int], np.ndarray]:
        low, high = self.loss_range
        H = len(pi)
        first = not self.history_
        x, _ = env.reset(seed=int(self._random.integers(1 << 31)) if first else None)
        path, taken, losses = [], [], []
        for h in range(H):
            path.append(int(x))
            taken.append(int(pick(np.ascontiguousarray(pi[h, path[-1]]), self._random.random())))
            x, reward, ended, cut, _ = env.step(taken[-1])
            losses.append(-float(reward))
            if not low <= losses[-1] <= high:
                raise ValueError(f"loss {losses[-1]:.6g} at step {h} outside ({low:g}, {high:g})")
            if (ended or cut) != (h == H - 1):
                raise ValueError(f"env must end its episodes after H = {H} steps")
        self.history_.append(sum(losses))
        return path, taken, (np.array(losses) - low) / (high - low)
