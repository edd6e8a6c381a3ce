from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from minimax import surprising

from whp.certificate import Status, Verdict
from whp.invariance import DiscreteSCM, minimax_of_model, worst_case_risk
from whp.invariance._causal_minimax.model import predictor_table, risk_of
from whp.studies.causal_minimax.laws import random_law
from whp.studies.causal_minimax.worlds import as_model, model_where, subsets, true_risk


@pytest.mark.parametrize(
    ("p", "q", "nothing", "all_"),
    [(0.6, 1 / 3, 0.24, 0.244), (0.8, 0.75, 0.16, 0.178), (0.9, 8 / 9, 0.09, 0.106)],
)
def test_the_whole_set_can_be_worse_than_nothing(p, q, nothing, all_):
    model = surprising(p, q)
    assert worst_case_risk(model, []) == pytest.approx(nothing, abs=1e-12)
    assert worst_case_risk(model, ["X"]) == pytest.approx(all_, abs=1e-12)


def test_its_predictor_and_its_adversary():
    model = surprising(0.8, 0.75)
    f = predictor_table(model, ["X"]).squeeze()  # (m, x)
    np.testing.assert_allclose(f, [[0.5, 1.0], [0.8, 0.8]])
    np.testing.assert_array_equal(risk_of(model, predictor_table(model, ["X"])).choice["M"], [1, 0])


def test_with_one_variable_more():
    model = surprising(0.8, 0.75, z=True)
    assert worst_case_risk(model, ["Z"]) == pytest.approx(0.1709271450, abs=1e-10)
    assert worst_case_risk(model, ["X", "Z"]) == pytest.approx(0.178, abs=1e-12)
    made = minimax_of_model(model)
    assert list(made.table["subset"]) == ["", "X", "Z"]
    assert made.subset == ()


def chain(z):
    graph = nx.DiGraph([("Y", "M"), ("M", "Z"), ("Y", "W")])
    tables = {"Y": [0.3, 0.7], "M": [[0.2, 0.8], [0.6, 0.4]], "Z": z, "W": [[0.8, 0.2], [0.4, 0.6]]}
    return DiscreteSCM(graph, tables, "Y", ["M"])


@pytest.mark.parametrize("z", [[[0.3, 0.7], [0.9, 0.1]], [[1, 0], [0, 1]]])
def test_where_the_graph_says_so_the_whole_set_is_best(z):
    model = chain(z)
    risks = [worst_case_risk(model, s) for s in ([], ["Z"], ["W"], ["Z", "W"])]
    np.testing.assert_allclose(risks, [0.21, 0.21, 0.1817307692, 0.1817307692], atol=1e-10)
    whole = minimax_of_model(model).certificates[0]
    assert whole.verdict is Verdict.HOLDS
    assert all(a.status in (Status.BY_CONSTRUCTION, Status.MET) for a in whole.conditions)


@pytest.mark.parametrize("mutable", [1, 2])
@pytest.mark.parametrize("seed", range(15))
def test_risks_equal_brute_force(seed, mutable):
    rng = np.random.default_rng(seed)
    law, chosen = random_law(rng, 4, mutable)
    model = as_model(law, chosen)
    stable = [v for v in law.names if v != "Y" and v not in chosen]
    for subset in subsets(stable):
        assert worst_case_risk(model, subset) == pytest.approx(
            true_risk(law, subset, chosen), abs=1e-12
        )
        found = risk_of(model, predictor_table(model, subset))
        assert found.lower <= found.upper + 1e-12


def test_violations_of_the_papers_theorem_are_not_found():
    rng = np.random.default_rng(0)
    beaten = 0
    for _ in range(150):
        law, mutable = model_where(rng, True, int(rng.integers(1, 3)))
        assert minimax_of_model(as_model(law, mutable)).certificates[0].verdict is not Verdict.FAILS
        law, mutable = model_where(rng, False)
        whole = minimax_of_model(as_model(law, mutable)).certificates[0]
        assert whole.verdict is Verdict.VOID
        assert whole.measured is not None
        beaten += whole.measured.low > 1e-10
    assert beaten > 20


def test_a_model_of_another_class_is_not_by_construction():
    class Other(DiscreteSCM):
        def kept(self):
            return super().kept() ** 2

    base = surprising(0.8, 0.75)
    other = Other(base.graph, base.tables, "Y", ["M"], parents=base.parents)
    statuses = {a.status for c in minimax_of_model(other).certificates for a in c.conditions}
    assert Status.BY_CONSTRUCTION not in statuses
    patched = surprising(0.8, 0.75)
    object.__setattr__(patched, "kept", lambda: base.kept())
    statuses = {a.status for c in minimax_of_model(patched).certificates for a in c.conditions}
    assert Status.BY_CONSTRUCTION not in statuses


def test_a_larger_alphabet_never_helps():
    rng = np.random.default_rng(0)
    for _ in range(20):
        M = rng.dirichlet(np.ones(3), 2)
        X = rng.dirichlet(np.ones(2), (2, 3))
        graph = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])
        wide = DiscreteSCM(
            graph, {"Y": [0.4, 0.6], "M": M, "X": X}, "Y", ["M"], parents={"X": ("Y", "M")}
        )
        less = {"Y": [0.4, 0.6], "M": M[:, :2] / M[:, :2].sum(axis=1, keepdims=True), "X": X[:, :2]}
        narrow = DiscreteSCM(graph, less, "Y", ["M"], parents={"X": ("Y", "M")})
        for subset in ([], ["X"]):
            assert worst_case_risk(wide, subset) >= worst_case_risk(narrow, subset) - 1e-12


def test_a_linear_gaussian_risk_does_not_depend_on_the_adversary():
    rng = np.random.default_rng(0)
    n = 400_000
    y, first, second = rng.normal(size=(3, n))
    for m in (np.zeros(n), -3 * y, y**2):
        x = y + m + first
        z = 2 * x - m + y / 2 + second
        # Closed forms of E[Y | x, do(m)], with x - m and z - m linear in the noise alone.
        a, b = x - m, z - m
        assert ((y - a / 2) ** 2).mean() == pytest.approx(0.5, abs=0.003)
        assert ((y - 2.5 / 11.25 * b) ** 2).mean() == pytest.approx(4 / 9, abs=0.003)
        both = np.linalg.solve([[2, 4.5], [4.5, 11.25]], [1, 2.5])
        assert ((y - both[0] * a - both[1] * b) ** 2).mean() == pytest.approx(4 / 9, abs=0.003)


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"Y": [0.5, 0.6]}, "tables\\['Y'\\] must hold probabilities"),
        ({"M": [0.5, 0.5]}, "must have an axis for each of its parents"),
        ({"M": [[0.5, 0.5]] * 3}, "must have shape \\(2, 2\\)"),
        ({"Y": [np.nan, 1]}, "must hold probabilities"),
    ],
)
def test_tables_that_are_none_are_named(tables, told):
    base = {"Y": [0.5, 0.5], "M": [[0.5, 0.5]] * 2}
    with pytest.raises(ValueError, match=told):
        DiscreteSCM(nx.DiGraph([("Y", "M")]), base | tables, "Y", ["M"])


def test_what_is_asked_of_a_model_is_checked():
    model = surprising(0.8, 0.75)
    with pytest.raises(ValueError, match="must name stable nodes, got 'M'"):
        worst_case_risk(model, ["M"])
    with pytest.raises(ValueError, match="values must hold 2 finite numbers"):
        replace(model, values=[1.0])


def test_values_have_a_unit():
    model = surprising(0.8, 0.75)
    other = replace(model, values=(-10.0, 30.0))
    assert worst_case_risk(other, ["X"]) == pytest.approx(1600 * worst_case_risk(model, ["X"]))


@pytest.mark.parametrize("low", [1e8, -1e12])
def test_a_target_far_from_zero_loses_no_digits(low):
    near, far = (
        minimax_of_model(replace(surprising(0.8, 0.75, z=True), values=[v, v + 1]), rng=0)
        for v in (0.0, low)
    )
    assert far.worst_risk == near.worst_risk
    assert [c.verdict for c in far.certificates] == [c.verdict for c in near.certificates]
    model = replace(surprising(0.8, 0.75), values=[low, low + 2])
    assert worst_case_risk(model, "X") == pytest.approx(4 * 0.178, abs=1e-12)


@pytest.mark.parametrize("p", [1e-100, 1e-160])
def test_probabilities_that_underflow(p):
    graph = nx.DiGraph([("Y", "M"), ("M", "Z"), ("Y", "W"), ("Z", "V")])
    tables = {v: [[1 - p, p], [p, 1 - p]] for v in "ZWV"} | {"Y": [0.3, 0.7]}
    model = DiscreteSCM(graph, tables | {"M": [[0.2, 0.8], [0.6, 0.4]]}, "Y", "M")
    assert {c.verdict for c in minimax_of_model(model, rng=0).certificates} == {Verdict.HOLDS}


def test_values_without_squares_are_refused():
    with pytest.raises(ValueError, match="values: squares"):
        replace(surprising(0.8, 0.75), values=[0, 1e-170])
