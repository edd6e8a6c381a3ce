import numpy as np
import pytest

from whp.continual._stability_gap.bands import count_interval, paired_limits


def test_3_clopper_pearson_at_a_small_level():
    level = 0.05 / 2500 / 2
    low, high = count_interval([0, 5, 900], 1000, level)
    np.testing.assert_allclose(low, [0, 0.000273094, 0.8540432], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(high, [0.0114469, 0.0223414, 0.9358866], rtol=1e-5)
    low, high = count_interval(180, 200, level)
    assert (float(low), float(high)) == pytest.approx((0.7825817, 0.9675354), abs=1e-7)


def test_4_hypergeometric():
    level = 0.05 / 625 / 2
    for count, expected in ((180, (0.804, 0.957)), (0, (0, 0.044))):
        assert tuple(
            float(v) for v in count_interval(count, 200, level, 1000, "set")
        ) == pytest.approx(expected)
    assert tuple(float(v) for v in count_interval(50, 100, 0.025, 200, "set")) == pytest.approx(
        (0.43, 0.57)
    )
    assert [float(v) for v in count_interval(50, 100, 0.025, 100, "set")] == [0.5, 0.5]


def test_4_hypergeometric_by_brute_force():
    from scipy.stats import hypergeom

    n, N, level = 7, 20, 0.02
    for count in range(n + 1):
        possible = [
            K
            for K in range(N + 1)
            if hypergeom.sf(count - 1, N, K, n) > level and hypergeom.cdf(count, N, K, n) > level
        ]
        low, high = count_interval(count, n, level, N, "set")
        assert (round(float(low) * N), round(float(high) * N)) == (min(possible), max(possible))


def test_7_paired_limits():
    level = 0.05 / (4 * 1250)
    assert float(paired_limits(100, 0, 200, level)[0]) == pytest.approx(0.29447, abs=1e-5)
    assert float(paired_limits(153, 0, 200, level)[0]) == pytest.approx(0.5649, abs=1e-4)
    assert [float(v) for v in paired_limits(10, 4, 50, level, 50, "set")] == pytest.approx(
        [0.12, 0.12]
    )
