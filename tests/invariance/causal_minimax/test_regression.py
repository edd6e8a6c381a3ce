import networkx as nx
import numpy as np
import pandas as pd
import pytest
from minimax import SIMULATION

from whp.certificate import Verdict
from whp.invariance import causal_minimax
from whp.invariance._causal_minimax.discovery import discovered_graph, oriented
from whp.studies.causal_minimax.experiments import simulated

GRAPH = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])


def chain(n, seed=0, slope=1.0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=n)
    m = slope * y + rng.normal(size=n)
    return pd.DataFrame({"Y": y, "M": m, "X": y + m + rng.normal(size=n)})


def test_it_finds_the_linear_limit_and_has_no_limit_of_its_own():
    table = chain(3000)
    made = causal_minimax(table, GRAPH, target="Y", mutable="M", rng=0)
    assert made.method == "regression"
    assert made.subset == ("X",)
    assert made.worst_risk <= made.upper_risk
    assert made.erm_worst_risk > 1.5 * made.worst_risk
    assert np.isinf(made.upper_limit)
    assert {c.verdict for c in made.certificates} == {Verdict.VACUOUS}
    turned = chain(2000, 1, -1.0)
    risk = float(((turned["Y"] - made.predict(turned)) ** 2).mean())
    assert risk < 0.8  # ½ at best, 1 for the mean


def test_environments_are_compared_and_held_out():
    table = pd.concat([chain(400, e, s).assign(env=e) for e, s in enumerate((0.5, 1.0, -1.0))])
    made = causal_minimax(table, GRAPH, target="Y", mutable="M", env="env", test_env=["2"], rng=0)
    assert made.certificates[0].measured is not None
    assert made.certificates[0].verdict is Verdict.VACUOUS
    moved = pd.concat(
        [chain(600, 0).assign(env=0), chain(600, 1).assign(env=1, X=lambda t: t["X"] * 3)]
    )
    made = causal_minimax(moved, GRAPH, target="Y", mutable="M", env="env", rng=0)
    assert made.certificates[0].verdict is Verdict.VOID


def test_noise_is_kept_or_dropped():
    table = chain(400)
    kept = causal_minimax(table, GRAPH, target="Y", mutable="M", rng=0)
    dropped = causal_minimax(table, GRAPH, target="Y", mutable="M", noise="drop", rng=0)
    assert kept.worst_risk != dropped.worst_risk


def test_words_beside_numbers():
    table = chain(300).assign(W=np.where(np.arange(300) % 2, "odd", "even"))
    graph = nx.DiGraph([*GRAPH.edges, ("W", "Y")])
    made = causal_minimax(table, graph, target="Y", mutable="M", method="regression", rng=0)
    assert np.isfinite(made.predict(table)).all()


def test_the_graph_of_a_matrix_of_causal_learn():
    matrix = np.zeros((4, 4))  # Y, A, M, environment: i -> j is (j, i) = 1, (i, j) = -1
    for i, j in ((0, 2), (1, 0), (3, 2)):
        matrix[j, i], matrix[i, j] = 1, -1
    graph, mutable = oriented(matrix, ["Y", "A", "M"], "Y")
    assert set(graph.edges) == {("Y", "M"), ("A", "Y")}
    assert mutable == ["M"]
    matrix[0, 1] = matrix[1, 0] = -1
    with pytest.raises(ValueError, match="no direction for 'Y' - 'A'"):
        oriented(matrix, ["Y", "A", "M"], "Y")


@pytest.mark.slow
def test_cd_nod_finds_both_mutable_variables_of_the_simulation():
    pytest.importorskip("causallearn")
    table = simulated(np.random.default_rng(0), 100, [e - 4.5 for e in range(10)])
    names = [v for v in SIMULATION if v != "Y"]
    _, mutable = discovered_graph(table, "Y", names, "env", np.random.default_rng(0))
    assert set(mutable) & {"X9", "X10"}
