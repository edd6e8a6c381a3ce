import numpy as np
import pytest
from scipy.special import expit

from whp.certificate import Verdict
from whp.datasets.streams import breast_cancer
from whp.online import estimate_sea, optimistic_mirror_descent
from whp.online._optimistic_mirror_descent.losses import normalized_rows


@pytest.mark.parametrize("rows", [8, 3])
def test_split_batches_estimate_without_bias(rows):
    rng = np.random.default_rng(0)
    sigma, steps, found = 0.5, 0.3, []
    for _ in range(400):
        centres = steps * np.arange(5)[:, None] * np.ones((5, 3))
        batches = [c + sigma * rng.standard_normal((rows, 3)) for c in centres]
        e = estimate_sea(lambda rows, x: x - rows.mean(axis=0), batches, np.zeros((5, 3)))
        found.append((e.sigma2.mean(), e.Sigma2[1:].mean()))
    error = np.mean(found, axis=0) - [3 * sigma**2 / rows, 3 * steps**2]
    assert (np.abs(error) < 4 * np.std(found, axis=0) / 20).all()


def test_7_random_order():
    X, y = breast_cancer()
    result = optimistic_mirror_descent(X, y, order="shuffle", gradient_bound=1.0, rng=0)
    assert 0.03 < result.Sigma2 < 0.2
    # Added up over the rows that came the noise is another number; σ² is its expectation, which is what the theorem has.
    order = result.rows
    A, target = normalized_rows(X[order]), np.where(y[order] == 1, 1.0, -1.0)
    came = expected = 0.0
    for t, x in enumerate(result.points):
        g = A[t:] * (-target[t:] * expit(-target[t:] * (A[t:] @ x)))[:, None]
        noise = ((g - g.mean(axis=0)) ** 2).sum(axis=1)
        came, expected = came + noise[0], expected + noise.mean()
    assert came != pytest.approx(expected, rel=1e-3)
    assert result.sigma2 == pytest.approx(expected, rel=1e-10)
    assert result.certificates[1].verdict == Verdict.UNMEASURED
