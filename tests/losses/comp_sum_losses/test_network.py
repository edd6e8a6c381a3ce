import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import parametrizations

from whp.certificate import Status, Verdict
from whp.losses import robust_error_bound
from whp.losses._comp_sum_losses import intervals
from whp.losses._comp_sum_losses.network import Network, margins

X = np.random.default_rng(0).random((24, 1, 8, 8)).astype(np.float32)
Y = np.arange(24) % 3


def settled(model):
    """With running statistics of some rows, in evaluation mode."""
    torch.manual_seed(1)
    model.train()
    with torch.no_grad():
        for _ in range(5):
            model(torch.rand(32, 1, 8, 8))
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model.eval()


def networks():
    torch.manual_seed(0)
    return {
        "plain": nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3)),
        "convolution": nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)
        ),
        "batch norm": nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 6),
            nn.BatchNorm1d(6),
            nn.Tanh(),
            nn.Linear(6, 3),
        ),
        "group norm": nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.GroupNorm(2, 4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.LayerNorm(36),
            nn.Linear(36, 3),
        ),
        "adaptive": nn.Sequential(
            nn.Conv2d(1, 6, 3, groups=1),
            nn.LeakyReLU(0.1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Sequential(nn.Linear(6, 3), nn.Sigmoid()),
        ),
        "others": nn.Sequential(
            nn.Flatten(),
            nn.LayerNorm(64, elementwise_affine=False),
            nn.Linear(64, 5),
            nn.ELU(),
            nn.Softplus(),
            nn.Hardtanh(-2, 2),
            nn.ReLU6(),
            nn.Dropout(),
            nn.Linear(5, 3),
        ),
        "no affine": nn.Sequential(
            nn.BatchNorm2d(1, affine=False),
            nn.Unflatten(1, (1, 1)),
            nn.Conv3d(1, 2, (1, 3, 3)),
            nn.Flatten(),
            nn.Linear(72, 3, bias=False),
        ),
    }


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
def test_intervals_contain_every_point_and_every_attack(name, box):
    model = settled(networks()[name])
    at = Network(model, X, Y, 0.05, "linf", box, 0)
    least, moved, outside = at.over_the_ball()
    assert outside == 0
    assert (least.min(axis=1) <= at.attacked(10, 2)).all()
    rng = np.random.default_rng(0)
    here = at.here.numpy()
    for _ in range(40):
        step = rng.choice([-1.0, 1.0], X.shape) * rng.choice([1.0, rng.random()])
        near = X + 0.05 * step
        near = near if box is None else near.clip(*box)
        there = Network(model, near.astype(np.float32), Y, 0, "linf", None, 0).here.numpy()
        assert (there >= least - 1e-6).all()
        assert (np.linalg.norm(there - here, axis=1) <= moved + 1e-5).all()


@pytest.mark.parametrize("name", networks())
def test_without_a_ball_they_are_as_wide_as_rounding(name):
    at = Network(settled(networks()[name]), X, Y, 0.0, "linf", None, 0)
    least, _, _ = at.over_the_ball()
    here = at.here.double().numpy()
    assert (least <= here + 1e-12).all()
    np.testing.assert_allclose(least, here, atol=2e-2 * max(1.0, np.abs(here).max()))


def test_a_linear_network_is_bounded_exactly():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double().eval()
    W, b = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()
    flat = X.reshape(24, -1).astype(float)
    ours = robust_error_bound(model, X, Y, 0.05, box=(0, 1), rng=0)
    exact = robust_error_bound((W, b), flat, Y, 0.05, box=(0, 1))
    np.testing.assert_allclose(ours.least_margin, exact.least_margin, atol=1e-7)


class Negated(nn.Sequential):
    def forward(self, x):
        return -super().forward(x)


class Normalised(nn.Sequential):
    def forward(self, x):
        return super().forward((x - 0.5) / 0.25)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(64, 3)

    def forward(self, x):
        return self.last(x.flatten(1))


def layers():
    return nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)


def hooked(where, how):
    model = nn.Sequential(*layers())
    getattr(model if where is None else model[where], how)(lambda m, *a: None)
    return model


def replaced():
    model = nn.Sequential(*layers())
    model[1].forward = lambda x: -nn.functional.linear(x, model[1].weight)
    return model


def normed():
    model = nn.Sequential(*layers())
    parametrizations.weight_norm(model[1])
    return model


STRANGE = {
    "negated": (lambda: Negated(*layers()), "Negated"),
    "normalised": (lambda: Normalised(*layers()), "Normalised"),
    "inside": (lambda: nn.Sequential(Normalised(nn.Flatten()), nn.Linear(64, 3)), "Normalised"),
    "own module": (Net, "Net"),
    "hook": (lambda: hooked(None, "register_forward_hook"), "hooks"),
    "hook before": (lambda: hooked(2, "register_forward_pre_hook"), "hooks"),
    "hook of a dropout": (
        lambda: nn.Sequential(*layers()[:3], hooked_dropout(), nn.Linear(8, 3)),
        "hooks",
    ),
    "forward replaced": (replaced, "forward"),
    "weight norm": (normed, "ParametrizedLinear"),
    "gelu": (lambda: nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(64, 3)), "GELU"),
    "circular": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(64, 3)
        ),
        "padding_mode",
    ),
    "falling": (
        lambda: nn.Sequential(nn.Flatten(), nn.LeakyReLU(-0.5), nn.Linear(64, 3)),
        "negative_slope",
    ),
    "batch statistics": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 3)
        ),
        "running statistics",
    ),
}


def hooked_dropout():
    made = nn.Dropout()
    made.register_forward_hook(lambda m, a, out: -out)
    return made


@pytest.mark.parametrize("name", STRANGE)
def test_modules_that_may_not_be_what_they_seem_are_refused(name):
    make, named = STRANGE[name]
    with pytest.raises(ValueError, match=named):
        robust_error_bound(make().eval(), X, Y, 0.01, rng=0)


def test_global_hooks_are_refused():
    handle = nn.modules.module.register_module_forward_hook(lambda m, a, out: None)
    try:
        with pytest.raises(ValueError, match="global hooks"):
            intervals.flattened(nn.Sequential(*layers()))
    finally:
        handle.remove()


def test_a_class_that_was_patched_is_refused(monkeypatch):
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: -x)
    with pytest.raises(ValueError, match="forward was replaced"):
        intervals.flattened(nn.Sequential(*layers()))


def test_margins_over_the_ball_cannot_be_claimed():
    """Whoever gets round the types is met by the network's own logits."""
    model = nn.Sequential(*layers()).eval()
    at = Network(model, X, Y, 0.01, "linf", None, 0)
    assert at.over_the_ball()[2] == 0
    at.here = -at.here
    assert at.over_the_ball()[2] > 0


def test_a_layer_that_stands_there_twice_counts_twice():
    relu, shared = nn.ReLU(inplace=True), nn.Linear(8, 8)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 8), relu, shared, relu, shared, relu, nn.Linear(8, 3)
    )
    assert len(intervals.flattened(model)) == 8
    assert Network(model.eval(), X, Y, 0.01, "linf", None, 0).over_the_ball()[2] == 0


def state(model):
    return {k: v.clone() for k, v in model.state_dict().items()}


@pytest.mark.parametrize("sup", ["interval", "pgd"])
def test_a_model_in_training_mode_is_void_and_comes_back_as_it_was(sup):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(72, 3),
    )
    model.train()
    model[4].eval()
    before, random = state(model), torch.random.get_rng_state()
    found = robust_error_bound(model, X, Y, 0.01, sup=sup, steps=3, rng=0)
    assert {c.verdict for c in found.certificates} == {Verdict.VOID}
    assert "model.eval()" in found.certificates[0].explain()
    assert [m.training for m in model] == [True] * 4 + [False, True]
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(random, torch.random.get_rng_state())
    one = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).train()
    single = robust_error_bound(one, X[:1], Y[:1], 0.01, sup=sup, steps=3, rng=0)
    assert {c.verdict for c in single.certificates} == {Verdict.VOID}


def test_training_mode_without_effect_is_fine():
    model = nn.Sequential(*layers()).train()
    found = robust_error_bound(model, X, Y, 1e-4, rng=0)
    assert found.certificates[0].conditions[0].status is Status.MET
    assert model.training


def test_a_model_that_looks_at_the_batch_is_void():
    model = nn.Sequential(
        nn.Flatten(), nn.BatchNorm1d(64, track_running_stats=False), nn.Linear(64, 3)
    )
    found = robust_error_bound(model.eval(), X, Y, 0.01, sup="pgd", steps=2, rng=0)
    assert {c.verdict for c in found.certificates} == {Verdict.VOID}


def test_all_is_computed_where_the_model_is():
    with torch.device("meta"):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.LayerNorm(36),
            nn.Linear(36, 8),
            nn.Tanh(),
            nn.Linear(8, 3),
        ).eval()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to_empty(device="cuda")
        x = torch.empty(5, 1, 8, 8, device="cuda")
        y = torch.zeros(5, dtype=torch.int64, device="cuda")
        low, high = x.double() - 0.1, x.double() + 0.1
        for layer in intervals.flattened(model):
            low, high = intervals.through(layer, low, high, 2.0**-24)
            assert low.device.type == high.device.type == "cuda"
        assert margins(low, y).device.type == "cuda"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_the_gpu_gives_the_same_bound():
    model = settled(networks()["batch norm"])
    here = robust_error_bound(model, X, Y, 0.01, rng=0)
    there = robust_error_bound(model.to("cuda"), X, Y, 0.01, rng=0)
    np.testing.assert_allclose(there.least_margin, here.least_margin, atol=1e-1)


@pytest.mark.parametrize("threshold", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_softplus_falls_at_its_threshold(threshold, kind):
    layer = nn.Softplus(threshold=threshold)
    low = torch.linspace(threshold - 2, threshold + 2, 81, dtype=torch.float64)[:, None]
    high = low + torch.linspace(0, 1, 9, dtype=torch.float64)
    least, most = intervals.through(layer, low.expand_as(high), high, torch.finfo(kind).eps / 2)
    for share in np.linspace(0, 1, 101):
        out = layer((low + share * (high - low)).to(kind)).double()
        assert (out >= least).all()
        assert (out <= most).all()


@pytest.mark.parametrize(
    "layer", [nn.ReLU(inplace=True), nn.ELU(inplace=True), nn.LeakyReLU(inplace=True)]
)
def test_a_first_layer_in_place_leaves_rows_as_they_are(layer):
    torch.manual_seed(0)
    rows = np.random.default_rng(0).normal(size=(30, 4))
    kept = rows.copy()
    model = nn.Sequential(layer, nn.Linear(4, 3)).double().eval()
    found = robust_error_bound(model, rows, np.zeros(30, dtype=int), 0.01, steps=3)
    assert np.array_equal(rows, kept)
    assert found.certificates[0].verdict is not Verdict.VOID


def test_what_only_seems_a_known_layer_is_refused():
    pool = nn.Sequential(nn.AvgPool2d(2, divisor_override=-4), nn.Flatten(), nn.Linear(16, 3))
    patched = nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten(), nn.Linear(2, 3))
    own = patched[0]._conv_forward
    patched[0]._conv_forward = lambda *given: -own(*given)
    for model, named in ((pool, "divisor_override"), (patched, "_conv_forward")):
        with pytest.raises(ValueError, match=named):
            robust_error_bound(model.eval(), X, Y, 0.01)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_attack_stays_in_the_ball_where_float32_is_coarse(norm):
    model = nn.Sequential(nn.Linear(2, 2)).eval()
    rows = np.full((20, 2), 1e6)
    found = Network(model, rows, np.zeros(20, dtype=int), 0.04, norm, None, 0)
    far = found._inside(found.x + 0.0625)
    assert torch.equal(far, found.x)


def test_beyond_the_range_of_the_network_nothing_is_proven():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.fill_(5e4)
        model[1].weight.copy_(torch.tensor([[0.5], [1.0]]))
    X, y = np.linspace(0.5, 1.2, 50)[:, None], np.ones(50, int)
    assert robust_error_bound(model, X, y, 0.25, rng=0, steps=2).counted == 0  # float32 has room
    found = robust_error_bound(model.half(), X, y, 0.25, rng=0, steps=2)
    wrong = model(torch.from_numpy(X + 0.25).half()).detach().numpy().argmax(axis=1) == 0
    assert 0 < wrong.mean() <= found.counted < 1
    with pytest.raises(ValueError, match="not finite, first in row 49"):
        robust_error_bound(model, X + 0.12, y, 0.0, rng=0)
    deep = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 2)).double().eval()
    with torch.no_grad():
        for v in deep.parameters():
            v.fill_(1e200 if v.ndim == 2 else 0.0)
    assert robust_error_bound(deep, 0 * X, y * 0, 0.1, rng=0, steps=2).counted == 1


def test_what_an_attack_needs_is_named():
    class Frozen(nn.Module):
        @torch.no_grad()
        def forward(self, x):
            return torch.cat([x, -x], dim=1)

    X, y = np.linspace(-1, 1, 20)[:, None], np.zeros(20, int)
    with pytest.raises(ValueError, match="without a gradient"):
        robust_error_bound(Frozen(), X, y, 0.1, sup="pgd", rng=0)
    with pytest.raises(ValueError, match="a logit a class"):
        robust_error_bound(nn.Linear(1, 1), X, y, 0.1, sup="pgd", rng=0)
    model = nn.Sequential(nn.Linear(1, 2)).eval()
    outside = robust_error_bound(model, X, y, 0.1, rng=0)
    with torch.inference_mode():
        assert robust_error_bound(model, X, y, 0.1, rng=0).attacked == outside.attacked


def test_the_ball_is_that_of_the_rows_as_given():
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(3, 2)).to(torch.bfloat16).eval()
    X, y = torch.from_numpy(rng.uniform(0.5, 1, (200, 3))), torch.zeros(200, dtype=torch.long)
    low, high = intervals.margins(model, X, y, 2e-3, None)  # half a step of bfloat16 there
    for _ in range(50):
        z = model((X + 2e-3 * torch.from_numpy(rng.choice([-1, 1], X.shape))).bfloat16()).double()
        margin = z[:, :1] - z[:, 1:]
        assert ((low <= margin) & (margin <= high)).all()
