"""Continual learning by Avalanche 0.6.0, whose torchvision is not built for a processor alone.

It brings no metric between the ends of tasks: its own periodic evaluation is what is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import TORCHVISION_ON_CPU, Foreign

__all__ = ["AVALANCHE"]

SCRIPT = (
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


def arrays(shared: dict[str, Any]) -> dict[str, Any]:
    """The rows of both tasks, and whether they are evaluated after each update."""
    found: dict[str, Any] = {"watch": np.array(int(shared["watch"]))}
    for kind in ("train", "test"):
        for k, (X, y) in enumerate(shared[kind]):
            found[f"{kind}X{k}"], found[f"{kind}y{k}"] = X.numpy(), y.numpy()
    return found


AVALANCHE = Foreign("avalanche-lib==0.6.0\ntorch==2.13.0\nnumpy<2.4\n", SCRIPT, arrays)
