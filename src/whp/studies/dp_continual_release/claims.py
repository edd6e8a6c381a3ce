"""What the paper's bounds, and ours, come to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.experiment.measures import largest, mean, ratio, share, slope, worst
from whp.experiment.study import Claim, Measure, Origin, select
from whp.intervals import exact
from whp.privacy._dp_continual_release import plan_release, price
from whp.result import PALETTE
from whp.studies.dp_continual_release.experiments import LENGTHS, RHO, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]


def _slope_of_bounds(**budget: Any) -> Measure:
    def measure(records: pd.DataFrame) -> Any:
        bounds = [
            plan_release("maxsum", T, 10**6, strategy="recompute", **budget).bound for T in LENGTHS
        ]
        return exact(float(np.polyfit(np.log(LENGTHS), np.log(bounds), 1)[0]))

    return measure


def _above_lower(records: pd.DataFrame) -> Any:
    """Least ratio of upper to lower bound over lengths and budgets."""
    ratios = [
        priced.ratio
        for T in np.unique(np.geomspace(100, 10**6, 40).astype(int))
        for rho in np.geomspace(1e-3, 1, 7)
        if (priced := price("maxsum", int(T), 10**6, rho=float(rho))).lower
    ]
    return exact(min(ratios))


MARKET = {"experiment": ["baskets", "slow baskets"], "query": "maxsum"}
RECOMPUTED = {**MARKET, "variant": "recompute"}
LATE = {"experiment": ["flights", "counted flights"]}
AUDIT = {"experiment": "audit"}
OBJECTS = {"experiment": "object audit"}
THEOREM = "Theorem 1: Ω̃(min(T^{1/3}/ε^{2/3}, √d/ε, T)) for (ε, δ), Ω̃(min(√(T/ε), d/ε, T)) for pure"
UPPER = "matching upper bounds up to logarithms"
NONE = "the paper has no experiment"
OURS: dict[str, Any] = {"paper": "not in the paper: derived here", "origin": Origin.OURS}

CLAIMS = study.claims(
    Claim(
        "C1a",
        "The error bound of MaxSum grows like T^{1/3}, but for logarithms.",
        paper=UPPER,
        quantity="slope of log bound over log T",
        at_most=0.37,
        measure=_slope_of_bounds(rho=RHO),
        computed=True,
    ),
    Claim(
        "C1b",
        "That of pure differential privacy grows like √T.",
        paper=UPPER,
        quantity="slope of log bound over log T",
        at_most=0.55,
        measure=_slope_of_bounds(epsilon=1.0, delta=0),
        computed=True,
    ),
    Claim(
        "C1c",
        "The measured error grows at the same rate, at most 0.386.",
        paper=UPPER,
        quantity="slope of log largest error over log T",
        at_most=0.386,
        measure=slope("largest", "T", {"experiment": "curve"}),
    ),
    Claim(
        "C1d",
        "And not more slowly than 0.326.",
        paper=THEOREM,
        quantity="slope of log largest error over log T",
        at_least=0.326,
        measure=slope("largest", "T", {"experiment": "curve"}),
    ),
    Claim(
        "C1e",
        "The lower bound lies below the upper one for all lengths and budgets.",
        paper=THEOREM,
        quantity="least ratio of upper to lower",
        at_least=1.0,
        measure=_above_lower,
        computed=True,
    ),
    Claim(
        "C2a",
        "On 155,659 baskets of 302 categories recomputing has a bound of 223.",
        paper=NONE,
        quantity="error bound",
        at_most=223.0,
        measure=largest("bound", RECOMPUTED),
        computed=True,
    ),
    Claim(
        "C2b",
        "And a measured error below 200.",
        paper=NONE,
        quantity="mean largest error",
        at_most=200.0,
        measure=mean("largest", RECOMPUTED),
    ),
    Claim(
        "C2c",
        "With so many columns recomputing beats the tree by a factor of three.",
        paper="√d/ε against T^{1/3}",
        quantity="measured error, recompute over tree",
        at_most=1 / 3,
        measure=ratio("largest", over="tree", where=MARKET, variant="recompute"),
    ),
    Claim(
        "C2d",
        "And the square root.",
        paper="√d/ε against T^{1/3}",
        quantity="measured error, recompute over square root",
        at_most=1.0,
        measure=ratio("largest", over="sqrt", where=MARKET, variant="recompute"),
    ),
    Claim(
        "C2e",
        "Cut to five ones a record, counting wins.",
        **OURS,
        quantity="measured error, square root over recompute",
        at_most=1.0,
        measure=ratio("largest", over="recompute", where=MARKET, variant="sqrt, five ones"),
        note="Measured against the counts that were cut; C2f says what cutting costs.",
    ),
    Claim(
        "C2f",
        "Cutting biases the last answer by more than its noise.",
        **OURS,
        quantity="final error against the uncut maximum",
        at_least=99.0,
        measure=mean("final", {**MARKET, "variant": "sqrt, five ones"}),
    ),
    Claim(
        "C2g",
        "Which category leads is off by less than 300 baskets.",
        paper=NONE,
        quantity="mean largest shortfall",
        at_most=300.0,
        measure=mean("largest", {"experiment": "baskets", "query": "sumselect"}),
    ),
    Claim(
        "C3a",
        "One category a record costs almost nothing: the square root beats recomputing on 328,521 flights.",
        paper="min(…, √d/ε, …)",
        quantity="measured error, square root over recompute",
        at_most=0.5,
        measure=ratio("largest", over="recompute", where=LATE, strategy="sqrt"),
    ),
    Claim(
        "C3b",
        "Fresh noise at every step is ten times worse than the square root.",
        paper=NONE,
        quantity="measured error, naive over square root",
        at_least=10.0,
        measure=ratio("largest", over="sqrt", where=LATE, strategy="naive"),
    ),
    Claim(
        "C4a",
        "An adversary that chooses records after seeing answers breaks the error bound at most as often as β = 0.05.",
        paper="adaptive upper bounds",
        quantity="share of bounds broken",
        at_most=0.05,
        measure=share("broken", {"experiment": "adaptive"}),
    ),
    Claim(
        "C4b",
        "Nor does it learn more than μ.",
        paper="adaptive privacy",
        quantity="largest lower limit of μ over the claim",
        at_most=1.0,
        measure=largest("of_true_mu", {"experiment": "adaptive audit"}),
    ),
    Claim(
        "C4c",
        "On fair bits all error bounds break at most as often as β = 0.05.",
        **OURS,
        quantity="share of bounds broken, worst of five mechanisms",
        at_most=0.05,
        measure=worst(share("broken", {"experiment": "coverage"}), over="mechanism"),
    ),
    Claim(
        "C5a",
        "Exact MaxSum answers on the hard stream give all marginals away.",
        paper="reduction from marginals",
        quantity="largest error of a marginal",
        at_most=0.0,
        measure=largest("marginals_exact", {"experiment": "reduction"}),
    ),
    Claim(
        "C5b",
        "Private ones give them up to their own error.",
        paper="reduction from marginals",
        quantity="error of marginals less that of answers",
        at_most=1e-6,
        measure=largest("beyond_answers", {"experiment": "reduction"}),
    ),
    Claim(
        "C6a",
        "The audit lets honest mechanisms pass.",
        paper="definition",
        quantity="share caught, ρ = 0.05 and 0.5",
        at_most=0.05,
        measure=share("caught_audit-mu", {**AUDIT, "variant": "honest"}),
    ),
    Claim(
        "C6b",
        "It catches noise for one level by μ.",
        **OURS,
        quantity="share caught",
        at_least=0.69,
        measure=share("caught_audit-mu", {**AUDIT, "variant": "noise for one level"}),
        note="Ten of ten have an interval from 0.69.",
    ),
    Claim(
        "C6c",
        "It catches half the noise by μ.",
        **OURS,
        quantity="share caught",
        at_least=0.69,
        measure=share("caught_audit-mu", {**AUDIT, "variant": "half the noise"}),
        note="Ten of ten have an interval from 0.69.",
    ),
    Claim(
        "C6d",
        "Half the noise at ρ = 0.5 passes for ε.",
        **OURS,
        quantity="share caught by ε",
        at_most=0.53,
        measure=share("caught_audit-epsilon", {**AUDIT, "variant": "half the noise", "rho": 0.5}),
        note="None of five has an interval up to 0.52.",
    ),
    Claim(
        "C6e",
        "The lower limit of μ comes close to the truth.",
        **OURS,
        quantity="lower limit over the true μ, ρ = 0.5, honest",
        at_least=0.9,
        measure=mean("of_true_mu", {**AUDIT, "variant": "honest", "rho": 0.5}),
    ),
    Claim(
        "C6f",
        "Run as objects, 400 times in each world, honest mechanisms pass.",
        **OURS,
        quantity="share caught by μ, T = 16",
        at_most=0.05,
        measure=share("caught_audit-mu", {**OBJECTS, "variant": "honest"}),
    ),
    Claim(
        "C6g",
        "And those with half the noise are caught.",
        **OURS,
        quantity="share caught by μ, T = 16",
        at_least=0.9,
        measure=share("caught_audit-mu", {**OBJECTS, "variant": "half the noise"}),
    ),
)


def _draw_price(records: pd.DataFrame, ax: Axes) -> None:
    lengths = np.unique(np.geomspace(1000, 10**6, 25).astype(int))
    made = [price("maxsum", int(T), 10**6, rho=RHO) for T in lengths]
    low, high = [p.lower for p in made], [p.upper for p in made]
    ax.fill_between(
        lengths, low, high, color=PALETTE["quiet"], alpha=0.2, label="between the bounds"
    )
    ax.plot(lengths, [p.batch for p in made], ":", color=PALETTE["quiet"], label="answering once")
    cells = select(records, "curve").groupby("T")["largest"].mean()
    ax.plot(cells.index, cells, "o-", color=PALETTE["ours"], label="measured, MaxSum")
    ax.set(
        xscale="log", yscale="log", xlabel="length of the stream", ylabel="largest error, ρ = 0.5"
    )
    ax.legend(frameon=False)


def _draw_audit(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "audit")
    colours = (PALETTE["other"], PALETTE["ours"], PALETTE["third"])
    for number, (variant, group) in enumerate(part.groupby("variant")):
        x = group["mu"] * (0.97 + 0.03 * number)
        ax.plot(x, group["mu_low"], "o", color=colours[number], label=str(variant))
    top = [0.0, float(part["mu"].max()) * 1.1]
    ax.plot(top, top, "--", color=PALETTE["quiet"], label="what is claimed")
    ax.set(xlabel="claimed μ", ylabel="lower limit of μ by the audit")
    ax.legend(frameon=False)


FIGURES = {"price": _draw_price, "audit": _draw_audit}
