"""The version for comparators that move: a pool of constant steps under optimistic Hedge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.online.optimistic_mirror_descent import guarantee, kernels
from whp.online.optimistic_mirror_descent.learner import (
    Player,
    as_gradient,
    dimension,
    load,
    not_finite,
)
from whp.undeclared import Assumption
from whp.validate import as_int, as_real, as_vector

__all__ = ["DynamicOptimisticMirrorDescent"]


class DynamicOptimisticMirrorDescent(Player):
    """Optimistic mirror descent against a moving comparator.

    N base learners with constant steps share each round's gradient; their points are mixed by optimistic Hedge that charges
    each for how far it moves. The regret against any path of points is bounded by its length.

    Parameters
    ----------
    domain : Ball, Box, Simplex or L1Ball
        Where points may lie.
    dim : int, optional
        Dimension, where the domain has none of its own.
    smoothness : float
        L of the expected losses, positive: steps begin at 1/(16L).
    gradient_bound : float
        G.
    horizon : int
        Rounds to come, for the smallest step of the pool.
    pool_cap : float, optional
        Largest step of the pool, 1/(16L) by default. The paper's 1/(8L) often learns faster; the bound in expectation is
        then not proven with our constants, and its certificate is void.
    x0 : array_like, shape (d,), optional
        First point; the projection of zero by default.

    Attributes
    ----------
    x : ndarray, shape (d,)
        The point to play now.
    pool : ndarray, shape (N,)
        Steps of the base learners.
    weights : ndarray, shape (N,)
        Their weights now.

    References
    ----------
    Chen, Tu, Zhao, Zhang (ICML 2023), dynamic regret; constants and the halving of the learning rate are ours.
    """

    curvature = "dynamic"

    def __init__(
        self,
        domain: Any,
        *,
        dim: int | None = None,
        smoothness: float,
        gradient_bound: float,
        horizon: int,
        pool_cap: float | None = None,
        x0: Any = None,
    ) -> None:
        if getattr(domain, "code", -1) < 0:
            raise TypeError(
                f"domain must be a Ball, Box, Simplex or L1Ball, got {type(domain).__name__}"
            )
        start = None if x0 is None else as_vector(x0, "x0", dtype=np.float64)
        self.domain, self.dim = domain, dimension(domain, dim, start)
        self.smoothness = as_real(smoothness, "smoothness", low=0, high=math.inf, open_ends=True)
        self.gradient_bound = as_real(
            gradient_bound, "gradient_bound", low=0, high=math.inf, open_ends=True
        )
        self.horizon = as_int(horizon, "horizon", low=1)
        self.pool_cap = (
            None
            if pool_cap is None
            else as_real(pool_cap, "pool_cap", low=0, high=math.inf, open_ends=True)
        )
        D = float(domain.diameter)
        self.pool = guarantee.pool(
            D, self.smoothness, self.gradient_bound, self.horizon, self.pool_cap
        )
        self._low, self._high, self._size = domain.describe(self.dim)
        self._p = np.zeros(5)
        self._p[kernels.DIAMETER], self._p[kernels.OFFSET] = D, 4 * self.gradient_bound**2
        self._s = np.zeros(kernels.SCALARS)
        self._s[kernels.ETA] = self._s[kernels.XX] = 1 / (16 * self.smoothness * D**2)
        count = len(self.pool)
        self._W = np.zeros((kernels.VECTORS, self.dim))
        self._P, self._Q = np.zeros((3, count, self.dim)), np.zeros((5, count))
        first = domain.project(np.zeros(self.dim) if start is None else start)
        self._W[kernels.X], self._P[:] = first, first
        self._Q[kernels.POOL_ETA], self._Q[kernels.POOL_P] = self.pool, 1 / count

    @property
    def weights(self) -> Float[np.ndarray, " N"]:
        """Weights of the base learners now."""
        return self._Q[kernels.POOL_P].copy()

    @property
    def learning_rate(self) -> float:
        """ε in force."""
        return float(self._s[kernels.ETA])

    def step(self, gradient: Any) -> Float[np.ndarray, " d"]:
        """Take the gradient at :attr:`x`; move to, and return, the next point.

        Raises
        ------
        ValueError
            If it has another shape or is not finite; the learner is then as it was.
        """
        g = as_gradient(gradient, self.dim)
        fine = kernels.advance_pool(
            self._p,
            self.smoothness,
            self.domain.code,
            self._low,
            self._high,
            self._size,
            self._s,
            self._W,
            self._P,
            self._Q,
            g,
        )
        if not fine:
            raise not_finite(g)
        return self.x

    def bounds(self, path_length: float = 0.0) -> dict[str, float]:
        """The bound on this run's regret against any path of that length, and the a-priori form that follows from it."""
        P = as_real(path_length, "path_length", low=0)
        s, Q, D, L = self._s, self._Q, float(self._p[kernels.DIAMETER]), self.smoothness
        eta, moved, V = Q[kernels.POOL_ETA], Q[kernels.POOL_MOVED], self.gradient_variation
        logs = math.log(len(eta))
        base = eta * V + (D**2 + 2 * D * P) / (2 * eta)
        meta = logs / s[kernels.XX] + s[kernels.STAB]
        own = base - moved / (8 * eta) + L * (moved - s[kernels.GX2])
        prior = (
            32 * L * D**2 * (logs + 1)
            + 4 * D * math.sqrt((logs + 1) * (self._p[kernels.OFFSET] + V))
            + base.min()
        )
        return {"measured form": float(meta + own.min()), "a-priori form": float(prior)}

    def linearised_regret(self, comparator: Any = None) -> float:
        """Σ⟨g_t, x_t − u⟩ for one u, by default the point of the domain for which it is largest."""
        gsum = self._W[kernels.GSUM]
        u = (
            self.domain.linear_min(gsum)
            if comparator is None
            else as_gradient(comparator, self.dim, "comparator")
        )
        return float(self._s[kernels.GX]) - float(gsum @ u)

    def assumptions(self) -> tuple[Assumption, ...]:
        """What the bound on this run rests on."""
        return (
            guarantee.in_domain(f"mixtures of projections; D = {self._p[kernels.DIAMETER]:.6g}"),
            guarantee.gradients_bounded(float(self._s[kernels.GMAX]), self.gradient_bound),
        )

    def certificate(
        self,
        *,
        path_length: float = 0.0,
        comparator: Any = None,
        regret: float | Estimate | None = None,
        assumptions: Sequence[Assumption] | None = None,
    ) -> Certificate:
        """The bound on this run's regret against a path, and the regret.

        Parameters
        ----------
        path_length : float
            Σ‖u_t − u_{t−1}‖ of the path; zero for a single comparator.
        comparator : array_like, shape (d,), optional
            A single point to compare with; the hardest in hindsight by default.
        regret : float or Estimate, optional
            Regret against the path, in losses or linearised; must be given where `path_length` is positive.
        assumptions : sequence of Assumption, optional
            In the place of :meth:`assumptions`.
        """
        forms = self.bounds(path_length)
        measured, what = None, "the regret against the path that was given"
        if regret is not None:
            measured = regret if isinstance(regret, Estimate) else exact(as_real(regret, "regret"))
        elif path_length == 0:
            measured, what = (
                exact(self.linearised_regret(comparator)),
                "Σ⟨g_t, x_t − u⟩ for a single u",
            )
        inputs = {
            "T": self.rounds,
            "D": self._p[kernels.DIAMETER],
            "L": self.smoothness,
            "G": self.gradient_bound,
            "gradient variation": self.gradient_variation,
            "path length": float(path_length),
            "base learners": len(self.pool),
            "a-priori form": forms["a-priori form"],
        }
        checked = self.assumptions() if assumptions is None else tuple(assumptions)
        return guarantee.pathwise(
            "dynamic", forms["measured form"], measured, self.trivial, checked, inputs, what
        )

    def sea_bound(self, sigma2: Any, Sigma2: Any, path_length: float = 0.0) -> float:
        """:func:`sea_bound` with the constants of this learner."""
        return guarantee.sea_bound(
            "dynamic",
            D=float(self._p[kernels.DIAMETER]),
            L=self.smoothness,
            G=self.gradient_bound,
            sigma2=sigma2,
            Sigma2=Sigma2,
            path_length=path_length,
            horizon=self.horizon,
        )

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that has been learnt, as plain arrays."""
        return {k: getattr(self, v).copy() for k, v in STATE.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a learner of the same settings."""
        load(self, state, STATE)


STATE = {"scalars": "_s", "vectors": "_W", "points": "_P", "pool": "_Q"}
