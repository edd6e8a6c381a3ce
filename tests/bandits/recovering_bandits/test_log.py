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
    assert fit.binary
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
    ):
        with pytest.raises(ValueError, match=message):
            fit_recovery(wrong, **options)
    with pytest.raises(TypeError, match="log must be a table"):
        fit_recovery([1])
