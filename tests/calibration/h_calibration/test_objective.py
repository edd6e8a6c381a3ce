import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.calibration._h_calibration import Objective, kernels, windowed_calibration_error
from whp.calibration._h_calibration.maps import softmax, standardise

error = windowed_calibration_error


def draw(P, rng):
    return np.minimum((P.cumsum(axis=1) < rng.random((len(P), 1))).sum(axis=1), P.shape[1] - 1)


@pytest.fixture(scope="module")
def dirichlet():
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 2, 3], 300)
    return P, np.array([rng.choice(3, p=row) for row in P])


def brute(P, y, window, tolerance=0.0, uniform=True):
    """The definition, entry by entry, uniform weights, ties by their mean."""
    p, o = P.ravel(), np.eye(P.shape[1])[y].ravel()
    o = np.array([o[p == v].mean() for v in p])
    order = np.argsort(p, kind="stable")
    gap = (p - o)[order]
    sums = [
        abs(gap[max(0, k - window // 2) : k + window // 2 + 1].sum()) / (window + 1)
        for k in range(len(gap))
    ]
    return np.mean(np.maximum(np.array(sums) - tolerance, 0))


def test_toy_by_hand():
    first = np.array([0.9, 0.6, 0.3, 0.2])
    P, y = np.column_stack([first, 1 - first]), [0, 1, 1, 1]
    values = [error(P, y, window=2, clusters=k) for k in (1, 2, 3)]
    np.testing.assert_allclose(values, [0.1083333333, 0.1083333333, 0.1074074074], atol=1e-10)
    values = [error(P, y, window=2, clusters=k, tolerance=0.1) for k in (1, 2, 3)]
    np.testing.assert_allclose(values, [0.025, 0.025, 0.0222222222], atol=1e-10)
    assert error(P, y, window=2, objective="leave-one-class-out") == pytest.approx(0.05, abs=1e-12)


def test_reference_values_and_gradient(dirichlet):
    P, y = dirichlet
    assert error(P, y, window=20) == pytest.approx(0.0714819847, abs=1e-10)
    assert error(P, y, window=20, objective="leave-one-class-out") == pytest.approx(
        0.1239422434, abs=1e-10
    )
    assert error(P, y, window=200) == pytest.approx(0.0187388604, abs=1e-10)
    _, gradient = error(P, y, window=20, return_grad=True)
    at = [gradient[0, 0], gradient[5, 1], gradient[200, 2], gradient[299, 0]]
    np.testing.assert_allclose(
        at, [3.6075036e-5, -7.4074074e-4, -3.5842294e-4, -5.8072009e-4], rtol=1e-7
    )


@pytest.mark.parametrize("objective", ["pooled", "leave-one-class-out", "classwise"])
@pytest.mark.parametrize("weights", ["clusters", "uniform", "equal-width"])
def test_gradient_agrees_with_central_differences(dirichlet, objective, weights):
    P, y = dirichlet
    made = Objective(objective, 20, weights=weights, tolerance=0.01)
    gradient = made.with_gradient(P, y)[1]
    step = 1e-9  # small enough that neither order nor clusters change
    for i, c in [(0, 0), (5, 1), (200, 2), (299, 0), (17, 1)]:
        up, down = P.copy(), P.copy()
        up[i, c] += step
        down[i, c] -= step
        assert (made(up, y) - made(down, y)) / (2 * step) == pytest.approx(
            gradient[i, c], rel=1e-4, abs=2e-7
        )


def test_windows_and_tolerances(dirichlet):
    P = dirichlet[0]
    y = draw(P, np.random.default_rng(1))
    values = [error(P, y, window=m) for m in (2, 20, 100, 200, 600)]
    np.testing.assert_allclose(
        values, [0.1938157485, 0.0777483344, 0.0388655752, 0.0274372063, 0.0114450438], atol=1e-10
    )
    values = [error(P, y, window=20, tolerance=t) for t in (0.02, 0.05, 0.1, 0.5)]
    np.testing.assert_allclose(values, [0.0597691348, 0.0412500761, 0.0214831551, 0], atol=1e-10)


@given(st.integers(0, 10_000), st.sampled_from([2, 4, 10, 50]), st.sampled_from([0.0, 0.05]))
@settings(max_examples=30, deadline=None)
def test_brute_force_with_ties(seed, window, tolerance):
    rng = np.random.default_rng(seed)
    P = np.round(rng.dirichlet([1, 1, 2], 40), 1)
    y = rng.integers(3, size=40)
    ours = error(P, y, window=window, tolerance=tolerance, weights="uniform")
    assert ours == pytest.approx(brute(P, y, window, tolerance), abs=1e-12)


@pytest.mark.parametrize("objective", ["pooled", "leave-one-class-out", "classwise"])
def test_invariant_under_order_of_rows_and_classes(objective):
    rng = np.random.default_rng(3)
    for P in (rng.dirichlet([1, 2, 3], 200), np.round(rng.dirichlet([1, 2, 3], 200), 1)):
        y = rng.integers(3, size=200)
        rows, classes = rng.permutation(200), rng.permutation(3)
        value = error(P, y, window=20, objective=objective)
        assert error(P[rows], y[rows], window=20, objective=objective) == pytest.approx(
            value, abs=1e-15
        )
        renamed = np.argsort(classes)[y]
        assert error(P[:, classes], renamed, window=20, objective=objective) == pytest.approx(
            value, abs=1e-15
        )


def test_perfect_and_constant_predictions():
    y = np.array([0, 1, 2, 0, 0, 0, 1, 0] * 10)
    assert error(np.eye(3)[y], y, window=20) == 0
    constant = np.full((len(y), 3), 1 / 3)
    assert error(constant, y, window=20) == pytest.approx(0, abs=1e-15)
    assert error(constant, y, window=20, objective="classwise") > 0.05


@pytest.mark.parametrize(
    ("alpha", "n", "pooled", "left_out"),
    [
        ((1, 1, 1), 5000, 0.0228, 0.0228),
        ((8, 1, 1), 5000, 0.0209, 0.2179),
        ((2.4, 0.3, 0.3), 5000, 0.0198, 0.1533),
        ((4, 1), 10000, 0.0212, 0.3507),
    ],  # 0.0212: normal approximation of each window, owners of two entries counted once
)
def test_leaving_a_class_out_is_biased_for_calibrated_predictions(alpha, n, pooled, left_out):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        P = rng.dirichlet(alpha, n)
        y = draw(P, rng)
        found.append([Objective(k)(P, y) for k in ("pooled", "leave-one-class-out")])
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(20)
    np.testing.assert_array_less(
        np.abs(means - [pooled, left_out]), 0.05 * np.array([pooled, left_out]) + 2 * errors
    )


def test_empty_clusters_do_not_reward_saturation():
    """170 rows, 90 % right: certain predictions must not look better than honest ones."""
    rng = np.random.default_rng(0)
    y = rng.integers(10, size=170)
    guess = np.where(rng.random(170) < 0.9, y, (y + 1) % 10)
    honest = np.where(np.eye(10)[guess] == 1, 0.9, 0.1 / 9) + rng.uniform(0, 1e-3, (170, 10))
    certain = np.eye(10)[guess]
    assert error(certain, y, window=80) > 2 * error(
        honest / honest.sum(axis=1, keepdims=True), y, window=80
    )
    p = np.sort(certain.ravel())
    assert kernels.occupied(kernels.bounds_of(p, kernels.CLUSTERS, 15)) == 2


@pytest.mark.parametrize("objective", ["pooled", "classwise", "leave-one-class-out"])
def test_null_is_the_law_of_the_error_under_calibration(objective):
    rng = np.random.default_rng(0)
    P = rng.dirichlet([1, 2, 3], 250)
    made = Objective(objective, 20)
    null = made.null(P, 400, np.random.default_rng(1))
    direct = np.array([made(P, draw(P, rng)) for _ in range(400)])
    from scipy.stats import ks_2samp

    assert ks_2samp(null, direct).pvalue > 1e-4
    assert null.mean() == pytest.approx(direct.mean(), rel=0.05)


def test_search_over_temperatures_sees_the_same_error():
    rng = np.random.default_rng(0)
    z = standardise(3 * rng.standard_normal((300, 5)))
    y = draw(softmax(z), rng)
    betas = np.array([0.2, 1.0, 3.0, 50.0])
    for kind in ("pooled", "classwise"):
        made = Objective(kind, 20)
        expected = [made(softmax(b * z), y) for b in betas]
        np.testing.assert_allclose(made.over_temperatures(z, y, betas)[:3], expected[:3], atol=1e-9)
        # Saturated: the last bit decides what is tied with 1, and with it which cluster an entry is in.
        assert made.over_temperatures(z, y, betas)[3] == pytest.approx(expected[3], rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 201}, "window must be even, got 201"),
        ({"window": 0}, "window"),
        ({"tolerance": -1}, "tolerance"),
        ({"clusters": 0}, "clusters"),
        ({"objective": "x"}, "objective"),
        ({"weights": "x"}, "weights"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        error(np.full((4, 2), 0.5), [0, 1, 0, 1], **options)
