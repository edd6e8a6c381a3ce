"""Whether a recovery was what it should have been: a formula and digests of their own.

Nothing here is shared with the code that recovers, so that a mistake there is no mistake here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["ADDED", "Units", "mixture", "rebuilt_differs", "spread_of"]

ADDED = 1e-4  # what the authors' code adds to a gradient's norm
Units = float  # of rounding: multiples of the last digit of the larger neighbour


def mixture(norms: Sequence[float], rule: str) -> tuple[float, ...]:
    """Shares of the sources of a rebuilt stage: one for a copy, two that add up to one."""
    if len(norms) == 1:
        return (1.0,)
    usable = all(math.isfinite(n) and n >= 0 for n in norms)
    if rule == "uniform" or not usable:
        return 0.5, 0.5
    before, after = ((n + ADDED) / max(1.0, *norms) for n in norms)
    return before / (before + after), after / (before + after)


def _number(value: Any) -> bool:
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _same(a: Any, b: Any) -> bool:
    """Of counters, masks and extra state."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b.to(a.device))  # stages may be on different devices
    return bool(a == b)


def _double(tensor: Tensor) -> Tensor:
    # Stages may be on different devices, some without double precision.
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().cpu().to(wide)


def _in_digits(difference: Tensor, sources: list[Tensor], kind: torch.dtype) -> float:
    """The largest difference, each in units of the last digit of the larger of the sources there."""
    if not difference.numel():
        return 0.0
    size = torch.stack([s.abs() for s in sources]).amax(dim=0)
    info = torch.finfo(kind)
    digit = (size * info.eps).clamp_min(info.smallest_normal * info.eps)
    # No difference is none, even from something infinite.
    off = torch.where(difference == 0, 0.0, difference.abs() / digit)
    off = off.nan_to_num(nan=math.inf, posinf=math.inf)
    return float(off.max())


def rebuilt_differs(
    made: Mapping[str, Tensor], near: Sequence[Mapping[str, Tensor]], shares: Sequence[float]
) -> Units:
    """Largest difference of a rebuilt state from the mixture of its sources, in double precision.

    Whole numbers must be those of the first source. Infinite where names or shapes differ.
    """
    if set(made) != set(near[0]):
        return math.inf
    worst = 0.0
    for name, got in made.items():
        parts = [state[name] for state in near]
        if any(getattr(p, "shape", ()) != getattr(got, "shape", ()) for p in parts):
            return math.inf
        if not _number(parts[0]):
            worst = max(worst, 0.0 if _same(got, parts[0]) else math.inf)
            continue
        wide = [_double(p) for p in parts]
        wanted = torch.zeros_like(wide[0])
        for share, part in zip(shares, wide, strict=True):
            wanted += share * part
        made_here = _double(got)
        # Where training has diverged the formula gives NaN or infinity, and so must what was made.
        same = (made_here == wanted) | (made_here.isnan() & wanted.isnan())
        off = torch.where(same, torch.zeros_like(wanted), made_here - wanted)
        worst = max(worst, _in_digits(off, wide, parts[0].dtype))
    return worst


def spread_of(near: Sequence[Mapping[str, Tensor]]) -> Units:
    """How far a rebuilt weight could be from the mixture: to the other neighbour, or, of a twin, to zero."""
    worst = 0.0
    for name, first in near[0].items():
        if _number(first):
            wide = [_double(state[name]) for state in near]
            other: Any = wide[1] if len(wide) > 1 else torch.zeros_like(wide[0])
            worst = max(worst, _in_digits(wide[0] - other, wide, first.dtype))
    return worst
