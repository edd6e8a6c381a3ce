import math

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


@pytest.mark.parametrize("passed", [0.3, 0.9, 1.1, -1.0])
def test_a_gradient_of_another_loss_is_seen(passed):
    def loss(out, y):
        value = nn.functional.mse_loss(out, y)
        return passed * value + ((1 - passed) * value).detach()

    torch.manual_seed(0)
    stages = [nn.Linear(2, 2).double() for _ in range(4)]
    ends = nn.Linear(2, 2).double(), nn.Linear(2, 1).double()
    given = {"optimizer": torch.optim.SGD, "lr": 0.01, "clip": None, "lr_boost": 1.0}
    sim = Simulator(ends[0], stages, ends[1], loss, microbatches=2, **given)
    c = descent_with_jumps(sim, (X, Y), 3, floor=0.0)
    assert c.verdict == "void"
    assert "gradients say" in c.explain()


class Held(nn.Linear):
    """A layer whose weight is used, and has no gradient."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight.detach(), self.bias)


def test_a_gradient_that_leaves_weights_out_is_seen():
    torch.manual_seed(0)
    stages = [Held(2, 2).double() for _ in range(4)]
    ends = nn.Linear(2, 2).double(), nn.Linear(2, 1).double()
    given = {"optimizer": torch.optim.SGD, "lr": 0.01, "clip": None, "lr_boost": 1.0}
    sim = Simulator(*ends[:1], stages, *ends[1:], nn.functional.mse_loss, microbatches=2, **given)
    c = descent_with_jumps(sim, (X, Y), 3, floor=0.0)
    assert c.verdict == "void"
    assert "in a random direction" in c.explain()


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_rounding_is_no_other_gradient_and_weights_stay(kind, shift):
    """Slopes are measured beside the run, which goes on to the same last bit."""
    found = []
    for looked in (True, False):
        torch.manual_seed(0)
        stages = [nn.Sequential(nn.Linear(3, 3), nn.Tanh()).to(kind) for _ in range(4)]
        ends = nn.Linear(3, 3).to(kind), nn.Linear(3, 1).to(kind)
        x, y = torch.randn(8, 3).to(kind), torch.randn(8, 1).to(kind)
        loss = lambda out, y: nn.functional.mse_loss(out, y) + shift  # noqa: E731
        given = {"optimizer": torch.optim.SGD, "lr": 0.01, "clip": None, "lr_boost": 1.0}
        sim = Simulator(ends[0], stages, ends[1], loss, microbatches=2, **given)
        if looked:
            path = record_descent(sim, (x, y), 9, {})
            assert path.objective[0]
        else:
            for _ in range(9):
                sim.step((x, y))
        found.append(sim.state_dict())
    assert all(torch.equal(v, found[1][k]) for k, v in found[0].items())


def test_a_loss_before_the_first_step_counts_once():
    free = descent_with_jumps(trainer(), (X, Y), 20, floor=0.0, kills={0: [2], 7: [1]})
    assert free.verdict in ("holds", "vacuous")
    assert free.inputs["failures"] == 2
    sim = trainer()
    start = sim.objective((X, Y))
    path = record_descent(sim, (X, Y), 3, {0: (2,)})
    assert path.start == start
    assert path.before[0] == pytest.approx(start + path.jumps[0])
    sim.kill(1)  # before the run: its jump is not the run's
    assert descent_with_jumps(sim, (X, Y), 3, floor=0.0).verdict in ("holds", "vacuous")


def test_groups_may_have_an_order_of_their_own_and_leave_some_out():
    def apart(parameters, lr):
        flat = [p for p in parameters if p.ndim < 2]
        return torch.optim.SGD([{"params": flat, "lr": lr / 2}, {"params": parameters[:1]}], lr)

    c = descent_with_jumps(trainer(optimizer=apart), (X, Y), 5, floor=0.0)
    assert c.verdict in ("holds", "vacuous")
    assert c.inputs["smallest rate"] == 0.025
    less = lambda p, lr: torch.optim.SGD(p[:1], lr)  # noqa: E731
    c = descent_with_jumps(trainer(optimizer=less), (X, Y), 5, floor=0.0)
    assert c.verdict == "vacuous"  # some do not move, at a rate of 0


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [
        (lambda t: t / 4, "vacuous"),
        (lambda t: 1 - t / 4, "vacuous"),
        (lambda t: -1.0, "void"),
        (lambda t: math.nan, "void"),
    ],
)
def test_a_rate_of_zero_promises_nothing_and_less_is_void(factor, verdict):
    c = descent_with_jumps(trainer(scheduler=factor), (X, Y), 5, floor=0.0)
    assert c.verdict == verdict


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"kills": {9: [1]}}, r"iterations of kills must be in 0\.\.4"),
        ({"kills": {-1: [1]}}, "iterations of kills"),
        ({"kills": {"2": [1]}}, "iterations of kills must be a whole number"),
        ({"kills": {2: 1}}, "list of stages"),
        ({"kills": {2: "1"}}, "list of stages"),
        ({"kills": {2: [7]}}, "stages of kills"),
        ({"floor": math.nan}, "floor"),
        ({"floor": None}, "floor"),
        ({"smoothness": 0.0}, "smoothness"),
        ({"smoothness": math.nan}, "smoothness"),
        ({"trainer": None}, "trainer must be a Simulator"),
    ],
)
def test_what_would_be_passed_over_is_refused(change, named):
    given = {"trainer": trainer(), "batch": (X, Y), "steps": 5, "floor": 0.0} | change
    # The type checker of the tests may be first.
    with pytest.raises((TypeError, ValueError), match=f"{named}|Type-check error"):
        descent_with_jumps(**given)
