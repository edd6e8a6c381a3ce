"""Training state as one stream of bytes with a manifest, so that any member can copy any part of it.

Tensors become 64-byte aligned extents, in the order of their names; tensors that share storage are saved once and tied again when
they are loaded. Plain data (step, learning rates, states of random generators) become JSON. Whatever is neither is refused: nothing
is pickled, since what comes back from a socket or a disk is read by a process that trusts it.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whp.distributed._in_memory_fault_tolerance.errors import StateMismatchError

__all__ = ["Extent", "Flat", "Place", "compare", "flatten", "from_plain", "to_plain", "unflatten"]

ALIGN = 64
BUCKET = 16 << 20
LINE = 64
TAG = "%"
Place = tuple[int, int, int]  # extent, and where in the stream it begins and ends


_compare = ctypes.CDLL(None).memcmp
_compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


def _equal(one: int, two: int, size: int) -> bool:
    """Whether the bytes at two addresses are the same; at the speed of memory and without the interpreter's lock."""
    return _compare(one, two, size) == 0


@dataclass(eq=False)
class Extent:
    """Bytes of the stream that come from one storage.

    Parameters
    ----------
    offset, size : int
        In the stream.
    source : Tensor
        One-dimensional uint8 view of the storage.
    tensor : Tensor
        The tensor whose version counter tells whether it was changed.
    name : str
        Its name; of several in one storage the first.
    """

    offset: int
    size: int
    source: Tensor = field(repr=False)
    tensor: Tensor = field(repr=False)
    name: str = ""


@dataclass(eq=False)
class Flat:
    """State taken apart.

    Parameters
    ----------
    extents : list of Extent
        What to copy.
    manifest : list of list
        Of each tensor: name, dtype, shape, offset; then, if it shares storage or has gaps, strides and the storage's offset and
        size.
    plain : object
        The structure, JSON-ready, with ``{"%": "tensor", "at": i}`` for tensor i of the manifest.
    size : int
        Length of the stream.
    """

    extents: list[Extent]
    manifest: list[list[Any]]
    plain: Any
    size: int
    _pinned: Any = None
    _sides: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Hash of the manifest."""
        return hashlib.sha256(json.dumps([self.manifest, self.size]).encode()).hexdigest()[:32]

    def copy_range(
        self,
        start: int,
        into: np.ndarray,
        skip: set[int] | None = None,
        only: set[int] | None = None,
    ) -> None:
        """Copy the bytes of the stream from `start` on; `skip` and `only` choose extents by their place."""
        stop = start + len(into)
        for i, extent in enumerate(self.extents):
            if (skip and i in skip) or (only is not None and i not in only):
                continue
            a, b = max(start, extent.offset), min(stop, extent.offset + extent.size)
            if a < b:
                piece = extent.source[a - extent.offset : b - extent.offset]
                if piece.device.type == "cpu":
                    into[a - start : b - start] = piece.numpy()  # one memcpy, without the GIL
                else:
                    self._from_device(piece, into[a - start : b - start])

    def same_range(self, start: int, other: np.ndarray, skip: set[int]) -> bool:
        """Whether bytes of the stream from `start` on are those of `other`, but for the extents in `skip` and for gaps."""
        stop = start + len(other)
        for i, extent in enumerate(self.extents):
            a, b = max(start, extent.offset), min(stop, extent.offset + extent.size)
            if i in skip or a >= b:
                continue
            piece = extent.source[a - extent.offset : b - extent.offset]
            theirs = other[a - start : b - start]
            if piece.device.type == "cpu":
                if not _equal(piece.data_ptr(), theirs.ctypes.data, b - a):
                    return False
                continue
            again = np.empty(min(BUCKET, b - a), dtype=np.uint8)
            for at in range(0, b - a, BUCKET):
                part = again[: min(BUCKET, b - a - at)]
                self._from_device(piece[at : at + len(part)], part)
                if not np.array_equal(part, theirs[at : at + len(part)]):
                    return False
        return True

    def places(self, start: int, length: int, skip: set[int], most: int = 256) -> list[Place]:
        """Places to look at: the middle of every extent, and heads and tails, drawn evenly where that makes more than `most`."""
        found: list[Place] = []
        more: list[Place] = []
        for i, extent in enumerate(self.extents):
            a, b = max(start, extent.offset), min(start + length, extent.offset + extent.size)
            if i in skip or a >= b:
                continue
            middle = max(a, (a + b - LINE) // 2)
            found.append((i, middle, min(b, middle + LINE)))
            ends = sorted({a, max(a, b - LINE)} - {middle})
            more += [(i, first, min(b, first + LINE)) for first in ends]
        room = max(0, most - len(found))
        if len(more) > room:
            chosen = np.linspace(0, len(more) - 1, room).astype(int)
            more = [more[int(i)] for i in chosen]
        return found + more

    def settle(self) -> None:
        """Wait for what the caller's streams have yet to write: the copy's own streams do not wait for them."""
        for device in {e.source.device for e in self.extents if e.source.device.type == "cuda"}:
            torch.cuda.current_stream(device).synchronize()

    def look(self, places: list[Place]) -> list[bytes]:
        """Bytes at these places, one transfer a device."""
        by_device: dict[str, list[int]] = {}
        seen = [b""] * len(places)
        for n, (i, a, b) in enumerate(places):
            extent = self.extents[i]
            if extent.source.device.type == "cpu":
                seen[n] = ctypes.string_at(extent.source.data_ptr() + a - extent.offset, b - a)
            else:
                by_device.setdefault(str(extent.source.device), []).append(n)
        for numbers in by_device.values():
            pieces = []
            for n in numbers:
                i, a, b = places[n]
                offset = self.extents[i].offset
                pieces.append(self.extents[i].source[a - offset : b - offset])
            whole, at = torch.cat(pieces).cpu().numpy(), 0
            for n in numbers:
                size = places[n][2] - places[n][1]
                seen[n] = whole[at : at + size].tobytes()
                at += size
        return seen

    def _from_device(self, piece: Tensor, into: np.ndarray) -> None:
        """Through pinned memory, on a stream of its device's own, so that the copy and the next step overlap."""
        if self._pinned is None:
            self._pinned = torch.empty(BUCKET, dtype=torch.uint8, pin_memory=True)
        device = str(piece.device)
        if device not in self._sides:
            self._sides[device] = torch.cuda.Stream(piece.device)
        side = self._sides[device]  # another device's would be waited for in vain
        with torch.cuda.stream(side):
            for at in range(0, len(piece), BUCKET):
                part = piece[at : at + BUCKET]
                self._pinned[: len(part)].copy_(part, non_blocking=True)
                side.synchronize()
                into[at : at + len(part)] = self._pinned[: len(part)].numpy()

    def clear_gaps(self, start: int, into: np.ndarray) -> None:
        """Zero what lies between and after the extents."""
        stop, end = start + len(into), 0
        for extent in [
            *self.extents,
            Extent(max(self.size, stop), 0, torch.empty(0), torch.empty(0)),
        ]:
            a, b = max(start, end), min(stop, extent.offset)
            if a < b:
                into[a - start : b - start] = 0
            end = extent.offset + extent.size

    def stream(self) -> np.ndarray:
        """The whole stream."""
        whole = np.zeros(self.size, dtype=np.uint8)
        self.copy_range(0, whole)  # gaps are zero already
        return whole


def to_plain(value: Any, name: str, tensors: list[tuple[str, Tensor]] | None = None) -> Any:
    """JSON-ready form of plain data; tensors are collected in `tensors` and replaced by their place.

    Raises
    ------
    TypeError
        If something is neither a tensor nor plain data; the message has its name.
    """
    if type(value) in (bool, int, float, str, type(None)):
        return value
    if isinstance(value, Tensor):
        if tensors is None:
            raise TypeError(f"{name} must be plain data, got a tensor")
        tensors.append((name, value))
        return {TAG: "tensor", "at": len(tensors) - 1}
    if isinstance(value, bytes | bytearray):
        return {TAG: "bytes", "is": base64.b64encode(value).decode()}
    if isinstance(value, np.generic):
        return to_plain(np.asarray(value), name, tensors) | {"scalar": True}
    if isinstance(value, np.ndarray):
        if not isinstance(value, np.memmap) and type(value) is not np.ndarray:
            # A mask, the sides of a matrix: what makes the class more than its numbers would be lost.
            raise TypeError(f"{name} must be plain data, got a {type(value).__name__}")
        if value.dtype.hasobject or value.dtype.names:
            raise TypeError(f"{name} must be plain data, got an array of {value.dtype}")
        raw = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {TAG: "array", "is": raw, "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, Mapping):
        kind = "ordered" if isinstance(value, OrderedDict) else "dict"
        if kind == "dict" and all(isinstance(k, str) for k in value) and TAG not in value:
            return {k: to_plain(v, f"{name}.{k}", tensors) for k, v in value.items()}
        pairs = [
            [to_plain(k, f"{name} (a key)"), to_plain(v, f"{name}.{k}", tensors)]
            for k, v in value.items()
        ]
        return {TAG: kind, "is": pairs}
    if isinstance(value, list | tuple | torch.Size):
        if type(value) not in (list, tuple, torch.Size):
            raise TypeError(f"{name} must be a plain list or tuple, got {type(value).__name__}")
        items = [to_plain(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
        return items if isinstance(value, list) else {TAG: "tuple", "is": items}
    raise TypeError(
        f"{name} must be a tensor or plain data (None, bool, int, float, str, bytes, array, list, tuple, dict), "
        f"got {type(value).__module__}.{type(value).__name__}; give a (getter, setter) pair that turns it into these"
    )


def from_plain(value: Any, tensors: list[Tensor] | None = None) -> Any:
    """What :func:`to_plain` was given."""
    if isinstance(value, list):
        return [from_plain(v, tensors) for v in value]
    if not isinstance(value, dict):
        return value
    kind = value.get(TAG)
    if kind is None:
        return {k: from_plain(v, tensors) for k, v in value.items()}
    if kind == "tensor":
        if tensors is None:
            raise ValueError("plain data must not refer to a tensor here")
        return tensors[value["at"]]
    if kind == "bytes":
        return base64.b64decode(value["is"])
    if kind == "array":
        array = (
            np.frombuffer(base64.b64decode(value["is"]), dtype=np.dtype(value["dtype"]))
            .reshape(value["shape"])
            .copy()
        )
        return array[()] if value.get("scalar") else array
    if kind == "tuple":
        return tuple(from_plain(v, tensors) for v in value["is"])
    if kind in ("dict", "ordered"):
        pairs = [(from_plain(k), from_plain(v, tensors)) for k, v in value["is"]]
        return OrderedDict(pairs) if kind == "ordered" else dict(pairs)
    raise ValueError(f"plain data has an unknown tag {kind!r}")


def _local(name: str, tensor: Tensor) -> Tensor:
    if hasattr(tensor, "to_local"):  # a DTensor's own part
        tensor = tensor.to_local()  # type: ignore[attr-defined]
    if tensor.layout is not torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor, got layout {tensor.layout}; save its indices and values instead"
        )
    if tensor.is_quantized:
        raise TypeError(
            f"{name} must not be quantised; save its integer representation, scales and zero points instead"
        )
    if tensor.device.type == "meta":
        raise TypeError(f"{name} is on the meta device and has no values to save")
    if tensor.is_conj() or tensor.is_neg():
        raise TypeError(
            f"{name} is a conjugate or negative view; save what resolve_conj().resolve_neg() gives"
        )
    return tensor.detach()


def _raw(tensor: Tensor) -> Tensor:
    """One-dimensional uint8 view of a contiguous tensor."""
    return (
        torch.view_as_real(tensor).view(-1).view(torch.uint8)
        if tensor.is_complex()
        else tensor.reshape(-1).view(torch.uint8)
    )


def _whole(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(tensor.untyped_storage())  # type: ignore[call-overload]


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def flatten(state: Mapping[str, Any]) -> Flat:
    """Take plain data and tensors apart.

    Parameters
    ----------
    state : mapping of str to object
        Nested dicts, lists and tuples of tensors and plain data, such as state dicts.

    Raises
    ------
    TypeError
        If something is neither a tensor nor plain data, or is a tensor that has no bytes of its own; the message has its name.
    """
    found: list[tuple[str, Tensor]] = []
    plain = {key: to_plain(state[key], str(key), found) for key in sorted(state)}
    tensors = [(name, tensor, _local(name, tensor)) for name, tensor in found]
    shared: dict[tuple[str, int], int] = {}
    widest: dict[
        tuple[str, int], Tensor
    ] = {}  # storages may begin at one address and be of two lengths
    for _, _, local in tensors:
        if local.numel():
            key = (str(local.device), local.untyped_storage().data_ptr())
            shared[key] = shared.get(key, 0) + 1
            known = widest.setdefault(key, local)
            if local.untyped_storage().nbytes() > known.untyped_storage().nbytes():
                widest[key] = local
    manifest: list[list[Any]] = [[] for _ in tensors]
    extents: list[Extent] = []
    placed: dict[tuple[str, int], int] = {}
    end = 0
    for i in sorted(range(len(tensors)), key=lambda i: (tensors[i][0], i)):
        name, tensor, local = tensors[i]
        entry: list[Any] = [name, _dtype(local), list(local.shape)]
        if local.numel() == 0:
            manifest[i] = [*entry, 0]
            continue
        key = (str(local.device), local.untyped_storage().data_ptr())
        if local.is_contiguous() and shared[key] == 1:
            source = _raw(local)
            manifest[i] = [*entry, end]
            extents.append(Extent(end, len(source), source, tensor, name))
            end += -(-len(source) // ALIGN) * ALIGN
            continue
        if key not in placed:
            source = _whole(widest[key])
            placed[key] = end
            extents.append(Extent(end, len(source), source, tensor, name))
            end += -(-len(source) // ALIGN) * ALIGN
        offset = placed[key] + local.storage_offset() * local.element_size()
        manifest[i] = [
            *entry,
            offset,
            list(local.stride()),
            placed[key],
            widest[key].untyped_storage().nbytes(),
        ]
    return Flat(extents, manifest, plain, end)


def unflatten(stream: np.ndarray, manifest: list[list[Any]], plain: Any) -> dict[str, Any]:
    """State from its stream; tensors that shared storage do again."""
    base = torch.from_numpy(stream)
    storages: dict[int, Tensor] = {}
    tensors = []
    for _, kind, shape, offset, *shared in manifest:
        dtype = getattr(torch, kind)
        if 0 in shape:
            tensors.append(torch.empty(shape, dtype=dtype))
        elif not shared:
            size = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            tensors.append(base[offset : offset + size].clone().view(dtype).view(shape))
        else:
            steps, start, size = shared
            if start not in storages:
                storages[start] = base[start : start + size].clone()
            reach = 1 + sum((n - 1) * s for n, s in zip(shape, steps, strict=True))
            first = offset - start
            flat = storages[start][first : first + reach * dtype.itemsize].view(dtype)
            tensors.append(flat.as_strided(shape, steps))
    return from_plain(plain, tensors)


def compare(saved: list[list[Any]], present: list[list[Any]], lazy: tuple[str, ...] = ()) -> None:
    """Refuse a saved state whose tensors are not those that are present.

    Parameters
    ----------
    saved, present : manifests
    lazy : tuple of str
        Beginnings of names that may be saved and not yet present, such as an optimizer's moments.

    Raises
    ------
    StateMismatchError
        With the first three names that differ.
    """
    there = {entry[0]: entry[1:3] for entry in saved}
    here = {entry[0]: entry[1:3] for entry in present}
    faults = []
    for name in sorted(there.keys() | here.keys()):
        if name not in here:
            if not name.startswith(lazy or ("\0",)):
                faults.append(f"{name} is saved and not present")
        elif name not in there:
            faults.append(f"{name} is present and not saved")
        elif there[name] != here[name]:
            faults.append(f"{name} is {_shown(there[name])} saved and {_shown(here[name])} present")
    if faults:
        more = f", and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise StateMismatchError(f"the saved state is another's: {'; '.join(faults[:3])}{more}")


def _shown(entry: list[Any]) -> str:
    return f"{entry[0]} {tuple(entry[1])}"
