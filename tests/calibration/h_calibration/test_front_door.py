import json
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.calibration import (
    Fitting,
    HCalibration,
    HCalibrationMap,
    HCalibrationResult,
    Objective,
    h_calibration,
)
from whp.certificate import Status, Verdict
from whp.io import save
from whp.studies.h_calibration.showcase import example
from whp.studies.h_calibration.worlds import labels_of as draw

pytestmark = pytest.mark.filterwarnings("ignore:window is reduced")


def sample(n=600, factor=2.0, seed=0, alpha=(1, 1, 1)):
    rng = np.random.default_rng(seed)
    C = rng.dirichlet(alpha, n)
    return factor * np.log(C), draw(C, rng)


@pytest.fixture(scope="module")
def digits():
    return example()


@pytest.fixture(scope="module")
def result(digits):
    return h_calibration(**digits)


def certificate(result, name):
    return next(c for c in result.certificates if c.name == name)


def test_digits_reference(digits, result):
    z, y = digits["logits"], digits["y"]
    assert result.map.beta == pytest.approx(0.1783, abs=4e-4)
    assert Objective()(result.map(z), y) <= 0.01743
    assert Objective()(HCalibrationMap.temperature(0.12732)(z), y) == pytest.approx(
        0.0445112, abs=1e-5
    )
    found = result.metrics.set_index("metric")
    assert found.loc["ece", "before"] == pytest.approx(0.0760, abs=1e-4)
    assert found.loc["ece", "after"] == pytest.approx(0.0310, abs=2e-4)
    assert found.loc["brier", "after"] == pytest.approx(0.1333, abs=1e-4)


def test_a_calibrated_model_holds_at_a_few_thousand_rows():
    held = 0
    for seed in range(10):
        z, y = sample(4500, seed=seed, alpha=(0.5,) * 3)
        made = h_calibration(z, y, rng=seed)
        pair = [certificate(made, n).verdict for n in ("top-label-error", "error-bound")]
        assert Verdict.FAILS not in pair
        held += pair == [Verdict.HOLDS] * 2
    assert held >= 8


def test_a_forest_is_not_void():
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    X, y = make_classification(4000, 20, n_informative=8, flip_y=0.1, random_state=0)
    model = RandomForestClassifier(20, random_state=0).fit(X[:1000], y[:1000])
    with pytest.warns(UserWarning, match="exactly 0 or 1"):
        made = h_calibration(model.predict_proba(X[1000:]), y[1000:], rng=0)
    assert all(c.verdict is not Verdict.VOID for c in made.certificates)
    copies = certificate(made, "error-bound").conditions[1]
    assert copies.status is Status.UNCHECKED


def test_shift_and_reuse_make_certificates_void(digits):
    kept = digits["y_test"] < 5
    moved = {**digits, "logits_test": digits["logits_test"][kept], "y_test": digits["y_test"][kept]}
    found = h_calibration(**moved)
    for name in ("top-label-error", "error-bound", "calibration-test"):
        assert certificate(found, name).verdict is Verdict.VOID
    z, y = sample()
    again = h_calibration(z, y, logits_test=z.astype(np.float32), y_test=y, rng=0)
    assert certificate(again, "error-bound").verdict is Verdict.VOID
    everything = h_calibration(z, y, certify=0.0, rng=0)
    assert certificate(everything, "error-bound").verdict is Verdict.VOID
    assert everything.rows == (600, 600)


def test_no_false_alarm_about_shift():
    void = 0
    for seed in range(40):
        z, y = sample(200, seed=seed)
        void += certificate(h_calibration(z, y, rng=seed), "error-bound").verdict is Verdict.VOID
    assert void <= 3


def test_refit_uses_all_rows_and_says_so():
    z, y = sample()
    before, after = h_calibration(z, y, rng=0), h_calibration(z, y, refit=True, rng=0)
    assert before.map.beta != after.map.beta
    assert after.map.beta == pytest.approx(h_calibration(z, y, certify=0.0, rng=0).map.beta)
    unused = {a.name: a for a in certificate(after, "error-bound").conditions}["unused-rows"]
    assert unused.status is Status.UNCHECKED
    assert before.rows == after.rows == (400, 200)


def test_the_forms_of_input_agree():
    z, y = sample(400, alpha=(1, 2))
    P = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    base = h_calibration(z, y, rng=0)
    margin = z[:, 1] - z[:, 0]
    forms = [(P, {}), (P[:, 1], {"from_probs": True}), (z + 1000, {}), (margin, {})]
    forms += [(pd.DataFrame(P), {}), (margin[:, None], {}), (P[:, 1:], {"from_probs": True})]
    for other, options in forms:
        found = h_calibration(other, y, rng=0, **options)
        assert found.map.beta == pytest.approx(base.map.beta, rel=1e-6)
        np.testing.assert_allclose(found.probs, base.probs, atol=1e-7)
    named = pd.DataFrame(P, columns=["p_no", "p_yes"])
    text = np.array(["no", "yes"], dtype=object)[y]
    np.testing.assert_allclose(h_calibration(named, text, rng=0).probs, base.probs, atol=1e-7)
    told = h_calibration(P, text, classes=("no", "yes"), rng=0)
    np.testing.assert_allclose(told.probs, base.probs, atol=1e-7)
    forced = h_calibration(P, y, from_probs=False, rng=0)
    assert abs(forced.map.beta / base.map.beta - 1) > 0.1
    gone = z.copy()
    gone[0, 0] = -np.inf
    assert np.isfinite(h_calibration(gone, y, rng=0).probs).all()


def test_result_saves_prints_and_draws(result, tmp_path):
    written = {p.name for p in save(tmp_path / "out", result.artifacts())}
    assert written == {"arrays.npz", "blocks.csv", "metrics.csv", "map.json"}
    made = HCalibrationMap.from_dict(json.loads((tmp_path / "out" / "map.json").read_text()))
    assert made.beta == result.map.beta
    with np.load(tmp_path / "out" / "arrays.npz") as arrays:
        np.testing.assert_array_equal(arrays["probs_test"], result.probs_test)
    assert len(pd.read_csv(tmp_path / "out" / "blocks.csv")) == 7
    assert result.summary()["rows_to_certify"] == 599
    assert len(result.plot().get_legend().get_texts()) == 2
    assert [c.name for c in result.certificates] == [
        "top-label-error",
        "error-bound",
        "calibration-test",
        "accuracy-preserved",
        "overfit",
    ]
    assert all(type(c).from_json(c.to_json()) == c for c in result.certificates)
    assert certificate(result, "accuracy-preserved").measured.value == 0


def test_classwise_bands_split_delta():
    z, y = sample(900)
    found = h_calibration(z, y, objective="classwise", rng=0)
    own = found.blocks[found.blocks["part"] == "one class"]
    assert len(own) == 15
    assert certificate(found, "error-bound").inputs["blocks"] == 15
    assert set(own["class"]) == {0, 1, 2}
    assert "of one class" in certificate(found, "error-bound").claim


def test_seeds_repeat():
    z, y = sample(400)
    first, second = (h_calibration(z, y, rng=5) for _ in range(2))
    assert first.certificates == second.certificates
    np.testing.assert_array_equal(first.probs, second.probs)


def test_warnings_tell_what_is_odd():
    z, y = sample(2000, alpha=(8, 1, 1))
    with pytest.warns(UserWarning, match="leave-one-class-out"):
        h_calibration(z, y, objective="leave-one-class-out", rng=0)
    with pytest.warns(UserWarning, match="lacks class 2"):
        h_calibration(z[y != 2], y[y != 2], rng=0)
    with pytest.warns(UserWarning, match="pass logits"):
        h_calibration(np.eye(3)[y], y, rng=0)
    with pytest.warns(UserWarning, match="window is reduced from 200 to"):
        h_calibration(z[:100], y[:100], rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        h_calibration(z, y, fitting=Fitting(window=50), rng=0)


def test_the_old_name_of_the_result_is_still_there():
    assert HCalibration is HCalibrationResult


def test_groups_are_counted_and_kept_together():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 200)
    y, z = np.repeat(draw(C, rng), 3), np.repeat(2 * np.log(C), 3, axis=0)
    z += 0.05 * rng.normal(size=z.shape)
    groups = np.repeat(np.arange(200), 3)
    found = h_calibration(z, y, groups=groups, rng=0)
    assert found.blocks["events"].max() <= 200
    assert certificate(found, "calibration-test").inputs["rows"] < 100
    assert certificate(found, "top-label-error").verdict is not Verdict.VOID


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 201}, "window must be even, got 201"),
        ({"window": 1}, "window"),
        ({"max_iter": 0}, "max_iter"),
        ({"clusters": 0}, "clusters"),
        ({"tolerance": -0.1}, "tolerance"),
    ],
)
def test_bad_options_of_the_fit_are_named(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Fitting(**change)


Z, Y = sample(50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1}, "delta"),
        ({"blocks": 0}, "blocks"),
        ({"resamples": 0}, "resamples"),
        ({"resamples": 2**31}, "resamples must be from 1 to 1,000,000"),
        ({"fitting": {"window": 9}}, "fitting must be a Fitting"),
        ({"certify": 1.0}, "certify"),
        ({"mapping": "x"}, "mapping"),
        ({"objective": "x"}, "objective"),
        ({"logits": np.where(Z[3, 1] == Z, np.nan, Z)}, "logits.*row 3"),
        ({"logits": None}, "logits"),
        ({"logits": Z[:1], "y": Y[:1]}, "logits"),
        ({"logits": [["a"]]}, "logits"),
        ({"logits": np.zeros((0, 3))}, "logits"),
        ({"logits": np.zeros((2, 2, 2))}, "logits"),
        ({"y": Y[:-1]}, "y must have"),
        ({"logits": np.where(np.arange(50)[:, None] == 7, -np.inf, Z)}, "logits.*row 7"),
        ({"logits": np.where(Z[3, 1] == Z, np.inf, Z)}, "logits"),
        ({"y": np.full(50, 3)}, "y holds numbers other than 0 to 2"),
        ({"y": np.full(50, -1)}, "y holds numbers other"),
        ({"y": Y + 0.5}, "y holds numbers other"),
        ({"y": np.array(["a"] * 50)}, "alphabetical order is not assumed"),
        ({"ids": range(50), "groups": range(50)}, "not both"),
        ({"ids": range(49)}, "ids must have 50"),
        ({"ids": range(50), "logits_test": Z, "y_test": Y}, "ids and ids_test go together"),
        ({"groups_test": range(50)}, "groups_test was given without"),
        ({"classes": ("a", "b")}, "classes must name"),
        ({"from_probs": True}, "logits must hold probabilities"),
        ({"from_probs": 3}, "from_probs"),
        ({"refit": 2}, "refit"),
        ({"logits": np.full((50, 3), 0.3), "from_probs": True}, "sum to 1"),
        ({"y_test": Y}, "y_test"),
        ({"logits_test": Z[:, :2]}, "logits_test"),
        ({"logits_test": Z, "y_test": Y[:5]}, "y_test"),
        ({"logits_test": Z, "y_test": np.full(50, 9)}, "y_test"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises((ValueError, TypeError), match=message):
        h_calibration(**{"logits": Z, "y": Y, "rng": 0, **change})


@given(
    st.one_of(
        st.none(),
        st.text(max_size=3),
        st.lists(st.floats(), max_size=4),
        st.integers(),
        st.lists(st.lists(st.floats(-9, 9), min_size=1, max_size=3), max_size=3),
    ),
    st.one_of(
        st.none(),
        st.lists(st.integers(-2, 4), max_size=4),
        st.lists(st.text(max_size=2), max_size=3),
    ),
)
@settings(max_examples=60, deadline=None)
def test_arbitrary_input_gives_a_result_or_a_named_error(logits, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = h_calibration(logits, y, rng=0)
        except (ValueError, TypeError) as error:
            assert "logits" in str(error) or "y " in str(error)  # noqa: PT017
        else:
            assert np.isfinite(found.probs).all()
