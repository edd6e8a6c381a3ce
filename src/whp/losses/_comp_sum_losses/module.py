"""The loss as a torch module: a drop-in for ``torch.nn.CrossEntropyLoss``."""

from __future__ import annotations

import math
import warnings
from typing import Literal

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn import functional

from whp.losses._comp_sum_losses.loss import check_tau
from whp.validate import as_choice, as_int, as_real

__all__ = ["CompSumLoss"]

DEAD = 1e-6
STEEPEST = 1e4


class CompSumLoss(nn.Module):
    """Comp-sum loss; ``CompSumLoss()`` is ``torch.nn.CrossEntropyLoss()``.

    Parameters
    ----------
    tau : float
        The dial: 0 sum-exponential, 1 cross-entropy, 1 to 2 generalised cross-entropy with q = τ − 1,
        2 mean absolute error. 1.5 to 1.7 forgive wrong labels.
    weight : Tensor, shape (C,), optional
        Weight of each class.
    ignore_index : int
        Label of entries that do not count.
    reduction : {"mean", "sum", "none"}
        What is made of the losses; the mean is weighted, as torch's. Of an empty batch it is NaN, as
        torch's.
    label_smoothing : float
        Share of each label that is spread evenly over all classes.
    floor : float
        For τ < 1 losses grow like p^(τ−1): below this probability they go on linearly in log p, so
        that nothing overflows and the gradient neither vanishes nor exceeds floor^(τ−1).

    Attributes
    ----------
    clamped : Tensor
        Share of the last batch's labels below `floor`, for τ < 1; not under `torch.func` transforms.

    Notes
    -----
    Half precision is computed and returned in float32, as under autocast. From τ = 2 on, examples with
    a tiny probability have no gradient; on the CPU a warning is given once if that is more than half
    of a batch. On other devices nobody looks, since that would wait for them.

    References
    ----------
    Mao, Mohri, Zhong 2023, Section 3; gradient in the logits p^(τ−1)(softmax − onehot).

    Examples
    --------
    >>> import torch
    >>> loss = CompSumLoss(tau=1.7)(torch.randn(8, 10), torch.arange(8))
    """

    weight: Tensor | None

    def __init__(
        self,
        tau: float = 1.0,
        *,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Literal["mean", "sum", "none"] = "mean",
        label_smoothing: float = 0.0,
        floor: float = 1e-12,
    ) -> None:
        super().__init__()
        self.tau = check_tau(tau)
        if weight is not None and (
            weight.ndim != 1 or not torch.isfinite(weight).all() or (weight < 0).any()
        ):
            raise ValueError(
                f"weight must be one number a class, at least 0, got shape {tuple(weight.shape)}"
            )
        self.register_buffer("weight", weight)
        self.ignore_index = as_int(ignore_index, "ignore_index")
        self.reduction = as_choice(reduction, "reduction", ("mean", "sum", "none"))
        self.label_smoothing = as_real(label_smoothing, "label_smoothing", low=0, high=1)
        self.floor = as_real(floor, "floor", low=0, high=1, open_ends=True)
        self.register_buffer("clamped", torch.zeros(()), persistent=False)
        self._warned = False

    def extra_repr(self) -> str:
        """The dial."""
        return f"tau={self.tau:g}, reduction={self.reduction!r}"

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Loss of logits, shape (C,), (n, C) or (n, C, ...).

        `target` holds class numbers, shape (n, ...), of any whole type, or class probabilities of the
        shape of the logits.
        """
        z = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        if not z.is_floating_point():
            raise TypeError(f"input must hold floating-point logits, got {input.dtype}")
        if not target.is_floating_point():
            if target.dtype == torch.bool or target.is_complex():
                raise TypeError(f"target must hold class numbers, got {target.dtype}")
            target = target.long()
        if target.is_floating_point() or self.label_smoothing:
            return self._soft(z, target, half=input.dtype == torch.float16)
        # -log p of the label alone: the gradient then passes through one softmax and no n × C powers.
        log_p = -functional.cross_entropy(
            z, target, ignore_index=self.ignore_index, reduction="none"
        )
        counted = target != self.ignore_index
        losses = self._of_log(log_p, counted, half=input.dtype == torch.float16)
        if self.weight is None:
            return self._reduced(losses, counted.sum())
        w = _of(self.weight.to(z.dtype), target.where(counted, 0)) * counted
        return self._reduced(w * losses, w.sum())

    def _of_log(self, log_p: Tensor, labels: Tensor, *, half: bool) -> Tensor:
        """Losses; `labels` is how much of a label each entry is."""
        tau = self.tau
        if tau == 1:
            return -log_p
        if tau < 1:
            # the gradient goes back in the input's precision, and float16 ends at 65,504
            floor = max(self.floor, STEEPEST ** (1 / (tau - 1))) if half else self.floor
            least = math.log(floor)
            inside = log_p.clamp(min=least)
            if _lasts(log_p):
                self.clamped = _share(log_p < least, labels)
            # expm1 down to the floor, then its tangent. The two share no entry: a slope of 1e12 that is
            # added and taken off again leaves nothing of the gradient in float32.
            beyond = functional.relu(least - log_p)
            return torch.expm1((tau - 1) * inside) / (1 - tau) + floor ** (tau - 1) * beyond
        looked = tau >= 2 and not self._warned and log_p.device.type == "cpu"
        if looked and log_p.requires_grad and not torch.compiler.is_compiling() and _lasts(log_p):
            dead = _share(log_p < math.log(DEAD), labels)
            if dead > 0.5:
                self._warned = True
                warnings.warn(
                    f"{float(dead):.0%} of the labels have probability below {DEAD:g}, where "
                    f"tau={tau:g} gives no gradient: start with a smaller tau",
                    stacklevel=3,
                )
        return torch.expm1((tau - 1) * log_p) / (1 - tau)

    def _soft(self, z: Tensor, target: Tensor, *, half: bool) -> Tensor:
        """Mean loss over labels drawn from the target's probabilities, smoothed."""
        axis = 0 if z.ndim == 1 else 1
        classes = z.shape[axis]
        log_p = functional.log_softmax(z, dim=axis).movedim(axis, -1)
        if target.is_floating_point():
            if target.shape != z.shape:
                raise ValueError(
                    f"target must have the shape {tuple(z.shape)} of input or hold class numbers, "
                    f"got {tuple(target.shape)}"
                )
            share, counted = target.to(z.dtype).movedim(axis, -1), None
        else:
            counted = target != self.ignore_index
            share = functional.one_hot(target.where(counted, 0), classes).to(z.dtype)
        labels = share if counted is None else share * counted.unsqueeze(-1)
        losses = self._of_log(log_p, labels, half=half)
        smooth = self.label_smoothing
        share = (1 - smooth) * share + smooth / classes
        weight = None if self.weight is None else self.weight.to(z.dtype)
        found = (share * losses * (1 if weight is None else weight)).sum(dim=-1)
        if counted is None:
            return self._reduced(found, torch.tensor(found.numel()))
        found = found.where(counted, 0)  # as torch's, whatever stands where nothing counts
        if weight is None:
            return self._reduced(found, counted.sum())
        return self._reduced(found, (_of(weight, target.where(counted, 0)) * counted).sum())

    def _reduced(self, losses: Tensor, count: Tensor) -> Tensor:
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.sum() / count


def _lasts(value: Tensor) -> bool:
    """Whether a tensor may outlive the call: one of `torch.func` ends with its transform."""
    return torch.compiler.is_compiling() or not is_functorch_wrapped_tensor(value)


def _share(flags: Tensor, labels: Tensor) -> Tensor:
    """Share of the labels that are flagged, NaN where there is none."""
    labels = labels.detach().float()
    return (flags * labels).sum() / labels.sum()


def _of(weight: Tensor, target: Tensor) -> Tensor:
    """The weight of each target's class."""
    return weight.index_select(0, target.reshape(-1)).view(target.shape)
