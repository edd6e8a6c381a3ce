"""Leakage against dit and libqif, and the sizes that users have."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Peer, Target
from whp.llm import information_censorship, read_system
from whp.llm._information_censorship.leakage import (
    Measure,
    leakage,
    sampled,
    subset_terms,
    subsets,
    tensor,
)
from whp.peers.leakage import DIT, DIT_MEASURE, GUARDRAILS, QIF, dit_distribution


def channels(W: int, J: int, Y: int, m: int = 4) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    system = read_system([rng.dirichlet(np.ones(Y), W) for _ in range(J)], np.arange(W) % m)
    dense = [system.dense(j) for j in range(J)]
    laws = [
        tensor(np.where(system.answer == a, system.prior, 0.0), dense)
        for a in range(len(system.names))
    ]
    return {
        "system": system,
        "dense": dense,
        "all": Measure(np.ones(m, bool)),
        "joint": np.stack(laws),
    }


def built() -> dict[str, Any]:
    data = channels(16, 4, 7)
    return data | {"distribution": dit_distribution(data["joint"])}


def one_channel() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    channel = rng.dirichlet(np.ones(200), 200)
    system = read_system([channel], np.arange(200))
    return {
        "system": system,
        "dense": [channel],
        "all": Measure(np.ones(200, bool)),
        "channel": channel,
    }


def whole(data: dict[str, Any]) -> float:
    return leakage(data["system"], data["dense"], data["all"])


def a_table(data: dict[str, Any]) -> Any:
    return information_censorship(data["table"], data["target"], k=3, eps=0.05, calibrate="exact")


def diseases() -> dict[str, Any]:
    """41 diseases, five of 132 symptoms, three questions."""
    rng = np.random.default_rng(0)
    return {"table": rng.choice(["yes", "no", ""], (41, 5)), "target": np.arange(41)}


CASES = [
    Case(
        name="leakage of 10⁴ joint outcomes, from the system",
        setup=lambda: channels(16, 4, 7),
        ours=whole,
        peers=[DIT.on(lambda data: (data["joint"],)), GUARDRAILS],
        repeats=5,
        target=Target(DIT.name, 0.01),
        note="dit is given the joint law, which ours first makes from the channels.",
    ),
    Case(
        name="leakage of 10⁴ joint outcomes, dit's distribution built before",
        setup=built,
        ours=whole,
        peers=[DIT_MEASURE.on(lambda data: (data["distribution"],))],
        repeats=5,
        target=Target(DIT_MEASURE.name, 0.1),
        note="Ours makes the joint law anew each time.",
    ),
    Case(
        name="one channel of 200 × 200",
        setup=one_channel,
        ours=whole,
        peers=[QIF.on(lambda data: (np.full(200, 1 / 200), data["channel"]))],
        repeats=5,
        target=Target(QIF.name, 1.0),
        note="The peer is C++; ours serves any set of impermissible answers.",
    ),
    Case(
        name="all 4,096 sets of 12 binary questions, 1,000 worlds",
        setup=lambda: channels(1000, 12, 2),
        ours=lambda data: subsets(subset_terms(data["system"], data["all"])[0]),
        repeats=3,
        target=Target(seconds=2.0),
    ),
    Case(
        name="2 · 10⁶ histories, 1,000 worlds",
        setup=lambda: channels(1000, 21, 2, 2) | {"joint": None},
        ours=whole,
        repeats=3,
        target=Target(seconds=0.5),
    ),
    Case(
        name="20,000 sampled histories of 12 questions, 1,000 worlds",
        setup=lambda: channels(1000, 12, 2),
        ours=lambda data: sampled(
            data["system"], data["dense"], data["all"], 20_000, 0.05, np.random.default_rng(0)
        ),
        peers=[Peer("exactly", whole)],
        repeats=3,
        target=Target(seconds=2.0),
    ),
    Case(
        name="41 diseases, best adaptive three of five symptoms, calibrated exactly",
        setup=diseases,
        ours=a_table,
        repeats=3,
        target=Target(seconds=2.0),
    ),
]
