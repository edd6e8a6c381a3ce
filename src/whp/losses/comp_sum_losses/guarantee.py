"""Theorem 3.1 on rows that were not trained on: the excess error is at most the transform's inverse of the excess risk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import chisquare

from whp.certificate import Certificate
from whp.intervals import Estimate, exact, mean, proportion
from whp.losses.comp_sum_losses.loss import (
    best_conditional_risk,
    expected_loss,
    loss_of_log,
    mixed_log,
    noise_risk,
    picked,
)
from whp.losses.comp_sum_losses.regret import Kind, inverse_transform
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["Sample", "assumptions", "consistency", "pointwise", "risk_limit"]

PAPER = "Mao, Mohri, Zhong 2023, Theorem 3.1"
DUPLICATES = 0.01
FLIP_LEVEL = 0.001
CLOSE = 4.0  # standard errors


def risk_limit(losses: np.ndarray, largest: float, delta: float) -> float:
    """Upper limit of the mean of losses in [0, largest], at confidence 1 − delta: the empirical Bernstein bound.

    mean + √(2 V ln(2/δ)/N) + 7 B ln(2/δ)/(3(N − 1)), V the sample variance (Maurer and Pontil 2009, Theorem 4).
    """
    n, log_term = len(losses), math.log(2 / delta)
    spread = math.sqrt(2 * float(losses.var(ddof=1)) * log_term / n)
    return float(losses.mean()) + spread + 7 * largest * log_term / (3 * (n - 1))


@dataclass(frozen=True, eq=False)
class Sample:
    """Rows on which a classifier is judged, and what is known of their labels.

    Parameters
    ----------
    logits : ndarray, shape (n, C)
        Its scores.
    y : ndarray, shape (n,)
        Labels as they were observed.
    conditional : ndarray, shape (n, C), optional
        True probabilities of the classes in each row.
    noise : float, optional
        Probability with which a certain label was replaced by another one, uniformly.
    y_clean : ndarray, shape (n,), optional
        Labels before that.
    floor : float
        Share of the uniform distribution mixed into the stated probabilities, so that losses are bounded.
    """

    logits: np.ndarray
    y: np.ndarray
    conditional: np.ndarray | None = None
    noise: float | None = None
    y_clean: np.ndarray | None = None
    floor: float = 1e-3

    @property
    def n_classes(self) -> int:
        """Number of the model's outputs."""
        return self.logits.shape[1]

    def losses(self, tau: float) -> np.ndarray:
        """Loss of each row: over its label, or its mean over labels where their probabilities are known."""
        logs = mixed_log(self.logits, self.floor)
        if self.conditional is not None:
            return expected_loss(logs, self.conditional, tau)
        return loss_of_log(picked(logs, self.y), tau)

    def best(self, tau: float) -> np.ndarray:
        """Least mean loss of each row, by any scores; 0 where nothing is known of the labels' noise."""
        if self.conditional is not None:
            return best_conditional_risk(self.conditional, tau)
        return np.full(
            len(self.y), 0.0 if self.noise is None else noise_risk(self.noise, self.n_classes, tau)
        )

    def least_error(self) -> np.ndarray:
        """Bayes error of each row, 0 where it is not known."""
        if self.conditional is not None:
            return 1 - self.conditional.max(axis=1)
        return np.full(len(self.y), self.noise or 0.0)

    def excess_error(self) -> np.ndarray | None:
        """Probability that a row's best class is right, less that of the predicted class, where it is known."""
        predicted = self.logits.argmax(axis=1)
        if self.conditional is not None:
            return self.conditional.max(axis=1) - picked(self.conditional, predicted)
        if self.noise is not None and self.y_clean is not None:
            return (1 - self.noise - self.noise / (self.n_classes - 1)) * (
                predicted != self.y_clean
            )
        return None

    def measured(self, level: float) -> Estimate | None:
        """Mean excess error with its interval."""
        excess = self.excess_error()
        if excess is None:
            return None
        if self.conditional is not None:
            found = mean(excess, level=level)
            return Estimate(
                found.value, max(0.0, found.low), found.high, level, found.n, found.method
            )
        scale = 1 - (self.noise or 0) * self.n_classes / (self.n_classes - 1)
        rate = proportion(int((excess > 0).sum()), len(excess), level=level)
        return Estimate(
            scale * rate.value, scale * rate.low, scale * rate.high, level, rate.n, rate.method
        )

    def largest(self, tau: float) -> float:
        """Largest loss that the floor allows."""
        return float(loss_of_log(math.log(self.floor / self.n_classes), tau))

    def bounds(self, tau: float, delta: float, kind: Kind) -> dict[str, float]:
        """Risk, its limit, the best risk, and both bounds of the excess error."""
        losses, best = self.losses(tau), self.best(tau)
        excess = risk_limit(
            losses - best, self.largest(tau), delta
        )  # at least −best, at most the largest loss apart
        elementary = risk_limit(losses, self.largest(tau), delta) / float(
            loss_of_log(math.log(0.5), tau)
        )
        return {
            "risk": float(losses.mean()),
            "best_risk": float(best.mean()),
            "excess_limit": excess,
            "bound": float(inverse_transform(max(0.0, excess), tau, self.n_classes, kind)),
            "elementary": min(1.0, elementary - float(self.least_error().mean())),
        }


def assumptions(sample: Sample, *, distinct: bool, excess_limit: float) -> tuple[Assumption, ...]:
    """A1 independent rows that were not trained on; A2 what is said of the labels' noise."""
    return _independent(sample, distinct), _source(sample, excess_limit)


def _independent(sample: Sample, distinct: bool) -> Assumption:
    statement = "rows are independent draws that did not train the model"
    rows = np.ascontiguousarray(np.column_stack([sample.logits, sample.y]))
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    copies = len(keys) - len(np.unique(keys))
    if distinct and copies > DUPLICATES * len(keys):
        return violated(
            statement,
            f"{copies} of {len(keys)} rows repeat another one",
            "drop copies, or say distinct=False if inputs are discrete and repeat by themselves",
        )
    return unchecked(
        statement, f"{copies} repeated rows; logits alone do not show what they were trained on"
    )


def _source(sample: Sample, excess_limit: float) -> Assumption:
    n, classes = sample.logits.shape
    if sample.conditional is not None:
        statement = "the given probabilities of the classes are those that labels were drawn with"
        P = picked(sample.conditional, sample.y)
        if (P <= 0).any():
            return violated(statement, f"row {int(P.argmin())} has a label of probability 0")
        surprise = -np.log(P) - best_conditional_risk(sample.conditional, 1.0)
        error = float(surprise.std(ddof=1)) / math.sqrt(n)
        off = abs(float(surprise.mean())) / error if error > 0 else 0.0
        evidence = f"labels are {off:.1f} standard errors from as likely as they should be"
        return violated(statement, evidence) if off > CLOSE else met(statement, evidence)
    if sample.noise is not None:
        statement = (
            "each label was replaced with the stated probability, by one of the others uniformly"
        )
        if excess_limit < 0:
            return violated(
                statement,
                f"the risk is {-excess_limit:.3g} below the least that such noise allows, surely",
            )
        if sample.y_clean is None:
            return unchecked(statement, "y_clean was not given")
        shift = np.bincount((sample.y - sample.y_clean) % classes, minlength=classes)
        expected = n * np.r_[1 - sample.noise, np.full(classes - 1, sample.noise / (classes - 1))]
        if sample.noise == 0:
            return (met if shift[0] == n else violated)(statement, f"{n - shift[0]} labels differ")
        p = float(chisquare(shift, expected).pvalue)
        evidence = f"{1 - shift[0] / n:.4g} of the labels differ, χ² p = {p:.2g}"
        return violated(statement, evidence) if p < FLIP_LEVEL else met(statement, evidence)
    return met("the least possible risk is taken as 0", "which it is never below: valid and weak")


def consistency(
    sample: Sample,
    tau: float,
    delta: float,
    kind: Kind,
    known: tuple[Assumption, ...],
    values: dict[str, float],
) -> Certificate:
    """The certificate ``h-consistency``."""
    inputs: dict[str, Any] = {
        "rows": len(sample.y),
        "classes": sample.n_classes,
        "tau": tau,
        "risk": values["risk"],
        "least possible risk": values["best_risk"],
        "limit of the excess risk": values["excess_limit"],
        "elementary bound": values["elementary"],
        "transform": kind,
        "floor": sample.floor,
    }
    return undeclared(
        "h-consistency",
        "the error of the predictions, less that of the best classifier there is, is at most what the excess of the risk over the "
        "least possible one allows",
        f"{PAPER}, all measurable functions; empirical Bernstein limit of the risk"
        + ("" if kind == "paper" else "; transformation derived here"),
        "<=",
        values["bound"],
        1 - delta,
        sample.measured(1 - delta),
        trivial=values["elementary"],
        assumptions=known + _sharpness(kind, tau, sample.n_classes),
        inputs=inputs,
        needs="pass conditional, or noise with y_clean, to measure the excess error",
        remedy="with almost certain labels the elementary bound, error ≤ risk/ℓ(½), is the better one and is printed; with noisy "
        "labels say how noisy they are (noise or conditional), or try another tau.",
    )


def pointwise(sample: Sample, tau: float, kind: Kind, known: tuple[Assumption, ...]) -> Certificate:
    """The certificate ``pointwise``: row by row before the mean is taken, where the probabilities are known."""
    regret = np.maximum(sample.losses(tau) - sample.best(tau), 0)
    excess = sample.excess_error()
    assert excess is not None
    return undeclared(
        "pointwise",
        "on these rows, the mean excess error is at most the mean of what each row's excess risk allows",
        f"{PAPER}, before Jensen's inequality",
        "<=",
        float(np.mean(inverse_transform(regret, tau, sample.n_classes, kind))),
        1.0,
        exact(float(excess.mean())),
        trivial=1.0,
        assumptions=known[1:] + _sharpness(kind, tau, sample.n_classes),
        inputs={"rows": len(sample.y), "tau": tau, "transform": kind},
        remedy="try another tau.",
    )


def _sharpness(kind: Kind, tau: float, classes: int) -> tuple[Assumption, ...]:
    if kind == "paper" or not 1 < tau < 2 or classes == 2:
        return ()
    statement = "no distribution has less regret than those searched"
    return (
        unchecked(statement, "none was found among thousands drawn at random; there is no proof"),
    )
