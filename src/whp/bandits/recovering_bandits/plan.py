"""The offline planner: a timetable, its exact value, and how much any policy could earn at most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int

from whp.bandits.recovering_bandits.guarantee import plan_certificates
from whp.bandits.recovering_bandits.packing import pack, rows
from whp.bandits.recovering_bandits.rates import (
    Segments,
    a_priori_ratio,
    chains,
    period_set,
    relax,
    segments,
)
from whp.certificate import Certificate
from whp.result import Result
from whp.validate import as_choice, as_floats, as_frame, as_int, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RecoveringPlan", "as_curves", "plan_recovering", "rate_of", "upper_bound"]

SEARCHED = 80  # arms that local search looks at
PAIRS = 200_000  # pairs of changes that it tries
STEPS = 25  # of the bisection of the capacity
LARGE = 100_000  # curve entries beyond which fewer period sets are tried


def as_curves(curves: Any, name: str = "curves") -> Float[np.ndarray, "N D"]:
    """Recovery curves as a matrix, those of unequal length padded with their last value."""
    if curves is None:
        raise TypeError(f"{name} must be an array of numbers, got None")
    curves = as_frame(curves)
    if hasattr(curves, "to_numpy"):
        curves = curves.to_numpy()
    if np.ma.isMaskedArray(curves):
        curves = as_floats(curves, name)
    if isinstance(curves, str | bytes) or not np.iterable(curves):
        raise TypeError(f"{name} must hold real numbers, an arm a row, got {type(curves).__name__}")
    rows = [np.atleast_1d(as_floats(row, name)) for row in curves]
    if not rows or any(r.ndim != 1 or len(r) == 0 for r in rows):
        raise ValueError(f"{name} must have at least one arm, and each arm at least one gap")
    D = max(map(len, rows))
    R = np.stack([np.concatenate([r, np.full(D - len(r), r[-1])]) for r in rows])
    if not np.isfinite(R).all() or (R < 0).any():
        i, d = np.argwhere(~np.isfinite(R) | (R < 0))[0]
        raise ValueError(
            f"{name} must be finite and not negative, arm {i} has {R[i, d]:g} at d = {d + 1}"
        )
    return R


def falls(R: Float[np.ndarray, "N D"], tol: float) -> tuple[int, int] | None:
    """Arm and gap of the first fall beyond tolerance."""
    drop = -np.diff(R, axis=1) > tol * max(float(R.max()), 1e-300)
    if not drop.any():
        return None
    i, d = np.argwhere(drop)[0]
    return int(i), int(d) + 2


def rate_of(R: Float[np.ndarray, "N D"], period: Int[np.ndarray, " N"]) -> float:
    """Σ R_i(d_i)/d_i over the arms that are scheduled: the long-run reward a period of a timetable."""
    used = np.flatnonzero(period)
    d = period[used]
    return float((R[used, np.minimum(d, R.shape[1]) - 1] / d).sum())


def upper_bound(curves: Any, K: int) -> float:
    """UB: what no policy can earn more of, a period in the long run (or over T periods from arms just pulled).

    Parameters
    ----------
    curves : array_like, shape (N, D)
        Non-decreasing in the gap; see :func:`plan_recovering`.
    K : int
        Pulls a period.
    """
    R = as_curves(curves)
    return relax(
        segments(np.maximum.accumulate(R, axis=1), range(1, R.shape[1] + 1)), as_int(K, "K", low=1)
    ).value


@dataclass(frozen=True, eq=False)
class RecoveringPlan(Result):
    """A timetable: arm i every `period[i]` periods, first at `offset[i]`.

    Attributes
    ----------
    period, offset, channel : ndarray, shape (N,), int
        0, 0, −1 for an arm that is never pulled.
    value : float
        Exact reward a period in the long run.
    upper_bound : float
        No policy earns more.
    ratio, gamma : float
        value over upper_bound; the share that was certain beforehand.
    static : float
        Reward a period of always the same K arms.
    price : float
        What one more slot a period is worth.
    certificates : tuple of Certificate
        ``share-of-the-optimum``, ``loss``, ``timetable``.
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
    curves: np.ndarray = field(repr=False, default_factory=lambda: np.zeros((0, 0)))
    names: tuple[str, ...] = field(repr=False, default=())

    @cached_property
    def myopic(self) -> float:
        """Reward a period of the K arms that pay most now, played out."""
        return myopic_rate(self.curves, self.K)

    @property
    def ratio(self) -> float:
        """Value over upper bound."""
        return self.value / self.upper_bound if self.upper_bound > 0 else 1.0

    def table(self, T: int) -> list[Int[np.ndarray, " k"]]:
        """Arms of each of the first T periods."""
        size = as_int(T, "T", low=1)
        who, begins = rows(self.period, self.offset, size)
        return np.split(who, begins[1:-1])

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

    def artifacts(self) -> dict[str, Any]:
        """The timetable, and its first hundred periods."""
        import pandas as pd

        names = self.names or tuple(map(str, range(len(self.period))))
        plan = pd.DataFrame(
            {"arm": names, "period": self.period, "offset": self.offset, "channel": self.channel}
        )
        rows = [(t, names[i]) for t, arms in enumerate(self.table(100)) for i in arms]
        return {"plan.csv": plan, "timetable.csv": pd.DataFrame(rows, columns=["period", "arm"])}

    def to_ics(self, start: str, T: int, days: int = 1) -> str:
        """An iCalendar of the first T periods, each so many days long, from a date ``"2026-01-31"`` on."""
        from datetime import date, timedelta

        first, names = (
            date.fromisoformat(start),
            self.names or tuple(map(str, range(len(self.period)))),
        )
        lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//whp//recovering-bandits//EN"]
        for t, arms in enumerate(self.table(T)):
            day = (first + timedelta(days=t * days)).strftime("%Y%m%d")
            for i in arms:
                text = (
                    "".join(c for c in names[i] if c.isprintable())
                    .replace("\\", "\\\\")
                    .replace(";", "\\;")
                    .replace(",", "\\,")
                )
                lines += [
                    "BEGIN:VEVENT",
                    f"UID:{t}-{i}@whp",
                    f"DTSTART;VALUE=DATE:{day}",
                    f"SUMMARY:{text}",
                    "END:VEVENT",
                ]
        return "\r\n".join([*lines, "END:VCALENDAR", ""])

    def plot(self, ax: Axes | None = None) -> Axes:
        """The timetable of the first periods: a row an arm, a mark a pull."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        used = np.flatnonzero(self.period)
        used = used[np.argsort(self.period[used], kind="stable")][:40]
        T = int(min(60, 3 * max(self.period[used].max(), 4))) if len(used) else 10
        names = self.names or tuple(map(str, range(len(self.period))))
        for row, i in enumerate(used):
            when = np.arange(int(self.offset[i]), T, int(self.period[i]))
            ax.plot(when, np.full(len(when), row), "s", markersize=4)
        ax.set_yticks(
            range(len(used)),
            [f"{names[i]} (every {self.period[i]})" for i in used],
            fontsize="x-small",
        )
        ax.invert_yaxis()
        ax.set(xlabel="period", title=f"{100 * self.ratio:.1f} % of what any policy could earn")
        return ax


def plan_recovering(
    curves: Any,
    K: int,
    *,
    periods: Literal["auto", "pow2"] | int | Sequence[int] = "auto",
    local_search: bool = True,
    monotone: Literal["check", "envelope", "isotonic"] = "check",
    tol: float = 1e-9,
    names: Sequence[str] | None = None,
) -> RecoveringPlan:
    """A timetable for arms that tire and recover, with a bound on what any policy could earn.

    Parameters
    ----------
    curves : array_like, shape (N, D), or sequence of rows
        ``curves[i, d − 1]``: what arm i pays when it is pulled d periods after its last pull; constant beyond D. Non-negative.
    K : int
        Pulls a period.
    periods : {"auto", "pow2"}, int, or sequence of int
        Which periods an arm may have: all sets that are worth trying, powers of two, S_m for an m, or these.
    local_search : bool
        Change single periods, then pairs, while that helps; for the 80 arms closest to the price.
    monotone : {"check", "envelope", "isotonic"}
        What to do with a curve that falls: refuse it; bound with its running maximum and value the timetable on the curve as it
        is, which makes the certificates void; or fit a rising curve first.
    tol : float
        Fall that is taken for rounding, as a share of the largest reward.
    names : sequence of str, optional
        Of the arms.

    Returns
    -------
    RecoveringPlan

    Raises
    ------
    TypeError, ValueError
        If curves or options are not as described; a fall is named with arm and gap.

    Examples
    --------
    >>> plan = plan_recovering([[0.2, 0.6, 0.9, 1.0], [0.5, 0.6, 0.65, 0.65], [0.0, 0.0, 1.2, 1.2]], K=1)
    >>> plan.period.tolist(), round(plan.ratio, 6)
    ([3, 3, 3], 1.0)
    """
    R = as_curves(curves)
    slots = as_int(K, "K", low=1)
    as_choice(monotone, "monotone", ("check", "envelope", "isotonic"))
    fall = falls(R, as_real(tol, "tol", low=0))
    rising = R
    if fall is not None:
        i, d = fall
        if monotone == "check":
            raise ValueError(
                f"curves must not fall: arm {i} pays {R[i, d - 2]:g} at d = {d - 1} and {R[i, d - 1]:g} at d = {d}; "
                "use monotone='isotonic' to fit, or 'envelope' for a bound alone"
            )
        if monotone == "isotonic":
            from sklearn.isotonic import isotonic_regression

            fitted: list[np.ndarray] = [np.asarray(isotonic_regression(row)) for row in R]
            R = rising = np.stack(fitted)
            fall = None
        else:
            rising = np.maximum.accumulate(R, axis=1)
    if names is not None and len(names) != len(R):
        raise ValueError(f"names must have {len(R)} entries, one an arm, got {len(names)}")
    D = R.shape[1]
    best = relax(segments(rising, range(1, D + 1)), slots)
    period = _search(R, rising, slots, periods, local_search, best.price)
    placed = pack(period, slots)
    assert placed is not None
    static = float(np.sort(R[:, 0])[::-1][:slots].sum())
    value = rate_of(R, period)
    gamma = a_priori_ratio(slots)
    told = tuple(map(str, names)) if names is not None else ()
    made = plan_certificates(
        R,
        period,
        placed[0],
        slots,
        value=value,
        bound=best.value,
        gamma=gamma,
        static=static,
        fall=fall,
    )
    return RecoveringPlan(
        period=period,
        offset=placed[0],
        channel=placed[1],
        K=slots,
        value=value,
        upper_bound=best.value,
        gamma=gamma,
        static=static,
        price=best.price,
        fractional_arm=best.fractional,
        certificates=made,
        curves=R,
        names=told,
    )


def _search(
    R: np.ndarray, rising: np.ndarray, K: int, periods: Any, local_search: bool, price: float
) -> Int[np.ndarray, " N"]:
    """The best timetable among all candidates."""
    N, D = R.shape
    static = np.zeros(N, dtype=np.int64)
    static[np.argsort(-R[:, 0], kind="stable")[:K]] = 1
    single = np.zeros(N, dtype=np.int64)
    i, d = np.unravel_index(int((R / np.arange(1, D + 1)).argmax()), R.shape)
    single[i] = d + 1
    best = max((static, single), key=lambda p: rate_of(R, p))
    if isinstance(periods, str):
        as_choice(periods, "periods", ("auto", "pow2"))
        most = min(D, max(8, 2 * math.ceil(math.sqrt(K + 1)))) if periods == "auto" else 1
        tried = range(1, most + 1)
        if N * D > LARGE:  # neighbouring sets hardly differ; with so many arms little is lost
            tried = np.unique(np.geomspace(1, most, 8).round().astype(int)).tolist()
        sets = [(m, period_set(m, D)) for m in tried]
        if periods == "auto":
            sets.append((0, tuple(range(1, D + 1))))
    elif isinstance(periods, Sequence | np.ndarray):
        given = [as_int(p, "periods", low=1) for p in np.asarray(periods).tolist()]
        if not given or sorted(set(given)) != given:
            raise ValueError("periods must be a rising sequence of whole numbers")
        sets = [(0, tuple(given))]
    else:
        m = as_int(periods, "periods", low=1)
        sets = [(m, period_set(m, D))]
    seen: set[tuple[int, ...]] = set()
    for m, allowed in sets:
        if allowed in seen and m != 0:
            continue
        seen.add(allowed)
        pieces = segments(rising, allowed)
        made = _by_capacity(R, pieces, K)
        if m and m <= K:
            made += _guaranteed(pieces, K, m)
        best = max([best, *made], key=lambda p: rate_of(R, p))
    return _local(R, best, K, price) if local_search else best


def _by_capacity(R: np.ndarray, pieces: Segments, K: int) -> list[np.ndarray]:
    """The largest capacity whose periods the tree packs, with the fractional arm at either end; all that packed."""
    found = []
    for shorter in (False, True):
        low, high = 0.0, float(K)
        for step in range(STEPS):
            capacity = high if step == 0 else (low + high) / 2
            solved = relax(pieces, capacity)
            period = solved.period
            if shorter and solved.fractional >= 0:
                period = period.copy()
                period[solved.fractional] = solved.shorter
            if pack(period, K) is not None:
                found.append(period)
                if step == 0:
                    break
                low = capacity
            elif step:
                high = capacity
    return [max(found, key=lambda p: rate_of(R, p))] if found else []


def _guaranteed(pieces: Segments, K: int, m: int) -> list[np.ndarray]:
    """The schedule of the proof: capacity K − m + 1, whole slots for each chain."""
    C = K - m + 1
    solved = relax(pieces, C)
    made = [solved.period]
    if C == 1 and solved.fractional >= 0:
        alone = np.zeros_like(solved.period)
        alone[solved.fractional] = solved.shorter
        made.append(alone)
    kept = []
    for period in made:
        whole = sum(
            math.ceil(sum(1 / int(period[i]) for i in arms) - 1e-9)
            for arms in chains(m, period).values()
        )
        if whole <= K and pack(period, K) is not None:
            kept.append(period)
    return kept


def _local(R: np.ndarray, period: np.ndarray, K: int, price: float) -> np.ndarray:
    """Change one period, then two, while the value rises and the tree packs."""
    N, D = R.shape
    rates = np.concatenate([np.zeros((N, 1)), R / np.arange(1, D + 1)], axis=1)
    # Arms whose best net gain at the price is closest to zero are those that could be in or out.
    net = (rates - price * np.concatenate([[0.0], 1 / np.arange(1, D + 1)])).max(axis=1)
    arms = np.argsort(np.abs(net), kind="stable")[:SEARCHED] if N > SEARCHED else np.arange(N)
    best, value = period.copy(), rate_of(R, period)
    improved = True
    while improved:
        improved = False
        for i in arms:
            for d in np.argsort(-rates[i], kind="stable"):
                gain = (
                    rates[i, d] - rates[i, min(best[i], D)]
                    if best[i] <= D
                    else rates[i, d] - R[i, -1] / best[i]
                )
                if gain <= 1e-12 * max(value, 1e-300):
                    break
                tried = best.copy()
                tried[i] = d
                if pack(tried, K) is not None:
                    best, value, improved = tried, rate_of(R, tried), True
                    break
        if improved or (len(arms) * (D + 1)) ** 2 / 2 > PAIRS:
            continue
        current = np.array(
            [rates[i, best[i]] if best[i] <= D else R[i, -1] / best[i] for i in range(N)]
        )
        for a, i in enumerate(arms):
            for j in arms[a + 1 :]:
                sums = rates[i][:, None] + rates[j][None] - current[i] - current[j]
                for flat in np.argsort(-sums, axis=None, kind="stable"):
                    if sums.flat[flat] <= 1e-12 * max(value, 1e-300):
                        break
                    tried = best.copy()
                    tried[i], tried[j] = divmod(int(flat), D + 1)
                    if pack(tried, K) is not None:
                        best, value, improved = tried, rate_of(R, tried), True
                        break
                if improved:
                    break
            if improved:
                break
    return best


def myopic_rate(R: Float[np.ndarray, "N D"], K: int, periods: int = 2000) -> float:
    """Reward a period of pulling the K arms that pay most now, after as many periods of settling."""
    N, D = R.shape
    idle, total = np.ones(N, dtype=np.int64), 0.0
    for t in range(2 * periods):
        now = R[np.arange(N), np.minimum(idle, D) - 1]
        chosen = np.argpartition(-now, K - 1)[:K] if K < N else np.arange(N)
        if t >= periods:
            total += float(now[chosen].sum())
        idle += 1
        idle[chosen] = 1
    return total / periods
