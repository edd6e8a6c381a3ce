"""Counts, transitions and rewards out of tables with a row for each state, action and next state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from whp.rl._starc.mdp import seen
from whp.text import nearest, visible
from whp.validate import as_frame

__all__ = ["Tabled", "from_tables", "is_table"]

KEYS = ("state", "action", "next_state")
NUMBERS = {
    "transitions": ("p", "probability", "prob"),
    "counts": ("n", "count", "counts", "visits"),
    "reward1": ("value", "reward", "reward1"),
    "reward2": ("value", "reward", "reward2"),
}


@dataclass(frozen=True, eq=False)
class Tabled:
    """Arrays that tables were turned into.

    Parameters
    ----------
    arrays : dict of str to ndarray
        By argument.
    states, actions : tuple of str
        Names in the order of the arrays' axes.
    text : bool
        Whether ids are text, so that their order is ours.
    """

    arrays: dict[str, np.ndarray]
    states: tuple[str, ...]
    actions: tuple[str, ...]
    text: bool


def is_table(value: Any) -> bool:
    """Whether rows have to be turned into an array."""
    return isinstance(as_frame(value), pd.DataFrame)


def from_tables(tables: dict[str, Any]) -> Tabled:
    """Arrays from tables, all of the same states and actions.

    Raises
    ------
    ValueError
        If columns are missing, a pair stands there twice, numbers of states do not run from 0, or a
        reward lacks a value where something was visited; argument, state and action are named.
    """
    frames = {name: _checked(as_frame(value), name) for name, value in tables.items()}
    model = next((n for n in ("counts", "transitions") if n in frames), None)
    if model is None:
        raise ValueError(
            f"{next(iter(frames))} is a table, and needs one of counts= or transitions= that says "
            "which states and actions there are"
        )
    shown = frames[model]
    states = _names([shown["state"], shown["next_state"]], f"{model}: state and next_state")
    actions = _names([shown["action"]], f"{model}: action")
    indexed = {n: _indexed(f, n, states, actions) for n, f in frames.items()}
    S, A = len(states), len(actions)
    arrays: dict[str, np.ndarray] = {}
    cells = indexed[model]
    arrays[model] = np.zeros((S, A, S))
    np.add.at(arrays[model], tuple(cells[k] for k in KEYS), cells["number"])
    visited = arrays[model].sum(-1)
    if model == "transitions" and (visited == 0).any():
        s, a = np.argwhere(visited == 0)[0]
        raise ValueError(
            f"transitions has no row for state {_shown(states[s])}, action {_shown(actions[a])}"
        )
    for name, cells in indexed.items():
        if name != model:
            made = _reward(cells, name, arrays[model], states, actions)
            # What was never visited stays missing; what cannot happen is nothing.
            kept = model == "counts" and name != "transitions"
            arrays[name] = made if kept else np.nan_to_num(made)
    text = isinstance(states[0], str) or isinstance(actions[0], str)
    return Tabled(arrays, tuple(map(str, states)), tuple(map(str, actions)), text)


def _checked(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Columns under their own names, the number in ``number``."""
    columns = [str(c) for c in frame.columns]
    frame = frame.set_axis(columns, axis=1)
    needed = KEYS if name in ("counts", "transitions") else ("state",)
    for key in needed:
        if key not in columns:
            raise ValueError(
                f"{name} has no column {key!r}{nearest(key, columns)}; it has "
                f"{', '.join(map(visible, columns[:10]))}"
            )
    known = [c for c in NUMBERS[name] if c in columns]
    if len(known) > 1:
        raise ValueError(f"{name} has both columns {known[0]!r} and {known[1]!r}: drop one")
    keys = [k for k in KEYS if k in columns]
    made = frame[keys].copy()
    for key in keys:
        if frame[key].isna().any():
            row = int(np.argmax(frame[key].isna().to_numpy()))
            raise ValueError(f"{name}: column {key!r} has a missing value in row {row}")
    if not known:
        if name != "counts":
            raise ValueError(f"{name} has no column {NUMBERS[name][0]!r} of numbers")
        made["number"] = 1.0  # a log: a visit a row
        return made
    numbers = pd.to_numeric(frame[known[0]], errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: column {known[0]!r} must hold numbers, got "
            f"{visible(str(frame[known[0]].iloc[row]))} in row {row}"
        )
    made["number"] = numbers
    twice = made.duplicated(keys)
    if twice.any():
        row = made[twice].iloc[0]
        told = ", ".join(f"{k} {visible(str(row[k]))!r}" for k in keys)
        raise ValueError(f"{name} has two rows for {told}")
    return made


def _names(columns: list[pd.Series], what: str) -> list[Any]:
    """The ids in order: whole numbers 0 to their number less 1, text sorted, by number if it holds them."""
    values = pd.unique(pd.concat(columns, ignore_index=True))
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        numbers = np.sort(np.asarray(values, dtype=np.float64))
        if not np.array_equal(numbers, np.arange(len(numbers))):
            raise ValueError(
                f"{what} hold {numbers[0]:g}..{numbers[-1]:g} but {len(numbers)} of them are "
                f"numbered 0..{len(numbers) - 1}: subtract {numbers[0]:g}, or pass text ids"
                if numbers[0]
                else f"{what} leave numbers out: {len(numbers)} of them up to {numbers[-1]:g}; "
                "number them without gaps, or pass text ids"
            )
        return [int(n) for n in numbers]
    texts = set(map(str, values))
    if all(text.isdecimal() for text in texts):
        return sorted(texts, key=lambda text: (int(text), text))
    return sorted(texts)


def _shown(name: Any) -> str:
    return visible(repr(name))


def _indexed(
    frame: pd.DataFrame, name: str, states: list[Any], actions: list[Any]
) -> dict[str, np.ndarray]:
    made = {"number": frame["number"].to_numpy()}
    for key in KEYS:
        if key in frame:
            known = actions if key == "action" else states
            column = frame[key] if isinstance(known[0], int) else frame[key].astype(str)
            at = pd.Index(known).get_indexer(column)
            if (at < 0).any():
                strange = visible(str(column.iloc[int(np.argmax(at < 0))]))
                raise ValueError(
                    f"{name}: {key} {strange!r} is in no row of the transitions"
                    f"{nearest(strange, map(str, known))}"
                )
            made[key] = at
    return made


def _reward(
    cells: dict[str, np.ndarray],
    name: str,
    visits: Float[np.ndarray, "S A S2"],
    states: list[Any],
    actions: list[Any],
) -> np.ndarray:
    """By the keys that are there; what may be missing is where nothing was visited."""
    keys = [k for k in KEYS if k in cells]
    if keys not in (["state"], ["state", "action"], list(KEYS)):
        raise ValueError(f"{name} must go by state, by state and action, or by all three")
    S, A, _ = visits.shape
    shape = (S, A, S)[: len(keys)]
    array = np.full(shape, np.nan)
    array[tuple(cells[k] for k in keys)] = cells["number"]
    needed = seen(visits, len(keys))
    lacking = np.isnan(array) & (needed > 0)
    if lacking.any():
        at = np.argwhere(lacking)[0]
        known = [actions if k == "action" else states for k in keys]
        told = ", ".join(
            f"{k.replace('_', ' ')} {_shown(n[i])}" for k, n, i in zip(keys, known, at, strict=True)
        )
        raise ValueError(f"{name} has no value at {told} (visited {needed[tuple(at)]:g} times)")
    return array
