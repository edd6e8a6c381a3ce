import numpy as np
import pytest

from whp.certificate import Verdict
from whp.continual import fit_forgetting_curve


def curve(I, t, A=0.95, b=0.02, c=0.3, d=5.707110264748875):  # noqa: E741
    return A * (b * t + 1) ** -(1 + c * (np.log1p(I) - d) ** 2)


def test_9_the_curve_returns_its_parameters():
    I, t = np.repeat([75.0, 150, 300, 600], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 4)  # noqa: E741
    expected = {
        1000: (0.008018, 0.029292, 0.045238, 0.029231),
        100: (0.169607, 0.270700, 0.316667, 0.270496),
    }
    for when, values in expected.items():
        np.testing.assert_allclose(curve(np.array([75.0, 150, 300, 600]), when), values, atol=1e-6)
    fit = fit_forgetting_curve(I, t, curve(I, t))
    assert (fit.A, fit.b, fit.c) == pytest.approx((0.95, 0.02, 0.3), abs=1e-6)
    assert fit.best_interval.value == pytest.approx(300, abs=1e-3)
    np.testing.assert_allclose(fit(I, t), curve(I, t), atol=1e-8)


def test_9_no_best_interval_where_there_is_none():
    I, t = np.repeat([75.0, 150, 300, 600], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 4)  # noqa: E741
    flat = fit_forgetting_curve(I, t, curve(I, t, c=0.0))
    assert flat.best_interval is None
    assert "interval" in flat.reason
    outside = fit_forgetting_curve(I, t, curve(I, t, d=np.log(5001)))
    assert outside.best_interval is None
    assert "600 were tried" in outside.reason
    assert {c.certificates[0].verdict for c in (flat, outside)} == {Verdict.VOID}


def test_the_interval_of_the_best_one_covers_it():
    I, t = np.repeat([75.0, 150, 300, 600, 1200], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 5)  # noqa: E741
    covered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        seen = rng.binomial(2000, curve(I, t)) / 2000
        fit = fit_forgetting_curve(I, t, seen, n=np.full(30, 2000.0))
        covered += (
            fit.best_interval is not None and fit.best_interval.low <= 300 <= fit.best_interval.high
        )
    assert covered >= 17


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"interval": [1.0, 1, 2, 2]}, "interval"),
        ({"elapsed": [-1.0, 1, 2, 3]}, "elapsed"),
        ({"retention": [1.5, 1, 1, 1]}, "retention"),
        ({"retention": [1.0, 1, 1]}, "retention"),
        ({"n": [1.0, 0, 1, 1]}, "n must be above 0"),
        ({"groups": ["a", "b"]}, "groups"),
    ],
)
def test_bad_curves_are_named(change, named):
    good = {
        "interval": [1.0, 2, 3, 4],
        "elapsed": [1.0, 2, 3, 4],
        "retention": [1.0, 0.9, 0.8, 0.7],
    }
    with pytest.raises((ValueError, TypeError), match=named):
        fit_forgetting_curve(**(good | change))


def test_a_demand_is_decided_by_the_interval_of_the_best_one():
    I, t = np.repeat([75.0, 150, 300, 600, 1200], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 5)  # noqa: E741
    seen = np.random.default_rng(0).binomial(2000, curve(I, t)) / 2000
    told = fit_forgetting_curve(I, t, seen).certificates[0]
    assert told.verdict is Verdict.UNMEASURED
    for within, verdict in (
        (1.01 * told.bound, Verdict.HOLDS),
        (0.99 * told.bound, Verdict.INCONCLUSIVE),
        (20.0, Verdict.VACUOUS),  # all that were tried
    ):
        certificate = fit_forgetting_curve(I, t, seen, within=within).certificates[0]
        assert (certificate.verdict, certificate.bound) == (verdict, within)
    with pytest.raises(ValueError, match=r"within must be in \(1, inf\), got 1"):
        fit_forgetting_curve(I, t, seen, within=1)


def test_flat_data_have_no_best_interval():
    I, t = np.repeat([15.0, 60, 240, 960], 5), np.tile([10.0, 30, 100, 300, 1000], 4)  # noqa: E741
    R = curve(I, t, c=0.0)
    for seed in range(20):
        seen = np.random.default_rng(seed).binomial(400, R) / 400
        assert fit_forgetting_curve(I, t, seen, n=np.full(20, 400.0)).best_interval is None


def test_points_that_belong_together_are_no_evidence_of_their_own():
    rng = np.random.default_rng(0)
    I, t = np.repeat([75.0, 150, 300, 600, 1200], 6), np.tile([0.0, 10, 30, 100, 300, 1000], 5)  # noqa: E741
    seen = rng.binomial(2000, curve(I, t)) / 2000
    one = fit_forgetting_curve(I, t, seen)
    groups = np.repeat(["a", "b"], 30)
    twice = fit_forgetting_curve(
        np.tile(I, 2), np.tile(t, 2), np.tile(seen, 2), groups=np.tile(np.arange(30), 2)
    )
    assert twice.best_interval is not None
    ours, theirs = (f.best_interval.high - f.best_interval.low for f in (twice, one))
    assert ours == pytest.approx(theirs, rel=0.35)  # and not narrower by the root of two
    few = fit_forgetting_curve(np.tile(I, 2), np.tile(t, 2), np.tile(seen, 2), groups=groups)
    assert few.certificates[0].inputs["groups"] == 2


def test_slopes_are_those_of_the_curve():
    from whp.continual._view_batch.retention import _curve, _slopes

    theta = np.array([0.9, -4.0, 0.3, 4.0])
    I, t = np.array([10.0, 50, 200]), np.array([0.0, 20, 500])  # noqa: E741
    for k in range(4):
        step = np.eye(4)[k] * 1e-6
        slope = (_curve(theta + step, I, t) - _curve(theta - step, I, t)) / 2e-6
        np.testing.assert_allclose(_slopes(theta, I, t)[:, k], slope, atol=1e-8)


@pytest.mark.parametrize(
    ("pairs", "times"),
    [
        ([(15, 10), (60, 10), (480, 100)], 10),
        ([(30, 10), (120, 100), (480, 100), (120, 10)], 1),
        ([(15, 0), (60, 0), (480, 0), (120, 10)], 10),
    ],
    ids=["three pairs", "four points", "no steps since"],
)
def test_points_that_do_not_determine_the_curve_show_nothing(pairs, times):
    I, t = np.repeat(np.array(pairs, float), times, axis=0).T  # noqa: E741
    for seed in range(10):
        share = np.random.default_rng(seed).binomial(2000, curve(I, t)) / 2000
        fit = fit_forgetting_curve(I, t, share)
        assert fit.best_interval is None
        assert fit.certificates[0].verdict is Verdict.VOID
        assert "determine" in fit.reason


def test_one_group_shows_nothing():
    I, t = np.repeat([75.0, 150, 300, 600, 1200], 4), np.tile([10.0, 30, 100, 300], 5)  # noqa: E741
    share = np.random.default_rng(0).binomial(5000, curve(I, t)) / 5000
    assert fit_forgetting_curve(I, t, share).best_interval is not None
    assert fit_forgetting_curve(I, t, share, groups=np.zeros(20)).best_interval is None


def test_units_of_rows_and_steps_do_not_matter():
    I, t = np.repeat([75.0, 150, 300, 600, 1200], 4), np.tile([10.0, 30, 100, 300], 5)  # noqa: E741
    share = np.random.default_rng(0).binomial(5000, curve(I, t)) / 5000
    one = fit_forgetting_curve(I, t, share).best_interval
    for steps, rows in ((1e-3, 1e-200), (1e3, 1e200)):
        made = fit_forgetting_curve(I, steps * t, share, n=np.full(20, rows)).best_interval
        assert (made.low, made.high) == pytest.approx((one.low, one.high), rel=1e-6)
