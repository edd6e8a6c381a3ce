import itertools

import numpy as np
import pytest
from guarantee import assert_error_rate
from recovering import THREE, exponential

from whp.bandits import plan_recovering, upper_bound
from whp.bandits._recovering_bandits.curves import as_curves, myopic_rate, rate_of
from whp.bandits._recovering_bandits.packing import pack
from whp.bandits._recovering_bandits.rates import a_priori_ratio
from whp.studies.recovering_bandits.truth import optimum, played

HALVES = [1 - 2.0**-d for d in range(1, 9)]


def step(k, D=12):
    return [float(d >= k) for d in range(1, D + 1)]


@pytest.mark.parametrize(
    ("N", "K", "periods", "value"),
    [(4, 1, [4] * 4, 0.9375), (6, 2, [3] * 6, 1.75), (3, 2, [1, 2, 2], 1.25)],
)
def test_3_identical_arms(N, K, periods, value):
    plan = plan_recovering([HALVES] * N, K)
    assert plan.period.tolist() == periods
    assert plan.value == pytest.approx(value)
    assert plan.upper_bound == pytest.approx(value)


def test_4_pinwheel():
    plan = plan_recovering([step(2), step(3)], 1)
    assert (plan.upper_bound, plan.value) == pytest.approx((5 / 6, 3 / 4))
    third = plan_recovering([step(2), step(3), step(12)], 1)
    assert third.upper_bound == pytest.approx(11 / 12)
    assert third.value == pytest.approx(5 / 6)
    assert third.period.tolist() == [2, 4, 12]


def test_7_more_slots_than_arms():
    plan = plan_recovering([(0.3, 0.5, 0.6), (0.2, 0.9, 1)], 3)
    assert plan.value == plan.upper_bound == pytest.approx(0.75)
    assert plan.period.tolist() == [1, 2]
    assert plan.price == 0


def test_8_scaling_permuting_repeating():
    R = exponential(np.random.default_rng(0), 8, 10)
    plan = plan_recovering(R, 2)
    scaled = plan_recovering(7 * R, 2)
    assert scaled.period.tolist() == plan.period.tolist()
    assert (scaled.value, scaled.upper_bound) == pytest.approx(
        (7 * plan.value, 7 * plan.upper_bound)
    )
    order = np.random.default_rng(1).permutation(8)
    turned = plan_recovering(R[order], 2)
    assert turned.upper_bound == pytest.approx(plan.upper_bound)
    assert turned.value == pytest.approx(plan.value, rel=0.02)
    assert upper_bound(np.tile(R, (2, 1)), 4) == pytest.approx(2 * plan.upper_bound)


def test_9_the_share_is_never_missed():
    def instance(rng):
        N, D, K = int(rng.integers(1, 12)), int(rng.integers(1, 10)), int(rng.integers(1, 5))
        R = np.sort(rng.random((N, D)) ** rng.integers(1, 5), axis=1)
        return plan_recovering(R, K, local_search=bool(rng.integers(2))).certificates

    assert_error_rate(instance, 0.0, n=300)


def test_the_worked_example():
    for K, bound, periods, pow2, myopic in (
        (1, 11 / 12, [3, 3, 3], 0.85, 11 / 12),
        (2, 1.2, [3, 1, 3], 1.1, 7 / 6),
    ):
        plan = plan_recovering(THREE, K)
        assert plan.upper_bound == pytest.approx(bound)
        assert plan.period.tolist() == periods
        assert plan.value == pytest.approx(bound)
        simple = plan_recovering(THREE, K, periods="pow2", local_search=False)
        assert simple.value == pytest.approx(pow2)
        assert plan.myopic == pytest.approx(myopic, abs=1e-3)
    assert upper_bound(THREE, 3) == pytest.approx(1.2)


def test_9_between_the_exact_optimum_and_the_bound():
    for rng in np.random.default_rng(0).spawn(60):
        R, K = np.sort(rng.random((3, 4)), axis=1), int(rng.integers(1, 3))
        plan = plan_recovering(R, K)
        low, high = optimum(R, K)
        assert plan.value <= high + 1e-6
        assert low <= plan.upper_bound + 1e-6
        assert plan.value >= a_priori_ratio(K) * plan.upper_bound - 1e-9


@pytest.mark.parametrize(("N", "D", "K"), [(3, 4, 1), (4, 4, 2), (5, 3, 1)])
def test_the_best_of_all_timetables_is_found(N, D, K):
    for rng in np.random.default_rng(1).spawn(10):
        R = np.sort(rng.random((N, D)), axis=1)
        every = (np.array(p) for p in itertools.product(range(D + 1), repeat=N))
        best = max(rate_of(R, p) for p in every if pack(p, K) is not None)
        assert plan_recovering(R, K).value >= best - 1e-12


def test_local_search_comes_close_to_a_look_at_all(monkeypatch):
    """The same instances with and without the look at all timetables."""
    import whp.bandits._recovering_bandits.planning as planning

    whole, local = [], []
    for rng in np.random.default_rng(2).spawn(40):
        R = np.sort(rng.random((3, 4)), axis=1)
        whole.append(plan_recovering(R, 1).value)
        with monkeypatch.context() as patch:
            patch.setattr(planning, "ALL", 1)
            local.append(plan_recovering(R, 1).value)
    share = np.array(local) / np.array(whole)
    assert share.max() <= 1 + 1e-12
    assert share.min() > 0.9
    assert np.mean(share > 1 - 1e-9) >= 0.9


def test_policies_without_a_plan():
    assert myopic_rate(as_curves(THREE), 1) == pytest.approx(11 / 12, abs=1e-3)
    assert rate_of(as_curves(THREE), np.array([3, 0, 0])) == pytest.approx(0.3)
    ties = np.tile([0.5, 0.9, 0.9, 1.0], (4, 1))
    # Of equals the smallest numbers: one that rested two periods and arms 0 and 1, for ever.
    assert myopic_rate(ties, 3) == pytest.approx(1.9)
    for rng in np.random.default_rng(0).spawn(5):
        R = exponential(rng, 5, 4)
        now, ahead = myopic_rate(R, 2, 400), myopic_rate(R, 2, 400, lookahead=3)
        assert ahead >= now - 0.02
        assert ahead <= upper_bound(R, 2) + 1e-9
    plan = plan_recovering(THREE, 1)
    assert plan.lookahead(3) == pytest.approx(11 / 12, abs=1e-2)


def test_empty_slots_are_filled_where_that_pays():
    R = np.array([[0.0, 0.0, 1.0], [0.1, 0.1, 0.1]])
    plan = plan_recovering(R[:1], 1)
    assert [a.tolist() for a in plan.filled(6)] == [a.tolist() for a in plan.table(6)]
    gained = []
    for rng in np.random.default_rng(3).spawn(10):
        R = exponential(rng, 6, 5)
        plan = plan_recovering(R, 2, periods=(4, 8), local_search=False)
        filled = plan.filled(400)
        assert max(map(len, filled)) <= 2
        assert all(set(a) <= set(b) for a, b in zip(plan.table(400), filled, strict=True))
        assert plan.played(filled) >= plan.played(plan.table(400)) - 1e-12
        gained.append(played(R, filled)[0] > played(R, plan.table(400))[0] + 1e-9)
    assert any(gained)
