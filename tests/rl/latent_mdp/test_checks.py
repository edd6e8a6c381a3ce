import numpy as np
import pytest
from latent import played, worked
from scipy.stats import chi2_contingency

from whp.rl._latent_mdp import checks


def test_the_statistic_is_that_of_scipy():
    table = np.random.default_rng(0).integers(20, 60, (3, 4))
    G, degrees = checks.independence(table)
    theirs = chi2_contingency(table, correction=False, lambda_="log-likelihood")
    assert pytest.approx(theirs.statistic) == G
    assert degrees == theirs.dof


def test_few_counts_are_put_together_or_left_alone():
    assert checks.independence(np.array([[50, 1, 1, 50], [50, 1, 0, 50]]))[1] < 3
    assert checks.independence(np.array([[3, 2], [1, 4]])) is None
    assert checks.independence(np.array([[30, 20]])) is None


def test_goodness_of_fit():
    assert checks.goodness(np.array([50, 50]), np.array([0.5, 0.5]))[0] == pytest.approx(0)
    assert checks.goodness(np.array([1, 50]), np.array([0.0, 1.0]))[0] == np.inf
    assert checks.goodness(np.array([50]), np.array([1.0])) is None


def test_an_honest_stream_is_not_refuted_and_a_turned_one_is():
    model = worked(3)
    steps = played(model, 1000, 3).steps()
    for family in (checks.halves(steps, model.shape), checks.order(steps, model.shape)):
        assert all(f.p > 0.001 for f in family.values())
    assert checks.fits(steps, model.w, model.nu, model.P).p > 0.001
    assert checks.fits(steps, model.w, model.nu, np.roll(model.P, 1, axis=-1)).p < 1e-6
