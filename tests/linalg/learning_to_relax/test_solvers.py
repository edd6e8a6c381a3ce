import numpy as np
import pytest
import scipy.sparse as sp

from whp.datasets.linear_systems import stencil
from whp.linalg import System, conjugate_gradients, run_grid, sor, ssor_cg

A = stencil(10)
STAR = 1.5603879213
LINE = sp.diags_array([-1.0, 4.0, -1.0], offsets=[-1, 0, 1], shape=(3, 3))


def test_2_three_unknowns():
    np.testing.assert_allclose(sor(LINE, [1, 2, 3], 1.2, cap=1).x, (0.3, 0.69, 1.107))
    assert [sor(LINE, [1, 2, 3], w).iterations for w in (1.0, 1.0334, 1.2, 1.5)] == [10, 7, 12, 28]
    assert [ssor_cg(LINE, [1, 2, 3], w).iterations for w in (1.0, 1.2)] == [3, 3]


def test_3_counts_on_the_stencil():
    grid = (1.0, 1.2, 1.4, 1.5, STAR, 1.6, 1.8, 1.95)
    one = np.ones(100)
    assert [sor(A, one, w).iterations for w in grid] == [223, 145, 88, 62, 41, 43, 89, 383]
    assert [ssor_cg(A, one, w).iterations for w in grid] == [13, 12, 13, 13, 13, 13, 15, 17]
    assert [sor(A, np.eye(100)[0], w).iterations for w in (1.0, 1.5, 1.8)] == [168, 44, 80]
    np.testing.assert_array_equal(
        run_grid([(A, one)], grid)[0], [223, 145, 88, 62, 41, 43, 89, 383]
    )
    for solve in (sor, ssor_cg):
        found = solve(A, one, 1.4)
        assert found.converged
        np.testing.assert_allclose(A @ found.x, one, atol=1e-6)
        assert found.residual == pytest.approx(np.linalg.norm(one - A @ found.x), rel=1e-6)
    assert sor(A, np.zeros(100), 1.4).iterations == 0
    np.testing.assert_allclose(A @ conjugate_gradients(A, one).x, one, atol=1e-6)


def test_9_the_textbooks_sweep():
    rng = np.random.default_rng(0)
    dense, b, x = A.toarray(), rng.standard_normal(100), np.zeros(100)
    for _ in range(100):
        for i in range(100):
            x[i] += 1.3 * (b[i] - dense[i] @ x) / dense[i, i]
    np.testing.assert_allclose(sor(A, b, 1.3, cap=100, tol=1e-16).x, x, atol=1e-12)
    from pyamg.relaxation.relaxation import sor as theirs

    y = np.zeros(100)
    theirs(A, y, b, 1.3, iterations=7)
    np.testing.assert_allclose(sor(A, b, 1.3, cap=7, tol=1e-16).x, y, atol=1e-9)


def test_9_order_matters_and_scale_does_not():
    b = np.random.default_rng(0).standard_normal(100)
    order = np.random.default_rng(1).permutation(100)
    turned = sp.csr_array(A.toarray()[np.ix_(order, order)])
    assert sor(turned, b[order], 1.5).iterations != sor(A, b, 1.5).iterations
    np.testing.assert_allclose(sor(turned, b[order], 1.5).x, sor(A, b, 1.5).x[order], atol=1e-5)
    assert sor(7 * A, 7 * b, 1.5).iterations == sor(A, b, 1.5).iterations
    loose = sp.coo_array(
        (np.r_[A.data / 2, A.data / 2], (np.tile(A.tocoo().row, 2), np.tile(A.tocoo().col, 2))),
        shape=A.shape,
    )
    assert sor(loose, b, 1.5).iterations == sor(A, b, 1.5).iterations
    assert System(A + sp.eye_array(100), like=System(A)).indices is not None


@pytest.mark.parametrize("solve", [sor, ssor_cg])
@pytest.mark.parametrize("unit", [1e-300, 1e-165, 1e-155, 1e155, 1e290])
def test_units_of_b_change_nothing(solve, unit):
    b = np.random.default_rng(0).standard_normal(100)
    plain, scaled = solve(A, b, 1.5), solve(A, b * unit, 1.5)
    assert scaled.converged
    assert abs(scaled.iterations - plain.iterations) <= 1  # the last bit of the residual's norm
    np.testing.assert_allclose(scaled.x / unit, plain.x, rtol=1e-6, atol=1e-9)
    assert scaled.residual / unit == pytest.approx(plain.residual, rel=1e-3)


def test_complex_and_masked_systems_are_refused():
    for matrix in (A + 2j * sp.eye_array(100), A.toarray() + 2j):
        with pytest.raises(ValueError, match="A must be real"):
            sor(matrix, np.ones(100), 1.5)
    with pytest.raises(ValueError, match="b must be real"):
        sor(A, np.ones(100) + 1j, 1.5)
    masked = np.ma.array(np.ones(100), mask=np.arange(100) == 3)
    with pytest.raises(ValueError, match="masked"):
        sor(A, masked, 1.5)
    with pytest.raises(TypeError, match="dates"):
        sor(A, np.full(100, np.datetime64("2020-01-01")), 1.5)


def test_nothing_to_solve_from_a_warm_start():
    found = ssor_cg(A, np.zeros(100), 1.2, x0=np.ones(100))
    assert (found.iterations, found.converged, np.abs(found.x).max()) == (0, True, 0)


def test_a_divergent_iteration_gives_back_the_first_guess():
    diverging = sp.csr_array([[1.0, 3.0], [3.0, 1.0]])
    found = sor(diverging, [1.0, 2.0], 1.5, cap=5000, x0=[0.5, 0.5])
    assert not found.converged
    np.testing.assert_array_equal(found.x, [0.5, 0.5])


def test_negative_curvature_and_stagnation_are_said():
    indefinite = sp.csr_array([[1.0, 2.0], [2.0, 1.0]])
    assert conjugate_gradients(indefinite, [1.0, -1.0]).indefinite
    assert not conjugate_gradients(A, np.ones(100)).indefinite
    tight = sor(A, np.random.default_rng(0).standard_normal(100), 1.5, tol=1e-17, cap=300)
    assert tight.stagnated
    assert not tight.converged
    assert not sor(A, np.ones(100), 1.5).stagnated


def test_a_first_guess_that_is_the_solution_is_no_failure():
    b = np.random.default_rng(0).standard_normal(100)
    x = sor(A, b, 1.5).x
    for _ in range(4):  # each begins where the one before ended, at last below rounding
        found = sor(A, b, 1.5, x0=x)
        assert found.converged
        assert not found.stagnated
        assert found.iterations < 60
        assert found.residual <= 2e-8 * np.linalg.norm(b)
        x = found.x
    # No excuse for a tolerance that a solve from zero does not meet either.
    assert not sor(A, b, 1.5, x0=x, tol=1e-17, cap=300).converged


@pytest.mark.parametrize("solve", [sor, ssor_cg])
@pytest.mark.parametrize(
    ("of_A", "of_b"),
    [
        (of_A, of_b)
        for of_A in (1e-300, 1e-150, 1e150, 1e300)
        for of_b in (1e-139, 1e-100, 1e100, 1e139)
        if 1e-290 < of_b / of_A < 1e290  # else the solution is beyond floats
    ],
)
def test_units_of_the_matrix_change_nothing(solve, of_A, of_b):
    matrix, b = stencil(5), np.arange(1.0, 26)
    usual, here = solve(matrix, b, 1.3), solve(matrix * of_A, b * of_b, 1.3)
    assert here.converged
    assert here.iterations == usual.iterations
    np.testing.assert_allclose(here.x * of_A / of_b, usual.x, rtol=1e-6)
