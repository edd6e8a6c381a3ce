import numpy as np
import pytest

from whp.interpretability import cap_chance, code_bound, recovery_rate, targets, width_bound
from whp.interpretability._sae_gba.formulas import (
    coherence,
    nearest,
    resonance_band,
    rounding,
    unit_rows,
)


def test_1_targets():
    expected = [
        0.5,
        0.25066,
        0.125661,
        0.0629961,
        0.0315811,
        0.0158322,
        0.00793701,
        0.00397897,
        0.00199474,
        0.001,
    ]
    np.testing.assert_allclose(targets(10, 10, 0.5, 1e-3)[0], expected, rtol=2e-5)
    p, group = targets(7, 3, 0.5, 0.1)
    assert group.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert p[0] == 0.5
    assert set(targets(5, 1, 0.3, 0.1)[0]) == {0.3}


def test_5_width():
    assert [width_bound(1, 0.01, 100), width_bound(2, 0.02, 128), width_bound(3, 3 / 128, 128)] == [
        757,
        4263,
        27211,
    ]
    np.testing.assert_allclose(resonance_band(128, 64, 3), (0.0078125, 0.0393725), rtol=1e-5)
    np.testing.assert_allclose(
        resonance_band(65_536, 1536, 3, 0.05), (1.5259e-5, 2.88328e-4), rtol=1e-3
    )


def test_5_the_width_bound_is_kept_by_simulation():
    rng = np.random.default_rng(0)
    s, p, n, d = 1, 0.05, 30, 400
    M = width_bound(s, p, n)
    missed = 0
    for _ in range(60):
        V = rng.normal(size=(n, d)) / np.sqrt(d)
        missed += bool(((rng.normal(size=(M, d)) @ V.T).max(axis=0) < 1.6448536).any())
    assert missed <= 9


def test_6_caps():
    assert cap_chance(64, 0.9, 1)[0] == pytest.approx(1.05793e-24, rel=1e-4)
    assert cap_chance(72, 0.5, 1024) == pytest.approx((3.33514e-6, 0.00340936), rel=1e-4)
    assert cap_chance(384, 0.3, 1)[0] == pytest.approx(9.49708e-10, rel=1e-4)
    rng = np.random.default_rng(0)
    share = (unit_rows(rng.normal(size=(200_000, 5)))[:, 0] > 0.7).mean()
    assert cap_chance(5, 0.7, 1)[0] == pytest.approx(share, rel=0.05)


def test_7_codes():
    assert [code_bound(m) for m in (0.1, 0.3, 0.5)] == pytest.approx([5.5, 2.16667, 1.5], abs=1e-5)
    rng = np.random.default_rng(0)
    assert coherence(rng.normal(size=(128, 64))) >= 0.0887357  # Welch's floor
    assert coherence(np.eye(5)) <= rounding(5, np.float64)
    assert coherence(np.ones((1, 5))) == 0
    twins = np.eye(5, dtype=np.float32)[[0, 1, 1]]
    assert coherence(twins) == 1


def test_recovery_rates():
    V = np.eye(4)
    assert recovery_rate(V, V[[0, 1, 1]]) == 0.5
    assert recovery_rate(V, -V) == 0  # features are signed
    both = np.array([[1.0, 0.05, 0, 0]])
    assert recovery_rate(V[:2], both, 0.04) == 1
    assert recovery_rate(V[:2], both, 0.04, matched=True) == 0.5
    np.testing.assert_allclose(nearest(V, np.array([[3.0, 4, 0, 0]])), [0.6, 0.8, 0, 0])
