import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit

from whp.certificate import Status, Verdict
from whp.datasets.streams import breast_cancer
from whp.online.optimistic_mirror_descent import (
    Ball,
    Box,
    DynamicOptimisticMirrorDescent,
    L1Ball,
    OptimisticMirrorDescent,
    Polytope,
    Simplex,
    estimate_sea,
    optimistic_mirror_descent,
    sea_bound,
)
from whp.online.optimistic_mirror_descent.losses import normalized_rows

GRADIENTS = np.array([(1, 0), (1, 0.5), (-0.5, 1), (0, -2.0)])
STRONG = {"curvature": "strongly_convex", "strong_convexity": 0.5}
CONCAVE = {"curvature": "exp_concave", "exp_concavity": 1.0, "gradient_bound": 2.0}


def fed(learner, gradients=GRADIENTS):
    return np.array([learner.step(g) for g in gradients])


def cancer():
    X, y = breast_cancer()
    order = np.random.default_rng(0).permutation(569)
    return X[order], y[order]


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


def test_5_bounds_in_expectation():
    given = {"D": 2.0, "L": 0.5, "G": 2.0, "sigma2": 10.0, "Sigma2": 3.0}
    assert sea_bound("convex", **given) == pytest.approx(55.2268051, abs=1e-6)
    assert sea_bound("convex", **{**given, "L": 50.0}) == pytest.approx(3359.90425, abs=1e-5)
    assert sea_bound("convex", D=2.0, L=1.0, G=1.0, sigma2=0, Sigma2=0) == pytest.approx(
        64.9662725, abs=1e-6
    )
    assert sea_bound("convex", **given, scale_free=True) == pytest.approx(77.0029897, abs=1e-6)
    strong = sea_bound(
        "strongly_convex", lam=0.5, D=2.0, L=1.0, G=2.0, horizon=100, sigma2=0.25, Sigma2=0.01
    )
    assert strong == pytest.approx(253.7729126, abs=1e-6)
    for L, wanted in ((1.0, 2907.6869032), (0.1, 910.098181)):
        found = sea_bound("exp_concave", dim=5, beta=0.1, D=2.0, G=2.0, L=L, sigma2=100, Sigma2=10)
        assert found == pytest.approx(wanted, abs=1e-5)


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


def test_7_random_order():
    X, y = breast_cancer()
    result = optimistic_mirror_descent(X, y, order="shuffle", gradient_bound=1.0, rng=0)
    assert result.Sigma2 == pytest.approx(0.07524, abs=1e-5)
    # Added up over the rows that came the noise is another number; σ² is its expectation, which is what the theorem has.
    order = np.random.default_rng(0).permutation(569)
    A, target = normalized_rows(X[order]), np.where(y[order] == 1, 1.0, -1.0)
    came = expected = 0.0
    for t, x in enumerate(result.points):
        g = A[t:] * (-target[t:] * expit(-target[t:] * (A[t:] @ x)))[:, None]
        noise = ((g - g.mean(axis=0)) ** 2).sum(axis=1)
        came, expected = came + noise[0], expected + noise.mean()
    assert came == pytest.approx(21.1032, abs=1e-4)
    assert result.sigma2 == pytest.approx(expected, rel=1e-10)
    assert result.certificates[1].verdict == Verdict.UNMEASURED


def hostile(learner, rng, rounds, scale):
    """Gradients at random, along the point played, or switching; norms at most `scale` where it is given."""
    kind, played, gradients = rng.integers(3), [], []
    for t in range(rounds):
        x = learner.x
        g = rng.standard_normal(len(x))
        if kind == 1:
            g = x + 1e-3 * g
        elif kind == 2:
            g = np.eye(len(x))[0] * (1 if (t // 5) % 2 else -1) + 0.1 * g
        g *= scale / np.linalg.norm(g) if scale else 10 ** rng.uniform(-3, 3)
        played.append(x)
        gradients.append(g)
        learner.step(g)
    return np.array(played), np.array(gradients)


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
        assert all(a.status != Status.VIOLATED for a in certificate.assumptions)
        assert certificate.measured.high <= certificate.bound
        forms = list(learner.bounds().values())
        assert forms == sorted(forms)


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


def test_11_void():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=1, smoothness=0.0, gradient_bound=1.0)
    fed(learner, [[1.0], [1.01]])
    assert learner.certificate().verdict == Verdict.VOID
    X, y = breast_cancer()
    sharp = optimistic_mirror_descent(X, y, order="shuffle", smoothness=1 / 400, rng=0)
    assert [c.verdict for c in sharp.certificates] == [Verdict.HOLDS, Verdict.VOID]


def test_11_fails_where_losses_and_gradients_disagree():
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.5)
    fed(learner, np.zeros((100, 2)))
    certificate = learner.certificate(regret=100.0)
    assert certificate.bound == pytest.approx(math.sqrt(10))
    assert certificate.inputs["a-priori form"] == pytest.approx(21.0508, abs=1e-4)
    assert certificate.verdict == Verdict.FAILS


def test_11_vacuous_and_unmeasured():
    X, y = cancer()
    assert optimistic_mirror_descent(X[:3], y[:3]).certificates[0].verdict == Verdict.VACUOUS
    batches = optimistic_mirror_descent(
        np.tile(X, (20, 1)), np.tile(y, 20), batch_size=8, radius=0.5
    )
    assert [c.verdict for c in batches.certificates] == [Verdict.HOLDS, Verdict.UNMEASURED]
    assert any(a.status == Status.UNCHECKED for a in batches.certificates[1].assumptions)
    moving = DynamicOptimisticMirrorDescent(
        Ball(1.0), dim=2, smoothness=1e-3, gradient_bound=2.0, horizon=2000
    )
    fed(moving, np.tile(GRADIENTS, (500, 1)))
    assert moving.certificate(path_length=0.1).verdict == Verdict.UNMEASURED


def test_split_batches_estimate_without_bias():
    rng = np.random.default_rng(0)
    sigma, steps, found = 0.5, 0.3, []
    for _ in range(400):
        centres = steps * np.arange(5)[:, None] * np.ones((5, 3))
        batches = [c + sigma * rng.standard_normal((8, 3)) for c in centres]
        e = estimate_sea(lambda rows, x: x - rows.mean(axis=0), batches, np.zeros((5, 3)))
        found.append((e.sigma2.mean(), e.Sigma2[1:].mean()))
    error = np.mean(found, axis=0) - [3 * sigma**2 / 8, 3 * steps**2]
    assert (np.abs(error) < 4 * np.std(found, axis=0) / 20).all()


POLYTOPE = Polytope(np.zeros(4), np.ones(4), [[1, 1, 1, 1], [1, -1, 0, 0.5]], [1.5, 0.2])
DOMAINS = [
    Ball(1.3, center=np.array([1.0, 0, 0, -1])),
    Box([-1, 0, 0, 0], [0.5, 2, 1, 1]),
    Simplex(2.0),
    L1Ball(1.5),
    POLYTOPE,
]


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_projections_satisfy_the_variational_inequality(domain):
    for rng in np.random.default_rng(0).spawn(40):
        z = 3 * rng.standard_normal(4)
        x = domain.project(z)
        # x is the projection if and only if no point of the set lies further along z − x.
        best = domain.linear_min(x - z)
        assert (x - z) @ (best - x) >= -1e-7
        np.testing.assert_allclose(domain.project(x), x, atol=1e-8)
        assert np.linalg.norm(best - x) <= domain.diameter + 1e-9


@pytest.mark.parametrize("domain", DOMAINS, ids=lambda d: type(d).__name__)
def test_every_domain_keeps_its_bound(domain):
    learner = OptimisticMirrorDescent(domain, dim=4, smoothness=0.05)
    rng = np.random.default_rng(0)
    fed(learner, rng.standard_normal((60, 4)))
    certificate = learner.certificate()
    assert certificate.measured.value <= certificate.bound
    assert np.linalg.norm(domain.project(learner.x) - learner.x) < 1e-7


@pytest.mark.parametrize("domain", DOMAINS[:2], ids=lambda d: type(d).__name__)
def test_metric_projection_against_a_general_solver(domain):
    rng = np.random.default_rng(0)
    for _ in range(5):
        root = rng.standard_normal((4, 4))
        H, z = root @ root.T + 0.1 * np.eye(4), 3 * rng.standard_normal(4)
        x = domain.project_metric(z, H)
        np.testing.assert_allclose(domain.project(x), x, atol=1e-9)
        other = minimize(
            lambda y, H=H, z=z: (domain.project(y) - z) @ H @ (domain.project(y) - z),
            x,
            method="Nelder-Mead",
        )
        assert (x - z) @ H @ (x - z) <= other.fun * (1 + 1e-9)
        gradient = H @ (x - z)
        assert gradient @ (domain.linear_min(gradient) - x) >= -1e-7


def test_a_right_hint_costs_nothing():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((100, 3))
    learner = OptimisticMirrorDescent(Ball(1.0), dim=3, delta=1.0)
    for g, following in zip(gradients, [*gradients[1:], np.zeros(3)], strict=True):
        learner.step(g, hint=following)
    assert learner.gradient_variation == pytest.approx(gradients[0] @ gradients[0])


def test_own_losses_and_front_door_options():
    X, y = (v[:120] for v in cancer())
    pair = (
        lambda w, a, t: np.logaddexp(0, -t * (a @ w)),
        lambda w, a, t: -t * a * expit(-t * (a @ w)),
    )
    own = optimistic_mirror_descent(X, y, loss=pair, smoothness=0.25)
    named = optimistic_mirror_descent(X, y, loss="logistic")
    np.testing.assert_allclose(own.points, named.points, atol=1e-12)
    assert own.certificates[0].verdict == named.certificates[0].verdict
    words = optimistic_mirror_descent(X, np.where(y == 1, "good", "bad"))
    np.testing.assert_allclose(words.points, named.points, atol=1e-12)
    ridge = optimistic_mirror_descent(X, y, l2=0.1)
    assert ridge.rule == "strongly convex"
    assert ridge.certificates[0].measured.high <= ridge.certificates[0].bound
    import matplotlib.pyplot as plt

    assert named.plot().get_legend_handles_labels()[1] == ["bound, as the gradients came", "regret"]
    plt.close("all")


MISUSE = [
    ({"radius": 0.0}, "radius"),
    ({"l2": -1.0}, "l2"),
    ({"batch_size": 0}, "batch_size"),
    ({"loss": "hinge"}, "loss"),
    ({"curvature": "flat"}, "curvature"),
    ({"curvature": "strongly_convex"}, "l2"),
    ({"segments": 2}, "segments"),
    ({"normalize": "none"}, "row_bound"),
    ({"normalize": "none", "row_bound": 0.1}, "row_bound"),
    ({"pool_cap": 1.0}, "pool_cap"),
    ({"y": np.ones(3)}, "y"),
    ({"y": np.full(40, np.nan)}, "y"),
    ({"y": None}, "y"),
    ({"X": np.zeros((0, 3))}, "X"),
    ({"X": np.full((40, 3), np.inf)}, "X"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    good = {"X": np.arange(120.0).reshape(40, 3), "y": np.arange(40) % 2}
    with pytest.raises((ValueError, TypeError), match=named):
        optimistic_mirror_descent(**{**good, **wrong})


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
    learner = OptimisticMirrorDescent(Ball(1.0), dim=2, smoothness=0.5)
    learner.step([1.0, 0.0])
    before = learner.state_dict()
    with pytest.raises(ValueError, match=r"gradient has non-finite entries at positions \[1\]"):
        learner.step([1.0, np.nan])
    with pytest.raises(ValueError, match="gradient must have shape"):
        learner.step([1.0])
    for name, array in learner.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(numbers, max_size=3), max_size=5),
    st.lists(st.one_of(numbers, st.text(max_size=2)), max_size=5),
)
def test_bad_input_is_refused_by_name(X, y):
    told = ""
    try:
        optimistic_mirror_descent(X, np.array(y))
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("X ", "y ", "rows "))
