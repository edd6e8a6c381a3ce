"""The version for comparators that move: a pool of constant steps under optimistic Hedge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.online._optimistic_mirror_descent import bounds, kernels
from whp.online._optimistic_mirror_descent import theorems as th
from whp.online._optimistic_mirror_descent.domains import as_size
from whp.online._optimistic_mirror_descent.learner import (
    Player,
    as_gradient,
    dimension,
    first_point,
    load,
    not_finite,
    save,
)
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

    curvature: bounds.Curvature = "dynamic"

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
        self.smoothness = as_size(smoothness, "smoothness")
        self.gradient_bound = as_size(gradient_bound, "gradient_bound")
        self.horizon = as_int(horizon, "horizon", low=1)
        self.pool_cap = (
            None
            if pool_cap is None
            else as_real(pool_cap, "pool_cap", low=0, high=math.inf, open_ends=True)
        )
        D = float(domain.diameter)
        self.pool = bounds.pool(
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
        first = first_point(domain, self.dim, start)
        self._W[[kernels.X, kernels.ANCHOR]], self._P[:] = first, first
        self._Q[kernels.POOL_ETA], self._Q[kernels.POOL_P] = self.pool, 1 / count
        self._built = True

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
        base = eta * V + (D**2 + 2 * D * P) / (2 * eta)
        meta = math.log(len(eta)) / s[kernels.XX] + s[kernels.STAB]
        own = base - moved / (8 * eta) + L * (moved - s[kernels.GX2])
        return {"measured form": float(meta + own.min()), "a-priori form": self._form(V, P)}

    def _form(self, variation: float, path_length: float) -> float:
        eta, D, L = self._Q[kernels.POOL_ETA], float(self._p[kernels.DIAMETER]), self.smoothness
        base = eta * variation + (D**2 + 2 * D * path_length) / (2 * eta)
        logs = math.log(len(eta)) + 1
        root = math.sqrt(logs * (self._p[kernels.OFFSET] + variation))
        return float(32 * L * D**2 * logs + 4 * D * root + base.min())

    def _most(self, G: float) -> float:
        # Against a path nothing smaller is sure: its length is not that of every run.
        return float(self._p[kernels.DIAMETER]) * G * self.rounds

    def linearised_regret(self, comparator: Any = None) -> float:
        """Σ⟨g_t, x_t − u⟩ for one u, by default the point of the domain for which it is largest."""
        gsum = self._W[kernels.GSUM]
        u = self.domain.linear_min(gsum) if comparator is None else self._point(comparator)
        return float(self._s[kernels.GX]) - float(gsum @ (u - self._W[kernels.ANCHOR]))

    def certificate(
        self,
        *,
        path_length: float = 0.0,
        comparator: Any = None,
        regret: float | Estimate | None = None,
        checked: Sequence[Answer] = (),
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
        checked : sequence of Answer, optional
            Conditions that were looked at.
        """
        return self._of_the_run(path_length, comparator, regret, checked, {})

    def _of_the_run(
        self,
        path_length: float,
        comparator: Any,
        regret: float | Estimate | None,
        checked: Sequence[Answer],
        known: Mapping[str, Answer],
    ) -> Certificate:
        forms = self.bounds(path_length)
        measured = None
        if regret is not None or path_length == 0:
            measured = self._regret(regret, lambda: self.linearised_regret(comparator), comparator)
        elif comparator is not None:
            raise ValueError(
                "comparator must be left out with path_length: a single point is no path"
            )
        alone = path_length == 0 and regret is None
        told = [
            *self._answers(),
            self._bounded(self.gradient_bound),
            th.CONVEX.unchecked("gradients alone cannot show it"),
            th.PATH.by_construction("one comparator, which does not move")
            if alone
            else th.PATH.unchecked("the path itself was not given"),
        ]
        inputs = {
            "T": self.rounds,
            "D": float(self._p[kernels.DIAMETER]),
            "L": self.smoothness,
            "G": self.gradient_bound,
            "gradient variation": self.gradient_variation,
            "path length": float(path_length),
            "base learners": len(self.pool),
            "regret": "linearised" if regret is None else "as given",
            "a-priori form": forms["a-priori form"],
        }
        answers = th.with_checked([known.get(a.name, a) for a in told], checked)
        return th.of_the_run(
            "dynamic", forms["measured form"], measured, self.trivial, answers, inputs
        )

    def _more(self) -> tuple[Answer, ...]:
        cap, most = float(self._Q[kernels.POOL_ETA].max()), 1 / (16 * self.smoothness)
        return (
            th.CAPPED.check(cap <= most * (1 + 1e-12), f"{cap:.4g} of {most:.4g}"),
            th.PATH.unchecked("the path of the other runs was not given"),
        )

    def _settings(self) -> dict[str, Any]:
        return {
            k: getattr(self, k) for k in ("smoothness", "gradient_bound", "horizon", "pool_cap")
        }

    def sea_bound(
        self,
        sigma2: Any,
        Sigma2: Any,
        gradient_bound: float | None = None,
        path_length: float = 0.0,
    ) -> float:
        """:func:`sea_bound` with the constants of this learner, whose G is its own."""
        return bounds.sea_bound(
            "dynamic",
            D=float(self._p[kernels.DIAMETER]),
            L=self.smoothness,
            G=self.gradient_bound,
            sigma2=sigma2,
            Sigma2=Sigma2,
            path_length=path_length,
            horizon=self.horizon,
            pool_cap=self.pool_cap,
        )

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that has been learnt, and the settings, as plain arrays that ``np.savez`` takes."""
        return save(self, STATE)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a learner of the same settings.

        Raises
        ------
        ValueError
            As :meth:`OptimisticMirrorDescent.load_state_dict`.
        """
        load(self, state, STATE)


STATE = {"scalars": "_s", "vectors": "_W", "points": "_P", "pool": "_Q"}
