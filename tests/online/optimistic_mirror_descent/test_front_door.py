import copy
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optimistic import cancer
from scipy.special import expit
from sklearn.datasets import load_iris

from whp.certificate import Status, Verdict
from whp.online import OptimisticClassifier, OptimisticRegressor, optimistic_mirror_descent
from whp.online._optimistic_mirror_descent.losses import normalized_rows

MISUSE = [
    ({"radius": 0.0}, "radius"),
    ({"l2": -1.0}, "l2"),
    ({"batch_size": 0}, "batch_size"),
    ({"loss": "hinge"}, "loss"),
    ({"curvature": "flat"}, "curvature"),
    ({"curvature": "strongly_convex"}, "l2"),
    ({"segments": 2}, "segments"),
    ({"normalize": "none"}, "row_bound"),
    ({"normalize": "none", "row_bound": 0.1}, "row_bound"),
    ({"pool_cap": 1.0}, "pool_cap"),
    ({"y": np.ones(3)}, "y"),
    ({"y": np.full(40, np.nan)}, "y"),
    ({"y": None}, "y"),
    ({"X": np.zeros((0, 3))}, "X"),
    ({"X": np.full((40, 3), np.inf)}, "X"),
]


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


def test_own_losses_and_front_door_options():
    X, y = (v[:120] for v in cancer())
    pair = (
        lambda w, a, t: np.logaddexp(0, -t * (a @ w)),
        lambda w, a, t: -t * a * expit(-t * (a @ w)),
    )
    own = optimistic_mirror_descent(X, y, loss=pair, smoothness=0.25)
    named = optimistic_mirror_descent(X, y, loss="logistic")
    np.testing.assert_allclose(own.points, named.points, atol=1e-12)
    assert own.certificates[0].verdict == named.certificates[0].verdict
    words = optimistic_mirror_descent(X, np.where(y == 1, "good", "bad"))
    np.testing.assert_allclose(words.points, named.points, atol=1e-12)
    ridge = optimistic_mirror_descent(X, y, l2=0.1)
    assert ridge.rule == "strongly convex"
    assert ridge.certificates[0].measured.high <= ridge.certificates[0].bound
    import matplotlib.pyplot as plt

    assert named.plot().get_legend_handles_labels()[1] == ["bound, as the gradients came", "regret"]
    plt.close("all")


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    good = {"X": np.arange(120.0).reshape(40, 3), "y": np.arange(40) % 2}
    with pytest.raises((ValueError, TypeError), match=named):
        optimistic_mirror_descent(**{**good, **wrong})


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(numbers, max_size=3), max_size=5),
    st.lists(st.one_of(numbers, st.text(max_size=2)), max_size=5),
)
def test_bad_input_is_refused_by_name(X, y):
    told = ""
    try:
        optimistic_mirror_descent(X, np.array(y))
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("X ", "y ", "rows "))


def test_targets_out_of_reach_are_said_and_can_be_scaled():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    y = 300_000 + 50_000 * X[:, 0]
    with pytest.warns(UserWarning, match="100% of the targets lie beyond 5.*target_range"):
        far = optimistic_mirror_descent(X, y)
    assert far.summary()["root_mean_squared_error"] > 250_000
    limits = (float(y.min()), float(y.max()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near = optimistic_mirror_descent(X, y, target_range=limits)
    assert near.summary()["root_mean_squared_error"] < 25_000
    assert np.abs(near.predictions[200:] - y[200:]).mean() < 15_000
    scaled = optimistic_mirror_descent(X, 1e-3 * y, target_range=tuple(1e-3 * v for v in limits))
    assert scaled.regret == pytest.approx(near.regret, rel=1e-9)
    np.testing.assert_allclose(1e3 * scaled.predictions, near.predictions, rtol=1e-9)
    with pytest.raises(ValueError, match=r"row .* has"):
        optimistic_mirror_descent(X, y, target_range=(0.0, 300_000.0))
    with pytest.raises(ValueError, match="target_range must be left out"):
        optimistic_mirror_descent(X, y > 300_000, target_range=(0.0, 1.0))


def test_more_than_two_classes_have_a_learner_each():
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    words = np.array(["setosa", "versicolor", "virginica"])[y]
    by_word = optimistic_mirror_descent(X, words, order="shuffle", rng=0)
    assert by_word.predictions.shape == (150, 3)
    assert by_word.classes.tolist() == ["setosa", "versicolor", "virginica"]
    assert by_word.summary()["classes"] == 3
    parts = [
        optimistic_mirror_descent(X, words == c, order="shuffle", rng=0) for c in by_word.classes
    ]
    assert by_word.regret == pytest.approx(sum(p.regret for p in parts))
    np.testing.assert_allclose(by_word.predictions[:, 1], parts[1].predictions)
    assert by_word.certificates[0].verdict == Verdict.HOLDS
    assert by_word.certificates[0].bound in [p.certificates[0].bound for p in parts]
    table = by_word.artifacts()["predictions.csv"]
    assert list(table) == ["row", "p_setosa", "p_versicolor", "p_virginica"]
    assert table["row"].tolist() == list(range(150))
    with pytest.warns(UserWarning, match="3 distinct whole numbers.*loss='logistic'"):
        optimistic_mirror_descent(X, y + 1)
    numbered = optimistic_mirror_descent(X, y + 1, loss="logistic", order="shuffle", rng=0)
    np.testing.assert_allclose(numbered.points, by_word.points)


def test_predictions_are_those_before_each_row():
    X, y = (v[:60] for v in cancer())
    result = optimistic_mirror_descent(X, y, batch_size=4)
    A = normalized_rows(X)
    for i in (0, 5, 59):
        assert result.predictions[i] == pytest.approx(expit(A[i] @ result.points[i // 4]))
    assert result.rows.tolist() == list(range(60))


def test_a_seed_that_the_data_share_does_not_order_the_rows():
    """Rows drawn from the seed that is passed: the order must not be a function of their numbers."""
    drawn = np.random.default_rng(7).permutation(200)
    result = optimistic_mirror_descent(
        drawn[:, None].astype(float), drawn > 99, order="shuffle", rng=7
    )
    assert (result.rows != drawn).any()
    assert abs(np.corrcoef(result.rows, drawn)[0, 1]) < 0.3


@pytest.mark.parametrize("scale", [1e17, 1e18, 1e20])
def test_a_regret_below_the_rounding_of_its_losses_does_not_fail(scale):
    rng = np.random.default_rng(3)
    for _ in range(5):
        X = rng.standard_normal((400, 3))
        y = scale * (X @ [1, 2, 3] + 0.1 * rng.standard_normal(400))
        with pytest.warns(UserWarning, match="beyond"):
            result = optimistic_mirror_descent(X, y, radius=2.0)
        assert result.certificates[0].verdict is Verdict.HOLDS


def test_large_rows_are_normalised_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 3))
    y = X[:, 0]
    large, larger = (optimistic_mirror_descent(X * s, y) for s in (1e150, 1e200))
    assert larger.regret == pytest.approx(large.regret)
    np.testing.assert_allclose(np.linalg.norm(normalized_rows(X * 1e300), axis=1), 1)
    models = [OptimisticRegressor().fit(X * s, y) for s in (1e150, 1e200)]
    wanted = models[0].predict(X * 1e150)
    np.testing.assert_allclose(models[1].predict(X * 1e200), wanted)
    assert np.abs(wanted).max() > 0.5


def test_pieces_are_no_more_than_rounds():
    X = np.random.default_rng(0).standard_normal((60, 3))
    with pytest.raises(ValueError, match="segments must be at most the 6 rounds"):
        optimistic_mirror_descent(X, X[:, 0], dynamic=True, segments=30, batch_size=10)


def test_classes_share_the_failure_probability():
    X, y = load_iris(return_X_y=True)
    result = optimistic_mirror_descent(
        X, np.array(["a", "b", "c"])[y], order="shuffle", repeats=2, rng=0, delta=0.06
    )
    assert result.certificates[1].measured is not None
    assert result.certificates[1].measured.level == pytest.approx(1 - 0.06 / 3)


class SteppedByHand(OptimisticRegressor):
    def _learn(self, X, targets):
        for row in X:
            self.learners_[0].step(np.append(1.0, row))


def _stepped(model):
    model.learners_[0].step(np.ones(4))


def _loaded(model):
    model.learners_[0].load_state_dict(model.learners_[0].state_dict())


@pytest.mark.parametrize("tamper", [_stepped, _loaded, None])
def test_gradients_from_elsewhere_are_not_by_construction(tamper):
    X = np.random.default_rng(0).standard_normal((60, 3))
    model = OptimisticRegressor().fit(X, X[:, 0])
    pure = {a.name: a.status for a in model.certificates_[0].assumptions}
    assert pure["convex"] is pure["at-the-point-played"] is Status.BY_CONSTRUCTION
    if tamper is None:
        model = SteppedByHand().fit(X, X[:, 0])
    else:
        tamper(model)
        model.partial_fit(X, X[:, 0])
    assert model.certificates_[0].assumptions
    found = {a.name: a.status for a in model.certificates_[0].assumptions}
    assert found["convex"] is found["at-the-point-played"] is Status.UNCHECKED


def test_a_table_after_a_new_feature():
    X = np.random.default_rng(0).standard_normal((60, 2))
    model = OptimisticClassifier().fit(pd.DataFrame(X, columns=["a", "b"]), X[:, 0] > 0)
    model.learn_one({"a": 1.0, "new": 2.0}, True)
    table = pd.DataFrame(np.column_stack([X, X[:, 0]]), columns=["a", "b", "new"])
    one = model.predict_proba_one(dict(table.iloc[0]))
    np.testing.assert_allclose(model.predict_proba(table)[0], list(one.values()))


def test_a_copy_that_shares_learners_ends_the_pass():
    X = np.random.default_rng(0).standard_normal((60, 3))
    model = OptimisticRegressor().fit(X, X[:, 0])
    other = OptimisticRegressor()
    vars(other).update(vars(model))  # copy.copy would share nothing
    other.partial_fit(X, X[:, 1])
    found = {a.name: a.status for a in model.certificates_[0].assumptions}
    assert found["at-the-point-played"] is Status.UNCHECKED


@pytest.mark.filterwarnings("ignore:y reaches")
def test_a_bad_row_costs_no_others_of_its_batch():
    model, other = (OptimisticRegressor(batch_size=3) for _ in range(2))
    for value in (1.0, 2.0):
        model.learn_one({"a": value}, value)
        other.learn_one({"a": value}, value)
    with pytest.raises(ValueError, match="finite gradients"):
        model.learn_one({"a": 1.0}, 1e200)
    for one in (model, other):
        one.learn_one({"a": 3.0}, 3.0)
    assert model.learners_[0].rounds == 1
    np.testing.assert_array_equal(model.coef_, other.coef_)


ROWS = np.random.default_rng(0).standard_normal((90, 3))
UNNAMED = {
    "masked": np.ma.array(ROWS[:, 0], mask=ROWS[:, 1] > 0),
    "masked labels": np.ma.array([0, 1] * 45, mask=ROWS[:, 1] > 0),
    "NaN among words": ["a", "b", float("nan")] * 30,
    "None": ["a", "b", None] * 30,
    "empty": ["a", "b", ""] * 30,
    "missing of pandas": pd.array(["a", "b", None] * 30, dtype="string"),
    "category": pd.Categorical(["a", "b", None] * 30),
    "NaT": np.array(["2026-01-01", "NaT"] * 45, "M8[D]"),
}


@pytest.mark.parametrize("y", UNNAMED.values(), ids=UNNAMED)
def test_what_is_missing_is_no_label(y):
    with pytest.raises(ValueError, match="y must have"):
        optimistic_mirror_descent(ROWS, y)


def test_labels_of_objects_keep_their_names():
    y = np.array([True, False] * 45, dtype=object)
    assert optimistic_mirror_descent(ROWS, y).classes.tolist() == [False, True]


@pytest.mark.parametrize("curvature", ["strongly_convex", "exp_concave"])
def test_the_pool_has_no_other_curvature(curvature):
    with pytest.raises(ValueError, match="curvature"):
        optimistic_mirror_descent(ROWS, ROWS[:, 0], dynamic=True, curvature=curvature, l2=0.1)
    with pytest.raises(ValueError, match="curvature"):
        OptimisticClassifier(dynamic=True, curvature=curvature).fit(ROWS, ROWS[:, 0] > 0)


def test_ridge_with_a_gradient_bound():
    result = optimistic_mirror_descent(ROWS, ROWS[:, 0] > 0, l2=0.1, gradient_bound=3.0)
    assert result.certificates[0].name == "strongly-convex-regret"


def test_gradients_of_all_orders_are_held_against_the_bound_told():
    # One row is an outlier, whose gradient depends on how late it comes.
    y = np.random.default_rng(1).standard_normal(90)
    y[0] = 6.0
    options = {"radius": 1.0, "order": "shuffle", "rng": 0}

    def answers(G, repeats):
        result = optimistic_mirror_descent(
            ROWS, y, gradient_bound=float(G), repeats=repeats, **options
        )
        return {a.name: a.status for a in result.certificates[1].assumptions}

    bounds = np.linspace(5.5, 7, 31)
    G = next(G for G in bounds if answers(G, 1)["gradients-bounded"] is Status.MET)
    found = answers(G, 30)
    assert found["gradients-bounded"] is Status.MET  # in the first order
    assert found["of-the-runs"] is Status.VIOLATED
    assert answers(8.0, 3)["of-the-runs"] is Status.MET


def test_losses_of_ones_own_are_finite_and_may_work_in_place():
    def slope(w, a, t):
        a *= a @ w - t
        return a

    def value(w, a, t):
        return 0.5 * (a @ w - t) ** 2

    options = {"smoothness": 1.0, "batch_size": 4}
    plain = (value, lambda w, a, t: a * (a @ w - t))
    found, wanted = (
        optimistic_mirror_descent(ROWS, ROWS[:, 0], loss=pair, **options)
        for pair in ((value, slope), plain)
    )
    assert found.regret == wanted.regret
    np.testing.assert_array_equal(found.predictions, wanted.predictions)
    with pytest.raises(ValueError, match="loss"):
        optimistic_mirror_descent(ROWS, ROWS[:, 0], loss=(lambda *_: np.nan, plain[1]), **options)


def test_what_is_refused_costs_nothing_that_was_learnt():
    y = ROWS[:, 0]
    model = OptimisticRegressor(target_bound=5.0).fit(ROWS, y)
    before = model.predict(ROWS)
    for wrong in (1e3 * y, np.ma.array(y, mask=y > 0), y.astype("M8[s]")):
        for learn in (model.fit, model.partial_fit):
            with pytest.raises((TypeError, ValueError), match="y "):
                learn(ROWS, wrong)
    np.testing.assert_array_equal(model.predict(ROWS), before)
    assert model.certificates_[0].assumptions[1].status is Status.BY_CONSTRUCTION
    fresh = OptimisticClassifier()
    with pytest.raises(ValueError, match="classes"):
        fresh.learn_one({"a": 1.0}, "spam")
    with pytest.raises(ValueError, match="classes"):
        fresh.partial_fit(ROWS, ["ham", "eggs"] * 45, classes=["ham", "spam"])
    fresh.partial_fit(ROWS[:, :2], ["ham", "spam"] * 45, classes=["ham", "spam"])


def test_nothing_is_predicted_of_what_is_no_number():
    model = OptimisticClassifier()
    model.learn_one({"a": 1.0}, True)
    for ask in (model.predict_one, model.predict_proba_one):
        with pytest.raises(ValueError, match="x must hold finite numbers"):
            ask({"a": float("nan")})
    with pytest.raises(ValueError, match="masked"):
        OptimisticRegressor().fit(ROWS, ROWS[:, 0]).predict(np.ma.array(ROWS, mask=ROWS > 1))


def test_a_shallow_copy_of_a_model_shares_no_learner():
    model = OptimisticRegressor().fit(ROWS, ROWS[:, 0])
    before = model.coef_
    copy.copy(model).partial_fit(ROWS, ROWS[:, 1])
    np.testing.assert_array_equal(model.coef_, before)
