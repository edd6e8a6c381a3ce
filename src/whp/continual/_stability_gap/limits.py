"""Everything that a run's accuracies say, with ends that are valid for all evaluations at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from whp.continual.stability_gap.bands import Target, band, paired_limits
from whp.continual.stability_gap.metrics import Curves, Metrics, metrics, windowed
from whp.continual.stability_gap.outcomes import Outcomes
from whp.intervals import Estimate, exact

__all__ = ["Limits"]

FULL = 1.0


@dataclass(frozen=True, eq=False)
class Limits:
    """A run with what its evaluation sets can tell.

    Parameters
    ----------
    curves : Curves
    n : tuple of int or None
        Rows behind each task's accuracies; None if they are taken as they are.
    n_total : tuple of int or None
        Rows of the whole evaluation sets.
    target : {"population", "set"}
    delta : float
        Failure probability of all limits of one kind together.
    dense : bool
        Whether every update was evaluated. If not, lower ends of minima are 0.
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

    def bands(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits (K, T) of all accuracies at once (T2)."""
        A = self.curves.accuracy
        if self.n is None:
            return A, A
        low, high = np.full_like(A, np.nan), np.full_like(A, np.nan)
        pairs = int(np.isfinite(A).sum())
        for i, start in enumerate(self.curves.starts):
            total = None if self.n_total is None else self.n_total[i]
            low[i, start:], high[i, start:] = band(
                A[i, start:], self.n[i], self.delta / pairs, total, self.target
            )
        return low, high

    def _pair(self, i: int, s: int, t: np.ndarray, pairs: int) -> tuple[np.ndarray, np.ndarray]:
        """Limits of A_i(s) − A_i(t) by paired rows (T3)."""
        assert self.outcomes is not None
        start = int(self.curves.starts[i])
        lost, gained = (
            self.outcomes.lost(i, s - start, t - start),
            self.outcomes.lost(i, t - start, s - start),
        )
        total = None if self.n_total is None else self.n_total[i]
        return paired_limits(
            lost, gained, self.outcomes.n[i], self.delta / (4 * pairs), total, self.target
        )

    def fall(
        self, i: int, s: int, later: np.ndarray, pairs: int, bands: tuple[np.ndarray, np.ndarray]
    ) -> Estimate:
        """A_i(s) less the least accuracy among `later`."""
        A, (low, high) = self.curves.accuracy[i], bands
        value = float(A[s] - A[later].min())
        if self.n is None:
            return exact(value)
        if self.outcomes is None:
            ends = low[i, s] - high[i, later].min(), high[i, s] - low[i, later].min()
        else:
            lower, upper = self._pair(i, s, later, pairs)
            ends = float(lower.max()), float(upper.max())
        if not self.dense:
            ends = ends[0], float(high[i, s])
        return _estimate(value, ends, 1 - self.delta, self.n[i])

    def hidden(self) -> tuple[Estimate, float]:
        """ACC − WC-ACC at the end, and the largest value that it could have had."""
        curves, K = self.curves, len(self.curves.ends)
        bands = self.bands()
        old = curves.old()
        pairs = sum(s.stop - s.start for _, s in old)
        falls = [
            self.fall(i, len(curves.times) - 1, np.arange(s.start, s.stop), pairs, bands)
            for i, s in old
        ]
        # the last moment is among the later ones, so no fall is negative
        falls = [replace(f, low=max(f.low, 0.0)) for f in falls]
        trivial = float(curves.accuracy[:-1, -1].sum()) / K
        return _sum(falls, K, 1 - self.delta), trivial

    def gaps(self) -> tuple[pd.DataFrame, Estimate]:
        """The table of gaps with ends of drop and recovery, and the largest temporary forgetting: min(drop, recovery)."""
        curves, bands = self.curves, self.bands()
        pairs = sum(s.stop - s.start for _, s in curves.old())
        table = metrics(curves).gaps
        drops, recoveries = [], []
        for row in table.itertuples():
            i, k = int(row.old_task), int(row.new_task)  # type: ignore[arg-type]
            inside = np.arange(curves.ends[k - 1] + 1, curves.ends[k] + 1)
            drops.append(self.fall(i, int(curves.ends[k - 1]), inside, pairs, bands))
            recoveries.append(self.fall(i, int(curves.ends[k]), inside, pairs, bands))
        for name, found in (("drop", drops), ("recovery", recoveries)):
            table[f"{name}_low"], table[f"{name}_high"] = (
                [e.low for e in found],
                [e.high for e in found],
            )
        both = [
            (min(d.value, r.value), min(d.low, r.low), min(d.high, r.high))
            for d, r in zip(drops, recoveries, strict=True)
        ]
        value, low, high = np.array(both).max(axis=0) if both else (0.0, 0.0, 0.0)
        most = (
            exact(float(value))
            if self.n is None
            else _estimate(float(value), (low, high), 1 - self.delta, min(self.n))
        )
        return table.drop(columns="at"), most

    def estimates(
        self, found: Metrics, windows: tuple[int, ...]
    ) -> dict[str, Estimate | dict[int, Estimate]]:
        """ACC, FORG, min-ACC, WC-ACC, WF and WP with the limits of the band."""
        low, high = self.bands()
        curves, K = self.curves, len(self.curves.ends)
        level = 1 - self.delta
        rows = None if self.n is None else min(self.n)

        def made(value: float, a: float, b: float) -> Estimate:
            return exact(value) if self.n is None else _estimate(value, (a, b), level, rows or 0)

        least = [
            (0.0 if not self.dense else low[i, s].min(), high[i, s].min()) for i, s in curves.old()
        ]
        ends = curves.ends[:-1]
        old = np.arange(K - 1)
        out: dict[str, Estimate | dict[int, Estimate]] = {
            "acc": made(found.acc, float(low[:, -1].mean()), float(high[:, -1].mean())),
            "wc_acc": made(
                found.wc_acc,
                float(low[-1, -1] + sum(a for a, _ in least)) / K,
                float(high[-1, -1] + sum(b for _, b in least)) / K,
            ),
        }
        if K > 1:
            out["min_acc"] = made(found.min_acc, *np.mean(least, axis=0).tolist())
            out["forg"] = made(
                found.forg,
                float(np.mean(low[old, ends] - high[:-1, -1])),
                float(np.mean(high[old, ends] - low[:-1, -1])),
            )
        for name, which in (("wf", 0), ("wp", 1)):
            values = getattr(found, name)
            made_of = {}
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
                made_of[w] = made(values[w], float(lower), float(upper) if self.dense else FULL)
            out[name] = made_of
        return out


def _estimate(value: float, ends: tuple[float, float], level: float, n: int) -> Estimate:
    return Estimate(
        value,
        min(ends[0], value),
        max(ends[1], value),
        level,
        n,
        "exact, for all evaluations at once",
    )


def _sum(parts: list[Estimate], K: int, level: float) -> Estimate:
    value, low, high = (sum(getattr(p, end) for p in parts) / K for end in ("value", "low", "high"))
    if not parts or all(p.low == p.high for p in parts):
        return exact(float(value))
    return Estimate(value, low, high, level, parts[0].n, parts[0].method)
