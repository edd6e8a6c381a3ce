import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whp.rl import LogBarrierFTRL, log_barrier


@pytest.mark.parametrize(
    ("scores", "point"),
    [
        ((0, 1, 5), (0.5156672956, 0.3402245975, 0.1441081069)),
        ((-3, -3, -3, 10), (0.3127539015, 0.3127539015, 0.3127539015, 0.0617382954)),
        ((0, 1e-9, 1e9), (0.5, 0.5, 1e-9)),
    ],
)
def test_closed_cases(scores, point):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert log_barrier(scores) == pytest.approx(point, abs=1e-9)


@given(
    st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50),
    st.floats(1e-9, 1e3),
    st.floats(-1e6, 1e6),
)
def test_first_order_conditions(scores, eta, shift):
    p = log_barrier(scores, eta)
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert (p > 0).all()
    # η C_a − 1/p_a is the same for all: the multiplier of the simplex.
    g = eta * (np.array(scores) - min(scores))
    assert np.ptp(1 / p - g) <= 1e-7 * (1 + g.max())
    assert log_barrier(np.array(scores) + shift, eta) == pytest.approx(p, rel=1e-3, abs=1e-6)


def test_many_rows_at_once_and_many_actions():
    rows = np.random.default_rng(0).normal(size=(5, 4, 100)) * 10
    whole = log_barrier(rows, 0.3)
    assert whole[2, 3] == pytest.approx(log_barrier(rows[2, 3], 0.3), abs=1e-15)
    assert log_barrier(np.zeros(10_000)) == pytest.approx(np.full(10_000, 1e-4))


def test_a_worked_step_is_the_maximum():
    # q = (.2, .3, .5), losses (−50, 1, 2), η = .1: the best answer to q, and its gain.
    q, loss, eta = np.array([0.2, 0.3, 0.5]), np.array([-50.0, 1, 2]), 0.1
    p = log_barrier(1 / q / eta + loss, eta)
    assert p == pytest.approx([0.55810238, 0.19138319, 0.25051443], abs=1e-8)
    gain = (q - p) @ loss - (p / q - 1 - np.log(p / q)).sum() / eta
    assert gain == pytest.approx(8.0741462324, abs=1e-8)
    assert eta / 2 * (q @ loss**2) == pytest.approx(25.115)
    others = np.random.default_rng(0).dirichlet(np.ones(3), 1000)
    u = others / q
    assert gain >= ((q - others) @ loss - (u - 1 - np.log(u)).sum(axis=1) / eta).max()


def test_the_lemma_for_losses_of_any_size():
    rng = np.random.default_rng(1)
    worst = 0.0
    for _ in range(3000):
        A = int(rng.integers(2, 6))
        q = rng.dirichlet(np.ones(A)) + 1e-6
        q /= q.sum()
        loss = rng.normal(size=A) * 10 ** rng.uniform(-2, 4)
        eta = 10 ** rng.uniform(-4, 1)
        p = log_barrier(1 / q / eta + loss, eta)
        gain = (q - p) @ loss - (p / q - 1 - np.log(p / q)).sum() / eta
        worst = max(worst, gain / (eta / 2 * (q @ loss**2)))
    assert 0.3 < worst <= 1


def test_the_learner_has_the_regret_that_is_said_for_heavy_tails():
    rng = np.random.default_rng(2)
    for _ in range(40):
        A, K, eta = int(rng.integers(2, 6)), 200, 10 ** rng.uniform(-6, 1)
        losses = rng.standard_t(2, size=(K, A)) * 10 ** rng.uniform(0, 4)
        learner, left, right = LogBarrierFTRL(A, eta), 0.0, 0.0
        for loss in losses:
            p = learner.policy_
            left += p @ loss
            right += eta / 2 * (p @ loss**2)
            learner.update(loss)
        total = losses.sum(axis=0)
        mixed = (1 - 1 / K) * total.min() + total.mean() / K
        assert left - mixed <= right + (A - 1) * np.log(K) / eta


def test_what_is_no_loss_is_refused():
    learner = LogBarrierFTRL(3, 0.1)
    for wrong in ([1, 2], [1, 2, np.nan], "abc"):
        with pytest.raises((ValueError, TypeError)):
            learner.update(wrong)
    assert (learner.scores_ == 0).all()
    with pytest.raises(ValueError, match="eta must be above 0"):
        LogBarrierFTRL(3, 0)


def test_an_overflow_costs_nothing():
    learner = LogBarrierFTRL(2, 1.0)
    learner.update([1.7e308, 0])
    with pytest.raises(ValueError, match="scores must be finite"), np.errstate(over="ignore"):
        learner.update([1.7e308, 0])
    assert learner.scores_ == pytest.approx([1.7e308, 0])
    assert learner.update([0, 1]) == pytest.approx([0, 1])
