"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.experiment.measures import largest as greatest
from whp.experiment.measures import least, mean, rate, share, slope
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.information_censorship.experiments import study

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
ATTACK = "decomposition leaks more than asking directly"
FILTERS = "filters of single answers do not bound what combinations leak"


def of(experiment: str, **wanted: Any) -> dict[str, Any]:
    """Rows of an experiment."""
    return {"experiment": experiment, **wanted}


CLAIMS = study.claims(
    Claim(
        "C1",
        "The refused question leaks nothing, innocent ones together above a tenth of H on every data set.",
        ATTACK,
        "least share of H",
        at_least=0.1,
        measure=least("share", of("decomposition")),
        computed=True,
        note="Exact on the networks and the elements; of 20,000 newborns the plug-in leakage of the rows. The paper's questions "
        "and models are not at hand; the threshold is ours.",
    ),
    Claim(
        "C1b",
        "Smoking, X-ray and breath leak two thirds of what lung cancer is.",
        NONE,
        "share of H",
        at_least=2 / 3,
        measure=least("share", of("decomposition", data="asia")),
        computed=True,
    ),
    Claim(
        "C2a",
        "On every data set the ideal filter of single answers leaks above the budget.",
        FILTERS,
        "least over data sets and budgets of leakage over ε",
        at_least=1.0,
        measure=least("over", of("filters")),
        computed=True,
        note="It does on the parity, where every answer passes. On the clinic, the elements and the newborns answers repeat each "
        "other: a filter that knows their exact leakage and allows ε/k each refuses some of them and keeps to the budget.",
    ),
    Claim(
        "C2b",
        "Two bits of which the parity is refused pass any filter and leak all of it.",
        FILTERS,
        "least leakage over ε",
        at_least=1.9,
        measure=least("over", of("filters", data="parity")),
        computed=True,
    ),
    Claim(
        "C3a",
        "One answer leaks p times as much, to rounding, on random tables.",
        "randomised response",
        "share of tables",
        at_most=0.005,
        measure=rate("once", "tables", of("bounds")),
    ),
    Claim(
        "C3b",
        "No table leaks more through erasure than (1 − (1 − p)^k) H.",
        NONE,
        "share of tables",
        at_most=0.005,
        measure=rate("erasure", "tables", of("bounds")),
    ),
    Claim(
        "C3c",
        "None leaks more through swapping than its bound.",
        NONE,
        "share of tables",
        at_most=0.005,
        measure=rate("swapping", "tables", of("bounds")),
    ),
    Claim(
        "C3d",
        "Single leakages with dependence bound the joint one, as published, for all answers or some.",
        "Theorem 5.3, our reading",
        "share of tables where it is broken",
        at_most=0.005,
        measure=rate("published", "tables", of("bounds")),
        note="Half of the tables refuse some answers only, for which the form without the third term is false; where all answers "
        "are refused it is a theorem.",
    ),
    Claim(
        "C3e",
        "With the third term they do.",
        NONE,
        "share of tables where it is broken",
        at_most=0.005,
        measure=rate("composition", "tables", of("bounds")),
    ),
    Claim(
        "C4a",
        "Honest users are never more accurate under a smaller budget.",
        "safety and utility trade off",
        "share of curves that fall",
        at_most=0.0,
        measure=greatest("falls", of("price")),
        computed=True,
    ),
    Claim(
        "C4b",
        "They remain as uncertain as the trade-off says.",
        "Theorems 5.6 and 5.7, our constants",
        "share of budgets where it fails",
        at_most=0.0,
        measure=greatest("broken", of("price")),
        computed=True,
    ),
    Claim(
        "C4c",
        "At equal leakage, swapping answers serves better than silence on multiple choice.",
        NONE,
        "least gain in accuracy",
        at_least=0.0,
        measure=least("swapping_gains", of("choices")),
        computed=True,
    ),
    Claim(
        "C4d",
        "At a tenth of H, the exact calibration answers twice as many of the clinic's questions as the universal one.",
        NONE,
        "ratio of p",
        at_least=2.0,
        measure=least("over_universal", of("price", data="asia", mechanism="erase", budget=0.1)),
        computed=True,
        threshold_set="after",
        note="Both answer few: 12 % and 3 % of three questions. A tight budget is dear.",
    ),
    Claim(
        "C5",
        "At least one table in five gives an adaptive adversary 5 % more than the best fixed pair.",
        NONE,
        "share of tables",
        at_least=0.2,
        measure=rate("adaptive_gains", "tables", of("bounds")),
    ),
    Claim(
        "C6a",
        "The p that keeps a budget falls like 1/k.",
        NONE,
        "slope of log p over log k",
        at_most=-0.95,
        measure=slope("p", "k", of("repetitions")),
        computed=True,
    ),
    Claim(
        "C6b",
        "Four fresh answers to one question leak at least three times as much as one that is kept.",
        NONE,
        "ratio",
        at_least=3.0,
        measure=least("over_sticky", of("repetitions", k=4)),
        computed=True,
    ),
    Claim(
        "C7a",
        "A fitted adversary never gains more than the bound for overconfident ones.",
        NONE,
        "share of runs",
        at_least=0.95,
        measure=share("within", of("fitted"), each="all"),
    ),
    Claim(
        "C7b",
        "It uses less than half of it.",
        NONE,
        "gain over bound",
        at_most=0.5,
        measure=mean("used", of("fitted")),
    ),
)


def _draw_price(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "price", data="asia")
    for name, colour, label in (("erase", "ours", "silence"), ("krr", "other", "swapped answers")):
        part = rows[rows["mechanism"] == name].groupby("budget")["accuracy"].mean()
        ax.plot(part.index, part, "o-", color=PALETTE[colour], label=label)
    ax.set(
        xscale="log", xlabel="budget, share of H", ylabel="accuracy of the honest user (bronchitis)"
    )
    ax.legend(frameon=False)


def _draw_repetitions(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "repetitions").groupby("k")[["fresh", "sticky"]].mean().dropna()
    ax.plot(
        cells.index, cells["fresh"], "o-", color=PALETTE["other"], label="fresh coin and answer"
    )
    ax.plot(cells.index, cells["sticky"], "o-", color=PALETTE["ours"], label="answer kept")
    ax.set(xlabel="repetitions of one question", ylabel="leakage, nats (p = 0.1)", ylim=(0, None))
    ax.legend(frameon=False)


FIGURES = {"price": _draw_price, "repetitions": _draw_repetitions}
