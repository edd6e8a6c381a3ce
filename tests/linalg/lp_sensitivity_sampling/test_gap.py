from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from lp_problem import problem

from whp.linalg import lp_regression, lp_sensitivity_sampling, optimality_gap


def test_the_gap_is_valid_whatever_x():
    A, b = problem(300, 3)
    rng = np.random.default_rng(0)
    for p in (1, 1.5, 3):
        best = (np.abs(b - A @ lp_regression(A, b, p)) ** p).sum()
        for _ in range(20):
            assert optimality_gap(A, b, rng.standard_normal(3), p).lower_bound <= best * (1 + 1e-9)


def test_at_the_optimum_it_is_rounding():
    A, b = problem(400, 3)
    for p in (1.5, 2, 3, 16, 64):
        assert optimality_gap(A, b, lp_regression(A, b, p), p).gap < 1e-10


@pytest.mark.parametrize(("p", "unit"), [(64, 1e-8), (64, 1e6), (16, 1e100), (2, 1e-150)])
def test_units_of_b_do_not_change_it(p, unit):
    A, b = problem(300, 5)
    plain = optimality_gap(A, b, np.zeros(5), p).gap
    scaled = optimality_gap(A, b * unit, np.zeros(5), p).gap
    assert scaled == pytest.approx(plain, rel=1e-6)
    assert plain > 0.1


def test_nothing_is_known_of_a_consistent_system():
    A, _ = problem(500, 3)
    made = lp_sensitivity_sampling(A, A @ np.ones(3), p=1, rows=100, rng=0)
    np.testing.assert_allclose(made.x, 1, rtol=1e-9)
    assert made.gap == np.inf
    assert made.lower_bound == 0
    assert str(made.certificates[3].verdict) == "inconclusive"
    assert str(made.certificates[2].verdict) == "void"


# The last two have a sum of squares, and residuals, of fewer digits than usual.
@pytest.mark.parametrize(
    ("offset", "unit"), [(1e10, 1), (1e12, 1), (1e15, 1), (0, 1e-159), (0, 1e-320)]
)
def test_digits_that_are_lost_are_in_the_gap(offset, unit):
    rng = np.random.default_rng(0)
    for _ in range(10):
        A = np.column_stack([np.ones(40), rng.standard_normal((40, 2))])
        b = (A.sum(axis=1) + rng.standard_normal(40) + offset) * unit
        x = lp_regression(A, b, 2)
        found = optimality_gap(A, b, x, 2)
        rows = np.array([[Fraction(v) for v in row] for row in np.column_stack([A, b]).tolist()])
        gram = rows.T @ rows
        for i in range(3):
            for j in range(i + 1, 4):
                gram[j] = gram[j] - gram[j, i] / gram[i, i] * gram[i]
        left = rows[:, 3] - rows[:, :3] @ np.array([Fraction(v) for v in x.tolist()])
        assert Fraction(found.lower_bound) <= gram[3, 3]
        assert np.isinf(found.gap) or left @ left <= (1 + Fraction(found.gap)) * gram[3, 3]


@pytest.mark.parametrize("n", [60, 5000])
@pytest.mark.parametrize("distance", [1e-10, 3e-13, 5e-14])
def test_a_column_left_out_that_is_no_combination_costs_less_than_no_bound(n, distance):
    rng = np.random.default_rng(0)
    first = rng.standard_normal(n)
    A = np.column_stack([first, first + distance * rng.standard_normal(n)])
    off = A[:, 1] - A[:, 0]
    size = np.abs(off).max()
    b = off / size + 0.01 * rng.standard_normal(n)
    cost = np.square(b - off / size).sum()  # of the coefficients ∓1/size
    found = optimality_gap(A, b, np.zeros(2), 2)
    assert found.lower_bound <= cost
    assert found.gap > 1


def test_columns_that_sum_to_another_leave_the_gap_as_it_is():
    A, b = problem(2000, 3)
    rng = np.random.default_rng(0)
    shares = np.eye(4)[rng.integers(0, 4, 2000)]
    shares = (shares - shares.mean(axis=0)) / shares.std(axis=0)
    A = np.column_stack([np.ones(2000), A, shares])
    x = lp_regression(A, b, 1.5, on_rank="drop")
    assert optimality_gap(A, b, x, 1.5).gap < 1e-10


def test_the_gap_is_close_where_many_residuals_are_zero():
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(10):
        A = np.column_stack([np.ones(1000), rng.integers(0, 3, (1000, 2))])
        b = np.round(A.sum(axis=1) + rng.standard_t(3, 1000))
        x = lp_regression(A, b, 1, quantile=0.75)
        gaps.append(optimality_gap(A, b, x, 1, 0.75).gap)
    assert np.median(gaps) < 1e-3


def test_a_table_in_another_order_is_refused():
    A, b = problem(50, 2)
    A, b = pd.DataFrame(A), pd.Series(b)[::-1]
    with pytest.raises(ValueError, match="another order"):
        lp_regression(A, b, 1)
    with pytest.raises(ValueError, match="another order"):
        optimality_gap(A, b, np.zeros(2), 1)


def test_sizes_beyond_floats_are_named():
    A, b = problem(50, 2)
    with pytest.raises(ValueError, match="exceeds floats"):
        lp_regression(A / np.abs(A).max() * 1e308, b, 2)
