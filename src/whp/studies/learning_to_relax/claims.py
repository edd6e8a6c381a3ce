"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.measures import mean, measure, ratio
from whp.experiment.study import Claim, select
from whp.intervals import mean as mean_of
from whp.result import PALETTE
from whp.studies.learning_to_relax.experiments import LENGTHS, study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]


def shifts(variance: str) -> dict[str, Any]:
    """Rows of the synthetic stream."""
    return {"experiment": "shifts", "variance": variance}


@measure
def growth(records: pd.DataFrame, level: float) -> Estimate:
    """Slope of log regret over log T, a run each."""
    part = select(records, "shifts", variance="high", learner="tsallis")
    lengths = [n for n in LENGTHS if f"regret_{n}" in part and part[f"regret_{n}"].notna().all()]
    regrets = [[max(float(row[f"regret_{n}"]), 1.0) for n in lengths] for _, row in part.iterrows()]
    return mean_of([np.polyfit(np.log(lengths), np.log(r), 1)[0] for r in regrets], level=level)


NONE = "not in the paper"
FIG2, FIG3, FIG4 = (
    "Figure 2: Tsallis-INF close to ω = 1.8 and 1.6",
    "Figure 3: ChebCB below every fixed ω",
    "Figure 4, heat equation",
)

OVER = "iterations over those of the best fixed ω"

CLAIMS = study.claims(
    Claim(
        "C1a",
        "With shifts of high variance Tsallis-INF comes within a quarter of the best fixed ω.",
        FIG2,
        OVER,
        at_most=1.25,
        measure=ratio("mean", learner="tsallis", over="best fixed ω", where=shifts("high")),
    ),
    Claim(
        "C1b",
        "With low variance as well.",
        FIG2,
        OVER,
        at_most=1.25,
        measure=ratio("mean", learner="tsallis", over="best fixed ω", where=shifts("low")),
    ),
    Claim(
        "C1c",
        "In the second half it is within a tenth.",
        FIG2,
        OVER,
        at_most=1.1,
        measure=mean("late_over_best", {**shifts("high"), "learner": "tsallis"}),
    ),
    Claim(
        "C1d",
        "It needs a quarter of the iterations of ω = 1.",
        FIG2,
        "iterations over those of ω = 1",
        at_most=0.25,
        measure=ratio("mean", learner="tsallis", over="ω = 1", where=shifts("high")),
    ),
    Claim(
        "C1e",
        "The textbook's scaling by the largest cost is worse by a third.",
        NONE,
        "iterations over those of the running scale",
        at_least=1.33,
        measure=ratio("mean", learner="tsallis worst case", over="tsallis", where=shifts("high")),
    ),
    Claim(
        "C2a",
        "ChebCB needs fewer iterations than the best fixed ω, high variance.",
        FIG3,
        OVER,
        at_most=1.0,
        measure=ratio("mean", learner="chebcb", over="best fixed ω", where=shifts("high")),
    ),
    Claim(
        "C2b",
        "With low variance as well.",
        FIG3,
        OVER,
        at_most=1.0,
        measure=ratio("mean", learner="chebcb", over="best fixed ω", where=shifts("low")),
    ),
    Claim(
        "C2c",
        "Bins of the context suffice for that.",
        FIG3,
        OVER,
        at_most=1.0,
        measure=ratio("mean", learner="tsallis-cb", over="best fixed ω", where=shifts("high")),
    ),
    Claim(
        "C2d",
        "ChebCB is no worse than Young's formula with a known β.",
        NONE,
        "iterations over Young's",
        at_most=1.0,
        measure=ratio("mean", learner="chebcb", over="young", where=shifts("high")),
        note="A strong rival: one eigenvalue, known beforehand, and no learning.",
    ),
    Claim(
        "C3a",
        "On the heat equation ChebCB beats ω = 1 by a fifth.",
        FIG4,
        "SSOR-CG iterations over those of ω = 1",
        at_most=0.8,
        measure=ratio("total", learner="chebcb", over="1.0", where={"experiment": "heat"}),
    ),
    Claim(
        "C3b",
        "It beats ω = 1.4, the best fixed one.",
        FIG4,
        "SSOR-CG iterations over those of ω = 1.4",
        at_most=1.0,
        measure=ratio("total", learner="chebcb", over="1.4", where={"experiment": "heat"}),
    ),
    Claim(
        "C3c",
        "Tsallis-INF is within a tenth of ω = 1.4.",
        FIG4,
        "SSOR-CG iterations over those of ω = 1.4",
        at_most=1.1,
        measure=ratio("total", learner="tsallis", over="1.4", where={"experiment": "heat"}),
    ),
    Claim(
        "C4a",
        "The executed bound is above the mean regret.",
        "Theorem for Tsallis-INF",
        "mean of regret less bound",
        at_most=0.0,
        measure=mean("above", {"experiment": "honesty"}),
    ),
    Claim(
        "C5a",
        "Regret grows more slowly than the number of systems.",
        "O(√T)",
        "slope of log regret over log T",
        at_most=0.75,
        measure=growth,
    ),
    Claim(
        "C6a",
        "At nx = 25 ChebCB saves time against ω = 1.",
        "wall clock",
        "ratio of seconds",
        at_most=1.0,
        measure=ratio(
            "seconds", who="chebcb", over="ω = 1", where={"experiment": "clock", "nx": 25}
        ),
    ),
    Claim(
        "C6b",
        "At nx = 50 it is faster than a sparse LU of every system.",
        "wall clock",
        "ratio of seconds",
        at_most=1.0,
        measure=ratio(
            "seconds", who="chebcb", over="sparse LU", where={"experiment": "clock", "nx": 50}
        ),
    ),
    Claim(
        "C6c",
        "At nx = 50 it is faster than multigrid with a new hierarchy for every system.",
        NONE,
        "ratio of seconds",
        at_most=1.0,
        measure=ratio(
            "seconds", who="chebcb", over="multigrid", where={"experiment": "clock", "nx": 50}
        ),
    ),
    Claim(
        "C7a",
        "On the graph of digits, which is not consistently ordered, ChebCB beats every fixed ω.",
        NONE,
        "SOR iterations over those of the best fixed ω",
        at_most=1.0,
        measure=ratio(
            "mean", learner="chebcb", over="best fixed ω", where={"experiment": "digits"}
        ),
        note="300 systems pay for trying 20 arms, some of which cost thousands of sweeps.",
    ),
    Claim(
        "C7b",
        "Tsallis-INF comes within a quarter of it.",
        NONE,
        "SOR iterations over those of the best fixed ω",
        at_most=1.25,
        measure=ratio(
            "mean", learner="tsallis", over="best fixed ω", where={"experiment": "digits"}
        ),
        note="300 systems are few for 20 arms.",
    ),
)


def _bars(records: pd.DataFrame, ax: Axes, experiment: str, **wanted: Any) -> None:
    cells = select(records, experiment, **wanted).groupby("learner")["mean"].mean().sort_values()
    learnt = ("tsallis", "tsallis-cb", "chebcb")
    colours = [PALETTE["ours" if name in learnt else "quiet"] for name in cells.index]
    ax.barh(list(cells.index), cells, color=colours)
    ax.set(xlabel="mean iterations a system")


def _draw_shifts(records: pd.DataFrame, ax: Axes) -> None:
    _bars(records, ax, "shifts", variance="high")


def _draw_digits(records: pd.DataFrame, ax: Axes) -> None:
    _bars(records, ax, "digits")


def _draw_clock(records: pd.DataFrame, ax: Axes) -> None:
    shades = ("ours", "third", "quiet", "other", "fourth")
    groups = select(records, "clock").groupby("who")
    for (who, group), shade in zip(groups, shades, strict=False):
        cells = group.groupby("nx")["seconds"].mean()
        unknowns = (np.asarray(cells.index) - 1) ** 2
        ax.plot(unknowns, cells, "o-", color=PALETTE[shade], label=str(who))
    ax.set(xscale="log", yscale="log", xlabel="unknowns", ylabel="seconds for the same steps")
    ax.legend(frameon=False)


FIGURES = {"shifts": _draw_shifts, "digits": _draw_digits, "clock": _draw_clock}
