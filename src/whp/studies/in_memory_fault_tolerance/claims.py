"""What the paper says of stall, recovery and survival, and what we add."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.distributed._in_memory_fault_tolerance.survival import overhead, survival_probability
from whp.experiment.measures import largest, least, mean, rate, ratio
from whp.experiment.study import Claim, select
from whp.intervals import exact
from whp.result import PALETTE
from whp.studies.in_memory_fault_tolerance.experiments import study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

STALL = {"experiment": "stall"}
KILLS = {"experiment": "kills"}
NODES = {"experiment": "nodes"}
MACHINE = "Two shared cores and a local disk with a page cache, not a cluster with a file server."
EXTRA = "not in the paper: derived here"


def _added(rows: pd.DataFrame) -> float:
    """Share by which a snapshot makes a step longer."""
    return float((rows["step"].astype(float) / rows["plain"].astype(float) - 1).mean())


def _losses_with_correlation(records: pd.DataFrame) -> Any:
    """How many times as often a group is lost at a correlation of .1."""
    lost = [1 - survival_probability(8, 1, 0.01, rho=rho) for rho in (0.1, 0.0)]
    return exact(lost[0] / lost[1])


CLAIMS = study.claims(
    Claim(
        "C1a",
        "A snapshot holds training up 10 times less than asynchronous checkpointing.",
        paper="over 14×",
        quantity="stall of async_save / ours",
        at_least=10.0,
        measure=ratio("stall", method="async_save", over="ours", where=STALL),
        note=MACHINE,
    ),
    Claim(
        "C1b",
        "And 10 times less than torch.save.",
        paper="no number read",
        quantity="stall of torch.save / ours",
        at_least=10.0,
        measure=ratio("stall", method="torch.save", over="ours", where=STALL),
        note=MACHINE,
    ),
    Claim(
        "C1c",
        "It holds up no longer than torch's background stager.",
        paper="did not exist then",
        quantity="stall of the stager / ours",
        at_least=1.0,
        measure=ratio("stall", method="stager", over="ours", where=STALL),
        note="The stager's copies die with the trainer until they are on disk.",
    ),
    Claim(
        "C2",
        "There is something to restore 5 times sooner than with the best peer.",
        paper="no number read",
        quantity="seconds, stager / ours",
        at_least=5.0,
        measure=ratio("total", method="stager", over="ours", where=STALL),
        note=MACHINE,
    ),
    Claim(
        "C3a",
        "Killed at random moments, training is restored bit for bit.",
        paper="recovers in-memory states",
        quantity="share of kills",
        at_least=0.94,
        measure=rate("restored", "struck", where=KILLS),
    ),
    Claim(
        "C3b",
        "The trained weights are those of a run without failures.",
        paper=EXTRA,
        quantity="1 if in every run",
        at_least=1.0,
        measure=least("same", where=KILLS),
    ),
    Claim(
        "C4a",
        "Every set of at most m lost memories is rebuilt bit for bit.",
        paper="survives them",
        quantity="1 if every set of members was",
        at_least=1.0,
        measure=least("rebuilt", where=NODES),
        computed=True,
    ),
    Claim(
        "C4b",
        "One more ends with a clear error.",
        paper=EXTRA,
        quantity="1 if in every group",
        at_least=1.0,
        measure=least("refused", where=NODES),
    ),
    Claim(
        "C5a",
        "Groups survive as often as the binomial law says.",
        paper="survival probability of sharding groups",
        quantity="largest deviation, standard errors",
        at_most=4.0,
        measure=largest("off", where={"experiment": "survival"}),
    ),
    Claim(
        "C5b",
        "A correlation of 0.1 within a group triples its losses (n = 8, m = 1, p = 0.01).",
        paper=EXTRA,
        quantity="ratio of losses",
        at_least=3.0,
        measure=_losses_with_correlation,
        computed=True,
    ),
    Claim(
        "C6a",
        "Snapshots are worth taking every 17 s or more often at one failure an hour.",
        paper="more frequent saving",
        quantity="Young's interval in s",
        at_most=17.0,
        measure=mean("interval", where={**STALL, "method": "ours"}),
        note="A stall of 40 ms gives 17 s; one of 60 s gives 657 s.",
    ),
    Claim(
        "C6b",
        "That is 3 times as often as with torch.save.",
        paper=EXTRA,
        quantity="ratio of intervals",
        at_least=3.0,
        measure=ratio("interval", method="torch.save", over="ours", where=STALL),
        note=MACHINE,
    ),
    Claim(
        "C7a",
        "A snapshot in every step makes it at most 5 % longer.",
        paper="about 1 %",
        quantity="added share of a step",
        at_most=0.05,
        measure=mean(_added, where={**STALL, "method": "ours"}),
        note="The copy and its checksum run on the second core while the first trains.",
    ),
    Claim(
        "C7b",
        "With a kill a minute the useful iterations a second are 90 % of those without failures.",
        paper="no number read",
        quantity="ratio of useful iterations a second",
        at_least=0.9,
        measure=ratio(
            "useful", method="ours", over="none, no failure", where={"experiment": "rate"}
        ),
        note="Not measured at the quick scale. " + MACHINE,
    ),
)


def _draw_stall(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "stall").groupby("method")[["stall", "total"]].median().astype(float)
    part = part.reindex(
        [m for m in ("ours", "stager", "async_save", "torch.save", "dcp.save") if m in part.index]
    )[::-1]
    rows = np.arange(len(part))
    ax.barh(rows, 1e3 * part["total"], color=PALETTE["quiet"], label="until it can be restored")
    ax.barh(rows, 1e3 * part["stall"], color=PALETTE["ours"], height=0.5, label="training waits")
    ax.set_yticks(rows, list(part.index))
    ax.set(xscale="log", xlabel="milliseconds")
    ax.legend(frameon=False, fontsize=8)


def _draw_survival(records: pd.DataFrame, ax: Axes) -> None:
    p = np.logspace(-3, -0.7, 50)
    for m, style in ((1, "-"), (2, "--")):
        for rho, colour in (
            (0.0, PALETTE["ours"]),
            (0.1, PALETTE["other"]),
            (0.5, PALETTE["truth"]),
        ):
            lost = [1 - survival_probability(8, m, float(q), rho=rho) for q in p]
            ax.plot(p, lost, style, color=colour, label=f"m = {m}, correlation {rho:g}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="probability that a member is lost",
        ylabel="probability that a group of 8 is lost",
    )
    ax.legend(frameon=False, fontsize=7)


def _draw_interval(records: pd.DataFrame, ax: Axes) -> None:
    stalls = select(records, "stall").groupby("method")["stall"].median().astype(float)
    times = np.logspace(0, 4, 200)
    for method, stall in stalls.items():
        ax.plot(
            times,
            [100 * overhead(float(t), float(stall), 1 / 3600, restart=5) for t in times],
            label=str(method),
        )
    ax.set(xscale="log", yscale="log", xlabel="seconds between snapshots", ylabel="time lost, %")
    ax.legend(frameon=False, fontsize=8)


FIGURES = {"stall": _draw_stall, "survival": _draw_survival, "interval": _draw_interval}
