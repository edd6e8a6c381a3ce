import numpy as np
import pandas as pd
import pytest
from environments import hospitals

from whp.invariance._pac_invariance import checks
from whp.invariance._pac_invariance.environments import cut, groups, read


def table(m=40, n=60, seed=0, spread=1.0):
    X, y, env = hospitals(m, n, seed, spread)
    rows = read(X, y)
    codes, labels, _ = groups(env, "env", len(y))
    return rows, codes, labels


def test_continuous_rows_are_shared_by_none():
    rows, codes, labels = table()
    assert checks.shared_rows(rows, codes, labels) == (False, 0.0)


@pytest.mark.parametrize("size", [100, 1000])
def test_draws_with_replacement_are_shared_rows(size):
    rng = np.random.default_rng(0)
    where = rng.integers(size, size=4000)
    X, y, _ = hospitals(1, size)
    rows = read(X[where], y[where])
    many, share = checks.shared_rows(rows, np.repeat(np.arange(20), 200), list(range(20)))
    assert many
    assert share > 0.9


def test_whole_numbers_are_not_copies():
    rows, codes, labels = table()
    rounded = read(np.round(rows.X), np.round(rows.y))
    many, share = checks.shared_rows(rounded, codes, labels)
    assert not many
    assert share > 0.05


def test_minus_zero_is_zero():
    rows, codes, labels = table(2, 60)
    X, y = rows.X.copy(), rows.y.copy()
    X[codes == 0, 0], X[codes == 1, 0] = 0.0, -0.0
    X[codes == 1, 1], y[codes == 1] = X[codes == 0, 1], y[codes == 0]
    with pytest.raises(ValueError, match="the same rows"):
        checks.shared_rows(read(X, y), codes, labels)


def test_level_of_the_test_of_tails():
    rng = np.random.default_rng(0)
    voided = 0
    for _ in range(150):
        n = int(rng.choice([25, 60, 200]))
        X = rng.standard_normal((40 * n, 2))
        test = checks.gaussian(
            read(X, rng.standard_normal(40 * n)), np.repeat(np.arange(40), n), (0, 1)
        )
        voided += test.p < 0.02
    assert voided <= 12  # of 3 expected


@pytest.mark.parametrize(("df", "seen"), [(2, True), (5, True), (1e9, False)])
def test_power_of_the_test_of_tails(df, seen):
    rng = np.random.default_rng(1)
    X = rng.standard_normal((4000, 1))
    y = rng.standard_t(df, 4000)
    assert (
        checks.gaussian(read(X, y), np.repeat(np.arange(20), 200), (0,)).p < checks.LEVEL
    ) == seen


def test_one_wild_environment_is_seen():
    rng = np.random.default_rng(1)
    X, y = rng.standard_normal((40_000, 1)), rng.standard_normal(40_000)
    y[:200] = rng.standard_t(1.5, 200)
    assert checks.gaussian(read(X, y), np.repeat(np.arange(200), 200), (0,)).p < checks.LEVEL


def test_tiny_environments_have_no_tails():
    rows, codes, _ = table(40, 8)
    test = checks.gaussian(rows, codes, (0,))
    assert test.p == 1
    assert "nothing" in test.sees


def test_heterogeneity_has_its_level_and_sees_differences():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(30), 40)
    p = []
    for _ in range(200):
        X = rng.standard_normal((1200, 2))
        rows = read(X, X[:, 0] + rng.standard_normal(1200))
        p.append(
            checks.heterogeneity(
                cut(rows, codes, list(range(30)), np.arange(30), True), np.array([0, 1])
            )
        )
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.12
    rows, codes, labels = table()
    environments = cut(rows, codes, labels, np.arange(40), True)
    assert checks.heterogeneity(environments, np.array([1])) < 1e-10


def test_drift_of_a_sign_is_seen_where_norms_see_none():
    rows, codes, labels = table(spread=0.0)
    y = rows.y + 0.3 * (codes - 20) / 20 * rows.X[:, 0]
    environments = cut(read(rows.X, y), codes, labels, np.arange(40), True)
    S, w = np.array([0]), np.array([1.0]) * environments.scale[0] / environments.scale_y
    assert checks.drift(environments, S, w, np.arange(40.0)).p < 1e-6
    assert (
        checks.drift(environments, S, w, np.random.default_rng(0).permutation(np.arange(40.0))).p
        > 1e-3
    )
    assert checks.drift(environments, S, w, np.ones(40)).p == 1


def test_labels_of_any_kind():
    for value in (["b", "a", "b"], np.array([2, 1, 2]), np.array([2.5, -1, 2.5])):
        codes, labels, empty = groups(value, "env", 3)
        assert codes.tolist() == [1, 0, 1]
        assert len(labels) == 2
        assert empty == 0
    with pytest.raises(ValueError, match="one label a row, 4, got 3"):
        groups(["a", "b", "c"], "env", 4)
    with pytest.raises(ValueError, match="shape"):
        groups(np.ones((3, 2)), "env", 3)


def test_zeros_in_every_environment_are_not_shared_rows():
    rows, codes, labels = table()
    rng = np.random.default_rng(3)
    idle = rng.random(len(rows.y)) < 0.3
    X, y = np.where(idle[:, None], 0, rows.X), np.where(idle, 0, rows.y)
    many, share = checks.shared_rows(read(X, y), codes, labels)
    assert not many
    assert 0.2 < share < 0.4


def test_a_column_that_numbers_rows_hides_no_copies():
    rows, codes, labels = table()
    X, y = rows.X.copy(), rows.y.copy()
    first = np.flatnonzero(codes == 0)[:6]
    for e in range(1, len(labels)):  # a tenth of every environment is that of the first
        here = np.flatnonzero(codes == e)[:6]
        X[here], y[here] = X[first], y[first]
    numbered = np.column_stack([X, np.arange(len(y))])
    assert checks.shared_rows(read(numbered, y), codes, labels)[0]


def test_rounded_numbers_that_meet_by_chance_are_not_shared_rows():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(40_000)
    X, y = np.round(x, 2)[:, None], np.round(x + rng.standard_normal(40_000), 2)
    many, share = checks.shared_rows(read(X, y), np.arange(40_000) % 200, list(range(200)))
    assert not many
    assert share > checks.SHARED


@pytest.mark.parametrize("m", [5, 7])
def test_drift_of_few_draws_keeps_its_level(m):
    rows, codes, labels = table()
    kept = codes < m
    part = cut(read(rows.X[kept], rows.y[kept]), codes[kept], labels[:m], np.arange(m), True)
    sorted_by = np.argsort(np.argsort(part.equations(np.array([0]), np.zeros(1))[:, 0]))
    p = checks.drift(part, np.array([0]), np.zeros(1), sorted_by.astype(float)).p
    assert p == (1 if m == 5 else pytest.approx(2 / 5040))


def test_labels_in_the_order_of_their_categories():
    months = pd.Categorical(
        ["Feb", "Jan", "Mar"], categories=["Jan", "Feb", "Mar", "Apr"], ordered=True
    )
    codes, labels, empty = groups(months, "env", 3)
    assert (codes.tolist(), labels, empty) == ([1, 0, 2], ["Jan", "Feb", "Mar"], 1)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", float("nan"), "b"],
        ["a", "", "b"],
        pd.Categorical([1, None, 2]),
        np.ma.masked_equal([1, 2, 3], 2),
    ],
)
def test_missing_labels_are_no_environment(labels):
    with pytest.raises(ValueError, match="env has"):
        groups(labels, "env", 3)
