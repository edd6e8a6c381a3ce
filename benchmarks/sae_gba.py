"""Sparse autoencoders with prescribed frequencies against TopK ones and dictionary learning: time a step, at equal sizes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from whp.datasets.superposition import simulated
from whp.experiment.benchmark import Case, Peer, Target
from whp.interpretability import Training, bias_adaptation, sae_gba
from whp.peers import dictionaries


def data(d: int, M: int, N: int, steps: int) -> Any:
    def setup() -> dict[str, Any]:
        X, _, _ = simulated(128, d, (3, 20), N, np.random.default_rng(0))
        return {"X": X.astype(np.float32), "M": M, "steps": steps, "batch": 256}

    return setup


def training(**options: Any) -> Any:
    def work(shared: dict[str, Any]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plan = Training(steps=shared["steps"], batch_size=shared["batch"])
            return sae_gba(shared["X"], shared["M"], training=plan, n_seeds=1, rng=0, **options)

    return work


def model() -> dict[str, Any]:
    return {"X": simulated(128, 64, (3,), 6000, np.random.default_rng(0))[0]}


def products(shared: dict[str, Any]) -> Any:
    X, W = shared["X"].astype(np.float32), np.ones((512, 64), np.float32)
    return [(W @ X.T) @ X for _ in range(12)]


TOPK = Peer("our TopK, with certificates", training(method="topk", k=19))
FOREIGN = [dictionaries.OVERCOMPLETE, dictionaries.DICTIONARY_LEARNING]
EXCUSED = [dictionaries.SAE_LENS, dictionaries.SPARSIFY]
CASES = [
    Case(
        name="384 × 1,024, 200 steps of 256, with certificates",
        setup=data(384, 1024, 8000, 200),
        ours=training(low=2e-3),
        peers=[TOPK, *FOREIGN, *EXCUSED],
        repeats=3,
        target=Target(TOPK.name, 1.1),
    ),
    Case(
        name="42 × 512, 400 steps of 256, with certificates",
        setup=data(42, 512, 8000, 400),
        ours=training(low=2e-3),
        peers=[TOPK, *FOREIGN, dictionaries.SKLEARN.on(lambda shared: (shared["X"], shared["M"]))],
        repeats=3,
        target=Target(TOPK.name, 1.1),
    ),
    Case(
        name="the theorem's algorithm, 6,000 × 64, 512 neurons, 12 steps",
        setup=model,
        ours=lambda shared: bias_adaptation(shared["X"], 512, 3 / 128, rng=0),
        peers=[Peer("its matrix products alone", products)],
        repeats=3,
        target=Target(seconds=3.0),
    ),
]
