"""Files out: each whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whp.io.headers import NUMBER
from whp.text import visible

__all__ = ["save", "write"]

STALE = 60.0  # seconds after which what a killed run left behind may be cleaned away
FORMULA = re.compile(r"[=+\-@\t]")


def write(path: Path, value: Any) -> None:
    """Write one object in the format that the ending of `path` names.

    Known are npy, npz, csv, parquet, json, safetensors, and txt, nwk, md, html, svg for text. In csv a cell of text that a
    spreadsheet would take for a formula (it begins with ``= + - @`` or tab and is no number) gets an apostrophe in front. In csv
    and in text files control characters stand as escapes. Take csv for people and parquet for programs.

    Raises
    ------
    ValueError
        If the ending is unknown.
    """
    match path.suffix:
        case ".npz":
            plain: dict[str, Any] = {k: _plain(v) for k, v in value.items()}
            np.savez_compressed(path, **plain)
        case ".npy":
            np.save(path, _plain(value), allow_pickle=False)
        case ".csv":
            _harmless(value).to_csv(path, index=False, lineterminator="\n")
        case ".parquet":
            value.to_parquet(path, index=False)
        case ".json":
            path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        case ".safetensors":
            from safetensors.numpy import save_file

            save_file({k: np.ascontiguousarray(v) for k, v in value.items()}, path)
        case ".txt" | ".html" | ".svg" | ".md":
            path.write_text(visible(value, keep="\n\t"), encoding="utf-8")
        case ".nwk":
            path.write_text(value, encoding="utf-8")
        case _:
            raise ValueError(f"{path.name}: no format is known for this ending")


def _plain(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(str) if array.dtype.kind == "O" else array  # object arrays would be pickled


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    shown = visible(value)
    return f"'{shown}" if FORMULA.match(shown) and not NUMBER.fullmatch(shown) else shown


def _harmless(table: Any) -> Any:
    """A data frame without text that a spreadsheet would execute."""
    made = table.copy(deep=False)
    made.columns = [_cell(c) for c in made.columns]
    for place, kind in enumerate(made.dtypes):
        if getattr(kind, "kind", "O") in "OUT":
            made.isetitem(place, [_cell(v) for v in made.iloc[:, place]])
    return made


@contextlib.contextmanager
def _held(directory: Path, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of a directory; yields whether it was to be had, True where the system has no such locks."""
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows
        yield wait
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _clean(parent: Path, prefix: str) -> None:
    """Remove the stages of runs that were killed: nobody holds their lock."""
    for left in parent.glob(glob.escape(prefix) + "*"):
        try:
            if left.is_symlink() or time.time() - left.stat().st_mtime < STALE:
                continue
            with _held(left, wait=False) as free:
                if free:
                    shutil.rmtree(left, ignore_errors=True)
        except OSError:  # it went away in the meantime, or belongs to somebody else
            continue


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot synchronise a directory
            os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_blocked(directory: Path, names: Mapping[str, Any]) -> None:
    if directory.is_symlink():
        raise ValueError(f"{directory}: this is a symbolic link; give the directory itself")
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory}: this is a file; give a directory")
    for name in names:
        if (directory / name).is_symlink() or (directory / name).is_dir():
            raise ValueError(
                f"{directory / name}: a directory or link stands where a file is to be written; nothing was written"
            )


def save(directory: Path, artifacts: Mapping[str, Any]) -> list[Path]:
    """Write artifacts into a directory so that each file is there whole or not at all.

    A new directory appears complete in one step; in an existing one files of the same names are replaced one by one, under a
    lock, so that of two that write at once the later one's files stand together, and others are left alone. What is written is
    on the disk before the name changes. A value that is callable is called with the path to write to.

    Parameters
    ----------
    directory : Path
        Where to; made if it does not exist. Must not be a symbolic link.
    artifacts : mapping of str to object
        File name to what :func:`write` takes, or to a function that writes the file itself.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If `directory` is a file or a link, a name would lead out of it, or a directory or link has the name of a file to be
        written; nothing is written then.
    """
    directory = Path(directory)
    if wrong := [name for name in artifacts if Path(name).name != name]:
        raise ValueError(f"{wrong[0]!r} is not a plain file name")
    _refuse_blocked(directory, artifacts)
    directory.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{directory.name}-whp-"
    _clean(directory.parent, prefix)
    stage = directory.parent / f"{prefix}{secrets.token_hex(4)}"
    stage.mkdir()  # with the permissions that the user's umask leaves
    try:
        with _held(stage, wait=True):
            for name, value in artifacts.items():
                if callable(value):
                    value(stage / name)
                else:
                    write(stage / name, value)
                _sync(stage / name)
            _sync(stage)
            _publish(stage, directory, artifacts)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [directory / name for name in artifacts]


def _publish(stage: Path, directory: Path, names: Mapping[str, Any]) -> None:
    if not directory.exists():
        try:
            stage.rename(directory)
        except OSError:  # somebody else's has just appeared
            if not directory.is_dir():
                raise
        else:
            _sync(directory.parent)
            return
    with _held(directory, wait=True):
        _refuse_blocked(directory, names)
        for name in names:
            os.replace(stage / name, directory / name)
        _sync(directory)
