"""The built-in example, and the method at work beside temperature scaling."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.calibration._h_calibration.band import POOLED, band
from whp.calibration._h_calibration.front_door import h_calibration
from whp.calibration._h_calibration.metrics import ece
from whp.calibration._h_calibration.result import draw_band
from whp.experiment.study import Showcase
from whp.peers.calibration import temperature_scaling
from whp.result import PALETTE
from whp.studies.h_calibration.experiments import TEMPERATURE, images, naive_logits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Gaussian naive Bayes on scikit-learn's digits, rows taken in turn to train, calibrate and test."""
    X, y = images("digits")
    turn = np.arange(len(y)) % 3
    (z, labels), (t, test) = naive_logits([(X[turn == k], y[turn == k]) for k in range(3)])
    return {
        "logits": z,
        "y": labels,
        "logits_test": t,
        "y_test": test,
        "from_probs": False,
        "rng": 0,
    }


def showcase() -> Showcase:
    """Reliability bands of one temperature fitted by log-loss and of one fitted by windows."""
    data = example()
    ours = h_calibration(**data, blocks=20)
    t, y = data["logits_test"], data["y_test"]
    theirs = temperature_scaling(data["logits"], data["y"], t)
    assert ours.probs_test is not None
    tables = {
        "by log-loss": (band(theirs, y, blocks=20), PALETTE["other"]),
        "h-calibration": (ours.blocks, PALETTE["ours"]),
    }

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True)
        for ax, (name, (table, colour)) in zip(axes, tables.items(), strict=True):
            stated = table["mean_predicted"]
            miss = (table["lower"] > stated) | (table["upper"] < stated)
            draw_band(ax, table[~miss], colour, "reaches the diagonal", POOLED)
            if (miss & (table["part"] == POOLED)).any():
                draw_band(ax, table[miss], PALETTE["truth"], "cannot be right", POOLED)
            ax.plot([0.001, 1], [0.001, 1], color=PALETTE["quiet"], linewidth=0.8)
            ax.set_xscale("symlog", linthresh=0.01)
            ax.set_yscale("symlog", linthresh=0.01)
            ax.set(xlabel=f"{name}: stated probability", xlim=(-0.001, 1.3), ylim=(-0.001, 1.3))
            ax.legend(frameon=False, fontsize=8, loc="upper left")
        axes[0].set_ylabel("true probability, 95 % at once")

    return Showcase(
        data=f"{len(y)} test digits, Gaussian naive Bayes",
        quantity="expected calibration error, the same map with one parameter",
        ours=f"{ece(ours.probs_test, y):.3f}",
        baseline=f"{ece(theirs, y):.3f}",
        baseline_name=TEMPERATURE,
        certificates=ours.certificates,
        draw=draw,
        caption="What was stated against what is true, in 20 blocks of predictions with simultaneous "
        "95 % intervals. A bar that misses the diagonal proves an error; logarithmic above 0.01.",
        code="h_calibration(logits, y, logits_test=..., y_test=...)",
    )
