"""Evaluation after every update against Avalanche's, and the metrics by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from whp.continual import ContinualEvaluator, continual_fit, stability_gap
from whp.continual._stability_gap.outcomes import Outcomes
from whp.experiment.benchmark import Case
from whp.peers.continual import AVALANCHE


def data(watch: bool) -> Any:
    def setup() -> dict[str, Any]:
        from whp.datasets.image_tasks import by_class

        torch.set_num_threads(1)
        train, test = by_class("mnist", 0, tasks=2)
        return {"train": train, "test": test, "watch": watch}

    return setup


def ours(shared: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10)
    )
    evaluator = ContinualEvaluator(shared["test"], random_state=0) if shared["watch"] else None
    return continual_fit(
        model, shared["train"], strategy="finetune", epochs=2, evaluator=evaluator, random_state=0
    )


def outcomes() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    K, steps, n = 20, 5000, 200
    packed = tuple(
        rng.integers(0, 256, (steps * (K - k), n // 8), dtype=np.uint8) for k in range(K)
    )
    return {"outcomes": Outcomes(packed, (n,) * K), "ends": [steps * (k + 1) for k in range(K)]}


CASES = [
    Case(
        name="2 tasks of 800 digits, 100 updates, evaluated after each",
        setup=data(True),
        ours=ours,
        peers={"Avalanche, eval_every=1": AVALANCHE},
        repeats=3,
        target="≤ 0.5 × Avalanche",
        note="Avalanche gives the accuracies and none of the metrics or intervals.",
    ),
    Case(
        name="the same without evaluation",
        setup=data(False),
        ours=ours,
        peers={"Avalanche": AVALANCHE},
        repeats=3,
        target="the price of watching is the difference to the case above",
    ),
    Case(
        name="metrics and certificates of 20 tasks, 100,000 evaluations of 200 rows",
        setup=outcomes,
        ours=lambda shared: stability_gap(None, shared["ends"], correct=shared["outcomes"]),
        peers={
            "counting the outcomes alone": lambda shared: [
                shared["outcomes"].accuracy(i) for i in range(20)
            ]
        },
        repeats=3,
        target="≤ 2 s",
        note="No package computes these metrics with intervals; the reference is one pass over the same bits.",
    ),
]
