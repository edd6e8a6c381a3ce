"""Stages of a model of the King James Bible, killed while it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.distributed import CheckFreeResult, checkfree
from whp.experiment.study import Showcase
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """The King James Bible, and six kills."""
    from whp.datasets.activations import verses

    text = "\n".join(v for _, v in verses())
    return {
        "text": text[:400_000],
        "steps": 150,
        "batch": 8,
        "fail": "2@50,0@65,3@80,1@80,5@95,4@110",
        "rng": 0,
    }


def showcase() -> Showcase:
    """Real processes on the Bible, really killed, beside a run that goes back to checkpoints."""
    wanted = {
        **example(),
        "steps": 60,
        "batch": 8,
        "evaluate_every": 10,
        "checkpoint_every": 20,
        "lr": 3e-3,
        "fail": "2@26,0@33,3@40,5@47,1@54",
    }
    ours: CheckFreeResult = checkfree(**wanted)
    back: CheckFreeResult = checkfree(**wanted, mode="checkpoint")

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        ours.plot(left)
        label = "checkpoints, held out"
        left.plot(back.evaluated, back.heldout, color=PALETTE["other"], label=label)
        left.legend(framealpha=0.95, edgecolor="none", fontsize=8)
        ours.plot_timeline(right)

    return Showcase(
        data="400,000 characters of the King James Bible, 6 stage processes, 5 of them killed",
        quantity="held-out loss after 60 iterations, nats a character",
        ours=f"{ours.heldout[-1]:.3f}",
        baseline=f"{back.heldout[-1]:.3f}",
        baseline_name="checkpoint every 20 iterations",
        certificates=ours.certificates,
        draw=draw,
        caption="Left: every line is a SIGKILL; the stage is rebuilt from its neighbours and training goes on, where checkpoints "
        f"roll everything back. Right: what processes did. Ready again after {ours.recoveries['seconds'].median():.2f} s (median).",
        code='checkfree(text, fail="2@26,0@33,3@40,5@47,1@54")',
    )
