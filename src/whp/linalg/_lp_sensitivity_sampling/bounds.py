"""How far a coreset can be off, with all constants, and how many rows that asks for."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln

from whp.door import Above, AtLeast, Between, Fraction, front_door

__all__ = [
    "chernoff_bound",
    "khintchine",
    "lp_rows_needed",
    "net_bound",
    "rademacher_bound",
    "rademacher_mean",
    "sharp_bound",
]

ETA = np.geomspace(1e-6, 0.9, 1500)[:, None]


def net_bound(alpha: float, d: int, p: float, delta: float) -> float:
    """Bernstein on a net, any p ≥ 1: with probability 1 − delta a bound on ``sup_x |R(x) − 1|``.

    For fixed x the terms are at most alpha = max s_i/q_i, and so is their variance; an η-net of the
    unit sphere of ``‖A·‖_p`` has (1 + 2/η)^d points; the triangle inequality carries the bound from
    the net to all x; η is chosen best.
    """
    if alpha == 0:
        return 0.0
    if alpha > 1e100:  # a row that matters and is never kept
        return math.inf
    eta = ETA[:, 0]
    scaled = alpha * (math.log(2 / delta) + d * np.log1p(2 / eta))
    e = scaled / 3 + np.sqrt((scaled / 3) ** 2 + 2 * scaled)
    upper = (1 + e) / (1 - eta) ** p - 1
    root = np.maximum(1 - e, 0) ** (1 / p) - eta * (1 + e) ** (1 / p) / (1 - eta)
    lower = 1 - np.where(e < 1, np.maximum(root, 0), 0) ** p
    return float(np.maximum(upper, lower).min())


def khintchine(r: float) -> float:
    """κ_r = √2 (Γ((r + 1)/2)/√π)^{1/r}: Khintchine's inequality for r ≥ 2 (Haagerup)."""
    return math.sqrt(2) * math.exp((float(gammaln((r + 1) / 2)) - math.log(math.pi) / 2) / r)


def rademacher_mean(alpha: float, d: float) -> float:
    """Λ = min_θ (e^θ − 1)/θ + alpha ln(d)/θ: a largest eigenvalue's mean (matrix Chernoff)."""
    theta = np.geomspace(1e-9, 50, 4000)
    return float((np.expm1(theta) / theta + alpha * math.log(d) / theta).min())


def rademacher_bound(
    alpha: float, d: int, p: float, delta: float, n: int, mass: float | None = None
) -> float:
    """Symmetrisation, contraction, duality and Bousquet's inequality; 1 ≤ p < 2.

    alpha = max v_i/q_i for one-sided Lewis weights v, `mass` = Σv (default d), n rows.
    """
    if not p < 2:
        return math.inf
    if alpha == 0:
        return 0.0
    mass = d if mass is None else mass
    constant = math.sqrt(2 * math.log(2 * n))
    if p > 1:
        constant = min(constant, khintchine(p / (p - 1)))
    mean = 2 * p * constant * math.sqrt(alpha * rademacher_mean(alpha, d)) * mass ** (1 - 1 / p)
    t = math.log(2 / delta)
    return mean + math.sqrt(2 * t * alpha * (1 + 2 * mean)) + alpha * t / 3


def chernoff_bound(alpha: float, d: int, delta: float) -> float:
    """Matrix Chernoff; p = 2, alpha = max τ_i/q_i."""
    if alpha == 0:
        return 0.0
    t = alpha * math.log(2 * d / delta)
    upper = float(
        brentq(lambda e: (1 + e) * math.log1p(e) - e - t, 0, 10 + 2 * t + 2 * math.sqrt(t))
    )
    if t >= 1:
        return max(upper, 1.0)
    lower = float(brentq(lambda e: (1 - e) * math.log1p(-e) + e - t if e < 1 else 1 - t, 0, 1))
    return max(upper, lower)


def sharp_bound(alpha: float, n: int, p: float, total: float, constant: float = 1.0) -> float:
    """The paper's rates, √(C α ln n) for p ≤ 2 and √(C α 𝔖^{1−2/p} ln n) beyond.

    The constant C is calibrated, and polylogarithms are dropped.
    """
    return math.sqrt(
        constant * alpha * (total ** (1 - 2 / p) if p > 2 else 1.0) * math.log(max(n, 2))
    )


@front_door
def lp_rows_needed(
    d: Annotated[int, AtLeast(1)],
    p: Annotated[float, Between(1, 64)],
    epsilon: Annotated[float, Above(0)] = 0.5,
    delta: Annotated[float, Fraction()] = 0.05,
    *,
    n: Annotated[int, AtLeast(1)] = 1_000_000,
    total: Annotated[float, Above(0)] | None = None,
    bound: Literal["best", "net", "rademacher", "chernoff"] = "best",
) -> int:
    """The fewest rows m for which a bound reaches epsilon, for scores that fit perfectly.

    That is, alpha = total/m.

    Parameters
    ----------
    d : int
        Columns.
    p : float
        Power.
    epsilon, delta : float
        Distortion wanted, and the probability of missing it.
    n : int
        Rows of A; enters logarithmically, and only for p < 2.
    total : float, optional
        Total sensitivity for the net's bound; by default what it cannot exceed: d, or d^{p/2} for
        p > 2.
    bound : {"best", "net", "rademacher", "chernoff"}
        Which theorem.

    Returns
    -------
    int
    """
    mass = (d if p <= 2 else d ** (p / 2)) if total is None else total

    def value(m: int) -> float:
        found = {
            "net": net_bound(mass / m, d, p, delta),
            "rademacher": rademacher_bound(d / m, d, p, delta, n),
            "chernoff": chernoff_bound(d / m, d, delta) if p == 2 else math.inf,
        }
        return min(found.values()) if bound == "best" else found[bound]

    low, high = 0, 1
    while value(high) > epsilon:
        low, high = high, 2 * high
        if high > 1 << 60:
            raise ValueError(f"bound {bound!r} says nothing for p = {p:g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if value(middle) <= epsilon else (middle, high)
    return high
