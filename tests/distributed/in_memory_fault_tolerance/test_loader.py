import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
)

from whp.distributed import ResumableLoader, StateMismatchError
from whp.distributed._in_memory_fault_tolerance.generators import random_states, set_random_states


class Augmented(Dataset):
    """Rows whose reading draws from all generators, as augmentation does."""

    def __len__(self):
        return 20

    def __getitem__(self, i):
        return i + float(torch.rand(())) * 0.1 + random.random() * 0.01 + np.random.random() * 1e-3


class Stream(IterableDataset):
    """Rows in an order that is drawn while training draws, too."""

    def __iter__(self):
        held = []
        for i in range(20):
            held.append(i)
            if len(held) > 5:
                yield held.pop(int(torch.randint(len(held), ()))) + random.random()
        yield from held


def loaders(kind, workers=0):
    rows = Augmented()
    options = {"batch_size": 3, "num_workers": workers}
    if kind == "a stream that draws":
        return DataLoader(Stream(), **options)
    if kind == "batches of a sampler with a generator":
        drawn = RandomSampler(rows, generator=torch.Generator().manual_seed(4))
        return DataLoader(rows, batch_sampler=BatchSampler(drawn, 3, False), num_workers=workers)
    if kind == "shuffled":
        return DataLoader(rows, shuffle=True, **options)
    if kind == "in order":
        return DataLoader(rows, **options)
    if kind == "own generator":
        return DataLoader(rows, shuffle=True, generator=torch.Generator().manual_seed(4), **options)
    sampler = DistributedSampler(rows, num_replicas=2, rank=1, seed=3)
    return DataLoader(rows, sampler=sampler, **options)


def seeded():
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


def walked(data, epochs, stop=None, drawn=None):
    """Batches, each with what training draws after it; a state after batch number `stop`."""
    drawn, state = [] if drawn is None else drawn, None
    while data.epoch < epochs:
        for batch in data:
            drawn.append((batch.tolist(), float(torch.rand(())), random.random()))
            if len(drawn) == stop:
                state = (data.state_dict(), random_states())
                return drawn, state
    return drawn, state


KINDS = (
    "batches of a sampler with a generator",
    "a stream that draws",
    "shuffled",
    "in order",
    "own generator",
    "distributed",
)


@pytest.mark.parametrize("stop", [1, 4, 7, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_what_would_have_come(kind, stop):
    assert_goes_on(kind, stop)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_workers_draw_what_they_would_have_drawn(kind):
    assert_goes_on(kind, 4, workers=2)


def assert_goes_on(kind, stop, workers=0):
    seeded()
    calm, _ = walked(ResumableLoader(loaders(kind, workers)), 3)
    seeded()
    before, state = walked(ResumableLoader(loaders(kind, workers)), 3, stop)
    again = ResumableLoader(loaders(kind, workers))
    torch.manual_seed(99)  # another process
    again.load_state_dict(state[0])
    set_random_states(state[1])
    after, _ = walked(again, 3)
    assert before + after == calm


def test_only_loaders_are_taken():
    with pytest.raises((TypeError, Exception), match="DataLoader"):
        ResumableLoader([1, 2])
    assert len(ResumableLoader(loaders("in order"))) == 7


def test_workers_that_live_on_are_refused():
    loader = DataLoader(Augmented(), num_workers=1, persistent_workers=True)
    with pytest.raises(ValueError, match="persistent_workers=False"):
        ResumableLoader(loader)


def test_a_sampler_inside_a_batch_sampler_is_told_the_epoch():
    sampler = DistributedSampler(Augmented(), num_replicas=2, rank=0)
    data = ResumableLoader(
        DataLoader(Augmented(), batch_sampler=BatchSampler(sampler, 2, drop_last=False))
    )
    first = list(sampler)
    for _ in range(2):
        list(data)
    assert sampler.epoch == 1
    assert list(sampler) != first


def test_a_stream_leaves_the_generators_of_training_alone():
    data = ResumableLoader(loaders("a stream that draws"))
    seeded()
    batches = iter(data)
    next(batches)
    before = torch.get_rng_state(), random.getstate()
    next(batches)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"dataset": range(30)}])
def test_a_position_in_another_loader_is_refused(change):
    options = {"dataset": range(20), "batch_size": 2}
    data = ResumableLoader(DataLoader(**options))
    batches = iter(data)
    next(batches)
    with pytest.raises(StateMismatchError, match="1 batches into an epoch of 10 batches of 2 rows"):
        ResumableLoader(DataLoader(**options | change)).load_state_dict(data.state_dict())
    list(batches)
    later = ResumableLoader(DataLoader(**options | change))
    later.load_state_dict(data.state_dict())  # between two epochs
    assert later.epoch == 1
