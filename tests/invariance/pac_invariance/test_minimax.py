import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from whp.invariance._pac_invariance.environments import Environments
from whp.invariance._pac_invariance.minimax import minimax, residuals
from whp.invariance._pac_invariance.search import fit


def solved(M, z):
    heads = minimax(np.asarray(M, float)[None], np.asarray(z, float)[None])
    return heads.w[0], residuals(np.asarray(M, float), np.asarray(z, float), heads.w[0]), heads


def test_two_lines():
    w, r, _ = solved([[[1.0]], [[2.0]]], [[1.0], [6.0]])
    assert w[0] == pytest.approx(7 / 3, abs=1e-10)
    np.testing.assert_allclose(r, 4 / 3, atol=1e-10)


def test_smallest_disc_needs_two_of_three_points():
    w, r, heads = solved([np.eye(2)] * 3, [[0, 0], [2, 0], [1, 1]])
    np.testing.assert_allclose(w, [1, 0], atol=1e-6)
    np.testing.assert_allclose(r, 1, atol=1e-6)
    assert heads.lower[0] == pytest.approx(1, abs=1e-10)
    alone, _, _ = solved([np.eye(2)] * 2, [[0, 0], [2, 0]])
    np.testing.assert_allclose(alone, [1, 0], atol=1e-9)


def test_multipliers_are_those_of_non_negative_least_squares():
    rng = np.random.default_rng(0)
    M, z = rng.standard_normal((40, 3, 3)), rng.standard_normal((40, 3))
    w, r, heads = solved(M, z)
    near = np.flatnonzero(r > (1 - 1e-6) * r.max())
    gradients = 2 * np.einsum("mki,mk->mi", M[near], M[near] @ w - z[near])
    both = np.vstack([gradients.T, np.ones(len(near))])
    _, left = nnls(both, np.append(np.zeros(3), 1.0))
    assert left < 1e-9
    assert heads.multipliers[0][near].sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_solver_finds_a_better_head(seed):
    rng = np.random.default_rng(seed)
    s, m = int(rng.integers(1, 5)), int(rng.integers(2, 30))
    M = rng.standard_normal((m, s, s)) * np.exp(rng.normal(0, 2, (m, 1, 1)))
    z = rng.standard_normal((m, s))
    w, r, heads = solved(M, z)
    assert heads.lower[0] == pytest.approx(r.max(), rel=1e-9)
    for start in (np.zeros(s), w + 0.1 * rng.standard_normal(s)):
        other = minimize(lambda v: residuals(M, z, v).max(), start, method="Nelder-Mead")
        assert other.fun >= r.max() * (1 - 1e-9)


@pytest.mark.parametrize("unit", [1e-150, 1e-9, 1.0, 1e9, 1e150])
def test_units_do_not_matter(unit):
    rng = np.random.default_rng(3)
    M, z = rng.standard_normal((20, 2, 2)), rng.standard_normal((20, 2))
    w, r, _ = solved(M, z)
    v, q, _ = solved(M, unit * z)
    np.testing.assert_allclose(v / unit, w, rtol=1e-7)
    assert q.max() / unit == pytest.approx(r.max(), rel=1e-9)


def test_perfect_invariance():
    rng = np.random.default_rng(4)
    M = rng.standard_normal((30, 3, 3))
    w, r, _ = solved(M, M @ np.array([1.0, -2, 0.5]))
    np.testing.assert_allclose(w, [1, -2, 0.5], atol=1e-9)
    assert r.max() < 1e-10


def test_a_batch_is_its_problems():
    rng = np.random.default_rng(5)
    M, z = rng.standard_normal((6, 15, 2, 2)), rng.standard_normal((6, 15, 2))
    together = minimax(M, z).w
    for i in range(6):
        np.testing.assert_allclose(minimax(M[i : i + 1], z[i : i + 1]).w[0], together[i], rtol=1e-6)


def population(A, b, variance):
    m = len(A)
    p = A.shape[1]
    return Environments(
        labels=list(range(m)),
        sizes=np.full(m, 1000),
        A=A,
        b=b,
        variance=variance,
        mean_x=np.zeros((m, p)),
        mean_y=np.zeros(m),
        shift=np.zeros(p),
        scale=np.ones(p),
        shift_y=0.0,
        scale_y=1.0,
        block=np.arange(m),
        center=True,
    )


def test_the_worked_model():
    # X1 of variance 1, Y = X1 + N, X2 = a Y + N, a = 1/2, 1, 2.
    a = np.array([0.5, 1, 2])
    A = np.stack([[[1, v], [v, 2 * v**2 + 1]] for v in a])
    b = np.stack([[1, 2 * v] for v in a])
    environments = population(A, b, np.full(3, 2.0))
    np.testing.assert_allclose(A[:, 1, 1], [1.5, 3, 9])
    cause, effect = fit(environments, [(0,), (1,)], "excess", lambda _: 0.05)
    assert cause.epsilon == pytest.approx(0, abs=2e-8)
    assert effect.w[0] == pytest.approx(0.5257834231, abs=1e-9)
    assert effect.w[0] == pytest.approx((2 / 3 + 4 * 3**0.5 / 9) / (1 + 3**0.5), abs=1e-9)
    assert effect.epsilon == pytest.approx(0.1725460301, abs=2e-8)
    effect = fit(environments, [(1,)], "gradient", lambda _: 0.05)[0]
    assert effect.w[0] == pytest.approx(0.5, abs=1e-7)
    assert effect.epsilon == pytest.approx(0.5, abs=1e-7)
