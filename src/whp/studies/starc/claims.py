"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.measures import largest, least, mean, share
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.starc.experiments import PEAKS, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
FIGURE = "Section 5, correlation of distances with regret"
SOUND = "Section 4, EPIC and DARD are not sound"
CORRELATION = {"experiment": "correlation"}
DIFFERENCE = "difference of rank correlations, mean over tables"


def on(change: str) -> dict[str, Any]:
    """Rows of one change of the environments' rewards."""
    return {"experiment": "environments", "change": change}


CLAIMS = study.claims(
    Claim(
        "C1a",
        "Distances by VAL go with the regret of the best policies better than EPIC's.",
        FIGURE,
        DIFFERENCE,
        at_least=0.0,
        measure=mean("val_over_epic", CORRELATION),
    ),
    Claim(
        "C1b",
        "EPIC's go with it far better than distances of the rewards as they are.",
        FIGURE,
        DIFFERENCE,
        at_least=0.2,
        measure=mean("epic_over_none", CORRELATION),
    ),
    Claim(
        "C1c",
        "The range distance goes with it better than VAL's.",
        NONE,
        DIFFERENCE,
        at_least=0.0,
        measure=mean("range_over_val", CORRELATION),
    ),
    Claim(
        "C2a",
        "Opposite wishes are near by EPIC.",
        SOUND,
        "EPIC's distance, of 2, with a hundredfold of rewards that cannot happen",
        at_most=0.006,
        measure=largest("epic", {"experiment": "fooled", "M": 100}),
        computed=True,
    ),
    Claim(
        "C2b",
        "And by DARD.",
        SOUND,
        "DARD's distance, of 2",
        at_most=0.006,
        measure=largest("dard", {"experiment": "fooled", "M": 100}),
        computed=True,
    ),
    Claim(
        "C2c",
        "While all return can be lost.",
        SOUND,
        "least share of the range of returns",
        at_least=1.0 - 1e-9,
        measure=least("lost", {"experiment": "fooled"}),
        computed=True,
    ),
    Claim(
        "C2d",
        "They are as far apart as can be by VAL.",
        SOUND,
        "least distance",
        at_least=2.0 - 1e-9,
        measure=least("val", {"experiment": "fooled"}),
        computed=True,
    ),
    Claim(
        "C3a",
        "No bound is broken on random tables.",
        NONE,
        "share of groups of ten tables with a broken bound",
        at_most=0.01,
        measure=share("broken", {"experiment": "bounds"}, at_least=1, each="any"),
    ),
    Claim(
        "C3b",
        "The worst case is that of a linear program.",
        NONE,
        "largest difference, as a share of the range",
        at_most=1e-6,
        measure=largest("off", {"experiment": "bounds"}),
        computed=True,
        note="HiGHS's own tolerance is 1e-7.",
        threshold_set="before",
    ),
    Claim(
        "C4a",
        "Shaping changes nothing in gymnasium's tables.",
        "Section 3",
        "largest distance",
        at_most=1e-9,
        measure=largest("val", on("shaped")),
        computed=True,
    ),
    Claim(
        "C4b",
        "The opposite reward is at 2.",
        "Section 3",
        "least distance",
        at_least=2 - 1e-9,
        measure=least("val", on("negated")),
        computed=True,
    ),
    Claim(
        "C4c",
        "A cost of .01 a step can lose next to nothing.",
        NONE,
        "largest share of the range that can be lost",
        at_most=0.05,
        measure=largest("worst", on("step cost")),
        computed=True,
        note="FrozenLake's own returns range over .18 alone, and a long walk costs that much.",
        threshold_set="before",
    ),
    Claim(
        "C5a",
        "A shaped reward of the pendulum is nearest.",
        "Section 5, Reacher",
        "distance",
        at_most=0.02,
        measure=mean("shaped", {"experiment": "swings"}),
    ),
    Claim(
        "C5b",
        "Shaped, energy, sparse, random, negative is the order in all runs.",
        "Section 5, Reacher",
        "share of runs",
        at_least=1.0,
        measure=share("in_order", {"experiment": "swings"}),
        note="The paper has MuJoCo's Reacher, whose rewards are others. A share of 1 has no interval that reaches it.",
        threshold_set="before",
    ),
)


def _draw_correlation(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "correlation")
    names = ("none", "epic", "dard", "minimal", "val", "range")
    means = [rows[f"{n}_optimal"].mean() for n in names]
    worst = [rows[f"{n}_worst"].mean() for n in names]
    ax.plot(names, means, "o-", color=PALETTE["ours"], label="with the best policies' regret")
    ax.plot(names, worst, "s--", color=PALETTE["other"], label="with the worst regret")
    ax.set(ylabel="rank correlation, mean over tables", ylim=(0, 1))
    ax.legend(frameon=False)


def _draw_fooled(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "fooled").sort_values("M")
    for name, colour in (("val", "ours"), ("epic", "other"), ("dard", "third")):
        ax.plot(rows["M"], rows[name], "o-", color=PALETTE[colour], label=name.upper())
    ax.plot(rows["M"], rows["lost"], ":", color=PALETTE["truth"], label="share that can be lost")
    ax.set(xscale="log", yscale="log", xlabel="size of rewards that cannot happen")
    ax.set_ylabel("distance")
    ax.legend(frameon=False)


def _draw_swings(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "swings")
    ax.bar(list(PEAKS), [rows[n].mean() for n in PEAKS], color=PALETTE["ours"])
    ax.set_ylabel("distance from the plain reward")


FIGURES = {"correlation": _draw_correlation, "fooled": _draw_fooled, "swings": _draw_swings}
