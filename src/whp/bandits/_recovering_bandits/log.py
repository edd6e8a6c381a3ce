"""Recovery curves out of a log of events, the limits of their means, and what the log speaks against."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.stats import hypergeom, mannwhitneyu
from scipy.stats import t as student

from whp.bandits._recovering_bandits import theorems as th
from whp.bandits._recovering_bandits.plan import rising
from whp.certificate import Answer
from whp.concentration import simultaneous_proportions
from whp.door import AtLeast, front_door
from whp.text import nearest
from whp.validate import as_frame

__all__ = ["RecoveryCurves", "fit_recovery"]

FEWEST = 5  # events of an arm at a gap
LONGEST = 24  # gap that is looked at by itself, if not told
LEVEL = 0.025  # of each of the two tests

ISO_WEEK = re.compile(r"(\d{4})-?W(\d{1,2})")
ZONE = r"(?:Z|[+-]\d{2}:?\d{2})?"  # dates are those of the zone that they are written in
DAY = re.compile(rf"\d{{4}}-\d{{2}}-\d{{2}}(?:[T ]\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?{ZONE})?")
MONTH = re.compile(r"\d{4}-\d{2}")
# Digits that are dates, or a year and its week or month: as counts they jump at every turn.
DIGITS = re.compile(r"((?:19|20)\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
SIX = re.compile(r"((?:19|20)\d{2})(0[1-9]|[1-4]\d|5[0-3])")


@dataclass(frozen=True, eq=False)
class RecoveryCurves:
    """Curves fitted to a log.

    Attributes
    ----------
    curves : ndarray, shape (N, D)
        Rising, not below zero.
    raw : ndarray, shape (N, D)
        Means before they were made to rise.
    counts : ndarray, shape (N, D), int
        Events of each arm at each gap.
    arms : tuple of str
        Their names.
    correction : float
        Mean size of what the rising fit changed, weighted by events, as a share of the mean reward.
    answers : dict of Condition to Answer
        Whether the log speaks against rising curves, or against curves that stay the same.
    table : DataFrame
        The events that were used, those at gaps up to D: arm, gap, reward, unit, and value, the
        reward less what its unit differs by.
    values : tuple of float or None
        The two values of all rewards, the smaller first, where there are no more and no units.
    """

    curves: Float[np.ndarray, "N D"]
    raw: Float[np.ndarray, "N D"]
    counts: Int[np.ndarray, "N D"]
    arms: tuple[str, ...]
    correction: float
    answers: dict[th.Condition, Answer]
    table: pd.DataFrame = field(repr=False)
    values: tuple[float, float] | None
    error: Float[np.ndarray, "N D"] = field(repr=False)
    freedom: Float[np.ndarray, "N D"] = field(repr=False)

    def limits(self, delta: float) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D"]]:
        """Lower and upper limits of the means of all arms and gaps, all at once.

        Parameters
        ----------
        delta : float
            Probability that any of them misses.

        Returns
        -------
        low, high : ndarray, shape (N, D)
            Clopper-Pearson limits where rewards have two values, else Student's t, by units where
            there are some (jackknife). Nothing is taken from the fit: the curves need not rise.
        """
        if self.values is not None:
            small, large = self.values
            low, high = simultaneous_proportions(self.hits, self.counts, delta)
            return small + (large - small) * low, small + (large - small) * high
        with np.errstate(invalid="ignore"):
            wide = student.isf(delta / (2 * self.raw.size), self.freedom) * self.error
        wide = np.where(self.freedom > 0, wide, np.inf)
        return self.raw - wide, self.raw + wide

    @property
    def hits(self) -> Int[np.ndarray, "N D"]:
        """Events of each cell with the larger of two values."""
        small, large = self.values or (0.0, 1.0)
        return np.rint((self.raw - small) / (large - small) * self.counts).astype(np.int64)


@front_door
def fit_recovery(
    log: Any,
    *,
    arm: str = "arm",
    time: str = "time",
    reward: str = "reward",
    D: Annotated[int, AtLeast(1)] | None = None,
    unit: str | None = None,
    fewest: Annotated[int, AtLeast(1)] = FEWEST,
    every: Literal["day", "week", "month"] | None = None,
) -> RecoveryCurves:
    """What an arm pays by the time since its last event.

    Parameters
    ----------
    log : DataFrame
        An event a row.
    arm, time, reward : str
        Its columns; time in whole periods, as ISO weeks (2017-W05), or as dates with `every`.
    D : int, optional
        Longest gap that has a mean of its own; longer ones are taken to pay the same, which is
        tested. By default the longest up to which every arm has enough events, at most 24.
    unit : str, optional
        Column of what recurs within an arm, e.g. products of a category: gaps are then those of the
        unit, and what the unit pays more than others is taken off by least squares, for units that
        come often differ from those that do not.
    fewest : int
        Events that every arm must have at every gap.
    every : {"day", "week", "month"}, optional
        How long a period is, where time is given as dates.

    Returns
    -------
    RecoveryCurves

    Raises
    ------
    TypeError, ValueError
        If a column is missing, a time is not whole, an event comes twice, or a cell has too few
        events; the message names it.
    """
    log = as_frame(log)
    if not isinstance(log, pd.DataFrame):
        raise TypeError(f"log must be a table, got {type(log).__name__}")
    table = _events(log, arm, time, reward, unit, every)
    arms = sorted(table["arm"].unique(), key=_by_number)
    table = table.sort_values(["arm", "unit", "time"], kind="stable").reset_index(drop=True)
    table["gap"] = table.groupby(["arm", "unit"])["time"].diff()
    table = table.dropna(subset=["gap"]).reset_index(drop=True)
    if table.empty:
        raise ValueError("log must have arms with two events or more")
    longest = _longest(table, len(arms), fewest) if D is None else D
    # Events at longer gaps say whether D pays what they do. Its mean would be theirs if few are at D.
    pooled = table.assign(gap=table["gap"].clip(upper=longest).astype(int), value=table["reward"])
    pooled["longer"] = table["gap"] > longest
    if unit:
        pooled["value"] = _of_arms(pooled, longest)
    rare = _hardly_at(pooled, arms, longest, fewest)
    own = ~pooled["longer"] | pooled["arm"].isin(list(rare))
    table = pooled[own].drop(columns="longer").reset_index(drop=True)
    if unit:
        table["value"] = _of_arms(table, longest)
    index = pd.MultiIndex.from_product([arms, range(1, longest + 1)], names=["arm", "gap"])
    cells = table.groupby(["arm", "gap"])["value"].agg(["count", "mean", "std"]).reindex(index)
    counts = cells["count"].fillna(0).to_numpy().reshape(-1, longest).astype(np.int64)
    if (counts < fewest).any():
        i, d = np.argwhere(counts < fewest)[0]
        raise ValueError(
            f"log has {counts[i, d]} events of arm {arms[i]!r} at gap {d + 1}, needed are {fewest}; "
            "give a smaller D or times in longer periods, or leave the arm out"
        )
    raw = cells["mean"].to_numpy().reshape(counts.shape)
    if unit:
        error, freedom = _by_units(table, arms, longest)
    else:
        spread = cells["std"].to_numpy(dtype=float).reshape(counts.shape)
        # Rewards of a cell may be equal by chance: it is taken to vary like the cell that varies most.
        spread = np.where(spread == 0, np.nanmax(spread, initial=0.0), spread)
        error, freedom = spread / np.sqrt(counts), counts - 1.0
    values = None if unit else _two_values(pooled["reward"].to_numpy(dtype=float))
    curves = np.maximum(rising(raw, counts.astype(float)), 0.0)
    weight = counts / counts.sum()
    size = max(float((weight * np.abs(raw)).sum()), 1e-300)
    chance = None
    if values is not None:
        hits = np.rint((raw - values[0]) / (values[1] - values[0]) * counts).astype(np.int64)
        chance = _fewer(hits[:, :-1], counts[:, :-1], hits[:, 1:], counts[:, 1:])
    answers = {
        th.RISING_LOG: _rises(arms, raw, error, freedom, chance),
        th.SAME_LATER: _stays(table, arms),
        th.FLAT_LOG: _flat(pooled, arms, longest, values)
        if not rare
        else _stand_for(rare, longest),
        th.FREE_GAPS: th.FREE_GAPS.unchecked("a log does not say why an arm was pulled"),
        th.INDEPENDENT: th.INDEPENDENT.unchecked(
            "units are taken to be independent, their events need not be"
            if unit
            else "events are taken to be independent; unit= takes units for it"
        ),
        th.CELL_MEANS: th.CELL_MEANS.unchecked(
            f"the smallest cell has {counts.min()} events; rare large rewards need many more"
        ),
        th.TWO_VALUES: th.TWO_VALUES.unchecked("no other was seen"),
        th.STATE: th.STATE.unchecked("a log cannot show effects across arms"),
    }
    return RecoveryCurves(
        curves=curves,
        raw=raw,
        counts=counts,
        arms=tuple(arms),
        correction=float((weight * np.abs(curves - raw)).sum()) / size,
        answers=answers,
        table=table,
        values=values,
        error=error,
        freedom=freedom,
    )


def _events(
    log: pd.DataFrame, arm: str, time: str, reward: str, unit: str | None, every: str | None
) -> pd.DataFrame:
    """Arm, time, reward and unit of each row; all that is wrong with a column is named."""
    names = [str(c) for c in log.columns]
    for option, column in (("arm", arm), ("time", time), ("reward", reward), ("unit", unit)):
        if column is not None and column not in names:
            hint = nearest(column, names) or f"; it has {', '.join(names[:10])}"
            raise ValueError(f"log has no column {column!r} for {option}{hint}")
        if names.count(str(column)) > 1:
            raise ValueError(f"log has more than one column {column!r} for {option}")
    log = log.set_axis(names, axis=1)
    for column in filter(None, (arm, time, reward, unit)):
        if (gone := log[column].isna()).any():
            raise ValueError(
                f"log must have a value in every row of column {column!r}; row "
                f"{int(np.flatnonzero(gone)[0]) + 1} has none ({int(gone.sum())} in all)"
            )
    table = pd.DataFrame(
        {
            "arm": log[arm].astype(str).to_numpy(),
            "time": _periods(log[time], time, every),
            "reward": _numbers(log[reward], reward),
        }
    )
    table["unit"] = log[unit].astype(str).to_numpy() if unit else table["arm"]
    twice = table.duplicated(["unit", "arm", "time"])
    if twice.any():
        second = int(np.flatnonzero(twice)[0])
        row = table.iloc[second]
        same = (table[["unit", "arm", "time"]] == row[["unit", "arm", "time"]]).all(axis=1)
        first = int(np.flatnonzero(same)[0])
        raise ValueError(
            f"log has two events of {row['unit']!r} at time {row['time']:g}, rows {first + 1} and "
            f"{second + 1} ({int(twice.sum())} such rows in all); keep one a period, or name units"
        )
    return table


def _by_number(name: str) -> tuple[int, float, str]:
    """Arms that are numbers come first, in their order: 2 before 10."""
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def _two_values(reward: np.ndarray) -> tuple[float, float] | None:
    """The two values of all rewards, if there are no more."""
    seen = np.unique(reward)
    if np.isin(seen, (0, 1)).all():
        return 0.0, 1.0
    return (float(seen[0]), float(seen[1])) if len(seen) == 2 else None


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    if column.dtype.kind not in "iufb":
        try:
            if column.dtype.kind == "c":
                raise TypeError("complex numbers")
            column = column.astype(float)
        except (TypeError, ValueError):
            raise ValueError(f"log must hold finite numbers in column {name!r}") from None
    values = column.to_numpy(dtype=float)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise ValueError(f"log must hold finite numbers in column {name!r}; row {row} has none")
    largest = float(np.abs(values).max(initial=0.0))
    if largest > 1e150 or 0 < largest < 1e-150:  # their squares are no numbers
        raise ValueError(f"column {name!r} must be of a size between 1e-150 and 1e150")
    return values


def _periods(column: pd.Series, name: str, every: str | None) -> np.ndarray:
    """Whole periods from numbers, ISO weeks, months or dates."""
    if column.dtype.kind == "M":
        column = column.dt.strftime("%Y-%m-%d")
    if column.dtype.kind == "f" and (column % 1 == 0).all() and (column.abs() < 1e9).all():
        column = column.astype(np.int64)
    texts = column.astype(str).str.strip().str.replace("/", "-")

    def all_are(pattern: re.Pattern[str]) -> bool:
        return bool(texts.map(lambda s: pattern.fullmatch(s) is not None).all())

    if all_are(DIGITS):
        texts = texts.str.replace(DIGITS, r"\1-\2-\3", regex=True)
    elif all_are(SIX):
        if every not in ("week", "month"):
            raise ValueError(
                f"column {name!r} holds years with a week or a month, like {texts.iloc[0]}: say "
                "which, every='week' or 'month'"
            )
        texts = texts.str.replace(SIX, r"\1-W\2" if every == "week" else r"\1-\2", regex=True)
    try:
        if all_are(ISO_WEEK):
            if every not in (None, "week"):
                raise ValueError(f"every must be 'week' where column {name!r} holds weeks")
            parts = [w.replace("-", "").split("W") for w in texts]
            days = [date.fromisocalendar(int(year), int(week), 1) for year, week in parts]
            return _weeks(np.array(days, dtype="datetime64[D]"))
        if all_are(MONTH):
            every, texts = every or "month", texts + "-01"
        if all_are(DAY):
            if every is None:
                raise ValueError(
                    f"column {name!r} holds dates: say how long a period is, "
                    "every='day', 'week' or 'month'"
                )
            days = np.array([date.fromisoformat(d[:10]) for d in texts], dtype="datetime64[D]")
            if every == "month":
                return days.astype("datetime64[M]").astype(int)
            return days.astype(int) if every == "day" else _weeks(days)
    except ValueError as error:
        if name in str(error):
            raise
        raise ValueError(f"column {name!r} of the log has no such date: {error}") from None
    try:
        values = _numbers(column, name)
    except ValueError as error:
        raise ValueError(f"{error}; dates are written as 2017-01-31, weeks as 2017-W05") from None
    if every is not None:
        raise ValueError(f"every must go with dates; column {name!r} holds numbers")
    if (values % 1 != 0).any() or np.abs(values).max() > 2**53:
        raise ValueError(f"log must hold whole periods in column {name!r}")
    return values


def _weeks(days: np.ndarray) -> np.ndarray:
    """Weeks begin on Monday; day 0 of numpy is a Thursday."""
    return (days.astype(int) + 3) // 7


def _longest(table: pd.DataFrame, arms: int, fewest: int) -> int:
    """Largest D up to 24 for which every arm has enough events at every gap."""
    if table["gap"].min() > LONGEST:
        raise ValueError(
            f"log has no two events of an arm within {LONGEST} periods: the shortest gap is "
            f"{table['gap'].min():g}; give D, or times in longer periods"
        )
    counts = table.groupby(["gap", "arm"]).size()
    enough = (counts >= fewest).groupby("gap").sum() == arms
    all_up_to = enough.reindex(range(1, LONGEST + 1), fill_value=False).cumprod()
    return max(1, int(all_up_to.sum()))


def _tables(
    own: pd.DataFrame, D: int
) -> tuple[np.ndarray, Float[np.ndarray, "U D"], Float[np.ndarray, "U D"]]:
    """Unit of each event of one arm; events and their rewards of each unit at each gap."""
    codes, units = pd.factorize(own["unit"])
    cell, size = codes * D + own["gap"].to_numpy() - 1, len(units) * D
    n = np.bincount(cell, minlength=size).reshape(-1, D).astype(float)
    sums = np.bincount(cell, own["reward"].to_numpy(dtype=float), size).reshape(-1, D)
    return codes, n, sums


def _equations(
    n: Float[np.ndarray, "U D"], sums: Float[np.ndarray, "U D"]
) -> tuple[np.ndarray, np.ndarray]:
    """What each unit adds to the normal equations for gaps, units taken off."""
    events = n.sum(axis=1)
    A = n[:, :, None] * np.eye(n.shape[1]) - n[:, :, None] * n[:, None, :] / events[:, None, None]
    return A, sums - n * (sums.sum(axis=1) / events)[:, None]


def _solved(A: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Effects of gaps, as small as can be where they are not determined, and how many are."""
    w, V = np.linalg.eigh(A)
    kept = w > 1e-9 * np.maximum(w.max(axis=-1, keepdims=True), 1e-300)
    turned = np.einsum("...ji,...j->...i", V, b)
    scaled = np.where(kept, turned / np.where(kept, w, 1.0), 0.0)
    return np.einsum("...ij,...j->...i", V, scaled), np.asarray(kept.sum(axis=-1))


def _of_arms(table: pd.DataFrame, D: int) -> pd.Series:
    """Rewards less what units pay more than their arms, arm by arm."""
    made = pd.Series(0.0, index=table.index)
    for _, own in table.groupby("arm"):
        made[own.index] = _within(own, D)
    return made


def _within(own: pd.DataFrame, D: int) -> np.ndarray:
    """Rewards of one arm less what their unit pays more than the arm, by least squares.

    The unit's plain mean would take with it what its gaps pay.
    """
    codes, n, sums = _tables(own, D)
    A, b = _equations(n, sums)
    effect = _solved(A.sum(axis=0), b.sum(axis=0))[0]
    level = (sums.sum(axis=1) - n @ effect) / n.sum(axis=1)
    mean = (sums.sum() - n.sum(axis=0) @ effect) / n.sum()
    return own["reward"].to_numpy(dtype=float) - level[codes] + mean


def _by_units(
    table: pd.DataFrame, arms: Sequence[str], D: int
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D"]]:
    """Standard errors of cell means by leaving out a unit at a time, and degrees of freedom."""
    error, freedom = np.full((len(arms), D), np.inf), np.zeros((len(arms), D))
    equal, events = np.zeros((len(arms), D), dtype=bool), np.ones((len(arms), D))
    for a, name in enumerate(arms):
        own = table[table["arm"] == name]
        _, n, sums = _tables(own, D)
        if len(n) < 2:
            continue
        A, b = _equations(n, sums)
        effect, known = _solved(A.sum(axis=0) - A, b.sum(axis=0) - b)
        rest = n.sum(axis=0) - n
        mean = ((sums.sum() - sums.sum(axis=1)) - (rest * effect).sum(axis=1)) / rest.sum(axis=1)
        left = effect + mean[:, None]
        # Gaps that no unit shares cannot be compared within units.
        compared = bool((known >= (rest > 0).sum(axis=1) - 1).all())
        usable = (rest > 0).all(axis=0) & compared
        spread = ((left - left.mean(axis=0)) ** 2).sum(axis=0) * (len(n) - 1) / len(n)
        error[a] = np.where(usable, np.sqrt(spread), np.inf)
        freedom[a] = np.where(usable, (n > 0).sum(axis=0) - 1.0, 0.0)
        ends = own.groupby("gap")["reward"].agg(["min", "max"]).reindex(range(1, D + 1))
        equal[a] = (ends["min"] == ends["max"]).to_numpy()
        events[a] = np.maximum(n.sum(axis=0), 1)
    # Rewards of a cell may be equal by chance: it is taken to vary like the cell that varies most.
    event = error * np.sqrt(events)  # error of one event
    most = float(event[np.isfinite(event)].max(initial=0.0))
    error = np.where(equal, np.maximum(error, most / np.sqrt(events)), error)
    return error, freedom


def _fewer(hits: Any, n: Any, later: Any, m: Any) -> np.ndarray:
    """Fisher's exact test, one-sided: chance that so few of `later`, or fewer, are hits."""
    return np.asarray(hypergeom.cdf(later, n + m, hits + later, m))


def _rises(
    arms: Sequence[str],
    raw: Float[np.ndarray, "N D"],
    error: Float[np.ndarray, "N D"],
    freedom: Float[np.ndarray, "N D"],
    exact: Float[np.ndarray, "N d"] | None,
) -> Answer:
    """Welch's t on every pair of neighbouring gaps, one-sided, Bonferroni; or chances that are exact."""
    if raw.shape[1] < 2:
        return th.RISING_LOG.unchecked("there is a single gap")
    step = np.diff(raw, axis=1)
    step = np.where(np.abs(step) <= 1e-9 * np.abs(raw).max(), 0.0, step)  # rounding
    unit = float(np.abs(raw).max()) or 1.0  # fourth powers of errors may be no numbers
    variance = (error / unit) ** 2
    both = variance[:, 1:] + variance[:, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = (variance**2 / freedom)[:, 1:] + (variance**2 / freedom)[:, :-1]
        df = np.where(parts > 0, both**2 / parts, 1e9)
        z = np.where(both > 0, step / unit / np.sqrt(both), np.sign(step) * np.inf)
    z = np.where((step == 0) | ~np.isfinite(both), 0.0, z)
    chance = student.cdf(z, np.maximum(np.nan_to_num(df, nan=1.0), 1.0)) if exact is None else exact
    i, d = divmod(int(chance.argmin()), z.shape[1])
    p = min(1.0, float(chance[i, d]) * z.size)
    if not np.isfinite(both).any():
        return th.RISING_LOG.unchecked("no two neighbouring gaps have two events each")
    usable = np.isfinite(both)
    seen = unit * float(np.median(np.sqrt(both[usable])))
    needed = (student.isf(LEVEL / z.size, float(np.median(df[usable]))) + 1.3) * seen
    return th.RISING_LOG.tested(
        p,
        LEVEL,
        f"a fall of {needed:.3g} between neighbouring gaps, nine times in ten; steepest is that of "
        f"{arms[i]}, gap {d + 1} to {d + 2}, by {max(0.0, -float(step[i, d])):.3g}",
        remedy=f"{arms[i]} falls from gap {d + 1} to {d + 2}: subtract what units differ in, unit=.",
    )


def _stays(table: pd.DataFrame, arms: Sequence[str]) -> Answer:
    """Residuals of the first half of each arm's events against the second.

    Halves of one size: where rewards are skewed, so that neither shows it.
    """
    residual = table["value"] - table.groupby(["arm", "gap"])["value"].transform("mean")
    late = table["time"] > table.groupby("arm")["time"].transform("median")
    p, who, needed = _compared(table.assign(residual=residual, late=late), _by_t)
    if who is None:
        return th.SAME_LATER.unchecked("no arm has enough events in both halves")
    return th.SAME_LATER.tested(
        min(1.0, p * len(arms)),
        LEVEL,
        f"a change of {needed:.3g} between the halves of time, nine times in ten; most changed {who}",
        remedy=f"{who} changed between the halves of time: use later data alone.",
    )


def _hardly_at(table: pd.DataFrame, arms: Sequence[str], D: int, fewest: int) -> dict[str, int]:
    """Arms with too few events at gap D itself, of which longer gaps make up enough; and how many."""
    last = table[table["gap"] == D]
    both = last.groupby("arm").size().reindex(arms, fill_value=0)
    own = last[~last["longer"]].groupby("arm").size().reindex(arms, fill_value=0)
    return {str(a): int(own[a]) for a in arms if own[a] < fewest <= both[a]}


def _stand_for(rare: dict[str, int], D: int) -> Answer:
    """Rewards of longer gaps stand for those at gap D, which is said."""
    arm, count = next(iter(rare.items()))
    others = f", as of {len(rare) - 1} more" if len(rare) > 1 else ""
    evidence = (
        f"arm {arm!r} has {count} events at gap {D}, whose mean is of longer ones then{others}"
    )
    remedy = "a smaller D, or times in longer periods"
    warnings.warn(f"{evidence}; give {remedy}", stacklevel=5)
    return th.FLAT_LOG.check(False, evidence, remedy=f"{remedy}: the log says little of gap {D}.")


def _flat(
    table: pd.DataFrame, arms: Sequence[str], D: int, values: tuple[float, float] | None
) -> Answer:
    """Events at gap D against those at longer gaps, which are taken to pay the same."""
    last = table[table["gap"] == D]
    split = last.assign(residual=last["value"], late=last["longer"])
    p, who, needed = _compared(split, _by_ranks if values is None else _by_counts)
    if who is None:
        return th.FLAT_LOG.unchecked(f"no arm has three events both at gap {D} and beyond it")
    return th.FLAT_LOG.tested(
        min(1.0, p * len(arms)),
        LEVEL,
        f"a step of {needed:.3g} beyond gap {D}, nine times in ten; the clearest is that of {who}",
        remedy=f"{who} pays more or less after gaps beyond {D}: a larger D, and more events.",
    )


def _compared(table: pd.DataFrame, tested: Any) -> tuple[float, str | None, float]:
    """The smallest chance of any arm, whose, and what change would have been seen.

    Where arms have units, each unit's two parts are compared, and units are what is independent.
    """
    least_step = 1e-9 * float(np.abs(table["value"]).max())  # rounding
    chances, seen = {}, math.inf
    for arm, own in table.groupby("arm"):
        if own["unit"].nunique() > 1:
            cells = own.groupby(["unit", "late"])["residual"].mean().unstack()
            if cells.shape[1] < 2:
                continue
            step = (cells[True] - cells[False]).dropna().to_numpy()
            if len(step) < 3:
                continue
            size, error = abs(step.mean()), step.std(ddof=1) / math.sqrt(len(step))
            p = 2 * float(student.sf(size / error, len(step) - 1)) if error > 0 else 0.0
        else:
            residual, late = own["residual"].to_numpy(), own["late"].to_numpy()
            one, two = residual[~late], residual[late]
            if min(len(one), len(two)) < 3:
                continue
            size, error = abs(one.mean() - two.mean()), _pooled(one, two)
            p = tested(one, two) if error > 0 else 0.0
        chances[str(arm)] = 1.0 if size <= least_step else p
        seen = min(seen, error)
    if not chances:
        return 1.0, None, math.inf
    who = min(chances, key=lambda a: chances[a])
    return chances[who], who, (student.isf(LEVEL / (2 * len(chances)), 30) + 1.3) * seen


def _pooled(one: np.ndarray, two: np.ndarray) -> float:
    """Standard error of the difference of two means of one variance."""
    squares = ((one - one.mean()) ** 2).sum() + ((two - two.mean()) ** 2).sum()
    return math.sqrt(squares / (len(one) + len(two) - 2) * (1 / len(one) + 1 / len(two)))


def _by_t(one: np.ndarray, two: np.ndarray) -> float:
    size = abs(one.mean() - two.mean()) / _pooled(one, two)
    return 2 * float(student.sf(size, len(one) + len(two) - 2))


def _by_ranks(one: np.ndarray, two: np.ndarray) -> float:
    """Holds whatever the law, and however unequal the parts."""
    return float(mannwhitneyu(one, two).pvalue)


def _by_counts(one: np.ndarray, two: np.ndarray) -> float:
    high = max(one.max(), two.max())
    hits, n, later, m = int((one == high).sum()), len(one), int((two == high).sum()), len(two)
    return min(1.0, 2 * float(min(_fewer(hits, n, later, m), _fewer(later, m, hits, n))))
