"""Attacks on a torch network, and what the network does to a row; all on the network's own device."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.certificate import Answer
from whp.losses._comp_sum_losses import intervals
from whp.losses._comp_sum_losses.adversarial import Norm, ascend, evaluated
from whp.losses._comp_sum_losses.theorems import EVAL_MODE

__all__ = ["Ball", "Network", "margins"]

CHECKED = 64  # rows on which the model is asked twice
Ball = dict[str, Any]


def margins(z: Tensor, y: Tensor) -> Tensor:
    """Label's logit less each other, (n, C − 1)."""
    return z.gather(1, y.unsqueeze(1)) - z.gather(1, intervals.others(y, z.shape[1]))


class _Untouched:
    """The model on copies of rows, so that a first layer in place leaves the rows as they are."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> Any:
        return self.model(x.clone())


class Network:
    """A model in evaluation mode on rows of its own precision and device.

    Parameters
    ----------
    model : nn.Module
        It comes back as it was: modes, statistics, gradients, random state.
    X : ndarray, shape (n, ...)
    y : ndarray, shape (n,)
    radius : float
    norm : {"linf", "l2"}
    box : (float, float) or None
    seed : int
        Of the attack's starts.

    Raises
    ------
    TypeError, ValueError
        If it is no module, gives no logits, or y does not fit.
    """

    def __init__(
        self,
        model: Any,
        X: np.ndarray,
        y: np.ndarray,
        radius: float,
        norm: Norm,
        box: tuple[float, float] | None,
        seed: int,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model must be (W, b) or a torch module, got {type(model).__name__}")
        kinds = (p for p in (*model.parameters(), *model.buffers()) if p.is_floating_point())
        like = next(kinds, torch.zeros(()))
        self.module, self.model, self.box = model, _Untouched(model), box
        self.norm: Norm = norm
        self.radius = float(radius)
        self.given = torch.as_tensor(X).to(device=like.device)  # in float64: centre of the ball
        self.x = self.given.to(like.dtype)
        self.y = torch.as_tensor(y, device=like.device)
        self.generator = torch.Generator(device=like.device).manual_seed(seed)
        with evaluated(model), torch.no_grad():
            z = self.model(self.x)
            if not isinstance(z, Tensor) or z.ndim != 2:
                shape = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
                raise ValueError(f"model must give logits of shape (n, C), got {shape}")
            if z.shape[1] < 2:
                raise ValueError(
                    "model must give a logit a class; where one logit stands for two classes, give "
                    "the first one the logit 0"
                )
            if int(y.max()) >= z.shape[1]:
                raise ValueError(
                    f"y must hold whole class numbers 0 to {z.shape[1] - 1}, got {int(y.max())}"
                )
            if not z.isfinite().all():
                row = int((~z.isfinite()).any(dim=1).nonzero()[0])
                raise ValueError(f"model gives logits that are not finite, first in row {row}")
            self.here = margins(z, self.y)

    def _margins(self, x: Tensor) -> Tensor:
        """Margins; one that is no number is not the label's."""
        return margins(self.model(x), self.y).nan_to_num(nan=-torch.inf, posinf=torch.inf)

    def alike(self) -> Answer:
        """Whether the model, as it is, does the same to a row always, whatever stands beside it."""
        x = self.x[:CHECKED]
        with evaluated(self.module), torch.no_grad():
            z = self.model(x)
            again = torch.cat(
                [self.model(part) for part in (x[: len(x) // 2], x[len(x) // 2 :]) if len(part)]
            )
        size = float(z.abs().max())
        off = float((z - again).abs().max())
        near = 1e3 * torch.finfo(z.dtype).eps * max(size, 1e-30)
        if off > near:
            return EVAL_MODE.check(
                False,
                f"logits of a row move by {off:.3g} with the rows beside it, or by themselves",
            )
        names = sorted({type(m).__name__ for m in self.module.modules() if m.training})
        if not names:
            return EVAL_MODE.check(
                True, "in evaluation mode; rows by themselves give the same logits"
            )
        with torch.random.fork_rng(devices=_devices(x)), torch.no_grad():
            try:
                trained = copy.deepcopy(self.module)(x.clone())
                moved = float((trained - z).abs().max())
            except Exception as error:  # batch statistics of one row, or a model that has no copy
                return EVAL_MODE.check(False, f"in training mode, in which it fails: {error}")
        why = (
            f"logits in training mode are {moved:.3g} off those of evaluation ({', '.join(names)})"
        )
        return EVAL_MODE.check(moved <= near, why)

    def attacked(self, steps: int, restarts: int) -> np.ndarray:
        """The least margin of each row that an attack on the margin found, over all restarts."""
        worst = self.here.min(dim=1).values
        with evaluated(self.module):
            for _ in range(restarts if self.radius else 0):
                far = self._inside(
                    self._ascend(lambda z: -margins(z, self.y).min(dim=1).values.sum(), steps)
                )
                with torch.no_grad():
                    worst = torch.minimum(worst, self._margins(far).min(dim=1).values)
        return _numpy(worst)

    def moved(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Margins at the end of attacks: on the sum of margins, and on how far their vector moves."""
        with evaluated(self.module):
            near = self._ascend(lambda z: -margins(z, self.y).clamp(max=1).sum(), steps)
            far = self._ascend(lambda z: (margins(z, self.y) - self.here).square().sum(), steps)
            with torch.no_grad():
                least = torch.minimum(self.here, self._margins(near))
                moved = (self._margins(far) - self.here).norm(dim=1)
        return _numpy(least), _numpy(moved)

    def over_the_ball(self) -> tuple[np.ndarray, np.ndarray, float]:
        """Least margins, how far their vector moves at most, and how far intervals of radius 0 are off.

        The last is 0 where the layers do what their types say.
        """
        with evaluated(self.module):
            least, most = intervals.margins(self.module, self.given, self.y, self.radius, self.box)
            low, high = intervals.margins(self.module, self.given, self.y, 0.0, None)
        here = self.here.double()
        moved = torch.maximum(here - least, most - here).clamp(min=0).norm(dim=1)
        outside = torch.maximum(low - here, here - high).clamp(min=0).max()
        return _numpy(least), _numpy(moved), float(outside)

    def _inside(self, far: Tensor) -> Tensor:
        """Points of the ball: a step that its own precision rounds out of it goes back, or is not made."""
        x = self.given
        for shrink in (0.0, 1e-6, 1e-3, 1e-1, 1.0):
            delta = far.double() - x
            if self.norm == "linf":
                out = delta.abs() > self.radius
            else:
                size = delta.flatten(1).norm(dim=1).view(-1, *([1] * (x.ndim - 1)))
                out = (size > self.radius).expand_as(delta)
            less = delta.clamp(-self.radius, self.radius) if self.norm == "linf" else delta
            far = torch.where(out, (x + (1 - shrink) * less).to(far.dtype), far)
        return far

    def _ascend(self, gain: Any, steps: int) -> Tensor:
        return ascend(
            self.module,
            self.x,
            gain,
            radius=self.radius,
            norm=self.norm,
            steps=steps,
            step_size=self.radius / 4,
            box=self.box,
            generator=self.generator,
        )


def _devices(x: Tensor) -> list[int]:
    return [x.device.index or 0] if x.device.type == "cuda" else []


def _numpy(value: Tensor) -> np.ndarray:
    # What certificates count is counted with numpy; the model and its tensors stay on their device.
    return value.detach().double().cpu().numpy()
