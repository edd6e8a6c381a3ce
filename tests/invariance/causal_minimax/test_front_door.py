import pickle
from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from minimax import K, rows

from whp.certificate import Status, Verdict
from whp.invariance import causal_minimax
from whp.studies.causal_minimax.laws import random_law
from whp.studies.causal_minimax.worlds import ask, judge

ENVS = np.array(["a", "b", "c", "d"])


def run(table=None, graph=K, **options):
    table = rows(4000) if table is None else table
    return causal_minimax(table, graph, **({"target": "Y", "mutable": "M", "rng": 0} | options))


def status(made, name, certificate=0):
    return next(a for a in made.certificates[certificate].conditions if a.name == name)


def test_the_useful_model():
    made = run(rows(10_000))
    assert set(made.subset) == {"X", "W"}
    assert made.worst_risk == pytest.approx(0.09, abs=0.01)
    assert made.upper_limit == pytest.approx(0.149, abs=0.01)
    assert made.erm_worst_risk >= made.worst_risk
    assert len(made.table) == 4
    risk, selection = made.certificates
    assert (risk.verdict, selection.verdict) == (Verdict.UNMEASURED, Verdict.UNMEASURED)
    assert risk.bound == made.upper_limit
    assert risk.confidence == 0.95
    assert list(made.adversary["M"].columns) == ["Y", "M"]
    assert made.cells["rows_A"].sum() == made.cells["rows_B"].sum() == 5000


def test_few_rows_are_vacuous():
    assert run(rows(500)).certificates[0].verdict is Verdict.VACUOUS


def test_held_out_environments_measure():
    table = rows(12_000).assign(env=ENVS[np.arange(12_000) % 4])
    made = run(table, env="env", test_env="d")
    assert made.certificates[0].verdict is Verdict.HOLDS
    assert made.rows == (4500, 4500, 3000)
    assert status(made, "kept-mechanisms").status is Status.NOT_REFUTED
    bad = pd.concat([table[table["env"] != "d"], rows(3000, w=0.9).assign(env="d")])
    assert run(bad, env="env", test_env=["d"]).certificates[0].verdict is Verdict.FAILS


def test_a_changed_mechanism_is_named_with_its_environment():
    table = pd.concat(
        [
            rows(8000).assign(env=[f"e{i % 8}" for i in range(8000)]),
            rows(400, 1, 0.4).assign(env="bad"),
        ]
    )
    found = status(run(table, env="env"), "kept-mechanisms")
    assert found.status is Status.VIOLATED
    assert "'W'" in found.evidence
    assert "'bad'" in found.evidence


def test_the_condition_of_the_graph_needs_no_search():
    graph = nx.DiGraph([("Y", "M"), ("M", "X"), ("Y", "W")])
    rng = np.random.default_rng(0)
    table = rows(4000)
    table["X"] = (rng.random(4000) < np.where(table["M"], 0.7, 0.2)).astype(int)
    made = run(table, graph)
    assert made.graph_condition.holds
    assert made.subset == ("W",)
    assert len(made.table) == 1
    assert [c.name for c in made.certificates] == ["worst-case-risk", "whole-set"]
    assert "few rows" in made.certificates[1].claim
    assert made.certificates[1].verdict is Verdict.UNMEASURED


def test_refit_is_void_and_stays_so():
    made = run(refit=True)
    assert made.certificates[0].verdict is Verdict.VOID
    again = pickle.loads(pickle.dumps(made))
    assert again.certificates[0].verdict is Verdict.VOID
    np.testing.assert_array_equal(again.predict(rows(50, 3)), made.predict(rows(50, 3)))


def test_copies_are_void_where_a_measurement_shows_them():
    table = rows(200).assign(weight=np.random.default_rng(0).normal(size=200))
    copied = pd.concat([table] * 20)
    assert status(run(copied), "independent-rows").status is Status.VIOLATED
    found = status(run(copied.drop(columns="weight")), "independent-rows")
    assert found.status is Status.UNCHECKED
    assert "4,000 rows, 14 distinct" in found.evidence or "distinct" in found.evidence


def test_an_environment_outside_of_the_support_is_void():
    table = rows(8000).assign(env="a")
    other = rows(1000, 5).assign(env="b")
    other.loc[other.index[:400], "M"] = 2
    made = run(pd.concat([table, other]), env="env", test_env=["b"])
    assert made.certificates[0].verdict is Verdict.VOID
    assert "40.0%" in status(made, "within-support").evidence
    other.loc[other.index[20:400], "M"] = 1
    made = run(pd.concat([table, other]), env="env", test_env=["b"])
    assert status(made, "within-support").status is Status.UNCHECKED
    assert made.certificates[0].inputs["largest share outside"] == pytest.approx(0.02)


def test_units_of_the_target_scale_the_risks():
    table = rows(4000)
    made, other = run(table), run(table.assign(Y=table["Y"] * 4e-7 + 3))
    assert other.worst_risk == pytest.approx(made.worst_risk * 1.6e-13, rel=1e-6)
    assert other.upper_limit == pytest.approx(made.upper_limit * 1.6e-13, rel=1e-6)
    assert [c.verdict for c in other.certificates] == [c.verdict for c in made.certificates]


def test_true_and_false_are_numbers():
    table = rows(4000)
    assert run(table.astype(bool)).worst_risk == pytest.approx(run(table).worst_risk)


def test_a_wider_range_widens_the_limit():
    table = rows(4000)
    wide = run(table, y_range=(-1, 2))
    assert wide.upper_limit > 3 * run(table).upper_limit
    assert status(wide, "bounded-loss").status is Status.MET
    real = table.assign(Y=table["Y"] + np.arange(4000) % 3 / 10)
    assert status(run(real), "bounded-loss").status is Status.UNCHECKED


def test_joined_mutable_variables_have_a_limit_and_others_none():
    rng = np.random.default_rng(0)
    n = 8000
    y = rng.integers(0, 2, n)
    a, b = ((rng.random(n) < np.where(y, 0.6, 0.4)).astype(int) for _ in range(2))
    x = (rng.random(n) < np.where(a ^ b, 0.5, 0.8 * y + 0.1)).astype(int)
    table = pd.DataFrame({"Y": y, "A": a, "B": b, "X": x})
    graph = nx.DiGraph([("Y", "A"), ("Y", "B"), ("Y", "X"), ("A", "X"), ("B", "X")])
    made = run(table, graph, mutable="A,B")
    assert made.worst_risk <= made.upper_risk <= made.upper_limit < 0.4
    assert set(made.adversary) == {"A", "B"}
    between = nx.DiGraph([("Y", "A"), ("A", "X"), ("X", "B"), ("Y", "X")])
    made = run(table, between, mutable=["A", "B"])
    assert np.isinf(made.upper_limit)
    assert made.worst_risk <= made.upper_risk
    assert made.certificates[0].verdict in (Verdict.VACUOUS, Verdict.VOID)
    assert "name one mutable variable" in made.certificates[0].remedy


def test_a_hundred_random_models_are_below_their_limits():
    for seed in range(60):
        rng = np.random.default_rng(seed)
        law, mutable = random_law(rng, 4, 1)
        table = law.sample(rng, 2000)
        if any(table[c].nunique() < 2 for c in law.names):
            continue
        made = causal_minimax(**ask(law, table, rng, mutable=list(mutable)))
        assert judge(law, mutable)(made)["worst-case-risk"]


def test_nothing_stable_gives_the_mean_by_value_of_the_mutable():
    made = run(rows(1000)[["Y", "M"]], nx.DiGraph([("Y", "M")]))
    assert made.subset == ()
    assert len(np.unique(made.predict(rows(20)))) <= 2


def test_what_is_left_out_is_said():
    assert "not in the graph: extra" in run(rows(500).assign(extra=1)).summary()["input"]


def test_a_reversible_edge_is_listed():
    found = status(run(rows(4000)), "graph-is-right")
    assert found.status is Status.NOT_REFUTED
    assert "no test sees the direction of" in found.evidence
    wrong = K.copy()
    wrong.remove_edge("Y", "W")
    assert status(run(rows(4000), wrong), "graph-is-right").status is Status.VIOLATED


def test_by_construction_is_not_for_another_predictor():
    assert status(run(), "certified-is-returned").status is Status.BY_CONSTRUCTION
    assert status(run(refit=True), "certified-is-returned").status is Status.VIOLATED
    assert status(run(), "additive-equations").status is Status.BY_CONSTRUCTION


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"target": "y"}, "target: data has no column 'y'; did you mean 'Y'"),
        ({"mutable": "N"}, "mutable: data has no column 'N'"),
        ({"mutable": "Y"}, "mutable must not name the target"),
        ({"mutable": None}, "mutable must be given with a graph"),
        ({"env": "where"}, "env: data has no column"),
        ({"test_env": ["a"]}, "test_env must go with env"),
        ({"graph": None, "env": None}, "env must name a column with at least two environments"),
        ({"bins": 1}, "bins must be"),
        ({"bins": {"M": []}}, "bins\\['M'\\] must hold rising finite edges"),
        ({"bins": {"Q": [1]}}, "bins: data has no column 'Q'"),
        ({"y_range": (0, 0.5)}, "y_range must hold all rows"),
        ({"y_range": (2, 1)}, "y_range must rise"),
        ({"noise": "drop"}, "noise must be left out"),
        ({"method": "regression", "bins": 3}, "bins must be left out"),
        ({"max_classes": 2}, "max_classes: the graph has more than 2 classes"),
    ],
)
def test_what_does_not_go_together_is_named(options, told):
    graph = options.pop("graph", K)
    with pytest.raises(ValueError, match=told):
        run(rows(200), graph, **options)


def test_data_that_cannot_be_used_are_named():
    table = rows(200)
    with pytest.raises(ValueError, match="column 'X' has a missing value"):
        run(table.assign(X=table["X"].astype(float).where(table.index > 0)))
    with pytest.raises(ValueError, match="mutable: column 'M' is constant"):
        run(table.assign(M=1))
    with pytest.raises(ValueError, match="target 'Y' is constant"):
        run(table.assign(Y=1))
    with pytest.raises(ValueError, match="graph has the node 'W', and data has no such column"):
        run(table.drop(columns="W"))
    with pytest.raises(ValueError, match="2 columns named 'X'"):
        run(pd.concat([table, table[["X"]]], axis=1))
    graph = nx.DiGraph([*K.edges, ("C", "Y")])
    measured = table.assign(C=np.random.default_rng(0).normal(size=200))
    with pytest.raises(ValueError, match="different numbers in half A and no bins"):
        run(measured, graph, method="tabular")
    made = run(table)
    with pytest.raises(ValueError, match="data has no column 'M'"):
        made.predict(table[["X", "W"]])


def test_values_that_half_A_has_not_seen_get_the_mean():
    made = run(rows(4000))
    strange = made.predict(rows(5).assign(W=7))
    assert (strange == made.predictor.means.fill).all()


@pytest.mark.parametrize("kind", [float, bool, "category", "Int64", "boolean", "float32", object])
def test_rows_to_predict_may_have_other_types(kind):
    made, table = run(rows(4000)), rows(50)
    np.testing.assert_array_equal(made.predict(table.astype(kind)), made.predict(table))


def test_narrow_floats_are_the_same_numbers():
    table = rows(4000)
    tenths = table.assign(M=table.M * 0.1, X=table.X * 0.3)
    made = run(tenths.astype({"M": "float32", "X": "float32"}))
    np.testing.assert_array_equal(made.predict(tenths), run(table).predict(table))


def test_truth_values_read_as_objects():
    table = rows(4000).astype(bool)
    made = run(table)
    np.testing.assert_array_equal(made.predict(table.astype(object)), made.predict(table))


def test_texts_for_numbers_are_refused():
    table = rows(4000)
    words = table.astype({"M": str, "X": str, "W": str})
    with pytest.raises(ValueError, match="column 'W' holds texts, and held numbers in training"):
        run(table).predict(words)
    with pytest.raises(ValueError, match="column 'W' holds numbers, and held texts in training"):
        run(words).predict(table)


def test_counts_that_are_mostly_zero_have_a_bin_of_their_own():
    rng = np.random.default_rng(0)
    some = rng.random(4000) < 0.15
    table = rows(4000).assign(M=np.where(some, rng.integers(1, 60, 4000), 0))
    made = run(table, bins=3)
    assert list(made.cells["M"]) == ["below 1", "1 and more"] * 2
    assert made.cells["supported"].all()
    with pytest.raises(ValueError, match="'M' are in one bin"):
        run(table, bins={"M": [100.0]})


def test_infinity_has_no_bin():
    table = rows(200).assign(W=np.random.default_rng(0).normal(size=200))
    table.loc[3, "W"] = np.inf
    with pytest.raises(ValueError, match="column 'W' must be finite"):
        run(table, bins=3)


def test_only_truth_values_are_known_to_be_two():
    def status(table, **options):
        answers = run(table, **options).certificates[0].conditions
        return next(a.status for a in answers if a.name == "bounded-loss")

    assert status(rows(400)) is Status.UNCHECKED
    assert status(rows(400), y_range=(0, 1)) is Status.MET
    assert status(rows(400).astype({"Y": bool})) is Status.MET


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_units_without_squares_are_refused(scale):
    table = rows(400)
    with pytest.raises(ValueError, match=r"target 'Y' goes from 0 to 1e.*take another unit"):
        run(table.assign(Y=table.Y * scale))


def test_environments_that_are_floats():
    table = rows(3000).assign(env=np.arange(3000) % 3 * 1.0)
    assert run(table, env="env", test_env=[1.0]).rows == run(table, env="env", test_env="1").rows


def test_results_are_values():
    made = run()
    with pytest.raises(AttributeError):
        made.subset = ()
    assert replace(made, notes=("x",)).notes == ("x",)


@pytest.mark.parametrize("kind", ["str", "category", "string", object])
def test_many_categories_are_no_measurement(kind):
    shops = np.random.default_rng(0).integers(0, 30, 4000)
    table = rows(4000).assign(C=pd.Series([f"shop {i}" for i in shops], dtype=kind))
    graph = nx.DiGraph([*K.edges, ("C", "Y")])
    made = run(table, graph, bins=3)
    assert made.method == run(table, graph).method == "tabular"
    assert made.predictors[-1].coding.columns["C"].size == 30


def test_too_many_combinations_are_refused():
    words = np.random.default_rng(0).integers(0, 9000, (2, 20_000))
    table = rows(20_000).assign(M=words[0].astype(str), N=words[1].astype(str))
    graph = nx.DiGraph([*K.edges, ("Y", "N")])
    with pytest.raises(ValueError, match=r"mutable: M, N and their parents have .* combinations"):
        run(table, graph, mutable=["M", "N"])
