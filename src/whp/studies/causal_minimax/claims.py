"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.measures import largest as greatest
from whp.experiment.measures import least, mean, rate, ratio
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.causal_minimax.experiments import study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
THEOREM = "Theorem 1: the whole stable set is best where the graph condition holds"
SYNTHETIC = "synthetic data: smallest maximal error, and the ranking by estimated worst cases"
BASELINES = ("ERM", "ICP", "IRM", "vREx", "anchor 1.5", "anchor 7", "anchor 50")
GIVEN = "Expected by the specification before any run of ours."


def of(experiment: str, **wanted: Any) -> dict[str, Any]:
    """Rows of an experiment."""
    return {"experiment": experiment, **wanted}


CLAIMS = study.claims(
    Claim(
        "C1a",
        "Where the graph condition holds, no subset beats the whole stable set, with one or two mutable nodes.",
        THEOREM,
        "share of random models with a violation above 1e-10",
        at_most=0.005,
        measure=rate("violated", "holds", of("theorem")),
    ),
    Claim(
        "C1b",
        "Where it fails, the whole set is beaten in at least one model of five.",
        NONE,
        "share of random models",
        at_least=0.2,
        measure=rate("beaten", "fails", of("theorem")),
    ),
    Claim(
        "C2",
        "In the surprising example the whole stable set costs .178, nothing at all .160.",
        "the whole stable set is not always best",
        "ratio of worst cases",
        at_least=1.1,
        measure=least("ratio", of("surprise")),
        computed=True,
    ),
    Claim(
        "C3a",
        "Members of a class predict alike.",
        "equivalence of subsets",
        "largest difference of predictions",
        at_most=1e-12,
        measure=greatest("difference", of("equivalence")),
        computed=True,
    ),
    Claim(
        "C3b",
        "The simulation's graph has 45 classes of 256 subsets, chains n + 1, stars 2ⁿ.",
        "equivalence classes of the simulation, and their growth",
        "share of graphs",
        at_least=1.0,
        measure=least("right", of("classes")),
        computed=True,
    ),
    Claim(
        "C4a",
        "The estimated ranking of worst cases goes with the largest error in unseen environments.",
        SYNTHETIC,
        "Spearman's correlation over 45 classes",
        at_least=0.0,
        measure=mean("rank", of("synthetic")),
        note=GIVEN,
    ),
    *(
        Claim(
            f"C4b-{name.replace(' ', '-')}",
            f"The chosen subset's largest error is below that of {name}.",
            SYNTHETIC,
            "ratio of largest errors",
            at_most=1.0,
            measure=ratio("largest_error", method="ours", over=name, where=of("synthetic")),
            note=GIVEN
            + " Baselines are linear, but for ERM and ICP, which take the same boosting.",
        )
        for name in BASELINES
    ),
    Claim(
        "C5a",
        "On {arr} of the flights, setting speed in place of observing it lowers the worst case by 15 %.",
        NONE,
        "share saved of ERM's worst case",
        at_least=0.15,
        measure=mean("gain", of("flights", subset="arr")),
    ),
    Claim(
        "C5b",
        "On {hour, arr} too.",
        NONE,
        "share saved of ERM's worst case",
        at_least=0.15,
        measure=mean("gain", of("flights", subset="hour, arr")),
    ),
    Claim(
        "C5c",
        "Of random mechanisms of speed, by weighting real rows, none exceeds the limit U.",
        NONE,
        "share of mechanisms above it",
        at_most=0.02,
        measure=rate("exceed", "mechanisms", of("flights", subset="chosen")),
    ),
    Claim(
        "C6",
        "Months and carriers change more than speed, and the certificate says void.",
        NONE,
        "least share of void verdicts",
        at_least=1.0,
        measure=least("void", of("natural")),
        computed=True,
    ),
    Claim(
        "C6b",
        "The largest risk in a month is above the worst case over mechanisms of speed.",
        NONE,
        "excess",
        at_least=0.0,
        measure=mean("above", of("natural", env="month")),
    ),
)


def _draw_flights(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "flights")
    rows = rows[rows["subset"] != "chosen"].groupby("subset", sort=False)[["ours", "erm"]].mean()
    rows = rows.sort_values("ours")
    x = np.arange(len(rows))
    ax.bar(x - 0.2, rows["ours"], 0.4, color=PALETTE["ours"], label="speed set")
    ax.bar(x + 0.2, rows["erm"], 0.4, color=PALETTE["other"], label="speed observed (ERM)")
    ax.set_xticks(x, list(rows.index), rotation=30, ha="right", fontsize="small")
    ax.set(ylabel="worst-case risk", xlabel="stable variables")
    ax.legend(frameon=False)


def _draw_synthetic(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "synthetic").groupby("method")["largest_error"].median().sort_values()
    ax.barh(
        np.arange(len(rows)),
        rows,
        color=[PALETTE["ours" if m == "ours" else "quiet"] for m in rows.index],
    )
    ax.set_yticks(np.arange(len(rows)), list(rows.index))
    ax.set(xscale="log", xlabel="largest error in an unseen environment, median over repeats")


FIGURES = {"flights": _draw_flights, "synthetic": _draw_synthetic}
