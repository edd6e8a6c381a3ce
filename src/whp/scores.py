"""Scores and labels of classifiers as users have them, read without guessing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from whp.io import class_columns
from whp.validate import as_floats, as_labels, as_matrix, as_sequence, column_names

__all__ = ["as_classes", "as_logits", "as_probabilities", "as_units", "check_columns", "in_order"]

EXACT, ROUNDED = 1e-6, 0.05  # how far sums of probabilities may be from 1, silently and said
LEAST = 1e-300
SPELT = {"0": "False", "1": "True", "False": "0", "True": "1"}
BEFORE = "(?i:p|prob|proba|probability|logit|logits|score|class)_?"
SCORES = re.compile(BEFORE + r"(\d|(?<=_).)")


def as_probabilities(value: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (n, C) in float64 and class numbers (n,), of which nothing has to be guessed.

    Raises
    ------
    ValueError
        If there is one column, or an entry outside [0, 1].
    """
    probs = as_matrix(value, "probs", dtype=np.float64)
    if probs.shape[1] < 2:
        raise ValueError(f"probs must have at least 2 columns, got {probs.shape[1]}")
    outside = (probs < -EXACT) | (probs > 1 + EXACT)
    if outside.any():
        raise ValueError(
            f"probs must hold probabilities in [0, 1], which row {_first(outside)} does not"
        )
    return np.maximum(probs, 0.0), as_labels(y, "y", size=len(probs), classes=probs.shape[1])


def as_logits(value: Any, argument: str, from_probs: bool | None) -> tuple[np.ndarray, bool]:
    """Logits (n, C) in float64, -infinity where a class is impossible, and whether they were probabilities.

    Raises
    ------
    TypeError, ValueError
        If the scores are no numbers, or could be probabilities as well as logits.
    """
    array = np.array(as_floats(value, argument), dtype=np.float64, order="C")
    if array.ndim == 1 and array.size:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(
            f"{argument} must have one row a sample and one column a class, got shape {array.shape}"
        )
    if np.isnan(array).any() or (array == np.inf).any():
        raise ValueError(
            f"{argument} must not hold NaN or +infinity, first in row {_first(~(array < np.inf))}"
        )
    single = array.shape[1] == 1
    outside = (array < -EXACT) | (array > 1 + EXACT)
    off = np.zeros(1) if single else np.abs(array.sum(axis=1) - 1)
    if from_probs is None:
        from_probs = not outside.any() and not single and off.max() <= ROUNDED
        if not from_probs and not outside.any():
            _refuse_unclear(argument, array, off)
        percent = (array.max() > 1) if single else (np.abs(array.sum(axis=1) - 100) <= 5).all()
        if array.min() >= 0 and array.max() <= 105 and percent:
            raise ValueError(
                f"{argument} looks like percentages: divide by 100 if they are, or say "
                "from_probs=False if these are scores"
            )
    if from_probs:
        if outside.any():
            raise ValueError(
                f"{argument} must hold probabilities in [0, 1], which row {_first(outside)} does not"
            )
        if off.max() > ROUNDED:
            row = int(off.argmax())
            raise ValueError(
                f"{argument} must have rows that sum to 1, row {row} sums to {array[row].sum():g}"
            )
        if off.max() > EXACT:
            warnings.warn(
                f"rows of {argument} sum to 1 within {off.max():.2g} only, as rounded probabilities "
                "do; each row is divided by its sum",
                stacklevel=3,
            )
        array = np.maximum(array, 0.0)  # 1 - a - b may be -1e-17
        array = np.column_stack([np.maximum(1 - array, 0.0), array]) if single else array
        array = array / array.sum(axis=1, keepdims=True)
        return np.log(np.clip(array, LEAST, 1.0)), True
    if single:
        array = np.column_stack([np.zeros(len(array)), array[:, 0]])
    absent = np.isneginf(array)
    if absent.all(axis=1).any():
        row = _first(absent.all(axis=1))
        raise ValueError(f"{argument} must have a finite entry in every row; row {row} has none")
    return array, False


def _refuse_unclear(argument: str, array: np.ndarray, off: np.ndarray) -> None:
    """Scores that lie in [0, 1] and are not plainly probabilities."""
    if array.shape[1] == 1:
        raise ValueError(
            f"{argument} lies in [0, 1]: say from_probs=True (the probability of the second class) "
            "or from_probs=False (a margin)"
        )
    row = int(off.argmax())
    raise ValueError(
        f"{argument} lies in [0, 1], but row {row} sums to {array[row].sum():g}: say "
        "from_probs=False if these are scores, or divide each row by its sum if they are probabilities"
    )


def _first(flags: Any) -> int:
    return int(np.argwhere(flags)[0][0])


def _unmasked(value: Any, argument: str) -> np.ndarray:
    if np.ma.is_masked(value):
        raise ValueError(f"{argument} must have no masked entries; drop their rows")
    return np.asarray(value)


def _text(value: Any) -> str:
    """A label as text: 1, 1.0 and "1" are one class."""
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    try:
        return str(int(value)) if float(value) == int(value) else str(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)


def as_classes(
    value: Any,
    argument: str,
    size: int,
    scores: Any,
    classes: Sequence[Any] | None,
    columns: int,
    beside: Any = (),
) -> np.ndarray:
    """Column number of each row's class.

    Numbers 0 to C - 1 are columns unless `classes` or the columns' names say otherwise; names are
    bound by `classes` or by the columns' names, never by the alphabet. What labels of other rows
    (`beside`) are about counts too, so that both are read alike.
    """
    array = _unmasked(value, argument)
    if array.ndim != 1 or len(array) != size or array.dtype.kind not in "OUSbiuf":
        return as_labels(value, argument, size=size, classes=columns)
    codes, kinds = pd.factorize(array)
    if (codes < 0).any():
        raise ValueError(f"{argument} must hold a class in every row, and lacks one")
    told = [_text(v) for v in kinds.tolist()]
    others = pd.factorize(np.asarray(beside).ravel())[1].tolist()
    present = sorted({*told, *map(_text, others)})
    names = column_names(scores)
    if names is not None and columns == 2 and len(names) == 1:
        _refuse_first(names[0], argument, present, classes)
    numbers = array.dtype.kind in "biuf" or all(t.lstrip("-").isdigit() for t in present)
    if classes is not None:
        known = [_text(c) for c in as_sequence(classes, "classes")]
        if len(known) != columns or len(set(known)) != columns:
            raise ValueError(
                f"classes must name each of the {columns} columns once, got {len(known)}"
            )
        if unknown := [t for t in present if t not in known]:
            raise ValueError(f"{argument} holds {unknown[0]!r}, which classes do not name")
        place = {name: i for i, name in enumerate(known)}
    else:
        try:
            if names is None or len(names) != columns:
                raise ValueError("columns have no names")
            place = dict(zip(present, _columns_of(names, present), strict=True))
        except ValueError as error:
            if numbers and set(present) <= {str(c) for c in range(columns)}:
                return np.array([int(t) for t in told], dtype=np.int64)[codes]
            if columns == 2 and all(isinstance(v, bool) for v in array.tolist()):
                return array.astype(np.int64)
            if numbers:
                detail = f"numbers other than 0 to {columns - 1} ({_few(present)})"
            else:
                detail = ", ".join(map(repr, present[:4])) + (", …" if len(present) > 4 else "")
            shown = "have no such names" if names is None else f"are {_few(names)}"
            raise ValueError(
                f"{argument} holds {detail}, but the columns {shown}: pass classes=, the classes "
                "in the columns' order (alphabetical order is not assumed)"
            ) from error
    return np.array([place[t] for t in told], dtype=np.int64)[codes]


def _columns_of(names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Which column belongs to which class; True and False are also those of 1 and 0."""
    try:
        return class_columns(names, classes)
    except ValueError:
        if not classes or set(classes) - set(SPELT):
            raise
        return class_columns(names, [SPELT[c] for c in classes])


def _refuse_first(
    name: str, argument: str, present: Sequence[str], classes: Sequence[Any] | None
) -> None:
    """The one column of two classes is the score of the second, which its name may deny."""
    if classes is not None:
        first = {_text(c) for c in as_sequence(classes, "classes")[:1]}
    else:
        first = {"0", "False"} if set(present) <= set(SPELT) else set()
    # A bare 0 is what pandas calls a column without a name.
    wanted = [f"({BEFORE}){'' if c.isdigit() else '?'}{re.escape(c)}" for c in first]
    if any(re.fullmatch(pattern, name) for pattern in wanted):
        raise ValueError(
            f"the one column, {name}, bears the name of the first of two classes of {argument}, and "
            "one column is the score of the second: name that class last in classes=, or give both "
            "columns"
        )


def check_columns(scores: Any, argument: str, array: np.ndarray, were_probs: bool) -> None:
    """Refuse what a table holds beside the scores: an id, a time, a predicted class.

    Raises
    ------
    ValueError
        If some columns are named as scores are (p_a, logit_b) and others not, or some hold whole
        numbers only and others fractions.
    """
    names = column_names(scores)
    odd = np.zeros(array.shape[1], dtype=bool)
    if names is not None and len(names) == len(odd):
        alike = [bool(SCORES.match(name)) for name in names]
        odd = ~np.array(alike) & (sum(alike) >= 2)
    elif names is None:
        names = tuple(f"column {c}" for c in range(len(odd)))
    if not odd.any() and not were_probs and len(array) >= 10:
        known = np.isfinite(array)
        low = np.where(known, array, np.inf).min(axis=0)
        high = np.where(known, array, -np.inf).max(axis=0)
        whole = (~known | (array == np.round(array))).all(axis=0)
        varied = whole & (known.sum(axis=0) >= 10) & (low < high)
        odd = varied & ~whole.all()
    if odd.any():
        shown = [name for name, o in zip(names, odd, strict=False) if o]
        raise ValueError(
            f"{argument} must hold scores only, a column a class; {_few(shown)} is unlike the others "
            f"of {_few(names)}: leave it out (an id goes to ids=)"
        )


def in_order(value: Any, argument: str, first: Any, named: str) -> Any:
    """A table with its columns in the order of the first one's, if both have names.

    Raises
    ------
    ValueError
        If the names differ, or number the columns in another order than their own where the first
        has none.
    """
    mine, theirs = column_names(value), column_names(first)
    if mine is not None and theirs is None:
        try:
            places = class_columns(mine, range(len(mine)))
        except ValueError:
            return value  # names of no numbers
        if places != sorted(places):
            raise ValueError(
                f"{argument} has columns {_few(mine)}, and {named} has no names to put them in order "
                "by: give both with names, or both without"
            )
    if mine is None or theirs is None or mine == theirs:
        return value
    if sorted(mine) != sorted(theirs) or len(set(mine)) < len(mine):
        if len(mine) != len(theirs):
            return value  # refused by their number
        raise ValueError(
            f"{argument} must have the columns of {named}, {_few(theirs)}; got {_few(mine)}"
        )
    return np.asarray(as_floats(value, argument))[:, [mine.index(name) for name in theirs]]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def as_units(value: Any, argument: str, size: int) -> np.ndarray:
    """Ids or groups of rows as text that can be compared: 1, 1.0 and "1" are one.

    Raises
    ------
    ValueError
        If there is not one a row.
    """
    array = _unmasked(value, argument)
    if array.ndim != 1 or len(array) != size:
        raise ValueError(f"{argument} must have {size} entries, one a row, got shape {array.shape}")
    codes, kinds = pd.factorize(array)
    if (codes < 0).any():
        raise ValueError(f"{argument} must name every row; row {_first(codes < 0)} has none")
    return np.array([_text(kind) for kind in kinds])[codes]
