import numpy as np
import pytest

from whp.online import OnlineRidge, groupwise_regret


@pytest.mark.parametrize(
    ("forecaster", "said", "loss", "executed"),
    [
        ("vaw", (0, 0.0235294118, 0.2615384615, 0.3627906977), 1.2334079846, 0.7766637986),
        ("ridge", (0, 0.05, 0.4, 0.6), 0.9225, 0.4657558140),
    ],
)
def test_4_ridge_and_vaw(forecaster, said, loss, executed):
    learner = OnlineRidge(2, forecaster=forecaster)
    for x, y, z in zip(((1, 0), (0.5, 1), (0, 1), (1, 1)), (0.2, 0.9, 0.4, 1), said, strict=True):
        assert learner.predict_one(x) == pytest.approx(z, abs=1e-9)
        learner.learn_one(x, y)
    assert learner.loss == pytest.approx(loss, abs=1e-9)
    assert learner.hindsight() == pytest.approx((0.4567441860, 0.1545484045), abs=1e-9)
    # Nothing was clipped, so that the bound is attained.
    assert learner.bound() == pytest.approx(executed, abs=1e-9)
    assert learner.loss - learner.hindsight()[0] == pytest.approx(executed, abs=1e-9)
    assert learner.rounds == 4


@pytest.mark.parametrize("forecaster", ["ridge", "vaw"])
def test_4_the_executed_bound_holds_with_clipping(forecaster):
    for rng in np.random.default_rng(0).spawn(100):
        learner = OnlineRidge(3, lam=float(rng.uniform(0.1, 2)), forecaster=forecaster)
        for _ in range(40):
            x = 2 * rng.standard_normal(3)
            learner.predict_one(x)
            learner.learn_one(x, float(rng.integers(2)))
        assert (
            learner.loss - learner.hindsight()[0]
            <= learner.bound() + 1e-9
            <= learner._sums[7] + 2e-9
        )


def test_losses_are_in_units_of_the_target():
    rng = np.random.default_rng(0)
    one, ten = OnlineRidge(2), OnlineRidge(2, clip=(0, 10))
    for _ in range(100):
        x, y = np.append(rng.random(), 1.0), float(rng.random() < 0.5)
        assert ten.predict_one(x) == pytest.approx(10 * one.predict_one(x))
        one.learn_one(x, y)
        ten.learn_one(x, 10 * y)
    for name in ("loss", "bound", "hindsight"):
        mine, theirs = (getattr(r, name) for r in (one, ten))
        mine, theirs = (v() if callable(v) else v for v in (mine, theirs))
        assert np.array(theirs) == pytest.approx(100 * np.array(mine))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("forecaster", ["ridge", "vaw"])
def test_features_of_any_scale(scale, forecaster):
    """Correlated columns of scale 1e8 against a solution by QR of all rows."""
    rng = np.random.default_rng(0)
    X = rng.random((2500, 3))
    X[:, 2] = X[:, 0] + 0.1 * X[:, 2]
    y = np.clip(X[:, 0] - 0.3 * X[:, 1] + 0.05 * rng.standard_normal(2500), 0, 1)
    made = groupwise_regret(X * scale, y, target_range=(0, 1), forecaster=forecaster)
    stacked = np.vstack([X * scale, np.eye(3)])
    best = float(np.linalg.lstsq(stacked, np.append(y, np.zeros(3)))[1][0])
    ours = made.report.loc[0, "best"]
    assert ours == pytest.approx(best, rel=1e-6)
    assert made.certificates[0].measured.high >= made.report.loc[0, "loss"] - best - 1e-9
    assert str(made.certificates[0].verdict) == "holds"


def test_the_optimum_of_columns_that_are_nearly_equal():
    """Unix times whose difference matters: by the Gram matrix it came out as 32, not .38."""
    rng = np.random.default_rng(0)
    start, apart = 1.6e9 + np.sort(rng.random(1000)) * 1.6e7, 100 * rng.random(1000)
    X = np.column_stack([start, start + apart, np.ones(1000)])
    y = 0.2 + 0.6 * apart / 100 + 0.02 * rng.standard_normal(1000)
    learner = OnlineRidge(3)
    for row, target in zip(X, y, strict=True):
        learner.learn_one(row, target)
    stacked, right = np.vstack([X, np.eye(3)]), np.append(y, np.zeros(3))
    best = ((right - stacked @ np.linalg.lstsq(stacked, right)[0]) ** 2).sum()
    assert learner.hindsight()[0] == pytest.approx(best, rel=1e-6)
    assert learner.in_hindsight().rounding < 1e-4


def test_a_column_given_twice_explains_nothing_more():
    rng = np.random.default_rng(0)
    x, y = 1e12 * rng.random((300, 3)), rng.random(300)
    once, twice = OnlineRidge(3, lam=1e-12), OnlineRidge(4, lam=1e-12)
    for row, target in zip(x, y, strict=True):
        once.learn_one(row, target)
        twice.learn_one([*row, row[0]], target)
    assert twice.hindsight()[0] == pytest.approx(once.hindsight()[0], rel=1e-9)


def test_entries_too_large_for_their_squares_are_refused():
    for x, lam in (([1e200], 1.0), ([1e10], 1e-300)):
        with pytest.raises(ValueError, match="x must have entries of at most"):
            OnlineRidge(1, lam=lam).learn_one(x, 0.5)
