import numpy as np
import pytest
from scipy.optimize import check_grad

from whp.optim._target_surrogates.losses import LOSSES


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_and_smoothness(name):
    rng = np.random.default_rng(1)
    loss = LOSSES[name]
    if name == "softmax":
        z, y = rng.normal(size=(5, 3)), np.array([0, 1, 2, 1, 0])
        off = check_grad(
            lambda v: loss.value(v.reshape(5, 3), y),
            lambda v: loss.gradient(v.reshape(5, 3), y).ravel(),
            z.ravel(),
        )
    else:
        z, y = rng.normal(size=5), np.array([0.0, 1, 0, 1, 1])
        off = check_grad(lambda v: loss.value(v, y), lambda v: loss.gradient(v, y), z)
    assert off < 1e-5
    if loss.smoothness is not None:
        for _ in range(50):
            u, v = z + rng.normal(size=z.shape), z + rng.normal(size=z.shape)
            d = v - u
            top = (
                loss.value(u, y)
                + (loss.gradient(u, y) * d).sum()
                + loss.smoothness / 2 * np.square(d).sum()
            )
            assert loss.value(v, y) <= top + 1e-9


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_is_below_its_least(name):
    rng = np.random.default_rng(2)
    loss = LOSSES[name]
    for _ in range(200):
        if name == "softmax":
            z, y = 5 * rng.normal(size=(6, 3)), rng.integers(0, 3, 6)
        else:
            z, y = 5 * rng.normal(size=6), rng.integers(0, 2 if name == "logistic" else 9, 6)
        assert loss.value(z, y) >= loss.least(y) - 1e-9
    # and it is attained, or approached
    y = np.array([1.0, 0, 1])
    best = {"squared": y, "huber": y, "logistic": 800 * (2 * y - 1)}.get(name)
    if name == "poisson":
        y = np.array([3.0, 0, 2])
        best = np.log(np.maximum(y, 1e-300))
    if best is not None:
        assert loss.value(best, y) == pytest.approx(loss.least(y), abs=1e-9)


def test_huber_does_not_overflow():
    assert LOSSES["huber"].value(np.array([1e200]), np.zeros(1)) == pytest.approx(1e200)
