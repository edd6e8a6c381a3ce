"""The metrics of continual evaluation, on arrays of accuracies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.ndimage import maximum_filter1d

__all__ = ["Curves", "metrics", "windowed"]


@dataclass(frozen=True, eq=False)
class Curves:
    """Accuracies of K tasks at T evaluations.

    Parameters
    ----------
    accuracy : ndarray, shape (K, T)
        Row i is task i; NaN before its first evaluation.
    times : ndarray, shape (T,)
        Updates done at each evaluation, increasing.
    ends : ndarray, shape (K,)
        Index of the evaluation at which each task ended.
    """

    accuracy: np.ndarray
    times: np.ndarray
    ends: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Index of each task's first evaluation."""
        return np.r_[0, self.ends[:-1] + 1]

    @property
    def task(self) -> np.ndarray:
        """The task that is being learnt at each evaluation."""
        return np.searchsorted(self.ends, np.arange(len(self.times)))

    def old(self) -> list[tuple[int, slice]]:
        """Each task but the last, with the evaluations after its end, which is not among them."""
        return [(i, slice(int(e) + 1, len(self.times))) for i, e in enumerate(self.ends[:-1])]


def windowed(
    a: Float[np.ndarray, " T"], window: int, other: Float[np.ndarray, " T"] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Largest fall and largest rise so far between two of `window` consecutive values, both (T,).

    They are 0 where there is none. With `other`, from a value of `a` to a later one of `other` for
    falls, and from `other` to `a` for rises: the upper limits, if `a` are upper limits and `other`
    lower ones.
    """
    other = a if other is None else other
    return _falls(a, other, window), _falls(-other, -a, window)


def _falls(x: np.ndarray, y: np.ndarray, window: int) -> np.ndarray:
    """Largest so far of x(s) − y(t), s before t by less than `window`, and 0."""
    before = np.full(len(x), -np.inf)
    width = min(window, len(x)) - 1
    if width:
        # The filter's origin makes its window end at the value itself, which the shift leaves out.
        before[1:] = maximum_filter1d(
            x, width, mode="constant", cval=-np.inf, origin=(width - 1) // 2
        )[:-1]
    return np.maximum.accumulate(np.maximum(before - y, 0))


@dataclass(frozen=True, eq=False)
class Metrics:
    """What :func:`metrics` finds; curves have one value an evaluation."""

    acc: float
    forg: float
    min_acc: float
    min_acc_task: np.ndarray
    wc_acc: float
    acc_curve: np.ndarray
    wc_curve: np.ndarray
    wf: dict[int, float]
    wp: dict[int, float]
    wf_task: dict[int, np.ndarray]
    wp_task: dict[int, np.ndarray]
    gaps: pd.DataFrame


def metrics(curves: Curves, windows: tuple[int, ...] = (10, 100)) -> Metrics:
    """All metrics at the last evaluation, and the curves of ACC and WC-ACC.

    De Lange et al. 2023, Section 3: min-ACC is the mean over old tasks of their least accuracy since
    they ended, the value at the end not counted; WC-ACC = A_k/k + (1 − 1/k) min-ACC; WF and WP are
    means over tasks of the largest fall and rise between two of Δ consecutive evaluations.
    """
    A, ends, task = curves.accuracy, curves.ends, curves.task
    K, T = A.shape
    k = task + 1
    acc_curve = np.nansum(A, axis=0) / k
    lowest = np.zeros(T)
    for i, later in curves.old():
        lowest[later] += np.minimum.accumulate(A[i, later])
    current = A[task, np.arange(T)]
    wc_curve = (current + lowest) / k
    least = np.array([A[i, later].min() for i, later in curves.old()])
    final = A[:, -1]
    fallen, risen = {}, {}
    for window in windows:
        both = [windowed(A[i, s:], window) for i, s in enumerate(curves.starts)]
        fallen[window] = np.array([f[-1] for f, _ in both])
        risen[window] = np.array([r[-1] for _, r in both])
    return Metrics(
        acc=float(final.mean()),
        forg=float(np.mean(A[np.arange(K - 1), ends[:-1]] - final[:-1])) if K > 1 else 0.0,
        min_acc=float(least.mean()) if K > 1 else float("nan"),
        min_acc_task=least,
        wc_acc=float(wc_curve[-1]),
        acc_curve=acc_curve,
        wc_curve=wc_curve,
        wf={w: float(v.mean()) for w, v in fallen.items()},
        wp={w: float(v.mean()) for w, v in risen.items()},
        wf_task=fallen,
        wp_task=risen,
        gaps=_gaps(curves),
    )


def _gaps(curves: Curves) -> pd.DataFrame:
    """For each old and each later task: before, minimum, after, and where the minimum was."""
    A, rows = curves.accuracy, []
    for i in range(len(A)):
        for k in range(i + 1, len(A)):
            inside = slice(int(curves.ends[k - 1]) + 1, int(curves.ends[k]) + 1)
            at = inside.start + int(A[i, inside].argmin())
            before, least, after = A[i, curves.ends[k - 1]], A[i, at], A[i, curves.ends[k]]
            rows.append(
                (
                    i,
                    k,
                    before,
                    least,
                    int(curves.times[at]),
                    after,
                    before - least,
                    after - least,
                    at,
                )
            )
    columns = [
        "old_task",
        "new_task",
        "before",
        "minimum",
        "iteration",
        "after",
        "drop",
        "recovery",
        "at",
    ]
    return pd.DataFrame(rows, columns=columns)
