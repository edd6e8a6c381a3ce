"""Losses out of a table with a row for each episode, step, state and action, or out of a log of choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from whp.text import nearest, visible
from whp.validate import as_frame

__all__ = ["Log", "Tabled", "filled", "from_frame", "is_table"]

KEYS = ("episode", "step", "state", "action")
LOSSES = ("loss", "cost")
FLOAT = r"(0|[1-9][0-9]*)\.0"
SPARE = 20  # cells to a row: most states of a step may be out of reach


@dataclass(frozen=True, eq=False)
class Log:
    """One choice an episode, of one step.

    Parameters
    ----------
    states, actions : ndarray of int, shape (n,)
    losses : ndarray, shape (n,)
    """

    states: Int[np.ndarray, " n"]
    actions: Int[np.ndarray, " n"]
    losses: Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Tabled:
    """What a table of losses was turned into.

    Parameters
    ----------
    losses : ndarray, shape (K, H, X, A), or Log
        NaN where the table has no row.
    steps, states, actions : tuple of str
        Names in the order of the axes.
    text : bool
        Whether ids are text, so that their order is ours.
    """

    losses: np.ndarray | Log
    steps: tuple[str, ...]
    states: tuple[str, ...]
    actions: tuple[str, ...]
    text: bool


def is_table(value: Any) -> bool:
    """Whether rows have to be turned into an array."""
    return isinstance(as_frame(value), pd.DataFrame)


def from_frame(value: Any, shape: tuple[int, int, int] | None) -> Tabled:
    """A table (K, H, X, A), or a log of one choice an episode.

    Parameters
    ----------
    value : DataFrame
        Columns episode, loss (or cost), and step, state and action, each of which may be left out
        where there is only one.
    shape : (H, X, A), optional
        Of the model, whose states and actions are then meant.

    Raises
    ------
    ValueError
        If columns are missing, a loss is no number or missing, a cell stands there twice, or rows
        are neither a full table nor a log; episode and step are named.
    """
    frame = as_frame(value)
    frame = frame.set_axis([str(c) for c in frame.columns], axis=1)
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"losses has two columns {visible(repr(twice))}")
    known = [c for c in LOSSES if c in frame]
    if len(known) != 1 or "episode" not in frame:
        wanted = "episode" if "episode" not in frame else "loss"
        raise ValueError(
            f"losses needs one column {wanted!r}{nearest(wanted, frame.columns)}; it has "
            f"{', '.join(map(visible, frame.columns[:10]))}"
        )
    axes = {k: _ids(frame[k] if k in frame else pd.Series(np.zeros(len(frame))), k) for k in KEYS}
    at = {k: index for k, (_, index) in axes.items()}
    K, H, X, A = (len(axes[k][0]) for k in KEYS)
    choices = X * A if shape is None else shape[1] * shape[2]
    if H > 1 and len(frame) == K * H and choices > 1:
        raise ValueError(
            f"losses is a log of one path an episode, with {H} steps: what other actions would have "
            "led to is not in it, so that it cannot be replayed. Give the loss of every state and "
            "action, or let AdversarialPolicyOptimizer act and learn with update()"
        )
    if shape is not None:
        for k, size in zip(KEYS[1:], shape, strict=True):
            if k not in frame and size > 1:
                raise ValueError(
                    f"losses needs a column {k!r}{nearest(k, frame.columns)}: the model has {size} {k}s"
                )
        at |= {
            k: _of_model(axes[k][0], at[k], size, k)
            for k, size in zip(KEYS[1:], shape, strict=True)
            if k in frame
        }
        H, X, A = shape
    steps, states, actions = (
        _names(axes[k][0], n) for k, n in zip(KEYS[1:], (H, X, A), strict=True)
    )
    text = any(isinstance(axes[k][0][0], str) for k in KEYS[1:] if k in frame)
    numbers = _numbers(frame[known[0]], known[0], frame)
    keys = pd.DataFrame({k: at[k] for k in KEYS})
    twice = keys.duplicated()
    if twice.any():
        raise ValueError(f"losses has two rows for {_told(frame, int(np.argmax(twice)))}")
    if len(frame) == K and H == 1 and choices > 1:
        log = Log(at["state"], at["action"], numbers)  # in the order of its rows
        return Tabled(log, steps, states, actions, text)
    cells = K * H * X * A
    if cells > SPARE * len(frame) + 1000:
        raise ValueError(
            f"losses has {len(frame):,} rows for {K:,} episodes of {H} steps, {X:,} states and {A:,} "
            f"actions, {cells:,} in all: a replay needs a row for each that a policy can come to"
        )
    table = np.full((K, H, X, A), np.nan)
    table[tuple(at[k] for k in KEYS)] = numbers
    return Tabled(table, steps, states, actions, text)


def filled(table: np.ndarray, reached: np.ndarray, tabled: Tabled) -> np.ndarray:
    """The table with its least loss where no policy comes; a loss missing elsewhere is refused."""
    lacking = np.isnan(table) & reached[None, :, :, None]
    if lacking.any():
        k, h, x, a = (int(i) for i in np.argwhere(lacking)[0])
        raise ValueError(
            f"losses has no row for episode number {k + 1}, step number {h + 1}, state "
            f"{visible(repr(tabled.states[x]))}, action {visible(repr(tabled.actions[a]))}: a replay "
            "needs every one that a policy can come to"
        )
    return np.where(np.isnan(table), np.nanmin(table), table)


def _ids(column: pd.Series, name: str) -> tuple[list[Any], np.ndarray]:
    """Ids in order, and places: numbers by size; names sorted, those of episodes and steps as they come.

    What is not numbered follows in time as its rows do: "ep10" is not before "ep2".
    """
    if column.isna().any():
        row = int(np.argmax(column.isna().to_numpy()))
        raise ValueError(f"losses: column {name!r} has a missing value in row {row}")
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        values, places = np.unique(column.to_numpy(), return_inverse=True)
        whole = np.asarray(values, dtype=np.float64)
        if not np.isfinite(whole).all() or (whole != np.floor(whole)).any():
            raise ValueError(f"losses: column {name!r} must hold whole numbers or text")
        return [int(v) for v in values], places
    texts = column.astype(str)
    if texts.str.fullmatch(FLOAT).all():  # whole numbers as a column of floats is written
        texts = texts.str.replace(FLOAT, r"\1", regex=True)
    found = list(dict.fromkeys(texts))
    if name not in ("episode", "step") or all(s.isdecimal() for s in found):
        found.sort(key=lambda s: (0, int(s), s) if s.isdecimal() else (1, 0, s))
    places = pd.Index(found).get_indexer(texts)
    return ([int(s) for s in found] if _plain(found) else found), places


def _plain(texts: list[str]) -> bool:
    """Whether text is whole numbers as a computer writes them, without leading zeros."""
    return all(s.isdecimal() and str(int(s)) == s for s in texts)


def _of_model(ids: list[Any], places: np.ndarray, size: int, name: str) -> np.ndarray:
    """Places in an axis of the model."""
    if isinstance(ids[0], int):
        if name == "step" and ids[0] == 1 and ids[-1] == size:  # labels only
            return places
        if ids[0] < 0 or ids[-1] >= size:
            raise ValueError(
                f"losses: {name} {ids[-1] if ids[-1] >= size else ids[0]} is not in 0..{size - 1}, as "
                f"the model numbers them"
            )
        return np.asarray(ids)[places]
    if len(ids) != size:
        raise ValueError(
            f"losses has {len(ids)} names in column {name!r}, and the model {size}: each must be "
            f"named, so that their sorted order is the model's; {_listed(ids)}"
        )
    return places


def _names(ids: list[Any], size: int) -> tuple[str, ...]:
    return tuple(str(i) for i in (ids if len(ids) == size else range(size)))


def _numbers(column: pd.Series, name: str, frame: pd.DataFrame) -> np.ndarray:
    missing = column.isna().to_numpy() | (column.astype(str).str.strip() == "").to_numpy()
    if missing.any():
        row = int(np.argmax(missing))
        raise ValueError(
            f"{_told(frame, row)} has no loss: bandit updates need one for every step; drop the "
            "episode or pass the loss you would have charged"
        )
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"losses: column {name!r} must hold numbers, got {visible(str(column.iloc[row]))} in row {row}"
        )
    return numbers


def _told(frame: pd.DataFrame, row: int) -> str:
    return ", ".join(f"{k} {visible(str(frame[k].iloc[row]))}" for k in KEYS if k in frame)


def _listed(names: list[Any]) -> str:
    shown = ", ".join(visible(repr(n)) for n in names[:6])
    return shown + (", …" if len(names) > 6 else "")
