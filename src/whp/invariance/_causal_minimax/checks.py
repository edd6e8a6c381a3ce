"""What rows can say against the assumptions: the graph, the kept mechanisms, independent rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import networkx as nx
import numpy as np
import pandas as pd

from whp.invariance._causal_minimax.coding import DENSE, FINITE, Cells, Codes
from whp.invariance._causal_minimax.graph import Dag

__all__ = ["LEVEL", "Found", "copied", "graph_test", "implied", "kept_test", "likelihood_ratio"]

LEVEL = 0.01
MANY_ROWS, SMALL = 100_000, 0.02  # above so many rows a dependence must also be this strong
DROP = 0.01  # of the deviance, below which a changed mechanism does not count
EXPECTED = 5.0  # rows a cell must expect for the χ² law to hold
TESTS = 2_000  # independences that are tested, those with few given variables first
CONTEXT = "\0environment"


@dataclass(frozen=True)
class Found:
    """The outcome of many tests.

    Attributes
    ----------
    p : float
        The smallest p-value times the number of tests, of those whose effect counts.
    what : str
        Which one it was.
    sees : str
        What would have been seen.
    tests : int
    """

    p: float
    what: str
    sees: str
    tests: int


@dataclass(frozen=True)
class Ratio:
    """A likelihood-ratio test of independence given a third."""

    statistic: float
    df: int
    n: int
    width: int

    @property
    def p(self) -> float:
        """Of the χ² law."""
        from scipy.stats import chi2

        return float(chi2.sf(self.statistic, self.df)) if self.df else 1.0

    @property
    def effect(self) -> float:
        """Cramér's V, by the statistic above what chance leaves."""
        above = max(self.statistic - self.df, 0.0)
        return math.sqrt(above / (self.n * self.width)) if self.n and self.width else 0.0


def likelihood_ratio(tables: np.ndarray) -> Ratio:
    """G² of counts of shape (strata, r, c); levels that expect under five rows are left out of their stratum.

    What is left out depends on the margins alone, so that the law of the rest is that of the test.
    """
    counts = tables.astype(float)
    while True:
        rows, columns = counts.sum(axis=2), counts.sum(axis=1)
        n = rows.sum(axis=1)
        low_row = np.where(rows > 0, rows, np.inf).min(axis=1)
        low_column = np.where(columns > 0, columns, np.inf).min(axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            thin = np.flatnonzero((n > 0) & (low_row * low_column / n < EXPECTED))
        if not thin.size:
            break
        for z in thin:
            if low_row[z] <= low_column[z]:
                counts[z, rows[z] == low_row[z], :] = 0
            else:
                counts[z, :, columns[z] == low_column[z]] = 0
    r, c = (rows > 0).sum(axis=1), (columns > 0).sum(axis=1)
    used = (r > 1) & (c > 1)
    if not used.any():
        return Ratio(0.0, 0, 0, 0)
    counts, rows, columns, n = counts[used], rows[used], columns[used], n[used]
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = counts * np.log(
            counts * n[:, None, None] / (rows[:, :, None] * columns[:, None, :])
        )
    r, c = r[used], c[used]
    return Ratio(
        2 * float(np.nansum(terms)),
        int(((r - 1) * (c - 1)).sum()),
        int(n.sum()),
        int(min(r.max(), c.max()) - 1),
    )


def _counted(codes: Codes, a: str, b: str, given: Sequence[str]) -> np.ndarray:
    """Rows by stratum of `given`, a and b; a value that half A has not seen is one more.

    Where the table would not fit, values that can expect no five rows in each of two levels become one,
    but for environments; if it still does not, nothing is left.
    """
    cells = Cells(codes, given)
    place = cells.of(codes)
    keep = place >= 0
    place = np.unique(place[keep], return_inverse=True)[1].ravel()
    widths = codes.sizes[a] + 1, codes.sizes[b] + 1
    own = [np.where(codes.of[v] < 0, codes.sizes[v], codes.of[v])[keep] for v in (a, b)]
    strata = int(place.max(initial=0)) + 1
    if strata * widths[0] * widths[1] > DENSE:
        often = [
            np.bincount(o, minlength=w) >= (0 if v == CONTEXT else 2 * EXPECTED)
            for v, o, w in zip((a, b), own, widths, strict=True)
        ]
        widths = int(often[0].sum()) + 1, int(often[1].sum()) + 1
        if strata * widths[0] * widths[1] > DENSE:
            return np.zeros((1, 1, codes.sizes[b] + 1), int)
        own = [
            np.where(f, np.cumsum(f) - 1, w - 1)[o]
            for f, o, w in zip(often, own, widths, strict=True)
        ]
    flat = (place * widths[0] + own[0]) * widths[1] + own[1]
    return np.bincount(flat, minlength=strata * widths[0] * widths[1]).reshape(strata, *widths)


def implied(dag: Dag) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Pairs that the graph separates by at most two others, also where environments are pooled.

    The mutable mechanisms may differ between the rows' environments, which is a common cause of all
    of them that nobody conditions on.
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(dag.order)
    graph.add_edges_from((p, v) for v in dag.order for p in dag.parents[v])
    graph.add_edges_from((CONTEXT, m) for m in dag.mutable)
    wide = Dag(graph, dag.target, dag.mutable)
    for size in range(3):
        for a, b in combinations(sorted(dag.order), 2):
            if a in dag.parents[b] or b in dag.parents[a]:
                continue
            for given in combinations(sorted(set(dag.order) - {a, b}), size):
                if wide.separated(wide.mask([a]), wide.mask([b]), wide.mask(given)):
                    yield a, b, given


def graph_test(codes: Codes, dag: Dag) -> Found:
    """Every independence that the graph implies with at most two given variables, by Holm's first step."""
    every = list(islice(implied(dag), TESTS + 1))
    asked = every[:TESTS]
    worst, where, widest = 1.0, "", Ratio(0.0, 0, 0, 0)
    for a, b, given in asked:
        made = likelihood_ratio(_counted(codes, a, b, given))
        if made.df > widest.df:
            widest = made
        counts = codes.n <= MANY_ROWS or made.effect >= SMALL
        if counts and made.p < worst:
            told = f" given {', '.join(map(repr, given))}" if given else ""
            worst, where = (
                made.p,
                f"{a!r} and {b!r} depend on each other{told} (V = {made.effect:.2g})",
            )
    part = "" if len(every) == len(asked) else ", the first of more,"
    if not asked:
        return Found(
            1.0, "", "nothing: a complete graph implies no independence that data could refute", 0
        )
    sees = f"in {len(asked):,} independences{part} one broken by {_seen(widest, LEVEL / len(asked), codes.n)}"
    return Found(min(worst * len(asked), 1.0), where, sees, len(asked))


def _seen(made: Ratio, level: float, rows: int) -> str:
    """The dependence that a test of this size sees nine times in ten."""
    from scipy.optimize import brentq
    from scipy.stats import chi2, ncx2

    if not made.df or not made.n:
        return "nothing: all strata are too thin"
    cut = chi2.isf(level, made.df)
    shift = brentq(lambda s: float(ncx2.sf(cut, made.df, s)) - 0.9, 1e-6, 1e6)
    effect = math.sqrt(shift / (made.n * made.width))
    floor = SMALL if rows > MANY_ROWS else 0.0
    return f"a Cramér's V of {max(effect, floor):.2g}, nine times in ten"


def kept_test(codes: Codes, dag: Dag, env: np.ndarray, names: Sequence[str]) -> Found:
    """Whether any mechanism but the mutable ones differs between environments.

    Pooled over all environments one small bad one is not seen: each is compared with the rest, too,
    by the share of its own deviance that a mechanism of its own would save.

    Parameters
    ----------
    codes : Codes
        All training rows.
    dag : Dag
    env : ndarray of int
        Environment of each row.
    names : sequence of str
        Of the environments.
    """
    nodes = [v for v in dag.order if v not in dag.mutable]
    E = len(names)
    worst, where = 1.0, ""
    best = Ratio(0.0, 0, 0, 0)
    for v in nodes:
        extended = Codes({**codes.of, CONTEXT: env}, {**codes.sizes, CONTEXT: E}, codes.n)
        tables = _counted(extended, v, CONTEXT, dag.parents[v])[:, :, :E]
        made = likelihood_ratio(tables)
        best = made if made.df > best.df else best
        if made.p * len(nodes) < worst and _saved(tables) >= DROP:
            worst, where = (
                made.p * len(nodes),
                f"{v!r} depends on the environment given its parents",
            )
        for e in range(E):
            own = np.stack([tables[:, :, e], tables.sum(axis=2) - tables[:, :, e]], axis=2)
            one = likelihood_ratio(own)
            p = one.p * len(nodes) * E
            if p < worst and _saved(own, first=True) >= DROP:
                worst, where = p, f"{v!r} has another mechanism in environment {names[e]!r}"
    sees = (
        f"in {len(nodes)} mechanisms and {E} environments a change by "
        f"{_seen(best, LEVEL / len(nodes), codes.n)}; environments to come are unseen"
    )
    return Found(min(worst, 1.0), where, sees, len(nodes) * (E + 1))


def _saved(tables: np.ndarray, first: bool = False) -> float:
    """Share of the deviance that laws of their own save: of all columns, or of the first one's own rows."""
    counts = tables.astype(float)
    pooled = counts.sum(axis=2, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        shared = np.log(pooled / pooled.sum(axis=1, keepdims=True))
        own = np.log(counts / counts.sum(axis=1, keepdims=True))
        before = -np.nansum(np.where(counts > 0, counts * shared, 0.0), axis=(0, 1))
        after = -np.nansum(np.where(counts > 0, counts * own, 0.0), axis=(0, 1))
    if first:
        before, after = before[:1], after[:1]
    return float((before.sum() - after.sum()) / before.sum()) if before.sum() > 0 else 0.0


def copied(table: pd.DataFrame, keep: Sequence[str]) -> tuple[bool, str]:
    """Whether whole rows come several times, although one column hardly repeats.

    A continuous column repeats only where whole rows were copied; in a table of categories copies
    cannot be told from rows that agree. A value that rows of different kinds share, as the 0 of many counts,
    is no copy. Other columns than `keep` that number the rows are left out: copies have numbers of their own.
    """
    n = len(table)
    coded = [
        codes
        for c in table
        if (codes := _factors(table[c])) is not None and (c in keep or codes.max() + 1 < n)
    ]
    _, first, times = np.unique(
        _row_keys(np.column_stack(coded)), return_index=True, return_counts=True
    )
    told = f"{n:,} rows, {len(first):,} distinct"
    for column in coded:
        values = column[first]
        own = np.bincount(values)[values] == 1  # of one kind of row only
        many = own.sum() > max(FINITE, 0.95 * len(first))
        if many and times[own].sum() > 1.05 * own.sum():
            return True, told
    return False, told


def _factors(values: pd.Series) -> np.ndarray | None:
    """Codes of different values; None where cells are lists and the like."""
    try:
        return pd.factorize(values, use_na_sentinel=False)[0]
    except TypeError:
        return None


def _row_keys(coded: np.ndarray) -> np.ndarray:
    """One number a row, equal for equal rows."""
    key = np.zeros(len(coded), np.int64)
    for j in range(coded.shape[1]):
        pair = key * (int(coded[:, j].max()) + 1) + coded[:, j]
        key = np.unique(pair, return_inverse=True)[1].ravel()
    return key
