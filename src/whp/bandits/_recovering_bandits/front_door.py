"""The front door: curves or a log in, a timetable with its gains out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.bandits._recovering_bandits import theorems as th
from whp.bandits._recovering_bandits.curves import (
    ROUNDING,
    myopic_rate,
    named_curves,
    rate_of,
    static_arms,
)
from whp.bandits._recovering_bandits.log import RecoveryCurves, fit_recovery
from whp.bandits._recovering_bandits.plan import (
    RecoveringPlan,
    assembled,
    best_timetable,
    bounded,
    plan_recovering,
    rising,
)
from whp.certificate import Certificate, Verdict
from whp.door import AtLeast, Between, Fraction, front_door
from whp.io import Data
from whp.progress import track
from whp.result import Result
from whp.text import nearest
from whp.validate import as_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RecoveringReport", "recovering_bandits"]

MYOPIC = 300  # periods of the myopic policy in each resample


@dataclass(frozen=True, eq=False)
class RecoveringReport(Result):
    """A plan for curves that were given, or fitted to a log.

    Attributes
    ----------
    plan : RecoveringPlan
        The timetable.
    gain : DataFrame
        Reward a period of the plan, of always the same arms and of those that pay most now, with 95 %
        bootstrap intervals of the differences where there is a log. The plan is held fixed, and
        intervals do not know that the same log chose it: where arms hardly differ, they lie too high.
    fit : RecoveryCurves or None
        The curves out of a log.
    earns_at_least : float or None
        What the timetable earns in the long run on the true curves, with probability 1 − delta; None
        where ``long-run-loss`` is void.
    """

    plan: RecoveringPlan
    certificates: tuple[Certificate, ...]
    gain: pd.DataFrame
    fit: RecoveryCurves | None = field(repr=False, default=None)
    earns_at_least: float | None = None

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """That of the plan, and of a log what the rising fit changed and sampling leaves open."""
        made = self.plan.summary()
        if self.fit is None:
            return made
        made |= {
            "events": int(self.fit.counts.sum()),
            "changed_by_the_rising_fit": self.fit.correction,
            "earns_at_least_whatever_the_sample": "not known"
            if self.earns_at_least is None
            else self.earns_at_least,
        }
        for row in self.gain.itertuples():
            if row.policy != "plan":
                made[f"gain_over_{row.policy}"] = f"{row.gain:.4g} [{row.low:.4g}, {row.high:.4g}]"
        return made

    def artifacts(self) -> dict[str, Any]:
        """The timetable, the gains and, of a log, the curves."""
        extra = {}
        if self.fit is not None:
            n, D = self.fit.curves.shape
            extra["curves.csv"] = pd.DataFrame(
                {
                    "arm": np.repeat(self.fit.arms, D),
                    "gap": np.tile(np.arange(1, D + 1), n),
                    "events": self.fit.counts.ravel(),
                    "mean": self.fit.raw.ravel(),
                    "fitted": self.fit.curves.ravel(),
                }
            )
        return {**self.plan.artifacts(), "gain.csv": self.gain, **extra}

    def draw(self, ax: Axes) -> None:
        """The timetable."""
        self.plan.draw(ax)


@front_door
def recovering_bandits(
    table: Annotated[Any, Data("table")],
    K: Annotated[int, AtLeast(1)] = 1,
    *,
    arm: str | None = None,
    time: str | None = None,
    reward: str | None = None,
    unit: str | None = None,
    every: Literal["day", "week", "month"] | None = None,
    D: Annotated[int, AtLeast(1)] | None = None,
    monotone: Literal["check", "envelope", "isotonic"] = "check",
    tol: Annotated[float, AtLeast(0)] = ROUNDING,
    at_least: Annotated[float, Fraction()] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    local_search: bool = True,
    resamples: Annotated[int, Between(2, 1_000_000)] = 100,
    rng: np.random.Generator | int | None = None,
) -> RecoveringReport:
    """Plan pulls of arms that tire and recover: from their curves, or from a log of events.

    Parameters
    ----------
    table : DataFrame or array_like
        Curves, an arm a row, columns 1, 2, …: what it pays so many periods after its last pull; a
        first column of another name holds the arms' names. Or a log, an event a row, with the
        columns named by arm, time and reward.
    K : int
        Pulls a period.
    arm, time, reward : str, optional
        Columns of a log, "arm", "time" and "reward" if not given; time in whole periods, as ISO weeks
        (2017-W05), or as dates with `every`.
    unit : str, optional
        Column of what recurs within an arm, e.g. products of a category; see :func:`fit_recovery`.
    every : {"day", "week", "month"}, optional
        How long a period is, where time is given as dates.
    D : int, optional
        Longest gap of a log that has a mean of its own; longer ones are taken to pay the same.
    monotone : {"check", "envelope", "isotonic"}
        What to do with given curves that fall; see :func:`plan_recovering`.
    tol : float
        Fall of given curves that is not refused, as a share of the largest reward.
    at_least : float, optional
        Share of any policy's reward that is demanded; by default halfway from what always the same
        arms earn to the upper bound.
    delta : float
        Probability with which limits of the means of a log may be wrong anywhere.
    local_search : bool
        Improve candidates, or look at all timetables where they are few.
    resamples : int
        Bootstrap resamples of units, for intervals of the gains.
    rng : numpy.random.Generator, int or None
        Source of randomness of the bootstrap.

    Returns
    -------
    RecoveringReport

    Raises
    ------
    TypeError, ValueError
        If the table is neither, or an option is out of range or of the other kind of table.

    References
    ----------
    Simchi-Levi, Zheng, Zhu (ICML 2021), arXiv 2106.14813.
    """
    if table is None:
        raise TypeError("table must hold curves or a log, got None")
    table = as_frame(table)
    columns = {"arm": arm, "time": time, "reward": reward}
    wanted = {name: column or name for name, column in columns.items()}
    if _is_log(table, columns, unit, wanted):
        if (monotone, tol) != ("check", ROUNDING):
            raise ValueError("monotone and tol must go with curves; those of a log are fitted")
        fit = fit_recovery(
            table,
            arm=wanted["arm"],
            time=wanted["time"],
            reward=wanted["reward"],
            unit=unit,
            every=every,
            D=D,
        )
        return _from_log(
            fit, K, at_least, delta, local_search, resamples, np.random.default_rng(rng)
        )
    for name, value in {"every": every, "D": D}.items():
        if value is not None:
            raise ValueError(f"{name} must go with a log, and this table holds curves")
    curves, names = named_curves(table, "table")
    plan = plan_recovering(
        curves,
        K,
        local_search=local_search,
        monotone=monotone,
        tol=tol,
        at_least=at_least,
        names=names,
    )
    return RecoveringReport(plan, plan.certificates, _gains(plan, None))


def _is_log(
    table: Any, columns: dict[str, str | None], unit: str | None, wanted: dict[str, str]
) -> bool:
    """Whether it is a log. If any column of one is named, all must exist."""
    named = any(columns.values()) or unit is not None
    if not isinstance(table, pd.DataFrame):
        if named:
            raise TypeError(f"table must have names of columns, got {type(table).__name__}")
        return False
    have = [str(c) for c in table.columns]
    missing = [c for c in wanted.values() if c not in have]
    if not named or not missing:
        return not missing
    hint = nearest(missing[0], have) or f"; it has {', '.join(have[:10])}"
    raise ValueError(
        f"table has no column {missing[0]!r}{hint} (arm, time and reward name the columns of a log; "
        "all three must exist)"
    )


def _from_log(
    fit: RecoveryCurves,
    K: int,
    at_least: float | None,
    delta: float,
    local_search: bool,
    resamples: int,
    random: np.random.Generator,
) -> RecoveringReport:
    found = best_timetable(fit.curves, K, local_search=local_search)
    # What is below zero was fitted as zero: an arm that is not expected to pay is not pulled.
    at = np.minimum(np.maximum(found.period, 1), fit.curves.shape[1]) - 1
    pays = (found.period > 0) & (fit.curves[np.arange(len(at)), at] > 0)
    period, offset = np.where(pays, found.period, 0), np.where(pays, found.offset, 0)
    found = replace(found, period=period, offset=offset, channel=np.where(pays, found.channel, -1))
    plan = assembled(
        fit.curves, K, found, found.bound.value, fit.arms, fit.answers, at_least, fitted=True
    )
    low, high = fit.limits(delta)
    played = th.Played(plan.value, plan.upper_bound, plan.static, K, *fit.curves.shape)
    lowest = rate_of(low, plan.period)
    # Of all curves within the limits those are worst that pay least where the timetable pulls and
    # most elsewhere (docs: from-a-log). What has no limit could pay anything.
    used = np.flatnonzero((plan.period > 0) & (plan.period <= high.shape[1]))
    worst = high.copy()
    worst[used, plan.period[used] - 1] = low[used, plan.period[used] - 1]
    highest = bounded(worst, K).value if np.isfinite(worst).all() else np.inf
    # Rewards that were never negative have means that are not.
    lowest = max(lowest, 0.0) if float(fit.table["reward"].min()) >= 0 else lowest
    theorem = th.LONG_RUN_LOSS if fit.values is None else th.BINARY
    certificate = th.long_run_loss(
        lowest,
        highest,
        played,
        delta,
        [fit.answers[c] for c in theorem.conditions],
        at_least,
        binary=fit.values is not None,
    )
    stated = (plan.certificates[0], certificate, *plan.certificates[1:])
    draws = _resample(fit, plan, resamples, random)
    plan = replace(plan, certificates=stated)
    earns = None if certificate.verdict is Verdict.VOID else lowest
    return RecoveringReport(plan, stated, _gains(plan, draws), fit, earns)


def _resample(
    fit: RecoveryCurves, plan: RecoveringPlan, resamples: int, random: np.random.Generator
) -> np.ndarray:
    """Gains of the plan over static and myopic when units are drawn anew, the plan as it is."""
    D = fit.curves.shape[1]
    units, codes = np.unique(fit.table["unit"].to_numpy(), return_inverse=True)
    of_events = bool((fit.table["unit"] == fit.table["arm"]).all())  # every arm is its own unit
    arm = pd.Index(fit.arms).get_indexer(fit.table["arm"])
    cell = arm * D + fit.table["gap"].to_numpy() - 1
    value, size = fit.table["value"].to_numpy(dtype=float), len(fit.arms) * D
    static = np.zeros(len(fit.arms), dtype=np.int64)
    static[static_arms(fit.curves, plan.K)] = 1
    gains = []
    for _ in track(range(resamples), "bootstrap"):
        if of_events:
            drawn = random.multinomial(len(value), np.full(len(value), 1 / len(value)))
        else:
            chosen = random.integers(len(units), size=len(units))
            drawn = np.bincount(chosen, minlength=len(units))[codes]
        weight = drawn.astype(float)
        n = np.bincount(cell, weight, size).reshape(-1, D)
        sums = np.bincount(cell, weight * value, size).reshape(-1, D)
        mean = np.where(n > 0, sums / np.maximum(n, 1e-12), fit.raw)
        curves = np.maximum(rising(mean, n + 1e-9), 0.0)
        ours = rate_of(curves, plan.period)
        now = myopic_rate(curves, plan.K, MYOPIC)
        gains.append((ours - rate_of(curves, static), ours - now))
    return np.array(gains)


def _gains(plan: RecoveringPlan, draws: np.ndarray | None) -> pd.DataFrame:
    rows = [{"policy": "plan", "reward": plan.value, "gain": 0.0, "low": np.nan, "high": np.nan}]
    for number, (name, value) in enumerate((("static", plan.static), ("myopic", plan.myopic))):
        ends = (np.nan, np.nan)
        if draws is not None:
            ends = tuple(np.quantile(draws[:, number], (0.025, 0.975)))
        rows.append(
            {
                "policy": name,
                "reward": value,
                "gain": plan.value - value,
                "low": float(ends[0]),
                "high": float(ends[1]),
            }
        )
    return pd.DataFrame(rows)
