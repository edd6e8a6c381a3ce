"""The front door: images, classes and tasks in; a model that was given rest, and what that was worth."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.continual._stability_gap.bands import paired_limits
from whp.continual.view_batch import guarantee
from whp.intervals import Estimate, exact, mean, paired
from whp.io import Data
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_labels, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ViewBatchResult", "forgetting_of", "view_batch"]


@dataclass(frozen=True, eq=False)
class ViewBatchResult(Result):
    """A continual learner with view batches, beside the same without.

    Attributes
    ----------
    accuracy, accuracy_baseline : ndarray, shape (runs, K, K)
        Test accuracy of task i after task k at [run, k, i]; NaN for tasks to come. The baseline's is None without ``compare``.
    average_accuracy, forgetting, new_task_accuracy : Estimate
        At the end; mean over old tasks of the best less the last accuracy; mean accuracy of each task when it ended.
    baseline, difference : dict of str to Estimate
        The same three of the baseline, and paired differences, views less baseline.
    recall : DataFrame
        For each stream of a run: its cycle C, and least, mean and largest gap between visits of a sample.
    model : Module
        The last run's.
    certificates : tuple of Certificate
        ``minimum-rest``, ``mean-recall``, ``equal-work``, ``effective-batch``, ``view-consistency`` and ``forgetting``.
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
    model: Any = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Accuracy and forgetting, with and without views."""
        rows: dict[str, bool | int | float | str | None] = {
            "views": self.views,
            "runs": len(self.accuracy),
        }
        for name in ("average_accuracy", "forgetting", "new_task_accuracy"):
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
        return rows

    def artifacts(self) -> dict[str, Any]:
        """Accuracies, gaps and the weights of the model."""
        from safetensors.torch import save_file

        arrays = {"accuracy": self.accuracy}
        if self.accuracy_baseline is not None:
            arrays["accuracy_baseline"] = self.accuracy_baseline
        state = {k: v.contiguous() for k, v in self.model.state_dict().items()}
        return {
            "arrays.npz": arrays,
            "recall.csv": self.recall,
            "model.safetensors": lambda path: save_file(state, path),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Accuracy of each task over the tasks that came later, with views and without."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        K = self.accuracy.shape[1]
        for i in range(K):
            colour = f"C{i % 10}"
            ax.plot(
                range(i + 1, K + 1),
                np.nanmean(self.accuracy[:, i:, i], axis=0),
                "o-",
                color=colour,
                label=f"task {i + 1}",
            )
            if self.accuracy_baseline is not None:
                ax.plot(
                    range(i + 1, K + 1),
                    np.nanmean(self.accuracy_baseline[:, i:, i], axis=0),
                    "o--",
                    color=colour,
                    alpha=0.5,
                )
        ax.set(
            xlabel="tasks learnt (dashed: without views)",
            ylabel="test accuracy",
            xticks=range(1, K + 1),
        )
        ax.legend(frameon=False, fontsize=8)
        return ax


def forgetting_of(accuracy: np.ndarray) -> float:
    """Mean over old tasks of the best accuracy before the last task, less that after it; accuracy is (K, K)."""
    K = len(accuracy)
    if K < 2:
        return 0.0
    return float(np.mean([accuracy[i : K - 1, i].max() - accuracy[-1, i] for i in range(K - 1)]))


def view_batch(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    task: Annotated[Any, Data("labels")],
    *,
    model: Any = None,
    strategy: str | object = "er",
    scenario: Literal["auto", "class", "task", "domain"] = "auto",
    views: int = 4,
    views_on: Literal["both", "new", "memory"] = "both",
    ssl: bool = False,
    ssl_weight: float = 1.0,
    warmup: float = 0.25,
    weak: Literal["affine", "none"] | Callable[..., Any] = "affine",
    strong: Literal["affine"] | Callable[..., Any] | None = None,
    epochs: int = 8,
    batch_size: int = 32,
    lr: float = 0.05,
    memory: int = 200,
    shuffle: Literal["full", "window", "fixed"] = "full",
    window: int | None = None,
    compare: bool = True,
    test: float = 0.2,
    seeds: int = 1,
    diagnostics: bool = False,
    rng: np.random.Generator | int | None = None,
) -> ViewBatchResult:
    """Train a continual learner whose batches hold several views of few samples, and compare it with itself without.

    Both see the same images, from the same initial weights, at the same learning rate. For a loop of one's own take
    :class:`whp.continual.ViewBatchSampler` and :func:`whp.continual.view_batch_loss`.

    Parameters
    ----------
    X : array-like, shape (n, H, W), (n, C, H, W) or (n, p)
        Images in [0, 1]; rows of p pixels are taken as squares if p is a square number, else `weak` must be given.
    y : array-like, shape (n,)
        Classes from 0.
    task : array-like, shape (n,)
        Number of the task, from 0, in the order of arrival.
    model : Module, optional
        By default a small convolutional network.
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
    ssl_weight : float
        Weight of that.
    warmup : float
        Share of a task's steps before it sets in.
    weak, strong : str, callable or None
        Views: ``"affine"``, ``"none"`` or ``view(x, generator)`` of a batch. The first view is weak, the others strong, or weak too
        if `strong` is None.
    epochs, batch_size : int
        Of each task.
    lr : float
        Of SGD.
    memory : int
        Rows of a memory, for the strategies that have one.
    shuffle : {"full", "window", "fixed"}
        Order of the samples: anew in every cycle, inside windows of it, or always the same.
    window : int, optional
        Steps over which a sample's place may move, for ``shuffle="window"``.
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
    from whp.continual.view_batch import runs

    images, labels, tasks = _checked(X, y, task)
    K = int(tasks.max()) + 1
    as_choice(scenario, "scenario", ("auto", "class", "task", "domain"))
    classes = [np.unique(labels[tasks == k]) for k in range(K)]
    if scenario == "auto":
        shared = K > 1 and any(np.isin(classes[0], c).any() for c in classes[1:])
        scenario = "domain" if shared else "class"
    if scenario == "task" and (lonely := [k for k, c in enumerate(classes) if len(c) < 2]):
        raise ValueError(
            f"task {lonely[0]} has one class, which is nothing to learn for scenario='task'"
        )
    as_choice(views_on, "views_on", ("both", "new", "memory"))
    for name, value in (("ssl", ssl), ("compare", compare), ("diagnostics", diagnostics)):
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    share, seeds = as_fraction(test, "test"), as_int(seeds, "seeds", low=1)
    memory = as_int(memory, "memory", low=1)
    warmup = as_real(warmup, "warmup", low=0, high=1)
    setting = runs.Setting(
        strategy=strategy,
        scenario=scenario,
        views=as_int(views, "views", low=1),
        views_on=views_on,
        ssl=bool(ssl),
        ssl_weight=as_real(ssl_weight, "ssl_weight", low=0, high=1e9),
        warmup=warmup,
        weak=runs.view_of(weak, "weak", images.shape),
        strong=None if strong is None else runs.view_of(strong, "strong", images.shape),
        epochs=as_int(epochs, "epochs", low=1),
        batch_size=as_int(batch_size, "batch_size", low=1),
        lr=as_real(lr, "lr", low=0, high=1e6),
        memory=memory,
        shuffle=shuffle,
        window=window,
    )
    runs.check(setting, model, [int((tasks == k).sum() * (1 - share)) for k in range(K)])
    if setting.epochs % setting.views:
        warnings.warn(
            f"epochs={setting.epochs} is not a multiple of views={setting.views}: the last cycle stays incomplete, and samples are "
            "not seen equally often",
            stacklevel=2,
        )
    generator = np.random.default_rng(rng)
    ours, theirs, seed = [], [], 0
    for _ in range(seeds):
        seed = int(generator.integers(2**31))
        split = runs.split(images, labels, tasks, share, seed)
        fresh = runs.fresh(model, images.shape, int(labels.max()) + 1, seed)
        ours.append(runs.train(setting, split, fresh(), seed))
        if compare:
            theirs.append(runs.train(setting.without_views(), split, fresh(), seed))
    return _result(
        setting, ours, theirs, runs.diagnose(setting, ours[-1], seed) if diagnostics else None
    )


def _checked(X: Any, y: Any, task: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if X is None:
        raise TypeError("X must be an array of images, got None")
    try:
        images = np.asarray(X, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise TypeError(f"X must be an array of numbers: {error}") from error
    if images.ndim not in (2, 3, 4) or not images.size:
        raise ValueError(f"X must be (n, H, W), (n, C, H, W) or (n, p), got shape {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("X must be finite, got NaN or infinity")
    if images.min() < 0 or images.max() > 1:
        advice = "; divide by 255" if images.min() >= 0 and images.max() <= 255 else ""
        raise ValueError(
            f"X must lie in [0, 1], got minimum {images.min():g}, maximum {images.max():g}{advice}"
        )
    labels, tasks = as_labels(y, "y", size=len(images)), as_labels(task, "task", size=len(images))
    present = np.unique(tasks)
    if len(present) != present[-1] + 1:
        missing = int(np.setdiff1d(np.arange(present[-1] + 1), present)[0])
        raise ValueError(
            f"task must number the tasks from 0 without a gap, got none of task {missing}"
        )
    if images.ndim == 3:
        images = images[:, None]
    return images, labels, tasks


def _scores(accuracy: np.ndarray) -> dict[str, np.ndarray]:
    runs = range(len(accuracy))
    return {
        "average_accuracy": np.array([accuracy[r, -1].mean() for r in runs]),
        "forgetting": np.array([forgetting_of(accuracy[r]) for r in runs]),
        "new_task_accuracy": np.array([np.diag(accuracy[r]).mean() for r in runs]),
    }


def _estimate(values: np.ndarray) -> Estimate:
    return exact(float(values[0])) if len(values) == 1 else mean(values)


def _result(setting: Any, ours: list[Any], theirs: list[Any], diagnosed: Any) -> ViewBatchResult:
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
            difference["forgetting"] = _paired_rows(ours[0], theirs[0])
    schedules = [s for run in ours for s in run.schedules]
    new = [
        s for stream, s in schedules if stream == "new"
    ]  # a memory is cut off in the middle of a cycle
    certificates = [guarantee.worst([s.certificates[i] for s in new]) for i in range(3)]
    consistency = [r.consistency for r in ours if r.consistency is not None]
    if diagnosed is not None:
        certificates.append(diagnosed)
    if consistency:
        certificates.append(guarantee.worst(consistency))
    if mine.shape[1] > 1:
        certificates.append(guarantee.forgetting(difference.get("forgetting"), len(mine)))
    rows = []
    for stream, s in schedules:
        gaps = s.gaps()
        if len(gaps):
            rows.append(
                (
                    stream,
                    s.n,
                    s.views,
                    s.cycle,
                    float(gaps.mean()),
                    int(gaps.min()),
                    int(gaps.max()),
                )
            )
    return ViewBatchResult(
        accuracy=mine,
        accuracy_baseline=base,
        **{k: _estimate(v) for k, v in scores.items()},
        baseline=baseline,
        difference=difference,
        recall=pd.DataFrame(rows, columns=["stream", "n", "views", "C", "mean", "min", "max"]),
        views=setting.views,
        model=ours[-1].model,
        certificates=tuple(certificates),
    )


def _paired_rows(ours: Any, theirs: Any, delta: float = 0.05) -> Estimate:
    """Difference of forgetting with limits over test rows: each method's falls are bounded by paired rows, for all its maxima."""
    K = len(ours.accuracy)
    pairs = 2 * sum(K - 1 - i for i in range(K - 1))
    ends = []
    for run in (ours, theirs):
        low = high = 0.0
        for i in range(K - 1):
            last = run.right[i][K - 1]
            limits = [
                paired_limits(
                    (run.right[i][k] & ~last).sum(),
                    (~run.right[i][k] & last).sum(),
                    len(last),
                    delta / (4 * pairs),
                )
                for k in range(i, K - 1)
            ]
            low += max(float(a) for a, _ in limits) / (K - 1)
            high += max(float(b) for _, b in limits) / (K - 1)
        ends.append((low, high))
    value = forgetting_of(ours.accuracy) - forgetting_of(theirs.accuracy)
    return Estimate(
        value,
        min(value, ends[0][0] - ends[1][1]),
        max(value, ends[0][1] - ends[1][0]),
        1 - delta,
        len(ours.right[0][0]),
        "exact, paired test rows",
    )
