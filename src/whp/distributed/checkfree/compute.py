"""What a stage computes, wherever it runs: its units, their gradients and updates, shared by processes and simulator."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whp.distributed.checkfree.recovery import SMALL, neighbour_weights, recover
from whp.distributed.checkfree.routes import Op

__all__ = ["Ends", "Setting", "Stage", "Unit", "from_bytes", "restart", "to_bytes"]


@dataclass(frozen=True)
class Setting:
    """How a pipeline is trained and healed; see :class:`whp.distributed.checkfree.pipeline.PipelineTrainer`."""

    stages: int
    loss_fn: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Any, float], torch.optim.Optimizer]
    lr: float
    scheduler: Callable[[int], float] | None
    microbatches: int
    clip: float | None
    mode: str
    rule: str
    lr_boost: float
    lr_boost_compound: bool
    moments: str
    replicas: str
    seed: int
    tied: bool

    @property
    def swap(self) -> bool:
        """Whether odd microbatches take the swapped way."""
        return self.mode == "checkfree+"

    @property
    def head(self) -> int:
        """Where the head is: beside the embedding it is tied to, or on the last stage."""
        return 0 if self.tied else self.stages - 1

    def boost(self, failures: int) -> float:
        """Factor of the learning rate of a stage that was lost this often."""
        if not failures:
            return 1.0
        return self.lr_boost**failures if self.lr_boost_compound else self.lr_boost


class Ends(nn.Module):
    """An embedding and a head that share weights."""

    def __init__(self, embed: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.embed, self.head = embed, head


def to_bytes(state: Any) -> bytes:
    """Tensors, numbers and strings in containers, as bytes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def from_bytes(data: bytes) -> Any:
    """What :func:`to_bytes` packed; nothing else is unpickled."""
    return torch.load(io.BytesIO(data), weights_only=True)


def restart(module: nn.Module, seed: int) -> None:
    """Draw the weights of every layer anew that knows how; others keep those they were built with."""
    torch.default_generator.manual_seed(seed % 2**63)
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()


class Unit:
    """A part of the model with an optimizer of its own: a stage's module, the embedding or the head."""

    def __init__(self, module: nn.Module, setting: Setting) -> None:
        self.module, self.setting = module, setting
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.failures = 0
        self.norm = 0.0  # of the last gradient that was committed, after clipping
        self.new_norm = 0.0
        self.fresh_optimizer()

    def fresh_optimizer(self) -> None:
        """Moments at zero, learning rate as the failures so far have it."""
        lr = self.setting.lr * self.setting.boost(self.failures)
        self.optimizer = self.setting.optimizer(self.parameters, lr) if self.parameters else None
        for group in self.optimizer.param_groups if self.optimizer else ():
            group["initial_lr"] = group["lr"]

    def clip(self) -> None:
        """Scale the gradient to norm `clip` at most, and take its norm."""
        for p in self.parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if not self.parameters:
            return
        limit = self.setting.clip
        if limit is None:
            self.new_norm = float(
                nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
            )
            return
        total = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        self.new_norm = total * min(1.0, limit / (total + 1e-6))

    def commit(self, iteration: int) -> None:
        """Step with the gradients at hand."""
        if self.optimizer is not None:
            factor = 1.0 if self.setting.scheduler is None else self.setting.scheduler(iteration)
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self.optimizer.step()
        self.norm = self.new_norm
        self.discard()

    def discard(self) -> None:
        """Forget gradients."""
        for p in self.parameters:
            p.grad = None

    def gradient(self) -> Tensor:
        """All gradients in one vector."""
        return torch.cat([p.grad.reshape(-1) for p in self.parameters if p.grad is not None])

    def take_gradient(self, vector: Tensor, norm: float) -> None:
        """Set all gradients from one vector."""
        at = 0
        for p in self.parameters:
            p.grad = vector[at : at + p.numel()].view_as(p).clone()
            at += p.numel()
        self.new_norm = norm

    def weights(self) -> dict[str, Tensor]:
        """State of the module."""
        return {k: v.detach() for k, v in self.module.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Everything that training changes."""
        return {
            "weights": self.weights(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "norm": self.norm,
            "failures": self.failures,
        }

    def load(self, state: Mapping[str, Any], moments: bool = True) -> None:
        """Become what `state` says; without moments the optimizer starts again."""
        self.discard()
        self.module.load_state_dict(state["weights"])
        self.failures, self.norm = state["failures"], state["norm"]
        self.fresh_optimizer()
        if moments and self.optimizer is not None:
            self.optimizer.load_state_dict(
                from_bytes(to_bytes(state["optimizer"]))
            )  # a copy: moments must not be shared

    def rebuild(
        self, near: list[dict[str, Any]], stage: int, iteration: int, failures: int
    ) -> None:
        """Take the place of a lost stage, given states of the stages it is rebuilt from, none to start at random."""
        self.discard()
        how = self.setting
        self.failures = failures
        if not near:
            restart(self.module, _seed(how.seed, iteration, 0, stage))
            self.norm = 0.0
            self.fresh_optimizer()
            return
        rule: Any = "grad" if how.rule == "random" else how.rule
        norms = [float(n["norm"]) for n in near]
        weights = [n["weights"] for n in near]
        other, w_other = (weights[1], norms[1]) if len(near) > 1 else (None, norms[0])
        self.module.load_state_dict(
            recover(weights[0], other, norms[0], w_other, rule, eps=SMALL, stage=stage)
        )
        a, b = neighbour_weights(norms[0], w_other, rule, SMALL) if len(near) > 1 else (1.0, 0.0)
        self.norm = a * norms[0] + b * w_other
        self.fresh_optimizer()
        if (
            how.moments == "average"
            and self.optimizer is not None
            and near[0]["optimizer"].get("state")
        ):
            mixed = from_bytes(to_bytes(near[0]["optimizer"]["state"]))
            if len(near) > 1:
                for k, moments in mixed.items():
                    theirs = near[1]["optimizer"]["state"][k]
                    for name, v in moments.items():
                        if isinstance(v, Tensor) and v.is_floating_point():
                            moments[name] = a * v + b * theirs[name]
            self.optimizer.load_state_dict(
                {"state": mixed, "param_groups": self.optimizer.state_dict()["param_groups"]}
            )


def _seed(seed: int, iteration: int, microbatch: int, stage: int) -> int:
    return (((seed * 1_000_003 + iteration) * 10_007 + microbatch) * 1009 + stage) % 2**63


class Stage:
    """All that one rank of the pipeline holds and computes.

    Parameters
    ----------
    rank : int
    setting : Setting
    modules : dict of str to Module
        Its units.
    copies : dict of str to Module
        Units of other stages of which it keeps a copy.
    """

    def __init__(
        self,
        rank: int,
        setting: Setting,
        modules: dict[str, nn.Module],
        copies: dict[str, nn.Module],
    ) -> None:
        self.rank, self.setting = rank, setting
        self.units = {name: Unit(module, setting) for name, module in modules.items()}
        self.copies = {name: Unit(module, setting) for name, module in copies.items()}
        self.calls: dict[str, nn.Module] = dict(modules)
        if isinstance(ends := modules.get("embed"), Ends):
            self.calls |= {"embed": ends.embed, "head": ends.head}
        self.redundant = None
        if setting.mode == "redundant" and copies:
            self.redundant = self.copies[str((rank + 1) % setting.stages)].module
        self.iteration = 0
        self.pending = False
        self.loss = torch.zeros(())
        self._saved: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}

    def forward(self, op: Op, x: Tensor, y: Tensor | None = None, share: float = 1.0) -> Tensor:
        """One unit on one microbatch; the head adds its share of the loss."""
        torch.default_generator.manual_seed(
            _seed(self.setting.seed, self.iteration, op.microbatch, _number(op.unit))
        )
        if op.unit != "embed":
            x = x.detach().requires_grad_(True)
        out = self.calls[op.unit](x)
        if op.unit == "head":
            assert y is not None
            out = share * self.setting.loss_fn(out, y)
            self.loss = self.loss + out.detach()
        elif self.redundant is not None and op.unit != "embed":
            with torch.no_grad():
                self.redundant(out)
        self._saved[op.unit, op.microbatch] = (x, out)
        return out.detach()

    def backward(self, op: Op, gradient: Tensor | None) -> Tensor | None:
        """Gradient with respect to the unit's input; its parameters' is added up."""
        x, out = self._saved.pop((op.unit, op.microbatch))
        torch.autograd.backward(out, gradient)
        return None if op.unit == "embed" else x.grad

    @torch.no_grad()
    def predict(self, op: Op, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The same without gradients and dropout; the head returns the loss."""
        call = self.calls[op.unit]
        mode = call.training
        call.eval()
        out = call(x)
        call.train(mode)
        if op.unit == "head":
            assert y is not None
            return self.setting.loss_fn(out, y)
        return out

    def finish(self) -> None:
        """All backward work is done: clip. From here on the stage can commit."""
        for unit in self.units.values():
            unit.clip()
        self.pending = True

    def commit(self) -> None:
        """Step everything, copies too."""
        for unit in self.units.values():
            unit.commit(self.iteration)
        if self.setting.replicas == "full":
            for unit in self.copies.values():
                unit.commit(self.iteration)
        self.iteration += 1
        self.pending = False
        self._clear()

    def discard(self) -> None:
        """Forget a batch that was not committed."""
        for unit in (*self.units.values(), *self.copies.values()):
            unit.discard()
        self.pending = False
        self._clear()

    def _clear(self) -> None:
        self._saved.clear()
        self.loss = torch.zeros(())

    def state(self) -> dict[str, Any]:
        """States of its units."""
        return {
            "iteration": self.iteration,
            "units": {name: unit.state() for name, unit in self.units.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Become what :meth:`state` told."""
        self.discard()
        self.iteration = state["iteration"]
        for name, unit in self.units.items():
            unit.load(state["units"][name])


def _number(unit: str) -> int:
    return int(unit) if unit.isdigit() else {"embed": 1001, "head": 1002}[unit]
