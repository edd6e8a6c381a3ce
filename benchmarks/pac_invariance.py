"""All subsets of the columns over all environments, against invariant causal prediction."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Target
from whp.invariance import pac_invariance
from whp.peers import invariance
from whp.studies.pac_invariance.truth import flat, sem


def flights() -> dict[str, Any]:
    from whp.datasets.tables import flights_by_carrier_and_month

    X, y, where = flights_by_carrier_and_month()
    return {"X": X.to_numpy(), "y": y.to_numpy(), "env": where["both"].to_numpy()}


def models() -> dict[str, Any]:
    X, y, env = flat(*sem(np.random.default_rng(0), 20, 200))
    return {"X": X, "y": y, "env": env}


def many_subsets() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    env = np.repeat(np.arange(200), 100)
    X = rng.standard_normal((20_000, 12))
    beta = 1 + 0.3 * rng.standard_normal((200, 12))
    return {"X": X, "y": (X * beta[env]).sum(axis=1) + rng.standard_normal(20_000), "env": env}


def ours(data: dict[str, Any]) -> Any:
    return pac_invariance(**data)


def rows(data: dict[str, Any]) -> tuple[Any, Any, Any]:
    return data["X"], data["y"], data["env"]


CASES = [
    Case(
        name="325,041 flights, 132 environments, 15 subsets, certificates and all",
        setup=flights,
        ours=ours,
        peers=[invariance.CAUSALICP.on(rows)],
        repeats=2,
        target=(Target("causalicp", 0.25), Target(seconds=0.6)),
        note="causalicp tests each subset for exact invariance and rejects all; it has no number to give.",
    ),
    Case(
        name="20 environments of 200 rows, 7 subsets",
        setup=models,
        ours=ours,
        peers=[invariance.CAUSALICP.on(rows)],
        repeats=5,
        target=Target("causalicp", 0.25),
    ),
    Case(
        name="200 environments of 100 rows, 12 columns, 4,095 subsets",
        setup=many_subsets,
        ours=ours,
        peers=[],
        repeats=1,
        target=Target(seconds=60.0),
        note="causalicp would take an hour.",
    ),
]
