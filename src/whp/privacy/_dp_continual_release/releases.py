"""Recompute: look at the exact sums every r records and release their largest, or which column leads."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from jaxtyping import Float, UInt8

from whp.kernel import compiled
from whp.privacy._dp_continual_release.accuracy import ReleasePlan
from whp.privacy._dp_continual_release.counters import Drawing
from whp.privacy._dp_continual_release.noise import BitSource, Noise, below, happens
from whp.provenance import register

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


class Recompute(Drawing):
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
            register(self, "noise", "period")
        else:
            # exp(ε′ S/2): the exponent is rounded down, so that selections are no sharper than the plan says.
            self.numerator = int(plan.scale * PLACES / 2)
            register(self, "source", "numerator", "period")

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
            return float(self.sums.max() + self.drawn(1)[0]) + (self.period - 1) / 2
        sharpness = Fraction(2 * self.numerator, PLACES)
        self.least = sharpness if self.least is None else max(self.least, sharpness)
        if self.numerator == 0:  # a budget too small to tell columns apart
            return float(self._select(np.zeros_like(self.sums)))
        return float(self._select(self.sums))

    def _select(self, sums: np.ndarray) -> int:
        wanted = 16 * self.width + 256
        with self.source.lock:
            while True:
                column, used = _select(self.source.peek(wanted), sums, self.numerator, PLACES)
                if column >= 0:
                    self.source.drop(used)
                    return int(column)
                wanted *= 2

    def resume(self, before: Recompute, left: int) -> None:
        """Take over the sums and the answer of the epoch before, `left` records after its last release.

        Until the first release here the largest count climbs by 0 to left + r − 1, and half of that is added.
        """
        self.sums = before.sums
        shift = (left + self.period - before.period) / 2 if self.query == "maxsum" else 0.0
        self.last = before.last + shift

    def spent(self, changed: int) -> Fraction:
        """ρ, or ε, of all releases so far: each has sensitivity 1, or is a selection of bounded range ε′."""
        k = self.t // self.period
        if self.least is None:
            return Fraction(0)
        if self.query == "sumselect":
            return k * self.least if self.law == "laplace" else k * self.least**2 / 8
        return self.cost(Fraction(k))

    def state(self) -> dict[str, np.ndarray]:
        """Exact sums, and the answer in force."""
        return {"sums": self.sums.copy(), "last": self.last.copy()}
