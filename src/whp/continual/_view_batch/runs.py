"""One run of training, with views or without, and what it leaves to certify."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from whp.certificate import Answer
from whp.continual import strategies
from whp.continual._view_batch import theorems as th
from whp.continual._view_batch.loss import view_divergence
from whp.continual._view_batch.noise import ROUNDING, Gradients
from whp.continual._view_batch.schedule import Plan, Schedule, cycle_order, plan, recall_schedule
from whp.continual._view_batch.views import View, identity, in_views, strong_view, weak_view
from whp.continual.backbones import cnn, mlp
from whp.continual.training import Watcher, continual_fit

__all__ = ["Run", "Setting", "check", "fresh", "gradients", "split", "train", "view_of"]

BATCHES = 400  # gradients of trained networks have heavy tails: few rows carry most of the variance
SAMPLES = 64
DIRECTIONS = 16
CHECKED = 512
WITH_MEMORY = ("er", "gem", "agem")


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
    shuffle: Any = None
    window: int | None = None

    def without_views(self) -> Setting:
        """The ordinary loader: one weak view a sample, every epoch in a new order."""
        return replace(
            self, views=1, ssl=False, strong=None, shuffle=None, window=None, views_on="both"
        )

    @property
    def on_new(self) -> int:
        """Views of new samples."""
        return 1 if self.views_on == "memory" else self.views

    @property
    def options(self) -> dict[str, Any]:
        """Of the strategy, if it is given by name."""
        named = isinstance(self.strategy, str) and self.strategy in WITH_MEMORY
        return {"memory": self.memory} if named else {}

    @property
    def built_in(self) -> bool:
        """Whether strategy and views are this library's, which keep no state and leave nothing out."""
        views = (self.weak, self.strong)
        # by identity: an object may call itself equal to anything
        own = (weak_view, strong_view, identity, None)
        return type(self.strategy) is str and all(any(v is o for o in own) for v in views)

    @property
    def trained(self) -> Answer:
        """Whether what a run delivers is what its model learns from."""
        if self.built_in:
            return th.TRAINED.by_construction("the front door feeds the model itself")
        return th.TRAINED.unchecked("a strategy or views of one's own may leave images out")


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
        What was trained, by stream.
    flipped : float or None
        Share of views whose decision is not that of the sample's first one, in the end.
    updates, new, stored : int
        Updates, and images of new and of stored samples that went into them.
    start, moved : ndarray
        Initial weights, and how far each went.
    """

    model: nn.Module
    accuracy: np.ndarray
    right: list[dict[int, np.ndarray]]
    schedules: list[tuple[str, Schedule]]
    flipped: float | None
    last: tuple[Tensor, Tensor]
    updates: int
    new: int
    stored: int
    start: np.ndarray
    moved: np.ndarray


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


def check(
    setting: Setting, model: Any, sizes: dict[str, int], classes: int, image: Tensor, compare: bool
) -> None:
    """Refuse before anything is trained what a later task would stumble over.

    Parameters
    ----------
    sizes : dict of str to int
        Training rows of each task.
    classes : int
        One more than the largest class number.
    image : Tensor, shape (1, ...)
        What a model is given.
    compare : bool
        Whether it is trained without views as well.
    """
    if model is not None:
        _check_model(model, classes, image)
    strategies.make(setting.strategy, setting.options)
    if (
        setting.views_on == "memory"
        and isinstance(setting.strategy, str)
        and setting.strategy != "er"
    ):
        raise ValueError(
            f"views_on must be 'new' or 'both' for strategy={setting.strategy!r}, which draws no "
            "batches from a memory"
        )
    plan(1, setting.batch_size, setting.views, setting.epochs if setting.on_new > 1 else None)
    for k, (name, n) in enumerate(sizes.items()):
        try:
            plan(n, setting.batch_size, setting.on_new, setting.epochs, *order_of(setting, "new"))
        except ValueError as error:
            raise ValueError(f"{error}, for task {name} of {n} rows") from error
        alone = k == 0 or setting.strategy != "er"  # which adds rows of its memory
        known = isinstance(setting.strategy, str) and setting.strategy != "joint" and alone
        arms = [setting, setting.without_views()] if compare else [setting]
        one = known and any(smallest(arm, n) == 1 for arm in arms)
        if one and model is not None and not takes_one(model, image):
            raise ValueError(
                f"batch_size={setting.batch_size} leaves a batch of one image of task {name}, of {n} "
                "rows, which the model cannot be trained on; take another one"
            )


def smallest(setting: Setting, n: int) -> int:
    """Images of the last step of a cycle, which may be short."""
    distinct = setting.batch_size // setting.on_new
    return setting.on_new * (n - (math.ceil(n / distinct) - 1) * distinct)


def takes_one(model: nn.Module, image: Tensor) -> bool:
    """Whether it can be trained on a single image; statistics of a batch have none."""
    with torch.no_grad(), seeded(0, device_of(model)), kept(model):
        try:
            model(image.to(device_of(model)))
        except ValueError:  # of torch's own layers
            return False
    return True


def _check_model(model: Any, classes: int, image: Tensor) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("model must have parameters to train")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            given = model(image.to(device_of(model)))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"model must take images of shape {tuple(image.shape)}: {error}"
        ) from error
    finally:
        model.train(training)
    if not isinstance(given, Tensor) or given.ndim != 2 or given.shape[1] < classes:
        shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(f"model must give logits of {classes} classes, got {shape} for one image")


def device_of(model: nn.Module) -> torch.device:
    """Where its first parameter is."""
    return next(model.parameters()).device


def order_of(setting: Setting, stream: str) -> tuple[Any, int | None]:
    """Shuffle and window of a stream; the one that is not shown in views has an ordinary loader's."""
    if setting.views_on not in ("both", stream):
        return None, None
    return setting.shuffle, setting.window


def split(X: np.ndarray, y: np.ndarray, task: np.ndarray, share: float, seed: int) -> Split:
    """Training and test rows of each task, stratified by class; at least one of each of two rows."""
    rng = np.random.default_rng(seed)
    train: list[tuple[Tensor, Tensor]] = []
    test: list[tuple[Tensor, Tensor]] = []
    for k in range(int(task.max()) + 1):
        inside, outside = [], []
        for c in np.unique(y[task == k]):
            rows = rng.permutation(np.flatnonzero((task == k) & (y == c)))
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
        with seeded(seed, torch.device("cpu")):
            if len(shape) == 4:
                return cnn((shape[1], shape[2], shape[3]), classes)
            side = round(shape[1] ** 0.5)
            return (
                cnn((1, side, side), classes)
                if side**2 == shape[1] and side >= 4
                else mlp(100, shape[1], classes)
            )

    return made


def as_tensor(images: np.ndarray) -> Tensor:
    """On the processor."""
    return torch.from_numpy(np.ascontiguousarray(images))


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
                    other = torch.full((z.shape[1],), -torch.inf, device=z.device)
                    z = z + other.index_fill(0, self.classes[i], 0.0)
                right = (z.argmax(dim=1) == y).cpu().numpy()  # for numpy's table of accuracies
                self.right[i][k], self.accuracy[k, i] = right, right.mean()
        model.train(training)


class _Streams:
    """Batches for the training loop, and what became of them."""

    def __init__(self, setting: Setting, seed: int, device: torch.device) -> None:
        self.setting = setting
        self.pixels = torch.Generator(device).manual_seed(seed)
        self.orders = np.random.default_rng(seed)
        self.logs: list[tuple[str, Plan, list[np.ndarray]]] = []
        self.tied = False
        self.in_memory = 1
        self.rows = 0  # of memory, where a strategy draws batches of them
        self.labels: Tensor | None = None

    def shown(self, X: Tensor, views: int) -> Tensor:
        setting = self.setting
        images = in_views(X, views, setting.weak, setting.strong, self.pixels)
        if len(images) != views * len(X):
            raise ValueError(
                f"weak and strong must give as many images as they get, {views * len(X)} became "
                f"{len(images)}"
            )
        return images

    def batches(
        self, k: int, X: Tensor, y: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """The new samples of a task."""
        setting, views = self.setting, self.setting.on_new
        shuffle, window = order_of(setting, "new")
        size, epochs = setting.batch_size, setting.epochs
        made = recall_schedule(
            len(y),
            size,
            views=views,
            epochs=epochs,
            shuffle=shuffle,
            window=window,
            rng=self.orders,
        )
        trained: list[np.ndarray] = []
        sizes = Plan(made.n, size // views, views, made.cycle, made.window, made.total)
        self.logs.append(("new", sizes, trained))
        for step, samples in enumerate(made.steps):
            self.tied = setting.ssl and step >= setting.warmup * made.total
            rows = torch.from_numpy(samples)
            self.labels = y[rows].repeat_interleave(views)
            yield self.shown(X[rows], views), self.labels
            trained.append(samples)  # the loop asks for more when it has made its update

    def memory_views(self, stored: int) -> int:
        """Views of stored samples; one where the memory has fewer samples than a step of views wants."""
        views = self.setting.views
        return views if stored >= self.setting.batch_size // views else 1

    def from_memory(self, X: Tensor, numbers: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Stored samples, without end."""
        n, size = len(numbers), self.setting.batch_size
        views = self.in_memory = self.memory_views(n)
        distinct = size // views
        shuffle, window = order_of(self.setting, "memory")
        cycle = -(-n // distinct)
        if shuffle == "fixed":
            width = 1
        else:
            width = cycle if window is None else min(window, cycle)
        sizes = Plan(n, distinct, views, cycle, width, 0)
        base = self.orders.permutation(n)
        trained: list[np.ndarray] = []
        self.logs.append(("memory", sizes, trained))
        while True:
            order = cycle_order(sizes, base, self.orders)
            for samples in np.split(order, np.arange(distinct, n, distinct)):
                rows = torch.from_numpy(samples)
                trained.append(samples)
                yield self.shown(X[rows], views), numbers[rows].repeat_interleave(views)

    def criterion(self, z: Tensor, y: Tensor, memory: bool) -> Tensor:
        """Cross-entropy, and the tie where it is on."""
        if memory:
            self.rows += len(y)
        views = 1
        if memory:
            views = self.in_memory
        elif y is self.labels:  # not rows that a strategy projects on, which are no views
            views = self.setting.on_new
        loss = functional.cross_entropy(z, y)
        if self.tied and views > 1:
            finite = z.masked_fill(torch.isinf(z), -1e4)  # classes of other tasks
            loss = loss + self.setting.ssl_weight * view_divergence(finite, views).mean()
        return loss

    def schedules(self) -> list[tuple[str, Schedule]]:
        """What was trained, new samples first."""
        made = []
        for stream, s, trained in sorted(self.logs, key=lambda log: log[0] != "new"):
            at = np.repeat(np.arange(len(trained)), [len(d) for d in trained])
            flat = np.concatenate(trained) if trained else np.empty(0, np.int64)
            log = Schedule(s.n, flat, at, s.views, s.cycle, s.window, len(trained))
            made.append((stream, log))
        return made


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Statistics that the model gathers are put back."""
    buffers = [b.detach().clone() for b in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(value)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout, and views that take no generator, draw from torch's own: from the seed, and put back after."""
    drawing = device.type == "cuda"
    with torch.random.fork_rng([device] if drawing else []):
        # torch.manual_seed would seed every device there is, also those that are not put back
        torch.default_generator.manual_seed(seed)
        if drawing:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


def flat(model: nn.Module) -> np.ndarray:
    """All trained weights in a row."""
    weights = [p.detach().double().flatten() for p in model.parameters() if p.requires_grad]
    return torch.cat(weights).cpu().numpy()  # compared by numpy, once, when training is over


def train(setting: Setting, parts: Split, model: nn.Module, seed: int) -> Run:
    """Train on all tasks; orders, views and memory depend on the seed alone."""
    device = device_of(model)
    here = [[(X.to(device), y.to(device)) for X, y in part] for part in parts]
    streams = _Streams(setting, seed, device)
    ends = _Ends(here[1], setting.scenario)
    start = flat(model)
    in_memory = setting.views > 1 and setting.views_on != "new"
    with seeded(seed, device):
        fit = continual_fit(
            model,
            here[0],
            # a strategy of one's own keeps state, which the other arm must not see
            strategy=setting.strategy
            if isinstance(setting.strategy, str)
            else copy.deepcopy(setting.strategy),
            scenario=setting.scenario,
            lr=setting.lr,
            batch_size=setting.batch_size,
            epochs=setting.epochs,
            batches=streams.batches,
            memory_batches=streams.from_memory if in_memory else None,
            criterion=streams.criterion,
            evaluator=ends,
            random_state=seed,
            **setting.options,
        )
    X, y = here[0][-1]
    schedules = streams.schedules()
    return Run(
        model=fit.model,
        accuracy=ends.accuracy,
        right=ends.right,
        schedules=schedules,
        flipped=_flipped(setting, fit.model, X, streams.pixels) if setting.views > 1 else None,
        last=(X, y),
        updates=fit.task_ends[-1],
        new=sum(int(s.counts().sum()) for stream, s in schedules if stream == "new"),
        stored=streams.rows,
        start=start,
        moved=flat(fit.model) - start,
    )


def _flipped(setting: Setting, model: nn.Module, X: Tensor, generator: torch.Generator) -> float:
    order = torch.randperm(len(X), generator=generator, device=generator.device)
    rows = X[order[:CHECKED]]
    training = model.training
    model.eval()
    with torch.inference_mode():
        z = model(in_views(rows, setting.views, setting.weak, setting.strong, generator))
        said = z.argmax(dim=1).view(len(rows), setting.views)
    model.train(training)
    return float((said[:, 1:] != said[:, :1]).double().mean())


def gradients(setting: Setting, run: Run, seed: int) -> Gradients | None:
    """Gradients of view batches, of ordinary ones and of single views at the final weights, along random directions."""
    X, y = run.last
    n, B, V = len(y), setting.batch_size, setting.views
    if n <= B:
        return None
    device = X.device
    generator = torch.Generator(device).manual_seed(seed)
    rng = np.random.default_rng(seed)
    parameters = [p for p in run.model.parameters() if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    directions = torch.randn(DIRECTIONS, size, generator=generator, device=device)

    company = company_of(run.model, X[: 2 * B], seed)
    classes = torch.unique(y)

    def gradient(x: Tensor, labels: Tensor) -> np.ndarray:
        z = run.model(x)
        if setting.scenario == "task":  # which is trained among the classes of the task
            other = torch.full((z.shape[1],), -torch.inf, device=device)
            z = z + other.index_fill(0, classes, 0.0)
        grads = torch.autograd.grad(functional.cross_entropy(z, labels), parameters)
        along = directions @ torch.cat([g.flatten() for g in grads]).to(directions.dtype)
        return along.double().cpu().numpy()  # a few numbers, whose variances numpy takes

    def batch(views: int) -> np.ndarray:
        rows = torch.from_numpy(rng.permutation(n)[: B // views])
        x = in_views(X[rows], views, setting.weak, setting.strong, generator)
        return gradient(x, y[rows].repeat_interleave(views))

    training = run.model.training
    if company > ROUNDING:
        run.model.eval()  # of one image there are no statistics of a batch; the certificate is void
    with seeded(seed, device), kept(run.model):
        found = np.stack([[batch(V), batch(1)] for _ in range(BATCHES)])
        rows = torch.from_numpy(rng.permutation(n)[: min(SAMPLES, n)])
        x = in_views(X[rows], V, setting.weak, setting.strong, generator)
        singles = np.stack([gradient(x[i : i + 1], y[rows[i // V]][None]) for i in range(len(x))])
    run.model.train(training)
    pairs = x.view(len(rows), V, -1)
    # an image of one colour has no other views
    plain = (pairs == pairs[:, :1, :1]).all(dim=2).all(dim=1)
    equal = 0
    for i in range(V):
        for j in range(i):
            same = (pairs[:, i] == pairs[:, j]).all(dim=1) & ~plain
            equal += int(same.sum())
    return Gradients(found, singles.reshape(len(rows), V, DIRECTIONS), equal, company)


def company_of(model: nn.Module, x: Tensor, seed: int) -> float:
    """How far the scores of some images move when the others of their batch are exchanged, over how they differ.

    In the mode that the model is in, which is that of training; dropout draws the same both times.
    """
    third = max(1, len(x) // 3)
    same, one, other = x[:third], x[third : 2 * third], x[-third:].flip(0)
    scores = []
    for others in (one, 0.5 * other):
        with torch.no_grad(), seeded(seed, x.device), kept(model):
            scores.append(model(torch.cat([same, others]))[:third])
    rounding = 32 * torch.finfo(scores[0].dtype).eps * float(scores[0].abs().max())
    # what is added to all classes, however large, changes no loss
    first, second = (z.double() - z.double().mean(dim=1, keepdim=True) for z in scores)
    moved = float((first - second).abs().max())
    size = float((first - first.mean(dim=0)).abs().max())
    if moved <= rounding:
        return 0.0
    return moved / size if size > 0 else 1.0


def alike(setting: Setting) -> Answer | None:
    """Known where views are this library's, or made by two functions; else it is tested."""
    if setting.strong is not None and setting.strong is not setting.weak:
        return th.ALIKE.check(False, "the first view is made by weak, the others by strong")
    if any(setting.weak is own for own in (weak_view, strong_view, identity)):
        return th.ALIKE.by_construction("one function of this library draws them all")
    return None
