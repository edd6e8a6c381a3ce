"""What is promised about weighted rows and the regression on them, and when."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.linalg._lp_sensitivity_sampling import bounds
from whp.linalg._lp_sensitivity_sampling.gap import LARGEST_BACKWARD, UNIT, OptimalityGap
from whp.linalg._lp_sensitivity_sampling.solvers import raised
from whp.theorem import AT_MOST, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "COINS",
    "CONSTANT",
    "FIXED_BEFORE",
    "LINEAR_PART",
    "ONE_SIDED",
    "OPTIMALITY_GAP",
    "RANK",
    "REGRESSION_COST",
    "RESOLVED",
    "SHARP_RATE",
    "SUBSPACE_EMBEDDING",
    "THEOREMS",
    "WEIGHTS",
    "Evidence",
    "coins_of",
    "optimality_gap_certificate",
    "regression_cost",
    "sharp_rate",
    "subspace_embedding",
]

ONE_SIDED_SLACK = 1e-9
SOLVED = 1e-9  # what the solvers' tolerances may leave, relative to the cost
RESOLUTION = 0.01  # of the residuals' norm, what rounding of them may be
LEVEL = 1e-3  # of the test of coins that somebody else tossed
LOOKED_AT = 16  # columns in whose order it looks
SMALLEST_END = 16  # rows at either end of an order that are counted

COINS = Condition(
    "independent-coins",
    "rows were kept independently of each other, with the stated probabilities",
    remedy="keep each row by a coin of its own (sampling='poisson'), and delete none afterwards.",
)
WEIGHTS = Condition(
    "inverse-weights",
    "each row kept weighs one over the probability with which it was kept",
    remedy="weigh the rows by 1/q; neither scale nor cap the weights.",
)
FIXED_BEFORE = Condition(
    "fixed-before",
    "A, b and the probabilities were fixed before the coins, and no other draw was looked at",
)
ONE_SIDED = Condition(
    "one-sided",
    "the Lewis weights are one-sided: a_iᵀM⁻¹a_i ≤ v_i^{2/p}",
    remedy="use the one_sided weights of lewis_weights.",
)
RANK = Condition(
    "full-rank",
    "the columns are linearly independent, well above rounding",
    remedy="drop columns that nearly depend on others, or subtract a constant from them.",
)
CONSTANT = Condition(
    "calibrated-constant", "the constant stands for what the paper's notation hides"
)
LINEAR_PART = Condition(
    "exact-linear-part",
    "the linear part of a quantile's cost is that of all rows",
    remedy="take more rows: those kept were too few to hold up the exact linear part.",
)
RESOLVED = Condition(
    "residuals-above-rounding",
    "the residuals are well above their rounding",
    remedy="subtract a constant from b or from columns; or b is a combination of the columns.",
)

EMBEDDED = (COINS, WEIGHTS, FIXED_BEFORE, ONE_SIDED, RANK)
MEASURE = "p = 2, one column, or all rows; else measure=True searches, which can only refute."

SUBSPACE_EMBEDDING = Theorem(
    "subspace-embedding",
    claim="the weighted rows preserve ‖Ax‖_p^p up to a factor of 1 ± ε, for every x over the columns "
    "kept",
    quantity="largest relative error of Σ ξ|aᵀx|^p over all x",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("lp-sensitivity-sampling#explicit-bounds"),
    conditions=EMBEDDED,
    needs=MEASURE,
    remedy="take more rows; a bound above 1 is no verdict on rows, often good long before.",
)
SHARP_RATE = Theorem(
    "sharp-rate",
    claim="the weighted rows preserve ‖Ax‖_p^p up to the paper's rate, its constant calibrated, its "
    "polylogarithms left out, for every x over the columns kept",
    quantity="largest relative error of Σ ξ|aᵀx|^p over all x",
    relation=AT_MOST,
    scope=THIS_RUN,
    source="Woodruff & Yasuda 2023, the rates of the abstract",
    conditions=(CONSTANT, *EMBEDDED),
    needs=MEASURE,
    remedy="take more rows.",
)
REGRESSION_COST = Theorem(
    "regression-cost",
    claim="the cost on all rows is at most (1 + ε)/(1 − ε) times the optimum over the columns kept",
    quantity="cost over optimum",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("lp-sensitivity-sampling#cost-of-the-regression"),
    conditions=(*EMBEDDED, LINEAR_PART, RESOLVED),
    needs="measure=True, which solves with all rows; or more rows, which narrow the interval.",
    remedy="take more rows; the optimality gap stands in any case.",
)
OPTIMALITY_GAP = Theorem(
    "optimality-gap",
    claim="the cost on all rows is at most (1 + gap) times the optimum over the columns kept",
    quantity="cost over optimum, between the numbers that duality proves",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("lp-sensitivity-sampling#duality-gap"),
    conditions=(RANK,),
    needs="refine=True, or more rows; measure=True solves with all of them.",
    remedy="refine=True, or more rows, or a wider gap.",
)
THEOREMS = (SUBSPACE_EMBEDDING, SHARP_RATE, REGRESSION_COST, OPTIMALITY_GAP)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one draw knows.

    Parameters
    ----------
    n, d, rows : int
        Rows and columns of the basis, and rows kept.
    p, delta : float
        Power, and failure probability.
    alphas : tuple of float
        Largest ratio of the bound on a sensitivity to the probability, an entry a round of coins.
    alpha_lewis : float
        Largest v/q; infinite where v was not used.
    mass, total : float
        Sums of v and of the bounds on the sensitivities.
    one_sided : float
        Largest ``aᵀM⁻¹a / v^{2/p}``.
    smallest : float
        Smallest singular value, columns of norm 1.
    coins, weights : Answer
        To these conditions.
    kappa : float
        By how much errors of absolute residuals grow in a quantile's cost.
    sharp_constant : float
        Constant of the sharp rate.
    measured : Estimate, optional
        The distortion.
    """

    n: int
    d: int
    rows: int
    p: float
    delta: float
    alphas: tuple[float, ...]
    alpha_lewis: float
    mass: float
    total: float
    one_sided: float
    smallest: float
    coins: Answer
    weights: Answer
    kappa: float = 1.0
    sharp_constant: float = 1.0
    measured: Estimate | None = None

    @property
    def bounds(self) -> dict[str, float]:
        """The explicit bounds on the distortion that this run may use, by name."""
        share = self.delta / len(self.alphas)
        grown = math.prod(1 + bounds.net_bound(a, self.d, self.p, share) for a in self.alphas) - 1
        made = {"net": grown}
        if len(self.alphas) == 1 and math.isfinite(self.alpha_lewis):
            if self.p < 2:
                made["symmetrisation"] = bounds.rademacher_bound(
                    self.alpha_lewis, self.d, self.p, self.delta, self.n, self.mass
                )
            if self.p == 2:
                made["matrix Chernoff"] = bounds.chernoff_bound(self.alphas[0], self.d, self.delta)
        return made

    @property
    def bound(self) -> tuple[str, float]:
        """The best bound and its name: chosen before any coin, so that delta is spent once."""
        made = self.bounds
        name = min(made, key=lambda k: made[k])
        return name, made[name]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """To the conditions of every theorem about the draw."""
        return (
            self.coins,
            self.weights,
            FIXED_BEFORE.unchecked("data cannot show what was looked at before"),
            ONE_SIDED.check(
                self.one_sided <= 1 + ONE_SIDED_SLACK, f"the largest ratio is {self.one_sided:.9g}"
            ),
            rank_of(self.d, self.smallest),
        )


def rank_of(d: int, smallest: float) -> Answer:
    """Whether the columns are further from dependent than rounding is."""
    ok = 8 * UNIT * math.sqrt(d) <= LARGEST_BACKWARD * smallest
    return RANK.check(ok, f"smallest singular value {smallest:.3g}, columns of norm 1")


def coins_of(
    q: np.ndarray,
    index: np.ndarray,
    live: np.ndarray,
    columns: np.ndarray,
    leverage: np.ndarray | None = None,
) -> Answer:
    """What a list of rows, said to be kept with probabilities q by coins, shows of them.

    Certain rows that are missing, impossible ones that are there, rows twice; then, by Bernstein's
    inequality, in the order of the file, of each of the columns, of the leverage scores and of q:
    whether neighbours are kept together, and how many rows are kept in all, in either half, and in
    halves of these towards both ends, where rows are trimmed, or do not answer.
    """
    kept = np.bincount(index, minlength=len(q))
    for wrong, what in (
        (kept > 1, "there more than once"),
        ((q >= 1) & (kept == 0) & live, "missing although certain"),
        ((q <= 0) & (kept > 0), "there although impossible"),
    ):
        if wrong.any():
            return COINS.check(False, f"{wrong.sum()} rows are {what}")
    error, variance = kept - q, q * (1 - q)
    keys = [*columns.T, q] if leverage is None else [*columns.T, q, leverage]
    orders = [np.arange(len(q)), *(np.argsort(key, kind="stable") for key in keys)]
    half = len(q) // 2 * 2
    ends = [len(q) >> k for k in range(1, 64) if len(q) >> k >= SMALLEST_END]
    totals, variances = [error.sum()], [variance.sum()]
    for order in orders:  # of pairs that share no row, so that products are independent
        left, right = order[0:half:2], order[1:half:2]
        totals.append(error[left] @ error[right])
        variances.append(variance[left] @ variance[right])
    together = variances[1]
    for order in orders:
        for end in (order, order[::-1]):
            totals += [error[end[:m]].sum() for m in ends]
            variances += [variance[end[:m]].sum() for m in ends]
    V = np.maximum(variances, np.finfo(float).tiny)
    exponent = np.square(totals) / (2 * (V + np.abs(totals) / 3))
    p = min(1.0, 2 * len(V) * math.exp(-float(exponent.max())))
    log = math.log(2 * len(V) / LEVEL)
    pairs = float(np.sqrt(variance[orders[0][0:half:2]] * variance[orders[0][1:half:2]]).sum())
    seen = (log / 3 + math.sqrt(log * log / 9 + 2 * log * together)) / max(pairs, 1e-300)
    return COINS.tested(
        p,
        LEVEL,
        f"a correlation of {min(seen, 1):.2g} between neighbours in the file or in the order of "
        f"one of its first {columns.shape[1]} columns, and counts that are off, in all or towards "
        "an end of such an order",
    )


def subspace_embedding(e: Evidence) -> Certificate:
    """The best explicit bound on the distortion."""
    name, bound = e.bound
    return SUBSPACE_EMBEDDING(
        bound=bound,
        confidence=1 - e.delta,
        trivial=1.0,  # of no rows at all
        measured=e.measured,
        answers=e.answers,
        inputs={
            "best bound": name,
            "α of sensitivities": max(e.alphas),
            "α of Lewis weights": e.alpha_lewis,
            "d": e.d,
            "rows": e.rows,
            **e.bounds,
        },
    )


def sharp_rate(e: Evidence) -> Certificate:
    """The paper's rate, whose constant is calibrated."""
    alpha = e.alpha_lewis if e.p < 2 and math.isfinite(e.alpha_lewis) else max(e.alphas)
    return SHARP_RATE(
        bound=bounds.sharp_bound(alpha, e.n, e.p, e.total, e.sharp_constant),
        confidence=1 - e.delta,
        trivial=1.0,
        measured=e.measured,
        answers=(
            CONSTANT.unchecked(
                f"C = {e.sharp_constant:g}; the paper hides constant and polylogarithms"
            ),
            *e.answers,
        ),
        inputs={"α": alpha, "n": e.n, "total sensitivity, at most": e.total, "C": e.sharp_constant},
    )


def cost_factor(epsilon: float) -> float:
    """``(1 + ε)/(1 − ε)``: of what is best on a sample whose costs are right up to 1 ± ε."""
    return (1 + epsilon) / (1 - epsilon) if epsilon < 1 else math.inf


def regression_cost(
    e: Evidence,
    gap: OptimalityGap,
    solver_gap: float,
    linear_part: Answer,
    zero: float,
    best: OptimalityGap | None,
) -> Certificate:
    """What the distortion means for the cost of the solution on the rows kept.

    Parameters
    ----------
    e, gap : Evidence, OptimalityGap
        Of the draw, and of the solution.
    solver_gap : float
        How far, relative, the solution may be from the best on the rows kept.
    linear_part : Answer
        To that condition.
    zero : float
        ``‖b‖``, or the pinball cost of x = 0.
    best : OptimalityGap, optional
        Of the solution with all rows.
    """
    epsilon = e.kappa * e.bound[1]
    _, low, high = gap.roots
    resolved = high - low <= RESOLUTION * high
    rounding = raised(high / low, e.p) if resolved and low > 0 else 1.0
    return REGRESSION_COST(
        bound=cost_factor(epsilon) * (1 + max(solver_gap, SOLVED)) * rounding,
        confidence=1 - e.delta,
        trivial=_at_worst(zero, gap, e.p),
        measured=_excess(gap, best, e.p),
        answers=(
            *e.answers,
            linear_part,
            RESOLVED.check(
                resolved and low > 0,
                f"the residuals' norm is {high:.4g}, of which rounding may be {high - low:.2g}",
            ),
        ),
        inputs={
            "ε": epsilon,
            "solver's own gap": solver_gap,
            "cost": gap.cost,
            "lower bound": gap.lower_bound,
        },
    )


def _at_worst(zero: float, gap: OptimalityGap, p: float) -> float:
    """Cost of all coefficients zero over the lower bound."""
    return raised(zero / gap.roots[0], p) if gap.roots[0] > 0 else math.inf


def _excess(gap: OptimalityGap, best: OptimalityGap | None, p: float) -> Estimate:
    """Between which numbers cost over optimum lies; `best` narrows it from both sides."""
    bound, low, high = gap.roots
    least = 1.0
    if best is not None:
        bound, at_most = best.roots[0], best.roots[2]
        least = max(1.0, raised(low / at_most, p) if at_most > 0 else 1.0)
    most = max(least, raised(high / bound, p) if bound > 0 else math.inf)
    return Estimate.between(least, most, value=least if best or math.isinf(most) else most)


def optimality_gap_certificate(
    gap: OptimalityGap,
    demand: float,
    p: float,
    d: int,
    smallest: float,
    zero: float,
    best: OptimalityGap | None = None,
) -> Certificate:
    """``cost ≤ (1 + demand) OPT``, against what duality proves; for the rest see above."""
    return OPTIMALITY_GAP(
        bound=1 + demand,
        confidence=1.0,
        trivial=_at_worst(zero, gap, p),
        measured=_excess(gap, best, p),
        answers=(rank_of(d, smallest),),
        inputs={"cost": gap.cost, "lower bound": gap.lower_bound, "gap": gap.gap},
    )
