import numpy as np
import pytest
from scipy.stats import binom, chi2, ncf

from whp.invariance import environments_needed, vc_dimension
from whp.invariance._pac_invariance import bounds


@pytest.mark.parametrize(
    ("m", "d", "delta", "eta"),
    [
        (20, 1, 0.05, 0.1391083407),
        (50, 3, 0.05, 0.1206141554),
        (100, 4, 0.05, 0.0757107937),
        (185, 5, 0.05, 0.0487924557),
        (185, 5, 0.05 / 16, 0.0698468975),
        (1000, 4, 0.01, 0.0100097920),
    ],
)
def test_violation_inverts_the_binomial(m, d, delta, eta):
    found = bounds.violation(m, d, delta)
    assert found == pytest.approx(eta, abs=1e-10)
    assert binom.cdf(d - 1, m, found) == pytest.approx(delta, abs=1e-12)


def test_too_few_environments_prove_nothing():
    assert bounds.violation(2, 3, 0.05) == 1
    assert bounds.split_count(2, 7, 3, 0.05) == 7
    assert bounds.uniform(2, 6, 0.05) == 1
    assert bounds.uniform(200, 66, 0.05) == 1


@pytest.mark.parametrize(
    ("m", "v", "eta"),
    [(2000, 6, 0.0702630), (200, 6, 0.5033146), (10_000, 15, 0.0365349), (20_000, 15, 0.0197675)],
)
def test_uniform(m, v, eta):
    assert bounds.uniform(m, v, 0.05) == pytest.approx(eta, abs=1e-7)


def test_vc_dimensions():
    assert [vc_dimension("subset", size=s) for s in (1, 2, 3, 5, 10)] == [3, 6, 10, 21, 66]
    pairs = ((1, 1), (1, 2), (2, 1), (2, 2), (3, 2))
    found = [vc_dimension("sites", sites=K, in_degree=r) for K, r in pairs]
    assert found == [5, 15, 45, 495, 18564]
    found = [vc_dimension("sites", sites=K, in_degree=r, scales=1) for K, r in pairs[:4]]
    assert found == [28, 84, 1001, 8008]
    assert vc_dimension("linear", outputs=1, inputs=1) == int(6 * np.log2(72))
    with pytest.raises(TypeError, match="size"):
        vc_dimension("subset", sites=2)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_dimension_of_a_fixed_subset_is_that_of_its_space_of_functions(size):
    # Squared lengths of normal equations less ε², as functions of the environment, less ‖b‖².
    rng = np.random.default_rng(0)
    values = []
    for _ in range(80):
        w = rng.standard_normal(size)
        A = np.random.default_rng(1).standard_normal((100, size, size))
        A, b = A @ A.swapaxes(1, 2), np.random.default_rng(2).standard_normal((100, size))
        values.append(((A @ w - b) ** 2).sum(axis=1) - rng.random() - (b**2).sum(axis=1))
    assert np.linalg.matrix_rank(np.array(values)) == vc_dimension("subset", size=size)


def test_counts_of_the_held_out():
    found = [bounds.split_count(*a) for a in ((40, 40, 2, 0.05), (66, 66, 2, 0.05 / 15))]
    assert [*found, bounds.split_count(66, 66, 5, 0.05 / 15)] == [6, 10, 15]


def test_environments_needed():
    assert environments_needed(1, eta=0.1) == 46
    for size, eta, n in ((1, 0.1, 1), (3, 0.02, 15), (2, 0.9, 1)):
        m = environments_needed(size, eta=eta, n_subsets=n)
        assert bounds.violation(m, size + 1, 0.05 / n) <= eta
        assert bounds.violation(m - 1, size + 1, 0.05 / n) > eta
    assert environments_needed(1, eta=0.1, center=False) == environments_needed(2, eta=0.1)
    assert bounds.held_out_needed(0.1135) == 31


@pytest.mark.parametrize(
    ("n", "size", "epsilon", "t", "chance"),
    [
        (100, 2, 0.3, 0.4, 0.8654),
        (50, 1, 0.2, 0.4, 0.9103),
        (202, 3, 0.15, 0.2, 0.8705),
        (30, 3, 0.5, 0.5, 0.6871),
    ],
)
def test_detection_is_that_of_simulated_rows(n, size, epsilon, t, chance):
    assert bounds.detection(t, n, size, epsilon)[0] == pytest.approx(chance, abs=2e-3)
    rng = np.random.default_rng(0)
    seen, runs = 0, 1500
    for _ in range(runs):
        X = rng.standard_normal((n, size))
        y = rng.standard_normal(n)  # β = 0, and the head is t in the first column
        X, y = X - X.mean(axis=0), y - y.mean()
        beta = np.linalg.lstsq(X, y)[0]
        w = np.eye(size)[0] * t
        rss = ((y - X @ beta) ** 2).sum()
        seen += ((X @ (w - beta)) ** 2).sum() > epsilon**2 * rss
    assert seen / runs == pytest.approx(chance, abs=4 * np.sqrt(0.25 / runs))


@pytest.mark.parametrize(
    ("rows", "size", "epsilon", "t"),
    [
        ((50, 50), 2, 0.3, 0.25353),
        ((50, 200), 2, 0.3, 0.28982),
        ((50, 5000), 2, 0.3, 0.29961),
        ((202, 202), 1, 0.2, 0.19950),
        ((202, 5085), 1, 0.2, 0.19998),
    ],
)
def test_smallest_noticeable_value(rows, size, epsilon, t):
    assert bounds.noticeable(rows, size, epsilon) == pytest.approx(t, abs=1e-5)


def test_neither_end_is_always_the_least():
    found = bounds.detection(0.33, np.array([50, 100, 200]), 2, 0.3)
    np.testing.assert_allclose(found, [0.6815, 0.6808, 0.7028], atol=1e-4)
    # What a grid of sizes misses of all sizes between is within what the certificate allows for it.
    every = bounds.detection(0.33, np.arange(50, 1000), 2, 0.3).min()
    assert bounds.least_detection(0.33, (50, 999), 2, 0.3) - every < 1e-4


def test_detection_rises_with_the_true_value():
    found = [bounds.detection(t, 60, 2, 0.3)[0] for t in (0, 0.1, 0.2, 0.3, 0.5, 1)]
    assert (np.diff(found) > 0).all()


def test_sizes_beyond_use_are_refused():
    with pytest.raises(ValueError, match="eta must be in"):
        environments_needed(1, eta=1e-300)
    with pytest.raises(ValueError, match=r"sites must be in 1\.\.1000"):
        vc_dimension("sites", sites=10**6, in_degree=3)


def test_detection_far_above_the_noise_is_that_of_the_ratio():
    quantiles = chi2.ppf((np.arange(400) + 0.5) / 400, 29)
    for ratio in (0.8, 0.95, 1.1):
        exact = ncf.sf(26 / 3 * 300.0**2, 3, 26, (300 * ratio) ** 2 * quantiles).mean()
        assert abs(bounds.detection(300 * ratio, 30, 3, 300.0)[0] - exact) < 1e-4
