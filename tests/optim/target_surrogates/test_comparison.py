import numpy as np
import pytest

from whp.optim import target_surrogates
from whp.studies.target_surrogates.experiments import breast_cancer


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-4])
def test_gradient_descent_does_as_well_in_any_unit(scale):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) * np.array([1, 2, 0.5, 1])
    y = X @ np.ones(4) + rng.normal(size=200)
    plain, scaled = (target_surrogates(A, y, max_iter=30, rng=0) for A in (X, scale * X))
    assert scaled.curves["sgd"].iloc[-1] == pytest.approx(plain.curves["sgd"].iloc[-1], rel=1e-4)


def test_the_grid_holds_the_best_rate_of_a_finer_one():
    X, y = breast_cancer()
    made = target_surrogates(X, y, loss="logistic", max_iter=200, tol=0.0)
    # Gradient descent at its best of ten rates reaches .04151 (specification).
    assert made.curves["sgd"].iloc[-1] <= 0.04151 * 1.03


def test_counts_diverge_at_no_rate_that_is_kept():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(80, 2)), np.ones(80)])
    y = rng.poisson(np.exp(5 + X[:, 0])).astype(float)
    made = target_surrogates(X, y, loss="poisson", max_iter=20)
    assert np.isfinite(made.curves["sgd"]).all()
    assert made.curves["sgd"].iloc[-1] < made.curves["sgd"].iloc[0]
