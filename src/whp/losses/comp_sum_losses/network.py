"""Margins of a torch network over a ball: interval arithmetic from above, attacks from below."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from whp.losses.comp_sum_losses.module import ascend
from whp.undeclared import Assumption, met, violated

__all__ = ["attack", "deterministic", "interval_margins", "moved_margins"]

IDLE = (nn.Identity, nn.Dropout, nn.Dropout2d)
CHANGING = (nn.Dropout, nn.Dropout2d, nn.modules.batchnorm._BatchNorm)


def deterministic(model: Any) -> Assumption:
    """Whether the model does the same to a row every time: no dropout or batch statistics at work."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be (W, b) or a torch module, got {type(model).__name__}")
    active = sorted(
        {type(m).__name__ for m in model.modules() if isinstance(m, CHANGING) and m.training}
    )
    statement = "the model treats each row by itself and always alike"
    if active:
        return violated(
            statement, f"{', '.join(active)} in training mode", "call model.eval() first"
        )
    return met(statement)


def _margins(z: Tensor, y: Tensor) -> Tensor:
    """Label's logit less each other, (n, C − 1)."""
    keep = ~functional.one_hot(y, z.shape[1]).bool()
    return (z.gather(1, y[:, None]) - z)[keep].view(len(z), -1)


def _tensors(model: nn.Module, X: np.ndarray, y: np.ndarray) -> tuple[Tensor, Tensor]:
    like = next(model.parameters(), torch.zeros(()))
    x, labels = torch.as_tensor(X, dtype=like.dtype), torch.as_tensor(y)
    with torch.no_grad():
        z = model(x[:1])
    if z.ndim != 2:
        raise ValueError(f"model must give logits of shape (n, C), got {tuple(z.shape)}")
    if int(labels.max()) >= z.shape[1]:
        raise ValueError(
            f"y must hold whole class numbers 0 to {z.shape[1] - 1}, got {int(labels.max())}"
        )
    return x, labels


def attack(
    model: nn.Module,
    X: np.ndarray,
    y: np.ndarray,
    radius: float,
    norm: Literal["linf", "l2"],
    box: Any,
    steps: int,
    restarts: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Margins as they are (n, C − 1), and the least of each row that an attack on the margin found, over all restarts."""
    x, labels = _tensors(model, X, y)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            here = _margins(model(x), labels)
        worst = here.min(dim=1).values
        for _ in range(restarts if radius else 0):
            far = ascend(
                model,
                x,
                lambda z: -_margins(z, labels).min(dim=1).values.sum(),
                radius=float(radius),
                norm=norm,
                steps=steps,
                step_size=float(radius) / 4,
                box=box,
            )
            with torch.no_grad():
                worst = torch.minimum(worst, _margins(model(far), labels).min(dim=1).values)
    return here.double().numpy(), worst.double().numpy()


def moved_margins(
    model: nn.Module,
    X: np.ndarray,
    y: np.ndarray,
    radius: float,
    norm: Literal["linf", "l2"],
    box: Any,
    steps: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Margins at the end of attacks: on the ρ-margin sum, and on the movement of the vector of margins."""
    x, labels = _tensors(model, X, y)
    ball = {
        "radius": float(radius),
        "norm": norm,
        "steps": steps,
        "step_size": float(radius) / 4,
        "box": box,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        with torch.no_grad():
            here = _margins(model(x), labels)
        near = ascend(model, x, lambda z: -_margins(z, labels).clamp(max=1).sum(), **ball)
        far = ascend(model, x, lambda z: (_margins(z, labels) - here).square().sum(), **ball)
        with torch.no_grad():
            least = torch.minimum(here, _margins(model(near), labels))
            moved = (_margins(model(far), labels) - here).norm(dim=1)
    return least.double().numpy(), moved.double().numpy()


def interval_margins(
    model: nn.Module, X: np.ndarray, y: np.ndarray, radius: float, box: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Lower bounds of the margins over the ball (n, C − 1), and upper bounds of how far their vector moves.

    Centre and radius of every layer's values are carried along in float64; the last linear layer is taken together with the
    differences of logits.
    """
    layers = [m for m in _flattened(model) if not isinstance(m, IDLE)]
    if not layers or not isinstance(layers[-1], nn.Linear):
        raise ValueError("model must end in a Linear layer for interval arithmetic; try sup='pgd'")
    x, labels = _tensors(model, X, y)
    x = x.double()
    low, high = x - radius, x + radius
    if box is not None:
        low, high = low.clamp(min=box[0]), high.clamp(max=box[1])
    with torch.no_grad():
        for layer in layers[:-1]:
            low, high = _through(layer, low, high)
        last = layers[-1]
        W0 = last.weight
        W = W0.double()
        b = torch.zeros(len(W), dtype=W.dtype) if last.bias is None else last.bias.double()
        low, high = low.flatten(1), high.flatten(1)
        centre, reach = (low + high) / 2, (high - low) / 2
        here = _margins(model(x.to(W0.dtype)), labels).double()
        least, most = torch.empty_like(here), torch.empty_like(here)
        for c in range(len(W)):
            rows = labels == c
            keep = torch.arange(len(W)) != c
            D, d = W[c] - W[keep], b[c] - b[keep]
            middle, spread = centre[rows] @ D.T + d, reach[rows] @ D.abs().T
            least[rows], most[rows] = middle - spread, middle + spread
    moved = torch.maximum(here - least, most - here).clamp(min=0).norm(dim=1)
    return least.numpy(), moved.numpy()


def _flattened(model: nn.Module) -> list[nn.Module]:
    if isinstance(model, nn.Sequential):
        return [layer for child in model for layer in _flattened(child)]
    return [model]


def _through(layer: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    if isinstance(layer, nn.ReLU):
        return low.clamp(min=0), high.clamp(min=0)
    if isinstance(layer, nn.Flatten):
        return layer(low), layer(high)
    centre, reach = (low + high) / 2, (high - low) / 2
    if isinstance(layer, nn.Linear):
        bias = None if layer.bias is None else layer.bias.double()
        middle = functional.linear(centre, layer.weight.double(), bias)
        spread = functional.linear(reach, layer.weight.double().abs())
    elif isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        how = {
            "stride": layer.stride,
            "padding": layer.padding,
            "dilation": layer.dilation,
            "groups": layer.groups,
        }
        bias = None if layer.bias is None else layer.bias.double()
        middle = functional.conv2d(centre, layer.weight.double(), bias, **how)
        spread = functional.conv2d(reach, layer.weight.double().abs(), **how)
    else:
        raise ValueError(
            f"model holds {type(layer).__name__}, which interval arithmetic does not know; Flatten, Linear, Conv2d and ReLU it "
            "does; try sup='pgd'"
        )
    return middle - spread, middle + spread
