"""Activations in memory, on a device, or in a file that need not fit there."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from whp.validate import as_frame, as_matrix

__all__ = ["Rows", "open_rows"]

CHUNK = 128  # rows read at a time
POOL = 128  # chunks mixed with each other
KINDS = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype("<u2"),
}


TINY, HUGE = 1e-30, 1e37  # between these squares of scaled rows neither vanish nor overflow


class Rows:
    """Rows of an array, a tensor, or a file read piece by piece; what is read counts, not what the file holds.

    Parameters
    ----------
    array : ndarray, Tensor or None
        All rows, in memory or on a device.
    path, offset, dtype, shape, kind
        Where they are in a file otherwise.
    """

    def __init__(
        self,
        array: Any,
        path: Path | None = None,
        offset: int = 0,
        dtype: Any = None,
        shape: tuple[int, int] = (0, 0),
        kind: str = "",
    ) -> None:
        self.array, self.path, self.offset, self.dtype, self.kind = array, path, offset, dtype, kind
        self.shape = shape if array is None else (array.shape[0], array.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def _read(self, file: Any, start: int, stop: int) -> np.ndarray:
        width = self.shape[1] * self.dtype.itemsize
        raw = os.pread(file.fileno(), (stop - start) * width, self.offset + start * width)
        values = np.frombuffer(raw, self.dtype).reshape(-1, self.shape[1])
        if self.kind == "BF16":  # the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        values = values.astype(np.float32, copy=False)
        # Only some rows are looked at before the training; nan does not fire, and would be counted so.
        if not np.isfinite(values).all():
            bad = start + int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0])
            raise ValueError(f"activations must be finite, got NaN or infinity in row {bad}")
        return values

    @property
    def tensor(self) -> bool:
        """Whether the rows are a torch tensor, which stays where it lives."""
        return hasattr(self.array, "detach")

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Some rows, as float32, in the order asked for."""
        if self.tensor:
            return self.on(rows, "cpu").numpy()
        if self.array is not None:
            return np.asarray(self.array[rows], dtype=np.float32)
        assert self.path is not None
        order = np.argsort(rows, kind="stable")
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        ends = np.flatnonzero(np.diff(rows[order]) != 1) + 1  # runs of neighbours are read at once
        with self.path.open("rb") as file:
            for run in np.split(order, ends):
                if len(run):
                    out[run] = self._read(file, int(rows[run[0]]), int(rows[run[-1]]) + 1)
        return out

    def on(self, rows: np.ndarray, device: Any) -> Any:
        """Some rows as a float32 tensor on a device; those of a tensor are chosen where it lives."""
        import torch

        if self.tensor:
            where = torch.from_numpy(np.asarray(rows)).to(self.array.device)
            return self.array[where].to(device=device, dtype=torch.float32)
        return torch.from_numpy(np.ascontiguousarray(self.take(rows))).to(device)

    def batches(
        self,
        inside: np.ndarray,
        size: int,
        rng: np.random.Generator,
        device: Any = "cpu",
        skip: int = 0,
    ) -> Iterator[Any]:
        """Endless batches of the rows `inside` as tensors, in a new order each time around.

        In memory every order is as likely as any other. From a file pieces of 128 rows come in
        random order, and 128 pieces at a time are mixed. The first `skip` batches are passed over
        without reading them.
        """
        left = np.empty(0, dtype=np.int64)
        for pool in self._pools(inside, rng):
            order = np.concatenate([left, pool])
            whole = len(order) // size
            left = order[whole * size :]
            if skip >= whole:
                skip -= whole
                continue
            order, skip = order[skip * size : whole * size], 0
            if self.array is None:  # neighbours of a pool are read together
                yield from self.on(order, device).split(size)
            else:
                for start in range(0, len(order), size):
                    yield self.on(order[start : start + size], device)

    def _pools(self, inside: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Numbers of rows, as many at a time as are mixed with each other."""
        while True:
            if self.array is not None:
                yield rng.permutation(inside)
                continue
            pieces = np.array_split(inside, max(1, len(inside) // CHUNK))
            places = rng.permutation(len(pieces))
            for start in range(0, len(places), POOL):
                yield rng.permutation(
                    np.concatenate([pieces[i] for i in places[start : start + POOL]])
                )


def open_rows(value: Any) -> Rows:
    """Rows of an array, a tensor, a memory map, or a file.

    npy files, and safetensors with one matrix, are read piece by piece; npz, parquet and csv whole.

    Raises
    ------
    TypeError, ValueError
        If it is not a finite matrix of floats, or the file is not what it says.
    """
    if isinstance(value, str | Path):
        path = Path(value)
        if path.suffix.lower() in (".npy", ".safetensors") or not path.is_file():
            return _from_file(path)
        value = _from_table(path)
    if value is None:
        raise TypeError("activations must be an array of numbers or a file, got None")
    value = as_frame(value)
    _refuse_counts(value)
    shape = getattr(value, "shape", ())
    dtype = getattr(value, "dtype", None)
    if len(shape) == 3:
        raise ValueError(_folded(shape))
    if isinstance(value, np.memmap) and value.filename is not None and value.flags.c_contiguous:
        if value.ndim != 2 or value.dtype.kind != "f":
            raise ValueError(
                f"activations must be a matrix of floats, got {value.dtype} of shape {value.shape}"
            )
        rows = Rows(
            None, Path(value.filename), _place(value), value.dtype, (value.shape[0], value.shape[1])
        )
        if value.mode != "c" and Path(value.filename).is_file():
            some = _sample(rows)
            if np.array_equal(rows.take(some), value[some].astype(np.float32)):
                return rows
        # What was written into a private copy is not in the file, and the file may be another by now.
        value = np.array(value)
    detach = getattr(value, "detach", None)
    if detach is not None:
        return _from_tensor(detach())
    if dtype is not None and getattr(dtype, "kind", "f") in "iub":
        raise TypeError(f"activations must be floats, got {dtype}")
    half = isinstance(value, np.ndarray) and value.dtype == np.float16
    matrix = as_matrix(value, "activations", dtype=np.float32 if half else None)
    _ranged(matrix, float(np.abs(matrix).max()))
    if len(matrix) > 1 and np.ptp(matrix, axis=0).max() == 0:
        raise ValueError("activations must differ from row to row, got equal rows")
    return Rows(matrix)


def _refuse_counts(value: Any) -> None:
    """Ids, labels and places that stand beside activations in a data frame are none of them."""
    kinds = getattr(value, "dtypes", None)
    if kinds is None or not hasattr(value, "columns"):
        return
    counts = [str(name) for name, kind in kinds.items() if getattr(kind, "kind", "f") in "iub"]
    if counts and len(counts) < len(kinds):
        raise TypeError(
            f"activations must be floats, got whole numbers in column {counts[0]!r}: leave it out, or "
            "pass it as groups if it says which text a row is of"
        )


def _place(value: np.memmap) -> int:
    """Where in the file a map begins: that of its first row, which `offset` of a part of a map is not."""
    whole: Any = value._mmap  # type: ignore[attr-defined]
    first = np.frombuffer(whole, np.uint8).ctypes.data
    return value.offset - value.offset % mmap.ALLOCATIONGRANULARITY + value.ctypes.data - first


def _folded(shape: Any) -> str:
    first, second, d = (int(n) for n in shape)
    return (
        f"activations has shape ({first}, {second}, {d}); reshape to ({first * second}, {d}) and "
        f"pass groups=np.repeat(np.arange({first}), {second}) if the first axis is the text; if it is "
        f"the position, groups=np.tile(np.arange({second}), {first})"
    )


def _ranged(matrix: Any, largest: float) -> None:
    if largest and not TINY <= largest <= HUGE:
        raise ValueError(
            f"activations must have a largest entry between {TINY:g} and {HUGE:g}, got "
            f"{largest:g}: give them in another unit"
        )


def _from_tensor(tensor: Any) -> Rows:
    if tensor.ndim != 2 or not tensor.is_floating_point():
        kind = TypeError if tensor.ndim == 2 else ValueError
        raise kind(
            f"activations must be a matrix of floats, got {tensor.dtype} of shape "
            f"{tuple(tensor.shape)}"
        )
    if tensor.layout is not tensor.new_empty(0).to_dense().layout:
        raise TypeError("activations must be dense, got a sparse tensor; pass .to_dense()")
    if not tensor.numel():
        raise ValueError(f"activations must not be empty, got shape {tuple(tensor.shape)}")
    largest = float(tensor.abs().amax())
    if not np.isfinite(largest):
        raise ValueError("activations must be finite, got NaN or infinity")
    _ranged(tensor, largest)
    if len(tensor) > 1 and not bool((tensor != tensor[0]).any()):
        raise ValueError("activations must differ from row to row, got equal rows")
    return Rows(tensor)


def _from_table(path: Path) -> Any:
    from whp.io import Data, read

    try:
        return read([path], {"activations": Data("activations")}, required=["activations"])[
            "activations"
        ]
    except ValueError as error:
        raise ValueError(f"activations: {error}") from error


def _sample(rows: Rows) -> np.ndarray:
    """Look at some rows of a file before hours are spent on it, and say which."""
    if not len(rows) or not rows.shape[1]:
        raise ValueError(f"activations must not be empty, got shape {rows.shape}")
    looked = np.unique(np.linspace(0, len(rows) - 1, 1000).astype(np.int64))
    some = rows.take(looked)
    _ranged(some, float(np.abs(some).max()))
    if len(some) > 1 and np.ptp(some, axis=0).max() == 0:
        raise ValueError("activations must differ from row to row, got equal rows")
    return looked


def _from_file(path: Path) -> Rows:
    if not path.is_file():
        raise ValueError(f"activations: there is no file {path}")
    ending = path.suffix.lower()
    try:
        if ending == ".npy":
            with path.open("rb") as file:
                version = np.lib.format.read_magic(file)
                header = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = header(file)
                offset = file.tell()
            if fortran:
                raise ValueError(
                    "its columns come first (Fortran order); save np.ascontiguousarray(...)"
                )
            kind = ""
        elif ending == ".safetensors":
            shape, dtype, offset, kind = _safetensors(path)
        else:
            raise ValueError("a file of activations ends in .npy or .safetensors")
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:
        raise ValueError(f"activations: {path} cannot be read: {error}") from error
    if len(shape) == 3:
        raise ValueError(_folded(shape))
    if len(shape) != 2 or dtype.kind not in "fu" or (dtype.kind == "u" and kind != "BF16"):
        raise ValueError(
            f"activations: {path} must hold a matrix of floats, got {dtype} of shape {tuple(shape)}"
        )
    if min(shape) < 0:
        raise ValueError(f"activations: {path} has a broken header")
    if offset < 0 or offset + shape[0] * shape[1] * dtype.itemsize > path.stat().st_size:
        raise ValueError(f"activations: {path} is shorter than its header says")
    rows = Rows(None, path, offset, dtype, (int(shape[0]), int(shape[1])), kind)
    _sample(rows)
    return rows


def _safetensors(path: Path) -> tuple[list[int], np.dtype, int, str]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(path.stat().st_size, 100_000_000):
            raise ValueError("its header is broken")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is broken")
    found = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if len(found) != 1:
        raise ValueError(f"it must hold one tensor, found {', '.join(list(found)[:5]) or 'none'}")
    ((name, entry),) = found.items()
    if entry["dtype"] not in KINDS:
        raise ValueError(f"tensor {name!r} must be one of {', '.join(KINDS)}, got {entry['dtype']}")
    shape = [int(v) for v in entry["shape"]]
    if len(shape) == 2 and min(shape) < 0:
        raise ValueError("its header is broken")
    return shape, KINDS[entry["dtype"]], 8 + length + int(entry["data_offsets"][0]), entry["dtype"]
