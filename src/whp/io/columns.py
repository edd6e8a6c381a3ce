"""A column of a table: what it may be used for, and what stands in the way."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

import numpy as np

from whp.io.headers import NUMBER

__all__ = ["MAX_LEVELS", "Column", "Role", "like_codes", "quote"]

MAX_LEVELS = 100  # a text column with more values than this is an identifier, not a category
SOME, MOST = 0.1, 0.9  # shares of numbers that make a column of words suspicious

Role = Literal["number", "design", "features", "any", "values", "labels", "ids"]

COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+(?:[eE][+-]?[0-9]+)?")
DATE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})"
    r"|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}|[A-Za-z]{3,9} \d{1,2},? \d{4})"
    r"(?:[T ]+\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?(?:Z|[+-]\d{2}:?\d{2})?)?"
    r"|\d{1,2}:\d{2}(?::\d{2})?(?: ?[AaPp][Mm])?"
)
LOOKS = (
    ("money", re.compile(r"[+-]?\s?[$€£¥]\s?[0-9.,]+|[+-]?[0-9.,]+\s?[$€£¥]")),
    ("percentages", re.compile(r"[+-]?[0-9.,]+\s?%")),
    ("thousands with separators", re.compile(r"[+-]?[0-9]{1,3}(?:[,' ][0-9]{3})+(?:\.[0-9]+)?")),
    ("decimal commas", COMMA),
    ("thousands with dots", re.compile(r"[+-]?[0-9]{1,3}(?:\.[0-9]{3}){2,}(?:,[0-9]+)?")),
)


def quote(value: Any) -> str:
    """A value as Python writes it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:40]}…{text[0]}"


class Column:
    """One column as it stands in the file.

    Parameters
    ----------
    name : str
    values : pyarrow.ChunkedArray
    declared : bool
        Whether the file says of what type it is.
    commas : bool
        Whether numbers may have decimal commas, since fields are not parted by them.
    """

    def __init__(self, name: str, values: Any, declared: bool, commas: bool = False) -> None:
        import pyarrow as pa

        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        self.name, self.values, self.declared, self.commas = name, values, declared, commas
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.values)

    @property
    def text(self) -> bool:
        """Whether its cells are text."""
        import pyarrow as pa

        kind = self.values.type
        return (
            pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view()
        )

    @property
    def temporal(self) -> bool:
        """Whether the file declares its cells to be dates or times."""
        import pyarrow as pa

        return pa.types.is_temporal(self.values.type)

    @property
    def broken(self) -> str:
        """What stands in the way of any use, or nothing."""
        import pyarrow as pa

        kind = self.values.type
        if self.temporal:
            first = next((v for v in self.values if v.is_valid), None)
            return f"holds dates or times ({first}); leave it out or give numbers"
        if pa.types.is_nested(kind):
            return "holds lists or records, not single values"
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return "holds bytes"
        if pa.types.is_null(kind):
            return "is empty"
        return ""

    @cached_property
    def absent(self) -> np.ndarray:
        """Which rows lack a value: the cell is empty, or a float is NaN."""
        import pyarrow as pa
        import pyarrow.compute as pc

        nulls = pc.is_null(self.values, nan_is_null=pa.types.is_floating(self.values.type))
        if self.text and self._cast is None:
            blank = pc.match_substring_regex(self.values, r"^\s*$")
            nulls = pc.or_(nulls, pc.fill_null(blank, False))
        return nulls.to_numpy()

    @cached_property
    def floats(self) -> np.ndarray | None:
        """Its numbers, NaN where one is missing; None if it is not all numbers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.broken:
            return None
        if self.text:
            return self._look.floats if self._cast is None else self._cast
        found = pc.cast(self.values, pa.float64(), safe=False).to_numpy()
        return found if not np.isinf(found).any() else None

    @cached_property
    def _cast(self) -> np.ndarray | None:
        """A text column as floats where arrow can read every cell, and what looks like nan and inf is none of them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            values = pc.cast(self.values, pa.float64())
        except pa.ArrowInvalid:
            return None
        found = values.to_numpy()
        missing = len(found) - int(np.isfinite(found).sum())
        return found if missing == values.null_count else None

    @cached_property
    def whole(self) -> np.ndarray | None:
        """Its numbers as int64 if they are written as whole ones and none is missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_integer(self.values.type) or self.text:
            try:
                return None if self.absent.any() else pc.cast(self.values, pa.int64()).to_numpy()
            except pa.ArrowInvalid:
                return None
        return None

    @cached_property
    def flags(self) -> np.ndarray | None:
        """Its truth values, if it has two words for them or is declared so."""
        import pyarrow as pa

        if pa.types.is_boolean(self.values.type):
            return None if self.absent.any() else self.values.to_numpy().astype(bool)
        if not self.text or self.declared or self.floats is not None or self.absent.any():
            return None
        if not set(self.words) <= {"true", "false", "True", "False", "TRUE", "FALSE"}:
            return None
        return np.array([w.lower() == "true" for w in self.words])[self.codes]

    @cached_property
    def _coded(self) -> tuple[list[str], np.ndarray]:
        coded = self.values.dictionary_encode().unify_dictionaries()
        if coded.num_chunks == 0:
            return [], np.empty(0, dtype=np.int64)
        codes = [np.asarray(c.indices.fill_null(-1)) for c in coded.chunks]
        return [str(w) for w in coded.chunk(0).dictionary.to_pylist()], np.concatenate(codes)

    @property
    def words(self) -> list[str]:
        """Different values of a text column, in the order of their first appearance."""
        return self._coded[0]

    @property
    def codes(self) -> np.ndarray:
        """Place of each row's value in `words`, −1 where it is missing."""
        return self._coded[1]

    @cached_property
    def zeros_lead(self) -> bool:
        """Whether it is text with numbers such as 007, which are names."""
        import pyarrow.compute as pc

        return self.text and bool(
            pc.any(pc.match_substring_regex(self.values, r"^[+-]?0[0-9]")).as_py()
        )

    @cached_property
    def _look(self) -> _Look:
        return _Look(self)

    def strings(self) -> np.ndarray:
        """Its cells as text, leading zeros and all."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.temporal:  # without hours where all are midnight
            return self.values.to_pandas().astype(str).to_numpy(dtype=object)
        if pa.types.is_floating(self.values.type) and not self.absent.any():
            whole = pc.cast(self.values, pa.float64()).to_numpy()
            if (whole == np.floor(whole)).all() and np.abs(whole).max(initial=0) < 2**53:
                return whole.astype(np.int64).astype(str).astype(object)
        return np.array(pc.cast(self.values, pa.string()).to_pylist(), dtype=object)

    def refusal(self, role: Role) -> str:
        """Why it cannot be what it is wanted for, or nothing."""
        dates = role == "any" and self.temporal  # as a csv has them, in words
        if self.broken and not dates:
            return self.broken
        if role == "values":  # each is one, a missing one too
            return ""
        missing = int(self.absent.sum())
        if missing == len(self):
            return "is empty"
        numeric = self.floats is not None
        if missing and not (role == "any" and numeric):
            some = "a missing value" if missing == 1 else f"{missing:,} missing values"
            return f"has {some}, first in row {int(self.absent.argmax()) + 1}"
        if dates:
            return ""
        if numeric or role == "ids":
            return self._too_many() if role in ("design", "features") and self.named else ""
        if not self.text:
            return "holds infinity, not numbers"
        if role == "number":
            return "" if self.flags is not None else self._look.no_numbers()
        if self.flags is not None:
            return ""
        look = self._look
        limit = SOME if role in ("design", "features") else MOST
        if not self.declared and limit <= look.share < 1:
            return look.no_numbers()
        if role in ("design", "features"):
            if look.dates >= MOST:
                return f"holds dates or times ({quote(look.date)}), which are no categories"
            if not self.declared and look.like:
                return look.no_numbers()
            return self._too_many()
        return ""

    @cached_property
    def named(self) -> bool:
        """Whether its values are names although they may look like numbers: text by type, or codes such as 01234."""
        if not self.text or self.declared:
            return self.text
        return self.zeros_lead and like_codes(w for w in self.words if w.strip())

    def _too_many(self) -> str:
        levels, rows = len(self.words), len(self)
        if levels <= MAX_LEVELS and 2 * levels <= rows + 1:
            return ""
        return f"is text with {levels:,} different values in {rows:,} rows, which is no category"

    @property
    def category(self) -> bool:
        """Whether it takes dummies in a regression."""
        return self.text and self.flags is None and (self.named or self.floats is None)

    @property
    def words_alone(self) -> bool:
        """Whether it is text and meant to be: hardly a cell, if it is not declared text, is a number."""
        if self.broken or not self.text or self.flags is not None:
            return False
        return self.declared or (self.floats is None and self._look.share < SOME)

    def array(self, role: Role) -> np.ndarray:
        """Its values for `role`; only where :meth:`refusal` has nothing to say."""
        if role == "ids":
            return self.strings()
        flags = self.flags
        if role == "number":
            return self._floats() if flags is None else flags.astype(float)
        if flags is not None:
            return flags
        if self.named or self.zeros_lead or self.floats is None:  # 01 and 1 are two names
            return self.strings()
        return self.whole if self.whole is not None else self._floats()

    def _floats(self) -> np.ndarray:
        assert self.floats is not None
        if self.text and "_look" in self.__dict__ and self._look.commas:
            self.notes.append(f"{self.name!r} with decimal commas")
        return self.floats


class _Look:
    """Different values of a text column, each looked at once."""

    def __init__(self, column: Column) -> None:
        words = [w.strip() for w in column.words]
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(words))
        filled = np.array([w != "" for w in words], dtype=bool)
        numbers = np.array([NUMBER.fullmatch(w) is not None for w in words], dtype=bool)
        values = np.array(
            [float(w) if n else np.nan for w, n in zip(words, numbers, strict=True)], dtype=float
        )
        numbers &= ~np.isinf(values)
        self.commas = column.commas and _commas(words)
        if self.commas:
            for j, word in enumerate(words):
                if COMMA.fullmatch(word):
                    values[j], numbers[j] = float(word.replace(",", ".")), True
        total = max(1, int(counts[filled].sum()))
        self.column, self.words, self.numbers, self.filled = column, words, numbers, filled
        self.share = float(counts[numbers].sum() / total)
        dated = [bool(DATE.fullmatch(w)) for w in words]
        self.dates = float(counts[dated].sum() / total) if dated else 0.0
        self.date = words[dated.index(True)] if any(dated) else ""
        self.like, self.example = "", ""
        for name, pattern in LOOKS:
            fits = np.array([bool(pattern.fullmatch(w)) for w in words], dtype=bool) & ~numbers
            both = counts[fits | numbers].sum()
            if both > 0.5 * total and counts[fits].sum() > SOME * both:
                word = int(fits.argmax())
                row = int((column.codes == word).argmax()) + 1
                self.like, self.example = name, f"{quote(words[word])} in row {row}"
                break
        self.floats: np.ndarray | None = None
        if (numbers | ~filled).all() and numbers.any():
            self.floats = np.append(values, np.nan)[column.codes]

    def no_numbers(self) -> str:
        """What speaks against numbers, with the value and its row."""
        if self.like:
            return f"looks like {self.like} ({self.example}); write plain numbers"
        bad = ~self.numbers & self.filled
        codes = self.column.codes
        wrong = bad[codes] & (codes >= 0)
        row = int(wrong.argmax())
        value = self.words[codes[row]]
        if self.share == 0:
            kind = "dates or times" if self.dates >= MOST else "text"
            return f"holds {kind} ({quote(value)} in row {row + 1}), not numbers"
        n = int(wrong.sum())
        others = "" if n == 1 else f", and in {n - 1:,} more"
        beyond = " (beyond the range of floats)" if NUMBER.fullmatch(value) else ""
        return f"holds {quote(value)}{beyond} in row {row + 1}{others}, which is no number"


def like_codes(words: Iterable[str]) -> bool:
    """Whether words may be codes: whole numbers of one width above one digit."""
    widths = {len(w) if w.isdigit() else 0 for w in words}
    return len(widths) == 1 and widths.pop() > 1


def _commas(words: Iterable[str]) -> bool:
    """Whether commas are decimal: one is clear, and none speaks against it."""
    clear = False
    for word in words:
        if "," not in word:
            if "." in word:
                return False
            continue
        if not COMMA.fullmatch(word):
            return False
        left, right = re.split(",", word.lstrip("+-"), maxsplit=1)
        clear |= len(right) != 3 or len(left) > 3 or left.startswith("0")
    return clear
