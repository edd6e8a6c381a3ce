"""Tables: read as they stand in the file, converted a column at a time by what the column is wanted for.

Cells of csv and tsv are text until somebody wants them otherwise; jsonl and parquet declare their types. Only the empty cell
is missing: NA, None and null are words. Nothing is guessed without a note, and all that is wrong is said at once.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whp.io.columns import Column, Role, like_codes, quote
from whp.io.headers import NUMBER, Header, Names, examine
from whp.io.sources import bounded, holds, open_binary, packing, suffix
from whp.text import nearest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "TABLES",
    "Choice",
    "class_columns",
    "design",
    "frame",
    "listed",
    "open_table",
    "unknown",
]

TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
BLOCK = 2**20  # bytes that are parsed at a time
LONGEST = 2**26  # bytes of the longest record
BATCH = 65_536  # records of jsonl at a time


@dataclass(frozen=True)
class Choice:
    """What the user says of a table.

    Parameters
    ----------
    columns : tuple of str
        Columns that are the features; all but the others if empty.
    drop : tuple of str
        Columns to leave out.
    id : str, optional
        Column that names the rows; it is no feature.
    missing : {"error", "drop"}
        What to do with rows that lack a value.
    sep : str, optional
        What parts the fields of a csv or tsv file, looked for if not given.
    """

    columns: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    id: str | None = None
    missing: Literal["error", "drop"] = "error"
    sep: str | None = None

    def __post_init__(self) -> None:
        named = {"comma": ",", "semicolon": ";", "tab": "\t", r"\t": "\t", "bar": "|"}
        if self.sep is not None:
            object.__setattr__(self, "sep", named.get(self.sep, self.sep))
            if len(str(self.sep)) != 1 or str(self.sep) in '"\r\n':
                raise ValueError(f"sep must be one character, or tab, got {self.sep!r}")
        for name in ("columns", "drop"):
            object.__setattr__(self, name, tuple(getattr(self, name)))


class _Text:
    """A csv or tsv file."""

    declared = False

    def __init__(self, path: Path, sep: str | None, names: Names) -> None:
        self.path = path
        self.header: Header = examine(path, sep=sep, names=names)
        self.notes = list(self.header.notes)
        # A column without a name stays known by its place until its values say what it is.
        self.labels = [n or f"\0{j}" for j, n in enumerate(self.header.names)]
        self.names = [n for n in self.header.names if n]

    def load(self, roles: Mapping[str, Role]) -> dict[str, Column]:
        """Columns by name.

        Those whose first rows are surely numbers are parsed as such at once, which is fast, and only on failure as text, to say
        which cell it was.
        """
        import pyarrow as pa

        unnamed = [n for n in self.labels if n.startswith("\0")]
        chosen = [n for n in self.labels if n in roles or n.startswith("\0")]
        floats = {n for n, role in roles.items() if self._numbers(n, role)}
        table = None
        if floats:
            try:
                table = self._read(chosen, floats, threads=True)
            except pa.ArrowInvalid:  # read it again as text, to say which cell it was
                table = None
            else:
                if not all(
                    np.isfinite(np.asarray(c)).all() for n in floats for c in table[n].chunks
                ):
                    table = None
        if table is None:
            table = self._read(chosen, set(), threads=False)
        if table.num_rows == 0:
            raise ValueError("it has no rows")
        for name in unnamed:
            self._without_name(int(name[1:]), table[name])
        commas = self.header.sep in ";\t|"
        return {n: Column(n, table[n], False, commas) for n in chosen if n not in unnamed}

    def _numbers(self, name: str, role: Role) -> bool:
        """Whether the first rows of a column are numbers for `role`, whatever may follow.

        Where nobody asked for numbers they must have fractions: whole ones may be names, and codes such as 01234 are.
        """
        place = self.labels.index(name)
        cells = [r[place].strip() for r in self.header.sample if place < len(r)]
        if role == "ids" or not cells or not all(NUMBER.fullmatch(c) for c in cells):
            return False
        if role in ("design", "features"):
            return not like_codes(cells)
        return role == "number" or all("." in c for c in cells)

    def _read(self, chosen: Sequence[str], floats: set[str], threads: bool) -> pa.Table:
        """The columns, some of them as floats; ArrowInvalid then means that they must be read as text to find the fault."""
        import pyarrow as pa

        types = {n: pa.float64() if n in floats else pa.string() for n in chosen}
        table: Any = None
        for block in (BLOCK, LONGEST):
            try:
                table = self._parse(chosen, types, threads, block)
                break
            except pa.ArrowInvalid as error:
                told = str(error).partition("\n")[0]
                if "straddling" in told and block < LONGEST:
                    continue
                if threads:
                    raise
                raise ValueError(self._fault(told, chosen, types, block)) from None
        return _without_end(table) if len(self.labels) == 1 else table

    def _fault(self, told: str, chosen: Sequence[str], types: Any, block: int) -> str:
        """What is wrong with a file that arrow refuses."""
        import pyarrow as pa

        if "Empty CSV" in told:
            return "it has no rows"
        if line := self._undecoded():
            return f"it is not UTF-8, first in line {line}; save it as UTF-8"
        wrong: list[Any] = []

        def handle(row: Any) -> str:
            wrong.append(row)
            return "skip" if len(wrong) < 2 else "error"

        with contextlib.suppress(pa.ArrowInvalid):
            self._parse(chosen, types, False, block, handle)
        if not wrong:
            return told
        more = "" if len(wrong) == 1 else ", and there are more like it"
        return (
            f"row {wrong[0].number} has {wrong[0].actual_columns} fields where the header has {len(self.labels)} names{more}; "
            "a separator inside a value must stand in quotes"
        )

    def _parse(
        self, chosen: Sequence[str], types: Any, threads: bool, block: int, handle: Any = None
    ) -> pa.Table:
        import pyarrow as pa
        import pyarrow.csv as pc

        if packing(self.path):
            source: Any = pa.PythonFile(open_binary(self.path), mode="r")
        else:
            source = pa.OSFile(str(self.path))
        with source:
            source.read(self.header.start)
            return pc.read_csv(
                source,
                read_options=pc.ReadOptions(
                    column_names=self.labels, use_threads=threads, block_size=block
                ),
                parse_options=pc.ParseOptions(
                    delimiter=self.header.sep,
                    newlines_in_values=holds(self.path, b'"'),
                    ignore_empty_lines=len(self.labels) > 1,
                    invalid_row_handler=handle,
                ),
                convert_options=pc.ConvertOptions(
                    column_types=types,
                    include_columns=list(chosen),
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )

    def _undecoded(self) -> int:
        """The first line that is not UTF-8, or 0."""
        with open_binary(self.path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode("utf-8")
                except UnicodeDecodeError:
                    return number
        return 0

    def _without_name(self, place: int, values: Any) -> None:
        import pyarrow.compute as pc

        if values.null_count == len(values):
            self.notes.append("an empty last column left out")
        elif place == 0:
            self.notes.append("the first column, which has no name, left out")
        elif place == len(self.labels) - 1 and len(self.header.names) > 1:
            row = int(pc.is_valid(values).to_numpy().argmax()) + 1
            raise ValueError(
                f"rows have {len(self.labels)} fields, first row {row}, and the header {len(self.names)} names"
            )
        else:
            raise ValueError(f"column {place + 1} has no name")


def _without_end(table: pa.Table) -> pa.Table:
    """Blank lines at the end of a file of one column are no rows; those before are missing values."""
    import pyarrow.compute as pc

    valid = pc.is_valid(table.column(0)).to_numpy()
    return table.slice(0, int(np.flatnonzero(valid)[-1]) + 1) if valid.any() else table.slice(0, 0)


class _Parquet:
    """A parquet file, or a directory of them."""

    declared = True

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self.path, self.notes = path, []
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(g) for g in range(file.metadata.num_row_groups)]
            bounded(sum(g.total_byte_size for g in groups), path)
            bounded(file.metadata.num_rows, path)
            names = [str(n) for n in file.schema_arrow.names]
        _distinct(names)
        index = [n for n in names if re.fullmatch(r"__index_level_\d+__", n)]
        if index:
            self.notes.append("the index of pandas left out")
        self.names = [n for n in names if n not in index]

    def load(self, roles: Mapping[str, Role]) -> dict[str, Column]:
        """Columns by name."""
        import pyarrow.parquet as pq

        chosen = [n for n in self.names if n in roles]
        with pq.ParquetFile(self.path) as file:
            table = file.read(columns=chosen)
        if table.num_rows == 0:
            raise ValueError("it has no rows")
        return {n: Column(n, table[n], True) for n in chosen}


class _Jsonl:
    """A file with one JSON object a line: numbers, text, truth values and null are what they are declared to be."""

    declared = True

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, []
        self.columns: dict[str, list[Any]] = {}
        self.rows = 0
        batch: list[dict[str, Any]] = []
        with open_binary(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                batch.append(_object(line, number))
                if len(batch) == BATCH:
                    self._add(batch)
                    batch = []
        self._add(batch)
        if not self.rows:
            raise ValueError("it has no rows")
        self.names = list(self.columns)

    def _add(self, batch: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        for name in dict.fromkeys(n for row in batch for n in row):
            self.columns.setdefault(name, [pa.nulls(self.rows)] if self.rows else [])
        for name, chunks in self.columns.items():
            chunks.append(_typed([row.get(name) for row in batch]))
        self.rows += len(batch)

    def load(self, roles: Mapping[str, Role]) -> dict[str, Column]:
        """Columns by name."""
        return {n: Column(n, _joined(self.columns[n]), True) for n in self.names if n in roles}


def _object(line: bytes, number: int) -> dict[str, Any]:
    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a name comes twice")
        return found

    try:
        row = json.loads(line.decode("utf-8-sig"), parse_constant=refuse, object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        told = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(f"line {number}: {told}") from None
    if not isinstance(row, dict):
        raise ValueError(f"line {number} is no JSON object")
    return row


def _typed(values: list[Any]) -> Any:
    """One type for a batch of values of JSON; numbers mixed with text become text, as they were written."""
    import pyarrow as pa

    kinds = {type(v) for v in values} - {type(None)}
    if kinds & {dict, list}:
        return pa.array([None if v is None else [] for v in values], pa.list_(pa.null()))
    if not kinds:
        return pa.nulls(len(values))
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int, float}:
        try:
            return pa.array(values, pa.int64() if kinds == {int} else pa.float64())
        except (pa.ArrowInvalid, OverflowError):
            pass  # beyond 64 bits: text, so that no digit of an id is lost
    return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


def _joined(chunks: list[Any]) -> Any:
    import pyarrow as pa

    kinds = {c.type for c in chunks if not pa.types.is_null(c.type)}
    if not kinds:
        return pa.chunked_array(chunks)
    kind = kinds.pop()
    if kinds:
        numbers = {kind, *kinds} <= {pa.int64(), pa.float64()}
        nested = any(pa.types.is_nested(k) for k in {kind, *kinds})
        kind = pa.float64() if numbers else pa.string()
        if nested:
            kind = pa.list_(pa.null())
            chunks = [pa.array([[]] * len(c), kind) for c in chunks]
    return pa.chunked_array([c.cast(kind, safe=False) for c in chunks], kind)


def _distinct(names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"column {name!r} appears {list(names).count(name)} times")
        seen.add(name)


def open_table(path: Path, sep: str | None = None, *, names: Names = "wanted") -> Any:
    """The table of a file: its `names` now, its columns by ``load(roles)``."""
    if sep is not None and suffix(path) in (".parquet", ".jsonl"):
        raise ValueError("sep must go with csv or tsv")
    match suffix(path):
        case ".parquet":
            return _Parquet(path)
        case ".jsonl":
            return _Jsonl(path)
        case _:
            return _Text(path, sep, names)


def listed(given: Iterable[str], names: Sequence[str]) -> list[str]:
    """Names of columns out of options, which may hold several with commas between."""
    found: list[str] = []
    for item in given:
        found += [item] if item in names else [p.strip() for p in item.split(",") if p.strip()]
    return found


def unknown(column: str, names: Sequence[str]) -> str:
    """That there is no such column, what there is, and what may have been meant."""
    shown = ", ".join(map(quote, names[:20])) + (", …" if len(names) > 20 else "")
    told = f"no column {column!r}{nearest(column, names)} it has {shown}"
    if len(names) == 1 and any(s in names[0] for s in ";,\t|"):
        told += "; is the separator another one (--sep)?"
    if all(NUMBER.fullmatch(n) for n in names):
        told += "; its header line seems to be missing"
    return told.replace("? it has", "? It has").replace(f"{column!r} it has", f"{column!r}; it has")


def frame(columns: Iterable[tuple[str, np.ndarray]], shape: tuple[int, int]) -> pd.DataFrame:
    """A data frame of `shape`; columns that are all float64 come to share one block, so that nothing is copied again."""
    import pandas as pd

    block = np.empty(shape[::-1])
    names: list[str] = []
    others: dict[int, np.ndarray] = {}
    for j, (name, values) in enumerate(columns):
        names.append(name)
        if values.dtype == np.float64:
            block[j] = values
        else:
            others[j] = values
    if not others:
        return pd.DataFrame(block.T, columns=names, copy=False)
    found: dict[str, Any] = {}
    for j, name in enumerate(names):
        values: np.ndarray = others[j] if j in others else block[j]
        found[name] = pd.Series(values, dtype="str") if values.dtype == object else values
    return pd.DataFrame(found)


def design(columns: dict[str, Column], notes: list[str]) -> pd.DataFrame:
    """Intercept, numeric columns, and drop-first dummies of categories, as a regression wants them; empties `columns`."""
    rows = len(next(iter(columns.values())))
    parts: list[tuple[str, Column, int]] = []  # column, and the level of a dummy
    dummies: list[tuple[str, Column, int]] = []
    for name, column in columns.items():
        if not column.category:
            parts.append((name, column, -1))
            continue
        order = sorted(range(len(column.words)), key=column.words.__getitem__)
        notes.append(
            f"{name!r} {len(order)} categories" if len(order) > 1 else f"{name!r} one word"
        )
        dummies += [(f"{name}_{column.words[j]}", column, j) for j in order[1:]]
    names = [name for name, *_ in (*parts, *dummies)]
    _distinct(names)
    columns.clear()

    def values(column: Column, level: int) -> np.ndarray:
        return column.array("number") if level < 0 else (column.codes == level).astype(float)

    parts = [*parts, *dummies][::-1]
    del dummies
    constant = False

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal constant
        yield "intercept", np.ones(rows)
        while parts:
            name, column, level = parts.pop()
            found = values(column, level)
            constant |= bool((found == found[0]).all())
            notes.extend(column.notes)
            yield name, found

    made = frame(arrays(), (rows, len(names) + 1))
    if "intercept" in names and not constant:
        raise ValueError("column 'intercept' must be constant, or have another name")
    return made.iloc[:, 1:] if constant else made  # a constant column is an intercept already


def class_columns(names: Iterable[Any], classes: Iterable[Any]) -> list[int]:
    """Which column belongs to which class, by name: ``prob_x``, ``p_x`` or ``x`` belongs to x.

    Parameters
    ----------
    names : iterable of str
        Of the columns; what all of them begin with may stand before the class.
    classes : iterable
        The classes, compared as text, upper and lower case being different.

    Returns
    -------
    list of int
        For each class the position of its column.

    Raises
    ------
    ValueError
        If a class has no column, or names or classes come twice; the message lists both.

    Examples
    --------
    >>> class_columns(["prob_login", "prob_billing"], ["billing", "login"])
    [1, 0]
    """
    columns, wanted = [str(n) for n in names], [str(c) for c in classes]
    if len(set(columns)) == len(columns) and len(set(wanted)) == len(wanted) and wanted:
        same = [len(set(letters)) == 1 for letters in zip(*columns, strict=False)]
        common = [*same, False].index(False)  # letters that all columns begin with
        stripped = [[c[length:] for c in columns] for length in range(common + 1)]
        stripped += [[c.removeprefix(p) for c in columns] for p in ("prob_", "p_")]
        exact = (s for s in stripped if set(s) == set(wanted) and len(s) == len(wanted))
        within = (s for s in stripped if set(wanted) <= set(s) and len(set(s)) == len(s))
        found = next(exact, None) or next(within, None)
        if found is not None:
            return [found.index(c) for c in wanted]
    raise ValueError(
        f"columns and classes must have the same names; columns are {', '.join(map(quote, columns[:20]))}, "
        f"classes are {', '.join(map(quote, wanted[:20]))}"
    )
