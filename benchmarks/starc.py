"""Distances and worst cases of rewards against quantecon and a linear program."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Peer, Target
from whp.peers.rewards import PAIR_PROGRAM, QUANTECON
from whp.rl import canonicalise, range_of_return, starc, tabular_model, worst_case_regret

DISCOUNT = 0.95


def table(S: int, A: int) -> Any:
    def setup() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        P = rng.dirichlet(np.full(S, 0.3), (S, A))
        r1 = rng.normal(size=(S, A))
        return {
            "P": P,
            "r1": r1,
            "r2": r1 + 0.5 * rng.normal(size=(S, A)),
            "start": np.full(S, 1 / S),
        }

    return setup


def taxi() -> dict[str, Any]:
    model = tabular_model("Taxi-v4")
    other = np.where(model.reward == -10, -1, model.reward)
    return {"P": model.transitions, "r1": model.reward, "r2": other, "start": model.start}


def whole(data: dict[str, Any]) -> None:
    starc(data["r1"], data["r2"], data["P"], discount=DISCOUNT, start=data["start"])


def worst(data: dict[str, Any]) -> float:
    return worst_case_regret(data["r1"], data["r2"], data["P"], discount=DISCOUNT).absolute


def form_by_loops(data: dict[str, Any]) -> np.ndarray:
    """VAL as the published scripts have it: values by sweeps over states, actions and next states."""
    P, r = data["P"], data["r1"]
    S, A = r.shape
    v = np.zeros(S)
    for _ in range(20):  # of some 400 that it takes
        new = np.zeros(S)
        for s in range(S):
            for a in range(A):
                new[s] += (r[s, a] + DISCOUNT * sum(P[s, a, t] * v[t] for t in range(S))) / A
        v = new
    return r + DISCOUNT * P @ v - v[:, None]


CASES = [
    Case(
        name="worst case of 128 states, 16 actions",
        setup=table(128, 16),
        ours=worst,
        peers=[PAIR_PROGRAM.on(lambda d: (d["P"], d["r1"], d["r2"], d["start"], DISCOUNT))],
        repeats=5,
        target=Target(PAIR_PROGRAM.name, 1 / 3),
    ),
    Case(
        name="range of returns of 128 states, 16 actions",
        setup=table(128, 16),
        ours=lambda d: range_of_return(d["r1"], d["P"], discount=DISCOUNT),
        peers=[QUANTECON.on(lambda d: (d["P"], d["r1"], DISCOUNT))],
        repeats=5,
        note="Ours finds the lowest return as well, and advantages; the peer the highest alone.",
    ),
    Case(
        name="advantages of 32 states, 4 actions",
        setup=table(32, 4),
        ours=lambda d: canonicalise(d["r1"], d["P"], discount=DISCOUNT),
        peers=[Peer("loops in Python, a twentieth of their sweeps", form_by_loops)],
        repeats=3,
        target=Target("loops in Python, a twentieth of their sweeps", 0.2),
    ),
    Case(
        name="all of 128 states, 16 actions",
        setup=table(128, 16),
        ours=whole,
        repeats=5,
        target=Target(seconds=0.06),
    ),
    Case(
        name="all of Taxi, 501 states, 6 actions",
        setup=taxi,
        ours=whole,
        repeats=3,
        target=Target(seconds=1.5),
    ),
]
