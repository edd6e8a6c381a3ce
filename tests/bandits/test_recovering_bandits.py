import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from guarantee import assert_error_rate
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.bandits.recovering_bandits import (
    RecoveringEnv,
    RecoveringPolicy,
    fit_recovery,
    learn_recovering,
    plan_recovering,
    recovering_bandits,
    upper_bound,
)
from whp.bandits.recovering_bandits.guarantee import plan_certificates, simulated_rate
from whp.bandits.recovering_bandits.packing import pack
from whp.bandits.recovering_bandits.plan import as_curves, myopic_rate, rate_of
from whp.bandits.recovering_bandits.rates import a_priori_ratio, period_set, relax, segments
from whp.certificate import Status, Verdict

THREE = [(0.2, 0.6, 0.9, 1.0), (0.5, 0.6, 0.65, 0.65), (0.0, 0.0, 1.2, 1.2)]
HALVES = [1 - 2.0**-d for d in range(1, 9)]


def exponential(rng, N, D):
    a, tau = rng.uniform(0.2, 1, N), rng.uniform(0.5, D / 2, N)
    return a[:, None] * (1 - np.exp(-np.arange(1, D + 1) / tau[:, None]))


def step(k, D=12):
    return [float(d >= k) for d in range(1, D + 1)]


def test_1_share_known_beforehand():
    wanted = {
        1: 0.25,
        2: 0.25,
        3: 1 / 3,
        4: 0.375,
        5: 0.4,
        8: 0.5,
        10: 0.533333,
        16: 0.609375,
        25: 0.672,
        50: 0.754286,
        100: 0.819,
        400: 0.904875,
    }
    for K, gamma in wanted.items():
        assert a_priori_ratio(K) == pytest.approx(gamma, abs=1e-6)


def test_2_worked_example():
    R = as_curves(THREE)
    pieces = segments(R, (1, 2, 3, 4))
    corners: dict[int, list] = {0: [], 1: [], 2: []}
    for h, i in zip(pieces.high.tolist(), pieces.arm.tolist(), strict=True):
        corners[i].append((h, float(R[i, h - 1] / h)))
    assert corners[0] == [(4, pytest.approx(0.25)), (3, pytest.approx(0.3))]
    assert corners[1] == [
        (3, pytest.approx(0.216667, abs=1e-6)),
        (2, pytest.approx(0.3)),
        (1, pytest.approx(0.5)),
    ]
    assert corners[2] == [(3, pytest.approx(0.4))]
    for K, bound, periods, pow2, myopic in (
        (1, 11 / 12, [3, 3, 3], 0.85, 11 / 12),
        (2, 1.2, [3, 1, 3], 1.1, 7 / 6),
    ):
        plan = plan_recovering(THREE, K)
        assert plan.upper_bound == pytest.approx(bound)
        assert plan.period.tolist() == periods
        assert plan.value == pytest.approx(bound)
        assert plan_recovering(THREE, K, periods="pow2", local_search=False).value == pytest.approx(
            pow2
        )
        assert plan.myopic == pytest.approx(myopic, abs=1e-3)
    assert relax(pieces, 0.5).value == pytest.approx(0.5666667)
    assert upper_bound(THREE, 3) == pytest.approx(1.2)


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


def test_6_rounding_to_period_sets():
    assert [p for p in period_set(3, 24) if p <= 24] == [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24]
    assert list(period_set(1, 24)) == [1, 2, 4, 8, 16, 32]
    for m, limit, measured in (
        (1, 2, 1.99805),
        (2, 1.5, 1.49854),
        (3, 4 / 3, 1.33247),
        (5, 1.2, 1.19906),
    ):
        allowed = np.array(period_set(m, 2000))
        worst = max(float(allowed[np.searchsorted(allowed, d)]) / d for d in range(1, 2001))
        assert worst < limit
        assert worst == pytest.approx(measured, abs=2e-3)


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


def optimum(R, K):
    """Best long-run average by value iteration over all idle times."""
    N, D = R.shape
    states = list(itertools.product(range(D), repeat=N))
    place = {s: i for i, s in enumerate(states)}
    actions = [c for k in range(min(K, N) + 1) for c in itertools.combinations(range(N), k)]
    reward, following = (
        np.zeros((len(states), len(actions))),
        np.zeros((len(states), len(actions)), dtype=int),
    )
    for s, a in itertools.product(states, range(len(actions))):
        i = place[s]
        reward[i, a] = sum(R[j, s[j]] for j in actions[a])
        following[i, a] = place[
            tuple(0 if j in actions[a] else min(s[j] + 1, D - 1) for j in range(N))
        ]
    v = np.zeros(len(states))
    for _ in range(400):
        # Half a step of waiting makes the iteration aperiodic.
        new = 0.5 * v + 0.5 * (reward + v[following]).max(axis=1)
        low, high = (new - v).min(), (new - v).max()
        v = new - new.min()
        if high - low < 1e-10:
            break
    return 2 * high, 2 * low


def test_9_between_the_exact_optimum_and_the_bound():
    for rng in np.random.default_rng(0).spawn(60):
        R, K = np.sort(rng.random((3, 4)), axis=1), int(rng.integers(1, 3))
        plan = plan_recovering(R, K)
        high, low = optimum(R, K)
        assert plan.value <= high + 1e-6
        assert low <= plan.upper_bound + 1e-6
        assert plan.value >= a_priori_ratio(K) * plan.upper_bound - 1e-9


def test_9_the_share_is_never_missed():
    def instance(rng):
        N, D, K = int(rng.integers(1, 12)), int(rng.integers(1, 10)), int(rng.integers(1, 5))
        R = np.sort(rng.random((N, D)) ** rng.integers(1, 5), axis=1)
        return plan_recovering(R, K, local_search=bool(rng.integers(2))).certificates

    assert_error_rate(instance, 0.0, n=300)


def test_10_a_played_timetable_earns_its_value():
    rng = np.random.default_rng(0)
    for N, K, D in ((5, 1, 6), (20, 4, 12), (60, 9, 24)):
        R = exponential(rng, N, D)
        plan = plan_recovering(R, K)
        table = plan.table(3000)
        assert max(map(len, table)) <= K
        last, total = np.full(N, -1), 0.0
        for t, arms in enumerate(table):
            if t >= 1000:
                total += R[arms, np.minimum(t - last[arms], D) - 1].sum()
            last[arms] = t
        assert total / 2000 == pytest.approx(plan.value, rel=0.02)
        assert simulated_rate(plan.curves, plan.period, plan.offset, K)[0] == pytest.approx(
            plan.value, rel=1e-9
        )
        assert plan.certificates[2].verdict == Verdict.HOLDS


class World:
    """True curves with normal noise."""

    def __init__(self, R, sigma, seed):
        self.R, self.sigma, self.rng, self.last = (
            R,
            sigma,
            np.random.default_rng(seed),
            np.full(len(R), -1),
        )

    def __call__(self, t, arms):
        gap = np.minimum(t - self.last[arms], self.R.shape[1]) - 1
        self.last[arms] = t
        return self.R[arms, gap] + self.sigma * self.rng.standard_normal(len(arms))


def c3_curves():
    rng = np.random.default_rng(3)
    a = rng.uniform(0.2, 1, 10)
    tau = rng.uniform(0.5, 4, 10)
    return a[:, None] * (1 - np.exp(-np.arange(1, 9) / tau[:, None]))


def test_11_learning():
    R = c3_curves()
    assert upper_bound(R, 3) == pytest.approx(1.1861983858, abs=1e-9)
    assert plan_recovering(R, 3, local_search=False).value == pytest.approx(1.1733036132, abs=1e-9)
    short = learn_recovering(World(R, 0.1, 0), 10, 3, 1000, D=8, noise=0.1, truth=R)
    assert short.certificates[0].verdict == Verdict.VACUOUS
    long = learn_recovering(World(R, 0.1, 0), 10, 3, 4000, D=8, noise=0.1, truth=R)
    assert long.certificates[0].verdict == Verdict.HOLDS
    assert long.gamma_hat == pytest.approx(0.962, abs=0.01)
    assert long.regret_bound == pytest.approx(2760, rel=0.05)
    assert long.reward.mean() / long.benchmark > short.reward.mean() / short.benchmark > 0.8
    blind = learn_recovering(World(R, 0.1, 0), 10, 3, 200, D=8, noise=0.1)
    assert blind.certificates[0].verdict in (Verdict.UNMEASURED, Verdict.VACUOUS)
    import matplotlib.pyplot as plt

    long.plot()
    plan_recovering(R, 3).plot()
    plt.close("all")


def test_11_the_regret_bound_keeps_its_promise():
    def instance(rng):
        R = np.sort(rng.random((3, 3)), axis=1)
        found = learn_recovering(
            World(R, 0.05, rng), 3, 1, 60, D=3, noise=0.05, truth=R, periods="pow2"
        )
        return found.certificates

    assert_error_rate(instance, 0.05, n=300)


def test_11_void_where_rewards_leave_their_range_or_pulls_are_refused():
    R = c3_curves()
    wild = learn_recovering(
        lambda t, arms: np.full(len(arms), 50.0), 10, 3, 100, D=8, bound=1.0, noise=0.1
    )
    assert wild.certificates[0].verdict == Verdict.VOID
    policy = RecoveringPolicy(10, 3, 100, D=8, noise=0.1)
    world = World(R, 0.1, 0)
    for t in range(100):
        arms = policy.act()[: 2 if t < 50 else 3]
        policy.update(arms, world(t, arms))
    assert policy.refused > 0


def test_the_policy_can_be_stopped_and_continued():
    R = c3_curves()
    first, second = (RecoveringPolicy(10, 3, 400, D=8, noise=0.1) for _ in range(2))
    one, two = World(R, 0.1, 0), World(R, 0.1, 0)
    for t in range(150):
        first.update(first.act(), one(t, first.act()))
    for t in range(150):
        second.act()
        second.update(second.act(), two(t, second.act()))
    third = RecoveringPolicy(10, 3, 400, D=8, noise=0.1)
    third.load_state_dict(first.state_dict())
    for t in range(150, 250):
        assert third.act().tolist() == second.act().tolist()
        rewards = two(t, second.act())
        second.update(second.act(), rewards)
        third.update(third.act(), rewards)
    assert third.regret_bound == pytest.approx(second.regret_bound)
    with pytest.raises(ValueError, match="state must hold"):
        third.load_state_dict({})


def test_12_falling_curves():
    with pytest.raises(ValueError, match=r"arm 0 pays 1 at d = 1 and 0\.8 at d = 2"):
        plan_recovering([(1, 0.8, 0.9)], 1)
    kept = plan_recovering([(1, 0.8, 0.9)], 1, monotone="envelope")
    assert kept.upper_bound == 1
    assert [c.verdict for c in kept.certificates] == [Verdict.VOID, Verdict.VOID, Verdict.HOLDS]
    fitted = plan_recovering([(1, 0.8, 0.9)], 1, monotone="isotonic")
    assert fitted.upper_bound == pytest.approx(0.9)
    assert fitted.certificates[0].verdict != Verdict.VOID


def test_broken_timetables_fail():
    R = as_curves(THREE)
    crowded = plan_certificates(
        R,
        np.array([1, 1, 0]),
        np.zeros(3, dtype=int),
        1,
        value=0.7,
        bound=1.0,
        gamma=0.25,
        static=0.5,
        fall=None,
    )
    assert crowded[2].verdict == Verdict.FAILS
    lied = plan_certificates(
        R,
        np.array([1, 0, 0]),
        np.zeros(3, dtype=int),
        1,
        value=0.9,
        bound=1.0,
        gamma=0.25,
        static=0.5,
        fall=None,
    )
    assert lied[2].verdict == Verdict.FAILS
    poor = plan_certificates(
        R,
        np.array([4, 0, 0]),
        np.zeros(3, dtype=int),
        1,
        value=0.25,
        bound=1.2,
        gamma=0.25,
        static=0.0,
        fall=None,
    )
    assert poor[0].verdict == Verdict.FAILS
    assert plan_recovering(THREE, 1).certificates[0].verdict == Verdict.VACUOUS
    rested = np.tile(np.linspace(0.05, 1, 20), (40, 1))
    assert plan_recovering(rested, 10, local_search=False).certificates[0].verdict == Verdict.HOLDS


def events(rng, curves, T=400):
    rows = []
    for i, curve in enumerate(curves):
        t = 0
        while t < T:
            gap = int(rng.integers(1, len(curve) + 1))
            t += gap
            rows.append(
                {"arm": f"a{i}", "time": t, "reward": curve[gap - 1] + 0.05 * rng.standard_normal()}
            )
    return pd.DataFrame(rows)


def test_curves_from_a_log():
    rng = np.random.default_rng(0)
    curves = exponential(rng, 4, 5)
    fit = fit_recovery(events(rng, curves))
    assert fit.curves.shape == (4, 5)
    np.testing.assert_allclose(fit.curves, curves, atol=0.05)
    assert fit.assumptions[0].status == Status.MET
    report = recovering_bandits(events(rng, curves), 1, resamples=20, rng=0)
    assert report.plan.value <= report.plan.upper_bound + 1e-12
    assert report.gain["low"].notna().sum() == 2
    assert set(report.artifacts()) == {"plan.csv", "timetable.csv", "gain.csv"}
    falling = recovering_bandits(events(rng, curves[:, ::-1].copy()), 1, resamples=5, rng=0)
    assert falling.certificates[0].verdict == Verdict.VOID
    drifting = events(rng, curves)
    drifting["reward"] += (drifting["time"] > 200) * 0.5
    assert fit_recovery(drifting).assumptions[1].status == Status.VIOLATED


def test_units_within_an_arm():
    rng = np.random.default_rng(0)
    rows = []
    for u, level in enumerate(
        (0.0, 3.0)
    ):  # the unit that pays more comes more often: raw means fall with the gap
        t = 0
        for _ in range(400):
            gap = int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1] if level else [0.1, 0.2, 0.7]))
            t += gap
            rows.append(
                {
                    "arm": "a",
                    "unit": f"u{u}",
                    "time": t,
                    "reward": level + 1 + 0.3 * gap + 0.1 * rng.standard_normal(),
                }
            )
    log = pd.DataFrame(rows)
    within = fit_recovery(log, unit="unit")
    assert (np.diff(within.raw[0]) > 0).all()
    apart = log.groupby("unit")["reward"].mean()
    assert apart["u1"] > apart["u0"]
    plain = log.assign(arm="a", time=log.groupby("unit").cumcount())
    assert within.assumptions[0].status == Status.MET
    with pytest.raises(ValueError, match="two events"):
        fit_recovery(plain)


def test_the_environment():
    env = RecoveringEnv(THREE, 2, T=50)
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    observation, reward, _, _, info = env.step([1, 0, 1])
    assert (observation.tolist(), reward) == ([1, 2, 1], pytest.approx(0.2))
    assert info["arms"].tolist() == [0, 2]
    _, reward, *_ = env.step([1, 1, 1])
    assert reward == pytest.approx(0.2 + 0.6)
    rested = RecoveringEnv(THREE, 1, start="rested")
    assert rested.reset()[0].tolist() == [4, 4, 4]
    with pytest.raises(ValueError, match="action"):
        env.step([2, 0, 0])


def test_what_leaves_the_plan():
    plan = plan_recovering(THREE, 1, names=["a", "b;\nX", "c"])
    assert plan.artifacts()["plan.csv"]["period"].tolist() == [3, 3, 3]
    calendar = plan.to_ics("2026-01-01", 6)
    assert calendar.count("BEGIN:VEVENT") == 6
    assert "SUMMARY:b\\;X" in calendar
    assert json.dumps(plan.summary())
    assert myopic_rate(as_curves(THREE), 1) == pytest.approx(11 / 12, abs=1e-3)
    assert rate_of(as_curves(THREE), np.array([3, 0, 0])) == pytest.approx(0.3)
    report = recovering_bandits(
        pd.DataFrame({"name": ["x", "y"], "1": [0.1, 0.2], "2": [0.5, 0.2]}), 1
    )
    assert report.plan.names == ("x", "y")


MISUSE = [
    ({"curves": None}, "curves"),
    ({"curves": []}, "curves"),
    ({"curves": [[]]}, "curves"),
    ({"curves": [[0.1, -0.2]]}, "arm 0 has -0.2 at d = 2"),
    ({"curves": [[0.1, np.nan]]}, "curves must be finite"),
    ({"curves": [["a"]]}, "curves"),
    ({"K": 0}, "K"),
    ({"K": 1.5}, "K"),
    ({"periods": "odd"}, "periods"),
    ({"periods": (3, 2)}, "periods"),
    ({"periods": 0}, "periods"),
    ({"monotone": "ignore"}, "monotone"),
    ({"names": ["a"]}, "names"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    given = {"curves": THREE, "K": 1, **wrong}
    with pytest.raises((ValueError, TypeError), match=named):
        plan_recovering(**given)


def test_misuse_of_parts_is_named():
    with pytest.raises(ValueError, match="T must"):
        RecoveringPolicy(3, 1, 5, D=4)
    policy = RecoveringPolicy(3, 1, 20, D=4)
    with pytest.raises(ValueError, match="arms must be at most 1"):
        policy.update([0, 1], [0.1, 0.2])
    with pytest.raises(ValueError, match="rewards must be finite"):
        policy.update([0], [np.nan])
    assert policy.t == 0
    log = pd.DataFrame({"arm": ["a"] * 4, "time": [1, 2, 3, 4], "reward": [0.1] * 4})
    with pytest.raises(ValueError, match="no column 'sku'"):
        fit_recovery(log, arm="sku")
    with pytest.raises(ValueError, match="3 events of arm 'a' at gap 1"):
        fit_recovery(log, D=1)
    with pytest.raises(ValueError, match="whole periods"):
        fit_recovery(log.assign(time=[0.5, 1, 2, 3]))
    with pytest.raises(ValueError, match="finite numbers in column 'reward'"):
        fit_recovery(log.assign(reward=["x"] * 4))
    with pytest.raises(TypeError, match="log must be a table"):
        fit_recovery([1])
    with pytest.raises(ValueError, match="table must hold curves"):
        recovering_bandits(pd.DataFrame({"name": ["a"]}), 1)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.floats(), st.text(max_size=1), st.none()), max_size=4), max_size=4
    ),
    st.integers(-1, 3),
)
def test_bad_input_is_refused_by_name(curves, K):
    told = ""
    try:
        recovering_bandits(curves, K, local_search=False)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("curves ", "K "))
