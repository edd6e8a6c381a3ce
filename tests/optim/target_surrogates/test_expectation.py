import itertools
from fractions import Fraction

import numpy as np
import pytest

from whp.optim._target_surrogates.expectation import (
    mean_distances,
    recursion_bound,
    shrinkage,
    target_noise,
)
from whp.optim._target_surrogates.linear import Settings, fit_linear
from whp.optim._target_surrogates.losses import LOSSES
from whp.optim._target_surrogates.problem import LinearProblem
from whp.studies.target_surrogates.experiments import polynomial_diabetes
from whp.studies.target_surrogates.worlds import exact_mean


def test_7_noise_and_recursion():
    X, y = polynomial_diabetes()
    U = LinearProblem(X).basis[0]
    z = U @ (U.T @ y)
    assert target_noise(U, z - y, 125) == pytest.approx(57.526663, rel=1e-6)
    assert target_noise(U, z - y, 25) == pytest.approx(378.369373, rel=1e-6)
    assert np.square(z).sum() == pytest.approx(261.858602, rel=1e-6)
    bound = recursion_bound(
        float(np.square(z).sum()), np.full(400, 125 / 884), 57.526663, 1.0, 442 / 125
    )
    np.testing.assert_allclose(bound[[9, 49, 399]], [69.738, 16.389, 16.269], atol=2e-3)
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        rows = rng.choice(442, 125, replace=False)
        estimate = 442 / 125 * U[rows].T @ (z - y)[rows]
        drawn.append(np.square(estimate).sum())
    assert np.mean(drawn) == pytest.approx(57.53, rel=0.03)


def problem(n=40, d=3):
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, d)) * np.array([1.0, 3, 0.5])
    return X, X @ np.ones(d) + rng.normal(size=n)


def by_recursion(X, y, b, etas, m=None):
    U, _, R = LinearProblem(X).basis
    left, s, _ = np.linalg.svd(R)
    U = U @ left
    best = U.T @ y
    return mean_distances(U, -best, U @ best - y, etas, b, shrinkage(s**2, 1.0, m))


@pytest.mark.parametrize("m", [None, 3])
def test_the_mean_is_that_of_runs(m):
    X, y = problem()
    z = X @ np.linalg.lstsq(X, y, rcond=None)[0]
    settings = Settings(
        batch_size=8, max_iter=12, m=m, inner="exact" if m is None else "gd", tol=0.0
    )
    rng, ends = np.random.default_rng(0), []
    for _ in range(200):
        theta, history = fit_linear(X, y, LOSSES["squared"], settings, np.zeros(3), rng)
        ends.append(np.square(X @ theta - z).sum())
    D, radius, gaps = by_recursion(X, y, 8, history.column("eta"), m)
    assert np.mean(ends) == pytest.approx(D[-1], abs=4 * np.std(ends) / np.sqrt(200))
    assert radius[-1] < 1e-9
    assert (gaps == 0).all() if m is None else (gaps > 0).all()


@pytest.mark.parametrize("m", [None, 7])
def test_rounding_does_not_grow_over_many_steps(m):
    X, y = problem()
    etas = np.full(1500, 39 / 80)
    D, radius, _ = by_recursion(X, y, 39, etas, m)
    assert D[-1] == pytest.approx(exact_mean(X, y, 39, etas, m), rel=1e-8)
    assert radius[-1] < 1e-7 * D[-1]


def test_the_mean_is_that_of_all_batches():
    """Every sequence of three batches of two of four rows, in fractions."""
    X = np.array([[1, 2], [0, 1], [3, -1], [1, 1]])
    y = np.array([1, 2, -1, 3])
    A = [[Fraction(int(v)) for v in row] for row in X]
    t = [Fraction(int(v)) for v in y]
    a, c, e = (sum(r[i] * r[j] for r in A) for i, j in ((0, 0), (0, 1), (1, 1)))
    det = a * e - c * c
    inverse = ((e / det, -c / det), (-c / det, a / det))

    def project(g):
        s = [sum(A[i][j] * v for i, v in g) for j in (0, 1)]
        return [inverse[j][0] * s[0] + inverse[j][1] * s[1] for j in (0, 1)]

    best = project(list(enumerate(t)))

    def go(theta, steps):
        if not steps:
            off = [r[0] * (theta[0] - best[0]) + r[1] * (theta[1] - best[1]) for r in A]
            return sum(v * v for v in off)
        batches = list(itertools.combinations(range(4), 2))
        total = Fraction(0)
        for S in batches:
            g = [(i, A[i][0] * theta[0] + A[i][1] * theta[1] - t[i]) for i in S]
            d = project(g)  # η n/b = 1/2
            total += go([theta[0] - d[0] / 2, theta[1] - d[1] / 2], steps - 1)
        return total / len(batches)

    mean = float(go([Fraction(0)] * 2, 3))
    etas = np.full(3, 2 / 8)
    D, _, _ = by_recursion(X * 1.0, y * 1.0, 2, etas)
    assert D[-1] == pytest.approx(mean, rel=1e-13)
    assert exact_mean(X * 1.0, y * 1.0, 2, etas) == pytest.approx(mean, rel=1e-15)


@pytest.mark.parametrize("left", [0.0, 0.3])
def test_what_inner_steps_miss_is_bounded_without_the_moments(left):
    X, y = problem()
    U = LinearProblem(X).basis[0]
    best = U.T @ y
    sigma2, etas = target_noise(U, U @ best - y, 8), np.full(30, 0.1)
    shares = np.array([1.0, 1 - left / 2, 1 - left])
    D, _, gaps = mean_distances(U, -best, U @ best - y, etas, 8, shares)
    start = float(best @ best)
    known = recursion_bound(start, etas, sigma2, 1.0, 5.0, gaps)
    rough = recursion_bound(start, etas, sigma2, 1.0, 5.0, None, left)
    assert (rough * (1 + 1e-12) >= known).all()
    assert (known * (1 + 1e-12) >= D).all()


@pytest.mark.parametrize("b", [1, 8, 39])
@pytest.mark.parametrize("m", [None, 1, 7])
def test_two_ways_to_the_mean_agree(b, m):
    X, y = problem()
    etas = np.full(30, b / 80)
    D, radius, gaps = by_recursion(X, y, b, etas, m)
    assert exact_mean(X, y, b, etas, m) == pytest.approx(D[-1], rel=1e-8)
    U = LinearProblem(X).basis[0]
    best = U.T @ y
    sigma2 = target_noise(U, U @ best - y, b)
    bounds = recursion_bound(float(best @ best), etas, sigma2, 1.0, 40 / b, gaps)
    assert (bounds * (1 + 1e-12) >= D - radius).all()
