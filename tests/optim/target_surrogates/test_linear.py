import numpy as np
import pytest
from scipy.sparse import csr_array

from whp.optim._target_surrogates.linear import Settings, fit_linear, line_search
from whp.optim._target_surrogates.losses import LOSSES
from whp.optim._target_surrogates.problem import LinearProblem
from whp.studies.target_surrogates.experiments import breast_cancer

X3 = np.array([[1.0, 2], [3, -1], [0, 1]])
START = np.array([0.5, -0.5])
RNG = np.random.default_rng(0)


def one(loss, y, **settings):
    theta, history = fit_linear(
        X3, np.asarray(y, float), LOSSES[loss], Settings(max_iter=1, **settings), START, RNG
    )
    return theta, history.rows[0]


def test_1_squared_loss_exact_is_least_squares():
    theta, _ = one("squared", [1, 2, 0], eta=1.0)
    np.testing.assert_allclose(theta, [0.711864406780, 0.118644067797], atol=1e-12)
    np.testing.assert_allclose(theta, np.linalg.lstsq(X3, [1, 2, 0], rcond=None)[0])


def test_2_logistic_loss():
    y = np.array([1.0, 0, 1])
    theta, row = one("logistic", y, eta=4.0)
    assert row["loss"] == pytest.approx(4.075081979403)
    np.testing.assert_allclose(theta, [-0.135350260665, 1.226225004278], atol=1e-11)
    assert LOSSES["logistic"].value(X3 @ theta, y) == pytest.approx(0.529823532797)
    assert row["surrogate"] == pytest.approx(1.061415586590)
    first, row = one("logistic", y, eta=4.0, m=1, inner="gd")
    np.testing.assert_allclose(first, [-0.289338995080, 0.573918257528], atol=1e-11)
    assert row["surrogate"] == pytest.approx(1.385072345794)
    assert row["first_step"] == pytest.approx(0.390775052374)
    second, _ = one("logistic", y, eta=4.0, m=2, inner="gd")
    np.testing.assert_allclose(second, [-0.202627906471, 0.941232323276], atol=1e-11)
    many, _ = one("logistic", y, eta=4.0, m=400, inner="gd", tol=0.0)
    np.testing.assert_allclose(many, theta, atol=1e-10)


def test_2_bohning_and_lindsay():
    """Logistic loss, η = 4: θ − 4 (XᵀX)⁻¹ Xᵀ(p − y)."""
    y = np.array([1.0, 0, 1])
    p = 1 / (1 + np.exp(-X3 @ START))
    expected = START - 4 * np.linalg.solve(X3.T @ X3, X3.T @ (p - y))
    np.testing.assert_allclose(one("logistic", y, eta=4.0)[0], expected)


def test_3_one_row_is_kaczmarz():
    once = Settings(eta=1.0, max_iter=1)
    row, target = np.array([[1.0, 2]]), np.array([1.0])
    theta, _ = fit_linear(row, target, LOSSES["squared"], once, START, RNG)
    np.testing.assert_allclose(theta, [0.8, 0.1])
    # One row of three, the proximity term on that row alone: the same.
    batch = Settings(eta=1.0, max_iter=1, projection="batch", batch_size=1)
    same, goal = np.repeat(row, 3, axis=0), np.ones(3)
    theta, _ = fit_linear(same, goal, LOSSES["squared"], batch, START, RNG)
    np.testing.assert_allclose(theta, [0.8, 0.1])


def test_4_one_inner_step_is_gradient_descent():
    X, y = breast_cancer()
    theta, history = fit_linear(
        X,
        y,
        LOSSES["logistic"],
        Settings(m=1, inner="gd", max_iter=100, tol=0.0),
        np.zeros(31),
        RNG,
    )
    rate = 4.0 / np.linalg.eigvalsh(X.T @ X)[-1]
    plain = np.zeros(31)
    for _ in range(100):
        plain -= rate * X.T @ LOSSES["logistic"].gradient(X @ plain, y)
    np.testing.assert_allclose(theta, plain, atol=1e-13)
    assert history.n_oracle == 100


def small_problem():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 4))
    return X, X @ rng.normal(size=4) + rng.normal(size=60)


def test_lacking_rank_changes_as_little_as_possible():
    X = np.column_stack([X3, X3[:, 0]])
    theta, _ = fit_linear(
        X, np.array([1.0, 2, 0]), LOSSES["squared"], Settings(eta=1.0, max_iter=1), np.zeros(3), RNG
    )
    np.testing.assert_allclose(theta, np.linalg.pinv(X) @ [1, 2, 0], atol=1e-8)


def test_sparse_and_conjugate_gradients_agree_with_dense():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6)) * (rng.random((80, 6)) < 0.4)
    y = rng.normal(size=80)
    expected, _ = fit_linear(
        X, y, LOSSES["squared"], Settings(eta=1.0, max_iter=3, alpha=0.1), np.zeros(6), RNG
    )
    for solver in ("direct", "cg"):
        found, _ = fit_linear(
            csr_array(X),
            y,
            LOSSES["squared"],
            Settings(eta=1.0, max_iter=3, alpha=0.1, solver=solver),
            np.zeros(6),
            RNG,
        )
        np.testing.assert_allclose(found, expected, atol=1e-7)


def test_line_search_satisfies_its_rule():
    y = np.array([0.0, 1, 2])
    loss = LOSSES["poisson"]
    z = np.array([1.0, -1, 3])
    G = loss.gradient(z, y)
    eta, tries = line_search(lambda u: loss.value(u, y), z, G, loss.value(z, y), 1e4)
    assert loss.value(z - eta * G, y) <= loss.value(z, y) - 0.5 * eta * np.square(G).sum()
    assert tries > 1


def run(X, y, loss="squared", seed=0, **settings):
    theta = np.zeros(X.shape[1])
    rng = np.random.default_rng(seed)
    return fit_linear(X, y, LOSSES[loss], Settings(**settings), theta, rng)


def test_units_and_offsets_change_nothing_but_the_unit():
    X, y = small_problem()
    plain, first = run(X, y, inner="gd", m=5, max_iter=30)
    for unit in (1e-9, 1e9):
        scaled, history = run(X, unit * y, inner="gd", m=5, max_iter=30)
        np.testing.assert_allclose(scaled / unit, plain, rtol=1e-9)
        assert history.n_oracle == first.n_oracle  # an absolute tolerance stopped at once


def test_columns_of_any_scale_are_projected_on_exactly():
    X, y = small_problem()
    wide = X * 10.0 ** np.array([-8, 0, 4, 8])
    theta, history = run(wide, y, eta=1.0, max_iter=2)
    best = np.linalg.lstsq(X, y, rcond=None)[0]
    np.testing.assert_allclose(wide @ theta, X @ best, atol=1e-8)
    assert (history.column("after") <= history.column("surrogate") + history.column("slack")).all()


def test_independent_batches_repeat_rows_and_passes_do_not():
    X, y = small_problem()
    # Two passes of half the rows each cover all: without a step the losses would add up.
    theta = np.zeros(4)
    total = LOSSES["squared"].value(X @ theta, y)
    still = {"eta": 1e-12, "batch_size": 30, "max_iter": 2}
    for kind, exact in (("passes", True), ("independent", False)):
        _, history = run(X, y, batches=kind, **still)
        assert bool(abs(history.column("loss").sum() / total - 1) < 1e-6) is exact


def test_an_intercept_is_not_penalised():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(200), rng.normal(size=(200, 2))])
    y = 1000 + X[:, 1] + 0.1 * rng.normal(size=200)
    free = np.array([True, False, False])
    theta, _ = fit_linear(X, y, LOSSES["squared"], Settings(alpha=1.0), np.zeros(3), rng, free=free)
    centred = X[:, 1:] - X[:, 1:].mean(axis=0)
    slopes = np.linalg.solve(centred.T @ centred + 200 * np.eye(2), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(theta[1:], slopes, rtol=1e-9)
    assert theta[0] == pytest.approx(y.mean() - X[:, 1:].mean(axis=0) @ slopes)


def test_a_search_that_finds_nothing_to_gain_stops():
    eta, tries = line_search(lambda u: 1.0, np.zeros(2), np.ones(2), 0.0, 1.0)
    assert tries == 400
    assert eta < 1e-15


def test_a_loss_that_overflows_is_named():
    with pytest.raises(FloatingPointError, match="step"):
        run(np.ones((3, 1)), np.array([1.0, 2, 3]), "poisson", eta=1e6, rule="sgd", max_iter=9)


def test_the_problem_keeps_its_norm_by_either_way():
    X, _ = small_problem()
    by_basis, by_gram = LinearProblem(X), LinearProblem(X)
    assert by_gram.H.shape == (4, 4)
    assert by_basis.norm == pytest.approx(by_gram.norm)
