"""Files of records that may still be growing, read in batches, and continued where somebody stopped."""

from __future__ import annotations

import csv
import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from whp.io.headers import examine

__all__ = ["PLAIN", "BadRecord", "Batch", "Log"]

PLAIN = (".csv", ".tsv")
WAIT = 0.1  # seconds between looks at a file that is followed
LONGEST = 2**24  # bytes of a line
MEMORY = 64  # bytes before the place reached, which are looked at again while a file is followed
CHUNK = 2**20


class Batch(list[list[str]]):
    """Records, each a list of its fields, and where the file stands after the last of them.

    Attributes
    ----------
    end : int
        Byte offset after the last record, to continue from with ``Log.batches(start=end)``.
    """

    end: int

    def __init__(self, records: list[list[str]], end: int, reading: _Reading) -> None:
        super().__init__(records)
        self.end = end
        self._inode, self._first = reading.inode, reading.first
        self._hash, self._raw = reading.before, reading.raw

    def mark(self, count: int | None = None) -> dict[str, Any]:
        """The place after the first `count` records, by default all, to continue from with ``Log.batches(since=mark)``.

        It holds a digest of every byte of the file before that place, so that no other file is taken for this one.
        """
        raw = b"".join(self._raw[:count])
        digest = self._hash.copy()
        digest.update(raw)
        end = self.end - sum(map(len, self._raw)) + len(raw)
        return {
            "inode": self._inode,
            "first": self._first,
            "end": end,
            "digest": digest.hexdigest(),
        }


@dataclass
class _Reading:
    """What was read of an open file: its bytes are taken from the one that is open, whatever its name means by now."""

    inode: int
    first: str  # digest of the header and the first record
    before: Any  # digest of all bytes before the batch
    raw: list[
        bytes
    ]  # of each record of the batch, with the blank lines before it; of those after the last one

    def next(self) -> None:
        """The batch was given."""
        self.before = self.before.copy()
        for data in self.raw:
            self.before.update(data)
        self.raw = []


class BadRecord(ValueError):
    """A record cannot be read; those before it were given."""


class _Unfinished(Exception):
    """The record goes on after what the file holds so far."""


@dataclass(frozen=True)
class Log:
    """A table of text that may still be growing, a record a row.

    A record is what stands between two line breaks outside quotes; lines without a character are none. What is counted, skipped and
    continued is records.

    Parameters
    ----------
    path : Path
        A csv or tsv file with a header, in UTF-8.
    sep : str, optional
        What parts the fields; looked for if not given.

    Raises
    ------
    ValueError
        If it has no header yet.
    """

    path: Path
    sep: str | None = None

    def __post_init__(self) -> None:
        if self.path.stat().st_size == 0:
            raise ValueError("it has no header line yet")
        head = examine(self.path, sep=self.sep)
        with self.path.open("rb") as file:
            if os.pread(file.fileno(), 1, head.start - 1) != b"\n":
                raise ValueError("it has no header line yet")
        object.__setattr__(self, "sep", head.sep)
        object.__setattr__(self, "_header", tuple(head.names))
        object.__setattr__(self, "_start", head.start)

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns."""
        return self._header  # type: ignore[attr-defined]

    def batches(
        self,
        *,
        start: int | None = None,
        since: Mapping[str, Any] | None = None,
        rotated: Literal["error", "continue"] = "error",
        skip: int = 0,
        follow: bool = False,
        whole: bool = False,
        size: int = 4096,
        encoding_errors: str = "strict",
    ) -> Iterator[Batch]:
        """Records after the header, or after byte `start`, and after `skip` more, at most `size` at a time.

        With `follow` it waits for more at the end of the file, until it is interrupted; a record counts once its line has
        ended. Without, the last line counts as it stands.

        Parameters
        ----------
        start : int, optional
            The `end` of the batch after which to continue.
        since : mapping, optional
            The ``mark()`` of that batch instead: every byte before it must be as it was.
        rotated : {"error", "continue"}
            Whether another file may have taken the place of that one, all of whose records are then read.
        skip : int
            Records to leave out.
        follow : bool
            Whether to wait for more.
        whole : bool
            Whether the last line counts only if it has ended.
        size : int
            Records in a batch.
        encoding_errors : str
            What becomes of bytes that are not UTF-8, as in :meth:`bytes.decode`.

        Raises
        ------
        BadRecord
            If a record cannot be read, after those before it were given. No message quotes a record.
        ValueError
            If the file was cut short, overwritten, or replaced by another one while it was followed; what the old one still
            held comes first. If it is not the one that `since` was taken of.
        """
        number = 0
        records: list[list[str]] = []
        with self.path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            first = ""
            if since is not None and self._goes_on(file, since, rotated):
                start, first = int(since["end"]), str(since["first"])
            end = self._begin(file, start)
            reading = _Reading(inode, first, _hashed(file, end), [])
            file.seek(max(0, end - MEMORY))
            last = file.read(min(end, MEMORY))
            blank, gone = b"", ""

            def made() -> Batch:
                nonlocal records, blank
                if blank:
                    reading.raw.append(blank)
                batch = Batch(records, end, reading)
                reading.next()
                records, blank = [], b""
                return batch

            while True:
                try:
                    at = (end, number + 1, follow, whole, encoding_errors)
                    record, raw, line = self._next(file, *at)
                except BadRecord:
                    if records:
                        yield made()
                    raise
                except _Unfinished:
                    file.seek(end)
                    if records:
                        yield made()
                    elif not follow:
                        return
                    elif gone:
                        raise ValueError(f"{self.path}: {gone} while it was read") from None
                    else:
                        time.sleep(WAIT)
                        gone = self._same(file, end, last)
                    continue
                end, last = end + len(raw), line[-MEMORY:]
                blank += raw
                # A quoted nothing is a value of a table of one column; a line of spaces has too few of any other.
                if not record or (len(self.header) > 1 and not raw.strip()):
                    continue
                number += 1
                reading.first = reading.first or _first(file, end)
                if number > skip:
                    records.append(record)
                    reading.raw.append(blank)
                else:
                    reading.before.update(blank)
                blank = b""
                if len(records) == size:
                    yield made()

    def _goes_on(self, file: IO[bytes], since: Mapping[str, Any], rotated: str) -> bool:
        """Whether the open file is the one that was read before; False if another one is to be read from its beginning."""
        end = int(since["end"])
        opened = os.fstat(file.fileno())
        if opened.st_size >= end and _hashed(file, end).hexdigest() == since["digest"]:
            return True
        begin = next(self.batches(size=1, encoding_errors="surrogateescape"), None)
        begun = begin is not None and begin.mark()["first"] == since["first"]
        renamed = opened.st_ino != since["inode"]
        if rotated == "continue" and (renamed or not begun):
            return False
        if begun:
            told = "what was answered before is no longer as it was, or no longer there"
        else:
            how = "another file took its place" if renamed else "it was written anew"
            told = f"{how} since it was answered: its first record is not the one it was"
        if rotated == "error" and (renamed or not begun):
            told += "; say rotated='continue' to take all of its records as those that come next"
        raise ValueError(f"{self.path}: {told}")

    def _begin(self, file: IO[bytes], start: int | None) -> int:
        if start is None:
            return self._start  # type: ignore[attr-defined]
        length = os.fstat(file.fileno()).st_size
        if start > length:
            raise ValueError(f"{self.path}: it is shorter than when it was read before")
        around = os.pread(file.fileno(), 2, max(0, start - 1))
        # The last line may have been read before it had ended; more of it would be a record torn in two.
        if start > 0 and around[:1] != b"\n" and around[1:] not in (b"", b"\r", b"\n"):
            raise ValueError(f"{self.path}: byte {start} is not the end of a record")
        return start

    def _next(
        self,
        file: IO[bytes],
        begin: int,
        number: int,
        follow: bool,
        whole: bool,
        encoding_errors: str,
    ) -> tuple[list[str], bytes, bytes]:
        """The record at the place of the file, its bytes, and its last line."""
        raw: list[bytes] = []
        line = b""
        closed = False
        record: list[str] = []

        def lines() -> Iterator[str]:
            nonlocal line, closed
            while more := file.readline(LONGEST):
                if len(more) == LONGEST:
                    raise csv.Error("a line is too long")
                if (follow or whole) and not more.endswith(b"\n"):
                    raise _Unfinished
                raw.append(more)
                line = more
                yield more.decode("utf-8", encoding_errors)
            closed = True
            if follow:
                raise _Unfinished

        try:
            record = next(csv.reader(lines(), delimiter=str(self.sep)))
            fault = "has a quote that never closes" if closed else ""
        except StopIteration:
            raise _Unfinished from None
        except UnicodeDecodeError:
            fault = "is not UTF-8"
        except csv.Error as error:
            fault = f"cannot be read: {error}"
        if fault:
            raise BadRecord(f"{self.path}: record {number} (at byte {begin}) {fault}")
        return record, b"".join(raw), line

    def _same(self, file: IO[bytes], end: int, last: bytes) -> str:
        """What became of the name of the file that is followed; empty if it is still the one that was read."""
        opened = os.fstat(file.fileno())
        if opened.st_size < end:
            raise ValueError(f"{self.path}: it was cut short while it was read")
        if os.pread(file.fileno(), len(last), end - len(last)) != last:
            raise ValueError(f"{self.path}: it was written anew while it was read")
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return "it was removed"
        if (named.st_ino, named.st_dev) != (opened.st_ino, opened.st_dev):
            return "another file took its place"
        return ""


def _hashed(file: IO[bytes], end: int) -> Any:
    """SHA-256 of the first bytes of an open file."""
    digest = hashlib.sha256()
    at = 0
    while at < end and (data := os.pread(file.fileno(), min(CHUNK, end - at), at)):
        digest.update(data)
        at += len(data)
    return digest


def _first(file: IO[bytes], end: int) -> str:
    """Digest of the header and the first record, whose line may not have ended yet."""
    return hashlib.sha256(os.pread(file.fileno(), end, 0).rstrip(b"\r\n")).hexdigest()
