import math

import numpy as np
import pytest
from lp_problem import LEWIS, problem

from whp.linalg import lewis_weights, root_leverage_sampling
from whp.linalg._lp_sensitivity_sampling.sampling import draw, inclusion


def test_inclusion():
    q, alpha = inclusion(LEWIS[1], 2)
    assert alpha == pytest.approx(1, rel=1e-8)
    q, alpha = inclusion(LEWIS[1], 3)
    assert alpha == pytest.approx(0.6499082611, rel=1e-8)
    np.testing.assert_allclose(q, [0.47427513, 0.66043601, 0.86528886, 1], rtol=1e-7)


@pytest.mark.parametrize("sampling", ["poisson", "fixed", "multinomial"])
def test_unbiased(sampling):
    A, _ = problem(60, 3)
    q = inclusion(lewis_weights(A, 1.5).weights, 20)[0]
    sizes = np.abs(A @ np.ones(3)) ** 1.5
    sums = []
    for rng in np.random.default_rng(0).spawn(2000):
        made = draw(q, sampling, rng)
        sums.append(made.xi @ sizes[made.index])
    error = np.std(sums) / math.sqrt(2000)
    assert np.mean(sums) == pytest.approx(sizes.sum(), abs=4 * error)


def test_root_leverage_is_unbiased():
    A, _ = problem(60, 3)
    sizes = np.abs(A @ np.ones(3))
    drawn = [
        root_leverage_sampling(A, 1, 20, 3, rng) for rng in np.random.default_rng(0).spawn(1000)
    ]
    sums = [made.xi @ sizes[made.index] for made in drawn]
    assert np.mean(sums) == pytest.approx(sizes.sum(), abs=4 * np.std(sums) / math.sqrt(1000))


def test_exactly_so_many_rows_do_not_follow_the_period_of_a_file():
    q = np.full(4000, 1 / 8)
    for rng in np.random.default_rng(0).spawn(20):
        made = draw(q, "fixed", rng)
        assert len(made.index) == 500
        every_eighth = np.bincount(made.index % 8, minlength=8)
        assert every_eighth.min() > 30
        assert every_eighth.max() < 95


def test_scores_whose_sum_exceeds_floats():
    u = np.random.default_rng(0).uniform(0.5, 1, 3000)
    np.testing.assert_allclose(inclusion(u * 1e307, 300)[0], inclusion(u, 300)[0], rtol=1e-9)
