"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.experiment.measures import largest, mean, measure, paired, share
from whp.experiment.study import Claim, NotTested, select
from whp.intervals import paired as difference
from whp.result import PALETTE
from whp.studies.hierarchical_communities.experiments import GRIDS, THRESHOLDS, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

FIGURE = "figure on the binary tree model, no number read"
NONE = "not in the paper: derived here"
MORE = 1e-9  # strictly more than nothing
DIFFERENCE = "AMI at depth 1, difference to top-down"
FIRST_STEP = "The theorem supposes an optimal first step, which plain spectral clustering is not."
ONE_GRAPH = "One graph: the interval speaks of the randomness of the method alone."
VOID = (
    "Since the test of branches looks at triangles it is void here: pupils' contacts close more of "
    "them than independent edges do, so no branch is marked."
)
PRIMARY: dict[str, Any] = {"experiment": "school", "data": "primary"}
FOUR = PRIMARY | {"least": 4}


@measure
def _sharper(records: pd.DataFrame, level: float) -> Estimate:
    """Exact recovery above the threshold less that below, at the largest less the smallest n."""
    rows = select(records, "threshold")
    above = rows["divergence"] > 1
    signed = rows["exact"].astype(float) * np.where(above, 1 / 4, -1 / 3)  # a's on each side of 1
    table = rows.assign(signed=signed).pivot_table(
        index="seed", columns="n", values="signed", aggfunc="sum"
    )
    if len(table.columns) < 2:
        raise NotTested(f"a comparison needs two values of n; there was {table.columns[0]}")
    last, first = table.columns.max(), table.columns.min()
    return difference(table[last], table[first], level=level)


def _top(way: str, **where: Any) -> Any:
    return paired("top", way=way, less="top-down", where=where)


CLAIMS = study.claims(
    Claim(
        "C1a",
        "Where p_0 = 0.018 is close to p_1 = 0.02 and leaves are dense, bottom-up as published beats top-down at depth 1.",
        FIGURE,
        DIFFERENCE,
        at_least=MORE,
        measure=_top("plain", experiment="close root", p0=0.018),
    ),
    Claim(
        "C1b",
        "So does bottom-up with refined leaves.",
        FIGURE,
        DIFFERENCE,
        at_least=MORE,
        measure=_top("refined", experiment="close root", p0=0.018),
    ),
    Claim(
        "C1c",
        "The same at p_0 = 0.014, refined.",
        FIGURE,
        DIFFERENCE,
        at_least=MORE,
        measure=_top("refined", experiment="close root", p0=0.014),
    ),
    Claim(
        "C2a",
        "Geometric densities, β = 0.5, a = 12: bottom-up as published is not worse than top-down.",
        FIGURE,
        DIFFERENCE,
        at_least=0.0,
        measure=_top("plain", experiment="geometric", beta=0.5),
        note=FIRST_STEP,
    ),
    Claim(
        "C2b",
        "Nor is bottom-up with refined leaves.",
        NONE,
        DIFFERENCE,
        at_least=0.0,
        measure=_top("refined", experiment="geometric", beta=0.5),
    ),
    Claim(
        "C2c",
        "β = 0.3, a = 8: bottom-up as published is not worse than top-down.",
        FIGURE,
        DIFFERENCE,
        at_least=0.0,
        measure=_top("plain", experiment="geometric", beta=0.3),
        note=FIRST_STEP,
    ),
    Claim(
        "C2d",
        "Nor is bottom-up with refined leaves.",
        NONE,
        DIFFERENCE,
        at_least=0.0,
        measure=_top("refined", experiment="geometric", beta=0.3),
    ),
    Claim(
        "C3a",
        "Below the threshold, I_1 < 0.7, depth 1 is seldom recovered without error.",
        "Theorem 3: whp never for I < 1",
        "share of graphs",
        at_most=0.2,
        measure=share("exact", {"experiment": "threshold", "a": [4, 6]}),
    ),
    Claim(
        "C3b",
        "Above it, I_1 > 1.6, nearly always.",
        "Theorem 3: whp for I > 1",
        "share of graphs",
        at_least=0.8,
        measure=share("exact", {"experiment": "threshold", "a": [15, 18]}),
    ),
    Claim(
        "C3c",
        "The switch at I_1 = 1 is sharper for larger n.",
        "Theorem 3 is asymptotic",
        "exact recovery above less below 1, largest less smallest n",
        at_least=0.0,
        measure=_sharper,
        threshold_set="after",
    ),
    Claim(
        "C4a",
        "Bottom-up trees have no inversion on any graph.",
        "stated",
        "most inversions in a tree",
        at_most=0.0,
        measure=largest("inversions", {"experiment": ["ternary", "grid"], "way": "refined"}),
        computed=True,
    ),
    Claim(
        "C4b",
        "Top-down trees of the largest power grid have some.",
        "stated without a number",
        "mean inversions",
        at_least=1.0,
        measure=mean("inversions", {"experiment": "grid", "data": GRIDS[-1], "way": "top-down"}),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    Claim(
        "C4c",
        "And so has the smallest, case300.",
        "stated without a number",
        "mean inversions",
        at_least=1.0,
        measure=mean("inversions", {"experiment": "grid", "data": GRIDS[0], "way": "top-down"}),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    Claim(
        "C4d",
        "Top-down inverts on ternary trees.",
        "stated without a number",
        "share of graphs with an inversion",
        at_least=0.1,
        measure=share("inversions", {"experiment": "ternary", "way": "top-down"}, at_least=1),
        threshold_set="after",
    ),
    Claim(
        "C5a",
        "Primary school, four contacts: the communities are the ten classes.",
        "other schools",
        "AMI",
        at_least=0.99,
        measure=mean("leaf", FOUR | {"way": "refined"}),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    Claim(
        "C5b",
        "Cut into five they are the grades.",
        "other schools",
        "AMI",
        at_least=0.99,
        measure=mean("grade", FOUR | {"way": "refined"}),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    Claim(
        "C5c",
        "No depth of the top-down tree gives the grades as well.",
        "other schools",
        "AMI, difference to the best depth",
        at_least=MORE,
        measure=paired("grade", way="refined", less="top-down", where=FOUR),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    *(
        Claim(
            f"C5{letter}",
            f"Classes at {least} contact{'s' * (least > 1)} or more: not worse than Paris told their number.",
            NONE,
            "AMI, difference to Paris",
            at_least=0.0,
            measure=paired("leaf", way="refined", less="Paris", where=PRIMARY | {"least": least}),
            threshold_set="after",
            note=ONE_GRAPH,
        )
        for letter, least in zip("defg", THRESHOLDS, strict=True)
    ),
    Claim(
        "C5h",
        "Grades at one contact or more: not worse than LouvainIteration.",
        NONE,
        "AMI, difference to LouvainIteration",
        at_least=0.0,
        measure=paired(
            "grade", way="refined", less="LouvainIteration", where=PRIMARY | {"least": 1}
        ),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    Claim(
        "C5i",
        "High school: classes not worse than by top-down.",
        "high-school contacts of another year",
        "AMI, difference to top-down",
        at_least=0.0,
        measure=paired(
            "leaf", way="refined", less="top-down", where={"experiment": "school", "data": "thiers"}
        ),
        threshold_set="after",
        note=ONE_GRAPH,
    ),
    Claim(
        "C6a",
        "All ten classes of the primary school are supported by held-out contacts.",
        NONE,
        "supported leaves",
        at_least=10.0,
        measure=mean("leaves_supported", {"experiment": "school support"}),
        threshold_set="after",
        note=f"{ONE_GRAPH} {VOID}",
    ),
    Claim(
        "C6b",
        "And at least three of the eight inner branches.",
        NONE,
        "supported inner branches",
        at_least=3.0,
        measure=mean("inner_supported", {"experiment": "school support"}),
        threshold_set="after",
        note=f"{ONE_GRAPH} {VOID}",
    ),
    Claim(
        "C6c",
        "On the tree model the whole tree is certified.",
        NONE,
        "share of graphs whose certificate holds",
        at_least=0.9,
        measure=share(
            "verdict_supported-tree", {"experiment": "support", "way": "estimated"}, equals="holds"
        ),
        threshold_set="after",
    ),
    Claim(
        "C6d",
        "Not so when twelve communities are asked for where there are eight.",
        NONE,
        "share of graphs whose certificate holds",
        at_most=0.1,
        measure=share(
            "verdict_supported-tree", {"experiment": "support", "way": "forced"}, equals="holds"
        ),
        threshold_set="after",
    ),
)


def _draw_threshold(records: pd.DataFrame, ax: Axes) -> None:
    for n, group in select(records, "threshold").groupby("n"):
        cells = group["exact"].astype(float).groupby(group["divergence"].round(6)).mean()
        ax.plot(cells.index, cells, "o-", label=f"n = {int(n):,}")
    ax.axvline(1, color="0.5", linestyle="--", linewidth=1)
    ax.set(xlabel="Chernoff-Hellinger divergence I₁", ylabel="share recovered exactly at depth 1")
    ax.legend(frameon=False)


def _draw_school(records: pd.DataFrame, ax: Axes) -> None:
    for i, (way, group) in enumerate(select(records, "school", data="primary").groupby("way")):
        cells = group.groupby("least")["leaf"].mean()
        mark = "o" if i < len(PALETTE) else "s"  # colours come round again
        ax.plot(cells.index, cells, f"{mark}-", label=str(way))
    ax.set(xscale="log", xlabel="contacts that make an edge", ylabel="AMI with the ten classes")
    ax.legend(frameon=False, fontsize=8)


FIGURES = {"threshold": _draw_threshold, "primary school": _draw_school}
