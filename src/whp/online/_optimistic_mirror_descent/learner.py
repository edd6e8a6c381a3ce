"""The learner: a gradient in, the next point out, with its bound in running sums."""

from __future__ import annotations

import copy
import json
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.online._optimistic_mirror_descent import bounds, kernels
from whp.online._optimistic_mirror_descent import theorems as th
from whp.online._optimistic_mirror_descent.domains import (
    MOST,
    Ball,
    Box,
    L1Ball,
    Polytope,
    Simplex,
    as_size,
)
from whp.validate import as_choice, as_floats, as_int, as_real, as_vector

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


def first_point(domain: Any, dim: int, x0: Any) -> Float[np.ndarray, " d"]:
    """`x0`, which must lie in the domain, or by default the projection of zero."""
    start = np.zeros(dim) if x0 is None else x0
    first = domain.project(start)
    if x0 is not None and np.abs(first - x0).max() > 1e-9 * (1 + np.abs(x0).max()):
        raise ValueError(
            f"x0 must lie in the domain, got a point {np.linalg.norm(first - x0):.3g} away from it"
        )
    # Where numbers lie further apart than the set is wide, no step moves, and no regret is seen.
    step = float(np.linalg.norm(np.spacing(np.abs(first))))
    if not step <= STRAY * domain.diameter:
        raise ValueError(
            f"domain must be wide enough to be told apart from a point, got diameter "
            f"{domain.diameter:g} where numbers are {step:.3g} apart: move it towards zero"
        )
    return first


def as_gradient(gradient: Any, dim: int, name: str = "gradient") -> Float[np.ndarray, " d"]:
    """A float64 vector of the right length; its finiteness is left to the compiled loop."""
    plain = type(gradient) is np.ndarray and gradient.dtype == np.float64
    g = np.ascontiguousarray(gradient if plain else as_floats(gradient, name))
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


DOMAINS = (Ball, Box, Simplex, L1Ball, Polytope)
SETTINGS = frozenset(
    {
        "domain",
        "curvature",
        "smoothness",
        "gradient_bound",
        "strong_convexity",
        "exp_concavity",
        "beta",
        "delta",
        "epsilon",
        "horizon",
        "pool_cap",
        "pool",
    }
)
STRAY = 1e-7  # how far outside, in diameters, a projection may end


class Player:
    """What both learners show of their state: settings `_p`, running sums `_s`, vectors `_W`."""

    domain: Any
    dim: int
    curvature: bounds.Curvature
    smoothness: Any  # float, or None where the rule needs none
    gradient_bound: Any
    _p: np.ndarray
    _s: np.ndarray
    _W: np.ndarray
    _streamed = 0  # rounds, all of them from the compiled stream; -1 after a state was loaded
    _built = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self._built and name in SETTINGS:
            raise AttributeError(
                f"{name} must stay as it is: what was summed up so far is of these settings; make a "
                "new learner"
            )
        object.__setattr__(self, name, value)

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
    def sea_bound(self, sigma2: Any, Sigma2: Any, gradient_bound: float | None = None) -> float:
        """:func:`sea_bound` with the constants of this learner."""
        ...

    @abstractmethod
    def _settings(self) -> dict[str, Any]:
        """What the constructor was given."""
        ...

    @abstractmethod
    def _most(self, G: float) -> float:
        """The largest regret that any run of as many gradients of norm at most G can have."""
        ...

    def _answers(self) -> tuple[Answer, ...]:
        """What gradients alone show of the run."""
        D = float(self._p[kernels.DIAMETER])
        if type(self.domain) in DOMAINS:
            stray = float(self._s[kernels.OUTSIDE])
            inside = th.IN_DOMAIN.check(
                stray <= STRAY * D, f"{stray:.2g} outside at the most; D = {D:.6g}"
            )
        else:
            inside = th.IN_DOMAIN.unchecked(f"a domain of your own, which says D = {D:.6g}")
        return (
            inside,
            th.AT_THE_POINT_PLAYED.unchecked("where gradients were taken does not show in them"),
        )

    def _bounded(self, G: float) -> Answer:
        largest = float(self._s[kernels.GMAX])
        return th.GRADIENTS_BOUNDED.check(
            largest <= G * (1 + 1e-12), f"the largest has norm {largest:.6g}, G = {G:.6g}"
        )

    def sea_certificate(
        self,
        sigma2: Any,
        Sigma2: Any,
        *,
        regrets: Any = None,
        delta: float = 0.05,
        gradient_bound: float | None = None,
        checked: Sequence[Answer] = (),
        **path: float,
    ) -> Certificate:
        """The bound on expected regret, and the mean regret of independent runs.

        Parameters
        ----------
        sigma2, Sigma2 : float or array_like, shape (T,)
            Stochastic variance and adversarial variation of the environment, known or estimated
            (:func:`estimate_sea`), as in :func:`sea_bound`.
        regrets : array_like, shape (runs,), optional
            Regret of each of several independent runs, as :meth:`linearised_regret` against the
            comparator that is meant gives it, or in convex losses; without them the verdict is
            *unmeasured*. Their mean gets an interval that is valid for rare runs, whose width is a
            share of the largest regret that gradients allow: twenty runs decide where the bound is
            above a sixth of that, a hundred where it is above a thirtieth.
        delta : float
            Failure probability of that interval, by default .05.
        gradient_bound : float, optional
            G of every run, for a learner that runs without.
        checked : sequence of Answer, optional
            What :func:`check_smoothness`, :func:`check_strong_convexity` or
            :func:`check_exp_concavity` returned.
        **path : float
            ``path_length`` of the comparators, for the dynamic version.

        Raises
        ------
        ValueError
            If regrets exceed what gradients of norm at most G allow, or are given without G.
        """
        return self._on_average(
            sigma2, Sigma2, regrets, delta, gradient_bound, checked, {}, {}, path
        )

    def _on_average(
        self,
        sigma2: Any,
        Sigma2: Any,
        regrets: Any,
        delta: float,
        gradient_bound: float | None,
        checked: Sequence[Answer],
        known: Mapping[str, Answer],
        inputs: Mapping[str, Any],
        path: Mapping[str, float],
    ) -> Certificate:
        """The same; `known` answers conditions by what a caller of this library made."""
        G = gradient_bound if self.gradient_bound is None else self.gradient_bound
        if self.gradient_bound is not None and gradient_bound is not None:
            raise ValueError(f"gradient_bound must be left out: the learner has {G:g}")
        told = list(self._answers())
        if G is None:
            told.append(
                th.GRADIENTS_BOUNDED.unchecked("G is the largest of this run; give gradient_bound")
            )
        else:
            told.append(self._bounded(as_real(G, "gradient_bound", low=0)))
        own = int(self._s[kernels.HINTED])
        told += [
            th.LAST_GRADIENT.check(own == 0, f"{own} of {self.rounds} hints were given"),
            th.CONVEX_ON_AVERAGE.unchecked("gradients alone cannot show it"),
            th.SMOOTH.unchecked("gradients alone cannot show it"),
            th.KNOWN_VARIANCE.unchecked("nothing of this run shows what was not drawn"),
            th.INDEPENDENT.unchecked("nothing of this run shows how others were drawn"),
            th.OF_THE_RUNS.unchecked("the runs are not at hand"),
            *self._more(),
        ]
        answers = th.with_checked([known.get(a.name, a) for a in told], checked)
        total: dict[str, Any] = {
            "σ²": float(np.sum(sigma2)),
            "Σ²": float(np.sum(Sigma2)),
            "D": float(self._p[kernels.DIAMETER]),
        }
        bound = self.sea_bound(sigma2, Sigma2, gradient_bound=G, **path)
        measured = None if regrets is None else self._mean(regrets, G, delta)
        if measured is not None:
            total["runs"] = measured.n
        return th.on_average(
            self.curvature, bound, measured, self.trivial, answers, {**total, **inputs}
        )

    def _more(self) -> tuple[Answer, ...]:
        """Answers to what not every rule rests on."""
        return ()

    def _mean(self, regrets: Any, G: float | None, delta: float) -> Estimate:
        values = as_vector(regrets, "regrets", dtype=np.float64)
        delta = as_real(delta, "delta", low=0, high=1, open_ends=True)
        if G is None:
            raise ValueError(
                "gradient_bound must be given with regrets: the interval of their mean is for regrets "
                "that gradients of some size allow"
            )
        most = max(self._most(G), np.finfo(float).tiny)
        least = -float(self._p[kernels.DIAMETER]) * G * max(self.rounds, 1)
        if values.max() > most * (1 + 1e-9) or values.min() < least * (1 + 1e-9):
            raise ValueError(
                f"regrets must lie between {least:.6g} and {most:.6g}, which gradients of norm at most "
                f"{G:g} allow in {self.rounds} rounds, got {values.min():.6g} to {values.max():.6g}"
            )
        return th.mean_regret(np.clip(values, least, most), least, most, delta)

    def __copy__(self) -> Player:
        """Shares nothing with this one: half of a learner's sums would go on with the other."""
        return copy.deepcopy(self)

    def _point(self, comparator: Any) -> Float[np.ndarray, " d"]:
        """A comparator, which must lie in the domain."""
        u = as_gradient(comparator, self.dim, "comparator")
        if not np.isfinite(u).all():
            raise not_finite(u, "comparator")
        far = float(np.linalg.norm(self.domain.project(u) - u))
        if far > STRAY * float(self._p[kernels.DIAMETER]):
            raise ValueError(f"comparator must lie in the domain, got a point {far:.3g} away")
        return u

    def _regret(
        self, regret: float | Estimate | None, linearised: Callable[[], float], comparator: Any
    ) -> Estimate:
        if regret is not None and comparator is not None:
            raise ValueError("comparator must be left out where regret is given, which has its own")
        if isinstance(regret, Estimate):
            return regret
        value = (
            linearised() if regret is None else as_real(regret, "regret", low=-1e300, high=1e300)
        )
        return th.linear_regret(value, self.rounds, self.trivial)

    def _described(self) -> str:
        """All settings as text: a state is of the learner that has the same."""
        fields = vars(self.domain) if type(self.domain) in DOMAINS else {}
        plain = {k: np.asarray(v).tolist() for k, v in fields.items() if not k.startswith("_")}
        of = {"learner": type(self).__name__, "domain": type(self.domain).__name__, **plain}
        return json.dumps({**of, **self._settings()}, sort_keys=True)


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
        as_choice(curvature, "curvature", bounds.CURVATURES)
        for name, value, rule in (
            ("strong_convexity", strong_convexity, "strongly_convex"),
            ("exp_concavity", exp_concavity, "exp_concave"),
            ("delta", delta, "convex"),
        ):
            if value is not None and curvature != rule:
                raise ValueError(f"{name} must be left out unless curvature={rule!r}, got {value}")
        start = None if x0 is None else as_vector(x0, "x0", dtype=np.float64)
        self.domain = domain
        self.curvature: bounds.Curvature = curvature
        self.dim = dimension(domain, dim, start)
        self.smoothness = None if smoothness is None else as_real(smoothness, "smoothness", low=0)
        if self.smoothness:
            as_size(self.smoothness, "smoothness")
        self.gradient_bound = (
            None if gradient_bound is None else as_size(gradient_bound, "gradient_bound")
        )
        self.strong_convexity = (
            None if strong_convexity is None else as_size(strong_convexity, "strong_convexity")
        )
        self.exp_concavity = (
            None if exp_concavity is None else as_size(exp_concavity, "exp_concavity")
        )
        self.epsilon = as_real(epsilon, "epsilon", low=0, open_ends=True)
        D = float(domain.diameter)
        p = np.zeros(5)
        p[kernels.DIAMETER] = D
        self.beta: float | None = None
        self.delta: float | None = None
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
        if not np.isfinite(p).all():
            raise ValueError(
                "smoothness, gradient_bound and the domain must have finite squares: change units"
            )
        self._p, self._rule = p, RULE[curvature]
        self._describe()
        self._s = np.zeros(kernels.SCALARS)
        self._W = np.zeros((kernels.VECTORS, self.dim))
        first = first_point(domain, self.dim, start)
        self._W[[kernels.X, kernels.XHAT, kernels.ANCHOR]] = first
        self._M = np.zeros((4, self.dim, self.dim) if self.beta else (4, 0, 0))
        if self.beta:
            base = self.epsilon + self.beta * p_square(self.gradient_bound) / 2
            self._M[0], self._M[1] = base * np.eye(self.dim), np.eye(self.dim) / base
        self._built = True

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
            if not kernels.length(guess) < MOST:
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
        self._s[kernels.HINTED] += hint is not None and not np.array_equal(guess, g)
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
            self._look()
            return True
        eta, following = kernels.measure(self._rule, self._p, self._s, W, g)
        if eta < 0:
            return False
        W[kernels.XHAT] = self.domain.project(W[kernels.XHAT] - eta * g)
        W[kernels.HINT] = hint if following > 0 else 0.0
        W[kernels.X] = self.domain.project(W[kernels.XHAT] - following * hint)
        self._look()
        return True

    def _look(self) -> None:
        if type(self.domain) in DOMAINS:
            far = self.domain.outside(self._W[kernels.X])
            self._s[kernels.OUTSIDE] = max(self._s[kernels.OUTSIDE], far)

    def bounds(self) -> dict[str, float]:
        """The bound on this run's regret in its measured form, and the looser closed forms that follow from it.

        Those are for the last gradient as hint: with hints of one's own there are none.
        """
        s, D = self._s, float(self._p[kernels.DIAMETER])
        variation, stability = self.gradient_variation, float(s[kernels.STAB])
        match self.curvature:
            case "convex":
                lead = D**2 / (2 * s[kernels.ETA]) if s[kernels.ETA] > 0 else 0.0
                forms = {
                    "measured form": float(lead + stability),
                    "a-priori form": self._convex_form(self._p[kernels.OFFSET] + variation),
                }
            case "strongly_convex":
                lam = p_value(self.strong_convexity)
                forms = {"measured form": lam * D**2 / 4 + 2 / lam * stability}
            case _:
                beta, d = p_value(self.beta), self.dim
                scale = beta / (8 * self.epsilon)
                logdet = float(np.linalg.slogdet(np.eye(d) + scale * self._M[2])[1])
                forms = {
                    "measured form": self._lead() + stability,
                    "log-determinant form": self._lead() + 16 / beta * logdet,
                    "a-priori form": self._concave_form(variation),
                }
        return forms if not s[kernels.HINTED] else {"measured form": forms["measured form"]}

    def _convex_form(self, seen: float) -> float:
        k = bounds.SCALE_FREE if self.gradient_bound is None else 2.5
        return k * float(self._p[kernels.DIAMETER]) * math.sqrt(seen)

    def _lead(self) -> float:
        D = float(self._p[kernels.DIAMETER])
        return (self.epsilon + p_value(self.beta) * p_square(self.gradient_bound) / 2) * D**2 / 2

    def _concave_form(self, variation: float) -> float:
        beta, d = p_value(self.beta), self.dim
        return self._lead() + 16 * d / beta * math.log1p(beta / (8 * self.epsilon) * variation / d)

    def _most(self, G: float) -> float:
        T, D = self.rounds, float(self._p[kernels.DIAMETER])
        most = G * G + 4 * G * G * max(T - 1, 0)
        match self.curvature:
            case "convex":
                found = self._convex_form(self._p[kernels.OFFSET] + most)
            case "strongly_convex":
                lam, t = p_value(self.strong_convexity), np.arange(1, T + 1)
                found = lam * D**2 / 4 + 2 / lam * float((1 / t + 1 / t**2).sum()) * 4 * G * G
            case _:
                found = self._concave_form(most)
        return min(found, D * G * T)

    def hardest(self) -> Float[np.ndarray, " d"]:
        """The point u of the domain for which :meth:`linearised_regret` is largest."""
        gsum = self._W[kernels.GSUM]
        if self.curvature == "convex":
            return self.domain.linear_min(gsum)
        if self.curvature == "strongly_convex":
            lam = p_value(self.strong_convexity)
            moved = (lam * self._W[kernels.XSUM] - gsum) / (lam * max(self.rounds, 1))
            return self.domain.project(self._W[kernels.ANCHOR] + moved)
        beta = p_value(self.beta)
        Q = beta * self._outer()
        slope = beta * self._M[3, 0] - gsum
        return self.domain.quadratic_min(Q, slope + Q @ self._W[kernels.ANCHOR])

    def _outer(self) -> np.ndarray:
        """Σ g gᵀ."""
        beta = p_value(self.beta)
        base = self.epsilon + beta * p_square(self.gradient_bound) / 2
        return (self._M[0] - base * np.eye(self.dim)) * 2 / beta

    def linearised_regret(self, comparator: Any = None) -> float:
        """Σ⟨g_t, x_t − u⟩, less (λ/2)Σ‖x_t − u‖² or (β/2)Σ⟨g_t, x_t − u⟩² for the curved rules: at least the regret.

        Parameters
        ----------
        comparator : array_like, shape (d,), optional
            u; by default the point of the domain for which it is largest.
        """
        s, W = self._s, self._W
        u = (self.hardest() if comparator is None else self._point(comparator)) - W[kernels.ANCHOR]
        linear = float(s[kernels.GX]) - float(W[kernels.GSUM] @ u)
        if self.curvature == "convex":
            return linear
        if self.curvature == "strongly_convex":
            apart = (
                float(s[kernels.XX]) - 2 * float(W[kernels.XSUM] @ u) + self.rounds * float(u @ u)
            )
            return linear - p_value(self.strong_convexity) / 2 * max(apart, 0.0)
        apart = float(s[kernels.GX2]) - 2 * float(self._M[3, 0] @ u) + float(u @ self._outer() @ u)
        return linear - p_value(self.beta) / 2 * max(apart, 0.0)

    def certificate(
        self,
        *,
        comparator: Any = None,
        regret: float | Estimate | None = None,
        checked: Sequence[Answer] = (),
    ) -> Certificate:
        """The bound on this run's regret, and the regret.

        Parameters
        ----------
        comparator : array_like, shape (d,), optional
            Point to compare with, where no regret is given; the hardest in hindsight by default.
        regret : float or Estimate, optional
            The regret in the losses themselves, where they are known; by default its linear upper bound
            is measured, which for the curved rules is one for losses as curved as was said.
        checked : sequence of Answer, optional
            What :func:`check_strong_convexity` or :func:`check_exp_concavity` returned.
        """
        return self._of_the_run(comparator, regret, checked, {})

    def _of_the_run(
        self,
        comparator: Any,
        regret: float | Estimate | None,
        checked: Sequence[Answer],
        known: Mapping[str, Answer],
    ) -> Certificate:
        forms = self.bounds()
        rule: str = self.curvature
        if rule == "convex":
            rule = "scale_free" if self.gradient_bound is None else "paper"
        told = [*self._answers(), self._shape()]
        if self.gradient_bound is not None and rule != "strongly_convex":  # which has no G in it
            told.append(self._bounded(self.gradient_bound))
        inputs = {
            "T": self.rounds,
            "D": float(self._p[kernels.DIAMETER]),
            "gradient variation": self.gradient_variation,
            "regret": "linearised" if regret is None else "in the losses",
            **{k: v for k, v in forms.items() if k != "measured form"},
        }
        given = {
            "L": self.smoothness,
            "G": self.gradient_bound,
            "λ": self.strong_convexity,
            "β": self.beta,
            "δ": self.delta,
            "hints of your own": int(self._s[kernels.HINTED]) or None,
        }
        return th.of_the_run(
            rule,
            forms["measured form"],
            self._regret(regret, lambda: self.linearised_regret(comparator), comparator),
            self.trivial,
            th.with_checked([known.get(a.name, a) for a in told], checked),
            inputs | {k: v for k, v in given.items() if v is not None},
        )

    def _shape(self) -> Answer:
        match self.curvature:
            case "convex":
                return th.CONVEX.unchecked("gradients alone cannot show it")
            case "strongly_convex":
                said = f"{self.strong_convexity:g}-strongly convex"
            case _:
                said = f"{self.exp_concavity:g}-exp-concave"
        return th.CURVED.unchecked(f"gradients alone cannot show it; said is {said}")

    def _more(self) -> tuple[Answer, ...]:
        return () if self.curvature == "convex" else (self._shape(),)

    def _settings(self) -> dict[str, Any]:
        names = ("curvature", "smoothness", "gradient_bound", "strong_convexity", "exp_concavity")
        return {k: getattr(self, k) for k in (*names, "delta", "epsilon")}

    def sea_bound(self, sigma2: Any, Sigma2: Any, gradient_bound: float | None = None) -> float:
        """:func:`sea_bound` with the constants of this learner, G the largest gradient seen where none was given."""
        given = gradient_bound if self.gradient_bound is None else self.gradient_bound
        G = float(self._s[kernels.GMAX]) if given is None else given
        if self.smoothness is None:
            raise ValueError("smoothness must be given for a bound in expectation, got None")
        return bounds.sea_bound(
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
        """Append coordinates, as if their gradients had been zero so far: on an L1Ball, or a Ball around zero.

        Elsewhere a learner that had known them would have left zero, or never been there.
        """
        extra = as_int(dim, "dim", low=self.dim) - self.dim
        if extra == 0:
            return
        if self.domain.dim is not None:
            raise ValueError(f"dim must stay {self.dim}, the dimension of the domain, got {dim}")
        around = type(self.domain) is Ball and self.domain.center == 0
        if not around and type(self.domain) is not L1Ball:
            raise ValueError(
                f"domain must be an L1Ball, or a Ball around zero, to grow, got {self.domain}"
            )
        self._W = np.pad(self._W, ((0, 0), (0, extra)))
        if self.beta:
            base = self.epsilon + self.beta * p_square(self.gradient_bound) / 2
            self._M = np.pad(self._M, ((0, 0), (0, extra), (0, extra)))
            new = range(self.dim, dim)
            self._M[0, new, new], self._M[1, new, new] = base, 1 / base
        self.dim = dim
        self._describe()

    def state_dict(self) -> dict[str, np.ndarray]:
        """All that has been learnt, and the settings, as plain arrays that ``np.savez`` takes."""
        return save(self, STATE)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken, in a learner of the same settings.

        Raises
        ------
        ValueError
            If settings differ, an array is missing, of another shape or not finite, or a point lies
            outside the domain; the learner is then as it was.
        """
        load(self, state, STATE)


STATE = {"scalars": "_s", "vectors": "_W", "metric": "_M"}


def save(learner: Player, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Arrays of a learner by name, and its settings as text."""
    arrays = {k: getattr(learner, v).copy() for k, v in names.items()}
    return {"settings": np.array(learner._described()), **arrays}


def load(learner: Player, state: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Copy arrays of a state into a learner of the same settings, all or none."""
    wanted = ("settings", *names)
    if set(state) != set(wanted):
        raise ValueError(
            f"state must hold {', '.join(wanted)}, got {', '.join(map(str, state)) or 'nothing'}"
        )
    mine, theirs = json.loads(learner._described()), _as_settings(state["settings"])
    if odd := sorted(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k)):
        raise ValueError(
            "state must be of a learner with the same settings, got "
            + ", ".join(f"{k} {theirs.get(k)!r} for {mine.get(k)!r}" for k in odd[:4])
        )
    arrays = {name: np.array(state[name], dtype=np.float64) for name in names}
    for name, array in arrays.items():
        shape = getattr(learner, names[name]).shape
        if array.shape != shape or not np.isfinite(array).all():
            raise ValueError(
                f"state[{name!r}] must be finite and of shape {shape}, got shape {array.shape}"
            )
    if type(learner.domain) in DOMAINS:
        stray = learner.domain.outside(arrays["vectors"][kernels.X])
        if stray > STRAY * learner.domain.diameter:
            raise ValueError(
                f"state['vectors'] must hold a point of the domain, got one {stray:.3g} away"
            )
    for name, array in arrays.items():
        setattr(learner, names[name], array)
    learner._streamed = -1


def _as_settings(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(str(text))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError("state['settings'] must be the text of settings that state_dict() wrote")
    return found


def p_value(value: float | None) -> float:
    """A setting that the constructor made sure of."""
    assert value is not None
    return value


def p_square(value: float | None) -> float:
    """Its square."""
    return p_value(value) ** 2
