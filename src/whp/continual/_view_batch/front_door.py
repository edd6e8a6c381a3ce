"""The front door: images, classes and tasks in; a model that was given rest, and what that was worth."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate, worst
from whp.continual._view_batch.data import as_tasks, two_rows_each
from whp.continual._view_batch.forgetting import compared, forgetting_of, paired_rows
from whp.door import Above, AtLeast, Between, Fraction, Range, front_door
from whp.intervals import Estimate, exact, mean, paired
from whp.io import Data
from whp.provenance import plain_generator
from whp.result import PALETTE, Result
from whp.validate import same_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ViewBatchResult", "view_batch"]


@dataclass(frozen=True, eq=False)
class ViewBatchResult(Result):
    """A continual learner with view batches, beside the same without.

    Attributes
    ----------
    accuracy, accuracy_baseline : ndarray, shape (runs, K, K)
        Test accuracy of task i after task k at [run, k, i]; NaN for tasks to come. The baseline's is None without ``compare``.
    average_accuracy, forgetting, new_task_accuracy : Estimate
        At the end; mean over old tasks of the best less the last accuracy, 0 of one task; mean accuracy of each task when it ended.
    baseline, difference : dict of str to Estimate
        The same three of the baseline, and paired differences, views less baseline.
    recall : DataFrame
        For each stream of a run: its cycle C, and least, mean and largest gap between visits of a sample.
    flipped : float or None
        Share of views whose decision is not that of the sample's first view, in the end; None of one view.
    read_as : tuple of str
        What was read as something else than it was: bytes, channels, names of classes and tasks.
    model : Module
        The last run's.
    certificates : tuple of Certificate
        ``minimum-rest``, ``mean-recall``, ``equal-work``, with ``diagnostics`` ``effective-batch``, and, of several tasks,
        ``forgetting``.
    """

    accuracy: np.ndarray
    accuracy_baseline: np.ndarray | None
    average_accuracy: Estimate
    forgetting: Estimate
    new_task_accuracy: Estimate
    baseline: dict[str, Estimate]
    difference: dict[str, Estimate]
    recall: pd.DataFrame
    views: int
    flipped: float | None
    read_as: tuple[str, ...]
    model: Any = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Accuracy and forgetting, with and without views."""
        rows: dict[str, bool | int | float | str | None] = {
            "views": self.views,
            "runs": len(self.accuracy),
        }
        for name in ("average_accuracy", "forgetting", "new_task_accuracy"):
            if name == "forgetting" and self.accuracy.shape[1] == 1:
                rows[name] = "there was one task"
                continue
            rows[name] = str(getattr(self, name))
            if self.baseline:
                rows[name] = (
                    f"{rows[name]}; {self.baseline[name]} without, difference {self.difference[name]}"
                )
        new = self.recall[self.recall["stream"] == "new"]
        rows["steps_between_visits"] = (
            f"{new['mean'].mean():.4g} on average, {new['min'].min():g} at least"
            if len(new)
            else "no sample came back"
        )
        rows["decisions_changed_by_a_view"] = self.flipped
        rows["read_as"] = "; ".join(self.read_as) or "it was given"
        return rows

    def artifacts(self) -> dict[str, Any]:
        """Accuracies, gaps and the weights of the model."""
        from safetensors.torch import save_file

        arrays = {"accuracy": self.accuracy}
        if self.accuracy_baseline is not None:
            arrays["accuracy_baseline"] = self.accuracy_baseline
        weights = {k: v.detach() for k, v in self.model.state_dict().items()}
        state = {k: v.cpu().contiguous() for k, v in weights.items()}  # a file is of no device
        return {
            "arrays.npz": arrays,
            "recall.csv": self.recall,
            "model.safetensors": lambda path: save_file(state, path),
        }

    def draw(self, ax: Axes) -> None:
        """Accuracy of each task over the tasks that came later, with views and without."""
        K = self.accuracy.shape[1]
        sets = [("with views", self.accuracy, PALETTE["ours"], "o-")]
        if self.accuracy_baseline is not None:
            sets.append(("without", self.accuracy_baseline, PALETTE["other"], "s--"))
        for label, accuracy, colour, style in sets:
            for i in range(K):
                ax.plot(
                    range(i + 1, K + 1),
                    accuracy[:, i:, i].mean(axis=0),
                    style,
                    color=colour,
                    alpha=1 - 0.6 * i / K,
                    markersize=4,
                    label=label if i == 0 else None,
                )
        ax.set(xlabel="tasks learnt, a line a task", ylabel="test accuracy", xticks=range(1, K + 1))
        ax.legend(frameon=False, fontsize=8)


@front_door
def view_batch(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    task: Annotated[Any, Data("labels")],
    *,
    model: Any = None,
    strategy: str | object = "er",
    scenario: Literal["auto", "class", "task", "domain"] = "auto",
    views: Annotated[int, AtLeast(1)] = 4,
    views_on: Literal["both", "new", "memory"] = "both",
    ssl: bool = False,
    ssl_weight: Annotated[float, Range(0, 1e9)] | None = None,
    warmup: Annotated[float, Between(0, 1)] | None = None,
    weak: Literal["affine", "none"] | Callable[..., Any] = "affine",
    strong: Literal["affine"] | Callable[..., Any] | None = None,
    epochs: Annotated[int, AtLeast(1)] = 8,
    batch_size: Annotated[int, AtLeast(1)] = 32,
    lr: Annotated[float, Above(0)] = 0.05,
    memory: Annotated[int, AtLeast(1)] | None = None,
    shuffle: Literal["full", "window", "fixed"] | None = None,
    window: Annotated[int, AtLeast(1)] | None = None,
    compare: bool = True,
    test: Annotated[float, Fraction()] = 0.2,
    seeds: Annotated[int, AtLeast(1)] = 1,
    diagnostics: bool = False,
    rng: np.random.Generator | int | None = None,
) -> ViewBatchResult:
    """Train a continual learner whose batches hold several views of few samples, and compare it with itself without.

    Both see the same images, from the same initial weights, at the same learning rate. For a loop of one's own take
    :class:`whp.continual.ViewBatchSampler` and :func:`whp.continual.view_batch_loss`.

    Parameters
    ----------
    X : array-like, shape (n, H, W), (n, C, H, W), (n, H, W, C) or (n, p)
        Images in [0, 1], or bytes, which are divided by 255; a last axis of 1, 3 or 4 is channels. Rows of p pixels are taken as
        squares if p is a square number, else `weak` must be given.
    y : array-like, shape (n,)
        Classes: numbers or text. For a `model` of your own numbers are its outputs.
    task : array-like, shape (n,)
        Tasks: numbers, which come in their order, or text, in the order of its first appearance.
    model : Module, optional
        A copy of it is trained, on its own device; by default a small convolutional network.
    strategy : str or Strategy
        finetune, joint, er, gem, agem, lwf, ewc, si, or an object; see :func:`whp.continual.continual_fit`.
    scenario : {"auto", "class", "task", "domain"}
        By default ``"class"``, or ``"domain"`` if tasks share classes.
    views : int
        Views V of each sample in a batch; must divide batch_size, and should divide `epochs`.
    views_on : {"both", "new", "memory"}
        Which stream is shown in views, of those that replay.
    ssl : bool
        Tie a sample's views to its first.
    ssl_weight : float, optional
        Weight of the tie between views, 1 by default.
    warmup : float, optional
        Share of a task's steps before the tie between views sets in, 0.25 by default.
    weak, strong : str, callable or None
        Views: ``"affine"``, ``"none"`` or ``view(x, generator)`` of a batch. The first view is weak, the others strong, or weak too
        if `strong` is None.
    epochs : int
        Epochs a task, of as many images as the task has; at least `views`.
    batch_size : int
        Images a step, all views counted.
    lr : float
        Learning rate of SGD.
    memory : int, optional
        Rows of a memory, for the strategies that have one; 200 by default.
    shuffle : {"full", "window", "fixed"}, optional
        Order of the samples shown in views: anew in every cycle, inside windows of it, or always the same. By default full, or
        in windows if `window` is given.
    window : int, optional
        Steps over which a sample's place may move from cycle to cycle.
    compare : bool
        Train without views as well.
    test : float
        Share of each class of each task that is held out.
    seeds : int
        Runs, each with its own split and weights.
    diagnostics : bool
        Measure the variance of gradients, for ``effective-batch``.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    ViewBatchResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    from whp.continual._view_batch import noise, runs

    same_order(X=X, y=y, task=task)
    data = as_tasks(X, y, task, own_model=model is not None)
    two_rows_each(data)
    images, labels, tasks = data.images, data.labels, data.tasks
    K = len(data.order)
    classes = [np.unique(labels[tasks == k]) for k in range(K)]
    if scenario == "auto":
        shared = K > 1 and any(np.isin(classes[0], c).any() for c in classes[1:])
        scenario = "domain" if shared else "class"
    if scenario == "task" and (lonely := [k for k, c in enumerate(classes) if len(c) < 2]):
        raise ValueError(
            f"task {data.order[lonely[0]]} has one class, which is nothing to learn for scenario='task'"
        )
    for name, value in (("ssl_weight", ssl_weight), ("warmup", warmup)):
        if value is not None and not (ssl and views > 1):
            raise ValueError(f"{name} goes with ssl=True and views above 1")
    if memory is not None and isinstance(strategy, str) and strategy not in runs.WITH_MEMORY:
        raise ValueError(f"memory goes with {', '.join(runs.WITH_MEMORY)}, not with {strategy!r}")
    for name, given in (("diagnostics", diagnostics), ("ssl", ssl), ("strong", strong is not None)):
        if given and views == 1:
            raise ValueError(f"{name} goes with views above 1")
    setting = runs.Setting(
        strategy=strategy,
        scenario=scenario,
        views=views,
        views_on=views_on,
        ssl=ssl,
        ssl_weight=1.0 if ssl_weight is None else ssl_weight,
        warmup=0.25 if warmup is None else warmup,
        weak=runs.view_of(weak, "weak", images.shape),
        strong=None if strong is None else runs.view_of(strong, "strong", images.shape),
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        memory=200 if memory is None else memory,
        shuffle=shuffle,
        window=window,
    )
    width = len(data.classes)
    sizes = [len(part[1]) for part in runs.split(images, labels, tasks, test, 0)[0]]
    named = dict(zip(map(str, data.order), sizes, strict=True))
    runs.check(setting, model, named, width, runs.as_tensor(images[:1]), compare)
    if epochs % setting.on_new:
        warnings.warn(
            f"epochs={epochs} is not a multiple of views={views}: the last cycle stays incomplete, and samples are "
            "not seen equally often",
            stacklevel=3,
        )
    generator = np.random.default_rng(rng)
    ours, theirs, seed = [], [], 0
    for _ in range(seeds):
        seed = int(generator.integers(2**31))
        split = runs.split(images, labels, tasks, test, seed)
        fresh = runs.fresh(model, images.shape, width, seed)
        ours.append(runs.train(setting, split, fresh(), seed))
        if compare:
            theirs.append(runs.train(setting.without_views(), split, fresh(), seed))
    certificates = _rest(setting, ours)
    if diagnostics:
        found = runs.gradients(setting, ours[-1], seed)
        rows, stream = len(ours[-1].last[1]), np.random.default_rng(seed)
        certificates.append(
            noise.certified(found, rows, batch_size, views, stream, runs.alike(setting))
        )
    if K > 1:
        drawn = setting.built_in and model is None and plain_generator(rng)
        certificates.append(compared(setting, ours, theirs, drawn))
    return _result(setting, ours, theirs, tuple(certificates), data.notes)


def _rest(setting: Any, ours: list[Any]) -> list[Certificate]:
    """The worst over tasks and runs, of new samples; the memory's cycles are cut off where a task ends."""
    made: dict[str, dict[str, Certificate]] = {}
    for r, run in enumerate(ours):
        new = [s for stream, s in run.schedules if stream == "new"]
        for k, schedule in enumerate(new):
            for c in schedule.certified(setting.trained):
                where = f"task {k + 1}" if len(ours) == 1 else f"run {r + 1}, task {k + 1}"
                made.setdefault(c.name, {})[where] = c
    return [worst(each) for each in made.values()]


def _scores(accuracy: np.ndarray) -> dict[str, np.ndarray]:
    runs = range(len(accuracy))
    return {
        "average_accuracy": np.array([accuracy[r, -1].mean() for r in runs]),
        "forgetting": np.array([forgetting_of(accuracy[r]) for r in runs]),
        "new_task_accuracy": np.array([np.diag(accuracy[r]).mean() for r in runs]),
    }


def _estimate(values: np.ndarray) -> Estimate:
    return exact(float(values[0])) if len(values) == 1 else mean(values)


def _result(
    setting: Any,
    ours: list[Any],
    theirs: list[Any],
    certificates: tuple[Certificate, ...],
    notes: tuple[str, ...],
) -> ViewBatchResult:
    mine = np.stack([r.accuracy for r in ours])
    base = np.stack([r.accuracy for r in theirs]) if theirs else None
    scores = _scores(mine)
    baseline, difference = {}, {}
    if base is not None:
        other = _scores(base)
        baseline = {k: _estimate(v) for k, v in other.items()}
        difference = {
            k: paired(v, other[k]) if len(v) > 1 else exact(float(v[0] - other[k][0]))
            for k, v in scores.items()
        }
        if len(mine) == 1 and mine.shape[1] > 1:
            difference["forgetting"] = paired_rows(ours[0], theirs[0])
    rows = []
    for stream, s in (each for run in ours for each in run.schedules):
        gaps = s.gaps()
        if len(gaps):
            ends = (float(gaps.mean()), int(gaps.min()), int(gaps.max()))
            rows.append((stream, s.n, s.views, s.cycle, *ends))
    flipped = [r.flipped for r in ours if r.flipped is not None]
    return ViewBatchResult(
        accuracy=mine,
        accuracy_baseline=base,
        **{k: _estimate(v) for k, v in scores.items()},
        baseline=baseline,
        difference=difference,
        recall=pd.DataFrame(rows, columns=["stream", "n", "views", "C", "mean", "min", "max"]),
        views=setting.views,
        flipped=float(np.mean(flipped)) if flipped else None,
        read_as=notes,
        model=ours[-1].model,
        certificates=certificates,
    )
