"""The built-in example, and the loss on real data with wrong labels against cross-entropy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.experiment.study import Showcase
from whp.losses import comp_sum_losses
from whp.result import PALETTE
from whp.studies.comp_sum_losses.experiments import halves_of_digits, noisy_digits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]

DIALS = (0.5, 1.0, 1.3, 1.5, 1.7, 2.0)


def example() -> dict[str, Any]:
    """Half of the digits, a fifth of their labels flipped, judged by a network that learnt the other half."""
    return halves_of_digits() | {"noise": 0.2}


def showcase() -> Showcase:
    """Error on clean digits over the dial, a fifth of the training labels flipped."""
    runs = {tau: noisy_digits(tau) for tau in DIALS}
    errors = {
        tau: float((r["logits"].argmax(axis=1) != r["y_clean"]).mean()) for tau, r in runs.items()
    }
    judged = comp_sum_losses(**example())

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        left.plot(list(errors), list(errors.values()), "o-", color=PALETTE["ours"])
        left.plot(
            1.0, errors[1.0], "o", color=PALETTE["other"], markersize=10, label="cross-entropy"
        )
        left.set(
            xlabel="dial τ of the loss in training",
            ylabel="error on clean test digits",
            ylim=(0, None),
        )
        left.legend(frameon=False)
        judged.plot(right)

    return Showcase(
        data=f"{len(runs[1.0]['y'])} test digits, 20 % of the training labels wrong",
        quantity="error on clean labels",
        ours=f"{errors[1.7]:.1%}",
        baseline=f"{errors[1.0]:.1%}",
        baseline_name="cross-entropy",
        certificates=judged.certificates,
        draw=draw,
        caption="Left: with cross-entropy a network learns wrong labels by heart; at τ = 1.7 it leaves "
        "them aside. Right: what the risk of a network says about its error where a fifth of the labels that "
        "judge it are wrong, by the theorem and by one line; errors counted (the band) say more.",
        code="CompSumLoss(tau=1.7); comp_sum_losses(logits, y, noise=0.2)",
    )
