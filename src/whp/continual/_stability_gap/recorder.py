"""Evaluation after every update, around anybody's training loop."""

from __future__ import annotations

import copy
import hashlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whp.certificate import Answer, Status
from whp.continual._stability_gap import theorems as th
from whp.continual._stability_gap.front_door import StabilityGapResult, stability_gap
from whp.continual._stability_gap.outcomes import Outcomes, Recording
from whp.continual.training import Watcher, as_tasks
from whp.provenance import forget, made_here, register
from whp.validate import as_choice, as_int

__all__ = ["ContinualEvaluator"]

WHOLE = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes
IN_MEMORY = 256 << 20  # bytes of outcomes a task, before they go to a file
COPIES = 0.01  # one copy is enough
REPEATED = 0.05  # share of copies among evaluation rows that no independent draws have ...
WIDE = 8  # ... where a row has so many numbers ...
SOME = 1000  # rows are enough to see how many values there are
BITS = 32  # ... that take so many values together: a few yes or no coincide by chance


class ContinualEvaluator(Watcher):
    """Records which rows of old and new tasks a model gets right after each update.

    Rows are looked at where the model lives.

    Parameters
    ----------
    eval_sets : list of (X, y)
        Rows of each task that are not trained on; arrays, tensors or datasets.
    every : int
        Updates between evaluations. Above 1 the worst case can only be bounded from above.
    subset : int or list of sequence of int
        Rows of each task that are looked at, drawn once, here. Or the numbers of the rows, chosen
        by you before training: that they are a random sample is then unchecked.
    groups : list of array_like, optional
        For each task, what each row belongs to (a film, a patient). One row of each group is kept,
        since rows of one group are no independent evidence.
    predict : callable, optional
        ``predict(model, X, task)`` gives labels. By default the largest logit, among the task's own
        classes for ``scenario="task"``.
    scenario : {"class", "task", "domain"}
        Whether new tasks bring new classes, bring new classes and are named at prediction, or bring
        the same classes again.
    batch_size : int
        Rows a forward pass.
    audit : int
        Looks at the whole set of a task when a new minimum appears, at most so often for each task
        and switch.
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
        subset: int | Sequence[Sequence[int]] = 1000,
        groups: Sequence[Any] | None = None,
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
        rng = np.random.default_rng(random_state)
        self.grouped = groups is not None
        self.whole, self.kept = self.sets, None  # all rows, and which of them stand for groups
        if groups is not None:
            kept = _one_a_group(groups, [len(y) for _, y in self.sets], rng)
            self._keep(kept)
        sizes = [len(y) for _, y in self.sets]
        self.given = not isinstance(subset, int | np.integer)
        if self.given:
            if self.grouped:
                raise TypeError(
                    "subset must be a number beside groups: which row stands for a group is drawn "
                    "here. Or choose rows of different groups yourself, and leave groups out"
                )
            self.drawn = _given_rows(subset, sizes)
        else:
            size = as_int(subset, "subset", low=1)
            self.drawn = tuple(rng.permutation(n)[:size] for n in sizes)
        self.own = [(X[c], y[c]) for (X, y), c in zip(self.sets, self.drawn, strict=True)]
        self.digest = _digest(self.own)
        self.predict = predict
        self.classes = [torch.unique(y) for _, y in self.sets]
        for i, found in enumerate(self.classes):
            if predict is None and self.scenario == "task" and len(found) < 2:
                raise ValueError(
                    f"eval_sets[{i}] has one class: among its own classes nothing can be wrong"
                )
        self.files = [tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) for _ in self.sets]  # noqa: SIM115
        self.updates = 0
        self.evaluations = 0
        self.current = -1
        self.ends: list[int] = []
        self.full: list[tuple[int, int, float]] = []
        self.changed: set[str] = set()
        self.loaded = False
        self.resumed = False
        # Training rows: hashes of evaluation rows, by the number type in which both are compared,
        # of those trained on, of all that were shown.
        self.hashes: dict[torch.dtype, dict[int, int]] = {}
        self.trained_on: set[int] = set()
        self.shown: set[int] = set()
        self.unshown = 0
        self.ranks = 1
        # Updates: by hand, or seen by an optimiser's hooks.
        self.handles: list[Any] = []
        self.stepped = 0
        self.written: Any = None
        self.left: Any = None  # what the last evaluation left
        self.unwatched = 0
        self.unseen = 0
        self.moved = 0  # ends of tasks after which the model was changed
        self.owed: Any = None  # numbers of the parameters whose evaluation was cut off
        self._clear()
        register(self, "drawn", "digest")

    def _keep(self, kept: Sequence[np.ndarray]) -> None:
        """One row of each group stands for it."""
        self.kept = list(kept)
        self.sets = [(X[c], y[c]) for (X, y), c in zip(self.whole, kept, strict=True)]

    def _clear(self) -> None:
        self.least = [np.inf] * len(self.sets)
        self.looked = [0] * len(self.sets)
        self.whole_task_shown = False

    def __copy__(self) -> ContinualEvaluator:
        """Copies share no file, lest they write into each other's outcomes."""
        return copy.deepcopy(self)

    # Around a loop

    def before_task(self, k: int) -> None:
        """Task `k` begins, counted from 0."""
        k = as_int(k, "k", low=0, high=len(self.sets) - 1)
        if self.resumed and k == self.current:
            raise ValueError(
                f"k: task {k} was begun before the recording was saved, or cut off: use task({k})"
            )
        if len(self.ends) <= self.current:
            raise ValueError(f"k: task {self.current} has not ended: call after_task first")
        if k != self.current + 1:
            raise ValueError(f"k must be {len(self.ends)}, the next task, got {k}")
        self.current = k
        self._clear()

    def attach(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Count the steps of the optimizer, to find updates that no evaluation followed.

        A model that has grown since the last task ended, by outputs for new classes, is evaluated:
        that is an update, which the recorder was told of.

        Raises
        ------
        ValueError
            If the optimizer trains no parameter of the model: one made before the model was copied
            trains another one.
        """
        own = {id(p) for p in model.parameters()}
        if own and not any(id(p) in own for g in optimizer.param_groups for p in g["params"]):
            raise ValueError(
                "optimizer trains no parameter of model: it was made for another one, or before "
                "the model was copied. Call after_step by hand for an average of models"
            )
        self.detach()
        if self._grown(model):
            self.unwatched += 1
            self.written = _written(model)
            self._count(model, self.written)
        elif not self._made_up(model):
            self._as_left(model)
        self.handles = [
            optimizer.register_step_pre_hook(lambda *_: self._about_to_step(model)),
            optimizer.register_step_post_hook(lambda *_: self._has_stepped(model)),
        ]

    def detach(self) -> None:
        """Take the hooks off."""
        for handle in self.handles:
            handle.remove()
        self.handles = []
        self.unseen += self.stepped
        self.stepped = 0

    def _about_to_step(self, model: nn.Module) -> None:
        self.unseen += self.owed is not None  # somebody caught the error, and goes on without
        self.owed = None
        if self.written is not None and self.stepped == 0:
            self.unseen += not _unchanged(model, self.written)
        self.unseen += self.stepped > 0

    def _has_stepped(self, model: nn.Module) -> None:
        self.stepped += 1
        self.written = _written(model)

    def _grown(self, model: nn.Module) -> bool:
        """Whether parameters have other shapes than at the end of the last task."""
        if self.left is None or not self.ends or self.updates != self.ends[-1]:
            return False
        return [q.shape for q in self.left[1][1]] != [p.shape for p in model.parameters()]

    def _as_left(self, model: nn.Module) -> None:
        """Whether parameters and buffers are those that were evaluated last: weights are averaged,
        statistics of batches made anew, the best weights put back where a task ends.
        """
        if self.left is None or self.left[0] != self.updates:
            return  # updates that are not evaluated lie between
        _, (_, numbers), buffers = self.left
        now = _written(model)
        # Within a task that goes on, a batch may have moved statistics before its step was cut off.
        same = self.resumed or _alike(_buffers(model), buffers)
        if not (same and _alike(_numbers(model), numbers)):
            self.unseen += self.resumed
            self.moved += not self.resumed
            self.left = self.updates, now, _buffers(model)
        # A copy of the model, or one that was moved, is the same model if its numbers are.
        self.written = None if self.written is None else now

    def watch(self, X: Tensor | np.ndarray) -> None:
        """Show all rows that this task trains on: evaluation rows may not be among them."""
        self._compare(X)
        self.whole_task_shown = True

    def _compare(self, X: Any) -> None:
        if not isinstance(X, Tensor | np.ndarray) or not X.ndim:
            raise TypeError(f"rows must be a tensor or an array, got {type(X).__name__}")
        X = torch.as_tensor(X)
        # In the narrower of both types: training rows are often made float32, or float16, on the way.
        kind = _narrower(X.dtype, self.sets[0][0].dtype)
        if kind not in self.hashes:
            self.hashes[kind] = {}
            for A, _ in self.sets:
                for row in _hashes(A.to(kind)):
                    self.hashes[kind][row] = self.hashes[kind].get(row, 0) + 1
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.ranks = max(self.ranks, torch.distributed.get_world_size() if distributed else 1)
        rows = set(_hashes(X.detach().to(kind)))
        self.shown |= rows
        self.trained_on |= rows & self.hashes[kind].keys()

    @property
    def overlap(self) -> int | None:
        """Evaluation rows that were trained on, to the last bit; None if no row was shown."""
        if not self.shown and not self.trained_on:
            return None
        return sum(
            max((known.get(row, 0) for known in self.hashes.values()), default=0) or 1
            for row in self.trained_on
        )

    def after_step(self, model: nn.Module, batch: Tensor | None = None) -> None:
        """An update was made; `batch` are its rows, if evaluation rows are looked for in them."""
        if self.current < 0:
            raise RuntimeError("before_task(0) was not called")
        if self._made_up(model):
            return  # the same update, once more
        if batch is not None:
            self._compare(batch)
        else:
            self.unshown += not self.whole_task_shown
        fresh = False
        if self.handles:
            # Several steps before one evaluation were counted when they began.
            changed = self.stepped != 0 and not _unchanged(model, self.written)
            self.unseen += changed
            fresh = self.stepped != 0 and not changed
            self.unwatched += self.stepped == 0
        else:
            self.unwatched += 1
        self.stepped = 0
        self._count(model, self.written if fresh else None)

    def _count(self, model: nn.Module, written: Any = None) -> None:
        """One update more, with its evaluation, or neither where that is cut off."""
        self.updates += 1
        if self.updates % self.every:
            return
        try:
            self._evaluate(model, written)
        except BaseException:
            self.updates -= 1
            self.owed = [p.clone() for p in _numbers(model)]
            raise

    def _made_up(self, model: nn.Module) -> bool:
        """Makes up for an evaluation that was cut off, if the model is still what it was then."""
        if self.owed is None:
            return False
        owed, self.owed = self.owed, None
        if _alike(_numbers(model), owed):
            self._count(model)
            return True
        self.unseen += 1
        return False

    def after_task(self, k: int, model: nn.Module) -> None:
        """Task `k` has ended."""
        if k != self.current:
            raise ValueError(f"k must be {self.current}, the task that was begun, got {k}")
        self._made_up(model)
        if self.updates == (self.ends[-1] if self.ends else 0):
            raise RuntimeError(f"task {k} had no update: call after_step(model) after each")
        if self.updates % self.every:
            self._evaluate(model)
        elif not self.stepped:
            self._as_left(model)
        else:
            self.moved += 1
        self.detach()
        self.ends.append(self.updates)

    @contextmanager
    def task(
        self, k: int, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
    ) -> Iterator[None]:
        """The time of one task; each step of an optimizer is followed by an evaluation.

        The loop need not know. Where it was cut off within this task, by Ctrl-C or an error, or a
        recording was loaded that was saved within it, the task goes on.
        """
        if not (self.resumed and k == self.current):
            self.before_task(k)
        handle = None
        try:
            if optimizer is not None:
                self.attach(model, optimizer)
                handle = optimizer.register_step_post_hook(lambda *_: self.after_step(model))
            else:
                self._made_up(model)
            self.resumed = False
            yield
            self.after_task(k, model)
        except BaseException:
            self.detach()
            self.resumed = len(self.ends) == self.current
            raise
        finally:
            if handle is not None:
                handle.remove()

    # Looking

    def _predict(
        self, model: nn.Module, X: Tensor, tasks: Any, sizes: Any, device: torch.device
    ) -> Tensor:
        if self.predict is not None:
            parts = zip(tasks, X.split(list(sizes)), strict=True)
            found = [self.predict(model, part.to(device), i) for i, part in parts]
            for part, n in zip(found, sizes, strict=True):
                if tuple(part.shape) != (n,):
                    raise ValueError(
                        f"predict must give a label a row, shape ({n},), got {tuple(part.shape)}"
                    )
            return torch.cat(found)
        given = [model(part.to(device)) for part in X.split(self.batch_size)]
        z = torch.cat(given) if all(isinstance(part, Tensor) for part in given) else None
        if z is None or z.ndim != 2 or z.shape[1] < 2:
            what = type(given[0]).__name__ if z is None else tuple(z.shape)
            raise ValueError(
                f"model must give a number for each class, shape (rows, classes), got "
                f"{what}: pass predict, which makes labels of what it gives"
            )
        if self.scenario == "task":
            others = torch.ones((len(self.sets), z.shape[1]), dtype=torch.bool)
            for row, classes in zip(others, self.classes, strict=True):
                row[classes.cpu()] = False  # a few numbers a task, which move to the model at once
            others = others[torch.from_numpy(np.repeat(tasks, sizes))].to(z.device)
            z = z.masked_fill(others, -torch.inf)
        # NaN is the largest number to argmax: all rows of a model that broke down were of class 0.
        return z.argmax(dim=1).masked_fill(z.isnan().any(dim=1), -1)

    # Containers below are not annotated: type checkers that look at a random entry would leave the
    # trace in Python's generator that is looked for here.

    def _right(self, model: nn.Module, parts: Any) -> Any:
        """Which rows are right, all tasks in one forward pass, in evaluation mode.

        `parts` are tuples of a task's number, its rows and labels; an array of Booleans each.
        """
        modes = [(m, m.training) for m in model.modules()]
        sizes = [len(y) for _, _, y in parts]
        model.eval()
        try:
            # Not inference_mode: what a forward pass keeps for the next one is used in training.
            with torch.no_grad():
                X, y = (torch.cat([part[j] for part in parts]) for j in (1, 2))
                device = _device(model, X.device)
                found = self._predict(model, X, [i for i, _, _ in parts], sizes, device)
                right = _bits(found.to(y.device) == y)
            if any(m.training for m in model.modules()):
                self.changed.add("the mode of evaluation")
            return np.split(right, np.cumsum(sizes)[:-1])
        finally:
            for module, mode in modes:
                module.training = mode

    def _evaluate(self, model: nn.Module, written: Any = None) -> None:
        """Looks at all tasks so far; `written` is what the parameters are, where it is known."""
        device = _device(model, self.own[0][0].device)
        if self.own[0][0].device != device:
            self.own = [(X.to(device), y.to(device)) for X, y in self.own]
        seen = range(self.current + 1)
        before = _state(model)
        written = _written(model) if written is None else written
        found = self._right(model, [(i, *self.own[i]) for i in seen])
        least, looked, full = list(self.least), list(self.looked), []
        for i, right in zip(seen, found, strict=True):
            accuracy = float(right.mean())
            if i < self.current and accuracy < least[i]:
                least[i] = accuracy
                if looked[i] < self.audit and len(self.own[i][1]) < len(self.sets[i][1]):
                    looked[i] += 1
                    (whole,) = self._right(model, [(i, *self.sets[i])])
                    full.append((i, self.evaluations, float(whole.mean())))
        self.changed |= {
            name for name, value in _state(model).items() if not _same(value, before[name])
        }
        if not _unchanged(model, written):
            self.changed.add("parameters")
            written = _written(model)
        left = self.updates, written, _buffers(model)
        self._write([np.packbits(right).tobytes() for right in found])
        self.least, self.looked, self.left = least, looked, left
        self.full += full
        self.evaluations += 1

    def _write(self, outcomes: list) -> None:
        """Outcomes of all tasks seen, or of none: Ctrl-C may come in between."""
        files = self.files[: len(outcomes)]
        ends = []
        for file in files:
            file.seek(0, 2)
            ends.append(file.tell())
        try:
            for file, right in zip(files, outcomes, strict=True):
                file.write(right)
        except BaseException:
            for file, end in zip(files, ends, strict=True):
                file.seek(end)
                file.truncate()
            raise

    # What came out

    def outcomes(self) -> Outcomes:
        """Which rows were right, of the tasks seen so far."""
        packed = []
        for i in range(len(self.ends)):
            self.files[i].seek(0)
            width = -(-len(self.own[i][1]) // 8)
            packed.append(np.frombuffer(self.files[i].read(), np.uint8).reshape(-1, width))
        return Outcomes(tuple(packed), tuple(len(y) for _, y in self.own[: len(self.ends)]))

    def recording(self) -> Recording:
        """All that :func:`whp.continual.stability_gap` wants to know of the tasks that have ended."""
        if not self.ends or len(self.ends) != self.current + 1:
            raise RuntimeError("result() needs tasks that have ended: after_task was not called")
        outcomes = self.outcomes()
        made = Recording(
            outcomes.packed,
            outcomes.n,
            tuple(len(y) for _, y in self.sets[: len(self.ends)]),
            tuple(self.ends),
            self.every,
            tuple(self.full),
            self._answers(),
        )
        # Another class, or methods put into the object, may say what they like: nobody believes them.
        own = not any(callable(getattr(type(self), name, None)) for name in vars(self))
        if own and type(self) is ContinualEvaluator:
            register(made, "packed", "answers", "n", "n_total", "ends", "every", "full")
        return made

    def result(self, **options: Any) -> StabilityGapResult:
        """Metrics and certificates of the tasks that have ended; see :func:`stability_gap`."""
        return stability_gap(self.recording(), **options)

    def _answers(self) -> tuple[Answer, ...]:
        """What is known of each condition; what was loaded was not seen here."""
        answers = (self._unseen(), self._subset(), self._every_update(), self._no_trace())
        if self.loaded or not made_here(self, ContinualEvaluator):
            why = (
                "a part of this recording was loaded or copied, or made by a recorder of one's own"
            )
            kept = {c.name: c for c in th.ROWS}
            answers = tuple(
                a if a.status is Status.VIOLATED else kept[a.name].unchecked(why) for a in answers
            )
        return (*answers, th.NOT_CHOSEN.unchecked("nobody saw"), self._independent())

    def _unseen(self) -> Answer:
        rows = sum(len(y) for _, y in self.sets)
        if self.overlap:
            said = f"{self.overlap} of {rows} rows were, to the last bit"
            by_chance = self._by_chance()
            if self.overlap <= by_chance:
                return th.UNSEEN.unchecked(
                    f"{said}; as evaluation rows repeat each other, {by_chance:.0f} may by chance"
                )
            return th.UNSEEN.check(False, said)
        if self.overlap is None or self.unshown:
            return th.UNSEEN.unchecked(
                f"rows of {self.unshown} of {self.updates} updates were not shown"
            )
        if self.ranks > 1:
            return th.UNSEEN.unchecked(f"only one of {self.ranks} ranks showed its training rows")
        return th.UNSEEN.tested(
            1.0,
            COPIES,
            f"a copy of one of {rows} rows among {len(self.shown)} training rows; one that was "
            "turned, cropped or made noisy looks like no copy",
        )

    def _by_chance(self) -> float:
        """How many evaluation rows may have a twin among the training rows, judging by how many
        have one among the evaluation rows of their task: rows of a few words, or yes and no, do.
        """
        made = 0.0
        for X, _ in self.sets:
            if _bits_of(X) >= BITS:
                continue
            # Different rows cover a share of the law that grows no faster than their number.
            counts = Counter(_hashes(X)).values()
            twins = sum(c for c in counts if c > 1)
            most = min(float(len(X)), twins * len(self.shown) / len(counts))
            made += min(float(len(X)), most + 5 * most**0.5)  # both counts are noisy
        return made

    def _subset(self) -> Answer:
        if _digest(self.own) != self.digest:
            return th.SUBSET.check(False, "evaluation rows were changed after they had been drawn")
        if self.given:
            return th.SUBSET.unchecked("the rows were chosen by the caller")
        if not made_here(self, ContinualEvaluator):
            return th.SUBSET.unchecked("not drawn here")
        n = ", ".join(str(len(c)) for c in self.drawn)
        return th.SUBSET.by_construction(f"the recorder drew {n} rows before the first update")

    def _every_update(self) -> Answer:
        if self.moved:
            return th.EVERY_UPDATE.check(
                False,
                f"the model was changed after the last evaluation of a task {self.moved} times, "
                "without another one",
            )
        if self.unseen and self.every == 1:
            return th.EVERY_UPDATE.check(
                False, f"the model was changed {self.unseen} times without an evaluation"
            )
        if self.unwatched:
            return th.EVERY_UPDATE.unchecked(
                f"{self.unwatched} of {self.updates} updates were counted by hand"
            )
        return th.EVERY_UPDATE.check(
            True, f"{self.updates} steps of the optimiser, parameters the same in between"
        )

    def _no_trace(self) -> Answer:
        if self.changed:
            return th.NO_TRACE.check(False, "it changes " + ", ".join(sorted(self.changed)))
        return th.NO_TRACE.check(
            True,
            "generators, buffers, parameters and modes are the same before and after each of "
            f"{self.evaluations} evaluations",
        )

    def _independent(self) -> Answer:
        if self.grouped:
            return th.INDEPENDENT.unchecked("one row of each group was kept")
        worst = 0.0
        for X, _ in self.own:
            if X[0].numel() >= WIDE and _bits_of(X) >= BITS:
                worst = max(worst, 1 - len(set(_hashes(X))) / len(X))
        if worst > REPEATED:
            return th.INDEPENDENT.check(False, f"{worst:.0%} of a task's rows repeat another one")
        return th.INDEPENDENT.unchecked(
            f"at most {worst:.1%} are exact copies; likeness was not looked for"
        )

    def state_dict(self) -> dict[str, Any]:
        """All that has been recorded, as tensors and numbers; training may go on elsewhere."""
        arrays = []
        for file in self.files:
            file.seek(0)
            packed = np.frombuffer(file.read(), np.uint8)
            arrays.append(torch.from_numpy(packed.copy()))
        return {
            "packed": arrays,
            "chosen": [torch.from_numpy(np.array(c)) for c in self.drawn],
            "kept": None if self.kept is None else [torch.from_numpy(c) for c in self.kept],
            "digest": self.digest.hex(),
            "updates": self.updates,
            "evaluations": self.evaluations,
            "current": self.current,
            "ends": list(self.ends),
            "full": [list(f) for f in self.full],
            "least": list(self.least),
            "looked": list(self.looked),
            "trained_on": sorted(self.trained_on),
            "shown": sorted(self.shown),
            "counts": [
                self.unshown,
                self.unwatched,
                self.unseen + (self.owed is not None),
                int(self.whole_task_shown),
                self.moved,
            ],
            "changed": sorted(self.changed),
            "every": self.every,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, on the same evaluation sets."""
        if "trained_on" not in state or "digest" not in state:
            raise ValueError("state was recorded by an older version: record anew")
        if state["every"] != self.every:
            raise ValueError(f"state was recorded with every={state['every']}, not {self.every}")
        # Numbers of rows are numpy's here; torch.load may have put them on a device (map_location).
        drawn = tuple(c.cpu().numpy().copy() for c in state["chosen"])  # numpy's
        kept = state["kept"]
        if (kept is None) != (self.kept is None):
            raise ValueError("state was recorded with groups, or without, and this one is not")
        sets = self.sets
        if kept is not None:
            kept = [c.cpu().numpy().copy() for c in kept]  # numpy's: which row stands for a group
            sets = _rows_of(self.whole, kept)
        own = _rows_of(sets, drawn)
        if own is None or _digest(own).hex() != state["digest"]:
            raise ValueError("state belongs to other evaluation sets, or to other rows of them")
        forget(self)
        self.loaded = True
        if kept is not None:
            self._keep(kept)
        self.drawn, self.own = drawn, own
        self.digest = _digest(self.own)
        self.hashes = {}
        self.updates, self.evaluations = state["updates"], state["evaluations"]
        self.current, self.ends = state["current"], list(state["ends"])
        self.least, self.looked = list(state["least"]), list(state["looked"])
        self.full = [(int(i), int(t), float(a)) for i, t, a in state["full"]]
        self.trained_on, self.shown = set(state["trained_on"]), set(state["shown"])
        self.unshown, self.unwatched, self.unseen, whole, *moved = state["counts"]
        self.moved, self.owed = sum(moved), None
        self.whole_task_shown = bool(whole)
        self.changed = set(state["changed"])
        self.written = self.left = None
        self.resumed = self.current == len(self.ends)
        for i, (file, packed) in enumerate(zip(self.files, state["packed"], strict=True)):
            file.seek(0)
            file.truncate()
            if i <= self.current:
                file.write(packed.cpu().numpy().tobytes())  # a file holds bytes, of no device


def _one_a_group(
    groups: Sequence[Any], sizes: Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """A random row of each group, for each task."""
    if len(groups) != len(sizes):
        raise ValueError(f"groups must have {len(sizes)} arrays, one a task, got {len(groups)}")
    kept = []
    for i, (labels, n) in enumerate(zip(groups, sizes, strict=True)):
        labels = np.asarray(labels)
        if labels.shape != (n,):
            raise ValueError(f"groups[{i}] must have {n} entries, got shape {labels.shape}")
        order = rng.permutation(n)
        kept.append(order[np.sort(np.unique(labels[order], return_index=True)[1])])
    return kept


def _given_rows(subset: Any, sizes: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Numbers of rows that the caller chose."""
    if isinstance(subset, str | bytes) or not isinstance(subset, Sequence):
        raise TypeError("subset must be a number of rows, or a list of row numbers for each task")
    if len(subset) != len(sizes):
        raise ValueError(f"subset must have {len(sizes)} lists, one a task, got {len(subset)}")
    chosen = []
    for i, (rows, n) in enumerate(zip(subset, sizes, strict=True)):
        array = np.asarray(rows)
        if array.ndim != 1 or not array.size or array.dtype.kind not in "iu":
            raise ValueError(f"subset[{i}] must be row numbers, got {array.dtype}")
        if array.min() < 0 or array.max() >= n or len(np.unique(array)) < len(array):
            raise ValueError(f"subset[{i}] must be different numbers below {n}")
        chosen.append(array.astype(np.int64))
    return tuple(chosen)


def _rows_of(sets: Any, numbers: Any) -> Any:
    """These rows of each set, or None if there are no such rows."""
    if sets is None or len(numbers) != len(sets):
        return None
    for c, (_, y) in zip(numbers, sets, strict=True):
        if not len(c) or len(c) > len(y) or int(c.min()) < 0 or int(c.max()) >= len(y):
            return None
    return [(X[c], y[c]) for (X, y), c in zip(sets, numbers, strict=True)]


def _device(model: nn.Module, otherwise: torch.device) -> torch.device:
    """Where the model lives."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return otherwise


def _bits(right: Tensor) -> np.ndarray:
    """Outcomes, one Boolean a row."""
    return right.cpu().numpy()  # they leave their device here, to be packed


def _bytes(X: Tensor) -> np.ndarray:
    """The bytes of each row."""
    rows = X.detach().cpu()  # bytes are hashed and compared by Python, not by a device
    flat = (rows + 0).reshape(len(X), -1).contiguous()  # + 0 makes −0 and 0 the same
    return flat.view(torch.uint8).reshape(len(X), -1).numpy()


def _hashes(X: Tensor) -> list[int]:
    return [
        int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little") >> 1
        for row in _bytes(X)
    ]


def _narrower(a: torch.dtype, b: torch.dtype) -> torch.dtype:
    """Of two number types the one with fewer digits; whole numbers are taken as the other one."""
    if not a.is_floating_point:
        return b
    return max(a, b, key=lambda d: torch.finfo(d).eps)


def _bits_of(X: Tensor) -> float:
    """Bits that tell rows apart, were their numbers independent of each other; at most BITS or so."""
    few = X[:SOME].detach().cpu()  # moved once: each turn below would wait for the device
    flat = few.reshape(len(few), -1)
    made = 0.0
    for part in flat.split(64, dim=1):
        ordered = part.float().sort(dim=0).values
        different = 1 + (ordered[1:] != ordered[:-1]).sum(dim=0)
        made += float(different.double().log2().sum())
        if made >= BITS:
            break
    return made


def _digest(sets: Sequence[tuple[Tensor, Tensor]]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for X, y in sets:
        digest.update(_bytes(X).tobytes())
        digest.update(_bytes(y).tobytes())
    return digest.digest()


def _versions(model: nn.Module) -> Any:
    """How often each parameter was written to, and where it lies."""
    return tuple(n for p in model.parameters() for n in (p._version, id(p)))


def _written(model: nn.Module) -> Any:
    """Versions and numbers of the parameters: writing to ``.data`` leaves the version.

    A sum of the numbers would not do: it stays where a bias of logits is trained, whose gradient
    adds up to 0.
    """
    return _versions(model), [_raw(p).clone() for p in model.parameters()]


def _raw(p: Tensor) -> Tensor:
    """The bits of a tensor as whole numbers, so that NaN is like NaN."""
    p = p.detach()
    if p.is_complex() or p.element_size() not in WHOLE:
        return p
    return p.view(WHOLE[p.element_size()])


def _numbers(model: nn.Module) -> Any:
    return [_raw(p) for p in model.parameters()]


def _unchanged(model: nn.Module, written: Any) -> bool:
    """Whether nobody wrote to the parameters, were it what stood there before."""
    return bool(_versions(model) == written[0]) and _alike(_numbers(model), written[1])


def _buffers(model: nn.Module) -> Any:
    return [_raw(b).clone() for b in model.buffers()]


def _alike(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(map(torch.equal, a, b))


def _state(model: nn.Module) -> Any:
    """What an evaluation must not change: generators, buffers, parameters, modes."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002
    made = {
        "the generator of torch": torch.random.get_rng_state(),
        "the generator of numpy": (name, np.asarray(keys).tobytes(), rest),
        "the generator of Python": random.getstate(),
        "buffers": _buffers(model),
        "modes": [m.training for m in model.modules()],
        "which parameters are trained": [p.requires_grad for p in model.parameters()],
    }
    device = _device(model, torch.device("cpu"))
    if device.type == "cuda":
        made["the generator of the device"] = torch.cuda.get_rng_state(device)
    return made


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, list) and a and isinstance(a[0], Tensor):
        return len(a) == len(b) and all(map(torch.equal, a, b))
    return bool(a == b)
