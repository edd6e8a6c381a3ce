import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.calibration._h_calibration import HCalibrator

pytestmark = pytest.mark.filterwarnings("ignore")


@parametrize_with_checks(
    [HCalibrator(), HCalibrator(LogisticRegression(), cv=0.4, mapping="piecewise", max_iter=10)]
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
    assert [c.name for c in model.certificates_][:2] == ["error-bound", "calibration-test"]


def test_scores_of_a_binary_margin_classifier():
    X, y = load_digits(return_X_y=True)
    X, y = X[y < 2], y[y < 2]
    model = HCalibrator(LinearSVC(), cv=0.5, random_state=0).fit(X, y)
    assert model.predict_proba(X).shape == (len(X), 2)
    assert model.score(X, y) > 0.99


def test_complaints():
    X, y = load_digits(return_X_y=True)
    inner = LogisticRegression(max_iter=2000).fit(X, y)
    with pytest.warns(UserWarning, match="did they train it"):
        HCalibrator(inner).fit(X, y)
    with pytest.raises(ValueError, match="cv must be"):
        HCalibrator(inner, cv=1.5).fit(X, y)
    with pytest.raises(ValueError, match="cv must be"):
        HCalibrator(inner, cv="other").fit(X, y)
    with pytest.raises(ValueError, match="does not know"):
        HCalibrator(inner).fit(X[:50], y[:50] + 100)
