import numpy as np
import pytest
from optimistic import STRONG, fed, quadratic

from whp.certificate import Status, Verdict
from whp.online import (
    Ball,
    DynamicOptimisticMirrorDescent,
    OptimisticMirrorDescent,
    check_exp_concavity,
    check_smoothness,
    check_strong_convexity,
)
from whp.online._optimistic_mirror_descent.theorems import CURVED, GRADIENTS_BOUNDED, mean_regret


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
    regrets = [r for r, _ in runs]
    assert abs(np.mean(regrets) - wanted) <= 5 * spread
    noise = 0.25 if "curvature" in settings else 125.0
    certificate = runs[0][1].sea_certificate(noise, 0.0, regrets=regrets)
    assert certificate.bound == pytest.approx(bound, rel=2e-3)
    assert certificate.verdict == Verdict.HOLDS
    assert certificate.inputs["runs"] == 200
    assert {a.status for a in certificate.conditions} == {Status.MET, Status.UNCHECKED}


def test_an_interval_for_rare_runs_is_valid_where_students_is_not():
    """One run in fifty has a regret of 50, the others none: the mean is 1."""
    student = betting = 0
    for rng in np.random.default_rng(0).spawn(200):
        regrets = 50.0 * (rng.random(20) < 0.02)
        betting += not mean_regret(regrets, -100.0, 100.0, 0.05).high >= 1.0
        spread = regrets.std(ddof=1) / np.sqrt(20)
        student += regrets.mean() + 2.09 * spread < 1.0
    assert betting <= 10 + 5 * np.sqrt(10)
    assert student > 100


def test_regrets_beyond_what_gradients_allow_are_refused():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=0.0)
    for _ in range(10):
        learner.step([0.5])
    with pytest.raises(ValueError, match="gradient_bound must be given with regrets"):
        learner.sea_certificate(1.0, 0.0, regrets=np.zeros(20))
    with pytest.raises(ValueError, match="regrets must lie between -10 and 10"):
        learner.sea_certificate(1.0, 0.0, regrets=[10.5] * 20, gradient_bound=0.5)
    told = learner.sea_certificate(1.0, 0.0, regrets=np.zeros(20), gradient_bound=0.4)
    assert told.verdict == Verdict.VOID
    alone = learner.sea_certificate(1.0, 0.0)
    assert alone.verdict in (Verdict.UNMEASURED, Verdict.VACUOUS)
    assert next(a for a in alone.conditions if a.name == "gradients-bounded").status == (
        Status.UNCHECKED
    )


def test_own_hints_void_the_bound_in_expectation_and_drop_closed_forms():
    rng = np.random.default_rng(0)
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=1.0)
    for g in rng.uniform(-0.7, 0.7, (300, 2)):
        learner.step(g, hint=-2 * g)
    assert learner.sea_certificate(0.0, 0.0).verdict == Verdict.VOID
    assert list(learner.bounds()) == ["measured form"]
    certificate = learner.certificate()
    assert certificate.inputs["hints of your own"] == 300
    assert certificate.measured.high <= certificate.bound
    # Saved and loaded, they are remembered.
    other = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=1.0)
    other.load_state_dict(learner.state_dict())
    assert other.sea_certificate(0.0, 0.0).verdict == Verdict.VOID


def test_an_understated_variance_fails_and_few_runs_say_nothing():
    learner = OptimisticMirrorDescent(
        Ball(1.0), dim=1, smoothness=0.0, delta=0.01, gradient_bound=0.1
    )
    for t in range(1000):
        learner.step([0.1 * (-1.0) ** (t // 2)])
    regret = learner.linearised_regret()
    told = learner.sea_certificate(0.0, 0.0, regrets=[regret] * 2000)
    assert told.verdict == Verdict.FAILS
    assert learner.sea_certificate(0.0, 0.0, regrets=[regret] * 5).verdict == Verdict.INCONCLUSIVE
    right = learner.sea_certificate(0.0, 500 * 0.04, regrets=[regret] * 200)
    assert right.verdict == Verdict.HOLDS


def test_what_random_pairs_refute():
    x0 = np.array([0.3, -0.2])
    square = (lambda x: 0.5 * float((x - x0) @ (x - x0)), lambda x: x - x0)
    assert check_smoothness(square[1], Ball(1.0), 1.0, dim=2).status == Status.UNCHECKED
    assert check_smoothness(square[1], Ball(1.0), 0.9, dim=2).status == Status.VIOLATED
    for scale in (1e-8, 1.0, 1e8):  # the unit of the loss does not matter
        pair = (lambda x, s=scale: s * square[0](x), lambda x, s=scale: s * square[1](x))
        right = check_strong_convexity([pair], Ball(1.0), scale, dim=2)
        wrong = check_strong_convexity([pair], Ball(1.0), 1.01 * scale, dim=2)
        assert (right.status, wrong.status) == (Status.UNCHECKED, Status.VIOLATED)
    row = np.array([1.0, 0.5])
    concave = (lambda x: 0.5 * float(x @ row) ** 2, lambda x: float(x @ row) * row)
    assert check_exp_concavity([concave], Ball(1.0), 0.5, dim=2).status == Status.UNCHECKED
    linear = (lambda x: float(x @ row), lambda x: row)
    refuted = check_exp_concavity([linear], Ball(1.0), 0.5, dim=2)
    learner = OptimisticMirrorDescent(
        Ball(1.0), dim=2, curvature="exp_concave", exp_concavity=0.5, gradient_bound=2.0
    )
    learner.step(row)
    assert learner.certificate(checked=[refuted]).verdict == Verdict.VOID
    unclear = check_exp_concavity([concave], Ball(1.0), 0.5, dim=2)
    assert learner.certificate(checked=[unclear, refuted]).verdict == Verdict.VOID


def test_what_a_user_says_cannot_meet_a_condition():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=1.0)
    learner.step([3.0, 0.0])
    assert learner.certificate().verdict == Verdict.VOID
    for answer in (GRADIENTS_BOUNDED.check(True, "trust me"), CURVED.by_construction("I know")):
        with pytest.raises(ValueError, match="checked must"):
            learner.certificate(checked=[answer])
    said = learner.certificate(checked=[GRADIENTS_BOUNDED.unchecked("never mind")])
    assert said.verdict == Verdict.VOID


def test_a_domain_of_ones_own_is_not_by_construction():
    class Smaller(Ball):
        @property
        def diameter(self):
            return 0.01

    learner = OptimisticMirrorDescent(Smaller(1.0), dim=2, smoothness=0.0)
    learner.step([1.0, 0.0])
    inside = next(a for a in learner.certificate().conditions if a.name == "in-domain")
    assert inside.status == Status.UNCHECKED


def test_checks_in_single_precision_refute_nothing_true():
    for seed, offset in enumerate((1.0, 30.0, 1e3, 1e4)):
        c = np.float32(offset)
        smooth = check_smoothness(
            lambda x, c=c: x.astype(np.float32) + c, Ball(1.0), 1.0, dim=3, rng=seed
        )
        losses = [
            (
                lambda x, c=c: np.float32(0.5) * (x.astype(np.float32) ** 2).sum() + c,
                lambda x: x.astype(np.float32),
            )
        ]
        curved = check_strong_convexity(losses, Ball(1.0), 1.0, dim=3, rng=seed)
        assert smooth.status is curved.status is Status.UNCHECKED


def test_what_is_no_number_refutes():
    def undefined(x):
        return x * np.nan

    assert check_smoothness(undefined, Ball(1.0), 1.0, dim=2).status is Status.VIOLATED
    for losses in ([(lambda x: np.nan, lambda x: x)], [(lambda x: 0.0, undefined)]):
        for check in (check_strong_convexity, check_exp_concavity):
            assert check(losses, Ball(1.0), 0.1, dim=2).status is Status.VIOLATED


def test_a_path_has_a_length():
    learner = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=2, smoothness=1.0, gradient_bound=2.0, horizon=10
    )
    learner.step([1.0, 0.0])
    for length in (-1.0, np.nan):
        with pytest.raises(ValueError, match="path_length"):
            learner.sea_certificate(1.0, 1.0, path_length=length)


def test_a_negative_estimate_of_the_drift_takes_nothing_from_the_noise():
    for settings in ({"smoothness": 1.0}, {"smoothness": 1.0, **STRONG}):
        learner = OptimisticMirrorDescent(Ball(1.0), dim=2, **settings)
        fed(learner)
        assert learner.sea_bound(1.0, -2.0) == learner.sea_bound(1.0, 0.0)
