import numpy as np
import pytest

from whp.optim import SSOClassifier, SSORegressor
from whp.studies.target_surrogates.experiments import breast_cancer


def small_problem():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 4))
    y = X @ rng.normal(size=4) + rng.normal(size=60)
    return X, y, np.linalg.lstsq(X, y, rcond=None)[0]


def test_ridge_is_that_of_scikit_learn():
    from sklearn.linear_model import Ridge

    X, y, _ = small_problem()
    ours = SSORegressor(alpha=0.3, max_iter=50).fit(X, y)
    theirs = Ridge(alpha=0.3 * len(y)).fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
    assert ours.intercept_ == pytest.approx(theirs.intercept_, abs=1e-6)


def test_estimators_agree_with_the_front_door_and_with_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    X, y = breast_cancer()
    ours = SSOClassifier(max_iter=400, fit_intercept=False, alpha=1e-2).fit(X, y)
    theirs = LogisticRegression(C=1 / (1e-2 * len(y)), fit_intercept=False, max_iter=2000).fit(X, y)
    assert (ours.predict(X) == theirs.predict(X)).mean() > 0.995
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=0.02)
    assert ours.certificate_.name == "majorisation"
    assert ours.n_oracle_ == len(ours.history_)


def test_several_classes_poisson_and_partial_fit():
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    names = np.array(["a", "b", "c"])[y]
    model = SSOClassifier(max_iter=200).fit(X, names)
    assert model.score(X, names) > 0.95
    assert model.coef_.shape == (3, 4)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)
    stream = SSOClassifier()
    for _ in range(60):
        stream.partial_fit(X, names, classes=["a", "b", "c"])
    assert stream.score(X, names) > 0.9
    with pytest.raises(ValueError, match="classes"):
        SSOClassifier().partial_fit(X, names)
    with pytest.raises(ValueError, match="y must hold classes"):
        stream.partial_fit(X[:1], ["d"])
    rng = np.random.default_rng(0)
    counts = rng.poisson(np.exp(0.5 * X[:, 0] - 2))
    poisson = SSORegressor(loss="poisson", max_iter=300).fit(X, counts)
    assert (poisson.predict(X) > 0).all()
    assert poisson.predict(X).mean() == pytest.approx(counts.mean(), rel=0.05)
    with pytest.raises(ValueError, match="y must be at least 0"):
        SSORegressor(loss="poisson").fit(X, -counts - 1.0)


def test_the_certificate_is_of_the_last_call_and_of_its_rows():
    X, y, _ = small_problem()
    model = SSORegressor(batch_size=20).partial_fit(X[:30], y[:30])
    assert model.certificate_.inputs["steps"] == 1
    assert all("all rows" not in a.statement for a in model.certificate_.conditions)
    for rule in ("newton", "sls"):
        labels = (y > 0).astype(int)
        long = SSOClassifier(rule=rule, max_iter=5).fit(X, labels)
        # Both take steps above 1/L: the certificate is about the surrogate that was minimised.
        steps = long.history_["eta"].max() * 0.25
        assert (str(long.certificate_.verdict) == "void") == (steps > 1 + 1e-9)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"m": 5}, "m,"),
        ({"projection": "batch"}, "batch_size"),
        ({"batches": "passes"}, "batch_size"),
        ({"eta": 1.0, "rule": "sls"}, "eta"),
        ({"eta": 0}, "eta"),
        ({"solver": "qr"}, "solver"),
        ({"loss": "poisson", "rule": "sgd"}, "eta"),
    ],
)
def test_what_would_be_ignored_is_refused(options, named):
    X, y, _ = small_problem()
    with pytest.raises(ValueError, match=named):
        SSORegressor(**options).fit(X, np.abs(y))


def test_an_intercept_cannot_come_or_go_between_batches():
    X, y, _ = small_problem()
    model = SSORegressor().partial_fit(X, y).set_params(fit_intercept=False)
    with pytest.raises(ValueError, match="fit_intercept must stay"):
        model.partial_fit(X, y)


def test_data_beyond_all_scales_are_refused():
    X, y, _ = small_problem()
    with pytest.raises(ValueError, match=r"X reaches .*; scale it"):
        SSORegressor().fit(1e150 * X, y)
    with pytest.raises(ValueError, match=r"y reaches .*; scale it"):
        SSORegressor().fit(X, np.full(60, 1e308))


def test_the_intercept_is_never_penalised():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = 1000 + X[:, 0]
    assert SSORegressor(alpha=1.0).fit(X, y).intercept_ == pytest.approx(1000, abs=1)


@pytest.mark.parametrize(
    "options", [{"schedule": "sqrt"}, {"rule": "adagrad", "eta": 1.0}, {"rule": "adagrad-diag"}]
)
def test_what_goes_over_steps_is_refused_batch_by_batch(options):
    X, y, _ = small_problem()
    with pytest.raises(ValueError, match="schedule must be"):
        SSORegressor(**options).partial_fit(X, y)


def test_classes_stay_as_at_the_first_call():
    X, y, _ = small_problem()
    labels = np.where(y > 0, "b", "a")
    model = SSOClassifier().partial_fit(X, labels, classes=["a", "b"])
    model.partial_fit(X, labels, classes=["b", "a"])
    with pytest.raises(ValueError, match="classes must stay"):
        model.partial_fit(X, labels, classes=["a", "b", "c"])
    before = model.predict(X)
    with pytest.raises(ValueError, match="max_iter"):
        model.set_params(max_iter=-1).fit(X, np.where(y > 0, "d", "c"))
    assert np.array_equal(model.predict(X), before)


@pytest.mark.parametrize("shape", [(40, 1), (1, 3)])
@pytest.mark.parametrize("unit", [0.0, 1.0])
def test_conjugate_gradients_of_one_column_or_of_nothing(shape, unit):
    rng = np.random.default_rng(0)
    X, y = unit * rng.normal(size=shape), rng.normal(size=shape[0])
    model, direct = (
        SSORegressor(solver=s, fit_intercept=False).fit(X, y) for s in ("cg", "direct")
    )
    assert model.coef_ == pytest.approx(direct.coef_, abs=1e-8)
