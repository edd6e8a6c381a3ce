"""The bound in expectation: known environments, real data in random order, and what makes it void or fail."""

import numpy as np
import pytest
from guarantee import assert_error_rate

from whp.certificate import Status, Verdict
from whp.datasets import streams
from whp.intervals import Estimate, mean
from whp.online.optimistic_mirror_descent import (
    Ball,
    Box,
    OptimisticMirrorDescent,
    check_exp_concavity,
    check_smoothness,
    optimistic_mirror_descent,
    sea_bound,
)
from whp.undeclared import met

KNOWN = (
    met("the expected losses are convex and L-smooth", "½‖x − a‖²"),
    met("draws are independent", "by design"),
)


def sphere(rng, rounds, d, radius):
    z = rng.standard_normal((rounds, d))
    return radius * z / np.linalg.norm(z, axis=1, keepdims=True)


def quadratic(rng, settings, rounds, centre, sigma):
    """Regret in the expected losses ½‖x − a‖² against a, and the learner."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=len(centre), smoothness=1.0, **settings)
    regret = 0.0
    for noise in sphere(rng, rounds, len(centre), sigma):
        x = learner.x
        regret += ((x - centre) ** 2).sum() / 2
        learner.step(x - centre - noise)
    return regret, learner


@pytest.mark.parametrize(
    ("settings", "wanted", "spread", "bound"),
    [
        (
            {"curvature": "strongly_convex", "strong_convexity": 1.0, "gradient_bound": 1.8},
            2.269,
            0.024,
            108.585,
        ),
        ({"gradient_bound": 1.8}, 7.559, 0.030, 162.496),
    ],
    ids=["strongly convex", "convex"],
)
def test_9_mean_regret_of_200_seeds(settings, wanted, spread, bound):
    centre = np.array([0.3, 0, 0])
    runs = [
        quadratic(rng, settings, 500, centre, 0.5) for rng in np.random.default_rng(0).spawn(200)
    ]
    found = mean([r for r, _ in runs])
    assert abs(found.value - wanted) <= 5 * spread
    noise = 0.25 if "curvature" in settings else 125.0
    certificate = runs[0][1].sea_certificate(noise, 0.0, regret=found, assumptions=KNOWN)
    assert certificate.bound == pytest.approx(bound, rel=2e-3)
    assert certificate.verdict == Verdict.HOLDS


def test_the_bound_in_expectation_is_not_broken():
    def instance(rng):
        d, sigma = int(rng.integers(1, 5)), float(rng.uniform(0, 1))
        centre = sphere(rng, 1, d, rng.uniform(0, 0.8))[0]
        strong = rng.random() < 0.5
        settings = {"curvature": "strongly_convex", "strong_convexity": 1.0} if strong else {}
        if strong or rng.random() < 0.5:
            settings["gradient_bound"] = 1.8 + sigma
        runs = [quadratic(r, settings, 25, centre, sigma) for r in rng.spawn(20)]
        noise = sigma**2 if strong else 25 * sigma**2
        return runs[0][1].sea_certificate(
            noise, 0.0, regret=mean([r for r, _ in runs]), assumptions=KNOWN
        )

    assert_error_rate(instance, 0.0, n=300)


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
        optimistic_mirror_descent(X, y, order="shuffle", repeats=5)
    with pytest.raises(ValueError, match="repeats must be"):
        optimistic_mirror_descent(X, y, repeats=20)


def test_an_understated_variance_fails_and_a_wide_interval_says_nothing():
    settings = {"delta": 0.01, "gradient_bound": 0.1}
    alternating = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=0.0, **settings)
    for t in range(1000):
        alternating.step([0.1 * (-1.0) ** (t // 2)])
    regret = alternating.linearised_regret()
    told = alternating.sea_certificate(
        0.0, 0.0, regret=Estimate(regret, regret, regret, 0.95, 20), assumptions=()
    )
    assert told.verdict == Verdict.FAILS
    right = alternating.sea_certificate(
        0.0, 500 * 0.04, regret=Estimate(regret, regret, regret, 0.95, 20)
    )
    assert right.verdict == Verdict.HOLDS
    assert {a.status for a in right.assumptions} == {Status.MET, Status.UNCHECKED}
    wide = alternating.sea_certificate(
        0.0, 0.0, regret=Estimate(regret, -1.0, 2 * regret, 0.95, 20), assumptions=()
    )
    assert wide.verdict == Verdict.INCONCLUSIVE


def test_what_random_pairs_refute():
    x0 = np.array([0.3, -0.2])
    square = (lambda x: 0.5 * float((x - x0) @ (x - x0)), lambda x: x - x0)
    assert check_smoothness(square[1], Ball(1.0), 1.0, dim=2).status == Status.UNCHECKED
    assert check_smoothness(square[1], Ball(1.0), 0.9, dim=2).status == Status.VIOLATED
    row = np.array([1.0, 0.5])
    concave = (lambda x: 0.5 * float(x @ row) ** 2, lambda x: float(x @ row) * row)
    assert check_exp_concavity([concave], Ball(1.0), 0.5, dim=2).status == Status.UNCHECKED
    linear = (lambda x: float(x @ row), lambda x: row)
    refuted = check_exp_concavity([linear], Ball(1.0), 0.5, dim=2)
    learner = OptimisticMirrorDescent(
        Ball(1.0), dim=2, curvature="exp_concave", exp_concavity=0.5, gradient_bound=2.0
    )
    learner.step(row)
    assert learner.certificate(assumptions=[refuted]).verdict == Verdict.VOID


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


def test_growing_variance_grows_the_bound():
    values = [
        sea_bound("convex", D=2.0, L=0.5, G=2.0, sigma2=s, Sigma2=1.0)
        for s in np.geomspace(1e-3, 1e6, 50)
    ]
    assert (np.diff(values) > 0).all()
    # Concave in the variance: the mean of two bounds is at most the bound of the mean.
    rng = np.random.default_rng(0)
    for a, b in rng.uniform(0, 1e4, (50, 2)):
        ends = [
            sea_bound("convex", D=2.0, L=1.0, G=1.0, sigma2=s, Sigma2=0.0)
            for s in (a, b, (a + b) / 2)
        ]
        assert (ends[0] + ends[1]) / 2 <= ends[2] * (1 + 1e-12)


def test_a_box_takes_the_exp_concave_rule():
    learner = OptimisticMirrorDescent(
        Box([-1.0, -1], [1.0, 1]), curvature="exp_concave", exp_concavity=0.5, gradient_bound=2.0
    )
    for g in np.random.default_rng(0).uniform(-1, 1, (50, 2)):
        learner.step(g)
    certificate = learner.certificate()
    assert certificate.measured.value <= certificate.bound


def test_streams_are_what_they_say():
    table, target = streams.bikeshare_regression()
    assert table.shape == (8645, 30)
    assert target.max() == 1.0
    assert (table.filter(like="hr_").sum(axis=1) == 1).all()
    X, y = streams.breast_cancer()
    np.testing.assert_allclose(X.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(X.std(axis=0), 1)
    assert sorted(set(y.tolist())) == [-1, 1]
