"""Sparse autoencoders with prescribed frequencies against TopK ones and dictionary learning: time a step, at equal sizes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from whp.experiment.benchmark import TORCHVISION_ON_CPU, Case, Foreign
from whp.interpretability import bias_adaptation, sae_gba
from whp.studies.sae_gba import simulated

OVERCOMPLETE = (
    TORCHVISION_ON_CPU
    + """
import json, sys, time
import numpy as np
import torch
torch.set_num_threads(1)
from overcomplete.sae import TopKSAE
data = np.load(sys.argv[1])
X, M, steps, batch = torch.from_numpy(data["X"]), int(data["M"]), int(data["steps"]), int(data["batch"])
def work():
    torch.manual_seed(0)
    sae = TopKSAE(X.shape[1], nb_concepts=M, top_k=19, device="cpu")
    optimizer = torch.optim.Adam(sae.parameters(), lr=1e-3)
    for _ in range(steps):
        x = X[torch.randint(0, len(X), (batch,))]
        _, codes, out = sae(x)
        loss = (out - x).square().sum() / (2 * len(x))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
for line in sys.stdin:
    start = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
"""
)


def data(d: int, M: int, N: int, steps: int) -> Any:
    def setup() -> dict[str, Any]:
        torch.set_num_threads(1)
        X, _, _ = simulated(128, d, (3, 20), N, np.random.default_rng(0))
        return {"X": X.astype(np.float32), "M": M, "steps": steps, "batch": 256}

    return setup


def training(method: str) -> Any:
    def work(shared: dict[str, Any]) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return sae_gba(
                shared["X"],
                shared["M"],
                method=method,
                k=19,
                steps=shared["steps"],
                batch_size=shared["batch"],
                low=2e-3,
                n_seeds=1,
                rng=0,
            )  # type: ignore[arg-type]

    return work


def dictionary(shared: dict[str, Any]) -> Any:
    from sklearn.decomposition import MiniBatchDictionaryLearning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MiniBatchDictionaryLearning(
            shared["M"], transform_algorithm="omp", max_iter=1, batch_size=256, random_state=0
        )
        return model.fit(shared["X"][:2048])


def arrays(shared: dict[str, Any]) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in shared.items()}


def model() -> dict[str, Any]:
    return {"X": simulated(128, 64, (3,), 6000, np.random.default_rng(0))[0]}


def products(shared: dict[str, Any]) -> Any:
    X, W = shared["X"].astype(np.float32), np.ones((512, 64), np.float32)
    return [(W @ X.T) @ X for _ in range(12)]


PEER = Foreign("overcomplete==0.3.0\ntorch==2.13.0\nmatplotlib<3.9\n", OVERCOMPLETE, arrays)
CASES = [
    Case(
        name="384 × 1,024, 200 steps of 256, with certificates",
        setup=data(384, 1024, 8000, 200),
        ours=training("gba"),
        peers={
            "our TopK, with certificates": training("topk"),
            "overcomplete TopKSAE, steps alone": PEER,
        },
        repeats=3,
        target="≤ 1.1 × our TopK, ≤ 1 × overcomplete",
    ),
    Case(
        name="42 × 512, 400 steps of 256, with certificates",
        setup=data(42, 512, 8000, 400),
        ours=training("gba"),
        peers={
            "our TopK, with certificates": training("topk"),
            "overcomplete TopKSAE, steps alone": PEER,
            "scikit-learn dictionary learning, one pass over 2,048 rows": dictionary,
        },
        repeats=3,
        target="≤ 1.1 × our TopK, ≤ 1 × overcomplete",
    ),
    Case(
        name="the theorem's algorithm, 6,000 × 64, 512 neurons, 12 steps",
        setup=model,
        ours=lambda shared: bias_adaptation(shared["X"], 512, 3 / 128, rng=0),
        peers={"its matrix products alone": products},
        repeats=3,
        target="≤ 3 s",
    ),
]
