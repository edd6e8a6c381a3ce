import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from censorship import ALL, BITS, MOST, PARITY, one, random_system, victim
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.datasets.networks import asia
from whp.llm import Censor
from whp.llm._information_censorship.leakage import Measure
from whp.llm._information_censorship.mechanism import (
    TooMany,
    any_prior,
    calibrated,
    leaked,
    universal_bound,
)
from whp.llm._information_censorship.system import read_system

laws = st.integers(0, 2**32 - 1)


def censor(system, measure, eps, k=None, name="erase"):
    P = system.probabilities
    k = len(system.sizes) if k is None else k
    kind = "worst" if measure.truth == "worst" else measure.kind
    moment = measure.moment(P) if kind == "exponential" else 1.0
    mass = float(P[measure.mask].sum())
    return Censor(name, k, eps, 0.0, measure.ceiling(P), mass, kind, measure.lam, moment)


def leaks(made, system, measure):
    return leaked(system, [made.matrix(s) for s in system.sizes], made.k, measure, MOST)


@pytest.mark.parametrize(
    ("mask", "how", "p", "leakage"),
    [
        ([True, True], "universal", 0.0159023031, 0.0026671945),
        ([True, True], "answers", 0.0234205579, 0.0039236744),
        ([True, True], "exact", 0.0600243746, 0.01),
        ([False, True], "universal", 0.0213480985, 0.0032215387),
        ([False, True], "answers", 0.0276402662, 0.0041654884),
        ([False, True], "exact", 0.0669101832, 0.01),
    ],
)
def test_three_calibrations_of_the_chest_clinic(mask, how, p, leakage):
    system, measure = (
        read_system(asia(), "lung", "weight", "smoke,xray,dysp"),
        Measure(np.array(mask)),
    )
    made = calibrated(censor(system, measure, 0.01), [system], measure, how, MOST)
    assert made.strength == pytest.approx(p, abs=1e-9)
    assert leaks(made, system, measure) == pytest.approx(leakage, abs=1e-9)


def test_erasure_with_an_exponent():
    system, measure = victim(), one(kind="exponential")
    made = calibrated(censor(system, measure, 0.05), [system], measure, "exact", MOST)
    assert made.strength == pytest.approx(0.0474732374, abs=1e-9)
    bound = calibrated(censor(system, measure, 0.05), [system], measure, "universal", MOST)
    assert universal_bound(bound, bound.strength) == pytest.approx(0.05)
    assert leaks(bound, system, measure) <= 0.05


def test_swapping_beats_erasure_at_equal_leakage():
    system, measure = victim(), one()
    erase = calibrated(censor(system, measure, 0.05), [system], measure, "exact", MOST)
    swap = calibrated(censor(system, measure, 0.05, name="krr"), [system], measure, "exact", MOST)
    assert (erase.strength, swap.strength) == pytest.approx((0.1121462528, 1.0582917993), abs=1e-9)
    accuracy = erase.strength * 0.7 + (1 - erase.strength) / 4
    swapped = float((system.channels[0] @ swap.matrix(4)).max(axis=0).sum()) / 4
    assert (accuracy, swapped) == pytest.approx((0.3004658138, 0.3939527459), abs=1e-9)


@pytest.mark.parametrize(("eps", "p"), [(0.1, 0.321134), (0.2, 0.491297), (0.3, 0.623295)])
def test_exact_is_calibrated_for_the_adaptive_adversary(eps, p):
    worlds = list(product((0, 1), repeat=3))
    table = np.array([[i, a if i == 0 else r, a if i == 1 else r] for i, a, r in worlds])
    system = read_system(table, [a for _, a, _ in worlds])
    made = calibrated(censor(system, ALL, eps, 2), [system], ALL, "exact", MOST)
    assert made.strength == pytest.approx(p, abs=1e-6)
    assert leaks(made, system, ALL) == pytest.approx(eps, rel=1e-9)


def test_the_largest_entropy_over_all_priors():
    assert [any_prior(4, a) for a in (1, 2, 3)] == pytest.approx(
        [0.3678794412, 0.7357588823, 1.0986122887]
    )
    assert any_prior(2, 2) == pytest.approx(0.6931471806)
    rng = np.random.default_rng(0)
    for inside in (1, 2, 3):
        P = rng.dirichlet(np.ones(4) / 2, 20_000)[:, :inside]
        found = (-P * np.log(np.maximum(P, 1e-300))).sum(axis=1).max()
        assert any_prior(4, inside) - 0.02 < found <= any_prior(4, inside)


@settings(max_examples=60, deadline=None)
@given(laws)
def test_no_system_leaks_more_than_the_universal_bound(seed):
    system, mask, rng = random_system(seed)
    measure = Measure(mask, truth=str(rng.choice(["average", "worst"])))
    for name, strength in (("erase", float(rng.random())), ("krr", float(rng.exponential(1.5)))):
        made = replace(censor(system, measure, 1.0, name=name), strength=strength)
        assert leaks(made, system, measure) <= made.bound * (1 + 1e-9) + 1e-12
    pointwise = replace(measure, kind="pointwise", truth="average")
    made = replace(censor(system, pointwise, 1.0, name="krr"), strength=float(rng.exponential(1.0)))
    assert leaks(made, system, pointwise) <= made.bound * (1 + 1e-9) + 1e-12


@settings(max_examples=30, deadline=None)
@given(laws)
def test_every_calibration_keeps_to_the_budget(seed):
    system, mask, rng = random_system(seed)
    measure, J = Measure(mask), len(system.sizes)
    eps = float(rng.random() * 0.3)
    for k in {1, max(J - 1, 1), J}:
        for name, hows in (
            ("erase", ("universal", "answers", "exact")),
            ("krr", ("universal", "exact")),
        ):
            strengths = []
            for how in hows:
                made = calibrated(
                    censor(system, measure, eps, k, name), [system], measure, how, MOST
                )
                assert leaks(made, system, measure) <= eps * (1 + 1e-9) + 1e-12
                strengths.append(made.strength)
            if name == "erase":
                assert strengths == sorted(strengths) or np.allclose(strengths, sorted(strengths))


def test_the_ends_of_a_budget():
    system = read_system(BITS, PARITY)
    for name in ("erase", "krr"):
        for how in ("universal", "exact"):
            nothing = calibrated(censor(system, ALL, 0.0, name=name), [system], ALL, how, MOST)
            assert leaks(nothing, system, ALL) <= 1e-12
            whole = calibrated(censor(system, ALL, 5.0, name=name), [system], ALL, how, MOST)
            assert leaks(whole, system, ALL) == pytest.approx(math.log(2))


def test_small_budgets_have_their_digits():
    made = calibrated(Censor("erase", 1000, 1e-12, 0.0, 1.0), [], ALL, "universal", MOST)
    assert made.strength == pytest.approx(1e-15, rel=1e-9)


def test_matrices():
    for name in ("erase", "krr"):
        for strength in (0.0, 0.3, 1.0):
            for size in (1, 2, 5):
                assert Censor(name, 1, 1.0, strength, 1.0).matrix(size).sum(
                    axis=1
                ) == pytest.approx(1)
    for eta in (800.0, math.inf):
        assert np.allclose(Censor("krr", 1, 1.0, eta, 1.0).matrix(3), np.eye(3))
    kept, other = Censor("krr", 1, 1.0, 1.2, 1.0).matrix(4)[0, :2]
    assert math.log(kept / other) == pytest.approx(1.2)


def test_too_many_histories_are_named():
    system = victim(repeats=3)
    with pytest.raises(TooMany, match="max_cells"):
        leaked(system, [np.eye(4)] * 3, 3, one(), 60)
    with pytest.raises(ValueError, match="answers"):
        calibrated(censor(system, one(), 0.1), [system], one(), "exact", 60)


def test_the_worst_of_several_priors_counts():
    system = read_system(asia(), "lung", "weight", "smoke,xray,dysp")
    P = system.probabilities
    other = system.believed(
        system.prior * (0.3 / P[1] * (system.answer == 1) + 0.7 / P[0] * (system.answer == 0))
    )
    base = censor(system, ALL, 0.01)
    alone = calibrated(base, [system], ALL, "exact", MOST)
    assert leaks(alone, other, ALL) == pytest.approx(0.0365, abs=5e-5)
    wide = replace(base, ceiling=max(ALL.ceiling(s.probabilities) for s in (system, other)))
    both = calibrated(wide, [system, other], ALL, "exact", MOST)
    assert max(leaks(both, s, ALL) for s in (system, other)) == pytest.approx(0.01)
