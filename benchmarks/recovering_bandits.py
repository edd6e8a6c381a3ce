"""Timetables against OR-Tools, and learning against mabwiser."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.bandits import RecoveringPolicy, plan_recovering, upper_bound
from whp.experiment.benchmark import Case, Peer, Target
from whp.peers.bandits import CP_SAT, MABWISER


def curves(N: int, D: int, K: int) -> Any:
    def setup() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        a, tau = rng.uniform(0.2, 1, N), rng.uniform(0.5, D / 2, N)
        return {"R": a[:, None] * (1 - np.exp(-np.arange(1, D + 1) / tau[:, None])), "K": K}

    return setup


def plan(*, local_search: bool = True) -> Any:
    return lambda data: plan_recovering(data["R"], data["K"], local_search=local_search)


def bound_alone(data: dict[str, Any]) -> float:
    return upper_bound(data["R"], data["K"])


def world(data: dict[str, Any]) -> Any:
    """Known curves with normal noise, all arms just pulled."""
    R = data["R"]
    rng, last = np.random.default_rng(0), np.full(len(R), -1)

    def pull(t: int, arms: np.ndarray) -> np.ndarray:
        means = R[arms, np.minimum(t - last[arms], R.shape[1]) - 1]
        last[arms] = t
        return means + 0.1 * rng.standard_normal(len(arms))

    return pull


def learn(T: int) -> Any:
    def work(data: dict[str, Any]) -> None:
        N, D = data["R"].shape
        pull, policy = world(data), RecoveringPolicy(N, data["K"], T, D=D, noise=0.1)
        for t in range(T):
            arms = policy.act()
            policy.update(arms, pull(t, arms))

    return work


CASES = [
    Case(
        name="timetable of 12 arms, D = 8, K = 3",
        setup=curves(12, 8, 3),
        ours=plan(),
        peers=[CP_SAT.on(lambda data: (data["R"], data["K"]))],
        repeats=2,
        target=Target(CP_SAT.name, 0.05),
        note="The value has to come within 1 % of the peer's, which a test checks.",
    ),
    Case(
        name="timetable of 10,000 arms, D = 64, K = 500",
        setup=curves(10_000, 64, 500),
        ours=plan(),
        peers=[
            Peer("own, without local search", plan(local_search=False)),
            Peer("own bound alone", bound_alone),
        ],
        repeats=3,
        target=Target(seconds=2.0),
    ),
    Case(
        name="1,000 periods of learning 10 arms, D = 8, K = 3",
        setup=curves(10, 8, 3),
        ours=learn(1000),
        peers=[MABWISER.on(lambda data: (world(data), *data["R"].shape[:1], data["K"], 1000))],
        repeats=3,
        target=Target(MABWISER.name, 1.0),
    ),
]
