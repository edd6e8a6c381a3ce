"""Evaluation after every update against Avalanche's, and the metrics by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from whp.continual import ContinualEvaluator, continual_fit, stability_gap
from whp.continual._stability_gap.outcomes import Outcomes
from whp.experiment.benchmark import TORCHVISION_ON_CPU, Case, Foreign

AVALANCHE = (
    TORCHVISION_ON_CPU
    + """
import json, sys, time, warnings
import numpy as np
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
from avalanche.benchmarks import tensors_benchmark
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive
data = np.load(sys.argv[1])
def tensors(kind):
    return [(torch.from_numpy(data[f"{kind}X{k}"]), torch.from_numpy(data[f"{kind}y{k}"])) for k in range(2)]
train, test = tensors("train"), tensors("test")
def work():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(784, 400), torch.nn.ReLU(), torch.nn.Linear(400, 400), torch.nn.ReLU(),
                                torch.nn.Linear(400, 10))
    benchmark = tensors_benchmark(train_tensors=train, test_tensors=test, task_labels=[0, 0])
    quiet = EvaluationPlugin(accuracy_metrics(stream=True), loggers=[])
    every = 1 if int(data["watch"]) else -1
    strategy = Naive(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1), criterion=torch.nn.CrossEntropyLoss(),
                     train_mb_size=32, train_epochs=2, eval_mb_size=1024, evaluator=quiet, eval_every=every)
    if every == 1:
        for plugin in strategy.plugins:
            if type(plugin).__name__ == "PeriodicEval":
                plugin.peval_mode = "iteration"
    for k, experience in enumerate(benchmark.train_stream):
        strategy.train(experience, eval_streams=[benchmark.test_stream[: k + 1]] if every == 1 else [])
for line in sys.stdin:
    start = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
"""
)


def data(watch: bool) -> Any:
    def setup() -> dict[str, Any]:
        from whp.studies._streams import by_class

        torch.set_num_threads(1)
        train, test = by_class("mnist", 0, tasks=2)
        return {"train": train, "test": test, "watch": watch}

    return setup


def arrays(shared: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"watch": np.array(int(shared["watch"]))}
    for kind in ("train", "test"):
        for k, (X, y) in enumerate(shared[kind]):
            found[f"{kind}X{k}"], found[f"{kind}y{k}"] = X.numpy(), y.numpy()
    return found


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


PEER = Foreign("avalanche-lib==0.6.0\ntorch==2.13.0\nnumpy<2.4\n", AVALANCHE, arrays)
CASES = [
    Case(
        name="2 tasks of 800 digits, 100 updates, evaluated after each",
        setup=data(True),
        ours=ours,
        peers={"Avalanche, eval_every=1": PEER},
        repeats=3,
        target="≤ 0.5 × Avalanche",
        note="Avalanche gives the accuracies and none of the metrics or intervals.",
    ),
    Case(
        name="the same without evaluation",
        setup=data(False),
        ours=ours,
        peers={"Avalanche": PEER},
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
