"""What is promised of learners on average, and of every solve beforehand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from whp.certificate import Answer, Certificate
from whp.intervals import Estimate
from whp.theorem import AT_MOST, ON_AVERAGE, THIS_RUN, Condition, Derived, Theorem

__all__ = [
    "COSTS",
    "ITERATION_BOUND",
    "NO_WORSE",
    "OBLIVIOUS",
    "POSITIVE_DEFINITE",
    "RANGE_KNOWN",
    "REGRET",
    "REGRET_PER_BIN",
    "REGRET_PER_SYSTEM",
    "SYMMETRIC",
    "THEOREMS",
    "TOL_REACHABLE",
    "WORST_CASE",
    "Counted",
    "Regret",
    "iteration_bound",
    "no_worse",
    "regret",
    "worst_case",
    "worst_case_regret",
]

PAPER = "Khodak, Chow, Balcan & Talwalkar 2024"

OBLIVIOUS = Condition(
    "oblivious",
    "neither the systems nor what each ω costs on them depend on which ω was chosen before",
    remedy="fix the systems beforehand and solve each from zero, or do not rely on regret.",
)
COSTS = Condition(
    "costs",
    "every cost counts the iterations of a solve that converged, or that was rescued",
    remedy="a larger cap, or fallback='cg'; systems that nothing solves have no cost to learn from.",
)
RANGE_KNOWN = Condition(
    "range-known",
    "the scale of the rate was set beforehand and is no less than any count less 1",
    remedy="rate='fixed:' with the largest count that any ω of the grid can need, less 1.",
)
SYMMETRIC = Condition(
    "symmetric",
    "every matrix is symmetric, but for rounding",
    remedy="no count is bounded for such matrices; SOR may still be used, SSOR-CG may not.",
)
POSITIVE_DEFINITE = Condition(
    "positive-definite",
    "every matrix is positive definite",
    remedy="SOR and conjugate gradients are for definite matrices: use another solver.",
)
TOL_REACHABLE = Condition(
    "tol-reachable",
    "rounding lets residuals fall to the tolerance",
    remedy="a larger tol: residuals cannot fall below rounding times the condition of A.",
)

AUDIT = (
    "all counts: audit=1 runs every ω on every system, cold, and replays the learner on the table; "
    "replay_counts does so on a table of your own."
)
MORE = (
    "one run says nothing certain of an expectation: audit=1 replays the learner on all counts. Where "
    "it was replayed, more systems: the bound grows like their root, what any choice costs like their number."
)

REGRET = Theorem(
    "regret",
    claim="expected iterations above those of the best fixed ω of the grid in hindsight are at most the expectation of "
    "Σ 2(R_t − R_(t−1))(Σ√p − 1) + Σ (c − 1)²/(R_t √p_I)",
    quantity="expected iterations above those of the best fixed ω",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived("learning-to-relax#second-order", extends="Zimmert & Seldin 2021"),
    conditions=(OBLIVIOUS, COSTS),
    needs=AUDIT,
    remedy=MORE,
)
REGRET_PER_BIN = REGRET.variant(
    name="regret-per-bin",
    claim="expected iterations above those of the best ω of the grid in each bin of the context are at most the sum over "
    "bins of the expectation of Σ 2(R_t − R_(t−1))(Σ√p − 1) + Σ (c − 1)²/(R_t √p_I)",
    quantity="expected iterations above those of the best ω of each bin",
    source=Derived("learning-to-relax#bins", extends="Zimmert & Seldin 2021"),
)
REGRET_PER_SYSTEM = REGRET.variant(
    name="regret-per-system",
    claim="expected iterations above those of the best ω of the grid for every single system are at most the "
    "expectation of Σ min(range of its counts, s·(a/η + (η/4)·Σp·(error of prediction/s)²))",
    quantity="expected iterations above those of each system's own best ω",
    source=Derived("learning-to-relax#inverse-gaps", extends="Foster & Rakhlin 2020"),
    remedy="with the authors' exploration, whose η grows with the rounds, the bound is seldom better than the "
    "range of the counts; the measured regret beside it stands.",
)
NO_WORSE = Theorem(
    "no-worse-than-fixed",
    claim="on average over its own draws the learner takes no more iterations than the best fixed ω of the grid in hindsight",
    quantity="expected iterations a system",
    relation=AT_MOST,
    scope=ON_AVERAGE,
    source=Derived("learning-to-relax#replays", extends="Waudby-Smith & Ramdas 2024"),
    conditions=(OBLIVIOUS, COSTS),
    needs="more replays, which narrow the interval.",
    remedy="few systems for so many ω, or contexts that say little of what ω costs: a smaller grid, or tsallis.",
)
WORST_CASE = REGRET.variant(
    name="regret-worst-case",
    claim="expected iterations above those of the best fixed ω of the grid are at most K(4√(dT) + 1), K the scale of the rate",
    source="Zimmert & Seldin 2021, Theorem 1",
    conditions=(OBLIVIOUS, COSTS, RANGE_KNOWN),
    remedy="the largest count decides it: a cap, or a grid without the slow ω.",
)
ITERATION_BOUND = Theorem(
    "iteration-bound",
    claim="no solve takes more iterations than was computed for it beforehand from its matrix, ω and tol",
    quantity="largest share of its bound that a solve took",
    relation=AT_MOST,
    scope=THIS_RUN,
    source=Derived("learning-to-relax#counts", extends=f"{PAPER}; Axelsson 1994, Theorem 7.17"),
    conditions=(SYMMETRIC, POSITIVE_DEFINITE, TOL_REACHABLE),
    needs="strictly dominant systems, or up to 400 unknowns; and a cap above the bounds.",
    remedy="the cap ends every solve before its bound is of use; or rounding, of ill-conditioned systems.",
)
THEOREMS = (REGRET, REGRET_PER_BIN, REGRET_PER_SYSTEM, NO_WORSE, WORST_CASE, ITERATION_BOUND)
OF_LEARNER = {"tsallis": REGRET, "tsallis-cb": REGRET_PER_BIN, "chebcb": REGRET_PER_SYSTEM}


def worst_case_regret(arms: int, rounds: int, K: float) -> float:
    """K(4√(dT) + 1), for costs between 1 and K + 1 known beforehand."""
    return K * (4 * math.sqrt(arms * rounds) + 1)


@dataclass(frozen=True)
class Regret:
    """What is known of an expected regret.

    Parameters
    ----------
    learner : {"tsallis", "tsallis-cb", "chebcb"}
        Which one.
    arms, rounds : int
        Values of ω, and systems.
    delta : float
        Failure probability of the two intervals together.
    most : float
        What a solve can cost at most; infinite where that is not known.
    measured : Estimate, optional
        Expected regret, over replays.
    bound : Estimate, optional
        Expectation of the executed bound, over replays.
    uniform : float
        Regret of an ω drawn uniformly, on the table of all counts.
    executed : float
        The executed bound of the run itself; NaN where there is none.
    """

    learner: str
    arms: int
    rounds: int
    delta: float
    most: float
    measured: Estimate | None = None
    bound: Estimate | None = None
    uniform: float = math.nan
    executed: float = math.nan

    @property
    def range(self) -> float:
        """What could be lost at the very worst."""
        return (self.most - 1) * self.rounds

    @property
    def inputs(self) -> dict[str, float | int]:
        """What certificates show of it."""
        shown: dict[str, float | int] = {"T": self.rounds, "d": self.arms}
        if math.isfinite(self.executed):
            shown["the same sum in this run, which bounds nothing by itself"] = self.executed
        if self.measured is not None:
            shown |= {"replays": self.measured.n or 0, "delta": self.delta}
        if self.bound is not None:
            shown["mean of the sum over replays"] = self.bound.value
        return shown


def regret(r: Regret, answers: Iterable[Answer]) -> Certificate:
    """The executed bound in expectation: the upper end of its interval over replays.

    One run has no bound on an expectation but what costs can be at most: that is then stated, and it is
    vacuous. A small sum in one run may be a hundredth of what is to be expected.
    """
    stated = r.bound is not None
    return OF_LEARNER[r.learner](
        bound=r.bound.high if r.bound is not None else r.range,
        confidence=1 - r.delta / 2 if stated else 1.0,
        trivial=r.uniform if stated else r.range,
        measured=r.measured,
        answers=answers,
        inputs=r.inputs,
    )


def no_worse(
    r: Regret, expected: Estimate, fixed: float, uniform: float, answers: Iterable[Answer]
) -> Certificate:
    """What is demanded of a learner that sees contexts: to beat every fixed ω, iterations a system."""
    return NO_WORSE(
        bound=fixed,
        confidence=1.0,
        trivial=uniform,
        measured=expected,
        answers=answers,
        inputs={"T": r.rounds, "d": r.arms, "replays": expected.n or 0, "a uniform ω": uniform},
    )


def worst_case(r: Regret, scale: float, answers: Iterable[Answer]) -> Certificate:
    """The textbook's bound, certain if the scale of the rate was known beforehand."""
    return WORST_CASE(
        bound=worst_case_regret(r.arms, r.rounds, scale),
        confidence=1.0,
        trivial=r.uniform if r.bound is not None else min(r.range, scale * r.rounds),
        measured=r.measured,
        answers=answers,
        inputs={"T": r.rounds, "d": r.arms, "K": scale},
    )


@dataclass(frozen=True)
class Counted:
    """Solves against what was computed for them.

    Parameters
    ----------
    counts : sequence of int
        What each took.
    bounds : sequence of float
        NaN where none could be computed.
    ended : sequence of bool
        Whether the solve converged; else `counts` has what it took until it was given up.
    cap : int
        Iterations after which it was.
    """

    counts: Sequence[int]
    bounds: Sequence[float]
    ended: Sequence[bool]
    cap: int


def iteration_bound(c: Counted, answers: Iterable[Answer]) -> Certificate:
    """No solve took more than was computed for it."""
    counts, bounds = np.asarray(c.counts, dtype=float), np.asarray(c.bounds, dtype=float)
    known, ended = np.isfinite(bounds), np.asarray(c.ended, dtype=bool)
    counts = counts + ~ended  # a solve that was given up wants one more, at least
    measured, trivial = None, math.inf
    if known.any():
        shares = counts[known] / bounds[known]
        # One that was given up below its bound might have taken any number.
        low = float(shares.max())
        high = low if ended[known].all() else math.inf
        measured = Estimate.between(low, high, value=low, method="exact")
        trivial = float(c.cap / bounds[known].min())
    return ITERATION_BOUND(
        bound=1.0,
        confidence=1.0,
        trivial=trivial,
        measured=measured,
        answers=answers,
        inputs={
            "solves with a bound": int(known.sum()),
            "solves without": int((~known).sum()),
            "largest bound": float(bounds[known].max()) if known.any() else math.inf,
        },
    )
