import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits, load_wine

from whp.certificate import Status, Verdict
from whp.rl import TestSelection, latent_mdp
from whp.rl._latent_mdp.selection import fitted, halved, outcomes


def whole(data, F, queries):
    """The model fitted to all rows, and its share of right labels there."""
    y = data.target.to_numpy()
    rows, names = np.ones(len(y), bool), [str(m) for m in range(y.max() + 1)]
    found, _ = outcomes(data.data, rows, 3)
    fit = fitted(found, y, len(names), rows, F, ())
    problem = TestSelection.of(fit.w, fit.laws, names, queries)
    plan = problem.model.optimal()
    return plan.value, (problem.play(plan.policy, fit.tests.code)[0] == y).mean()


@pytest.mark.parametrize(
    ("F", "values"), [(6, (0.3989, 0.7584, 0.9049, 0.9413)), (5, (0.3989, 0.7584, 0.9049))]
)
def test_values_on_wine(F, values):
    for queries, value in enumerate(values):
        assert whole(load_wine(as_frame=True), F, queries)[0] == pytest.approx(value, abs=1e-4)


def test_values_on_digits():
    for queries, value in enumerate((0.1018, 0.2507, 0.4251, 0.6094)):
        assert whole(load_digits(as_frame=True), 12, queries)[0] == pytest.approx(value, abs=1e-4)


def test_the_leak_on_wine():
    assert whole(load_wine(as_frame=True), 6, 2)[1] == pytest.approx(0.944, abs=1e-3)


def table(n=200, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=n)
    good = np.where(rng.random(n) < 0.85, y, 1 - y)
    return pd.DataFrame({"good": good, "noise": rng.integers(2, size=n), "label": y}).astype(str)


def test_it_asks_what_helps():
    found = latent_mdp(table(600), context="label", queries=1, rng=0)
    assert found.steps["does"].iloc[0] == "ask good"
    assert found.accuracy.value == pytest.approx(0.85, abs=0.1)
    verdicts = {c.name: c.verdict for c in found.certificates}
    assert verdicts == {"plan": Verdict.HOLDS, "accuracy": Verdict.HOLDS}
    assert found.certificates[0].headline.startswith("holds of the fit")


def test_a_demand_is_met_or_not():
    made = {
        d: latent_mdp(table(), context="label", queries=1, at_least=d, rng=0) for d in (0.6, 0.99)
    }
    assert made[0.6].certificates[1].verdict is Verdict.HOLDS
    assert made[0.99].certificates[1].verdict is Verdict.FAILS


def test_an_ordinary_demand_can_be_vacuous():
    shares = table().assign(label=np.where(np.arange(200) % 10, "well", "sick"))
    made = latent_mdp(shares, context="label", queries=1, at_least=0.85, rng=0)
    assert made.certificates[1].verdict is Verdict.VACUOUS


def test_nothing_is_counted_unless_asked_for():
    made = latent_mdp(table(), context="label", measure=False, rng=0)
    assert made.accuracy is None
    assert made.certificates[1].verdict is Verdict.UNMEASURED


def test_halves_are_halves_of_each_label():
    y = np.repeat([0, 1, 2], [11, 7, 40])
    half = halved(y, np.random.default_rng(0))
    counts = np.bincount(y[half])
    assert (np.abs(2 * counts - [11, 7, 40]) <= 1).all()


def test_nobody_gets_round_the_halves():
    """What stands in the other half changes neither bins, nor ranking, nor plan."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(100, 8)), columns=list("abcdefgh"))
    y = rng.integers(2, size=100)
    half = halved(y, np.random.default_rng(5))
    other = X.copy()
    other.loc[~half] = rng.normal(size=(int((~half).sum()), 8)) * 100
    other.loc[~half, "a"] += 1e6 * y[~half]
    made = [
        latent_mdp(t.assign(label=y), context="label", rng=5, measure=False) for t in (X, other)
    ]
    assert made[0].steps.equals(made[1].steps)
    by_hand = latent_mdp(X.assign(label=y), context="label", features=("a",), rng=5)
    for found, status in ((made[0], Status.BY_CONSTRUCTION), (by_hand, Status.UNCHECKED)):
        answers = {a.name: a.status for a in found.certificates[1].conditions}
        assert answers["half-not-seen"] is status


def test_a_new_word_in_the_other_half_is_a_result_of_its_own():
    rows = table()
    rows.loc[rows.index[::20], "good"] = [f"word {i}" for i in range(len(rows[::20]))]
    made = latent_mdp(rows, context="label", queries=2, rng=0)
    assert made.accuracy is not None


@pytest.mark.parametrize("stray", [np.inf, "n/a"])
def test_what_is_no_number_among_numbers_is_named(stray):
    rng = np.random.default_rng(0)
    values = rng.normal(size=200).astype(object)
    values[4] = stray
    rows = table().assign(size=values if isinstance(stray, str) else values.astype(float))
    with pytest.raises(ValueError, match=r"column 'size' holds '(inf|n/a)' in row 5 among numbers"):
        latent_mdp(rows, context="label", rng=0)


def test_a_name_is_no_test():
    rows = table().assign(name=[f"patient {i}" for i in range(200)])
    with pytest.warns(UserWarning, match="'name' has 100 different texts"):
        made = latent_mdp(rows, context="label", queries=1, rng=0)
    assert made.steps["does"].iloc[0] == "ask good"


def test_order_of_columns_and_unit_change_nothing():
    data = load_wine(as_frame=True).frame
    a = latent_mdp(data, context="target", rng=3)
    b = latent_mdp(data[data.columns[::-1]] * 1.0, context="target", rng=3)
    assert a.value == pytest.approx(b.value)
    assert a.accuracy.value == pytest.approx(b.accuracy.value, abs=0.03)  # ties between tests


def test_learning_on_the_fitted_model():
    made = latent_mdp(table(), context="label", queries=1, episodes=300, rng=0)
    regret = made.certificates[2]
    assert regret.measured is not None
    assert 0 <= regret.measured.value <= regret.bound
    assert made.summary()["episodes_learnt"] == 300


def test_a_log_in_which_not_all_was_done_is_not_counted():
    rng = np.random.default_rng(0)
    rows = []
    for k in range(80):
        sick = k % 2
        for j in rng.permutation(3)[:2]:
            result = "yes" if rng.random() < (0.7 if sick else 0.3) else "no"
            rows.append((k, f"test {j}", result, "sick" if sick else "well"))
    log = pd.DataFrame(rows, columns=["episode", "test", "result", "diagnosis"])
    made = latent_mdp(log, context="diagnosis", rng=0)
    assert made.accuracy is None
    assert made.certificates[1].verdict is Verdict.UNMEASURED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": None}, "context must name"),
        ({"context": "nothing"}, "no column 'nothing'"),
        ({"features": ("label",)}, "must not hold the column of labels"),
        ({"data": [1, 2]}, "must be a table"),
        ({"queries": -1}, "queries"),
        ({"reward_scale": 2.0}, "go with a model"),
        ({"data": {"P": 1}, "at_least": 0.5}, "go with a table"),
    ],
)
def test_what_is_refused(change, message):
    given = {"data": table(), "context": "label"} | change
    with pytest.raises((TypeError, ValueError), match=message):
        latent_mdp(**given)


def test_a_picture_of_either_kind():
    from matplotlib.figure import Figure

    from whp.rl import LatentMDP

    model = LatentMDP([1.0], [[1.0]], [[[[1.0]]]], [[[0.5]]], 1)
    arrays = {"w": model.w, "nu": model.nu, "P": model.P, "R": model.R}
    for made in (latent_mdp(table(), context="label", rng=0), latent_mdp(arrays, horizon=1)):
        made.plot(Figure().subplots())


def test_codes_with_leading_zeros_are_no_numbers():
    table = pd.DataFrame({"code": ["007", "7"] * 20, "label": ["a", "b"] * 20})
    made = latent_mdp(table, context="label", queries=1, rng=0)
    assert made.accuracy.value == 1


def test_numbers_of_a_log_are_cut_as_those_of_a_table_are():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 400)
    x = y + rng.normal(size=(2, 400)).round(3)
    table = pd.DataFrame({"a": x[0], "b": x[1], "label": y})
    log = table.reset_index(names="episode").melt(
        ["episode", "label"], var_name="test", value_name="result"
    )
    log["episode"] = log["episode"].astype(str).str.zfill(3)  # the order of the rows
    one, two = (latent_mdp(data, context="label", rng=0) for data in (table, log))
    assert one.steps.equals(two.steps)
    assert one.accuracy == two.accuracy


def test_a_result_that_only_the_other_half_has_is_not_fitted():
    rows = [(k, "a", "yes" if k % 2 else "no", k % 2) for k in range(60)]
    log = pd.DataFrame([*rows, (60, "b", "x", 0)], columns=["episode", "test", "result", "label"])
    names = latent_mdp(log, context="label", rng=0).steps["does"]
    assert not names.str.contains("ask b").any()


def test_two_columns_of_one_name():
    table = pd.DataFrame([[1, 2, "a"], [2, 1, "b"]] * 5, columns=["x", "x", "label"])
    with pytest.raises(ValueError, match="two columns 'x'"):
        latent_mdp(table, context="label")
