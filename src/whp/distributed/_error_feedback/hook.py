"""EF21 as a communication hook of DistributedDataParallel."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from whp.certificate import Certificate
from whp.distributed._error_feedback import theorems
from whp.distributed._error_feedback.compressors import (
    BlockTopK,
    Compressor,
    Identity,
    NaturalDeterministic,
    TopK,
)
from whp.validate import as_choice, as_int, as_real

__all__ = ["EF21State", "ef21_hook"]

# what certificates and reports are made of
RECORD = (
    "_contraction",
    "_looked",
    "_drift",
    "_resynced",
    "_alpha",
    "skipped",
    "bytes_sent",
    "bytes_dense",
)
EXACT = 1 << 24  # whole numbers below it are exact in float32


class EF21State:
    """What a rank remembers between steps: its shift and the average of all, for each parameter.

    Parameters
    ----------
    model : Module
        The one that DistributedDataParallel wraps; names of its parameters name the state.
    compressor : Compressor
        Deterministic; by default ``BlockTopK(0.01)``.
    init : {"dense", "compress"}
        First shifts: the first gradients, all-reduced as usual, or what is compressed of them.
    dense_below : int
        Parameters with fewer entries are all-reduced as they are.
    momentum : float, optional
        η of v ← (1 − η) v + η · gradient, compressed in the gradient's place; helps with noisy
        gradients.
    resync_every : int
        Steps between averaging the shifts anew, against rounding; one dense all-reduce.
    check_every : int
        Steps between measurements of the contraction.
    process_group : ProcessGroup, optional
        By default the world's.
    scaler : GradScaler, optional
        The one that scales the loss. Gradients are unscaled inside and scaled again on the way out;
        where one overflows on any rank, what comes out is infinite, so that the scaler skips the
        step and lowers its scale, and the state stays as it was.

    Attributes
    ----------
    loss_scale : float
        What gradients are multiplied by, where that is done without a `scaler`: set it before each
        backward pass. Other than 1, overflow comes out as it does with a scaler.
    skipped : int
        Buckets in which a gradient was not finite.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        compressor: Compressor | None = None,
        init: str = "dense",
        dense_below: int = 1024,
        momentum: float | None = None,
        resync_every: int = 1000,
        check_every: int = 100,
        process_group: Any = None,
        scaler: Any = None,
    ) -> None:
        self.compressor = BlockTopK(0.01) if compressor is None else compressor
        if not isinstance(self.compressor, Compressor):
            raise TypeError(f"compressor must be a Compressor, got {type(compressor).__name__}")
        if not self.compressor.deterministic:
            raise ValueError(
                "compressor must be deterministic: TopK, BlockTopK, NaturalDeterministic or "
                "Identity"
            )
        if scaler is not None and not hasattr(scaler, "get_scale"):
            raise TypeError(f"scaler must be a GradScaler, got {type(scaler).__name__}")
        self.init = as_choice(init, "init", ("dense", "compress"))
        self.dense_below = as_int(dense_below, "dense_below", low=0)
        self.momentum = None if momentum is None else as_real(momentum, "momentum", low=0, high=1)
        self.resync_every = as_int(resync_every, "resync_every", low=1)
        self.check_every = as_int(check_every, "check_every", low=1)
        self.group = process_group
        self.scaler, self.loss_scale = scaler, 1.0
        inner = getattr(model, "module", model)
        self._kept = dict(inner.named_parameters())  # ids stay theirs
        self._names = {id(p): name for name, p in self._kept.items()}
        self._local: dict[str, torch.Tensor] = {}
        self._average: dict[str, torch.Tensor] = {}
        self._velocity: dict[str, torch.Tensor] = {}
        self.step = self.skipped = self.bytes_sent = self.bytes_dense = 0
        self._contraction: float | None = None
        self._looked = self._resynced = 0
        self._drift: float | None = None
        self._alpha = 1.0
        self._met = False

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k != "_names"} | {"_met": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # a copy's parameters are other objects; copied together with their model they are its own
        self._names = {id(p): name for name, p in self._kept.items()}

    def _name(self, parameter: torch.nn.Parameter) -> str:
        if id(parameter) not in self._names:
            raise RuntimeError(
                "this EF21State is of another model: make one for this model and load state_dict "
                "into it, or copy state and model together"
            )
        return self._names[id(parameter)]

    def state_dict(self) -> dict[str, Any]:
        """This rank's state, and what its certificates rest on: tensors, numbers and strings."""
        return {
            "world_size": dist.get_world_size(self.group),
            "rank": dist.get_rank(self.group),
            "step": self.step,
            "compressor": repr(self.compressor),
            "local": {k: v.clone() for k, v in self._local.items()},
            "average": {k: v.clone() for k, v in self._average.items()},
            "velocity": {k: v.clone() for k, v in self._velocity.items()},
            "record": self._record(),
        }

    def load_state_dict(self, state: dict[str, Any], reset: bool = False) -> None:
        """Continue from what this rank saved; every rank has to, at the same step.

        Parameters
        ----------
        state : dict
            What :meth:`state_dict` returned.
        reset : bool
            Start with new shifts where the saved ones do not fit.

        Raises
        ------
        ValueError
            If it is another world size's, rank's, compressor's or model's.
        """
        mine = {
            "world size": (state["world_size"], dist.get_world_size(self.group)),
            "rank": (state["rank"], dist.get_rank(self.group)),
            "compressor": (state["compressor"], repr(self.compressor)),
        }
        parts = ("local", "average", "velocity")
        for name, (saved, here) in mine.items():
            if saved != here:
                if reset:
                    self._local, self._average, self._velocity = {}, {}, {}
                    self._met = False
                    if state["compressor"] == repr(self.compressor):
                        self._recall(state)  # of the same compressor
                    return
                raise ValueError(f"EF21 state saved for {name} {saved}, got {here}; use reset=True")
        sizes = {name: p.numel() for name, p in self._kept.items()}
        for name, tensor in (pair for part in parts for pair in state[part].items()):
            if sizes.get(name) != tensor.numel():
                raise ValueError(
                    f"EF21 state holds {name!r} of {tensor.numel()} entries, the model has "
                    f"{sizes.get(name, 'none')}"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise ValueError(f"EF21 state of {name!r} holds NaN or infinity")
        if lost := sorted(set(state["local"]) - set(state["average"])):
            raise ValueError(f"EF21 state holds a shift of {lost[0]!r}, and no average")
        self.step = int(state["step"])
        self._met = False
        self._recall(state)
        self._local, self._average, self._velocity = (
            {
                # where the parameter is: what is loaded may lie on the device it was saved from
                k: v.to(self._kept[k].device, torch.float32, copy=True)
                for k, v in state[part].items()
            }
            for part in parts
        )
        if self.momentum is None:
            self._velocity = {}  # it would grow old, and be saved again

    def _record(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in RECORD}

    def _recall(self, state: dict[str, Any]) -> None:
        """What was seen before it was saved, so that a certificate that failed does not hold now."""
        for name, value in state.get("record", {}).items():
            if name in RECORD:
                setattr(self, name, value)

    def _meet(self, device: torch.device) -> None:
        """See that all ranks begin from the same step and settings, or replicas would part in silence.

        Messages of other lengths, or averages at other steps, end a process or wait for ever.
        """
        self._met = True
        settings = (self.compressor, self.init, self.dense_below, self.momentum, self.resync_every)
        code = zlib.crc32(repr(settings).encode())
        mine = torch.tensor([self.step, len(self._local), code], device=device)
        everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size(self.group))]
        dist.all_gather(everyone, mine, group=self.group)
        found = [tuple(int(v) for v in other) for other in everyone]
        if len({code for *_, code in found}) > 1:
            raise RuntimeError(
                f"ranks have EF21 states of different settings, this one {settings}: compressor, "
                "init, dense_below, momentum and resync_every must be the same on every rank"
            )
        if len(set(found)) > 1:
            raise RuntimeError(apart([step for step, *_ in found]))

    def report(self) -> dict[str, Any]:
        """How it goes: steps, bytes, what was skipped, and the certificates."""
        return {
            "steps": self.step,
            "bytes_sent": self.bytes_sent,
            "bytes_dense": self.bytes_dense,
            "share_of_dense": self.bytes_sent / self.bytes_dense if self.bytes_dense else 1.0,
            "skipped": self.skipped,
            "alpha": self._alpha,
            "certificates": self.certificates,
        }

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """``contraction`` and ``invariant``, of the steps that were looked at.

        Neither says anything of the steps of the optimizer: the hook sees gradients only. The bound
        of the mean gradient is one of x − γg, without momentum, decay, clipping or Adam; see
        :func:`ef21`.
        """
        return (
            theorems.contraction(self._contraction, self._alpha, self._looked),
            theorems.invariant(self._drift, self._resynced),
        )

    @property
    def scale(self) -> float:
        """What gradients are multiplied by now."""
        return self.loss_scale if self.scaler is None else float(self.scaler.get_scale())

    def _targets(self, items: list[tuple[str, torch.Tensor]], scale: float) -> list[torch.Tensor]:
        """What is to be sent, in float32: unscaled gradients, or their running means."""
        targets = []
        for name, gradient in items:
            g = gradient.float() if scale == 1.0 else gradient.float() / scale
            old = self._velocity.get(name)
            targets.append(
                g if self.momentum is None or old is None else torch.lerp(old, g, self.momentum)
            )
        return targets

    def _begin(self, items: list[tuple[str, torch.Tensor]], targets: list[torch.Tensor]) -> bool:
        """First shifts, by one dense all-reduce; whether all was finite."""
        size = dist.get_world_size(self.group)
        whole = torch.cat(targets)
        total = whole.clone()
        dist.all_reduce(total, group=self.group)
        self.bytes_sent += 4 * total.numel()
        # a sum is not finite if a term is not, and is the same everywhere
        if not bool(torch.isfinite(total).all()):
            return False
        lengths = [t.numel() for t in targets]
        for (name, _), own, average in zip(
            items, whole.split(lengths), (total / size).split(lengths), strict=True
        ):
            self._local[name], self._average[name] = own.clone(), average.clone()
        return True

    def _resync(self, names: list[str]) -> None:
        """Average the shifts anew, and note how far rounding had taken the average of any rank."""
        own = torch.cat([self._local[name] for name in names])
        # shifts of ranks that differ cancel: the average may be 0, and its rounding is theirs
        total = torch.cat([own, own.norm()[None]])
        dist.all_reduce(total, group=self.group)
        total /= dist.get_world_size(self.group)
        mean, norm = total[:-1], total[-1]
        old = torch.cat([self._average[name] for name in names])
        apart_by = ((old - mean).norm() / norm.clamp_min(1e-30))[None]
        dist.all_reduce(apart_by, op=dist.ReduceOp.MAX, group=self.group)
        self.bytes_sent += 4 * (total.numel() + 1)
        off = float(apart_by)
        self._drift, self._resynced = worse(off, self._drift), self._resynced + 1
        for name, part in zip(
            names, mean.split([self._local[name].numel() for name in names]), strict=True
        ):
            self._average[name] = part.clone()

    def _measure(
        self, delta: torch.Tensor, values: torch.Tensor, indices: torch.Tensor | None
    ) -> None:
        seen = contraction_of(delta, values, indices)
        if seen is not None:
            self._contraction = worse(seen, self._contraction)


def worse(seen: float, before: float | None) -> float:
    """The larger one; what is no number is as large as can be."""
    return math.inf if math.isnan(seen) else max(seen, before or 0.0)


def apart(steps: list[int]) -> str:
    """What to say when ranks are not at one step."""
    return (
        f"ranks hold EF21 state of different steps or parameters, {steps}: load the checkpoints of "
        "one step on every rank, and the model's with them"
    )


def contraction_of(
    delta: torch.Tensor, values: torch.Tensor, indices: torch.Tensor | None
) -> float | None:
    """‖C(v) − v‖²/‖v‖² of what is sent of `delta`; None where 0 is sent for 0, or it is not finite."""
    size = float(delta.double().square().sum())
    if not np.isfinite(size):
        return None
    rest = delta - values if indices is None else delta.index_add(0, indices, -values)
    left = float(rest.double().square().sum())
    return left / size if size > 0 else None if left == 0 else math.inf


# DistributedDataParallel asks for these names, and for no annotation that is a string.
def ef21_hook(state, bucket):
    """Send compressed differences of gradients: ``ddp.register_comm_hook(state, ef21_hook)``.

    All replicas stay equal to the last bit: messages are added in the order of ranks, by every
    rank. Where a gradient of any rank is not finite, the state stays as it was on all ranks; what
    comes out is the last average, or infinity where the loss is scaled.

    Parameters
    ----------
    state : EF21State
    bucket : torch.distributed.GradBucket

    Returns
    -------
    Future of Tensor
        The bucket, filled with the averages.
    """
    if bucket.buffer().is_sparse:
        raise TypeError("EF21 needs dense gradients: leave out sparse=True of the embedding")
    size = dist.get_world_size(state.group)
    items = [
        (state._name(p), g.reshape(-1))
        for p, g in zip(bucket.parameters(), bucket.gradients(), strict=True)
    ]
    small = [(name, g) for name, g in items if g.numel() < state.dense_below]
    large = [(name, g) for name, g in items if g.numel() >= state.dense_below]
    if not state._met:
        state._meet(bucket.buffer().device)
    scale = state.scale
    # a scaler that is switched off skips no step: infinity would go into the model
    watched = state.scaler is not None and getattr(state.scaler, "is_enabled", lambda: True)()
    scaled = scale != 1.0 or watched
    targets, dense = state._targets(large, scale), [g.float() / scale for _, g in small]
    buffer, last = bucket.buffer(), bucket.is_last()
    state.bytes_dense += buffer.element_size() * buffer.numel()
    finite, begun = True, False
    if new := [pair for pair in zip(large, targets, strict=True) if pair[0][0] not in state._local]:
        if state.init == "dense":
            begun = finite = state._begin([item for item, _ in new], [target for _, target in new])
        for (name, g), _ in new if not begun else ():
            state._local[name], state._average[name] = (
                torch.zeros_like(g, dtype=torch.float32) for _ in range(2)
            )
    elif large and state.step and state.step % state.resync_every == 0:
        state._resync([name for name, _ in large])
    messages, looks = [], state.step % state.check_every == 0 and not begun
    state._looked += int(looks and last and bool(large))
    for (name, g), target in zip(large, targets, strict=True):
        state._alpha = min(state._alpha, state.compressor.alpha(g.numel()))
        values, indices, good = _difference(state.compressor, target, state._local[name])
        finite = finite and good and bool(torch.isfinite(values).all())
        messages.append((values, indices))
        if looks and good:
            state._measure(target - state._local[name], values, indices)
    finite = finite and all(bool(torch.isfinite(g).all()) for g in dense)
    flag = torch.tensor([float(state.step % EXACT), 0.0 if finite else 1.0], device=buffer.device)
    parts = (
        [v for v, _ in messages]
        + [i.int().view(torch.float32) for _, i in messages if i is not None]
        + [*dense, flag]
    )
    lengths = [part.numel() for part in parts]
    sent = torch.cat(parts)
    state.bytes_sent += 4 * sent.numel()
    received = torch.empty(size * sent.numel(), device=sent.device)
    # the newer name of the same
    gather = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
    work = gather(received, sent, group=state.group, async_op=True)
    assert work is not None

    def finish(_: Any) -> torch.Tensor:
        rows = received.view(size, -1)
        if bool((rows[:, -2] != rows[0, -2]).any()):
            raise RuntimeError(apart([int(step) for step in rows[:, -2]]))
        clean = bool((rows[:, -1] == 0).all())
        if clean:
            for rank in range(size):
                pieces = list(rows[rank].split(lengths))
                own, codes = rank == dist.get_rank(state.group), iter(pieces[len(messages) :])
                for (name, _), (_, indices), values in zip(large, messages, pieces, strict=False):
                    chosen = None if indices is None else next(codes).view(torch.int32).long()
                    _add(state._average[name], chosen, values / size)
                    if own:
                        _add(state._local[name], chosen, values)
                for (name, _), values in zip(small, codes, strict=False):
                    before = 0.0 if rank == 0 else state._average[name]
                    state._average[name] = before + values / size
            if state.momentum is not None:
                state._velocity.update(
                    {name: target.clone() for (name, _), target in zip(large, targets, strict=True)}
                )
        else:
            state.skipped += 1
            for (name, _), _ in new:  # begun anew at the next step
                state._local.pop(name, None)
                state._average.pop(name, None)
        for name, g in items:
            average = state._average.get(name)
            if scaled and not clean:
                g.fill_(float("inf"))  # a scaler looks for this
            elif average is None:
                g.zero_()
            else:
                g.copy_(average if scale == 1.0 else average * scale)
        state.step += int(last)
        return buffer

    return work.get_future().then(lambda future: finish(future.wait()))


def _add(to: torch.Tensor, indices: torch.Tensor | None, values: torch.Tensor) -> None:
    if indices is None:
        to.add_(values)
    else:
        to.index_add_(0, indices, values)


def _difference(
    compressor: Compressor, target: torch.Tensor, shift: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor | None, bool]:
    """Values and indices of C(target − shift), and whether all of it was finite."""
    target = target.detach()
    if target.device.type == "cpu":
        values, indices, good = compressor.difference(target.numpy(), shift.numpy())
        d = target.numel()
        expected = d if indices is None else compressor.count(d)
        if values.shape != (expected,) or (indices is not None and indices.shape != (expected,)):
            raise ValueError(
                f"compressor {compressor!r} sends {values.size} values of {d} where {expected} are "
                "expected: messages must be equally long on every worker"
            )
        return (
            torch.from_numpy(values.astype(np.float32, copy=False)),
            None if indices is None else torch.from_numpy(indices),
            good,
        )
    delta = target - shift
    if type(compressor) is NaturalDeterministic:
        mantissa, exponent = torch.frexp(delta)
        exponent = torch.where(mantissa.abs() >= 0.75, exponent, exponent - 1)
        return torch.ldexp(mantissa.sign(), exponent), None, bool(torch.isfinite(delta).all())
    chosen = _on_device(compressor, delta)
    return delta[chosen] if chosen is not None else delta, chosen, bool(torch.isfinite(delta).all())


def _on_device(compressor: Compressor, delta: torch.Tensor) -> torch.Tensor | None:
    """What the compiled loops choose, by sorting: a stable sort puts the first of equals first."""
    kind = type(compressor)
    if kind is Identity:
        return None
    if isinstance(compressor, TopK) and kind is TopK:
        return (
            delta.abs()
            .sort(descending=True, stable=True)
            .indices[: compressor.count(delta.numel())]
            .sort()
            .values
        )
    if isinstance(compressor, BlockTopK) and kind is BlockTopK:
        whole, k, rest, last = compressor.plan(delta.numel())
        size, cut = delta.abs(), whole * compressor.block
        inside = (
            size[:cut]
            .view(whole, compressor.block)
            .sort(dim=1, descending=True, stable=True)
            .indices[:, :k]
        )
        starts = torch.arange(0, cut, compressor.block, device=delta.device)[:, None]
        tail = cut + size[cut:].sort(descending=True, stable=True).indices[:last]
        return (
            torch.cat([(inside + starts).reshape(-1), tail])
            if rest
            else (inside + starts).reshape(-1)
        )
    raise TypeError(
        f"{compressor!r} works on the CPU only; on this device take TopK, BlockTopK, Identity"
    )
