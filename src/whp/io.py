"""Files in and out, by the annotated type of the parameter that wants them.

Everything read is data: nothing is unpickled or evaluated, and what a file claims about itself is checked before use.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Data", "Log", "read", "save", "write"]

Kind = Literal[
    "matrix", "design", "vector", "labels", "graph", "table", "text", "stream", "activations"
]
MAX_LEVELS = 100  # a text column with more values than this is an identifier, not a category


@dataclass(frozen=True)
class Data:
    """Marks a parameter that the command line fills from files: ``A: Annotated[ArrayLike, Data("matrix")]``.

    Parameters
    ----------
    kind : {"matrix", "design", "vector", "labels", "graph", "table", "text", "stream", "activations"}
        What is read; ``"design"`` is a matrix with an intercept and drop-first dummies for text columns, ``"stream"`` a
        :class:`Log` of csv or tsv and else a matrix, ``"activations"`` the path of an npy or safetensors file, which need not
        fit in memory, and else a matrix.
    column : str, optional
        For a vector or labels out of a table: name of the option that says which column, by default the parameter's name.
    """

    kind: Kind
    column: str | None = None


def read(
    files: Sequence[str | Path],
    wants: Mapping[str, Data],
    *,
    required: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Values for parameters out of files.

    Parameters
    ----------
    files : sequence of path or str
        One archive (npz, safetensors) whose arrays are named as the parameters; or one table (csv, tsv, parquet, jsonl) out
        of which vectors and labels take a column each and the matrix the rest; or one file a parameter, in their order, or
        as ``name=file``.
    wants : mapping of str to Data
        The parameters, in order.
    required : sequence of str
        Those that must come out.
    columns : mapping of str to str, optional
        Which column of a table goes to which parameter.

    Returns
    -------
    dict
        Parameter to value: data frame for a table's matrix, array, networkx graph or sparse array.

    Raises
    ------
    ValueError
        If a file cannot be read, is of an unknown type, or lacks what is required; the message names it.
    """
    if not files:
        raise ValueError("FILE is missing: give at least one file")
    columns = dict(columns or {})
    found: dict[str, Any] = {}
    if len(files) == 1 and "=" not in str(files[0]):
        found = _from_one(Path(files[0]), wants, required, columns)
    else:
        order = iter(wants)
        for given in files:
            name, _, file = str(given).rpartition("=")
            name = name or next((n for n in order if n not in found), "")
            if name not in wants:
                raise ValueError(
                    f"{given}: one file too many or of an unknown name; accepted are {', '.join(wants)}"
                )
            found[name] = _single(Path(file), wants[name], columns.get(name))
    if missing := [name for name in required if name not in found]:
        raise ValueError(f"{', '.join(map(str, files))}: nothing there for {', '.join(missing)}")
    return found


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".bz2", ".xz", ".zst"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _table(path: Path) -> pd.DataFrame:
    import pandas as pd

    readers: dict[str, Callable[[], pd.DataFrame]] = {
        ".csv": lambda: pd.read_csv(path),
        ".tsv": lambda: pd.read_csv(path, sep="\t"),
        ".parquet": lambda: pd.read_parquet(path),
        ".jsonl": lambda: pd.read_json(path, lines=True),
    }
    table = readers[_suffix(path)]()
    if table.empty:
        raise ValueError("it has no rows")
    table.columns = table.columns.map(str)
    if not table.columns.is_unique:
        raise ValueError(f"column {table.columns[table.columns.duplicated()][0]!r} appears twice")
    return table


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if _suffix(path) == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(path)
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def _sparse(path: Path) -> Any:
    import scipy.sparse

    if _suffix(path) == ".mtx":
        from scipy.io import mmread

        matrix = mmread(path)
        return (
            scipy.sparse.csr_array(matrix) if scipy.sparse.issparse(matrix) else np.asarray(matrix)
        )
    return scipy.sparse.csr_array(scipy.sparse.load_npz(path))


def _edges(path: Path) -> Any:
    """A networkx graph out of a list of edges: two columns of names, and a third of weights if there is one."""
    import networkx as nx
    import pandas as pd

    if _suffix(path) in (".csv", ".tsv", ".parquet", ".jsonl"):
        table = _table(path)
    else:
        table = pd.read_csv(path, sep=r"\s+", comment="#", header=None)
    if table.shape[1] < 2:
        raise ValueError("a list of edges needs two columns, one for each end")
    ends = list(table.columns[:2])
    if table[ends].isna().any(axis=None):
        raise ValueError("an edge lacks one of its ends")
    weight = next((c for c in table.columns[2:] if str(c).lower() in ("weight", "2")), None)
    if weight is None:
        return nx.from_pandas_edgelist(table, *ends)
    return nx.from_pandas_edgelist(
        table.rename(columns={weight: "weight"}), *ends, edge_attr="weight"
    )


def _graph(path: Path) -> Any:
    import networkx as nx

    match _suffix(path):
        case ".graphml":
            return nx.read_graphml(path)
        case ".gml":
            return nx.read_gml(path)
        case ".mtx":
            return _sparse(path)
        case ".npy":
            return np.load(path, allow_pickle=False)
        case ".npz":
            arrays = _arrays(path)
            return _sparse(path) if "format" in arrays else _only(arrays)
        case _:
            return _edges(path)


def _only(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    if len(arrays) != 1:
        raise ValueError(f"one array is wanted, found {', '.join(arrays) or 'none'}")
    return next(iter(arrays.values()))


@dataclass(frozen=True)
class Log:
    """A table of text lines that may still be growing.

    Parameters
    ----------
    path : Path
        A csv or tsv file with a header.

    Raises
    ------
    ValueError
        If it has no header yet.
    """

    path: Path

    def __post_init__(self) -> None:
        if not self.header:
            raise ValueError("it has no header line yet")

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the columns."""
        with self.path.open("rb") as file:
            return tuple(self._split([file.readline()])[0])

    def _split(self, lines: list[bytes]) -> list[list[str]]:
        text = [line.decode("utf-8") for line in lines]
        return list(csv.reader(text, delimiter=SEPARATORS[self.path.suffix.lower()])) or [[]]

    def batches(
        self, *, skip: int = 0, follow: bool = False, size: int = 4096
    ) -> Iterator[list[list[str]]]:
        """Lines after the header and `skip` more, split into fields, at most `size` at a time.

        With `follow` it waits for more lines at the end of the file, until it is interrupted; a line counts once it has ended.
        """
        lines: list[bytes] = []
        left = b""
        with self.path.open("rb") as file:
            file.readline()
            while True:
                line = file.readline()
                left += line
                if line and not line.endswith(b"\n"):
                    continue  # still being written, or the last line of all
                if line or (left and not follow):
                    whole, left = left, b""
                    if skip:
                        skip -= 1
                    elif whole.strip():
                        lines.append(whole)
                    if len(lines) < size and line:
                        continue
                if lines:
                    yield self._split(lines)
                    lines = []
                elif not line:
                    if not follow:
                        return
                    if self.path.stat().st_size < file.tell():
                        raise ValueError(f"{self.path}: it was cut short while it was read")
                    time.sleep(0.1)


SEPARATORS = {".csv": ",", ".tsv": "\t"}
TABLES = (".csv", ".tsv", ".parquet", ".jsonl")
ARCHIVES = (".npz", ".safetensors")
ACCEPTED: dict[str, tuple[str, ...]] = {
    "graph": (
        ".graphml",
        ".gml",
        ".mtx",
        ".npz",
        ".npy",
        ".csv",
        ".tsv",
        ".parquet",
        ".jsonl",
        ".edges",
        ".edgelist",
        ".txt",
    ),
    "text": (".txt", ".md"),
    "table": TABLES,
    "stream": (".csv", ".tsv", ".npy", ".npz", ".mtx", ".parquet"),
    "activations": (".npy", ".safetensors", ".npz", ".parquet", ".csv"),
    **dict.fromkeys(("matrix", "design", "vector", "labels"), (*TABLES, *ARCHIVES, ".npy", ".mtx")),
}


def _guarded(path: Path, kind: str, reader: Callable[[], Any]) -> Any:
    """`reader()` with every way in which a file can be broken turned into one kind of error."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if _suffix(path) not in ACCEPTED[kind]:
        raise ValueError(
            f"{path}: a {kind} is read from {', '.join(ACCEPTED[kind])}, not {_suffix(path) or 'a file without ending'}"
        )
    try:
        return reader()
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "allow_pickle" in told:
            told = "it holds Python objects, which are never loaded; save plain numbers"
        raise ValueError(f"{path}: cannot be read: {told}") from error


def _from_one(
    path: Path, wants: Mapping[str, Data], required: Sequence[str], columns: dict[str, str]
) -> dict[str, Any]:
    first = next(iter(wants))
    kind = wants[first].kind
    whole = kind in ("graph", "text", "stream") or (
        kind == "activations" and _suffix(path) in (".npy", ".safetensors")
    )
    if whole or (kind == "table" and len(wants) == 1):
        return {first: _single(path, wants[first], None)}
    if _suffix(path) in TABLES:
        return _guarded(path, kind, lambda: _from_table(_table(path), wants, columns))
    if _suffix(path) in ARCHIVES:
        arrays = _guarded(path, kind, lambda: _arrays(path))
        if len(required) == 1 and len(arrays) == 1:
            return {required[0]: next(iter(arrays.values()))}
        if missing := [n for n in required if n not in arrays]:
            names = ", ".join(arrays)
            raise ValueError(
                f"{path}: no array named {', '.join(missing)}; it holds {names or 'nothing'}"
            )
        return {name: arrays[name] for name in wants if name in arrays}
    return {first: _single(path, wants[first], None)}


def _from_table(
    table: pd.DataFrame, wants: Mapping[str, Data], columns: dict[str, str]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, data in wants.items():
        column = columns.get(name, data.column or name)
        if data.kind not in ("vector", "labels"):
            continue
        if column not in table.columns:
            if name in columns:
                raise ValueError(f"no column {column!r}; it has {', '.join(table.columns)}")
            continue
        found[name] = _column(table[column], data.kind)
        table = table.drop(columns=column)
    for name, data in wants.items():
        if data.kind in ("matrix", "design", "table", "activations"):
            made = {
                "matrix": _numbers,
                "activations": _numbers,
                "design": _design,
                "table": lambda kept: kept,
            }
            found[name] = made[data.kind](table)
            break
    return found


def _column(column: pd.Series, kind: str) -> np.ndarray:
    if column.isna().any():
        raise ValueError(
            f"column {column.name!r} has {int(column.isna().sum())} missing values; drop or fill those rows"
        )
    if kind == "vector" and column.dtype.kind not in "fiub":
        raise ValueError(f"column {column.name!r} must hold numbers, got {column.iloc[0]!r}")
    return column.to_numpy()


def _numbers(table: pd.DataFrame) -> pd.DataFrame:
    if text := [c for c in table.columns if table[c].dtype.kind not in "fiub"]:
        raise ValueError(
            f"columns must hold numbers, which {', '.join(map(repr, text))} do not; drop or encode them"
        )
    return table


def _design(table: pd.DataFrame) -> pd.DataFrame:
    """Intercept, numeric columns, and drop-first dummies of text columns, as a regression wants them."""
    import pandas as pd

    if (missing := table.isna().sum()).any():
        worst = missing.idxmax()
        raise ValueError(
            f"column {worst!r} has {int(missing[worst])} missing values; drop or fill those rows"
        )
    text = [c for c in table.columns if table[c].dtype.kind not in "fiub"]
    for column in text:
        if (levels := table[column].astype(str).nunique()) > MAX_LEVELS:
            raise ValueError(
                f"column {column!r} is text with {levels} different values; drop it or encode it as numbers"
            )
    design = pd.get_dummies(table, columns=text, drop_first=True, dtype=np.float64)
    design = design.astype(np.float64)
    if not any(
        design[c].nunique() == 1 for c in design.columns
    ):  # a constant column is an intercept already
        design.insert(0, "intercept", 1.0)
    return design


def _single(path: Path, data: Data, column: str | None) -> Any:
    """The one value of a file that fills one parameter."""
    kind = data.kind

    def value() -> Any:
        if kind == "graph":
            return _graph(path)
        if kind == "stream" and path.suffix.lower() in SEPARATORS:
            return Log(path)
        if kind == "activations" and _suffix(path) in (".npy", ".safetensors"):
            return path
        if kind == "text":
            return path.read_text(encoding="utf-8")
        if _suffix(path) in TABLES:
            table = _table(path)
            match kind:
                case "table":
                    return table
                case "design":
                    return _design(table)
                case "matrix" | "stream" | "activations":
                    return _numbers(table)
            if column is None and table.shape[1] != 1:
                raise ValueError(f"say which of its columns: {', '.join(table.columns)}")
            return _column(table[column or table.columns[0]], kind)
        if _suffix(path) in ARCHIVES:
            return _only(_arrays(path))
        if _suffix(path) == ".mtx":
            return _sparse(path)
        return np.load(path, allow_pickle=False)

    return _guarded(path, kind, value)


def write(path: Path, value: Any) -> None:
    """Write one object in the format that the ending of `path` names.

    Known are npy, npz, csv, parquet, json, safetensors, and txt, nwk, md, html, svg for text.

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
            value.to_csv(path, index=False)
        case ".parquet":
            value.to_parquet(path, index=False)
        case ".json":
            path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        case ".safetensors":
            from safetensors.numpy import save_file

            save_file({k: np.ascontiguousarray(v) for k, v in value.items()}, path)
        case ".txt" | ".nwk" | ".html" | ".svg" | ".md":
            path.write_text(value, encoding="utf-8")
        case _:
            raise ValueError(f"{path.name}: no format is known for this ending")


def _plain(value: Any) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(str) if array.dtype.kind == "O" else array  # object arrays would be pickled


def save(directory: Path, artifacts: Mapping[str, Any]) -> list[Path]:
    """Write artifacts into a directory so that each file is there whole or not at all.

    A new directory appears complete in one step; in an existing one files of the same names are replaced one by one and
    others are left alone. A value that is callable is called with the path to write to.

    Parameters
    ----------
    directory : Path
        Where to; made if it does not exist.
    artifacts : mapping of str to object
        File name to what :func:`write` takes, or to a function that writes the file itself.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        If `directory` is a file or a name would lead out of it.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory}: this is a file; give a directory")
    if wrong := [name for name in artifacts if Path(name).name != name]:
        raise ValueError(f"{wrong[0]!r} is not a plain file name")
    directory.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        for name, value in artifacts.items():
            if callable(value):
                value(stage / name)
            else:
                write(stage / name, value)
        if not directory.exists():
            stage.chmod(0o755)
            os.replace(stage, directory)
        else:
            for name in artifacts:
                os.replace(stage / name, directory / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return [directory / name for name in artifacts]
