import numpy as np
import pytest
from groupwise import stream
from guarantee import assert_error_rate
from hypothesis import given, settings
from hypothesis import strategies as st

from whp.certificate import Verdict
from whp.datasets import tables
from whp.online import AdaNormalHedge, GroupwiseLearner, OnlineRidge, groupwise_regret


def test_5_census():
    X, y, G = tables.census_groups()
    order = np.random.default_rng(0).permutation(len(X))
    rows, target, groups = X.to_numpy()[order], y.to_numpy()[order], G.iloc[order]
    found = groupwise_regret(rows, target, groups, target_range=(0, 1))
    report = found.report.set_index("group")
    everyone, female, other = report.loc["everyone"], report.loc["Female"], report.loc["Other"]
    assert (everyone["mixture"], everyone["loss"], everyone["global"]) == pytest.approx(
        (3676.8828996, 3651.1439839, 3745.3088802)
    )
    assert found.certificates[0].inputs["B"] == pytest.approx(8.8379763)
    assert (female["loss"], female["global"], female["own"]) == pytest.approx(
        (675.2313328, 707.1919301, 679.8761296)
    )
    assert (female["bound"], female["regret"]) == pytest.approx((46.01, -5.23), abs=0.01)
    assert (female["best"], female["best_plain"], female["logdet"]) == pytest.approx(
        (680.4616685, 678.6935158, 210.1696109)
    )
    assert (other["loss"], other["global"], other["own"]) == pytest.approx(
        (18.7430104, 19.7876390, 20.2431058)
    )
    assert (other["bound"], other["regret"]) == pytest.approx((19.48, 3.48), abs=0.01)
    vaw = groupwise_regret(rows, target, groups, target_range=(0, 1), forecaster="vaw")
    again = vaw.report.set_index("group")
    assert tuple(again.loc["everyone", ["mixture", "loss", "global"]]) == pytest.approx(
        (3675.7321532, 3666.5143253, 3745.5655880)
    )
    assert vaw.certificates[0].inputs["B"] == pytest.approx(8.7108417)
    assert {c.verdict for c in (*found.certificates, *vaw.certificates)} == {Verdict.HOLDS}


def test_6_medical_costs():
    X, y, G = tables.medical_costs()
    order = np.random.default_rng(0).permutation(len(X))
    found = groupwise_regret(
        X.to_numpy()[order], y.to_numpy()[order], G.iloc[order], target_range=(0, 1)
    )
    report = found.report.set_index("group")
    assert tuple(report.loc["everyone", ["mixture", "loss", "global"]]) == pytest.approx(
        (151.3076924, 150.4454857, 149.9175415)
    )
    assert tuple(report.loc["black", ["mixture", "global", "own", "best"]]) == pytest.approx(
        (16.0248946, 15.6703297, 17.0089425, 15.2574721)
    )
    assert found.certificates[0].inputs["B"] == pytest.approx(4.0314628)
    assert {c.verdict for c in found.certificates} == {Verdict.HOLDS}
    assert report["global_wins"].sum() == 14


def test_7_single_and_disjoint_groups():
    X, y, _ = stream()
    alone = groupwise_regret(X, y, target_range=(0, 1))
    learner = OnlineRidge(3)
    for x, target, said in zip(X, y, alone.predictions, strict=True):
        assert learner.predict_one(x) == said
        learner.learn_one(x, target)
    assert alone.report.loc[0, "meta_bound"] == 0
    assert alone.certificates[0].inputs["B"] == 1
    halves = GroupwiseLearner(lambda: OnlineRidge(3), 2)
    apart = [OnlineRidge(3), OnlineRidge(3)]
    for t, (x, target) in enumerate(zip(X, y, strict=True)):
        active = [t % 2 == 0, t % 2 == 1]
        assert halves.predict(x, active) == pytest.approx(apart[t % 2].predict_one(x), abs=1e-12)
        halves.update(x, target, active)
        apart[t % 2].learn_one(x, target)


def test_9_sampled_groups_have_the_mixtures_loss():
    X, y, G = stream(T=60)
    runs = [
        groupwise_regret(X, y, G, target_range=(0, 1), prediction="sample", rng=s)
        for s in range(400)
    ]
    losses = np.array([r.report["loss"].iloc[-1] for r in runs])
    mixture = runs[0].report["mixture"].iloc[-1]
    assert abs(losses.mean() - mixture) <= 4 * losses.std() / 20


def test_9_the_bound_with_coins_keeps_its_promise():
    def instance(rng):
        T, N = 150, int(rng.integers(1, 4))
        X, G = rng.random((T, 2)), rng.random((T, N)) < 0.6
        y = (rng.random(T) < 0.5) * 1.0
        return groupwise_regret(
            X, y, G, target_range=(0, 1), prediction="sample", rng=rng
        ).certificates[-1]

    assert_error_rate(instance, 0.05, n=300)


def test_8_no_group_breaks_its_bound():
    def instance(rng):
        T, d, N = 80, int(rng.integers(1, 4)), int(rng.integers(1, 5))
        X, G = rng.standard_normal((T, d)), rng.random((T, N)) < rng.random(N)
        kind = rng.integers(3)
        y = [
            rng.random(T),
            (rng.random(T) < 0.5) * 1.0,
            np.clip(X[:, 0] * np.where(G[:, 0], 1, -1), 0, 1),
        ][kind]
        forecaster = "vaw" if rng.random() < 0.5 else "ridge"
        made = groupwise_regret(
            X, y, G, target_range=(0, 1), forecaster=forecaster, lam=float(rng.uniform(0.1, 3))
        )
        return [c for c in made.certificates if c.measured is not None]

    assert_error_rate(instance, 0.0, n=300)


def test_long_runs_stay_exact():
    X, y, G = stream(T=5000, d=4)
    found = groupwise_regret(X, y, G, target_range=(0, 1))
    for g, name in enumerate(found.report["group"]):
        member = np.ones(5000, dtype=bool) if name == "everyone" else G[:, g]
        A = np.eye(4) + X[member].T @ X[member]
        b = X[member].T @ y[member]
        best = y[member] @ y[member] - b @ np.linalg.solve(A, b)
        assert found.report.loc[g, "best"] == pytest.approx(best, abs=1e-8)


MISUSE = [
    ({"X": None}, "X"),
    ({"X": np.full((40, 3), np.nan)}, "X"),
    ({"y": np.ones(3)}, "y"),
    ({"y": None}, "y"),
    ({"y": ["a", "b", "c", "d"] * 10}, "y must be numbers or two labels"),
    ({"target_range": (0, 0.5)}, "target_range .* row"),
    ({"target_range": (1, 0)}, "target_range"),
    ({"groups": np.full((40, 1), 0.5)}, "groups contains values other than 0/1"),
    ({"groups": np.full((40, 1), np.nan)}, "groups contains values other than 0/1"),
    ({"groups": np.ones((3, 1))}, "groups must have shape"),
    ({"groups": np.zeros((40, 0))}, "groups must have shape"),
    ({"groups": "age"}, "groups"),
    ({"lam": 0.0}, "lam"),
    ({"forecaster": "lasso"}, "forecaster"),
    ({"prediction": "median"}, "prediction"),
    ({"loss_range": (0.5, 1)}, "loss_range"),
    ({"order": "sorted"}, "order"),
    ({"group_names": ["a"]}, "group_names"),
]


@pytest.mark.parametrize(("wrong", "named"), MISUSE, ids=str)
def test_misuse_is_named(wrong, named):
    X, y, G = stream(T=40)
    with pytest.raises((ValueError, TypeError), match=named):
        groupwise_regret(**{"X": X, "y": y, "groups": G, "target_range": (0, 1), **wrong})


values = st.one_of(st.floats(), st.text(max_size=2), st.none(), st.integers(-1, 2))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.lists(values, max_size=3), max_size=4),
    st.lists(values, max_size=4),
    st.one_of(st.none(), st.text(max_size=4), st.lists(st.lists(values, max_size=2), max_size=4)),
)
def test_bad_input_is_refused_by_name(X, y, groups):
    told = ""
    try:
        groupwise_regret(X, y, groups)
    except (ValueError, TypeError) as error:
        told = str(error)
    assert not told or told.startswith(("X ", "y ", "group"))


def test_targets_that_no_float_can_part_are_scaled_or_refused():
    one = groupwise_regret([[0.0], [1.0]], [2.0**53, 2.0**53])
    assert np.isfinite(one.predictions).all()
    with pytest.raises(ValueError, match="y must span a finite range"):
        groupwise_regret([[0.0], [1.0]], [-1.5e308, 1.5e308])


def test_11_void_vacuous_and_unmeasured():
    X, y, G = stream(T=60)
    narrow = groupwise_regret(X, y, G, target_range=(0, 1), loss_range=(0, 0.01))
    assert {c.verdict for c in narrow.certificates} == {Verdict.VOID}
    last = (np.arange(50) == 49)[:, None]
    late = groupwise_regret(np.ones((50, 1)), np.ones(50), last, target_range=(0, 1))
    assert [c.verdict for c in late.certificates] == [Verdict.VACUOUS, Verdict.HOLDS]
    hedge = AdaNormalHedge(2)
    hedge.update([0.0, 1.0], [True, True])
    assert (hedge.C[0], hedge.B, hedge.bound()[0]) == pytest.approx((0.5, 1.75, 1.3708), abs=1e-4)
    empty = groupwise_regret(X, y, np.column_stack([G, np.zeros(60)]), target_range=(0, 1))
    assert empty.certificates[3].verdict == Verdict.UNMEASURED


def test_rows_can_be_joined_to_the_data():
    X, y, G = stream()
    made = groupwise_regret(X, 5 * y, G, target_range=(0, 5), order="shuffle", rng=0)
    table = made.artifacts()["predictions.csv"].sort_values("row")
    error = np.sqrt(np.mean((table["prediction"].to_numpy() - 5 * y) ** 2))
    assert made.report["rmse_loss"].iloc[-1] == pytest.approx(error)
    assert sorted(made.rows) == list(range(200))


def test_ties_with_the_global_model_are_no_gain():
    X, y, _ = stream()
    assert groupwise_regret(X, y, target_range=(0, 1)).summary()["groups_better_than_under_it"] == 0


def test_curves_end_where_the_report_does():
    X, y, G = stream()
    made = groupwise_regret(X, y, G, target_range=(0, 1))
    report = made.report.set_index("group")
    for name, (time, ours, theirs) in made.curves.items():
        assert time[-1] == report.loc[name, "rounds"]
        wanted = report.loc[name, ["loss", "global"]] - report.loc[name, "best_plain"]
        assert (ours[-1], theirs[-1]) == pytest.approx(tuple(wanted), abs=1e-9)


def test_targets_as_text():
    X, y, _ = stream(T=60)
    as_numbers = groupwise_regret(X, np.where(y > 0.5, 10, 9))
    as_text = groupwise_regret(X, np.where(y > 0.5, "10", "9"))
    np.testing.assert_array_equal(as_text.predictions, as_numbers.predictions)
    with pytest.raises(ValueError, match="y must have no missing labels, row"):
        groupwise_regret(X, np.where(y > 0.5, "yes", ""))
    with pytest.raises(ValueError, match="y must have no masked"):
        groupwise_regret(X, np.ma.masked_array(y, mask=y > 0.5))
