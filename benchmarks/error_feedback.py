"""Error feedback against dense all-reduce, half precision and PowerSGD, and against plain descent in numpy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from whp.datasets.tables import breast_cancer_clients
from whp.distributed import BlockTopK, TopK
from whp.distributed._error_feedback.model import LinearModel, in_groups
from whp.distributed.links import shaped_link
from whp.distributed.processes import run_ranks
from whp.experiment.benchmark import Case
from whp.peers.gradients import HOOKS, step_times


def passes(hook: str, steps: int) -> Callable[[dict[str, Any]], Any]:
    def work(place: dict[str, Any]) -> Any:
        return run_ranks(step_times, 2, hook, 10_000_000, steps, **place)

    return work


def on_loopback() -> dict[str, Any]:
    return {}


def on_a_link() -> dict[str, Any]:
    link = shaped_link(200)
    made = link.__enter__()
    LINKS.append(link)  # taken away when the interpreter ends
    return {"namespaces": made.namespaces, "host": made.host}


LINKS: list[Any] = []


def gradient() -> dict[str, Any]:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    g, s = (rng.normal(size=10_000_000).astype(np.float32) for _ in range(2))
    return {"g": g, "s": s, "tensor": torch.from_numpy(g - s)}


def reference() -> Any:
    model = LinearModel(in_groups(*breast_cancer_clients()), "logistic", 1e-3)
    return model, model.smoothness


CASES = [
    Case(
        name="10⁷ float32 gradients, two processes, loopback, 30 backward passes",
        setup=on_loopback,
        ours=passes("EF21", 30),
        peers={name: passes(name, 30) for name in HOOKS[:-1]},
        repeats=5,
        target="≤ 1.6 × dense",
        note="Starting the two processes, half a second, is counted for all.",
    ),
    Case(
        name="the same over a link of 200 Mbit/s, 10 backward passes",
        setup=on_a_link,
        ours=passes("EF21", 10),
        peers={name: passes(name, 10) for name in HOOKS[:-1]},
        repeats=3,
        target="≤ 1/8 of dense, pass by pass",
        note="The first pass of ours, and the first two of PowerSGD, are dense; the study has times of later passes.",
    ),
    Case(
        name="which 1 % of 10⁷ differences to send",
        setup=gradient,
        ours=lambda data: BlockTopK(0.01).difference(data["g"], data["s"]),
        peers={
            "our TopK": lambda data: TopK(ratio=0.01).difference(data["g"], data["s"]),
            "torch.topk": lambda data: data["tensor"].abs().topk(100_000),
        },
        repeats=5,
        target="≤ 1/5 of torch.topk",
    ),
    Case(
        name="20 clients, 31 weights, 400 steps, Top-1, certificates and all",
        setup=reference,
        ours=lambda data: data[0].solve(data[1], T=400),
        peers={"descent": lambda data: data[0].solve(data[1], T=400, method="GD")},
        repeats=5,
        target="≤ 1.5 s",
    ),
]
