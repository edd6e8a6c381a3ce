import numpy as np
import pytest
from layered import example, linear

from whp.rl._adversarial_linear_mdp import passes


def of_episode(model, pi, gamma, path, taken, seen, beta, reduced):
    H, X, A, d = model.shape
    q, inv = np.empty((H, X)), np.empty((H, d, d))
    rng = np.random.default_rng(0)
    passes.occupancies(model.P, model.init, pi, q)
    passes.inverses(model.phi, model.P, model.init, pi, q, gamma, 0, 0, 0, rng, inv)
    Q, B, theta = np.empty((H, X, A)), np.empty((H, X, A)), np.empty((H, d))
    arguments = (np.array(path), np.array(taken), np.array(seen), beta, reduced)
    passes.estimate(model.phi, model.P, pi, q, inv, *arguments, Q, B, theta)
    return q, inv, Q, B, theta


PI = np.broadcast_to([0.7, 0.3], (2, 2, 2)).copy()


def test_the_worked_example():
    model = example(signed=False)
    q, inv, Q, B, theta = of_episode(model, PI, 0.05, [0, 1], [1, 0], [0.3, 0.8], 0.1, False)
    assert q[1] == pytest.approx([0.275, 0.725])
    assert inv[0] == pytest.approx(
        np.array([[1.8842401791, -0.4750704911], [-0.4750704911, 2.8738186083]]), abs=1e-9
    )
    assert inv[1] == pytest.approx(
        np.array([[3.8171139936, -0.5643392239], [-0.5643392239, 1.6556449404]]), abs=1e-9
    )
    assert B[1] == pytest.approx(
        np.array([[0.1899051579, 0.2058104644], [0.3456015664, 0.5349126874]]), abs=1e-9
    )
    assert B[0] == pytest.approx(
        np.array([[0.8474813011, 0.9236370578], [0.8874350379, 0.6591236721]]), abs=1e-9
    )
    assert Q[0] == pytest.approx(
        np.array([[0.0442764486, 3.1244922594], [2.8814209086, 1.1567992166]]), abs=1e-9
    )
    assert Q[1] == pytest.approx(
        np.array([[0.6519374125, 0.9724871520], [1.1552329203, -0.1844788387]]), abs=1e-9
    )
    assert np.einsum("hxad,hd->hxa", model.phi, theta) == pytest.approx(Q)
    reduced = of_episode(model, PI, 0.05, [0, 1], [1, 0], [0.3, 0.8], 0.1, True)[2]
    assert reduced[1, 1] == pytest.approx([1.0549225517, 0.0426607314], abs=1e-9)


def test_the_worked_example_with_features_of_both_signs():
    model = example(signed=True)
    _, _, Q, B, _ = of_episode(model, PI, 0.05, [0, 1], [1, 0], [0.3, 0.8], 0.1, True)
    assert B[0] == pytest.approx(
        np.array([[0.8349644084, 1.0063483379], [1.0525136667, 1.2256276015]]), abs=1e-9
    )
    assert Q[1] == pytest.approx(
        np.array([[-0.0410191650, 1.0314287140], [1.0588026063, -0.1885403706]]), abs=1e-9
    )
    plain = of_episode(model, PI, 0.05, [0, 1], [1, 0], [0.3, 0.8], 0.1, False)[2]
    assert (Q - plain)[0] == pytest.approx(np.array([[0, 0], [0, -1.4698857605]]), abs=1e-9)


@pytest.mark.parametrize("reduced", [False, True])
def test_estimates_have_the_mean_that_is_meant(reduced):
    model = example(signed=True)
    H, X, A, _ = model.shape
    gamma, theta = 0.05, np.array([0.4, 0.3])
    for h in range(H):
        total = np.zeros((X, A))
        for x in range(X):
            for a in range(A):
                path, taken, seen = [0, 0], [0, 0], [0.0, 0.0]
                path[h], taken[h], seen[h] = x, a, model.phi[h, x, a] @ theta
                q, inv, Q, _, _ = of_episode(model, PI, gamma, path, taken, seen, 0.0, reduced)
                total += q[h, x] * PI[h, x, a] * Q[h]
        second = inv[h] @ (np.linalg.inv(inv[h]) - gamma * np.eye(2))
        assert total == pytest.approx(model.phi[h] @ second @ theta, abs=1e-12)
        norms = np.sqrt(np.einsum("xai,ij,xaj->xa", model.phi[h], inv[h], model.phi[h]))
        off = np.abs(total - model.phi[h] @ theta)
        assert (off <= np.sqrt(gamma) * norms * np.linalg.norm(theta) + 1e-12).all()


def test_reduced_estimates_are_never_far_below_zero():
    rng = np.random.default_rng(0)
    model = example(signed=True)
    for _ in range(200):
        pi = rng.dirichlet(np.full(2, 0.1), (2, 2))
        gamma = 10 ** rng.uniform(-6, -1)
        path, taken = rng.integers(2, size=(2, 2))
        Q = of_episode(model, pi, gamma, path, taken, rng.random(2), 0.0, True)[2]
        assert Q.min() >= -2 / np.sqrt(gamma)


def test_inverses_are_those_of_numpy():
    rng = np.random.default_rng(0)
    for d in (1, 2, 7, 40):
        rows = rng.normal(size=(2 * d, d))
        matrix = rows.T @ rows + 1e-3 * np.eye(d)
        out = np.empty((d, d))
        passes.inverse(matrix, out)
        assert out @ matrix == pytest.approx(np.eye(d), abs=1e-8)


def test_covariances_from_simulated_episodes():
    model = linear()
    H, X, A, d = model.shape
    pi = np.random.default_rng(0).dirichlet(np.ones(A), (H, X))
    q, exact, plugin = np.empty((H, X)), np.empty((H, d, d)), np.empty((H, d, d))
    rng = np.random.default_rng(1)
    passes.occupancies(model.P, model.init, pi, q)
    passes.inverses(model.phi, model.P, model.init, pi, q, 0.01, 0, 0, 0, rng, exact)
    passes.inverses(model.phi, model.P, model.init, pi, q, 0.01, 1, 20_000, 1, rng, plugin)
    for h in range(H):
        assert exact[h] @ np.linalg.inv(plugin[h]) == pytest.approx(np.eye(d), abs=0.1)


def test_resampling_tends_to_the_inverse():
    rng = np.random.default_rng(0)
    phi = rng.normal(size=(6, 3))
    phi /= np.linalg.norm(phi, axis=1, keepdims=True)
    second = phi.T @ phi / 6 + 0.1 * np.eye(3)
    out = np.empty((3, 3))
    rows = phi[rng.integers(6, size=200 * 4000)]
    passes.resampled(rows, 0.1, 4000, 200, out)
    assert out @ second == pytest.approx(np.eye(3), abs=0.1)


def test_what_has_no_probability_is_not_drawn():
    assert passes.pick(np.array([0.0, 1.0, 0.0]), 1 - 1e-16) == 1
    assert passes.pick(np.array([0.5, 0.5 - 1e-12, 0.0]), 1 - 1e-14) == 1
