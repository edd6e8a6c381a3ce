import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.continual import view_batch_loss, view_consistency
from whp.continual._view_batch.loss import view_divergence


def test_6_divergence_of_known_views():
    p = torch.log(
        torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.6, 0.1, 0.3]], dtype=torch.float64)
    )
    assert float(view_batch_loss(p, torch.tensor([0, 0, 0]), 3)[2]) == pytest.approx(
        0.1108982, abs=1e-7
    )
    assert float(view_batch_loss(p[:2], torch.tensor([0, 0]), 2)[2]) == pytest.approx(
        0.0851228, abs=1e-7
    )
    total, supervised, divergence = view_batch_loss(p, torch.tensor([0, 0, 0]), 3, weight=2.0)
    assert float(total) == pytest.approx(float(supervised + 2 * divergence))
    assert float(view_batch_loss(p, torch.tensor([0, 0, 0]), 3, ssl=False)[2]) == 0
    consistent = view_consistency(p, [[0.0851228, 0.1366736]], 3)
    assert consistent.inputs["share that may flip"] == 0.5  # margin 0.5 against 0.4126 and 0.5228
    assert consistent.verdict is Verdict.VACUOUS  # no view changed a decision


def test_7_gradients():
    z = torch.tensor([[2.0, 0, -1], [1, 0.5, 0]], requires_grad=True)
    divergence = view_batch_loss(z, torch.tensor([0, 0]), 2)[2]
    divergence.backward()
    assert float(divergence.detach()) == pytest.approx(0.2551107, abs=1e-6)
    np.testing.assert_allclose(z.grad, [[0, 0, 0], [-0.3373, 0.1930, 0.1443]], atol=1e-4)


def test_zero_probabilities_give_no_nan():
    z = torch.tensor([[1e4, 0, 0], [0.0, 1e4, 0]], requires_grad=True)
    total = view_batch_loss(z, torch.tensor([0, 0]), 2)[0]
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: view_batch_loss(torch.rand(5, 3), torch.arange(5) % 3, 2), "logits"),
        (lambda: view_batch_loss(torch.rand(4, 3), torch.arange(5) % 3, 2), "logits"),
        (lambda: view_batch_loss(torch.rand(4, 3), torch.arange(4) % 3, 0), "views"),
        (lambda: view_batch_loss(torch.rand(4, 3), torch.arange(4) % 3, 2, weight=-1), "weight"),
    ],
)
def test_bad_losses_are_named(make, named):
    with pytest.raises((ValueError, TypeError), match=named):
        make()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 5))
def test_8_no_flip_outside_the_bound(seed, spread):
    random = torch.Generator().manual_seed(seed)
    first = torch.randn(500, 1, 10, generator=random, dtype=torch.float64)
    z = spread * first + torch.randn(500, 3, 10, generator=random, dtype=torch.float64)
    log_p = torch.log_softmax(z, dim=2)
    kl = (log_p[:, :1].exp() * (log_p[:, :1] - log_p[:, 1:])).sum(dim=2)
    assert view_consistency(z.flatten(0, 1), kl, 3).verdict is Verdict.HOLDS


def test_8_a_divergence_averaged_over_classes_is_found_out():
    random = torch.Generator().manual_seed(0)
    first = torch.randn(2000, 1, 10, generator=random)
    z = (first + 0.5 * torch.randn(2000, 2, 10, generator=random)).double()
    log_p = torch.log_softmax(z, dim=2)
    kl = (log_p[:, :1].exp() * (log_p[:, :1] - log_p[:, 1:])).sum(dim=2)
    assert view_consistency(z.flatten(0, 1), kl, 2).verdict is Verdict.HOLDS
    assert view_consistency(z.flatten(0, 1), kl / 10, 2).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"logits": torch.rand(5, 3)}, "logits"),
        ({"logits": torch.rand(4, 1)}, "logits"),
        ({"divergence": [0.1, 0.2]}, "divergence"),
        ({"divergence": [[np.nan], [0.1]]}, "divergence"),
        ({"views": 1}, "views"),
    ],
)
def test_bad_divergences_are_named(change, named):
    good = {"logits": torch.rand(4, 3), "divergence": [[0.1], [0.2]], "views": 2}
    with pytest.raises(ValueError, match=named):
        view_consistency(**(good | change))


@pytest.mark.parametrize(
    ("kind", "near"),
    [(torch.float64, 1e-3), (torch.float32, 1e-3), (torch.float16, 1e-2), (torch.bfloat16, 0.1)],
)
def test_rounding_of_the_divergence_is_no_mistake(kind, near):
    for seed in range(5):
        random = torch.Generator().manual_seed(seed)
        first = 3 * torch.randn(2000, 1, 10, generator=random)
        z = (first + near * torch.randn(2000, 4, 10, generator=random)).to(kind).flatten(0, 1)
        made = view_consistency(z, view_divergence(z, 4), 4)
        assert made.verdict is not Verdict.FAILS
        if kind is torch.float32:  # as it comes back from a log of text
            logged = np.array(view_divergence(z, 4).tolist())
            assert view_consistency(z, logged, 4).verdict is made.verdict
        # numpy has no bfloat16: what is logged is kept in more digits than it was computed in
        kept = view_divergence(z, 4).float().numpy()
        assert view_consistency(z, kept, 4).verdict is not Verdict.FAILS


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_none_are_refused(bad):
    z = torch.rand(8, 3)
    z[1, 0] = bad
    with pytest.raises(ValueError, match="logits must not hold NaN"):
        view_consistency(z, torch.ones(4, 1), 2)
    z[1, 0] = -np.inf  # a class of another task
    assert view_consistency(z, torch.ones(4, 1), 2).verdict is not Verdict.FAILS


def test_scores_may_lie_in_any_order_in_memory():
    z = torch.rand(3, 8).t()
    y = torch.zeros(8, dtype=torch.long)
    assert view_batch_loss(z, y, 2)[0] == view_batch_loss(z.contiguous(), y, 2)[0]
    view_consistency(z, torch.ones(4, 1), 2)


def test_views_that_do_not_lie_side_by_side_are_refused():
    z, y = torch.rand(6, 3), torch.tensor([0, 1, 2])
    total, supervised, _ = view_batch_loss(z, y.repeat_interleave(2), 2)
    assert total >= supervised
    with pytest.raises(ValueError, match="side by side"):
        view_batch_loss(z, torch.cat([y, y]), 2)
    assert view_batch_loss(z, torch.cat([y, y]), 2, ssl=False)[2] == 0
    mixed = torch.softmax(
        torch.rand(6, 3), dim=1
    )  # of images that were mixed, each view has its own
    assert torch.isfinite(view_batch_loss(z, mixed, 2)[0])
