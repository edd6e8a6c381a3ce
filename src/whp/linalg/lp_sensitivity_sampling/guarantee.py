"""The theorems with their constants, how many rows they ask for, and the certificates of one run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import gammaln

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.linalg.lp_sensitivity_sampling.distortion import Distortion
from whp.linalg.lp_sensitivity_sampling.gap import OptimalityGap
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = [
    "chernoff_bound",
    "khintchine",
    "net_bound",
    "rademacher_bound",
    "rademacher_mean",
    "rows_needed",
    "sharp_bound",
]

Origin = Literal["poisson", "fixed", "multinomial", "recursive", "stated", "hand"]
PAPER = "Woodruff & Yasuda 2023, rates of the abstract"
ETA = np.geomspace(1e-6, 0.9, 1500)[:, None]


def net_bound(alpha: float, d: int, p: float, delta: float) -> float:
    """N: Bernstein on a net. With probability 1 − delta, ``sup_x |R(x) − 1|`` is at most this; any p ≥ 1.

    For fixed x the terms are at most alpha = max s_i/q_i, and so is their variance; an η-net of the unit sphere of ``‖A·‖_p``
    has (1 + 2/η)^d points; the triangle inequality carries the bound from the net to all x; η is chosen best.
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
    """κ_r = √2 (Γ((r + 1)/2)/√π)^{1/r}, the best constant of Khintchine's inequality for r ≥ 2 (Haagerup)."""
    return math.sqrt(2) * math.exp((float(gammaln((r + 1) / 2)) - math.log(math.pi) / 2) / r)


def rademacher_mean(alpha: float, d: float) -> float:
    """Λ = min_θ (e^θ − 1)/θ + alpha ln(d)/θ, which bounds the mean of the largest eigenvalue (matrix Chernoff)."""
    theta = np.geomspace(1e-9, 50, 4000)
    return float((np.expm1(theta) / theta + alpha * math.log(d) / theta).min())


def rademacher_bound(
    alpha: float, d: int, p: float, delta: float, n: int, mass: float | None = None
) -> float:
    """R: symmetrisation, contraction, duality and Bousquet's inequality; 1 ≤ p < 2.

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
    """C: matrix Chernoff; p = 2, alpha = max τ_i/q_i."""
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
    """S: the paper's rates, √(C α ln n) for p ≤ 2 and √(C α 𝔖^{1−2/p} ln n) beyond; C calibrated, polylogarithms dropped."""
    return math.sqrt(
        constant * alpha * (total ** (1 - 2 / p) if p > 2 else 1.0) * math.log(max(n, 2))
    )


def rows_needed(
    d: int,
    p: float,
    epsilon: float = 0.5,
    delta: float = 0.05,
    *,
    n: int = 1_000_000,
    total: float | None = None,
    bound: Literal["best", "net", "rademacher", "chernoff"] = "best",
) -> int:
    """The fewest rows m for which a bound reaches epsilon, for scores that fit perfectly: alpha = total/m.

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
        Total sensitivity for the net's bound; by default what it cannot exceed: d, or d^{p/2} for p > 2.
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


@dataclass(frozen=True)
class Evidence:
    """What one draw knows; `alphas` hold one entry a round of the largest ratio of majorant to probability.

    `alpha_lewis` is max v_i/q_i, infinite where v was not used; `total` an upper bound on the total sensitivity.
    """

    n: int
    d: int
    rows: int
    p: float
    delta: float
    origin: Origin
    alphas: tuple[float, ...]
    alpha_lewis: float
    mass: float
    one_sided: float
    total: float
    kappa: float = 1.0
    sharp_constant: float = 1.0
    found: Distortion | None = None
    extra: tuple[Assumption, ...] = field(default=())

    @property
    def bounds(self) -> dict[str, float]:
        """The licensed explicit bounds on the distortion, by name."""
        share = self.delta / len(self.alphas)
        grown = math.prod(1 + net_bound(a, self.d, self.p, share) for a in self.alphas) - 1
        made = {"N (net and Bernstein)": grown}
        if len(self.alphas) == 1 and math.isfinite(self.alpha_lewis):
            if self.p < 2:
                made["R (symmetrisation)"] = rademacher_bound(
                    self.alpha_lewis, self.d, self.p, self.delta, self.n, self.mass
                )
            if self.p == 2:
                made["C (matrix Chernoff)"] = chernoff_bound(self.alphas[0], self.d, self.delta)
        return made

    @property
    def bound(self) -> tuple[str, float]:
        """The best bound and its name. One value is chosen by the data alone, before any coin, so delta is spent once."""
        name = min(self.bounds, key=lambda k: self.bounds[k])
        return name, self.kappa * self.bounds[name]


def _assumptions(e: Evidence) -> tuple[Assumption, ...]:
    statement = "rows were kept independently, with the stated probabilities"
    match e.origin:
        case "poisson":
            coins = met(statement, "one coin a row")
        case "recursive":
            coins = met(
                statement,
                f"one coin a row in each of {len(e.alphas)} rounds, whose errors compound",
            )
        case "stated":
            coins = unchecked(statement, "as whoever drew the rows says")
        case "hand":
            coins = violated(
                statement, "the rows were given, not drawn", "let the method draw them."
            )
        case _:
            coins = unchecked(
                statement,
                f"{e.origin} sampling keeps the probabilities, but the keeps are not independent",
            )
    sided = "the Lewis weights are one-sided: a_iᵀM⁻¹a_i ≤ v_i^{2/p}"
    evidence = f"the largest ratio is {e.one_sided:.9g}"
    if e.one_sided > 1 + 1e-9:
        lewis = violated(sided, evidence, "use the one_sided weights of lewis_weights.")
    else:
        lewis = met(sided, evidence)
    return (
        coins,
        met("A has full column rank", f"d = {e.d}"),
        met(
            "every row that can be missed is kept at a rate in proportion to an upper bound on its sensitivity",
            f"the largest ratio is α = {max(e.alphas):.4g}",
        ),
        lewis,
        _independent(e.origin),
        *e.extra,
    )


def _independent(origin: Origin) -> Assumption:
    statement = "the scores do not depend on the coins"
    match origin:
        case "hand":
            return violated(statement, "they were not known before the rows", "draw anew.")
        case "stated":
            return unchecked(statement, "as whoever drew the rows says")
        case _:
            return met(statement, "computed from A before each draw")


def subspace_embedding(e: Evidence) -> Certificate:
    """The best explicit bound on the distortion against what the search found."""
    name, bound = e.bound
    what = "‖Ax‖_p^p" if e.kappa == 1 else "the pinball cost (its linear part exact)"
    return undeclared(
        "subspace-embedding",
        f"the weighted rows preserve {what} of every x up to a factor of 1 ± ε; measured is the largest distortion that a "
        "search found, which can refute but not confirm",
        f"derived here: {name}",
        "<=",
        bound,
        1 - e.delta,
        None if e.found is None else exact(e.kappa * e.found.value),
        trivial=1.0,
        assumptions=_assumptions(e),
        inputs={
            "best bound": name,
            "α (sensitivity)": max(e.alphas),
            "α (Lewis)": e.alpha_lewis,
            "d": e.d,
            "rows": e.rows,
            "κ": e.kappa,
            **e.bounds,
        },
        needs="verify=True, which searches for the worst direction.",
        remedy="take more rows; a bound above 1 is no verdict on the rows, which are often good long before.",
    )


def sharp_rate(e: Evidence) -> Certificate:
    """S, whose constant is calibrated."""
    alpha = e.alpha_lewis if e.p < 2 and math.isfinite(e.alpha_lewis) else max(e.alphas)
    return undeclared(
        "sharp-rate",
        "the distortion is at most the paper's rate with calibrated constant and without its polylogarithms",
        PAPER,
        "<=",
        e.kappa * sharp_bound(alpha, e.n, e.p, e.total, e.sharp_constant),
        1 - e.delta,
        None if e.found is None else exact(e.kappa * e.found.value),
        trivial=1.0,
        assumptions=(
            unchecked(
                "the constant is calibrated",
                f"C = {e.sharp_constant:g}; the paper hides constant and polylogarithms",
            ),
            *_assumptions(e),
        ),
        inputs={"α": alpha, "n": e.n, "total sensitivity (upper)": e.total, "C": e.sharp_constant},
        needs="verify=True, which searches for the worst direction.",
        remedy="take more rows.",
    )


def regression_cost(e: Evidence, gap: OptimalityGap, zero_cost: float) -> Certificate:
    """``cost(x̃) ≤ (1 + Δ)/(1 − Δ) OPT``: x̃ is the best on the sample, whose costs are right up to Δ."""
    bound = e.bound[1]
    return undeclared(
        "regression-cost",
        "the cost on all rows is at most (1 + ε)/(1 − ε) times the optimum; measured is the interval that duality proves",
        f"derived here: {e.bound[0]}",
        "<=",
        (1 + bound) / (1 - bound) if bound < 1 else math.inf,
        1 - e.delta,
        _excess(gap, "duality"),
        trivial=zero_cost / gap.lower_bound if gap.lower_bound > 0 else math.inf,
        assumptions=_assumptions(e),
        inputs={"ε": bound, "cost": gap.cost, "lower bound": gap.lower_bound},
        needs="more rows, which lower the upper end of the interval; or refine=True.",
        remedy="take more rows; the gap below holds in any case.",
    )


def _excess(gap: OptimalityGap, method: str) -> Estimate:
    """Where cost/OPT must lie."""
    if gap.cost == 0 or gap.gap == 0:
        return exact(1.0)
    return Estimate(1 + gap.gap, 1.0, 1 + gap.gap, 1.0, method=method)


def gap_certificate(
    gap: OptimalityGap, zero_cost: float, optimum: float | None = None
) -> Certificate:
    """``cost ≤ (1 + gap) OPT``, certain; checked against the optimum itself where that is known."""
    statement = "the dual solution is feasible: Aᵀy = 0"
    evidence = f"‖Uᵀy‖/‖y‖ = {gap.residual:.2g}" + ("" if gap.lower_bound > 0 else "; LB = 0")
    feasible = (
        met(statement, evidence)
        if gap.residual <= 1e-9
        else violated(statement, evidence, "scale the columns of A.")
    )
    measured = _excess(gap, "duality")
    if optimum is not None and optimum > 0:
        measured = exact(max(1.0, gap.cost / optimum))
    return undeclared(
        "optimality-gap",
        "the cost on all rows is at most (1 + gap) times the optimum"
        + (
            "; measured against the optimum"
            if optimum is not None
            else "; measured is where duality puts it"
        ),
        "derived here: Hölder duality with the residual's own dual",
        "<=",
        1 + gap.gap,
        1.0,
        measured,
        trivial=None if gap.lower_bound == 0 or gap.gap == 0 else zero_cost / gap.lower_bound,
        assumptions=(feasible,),
        inputs={"cost": gap.cost, "lower bound": gap.lower_bound, "gap": gap.gap},
        needs="the optimum on all rows.",
        remedy="refine=True, or more rows.",
    )
