import numpy as np
import pytest
from recovering import THREE

from whp.bandits._recovering_bandits.curves import as_curves
from whp.bandits._recovering_bandits.rates import a_priori_ratio, period_set, relax, segments
from whp.studies.recovering_bandits.truth import program


def test_1_share_known_beforehand():
    wanted = {
        1: 0.25,
        2: 0.25,
        3: 1 / 3,
        4: 0.375,
        5: 0.4,
        8: 0.5,
        10: 0.533333,
        16: 0.609375,
        25: 0.672,
        50: 0.754286,
        100: 0.819,
        400: 0.904875,
    }
    for K, gamma in wanted.items():
        assert a_priori_ratio(K) == pytest.approx(gamma, abs=1e-6)


def test_6_rounding_to_period_sets():
    assert [p for p in period_set(3, 24) if p <= 24] == [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24]
    assert list(period_set(1, 24)) == [1, 2, 4, 8, 16, 32]
    for m, limit, measured in (
        (1, 2, 1.99805),
        (2, 1.5, 1.49854),
        (3, 4 / 3, 1.33247),
        (5, 1.2, 1.19906),
    ):
        allowed = np.array(period_set(m, 2000))
        worst = max(float(allowed[np.searchsorted(allowed, d)]) / d for d in range(1, 2001))
        assert worst < limit
        assert worst == pytest.approx(measured, abs=2e-3)


def test_envelopes_of_the_worked_example():
    R = as_curves(THREE)
    pieces = segments(R, (1, 2, 3, 4))
    corners: dict[int, list] = {0: [], 1: [], 2: []}
    for h, i in zip(pieces.high.tolist(), pieces.arm.tolist(), strict=True):
        corners[i].append((h, float(R[i, h - 1] / h)))
    assert corners[0] == [(4, pytest.approx(0.25)), (3, pytest.approx(0.3))]
    assert corners[1] == [
        (4, pytest.approx(0.1625)),
        (3, pytest.approx(0.216667, abs=1e-6)),
        (2, pytest.approx(0.3)),
        (1, pytest.approx(0.5)),
    ]
    assert corners[2] == [(4, pytest.approx(0.3)), (3, pytest.approx(0.4))], (
        "4 lies on the way to 3"
    )
    assert relax(pieces, 0.5).value == pytest.approx(0.5666667)


def test_the_bound_is_the_linear_program():
    """Also of curves that fall, and of such as are all ties."""
    for seed, rng in enumerate(np.random.default_rng(0).spawn(60)):
        N, D, K = int(rng.integers(1, 6)), int(rng.integers(1, 7)), int(rng.integers(1, 4))
        R = rng.random((N, D))
        R = np.sort(R, axis=1) if seed % 3 == 0 else np.round(R, 1) if seed % 3 == 1 else R
        ours = relax(segments(R, range(1, D + 1)), K).value
        assert ours == pytest.approx(program(R, K), abs=1e-9)


def test_every_period_on_an_envelope_can_be_chosen():
    R = np.array([[1.0, 1.5, 2.0, 2.5]])  # 1, 3/4, 2/3, 5/8: on one line over 1/d
    pieces = segments(R, range(1, 5))
    assert pieces.high.tolist() == [4, 3, 2, 1]
    assert pieces.slope[1:] == pytest.approx([0.5] * 3)
