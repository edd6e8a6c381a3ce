"""Recompute: look at the exact sums every r records and release their largest, or which column leads."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from jaxtyping import Float, UInt8

from whp.kernel import compiled
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.privacy._dp_continual_release.noise import BitSource, Noise, below, happens

__all__ = ["Recompute"]

PLACES = 1 << 20  # denominator of the exponent of a selection


@compiled
def _select(words, sums, numerator, denominator):
    """The exponential mechanism, exactly: a uniform column, kept with exp(−gap · numerator/denominator), until one is.

    −1 where the words ran out.
    """
    best = sums.max()
    at = 0
    while at < len(words):
        j, at = below(words, at, len(sums))
        if at > len(words):
            break
        exponent = (best - sums[j]) * numerator
        whole, rest = exponent // denominator, exponent % denominator
        kept = True
        for _ in range(whole):
            kept, at = happens(words, at, 1, 1)
            if at > len(words) or not kept:
                break
        if at > len(words):
            break
        if kept:
            kept, at = happens(words, at, rest, denominator)
            if at > len(words):
                break
            if kept:
                return j, at
    return -1, at


class Recompute:
    """Answers of MaxSum or SumSelect that are made anew every r records and repeated in between.

    MaxSum only climbs, by 0 to r − 1 between two releases: (r − 1)/2 is added, which halves what staleness costs at worst.
    """

    def __init__(self, plan: ReleasePlan, source: BitSource, width: int) -> None:
        self.t, self.width, self.period, self.query = 0, width, plan.period, plan.query
        self.law = "laplace" if plan.budget.pure else "gaussian"
        self.source = source
        self.sums = np.zeros(width, dtype=np.int64)
        self.last = np.zeros(1)
        if plan.query == "maxsum":
            self.last[0] = (plan.period - 1) / 2
            self.noise = Noise("laplace" if plan.budget.pure else "gaussian", plan.scale, source)
            self.scale = self.noise.scale
        else:
            # exp(ε′ S/2): the exponent is rounded down, so that selections are no sharper than the plan says.
            self._numerator = int(plan.scale * PLACES / 2)
            self.scale = Fraction(2 * self._numerator, PLACES)

    def advance(self, rows: UInt8[np.ndarray, "n width"]) -> Float[np.ndarray, " n"]:
        """Answers after each of the rows."""
        n, r = len(rows), self.period
        ends = np.arange(r - 1 - self.t % r, n, r)
        starts = np.concatenate([[0], ends + 1])
        answers = np.repeat(self.last, n)
        for start, end in zip(starts, np.append(ends, n - 1), strict=True):
            if start <= end:
                self.sums += rows[start : end + 1].sum(axis=0, dtype=np.int64)
            if (self.t + end + 1) % r == 0 and start <= end:
                self.last[0] = self._release()
            answers[end:] = self.last[0]
        self.t += n
        return answers

    def _release(self) -> float:
        if self.query == "maxsum":
            return float(self.sums.max() + self.noise.draw(1)[0]) + (self.period - 1) / 2
        if self._numerator == 0:  # a budget too small to tell columns apart
            return float(self._draw(np.zeros_like(self.sums)))
        return float(self._draw(self.sums))

    def _draw(self, sums: np.ndarray) -> int:
        wanted = 16 * self.width + 256
        while True:
            column, used = _select(self.source.peek(wanted), sums, self._numerator, PLACES)
            if column >= 0:
                self.source.drop(used)
                return int(column)
            wanted *= 2

    def spent(self, changed: int) -> Fraction:
        """ρ, or ε, of all releases so far: each has sensitivity 1, or is a selection of bounded range ε′."""
        k = self.t // self.period
        if self.query == "sumselect":
            return k * self.scale if self.law == "laplace" else k * self.scale**2 / 8
        if self.scale == 0:
            return Fraction(10**9)
        return Fraction(k) / (self.scale if self.law == "laplace" else 2 * self.scale**2)

    def state(self) -> dict[str, np.ndarray]:
        """Exact sums, and the answer in force."""
        return {"sums": self.sums.copy(), "last": self.last.copy()}

    def restore(self, t: int, state: Mapping[str, np.ndarray]) -> None:
        """Go on after t records."""
        for name, array in self.state().items():
            given = np.asarray(state[name])
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"state[{name!r}] must be {array.dtype} of shape {array.shape}, got {given.shape}"
                )
        self.t, self.sums, self.last = t, np.array(state["sums"]), np.array(state["last"])
