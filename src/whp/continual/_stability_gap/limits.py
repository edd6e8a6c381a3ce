"""What accuracies on a sample of rows say, with ends that are valid for all evaluations at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import SupportsFloat

import numpy as np
import pandas as pd

from whp.continual._stability_gap.bands import Target, band, paired_limits
from whp.continual._stability_gap.counts import half_a_digit
from whp.continual._stability_gap.metrics import Curves, Metrics, metrics, windowed
from whp.continual._stability_gap.outcomes import Outcomes
from whp.intervals import Estimate, exact

__all__ = ["Limits"]

FULL = 1.0
ROUNDING = 1e-12  # sums and differences of a few accuracies


@dataclass(frozen=True, eq=False)
class Limits:
    """A run with what its evaluation sets can tell.

    Parameters
    ----------
    curves : Curves
        Accuracies, and when.
    n : tuple of int or None
        Rows behind each task's accuracies; None if they are taken as they stand.
    n_total : tuple of int or None
        Rows of the whole evaluation sets.
    target : {"population", "set"}
        Whether rows are a sample of their task, or of the n_total rows.
    delta : float
        Failure probability of all limits of one kind together.
    dense : bool
        Whether every update was evaluated. If not, anything may have happened in between: lower
        ends of minima are 0.
    outcomes : Outcomes, optional
        For paired limits.
    """

    curves: Curves
    n: tuple[int, ...] | None
    n_total: tuple[int, ...] | None
    target: Target
    delta: float
    dense: bool
    outcomes: Outcomes | None = None

    @property
    def level(self) -> float:
        """Of all limits: 1 where accuracies are taken as they stand."""
        return 1.0 if self.n is None else 1 - self.delta

    @cached_property
    def bands(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits (K, T) of all accuracies at once."""
        A = self.curves.accuracy
        if self.n is None:
            return A, A
        low, high = np.full_like(A, np.nan), np.full_like(A, np.nan)
        # Outcomes are whole numbers of rows; of accuracies the digits may leave several open.
        seen = [A[i, start:] for i, start in enumerate(self.curves.starts)]
        half = 0.0 if self.outcomes is not None else half_a_digit(seen)
        pairs = int(np.isfinite(A).sum())
        for i, start in enumerate(self.curves.starts):
            total = None if self.n_total is None else self.n_total[i]
            low[i, start:], high[i, start:] = band(
                seen[i], self.n[i], self.delta / pairs, total, self.target, half
            )
        return low, high

    def _pair(self, i: int, s: int, t: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Limits of A_i(s) − A_i(t) by paired rows; four of them, each missed with `level`."""
        assert self.outcomes is not None
        start = int(self.curves.starts[i])
        lost = self.outcomes.lost(i, s - start, t - start)
        gained = self.outcomes.lost(i, t - start, s - start)
        total = None if self.n_total is None else self.n_total[i]
        return paired_limits(lost, gained, self.outcomes.n[i], level, total, self.target)

    def fall(
        self, i: int, s: int, later: np.ndarray, level: float, bands: tuple[np.ndarray, np.ndarray]
    ) -> Estimate:
        """A_i(s) less the least accuracy among `later`."""
        A, (low, high) = self.curves.accuracy[i], bands
        value = float(A[s] - A[later].min())
        if self.outcomes is None:
            ends = low[i, s] - high[i, later].min(), high[i, s] - low[i, later].min()
        else:
            lower, upper = self._pair(i, s, later, level)
            ends = float(lower.max()), float(upper.max())
        if not self.dense:
            ends = ends[0], float(high[i, s])
        return self._estimate(value, ends[0], ends[1], None if self.n is None else self.n[i])

    def hidden(self) -> tuple[Estimate, float]:
        """ACC − WC-ACC at the end, and the largest value that it could have had.

        Without the number of rows nobody knows what noise is in the numbers: the upper end is the
        largest possible value.
        """
        curves, K = self.curves, len(self.curves.ends)
        bands = self.bands
        old = curves.old()
        level = self.delta / (4 * max(1, sum(s.stop - s.start for _, s in old)))
        falls = [
            self.fall(i, len(curves.times) - 1, np.arange(s.start, s.stop), level, bands)
            for i, s in old
        ]
        trivial = float(curves.accuracy[:-1, -1].sum()) / K
        if not falls:
            return exact(0.0), trivial
        # The last moment is among the later ones, so no fall is negative.
        value, low, high = (
            sum(end) / K
            for end in zip(*((f.value, max(f.low, 0.0), f.high) for f in falls), strict=True)
        )
        if self.n is None:
            high = max(high, trivial)
        rows = None if self.n is None else min(self.n)
        return self._estimate(value, max(low - ROUNDING, 0.0), high + ROUNDING, rows), trivial

    def gaps(self, *, seen_all: bool) -> tuple[pd.DataFrame, Estimate | None]:
        """The table of gaps with ends of drop and recovery, and the largest min(drop, recovery).

        Parameters
        ----------
        seen_all : bool
            Whether it is known that no update went unseen: only then can gaps be excluded.
        """
        curves, bands = self.curves, self.bands
        pairs = sum(s.stop - s.start for _, s in curves.old())
        # Two ends of a drop and of a recovery at each of these evaluations, each end of two counts.
        level = self.delta / (8 * max(1, pairs))
        table = metrics(curves).gaps
        drops, recoveries = [], []
        for old, new in zip(table["old_task"], table["new_task"], strict=True):
            i, k = int(old), int(new)
            inside = np.arange(curves.ends[k - 1] + 1, curves.ends[k] + 1)
            drops.append(self.fall(i, int(curves.ends[k - 1]), inside, level, bands))
            recoveries.append(self.fall(i, int(curves.ends[k]), inside, level, bands))
        for name, found in (("drop", drops), ("recovery", recoveries)):
            for end in ("low", "high"):
                table[f"{name}_{end}"] = [getattr(e, end) for e in found]
        table = table.drop(columns="at")
        if not drops:
            return table, None
        value, low, high = (
            max(
                min(getattr(d, end), getattr(r, end))
                for d, r in zip(drops, recoveries, strict=True)
            )
            for end in ("value", "low", "high")
        )
        if self.n is None:
            low, high = 0.0, FULL
        elif not seen_all:
            high = FULL
        rows = None if self.n is None else min(self.n)
        low, high = max(low - ROUNDING, 0.0), min(max(high + ROUNDING, 0.0), FULL)
        return table, self._estimate(max(value, 0.0), low, high, rows)

    def estimates(
        self, found: Metrics, windows: tuple[int, ...]
    ) -> dict[str, Estimate | dict[int, Estimate]]:
        """ACC, FORG, min-ACC, WC-ACC, WF and WP with the limits of the band."""
        low, high = self.bands
        curves, K = self.curves, len(self.curves.ends)
        rows = None if self.n is None else min(self.n)
        least = [
            (low[i, s].min() if self.dense else 0.0, high[i, s].min()) for i, s in curves.old()
        ]
        ends = curves.ends[:-1]
        old = np.arange(K - 1)
        out: dict[str, Estimate | dict[int, Estimate]] = {
            "acc": self._estimate(found.acc, low[:, -1].mean(), high[:, -1].mean(), rows),
            "wc_acc": self._estimate(
                found.wc_acc,
                (low[-1, -1] + sum(a for a, _ in least)) / K,
                (high[-1, -1] + sum(b for _, b in least)) / K,
                rows,
            ),
        }
        if K > 1:
            mean_low, mean_high = np.mean(least, axis=0)
            out["min_acc"] = self._estimate(found.min_acc, mean_low, mean_high, rows)
            out["forg"] = self._estimate(
                found.forg,
                np.mean(low[old, ends] - high[:-1, -1]),
                np.mean(high[old, ends] - low[:-1, -1]),
                rows,
            )
        for name, which in (("wf", 0), ("wp", 1)):
            values = getattr(found, name)
            made = {}
            for w in windows:
                lower, upper = (
                    np.mean(
                        [
                            windowed(a[i, s:], w, b[i, s:])[which][-1]
                            for i, s in enumerate(curves.starts)
                        ]
                    )
                    for a, b in ((low, high), (high, low))
                )
                made[w] = self._estimate(values[w], lower, upper if self.dense else FULL, rows)
            out[name] = made
        return out

    def _estimate(
        self, value: SupportsFloat, low: SupportsFloat, high: SupportsFloat, n: int | None
    ) -> Estimate:
        """Ends may miss the value by rounding; they do not otherwise."""
        value = float(value)
        ends = min(float(low), value), max(float(high), value)
        if self.n is None and ends == (value, value):
            return exact(value)
        how = "as logged" if self.n is None else "exact, for all evaluations at once"
        return Estimate(value, *ends, self.level, n, how)
