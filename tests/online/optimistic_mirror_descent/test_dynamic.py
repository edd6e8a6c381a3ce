import numpy as np
import pytest
from optimistic import fed, hostile

from whp.certificate import Verdict
from whp.online import Ball, DynamicOptimisticMirrorDescent


def test_4_dynamic():
    learner = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=2, smoothness=0.5, gradient_bound=2.0, horizon=100
    )
    wanted = [(-0.14599276, 0), (-0.21946541, -0.07315514), (-0.07303614, -0.18259036)]
    np.testing.assert_allclose(fed(learner)[:3], wanted, atol=1e-8)
    np.testing.assert_array_equal(learner.pool, [0.125, 0.0625, 0.03125])
    assert learner.learning_rate == 0.03125
    assert learner.bounds()["measured form"] == pytest.approx(54.2678966885, abs=1e-9)
    assert learner.bounds(2.0)["measured form"] == pytest.approx(86.2678966885, abs=1e-9)
    assert learner.bounds()["a-priori form"] == pytest.approx(214.3463171249, abs=1e-9)
    assert learner.certificate(path_length=2.0).verdict == Verdict.VACUOUS
    assert learner.weights.sum() == pytest.approx(1)


def test_8_no_path_breaks_the_dynamic_bound():
    for rng in np.random.default_rng(2).spawn(300):
        domain = Ball(rng.uniform(0.3, 2))
        learner = DynamicOptimisticMirrorDescent(
            domain, dim=3, smoothness=0.2, gradient_bound=2.0, horizon=40
        )
        played, gradients = hostile(learner, rng, 40, 2.0)
        pieces = int(rng.integers(1, 6))
        path = np.concatenate(
            [
                np.tile(domain.linear_min(g.sum(axis=0)), (len(g), 1))
                for g in np.array_split(gradients, pieces)
            ]
        )
        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        regret = float((gradients * (played - path)).sum())
        certificate = learner.certificate(path_length=length, regret=regret)
        assert regret <= certificate.bound <= certificate.inputs["a-priori form"]


def test_a_first_point_outside_is_refused():
    with pytest.raises(ValueError, match="x0"):
        DynamicOptimisticMirrorDescent(
            Ball(1.0), x0=[2.0, 0.0], smoothness=1.0, gradient_bound=1.0, horizon=10
        )


def test_the_cap_is_that_of_the_steps_taken():
    learner = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=2, smoothness=1.0, gradient_bound=1.0, horizon=20, pool_cap=0.5
    )
    learner.pool[:] = 0.01
    assert learner.sea_certificate(0.0, 1.0).verdict == Verdict.VOID
