import pytest
import torch
from torch import nn

from whp.distributed import Simulator, descent_with_jumps
from whp.distributed._checkfree.descent import record_descent

X, Y = torch.randn(8, 2, dtype=torch.float64), torch.randn(8, 1, dtype=torch.float64)


def trainer(**options):
    torch.manual_seed(0)
    model = (
        nn.Linear(2, 2).double(),
        [nn.Linear(2, 2).double() for _ in range(4)],
        nn.Linear(2, 1).double(),
    )
    given = {"optimizer": torch.optim.SGD, "lr": 0.05, "clip": None, "lr_boost": 1.0} | options
    return Simulator(*model, nn.functional.mse_loss, microbatches=2, **given)


def test_what_is_recorded_is_the_gradient_of_the_loss():
    """Against autograd over the whole model, both ways that microbatches take."""
    sim = trainer()
    path = record_descent(sim, (X, Y), 1, {})
    embed, *stages, head = trainer()._sites
    units = {n: u.module for s in (embed, *stages, head) for n, u in s.units.items()}
    total = 0.0
    for part, order in ((slice(0, 4), "0123"), (slice(4, 8), "1032")):
        h = units["embed"](X[part])
        for name in order:
            h = units[name](h)
        total = total + nn.functional.mse_loss(units["head"](h), Y[part]) / 2
    grads = torch.autograd.grad(total, [p for u in units.values() for p in u.parameters()])
    assert path.before[0] == pytest.approx(float(total), rel=1e-12)
    assert path.squares[0] == pytest.approx(sum(float(g.square().sum()) for g in grads), rel=1e-12)
    assert path.plain[0]
    assert path.objective[0]


def test_a_run_with_jumps_holds_and_more_than_plain_steps_is_void():
    c = descent_with_jumps(trainer(), (X, Y), 60, floor=0.0, kills={10: [2], 30: [0]})
    assert c.verdict in ("holds", "vacuous")
    assert c.inputs["failures"] == 2
    assert [str(a.status) for a in c.conditions][2:5] == ["met"] * 3
    adam = descent_with_jumps(
        trainer(optimizer=lambda p, lr: torch.optim.Adam(p, lr)), (X, Y), 5, floor=0.0
    )
    assert adam.verdict == "void"
    assert "an update of Adam was off" in adam.explain()


def test_a_step_that_only_looks_plain_is_seen():
    class Double(torch.optim.SGD):
        def step(self, closure=None):
            super().step(closure)
            return super().step(closure)

    c = descent_with_jumps(trainer(optimizer=Double), (X, Y), 3, floor=0.0)
    assert c.verdict == "void"
    assert "an update of Double was off" in c.explain()


def test_a_step_that_all_but_cancels_a_weight_is_plain():
    """θ − γg of 1e-10 has the rounding of θ, not its own."""

    class Shift(nn.Module):
        def __init__(self):
            super().__init__()
            self.b = nn.Parameter(torch.tensor([0.7, -1.3, 3.1], dtype=torch.float64))

        def forward(self, x):
            return x + self.b

    nothing = [Shift() for _ in range(4)]
    sim = Simulator(
        Shift(),
        nothing,
        Shift(),
        lambda z, y: (z - y).square().sum() / 2,
        optimizer=torch.optim.SGD,
        lr=1 / 6,  # six shifts, each with the same gradient: the minimum in one step
        clip=None,
        lr_boost=1.0,
        microbatches=1,
    )
    rows = torch.zeros(1, 3, dtype=torch.float64), torch.full((1, 3), 1e-10, dtype=torch.float64)
    path = record_descent(sim, rows, 5, {})
    assert path.before[1] < 1e-28 * path.before[0]
    assert path.plain[0], path.plain[1]
