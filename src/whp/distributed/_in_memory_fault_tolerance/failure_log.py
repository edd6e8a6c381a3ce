"""A log of failures as windows: how many members of each group were lost in each, and what that says of rates and dependence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int

from whp.conditions import Test
from whp.distributed._in_memory_fault_tolerance.survival import least_survival
from whp.validate import as_int, as_real

__all__ = ["FailureLog"]

BLOCKS = 10
PERIODS = (86_400.0, 604_800.0)  # what people and their jobs go by, in seconds


@dataclass(frozen=True, eq=False)
class FailureLog:
    """What was lost in which exposure window. Windows without a loss count, too.

    Parameters
    ----------
    n, groups, windows : int
        Members of a group, groups, and windows that were watched.
    window, group, count : ndarray of int, shape (cells,)
        Of each window and group in which something was lost: their numbers, and how many members.
    in_racks, in_racks_expected : int, float
        Pairs of members of one rack and group that were lost in one window, and how many were to be expected of independent
        members with these numbers of losses.
    seconds : float, optional
        Length of a window, if it is known.

    Raises
    ------
    ValueError
        If more members are lost than a group has, a window is not one of those that were watched, or one of a group comes
        twice.
    """

    n: int
    groups: int
    windows: int
    window: Int[np.ndarray, " cells"] = field(repr=False)
    group: Int[np.ndarray, " cells"] = field(repr=False)
    count: Int[np.ndarray, " cells"] = field(repr=False)
    in_racks: int = 0
    in_racks_expected: float = 0.0
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("n", "groups", "windows"):
            as_int(getattr(self, name), name, low=1)
        for name in ("window", "group", "count"):
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
                raise TypeError(
                    f"{name} must be a row of whole numbers, got {values.dtype} of shape {values.shape}"
                )
            object.__setattr__(self, name, values.astype(np.int64))
        lengths = {len(self.window), len(self.group), len(self.count)}
        if len(lengths) > 1:
            raise ValueError(
                f"window, group and count must be of one length, got {len(self.window)}, {len(self.group)} and {len(self.count)}"
            )
        if len(self.count) and (self.count.min() < 1 or self.count.max() > self.n):
            raise ValueError(f"count must be in 1..{self.n}, got {self.count.max()}")
        for name, most in (("window", self.windows), ("group", self.groups)):
            values = getattr(self, name)
            if len(values) and (values.min() < 0 or values.max() >= most):
                raise ValueError(f"{name} must be in 0..{most - 1}, got {values.max()}")
        if len(np.unique(self.window * self.groups + self.group)) < len(self.count):
            # One entry a loss would hide every pair: no window would have lost two.
            raise ValueError(
                "window and group must name a window of a group once, with how many were lost in count; got one twice"
            )

    @classmethod
    def from_counts(cls, counts: Any, n: int, *, seconds: float | None = None) -> FailureLog:
        """From the number of members lost in every window (rows, in the order of time) of every group (columns).

        With the length of a window in `seconds` losses at certain hours or days are looked for, too.

        Raises
        ------
        ValueError
            If a count is no whole number of members.
        """
        table = np.asarray(counts)
        table = table.reshape(len(table), -1)
        if table.dtype.kind not in "biu" and not np.array_equal(table, np.round(table)):
            raise ValueError("counts must be whole numbers of members, got a share or NaN")
        window, group = np.nonzero(table)
        if seconds is not None:
            seconds = as_real(seconds, "seconds", low=0, high=1e12, open_ends=True)
        count = table[window, group].astype(int)
        return cls(n, table.shape[1], len(table), window, group, count, seconds=seconds)

    @classmethod
    def from_events(
        cls,
        times: Sequence[float],
        nodes: Sequence[str],
        members: Sequence[Sequence[str]],
        *,
        window: float,
        start: float,
        stop: float,
        racks: Mapping[str, str] | None = None,
    ) -> FailureLog:
        """From moments at which nodes failed.

        Parameters
        ----------
        times : sequence of float
            In seconds.
        nodes : sequence of str
            Which node failed.
        members : sequence of sequences of str
            Nodes of each group.
        window : float
            Length of a window in seconds: twice the time from a loss until it is rebuilt, since losses less than that time
            apart may lie on both sides of a border between two windows.
        start, stop : float
            The time that was watched; a window that does not fit in at its end is left out.
        racks : mapping of str to str, optional
            Rack of each node, to look for pairs that go together.

        Raises
        ------
        ValueError
            If a node is in no group or in two, or a moment was not watched.
        """
        length = as_real(window, "window", low=0, high=1e12, open_ends=True)
        if not (math.isfinite(start) and math.isfinite(stop)):
            raise ValueError(f"start and stop must be moments in seconds, got {start} and {stop}")
        windows = int((stop - start) // length)
        if windows < 1:
            raise ValueError(f"start and stop must be a window of {length:g} s apart at least")
        place = {node: (g, i) for g, group in enumerate(members) for i, node in enumerate(group)}
        if len(place) < sum(map(len, members)):
            known = [node for group in members for node in group]
            twice = next(node for node in known if known.count(node) > 1)
            raise ValueError(f"members must have every node once, got {twice} twice")
        sizes = {len(group) for group in members}
        if len(sizes) != 1:
            raise ValueError(f"members must be groups of one size, got {sorted(sizes)}")
        if unknown := sorted({node for node in nodes if node not in place}):
            raise ValueError(f"nodes must be in members, got {', '.join(unknown[:3])}")
        moments = np.asarray(times, float)
        if len(moments) and not (start <= moments.min() and moments.max() <= stop):
            raise ValueError("times must lie between start and stop")
        at = ((moments - start) // length).astype(int)
        lost = {(int(w), node) for w, node in zip(at, nodes, strict=True) if w < windows}
        cells: dict[tuple[int, int], list[str]] = {}
        for w, node in sorted(lost):
            cells.setdefault((w, place[node][0]), []).append(node)
        seen, expected = _in_racks(cells, members, windows, racks or {})
        keys = np.array(list(cells), dtype=int).reshape(-1, 2)
        count = np.array([len(c) for c in cells.values()], dtype=int)
        where = keys[:, 0], keys[:, 1], count
        return cls(sizes.pop(), len(members), windows, *where, seen, expected, length)

    @property
    def losses(self) -> int:
        """Members lost, one a window and member."""
        return int(self.count.sum())

    @property
    def chances(self) -> int:
        """Windows of members."""
        return self.n * self.groups * self.windows

    @property
    def cells(self) -> int:
        """Windows of groups; those in which somebody was lost are as many as `count` has entries."""
        return self.groups * self.windows

    @property
    def pairs(self) -> int:
        """Pairs of members of one group that were lost in one window."""
        return int((self.count * (self.count - 1) // 2).sum())

    @property
    def correlation(self) -> float:
        """Correlation of losses within a group and window, by moments; 0 at least."""
        p = self.losses / self.chances
        ways = math.comb(self.n, 2) * self.groups * self.windows
        if not ways or not 0 < p < 1:
            return 0.0
        return max(0.0, (self.pairs / ways - p * p) / (p * (1 - p)))

    def fatal(self, m: int) -> int:
        """Windows in which some group lost more than m members."""
        return len(np.unique(self.window[self.count > m]))

    def pairs_test(self) -> Test:
        """Whether members are lost together more often than by chance.

        Given K losses at n·groups·windows places, a pair of them falls into one group and window with probability
        (n − 1)/(places − 1). Their number is compared with a Poisson law of that mean, and pairs of one rack likewise.
        """
        from scipy.stats import poisson

        k = self.losses
        if self.n < 2 or k < 2:
            return Test(1.0, "nothing: fewer than two losses, or groups of one")
        mean = k * (k - 1) / 2 * (self.n - 1) / (self.chances - 1)
        p = float(poisson.sf(self.pairs - 1, mean))
        if self.in_racks_expected > 0:
            p = min(1.0, 2 * min(p, float(poisson.sf(self.in_racks - 1, self.in_racks_expected))))
        share = 2 * (3.6 * math.sqrt(mean) + 5) / k
        return Test(
            p,
            f"a share of {min(share, 1):.2g} of losses that come in pairs, nine times in ten; {self.pairs} pairs were seen and "
            f"{mean:.3g} expected",
        )

    def correlation_test(self, rho: float, p: float) -> Test:
        """Whether groups lose two members or more oftener than at any correlation up to `rho` and loss probability `p`."""
        from scipy.stats import binom

        if self.n < 2:
            return Test(1.0, "nothing: groups of one")
        cells = self.cells
        chance = 1 - least_survival(self.n, 1, p, rho=rho)
        seen = int((self.count > 1).sum())
        more = (3.6 * math.sqrt(cells * chance) + 5) / cells
        return Test(
            float(binom.sf(seen - 1, cells, chance)),
            f"windows of a group with two losses {(chance + more) / max(chance, 1e-300):.2g} times as often as that correlation "
            f"makes them, nine times in ten; {seen} were seen and {cells * chance:.3g} expected",
        )

    def groups_test(self) -> Test:
        """Whether some groups lose members oftener than others, by the windows in which each lost somebody.

        Their numbers are held against a multinomial law, drawn where there are too few for the chi-squared one.
        """
        from scipy.stats import chi2

        total = len(self.count)
        if self.groups < 2 or not total:
            return Test(1.0, "nothing: one group, or no losses")
        hits, due = np.bincount(self.group, minlength=self.groups), total / self.groups
        spread = float(((hits - due) ** 2).sum() / due)
        if due >= 5:
            p = float(chi2.sf(spread / (1 - total / self.cells), self.groups - 1))
        else:
            drawn = np.random.default_rng(0).multinomial(
                total, np.full(self.groups, 1 / self.groups), size=2000
            )
            far = ((drawn - due) ** 2).sum(axis=1) / due >= spread - 1e-9
            p = float((1 + far.sum()) / 2001)
        off = math.sqrt((3.6 * math.sqrt(2 * (self.groups - 1)) + 7) / total)
        return Test(
            min(1.0, p),
            f"groups that are {off:.0%} off their mean rate, half above and half below, nine times in ten; the group hit "
            f"most often was hit in {hits.max()} windows, and {due:.3g} are the mean",
        )

    def windows_test(self) -> Test:
        """Whether windows without a loss are too few, or losses come in spells, or in a rhythm of days or weeks."""
        from scipy.stats import binom, chi2

        rate = self.losses / self.chances
        empty = self.windows - len(np.unique(self.window))
        chance = (1 - rate) ** (self.n * self.groups)
        few = float(binom.cdf(empty, self.windows, chance))
        # Windows of groups with a loss, not losses: these are independent whatever the correlation in a group.
        total = len(self.count)
        blocks = min(BLOCKS, self.windows, total // 5)
        if blocks < 2:
            return Test(
                min(1.0, 2 * few),
                f"a log without empty windows; {empty} are empty and {self.windows * chance:.3g} expected",
            )
        edges = np.linspace(0, self.windows, blocks + 1).astype(int)
        sums = np.histogram(self.window, edges)[0]
        due = np.diff(edges) / self.windows * total
        spread = float(((sums - due) ** 2 / due).sum() / max(1 - total / self.cells, 1e-9))
        spells = float(chi2.sf(spread, blocks - 1))
        off = 4.5 * math.sqrt(blocks / total)
        rhythms = [self._rhythm(period) for period in PERIODS]
        known = [p for p in rhythms if p is not None]
        beat = math.sqrt(9 / total)
        also = f", or one that swings by {2 * beat:.0%} with the hours or days" if known else ""
        return Test(
            min(1.0, (2 + len(known)) * min(few, spells, *known)),
            f"a log without empty windows, or a rate that is {off:.0%} off in a tenth of the time{also}, nine times in ten; "
            f"{empty} windows are empty and {self.windows * chance:.3g} expected",
        )

    def _rhythm(self, period: float) -> float | None:
        """Rayleigh's p of the phases of windows with a loss, in whole periods; None where there are too few to tell."""
        if self.seconds is None or self.seconds > period / 4:
            return None
        whole = int(self.windows * self.seconds // period)
        phase = self.window * self.seconds / period
        phase = phase[phase < whole]
        if whole < 10 or len(phase) < 10:
            return None
        turned = complex(np.exp(2j * np.pi * phase).sum())
        return math.exp(-(abs(turned) ** 2) / len(phase))


def _in_racks(
    cells: Mapping[tuple[int, int], Sequence[str]],
    members: Sequence[Sequence[str]],
    windows: int,
    racks: Mapping[str, str],
) -> tuple[int, float]:
    """Pairs of one group and rack in one window, and their expectation for independent members with these losses."""
    times: dict[str, int] = {}
    seen = 0
    for lost in cells.values():
        for i, one in enumerate(lost):
            times[one] = times.get(one, 0) + 1
            seen += sum(_together(racks, one, two) for two in lost[:i])
    expected = 0.0
    for group in members:
        for i, one in enumerate(group):
            for two in group[:i]:
                if _together(racks, one, two):
                    expected += times.get(one, 0) * times.get(two, 0) / windows
    return seen, expected


def _together(racks: Mapping[str, str], one: str, two: str) -> bool:
    return one in racks and racks[one] == racks.get(two)
