import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import log_softmax

from whp.losses import best_conditional_risk, conditional_regret, inverse_transform, transform
from whp.losses._comp_sum_losses.loss import loss_of_log
from whp.losses._comp_sum_losses.regret import paper_inverse


@pytest.mark.parametrize(
    ("tau", "n", "values", "inverse"),
    [
        (0.0, 2, (0.00501256, 0.13397460, 1.0), 0.3122498999),
        (0.5, 2, (0.00472501, 0.12562776, 0.82842712), 0.3216495947),
        (1.0, 2, (0.00500837, 0.13081204, 0.69314718), 0.3135631967),
        (1.5, 3, (0.00575914, 0.13629391, 0.47829262), 0.2974517446),
        (1.5, 10, (0.00315441, 0.07465125, 0.26197166), 0.4054181582),
        (2.0, 10, (0.01, 0.05, 0.1), 0.5),
        (3.0, 3, (0.00555556, 0.02777778, 0.05555556), 0.9),
    ],
)
def test_transformation_and_inverse(tau, n, values, inverse):
    np.testing.assert_allclose(transform([0.1, 0.5, 1], tau, n), values, atol=5e-9)
    assert inverse_transform(0.05, tau, n) == pytest.approx(inverse, abs=1e-9)
    assert paper_inverse(0.05, tau, n) >= inverse_transform(0.05, tau, n)
    assert inverse_transform(transform(1.0, tau, n), tau, n) == 1
    assert inverse_transform(0.0, tau, n) == 0
    t = np.linspace(0.01, 1, 50)
    np.testing.assert_allclose(inverse_transform(transform(t, tau, n), tau, n), t, rtol=1e-6)
    assert (np.diff(transform(t, tau, n), 2) > -1e-12).all()


@pytest.mark.parametrize("seed", range(12))
def test_regret_is_that_of_a_constrained_optimiser(seed):
    rng = np.random.default_rng(seed)
    P, tau = rng.dirichlet(np.ones(4)), float(rng.choice([0.0, 0.5, 1.0, 1.5]))
    k = int(np.argsort(P)[rng.integers(0, 3)])
    rows = np.delete(np.arange(4), k)

    found = min(
        minimize(
            lambda z: (P * loss_of_log(log_softmax(z), tau)).sum(),
            rng.normal(size=4),
            method="SLSQP",
            constraints={"type": "ineq", "fun": lambda z: z[k] - z[rows]},
            options={"ftol": 1e-14, "maxiter": 500},
        ).fun
        for _ in range(4)
    )
    assert conditional_regret(P, k, tau) == pytest.approx(
        found - best_conditional_risk(P, tau), abs=1e-6
    )


@settings(max_examples=100, deadline=None)
@given(
    st.integers(2, 6), st.sampled_from([0.0, 0.5, 1.0, 1.2, 1.5, 1.8, 1.95]), st.integers(0, 2**31)
)
def test_no_regret_is_below_the_transformation(n, tau, seed):
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(n, rng.choice([0.2, 1, 5])))
    for k in range(n):
        regret = conditional_regret(P, k, tau)
        assert regret >= float(transform(P.max() - P[k], tau, n)) - 1e-9
    if 1 < tau < 2:
        k = int(P.argmin())
        assert (
            conditional_regret(P, k, tau)
            >= float(transform(P.max() - P[k], tau, n, "sharp")) - 1e-9
        )


def test_sharp_is_larger_where_it_differs():
    assert transform(0.3, 1.5, 3, "sharp") / transform(0.3, 1.5, 3) == pytest.approx(
        1.2247, abs=2e-3
    )
    assert transform(0.3, 1.5, 10, "sharp") / transform(0.3, 1.5, 10) == pytest.approx(
        2.2361, abs=2e-3
    )
    assert transform(0.3, 1.8, 10, "sharp") / transform(0.3, 1.8, 10) == pytest.approx(
        2.8248, abs=2e-3
    )
    assert transform(0.3, 1.0, 10, "sharp") == transform(0.3, 1.0, 10)
    s = transform(0.3, 1.5, 10, "sharp")
    assert 0.3 <= inverse_transform(s, 1.5, 10, "sharp") <= 0.3 + 2 / 1024


@pytest.mark.parametrize("tau", [1 - 2**-53, 1 + 2**-52, 1 - 1e-13, 1 + 1e-10])
def test_next_to_cross_entropy_it_is_cross_entropy(tau):
    P, t = np.array([0.6, 0.3, 0.1, 0.0]), np.array([1e-4, 0.01, 0.5, 1.0])
    assert best_conditional_risk(P, tau) == pytest.approx(best_conditional_risk(P, 1.0), rel=1e-8)
    assert transform(t, tau, 4) == pytest.approx(transform(t, 1.0, 4), rel=1e-8)
    assert transform(t, tau, 4, "sharp") == pytest.approx(transform(t, 1.0, 4), rel=1e-8)
    s = transform(t, 1.0, 4)
    assert inverse_transform(s, tau, 4) == pytest.approx(inverse_transform(s, 1.0, 4), rel=1e-6)


@pytest.mark.parametrize("tau", [1000.0, 1e6])
def test_a_dial_beyond_floats_bounds_by_one(tau):
    assert inverse_transform([0.0, 0.1], tau, 10).tolist() == [0.0, 1.0]
    assert transform([0.0, 1.0], tau, 10).tolist() == [0.0, 0.0]
