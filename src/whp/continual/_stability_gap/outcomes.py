"""Which rows were right at which evaluation, eight to a byte."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whp.certificate import Answer

__all__ = ["Outcomes", "Recording"]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Rows right or wrong, for each task from its first evaluation on.

    Parameters
    ----------
    packed : tuple of ndarray, uint8, shape (T_i, ⌈n_i/8⌉)
        Bits as :func:`numpy.packbits` lays them.
    n : tuple of int
        Rows of each task.
    """

    packed: tuple[np.ndarray, ...]
    n: tuple[int, ...]

    @classmethod
    def of(cls, correct: Any) -> Outcomes:
        """From Boolean arrays (T_i, n_i), one a task."""
        packed, n = [], []
        for i, rows in enumerate(correct):
            array = np.asarray(rows)
            if array.ndim != 2 or array.dtype != bool or not array.size:
                raise ValueError(
                    f"correct[{i}] must be a Boolean array (evaluations, rows), got {array.dtype} of shape {array.shape}"
                )
            packed.append(np.packbits(array, axis=1))
            n.append(array.shape[1])
        return cls(tuple(packed), tuple(n))

    def accuracy(self, task: int) -> np.ndarray:
        """Share of right rows at each evaluation of a task."""
        return np.bitwise_count(self.packed[task]).sum(axis=1, dtype=np.int64) / self.n[task]

    def lost(self, task: int, s: Any, t: Any) -> np.ndarray:
        """Rows that were right at evaluation s and wrong at t, of which either may be many.

        Evaluations are counted from the task's first one.
        """
        before, after = self.packed[task][s], self.packed[task][t]
        return np.bitwise_count(before & ~after).sum(axis=-1, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Recording:
    """What a recorder saw; what it says of itself counts only where this process made it.

    Attributes
    ----------
    packed : tuple of ndarray
        Outcomes as in :class:`Outcomes`.
    n, n_total : tuple of int
        Rows of each task that were looked at, and all of them.
    ends : tuple of int
        Updates done when each task ended.
    every : int
        Updates between evaluations.
    full : tuple of (int, int, float)
        Task, number of the evaluation and accuracy on the whole set, where that was looked at.
    answers : tuple of Answer
        What is known of the conditions of certificates.
    """

    packed: tuple[np.ndarray, ...] = field(repr=False)
    n: tuple[int, ...]
    n_total: tuple[int, ...]
    ends: tuple[int, ...]
    every: int
    full: tuple[tuple[int, int, float], ...] = ()
    answers: tuple[Answer, ...] = ()

    @property
    def outcomes(self) -> Outcomes:
        """Rows right or wrong."""
        return Outcomes(self.packed, self.n)
