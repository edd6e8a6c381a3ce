import numpy as np
import pytest
from optimistic import fed
from scipy.optimize import minimize

from whp.online import Ball, Box, L1Ball, OptimisticMirrorDescent, Polytope, Simplex

POLYTOPE = Polytope(np.zeros(4), np.ones(4), [[1, 1, 1, 1], [1, -1, 0, 0.5]], [1.5, 0.2])


DOMAINS = [
    Ball(1.3, center=np.array([1.0, 0, 0, -1])),
    Box([-1, 0, 0, 0], [0.5, 2, 1, 1]),
    Simplex(2.0),
    L1Ball(1.5),
    POLYTOPE,
]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_projections_satisfy_the_variational_inequality(domain):
    for rng in np.random.default_rng(0).spawn(40):
        z = 3 * rng.standard_normal(4)
        x = domain.project(z)
        # x is the projection if and only if no point of the set lies further along z − x.
        best = domain.linear_min(x - z)
        assert (x - z) @ (best - x) >= -1e-7
        np.testing.assert_allclose(domain.project(x), x, atol=1e-8)
        assert np.linalg.norm(best - x) <= domain.diameter + 1e-9


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_every_domain_keeps_its_bound(domain):
    learner = OptimisticMirrorDescent(domain, dim=4, smoothness=0.05)
    rng = np.random.default_rng(0)
    fed(learner, rng.standard_normal((60, 4)))
    certificate = learner.certificate()
    assert certificate.measured.value <= certificate.bound
    assert np.linalg.norm(domain.project(learner.x) - learner.x) < 1e-7


@pytest.mark.parametrize("domain", DOMAINS[:2], ids=lambda d: type(d).__name__)
def test_metric_projection_against_a_general_solver(domain):
    rng = np.random.default_rng(0)
    for _ in range(5):
        root = rng.standard_normal((4, 4))
        H, z = root @ root.T + 0.1 * np.eye(4), 3 * rng.standard_normal(4)
        x = domain.project_metric(z, H)
        np.testing.assert_allclose(domain.project(x), x, atol=1e-9)
        other = minimize(
            lambda y, H=H, z=z: (domain.project(y) - z) @ H @ (domain.project(y) - z),
            x,
            method="Nelder-Mead",
        )
        assert (x - z) @ H @ (x - z) <= other.fun * (1 + 1e-9)
        gradient = H @ (x - z)
        assert gradient @ (domain.linear_min(gradient) - x) >= -1e-7
