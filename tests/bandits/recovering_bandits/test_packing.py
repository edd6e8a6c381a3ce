import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.bandits._recovering_bandits.packing import pack


def test_5_packing():
    offsets = {
        (2, 4, 8, 8): [0, 1, 3, 7],
        (3, 6, 12, 12): [0, 2, 5, 11],
        (4, 6, 6, 6, 4): [0, 1, 5, 3, 2],
    }
    for periods, wanted in offsets.items():
        assert pack(np.array(periods), 1)[0].tolist() == wanted
    assert pack(np.array([2, 3]), 1) is None
    assert pack(np.array([2, 3]), 2) is not None
    assert pack(np.array([2, 4, 6, 12]), 1) is None
    assert pack(np.array([2, 6, 6, 6]), 1) is not None
    assert pack(np.zeros(3, dtype=int), 1) is not None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=12), st.integers(1, 4))
def test_5_whatever_packs_has_no_conflict(periods, K):
    period = np.array(periods)
    found = pack(period, K)
    if found is None:
        return
    offset, channel = found
    span = math.lcm(*[p for p in periods if p] or [1])
    pulls = np.zeros((K, span), dtype=int)
    for p, o, c in zip(period, offset, channel, strict=True):
        if p:
            assert 0 <= o < p
            pulls[c, o::p] += 1
    assert pulls.max(initial=0) <= 1
