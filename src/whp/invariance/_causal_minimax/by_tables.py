"""The method on tables: a predictor for each class from half A, its worst case and limit on half B."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Answer
from whp.intervals import Estimate
from whp.invariance._causal_minimax import checks
from whp.invariance._causal_minimax import theorems as th
from whp.invariance._causal_minimax.answers import (
    common_answers,
    graph_answer,
    kept_answer,
    largest_mean,
)
from whp.invariance._causal_minimax.coding import Coding, continuous, quantile_edges
from whp.invariance._causal_minimax.exact import chosen_row
from whp.invariance._causal_minimax.graph import Dag, condition
from whp.invariance._causal_minimax.result import MinimaxResult, Predictor
from whp.invariance._causal_minimax.risk import Counts, lower_limit, upper_limit
from whp.invariance._causal_minimax.rows import Rows
from whp.invariance._causal_minimax.tabular import (
    CellMeans,
    Mechanism,
    cell_means,
    counts,
    mechanisms,
    play,
)
from whp.progress import track

__all__ = ["by_tables"]

TARGET_BINS = 4  # of a target with many values, where it is a cause of a mutable variable
FEW = 5  # rows of a cell that are called few
SHOWN = 10_000  # pairs that are listed
MEMBERS = 12  # stable variables up to which the members of classes are counted


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


def by_tables(
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
    if continuous(rows.table[target].iloc[halves[0]]) and not (
        isinstance(bins, Mapping) and target in bins
    ):
        many = [*many, target]
        if not isinstance(bins, int):
            own_bins = {**(bins or {}), target: quantile_edges(y[halves[0]], TARGET_BINS)}
    known = {target: pd.Index(np.unique(y))} if len(np.unique(y)) == 2 else {}
    coding = Coding.of(rows.table.iloc[halves[0]], own_bins, many=many, known=known)
    codes = coding.codes(rows.table)
    for m in dag.mutable:
        if len(np.unique(codes.of[m])) < 2:
            raise ValueError(
                f"bins: all training rows of the mutable column {m!r} are in one bin; no mechanism could "
                "differ, give edges that part them"
            )
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
        rows, dag, coding, one, single, chosen.counts, outside, many, bins, refit, discovered
    )
    unit = b * b
    gap, gap_trivial = _gap(tried, best, delta)
    evidence = th.Evidence(
        limits[best] * unit,
        trivial * unit,
        gap * unit,
        gap_trivial * unit,
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
    losses = ((y - np.clip(means(codes), rows.low, rows.high)) / rows.width) ** 2
    parts = single if one is None else [one]
    out = np.zeros(codes.n, bool)
    for part in parts:
        out |= part.outside(codes)
    return largest_mean(rows, losses, out)


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
    # A level for what half A has not seen would be met in half B alone, whose rows would then
    # seem to depend on each other: tests know the words of all rows.
    codes = coding.with_words_of(rows.table).codes(rows.table)
    made[th.GRAPH.name] = graph_answer(checks.graph_test(codes, dag), dag, discovered)
    made[th.KEPT.name] = kept_answer(codes, dag, rows)
    if th.SUPPORT.name not in made:
        seen = [
            f"supported are {int(s.support.sum())} of {s.support.size} combinations"
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
