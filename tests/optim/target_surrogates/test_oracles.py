import pytest
import torch
from torch import nn
from torch.nn import functional

from whp.optim import loss_oracle
from whp.optim._target_surrogates.oracles import knows, lacks, least_of

LABELS = torch.tensor([0, 1, 2, 1])
W = torch.tensor([1.0, 50.0, 1.0])
FLAGS = torch.tensor([[1.0], [0.0], [1.0], [1.0]])


@pytest.mark.parametrize(
    ("loss", "y", "L"),
    [
        (nn.MSELoss, FLAGS, 2.0),
        (nn.HuberLoss, FLAGS, 1.0),
        (lambda **k: nn.HuberLoss(delta=0.2, **k), FLAGS, 1.0),
        (nn.SmoothL1Loss, FLAGS, 1.0),
        (lambda **k: nn.SmoothL1Loss(beta=0.1, **k), FLAGS, 10.0),
        (lambda **k: nn.SmoothL1Loss(beta=0.0, **k), FLAGS, None),
        (nn.BCEWithLogitsLoss, FLAGS, 0.25),
        (lambda **k: nn.BCEWithLogitsLoss(pos_weight=torch.tensor(30.0), **k), FLAGS, 7.5),
        (lambda **k: nn.BCEWithLogitsLoss(pos_weight=torch.tensor(0.1), **k), FLAGS, 0.25),
        (lambda **k: nn.BCEWithLogitsLoss(weight=torch.tensor(4.0), **k), FLAGS, 1.0),
        (nn.CrossEntropyLoss, LABELS, 0.5),
        (lambda **k: nn.CrossEntropyLoss(weight=W, **k), LABELS, 25.0),
        (lambda **k: nn.CrossEntropyLoss(weight=W, label_smoothing=0.2, **k), LABELS, 25.0),
        (nn.CrossEntropyLoss, 3 * torch.eye(3), 1.5),
        (nn.PoissonNLLLoss, FLAGS, None),
        (nn.L1Loss, FLAGS, None),
    ],
)
def test_smoothness_with_weights(loss, y, L):
    oracle = loss_oracle(loss(reduction="sum"), y)
    assert (None if L is None else pytest.approx(L)) == oracle.L
    if L is None:
        return
    # The slope's change along a line is never above it, and comes near for some losses.
    shape = (len(y), 3) if isinstance(oracle.loss, nn.CrossEntropyLoss) else y.shape
    g = torch.Generator().manual_seed(0)
    for _ in range(200):
        a = 2 * torch.randn(shape, generator=g, dtype=torch.float64)
        b = a + 0.1 * torch.randn(shape, generator=g, dtype=torch.float64)
        if y.is_floating_point():
            oracle.y = y.double()
        for name in ("weight", "pos_weight"):
            if getattr(oracle.loss, name, None) is not None:
                setattr(oracle.loss, name, getattr(oracle.loss, name).double())
        (_, first), (_, second) = oracle(a), oracle(b)
        assert (second - first).norm() <= L * (b - a).norm() * (1 + 1e-9)


def test_a_loss_that_is_not_what_it_seems_is_not_known():
    class Heavier(nn.MSELoss):
        def forward(self, z, y):
            return 100 * super().forward(z, y)

    hooked = nn.MSELoss(reduction="sum")
    hooked.register_forward_hook(lambda module, inputs, output: 100 * output)
    replaced = nn.MSELoss(reduction="sum")
    replaced.forward = lambda z, y: 100 * ((z - y) ** 2).sum()
    for loss in (Heavier(reduction="sum"), hooked, replaced):
        oracle = loss_oracle(loss, FLAGS)
        assert oracle.L is None
        assert not knows(oracle)
    given = loss_oracle(nn.MSELoss(reduction="sum"), FLAGS, L=2.0)
    assert given.L == 2.0
    assert not knows(given)
    with pytest.raises(AttributeError):
        given.value = lambda z: 0.0
    with pytest.raises(AttributeError):
        given.L = 1e-9
    assert lacks(loss_oracle(nn.PoissonNLLLoss(reduction="sum"), FLAGS))


def test_a_subclass_of_the_oracle_is_not_vouched_for():
    plain = type(loss_oracle(nn.MSELoss(reduction="sum"), FLAGS))

    class Own(plain):
        def value(self, z):
            return torch.tensor(0.0)

    assert not knows(Own(nn.MSELoss(reduction="sum"), FLAGS, None))


def test_weights_that_change_are_seen():
    loss = nn.CrossEntropyLoss(weight=torch.ones(3), reduction="sum")
    oracle = loss_oracle(loss, LABELS)
    assert oracle.L == 0.5
    loss.weight = W
    assert oracle.L == 25.0


def test_means_are_refused_that_do_not_say_so():
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    oracle = loss_oracle(functional.cross_entropy, LABELS)
    with pytest.raises(ValueError, match="loss must be a sum over rows"):
        oracle(z)
    weighted = loss_oracle(lambda a, b: functional.cross_entropy(a, b, weight=W), LABELS)
    with pytest.raises(ValueError, match="loss must be a sum over rows"):
        weighted(z)
    summed = loss_oracle(lambda a, b: functional.cross_entropy(a, b, reduction="sum"), LABELS)
    assert float(summed(z)[0]) > 0
    # Neither a sum nor a mean over rows: nothing is said of it.
    whole = loss_oracle(lambda a, b: functional.cross_entropy(a, b, reduction="sum") ** 2, LABELS)
    assert float(whole(z)[0]) > 0


def test_targets_that_would_be_repeated_are_refused():
    oracle = loss_oracle(nn.MSELoss(reduction="sum"), torch.zeros(4))
    with pytest.raises(ValueError, match=r"y has shape \(4,\), the outputs \(4, 1\)"):
        oracle(torch.zeros(4, 1))


@pytest.mark.parametrize(
    ("loss", "y", "least"),
    [
        (nn.MSELoss, FLAGS, 0.0),
        (nn.BCEWithLogitsLoss, FLAGS, 0.0),
        (nn.BCEWithLogitsLoss, 2 * FLAGS, None),
        (nn.CrossEntropyLoss, LABELS, 0.0),
        (nn.CrossEntropyLoss, -torch.eye(3), None),
        (nn.PoissonNLLLoss, FLAGS, None),
    ],
)
def test_what_a_loss_is_never_below(loss, y, least):
    assert least_of(loss_oracle(loss(reduction="sum"), y)) == least
    assert least_of(lambda z: (0.0, z)) is None


@pytest.mark.parametrize("given", [None, 2.0])
def test_smooth_l1_without_a_beta_has_no_l(given):
    sharp = loss_oracle(nn.SmoothL1Loss(beta=0.0, reduction="sum"), torch.zeros(3, 1), L=given)
    assert lacks(sharp)
    assert not knows(sharp)
    smooth = loss_oracle(nn.SmoothL1Loss(beta=0.5, reduction="sum"), torch.zeros(3, 1))
    assert knows(smooth)
    assert not lacks(smooth)
