"""What is tested, and the pictures of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.claims import Origin
from whp.experiment.measures import Measuring, largest, mean, paired, rate, ratio, share
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.h_calibration.experiments import SEGMENTS, TEMPERATURE, WINDOWS, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

PAPER, OURS = Origin.PAPER, Origin.OURS
HEADLINE = "lower ECE than proper scoring rules on 15 tasks; temperature scaling .0191 there"
EXTRA = "not in the paper: derived here"
SAME_MAP = "difference to temperature scaling, the same one-parameter map fitted by log-loss"
SPLITS = "Splits share rows: the interval speaks of training and split, not of new data."
LEFT_OUT = "the authors' code leaves classes out"
KEPT = "accuracy preserved by construction"
RANK_KEEPING = [
    TEMPERATURE,
    *(f"ours, window {w}" for w in WINDOWS),
    "ours",
    "ours, exact search",
    "ours, ensemble",
    "ours, piecewise",
    "piecewise",
    "pooled",
    "leave-one-class-out",
    "classwise",
]


def _against(
    experiment: str, data: str, ours: str, metric: str = "ece", theirs: str = TEMPERATURE
) -> Measuring:
    """Paired by seed."""
    return paired(metric, method=ours, less=theirs, where={"experiment": experiment, "data": data})


def _claim(
    id: str, statement: str, paper: str, quantity: str, measure: Measuring, **more: Any
) -> Claim:
    bound = more if {"at_least", "at_most"} & set(more) else {"at_most": 0.0, **more}
    origin = OURS if paper == EXTRA else PAPER
    return Claim(
        id,
        statement,
        paper,
        quantity,
        measure=measure,
        origin=origin,
        **{"threshold_set": "before", **bound},
    )


def _ece_claim(id: str, data: str, window: int) -> Claim:
    mnist = "2,000 / 1,500 / 1,500 of MNIST"
    sizes = mnist if data == "mnist" else "400 / 600 / 797 digits of 8 × 8"
    return _claim(
        id,
        f"A network of 64 units on {sizes}: one temperature fitted with window {window} has lower "
        "ECE than by log-loss.",
        HEADLINE,
        f"ECE, {SAME_MAP}",
        _against("network", data, f"ours, window {window}"),
        note=SPLITS,
    )


def _refuted(data: str, method: str) -> Measuring:
    where = {"experiment": "naive bayes", "data": data, "method": method}
    return share("verdict_calibration-test", where, equals="fails")


CLAIMS = study.claims(
    *(_ece_claim(f"C1{i}", "mnist", w) for i, w in zip("abc", WINDOWS, strict=True)),
    _claim(
        "C1d",
        "The same for the largest gap of cumulative sums (KS), window 50.",
        "KS of temperature scaling .0131 there",
        f"KS, {SAME_MAP}",
        _against("network", "mnist", "ours, window 50", "ks"),
        note=SPLITS,
    ),
    _claim(
        "C1e",
        "The same for the Brier score, window 50.",
        "no number read",
        f"Brier score, {SAME_MAP}",
        _against("network", "mnist", "ours, window 50", "brier"),
        note=SPLITS,
    ),
    _claim(
        "C1f",
        "And for what ECE is above the floor that a perfectly calibrated model shows, window 50.",
        EXTRA,
        f"ECE above its floor, {SAME_MAP}",
        _against("network", "mnist", "ours, window 50", "excess"),
        note=SPLITS,
    ),
    *(_ece_claim(f"C2{i}", "digits", w) for i, w in zip("abc", WINDOWS, strict=True)),
    _claim(
        "C2d",
        "Eight temperatures have lower ECE than one fitted by log-loss, on 600 digits.",
        HEADLINE,
        "ECE, difference to temperature scaling",
        _against("network", "digits", "ours, ensemble"),
    ),
    _claim(
        "C3a",
        "Extreme logits (Gaussian naive Bayes, digits): lower ECE than by log-loss.",
        HEADLINE,
        f"ECE, {SAME_MAP}",
        _against("naive bayes", "digits", "ours"),
        note=SPLITS,
    ),
    _claim(
        "C3b",
        "The same on MNIST.",
        HEADLINE,
        f"ECE, {SAME_MAP}",
        _against("naive bayes", "mnist", "ours"),
        note=SPLITS,
    ),
    _claim(
        "C3c",
        "The price on MNIST: log-loss is not better than when it is what is minimised.",
        EXTRA,
        f"log-loss, {SAME_MAP}",
        _against("naive bayes", "mnist", "ours", "nll"),
        at_least=0.0,
    ),
    _claim(
        "C3d",
        "On digits the exact test refutes the calibration of temperature scaling.",
        EXTRA,
        "share of splits refuted",
        _refuted("digits", TEMPERATURE),
        at_least=0.5,
    ),
    _claim(
        "C3e",
        "And does not refute ours.",
        EXTRA,
        "share of splits refuted",
        _refuted("digits", "ours"),
        at_most=0.5,
    ),
    _claim(
        "C3f",
        "On MNIST one temperature is not enough: the test refutes ours as well.",
        EXTRA,
        "share of splits refuted",
        _refuted("mnist", "ours"),
        at_least=0.5,
    ),
    _claim(
        "C3g",
        "ECE on MNIST: eight temperatures beat one.",
        HEADLINE,
        "ECE, eight less one",
        _against("naive bayes", "mnist", "ours, ensemble", theirs="ours"),
    ),
    _claim(
        "C4a",
        "No decision changes, on any data set.",
        KEPT,
        "most changed decisions in any run",
        largest("changed", {"method": RANK_KEEPING}),
        at_most=0.0,
    ),
    _claim(
        "C4b",
        "Isotonic regression changes decisions.",
        KEPT,
        "mean changed decisions a run",
        mean("changed", {"method": "isotonic"}),
        at_least=1.0,
    ),
    _claim(
        "C5a",
        "Unequal classes: fitting all entries together is not worse in ECE than leaving classes out.",
        LEFT_OUT,
        "ECE, pooled less leave-one-class-out",
        _against("imbalanced", "digits", "pooled", theirs="leave-one-class-out"),
    ),
    _claim(
        "C5b",
        "Nor in class-wise ECE.",
        LEFT_OUT,
        "class-wise ECE, pooled less leave-one-class-out",
        _against("imbalanced", "digits", "pooled", "classwise_ece", "leave-one-class-out"),
    ),
    _claim(
        "C5c",
        "Leaving classes out penalises perfectly calibrated predictions where classes are unequal "
        "(8:1:1).",
        LEFT_OUT,
        "its error over the pooled error",
        ratio("left_out", over="pooled", where={"experiment": "bias", "law": "8:1:1"}),
        at_least=5.0,
    ),
    _claim(
        "C5d",
        "Where classes are equal it does not.",
        LEFT_OUT,
        "its error over the pooled error",
        ratio("left_out", over="pooled", where={"experiment": "bias", "law": "even"}),
        at_most=1.1,
    ),
    _claim(
        "C6a",
        "With 300 rows, 500 segments have higher test ECE than one.",
        "segments up to 500 are used",
        "ECE, 500 segments less one",
        paired(
            "ece",
            segments=SEGMENTS[-1],
            less=SEGMENTS[0],
            where={"experiment": "segments", "small": True},
        ),
        at_least=0.0,
    ),
    _claim(
        "C6b",
        "And the certificate for overfitting says so.",
        EXTRA,
        "share of runs in which it fails",
        share(
            "verdict_overfit",
            {"experiment": "segments", "small": True, "segments": SEGMENTS[-1]},
            equals="fails",
        ),
        at_least=0.5,
    ),
    _claim(
        "C7a",
        "The 95 % band misses a true block mean in at most 5 % of instances.",
        EXTRA,
        "share of instances",
        rate("missed", "instances", {"experiment": "truth"}),
        at_most=0.05,
    ),
    _claim(
        "C7b",
        "The 5 % test refutes true probabilities in 5 % of instances (6 % allowed).",
        EXTRA,
        "share of instances",
        rate("rejected", "instances", {"experiment": "truth", "calibrated": True}),
        at_most=0.06,
    ),
    _claim(
        "C7c",
        "It refutes logits that are 1.6 times too large, 500 rows.",
        EXTRA,
        "share of instances",
        rate("rejected", "instances", {"experiment": "truth", "law": "even, sharpened"}),
        at_least=0.95,
    ),
)


def _draw_methods(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "network")
    data = "mnist" if "mnist" in set(part["data"]) else "digits"
    part = part[part["data"] == data]
    cells = {str(name): mean("ece")(g) for name, g in part.groupby("method")}
    names = sorted(cells, key=lambda k: getattr(cells[k], "value", 0.0))
    for i, name in enumerate(names):
        e: Any = cells[name]
        colour = PALETTE["ours" if name.startswith("ours") else "other"]
        bars = [[e.value - e.low], [e.high - e.value]]
        ax.errorbar(e.value, i, xerr=bars, fmt="o", color=colour, capsize=3)
    floor = float((part["ece"] - part["excess"]).mean())
    ax.axvline(floor, color=PALETTE["quiet"], linestyle="--", label="if calibrated perfectly")
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("ECE on test rows, mean over splits")
    ax.legend(frameon=False)


def _draw_segments(records: pd.DataFrame, ax: Axes) -> None:
    colours = (PALETTE["ours"], PALETTE["other"])
    for colour, (n, group) in zip(colours, select(records, "segments").groupby("n"), strict=False):
        cells = group.groupby("segments")["ece"].mean()
        ax.plot(cells.index, cells, "o-", color=colour, label=f"{n:,.0f} rows")
    ax.set(xscale="log", xlabel="segments of the map", ylabel="ECE on test rows")
    ax.legend(frameon=False)


def _draw_naive(records: pd.DataFrame, ax: Axes) -> None:
    part = select(records, "naive bayes", data="mnist")
    for colour, (name, group) in zip(PALETTE.values(), part.groupby("method"), strict=False):
        ax.plot(group["nll"], group["ece"], "o", alpha=0.7, color=colour, label=str(name))
    ax.set(xscale="log", yscale="log", xlabel="log-loss", ylabel="ECE", box_aspect=0.8)
    ax.legend(frameon=False, fontsize=8)


FIGURES = {"network": _draw_methods, "naive bayes": _draw_naive, "segments": _draw_segments}
