import numpy as np
import pytest
from scipy.stats import beta, t

from whp import intervals
from whp.intervals import Estimate


def test_proportion_is_clopper_pearson():
    e = intervals.proportion(3, 20)
    assert e.value == 0.15
    assert e.low == pytest.approx(beta.ppf(0.025, 3, 18))
    assert e.high == pytest.approx(beta.ppf(0.975, 4, 17))
    assert intervals.proportion(0, 9).low == 0
    assert intervals.proportion(9, 9).high == 1


def test_mean_is_student():
    x = np.array([1.0, 2.0, 4.0, 9.0])
    e = intervals.mean(x)
    half = t.ppf(0.975, 3) * x.std(ddof=1) / 2
    assert (e.low, e.high) == pytest.approx((4 - half, 4 + half))
    assert intervals.mean([2, 2, 2]).low == 2


def test_paired_removes_what_pairs_share():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=30) * 100
    e = intervals.paired(shared + 1 + rng.normal(size=30) * 0.1, shared)
    assert 0.8 < e.low < 1 < e.high < 1.2


def test_ratio_of_times():
    e = intervals.ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert e.value == pytest.approx(2)
    assert e.high == pytest.approx(2)


@pytest.mark.parametrize(
    ("make", "truth"),
    [
        (lambda r: intervals.mean(r.exponential(size=40)), 1.0),
        (lambda r: intervals.bootstrap(r.normal(size=40), resamples=499), 0.0),
        (lambda r: intervals.proportion(r.binomial(40, 0.2), 40), 0.2),
        (lambda r: intervals.paired(r.normal(size=20) + 0.5, r.normal(size=20)), 0.5),
    ],
)
def test_coverage(make, truth):
    rng = np.random.default_rng(1)
    inside = sum((e := make(rng)).low <= truth <= e.high for _ in range(200))
    assert (
        inside >= 180
    )  # 95 % of 200 less three standard deviations, and the skewed exponential's loss


def test_bootstrap_keeps_rows_together():
    x = np.random.default_rng(0).normal(size=50)
    e = intervals.bootstrap(
        np.column_stack([x, 2 * x]), lambda a, b, axis=-1: np.corrcoef(a, b)[0, 1], resamples=199
    )
    assert e.low > 0.999


def test_stratified_iqm():
    # Tasks of very different level: resampling within tasks keeps the interval narrow, across them it would be ~10 wide.
    scores = np.random.default_rng(0).normal([0.0, 10.0, 20.0, 30.0], 0.1, size=(10, 4))
    e = intervals.stratified(scores, resamples=300)
    assert e.low <= 15.03
    assert e.high >= 14.97
    assert e.high - e.low < 0.3


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: intervals.mean([1.0]), "values"),
        (lambda: intervals.mean([1.0, np.nan]), "values"),
        (lambda: intervals.paired([1, 2], [1, 2, 3]), "ours and theirs"),
        (lambda: intervals.ratio([1, 2], [0, 1]), "positive"),
        (lambda: intervals.proportion(5, 4), "successes"),
        (lambda: Estimate(2.0, 0.0, 1.0), "value"),
        (lambda: Estimate(0.5, 0.0, 1.0, level=0.0), "level"),
        (lambda: Estimate(float("nan"), 0.0, 1.0), "value"),
    ],
)
def test_bad_input_names_the_argument(call, name):
    with pytest.raises(ValueError, match=name):
        call()
