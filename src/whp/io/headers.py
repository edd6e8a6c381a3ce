"""The first lines of a table of text, looked at before they are used."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from whp.io.sources import open_binary

__all__ = ["NUMBER", "SEPARATORS", "Header", "Names", "examine", "split"]

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
HEAD = 2**18  # bytes that are looked at
SAMPLE = 200  # records of them

Names = Literal["wanted", "optional", "words"]


@dataclass
class Header:
    """What the head of a file says.

    Attributes
    ----------
    names : list of str
        Of the columns, as many as there are fields; empty for those without a name.
    sep : str
        What parts the fields.
    start : int
        Bytes before the first record of data.
    absent : bool
        Whether the first line is data already, so that the names are made up.
    sample : list of list of str
        The first records of data.
    notes : list of str
        What a user should know of how it was read.
    """

    names: list[str]
    sep: str
    start: int
    absent: bool = False
    sample: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def split(data: bytes, sep: str, whole: bool) -> Iterator[tuple[list[str], int]]:
    """Records of `data` and the bytes up to the end of each; without `whole` an unfinished last one is left out.

    Line breaks in quotes belong to their record.
    """
    place = 0
    asked_at_the_end = False

    def lines() -> Iterator[str]:
        nonlocal place, asked_at_the_end
        while place < len(data):
            end = data.find(b"\n", place) + 1
            if not end and not whole:
                break
            line = data[place : end or None]
            place = end or len(data)
            yield line.decode("utf-8")
        asked_at_the_end = True

    reader = csv.reader(lines(), delimiter=sep)
    for record in reader:
        if asked_at_the_end:  # a quoted field that never closes
            return
        yield record, place


def _words(record: list[str]) -> list[str]:
    return [f.strip() for f in record]


def looks_like_data(record: list[str], names: Names) -> bool:
    """Whether a first line holds numbers that are no names: years or horizons in steps may be."""
    words = _words(record)
    if not words or not all(NUMBER.fullmatch(w) for w in words):
        return False
    if names == "words":
        return True
    whole = all(w.isdigit() for w in words)
    steps = {int(b) - int(a) for a, b in pairwise(words)} if whole else set()
    return not (len(words) > 1 and len(steps) == 1 and steps.pop() > 0)


def _decoded(path: Path) -> tuple[bytes, bool]:
    """The head of a file and whether that is all of it."""
    with open_binary(path) as file:
        data = file.read(HEAD + 1)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("it is UTF-16; save it as UTF-8")
    if b"\0" in data:
        raise ValueError("it holds zero bytes, so it is no text")
    return data[:HEAD], len(data) <= HEAD


def _separator(data: bytes, whole: bool, default: str) -> str:
    """The separator under which the head falls into records of one width, the header's among them."""
    best, chosen = (0.0, 0, False), default
    for sep in SEPARATORS:
        widths = [len(r) for r, _ in _take(data, sep, whole) if r]
        if not widths or widths[0] < 2:
            continue
        common, times = Counter(widths).most_common(1)[0]
        like_header = abs(common - widths[0]) <= 1 and common > 1
        score = (times / len(widths) if like_header else 0.0, widths[0], sep == default)
        if (score[0] > best[0] + 0.05) or (abs(score[0] - best[0]) <= 0.05 and score > best):
            best, chosen = score, sep
    return chosen


def _take(data: bytes, sep: str, whole: bool) -> list[tuple[list[str], int]]:
    found = []
    try:
        for item in split(data, sep, whole):
            found.append(item)
            if len(found) > SAMPLE:
                break
    except csv.Error as error:
        if not found:
            raise ValueError(f"its first lines are no table: {error}") from error
    except UnicodeDecodeError:
        if not found:
            raise ValueError("it is not UTF-8; save it as UTF-8") from None
    return found


def examine(path: Path, *, sep: str | None = None, names: Names = "wanted") -> Header:
    """Separator, names and start of the data of a csv or tsv file.

    Names may be "wanted", so that there must be a header; "optional", so that a first line of numbers is data unless they rise
    in steps as years do; or "words", so that a line of numbers never is a header.

    Leading lines that start with ``%`` or ``#`` and do not have as many fields as the next are comments.

    Raises
    ------
    ValueError
        If there is no header although names are wanted, a name is missing or comes twice, or it is no text.
    """
    data, whole = _decoded(path)
    tabs = ".tsv" in [s.lower() for s in path.suffixes]
    default = "\t" if tabs else ","
    skipped = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    notes = []
    while True:  # comments before the header
        rest = data[skipped:]
        sign = rest.lstrip(b" \t\r\n")[:1]
        end = rest.find(b"\n") + 1
        if sign not in (b"#", b"%"):
            break
        chosen = sep or _separator(rest[end:], whole, default)
        records = _take(rest, chosen, whole)
        width = len(records[1][0]) if len(records) > 1 else 0
        numbers = [any(map(NUMBER.fullmatch, _words(r))) for r, _ in records[1:3]]
        comment = width != len(records[0][0]) if records else True
        comment |= numbers == [False, True] or (width == 1 and numbers[:1] == [False])
        if not end or not comment:
            break
        skipped += end
    rest = data[skipped:]
    if not rest.strip():
        raise ValueError("it has no rows, not even a header")
    chosen = sep or _separator(rest, whole, default)
    if chosen != default and sep is None:
        notes.append(f"parted by {SEPARATORS.get(chosen, chosen)}")
    records = [(r, e) for r, e in _take(rest, chosen, whole) if r]
    if not records:
        raise ValueError("it has no header line that ends")
    first, end = records[0]
    titles = _words(first)
    sample = [r for r, _ in records[1:]]
    if looks_like_data(first, names):
        if names == "wanted":
            raise ValueError(
                f"its first line holds numbers ({', '.join(titles[:3])}), not names of columns; add a header line"
            )
        notes.append("no header line")
        titles = [f"column {j + 1}" for j in range(len(first))]
        return Header(titles, chosen, skipped, True, [first, *sample], notes)
    widths = Counter(map(len, sample))
    common = widths.most_common(1)[0][0] if widths else len(titles)
    if common == len(titles) + 1:
        titles.append("")  # a separator at the end of every row, or numbers of rows without a name
    elif common == len(titles) - 1 and titles[-1] == "":
        titles.pop()
    if twice := [n for n, times in Counter(titles).items() if times > 1 and n]:
        raise ValueError(
            f"column {twice[0]!r} appears {titles.count(twice[0])} times in its header"
        )
    return Header(titles, chosen, skipped + end, False, sample, notes)
