"""Bounds on regret in closed form: in expectation, and what no run can exceed."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from whp.validate import as_choice, as_int, as_real

__all__ = ["CURVATURES", "SCALE_FREE", "Curvature", "pool", "sea_bound"]

Curvature = Literal["convex", "strongly_convex", "exp_concave", "dynamic"]
CURVATURES = ("convex", "strongly_convex", "exp_concave")
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
    pool_cap: float | None = None,
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
    pool_cap : float, optional
        Largest step of the pool of ``"dynamic"``, by default 1/(16L), above which the bound is not proven.

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
    D = as_real(D, "D", low=0, high=math.inf, open_ends=True)
    epsilon = as_real(epsilon, "epsilon", low=0, high=math.inf, open_ends=True)
    L, G = as_real(L, "L", low=0), as_real(G, "G", low=0)
    noise, drift = (np.asarray(v, dtype=np.float64) for v in (sigma2, Sigma2))
    for name, value in (("sigma2", noise), ("Sigma2", drift)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    path_length = as_real(path_length, "path_length", low=0)
    total = 8 * max(0.0, float(noise.sum())) + 4 * max(0.0, float(drift.sum()))
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
        spread = max(0.0, float((w * (sigma_t[1:] + sigma_t[:-1])).sum()))
        spread = 8 / lam * (spread + max(0.0, float((w * Sigma_t[1:]).sum())))
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
        left = 16 * d / beta * math.log(kappa) - (kappa - 1) * d * epsilon**2 / (2 * beta * L * L)
        return lead + main + max(0.0, left)
    if L == 0:
        raise ValueError("L must be positive for curvature='dynamic', got 0")
    if pool_cap is not None:
        pool_cap = as_real(pool_cap, "pool_cap", low=0, high=math.inf, open_ends=True)
    etas = pool(D, L, G, as_int(horizon, "horizon", low=1), pool_cap)
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
