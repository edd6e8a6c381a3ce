import math

import numpy as np
import pytest
import scipy.sparse as sp

from whp.linalg._linf_regression.factor import ROUNDING, factor_exact, factor_sketch
from whp.linalg._linf_regression.problem import adjoint, prepare
from whp.studies.linf_regression.worlds import extended, rational


def of(A, b):
    return factor_exact(prepare(A, b))[0]


def test_gram_and_triangle_agree_with_lstsq():
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((2000, 12)), rng.standard_normal((2000, 1))
    norms = np.linalg.norm(A, axis=0)
    expected = np.linalg.lstsq(A, b)[0]
    np.testing.assert_allclose(of(A, b).y / norms[:, None], expected, rtol=1e-11)
    triangle = factor_sketch(A, b, norms, 2e-16, ("x",) * 12)
    np.testing.assert_allclose(triangle.y / norms[:, None], expected, rtol=1e-11)
    assert triangle.size[0] == pytest.approx(np.linalg.norm(b))
    assert triangle.rss[0] == pytest.approx(np.sum((b - A @ expected) ** 2))


def test_an_ill_conditioned_matrix_is_left_to_the_triangle():
    A = np.vander(np.linspace(-1, 1, 2000), 12) @ np.diag(np.logspace(0, -3, 12))
    A = np.column_stack([A, A[:, 0] + 1e-7 * A[:, 1] + 1e-8 * np.cos(np.arange(2000))])
    b = np.random.default_rng(0).standard_normal(2000)
    fit = of(A, b[:, None])
    assert fit.condition > 1e5
    norms = np.linalg.norm(A, axis=0)
    exact = np.linalg.lstsq(A / norms, b)[0]
    np.testing.assert_allclose(fit.y[:, 0], exact, atol=1e-7 * np.abs(exact).max())


@pytest.mark.parametrize("kappa", [1.0, 1e3, 1e6, 1e9, 1e12])
def test_rounding_is_within_its_radius_and_not_ten_million_times_it(kappa):
    worst = 0.0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A = rng.standard_normal((60, 3))
        A[:, 2] = A[:, 1] + A[:, 2] / kappa
        b = rng.standard_normal(60)
        problem = prepare(A, b)
        fit = factor_exact(problem)[0]
        x = problem.to_user(fit.y)[:, 0]
        off = np.abs([float(v) for v in x - rational(A, b)])
        radius = problem.to_user(fit.rounding(fit.y, np.sqrt(fit.rss), float))[:, 0]
        worst = max(worst, (off / radius).max())
    assert 1e-7 < worst < 1


def test_many_rows_do_not_outgrow_the_radius():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((200_000, 4)) + 100
    b = A @ np.ones(4) + rng.standard_normal(200_000)
    problem = prepare(A, b)
    fit = factor_exact(problem)[0]
    off = np.abs((problem.to_user(fit.y)[:, 0] - extended(A, b)).astype(float))
    assert (off <= problem.to_user(fit.rounding(fit.y, np.sqrt(fit.rss), float))[:, 0]).all()


@pytest.mark.parametrize("kind", [np.asarray, sp.csc_array], ids=["dense", "sparse"])
def test_rounding_of_repeated_terms_does_not_add_up(kind):
    n = 100_000
    A, left = kind(np.ones((n, 2))), np.sort(np.random.default_rng(0).choice([0.1, 0.3, 0.7], n))
    exact = math.fsum(left)
    error = np.abs(adjoint(A, left[:, None])[:, 0] - exact) / exact
    assert error.max() < 4 * np.finfo(float).eps


def test_entries_given_twice_are_added_up():
    A, b = np.random.default_rng(0).standard_normal((40, 2)), np.arange(40.0)
    parts = (
        np.tile(np.concatenate([2 * A[:, 0], -A[:, 0], 2 * A[:, 1], -A[:, 1]]), 1),
        np.tile(np.arange(40), 4),
        np.array([0, 80, 160]),
    )
    np.testing.assert_allclose(of(sp.csc_array(parts, shape=(40, 2)), b).y, of(A, b).y, rtol=1e-13)


def test_the_gradient_that_is_left_is_rounding():
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((500, 4)), rng.standard_normal((500, 2))
    fit, remaining = factor_exact(prepare(A, b))
    assert (remaining < fit.leaves(fit.y, np.sqrt(fit.rss)) / ROUNDING).all()


def test_dependence_to_the_precision_of_the_input_is_refused():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((400, 3)).astype(np.float32)
    A = np.column_stack([A, A[:, 0] + A[:, 1]])  # float32: full rank by its rounding alone
    with pytest.raises(np.linalg.LinAlgError, match="rank 3 < d = 4"):
        factor_exact(prepare(A, rng.standard_normal(400)))
