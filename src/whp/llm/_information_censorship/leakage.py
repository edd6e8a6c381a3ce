"""Impermissible information leakage of histories of responses, exactly or by sampling. All logarithms are natural."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy.special import rel_entr

from whp.concentration import empirical_bernstein
from whp.intervals import Estimate
from whp.llm._information_censorship.system import System

__all__ = [
    "Kind",
    "Measure",
    "TooMany",
    "Truth",
    "adaptive",
    "leakage",
    "sampled",
    "subset_terms",
    "tensor",
]

Kind = Literal["expected", "pointwise", "exponential"]
Truth = Literal["average", "worst"]
BLOCK = 1 << 22  # entries of a table of worlds and half-histories
KEPT = 1 << 23  # entries of conditional laws that are held at once
IMPOSSIBLE = -1e4  # logarithm of no probability, finite so that products with zeros are zero
SMALLEST = -700.0  # logarithm of what is still a normal number
LARGEST = 600.0  # exponent that a double still holds


class TooMany(ValueError):
    """More histories than max_cells."""


@dataclass(frozen=True)
class Measure:
    """How the gain of an adversary is counted.

    Parameters
    ----------
    mask : ndarray of bool, shape (m,)
        The impermissible answers.
    kind : {"expected", "pointwise", "exponential"}
        Mean of Σ p(a|h) ln p(a|h)/p(a), largest ln p(a|h)/p(a), or (1/λ) ln E exp λ ln p(a|h)/p(a).
    truth : {"average", "worst"}
        Whether the mean is over the prior or in the worst world.
    lam : float
        λ of the exponential one.
    """

    mask: np.ndarray
    kind: Kind = "expected"
    truth: Truth = "average"
    lam: float = 1.0

    @property
    def largest(self) -> bool:
        """Whether histories are joined by their maximum, not by their sum."""
        return self.kind == "pointwise"

    def ceiling(self, P: np.ndarray) -> float:
        """What nobody can exceed who learns the answer itself, for probabilities P of the answers."""
        p = P[self.mask & (P > 0)]
        if not p.size:
            return 0.0
        if self.kind == "pointwise" or self.truth == "worst":
            return max(float(-np.log(p.min())), 0.0)
        if self.kind == "exponential":
            return max(math.log(self.moment(P)) / self.lam, 0.0)
        return max(float(-(p * np.log(p)).sum()), 0.0)

    def moment(self, P: np.ndarray) -> float:
        """M = 1 − P(A) + Σ_A P(a)^{1−λ}, the exponential moment of whoever learns the answer."""
        p = P[self.mask & (P > 0)]
        if -self.lam * math.log(p.min(initial=1.0)) > LARGEST:
            raise ValueError(
                f"lam must be smaller where an answer has probability {p.min():.3g}, got {self.lam}"
            )
        return float(1 - p.sum() + (p ** (1 - self.lam)).sum())

    def finish(self, joined: float) -> float:
        """The leakage from the sum, or maximum, over histories."""
        return math.log(joined) / self.lam if self.kind == "exponential" else joined

    def join(self, cells: np.ndarray, axis: int | None = None) -> Any:
        """Histories into one."""
        return cells.max(axis=axis) if self.largest else cells.sum(axis=axis)


def tensor(weights: np.ndarray, channels: Sequence[np.ndarray]) -> np.ndarray:
    """Σ_s w_s ∏ C_j[s, h_j] of every history, shape (ΠY_j,): one product of two half-histories, by blocks of worlds."""
    sizes = [c.shape[1] for c in channels]
    middle = _middle(sizes)
    left, right = math.prod(sizes[:middle]), math.prod(sizes[middle:])
    total = np.zeros((left, right))
    step = max(1, BLOCK // max(left, right, 1))
    for start in range(0, len(weights), step):
        part = slice(start, start + step)
        first = _rows([c[part] for c in channels[:middle]], len(weights[part]))
        second = _rows([c[part] for c in channels[middle:]], len(weights[part]))
        total += (first * weights[part, None]).T @ second
    return total.ravel()


def _middle(sizes: Sequence[int]) -> int:
    """Where to cut so that both halves have about as many histories."""
    logs = np.cumsum([0.0, *np.log(sizes)])
    return int(np.argmin(np.abs(logs - logs[-1] / 2)))


def _rows(channels: Sequence[np.ndarray], worlds: int) -> np.ndarray:
    """P(history | world), shape (W, ΠY_j)."""
    made = np.ones((worlds, 1))
    for channel in channels:
        made = (made[:, :, None] * channel[:, None, :]).reshape(worlds, -1)
    return made


def cells(system: System, channels: Sequence[np.ndarray], measure: Measure) -> np.ndarray:
    """What each history contributes, shape (ΠY_j,), for channels (W, Y_j) that need not sum to 1.

    With conditional laws Q_a = P(h | a) and their mixture R: Σ_A P(a) Q_a ln Q_a/R; conditional, so that probabilities of
    1e-300 lose nothing.
    """
    if measure.largest:
        smallest = [c.min(where=c > 0, initial=1.0) for c in channels]
        if float(np.log([*smallest, system.prior.min()]).sum()) < SMALLEST:
            raise ValueError(
                "kind='pointwise' needs histories that are likelier than 1e-304: rarer ones are 0 in floating point, and "
                "the worst may be among them"
            )
    P = system.probabilities
    there = np.flatnonzero(P > 0)
    inside = there[measure.mask[there]]
    if len(there) * math.prod(c.shape[1] for c in channels) <= KEPT:
        laws = _laws(system, channels, P, there)
        R = P[there] @ laws
        made = _contributed(P[inside], laws[measure.mask[there]], R, measure)
    else:
        R = tensor(system.prior, channels)
        made = np.full(R.shape, -np.inf if measure.largest else 0.0)
        for a in inside.tolist():
            more = _contributed(P[[a]], _laws(system, channels, P, np.array([a])), R, measure)
            made = np.maximum(made, more) if measure.largest else made + more
    return made + R if measure.kind == "exponential" else made


def _laws(
    system: System, channels: Sequence[np.ndarray], P: np.ndarray, answers: np.ndarray
) -> np.ndarray:
    """P(h | a) of these answers, shape (len(answers), ΠY_j)."""
    size = math.prod(c.shape[1] for c in channels)
    # Few worlds an answer: all histories of all worlds at once; else a product of halves each.
    if len(answers) > 1 and len(system.prior) <= min(16 * len(answers), KEPT // size):
        order = np.argsort(system.answer, kind="stable")
        sorted_answers = system.answer[order]
        rows = _rows([c[order] for c in channels], len(order))
        rows *= (system.prior[order] / P[sorted_answers])[:, None]
        return np.add.reduceat(rows, np.searchsorted(sorted_answers, answers), axis=0)
    made = []
    for a in answers.tolist():
        here = system.answer == a
        made.append(tensor(system.prior[here] / P[a], [c[here] for c in channels]))
    return np.stack(made)


def _contributed(P: np.ndarray, laws: np.ndarray, R: np.ndarray, measure: Measure) -> np.ndarray:
    """Of these impermissible answers to each history; of the exponential leakage without R."""
    if not len(P):
        return np.full(R.shape, -np.inf if measure.largest else 0.0)
    ratio = np.divide(laws, R, out=np.zeros_like(laws), where=R > 0)
    if measure.kind == "expected":
        np.log(ratio, out=ratio, where=ratio > 0)
        ratio *= laws
        return P @ ratio
    with np.errstate(divide="ignore"):
        ratio = np.log(ratio)
    if measure.largest:
        return ratio.max(axis=0)
    return P @ (laws * np.expm1(measure.lam * np.maximum(ratio, -LARGEST)))


def leakage(system: System, channels: Sequence[np.ndarray], measure: Measure) -> float:
    """Leakage of the responses to all questions together; `channels` (W, Z_j) in place of the system's own."""
    if measure.truth == "worst":
        return _worst(system, channels, measure)
    if not channels:
        return 0.0
    made = cells(system, channels, measure)
    return measure.finish(float(measure.join(made)))


def _worst(system: System, channels: Sequence[np.ndarray], measure: Measure) -> float:
    """max_s Σ_h P(h|s) Σ_A p(a|h) ln p(a|h)/p(a)."""
    R = tensor(system.prior, channels)
    gain = np.divide(cells(system, channels, measure), R, out=np.zeros_like(R), where=R > 0)
    sizes = [c.shape[1] for c in channels]
    middle = _middle(sizes)
    gain = gain.reshape(math.prod(sizes[:middle]), -1)
    best, step = -math.inf, max(1, BLOCK // max(gain.shape))
    for start in range(0, len(system.prior), step):
        part = slice(start, start + step)
        size = len(system.prior[part])
        first = _rows([c[part] for c in channels[:middle]], size) @ gain
        second = _rows([c[part] for c in channels[middle:]], size)
        best = max(best, float((first * second).sum(axis=1).max()))
    return best


def plain(system: System, measure: Measure, most: int) -> float:
    """Leakage of the uncensored responses; of worlds with one response each also where histories outnumber `most`."""
    if math.prod(system.sizes) <= most or not system.deterministic or measure.truth == "worst":
        if math.prod(system.sizes) > most:
            raise TooMany(
                f"max_cells: {math.prod(system.sizes):,} histories are more than {most:,}; calibrate='universal' needs none"
            )
        merged = system.merged()
        return leakage(merged, [merged.dense(j) for j in range(len(merged.sizes))], measure)
    merged = system.merged()
    P, Q = system.probabilities, merged.prior
    _, history = np.unique(np.column_stack(merged.channels), axis=0, return_inverse=True)
    R = np.bincount(history.ravel(), Q)[history.ravel()]
    ratio = np.log(Q) - np.log(P[merged.answer]) - np.log(R)
    inside = measure.mask[merged.answer]
    if measure.kind == "pointwise":
        return float(ratio[inside].max(initial=-math.inf))
    if measure.kind == "exponential":
        return math.log(float((Q * np.exp(measure.lam * ratio * inside)).sum())) / measure.lam
    return float((Q * ratio)[inside].sum())


def subset_terms(system: System, measure: Measure) -> tuple[np.ndarray, np.ndarray]:
    """Contributions of all histories of all subsets of the questions at once, and how many answers each holds.

    Every channel gets one more column of ones, "not answered", so that one tensor holds all marginals.

    Returns
    -------
    terms : ndarray, shape (Y_1 + 1, …, Y_J + 1)
        The last place of an axis is the question left out.
    answered : ndarray of int, same shape
        Number of questions that are answered.
    """
    merged = system.merged()
    ones = np.ones((len(merged.prior), 1))
    channels = [np.hstack([merged.dense(j), ones]) for j in range(len(merged.sizes))]
    shape = tuple(s + 1 for s in merged.sizes)
    terms = cells(merged, channels, measure).reshape(shape)
    answered = np.zeros(shape, dtype=np.int64)
    for j, size in enumerate(merged.sizes):
        place = [1] * len(shape)
        place[j] = size + 1
        answered += (np.arange(size + 1) < size).astype(np.int64).reshape(place)
    return terms, answered


def subsets(terms: np.ndarray) -> dict[tuple[int, ...], float]:
    """Expected leakage of every set of questions from :func:`subset_terms`."""
    J = terms.ndim
    folded = terms
    for j in range(J):  # answered or not: two places an axis
        folded = np.stack(
            [folded.take(range(folded.shape[j] - 1), axis=j).sum(axis=j), folded.take(-1, axis=j)],
            axis=j,
        )
    return {
        S: float(folded[tuple(0 if j in S else 1 for j in range(J))])
        for size in range(J + 1)
        for S in combinations(range(J), size)
    }


def adaptive(tables: dict[tuple[int, ...], np.ndarray], J: int, measure: Measure) -> float:
    """What the best adversary gains who chooses each next question by the responses so far.

    Parameters
    ----------
    tables : dict of tuple of int to ndarray
        For every set of k questions, in rising order, the contributions of all histories, an axis a question.
    J : int
        Questions there are.
    measure : Measure
        How histories are joined.
    """
    k = len(next(iter(tables)))
    for size in range(k - 1, -1, -1):
        tables = {
            T: np.maximum.reduce(
                [
                    measure.join(tables[tuple(sorted((*T, j)))], axis=sorted((*T, j)).index(j))
                    for j in range(J)
                    if j not in T
                ]
            )
            for T in combinations(range(J), size)
        }
    return measure.finish(float(tables[()]))


def sampled(
    system: System,
    channels: Sequence[np.ndarray],
    measure: Measure,
    n: int,
    delta: float,
    rng: np.random.Generator,
) -> Estimate:
    """Expected leakage by `n` histories with their exact posteriors, and an interval that holds at every n.

    Not the normal interval: where rare answers carry the leakage, it covers in half of the runs.
    """
    P = system.probabilities
    worlds = rng.choice(len(system.prior), size=n, p=system.prior)
    values = np.zeros(n)
    order = np.argsort(system.answer, kind="stable")
    starts = np.searchsorted(system.answer[order], np.arange(len(P)))
    there = np.flatnonzero(P > 0)
    step = max(1, BLOCK // len(system.prior))
    with np.errstate(divide="ignore"):
        tables = np.maximum(np.log(np.hstack(list(channels))), IMPOSSIBLE).T  # (ΣZ, W)
    offsets = np.cumsum([0, *(c.shape[1] for c in channels[:-1])])
    for first in range(0, n, step):
        at = worlds[first : first + step]
        told = np.zeros((len(at), len(tables)))
        for channel, offset in zip(channels, offsets, strict=True):
            drawn = (channel[at].cumsum(axis=1) < rng.random((len(at), 1))).sum(axis=1)
            drawn = np.minimum(drawn, channel.shape[1] - 1)
            told[np.arange(len(at)), offset + drawn] = 1
        logs = told @ tables
        joint = np.exp(logs - logs.max(axis=1, keepdims=True)) * system.prior
        sums = np.add.reduceat(joint[:, order], starts[there], axis=1)
        after = sums / sums.sum(axis=1, keepdims=True)
        wanted = measure.mask[there]
        values[first : first + step] = rel_entr(after, P[there])[:, wanted].sum(axis=1)
    # Answers of no probability leave nothing to gain, but an interval wants a width.
    inside = P[measure.mask & (P > 0)]
    low, high = -float(inside.sum()) / math.e, max(float(-np.log(inside.min(initial=1.0))), 1e-12)
    return empirical_bernstein(np.clip(values, low, high), delta, low=low, high=high)
