"""The schedule as a batch sampler for any DataLoader, on one process or on several ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from whp.continual._view_batch.schedule import Schedule, Shuffle, cycle_order, plan
from whp.validate import as_bool, as_int

__all__ = ["ViewBatchSampler", "ViewDataset"]


class ViewBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields batches of (sample, view): ``DataLoader(ViewDataset(...), batch_sampler=ViewBatchSampler(...))``.

    One sampler serves a whole task: its length is the number of steps of all epochs, since an epoch
    ends inside a cycle. Iterating over it again after the end begins anew, with the same orders, and
    the log goes on: another training takes a sampler of its own.

    Parameters
    ----------
    n, batch_size, views, epochs, shuffle, window
        As for :func:`whp.continual.recall_schedule`; `batch_size` is that of each rank.
    seed : int
        Of the orders, the same on all ranks; each cycle has a generator of its own, so that a
        restart continues with the same samples.
    rank, world_size : int
        Number of this process and how many there are. Each step's samples are shared out among the
        ranks; a cycle, a gap and the log are those of all ranks together.

    Attributes
    ----------
    log : Schedule
        What was yielded since the first step, also before a restart and in earlier passes; what was
        trained, if :meth:`trained` was told.
    """

    def __init__(
        self,
        n: int,
        batch_size: int = 32,
        *,
        views: int = 4,
        epochs: int,
        shuffle: Shuffle | None = None,
        window: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.world_size = as_int(world_size, "world_size", low=1)
        self.rank = as_int(rank, "rank", low=0, high=self.world_size - 1)
        images = as_int(batch_size, "batch_size", low=1)
        views = as_int(views, "views", low=1)
        if images % views:
            raise ValueError(f"views must divide batch_size, got {views} and {images}")
        self.sizes = plan(n, images * self.world_size, views, epochs, shuffle, window)
        last = self.sizes.n - (self.sizes.cycle - 1) * self.sizes.distinct
        if last < self.world_size:
            raise ValueError(
                f"world_size must be at most {last}, the samples of a cycle's last step, so that no "
                f"rank has an empty batch, got {self.world_size}; take another batch_size"
            )
        self.seed = as_int(seed, "seed", low=0)
        self.position = 0
        self._restart(0)

    def _restart(self, first: int) -> None:
        self.base = np.random.default_rng([self.seed]).permutation(self.sizes.n)
        self._order: tuple[int, np.ndarray] = (-1, self.base)
        # steps since the very first one, of all passes: what an earlier pass did stays in the log
        self.position = self._first = self._begun = first
        self._reported: list[np.ndarray] = []
        self._altered = ""

    def __getstate__(self) -> dict[str, Any]:
        # a copy is told of its own batches alone
        return {**self.__dict__, "_reported": list(self._reported)}

    def __len__(self) -> int:
        return self.sizes.total - self._begun % self.sizes.total

    def _step(self, step: int) -> np.ndarray:
        """The samples of a step, of all ranks; each pass has the same."""
        c, place = divmod(step % self.sizes.total, self.sizes.cycle)
        if c != self._order[0]:
            rng = np.random.default_rng([self.seed, c])
            self._order = (c, cycle_order(self.sizes, self.base, rng))
        return self._order[1][place * self.sizes.distinct : (place + 1) * self.sizes.distinct]

    def _mine(self, samples: np.ndarray) -> np.ndarray:
        return np.array_split(samples, self.world_size)[self.rank]

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        if self.position % self.sizes.total == 0:
            self._begun = self.position
        end = (self.position // self.sizes.total + 1) * self.sizes.total
        while self.position < end:
            samples = self._mine(self._step(self.position))
            self.position += 1
            yield [(i, v) for i in samples.tolist() for v in range(self.sizes.views)]

    def trained(self, batch: Sequence[Any] | np.ndarray | Tensor) -> None:
        """Note that a batch was trained, so that the log is of what was trained, not of what was yielded.

        Parameters
        ----------
        batch : sequence of int or of (sample, view), array or Tensor
            The sample of each image, in the order of the images; :class:`ViewDataset` gives it with
            ``index=True``. Called after every update, or not at all.
        """
        if isinstance(batch, Tensor):
            batch = batch.detach().cpu()  # the log is numpy's, wherever images are
        rows = np.asarray(batch)
        if rows.ndim not in (1, 2) or rows.dtype.kind not in "iu" or not rows.size:
            raise ValueError("batch must hold the numbers of samples, one for each image")
        numbers = rows if rows.ndim == 1 else rows[:, 0]
        if numbers.min() < 0 or numbers.max() >= self.sizes.n:
            raise ValueError(f"batch must hold numbers of samples below {self.sizes.n}")
        step = self._first + len(self._reported)
        if step >= max(self.sizes.total, self.position):
            raise ValueError(f"batch: all {step} steps were reported as trained already")
        planned = np.repeat(self._mine(self._step(step)), self.sizes.views)
        if not self._altered and not np.array_equal(numbers, planned):
            self._altered = f"step {step + 1} was trained with other samples than were planned"
        self._reported.append(np.unique(numbers))

    @property
    def log(self) -> Schedule:
        """What was yielded, or trained where that was told, since the first step."""
        sizes, told = self.sizes, bool(self._reported)
        end = self._first + len(self._reported) if told else self.position
        steps = [self._step(s) for s in range(end)]
        if told and self.world_size == 1:
            steps[self._first :] = self._reported
        lengths = [len(s) for s in steps]
        origin = "a loader may skip, reorder or lose batches after the sampler; call trained(batch)"
        if told:
            origin = "trained(batch) was told so, which only the caller can know"
            if self.world_size > 1:
                origin += "; what other ranks trained is in their logs"
        if self._first:
            origin += f"; the first {self._first} steps are those that the loaded state names"
        return Schedule(
            sizes.n,
            np.concatenate(steps) if steps else np.empty(0, dtype=np.int64),
            np.repeat(np.arange(end), lengths),
            sizes.views,
            sizes.cycle,
            sizes.window,
            end,
            origin,
            self._altered,
        )

    def epoch_of(self, step: int) -> int:
        """The epoch, of n images, that a step belongs to."""
        return step * self.sizes.views // self.sizes.cycle

    def _plan(self) -> dict[str, int]:
        s = self.sizes
        sizes = {"n": s.n, "distinct": s.distinct, "views": s.views, "window": s.window}
        return {**sizes, "steps": s.total, "world_size": self.world_size}

    def state_dict(self, steps: int | None = None) -> dict[str, int | str]:
        """Where to go on, and what the sampler is.

        Parameters
        ----------
        steps : int, optional
            Those really trained since the very first one, if a loader with workers has asked for
            more; by default what :meth:`trained` was told, or else all that were yielded.

        Raises
        ------
        ValueError
            If more steps are named than were yielded, fewer than a loaded state had, or others than
            :meth:`trained` was told.
        """
        done = self._first + len(self._reported) if self._reported else self.position
        if steps is not None:
            told = as_int(steps, "steps", low=self._first, high=self.position)
            if self._reported and told != done:
                raise ValueError(f"steps must be the {done} that trained(batch) told, got {told}")
            done = told
        return {**self._plan(), "seed": self.seed, "position": done, "altered": self._altered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the same samples, of the same seed.

        Raises
        ------
        ValueError
            If the state is of a sampler of other sizes, or none.
        """
        wanted = {*self._plan(), "seed", "position", "altered"}
        if set(state) != wanted:
            raise ValueError(
                f"state must have {', '.join(sorted(wanted))}, got {', '.join(sorted(map(str, state)))}"
            )
        for name, mine in self._plan().items():
            if state[name] != mine:
                raise ValueError(
                    f"state belongs to a sampler with {name} = {state[name]}, this one has {mine}"
                )
        seed = as_int(state["seed"], "state's seed", low=0)
        position = as_int(state["position"], "state's position", low=0)
        if not isinstance(state["altered"], str):
            raise ValueError("state's altered must be text")
        self.seed = seed
        self._restart(position)
        self._altered = state["altered"]


class ViewDataset(Dataset[Any]):
    """Samples by (index, view): the weak view for view 0, the strong one for the others.

    Parameters
    ----------
    X : Tensor of shape (n, ...), or a map-style dataset
        Images; or anything with a length whose items begin with an image and its label.
    y : Tensor, shape (n,), optional
        Labels; not with a dataset, which has its own.
    weak, strong : callable
        ``weak(x, generator)`` of a batch of images; `strong` is by default `weak`. Random numbers come from torch's generator,
        which loaders seed for each worker by itself.
    index : bool
        Give the sample's number in a third place, for :meth:`ViewBatchSampler.trained`.
    """

    def __init__(
        self,
        X: Any,
        y: Any = None,
        *,
        weak: Callable[[Tensor, Any], Tensor],
        strong: Callable[[Tensor, Any], Tensor] | None = None,
        index: bool = False,
    ) -> None:
        if y is not None and len(X) != len(y):
            raise ValueError(f"X and y must be equally long, got {len(X)} and {len(y)}")
        if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
            raise TypeError("X must be a tensor or a map-style dataset, with a length and items")
        if y is None and isinstance(X, Tensor | np.ndarray):
            raise TypeError("y must be given with an array of images")
        self.X = X if y is None else torch.as_tensor(X)
        self.y = None if y is None else torch.as_tensor(y)
        self.weak, self.strong = weak, strong or weak
        self.index = as_bool(index, "index")

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, at: tuple[int, int]) -> tuple[Any, ...]:
        i, v = at
        if self.y is None:
            image, label, *_ = self.X[i]
            if not isinstance(image, Tensor | np.ndarray):
                raise TypeError(
                    f"X must give tensors or arrays as images, got {type(image).__name__}; give the "
                    "dataset a transform that makes tensors"
                )
            image = torch.as_tensor(image)
        else:
            image, label = self.X[i], self.y[i]
        # a copy: a view that is made in place would change the sample for good, more at each visit
        shown = (self.weak if v == 0 else self.strong)(image[None].clone(), None)[0]
        return (shown, label, i) if self.index else (shown, label)
