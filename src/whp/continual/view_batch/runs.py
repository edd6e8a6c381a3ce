"""One run of training, with views or without, and what it leaves to certify."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from whp.certificate import Certificate
from whp.continual import strategies
from whp.continual.backbones import cnn, mlp
from whp.continual.training import Watcher, continual_fit
from whp.continual.view_batch import guarantee
from whp.continual.view_batch.loss import (
    View,
    identity,
    in_views,
    strong_view,
    view_divergence,
    weak_view,
)
from whp.continual.view_batch.schedule import Plan, Schedule, cycle_order, plan, recall_schedule
from whp.intervals import Estimate

__all__ = ["Run", "Setting", "check", "diagnose", "fresh", "split", "train", "view_of"]

BATCHES = 400  # gradients of trained networks have heavy tails: few rows carry most of the variance
SAMPLES = 64
DIRECTIONS = 16
CHECKED = 512


@dataclass(frozen=True, eq=False)
class Setting:
    """How a run is trained; see :func:`whp.continual.view_batch`."""

    strategy: Any
    scenario: str
    views: int
    views_on: str
    ssl: bool
    ssl_weight: float
    warmup: float
    weak: View
    strong: View | None
    epochs: int
    batch_size: int
    lr: float
    memory: int
    shuffle: Any
    window: int | None

    def without_views(self) -> Setting:
        """The ordinary loader: one weak view a sample, every epoch in a new order."""
        return replace(
            self, views=1, ssl=False, strong=None, shuffle="full", window=None, views_on="both"
        )

    @property
    def on_new(self) -> int:
        """Views of new samples."""
        return 1 if self.views_on == "memory" else self.views

    @property
    def options(self) -> dict[str, Any]:
        """Of the strategy, if it is given by name."""
        return {"memory": self.memory} if self.strategy in ("er", "gem", "agem") else {}


@dataclass(frozen=True, eq=False)
class Run:
    """What a run leaves behind.

    Attributes
    ----------
    accuracy : ndarray, shape (K, K)
        Of task i after task k at [k, i].
    right : list of dict
        For each task, which of its test rows were right after task k.
    schedules : list of (str, Schedule)
        What was delivered, by stream.
    """

    model: nn.Module
    accuracy: np.ndarray
    right: list[dict[int, np.ndarray]]
    schedules: list[tuple[str, Schedule]]
    consistency: Certificate | None
    last: tuple[Tensor, Tensor]


Split = tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, Tensor]]]


def view_of(value: Any, argument: str, shape: tuple[int, ...]) -> View:
    """A view by its name, or the callable that was given."""
    if callable(value):
        return cast(View, value)
    if value == "none":
        return identity
    if value != "affine":
        raise ValueError(f"{argument} must be 'affine', 'none' or a callable, got {value!r}")
    if len(shape) == 2 and round(shape[1] ** 0.5) ** 2 != shape[1]:
        raise ValueError(
            f"{argument} must be 'none' or a callable for rows of {shape[1]} numbers, which are no square image"
        )
    return weak_view if argument == "weak" else strong_view


def check(setting: Setting, model: Any, sizes: list[int]) -> None:
    """Refuse before anything is trained what a later task would stumble over."""
    if model is not None and not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    strategies.make(setting.strategy, setting.options)
    for n in sizes:
        plan(
            max(n, 1),
            setting.batch_size,
            setting.on_new,
            setting.epochs,
            setting.shuffle if setting.on_new > 1 else "full",
            setting.window if setting.on_new > 1 else None,
        )
    plan(1, setting.batch_size, setting.views, None, "full", None)


def split(X: np.ndarray, y: np.ndarray, task: np.ndarray, share: float, seed: int) -> Split:
    """Training and test rows of each task, stratified by class; at least one of each."""
    rng = np.random.default_rng(seed)
    train: list[tuple[Tensor, Tensor]] = []
    test: list[tuple[Tensor, Tensor]] = []
    for k in range(int(task.max()) + 1):
        inside, outside = [], []
        for c in np.unique(y[task == k]):
            rows = rng.permutation(np.flatnonzero((task == k) & (y == c)))
            if len(rows) < 2:
                raise ValueError(
                    f"y must have two rows of each class of a task, class {c} of task {k} has {len(rows)}"
                )
            held = min(max(1, round(share * len(rows))), len(rows) - 1)
            outside.append(rows[:held])
            inside.append(rows[held:])
        for part, rows in ((train, inside), (test, outside)):
            chosen = np.concatenate(rows)
            part.append((torch.from_numpy(X[chosen]), torch.from_numpy(y[chosen])))
    return train, test


def fresh(model: Any, shape: tuple[int, ...], classes: int, seed: int) -> Callable[[], nn.Module]:
    """A maker of networks with equal initial weights."""

    def made() -> nn.Module:
        if model is not None:
            return copy.deepcopy(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if len(shape) == 4:
                return cnn((shape[1], shape[2], shape[3]), classes)
            side = round(shape[1] ** 0.5)
            return (
                cnn((1, side, side), classes)
                if side**2 == shape[1] and side >= 4
                else mlp(100, shape[1], classes)
            )

    return made


class _Ends(Watcher):
    """Tests all tasks seen so far at the end of each."""

    def __init__(self, test: list[tuple[Tensor, Tensor]], scenario: str) -> None:
        self.test, self.scenario = test, scenario
        self.classes = [torch.unique(y) for _, y in test]
        self.accuracy = np.full((len(test), len(test)), np.nan)
        self.right: list[dict[int, np.ndarray]] = [{} for _ in test]

    def after_task(self, k: int, model: nn.Module) -> None:
        training = model.training
        model.eval()
        with torch.inference_mode():
            for i, (X, y) in enumerate(self.test[: k + 1]):
                z = torch.cat([model(part) for part in X.split(1024)])
                if self.scenario == "task":
                    z = z + torch.full((z.shape[1],), -torch.inf).index_fill(
                        0, self.classes[i], 0.0
                    )
                right = (z.argmax(dim=1) == y).numpy()
                self.right[i][k], self.accuracy[k, i] = right, right.mean()
        model.train(training)


def train(setting: Setting, parts: Split, model: nn.Module, seed: int) -> Run:
    """Train on all tasks; orders, views and memory depend on the seed alone."""
    pixels = torch.Generator().manual_seed(seed)
    orders = np.random.default_rng(seed)
    schedules: list[tuple[str, Schedule]] = []
    stored: list[tuple[Plan, list[np.ndarray]]] = []
    tied = {"on": False, "memory": 1}

    def batches(
        k: int, X: Tensor, y: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        views = setting.on_new
        shuffle, window = (setting.shuffle, setting.window) if views > 1 else ("full", None)
        schedule = recall_schedule(
            len(y),
            setting.batch_size,
            views=views,
            epochs=setting.epochs,
            shuffle=shuffle,
            window=window,
            rng=orders,
        )
        schedules.append(("new", schedule))
        for step, samples in enumerate(schedule.steps):
            tied["on"] = setting.ssl and step >= setting.warmup * schedule.total
            rows = torch.from_numpy(samples)
            yield (
                in_views(X[rows], views, setting.weak, setting.strong, pixels),
                y[rows].repeat_interleave(views),
            )

    def memory_batches(X: Tensor, numbers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        views = 1 if setting.views_on == "new" else setting.views
        while views > 1 and (
            len(numbers) < setting.batch_size // views or setting.batch_size % views
        ):
            views -= 1  # a memory smaller than a step's distinct samples
        tied["memory"] = views
        cycle = -(-len(numbers) // (setting.batch_size // views))
        window = (
            cycle if views == 1 or setting.shuffle == "full" else min(setting.window or 1, cycle)
        )
        sizes = Plan(len(numbers), setting.batch_size // views, views, cycle, window, 0)
        base = orders.permutation(sizes.n)
        delivered: list[np.ndarray] = []
        stored.append((sizes, delivered))
        while True:
            order = cycle_order(sizes, base, orders)
            for samples in np.split(order, np.arange(sizes.distinct, sizes.n, sizes.distinct)):
                rows = torch.from_numpy(samples)
                delivered.append(samples)
                x = in_views(X[rows], views, setting.weak, setting.strong, pixels)
                yield x, numbers[rows].repeat_interleave(views)

    def criterion(z: Tensor, y: Tensor, memory: bool) -> Tensor:
        views = tied["memory"] if memory else setting.on_new
        loss = functional.cross_entropy(z, y)
        if tied["on"] and views > 1:
            finite = z.masked_fill(torch.isinf(z), -1e4)  # classes of other tasks
            loss = loss + setting.ssl_weight * view_divergence(finite, views).mean()
        return loss

    train_parts, test_parts = parts
    ends = _Ends(test_parts, setting.scenario)
    fit = continual_fit(
        model,
        train_parts,
        strategy=setting.strategy,
        scenario=setting.scenario,
        lr=setting.lr,
        batch_size=setting.batch_size,
        epochs=setting.epochs,
        batches=batches,
        memory_batches=memory_batches,
        criterion=criterion,
        evaluator=ends,
        random_state=seed,
        **setting.options,
    )
    for sizes, delivered in stored:
        at = np.repeat(np.arange(len(delivered)), [len(d) for d in delivered])
        flat = np.concatenate(delivered)
        log = Schedule(sizes.n, flat, at, sizes.views, sizes.cycle, sizes.window, len(delivered))
        schedules.append(("memory", log))
    X, y = train_parts[-1]
    consistency = _consistency(setting, fit.model, X, pixels) if setting.views > 1 else None
    return Run(fit.model, ends.accuracy, ends.right, schedules, consistency, (X, y))


def _consistency(
    setting: Setting, model: nn.Module, X: Tensor, generator: torch.Generator
) -> Certificate:
    rows = X[torch.randperm(len(X), generator=generator)[:CHECKED]]
    training = model.training
    model.eval()
    with torch.inference_mode():
        z = model(in_views(rows, setting.views, setting.weak, setting.strong, generator))
        log_p = functional.log_softmax(z.double(), dim=1).view(len(rows), setting.views, -1)
    model.train(training)
    return guarantee.view_consistency(log_p.numpy(), setting.views)


def diagnose(setting: Setting, run: Run, seed: int) -> Certificate:
    """Variance of the gradients of view batches over ordinary ones, at the final weights, along random directions."""
    X, y = run.last
    n, B, V = len(y), setting.batch_size, setting.views
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    directions = torch.randn(DIRECTIONS, size, generator=generator)

    def gradient(x: Tensor, labels: Tensor) -> np.ndarray:
        grads = torch.autograd.grad(functional.cross_entropy(run.model(x), labels), parameters)
        return (directions @ torch.cat([g.flatten() for g in grads])).double().numpy()

    def batch(views: int) -> np.ndarray:
        rows = torch.from_numpy(rng.permutation(n)[: B // views])
        x = in_views(X[rows], views, setting.weak, setting.strong, generator)
        return gradient(x, y[rows].repeat_interleave(views))

    inputs: dict[str, Any] = {"n": n, "batch": B, "views": V}
    if V == 1 or n <= B:
        return guarantee.effective_batch(None, n, B, V, inputs, None)
    run.model.eval()
    found = np.stack([[batch(V), batch(1)] for _ in range(BATCHES)])  # (batches, 2, directions)
    variance = found.var(axis=0, ddof=1).mean(axis=1)
    ratio = float(variance[0] / variance[1])
    drawn = []
    for _ in range(1000):
        again = found[rng.integers(0, BATCHES, BATCHES)].var(axis=0, ddof=1).mean(axis=1)
        drawn.append(again[0] / again[1])
    low, high = np.quantile(drawn, [0.025, 0.975])
    rows = torch.from_numpy(rng.permutation(n)[: min(SAMPLES, n)])
    x = in_views(X[rows], V, setting.weak, setting.strong, generator)
    single = np.stack(
        [gradient(x[i : i + 1], y[rows[i // V]][None]) for i in range(len(x))]
    ).reshape(len(rows), V, DIRECTIONS)
    within = single.var(axis=1, ddof=1).mean()
    between = max(0.0, float(single.mean(axis=1).var(axis=0, ddof=1).mean() - within / V))
    predicted = guarantee.design_effect(n, B, V, between, float(within))
    inputs |= {
        "rho": between / max(between + float(within), 1e-300),
        "predicted ratio": predicted[0] / predicted[1],
    }
    pairs = x.view(len(rows), V, -1)
    differ = not any(
        bool((pairs[:, i] == pairs[:, j]).all(dim=1).any()) for i in range(V) for j in range(i)
    )
    return guarantee.effective_batch(
        Estimate(ratio, min(low, ratio), max(high, ratio), 0.95, BATCHES, "bootstrap of batches"),
        n,
        B,
        V,
        inputs,
        differ,
    )
