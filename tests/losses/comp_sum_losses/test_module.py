import copy
import pickle
import warnings
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from comp_sum import LOSSES, TAUS
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from whp.datasets import images
from whp.losses import CompSumLoss, comp_sum, comp_sum_loss
from whp.losses._comp_sum_losses import module


@pytest.fixture(scope="module")
def scores():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(40, 7, generator=generator, dtype=torch.float64)
    return z, torch.randint(0, 7, (40,), generator=generator)


@pytest.mark.parametrize("tau", TAUS)
def test_values_in_numpy_and_torch(tau):
    z, y = np.tile([2.0, 0.0, -1.0], (3, 1)), np.arange(3)
    np.testing.assert_allclose(comp_sum_loss(z, y, tau, "none"), LOSSES[tau], rtol=1e-9)
    found = CompSumLoss(tau, reduction="none")(torch.tensor(z), torch.tensor(y))
    np.testing.assert_allclose(found, LOSSES[tau], rtol=1e-9)
    u = np.exp(z - z[:, :1]).sum(axis=1)[0] - 1
    assert comp_sum(u, tau) == pytest.approx(LOSSES[tau][0])
    assert comp_sum_loss(z, y, tau, "sum") == pytest.approx(sum(LOSSES[tau]))


@pytest.mark.parametrize(
    ("tau", "expected"),
    [
        (0.5, (2.4969674869, -2.6212841776, 0.1243166910)),
        (1.5, (0.2851417000, -0.2993380693, 0.0141963693)),
    ],
)
def test_gradients(tau, expected):
    z = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    CompSumLoss(tau)(z, torch.tensor([1])).backward()
    np.testing.assert_allclose(z.grad[0], expected, atol=1e-9)


@pytest.mark.parametrize("tau", TAUS)
def test_gradcheck_and_shifts(scores, tau):
    z, y = scores
    assert torch.autograd.gradcheck(CompSumLoss(tau), (z[:5].clone().requires_grad_(), y[:5]))
    weighted = CompSumLoss(
        tau, weight=torch.arange(1.0, 8.0, dtype=torch.float64), label_smoothing=0.1
    )
    assert torch.autograd.gradcheck(weighted, (z[:5].clone().requires_grad_(), y[:5]))
    torch.testing.assert_close(CompSumLoss(tau)(z + 7, y), CompSumLoss(tau)(z, y))


def test_the_dial_is_continuous_at_one(scores):
    z, y = scores
    one = CompSumLoss(1.0, reduction="none")(z, y)
    for tau in (1 - 1e-9, 1 + 1e-9):
        torch.testing.assert_close(CompSumLoss(tau, reduction="none")(z, y), one, atol=1e-8, rtol=0)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["numbers", "ignored", "probabilities"])
def test_it_is_cross_entropy_at_one(scores, reduction, smoothing, weighted, kind):
    z, y = scores
    target = y.clone()
    if kind == "ignored":
        target[::3] = -100
    if kind == "probabilities":
        target = torch.softmax(z.flip(0), dim=1)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if weighted:
        options["weight"] = torch.linspace(0, 2, 7, dtype=torch.float64)
    expected = nn.CrossEntropyLoss(**options)(z, target)
    torch.testing.assert_close(CompSumLoss(**options)(z, target), expected, atol=1e-14, rtol=1e-14)


def test_shapes_of_cross_entropy_are_accepted():
    z = torch.randn(4, 7, 5, 3)
    y = torch.randint(0, 7, (4, 5, 3))
    torch.testing.assert_close(CompSumLoss()(z, y), functional.cross_entropy(z, y))
    smooth = CompSumLoss(label_smoothing=0.2)(z, y)
    torch.testing.assert_close(smooth, functional.cross_entropy(z, y, label_smoothing=0.2))
    torch.testing.assert_close(
        CompSumLoss()(z[0, :, 0, 0], y[0, 0, 0]),
        functional.cross_entropy(z[0, :, 0, 0], y[0, 0, 0]),
    )
    assert torch.isnan(CompSumLoss(1.5)(torch.randn(0, 3), torch.empty(0, dtype=torch.int64)))
    assert torch.isnan(CompSumLoss(1.5)(torch.randn(2, 3), torch.tensor([-100, -100])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("tau", TAUS)
def test_extreme_logits_in_any_precision(dtype, tau):
    z = torch.tensor([[1e4, 0, -1e4], [100, 0, -100], [0, 0, 0]], dtype=dtype, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        losses = CompSumLoss(tau, reduction="none")(z, torch.tensor([2, 2, 1]))
    assert losses.dtype == torch.float32
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(z.grad).all()
    assert float(losses[2].detach()) == pytest.approx(float(comp_sum(2.0, tau)), rel=1e-5)
    if tau == 1:
        torch.testing.assert_close(
            losses, functional.cross_entropy(z.float(), torch.tensor([2, 2, 1]), reduction="none")
        )


def test_below_the_floor_the_loss_goes_on_as_its_tangent():
    criterion = CompSumLoss(0.0, reduction="none", floor=1e-3)
    z = torch.tensor(
        [[0.0, np.log(1e3 - 1) - 1e-12], [0.0, 20.0]], dtype=torch.float64, requires_grad=True
    )
    losses = criterion(z, torch.tensor([0, 0]))
    assert float(losses[0]) == pytest.approx(999)
    log_p = float(torch.log_softmax(z[1], dim=0)[0])
    assert float(losses[1]) == pytest.approx(999 + 1e3 * (np.log(1e-3) - log_p))
    assert float(criterion.clamped) == 0.5
    losses.sum().backward()
    assert float(z.grad[1, 1]) == pytest.approx(1e3, rel=1e-6)


def test_dead_examples_are_named():
    z = torch.tensor([[50.0, 0.0]] * 3, requires_grad=True)
    with pytest.warns(UserWarning, match="no gradient"):
        CompSumLoss(2.0)(z, torch.tensor([1, 1, 1]))


def test_it_learns_and_survives_saving(tmp_path):
    X, y = images.digits()
    X, y = torch.from_numpy(X[:400]), torch.from_numpy(y[:400])
    torch.manual_seed(0)
    model, criterion = nn.Linear(64, 10), CompSumLoss(1.5, weight=torch.ones(10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(40):
        optimizer.zero_grad()
        criterion(model(X), y).backward()
        optimizer.step()
    assert float((model(X).argmax(1) == y).float().mean()) > 0.9
    again = CompSumLoss(1.5, weight=torch.zeros(10))
    again.load_state_dict(criterion.state_dict())
    torch.testing.assert_close(again(model(X), y), criterion(model(X), y))
    assert "tau=1.5" in repr(criterion)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: CompSumLoss(-0.1), "tau"),
        (lambda: CompSumLoss(float("nan")), "tau"),
        (lambda: CompSumLoss("1"), "tau"),
        (lambda: CompSumLoss(reduction="max"), "reduction"),
        (lambda: CompSumLoss(label_smoothing=1.5), "label_smoothing"),
        (lambda: CompSumLoss(weight=torch.tensor([1.0, -1.0])), "weight"),
        (lambda: CompSumLoss(floor=0), "floor"),
        (lambda: CompSumLoss()(torch.ones(2, 3, dtype=torch.int64), torch.tensor([0, 1])), "input"),
        (lambda: CompSumLoss()(torch.ones(2, 3), torch.ones(2, 4)), "target"),
    ],
)
def test_misuse_is_named(make, named):
    with pytest.raises((ValueError, TypeError), match=named):
        make()


def test_whole_numbers_of_any_type_are_targets(scores):
    z, y = scores
    for dtype in (torch.int32, torch.uint8, torch.int16):
        torch.testing.assert_close(CompSumLoss(1.5)(z, y.to(dtype)), CompSumLoss(1.5)(z, y))
    with pytest.raises(TypeError, match="target"):
        CompSumLoss()(z, y > 3)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_it_computes_where_the_logits_are(tau, weighted, smoothing):
    criterion = CompSumLoss(
        tau, weight=torch.ones(5) if weighted else None, label_smoothing=smoothing
    )
    for name in ("cuda", "meta"):
        there = copy.deepcopy(criterion)
        with FakeTensorMode() if name == "cuda" else nullcontext():
            for key, value in list(there.named_buffers()):
                there._buffers[key] = torch.ones(value.shape, device=name)
            z = torch.randn(8, 5, device=name, requires_grad=name == "meta")
            y = torch.zeros(8, dtype=torch.int64, device=name)
            loss = there(z, y)
            assert loss.device.type == name
            assert there(z, torch.softmax(z, dim=1)).device.type == name
        if name == "meta":  # autograd starts threads for a fake device's gradients
            loss.backward()
            assert z.grad.device.type == name


def test_it_compiles_for_torch_export():
    exported = torch.export.export(
        CompSumLoss(2.0), (torch.randn(4, 3), torch.zeros(4, dtype=torch.int64))
    )
    z, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(exported.module()(z, y), CompSumLoss(2.0)(z, y))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_ignored_entries_may_hold_anything(scores, smoothing):
    z, y = scores
    z, y = z.clone(), y.clone()
    z[1], y[1] = torch.nan, -100
    found = CompSumLoss(label_smoothing=smoothing)(z, y)
    expected = torch.nn.functional.cross_entropy(z, y, label_smoothing=smoothing)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_shares_are_those_of_the_labels_that_count():
    z = torch.tensor([[60.0, 0], [60, 0], [0, 0], [0, 0]])
    loss = CompSumLoss(0.5)
    loss(z, torch.tensor([1, 1, -100, -100]))
    assert loss.clamped == 1
    loss = CompSumLoss(0.5, label_smoothing=0.1)
    loss(z[:2], torch.tensor([0, 1]))
    assert loss.clamped == 0.5
    sure = (20 * torch.eye(1000)[:8]).requires_grad_()
    CompSumLoss(2.0, label_smoothing=0.1)(sure, torch.arange(8))  # no warning: no label is dead
    with pytest.warns(UserWarning, match="100% of the labels"):
        CompSumLoss(2.0)(sure, torch.tensor([9, 9, 9, *[-100] * 5]))


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_gradients_of_each_example_leave_the_loss_as_it_was(scores, tau):
    z, y = scores
    loss = CompSumLoss(tau)

    def one(a, b):
        return loss(a[None], b[None])

    found = torch.func.vmap(torch.func.grad(one))(z.detach(), y)
    for i in range(len(z)):
        a = z[i].detach().clone().requires_grad_()
        (expected,) = torch.autograd.grad(one(a, y[i]), a)
        torch.testing.assert_close(found[i], expected)
    assert pickle.loads(pickle.dumps(loss)).tau == tau


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tau", [*TAUS, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_gradients_are_right_in_any_precision(scores, dtype, tau, smoothing):
    """As p^(τ−1)(softmax − onehot) in float64: of typical logits, and of some below the floor."""
    z = scores[0].to(dtype)
    z[:4] *= 10
    y, eye = scores[1], torch.eye(7, dtype=torch.float64)
    share = (1 - smoothing) * eye[y] + smoothing / 7
    log_p = z.double().log_softmax(dim=1)
    floor = 1e-12
    if dtype == torch.float16 and tau < 1:
        floor = max(floor, 1e4 ** (1 / (tau - 1)))
    slope = log_p.exp().clamp(min=floor if tau < 1 else 0.0) ** (tau - 1)
    expected = share * slope
    expected = log_p.exp() * expected.sum(dim=1, keepdim=True) - expected
    a = z.clone().requires_grad_()
    CompSumLoss(tau, label_smoothing=smoothing, reduction="sum")(a, y).backward()
    size = expected.abs().max(dim=1, keepdim=True).values
    off = (a.grad.double() - expected).abs() / size.clamp(min=1e-2)
    assert off.max() < {torch.float32: 1e-4, torch.float16: 2e-3, torch.bfloat16: 1e-2}[dtype]


@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_what_torch_compile_cannot_trace_is_not_called(scores, tau, monkeypatch):
    """The types that tests check at run time cannot be traced themselves, so that nothing is compiled here."""

    def untraceable(value):
        raise AssertionError

    monkeypatch.setattr(module, "is_functorch_wrapped_tensor", untraceable)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    z, y = scores
    CompSumLoss(tau)(z.float().requires_grad_(), y).backward()
