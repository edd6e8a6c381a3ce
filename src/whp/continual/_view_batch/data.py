"""What the user hands in: images, classes and tasks, and what they are read as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.validate import as_array, as_labels

__all__ = ["Tasks", "as_images", "as_tasks", "two_rows_each"]

CHANNELS = (1, 3, 4)


@dataclass(frozen=True, eq=False)
class Tasks:
    """Images in [0, 1], classes and tasks by number.

    Parameters
    ----------
    images : ndarray of float32, shape (n, C, H, W) or (n, p)
    labels, tasks : ndarray of int, shape (n,)
    classes, order : sequence
        What each class and each task was called.
    notes : tuple of str
        What was read as something else than it was.
    """

    images: np.ndarray
    labels: np.ndarray
    tasks: np.ndarray
    classes: Sequence[Any]
    order: Sequence[Any]
    notes: tuple[str, ...]


def as_images(value: Any) -> tuple[np.ndarray, list[str]]:
    """Images as float32 in [0, 1], channels first; bytes are divided by 255."""
    notes = []
    given = as_array(value, "X")
    bytes_ = given.dtype == np.uint8
    with np.errstate(over="ignore"):  # what lies beyond float32 is named below
        images = given.astype(np.float32, copy=False)
    if images.ndim not in (2, 3, 4) or not images.size:
        raise ValueError(f"X must be (n, H, W), (n, C, H, W) or (n, p), got shape {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("X must be finite, got NaN or infinity")
    if bytes_:
        # what a byte means does not depend on the others, but of a mask nothing would be left to see
        mask = "; the largest is 1: give a mask as Booleans" if images.max() == 1 else ""
        images = images / np.float32(255)
        notes.append(f"bytes as shares of 255{mask}")
    if images.min() < 0 or images.max() > 1:
        advice = "; divide by 255" if images.min() >= 0 and images.max() <= 255 else ""
        raise ValueError(
            f"X must lie in [0, 1], got minimum {images.min():g}, maximum {images.max():g}{advice}"
        )
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in CHANNELS and images.shape[3] in CHANNELS:
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        notes.append("the last axis as channels")
    return images, notes


def _names(value: Any) -> np.ndarray | None:
    """Text, or None where the values are numbers."""
    if np.ma.isMaskedArray(value) and np.ma.getmaskarray(value).any():
        return None  # under a mask there may be text; it is refused as numbers are
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "UO" or not len(array):
        return None
    return array.astype(str) if all(isinstance(v, str) for v in array.tolist()) else None


def as_numbers(
    value: Any, argument: str, size: int, keep: bool
) -> tuple[np.ndarray, Sequence[Any]]:
    """Numbers from 0 without a gap, and the name of each; names come in the order of appearance, numbers in theirs."""
    names = _names(value)
    if names is not None:
        if len(names) != size:
            raise ValueError(f"{argument} must have {size} entries, one a row, got {len(names)}")
        empty = np.flatnonzero(np.char.strip(names) == "")
        if len(empty):  # a missing cell of a table, which is no class and no task
            raise ValueError(
                f"{argument} must have no empty text, got {len(empty)} of it, first in row "
                f"{empty[0]}; leave those rows out"
            )
        distinct, first, inverse = np.unique(names, return_index=True, return_inverse=True)
        order = np.argsort(first)
        return np.argsort(order)[inverse], tuple(distinct[order].tolist())
    numbers = as_labels(value, argument, size=size)
    if keep:
        return numbers, range(int(numbers.max()) + 1)
    distinct, inverse = np.unique(numbers, return_inverse=True)
    return inverse.astype(np.int64), tuple(distinct.tolist())


def _renamed(names: Sequence[Any]) -> bool:
    return not isinstance(names, range) and names != tuple(range(len(names)))


def _note(what: str, names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:6])) + (", …" if len(names) > 6 else "")
    return f"{what} {shown} as 0 to {len(names) - 1}"


def as_tasks(X: Any, y: Any, task: Any, *, own_model: bool) -> Tasks:
    """All three, checked against each other.

    Parameters
    ----------
    own_model : bool
        Whether the user's model gives the logits: then class numbers mean its outputs, and stay.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    images, notes = as_images(X)
    labels, classes = as_numbers(y, "y", len(images), own_model)
    tasks, order = as_numbers(task, "task", len(images), False)
    if _renamed(classes):
        notes.append(_note("classes", classes))
    if _renamed(order):
        notes.append(_note("tasks", order))
    return Tasks(images, labels, tasks, classes, order, tuple(notes))


def two_rows_each(data: Tasks) -> None:
    """Refuse a class of a task that has one row, which cannot be trained on and tested."""
    pairs, rows = np.unique(np.stack([data.tasks, data.labels]), axis=1, return_counts=True)
    if (rows < 2).any():
        k, c = pairs[:, int(rows.argmin())]
        raise ValueError(
            f"y must have two rows of each class of a task, class {data.classes[c]} of task "
            f"{data.order[k]} has 1"
        )
