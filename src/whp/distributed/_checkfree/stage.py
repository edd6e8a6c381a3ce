"""The process of one stage: it obeys its coordinator, exchanges activations with its peers and may be killed at any moment."""

from __future__ import annotations

import pickle
import threading
import time
import traceback
from collections.abc import Callable
from functools import reduce
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from whp.distributed._checkfree.compute import Mark, Setting, Stage, Unit, from_bytes, to_bytes
from whp.distributed._checkfree.recovery import Transfer, copies
from whp.distributed._checkfree.routes import Op, schedule
from whp.distributed.processes import join_group, leave_group

__all__ = ["BEAT", "serve"]

T = TypeVar("T")
COPIES = 1_000_000  # a tag that no microbatch has
BEAT = -1  # number of a message that only says that the process lives


class Broken(Exception):
    """A peer is gone."""


def _link(call: Callable[..., T], *arguments: Any, **options: Any) -> T:
    """Talk to peers; what gloo raises when one is gone is told from errors of the model."""
    try:
        return call(*arguments, **options)
    except RuntimeError as error:
        raise Broken(str(error)) from error


def warm_up(setting: Setting) -> None:
    """Forward, backward and step of a dummy, so that no lazy import or thread is left for later."""
    layer = nn.Linear(8, 8)
    optimizer = setting.optimizer(list(layer.parameters()), 1e-3)
    layer(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
    from_bytes(to_bytes(layer.state_dict()))


def _from_coordinator(data: bytes) -> Any:
    # Modules and functions can travel no other way. They come from the process that forked this one, over a pipe that only those
    # two hold; what comes from peers or from disk goes through from_bytes, which builds tensors and plain data alone.
    return pickle.loads(data)


class Voice:
    """The pipe to the coordinator, which is told now and then that this process runs.

    A process that is stopped says nothing, whatever it was doing; one that computes goes on beating.
    """

    def __init__(self, pipe: Connection, timeout: float) -> None:
        self.pipe, self.every = pipe, min(1.0, timeout / 5)
        self._lock = threading.Lock()  # a connection takes one message at a time

    def say(self, *message: Any) -> None:
        """Send a message."""
        with self._lock:
            self.pipe.send(message)

    def start(self) -> None:
        """Beat from now on."""
        threading.Thread(target=self._beat, daemon=True).start()

    def _beat(self) -> None:
        try:
            while True:
                time.sleep(self.every)
                self.say(BEAT, "beat", None, 0, False)
        except (OSError, ValueError):
            return  # the coordinator is gone, and this process soon after


def serve(pipe: Connection, payload: bytes, timeout: float) -> None:
    """Obey orders until the coordinator hangs up: each is (number, kind, body), each is answered once."""
    site = Site(_from_coordinator(payload), timeout)
    warm_up(site.setting)
    voice = Voice(pipe, timeout)
    voice.say(0, "ok", None, 0, False)
    voice.start()
    while True:
        try:
            number, kind, body = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            answer: tuple[str, Any] = ("ok", getattr(site, f"on_{kind}")(body))
        except Broken as gone:
            leave_group()
            answer = ("broken", str(gone))
        except Exception:
            leave_group()  # peers that wait for it must not wait long
            answer = ("raised", traceback.format_exc())
        stage = site.stage
        voice.say(number, *answer, stage.iteration if stage else 0, bool(stage and stage.pending))


class Site:
    """A process that is or may become a stage."""

    def __init__(self, setting: Setting, timeout: float) -> None:
        self.setting, self.timeout = setting, timeout
        self.stage: Stage | None = None
        self.last: tuple[int, float, list[float]] = (-1, float("nan"), [])

    @property
    def here(self) -> Stage:
        """The stage that it is."""
        assert self.stage is not None
        return self.stage

    def on_become(self, body: bytes) -> None:
        """Take a place in the pipeline, with modules as they were built."""
        rank, modules, kept = _from_coordinator(body)
        self.stage = Stage(rank, self.setting, modules, kept)

    def on_join(self, body: tuple[int, int, bool]) -> None:
        """Enter a generation; first settle the batch at hand: commit it if others did, else forget it."""
        generation, port, commit = body
        leave_group()
        if commit:
            self.here.commit()
        else:
            self.here.discard()
        _link(
            join_group, self.here.rank, self.setting.stages, generation, port, timeout=self.timeout
        )

    def on_rebuild(self, body: tuple[int, list[Transfer], dict[int, int]]) -> None:
        """Send and take what the plan says."""
        iteration, transfers, failures = body
        for transfer in transfers:
            self._transfer(transfer, iteration, failures)
        self.here.iteration = iteration

    def _transfer(self, transfer: Transfer, iteration: int, failures: dict[int, int]) -> None:
        stage, rank, how = self.here, self.here.rank, transfer.how
        source = {
            "rebuild": lambda s: stage.units[str(s)],
            "copy": lambda s: stage.units[transfer.unit],
            "restore": lambda s: stage.copies[transfer.unit],
        }[how]
        if rank in transfer.sources:
            state = source(rank).state()
            if (
                (self.setting.moments == "reset")
                if how == "rebuild"
                else (self.setting.replicas == "weights")
            ):
                state["optimizer"] = {}
            _send_state(state, transfer.to)
        if rank == transfer.to:
            near = [_receive_state(s) for s in transfer.sources]
            if how == "rebuild":
                stage.units[transfer.unit].rebuild(near, rank, iteration, failures.get(rank, 0))
            else:
                unit = (stage.units if how == "restore" else stage.copies)[transfer.unit]
                unit.load(near[0], iteration, moments=self.setting.replicas == "full")

    def on_status(self, body: None) -> None:
        """Nothing: the iteration goes with every answer."""

    def on_marks(self, body: bool) -> dict[str, Mark]:
        """What an audit asks for."""
        return self.here.marks(body)

    def on_state(self, body: None) -> bytes:
        """Everything that training changes."""
        return to_bytes(self.here.state())

    def on_weights(self, body: None) -> bytes:
        """Of the stage's own unit."""
        return to_bytes(self.here.units[str(self.here.rank)].weights())

    def on_load(self, body: bytes) -> None:
        """Go back to a state."""
        self.here.load(from_bytes(body))

    def on_last(self, body: None) -> tuple[int, float, list[float]]:
        """Number, loss and norms of the last batch whose agreement came through."""
        return self.last

    def on_step(self, body: Any) -> tuple[int, float, list[float], dict[str, Mark]]:
        """One batch: all forward work, all backward work, agreement, update (GPipe)."""
        inputs, targets, shapes, kind, shares = body
        stage, how = self.here, self.setting
        stage.discard()
        ops = schedule(len(shapes), how.stages, how.swap, how.head)[stage.rank]
        xs, ys = self._given(inputs), self._given(targets)

        def forward(op: Op, x: Any) -> Tensor:
            value = xs[op.microbatch] if xs is not None and op.unit == "embed" else x
            y = ys[op.microbatch] if ys is not None and op.unit == "head" else None
            return stage.forward(op, value, y, shares[op.microbatch])

        self._phase(ops, shapes, kind, 0, forward)
        self._phase(ops[::-1], shapes, kind, 1, stage.backward)
        stage.finish()
        handles = self._mirror_gradients() if how.replicas == "full" else []
        loss, norms = self._agree(stage)
        self.last = (stage.iteration, loss, norms)
        for name, unit in stage.copies.items():
            unit.new_norm = norms[_names(how).index(name)]
        for handle, _ in handles:
            _link(handle.wait)
        stage.commit()
        if how.replicas == "weights":
            self._mirror_weights()
        return (*self.last, stage.marks())

    def on_evaluate(self, body: Any) -> list[float]:
        """Losses of batches, every one in the normal order; the head's rank returns them."""
        inputs, targets, shapes, kind, rows = body
        stage, how = self.here, self.setting
        ops = schedule(len(shapes), how.stages, False, how.head)[stage.rank]
        xs, ys = self._given(inputs), self._given(targets)
        losses: dict[int, list[float]] = {}

        def forward(op: Op, x: Any) -> Tensor:
            value = xs[op.microbatch] if xs is not None and op.unit == "embed" else x
            y = ys[op.microbatch] if ys is not None and op.unit == "head" else None
            out = stage.predict(op, value, y, rows)
            if op.unit == "head":
                losses[op.microbatch] = out.reshape(-1).tolist()
            return out

        self._phase(ops, shapes, kind, 0, forward)
        return [loss for m in sorted(losses) for loss in losses[m]]

    def _given(self, data: bytes | None) -> list[Tensor] | None:
        """Inputs or targets, where this stage computes."""
        if not data:
            return None
        return [t.to(self.here.device) for t in from_bytes(data)]

    def _phase(
        self,
        ops: tuple[Op, ...],
        shapes: list[tuple[int, ...]],
        kind: torch.dtype,
        direction: int,
        work: Callable[[Op, Any], Tensor | None],
    ) -> None:
        """Work through `ops`; what comes from or goes to other ranks is on its way meanwhile.

        Messages are on the processor, where gloo carries them, and of the embedding's kind.
        """
        rank, device = self.here.rank, self.here.device
        ends = [(op.after, op.before) if direction else (op.before, op.after) for op in ops]
        incoming: dict[int, tuple[Any, Tensor]] = {}
        for i, (op, (origin, _)) in enumerate(zip(ops, ends, strict=True)):
            if origin is not None and origin != rank:
                buffer = torch.empty(shapes[op.microbatch], dtype=kind)
                incoming[i] = (
                    _link(dist.irecv, buffer, origin, tag=2 * op.microbatch + direction),
                    buffer,
                )
        local: dict[int, Tensor | None] = {}
        outgoing = []
        for i, (op, (origin, goal)) in enumerate(zip(ops, ends, strict=True)):
            value = local.pop(op.microbatch, None) if origin == rank else None
            if i in incoming:
                handle, value = incoming.pop(i)
                _link(handle.wait)
                value = value.to(device)
            out = work(op, value)
            if goal == rank:
                local[op.microbatch] = out
            elif goal is not None:
                assert out is not None
                if out.dtype != kind or tuple(out.shape) != tuple(shapes[op.microbatch]):
                    raise ValueError(
                        f"stage {rank}: {op.unit} returns {out.dtype} {tuple(out.shape)} where the "
                        f"embedding returns {kind} {tuple(shapes[op.microbatch])}"
                    )
                out = out.cpu().contiguous()
                outgoing.append(
                    (_link(dist.isend, out, goal, tag=2 * op.microbatch + direction), out)
                )
        for handle, _ in outgoing:
            _link(handle.wait)

    def _agree(self, stage: Stage) -> tuple[float, list[float]]:
        """The barrier before the update; it also tells everyone the loss and the norms."""
        names = _names(self.setting)
        shared = torch.zeros(1 + len(names), dtype=torch.float64)
        shared[0] = stage.loss.double()
        for i, name in enumerate(names):
            if name in stage.units:
                shared[1 + i] = stage.units[name].new_norm
        _link(dist.all_reduce, shared)
        return float(shared[0]), shared[1:].tolist()

    def _mirror_gradients(self) -> list[tuple[Any, Tensor]]:
        """Owners send their clipped gradients to those who keep copies, which will step alike."""
        handles: list[tuple[Any, Tensor]] = []
        stage = self.here
        for tag, name, owner, keeper in self._kept():
            if stage.rank == owner:
                unit = stage.units[name]
                vectors = [unit.gradient().cpu()] if unit.parameters else []
                if (kept := unit.buffers()) is not None:
                    vectors.append(kept)
                for i, vector in enumerate(vectors):
                    handles.append((_link(dist.isend, vector, keeper, tag=tag + i), vector))
            if stage.rank == keeper:
                unit = stage.copies[name]
                at = tag
                if unit.parameters:
                    vector, at = _room(unit), tag + 1
                    _link(dist.recv, vector, owner, tag=tag)
                    unit.take_gradient(vector)
                if (kept := unit.buffers()) is not None:
                    _link(dist.recv, kept, owner, tag=at)
                    unit.new_buffers = kept
        return handles

    def _mirror_weights(self) -> None:
        """Owners send their weights."""
        stage = self.here
        for _, name, owner, keeper in self._kept():
            if stage.rank == owner:
                _send_state({"weights": stage.units[name].weights()}, keeper)
            if stage.rank == keeper:
                unit = stage.copies[name]
                unit.module.load_state_dict(_receive_state(owner)["weights"])

    def _kept(self) -> list[tuple[int, str, int, int]]:
        """Tag, name, owner and keeper of every unit that is copied."""
        kept = copies(self.setting.stages, self.setting.mode, self.setting.tied)
        return [
            (COPIES + 2 * i, name, owner, keeper)
            for i, (name, (owner, keeper)) in enumerate(kept.items())
        ]


def _names(setting: Setting) -> list[str]:
    return [*(str(i) for i in range(setting.stages)), "embed", *([] if setting.tied else ["head"])]


def _room(unit: Unit) -> Tensor:
    """For all parameters in one vector, of the kind that joining them gives."""
    kind = reduce(torch.promote_types, (p.dtype for p in unit.parameters))
    return torch.empty(sum(p.numel() for p in unit.parameters), dtype=kind)


def _send_state(state: dict[str, Any], to: int) -> None:
    data = torch.frombuffer(bytearray(to_bytes(state)), dtype=torch.uint8)
    _link(dist.send, torch.tensor([len(data)]), to)
    _link(dist.send, data, to)


def _receive_state(source: int) -> dict[str, Any]:
    size = torch.zeros(1, dtype=torch.long)
    _link(dist.recv, size, source)
    data = torch.empty(int(size), dtype=torch.uint8)
    _link(dist.recv, data, source)
    return from_bytes(data.numpy().tobytes())
