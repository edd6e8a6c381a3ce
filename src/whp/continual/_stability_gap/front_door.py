"""The front door: accuracies of old and new tasks over a run in, what the usual evaluation hid out."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Answer, Certificate, Status
from whp.continual._stability_gap import theorems as th
from whp.continual._stability_gap.bands import band
from whp.continual._stability_gap.counts import counted
from whp.continual._stability_gap.limits import Limits
from whp.continual._stability_gap.metrics import Curves, metrics
from whp.continual._stability_gap.outcomes import Outcomes, Recording
from whp.continual._stability_gap.reading import (
    Log,
    complete,
    from_array,
    from_outcomes,
    from_table,
)
from whp.door import AtLeast, Between, Fraction, front_door
from whp.intervals import Estimate
from whp.io import Data
from whp.provenance import made_here
from whp.result import Result
from whp.validate import as_frame, as_int, as_real

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
        Mean forgetting, and mean over old tasks of their least accuracy since they ended; None with
        one task.
    min_acc_task : ndarray, shape (K − 1,)
        That of each.
    acc_curve, wc_curve : ndarray, shape (T,)
        ACC and WC-ACC at each evaluation.
    wf, wp : dict of int to Estimate
        Windowed forgetting and plasticity, by the window's number of evaluations.
    gaps : DataFrame
        For each old and each later task: accuracy before, least, and after, the update of the
        least, drop and recovery with ends.
    accuracy, times, task_ends
        What it was made of: accuracies at evaluations, the updates done by then, and those at the
        tasks' ends.
    tasks : tuple of str
        Their names in the order in which they were learnt.
    seen_all : bool
        Whether there is an evaluation for every update; if not, WC-ACC and min-ACC are the worst
        that was seen, and their lower ends are 0.
    low, high : ndarray, shape (K, T)
        Limits of all accuracies at once, with probability 1 − delta.
    certificates : tuple of Certificate
        ``hidden-drop``, ``temporary-forgetting``, and where they apply ``band-audit``,
        ``first-step`` and ``envelope``.
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
    tasks: tuple[str, ...]
    seen_all: bool
    low: np.ndarray = field(repr=False)
    high: np.ndarray = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    @property
    def _seen(self) -> str:
        """Where updates went unseen, the worst is the worst that was seen."""
        return "" if self.seen_all else "_seen"

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The metrics with their intervals."""
        rows: dict[str, bool | int | float | str | None] = {
            "tasks": len(self.task_ends),
            "order_of_tasks": ", ".join(self.tasks),
            "updates": int(self.times[-1]),
            "updates_at_ends_of_tasks": ", ".join(map(str, self.task_ends.tolist())),
            "mean_accuracy": str(self.acc),
            f"worst_case_accuracy{self._seen}": str(self.wc_acc),
        }
        if self.forg is not None:
            rows |= {
                "forgetting": str(self.forg),
                f"least_accuracy_of_old_tasks{self._seen}": str(self.min_acc),
            }
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
            curves[f"task_{self.tasks[i]}"] = row
        return {"gaps.csv": self.gaps, "curves.csv": curves}

    def to_frame(self) -> pd.DataFrame:
        """The accuracies in long form, which the front door reads: iteration, task, accuracy."""
        K, T = self.accuracy.shape
        table = pd.DataFrame(
            {
                "iteration": np.tile(self.times, K),
                "task": np.repeat(np.arange(K), T),
                "accuracy": self.accuracy.ravel(),
            }
        )
        return table.dropna(ignore_index=True)

    def draw(self, ax: Axes) -> None:
        """Accuracy of every task over updates, with the ends of tasks, and the worst case."""
        for i, row in enumerate(self.accuracy):
            line = ax.plot(self.times, row, linewidth=1, label=f"task {self.tasks[i]}")[0]
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


@front_door
def stability_gap(
    curves: Annotated[Any, Data("table")] = None,
    task_ends: Sequence[float] | np.ndarray | None = None,
    *,
    iteration: str | None = None,
    task: str | None = None,
    accuracy: str | None = None,
    n: int | Sequence[int] | np.ndarray | None = None,
    correct: Any = None,
    groups: Any = None,
    n_total: int | Sequence[int] | np.ndarray | None = None,
    windows: int | Sequence[int] = (10, 100),
    every: Annotated[int, AtLeast(1)] | None = None,
    target: Literal["population", "set"] = "population",
    delta: Annotated[float, Fraction()] = 0.05,
    gap: Annotated[float, Between(0, 1)] = 0.05,
    grads: Any = None,
    reported: Mapping[str, float] | None = None,
) -> StabilityGapResult:
    """Metrics of continual evaluation with intervals for all moments at once.

    :class:`whp.continual.ContinualEvaluator` records what it needs around any training loop.

    Parameters
    ----------
    curves : array_like (K, T), DataFrame or Recording
        Row i, column t: accuracy of task i after update t + 1, NaN before the task was seen. Or a
        table with a row an evaluation of a task: its iteration (updates done), task, accuracy and
        perhaps ``n``; in place of the accuracy, a line for each evaluated row, ``row`` its name and
        ``correct`` whether it was right, makes differences far more certain. Or what
        :meth:`whp.continual.ContinualEvaluator.recording` gives.
    task_ends : sequence of int, optional
        Updates done when each task ended; from a table they are read, if tasks were evaluated from
        their own first update on only.
    iteration : str, optional
        Column of a table that counts the updates done; "iteration" if not given.
    task : str, optional
        Column of a table that names the task that was evaluated; "task" if not given.
    accuracy : str, optional
        Column of a table with the accuracy; "accuracy" if not given.
    n : int or sequence of int, optional
        Rows behind each task's accuracy. Without it nobody knows how uncertain accuracies are: no
        certificate holds, and what fails is about the numbers as they stand.
    correct : list of ndarray, optional
        For each task, (T_i, n_i) Boolean: which of its rows were right at each of its evaluations,
        always the same rows. Makes differences far more certain.
    groups : list of array_like, optional
        Beside `correct`: for each task, what each of its n_i rows belongs to (a film, a patient).
        The first row of each group is kept, since the others are no independent evidence.
    n_total : int or sequence of int, optional
        Rows of the whole evaluation sets; needed for ``target="set"``.
    windows : sequence of int
        Lengths of windows for forgetting and plasticity, in evaluations.
    every : int, optional
        Updates between evaluations; the tasks' ends are always among them. By default 1 for arrays,
        and read from the iterations of a table.
    target : {"population", "set"}
        Whether rows are a sample of their task, or the n_total rows are all that matters.
    delta : float
        Failure probability of each certificate and of the band.
    gap : float
        The largest drop you can live with.
    grads : ContinualFit or DataFrame, optional
        Norms of both parts of every step's gradient.
    reported : mapping, optional
        ``acc`` and ``wc_acc`` as somebody reports them for this run.

    Returns
    -------
    StabilityGapResult

    Raises
    ------
    TypeError
        If an argument is of another kind than those above.
    ValueError
        If accuracies are not in [0, 1] or missing, sizes do not agree, or columns are not there.

    References
    ----------
    De Lange, van de Ven, Tuytelaars. Continual evaluation for lifelong learning. ICLR 2023.

    Examples
    --------
    >>> nan = float("nan")
    >>> curves = [[0.213, 0.904, 0.412, 0.797], [nan, nan, 0.508, 0.911]]
    >>> made = stability_gap(curves, [2, 4], n=1000, windows=2)
    >>> round(made.wc_acc.value, 4), str(made.certificates[0].verdict)
    (0.6615, 'fails')
    """
    if groups is not None:
        correct = _one_a_group(curves, correct, groups)
    log, outcomes, recording = _read(
        as_frame(curves),
        task_ends,
        correct,
        every,
        {"iteration": iteration, "task": task, "accuracy": accuracy},
    )
    complete(log.curves)
    K = len(log.ends)
    if recording is not None:
        if n is not None or n_total is not None:
            raise TypeError("n and n_total are those of the recording: leave them out")
        n_total = recording.n_total
    if outcomes is not None:
        _agree(outcomes, log.curves)
        if n is not None and _sizes(n, "n", K) != outcomes.n:
            raise ValueError(f"n must be the rows of correct, {outcomes.n}, or left out")
        n = outcomes.n
    rows = _sizes(log.n if n is None else n, "n", K)
    if log.n is not None and rows != _sizes(log.n, "n", K):
        raise ValueError(
            f"n must be that of the table's column 'n', {tuple(log.n)}, or left out, got {rows}"
        )
    total = _sizes(n_total, "n_total", K)
    _agree_in_size(rows, total, target)
    asked = _windows(windows)
    limits = Limits(log.curves, rows, total, target, delta, log.gap is None, outcomes)
    trusted = made_here(recording, Recording) if recording is not None else False
    answers = _answers(log, limits, recording, trusted=trusted)
    if groups is not None:
        kept = th.INDEPENDENT.unchecked("one row of each group was kept")
        answers = [kept if a.name == kept.name else a for a in answers]
    audit = _audit(limits, recording)
    if audit is not None and audit.verdict.value == "fails":
        answers = [_refuted(a) for a in answers]
    certificates, gaps = _of_the_curves(log, limits, gap, answers)
    if audit is not None:
        certificates.append(audit)
    if grads is not None:
        certificates.append(th.first_step(*_gradients(grads, log.ends)))
    found = metrics(log.curves, asked)
    if claims := _reported(reported):
        given = [th.SAME_ROWS.unchecked("the report does not show its rows")]
        given += [a for a in answers if a.name == th.EVERY_UPDATE.name]
        certificates.append(
            th.envelope(found.acc, found.wc_acc, claims, dense=limits.dense, answers=given)
        )
    if any(a.status is Status.VIOLATED and a.name != th.EVERY_UPDATE.name for a in answers):
        # No interval is shown that rests on what is known to be broken.
        limits = replace(limits, n=None, outcomes=None)
        ends = [c for c in gaps.columns if c.endswith(("_low", "_high"))]
        gaps[ends] = np.nan
    seen_all = log.gap is None
    if any(a.status is Status.VIOLATED and a.name == th.EVERY_UPDATE.name for a in answers):
        # A recorder that missed an update knows no more of it than a log with gaps.
        seen_all = False
        limits = replace(limits, dense=False)
    estimates: dict[str, Any] = limits.estimates(found, asked)
    low, high = limits.bands
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
        accuracy=log.curves.accuracy,
        times=log.curves.times,
        task_ends=log.ends,
        tasks=log.names,
        seen_all=seen_all,
        low=low,
        high=high,
        certificates=tuple(certificates),
    )


def _read(
    curves: Any, task_ends: Any, correct: Any, every: int | None, named: dict[str, str | None]
) -> tuple[Log, Outcomes | None, Recording | None]:
    """The log, which rows were right, and the recording that it came from."""
    chosen = [k for k, v in named.items() if v is not None]
    if chosen and not isinstance(curves, pd.DataFrame):
        raise TypeError(f"{chosen[0]} names a column, and curves is no table")
    if isinstance(curves, Recording):
        for name, value in (("task_ends", task_ends), ("correct", correct), ("every", every)):
            if value is not None:
                raise TypeError(f"{name} is that of the recording: leave it out")
        log = from_outcomes(curves.outcomes, curves.ends, curves.every)
        return log, curves.outcomes, curves
    outcomes = correct
    if correct is not None and not isinstance(correct, Outcomes):
        outcomes = Outcomes.of(correct)
    if isinstance(curves, pd.DataFrame):
        columns = {k: k if v is None else v for k, v in named.items()}
        log = from_table(curves, task_ends, every, columns)
        if log.outcomes is not None and outcomes is not None:
            raise TypeError("correct is a column of the table: leave it out")
        return log, log.outcomes if outcomes is None else outcomes, None
    if curves is None and outcomes is None:
        raise TypeError("curves must be an array (tasks, updates) or a table, got None")
    if curves is None:
        return from_outcomes(outcomes, task_ends, every or 1), outcomes, None
    return from_array(curves, task_ends, every or 1), outcomes, None


def _one_a_group(curves: Any, correct: Any, groups: Any) -> list[np.ndarray]:
    """The first row of each group, of each task's outcomes."""
    if curves is not None or correct is None or isinstance(correct, Outcomes):
        raise TypeError("groups go with correct alone: arrays of rows, and no curves")
    if len(groups) != len(correct):
        raise ValueError(f"groups must have {len(correct)} arrays, one a task, got {len(groups)}")
    kept = []
    for i, (right, labels) in enumerate(zip(correct, groups, strict=True)):
        right, labels = np.asarray(right), np.asarray(labels)
        if right.ndim != 2 or labels.shape != right.shape[1:]:
            raise ValueError(f"groups[{i}] must name the group of each row of correct[{i}]")
        kept.append(right[:, np.sort(np.unique(labels, return_index=True)[1])])
    return kept


def _answers(
    log: Log, limits: Limits, recording: Recording | None, *, trusted: bool
) -> list[Answer]:
    """What is known of the conditions of a statement on these accuracies."""
    known: dict[str, Answer] = {}
    if recording is not None:
        why = "this recording was not made here"
        by_name = {c.name: c for c in th.ROWS}
        for a in recording.answers:
            kept = trusted or a.status is Status.VIOLATED
            known[a.name] = a if kept else by_name[a.name].unchecked(why)
    unseen = th.UNSEEN.unchecked("training rows were not shown")
    made = [known.get(th.UNSEEN.name, unseen)]
    no_trace = th.NO_TRACE.unchecked("a log does not show it")
    if limits.n is None:
        made.append(th.EXACT.unchecked("n, the number of rows behind them, was not given"))
    else:
        subset = th.SUBSET.unchecked("accuracies alone do not show it")
        chosen = th.NOT_CHOSEN.unchecked("nobody saw")
        made += [known.get(th.SUBSET.name, subset), known.get(th.NOT_CHOSEN.name, chosen)]
    made.append(known.get(th.NO_TRACE.name, no_trace))
    if log.claimed:
        assert log.gap is not None
        made.append(
            th.EVERY_UPDATE.check(
                False, f"nothing is known between iterations {log.gap[0]:,} and {log.gap[1]:,}"
            )
        )
    elif limits.dense:
        counted_as = th.EVERY_UPDATE.unchecked("columns, or iterations, were taken as updates")
        made.append(known.get(th.EVERY_UPDATE.name, counted_as))
    elif (seen := known.get(th.EVERY_UPDATE.name)) and seen.status is Status.VIOLATED:
        made.append(seen)  # a task did not end with the model that was evaluated
    if limits.n is not None and limits.target == "population":
        independent = th.INDEPENDENT.unchecked("accuracies do not show which rows belong together")
        made.append(known.get(th.INDEPENDENT.name, independent))
    if limits.n is not None and limits.outcomes is None:
        starts = zip(log.curves.accuracy, log.curves.starts, strict=True)
        made.append(counted([row[s:] for row, s in starts], limits.n))
    return made


def _of_the_curves(
    log: Log, limits: Limits, gap: float, answers: list[Answer]
) -> tuple[list[Certificate], pd.DataFrame]:
    """Both certificates on the accuracies, and the table of gaps."""
    population, exact_rows = limits.target == "population", limits.n is None
    population = population and not exact_rows
    theorems = (
        th.resting_on(t, answers, population=population, exact_rows=exact_rows)
        for t in (th.HIDDEN_DROP, th.TEMPORARY_FORGETTING)
    )
    drop, temporary = theorems
    measured, trivial = limits.hidden()
    needs = "" if limits.outcomes is None else "evaluate more rows."
    if log.gap is not None:
        needs = (
            f"nothing is known between iterations {log.gap[0]:,} and {log.gap[1]:,}: evaluate "
            "after each update."
        )
    elif exact_rows:
        needs = "say how many rows were evaluated: n=, or better which were right: correct=."
    delta = 0.0 if exact_rows else limits.delta
    hidden = th.hidden_drop(
        drop,
        measured,
        gap,
        trivial=trivial,
        delta=delta,
        answers=answers,
        inputs={
            "tasks": len(log.ends),
            "evaluations": len(log.curves.times),
            "paired": limits.outcomes is not None,
            "every update": limits.dense,
        },
        needs=needs,
    )
    met = any(
        a.name == th.EVERY_UPDATE.name and a.status in (Status.MET, Status.BY_CONSTRUCTION)
        for a in answers
    )
    table, largest = limits.gaps(seen_all=met and limits.dense)
    forgetting = th.temporary_forgetting(
        temporary,
        largest,
        gap,
        delta=delta,
        answers=answers,
        pairs=len(table),
        needs=needs if met or log.gap is not None or exact_rows else "",
    )
    return [hidden, forgetting], table


def _audit(limits: Limits, recording: Recording | None) -> Certificate | None:
    """Whole sets where they were looked at, if subsets stand for sets."""
    if recording is None or limits.target != "set" or recording.n == recording.n_total:
        return None
    curves = limits.curves
    cells = int(np.isfinite(curves.accuracy).sum())
    looks = []
    for i, t, whole in recording.full:
        seen = float(curves.accuracy[i, t])
        n, total = recording.n[i], recording.n_total[i]
        low, high = band(np.array([seen]), n, limits.delta / cells, total, "set")
        looks.append((seen, float(low[0]), float(high[0]), whole, n, total))
    return th.band_audit(looks, delta=limits.delta, cells=cells)


def _refuted(answer: Answer) -> Answer:
    """A subset that the audit found out, unless this library drew it: then it was bad luck."""
    if answer.name != th.SUBSET.name or answer.status is Status.BY_CONSTRUCTION:
        return answer
    return th.SUBSET.check(False, "band-audit: whole sets lie outside of the band of the subsets")


def _windows(value: Any) -> tuple[int, ...]:
    value = [value] if isinstance(value, numbers.Number) else value
    if isinstance(value, str) or not isinstance(value, Sequence | np.ndarray):
        raise TypeError(f"windows must be whole numbers, got {value!r}"[:200])
    return tuple(as_int(w, "windows", low=2) for w in value)


def _agree_in_size(
    rows: tuple[int, ...] | None, total: tuple[int, ...] | None, target: str
) -> None:
    if target == "set" and rows is None:
        raise ValueError("n must be given for target='set': the rows that were evaluated")
    if target == "set" and total is None:
        raise ValueError(
            "n_total must be given for target='set': the rows of the whole evaluation sets"
        )
    if rows is not None and total is not None:
        for a, b in zip(rows, total, strict=True):
            if a > b:
                raise ValueError(f"n must not exceed n_total, got {a} of {b}")


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
    if isinstance(value, str):
        raise TypeError(f"{argument} must be a whole number, or one a task, got {value!r}")
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


def _gradients(grads: Any, ends: np.ndarray) -> tuple[pd.DataFrame, tuple[Answer, ...]]:
    if isinstance(grads, pd.DataFrame):
        needed = ["task", "step", "plasticity", "stability"]
        if missing := sorted(set(needed) - set(grads.columns)):
            raise ValueError(f"grads lacks the columns {', '.join(missing)}")
        values = grads[needed].to_numpy(float)
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError("grads must hold finite numbers from 0 on")
        weights = grads["weight"].to_numpy(float) if "weight" in grads else np.ones(1)
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError("grads must hold finite weights from 0 on")
        first = grads.loc[grads["step"] == 0, "task"]
        if lacking := sorted(set(grads["task"]) - set(first) - {0}):
            raise ValueError(f"grads must have step 0 of every task, it lacks that of {lacking}")
        why = "a table of norms does not show it"
        return grads, tuple(c.unchecked(why) for c in th.FIRST_STEP.conditions)
    from whp.continual._stability_gap.first_step import conditions_of

    made = conditions_of(grads)
    if grads.task_ends != tuple(ends.tolist()):
        raise ValueError(
            f"grads are of another run: its tasks ended at {grads.task_ends}, those of the curves at "
            f"{tuple(ends.tolist())}"
        )
    return made
