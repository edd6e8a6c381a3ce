"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.experiment.claims import NotTested
from whp.experiment.measures import Measuring, around, mean, measure, measured, ratio, slope, worst
from whp.experiment.study import Claim, select
from whp.intervals import mean as over_units
from whp.studies.optimistic_mirror_descent.experiments import PREFIXES, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

SHUFFLED = {"experiment": "hires shuffled", "rule": "paper"}


def beats(*theirs: str, column: str = "regret") -> Measuring:
    """In time order, regret of the paper's rule less that of the best of `theirs`."""

    def less(rows: pd.DataFrame) -> float:
        by = rows.set_index("rule")
        return float(by.loc["paper", "regret"] - by.loc[list(theirs), column].min())

    return mean(less, {"experiment": "hires in time"})


def against(experiment: str, ours: str, theirs: str, **where: Any) -> Measuring:
    """Ratio of the regrets of two rules on one stream."""

    def share(rows: pd.DataFrame) -> float:
        by = rows.set_index("rule")["regret"]
        return float(by[ours] / by[theirs])

    return mean(share, {"experiment": experiment, "rule": [ours, theirs], **where})


def exponent(rows: pd.DataFrame, rule: str) -> float:
    """Of the rounds in the regret of a rule."""
    part = rows[rows["rule"] == rule]
    x, y = part["rounds"].to_numpy(float), np.maximum(part["regret"].to_numpy(float), 1e-9)
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def slower(rows: pd.DataFrame) -> float:
    """Exponent of T in the regret: the exp-concave rule's less the convex one's."""
    return exponent(rows, "exp-concave") - exponent(rows, "paper")


def of_the_bound(experiment: str) -> Measuring:
    """Mean regret over the mean bound: both are expectations."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = measured(select(records, experiment), "regret", "bound")
        bound = float(rows["bound"].mean())
        m = over_units(rows["regret"].to_numpy(dtype=float), level=level)
        return around(m.value / bound, m.low / bound, m.high / bound, level, m.n or 1, "t")

    return take


def river(radius: float, *, default: bool) -> Measuring:
    """Ours over the best of river, its rate, optimiser and scaling taken by default or chosen in hindsight."""

    def share(rows: pd.DataFrame) -> float:
        ours = rows.loc[rows["rule"] == f"R = {radius:g}", "loss"].iloc[0]
        theirs = rows[rows["rule"].str.startswith("river")]
        if default:
            theirs = theirs[theirs["default"].astype(bool) & (theirs["form"] == "normalised")]
        return float(ours / theirs["loss"].min())

    return mean(share, {"experiment": "peers"})


@measure
def failed(records: pd.DataFrame, level: float) -> Estimate:
    """Certificates of single runs that failed."""
    columns = [c for c in records if str(c).startswith("verdict_") and c != "verdict_sea-regret"]
    verdicts = records[columns].stack()
    if not len(verdicts):
        raise NotTested("nothing was run that has a certificate of a single run")
    count = float((verdicts == "fails").sum())
    return around(count, count, count, level, len(verdicts), "count of all")


NONE = "the paper has no experiment"
CONVEX = "convex theorem: √σ² + √Σ² in the place of √T"
EXTRA = "not in the paper: derived here"

CLAIMS = study.claims(
    Claim(
        "C1a",
        "In time order hourly hires are more predictable than shuffled: less gradient variation.",
        CONVEX,
        "V̄ shuffled less V̄ in time order",
        at_least=0.0,
        measure=mean("variation_less", SHUFFLED),
    ),
    Claim(
        "C1b",
        "So the bound is smaller.",
        CONVEX,
        "a-priori bound, shuffled less in time order",
        at_least=0.0,
        measure=mean("a_priori_less", SHUFFLED),
    ),
    Claim(
        "C1c",
        "And so is the regret.",
        CONVEX,
        "regret shuffled less in time order",
        at_least=0.0,
        measure=mean("regret_less", SHUFFLED),
    ),
    Claim(
        "C2a",
        "In time order optimism beats gradient descent and AdaGrad-norm.",
        NONE,
        "regret less that of the better",
        at_most=0.0,
        measure=beats("ogd", "adagrad-norm"),
        computed=True,
    ),
    Claim(
        "C2b",
        "It keeps up with optimistic FTRL.",
        NONE,
        "regret less that of optimistic FTRL",
        at_most=1.0,
        measure=beats("optimistic-ftrl"),
        computed=True,
    ),
    Claim(
        "C2c",
        "In time order it beats gradient descent and AdaGrad-norm whose steps are tuned in hindsight.",
        NONE,
        "regret less that of the better",
        at_most=0.0,
        measure=beats("ogd", "adagrad-norm", column="tuned"),
        note="Ours is untuned.",
        computed=True,
    ),
    Claim(
        "C2d",
        "Shuffled, optimism costs nothing against gradient descent.",
        NONE,
        "regret less that of gradient descent",
        at_most=0.0,
        measure=mean("over_ogd", SHUFFLED),
        note="Gradients in random order cannot be guessed: expected to fail narrowly.",
    ),
    Claim(
        "C3a",
        "Regret grows linearly in the noise, at least with exponent 0.8.",
        CONVEX,
        "slope of log regret over log σ",
        at_least=0.8,
        measure=slope(
            "regret", "noise", {"experiment": "circle", "turn": 0.0, "noise": [0.1, 0.5, 1.0]}
        ),
    ),
    Claim(
        "C3b",
        "And at most with exponent 1.2.",
        CONVEX,
        "slope of log regret over log σ",
        at_most=1.2,
        measure=slope(
            "regret", "noise", {"experiment": "circle", "turn": 0.0, "noise": [0.1, 0.5, 1.0]}
        ),
    ),
    Claim(
        "C3c",
        "The bound in expectation holds from still to adversarial drift.",
        CONVEX,
        "mean regret over bound, worst of 12 cells",
        at_most=1.0,
        measure=worst(of_the_bound("circle"), ["noise", "turn"]),
    ),
    Claim(
        "C4a",
        "Batches of four cut the gradient variation to less than a quarter.",
        "σ² of a batch's mean gradient",
        "V̄ at b = 4 over V̄ at b = 1",
        at_most=0.25,
        measure=ratio("variation", batch=4, over=1, where={"experiment": "batches"}),
    ),
    Claim(
        "C4b",
        "Batches of sixteen have less regret.",
        CONVEX,
        "regret at b = 16 over b = 1",
        at_most=1.0,
        measure=ratio("regret", batch=16, over=1, where={"experiment": "batches"}),
    ),
    Claim(
        "C5a",
        "For exp-concave losses the logarithmic rule has less regret than the convex one.",
        "exp-concave theorem: (d/α) log(σ² + Σ²)",
        "regret, exp-concave over convex rule, T = 8,645",
        at_most=1.0,
        measure=against("growth", "exp-concave", "paper", rounds=PREFIXES[-1]),
        note="Expected to fail at this length: 16d/β outweighs √T until T is in the millions.",
    ),
    Claim(
        "C5b",
        "Its regret grows more slowly in T.",
        "log T against √T",
        "difference of exponents over T = 500…8,645",
        at_most=0.0,
        measure=mean(slower, {"experiment": "growth"}),
    ),
    Claim(
        "C5c",
        "It is within a factor of two of Vovk-Azoury-Warmuth.",
        NONE,
        "ratio of regrets",
        at_most=2.0,
        measure=against("growth", "exp-concave", "vovk-azoury-warmuth", rounds=PREFIXES[-1]),
    ),
    Claim(
        "C6a",
        "With five flips of all labels the pool beats gradient descent.",
        "dynamic theorem: √(1 + P)",
        "ratio of regrets",
        at_most=1.0,
        measure=against("segments", "dynamic 1/(16L)", "ogd", segments=5),
    ),
    Claim(
        "C6b",
        "With ten as well.",
        "dynamic theorem: √(1 + P)",
        "ratio of regrets",
        at_most=1.0,
        measure=against("segments", "dynamic 1/(16L)", "ogd", segments=10),
    ),
    Claim(
        "C6c",
        "With ten flips the pool beats the static rule.",
        "dynamic theorem",
        "ratio of regrets",
        at_most=1.0,
        measure=against("segments", "dynamic 1/(16L)", "scale-free", segments=10),
        note="Expected to fail: the pool stops at 1/(16L) = 0.25, and the static rule's steps stay larger than that.",
    ),
    Claim(
        "C6d",
        "The paper's cap 1/(8L) learns faster than our certified 1/(16L).",
        "η ≤ 1/(8L)",
        "ratio of regrets, ten flips",
        at_most=1.0,
        measure=against("segments", "dynamic 1/(8L)", "dynamic 1/(16L)", segments=10),
    ),
    Claim(
        "C7a",
        "Where losses are convex only in expectation the regret still grows like √T.",
        CONVEX,
        "slope of log regret over log T",
        at_most=0.6,
        measure=slope("regret", "rounds", {"experiment": "saddle"}),
    ),
    Claim(
        "C7b",
        "And stays under the bound.",
        CONVEX,
        "mean regret over mean bound, worst length",
        at_most=1.0,
        measure=worst(of_the_bound("saddle"), "rounds"),
    ),
    Claim(
        "C8a",
        "Untuned, R = 5 beats every default of river on one pass.",
        EXTRA,
        "log loss over the best default",
        at_most=1.0,
        measure=river(5.0, default=True),
    ),
    Claim(
        "C8b",
        "Untuned, R = 20 is within a fifth of river tuned in hindsight.",
        EXTRA,
        "log loss over the best of optimisers, rates and scalings",
        at_most=1.2,
        measure=river(20.0, default=False),
    ),
    Claim(
        "C9",
        "No pathwise bound breaks on any run.",
        "theorems on the path",
        "certificates that failed",
        at_most=0.0,
        measure=failed,
    ),
)


def _draw_growth(records: pd.DataFrame, ax: Axes) -> None:
    for rule, group in select(records, "growth").groupby("rule"):
        cells = group.groupby("rounds")["regret"].mean()
        ax.plot(cells.index, cells, "o-", label=str(rule))
    ax.set(xscale="log", yscale="log", xlabel="rounds", ylabel="regret, shuffled hires")
    ax.legend(frameon=False)


def _draw_segments(records: pd.DataFrame, ax: Axes) -> None:
    for rule, group in select(records, "segments").groupby("rule"):
        cells = group.groupby("segments")["regret"].mean()
        ax.plot(cells.index, cells, "o-", label=str(rule))
    ax.set(xlabel="segments with flipped labels", ylabel="regret against each segment's best point")
    ax.legend(frameon=False)


def _draw_circle(records: pd.DataFrame, ax: Axes) -> None:
    for turn, group in select(records, "circle").groupby("turn"):
        cells = group.groupby("noise")[["regret", "bound"]].mean()
        (line,) = ax.plot(cells.index, cells["bound"], "--", linewidth=1)
        ax.plot(
            cells.index,
            cells["regret"],
            "o-",
            color=line.get_color(),
            label=f"turns by {turn:.3g} a round",
        )
    ax.set(xlabel="noise σ", ylabel="mean regret, and its bound dashed", yscale="symlog")
    ax.legend(frameon=False)


FIGURES = {"growth": _draw_growth, "segments": _draw_segments, "circle": _draw_circle}
