"""Files as streams of bytes: endings, compression, and how large a file may claim to be."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = [
    "COMPRESSED",
    "PACKED",
    "bounded",
    "holds",
    "open_binary",
    "packing",
    "suffix",
    "text_of",
]

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
PACKED = (".csv", ".tsv", ".jsonl", ".mtx", ".gml", ".graphml", ".edges", ".edgelist", ".txt")
SMALL = 2**30  # up to here any size is believed
RATIO = 200  # beyond it no more bytes than this for each byte of the file


def packing(path: Path) -> str:
    """The ending of the compression, or nothing."""
    last = path.suffix.lower()
    return last if last in COMPRESSED and len(path.suffixes) > 1 else ""


def suffix(path: Path) -> str:
    """The ending that says the format, that of a compressed text format without its compression."""
    if packing(path) and (inner := Path(path.stem).suffix.lower()) in PACKED:
        return inner
    return path.suffix.lower()


def bounded(claimed: int, path: Path) -> None:
    """Refuse sizes that a file claims and cannot mean.

    Raises
    ------
    ValueError
        If `claimed` bytes are beyond what a file of its size could honestly hold.
    """
    if claimed > max(SMALL, RATIO * path.stat().st_size):
        raise ValueError(
            f"it claims {claimed / 2**20:,.0f} MiB in a file of {path.stat().st_size:,} bytes"
        )


class _Bounded(io.RawIOBase):
    """A decompressed stream that ends with an error where it grows beyond belief."""

    def __init__(self, stream: Any, path: Path) -> None:
        self.stream, self.path, self.count = stream, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(len(buffer))
        self.count += len(data)
        bounded(self.count, self.path)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.stream.close()
        super().close()


def open_binary(path: Path) -> Any:
    """The file, decompressed where its ending says so."""
    openers = {".gz": "gzip", ".bz2": "bz2", ".xz": "lzma"}
    packed = packing(path)
    if not packed:
        return path.open("rb")
    if packed == ".zst":
        import pyarrow as pa

        stream: Any = pa.CompressedInputStream(pa.OSFile(str(path)), "zstd")
    else:
        stream = import_module(openers[packed]).open(path, "rb")
    return io.BufferedReader(_Bounded(stream, path), 2**20)


def holds(path: Path, byte: bytes) -> bool:
    """Whether a byte occurs in a file; of a compressed one it is not known, so True."""
    if packing(path):
        return True
    import mmap

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(byte) >= 0


def text_of(path: Path, encoding: str = "utf-8") -> str:
    """All of a text file; a byte order mark is no part of it.

    Raises
    ------
    ValueError
        If it is not written so; the message has the first byte that is not, and what to do.
    """
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError):  # unknown, or no encoding of texts, such as zlib
        raise ValueError(
            f"there is no encoding {encoding!r}; latin-1 and utf-16 are some"
        ) from None
    with open_binary(path) as file:
        data = file.read()
    if encoding.lower().replace("_", "-") in ("utf-8", "utf8"):
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError("it is UTF-16; give --encoding utf-16")
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        byte, name = data[error.start], "UTF-8" if encoding == "utf-8-sig" else encoding
        raise ValueError(
            f"byte 0x{byte:02x} at {error.start:,} is not {name}; save it as UTF-8, or give "
            "--encoding (latin-1, cp1252)"
        ) from None
