import warnings

import pytest
import torch
from torch import nn

from whp.losses import AdvCompSumLoss, CompSumLoss
from whp.losses._comp_sum_losses.adversarial import ascend, evaluated


def test_radius_zero_and_what_the_attack_leaves_behind():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    ).double()
    model.train()
    model[3].eval()
    x, y = torch.rand(16, 6, dtype=torch.float64), torch.arange(16) % 3
    statistics = model[1].running_mean.clone()
    ascend(
        model.eval(),
        x,
        lambda z: z.sum(),
        radius=0.1,
        norm="linf",
        steps=2,
        step_size=0.1,
        box=None,
    )
    assert all(p.grad is None for p in model.parameters())
    model.train()
    model[3].eval()
    loss = AdvCompSumLoss(0.1, steps=3)(model, x, y)
    assert all(p.grad is None for p in model.parameters())
    assert [m.training for m in model] == [True, True, True, False, True]
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    assert not torch.equal(statistics, model[1].running_mean)
    model.eval()
    plain = AdvCompSumLoss(0.0, rho=0.5, nu=2.0)(model, x, y)
    assert float(plain.detach()) == pytest.approx(
        float(CompSumLoss()(model(x) / 0.5, y).detach()) + 2e-6, abs=1e-9
    )


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attacks_stay_in_the_ball_and_the_box(norm):
    torch.manual_seed(0)
    x = torch.rand(30, 1, 5, 5)
    model = nn.Sequential(nn.Flatten(), nn.Linear(25, 4))
    far = ascend(
        model,
        x,
        lambda z: z[:, 0].sum(),
        radius=0.2,
        norm=norm,
        steps=8,
        step_size=0.1,
        box=(0.0, 1.0),
    )
    moved = (far - x).flatten(1)
    size = moved.abs().amax(dim=1) if norm == "linf" else moved.norm(dim=1)
    assert (size <= 0.2 + 1e-6).all()
    assert size.mean() > 0.1
    assert far.min() >= 0
    assert far.max() <= 1
    assert (model(far)[:, 0] > model(x)[:, 0]).all()
    unreduced = AdvCompSumLoss(0.2, norm=norm, reduction="none")(
        model, x, torch.zeros(30, dtype=torch.int64)
    )
    assert unreduced.shape == (30,)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: AdvCompSumLoss(-1), "radius"),
        (lambda: AdvCompSumLoss(0.1, rho=0), "rho"),
        (lambda: AdvCompSumLoss(0.1, nu=-1), "nu"),
        (lambda: AdvCompSumLoss(0.1, box=(1.0, 0.0)), "box"),
        (lambda: AdvCompSumLoss(0.1, steps=0), "steps"),
        (lambda: AdvCompSumLoss(0.1)(nn.Linear(2, 3), torch.rand(2, 2), torch.rand(2)), "y"),
    ],
)
def test_misuse_is_named(make, named):
    with pytest.raises((ValueError, TypeError), match=named):
        make()


class Merging(nn.Linear):
    """Like layers that fold something into their weights when ``eval()`` is called."""

    calls = 0

    def train(self, mode=True):
        self.calls += 1
        return super().train(mode)


def test_modes_are_set_without_the_models_own_methods():
    model = nn.Sequential(Merging(3, 3), nn.Dropout(0.5))
    model.train()
    before = model[0].calls
    with evaluated(model):
        assert not any(m.training for m in model.modules())
    with pytest.raises(RuntimeError), evaluated(model):
        model(torch.rand(2, 5))
    assert all(m.training for m in model.modules())
    AdvCompSumLoss(0.1, steps=2)(model, torch.rand(4, 3), torch.arange(4) % 3).backward()
    assert model[0].calls == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_are_finite_in_half_precision(dtype):
    torch.manual_seed(0)
    model = nn.Linear(6, 4).to(dtype)
    x, y = torch.rand(8, 6, dtype=dtype), torch.arange(8) % 4
    loss = AdvCompSumLoss(0.0, steps=1)(model, x, y)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(model.weight.grad).all()
    plain = nn.Linear(6, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        AdvCompSumLoss(0.0, steps=1)(plain, x.float(), y).backward()
    assert torch.isfinite(plain.weight.grad).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_computes_where_the_model_is(norm):
    """On the meta device: without a GPU, gradients of fake CUDA tensors abort the process."""
    with torch.device("meta"):
        away = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        x, y = torch.rand(16, 6), torch.zeros(16, dtype=torch.int64)
    criterion = AdvCompSumLoss(0.1, norm=norm, steps=2)
    criterion.to("meta")(away, x, y).backward()
    assert all(p.grad.device.type == "meta" for p in away.parameters())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_inputs_outside_the_box_are_told_and_stay_in_the_ball(norm):
    torch.manual_seed(0)
    x, y = torch.randn(16, 6), torch.randint(0, 3, (16,))
    inner, seen = nn.Linear(6, 3), []
    model = nn.Sequential(nn.Identity(), inner)
    model[0].register_forward_hook(lambda module, given, out: seen.append(out.detach().clone()))
    with pytest.warns(UserWarning, match=r"outside box=\(0.0, 1.0\)"):
        AdvCompSumLoss(0.1, norm=norm)(model, x, y)
    size = (seen[-1] - x).abs().amax(1) if norm == "linf" else (seen[-1] - x).norm(dim=1)
    assert size.max() <= 0.1 * (1 + 1e-5)
    assert size.max() > 0.05
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        AdvCompSumLoss(0.1, norm=norm, box=None)(model, x, y)
        AdvCompSumLoss(0.1, norm=norm)(model, torch.rand(16, 6), y)
