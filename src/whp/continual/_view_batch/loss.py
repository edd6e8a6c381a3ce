"""The loss that ties the views of a sample together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from whp.certificate import Certificate
from whp.continual._view_batch import theorems as th
from whp.validate import as_int, as_real

__all__ = ["view_batch_loss", "view_consistency", "view_divergence"]


def view_divergence(logits: Tensor, views: int) -> Tensor:
    """KL(p⁰ ‖ p^j) summed over classes, shape (d, views − 1); the first view teaches and gets no gradient."""
    z = functional.log_softmax(logits.reshape(len(logits) // views, views, -1), dim=2)
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
        Weight of the divergence. The authors' code takes a mean over classes too: weight 1 there is 1/C here.
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
        If the batch is not one of whole samples: where views of a sample have different classes, they
        do not lie side by side, and others' views would be tied.
    """
    views, weight = as_int(views, "views", low=1), as_real(weight, "weight", low=0, high=1e9)
    if logits.ndim != 2 or len(logits) % views or len(y) != len(logits):
        raise ValueError(
            f"logits must have one row for each of {views} views of each sample, as y has, got {tuple(logits.shape)} and {len(y)}"
        )
    supervised = criterion(logits, y)
    if views == 1 or not ssl:
        return supervised, supervised, torch.zeros((), dtype=logits.dtype, device=logits.device)
    if y.ndim == 1 and not y.is_floating_point():
        samples = y.reshape(-1, views)
        if not (samples == samples[:, :1]).all():
            raise ValueError(
                f"y must be the same for the {views} views of a sample, which lie side by side: repeat "
                "samples by repeat_interleave, not by cat"
            )
    divergence = view_divergence(logits, views).mean()
    return supervised + weight * divergence, supervised, divergence


def view_consistency(logits: Tensor, divergence: Any, views: int) -> Certificate:
    """Whether views change decisions only where a divergence that a training loop logged allows it.

    By Pinsker's inequality a view can change the first one's decision only if the first one's margin
    is at most √(2 KL). A divergence that is averaged over classes, or taken between the views of
    neighbours, is found out.

    Parameters
    ----------
    logits : Tensor, shape (d·views, C)
        Views of a sample side by side, the weak one first.
    divergence : array-like, shape (d, views − 1)
        KL(p⁰ ‖ pʲ) of each other view, as it was computed elsewhere; its rounding is that of its
        type or of the logits', whichever is coarser.
    views : int

    Returns
    -------
    Certificate
        ``view-consistency``; vacuous where no view changed a decision.

    Raises
    ------
    TypeError, ValueError
        If shapes do not agree, or a number is none.
    """
    views = as_int(views, "views", low=2)
    if logits.ndim != 2 or len(logits) % views or not len(logits) or logits.shape[1] < 2:
        raise ValueError(
            f"logits must have a row for each of {views} views of each sample, and two classes, "
            f"got {tuple(logits.shape)}"
        )
    d = len(logits) // views
    # The certificate is arithmetic of numpy in double precision, on a few numbers a sample.
    handed = torch.as_tensor(divergence)
    # No training loop is more precise than float32, or than its scores, whatever it kept its numbers
    # in: numpy has no bfloat16, so that what is logged of it is float32.
    kinds = [t.dtype for t in (handed, logits) if t.is_floating_point()]
    precision = max(torch.finfo(kind).eps for kind in (*kinds, torch.float32))
    given = handed.detach().double()
    if given.shape != (d, views - 1) or not torch.isfinite(given).all():
        raise ValueError(
            f"divergence must hold {d} × {views - 1} finite numbers, got shape {tuple(given.shape)}"
        )
    log_p = functional.log_softmax(logits.detach().double(), dim=1).reshape(d, views, -1)
    if torch.isnan(log_p).any():
        raise ValueError("logits must not hold NaN or +∞, nor a row that is −∞ all over")
    on = log_p.cpu().numpy()  # once, for numpy, when the certificate is asked for
    return th.view_consistency(on, given.cpu().numpy(), precision)  # the same
