"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.measures import largest, least, mean
from whp.experiment.study import Claim, select
from whp.result import PALETTE
from whp.studies.finite_time_path_qft.experiments import TIMES, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
SPLIT = "Σ_F is not splittable, products with a propagator are"
VERTEX = "at d < 4 vertices conserve energy"
LIMIT = "the limit of repaired products exists"
TADPOLE = "oscillating tadpole contributions vanish as t → ∞"


def at(experiment: str, **wanted: Any) -> dict[str, Any]:
    """Rows of an experiment."""
    return {"experiment": experiment, **wanted}


CLAIMS = study.claims(
    Claim(
        "C1a",
        "In four dimensions the split of a loop by itself depends on the cut-off, more and more.",
        SPLIT,
        "least ratio of effects of tenfold cut-offs",
        at_least=1.0,
        measure=least("loop", at("cutoffs", kappa=0.0)),
        computed=True,
    ),
    Claim(
        "C1b",
        "That of the product with a propagator does not.",
        SPLIT,
        "largest ratio",
        at_most=0.5,
        measure=largest("product", at("cutoffs", kappa=0.0)),
        computed=True,
    ),
    Claim(
        "C2a",
        "Below four dimensions a loop misses its dispersion relation by Λ^{−2κ}.",
        VERTEX,
        "largest distance of the exponent from −2κ, κ = .3",
        at_most=0.01,
        measure=largest("exponent_off", at("dispersion", kappa=0.3)),
        computed=True,
    ),
    Claim(
        "C2b",
        "In four dimensions it misses more and more.",
        SPLIT,
        "least exponent",
        at_least=0.0,
        measure=least("exponent", at("dispersion", kappa=0.0)),
        computed=True,
    ),
    Claim(
        "C3a",
        "Subtracted in the product, the limit κ → 0 is the product in four dimensions.",
        LIMIT,
        "largest relative difference, extrapolated from four κ",
        at_most=1e-6,
        measure=largest("repaired_off", at("limit")),
        computed=True,
    ),
    Claim(
        "C3b",
        "Its vertex conserves energy: product in energy and convolution in time agree.",
        VERTEX,
        "largest relative difference",
        at_most=1e-6,
        measure=largest("vertex_off", at("limit")),
        computed=True,
    ),
    Claim(
        "C3c",
        "Subtracted before, it moves without limit: by its own size for each two decades of a cut-off in time.",
        NONE,
        "least movement over the largest value",
        at_least=1.0,
        measure=least("first_moves", at("limit")),
        computed=True,
    ),
    Claim(
        "C4a",
        "The oscillating tadpole of a localised source vanishes like t^{−3/2}.",
        TADPOLE,
        "largest distance of the exponent from −1.5",
        at_most=0.05,
        measure=largest("localised_off", at("tadpoles")),
        computed=True,
    ),
    Claim(
        "C4b",
        "That of a constant source vanishes as well.",
        TADPOLE,
        "exponent",
        at_most=-0.05,
        measure=largest("constant", at("tadpoles")),
        computed=True,
        note="Not pointwise: only averaged over time, or with a width.",
    ),
    Claim(
        "C5",
        "By 20/m a smeared propagator is that of infinite time.",
        "finite-time functions approach the usual ones",
        "largest difference",
        at_most=1e-3,
        measure=largest("off", at("late")),
        computed=True,
    ),
    Claim(
        "C6a",
        "In a young plasma decays below the threshold go on at 1/m, at a hundredth of the rate above or more.",
        NONE,
        "mean rate over that at 3 masses",
        at_least=0.01,
        measure=mean("below", at("decays", time=1.0, state="young plasma")),
    ),
    Claim(
        "C6b",
        "By 30/m they are a hundredth or less.",
        NONE,
        "mean rate over that at 3 masses",
        at_most=0.01,
        measure=mean("below", at("decays", time=30.0, state="young plasma")),
    ),
    Claim(
        "C7",
        "Principal values are those of scipy.",
        NONE,
        "largest relative difference",
        at_most=1e-7,
        measure=largest("off", at("peer")),
        computed=True,
    ),
)


def _draw_decays(records: pd.DataFrame, ax: Axes) -> None:
    rows = select(records, "decays")
    for state, colour in (("young plasma", PALETTE["ours"]), ("vacuum", PALETTE["other"])):
        cells = rows[rows["state"] == state].groupby("time")["below"].mean()
        ax.plot(cells.index, cells, "o-", color=colour, label=state)
    ax.set(
        xscale="log",
        yscale="log",
        xticks=TIMES,
        xticklabels=[f"{t:g}" for t in TIMES],
        xlabel="mass × time since the switch",
        ylabel="decay rate below the threshold\nover that at 3 masses",
    )
    ax.legend(frameon=False)


def _draw_cutoffs(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "cutoffs").groupby("kappa")[["loop", "product"]].mean()
    for name, colour, label in (
        ("loop", PALETTE["other"], "loop by itself"),
        ("product", PALETTE["ours"], "times a propagator"),
    ):
        ax.plot(cells.index, cells[name], "o-", color=colour, label=label)
    ax.axhline(1, color=PALETTE["quiet"], linewidth=0.8)
    ax.set(xlabel="κ = (4 − d)/2", ylabel="what a tenfold cut-off leaves", yscale="log")
    ax.legend(frameon=False)


FIGURES = {"decays": _draw_decays, "cutoffs": _draw_cutoffs}
