"""Comp-sum losses against cross-entropy, their adversarial version against TRADES, and the certificates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from whp.experiment.benchmark import Case, Peer, Target
from whp.losses import AdvCompSumLoss, CompSumLoss, comp_sum_losses, robust_error_bound
from whp.peers.adversarial import GENERALISED, MADRY, TORCH, TRADES


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


def stepped(peer: Peer) -> Peer:
    """A peer's loss, 20 times forward and backward."""
    call: Any = peer.call
    return Peer(peer.name, step(call), peer.needs, peer.note)


def images() -> dict[str, Any]:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )
    return {"model": model, "x": torch.rand(128, 784), "y": torch.randint(0, 10, (128,))}


def training(loss: Callable[[Any, Any, Any], Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda data: [loss(data["model"], data["x"], data["y"]).backward() for _ in range(10)]


def trained(peer: Peer) -> Peer:
    """A peer's loss, ten steps."""
    call: Any = peer.call
    return Peer(peer.name, training(call), peer.needs, peer.note)


def labels() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(100_000, 10))
    return {"z": z, "y": rng.integers(0, 10, 100_000), "clean": z.argmax(axis=1)}


def network() -> dict[str, Any]:
    data = images()
    rng = np.random.default_rng(0)
    return {"model": data["model"].eval(), "x": rng.random((2000, 784)), "y": np.arange(2000) % 10}


def intervals(data: dict[str, Any]) -> Any:
    return robust_error_bound(data["model"], data["x"], data["y"], 0.01, steps=1, restarts=1, rng=0)


def attacked(data: dict[str, Any]) -> Any:
    return robust_error_bound(data["model"], data["x"], data["y"], 0.01, sup="pgd", rng=0)


CASES = [
    Case(
        name="4,096×1,000 logits, 20 times forward and backward, τ = 1.5",
        setup=scores(4096, 1000),
        ours=step(CompSumLoss(1.5)),
        peers=[stepped(TORCH), stepped(GENERALISED)],
        repeats=5,
        target=Target(TORCH.name, 1.1),
    ),
    Case(
        name="the same, τ = 0.5",
        setup=scores(4096, 1000),
        ours=step(CompSumLoss(0.5)),
        peers=[stepped(TORCH)],
        repeats=5,
        target=Target(TORCH.name, 1.1),
    ),
    Case(
        name="ten adversarial steps of 128 images, attacks of 10 steps",
        setup=images,
        ours=training(AdvCompSumLoss(0.1)),
        peers=[trained(TRADES), trained(MADRY)],
        repeats=5,
        target=Target(TRADES.name, 1.1),
    ),
    Case(
        name="certificate of 100,000 rows and 10 classes, seven dials",
        setup=labels,
        ours=lambda data: comp_sum_losses(data["z"], data["y"], noise=0.2),
        peers=[],
        repeats=3,
        target=Target(seconds=1.0),
        note="No other package states the bound.",
    ),
    Case(
        name="robust error of 2,000 images by intervals, one attack of one step",
        setup=network,
        ours=intervals,
        peers=[Peer("own, attacks of 40 steps", attacked)],
        repeats=3,
    ),
]
