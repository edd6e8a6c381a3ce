"""How likely a group outlives its failures, how often to save, and what that costs."""

from __future__ import annotations

import math

from whp.validate import as_fraction, as_int, as_real

__all__ = [
    "every_steps",
    "largest_loss",
    "least_survival",
    "loss_probability",
    "optimal_interval",
    "overhead",
    "survival_probability",
]


def loss_probability(rate: float, window: float, *, shape: float = 1.0) -> float:
    """Probability that a node fails within the exposure window: 1 − exp(−(λW)^κ).

    Parameters
    ----------
    rate : float
        Failures a second of one node; for Weibull clocks the inverse of their scale η.
    window : float
        Seconds from a loss until it is rebuilt.
    shape : float
        Weibull's κ; 1 is a Poisson clock.
    """
    rate = as_real(rate, "rate", low=0, high=1e9)
    window = as_real(window, "window", low=0, high=1e12)
    shape = as_real(shape, "shape", low=1e-3, high=100)
    return -math.expm1(-((rate * window) ** shape))


def survival_probability(
    n: int, m: int, p: float, *, groups: int = 1, rho: float = 0.0, scheme: str = "code"
) -> float:
    """Probability that all groups can be recovered: S(n, m, p)^groups with S = Σ_{j ≤ m} C(n, j) p^j (1 − p)^(n−j).

    Parameters
    ----------
    n, m : int
        Members of a group, and losses that it survives.
    p : float
        Probability that a member is lost within the exposure window.
    groups : int
        Independent groups.
    rho : float
        Correlation of losses within a group; the number lost is then beta-binomial.
    scheme : {"code", "disk", "pairs"}
        This code; no rollback with a disk alone, (1 − p)^(n·groups); or copies in pairs, (1 − p²)^(n·groups/2).
    """
    n, m = as_int(n, "n", low=1), as_int(m, "m", low=0)
    if m >= n:
        raise ValueError(f"m must be less than n, got m={m} and n={n}")
    p, groups = as_real(p, "p", low=0, high=1), as_int(groups, "groups", low=1)
    rho = as_real(rho, "rho", low=0, high=1)
    if scheme == "disk":
        return (1 - p) ** (n * groups)
    if scheme == "pairs":
        return (1 - p * p) ** (n * groups / 2)
    if scheme != "code":
        raise ValueError(f"scheme must be 'code', 'disk' or 'pairs', got {scheme!r}")
    if rho == 1:
        one = 1 - p  # all or none are lost
    else:
        one = sum(_chance(n, j, p, rho / (1 - rho)) for j in range(m + 1))
    return min(1.0, one) ** groups


def least_survival(n: int, m: int, p: float, *, groups: int = 1, rho: float = 0.0) -> float:
    """Smallest :func:`survival_probability` at any correlation up to `rho`.

    Survival does not fall all the way as the correlation grows: at 1 all members go together, but seldom.
    """

    def one(r: float) -> float:
        return survival_probability(n, m, p, rho=r)

    if not rho:
        return survival_probability(n, m, p, groups=groups)
    from scipy.optimize import minimize_scalar

    share = [0.0, *(2.0**-i for i in range(12, 3, -1)), *(i / 16 for i in range(2, 17))]
    values = [one(rho * r) for r in share]
    at = values.index(min(values))
    low, high = share[max(0, at - 1)], share[min(len(share) - 1, at + 1)]
    found = minimize_scalar(lambda r: one(rho * r), bounds=(low, high), method="bounded")
    return min(values[at], float(found.fun)) ** groups


def largest_loss(hit: float, n: int, rho: float) -> float:
    """Largest probability that a member is lost, if a group loses somebody with probability `hit` or less.

    At the correlation `rho` or a smaller one: the more correlated losses are, the fewer windows they fall into.
    """
    if hit <= 0 or hit >= 1:
        return float(hit > 0)
    from scipy.optimize import brentq

    return float(brentq(lambda p: 1 - survival_probability(n, 0, p, rho=rho) - hit, 0.0, 1.0))


def _chance(n: int, j: int, p: float, theta: float) -> float:
    """Beta-binomial probability of j losses as a product of ratios, which is exact down to the binomial at θ = ρ/(1 − ρ) = 0."""
    lost = math.prod((p + i * theta) / (1 + i * theta) for i in range(j))
    kept = math.prod((1 - p + i * theta) / (1 + (j + i) * theta) for i in range(n - j))
    return math.comb(n, j) * lost * kept


def optimal_interval(stall: float, rate: float) -> float:
    """Young's interval √(2δ/λ) between snapshots, in seconds.

    Parameters
    ----------
    stall : float
        Seconds δ for which a snapshot blocks the trainer.
    rate : float
        Failures λ a second of the whole job.
    """
    stall = as_real(stall, "stall", low=0, high=1e9)
    rate = as_real(rate, "rate", low=0, high=1e9, open_ends=True)
    return math.sqrt(2 * stall / rate)


def every_steps(stall: float, lag: float, step: float, rate: float) -> int:
    """Iterations between snapshots: Young's interval, but never before the previous version is committed.

    Parameters
    ----------
    stall, lag, step : float
        Seconds that a snapshot blocks, that it takes until it is committed, and that an iteration takes.
    rate : float
        Failures a second of the whole job.
    """
    step = as_real(step, "step", low=0, high=1e9, open_ends=True)
    lag = as_real(lag, "lag", low=0, high=1e9)
    return max(1, math.ceil(lag / step), round(optimal_interval(stall, rate) / step))


def overhead(
    interval: float, stall: float, rate: float, lag: float = 0.0, restart: float = 0.0
) -> float:
    """Share of time lost to saving and to failures: φ(T) = δ/T + λ(T/2 + lag + R).

    Parameters
    ----------
    interval : float
        Seconds T between snapshots.
    stall, lag, restart : float
        Seconds that a snapshot blocks, until it is committed, and until training goes on after a failure.
    rate : float
        Failures a second.
    """
    interval = as_real(interval, "interval", low=0, high=1e12, open_ends=True)
    stall, lag = as_real(stall, "stall", low=0, high=1e9), as_real(lag, "lag", low=0, high=1e9)
    restart, rate = (
        as_real(restart, "restart", low=0, high=1e9),
        as_real(rate, "rate", low=0, high=1e9),
    )
    return stall / interval + rate * (interval / 2 + lag + restart)


def draws_survived(n: int, m: int, p: float, draws: int, seed: int = 0) -> tuple[int, int]:
    """How many of `draws` groups with a Poisson clock a node lost at most m within the window, and their number."""
    import numpy as np

    rate = -math.log1p(-as_fraction(p, "p"))
    generator = np.random.default_rng(seed)
    lost = sum((generator.exponential(1 / rate, draws) < 1.0).astype(np.int64) for _ in range(n))
    return int((np.asarray(lost) <= m).sum()), draws
