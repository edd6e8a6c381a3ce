import numpy as np
import pytest
from optimistic import GRADIENTS, cancer, fed

from whp.certificate import Status, Verdict
from whp.datasets import streams
from whp.online import (
    Ball,
    DynamicOptimisticMirrorDescent,
    OptimisticMirrorDescent,
    optimistic_mirror_descent,
)


def test_7_breast_cancer():
    X, y = cancer()
    free = optimistic_mirror_descent(X, y)
    assert free.best_loss == pytest.approx(79.51370482, abs=1e-6)
    assert free.loss == pytest.approx(91.7147425, abs=1e-7)
    certificate = free.certificates[0]
    assert certificate.verdict == Verdict.HOLDS
    assert certificate.bound == pytest.approx(98.967842506, abs=1e-7)
    assert certificate.inputs["a-priori form"] == pytest.approx(342.2655187, abs=1e-6)
    assert free.running_bound[-1] == pytest.approx(certificate.bound)
    paper = optimistic_mirror_descent(X, y, gradient_bound=1.0)
    assert paper.loss == pytest.approx(91.7335934, abs=1e-7)
    assert paper.variation.sum() == pytest.approx(43.18644908, abs=1e-7)
    assert paper.certificates[0].bound == pytest.approx(98.7343838, abs=1e-7)
    moving = optimistic_mirror_descent(X, y, dynamic=True, gradient_bound=1.0)
    assert moving.loss == pytest.approx(123.544631, abs=1e-6)
    assert moving.certificates[0].bound == pytest.approx(501.51206, abs=1e-5)


def test_random_orders_of_real_data_hold():
    X, y = streams.breast_cancer()
    result = optimistic_mirror_descent(X, y, radius=2.0, order="shuffle", repeats=20, rng=0)
    certificate = result.certificates[1]
    assert certificate.verdict == Verdict.HOLDS
    assert certificate.inputs["runs"] == 20
    assert certificate.measured.low < certificate.measured.value < certificate.measured.high
    ridge = optimistic_mirror_descent(
        X, y, l2=0.5, radius=1.0, batch_size=4, order="shuffle", repeats=20, rng=0
    )
    assert ridge.certificates[1].verdict == Verdict.VACUOUS
    alone = optimistic_mirror_descent(X, y, radius=2.0, order="shuffle", rng=0)
    assert alone.certificates[1].verdict == Verdict.UNMEASURED
    np.testing.assert_array_equal(alone.points, result.points)


def test_a_shorter_last_batch_has_its_own_comparator():
    X, y = streams.breast_cancer()
    result = optimistic_mirror_descent(
        X[:101], y[:101], radius=1.0, batch_size=10, order="shuffle", repeats=20, rng=1
    )
    assert result.certificates[1].measured.n == 20
    with pytest.raises(ValueError, match="repeats must be"):
        optimistic_mirror_descent(X, y, repeats=20)


def test_segments_have_their_own_points():
    X, y = streams.breast_cancer()
    flipped = np.where(np.arange(2 * 569) < 569, np.tile(y, 2), -np.tile(y, 2))
    rows = np.tile(X, (2, 1))
    two = optimistic_mirror_descent(rows, flipped, dynamic=True, segments=2)
    assert two.comparator.shape == (2, 31)
    np.testing.assert_allclose(two.comparator[0], -two.comparator[1], atol=1e-3)
    path = float(np.linalg.norm(two.comparator[1] - two.comparator[0]))
    assert two.certificates[0].inputs["path length"] == pytest.approx(path)
    assert two.best_loss == pytest.approx(2 * 79.51370482, abs=1e-4)
    assert two.regret <= two.certificates[0].bound
    one = optimistic_mirror_descent(rows, flipped, dynamic=True)
    assert one.best_loss > two.best_loss
    capped = optimistic_mirror_descent(
        rows, flipped, dynamic=True, pool_cap=0.5, order="shuffle", rng=0
    )
    assert capped.certificates[1].verdict == Verdict.VOID


def test_11_void():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=0.0, gradient_bound=1.0)
    fed(learner, [[1.0], [1.01]])
    assert learner.certificate().verdict == Verdict.VOID
    X, y = streams.breast_cancer()
    sharp = optimistic_mirror_descent(X, y, order="shuffle", smoothness=1 / 400, rng=0)
    assert [c.verdict for c in sharp.certificates] == [Verdict.HOLDS, Verdict.VOID]


def test_11_vacuous_and_unmeasured():
    X, y = cancer()
    assert optimistic_mirror_descent(X[:3], y[:3]).certificates[0].verdict == Verdict.VACUOUS
    batches = optimistic_mirror_descent(
        np.tile(X, (20, 1)), np.tile(y, 20), batch_size=8, radius=0.5
    )
    assert [c.verdict for c in batches.certificates] == [Verdict.HOLDS, Verdict.UNMEASURED]
    assert any(a.status == Status.UNCHECKED for a in batches.certificates[1].conditions)
    moving = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=2, smoothness=1e-3, gradient_bound=2.0, horizon=2000
    )
    fed(moving, np.tile(GRADIENTS, (500, 1)))
    assert moving.certificate(path_length=0.1).verdict == Verdict.UNMEASURED
