import numpy as np
import pandas as pd
import pytest

from whp.calibration import Fitting, HCalibrationMap, band, h_calibration
from whp.calibration._h_calibration.maps import softmax, standardise
from whp.certificate import Status, Verdict
from whp.scores import as_classes, as_logits
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
    assert z[0].tolist() == [-np.inf, 0]
    assert standardise(z)[0].tolist() == [-1e60, 0]
    assert HCalibrationMap.temperature(1e-6)(z)[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="finite entry in every row"):
        HCalibrationMap.temperature(1.0)([[-np.inf, -np.inf]])


@pytest.mark.parametrize("mapping", ["temperature", "ensemble", "piecewise", "monotone"])
def test_impossible_classes_stay_impossible_and_change_no_fit(mapping):
    """Finite logits of thousands are never overtaken by a class that is masked by -infinity."""
    if mapping == "monotone":
        pytest.importorskip("torch")
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 400)
    masked = np.column_stack([300 * z, np.full((400, 3), -np.inf)])
    options = {"mapping": mapping, "fitting": Fitting(window=20, max_iter=5), "rng": 0}
    found = h_calibration(masked, y, **options)
    assert (found.probs[:, 3:] == 0).all()
    kept = {c.name: c for c in found.certificates}["accuracy-preserved"]
    assert kept.verdict is Verdict.HOLDS
    assert kept.inputs["scores of -infinity"] == 1200
    if mapping == "temperature":
        plain = h_calibration(300 * z, y, **options)
        assert np.log(found.map.beta / plain.map.beta) == pytest.approx(0, abs=0.7)
    near = {c.name: c for c in found.certificates[0].conditions}["no-near-copies"]
    assert near.status is Status.NOT_REFUTED


def test_a_probability_just_below_0_is_0():
    Q = P.copy()
    Q[3] = [0.4, 0.6, -1e-17]
    z, probs = as_logits(Q, "logits", None)
    assert probs
    np.testing.assert_allclose(np.exp(z[3]), [0.4, 0.6, 0], atol=1e-15)
    table = band(Q, np.zeros(200, int))
    assert table["lowest"].min() == 0
    Q[3] = [0.4, 0.6, -1e-3]
    assert not as_logits(Q, "logits", None)[1]


def test_percentages_are_refused_unless_they_are_scores():
    for scores in (100 * P, np.round(100 * P), 100 * P[:, 0]):
        with pytest.raises(ValueError, match="looks like percentages: divide by 100"):
            as_logits(scores, "logits", None)
        assert not as_logits(scores, "logits", False)[1]


def test_columns_that_are_no_scores_are_refused():
    names, n = ["p_0", "p_1", "p_2"], np.arange(200)
    table, y = pd.DataFrame(P, columns=names), P.argmax(axis=1)
    others = [table.assign(id=n), table.assign(pred=y), table.assign(age=20 + 60 * P[:, 0])]
    for other in others:
        with pytest.raises(ValueError, match="is unlike the others"):
            h_calibration(other, y)
    two = pd.DataFrame({"id": n, "score": P[:, 0]})
    with pytest.raises(ValueError, match="scores only, a column a class; id is unlike"):
        h_calibration(two, y == 0)
    with pytest.raises(ValueError, match="column 0 is unlike"):
        h_calibration(two.to_numpy(), y == 0)
    reference = np.column_stack(
        [np.zeros(200), np.log(P[:, 1] / P[:, 0])]
    )  # one class's logit is 0
    assert h_calibration(reference, y > 0, rng=0).map.beta > 0


def test_columns_of_the_test_table_are_put_in_order():
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 900)
    names = np.array(["ant", "bee", "cat"])
    table, text = pd.DataFrame(z, columns=names), names[y]
    fit, other = table[:600], table[600:]
    options = {"y_test": text[600:], "rng": 0}
    first = h_calibration(fit, text[:600], logits_test=other, **options)
    second = h_calibration(fit, text[:600], logits_test=other[["cat", "ant", "bee"]], **options)
    np.testing.assert_array_equal(first.probs_test, second.probs_test)
    assert first.certificates == second.certificates
    with pytest.raises(ValueError, match="logits_test must have the columns of logits"):
        h_calibration(fit, text[:600], logits_test=other.rename(columns={"cat": "dog"}), **options)


def test_both_samples_read_labels_alike():
    """Labels 0 to 2 are columns, though those of the test sample alone would be names of columns."""
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 900)
    table = pd.DataFrame(z, columns=["p_1", "p_2", "p_3"])
    kept = y > 0
    named = h_calibration(table, y, logits_test=table[kept], y_test=y[kept], rng=0)
    plain = h_calibration(z, y, logits_test=z[kept], y_test=y[kept], rng=0)
    pd.testing.assert_frame_equal(named.metrics, plain.metrics)
    kept = y < 2  # and the other way round
    swapped = h_calibration(table[~kept], y[~kept], logits_test=table, y_test=y, rng=0)
    assert swapped.metrics.equals(
        h_calibration(z[~kept], y[~kept], logits_test=z, y_test=y, rng=0).metrics
    )


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
    assert classes_of(np.array([True, False]), np.zeros((2, 2))) == [1, 0]
    assert classes_of([True, False], frame("a", "b")) == [1, 0]
    assert classes_of([True, False], frame("p_True", "p_False")) == [0, 1]
    assert classes_of([True, False], np.zeros((2, 2)), (False, True)) == [1, 0]


@pytest.mark.parametrize(
    "names", [("p_1", "p_0"), ("1", "0"), ("True", "False"), ("p_True", "p_False")]
)
@pytest.mark.parametrize("labels", [[True, False], [1, 0], [1.0, 0.0], ["1", "0"]])
def test_true_and_false_are_one_and_zero(names, labels):
    assert classes_of(np.array(labels), frame(*names)) == [0, 1]
    assert classes_of(np.array(labels), frame(*names[::-1])) == [1, 0]


@pytest.mark.parametrize("name", ["p_0", "prob_0", "logit0", "score_False", "P_0"])
def test_one_column_named_after_the_first_class_is_refused(name):
    for labels in ([0, 1], [False, True], ["0", "1"]):
        with pytest.raises(
            ValueError, match=f"the one column, {name}, bears the name of the first"
        ):
            as_classes(np.array(labels), "y", 2, frame(name), None, 2)
    assert list(as_classes([0, 1], "y", 2, frame(name), (1, 0), 2)) == [1, 0]


@pytest.mark.parametrize("name", ["0", "score", "p_1", "p", "logit", "p_10"])
def test_one_column_of_another_name_is_the_second_class(name):
    assert list(as_classes([0, 1], "y", 2, frame(name), None, 2)) == [0, 1]


def test_one_column_named_after_a_class_fits_classes():
    y = np.array(["benign", "malignant"])
    for name in ("p_malignant", "malignant"):
        assert list(as_classes(y, "y", 2, frame(name), ("benign", "malignant"), 2)) == [0, 1]
        with pytest.raises(ValueError, match="bears the name of the first"):
            as_classes(y, "y", 2, frame(name), ("malignant", "benign"), 2)


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


def test_the_map_reads_what_it_was_fitted_to():
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 900)
    P = softmax(z)
    result = h_calibration(P, y, rng=0)
    np.testing.assert_allclose(result.map(P), result.probs, atol=1e-12)
    np.testing.assert_allclose(result.map(P[:1]), result.probs[:1], atol=1e-12)
    again = HCalibrationMap.from_dict(result.map.to_dict())
    np.testing.assert_allclose(again(P), result.probs, atol=1e-12)
    with pytest.raises(ValueError, match="probabilities in"):
        result.map(z)
    of_logits = h_calibration(z, y, rng=0).map
    with pytest.raises(ValueError, match="these are probabilities"):
        of_logits(P)
    with pytest.raises(ValueError, match="two-dimensional"):
        of_logits(z[0])
    older = {k: v for k, v in of_logits.to_dict().items() if k != "from_probs"}
    np.testing.assert_array_equal(HCalibrationMap.from_dict(older)(z), of_logits(z))
    binary = h_calibration(P[:, 1], (y == 1) * 1, from_probs=True, rng=0)
    np.testing.assert_allclose(binary.map(P[:, 1:2]), binary.probs, atol=1e-12)


def test_masked_classes_and_units_are_refused():
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 90)
    masked = np.ma.masked_array(y, mask=y == 2)
    with pytest.raises(ValueError, match="y must have no masked entries"):
        h_calibration(z, masked)
    with pytest.raises(ValueError, match="groups must have no masked entries"):
        h_calibration(z, y, groups=np.ma.masked_array(np.arange(90), mask=y == 2))


def test_named_columns_beside_unnamed_ones_must_be_in_order():
    _, z, y = law(np.random.default_rng(0), [0.5] * 3, 600)
    given = {"logits": z[:300], "y": y[:300], "y_test": y[300:], "from_probs": False, "rng": 0}
    named = pd.DataFrame(z[300:], columns=["p_0", "p_1", "p_2"])
    found = h_calibration(**given, logits_test=named)
    with pytest.raises(ValueError, match="give both with names"):
        h_calibration(**given, logits_test=named[["p_2", "p_0", "p_1"]])
    letters = h_calibration(**given, logits_test=named.set_axis(list("cab"), axis=1))
    np.testing.assert_array_equal(letters.probs_test, found.probs_test)
