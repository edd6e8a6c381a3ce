"""A buffer in shared memory that outlives whoever writes it: plain files in a memory file system, never Python's own segments.

``multiprocessing.shared_memory`` unlinks a segment when its creator is killed, and again when somebody who merely attached ends.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import zlib
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup

__all__ = ["Mark", "Slot", "State", "checksums", "room_for", "view_of"]

MIB = 1 << 20


class State(StrEnum):
    """What a buffer holds."""

    EMPTY = "empty"
    DIRTY = "dirty"
    COPIED = "copied"
    ENCODED = "encoded"
    COMMITTED = "committed"

    @property
    def whole(self) -> bool:
        """Whether a version can be restored from it."""
        return self in (State.ENCODED, State.COMMITTED)


def room_for(directory: Path, count: int, size: int) -> None:
    """Refuse to start where the buffers would not fit: a full memory file system kills with SIGBUS.

    Raises
    ------
    MemoryError
        If they do not; the message has both numbers.
    """
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    if count * size > free:
        raise MemoryError(
            f"{directory} has {free / MIB:.0f} MB free, {count} buffers of {size / MIB:.0f} MB needed; set smp_dir="
        )


def checksums(data: np.ndarray, parts: int) -> list[int]:
    """CRC32 of each of equally many bytes."""
    size = len(data) // parts
    return [zlib.crc32(data[i * size : (i + 1) * size].data) for i in range(parts)]


def view_of(path: str | Path, size: int, *, create: bool = False) -> tuple[mmap.mmap, np.ndarray]:
    """A file as bytes in memory, its pages present."""
    flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        if create:
            os.posix_fallocate(
                descriptor, 0, max(size, 1)
            )  # the first touch of a fresh page costs 25 times a warm copy
        mapped = mmap.mmap(descriptor, max(size, 1), flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    except BaseException:
        if create:
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
    return mapped, np.frombuffer(mapped, dtype=np.uint8)[:size]


class Mark:
    """A few numbers of a run that outlive the trainer who writes them, in a page of shared memory.

    Parameters
    ----------
    path : Path
        Of the file.
    create : bool
        Make it; otherwise it must be there.

    Attributes
    ----------
    step : int
        Newest step that the trainer has finished, −1 before the first.
    torn, unfenced : int
        Snapshots that were thrown away since somebody wrote under the copy, and steps without the fence.
    begun, committed : int
        Versions that were begun and committed.
    longest_lag, shortest_step : int
        Nanoseconds from the beginning of a version to its commit, at most, and of an iteration, at least; 0: none yet.
    longest_period, longest_stride : int
        Iterations between snapshots, and between the numbers of two steps that follow each other, at most.
    abandoned, keepers_lost : int
        Snapshots that were given up, and keepers that died while the trainer lived.
    """

    FIELDS = (
        "step",
        "torn",
        "unfenced",
        "begun",
        "committed",
        "longest_lag",
        "shortest_step",
        "longest_period",
        "longest_stride",
        "abandoned",
        "keepers_lost",
    )
    SIZE = 128

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        self.mapped, view = view_of(path, self.SIZE, create=create)
        self.numbers = view.view(np.int64)
        if create:
            self.clear()

    def clear(self) -> None:
        """As before the first step."""
        self.numbers[:] = 0
        self["step"] = -1

    def __getitem__(self, name: str) -> int:
        return int(self.numbers[self.FIELDS.index(name)])

    def __setitem__(self, name: str, value: int) -> None:
        self.numbers[self.FIELDS.index(name)] = value

    def all(self) -> dict[str, int]:
        """All numbers by name."""
        return {name: self[name] for name in self.FIELDS}

    def close(self) -> None:
        """Let go of the page."""
        self.numbers = np.zeros(self.SIZE // 8, dtype=np.int64)
        with contextlib.suppress(BufferError):
            self.mapped.close()

    def unlink(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)


class Slot:
    """One of two buffers: a shard of data and the parity that this member holds for others.

    Parameters
    ----------
    stem : Path
        Beginning of the file's name.
    """

    def __init__(self, stem: Path) -> None:
        self.stem = stem
        self.serial = 0
        self.path: Path | None = None
        self.mapped: mmap.mmap | None = None
        self.bytes = np.zeros(0, dtype=np.uint8)
        self.length = self.block = self.m = 0
        self.version = 0
        self.state = State.EMPTY
        self.heads: dict[int, dict[str, Any]] = {}
        self.arrived = 0  # bytes of others' blocks
        self.parity_crc: list[int] = []
        self.rows: list[Any] = []

    @property
    def data(self) -> np.ndarray:
        """The shard."""
        return self.bytes[: self.length]

    def parity(self, row: int) -> np.ndarray:
        """A row of parity."""
        start = self.length + row * self.block
        return self.bytes[start : start + self.block]

    def fit(self, length: int, group: ErasureGroup) -> None:
        """Have room for a shard of that length and its parity."""
        block = group.block_length(length)
        if self.path is not None and (length, block, group.m) == (self.length, self.block, self.m):
            return
        self.free()
        self.serial += 1
        path = self.stem.with_name(f"{self.stem.name}{self.serial}")
        self.mapped, self.bytes = view_of(path, length + group.m * block, create=True)
        self.path, self.length, self.block, self.m = path, length, block, group.m
        self.rows = [threading.Lock() for _ in range(group.m)]

    def begin(self, version: int) -> None:
        """Start a version: what was there is forgotten."""
        for lock in self.rows:
            lock.acquire()
        try:
            self.version, self.state, self.heads, self.arrived, self.parity_crc = (
                version,
                State.DIRTY,
                {},
                0,
                [],
            )
            for row in range(self.m):
                self.parity(row)[:] = 0
        finally:
            for lock in self.rows:
                lock.release()

    def clear(self) -> None:
        """Forget the version."""
        self.version, self.state, self.heads, self.arrived = 0, State.EMPTY, {}, 0

    def damaged(self, member: int, parts: int) -> list[list[Any]]:
        """Blocks whose checksum is not what it was: ["d", j] of data, ["p", r] of parity."""
        said = self.heads.get(member, {}).get("crc", [])
        found: list[list[Any]] = [
            ["d", j]
            for j, crc in enumerate(checksums(self.data, parts))
            if said[j : j + 1] != [crc]
        ]
        now = [zlib.crc32(self.parity(r).data) for r in range(self.m)]
        return found + [
            ["p", r] for r, crc in enumerate(now) if self.parity_crc[r : r + 1] != [crc]
        ]

    def seal(self) -> None:
        """Take the checksums of the parity."""
        self.parity_crc = [zlib.crc32(self.parity(r).data) for r in range(self.m)]

    def free(self) -> None:
        """Unlink the file."""
        self.clear()
        self.bytes = np.zeros(0, dtype=np.uint8)
        if self.mapped is not None:
            with contextlib.suppress(
                BufferError
            ):  # a thread may still view it; the pages go with its last view
                self.mapped.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
        self.path = self.mapped = None
        self.length = self.block = self.m = 0
