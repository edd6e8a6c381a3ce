import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recovering import THREE, events, exponential

from whp.bandits import plan_recovering, recovering_bandits, upper_bound
from whp.certificate import Scope


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
    assert not told or told.startswith(("table ", "curves ", "K "))


def verdicts(report):
    return {c.name: str(c.verdict) for c in report.certificates}


def test_a_log():
    rng = np.random.default_rng(0)
    curves = exponential(rng, 4, 5)
    report = recovering_bandits(events(rng, curves), 1, resamples=20, rng=0)
    assert report.plan.value <= report.plan.upper_bound + 1e-12
    assert report.gain["low"].notna().sum() == 2
    assert set(report.artifacts()) == {"plan.csv", "timetable.csv", "gain.csv", "curves.csv"}
    assert report.earns_at_least < report.plan.value
    by_name = {c.name: c for c in report.certificates}
    assert by_name["loss"].scope is Scope.FITTED
    assert by_name["long-run-loss"].scope is Scope.POPULATION
    assert not by_name["loss"].passes("holds"), "a statement on the fit is none on the world"
    falling = recovering_bandits(events(rng, curves[:, ::-1].copy()), 1, resamples=5, rng=0)
    assert verdicts(falling)["loss"] == verdicts(falling)["long-run-loss"] == "void"


def test_many_events_decide():
    rng = np.random.default_rng(0)
    curves = np.outer([1.0, 0.9, 0.8], [0.1, 0.6, 1.0])
    report = recovering_bandits(events(rng, curves, T=4000), 1, resamples=5, at_least=0.9, rng=0)
    assert verdicts(report)["long-run-loss"] == "holds"


def test_curves_with_names():
    table = pd.DataFrame({"name": ["x", "y"], "1": [0.1, 0.2], "2": [0.5, 0.2]})
    report = recovering_bandits(table, 1)
    assert report.plan.names == ("x", "y")
    assert report.fit is None
    numbered = pd.DataFrame({"id": [7, 8], "1": [0.1, 0.2], "2": [0.5, 0.2]})
    assert recovering_bandits(numbered, 1).plan.names == ("7", "8"), "an id is no reward"
    plain = recovering_bandits(pd.DataFrame(THREE), 1)
    assert plain.plan.period.tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (pd.DataFrame({"name": ["a"]}), {}, "must hold a log"),
        (pd.DataFrame({"week": [1, 2], "uplift": [3, 4]}), {}, "must hold a log.*got uplift"),
        (pd.DataFrame({"a": [1.0], "1": [1.0], "3": [2.0]}), {}, r"1, 2, 3, … in order, got 1, 3"),
        (pd.DataFrame({"1": [1.0], "2": [2.0]}), {"D": 3}, "D must go with a log"),
        (pd.DataFrame({"1": [1.0], "2": [2.0]}), {"every": "day"}, "every must go with a log"),
    ],
)
def test_tables_that_are_neither(table, options, message):
    with pytest.raises(ValueError, match=message):
        recovering_bandits(table, 1, **options)


def test_a_mistyped_column_of_a_log():
    log = pd.DataFrame({"sku": [1, 1], "week": [1, 2], "uplift": [0.1, 0.2]})
    with pytest.raises(ValueError, match=r"no column 'upliftt'; did you mean 'uplift'.*all three"):
        recovering_bandits(log, arm="sku", time="week", reward="upliftt")
    with pytest.raises(ValueError, match="monotone and tol must go with curves"):
        recovering_bandits(log, arm="sku", time="week", reward="uplift", monotone="envelope")


def test_an_arm_that_costs_is_not_pulled():
    rng = np.random.default_rng(0)
    log = events(rng, np.vstack([exponential(rng, 1, 3), np.zeros((1, 3))]))
    log.loc[log["arm"] == "a1", "reward"] -= 5
    report = recovering_bandits(log, K=2, D=3, resamples=2, rng=0)
    assert report.plan.period[1] == 0
    assert report.plan.channel[1] == -1
    assert report.earns_at_least is not None
    assert report.earns_at_least > 0


def test_columns_of_a_data_frame_are_gaps():
    """A column of ids was the first gap."""
    plain = [[2.0, 3.0], [3.0, 4.0], [4.0, 5.0]]
    frame = pd.DataFrame(plain, columns=[1, 2])
    ids = frame.copy()
    ids.insert(0, "id", [100, 101, 102])
    assert upper_bound(ids, 1) == upper_bound(frame, 1) == upper_bound(plain, 1)
    assert plan_recovering(ids, 1).names == ("100", "101", "102")
    pivoted = frame.set_axis(list("xyz"), axis=0)
    for plan in (plan_recovering(pivoted, 1), recovering_bandits(pivoted, 1).plan):
        assert plan.names == ("x", "y", "z")
    for door in (plan_recovering, upper_bound):
        with pytest.raises(ValueError, match="in order, got 2, 1"):
            door(frame[[2, 1]], 1)


def test_units_are_drawn_also_where_there_are_as_many_as_arms():
    """Three stores that differ in how they recover: events alone made intervals far too narrow."""
    rng = np.random.default_rng(0)
    made, level = [], rng.normal(0, 1, (3, 3, 3))
    for i, u in np.ndindex(3, 3):
        gaps = rng.integers(1, 4, 100)
        paid = 2 + gaps / 3 + level[i, u][gaps - 1] + 0.1 * rng.standard_normal(100)
        columns = {"arm": i, "store": u, "time": np.cumsum(gaps), "reward": paid}
        made.append(pd.DataFrame(columns))
    gain = recovering_bandits(pd.concat(made), 1, D=3, unit="store", resamples=50, rng=0).gain
    assert float((gain["high"] - gain["low"]).max()) > 0.2
