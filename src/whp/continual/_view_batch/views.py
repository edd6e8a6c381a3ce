"""Views of samples: small random changes of images, a whole batch in one resampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["View", "affine", "identity", "in_views", "strong_view", "weak_view"]

View = Callable[[Tensor, torch.Generator | None], Tensor]


def identity(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The images as they are."""
    return x


def drawn(x: Tensor, generator: torch.Generator | None, *shape: int) -> Tensor:
    """Uniform numbers where `x` is; drawn where the generator is, which may be another device."""
    device = x.device if generator is None else generator.device
    return torch.rand(*shape, generator=generator, device=device).to(x.device)


def affine(
    x: Tensor,
    generator: torch.Generator | None,
    *,
    degrees: float,
    scale: float,
    shear: float,
    shift: float,
    erase: float = 0.0,
) -> Tensor:
    """Each image turned, scaled, sheared and shifted at random, the whole batch in one resampling.

    Parameters
    ----------
    x : Tensor, shape (b, C, H, W) or (b, H·W)
        Images in [0, 1]; rows of pixels are taken as squares.
    generator : torch.Generator or None
        Of any device; by default torch's own of the device of `x`.
    degrees, scale, shear : float
        Largest angle, change of scale and shear.
    shift : float
        Largest shift, in pixels of a 28 × 28 image.
    erase : float
        Side of a square that is blanked, as a share of the image's.
    """
    side = math.isqrt(x.shape[1]) if x.ndim == 2 else 0
    if x.ndim == 2 and side**2 != x.shape[1]:
        raise ValueError(
            f"x must hold images (b, C, H, W) or squares of pixels, got shape {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise TypeError(
            f"x must hold floating-point numbers in [0, 1], got {x.dtype}; divide bytes by 255"
        )
    images = x.reshape(len(x), 1, side, side) if x.ndim == 2 else x
    b, _, height, width = images.shape
    u = 2 * drawn(x, generator, 6, b) - 1
    angle, size, slant = math.radians(degrees) * u[0], 1 + scale * u[1], shear * u[2]
    cos, sin = size * angle.cos(), size * angle.sin()
    move = 2 * shift / 28 * u[3:5]
    matrix = torch.stack([cos, -sin + slant, move[0], sin, cos, move[1]], dim=1).view(b, 2, 3)
    grid = functional.affine_grid(matrix, [b, 1, height, width], align_corners=False)
    out = functional.grid_sample(images, grid.to(images.dtype), align_corners=False)
    if erase:
        h, w = max(1, round(erase * height)), max(1, round(erase * width))
        top = (drawn(x, generator, b) * (height - h + 1)).long()[:, None]
        left = (drawn(x, generator, b) * (width - w + 1)).long()[:, None]
        rows = torch.arange(height, device=x.device)[None]
        columns = torch.arange(width, device=x.device)[None]
        inside = ((rows >= top) & (rows < top + h))[:, :, None] & (
            (columns >= left) & (columns < left + w)
        )[:, None, :]
        out = out.masked_fill(inside[:, None], 0.0)
    return out.reshape(x.shape)


def weak_view(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Up to 10°, 5 % of scale, 0.05 of shear and one pixel of 28."""
    return affine(x, generator, degrees=10, scale=0.05, shear=0.05, shift=1)


def strong_view(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Up to 35°, 20 % of scale, 0.3 of shear and three pixels of 28, and one erased square."""
    return affine(x, generator, degrees=35, scale=0.2, shear=0.3, shift=3, erase=8 / 28)


def in_views(
    x: Tensor, views: int, weak: View, strong: View | None, generator: torch.Generator | None
) -> Tensor:
    """(d·views, ...) from (d, ...): views of a sample side by side, the weak one first.

    Views are made of copies, since a view may change its images in place.
    """
    if strong is None:
        return weak(x.repeat_interleave(views, dim=0), generator)
    first = weak(x.clone(), generator)
    if views == 1:
        return first
    more = strong(x.repeat_interleave(views - 1, dim=0), generator)
    if len(first) != len(x) or more.shape != ((views - 1) * len(x), *first.shape[1:]):
        raise ValueError(
            "weak and strong must give as many images as they get, all of one shape, "
            f"{len(x)} and {(views - 1) * len(x)} became {tuple(first.shape)} and {tuple(more.shape)}"
        )
    more = more.unflatten(0, (len(x), views - 1))
    return torch.cat([first[:, None], more], dim=1).flatten(0, 1)
