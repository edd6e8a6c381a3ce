"""Plain gradient descent on one batch, with stages lost on the way, recorded for its theorem."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from whp.certificate import Certificate
from whp.distributed._checkfree.compute import Unit
from whp.distributed._checkfree.simulator import Simulator
from whp.distributed._checkfree.theorems import Path, descent
from whp.distributed._checkfree.trainer import Batch
from whp.validate import as_int, as_real

__all__ = ["descent_with_jumps", "record_descent"]


def descent_with_jumps(
    trainer: Simulator,
    batch: Batch,
    steps: int,
    *,
    floor: float,
    kills: Mapping[int, Iterable[int]] | None = None,
    smoothness: float | None = None,
) -> Certificate:
    """Train on one batch, lose stages on the way, and weigh what that cost gradient descent.

    Parameters
    ----------
    trainer : Simulator
        With ``optimizer=torch.optim.SGD`` and ``clip=None``: the theorem is about plain steps.
        A rate of 0 at some step, as at the ends of many schedules, promises nothing.
    batch : tuple of Tensor
        Inputs and targets; the loss on them is h.
    steps : int
        Iterations T.
    floor : float
        h_inf, a number that h cannot fall below.
    kills : mapping of int to iterable of int, optional
        Iteration of this call, from 0, to the stages that are lost at its start.
    smoothness : float, optional
        L; without it the certificate rests on γ ≤ 1/L unchecked, refuted only by this run's gradients.

    Returns
    -------
    Certificate
        ``descent-with-jumps``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted, such as a kill after the last step; the message
        names it. Nothing is trained then.

    Examples
    --------
    >>> from torch import nn
    >>> stages = [nn.Linear(2, 2) for _ in range(4)]
    >>> model = (nn.Linear(2, 2), stages, nn.Linear(2, 1), nn.functional.mse_loss)
    >>> trainer = Simulator(*model, optimizer=torch.optim.SGD, lr=0.01, clip=None, lr_boost=1.0)
    >>> batch = torch.randn(8, 2), torch.randn(8, 1)
    >>> descent_with_jumps(trainer, batch, 20, floor=0.0, kills={10: [2]}).name
    'descent-with-jumps'
    """
    if not isinstance(trainer, Simulator):
        raise TypeError(f"trainer must be a Simulator, got {type(trainer).__name__}")
    steps = as_int(steps, "steps", low=1)
    floor = as_real(floor, "floor")
    if smoothness is not None:
        smoothness = as_real(smoothness, "smoothness", low=0, open_ends=True)
    struck = _struck(kills or {}, steps, trainer.setting.stages)
    return descent(
        record_descent(trainer, batch, steps, struck), floor=floor, smoothness=smoothness
    )


def _struck(
    kills: Mapping[int, Iterable[int]], steps: int, stages: int
) -> dict[int, tuple[int, ...]]:
    """Kills as whole numbers within the run: one that is never made would be passed over."""
    found = {}
    for at, who in kills.items():
        t = as_int(at, "iterations of kills", low=0, high=steps - 1)
        if isinstance(who, str) or not isinstance(who, Iterable):
            raise TypeError(f"kills must have a list of stages at {t}, got {type(who).__name__}")
        found[t] = tuple(as_int(s, "stages of kills", low=0, high=stages - 1) for s in who)
    return found


class _Recorder:
    """Sees gradients before updates, and what the updates made of weights."""

    def __init__(self, trainer: Simulator, batch: Batch, steps: int) -> None:
        self.trainer, self.batch = trainer, batch
        # A few moments are enough: what has another gradient at one moment is no gradient.
        self.looks = {0, steps - 1} | {2**k for k in range(steps.bit_length())}
        self.other: list[str] = []
        self.squares: list[float] = []
        self.rates: list[float] = []
        self.wrong: list[str] = []
        self.steepest = 0.0
        self._gradient: Tensor | None = None
        self._weights: Tensor | None = None
        self._aim: Tensor | None = None
        self._size: Tensor | None = None

    @property
    def units(self) -> list[Unit]:
        """Those of now: a regained stage has new ones."""
        return [u for site in self.trainer._sites for u in site.units.values()]

    def weights(self) -> Tensor:
        return _joined([p for u in self.units for p in u.parameters])

    def before_update(self, trainer: Simulator) -> None:
        gradients = [p.grad for u in self.units for p in u.parameters if p.grad is not None]
        g, at = _joined(gradients), self.weights()
        if len(self.squares) in self.looks:
            self.compare(trainer)
        eps = max(torch.finfo(p.dtype).eps for u in self.units for p in u.parameters)
        if self._gradient is not None and self._weights is not None:
            apart = float((at - self._weights).norm())
            if apart > 1e3 * eps * float(at.norm()):
                noise = 64 * eps * float(g.norm() + self._gradient.norm())
                self.steepest = max(
                    self.steepest, (float((g - self._gradient).norm()) - noise) / apart
                )
        rate_of: dict[Tensor, float] = {}
        for u in self.units:
            if u.setting.clip is not None and u.whole_norm + 1e-6 > u.setting.clip:
                self.wrong.append(f"a gradient of norm {u.whole_norm:.4g} was clipped")
            for group in u.optimizer.param_groups if u.optimizer else ():
                rate = float(group["initial_lr"] * u.factor)
                rate_of |= dict.fromkeys(group["params"], rate)
        # In the order of the weights: groups have one of their own, and may leave some out.
        known = [(p, rate_of.get(p, 0.0)) for u in self.units for p in u.parameters]
        self.rates += [rate for _, rate in known]
        moved = [rate * p.grad for p, rate in known if p.grad is not None]
        self.squares.append(sum(u.whole_norm**2 for u in self.units))
        self._gradient, self._weights = g, at
        step = _joined(moved)
        self._aim, self._size = at - step, at.abs() + step.abs()

    @torch.no_grad()
    def compare(self, trainer: Simulator) -> None:
        """Slopes of h, from its values, with those that its gradients give.

        Along a direction of length one, (h(θ + εd) − h(θ − εd))/2ε is off by at most Lε/2 and the
        rounding of h over ε; with L ≤ 1/γ, as the theorem wants, that is the room.
        """
        known = [p for u in self.units for p in u.parameters]
        kept = [p.detach().clone() for p in known]
        rate = max(
            float(g["initial_lr"] * u.factor)
            for u in self.units
            if u.optimizer
            for g in u.optimizer.param_groups
        )
        eps = max(torch.finfo(p.dtype).eps for p in known)
        if not 0 < rate < math.inf:
            return
        unit = 16 * eps * abs(trainer.objective(self.batch))
        size = math.sqrt(sum(float(p.detach().abs().double().square().sum()) for p in known))
        far = max(math.sqrt(2 * rate * unit), 1e3 * eps * size)
        for name, way in (("along them", _grads), ("in a random direction", _anyhow)):
            d = way(known)
            length = math.sqrt(sum(float(v.abs().double().square().sum()) for v in d))
            if not 0 < length < math.inf:
                continue
            values, places = [], []
            try:
                for sign in (1, -1):
                    for p, old, v in zip(known, kept, d, strict=True):
                        p.copy_(old + (sign * far / length) * v)
                    values.append(trainer.objective(self.batch))
                    places.append(_joined(list(known)))
            finally:
                for p, old in zip(known, kept, strict=True):
                    p.copy_(old)
            moved = places[0] - places[1]  # as weights were rounded
            expected = float(moved @ _joined([p.grad for p in known if p.grad is not None]))
            apart = float(moved.norm())
            room = apart**2 / (4 * rate) + 2 * unit + 8 * eps * abs(expected)
            if not abs(values[0] - values[1] - expected) <= room:
                self.other.append(
                    f"h has slope {(values[0] - values[1]) / apart:.6g} {name}, gradients say "
                    f"{expected / apart:.6g}"
                )

    def after_update(self) -> None:
        assert self._aim is not None
        assert self._size is not None
        off = (self.weights() - self._aim).abs()
        eps = max(torch.finfo(p.dtype).eps for u in self.units for p in u.parameters)
        # An update rounds its product and its sum, which may all but cancel.
        if bool((off > 4 * eps * self._size).any()):
            kinds = sorted({type(u.optimizer).__name__ for u in self.units if u.optimizer})
            self.wrong.append(
                f"an update of {', '.join(kinds)} was off θ − γg by {float(off.max()):.3g}"
            )


def record_descent(
    trainer: Simulator, batch: Batch, steps: int, kills: Mapping[int, Iterable[int]]
) -> Path:
    """The path of such a run; see :func:`descent_with_jumps`."""
    seen = _Recorder(trainer, batch, steps)
    before, after, jumps, drawn = [], [], [], []
    first = now = trainer.objective(batch)  # which regains what was lost before
    known = len(trainer.recoveries)
    watched, trainer.before_update = trainer.before_update, seen.before_update
    try:
        for t in range(steps):
            if struck := tuple(kills.get(t, ())):
                for stage in struck:
                    trainer.kill(stage)
                then, now = now, trainer.objective(batch)
                jumps.append(now - then)
            before.append(now)
            out = trainer.step(batch)
            seen.after_update()
            drawn.append(abs(out.loss - now))
            now = trainer.objective(batch)
            after.append(now)
    finally:
        trainer.before_update = watched
    eps = max(torch.finfo(p.dtype).eps for u in seen.units for p in u.parameters)
    rounding = 16 * float(eps)
    off, scale = max(drawn), max(abs(v) for v in (*before, *after))
    one = (off <= rounding * scale, f"losses of training differ from h by at most {off:.3g}")
    if seen.other:
        one = (False, seen.other[0])
    return Path(
        np.array(before),
        np.array(after),
        np.array(seen.squares),
        min(seen.rates),
        max(seen.rates),
        np.array(jumps),
        len(trainer.recoveries) - known,
        seen.steepest,
        (
            not seen.wrong,
            seen.wrong[0] if seen.wrong else f"{steps} updates of {len(seen.units)} units",
        ),
        one,
        rounding,
        first,
    )


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([_real(t.detach()).reshape(-1).double().cpu() for t in tensors])


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _grads(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]


def _anyhow(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [torch.randn_like(p) for p in parameters]
