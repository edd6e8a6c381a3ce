"""Layered decision problems whose action values are linear in features, and exact answers about them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.validate import as_floats

__all__ = ["LinearQModel", "as_losses", "least_squares", "one_hot", "regret_against_best_fixed"]

SUMS = 1e-6  # what laws may be off a sum of 1: float32 is
NORM = 1e-9


class LinearQModel:
    """An episode of H steps through X states with A actions; features of length d.

    Parameters
    ----------
    phi : array_like, shape (H, X, A, d)
        Features, of norm at most 1.
    P : array_like, shape (H − 1, X, A, X)
        Laws of the next state after each step but the last; may be left out for H = 1.
    init : array_like, shape (X,)
        Law of the first state.

    Raises
    ------
    ValueError
        If shapes do not fit, a law does not sum to 1 within 1e-6, or a feature is longer than 1;
        the first bad step, state and action are named.

    Attributes
    ----------
    reachable : ndarray of bool, shape (H, X)
        Where some policy comes. Elsewhere nothing needs to be linear: no policy's loss depends on it.

    Notes
    -----
    The guarantees ask that Q^π is linear for every policy: see :meth:`residual`. One-hot features
    (:meth:`from_tabular`) always are.
    """

    def __init__(self, phi: Any, P: Any = None, init: Any = None) -> None:
        features = as_floats(phi, "phi").copy()
        if features.ndim != 4 or 0 in features.shape:
            raise ValueError(f"phi must have shape (H, X, A, d), got {features.shape}")
        if not np.isfinite(features).all():
            raise ValueError(_at("phi must be finite", ~np.isfinite(features)))
        norms = np.linalg.norm(features, axis=-1)
        if norms.max() > 1 + NORM:
            raise ValueError(
                _at(f"phi norm {norms.max():.6g} > 1", norms >= norms.max())
                + f"; divide phi by {norms.max():.6g}"
            )
        H, X, A, _ = features.shape
        if P is None:
            if H > 1:
                raise ValueError(f"P must have shape {(H - 1, X, A, X)} where there are {H} steps")
            P = np.zeros((0, X, A, X))
        if init is None:
            if X > 1:
                raise ValueError(f"init must give the law of the first of {X} states")
            init = np.ones(1)
        self.phi = np.ascontiguousarray(features)
        self.P = np.ascontiguousarray(_laws(P, "P", (H - 1, X, A, X)))
        self.init = np.ascontiguousarray(_laws(init, "init", (X,)))
        for array in (self.phi, self.P, self.init):
            array.setflags(write=False)
        self.reachable = _reachable(self.P, self.init)
        self.reachable.setflags(write=False)

    def __setattr__(self, name: str, value: Any) -> None:
        # What learners and certificates computed of a model must remain true of it.
        if name in self.__dict__:
            raise AttributeError(f"{name} of a model is fixed: make a new LinearQModel")
        super().__setattr__(name, value)

    @classmethod
    def from_tabular(cls, P: Any, init: Any, *, horizon: int | None = None) -> LinearQModel:
        """The model with one-hot features, for which everything is linear.

        Parameters
        ----------
        P : array_like, shape (H − 1, X, A, X), or (X, A, X) with `horizon`
            Laws of the next state.
        init : array_like, shape (X,)
            Law of the first state.
        horizon : int, optional
            Steps H, where the laws are the same at all of them.
        """
        laws = as_floats(P, "P")
        if laws.ndim == 3:
            if horizon is None:
                raise ValueError("horizon must be given where P is the same at all steps")
            laws = np.broadcast_to(laws, (horizon - 1, *laws.shape))
        if laws.ndim != 4:
            raise ValueError(f"P must have shape (H - 1, X, A, X), got {laws.shape}")
        if horizon is not None and horizon != len(laws) + 1:
            raise ValueError(f"horizon must be {len(laws) + 1}, as P has it, got {horizon}")
        return cls(one_hot(len(laws) + 1, laws.shape[1], laws.shape[2]), laws, init)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """H, X, A, d."""
        return self.phi.shape  # type: ignore[return-value]

    def occupancy(self, policy: Any) -> Float[np.ndarray, "H X"]:
        """Probability of each state at each step under a policy (H, X, A)."""
        H, X, A, _ = self.shape
        pi = as_floats(policy, "policy")
        if pi.shape != (H, X, A):
            raise ValueError(f"policy must have shape {(H, X, A)}, got {pi.shape}")
        wrong = ~((pi >= 0) & (np.abs(pi.sum(axis=-1, keepdims=True) - 1) <= SUMS))
        if wrong.any():
            raise ValueError(_at("policy must hold probabilities that sum to 1", wrong))
        q = np.empty((H, X))
        q[0] = self.init
        for h in range(H - 1):
            q[h + 1] = np.einsum("x,xa,xay->y", q[h], pi[h], self.P[h])
        return q

    def value(self, policy: Any, losses: Any) -> np.ndarray:
        """Expected loss of an episode under a policy, for each table of `losses` (..., H, X, A)."""
        pi = as_floats(policy, "policy")
        visits = self.occupancy(pi)[:, :, None] * pi
        return np.asarray(np.einsum("hxa,...hxa->...", visits, as_floats(losses, "losses")))

    def extremes(self, losses: Float[np.ndarray, "K H X A"], sign: float = 1.0) -> np.ndarray:
        """Least expected loss of any policy in each table (K,); the largest with ``sign=-1``."""
        after = np.zeros((len(losses), self.shape[1]))
        for h in reversed(range(self.shape[0])):
            Q = sign * losses[:, h]
            if h < len(self.P):
                Q = Q + np.einsum("xay,ky->kxa", self.P[h], after)
            after = Q.min(axis=-1)
        return sign * (after @ self.init)

    def best_fixed(self, losses: Float[np.ndarray, "H X A"]) -> Float[np.ndarray, "H X A"]:
        """A deterministic policy of least expected loss in the summed table."""
        H, X, A, _ = self.shape
        best = np.zeros((H, X, A))
        after = np.zeros(X)
        for h in reversed(range(H)):
            Q = losses[h] + (self.P[h] @ after if h < H - 1 else 0.0)
            best[h, np.arange(X), Q.argmin(axis=-1)] = 1.0
            after = Q.min(axis=-1)
        return best

    def residual(self) -> float:
        """How far the laws of the next state are from linear in the features.

        Largest distance of P(x′|·) from its least-squares fit on the features of its step, where a
        policy comes.
        """
        worst = 0.0
        for h in range(len(self.P)):
            laws = self.P[h][self.reachable[h]].reshape(-1, self.P.shape[-1])
            worst = max(worst, float(np.abs(laws - self._fitted(h, laws)).max()))
        return worst

    def loss_residual(self, losses: Float[np.ndarray, "K H X A"]) -> float:
        """The same of losses, over all episodes and steps."""
        worst = 0.0
        for h in range(len(self.phi)):
            rows = losses[:, h, self.reachable[h]].reshape(len(losses), -1).T
            worst = max(worst, float(np.abs(rows - self._fitted(h, rows)).max()))
        return worst

    def inverses(self) -> Float[np.ndarray, "H d XA"]:
        """Pseudo-inverses of the features of each step: θ of least norm is theirs times Q, where a policy comes."""
        return least_squares(self.phi * self.reachable[:, :, None, None])

    def _fitted(self, h: int, rows: np.ndarray) -> np.ndarray:
        features = self.phi[h][self.reachable[h]].reshape(-1, self.phi.shape[-1])
        return features @ (np.linalg.pinv(features, rcond=1e-10) @ rows)


def regret_against_best_fixed(model: LinearQModel, losses: Any, policies: Any) -> float:
    """Expected loss of the policies played, less that of the best fixed one in hindsight.

    Parameters
    ----------
    model : LinearQModel
    losses : array_like, shape (K, H, X, A)
        In any units; these are those of the regret.
    policies : array_like, shape (K, H, X, A)
        Of each episode.

    Returns
    -------
    float
        Negative where changing policies did better than any fixed one.
    """
    table, played = as_floats(losses, "losses"), as_floats(policies, "policies")
    wanted = (len(table), *model.shape[:3])
    for name, array in (("losses", table), ("policies", played)):
        if array.shape != wanted or not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, of shape {wanted}, got {array.shape}")
    ours = sum(float(model.value(pi, episode)) for pi, episode in zip(played, table, strict=True))
    total = table.sum(axis=0)
    return ours - float(model.value(model.best_fixed(total), total))


def least_squares(phi: Float[np.ndarray, "H X A d"]) -> Float[np.ndarray, "H d XA"]:
    """Pseudo-inverse of each step's features."""
    H, X, A, d = phi.shape
    return np.ascontiguousarray(
        [np.linalg.pinv(f.reshape(X * A, d), rcond=1e-10) for f in phi]
    ).reshape(H, d, X * A)


def one_hot(H: int, X: int, A: int) -> Float[np.ndarray, "H X A XA"]:
    """A feature for each state and action."""
    return np.broadcast_to(np.eye(X * A).reshape(X, A, X * A), (H, X, A, X * A)).copy()


def as_losses(
    losses: Any, model: LinearQModel, low: float = 0.0, high: float = 1.0
) -> Float[np.ndarray, "K H X A"]:
    """A table of losses, or coefficients (K, H, d) of the features, scaled from [low, high] to [0, 1].

    Raises
    ------
    ValueError
        If one lies outside; its episode, step, state and action are named.
    """
    array = as_floats(losses, "losses")
    H, X, A, d = model.shape
    if array.ndim == 3 and array.shape[1:] == (H, d):
        array = np.einsum("hxad,khd->khxa", model.phi, array)
    if array.ndim != 4 or array.shape[1:] != (H, X, A) or not len(array):
        raise ValueError(
            f"losses must have shape (K, {H}, {X}, {A}), or (K, {H}, {d}) for coefficients of the "
            f"features, got {array.shape}"
        )
    # Rounding of a sum, not a share of the offset: losses may be small beside where they begin.
    slack = 1e-9 * (high - low) + 4 * np.finfo(float).eps * max(abs(low), abs(high))
    wrong = ~((array >= low - slack) & (array <= high + slack))
    if wrong.any():
        k, h, x, a = (int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"loss {array[k, h, x, a]:.12g} at losses[{k}, {h}, {x}, {a}] (episode, step, state, action) "
            f"outside ({low:.12g}, {high:.12g}): pass loss_range=(lowest, highest), known beforehand"
        )
    return np.ascontiguousarray(np.clip((array - low) / (high - low), 0.0, 1.0))


def _reachable(P: np.ndarray, init: np.ndarray) -> np.ndarray:
    """Where some policy comes (H, X)."""
    reached = [init > 0]
    for laws in P:
        reached.append((laws[reached[-1]] > 0).any(axis=(0, 1)))
    return np.array(reached)


def _laws(value: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    array = as_floats(value, name)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if array.size == 0:
        return array.copy()
    wrong = ~np.isfinite(array) | (array < 0)
    if wrong.any():
        raise ValueError(_at(f"{name} must hold probabilities", wrong))
    sums = array.sum(axis=-1, keepdims=True)
    off = np.abs(sums - 1)
    if off.max() > SUMS:
        where = tuple(int(i) for i in np.argwhere(off[..., 0] >= off.max())[0])
        shown = "[" + ",".join(map(str, where)) + "]" if where else ""
        raise ValueError(f"{name}{shown} sums to {sums[where].item():.9g}, and must sum to 1")
    if off.max() > 1e-12:
        warnings.warn(
            f"{name}: rows sum to 1 within {off.max():.1g} only, and were divided by their sums",
            stacklevel=4,
        )
    return array / sums


def _at(message: str, wrong: np.ndarray) -> str:
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    names = ("step", "state", "action", "entry")
    return (
        message + ", first at " + ", ".join(f"{n} {i}" for n, i in zip(names, where, strict=False))
    )
