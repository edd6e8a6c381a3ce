"""Recovery curves out of a log of events, with a test of whether they rise at all; and the front door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from whp.bandits.recovering_bandits.plan import RecoveringPlan, plan_recovering, rate_of
from whp.certificate import Certificate
from whp.io import Data
from whp.progress import track
from whp.result import Result
from whp.undeclared import Assumption, met, unchecked, violated
from whp.validate import as_choice, as_int

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RecoveringReport", "RecoveryCurves", "fit_recovery", "recovering_bandits"]

FEWEST = 5  # events of an arm at a gap


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
    correction : float
        Mean size of what the rising fit changed, weighted by events, as a share of the mean reward.
    assumptions : tuple of Assumption
        Whether the log speaks against rising curves, or against curves that stay the same over time.
    table : DataFrame
        The events that were used: arm, gap, reward, unit.
    """

    curves: Float[np.ndarray, "N D"]
    raw: Float[np.ndarray, "N D"]
    counts: Int[np.ndarray, "N D"]
    arms: tuple[str, ...]
    correction: float
    assumptions: tuple[Assumption, ...]
    table: pd.DataFrame = field(repr=False)


def fit_recovery(
    log: Any,
    *,
    arm: str = "arm",
    time: str = "time",
    reward: str = "reward",
    D: int | None = None,
    unit: str | None = None,
    fewest: int = FEWEST,
) -> RecoveryCurves:
    """What an arm pays by the time since its last event.

    Parameters
    ----------
    log : DataFrame
        An event a row.
    arm, time, reward : str
        Its columns; time in whole periods.
    D : int, optional
        Longest gap; longer ones count as D. By default the longest for which every arm has enough events, at most 24.
    unit : str, optional
        Column of what recurs within an arm, e.g. products of a category: gaps are then those of the unit, and its mean is taken off
        and the arm's put back, for units that come often differ from those that do not.
    fewest : int
        Events that every arm must have at every gap.

    Returns
    -------
    RecoveryCurves

    Raises
    ------
    TypeError, ValueError
        If a column is missing, a time is not whole, an event comes twice, or a cell has too few events; the message names it.
    """
    if not isinstance(log, pd.DataFrame):
        raise TypeError(f"log must be a table, got {type(log).__name__}")
    wanted = [arm, time, reward] + ([unit] if unit else [])
    if missing := [c for c in wanted if c not in log.columns]:
        raise ValueError(
            f"log has no column {missing[0]!r}; it has {', '.join(map(str, log.columns))}"
        )
    table = pd.DataFrame({"arm": log[arm].astype(str), "time": log[time], "reward": log[reward]})
    table["unit"] = log[unit].astype(str) if unit else table["arm"]
    for column in ("time", "reward"):
        if table[column].dtype.kind not in "iuf" or not np.isfinite(table[column]).all():
            raise ValueError(
                f"log must hold finite numbers in column {(time if column == 'time' else reward)!r}"
            )
    if (table["time"] % 1 != 0).any():
        raise ValueError(f"log must hold whole periods in column {time!r}")
    if (twice := table.duplicated(["unit", "arm", "time"])).any():
        row = table[twice].iloc[0]
        raise ValueError(f"log has two events of {row['unit']!r} at time {row['time']:g}")
    table = table.sort_values(["arm", "unit", "time"], kind="stable").reset_index(drop=True)
    table["gap"] = table.groupby(["arm", "unit"])["time"].diff()
    table = table.dropna(subset=["gap"])
    if table.empty:
        raise ValueError("log must have arms with two events or more")
    least = as_int(fewest, "fewest", low=1)
    longest = _longest(table, least) if D is None else as_int(D, "D", low=1)
    table["gap"] = table["gap"].clip(upper=longest).astype(int)
    if unit:
        own = table.groupby(["arm", "unit"])["reward"].transform("mean")
        table["value"] = table["reward"] - own + table.groupby("arm")["reward"].transform("mean")
    else:
        table["value"] = table["reward"]
    arms = sorted(table["arm"].unique())
    cells = table.groupby(["arm", "gap"])["value"].agg(["count", "mean", "std"])
    full = cells.reindex(
        pd.MultiIndex.from_product([arms, range(1, longest + 1)], names=["arm", "gap"])
    )
    counts = full["count"].fillna(0).to_numpy().reshape(-1, longest).astype(np.int64)
    if (counts < least).any():
        i, d = np.argwhere(counts < least)[0]
        raise ValueError(
            f"log has {counts[i, d]} events of arm {arms[i]!r} at gap {d + 1}, needed are {least}; a smaller D pools longer gaps"
        )
    raw = full["mean"].to_numpy().reshape(counts.shape)
    spread = full["std"].fillna(0).to_numpy().reshape(counts.shape)
    from sklearn.isotonic import isotonic_regression

    fitted = np.stack(
        [
            np.asarray(isotonic_regression(m, sample_weight=n))
            for m, n in zip(raw, counts.astype(float), strict=True)
        ]
    )
    curves = np.maximum(fitted, 0.0)
    weight = counts / counts.sum()
    correction = float(
        (weight * np.abs(curves - raw)).sum() / max(float((weight * np.abs(raw)).sum()), 1e-300)
    )
    checked = (
        _rises(arms, raw, spread, counts),
        _stays(table, arms),
        unchecked("arms do not affect each other", "the log cannot show it"),
    )
    return RecoveryCurves(curves, raw, counts, tuple(arms), correction, checked, table)


def _longest(table: pd.DataFrame, fewest: int) -> int:
    """Largest D up to 24 for which every arm has enough events at every gap, those beyond pooled."""
    for D in range(24, 0, -1):
        counts = table.assign(gap=table["gap"].clip(upper=D)).groupby(["arm", "gap"]).size()
        if len(counts) == D * table["arm"].nunique() and counts.min() >= fewest:
            return D
    return 1


def _rises(
    arms: Sequence[str], raw: np.ndarray, spread: np.ndarray, counts: np.ndarray
) -> Assumption:
    """A1: one-sided z on every pair of neighbouring gaps, Bonferroni."""
    from scipy.stats import norm

    statement = "rewards do not fall with the gap"
    if raw.shape[1] < 2:
        return met(statement, "a single gap")
    error = np.sqrt((spread**2 / counts)[:, 1:] + (spread**2 / counts)[:, :-1])
    z = np.divide(np.diff(raw, axis=1), error, out=np.zeros_like(error), where=error > 0)
    i, d = divmod(int(z.argmin()), z.shape[1])
    p = min(1.0, float(norm.cdf(z[i, d])) * z.size)
    told = f"steepest fall: {arms[i]}, gap {d + 1} to {d + 2}, z = {z[i, d]:.2f}, p = {p:.3g} for {z.size} pairs"
    return (
        violated(statement, told, "subtract what units differ in: unit=.")
        if p < 0.05
        else met(statement, told)
    )


def _stays(table: pd.DataFrame, arms: Sequence[str]) -> Assumption:
    """A5 as far as it goes: residuals of the first half of time against the second, per arm, Bonferroni."""
    from scipy.stats import norm

    statement = "curves stay the same over time"
    residual = table["value"] - table.groupby(["arm", "gap"])["value"].transform("mean")
    early = table["time"] <= table["time"].median()
    worst, who = 0.0, ""
    for a in arms:
        own = (table["arm"] == a).to_numpy()
        one, two = residual[own & early.to_numpy()], residual[own & ~early.to_numpy()]
        if len(one) < 2 or len(two) < 2:
            continue
        error = float(np.sqrt(one.var() / len(one) + two.var() / len(two)))
        z = abs(float(one.mean() - two.mean())) / error if error > 0 else 0.0
        if z > worst:
            worst, who = z, a
    p = min(1.0, 2 * float(norm.sf(worst)) * len(arms))
    told = f"largest change between halves of time: {who or 'none'}, z = {worst:.2f}, p = {p:.3g}"
    return (
        violated(statement, told, "fit later data alone.")
        if p < 0.05
        else unchecked(statement, told)
    )


@dataclass(frozen=True, eq=False)
class RecoveringReport(Result):
    """A plan for curves that were given, or fitted to a log.

    Attributes
    ----------
    plan : RecoveringPlan
    fit : RecoveryCurves or None
    gain : DataFrame
        Reward a period of the plan, of always the same arms and of those that pay most now, with 95 % bootstrap intervals of the
        differences where there is a log.
    """

    plan: RecoveringPlan
    certificates: tuple[Certificate, ...]
    gain: pd.DataFrame
    fit: RecoveryCurves | None = field(repr=False, default=None)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """That of the plan, and what the rising fit changed."""
        found = self.plan.summary()
        if self.fit is not None:
            found |= {
                "events": int(self.fit.counts.sum()),
                "changed_by_the_rising_fit": self.fit.correction,
            }
        for row in self.gain.itertuples():
            if row.policy != "plan" and np.isfinite(row.low):  # type: ignore[arg-type]
                found[f"gain_over_{row.policy}"] = f"{row.gain:.4g} [{row.low:.4g}, {row.high:.4g}]"
        return found

    def artifacts(self) -> dict[str, Any]:
        """The timetable, and the gains."""
        return {**self.plan.artifacts(), "gain.csv": self.gain}

    def plot(self, ax: Axes | None = None) -> Axes:
        """The timetable."""
        return self.plan.plot(ax)


def recovering_bandits(
    table: Annotated[Any, Data("table")],
    K: int = 1,
    *,
    arm: str = "arm",
    time: str = "time",
    reward: str = "reward",
    unit: str | None = None,
    D: int | None = None,
    monotone: Literal["check", "envelope", "isotonic"] = "check",
    local_search: bool = True,
    resamples: int = 100,
    rng: np.random.Generator | int | None = None,
) -> RecoveringReport:
    """Plan pulls of arms that tire and recover: from their curves, or from a log of events.

    Parameters
    ----------
    table : DataFrame or array_like
        Curves, an arm a row, what it pays 1, 2, … periods after its last pull; a first column of text holds names. Or a log with
        the columns named below, an event a row.
    K : int
        Pulls a period.
    arm, time, reward : str
        Columns of a log; time in whole periods.
    unit : str, optional
        Column of what recurs within an arm, e.g. products of a category; see :func:`fit_recovery`.
    D : int, optional
        Longest gap of a log; longer ones count as D.
    monotone : {"check", "envelope", "isotonic"}
        What to do with given curves that fall.
    local_search : bool
        Try to improve the plan by changing single periods and pairs.
    resamples : int
        Bootstrap resamples of units, for intervals of the gains.
    rng : numpy.random.Generator, int or None
        Of the bootstrap.

    Returns
    -------
    RecoveringReport

    Raises
    ------
    TypeError, ValueError
        If the table is neither, or an option is out of range.

    References
    ----------
    Simchi-Levi, Zheng, Zhu (ICML 2021), arXiv 2106.14813.
    """
    slots = as_int(K, "K", low=1)
    as_choice(monotone, "monotone", ("check", "envelope", "isotonic"))
    if table is None:
        raise TypeError("table must hold curves or a log, got None")
    is_log = isinstance(table, pd.DataFrame) and {arm, time, reward} <= set(map(str, table.columns))
    if not is_log:
        names = None
        if isinstance(table, pd.DataFrame):
            text = [c for c in table.columns if table[c].dtype.kind not in "iufb"]
            if text:
                names = table[text[0]].astype(str).tolist()
                table = table.drop(columns=text)
            if table.shape[1] == 0:
                raise ValueError(
                    f"table must hold curves, or a log with columns {arm!r}, {time!r}, {reward!r}"
                )
        plan = plan_recovering(
            table, slots, local_search=local_search, monotone=monotone, names=names
        )
        return RecoveringReport(plan, plan.certificates, _gains(plan, None))
    fit = fit_recovery(table, arm=arm, time=time, reward=reward, D=D, unit=unit)
    plan = plan_recovering(fit.curves, slots, local_search=local_search, names=fit.arms)
    told = tuple(
        replace(c, conditions=(*fit.assumptions, *c.assumptions[1:]))
        if c.name != "timetable"
        else c
        for c in plan.certificates
    )
    draws = _resample(fit, plan, as_int(resamples, "resamples", low=2), np.random.default_rng(rng))
    return RecoveringReport(replace(plan, certificates=told), told, _gains(plan, draws), fit)


def _resample(
    fit: RecoveryCurves, plan: RecoveringPlan, resamples: int, random: np.random.Generator
) -> np.ndarray:
    """Gains of the plan over static and myopic when units are drawn anew, the plan as it is."""
    from sklearn.isotonic import isotonic_regression

    D = fit.curves.shape[1]
    units, codes = np.unique(fit.table["unit"].to_numpy(), return_inverse=True)
    arm = np.searchsorted(fit.arms, fit.table["arm"].to_numpy())
    cell = arm * D + fit.table["gap"].to_numpy() - 1
    value, size = fit.table["value"].to_numpy(dtype=float), len(fit.arms) * D
    static = np.zeros(len(fit.arms), dtype=np.int64)
    static[np.argsort(-fit.curves[:, 0], kind="stable")[: plan.K]] = 1
    found = []
    for _ in track(range(resamples), "bootstrap"):
        weight = np.bincount(random.integers(len(units), size=len(units)), minlength=len(units))[
            codes
        ].astype(float)
        if len(units) == len(fit.arms):  # every arm is its own unit: events are drawn
            weight = random.multinomial(len(value), np.full(len(value), 1 / len(value))).astype(
                float
            )
        n = np.bincount(cell, weight, size).reshape(-1, D)
        mean = np.where(
            n > 0,
            np.bincount(cell, weight * value, size).reshape(-1, D) / np.maximum(n, 1e-12),
            fit.raw,
        )
        curves = np.stack(
            [
                np.asarray(isotonic_regression(m, sample_weight=w + 1e-9))
                for m, w in zip(mean, n, strict=True)
            ]
        )
        curves = np.maximum(curves, 0.0)
        ours = rate_of(curves, plan.period)
        found.append((ours - rate_of(curves, static), ours - _myopic(curves, plan.K)))
    return np.array(found)


def _myopic(curves: np.ndarray, K: int) -> float:
    from whp.bandits.recovering_bandits.plan import myopic_rate

    return myopic_rate(curves, K, 300)


def _gains(plan: RecoveringPlan, draws: np.ndarray | None) -> pd.DataFrame:
    rows = [{"policy": "plan", "reward": plan.value, "gain": 0.0, "low": np.nan, "high": np.nan}]
    for number, (name, value) in enumerate((("static", plan.static), ("myopic", plan.myopic))):
        low, high = (
            (np.nan, np.nan) if draws is None else np.quantile(draws[:, number], (0.025, 0.975))
        )
        rows.append(
            {
                "policy": name,
                "reward": value,
                "gain": plan.value - value,
                "low": float(low),
                "high": float(high),
            }
        )
    return pd.DataFrame(rows)
