import numpy as np
import pytest
from lp_problem import A4, LEWIS, problem

from whp.linalg import lewis_weights, sensitivities

EXACT = {
    1: [1 / 4, 1 / 3, 1 / 2, 3 / 5],
    1.5: [0.2081500717, 0.3485866540, 0.5758601568, 0.7237155546],
    2: [3 / 17, 6 / 17, 11 / 17, 14 / 17],
    3: [0.1272011971, 0.3516935603, 0.7773890089, 0.9353676827],
}


@pytest.mark.parametrize("p", EXACT)
def test_exact_sensitivities(p):
    np.testing.assert_allclose(sensitivities(A4, p, method="exact").lower, EXACT[p], rtol=1e-7)


def test_total_at_four():
    assert sensitivities(A4, 4, method="exact").total == pytest.approx(2.289303987, rel=1e-8)


@pytest.mark.parametrize(
    ("p", "upper"),
    [
        (1, LEWIS[1]),
        (1.5, [0.2097228825, 0.3579946801, 0.5787166210, 0.7398134961]),
        (3, [0.1293722351, 0.3621012498, 0.7870885926, 0.9784512587]),
    ],
)
def test_bracket(p, upper):
    found = sensitivities(A4, p)
    np.testing.assert_allclose(found.upper, upper, rtol=1e-6)
    assert (found.lower <= np.array(EXACT[p]) + 1e-12).all()
    assert (np.array(EXACT[p]) <= found.upper + 1e-12).all()
    if p == 1:
        np.testing.assert_allclose(
            found.lower, [0.2383933237, 1 / 3, 0.4815093621, 0.5883408006], rtol=1e-6
        )


@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 6])
def test_closed_forms_and_invariance(p):
    a = np.array([[1.0], [-2], [0], [3]])
    share = np.abs(a[:, 0]) ** p / (np.abs(a) ** p).sum()
    for found in (
        sensitivities(a, p).lower,
        sensitivities(a, p, method="exact").lower,
        lewis_weights(a, p).weights,
    ):
        np.testing.assert_allclose(found, share, rtol=1e-5)
    A, _ = problem(200, 4)
    s = sensitivities(A, p).lower
    B = np.random.default_rng(1).standard_normal((4, 4))
    np.testing.assert_allclose(sensitivities(A @ B, p).lower, s, rtol=1e-5)
    repeated = sensitivities(np.repeat(A, 3, axis=0), p).lower[::3]
    np.testing.assert_allclose(repeated, s / 3, rtol=1e-5)


def test_many_rows_against_a_coreset():
    A, _ = problem(9000, 4)
    full, quick = (sensitivities(A, 1.5, coreset_rows=k) for k in ("all", 2000))
    assert quick.approximate
    assert not full.approximate
    assert quick.total == pytest.approx(full.total, rel=0.15)
    assert (full.lower <= quick.certified * (1 + 1e-9)).all()


@pytest.mark.parametrize("p", [1 + 1e-9, 1.001, 1.01, 1.3, 3, 20, 64])
@pytest.mark.parametrize("tail", [3.0, 1.0])
def test_no_side_is_crossed_at_any_power(p, tail):
    A = np.random.default_rng(1).standard_t(tail, (40, 3))
    some = np.argsort(np.abs(A).sum(axis=1))[::8]  # from the smallest rows to the largest
    exact = sensitivities(A, p, method="exact", index=some).lower
    for method in ("bracket", "lewis", "root-leverage"):
        found = sensitivities(A, p, method=method, index=some)
        assert (found.lower <= exact * (1 + 1e-6)).all()
        assert (exact <= found.upper * (1 + 1e-6)).all()
        assert (exact <= found.certified * (1 + 1e-6)).all()


def test_lewis_weights_bound_from_below_at_the_fixed_point_as_they_are():
    A, _ = problem(300, 4)
    w = lewis_weights(A, 3, tol=1e-10).weights
    np.testing.assert_allclose(sensitivities(A, 3, method="lewis").lower, w, rtol=1e-6)
    w = lewis_weights(A, 1, tol=1e-10).weights
    np.testing.assert_allclose(sensitivities(A, 1, method="lewis").lower, w / 2, rtol=1e-6)


def test_rows_that_vanish_at_a_large_power_are_numbers():
    for seed in range(40):
        A = np.random.default_rng(seed).standard_cauchy((39, 1))
        share = np.abs(A[:, 0] / np.abs(A).max()) ** 64
        found = sensitivities(A, 64).lower
        np.testing.assert_allclose(found, share / share.sum(), rtol=1e-9, atol=1e-250)
