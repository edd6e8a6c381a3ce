import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array, hstack, random_array

from whp.certificate import Verdict
from whp.optim import target_surrogates
from whp.optim._target_surrogates.losses import LOSSES
from whp.studies.target_surrogates.experiments import breast_cancer, polynomial_diabetes


@pytest.mark.parametrize(
    ("m", "expected"),
    [
        (1, (0.11919, 0.09060, 0.06620)),
        (5, (0.10153, 0.07785, 0.05702)),
        (20, (0.09555, 0.07288, 0.05309)),
        (100, (0.09006, 0.06894, 0.05018)),
        (None, (0.08514, 0.06584, 0.04864)),
    ],
)
def test_5_breast_cancer(m, expected):
    X, y = breast_cancer()
    found = target_surrogates(
        X,
        y.astype(int),
        loss="logistic",
        m=m,
        inner="exact" if m is None else "gd",
        max_iter=200,
        tol=0.0,
        compare=False,
    )
    np.testing.assert_allclose(found.curves["sso"][[20, 50, 200]], expected, atol=6e-6)
    assert [c.verdict for c in found.certificates] == [Verdict.HOLDS, Verdict.HOLDS]


@pytest.mark.parametrize(("m", "expected"), [(10, 7.35039e-3), (100, 2.44334e-3), (None, 0.0)])
def test_5_bad_conditioning(m, expected):
    X, y = polynomial_diabetes()
    best = LOSSES["squared"].value(X @ np.linalg.lstsq(X, y, rcond=None)[0], y) / len(y)
    found = target_surrogates(
        X, y, m=m, inner="exact" if m is None else "gd", max_iter=10, tol=0.0, compare=False
    )
    assert found.mean_loss - best == pytest.approx(expected, abs=1e-8)


def certificate(name, X, y, **options):
    made = target_surrogates(X, y, compare=False, rng=0, **options)
    return {c.name: c for c in made.certificates}[name]


def test_7_minibatches_follow_the_recursion():
    X, y = polynomial_diabetes()
    exact = certificate("recursion", X, y, batch_size=125, max_iter=60)
    assert exact.verdict is Verdict.HOLDS
    assert exact.inputs["noise"] == pytest.approx(57.526663, rel=1e-6)
    gd = certificate("recursion", X, y, batch_size=125, max_iter=60, m=200, inner="gd")
    assert gd.bound > exact.bound
    assert gd.measured.value > exact.measured.value
    unmeasured = certificate("recursion", X, y, batch_size=125, max_iter=60, measure=False)
    assert unmeasured.verdict is Verdict.UNMEASURED
    assert unmeasured.bound == pytest.approx(exact.bound)


@pytest.mark.parametrize(
    "options",
    [
        {"projection": "batch"},
        {"eta": 0.5},
        {"batches": "passes"},
        {"alpha": 0.1},
        {"inner": "armijo"},
    ],
    ids=str,
)
def test_what_the_recursion_is_not_about_is_void(options):
    X, y = polynomial_diabetes()
    made = certificate("recursion", X, y, batch_size=125, max_iter=10, **options)
    assert made.verdict is Verdict.VOID


def test_steps_above_one_over_l_are_void():
    X, y = breast_cancer()
    for kappa, expected in ((1.0, Verdict.HOLDS), (1.001, Verdict.VOID), (2.0, Verdict.VOID)):
        for name in ("majorisation", "descent"):
            made = certificate(name, X, y, loss="logistic", eta=4 * kappa, max_iter=20)
            assert made.verdict is expected, (kappa, name)


def test_a_loss_without_l_is_void():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3)) / 4
    y = rng.poisson(1000 * np.exp(X[:, 0])).astype(float)
    for name in ("majorisation", "descent"):
        made = certificate(name, X, y, loss="poisson", max_iter=3)
        assert made.verdict is Verdict.VOID
    assert made.inputs["h* at least"] < -1e5


@pytest.mark.parametrize("shape", [(30, 30), (30, 60), (20, 200), (100, 10)])
def test_exact_fits_do_not_fail(shape):
    rng = np.random.default_rng(1)
    for _ in range(10):
        X = rng.standard_normal(shape)
        y = X @ rng.standard_normal(shape[1])
        for loss in ("squared", "huber"):
            assert certificate("majorisation", X, y, loss=loss).verdict is Verdict.HOLDS


@pytest.mark.parametrize(("unit", "offset"), [(1e-9, 0.0), (1e9, 0.0), (1.0, 1e6)])
def test_units_and_offsets_do_not_change_verdicts(unit, offset):
    X, y, _ = small_problem()
    A = np.column_stack([X, np.ones(60)])
    options = {"inner": "gd", "m": 5, "max_iter": 30}
    made = target_surrogates(A, unit * (y + offset), compare=False, **options)
    assert [c.verdict for c in made.certificates] == [Verdict.HOLDS, Verdict.HOLDS]


def test_nothing_gained_is_vacuous():
    X, y, best = small_problem()
    residual = y - X @ best  # its best fit is where the run starts
    made = target_surrogates(X, residual, max_iter=1, compare=False)
    assert made.certificates[1].verdict is Verdict.VACUOUS


def test_an_intercept_is_free_and_said():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"intercept": np.ones(200), "a": rng.normal(size=200)})
    y = 1000 + table["a"] + 0.1 * rng.normal(size=200)
    made = target_surrogates(table, y, alpha=1.0, compare=False)
    assert made.intercept == pytest.approx(1000, abs=1)
    named = made.artifacts()["coefficients.csv"].set_index("column")["coefficient"]
    assert named["intercept"] == made.intercept
    assert named["a"] == pytest.approx(0.5, abs=0.05)
    assert made.certificates[0].verdict is Verdict.HOLDS
    labels = np.where(table["a"] + rng.normal(size=200) > 0, "yes", "no")
    made = target_surrogates(table, labels, alpha=1e-3, compare=False)
    assert [c.verdict for c in made.certificates] == [Verdict.HOLDS, Verdict.HOLDS]


def test_sparse_tables_are_fitted_as_dense_ones():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 6)) * (rng.random((80, 6)) < 0.4)
    X[:, 5] = 2.0
    y = X[:, 0] + rng.normal(size=80)
    for options in ({}, {"alpha": 0.1}, {"batch_size": 20}):
        dense = target_surrogates(X, y, compare=False, rng=0, **options)
        sparse = target_surrogates(csr_array(X), y, compare=False, rng=0, **options)
        np.testing.assert_allclose(sparse.coef, dense.coef, atol=1e-6)
        assert sparse.intercept == pytest.approx(dense.intercept, abs=1e-6)


@pytest.mark.parametrize("rows", [100, 20_000])
def test_constant_columns_of_sparse_tables_are_free_at_any_size(rows):
    first = random_array((rows, 1), density=0.3, rng=np.random.default_rng(0))
    rest = csr_array((rows, 600))
    X = hstack([np.ones((rows, 1)), first, rest], format="csr")
    fit = target_surrogates(
        X, 1000 + first.toarray()[:, 0], alpha=1.0, max_iter=2, compare=False, measure=False
    )
    assert fit.intercept == pytest.approx(1000, abs=1)


def test_labels_that_are_missing_are_no_class():
    X = np.random.default_rng(0).normal(size=(4, 1))
    for y in (["a", None, "b", "a"], np.array(["a", np.nan, "b", "a"], dtype=object)):
        with pytest.raises(ValueError, match="y has 1 missing values of 4; leave these rows out"):
            target_surrogates(X, y)


@pytest.mark.parametrize("kind", ["boolean", "string", "category"])
def test_missing_labels_of_pandas_are_named(kind):
    values = [True, None, False] if kind == "boolean" else ["a", None, "b"]
    with pytest.raises(ValueError, match="1 missing values of 3"):
        target_surrogates(np.eye(3), pd.Series(values, dtype=kind))


def test_whole_numbers_are_numbers_unless_said():
    rng = np.random.default_rng(0)
    X, ages = rng.normal(size=(60, 2)), rng.integers(60, 75, 60)
    assert target_surrogates(X, ages, compare=False).loss == "squared"
    assert target_surrogates(X, ages, loss="softmax", compare=False).loss == "softmax"
    assert target_surrogates(X, ages > 66, compare=False).loss == "logistic"


def test_data_drawn_from_the_seed_share_no_numbers_with_the_batches():
    first = np.random.default_rng(0).choice(60, 6, replace=False, shuffle=False)
    X, y, _ = small_problem()
    still = {"batch_size": 6, "max_iter": 1, "eta": 1e-12, "compare": False}
    made = target_surrogates(X, y, rng=0, **still)
    assert made.history["loss"][0] != pytest.approx(LOSSES["squared"].value(0.0, y[first]))


def test_a_generator_of_the_users_making_gives_a_seed_alone():
    class Stuck(np.random.Generator):
        def choice(self, *args, **kwargs):
            return np.arange(6)

    X, y, _ = small_problem()
    rng = Stuck(np.random.PCG64(0))
    made = target_surrogates(X, y, batch_size=6, max_iter=9, compare=False, rng=rng)
    assert len(set(made.history["rows"])) == 1
    assert made.history["loss"][0] != pytest.approx(LOSSES["squared"].value(0.0, y[:6]))


def small_problem():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 4))
    y = X @ rng.normal(size=4) + rng.normal(size=60)
    return X, y, np.linalg.lstsq(X, y, rcond=None)[0]


@pytest.mark.parametrize("rule", ["sgd", "sls", "adagrad", "adagrad-diag", "newton"])
@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax", "huber", "poisson"])
def test_every_rule_lowers_every_loss(rule, loss):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=(120, 3)), np.ones(120)])
    y = {
        "squared": X[:, 0] * 2,
        "huber": X[:, 0] * 2,
        "poisson": rng.poisson(2, 120).astype(float),
    }.get(loss)
    if y is None:
        y = rng.integers(0, 2 if loss == "logistic" else 3, 120)
        X[:, 0] += 2 * y
    eta = 0.1 if loss == "poisson" and rule in ("sgd", "adagrad") else "auto"
    found = target_surrogates(X, y, loss=loss, rule=rule, eta=eta, max_iter=40, compare=False)
    losses = found.curves["sso"]
    assert np.isfinite(losses).all()
    assert losses.iloc[-1] < losses.iloc[0]


@pytest.mark.parametrize("schedule", ["constant", "sqrt", "exponential"])
@pytest.mark.parametrize("inner", ["exact", "gd", "armijo"])
def test_schedules_and_inner_solvers(schedule, inner):
    X, y, best = small_problem()
    found = target_surrogates(
        X,
        y,
        schedule=schedule,
        inner=inner,
        m=None if inner == "exact" else 30,
        max_iter=60,
        compare=False,
    )
    floor = LOSSES["squared"].value(X @ best, y) / len(y)
    assert found.mean_loss - floor < 0.05
    assert found.certificates[0].verdict == Verdict.HOLDS


GOOD = {
    "X": np.random.default_rng(0).normal(size=(30, 3)),
    "y": np.arange(30) % 2,
    "max_iter": 3,
    "compare": False,
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"X": None}, "X"),
        ({"X": np.ones(3)}, "X"),
        ({"X": np.full((30, 3), np.inf)}, "X"),
        ({"y": np.arange(29)}, "y"),
        ({"y": np.ones((30, 2))}, "y"),
        ({"y": np.full(30, 0.5), "loss": "logistic"}, "y must hold at least two"),
        ({"y": np.arange(30) % 3, "loss": "logistic"}, "two classes"),
        ({"y": np.full(30, np.nan)}, "y"),
        ({"y": -np.ones(30), "loss": "poisson"}, "y"),
        ({"y": ["a"] * 30}, "y"),
        ({"loss": "hinge"}, "loss"),
        ({"m": 0}, "m "),
        ({"m": 5}, "m,"),
        ({"projection": "batch"}, "projection"),
        ({"eta": 1.0, "rule": "sls"}, "eta"),
        ({"X": 1e150 * np.ones((30, 3))}, "X reaches 1e\\+150; scale it"),
        ({"y": np.full(30, 1e308)}, "y reaches 1e\\+308; scale it"),
        ({"inner": "newton"}, "inner"),
        ({"eta": -1.0}, "eta"),
        ({"rule": "adam"}, "rule"),
        ({"schedule": "cosine"}, "schedule"),
        ({"projection": "rows"}, "projection"),
        ({"batch_size": 0}, "batch_size"),
        ({"max_iter": 0}, "max_iter"),
        ({"alpha": -1}, "alpha"),
        ({"compare": "yes"}, "compare"),
        ({"batches": "sorted"}, "batches"),
    ],
)
def test_bad_input_is_named(change, named):
    with pytest.raises((ValueError, TypeError), match=named):
        target_surrogates(**(GOOD | change))


values = st.one_of(st.floats(), st.integers(-3, 3), st.none(), st.text(max_size=2))


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(values, min_size=1, max_size=2), max_size=5), st.lists(values, max_size=5))
def test_anything_is_fitted_or_refused_by_name(X, y):
    told = ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target_surrogates(X, y, max_iter=3, compare=False)
    except (ValueError, TypeError) as error:
        told = str(error)
    except FloatingPointError as error:
        told = "X " + str(error)
    assert not told or told.startswith(("X ", "y "))


def test_comparison_picture_and_files():
    import matplotlib.pyplot as plt

    X, y = breast_cancer()
    found = target_surrogates(X, np.where(y == 1, "good", "bad"), max_iter=20, rng=0)
    assert list(found.curves) == ["calls", "sso", "sgd", "lbfgs"]
    assert len(found.curves) == 21
    assert found.classes.tolist() == ["bad", "good"]
    assert len(found.plot().get_lines()) == 3
    assert "mean_loss_of_lbfgs_after_as_many" in found.summary()
    assert {"curves.csv", "history.csv"} & set(found.artifacts())
    again = target_surrogates(pd.DataFrame(X), np.where(y == 1, "good", "bad"), max_iter=20, rng=0)
    np.testing.assert_allclose(again.coef, found.coef, rtol=1e-9)
    plt.close("all")


@pytest.mark.parametrize("sparse", [False, True])
def test_copies_of_columns_are_one_and_near_copies_void(sparse):
    rng = np.random.default_rng(0)
    X, other = rng.normal(size=(60, 3)), rng.normal(size=60)
    y = X.sum(axis=1) + 5 * other

    def verdict(column):
        A = np.column_stack([X, column])
        held = csr_array(A) if sparse else A
        return certificate("recursion", held, y, batch_size=30, max_iter=60).verdict

    assert verdict(7 * X[:, 0]) is Verdict.HOLDS
    assert verdict(X[:, 0] + 1e-3 * other) is Verdict.HOLDS
    assert verdict(X[:, 0] + 1e-11 * other) is Verdict.VOID
    assert verdict(X[:, 0] + 1e-7 * other) is (Verdict.VOID if sparse else Verdict.HOLDS)
