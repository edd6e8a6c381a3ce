"""The built-in example, and the method on wine against asking the same tests of everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.experiment.study import Showcase
from whp.result import PALETTE
from whp.rl import latent_mdp
from whp.rl._latent_mdp.selection import fitted, halved, outcomes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]

SEED, QUERIES = 0, 2


def example() -> dict[str, Any]:
    """Cultivars of 178 wines by thirteen measurements, of which two may be asked for."""
    from sklearn.datasets import load_wine

    made: Any = load_wine(as_frame=True)
    names = {i: str(n) for i, n in enumerate(made.target_names)}
    table = made.data.assign(cultivar=made.target.map(names))
    return {"data": table, "context": "cultivar", "queries": QUERIES, "rng": SEED}


def at_once(table: pd.DataFrame, queries: int, seed: int) -> float:
    """Share of right labels in the same rows when the most telling tests are done at once and weighed by Bayes' rule."""
    y = np.unique(table["cultivar"], return_inverse=True)[1]
    rows = halved(y, np.random.default_rng(seed))
    found, _ = outcomes(table.drop(columns="cultivar"), rows, 3)
    fit = fitted(found, y, int(y.max()) + 1, rows, queries, ())
    logs = np.log(fit.w) + sum(
        np.log(law[:, fit.tests.code[:, j]]).T for j, law in enumerate(fit.laws)
    )
    return float((logs.argmax(axis=1) == y)[~rows].mean())


def showcase() -> Showcase:
    """Which of two tests to ask next, against the two most telling tests for everybody."""
    arguments = example()
    made = latent_mdp(**arguments)
    assert made.accuracy is not None
    assert made.steps is not None
    same = at_once(arguments["data"], QUERIES, SEED)

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _tree(left, made.steps)
        made.plot(right)
        right.axhline(same, color=PALETTE["other"], lw=1, ls=":", label="same two tests for all")
        right.legend(frameon=False, loc="lower right", fontsize=8)

    return Showcase(
        data="178 wines of three cultivars, 13 measurements",
        quantity="right of the rows that were not fitted, two questions each",
        ours=f"{100 * made.accuracy.value:.1f} %",
        baseline=f"{100 * same:.1f} %",
        baseline_name="the same two tests for all",
        certificates=made.certificates,
        draw=draw,
        caption="What is asked second depends on the first answer. "
        f"The fitted model expects {100 * made.value:.0f} %; half of the rows, which it has not seen, say "
        f"{100 * made.accuracy.low:.0f} % or more.",
        code="latent_mdp(table, context='cultivar', queries=2)",
    )


def _tree(ax: Any, steps: pd.DataFrame) -> None:
    """The plan from left to right: what is asked, and what is named."""
    leaves = steps[steps["does"].str.startswith("name")].reset_index(drop=True)
    place = {after: -float(i) for i, after in enumerate(leaves["after"])}
    for _, row in steps[::-1].iterrows():
        if row["after"] not in place:
            start = "" if row["after"] == "(start)" else f"{row['after']}, "
            below = [
                y
                for after, y in place.items()
                if after.startswith(start) and after.count(",") == start.count(",")
            ]
            place[row["after"]] = float(np.mean(below))
    for _, row in steps.iterrows():
        x, y = float(row["step"]), place[row["after"]]
        if row["after"] != "(start)":
            parent = row["after"].rpartition(", ")[0] or "(start)"
            ax.plot(
                [x - 1, x - 0.5, x],
                [place[parent], y, y],
                color=PALETTE["quiet"],
                lw=0.6 + 4 * row["share"],
                zorder=0,
                solid_capstyle="round",
            )
            answer = row["after"].rpartition(", ")[2].split(" ", 1)[1]
            ax.text(x - 0.47, y + 0.1, answer, fontsize=6.5, color=PALETTE["quiet"])
        ask = row["does"].startswith("ask")
        said = row["does"].partition(" ")[2]
        ax.text(
            x,
            y,
            said.replace("/", "/\n").replace("_", " "),
            fontsize=7,
            va="center",
            bbox={
                "boxstyle": "round,pad=.25",
                "fc": "white",
                "ec": PALETTE["ours"] if ask else PALETTE["third"],
            },
        )
    ax.set(xlim=(0.95, steps["step"].max() + 0.45), ylim=(-len(leaves) + 0.3, 0.7))
    ax.axis("off")
