import numpy as np
import pytest
from feedback_problem import BEST, GRADS, PROBLEM, VALUES, quadratic, status
from scipy.stats import binom

from whp.distributed import Identity, TopK, ef21
from whp.distributed._error_feedback.checks import LEVEL, mean_above_one, unbiased
from whp.distributed._error_feedback.trace import Noise


def test_bets_on_a_bias_rest_on_a_true_inequality():
    x = np.linspace(-200, 200, 400_001)
    assert (np.exp(x - x**2 / 6) <= 1 + x + x**2 / 3 + 1e-12).all()


@pytest.mark.parametrize("rare", [1.0, 0.3, 0.02])
def test_bets_on_a_mean_cry_wolf_as_often_as_they_say(rare):
    rng = np.random.default_rng(0)
    draws = (rng.random((500, 60)) < rare) * rng.exponential(size=(500, 60)) / rare
    wolves = sum(mean_above_one(row) < LEVEL for row in draws)
    assert wolves <= binom.ppf(0.999, 500, LEVEL)
    assert sum(mean_above_one(3 * row) < LEVEL for row in draws) > wolves


def noise_of(draws):
    """As a run notes it, from draws of shape (K, n, d)."""
    sums = np.concatenate([np.zeros((1, *draws.shape[1:])), draws.cumsum(axis=0)[:-1]])
    length = np.maximum(np.linalg.norm(sums, axis=2), 1e-300)
    return Noise((draws**2).sum(axis=2), (sums * draws).sum(axis=2) / length)


@pytest.mark.parametrize("heavy", [False, True])
def test_bets_on_a_bias_cry_wolf_as_often_as_they_say(heavy):
    rng = np.random.default_rng(0)
    wolves = 0
    for _ in range(300):
        draws = rng.normal(size=(60, 2, 3))
        if heavy:  # of the same variance
            draws *= (rng.random((60, 2, 1)) < 0.05) / np.sqrt(0.05)
        wolves += status_of(unbiased([noise_of(draws)], np.full(2, 3.0)))
    assert wolves <= binom.ppf(0.999, 300, LEVEL)
    assert status_of(unbiased([noise_of(1.0 + rng.normal(size=(60, 2, 3)))], np.full(2, 3.0)))


def status_of(answer):
    return str(answer.status) == "violated"


def test_the_room_between_two_gradients_is_all_that_smoothness_leaves():
    """A tent reaches it: f'' = L on the first half of a step and −L on the second."""
    L, length = 2.0, 1.0
    grid = np.linspace(0, length, 200_001)
    slope = np.minimum(L * grid, L * (length - grid))
    middle = float((slope[1:] + slope[:-1]).sum() / 2 * grid[1])
    assert middle == pytest.approx(L * length**2 / 4, rel=1e-6)


@pytest.mark.parametrize("factor", [0.1, 0.5])
def test_gradients_that_are_not_those_of_f_are_noticed(factor):
    rng = np.random.default_rng(0)
    for _ in range(20):
        problem = quadratic(rng, n=3, d=4)
        for compressor in (Identity(), TopK(2)):
            honest = ef21(**problem, T=20, compressor=compressor).certificates[0]
            assert status(honest, "gradients-of-f") == "unchecked"
            grads = [lambda x, g=g: factor * g(x) for g in problem["grads"]]
            wrong = ef21(**{**problem, "grads": grads}, T=20, compressor=compressor)
            assert status(wrong.certificates[0], "gradients-of-f") == "violated"


def test_a_lower_bound_that_one_more_step_would_undercut_is_refuted():
    told = {**PROBLEM, "f": VALUES, "T": 3}
    x = np.array([3.0, 3.0])
    mean = np.mean([g(x) for g in GRADS], axis=0)
    reach = np.mean([v(x) for v in VALUES]) - mean @ mean / (2 * 5.5)
    at_most = ef21(GRADS, x, f_inf=float(reach) - 8, **told).certificates[0]
    above = ef21(GRADS, x, f_inf=float(reach) + 1e-6, **told).certificates[0]
    assert reach > BEST
    assert status(at_most, "lower-bound") == "unchecked"
    assert status(above, "lower-bound") == "violated"
