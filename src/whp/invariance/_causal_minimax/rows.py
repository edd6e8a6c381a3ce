"""Rows, read and checked: environments, the range of the target, what is named and is not there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from whp.invariance._causal_minimax.coding import as_target
from whp.invariance._causal_minimax.graph import Dag
from whp.invariance._causal_minimax.result import wanted_columns
from whp.text import nearest
from whp.validate import as_frame, as_real, as_sequence

__all__ = ["Rows", "read_rows"]

SMALLEST, LARGEST = 1e-150, 1e150  # widths whose squares are floats


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows, read and checked.

    Attributes
    ----------
    table, held : DataFrame
        Training rows and those of held-out environments, the target as floats.
    raw : DataFrame
        All rows as they came but for the environment, to look for copies.
    env, held_env : ndarray or None
        Environment of each row, in words.
    target : str
    mutable : list of str or None
    low, high : float
        Range of the target.
    ranged : str
        "given", "truth values" or "observed".
    notes : tuple of str
    """

    table: pd.DataFrame
    held: pd.DataFrame
    raw: pd.DataFrame
    env: np.ndarray | None
    held_env: np.ndarray | None
    target: str
    mutable: list[str] | None
    low: float
    high: float
    ranged: str
    notes: tuple[str, ...]

    @property
    def width(self) -> float:
        """b."""
        return self.high - self.low

    def of(self, dag: Dag, env: str | None) -> Rows:
        """The columns of a graph, none with a gap."""
        columns = list(self.table.columns)
        for name in dag.order:
            if name == env:
                raise ValueError(
                    f"graph has the environment {env!r} as a node; it is named by env=, and its edges "
                    "are what mutable= says"
                )
            if name not in columns:
                raise ValueError(
                    f"graph has the node {name!r}, and data has no such column{nearest(name, columns)}"
                )
        left = [c for c in columns if c not in dag.order and c != env]
        notes = (*self.notes, *([f"not in the graph: {', '.join(left)}"] if left else []))
        held = (
            wanted_columns(self.held, tuple(dag.order)) if len(self.held) else self.held[dag.order]
        )
        table = wanted_columns(self.table, tuple(dag.order))
        return replace(self, table=table, held=held, notes=notes)


def read_rows(
    data: Any,
    graph: Any,
    target: str,
    mutable: Any,
    env: str | None,
    bins: Any,
    test_env: Any,
    y_range: Any,
) -> Rows:
    """Arguments of the front door that are about rows.

    Raises
    ------
    TypeError, ValueError
        If a column is not there, has gaps or no use; the message names it.
    """
    table = as_frame(data)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"data must be a data frame with named columns, got {type(table).__name__}")
    table = table.set_axis([str(c) for c in table.columns], axis=1).reset_index(drop=True)
    names = list(table.columns)
    if twice := sorted({c for c in names if names.count(c) > 1}):
        raise ValueError(f"data has {names.count(twice[0])} columns named {twice[0]!r}")
    for argument, name in (("target", target), ("env", env)):
        if name is not None and name not in names:
            raise ValueError(f"{argument}: data has no column {name!r}{nearest(name, names)}")
    if env == target:
        raise ValueError(f"env must be another column than the target, got {env!r}")
    wanted_columns(table, (target,) if env is None else (target, env))
    notes = _unused_levels(table)
    y = as_target(table[target], target)
    if isinstance(bins, Mapping):
        _check_edges(bins, names)
    changing = None if mutable is None else _names(mutable, "mutable", names)
    for name in changing or ():
        if name not in names:
            raise ValueError(f"mutable: data has no column {name!r}{nearest(name, names)}")
    if env is not None and env in (changing or ()):
        raise ValueError(f"mutable must not name the environment {env!r}")
    if graph is not None and changing is None:
        raise ValueError(
            "mutable must be given with a graph: name the variables whose mechanism may change"
        )
    words = None if env is None else _words(table[env])
    if graph is None and (words is None or len(set(words)) < 2):
        raise ValueError(
            "env must name a column with at least two environments where graph is None: a graph is "
            "discovered from what differs between them"
        )
    held = np.zeros(len(table), bool)
    if test_env is not None:
        if words is None:
            raise ValueError("test_env must go with env=, the column that names environments")
        wanted = _names(test_env, "test_env", list(set(words)))
        for name in wanted:
            if name not in words:
                raise ValueError(
                    f"test_env: column {env!r} has no {name!r}{nearest(name, sorted(set(words)))}"
                )
        held = np.isin(words, wanted)
    if (~held).sum() < 4:
        raise ValueError(f"data must have at least 4 rows to train on, got {int((~held).sum())}")
    made = table.assign(**{target: y})
    low, high, ranged = _range(y[~held], y_range, target, _truth(table[target]))
    return Rows(
        made[~held],
        made[held],
        table if env is None else table.drop(columns=env),
        None if words is None else words[~held],
        None if words is None else words[held],
        target,
        changing,
        low,
        high,
        ranged,
        tuple(notes),
    )


def _names(given: Any, argument: str, known: Sequence[str]) -> list[str]:
    """Names out of a sequence, or of a text with commas between."""
    if isinstance(given, str):
        return [given] if given in known else [p.strip() for p in given.split(",") if p.strip()]
    names = [str(v) for v in as_sequence(given, argument)]
    # Environments 1.0, 2.0 are known as 1 and 2.
    return [n.removesuffix(".0") if n not in known and n.endswith(".0") else n for n in names]


def _words(values: pd.Series) -> np.ndarray:
    """Environments as text; 1.0 is 1."""
    if pd.api.types.is_float_dtype(values) and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    return values.astype(str).to_numpy(dtype=str)


def _unused_levels(table: pd.DataFrame) -> list[str]:
    """What is said of levels of categories that no row has."""
    told = []
    for name in table:
        values = table[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            unused = values.cat.categories.difference(
                values.cat.remove_unused_categories().cat.categories
            )
            if len(unused):
                told.append(
                    f"levels of {name!r} without rows left out: {', '.join(map(str, unused[:5]))}"
                )
    return told


def _check_edges(bins: Mapping[Any, Any], names: Sequence[str]) -> None:
    for name, edges in bins.items():
        if name not in names:
            raise ValueError(f"bins: data has no column {name!r}{nearest(str(name), names)}")
        array = np.asarray(as_sequence(edges, f"bins[{name!r}]"), dtype=float)
        if (
            array.ndim != 1
            or not len(array)
            or not np.isfinite(array).all()
            or (np.diff(array) <= 0).any()
        ):
            raise ValueError(
                f"bins[{name!r}] must hold rising finite edges, at least one, got {edges!r}"
            )


def _truth(values: pd.Series) -> bool:
    """Whether the column can hold nothing but true and false; 0 and 1 may be counts of what is rare."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.cat.categories.to_series()
    return bool(pd.api.types.is_bool_dtype(values))


def _range(y: np.ndarray, given: Any, target: str, truth: bool) -> tuple[float, float, str]:
    """The range of the target and where it is from."""
    if y.min() == y.max():
        raise ValueError(f"target {target!r} is constant in the training rows")
    if not SMALLEST <= y.max() - y.min() <= LARGEST:
        raise ValueError(
            f"target {target!r} goes from {y.min():g} to {y.max():g}, whose squares are no floats; take "
            "another unit"
        )
    if given is None:
        return float(y.min()), float(y.max()), "truth values" if truth else "observed"
    ends = as_sequence(given, "y_range")
    if len(ends) != 2:
        raise ValueError(f"y_range must be two numbers, got {given!r}")
    low, high = (as_real(e, "y_range", low=-LARGEST, high=LARGEST) for e in ends)
    if not low < high:
        raise ValueError(f"y_range must rise, got {given!r}")
    if y.min() < low or y.max() > high:
        raise ValueError(
            f"y_range must hold all rows, and target {target!r} goes from {y.min():g} to {y.max():g}"
        )
    return low, high, "given"
