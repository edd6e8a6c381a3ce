"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from whp import intervals
from whp.experiment.measures import Measuring, around, largest, mean, measure, paired, pivot, worst
from whp.experiment.study import Claim, NotTested, select
from whp.peers.gradients import HOOKS
from whp.studies.error_feedback.experiments import TARGET, biopsies, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

Number = Callable[[pd.DataFrame], float]


def computed(function: Number) -> Measuring:
    """A number that has no chance in it."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        value = float(function(records))
        return around(value, value, value, level, None, "computed")

    return take


def theory_of(column: str, variant: str, than: str = "") -> Number:
    """A number of the run with a step of theory, or its ratio to that of another."""

    def value(records: pd.DataFrame) -> float:
        wanted = [variant, than] if than else [variant]
        rows = [select(records, "theory", variant=v)[column].iloc[0] for v in wanted]
        return float(rows[0]) / float(rows[1]) if than else float(rows[0])

    return value


GAMMA, STEPS = theory_of("gamma", "am", "qm"), theory_of("steps", "qm", "am")


def least_of(records: pd.DataFrame, variant: str, column: str, start: str = "am") -> float:
    """The least of a grid of steps."""
    return float(select(records, "best", variant=variant, start=start)[column].astype(float).min())


def gains(records: pd.DataFrame) -> pd.DataFrame:
    """Steps with the old step over steps with the new, and of the lengths, a row a problem."""
    table = select(records, "heterogeneity").pivot_table(
        index=["spread", "seed"], columns="step", values=["steps", "gamma"]
    )
    frame = pd.DataFrame(
        {
            "gain": table["steps", "qm"] / table["steps", "am"],
            "gamma": table["gamma", "am"] / table["gamma", "qm"],
        }
    ).reset_index()
    return frame.assign(off=(frame["gain"] / frame["gamma"] - 1).abs())


@measure
def growth(records: pd.DataFrame, level: float) -> Estimate:
    """The least mean difference between a spread and the next smaller one."""
    table = pivot(gains(records), "spread", "gain")
    if len(table.columns) < 2:
        raise NotTested("a difference needs two spreads")
    long = pd.concat(
        pd.DataFrame({"pair": f"{a:g} to {b:g}", "seed": table.index, "more": table[b] - table[a]})
        for a, b in pairwise(table.columns)
    )
    return worst(mean("more"), over="pair", least=True)(long, level)  # type: ignore[return-value]


@measure
def off(records: pd.DataFrame, level: float) -> Estimate:
    """Largest relative distance of the gain in steps from that of the lengths."""
    return largest("off")(gains(records), level)  # type: ignore[return-value]


@measure
def flat(records: pd.DataFrame, level: float) -> Estimate:
    """Largest distance of the gain from 1 without spread."""
    rows = select(gains(records), spread=0.0)
    return largest("far")(rows.assign(far=(rows["gain"] - 1).abs()), level)  # type: ignore[return-value]


def log_gain(variant: str) -> Measuring:
    """Mean logarithm of the steps with the old step over those with the new, paired over seeds."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        table = pivot(select(records, "noise", variant=variant), "step", "steps", "qm", "am")
        return intervals.paired(np.log(table["qm"]), np.log(table["am"]), level=level)

    return take


def rare_of(books: int, column: str, weights: str = "optimal") -> Number:
    """A number of rare features."""
    return lambda records: float(
        select(records, "rare", books=books, weights=weights)[column].iloc[0]
    )


def times(bound: str, hook: str, than: str) -> Measuring:
    """Mean time of a backward pass with one exchange over that with another."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        part = select(records, "link")
        if "ms" not in part or part["ms"].isna().all():
            raise NotTested("no link could be shaped on the machine that ran it")
        table = pivot(select(part, bound=bound), "variant", "ms", than, hook)
        return intervals.ratio(table[than], table[hook], level=level)

    return take


def loss_less(than: str) -> Measuring:
    """Loss after equal time, less that of another exchange."""
    return paired("loss", variant="EF21", less=than, where={"experiment": "training"})


EXTRA = "not in the paper"
DERIVED = "not in the paper: derived here"

CLAIMS = study.claims(
    Claim(
        "C1a",
        "Breast cancer, 20 clients, Top-1: the new step is longer by 1.3638.",
        "L_QM/L_AM at most",
        "deviation of the ratio",
        at_most=1e-4,
        measure=computed(lambda r: abs(GAMMA(r) - 1.36379)),
        computed=True,
    ),
    Claim(
        "C1b",
        "It takes that many times fewer steps to ‖∇f‖² < 0.1.",
        "Figure 3: the gain in steps is that of the step",
        "relative deviation of the two ratios",
        at_most=0.1,
        measure=computed(lambda r: abs(STEPS(r) / GAMMA(r) - 1)),
        computed=True,
    ),
    Claim(
        "C1c",
        "The gain is the step's: weighting the clients adds nothing.",
        "Section 2.4",
        "difference in steps, EF21-W less EF21",
        at_most=0,
        measure=computed(lambda r: abs(theory_of("steps", "W")(r) - theory_of("steps", "am")(r))),
        computed=True,
    ),
    Claim(
        "C1d",
        "At the best multiple 2^k of each step the gain is gone.",
        EXTRA,
        "steps from the old over steps from the new",
        at_most=1.1,
        measure=computed(
            lambda r: least_of(r, "EF21", "steps", "qm") / least_of(r, "EF21", "steps")
        ),
        note="The algorithm is one and the same: what differs is where the grid lies.",
        computed=True,
    ),
    Claim(
        "C1e",
        "At its best multiple EF21 sends fewer bytes than plain descent at its best.",
        EXTRA,
        "bytes, EF21 over descent",
        at_most=1.0,
        measure=computed(lambda r: least_of(r, "EF21", "bytes") / least_of(r, "GD", "bytes")),
        computed=True,
    ),
    Claim(
        "C1f",
        "At its best multiple EF21 needs no more steps than classic error feedback.",
        EXTRA,
        "steps, EF21 over EF14",
        at_most=1.0,
        measure=computed(lambda r: least_of(r, "EF21", "steps") / least_of(r, "EF14", "steps")),
        computed=True,
    ),
    Claim(
        "C2a",
        "The gain grows with the spread of smoothness.",
        "Figure 3, L_var from 5.4e3 to 4.4e6",
        "gain in steps, difference to the next smaller spread",
        at_least=0.0,
        measure=growth,
    ),
    Claim(
        "C2b",
        "It is that of the step, within a tenth.",
        "Figure 3",
        "largest relative deviation",
        at_most=0.1,
        measure=off,
    ),
    Claim(
        "C2c",
        "Without spread there is none.",
        "Figure 3",
        "largest deviation of the gain from 1",
        at_most=0.0,
        measure=flat,
        note="L_QM and L_AM then differ by rounding.",
    ),
    Claim(
        "C3",
        "Cloning L = (1, 1, 1, 100) brings the quadratic mean below √2 L_AM.",
        "Example 2.1",
        "L_QM of seven clones over √2·25.75",
        at_most=1.0,
        measure=computed(
            lambda r: float((select(r, "clones")["qm"] / select(r, "clones")["limit"]).iloc[0])
        ),
        computed=True,
    ),
    Claim(
        "C4a",
        "With Top-1, EF21 and EF21-W are the same iterates.",
        "Section 2.4",
        "largest difference over 400 steps",
        at_most=1e-12,
        measure=computed(
            lambda r: float(select(r, "identity", compressor="topk")["difference"].iloc[0])
        ),
        computed=True,
    ),
    Claim(
        "C4b",
        "With rounding to powers of two they are not.",
        EXTRA,
        "largest difference",
        at_least=1e-6,
        measure=computed(
            lambda r: float(select(r, "identity", compressor="natural")["difference"].iloc[0])
        ),
        computed=True,
    ),
    Claim(
        "C5a",
        "Half of the clients taking part: the new step is faster.",
        "Figures 1 and 2",
        "log ratio of steps",
        at_least=0.0,
        measure=log_gain("EF21-PP"),
    ),
    Claim(
        "C5b",
        "Batches of eight: the new step is faster.",
        "Figures 1 and 2",
        "log ratio of steps",
        at_least=0.0,
        measure=log_gain("EF21-SGD"),
    ),
    Claim(
        "C6a",
        "Eight clients with features of their own: the step is nine times longer.",
        "Section 3.3: an order of magnitude",
        "rare-feature step over the new one",
        at_least=9.0,
        measure=computed(rare_of(0, "gain")),
        computed=True,
    ),
    Claim(
        "C6b",
        "Verses by book, words of at most two books: twice as long at least.",
        EXTRA,
        "gain",
        at_least=2.0,
        measure=computed(rare_of(2, "gain")),
        computed=True,
    ),
    Claim(
        "C6c",
        "With all words c/n is 1 and what is left is the effect of r < d.",
        DERIVED,
        "relative deviation from ξ's ratio",
        at_most=0.05,
        measure=computed(
            lambda r: abs(rare_of(66, "gain", "smoothness")(r) / rare_of(66, "xi ratio")(r) - 1)
        ),
        computed=True,
    ),
    Claim(
        "C6d",
        "Optimal weights are never worse than the usual ones.",
        DERIVED,
        "least ratio of steps",
        at_least=1.0,
        measure=computed(
            lambda r: min(
                rare_of(q, "gain")(r) / rare_of(q, "gain", w)(r)
                for q in (0, 2, 5, 66)
                for w in ("uniform", "smoothness")
            )
        ),
        computed=True,
    ),
    Claim(
        "C7a",
        "Ten million weights over 200 Mbit/s: a backward pass is eight times faster than with dense "
        "all-reduce.",
        EXTRA,
        "dense over EF21",
        at_least=8.0,
        measure=times("200 Mbit/s", "EF21", "dense"),
        note="At the quick scale the layer has 200,000 weights.",
    ),
    Claim(
        "C7b",
        "And than half precision, four times.",
        EXTRA,
        "fp16 over EF21",
        at_least=4.0,
        measure=times("200 Mbit/s", "EF21", "fp16"),
    ),
    Claim(
        "C7c",
        "On loopback the dense all-reduce is faster.",
        EXTRA,
        "dense over EF21",
        at_most=1.0,
        measure=times("loopback", "EF21", "dense"),
        note="Selecting takes one pass over memory, and a dense all-reduce of two processes several.",
    ),
    Claim(
        "C8a",
        "Two workers with five digits each, equal wall time over 200 Mbit/s: lower loss than PowerSGD of "
        "rank 1.",
        EXTRA,
        "loss, difference",
        at_most=0.0,
        measure=loss_less("PowerSGD 1"),
        note="Best of three rates each, without momentum. Gradients of two layers at batches of 64 are "
        "nearly of low rank: there PowerSGD is at home, while entries that EF21 has not sent yet are "
        "many steps old.",
    ),
    Claim(
        "C8b",
        "And than PowerSGD of rank 4.",
        EXTRA,
        "loss, difference",
        at_most=0.0,
        measure=loss_less("PowerSGD 4"),
    ),
    Claim(
        "C8c",
        "And than dense gradients.",
        EXTRA,
        "loss, difference",
        at_most=0.0,
        measure=loss_less("dense"),
    ),
)


def _draw_theory(records: pd.DataFrame, ax: Axes) -> None:
    model, known = biopsies()
    for step, label in (("qm", "old step"), ("am", "new step"), ("guarded", "guarded step")):
        history = model.solve(known, T=400, step=step).history
        ax.plot(history["grad_norm2"], label=f"EF21, {label}")
    ax.axhline(TARGET, color="0.6", linewidth=0.8)
    ax.set(yscale="log", xlabel="steps", ylabel="‖∇f‖²")
    ax.legend(frameon=False, fontsize=8)


def _draw_gain(records: pd.DataFrame, ax: Axes) -> None:
    table = gains(records)
    ax.plot(table["gamma"], table["gain"], "o", alpha=0.5)
    ends = [1, table["gamma"].max()]
    ax.plot(ends, ends, color="0.6", linewidth=0.8)
    ax.set(xlabel="new step over old step", ylabel="old steps over new steps")


def draw_link(records: pd.DataFrame, ax: Axes) -> None:
    from matplotlib.ticker import NullFormatter

    part = select(records, "link")
    if "ms" not in part or part["ms"].isna().all():
        ax.text(
            0.5, 0.5, "no link could be shaped", ha="center", va="center", transform=ax.transAxes
        )
        return
    table = part.pivot_table(index="variant", columns="bound", values="ms").loc[
        [h for h in HOOKS if h in set(part["variant"])]
    ]
    table.plot.barh(ax=ax, logx=True)
    ax.set(xlabel="ms for a backward pass", ylabel="", xlim=(1, None))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False, fontsize=8)


FIGURES = {"steps": _draw_theory, "gain": _draw_gain, "link": draw_link}
