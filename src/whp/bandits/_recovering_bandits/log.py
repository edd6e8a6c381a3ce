"""Recovery curves out of a log of events, the limits of their means, and what the log speaks against."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
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

ISO_WEEK = re.compile(r"(\d{4})-?W(\d{2})")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?")
MONTH = re.compile(r"\d{4}-\d{2}")


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
        The events that were used: arm, gap, reward, unit, and value, the reward less what its unit
        differs by.
    binary : bool
        Whether all rewards are 0 or 1, and there are no units.
    """

    curves: Float[np.ndarray, "N D"]
    raw: Float[np.ndarray, "N D"]
    counts: Int[np.ndarray, "N D"]
    arms: tuple[str, ...]
    correction: float
    answers: dict[th.Condition, Answer]
    table: pd.DataFrame = field(repr=False)
    binary: bool
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
            Clopper-Pearson limits where rewards are 0 or 1, else Student's t, by units where there
            are some (jackknife). Nothing is taken from the fit: the curves need not rise.
        """
        if self.binary:
            hits = np.rint(self.raw * self.counts).astype(np.int64)
            return simultaneous_proportions(hits, self.counts, delta)
        with np.errstate(invalid="ignore"):
            wide = student.isf(delta / (2 * self.raw.size), self.freedom) * self.error
        wide = np.where(self.freedom > 0, wide, np.inf)
        return self.raw - wide, self.raw + wide


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
        Longest gap; longer ones count as D. By default the longest for which every arm has enough
        events, at most 24.
    unit : str, optional
        Column of what recurs within an arm, e.g. products of a category: gaps are then those of the
        unit, and its mean is taken off and the arm's put back, for units that come often differ from
        those that do not.
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
    table = table.sort_values(["arm", "unit", "time"], kind="stable").reset_index(drop=True)
    table["gap"] = table.groupby(["arm", "unit"])["time"].diff()
    table = table.dropna(subset=["gap"]).reset_index(drop=True)
    if table.empty:
        raise ValueError("log must have arms with two events or more")
    longest = _longest(table, fewest) if D is None else D
    table["gap"] = table["gap"].clip(upper=longest).astype(int)
    arms = sorted(table["arm"].unique())
    if unit:
        own = table.groupby(["arm", "unit"])["reward"].transform("mean")
        table["value"] = table["reward"] - own + table.groupby("arm")["reward"].transform("mean")
    else:
        table["value"] = table["reward"]
    index = pd.MultiIndex.from_product([arms, range(1, longest + 1)], names=["arm", "gap"])
    cells = table.groupby(["arm", "gap"])["value"].agg(["count", "mean", "std"]).reindex(index)
    counts = cells["count"].fillna(0).to_numpy().reshape(-1, longest).astype(np.int64)
    if (counts < fewest).any():
        i, d = np.argwhere(counts < fewest)[0]
        raise ValueError(
            f"log has {counts[i, d]} events of arm {arms[i]!r} at gap {d + 1}, needed are {fewest}; "
            "a smaller D pools longer gaps"
        )
    raw = cells["mean"].to_numpy().reshape(counts.shape)
    if unit:
        error, freedom = _by_units(table, arms, longest)
    else:
        spread = cells["std"].fillna(np.nan).to_numpy().reshape(counts.shape)
        error, freedom = spread / np.sqrt(counts), counts - 1.0
    curves = np.maximum(rising(raw, counts.astype(float)), 0.0)
    weight = counts / counts.sum()
    size = max(float((weight * np.abs(raw)).sum()), 1e-300)
    answers = {
        th.RISING_LOG: _rises(arms, raw, error, freedom),
        th.SAME_LATER: _stays(table, arms),
        th.FREE_GAPS: th.FREE_GAPS.unchecked("a log does not say why an arm was pulled"),
        th.INDEPENDENT: th.INDEPENDENT.unchecked(
            "units are taken to be independent, their events need not be"
            if unit
            else "events are taken to be independent; unit= takes units for it"
        ),
        th.CELL_MEANS: th.CELL_MEANS.unchecked(
            f"the smallest cell has {counts.min()} events; rare large rewards need many more"
        ),
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
        binary=not unit and bool(table["reward"].isin((0, 1)).all()),
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


def _numbers(column: pd.Series, name: str) -> np.ndarray:
    if column.dtype.kind not in "iufb":
        try:
            column = column.astype(float)
        except (TypeError, ValueError):
            raise ValueError(f"log must hold finite numbers in column {name!r}") from None
    values = column.to_numpy(dtype=float)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
        raise ValueError(f"log must hold finite numbers in column {name!r}; row {row} has none")
    return values


def _periods(column: pd.Series, name: str, every: str | None) -> np.ndarray:
    """Whole periods from numbers, ISO weeks, months or dates."""
    if column.dtype.kind == "M":
        column = column.dt.strftime("%Y-%m-%d")
    if column.dtype.kind not in "iufb":
        texts = column.astype(str).str.strip()
        if texts.map(lambda s: bool(ISO_WEEK.fullmatch(s))).all():
            if every not in (None, "week"):
                raise ValueError(f"every must be 'week' where column {name!r} holds weeks")
            days = pd.to_datetime(texts.str.replace("-", "") + "1", format="%GW%V%u")
            return _weeks(days.to_numpy("datetime64[D]"))
        if texts.map(lambda s: bool(MONTH.fullmatch(s))).all():
            every, texts = every or "month", texts + "-01"
        if texts.map(lambda s: bool(DAY.fullmatch(s))).all():
            if every is None:
                raise ValueError(
                    f"column {name!r} holds dates: say how long a period is, "
                    "every='day', 'week' or 'month'"
                )
            days = pd.to_datetime(texts).to_numpy("datetime64[D]")
            if every == "month":
                return days.astype("datetime64[M]").astype(int)
            return days.astype(int) if every == "day" else _weeks(days)
    elif every is not None:
        raise ValueError(f"every must go with dates; column {name!r} holds numbers")
    values = _numbers(column, name)
    if (values % 1 != 0).any() or np.abs(values).max() > 2**53:
        raise ValueError(f"log must hold whole periods in column {name!r}")
    return values


def _weeks(days: np.ndarray) -> np.ndarray:
    """Weeks begin on Monday; day 0 of numpy is a Thursday."""
    return (days.astype(int) + 3) // 7


def _longest(table: pd.DataFrame, fewest: int) -> int:
    """Largest D up to 24 for which every arm has enough events at every gap, longer ones pooled."""
    for D in range(LONGEST, 0, -1):
        counts = table.assign(gap=table["gap"].clip(upper=D)).groupby(["arm", "gap"]).size()
        if len(counts) == D * table["arm"].nunique() and counts.min() >= fewest:
            return D
    return 1


def _by_units(
    table: pd.DataFrame, arms: Sequence[str], D: int
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D"]]:
    """Standard errors of cell means by leaving out a unit at a time, and degrees of freedom."""
    error, freedom = np.full((len(arms), D), np.inf), np.zeros((len(arms), D))
    for a, name in enumerate(arms):
        own = table[table["arm"] == name]
        codes, units = pd.factorize(own["unit"])
        within = own["reward"].to_numpy() - own.groupby("unit")["reward"].transform("mean")
        cell = codes * D + own["gap"].to_numpy() - 1
        size = len(units) * D
        n = np.bincount(cell, minlength=size).reshape(-1, D).astype(float)
        sums = np.bincount(cell, within, minlength=size).reshape(-1, D)
        events = np.bincount(codes).astype(float)
        rewards = np.bincount(codes, own["reward"])
        if len(units) < 2:
            continue
        level = (rewards.sum() - rewards) / (events.sum() - events)
        with np.errstate(invalid="ignore", divide="ignore"):
            left = (sums.sum(axis=0) - sums) / (n.sum(axis=0) - n) + level[:, None]
        usable = (n.sum(axis=0) - n > 0).all(axis=0)
        taking = (n > 0).sum(axis=0)
        spread = ((left - left.mean(axis=0)) ** 2).sum(axis=0) * (len(units) - 1) / len(units)
        error[a] = np.where(usable, np.sqrt(spread), np.inf)
        freedom[a] = np.where(usable, taking - 1.0, 0.0)
    return error, freedom


def _rises(
    arms: Sequence[str],
    raw: Float[np.ndarray, "N D"],
    error: Float[np.ndarray, "N D"],
    freedom: Float[np.ndarray, "N D"],
) -> Answer:
    """Welch's t on every pair of neighbouring gaps, one-sided, Bonferroni."""
    if raw.shape[1] < 2:
        return th.RISING_LOG.unchecked("there is a single gap")
    step = np.diff(raw, axis=1)
    step = np.where(np.abs(step) <= 1e-9 * np.abs(raw).max(), 0.0, step)  # rounding
    variance = error**2
    both = variance[:, 1:] + variance[:, :-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = (variance**2 / freedom)[:, 1:] + (variance**2 / freedom)[:, :-1]
        df = np.where(parts > 0, both**2 / parts, 1e9)
        z = np.where(both > 0, step / np.sqrt(both), np.sign(step) * np.inf)
    z = np.where((step == 0) | ~np.isfinite(both), 0.0, z)
    chance = student.cdf(z, np.maximum(np.nan_to_num(df, nan=1.0), 1.0))
    i, d = divmod(int(chance.argmin()), z.shape[1])
    p = min(1.0, float(chance[i, d]) * z.size)
    if not np.isfinite(both).any():
        return th.RISING_LOG.unchecked("no two neighbouring gaps have two events each")
    seen = float(np.median(np.sqrt(both[np.isfinite(both)])))
    needed = (student.isf(LEVEL / z.size, float(np.median(df))) + 1.3) * seen
    return th.RISING_LOG.tested(
        p,
        LEVEL,
        f"a fall of {needed:.3g} between neighbouring gaps, nine times in ten; steepest is that of "
        f"{arms[i]}, gap {d + 1} to {d + 2}, by {max(0.0, -float(step[i, d])):.3g}",
        remedy=f"{arms[i]} falls from gap {d + 1} to {d + 2}: subtract what units differ in, unit=.",
    )


def _stays(table: pd.DataFrame, arms: Sequence[str]) -> Answer:
    """Residuals of the first half of time against the second, per arm, by t, Bonferroni.

    Where arms have units, each unit's halves are compared, and units are what is independent.
    """
    residual = table["value"] - table.groupby(["arm", "gap"])["value"].transform("mean")
    least_step = 1e-9 * float(np.abs(table["value"]).max())  # rounding
    late = table["time"] > table["time"].median()
    chances, seen = {}, math.inf
    for arm, own in table.assign(residual=residual, late=late).groupby("arm"):
        cells = own.groupby(["unit", "late"])["residual"].mean().unstack()
        if cells.shape[1] < 2:
            continue
        if len(cells) > 1:
            step = (cells[True] - cells[False]).dropna().to_numpy()
            if len(step) < 3:
                continue
            size, variance, df = abs(step.mean()), step.var(ddof=1) / len(step), len(step) - 1.0
        else:
            one, two = (own["residual"][own["late"] == half].to_numpy() for half in (False, True))
            if min(len(one), len(two)) < 3:
                continue
            parts = np.array([one.var(ddof=1) / len(one), two.var(ddof=1) / len(two)])
            size, variance = abs(one.mean() - two.mean()), parts.sum()
            free = (parts**2 / [len(one) - 1, len(two) - 1]).sum()
            df = variance**2 / free if free > 0 else 1.0
        if size <= least_step or variance == 0:
            continue
        chances[str(arm)] = 2 * float(student.sf(size / math.sqrt(variance), df))
        seen = min(seen, math.sqrt(variance))
    if not chances:
        return th.SAME_LATER.unchecked("no arm has enough events in both halves")
    who = min(chances, key=lambda a: chances[a])
    needed = (student.isf(LEVEL / (2 * len(arms)), 30) + 1.3) * seen
    return th.SAME_LATER.tested(
        min(1.0, chances[who] * len(arms)),
        LEVEL,
        f"a change of {needed:.3g} between the halves of time, nine times in ten; most changed {who}",
        remedy=f"{who} changed between the halves of time: use later data alone.",
    )
