"""Certificates: the surrogate lies above the loss, gradients become small, and minibatches contract up to noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.optim.target_surrogates.linear import History
from whp.undeclared import Assumption, met, unchecked, undeclared, violated

__all__ = ["descent", "majorisation", "recursion", "recursion_bound", "target_noise"]

PAPER = "Lavington et al. 2023"
SLACK = 1e-9


def majorisation(history: History, last_loss: float, L: float | None, whole: bool) -> Certificate:
    """Whether the surrogate lay above the loss at every step taken."""
    rows = history.rows
    losses = np.array([r["loss"] for r in rows[1:]] + [last_loss])
    above = np.array([r["surrogate"] for r in rows])
    with np.errstate(invalid="ignore"):
        excess = (losses - above) / np.maximum(np.abs(losses), 1e-12)
    etas = np.array([r["eta"] for r in rows])
    known: list[Assumption] = []
    same = "every step asks about all rows"
    known.append(
        met(same) if whole else violated(same, "minibatches", "see the certificate recursion")
    )
    if L is None:
        known.append(
            unchecked("η is at most 1/L", "the loss has no fixed L; steps were found by search")
        )
    else:
        fits = float(etas.max()) <= (1 + 1e-9) / L
        told = f"largest η {etas.max():.4g}, 1/L = {1 / L:.4g}"
        known.append(
            met("η is at most 1/L", told)
            if fits
            else unchecked("η is at most 1/L", told + ": it is not, and measured all the same")
        )
    return undeclared(
        "majorisation",
        "after every step the loss is at most the surrogate's value, so that no inner step can have raised it unseen",
        f"{PAPER}, majorisation by smoothness in the outputs",
        "<=",
        SLACK,
        1.0,
        exact(float(np.nan_to_num(excess, nan=np.inf).max()))
        if len(rows) and np.isfinite(excess).any()
        else exact(float("inf")),
        assumptions=tuple(known),
        inputs={
            "steps": len(rows),
            "largest eta": float(etas.max()) if len(rows) else 0.0,
            "L": L or 0.0,
        },
        remedy="eta exceeds 1/L in the outputs: is the loss a sum over rows, not a mean?",
    )


def descent(
    history: History,
    last_loss: float,
    beta: float | None,
    lower: float,
    whole: bool,
    penalised: bool = False,
) -> Certificate:
    """Whether the least gradient is as small as promised after so many steps."""
    rows = history.rows
    gradients = np.array([r["gradient"] for r in rows])
    T = len(rows)
    h0 = rows[0]["loss"] if rows else 0.0
    if beta is not None:
        bound = 2 * beta * (h0 - lower) / max(T, 1)
        told = "the surrogate is β-smooth in θ and inner steps have size 1/β, or are exact"
    else:  # Armijo: Σ c a ‖∇h‖² ≤ h_0 − h_T
        steps = np.array([r["first_step"] for r in rows])
        bound = (h0 - lower) / max(0.1 * float(steps.sum()), 1e-300)
        told = "first inner steps were accepted by Armijo's rule"
    same = "every step asks about all rows"
    known = [met(same) if whole else violated(same, "minibatches"), met(told)]
    if penalised:
        known.append(violated("the loss is all there is", "alpha adds a penalty"))
    return undeclared(
        "descent",
        "the least squared gradient so far is at most 2β(h(θ_0) − h*)/T, for any number of inner steps and any model",
        f"{PAPER}, deterministic case; constants derived here",
        "<=",
        float(bound),
        1.0,
        exact(float(gradients.min())) if T else None,
        trivial=float(gradients[0]) if T else None,
        assumptions=tuple(known),
        inputs={
            "steps": T,
            "first loss": h0,
            "last loss": last_loss,
            "h* at least": lower,
            "beta": beta or 0.0,
        },
        remedy="too few steps for the bound to be below the first gradient, or eta exceeds 1/L.",
    )


def target_noise(X: np.ndarray, residual: np.ndarray, b: int, projected: bool = True) -> float:
    """σ² at the solution, for ½‖z − y‖² and b of n rows without replacement: (n/b)(n − b)/(n − 1) Σ H_ii r_i² (derived here)."""
    n = len(residual)
    if projected:
        Q = np.linalg.qr(X)[0] if np.linalg.matrix_rank(X) == X.shape[1] else _range(X)
        weights = np.square(Q).sum(axis=1)
        return float(n / b * (n - b) / (n - 1) * (weights * np.square(residual)).sum())
    return float((n / b - 1) * np.square(residual).sum())


def _range(X: np.ndarray) -> np.ndarray:
    U, s, _ = np.linalg.svd(X, full_matrices=False)
    return U[:, s > 1e-10 * s[0]]


def recursion_bound(
    start: float,
    etas: np.ndarray,
    sigma2: float,
    mu: float,
    L_max: float,
    gaps: np.ndarray | None = None,
) -> np.ndarray:
    """E‖z_t − z*‖² after each step: D ← (√((1 − 2ημ(1 − ηL_max)) D + 2η²σ²) + ε)²."""
    D, out = start, []
    for t, eta in enumerate(etas):
        D = (1 - 2 * eta * mu * (1 - eta * L_max)) * D + 2 * eta**2 * sigma2
        if gaps is not None:
            D = (np.sqrt(D) + gaps[t]) ** 2
        out.append(D)
    return np.array(out)


def recursion(
    distances: Any,
    etas: Any,
    start: float,
    sigma2: float,
    mu: float,
    L_max: float,
    *,
    gaps: Any = None,
    projection: str = "full",
    convex: bool | None = True,
    summed: bool | None = True,
    delta: float = 0.05,
) -> Certificate:
    """Whether the mean distance to the best outputs, over runs, follows the recursion at every step.

    Parameters
    ----------
    distances : array-like, shape (runs, T)
        ‖z_t − z*‖² after each step.
    etas : array-like, shape (T,)
    start : float
        ‖z_0 − z*‖².
    sigma2, mu, L_max : float
        Noise at the solution, strong convexity, and smoothness of a single estimate (n L/b).
    gaps : array-like, shape (T,), optional
        Root mean square distance from the exact projection.
    projection : {"full", "batch"}
    convex : bool or None
        Whether the set of outputs is convex; None where it is not known, as for networks.
    summed : bool or None
        Whether the loss is a sum over rows.
    """
    from scipy.stats import norm

    D, etas = (
        np.atleast_2d(np.asarray(distances, dtype=np.float64)),
        np.asarray(etas, dtype=np.float64),
    )
    bounds = recursion_bound(float(start), etas, float(sigma2), float(mu), float(L_max), gaps)
    means = D.mean(axis=0)
    # all steps at once: a union over T
    width = (
        norm.isf(delta / (2 * len(etas))) * D.std(axis=0, ddof=1) / np.sqrt(len(D))
        if len(D) > 1
        else np.zeros(len(etas))
    )
    ratio, low, high = (float((v / bounds).max()) for v in (means, means - width, means + width))
    steps = "η is at most 1/(2 L_max)"
    fits = float(etas.max()) <= (1 + 1e-9) / (2 * L_max)
    known = [
        (met if fits else violated)(
            steps, f"largest η {etas.max():.4g}, 1/(2 L_max) = {1 / (2 * L_max):.4g}"
        )
    ]
    if projection != "full":
        known.append(
            violated(
                "the proximity term covers all rows",
                "it covers the batch: not the projection of the theorem",
            )
        )
    else:
        known.append(met("the proximity term covers all rows"))
    told = "the set of outputs is convex"
    known.append(
        unchecked(told, "not known to be, for this model")
        if convex is None
        else (met if convex else violated)(told)
    )
    if summed is not None:
        known.append((met if summed else violated)("the loss is a sum over rows"))
    return undeclared(
        "recursion",
        "the mean squared distance to the best outputs is at most what the recursion says, at every step",
        f"{PAPER}, stochastic case; constants and inexact projections derived here",
        "<=",
        1.0,
        1 - delta,
        Estimate(
            ratio, min(low, ratio), max(high, ratio), 1 - delta, len(D), "normal, all steps at once"
        ),
        assumptions=tuple(known),
        inputs={
            "runs": len(D),
            "steps": len(etas),
            "noise": float(sigma2),
            "bound at the end": float(bounds[-1]),
            "mean at the end": float(means[-1]),
        },
        needs="more runs",
        remedy="the gradient is not an unbiased estimate, or the projection is not exact.",
    )
