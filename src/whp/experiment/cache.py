"""Finished trials on disk: rows as JSON under a digest, never pickles.

An entry that is damaged, empty or of another trial is no entry: its trial runs again. Reading one executes nothing, and a
directory that others could write is refused, because numbers of a stranger would be published as measured.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whp.experiment.task import Rows

__all__ = ["Cache"]

STALE = 24 * 3600  # seconds after which a file that was never finished is nobody's


class Cache:
    """Rows by the identity of their trial.

    Parameters
    ----------
    directory : Path
        Made, readable by nobody else, if it does not exist.

    Raises
    ------
    ValueError
        If somebody else could write into it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "trials"
        _make_private(directory, shared=True)
        _make_private(self.directory)
        for path in self.directory.glob("*/.*.new"):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink(missing_ok=True)

    def _path(self, identity: Mapping[str, Any]) -> Path:
        name = hashlib.sha256(_text(identity).encode()).hexdigest()
        return self.directory / name[:2] / f"{name}.json"

    def get(self, identity: Mapping[str, Any]) -> Rows | None:
        """The rows kept under `identity`, or None if there are none that can be trusted."""
        try:
            digest, _, body = self._path(identity).read_bytes().partition(b"\n")
            if digest.decode() != hashlib.sha256(body).hexdigest():
                return None
            entry = json.loads(body)
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(entry, dict) or _text(entry.get("trial")) != _text(identity):
            return None
        rows = entry.get("rows")
        good = isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
        return rows if good else None

    def put(self, identity: Mapping[str, Any], rows: Rows) -> None:
        """Keep `rows`; whoever reads meanwhile sees the old entry or the new one."""
        path = self._path(identity)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        body = json.dumps({"trial": identity, "rows": rows}).encode()
        handle, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _text(identity: Any) -> str:
    return json.dumps(identity, sort_keys=True)


def _make_private(directory: Path, shared: bool = False) -> None:
    """Make `directory`; refuse it if others may write. A `shared` parent like /tmp may be sticky."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not hasattr(os, "geteuid"):  # Windows has other means
        return
    status = directory.stat()
    sticky = shared and bool(status.st_mode & stat.S_ISVTX)
    if status.st_mode & 0o022 and not sticky:
        raise ValueError(
            f"cache directory {directory}: others can write there; chmod go-w it or set WHP_CACHE"
        )
    if status.st_uid != os.geteuid() and not sticky:
        raise ValueError(f"cache directory {directory} belongs to somebody else; set WHP_CACHE")
