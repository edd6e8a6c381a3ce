"""The smooth adversarial loss, for training under attack, and the attack."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from whp.losses._comp_sum_losses.module import CompSumLoss
from whp.validate import as_choice, as_int, as_real

__all__ = ["AdvCompSumLoss", "Norm", "ascend", "evaluated"]

Norm = Literal["linf", "l2"]


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Every module in evaluation mode, each put back into its own afterwards.

    The flags alone are set: ``eval()`` may be a method of the model's own that does more.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        for module in modes:
            module.training = False
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def ascend(
    model: nn.Module,
    x: Tensor,
    gain: Callable[[Tensor], Tensor],
    *,
    radius: float,
    norm: Norm,
    steps: int,
    step_size: float,
    box: tuple[float, float] | None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """x' in the ball around x, and in the box, that raises gain(model(x')).

    By projected gradient from a random start; the module's parameters gather no gradients. Random
    numbers are those of torch, or of a generator on the device of x.
    """
    flat = (len(x), *([1] * (x.ndim - 1)))

    def inside(delta: Tensor) -> Tensor:
        if norm == "linf":
            delta = delta.clamp(-radius, radius)
        else:
            delta = delta * (radius / delta.flatten(1).norm(dim=1).clamp(min=1e-12)).clamp(
                max=1
            ).view(flat)
        if box is None:
            return x + delta
        # Inputs that lie outside the box are no further from it: clamping alone leaves the ball.
        return torch.minimum(torch.maximum(x + delta, x.clamp(max=box[0])), x.clamp(min=box[1]))

    draw = torch.rand if norm == "linf" else torch.randn
    start = draw(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    start = start * 2 - 1 if norm == "linf" else start
    if norm == "l2":
        start = start / start.flatten(1).norm(dim=1).clamp(min=1e-12).view(flat)
    moved = inside(radius * start)
    for _ in range(steps):
        moved = moved.detach().requires_grad_(True)
        with torch.enable_grad():
            gained = gain(model(moved.clone()))
        if not gained.requires_grad:
            raise ValueError("model gives logits without a gradient, which an attack needs")
        (slope,) = torch.autograd.grad(gained, moved)
        if norm == "linf":
            step = slope.sign()
        else:
            step = slope / slope.flatten(1).norm(dim=1).clamp(min=1e-12).view(flat)
        moved = inside(moved.detach() + step_size * step - x)
    return moved.detach()


class AdvCompSumLoss(nn.Module):
    """Smooth adversarial comp-sum loss, for training against attacks: ``loss = criterion(model, x, y)``.

    The loss of logits/ρ plus ν times how far an attack within the ball can move the vector of margins.
    It bounds the adversarial ρ-margin loss if ν ≥ √(C − 1)/ρ; training works best far below (0.1 to
    1), where ν trades accuracy for robustness.

    Parameters
    ----------
    radius : float
        Radius γ of the ball of attacks, in the units of x.
    tau : float
        The dial, see :class:`CompSumLoss`.
    rho : float
        Margin ρ.
    nu : float
        Weight ν of the movement.
    norm : {"linf", "l2"}
        Of the ball.
    steps : int
        Gradient steps of the attack.
    step_size : float, optional
        Their size, by default radius/4.
    box : (float, float) or None
        Least and largest value of inputs; attacks stay inside. None or the box in the units of x, if
        these are normalised: a warning is given once on the CPU if x lies outside.
    reduction : {"mean", "sum", "none"}
        What is made of the losses.

    Notes
    -----
    The attack runs in evaluation mode and puts every module's mode back; parameters gather no gradient
    from it. Margins are computed in float32 at least.

    References
    ----------
    Mao, Mohri, Zhong 2023, Section 5 (ADV-COMP-SUM).
    """

    _warned = False

    def __init__(
        self,
        radius: float,
        *,
        tau: float = 1.0,
        rho: float = 1.0,
        nu: float = 1.0,
        norm: Norm = "linf",
        steps: int = 10,
        step_size: float | None = None,
        box: tuple[float, float] | None = (0.0, 1.0),
        reduction: Literal["mean", "sum", "none"] = "mean",
    ) -> None:
        super().__init__()
        self.radius = as_real(radius, "radius", low=0, high=1e9)
        self.rho = as_real(rho, "rho", low=0, high=1e9, open_ends=True)
        self.nu = as_real(nu, "nu", low=0, high=1e9)
        self.norm: Norm = as_choice(norm, "norm", ("linf", "l2"))
        self.steps = as_int(steps, "steps", low=1)
        self.step_size = (
            self.radius / 4
            if step_size is None
            else as_real(step_size, "step_size", low=0, high=1e9)
        )
        if box is not None and not box[0] < box[1]:
            raise ValueError(f"box must be (least, largest), got {box}")
        self.box = box
        self.reduction = as_choice(reduction, "reduction", ("mean", "sum", "none"))
        self.clean = CompSumLoss(tau, reduction="none")

    def extra_repr(self) -> str:
        """Ball and weights."""
        return (
            f"radius={self.radius:g}, norm={self.norm!r}, rho={self.rho:g}, nu={self.nu:g}, "
            f"steps={self.steps}"
        )

    def forward(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Loss of `model` at inputs x (n, ...) with class numbers y (n,); logits are model(x), shape (n, C)."""
        if y.ndim != 1 or len(y) != len(x) or y.is_floating_point():
            raise ValueError(
                f"y must hold {len(x)} class numbers, got shape {tuple(y.shape)} of {y.dtype}"
            )
        y = y.long()
        self._look(x)
        with evaluated(model):
            with torch.no_grad():
                here = _margins(model(x.clone()), y)
            far = ascend(
                model,
                x,
                lambda z: (_margins(z, y) - here).square().sum(),
                radius=self.radius,
                norm=self.norm,
                steps=self.steps,
                step_size=self.step_size,
                box=self.box,
            )
        z = _wide(model(x.clone()))
        moved = _margins(model(far), y) - _margins(z, y)
        losses = self.clean(z / self.rho, y) + self.nu * (moved.square().sum(dim=1) + 1e-12).sqrt()
        return losses if self.reduction == "none" else getattr(losses, self.reduction)()

    def _look(self, x: Tensor) -> None:
        """Warn once of inputs outside the box, where attacks have little room or none."""
        looked = self.box is not None and not self._warned and x.device.type == "cpu"
        if not looked or not x.numel() or torch.compiler.is_compiling():
            return
        assert self.box is not None
        least, most = float(x.detach().min()), float(x.detach().max())
        if least < self.box[0] or most > self.box[1]:
            self._warned = True
            warnings.warn(
                f"inputs lie in {least:.3g} to {most:.3g}, outside box={self.box}, where attacks "
                "cannot go: give the box in the units of x, or None",
                stacklevel=4,
            )


def _wide(z: Tensor) -> Tensor:
    """In float32 at least: 1e-12 is nothing in half precision, and the root's slope there infinite."""
    return z.float() if z.dtype in (torch.float16, torch.bfloat16) else z


def _margins(z: Tensor, y: Tensor) -> Tensor:
    z = _wide(z)
    return z.gather(1, y.unsqueeze(1)) - z
