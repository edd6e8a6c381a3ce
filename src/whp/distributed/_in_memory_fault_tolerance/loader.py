"""A data loader that goes on inside an epoch: the same order, the same workers' seeds, the same generators as without a failure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

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
        With any sampler; ``set_epoch`` of a ``DistributedSampler`` is called with the number of the epoch.

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
        self.loader = loader
        self.epoch = self.taken = 0
        self._beginning: dict[str, Any] | None = None
        self._resumed = False

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        sampler = self.loader.sampler
        set_epoch = getattr(sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(self.epoch)
        if self._resumed and self._beginning is not None:
            batches = self._skipped()
        else:
            self.taken, self._beginning = 0, self._states()
            batches = iter(self.loader)
        self._resumed = False
        for batch in batches:
            self.taken += 1
            yield batch
        self.epoch, self.taken, self._beginning = self.epoch + 1, 0, None

    def _skipped(self) -> Iterator[Any]:
        """An iterator past the batches that were taken, the generators as they were before this call."""
        now = self._states()
        assert self._beginning is not None
        self._put(self._beginning)
        batches: Any = iter(self.loader)
        index = getattr(batches, "_next_index", None)
        cheap = index is not None and self.loader.num_workers == 0
        cheap = cheap and not isinstance(self.loader.dataset, torch.utils.data.IterableDataset)
        for _ in range(self.taken):
            if cheap and index is not None:
                index()  # the order is drawn on, and nothing is read
            else:
                next(batches)
        self._put(now, own=False)
        return batches

    def _own(self) -> dict[str, torch.Generator]:
        """Generators of the loader and its sampler, which are not the global ones."""
        found = {
            "loader": getattr(self.loader, "generator", None),
            "sampler": getattr(self.loader.sampler, "generator", None),
        }
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

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is."""
        return {"epoch": self.epoch, "taken": self.taken, "beginning": self._beginning}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there at the next ``iter``."""
        self.epoch, self.taken = int(state["epoch"]), int(state["taken"])
        self._beginning = state["beginning"]
        self._resumed = self._beginning is not None
