import copy
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from pipelines import VOCAB, D, batch, make, parts, same
from pretended import words_of
from torch import nn

from whp.distributed import PipelineTrainer, Simulator, UnrecoverableStageError, descent_with_jumps
from whp.distributed._checkfree.compute import digest
from whp.distributed.char_lm import Embed, Head, cross_entropy


def reference(model, steps, swap, clip=1.0, microbatches=4):
    """Plain autograd over the whole model; every unit is clipped and stepped by itself."""
    embed, blocks, head = copy.deepcopy(model)
    units = [embed, *blocks, head]
    optimizers = [torch.optim.Adam(u.parameters(), 1e-2) for u in units]
    losses = []
    for t in range(steps):
        x, y = batch(t)
        total = 0.0
        for m, (a, b) in enumerate(
            zip(x.tensor_split(microbatches), y.tensor_split(microbatches), strict=True)
        ):
            h = embed(a)
            order = list(range(len(blocks)))
            if swap and m % 2:
                order = [1, 0, *order[2:-2], len(blocks) - 1, len(blocks) - 2]
            for i in order:
                h = blocks[i](h)
            total = total + cross_entropy(head(h), b) / microbatches
        for o in optimizers:
            o.zero_grad()
        total.backward()
        for u, o in zip(units, optimizers, strict=True):
            nn.utils.clip_grad_norm_(u.parameters(), clip)
            o.step()
        losses.append(float(total.detach()))
    weights = {f"embed.{k}": v for k, v in embed.state_dict().items()}
    for i, b in enumerate(blocks):
        weights |= {f"stages.{i}.{k}": v for k, v in b.state_dict().items()}
    return losses, weights | {f"head.{k}": v for k, v in head.state_dict().items()}


@pytest.mark.parametrize("mode", ["none", "checkfree+"])
def test_simulator_is_plain_autograd(mode):
    model = parts()
    sim = make(Simulator, model, mode=mode)
    losses, weights = reference(model, 20, mode == "checkfree+")
    assert [sim.step(batch(t)).loss for t in range(20)] == pytest.approx(losses, abs=1e-5)
    ours = sim.state_dict()
    assert set(ours) == set(weights)
    assert max(float((ours[k] - weights[k]).abs().max()) for k in weights) < 1e-4


@pytest.mark.parametrize("rule", ["grad", "uniform", "copy"])
@pytest.mark.parametrize("stage", range(6))
def test_equal_stages_are_a_fixed_point(rule, stage):
    embed, blocks, head = parts()
    sim = make(Simulator, (embed, [copy.deepcopy(blocks[0]) for _ in range(6)], head), rule=rule)
    held = [batch(100)]
    before = sim.evaluate(held)
    sim.kill(stage)
    assert sim.evaluate(held) == pytest.approx(before, abs=1e-6)


def test_random_and_zero_are_none():
    for rule in ("random", "zero"):
        embed, blocks, head = parts()
        sim = make(
            Simulator, (embed, [copy.deepcopy(blocks[0]) for _ in range(6)], head), rule=rule
        )
        before = sim.evaluate([batch(100)])
        sim.kill(2)
        assert abs(sim.evaluate([batch(100)]) - before) > 1e-6


def test_learning_rates_are_boosted_once_or_again():
    for compound, wanted in ((False, 1.1), (True, 1.21)):
        sim = make(Simulator, lr_boost_compound=compound, scheduler=lambda t: 0.5**t)
        for t in range(4):
            if t in (1, 2):
                sim.kill(2)
            sim.step(batch(t))
        unit, other = sim._sites[2].units["2"], sim._sites[3].units["3"]
        assert unit.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * wanted * 0.5**3)
        assert other.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 * 0.5**3)


def test_moments_start_again_or_are_averaged():
    found = {}
    for moments in ("reset", "average"):
        sim = make(Simulator, moments=moments)
        for t in range(5):
            sim.step(batch(t))
        sim.kill(2)
        sim.evaluate([batch(9)])
        found[moments] = sim._sites[2].units["2"].optimizer.state_dict()["state"]
    assert found["reset"] == {}
    assert float(found["average"][0]["exp_avg_sq"].sum()) > 0


def test_checkpoints_roll_back_and_redundancy_changes_nothing(tmp_path):
    sim = make(Simulator, mode="checkpoint", checkpoint_every=3, checkpoint_dir=tmp_path)
    seen = []
    for t in range(6):
        if t == 5:
            sim.kill(0)
        out = sim.step(batch(t))
        seen.append(out.iteration)
    assert seen == [0, 1, 2, 3, 4, 3]
    assert out.recoveries[0].how == "rolled back"
    assert len(list(tmp_path.iterdir())) == 6
    plain, copied = make(Simulator, mode="none"), make(Simulator, mode="redundant")
    for t in range(4):
        if t == 2:
            copied.kill(0)
        assert plain.step(batch(t)).loss == copied.step(batch(t)).loss
    assert not same(plain.state_dict(), copied.state_dict())


def test_a_loss_before_the_first_step():
    sim = make(Simulator, mode="checkpoint")
    sim.kill(0)
    assert sim.step(batch(0)).iteration == 0
    with make(PipelineTrainer, mode="checkpoint") as tr:
        tr.kill(0)
        assert tr.step(batch(0)).iteration == 0
        assert not same(tr.state_dict(), sim.state_dict())


def test_fallbacks():
    sim = make(Simulator)
    sim.kill(2)
    sim.kill(3)
    with pytest.raises(UnrecoverableStageError, match="lost together"):
        sim.step(batch(0))
    for fallback, how in (("random", "random"), ("snapshot", "rolled back")):
        sim = make(Simulator, fallback=fallback, checkpoint_every=2)
        for t in range(3):
            sim.step(batch(t))
        sim.kill(0)
        sim.kill(1)
        found = sim.step(batch(3)).recoveries[0]
        assert found.how == how
        assert "lost together" in found.reason


def test_dropout_is_drawn_by_place_and_time():
    def model():
        torch.manual_seed(0)
        blocks = [nn.Sequential(nn.Linear(D, D), nn.Dropout(0.5)) for _ in range(4)]
        return Embed(len(VOCAB), D, 6), blocks, Head(D, len(VOCAB))

    losses = []
    for noise in (0, 1):
        sim = make(Simulator, model())
        torch.manual_seed(noise)
        losses.append([sim.step(batch(t)).loss for t in range(3)])
    assert losses[0] == losses[1]
    with make(PipelineTrainer, model(), spares=0) as tr:
        assert [tr.step(batch(t)).loss for t in range(3)] == losses[0]


def test_jump_leaves_no_trace_and_omission_is_zero_for_equals():
    sim = make(Simulator, mode="checkfree")
    for t in range(5):
        sim.step(batch(t))
    before = sim.state_dict()
    for rule in ("grad", "copy", "uniform", "zero", "random", "skip"):
        assert math.isfinite(sim.jump(2, [batch(50)], rule))
    assert not same(before, sim.state_dict())
    assert all(v > 0 for v in sim.omission(2, batch(50)[0]))
    embed, blocks, head = parts()
    equal = make(Simulator, (embed, [copy.deepcopy(blocks[0]) for _ in range(6)], head))
    assert equal.omission(2, batch(0)[0]) == pytest.approx((0, 0), abs=1e-9)


def test_a_loss_leaves_the_callers_draws_alone():
    sim = make(Simulator, rule="random")
    state = torch.get_rng_state()
    sim.kill(2)
    sim.step(batch(0))
    sim.jump(3, [batch(1)], "random")
    assert torch.equal(torch.get_rng_state(), state)


def test_a_frozen_layer_stays_as_it_was():
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(D, D), nn.BatchNorm1d(6)) for _ in range(4)]
    sim = make(Simulator, (Embed(len(VOCAB), D, 6), blocks, Head(D, len(VOCAB))))
    sim._sites[2].calls["2"][1].eval()
    sim.evaluate([batch(0)])
    assert [m.training for m in sim._sites[2].calls["2"].modules()] == [True, True, False]


@pytest.mark.parametrize("options", [{}, {"optimizer": torch.optim.SGD}])
@pytest.mark.parametrize("way", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_what_is_counted_survives_any_copy(way, options):
    sim = make(Simulator, audit=True, **options)
    sim.step(batch(0))
    other = way(sim)
    sim.step(batch(1))
    for t in (1, 2):
        other.step(batch(t))
    for trainer, n in ((sim, 2), (other, 3)):
        c = trainer.certificates()[3]
        assert (str(c.verdict), c.inputs["updates of units"]) == ("holds", 8 * n)


def test_a_step_that_calls_the_one_it_inherits_is_one_update():
    """Both have hooks, once the class that is inherited from was used by anybody."""
    torch.optim.SGD([nn.Parameter(torch.zeros(1))])

    class Upon(torch.optim.SGD):
        def step(self, closure=None):
            return super().step(closure)

    sim = make(Simulator, optimizer=Upon)
    sim.step(batch(0))
    sim.step(batch(1))
    assert sim.certificates()[3].verdict == "holds"
    sim._sites[2].units["2"].optimizer.step()
    assert sim.certificates()[3].verdict == "fails"


@pytest.mark.parametrize("where", [None, "shared"])
def test_checkpoints_are_a_trainers_own(where, tmp_path):
    """Trainers that share a directory, and copies of one, go back to what they saved themselves."""
    given = {"fallback": "checkpoint", "checkpoint_every": 2}
    if where:
        given["checkpoint_dir"] = tmp_path
    first = make(Simulator, **given)
    start = first.state_dict()
    first.step(batch(0))
    copied = copy.deepcopy(first)
    other = make(Simulator, parts(seed=1), **given)
    for t in range(1, 6):  # saves, and removes what it saved before
        first.step(batch(t))
        other.step(batch(t))
    first.close()
    for stage in (2, 3):
        copied.kill(stage)
    copied.marks()
    assert copied.recoveries[0].how == "rolled back"
    assert copied.iteration == 0
    assert not same(start, copied.state_dict())


def test_a_rule_that_makes_no_average_is_remembered():
    sim = make(Simulator, audit=True, rule="random")
    for t, rule in enumerate(("grad", "grad", "grad")):
        sim.step(batch(t))
        sim.kill(2)
        sim.marks()
        sim.replace_rule(rule)
    assert sim.certificates()[0].verdict == "void"
    with pytest.raises(AttributeError):
        sim.audit = False


def test_weights_that_are_not_finite_are_what_the_formula_gives():
    sim = make(Simulator, audit=True)
    for stage in (1, 3):
        next(iter(sim._sites[stage].units[str(stage)].parameters)).data[0] = math.nan
    sim.kill(2)
    sim.marks()
    assert sim.certificates()[0].verdict == "holds"


class Stretching(nn.Linear):
    """Its state grows."""

    def __init__(self):
        super().__init__(4, 4)
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, x):
        self.seen = torch.ones(len(x))
        return super().forward(x)


class Scale(nn.Module):
    """A loss that learns."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, out, y):
        return (self.scale * out - y).square().mean()


def linear(stages=None, ends=None, loss=None, **options):
    """Stages 4 x 4, and a batch."""
    torch.manual_seed(0)
    first, last = ends or (nn.Linear(3, 4), nn.Linear(4, 1))
    sim = Simulator(
        first,
        stages or [nn.Linear(4, 4) for _ in range(8)],
        last,
        loss or nn.MSELoss(),
        **{"microbatches": 2, "audit": True, **options},
    )
    return sim, (torch.randn(8, 3), torch.randn(8, 1))


def test_what_would_part_or_not_be_trained_is_refused():
    one = nn.Linear(4, 4)
    other = [nn.Linear(4, 4) for _ in range(4)]
    refused = [
        ({"stages": [one] * 4}, r"stages\[0\] and stages\[1\] share"),
        ({"stages": other, "ends": (nn.Sequential(nn.Linear(3, 4), other[2]), one)}, "share"),
        ({"stages": other, "ends": (nn.Linear(3, 4), other[2])}, r"stages\[2\] and head share"),
        ({"loss": Scale()}, "loss_fn has parameters"),
        ({"stages": [nn.LazyLinear(4) for _ in range(4)]}, r"stages\[0\] has lazy"),
        ({"rule": "zero"}, "output projections"),
    ]
    for given, named in refused:
        with pytest.raises(ValueError, match=named):
            linear(**given)
    with pytest.raises(ValueError, match="output projections"):
        linear()[0].replace_rule("zero")


def test_a_state_that_no_fresh_stage_could_take_is_refused_before_anybody_steps():
    sim, data = linear([Stretching() for _ in range(4)])
    before = sim.state_dict()
    with pytest.raises(ValueError, match="persistent=False"):
        sim.step(data)
    assert not same(before, sim.state_dict(), ["stages.1.weight", "embed.weight"])
    assert sim.iteration == 0


def test_moments_of_a_neighbour_that_has_none_start_again():
    sim, data = linear(moments="average", fallback="random")
    sim.step(data)
    for stage in (3, 4):
        sim.kill(stage)
    sim.marks()
    sim.kill(2)
    sim.step(data)
    assert sim.iteration == 2
    counted = [int(v["step"]) for v in sim._sites[2].units["2"].optimizer.state.values()]
    assert counted == [1, 1]


class Failing(torch.optim.SGD):
    """Raises or steps twice when it is told to."""

    then = ""

    def step(self, closure=None):
        if self.then == "raise":
            raise FloatingPointError("too large a step")
        return super().step(closure)


@pytest.mark.parametrize("lost", [None, 2])
def test_after_an_optimizer_raised(lost):
    """Norms are those that all agreed on, and an update too many does not make up for one missed."""
    sim, data = linear(optimizer=Failing, clip=None)
    sim.step(data)
    optimizer = sim._sites[1].units["1"].optimizer
    optimizer.then = "raise"
    with pytest.raises(FloatingPointError):
        sim.step((data[0], 100 * data[1]))
    optimizer.then = ""
    if lost is None:
        optimizer.step()
        sim.step(data)
        c = sim.certificates()[3]
        assert c.verdict == "fails"
        assert c.inputs["updates too many or too few"] == 2
    else:
        sim.kill(lost)
        sim.step(data)
        assert sim.certificates()[0].verdict == "holds"


class Extra(nn.Linear):
    """A layer with a state that is no tensor."""

    def get_extra_state(self):
        return {"scale": 3}

    def set_extra_state(self, state):
        self.scale = state["scale"]


def test_extra_state_is_copied():
    torch.manual_seed(0)
    blocks = [Extra(4, 4) for _ in range(4)]
    sim = Simulator(nn.Linear(3, 4), blocks, nn.Linear(4, 1), nn.MSELoss(), audit=True)
    sim.step((torch.randn(8, 3), torch.randn(8, 1)))
    sim.kill(2)
    sim.kill(0)
    sim.marks()
    assert sim.state_dict()["stages.2._extra_state"] == {"scale": 3}
    assert {str(c.verdict) for c in sim.certificates()} == {"holds"}


@pytest.mark.parametrize(
    "change",
    [lambda s: s["kept"][1].add_(1e-7), lambda s: s["table"].__setitem__(5000, 1.0)],
    ids=["list", "array"],
)
def test_a_digest_sees_into_lists_and_arrays(change):
    state = {"kept": [torch.zeros(9), torch.ones(9)], "table": np.zeros(10_000)}
    before = digest(state)
    assert digest(copy.deepcopy(state)) == before
    change(state)
    assert digest(state) != before


def test_another_device_is_pretended():
    assert words_of(Path(__file__).with_name("on_a_device.py")) == ["recover", "grad", "random"]


@pytest.mark.gpu
def test_stages_are_lost_and_regained_on_a_device():
    if not torch.cuda.is_available():
        pytest.skip("no device")
    torch.manual_seed(0)
    model = nn.Linear(3, 4), [nn.Linear(4, 4) for _ in range(5)], nn.Linear(4, 1)
    ends, blocks = (model[0].cuda(), model[2].cuda()), [b.cuda() for b in model[1]]
    x, y = torch.randn(8, 3).cuda(), torch.randn(8, 1).cuda()
    sim = Simulator(ends[0], blocks, ends[1], nn.MSELoss(), microbatches=2, audit=True)
    for lost in ((), (2,), (0,), (4,)):
        for stage in lost:
            sim.kill(stage)
        sim.step((x, y))
    assert all(v.is_cuda for v in sim.state_dict().values())
    assert {str(c.verdict) for c in sim.certificates()} == {"holds"}
    plain = Simulator(
        ends[0],
        blocks,
        ends[1],
        nn.MSELoss(),
        optimizer=torch.optim.SGD,
        clip=None,
        lr_boost=1.0,
        lr=1e-2,
        microbatches=2,
    )
    c = descent_with_jumps(plain, (x, y), 6, floor=0.0, kills={2: [2]})
    assert c.verdict in ("holds", "vacuous")
