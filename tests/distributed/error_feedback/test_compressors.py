import copy
import pickle

import numpy as np
import pytest

from whp.distributed import BlockTopK, Identity, NaturalDeterministic, RandK, TopK
from whp.distributed._error_feedback.compressors import contracts_by_construction


def test_compressors_contract():
    rng = np.random.default_rng(0)
    top = TopK(4)
    v = np.ones(20)
    left = v - top.decompress(top.compress(v))
    assert left @ left / (v @ v) == 0.8
    assert top.compress(v).indices.tolist() == [0, 1, 2, 3]
    for compressor in (
        top,
        BlockTopK(0.2, 5),
        BlockTopK(0.4, 5),
        NaturalDeterministic(),
        Identity(),
    ):
        for _ in range(1000):
            v = rng.normal(size=20)
            left = v - compressor.decompress(compressor.compress(v))
            assert left @ left <= (1 - compressor.alpha(20)) * (v @ v) + 1e-15
    draws = RandK(4)
    ratios = []
    for _ in range(4000):
        v = rng.normal(size=20)
        left = v - draws.decompress(draws.compress(v, rng))
        ratios.append(left @ left / (v @ v))
    assert np.mean(ratios) == pytest.approx(0.8, abs=0.01)


def test_compressors_see_what_is_not_finite():
    v = np.ones(250, dtype=np.float32)
    for compressor in (
        BlockTopK(0.01),
        BlockTopK(0.03),
        TopK(5),
        NaturalDeterministic(),
        Identity(),
    ):
        assert compressor.difference(v, v)[2]
        for bad in (np.nan, np.inf):
            w = v.copy()
            w[137] = bad
            assert not compressor.difference(w, v)[2]


def test_natural_rounding():
    found = NaturalDeterministic().compress(np.array([1.5, 1.4999, 3, -5.9, 0, 0.3, -1])).values
    assert found.tolist() == [2, 1, 4, -4, 0, 0.25, -1]


@pytest.mark.parametrize(
    "compressor",
    [TopK(2), TopK(ratio=0.3), BlockTopK(0.5, 4), NaturalDeterministic(), Identity(), RandK(2)],
    ids=repr,
)
def test_only_what_a_constructor_made_contracts_by_construction(compressor):
    assert contracts_by_construction(compressor)
    assert not contracts_by_construction(copy.copy(compressor))
    assert not contracts_by_construction(pickle.loads(pickle.dumps(compressor)))
    relative = type("Own", (type(compressor),), {}).__new__(type("Own", (type(compressor),), {}))
    relative.__dict__.update(compressor.__dict__)
    assert not contracts_by_construction(relative)
    compressor.count = lambda d: 0
    assert not contracts_by_construction(compressor)
    del compressor.count
    assert contracts_by_construction(compressor)


def test_a_changed_setting_or_a_strange_generator_takes_the_mark_off():
    compressor = TopK(2)
    compressor.k = 3
    assert not contracts_by_construction(compressor)

    class Loaded(np.random.Generator):
        """Draws what it likes."""

    assert contracts_by_construction(RandK(2), np.random.default_rng(0))
    assert not contracts_by_construction(RandK(2), Loaded(np.random.PCG64(0)))
