"""The schedule as a batch sampler for any DataLoader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from whp.continual.view_batch.schedule import Schedule, Shuffle, cycle_order, plan
from whp.validate import as_int

__all__ = ["ViewBatchSampler", "ViewDataset"]


class ViewBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields batches of (sample, view): ``DataLoader(ViewDataset(...), batch_sampler=ViewBatchSampler(...))``.

    One sampler serves a whole task: its length is the number of steps of all epochs, since an epoch ends inside a cycle.

    Parameters
    ----------
    n, batch_size, views, epochs, shuffle, window
        As for :func:`whp.continual.recall_schedule`.
    seed : int
        Of the orders; each cycle has a generator of its own, so that a restart continues with the same samples.

    Attributes
    ----------
    log : Schedule
        What was yielded so far. With workers the loader asks ahead; ``state_dict(steps)`` takes the steps that were trained.
    """

    def __init__(
        self,
        n: int,
        batch_size: int = 32,
        *,
        views: int = 4,
        epochs: int,
        shuffle: Shuffle = "full",
        window: int | None = None,
        seed: int = 0,
    ) -> None:
        self.sizes = plan(n, batch_size, views, epochs, shuffle, window)
        self.seed = as_int(seed, "seed", low=0)
        self.base = np.random.default_rng([self.seed]).permutation(n)
        self.position = 0
        self._yielded: list[np.ndarray] = []

    def __len__(self) -> int:
        return self.sizes.total - self.position if not self._yielded else self.sizes.total

    def _cycle(self, c: int) -> np.ndarray:
        return cycle_order(self.sizes, self.base, np.random.default_rng([self.seed, c]))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        sizes, number, order = self.sizes, -1, self.base
        if self.position >= sizes.total:
            self.position, self._yielded = 0, []
        while self.position < sizes.total:
            c, place = divmod(self.position, sizes.cycle)
            if c != number:
                number, order = c, self._cycle(c)
            samples = order[place * sizes.distinct : (place + 1) * sizes.distinct]
            self.position += 1
            self._yielded.append(samples)
            yield [(i, v) for i in samples.tolist() for v in range(sizes.views)]

    @property
    def log(self) -> Schedule:
        """What was yielded since the start or the last restart."""
        sizes = self.sizes
        lengths = [len(s) for s in self._yielded]
        samples = np.concatenate(self._yielded) if lengths else np.empty(0, dtype=np.int64)
        at = np.repeat(np.arange(len(lengths)), lengths)
        return Schedule(sizes.n, samples, at, sizes.views, sizes.cycle, sizes.window, len(lengths))

    def epoch_of(self, step: int) -> int:
        """The epoch, of n images, that a step belongs to."""
        return step * self.sizes.views // self.sizes.cycle

    def state_dict(self, steps: int | None = None) -> dict[str, int]:
        """Where to go on; `steps` are those really trained, if a loader with workers has asked for more."""
        return {
            "seed": self.seed,
            "position": self.position if steps is None else as_int(steps, "steps", low=0),
            "n": self.sizes.n,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on with the same samples."""
        if state["n"] != self.sizes.n:
            raise ValueError(f"state belongs to {state['n']} samples, not {self.sizes.n}")
        self.seed, self.position, self._yielded = state["seed"], state["position"], []
        self.base = np.random.default_rng([self.seed]).permutation(self.sizes.n)


class ViewDataset(Dataset[Any]):
    """Samples by (index, view): the weak view for view 0, the strong one for the others.

    Parameters
    ----------
    X : Tensor, shape (n, ...)
    y : Tensor, shape (n,)
    weak, strong : callable
        ``weak(x, generator)`` of a batch of images; `strong` is by default `weak`. Random numbers come from torch's generator,
        which loaders seed for each worker by itself.
    """

    def __init__(
        self,
        X: Tensor,
        y: Tensor,
        *,
        weak: Callable[[Tensor, Any], Tensor],
        strong: Callable[[Tensor, Any], Tensor] | None = None,
    ) -> None:
        if len(X) != len(y):
            raise ValueError(f"X and y must be equally long, got {len(X)} and {len(y)}")
        self.X, self.y, self.weak, self.strong = (
            torch.as_tensor(X),
            torch.as_tensor(y),
            weak,
            strong or weak,
        )

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, at: tuple[int, int]) -> tuple[Tensor, Tensor]:
        i, v = at
        return (self.weak if v == 0 else self.strong)(self.X[i : i + 1], None)[0], self.y[i]
