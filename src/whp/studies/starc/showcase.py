"""The built-in example, and the method on FrozenLake against EPIC."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.result import PALETTE
from whp.rl import starc, tabular_model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]

HOLES, SIDE = (5, 7, 11, 12), 4
ARROWS = {0: (-1, 0), 1: (0, -1), 2: (1, 0), 3: (0, 1)}  # left, down, right, up


def example() -> dict[str, Any]:
    """FrozenLake, whose goal is meant, against a reward that also punishes falling into a hole."""
    model = tabular_model("FrozenLake-v1")
    other = model.reward.copy()
    for hole in HOLES:
        other[np.arange(16) != hole, :, hole] -= 1
    return {
        "reward1": model.reward,
        "reward2": other,
        "transitions": model.transitions,
        "start": model.start,
        "discount": 0.95,
    }


def showcase() -> Showcase:
    """What a penalty for holes can cost on a slippery lake: the pair of policies, and the distances."""
    arguments = example()
    made = starc(**arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        epic = starc(**arguments, canonical="epic", measure=False).distance
    worst = made.regret
    assert worst is not None

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2)
        for ax, policy, title in (
            (panels[0], worst.policy_good, "reaches the goal, with falls"),
            (panels[1], worst.policy_bad, "as good with the penalty: stays away"),
        ):
            _lake(ax, policy)
            ax.set_title(title, fontsize=10)
        for ax, earned in zip(panels, worst.returns[0], strict=True):
            share = max(0.0, earned) / worst.ranges[0]  # the worst policy earns nothing
            ax.set_xlabel(f"earns {100 * share:.0f} % of what the best does")

    return Showcase(
        data="FrozenLake-v1, a penalty of 1 for holes",
        quantity="share of all return that the changed reward can lose",
        ours=f"{100 * worst.relative:.1f} % (exact)",
        baseline=f"EPIC {epic / 2:.2f} of 1",
        baseline_name="a distance without a bound",
        certificates=made.certificates,
        draw=draw,
        caption="Punishing falls sounds harmless, yet a policy that the changed reward finds no worse can stay away from the goal "
        f"nearly altogether: {100 * worst.relative:.0f} % of all return is at stake.",
        code="starc(reward, penalised, transitions, discount=0.95, start=start)",
    )


def _lake(ax: Any, policy: np.ndarray) -> None:
    """The map, with what the policy does in each cell."""
    for cell in range(SIDE * SIDE):
        x, y = cell % SIDE, SIDE - 1 - cell // SIDE
        colour = {15: PALETTE["third"]}.get(cell, PALETTE["truth"] if cell in HOLES else "none")
        ax.add_patch(_square(x, y, facecolor=colour, alpha=0.5 if colour != "none" else 1.0))
        if cell in HOLES or cell == 15:
            ax.text(x, y, "goal" if cell == 15 else "hole", ha="center", va="center", fontsize=8)
            continue
        for action, share in enumerate(policy[cell]):
            if share > 0.01:
                dx, dy = ARROWS[action]
                ax.annotate(
                    "",
                    (x + 0.38 * dx, y + 0.38 * dy),
                    (x, y),
                    arrowprops={
                        "arrowstyle": "->",
                        "lw": 0.5 + 2 * share,
                        "color": PALETTE["ours"],
                    },
                )
    ax.set(xlim=(-0.5, SIDE - 0.5), ylim=(-0.5, SIDE - 0.5), xticks=[], yticks=[])
    ax.set_aspect("equal")


def _square(x: int, y: int, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, edgecolor=PALETTE["quiet"], **style)
