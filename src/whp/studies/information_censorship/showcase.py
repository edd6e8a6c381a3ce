"""The built-in example, and the method on real data against a filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.datasets.networks import asia
from whp.experiment.study import Showcase
from whp.llm import information_censorship
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]

EPS = 0.05
BUDGETS = np.geomspace(0.002, 0.145, 12)


def example() -> dict[str, Any]:
    """Patients of a chest clinic: lung cancer is refused, three findings may be asked for."""
    return {
        "table": asia(),
        "target": "lung",
        "prior": "weight",
        "ask": "smoke,xray,dysp",
        "eps": EPS,
        "calibrate": "exact",
        "benign": "bronc",
    }


def showcase() -> Showcase:
    """Refuse "lung cancer?", answer three innocent questions: what they give away, and what a budget lets through."""
    arguments = example()
    made = information_censorship(**arguments)
    shares = {
        name: [
            information_censorship(**arguments | {"eps": float(eps), "calibrate": name}).strength
            or 0.0
            for eps in BUDGETS
        ]
        for name in ("exact", "universal")
    }

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        made.draw(left)
        for name, colour in (("exact", "ours"), ("universal", "third")):
            right.plot(BUDGETS, shares[name], "o-", ms=3, color=PALETTE[colour], label=name)
        right.axvline(EPS, color=PALETTE["truth"], linewidth=1)
        right.set(
            xscale="log",
            xlabel="budget ε, nats",
            ylabel="share of questions answered",
            ylim=(0, 1.02),
        )
        right.legend(frameon=False, fontsize="small", title="calibrated", title_fontsize="small")

    return Showcase(
        data="128 kinds of patients of the chest clinic, three findings",
        quantity="nats learnt of a refused diagnosis from three answers",
        ours=f"{made.leakage:.3f} (budget {EPS})",
        baseline=f"{made.leakage_uncensored:.3f}",
        baseline_name="refusing the question itself",
        certificates=made.certificates,
        draw=draw,
        caption=f"Lung cancer is refused, and smoking, X-ray and breath give {100 * made.leakage_uncensored / made.ceiling:.0f} % "
        f"of it away. Answers that leave with probability {made.strength:.2f} keep to the budget, whatever is combined.",
        code="information_censorship(patients, 'lung', prior='weight', ask='smoke,xray,dysp', eps=0.05, calibrate='exact')",
    )
