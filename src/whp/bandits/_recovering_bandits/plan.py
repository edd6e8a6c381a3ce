"""The offline planner's front: a timetable, its exact value, how much any policy could earn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from whp.bandits._recovering_bandits import theorems as t
from whp.bandits._recovering_bandits.curves import (
    ROUNDING,
    as_curves,
    fallen,
    falls,
    myopic_rate,
    named_curves,
    rate_of,
    static_arms,
)
from whp.bandits._recovering_bandits.packing import pack, rows
from whp.bandits._recovering_bandits.planning import search
from whp.bandits._recovering_bandits.rates import Relaxation, a_priori_ratio, relax, segments
from whp.certificate import Answer, Certificate
from whp.door import AtLeast, Fraction, front_door
from whp.result import PALETTE, Result
from whp.validate import as_int

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["RecoveringPlan", "Timetable", "best_timetable", "plan_recovering", "upper_bound"]

DRAWN = 40  # arms in the picture


def upper_bound(curves: Any, K: int) -> float:
    """UB: what no policy can earn more of, a period in the long run.

    Over T periods no policy earns more than T·UB from arms just pulled.

    Parameters
    ----------
    curves : array_like, shape (N, D)
        See :func:`plan_recovering`; they may fall.
    K : int
        Pulls a period.
    """
    R = as_curves(curves)
    return bounded(R, as_int(K, "K", low=1)).value


def bounded(R: Float[np.ndarray, "N D"], K: int) -> Relaxation:
    """The linear program over all periods up to D."""
    return relax(segments(R, range(1, R.shape[1] + 1)), K)


@dataclass(frozen=True, eq=False)
class Timetable:
    """Periods that pack, with their slots, and the linear program that they were rounded from."""

    period: Int[np.ndarray, " N"]
    offset: Int[np.ndarray, " N"]
    channel: Int[np.ndarray, " N"]
    value: float
    bound: Relaxation

    @property
    def ratio(self) -> float:
        """Value over upper bound."""
        return self.value / self.bound.value if self.bound.value > 0 else 1.0


def best_timetable(
    R: Float[np.ndarray, "N D"], K: int, periods: Any = "auto", local_search: bool = True
) -> Timetable:
    """The planner without its certificates."""
    bound = bounded(R, K)
    period = search(R, K, periods, local_search, bound.price)
    placed = pack(period, K)
    assert placed is not None
    return Timetable(period, *placed, rate_of(R, period), bound)


@dataclass(frozen=True, eq=False)
class RecoveringPlan(Result):
    """A timetable: arm i every `period[i]` periods, first at `offset[i]`.

    Attributes
    ----------
    period, offset, channel : ndarray, shape (N,), int
        0, 0, −1 for an arm that is never pulled.
    K : int
        Pulls a period, at most.
    value : float
        Exact reward a period in the long run, on `curves`.
    upper_bound : float
        No policy earns more on `curves`.
    gamma : float
        The share of it that was certain beforehand.
    static : float
        Reward a period of always the same K arms.
    price : float
        What one more slot a period is worth.
    fractional_arm : int
        The one arm to which the linear program gives no whole period; −1 if there is none.
    certificates : tuple of Certificate
        ``loss``, ``share-of-the-optimum``, ``timetable``; after a log ``long-run-loss`` as well.
    curves : ndarray, shape (N, D)
        What was planned on.
    names : tuple of str
        Of the arms; their numbers where none were given.
    """

    period: np.ndarray
    offset: np.ndarray
    channel: np.ndarray
    K: int
    value: float
    upper_bound: float
    gamma: float
    static: float
    price: float
    fractional_arm: int
    certificates: tuple[Certificate, ...]
    curves: np.ndarray = field(repr=False)
    names: tuple[str, ...] = field(repr=False)

    @cached_property
    def myopic(self) -> float:
        """Reward a period of the K arms that pay most now, played out."""
        return myopic_rate(self.curves, self.K)

    def lookahead(self, periods: int) -> float:
        """Reward a period of planning so many periods ahead in each, played out; 1 is myopic."""
        ahead = as_int(periods, "periods", low=1, high=6)
        return myopic_rate(self.curves, self.K, 500, lookahead=ahead)

    @property
    def ratio(self) -> float:
        """Value over upper bound."""
        return self.value / self.upper_bound if self.upper_bound > 0 else 1.0

    def table(self, T: int) -> list[Int[np.ndarray, " k"]]:
        """Arms of each of the first T periods."""
        size = as_int(T, "T", low=1)
        who, begins = rows(self.period, self.offset, size)
        return np.split(who, begins[1:-1])

    def filled(self, T: int) -> list[Int[np.ndarray, " k"]]:
        """The first T periods with arms in the empty slots, too, wherever one gains by it.

        Pulled a periods after its last pull and b before its next, an arm gains R(a) + R(b) − R(a + b).
        What comes out is no longer periodic; see :meth:`played` for what it earns.
        """
        from whp.bandits._recovering_bandits.filling import fill

        return fill(self.curves, self.period, self.offset, self.table(T), self.K)

    def played(self, table: Sequence[Any]) -> float:
        """Reward a period of a timetable, all arms just pulled before it begins."""
        last, total, D = np.full(len(self.period), -1), 0.0, self.curves.shape[1]
        for when, arms in enumerate(table):
            chosen = np.asarray(arms, dtype=np.int64)
            total += float(self.curves[chosen, np.minimum(when - last[chosen], D) - 1].sum())
            last[chosen] = when
        return total / len(table)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Reward, and what it is compared with."""
        return {
            "arms": len(self.period),
            "pulls_a_period": self.K,
            "arms_scheduled": int((self.period > 0).sum()),
            "reward_a_period": self.value,
            "no_policy_above": self.upper_bound,
            "share_of_that": self.ratio,
            "always_the_same_arms": self.static,
            "those_that_pay_most_now": self.myopic,
            "worth_of_one_more_slot": self.price,
        }

    @property
    def schedule(self) -> pd.DataFrame:
        """One row an arm: how often, when first, in which slot, and what a pull pays."""
        import pandas as pd

        d = np.minimum(self.period, self.curves.shape[1])
        paid = np.where(d > 0, self.curves[np.arange(len(d)), d - 1], np.nan)
        return pd.DataFrame(
            {
                "arm": self.names,
                "period": self.period,
                "offset": self.offset,
                "channel": self.channel,
                "reward": paid,
            }
        )

    def artifacts(self) -> dict[str, Any]:
        """The timetable, and its first hundred periods."""
        import pandas as pd

        made = [(t, self.names[i]) for t, arms in enumerate(self.table(100)) for i in arms]
        return {
            "plan.csv": self.schedule,
            "timetable.csv": pd.DataFrame(made, columns=["period", "arm"]),
        }

    def to_ics(self, start: str, T: int, days: int = 1) -> str:
        """An iCalendar of the first T periods.

        Parameters
        ----------
        start : str
            Date of the first period, ``"2026-01-31"``.
        T : int
        days : int
            Length of a period.
        """
        from datetime import date, timedelta

        first = date.fromisoformat(start)
        lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//whp//recovering-bandits//EN"]
        for when, arms in enumerate(self.table(T)):
            day = (first + timedelta(days=when * days)).strftime("%Y%m%d")
            for i in arms:
                text = "".join(c for c in self.names[i] if c.isprintable())
                for mark in "\\;,":
                    text = text.replace(mark, "\\" + mark)
                lines += [
                    "BEGIN:VEVENT",
                    f"UID:{when}-{i}@whp",
                    f"DTSTART;VALUE=DATE:{day}",
                    f"SUMMARY:{text}",
                    "END:VEVENT",
                ]
        return "\r\n".join([*lines, "END:VCALENDAR", ""])

    def draw(self, ax: Axes) -> None:
        """The timetable of the first periods: a row an arm, a mark a pull."""
        used = np.flatnonzero(self.period)
        used = used[np.argsort(self.period[used], kind="stable")][:DRAWN]
        T = int(min(60, 3 * max(self.period[used].max(), 4))) if len(used) else 10
        for row, i in enumerate(used):
            when = np.arange(int(self.offset[i]), T, int(self.period[i]))
            ax.plot(when, np.full(len(when), row), "s", markersize=4, color=PALETTE["ours"])
        ax.set_yticks(
            range(len(used)),
            [f"{self.names[i]} (every {self.period[i]})" for i in used],
            fontsize="x-small",
        )
        ax.invert_yaxis()
        ax.set(xlabel="period", title=f"{100 * self.ratio:.1f} % of what any policy could earn")


@front_door
def plan_recovering(
    curves: Any,
    K: Annotated[int, AtLeast(1)],
    *,
    periods: Any = "auto",
    local_search: bool = True,
    monotone: Literal["check", "envelope", "isotonic"] = "check",
    tol: Annotated[float, AtLeast(0)] = ROUNDING,
    at_least: Annotated[float, Fraction()] | None = None,
    names: Any = None,
) -> RecoveringPlan:
    """A timetable for arms that tire and recover, with a bound on what any policy could earn.

    Parameters
    ----------
    curves : array_like, shape (N, D), or sequence of rows
        ``curves[i, d − 1]``: what arm i pays when it is pulled d periods after its last pull;
        constant beyond D. Not negative.
    K : int
        Pulls a period.
    periods : {"auto", "pow2"}, int, or sequence of int
        Which periods an arm may have: all sets that are worth trying, powers of two, S_m for an m,
        or these.
    local_search : bool
        Improve candidates by changing single periods, then pairs, for the 80 arms closest to the
        price; where there are at most 50,000 timetables of periods up to D, look at all.
    monotone : {"check", "envelope", "isotonic"}
        What to do with a curve that falls: refuse it, since most such curves are noise or are in
        another order; bound it by its running maximum and value the timetable on the curve as it
        is; or plan on a rising fit, about which certificates say nothing: they are void.
    tol : float
        Fall that is not refused, as a share of the largest reward.
    at_least : float, optional
        Share of any policy's reward that is demanded; by default halfway from what always the same
        arms earn to the upper bound.
    names : sequence of str, optional
        Of the arms; those of a data frame are in its first column or its index.

    Returns
    -------
    RecoveringPlan

    Raises
    ------
    TypeError, ValueError
        If curves or options are not as described; a fall is named with arm and gap.

    Examples
    --------
    >>> curves = [[0.2, 0.6, 0.9, 1.0], [0.5, 0.6, 0.65, 0.65], [0.0, 0.0, 1.2, 1.2]]
    >>> plan = plan_recovering(curves, K=1)
    >>> plan.period.tolist(), round(plan.ratio, 6)
    ([3, 3, 3], 1.0)
    """
    R, own = named_curves(curves)
    names = own if names is None else names
    called = tuple(map(str, range(len(R)) if names is None else names))
    if len(called) != len(R):
        raise ValueError(f"names must have {len(R)} entries, one an arm, got {len(called)}")
    if monotone == "check" and (fall := falls(R, tol)) is not None:
        raise ValueError(
            f"curves must not fall: {fallen(R, fall, called if names is not None else ())}; means "
            "of a log are fitted from the log; monotone='envelope' plans on them as they are"
        )
    given, bound = R, R
    fall = falls(R)
    if fall is not None and monotone == "isotonic":
        R = bound = rising(R)
    elif fall is not None and monotone == "envelope":
        bound = np.maximum.accumulate(R, axis=1)
    moved = float(np.abs(R - given).max())
    answers = {
        t.AS_GIVEN: t.AS_GIVEN.check(
            moved == 0,
            f"planned on a rising fit, up to {moved:.4g} from them" if moved else "entry by entry",
        ),
        t.RISING: t.RISING.check(
            fall is None,
            f"all {len(R)} were looked at" if fall is None else fallen(given, fall, called),
        ),
        t.STATE: t.STATE.unchecked(f"curves of {R.shape[1]} gaps cannot show it"),
    }
    found = best_timetable(R, K, periods, local_search)
    upper = found.bound.value if bound is R else bounded(bound, K).value
    return assembled(R, K, found, upper, called, answers, at_least)


def rising(
    R: Float[np.ndarray, "N D"], weight: Float[np.ndarray, "N D"] | None = None
) -> Float[np.ndarray, "N D"]:
    """The nearest curves that do not fall, by weighted least squares."""
    from sklearn.isotonic import isotonic_regression

    weights = np.ones_like(R) if weight is None else weight
    fits = [isotonic_regression(r, sample_weight=w) for r, w in zip(R, weights, strict=True)]
    return np.stack([np.asarray(f) for f in fits])


def assembled(
    R: Float[np.ndarray, "N D"],
    K: int,
    found: Timetable,
    upper: float,
    names: tuple[str, ...],
    answers: dict[t.Condition, Answer],
    at_least: float | None,
    *,
    fitted: bool = False,
) -> RecoveringPlan:
    """The plan and its certificates; `answers` are by condition, those that a theorem rests on."""
    static = float(R[static_arms(R, K), 0].sum())
    played = t.Played(found.value, upper, static, K, *R.shape)
    gamma = a_priori_ratio(K)

    def of(theorem: t.Theorem) -> list[Answer]:
        return [answers[c] for c in theorem.conditions]

    stated = [t.loss(played, of(t.FITTED_LOSS if fitted else t.LOSS), at_least, fitted=fitted)]
    if not fitted:
        stated.append(t.share(played, gamma, of(t.SHARE)))
    reward, pulls = play_out(R, found.period, found.offset, found.channel)
    given = [] if fitted else of(t.TIMETABLE)
    stated.append(t.timetable(found.value, reward, pulls, K, given, fitted=fitted))
    return RecoveringPlan(
        found.period,
        found.offset,
        found.channel,
        K,
        found.value,
        upper,
        gamma,
        static,
        found.bound.price,
        found.bound.fractional,
        tuple(stated),
        R,
        names,
    )


def play_out(
    R: Float[np.ndarray, "N D"],
    period: Int[np.ndarray, " N"],
    offset: Int[np.ndarray, " N"],
    channel: Int[np.ndarray, " N"],
) -> tuple[float, int]:
    """Reward a period of the timetable, each arm played, and the most pulls in one period.

    An arm repeats after its own period, so that two of them pay the same as all; two arms of a slot
    meet if their offsets agree modulo the greatest common divisor of their periods.
    """
    reward, most, D = 0.0, 0, R.shape[1]
    for slot in np.unique(channel[period > 0]):
        arms = np.flatnonzero((channel == slot) & (period > 0))
        p, o = period[arms], offset[arms]
        meet = np.subtract.outer(o, o) % np.gcd.outer(p, p) == 0
        most += int(meet.sum(axis=0).max())
        for i in arms:
            when = np.arange(offset[i], offset[i] + 3 * period[i], period[i])
            gaps = np.minimum(np.diff(when), D)
            reward += float(R[i, gaps - 1].sum()) / float(when[-1] - when[0])
    return reward, most
