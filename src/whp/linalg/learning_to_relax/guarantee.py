"""What is promised of a run: regret to the best fixed ω, and counts that were bounded beforehand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = [
    "count_certificate",
    "oblivious",
    "regret_certificate",
    "worst_case_certificate",
    "worst_case_regret",
]

PAPER = "Khodak, Chow, Balcan & Talwalkar 2024"


def worst_case_regret(arms: int, rounds: int, K: float) -> float:
    """K(4√(dT) + 1), for costs between 1 and K + 1 known beforehand (Zimmert & Seldin 2021)."""
    return K * (4 * math.sqrt(arms * rounds) + 1)


def oblivious(*, adaptive: bool, fed_back: bool, tol: float) -> Assumption:
    """A1."""
    statement = "the systems do not depend on which ω was chosen before"
    if adaptive:
        return violated(
            statement, "the caller said that they do", "take the choice out of the model."
        )
    if fed_back:
        return unchecked(
            statement,
            f"each solve begins with the solution before, whose error is within tol = {tol:g}",
        )
    return met(statement, "a given list of systems, every solve from zero")


def regret_certificate(
    bound: float,
    measured: Estimate | None,
    trivial: float,
    assumptions: Sequence[Assumption],
    inputs: dict[str, Any],
    *,
    against: str,
) -> Certificate:
    """T2: second-order bound, executed."""
    return undeclared(
        "regret",
        f"expected iterations above {against} ≤ Σ 2(R_t − R_(t−1))(Σ√p − 1) + Σ (c − 1)²/(R_t √p_I), evaluated on what was "
        "drawn; one run's value is an unbiased estimate of the bound",
        "derived here: Tsallis-INF with any rate that does not fall, costs of any range",
        "<=",
        bound,
        1.0,
        measured,
        trivial=trivial,
        assumptions=tuple(assumptions),
        inputs=inputs,
        needs="audit > 0: every ω of the grid is then run on that share of the systems.",
        remedy="more systems: the bound grows like their root, what any choice costs grows like their number.",
    )


def worst_case_certificate(
    arms: int,
    rounds: int,
    K: float,
    measured: Estimate | None,
    trivial: float,
    assumptions: Sequence[Assumption],
) -> Certificate:
    """T1: the textbook's bound with the range of costs, as if it had been known."""
    return undeclared(
        "regret-worst-case",
        "expected iterations above the best fixed ω ≤ K(4√(dT) + 1), K the largest count less 1; for the rate K√t",
        "Zimmert & Seldin 2021, Theorem 1",
        "<=",
        worst_case_regret(arms, rounds, K),
        1.0,
        measured,
        trivial=trivial,
        assumptions=tuple(assumptions),
        inputs={"d": arms, "T": rounds, "K": K},
        needs="audit > 0.",
        remedy="it is vacuous on nearly all sequences: the executed bound is the one to look at.",
    )


def count_certificate(
    counts: Sequence[int],
    bounds: Sequence[float],
    skipped: int,
    assumptions: Sequence[Assumption],
    solver: str,
) -> Certificate:
    """E or P: no solve took more than was computed for it beforehand."""
    shares = np.asarray(counts, dtype=float) / np.asarray(bounds, dtype=float)
    what = {
        "sor": "⌈ln(tol/√κ)/ln q⌉, q the contraction of a sweep in the energy norm",
        "ssor-cg": "1 + ln(√κ/tol + √(κ/tol² − 1))/(−ln(1 − 2/(1 + √χ))), χ a bound on the preconditioned condition",
    }[solver]
    source = {
        "sor": f"derived here after {PAPER}: energy bound with max(s, 0)",
        "ssor-cg": "Axelsson 1994, Theorem 7.17",
    }[solver]
    return undeclared(
        "iteration-bound",
        f"every count ≤ {what}; measured is the largest share of its bound that a solve needed",
        source,
        "<=",
        1.0,
        1.0,
        exact(float(shares.max())) if len(shares) else None,
        assumptions=tuple(assumptions),
        inputs={
            "solves compared": len(shares),
            "solves without a bound": skipped,
            "largest bound": float(max(bounds, default=0)),
        },
        needs="symmetric positive definite systems: strictly dominant ones, or small enough for eigenvalues.",
        remedy="a given γ or Γ is wrong: leave them out.",
    )
