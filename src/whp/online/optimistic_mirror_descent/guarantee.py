"""The theorems: bounds on regret in expectation and on the path that was run, and their certificates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate
from whp.undeclared import Assumption, met, unchecked, undeclared, violated
from whp.validate import as_choice, as_int, as_real

__all__ = ["CURVATURES", "check_exp_concavity", "check_smoothness", "pathwise", "sea", "sea_bound"]

Curvature = Literal["convex", "strongly_convex", "exp_concave", "dynamic"]
CURVATURES = ("convex", "strongly_convex", "exp_concave")
PAPER = "Chen, Tu, Zhao & Zhang 2023"
SCALE_FREE = 0.5 + 2 * math.sqrt(2)


def sea_bound(
    curvature: Curvature,
    *,
    D: float,
    L: float,
    G: float,
    sigma2: Any,
    Sigma2: Any,
    dim: int | None = None,
    lam: float | None = None,
    beta: float | None = None,
    epsilon: float = 1.0,
    delta: float | None = None,
    path_length: float = 0.0,
    horizon: int | None = None,
    scale_free: bool = False,
) -> float:
    """Bound on the expected regret in a stochastically extended adversarial environment.

    Parameters
    ----------
    curvature : {"convex", "strongly_convex", "exp_concave", "dynamic"}
        Which rule.
    D, L, G : float
        Diameter of the domain, smoothness of the expected losses, bound on the gradients.
    sigma2, Sigma2 : float or array_like, shape (T,)
        Stochastic variance σ²₁:T and adversarial variation Σ²₁:T: their sums; for ``"strongly_convex"`` the values of each
        round, or one value that every round of the `horizon` has.
    dim : int, optional
        Dimension, for ``"exp_concave"``.
    lam, beta : float, optional
        Strong convexity; the β of the exp-concave rule.
    epsilon : float
        Regulariser of the exp-concave rule.
    delta : float, optional
        Offset of the convex rule; 10 D²L² by default, as in the paper.
    path_length : float
        Σ‖u_t − u_{t−1}‖ of the comparators, for ``"dynamic"``.
    horizon : int, optional
        Rounds, for ``"strongly_convex"`` with single values and for ``"dynamic"``, whose pool depends on them.
    scale_free : bool
        Whether the convex rule ran without a gradient bound; the bound is then ours, not the paper's.

    Returns
    -------
    float
        The bound; infinite where the offset is zero but L is not.

    References
    ----------
    Chen, Tu, Zhao, Zhang (ICML 2023), theorems for each curvature; constants derived here, with quantities of the path in
    the place of suprema over the domain.
    """
    as_choice(curvature, "curvature", (*CURVATURES, "dynamic"))
    D = as_real(D, "D", low=0, open_ends=True)
    L, G = as_real(L, "L", low=0), as_real(G, "G", low=0)
    noise, drift = (np.asarray(v, dtype=np.float64) for v in (sigma2, Sigma2))
    for name, value in (("sigma2", noise), ("Sigma2", drift)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    total = max(0.0, 8 * float(noise.sum()) + 4 * float(drift.sum()))
    if curvature == "convex":
        delta = 10 * D * D * L * L if delta is None else as_real(delta, "delta", low=0)
        k = SCALE_FREE if scale_free else 2.5
        A = delta + (1 if scale_free else 5) * G * G + total
        if L == 0:
            return k * D * math.sqrt(A)
        c = math.sqrt(delta + (0 if scale_free else 4 * G * G)) / (8 * D)
        if c == 0:
            return math.inf
        y = 2 * k * D * L * L / c
        return k * D * math.sqrt(A) if y * y <= A else k / 2 * D * y + c * A / (4 * L * L)
    if curvature == "strongly_convex":
        if lam is None:
            raise ValueError("lam must be given for curvature='strongly_convex', got None")
        lam = as_real(lam, "lam", low=0, open_ends=True)
        T = (
            as_int(horizon, "horizon", low=1)
            if horizon is not None
            else max(noise.size, drift.size)
        )
        sigma_t, Sigma_t = np.broadcast_to(noise, T), np.broadcast_to(drift, T)
        t = np.arange(2, T + 1, dtype=np.float64)
        w = 1 / t + 1 / t**2
        spread = 8 / lam * float((w * (sigma_t[1:] + sigma_t[:-1] + Sigma_t[1:])).sum())
        # Only the first rounds, where w_t is large, cost anything: the sum over t ends by itself.
        left = D * D * float(np.maximum(0, 8 * L * L / lam * w - lam * (t - 1) / 16).sum())
        return lam * D * D / 4 + 4 * G * G / lam + spread + left
    if curvature == "exp_concave":
        if dim is None or beta is None:
            raise ValueError("dim and beta must be given for curvature='exp_concave'")
        d, beta = as_int(dim, "dim", low=1), as_real(beta, "beta", low=0, open_ends=True)
        lead = (epsilon + beta * G * G / 2) * D * D / 2
        main = 16 * d / beta * math.log1p(beta / (8 * d * epsilon) * (G * G + total))
        kappa = 32 * L * L / epsilon**2
        if kappa <= 1:
            return lead + main
        return (
            lead
            + main
            + max(
                0.0,
                16 * d / beta * math.log(kappa) - (kappa - 1) * d * epsilon**2 / (2 * beta * L * L),
            )
        )
    if L == 0:
        raise ValueError("L must be positive for curvature='dynamic', got 0")
    etas = pool(D, L, G, as_int(horizon, "horizon", low=1))
    W = G * G + total
    logs = math.log(len(etas)) + 1
    best = float((etas * W + (D * D + 2 * D * path_length) / (2 * etas)).min())
    return 96 * L * D * D * logs + 4 * D * math.sqrt(logs * (4 * G * G + W)) + best


def pool(D: float, L: float, G: float, horizon: int, cap: float | None = None) -> np.ndarray:
    """Step sizes of the base learners: halved from the cap, 1/(16L) where that is not given, to D/√(2G² + 8G²(T − 1))."""
    top = 1 / (16 * L) if cap is None else cap
    least = D / math.sqrt(2 * G * G + 8 * G * G * (horizon - 1))
    count = 1 + max(0, math.ceil(math.log2(top / least)))
    return top * 0.5 ** np.arange(count)


def in_domain(evidence: str) -> Assumption:
    """A1, by construction."""
    return met("every point played lies in the domain, whose diameter is D", evidence)


def gradients_bounded(largest: float, G: float) -> Assumption:
    """A2, every gradient checked."""
    statement = "every gradient has norm at most G"
    if largest > G * (1 + 1e-12):
        return violated(
            statement,
            f"one has norm {largest:.6g} > G = {G:.6g}",
            "raise gradient_bound, or leave it out (scale-free).",
        )
    return met(statement, f"the largest has norm {largest:.6g}, G = {G:.6g}")


def check_smoothness(
    gradient: Callable[[np.ndarray], np.ndarray],
    domain: Any,
    L: float,
    *,
    dim: int,
    pairs: int = 32,
    rng: np.random.Generator | int | None = 0,
) -> Assumption:
    """A3: whether ‖∇F(x) − ∇F(y)‖ ≤ L‖x − y‖ at random pairs; a secant can refute smoothness, never prove it.

    Parameters
    ----------
    gradient : callable
        Point to the gradient of an expected loss.
    domain : Domain
        Where points are taken.
    L : float
        The claimed constant.
    dim : int
        Of the points.
    pairs : int
        How many.
    rng : numpy.random.Generator, int or None
        Source of the pairs.
    """
    statement = "the expected losses are L-smooth"
    worst = 0.0
    for a, b in _pairs(domain, dim, pairs, rng):
        far = float(np.linalg.norm(a - b))
        if far > 0:
            worst = max(worst, float(np.linalg.norm(gradient(a) - gradient(b))) / far)
    if worst > L * (1 + 1e-9):
        return violated(
            statement, f"a secant has slope {worst:.4g} > L = {L:.4g}", "raise smoothness."
        )
    return unchecked(
        statement, f"the steepest of {pairs} random secants has slope {worst:.4g}, L = {L:.4g}"
    )


def check_exp_concavity(
    losses: Sequence[tuple[Callable[[np.ndarray], float], Callable[[np.ndarray], np.ndarray]]],
    domain: Any,
    beta: float,
    *,
    dim: int,
    pairs: int = 32,
    rng: np.random.Generator | int | None = 0,
) -> Assumption:
    """A6: f(y) ≥ f(x) + ⟨g, y − x⟩ + (β/2)⟨g, y − x⟩² at random pairs, for each (loss, gradient) given."""
    statement = "each loss is exp-concave"
    worst = 0.0
    for f, g in losses:
        for a, b in _pairs(domain, dim, pairs, rng):
            inner = float(g(a) @ (b - a))
            worst = max(worst, f(a) + inner + beta / 2 * inner**2 - f(b) - 1e-9 * (1 + abs(f(b))))
    if worst > 0:
        return violated(
            statement, f"a random pair breaks the inequality by {worst:.4g}", "lower exp_concavity."
        )
    return unchecked(statement, f"{pairs} random pairs of each of {len(losses)} losses agree")


def _pairs(domain: Any, dim: int, pairs: int, rng: Any) -> Any:
    draws = (
        np.random.default_rng(rng).standard_normal((pairs, 2, dim))
        * domain.diameter
        / math.sqrt(dim)
    )
    return [(domain.project(a), domain.project(b)) for a, b in draws]


FORMULA = {
    "paper": "D²/(2η_T) + Σ η_t v_t",
    "scale_free": "D²/(2η_T) + Σ min(η_t v_t, D√v_t)",
    "strongly_convex": "λD²/4 + (2/λ) Σ (1/t + 1/t²) v_t",
    "exp_concave": "(ε + βG²/2)D²/2 + 2 Σ ‖g_t − g_{t−1}‖² in the metric H_t⁻¹",
    "dynamic": "(ln N)/ε_T + D² Σ ε_t v_t + L(S_i − Σ p c) + η_i V̄ + (D² + 2DP)/(2η_i) − S_i/(8η_i), the least over i",
}
WHENCE = {
    "paper": f"{PAPER}, the convex theorem on the path that was run",
    "scale_free": f"derived here: the convex rule of {PAPER} without a gradient bound",
    "strongly_convex": f"{PAPER}, the strongly convex theorem on the path that was run",
    "exp_concave": f"{PAPER}, the exp-concave theorem on the path that was run",
    "dynamic": f"derived here after {PAPER}, dynamic regret, with halved learning rates",
}


def pathwise(
    rule: str,
    bound: float,
    measured: Estimate | None,
    trivial: float,
    assumptions: Sequence[Assumption],
    inputs: Mapping[str, Any],
    what: str,
) -> Certificate:
    """Certificate 1: regret on this very run, without probability."""
    return undeclared(
        "pathwise-regret",
        f"regret ≤ {FORMULA[rule]} on this run, v_t the squared distance of gradient and hint; measured is {what}",
        WHENCE[rule],
        "<=",
        bound,
        1.0,
        measured,
        trivial=trivial,
        assumptions=tuple(assumptions),
        inputs=dict(inputs),
        needs="losses, or the regret itself: certificate(regret=...).",
        remedy="take a smaller radius or more rounds: the bound contains D²L, the trivial one grows with the rounds. If it "
        "fails, losses and gradients disagree, or the losses are less curved than was said.",
    )


def sea(
    bound: float,
    measured: Estimate | None,
    trivial: float,
    assumptions: Sequence[Assumption],
    inputs: Mapping[str, Any],
    *,
    source: str = PAPER,
) -> Certificate:
    """Certificate 2: expected regret from stochastic variance and adversarial variation."""
    return undeclared(
        "sea-regret",
        "expected regret ≤ a bound in √σ² and √Σ², the stochastic variance and the adversarial variation along the path",
        f"{source}, SEA theorem; constants derived here",
        "<=",
        bound,
        1.0,
        measured,
        trivial=trivial,
        assumptions=tuple(assumptions),
        inputs=dict(inputs),
        needs="the mean regret of at least 20 independent runs: one run shows one draw, not an expectation.",
        remedy="take a smaller radius or more rounds: the bound contains D²L.",
    )
