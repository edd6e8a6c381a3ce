"""Files of records that may still be growing, read in batches, and continued where somebody stopped."""

from __future__ import annotations

import csv
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from whp.io.headers import examine

__all__ = ["PLAIN", "BadRecord", "Batch", "Log"]

PLAIN = (".csv", ".tsv")
WAIT = 0.1  # seconds between looks at a file that is followed
LONGEST = 2**24  # bytes of a line
MEMORY = 64  # bytes before the place reached, which must stay as they were


class Batch(list[list[str]]):
    """Records, each a list of its fields, and where the file stands after the last of them.

    Attributes
    ----------
    end : int
        Byte offset after the last record, to continue from with ``Log.batches(start=end)``.
    """

    end: int

    def __init__(self, records: list[list[str]], end: int) -> None:
        super().__init__(records)
        self.end = end


class BadRecord(ValueError):
    """A record cannot be read; those before it were given."""


class _Unfinished(Exception):
    """The record goes on after what the file holds so far."""


@dataclass(frozen=True)
class Log:
    """A table of text that may still be growing, a record a row.

    A record is what stands between two line breaks outside quotes; blank lines are none. What is counted, skipped and
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

    @property
    def identity(self) -> tuple[int, str]:
        """Inode, and digest of the header and the first record: another file under the same name differs in one of them.

        The digest is empty while there is no whole record.
        """
        first = next(self.batches(size=1, encoding_errors="surrogateescape"), None)
        with self.path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            data = b"" if first is None else file.read(first.end)
        digest = hashlib.sha256(data.rstrip(b"\r\n")).hexdigest() if data else ""
        return inode, digest

    def batches(
        self,
        *,
        start: int | None = None,
        skip: int = 0,
        follow: bool = False,
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
        skip : int
            Records to leave out.
        follow : bool
            Whether to wait for more.
        size : int
            Records in a batch.
        encoding_errors : str
            What becomes of bytes that are not UTF-8, as in :meth:`bytes.decode`.

        Raises
        ------
        BadRecord
            If a record cannot be read, after those before it were given. No message quotes a record.
        ValueError
            If the file was cut short, overwritten, or replaced by another one while it was followed.
        """
        number = 0
        records: list[list[str]] = []
        with self.path.open("rb") as file:
            end = self._begin(file, start)
            file.seek(max(0, end - MEMORY))
            last = file.read(min(end, MEMORY))
            while True:
                try:
                    at = (end, number + 1, follow, encoding_errors)
                    record, length, line = self._next(file, *at)
                except BadRecord:
                    if records:
                        yield Batch(records, end)
                    raise
                except _Unfinished:
                    file.seek(end)
                    if records:
                        yield Batch(records, end)
                        records = []
                    elif not follow:
                        return
                    else:
                        time.sleep(WAIT)
                        self._same(file, end, last)
                    continue
                end, last = end + length, line[-MEMORY:]
                if len(record) < 2 and not "".join(record).strip():  # a blank line
                    continue
                number += 1
                if number > skip:
                    records.append(record)
                if len(records) == size:
                    yield Batch(records, end)
                    records = []

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
        self, file: IO[bytes], begin: int, number: int, follow: bool, encoding_errors: str
    ) -> tuple[list[str], int, bytes]:
        """The record at the place of the file, its length in bytes, and its last line."""
        length = 0
        line = b""
        closed = False
        record: list[str] = []

        def lines() -> Iterator[str]:
            nonlocal line, length, closed
            while more := file.readline(LONGEST):
                if len(more) == LONGEST:
                    raise csv.Error("a line is too long")
                if follow and not more.endswith(b"\n"):
                    raise _Unfinished
                length += len(more)
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
        return record, length, line

    def _same(self, file: IO[bytes], end: int, last: bytes) -> None:
        """Whether the file that is followed is still the one that was read."""
        try:
            named = self.path.stat()
        except FileNotFoundError:
            raise ValueError(f"{self.path}: it was removed while it was read") from None
        opened = os.fstat(file.fileno())
        if (named.st_ino, named.st_dev) != (opened.st_ino, opened.st_dev):
            raise ValueError(f"{self.path}: another file took its place while it was read")
        if opened.st_size < end:
            raise ValueError(f"{self.path}: it was cut short while it was read")
        if os.pread(file.fileno(), len(last), end - len(last)) != last:
            raise ValueError(f"{self.path}: it was written anew while it was read")
