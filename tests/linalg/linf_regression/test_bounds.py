import math

import numpy as np
import pytest

from whp.linalg import eps_explicit, rows_needed
from whp.linalg._linf_regression import bounds


@pytest.mark.parametrize(
    ("d", "epsilon", "delta", "rows"),
    [
        (10, 0.5, 0.05, 842),
        (24, 0.5, 0.05, 2090),
        (24, 1.0, 0.05, 712),
        (100, 0.5, 0.01, 11094),
        (256, 1.0, 0.05, 8102),
    ],
)
def test_rows_needed(d, epsilon, delta, rows):
    assert rows_needed(d, epsilon, delta) == rows
    assert eps_explicit(rows, d, delta) <= epsilon < eps_explicit(rows - 1, d, delta)


def test_explicit_epsilon():
    assert eps_explicit(768, 24, 0.05) == pytest.approx(0.9478486, abs=1e-7)
    assert eps_explicit(20, 24, 0.05) == math.inf


def test_quantiles_by_the_table():
    assert bounds.student_quantile(0.05, 2, 3.0) == pytest.approx(4.176535, rel=1e-6)
    np.testing.assert_array_equal(bounds.student_quantile(0.05, 2, [0.5, -3.0]), math.inf)
    assert bounds.refined_quantile(math.exp(-2), 100, 25) == pytest.approx((1 + 0.5 + 0.2) ** 2)
    assert bounds.plain_bound(10, 16, 0.05) == math.inf
