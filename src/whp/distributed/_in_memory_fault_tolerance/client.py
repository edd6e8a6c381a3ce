"""A trainer's side of a keeper: finding or starting it, talking to it, and cleaning up after runs that are gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from whp.distributed._in_memory_fault_tolerance.errors import RunInUseError
from whp.distributed._in_memory_fault_tolerance.memory import Mark, view_of
from whp.distributed._in_memory_fault_tolerance.wire import Channel, Kind, WireError, connect

__all__ = [
    "SMP",
    "Found",
    "alive",
    "alone",
    "clean",
    "end_keepers",
    "find",
    "keepers",
    "present",
    "processes",
    "remove",
    "start",
]

MODULE = "whp.distributed._in_memory_fault_tolerance.keeper"
HEALS = 4.0  # seconds in which a keeper notices that its file is damaged and writes it anew


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
    about: dict[str, Any] = field(default_factory=dict, compare=False)


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
        pid, host, port, token = (told[k] for k in ("pid", "host", "port", "token"))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    place = str(directory / f"whp-{run}-{member}.sock")
    return Found(run, member, pid, host, port, token, place, told.get("about") or {})


def processes(directory: Path) -> list[Found]:
    """Keepers of this user that run, whatever their files say: from the table of processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError, UnicodeDecodeError):
            words = (place / "cmdline").read_bytes().decode().split("\0")
            if MODULE not in words or place.stat().st_uid != os.getuid():
                continue
            said = {k: words[words.index(f"--{k}") + 1] for k in ("run", "member", "directory")}
            if Path(said["directory"]) == directory and alive(int(place.name)):
                run, member = said["run"], int(said["member"])
                sock = str(directory / f"whp-{run}-{member}.sock")
                found.append(Found(run, member, int(place.name), "", 0, "", sock))
    return found


def present(run: str, member: int, directory: Path) -> Found | None:
    """The keeper of a member; one that runs although its file is damaged is waited for until it has written it anew.

    Raises
    ------
    RunInUseError
        If such a one does not answer: its memory is not taken over.
    """
    deadline = time.monotonic() + HEALS
    while True:
        found = find(run, member, directory)
        if found is not None and alive(found.pid):
            return found
        runs = [p for p in processes(directory) if (p.run, p.member) == (run, member)]
        if not runs:
            return found
        if time.monotonic() > deadline:
            raise RunInUseError(
                f"process {runs[0].pid} keeps member {member} of run {run}, and its file is damaged: "
                f"whp guard clean --run {run} ends it"
            )
        time.sleep(0.05)


@contextlib.contextmanager
def alone(name: str, seconds: float) -> Iterator[int]:
    """Hold a name that one process of this machine can have; yields 0, or the number of the process that has it.

    The name is a socket's in the abstract namespace: it leaves no file and goes with its process.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = f"\0whp-{os.getuid()}-{name}"
    deadline, holder = time.monotonic() + seconds, 0
    try:
        while True:
            try:
                sock.bind(address)
                sock.listen(64)  # nobody is answered; whoever asks sees which process listens
                break
            except OSError:
                if time.monotonic() > deadline:
                    holder = _holder(address)
                    break
                time.sleep(0.01)
        yield holder
    finally:
        sock.close()


def _holder(address: str) -> int:
    """Process that listens on a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(address)
            told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return -1  # it has just gone, or too many have asked
    return int(struct.unpack("3i", told)[0]) or -1


def keepers(directory: Path) -> list[Found]:
    """All keepers of this user that have files in a directory or run for it; those without a readable file have no token."""
    found = []
    for path in sorted(directory.glob("whp-*.json")):
        with contextlib.suppress(OSError, ValueError, KeyError):
            run, _, member = path.stem.removeprefix("whp-").rpartition("-")
            one = find(run, int(member), directory)
            if one is not None:
                found.append(one)
    known = {one.pid for one in found}
    return found + [one for one in processes(directory) if one.pid not in known]


def start(
    run: str,
    member: int,
    directory: Path,
    token: str,
    *,
    host: str = "127.0.0.1",
    linger: float = 3600.0,
    replaces: bool | None = None,
    about: dict[str, Any] | None = None,
) -> Found:
    """Start a keeper detached from this process, so that neither a signal to the trainer's group nor its end reaches it.

    One that already runs is returned as it is: its memory is never taken over.

    Parameters
    ----------
    run, member, directory, token, host, linger
        See :class:`Keeper`.
    replaces : bool, optional
        Whether a keeper of this member died with versions that it held; by default as far as its files tell.
    about : dict, optional
        Script and arguments, for whoever asks the keeper.

    Raises
    ------
    RuntimeError
        If it does not come up in 20 seconds.
    """
    with alone(f"{directory}-{run}-{member}", 30.0):
        found = present(run, member, directory)
        if found is not None and alive(found.pid):
            return found
        died = _had_versions(run, member, directory) if replaces is None else replaces
        return _started(run, member, directory, token, host, linger, died, about or {})


def _had_versions(run: str, member: int, directory: Path) -> bool:
    """Whether a dead keeper of this member left the mark of a version that was committed."""
    for path in directory.glob(f"whp-{run}-{member}-*-mark"):
        with contextlib.suppress(OSError, ValueError):
            mark = Mark(path)
            committed = mark["committed"]
            mark.close()
            if committed:
                return True
    return False


def _started(
    run: str,
    member: int,
    directory: Path,
    token: str,
    host: str,
    linger: float,
    replaces: bool,
    about: dict[str, Any],
) -> Found:
    place = directory / f"whp-{run}-{member}.sock"
    if len(os.fsencode(place)) > 100:
        raise ValueError(
            f"smp_dir and run must make a socket path of at most 100 bytes, got {place}"
        )
    remove(run, member, directory)
    quiet = {
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "WHP_GUARD_TOKEN": token,
        "WHP_GUARD_ABOUT": json.dumps(about),
    }
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
                *(["--replaces"] if replaces else []),
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
            # It may outlive us. If it does not, somebody must wait for it, or it stays a zombie.
            threading.Thread(target=child.wait, daemon=True).start()
            return found
        if child.poll() is not None:
            raise RuntimeError(
                f"the keeper of member {member} ended with exit code {child.returncode}; see WHP_GUARD_LOG"
            )
        time.sleep(0.004)
    child.kill()
    raise RuntimeError(f"the keeper of member {member} did not come up in 20 s")


def remove(run: str, member: int, directory: Path) -> list[Path]:
    """Unlink what a dead keeper of this member left; buffers of one that lives stay."""
    gone = []
    for path in directory.glob(f"whp-{run}-{member}[-.]*"):
        owner = path.name.split("-")[-2] if path.suffix == "" else ""
        if owner.isdigit() and alive(int(owner)):
            continue
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
    living = {(one.run, one.member) for one in keepers(directory) if alive(one.pid)}
    for path in sorted(directory.glob(f"whp-{run or '*'}-*")):
        with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
            if path.stat().st_uid != os.getuid():
                continue
            parts = path.name.split(".")[0].split("-")
            if (
                path.suffix
            ):  # whp-RUN-MEMBER.json, .sock, or .json.PID of one that was killed while it wrote
                lives = (parts[1], int(parts[2])) in living
            else:  # whp-RUN-MEMBER-PID-a1
                lives = alive(int(parts[3]))
            if not lives:
                path.unlink()
                gone.append(path)
    return gone


def end_keepers(run: str, directory: Path = Path("/dev/shm")) -> int:
    """End all keepers of a run and unlink their memory; returns how many there were."""
    count = 0
    for found in keepers(directory):
        if found.run != run or not alive(found.pid):
            continue
        try:
            SMP(found, role="control").end()
        except (
            OSError,
            EOFError,
        ):  # its file is damaged: it unlinks its memory at this signal, too
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGTERM)
            deadline = time.monotonic() + 5
            while alive(found.pid) and time.monotonic() < deadline:
                time.sleep(0.005)
        count += 1
    clean(directory, run=run)
    return count


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
        self.channel: Channel = self._connected(role)
        self.mark: Mark | None = None
        self._views: dict[str, tuple[Any, np.ndarray]] = {}
        self._turn = threading.Lock()  # the copier reports while the trainer asks

    def _connected(self, role: str) -> Channel:
        tries, deadline = 0, time.monotonic() + 60
        while True:
            try:
                return connect(
                    self.found.socket, self.found.token, timeout=120.0, role=role, pid=os.getpid()
                )
            except WireError as error:
                holder = int(error.said.get("pid") or 0)
                tries += 1
                if not holder:
                    raise
                # A killed process may take a while to go, and its connection a moment longer.
                if (tries > 2 and alive(holder)) or time.monotonic() > deadline:
                    raise RunInUseError(
                        f"process {holder} trains under run {self.found.run} and holds its memory; end it, or give "
                        "this process another run="
                    ) from None

    def marks(self) -> Mark:
        """Numbers of this member that outlive its trainer."""
        if self.mark is None:
            self.mark = Mark(Path(self.query()["mark"]["path"]))
        return self.mark

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

    def drop(self, keep: int, floor: int, *, fresh: bool = False) -> None:
        """Forget all versions but one (0: all), and all that will still arrive of those up to `floor`; `fresh`: the past too."""
        self._ask(Kind.DROP, keep=keep, floor=floor, fresh=fresh)

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
        if self.mark is not None:
            self.mark.close()
            self.mark = None
        for path in list(self._views):
            self._unmap(path)
        self.channel.close()
