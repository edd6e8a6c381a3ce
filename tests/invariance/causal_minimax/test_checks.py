import networkx as nx
import numpy as np
import pandas as pd
import pytest
from minimax import K, rows
from scipy.stats import chi2_contingency

from whp.invariance._causal_minimax.checks import (
    copied,
    graph_test,
    implied,
    kept_test,
    likelihood_ratio,
)
from whp.invariance._causal_minimax.coding import Coding
from whp.invariance._causal_minimax.graph import as_dag


def codes(table):
    return Coding.of(table, None, many=(), known={}).codes(table)


def test_the_ratio_is_that_of_scipy():
    rng = np.random.default_rng(0)
    tables = rng.integers(20, 90, (3, 2, 4))
    made = likelihood_ratio(tables)
    theirs = [chi2_contingency(t, lambda_="log-likelihood", correction=False) for t in tables]
    assert made.statistic == pytest.approx(sum(t.statistic for t in theirs))
    assert made.df == sum(t.dof for t in theirs) == 9


def test_thin_levels_are_left_out_by_their_margins():
    table = np.array([[[100, 100, 1], [100, 100, 0]]])
    made = likelihood_ratio(table)
    assert (made.df, made.n) == (1, 400)
    assert likelihood_ratio(np.array([[[1, 0], [0, 1]]])).p == 1.0


def test_the_level_is_kept_under_independence():
    rng = np.random.default_rng(0)
    p = [
        likelihood_ratio(
            np.histogramdd(
                np.column_stack(
                    [rng.integers(0, 2, 300), rng.integers(0, 3, 300), rng.binomial(1, 0.1, 300)]
                ),
                bins=(2, 3, 2),
            )[0]
        ).p
        for _ in range(400)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.09


def test_what_a_graph_implies():
    found = set(implied(as_dag(nx.DiGraph([("Y", "A"), ("A", "B")]), "Y", [])))
    assert found == {("B", "Y", ("A",))}
    # Environments are a common cause of two mutable variables, so that they may depend on each other.
    two = nx.DiGraph([("Y", "M"), ("Y", "N")])
    assert not list(implied(as_dag(two, "Y", ["M", "N"])))
    assert list(implied(as_dag(two, "Y", ["M"]))) == [("M", "N", ("Y",))]


def test_a_missing_edge_is_seen_and_an_honest_graph_is_not_refuted():
    table = rows(4000)
    made = graph_test(codes(table), as_dag(K, "Y", ["M"]))
    assert made.p > 0.01
    assert "Cramér's V" in made.sees
    wrong = nx.DiGraph([e for e in K.edges if e != ("M", "X")])
    made = graph_test(codes(table), as_dag(wrong, "Y", ["M"]))
    assert made.p < 0.01
    assert "'M' and 'X'" in made.what


def test_a_complete_graph_says_that_nothing_was_tested():
    table = rows(500)[["Y", "M", "X"]]
    graph = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])
    made = graph_test(codes(table), as_dag(graph, "Y", ["M"]))
    assert made.tests == 0
    assert "complete graph" in made.sees


def test_a_tiny_dependence_of_many_rows_does_not_count():
    rng = np.random.default_rng(0)
    n = 400_000
    a = rng.integers(0, 2, n)
    b = (rng.random(n) < 0.5 + 0.008 * (a - 0.5)).astype(int)
    table = pd.DataFrame({"Y": rng.integers(0, 2, n), "A": a, "B": b})
    dag = as_dag(nx.DiGraph([("Y", "A")]), "Y", [])
    graph = nx.DiGraph([("Y", "A")])
    graph.add_node("B")
    dag = as_dag(graph, "Y", [])
    assert graph_test(codes(table), dag).p > 0.01


@pytest.mark.parametrize(
    ("share", "f", "seen"), [(0.01, 0.2, True), (0.2, 0.1, True), (0.05, 0.0, False)]
)
def test_one_bad_environment(share, f, seen):
    n = 20_000
    bad = int(n * share)
    table = pd.concat([rows(bad, 1, 0.1 + f), rows(n - bad, 2)], ignore_index=True)
    env = np.r_[np.zeros(bad, int), 1 + np.arange(n - bad) % 9]
    names = ["bad", *map(str, range(9))]
    made = kept_test(codes(table), as_dag(K, "Y", ["M"]), env, names)
    assert (made.p < 0.01) == seen
    assert not seen or "'W'" in made.what


def test_names_of_persons_and_places_fit():
    """Two columns of thousands of texts: a table of all pairs would have 10⁸ cells and more."""
    rng = np.random.default_rng(0)
    table = rows(20_000).assign(A=rng.integers(0, 9000, 20_000), B=rng.integers(0, 9000, 20_000))
    table = table.assign(B=np.where(rng.random(20_000) < 0.2, 3, table.B))
    table.loc[rng.random(20_000) < 0.2, ["A", "B"]] = 7  # depends
    coded = codes(table)
    dag = as_dag(nx.DiGraph([*K.edges, ("Y", "A"), ("Y", "B")]), "Y", ["M"])
    found = graph_test(coded, dag)
    assert found.p < 1e-6
    assert "'A' and 'B' depend" in found.what
    env = rng.integers(0, 5000, 20_000)
    assert kept_test(coded, dag, env, list(map(str, range(5000)))).p > 0.01


def test_copies():
    few = rows(60).assign(weight=np.random.default_rng(0).normal(size=60))
    assert copied(pd.concat([few] * 3), list(K)) == (True, "180 rows, 60 distinct")
    assert not copied(few, list(K))[0]
    assert not copied(pd.concat([few.drop(columns="weight")] * 3), list(K))[0]
    numbered = pd.concat([few] * 3).assign(number=np.arange(180), cells=[[i] for i in range(180)])
    assert copied(numbered, list(K))[0]


def test_what_repeats_without_copies():
    rng = np.random.default_rng(0)
    table = rows(4000)
    spent = np.where(rng.random(4000) < 0.8, 0.0, rng.random(4000))  # most spent nothing
    assert not copied(table.assign(spent=spent), list(K))[0]
    y = rng.integers(0, 6, 4000)
    assert not copied(pd.DataFrame({"Y": y, "M": y % 3, "W": y % 2}), ["Y", "M", "W"])[0]
