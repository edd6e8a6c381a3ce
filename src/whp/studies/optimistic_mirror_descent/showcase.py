"""The built-in example, and the method on real data against its baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.online import optimistic_mirror_descent
from whp.online._optimistic_mirror_descent.losses import Linear, normalized_rows
from whp.peers.descent import Baseline, baseline_losses
from whp.result import PALETTE
from whp.studies.optimistic_mirror_descent.experiments import HIRES, hourly

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Hourly bicycle hires in time order; biopsies in random order without the extra."""
    from whp.datasets.streams import bikeshare_regression, breast_cancer, has_bikeshare

    if not has_bikeshare():
        X, y = breast_cancer()
        return {"X": X, "y": y, "order": "shuffle", "rng": 0}
    table, target = bikeshare_regression()
    return {"X": table, "y": target, "radius": HIRES.R}


def showcase() -> Showcase:
    """A stream in time order: regret hour by hour, against gradient descent and AdaGrad-norm."""
    from whp.datasets.streams import breast_cancer, has_bikeshare

    X, y = hourly() if has_bikeshare() else breast_cancer()
    family = HIRES if has_bikeshare() else Linear("logistic", 1.0, 5.0, 1.0)
    ours = optimistic_mirror_descent(X, y, radius=family.R)
    A = normalized_rows(X)
    theirs = ours.comparator_losses
    curves = {"optimistic mirror descent": np.cumsum(ours.losses - theirs)}
    names: dict[str, Baseline] = {"AdaGrad-norm": "adagrad-norm", "gradient descent": "ogd"}
    for name, rule in names.items():
        curves[name] = np.cumsum(baseline_losses(rule, family, A, y) - theirs)

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        rounds = np.arange(1, len(X) + 1)
        ax.plot(
            rounds,
            ours.running_bound,
            "--",
            color=PALETTE["truth"],
            label="bound on ours, as the gradients came",
        )
        for (name, curve), colour in zip(
            curves.items(), (PALETTE["ours"], PALETTE["third"], PALETTE["other"]), strict=True
        ):
            ax.plot(rounds, curve, color=colour, label=name)
        ax.axhline(0, color=PALETTE["quiet"], linewidth=0.8, zorder=0)
        ax.set(xlabel="hours", ylabel="regret against the best fixed predictor")
        ax.legend(frameon=False)

    return Showcase(
        data=f"{len(X):,} hours of bicycle hires in time order"
        if has_bikeshare()
        else f"{len(X)} biopsies",
        quantity="regret against the best fixed predictor",
        ours=f"{ours.regret:.1f}",
        baseline=f"{curves['gradient descent'][-1]:.1f}",
        baseline_name="online gradient descent",
        certificates=ours.certificates,
        draw=draw,
        caption="Below zero the learner predicts better than the best fixed predictor in hindsight: it follows the day. No "
        "learning rate was set; the dashed bound holds for whatever gradients come.",
        code="optimistic_mirror_descent(X, y, radius=2)",
    )
