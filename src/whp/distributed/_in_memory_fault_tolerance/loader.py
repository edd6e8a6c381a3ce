"""A data loader that goes on inside an epoch: the same order, the same workers' seeds, the same generators as without a failure."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from whp.distributed._in_memory_fault_tolerance.errors import StateMismatchError
from whp.distributed._in_memory_fault_tolerance.generators import random_states, set_random_states

__all__ = ["ResumableLoader"]


class ResumableLoader:
    """A ``DataLoader`` with a ``state_dict``: epoch, batches taken, and the generators as they were when the epoch began.

    ``iter(loader)`` draws the workers' base seed, and the order if there is a shuffle, from a generator: the global one unless the
    loader has its own. A script that restores its generators and then makes an iterator has therefore drawn once more than the
    run that was not disturbed. This one makes the iterator from the generators of the epoch's beginning, skips the batches that
    were taken, and then puts back the generators that were restored.

    Parameters
    ----------
    loader : DataLoader
        With any sampler; ``set_epoch`` of a ``DistributedSampler`` is called with the number of the epoch, also of one that a
        batch sampler draws from. Workers must not live on from epoch to epoch: what they have drawn is not seen from here.

    Attributes
    ----------
    epoch : int
        The epoch that is under way, or comes next.
    taken : int
        Batches of it that were given out.

    Raises
    ------
    TypeError
        If `loader` is not a ``DataLoader``.
    ValueError
        If its workers are persistent.

    Notes
    -----
    A stream (``IterableDataset``) that is read in this process draws from generators of its own, begun from the global one with
    each epoch. Otherwise what it draws would depend on what training drew between two batches, and could not be drawn again.

    Examples
    --------
    >>> import torch
    >>> data = ResumableLoader(torch.utils.data.DataLoader(range(6), batch_size=2))
    >>> state = None
    >>> for batch in data:
    ...     state = data.state_dict()
    ...     break
    >>> again = ResumableLoader(torch.utils.data.DataLoader(range(6), batch_size=2))
    >>> again.load_state_dict(state)
    >>> [batch.tolist() for batch in again], again.epoch
    ([[2, 3], [4, 5]], 1)
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        if not isinstance(loader, DataLoader):
            raise TypeError(f"loader must be a DataLoader, got {type(loader).__name__}")
        if loader.persistent_workers:
            raise ValueError(
                "loader must have persistent_workers=False: the generators of workers that live on from epoch to epoch are lost "
                "with them, and the order of later epochs would be another"
            )
        self.loader = loader
        streamed = isinstance(loader.dataset, torch.utils.data.IterableDataset)
        self._apart = streamed and loader.num_workers == 0
        self._stream: dict[str, Any] = {}
        self.epoch = self.taken = 0
        self._beginning: dict[str, Any] | None = None
        self._resumed = False

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for sampler in self._samplers().values():
            set_epoch = getattr(sampler, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self.epoch)
        if self._resumed and self._beginning is not None:
            batches = self._skipped()
        else:
            self.taken, self._beginning = 0, self._states()
            batches = self._begun()
        self._resumed = False
        while True:
            try:
                batch = self._next(batches)
            except StopIteration:
                break
            self.taken += 1
            yield batch
        self.epoch, self.taken, self._beginning = self.epoch + 1, 0, None

    def _begun(self) -> Iterator[Any]:
        """A new iterator; a stream's generators are seeded by a draw from the global one."""
        batches = iter(self.loader)
        if self._apart:
            seed = int(torch.randint(1 << 32, ()))
            now = random_states()
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            random.seed(seed)
            self._stream = _here(random_states())
            set_random_states(_here(now))
        return batches

    def _next(self, batches: Iterator[Any]) -> Any:
        """The next batch; a stream that is read in this process draws from generators of its own."""
        if not self._apart:
            return next(batches)
        now = _here(random_states())
        set_random_states(self._stream)
        try:
            return next(batches)
        finally:
            self._stream = _here(random_states())
            set_random_states(now)

    def _skipped(self) -> Iterator[Any]:
        """An iterator past the batches that were taken, the generators as they were before this call."""
        now = self._states()
        assert self._beginning is not None
        self._put(self._beginning)
        batches: Any = self._begun()
        index = getattr(batches, "_next_index", None)
        cheap = index is not None and self.loader.num_workers == 0
        cheap = cheap and not self._apart
        for _ in range(self.taken):
            if cheap and index is not None:
                index()  # the order is drawn on, and nothing is read
            else:
                self._next(batches)
        self._put(now, own=False)
        return batches

    def _samplers(self) -> dict[str, Any]:
        """The sampler of rows, that of batches, and the one that it draws from."""
        batches = self.loader.batch_sampler
        inner = getattr(batches, "sampler", None)
        found = {"sampler": self.loader.sampler, "batches": batches, "inner": inner}
        if inner is self.loader.sampler:
            del found["inner"]  # as DataLoader makes it by itself
        return {name: sampler for name, sampler in found.items() if sampler is not None}

    def _own(self) -> dict[str, torch.Generator]:
        """Generators of the loader and its sampler, which are not the global ones."""
        found = {"loader": getattr(self.loader, "generator", None)}
        found |= {name: getattr(s, "generator", None) for name, s in self._samplers().items()}
        return {name: g for name, g in found.items() if g is not None}

    def _states(self) -> dict[str, Any]:
        own = {name: g.get_state().cpu().numpy() for name, g in self._own().items()}
        return {**random_states(), "own": own}

    def _put(self, states: Mapping[str, Any], *, own: bool = True) -> None:
        """Set all generators; with ``own=False`` those of the loader go on where skipping has brought them."""
        set_random_states(states)
        if own:
            for name, generator in self._own().items():
                if name in states["own"]:
                    generator.set_state(torch.from_numpy(states["own"][name]))

    def _shape(self) -> tuple[int | None, int | None]:
        """Batches of an epoch and rows of a batch, where they are known."""
        try:
            length = len(self.loader)
        except TypeError:
            length = None
        size = self.loader.batch_size
        if size is None:
            size = getattr(self.loader.batch_sampler, "batch_size", None)
        return length, size if isinstance(size, int) else None

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is."""
        return {
            "epoch": self.epoch,
            "taken": self.taken,
            "beginning": self._beginning,
            "batches": self._shape(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there at the next ``iter``.

        Raises
        ------
        StateMismatchError
            If an epoch is under way and the loader has another number or size of batches: other rows would be skipped.
        """
        had, has = state.get("batches"), self._shape()
        if had is not None and state["taken"] and tuple(had) != has:
            raise StateMismatchError(
                f"the saved position is {state['taken']} batches into an epoch of {_shown(*had)}, and this loader has "
                f"{_shown(*has)}"
            )
        self.epoch, self.taken = int(state["epoch"]), int(state["taken"])
        self._beginning = state["beginning"]
        self._resumed = self._beginning is not None


def _here(states: Mapping[str, Any]) -> dict[str, Any]:
    """Those of this processor: a stream draws from these, and setting a device's would wait for it."""
    return {name: states[name] for name in ("torch", "numpy", "python")}


def _shown(length: int | None, size: int | None) -> str:
    """The shape of an epoch in words."""
    return f"{'?' if length is None else length} batches of {'?' if size is None else size} rows"
