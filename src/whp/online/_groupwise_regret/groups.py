"""Groups out of whatever they are given as: a boolean matrix, columns of a table, or predicates on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from pandas.api.types import infer_dtype

from whp.text import nearest
from whp.validate import column_names, same_order

__all__ = ["EVERYONE", "features", "members"]

EVERYONE = "everyone"
EMPTY = "(empty)"  # a missing word is a category of its own
NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
LEVELS = 20  # a numeric column with more values than this needs edges


def members(
    groups: Any, X: Any, names: Sequence[str] | None = None, *, whole: bool = True
) -> tuple[Bool[np.ndarray, "T N"], tuple[str, ...]]:
    """Membership of each row, and the names; a group of everyone is appended if there is none.

    Parameters
    ----------
    groups : None, array_like of shape (T, N), data frame, str, sequence, or mapping
        Zeros and ones; or names of columns of `X`, also in one string with commas, ``"age:35:50"``
        for a number with its edges; or predicates, functions of `X` to T booleans, by name.
    X : array_like or data frame, shape (T, d)
        The rows.
    names : sequence of str, optional
        Of the groups of a matrix.
    whole : bool
        Whether these are all rows of the stream, so that a column of ones is a group of everyone.
        A block does not show it, and everyone is appended unless a group has that name.

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or holds other values than 0 and 1.
    """
    T = len(X)
    flags: dict[str, np.ndarray] = {}
    called = column_names(groups)
    if names is not None and (
        called or groups is None or isinstance(groups, (str, Mapping)) or _names(groups)
    ):
        raise ValueError("group_names must be left out but for a matrix; these groups have names")
    if groups is None:
        flags = {}
    elif isinstance(groups, str):
        flags = _by_columns([c.strip() for c in groups.split(",") if c.strip()], X)
    elif isinstance(groups, Mapping):
        flags = {str(k): _flags(v(X) if callable(v) else v, X, str(k)) for k, v in groups.items()}
        if len(flags) != len(groups):
            raise ValueError("groups must have names that differ from each other as text")
    elif _names(groups):
        for number, c in enumerate(groups):
            if isinstance(c, str):
                _add(flags, _by_columns([c], X))
            else:
                name = getattr(c, "__name__", "")
                if not name or name == "<lambda>":
                    name = "predicate"
                # One function may make many of one name.
                if name == "predicate" or name in flags:
                    name = f"{name} {number}"
                flags[name] = _flags(c(X), X, name)
    else:
        if np.ma.is_masked(groups):
            raise ValueError("groups must have no masked entries")
        try:
            dense: Any = groups
            matrix = np.asarray(dense.toarray() if hasattr(groups, "toarray") else groups)
        except ValueError as error:
            raise ValueError("groups must have rows of one length") from error
        if matrix.ndim != 2 or len(matrix) != T or matrix.shape[1] == 0:
            raise ValueError(
                f"groups must have shape ({T}, N) with N at least 1, got {matrix.shape}"
            )
        called = called or tuple(names or (f"group {j}" for j in range(matrix.shape[1])))
        if len(called) != matrix.shape[1]:
            raise ValueError(f"group_names must have {matrix.shape[1]} entries, got {len(called)}")
        flags = {name: _flags(matrix[:, j], X, name) for j, name in enumerate(called)}
        if len(flags) != len(called):
            raise ValueError("group_names must differ from each other")
    if not (any(v.all() for v in flags.values()) if whole else EVERYONE in flags):
        flags[EVERYONE] = np.ones(T, dtype=bool)
    return np.column_stack(list(flags.values())), tuple(flags)


def _names(groups: Any) -> bool:
    """Whether these are columns of `X` and predicates on it."""
    return (
        isinstance(groups, Sequence)
        and len(groups) > 0
        and all(isinstance(c, str) or callable(c) for c in groups)
    )


def _add(flags: dict[str, np.ndarray], more: Mapping[str, np.ndarray]) -> None:
    """`more` into `flags`; "b = c" of column "a" reads like "c" of column "a = b"."""
    for name, members in more.items():
        if not np.array_equal(flags.setdefault(name, members), members):
            raise ValueError(f"groups must differ in name, two are {name!r}; rename a column")


def _flags(values: Any, X: Any, name: str) -> np.ndarray:
    same_order(**{"X": X, f"groups[{name!r}]": values})
    if np.ma.is_masked(values):
        raise ValueError(f"groups must have no masked entries, in column {name!r}")
    array, T = np.asarray(values), len(X)
    if array.shape != (T,):
        raise ValueError(f"groups must give {T} flags in column {name!r}, got shape {array.shape}")
    if array.dtype.kind in "OUS":
        text = np.char.strip(np.char.lower(array.astype(str)))
        known = {"1": True, "true": True, "1.0": True, "0": False, "false": False, "0.0": False}
        if not np.isin(text, list(known)).all():
            raise ValueError(f"groups contains values other than 0/1 in column {name!r}")
        return np.isin(text, ["1", "true", "1.0"])
    if array.dtype.kind not in "bifu" or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"groups contains values other than 0/1 in column {name!r}; to make a group of each value "
            "name the column of X"
        )
    return array.astype(bool)


def _by_columns(names: Sequence[str], X: Any) -> dict[str, np.ndarray]:
    """A group for each level, or for each interval between edges."""
    if not hasattr(X, "columns"):
        raise TypeError("groups must be a matrix or predicates where X has no named columns")
    flags: dict[str, np.ndarray] = {}
    for given in names:
        name, *edges = (given,) if given in X.columns else given.split(":")
        if name not in X.columns:
            have = [str(c) for c in X.columns]
            hint = nearest(name, have) or f"; it has {', '.join(have[:10])}"
            raise ValueError(f"groups must name columns of X, which {name!r} is not{hint}")
        column = X[name]
        if column.isna().any() and (edges or column.dtype.kind in "iufb"):
            raise ValueError(
                f"groups must have no missing numbers, column {name!r} has {int(column.isna().sum())}"
            )
        column = _filled(column)
        if edges:
            try:
                inner = sorted({float(e) for e in edges})
                numbers = column.astype(float)
            except ValueError as error:
                raise ValueError(
                    f"groups must have numbers after the colon and in the column, in {given!r}"
                ) from error
            if not np.isfinite(inner).all():
                raise ValueError(f"groups must have finite edges, got {given!r}")
            cuts = [-np.inf, *inner, np.inf]
            for low, high in pairwise(cuts):
                ends = (f"{_text(low)} < " * (low > -np.inf), f" ≤ {_text(high)}" * (high < np.inf))
                label = f"{name} > {_text(low)}" if high == np.inf else f"{ends[0]}{name}{ends[1]}"
                _add(flags, {label: ((numbers > low) & (numbers <= high)).to_numpy()})
            continue
        levels = sorted(column.unique(), key=str)
        if column.dtype.kind in "fiu" and len(levels) > LEVELS:
            raise ValueError(
                f"groups must have edges for the numbers in {name!r}, e.g. '{name}:35:50'"
            )
        by_level: dict[str, np.ndarray] = {}
        for level in levels:  # 1 and "1" in one column are one group
            label = f"{name} = {level}"
            here = (column == level).to_numpy()
            by_level[label] = here | by_level[label] if label in by_level else here
        _add(flags, by_level)
    return flags


def _filled(column: pd.Series) -> pd.Series:
    """Missing values as a word; categories and dates would not take it."""
    return column.astype(object).where(column.notna(), EMPTY) if column.isna().any() else column


def _text(number: float) -> str:
    """An edge, so that no two of them read the same."""
    written = (f"{number:.{digits}g}" for digits in (6, 15, 17))
    return next(text for text in written if float(text) == number)


def features(X: Any) -> tuple[np.ndarray, tuple[str, ...], bool]:
    """Rows of numbers with a 1 appended: text as dummies, numbers of a table scaled to [0, 1].

    Returns rows, names, and whether anything was scaled by what the stream holds.
    """
    if not hasattr(X, "columns"):
        from whp.validate import as_matrix

        rows = as_matrix(X, "X", dtype=np.float64)
        return rows, tuple(f"x{j}" for j in range(rows.shape[1])), False
    table = pd.DataFrame(X)
    if not table.columns.is_unique:
        raise ValueError(
            f"X must have columns of different names, {table.columns[table.columns.duplicated()][0]!r} "
            "occurs twice"
        )
    table = table.copy()
    for c in table.columns:  # numbers in a column of objects are numbers
        if table[c].dtype == object and infer_dtype(table[c], skipna=True) in NUMBERS:
            numbers = table[c].where(table[c].notna(), np.nan)
            try:
                table[c] = numbers.astype(np.float64)
            except OverflowError as error:
                raise ValueError(f"X must be finite, column {c!r} is too large") from error
    text = [c for c in table.columns if table[c].dtype.kind not in "fiub"]
    for c in text:
        table[c] = _filled(table[c])
    if (missing := table.isna().sum()).any():
        raise ValueError(
            f"X must have no missing values, column {missing.idxmax()!r} has {int(missing.max())}"
        )
    table = pd.get_dummies(table, columns=text, dtype=np.float64).astype(np.float64)
    low, high = table.min(), table.max()
    if not np.isfinite(low).all() or not np.isfinite(high).all():
        raise ValueError("X must be finite, got infinity")
    outside = (low < 0) | (high > 1)
    span = (high - low).where(high > low, 1.0)
    if not np.isfinite(span).all():
        raise ValueError(f"X must span finite ranges, column {span.idxmax()!r} does not")
    table.loc[:, outside] = (table.loc[:, outside] - low[outside]) / span[outside]
    rows = np.column_stack([table.to_numpy(), np.ones(len(table))])
    return np.ascontiguousarray(rows), (*map(str, table.columns), "bias"), bool(outside.any())
