"""Evaluation on a device that is pretended: fake tensors know where they are, and refuse to be mixed."""

import numpy as np
import torch
from continual_streams import stream
from pretended import DEVICE, Answers, begin
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from whp.continual import ContinualEvaluator, continual_fit, training
from whp.continual._stability_gap import recorder


def bits(right):
    """Outcomes come from the device; fake ones have no values."""
    assert str(right.device) == DEVICE
    return np.ones(len(right), dtype=bool)


def model():
    return nn.Sequential(nn.Linear(6, 8, device=DEVICE), nn.Linear(8, 6, device=DEVICE))


def main():
    begin()
    recorder._bits = bits
    recorder._digest = lambda sets: b""
    train, test = stream()
    evaluator = ContinualEvaluator(test, subset=20, random_state=0, scenario="task")
    with FakeTensorMode(allow_non_fake_inputs=True) as mode, Answers():
        faked = [[tuple(map(mode.from_tensor, pair)) for pair in part] for part in (train, test)]
        evaluator.sets = faked[1]
        evaluator.own = [(X[:20], y[:20]) for X, y in faked[1]]
        net = model()
        evaluator.before_task(0)
        evaluator.after_step(net)
        evaluator.after_task(0, net)
        assert str(evaluator.own[0][0].device) == DEVICE
        print("recorder")
        # Which classes there are is a question for values.
        torch.unique = lambda y: torch.arange(2)
        training.as_tasks = lambda tasks, _: tasks
        for strategy in ("finetune", "si"):
            fit = continual_fit(
                model(),
                faked[0][:2],
                strategy=strategy,
                epochs=1,
                batch_size=30,
                random_state=0,
                record_gradients=True,
                scenario="domain",
            )
            assert all(str(p.device) == DEVICE for p in fit.model.parameters())
            print(strategy)


if __name__ == "__main__":
    main()
