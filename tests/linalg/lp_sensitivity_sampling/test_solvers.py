import numpy as np
import pytest
from lp_problem import problem

from whp.linalg import lp_regression, optimality_gap
from whp.linalg._lp_sensitivity_sampling.solvers import norm_of


@pytest.mark.parametrize("p", [1.01, 1.05, 1.2, 1.5, 3, 4, 10, 20])
def test_newton_against_the_gap(p):
    A, b = problem(800, 4)
    x = lp_regression(A, b, p)
    assert optimality_gap(A, b, x, p).gap < 1e-8
    assert optimality_gap(A, b, x + 0.3, p).gap > 1e-3


@pytest.mark.parametrize("q", [0.1, 0.5, 0.8])
def test_quantiles_agree_with_sklearn(q):
    from sklearn.linear_model import QuantileRegressor

    A, b = problem(300, 3)
    theirs = (
        QuantileRegressor(quantile=q, alpha=0, fit_intercept=False, solver="highs").fit(A, b).coef_
    )
    np.testing.assert_allclose(lp_regression(A, b, 1, quantile=q), theirs, atol=1e-6)
    assert optimality_gap(A, b, theirs, 1, q).gap < 0.05


def test_weights_are_repeats():
    A, b = problem(200, 3)
    k = np.random.default_rng(0).integers(0, 4, 200)
    for p in (1.5, 3):
        repeated = lp_regression(np.repeat(A, k, axis=0), np.repeat(b, k), p)
        np.testing.assert_allclose(lp_regression(A, b, p, weights=k), repeated, rtol=1e-6)


def houses(n=3000):
    g = np.random.default_rng(0)
    X = g.standard_normal((n, 3))
    A = np.column_stack([np.ones(n), X])
    return A, X @ [1, 2, 3.0] + 5 + g.standard_normal(n)


@pytest.mark.parametrize("quantile", [None, 0.9])
@pytest.mark.parametrize("offset", [1e6, 1e9, 1e11, -1.7e9])
def test_an_offset_moves_the_intercept_and_nothing_else(offset, quantile):
    A, y = houses()
    plain = lp_regression(A, y, 1, quantile=quantile)
    moved = lp_regression(A, y + offset, 1, quantile=quantile)
    # As far as the rounding of y + offset lets it.
    np.testing.assert_allclose(moved[1:], plain[1:], atol=1e-9 + 1e-15 * abs(offset))


@pytest.mark.parametrize("size", [1e6, 1e8, 1e10, 1e12, 1e15])
def test_an_outlier_does_not_move_least_absolute_deviations(size):
    A, y = houses()
    worst = int(np.argmax(y - A @ lp_regression(A, y, 1)))  # on the side where it was before
    plain = lp_regression(A, y, 1)
    y[worst] = size
    np.testing.assert_allclose(lp_regression(A, y, 1), plain, atol=1e-9 + 1e-15 * size)


def test_three_sentinels_agree_with_sklearn_without_them():
    from sklearn.linear_model import QuantileRegressor

    A, y = houses(800)
    y[:3] = 999999999
    theirs = QuantileRegressor(alpha=0, fit_intercept=False, solver="highs")
    # Rows so far above act as a constant pull: any value above gives the same solution.
    expected = theirs.fit(A, np.minimum(y, 100)).coef_
    np.testing.assert_allclose(lp_regression(A, y, 1), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("p", "unit"), [(2, 1e-150), (64, 1e-8), (64, 1e6), (16, 1e100), (1, 1e200)]
)
def test_no_unit_of_b_over_or_underflows(p, unit):
    A, b = problem(300, 5)
    plain = lp_regression(A, b, p)
    np.testing.assert_allclose(lp_regression(A, b * unit, p) / unit, plain, rtol=1e-6)


def test_many_rows_give_the_same_as_the_whole_program():
    A, b = problem(4000, 4)
    x = lp_regression(A, b, 1)  # only the rows nearest to a sign change enter the program
    assert optimality_gap(A, b, x, 1).gap < 0.03
    assert norm_of(b - A @ x, 1) == pytest.approx(norm_of(b - A @ whole(A, b), 1), rel=1e-9)


def whole(A, b):
    from scipy.optimize import linprog

    found = linprog(-b, A_eq=A.T, b_eq=np.zeros(A.shape[1]), bounds=(-1, 1), method="highs")
    return -found.eqlin.marginals


def test_a_quantile_needs_p_1():
    A, b = problem(50, 2)
    with pytest.raises(ValueError, match="quantile needs p = 1"):
        lp_regression(A, b, 2, quantile=0.9)
