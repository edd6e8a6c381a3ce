import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.linalg import CoresetSampler, LpRegressor


@parametrize_with_checks(
    [
        LpRegressor(),
        LpRegressor(p=1.5, rows=20),
        LpRegressor(p=3, fit_intercept=False),
        CoresetSampler(),
        CoresetSampler(p=2, rows=12),
    ]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)


def test_a_coreset_serves_the_regressor_and_others():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((5000, 3))
    y = X.sum(axis=1) + 2 + rng.standard_normal(5000)
    full, short = (
        LpRegressor(p=1.5).fit(X, y),
        LpRegressor(p=1.5, rows=500, random_state=0).fit(X, y),
    )
    assert full.result_ is None
    assert short.result_.gap < 0.05
    np.testing.assert_allclose(short.coef_, full.coef_, atol=0.2)
    Xs, ys, weights = CoresetSampler(p=2, rows=500, random_state=0).fit_resample(X, y)
    refit = LinearRegression().fit(Xs, ys, sample_weight=weights)
    np.testing.assert_allclose(refit.coef_, LinearRegression().fit(X, y).coef_, atol=0.2)


def test_a_sampler_keeps_what_it_chose():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 2))
    y = X.sum(axis=1) + rng.standard_normal(3000)
    sampler = CoresetSampler(p=2, rows=300, random_state=0)
    Xs, ys, weights = sampler.fit_resample(X, y)
    np.testing.assert_array_equal(Xs, X[sampler.sample_indices_])
    np.testing.assert_array_equal(ys, y[sampler.sample_indices_])
    np.testing.assert_array_equal(weights, sampler.sample_weight_)
    assert {c.name for c in sampler.result_.certificates} == {"subspace-embedding", "sharp-rate"}
    few = CoresetSampler(rows=300, random_state=0).fit(X[:400])
    assert few.result_ is None
    assert (few.sample_weight_ == 1).all()


@pytest.mark.parametrize("rows", [None, 500])
def test_no_column_is_lost_for_its_unit(rows):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 3))
    y = X @ [1, 2, 3] + 5 + rng.standard_normal(2000)
    plain = LpRegressor(rows=rows, random_state=0).fit(X, y)
    for scale in (1e-18, 1.7e18):  # nanoseconds, beside columns of order one
        other = LpRegressor(rows=rows, random_state=0).fit(X * [scale, 1, 1], y)
        np.testing.assert_allclose(other.coef_ * [scale, 1, 1], plain.coef_, rtol=1e-9)
        assert other.intercept_ == pytest.approx(plain.intercept_)
    twice = LpRegressor().fit(np.column_stack([X, X[:, :1] * 1e12]), y)
    np.testing.assert_allclose(
        twice.coef_[[0, 3]] * [1, 1e12], LpRegressor().fit(X, y).coef_[0] / 2
    )


@pytest.mark.parametrize("estimator", [LpRegressor, CoresetSampler])
def test_what_all_rows_do_not_need_is_checked_as_well(estimator):
    X = np.random.default_rng(0).standard_normal((50, 2))
    for wrong in ({"scores": "levis"}, {"rows": -5}, {"rows": 2.5}):
        with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
            estimator(**wrong).fit(X, X[:, 0])
