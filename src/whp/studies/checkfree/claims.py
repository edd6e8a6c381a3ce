"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from whp import intervals
from whp.experiment.claims import rows_where
from whp.experiment.measures import Measuring, around, measure, paired, pivot
from whp.experiment.study import Claim, NotTested, select
from whp.result import PALETTE
from whp.studies.checkfree.experiments import STAGES, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

RULES = {"experiment": "rules"}
SWAPS = {"experiment": "rules", "how": "swaps"}
JUMPS = {"experiment": "jumps"}
BOTH = ["rules", "rates"]


def _above_worst(ours: str, *others: str) -> Measuring:
    """Loss less the largest of others', paired by seed."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        table = pivot(select(records, "rules"), "how", "loss", ours, *others)
        return intervals.paired(table[ours], table[list(others)].max(axis=1), level=level)

    return take


def _in_order() -> Measuring:
    """Share of seeds in which all losses are in the paper's order."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        three = ["grad", "copy", "uniform"]
        needed = ("none", *three, "random", "checkpoint")
        table = pivot(select(records, "rules"), "how", "loss", *needed)
        good = (table["none"] < table[three].min(axis=1)) & (
            table[three].max(axis=1) < table["random"]
        )
        good &= table["random"] < table["checkpoint"]
        return intervals.proportion(int(good.sum()), len(good), level=level)

    return take


def _twins_alike() -> Measuring:
    """Distance of twins less that of strangers, of one run each."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = rows_where(records, SWAPS)
        if "twins" not in rows or rows["twins"].notna().sum() < 2:
            raise NotTested("fewer than two seeds were trained with swaps to the end")
        part = rows.dropna(subset=["twins"])
        return intervals.paired(part["twins"], part["strangers"], level=level)

    return take


def _iterations(records: pd.DataFrame, how: str, rate: float) -> pd.Series:
    """Iterations until the held-out loss that the failure-free run of the seed has after three quarters; over those."""
    base = _curves(records, "none", 0.0)
    needed_by = {}
    for seed, run in _curves(records, how, rate).groupby("seed"):
        plain = base[base["seed"] == seed].sort_values("step")
        if plain.empty:
            continue
        at = int(len(plain) * 0.75) - 1
        target, needed = plain["heldout"].iloc[at], plain["step"].iloc[at]
        ordered = run.sort_values("step")
        there = ordered[ordered["heldout"] <= target]
        last = there["step"].iloc[0] if len(there) else 1.5 * ordered["step"].iloc[-1]
        needed_by[seed] = float(last / needed)
    return pd.Series(needed_by, dtype=float)


def _curves(records: pd.DataFrame, how: str, rate: float) -> pd.DataFrame:
    part = rows_where(records, {"experiment": BOTH, "how": how}).dropna(subset=["heldout"])
    return part[np.isclose(part["rate"], rate)]


def _rates(records: pd.DataFrame) -> list[float]:
    part = rows_where(records, {"experiment": BOTH})
    return sorted(part[part["rate"] > 0]["rate"].unique())


def _seconds(records: pd.DataFrame, mode: str) -> float:
    return float(select(records, "times", mode=mode)["mean_seconds"].mean())


def _time_ratio(how: str, than: str, which: int) -> Measuring:
    """Seconds to the target of CheckFree over those of `than`, at the lowest (0), middle or highest (-1) rate of failures."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        rates = _rates(records)
        if not rates:
            raise NotTested("nothing was run with failures")
        rate = rates[min(which, len(rates) - 1)]
        mode = "checkfree+" if how == "plus" else "checkfree"
        # The mean: a median leaves out what costs most.
        recovery = float(select(records, "kills", spares=1)["recovery"].mean())
        iteration = _seconds(records, mode)
        hit = rate * (STAGES if how == "plus" else STAGES - 2)
        ours = _iterations(records, how, rate) * (iteration + hit * (recovery + iteration / 2))
        if than == "redundant":
            theirs = pd.Series(_seconds(records, "redundant"), index=ours.index)
        else:
            theirs = _iterations(records, "checkpoint", rate) * _seconds(records, "checkpoint")
        both = pd.concat([ours, theirs], axis=1).dropna()
        if len(both) < 2:
            raise NotTested(f"fewer than two seeds ran both at the rate {rate:g}")
        return intervals.ratio(both.iloc[:, 0], both.iloc[:, 1], level=level)

    return take


def _redundancy() -> Measuring:
    """Iteration time of redundant computation over plain, by seed."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        part = select(records, "times")
        table = pivot(part, "mode", "iteration_seconds", "redundant", "checkfree")
        return intervals.mean(table["redundant"] / table["checkfree"], level=level)

    return take


def _recovery(spares: int) -> Measuring:
    """Median seconds, over kills."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        values = select(records, "kills", spares=spares)["recovery"].to_numpy(float)
        return intervals.bootstrap(values, np.median, level=level)

    return take


def _survived() -> Measuring:
    """Share of all kills, a number without an interval."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        part = select(records, "kills")
        good = part["in_order"].astype(bool) & np.isfinite(part["loss"].astype(float))
        share = float(good.mean())
        return around(share, share, share, 1.0, len(good), "share of all")

    return take


EXTRA = "not in the paper: derived here"
FIG2 = "Fig. 2 (500M, 16 %): random ≫ copy > uniform ≥ grad"
TABLE2 = "Table 2, hours at 5/10/16 %: checkpoint 558/622/634, redundant 419.6, CheckFree 368/406/563, CheckFree+ 355/368/461"
SMALL = "Six blocks of width 64 on characters, 800 iterations; gradient norms of neighbours differ by a few per cent only. "
SEEDS = "Seeds differ in weights, batches and failures, not in the text."
MODEL = (
    "Iterations to the loss that the failure-free run has after three quarters of its way, times seconds "
    "of real processes on two cores, the mean of recoveries and the half iteration that a loss wastes "
    "among them; a run that never gets there counts with 1.5 times its length."
)

CLAIMS = study.claims(
    Claim(
        "C1a",
        "None < gradient average, copy, equal average < random < checkpoint, in nine of ten seeds.",
        FIG2,
        "share of seeds in that order",
        ">=",
        0.9,
        _in_order(),
        note="In none of four seeds: a random block costs no more than the three rules (C1c). "
        + SEEDS,
    ),
    Claim(
        "C1b",
        "Losing stages costs something.",
        FIG2,
        "loss, gradient average less no failures",
        ">=",
        0.0,
        paired("loss", how="grad", less="none", where=RULES),
        note=SMALL + SEEDS,
    ),
    Claim(
        "C1c",
        "Starting a lost stage at random is worse than each of the three.",
        FIG2,
        "loss, random less the worst of them",
        ">=",
        0.0,
        _above_worst("random", "grad", "copy", "uniform"),
        note="A block that has learnt little in a few hundred iterations is soon replaced. "
        + SMALL
        + SEEDS,
    ),
    Claim(
        "C1d",
        "Going back to a checkpoint is worse still.",
        "Fig. 3",
        "loss, checkpoint less random",
        ">=",
        0.0,
        paired("loss", how="checkpoint", less="random", where=RULES),
        note="At equal executed iterations, a checkpoint every 100. " + SEEDS,
    ),
    Claim(
        "C1e",
        "Copying is worse than the gradient average.",
        FIG2,
        "loss, copy less gradient average",
        ">=",
        0.0,
        paired("loss", how="copy", less="grad", where=RULES),
        note=SMALL + SEEDS,
    ),
    Claim(
        "C1f",
        "The equal average is no better than the gradient average.",
        FIG2,
        "loss, equal less gradient average",
        ">=",
        0.0,
        paired("loss", how="uniform", less="grad", where=RULES),
        note=SMALL + SEEDS,
    ),
    Claim(
        "C2a",
        "At once, averaging hurts less than dropping the stage.",
        EXTRA,
        "jump of the loss, average less skip",
        "<=",
        0.0,
        paired("jump", rule="grad", less="skip", where=JUMPS),
        note=SMALL,
    ),
    Claim(
        "C2b",
        "At once, averaging hurts less than starting at random.",
        EXTRA,
        "jump of the loss, average less random",
        "<=",
        0.0,
        paired("jump", rule="grad", less="random", where=JUMPS),
        note=SMALL,
    ),
    Claim(
        "C2c",
        "Some iterations later, averaging is still ahead of starting at random.",
        EXTRA,
        "loss 50 iterations later, average less random",
        "<=",
        0.0,
        paired("later", rule="grad", less="random", where=JUMPS),
        note=SMALL,
    ),
    Claim(
        "C3a",
        "Trained with swaps, an end stage is better copied from its twin than started at random.",
        "Sec. 4.3",
        "jump of the loss, twin less random",
        "<=",
        0.0,
        paired("jump", rule="grad", less="random", where=SWAPS),
        note=SEEDS,
    ),
    Claim(
        "C3b",
        "Because twins have similar weights.",
        "Sec. 4.3",
        "relative distance of weights, twins less strangers",
        "<=",
        0.0,
        _twins_alike(),
        note="Twins can agree as functions while their weights do not. " + SEEDS,
    ),
    Claim(
        "C4",
        "Swaps cost a little where nothing fails.",
        "Fig. 4c",
        "loss, with swaps less without",
        ">=",
        0.0,
        paired("loss", how="swaps", less="none", where=RULES),
        note=SEEDS,
    ),
    Claim(
        "C5a",
        "At the lowest rate CheckFree is over 12 % faster than redundant computation.",
        TABLE2,
        "time to loss, CheckFree over redundant",
        "<=",
        1 / 1.12,
        _time_ratio("grad", "redundant", 0),
        note=MODEL,
    ),
    Claim(
        "C5b",
        "At the lowest rate CheckFree+ is, too.",
        TABLE2,
        "time to loss, CheckFree+ over redundant",
        "<=",
        1 / 1.12,
        _time_ratio("plus", "redundant", 0),
        note=MODEL,
    ),
    Claim(
        "C5c",
        "At the highest rate redundant computation is faster than CheckFree.",
        TABLE2,
        "time to loss, CheckFree over redundant",
        ">=",
        1.0,
        _time_ratio("grad", "redundant", -1),
        note=MODEL,
    ),
    Claim(
        "C5d",
        "At 24 failures in 1000 iterations CheckFree is faster than checkpoints.",
        TABLE2,
        "time to loss, CheckFree over checkpoint",
        "<=",
        1.0,
        _time_ratio("grad", "checkpoint", 1),
        note=MODEL,
    ),
    Claim(
        "C5e",
        "Redundant computation takes 1.65 times as long an iteration.",
        "151.04 s against 91.32 s",
        "iteration time",
        ">=",
        1.65,
        _redundancy(),
        note="Small blocks are bound by messages, which redundancy does not double. "
        "Two cores are shared by six processes.",
    ),
    Claim(
        "C7a",
        "All kills are survived: iterations in order, loss finite.",
        EXTRA,
        "share of kills",
        ">=",
        1.0,
        _survived(),
    ),
    Claim(
        "C7b",
        "With a warm spare, from death to ready takes 0.3 s.",
        "about 30 s",
        "seconds, median",
        "<=",
        0.3,
        _recovery(1),
    ),
    Claim(
        "C7c",
        "With a process started on demand, 6 s.",
        "about 30 s",
        "seconds, median",
        "<=",
        6.0,
        _recovery(0),
    ),
)


COLOURS = tuple(PALETTE.values())


def _draw_rules(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "rules").dropna(subset=["heldout"])
    for i, how in enumerate(("none", "grad", "uniform", "copy", "random", "checkpoint")):
        curve = part[part["how"] == how].groupby("step")["heldout"].mean()
        ax.plot(
            curve.index,
            curve,
            color=COLOURS[i],
            label={"grad": "average by gradient", "none": "no failures"}.get(how, how),
        )
    ax.set(xlabel="iteration", ylabel="held-out loss, nats a character")
    ax.legend(frameon=False)


def _draw_jumps(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "jumps").dropna(subset=["jump"])
    rules = ("grad", "uniform", "copy", "skip", "random")
    for i, rule in enumerate(rules):
        by_stage = part[part["rule"] == rule].groupby("stage")["jump"].mean()
        ax.bar(by_stage.index + 0.16 * (i - 2), by_stage, 0.15, label=rule, color=COLOURS[i])
    ax.set(
        xlabel="stage that is lost",
        ylabel="jump of the loss",
        xticks=sorted(part["stage"].unique()),
    )
    ax.legend(frameon=False)


FIGURES = {"rules": _draw_rules, "jumps": _draw_jumps}
