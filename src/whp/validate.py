"""Arguments in, clean arrays out: one home for the messages that name argument, fault and what is accepted."""

from __future__ import annotations

import datetime
import numbers
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Set
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "as_array",
    "as_bool",
    "as_choice",
    "as_floats",
    "as_fraction",
    "as_frame",
    "as_int",
    "as_labels",
    "as_matrix",
    "as_real",
    "as_rng",
    "as_sequence",
    "as_sparse",
    "as_vector",
    "column_names",
    "private_stream",
    "same_order",
]

SMALLEST = 1e-300  # a failure probability is divided among many events; below this that underflows
Choice = TypeVar("Choice", bound=str)
NAMED = {  # kinds of dtypes that numpy would cast to floats, or that a user may take for numbers
    "c": "complex numbers",
    "M": "dates",
    "m": "time spans",
    "S": "bytes",
    "U": "text",
    "V": "records",
    "T": "text",
}
NO_NUMBERS = (str, bytes, complex, np.complexfloating, datetime.date, datetime.timedelta)


def as_frame(value: Any) -> Any:
    """A data frame of any library (polars, arrow, duckdb, modin, ...) as pandas; anything else as it is.

    Raises
    ------
    TypeError
        If the library's own conversion fails.
    """
    if isinstance(value, np.ndarray | list | tuple) or not hasattr(type(value), "columns"):
        return value
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return value
    import narwhals as nw

    frame = nw.from_native(value, pass_through=True)
    try:
        if isinstance(frame, nw.LazyFrame):
            return frame.collect("pyarrow").to_pandas()
        if isinstance(frame, nw.DataFrame):
            return frame.to_pandas()
        return value.to_pandas() if hasattr(value, "to_pandas") else value
    except (ImportError, ValueError, TypeError) as error:
        raise TypeError(f"{_name(value)} cannot be made a pandas data frame: {error}") from error


def as_array(value: Any, argument: str) -> np.ndarray:
    """`value` as a real array of any shape in the dtype that it has, refusing what numpy would turn into numbers without a word."""
    if value is None:
        raise TypeError(f"{argument} must be an array of numbers, got None")
    if hasattr(value, "nnz") and hasattr(value, "toarray"):  # sparse, of scipy
        raise TypeError(f"{argument} must be dense, got {_name(value)}; pass {argument}.toarray()")
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        raise ValueError(f"{argument} must have no masked entries; fill them or drop their rows")
    detach = getattr(value, "detach", None)
    if detach is not None and hasattr(value, "requires_grad"):
        value = detach().cpu()  # the result is a numpy array; the caller's tensor stays put
        if "bfloat16" in str(value.dtype):  # numpy has no such type
            value = value.float()
    try:
        array = np.asarray(as_frame(value))
        if array.dtype.kind == "O":  # a table of mixed types, or nested lists of uneven length
            wrong = next((v for v in array.flat if isinstance(v, NO_NUMBERS)), None)
            if wrong is not None:
                raise TypeError(f"it holds {_name(wrong)}")
            array = array.astype(np.float64)
    except OverflowError as error:
        raise ValueError(f"{argument} must be finite, got a number beyond floats") from error
    except Exception as error:  # __array__ of a stranger's class may raise anything
        raise TypeError(
            f"{argument} must be an array of real numbers, got {_name(value)}: {error}"
        ) from error
    kind = array.dtype.kind
    if kind == "c":
        raise ValueError(f"{argument} must be real, got complex numbers")
    if kind not in "fiub":
        told = NAMED.get(kind, "")
        raise TypeError(
            f"{argument} must hold real numbers, got {told and told + ', '}dtype {array.dtype}"
        )
    return array


def as_floats(value: Any, argument: str) -> np.ndarray:
    """`value` as a float64 array of any shape, which may hold NaN and infinities; the caller says what they mean."""
    return as_array(value, argument).astype(np.float64, copy=False)


def as_sparse(value: Any, argument: str) -> Any:
    """`value`, sparse (of scipy or torch) or dense, as a csr_array of float64.

    Its entries must be real, and may be NaN.
    """
    import scipy.sparse as sp

    if "sparse" in str(getattr(value, "layout", "")):
        value = _of_torch(value)
    if not sp.issparse(value):
        array = as_floats(value, argument)
        if array.ndim != 2:
            raise ValueError(f"{argument} must be 2-dimensional, got shape {array.shape}")
        return sp.csr_array(array)
    if value.dtype.kind not in "fiub":
        told = NAMED.get(value.dtype.kind, str(value.dtype))
        raise ValueError(f"{argument} must be real, got {told}")
    return sp.csr_array(value.astype(np.float64))  # before entries that repeat are added up


def _of_torch(tensor: Any) -> Any:
    """A sparse tensor of torch, of any layout, as a coo_array; the caller's tensor stays put."""
    import scipy.sparse as sp

    entries = tensor.detach().cpu().to_sparse_coo().coalesce()  # the result is scipy's
    return sp.coo_array((entries.values().numpy(), entries.indices().numpy()), tuple(entries.shape))


def _numeric(value: Any, argument: str, ndim: Collection[int], dtype: Any) -> np.ndarray:
    array = as_array(value, argument)
    if array.ndim not in ndim:
        wanted = " or ".join(f"{n}-dimensional" for n in sorted(ndim))
        raise ValueError(f"{argument} must be {wanted}, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{argument} must not be empty, got shape {array.shape}")
    if array.dtype != np.float32 or dtype is not None:
        array = array.astype(dtype or np.float64, copy=False)
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{argument} must be finite, got NaN or infinity, first at {where}")
    return array


def _name(value: Any) -> str:
    return type(value).__name__


def _shown(value: Any) -> str:
    """Type and value, as far as it can be printed in a line."""
    try:
        text = repr(value)
    except Exception:  # whole numbers of more than 4,300 digits, or a stranger's class
        return _name(value)
    return text if len(text) <= 80 else f"{_name(value)} {text[:60]}…"


def as_bool(value: Any, argument: str) -> bool:
    """`value` if it is True or False; ``"no"``, 0 and None are neither."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{argument} must be True or False, got {_shown(value)}")
    return bool(value)


def as_rng(value: Any, argument: str = "rng") -> np.random.Generator:
    """A generator from None, a whole number from 0, a SeedSequence, or the Generator itself (SPEC 7).

    Raises
    ------
    TypeError, ValueError
        If it is anything else, True and False included; the message names the argument.
    """
    if isinstance(value, np.random.Generator | np.random.SeedSequence) or value is None:
        return np.random.default_rng(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"{argument} must be None, a whole number, a SeedSequence or a Generator, got {_name(value)}"
        )
    if value < 0:
        raise ValueError(f"{argument} must be at least 0, got {_shown(value)}")
    return np.random.default_rng(int(value))


def private_stream(rng: np.random.Generator | int | None) -> np.random.Generator:
    """A stream of its own: data that were drawn from the same seed must not share its numbers."""
    return np.random.default_rng(np.random.default_rng(rng).integers(1 << 62, size=2))


def same_order(**tables: Any) -> None:
    """Refuse tables of pandas whose rows carry the labels of the first one in another order.

    Rows go by position everywhere, as they do in scikit-learn; two tables of the same rows in another
    order are then a mistake that no number shows. Whatever has no index of pandas passes.

    Parameters
    ----------
    **tables : object
        By the names of their arguments; the others are compared with the first.

    Raises
    ------
    ValueError
        If labels are permuted, or overlap as if shifted; the message says how to align them.
    """
    (name, reference), *others = tables.items()
    first: Any = getattr(reference, "index", None)
    for argument, table in others:
        second: Any = getattr(table, "index", None)
        if not (hasattr(first, "equals") and hasattr(second, "equals")) or first.equals(second):
            continue
        if len(first) == len(second) and Counter(first) == Counter(second):
            raise ValueError(
                f"{argument} has the labels of {name} in another order; pass "
                f"{argument}.loc[{name}.index]"
            )
        if len(first) == len(second) and set(first) & set(second):
            raise ValueError(
                f"{argument} has some labels of {name} and others, as if shifted; align them, or "
                f"pass {argument}.to_numpy() to go by position"
            )


def as_sequence(value: Any, argument: str) -> list[Any]:
    """`value` as a list; a bare string, a mapping and a set, which has no order, are none."""
    if isinstance(value, str | bytes | Mapping | Set) or not isinstance(value, Iterable):
        raise TypeError(f"{argument} must be a sequence, got {_shown(value)}")
    if getattr(value, "ndim", 1) == 0:
        raise TypeError(f"{argument} must be a sequence, got a single number")
    return list(value)


def as_matrix(value: Any, argument: str, *, dtype: Any = None) -> Float[np.ndarray, "n d"]:
    """`value` as a finite two-dimensional float array: float32 is kept (unless `dtype` is given), all else becomes float64."""
    return _numeric(value, argument, (2,), dtype)


def as_vector(
    value: Any, argument: str, *, size: int | None = None, dtype: Any = None
) -> Float[np.ndarray, " n"]:
    """`value` as a finite one-dimensional float array of `size` entries."""
    array = _numeric(value, argument, (1,), dtype)
    if size is not None and len(array) != size:
        raise ValueError(f"{argument} must have {size} entries, one a row, got {len(array)}")
    return array


def as_labels(
    value: Any, argument: str, *, size: int | None = None, classes: int | None = None
) -> Int[np.ndarray, " n"]:
    """`value` as one-dimensional int64 class numbers 0..classes-1."""
    array = _numeric(value, argument, (1,), np.float64)
    if size is not None and len(array) != size:
        raise ValueError(f"{argument} must have {size} entries, one a row, got {len(array)}")
    if (
        (array != np.floor(array)).any()
        or array.min() < 0
        or array.max() > 2**53
        or (classes is not None and array.max() >= classes)
    ):
        top = "..." if classes is None else classes - 1
        raise ValueError(
            f"{argument} must hold whole class numbers 0 to {top}, got {array.min():g} to {array.max():g}"
        )
    return array.astype(np.int64)


def as_real(
    value: Any,
    argument: str,
    *,
    low: float = -np.inf,
    high: float = np.inf,
    open_ends: bool = False,
) -> float:
    """`value` as a float in [low, high], or in (low, high) with `open_ends`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{argument} must be a number, got {_name(value)}")
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"{argument} must be finite, got a number beyond floats") from error
    if not (low < number < high if open_ends else low <= number <= high):
        ends = f"({low:g}, {high:g})" if open_ends else f"[{low:g}, {high:g}]"
        raise ValueError(f"{argument} must be in {ends}, got {number:g}")
    return number


def as_fraction(value: Any, argument: str) -> float:
    """`value` as a float strictly between 0 and 1, and not so small that a share of it would vanish."""
    number = as_real(value, argument, low=0, high=1, open_ends=True)
    if number < SMALLEST:
        raise ValueError(f"{argument} must be at least {SMALLEST:g}, got {number:g}")
    return number


def as_int(value: Any, argument: str, *, low: int | None = None, high: int | None = None) -> int:
    """`value` as a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{argument} must be a whole number, got {_name(value)} {_shown(value)}")
    number = int(value)
    if (low is not None and number < low) or (high is not None and number > high):
        accepted = (
            f"at least {low}"
            if high is None
            else f"at most {high}"
            if low is None
            else f"in {low}..{high}"
        )
        raise ValueError(f"{argument} must be {accepted}, got {_shown(number)}")
    if abs(number) >= 2**63:
        raise ValueError(f"{argument} must be below 2**63, got {_shown(number)}")
    return number


def as_choice(value: Choice, argument: str, choices: Collection[str]) -> Choice:
    """`value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, choices))}, got {_shown(value)}"
        )
    return value


def column_names(value: Any) -> tuple[str, ...] | None:
    """Names of the columns of a data frame; None for anything else."""
    if isinstance(value, np.ndarray | list | tuple) or not hasattr(type(value), "columns"):
        return None
    if type(value).__module__.partition(".")[0] == "pandas":
        return tuple(map(str, value.columns))
    import narwhals as nw

    frame = nw.from_native(value, pass_through=True)
    if isinstance(frame, nw.DataFrame | nw.LazyFrame):
        return tuple(frame.collect_schema().names())
    return tuple(map(str, value.columns))
