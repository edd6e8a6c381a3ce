import numpy as np
import pandas as pd
import pytest
from scipy import stats

from whp.experiment import measures as m
from whp.experiment.claims import NotTested
from whp.intervals import Estimate

RNG = np.random.default_rng(0)
SEEDS = np.arange(8)


def frame(**columns):
    return pd.DataFrame({"experiment": "e", "trial": range(len(columns["seed"])), **columns})


TWO = pd.concat(
    [
        frame(seed=SEEDS, way="ours", value=SEEDS + 1.0, seconds=2.0 + 0.1 * SEEDS),
        frame(seed=SEEDS, way="theirs", value=SEEDS + 0.1 * SEEDS, seconds=1.0 + 0.2 * SEEDS),
    ],
    ignore_index=True,
).assign(trial=range(16))


def test_mean_averages_the_rows_of_a_seed_first():
    rows = pd.DataFrame({"seed": [0, 0, 0, 1], "x": [1.0, 2.0, 3.0, 4.0]})
    e = m.mean("x")(rows)
    assert (e.value, e.n) == (3.0, 2)
    low, high = stats.t.interval(0.95, 1, 3.0, np.std([2.0, 4.0], ddof=1) / np.sqrt(2))
    assert (e.low, e.high) == pytest.approx((low, high))
    assert m.mean(lambda g: g["x"].max())(rows).value == 3.5


def test_one_seed_has_no_interval():
    e = m.mean("x")(pd.DataFrame({"seed": [3], "x": [1.5]}))
    assert e == Estimate(1.5, 1.5, 1.5, 0.95, 1, "one run")


def test_paired_is_the_t_interval_of_the_differences():
    e = m.paired("value", way="ours", less="theirs")(TWO)
    differences = 1.0 - 0.1 * SEEDS
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (e.value, e.low, e.high) == pytest.approx((differences.mean(), *expected))
    assert e.n == 8


def test_difference_does_not_pair_up():
    e = m.difference("value", way="ours", less="theirs")(TWO)
    expected = stats.ttest_ind(SEEDS + 1.0, 1.1 * SEEDS, equal_var=False).confidence_interval(0.95)
    assert (e.low, e.high) == pytest.approx(tuple(expected))


def test_the_axis_may_be_the_experiment_itself():
    rows = TWO.assign(experiment=TWO["way"])
    assert m.difference("value", experiment="ours", less="theirs")(rows).n == 8
    assert m.paired("value", experiment="ours", less="theirs")(rows).n == 8


def test_ratio_of_positive_numbers_is_never_below_zero():
    e = m.ratio("seconds", way="ours", over="theirs")(TWO)
    logs = np.log((2 + 0.1 * SEEDS) / (1 + 0.2 * SEEDS))
    assert e.value == pytest.approx(np.exp(logs.mean()))
    wild = frame(seed=[0, 1], a=[1e-6, 1.0], b=[1.0, 1e-6])
    e = m.ratio("a", over="b")(wild)
    assert 0 < e.low < e.value < e.high
    with pytest.raises(ValueError, match="positive"):
        m.ratio("a", over="b")(wild.assign(a=[0.0, 1.0]))


def test_share_is_clopper_pearson_over_trials():
    rows = frame(seed=range(40), x=[0.0] * 3 + [1.0] * 37, verdict=["fails"] * 3 + ["holds"] * 37)
    expected = stats.binomtest(3, 40).proportion_ci()
    for made in (m.share("verdict", equals="fails"), m.share("x", at_most=0.5)):
        e = made(rows)
        assert (e.value, e.low, e.high) == pytest.approx((3 / 40, expected.low, expected.high))
    assert m.share("x", at_least=0.5)(rows).value == 37 / 40


def test_rows_of_one_trial_are_not_counted_as_independent():
    rows = pd.DataFrame({"trial": [0, 0, 1, 1], "seed": 0, "ok": [True, False, True, True]})
    with pytest.raises(ValueError, match="several rows"):
        m.share("ok")(rows)
    assert m.share("ok", each="all")(rows).value == 0.5
    assert m.share("ok", each="any")(rows).value == 1.0
    assert m.share("ok", each="all")(rows).n == 2


def test_rate_pools_counts():
    rows = pd.DataFrame({"seed": [0, 1], "false": [1, 2], "draws": [50, 50]})
    assert m.rate("false", "draws")(rows).value == 0.03
    assert m.rate("false", "draws")(rows).n == 100


def test_slope_finds_the_exponent():
    d = np.tile([4.0, 16.0, 64.0], 5)
    seed = np.repeat(range(5), 3)
    rows = frame(seed=seed, d=d, error=(1 + 0.1 * seed) * d**0.5)
    e = m.slope("error", over="d")(rows)
    assert e.value == pytest.approx(0.5)
    assert m.slope("error", over="d", log=False)(rows.assign(error=3 * d)).value == pytest.approx(3)
    reason = m.slope("error", over="d")(rows[rows["d"] == 4])
    assert isinstance(reason, NotTested)
    assert "two values of d" in reason.reason


def test_quantile_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(150):
        rows = pd.DataFrame({"seed": range(25), "x": rng.exponential(size=25)})
        e = m.quantile("x", 0.5)(rows)
        hits += e.low <= np.log(2) <= e.high
    assert stats.binomtest(hits, 150, 0.95, alternative="less").pvalue > 1e-4
    assert m.quantile("x", 0.5)(rows[:5]).low == -np.inf, "five values say too little"


def test_statistic_draws_whole_units_again():
    rows = pd.DataFrame({"seed": np.repeat(range(20), 3), "x": np.repeat(RNG.normal(size=20), 3)})
    e = m.statistic(lambda g: g["x"].mean())(rows)
    t = m.mean("x")(rows)
    assert e.n == 20
    assert (e.high - e.low) == pytest.approx(t.high - t.low, rel=0.3)


def test_worst_is_valid_for_all_groups_at_once():
    rng = np.random.default_rng(2)
    missed = 0
    for _ in range(60):
        rows = frame(seed=np.tile(range(6), 5), cell=np.repeat(range(5), 6), x=rng.normal(size=30))
        e = m.worst(m.mean("x"), over="cell")(rows)
        missed += not e.low <= 0 <= e.high
    assert stats.binomtest(missed, 60, 0.05, alternative="greater").pvalue > 1e-4
    assert e.method.startswith("largest of 5")
    assert m.worst(m.mean("x"), over="cell", least=True)(rows).value < e.value


def test_extremes_are_numbers_without_an_interval():
    e = m.largest("value")(TWO)
    assert e.low == e.value == e.high == 8.0
    assert m.least("value")(TWO).value == 0.0


@pytest.mark.parametrize(
    "made",
    [
        m.mean("value", {"way": "others"}),
        m.share("value", {"way": "others"}),
        m.rate("value", "seconds", {"way": "others"}),
        m.paired("value", way="others", less="theirs"),
        m.paired("value", way="ours", less="others"),
        m.difference("value", way="others", less="theirs"),
        m.ratio("value", way="others", over="theirs"),
        m.ratio("value", over="nothing"),
        m.slope("value", over="seconds", where={"way": "others"}),
        m.quantile("value", 0.5, {"way": "others"}),
        m.statistic(len, {"way": "others"}),
        m.worst(m.mean("value", {"way": "others"}), over="seed"),
        m.largest("value", {"way": "others"}),
        m.mean("unknown"),
    ],
)
def test_what_was_not_run_is_not_tested(made):
    result = made(TWO)
    assert isinstance(result, NotTested)
    assert result.reason


def test_units_that_lack_one_side_are_left_out_and_none_is_not_tested():
    part = TWO[(TWO["way"] == "ours") | (TWO["seed"] < 3)]
    assert m.paired("value", way="ours", less="theirs")(part).n == 3
    apart = TWO[(TWO["way"] == "ours") == (TWO["seed"] < 3)]
    assert "no seed" in m.paired("value", way="ours", less="theirs")(apart).reason


def test_an_axis_is_named_once():
    with pytest.raises(TypeError, match="one column"):
        m.paired("value", less="theirs")
