"""Comp-sum losses against cross-entropy, their adversarial version against TRADES, and the certificate by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from whp.experiment.benchmark import Case
from whp.losses import AdvCompSumLoss, CompSumLoss, comp_sum_losses
from whp.studies.comp_sum_losses import _adversarial


def scores(n: int, classes: int) -> Callable[[], dict[str, Any]]:
    def setup() -> dict[str, Any]:
        torch.set_num_threads(1)
        torch.manual_seed(0)
        return {
            "z": torch.randn(n, classes, requires_grad=True),
            "y": torch.randint(0, classes, (n,)),
        }

    return setup


def step(loss: Callable[[Any, Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda data: [loss(data["z"], data["y"]).backward() for _ in range(20)]


def generalised(z: Any, y: Any) -> Any:
    """Generalised cross-entropy as it is usually written: (1 − p^q)/q."""
    p = functional.softmax(z, dim=1).gather(1, y[:, None])[:, 0]
    return ((1 - p**0.7) / 0.7).mean()


def images() -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    return {"model": model, "x": torch.rand(128, 784), "y": torch.randint(0, 10, (128,))}


def training(loss: Callable[[Any, Any, Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda data: [loss(data["model"], data["x"], data["y"]).backward() for _ in range(10)]


def labels() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"z": rng.normal(size=(100_000, 10)), "y": rng.integers(0, 10, 100_000)}


CASES = [
    Case(
        name="4,096×1,000 logits, 20 times forward and backward, τ = 1.5",
        setup=scores(4096, 1000),
        ours=step(CompSumLoss(1.5)),
        peers={
            "torch cross_entropy": step(functional.cross_entropy),
            "generalised cross-entropy": step(generalised),
        },
        repeats=5,
        target="≤ 1.1 × cross_entropy",
    ),
    Case(
        name="the same, τ = 0.5",
        setup=scores(4096, 1000),
        ours=step(CompSumLoss(0.5)),
        peers={"torch cross_entropy": step(functional.cross_entropy)},
        repeats=5,
        target="≤ 1.1 × cross_entropy",
    ),
    Case(
        name="ten adversarial steps of 128 images, attacks of 10 steps",
        setup=images,
        ours=training(AdvCompSumLoss(0.1)),
        peers={
            "TRADES": training(_adversarial("trades", 6.0, 1.0, 1.0, 10)),
            "adversarial training": training(_adversarial("pgd", 1.0, 1.0, 1.0, 10)),
        },
        repeats=5,
        target="≤ 1.1 × TRADES",
        note="The peers are written here after their papers, with the same attack.",
    ),
    Case(
        name="certificate of 100,000 rows and 10 classes, seven dials",
        setup=labels,
        ours=lambda data: comp_sum_losses(data["z"], data["y"], noise=0.2),
        peers={},
        repeats=3,
        target="≤ 1 s",
        note="No other package states the bound.",
    ),
]
