import numpy as np
import pytest

from whp.online.optimistic_mirror_descent import Ball, Box, OptimisticMirrorDescent

GRADIENTS = np.array([(1, 0), (1, 0.5), (-0.5, 1), (0, -2.0)])


def fed(learner):
    return np.array([learner.step(g) for g in GRADIENTS])


def test_1_the_papers_rule():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.5, gradient_bound=2.0)
    wanted = [
        (-0.77713245, 0),
        (-0.94935348, -0.31421007),
        (-0.39260099, -0.9197089),
        (-0.58556719, 0.79829081),
    ]
    np.testing.assert_allclose(fed(learner), wanted, atol=1e-8)
    assert learner.gradient_variation == pytest.approx(13)
    certificate = learner.certificate()
    assert certificate.bound == pytest.approx(10.2924240967, abs=1e-9)
    assert certificate.inputs["a-priori form"] == pytest.approx(31.2249899920, abs=1e-9)


def test_2_the_scale_free_rule():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.5)
    wanted = [
        (-1, 0),
        (-0.94636991, -0.32308511),
        (-0.26281596, -0.96484598),
        (-0.48443315, 0.87482828),
    ]
    np.testing.assert_allclose(fed(learner), wanted, atol=1e-8)
    assert learner.certificate().bound == pytest.approx(10.9711014151, abs=1e-9)
    boxed = OptimisticMirrorDescent(Box([-1, 0], [0.5, 2]), smoothness=0.5)
    np.testing.assert_allclose(fed(boxed)[2:], [(-0.41172877, 0), (-0.69570969, 2)], atol=1e-8)
    assert boxed.certificate().inputs["a-priori form"] == pytest.approx(44.5196569258, abs=1e-9)


def test_8_the_regret_on_hostile_streams_is_below_its_bound():
    for rng in np.random.default_rng(0).spawn(300):
        learner = OptimisticMirrorDescent(Ball(1.0), dim=3, smoothness=0.5)
        for _ in range(40):
            push = learner.x if rng.random() < 0.5 else rng.standard_normal(3)
            learner.step(10 ** rng.uniform(-3, 3) * (push + 1e-3 * rng.standard_normal(3)))
        certificate = learner.certificate()
        assert certificate.measured.high <= certificate.bound
