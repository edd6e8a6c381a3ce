"""What a stage computes, wherever it runs: its units, their gradients and updates, shared by processes and simulator."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.distributed._checkfree.recovery import SMALL, neighbour_weights, recover
from whp.distributed._checkfree.routes import Op

__all__ = [
    "Ends",
    "Mark",
    "Setting",
    "Stage",
    "Unit",
    "as_bytes",
    "device_of",
    "digest",
    "draws_of_its_own",
    "from_bytes",
    "restart",
    "seed_draws",
    "to_bytes",
]


@dataclass(frozen=True)
class Setting:
    """How a pipeline is trained and healed; see :class:`whp.distributed._checkfree.pipeline.PipelineTrainer`."""

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
    audit: bool = False

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


def device_of(*modules: nn.Module) -> torch.device:
    """Where the first parameter or buffer is; the processor for what has none."""
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            return tensor.device
    return torch.device("cpu")


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed what draws on the processor and on `device`."""
    torch.default_generator.manual_seed(seed % 2**63)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed % 2**63)


@contextlib.contextmanager
def draws_of_its_own(device: torch.device) -> Iterator[None]:
    """What is drawn inside leaves the caller's generators as they were."""
    if device.type == "cpu":
        with torch.random.fork_rng(devices=[]):
            yield
        return
    with torch.random.fork_rng(devices=[device.index or 0], device_type=device.type):
        yield


def as_bytes(tensor: Tensor) -> Tensor:
    """Its bytes on the processor, of whatever kind its numbers are."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    return plain.contiguous().reshape(-1).view(torch.uint8)


def digest(tensors: Mapping[Any, Any]) -> str:
    """Of names and bytes of all tensors and numbers in a nested mapping."""
    made = hashlib.blake2b(digest_size=16)

    def add(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for k in sorted(value, key=str):
                add(f"{name}.{k}", value[k])
        elif isinstance(value, list | tuple):  # Shampoo and SOAP keep lists of tensors
            made.update(f"{name} {len(value)}".encode())
            for i, part in enumerate(value):
                add(f"{name}.{i}", part)
        elif isinstance(value, Tensor):
            made.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            made.update(as_bytes(value).numpy().data)
        elif isinstance(value, np.ndarray):  # its repr leaves out most of it
            made.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
        else:
            made.update(f"{name} {value!r}".encode())

    add("", tensors)
    return made.hexdigest()


def restart(module: nn.Module, seed: int) -> None:
    """Draw the weights of every layer anew that knows how; others keep those they were built with."""
    seed_draws(seed, device_of(module))
    for layer in module.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()


@dataclass(frozen=True)
class Mark:
    """What is known of a unit for an audit.

    Parameters
    ----------
    since : int
        Iteration at which it began, or was made anew.
    steps, wrong : int
        Updates of its weights since then, counted by a hook of its optimizer, and how many of them
        were too many or too few, added up over iterations.
    committed, now : tuple of str
        Digests of weights and of the optimizer's state, at the last commit and now; empty without
        audit.
    """

    since: int
    steps: int
    committed: tuple[str, ...] = ()
    now: tuple[str, ...] = ()
    wrong: int = 0

    def miscounted(self, iteration: int) -> int:
        """Updates too many or too few until `iteration`; one missed does not make up for one twice."""
        return max(self.wrong, abs(self.steps - (iteration - self.since)))


class Unit:
    """A part of the model with an optimizer of its own: a stage's module, the embedding or the head."""

    def __init__(self, module: nn.Module, setting: Setting) -> None:
        self.module, self.setting = module, setting
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.failures = 0
        self.norm = 0.0  # of the last gradient that was committed, after clipping
        self.new_norm = 0.0
        self.whole_norm = 0.0  # the same before clipping
        self.factor = 1.0  # of the learning rate, in the iteration at hand
        self.since = self.steps = self.wrong = 0
        self._counted = 0  # of the steps, at the last commit
        self._depth = 0  # of calls of step within each other
        self.committed: tuple[str, ...] = ()
        self.shapes = {k: b.shape for k, b in self.saved_buffers().items()}
        self.new_buffers: Tensor | None = None  # of a copy: its owner's, until both commit
        self.fresh_optimizer()
        self.mark()

    def fresh_optimizer(self) -> None:
        """Moments at zero, learning rate as the failures so far have it."""
        lr = self.setting.lr * self.setting.boost(self.failures)
        self.optimizer = self.setting.optimizer(self.parameters, lr) if self.parameters else None
        for group in self.optimizer.param_groups if self.optimizer else ():
            group["initial_lr"] = group["lr"]
        self._count_steps()

    def _count_steps(self) -> None:
        if self.optimizer is not None:
            self.optimizer.register_step_pre_hook(self._steps)
            self.optimizer.register_step_post_hook(self._stepped)

    def _steps(self, *_: Any) -> None:
        self._depth += 1

    def _stepped(self, *_: Any) -> None:
        # Hooks are called again within a step that calls its base class's, which is one update.
        self._depth -= 1
        self.steps += self._depth == 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._count_steps()  # a copied or unpickled optimizer has lost its hooks

    def digests(self) -> tuple[str, str]:
        """Of its weights, and of its optimizer's state and settings."""
        state = self.optimizer.state_dict() if self.optimizer else {}
        return digest(self.weights()), digest(state)

    def mark(self) -> None:
        """Remember what it is, if recoveries are audited."""
        if self.setting.audit:
            self.committed = self.digests()

    def marked(self, now: bool = False) -> Mark:
        """What an audit asks for; `now` computes digests again."""
        current = self.digests() if now and self.setting.audit else ()
        wrong = self.wrong + abs(self.steps - self._counted)
        return Mark(self.since, self.steps, self.committed, current, wrong)

    def began(self, iteration: int) -> None:
        """Count from here on."""
        self.since, self.steps, self.wrong, self._counted = iteration, 0, 0, 0
        self.mark()

    def schedule(self, iteration: int) -> None:
        """Ask for the learning rate; before anybody steps, so that if this raises nobody does."""
        if self.setting.scheduler is not None:
            self.factor = float(self.setting.scheduler(iteration))

    def clip(self) -> None:
        """Scale the gradient to norm `clip` at most, and take its norm."""
        for p in self.parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        if not self.parameters:
            return
        limit = self.setting.clip
        if limit is None:
            self.new_norm = self.whole_norm = float(
                nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
            )
            return
        self.whole_norm = total = float(nn.utils.clip_grad_norm_(self.parameters, limit))
        self.new_norm = total * min(1.0, limit / (total + 1e-6))

    def commit(self) -> None:
        """Step with the gradients at hand."""
        self.norm = self.new_norm  # which all know, even if the optimizer raises
        try:
            self._step()
        finally:
            self._depth = 0  # a step that raised has not told that it ended
            self.wrong += abs(self.steps - self._counted - 1)
            self._counted = self.steps
        if self.new_buffers is not None:
            self._take_buffers(self.new_buffers)
        self.discard()
        self.mark()

    def _step(self) -> None:
        if self.optimizer is None:
            self.steps += 1
            return
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.factor
        self.optimizer.step()

    def saved_buffers(self) -> dict[str, Tensor]:
        """Those of its state: tables that grow with the input are not persistent, and belong to none."""
        fleeting = {
            f"{name}.{k}" if name else k
            for name, m in self.module.named_modules()
            for k in m._non_persistent_buffers_set
        }
        return {k: b for k, b in self.module.named_buffers() if k not in fleeting}

    def check_buffers(self) -> None:
        """Refuse, before anybody steps, a state that no fresh module could take."""
        for k, b in self.saved_buffers().items():
            if self.shapes.get(k) != b.shape:
                raise ValueError(
                    f"buffer {k!r} is {tuple(b.shape)}, and was {tuple(self.shapes.get(k, ()))}: "
                    "register it with persistent=False, or let it keep its shape"
                )

    def buffers(self) -> Tensor | None:
        """Running means, counters and tables as bytes in one vector; None without any."""
        parts = [as_bytes(b) for b in self.saved_buffers().values()]
        return torch.cat(parts) if parts else None

    @torch.no_grad()
    def _take_buffers(self, vector: Tensor) -> None:
        at = 0
        for b in self.saved_buffers().values():
            size = b.numel() * b.element_size()
            # A copy: a part of the vector may begin where such numbers must not.
            b.copy_(vector[at : at + size].clone().view(b.dtype).view(b.shape))
            at += size

    def discard(self) -> None:
        """Forget gradients."""
        self.new_buffers = None
        for p in self.parameters:
            p.grad = None

    def gradient(self) -> Tensor:
        """All gradients in one vector."""
        return torch.cat([p.grad.reshape(-1) for p in self.parameters if p.grad is not None])

    def take_gradient(self, vector: Tensor) -> None:
        """Set all gradients from one vector."""
        at = 0
        for p in self.parameters:
            p.grad = vector[at : at + p.numel()].view_as(p).to(p.device, p.dtype, copy=True)
            at += p.numel()

    def weights(self) -> dict[str, Tensor]:
        """State of the module."""
        return {
            k: v.detach() if isinstance(v, Tensor) else v
            for k, v in self.module.state_dict().items()
        }

    def state(self) -> dict[str, Any]:
        """Everything that training changes."""
        return {
            "weights": self.weights(),
            "optimizer": self.optimizer.state_dict() if self.optimizer else {},
            "norm": self.norm,
            "failures": self.failures,
        }

    def load(self, state: Mapping[str, Any], iteration: int, moments: bool = True) -> None:
        """Become what `state` says at `iteration`; without moments the optimizer starts again."""
        self.discard()
        self.module.load_state_dict(state["weights"])
        self.failures, self.norm = state["failures"], state["norm"]
        self.fresh_optimizer()
        if moments and self.optimizer is not None:
            self.optimizer.load_state_dict(
                copy.deepcopy(state["optimizer"])
            )  # a copy: moments must not be shared
        self.began(iteration)

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
            self.began(iteration)
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
        # A neighbour that was itself made anew, and made no update since, has no moments to give.
        known = [n["optimizer"].get("state") or {} for n in near]
        if (
            how.moments == "average"
            and self.optimizer is not None
            and known[0]
            and set(known[0]) == set(known[-1])
        ):
            mixed = from_bytes(to_bytes(known[0]))
            if len(near) > 1:
                for k, moments in mixed.items():
                    theirs = known[1][k]
                    for name, v in moments.items():
                        if isinstance(v, Tensor) and v.is_floating_point():
                            moments[name] = a * v + b * theirs[name]
            self.optimizer.load_state_dict(
                {"state": mixed, "param_groups": self.optimizer.state_dict()["param_groups"]}
            )
        self.began(iteration)


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
        self.device = device_of(*modules.values())
        self._saved: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        self._buffers: dict[str, dict[str, Tensor]] | None = None  # before the batch at hand

    def begin_anew(self, built: Mapping[str, nn.Module]) -> None:
        """Modules as they were built: what is in no state starts again, as in a new process."""
        for name, module in built.items():
            self.units[name] = Unit(copy.deepcopy(module), self.setting)
        modules = {name: unit.module for name, unit in self.units.items()}
        self.calls = dict(modules)
        if isinstance(ends := modules.get("embed"), Ends):
            self.calls |= {"embed": ends.embed, "head": ends.head}

    def forward(self, op: Op, x: Tensor, y: Tensor | None = None, share: float = 1.0) -> Tensor:
        """One unit on one microbatch; the head adds its share of the loss."""
        if self._buffers is None:
            self._buffers = {
                name: {k: b.clone() for k, b in u.module.named_buffers()}
                for name, u in self.units.items()
            }
        seed_draws(
            _seed(self.setting.seed, self.iteration, op.microbatch, _number(op.unit)), self.device
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
        if out.requires_grad:  # an embedding may have nothing to learn
            torch.autograd.backward(out, gradient)
        if op.unit == "embed":
            return None
        return torch.zeros_like(x) if x.grad is None else x.grad

    @torch.no_grad()
    def predict(self, op: Op, x: Tensor, y: Tensor | None = None, rows: bool = False) -> Tensor:
        """The same without gradients and dropout; the head returns the loss, or that of each row."""
        call = self.calls[op.unit]
        modes = [(m, m.training) for m in call.modules()]  # a layer may be frozen on its own
        call.eval()
        try:
            out = call(x)
        finally:
            for m, mode in modes:
                m.training = mode
        if op.unit == "head":
            assert y is not None
            loss = self.setting.loss_fn
            if not rows:
                return loss(out, y)
            return torch.stack([loss(out[i : i + 1], y[i : i + 1]) for i in range(len(y))])
        return out

    def finish(self) -> None:
        """All backward work is done: clip. From here on the stage can commit."""
        for unit in (*self.units.values(), *self.copies.values()):
            unit.schedule(self.iteration)
        for unit in self.units.values():
            unit.check_buffers()
            unit.clip()
        self.pending = True

    def commit(self) -> None:
        """Step everything, copies too.

        Others have stepped: if an optimizer raises here, that unit misses its update, which its
        count shows, and the stage is where all others are.
        """
        units = [*self.units.values()]
        if self.setting.replicas == "full":
            units += self.copies.values()
        error: BaseException | None = None
        for unit in units:
            try:
                unit.commit()
            except BaseException as raised:
                unit.discard()
                unit.mark()
                error = error or raised
        self.iteration += 1
        self.pending = False
        self._clear()
        if error is not None:
            raise error

    def discard(self) -> None:
        """Forget a batch that was not committed, and what it did to running means."""
        for unit in (*self.units.values(), *self.copies.values()):
            unit.discard()
        with torch.no_grad():
            for name, kept in (self._buffers or {}).items():
                for k, buffer in self.units[name].module.named_buffers():
                    # What was made or has grown meanwhile is a table for longer inputs.
                    if k in kept and kept[k].shape == buffer.shape:
                        buffer.copy_(kept[k])
        self.pending = False
        self._clear()

    def _clear(self) -> None:
        self._buffers = None
        self._saved.clear()
        self.loss = torch.zeros(())

    def marks(self, now: bool = False) -> dict[str, Mark]:
        """What an audit asks for, of each unit."""
        return {name: unit.marked(now) for name, unit in self.units.items()}

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
            unit.load(state["units"][name], self.iteration)


def _number(unit: str) -> int:
    return int(unit) if unit.isdigit() else {"embed": 1001, "head": 1002}[unit]
