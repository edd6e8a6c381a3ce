"""Views of samples in one batch: how they are made, and the loss that ties them together."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from whp.validate import as_int, as_real

__all__ = [
    "affine",
    "identity",
    "in_views",
    "strong_view",
    "view_batch_loss",
    "view_divergence",
    "weak_view",
]

View = Callable[[Tensor, torch.Generator | None], Tensor]


def identity(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """The images as they are."""
    return x


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
    images = x.view(len(x), 1, side, side) if x.ndim == 2 else x
    b, _, height, width = images.shape
    u = 2 * torch.rand(6, b, generator=generator) - 1
    angle, size, slant = math.radians(degrees) * u[0], 1 + scale * u[1], shear * u[2]
    cos, sin = size * angle.cos(), size * angle.sin()
    move = 2 * shift / 28 * u[3:5]
    matrix = torch.stack([cos, -sin + slant, move[0], sin, cos, move[1]], dim=1).view(b, 2, 3)
    grid = functional.affine_grid(matrix, [b, 1, height, width], align_corners=False)
    out = functional.grid_sample(images, grid.to(images.dtype), align_corners=False)
    if erase:
        h, w = max(1, round(erase * height)), max(1, round(erase * width))
        top = (torch.rand(b, generator=generator) * (height - h + 1)).long()[:, None]
        left = (torch.rand(b, generator=generator) * (width - w + 1)).long()[:, None]
        rows, columns = torch.arange(height)[None], torch.arange(width)[None]
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
    """(d·views, ...) from (d, ...): views of a sample side by side, the weak one first."""
    if strong is None:
        return weak(x.repeat_interleave(views, dim=0), generator)
    first = weak(x, generator)[:, None]
    if views == 1:
        return first[:, 0]
    more = strong(x.repeat_interleave(views - 1, dim=0), generator).view(
        len(x), views - 1, *x.shape[1:]
    )
    return torch.cat([first, more], dim=1).flatten(0, 1)


def view_divergence(logits: Tensor, views: int) -> Tensor:
    """KL(p⁰ ‖ p^j) summed over classes, shape (d, views − 1); the first view teaches and gets no gradient."""
    z = functional.log_softmax(logits.view(len(logits) // views, views, -1), dim=2)
    teacher = z[:, :1].detach()
    p = teacher.exp()
    # a class of probability 0 counts nothing, though its logarithm is −∞
    return torch.where(p > 0, p * (teacher - z[:, 1:]), 0.0).sum(dim=2)


def view_batch_loss(
    logits: Tensor,
    y: Tensor,
    views: int,
    *,
    weight: float = 1.0,
    ssl: bool = True,
    criterion: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
) -> tuple[Tensor, Tensor, Tensor]:
    """Supervised loss of all views, and the divergence of each sample's other views from its first.

    Parameters
    ----------
    logits : Tensor, shape (d·views, C)
        Views of a sample side by side, the weak one first.
    y : Tensor, shape (d·views,)
        Classes.
    views : int
    weight : float
        Of the divergence. The authors' code takes a mean over classes too: weight 1 there is 1/C here.
    ssl : bool
        Whether the divergence counts; with one view it is 0.
    criterion : callable
        Supervised loss of (logits, y).

    Returns
    -------
    total, supervised, divergence : Tensor

    Raises
    ------
    TypeError, ValueError
        If the batch is not one of whole samples.
    """
    views, weight = as_int(views, "views", low=1), as_real(weight, "weight", low=0, high=1e9)
    if logits.ndim != 2 or len(logits) % views or len(y) != len(logits):
        raise ValueError(
            f"logits must have one row for each of {views} views of each sample, as y has, got {tuple(logits.shape)} and {len(y)}"
        )
    supervised = criterion(logits, y)
    if views == 1 or not ssl:
        return supervised, supervised, torch.zeros((), dtype=logits.dtype)
    divergence = view_divergence(logits, views).mean()
    return supervised + weight * divergence, supervised, divergence
