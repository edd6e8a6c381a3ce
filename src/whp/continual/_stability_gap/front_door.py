"""The front door: accuracies of old and new tasks over a run, and what the usual evaluation would have hidden."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.continual.stability_gap import guarantee
from whp.continual.stability_gap.intervals import Limits
from whp.continual.stability_gap.metrics import Curves, metrics
from whp.continual.stability_gap.outcomes import Audit, Outcomes
from whp.intervals import Estimate
from whp.io import Data
from whp.result import Result
from whp.undeclared import Assumption, met, unchecked, violated
from whp.validate import as_choice, as_floats, as_fraction, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["StabilityGapResult", "stability_gap"]


@dataclass(frozen=True, eq=False)
class StabilityGapResult(Result):
    """How a model did on everything it had learnt, at every moment.

    Attributes
    ----------
    acc, wc_acc : Estimate
        Mean accuracy over tasks at the end, and worst-case accuracy.
    forg, min_acc : Estimate or None
        Mean forgetting, and mean over old tasks of their least accuracy since they ended; None with one task.
    min_acc_task : ndarray, shape (K − 1,)
        That of each.
    acc_curve, wc_curve : ndarray, shape (T,)
        ACC and WC-ACC at each evaluation.
    wf, wp : dict of int to Estimate
        Windowed forgetting and plasticity, by the window's number of evaluations.
    gaps : DataFrame
        For each old and each later task: accuracy before, least, and after, the update of the least, drop and recovery with ends.
    accuracy, times, task_ends
        What it was made of: accuracies at evaluations, the updates done by then, and those at the tasks' ends.
    certificates : tuple of Certificate
        ``hidden-drop``, ``temporary-forgetting``, ``band-audit`` and ``first-step`` where they apply, ``envelope``.
    """

    acc: Estimate
    wc_acc: Estimate
    forg: Estimate | None
    min_acc: Estimate | None
    min_acc_task: np.ndarray
    wf: dict[int, Estimate]
    wp: dict[int, Estimate]
    gaps: pd.DataFrame
    acc_curve: np.ndarray
    wc_curve: np.ndarray
    accuracy: np.ndarray
    times: np.ndarray
    task_ends: np.ndarray
    low: np.ndarray = field(repr=False)
    high: np.ndarray = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The metrics with their intervals."""
        rows: dict[str, bool | int | float | str | None] = {
            "tasks": len(self.task_ends),
            "updates": int(self.times[-1]),
            "mean_accuracy": str(self.acc),
            "worst_case_accuracy": str(self.wc_acc),
        }
        if self.forg is not None:
            rows |= {"forgetting": str(self.forg), "least_accuracy_of_old_tasks": str(self.min_acc)}
        for w, e in self.wf.items():
            rows[f"forgetting_within_{w}_evaluations"] = str(e)
        for w, e in self.wp.items():
            rows[f"plasticity_within_{w}_evaluations"] = str(e)
        return rows

    def artifacts(self) -> dict[str, Any]:
        """The table of gaps, and the curves."""
        curves = pd.DataFrame(
            {"iteration": self.times, "acc": self.acc_curve, "wc_acc": self.wc_curve}
        )
        for i, row in enumerate(self.accuracy):
            curves[f"task_{i + 1}"] = row
        return {"gaps.csv": self.gaps, "curves.csv": curves}

    def to_frame(self) -> pd.DataFrame:
        """The accuracies in long form: ``iteration``, ``task``, ``accuracy``; what the front door reads."""
        K, T = self.accuracy.shape
        table = pd.DataFrame(
            {
                "iteration": np.tile(self.times, K),
                "task": np.repeat(np.arange(K), T),
                "accuracy": self.accuracy.ravel(),
            }
        )
        return table.dropna(ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracy of every task over updates, with the ends of tasks, and the worst case."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        for i, row in enumerate(self.accuracy):
            line = ax.plot(self.times, row, linewidth=1, label=f"task {i + 1}")[0]
            ax.fill_between(
                self.times,
                self.low[i],
                self.high[i],
                color=line.get_color(),
                alpha=0.12,
                linewidth=0,
            )
            ends = np.searchsorted(self.times, self.task_ends[i:])
            ax.plot(self.times[ends], row[ends], "o", color=line.get_color(), markersize=4)
        ax.step(
            self.times,
            self.wc_curve,
            color="black",
            linewidth=1.6,
            where="post",
            label="worst case",
        )
        for end in self.task_ends[:-1]:
            ax.axvline(end, color="0.8", linewidth=0.8, zorder=0)
        ax.set(xlabel="updates (dots: where tasks end)", ylabel="accuracy", ylim=(-0.02, 1.02))
        ax.legend(frameon=False, fontsize=8, ncols=2)
        return ax


def stability_gap(
    accuracy: Annotated[Any, Data("table")],
    task_ends: Sequence[int] | np.ndarray | None = None,
    *,
    n: int | Sequence[int] | None = None,
    correct: Any = None,
    n_total: int | Sequence[int] | None = None,
    windows: Sequence[int] = (10, 100),
    every: int = 1,
    target: Literal["population", "set"] = "population",
    delta: float = 0.05,
    gap: float = 0.05,
    grads: Any = None,
    audit: Any = None,
    reported: Mapping[str, float] | None = None,
) -> StabilityGapResult:
    """Metrics of continual evaluation with intervals for all moments at once.

    :class:`whp.continual.ContinualEvaluator` records what it needs around any training loop.

    Parameters
    ----------
    accuracy : array-like (K, T) or DataFrame
        Row i, column t: accuracy of task i after update t + 1, NaN before the task was seen. Or a table with columns
        ``iteration``, ``task``, ``accuracy`` and perhaps ``n``.
    task_ends : sequence of int, optional
        Updates done when each task ended; from a table they are read, if the tasks' ends were evaluated.
    n : int or sequence of int, optional
        Rows behind each task's accuracy; without it there are no intervals.
    correct : list of ndarray, optional
        For each task, (T_i, n_i) Boolean: which of its rows were right at each of its evaluations, always the same rows. Makes
        differences far more certain.
    n_total : int or sequence of int, optional
        Rows of the whole evaluation sets; needed for ``target="set"``.
    windows : sequence of int
        Lengths of windows for forgetting and plasticity, in evaluations.
    every : int
        Updates between evaluations; the tasks' ends are always among them.
    target : {"population", "set"}
        Whether rows are a sample of their task, or the n_total rows are all that matters.
    delta : float
        Failure probability of each certificate and of the band.
    gap : float
        The largest drop you can live with.
    grads : ContinualFit or DataFrame, optional
        Norms of both parts of every step's gradient.
    audit : Audit, optional
        What the recorder noticed.
    reported : mapping, optional
        ``acc`` and ``wc_acc`` as somebody reports them for this run.

    Returns
    -------
    StabilityGapResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    every = as_int(every, "every", low=1)
    outcomes = (
        None
        if correct is None
        else correct
        if isinstance(correct, Outcomes)
        else Outcomes.of(correct)
    )
    if isinstance(accuracy, pd.DataFrame):
        accuracy, ends, times, found_n = _from_table(accuracy, task_ends, every)
        n = found_n if n is None else n
    else:
        accuracy, ends, times = _from_array(accuracy, task_ends, every, outcomes)
    curves = Curves(accuracy, times, np.searchsorted(times, ends))
    _complete(curves)
    K = len(ends)
    windows = tuple(as_int(w, "windows", low=2) for w in windows)
    as_choice(target, "target", ("population", "set"))
    delta, gap = as_fraction(delta, "delta"), as_real(gap, "gap", low=0, high=1)
    if outcomes is not None:
        _agree(outcomes, curves)
        n = outcomes.n
    rows = _sizes(n, "n", K)
    total = _sizes(n_total, "n_total", K)
    if target == "set" and rows is not None and total is None:
        raise ValueError(
            "n_total must be given for target='set': the rows of the whole evaluation sets"
        )
    if (
        rows is not None
        and total is not None
        and any(a > b for a, b in zip(rows, total, strict=True))
    ):
        raise ValueError(f"n must not exceed n_total, got {max(rows)} of {min(total)}")
    if audit is not None and not isinstance(audit, Audit):
        raise TypeError(f"audit must come from a recorder, got {type(audit).__name__}")
    reported = _reported(reported)
    limits = Limits(curves, rows, total, target, delta, every == 1, outcomes)
    found = metrics(curves, windows)
    known = guarantee.assumptions(limits, audit)
    temporary, gaps = guarantee.temporary_forgetting(limits, gap, known)
    certificates = [guarantee.hidden_drop(limits, gap, known), temporary]
    if (
        audit is not None
        and target == "set"
        and rows is not None
        and total is not None
        and rows != total
    ):
        certificates.append(guarantee.band_audit(limits, audit))
    if grads is not None:
        certificates.append(guarantee.first_step(*_gradients(grads)))
    certificates.append(guarantee.envelope(found, dict(reported)))
    estimates: dict[str, Any] = limits.estimates(found, windows)
    low, high = limits.bands()
    return StabilityGapResult(
        acc=estimates["acc"],
        wc_acc=estimates["wc_acc"],
        forg=estimates.get("forg"),
        min_acc=estimates.get("min_acc"),
        min_acc_task=found.min_acc_task,
        wf=estimates["wf"],
        wp=estimates["wp"],
        gaps=gaps,
        acc_curve=found.acc_curve,
        wc_curve=found.wc_curve,
        accuracy=accuracy,
        times=times,
        task_ends=ends,
        low=low,
        high=high,
        certificates=tuple(certificates),
    )


def _range(A: np.ndarray) -> None:
    finite = A[np.isfinite(A)]
    if np.isinf(A).any():
        raise ValueError("accuracy must be in [0, 1], got infinity")
    if len(finite) == 0:
        raise ValueError("accuracy must hold numbers, got NaN alone")
    if finite.max() > 1.5:
        raise ValueError(f"accuracy must be in [0, 1], got {finite.max():g}; divide by 100")
    if finite.min() < 0 or finite.max() > 1:
        raise ValueError(f"accuracy must be in [0, 1], got {finite.min():g} to {finite.max():g}")


def _ends(value: Any, K: int, last: int | None) -> np.ndarray:
    try:
        ends = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"task_ends must be whole numbers: {error}") from error
    if ends.ndim != 1 or ends.dtype.kind not in "iu" or len(ends) != K:
        raise ValueError(f"task_ends must be {K} whole numbers, one a task, got {value!r}"[:200])
    if (np.diff(np.r_[0, ends]) <= 0).any():
        raise ValueError(f"task_ends must increase from 1 on, got {ends.tolist()[:20]}")
    if last is not None and ends[-1] != last:
        raise ValueError(f"task_ends must end with the last update, {last}, got {ends[-1]}")
    return ends.astype(np.int64)


def _grid(ends: np.ndarray, every: int) -> np.ndarray:
    return np.union1d(np.arange(every, ends[-1] + 1, every), ends)


def _from_array(
    value: Any, task_ends: Any, every: int, outcomes: Outcomes | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if task_ends is None:
        raise TypeError(
            "task_ends must be given beside an array: the updates done when each task ended"
        )
    if value is None and outcomes is None:
        raise TypeError("accuracy must be an array (tasks, updates) or a table, got None")
    if value is None:
        assert outcomes is not None
        ends = _ends(task_ends, len(outcomes.n), None)
        times = _grid(ends, every)
        A = np.full((len(ends), len(times)), np.nan)
        for i, start in enumerate(np.searchsorted(times, np.r_[0, ends[:-1]], side="right")):
            found = outcomes.accuracy(i)
            if len(found) != len(times) - start:
                raise ValueError(
                    f"correct[{i}] must have {len(times) - start} rows, one an evaluation, got {len(found)}"
                )
            A[i, start:] = found
        return A, ends, times
    A = as_floats(value, "accuracy").copy()
    if A.ndim != 2 or not A.size:
        raise ValueError(f"accuracy must be two-dimensional (tasks, updates), got shape {A.shape}")
    _range(A)
    ends = _ends(task_ends, len(A), None)
    times = _grid(ends, every)
    if A.shape[1] == ends[-1]:
        A = A[:, times - 1]
    elif A.shape[1] != len(times):
        raise ValueError(
            f"accuracy must have a column for each of {ends[-1]} updates, or for each of {len(times)} evaluations, got {A.shape[1]}"
        )
    for i, start in enumerate(np.searchsorted(times, np.r_[0, ends[:-1]], side="right")):
        A[i, :start] = np.nan  # of a task not yet learnt
    return A, ends, times


def _from_table(
    table: pd.DataFrame, task_ends: Any, every: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    if missing := [c for c in ("iteration", "task", "accuracy") if c not in table.columns]:
        raise ValueError(
            f"accuracy lacks the columns {', '.join(missing)}; it has {', '.join(map(str, table.columns))}"
        )
    for column in ("iteration", "accuracy"):
        if table[column].dtype.kind not in "fiu" or (
            column == "iteration" and not np.isfinite(table[column]).all()
        ):
            raise ValueError(f"accuracy must have numbers in column {column!r}")
    _range(table["accuracy"].to_numpy(float))
    if (table["iteration"] < 1).any() or (table["iteration"] != np.floor(table["iteration"])).any():
        raise ValueError("accuracy must have whole numbers from 1 on in column 'iteration'")
    if table.duplicated(["iteration", "task"]).any():
        raise ValueError("accuracy has a moment twice: the same iteration and task")
    wide = table.pivot(index="task", columns="iteration", values="accuracy")
    first = table.groupby("task")["iteration"].min().sort_values(kind="stable")
    A = wide.loc[first.index].to_numpy(float)
    times = wide.columns.to_numpy().astype(np.int64)
    if task_ends is None:
        if first.duplicated().any():
            raise ValueError("task_ends must be given: two tasks of the table begin at once")
        before = np.searchsorted(times, first.to_numpy()[1:]) - 1
        ends = np.r_[times[before], times[-1]] if len(first) > 1 else times[-1:]
    else:
        ends = _ends(task_ends, len(A), int(times[-1]))
    ends = _ends(ends.astype(np.int64), len(A), int(times[-1]))
    if not np.isin(ends, times).all():
        raise ValueError("accuracy must be known at the end of every task")
    wanted = _grid(ends, every)
    if not np.isin(wanted, times).all():
        missing_at = int(wanted[~np.isin(wanted, times)][0])
        raise ValueError(
            f"accuracy has no iteration {missing_at}; say with every how many updates lie between evaluations"
        )
    kept = np.isin(times, wanted)
    A, times = A[:, kept], times[kept]
    for i, start in enumerate(np.searchsorted(times, np.r_[0, ends[:-1]], side="right")):
        A[i, :start] = np.nan
    n = None
    if "n" in table.columns:
        sizes = table.groupby("task")["n"].agg(["min", "max"]).loc[first.index]
        if table["n"].dtype.kind not in "iu" or (sizes["min"] != sizes["max"]).any():
            raise ValueError("accuracy must have one whole number a task in column 'n'")
        n = sizes["min"].tolist()
    return A, ends, times, n


def _complete(curves: Curves) -> None:
    for i, start in enumerate(curves.starts):
        gone = np.isnan(curves.accuracy[i, start:])
        if gone.any():
            raise ValueError(
                f"accuracy: task {i + 1} has no value at iteration {curves.times[start + int(gone.argmax())]}"
            )


def _agree(outcomes: Outcomes, curves: Curves) -> None:
    if len(outcomes.n) != len(curves.ends):
        raise ValueError(
            f"correct must have {len(curves.ends)} arrays, one a task, got {len(outcomes.n)}"
        )
    for i, start in enumerate(curves.starts):
        mine, theirs = outcomes.accuracy(i), curves.accuracy[i, start:]
        if len(mine) != len(theirs):
            raise ValueError(
                f"correct[{i}] must have {len(theirs)} rows, one an evaluation, got {len(mine)}"
            )
        if np.abs(mine - theirs).max() > 1e-6:
            raise ValueError(f"correct[{i}] does not give the accuracies of task {i + 1}")


def _sizes(value: Any, argument: str, K: int) -> tuple[int, ...] | None:
    if value is None:
        return None
    value = [value] * K if isinstance(value, numbers.Number) else value
    try:
        sizes = tuple(as_int(v, argument, low=1) for v in value)
    except TypeError as error:
        raise TypeError(f"{argument} must be a whole number, or one a task: {error}") from error
    if len(sizes) != K:
        raise ValueError(f"{argument} must have {K} numbers, one a task, got {len(sizes)}")
    return sizes


def _reported(value: Any) -> dict[str, float]:
    if value is None:
        return {}
    if not isinstance(value, Mapping) or set(value) - {"acc", "wc_acc"}:
        raise ValueError(f"reported must be a mapping of acc and wc_acc, got {value!r}"[:200])
    return {k: as_real(v, f"reported[{k}]", low=0, high=1) for k, v in value.items()}


def _gradients(grads: Any) -> tuple[pd.DataFrame, tuple[Assumption, ...]]:
    centred, fresh, same = (
        "the stability loss is least at the old model",
        "the optimiser carries nothing into a new task",
        "the old model computes the same in training",
    )
    if isinstance(grads, pd.DataFrame):
        if missing := {"task", "step", "plasticity", "stability"} - set(grads.columns):
            raise ValueError(f"grads lacks the columns {', '.join(sorted(missing))}")
        return grads, (unchecked(centred), unchecked(fresh), unchecked(same))
    from whp.continual.training import ContinualFit, changing

    if not isinstance(grads, ContinualFit) or grads.gradients is None:
        raise TypeError(
            "grads must be a ContinualFit made with record_gradients=True, or its table"
        )
    active = changing(grads.model)
    return grads.gradients, (
        met(centred)
        if grads.still
        else violated(centred, "rows from memory pull in their own direction from the start"),
        violated(fresh, "momentum was kept") if grads.carried else met(fresh),
        violated(same, ", ".join(active)) if active else met(same, "no dropout, no batch norm"),
    )
