"""A trainer's side of a keeper: finding or starting it, talking to it, and cleaning up after runs that are gone."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed.in_memory_fault_tolerance.memory import view_of
from whp.distributed.in_memory_fault_tolerance.wire import Channel, Kind, WireError, connect

__all__ = ["SMP", "Found", "alive", "clean", "find", "keepers", "start"]

MODULE = "whp.distributed.in_memory_fault_tolerance.smp"


@dataclass(frozen=True)
class Found:
    """What a keeper says of itself in its file."""

    run: str
    member: int
    pid: int
    host: str
    port: int
    token: str
    socket: str


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def find(run: str, member: int, directory: Path) -> Found | None:
    """The keeper of a member that has written its file, alive or not."""
    path = directory / f"whp-{run}-{member}.json"
    try:
        if path.stat().st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user; take another run name")
        told = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    place = str(directory / f"whp-{run}-{member}.sock")
    return Found(run, member, told["pid"], told["host"], told["port"], told["token"], place)


def keepers(directory: Path) -> list[Found]:
    """All keepers of this user that have files in a directory."""
    found = []
    for path in sorted(directory.glob("whp-*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            run, _, member = path.stem.removeprefix("whp-").rpartition("-")
            one = find(run, int(member), directory)
            if one is not None:
                found.append(one)
    return found


def start(
    run: str,
    member: int,
    directory: Path,
    token: str,
    *,
    host: str = "127.0.0.1",
    linger: float = 3600.0,
) -> Found:
    """Start a keeper detached from this process, so that neither a signal to the trainer's group nor its end reaches it.

    Raises
    ------
    RuntimeError
        If it does not come up in 20 seconds.
    """
    place = directory / f"whp-{run}-{member}.sock"
    if len(os.fsencode(place)) > 100:
        raise ValueError(
            f"smp_dir and run must make a socket path of at most 100 bytes, got {place}"
        )
    remove(run, member, directory)
    quiet = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "WHP_GUARD_TOKEN": token}
    log = os.environ.get("WHP_GUARD_LOG")
    with open(log, "ab") if log else open(os.devnull, "wb") as errors:
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                MODULE,
                "--run",
                run,
                "--member",
                str(member),
                "--directory",
                str(directory),
                "--host",
                host,
                "--linger",
                str(float(linger)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
            cwd="/",
            env={**os.environ, **quiet},
        )
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = find(run, member, directory)
        if found is not None and found.pid == child.pid:
            child.returncode = (
                0  # it outlives us: nothing is to be said about it when this object goes
            )
            return found
        if child.poll() is not None:
            raise RuntimeError(
                f"the keeper of member {member} ended with exit code {child.returncode}; see WHP_GUARD_LOG"
            )
        time.sleep(0.004)
    child.kill()
    raise RuntimeError(f"the keeper of member {member} did not come up in 20 s")


def remove(run: str, member: int, directory: Path) -> list[Path]:
    """Unlink what a dead keeper of this member left."""
    gone = []
    for path in directory.glob(f"whp-{run}-{member}[-.]*"):
        if path.stat().st_uid == os.getuid():
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone


def clean(directory: Path = Path("/dev/shm"), *, run: str | None = None) -> list[Path]:
    """Remove files of this user's keepers that are dead; those of living ones stay.

    Parameters
    ----------
    directory : Path
    run : str, optional
        Of this run alone.

    Returns
    -------
    list of Path
        What was removed.
    """
    gone = []
    for path in sorted(directory.glob(f"whp-{run or '*'}-*")):
        with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
            if path.stat().st_uid != os.getuid():
                continue
            if path.suffix in (".json", ".sock"):
                told = path.with_suffix(".json")
                pid = json.loads(told.read_text())["pid"] if told.exists() else 0
            else:  # whp-RUN-MEMBER-PID-a1
                pid = int(path.name.split("-")[-2])
            if not alive(pid):
                path.unlink()
                gone.append(path)
    for path in sorted(directory.glob(f"whp-{run or '*'}-*.sock")):
        if not path.with_suffix(".json").exists() and path.stat().st_uid == os.getuid():
            path.unlink(missing_ok=True)
            gone.append(path)
    return gone


class SMP:
    """A trainer's connection to its keeper.

    Parameters
    ----------
    found : Found
        From :func:`find` or :func:`start`.
    role : {"trainer", "control"}
        A keeper has one trainer, whose end it notices, and any number of others who ask.
    """

    def __init__(self, found: Found, role: str = "trainer") -> None:
        self.found = found
        self.channel: Channel = connect(found.socket, found.token, timeout=120.0, role=role)
        self._views: dict[str, tuple[Any, np.ndarray]] = {}
        self._turn = threading.Lock()  # the copier reports while the trainer asks

    def _ask(self, kind: Kind, **said: Any) -> dict[str, Any]:
        try:
            with self._turn:
                return self.channel.ask(kind, said)[0]
        except EOFError as error:
            raise WireError(f"the keeper of member {self.found.member} is gone") from error
        except WireError as error:
            if "MB free" in str(error):
                raise MemoryError(str(error)) from None
            raise

    def alloc(
        self, n: int, m: int, codec: str, length: int, persist: dict[str, Any] | None = None
    ) -> None:
        """Have both buffers ready.

        Raises
        ------
        MemoryError
            If they do not fit.
        """
        told = self._ask(Kind.ALLOC, n=n, m=m, codec=codec, length=length, persist=persist)
        for path, size in told["files"]:
            self.view(path, size)

    def begin(self, version: int, length: int) -> np.ndarray:
        """The buffer to write a version's shard into."""
        told = self._ask(Kind.BEGIN, version=version, length=length)
        return self.view(told["path"], told["size"])[:length]

    def view(self, path: str, size: int) -> np.ndarray:
        """A buffer's file in this process's memory; the two that are in use stay mapped."""
        if path not in self._views:
            for old in [p for p in self._views if not os.path.exists(p)]:
                self._unmap(old)
            self._views[path] = view_of(path, size)
        return self._views[path][1]

    def _unmap(self, path: str) -> None:
        mapped, view = self._views.pop(path)
        del view
        with contextlib.suppress(BufferError):
            mapped.close()

    def copied(self, version: int, header: dict[str, Any]) -> None:
        """The shard is written."""
        self._ask(Kind.COPIED, version=version, header=header)

    def query(self, *, verify: bool = False) -> dict[str, Any]:
        """Versions held, their states and, with `verify`, damaged blocks."""
        return self._ask(Kind.QUERY, verify=verify)

    def heads(self, version: int) -> dict[int, dict[str, Any]]:
        """Headers of all members."""
        return {int(i): head for i, head in self._ask(Kind.HEADS, version=version)["heads"].items()}

    def peers(self, peers: dict[int, tuple[str, int]]) -> None:
        """Tell it where the others listen."""
        self._ask(Kind.PEERS, peers={str(i): list(address) for i, address in peers.items()})

    def commit(self, version: int) -> None:
        """All members have this version encoded."""
        self._ask(Kind.COMMIT, version=version)

    def drop(self, keep: int, floor: int) -> None:
        """Forget all versions but one (0: all), and all that will still arrive of those up to `floor`."""
        self._ask(Kind.DROP, keep=keep, floor=floor)

    def rebuild(self, version: int, lost: dict[int, list[list[Any]]]) -> dict[str, Any]:
        """Make this member's lost blocks anew."""
        return self._ask(
            Kind.REBUILD, version=version, lost={str(i): blocks for i, blocks in lost.items()}
        )

    def hold(self, on: bool) -> None:
        """Stop before encoding, or go on."""
        self._ask(Kind.HOLD, on=on)

    def end(self) -> None:
        """Have it unlink its memory and end."""
        with contextlib.suppress(OSError, EOFError):
            self._ask(Kind.BYE)
        deadline = time.monotonic() + 5
        while alive(self.found.pid) and time.monotonic() < deadline:
            time.sleep(0.002)
        self.close()

    def close(self) -> None:
        """Leave it to itself."""
        for path in list(self._views):
            self._unmap(path)
        self.channel.close()
