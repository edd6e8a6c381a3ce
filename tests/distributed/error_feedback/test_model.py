import numpy as np
import pytest
from feedback_problem import breast_cancer


def test_gradients_of_the_linear_model():
    model, _ = breast_cancer()
    rng = np.random.default_rng(0)
    for i in (0, 7):
        x, v = rng.normal(size=31), rng.normal(size=31)
        slope = (model.value(i)(x + 1e-6 * v) - model.value(i)(x - 1e-6 * v)) / 2e-6
        assert model.gradient(i)(x) @ v == pytest.approx(slope, rel=1e-6)
        draws = np.array([model.noisy(i, 8)(x, rng) for _ in range(400)])
        assert draws.mean(axis=0) == pytest.approx(model.gradient(i)(x), abs=0.4)
        assert draws.var(axis=0).sum() <= model.variance(i, 8)
