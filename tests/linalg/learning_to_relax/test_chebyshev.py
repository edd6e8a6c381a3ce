import numpy as np
import pytest

from whp.linalg._learning_to_relax.chebyshev import Chebyshev, _fit, features


def test_12_chebcb_learns_a_line():
    learner = Chebyshev(1, 0.0, 1.0, 6, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for _ in range(200):
        c = rng.random()
        arm, p = learner.ask(c)
        assert (arm, p.sum()) == (0, pytest.approx(1, abs=1e-12))
        learner.tell(100 + 40 * c)
    for c in np.linspace(0.05, 0.95, 10):
        assert learner.predicted(c)[0] == pytest.approx(100 + 40 * c, rel=0.02)


def test_the_fit_is_the_minimum_in_the_box():
    from scipy.optimize import lsq_linear

    for rng in np.random.default_rng(0).spawn(60):
        m, n = 6, int(rng.integers(1, 40))
        X = features(rng.random(n), 0, 1, m)
        y = rng.standard_normal(n)
        limits = rng.uniform(0.05, 1, m)
        theta = np.zeros(m)
        _fit(X.T @ X, X.T @ y, limits, theta)
        assert (np.abs(theta) <= limits).all()
        best = lsq_linear(X, y, (-limits, limits), tol=1e-13)
        ours = ((X @ theta - y) ** 2).sum()
        assert ours <= 2 * best.cost + 1e-6 * (1 + (y**2).sum())


def test_features_are_polynomials_of_the_clipped_context():
    phi = features(np.array([-1.0, 0.0, 0.25, 1.0, 7.0]), 0, 1, 4)
    z = np.array([-1, -1, -0.5, 1, 1])
    np.testing.assert_allclose(
        phi, np.column_stack([z**0, z, 2 * z**2 - 1, 4 * z**3 - 3 * z]), atol=1e-12
    )
    learner = Chebyshev(2, 0.0, 1.0, 4, np.random.default_rng(0))
    np.testing.assert_allclose(learner.features(0.25), phi[2], atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_the_inequality_of_inverse_gaps(seed):
    """Σp(y − y*) ≤ gaps/η + (η/4)Σp(ŷ − y)², whatever costs y and predictions ŷ."""
    rng = np.random.default_rng(seed)
    for _ in range(500):
        d, eta = int(rng.integers(2, 8)), 10 ** rng.uniform(-2, 4)
        said, y = rng.standard_normal(d) ** 3, rng.standard_normal(d) ** 3
        best = int(said.argmin())
        p = 1 / (d + eta * (said - said[best]))
        p[best] = 0
        p[best] = 1 - p.sum()
        q = p[best]
        gaps = max(d * (1 + q) - 2, d * q - 2 + 1 / q)
        assert p @ y - y.min() <= gaps / eta + eta / 4 * (p @ (said - y) ** 2) + 1e-9
