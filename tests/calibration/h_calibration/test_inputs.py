import numpy as np
import pandas as pd
import pytest

from whp.calibration import h_calibration
from whp.calibration._h_calibration.inputs import as_classes, as_logits
from whp.studies.h_calibration.worlds import law

pytestmark = pytest.mark.filterwarnings("ignore:window is reduced")
P = np.random.default_rng(0).dirichlet([1, 1, 1], 200)


@pytest.mark.parametrize("decimals", [2, 3, 6])
def test_rounded_probabilities_are_probabilities_and_it_is_said(decimals):
    rounded = np.round(P, decimals)
    off = np.abs(rounded.sum(axis=1) - 1).max()
    if off > 1e-6:
        with pytest.warns(UserWarning, match="rounded probabilities do; each row is divided"):
            z, probs = as_logits(rounded, "logits", None)
    else:
        z, probs = as_logits(rounded, "logits", None)
    assert probs
    np.testing.assert_allclose(np.exp(z).sum(axis=1), 1, atol=1e-12)


def test_half_precision_is_read_as_probabilities():
    with pytest.warns(UserWarning, match="divided by its sum"):
        z, probs = as_logits(P.astype(np.float16), "logits", None)
    assert probs
    np.testing.assert_allclose(np.exp(z), P, atol=1e-3)


def test_scores_that_may_be_either_are_refused_unless_told():
    one = np.linspace(0, 1, 50)
    with pytest.raises(ValueError, match=r"lies in \[0, 1\]: say from_probs=True"):
        as_logits(one, "logits", None)
    assert as_logits(one, "logits", True)[1]
    assert not as_logits(one, "logits", False)[1]
    sigmoids = np.random.default_rng(0).random((50, 3))
    with pytest.raises(ValueError, match=r"sums to .*: say from_probs=False"):
        as_logits(sigmoids, "logits", None)
    assert not as_logits(sigmoids, "logits", False)[1]
    with pytest.raises(ValueError, match="rows that sum to 1"):
        as_logits(sigmoids, "logits", True)


def test_zeros_and_infinities_stay_finite():
    z, _ = as_logits(np.array([[1.0, 0.0], [0.5, 0.5]]), "logits", None)
    assert np.isfinite(z).all()
    z, _ = as_logits(np.array([[-np.inf, 0.0], [3.0, 1.0]]), "logits", None)
    assert z[0].tolist() == [-700, 0]


def classes_of(y, scores, classes=None, columns=2):
    return as_classes(y, "y", len(y), scores, classes, columns).tolist()


def frame(*names):
    return pd.DataFrame(np.zeros((1, len(names))), columns=list(names))


def test_names_are_bound_by_the_columns_or_by_classes_never_by_the_alphabet():
    y = ["yes", "no", "yes"]
    assert classes_of(y, frame("p_yes", "p_no")) == [0, 1, 0]
    assert classes_of(y, np.zeros((3, 2)), ("yes", "no")) == [0, 1, 0]
    assert classes_of(y, np.zeros((3, 2)), ["no", "yes"]) == [1, 0, 1]
    with pytest.raises(ValueError, match="alphabetical order is not assumed"):
        classes_of(y, np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"y holds 'B', 'M', but the columns are p_benign, p_mal"):
        classes_of(["B", "M", "B"], frame("p_benign", "p_malignant"))
    with pytest.raises(ValueError, match="y holds 'maybe', which classes do not name"):
        classes_of(["yes", "maybe"], np.zeros((2, 2)), ("yes", "no"))
    with pytest.raises(ValueError, match="each of the 2 columns once"):
        classes_of(y, np.zeros((3, 2)), ("yes", "no", "maybe"))


def test_numbers_are_columns_unless_the_columns_say_otherwise():
    assert classes_of([0, 1, 1], np.zeros((3, 2))) == [0, 1, 1]
    assert classes_of([0.0, 1.0], frame("a", "b")) == [0, 1]
    assert classes_of(["0", "1"], frame("a", "b")) == [0, 1]
    assert classes_of([1, 2, 3], frame("p_1", "p_2", "p_3"), columns=3) == [0, 1, 2]
    assert classes_of([0, 1, 2], frame("p_2", "p_1", "p_0"), columns=3) == [2, 1, 0]
    assert classes_of([-1, 1], np.zeros((2, 2)), (-1, 1)) == [0, 1]
    assert classes_of([-1.0, 1.0], np.zeros((2, 2)), ("-1", "1")) == [0, 1]
    with pytest.raises(ValueError, match=r"numbers other than 0 to 1 .*pass classes="):
        classes_of([-1, 1], np.zeros((2, 2)))
    with pytest.raises(ValueError, match="lacks one"):
        classes_of([0.0, np.nan], np.zeros((2, 2)))


def test_a_bool_is_a_class_of_two():
    assert classes_of([True, False], np.zeros((2, 2)), (False, True)) == [1, 0]


def test_the_order_of_named_columns_does_not_matter():
    _, z, y = law(np.random.default_rng(0), [0.5] * 4, 500)
    names = np.array(["ant", "bee", "cat", "dog"])
    order = [2, 0, 3, 1]
    table = pd.DataFrame(z, columns=names)
    first = h_calibration(table, names[y], certify=0.0, rng=0)
    second = h_calibration(table[names[order]], names[y], certify=0.0, rng=0)
    assert second.map.beta == pytest.approx(first.map.beta, rel=1e-6)
    assert first.map.beta == pytest.approx(0.5, rel=0.3)


def test_columns_in_the_wrong_order_are_told_by_accuracy():
    _, z, y = law(np.random.default_rng(0), [0.2] * 4, 500)
    with pytest.warns(UserWarning, match="are the classes those of the columns"):
        h_calibration(z, (y + 1) % 4, rng=0)


def test_tensors_that_require_grad_are_read():
    torch = pytest.importorskip("torch")
    z, _ = as_logits(torch.zeros(3, 2, requires_grad=True) - 1, "logits", None)
    assert z.shape == (3, 2)
