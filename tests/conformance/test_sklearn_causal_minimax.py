import networkx as nx
import numpy as np
import pandas as pd
import pytest
from minimax import K, rows
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from whp.certificate import Verdict
from whp.invariance import CausalMinimaxRegressor


@parametrize_with_checks([CausalMinimaxRegressor(random_state=0)])
def test_sklearn_conformance(estimator, check):
    check(estimator)


def test_a_graph_over_the_names_of_the_columns():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 6000)
    X = pd.DataFrame(
        {
            "m": (rng.random(6000) < np.where(y, 0.65, 0.35)).astype(float),
            "w": (rng.random(6000) < np.where(y, 0.9, 0.1)).astype(float),
        }
    )
    graph = nx.DiGraph([("y", "m"), ("y", "w")])
    model = CausalMinimaxRegressor(graph, ["m"], random_state=0)
    fitted = clone(model).fit(X, y, env=np.arange(6000) % 3)
    assert fitted.result_.subset == ("w",)
    assert fitted.result_.certificates[0].verdict is Verdict.UNMEASURED
    np.testing.assert_allclose(np.unique(fitted.predict(X[["m", "w"]])).size, 4)


def test_without_a_graph_it_is_void():
    X = np.random.default_rng(0).normal(size=(100, 2))
    assert (
        CausalMinimaxRegressor(random_state=0).fit(X, X[:, 0]).result_.certificates[0].verdict
        is Verdict.VOID
    )


def test_names_that_would_be_mistaken():
    table = rows(400).rename(columns={"M": "treated"})
    graph = nx.relabel_nodes(K, {"M": "treated"})
    X, y = table[["treated", "X", "W"]], table["Y"]
    made = CausalMinimaxRegressor(graph, "treated", target_name="Y", random_state=0).fit(X, y)
    assert made.result_.mutable == ("treated",)
    with pytest.raises(ValueError, match="X has a column 'W', which is the name of the target"):
        CausalMinimaxRegressor(graph, "treated", target_name="W").fit(X, y)
    with pytest.raises(ValueError, match="env has missing values"):
        made.fit(X, y, env=[None, *"ab" * 199, "a"])
