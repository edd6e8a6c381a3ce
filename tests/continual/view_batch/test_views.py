import pytest
import torch

from whp.continual import strong_view, weak_view
from whp.continual._view_batch.views import affine, identity, in_views


@pytest.mark.parametrize("shape", [(5, 64), (5, 1, 8, 8), (5, 3, 10, 6)])
def test_views_keep_shape_and_range(shape):
    x = torch.rand(shape)
    for view in (weak_view, strong_view):
        a, b = (view(x, torch.Generator().manual_seed(0)) for _ in range(2))
        assert a.shape == x.shape
        assert torch.equal(a, b)
        assert a.min() >= 0
        assert a.max() <= 1 + 1e-5
        assert not torch.allclose(a, view(x, torch.Generator().manual_seed(1)))
    views = in_views(x, 3, identity, strong_view, torch.Generator().manual_seed(0))
    assert views.shape == (15, *shape[1:])
    assert torch.equal(views[::3], x)
    with pytest.raises(ValueError, match="square"):
        weak_view(torch.rand(2, 10))


def test_a_view_that_moves_nothing_changes_nothing():
    x = torch.rand(4, 1, 9, 9)
    same = affine(x, torch.Generator().manual_seed(0), degrees=0, scale=0, shear=0, shift=0)
    torch.testing.assert_close(same, x, atol=1e-5, rtol=1e-5)


def test_images_may_lie_in_any_order_in_memory_and_are_no_bytes():
    x = torch.rand(64, 5).t()
    seeded = torch.Generator().manual_seed
    assert torch.equal(weak_view(x, seeded(0)), weak_view(x.contiguous(), seeded(0)))
    with pytest.raises(TypeError, match="255"):
        weak_view(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))


def test_views_are_made_of_copies_and_may_have_another_shape():
    x = torch.rand(5, 1, 8, 8)
    before = x.clone()

    def half(x, generator):
        return x.mul_(0.5)

    shown = in_views(x, 3, half, half, None)
    torch.testing.assert_close(shown, 0.5 * before.repeat_interleave(3, dim=0))
    assert torch.equal(x, before)
    assert in_views(x, 3, lambda x, g: x[..., :6, :6], lambda x, g: x[..., 2:, 2:], None).shape == (
        15,
        1,
        6,
        6,
    )
    for weak, strong in [(identity, lambda x, g: x[..., 1:]), (lambda x, g: x[1:], identity)]:
        with pytest.raises(ValueError, match="weak and strong must give as many images"):
            in_views(x, 3, weak, strong, None)
