"""Which answers leave: erased at random, swapped at random, filtered, and how strongly for a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np

from whp.llm._information_censorship.leakage import (
    Measure,
    TooMany,
    adaptive,
    cells,
    leakage,
    plain,
    subset_terms,
)
from whp.llm._information_censorship.system import System
from whp.validate import as_array

__all__ = [
    "Calibrate",
    "Censor",
    "any_prior",
    "calibrated",
    "filters",
    "given",
    "leaked",
    "output",
    "universal_bound",
]

Calibrate = Literal["universal", "answers", "exact"]
STEPS = 60


@dataclass(frozen=True)
class Censor:
    """How answers are censored.

    Parameters
    ----------
    name : {"erase", "krr"}
        Returned with probability p, else nothing; or swapped for another response, e^η times as likely kept as each other.
    k : int
        Interactions that are allowed.
    eps : float
        Budget in nats.
    strength : float
        p in [0, 1], or η in [0, ∞].
    ceiling : float
        H, what nobody can gain beyond who learns the answer itself, largest over the adversary's priors.
    mass : float
        P of the impermissible answers, largest over the priors.
    kind : str
        "expected", "worst", "exponential" or "pointwise".
    lam : float
        λ of the exponential leakage.
    moment : float
        M of the exponential leakage, largest over the priors.
    """

    name: str
    k: int
    eps: float
    strength: float
    ceiling: float
    mass: float = 1.0
    kind: str = "expected"
    lam: float = 1.0
    moment: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is no censor: every bound rests on these numbers."""
        if self.name not in ("erase", "krr"):
            raise ValueError(f"name must be 'erase' or 'krr', got {self.name!r}")
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")
        top = 1.0 if self.name == "erase" else math.inf
        if not 0 <= self.strength <= top:
            raise ValueError(f"strength must be in [0, {top}], got {self.strength}")
        for name in ("eps", "ceiling", "mass"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def bound(self) -> float:
        """What k answers can leak at most, whatever the system that answers."""
        return universal_bound(self, self.strength)

    def matrix(self, size: int) -> np.ndarray:
        """P(returned | response), shape (Y, Y + 1) with silence last for "erase", (Y, Y) for "krr"."""
        if self.name == "erase":
            silent = np.full((size, 1), 1 - self.strength)
            return np.hstack([self.strength * np.eye(size), silent])
        if size == 1 or self.strength == math.inf:
            return np.eye(size)
        swapped = math.exp(-self.strength)  # in this form it never overflows
        return (np.eye(size) * (1 - swapped) + swapped) / (1 + (size - 1) * swapped)


def answered_once(p: float, k: int) -> float:
    """1 − (1 − p)^k without cancellation."""
    return -math.expm1(k * math.log1p(-p)) if p < 1 else 1.0


def universal_bound(c: Censor, strength: float) -> float:
    """T2 and T3: (1 − (1 − p)^k) H for erasure; P(A) k η tanh(η/2) for swapping, kη where no mean is taken."""
    if c.name == "erase":
        once = answered_once(strength, c.k)
        if c.kind == "exponential":
            return math.log1p(once * (c.moment - 1)) / c.lam
        return once * c.ceiling
    total = c.k * strength
    if c.kind == "expected" and strength < math.inf:
        total *= c.mass * math.tanh(strength / 2)
    return min(total, c.ceiling)


def any_prior(answers: int, inside: int) -> float:
    """sup over all priors of Σ_A P ln 1/P: ln m for all m answers; else |A|/e for one or two, ln |A| for more."""
    if inside == answers:
        return math.log(answers)
    return inside / math.e if inside <= 2 else math.log(inside)


def output(system: System, matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """P(returned | world) of each question, shape (W, Z_j)."""
    return [m[c] if c.ndim == 1 else c @ m for c, m in zip(system.channels, matrices, strict=True)]


def leaked(
    system: System, matrices: Sequence[np.ndarray], k: int, measure: Measure, most: int
) -> float:
    """Exact leakage of the best adaptive choice of k of the J questions, from the laws of what is returned.

    Raises
    ------
    ValueError
        If there are more histories than `most`.
    """
    merged = system.merged()
    channels = output(merged, matrices)
    J = len(channels)
    sizes = [c.shape[1] for c in channels]
    sets = list(combinations(range(J), k)) if math.comb(J, k) <= most else []
    total = sum(math.prod(sizes[j] for j in T) for T in sets) if sets else math.inf
    if total > most:
        raise TooMany(f"max_cells: {total:,} histories are more than {most:,}")
    if k == J:
        return leakage(merged, channels, measure)
    if measure.truth == "worst":
        raise ValueError("k must be the number of questions with truth='worst'")
    tables = {
        T: cells(merged, [channels[j] for j in T], measure).reshape([sizes[j] for j in T])
        for T in sets
    }
    return adaptive(tables, J, measure)


def filters(system: System, how: Measure, most_each: float, most: int) -> list[np.ndarray]:
    """Every question answered as it is, or never."""
    passed = [
        plain(system.only([j]), how, most) <= most_each * (1 + 1e-9) + 1e-12
        for j in range(len(system.sizes))
    ]
    return [
        np.eye(s) if ok else np.ones((s, 1)) for s, ok in zip(system.sizes, passed, strict=True)
    ]


def given(mechanism: Sequence[Any], system: System) -> list[np.ndarray]:
    matrices = [
        np.asarray(as_array(m, f"mechanism[{j}]"), dtype=np.float64)
        for j, m in enumerate(mechanism)
    ]
    if len(matrices) != len(system.sizes):
        raise ValueError(
            f"mechanism must have a matrix a question ({len(system.sizes)}), got {len(matrices)}"
        )
    for j, (matrix, size) in enumerate(zip(matrices, system.sizes, strict=True)):
        if matrix.ndim != 2 or matrix.shape[0] != size:
            raise ValueError(
                f"mechanism[{j}] must have a row a response ({size}), got shape {matrix.shape}"
            )
        if (
            not np.isfinite(matrix).all()
            or (matrix < 0).any()
            or np.abs(matrix.sum(axis=1) - 1).max() > 1e-6
        ):
            raise ValueError(f"mechanism[{j}] must have rows of probabilities that sum to 1")
        matrices[j] = matrix / matrix.sum(axis=1, keepdims=True)
    return matrices


def calibrated(
    censor: Censor, systems: Sequence[System], measure: Measure, how: Calibrate, most: int
) -> Censor:
    """The censor with the largest strength that keeps to the budget.

    Raises
    ------
    ValueError
        If the calibration cannot be made.
    """
    if how == "universal":
        return replace(censor, strength=_universal(censor))
    if how == "answers":
        if (
            censor.name != "erase" or censor.kind != "expected"
        ):  # others need not grow with what is heard
            raise ValueError(
                "calibrate must be 'universal' or 'exact' but for expected leakage through erasure"
            )
        most_learnt = max(plain(s, measure, most) for s in systems)
        return replace(censor, strength=_universal(replace(censor, ceiling=max(most_learnt, 0.0))))
    within = _evaluator(censor, systems, measure, most)
    top = 1.0 if censor.name == "erase" else 64.0
    if within(1.0 if censor.name == "erase" else math.inf) <= censor.eps:
        return replace(censor, strength=1.0 if censor.name == "erase" else math.inf)
    low, high = 0.0, top
    for _ in range(STEPS):  # the lower end keeps to the budget
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle) <= censor.eps else (low, middle)
    return replace(censor, strength=low)


def _universal(c: Censor) -> float:
    if c.name == "erase":
        if c.kind == "exponential":
            # Beyond the ceiling the exponential would overflow.
            share = (
                1.0
                if c.moment <= 1 or c.eps >= c.ceiling
                else math.expm1(c.lam * c.eps) / (c.moment - 1)
            )
        else:
            share = 1.0 if c.ceiling <= 0 else c.eps / c.ceiling
        return 1.0 if share >= 1 else -math.expm1(math.log1p(-share) / c.k)
    if c.eps >= c.ceiling:
        return math.inf
    if c.kind != "expected":
        return c.eps / c.k
    low, high = 0.0, 1.0
    while c.mass * c.k * high * math.tanh(high / 2) < c.eps:
        high *= 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        kept = c.mass * c.k * middle * math.tanh(middle / 2) <= c.eps
        low, high = (middle, high) if kept else (low, middle)
    return low


def _evaluator(
    c: Censor, systems: Sequence[System], measure: Measure, most: int
) -> Callable[[float], float]:
    """Leakage as a function of the strength, largest over the priors."""
    J = len(systems[0].sizes)
    histories = math.prod(s + 1 for s in systems[0].sizes)
    if (
        c.name == "erase"
        and measure.kind == "expected"
        and measure.truth == "average"
        and histories <= most
    ):
        tables = [subset_terms(s, measure) for s in systems]
        if c.k == J:
            # Σ_S p^{|S|} (1 − p)^{J − |S|} L(S): a polynomial whose coefficients are added up once.
            sums = [np.bincount(n.ravel(), t.ravel(), J + 1) for t, n in tables]
            return lambda p: max(float(s @ _weights(p, J)) for s in sums)
        return lambda p: max(_adaptive_erased(t, n, c.k, p, measure) for t, n in tables)

    def of(strength: float) -> float:
        matrices = [replace(c, strength=strength).matrix(size) for size in systems[0].sizes]
        try:
            return max(leaked(s, matrices, c.k, measure, most) for s in systems)
        except TooMany as error:
            raise ValueError(f"{error}; calibrate='answers' or 'universal' needs fewer") from None

    return of


def _weights(p: float, k: int) -> np.ndarray:
    n = np.arange(k + 1)
    return p**n * (1 - p) ** (k - n)


def _adaptive_erased(
    terms: np.ndarray, answered: np.ndarray, k: int, p: float, measure: Measure
) -> float:
    J, weights = terms.ndim, _weights(p, k)
    tables = {}
    for T in combinations(range(J), k):
        place = tuple(slice(None) if j in T else -1 for j in range(J))
        tables[T] = terms[place] * weights[answered[place]]
    return adaptive(tables, J, measure)
