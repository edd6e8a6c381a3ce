"""Interval arithmetic through a network: what its logits can be at most over a ball of inputs.

Only modules that are exactly what they seem are taken: a subclass, a hook or a `forward` of one's own
may compute something else, and is refused by name. Ends are carried in float64 and widened by what the
network's own precision may round; where they leave its range, nothing is known of the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["KNOWN", "Unknown", "flattened", "margins", "through"]

Ends = tuple[Tensor, Tensor]
IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
RISING = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Hardtanh, nn.Tanh, nn.Sigmoid, nn.Softplus, nn.ELU)
RESHAPING = (nn.Flatten, nn.Unflatten)
MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
MEAN = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
)
CONV: dict[type, Callable[..., Tensor]] = {
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.Conv3d: functional.conv3d,
}
BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SCALED = (nn.LayerNorm, nn.GroupNorm)
KNOWN = (nn.Sequential, *IDLE, *RISING, *RESHAPING, *MAX, *MEAN, *CONV, *BATCH, *SCALED, nn.Linear)
FORWARD = {kind: kind.forward for kind in KNOWN}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
COMPILED = "_compiled_call_impl"  # by torch, of the same forward
ELSEWHERE = ("_global_forward_hooks", "_global_forward_pre_hooks")


class Unknown(ValueError):
    """A module that interval arithmetic does not know."""


def flattened(model: nn.Module) -> list[nn.Module]:
    """The layers of a plain ``Sequential``, each of them exactly what it seems.

    Raises
    ------
    Unknown
        Naming the module and what is strange about it.
    """
    if any(getattr(torch.nn.modules.module, name, None) for name in ELSEWHERE):
        raise Unknown("model runs under global hooks, which may change what its layers do")
    layers: list[nn.Module] = []

    def walk(module: nn.Module, path: str) -> None:
        _plain(module, path)
        if type(module) is nn.Sequential:
            # named_children() would leave out a layer that stands there a second time
            for name, child in module._modules.items():
                if child is not None:
                    walk(child, f"{path}.{name}")
        elif type(module) not in IDLE:
            layers.append(module)

    walk(model, "model")
    return layers


def _plain(module: nn.Module, path: str) -> None:
    kind = type(module)
    shown = f"{path} is {kind.__name__}"
    if kind not in KNOWN:
        base = next((k.__name__ for k in KNOWN if isinstance(module, k)), None)
        other = f", a {base} whose forward may be its own" if base else ""
        raise Unknown(
            f"{shown}{other}: interval arithmetic knows {_names()} and nn.Sequential of them; "
            "sup='pgd' tries attacks, which proves nothing"
        )
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and hasattr(kind, name) and name != COMPILED
    ]
    if kind.forward is not FORWARD[kind] or own:
        name = own[0] if own else "forward"
        raise Unknown(f"{shown} whose {name} was replaced: interval arithmetic cannot follow it")
    if any(getattr(module, name, None) for name in HOOKS):
        raise Unknown(f"{shown} with hooks, which may change what it does: remove them")
    problem = None
    if kind in CONV and getattr(module, "padding_mode", "zeros") != "zeros":
        problem = f"padding_mode={module.padding_mode!r}"
    elif kind is nn.LeakyReLU and module.negative_slope < 0:  # type: ignore[operator]
        problem = f"negative_slope={module.negative_slope}"
    elif kind is nn.ELU and not 0 <= module.alpha <= 1:  # type: ignore[operator]
        problem = f"alpha={module.alpha}"
    elif kind is nn.Softplus and module.beta <= 0:  # type: ignore[operator]
        problem = f"beta={module.beta}"
    elif kind in MEAN and (getattr(module, "divisor_override", None) or 1) < 0:
        problem = f"divisor_override={module.divisor_override}"
    elif kind in MAX and module.return_indices:
        problem = "return_indices=True"
    elif kind in BATCH and module.running_mean is None:
        problem = "no running statistics: it uses those of the batch"
    if problem:
        raise Unknown(f"{shown} with {problem}, which interval arithmetic does not know")


def _names() -> str:
    return ", ".join(k.__name__ for k in KNOWN if k is not nn.Sequential)


def _unit(model: nn.Module) -> float:
    """Relative rounding of one operation of the network, in the least precision that it may use."""
    kinds = {p.dtype for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()}
    unit = max((torch.finfo(k).eps / 2 for k in kinds), default=2.0**-24)
    device = next((p.device.type for p in model.parameters()), "cpu")
    reduced = torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
    return max(unit, 2.0**-11) if device == "cuda" and reduced and unit > 2.0**-53 else unit


def _range(model: nn.Module) -> tuple[torch.dtype, float]:
    """The precision in which the network is given its inputs, and the largest number it can hold."""
    kinds = [p.dtype for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()]
    kinds = kinds or [torch.float32]
    return kinds[0], min(torch.finfo(k).max for k in kinds)


def _gamma(terms: float, unit: float) -> float:
    """Relative error of a sum of products of so many terms, in any order."""
    part = (terms + 2) * unit
    return part / (1 - part) if part < 0.5 else math.inf


def margins(model: nn.Module, x: Tensor, y: Tensor, radius: float, box: Any) -> Ends:
    """Least and largest margins, label's logit less each other (n, C − 1), over the ball.

    If the last layer is linear it is taken together with the differences of logits, which is exact.
    The ball is that of x as it is given; its points are rounded as the network rounds them.
    """
    layers, unit = flattened(model), _unit(model)
    dtype, most = _range(model)
    centre = x.double()
    low, high = centre - radius, centre + radius
    if box is not None:
        low, high = low.clamp(min=box[0]), high.clamp(max=box[1])
    low, high = low.to(dtype).double(), high.to(dtype).double()  # rounding keeps the order
    lost = _beyond(low, high, most)
    last = layers[-1] if layers and type(layers[-1]) is nn.Linear else None
    with torch.no_grad():
        for layer in layers[:-1] if last is not None else layers:
            low, high = through(layer, low, high, unit)
            lost |= _beyond(low, high, most)
        if last is None:
            low, high = _of_logits(low, high, y)
        else:
            lost |= _beyond(*through(last, low, high, unit), most)
            low, high = _of_last(last, low, high, y, unit)
    lost = lost.unsqueeze(1)
    return low.masked_fill(lost, -math.inf), high.masked_fill(lost, math.inf)


def _beyond(low: Tensor, high: Tensor, most: float) -> Tensor:
    """Rows of which some end is more than the network can hold, or no number."""
    return ~((low >= -most) & (high <= most)).reshape(len(low), -1).all(dim=1)


def _of_logits(low: Tensor, high: Tensor, y: Tensor) -> Ends:
    mine, rest = y.unsqueeze(1), others(y, low.shape[1])
    least = low.gather(1, mine) - high.gather(1, rest)
    return least, high.gather(1, mine) - low.gather(1, rest)


def _of_last(last: nn.Module, low: Tensor, high: Tensor, y: Tensor, unit: float) -> Ends:
    assert isinstance(last, nn.Linear)
    W = last.weight.double()
    b = W.new_zeros(len(W)) if last.bias is None else last.bias.double()
    centre, reach = (low + high) / 2, (high - low) / 2
    size = torch.maximum(low.abs(), high.abs())
    # Logits are rounded each by itself before they are compared.
    slack = _gamma(W.shape[1], unit) * (size @ W.abs().T + b.abs())
    rest = others(y, len(W))
    worst = slack.gather(1, y.unsqueeze(1)) + slack.gather(1, rest)
    least, most = torch.empty_like(worst), torch.empty_like(worst)
    for c in range(len(W)):
        rows = y == c
        keep = torch.arange(len(W), device=W.device) != c
        D, d = W[c] - W[keep], b[c] - b[keep]
        middle, spread = centre[rows] @ D.T + d, reach[rows] @ D.abs().T + worst[rows]
        least[rows], most[rows] = middle - spread, middle + spread
    return least, most


def others(y: Tensor, classes: int) -> Tensor:
    """The classes other than y, shape (n, C − 1)."""
    each = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return each + (each >= y.unsqueeze(1))


def through(layer: nn.Module, low: Tensor, high: Tensor, unit: float) -> Ends:
    """Ends after a layer, in evaluation mode."""
    kind = type(layer)
    if kind in (*RESHAPING, *MAX):
        return layer(low), layer(high)
    if kind is nn.Softplus:
        return _softplus(layer, low, high, unit)
    if kind in RISING:
        return _widened(layer(low), layer(high), _gamma(8, unit))
    if kind in MEAN:
        low, high = layer(low), layer(high)
        return _widened(low, high, _gamma(1e3, unit))
    centre, reach = (low + high) / 2, (high - low) / 2
    size = torch.maximum(low.abs(), high.abs())
    if kind is nn.Linear:
        bias = _double(layer.bias)
        middle = functional.linear(centre, layer.weight.double(), bias)  # type: ignore[operator]
        weight = layer.weight.double().abs()  # type: ignore[operator]
        spread = functional.linear(reach, weight)
        slack = functional.linear(size, weight, None if bias is None else bias.abs())
        terms = float(weight.shape[1])
    elif kind in CONV:
        how: Any = {n: getattr(layer, n) for n in ("stride", "padding", "dilation", "groups")}
        bias = _double(layer.bias)
        middle = CONV[kind](centre, layer.weight.double(), bias, **how)  # type: ignore[operator]
        weight = layer.weight.double().abs()  # type: ignore[operator]
        spread = CONV[kind](reach, weight, None, **how)
        slack = CONV[kind](size, weight, None if bias is None else bias.abs(), **how)
        terms = weight.numel() / weight.shape[0]
    elif kind in BATCH:
        assert isinstance(layer, BATCH)
        return _batch_norm(layer, low, high, unit)
    else:
        assert isinstance(layer, SCALED)
        return _scaled(layer, low, high, unit)
    spread = spread + _gamma(terms, unit) * slack
    return middle - spread, middle + spread


def _softplus(layer: Any, low: Tensor, high: Tensor, unit: float) -> Ends:
    """It rises but for a fall at its threshold, from where on it is its input."""
    turn = layer.threshold / layer.beta
    ends = layer(low), layer(high)
    top = functional.softplus(torch.full_like(low, turn), layer.beta, math.inf)
    # The network's own precision decides on which side of the threshold a value is.
    near = _gamma(8, unit) * abs(turn)
    over = (low <= turn + near) & (high >= turn - near)
    least = torch.where(over, torch.minimum(ends[0], low.clamp(min=turn - near)), ends[0])
    most = torch.where(over, torch.maximum(ends[1], top + near), ends[1])
    return _widened(least, most, _gamma(8, unit))


def _double(value: Any) -> Tensor | None:
    return None if value is None else value.double()


def _widened(low: Tensor, high: Tensor, share: float) -> Ends:
    """Ends of values that were computed with this relative error."""
    return low - share * low.abs(), high + share * high.abs()


def _batch_norm(layer: Any, low: Tensor, high: Tensor, unit: float) -> Ends:
    """The same scale and shift in every row, by the running statistics."""
    shape = (1, -1, *([1] * (low.ndim - 2)))
    mean, root = layer.running_mean.double(), (layer.running_var.double() + layer.eps).sqrt()
    scale = 1 / root if layer.weight is None else layer.weight.double() / root
    shift = torch.zeros_like(mean) if layer.bias is None else layer.bias.double()
    mean, scale, shift = (v.view(shape) for v in (mean, scale, shift))
    ends = (low - mean) * scale + shift, (high - mean) * scale + shift
    size = torch.maximum(low.abs(), high.abs())
    slack = _gamma(8, unit) * ((size + mean.abs()) * scale.abs() + shift.abs())
    return torch.minimum(*ends) - slack, torch.maximum(*ends) + slack


def _scaled(layer: Any, low: Tensor, high: Tensor, unit: float) -> Ends:
    """Layer and group norm: deviations from the mean over their spread, each with its own ends."""
    if isinstance(layer, nn.LayerNorm):
        axes = len(layer.normalized_shape)
        rows = low.shape[: low.ndim - axes]
        parts = [v.reshape(*rows, -1) for v in (low, high)]
    else:
        parts = [v.reshape(len(v), layer.num_groups, -1) for v in (low, high)]
    a, b = parts
    k = a.shape[-1]
    # x_i − mean = (1 − 1/k) x_i − Σ_{j≠i} x_j/k, whose ends are taken one by one.
    least = a - (a + (b.sum(dim=-1, keepdim=True) - b)) / k
    most = b - (b + (a.sum(dim=-1, keepdim=True) - a)) / k
    size = torch.maximum(a.abs(), b.abs())
    slack = _gamma(k, unit) * (size + size.mean(dim=-1, keepdim=True))
    least, most = least - slack, most + slack
    nearest = torch.maximum(least, -most).clamp(min=0)
    farthest = torch.maximum(least.abs(), most.abs())
    share = _gamma(2 * k, unit)
    thin = ((nearest.square().mean(dim=-1, keepdim=True)) * (1 - share) + layer.eps).sqrt()
    wide = ((farthest.square().mean(dim=-1, keepdim=True)) * (1 + share) + layer.eps).sqrt()
    low_out = torch.where(least < 0, least / thin, least / wide)
    high_out = torch.where(most > 0, most / thin, most / wide)
    root = math.sqrt(k)  # no deviation is more than √k spreads
    low_out, high_out = low_out.clamp(min=-root), high_out.clamp(max=root)
    low_out, high_out = (v.reshape(low.shape) for v in (low_out, high_out))
    low_out, high_out = _widened(low_out, high_out, _gamma(8, unit))
    if layer.weight is None:
        return low_out, high_out
    weight, bias = layer.weight.double(), layer.bias
    shape = layer.normalized_shape if isinstance(layer, nn.LayerNorm) else None
    if shape is None:
        weight = weight.view(1, -1, *([1] * (low.ndim - 2)))
    shift = 0.0
    if bias is not None:
        shift = bias.double() if shape is not None else bias.double().view(weight.shape)
    ends = low_out * weight + shift, high_out * weight + shift
    reach = torch.maximum(low_out.abs(), high_out.abs()) * weight.abs()
    slack = _gamma(4, unit) * (reach + (0.0 if bias is None else abs(shift)))
    return torch.minimum(*ends) - slack, torch.maximum(*ends) + slack
