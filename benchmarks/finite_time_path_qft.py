"""Self-energies against mpmath and scipy, products in time against a grid."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Target
from whp.peers.qft import GRID, MPMATH, PYSECDEC, SCIPY
from whp.qft import Field, composite, finite_time_path, self_energy

ENERGIES = np.linspace(0.05, 8, 200)
ABOVE = np.linspace(2.1, 6, 100)
TIMES = np.linspace(0.2, 10, 100)


def shared() -> dict[str, Any]:
    return {"vacuum": Field(), "hot": Field(distribution=1.0)}


CASES = [
    Case(
        name="vacuum at 200 energies",
        setup=shared,
        ours=lambda data: self_energy(ENERGIES, 0.0, data["vacuum"]),
        peers=[MPMATH.on(lambda data: (ENERGIES,)), PYSECDEC],
        repeats=3,
        target=Target(MPMATH.name, 0.01),
    ),
    Case(
        name="real part of the medium at 100 energies above the threshold",
        setup=shared,
        ours=lambda data: self_energy(ABOVE, 0.0, data["hot"], part="medium"),
        peers=[SCIPY.on(lambda data: (ABOVE, 1.0))],
        repeats=5,
        target=Target(SCIPY.name, 1.0),
    ),
    Case(
        name="medium at 1,000 energies, in motion",
        setup=shared,
        ours=lambda data: self_energy(np.linspace(0.05, 6, 1000), 0.5, data["hot"]),
        peers=[],
        repeats=3,
        target=Target(seconds=0.5),
    ),
    Case(
        name="product at 100 times, κ = .3",
        setup=shared,
        ours=lambda data: composite(TIMES, 0.0, data["vacuum"], kappa=0.3, scheme="bare"),
        peers=[GRID.on(lambda data: (TIMES,))],
        repeats=3,
        target=Target(GRID.name, 0.05),
    ),
    Case(
        name="front door with its defaults and a temperature",
        setup=shared,
        ours=lambda data: finite_time_path(temperature=1.0, rng=0),
        peers=[],
        repeats=2,
        target=Target(seconds=3.0),
    ),
]
