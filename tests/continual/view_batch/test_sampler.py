import copy
import pickle

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from whp.certificate import Status, Verdict
from whp.continual import ViewBatchSampler, ViewDataset, view_batch_loss, weak_view
from whp.continual._view_batch.views import identity


def test_10_one_view_is_the_ordinary_loader():
    sampler = ViewBatchSampler(20, 4, views=1, epochs=3, seed=1)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 15
    assert all(v == 0 for batch in batches for _, v in batch)
    for e in range(3):
        assert sorted(i for batch in batches[5 * e : 5 * e + 5] for i, _ in batch) == list(
            range(20)
        )
    logits, y = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    total, supervised, divergence = view_batch_loss(logits, y, 1)
    assert torch.equal(total, functional.cross_entropy(logits, y))
    assert torch.equal(supervised, total)
    assert float(divergence) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_with_workers_delivers_the_schedule(workers):
    X, y = torch.rand(40, 64), torch.arange(40)
    sampler = ViewBatchSampler(40, 8, views=4, epochs=8, shuffle="window", window=3, seed=0)
    loader = DataLoader(
        ViewDataset(X, y, weak=identity, strong=weak_view),
        batch_sampler=sampler,
        num_workers=workers,
    )
    seen = []
    for x, labels in loader:
        assert labels.tolist() == [i for i in labels[::4].tolist() for _ in range(4)]
        torch.testing.assert_close(x[::4], X[labels[::4]])
        assert not torch.allclose(x[1], x[2])
        seen.append(labels[::4].numpy())
    log = sampler.log
    assert [s.tolist() for s in log.steps] == [s.tolist() for s in seen]
    assert [c.verdict for c in log.certificates] == [Verdict.HOLDS] * 3
    assert sampler.epoch_of(log.total) == 8


def test_10_a_resumed_sampler_goes_on_with_the_same_samples():
    whole = list(ViewBatchSampler(30, 6, views=3, epochs=6, seed=4))
    first = ViewBatchSampler(30, 6, views=3, epochs=6, seed=4)
    iterator = iter(first)
    begun = [next(iterator) for _ in range(11)]
    again = ViewBatchSampler(30, 6, views=3, epochs=6, seed=99)
    again.load_state_dict(first.state_dict(steps=9))
    assert begun == whole[:11]
    assert list(again) == whole[9:]
    with pytest.raises(ValueError, match="n = 30"):
        ViewBatchSampler(31, 6, views=3, epochs=6).load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="equally long"):
        ViewDataset(torch.rand(3, 4), torch.arange(2), weak=identity)


def sampler(**changes):
    return ViewBatchSampler(**({"n": 256, "batch_size": 32, "epochs": 32, "seed": 5} | changes))


def begun(steps, **changes):
    made = sampler(**changes)
    iterator = iter(made)
    return made, [next(iterator) for _ in range(steps)]


@pytest.mark.parametrize("window", [None, 2])
def test_a_restart_inside_a_cycle_keeps_the_log(window):
    """Saved at step 37 of cycles of 32 and loaded: every sample was delivered as planned."""
    first, _ = begun(37, window=window)
    again = sampler(window=window, seed=6)
    again.load_state_dict(first.state_dict())
    list(again)
    log = again.log
    assert log.total == 256
    verdicts = [c.verdict for c in log.certificates]
    assert verdicts == [Verdict.HOLDS if window else Verdict.VACUOUS, Verdict.HOLDS, Verdict.HOLDS]
    assert "first 37 steps" in log.certificates[0].conditions[0].evidence


@pytest.mark.parametrize(
    "changes",
    [
        {"n": 255},
        {"batch_size": 16},
        {"views": 2},
        {"epochs": 16},
        {"window": 3},
        {"shuffle": "fixed"},
        {"batch_size": 16, "world_size": 2},
    ],
    ids=str,
)
def test_the_state_of_another_sampler_is_refused(changes):
    with pytest.raises(ValueError, match="state belongs to"):
        sampler().load_state_dict(sampler(**changes).state_dict())


@pytest.mark.parametrize(
    "changes",
    [{"position": 0.5}, {"position": -1}, {"seed": -1}, {"altered": 1}, {"more": 0}],
    ids=str,
)
def test_a_broken_state_is_refused(changes):
    with pytest.raises((ValueError, TypeError), match="state"):
        sampler().load_state_dict(sampler().state_dict() | changes)


def test_no_more_steps_can_have_been_trained_than_were_yielded():
    first, _ = begun(5)
    with pytest.raises(ValueError, match="steps"):
        first.state_dict(steps=6)


def test_steps_that_contradict_what_is_known_are_refused():
    first, batches = begun(9)
    again = sampler()
    again.load_state_dict(first.state_dict())
    with pytest.raises(ValueError, match="steps must be"):
        again.state_dict(steps=3)  # counted since the restart: nine were trained before
    for batch in batches[:4]:
        first.trained(batch)
    with pytest.raises(ValueError, match="steps must be the 4"):
        first.state_dict(steps=6)
    assert first.state_dict(steps=4) == first.state_dict()


def test_the_length_stays_while_it_is_iterated_over():
    made = sampler()
    assert len(made) == 256
    iterator = iter(made)
    next(iterator)
    assert len(made) == 256
    again = sampler()
    again.load_state_dict(made.state_dict())
    assert len(again) == 255
    assert len(list(again)) == 255
    assert len(again) == 255
    assert len(list(again)) == 256  # anew, from the first step


def test_what_was_trained_counts_and_not_what_was_yielded():
    made, batches = begun(128, window=2)
    for batch in batches[:64]:
        made.trained(batch)
    assert made.log.total == 64
    assert [c.verdict for c in made.log.certificates] == [Verdict.HOLDS] * 3
    assert made.state_dict()["position"] == 64
    made.trained(batches[65])  # one is skipped
    condition = made.log.certificates[0].conditions[0]
    assert condition.status is Status.VIOLATED
    assert "step 65" in condition.evidence
    again = sampler(window=2)
    again.load_state_dict(made.state_dict())  # which is not forgotten
    list(again)
    assert {c.verdict for c in again.log.certificates} == {Verdict.VOID}


def test_images_that_are_left_out_or_doubled_are_noticed():
    for change in (lambda b: b[1:], lambda b: [*b, b[0]], lambda b: b[::-1]):
        made, batches = begun(1)
        made.trained([i for i, _ in change(batches[0])])
        assert made.log.certificates[0].verdict is Verdict.VOID


@pytest.mark.parametrize("batch", [[], [256], [-1], [0.5], torch.zeros(2, 2, 2, dtype=torch.long)])
def test_reports_that_are_none_are_refused(batch):
    with pytest.raises(ValueError, match="batch"):
        begun(1)[0].trained(batch)


def test_a_loader_gives_the_numbers_that_are_reported():
    X, y = torch.rand(16, 4), torch.arange(16)
    made = ViewBatchSampler(16, 8, views=4, epochs=8, window=2)
    data = ViewDataset(X, y, weak=identity, index=True)
    for _, labels, rows in DataLoader(data, batch_sampler=made):
        assert torch.equal(labels, rows)
        made.trained(rows)
    told = made.log.certificates[0]
    assert told.verdict is Verdict.HOLDS
    assert told.conditions[0].status is Status.UNCHECKED


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_each_step_out(world):
    ranks = [
        ViewBatchSampler(60, 8, views=2, epochs=4, window=2, rank=r, world_size=world)
        for r in range(world)
    ]
    steps = [list(r) for r in ranks]
    assert len({len(s) for s in steps}) == 1
    alone = ViewBatchSampler(60, 8 * world, views=2, epochs=4, window=2)
    for parts, whole in zip(zip(*steps, strict=True), alone, strict=True):
        assert [pair for part in parts for pair in part] == whole
        assert all(parts)
    for rank in ranks:
        assert [s.tolist() for s in rank.log.steps] == [s.tolist() for s in alone.log.steps]
        assert [c.verdict for c in rank.log.certificates] == [Verdict.HOLDS] * 3


def test_ranks_that_would_have_an_empty_batch_are_refused():
    with pytest.raises(ValueError, match="world_size"):
        ViewBatchSampler(33, 8, views=2, epochs=4, world_size=4)
    with pytest.raises(ValueError, match="rank"):
        ViewBatchSampler(33, 8, views=2, epochs=4, rank=1)


class Mapped(Dataset):
    def __init__(self, image=1.0):
        self.image = torch.full((1, 8, 8), image) if isinstance(image, float) else image

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return self.image * i, i, "more"


def test_any_map_style_dataset_is_shown_in_views():
    data = ViewDataset(Mapped(), weak=identity, strong=weak_view)
    assert len(data) == 10
    image, label = data[3, 0]
    assert torch.equal(image, 3 * torch.ones(1, 8, 8))
    assert label == 3
    assert data[3, 1][0].shape == (1, 8, 8)
    with pytest.raises(TypeError, match="transform"):
        ViewDataset(Mapped("x"), weak=identity)[0, 0]
    with pytest.raises(TypeError, match="y must be given"):
        ViewDataset(torch.ones(3, 2), weak=identity)
    with pytest.raises(TypeError, match="map-style"):
        ViewDataset(iter([1]), weak=identity)


def passes(epochs, told, count=2, **changes):
    made = ViewBatchSampler(200, 32, views=4, epochs=epochs, window=5, **changes)
    for _ in range(count):
        for batch in made:
            if told:
                made.trained(batch)
    return made


@pytest.mark.parametrize("told", [False, True])
def test_the_log_is_of_all_passes(told):
    whole = passes(8, told)
    assert whole.log.total == 2 * len(whole) == 100
    assert [c.verdict for c in whole.log.certificates] == [Verdict.HOLDS] * 3
    part = passes(10, told).log  # 63 steps, of which the second pass begins inside a cycle of 25
    assert part.gaps().min() < 21
    assert part.certificates[0].verdict is Verdict.FAILS


def test_what_an_earlier_pass_did_is_not_forgotten():
    made = ViewBatchSampler(200, 32, views=4, epochs=8, window=5)
    for p in range(2):
        for batch in made:
            made.trained(batch[::-1] if p == 0 else batch)
    assert {c.verdict for c in made.log.certificates} == {Verdict.VOID}
    again = ViewBatchSampler(200, 32, views=4, epochs=8, window=5)
    again.load_state_dict(made.state_dict())
    assert again.log.total == 100
    assert len(list(again)) == 50


def test_a_second_pass_is_gone_on_with():
    whole = passes(10, False)
    again = ViewBatchSampler(200, 32, views=4, epochs=10, window=5)
    first = ViewBatchSampler(200, 32, views=4, epochs=10, window=5)
    list(first)
    iterator = iter(first)
    for _ in range(7):
        next(iterator)
    again.load_state_dict(first.state_dict())
    assert len(again) == 56
    assert list(again) == list(iterator)
    assert len(again) == 56
    np.testing.assert_array_equal(again.log.samples, whole.log.samples)


def test_a_copy_is_told_of_its_own_batches():
    made, batches = begun(3, window=2)
    for batch in batches[:2]:
        made.trained(batch)
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        again.trained(batches[2])
        assert (again.log.total, made.log.total) == (3, 2)


class Kept(Dataset):
    """Gives the same tensor each time, as one that holds its images in memory does."""

    def __init__(self, image):
        self.image = image

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return self.image, i


@pytest.mark.parametrize("kind", [torch.Tensor, np.ndarray, Dataset])
def test_a_view_that_is_made_in_place_leaves_the_data_alone(kind):
    def weak(x, generator):
        return x.mul_(0.5)

    X = torch.ones(10, 1, 8, 8)
    given = {torch.Tensor: (X, torch.arange(10)), np.ndarray: (X.numpy(), np.arange(10))}
    held = Kept(X[0])
    data = ViewDataset(*given.get(kind, (held,)), weak=weak)
    for _ in range(3):
        assert data[2, 0][0].max() == 0.5
    assert X.min() == 1
