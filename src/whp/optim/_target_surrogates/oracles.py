"""Losses of torch as oracles that know how smooth they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from whp.validate import as_real

__all__ = ["LossOracle", "knows", "lacks", "least_of", "loss_oracle"]

ELEMENTWISE = (nn.MSELoss, nn.BCEWithLogitsLoss, nn.HuberLoss, nn.SmoothL1Loss)
KNOWN = (*ELEMENTWISE, nn.CrossEntropyLoss)
WITHOUT = (nn.PoissonNLLLoss, nn.L1Loss)  # no L, or an infinite one, whatever their parameters


class LossOracle:
    """A torch loss and its targets: value and gradient, and L where the loss is one that is known.

    Made by :func:`loss_oracle`. L is worked out anew each time, so that weights may change.
    """

    __slots__ = ("_given", "loss", "y")

    def __init__(self, loss: Callable[[Tensor, Any], Tensor], y: Any, L: float | None) -> None:
        self.loss, self.y, self._given = loss, y, L

    def __call__(self, z: Tensor) -> tuple[Tensor, Tensor]:
        self._fits(z)
        z = z.detach().requires_grad_(True)
        with torch.enable_grad():
            value = self.loss(z, self.y)
            (gradient,) = torch.autograd.grad(value, z)
        self._is_a_sum(z.detach(), value.detach())
        return value.detach(), gradient

    def value(self, z: Tensor) -> Tensor:
        """The loss alone."""
        with torch.no_grad():
            return self.loss(z, self.y)

    @property
    def L(self) -> float | None:
        """Smoothness in z of the sum; None where it is not known."""
        return self._given if self._given is not None else _smoothness(self.loss, self.y)

    @property
    def known(self) -> bool:
        """Whether L is worked out from the loss, not given."""
        return self._given is None and _smoothness(self.loss, self.y) is not None

    @property
    def least(self) -> float | None:
        """A number that the loss is never below; None where none is known."""
        if not _plain(self.loss) or type(self.loss) in WITHOUT:
            return None
        weight = getattr(self.loss, "weight", None)
        if weight is not None and float(weight.min()) < 0:
            return None
        if isinstance(self.loss, nn.BCEWithLogitsLoss):
            pos = self.loss.pos_weight
            if (pos is not None and float(pos.min()) < 0) or not _between(self.y):
                return None
        if isinstance(self.loss, nn.CrossEntropyLoss):
            if self.y.is_floating_point() and float(self.y.min()) < 0:
                return None
            if not 0 <= self.loss.label_smoothing <= 1:
                return None
        return 0.0

    def _fits(self, z: Tensor) -> None:
        """Targets of another shape would be repeated, and L with them."""
        if isinstance(self.loss, ELEMENTWISE) and getattr(self.y, "shape", z.shape) != z.shape:
            raise ValueError(
                f"y has shape {tuple(self.y.shape)}, the outputs {tuple(z.shape)}: they must agree"
            )

    def _is_a_sum(self, z: Tensor, whole: Tensor) -> None:
        """Whether a loss of unknown making adds up over rows; one that lies between its parts is a mean."""
        rows = z.shape[0] if z.ndim else 0
        if _plain(self.loss) or rows < 2 or getattr(self.y, "shape", (0,))[:1] != z.shape[:1]:
            return
        half = rows // 2
        with torch.no_grad():
            try:
                low, high = sorted(
                    float(self.loss(z[part], self.y[part]))
                    for part in (slice(None, half), slice(half, None))
                )
            except Exception:  # a stranger's loss may want all rows: then nothing is known of it
                return
        got = float(whole)
        room = 1e-4 * (abs(low) + abs(high))
        if abs(got - low - high) > room and low - room <= got <= high + room:
            raise ValueError(
                f"loss must be a sum over rows, but is {got:.4g} of all and {low:.4g}, {high:.4g} "
                "of halves, as a mean is: take reduction='sum'"
            )


def loss_oracle(
    loss: Callable[[Tensor, Any], Tensor], y: Any, *, L: float | None = None
) -> LossOracle:
    """A torch loss and its targets as an oracle for :meth:`SSO.step`.

    Parameters
    ----------
    loss : Module or callable
        ``loss(z, y)``, a sum over samples: ``reduction="sum"``.
    y : Tensor
        Targets; of the outputs' shape for losses of single numbers.
    L : float, optional
        Smoothness in z of the sum. Known for MSE (2), BCE with logits (1/4), cross-entropy (1/2),
        Huber (1) and smooth L1 (1/beta), times their largest weights; without it, steps are found
        by search.

    Raises
    ------
    ValueError
        If the loss takes a mean: the step would be too small by the number of samples.
    """
    reduction = getattr(loss, "reduction", "sum")
    if reduction != "sum":
        raise ValueError(
            f"loss must have reduction='sum', got {reduction!r}: every sample counts by itself here"
        )
    if L is not None:
        L = as_real(L, "L", low=0, high=1e12, open_ends=True)
    return LossOracle(loss, y, L)


def knows(oracle: Any) -> bool:
    """Whether L of this oracle was worked out here from a loss that is exactly what it seems."""
    return isinstance(oracle, LossOracle) and type(oracle) is LossOracle and oracle.known


def lacks(oracle: Any) -> bool:
    """Whether it is known that the loss of this oracle has no L, as absolute values have none."""
    return (
        isinstance(oracle, LossOracle)
        and type(oracle) is LossOracle
        and (
            type(oracle.loss) in WITHOUT
            or (_plain(oracle.loss) and _smoothness(oracle.loss, oracle.y) is None)
        )
    )


def least_of(oracle: Any) -> float | None:
    """A number that the loss of this oracle is never below, if one is worked out here."""
    return oracle.least if isinstance(oracle, LossOracle) and type(oracle) is LossOracle else None


def _plain(loss: Any) -> bool:
    """Whether a module is exactly one of torch's, without hooks or replaced methods."""
    if type(loss) not in (*KNOWN, *WITHOUT):
        return False
    hooks = (
        loss._forward_hooks,
        loss._forward_pre_hooks,
        loss._backward_hooks,
        loss._backward_pre_hooks,
    )
    return not any(hooks) and "forward" not in vars(loss) and loss.reduction == "sum"


def _between(y: Any) -> bool:
    return float(y.min()) >= 0 and float(y.max()) <= 1


def _smoothness(loss: Any, y: Any) -> float | None:
    """L of the sum over all outputs; None where the loss is unknown, or has none."""
    if not _plain(loss):
        return None
    match loss:
        case nn.MSELoss():
            return 2.0
        case nn.HuberLoss():
            return 1.0
        case nn.SmoothL1Loss():
            return 1 / loss.beta if loss.beta > 0 else None
        case nn.BCEWithLogitsLoss():
            # w (1 + (p − 1) y) σ′(z), and σ′ ≤ 1/4
            heavy = 1.0
            if loss.pos_weight is not None:
                tilted = (1 + (loss.pos_weight - 1) * y).abs().max()
                heavy = max(1.0, float(loss.pos_weight.abs().max()), float(tilted))
            return 0.25 * heavy * _largest(loss.weight)
        case nn.CrossEntropyLoss():
            # (Σ_c w_c t_c)(diag p − ppᵀ), of which the last factor has norm at most 1/2
            heavy = 1.0
            if torch.is_tensor(y) and y.is_floating_point():
                heavy = max(1.0, float(y.abs().sum(dim=min(1, y.ndim - 1)).max()))
            return 0.5 * heavy * _largest(loss.weight)
    return None


def _largest(weight: Tensor | None) -> float:
    return 1.0 if weight is None else float(weight.abs().max())
