from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits, make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    FixedThresholdClassifier,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    TimeSeriesSplit,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.calibration import HCalibrator
from whp.calibration._h_calibration.estimator import _there_again
from whp.certificate import Status, Verdict

pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks(
    [
        HCalibrator(),
        HCalibrator(LogisticRegression(), cv=0.4, mapping="piecewise", max_iter=10),
        HCalibrator(LogisticRegression(), cv=3),
    ]
)
def test_sklearn_conformance(estimator, check):
    check(estimator)


@pytest.mark.parametrize("cv", [0.5, 3])
def test_a_fit_that_is_refused_or_interrupted_leaves_the_earlier_one(cv, monkeypatch):
    X, y = load_digits(return_X_y=True)
    made = HCalibrator(GaussianNB(var_smoothing=1e-2), cv=cv, random_state=0).fit(X[:900], y[:900])
    before, kept = made.predict_proba(X), made.certificates_
    with pytest.raises(ValueError, match="window must be even"):
        made.set_params(window=201).fit(X[900:], y[900:])

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("whp.calibration._h_calibration.estimator.h_calibration", interrupt)
    made.set_params(window=200)
    with pytest.raises(KeyboardInterrupt):
        made.fit(X[900:], y[900:])
    np.testing.assert_array_equal(made.predict_proba(X), before)
    assert made.certificates_ is kept


def test_names_of_columns_are_those_of_the_last_fit():
    X, y = load_digits(return_X_y=True)
    made = HCalibrator(GaussianNB(var_smoothing=1e-2), cv=0.5, random_state=0)
    assert hasattr(made.fit(pd.DataFrame(X).add_prefix("x"), y), "feature_names_in_")
    assert not hasattr(made.fit(X, y), "feature_names_in_")


def test_prefit_classifier_keeps_its_decisions():
    X, y = load_digits(return_X_y=True)
    names = np.array(list("abcdefghij"))[y]
    inner = GaussianNB(var_smoothing=1e-2).fit(X[::3], names[::3])
    model = HCalibrator(inner, certify=0.3, random_state=0).fit(X[1::3], names[1::3])
    np.testing.assert_array_equal(model.predict(X[2::3]), inner.predict(X[2::3]))
    probs = model.predict_proba(X[2::3])
    np.testing.assert_array_equal(model.classes_[probs.argmax(axis=1)], inner.predict(X[2::3]))
    assert model.calibrator_.beta < 0.5
    assert [c.name for c in model.certificates_][1:3] == ["error-bound", "calibration-test"]


def test_scores_of_a_binary_margin_classifier():
    X, y = load_digits(return_X_y=True)
    X, y = X[y < 2], y[y < 2]
    model = HCalibrator(LinearSVC(), cv=0.5, random_state=0).fit(X, y)
    assert model.predict_proba(X).shape == (len(X), 2)
    assert model.score(X, y) > 0.99


@pytest.mark.parametrize("cv", [5, StratifiedKFold(4, shuffle=True, random_state=0)])
def test_folds_score_rows_that_no_model_saw_and_set_others_aside(cv):
    X, y = load_digits(return_X_y=True)
    model = HCalibrator(GaussianNB(var_smoothing=1e-2), cv=cv, random_state=0).fit(X, y)
    assert model.result_.rows == (1198, 599)
    np.testing.assert_array_equal(model.predict(X), model.estimator_.predict(X))
    assert model.calibrator_.beta == pytest.approx(0.17, abs=0.05)
    band, pooled = model.certificates_[:2]
    assert band.inputs["rows"] == 599
    assert str(pooled.verdict) in ("holds", "inconclusive")
    unused = {a.name: a for a in band.conditions}["unused-rows"]
    assert str(unused.status) == "unchecked"


def test_scores_in_the_fold_are_not_those_of_the_training():
    """A tree knows its training rows by heart; scores out of the fold tell how little it knows."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 3))
    y = (rng.random(600) < 0.5).astype(int)
    model = HCalibrator(DecisionTreeClassifier(random_state=0), cv=5, random_state=0).fit(X, y)
    assert model.result_.metrics.set_index("metric").loc["brier", "before"] > 0.8
    assert abs(model.predict_proba(X)[:, 1] - 0.5).mean() < 0.2


def test_groups_go_with_a_fitted_classifier():
    X, y = load_digits(return_X_y=True)
    inner = GaussianNB(var_smoothing=1e-2).fit(X[:600], y[:600])
    groups = np.arange(len(y) - 600) // 3
    model = HCalibrator(inner, random_state=0).fit(X[600:], y[600:], groups=groups)
    assert model.certificates_[2].inputs["rows"] == pytest.approx(133, abs=3)
    with pytest.raises(ValueError, match="groups needs cv='prefit'"):
        HCalibrator(GaussianNB(), cv=5).fit(X, y, groups=np.arange(len(y)))


def test_complaints():
    X, y = load_digits(return_X_y=True)
    inner = LogisticRegression(max_iter=2000).fit(X, y)
    with pytest.warns(UserWarning, match="did they train it"):
        HCalibrator(inner).fit(X, y)
    with pytest.raises(ValueError, match="cv must be"):
        HCalibrator(inner, cv=1.5).fit(X, y)
    with pytest.raises(ValueError, match="cv must be"):
        HCalibrator(inner, cv="other").fit(X, y)
    with pytest.raises(ValueError, match="cv must be"):
        HCalibrator(inner, cv=1).fit(X, y)
    with pytest.raises(ValueError, match="does not know"):
        HCalibrator(inner).fit(X[:50], y[:50] + 100)


def conditions(certificate):
    return {a.name: a for a in certificate.conditions}


def three(n=1800):
    return make_classification(n, 10, n_informative=6, n_classes=3, random_state=0)


def test_decisions_are_those_inside_and_differences_are_counted():
    X, y = three()
    y = (y == 0).astype(int)
    inner = FixedThresholdClassifier(LogisticRegression(), threshold=0.25).fit(X[:600], y[:600])
    model = HCalibrator(inner, random_state=0).fit(X[600:], y[600:])
    np.testing.assert_array_equal(model.predict(X), inner.predict(X))
    kept = model.certificates_[3]
    other = inner.predict(X[600:]) != model.predict_proba(X[600:]).argmax(axis=1)
    assert other.sum() > 20
    assert kept.verdict is Verdict.FAILS
    assert kept.measured is not None
    assert kept.measured.value == other.sum()
    folds = HCalibrator(FixedThresholdClassifier(LogisticRegression(), threshold=0.25), cv=3)
    assert folds.fit(X, y).certificates_[3].verdict is Verdict.FAILS
    plain = HCalibrator(LogisticRegression(), cv=3, random_state=0).fit(X, y)
    assert plain.certificates_[3].verdict is Verdict.HOLDS


def test_columns_of_pairs_are_refused():
    X, y = three(600)
    for wrap in (lambda m: m, make_pipeline):
        inner = wrap(SVC(decision_function_shape="ovo")).fit(X[:300], y[:300])
        with pytest.raises(ValueError, match="columns of pairs"):
            HCalibrator(inner).fit(X[300:], y[300:])
    inner = SVC().fit(X[:300], y[:300])
    model = HCalibrator(inner, random_state=0).fit(X[300:], y[300:])
    assert model.score(X[300:], y[300:]) == inner.score(X[300:], y[300:])


def test_large_margins_are_not_cut():
    """Decisions of a margin far below -1e6 are kept."""

    class Margins(ClassifierMixin, BaseEstimator):
        def fit(self, X, y):
            self.classes_ = np.unique(y)
            return self

        def decision_function(self, X):
            return -1e9 + 1e7 * X[:, :3]

        def predict(self, X):
            return self.classes_[X[:, :3].argmax(axis=1)]

    X, y = three(600)
    model = HCalibrator(Margins().fit(X, y), random_state=0).fit(X, y)
    assert model.certificates_[3].verdict is Verdict.HOLDS
    np.testing.assert_array_equal(model.predict_proba(X).argmax(axis=1), X[:, :3].argmax(axis=1))


@pytest.mark.parametrize(
    "cv", [ShuffleSplit(3, random_state=0), TimeSeriesSplit(3), RepeatedKFold(n_splits=3)]
)
def test_splits_that_are_no_partition_are_refused(cv):
    X, y = three(300)
    with pytest.raises(ValueError, match="must part the rows, each into one fold"):
        HCalibrator(LogisticRegression(), cv=cv).fit(X, y)


def test_scores_of_clones_are_not_compared_with_those_of_the_model():
    X, y = make_classification(1200, 200, n_informative=8, n_classes=3, random_state=0)
    model = HCalibrator(LogisticRegression(max_iter=200), cv=2, random_state=0).fit(X, y)
    for certificate in model.certificates_[:3]:
        assert certificate.verdict is not Verdict.VOID
        assert conditions(certificate)["one-law"].status is Status.UNCHECKED
        assert "clones" in conditions(certificate)["one-law"].evidence


def test_weights_are_refused_and_not_taken_for_groups():
    X, y = three(300)
    model = HCalibrator(LogisticRegression(), cv=0.5)
    with pytest.raises(TypeError, match="fit takes X, y and groups, not sample_weight"):
        model.fit(X, y, sample_weight=np.ones(300))
    fit: Any = model.fit
    with pytest.raises(TypeError, match="positional"):
        fit(X, y, np.ones(300))


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("cv", [0.5, 3])
def test_rows_of_x_that_are_there_again_void_the_certificates(cv, frame):
    X, y = make_classification(400, 8, n_informative=4, flip_y=0.2, random_state=0)
    again = np.repeat(np.arange(400), 3)
    many, classes = (pd.DataFrame(X) if frame else X), y[again]
    many = many.iloc[again] if frame else many[again]
    inner = DecisionTreeClassifier(min_samples_leaf=4, random_state=0)
    model = HCalibrator(inner, cv=cv, random_state=0).fit(many, classes)
    found = model.certificates_[0]
    assert found.verdict is Verdict.VOID
    independent = {c.name: c for c in found.conditions}["independent-events"]
    assert "100.0% of the rows of X are there more than once" in independent.evidence
    once = HCalibrator(inner, cv=cv, random_state=0).fit(X, y).certificates_[0]
    assert {c.name: c for c in once.conditions}["independent-events"].status is Status.UNCHECKED
    groups = HCalibrator(clone(inner).fit(X[::2], y[::2]), random_state=0)
    groups.fit(many, classes, groups=again)
    kept = {c.name: c for c in groups.certificates_[0].conditions}["independent-events"]
    assert kept.status is Status.UNCHECKED


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_ties_of_a_forest_that_is_nearly_always_right_are_no_copies(seed):
    # One temperature does not repair it: by the map's probabilities tied rows would often differ.
    X, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(30, random_state=0)
    model = HCalibrator(forest, cv=0.5, random_state=seed).fit(X, y)
    copies = {c.name: c for c in model.certificates_[0].conditions}["no-near-copies"]
    assert copies.status is Status.UNCHECKED, copies.evidence


def test_rows_that_are_alike_by_chance_are_not_there_again():
    g = np.random.default_rng(0)
    letters = pd.DataFrame({"a": g.choice(list("xyz"), 600), "b": g.integers(0, 5, 600)})
    rounded = pd.DataFrame({"price": g.random(600).round(2), "kind": g.choice(list("xy"), 600)})
    empty = (g.random((600, 40)) < 0.03) * g.random((600, 40))
    for X in (letters, rounded, empty, load_digits().data, sparse.csr_array(np.ones((4, 2)))):
        assert _there_again(X) == 0
    for X in (["one text", "one text"], [["a"], ["a"]], [[["no"], 1], [["number"], 2]]):
        assert _there_again(X) == 0


class _Unsorted(ClassifierMixin, BaseEstimator):
    """A classifier whose classes come in another order than the alphabet's, as catboost's may."""

    def fit(self, X, y):
        self.inner_ = LogisticRegression().fit(X, y)
        self.classes_ = np.array(["yes", "no"])
        return self

    def predict_proba(self, X):
        return self.inner_.predict_proba(X)[:, ::-1]

    def predict(self, X):
        return self.inner_.predict(X)


def test_classes_in_any_order():
    X, y = make_classification(600, 5, flip_y=0.2, random_state=0)
    names = np.where(y == 1, "yes", "no")
    options = {"cv": 0.5, "certify": 0, "random_state": 0}  # all other rows fit, in any order
    usual = HCalibrator(LogisticRegression(), **options).fit(X, names)
    other = HCalibrator(_Unsorted(), **options).fit(X, names)
    assert other.classes_.tolist() == ["yes", "no"]
    np.testing.assert_array_equal(other.predict(X), usual.predict(X))
    np.testing.assert_allclose(other.predict_proba(X)[:, ::-1], usual.predict_proba(X), atol=1e-6)
