"""The built-in example, and what is seen of a hot gas before its collisions have had time to be energy-conserving."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.qft import Field, finite_time_path, self_energy, self_energy_at
from whp.result import PALETTE
from whp.studies.finite_time_path_qft.experiments import PION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]

FREEZE_OUT = 156.0  # MeV


def example() -> dict[str, Any]:
    """Pion-like modes of 139.57 MeV at 156 MeV, where heavy-ion collisions freeze out."""
    return {"temperature": FREEZE_OUT, "mass": PION, "rng": 0}


def showcase() -> Showcase:
    """Decay rates of a hot gas at finite times, against the textbook's sharp threshold."""
    report = finite_time_path(**example())
    field = Field(PION, PION, FREEZE_OUT)
    E = np.linspace(0.2, 5, 260)
    late = -self_energy(E * PION, 0.0, field).imag / PION**2
    early = {
        X: -np.imag(self_energy_at(E * PION, 0.0, field, X / PION)) / PION**2 for X in (1, 3, 10)
    }
    below = float(np.interp(1.5, E, early[1]))

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        ax.axvspan(E[0], 2, color=PALETTE["quiet"], alpha=0.12, linewidth=0)
        ax.text(
            0.3,
            late.max() * 0.93,
            "no decays here\nat infinite time",
            va="top",
            color=PALETTE["quiet"],
        )
        for (X, rate), colour in zip(early.items(), ("fourth", "other", "third"), strict=True):
            ax.plot(E, rate, color=PALETTE[colour], label=f"mass × time = {X}")
        ax.plot(E, late, color=PALETTE["ours"], linewidth=2, label="infinite time")
        ax.set(xlabel="energy / mass", ylabel="−Im Σ / mass²")
        ax.legend(frameon=False)

    return Showcase(
        data="pion-like modes, 139.57 MeV at 156 MeV",
        quantity="decay rate × energy at 1.5 masses, over mass², at 1/mass after the switch",
        ours=f"{below:.2e}",
        baseline="0",
        baseline_name="infinite time",
        certificates=report.certificates,
        draw=draw,
        caption="Below twice the mass nothing decays at infinite time. At finite time energy is smeared over "
        "1/time, and decays below the threshold go on (a smeared rate may be negative: it is not yet a "
        "probability); by ten times 1/mass the textbook's curve is there.",
        code="finite_time_path(temperature=156.0, mass=139.57)",
    )
