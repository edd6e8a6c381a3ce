"""Certificates of a timetable and of what was learnt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["learning_certificate", "plan_certificates", "simulated_rate"]

PAPER = "Simchi-Levi, Zheng & Zhu 2021"
OURS = f"{PAPER}; constants derived here"


def simulated_rate(
    R: np.ndarray, period: np.ndarray, offset: np.ndarray, K: int
) -> tuple[float, int]:
    """Reward a period of the timetable, played, and the most pulls in one period; over a common multiple where that is short."""
    used = np.flatnonzero(period)
    if not len(used):
        return 0.0, 0
    common = 1
    for p in np.unique(period[used]).tolist():
        common = math.lcm(common, p)
        if common > 5000:
            break
    span = common if common <= 5000 else 10_000
    warm = int(period[used].max())
    T = warm + 2 * span
    pulls, last = np.zeros(T, dtype=np.int64), np.full(len(period), -1)
    total = 0.0
    for i in used:
        when = np.arange(offset[i], T, period[i])
        np.add.at(pulls, when, 1)
        gaps = np.diff(when)
        counted = when[1:] >= warm
        total += float(R[i, np.minimum(gaps[counted], R.shape[1]) - 1].sum())
        last[i] = when[-1]
    # Where no common multiple is short, pulls at the edges are counted at their rate.
    if common > 5000:
        total = (
            sum(float(R[i, min(int(period[i]), R.shape[1]) - 1]) / int(period[i]) for i in used)
            * 2
            * span
        )
    return total / (2 * span), int(pulls.max())


def plan_certificates(
    R: np.ndarray,
    period: np.ndarray,
    offset: np.ndarray,
    K: int,
    *,
    value: float,
    bound: float,
    gamma: float,
    static: float,
    fall: tuple[int, int] | None,
) -> tuple[Certificate, ...]:
    """G2, G3, and that the timetable does what it says."""
    rising = "curves do not fall with the gap"
    if fall is None:
        first: Assumption = met(rising, f"all {len(R)} were checked")
    else:
        first = violated(
            rising,
            f"arm {fall[0]} falls at d = {fall[1]}",
            "fit a rising curve first: monotone='isotonic'.",
        )
    flat = unchecked(
        "curves are flat beyond D, and the gap is all that matters",
        f"D = {R.shape[1]}; not in the curves",
    )
    ratio = value / bound if bound > 0 else 1.0
    inputs = {
        "value": value,
        "upper bound": bound,
        "K": K,
        "N": len(R),
        "D": R.shape[1],
        "static policy": static,
    }
    share = undeclared(
        "share-of-the-optimum",
        "the timetable earns at least γ_K of what any policy can in the long run; measured is its value over the upper bound",
        f"{OURS}: ratio 1 − O(1/√K), a quarter for K = 1",
        ">=",
        gamma,
        1.0,
        exact(ratio),
        trivial=static / bound if bound > 0 else 1.0,
        assumptions=(first, flat),
        inputs=inputs,
        remedy="for few slots the share known beforehand is small: the loss that was computed is what counts.",
    )
    loss = undeclared(
        "loss",
        "any policy earns at most UB = max ΣF_i(x_i) a period, so that at most 1 − value/UB of its reward is lost; the bound is "
        "the loss of always pulling the same arms",
        f"derived here after {PAPER}: concave envelopes of (1/d, R(d)/d)",
        "<=",
        max(0.0, 1 - static / bound) if bound > 0 else 0.0,
        1.0,
        exact(1 - ratio),
        trivial=1.0,
        assumptions=(first, flat),
        inputs=inputs,
        remedy="the planner should never do worse than a fixed choice: report it.",
    )
    rate, most = simulated_rate(R, period, offset, K)
    excess = max(
        abs(rate - value) / max(abs(value), 1e-300) if value else abs(rate), 1.0 * max(0, most - K)
    )
    played = undeclared(
        "timetable",
        "played out, no period has more than K pulls and the reward is the value that was stated; measured is the larger of the "
        "relative difference and the pulls too many",
        "counted on the timetable",
        "<=",
        1e-9,
        1.0,
        exact(excess),
        inputs={"reward a period, played": rate, "most pulls in a period": most, "K": K},
        remedy="the timetable is broken: do not use it.",
    )
    return share, loss, played


def learning_certificate(
    bound: float,
    measured: Estimate | None,
    trivial: float,
    delta: float,
    assumptions: Sequence[Assumption],
    inputs: dict[str, float | int | str],
) -> Certificate:
    """G4."""
    return undeclared(
        "regret",
        "with probability 1 − δ the expected reward is short of Σ γ̂_s L_s UB by at most the widths of the confidence bands along "
        "the schedules, and two pulls an arm that was moved",
        f"{OURS}: regret Õ(N√T)",
        "<=",
        bound,
        1 - delta,
        measured,
        trivial=trivial,
        assumptions=tuple(assumptions),
        inputs=inputs,
        needs="the true curves, as in a simulator: truth=curves.",
        remedy="more periods: widths fall like their root.",
    )
