import copy
import math
import pickle

import numpy as np
import pytest
from optimistic import CONCAVE, STRONG, fed, hostile

from whp.certificate import Status, Verdict
from whp.online import (
    Ball,
    Box,
    DynamicOptimisticMirrorDescent,
    OptimisticMirrorDescent,
    Polytope,
    Simplex,
)


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


def test_2_linear_losses_need_no_offset():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0)
    points = fed(learner)
    np.testing.assert_allclose(
        points[[1, 3]], [(-0.91455746, -0.40445599), (-0.01145659, 0.99993437)], atol=1e-8
    )
    certificate = learner.certificate()
    assert certificate.bound == pytest.approx(13.6815318636, abs=1e-9)
    assert certificate.inputs["a-priori form"] == pytest.approx(24.0016293298, abs=1e-9)


def test_3_curved_rules():
    strong = OptimisticMirrorDescent(Ball(1.0), dim=2, **STRONG)
    wanted = [(-0.91843135, -0.3955804), (0.16465548, -0.98635114), (-0.06323994, 0.99799835)]
    np.testing.assert_allclose(fed(strong)[1:], wanted, atol=1e-8)
    assert strong.certificate().bound == pytest.approx(25.2569444444, abs=1e-9)
    concave = OptimisticMirrorDescent(Ball(1.0), dim=2, **CONCAVE)
    wanted = [(-0.93693764, -0.34949658), (0.0324261, -0.99947414), (-0.14162201, 0.98992081)]
    np.testing.assert_allclose(fed(concave)[1:], wanted, atol=1e-8)
    assert concave.beta == 0.03125
    forms = concave.bounds()
    np.testing.assert_allclose(
        list(forms.values()), [26.1723215208, 27.6959043938, 27.8004048534], atol=1e-9
    )


@pytest.mark.parametrize("rounds", [100, 1000])
def test_6_predictable_gradients_cost_a_constant(rounds):
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=1.0)
    fed(learner, [(1.0, 0.0)] * rounds)
    certificate = learner.certificate()
    assert certificate.measured.value == pytest.approx(1)
    assert certificate.inputs["a-priori form"] == pytest.approx(5 * math.sqrt(5), abs=1e-9)


def test_6_alternating_and_slow_gradients():
    turned = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=1.0)
    fed(turned, [((-1.0) ** t, 0.0) for t in range(1000)])
    assert turned.linearised_regret() == pytest.approx(91.5476, abs=1e-3)
    assert turned.bounds()["a-priori form"] == pytest.approx(316.2673, abs=1e-3)
    slow = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=1.0)
    fed(slow, [(math.cos(2 * math.pi * t / 50), 0.0) for t in range(1000)])
    assert slow.linearised_regret() == pytest.approx(-529.759, abs=1e-2)


def test_8_the_regret_on_hostile_streams_is_below_its_bound():
    for rng in np.random.default_rng(0).spawn(300):
        learner = OptimisticMirrorDescent(Ball(1.0), dim=3, smoothness=0.5)
        for _ in range(40):
            push = learner.x if rng.random() < 0.5 else rng.standard_normal(3)
            learner.step(10 ** rng.uniform(-3, 3) * (push + 1e-3 * rng.standard_normal(3)))
        certificate = learner.certificate()
        assert certificate.measured.high <= certificate.bound


@pytest.mark.parametrize("rule", ["paper", "strongly_convex", "exp_concave"])
def test_8_no_bound_is_broken(rule):
    options = {
        "paper": {"smoothness": 0.1, "gradient_bound": 2.0},
        "strongly_convex": STRONG,
        "exp_concave": CONCAVE,
    }
    for rng in np.random.default_rng(1).spawn(300):
        learner = OptimisticMirrorDescent(Ball(rng.uniform(0.3, 2)), dim=3, **options[rule])
        hostile(learner, rng, 40, 2.0)
        certificate = learner.certificate()
        assert all(a.status != Status.VIOLATED for a in certificate.conditions)
        assert certificate.measured.high <= certificate.bound
        forms = list(learner.bounds().values())
        assert forms == sorted(forms)


def test_10_scale_rotation_and_saving():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((50, 4))
    plain = fed(OptimisticMirrorDescent(Ball(1.0), dim=4, smoothness=0.1), gradients)
    scaled = fed(OptimisticMirrorDescent(Ball(1.0), dim=4, smoothness=0.1 * 7), 7 * gradients)
    np.testing.assert_allclose(scaled, plain, atol=1e-12)
    Q = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    for options in ({"smoothness": 0.1}, CONCAVE):
        still = fed(OptimisticMirrorDescent(Ball(1.0), dim=4, **options), gradients)
        turned = fed(OptimisticMirrorDescent(Ball(1.0), dim=4, **options), gradients @ Q.T)
        np.testing.assert_allclose(turned, still @ Q.T, atol=1e-9)


@pytest.mark.parametrize("kind", ["convex", "exp_concave", "dynamic"])
def test_10_a_saved_learner_goes_on_bit_by_bit(kind):
    def new():
        if kind == "dynamic":
            return DynamicOptimisticMirrorDescent(
                Ball(1.0), dim=2, smoothness=0.5, gradient_bound=2.0, horizon=9
            )
        return OptimisticMirrorDescent(
            Ball(1.0), dim=2, **(CONCAVE if kind == "exp_concave" else {"smoothness": 0.5})
        )

    first, second = new(), new()
    fed(first)
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(fed(first), fed(second))
    assert first.certificate().to_json() == second.certificate().to_json()
    with pytest.raises(ValueError, match="state must hold"):
        new().load_state_dict({})


def test_11_fails_where_losses_and_gradients_disagree():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.5)
    fed(learner, np.zeros((100, 2)))
    for wrong in (np.inf, -np.inf, np.nan):
        with pytest.raises(ValueError, match="regret must be in"):
            learner.certificate(regret=wrong)
    certificate = learner.certificate(regret=100.0)
    assert certificate.bound == pytest.approx(math.sqrt(10))
    assert certificate.inputs["a-priori form"] == pytest.approx(21.0508, abs=1e-4)
    assert certificate.verdict == Verdict.FAILS


def test_a_right_hint_costs_nothing():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((100, 3))
    learner = OptimisticMirrorDescent(Ball(1.0), dim=3, delta=1.0)
    for g, following in zip(gradients, [*gradients[1:], np.zeros(3)], strict=True):
        learner.step(g, hint=following)
    assert learner.gradient_variation == pytest.approx(gradients[0] @ gradients[0])


def test_constructor_and_gradients_are_checked():
    with pytest.raises(ValueError, match="smoothness"):
        OptimisticMirrorDescent(Ball(1.0), dim=2)
    with pytest.raises(ValueError, match="strong_convexity"):
        OptimisticMirrorDescent(Ball(1.0), dim=2, curvature="strongly_convex")
    with pytest.raises(ValueError, match="gradient_bound"):
        OptimisticMirrorDescent(Ball(1.0), dim=2, curvature="exp_concave", exp_concavity=1.0)
    with pytest.raises(ValueError, match="low"):
        Box([1.0], [0.0])
    with pytest.raises(ValueError, match="dim"):
        OptimisticMirrorDescent(Ball(1.0), smoothness=1.0)
    with pytest.raises(ValueError, match="low, high, A and b"):
        Polytope([0.0, 0], [1.0, 1], [[1.0, 1]], [5.0])
    for large in (1e308, 1e151):  # whose squares are no numbers
        with pytest.raises(ValueError, match="smoothness must lie between 1e-150 and 1e\\+150"):
            OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=large)
        with pytest.raises(ValueError, match="gradient_bound must lie between"):
            DynamicOptimisticMirrorDescent(
                Ball(1.0), dim=2, smoothness=1.0, gradient_bound=large, horizon=10
            )
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.5)
    learner.step([1.0, 0.0])
    before = learner.state_dict()
    with pytest.raises(ValueError, match=r"gradient has non-finite entries at positions \[1\]"):
        learner.step([1.0, np.nan])
    with pytest.raises(ValueError, match="gradient must have shape"):
        learner.step([1.0])
    for name, array in learner.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_box_takes_the_exp_concave_rule():
    learner = OptimisticMirrorDescent(
        Box([-1.0, -1], [1.0, 1]), curvature="exp_concave", exp_concavity=0.5, gradient_bound=2.0
    )
    for g in np.random.default_rng(0).uniform(-1, 1, (50, 2)):
        learner.step(g)
    certificate = learner.certificate()
    assert certificate.measured.value <= certificate.bound


def test_a_state_of_other_settings_is_refused():
    first = OptimisticMirrorDescent(Ball(5.0), dim=2, smoothness=0.0)
    first.step([1.0, 0.5])
    state = first.state_dict()
    assert all(v.dtype.kind != "O" for v in state.values())
    for other, named in (
        ({"domain": Ball(0.1), "smoothness": 0.0}, "radius 5.0 for 0.1"),
        ({"domain": Ball(5.0), "smoothness": 1.0}, "delta 0.0 for 1000.0"),
        ({"domain": Ball(5.0), "smoothness": 0.0, "gradient_bound": 1.0}, "gradient_bound None"),
        ({"domain": Box([-5.0, -5], [5.0, 5]), "smoothness": 0.0}, "domain 'Ball' for 'Box'"),
    ):
        learner = OptimisticMirrorDescent(**other, dim=2)
        with pytest.raises(ValueError, match=f"same settings.*{named}"):
            learner.load_state_dict(state)
        assert learner.rounds == 0
    second = OptimisticMirrorDescent(Ball(5.0), dim=2, smoothness=0.0)
    moved = {**state, "vectors": state["vectors"] + 10}
    with pytest.raises(ValueError, match="point of the domain"):
        second.load_state_dict(moved)
    with pytest.raises(ValueError, match="text of settings"):
        second.load_state_dict({**state, "settings": np.array("[]")})


def test_gradients_that_come_late_are_told_by_the_losses_alone():
    """Nature pushes along x_t; each gradient arrives 20 rounds late: the linear sums see nothing."""
    learner, late, regret = OptimisticMirrorDescent(Ball(1.0), dim=3, smoothness=0.0), [], 0.0
    total = np.zeros(3)
    for _ in range(300):
        x = learner.x
        g = x / max(np.linalg.norm(x), 1e-9) if x.any() else np.eye(3)[0]
        regret, total = regret + g @ x, total + g
        late.append(g)
        learner.step(late.pop(0) if len(late) > 20 else np.zeros(3))
    regret += np.linalg.norm(total)
    unsure = learner.certificate()
    assert unsure.verdict == Verdict.HOLDS
    played = next(a for a in unsure.conditions if a.name == "at-the-point-played")
    assert played.status == Status.UNCHECKED
    assert learner.certificate(regret=regret).verdict == Verdict.FAILS


@pytest.mark.parametrize("domain", [Ball(1.0), Polytope([-1.0, -1], [1.0, 1], [[1.0, 1]], [0.0])])
def test_hints_before_the_first_step_are_no_way_round_the_bound(domain):
    """A zero gradient, then hints that are right: no step is taken, so what comes must be counted."""
    learner = OptimisticMirrorDescent(domain, dim=2, smoothness=0.0)
    learner.step([0.0, 0.0], hint=[1.0, -1.0])
    for _ in range(50):
        learner.step([1.0, -1.0], hint=[1.0, -1.0])
    certificate = learner.certificate()
    assert certificate.measured.high <= certificate.bound < 10


@pytest.mark.parametrize("size", [1e-162, 1e-170])
def test_gradients_whose_squares_vanish_still_cost_something(size):
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0, gradient_bound=None)
    for _ in range(50):
        learner.step([size, 0.0])
    certificate = learner.certificate()
    assert certificate.trivial == pytest.approx(100 * size)
    assert certificate.verdict in (Verdict.HOLDS, Verdict.VACUOUS)
    bounded = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=1.0, gradient_bound=1e-150)
    bounded.step([2e-150])
    assert bounded.certificate().verdict is Verdict.VOID


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_without_squares_are_refused(size):
    with pytest.raises(ValueError, match="radius must lie between"):
        Ball(size)
    with pytest.raises(ValueError, match="strong_convexity must lie between"):
        OptimisticMirrorDescent(
            Ball(1.0), dim=1, curvature="strongly_convex", strong_convexity=size
        )


def test_a_far_step_ends_on_the_sphere():
    learner = OptimisticMirrorDescent(
        Ball(1.0), dim=2, curvature="strongly_convex", strong_convexity=1e-140
    )
    np.testing.assert_allclose(learner.step([0.0, 1e20]), [0, -1])


@pytest.mark.parametrize("settings", [{"smoothness": 1.0}, STRONG, CONCAVE])
def test_a_hint_without_a_square_costs_nothing(settings):
    learner, other = (OptimisticMirrorDescent(Ball(1.0), dim=2, **settings) for _ in range(2))
    with pytest.raises(ValueError, match="hint must have a finite square"):
        learner.step([1.0, 0.0], hint=[1e200, 0.0])
    np.testing.assert_array_equal(fed(learner), fed(other))


@pytest.mark.parametrize("domain", [Ball(1.0, center=3.0), Simplex()])
def test_only_sets_around_zero_grow(domain):
    learner = OptimisticMirrorDescent(domain, dim=2, smoothness=0.0)
    with pytest.raises(ValueError, match="around zero"):
        learner.grow(3)
    assert learner.dim == 2


@pytest.mark.parametrize("u", [[100.0, 100.0], [np.nan, 0.0]])
def test_a_comparator_lies_in_the_domain(u):
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0)
    fed(learner)
    with pytest.raises(ValueError, match="comparator"):
        learner.certificate(comparator=u)


def test_settings_and_domains_stay_as_they_were():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, **STRONG)
    fed(learner)
    for made in (learner, copy.copy(learner), pickle.loads(pickle.dumps(learner))):
        with pytest.raises(AttributeError, match="must stay"):
            made.strong_convexity = 5.0
        with pytest.raises(AttributeError, match="must stay"):
            made.domain = Ball(5.0)
    with pytest.raises(ValueError, match="read-only"):
        Box([-1, -1], [1, 1]).low[:] = -100


@pytest.mark.parametrize("unit", [1e-10, 1.0, 1e7])
@pytest.mark.parametrize("side", [1e-8, 1e7])
def test_polytopes_in_every_unit(unit, side):
    domain = Polytope([0] * 3, [unit] * 3, [[side] * 3], [side * unit])
    assert domain.diameter == pytest.approx(math.sqrt(3) * unit)
    z = np.array([0.9, 0.5, -0.3])
    np.testing.assert_allclose(
        domain.project(z * unit), [0.7 * unit, 0.3 * unit, 0], atol=1e-9 * unit
    )
    learner = OptimisticMirrorDescent(domain, smoothness=0.0)
    for g in np.random.default_rng(0).standard_normal((30, 3)):
        learner.step(g)
    assert learner.certificate().verdict is not Verdict.VOID


@pytest.mark.parametrize(
    "settings", [{"smoothness": 1.0}, STRONG, {**CONCAVE, "gradient_bound": 3}]
)
@pytest.mark.parametrize("far", [1e4, 1e8])
def test_regret_is_the_same_far_from_zero(settings, far):
    # Prices, times, coordinates: sums of such points cancelled to anything between -20474 and 7.
    targets = np.random.default_rng(0).uniform(-0.5, 0.5, (1000, 3))
    near = OptimisticMirrorDescent(Ball(1.0), x0=np.zeros(3), **settings)
    away = OptimisticMirrorDescent(Ball(1.0, center=far), x0=np.full(3, far), **settings)
    u = np.array([0.3, -0.2, 0.1])
    for target in targets:
        near.step(near.x - target)
        away.step(away.x - far - target)
    close = {"rel": 1e-15 * far * 1000, "abs": 1e-15 * far * 1000}
    assert away.linearised_regret() == pytest.approx(near.linearised_regret(), **close)
    assert away.linearised_regret(far + u) == pytest.approx(near.linearised_regret(u), **close)
    assert away.certificate().verdict == near.certificate().verdict


@pytest.mark.parametrize("far", [1e10, 1e16, np.nan, np.inf])
def test_a_set_narrower_than_the_gaps_between_numbers_is_refused(far):
    # At 1e16 no step moved, no comparator but the centre was seen, and the regret "held" at zero.
    with pytest.raises(ValueError, match=r"domain|center"):
        OptimisticMirrorDescent(Ball(1.0, center=far), dim=2, smoothness=0.0)
    with pytest.raises(ValueError, match=r"domain|center"):
        DynamicOptimisticMirrorDescent(
            Ball(1.0, center=far), dim=2, smoothness=1.0, gradient_bound=1.0, horizon=10
        )


def test_strongly_convex_with_a_gradient_bound():
    learner = OptimisticMirrorDescent(
        Ball(1.0), dim=2, gradient_bound=1.0, smoothness=0.5, **STRONG
    )
    learner.step([1.5, 0.0])
    # The bound on this run has no G in it, that in expectation has.
    assert learner.certificate().verdict != Verdict.VOID
    assert learner.sea_certificate(0.0, 0.0).verdict == Verdict.VOID


def test_the_last_gradient_given_as_hint_is_the_last_gradient():
    learner, told = (OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0) for _ in range(2))
    for g in np.random.default_rng(0).standard_normal((20, 2)):
        np.testing.assert_array_equal(learner.step(g), told.step(g, hint=g.tolist()))
    assert told.sea_certificate(1.0, 1.0) == learner.sea_certificate(1.0, 1.0)


@pytest.mark.parametrize(
    ("rule", "ignored"),
    [
        ({"smoothness": 0.0}, {"strong_convexity": 1.0}),
        ({"smoothness": 0.0}, {"exp_concavity": 1.0}),
        (STRONG, {"delta": 1.0}),
        (STRONG, {"exp_concavity": 1.0}),
        (CONCAVE, {"strong_convexity": 1.0}),
    ],
    ids=str,
)
def test_settings_of_another_rule_are_refused(rule, ignored):
    with pytest.raises(ValueError, match=next(iter(ignored))):
        OptimisticMirrorDescent(Ball(1.0), dim=2, **rule, **ignored)


def test_a_comparator_beside_the_regret_is_refused():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0)
    with pytest.raises(ValueError, match="comparator"):
        learner.certificate(comparator=[1.0, 0.0], regret=1.0)
    pool = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=2, smoothness=1.0, gradient_bound=1.0, horizon=10
    )
    for wrong in ({"regret": 1.0}, {"path_length": 1.0}):
        with pytest.raises(ValueError, match="comparator"):
            pool.certificate(comparator=[1.0, 0.0], **wrong)


@pytest.mark.parametrize(
    "gradient",
    [
        np.ma.array([1.0, 5.0], mask=[False, True]),
        np.array([1 + 2j, 5]),
        ["1", "2"],
        np.array(["2026-01-01", "2026-01-02"], "M8[s]"),
    ],
    ids=["masked", "complex", "text", "dates"],
)
def test_gradients_that_are_no_numbers_are_refused(gradient):
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.0)
    with pytest.raises((TypeError, ValueError), match="gradient"):
        learner.step(gradient)
    assert learner.rounds == 0


def test_a_shallow_copy_shares_nothing():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=0.0)
    other = copy.copy(learner)
    other.step([1.0])
    other.grow(2)
    assert (learner.rounds, other.rounds) == (0, 1)
