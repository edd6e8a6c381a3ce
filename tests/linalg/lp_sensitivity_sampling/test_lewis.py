import numpy as np
import pytest
from lp_problem import A4, LEWIS, problem

from whp.linalg import leverage_scores, lewis_weights
from whp.linalg._lp_sensitivity_sampling.lewis import one_sided_ratio


@pytest.mark.parametrize("p", LEWIS)
def test_lewis_weights(p):
    found = lewis_weights(A4, p, tol=1e-12)
    np.testing.assert_allclose(found.weights, LEWIS[p], rtol=1e-8)
    v = found.one_sided
    np.testing.assert_allclose(found.R.T @ found.R, (A4.T * v ** (1 - 2 / p)) @ A4, rtol=1e-9)


def test_one_sided():
    assert one_sided_ratio(A4, np.ones(4), 1) == pytest.approx(0.8235294, abs=1e-7)
    assert one_sided_ratio(A4, leverage_scores(A4), 1) == pytest.approx(2.6916667, abs=1e-7)
    assert one_sided_ratio(A4, lewis_weights(A4, 1, tol=1e-12).weights, 1) == pytest.approx(
        1, abs=1e-9
    )


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 6])
def test_weights_sum_to_the_rank_and_do_not_depend_on_the_basis(p):
    A, _ = problem(200, 4)
    w = lewis_weights(A, p, tol=1e-10).weights
    assert w.sum() == pytest.approx(4, rel=1e-6)
    B = np.random.default_rng(1).standard_normal((4, 4))
    np.testing.assert_allclose(lewis_weights(A @ B, p, tol=1e-10).weights, w, rtol=1e-6)
    repeated = lewis_weights(np.repeat(A, 3, axis=0), p, tol=1e-10).weights[::3]
    np.testing.assert_allclose(repeated, w / 3, rtol=1e-6)
    np.testing.assert_allclose(lewis_weights(np.eye(3), p).weights, 1, rtol=1e-6)
