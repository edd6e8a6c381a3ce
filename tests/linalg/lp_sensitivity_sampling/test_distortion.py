import numpy as np
import pytest
from lp_problem import A4

from whp.linalg import distortion


@pytest.mark.parametrize(
    ("p", "low", "high"),
    [
        (1, 0.8333333, 1.5),
        (1.5, 0.7553858, 1.5052070),
        (2, 0.7165241, 1.5187700),
        (3, 0.6996903, 1.5212773),
    ],
)
def test_distortion(p, low, high):
    found = distortion(A4, [0, 2, 3], [2, 1, 1.5], p, rng=0)
    assert found.low_ratio == pytest.approx(low, abs=1e-6)
    assert found.high_ratio == pytest.approx(high, abs=1e-6)
    for x, ratio in ((found.x_low, found.low_ratio), (found.x_high, found.high_ratio)):
        sizes = np.abs(A4 @ x) ** p
        assert sizes @ [2, 0, 1, 1.5] / sizes.sum() == pytest.approx(ratio, rel=1e-9)


def test_it_says_where_it_is_exact():
    for p, exact in ((1, False), (2, True)):
        assert distortion(A4, [0, 2, 3], [2, 1, 1.5], p, rng=0).exact is exact
    a = np.arange(1.0, 9)[:, None]
    found = distortion(a, [1, 3, 5, 7], np.full(4, 2.0), 3)
    assert found.exact
    assert found.value == pytest.approx(2 * (8 + 64 + 216 + 512) / (a**3).sum() - 1, rel=1e-12)
