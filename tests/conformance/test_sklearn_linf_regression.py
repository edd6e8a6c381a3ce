import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.certificate import Verdict
from whp.linalg import SketchedLinearRegression


@parametrize_with_checks(
    [SketchedLinearRegression(), SketchedLinearRegression(fit_intercept=False, rows=40)]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("targets", [None, 2])
def test_few_rows_and_lsqr_agree_with_linear_regression(fit_intercept, targets):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 5)) + 3
    y = X @ rng.standard_normal((5,) if targets is None else (5, targets)) + 7
    theirs = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    for options in ({}, {"rows": 100, "refine": "lsqr"}):
        ours = SketchedLinearRegression(fit_intercept=fit_intercept, random_state=0, **options).fit(
            X, y
        )
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-9)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-8)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-8)


def test_sketched_fit_carries_its_error_bars():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4000, 5))
    y = X.sum(axis=1) + rng.standard_normal(4000)
    model = SketchedLinearRegression(rows=200, random_state=0).fit(X, y)
    assert not model.result_.exact
    assert model.result_.certificates[0].verdict == Verdict.UNMEASURED
    exact = LinearRegression().fit(X, y).coef_
    low, high = model.result_.conf_int(0.999).T
    assert ((low <= exact) & (exact <= high)).all()


def test_dependent_columns_get_the_solution_of_least_norm():
    X = np.random.default_rng(0).standard_normal((100, 3))
    X = np.column_stack([X, X[:, 0]])
    model = SketchedLinearRegression().fit(X, X[:, 0])
    np.testing.assert_allclose(model.coef_, [0.5, 0, 0, 0.5], atol=1e-10)
    assert model.result_ is None


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("options", [{}, {"rows": 200, "refine": "lsqr"}])
def test_weights_are_those_of_linear_regression(fit_intercept, options):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 5)) + 3
    y = X @ rng.standard_normal((5, 2)) + 7 + rng.standard_normal((2000, 2))
    weights = rng.integers(0, 5, 2000)
    theirs = LinearRegression(fit_intercept=fit_intercept).fit(X, y, weights)
    ours = SketchedLinearRegression(fit_intercept=fit_intercept, random_state=0, **options)
    ours.fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-8)


def test_weights_count_in_the_solution_of_least_norm():
    X = np.random.default_rng(0).standard_normal((100, 3))
    X = np.column_stack([X, X[:, 0]])
    y = X[:, 0] + np.r_[np.zeros(50), np.full(50, 1e3)]
    model = SketchedLinearRegression().fit(X, y, np.r_[np.ones(50), np.zeros(50)])
    np.testing.assert_allclose(model.coef_, [0.5, 0, 0, 0.5], atol=1e-10)


@pytest.mark.parametrize("rows", [5, 1500])
def test_rows_that_do_not_pay_are_said_to_be_ignored(rows):
    X = np.random.default_rng(0).standard_normal((2000, 5))
    with pytest.warns(UserWarning, match=f"rows = {rows} does not pay"):
        assert SketchedLinearRegression(rows=rows).fit(X, X[:, 0]).result_.exact
