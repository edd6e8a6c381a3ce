"""From excess risk to excess error: the transformation of Theorem 3.1, its inverse, and the exact regret beneath it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from whp.losses._comp_sum_losses.loss import best_conditional_risk, check_tau
from whp.validate import as_choice, as_int, as_vector

__all__ = ["Kind", "conditional_regret", "inverse_transform", "paper_inverse", "transform"]

Kind = Literal["paper", "sharp"]
SLACK = 1e-4  # of "sharp", which is the least over a grid
CLOSE = 1e-4  # to τ = 1, where its differences are lost in rounding, and "paper" is as large
KNOTS = 1025
SPREADS = 200


def transform(t: Any, tau: float, n_classes: int, kind: Kind = "paper") -> Any:
    """T_τ(t): the least excess of the risk where the excess error is t (Theorem 3.1).

    Parameters
    ----------
    t : array-like
        Excess of the zero-one error, in [0, 1].
    tau : float
        The dial.
    n_classes : int
        Number of the model's outputs, not of the classes that were seen.
    kind : {"paper", "sharp"}
        ``"sharp"`` is the least exact regret over distributions in which all but two classes that matter share alike; larger
        for 1 < τ < 2 with three classes or more, equal otherwise, and not proved.

    Returns
    -------
    float or ndarray

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    tau, n = check_tau(tau), as_int(n_classes, "n_classes", low=2)
    as_choice(kind, "kind", ("paper", "sharp"))
    t = np.asarray(t, dtype=np.float64)
    if not ((t >= 0) & (t <= 1)).all():
        raise ValueError("t must lie in [0, 1]")
    if kind == "sharp" and 1 + CLOSE < tau < 2 and n > 2:
        return np.vectorize(lambda one: _sharp(float(one), tau, n), otypes=[float])(t)[()]
    return _paper(t, tau, n)


def _slope(tau: float, n: int) -> float:
    """(τ − 1) n^(τ−1), infinite where it is more than a float holds."""
    power = (tau - 1) * math.log(n)
    return (tau - 1) * math.exp(power) if power < 700 else math.inf


def _paper(t: Any, tau: float, n: int) -> Any:
    if tau >= 2:
        return t / _slope(tau, n)
    if tau == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            lower = np.where(t < 1, (1 - t) * np.log1p(-t), 0.0)
        return ((1 + t) * np.log1p(t) + lower) / 2
    log_m = _log_mean(np.asarray(t, dtype=np.float64), tau)
    change = np.expm1((2 - tau) * log_m)
    return (
        -(2.0 ** (1 - tau)) / (1 - tau) * change
        if tau < 1
        else change / ((tau - 1) * float(n) ** (tau - 1))
    )


def _log_mean(t: Any, tau: float) -> Any:
    """log of ((1+t)^a + (1−t)^a)/2, a = 1/(2−τ)."""
    a, power = 1 / (2 - tau), (tau - 1) / (2 - tau)
    if abs(power) <= 0.5:  # by its difference to 1, which vanishes towards τ = 1
        below = np.where(t < 1, t, 0.0)  # at 1 the smaller part is 0
        down = (1 - below) * np.expm1(power * np.log1p(-below))
        return np.log1p(((1 + t) * np.expm1(power * np.log1p(t)) + down) / 2)
    with np.errstate(divide="ignore"):  # by its larger part: a is large near τ = 2
        return np.logaddexp(a * np.log1p(t), a * np.log1p(-t)) - np.log(2)


def _sharp(t: float, tau: float, n: int) -> float:
    """Least regret over P = ((w+t)/2, (w−t)/2, the rest spread evenly over m classes), the second being predicted."""
    w = np.linspace(t, 1, SPREADS)[:, None]
    m = np.unique(np.round(np.geomspace(1, n - 2, min(n - 2, 40))).astype(int))
    rest = (1 - w) / m
    rest = np.where(rest <= (w + t) / 2, rest, np.nan)  # else the first were not the largest
    a = 1 / (2 - tau)

    def risk(first: Any, second: Any, other: Any) -> Any:
        return ((first**a + second**a + m * other**a) ** (2 - tau) - 1) / (1 - tau)

    # The second shares with the first, and with the others too if they exceed that average.
    pooled = risk(w / 2, w / 2, rest)
    pooled = np.where(rest > w / 2, risk(1 / (m + 2), 1 / (m + 2), 1 / (m + 2)), pooled)
    return float(np.nanmin(pooled - risk((w + t) / 2, (w - t) / 2, rest))) * (1 - SLACK)


@lru_cache(maxsize=64)
def _sharp_knots(tau: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    t = np.linspace(0, 1, KNOTS)
    values = np.array([_sharp(one, tau, n) for one in t.tolist()])
    return t, np.minimum.accumulate(values[::-1])[::-1]


def inverse_transform(s: Any, tau: float, n_classes: int, kind: Kind = "paper") -> Any:
    """T_τ⁻¹(s): the largest excess error that an excess risk of s allows; 1 from T_τ(1) on.

    Rounded upwards to the next of 1,025 knots for ``"sharp"``.

    Parameters
    ----------
    s : array-like
        Excess of the risk, at least 0.
    tau, n_classes, kind
        As for :func:`transform`.

    Returns
    -------
    float or ndarray

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    tau, n = check_tau(tau), as_int(n_classes, "n_classes", low=2)
    as_choice(kind, "kind", ("paper", "sharp"))
    s = np.asarray(s, dtype=np.float64)
    if not (s >= 0).all():
        raise ValueError("s must be at least 0")
    if tau >= 2:
        return np.minimum(paper_inverse(s, tau, n), 1.0)[()]
    if kind == "sharp" and 1 + CLOSE < tau < 2 and n > 2:
        t, values = _sharp_knots(tau, n)
        found = t[np.minimum(np.searchsorted(values, s, side="right"), KNOTS - 1)]
        return np.where(s == 0, 0.0, found)[()]
    # T grows like t² at 0 and is convex: bisection on a scale that is even in √s keeps small values to full precision
    low, high = np.zeros_like(s), np.minimum(paper_inverse(s, tau, n), 1.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = _paper(middle, tau, n) < s
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return np.where(s >= _paper(np.float64(1.0), tau, n), 1.0, np.where(s == 0, 0.0, high))[()]


def paper_inverse(s: Any, tau: float, n: int) -> Any:
    """Γ_τ(s), the paper's closed form, which is never below the inverse of T_τ."""
    s = np.asarray(s, dtype=np.float64)
    if tau >= 2:
        return np.where(s > 0, np.where(s > 0, s, 1.0) * _slope(tau, n), 0.0)
    if tau > 1:
        return np.sqrt(2 * float(n) ** (tau - 1) * s)
    return np.sqrt(2**tau * (2 - tau) * s)


def conditional_regret(P: Any, k: int, tau: float) -> float:
    """Least excess of the mean loss over all scores whose largest is that of class k, for τ < 2; exact.

    The minimiser gives class k the same share as those above it: k is pooled with the largest probabilities, one by one, while the
    next exceeds the pool's average (derived here).

    Parameters
    ----------
    P : array-like, shape (C,)
        Probabilities.
    k : int
        The class that is predicted.
    tau : float
        The dial, below 2.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    P, tau = as_vector(P, "P", dtype=np.float64), check_tau(tau)
    if tau >= 2:
        raise ValueError(f"tau must be below 2, got {tau:g}")
    if (P < 0).any() or abs(P.sum() - 1) > 1e-6:
        raise ValueError(f"P must hold probabilities that sum to 1, got {P.sum():g}")
    k = as_int(k, "k", low=0, high=len(P) - 1)
    others = np.delete(np.arange(len(P)), k)
    others = others[np.argsort(-P[others], kind="stable")]
    total, size = P[k], 1
    while size <= len(others) and P[others[size - 1]] > total / size:
        total, size = total + P[others[size - 1]], size + 1
    Q = P.copy()
    Q[np.r_[k, others[: size - 1]]] = total / size
    return max(0.0, float(best_conditional_risk(Q, tau) - best_conditional_risk(P, tau)))
