"""Plain gradient descent on one batch, with stages lost on the way, recorded for its theorem."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from whp.certificate import Certificate
from whp.distributed._checkfree.compute import Unit
from whp.distributed._checkfree.simulator import Simulator
from whp.distributed._checkfree.theorems import Path, descent
from whp.distributed._checkfree.trainer import Batch
from whp.validate import as_int

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
    path = record_descent(trainer, batch, as_int(steps, "steps", low=1), kills or {})
    return descent(path, floor=floor, smoothness=smoothness)


class _Recorder:
    """Sees gradients before updates, and what the updates made of weights."""

    def __init__(self, units: list[Unit]) -> None:
        self.units = units
        self.squares: list[float] = []
        self.rates: list[float] = []
        self.wrong: list[str] = []
        self.steepest = 0.0
        self._gradient: Tensor | None = None
        self._weights: Tensor | None = None
        self._aim: Tensor | None = None
        self._size: Tensor | None = None

    def weights(self) -> Tensor:
        return _joined([p for u in self.units for p in u.parameters])

    def before_update(self, _: Simulator) -> None:
        gradients = [p.grad for u in self.units for p in u.parameters if p.grad is not None]
        g, at = _joined(gradients), self.weights()
        eps = max(torch.finfo(p.dtype).eps for u in self.units for p in u.parameters)
        if self._gradient is not None and self._weights is not None:
            apart = float((at - self._weights).norm())
            if apart > 1e3 * eps * float(at.norm()):
                noise = 64 * eps * float(g.norm() + self._gradient.norm())
                self.steepest = max(
                    self.steepest, (float((g - self._gradient).norm()) - noise) / apart
                )
        moved = []
        for u in self.units:
            if u.setting.clip is not None and u.whole_norm + 1e-6 > u.setting.clip:
                self.wrong.append(f"a gradient of norm {u.whole_norm:.4g} was clipped")
            for group in u.optimizer.param_groups if u.optimizer else ():
                rate = group["initial_lr"] * u.factor
                self.rates.append(rate)
                moved += [rate * p.grad for p in group["params"] if p.grad is not None]
        self.squares.append(sum(u.whole_norm**2 for u in self.units))
        self._gradient, self._weights = g, at
        step = _joined(moved)
        self._aim, self._size = at - step, at.abs() + step.abs()

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
    units = [u for site in trainer._sites for u in site.units.values()]
    seen = _Recorder(units)
    before, after, jumps, drawn = [], [], [], []
    known = len(trainer.recoveries)
    now = trainer.objective(batch)
    trainer.before_update = seen.before_update
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
        trainer.before_update = None
    eps = max(torch.finfo(p.dtype).eps for u in units for p in u.parameters)
    rounding = 16 * float(eps)
    off, scale = max(drawn), max(abs(v) for v in (*before, *after))
    return Path(
        np.array(before),
        np.array(after),
        np.array(seen.squares),
        min(seen.rates),
        max(seen.rates),
        np.array(jumps),
        len(trainer.recoveries) - known,
        seen.steepest,
        (not seen.wrong, seen.wrong[0] if seen.wrong else f"{steps} updates of {len(units)} units"),
        (off <= rounding * scale, f"losses of training differ from h by at most {off:.3g}"),
        rounding,
    )


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([t.detach().reshape(-1).double().cpu() for t in tensors])
