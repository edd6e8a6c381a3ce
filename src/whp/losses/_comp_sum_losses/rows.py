"""Rows on which a classifier is judged, what was stated of their labels, and the limits that follow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import log_softmax

from whp.concentration import empirical_bernstein, simultaneous_proportions
from whp.intervals import Estimate, proportion
from whp.losses._comp_sum_losses.loss import (
    best_conditional_risk,
    expected_loss,
    loss_of_log,
    mixed,
    noise_risk,
    picked,
)
from whp.losses._comp_sum_losses.regret import Kind, inverse_transform

__all__ = ["FLOOR", "Rows", "risk_limit"]

FLOOR = 1e-3
POWERS = 10  # of ½, down to FLOOR: floors of an estimated rate
NEAR = 0.1  # standard errors from the flips, within which a rate is taken for their estimate


def risk_limit(values: np.ndarray, width: float, delta: float) -> float:
    """Upper limit of the mean of values in an interval of `width`: the empirical Bernstein bound.

    mean + √(2 V ln(2/δ)/N) + 7 B ln(2/δ)/(3(N − 1)), V the sample variance (Maurer & Pontil 2009,
    Theorem 4), with probability at least 1 − δ.
    """
    n, log_term = len(values), math.log(2 / delta)
    spread = math.sqrt(2 * float(values.var(ddof=1)) * log_term / n)
    return float(values.mean()) + spread + 7 * width * log_term / (3 * (n - 1))


@lru_cache(maxsize=64)
def _share(hits: int, n: int, level: float) -> Estimate:
    """Clopper-Pearson interval, which several parts of a run ask for."""
    return proportion(hits, n, level=level)


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows and what was stated of them.

    Parameters
    ----------
    logits : ndarray, shape (n, C)
        Scores of the model; −infinity where a class is impossible.
    y : ndarray, shape (n,)
        Labels as they were observed.
    conditional : ndarray, shape (n, C), optional
        Probabilities of the classes in each row, as they were given.
    noise : float, optional
        Probability with which a certain label was replaced by another one, uniformly.
    y_clean : ndarray, shape (n,), optional
        Labels before that.
    floor : float, optional
        Share of the uniform distribution mixed into softmax, so that losses are bounded; by default
        0.001 and, with `noise`, also the share that makes the loss of a certain prediction least.
    groups : ndarray of int, shape (n,), optional
        Number of the group of each row; every group counts once, with the mean of its rows.
    votes : str
        Whose votes the probabilities are, empty if they are none.
    given : ndarray, shape (n, columns), optional
        The scores as they were given, before any logarithm or division.
    """

    logits: np.ndarray
    y: np.ndarray
    conditional: np.ndarray | None = None
    noise: float | None = None
    y_clean: np.ndarray | None = None
    floor: float | None = None
    groups: np.ndarray | None = None
    votes: str = ""
    given: np.ndarray | None = None

    @property
    def n_classes(self) -> int:
        """Number of the model's outputs."""
        return self.logits.shape[1]

    @cached_property
    def log_p(self) -> np.ndarray:
        """Logarithms of softmax."""
        return log_softmax(self.logits, axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        """Class of the largest score in each row."""
        return self.logits.argmax(axis=1)

    def units(self, values: np.ndarray) -> np.ndarray:
        """One number an independent unit: the values, or their means over groups."""
        if self.groups is None:
            return values
        return np.bincount(self.groups, values) / np.bincount(self.groups)

    def once(self) -> Rows:
        """The first row of each group."""
        if self.groups is None:
            return self
        first = np.sort(np.unique(self.groups, return_index=True)[1])
        return Rows(
            self.logits[first],
            self.y[first],
            None if self.conditional is None else self.conditional[first],
            self.noise,
            None if self.y_clean is None else self.y_clean[first],
            self.floor,
            votes=self.votes,
            given=None if self.given is None else self.given[first],
        )

    @cached_property
    def estimated(self) -> bool:
        """Whether `noise` is what the flips of these very rows say, and no better known than by them.

        A rate that was known before comes as near to them in one run of twelve; its limits are wider
        then, and as valid.
        """
        if not self.noise or self.y_clean is None:
            return False
        n = len(self.y)
        off = abs(float((self.y != self.y_clean).mean()) - self.noise)
        return off <= NEAR * math.sqrt(self.noise * (1 - self.noise) / n) + 0.5 / n

    def rates(self, level: float) -> tuple[float, float]:
        """Least and largest rate of flips: that stated, or limits around it where it was estimated."""
        if not self.estimated:
            return self.noise or 0.0, self.noise or 0.0
        found = self._rate(self.y != self.y_clean, level)
        return max(0.0, min(self.noise or 0.0, found.low)), max(self.noise or 0.0, found.high)

    def floors(self, tau: float) -> tuple[float, ...]:
        """Floors that are tried, chosen without a look at the rows; see `looks`."""
        if self.floor is not None:
            return (self.floor,)
        if not self.noise or tau >= 2:
            return (FLOOR,)
        # The best scores are softmax ∝ P^(1/(2 − τ)); of a certain class flipped with this noise:
        odds = math.log(self.noise / (self.n_classes - 1)) - math.log1p(-self.noise)
        other = math.exp(odds / (2 - tau))  # over the share of the class itself
        best = self.n_classes * other / (1 + (self.n_classes - 1) * other)
        if self.estimated and best > FLOOR:  # the rows have a say in it: the nearest of POWERS
            best = 0.5 ** min(max(1, round(-math.log2(best))), POWERS)
        return (FLOOR, best) if best > FLOOR else (FLOOR,)

    def looks(self, tau: float) -> int:
        """Number of floors that may be tried, which share the failure probability."""
        fixed = self.floor is not None or tau >= 2
        return 1 + POWERS if self.estimated and not fixed else len(self.floors(tau))

    def losses(self, tau: float, floor: float) -> np.ndarray:
        """Loss of each row: over its label, or its mean over labels where their probabilities are given."""
        if self.conditional is not None:
            logs = mixed(self.log_p, floor, self.n_classes)
            return expected_loss(logs, self.conditional, tau)
        return loss_of_log(mixed(picked(self.log_p, self.y), floor, self.n_classes), tau)

    def best(self, tau: float) -> np.ndarray:
        """Least mean loss of each row, by any scores; 0 where nothing was stated."""
        if self.conditional is not None:
            return best_conditional_risk(self.conditional, tau)
        least = 0.0 if self.noise is None else noise_risk(self.noise, self.n_classes, tau)
        return np.full(len(self.y), least)

    def least_error(self) -> np.ndarray:
        """Error of the best classifier in each row, 0 where nothing was stated."""
        if self.conditional is not None:
            return 1 - self.conditional.max(axis=1)
        return np.full(len(self.y), self.noise or 0.0)

    def largest(self, tau: float, floor: float) -> float:
        """Largest loss that the floor allows."""
        return float(loss_of_log(math.log(floor / self.n_classes), tau))

    def worst_excess(self) -> float:
        """Mean excess error of the worst predictions in these rows."""
        if self.conditional is not None:
            return float(self.units(np.ptp(self.conditional, axis=1)).mean())
        return self._left(self.noise or 0.0)

    def _left(self, noise: float) -> float:
        """Excess error of a wrong prediction, where labels are flipped at this rate."""
        return max(0.0, 1 - noise * self.n_classes / (self.n_classes - 1))

    def _part(self, level: float) -> float:
        """Level of one of two intervals, if there is one of the rate of flips."""
        return (1 + level) / 2 if self.estimated else level

    def counted(self, level: float) -> Estimate:
        """The excess error counted on observed labels: errors, less those that noise explains.

        With probabilities given, less the errors of the class that they call likeliest; votes of a
        few are no probabilities, and explain nothing here.
        """
        wrong = self.predicted != self.y
        if self.conditional is None or self.votes:
            part = self._part(level)
            rate, (least, most) = self._rate(wrong, part), self.rates(part)
            return Estimate(
                rate.value - (self.noise or 0.0),
                rate.low - most,
                rate.high - least,
                level,
                rate.n,
                rate.method,
            )
        likeliest = self.conditional.argmax(axis=1) != self.y
        more, less = wrong & ~likeliest, likeliest & ~wrong
        if self.groups is not None:
            difference = self.units(more.astype(float) - less)
            return empirical_bernstein(difference, 1 - level, low=-1.0)
        n = len(wrong)
        low, high = simultaneous_proportions([more.sum(), less.sum()], [n, n], 1 - level)
        return Estimate.between(
            float(low[0] - high[1]),
            float(high[0] - low[1]),
            value=float(more.mean() - less.mean()),
            level=level,
            n=n,
            method="Clopper-Pearson",
        )

    def measured(self, level: float) -> Estimate | None:
        """The excess error where labels show it that the bound did not use; else None."""
        if self.conditional is not None:
            return None if self.votes else self.counted(level)
        if self.noise is None or self.y_clean is None:
            return None
        part = self._part(level)
        rate = self._rate(self.predicted != self.y_clean, part)
        least, most = self.rates(part)
        return Estimate(
            self._left(self.noise) * rate.value,
            self._left(most) * rate.low,
            self._left(least) * rate.high,
            level,
            rate.n,
            rate.method,
        )

    def error(self, level: float) -> Estimate:
        """Share of rows whose label is not the predicted class."""
        return self._rate(self.predicted != self.y, level)

    def _rate(self, flags: np.ndarray, level: float) -> Estimate:
        if self.groups is None:
            return _share(int(flags.sum()), len(flags), level)
        return empirical_bernstein(self.units(flags.astype(float)), 1 - level)

    def bounds(self, tau: float, delta: float, kind: Kind) -> dict[str, float]:
        """Risk, least risk, the limit of their difference, and two upper bounds of the excess error.

        Each of the two holds with probability 1 − delta, which the floors share, and with them the
        lower limit of a rate of flips that was estimated.
        """
        floors, looks = self.floors(tau), self.looks(tau)
        sure = self
        if self.estimated:
            # Half of delta: the lower end of a two-sided interval fails with half of its own.
            sure = replace(self, noise=self.rates(1 - delta)[0], y_clean=None)
            delta = delta / 2
        best, half = sure.best(tau), float(loss_of_log(math.log(0.5), tau))
        tried, simple = [], []
        for floor in floors:
            losses, largest = self.losses(tau, floor), self.largest(tau, floor)
            limit = risk_limit(self.units(losses - best), largest, delta / looks)
            tried.append((limit, floor, float(self.units(losses).mean())))
            width = largest / half
            if self.conditional is not None:
                width += 1 - 1 / self.n_classes
            rest = self.units(losses / half - sure.least_error())
            simple.append(risk_limit(rest, width, delta / looks))
        limit, floor, risk = min(tried)
        return {
            "risk": risk,
            "best_risk": float(self.units(best).mean()),
            "excess_limit": limit,
            "bound": float(inverse_transform(max(0.0, limit), tau, self.n_classes, kind)),
            "elementary": min(1.0, *simple),
            "floor": floor,
        }

    def pointwise(self, tau: float, delta: float, kind: Kind) -> float:
        """Upper limit of the mean of what each row's regret allows."""
        regret = np.maximum(self.losses(tau, self.floors(tau)[0]) - self.best(tau), 0)
        allowed = np.asarray(inverse_transform(regret, tau, self.n_classes, kind))
        return min(1.0, risk_limit(self.units(allowed), 1.0, delta))
