"""The learner: a gradient in, the next point out, with its bound in running sums."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.online.optimistic_mirror_descent import guarantee, kernels
from whp.online.optimistic_mirror_descent.domains import Ball, Box
from whp.undeclared import Assumption, unchecked
from whp.validate import as_choice, as_int, as_real, as_vector

__all__ = ["OptimisticMirrorDescent"]

RULE = {
    "convex": kernels.CONVEX,
    "strongly_convex": kernels.STRONGLY_CONVEX,
    "exp_concave": kernels.EXP_CONCAVE,
}


def dimension(domain: Any, dim: int | None, x0: Any) -> int:
    """The dimension that domain, `dim` and `x0` agree on."""
    told = [n for n in (domain.dim, dim, None if x0 is None else len(x0)) if n is not None]
    if not told:
        raise ValueError("dim must be given: neither the domain nor x0 has a dimension")
    size = as_int(told[0], "dim", low=1)
    if any(n != size for n in told):
        raise ValueError(f"dim must agree with the domain and x0, got {told}")
    return size


def as_gradient(gradient: Any, dim: int, name: str = "gradient") -> Float[np.ndarray, " d"]:
    """A float64 vector of the right length; its finiteness is left to the compiled loop."""
    try:
        g = np.ascontiguousarray(gradient, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} must be an array of real numbers, got {type(gradient).__name__}: {error}"
        ) from error
    if g.shape != (dim,):
        raise ValueError(f"{name} must have shape ({dim},), got {g.shape}")
    return g


def not_finite(g: Float[np.ndarray, " d"], name: str = "gradient") -> ValueError:
    """The error for NaN and infinity."""
    where = np.flatnonzero(~np.isfinite(g))
    if not len(where):
        return ValueError(
            f"{name} must have a finite square, got entries up to {np.abs(g).max():.3g}"
        )
    return ValueError(f"{name} has non-finite entries at positions {where[:10].tolist()}")


class Player:
    """What both learners show of their state: settings `_p`, running sums `_s`, vectors `_W`."""

    domain: Any
    dim: int
    _p: np.ndarray
    _s: np.ndarray
    _W: np.ndarray

    @property
    def x(self) -> Float[np.ndarray, " d"]:
        """The point to play now."""
        return self._W[kernels.X].copy()

    @property
    def rounds(self) -> int:
        """Gradients seen."""
        return int(self._s[kernels.T])

    @property
    def gradient_variation(self) -> float:
        """V̄: the sum of squared distances between gradients and their hints so far."""
        return float(self._s[kernels.V])

    @property
    def trivial(self) -> float:
        """D Σ‖g_t‖: what no linearised regret can exceed."""
        return float(self._p[kernels.DIAMETER] * self._s[kernels.GNORM])

    @abstractmethod
    def sea_bound(self, sigma2: Any, Sigma2: Any) -> float:
        """:func:`sea_bound` with the constants of this learner."""
        ...

    @abstractmethod
    def assumptions(self) -> tuple[Assumption, ...]:
        """What the bound on this run rests on."""
        ...

    def sea_certificate(
        self,
        sigma2: Any,
        Sigma2: Any,
        *,
        regret: Estimate | None = None,
        assumptions: Sequence[Assumption] | None = None,
        inputs: Mapping[str, Any] | None = None,
        **path: float,
    ) -> Certificate:
        """The bound on expected regret, and the mean regret of independent runs.

        Parameters
        ----------
        sigma2, Sigma2 : float or array_like, shape (T,)
            Stochastic variance and adversarial variation of the environment, known or estimated
            (:func:`estimate_sea`), as in :func:`sea_bound`.
        regret : Estimate, optional
            Mean regret of at least 20 independent runs with its interval; without it the verdict is `unmeasured`.
        assumptions : sequence of Assumption, optional
            What is known of the environment; by default that it is smooth, convex and blind to its draws is unchecked.
        inputs : mapping, optional
            More to be written down beside the bound.
        **path : float
            ``path_length`` of the comparators, for the dynamic version.
        """
        told = self.assumptions() if assumptions is None else tuple(assumptions)
        if assumptions is None:
            told += (
                unchecked(
                    "the expected losses are convex and L-smooth", "gradients alone cannot show it"
                ),
                unchecked(
                    "nature draws each round without having seen the draw", "nothing was said of it"
                ),
            )
        known = {
            "σ²": float(np.sum(sigma2)),
            "Σ²": float(np.sum(Sigma2)),
            "D": float(self._p[kernels.DIAMETER]),
        }
        bound = self.sea_bound(sigma2, Sigma2, **path)
        return guarantee.sea(bound, regret, self.trivial, told, {**known, **(inputs or {})})


class OptimisticMirrorDescent(Player):
    """Optimistic online mirror descent whose steps tune themselves to how predictable the gradients are.

    Each round play :attr:`x`, then hand the gradient there to :meth:`step`. No horizon, variance or drift is needed.

    Parameters
    ----------
    domain : Ball, Box, Simplex, L1Ball or Polytope
        Where points may lie.
    dim : int, optional
        Dimension, where the domain has none of its own.
    curvature : {"convex", "strongly_convex", "exp_concave"}
        Rule of the step sizes; the last costs O(d²) a round and works on a Ball or a Box.
    smoothness : float, optional
        L of the expected losses; 0 for linear ones. The convex rule needs it, or `delta`.
    gradient_bound : float, optional
        G. The convex rule is the paper's with it and scale-free without; ``"exp_concave"`` needs it.
    strong_convexity : float, optional
        λ, for ``"strongly_convex"``.
    exp_concavity : float, optional
        α, for ``"exp_concave"``.
    delta : float, optional
        Offset of the convex rule, 10 D²L² by default: what the theory needs to absorb the smoothness.
    epsilon : float
        Initial metric of the exp-concave rule.
    x0 : array_like, shape (d,), optional
        First point; the projection of zero by default.

    Attributes
    ----------
    x : ndarray, shape (d,)
        The point to play now.
    rounds : int
        Gradients seen.

    Raises
    ------
    ValueError
        If what the curvature needs is missing, or dimensions do not agree.

    References
    ----------
    Chen, Tu, Zhao, Zhang (ICML 2023), arXiv 2302.04552; the scale-free rule is ours.

    Examples
    --------
    >>> learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0)
    >>> learner.step([1.0, 0.0])
    array([-1.,  0.])
    """

    def __init__(
        self,
        domain: Any,
        *,
        dim: int | None = None,
        curvature: Literal["convex", "strongly_convex", "exp_concave"] = "convex",
        smoothness: float | None = None,
        gradient_bound: float | None = None,
        strong_convexity: float | None = None,
        exp_concavity: float | None = None,
        delta: float | None = None,
        epsilon: float = 1.0,
        x0: Any = None,
    ) -> None:
        if not hasattr(domain, "project"):
            raise TypeError(
                f"domain must be a Ball, Box, Simplex, L1Ball or Polytope, got {type(domain).__name__}"
            )
        as_choice(curvature, "curvature", guarantee.CURVATURES)
        start = None if x0 is None else as_vector(x0, "x0", dtype=np.float64)
        self.domain = domain
        self.curvature: guarantee.Curvature = curvature
        self.dim = dimension(domain, dim, start)
        self.smoothness = None if smoothness is None else as_real(smoothness, "smoothness", low=0)
        self.gradient_bound = _positive(gradient_bound, "gradient_bound")
        self.strong_convexity = _positive(strong_convexity, "strong_convexity")
        self.exp_concavity = _positive(exp_concavity, "exp_concavity")
        self.epsilon = as_real(epsilon, "epsilon", low=0, open_ends=True)
        D = float(domain.diameter)
        p = np.zeros(5)
        p[kernels.DIAMETER] = D
        self.beta: float | None = None
        match curvature:
            case "convex":
                if delta is None and self.smoothness is None:
                    raise ValueError(
                        "smoothness must be given (0 for linear losses), or delta instead, got None"
                    )
                offset = (
                    10 * D**2 * (self.smoothness or 0) ** 2
                    if delta is None
                    else as_real(delta, "delta", low=0)
                )
                self.delta = offset
                p[kernels.OFFSET] = offset + 4 * (self.gradient_bound or 0) ** 2
                p[kernels.SCALE_FREE] = self.gradient_bound is None
            case "strongly_convex":
                if self.strong_convexity is None:
                    raise ValueError(
                        "strong_convexity must be given for curvature='strongly_convex', got None"
                    )
                p[kernels.LAMBDA] = self.strong_convexity
            case _:
                if self.gradient_bound is None or self.exp_concavity is None:
                    missing = "gradient_bound" if self.gradient_bound is None else "exp_concavity"
                    raise ValueError(
                        f"{missing} must be given for curvature='exp_concave', got None"
                    )
                if not isinstance(domain, Ball | Box):
                    raise ValueError(
                        f"domain must be a Ball or a Box for 'exp_concave', got {type(domain).__name__}"
                    )
                self.beta = 0.5 * min(1 / (4 * self.gradient_bound * D), self.exp_concavity)
                p[kernels.BETA] = self.beta
        self._p, self._rule = p, RULE[curvature]
        self._describe()
        self._s = np.zeros(kernels.SCALARS)
        self._W = np.zeros((kernels.VECTORS, self.dim))
        first = domain.project(np.zeros(self.dim) if start is None else start)
        if start is not None and np.abs(first - start).max() > 1e-9 * (1 + np.abs(start).max()):
            raise ValueError(
                f"x0 must lie in the domain, got a point {np.linalg.norm(first - start):.3g} away from it"
            )
        self._W[kernels.X] = self._W[kernels.XHAT] = first
        self._M = np.zeros((4, self.dim, self.dim) if self.beta else (4, 0, 0))
        if self.beta:
            base = self.epsilon + self.beta * p_square(self.gradient_bound) / 2
            self._M[0], self._M[1] = base * np.eye(self.dim), np.eye(self.dim) / base

    def _describe(self) -> None:
        self._low, self._high, self._size = self.domain.describe(self.dim)

    def step(self, gradient: Any, *, hint: Any = None) -> Float[np.ndarray, " d"]:
        """Take the gradient at :attr:`x`; move to, and return, the next point.

        Parameters
        ----------
        gradient : array_like, shape (d,)
            Of this round's loss at the point that was played. One of a mini-batch is the mean of its rows'.
        hint : array_like, shape (d,), optional
            Guess of the next gradient, this one by default.

        Raises
        ------
        ValueError
            If it has another shape or is not finite; the learner is then as it was.
        """
        g = as_gradient(gradient, self.dim)
        guess = g
        if hint is not None:
            guess = as_gradient(hint, self.dim, "hint")
            if not np.isfinite(guess).all():
                raise not_finite(guess, "hint")
        W = self._W
        if self._rule != kernels.EXP_CONCAVE and self.domain.code >= 0:
            fine = kernels.advance(
                self._rule,
                self._p,
                self.domain.code,
                self._low,
                self._high,
                self._size,
                self._s,
                W,
                g,
                guess,
            )
        elif self._rule == kernels.EXP_CONCAVE and self.domain.code == 0:
            fine = kernels.advance_metric(
                self._p, self._low, self._size, self._s, W, self._M, g, guess
            )
        else:
            fine = self._step_by_solver(g, guess)
        if not fine:
            raise not_finite(g)
        return W[kernels.X].copy()

    def _step_by_solver(self, g: Float[np.ndarray, " d"], hint: Float[np.ndarray, " d"]) -> bool:
        """The same round where a projection needs a solver."""
        W, M = self._W, self._M
        if self._rule == kernels.EXP_CONCAVE:
            if not kernels.measure_metric(self._p, self._s, W, M, g):
                return False
            W[kernels.XHAT] = self.domain.project_metric(W[kernels.XHAT] - M[1] @ g, M[0])
            kernels.grow_metric(self._p, self._s, M, g)
            W[kernels.HINT] = hint
            W[kernels.X] = self.domain.project_metric(W[kernels.XHAT] - M[1] @ hint, M[0])
            return True
        eta, following = kernels.measure(self._rule, self._p, self._s, W, g)
        if eta < 0:
            return False
        W[kernels.XHAT] = self.domain.project(W[kernels.XHAT] - eta * g)
        W[kernels.HINT] = hint
        W[kernels.X] = self.domain.project(W[kernels.XHAT] - following * hint)
        return True

    def bounds(self) -> dict[str, float]:
        """The bound on this run's regret in its measured form, and the looser closed forms that follow from it."""
        s, D = self._s, float(self._p[kernels.DIAMETER])
        variation, stability = self.gradient_variation, float(s[kernels.STAB])
        match self.curvature:
            case "convex":
                lead = D**2 / (2 * s[kernels.ETA]) if s[kernels.ETA] > 0 else 0.0
                k = guarantee.SCALE_FREE if self.gradient_bound is None else 2.5
                return {
                    "measured form": float(lead + stability),
                    "a-priori form": k * D * math.sqrt(self._p[kernels.OFFSET] + variation),
                }
            case "strongly_convex":
                lam = p_value(self.strong_convexity)
                return {"measured form": lam * D**2 / 4 + 2 / lam * stability}
            case _:
                beta, d = p_value(self.beta), self.dim
                lead = (self.epsilon + beta * p_square(self.gradient_bound) / 2) * D**2 / 2
                scale = beta / (8 * self.epsilon)
                logdet = float(np.linalg.slogdet(np.eye(d) + scale * self._M[2])[1])
                return {
                    "measured form": lead + stability,
                    "log-determinant form": lead + 16 / beta * logdet,
                    "a-priori form": lead + 16 * d / beta * math.log1p(scale * variation / d),
                }

    def linearised_regret(self, comparator: Any = None) -> float:
        """Σ⟨g_t, x_t − u⟩, less (λ/2)Σ‖x_t − u‖² or (β/2)Σ⟨g_t, x_t − u⟩² for the curved rules: at least the regret.

        Parameters
        ----------
        comparator : array_like, shape (d,), optional
            u; by default the point of the domain for which it is largest.
        """
        s, W = self._s, self._W
        gsum, played = W[kernels.GSUM], float(s[kernels.GX])
        if self.curvature == "convex":
            u = (
                self.domain.linear_min(gsum)
                if comparator is None
                else as_gradient(comparator, self.dim, "comparator")
            )
            return played - float(gsum @ u)
        if self.curvature == "strongly_convex":
            lam, xsum, rounds = p_value(self.strong_convexity), W[kernels.XSUM], max(self.rounds, 1)
            u = (
                self.domain.project((lam * xsum - gsum) / (lam * rounds))
                if comparator is None
                else None
            )
            u = as_gradient(comparator, self.dim, "comparator") if u is None else u
            apart = float(s[kernels.XX]) - 2 * float(xsum @ u) + self.rounds * float(u @ u)
            return played - float(gsum @ u) - lam / 2 * max(apart, 0.0)
        beta, M = p_value(self.beta), self._M
        base = self.epsilon + beta * p_square(self.gradient_bound) / 2
        outer = (M[0] - base * np.eye(self.dim)) * 2 / beta  # Σ g gᵀ
        if comparator is None:
            u = self.domain.quadratic_min(beta * outer, beta * M[3, 0] - gsum)
        else:
            u = as_gradient(comparator, self.dim, "comparator")
        apart = float(s[kernels.GX2]) - 2 * float(M[3, 0] @ u) + float(u @ outer @ u)
        return played - float(gsum @ u) - beta / 2 * max(apart, 0.0)

    def assumptions(self) -> tuple[Assumption, ...]:
        """What the bound on this run rests on."""
        found = [guarantee.in_domain(f"by projection; D = {self._p[kernels.DIAMETER]:.6g}")]
        if self.gradient_bound is not None:
            found.append(
                guarantee.gradients_bounded(float(self._s[kernels.GMAX]), self.gradient_bound)
            )
        match self.curvature:
            case "strongly_convex":
                statement = f"the losses are {self.strong_convexity:g}-strongly convex, if measured is to bound their regret"
                found.append(unchecked(statement, "gradients alone cannot show it"))
            case "exp_concave":
                statement = f"each loss is {self.exp_concavity:g}-exp-concave, if measured is to bound its regret"
                found.append(unchecked(statement, "gradients alone cannot show it"))
        return tuple(found)

    def certificate(
        self,
        *,
        comparator: Any = None,
        regret: float | Estimate | None = None,
        assumptions: Sequence[Assumption] | None = None,
    ) -> Certificate:
        """The bound on this run's regret, and the regret.

        Parameters
        ----------
        comparator : array_like, shape (d,), optional
            Point to compare with; the hardest in hindsight by default.
        regret : float or Estimate, optional
            The regret in the losses themselves, where they are known; by default its linear upper bound is measured.
        assumptions : sequence of Assumption, optional
            In the place of :meth:`assumptions`, by one who knows the losses.
        """
        forms = self.bounds()
        what = "the realised regret in the losses"
        if regret is None:
            measured = exact(self.linearised_regret(comparator))
            what = {
                "convex": "Σ⟨g_t, x_t − u⟩",
                "strongly_convex": "Σ⟨g_t, x_t − u⟩ − (λ/2)‖x_t − u‖²",
                "exp_concave": "Σ⟨g_t, x_t − u⟩ − (β/2)⟨g_t, x_t − u⟩²",
            }[self.curvature] + (
                " at the u of the domain where it is largest"
                if comparator is None
                else " at the u given"
            )
        else:
            measured = regret if isinstance(regret, Estimate) else exact(as_real(regret, "regret"))
        rule = self.curvature
        if rule == "convex":
            rule = "scale_free" if self.gradient_bound is None else "paper"
        inputs = {
            "T": self.rounds,
            "D": self._p[kernels.DIAMETER],
            "gradient variation": self.gradient_variation,
            **{k: v for k, v in forms.items() if k != "measured form"},
        }
        told = {
            "L": self.smoothness,
            "G": self.gradient_bound,
            "λ": self.strong_convexity,
            "β": self.beta,
        }
        if self.curvature == "convex":
            told["δ"] = self.delta
        inputs |= {k: v for k, v in told.items() if v is not None}
        checked = self.assumptions() if assumptions is None else tuple(assumptions)
        return guarantee.pathwise(
            rule, forms["measured form"], measured, self.trivial, checked, inputs, what
        )

    def sea_bound(self, sigma2: Any, Sigma2: Any) -> float:
        """:func:`sea_bound` with the constants of this learner and the largest gradient seen where no bound was given."""
        G = float(self._s[kernels.GMAX]) if self.gradient_bound is None else self.gradient_bound
        if self.smoothness is None:
            raise ValueError("smoothness must be given for a bound in expectation, got None")
        return guarantee.sea_bound(
            self.curvature,
            D=float(self._p[kernels.DIAMETER]),
            L=self.smoothness,
            G=G,
            sigma2=sigma2,
            Sigma2=Sigma2,
            dim=self.dim,
            lam=self.strong_convexity,
            beta=self.beta,
            epsilon=self.epsilon,
            delta=self.delta if self.curvature == "convex" else None,
            scale_free=self.curvature == "convex" and self.gradient_bound is None,
            horizon=max(self.rounds, 1),
        )

    def grow(self, dim: int) -> None:
        """Append coordinates, as if their gradients had been zero so far; the domain must exist in every dimension."""
        extra = as_int(dim, "dim", low=self.dim) - self.dim
        if extra == 0:
            return
        if self.domain.dim is not None:
            raise ValueError(f"dim must stay {self.dim}, the dimension of the domain, got {dim}")
        self._W = np.pad(self._W, ((0, 0), (0, extra)))
        if self.beta:
            base = self.epsilon + self.beta * p_square(self.gradient_bound) / 2
            self._M = np.pad(self._M, ((0, 0), (0, extra), (0, extra)))
            new = range(self.dim, dim)
            self._M[0, new, new], self._M[1, new, new] = base, 1 / base
        self.dim = dim
        self._describe()

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that has been learnt, as plain arrays; the settings are those of the constructor."""
        return {"scalars": self._s.copy(), "vectors": self._W.copy(), "metric": self._M.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a learner of the same settings.

        Raises
        ------
        ValueError
            If an array is missing, of another shape or not finite.
        """
        load(self, state, {"scalars": "_s", "vectors": "_W", "metric": "_M"})


def load(learner: Any, state: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Copy arrays of a state into a learner, all or none."""
    if set(state) != set(names):
        raise ValueError(
            f"state must hold {', '.join(names)}, got {', '.join(map(str, state)) or 'nothing'}"
        )
    arrays = {name: np.array(state[name], dtype=np.float64) for name in names}
    for name, array in arrays.items():
        wanted = getattr(learner, names[name]).shape
        if array.shape != wanted or not np.isfinite(array).all():
            raise ValueError(
                f"state[{name!r}] must be finite and of shape {wanted}, got shape {array.shape}"
            )
    for name, array in arrays.items():
        setattr(learner, names[name], array)


def _positive(value: float | None, name: str) -> float | None:
    return None if value is None else as_real(value, name, low=0, high=math.inf, open_ends=True)


def p_value(value: float | None) -> float:
    """A setting that the constructor made sure of."""
    assert value is not None
    return value


def p_square(value: float | None) -> float:
    """Its square."""
    return p_value(value) ** 2
