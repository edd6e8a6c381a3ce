"""Privacy budgets: ρ-zCDP, (ε, δ) and pure ε, and the exact conversions between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from scipy.optimize import brentq
from scipy.stats import norm

from whp.validate import as_real

__all__ = ["Budget", "epsilon_of_rho", "gaussian_epsilon", "rho_of_epsilon", "simple_epsilon"]

LEAST = 1e-140  # below it squares are no numbers


@dataclass(frozen=True)
class Budget:
    """What may be spent on the whole stream: `rho` of zCDP, or pure `epsilon`; the other is None.

    `delta` is what (ε, δ) is stated for.
    """

    rho: Fraction | None
    epsilon: Fraction | None
    delta: float

    @classmethod
    def of(cls, rho: float | None, epsilon: float | None, delta: float | None) -> Budget:
        """From what a user gives: `rho`; or `epsilon`, pure unless `delta` is positive.

        Raises
        ------
        ValueError
            If both or neither are given, or a number is out of range.
        """
        if (rho is None) == (epsilon is None):
            raise ValueError("give either rho or epsilon (with delta), not both and not neither")
        if delta is not None and not 0 <= as_real(delta, "delta") < 1:
            raise ValueError(f"delta must be in [0, 1), got {delta:g}")
        if rho is not None and delta == 0:
            raise ValueError("delta must be above 0 with rho: zCDP gives no ε at δ = 0")
        if rho is not None:
            spend = as_real(rho, "rho", low=LEAST, high=1e6, open_ends=True)
            return cls(Fraction(spend), None, float(delta or 1e-6))
        spend = as_real(epsilon, "epsilon", low=LEAST, high=1e6, open_ends=True)
        if not delta:
            return cls(None, Fraction(spend), 0.0)
        return cls(Fraction(rho_of_epsilon(spend, delta)), None, float(delta))

    @property
    def pure(self) -> bool:
        """Whether it is pure ε."""
        return self.rho is None

    @property
    def size(self) -> float:
        """ρ, or ε where it is pure."""
        return float(self.epsilon if self.rho is None else self.rho)  # type: ignore[arg-type]

    @property
    def mu(self) -> float:
        """μ of the Gaussian trade-off that ρ stands for, √(2ρ)."""
        return math.sqrt(2 * self.size) if not self.pure else math.inf

    def at(self, delta: float) -> float:
        """ε for that δ."""
        return self.size if self.pure else epsilon_of_rho(self.size, delta)

    def group(self, records: int) -> float:
        """ρ, or ε, of a person who owns so many records."""
        return self.size * (records if self.pure else records**2)

    def scaled(self, share: Fraction) -> Budget:
        """That share of it."""
        if self.rho is None:
            assert self.epsilon is not None
            return Budget(None, self.epsilon * share, self.delta)
        return Budget(self.rho * share, None, self.delta)

    def __str__(self) -> str:
        return f"ε = {self.size:.6g}" if self.pure else f"ρ = {self.size:.6g}"


def epsilon_of_rho(rho: float, delta: float) -> float:
    """The least ε for which ρ-zCDP implies (ε, δ), by the conversion of Canonne, Kamath and Steinke (2020, Corollary 13).

    Parameters
    ----------
    rho : float
        Non-negative.
    delta : float
        Between 0 and 1.
    """
    rho = as_real(rho, "rho", low=0, high=1e300)
    delta = as_real(delta, "delta", low=0, high=1, open_ends=True)
    if rho == 0:
        return 0.0
    rho = max(rho, 1e-300)  # quotients stay numbers, and ε climbs with ρ
    # With e = α − 1, exp((α−1)(αρ−ε))/(α−1) (1−1/α)^α = δ is ε = (1+e)ρ + ln e − (1+1/e) ln(1+e) + ln(1/δ)/e. Its slope is
    # (ρe² + ln(1+e) − ln(1/δ))/e², whose bracket climbs: there is one least ε, and no search can miss it.
    log = -math.log(delta)
    ends = min(log, math.sqrt(2 * log / rho)) / 2, math.sqrt(log / rho)
    at = brentq(
        lambda e: rho * e * e + math.log1p(e) - log, *ends, xtol=1e-300, rtol=1e-13, maxiter=5000
    )
    e = float(at) * (1 + 1e-12)  # type: ignore[arg-type]
    # With that equation ε = ρ(1+2e) + ln(e/(1+e)), where nothing cancels; it climbs with e, which is rounded up.
    return max(0.0, rho * (1 + 2 * e) - math.log1p(1 / e))


def rho_of_epsilon(epsilon: float, delta: float) -> float:
    """The largest ρ that implies (ε, δ); rounded down."""
    epsilon = as_real(epsilon, "epsilon", low=0, open_ends=True)
    delta = as_real(delta, "delta", low=0, high=1, open_ends=True)
    log = -math.log(delta)
    # ρ + 2√(ρ ln 1/δ) = ε gives less.
    low = (epsilon / (math.sqrt(log + epsilon) + math.sqrt(log))) ** 2 * (1 - 1e-9)
    high = 2 * low
    while epsilon_of_rho(high, delta) <= epsilon:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_of_rho(middle, delta) <= epsilon else (low, middle)
    return low


def simple_epsilon(rho: float, delta: float) -> float:
    """ρ + 2√(ρ ln 1/δ), the looser conversion that is often quoted."""
    return rho + 2 * math.sqrt(rho * math.log(1 / delta))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The exact ε of a Gaussian mechanism of that μ (Balle and Wang 2018), for comparison."""
    mu = as_real(mu, "mu", low=0, high=1e100)
    delta = as_real(delta, "delta", low=0, high=1, open_ends=True)
    if mu == 0:
        return 0.0

    def excess(epsilon: float) -> float:
        return float(
            norm.cdf(mu / 2 - epsilon / mu)
            - math.exp(epsilon + norm.logcdf(-mu / 2 - epsilon / mu))
            - delta
        )

    return 0.0 if excess(0.0) <= 0 else float(brentq(excess, 0.0, mu * mu + 60 * mu, xtol=1e-12))  # type: ignore[arg-type]
