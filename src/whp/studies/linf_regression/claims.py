"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.experiment.measures import mean, rate, share, slope, statistic, worst
from whp.experiment.study import Claim, NotTested, select
from whp.intervals import proportion
from whp.result import PALETTE
from whp.studies.linf_regression.experiments import study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

DENSE: dict[str, Any] = {"experiment": "dimension", "sketch": ["srht", "pooled", "circulant"]}
SPIKE: dict[str, Any] = {"experiment": "dimension", "design": "spike"}
TENSOR: dict[str, Any] = {"experiment": "tensor"}

NONE = "the paper has no experiment; Theorem 1.1"
CORRECTION = "Song & Zhang 2026, on the proof of Theorem 1.1"
EXTRA = "not in the paper: error bars derived here"


def _growth_on_spike(rows: pd.DataFrame) -> float:
    """Slope of log mean error over log d; a draw without a collision has no error at all."""
    means = rows["scaled_error"].astype(float).groupby(rows["d"].astype(float)).mean()
    if len(means) < 2:
        raise NotTested(f"a slope needs two values of d; there was {means.index[0]:g}")
    return float(np.polyfit(np.log(means.index), np.log(means.clip(lower=0.1)), 1)[0])


def _over_srht(sketch: str) -> Callable[[pd.DataFrame], float]:
    """Ratio of mean errors."""

    def measured(rows: pd.DataFrame) -> float:
        ours, theirs = (
            float(select(rows, None, sketch=s)["scaled_error"].dropna().astype(float).mean())
            for s in (sketch, "srht")
        )
        return ours / theirs

    return measured


def _rate(flags: pd.Series) -> Estimate:
    return proportion(int(flags.astype(bool).sum()), len(flags))


CLAIMS = study.claims(
    Claim(
        "C1a",
        "With m = 16d rows, dense sketches keep √m ‖x̃ − x*‖∞ below 1.5 √(2 ln 2d) ‖r‖ ‖A†‖.",
        NONE,
        "that error over its limit, for the worst design, d and sketch",
        at_most=1.0,
        measure=worst(mean("over_limit", DENSE), over=["design", "d", "sketch"]),
    ),
    Claim(
        "C1b",
        "With m ∝ d the error of dense sketches does not grow with a power of d.",
        NONE,
        "slope of log error over log d",
        at_most=0.15,
        measure=slope("scaled_error", "d", DENSE),
    ),
    Claim(
        "C2a",
        "A CountSketch hits the spike with constant probability (0.64 predicted).",
        NONE + ", lower bound",
        "share of draws with √m ‖x̃ − x*‖∞ ≥ 0.49 √d",
        at_least=0.5,
        measure=share("collided", SPIKE | {"sketch": "countsketch"}),
    ),
    Claim(
        "C2b",
        "On the spike the error of CountSketch grows like √d.",
        NONE + ", lower bound",
        "slope of log mean error over log d",
        at_least=0.4,
        measure=statistic(_growth_on_spike, SPIKE | {"sketch": "countsketch"}),
        note="A draw without a collision has no error at all, so the slope is that of means over seeds.",
    ),
    Claim(
        "C2c",
        "On the spike SRHT and pooled sketches stay below 5.",
        NONE,
        "share of draws with √m ‖x̃ − x*‖∞ ≤ 5",
        at_least=0.95,
        measure=share(
            "scaled_error", SPIKE | {"sketch": ["srht", "pooled"]}, at_most=5.0, each="all"
        ),
    ),
    Claim(
        "C3",
        "The error of a dense sketch is spread evenly: ‖e‖∞ ≈ √(2 ln d / d) ‖e‖₂.",
        NONE,
        "‖e‖∞/‖e‖₂ over √(2 ln d/d)",
        at_most=1.25,
        measure=mean("unevenness", DENSE),
    ),
    Claim(
        "C4a",
        "On 53,940 diamonds, m = 768, simultaneous 95 % error bars of the SRHT cover all 24 coefficients.",
        EXTRA,
        "share of draws that cover",
        at_least=0.9,
        measure=share("covered", {"experiment": "diamonds", "sketch": "srht"}),
    ),
    Claim(
        "C4b",
        "So do those of the pooled sketch.",
        EXTRA,
        "share of draws that cover",
        at_least=0.9,
        measure=share("covered", {"experiment": "diamonds", "sketch": "pooled"}),
    ),
    Claim(
        "C4c",
        "With uniformly sampled rows the same bars fail.",
        EXTRA,
        "share of draws that cover",
        at_most=0.5,
        measure=share("covered", {"experiment": "diamonds", "sketch": "uniform rows"}),
    ),
    Claim(
        "C4d",
        "With rows sampled by leverage they fall short of 95 %.",
        EXTRA,
        "share of draws that cover",
        at_most=0.9,
        measure=share("covered", {"experiment": "diamonds", "sketch": "leverage rows"}),
    ),
    Claim(
        "C4e",
        "Uniform rows err several times more than the SRHT.",
        NONE,
        "mean error over the SRHT's",
        at_least=3.0,
        measure=statistic(_over_srht("uniform rows"), {"experiment": "diamonds"}),
    ),
    Claim(
        "C4f",
        "On benign data a CountSketch is as good as the SRHT.",
        NONE,
        "mean error over the SRHT's",
        at_most=1.25,
        measure=statistic(_over_srht("countsketch"), {"experiment": "diamonds"}),
        note="The spike of C2 is a worst case, not what most tables look like.",
    ),
    Claim(
        "C4g",
        "On 327,346 flights, m = 1,600, the SRHT's bars cover all 50 coefficients.",
        EXTRA,
        "share of draws that cover",
        at_least=0.9,
        measure=share("covered", {"experiment": "flights", "sketch": "srht"}),
        note="Few draws at the standard scale: 40.",
    ),
    Claim(
        "C4h",
        "Bootstrapping the sketch (Lopes, Wang & Mahoney 2018) covers as well.",
        EXTRA,
        "share of draws that cover",
        at_least=0.9,
        measure=share("covered", {"experiment": "diamonds", "sketch": "srht, bootstrap"}),
    ),
    Claim(
        "C4i",
        "The closed form costs a small fraction of the bootstrap.",
        EXTRA,
        "time of 100 resamples over the closed form's",
        at_least=20.0,
        measure=mean("cost_ratio", {"experiment": "diamonds", "sketch": "srht, bootstrap"}),
    ),
    Claim(
        "C5a",
        "Sketching takes time linear in n up to logarithms.",
        "Theorem 1.1, O(nd log n)",
        "slope of log time over log n",
        at_most=1.15,
        measure=slope("seconds", "n_timed", {"experiment": "runtime over n"}),
        note="From 4 MB to 64 MB of data the caches cease to help, and a second trial shares the memory bus.",
    ),
    Claim(
        "C5b",
        "Sketching takes time linear in d.",
        "Theorem 1.1, O(nd log n)",
        "slope of log time over log d",
        at_most=1.1,
        measure=slope("seconds", "d_timed", {"experiment": "runtime over d"}),
        note="As C5a, from 8 MB to 128 MB of data.",
    ),
    Claim(
        "C6a",
        "TensorSRHT keeps √m ‖x̃ − x*‖∞/(‖r‖ ‖A†‖) small for a Kronecker product.",
        "tensor section",
        "that error, for the worst m",
        at_most=2.0,
        measure=worst(mean("scaled_error", TENSOR), over="m"),
    ),
    Claim(
        "C6b",
        "Its error falls like 1/√m.",
        "tensor section",
        "slope of log error over log m",
        at_most=-0.4,
        measure=slope("raw_error", "m", TENSOR),
    ),
    Claim(
        "C7",
        "Subspace embedding and coordinate-wise embedding together do not suffice: a map with both errs by αρ/(1 − ρ²) "
        "for every d.",
        CORRECTION,
        "relative distance of the error to αρ/(1 − ρ²)",
        at_most=1e-8,
        measure=mean("deviation", {"experiment": "deception"}),
    ),
    Claim(
        "C8",
        "The explicit bound, proven for Gaussian sketches, holds for SRHT, pooled and circulant at δ = 0.05.",
        EXTRA,
        "share of bounds broken",
        at_most=0.05,
        measure=rate("broken", "bounds", DENSE),
    ),
)


def _draw_dimension(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, **SPIKE)
    for name, group in part.groupby("sketch"):
        cells = group.groupby("d")["scaled_error"]
        ax.plot(cells.mean().index, cells.mean(), "o-", label=str(name))
    d = np.array(sorted(part["d"].unique()), dtype=float)
    ax.plot(d, np.sqrt(d), "--", color=PALETTE["quiet"], label="√d")
    ax.set(xscale="log", yscale="log", xlabel="columns d", ylabel="√m ‖x̃ − x*‖∞ on the spike")
    ax.legend(frameon=False)


def _draw_coverage(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "diamonds").groupby("sketch")["covered"].apply(_rate)
    names = sorted(cells.index, key=lambda k: cells[k].value)
    for i, name in enumerate(names):
        e = cells[name]
        ax.errorbar(
            e.value,
            i,
            xerr=[[e.value - e.low], [e.high - e.value]],
            fmt="o",
            color=PALETTE["ours"],
            capsize=3,
        )
    ax.axvline(0.95, color=PALETTE["quiet"], linestyle="--", linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="share of draws whose 95 % bars cover all 24 coefficients", xlim=(-0.02, 1.02))


def _draw_runtime(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "runtime over n").groupby("n_timed")["seconds"].min()
    ax.plot(part.index, part, "o-", label="SRHT, d = 32")
    ax.plot(
        part.index,
        part.iloc[0] * part.index / part.index[0],
        "--",
        color=PALETTE["quiet"],
        label="linear",
    )
    ax.set(xscale="log", yscale="log", xlabel="rows n", ylabel="seconds")
    ax.legend(frameon=False)


FIGURES = {"spike": _draw_dimension, "diamonds": _draw_coverage, "runtime": _draw_runtime}
