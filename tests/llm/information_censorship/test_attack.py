import math

import numpy as np
import pytest
from censorship import BITS, MOST, PARITY, random_system
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.datasets.networks import asia
from whp.llm import decompose
from whp.llm._information_censorship.attack import composed
from whp.llm._information_censorship.leakage import Measure, leakage
from whp.llm._information_censorship.system import read_system


def terms(table, target, mask, prior=None):
    system = read_system(table, target, prior)
    channels = [system.dense(j) for j in range(len(system.sizes))]
    return composed(system, channels, np.array(mask))


def test_parity_is_dependence_alone():
    made = terms(BITS, PARITY, [True, True])
    assert (made.single, made.dependence, made.rest) == pytest.approx(
        (0, math.log(2), 0), abs=1e-12
    )
    assert made.joint == pytest.approx(math.log(2), abs=1e-12)


def test_the_published_form_is_false_for_some_answers_and_the_corrected_one_is_tight():
    worlds, q = np.array([[1, 1], [1, 0], [0, 1]]), [0.1, 0.45, 0.45]
    made = terms(worlds, [0, 1, 1], [True, False], q)
    assert made.single == pytest.approx(2 * 0.0597837001, abs=1e-9)
    assert made.dependence == pytest.approx(0, abs=1e-12)
    assert made.joint == pytest.approx(0.2302585093, abs=1e-9)
    assert made.single + made.dependence < made.joint
    assert made.single + made.dependence + made.rest == pytest.approx(made.joint, abs=1e-12)
    whole = terms(worlds, [0, 1, 1], [True, True], q)
    assert (whole.single / 2, whole.joint) == pytest.approx((0.0643063512, 0.3250829734), abs=1e-9)
    assert whole.rest == pytest.approx(0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_composition_bounds_the_joint_leakage(seed):
    system, mask, _ = random_system(seed)
    channels = [system.dense(j) for j in range(len(system.sizes))]
    made = composed(system, channels, mask)
    assert made.joint == pytest.approx(leakage(system, channels, Measure(mask)), abs=1e-12)
    assert made.joint <= made.single + made.dependence + made.rest + 1e-12
    if mask.all():
        assert made.rest == pytest.approx(0, abs=1e-12)


def test_the_greedy_attack_on_the_chest_clinic():
    made = decompose(asia(), "lung", prior="weight", ask="smoke,xray,dysp,bronc,asia", k=3)
    assert made["question"].tolist() == ["xray", "smoke", "dysp"]
    assert made["together"].iloc[-1] == pytest.approx(0.1457110970, abs=1e-9)
    every = decompose(
        asia(), "lung", prior="weight", ask="smoke,xray,dysp,bronc,asia", k=3, strategy="exhaustive"
    )
    assert every["together"].iloc[-1] >= made["together"].iloc[-1] - 1e-12


def test_greedy_misses_what_only_pairs_tell_and_the_search_of_all_sets_does_not():
    bits = np.array([[a, b, c, a ^ b] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    noisy = np.column_stack([bits[:, :3], bits[:, 3] & bits[:, 2]])
    greedy, every = (
        decompose(noisy, bits[:, 3], k=2, strategy=s)["together"].iloc[-1]
        for s in ("greedy", "exhaustive")
    )
    assert every == pytest.approx(math.log(2))
    assert greedy < every


def test_refusals():
    with pytest.raises(ValueError, match="k must be at most"):
        decompose(BITS, PARITY, k=3)
    with pytest.raises(ValueError, match="max_cells"):
        decompose(np.zeros((2, 30)), [0, 1], k=15, strategy="exhaustive", max_cells=MOST)
