"""A group of keepers driven by one process, without training: for tests of the protocol and measurements of codes in place."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from whp.distributed._in_memory_fault_tolerance import client
from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.memory import checksums
from whp.distributed._in_memory_fault_tolerance.recovery import Agreed, UnrecoverableError, agree

__all__ = ["Fleet"]


class Fleet:
    """`n` keepers with their trainers' connections in this process; a context manager that leaves nothing behind.

    Parameters
    ----------
    n, m, codec
        Of the :class:`ErasureGroup`.
    length : int
        Bytes of a shard, a multiple of 64·(n − m).
    directory : Path
        A memory file system.
    """

    def __init__(
        self,
        n: int,
        m: int,
        codec: str = "auto",
        *,
        length: int = 0,
        directory: str | Path = "/dev/shm",
    ) -> None:
        self.code = ErasureGroup(n, m, codec)
        self.run, self.directory, self.token = (
            f"fleet{secrets.token_hex(4)}",
            Path(directory),
            secrets.token_hex(16),
        )
        self.length = length or 64 * self.code.k
        self.members = [self._start(i) for i in range(n)]
        self.version = 0
        self._meet()

    def _start(self, member: int) -> client.SMP:
        return client.SMP(client.start(self.run, member, self.directory, self.token, linger=60.0))

    def _meet(self) -> None:
        for i, smp in enumerate(self.members):
            smp.peers(
                {j: (o.found.host, o.found.port) for j, o in enumerate(self.members) if j != i}
            )
            smp.alloc(self.code.n, self.code.m, self.code.codec, self.length)

    def begin(self, shards: list[np.ndarray], members: Iterable[int] | None = None) -> int:
        """Write a version's shards, of some members only if so told, and say so to their keepers."""
        self.version += 1
        for i in range(self.code.n) if members is None else members:
            into = self.members[i].begin(self.version, self.length)
            into[:] = shards[i]
            crc = checksums(into, 1 if self.code.codec == "replica" else self.code.k)
            head = {
                "version": self.version,
                "step": self.version,
                "length": self.length,
                "crc": crc,
            }
            self.members[i].copied(self.version, head)
        return self.version

    def wait(self, version: int, state: str = "committed", seconds: float = 20.0) -> None:
        """Until all members hold a version in a state."""
        deadline = time.monotonic() + seconds
        while True:
            told = [smp.query() for smp in self.members]
            if all(
                any(h["version"] == version and h["state"] == state for h in t["held"])
                for t in told
            ):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"version {version} is not {state}: {[t['held'] for t in told]}")
            time.sleep(0.002)

    def save(self, shards: list[np.ndarray]) -> int:
        """Write a version and wait until it is committed."""
        version = self.begin(shards)
        self.wait(version)
        return version

    def lose(self, members: Iterable[int]) -> None:
        """Kill keepers and unlink their memory."""
        for i in members:
            self.members[i].close()
            os.kill(self.members[i].found.pid, signal.SIGKILL)
            while client.alive(self.members[i].found.pid):
                time.sleep(0.001)
            client.remove(self.run, i, self.directory)

    def recover(self) -> Agreed:
        """Start keepers anew where they are dead, and make what they held anew.

        Raises
        ------
        UnrecoverableError
            If it cannot be.
        """
        for i, smp in enumerate(self.members):
            if not client.alive(smp.found.pid):
                self.members[i] = self._start(i)
        told = [smp.query(verify=True) for smp in self.members]
        for i, smp in enumerate(self.members):
            smp.peers(
                {j: (o.found.host, o.found.port) for j, o in enumerate(self.members) if j != i}
            )
            smp.alloc(self.code.n, self.code.m, self.code.codec, 0)
        found = agree(self.code, told)
        if not found.version:
            raise UnrecoverableError(found.why or "nothing is held")
        for smp in self.members:
            smp.drop(found.version, found.floor)
        for i in found.lost:
            self.members[i].rebuild(found.version, found.lost)
        self.version = max(self.version, found.floor)
        return found

    def shards(self, version: int) -> list[np.ndarray]:
        """What members hold of a version."""
        found = []
        for smp in self.members:
            held = next(h for h in smp.query()["held"] if h["version"] == version)
            found.append(smp.view(held["path"], held["size"])[: held["length"]].copy())
        return found

    def corrupt(self, member: int, at: int) -> None:
        """Flip a bit of what a member holds in its newest version, behind its back."""
        held = max(self.members[member].query()["held"], key=lambda h: h["version"])
        with open(held["path"], "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1]))

    def close(self) -> None:
        """End all keepers."""
        for i, smp in enumerate(self.members):
            if client.alive(smp.found.pid):
                smp.end()
            client.remove(self.run, i, self.directory)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
