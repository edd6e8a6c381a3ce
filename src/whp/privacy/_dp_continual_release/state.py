"""State of a mechanism on disk: there before an answer leaves, and never continued twice.

The state is secret (exact sums and noise) and readable by its owner alone. Beside it a ledger says how far the stream was
answered, and the digest of the state that it was answered from: no other state is continued. A new state is staged, then entered
into the ledger, then put in place, so that a crash between any two of them loses nothing and repeats nothing.

What cannot be seen: state and ledger copied together to another place. A mechanism that was loaded says so in its certificate.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from whp.privacy._dp_continual_release.mechanisms import Mechanism

__all__ = ["StateFile"]

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # for the other end of a pipe
# What a wrong path brings about, and not a full or broken disk.
WRONG_PATH = {
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
DAMAGED = (
    OSError,
    EOFError,
    BadZipFile,
    ValueError,
    KeyError,
    AttributeError,
    TypeError,
    NotImplementedError,  # zipfile, for a compression that it does not know
    zlib.error,
)


class StateFile:
    """Where a mechanism's state is kept.

    Parameters
    ----------
    path : Path
        Of the state; the ledger and the lock lie beside it.

    Raises
    ------
    ValueError
        If the path has no name.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.name or "\0" in str(path):
            raise ValueError(f"state must be the path of a file, got {str(path)!r}")
        self.ledger = self._beside("ledger")
        self._held = False
        self._known: set[bytes | None] = {None}  # what the ledger may hold if no one else wrote it

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state against other processes.

        Raises
        ------
        RuntimeError
            If another process holds it.
        ValueError
            If no file can be written there.
        """
        import fcntl

        with self._writable():
            handle = os.open(self._beside("lock"), os.O_CREAT | os.O_RDWR | NO_LINK, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RuntimeError(
                    f"{self.path}: another process is answering this stream"
                ) from None
            self._held = True
            yield
        finally:
            self._held = False
            os.close(handle)

    @contextmanager
    def _writable(self) -> Iterator[None]:
        """Names the state where its path is at fault."""
        try:
            yield
        except OSError as error:
            if error.errno not in WRONG_PATH:
                raise
            raise ValueError(
                f"state must be a file in a folder that can be written to, got {self.path}: {error}"
            ) from error

    def exists(self) -> bool:
        """Whether there is a stream to continue.

        Raises
        ------
        RuntimeError
            If only its ledger is left: answering the same records anew would spend the budget twice.
        """
        if os.path.lexists(self.path):
            return True
        if not os.path.lexists(self.ledger):
            return False
        ledger = self._read_ledger()
        if self._staged(ledger):
            return True
        raise RuntimeError(
            f"{self.path}: the state is gone, and its ledger says that {ledger['t']} records were answered; restore it. "
            f"Answering them anew spends the budget twice: for another stream take another path, or remove {self.ledger}"
        )

    def _staged(self, ledger: Mapping[str, Any]) -> bool:
        """Whether a crash came just before the state that the ledger knows was put in place."""
        staged = self._beside("new")
        return os.path.lexists(staged) and _digest(_read(staged)) == ledger["digest"]

    def save(
        self, mechanism: Mechanism, answers: np.ndarray, source: Mapping[str, Any] | None = None
    ) -> None:
        """Write state and the answers that are about to leave; both are there whole, or as they were.

        The lock is taken for as long, where it is not held already.

        Parameters
        ----------
        mechanism : Mechanism
            After the answers.
        answers : ndarray
            Not yet given away.
        source : mapping, optional
            Where the records came from: JSON.

        Raises
        ------
        RuntimeError
            If the ledger is neither what this object loaded or wrote nor missing from the beginning, or is that of another
            stream: its records could then be answered twice.
        """
        with nullcontext() if self._held else self.locked():
            self._save(mechanism, answers, source)

    def knows(self, mechanism: Mechanism) -> bool:
        """Whether the ledger says that the mechanism was answered as far as it is."""
        if self._ledger_bytes() is None:
            return False
        known = self._read_ledger()
        return (known["identity"], known["t"]) == (mechanism.identity, mechanism.t)

    def _save(
        self, mechanism: Mechanism, answers: np.ndarray, source: Mapping[str, Any] | None
    ) -> None:
        there = self._ledger_bytes()
        if there not in self._known:
            raise RuntimeError(
                f"{self.path}: {self.ledger} was written by someone else, or is gone: load the state, or take another path"
            )
        if there is not None:
            known = self._read_ledger()
            if known["identity"] != mechanism.identity or known["t"] > mechanism.t:
                raise RuntimeError(
                    f"{self.path}: it is the state of another stream, or was already continued to t={known['t']}"
                )
        state = mechanism.state_dict()
        inner, arrays = state.pop("inner"), {k: state.pop(k) for k in ("carried", "latest")}
        header = json.dumps({**state, "source": dict(source or {})})
        arrays |= {f"inner_{k}": v for k, v in inner.items()}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, header=np.array(header), answers=answers, **arrays)
        data = buffer.getvalue()
        entry = {"identity": mechanism.identity, "t": mechanism.t, "digest": _digest(data)}
        staged, line = self._write("new", data), json.dumps(entry).encode()
        entered = self._write("ledger.new", line)
        self._known = {there, line}
        os.replace(entered, self.ledger)
        self._known = {line}
        self._settle()
        os.replace(staged, self.path)
        self._settle()

    def _write(self, ending: str, data: bytes) -> Path:
        """A new file that only its owner can read; what a crash left under its name goes."""
        path = self._beside(ending)
        with self._writable():
            path.unlink(missing_ok=True)
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | NO_LINK, 0o600)
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return path

    def _settle(self) -> None:
        """A power cut must not undo what was renamed."""
        handle = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _ledger_bytes(self) -> bytes | None:
        return _read(self.ledger) if os.path.lexists(self.ledger) else None

    def _read_ledger(self) -> dict[str, Any]:
        try:
            known = json.loads(_read(self.ledger))
            return {
                "identity": str(known["identity"]),
                "t": int(known["t"]),
                "digest": str(known["digest"]),
            }
        except FileNotFoundError:
            raise ValueError(
                f"{self.ledger}: it is missing, and without it no state can be continued"
            ) from None
        except DAMAGED as error:
            raise ValueError(
                f"{self.ledger}: it is damaged: {error}; without it no state can be continued"
            ) from error

    def load(self, mechanism: Mechanism) -> tuple[np.ndarray, dict[str, Any]]:
        """Continue a mechanism.

        Returns
        -------
        answers : ndarray
            Those that were about to leave when the state was written.
        source : dict
            As it was given to :meth:`save`.

        Raises
        ------
        ValueError
            If state or ledger are damaged or missing, or were written with other settings.
        RuntimeError
            If the stream was already answered further than this state.
        """
        ledger, entered = self._read_ledger(), self._ledger_bytes()
        if self._staged(ledger):
            os.replace(self._beside("new"), self.path)
            self._settle()
        try:
            data = _read(self.path)
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            state: dict[str, Any] = dict(json.loads(str(arrays.pop("header"))))
            answers, source = arrays.pop("answers"), dict(state.pop("source"))
            identity, t = str(state["identity"]), int(state["t"])
        except DAMAGED as error:
            raise ValueError(f"{self.path}: not a state of a private stream: {error}") from error
        if _digest(data) != ledger["digest"]:
            if identity == ledger["identity"] and t < ledger["t"]:
                raise RuntimeError(f"state at t={t} was already continued to t={ledger['t']}")
            raise ValueError(f"{self.path}: it is not the state that {self.ledger} was written for")
        state["inner"] = {
            n.removeprefix("inner_"): arrays.pop(n) for n in list(arrays) if n.startswith("inner_")
        }
        try:
            mechanism.load_state_dict({**state, **arrays})
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from error
        self._known = {entered}
        return answers, source


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read(path: Path) -> bytes:
    """A file's bytes, and no link's."""
    with os.fdopen(os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT), "rb") as file:
        return file.read()
