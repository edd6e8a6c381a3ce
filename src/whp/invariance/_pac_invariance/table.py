"""Rows with their environments and blocks, and which of those are held out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.certificate import Answer
from whp.invariance._pac_invariance import checks
from whp.invariance._pac_invariance import theorems as th
from whp.invariance._pac_invariance.environments import Environments, Rows, cut, groups
from whp.provenance import plain_generator
from whp.validate import as_sequence, as_vector, private_stream

__all__ = ["Table", "build", "hold_out"]

FOLDS, ROWS_A_COLUMN = 10, 4  # of the folds that stand for environments where none are given


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with their environments and blocks, small ones left out."""

    rows: Rows
    codes: np.ndarray
    labels: list[Any]
    block: np.ndarray  # of each environment
    blocked: bool
    order: np.ndarray | None
    given: bool
    min_rows: int | None
    notes: list[str]
    shared: float
    too_many_shared: bool

    @property
    def unit(self) -> str:
        return "block" if self.blocked else "environment"

    def moments(self, center: bool) -> Environments:
        return cut(self.rows, self.codes, self.labels, self.block, center)


def build(
    rows: Rows, env: Any, blocks: Any, order: Any, min_rows: int | None, largest: int, center: bool
) -> Table:
    n, notes = len(rows.y), []
    needed = largest + 2 + (not center)
    if env is None:
        if blocks is not None or order is not None:
            raise ValueError("blocks and order need env")
        folds = max(1, min(FOLDS, n // (ROWS_A_COLUMN * (largest + 2))))
        codes, labels = np.arange(n) % folds, list(range(folds))
        notes.append("no environments were given: rows were dealt into folds")
    else:
        codes, labels, empty = groups(env, "env", n)
        notes += [f"{empty} empty levels of env ignored"] if empty else []
    sizes = np.bincount(codes)
    when = None if order is None else _order(order, codes, labels)
    block = np.arange(len(labels))
    if blocks is not None:
        block = _blocks(blocks, codes, labels)
    least = needed if min_rows is None else min_rows
    if least < needed:
        raise ValueError(
            f"min_rows must be at least {needed} for subsets of {_columns(largest)}, got {least}"
        )
    small = sizes < least
    if small.all() and env is not None:
        raise ValueError(
            f"env has {len(labels):,} values in {n:,} rows, so no environment has the {least} rows that "
            f"{_columns(largest)} need{'s' if largest == 1 else ''}; give the environment of each row, not "
            "the row's id"
        )
    if small.any() and min_rows is None:
        e = int(np.argmax(small))
        raise ValueError(
            f"environment {labels[e]!r} has {int(sizes[e])} rows, and subsets of {_columns(largest)} need "
            f"{needed}; leave such environments out (min_rows={needed}), or pass a smaller max_size"
        )
    if small.any():
        notes.append(f"{int(small.sum()):,} environments with fewer than {least} rows left out")
        keep = ~small[codes]
        rows = Rows(rows.X[keep], rows.y[keep], rows.names)
        renumbered = np.cumsum(~small) - 1
        codes = renumbered[codes[keep]]
        labels = [labels[e] for e in np.flatnonzero(~small)]
        block = block[~small]
        when = None if when is None else when[~small]
    if env is not None and len(np.unique(block)) < 2:
        what = "blocks" if blocks is not None else "env"
        raise ValueError(f"{what} must have at least two values, got one: {labels[0]!r}")
    # A block is one draw: what its environments share is no matter.
    _, first, draw = np.unique(block, return_index=True, return_inverse=True)
    many, share = False, 0.0
    if len(first) > 1:
        many, share = checks.shared_rows(rows, draw[codes], [labels[e] for e in first])
    return Table(
        rows,
        codes,
        labels,
        block,
        blocks is not None,
        when,
        env is not None,
        min_rows,
        notes,
        share,
        many,
    )


def _columns(number: int) -> str:
    return "one column" if number == 1 else f"{number} columns"


def _order(order: Any, codes: np.ndarray, labels: list[Any]) -> np.ndarray:
    """One number an environment."""
    if isinstance(order, Mapping):
        missing = [v for v in labels if v not in order]
        if missing:
            raise ValueError(f"order lacks environment {missing[0]!r}")
        return as_vector([order[v] for v in labels], "order", dtype=np.float64)
    array = as_vector(order, "order", dtype=np.float64)
    index: Any = getattr(order, "index", None)
    if len(array) == len(labels) and hasattr(index, "get_indexer"):
        where = index.get_indexer(labels) if index.is_unique else np.array([-1])
        if (where >= 0).all():
            return array[where]
        if list(index) != list(range(len(array))):
            raise ValueError(
                "order has an index that is not the labels of env; index it by them, or pass a mapping"
            )
    if len(array) == len(labels):
        return array
    if len(array) != len(codes):
        raise ValueError(
            f"order must have a number a row ({len(codes):,}) or an environment ({len(labels):,}), got "
            f"{len(array):,}"
        )
    low, high = np.full(len(labels), np.inf), np.full(len(labels), -np.inf)
    np.minimum.at(low, codes, array)
    np.maximum.at(high, codes, array)
    if (low < high).any():
        e = int(np.argmax(low < high))
        raise ValueError(
            f"order must be constant within an environment; in {labels[e]!r} it runs from {low[e]:g} to "
            f"{high[e]:g}"
        )
    return low


def _blocks(blocks: Any, codes: np.ndarray, labels: list[Any]) -> np.ndarray:
    of_rows = groups(blocks, "blocks", len(codes))[0]
    first = np.full(len(labels), -1)
    first[codes[::-1]] = of_rows[::-1]
    if (wrong := of_rows != first[codes]).any():
        e = int(codes[int(np.argmax(wrong))])
        raise ValueError(
            f"blocks must be constant within an environment; {labels[e]!r} is in several"
        )
    return first


def hold_out(table: Table, test_env: Any, rng: Any) -> tuple[np.ndarray, Answer | None]:
    """Which environments are held out, and how they were drawn."""
    number = len(table.labels)
    held = np.zeros(number, bool)
    if test_env is None:
        return held, None
    units = np.unique(table.block)
    if isinstance(test_env, float | int | np.number):
        kept = math.floor(len(units) * (1 - float(test_env)) + 1e-9)
        if not 0 < kept < len(units):
            raise ValueError(
                f"test_env = {float(test_env):g} of {len(units)} {table.unit}s leaves {kept} to fit and "
                f"{len(units) - kept} to hold out; both must be at least one"
            )
        source = np.random.default_rng(rng)
        drawn = private_stream(source).permutation(len(units))[kept:]
        held = np.isin(table.block, units[drawn])
        if plain_generator(rng):
            how = th.SPLIT_HERE.by_construction(
                f"{len(drawn)} {table.unit}s of {len(units)} drawn here"
            )
        else:
            how = th.SPLIT_HERE.unchecked(
                f"the draws come from a {type(rng).__name__} that is not numpy's"
            )
        return held, how
    wanted = as_sequence(test_env, "test_env")
    known = {v: e for e, v in enumerate(table.labels)}
    for label in wanted:
        if label not in known:
            raise ValueError(f"test_env: there is no environment {label!r}, or it was left out")
        held[known[label]] = True
    if held.all() or not held.any():
        raise ValueError("test_env must leave environments to fit, and hold at least one out")
    torn = np.intersect1d(table.block[held], table.block[~held])
    if len(torn):
        e = int(np.argmax(held & np.isin(table.block, torn)))
        raise ValueError(
            f"test_env holds out {table.labels[e]!r} but not all environments of its block"
        )
    return held, th.SPLIT_HERE.check(False, "their labels were given")
