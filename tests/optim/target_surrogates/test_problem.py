import numpy as np
import pytest
from scipy.sparse import csr_array

from whp.optim._target_surrogates.problem import (
    LinearProblem,
    column_norms,
    dependence,
    orthonormal,
)


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e120])
@pytest.mark.parametrize("shape", [(40, 6), (6, 40), (20, 20)])
def test_a_basis_spans_the_columns(shape, scale):
    X = scale * np.random.default_rng(0).normal(size=shape)
    U, T, R = orthonormal(X)
    np.testing.assert_allclose(U.T @ U, np.eye(U.shape[1]), atol=1e-12)
    np.testing.assert_allclose(X @ T, U, atol=1e-8)
    np.testing.assert_allclose(U @ R / scale, X / scale, atol=1e-11)


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9])
def test_nearly_dependent_columns_are_told_apart(gap):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(100, 3))
    X[:, 2] = X[:, 1] + gap * X[:, 2]
    U, _, _ = orthonormal(X)
    assert U.shape[1] == 3
    np.testing.assert_allclose(U.T @ U, np.eye(3), atol=1e-12)


def test_dependent_and_zero_columns_are_dropped():
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.normal(size=(50, 2)), np.zeros(50), np.ones(50)])
    X = np.column_stack([X, X[:, 0] - X[:, 1]])
    U, T, R = orthonormal(X)
    assert U.shape == (50, 3)
    np.testing.assert_allclose(X @ T, U, atol=1e-12)
    np.testing.assert_allclose(U @ R, X, atol=1e-12)
    assert orthonormal(np.zeros((5, 2)))[0].shape == (5, 0)


@pytest.mark.parametrize("scale", [1.0, 1e-150, 1e120])
@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1e-9, 1e-11, 0.0])
def test_how_near_columns_are_to_dependent(gap, scale):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(100, 3))
    X[:, 2] = X[:, 1] + gap * X[:, 2]
    least, dropped = dependence(scale * X * np.array([1.0, 1e3, 1e-3]))
    if gap > 1e-10:
        assert 0.2 * gap < least < gap
        assert dropped == 0
    else:
        assert least > 0.5
        assert 0.2 * gap <= dropped < max(gap, 1e-15)
    assert dependence(np.zeros((5, 2))) == (1.0, 0.0)


def test_norms_of_columns_neither_over_nor_underflow():
    X = np.array([[3e200, 3e-200, 0], [4e200, 4e-200, 0]])
    np.testing.assert_allclose(column_norms(X), [5e200, 5e-200, 0])
    np.testing.assert_allclose(column_norms(csr_array(X)), [5e200, 5e-200, 0])


@pytest.mark.parametrize("alpha", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["dense", "sparse", "cg"])
def test_the_minimiser_is_one(alpha, kind):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4)) * np.array([1.0, 10, 0.1, 1])
    free = np.array([False, False, False, True])
    held = csr_array(X) if kind != "dense" else X
    problem = LinearProblem(held, alpha, "cg" if kind == "cg" else "direct", free)
    C, theta, eta = rng.normal(size=30), rng.normal(size=4), 0.7

    def surrogate(w):
        moved = X @ (w - theta)
        penalty = 30 * alpha * np.square(w[:3]).sum() / 2
        return C @ moved + moved @ moved / (2 * eta) + penalty

    found = problem.solve(X.T @ C, theta, eta, C)
    for _ in range(50):
        other = found + 1e-3 * rng.normal(size=4)
        assert surrogate(found) <= surrogate(other) + 1e-9
