import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from whp.concentration import (
    azuma,
    betting,
    chernoff,
    empirical_bernstein,
    hoeffding,
    simultaneous_proportions,
)

LAWS = {
    "coin": lambda g, n: (g.random(n) < 0.5) * 1.0,
    "rare": lambda g, n: (g.random(n) < 0.01) * 1.0,
    "narrow": lambda g, n: 0.3 + 0.01 * g.random(n),
    "two tails": lambda g, n: g.beta(0.2, 0.4, n),
}
MEANS = {"coin": 0.5, "rare": 0.01, "narrow": 0.305, "two tails": 1 / 3}
INTERVALS = (hoeffding, empirical_bernstein, betting)


def test_one_proportion_is_clopper_pearson():
    low, high = simultaneous_proportions([0, 3, 10], [10, 10, 10], 0.15)
    for k, a, b in zip((0, 3, 10), low, high, strict=True):
        ends = binomtest(k, 10).proportion_ci(1 - 0.05, "exact")
        assert (a, b) == pytest.approx((ends.low, ends.high), abs=1e-12)
    low, high = simultaneous_proportions([0], [0], 0.05)
    assert (low[0], high[0]) == (0, 1)
    with pytest.raises(ValueError, match="between 0 and trials"):
        simultaneous_proportions([3], [2], 0.05)


def test_trials_of_different_rates_are_covered():
    g = np.random.default_rng(0)
    missed = 0
    for _ in range(400):
        p = g.beta(0.3, 0.5, (5, 40))
        low, high = simultaneous_proportions((g.random(p.shape) < p).sum(1), np.full(5, 40), 0.1)
        missed += not ((low <= p.mean(1)) & (p.mean(1) <= high)).all()
    assert missed <= binom.ppf(1 - 1e-4, 400, 0.1)


def test_one_uncertain_trial_among_sure_ones_is_covered():
    # All trials but one succeed for sure. One failure has probability q, and Clopper and Pearson's
    # own end would miss the mean for q up to -ln(1 - tail), which is above the tail.
    tail, n = 0.05, 40
    for q in (tail * 1.001, -math.log1p(-tail) * 0.999):
        mean = 1 - q / n
        assert (1 - tail) ** (1 / n) < mean
        low, high = simultaneous_proportions([n - 1, 1], [n, n], 4 * tail)
        assert high[0] >= mean
        assert low[1] <= 1 - mean


@pytest.mark.parametrize("delta", [0.02, 0.1, 0.5, 0.9])
def test_coverage_of_unequal_trials_is_exact(delta):
    # The law of the sum by convolution, no simulation: rates of two values, of every number each.
    n = 12
    grid = np.array([0, 1e-3, delta / 2, delta, 0.3, 0.5, 0.7, 1 - delta, 1 - delta / 2, 1.0])
    low, high = simultaneous_proportions(np.arange(n + 1), n, delta * (n + 1))
    for first in grid:
        for second in grid:
            for k in range(n + 1):
                law = np.convolve(
                    binom.pmf(np.arange(k + 1), k, first),
                    binom.pmf(np.arange(n - k + 1), n - k, second),
                )
                mean = (k * first + (n - k) * second) / n
                outside = (low > mean + 1e-12) | (high < mean - 1e-12)
                assert law[outside].sum() <= delta * (1 + 1e-9)


def test_chernoff_ends_solve_the_equation():
    low, high = chernoff([0.0, 0.3, 1.0], 50, 0.05)
    level = math.log(2 / 0.05) / 50
    assert low[0] == 0
    assert high[2] == 1
    assert -math.log(1 - high[0]) == pytest.approx(level)
    for q in (low[1], high[1]):
        kl = 0.3 * math.log(0.3 / q) + 0.7 * math.log(0.7 / (1 - q))
        assert kl == pytest.approx(level, rel=1e-9)


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("n", [5, 60])
def test_intervals_miss_at_most_delta(interval, law, n):
    g, delta, runs = np.random.default_rng(1), 0.1, 200
    missed = 0
    for _ in range(runs):
        e = interval(LAWS[law](g, n), delta)
        missed += not e.low <= MEANS[law] <= e.high
    assert missed <= binom.ppf(1 - 1e-4, runs, delta)


@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_scale_with_their_range(interval):
    values = np.random.default_rng(2).random(50)
    unit, scaled = interval(values, 0.05), interval(10 * values - 4, 0.05, low=-4, high=6)
    assert (scaled.low, scaled.high) == pytest.approx((10 * unit.low - 4, 10 * unit.high - 4))
    with pytest.raises(ValueError, match="must lie in"):
        interval([2.0], 0.05)


def test_small_spread_makes_narrow_intervals():
    values = LAWS["narrow"](np.random.default_rng(3), 400)
    widths = [e.high - e.low for e in (hoeffding(values, 0.05), betting(values, 0.05))]
    assert widths[1] < widths[0] / 3


def test_azuma_of_fair_coins():
    g, n, delta = np.random.default_rng(4), 100, 0.05
    sums = (2 * (g.random((2000, n)) < 0.5) - 1).sum(1)
    assert (sums > azuma(n, 2.0, delta)).mean() <= delta
    assert azuma(n, 2.0, delta) == pytest.approx(math.sqrt(120 * (2 * math.log(20) + math.log(6))))
    assert azuma(0, 2.0, delta) == 0


def test_azuma_holds_at_every_number_of_steps():
    """Nature may stop when coins fell badly, or the user looks after every step."""
    rng, n, delta = np.random.default_rng(0), 4000, 0.025
    steps = np.arange(1, n + 1)
    bound = np.array([azuma(t, 1.0, delta) for t in steps.tolist()])
    fixed = np.sqrt(steps / 2 * np.log(1 / delta))
    broken = np.zeros(2)
    for _ in range(20):
        strayed = np.cumsum(rng.integers(0, 2, (100, n)) - 0.5, axis=1)
        broken += [(strayed > b).any(axis=1).sum() for b in (bound, fixed)]
    assert broken[0] <= delta * 2000 < broken[1]
