import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.distributed import StateMismatchError
from whp.distributed._in_memory_fault_tolerance.shards import (
    compare,
    flatten,
    from_plain,
    to_plain,
    unflatten,
)

LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.tuples(
        st.sampled_from(
            [
                torch.float32,
                torch.float64,
                torch.bfloat16,
                torch.int64,
                torch.uint8,
                torch.bool,
                torch.complex64,
            ]
        ),
        st.lists(st.integers(0, 4), max_size=3),
        st.integers(0, 99),
    ).map(
        lambda a: (torch.randn(a[1], generator=torch.Generator().manual_seed(a[2])) * 9).to(a[0])
    ),
)
STATES = st.dictionaries(
    st.text(max_size=4),
    st.recursive(
        LEAVES,
        lambda s: st.one_of(
            st.lists(s, max_size=3),
            st.tuples(s, s),
            st.dictionaries(st.one_of(st.text(max_size=3), st.integers()), s, max_size=3),
        ),
        max_leaves=8,
    ),
    min_size=1,
    max_size=4,
)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=100, deadline=None)
@given(STATES, st.integers(1, 5))
def test_any_state_comes_back(state, shards):
    flat = flatten(state)
    plain = json.loads(json.dumps([flat.manifest, flat.plain]))
    size = -(-flat.size // shards)
    parts = []
    for r in range(shards):
        part = np.full(size, 255, dtype=np.uint8)
        flat.copy_range(r * size, part)
        flat.clear_gaps(r * size, part)
        parts.append(part)
    stream = np.concatenate(parts)
    assert np.array_equal(stream[: flat.size], flat.stream())
    assert not stream[flat.size :].any()
    found = unflatten(stream[: flat.size], *plain)
    assert found.keys() == state.keys()
    assert all(same(state[k], found[k]) for k in state)
    assert all(offset % 64 == 0 for _, _, _, offset, *shared in flat.manifest if not shared)
    assert flatten(found).fingerprint == flat.fingerprint


def test_tied_and_strided_tensors_keep_their_ties():
    whole = torch.arange(12.0).view(3, 4)
    state = {
        "a": whole,
        "b": whole[1:],
        "c": whole.T,
        "d": torch.arange(6.0).view(2, 3).T,
        "e": torch.zeros(4),
    }
    flat = flatten(state)
    assert flat.size == 64 * 3, "one storage of 48 bytes, one of 24, one of 16"
    found = unflatten(flat.stream(), flat.manifest, flat.plain)
    assert all(torch.equal(found[k], state[k]) for k in state)
    found["a"][1, 1] = -5
    assert found["b"][0, 1] == found["c"][1, 1] == -5
    assert found["e"].untyped_storage().nbytes() == 16


def test_plain_data_of_every_kind():
    value = {
        "x": np.arange(3),
        "y": np.float32(2.5),
        "z": OrderedDict(b=1, a=(1, [2, None])),
        3: b"\0\1",
        (1, 2): float("inf"),
        "%": "tag",
    }
    found = from_plain(json.loads(json.dumps(to_plain(value, "value"))))
    np.testing.assert_array_equal(found.pop("x"), value.pop("x"))
    assert found == value
    assert list(found["z"]) == ["b", "a"]
    assert found["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lambda: None,
            r"state\.x must be a tensor or plain data .* got builtins\.function.*\(getter, setter\)",
        ),
        ({1, 2}, "got builtins.set"),
        (torch.eye(2).to_sparse(), "must be a dense tensor"),
        (torch.empty(2, device="meta"), "meta device"),
        (np.array([object()]), "array of object"),
        (Verdict.HOLDS, "got whp.certificate.Verdict"),
    ],
)
def test_what_is_neither_tensor_nor_plain_is_refused(value, message):
    with pytest.raises(TypeError, match=message):
        flatten({"state": {"x": value}})


def test_another_state_is_refused_by_name():
    one = flatten(
        {
            "m": {"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)},
            "o": {"state": torch.zeros(1)},
        }
    )
    two = flatten(
        {"m": {"a": torch.zeros(4), "b": torch.zeros(3).double(), "d": torch.zeros(1)}, "o": {}}
    )
    with pytest.raises(
        StateMismatchError,
        match=r"m\.a is float32 \(2,\) saved and float32 \(4,\) present; m\.b .*; m\.c .* 1 more",
    ):
        compare(one.manifest, two.manifest, ("o.",))
    compare(one.manifest, one.manifest)


@pytest.mark.parametrize("first", ["a", "c"])
def test_storages_of_one_address_and_two_lengths(first):
    values = np.arange(40, dtype=np.float32)
    state = {first: torch.from_numpy(values[:5]), "b": torch.from_numpy(values)}
    flat = flatten(state)
    back = unflatten(flat.stream(), flat.manifest, flat.plain)
    assert torch.equal(back["b"], torch.arange(40.0))
    assert torch.equal(back[first], torch.arange(5.0))


@pytest.mark.parametrize("number", [3, 85, 300, 1000])
def test_every_tensor_is_looked_at(number):
    flat = flatten({f"{i}": torch.zeros(64) for i in range(number)})
    places = flat.places(0, flat.size, set())
    assert {i for i, _, _ in places} == set(range(number))
    assert len(places) == len(set(places)) <= max(256, number)


def test_conjugate_views_are_refused():
    with pytest.raises(TypeError, match="conjugate or negative"):
        flatten({"x": torch.ones(3, dtype=torch.complex64).conj()})


@pytest.mark.parametrize(
    "array",
    [np.ma.array([1, 2], mask=[False, True]), np.ones((1, 1)).view(np.matrix)],
    ids=["masked", "matrix"],
)
def test_arrays_that_are_more_than_their_numbers_are_refused(array):
    with pytest.raises(TypeError, match=r"n must be plain data, got a (MaskedArray|matrix)"):
        to_plain(array, "n")
