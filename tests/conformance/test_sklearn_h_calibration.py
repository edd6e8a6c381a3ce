import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.calibration import HCalibrator

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
