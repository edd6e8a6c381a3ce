"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.continual import fit_forgetting_curve, recall_schedule
from whp.experiment.measures import Measuring, largest, least, mean, measure, paired, share
from whp.experiment.study import Claim, NotTested, select
from whp.result import PALETTE
from whp.studies.view_batch.experiments import SIZES, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]


def difference(
    metric: str, variant: str, less: str = "ordinary", experiment: str = "variants", **wanted: Any
) -> Measuring:
    """A metric of one variant less that of another, seed by seed."""
    where = {"experiment": experiment, **wanted}
    return paired(metric, variant=variant, less=less, where=where)


def curvature(rows: pd.DataFrame) -> float:
    """Coefficient of ln² V in accuracy over ln V, of one seed."""
    part = rows.dropna(subset=["acc"])
    if set(part["variant"]) != set(SIZES):
        raise NotTested("a curve needs one, two, four and eight views")
    views = part["variant"].map(SIZES).astype(float)
    return float(np.polyfit(np.log(views), part["acc"].astype(float), 2)[0])


@measure
def best_intervals(records: pd.DataFrame, level: float) -> Estimate:
    """Share of seeds whose forgetting curve of the first task has a best interval inside those that were tried.

    Points of one training belong together.
    """
    part = select(records, "long").dropna(subset=["retention"])
    rows = []
    for seed, group in part.groupby("seed"):
        if group["cycle"].nunique() < 3:
            continue
        curve = fit_forgetting_curve(
            group["cycle"].to_numpy(float),
            group["since"].to_numpy(float),
            group["retention"].to_numpy(float),
            n=group["tested"].to_numpy(float),
            groups=group["variant"].to_numpy(str),
        )
        rows.append({"seed": seed, "inside": curve.best_interval is not None})
    if not rows:
        raise NotTested("a curve needs three intervals")
    made = share("inside", by="seed")(pd.DataFrame(rows), level)
    if isinstance(made, Exception):
        raise made
    return made


@measure
def work(records: pd.DataFrame, level: float) -> Estimate:
    """Largest difference, within a seed, of the images that variants were shown."""
    part = select(records, "variants").dropna(subset=["images"])
    counts = part.groupby("seed")["images"].agg(["min", "max"])
    made = largest("off")((counts["max"] - counts["min"]).rename("off").reset_index(), level)
    if isinstance(made, Exception):
        raise made
    return made


EXTRA = "not in the paper: derived here"
TABLE = "S-CIFAR-10, iCaRL, forgetting / class accuracy: 28.05 / 63.58"
SEEDS = "Splits share rows: the interval speaks of training and split, not of new data."
IMAGES = "The paper's images, 50 epochs and AutoAugment differ. " + SEEDS

CLAIMS = study.claims(
    Claim(
        "C1a",
        "All variants are shown equally many images.",
        "equal iterations",
        "largest difference of images",
        at_most=0,
        measure=work,
        computed=True,
    ),
    Claim(
        "C2a",
        "Replay on digits, four views: less is forgotten.",
        f"{TABLE} becomes 18.72 / 67.21",
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views"),
        note=SEEDS,
    ),
    Claim(
        "C2b",
        "And accuracy is higher.",
        f"{TABLE} becomes 18.72 / 67.21",
        "accuracy, difference",
        at_least=0.0,
        measure=difference("acc", "views"),
        note=SEEDS,
    ),
    Claim(
        "C2c",
        "New tasks are learnt no worse.",
        "no price is named",
        "accuracy of new tasks, difference",
        at_least=0.0,
        measure=difference("new_task", "views"),
        note="Rest has a price: each sample is seen in fewer updates. " + SEEDS,
    ),
    Claim(
        "C3a",
        "Strong views add to it.",
        f"{TABLE} becomes 18.29 / 67.16",
        "accuracy, strong less weak views",
        at_least=0.0,
        measure=difference("acc", "views, strong", "views"),
        note=IMAGES,
    ),
    Claim(
        "C3b",
        "Tying strong views adds to it.",
        f"{TABLE} becomes 13.81 / 69.25",
        "accuracy, tied less untied",
        at_least=0.0,
        measure=difference("acc", "views, strong, tied", "views, strong"),
        note=IMAGES,
    ),
    Claim(
        "C3c",
        "Strong augmentation alone helps.",
        f"{TABLE} becomes 22.16 / 65.33",
        "accuracy, strong less weak, no views",
        at_least=0.0,
        measure=difference("acc", "ordinary, strong"),
        note="Digits turned by 35° and partly erased are other digits, and "
        "eight epochs are few. " + IMAGES,
    ),
    Claim(
        "C3d",
        "Tying weak views helps.",
        "no number read",
        "accuracy, difference",
        at_least=0.0,
        measure=difference("acc", "views, tied", "views"),
        note=IMAGES,
    ),
    Claim(
        "C4a",
        "There is a best number of views inside 1 to 8 (16 epochs).",
        "×3 to ×4 is best",
        "curvature in ln V",
        at_most=0.0,
        measure=mean(curvature, {"experiment": "long"}),
        note=SEEDS,
    ),
    Claim(
        "C4b",
        "Eight views are better than one at 16 epochs.",
        EXTRA,
        "accuracy, difference",
        at_least=0.0,
        measure=difference("acc", "eight views", experiment="long"),
        note=SEEDS,
    ),
    Claim(
        "C4c",
        "The forgetting curve has an interior best interval.",
        "retention peaks at a medium interval",
        "share of seeds whose fit finds one",
        at_least=0.5,
        measure=best_intervals,
        note="On digits retention of the first task hardly depends on the interval: one fit over all runs found a best "
        "interval or none depending on the runs' randomness, so that seeds are counted.",
    ),
    Claim(
        "C5a",
        "Views of new data alone reduce forgetting.",
        "no number read",
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views of new"),
        note=SEEDS,
    ),
    Claim(
        "C5b",
        "Views of the memory alone reduce forgetting.",
        "no number read",
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views of memory"),
        note=SEEDS,
    ),
    Claim(
        "C6a",
        "A windowed shuffle forgets no more than a full one.",
        EXTRA,
        "forgetting, difference",
        at_most=0.01,
        measure=difference("forgetting", "views, windowed", "views"),
        note="Windows make cycles alike: the same fifth of the samples "
        "is always last before a new task, and neighbours stay neighbours: rest is paid for with order. "
        + SEEDS,
    ),
    Claim(
        "C6b",
        "A full shuffle lets some sample come back within three steps of a cycle of 100.",
        "guarantees the optimal interval",
        "largest least gap",
        at_most=3,
        measure=largest("least", {"experiment": "rest", "shuffle": "full"}),
    ),
    Claim(
        "C6c",
        "A window of 20 keeps every gap at 81 or more.",
        EXTRA,
        "smallest least gap",
        at_least=81,
        measure=least("least", {"experiment": "rest", "shuffle": "window"}),
    ),
    Claim(
        "C6d",
        "The mean gap is exactly the cycle, whatever the shuffle.",
        "optimal recall interval",
        "largest deviation",
        at_most=1e-9,
        measure=largest("off", {"experiment": "rest"}),
        computed=True,
    ),
    Claim(
        "C7",
        "The design effect predicts the variance of view batches within 15 %.",
        EXTRA,
        "largest relative deviation",
        at_most=0.15,
        measure=largest("off", {"experiment": "price"}),
    ),
    Claim(
        "C8a",
        "Animals, replay: less is forgotten.",
        "on all data sets",
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views", experiment="animals"),
        note=SEEDS,
    ),
    Claim(
        "C8b",
        "Animals: strong views add to it.",
        f"{TABLE} becomes 18.29 / 67.16",
        "accuracy, strong less weak views",
        at_least=0.0,
        measure=difference("acc", "views, strong", "views", experiment="animals"),
        note=SEEDS,
    ),
    Claim(
        "C8c",
        "Animals: tying strong views adds to it.",
        f"{TABLE} becomes 13.81 / 69.25",
        "accuracy, tied less untied",
        at_least=0.0,
        measure=difference("acc", "views, strong, tied", "views, strong", experiment="animals"),
        note=SEEDS,
    ),
    *(
        Claim(
            f"C9{letter}",
            f"{name}: less is forgotten.",
            "plugged into regularisation methods too",
            "forgetting, difference",
            at_most=0.0,
            measure=difference("forgetting", "views", experiment="others", strategy=strategy),
            note=SEEDS,
        )
        for letter, strategy, name in (
            ("a", "finetune", "Fine-tuning"),
            ("b", "lwf", "Distillation"),
            ("c", "ewc", "EWC"),
        )
    ),
    Claim(
        "C10a",
        "Turned digits, the same classes in all tasks: less is forgotten.",
        "on DomainNet too",
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views", experiment="rotations"),
        note=SEEDS,
    ),
    Claim(
        "C11a",
        "Each with a learning rate chosen on a seed of its own: less is forgotten.",
        EXTRA,
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views", experiment="rates"),
        note=SEEDS,
    ),
    Claim(
        "C11b",
        "And accuracy is no lower.",
        EXTRA,
        "accuracy, difference",
        at_least=0.0,
        measure=difference("acc", "views", experiment="rates"),
        note=SEEDS,
    ),
    Claim(
        "C12a",
        "Views forget less than as many distinct samples a step, in four times the updates.",
        EXTRA,
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views", "small batches", experiment="baselines"),
        note=SEEDS,
    ),
    Claim(
        "C12b",
        "Views forget less than as many views of each sample in ordinary epochs, four times as many.",
        EXTRA,
        "forgetting, difference",
        at_most=0.0,
        measure=difference("forgetting", "views", "four times the epochs", experiment="baselines"),
        note="Four times the images. " + SEEDS,
    ),
)

# Figures


def draw_variants(records: pd.DataFrame, ax: Axes) -> None:
    """Differences to the ordinary loader, with their intervals."""
    names = [v for v in select(records, "variants")["variant"].unique() if v != "ordinary"]
    metrics = (("acc", "accuracy", "ours", 0.1), ("forgetting", "forgetting", "truth", -0.1))
    for i, name in enumerate(names):
        for column, label, colour, offset in metrics:
            e = difference(column, name)(records)
            if isinstance(e, Exception):
                continue
            ax.errorbar(
                e.value,
                i + offset,
                xerr=[[e.value - e.low], [e.high - e.value]],
                fmt="o",
                color=PALETTE[colour],
                capsize=3,
                label=label if i == 0 else None,
            )
    ax.axvline(0, color=PALETTE["quiet"], linewidth=0.8)
    ax.set_yticks(range(len(names)), names)
    ax.set_xlabel("difference to the ordinary loader")
    ax.legend(frameon=False)


def draw_rest(records: pd.DataFrame, ax: Axes) -> None:
    full = recall_schedule(800, 32, views=4, epochs=40, rng=0)
    window = recall_schedule(800, 32, views=4, epochs=40, window=20, rng=0)
    for name, gaps in (("full", full.gaps()), ("window", window.gaps())):
        ax.hist(
            gaps,
            bins=range(0, 202, 4),
            alpha=0.6,
            label={"full": "full shuffle", "window": "shuffle in windows of 20"}[name],
        )
    ax.set(xlabel="steps until a sample comes back", ylabel="times")
    ax.margins(y=0.3)  # room for the legend above the peak
    ax.legend(frameon=False, fontsize=8, loc="upper left")


FIGURES = {"variants": draw_variants, "rest": draw_rest}
