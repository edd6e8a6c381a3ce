import numpy as np
import pytest
from scipy.stats import binom

from whp.conditions import copies, dependence_within_groups, exchangeable, finite_scale, same_law

LEVEL, RUNS = 0.05, 60


def rejections(test):
    return sum(test(np.random.default_rng(s)).p < LEVEL for s in range(RUNS))


HONEST = {
    "order": lambda g: exchangeable(g.standard_t(2, 120), permutations=199),
    "law": lambda g: same_law(g.standard_cauchy(60), g.standard_cauchy(90)),
    "groups": lambda g: dependence_within_groups(
        g.random(90), np.arange(90) // 3, permutations=199
    ),
}
BROKEN = {
    "order": lambda g: exchangeable(np.sort(g.random(120)), permutations=199),
    "law": lambda g: same_law(g.standard_normal(90), 1 + g.standard_normal(90)),
    "groups": lambda g: dependence_within_groups(
        np.repeat(g.random(30), 3) + 0.2 * g.random(90), np.arange(90) // 3, permutations=199
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_rows_are_rarely_refuted(name):
    assert rejections(HONEST[name]) <= binom.ppf(1 - 1e-4, RUNS, LEVEL)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_rows_are_refuted(name):
    assert rejections(BROKEN[name]) >= 0.9 * RUNS
    assert "nine times in ten" in BROKEN[name](np.random.default_rng(0)).sees


def test_what_is_too_small_to_tell_says_so():
    for test in (
        exchangeable([1.0, 2.0]),
        same_law([1.0], [2.0]),
        dependence_within_groups([1.0, 2.0], [0, 1]),
        exchangeable(np.ones(100)),
    ):
        assert test.p == 1
        assert test.sees.startswith("nothing")


def test_copies_exact_and_near():
    g = np.random.default_rng(0)
    rows, labels = g.standard_normal((400, 3)), g.integers(0, 2, 400)
    assert copies(rows, labels) == (0, 0)
    doubled = np.vstack([rows, rows])
    assert copies(doubled, np.tile(labels, 2))[0] == pytest.approx(0.5)
    exact, near = copies(np.vstack([rows, rows + 1e-9]), np.tile(labels, 2))
    assert exact == 0
    assert near == 1
    assert copies(np.vstack([rows, rows + 1e-9]), np.repeat([0, 1], 400))[1] == 0
    assert copies([[1.0]]) == (0, 0)


@pytest.mark.parametrize("width", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("n", [200, 20_000])
def test_rows_that_lie_dense_are_no_copies_and_copies_among_them_are_found(width, n):
    g = np.random.default_rng(n)
    usual = g.random(n) < 0.95
    rows = np.where(usual, width * g.normal(size=n), g.normal(size=n))
    within = min(1e-6, 1e-3 / n)
    assert copies(rows, within=within)[1] < 0.01
    again = np.append(rows, rows[: n // 5] + within / 100 * g.random(n // 5))
    assert copies(again, within=within)[1] > 0.2
    # Scores of many classes may lie on a curve.
    curve = np.column_stack([rows, rows**2, np.sin(rows)])
    assert copies(curve, within=within)[1] < 0.01


def test_scale():
    assert finite_scale([1.0, -2.0])[0]
    assert finite_scale(np.zeros(3))[0]
    assert not finite_scale([1e200])[0]
    assert not finite_scale([1e-200])[0]
