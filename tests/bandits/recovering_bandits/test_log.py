import numpy as np
import pandas as pd
import pytest
from recovering import events, exponential

from whp.bandits import fit_recovery
from whp.bandits._recovering_bandits import theorems as th
from whp.certificate import Status


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
    assert within.answers[th.RISING_LOG].status is Status.NOT_REFUTED
    with pytest.raises(ValueError, match="two events"):
        fit_recovery(plain)


def test_curves_from_a_log():
    rng = np.random.default_rng(0)
    curves = exponential(rng, 4, 5)
    fit = fit_recovery(events(rng, curves))
    assert fit.curves.shape == (4, 5)
    np.testing.assert_allclose(fit.curves, curves, atol=0.05)
    assert fit.answers[th.RISING_LOG].status is Status.NOT_REFUTED
    drifting = events(rng, curves)
    drifting["reward"] += (drifting["time"] > 200) * 0.5
    assert fit_recovery(drifting).answers[th.SAME_LATER].status is Status.VIOLATED
    falling = fit_recovery(events(rng, curves[:, ::-1].copy()))
    assert falling.answers[th.RISING_LOG].status is Status.VIOLATED


def test_limits_cover_all_means_at_once():
    """Of 200 logs with noise at most 5 % may miss; 20 or more has probability 0.002."""
    missed = 0
    for rng in np.random.default_rng(0).spawn(200):
        curves = exponential(rng, 3, 3)
        low, high = fit_recovery(events(rng, curves, T=200), D=3).limits(0.05)
        missed += bool(((low > curves) | (curves > high)).any())
    assert missed < 20


def test_limits_of_zeros_and_ones_are_binomial():
    rng = np.random.default_rng(0)
    log = events(rng, np.full((2, 2), 0.5), T=900)
    log["reward"] = (rng.random(len(log)) < 0.02).astype(int)
    fit = fit_recovery(log, D=2)
    assert fit.values == (0, 1)
    low, high = fit.limits(0.05)
    assert (low >= 0).all()
    assert (high > fit.raw).all()


def test_a_unit_left_out_at_a_time():
    """The jackknife of a plain mean is its standard error."""
    rng = np.random.default_rng(0)
    rows = [
        {"arm": "a", "unit": u, "time": t, "reward": rng.normal()}
        for u in range(30)
        for t in (1, 2)
    ]
    fit = fit_recovery(pd.DataFrame(rows), unit="unit", D=1)
    # One gap: the unit's own mean is that gap's reward, so that only levels are left.
    levels = pd.DataFrame(rows).query("time == 2")["reward"]
    assert fit.error[0, 0] == pytest.approx(levels.std() / np.sqrt(30))


@pytest.mark.parametrize(
    ("times", "every", "gaps"),
    [
        (["2017-W52", "2018-W01", "2018-W03"], None, [1, 2]),
        (["2020-W53", "2021-W01", "2021-W02"], "week", [1, 1]),
        (["2026-01-31", "2026-02-01", "2026-02-03"], "day", [1, 2]),
        (["2026-01-05", "2026-01-12", "2026-01-26"], "week", [1, 2]),
        (["2025-12", "2026-01", "2026-03"], None, [1, 2]),
        (["2025-12-31", "2026-01-01", "2026-03-01"], "month", [1, 2]),
        (pd.to_datetime(["2026-01-05", "2026-01-12", "2026-01-26"]), "week", [1, 2]),
        (["5", "6", "8"], None, [1, 2]),
        ([20251231, 20260101, 20260103], "day", [1, 2]),
        (["20251231", "20260101", "20260103"], "day", [1, 2]),
        ([202052, 202053, 202102], "week", [1, 2]),
        ([202512, 202601, 202603], "month", [1, 2]),
        (["2026-W9", "2026-W10", "2026-W12"], None, [1, 2]),
        (["2025-12-31T23:59:00Z", "2026-01-01T00:01:00Z", "2026-01-03T05:00:00Z"], "day", [1, 2]),
        (["2025/12/31", "2026/01/01", "2026/01/03"], "day", [1, 2]),
    ],
)
def test_times_are_read_by_their_unit(times, every, gaps):
    log = pd.DataFrame({"arm": "a", "time": times, "reward": [0.1, 0.2, 0.3]})
    fit = fit_recovery(log, D=max(gaps), fewest=1, every=every)
    assert fit.table["gap"].tolist() == gaps


def test_misuse_of_a_log_is_named():
    log = pd.DataFrame({"arm": ["a"] * 4, "time": [1, 2, 3, 4], "reward": [0.1] * 4})
    dates = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
    for wrong, options, message in (
        (log, {"arm": "sku"}, "no column 'sku' for arm"),
        (log, {"reward": "rewards"}, "did you mean 'reward'"),
        (log, {"D": 1}, "3 events of arm 'a' at gap 1"),
        (log.assign(time=[0.5, 1, 2, 3]), {}, "whole periods"),
        (log.assign(reward=["x"] * 4), {}, "finite numbers in column 'reward'"),
        (log.assign(reward=[0.1, np.nan, 0.1, 0.1]), {}, "column 'reward'; row 2 has none"),
        (log.assign(arm=["a", None, "a", "a"]), {}, "column 'arm'; row 2 has none"),
        (log.assign(time=[1, 2, 2, 3]), {}, "rows 2 and 3"),
        (log.assign(time=dates), {}, "say how long a period is"),
        (log, {"every": "week"}, "must go with dates"),
        (log.assign(time=["1", "2", "3", "4"]), {"every": "day"}, "must go with dates"),
        (log.assign(time=[201751, 201752, 201801, 201802]), {}, "say which"),
        (log.assign(time=[20171230, 20171231, 20180101, 20180102]), {}, "say how long a period"),
        (log.assign(time=["2017-W53"] * 4), {}, "'time' of the log has no such date"),
        (log.assign(time=[0, 86400, 172800, 259200]), {}, "shortest gap is 86400"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_recovery(wrong, **options)
    with pytest.raises(TypeError, match="log must be a table"):
        fit_recovery([1])


@pytest.mark.parametrize("size", [3, 20])
def test_limits_cover_where_units_have_gaps_of_their_own(size):
    """Least squares do not take what gaps pay for what units pay."""
    curve, missed = np.array([1.0, 1.6, 2.0]), 0
    for rng in np.random.default_rng(0).spawn(40):
        rows = []
        for u in range(60):
            law = [0.8, 0.15, 0.05] if u % 2 else [0.05, 0.15, 0.8]
            gaps = np.append(1, rng.choice([1, 2, 3], size, p=law))
            paid = curve[gaps - 1] + 0.2 * rng.standard_normal(len(gaps))
            rows.append(
                pd.DataFrame({"arm": "a", "unit": u, "time": np.cumsum(gaps), "reward": paid})
            )
        low, high = fit_recovery(pd.concat(rows), unit="unit", D=3).limits(0.05)
        missed += bool(((low > curve) | (curve > high)).any())
    assert missed < 9  # chance of nine with 5 % each: 1e-4


def test_least_squares_of_units_are_those_of_dummies():
    rng = np.random.default_rng(1)
    rows = pd.concat(
        pd.DataFrame({"arm": "a", "unit": u, "time": np.cumsum(rng.integers(1, 4, 9))})
        for u in range(8)
    )
    rows["reward"] = rng.standard_normal(len(rows))
    fit = fit_recovery(rows, unit="unit", D=3, fewest=1)
    used = fit.table
    dummies = pd.get_dummies(used[["gap", "unit"]].astype(str)).to_numpy(float)
    effects = np.linalg.lstsq(dummies, used["reward"], rcond=None)[0][:3]
    np.testing.assert_allclose(np.diff(fit.raw[0]), np.diff(effects))
    assert used["value"].mean() == pytest.approx(used["reward"].mean())


@pytest.mark.parametrize(("small", "large"), [(0, 1), (0, 2), (-1, 3)])
def test_two_values_have_binomial_limits_in_any_unit(small, large):
    rng = np.random.default_rng(0)
    log = events(rng, np.full((2, 2), 0.5), T=300)
    clicks = rng.random(len(log)) < 0.02
    unit = fit_recovery(log.assign(reward=clicks.astype(int)), D=2)
    fit = fit_recovery(log.assign(reward=np.where(clicks, large, small)), D=2)
    for own, other in zip(fit.limits(0.05), unit.limits(0.05), strict=True):
        np.testing.assert_allclose(own, small + (large - small) * other)


def test_a_cell_of_equal_rewards_has_limits_of_some_width():
    rng = np.random.default_rng(0)
    log = events(rng, np.full((2, 2), 0.5), T=300)
    log.loc[log["arm"] == "a0", "reward"] = 0.0
    low, high = fit_recovery(log, D=2).limits(0.05)
    assert (high - low > 0).all()


def test_arms_that_are_numbers_keep_their_order():
    log = pd.DataFrame(
        [{"arm": i, "time": t, "reward": i + t % 3} for i in (10, 2, 1) for t in range(9)]
    )
    fit = fit_recovery(log, D=1)
    assert fit.arms == ("1", "2", "10")
    assert np.all(np.diff(fit.raw[:, 0]) > 0)


def test_longer_gaps_that_pay_more_are_seen():
    rng = np.random.default_rng(0)
    rising, flat = np.arange(1, 9) / 8, np.minimum(np.arange(1, 9), 4) / 8
    for curve, status in ((rising, Status.VIOLATED), (flat, Status.NOT_REFUTED)):
        fit = fit_recovery(events(rng, np.tile(curve, (3, 1)), T=2000), D=4)
        assert fit.answers[th.FLAT_LOG].status is status
    whole = fit_recovery(events(rng, np.tile(rising, (3, 1)), T=2000), D=8)
    assert whole.answers[th.FLAT_LOG].status is Status.UNCHECKED


@pytest.mark.parametrize("law", ["clicks", "few clicks", "lognormal"])
def test_ordinary_logs_are_seldom_void(law):
    """Sixty arms of unequal numbers of events; level .025 each, chance of four in 15 is 4e-4."""
    falls = changes = steps = 0
    for rng in np.random.default_rng(2).spawn(15):
        made = []
        for i in range(60):
            n = int(rng.integers(40, 120))
            gaps = rng.permutation(np.append(np.repeat(np.arange(1, 7), 5), rng.integers(1, 7, n)))
            chance = {"clicks": 0.5, "few clicks": 0.1}.get(law)
            paid = rng.random(len(gaps)) < chance if chance else rng.lognormal(0, 1, len(gaps))
            times = np.cumsum(gaps) + int(rng.integers(100))
            made.append(pd.DataFrame({"arm": i, "time": times, "reward": paid.astype(float)}))
        answers = fit_recovery(pd.concat(made), D=4).answers
        falls += answers[th.RISING_LOG].status is Status.VIOLATED
        changes += answers[th.SAME_LATER].status is Status.VIOLATED
        steps += answers[th.FLAT_LOG].status is Status.VIOLATED
    assert max(falls, changes, steps) < 4


def weekly_in_days(rng, gaps):
    """Events every one to three weeks, dated in days, after these gaps of days."""
    made = []
    for arm in "ab":
        days = np.append(gaps, 7 * rng.integers(1, 4, 200)).astype(int)
        made.append(pd.DataFrame({"arm": arm, "time": np.cumsum(days), "reward": days / 21}))
    return pd.concat(made, ignore_index=True)


@pytest.mark.parametrize("D", [None, 1])
def test_longer_gaps_that_stand_for_one_hardly_seen_are_said(D):
    """What was paid after a week was promised for every day."""
    rng = np.random.default_rng(0)
    for gaps, count in (([], 0), ([1] * 4, 3)):
        with pytest.warns(UserWarning, match=f"arm 'a' has {count} events at gap 1, .* 1 more"):
            fit = fit_recovery(weekly_in_days(rng, gaps), D=D)
        assert fit.answers[th.FLAT_LOG].status is Status.VIOLATED
    fit = fit_recovery(weekly_in_days(rng, [1] * 6), D=1)
    np.testing.assert_allclose(fit.raw, 1 / 21)
    assert fit.answers[th.FLAT_LOG].status is Status.VIOLATED


def test_nothing_stands_for_a_gap_below_the_longest():
    with pytest.raises(ValueError, match=r"0 events of arm 'a' at gap 1, needed are 5"):
        fit_recovery(weekly_in_days(np.random.default_rng(0), []), D=2)


def test_no_arm_is_left_out():
    log = events(np.random.default_rng(0), np.full((2, 2), 0.5))
    once = pd.DataFrame([{"arm": "pulled once", "time": 3, "reward": 9.0}])
    for D in (None, 2):
        with pytest.raises(ValueError, match="0 events of arm 'pulled once'"):
            fit_recovery(pd.concat([log, once]), D=D)


def test_equal_rewards_of_units_have_a_width():
    """Of twelve events of ten units at each of three gaps two are clicks, all at the first."""
    made = []
    for u in range(10):
        paid = np.zeros(12)
        if u == 0:
            paid[[0, 3]] = 1
        times = np.cumsum(np.tile([1, 2, 3], 4))
        made.append(pd.DataFrame({"arm": "a", "unit": u, "time": times, "reward": paid}))
    fit = fit_recovery(pd.concat(made), unit="unit", D=3)
    low, high = fit.limits(0.05)
    assert (high - low > 0.1).all()


@pytest.mark.parametrize("size", [1e-149, 1e-100, 1e100, 1e149])
def test_units_of_rewards_change_nothing(size):
    log = events(np.random.default_rng(0), exponential(np.random.default_rng(1), 3, 3))
    small, large = (fit_recovery(log.assign(reward=log["reward"] * c), D=3) for c in (1, size))
    np.testing.assert_allclose(large.raw, small.raw * size)
    assert [a.status for a in large.answers.values()] == [a.status for a in small.answers.values()]
    for beyond in (1e-10, 1e10):
        if not 1e-150 < size * beyond < 1e150:
            with pytest.raises(ValueError, match="size between"):
                fit_recovery(log.assign(reward=log["reward"] * size * beyond), D=3)


def test_columns_that_cannot_be_meant_are_refused():
    log = events(np.random.default_rng(0), np.full((2, 2), 0.5))
    twice = pd.concat([log, log[["reward"]]], axis=1)
    with pytest.raises(ValueError, match="more than one column 'reward'"):
        fit_recovery(twice)
    with pytest.raises(ValueError, match="finite numbers in column 'reward'"):
        fit_recovery(log.assign(reward=log["reward"] * (1 + 1j)))
