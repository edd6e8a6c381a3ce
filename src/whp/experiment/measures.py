"""The vocabulary of claims: each name makes a measure, a function of the records with an interval over independent units.

    measure=paired("accuracy", variant="views, strong", less="views", where={"experiment": "variants"})

`where` chooses rows as :func:`whp.experiment.claims.select` does. `by` is the unit that is independent, the seed unless said
otherwise; several rows of a unit are averaged first, because they share data or randomness and are no evidence of their own.
Rows without a value in the column are left out (a trial may leave rows of several kinds), so a run that diverged must record
infinity, not NaN. What was not run is :class:`~whp.experiment.claims.NotTested`; one unit is an estimate without an interval,
which a claim only describes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd

from whp import intervals
from whp.experiment.claims import NotTested, rows_where
from whp.intervals import Estimate

__all__ = [
    "around",
    "difference",
    "largest",
    "least",
    "mean",
    "measure",
    "measured",
    "paired",
    "pivot",
    "quantile",
    "rate",
    "ratio",
    "share",
    "slope",
    "statistic",
    "worst",
]

LEVEL = 0.95
Where = Mapping[str, Any] | None
Column = str | Callable[[pd.DataFrame], float]


Measuring = Callable[..., Estimate | NotTested]  # of the records and, by name or second, the level


def measure(function: Callable[[pd.DataFrame, float], Estimate]) -> Measuring:
    """A measure from a function of (records, level) in which :func:`~whp.experiment.claims.select` may raise."""

    @wraps(function)
    def take(records: pd.DataFrame, level: float = LEVEL) -> Estimate | NotTested:
        try:
            return function(records, level)
        except NotTested as nothing:
            return nothing

    return take


def around(
    value: float, low: float, high: float, level: float = LEVEL, n: int | None = None, how: str = ""
) -> Estimate:
    """An estimate whose interval was computed on its own and may miss the value by rounding or bias."""
    return Estimate(value, min(low, value), max(high, value), level, n, how or "given")


def pivot(
    rows: pd.DataFrame, axis: str, column: str, *needed: Hashable, by: str = "seed"
) -> pd.DataFrame:
    """One row a unit, one column a value of `axis`, averages of `column`, complete in the columns that are `needed`.

    Raises
    ------
    NotTested
        If a needed value was not run, or no unit has all of them.
    """
    for value in needed:
        rows_where(rows, {axis: value})
    rows = measured(rows, column)
    table = rows.assign(**{column: rows[column].astype(float)}).pivot_table(
        index=by, columns=axis, values=column, aggfunc="mean"
    )
    for value in needed:
        if value not in table:
            raise NotTested(f"nothing was measured of {column} with {axis} = {value}")
    table = table[list(needed)].dropna() if needed else table
    if table.empty:
        raise NotTested(f"no {by} was run with all of {', '.join(map(str, needed))}")
    return table


def mean(column: Column, where: Where = None, by: str = "seed") -> Measuring:
    """Mean over units, t interval.

    Parameters
    ----------
    column : str or callable
        A column, or a function of one unit's rows to a number.
    where : mapping, optional
        Which rows.
    by : str
        The column that tells independent units apart.
    """
    return measure(
        lambda records, level: _mean(_units(rows_where(records, where or {}), column, by), level)
    )


def share(
    column: str,
    where: Where = None,
    *,
    equals: Any = True,
    at_most: float | None = None,
    at_least: float | None = None,
    each: str | None = None,
    by: str = "trial",
) -> Measuring:
    """Share of independent trials in which something is so, Clopper-Pearson interval.

    Parameters
    ----------
    column : str
        A flag, or what is compared.
    where : mapping, optional
        Which rows.
    equals : object
        Value that counts; not looked at if a bound is given.
    at_most, at_least : float, optional
        Bounds that count.
    each : {"all", "any"}, optional
        A trial with several rows counts if it is so in all, or in any, of them. Without it one row a trial is expected:
        rows of a trial are not independent.
    by : str
        The column that tells trials apart; the seed where the records have no such column.
    """

    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = measured(rows_where(records, where or {}), column)
        if at_most is None and at_least is None:
            flags = rows[column] == equals
        else:
            values = rows[column].astype(float)
            flags = values.between(
                -math.inf if at_least is None else at_least,
                math.inf if at_most is None else at_most,
            )
        unit = rows[by if by in rows else "seed"]
        if each is None and unit.duplicated().any():
            raise ValueError(
                f"share of {column}: a trial has several rows; say each='all' or 'any'"
            )
        groups = flags.astype(bool).groupby(unit)
        counted = groups.any() if each == "any" else groups.all()
        return intervals.proportion(int(counted.sum()), len(counted), level=level)

    return measure(take)


def rate(events: str, per: str, where: Where = None) -> Measuring:
    """Events over attempts, both counted in columns, of attempts that are independent, Clopper-Pearson interval."""

    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = measured(rows_where(records, where or {}), events, per)
        return intervals.proportion(int(rows[events].sum()), int(rows[per].sum()), level=level)

    return measure(take)


def paired(
    column: str, *, less: Hashable, where: Where = None, by: str = "seed", **axis: Hashable
) -> Measuring:
    """Mean over units of the difference between two values of an axis, paired t interval.

    Parameters
    ----------
    column : str
        What is compared.
    less : hashable
        The value of the axis that is subtracted.
    where : mapping, optional
        Which rows.
    by : str
        What pairs up.
    **axis
        One column and its value: ``paired("accuracy", variant="strong", less="weak")``.
    """
    name, ours = _axis(axis)

    def take(records: pd.DataFrame, level: float) -> Estimate:
        table = pivot(rows_where(records, where or {}), name, column, ours, less, by=by)
        values = (table[ours] - table[less]).to_numpy(dtype=float)
        return _named(_mean(values, level), "paired t")

    return measure(take)


def difference(
    column: str, *, less: Hashable, where: Where = None, by: str = "seed", **axis: Hashable
) -> Measuring:
    """Difference of the means of two values of an axis whose units do not pair up, Welch's t interval; see :func:`paired`."""
    name, ours = _axis(axis)

    def take(records: pd.DataFrame, level: float) -> Estimate:
        from scipy.stats import ttest_ind

        rows = rows_where(records, where or {})
        a, b = (_units(rows_where(rows, {name: v}), column, by) for v in (ours, less))
        value = float(a.mean() - b.mean())
        n = min(len(a), len(b))
        if n < 2 or (np.ptp(a) == 0 and np.ptp(b) == 0):
            return Estimate(value, value, value, level, n, "Welch t")
        low, high = ttest_ind(a, b, equal_var=False).confidence_interval(level)
        return around(value, low, high, level, n, "Welch t")

    return measure(take)


def ratio(
    column: str, *, over: Hashable, where: Where = None, by: str = "seed", **axis: Hashable
) -> Measuring:
    """Geometric mean of the ratio of two positive numbers of a unit, t interval on logarithms: never below zero.

    Parameters
    ----------
    column : str
        What is compared.
    over : hashable
        The value of the axis in the denominator; without an axis the column in the denominator.
    where : mapping, optional
        Which rows.
    by : str
        What pairs up.
    **axis
        One column and its value: ``ratio("seconds", method="ours", over="theirs")``.

    Raises
    ------
    ValueError
        If a number is not positive.
    """

    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = rows_where(records, where or {})
        if axis:
            name, ours = _axis(axis)
            table = pivot(rows, name, column, ours, over, by=by)
            a, b = table[ours].to_numpy(float), table[over].to_numpy(float)
        else:
            rows = measured(rows, column, str(over))
            a, b = (_units(rows, c, by) for c in (column, str(over)))
        if min(a.min(), b.min()) <= 0:
            raise ValueError(f"{column}: only positive numbers have a ratio")
        logs = _mean(np.log(a / b), level)
        value, low, high = (math.exp(e) for e in (logs.value, logs.low, logs.high))
        return around(value, low, high, level, logs.n, "paired t of logs")

    return measure(take)


def slope(
    column: str, over: str, where: Where = None, by: str = "seed", *, log: bool = True
) -> Measuring:
    """Slope of a line through the means at each value of `over`, fitted unit by unit, t interval over units.

    Parameters
    ----------
    column, over : str
        Ordinate and abscissa.
    where : mapping, optional
        Which rows.
    by : str
        The column that tells independent units apart.
    log : bool
        Fit logarithm over logarithm: the exponent of a power law. Where single units may measure 0, use
        :func:`statistic` on all of them.
    """

    def fit(rows: pd.DataFrame) -> float:
        cells = rows.assign(_y=rows[column].astype(float), _x=rows[over].astype(float))
        line = cells.groupby("_x")["_y"].mean()
        x, y = line.index.to_numpy(dtype=float), line.to_numpy(dtype=float)
        if len(x) < 2:
            raise NotTested(f"a slope needs two values of {over}; there was {x[0]:g}")
        if log and min(x.min(), y.min()) <= 0:
            raise ValueError(f"{column} over {over}: only positive numbers have logarithms")
        return float(np.polyfit(*((np.log(x), np.log(y)) if log else (x, y)), 1)[0])

    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = measured(rows_where(records, where or {}), column, over)
        return _mean(_units(rows, fit, by), level)

    return measure(take)


def quantile(column: Column, q: float, where: Where = None, by: str = "seed") -> Measuring:
    """Quantile over units with the interval of order statistics, which no distribution breaks.

    With few units an end is infinite: below six no 95 % interval of a median exists.
    """

    def take(records: pd.DataFrame, level: float) -> Estimate:
        from scipy.stats import binom

        values = np.sort(_units(rows_where(records, where or {}), column, by))
        n, tail = len(values), (1 - level) / 2
        value = float(np.quantile(values, q))
        if n == 1:
            return Estimate(value, value, value, level, 1, "one run")
        # P(fewer than k of n below the quantile) ≤ tail below the lower rank, and the same above the upper one.
        lower, upper = int(binom.ppf(tail, n, q)), int(binom.ppf(1 - tail, n, q)) + 1
        low = values[lower - 1] if lower >= 1 else -math.inf
        high = values[upper - 1] if upper <= n else math.inf
        return around(value, float(low), float(high), level, n, "order statistics")

    return measure(take)


def statistic(
    function: Callable[[pd.DataFrame], float],
    where: Where = None,
    by: str = "seed",
    resamples: int = 999,
) -> Measuring:
    """Any number of all rows, with the bootstrap interval that draws whole units again."""

    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = rows_where(records, where or {})
        groups = [g for _, g in rows.groupby(by)]
        value = float(function(rows))
        if len(groups) < 2:
            return Estimate(value, value, value, level, len(groups), "one run")

        def drawn(units: np.ndarray) -> float:
            return float(function(pd.concat([groups[int(u)] for u in units])))

        found = intervals.bootstrap(np.arange(len(groups)), drawn, level=level, resamples=resamples)
        return around(value, found.low, found.high, level, len(groups), "bootstrap")

    return measure(take)


def worst(part: Measuring, over: str | Sequence[str], *, least: bool = False) -> Measuring:
    """The largest of a measure over groups of rows, with an interval that is valid for all groups at once (Bonferroni).

    Parameters
    ----------
    part : measure
        Of one group.
    over : str or sequence of str
        Columns whose values make the groups.
    least : bool
        The smallest instead.
    """
    columns = [over] if isinstance(over, str) else list(over)

    def take(records: pd.DataFrame, level: float) -> Estimate:
        pick = min if least else max
        groups = [g for _, g in measured(records, *columns).groupby(columns)]
        first = [part(g, level) for g in groups]
        run = [g for g, e in zip(groups, first, strict=True) if isinstance(e, Estimate)]
        if not run:
            raise next(e for e in first if isinstance(e, NotTested))
        done = [part(g, 1 - (1 - level) / len(run)) for g in run]
        ends = [e for e in done if isinstance(e, Estimate)]
        return Estimate(
            value=pick(e.value for e in ends),
            low=pick(e.low for e in ends),
            high=pick(e.high for e in ends),
            level=level,
            n=min((e.n for e in ends if e.n is not None), default=None),
            method=f"{'least' if least else 'largest'} of {len(ends)}, {ends[0].method}",
        )

    return measure(take)


def largest(column: str, where: Where = None) -> Measuring:
    """The largest value that occurred: a number without an interval."""
    return _extreme(column, where, "max")


def least(column: str, where: Where = None) -> Measuring:
    """The smallest value that occurred: a number without an interval."""
    return _extreme(column, where, "min")


def _extreme(column: str, where: Where, which: str) -> Measuring:
    def take(records: pd.DataFrame, level: float) -> Estimate:
        values = measured(rows_where(records, where or {}), column)[column].astype(float)
        value = float(getattr(values, which)())
        return Estimate(value, value, value, 1.0, len(values), f"{which} of all")

    return measure(take)


def measured(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Rows that have a value in these columns.

    Raises
    ------
    NotTested
        If there is none.
    """
    kept = rows.dropna(subset=list(columns)) if set(columns) <= set(rows) else rows.iloc[:0]
    if kept.empty:
        raise NotTested(f"nothing was measured of {', '.join(columns)}")
    return kept


def _units(rows: pd.DataFrame, column: Column, by: str) -> np.ndarray:
    """One number a unit."""
    if callable(column):
        return np.array([column(g) for _, g in rows.groupby(by)], dtype=float)
    rows = measured(rows, column)
    return rows[column].astype(float).groupby(rows[by]).mean().to_numpy(dtype=float)


def _mean(values: np.ndarray, level: float) -> Estimate:
    if len(values) == 1:
        only = float(values[0])
        return Estimate(only, only, only, level, 1, "one run")
    return intervals.mean(values, level=level)


def _named(e: Estimate, method: str) -> Estimate:
    return Estimate(e.value, e.low, e.high, e.level, e.n, method if e.n != 1 else e.method)


def _axis(axis: Mapping[str, Hashable]) -> tuple[str, Hashable]:
    if len(axis) != 1:
        raise TypeError(f"name one column and its value, got {', '.join(axis) or 'none'}")
    ((name, value),) = axis.items()
    return name, value
