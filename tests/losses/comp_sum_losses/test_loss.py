import numpy as np
import pytest
from comp_sum import TAUS
from scipy.special import log_softmax

from whp.losses import best_conditional_risk, noise_risk
from whp.losses._comp_sum_losses.loss import loss_of_log


def test_least_risks():
    assert [noise_risk(0.2, 10, t) for t in TAUS] == pytest.approx(
        [4, 1.94626502, 0.93984734, 0.39445406, 0.2, 0.1], rel=1e-7
    )
    expected = [0.6, 0.4588006, 0.32508297, 0.18892297, 0.1, 0.05]
    assert [noise_risk(0.1, 2, t) for t in TAUS] == pytest.approx(expected, rel=1e-6)
    P = np.array([0.5, 0.3, 0.2])
    assert best_conditional_risk(P, 1 + 1e-7) == pytest.approx(
        best_conditional_risk(P, 1), abs=1e-6
    )
    assert best_conditional_risk(P, 2 - 1e-6) == pytest.approx(
        best_conditional_risk(P, 2), abs=1e-5
    )
    for tau in (*TAUS, 1.999):
        assert best_conditional_risk([1.0, 0.0, 0.0], tau) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0, 1.5, 1.8])
def test_least_risk_is_that_of_the_minimiser(tau):
    P = np.random.default_rng(0).dirichlet([1, 1, 1, 1])
    with np.errstate(divide="ignore"):
        z = np.log(P) / (2 - tau)
    assert (P * loss_of_log(log_softmax(z), tau)).sum() == pytest.approx(
        best_conditional_risk(P, tau), abs=1e-10
    )
