"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.experiment.measures import (
    Measuring,
    largest,
    quantile,
    ratio,
    share,
    slope,
    statistic,
    worst,
)
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.lp_sensitivity_sampling.experiments import study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "the paper has no experiment"
RATE = "abstract: 𝔖^{2/p} for sensitivity sampling, d for Lewis weights and root leverage, p < 2"
EXTRA = "not in the paper: derived here"
TOTAL: dict[str, Any] = {"experiment": "total"}
HONESTY: dict[str, Any] = {"experiment": "honesty"}
BOUNDS = ["bound", "norm"]


def excess(data: str, p: float, ours: str, theirs: str) -> Measuring:
    """Geometric mean over seeds of one scheme's excess cost over another's."""
    where = {"experiment": "regression", "data": data, "p": p}
    return ratio("excess", scheme=ours, over=theirs, where=where)


def full_rank(*schemes: str) -> Measuring:
    """Share of draws that keep the rank, of all these schemes."""
    where = {"experiment": "two blocks", "scheme": list(schemes)}
    return share("full_rank", where, each="all")


def gap_over_excess(p: float) -> Measuring:
    """Median of the certain gap over the true excess, of Lewis rows."""
    where = {"experiment": "regression", "p": p, "scheme": "lewis"}
    return statistic(lambda rows: float(np.median(rows["gap"] / rows["excess"])), where)


SLOPE = slope("distortion", "rows", {"experiment": "sizes"})

CLAIMS = study.claims(
    Claim(
        "C1a",
        "On diabetes the total sensitivities are 4.287, 7.135 and 22.374 for p = 1, 1.5 and 3.",
        NONE,
        "largest relative deviation from them",
        at_most=1e-3,
        measure=largest("deviation", TOTAL),
        computed=True,
    ),
    Claim(
        "C1b",
        "They are far below the worst case, d or d^{p/2}.",
        "motivation of the paper",
        "largest share of the worst case",
        at_most=0.7,
        measure=largest("share_of_worst", TOTAL),
        computed=True,
    ),
    Claim(
        "C1c",
        "With the true total at p = 1 the certified rows fall from 6,108 to 2,381.",
        EXTRA,
        "ratio of the rows",
        at_most=0.4,
        measure=largest("rows_share", TOTAL | {"p": 1.0}),
        computed=True,
    ),
    Claim(
        "C2a",
        "On diamonds at p = 3 uniform rows cost far more than Lewis rows.",
        NONE,
        "excess cost, uniform over Lewis",
        at_least=10.0,
        measure=excess("diamonds", 3.0, "uniform", "lewis"),
    ),
    Claim(
        "C2b",
        "At p = 1.5 as well.",
        NONE,
        "excess cost, uniform over Lewis",
        at_least=1.0,
        measure=excess("diamonds", 1.5, "uniform", "lewis"),
    ),
    Claim(
        "C2c",
        "On randhie at p = 3 as well.",
        NONE,
        "excess cost, uniform over Lewis",
        at_least=1.0,
        measure=excess("randhie", 3.0, "uniform", "lewis"),
    ),
    Claim(
        "C2d",
        "On randhie at p = 1 as well.",
        NONE,
        "excess cost, uniform over Lewis",
        at_least=1.0,
        measure=excess("randhie", 1.0, "uniform", "lewis"),
    ),
    Claim(
        "C2e",
        "At p = 3 leverage scores are worse than Lewis weights.",
        RATE,
        "excess cost, leverage over Lewis",
        at_least=1.0,
        measure=excess("diamonds", 3.0, "leverage", "lewis"),
        note="Score samplers differ little here, as expected.",
    ),
    Claim(
        "C3",
        "Root leverage in four rounds has a distortion within 1.25 of that of Lewis weights.",
        RATE,
        "distortion, root leverage over Lewis",
        at_most=1.25,
        measure=ratio(
            "distortion",
            scheme="root-leverage",
            over="lewis",
            where={"experiment": "regression", "data": "diamonds", "p": 1.5},
        ),
    ),
    Claim(
        "C4a",
        "On two blocks, 300 rows by ℓ₁ sensitivity lose the rank of the first.",
        "tightness of 𝔖^{2/p}",
        "share of draws of full rank",
        at_most=0.05,
        measure=full_rank("sensitivity"),
    ),
    Claim(
        "C4b",
        "Lewis weights and sensitivity plus leverage keep it.",
        RATE + "; Munteanu & Omlor 2024",
        "share of draws of full rank",
        at_least=0.9,
        measure=full_rank("lewis", "augmented"),
    ),
    Claim(
        "C5a",
        "The distortion falls at least like m^{−0.4}.",
        RATE,
        "slope of log distortion over log m",
        at_most=-0.4,
        measure=SLOPE,
    ),
    Claim(
        "C5b",
        "It falls no faster than m^{−0.6}.",
        RATE,
        "slope of log distortion over log m",
        at_least=-0.6,
        measure=SLOPE,
    ),
    Claim(
        "C6a",
        "The explicit bounds break at most as often as δ = 0.05 allows.",
        EXTRA,
        "share of bounds broken, worst bound",
        at_most=0.05,
        measure=worst(share("broken", HONESTY), over=BOUNDS),
    ),
    Claim(
        "C6b",
        "They are loose by at least 3.",
        EXTRA,
        "bound over distortion, median, tightest bound",
        at_least=3.0,
        measure=worst(quantile("looseness", 0.5, HONESTY), over=BOUNDS, least=True),
    ),
    Claim(
        "C6c",
        "They are loose by at most 12.",
        EXTRA,
        "bound over distortion, median, loosest bound",
        at_most=12.0,
        measure=worst(quantile("looseness", 0.5, HONESTY), over=BOUNDS),
        note="The limit was meant for the 95 % quantile of the distortion; measured is its median.",
    ),
    Claim(
        "C7a",
        "At p = 3 the certain gap is at most twice the true excess.",
        EXTRA,
        "gap over excess, median",
        at_most=2.0,
        measure=gap_over_excess(3.0),
    ),
    Claim(
        "C7b",
        "At p = 1.5 as well.",
        EXTRA,
        "gap over excess, median",
        at_most=2.0,
        measure=gap_over_excess(1.5),
    ),
    Claim(
        "C7c",
        "At p = 1 from 1,000 rows of randhie the gap is below a tenth.",
        EXTRA,
        "gap, median",
        at_most=0.1,
        measure=quantile(
            "gap", 0.5, {"experiment": "regression", "data": "randhie", "p": 1.0, "scheme": "lewis"}
        ),
        threshold_set="after",
    ),
)


def _draw_excess(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "regression", data="diamonds")
    for name, group in part.groupby("scheme"):
        cells = group.groupby("p")["excess"].median()
        ax.plot(cells.index, cells, "o-", label=str(name))
    ax.set(yscale="log", xlabel="p", ylabel="excess cost on all 53,940 diamonds, median")
    ax.legend(frameon=False)


def _draw_sizes(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "sizes").groupby("rows")["distortion"].median()
    ax.plot(cells.index, cells, "o-", color=PALETTE["ours"], label="randhie, p = 1.5")
    line = cells.iloc[0] * np.sqrt(cells.index[0] / cells.index)
    ax.plot(cells.index, line, "--", color=PALETTE["quiet"], label="1/√m")
    ax.set(xscale="log", yscale="log", xlabel="rows kept", ylabel="worst distortion found")
    ax.legend(frameon=False)


FIGURES = {"excess": _draw_excess, "sizes": _draw_sizes}
