import math
from itertools import product

import numpy as np
import pytest
from censorship import ALL, BITS, MOST, PARITY, one, random_system, victim
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.datasets.networks import asia
from whp.llm._information_censorship.leakage import (
    Measure,
    adaptive,
    cells,
    leakage,
    plain,
    sampled,
    subset_terms,
    subsets,
)
from whp.llm._information_censorship.mechanism import Censor, leaked, output
from whp.llm._information_censorship.system import read_system


def erased(system, p, k=None):
    J = len(system.sizes)
    return [Censor("erase", k or J, 1.0, p, 1.0).matrix(s) for s in system.sizes]


def brute(system, channels, mask):
    """By the definition, history by history."""
    P, total = system.probabilities, 0.0
    for h in product(*(range(c.shape[1]) for c in channels)):
        law = system.prior * math.prod(c[:, z] for c, z in zip(channels, h, strict=True))
        mass = law.sum()
        if mass > 0:
            after = np.bincount(system.answer, law, len(P)) / mass
            total += mass * sum(after[a] * math.log(after[a] / P[a]) for a in mask if after[a] > 0)
    return total


def test_two_bits_say_nothing_alone_and_all_together():
    system = read_system(BITS, PARITY)
    assert plain(system.only([0]), ALL, MOST) == pytest.approx(0, abs=1e-15)
    assert plain(system, ALL, MOST) == pytest.approx(math.log(2), abs=1e-12)
    for p in (0.5, 0.1):
        assert leaked(system, erased(system, p), 2, ALL, MOST) == pytest.approx(
            p * p * math.log(2), abs=1e-12
        )


def test_multiple_choice():
    for mask, whole in ((None, 0.4458463725), ([0], 0.1114615931)):
        system = victim()
        assert plain(system, one(mask), MOST) == pytest.approx(whole, abs=1e-10)
        for p in (0.5, 0.1):
            assert leaked(system, erased(system, p), 1, one(mask), MOST) == pytest.approx(
                p * whole, abs=1e-10
            )


@pytest.mark.parametrize(
    ("k", "whole", "tenth"),
    [
        (1, 0.4458463725, 0.0445846372),
        (2, 0.7250792495, 0.0875031395),
        (3, 0.9222690026, 0.1288400772),
    ],
)
def test_repeated_answers(k, whole, tenth):
    system = victim(repeats=k)
    assert plain(system, one(), MOST) == pytest.approx(whole, abs=1e-9)
    assert leaked(system, erased(system, 0.1), k, one(), MOST) == pytest.approx(tenth, abs=1e-9)


def test_exponential_and_pointwise():
    system = victim()
    assert plain(system, one(kind="exponential"), MOST) == pytest.approx(0.7323678937, abs=1e-9)
    assert plain(system, one(kind="pointwise"), MOST) == pytest.approx(1.0296194172, abs=1e-9)
    nearly = [plain(system, one(kind="exponential", lam=lam), MOST) for lam in (1e-6, 300.0)]
    assert nearly == pytest.approx([0.4458463725, 1.0296194172], abs=5e-3)


@pytest.mark.parametrize(
    ("eta", "mean", "most"), [(0.5, 0.0100042804, 0.2240926900), (1.0, 0.0443277398, 0.4323540241)]
)
def test_swapped_answers(eta, mean, most):
    system = victim()
    matrices = [Censor("krr", 1, 1.0, eta, 1.0).matrix(4)]
    assert leaked(system, matrices, 1, one(), MOST) == pytest.approx(mean, abs=1e-9)
    assert leaked(system, matrices, 1, one(kind="pointwise"), MOST) == pytest.approx(most, abs=1e-9)


ASIA = {
    "smoke": (0.02243994, 0.02136811),
    "xray": (0.12809861, 0.11356658),
    "dysp": (0.01759380, 0.01665706),
    "bronc": (0.00176045, 0.00166295),
    "either": (0.18539941, 0.15048097),
    "asia": (0.0, 0.0),
    "smoke,xray,dysp": (0.1457110970, 0.1239926187),
}


@pytest.mark.parametrize("ask", ASIA)
def test_the_chest_clinic(ask):
    system = read_system(asia(), "lung", "weight", ask)
    assert len(system.prior) == 128
    assert system.probabilities[1] == pytest.approx(0.055)
    for mask, wanted in zip(([True, True], [False, True]), ASIA[ask], strict=True):
        assert plain(system, Measure(np.array(mask)), MOST) == pytest.approx(wanted, abs=6e-9)


def test_the_ceiling_of_the_chest_clinic():
    P = read_system(asia(), "lung", "weight", "smoke").probabilities
    assert ALL.ceiling(P) == pytest.approx(0.2129821973, abs=1e-10)
    assert Measure(np.array([False, True])).ceiling(P) == pytest.approx(0.1595232152, abs=1e-10)


laws = st.integers(0, 2**32 - 1)


@settings(max_examples=60, deadline=None)
@given(laws)
def test_the_tensor_against_the_definition(seed):
    system, mask, _ = random_system(seed)
    channels = [system.dense(j) for j in range(len(system.sizes))]
    wanted = brute(system, channels, np.flatnonzero(mask))
    assert leakage(system, channels, Measure(mask)) == pytest.approx(wanted, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(laws)
def test_every_subset_from_one_tensor(seed):
    system, mask, rng = random_system(seed)
    measure, p = Measure(mask), rng.random()
    terms, answered = subset_terms(system, measure)
    found = subsets(terms)
    for S, value in found.items():
        part = [system.dense(j) for j in S]
        assert value == pytest.approx(leakage(system, part, measure), abs=1e-12)
    J = len(system.sizes)
    mixed = sum(p ** len(S) * (1 - p) ** (J - len(S)) * v for S, v in found.items())
    assert leaked(system, erased(system, p), J, measure, MOST) == pytest.approx(mixed, abs=1e-12)
    assert answered.max() == J


@settings(max_examples=40, deadline=None)
@given(laws)
def test_one_answer_leaks_p_times_as_much(seed):
    system, mask, rng = random_system(seed, most=2)
    p, measure = rng.random(), Measure(mask)
    whole = leakage(system, [system.dense(0)], measure)
    assert leaked(system, erased(system, p), 1, measure, MOST) == pytest.approx(
        p * whole, abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(laws)
def test_invariances(seed):
    system, mask, rng = random_system(seed)
    measure = Measure(mask)
    channels = [system.dense(j) for j in range(len(system.sizes))]
    base = leakage(system, channels, measure)
    assert leakage(system, channels[::-1], measure) == pytest.approx(base, abs=1e-12)
    order = rng.permutation(len(system.prior))
    moved = read_system(
        [c[order] for c in channels],
        np.array(system.names)[system.answer][order],
        system.prior[order],
    )
    mask_again = np.isin(moved.names, np.array(system.names)[mask])
    if mask_again.any():
        again = leakage(moved, [moved.dense(j) for j in range(len(channels))], Measure(mask_again))
        assert again == pytest.approx(base, abs=1e-12)
    halved = read_system(
        [np.vstack([c, c[:1]]) for c in channels],
        np.array(system.names)[np.append(system.answer, system.answer[0])],
        np.concatenate([[system.prior[0] / 2], system.prior[1:], [system.prior[0] / 2]]),
    )
    mask_halved = np.isin(halved.names, np.array(system.names)[mask])
    if mask_halved.any():
        split = leakage(
            halved, [halved.dense(j) for j in range(len(channels))], Measure(mask_halved)
        )
        assert split == pytest.approx(base, abs=1e-12)
    merged = [np.column_stack([channels[0][:, 0], channels[0][:, 1:].sum(axis=1)]), *channels[1:]]
    assert leakage(system, merged, measure) <= base + 1e-12


def test_rare_worlds_lose_nothing():
    prior = np.array([1.0, 1e-300])
    system = read_system(np.array([["a"], ["b"]]), ["no", "yes"], prior)
    only = Measure(np.array([False, True]))
    wanted = 1e-300 * 300 * math.log(10)
    assert leakage(system, [system.dense(0)], only) == pytest.approx(wanted, rel=1e-9)
    assert plain(system, Measure(np.array([True, True]), kind="pointwise"), MOST) == pytest.approx(
        300 * math.log(10)
    )


def test_one_world_and_one_response_leak_nothing():
    assert plain(read_system(np.array([["x", "y"]]), ["a"]), Measure(np.ones(1, bool)), MOST) == 0
    system = read_system([np.ones((3, 1))], [0, 1, 2])
    assert plain(system, one(m=3), MOST) == pytest.approx(0, abs=1e-15)


def test_the_worst_world_may_lie_above_the_mean():
    system = read_system(asia(), "lung", "weight", "xray,dysp")
    mean, worst = (
        plain(system, Measure(np.ones(2, bool), truth=t), MOST) for t in ("average", "worst")
    )
    after = system.prior
    by_hand = []
    table = np.column_stack(system.channels)
    for s in range(len(after)):
        same = (table == table[s]).all(axis=1)
        law = np.bincount(system.answer[same], after[same], 2) / after[same].sum()
        by_hand.append(
            sum(
                q * math.log(q / p) for q, p in zip(law, system.probabilities, strict=True) if q > 0
            )
        )
    assert worst == pytest.approx(max(by_hand), abs=1e-12)
    assert worst > mean


def test_an_adaptive_adversary_gains_more_than_any_fixed_set():
    worlds = list(product((0, 1), repeat=3))
    table = np.array([[i, a if i == 0 else r, a if i == 1 else r] for i, a, r in worlds])
    system = read_system(table, [a for _, a, _ in worlds])
    matrices = [np.eye(2)] * 3
    fixed = max(plain(system.only(pair), ALL, MOST) for pair in ((0, 1), (0, 2), (1, 2)))
    assert leaked(system, matrices, 2, ALL, MOST) == pytest.approx(math.log(2))
    assert fixed < 0.5


@settings(max_examples=25, deadline=None)
@given(laws)
def test_the_adaptive_optimum_against_every_strategy(seed):
    """Two of three questions: the first, and the second by what the first returned, all strategies by hand."""
    rng = np.random.default_rng(seed)
    W = 5
    system = read_system([rng.dirichlet([0.3, 0.3], W) for _ in range(3)], rng.integers(0, 2, W))
    measure = Measure(np.ones(len(system.names), bool))
    channels = output(system, [np.eye(2)] * 3)
    best = 0.0
    for first in range(3):
        others = [j for j in range(3) if j != first]
        for choice in product(others, repeat=2):
            total = 0.0
            for z, second in enumerate(choice):
                made = cells(system, [channels[first], channels[second]], measure).reshape(2, 2)
                total += made[z].sum()
            best = max(best, total)
    assert leaked(system, [np.eye(2)] * 3, 2, measure, MOST) == pytest.approx(best, abs=1e-12)


def test_all_questions_in_any_order_are_one_history():
    system = victim(repeats=2)
    measure = one()
    channels = [system.dense(j) for j in range(2)]
    table = {(0, 1): cells(system, channels, measure).reshape(4, 4)}
    assert adaptive(table, 2, measure) == pytest.approx(
        leakage(system, channels, measure), abs=1e-12
    )


@pytest.mark.parametrize("rare", [1e-3, 1e-4])
def test_sampled_leakage_covers_where_rare_answers_carry_it(rare):
    right = np.array([[0.9, 0.1], [0.1, 0.9]])
    system = read_system([right] * 5, ["no", "yes"], [1 - rare, rare])
    channels = [system.dense(j) for j in range(5)]
    for mask in ([True, True], [False, True]):
        measure = Measure(np.array(mask))
        truth = leakage(system, channels, measure)
        inside = 0
        for seed in range(40):
            e = sampled(system, channels, measure, 2000, 0.05, np.random.default_rng(seed))
            inside += e.low <= truth <= e.high
        assert inside >= 38


def test_deterministic_tables_beyond_all_histories():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 9, (300, 8))
    system = read_system(table, rng.integers(0, 2, 300))
    assert plain(system, ALL, 10) == pytest.approx(math.log(2), abs=0.05)
    small = system.only([0, 1])
    for kind in ("expected", "exponential", "pointwise"):
        measure = Measure(np.array([True, False]), kind=kind)
        assert plain(small, measure, 1) == pytest.approx(plain(small, measure, MOST), abs=1e-12)


def test_a_worst_case_that_vanishes_in_rounding_is_refused():
    rare = np.array([[1 - 1e-16, 1e-200], [1 - 1e-16, 1e-180]])
    system = read_system([rare, rare], [0, 1])
    with pytest.raises(ValueError, match="pointwise"):
        plain(system, Measure(np.ones(2, bool), kind="pointwise"), MOST)
    assert plain(system, ALL, MOST) == pytest.approx(0, abs=1e-12)
