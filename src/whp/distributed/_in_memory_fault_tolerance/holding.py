"""What a keeper holds: two buffers of its member, the numbers that outlive its trainer, and its connections."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from whp.distributed._in_memory_fault_tolerance.connections import Lines
from whp.distributed._in_memory_fault_tolerance.memory import Mark, Slot, State

__all__ = ["Holding"]


class Holding(Lines):
    """Buffers of one member.

    Parameters
    ----------
    run, member, directory, token
        Which run and member, where its files go, and the run's secret.
    """

    def __init__(self, run: str, member: int, directory: Path, token: str) -> None:
        super().__init__(member, token)
        self.run, self.directory = run, directory
        self.stem = directory / f"whp-{run}-{member}"
        self.slots = [Slot(Path(f"{self.stem}-{os.getpid()}-{letter}")) for letter in "ab"]
        self.mark = Mark(Path(f"{self.stem}-{os.getpid()}-mark"), create=True)
        self.on_disk: dict[int, set[int]] = {}
        self.floor = 0  # no version up to here will be written any more
        self.persist: dict[str, Any] = {}
        self.disk_fault = ""  # why a version could not be written

    def slot_of(self, version: int) -> Slot | None:
        """The buffer of a version, if it is held."""
        return next(
            (s for s in self.slots if s.version == version and s.state is not State.EMPTY), None
        )

    @property
    def parts(self) -> int:
        """Blocks of a shard."""
        return 1 if self.group.codec == "replica" else self.group.k

    def _expected(self, slot: Slot) -> int:
        """Bytes of others' blocks that make this member's parity complete."""
        each = 1 if self.group.codec == "replica" else self.group.k
        return self.group.m * each * slot.block
