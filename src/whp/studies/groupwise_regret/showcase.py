"""The built-in example, and the method on real data against its baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.online import groupwise_regret
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """The census with 12 groups by age, schooling, gender and ethnicity; random groups without the extra."""
    from whp.datasets.tables import census_groups, has_census

    if not has_census():
        rng = np.random.default_rng(0)
        X, G = rng.random((5000, 5)), rng.random((5000, 4)) < 0.5
        y = np.where(G[:, 0], X[:, 0], X[:, 1])
        return {"X": X, "y": y, "groups": G, "target_range": (0, 1)}
    X, y, groups = census_groups()
    return {
        "X": X.to_numpy(dtype=np.float64),
        "y": y.to_numpy(),
        "groups": groups,
        "target_range": (0, 1),
    }


def showcase() -> Showcase:
    """Regret of every group of the census, against one global model."""
    ours = groupwise_regret(**example(), order="shuffle", rng=0)
    report = ours.report
    worst = report["global_regret"].idxmax()

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        place = np.arange(len(report))[::-1]
        for shift, column, colour, label in (
            (0.2, "global_regret", "other", "one global model"),
            (-0.2, "regret", "ours", "groupwise"),
        ):
            ax.barh(place + shift, report[column], 0.38, color=PALETTE[colour], label=label)
        ax.plot(
            report["bound"],
            place,
            "|",
            color=PALETTE["truth"],
            markersize=10,
            label="proven bound of this run",
        )
        named = zip(report["group"], report["rounds"], strict=True)
        ax.set_yticks(place, [f"{g} ({n:,})" for g, n in named])
        ax.axvline(0, color=PALETTE["quiet"], linewidth=0.8)
        ax.set(xlabel="regret against the group's best linear model in hindsight")
        ax.legend(frameon=False, fontsize="small")

    return Showcase(
        data=f"{len(ours.losses):,} adults of a census, {len(report)} overlapping groups",
        quantity=f"regret of {report['group'][worst]}, whom one global model serves worst",
        ours=f"{report['regret'][worst]:.1f}",
        baseline=f"{report['global_regret'][worst]:.1f}",
        baseline_name="one global online ridge regression",
        certificates=ours.certificates,
        draw=draw,
        caption="Below zero a group is predicted better than by its own best linear model in "
        "hindsight. The bound of every group was executed on this run.",
        code="groupwise_regret(X, y, groups, target_range=(0, 1))",
    )
