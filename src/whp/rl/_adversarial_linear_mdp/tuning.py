"""Rates of learning, bonus and regularisation: the theory's, those that work, and what each promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["Covariance", "Method", "Rates", "Settings", "regret_bound", "theory", "tuned"]

Method = Literal["log-barrier", "magnitude-reduced", "hedge"]
Covariance = Literal["exact", "plugin", "mgr"]


@dataclass(frozen=True)
class Rates:
    """Learning rate η, bonus β, regularisation γ of the covariance."""

    eta: float
    beta: float
    gamma: float

    def near(self, other: Rates) -> bool:
        """Whether all three agree within 1e-9."""
        pairs = ((self.eta, other.eta), (self.beta, other.beta), (self.gamma, other.gamma))
        return all(math.isclose(a, b, rel_tol=1e-9) for a, b in pairs)

    def __str__(self) -> str:
        return f"η = {self.eta:.6g}, β = {self.beta:.6g}, γ = {self.gamma:.6g}"


@dataclass(frozen=True)
class Settings:
    """What episodes were played with."""

    rates: Rates
    method: Method
    bonus: str | None
    covariance: Covariance
    n_sim: int | None


def theory(method: Method, H: int, A: int, d: int, K: int) -> Rates:
    """Rates for which :func:`regret_bound` is proven; for "hedge" those of Luo, Wei & Lee (2021) in K and d."""
    if method == "log-barrier":
        eta = math.sqrt(A * math.log(K) / (d * K * (2 * math.e * H**4 + 12 * H**2)))
        return Rates(eta, 2 * eta * H**2, 4 * math.e * H**4 * eta**2)
    if method == "magnitude-reduced":
        eta = math.sqrt(math.log(A) / (d * K * (4 * math.e * H**4 + 96 * H**2)))
        return Rates(eta, 16 * eta * H**2, 64 * math.e * H**4 * eta**2)
    eta = math.log(A) ** (2 / 3) * d ** (-1 / 3) * K ** (-2 / 3)
    return Rates(eta, math.sqrt(eta) * H, 2 * eta * H)


def tuned(method: Method, H: int, A: int, d: int, K: int) -> Rates:
    """Rates that do better up to some 100,000 episodes, and for which nothing is proven."""
    if method == "hedge":
        return theory(method, H, A, d, K)
    top = A * math.log(K) if method == "log-barrier" else math.log(A)
    eta = math.sqrt(top / (d * H * K))
    return Rates(eta, (0.5 if H == 1 else 0.003) * eta, max(eta**2, 1e-3))


def regret_bound(method: Method, H: int, A: int, d: int, K: int) -> float:
    """What the expected regret of K episodes is at most, in losses of [0, 1], at the theory's rates."""
    if method == "log-barrier":
        eta = theory(method, H, A, d, K).eta
        spread = H * A * math.log(K) / eta + eta * d * K * (2 * math.e * H**5 + 12 * H**3)
        return spread + H**2 * (1 + 2 * math.sqrt(d)) + 1 / eta
    # Both terms are the same at the theory's η, which is 0 where there is one action.
    return 2 * H * math.sqrt(d * K * math.log(A) * (4 * math.e * H**4 + 96 * H**2))
