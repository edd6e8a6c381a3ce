import math

import numpy as np
import pytest
import statsmodels.api as sm
from least_squares import verdicts

from whp.certificate import Verdict
from whp.linalg import tensor_linf_regression


def test_tensor_with_all_pairs_is_exact():
    rng = np.random.default_rng(0)
    A1, A2, B = (
        rng.standard_normal((64, 6)),
        rng.standard_normal((32, 6)),
        rng.standard_normal((64, 32)),
    )
    expected = np.linalg.lstsq(np.kron(A1, A2), B.ravel())[0]
    result = tensor_linf_regression(A1, A2, B, rows=2048, replace=False, measure=True, rng=0)
    np.testing.assert_allclose(result.x, expected, atol=1e-13)
    assert verdicts(result) == [Verdict.HOLDS] * 2


def test_tensor_error_falls_with_the_root_of_rows():
    rng = np.random.default_rng(0)
    A1, A2, B = (
        rng.standard_normal((64, 4)),
        rng.standard_normal((32, 3)),
        rng.standard_normal((64, 32)),
    )
    A = np.kron(A1, A2)
    exact = np.linalg.lstsq(A, B.ravel())[0]
    scale = np.linalg.norm(B.ravel() - A @ exact) / np.linalg.svd(A, compute_uv=False)[-1]
    for m, expected in ((100, 1.52), (400, 1.35)):
        errors = [
            np.abs(tensor_linf_regression(A1, A2, B, rows=m, rng=r).x - exact).max()
            for r in rng.spawn(60)
        ]
        assert math.sqrt(m) * np.mean(errors) / scale == pytest.approx(expected, rel=0.35)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 12}, "rows"),
        ({"A1": np.ones((2, 4))}, "A1"),
        ({"B": np.ones((3, 3))}, "B"),
        ({"delta": 0}, "delta"),
    ],
)
def test_bad_tensor_input_is_named(arguments, message):
    rng = np.random.default_rng(0)
    given = {
        "A1": rng.standard_normal((8, 4)),
        "A2": rng.standard_normal((8, 3)),
        "B": np.ones((8, 8)),
        "rows": 40,
    }
    with pytest.raises(ValueError, match=message):
        tensor_linf_regression(**{**given, **arguments})


def test_statistical_errors_of_a_product_are_those_of_the_formed_matrix():
    rng = np.random.default_rng(0)
    A1, A2, B = (
        rng.standard_normal((16, 3)),
        rng.standard_normal((9, 2)),
        rng.standard_normal((16, 9)),
    )
    result = tensor_linf_regression(A1, A2, B, rows=60, rng=0)
    expected = sm.OLS(B.ravel(), np.kron(A1, A2)).fit().HC3_se
    np.testing.assert_allclose(result.statistical_stderr, expected, rtol=1e-9)
