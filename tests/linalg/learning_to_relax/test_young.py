import math

import numpy as np
import pytest
import scipy.sparse as sp

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


def test_formulas_for_a_radius_refuse_matrices_that_have_none():
    skew = sp.diags_array([-1.9, 4.0, -0.1], offsets=[-1, 0, 1], shape=(30, 30))
    for ask in (optimal_omega, jacobi_radius):  # 1.4 and .95 for a true radius of .22
        with pytest.raises(ValueError, match="A must be symmetric, entry 1, 2"):
            ask(skew)
    one = np.full((6, 6), 0.9) + 0.1 * np.eye(6)  # definite; its Jacobi iteration diverges
    assert jacobi_radius(one) == pytest.approx(4.5)
    with pytest.raises(ValueError, match=r"beta must be below 1, .* has the radius 4.5"):
        optimal_omega(one)


@pytest.mark.parametrize("n", [1, 3, 10])
def test_numbers_of_numpy_and_diagonal_matrices_have_an_omega(n):
    assert (
        optimal_omega(np.float64(BETA)) == optimal_omega(np.cos(np.pi / 11)) == optimal_omega(BETA)
    )
    assert optimal_omega(sp.eye_array(n)) == 1
    assert optimal_omega(np.diag(np.arange(1.0, n + 1))) == 1


def test_surrogate_where_nothing_or_everything_is_taken_off():
    assert surrogate(1.2, 1.0, 0.1, 1e-8) == surrogate(1.2, 0.5, 1.0, 1e-8) == math.inf
    assert surrogate(1.0, 0.0, 0.0, 1e-8) == 1
