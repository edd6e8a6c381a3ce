import math

import numpy as np
import pytest

from whp.datasets.linear_systems import stencil
from whp.linalg import jacobi_radius, optimal_omega, sor, sor_radius, surrogate
from whp.linalg._learning_to_relax.young import asymptocity

A = stencil(10)
BETA = math.cos(math.pi / 11)
STAR = 1.5603879213


def test_1_young():
    assert jacobi_radius(A) == pytest.approx(BETA, abs=1e-10)
    assert jacobi_radius(A, "power", steps=2000) <= BETA + 1e-9
    assert optimal_omega(BETA) == pytest.approx(STAR, abs=1e-9)
    assert optimal_omega(A) == pytest.approx(STAR, abs=1e-7)
    for omega, rho in ((1.0, 0.9206267664), (1.4, 0.8058902655), (1.7, 0.7)):
        assert sor_radius(omega, BETA) == pytest.approx(rho, abs=1e-9)
        dense = A.toarray()
        M = np.diag(np.diag(dense)) / omega + np.tril(dense, -1)
        C = np.eye(100) - np.linalg.solve(M, dense)
        assert np.abs(np.linalg.eigvals(C)).max() == pytest.approx(rho, abs=1e-9)


def test_6_surrogate():
    wanted = {1.0: 266.19797, 1.5: 71.49816, 1.8: 100.45118, 1.95: 427.50612}
    for omega, value in wanted.items():
        assert surrogate(omega, BETA, 0.1545934, 1e-8) == pytest.approx(value, abs=1e-4)
    taus = [asymptocity(A, w, sor(A, np.ones(100), w).iterations) for w in np.linspace(1, 1.95, 20)]
    assert max(taus) == pytest.approx(0.15459342, abs=1e-7)
    for omega, value in wanted.items():
        assert sor(A, np.ones(100), omega).iterations <= value
