"""Accuracies of tasks over updates out of arrays and logs, and when they were taken."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from whp.continual._stability_gap.metrics import Curves
from whp.continual._stability_gap.outcomes import Outcomes
from whp.text import nearest
from whp.validate import as_floats

__all__ = ["Log", "complete", "from_array", "from_outcomes", "from_table"]


ROW, CORRECT = "row", "correct"
NO_ACCURACY = {"loss", "error", "errors", "err", "nll", "perplexity"}
NO_TASK = NO_ACCURACY | {"forgetting", "bwt", "fwt", "mean", "average", "avg", "lr", "min", "max"}
TRUTHS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class Log:
    """What was read.

    Attributes
    ----------
    curves : Curves
        Accuracies and times.
    ends : ndarray of int
        Updates done when each task ended.
    names : tuple of str
        The tasks, in the order in which they were learnt.
    gap : tuple of int or None
        The first two neighbouring evaluations between which updates went unseen.
    claimed : bool
        Whether somebody says that nothing went unseen where the log shows that something did.
    n : list of int or None
        Rows of each task, where the log has them.
    outcomes : Outcomes or None
        Which rows were right, where the log has a line for each.
    """

    outcomes: Outcomes | None = None

    def __init__(
        self,
        accuracy: np.ndarray,
        times: np.ndarray,
        ends: np.ndarray,
        names: Sequence[str],
        every: int | None,
        n: list[int] | None = None,
    ) -> None:
        self.curves = Curves(accuracy, times, np.searchsorted(times, ends))
        self.ends, self.names, self.n = ends, tuple(names), n
        before = np.r_[0, times[:-1]]
        missing = np.flatnonzero(times - before > 1)
        old = missing[times[missing] > ends[0]]  # where there is an old task that could fall
        self.gap = None
        for first in (*old[:1], *missing[:1]):
            self.gap = int(before[first]), int(times[first])
            break
        wanted = grid(ends, every) if every is not None else times
        self.claimed = not bool(np.isin(wanted, times).all())


def _range(A: np.ndarray, argument: str) -> None:
    finite = A[np.isfinite(A)]
    if np.isinf(A).any():
        raise ValueError(f"{argument} must be in [0, 1], got infinity")
    if len(finite) == 0:
        raise ValueError(f"{argument} must hold numbers, got NaN alone")
    if finite.max() > 1.5:
        raise ValueError(f"{argument} must be in [0, 1], got {finite.max():g}; divide by 100")
    if finite.min() < 0 or finite.max() > 1:
        raise ValueError(f"{argument} must be in [0, 1], got {finite.min():g} to {finite.max():g}")


def task_ends_of(value: Any, K: int, last: int | None) -> np.ndarray:
    """Increasing whole numbers, one a task; whole floats are taken."""
    try:
        ends = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"task_ends must be whole numbers: {error}") from error
    if ends.dtype.kind == "f" and np.isfinite(ends).all() and (ends == np.floor(ends)).all():
        ends = ends.astype(np.int64)
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or len(ends) != K:
        raise ValueError(f"task_ends must be {K} whole numbers, one a task, got {value!r}"[:200])
    if (np.diff(np.r_[0, ends]) <= 0).any():
        raise ValueError(f"task_ends must increase from 1 on, got {ends.tolist()[:20]}")
    if last is not None and ends[-1] != last:
        raise ValueError(f"task_ends must end with the last update, {last}, got {ends[-1]}")
    return ends.astype(np.int64)


def grid(ends: np.ndarray, every: int) -> np.ndarray:
    """Updates that are evaluated: each `every`-th, and the tasks' ends."""
    return np.union1d(np.arange(every, ends[-1] + 1, every), ends)


def _numbered(K: int) -> list[str]:
    return [str(i + 1) for i in range(K)]


def _unlearnt(A: np.ndarray, times: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Accuracies with NaN before each task was begun."""
    for i, start in enumerate(np.searchsorted(times, np.r_[0, ends[:-1]], side="right")):
        A[i, :start] = np.nan
    return A


def from_outcomes(outcomes: Outcomes, task_ends: Any, every: int) -> Log:
    """From the right rows of each evaluation."""
    if task_ends is None:
        raise TypeError("task_ends must be given: the updates done when each task ended")
    ends = task_ends_of(task_ends, len(outcomes.n), None)
    times = grid(ends, every)
    A = np.full((len(ends), len(times)), np.nan)
    for i, start in enumerate(np.searchsorted(times, np.r_[0, ends[:-1]], side="right")):
        found = outcomes.accuracy(i)
        if len(found) != len(times) - start:
            raise ValueError(
                f"correct[{i}] must have {len(times) - start} rows, one an evaluation, "
                f"got {len(found)}"
            )
        A[i, start:] = found
    return Log(A, times, ends, _numbered(len(ends)), every)


def from_array(value: Any, task_ends: Any, every: int) -> Log:
    """From an array (tasks, evaluations)."""
    if task_ends is None:
        raise TypeError(
            "task_ends must be given beside an array: the updates done when each task ended"
        )
    A = as_floats(value, "curves").copy()
    if A.ndim != 2 or not A.size:
        raise ValueError(f"curves must be two-dimensional (tasks, updates), got shape {A.shape}")
    _range(A, "curves")
    ends = task_ends_of(task_ends, len(A), None)
    times = grid(ends, every)
    if A.shape[1] == ends[-1]:
        A = A[:, times - 1]
    elif A.shape[1] != len(times):
        raise ValueError(
            f"curves must have a column for each of {ends[-1]} updates, or for each of "
            f"{len(times)} evaluations, got {A.shape[1]}"
        )
    return Log(_unlearnt(A, times, ends), times, ends, _numbered(len(ends)), every)


def from_table(
    table: pd.DataFrame, task_ends: Any, every: int | None, columns: dict[str, str]
) -> Log:
    """From a log with a row an evaluation of a task.

    Tasks are in the order in which they first appear: by their first iteration, and among tasks
    that were evaluated from the same iteration on, by their first row. Columns ``row`` and
    ``correct`` in place of the accuracy say which rows were right.
    """
    iteration, task, accuracy = (columns[k] for k in ("iteration", "task", "accuracy"))
    answers = None
    if {iteration, task, ROW, CORRECT} <= set(table.columns) and accuracy not in table.columns:
        answers, table = table, _shares(table, iteration, task, accuracy)
    if iteration in table.columns and not {task, accuracy} & set(table.columns):
        table = _long(table, iteration, task, accuracy)
    if missing := [c for c in columns.values() if c not in table.columns]:
        known = [str(c) for c in table.columns]
        raise ValueError(
            f"curves lacks the columns {', '.join(missing)}{nearest(missing[0], known)}; it has "
            f"{', '.join(known)}: say which are the iteration, the task and the accuracy"
        )
    if _words(accuracy) & NO_ACCURACY:
        raise ValueError(
            f"accuracy must name shares of right rows, the higher the better, got {accuracy!r}: of an "
            "error rate give 1 less it"
        )
    numbers = {c: _numbers(table[c], c) for c in (iteration, accuracy)}
    _range(numbers[accuracy], "curves")
    whole = numbers[iteration]
    if (whole == 0).any():
        raise ValueError(
            f"curves must have the number of updates done in column {iteration!r}, from 1 on, got 0: "
            "leave out what was evaluated before the first update, or add 1 if they count from 0"
        )
    if not np.isfinite(whole).all() or (whole < 1).any() or (whole != np.floor(whole)).any():
        raise ValueError(f"curves must have whole numbers from 1 on in column {iteration!r}")
    if table[task].isna().any():
        raise ValueError(f"curves has no value in column {task!r} of some row")
    rows = pd.DataFrame(
        {"iteration": whole.astype(np.int64), "task": table[task], "accuracy": numbers[accuracy]}
    ).reset_index(drop=True)
    if rows.duplicated(["iteration", "task"]).any():
        raise ValueError("curves has a moment twice: the same iteration and task")
    appeared = pd.Series(np.arange(len(rows))).groupby(rows["task"].to_numpy(), sort=False).min()
    # A task begins with its first accuracy; before it there may be rows without.
    known = rows[rows["accuracy"].notna()].groupby("task", sort=False)["iteration"].min()
    if unknown := [str(name) for name in appeared.index.difference(known.index)]:
        raise ValueError(f"curves has no accuracy of task {unknown[0]}")
    first = known.loc[appeared.index]
    order = first.index[np.argsort(first.to_numpy(), kind="stable")]
    _in_order(rows, first, order)
    first = first.loc[order]
    wide = rows.pivot(index="task", columns="iteration", values="accuracy").loc[order]
    A, times = wide.to_numpy(float, copy=True), wide.columns.to_numpy().astype(np.int64)
    if task_ends is None:
        if first.duplicated().any():
            raise ValueError("task_ends must be given: two tasks of the table begin at once")
        before = np.searchsorted(times, first.to_numpy()[1:]) - 1
        task_ends = np.r_[times[before], times[-1]] if len(first) > 1 else times[-1:]
    ends = task_ends_of(task_ends, len(A), int(times[-1]))
    if not np.isin(ends, times).all():
        raise ValueError("curves must be known at the end of every task")
    if every is not None:
        kept = np.isin(times, grid(ends, every))
        A, times = A[:, kept], times[kept]
    A = _unlearnt(A, times, ends)
    names = [str(name) for name in order]
    log = Log(A, times, ends, names, every, _sizes_in(table, task, order))
    if answers is not None:
        log.outcomes = _answers(answers, iteration, task, order, log.curves)
    if "epoch" in iteration.lower() and log.gap is None:
        log.gap = (1, 2)  # an epoch is many updates
    return log


def _in_order(rows: pd.DataFrame, first: pd.Series, order: Any) -> None:
    """Refuses tasks that begin at once where the order of rows says nothing, or that of letters."""
    for at, tied in first.groupby(first.to_numpy()):
        names = [name for name in order if name in tied.index]
        if len(names) < 2:
            continue
        here = rows[rows["task"].isin(names)]
        # Every iteration lists them as the first one does, in a log by iterations or by tasks.
        ranks = here["task"].map({name: k for k, name in enumerate(names)}).to_numpy()
        by_time = np.argsort(here["iteration"].to_numpy(), kind="stable")
        same = np.diff(here["iteration"].to_numpy()[by_time]) == 0
        if (np.diff(ranks[by_time])[same] < 0).any():
            raise ValueError(
                f"curves: {len(names)} tasks begin at iteration {at}, and rows are in no order that "
                "says which was learnt first: sort them so"
            )
        texts = [str(name) for name in names]
        if texts == sorted(texts) and texts != (right := sorted(texts, key=_natural)):
            k = next(k for k, (a, b) in enumerate(zip(texts, right, strict=True)) if a != b)
            raise ValueError(
                f"curves: {len(names)} tasks begin at iteration {at}, and stand in the order of "
                f"letters, {texts[k]} before {right[k]}: sort rows as the tasks were learnt"
            )


def _words(name: str) -> set[str]:
    """Words of a column's name: test_error, val/loss, testError."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sorts task2 before task10."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts if p]


def _right(column: pd.Series) -> np.ndarray:
    """0 and 1, or true and false."""
    words = column.astype(str).str.strip().str.lower().map(TRUTHS)
    if words.isna().any():
        raise ValueError(f"curves must have 0 and 1, or true and false, in column {CORRECT!r}")
    return words.to_numpy(bool)


def _shares(table: pd.DataFrame, iteration: str, task: str, accuracy: str) -> pd.DataFrame:
    """The accuracy of each evaluation, out of a table with a line for each row of it."""
    if table[[iteration, task, ROW]].isna().any(axis=None):
        raise ValueError(f"curves has no value in column {iteration!r}, {task!r} or {ROW!r}")
    if table.duplicated([iteration, task, ROW]).any():
        raise ValueError("curves has a row twice at the same iteration and task")
    right = table[[iteration, task]].assign(**{accuracy: _right(table[CORRECT])})
    return right.groupby([iteration, task], sort=False)[accuracy].mean().reset_index()


def _answers(
    table: pd.DataFrame, iteration: str, task: str, order: Any, curves: Curves
) -> Outcomes:
    """Which rows were right at each evaluation that is looked at; the same rows at all of them."""
    right = table[[task, ROW]].assign(at=_numbers(table[iteration], iteration).astype(np.int64))
    right["right"] = _right(table[CORRECT])
    made = []
    for name, start in zip(order, curves.starts, strict=True):
        own = right[(right[task] == name) & right["at"].isin(curves.times[start:])]
        wide = own.pivot(index="at", columns=ROW, values="right").reindex(curves.times[start:])
        if (lacking := wide.isna().any(axis=1)).any():
            raise ValueError(
                f"curves: task {name} has other rows at iteration {lacking.idxmax()} than elsewhere; "
                "look at the same rows at all times"
            )
        made.append(wide.to_numpy(bool))
    return Outcomes.of(made)


def _long(table: pd.DataFrame, iteration: str, task: str, accuracy: str) -> pd.DataFrame:
    """A table with a column a task as one with a row an evaluation; tasks as the columns stand."""
    tasks = [c for c in table.columns if c not in (iteration, "n")]
    if not tasks:
        return table
    for c in tasks:
        if _words(str(c)) & NO_TASK:
            raise ValueError(
                f"curves has a column a task, and {str(c)!r} seems to be none: leave out all that "
                "are no accuracies of a task"
            )
    kept = [iteration, "n"] if "n" in table.columns else [iteration]
    parts = [
        table[kept].assign(**{task: str(c), accuracy: _numbers(table[c], str(c))}) for c in tasks
    ]
    return pd.concat(parts, ignore_index=True).dropna(subset=[accuracy], ignore_index=True)


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    if column.dtype.kind not in "fiu":
        try:
            return pd.to_numeric(column).to_numpy(float)
        except (ValueError, TypeError) as error:
            raise ValueError(f"curves must have numbers in column {name!r}: {error}") from error
    return column.to_numpy(float)


def _sizes_in(table: pd.DataFrame, task: str, order: Any) -> list[int] | None:
    """The column ``n``, where there is one."""
    if "n" not in table.columns or task == "n":
        return None
    sizes = _numbers(table["n"], "n")
    by_task = pd.Series(sizes).groupby(table[task].to_numpy()).agg(["min", "max"]).loc[order]
    whole = np.isfinite(sizes).all() and (sizes == np.floor(sizes)).all()
    if not whole or (by_task["min"] != by_task["max"]).any():
        raise ValueError("curves must have one whole number a task in column 'n'")
    return by_task["min"].astype(int).tolist()


def complete(curves: Curves) -> None:
    """Every task has an accuracy at every evaluation since it was begun."""
    for i, start in enumerate(curves.starts):
        gone = np.isnan(curves.accuracy[i, start:])
        if gone.any():
            at = curves.times[start + int(gone.argmax())]
            raise ValueError(
                f"curves: task {i + 1} has no value at iteration {at}; where old tasks are evaluated "
                "less often than the new one, every= keeps the moments at which all are"
            )
