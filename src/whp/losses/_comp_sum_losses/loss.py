"""The family of losses in numpy, and the least risk that labels allow.

The same family for training is :class:`whp.losses.CompSumLoss`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax, xlogy

from whp.validate import as_choice, as_labels, as_matrix, as_real

__all__ = [
    "best_conditional_risk",
    "check_tau",
    "comp_sum",
    "comp_sum_loss",
    "expected_loss",
    "loss_of_log",
    "mixed",
    "mixed_log",
    "noise_risk",
    "picked",
]


def check_tau(tau: Any) -> float:
    """`tau` as a float, at least 0."""
    return as_real(tau, "tau", low=0, high=1e6)


def loss_of_log(log_p: Any, tau: float) -> Any:
    """ℓ_τ of the logarithm of the label's probability: −expm1((τ − 1) log p)/(τ − 1), exact through τ = 1."""
    return -log_p if tau == 1 else -np.expm1((tau - 1) * log_p) / (tau - 1)


def comp_sum(u: Any, tau: float) -> Any:
    """Φ^τ(u) = ((1 + u)^(1−τ) − 1)/(1 − τ), and log(1 + u) at τ = 1.

    Parameters
    ----------
    u : array-like
        Sums of exp(other logit − label's logit), at least 0.
    tau : float
        The dial, at least 0.

    Returns
    -------
    ndarray or float

    Raises
    ------
    TypeError, ValueError
        If `u` is negative or not a number, or `tau` is negative.
    """
    tau, u = check_tau(tau), np.asarray(u, dtype=np.float64)
    if not (u >= 0).all():
        raise ValueError("u must be at least 0")
    return loss_of_log(-np.log1p(u), tau)


def comp_sum_loss(logits: Any, y: Any, tau: float = 1.0, reduction: str = "mean") -> Any:
    """Loss of logits, as :class:`whp.losses.CompSumLoss` computes it, in float64 and without torch.

    Parameters
    ----------
    logits : array-like, shape (n, C)
        A column a class.
    y : array-like, shape (n,)
        Class numbers.
    tau : float
        The dial: 0 sum-exponential, 1 cross-entropy, 1 to 2 generalised cross-entropy, 2 mean absolute error.
    reduction : {"mean", "sum", "none"}
        What is made of the n losses.

    Returns
    -------
    float or ndarray of shape (n,)

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    tau = check_tau(tau)
    as_choice(reduction, "reduction", ("mean", "sum", "none"))
    z = as_matrix(logits, "logits", dtype=np.float64)
    labels = as_labels(y, "y", size=len(z), classes=z.shape[1])
    losses = loss_of_log(log_softmax(z, axis=1)[np.arange(len(z)), labels], tau)
    return losses if reduction == "none" else getattr(np, reduction)(losses)


def best_conditional_risk(P: Any, tau: float) -> Any:
    """Least mean loss that any scores can have where the classes have probabilities P (derived from Theorem 3.1's proof).

    Shannon entropy at τ = 1; ((Σ P^(1/(2−τ)))^(2−τ) − 1)/(1 − τ) below 2, with scores for which softmax ∝ P^(1/(2−τ));
    (1 − max P)/(τ − 1) from 2 on.

    Parameters
    ----------
    P : array-like, shape (..., C)
        Probabilities that sum to 1 along the last axis; this is not checked.
    tau : float
        The dial.

    Returns
    -------
    float or ndarray of shape (...)
    """
    tau, P = check_tau(tau), np.asarray(P, dtype=np.float64)
    if tau >= 2:
        return (1 - P.max(axis=-1)) / (tau - 1)
    if tau == 1:
        return -xlogy(P, P).sum(axis=-1)
    power = (tau - 1) / (2 - tau)
    if abs(power) <= 0.5:
        # Σ P^(1 + power) by its difference to Σ P = 1, which vanishes towards τ = 1
        logs = np.log(np.where(P > 0, P, 1.0))
        more = (P * np.expm1(power * logs)).sum(axis=-1)
        return np.expm1((2 - tau) * np.log1p(more)) / (1 - tau)
    # Taken apart from the largest probability: near τ = 2 the power is large.
    top = P.max(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = np.log(P)
    power = np.log(np.exp((logs - np.log(top)) / (2 - tau)).sum(axis=-1))
    return np.expm1((2 - tau) * power + np.log(top[..., 0])) / (1 - tau)


def noise_risk(noise: float, n_classes: int, tau: float) -> float:
    """Least risk where a certain label is replaced with probability `noise` by one of the others, drawn uniformly."""
    return float(
        best_conditional_risk(
            np.r_[1 - noise, np.full(n_classes - 1, noise / (n_classes - 1))], tau
        )
    )


def expected_loss(
    log_q: Float[np.ndarray, "n C"], P: Float[np.ndarray, "n C"], tau: float
) -> Float[np.ndarray, " n"]:
    """Mean loss of each row over labels drawn from P."""
    return (P * loss_of_log(log_q, tau)).sum(axis=1)


def mixed_log(logits: Float[np.ndarray, "n C"], floor: float) -> Float[np.ndarray, "n C"]:
    """Logarithm of (1 − floor) softmax + floor/C: bounded, and its largest entry is where it was."""
    return mixed(log_softmax(logits, axis=1), floor, logits.shape[1])


def mixed(log_p: Float[np.ndarray, ...], floor: float, classes: int) -> Float[np.ndarray, ...]:
    """Logarithm of (1 − floor) p + floor/C."""
    return np.logaddexp(np.log1p(-floor) + log_p, np.log(floor / classes)) if floor else log_p


def picked(values: Float[np.ndarray, "n C"], y: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The label's entry of each row."""
    return values[np.arange(len(values)), y]
