"""The slow tier: a committed version on disk, visible under its name only when every member's part is there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance.memory import checksums
from whp.distributed._in_memory_fault_tolerance.wire import Kind

if TYPE_CHECKING:
    from whp.distributed._in_memory_fault_tolerance.holding import Holding

__all__ = ["publish", "published", "read", "set_aside", "write"]

KEPT = 2


def _write(path: Path, content: Any) -> None:
    draft = path.with_name(path.name + ".draft")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)


def _sealed(head: dict[str, Any]) -> bytes:
    """A header with its checksum: step, learning rates and generators are in it, and a changed digit is still JSON."""
    text = json.dumps(head)
    return json.dumps({"head": text, "crc": zlib.crc32(text.encode())}).encode()


def _opened(content: bytes) -> dict[str, Any]:
    """What was sealed; headers of earlier versions had no checksum."""
    told = json.loads(content)
    if "head" not in told:
        return told
    if zlib.crc32(told["head"].encode()) != told["crc"]:
        raise ValueError("its checksum is not the one that was written")
    return json.loads(told["head"])


def write(holding: Holding, version: int) -> None:
    """Write this member's part of a committed version, and say so to the coordinator.

    Where it cannot be written (a full disk) nothing of it stays, and the trainer is told: its next snapshot asks.
    """
    folder = Path(holding.persist["directory"]) / f"version-{version:08d}.incomplete"
    try:
        _part(holding, version, folder)
    except OSError as error:
        for left in folder.glob(f"member-{holding.member}.*"):
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # unless others' parts are in it
        holding.disk_fault = f"{folder.parent}: {error.strerror or error}"


def _part(holding: Holding, version: int, folder: Path) -> None:
    slot = holding.slot_of(version)
    if slot is None:
        return
    head = slot.heads[holding.member]
    folder.mkdir(parents=True, exist_ok=True)
    content = slot.data.copy()
    if slot.version != version:
        return
    _write(folder / f"member-{holding.member}.bin", content)
    _write(folder / f"member-{holding.member}.json", _sealed(head))
    said = {"version": version, "member": holding.member}
    for coordinator in range(holding.group.n):
        if coordinator == holding.member:
            publish(holding, version, holding.member)
            return
        if holding.tell(coordinator, Kind.PERSISTED, said):
            return


def publish(holding: Holding, version: int, member: int) -> None:
    """As the coordinator: rename the folder when all parts are there, and remove versions older than the last two."""
    with holding.changed:
        have = holding.on_disk.setdefault(version, set())
        have.add(member)
        if len(have) < holding.group.n:
            return
        del holding.on_disk[version]
    root = Path(holding.persist["directory"])
    draft = root / f"version-{version:08d}.incomplete"
    if draft.exists():
        draft.rename(root / f"version-{version:08d}")
    for old in [
        *published(root)[KEPT:],
        *(p for p in root.glob("version-*.incomplete") if p.name < draft.name),
    ]:
        shutil.rmtree(old, ignore_errors=True)


def published(directory: Path) -> list[Path]:
    """Folders of the published versions, the newest first."""
    return sorted(
        (p for p in directory.glob("version-*") if p.suffix != ".incomplete"), reverse=True
    )


def set_aside(directory: Path) -> str:
    """Move what an earlier run wrote out of the way of one that begins anew, whose versions have small numbers again.

    Left where it is, it would be taken for the newest, and the new run's versions removed as the oldest.

    Returns
    -------
    str
        Where it is now; empty if there was nothing.
    """
    old = sorted(directory.glob("version-*"))
    if not old:
        return ""
    number = 1 + sum(1 for _ in directory.glob("before-*"))
    while (place := directory / f"before-{number:04d}").exists():
        number += 1
    place.mkdir()
    for folder in old:
        folder.rename(place / folder.name)
    return str(place)


def read(folder: Path, member: int) -> tuple[dict[str, Any], np.ndarray]:
    """A member's header and shard.

    Raises
    ------
    ValueError
        If a file is missing or damaged, or its checksum is not the one that was taken when it was copied.
    """
    try:
        head = _opened((folder / f"member-{member}.json").read_bytes())
        data = np.fromfile(folder / f"member-{member}.bin", dtype=np.uint8)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder}: part {member} is damaged: {error}") from error
    if len(data) != head["length"] or checksums(data, len(head["crc"])) != head["crc"]:
        raise ValueError(
            f"{folder}: part {member} is damaged, its checksum is not the one taken at the snapshot"
        )
    return head, data
