import math

import numpy as np
import pytest

from whp.distributed._error_feedback.stepsizes import (
    Smoothness,
    cloned,
    constants,
    glm_smoothness,
    optimal_weights,
    stepsize,
)


@pytest.mark.parametrize(
    ("alpha", "theta", "xi"),
    [
        (0.5, 0.2928932188, 2.4142135624),
        (0.25, None, 6.4641016151),
        (0.1, None, 18.4868329805),
        (0.01, None, 198.4987437107),
        (1e-8, None, 199999998.5),
        (1.0, 1.0, 0.0),
    ],
)
def test_constants(alpha, theta, xi):
    found = constants(alpha)
    assert found.xi == pytest.approx(xi, rel=1e-6 if alpha < 1e-6 else 1e-10)
    if theta is not None:
        assert found.theta == pytest.approx(theta, rel=1e-9)
    if alpha == 0.5:
        assert found.beta == pytest.approx(1.7071067812, rel=1e-10)
    assert found.xi == pytest.approx(math.sqrt(found.beta / found.theta), rel=1e-9)


def test_rare_features():
    L = np.array([1.0] * 7 + [50.0])
    known, supports = Smoothness(6.25, L), np.kron(np.eye(8), np.ones((1, 4))).astype(bool)
    best = optimal_weights(supports, L)
    assert stepsize("qm", known, 1 / 32) == pytest.approx(8.98812e-4, rel=1e-6)
    assert stepsize("am", known, 1 / 32) == pytest.approx(2.214672e-3, rel=1e-6)
    found = [
        stepsize("rf", known, 1 / 32, supports=supports, weights=w, k=1)
        for w in (np.full(8, 1 / 8), L / L.sum(), best)
    ]
    assert found[:2] == pytest.approx([2.1409995e-2, 2.0248623e-2], rel=1e-7)
    assert found[2] >= max(found[:2]) * (1 - 1e-12)


def test_optimal_weights_are_never_worse():
    rng = np.random.default_rng(0)
    for _ in range(50):
        supports = rng.random((12, 30)) < 0.2
        supports[np.arange(12), rng.integers(30, size=12)] = True
        L = np.exp(rng.normal(size=12))

        def D(w, supports=supports, L=L):
            return (w @ supports).max() * (L**2 / w).sum()

        w = optimal_weights(supports, L)
        assert D(w) <= min(D(np.ones(12)), D(L)) * (1 + 1e-12)
        for _ in range(20):  # and no weights nearby are better by more than the tolerance
            assert D(w * np.exp(0.05 * rng.normal(size=12))) >= D(w) * (1 - 1e-3)


def test_cloning():
    clones = cloned([1, 1, 1, 100])
    assert len(clones) == 7
    assert np.sqrt((clones**2).mean()) == pytest.approx(33.0917, abs=1e-4)
    rng = np.random.default_rng(0)
    for _ in range(100):
        L = np.exp(2 * rng.normal(size=10))
        clones = cloned(L)
        assert len(clones) <= 20
        assert np.sqrt((clones**2).mean()) <= math.sqrt(2) * L.mean() * (1 + 1e-12)


def test_power_iteration_never_underestimates():
    rng = np.random.default_rng(0)
    for _ in range(30):
        M = rng.normal(size=(20, 6)) * np.exp(rng.normal(size=6))
        exact = np.linalg.eigvalsh(M.T @ M)[-1] / 20
        assert exact * 0.999999 <= glm_smoothness(M, 1.0) <= exact * (1 + 3e-6)


@pytest.mark.parametrize("unit", [1e-170, 1e-90, 1e90])
@pytest.mark.parametrize("name", ["am", "qm", "sgd", "rf"])
def test_steps_follow_the_unit(name, unit):
    clients, supports = np.array([1.0, 2.0, 5.0]), np.eye(3, 4, dtype=bool)
    steps = [
        stepsize(
            name,
            Smoothness(3.0 * u, clients * u),
            0.25,
            supports=supports,
            weights=optimal_weights(supports, clients * u),
            k=1,
        )
        for u in (1.0, unit)
    ]
    assert steps[1] * unit == pytest.approx(steps[0], rel=1e-12)
    assert Smoothness(1.0, clients * unit).qm == pytest.approx(unit * np.sqrt(10), rel=1e-12)
