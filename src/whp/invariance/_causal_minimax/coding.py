"""Columns as small whole numbers: categories by their words, measurements by their bins."""

from __future__ import annotations

import numbers
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

__all__ = [
    "DENSE",
    "FINITE",
    "Cells",
    "Codes",
    "Coding",
    "Column",
    "as_target",
    "continuous",
    "levels_of",
    "quantile_edges",
]

FINITE = 20  # different numbers up to which a column is used value by value
DENSE = 4_000_000  # cells that are kept in a table rather than looked up
LARGEST = 2**60


@dataclass(frozen=True, eq=False)
class Column:
    """How one column becomes codes.

    Attributes
    ----------
    name : str
    levels : pandas.Index or None
        Different values, coded by place; None for bins.
    edges : ndarray or None
        Inner edges of bins; `numpy.digitize` codes by them.
    given : bool
        Whether no value can be outside: bins, or a target of two values.
    """

    name: str
    levels: Any
    edges: np.ndarray | None
    given: bool

    @property
    def size(self) -> int:
        """Number of codes."""
        return len(self.levels) if self.edges is None else len(self.edges) + 1

    def words(self) -> list[str]:
        """The codes in words."""
        if self.edges is None:
            whole = [
                isinstance(v, float) and v.is_integer() and abs(v) < 2**53 for v in self.levels
            ]
            return [str(int(v) if w else v) for v, w in zip(self.levels, whole, strict=True)]
        ends = [f"{e:.6g}" for e in self.edges]
        inner = [f"{a} to {b}" for a, b in pairwise(ends)]
        return [f"below {ends[0]}", *inner, f"{ends[-1]} and more"]

    def check(self, values: Any) -> None:
        """Refuse texts for numbers and numbers for texts, of which none could agree."""
        if self.edges is None:
            held, holds = _kind(self.levels), _kind(pd.Index(_plain(values)))
            if {held, holds} == {"numbers", "texts"}:
                raise ValueError(
                    f"column {self.name!r} holds {holds}, and held {held} in training: convert it"
                )

    def codes(self, values: Any) -> np.ndarray:
        """A code a row, −1 for what half A has not seen."""
        if self.edges is not None:
            return np.digitize(np.asarray(values, dtype=float), self.edges).astype(np.int64)
        levels, given = self.levels, pd.Index(_plain(values))
        if {levels.dtype, given.dtype} == {np.dtype("f4"), np.dtype("f8")}:
            # One decimal is two numbers in two widths; the coarser one can compare them.
            coarse = levels.astype("f4")
            if coarse.is_unique:
                levels, given = coarse, given.astype("f4")
        return levels.get_indexer(given).astype(np.int64)


def _kind(index: pd.Index) -> str:
    """What an index holds; "" for a mixture."""
    if pd.api.types.is_numeric_dtype(index):
        return "numbers"
    return "texts" if index.inferred_type == "string" else ""


def _plain(values: Any) -> Any:
    """Categories as their own values; truth values as numbers, so that True and 1 are one level."""
    if isinstance(values, pd.Series) and isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    array = values.to_numpy() if isinstance(values, pd.Series) else np.asarray(values)
    if array.dtype == object:
        array = pd.Series(array).infer_objects().to_numpy()
    return array.astype(np.int64) if array.dtype == bool else array


def quantile_edges(values: np.ndarray, bins: int) -> np.ndarray:
    """Inner edges of bins with as many rows each, as far as ties let them.

    Where a whole bin and more is the smallest value, as in counts that are mostly 0, an edge at that value would
    part nothing: it goes to the next larger one, so that the value is a bin of its own.
    """
    cuts = np.unique(np.quantile(values, np.arange(1, bins) / bins))
    more = values[values > values.min()]
    return np.unique(np.where(cuts > values.min(), cuts, more.min())) if more.size else cuts


def levels_of(values: Any) -> pd.Index:
    """Different values in an order that rows do not change."""
    found = pd.unique(pd.Series(_plain(values)))
    try:
        return pd.Index(np.sort(found))
    except TypeError:  # numbers beside words
        return pd.Index(sorted(found, key=lambda v: (str(type(v)), str(v))))


def continuous(values: pd.Series) -> bool:
    """Whether a column is numeric with more different values than are used one by one."""
    types = pd.api.types
    numeric = types.is_integer_dtype(values) or types.is_float_dtype(values)
    return bool(numeric and values.nunique() > FINITE)


def as_target(values: pd.Series, name: str) -> np.ndarray:
    """The target as floats; texts have no scale and are refused."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if pd.api.types.is_bool_dtype(values):
        return values.to_numpy().astype(float)
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_complex_dtype(values):
        words = sorted({str(v) for v in values.unique()})
        if all(isinstance(v, numbers.Real) for v in values.unique()):
            return values.to_numpy().astype(float)
        shown = (
            " and ".join(map(repr, words)) if len(words) == 2 else ", ".join(map(repr, words[:3]))
        )
        shown += "" if len(words) <= 3 else ", …"
        raise ValueError(
            f"target {name!r} holds the texts {shown}; code it as 0/1 so that the loss has a scale"
        )
    found = values.to_numpy().astype(float)
    if not np.isfinite(found).all():
        raise ValueError(f"target {name!r} must be finite, got infinity")
    return found


@dataclass(frozen=True, eq=False)
class Coding:
    """All columns of the graph but what the loss sees of the target.

    Attributes
    ----------
    columns : dict of str to Column
    """

    columns: dict[str, Column]

    @classmethod
    def of(
        cls,
        table: pd.DataFrame,
        bins: int | Mapping[str, Sequence[float]] | None,
        *,
        many: Collection[str],
        known: Mapping[str, Any],
    ) -> Coding:
        """Levels and edges from the rows of half A.

        Parameters
        ----------
        table : DataFrame
            Half A.
        bins : int or mapping
            Quantiles of columns with many different numbers, or inner edges by name.
        many : collection of str
            Columns that are `continuous` in half A.
        known : mapping of str to Index
            Levels known beforehand.
        """
        columns = {}
        for name in table:
            values = table[name]
            edges = bins[name] if isinstance(bins, Mapping) and name in bins else None
            if edges is not None:
                columns[name] = Column(name, None, np.asarray(edges, dtype=float), True)
            elif name in many:
                if not isinstance(bins, int):
                    raise ValueError(
                        f"bins: column {name!r} has {values.nunique():,} different numbers in half A "
                        "and no bins; give its edges, or a number of bins for all such columns"
                    )
                cuts = quantile_edges(values.to_numpy(float), bins)
                columns[name] = Column(name, None, cuts, True)
            elif name in known:
                columns[name] = Column(name, known[name], None, True)
            else:
                columns[name] = Column(name, levels_of(values), None, False)
        return cls(columns)

    def with_words_of(self, table: pd.DataFrame) -> Coding:
        """The same bins, and the levels of other rows."""
        return Coding(
            {
                n: c if c.edges is not None else replace(c, levels=levels_of(table[n]))
                for n, c in self.columns.items()
            }
        )

    def codes(self, table: pd.DataFrame) -> Codes:
        """Codes of other rows, column by column."""
        made = {n: c.codes(table[n]) for n, c in self.columns.items()}
        return Codes(made, {n: c.size for n, c in self.columns.items()}, len(table))


@dataclass(frozen=True, eq=False)
class Codes:
    """Codes of some rows by column, and how many each column has."""

    of: dict[str, np.ndarray]
    sizes: dict[str, int]
    n: int

    def take(self, rows: Any) -> Codes:
        """Some of the rows."""
        part = {name: c[rows] for name, c in self.of.items()}
        return Codes(part, self.sizes, len(next(iter(part.values()))))

    def key(self, names: Sequence[str]) -> np.ndarray:
        """One number a row for its cell, −1 where a value is not known; only while they fit."""
        key, unknown = np.zeros(self.n, np.int64), np.zeros(self.n, bool)
        for name in names:
            key = key * self.sizes[name] + self.of[name]
            unknown |= self.of[name] < 0
        return np.where(unknown, -1, key) if unknown.any() else key

    def product(self, names: Sequence[str]) -> int:
        """How many cells there could be."""
        made = 1
        for name in names:
            made *= self.sizes[name]
        return made


class Cells:
    """Cells of several columns, numbered; where too many are possible, those that some rows have.

    Parameters
    ----------
    codes : Codes
        Rows that know the cells.
    names : sequence of str
        The columns.
    """

    def __init__(self, codes: Codes, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.steps: list[tuple[tuple[str, ...], int, np.ndarray | None]] = []
        part: list[str] = []
        before = 1
        key = np.zeros(codes.n, np.int64)
        for name in self.names:
            width = codes.product([*part, name])
            if before * width > LARGEST:
                key = self._step(codes, part, key, keep=True)
                before, part = len(self.steps[-1][2]) if self.steps[-1][2] is not None else 1, []
            part.append(name)
        whole = before * codes.product(part)
        self._step(codes, part, key, keep=whole > DENSE)
        known = self.steps[-1][2]
        self.size = whole if known is None else len(known)

    def _step(
        self, codes: Codes, part: Sequence[str], key: np.ndarray, *, keep: bool
    ) -> np.ndarray:
        width = codes.product(part)
        made = key * width + codes.key(part)
        if not keep:
            self.steps.append((tuple(part), width, None))
            return made
        known = np.unique(made[(key >= 0) & (codes.key(part) >= 0)])
        self.steps.append((tuple(part), width, known))
        return np.searchsorted(known, made).astype(np.int64)

    def of(self, codes: Codes) -> np.ndarray:
        """The cell of each row, −1 where it is not known."""
        key = np.zeros(codes.n, np.int64)
        lost = np.zeros(codes.n, bool)
        for part, width, known in self.steps:
            own = codes.key(part)
            lost |= own < 0
            key = key * width + own
            if known is not None:
                place = np.minimum(np.searchsorted(known, key), max(len(known) - 1, 0))
                lost |= (known[place] != key) if len(known) else True
                key = place
        return np.where(lost, -1, key)
