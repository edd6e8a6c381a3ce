"""Rows of zeros and ones out of whatever a stream is given as, and the place in it from which to go on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

import numpy as np
from scipy.sparse import issparse

from whp.io import Log
from whp.io.streams import BadRecord
from whp.progress import track
from whp.validate import column_names

__all__ = ["FROM_DATA", "Block", "Records"]

BATCH = 4096
OTHER = "(other)"
FROM_DATA = "from-data"
HEADLESS = "stream must be a file whose first line names its columns: that line reads like a record"
MOST = 10_000  # categories read from data
BITS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}  # in lower case
Unknown = Literal["error", "other", "none"]


@dataclass(frozen=True)
class Block:
    """Some records, and the place after them.

    Parameters
    ----------
    rows : array_like, shape (n, d)
    place : dict
        For a state: a digest of all that was read up to there, and of a file where it is.
    bad : str
        What is wrong with the record after the last one here; empty if nothing is.
    """

    rows: Any
    place: dict[str, Any] = field(default_factory=dict)
    bad: str = ""


class Records:
    """A stream as rows of zeros and ones.

    Parameters
    ----------
    stream : array_like, scipy.sparse, iterable of rows, or Log
    column : str, optional
        Of a table, that holds a category.
    categories : sequence of str, or str, optional
        Public list; names of the columns where records are rows; ``"from-data"`` to read them from the data.
    on_unknown : {"error", "other", "none"}
        What becomes of a record that is not as described.
    follow : bool
        Whether to wait for more of a file.
    rotated : {"error", "continue"}
        Whether another file may have taken the place of the one that was read before.

    Attributes
    ----------
    names : tuple of str
        Of the columns.
    count : int or None
        Records, where they are known.
    faults : list of str
        What was read from the data and should be public.
    """

    def __init__(
        self,
        stream: Any,
        column: str | None,
        categories: str | Sequence[Any] | np.ndarray | None,
        on_unknown: Unknown,
        *,
        follow: bool = False,
        rotated: Literal["error", "continue"] = "error",
    ) -> None:
        self.stream: Any = stream
        self.follow = follow
        self.rotated: Literal["error", "continue"] = rotated
        self.faults: list[str] = []
        self.count: int | None = None
        self.on_unknown = on_unknown
        self.whole = False  # whether the last line of a file must have ended
        self.categories: dict[str, int] | None = None
        self.column: str | None = None
        self._at = -1
        if stream is None:
            raise TypeError("stream must be an array, an iterable of rows or a file, got None")
        if isinstance(categories, set | frozenset):
            raise TypeError("categories must be in an order, as a list is: a set has none")
        if categories is not None and not isinstance(categories, str):
            categories = list(categories)  # an array, an index
        if isinstance(stream, Log):
            self._from_log(stream, column, categories)
        else:
            self._from_memory(stream, column, categories)
        if self.categories is None and on_unknown == "other":
            raise ValueError(
                "on_unknown must be 'error' or 'none' where records are rows, got 'other'"
            )

    @property
    def described(self) -> str:
        """What a record is, in words."""
        if self.categories is None:
            return f"zeros and ones in {len(self.names)} columns"
        return f"one category of {len(self.names)} (two entries change)"

    @property
    def source(self) -> dict[str, Any]:
        """What two runs must agree on to be one stream, beside the settings of the mechanism."""
        return {
            "column": self.column,
            "categories": list(self.names),
            "one category a record": self.categories is not None,
        }

    def _from_log(
        self, log: Log, column: str | None, categories: str | Sequence[Any] | None
    ) -> None:
        if column is None and (categories is None or len(log.header) > 1):
            named = log.header if categories is None else self._named(categories, log.header)
            if all(name.strip().lower() in BITS for name in log.header):
                raise ValueError(HEADLESS)
            self.names: tuple[str, ...] = named
            return
        name = next(iter(log.header)) if column is None else column
        if name not in log.header:
            # Where there is no header, what stands there is a record.
            raise ValueError(
                f"column must be one of the {len(log.header)} that the first line of the file names, got {name!r}"
            )
        self.column, self._at = name, log.header.index(name)
        at = self._at

        def seen() -> Iterable[str]:
            if self.follow:
                raise ValueError("categories must be listed for a file that is still growing")
            return (row[at] for batch in log.batches() for row in batch if at < len(row))

        self._list(categories, f"the values of {name!r}", seen)
        if categories != FROM_DATA and _label(name) in _split(categories or ()):
            raise ValueError(HEADLESS)

    def _from_memory(
        self, stream: Any, column: str | None, categories: str | Sequence[Any] | None
    ) -> None:
        self.column = column
        if column is not None:
            if not hasattr(stream, "columns") or column not in stream.columns:
                raise ValueError(f"column {column!r} is not in the stream")
            if list(stream.columns).count(column) > 1:
                raise ValueError(f"column {column!r} is there more than once in the stream")
            stream = stream[column]
        dtype = getattr(stream, "dtype", None)
        if column is not None:
            stream = stream.to_numpy()
        if isinstance(stream, np.ma.MaskedArray):
            raise TypeError("stream must be no masked array: what is masked would be counted")
        names = column_names(stream)
        if isinstance(stream, Iterable) and not hasattr(stream, "__len__") and not issparse(stream):
            self._from_iterator(iter(stream), categories)
            return
        try:
            array: Any = stream if issparse(stream) else _array(stream)
        except ValueError as error:
            raise ValueError("stream must have records of one width") from error
        if array.ndim == 1 and column is None and categories is None and array.dtype.kind in "biuf":
            array = array[:, None]  # one column of zeros and ones
        if array.ndim == 1 and array.size:
            written = _written(dtype if hasattr(dtype, "kind") else array.dtype)
            labels = _labels(array, written)
            what = "the values of the stream" if column is None else f"the values of {column!r}"
            self._list(categories, what, lambda: labels, written)
            self.stream, self.count = labels, len(labels)
            return
        if array.ndim != 2 or 0 in array.shape:
            raise ValueError(f"stream must have records and columns, got shape {array.shape}")
        names = names or tuple(f"column {j}" for j in range(array.shape[1]))
        self.names = names if categories is None else self._named(categories, names)
        if issparse(array):
            array = array.tocsr(copy=True)
            array.sum_duplicates()  # what is stored twice at one place counts twice
        self.stream = array
        self.count = array.shape[0]

    def _from_iterator(self, rows: Iterator[Any], categories: str | Sequence[Any] | None) -> None:
        if categories is not None:
            if categories == FROM_DATA:
                raise ValueError("categories must be listed for an iterable, which is read once")
            self._list(categories, "the values of the stream", list)
            self.stream = rows
            return
        first = next(rows, None)
        if first is None:
            raise ValueError("stream must have at least one record")
        if np.ndim(first) != 1 or np.size(first) == 0:
            raise ValueError(
                "stream must give rows of zeros and ones, or categories must list what it gives; got an entry of shape "
                f"{np.shape(first)}"
            )
        self.stream = chain([first], rows)
        self.names = tuple(f"column {j}" for j in range(np.size(first)))

    def _list(
        self,
        categories: str | Sequence[Any] | None,
        what: str,
        seen: Any,
        written: Callable[[Any], str] | None = None,
    ) -> None:
        if categories is None:
            raise ValueError(
                f"categories must list {what} from public knowledge; names read from the data would themselves be published "
                f"(say categories={FROM_DATA!r} to do that anyway: the privacy certificate is then void)"
            )
        if categories == FROM_DATA:
            self.faults.append("categories were read from the data")
            listed = sorted({_label(v) for v in seen()})
            if len(listed) > MOST:
                raise ValueError(f"categories must be listed: the data have {len(listed)} of them")
        else:
            listed = _split(categories)
        known = [written(v) for v in listed] if written else list(listed)
        if self.on_unknown == "other":
            listed.append(OTHER)
            known.append(OTHER)
        if len(set(known)) != len(known) or not known:
            raise ValueError("categories must be a list of different names")
        self.names = tuple(listed)
        self.categories = {name: j for j, name in enumerate(known)}

    def _named(self, categories: str | Sequence[Any], names: Sequence[str]) -> tuple[str, ...]:
        if categories == FROM_DATA:
            raise ValueError("categories must be names of the columns where records are rows")
        given = tuple(_split(categories))
        if len(given) != len(names):
            raise ValueError(f"categories must name the {len(names)} columns, got {len(given)}")
        own = [_label(n) for n in names]
        moved = [g for g, n in zip(given, own, strict=True) if g != n and g in own]
        if moved:
            raise ValueError(
                f"categories must name the columns in their order, but {moved[0]!r} is another column of the stream"
            )
        return given

    def blocks(self, skip: int, place: dict[str, Any], size: int | None) -> Iterator[Block]:
        """Records after the first `skip`, which end at `place`, some at a time.

        A bad record ends the blocks with an error in their last one, unless it counts as none or other: the records before
        it come first.

        Raises
        ------
        ValueError
            If what was read before is no longer there.
        """
        if isinstance(self.stream, Log):
            yield from self._of_log(self.stream, skip, place)
        elif self.count is not None:
            yield from self._of_array(skip, place, size or BATCH)
        else:
            yield from self._of_iterator(skip, place)

    def _of_array(self, skip: int, place: dict[str, Any], size: int) -> Iterator[Block]:
        assert self.count is not None
        if skip > self.count:
            raise ValueError(_other(skip))
        rows = self.stream
        bad = "" if self.on_unknown != "error" else self._first_bad(rows)
        if bad:  # before anything is answered
            yield Block(np.zeros((0, len(self.names)), np.uint8), {}, bad)
            return
        digest = hashlib.sha256()
        for start in range(0, skip, size):
            digest.update(_bytes(self._part(start, min(start + size, skip))))
        if skip and place != {"digest": digest.hexdigest()}:
            raise ValueError(_other(skip))
        for start in track(range(skip, self.count, size), "answering"):
            part = self._part(start, min(start + size, self.count))
            digest.update(_bytes(part))
            yield Block(part, {"digest": digest.hexdigest()})

    def _part(self, start: int, end: int) -> Any:
        """Records of an array as they count."""
        part = self.stream[start:end]
        if self.categories is not None:
            return self._one_hot(part, start)[0]
        return _zeroed(part) if self.on_unknown == "none" else part

    def _first_bad(self, rows: Any) -> str:
        if self.categories is not None:
            known = self.categories
            at = next((i for i, label in enumerate(rows) if label not in known), None)
            return "" if at is None else self._unlisted(at + 1)
        if issparse(rows):
            right = (rows.data == 0) | (rows.data == 1)
            at = None if right.all() else np.searchsorted(rows.indptr, right.argmin(), "right") - 1
        elif rows.dtype.kind not in "biuf":
            raise TypeError(f"stream must hold zeros and ones, got dtype {rows.dtype}")
        else:
            right = ((rows == 0) | (rows == 1)).all(axis=1)
            at = None if right.all() else int(right.argmin())
        return "" if at is None else f"record {at + 1} must hold zeros and ones only"

    def _unlisted(self, number: int) -> str:
        return (
            f"record {number} has a category that is not in categories; with on_unknown='none' such records count for no "
            "category, and which ones is not told"
        )

    def _of_iterator(self, skip: int, place: dict[str, Any]) -> Iterator[Block]:
        digest = hashlib.sha256()
        number = -1
        for number, row in enumerate(self.stream):
            if self.categories is not None:
                rows, bad = self._one_hot([_label(row)], number)
            else:
                rows, bad = self._row(row, number)
            if number < skip and bad:
                raise ValueError(_other(skip))
            digest.update(_bytes(rows))
            here = {"digest": digest.hexdigest()}
            if number == skip - 1 and here != place:
                raise ValueError(_other(skip))
            if number >= skip:
                yield Block(rows, here, bad)
                if bad:
                    return
        if number < skip - 1:
            raise ValueError(_other(skip))

    def _row(self, row: Any, number: int) -> tuple[np.ndarray, str]:
        """A row of an iterator, and what is wrong with it."""
        none = np.zeros((1, len(self.names)), np.uint8)
        if issparse(row):
            row = row.toarray()[0]
        rows = np.asarray(row)[None]
        if (
            isinstance(row, np.ma.MaskedArray)
            or rows.shape != none.shape
            or rows.dtype.kind not in "biuf"
            or not ((rows == 0) | (rows == 1)).all()
        ):
            if self.on_unknown == "none":
                return none, ""
            return none[:0], f"record {number + 1} must hold {len(self.names)} zeros and ones"
        return rows, ""

    def _of_log(self, log: Log, skip: int, place: dict[str, Any]) -> Iterator[Block]:
        done = skip
        lenient = "surrogateescape" if self.on_unknown != "error" else "strict"
        batches = log.batches(
            since=place or None,
            rotated=self.rotated,
            follow=self.follow,
            whole=self.whole,
            encoding_errors=lenient,
        )
        while True:
            try:
                batch = next(batches, None)
            except BadRecord as error:
                yield Block(np.zeros((0, len(self.names)), np.uint8), {}, str(error))
                return
            if batch is None:
                return
            rows, bad, good = self._parsed(batch, done)
            if bad:
                yield Block(rows, batch.mark(good) if good else {}, bad)
                return
            done += len(batch)
            yield Block(rows, batch.mark())

    def _parsed(self, batch: list[list[str]], done: int) -> tuple[np.ndarray, str, int]:
        """Rows, what is wrong with the first bad one, and how many come before it."""
        if self.categories is not None:
            at = self._at
            # A record without that field has no category, and none can be listed that is called so.
            labels = [row[at].strip() if at < len(row) else "\n" for row in batch]
            rows, bad = self._one_hot(labels, done)
            return rows, bad, len(rows)
        rows = np.zeros((len(batch), len(self.names)), dtype=np.uint8)
        for i, row in enumerate(batch):
            bits = [BITS.get(v.strip().lower(), -1) for v in row]
            if len(bits) == len(self.names) and min(bits) >= 0:
                rows[i] = bits
            elif self.on_unknown == "error":
                told = (
                    f"record {done + i + 1} must have {len(self.names)} columns of zeros and ones (for one category a record "
                    "say which column holds it, and list the categories)"
                )
                return rows[:i], told, i
        return rows, "", len(rows)

    def _one_hot(self, labels: Sequence[str], start: int) -> tuple[np.ndarray, str]:
        """Rows up to the first label that is not listed, and an error about that one."""
        assert self.categories is not None
        rest = self.categories[OTHER] if self.on_unknown == "other" else -1
        where = np.array([self.categories.get(label, rest) for label in labels])
        told = ""
        if self.on_unknown == "error" and (where < 0).any():
            good = int(np.flatnonzero(where < 0)[0])
            where = where[:good]
            told = self._unlisted(start + good + 1)
        rows = np.zeros((len(where), len(self.categories)), dtype=np.uint8)
        known = np.flatnonzero(where >= 0)
        rows[known, where[known]] = 1
        return rows, told


def _split(categories: str | Sequence[Any]) -> list[str]:
    given = categories.split(",") if isinstance(categories, str) else categories
    names = [_label(c) for c in given]
    if "" in names and names != [""]:
        raise ValueError("categories must not hold an empty name; is there a comma too many?")
    return names


def _label(value: Any) -> str:
    """A category's name: 1.0 is 1."""
    if isinstance(value, bytes):
        value = value.decode(errors="surrogateescape")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    return str(value).strip()


def _array(stream: Any) -> np.ndarray:
    """Rows as an array; what a frame lacks among numbers of several types is no number, and not another type."""
    if hasattr(stream, "columns") and hasattr(stream, "dtypes"):
        kinds = {getattr(dtype, "kind", "O") for dtype in stream.dtypes}
        if kinds and kinds <= set("biuf"):
            return stream.to_numpy(dtype=np.float64, na_value=np.nan)
    return np.asarray(stream)


def _labels(array: np.ndarray, written: Callable[[Any], str]) -> list[str]:
    """Each value as it is written."""
    if array.dtype.kind == "O":
        return [written(v) for v in array]
    values, which = np.unique(array, return_inverse=True)
    texts = [written(v) for v in values]
    return [texts[i] for i in which.tolist()]


def _written(dtype: Any) -> Callable[[Any], str]:
    """How a value of that type is written, and a category of the list in the same way.

    Which records meet no category is private: all would miss a list that is written in another way (1.0 for 1, a date as
    text) without a word. The type is no secret, and decides.
    """
    if dtype.kind == "b":
        return _truth
    if dtype.kind in "iuf":
        return _number
    if dtype.kind == "M":
        return _moment(getattr(dtype, "tz", None))
    return _label


def _truth(value: Any) -> str:
    label = _label(value).capitalize()
    if label not in ("True", "False"):
        raise ValueError(f"categories must be True and False, as the stream is, got {label!r}")
    return label


def _number(value: Any) -> str:
    """1, 1.0 and "1.0" are one number."""
    label = _label(value)
    try:
        return str(int(label)) if label.lstrip("+-").isdigit() else _label(float(label))
    except ValueError:
        raise ValueError(f"categories must be numbers, as the stream is, got {label!r}") from None


def _moment(zone: Any) -> Callable[[Any], str]:
    """A time, which is one of the stream's own zone where none is said."""
    import pandas as pd

    def written(value: Any) -> str:
        try:
            at = pd.Timestamp(value)
            if zone is not None and at is not pd.NaT:
                at = (at.tz_localize(zone) if at.tzinfo is None else at).tz_convert("UTC")
            elif at.tzinfo is not None:
                raise ValueError("the stream has no time zone")
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"categories must be dates, as the stream is, got {_label(value)!r}: {error}"
            ) from error
        return str(at)

    return written


def _zeroed(rows: Any) -> Any:
    """Rows of which those that hold anything but zeros and ones are zero."""
    dense = rows.toarray() if issparse(rows) else np.asarray(rows)
    if dense.dtype.kind not in "biuf":
        return dense
    right = ((dense == 0) | (dense == 1)).all(axis=1)
    return np.where(right[:, None], dense, 0).astype(np.uint8)


def _bytes(rows: Any) -> bytes:
    """Rows of zeros and ones, whatever their type."""
    dense = rows.toarray() if issparse(rows) else np.asarray(rows)
    return dense.astype(np.uint8).tobytes()


def _other(skip: int) -> str:
    return f"stream must begin with the {skip} records that were answered before"
