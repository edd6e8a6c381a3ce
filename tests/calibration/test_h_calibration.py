import json
import warnings

import numpy as np
import pandas as pd
import pytest
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.calibration._h_calibration import (
    HCalibrationMap,
    Objective,
    band,
    calibration_test,
    error_band,
    h_calibration,
    kl_interval,
    overfit,
)
from whp.calibration._h_calibration import guarantee as g
from whp.certificate import Status, Verdict
from whp.io import save
from whp.studies.h_calibration import example

pytestmark = pytest.mark.filterwarnings("ignore:window is reduced")


def draw(P, rng):
    return np.minimum((P.cumsum(axis=1) < rng.random((len(P), 1))).sum(axis=1), P.shape[1] - 1)


def sharpen(C, factor):
    return HCalibrationMap.temperature(factor)(np.log(np.maximum(C, 1e-300)))


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


def test_kl_interval():
    low, high = kl_interval(np.array([0.0, 0.3]), np.array([100, 100]), np.log(40))
    np.testing.assert_allclose(low, [0, 0.1872126259], atol=1e-9)
    np.testing.assert_allclose(high, [0.0362166926, 0.4320194934], atol=1e-9)
    low, high = kl_interval(np.array([1.0]), np.array([50]), np.log(40))
    assert (low[0], high[0]) == (pytest.approx(0.9288782635, abs=1e-9), 1)
    assert kl_interval(np.array([0.0]), np.array([37]), np.log(40))[1][0] == pytest.approx(
        1 - 40 ** (-1 / 37), abs=1e-12
    )


def test_digits_reference(digits, result):
    z, y = digits["logits"], digits["y"]
    assert result.map.beta == pytest.approx(0.1783, abs=2e-4)
    assert Objective()(result.map(z), y) <= 0.01743
    assert Objective()(HCalibrationMap.temperature(0.12732)(z), y) == pytest.approx(
        0.0445112, abs=1e-5
    )
    found = result.metrics.set_index("metric")
    assert found.loc["ece", "before"] == pytest.approx(0.0760, abs=1e-4)
    assert found.loc["ece", "after"] == pytest.approx(0.0310, abs=2e-4)
    assert found.loc["brier", "after"] == pytest.approx(0.1333, abs=1e-4)


@pytest.mark.parametrize(
    ("beta", "point", "low", "high", "p_value"),
    [
        (1.0, 0.12732, 0.06323, 0.21213, 0.005),
        (0.12732, 0.06231, 0.000088, 0.12054, 0.005),
        (0.178317, 0.01983, 0.00174, 0.08640, 0.25),
    ],
)
def test_digits_bands_and_test(digits, beta, point, low, high, p_value):
    probs, y = HCalibrationMap.temperature(beta)(digits["logits_test"]), digits["y_test"]
    measured = error_band(probs, y).measured
    np.testing.assert_allclose(
        [measured.value, measured.low, measured.high], [point, low, high], atol=1e-4
    )
    tested = calibration_test(probs, y, Objective(), rng=0)[0]
    assert tested.inputs["p-value"] == pytest.approx(p_value, abs=0.09)
    verdicts = [error_band(probs, y, epsilon=e).verdict for e in (0.05, 0.1)]
    expected = {
        1.0: ["fails", "inconclusive"],
        0.12732: ["inconclusive"] * 2,
        0.178317: ["inconclusive", "holds"],
    }
    assert [str(v) for v in verdicts] == expected[beta]


LAWS = [
    (500, (1, 1, 1), 1.0),
    (500, (1, 1, 1), 1.6),
    (500, (0.3,) * 10, 1.5),
    (300, (8, 1, 1), 1.0),
]


@pytest.mark.parametrize(("n", "alpha", "factor"), LAWS)
@pytest.mark.parametrize("classwise", [False, True])
def test_error_rate_of_the_band(n, alpha, factor, classwise):
    """`epsilon` is the true largest error of a block, so every `fails` is a broken bound."""

    def instance(rng):
        C = rng.dirichlet(alpha, n)
        P = sharpen(C, factor)
        columns = list(zip(P.T, C.T, strict=True)) if classwise else [(P.ravel(), C.ravel())]
        true = max(
            abs(float((p[part] - c[part]).mean()))
            for p, c in columns
            for part in np.array_split(np.argsort(p, kind="stable"), 20)
        )
        return error_band(P, draw(C, rng), epsilon=max(true, 1e-12), classwise=classwise)

    assert_error_rate(instance, 0.05, n=300 if len(alpha) < 10 else 150)


@pytest.mark.parametrize(("n", "alpha", "factor"), LAWS[1:3])
def test_the_band_covers_all_blocks(n, alpha, factor):
    missed = 0
    for rng in np.random.default_rng(1).spawn(200):
        C = rng.dirichlet(alpha, n)
        P = sharpen(C, factor)
        table = band(P, draw(C, rng))
        true = np.array(
            [
                C.ravel()[part].mean()
                for part in np.array_split(np.argsort(P, axis=None, kind="stable"), 20)
            ]
        )
        missed += bool(((true < table["lower"]) | (true > table["upper"])).any())
    assert missed <= 200 * 0.05 + 3 * np.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("objective", ["pooled", "classwise"])
@pytest.mark.parametrize(
    ("n", "alpha"), [(500, (1, 1, 1)), (300, (8, 1, 1)), (200, (0.2, 0.4, 0.6, 0.8, 1))]
)
def test_error_rate_of_the_test(n, alpha, objective):
    def instance(rng):
        C = rng.dirichlet(alpha, n)
        return calibration_test(C, draw(C, rng), Objective(objective, 50), rng=rng)[0]

    assert_error_rate(instance, 0.05, n=300)


def test_power_of_the_test():
    rejected = 0
    for rng in np.random.default_rng(0).spawn(60):
        C = rng.dirichlet([1, 1, 1], 500)
        rejected += (
            calibration_test(sharpen(C, 1.6), draw(C, rng), Objective(), rng=rng)[0].verdict
            is Verdict.FAILS
        )
    assert rejected >= 57


def test_band_verdicts():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 20_000)
    y = draw(C, rng)
    assert error_band(C, y, epsilon=0.1).verdict is Verdict.HOLDS
    assert error_band(sharpen(C, 4), y, epsilon=0.02).verdict is Verdict.FAILS
    assert error_band(C, y, epsilon=0.02).verdict is Verdict.INCONCLUSIVE
    half = np.full((40, 2), 0.5)
    assert error_band(half, np.arange(40) % 2, epsilon=0.6).verdict is Verdict.VACUOUS
    few = error_band(C[:500], y[:500], epsilon=0.05)
    assert "certification rows would decide" in few.needs


def test_test_verdicts():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 500)
    y = draw(C, rng)
    assert calibration_test(C, y, Objective(), rng=0)[0].verdict is Verdict.HOLDS
    assert calibration_test(sharpen(C, 3), y, Objective(), rng=0)[0].verdict is Verdict.FAILS
    assert (
        calibration_test(C, y, Objective(), delta=0.05, resamples=10, rng=0)[0].verdict
        is Verdict.VACUOUS
    )


def test_changed_decisions_are_counted():
    P = np.random.default_rng(0).dirichlet([1, 1, 1], 50)
    assert g.ranks(P, P**2).verdict is Verdict.HOLDS
    swapped = P.copy()
    swapped[:3] = swapped[:3, [1, 2, 0]]
    found = g.ranks(P, swapped)
    assert found.verdict is Verdict.FAILS
    assert found.measured.value == 3


def test_overfitting_is_noticed():
    rng = np.random.default_rng(0)
    C = rng.dirichlet([1, 1, 1], 300)
    y = draw(C, rng)
    assert overfit(C, y, Objective(window=20), rng=0).verdict is Verdict.HOLDS
    memorised = np.where(np.eye(3)[y] == 1, 1.0, 0.0) * 0.9 + C * 0.1
    assert (
        overfit(memorised, y, Objective(window=20), rng=0).verdict is Verdict.HOLDS
    )  # an error, not too small a one
    assert (
        overfit(np.full((300, 3), 1 / 3), y, Objective(window=20), rng=0).verdict is Verdict.VACUOUS
    )
    # Outcomes spread as evenly as possible within equal predictions: less error than any calibrated model leaves.
    P = np.repeat([[0.5, 0.5]], 300, axis=0) + np.linspace(0, 1e-3, 300)[:, None] * [1, -1]
    assert overfit(P, np.arange(300) % 2, Objective(window=20), rng=0).verdict is Verdict.FAILS


def test_shift_repeats_and_reuse_make_certificates_void(digits):
    kept = digits["y_test"] < 5
    moved = {**digits, "logits_test": digits["logits_test"][kept], "y_test": digits["y_test"][kept]}
    found = h_calibration(**moved)
    assert certificate(found, "error-bound").verdict is Verdict.VOID
    assert certificate(found, "calibration-test").verdict is Verdict.VOID
    z, y = sample()
    again = h_calibration(np.tile(z, (2, 1)), np.tile(y, 2), rng=0)
    broken = [
        a for a in certificate(again, "error-bound").assumptions if a.status is Status.VIOLATED
    ]
    assert [a.statement for a in broken] == ["rows are distinct events"]
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
    assert after.map.beta == h_calibration(z, y, certify=0.0, rng=0).map.beta
    unused = certificate(after, "error-bound").assumptions[1]
    assert unused.status is Status.UNCHECKED
    assert before.rows == after.rows == (400, 200)


def test_the_forms_of_input_agree():
    z, y = sample(400, alpha=(1, 2))
    P = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    base = h_calibration(z, y, rng=0)
    for other in (
        P,
        P[:, 1],
        z + 1000,
        z[:, 1] - z[:, 0],
        pd.DataFrame(P),
        (z[:, 1] - z[:, 0])[:, None],
    ):
        found = h_calibration(other, y, rng=0)
        assert found.map.beta == pytest.approx(base.map.beta, rel=1e-6)
        np.testing.assert_allclose(found.probs, base.probs, atol=1e-7)
    named = pd.DataFrame(P, columns=["p_no", "p_yes"])
    text = np.array(["no", "yes"], dtype=object)[y]
    np.testing.assert_allclose(h_calibration(named, text, rng=0).probs, base.probs, atol=1e-7)
    np.testing.assert_allclose(h_calibration(P, text, rng=0).probs, base.probs, atol=1e-7)
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
    assert len(pd.read_csv(tmp_path / "out" / "blocks.csv")) == 20
    assert result.summary()["rows_to_certify"] == 599
    assert len(result.plot().get_legend().get_texts()) == 2
    assert [c.name for c in result.certificates] == [
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
    assert len(found.blocks) == 60
    assert certificate(found, "error-bound").inputs["blocks"] == 60
    assert set(found.blocks["class"]) == {0, 1, 2}


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
        h_calibration(z, y, window=50, rng=0)


Z, Y = sample(50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 201}, "window must be even, got 201"),
        ({"window": 1}, "window"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": 1.0}, "epsilon"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 1}, "delta"),
        ({"blocks": 0}, "blocks"),
        ({"resamples": 0}, "resamples"),
        ({"certify": 1.0}, "certify"),
        ({"mapping": "x"}, "mapping"),
        ({"objective": "x"}, "objective"),
        ({"max_iter": 0}, "max_iter"),
        ({"clusters": 0}, "clusters"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"logits": np.where(Z[3, 1] == Z, np.nan, Z)}, "logits.*row 3"),
        ({"logits": None}, "logits"),
        ({"logits": Z[:1], "y": Y[:1]}, "logits"),
        ({"logits": [["a"]]}, "logits"),
        ({"logits": np.zeros((0, 3))}, "logits"),
        ({"logits": np.zeros((2, 2, 2))}, "logits"),
        ({"y": Y[:-1]}, "y must have"),
        ({"logits": np.where(np.arange(50)[:, None] == 7, -np.inf, Z)}, "logits.*row 7"),
        ({"logits": np.where(Z[3, 1] == Z, np.inf, Z)}, "logits"),
        ({"y": np.full(50, 3)}, "y must hold"),
        ({"y": np.full(50, -1)}, "y must hold"),
        ({"y": Y + 0.5}, "y must hold"),
        ({"y": np.array(["a"] * 50)}, "y holds 1"),
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
