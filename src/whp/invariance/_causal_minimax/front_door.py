"""The front door: a table of several environments in, the predictor with the smallest worst case out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Answer
from whp.concentration import chernoff
from whp.door import AtLeast, Between, Fraction, front_door
from whp.intervals import Estimate
from whp.invariance._causal_minimax import checks
from whp.invariance._causal_minimax import theorems as th
from whp.invariance._causal_minimax.coding import FINITE, Coding, as_target, continuous
from whp.invariance._causal_minimax.exact import chosen_row
from whp.invariance._causal_minimax.graph import Dag, as_dag, condition, reversible_edges
from whp.invariance._causal_minimax.result import MinimaxResult, Predictor, wanted_columns
from whp.invariance._causal_minimax.risk import Counts, lower_limit, upper_limit
from whp.invariance._causal_minimax.tabular import (
    CellMeans,
    Mechanism,
    cell_means,
    counts,
    mechanisms,
    play,
)
from whp.io import Data
from whp.progress import track
from whp.text import nearest
from whp.validate import as_frame, as_real, as_rng, as_sequence

__all__ = ["Rows", "causal_minimax"]

OUTSIDE = 0.05  # share of an environment's rows outside of the support that is still the claim's
TARGET_BINS = 4  # of a target with many values, where it is a cause of a mutable variable
FEW = 5  # rows of a cell that are called few
SHOWN = 10_000  # pairs that are listed
MEMBERS = 12  # stable variables up to which the members of classes are counted


@front_door
def causal_minimax(
    data: Annotated[Any, Data("table")],
    graph: Annotated[Any, Data("dag")] = None,
    *,
    target: str,
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
    """Choose the stable predictors with the smallest worst-case risk over all changes of the mutable mechanisms.

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
    rows = _read(data, graph, target, mutable, env, bins, test_env, y_range)
    order = generator.permutation(len(rows.table))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    discovered = False
    if graph is None:
        from whp.invariance._causal_minimax.discovery import discovered_graph

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
    many = [v for v in dag.order if v != target and continuous(rows.table[v])]
    many = [v for v in many if not (isinstance(bins, Mapping) and v in bins)]
    if method == "auto":
        method = "regression" if many and not isinstance(bins, int) else "tabular"
    _refuse(method, bins, many, dag, noise, support)
    if method == "regression":
        from whp.invariance._causal_minimax.regression import by_regression

        return by_regression(
            rows, dag, halves, delta=delta, most=max_classes, noise=noise, refit=refit,
            discovered=discovered, rng=generator,
        )  # fmt: skip
    return _by_tables(
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


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows, read and checked.

    Attributes
    ----------
    table, held : DataFrame
        Training rows and those of held-out environments, the target as floats.
    raw : DataFrame
        Training rows as they came, to look for copies.
    env, held_env : ndarray or None
        Environment of each row, in words.
    target : str
    mutable : list of str or None
    low, high : float
        Range of the target.
    ranged : str
        "given", "binary" or "observed".
    notes : tuple of str
    """

    table: pd.DataFrame
    held: pd.DataFrame
    raw: pd.DataFrame
    env: np.ndarray | None
    held_env: np.ndarray | None
    target: str
    mutable: list[str] | None
    low: float
    high: float
    ranged: str
    notes: tuple[str, ...]

    @property
    def width(self) -> float:
        """b."""
        return self.high - self.low

    def of(self, dag: Dag, env: str | None) -> Rows:
        """The columns of a graph, none with a gap."""
        columns = list(self.table.columns)
        for name in dag.order:
            if name == env:
                raise ValueError(
                    f"graph has the environment {env!r} as a node; it is named by env=, and its edges "
                    "are what mutable= says"
                )
            if name not in columns:
                raise ValueError(
                    f"graph has the node {name!r}, and data has no such column{nearest(name, columns)}"
                )
        left = [c for c in columns if c not in dag.order and c != env]
        notes = (*self.notes, *([f"not in the graph: {', '.join(left)}"] if left else []))
        held = (
            wanted_columns(self.held, tuple(dag.order)) if len(self.held) else self.held[dag.order]
        )
        table = wanted_columns(self.table, tuple(dag.order))
        return replace(self, table=table, held=held, notes=notes)


def _names(given: Any, argument: str, known: Sequence[str]) -> list[str]:
    """Names out of a sequence, or of a text with commas between."""
    if isinstance(given, str):
        return [given] if given in known else [p.strip() for p in given.split(",") if p.strip()]
    return [str(v) for v in as_sequence(given, argument)]


def _read(
    data: Any,
    graph: Any,
    target: str,
    mutable: Any,
    env: str | None,
    bins: Any,
    test_env: Any,
    y_range: Any,
) -> Rows:
    table = as_frame(data)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"data must be a data frame with named columns, got {type(table).__name__}")
    table = table.set_axis([str(c) for c in table.columns], axis=1).reset_index(drop=True)
    names = list(table.columns)
    if twice := sorted({c for c in names if names.count(c) > 1}):
        raise ValueError(f"data has {names.count(twice[0])} columns named {twice[0]!r}")
    for argument, name in (("target", target), ("env", env)):
        if name is not None and name not in names:
            raise ValueError(f"{argument}: data has no column {name!r}{nearest(name, names)}")
    if env == target:
        raise ValueError(f"env must be another column than the target, got {env!r}")
    wanted_columns(table, (target,) if env is None else (target, env))
    notes = _unused_levels(table)
    y = as_target(table[target], target)
    if isinstance(bins, Mapping):
        _check_edges(bins, names)
    changing = None if mutable is None else _names(mutable, "mutable", names)
    for name in changing or ():
        if name not in names:
            raise ValueError(f"mutable: data has no column {name!r}{nearest(name, names)}")
    if env is not None and env in (changing or ()):
        raise ValueError(f"mutable must not name the environment {env!r}")
    if graph is not None and changing is None:
        raise ValueError(
            "mutable must be given with a graph: name the variables whose mechanism may change"
        )
    words = None if env is None else _words(table[env])
    if graph is None and (words is None or len(set(words)) < 2):
        raise ValueError(
            "env must name a column with at least two environments where graph is None: a graph is "
            "discovered from what differs between them"
        )
    held = np.zeros(len(table), bool)
    if test_env is not None:
        if words is None:
            raise ValueError("test_env must go with env=, the column that names environments")
        wanted = _names(test_env, "test_env", list(set(words)))
        for name in wanted:
            if name not in words:
                raise ValueError(
                    f"test_env: column {env!r} has no {name!r}{nearest(name, sorted(set(words)))}"
                )
        held = np.isin(words, wanted)
    if (~held).sum() < 4:
        raise ValueError(f"data must have at least 4 rows to train on, got {int((~held).sum())}")
    made = table.assign(**{target: y})
    low, high, ranged = _range(y[~held], y_range, target)
    return Rows(
        made[~held],
        made[held],
        table[~held],
        None if words is None else words[~held],
        None if words is None else words[held],
        target,
        changing,
        low,
        high,
        ranged,
        tuple(notes),
    )


def _words(values: pd.Series) -> np.ndarray:
    """Environments as text; 1.0 is 1."""
    if pd.api.types.is_float_dtype(values) and (values == np.floor(values)).all():
        values = values.astype(np.int64)
    return values.astype(str).to_numpy(dtype=str)


def _unused_levels(table: pd.DataFrame) -> list[str]:
    """What is said of levels of categories that no row has."""
    told = []
    for name in table:
        values = table[name]
        if isinstance(values.dtype, pd.CategoricalDtype):
            unused = values.cat.categories.difference(
                values.cat.remove_unused_categories().cat.categories
            )
            if len(unused):
                told.append(
                    f"levels of {name!r} without rows left out: {', '.join(map(str, unused[:5]))}"
                )
    return told


def _check_edges(bins: Mapping[Any, Any], names: Sequence[str]) -> None:
    for name, edges in bins.items():
        if name not in names:
            raise ValueError(f"bins: data has no column {name!r}{nearest(str(name), names)}")
        array = np.asarray(as_sequence(edges, f"bins[{name!r}]"), dtype=float)
        if (
            array.ndim != 1
            or not len(array)
            or not np.isfinite(array).all()
            or (np.diff(array) <= 0).any()
        ):
            raise ValueError(
                f"bins[{name!r}] must hold rising finite edges, at least one, got {edges!r}"
            )


def _range(y: np.ndarray, given: Any, target: str) -> tuple[float, float, str]:
    """The range of the target and where it is from."""
    if y.min() == y.max():
        raise ValueError(f"target {target!r} is constant in the training rows")
    if given is None:
        return float(y.min()), float(y.max()), "binary" if len(np.unique(y)) == 2 else "observed"
    ends = as_sequence(given, "y_range")
    if len(ends) != 2:
        raise ValueError(f"y_range must be two numbers, got {given!r}")
    low, high = (as_real(e, "y_range", low=-1e150, high=1e150) for e in ends)
    if not low < high:
        raise ValueError(f"y_range must rise, got {given!r}")
    if y.min() < low or y.max() > high:
        raise ValueError(
            f"y_range must hold all rows, and target {target!r} goes from {y.min():g} to {y.max():g}"
        )
    return low, high, "given"


@dataclass(frozen=True, eq=False)
class _Tried:
    """A class of subsets on the two halves."""

    names: tuple[str, ...]
    means: CellMeans
    training: float
    worst: float
    upper_value: float
    choice: dict[str, np.ndarray]
    counts: Counts | None
    erm: float


def _by_tables(
    rows: Rows,
    dag: Dag,
    halves: tuple[np.ndarray, np.ndarray],
    bins: Any,
    many: Sequence[str],
    support: float,
    delta: float,
    most: int,
    refit: bool,
    discovered: bool,
    rng: np.random.Generator,
) -> MinimaxResult:
    """The tabular method."""
    target, b = rows.target, rows.width
    y = rows.table[target].to_numpy(float)
    own_bins = bins
    if continuous(rows.table[target]) and not (isinstance(bins, Mapping) and target in bins):
        many = [*many, target]
        if not isinstance(bins, int):
            cuts = np.unique(np.quantile(y[halves[0]], np.arange(1, TARGET_BINS) / TARGET_BINS))
            own_bins = {**(bins or {}), target: cuts}
    known = {target: pd.Index(np.unique(y))} if len(np.unique(y)) == 2 else {}
    coding = Coding.of(rows.table.iloc[halves[0]], own_bins, many=many, known=known)
    codes = coding.codes(rows.table)
    a, c = (codes.take(h) for h in halves)
    ya, yb = (y[h] for h in halves)
    single, one = mechanisms(a, dag, support)
    weights = np.ones(a.n)
    for part in single:
        weights = weights * part.weights(a)
    rule = condition(dag)
    stable = dag.mask(dag.stable)
    gone = dag.mask(dag.mutable)
    classes = [dag.boundary(stable, gone)] if rule.holds else dag.classes(most)
    closed = one is not None and all(coding.columns[p].given for p in one.parents)

    def judged(means: CellMeans) -> tuple[float, float, dict[str, np.ndarray], Counts | None]:
        losses = ((yb - np.clip(means(c), rows.low, rows.high)) / b) ** 2
        if one is not None:
            told = counts(one, c, losses, closed)
            value, picked = told.point
            if len(single) > 1:  # each of several sees its own parents only
                game = play(single, dag, c, losses, rng)
                return game.lower, max(value, game.lower), game.choice, told
            choice = np.full(len(one.support) + 1, -1)
            choice[told.index] = picked
            return value, value, {one.nodes[0]: choice[:-1]}, told
        if not single:
            value = float(losses.mean())
            return value, value, {}, None
        game = play(single, dag, c, losses, rng)
        return game.lower, game.upper, game.choice, None

    tried: list[_Tried] = []
    for mask in track(classes, "classes of subsets"):
        names = tuple(v for v in dag.stable if v in dag.names(mask))
        used = [*names, *dag.mutable]
        means = cell_means(a, ya, used, weights)
        training = float((((ya - means(a)) / b) ** 2).mean())
        plain = judged(cell_means(a, ya, used, None))[0]
        tried.append(_Tried(names, means, training, *judged(means), plain))
    risks = np.array([t.worst for t in tried])
    sizes = np.array([len(t.names) for t in tried])
    best = chosen_row(risks, sizes)
    chosen = tried[best]
    limits = [
        math.inf if t.counts is None else upper_limit(t.counts, delta, len(tried)) for t in tried
    ]
    trivial = _of_a_constant(one, dag, target, c, closed, ya, yb, rows)
    measured, outside = _held_out(rows, coding, one, single, chosen.means)
    answers = _answers(
        rows, dag, codes, coding, one, single, chosen.counts, outside, many, bins, refit, discovered
    )
    unit = b * b
    evidence = th.Evidence(
        limits[best] * unit,
        trivial * unit,
        *(g * unit for g in _gap(tried, best, delta)),
        delta,
        measured,
        answers,
        _inputs(rows, chosen, len(tried), c.n, one, outside),
    )
    certificates = [th.risk(evidence)]
    if not rule.holds:
        certificates.append(th.selection(evidence))
    else:
        told = f"K = {{{', '.join(sorted(rule.K))}}}"
        constant = judged(_constant(a, ya))[0]
        certificates.append(
            th.whole_on_rows(
                evidence, th.RULE.check(rule.holds, told), (constant - chosen.worst) * unit
            )
        )
    means = chosen.means
    if refit:
        full = coding.codes(rows.table)
        again = np.ones(full.n)
        for part in mechanisms(full, dag, support)[0]:
            again = again * part.weights(full)
        means = cell_means(full, y, [*chosen.names, *dag.mutable], again)
    table = pd.DataFrame(
        {
            "subset": [", ".join(t.names) for t in tried],
            "size": sizes,
            "members": _members(dag, classes),
            "training_risk": [t.training * unit for t in tried],
            "worst_risk": risks * unit,
            "upper_value": [t.upper_value * unit for t in tried],
            "upper_limit": np.array(limits) * unit,
            "erm_worst_risk": [t.erm * unit for t in tried],
            "chosen": np.arange(len(tried)) == best,
        }
    )
    return MinimaxResult(
        chosen.names,
        chosen.worst * unit,
        chosen.upper_value * unit,
        limits[best] * unit,
        chosen.erm * unit,
        _mechanisms_in_words(single, chosen.choice, coding),
        table,
        rule,
        dag.stable,
        dag.mutable,
        Predictor(chosen.names, dag.mutable, coding, means, rows.low, rows.high),
        tuple(certificates),
        "tabular",
        (len(halves[0]), len(halves[1]), len(rows.held)),
        tuple(Predictor(t.names, dag.mutable, coding, t.means, rows.low, rows.high) for t in tried),
        _cells(one, chosen.counts, coding),
        rows.notes,
    )


def _cells(one: Mechanism | None, told: Counts | None, coding: Coding) -> pd.DataFrame:
    """Pairs of parents and values: their rows in both halves, and whether an adversary may use them."""
    if one is None or told is None:
        return pd.DataFrame()
    names = (*one.parents, *one.nodes)
    sizes = [coding.columns[v].size for v in names]
    if math.prod(sizes) > SHOWN or math.prod(sizes) != one.support.size:
        return pd.DataFrame()
    places = np.unravel_index(np.arange(one.support.size), sizes)
    words = {
        v: np.array(coding.columns[v].words(), object)[p]
        for v, p in zip(names, places, strict=True)
    }
    seen = np.zeros((len(one.support) + 1, one.support.shape[1]), int)
    seen[told.index] = told.rows
    return pd.DataFrame(
        {
            **words,
            "rows_A": one.rows.ravel(),
            "rows_B": seen[:-1].ravel(),
            "supported": one.support.ravel(),
        }
    )


def _constant(codes: Any, y: np.ndarray) -> CellMeans:
    """The mean of half A for everyone."""
    return cell_means(codes, y, [], None)


def _of_a_constant(
    one: Mechanism | None,
    dag: Dag,
    target: str,
    c: Any,
    closed: bool,
    ya: np.ndarray,
    yb: np.ndarray,
    rows: Rows,
) -> float:
    """Worst case of the mean of half A on half B, in units of the largest loss."""
    losses = ((yb - float(ya.mean())) / rows.width) ** 2
    y = dag.mask([target])
    moved = dag.mask(dag.mutable) & dag.ancestors(y)
    if one is None or target in one.parents or not moved:
        return float(losses.mean())
    return counts(one, c, losses, closed).point[0]


def _gap(tried: Sequence[_Tried], best: int, delta: float) -> tuple[float, float]:
    """U of the chosen class less the least lower limit, and U.

    Both sides of Hoeffding's inequality are used, so that at the level δ′ of one side they miss with
    probability δ′/2 + δ′/2, and the shares of parents with δ′/2: δ′ = 2δ/3.
    """
    chosen = tried[best].counts
    if chosen is None:
        return math.inf, math.inf
    level = 2 * delta / 3
    upper = upper_limit(chosen, level, len(tried))
    lower = min(lower_limit(t.counts, level, len(tried)) for t in tried if t.counts is not None)
    return upper - lower, upper


def _held_out(
    rows: Rows, coding: Coding, one: Mechanism | None, single: Sequence[Mechanism], means: CellMeans
) -> tuple[Estimate | None, dict[str, float]]:
    """Mean loss of each held-out environment, and the share of its rows outside of the support."""
    if not len(rows.held) or rows.held_env is None:
        return None, {}
    codes = coding.codes(rows.held)
    y = rows.held[rows.target].to_numpy(float)
    losses = np.minimum(((y - np.clip(means(codes), rows.low, rows.high)) / rows.width) ** 2, 1.0)
    parts = single if one is None else [one]
    out = np.zeros(codes.n, bool)
    for part in parts:
        out |= part.outside(codes)
    names, which = np.unique(rows.held_env, return_inverse=True)
    n = np.bincount(which)
    inside = np.bincount(which, np.where(out, 0.0, losses)) / n
    shares = np.bincount(which, out) / n
    low, high = chernoff(inside, n, 0.05 / len(names))
    unit = rows.width**2
    measured = Estimate.between(
        float(low.max()) * unit,
        float(high.max()) * unit,
        value=float(inside.max()) * unit,
        level=0.95,
        n=int(n.min()),
        method="Chernoff",
    )
    return measured, {str(k): float(v) for k, v in zip(names, shares, strict=True)}


def _inputs(
    rows: Rows,
    chosen: _Tried,
    classes: int,
    n: int,
    one: Mechanism | None,
    outside: Mapping[str, float],
) -> dict[str, float | int | str]:
    made: dict[str, float | int | str] = {
        "rows of half B": n,
        "classes": classes,
        "point worst case, no bound": chosen.worst * rows.width**2,
        "b": rows.width,
    }
    if chosen.counts is not None and one is not None:
        told = chosen.counts
        made["parent cells"] = told.cells
        made["cells with few rows"] = int(((told.rows < FEW) & told.support).sum())
    if outside:
        made["largest share outside"] = max(outside.values())
    return made


def _answers(
    rows: Rows,
    dag: Dag,
    codes: Any,
    coding: Coding,
    one: Mechanism | None,
    single: Sequence[Mechanism],
    told: Counts | None,
    outside: Mapping[str, float],
    many: Sequence[str],
    bins: Any,
    refit: bool,
    discovered: bool,
) -> dict[str, Answer]:
    """What this run says of each condition."""
    binned = [n for n, col in coding.columns.items() if col.edges is not None]
    made = common_answers(rows, dag, outside, refit)
    made[th.GRAPH.name] = graph_answer(checks.graph_test(codes, dag), dag, discovered)
    made[th.KEPT.name] = kept_answer(codes, dag, rows)
    if th.SUPPORT.name not in made:
        seen = [
            f"half A has seen {int(s.support.sum())} of {s.support.size} pairs"
            for s in ([one] if one else single)
        ]
        bare = 0 if told is None else int(((told.rows == 0) & told.support).sum())
        most = (
            f"; held-out environments leave them in at most {max(outside.values()):.1%}"
            if outside
            else ""
        )
        none = f", of which half B has {bare} without rows" if bare else ""
        made[th.SUPPORT.name] = th.SUPPORT.unchecked(
            f"{'; '.join(seen)}{none}{most}; environments to come are unseen"
        )
    made[th.ADDITIVE.name] = th.ADDITIVE.by_construction("means of cells assume no equation")
    made[th.BINS.name] = th.BINS.unchecked(
        f"binned: {', '.join(binned)}; shares cannot show what is inside a bin"
        if binned
        else "nothing is binned here; whether columns were binned before cannot be seen"
    )
    return made


def common_answers(
    rows: Rows, dag: Dag, outside: Mapping[str, float], refit: bool
) -> dict[str, Answer]:
    """Those that both methods give alike."""
    made: dict[str, Answer] = {}
    if outside and max(outside.values()) > OUTSIDE:
        name = max(outside, key=lambda k: outside[k])
        made[th.SUPPORT.name] = th.SUPPORT.check(
            False, f"{outside[name]:.1%} of environment {name!r} are pairs that half A has not seen"
        )
    made[th.HIDDEN.name] = th.HIDDEN.unchecked("no table shows what is not in it")
    repeated, counted = checks.copied(rows.raw)
    made[th.ROWS.name] = (
        th.ROWS.check(False, f"{counted}, although a column hardly repeats")
        if repeated
        else th.ROWS.unchecked(f"{counted}; balanced classes and clusters cannot be seen")
    )
    made[th.RANGE.name] = _range_answer(rows)
    made[th.MUTABLE.name] = th.MUTABLE.check(
        bool(dag.mutable), f"mutable: {', '.join(dag.mutable) or 'nothing'}"
    )
    made[th.CERTIFIED.name] = (
        th.CERTIFIED.check(
            False, "certified is the predictor of half A, not this one, fitted on all rows"
        )
        if refit
        else th.CERTIFIED.by_construction("what predicts is what half B was asked about")
    )
    return made


def _range_answer(rows: Rows) -> Answer:
    told = f"[{rows.low:g}, {rows.high:g}]"
    y = rows.held[rows.target].to_numpy(float)
    if len(y) and (y.min() < rows.low or y.max() > rows.high):
        return th.RANGE.check(
            False,
            f"a held-out row has {y[np.abs(y - (rows.low + rows.high) / 2).argmax()]:g}, outside of {told}",
        )
    if rows.ranged == "given":
        return th.RANGE.check(True, f"{told} was given, and all rows lie in it")
    if rows.ranged == "binary":
        return th.RANGE.check(True, f"two values, {rows.low:g} and {rows.high:g}")
    return th.RANGE.unchecked(f"{told} is what was observed")


def graph_answer(found: checks.Found, dag: Dag, discovered: bool) -> Answer:
    """What the implied independences say, and which directions none of them sees."""
    turned = [f"{a} -> {b}" for a, b in reversible_edges(dag)]
    shown = ", ".join(turned[:6]) + (", …" if len(turned) > 6 else "")
    blind = f"; no test sees the direction of {shown}" if turned else ""
    if found.p < checks.LEVEL:
        return th.GRAPH.check(False, f"{found.what}, p = {found.p:.2g}")
    if discovered:
        return th.GRAPH.unchecked(f"discovered from half A, not given{blind}")
    if not found.tests:
        return th.GRAPH.unchecked(f"{found.sees.removeprefix('nothing: ')}{blind}")
    return th.GRAPH.tested(found.p, checks.LEVEL, found.sees + blind)


def kept_answer(codes: Any, dag: Dag, rows: Rows) -> Answer:
    """Whether anything but the mutable mechanisms differs between the training environments."""
    if rows.env is None:
        return th.KEPT.unchecked("no column names environments (env=)")
    names, which = np.unique(rows.env, return_inverse=True)
    if len(names) < 2:
        return th.KEPT.unchecked("there is one training environment")
    found = checks.kept_test(codes, dag, which, [str(n) for n in names])
    if found.p < checks.LEVEL:
        return th.KEPT.check(False, f"{found.what}, p = {found.p:.2g}")
    return th.KEPT.tested(found.p, checks.LEVEL, found.sees)


def _members(dag: Dag, classes: Sequence[int]) -> list[int | None]:
    """How many subsets each class has; None where there are too many to count."""
    if len(dag.stable) > MEMBERS:
        return [None] * len(classes)
    gone, found = dag.mask(dag.mutable), dict.fromkeys(classes, 0)
    stable = dag.mask(dag.stable)
    part = stable
    while True:
        own = dag.boundary(part, gone)
        found[own] = found.get(own, 0) + 1
        if not part:
            return [found[c] for c in classes]
        part = (part - 1) & stable


def _mechanisms_in_words(
    single: Sequence[Mechanism], choice: Mapping[str, np.ndarray], coding: Coding
) -> dict[str, pd.DataFrame]:
    """The worst mechanisms as tables."""
    made = {}
    for part in single:
        (node,) = part.nodes
        sizes = [coding.columns[p].size for p in part.parents]
        told = choice[node].ravel()
        if len(told) != math.prod(sizes):  # too many cells for a table
            continue
        cells = (
            np.array(np.unravel_index(np.arange(len(told)), sizes))
            if sizes
            else np.zeros((0, 1), int)
        )
        columns = {
            p: np.array(coding.columns[p].words(), object)[cells[i]]
            for i, p in enumerate(part.parents)
        }
        words = np.array([*coding.columns[node].words(), "nothing it may take"], object)
        made[node] = pd.DataFrame({**columns, node: words[told]})
    return made
