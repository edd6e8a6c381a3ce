"""Steps on a device that is pretended: fake tensors know where they are, and refuse to be mixed."""

import sys

import torch
from pretended import DEVICE, Answers, begin
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from whp.optim import SSO, loss_oracle
from whp.optim._target_surrogates import optimizer


def oracle_of(loss):
    if loss == "cross-entropy":
        weight = torch.ones(3, device=DEVICE)
        y = torch.zeros(40, dtype=torch.long, device=DEVICE)
        return loss_oracle(nn.CrossEntropyLoss(weight=weight, reduction="sum"), y)
    if loss == "bce":
        heavy = torch.ones(3, device=DEVICE)
        y = torch.zeros(40, 3, device=DEVICE)
        return loss_oracle(nn.BCEWithLogitsLoss(pos_weight=heavy, reduction="sum"), y)

    def oracle(z):  # its gradient comes from the processor
        assert str(z.device) == DEVICE
        return 1.0, torch.zeros(40, 3)

    oracle.L = 1.0
    return oracle


def main(inner):
    begin()
    optimizer.SAME = 2.0  # all numbers are the same here, those that should be near 0 too
    with FakeTensorMode(), Answers(nonzero=False):
        for loss in ("cross-entropy", "bce", "numpy"):
            model = nn.Sequential(
                nn.Linear(6, 8, device=DEVICE), nn.Dropout(0.5), nn.Linear(8, 3, device=DEVICE)
            )
            X = torch.randn(40, 6, device=DEVICE)
            oracle = oracle_of(loss)
            opt = SSO(model.parameters(), m=3, inner=inner, measure=True, weight_decay=0.1)
            for _ in range(2):
                opt.step(lambda model=model, X=X: model(X), oracle)
            opt.load_state_dict(opt.state_dict())
            opt.step(lambda model=model, X=X: model(X), oracle)
            kept = [*model.parameters(), *(p.grad for p in model.parameters()), opt._last]
            kept += [v for s in opt.state.values() for k, v in s.items() if k != "step"]
            assert all(str(t.device) == DEVICE for t in kept if t is not None)
            assert len(opt.certificates()) == 2
            print(loss)


if __name__ == "__main__":
    main(sys.argv[1])
