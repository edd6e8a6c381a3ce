import warnings

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.certificate import Status, Verdict
from whp.datasets.streams import breast_cancer
from whp.online import OptimisticClassifier, OptimisticRegressor, optimistic_mirror_descent

ESTIMATORS = [
    OptimisticClassifier(),
    OptimisticClassifier(l2=0.1, batch_size=3),
    OptimisticClassifier(curvature="exp_concave", radius=1.0),
    OptimisticRegressor(),
]


@parametrize_with_checks(ESTIMATORS)
def test_sklearn_conformance(estimator, check):
    check(estimator)


SETTINGS = [
    {},
    {"l2": 0.1},
    {"curvature": "exp_concave", "radius": 1.0},
    {"dynamic": True, "horizon": 200},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_block_rowwise_dictionaries_and_front_door_agree(settings):
    X, y = (v[:200] for v in breast_cancer())
    block = OptimisticClassifier(**settings).partial_fit(X, y, classes=[-1, 1])
    rows = OptimisticClassifier(**settings)
    for i in range(len(X)):
        rows.partial_fit(X[i : i + 1], y[i : i + 1], classes=[-1, 1])
    one = OptimisticClassifier(**settings)
    for x, label in zip(X, y, strict=True):
        one.learn_one(dict(enumerate(x)), label == 1)
    options = {k: v for k, v in settings.items() if k != "horizon"}
    door = optimistic_mirror_descent(X, y, **options)
    for other in (rows, one):
        np.testing.assert_allclose(other.coef_, block.coef_, atol=1e-12)
        np.testing.assert_allclose(other.intercept_, block.intercept_, atol=1e-12)
    following = block.learners_[0]
    assert following.gradient_variation == pytest.approx(door.variation.sum(), abs=1e-10)
    assert one.predict_one(dict(enumerate(X[0]))) == (block.predict(X[:1])[0] == 1)


def test_batches_of_dictionaries_are_batches():
    X, y = (v[:90] for v in breast_cancer())
    block = OptimisticClassifier(batch_size=3).partial_fit(X, y, classes=[-1, 1])
    one = OptimisticClassifier(batch_size=3)
    for x, label in zip(X, y, strict=True):
        one.learn_one(dict(enumerate(x)), label == 1)
    np.testing.assert_allclose(one.coef_, block.coef_, atol=1e-12)


def test_new_names_grow_the_vector_as_if_they_had_been_zero():
    X, y = (v[:60].copy() for v in breast_cancer())
    X[:30, 7:] = 0
    full, grown = OptimisticClassifier(), OptimisticClassifier()
    for i, (x, label) in enumerate(zip(X, y, strict=True)):
        full.learn_one(dict(enumerate(x)), label == 1)
        grown.learn_one(dict(enumerate(x[:7] if i < 30 else x)), label == 1)
    np.testing.assert_allclose(grown.coef_, full.coef_, atol=1e-12)
    assert grown.certificates_[0].bound == pytest.approx(full.certificates_[0].bound, rel=1e-12)
    assert grown.predict_proba_one({"never": 1.0}).keys() == {False, True}


def test_one_certificate_a_class():
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    model = OptimisticClassifier().fit(np.tile(X[order], (5, 1)), np.tile(y[order], 5))
    assert len(model.certificates_) == 3
    assert {c.verdict for c in model.certificates_} == {Verdict.HOLDS}
    assert model.score(X, y) > 0.8
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1)


def test_works_in_rivers_progressive_validation():
    pytest.importorskip("river")
    from river import datasets, evaluate, metrics

    model = OptimisticClassifier()
    result = evaluate.progressive_val_score(datasets.Phishing(), model, metrics.LogLoss())
    assert result.get() < 0.6  # ln 2 = 0.69 knows nothing
    regressor = OptimisticRegressor()
    stream = [({"a": a}, a / 2) for a in np.random.default_rng(0).uniform(-1, 1, 300)]
    assert evaluate.progressive_val_score(stream, regressor, metrics.MAE()).get() < 0.2


def test_misuse_is_named():
    X, y = (v[:20] for v in breast_cancer())
    with pytest.raises(ValueError, match="classes must be passed"):
        OptimisticClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="classes must be those of the first call"):
        OptimisticClassifier().partial_fit(X, y, classes=[-1, 1]).partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match="y must hold the classes"):
        OptimisticClassifier().learn_one({"a": 1.0}, "spam")
    with pytest.raises(ValueError, match="horizon"):
        OptimisticClassifier(dynamic=True).partial_fit(X, y, classes=[-1, 1])
    with pytest.raises(ValueError, match="finite"):
        OptimisticClassifier().learn_one({"a": float("nan")}, True)
    with pytest.raises(TypeError, match="x must be a dictionary"):
        OptimisticClassifier().learn_one([1.0], True)
    with pytest.raises(ValueError, match="radius"):
        OptimisticClassifier(radius=0.0).fit(X, y)
    with pytest.raises(ValueError, match="target_bound"):
        OptimisticRegressor(curvature="exp_concave").fit(X, X[:, 0])


def test_targets_beyond_the_radius_are_said_once():
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(UserWarning, match="y reaches .* radius = 5"):
        model = OptimisticRegressor().fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.partial_fit(X, y)
        OptimisticRegressor(radius=400.0).fit(X, y)


def test_a_pass_knows_its_points_and_calls_do_not():
    X, y = breast_cancer()
    model = OptimisticClassifier().fit(X, y)

    def played():
        return next(
            a for a in model.certificates_[0].conditions if a.name == "at-the-point-played"
        ).status

    assert played() == Status.BY_CONSTRUCTION
    model.partial_fit(X[:5], y[:5])
    assert played() == Status.UNCHECKED


def test_settings_that_change_on_the_way_are_refused():
    X, y = breast_cancer()
    model = OptimisticClassifier().partial_fit(X, y, classes=[-1, 1]).set_params(radius=0.1)
    with pytest.raises(ValueError, match=r"radius must stay 5.0.*got 0.1"):
        model.partial_fit(X, y)
    model.fit(X, y)
    assert model.certificates_[0].inputs["D"] == 0.2


def test_a_bad_row_costs_nothing():
    model = OptimisticClassifier(batch_size=3)
    model.learn_one({"a": 1.0}, True)
    for bad in ({"a": float("nan")}, {"a": "1.0"}):
        with pytest.raises(ValueError, match=r"x\['a'\] must be a finite number"):
            model.learn_one(bad, True)
    with pytest.raises(ValueError, match="y must hold the classes"):
        model.learn_one({"a": 1.0}, "spam")
    model.learn_one({"a": 1.0}, False)
    model.learn_one({"a": 2.0}, True)
    assert model.learners_[0].rounds == 1
