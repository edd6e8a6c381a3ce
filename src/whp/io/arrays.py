"""Arrays and matrices out of npy, npz, safetensors and Matrix Market files.

What a file claims (sizes, types, indices) is checked against its bytes before numpy, scipy or compiled code act on it, and
nothing is ever unpickled.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whp.io.sources import bounded, open_binary, suffix

__all__ = ["ARCHIVES", "contents", "only", "read_array", "read_arrays", "read_sparse", "real"]

ARCHIVES = (".npz", ".safetensors")
SYMMETRIES = {"general": 0, "symmetric": 1, "hermitian": 1, "skew-symmetric": -1}
SPARE = 10**6  # empty rows and columns that any sparse matrix may have
OBJECTS = "it holds Python objects, which are never loaded; save plain numbers"


def real(array: Any) -> Any:
    """`array`, dense or sparse, if its entries are real numbers or text."""
    kind = array.dtype.kind
    if kind == "c":
        raise ValueError("it holds complex numbers; the entries must be real")
    if kind not in "fiubU":
        names = {
            "M": "dates",
            "m": "time spans",
            "S": "bytes",
            "V": "records",
            "O": "Python objects",
        }
        raise ValueError(f"it holds {names.get(kind, array.dtype)}, not numbers")
    return array


def _npy_header(file: Any, room: int) -> None:
    """Check that an npy file holds what its header claims, `room` bytes being there."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        header = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        header = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy of version {'.'.join(map(str, version))} is not known")
    shape, _, dtype = header
    if dtype.hasobject:
        raise ValueError(OBJECTS)
    if any(n < 0 for n in shape):
        raise ValueError(f"it claims the shape {shape}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > room - file.tell():
        raise ValueError(f"it claims {claimed:,} bytes of numbers and has {room - file.tell():,}")


def read_array(path: Path) -> np.ndarray:
    """The array of an npy file."""
    with path.open("rb") as file:
        _npy_header(file, path.stat().st_size)
        file.seek(0)
        return np.lib.format.read_array(file, allow_pickle=False)


def contents(path: Path) -> list[str]:
    """Names of the arrays in an archive."""
    if suffix(path) == ".safetensors":
        return [n for n in _safetensors_header(path) if n != "__metadata__"]
    with zipfile.ZipFile(path) as archive:
        return [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]


def _safetensors_header(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, 10**8):
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header


def read_arrays(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Arrays of an npz or safetensors file, all or those of `names`; others are not even looked at."""
    chosen = [n for n in contents(path) if names is None or n in names]
    if suffix(path) == ".safetensors":
        from safetensors import safe_open

        kinds = _safetensors_header(path)
        odd = {n: kinds[n]["dtype"] for n in chosen if str(kinds[n]["dtype"]).startswith("F8")}
        if odd:
            raise ValueError(f"array {next(iter(odd))!r} is of type {next(iter(odd.values()))}")
        with safe_open(path, framework="np") as archive:
            found = {n: archive.get_tensor(n) for n in chosen}
        return {n: v.astype(np.float32) if v.dtype.kind == "V" else v for n, v in found.items()}
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        total = 0
        for name in chosen:
            member = archive.getinfo(f"{name}.npy")
            total += member.file_size
            bounded(total, path)
            with archive.open(member) as file:
                try:
                    _npy_header(file, member.file_size)
                except ValueError as error:
                    raise ValueError(f"array {name!r}: {error}") from None
            with archive.open(member) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def only(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array of an archive that holds one."""
    if len(arrays) != 1:
        raise ValueError(f"one array is wanted, it holds {', '.join(arrays) or 'none'}")
    return next(iter(arrays.values()))


def _roomy(shape: tuple[int, ...], entries: int) -> None:
    """Refuse shapes whose index arrays alone would not fit anywhere."""
    if len(shape) != 2 or min(shape) < 0:
        raise ValueError(f"it claims the shape {shape}")
    if max(shape) > 16 * entries + SPARE:
        raise ValueError(f"it claims the shape {shape} for {entries:,} entries")


def _indices(values: np.ndarray, below: int, name: str, length: int | None = None) -> np.ndarray:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a row of whole numbers")
    if length is not None and len(values) != length:
        raise ValueError(f"{name} has {len(values):,} entries where {length:,} belong")
    if len(values) and (values.min() < 0 or values.max() >= below):
        raise ValueError(f"{name} points outside the matrix")
    return values


def _pointers(indptr: np.ndarray, entries: int, rows: int) -> np.ndarray:
    _indices(indptr, entries + 1, "indptr", rows + 1)
    if indptr[0] != 0 or indptr[-1] != entries or (indptr[1:] < indptr[:-1]).any():
        raise ValueError("indptr must rise from 0 to the number of entries")
    return indptr


def _scipy_npz(path: Path) -> Any:
    """What :func:`scipy.sparse.save_npz` wrote, each index looked at before scipy sees it."""
    import scipy.sparse as sp

    names = ["format", "shape", "data", "indices", "indptr", "row", "col", "offsets"]
    arrays = read_arrays(path, names)
    form = arrays["format"].item() if arrays["format"].size == 1 else ""
    form = form.decode("ascii") if isinstance(form, bytes) else str(form)
    needed = {
        "csr": ("indices", "indptr"),
        "csc": ("indices", "indptr"),
        "bsr": ("indices", "indptr"),
        "coo": ("row", "col"),
        "dia": ("offsets",),
    }
    if form not in needed:
        raise ValueError(f"a sparse matrix of format {form!r} is not known")
    if missing := [n for n in ("shape", "data", *needed[form]) if n not in arrays]:
        raise ValueError(f"a sparse matrix without {missing[0]}")
    size, data = arrays["shape"], real(arrays["data"])
    if size.shape != (2,) or size.dtype.kind not in "iu" or data.dtype.kind == "U":
        raise ValueError("shape must be two whole numbers, and data numbers")
    shape = (int(size[0]), int(size[1]))
    _roomy(shape, data.size)
    if form == "dia":
        return _diagonals(data, arrays["offsets"], shape)
    if form == "bsr":
        return _blocks(data, arrays["indices"], arrays["indptr"], shape)
    if data.ndim != 1:
        raise ValueError("data must be one row of numbers")
    if form == "coo":
        row = _indices(arrays["row"], shape[0], "row", len(data))
        col = _indices(arrays["col"], shape[1], "col", len(data))
        return sp.csr_array(sp.coo_array((data, (row, col)), shape=shape))
    rows, columns = shape if form == "csr" else shape[::-1]
    indices = _indices(arrays["indices"], columns, "indices", len(data))
    indptr = _pointers(arrays["indptr"], len(data), rows)
    made: Any = sp.csr_array if form == "csr" else sp.csc_array
    return sp.csr_array(made((data, indices, indptr), shape=shape))


def _diagonals(data: np.ndarray, offsets: np.ndarray, shape: tuple[int, int]) -> Any:
    import scipy.sparse as sp

    if data.ndim != 2 or offsets.shape != (len(data),) or offsets.dtype.kind not in "iu":
        raise ValueError("diagonals and offsets do not fit together")
    column = np.tile(np.arange(data.shape[1]), (len(data), 1))
    row = column - offsets.astype(np.int64)[:, None]
    inside = (row >= 0) & (row < shape[0]) & (column < shape[1])
    return sp.csr_array(sp.coo_array((data[inside], (row[inside], column[inside])), shape=shape))


def _blocks(
    data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, shape: tuple[int, int]
) -> Any:
    import scipy.sparse as sp

    if data.ndim != 3 or 0 in data.shape[1:]:
        raise ValueError("data must be blocks")
    _, height, width = data.shape
    if shape[0] % height or shape[1] % width:
        raise ValueError("blocks do not fill the matrix")
    _indices(indices, shape[1] // width, "indices", len(data))
    _pointers(indptr, len(data), shape[0] // height)
    return sp.csr_array(sp.bsr_array((data, indices, indptr), shape=shape))


def _matrix_market(path: Path) -> Any:
    """A Matrix Market file; scipy's own reader can be made to write where it must not."""
    with open_binary(path) as file:
        banner = file.readline(1024).decode("latin-1").lower().split()
        if len(banner) < 5 or banner[:2] != ["%%matrixmarket", "matrix"]:
            raise ValueError("its first line is not that of a Matrix Market file")
        form, field, symmetry = banner[2:5]
        if field == "complex":
            raise ValueError("it holds complex numbers; the entries must be real")
        width = {"coordinate": 3, "array": 1}.get(form, 0) - (field == "pattern")
        known = field in ("real", "double", "integer", "pattern") and symmetry in SYMMETRIES
        if width < 1 or not known:
            raise ValueError(f"a matrix that is {' '.join(banner[2:5])} is not known")
        line = file.readline(10**6)
        while line.lstrip()[:1] == b"%" or (line and not line.strip()):
            line = file.readline(10**6)
        sizes = line.split()
        if len(sizes) != (3 if form == "coordinate" else 2) or not all(
            s.isdigit() and len(s) < 19 for s in sizes
        ):
            raise ValueError("its line of sizes is broken")
        rows, columns, *claimed = map(int, sizes)
        if symmetry != "general" and rows != columns:
            raise ValueError(f"it is {symmetry} and has the shape {(rows, columns)}")
        entries = _entries(file, width)
    if form == "array":
        return _packed(entries[:, 0], rows, columns, symmetry)
    if len(entries) != claimed[0]:
        raise ValueError(f"it claims {claimed[0]:,} entries and has {len(entries):,}")
    _roomy((rows, columns), len(entries))
    return _triplets(entries, (rows, columns), symmetry)


def _entries(file: Any, width: int) -> np.ndarray:
    """The lines after the sizes, numbers between blanks."""
    import pandas as pd

    try:
        table = pd.read_csv(
            file,
            sep=r"\s+",
            header=None,
            names=list(range(width)),
            index_col=False,
            comment="%",
            dtype=np.float64,
            na_filter=False,
            engine="c",
            on_bad_lines="error",
        )
    except pd.errors.EmptyDataError:
        return np.empty((0, width))
    entries = table.to_numpy()
    if not np.isfinite(entries).all():
        row = int((~np.isfinite(entries)).any(axis=1).argmax()) + 1
        raise ValueError(f"entry {row} is not finite")
    return entries


def _triplets(entries: np.ndarray, shape: tuple[int, int], symmetry: str) -> Any:
    import scipy.sparse as sp

    row = _places(entries[:, 0], shape[0], "row")
    col = _places(entries[:, 1], shape[1], "column")
    data = entries[:, 2] if entries.shape[1] == 3 else np.ones(len(entries))
    if symmetry != "general":
        off = row != col
        sign = SYMMETRIES[symmetry]
        row, col = np.concatenate([row, col[off]]), np.concatenate([col, row[off]])
        data = np.concatenate([data, sign * data[off]])
    return sp.csr_array(sp.coo_array((data, (row, col)), shape=shape))


def _places(numbers: np.ndarray, size: int, name: str) -> np.ndarray:
    if (numbers != np.floor(numbers)).any() or (numbers < 1).any() or (numbers > size).any():
        raise ValueError(f"a {name} is outside 1 to {size}")
    return numbers.astype(np.int64) - 1


def _packed(values: np.ndarray, rows: int, columns: int, symmetry: str) -> np.ndarray:
    """A dense matrix, a column after the other, of symmetric ones the lower half."""
    skew = symmetry == "skew-symmetric"
    whole = rows * columns
    if symmetry != "general":
        whole = rows * (rows + 1) // 2 - rows * skew
    if len(values) != whole:
        raise ValueError(f"it claims {whole:,} entries and has {len(values):,}")
    if symmetry == "general":
        return values.reshape(columns, rows).T.copy()
    matrix = np.zeros((rows, rows))
    col, row = np.triu_indices(rows, int(skew))
    matrix[row, col] = values
    matrix[col, row] = SYMMETRIES[symmetry] * values
    return matrix


def read_sparse(path: Path) -> Any:
    """A matrix out of mtx, or out of an npz that scipy wrote: a csr_array, or dense where the file is."""
    return _matrix_market(path) if suffix(path) == ".mtx" else _scipy_npz(path)
