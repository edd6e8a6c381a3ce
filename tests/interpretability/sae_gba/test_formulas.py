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


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_directions_have_no_unit(kind):
    rng = np.random.default_rng(0)
    V = rng.normal(size=(30, 8)).astype(kind)
    for scale in (
        (1e-36, 1e-30, 1e30, 1e36) if kind is np.float32 else (1e-300, 1e-160, 1e160, 1e300)
    ):
        np.testing.assert_allclose(unit_rows(V * kind(scale)), unit_rows(V), rtol=1e-5)
        assert recovery_rate(V * kind(scale), V, 0.999) == 1.0
    assert (unit_rows(np.zeros((2, 3), kind)) == 0).all()


@pytest.mark.parametrize("threshold", [-1.0, -0.5, 0.0, 0.3, 1.0])
def test_caps_of_every_size(threshold):
    """Against drawn directions, those beyond a right angle too."""
    W = unit_rows(np.random.default_rng(0).normal(size=(200_000, 5)))
    share, any_of = cap_chance(5, threshold, 3)
    assert abs(share - float((W[:, 0] > threshold).mean())) < 4e-3
    assert any_of == pytest.approx(1 - (1 - share) ** 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda: cap_chance(0, 0.5, 3),
        lambda: cap_chance(5, 1.5, 3),
        lambda: code_bound(-0.1),
        lambda: code_bound(1.5),
        lambda: code_bound(np.nan),
        lambda: width_bound(0, 0.1, 5),
        lambda: width_bound(2, 1.5, 5),
        lambda: width_bound(2, 0.1, 5, delta=2),
        lambda: recovery_rate(np.eye(3), np.eye(3), np.nan),
        lambda: recovery_rate(np.eye(3), np.eye(2)),
        lambda: targets(4, 10, 0.5, 0.1),
        lambda: targets(4, 2, 0.1, 0.5),
        lambda: targets(4, 2, 0.1, 0),
        lambda: targets(4, 2, 1.5, 0.1),
    ],
)
def test_what_formulas_do_not_cover_is_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()
