"""Arguments in, clean arrays out: one home for the messages that name argument, fault and what is accepted."""

from __future__ import annotations

import numbers
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Int

__all__ = [
    "as_choice",
    "as_fraction",
    "as_int",
    "as_labels",
    "as_matrix",
    "as_real",
    "as_vector",
    "column_names",
]

Choice = TypeVar("Choice", bound=str)


def _numeric(value: Any, argument: str, ndim: Collection[int], dtype: Any) -> np.ndarray:
    if value is None:
        raise TypeError(f"{argument} must be an array of numbers, got None")
    try:
        array = np.asarray(value)
        kind = array.dtype.kind
        if kind == "O":  # a table of mixed types, or nested lists of uneven length
            array = array.astype(np.float64)
            kind = "f"
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{argument} must be an array of real numbers, got {_name(value)}: {error}"
        ) from error
    if kind == "c":
        raise ValueError(f"{argument} must be real, got complex numbers")
    if kind not in "fiub":
        raise TypeError(f"{argument} must hold real numbers, got dtype {array.dtype}")
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
    number = float(value)
    if not (low < number < high if open_ends else low <= number <= high):
        ends = f"({low:g}, {high:g})" if open_ends else f"[{low:g}, {high:g}]"
        raise ValueError(f"{argument} must be in {ends}, got {number:g}")
    return number


def as_fraction(value: Any, argument: str) -> float:
    """`value` as a float strictly between 0 and 1."""
    return as_real(value, argument, low=0, high=1, open_ends=True)


def as_int(value: Any, argument: str, *, low: int | None = None, high: int | None = None) -> int:
    """`value` as a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{argument} must be a whole number, got {_name(value)} {value!r}")
    number = int(value)
    if (low is not None and number < low) or (high is not None and number > high):
        accepted = (
            f"at least {low}"
            if high is None
            else f"at most {high}"
            if low is None
            else f"in {low}..{high}"
        )
        raise ValueError(f"{argument} must be {accepted}, got {number}")
    return number


def as_choice(value: Choice, argument: str, choices: Collection[str]) -> Choice:
    """`value` if it is one of `choices`."""
    if value not in choices:
        raise ValueError(
            f"{argument} must be one of {', '.join(map(repr, choices))}, got {value!r}"
        )
    return value


def column_names(value: Any) -> tuple[str, ...] | None:
    """Names of the columns of a data frame; None for anything else."""
    return tuple(map(str, value.columns)) if hasattr(value, "columns") else None
