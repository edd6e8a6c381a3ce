"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.measures import (
    Measuring,
    around,
    difference,
    least,
    mean,
    measure,
    share,
    slope,
)
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.recovering_bandits.experiments import study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
RATIO, REGRET = "long-term ratio 1 − O(1/√K)", "regret Õ(N√T)"


def planning(**wanted: Any) -> dict[str, Any]:
    """Rows of an experiment, as the other names below."""
    return {"experiment": "planning", **wanted}


def gain_over_static(K: int) -> Measuring:
    """Dollars a week, with the interval over products that the run itself made."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        row = select(records, "market", K=K).iloc[0]
        value, low, high = (float(row[f"static_{end}"]) for end in ("gain", "low", "high"))
        return around(value, low, high, 0.95, 200, "bootstrap")

    return take


@measure
def over_peer(records: pd.DataFrame, level: float) -> Estimate:
    """Share of the bound above that of UCB1 after as many periods."""
    T = int(select(records, "peer")["T"].iloc[0])
    made = difference("share", experiment="learning", less="peer", where={"T": T})(records, level)
    if isinstance(made, Exception):
        raise made
    return made


@measure
def over_oracle(records: pd.DataFrame, level: float) -> Estimate:
    """Share above the myopic policy that knows the curves, in the longest runs."""
    longest = int(select(records, "learning")["T"].max())
    made = mean("over_oracle", {"experiment": "learning", "T": longest})(records, level)
    if isinstance(made, Exception):
        raise made
    return made


CLAIMS = study.claims(
    Claim(
        "C1a",
        "The share that is lost falls at least like K^{−1/2}.",
        RATIO,
        "slope of log lost share over log K",
        at_most=-0.5,
        measure=slope("lost", "K", planning()),
    ),
    Claim(
        "C1b",
        "With four slots the timetable earns more than the arms that pay most now.",
        NONE,
        "difference of shares of the bound",
        at_least=0.0,
        measure=mean("over_myopic", planning(K=4)),
    ),
    Claim(
        "C1c",
        "With 64 as well.",
        NONE,
        "difference of shares of the bound",
        at_least=0.0,
        measure=mean("over_myopic", planning(K=64)),
    ),
    Claim(
        "C1d",
        "With 16 slots it earns 99 % of what any policy could.",
        RATIO,
        "value over upper bound",
        at_least=0.99,
        measure=mean("ratio", planning(K=16)),
    ),
    Claim(
        "C2a",
        "On promotions the timetable earns 99 % of the bound for all K.",
        NONE,
        "least value over upper bound",
        at_least=0.99,
        measure=least("ratio", {"experiment": "market"}),
        computed=True,
        note="Of the fitted curves; sampling error is not in it.",
    ),
    Claim(
        "C2b",
        "With ten slots it earns more than always the same ten categories.",
        NONE,
        "dollars a week, bootstrap over products",
        at_least=0.0,
        measure=gain_over_static(10),
        note="The timetable is held fixed; its own choice is not drawn anew.",
    ),
    Claim(
        "C2c",
        "With two as well.",
        NONE,
        "dollars a week, bootstrap over products",
        at_least=0.0,
        measure=gain_over_static(2),
        note="As C2b. Observational data, no causal claim.",
    ),
    Claim(
        "C3a",
        "Regret of learning grows at most like T^{0.6}.",
        REGRET,
        "slope of log regret over log T",
        at_most=0.6,
        measure=slope("regret", "T", {"experiment": "learning"}),
    ),
    Claim(
        "C3b",
        "It earns at least 15 points of the bound more than UCB1, which ignores recovery.",
        NONE,
        "difference of shares",
        at_least=0.15,
        measure=over_peer,
    ),
    Claim(
        "C3c",
        "In the end it passes the myopic policy that knows the curves.",
        NONE,
        "difference of shares, longest run",
        at_least=0.0,
        measure=over_oracle,
    ),
    Claim(
        "C3d",
        "The executed bound breaks at most as often as δ = 0.05.",
        REGRET,
        "share of runs",
        at_most=0.05,
        measure=share("broken", {"experiment": "honesty"}),
    ),
    Claim(
        "C4a",
        "On small instances the timetable comes within 1.5 % of the true optimum on average.",
        NONE,
        "share of the optimum",
        at_least=0.985,
        measure=mean("plan_share", {"experiment": "exact"}),
    ),
    Claim(
        "C4b",
        "And never below 85 %.",
        "at least a quarter, K = 1",
        "least share of the optimum",
        at_least=0.85,
        measure=least("plan_share", {"experiment": "exact"}),
    ),
    Claim(
        "C4c",
        "The optimum comes within 1.5 % of the bound on average.",
        NONE,
        "optimum over upper bound",
        at_least=0.985,
        measure=mean("bound_share", {"experiment": "exact"}),
    ),
)


def _draw_planning(records: pd.DataFrame, ax: Axes) -> None:
    names = ["ratio", "myopic", "static", "gamma"]
    cells = select(records, "planning").groupby("K")[names].mean()
    shown = {
        "ratio": ("timetable", PALETTE["ours"], "o-"),
        "myopic": ("pay most now", PALETTE["other"], "o-"),
        "static": ("always the same", PALETTE["third"], "o-"),
        "gamma": ("certain beforehand", PALETTE["quiet"], "o--"),
    }
    for name, (label, colour, style) in shown.items():
        ax.plot(cells.index, cells[name], style, color=colour, label=label)
    ax.set(xscale="log", xlabel="pulls a period K", ylabel="share of what any policy could earn")
    ax.legend(frameon=False)


def _draw_learning(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "learning").groupby("T")["share"].mean()
    ax.plot(cells.index, cells, "o-", color=PALETTE["ours"], label="learnt")
    theirs = select(records, "peer")
    for column, style, label in (
        ("myopic", "--", "myopic, curves known"),
        ("share", ":", "mabwiser UCB1"),
    ):
        ax.axhline(
            float(theirs[column].mean()), linestyle=style, color=PALETTE["other"], label=label
        )
    ax.set(xscale="log", xlabel="periods", ylabel="share of what any policy could earn")
    ax.legend(frameon=False)


FIGURES = {"planning": _draw_planning, "learning": _draw_learning}
