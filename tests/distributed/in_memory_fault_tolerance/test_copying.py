import numpy as np
import pytest
import torch

from whp.distributed._in_memory_fault_tolerance.copying import Copy
from whp.distributed._in_memory_fault_tolerance.shards import flatten, unflatten


def numbers(n=50_000, count=4):
    return {f"t{i}": torch.arange(n, dtype=torch.float32) + i for i in range(count)}


def begun(state):
    flat = flatten(state)
    into = np.full(flat.size, 255, dtype=np.uint8)
    return flat, into, Copy(flat, 0, into)


def test_what_lies_still_is_copied_and_not_torn():
    state = numbers() | {"empty": torch.zeros(0), "one": torch.tensor(3.0)}
    flat, into, copy = begun(state)
    copy.take()
    assert not copy.torn
    assert copy.over.is_set()
    back = unflatten(into, flat.manifest, flat.plain)
    assert all(torch.equal(back[name], state[name]) for name in state)


WRITES = {
    "autograd": lambda t: t.clamp_(0, 1),
    "data": lambda t: t.data.clamp_(0, 1),
    "numpy": lambda t: t.numpy().__setitem__(slice(None), 0.5),
    "buffer": lambda t: torch.frombuffer(t.numpy(), dtype=torch.float32).mul_(0.5),
    "one number": lambda t: t.numpy().__setitem__(12_345, -1.0),
}


@pytest.mark.parametrize("how", [h for h in WRITES if h != "one number"])
def test_a_write_before_the_copy_is_seen_by_the_sample(how):
    state = numbers()
    _, _, copy = begun(state)
    WRITES[how](state["t2"])
    copy.take()
    assert copy.torn


@pytest.mark.parametrize("how", WRITES)
def test_a_write_between_both_passes_is_seen_to_the_last_number(how):
    state = numbers()
    flat, _, copy = begun(state)
    whole = flat.copy_range

    def copy_and_write(*arguments, **options):
        whole(*arguments, **options)
        WRITES[how](state["t2"])

    flat.copy_range = copy_and_write
    copy.take()
    assert copy.torn


def test_a_write_after_the_copy_does_no_harm():
    state = numbers()
    flat, into, copy = begun(state)
    copy.take()
    state["t2"].data.zero_()
    assert not copy.torn
    assert unflatten(into, flat.manifest, flat.plain)["t2"][1] == 3.0


def test_running_statistics_are_copied_at_once_and_may_change():
    state = numbers()
    flat = flatten(state)
    into = np.zeros(flat.size, dtype=np.uint8)
    copy = Copy(flat, 0, into, {state["t1"].untyped_storage().data_ptr()})
    state["t1"].add_(1)
    copy.take()
    assert not copy.torn
    assert unflatten(into, flat.manifest, flat.plain)["t1"][0] == 1.0


def test_a_part_of_the_stream_is_watched_alone():
    state = numbers()
    flat = flatten(state)
    half = flat.size // 2 // 64 * 64
    into = np.zeros(half, dtype=np.uint8)
    copy = Copy(flat, 0, into)
    state["t3"].data.zero_()  # lies in another rank's part
    copy.take()
    assert not copy.torn
    np.testing.assert_array_equal(into, flat.stream()[:half])


def test_what_a_device_has_yet_to_write_is_waited_for_before_anything_is_copied():
    order = []
    flat = flatten(numbers())
    flat.settle = lambda: order.append("settle")
    whole = flat.copy_range
    flat.copy_range = lambda *a, **k: (order.append("copy"), whole(*a, **k))
    Copy(flat, 0, np.zeros(flat.size, dtype=np.uint8))
    assert order[:2] == ["settle", "copy"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a device")
def test_running_statistics_that_a_device_has_yet_to_write_are_not_copied_before():
    big = torch.randn(6000, 6000, device="cuda")
    running = torch.zeros(1000, device="cuda")
    flat = flatten({"r": running})
    into = np.zeros(flat.size, dtype=np.uint8)
    for _ in range(20):
        big = big @ big * 1e-4  # keeps the device behind
    running.fill_(1.0)
    Copy(flat, 0, into, {running.untyped_storage().data_ptr()}).take()
    assert (into.view(np.float32)[:1000] == 1).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a device")
@pytest.mark.parametrize("how", [None, "data"])
def test_copies_from_a_device(how):
    state = {name: t.cuda() for name, t in numbers().items()}
    flat, into, copy = begun(state)
    if how:
        WRITES[how](state["t2"])
    copy.take()
    assert bool(copy.torn) == bool(how)
    if not how:
        back = unflatten(into, flat.manifest, flat.plain)
        assert all(torch.equal(back[name], state[name].cpu()) for name in state)
