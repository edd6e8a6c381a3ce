"""The built-in example, and the method on flights against plain averages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.invariance import causal_minimax
from whp.result import PALETTE
from whp.studies.causal_minimax.experiments import BINS, FLIGHTS, flights_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Which flights leave late, where crews may fly at any speed."""
    return {
        "data": flights_table(),
        "graph": FLIGHTS,
        "target": "late",
        "mutable": "speed",
        "bins": BINS,
    }


def showcase() -> Showcase:
    """Late flights, with speed mutable: worst cases of all subsets, and what mechanisms of speed do to one of them."""
    made = causal_minimax(**example(), rng=0)
    table = made.table
    row = table[table["subset"] == "arr"].iloc[0]

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        made.draw(left)
        rows = table.sort_values("worst_risk")
        y = np.arange(len(rows))
        right.barh(y + 0.2, rows["worst_risk"], 0.38, color=PALETTE["ours"], label="speed set")
        right.barh(
            y - 0.2,
            rows["erm_worst_risk"],
            0.38,
            color=PALETTE["other"],
            label="speed observed (ERM)",
        )
        right.set_yticks(y, [s or "none" for s in rows["subset"]], fontsize="small")
        right.invert_yaxis()
        right.set(xlabel="worst risk over mechanisms of speed", xlim=(0, 0.22))
        right.legend(frameon=False, fontsize="small", loc="upper right")

    return Showcase(
        data="327,346 flights: late or not, by hour, distance, speed, arrival",
        quantity="worst-case risk with {arr}, over all mechanisms of speed",
        ours=f"{row['worst_risk']:.4f}",
        baseline=f"{row['erm_worst_risk']:.4f}",
        baseline_name="ERM, cell means",
        certificates=made.certificates,
        draw=draw,
        caption="Crews make up time, so that the speed depends on being late. A mean that observes the speed learns "
        "how crews fly today; with the speed set, the worst case over all that they might do falls, and in training "
        f"nothing is lost. No environment of that kind is above U = {made.upper_limit:.3f} for all variables.",
        code="causal_minimax(flights, graph, target='late', mutable='speed', bins=edges)",
    )
