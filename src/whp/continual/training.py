"""Training on a sequence of tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from whp.continual import strategies
from whp.progress import track
from whp.provenance import register
from whp.validate import as_choice, as_int, as_real

__all__ = ["Batches", "ContinualFit", "Watcher", "continual_fit", "shuffled"]

SCENARIOS = ("class", "task", "domain")
Batches = Callable[[int, Tensor, Tensor, torch.Generator], Iterator[tuple[Tensor, Tensor]]]


def steady(model: nn.Module, x: Tensor) -> bool:
    """Whether the model computes the same twice as it is set, and in evaluation mode.

    Dropout of any kind, batch statistics and noise show, wherever they are written. Generators,
    buffers and modes are put back.
    """
    modes = [(m, m.training) for m in model.modules()]
    buffers = [b.detach().clone() for b in model.buffers()]
    devices = [x.device] if x.device.type == "cuda" else []
    try:
        with torch.no_grad(), torch.random.fork_rng(devices):
            first, second = model(x), model(x)
            model.eval()
            third = model(x)
        return bool(torch.equal(first, second) and torch.equal(first, third))
    finally:
        for module, mode in modes:
            module.training = mode
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), buffers, strict=True):
                buffer.copy_(value)


@dataclass(frozen=True, eq=False)
class ContinualFit:
    """A model that was trained on tasks one after another.

    Attributes
    ----------
    model : Module
        The one that was given, trained in place.
    task_ends : tuple of int
        Updates done when each task ended.
    gradients : DataFrame or None
        For every update, with ``record_gradients``: ``task``, ``step`` in it, norms ``plasticity`` and ``stability`` of the two
        parts of the gradient with their weights, the ``cosine`` between them, and the ``weight`` of the stability loss over
        that of the other.
    strategy : type or None
        Class of the strategy; None if methods of the object were replaced.
    carried : bool
        Whether the optimiser carried state into a task.
    steady : bool or None
        Whether the model computed the same in training and in evaluation, on the first batch of
        each new task; None if gradients were not recorded, or there was one task.
    """

    model: nn.Module
    task_ends: tuple[int, ...]
    gradients: pd.DataFrame | None
    strategy: type | None
    carried: bool
    steady: bool | None = None


class Watcher:
    """Somebody who is told how training goes on; base of :class:`whp.continual.ContinualEvaluator`."""

    def before_task(self, k: int) -> None:
        """Task `k` begins."""

    def watch(self, X: Tensor) -> None:
        """Rows that will be trained on."""

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Steps of this optimizer are the updates."""

    def after_step(self, model: nn.Module, batch: Tensor | None = None) -> None:
        """An update was made."""

    def after_task(self, k: int, model: nn.Module) -> None:
        """Task `k` has ended."""


def shuffled(batch_size: int, epochs: int) -> Batches:
    """The usual loader: every epoch in a new order, the last batch may be short."""

    def batches(
        k: int, X: Tensor, y: Tensor, generator: torch.Generator
    ) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(epochs):
            for rows in torch.randperm(len(y), generator=generator).split(batch_size):
                yield X[rows], y[rows]

    return batches


def as_tasks(value: Any, argument: str) -> list[tuple[Tensor, Tensor]]:
    """Pairs (X, y) of arrays, tensors or datasets as float and int64 tensors."""
    if not isinstance(value, Sequence) or not len(value):
        raise TypeError(f"{argument} must be a list of (X, y) pairs or datasets, one a task")
    tasks = []
    for k, item in enumerate(value):
        if isinstance(item, torch.utils.data.Dataset):
            rows = [item[i] for i in range(len(item))]  # type: ignore[arg-type]
            item = (
                torch.stack([torch.as_tensor(r[0]) for r in rows]),
                torch.as_tensor([int(r[1]) for r in rows]),
            )
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise TypeError(
                f"{argument}[{k}] must be a pair (X, y) or a dataset, got {type(item).__name__}"
            )
        X, y = (
            torch.as_tensor(np.asarray(item[0]) if not isinstance(item[0], Tensor) else item[0]),
            torch.as_tensor(item[1]),
        )
        if y.ndim != 1 or len(X) != len(y) or not len(y) or X.ndim < 2:
            raise ValueError(
                f"{argument}[{k}] must hold as many rows as labels, got {tuple(X.shape)} and {tuple(y.shape)}"
            )
        if y.is_floating_point() or y.min() < 0:
            raise ValueError(f"{argument}[{k}] must have class numbers from 0 as labels")
        X = X if X.is_floating_point() else X.float()
        if not torch.isfinite(X).all():
            raise ValueError(f"{argument}[{k}] must be finite, got NaN or infinity")
        tasks.append((X, y.long()))
    return tasks


def continual_fit(
    model: nn.Module,
    tasks: Any,
    *,
    strategy: Any = "er",
    scenario: str = "class",
    lr: float = 0.1,
    batch_size: int = 32,
    epochs: int = 5,
    momentum: float = 0.0,
    reset_optimizer: bool = True,
    evaluator: Watcher | None = None,
    record_gradients: bool = False,
    batches: Batches | None = None,
    memory_batches: Callable[[Tensor, Tensor], Iterator[tuple[Tensor, Tensor]]] | None = None,
    criterion: strategies.Criterion | None = None,
    random_state: int | None = None,
    **strategy_options: Any,
) -> ContinualFit:
    """Train a model by SGD on tasks that come one after another.

    Parameters
    ----------
    model : Module
        Gives logits of all classes; trained in place.
    tasks : list of (X, y)
        Tensors, arrays or datasets, a pair a task.
    strategy : str or Strategy
        ``"finetune"``, ``"joint"``, ``"er"`` (memory, alpha), ``"gem"`` and ``"agem"`` (memory, gamma), ``"lwf"`` (temperature,
        strength), ``"ewc"`` (strength, online, samples), ``"si"`` (strength, xi), or an object of one's own.
    scenario : {"class", "task", "domain"}
        Whether new tasks bring new classes, bring new classes and are named at prediction, or bring the same classes again.
    lr, momentum : float
        Of SGD.
    batch_size, epochs : int
        Of each task.
    reset_optimizer : bool
        Whether each task starts with a fresh optimiser.
    evaluator : Watcher, optional
        Is told of every task and update, as :class:`whp.continual.ContinualEvaluator`.
    record_gradients : bool
        Keep the norms of both parts of every step's gradient; costs a second backward pass.
    batches : callable, optional
        ``batches(k, X, y, generator)`` yields the (x, y) of each update of a task.
    memory_batches : callable, optional
        ``memory_batches(X, numbers)`` yields x of stored rows and their numbers, for strategies that draw from a memory.
    criterion : callable, optional
        ``criterion(logits, y, memory)`` with a flag for rows out of a memory; by default cross-entropy.
    random_state : int, optional
        Seed of orders and memories; the global state of torch is left alone.
    **strategy_options
        Passed to the strategy.

    Returns
    -------
    ContinualFit

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    FloatingPointError
        If the loss becomes infinite or NaN; the message says at which update.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    pairs = as_tasks(tasks, "tasks")
    as_choice(scenario, "scenario", SCENARIOS)
    lr, momentum = as_real(lr, "lr", low=0, high=1e6), as_real(momentum, "momentum", low=0, high=1)
    batch_size, epochs = as_int(batch_size, "batch_size", low=1), as_int(epochs, "epochs", low=1)
    seed = (
        int(np.random.default_rng().integers(2**31))
        if random_state is None
        else as_int(random_state, "random_state")
    )
    # two generators, so that all strategies see the same order of rows
    generator, own = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    learner = strategies.make(strategy, strategy_options)
    learner.setup(scenario, batch_size, criterion, own, memory_batches)
    batches = shuffled(batch_size, epochs) if batches is None else batches
    parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
    ends, rows, done = [], [], 0
    carried, calm = False, None
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    for k, (X, y) in enumerate(pairs):
        X, y = X.to(device), y.to(device)
        if scenario == "task" and len(torch.unique(y)) < 2:
            raise ValueError(
                f"tasks[{k}] has one class, which is nothing to learn in the task scenario"
            )
        if evaluator is not None:
            evaluator.before_task(k)
            evaluator.watch(X)
        learner.begin(model, k, X, y)
        if reset_optimizer:
            optimizer = torch.optim.SGD(parameters, lr=lr, momentum=momentum)
        carried |= k > 0 and any(
            torch.is_tensor(v) for s in optimizer.state.values() for v in s.values()
        )
        if evaluator is not None:
            evaluator.attach(model, optimizer)
        for step, (x, labels) in enumerate(
            track(batches(k, *learner.data(k, X, y), generator), f"task {k + 1} of {len(pairs)}")
        ):
            if record_gradients and k and not step:
                calm = calm is not False and steady(model, x)
            found = _step(
                model, learner, parameters, optimizer, x, labels, k, record_gradients, done
            )
            if found:
                rows.append({"task": k, "step": step, **found})
            done += 1
            if evaluator is not None:
                evaluator.after_step(model)
        learner.end(model, k, X, y)
        ends.append(done)
        if evaluator is not None:
            evaluator.after_task(k, model)
    gradients = pd.DataFrame(rows) if record_gradients else None
    # Methods may have been put into the object itself, of which its class says nothing.
    replaced = any(callable(getattr(type(learner), name, None)) for name in vars(learner))
    kind = None if replaced else type(learner)
    made = ContinualFit(model, tuple(ends), gradients, kind, carried, calm)
    register(made, "gradients", "strategy", "carried", "steady")
    return made


def _step(
    model: nn.Module,
    learner: strategies.Strategy,
    parameters: list[Tensor],
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    k: int,
    record: bool,
    done: int,
) -> dict[str, float] | None:
    plasticity, stability, a, b = learner.losses(model, x, y, k)
    total = a * plasticity if stability is None else a * plasticity + b * stability
    if not torch.isfinite(total):
        raise FloatingPointError(
            f"the loss is {float(total.detach())} at update {done + 1}: lower lr"
        )
    optimizer.zero_grad(set_to_none=True)
    own: list[Tensor] | None = None
    if record or learner.splits:
        own = _gradient(plasticity, parameters, keep=True)
        held = None if stability is None else _gradient(stability, parameters, keep=False)
        for i, p in enumerate(parameters):
            p.grad = a * own[i] if held is None else a * own[i] + b * held[i]
    else:
        held = None
        total.backward()
    learner.project(model, k)
    found = None
    if record:
        assert own is not None
        g = torch.cat([a * o.flatten() for o in own])
        change = getattr(learner, "change", None)
        s = change if change is not None else torch.zeros_like(g)
        if held is not None:
            s = torch.cat([b * h.flatten() for h in held])
        norms = float(g.norm()), float(s.norm())
        cosine = float(g @ s) / (norms[0] * norms[1]) if min(norms) > 0 else 0.0
        found = {
            "plasticity": norms[0],
            "stability": norms[1],
            "cosine": cosine,
            "weight": 1.0 if held is None or not a else b / a,
        }
    optimizer.step()
    learner.after_step(model, own)
    return found


def _gradient(loss: Tensor, parameters: list[Tensor], *, keep: bool) -> list[Tensor]:
    if not loss.requires_grad:
        return [torch.zeros_like(p) for p in parameters]
    found = torch.autograd.grad(loss, parameters, retain_graph=keep, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]
