"""Views, their loss and a training on a device that is pretended: fake tensors refuse to be mixed."""

import numpy as np
import torch
from pretended import DEVICE, Answers, begin
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from whp.continual import strong_view, view_batch_loss, weak_view
from whp.continual._view_batch import runs
from whp.continual._view_batch.views import in_views


def main():
    begin()
    setting = runs.Setting(
        "er", "class", 2, "both", True, 1.0, 0.0, weak_view, strong_view, 2, 8, 0.05, 20
    )
    with FakeTensorMode(), Answers():
        x = torch.rand(6, 1, 8, 8, device=DEVICE)
        for generator in (None, torch.Generator()):
            views = in_views(x, 3, weak_view, strong_view, generator)
            assert str(views.device) == DEVICE
            assert views.shape == (18, 1, 8, 8)
        logits = torch.randn(18, 5, device=DEVICE, requires_grad=True)
        y = torch.zeros(18, dtype=torch.long, device=DEVICE)
        for ssl in (True, False):
            parts = view_batch_loss(logits, y, 3, ssl=ssl)
            assert {str(p.device) for p in parts} == {DEVICE}
        parts[0].backward()
        assert str(logits.grad.device) == DEVICE
        assert runs.device_of(nn.Linear(2, 2, device=DEVICE)) == torch.device(DEVICE)
        streams = runs._Streams.__new__(runs._Streams)
        streams.setting, streams.pixels = setting, None
        streams.orders, streams.logs, streams.tied = np.random.default_rng(0), [], True
        streams.rows, streams.in_memory, streams.labels = 0, 1, None
        X = torch.rand(16, 64, device=DEVICE)
        labels = torch.zeros(16, dtype=torch.long, device=DEVICE)
        inner = nn.Linear(64, 4, device=DEVICE)
        for shown, told in streams.batches(0, X, labels, torch.Generator()):
            assert str(shown.device) == str(told.device) == DEVICE
            loss = streams.criterion(inner(shown), told, False)
            assert str(loss.device) == DEVICE
        old, rows = next(streams.from_memory(X, torch.arange(16)))
        assert str(old.device) == DEVICE
        assert len(rows) == 8
    print("done")


if __name__ == "__main__":
    main()
