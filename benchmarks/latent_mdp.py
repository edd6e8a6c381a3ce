"""Plans over histories against a recursion, and runs of learning against targets."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Target
from whp.peers.latent import POMDP_PY, RECURSION, UCBVI
from whp.rl import LatentMDP
from whp.studies.latent_mdp.experiments import learnt, selection


def digits() -> dict[str, Any]:
    return {"model": selection("digits", 12, 3).model}


def wide() -> dict[str, Any]:
    """A hundred thousand nodes of ten contexts in the last step."""
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(6, 0.5), (10, 6, 3))
    R = rng.random((10, 6, 3)) / 5
    return {"model": LatentMDP(np.full(10, 0.1), np.eye(6)[np.zeros(10, int)], P, R, 5)}


def wine() -> dict[str, Any]:
    return {"problem": selection("wine", 5, 2)}


def learning(data: dict[str, Any]) -> float:
    problem = data["problem"]
    model = problem.model
    made = learnt(
        model,
        "bernstein",
        3000,
        np.random.default_rng(0),
        planner="alternating",
        groups=problem.groups,
        possible=problem.possible,
        starts=(model.nu > 0).any(axis=0),
    )
    return float(made[-1])


CASES = [
    Case(
        name="plan of digits, 12 tests, 3 questions",
        setup=digits,
        ours=lambda d: d["model"].optimal().value,
        peers=[RECURSION.on(lambda d: (d["model"],)), POMDP_PY, UCBVI],
        repeats=5,
        target=Target(RECURSION.name, 1 / 20),
    ),
    Case(
        name="plan of 105,000 nodes of 10 contexts",
        setup=wide,
        ours=lambda d: d["model"].optimal().value,
        repeats=3,
        target=Target(seconds=1.5),
    ),
    Case(
        name="learning wine, 5 tests, 2 questions, 3,000 episodes",
        setup=wine,
        ours=learning,
        repeats=3,
        target=Target(seconds=6.0),
    ),
]
