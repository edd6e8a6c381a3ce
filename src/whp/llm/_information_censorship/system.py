"""What is asked and what must stay hidden: worlds, their answers, and the responses in each of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from whp.io.tables import listed, unknown
from whp.text import nearest
from whp.validate import as_array, as_frame

__all__ = ["System", "named", "read_system"]

OFF = 1e-6  # how far rows of float32 probabilities may be from 1


@dataclass(frozen=True, eq=False)
class System:
    """Worlds with their probability, the impermissible answer in each, and P(response | world) of every question.

    Attributes
    ----------
    prior : ndarray, shape (W,)
        Positive, sums to 1.
    answer : ndarray of int, shape (W,)
        Number of the impermissible answer in each world.
    names : tuple of str
        The answers that occur, m of them, those of worlds without probability too.
    channels : tuple of ndarray
        A question each: whole numbers of shape (W,) where every world has one response, else row-stochastic of shape (W, Y).
    sizes : tuple of int
        Responses of each question.
    questions : tuple of str
        Their names.
    responses : tuple of tuple of str
        Names of the responses of each.
    rows : ndarray of int, shape (W,)
        Numbers of the worlds in the table that they came from.
    height : int
        Rows of the table, those without probability too.
    notes : tuple of str
        What was done to the input.
    """

    prior: np.ndarray
    answer: np.ndarray
    names: tuple[str, ...]
    channels: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]
    questions: tuple[str, ...]
    responses: tuple[tuple[str, ...], ...]
    rows: np.ndarray
    height: int
    notes: tuple[str, ...] = ()

    @property
    def probabilities(self) -> np.ndarray:
        """P(a), shape (m,)."""
        return np.bincount(self.answer, self.prior, len(self.names))

    @property
    def deterministic(self) -> bool:
        """Whether every world has one response to each question."""
        return all(c.ndim == 1 for c in self.channels)

    def only(self, which: Sequence[int]) -> System:
        """The same worlds with some of the questions."""
        return replace(
            self,
            channels=tuple(self.channels[j] for j in which),
            sizes=tuple(self.sizes[j] for j in which),
            questions=tuple(self.questions[j] for j in which),
            responses=tuple(self.responses[j] for j in which),
        )

    def dense(self, j: int) -> np.ndarray:
        """P(response | world) of question j, shape (W, Y_j)."""
        channel = self.channels[j]
        return np.eye(self.sizes[j])[channel] if channel.ndim == 1 else channel

    def merged(self) -> System:
        """Worlds of the same answer and the same responses as one; exact, since they are told apart by nothing."""
        if not self.deterministic:
            return self
        rows = np.column_stack([self.answer, *self.channels])
        kinds, first, place = np.unique(rows, axis=0, return_index=True, return_inverse=True)
        return replace(
            self,
            prior=np.bincount(place.ravel(), self.prior, len(kinds)),
            answer=kinds[:, 0],
            channels=tuple(kinds[:, 1:].T),
            rows=self.rows[first],
        )

    def believed(self, prior: np.ndarray) -> System:
        """The same with another prior over its worlds."""
        there = prior > 0
        return replace(
            self,
            prior=prior[there] / prior[there].sum(),
            answer=self.answer[there],
            channels=tuple(c[there] for c in self.channels),
            rows=self.rows[there],
        )


def read_system(
    table: Any, target: Any = "target", prior: Any = None, ask: str | Sequence[Any] | None = None
) -> System:
    """The system that a table, a list of channels or an archive of arrays describes.

    Parameters
    ----------
    table : DataFrame, array_like of shape (W, J), list or mapping of array_like
        Rows are worlds. In a table every distinct value, a missing one too, is a response; in a list or mapping each array is
        P(response | world), shape (W, Y_j), or one response a world, shape (W,).
    target : str or array_like, shape (W,)
        The impermissible answer in each world, or the column that holds it.
    prior : str or array_like, shape (W,), optional
        Weights of the worlds, or their column; all alike by default.
    ask : str or sequence of str, optional
        The questions; by default all columns but those of target and prior.

    Raises
    ------
    ValueError
        If something is missing or is no probability; the message names argument, row and column.
    """
    notes: list[str] = []
    table = as_frame(table)
    columns, taken = _columns(table, target, prior)
    worlds = len(next(iter(columns.values())))
    answers = _column(columns, target, "target", worlds)
    codes, names = _codes(answers)
    if np.any(_missing(answers)):
        row = int(np.flatnonzero(_missing(answers))[0])
        raise ValueError(f"target must be known in every world, row {row} has none")
    weight = _prior(
        _column(columns, prior, "prior", worlds) if prior is not None else None, worlds, notes
    )
    free = [q for q in columns if q not in taken]
    asked = (
        free
        if ask is None
        else listed([ask] if isinstance(ask, str) else list(map(str, ask)), list(columns))
    )
    for question in asked:
        if question not in columns:
            raise ValueError(f"ask: {unknown(question, list(columns))}")
    if not asked:
        raise ValueError("ask must name at least one question: no column is left")
    if twice := [q for q in asked if asked.count(q) > 1]:
        raise ValueError(f"ask must name each question once, got {twice[0]!r} twice")
    channels, sizes, responses = [], [], []
    for question in asked:
        channel, said = _channel(columns[question], question, worlds, notes)
        channels.append(channel)
        sizes.append(len(said))
        responses.append(said)
    there = weight > 0
    if not there.all():
        notes.append(f"{int((~there).sum()):,} worlds without probability left out")
    return System(
        weight[there],
        codes[there],
        names,
        tuple(c[there] for c in channels),
        tuple(sizes),
        tuple(asked),
        tuple(responses),
        np.flatnonzero(there),
        worlds,
        tuple(notes),
    )


def named(impermissible: Any, names: Sequence[str]) -> np.ndarray:
    """Which answers must not become inferable, as a mask of shape (m,).

    Raises
    ------
    ValueError
        If one is no answer, or there is none.
    """
    if isinstance(impermissible, str) and impermissible == "all":
        return np.ones(len(names), bool)
    given = [impermissible] if np.isscalar(impermissible) else list(impermissible)
    wanted = listed([_text(g) for g in given], list(names))
    if not wanted:
        raise ValueError("impermissible must name at least one answer, got none")
    for name in wanted:
        if name not in names:
            shown = ", ".join(map(repr, names[:8])) + (", …" if len(names) > 8 else "")
            raise ValueError(
                f"impermissible has {name!r}, but target has {shown}{nearest(name, names)}"
            )
    # "yes" hides little where "Yes" and "yes " are told.
    for other in set(names) - set(wanted):
        alike = [n for n in wanted if _folded(n) == _folded(other)]
        if alike:
            raise ValueError(
                f"impermissible has {alike[0]!r}, but target also spells it {other!r}: name both, or spell them alike"
            )
    return np.isin(np.asarray(names), wanted)


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())


def _columns(table: Any, target: Any, prior: Any) -> tuple[dict[str, Any], set[str]]:
    """Columns by name, and those that are no questions unless asked."""
    if hasattr(table, "columns") and hasattr(table, "iloc"):
        names = [str(c) for c in table.columns]
        if len(set(names)) < len(names):
            raise ValueError("table must have a name of its own for every column")
        columns: dict[str, Any] = {n: table.iloc[:, j].to_numpy() for j, n in enumerate(names)}
    elif isinstance(table, Mapping):
        columns = {str(n): np.asarray(v) for n, v in table.items()}
    elif isinstance(table, list | tuple) and any(np.ndim(c) == 2 for c in table):
        columns = {str(j): as_array(c, f"channels[{j}]") for j, c in enumerate(table)}
    else:
        array = np.asarray(table, dtype=object if isinstance(table, list) else None)
        if array.ndim != 2:
            raise ValueError(
                f"table must have two dimensions, a world a row, got shape {array.shape}"
            )
        if (
            array.dtype.kind == "f"
            and (array % 1 != 0).any()
            and (array >= 0).all()
            and np.abs(array.sum(axis=1) - 1).max() <= OFF
        ):
            raise ValueError(
                "table has rows of probabilities: put P(response | world) of one question into a list"
            )
        columns = {str(j): array[:, j] for j in range(array.shape[1])}
    if not columns:
        raise ValueError("table must have at least one column")
    lengths = {n: len(c) for n, c in columns.items()}
    first = next(iter(lengths))
    for name, length in lengths.items():
        if length != lengths[first] or not length:
            raise ValueError(
                f"all columns must have a row a world: {first!r} has {lengths[first]}, {name!r} has {length}"
            )
    return columns, {c for c in (target, prior) if isinstance(c, str)}


def _column(columns: Mapping[str, Any], given: Any, argument: str, worlds: int) -> np.ndarray:
    if isinstance(given, str):
        if given not in columns:
            raise ValueError(f"{argument}: {unknown(given, list(columns))}")
        return np.asarray(columns[given])
    values = np.asarray(as_frame(given))
    if values.ndim != 1 or len(values) != worlds:
        raise ValueError(
            f"{argument} must have one entry a world ({worlds}), got shape {values.shape}"
        )
    return values


def _prior(given: Any, worlds: int, notes: list[str]) -> np.ndarray:
    if given is None:
        return np.full(worlds, 1 / worlds)
    try:
        weight = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        bad = next(i for i, v in enumerate(given) if not _number(v))
        raise ValueError(f"prior must be numbers, row {bad} has {given[bad]!r}") from None
    off = ~np.isfinite(weight) | (weight < 0)
    if off.any():
        row = int(np.flatnonzero(off)[0])
        raise ValueError(f"prior must be finite and at least 0, row {row} has {weight[row]}")
    largest = float(weight.max())
    if largest == 0:
        raise ValueError("prior must be above 0 in some world")
    total = float((weight / largest).sum())
    if abs(total * largest - 1) > OFF:
        notes.append(f"prior divided by its sum, {total * largest:.6g}")
    return weight / largest / total


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _channel(
    values: Any, question: str, worlds: int, notes: list[str]
) -> tuple[np.ndarray, tuple[str, ...]]:
    array = np.asarray(values)
    if array.ndim == 1:
        return _codes(array)
    if array.ndim != 2 or not array.shape[1]:
        raise ValueError(f"channels[{question}] must have shape (W, Y), got {array.shape}")
    rows = np.asarray(as_array(array, f"channels[{question}]"), dtype=np.float64)
    off = ~np.isfinite(rows) | (rows < 0)
    if off.any():
        row, column = map(int, np.argwhere(off)[0])
        raise ValueError(
            f"channels[{question}] row {row} column {column} is {rows[row, column]}: probabilities are finite and at least 0"
        )
    sums = rows.sum(axis=1)
    wrong = np.abs(sums - 1) > OFF
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"channels[{question}] row {row} sums to {sums[row]:.6g}: every row must be the probabilities of all responses "
            "in that world"
        )
    if np.abs(sums - 1).max() > 1e-12:
        notes.append(
            f"rows of {question!r} divided by their sums, off by up to {np.abs(sums - 1).max():.1g}"
        )
    return rows / sums[:, None], tuple(map(str, range(rows.shape[1])))


def _codes(values: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers of the distinct values, sorted by name, the missing one last, and their names."""
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        kinds, codes = np.unique(array, return_inverse=True)
        return codes.ravel(), tuple(_text(k) for k in kinds)
    lost = _missing(array)
    texts = np.array([_text(v) for v in array], dtype=object)
    kinds = sorted(set(texts[~lost]))
    at = {k: i for i, k in enumerate(kinds)}
    codes = np.array(
        [len(kinds) if m else at[t] for t, m in zip(texts, lost, strict=True)], dtype=np.int64
    )
    return codes, (*kinds, *(["(missing)"] if lost.any() else []))


def _missing(values: np.ndarray) -> np.ndarray:
    return np.asarray(pd.isna(values)) | np.array(
        [isinstance(v, str) and v == "" for v in values], dtype=bool
    )


def _text(value: Any) -> str:
    """A response as text: 1 and 1.0 are one."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def looks_like_a_sample(system: System) -> None:
    """Warn where more than half of the rows answer as no other does: hardly a list of all worlds."""
    if not system.deterministic or len(system.prior) < 20:
        return
    tuples = np.column_stack(system.channels)
    alone = np.unique(tuples, axis=0, return_counts=True)[1] == 1
    if alone.sum() > len(system.prior) / 2:
        warnings.warn(
            f"{int(alone.sum())} of {len(system.prior)} rows answer as no other does: this looks like a sample, not like all "
            "worlds; rows='sample' says so, and weights say how many people a row stands for",
            stacklevel=3,
        )
