"""Files to arguments: which file, array or column fills which parameter."""

from __future__ import annotations

import contextlib
import csv
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from whp.io.arrays import ARCHIVES, contents, only, read_array, read_arrays, read_sparse, real
from whp.io.columns import Column, Role
from whp.io.dags import read_dag
from whp.io.graphs import LISTS, read_graph
from whp.io.sources import suffix, text_of
from whp.io.streams import PLAIN, Log
from whp.io.tables import TABLES, Choice, design, frame, listed, open_table, unknown

__all__ = ["ACCEPTED", "STDIN", "Data", "read"]

Kind = Literal[
    "matrix",
    "design",
    "vector",
    "labels",
    "ids",
    "graph",
    "dag",
    "table",
    "features",
    "text",
    "stream",
    "activations",
    "cells",
    "worlds",
]
STDIN = "-"
ONE_COLUMN: dict[str, Role] = {"vector": "number", "labels": "labels", "ids": "ids"}
WHOLE: dict[str, Role] = {
    "matrix": "number",
    "activations": "number",
    "design": "design",
    "features": "features",
    "table": "any",
    "worlds": "values",
    "stream": "any",
    "cells": "any",
}
ACCEPTED: dict[str, tuple[str, ...]] = {
    "graph": (".graphml", ".gml", ".mtx", ".npz", ".npy", *TABLES, *LISTS),
    "dag": (".graphml", ".gml", ".dag", *TABLES, *LISTS),
    "text": (".txt", ".md"),
    "table": TABLES,
    "features": TABLES,
    "worlds": (*TABLES, *ARCHIVES),
    "stream": (*TABLES, ".npy", ".npz", ".mtx"),
    "activations": (".npy", ".safetensors", ".npz", ".parquet", ".csv"),
    "ids": TABLES,
    "cells": (*TABLES, *ARCHIVES, ".npy"),
    **dict.fromkeys(("matrix", "design", "vector", "labels"), (*TABLES, *ARCHIVES, ".npy", ".mtx")),
}


@dataclass(frozen=True)
class Data:
    """Marks a parameter that the command line fills from files: ``A: Annotated[ArrayLike, Data("matrix")]``.

    Parameters
    ----------
    kind : str
        What is read: ``"matrix"`` of numbers; ``"design"``, a matrix with an intercept and drop-first dummies for text columns;
        ``"table"``, a data frame whose text stays as it is; ``"features"``, a table whose text columns must be categories;
        ``"vector"`` of numbers; ``"labels"``, numbers or names; ``"ids"``, text as it stands in the file; ``"graph"``;
        ``"dag"``, a graph whose edges run from cause to effect;
        ``"text"``; ``"cells"``, an array of any shape, or a table with a row for each of its cells, whose text stays;
        ``"stream"``, a :class:`Log` of csv or tsv and else a table or matrix; ``"activations"``, the path of an npy
        or safetensors file, which need not fit in memory, and else a matrix, beside which columns of text are left out;
        ``"worlds"``, a table whose missing values are values, or all arrays of an archive by name.
    column : str, optional
        For a vector, labels or ids out of a table: name of the option that says which column, by default the parameter's name.
    """

    kind: Kind
    column: str | None = None


def read(
    files: Sequence[str | Path],
    wants: Mapping[str, Data],
    *,
    required: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    choice: Choice | None = None,
    weight: str | None = None,
    undirected: bool = False,
    encoding: str | None = None,
    notes: list[str] | None = None,
) -> dict[str, Any]:
    """Values for parameters out of files.

    Parameters
    ----------
    files : sequence of path or str
        One archive (npz, safetensors) whose arrays are named as the parameters; or one table (csv, tsv, parquet, jsonl) out
        of which vectors and labels take a column each and the matrix the rest; or one file a parameter, in their order, or
        as ``name=file``. ``"-"`` is a csv on the standard input.
    wants : mapping of str to Data
        The parameters, in order.
    required : sequence of str
        Those that must come out.
    columns : mapping of str to str, optional
        Which column of a table goes to which parameter.
    choice : Choice, optional
        Which columns and rows of a table are used, and its separator.
    weight : str, optional
        Which edge attribute of a graph is its weight.
    undirected : bool
        Whether to take directed edges as undirected.
    encoding : str, optional
        How the characters of a text are written; UTF-8 by default.
    notes : list of str, optional
        What the files were read as is added here, a sentence a file.

    Returns
    -------
    dict
        Parameter to value: data frame for a table's matrix, array, networkx graph or sparse array.

    Raises
    ------
    ValueError
        If a file cannot be read, is of an unknown type, or lacks what is required; the message names it, and all faults of a
        table at once.
    """
    if not files:
        raise ValueError("FILE is missing: give at least one file")
    reader = _Reader(
        wants,
        required,
        dict(columns or {}),
        choice or Choice(),
        weight,
        undirected,
        [] if notes is None else notes,
        encoding or "utf-8",
    )
    with contextlib.ExitStack() as stack:
        named = [_named(given, wants) for given in files]
        paths = [(n, stack.enter_context(_stdin()) if p == Path(STDIN) else p) for n, p in named]
        if len(paths) == 1 and paths[0][0] is None:
            found = reader.one(paths[0][1])
        else:
            found = {}
            order = iter(wants)
            for (name, path), given in zip(paths, files, strict=True):
                told = name or next((n for n in order if n not in found), "")
                if told not in wants or told in found:
                    raise ValueError(f"{given}: one file too many; accepted are {', '.join(wants)}")
                found[told] = reader.single(path, told)
    reader.refuse_ignored(files)
    if missing := [name for name in required if name not in found]:
        raise ValueError(
            f"{', '.join(map(str, files))}: nothing there for {', '.join(missing)}; give a file for each, or name=file"
        )
    return found


def _named(given: str | Path, wants: Mapping[str, Data]) -> tuple[str | None, Path]:
    """The parameter and the path of ``name=file``; a file of that very name comes first, and paths may hold ``=``."""
    name, sign, file = str(given).partition("=")
    if sign and name in wants and not Path(given).exists():
        return name, Path(file)
    if sign and not Path(given).exists() and Path(name).name == name:
        raise ValueError(
            f"{given}: there is no such file, and no parameter {name!r}; accepted are {', '.join(wants)}"
        )
    return None, Path(given)


@contextlib.contextmanager
def _stdin() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "standard input.csv"
        with path.open("wb") as file:
            while piece := sys.stdin.buffer.read(2**20):
                file.write(piece)
        yield path


def _guarded(path: Path, kind: str, reader: Callable[[], Any]) -> Any:
    """`reader()` with every way in which a file can be broken turned into one kind of error that names it."""
    shown = "standard input" if path.name == "standard input.csv" else path
    if not path.is_file():
        raise ValueError(
            f"{shown}: there is no such file" if not path.exists() else f"{shown}: it is no file"
        )
    if suffix(path) not in ACCEPTED[kind]:
        article = "an" if kind[0] in "aeio" else "a"
        raise ValueError(
            f"{shown}: {article} {kind} is read from {', '.join(ACCEPTED[kind])}, not {suffix(path) or 'a file without ending'}"
        )
    try:
        return reader()
    except MemoryError as error:
        raise ValueError(f"{shown}: cannot be read: it does not fit into memory") from error
    except csv.Error as error:
        raise ValueError(f"{shown}: cannot be read: {error}") from error
    except Exception as error:  # parsers of ten libraries raise whatever they like on broken bytes
        if isinstance(error, ValueError) and _ours(error):
            raise ValueError(f"{shown}: {str(error).removeprefix(f'{path}: ')}") from error
        told = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"{shown}: cannot be read: {told}") from error


def _ours(error: Exception) -> bool:
    """Whether this package raised it, in words meant for the user."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("whp.io")


@dataclass
class _Reader:
    """What all files of one call share."""

    wants: Mapping[str, Data]
    required: Sequence[str]
    columns: dict[str, str]
    choice: Choice
    weight: str | None
    undirected: bool
    notes: list[str]
    encoding: str = "utf-8"
    tables: bool = False  # whether one was a table, whose columns can be chosen
    logs: bool = False  # or a log, which has a separator

    def refuse_ignored(self, files: Sequence[str | Path]) -> None:
        """What was said of columns must have been about something."""
        given = [f.name for f in fields(Choice) if getattr(self.choice, f.name) != f.default]
        if self.logs:
            given = [name for name in given if name != "sep"]
        given += [self.wants[n].column or n for n in self.columns]
        if given and not self.tables:
            raise ValueError(
                f"{', '.join(map(str, files))}: {', '.join(given)} must go with a table ({', '.join(TABLES)})"
            )

    def one(self, path: Path) -> dict[str, Any]:
        """All parameters out of one file."""
        first = next(iter(self.wants))
        kind = self.wants[first].kind
        alone = kind in ("graph", "dag", "text") or (
            kind == "stream" and suffix(path) not in TABLES
        )
        lazily = kind == "activations" and path.suffix.lower() in (".npy", ".safetensors")
        if alone or lazily or self._log(path, kind):
            return {first: self.single(path, first)}
        if suffix(path) in TABLES:
            return _guarded(path, kind, lambda: self._table(path, self.wants))
        if kind == "worlds" and suffix(path) in ARCHIVES:
            return {first: _guarded(path, kind, lambda: self._arrays(path))}
        if suffix(path) in ARCHIVES:
            return _guarded(path, kind, lambda: self._archive(path))
        return {first: self.single(path, first)}

    def single(self, path: Path, name: str) -> Any:
        """The one value of a file that fills one parameter."""
        return _guarded(path, self.wants[name].kind, lambda: self._value(path, name))

    def _log(self, path: Path, kind: str) -> bool:
        return (
            kind == "stream" and path.suffix.lower() in PLAIN and path.name != "standard input.csv"
        )

    def _value(self, path: Path, name: str) -> Any:
        kind, ending = self.wants[name].kind, suffix(path)
        if kind == "graph":
            notes: list[str] = []
            self.tables |= ending in TABLES
            graph = read_graph(
                path, self.choice, notes, weight=self.weight, undirected=self.undirected
            )
            self.notes += ["; ".join(notes)] if notes else []
            return graph
        if kind == "dag":
            told: list[str] = []
            made = read_dag(path, told)
            self.notes.append("; ".join(told))
            return made
        if self._log(path, kind):
            log = Log(path, self.choice.sep)
            self.logs = True
            self.notes.append(f"records with columns {', '.join(map(repr, log.header))}")
            return log
        if kind == "activations" and path.suffix.lower() in (".npy", ".safetensors"):
            return path
        if kind == "text":
            text = text_of(path, self.encoding)
            self.notes.append(f"{len(text):,} characters")
            return text
        if ending in TABLES:
            found = self._table(path, {name: self.wants[name]})
            return found[name]
        if kind == "worlds" and ending in ARCHIVES:
            return self._arrays(path)
        if ending == ".npz" and "format" in contents(path):
            return self._noted(name, read_sparse(path))
        if ending in ARCHIVES:
            return self._noted(name, real(only(read_arrays(path))))
        if ending == ".mtx":
            return self._noted(name, read_sparse(path))
        return self._noted(name, real(read_array(path)))

    def _noted(self, name: str, array: Any) -> Any:
        self.notes.append(f"{name} {' × '.join(f'{n:,}' for n in array.shape)}")
        return array

    def _arrays(self, path: Path) -> dict[str, Any]:
        """All arrays of an archive by name, in the order of the file."""
        return {n: self._noted(n, real(a)) for n, a in read_arrays(path).items()}

    def _archive(self, path: Path) -> dict[str, Any]:
        there = contents(path)
        first = next(iter(self.wants))
        if {"format", "shape", "data"} <= set(there) and not set(self.required) <= set(there):
            return {first: self._noted(first, read_sparse(path))}
        if len(self.required) == 1 and len(there) == 1:
            return {self.required[0]: self._noted(self.required[0], real(only(read_arrays(path))))}
        if missing := [n for n in self.required if n not in there]:
            raise ValueError(
                f"no array named {', '.join(missing)}; it holds {', '.join(there) or 'nothing'}"
            )
        arrays = read_arrays(path, list(self.wants))
        return {n: self._noted(n, real(arrays[n])) for n in self.wants if n in arrays}

    def _table(self, path: Path, wants: Mapping[str, Data]) -> dict[str, Any]:
        """Parameters out of the columns of one table; with all that is wrong in one message."""
        self.tables = True
        plan = _Plan(self, path, wants)
        values = plan.values()
        self.notes.append("; ".join(plan.notes))
        return values


class _Plan:
    """Which column of a table is read as what."""

    def __init__(self, reader: _Reader, path: Path, wants: Mapping[str, Data]) -> None:
        together = len(wants) > 1  # so that columns must be told apart by their names
        self.wants, self.choice = wants, reader.choice
        self.faults: list[str] = []
        self.remedies: list[str] = []
        self.whole = next((n for n, d in wants.items() if d.kind in WHOLE), None)
        chosen = self.choice
        asked = chosen.columns or chosen.drop or chosen.id or set(wants) & set(reader.columns)
        needed = [n for n in reader.required if n in wants and wants[n].kind in ONE_COLUMN]
        wanted = (
            bool(asked)
            or (together and bool(needed))
            or (
                self.whole is not None
                and wants[self.whole].kind in ("table", "features", "design", "worlds")
            )
        )
        self.table = open_table(path, chosen.sep, names="wanted" if wanted else "optional")
        self.names: list[str] = self.table.names
        self.targets: dict[str, str] = {}  # parameter to column
        self.unasked: list[str] = []  # parameters whose column has their name, which nobody gave
        for name, data in wants.items():
            if data.kind in ONE_COLUMN:
                self._target(name, data, reader, together)
        self.left_out = self._known(chosen.drop)
        if chosen.id is not None:
            self.left_out += self._known([chosen.id])
        features = self._known(chosen.columns) or self.names
        taken = set(self.targets.values()) | set(self.left_out)
        self.features = [n for n in features if n not in taken] if self.whole else []
        if self.whole and not self.features and not self.faults:
            self.faults.append("no column is left for the features")
        if self.faults:
            self._raise()

    def _target(self, name: str, data: Data, reader: _Reader, together: bool) -> None:
        asked = name in reader.columns
        column = reader.columns.get(name, data.column or name)
        if column in self.names:
            self.targets[name] = column
            if not asked:
                self.unasked.append(f"{name} from {column!r}")
        elif asked:
            self.faults.append(unknown(column, self.names))
        elif not together:
            if len(self.names) != 1:
                self.faults.append(f"say which of its columns: {', '.join(self.names)}")
            else:
                self.targets[name] = self.names[0]
        elif name in reader.required:
            option = (data.column or name).replace("_", "-")
            self.faults.append(
                f"{unknown(column, self.names)}; --{option} says which one is {name}"
            )

    def _known(self, given: Sequence[str]) -> list[str]:
        columns = listed(given, self.names)
        self.faults += [unknown(c, self.names) for c in columns if c not in self.names]
        return [c for c in columns if c in self.names]

    def values(self) -> dict[str, Any]:
        """The parameters."""
        roles: dict[str, Role] = dict.fromkeys(
            self.features, WHOLE[self.wants[self.whole].kind] if self.whole else "any"
        )
        roles |= {c: ONE_COLUMN[self.wants[n].kind] for n, c in self.targets.items()}
        columns: dict[str, Column] = self.table.load(roles)
        rows = len(next(iter(columns.values())))
        if self.whole and self.wants[self.whole].kind == "activations":
            # Beside activations stands what they are of (a token, a number of its text): it is named.
            words = [n for n in self.features if columns[n].words_alone]
            counts = [n for n in self.features if n not in words and _counting(columns[n])]
            if len(words) + len(counts) < len(self.features):  # else whole numbers are all there is
                words += counts
            if len(words) < len(self.features):
                self.features = [n for n in self.features if n not in words]
                self.left_out += words
                for name in words:
                    del roles[name], columns[name]
        dropped = 0
        if self.choice.missing == "drop":
            columns, dropped = _complete(columns)
        for name, role in roles.items():
            if told := columns[name].refusal(role):
                self.faults.append(f"column {name!r} {told}")
                if name in self.features:
                    self.remedies.append(name)
                if "missing value" in told and "--missing drop" not in self.remedies:
                    self.remedies.append("--missing drop")
        if self.faults:
            self._raise()
        self.notes = [f"{rows - dropped:,} rows"]
        self.notes += [f"{dropped:,} rows with a missing value left out"] if dropped else []
        self.notes += self.table.notes
        found: dict[str, Any] = {}
        for name, column in self.targets.items():
            found[name] = columns[column].array(roles[column])
            self.notes += columns[column].notes
        self.notes += self.unasked
        if self.whole:
            if self.wants[self.whole].kind in ("matrix", "activations"):
                self.notes.append(f"{self.whole} from {_several(self.features)}")
            kept = {n: columns.pop(n) for n in self.features}
            found[self.whole] = self._features(kept, rows - dropped)
        self.notes += [f"{n!r} left out" for n in self.left_out]
        return {n: found[n] for n in self.wants if n in found}

    def _features(self, kept: dict[str, Column], rows: int) -> Any:
        kind = self.wants[str(self.whole)].kind
        if kind == "design":
            return design(kept, self.notes)
        if kind == "features":
            self.notes += [
                f"{n!r} {len(c.words)} categories" for n, c in kept.items() if c.category
            ]

        def arrays() -> Iterator[tuple[str, Any]]:
            for name in self.features:
                column = kept.pop(name)  # each is freed when it has been copied
                yield name, column.array(WHOLE[kind])
                self.notes.extend(column.notes)

        return frame(arrays(), (rows, len(self.features)))

    def _raise(self) -> None:
        columns = [n for n in self.remedies if n != "--missing drop"]
        ways = [f"leave columns out (--drop {' --drop '.join(map(_shell, columns[:5]))})"] * bool(
            columns
        )
        ways += ["leave rows out (--missing drop)"] * ("--missing drop" in self.remedies)
        remedy = f"\n  to go on: {', or '.join(ways)}" if ways else ""
        body = self.faults[0] if len(self.faults) == 1 else "\n  " + "\n  ".join(self.faults)
        raise ValueError(body + remedy)


def _counting(column: Column) -> bool:
    """Whether it holds whole numbers that are not all equal: ids, places, labels."""
    whole: Any = column.whole
    if whole is None and not column.declared:  # cells of a csv may have been read as floats at once
        floats = column.floats
        if floats is not None and (floats[:100] == floats[:100].round()).all():
            whole = floats if (floats == floats.round()).all() else None
    return whole is not None and len(whole) > 1 and bool((whole != whole[0]).any())


def _several(names: Sequence[str]) -> str:
    """Names of columns; of many the first, the last and their number."""
    if len(names) <= 8:
        return ", ".join(map(repr, names))
    return f"{', '.join(map(repr, names[:4]))}, … {names[-1]!r} ({len(names):,} columns)"


def _shell(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _complete(columns: dict[str, Column]) -> tuple[dict[str, Column], int]:
    """Columns without the rows in which any of them lacks a value, and how many those were."""
    import numpy as np

    lacking = np.zeros(len(next(iter(columns.values()))), dtype=bool)
    for column in columns.values():
        if column.temporal or not column.broken:
            lacking |= column.absent
    if not lacking.any():
        return columns, 0
    if lacking.all():
        raise ValueError("every row lacks a value")
    kept = ~lacking
    made = {n: Column(n, c.values.filter(kept), c.declared, c.commas) for n, c in columns.items()}
    return made, int(lacking.sum())
