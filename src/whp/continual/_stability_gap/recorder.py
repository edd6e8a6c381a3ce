"""Evaluation after every update, around anybody's training loop."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.continual.stability_gap.gap import StabilityGapResult, stability_gap
from whp.continual.stability_gap.outcomes import Audit, Outcomes
from whp.continual.training import Watcher, as_tasks
from whp.validate import as_choice, as_int

__all__ = ["ContinualEvaluator"]

IN_MEMORY = 256 << 20  # bytes of outcomes a task, before they go to a file


class ContinualEvaluator(Watcher):
    """Records which rows of old and new tasks a model gets right after each update.

    Parameters
    ----------
    eval_sets : list of (X, y)
        Rows of each task that are not trained on; arrays, tensors or datasets.
    every : int
        Updates between evaluations. Above 1 the worst case can only be bounded from above.
    subset : int
        Rows of each task that are looked at, drawn once, here.
    predict : callable, optional
        ``predict(model, X, task)`` gives labels. By default the largest logit, among the task's own classes for
        ``scenario="task"``.
    scenario : {"class", "task", "domain"}
    batch_size : int
        Rows a forward pass.
    audit : int
        Looks at the whole set of a task when a new minimum appears, at most so often for each task and switch.
    random_state : int, optional
        Seed of the subsets; the global state is left alone.

    Examples
    --------
    Around a loop of one's own, which stays as it is::

        evaluator = ContinualEvaluator(eval_sets)
        for k, loader in enumerate(loaders):
            with evaluator.task(k, model, optimizer):
                train(model, optimizer, loader)
        print(evaluator.result())

    Or by hand: ``before_task(k)``, ``after_step(model)`` after each update, ``after_task(k, model)``.
    """

    def __init__(
        self,
        eval_sets: Any,
        *,
        every: int = 1,
        subset: int = 1000,
        predict: Callable[[nn.Module, Tensor, int], Tensor] | None = None,
        scenario: str = "class",
        batch_size: int = 1024,
        audit: int = 3,
        random_state: int | None = None,
    ) -> None:
        self.sets = as_tasks(eval_sets, "eval_sets")
        self.every = as_int(every, "every", low=1)
        self.audit = as_int(audit, "audit", low=0)
        self.batch_size = as_int(batch_size, "batch_size", low=1)
        self.scenario = as_choice(scenario, "scenario", ("class", "task", "domain"))
        subset = as_int(subset, "subset", low=1)
        rng = np.random.default_rng(random_state)
        self.chosen = [torch.from_numpy(rng.permutation(len(y))[:subset]) for _, y in self.sets]
        self.own = [(X[c], y[c]) for (X, y), c in zip(self.sets, self.chosen, strict=True)]
        self.predict = predict
        self.classes = [torch.unique(y) for _, y in self.sets]
        self.hashes = set()
        self.overlap: int | None = None
        self.changed: tuple[str, ...] | None = None
        self.files = [tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) for _ in self.sets]  # noqa: SIM115
        self.updates = 0
        self.evaluations = 0
        self.current = -1
        self.ends: list[int] = []
        self.full: list[tuple[int, int, float]] = []
        self._clear()

    def _clear(self) -> None:
        self.least = [np.inf] * len(self.sets)
        self.looked = [0] * len(self.sets)

    # Around a loop

    def before_task(self, k: int) -> None:
        """Task `k` begins, counted from 0."""
        k = as_int(k, "k", low=0, high=len(self.sets) - 1)
        if k != self.current + 1 or len(self.ends) != k:
            raise ValueError(f"k must be {len(self.ends)}, the next task, got {k}")
        self.current = k
        self._clear()

    def watch(self, X: Tensor) -> None:
        """Show rows that are trained on, to find out whether evaluation rows are among them."""
        if not self.hashes:
            self.hashes = {row.tobytes() for A, _ in self.sets for row in A.numpy()}
        found = sum(
            row.tobytes() in self.hashes for row in X.detach().to(self.sets[0][0].dtype).numpy()
        )
        self.overlap = (self.overlap or 0) + found

    def after_step(self, model: nn.Module, batch: Tensor | None = None) -> None:
        """An update was made; `batch` are its rows, if they are to be compared with the evaluation sets."""
        if self.current < 0:
            raise RuntimeError("before_task(0) was not called")
        if batch is not None:
            self.watch(batch)
        self.updates += 1
        if self.updates % self.every == 0:
            self._evaluate(model)

    def after_task(self, k: int, model: nn.Module) -> None:
        """Task `k` has ended."""
        if k != self.current:
            raise ValueError(f"k must be {self.current}, the task that was begun, got {k}")
        if self.updates == (self.ends[-1] if self.ends else 0):
            raise RuntimeError(f"task {k} had no update: call after_step(model) after each")
        if self.updates % self.every:
            self._evaluate(model)
        self.ends.append(self.updates)

    @contextmanager
    def task(
        self, k: int, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> Iterator[None]:
        """The time of one task; with an optimizer each of its steps is followed by an evaluation, and the loop need not know."""
        self.before_task(k)
        handle = None
        if optimizer is not None:
            handle = optimizer.register_step_post_hook(lambda *_: self.after_step(model))
        try:
            yield
        finally:
            if handle is not None:
                handle.remove()
        self.after_task(k, model)

    # Looking

    def _predict(
        self, model: nn.Module, X: Tensor, tasks: Sequence[int], sizes: Sequence[int]
    ) -> Tensor:
        if self.predict is not None:
            return torch.cat(
                [
                    self.predict(model, part, i)
                    for i, part in zip(tasks, X.split(list(sizes)), strict=True)
                ]
            )
        z = torch.cat([model(part) for part in X.split(self.batch_size)])
        if self.scenario == "task":
            mask = torch.full((len(self.sets), z.shape[1]), -torch.inf)
            for row, classes in zip(mask, self.classes, strict=True):
                row[classes] = 0
            z = z + mask[torch.repeat_interleave(torch.as_tensor(tasks), torch.as_tensor(sizes))]
        return z.argmax(dim=1)

    def _right(self, model: nn.Module, parts: list[tuple[int, Tensor, Tensor]]) -> list[np.ndarray]:
        """Which rows are right, all tasks in one forward pass, in evaluation mode; modes are put back."""
        modes = [(m, m.training) for m in model.modules()]
        model.eval()
        try:
            with torch.inference_mode():
                X = torch.cat([x for _, x, _ in parts])
                found = self._predict(
                    model, X, [i for i, _, _ in parts], [len(y) for _, _, y in parts]
                )
                return [
                    (a == y).numpy()
                    for a, (_, _, y) in zip(
                        found.split([len(y) for _, _, y in parts]), parts, strict=True
                    )
                ]
        finally:
            for module, mode in modes:
                module.training = mode

    def _evaluate(self, model: nn.Module) -> None:
        seen = range(self.current + 1)
        before = None if self.changed is not None else _state(model)
        found = self._right(model, [(i, *self.own[i]) for i in seen])
        if before is not None:
            self.changed = tuple(
                name for name, value in _state(model).items() if value != before[name]
            )
        for i, right in zip(seen, found, strict=True):
            self.files[i].write(np.packbits(right).tobytes())
            accuracy = float(right.mean())
            if i < self.current and accuracy < self.least[i]:
                self.least[i] = accuracy
                if self.looked[i] < self.audit and len(self.own[i][1]) < len(self.sets[i][1]):
                    self.looked[i] += 1
                    (whole,) = self._right(model, [(i, *self.sets[i])])
                    self.full.append((i, self.evaluations, float(whole.mean())))
        self.evaluations += 1

    # What came out

    def outcomes(self) -> Outcomes:
        """Which rows were right, of the tasks seen so far."""
        packed = []
        for i in range(len(self.ends)):
            self.files[i].seek(0)
            width = -(-len(self.own[i][1]) // 8)
            packed.append(np.frombuffer(self.files[i].read(), np.uint8).reshape(-1, width))
        return Outcomes(tuple(packed), tuple(len(y) for _, y in self.own[: len(self.ends)]))

    def result(self, **options: Any) -> StabilityGapResult:
        """Metrics and certificates of the tasks that have ended; options are those of :func:`stability_gap`."""
        if not self.ends or len(self.ends) != self.current + 1:
            raise RuntimeError("result() needs tasks that have ended: after_task was not called")
        audit = Audit(tuple(self.full), self.overlap, self.changed)
        total = [len(y) for _, y in self.sets[: len(self.ends)]]
        return stability_gap(
            None,
            self.ends,
            correct=self.outcomes(),
            n_total=total,
            every=self.every,
            audit=audit,
            **options,
        )

    def state_dict(self) -> dict[str, Any]:
        """All that has been recorded, as tensors and numbers; training may stop and go on elsewhere."""
        arrays = []
        for file in self.files:
            file.seek(0)
            arrays.append(torch.frombuffer(bytearray(file.read() or b"\0"), dtype=torch.uint8))
        return {
            "packed": arrays,
            "chosen": self.chosen,
            "updates": self.updates,
            "evaluations": self.evaluations,
            "current": self.current,
            "ends": list(self.ends),
            "full": [list(f) for f in self.full],
            "least": list(self.least),
            "looked": list(self.looked),
            "overlap": self.overlap,
            "changed": None if self.changed is None else list(self.changed),
            "every": self.every,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, on the same evaluation sets."""
        if len(state["chosen"]) != len(self.sets) or any(
            len(c) > len(y) or int(c.max()) >= len(y)
            for c, (_, y) in zip(state["chosen"], self.sets, strict=True)
        ):
            raise ValueError("state belongs to other evaluation sets")
        if state["every"] != self.every:
            raise ValueError(f"state was recorded with every={state['every']}, not {self.every}")
        self.chosen = list(state["chosen"])
        self.own = [(X[c], y[c]) for (X, y), c in zip(self.sets, self.chosen, strict=True)]
        self.updates, self.evaluations, self.current = (
            state["updates"],
            state["evaluations"],
            state["current"],
        )
        self.ends, self.least, self.looked = (
            list(state["ends"]),
            list(state["least"]),
            list(state["looked"]),
        )
        self.full = [(int(i), int(t), float(a)) for i, t, a in state["full"]]
        self.overlap = state["overlap"]
        self.changed = None if state["changed"] is None else tuple(state["changed"])
        for i, (file, packed) in enumerate(zip(self.files, state["packed"], strict=True)):
            file.seek(0)
            file.truncate()
            if i <= self.current:
                file.write(packed.numpy().tobytes())


def _state(model: nn.Module) -> dict[str, Any]:
    """What an evaluation must not change: generators, buffers, modes."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    return {
        "the generator of torch": torch.random.get_rng_state().numpy().tobytes(),
        "the generator of numpy": (name, np.asarray(keys).tobytes(), rest),
        "the generator of Python": random.getstate(),
        # A copy to compare bytes with: the buffers themselves stay on their device.
        "buffers": [b.detach().cpu().numpy().tobytes() for b in model.buffers()],
        "modes": [m.training for m in model.modules()],
    }
