"""The front door: a table of several environments in, the predictor with the smallest worst case out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np

from whp.door import AtLeast, Between, Fraction, front_door
from whp.invariance._causal_minimax.by_tables import by_tables
from whp.invariance._causal_minimax.coding import continuous
from whp.invariance._causal_minimax.discovery import discovered_graph
from whp.invariance._causal_minimax.graph import Dag, as_dag
from whp.invariance._causal_minimax.regression import by_regression
from whp.invariance._causal_minimax.result import MinimaxResult
from whp.invariance._causal_minimax.rows import read_rows
from whp.io import Data
from whp.validate import as_rng

__all__ = ["causal_minimax"]


@front_door
def causal_minimax(
    data: Annotated[Any, Data("table")],
    graph: Annotated[Any, Data("dag")] = None,
    *,
    target: str = "target",
    mutable: str | Sequence[Any] | None = None,
    env: str | None = None,
    method: Literal["auto", "tabular", "regression"] = "auto",
    bins: Annotated[int, AtLeast(2)] | Mapping[str, Sequence[float]] | None = None,
    support: Annotated[float, Between(0, 1)] = 0.0,
    delta: Annotated[float, Fraction()] = 0.05,
    max_classes: Annotated[int, AtLeast(1)] = 4096,
    noise: Literal["keep", "drop"] = "keep",
    test_env: str | Sequence[Any] | None = None,
    y_range: tuple[float, float] | None = None,
    refit: bool = False,
    rng: np.random.Generator | int | None = None,
) -> MinimaxResult:
    """Predict a column so that the worst that changed mechanisms of others can do is as small as possible.

    One half of the rows fits a predictor for every class of subsets, the other half chooses among
    them and bounds the worst case of the chosen one.

    Parameters
    ----------
    data : DataFrame
        Rows of one or several environments; a column for each node of the graph. Columns that are no
        nodes are left out.
    graph : networkx.DiGraph, optional
        From causes to effects, over the target and all covariates, without the environment. Without
        it one is discovered from half A (needs whp[causal] and `env`), and stays unchecked.
    target : str
        Column to predict: numbers, or true and false; the loss is the squared error.
    mutable : str or sequence of str, optional
        Columns whose mechanism may change, with commas between. Without a graph: the children of the
        environment in the discovered one.
    env : str, optional
        Column that names the environment of each row. With it the mechanisms that must not change
        are compared between environments.
    method : {"auto", "tabular", "regression"}
        Cell means of finite columns, whose worst case has a limit; or fitted equations, whose worst
        case has none. "auto" is tabular unless a column has more than 20 different numbers and no bins.
    bins : int or mapping of str to sequence of float, optional
        Into how many bins, with as many rows each, every column with more than 20 different numbers
        is cut; or inner edges by column, as numpy.digitize takes them.
    support : float
        Least share P(value | parents) in half A that an adversary may use; 0 allows all that half A
        has seen.
    delta : float
        Failure probability of each certificate.
    max_classes : int
        Classes of subsets at which the search gives up.
    noise : {"keep", "drop"}
        Regression: whether a regenerated variable keeps its own residual, or none, as in the paper's
        code.
    test_env : str or sequence, optional
        Environments that are held out and measure the claim, with commas between.
    y_range : tuple of float, optional
        Smallest and largest value of the target anywhere; by default those of the rows, which the
        certificates then call unchecked.
    refit : bool
        Return a predictor fitted on all rows; its certificates are void, since half B has judged
        another one.
    rng : None, int or Generator
        Source of the split.

    Returns
    -------
    MinimaxResult

    Raises
    ------
    TypeError, ValueError
        If the graph is no acyclic one over columns of the table, a value is missing, or options do
        not go together; the message names it.

    References
    ----------
    Liu, Zheng, Sun, Fang, Wang (ICML 2023), arXiv 2107.01876.

    Examples
    --------
    >>> import networkx as nx
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 4000)
    >>> m = (rng.random(4000) < np.where(y, 0.65, 0.35)).astype(int)
    >>> w = (rng.random(4000) < np.where(y, 0.9, 0.1)).astype(int)
    >>> table = pd.DataFrame({"y": y, "m": m, "w": w})
    >>> G = nx.DiGraph([("y", "m"), ("y", "w")])
    >>> made = causal_minimax(table, G, target="y", mutable="m", rng=0)
    >>> made.subset, made.worst_risk < made.upper_limit < 0.25
    (('w',), True)
    """
    generator = as_rng(rng)
    rows = read_rows(data, graph, target, mutable, env, bins, test_env, y_range)
    order = generator.permutation(len(rows.table))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    discovered = False
    if graph is None:
        names = [c for c in rows.table if c not in (target, env)]
        graph, found = discovered_graph(rows.table.iloc[halves[0]], target, names, env, generator)
        rows = replace(rows, mutable=found if rows.mutable is None else rows.mutable)
        discovered = True
    assert rows.mutable is not None
    dag = as_dag(graph, target, rows.mutable)
    rows = rows.of(dag, env)
    for m in dag.mutable:
        if rows.table[m].nunique() < 2:
            raise ValueError(
                f"mutable: column {m!r} is constant in the training rows; nothing can be learnt of its "
                "other values"
            )
    for v in dag.order:
        if continuous(rows.table[v]) and not np.isfinite(rows.table[v].to_numpy(float)).all():
            raise ValueError(f"column {v!r} must be finite, got infinity")
    # Half A alone decides what is binned: half B must not choose its own cells.
    first = rows.table.iloc[halves[0]]
    many = [v for v in dag.order if v != target and continuous(first[v])]
    many = [v for v in many if not (isinstance(bins, Mapping) and v in bins)]
    if method == "auto":
        method = "regression" if many and not isinstance(bins, int) else "tabular"
    _refuse(method, bins, many, dag, noise, support)
    if method == "regression":
        return by_regression(
            rows,
            dag,
            halves,
            delta=delta,
            most=max_classes,
            noise=noise,
            refit=refit,
            discovered=discovered,
            rng=generator,
        )
    return by_tables(
        rows, dag, halves, bins, many, support, delta, max_classes, refit, discovered, generator
    )


def _refuse(
    method: str, bins: Any, many: Sequence[str], dag: Dag, noise: str, support: float
) -> None:
    """Options that would be ignored."""
    if isinstance(bins, Mapping):
        for name in bins:
            if name not in dag.place:
                raise ValueError(f"bins: {name!r} is no node of the graph")
    if method == "regression":
        if bins is not None:
            raise ValueError(
                "bins must be left out with method='regression', which takes columns as they are"
            )
        if support:
            raise ValueError("support must be left out with method='regression'")
    elif noise != "keep":
        raise ValueError("noise must be left out but for method='regression'")
