"""How predictable a stream was: stochastic variance and adversarial variation, estimated or computed afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.validate import as_int, as_matrix

__all__ = ["SEAEstimate", "estimate_sea", "random_order_sea"]

SAMPLED = 512  # rounds looked at in streams of more than LONG rows
LONG = 5000


@dataclass(frozen=True, eq=False)
class SEAEstimate:
    """Stochastic variance and adversarial variation of each round.

    Attributes
    ----------
    sigma2 : ndarray, shape (T,)
        σ_t², variance of the gradient at the point that was played.
    Sigma2 : ndarray, shape (T,)
        Σ_t², squared change of the expected gradient at the point before; its first entry is zero. Single entries of an
        unbiased estimate can be negative: only the sum is clipped.
    estimated : bool
        Whether they are estimates, or the truth.
    """

    sigma2: Float[np.ndarray, " T"]
    Sigma2: Float[np.ndarray, " T"]
    estimated: bool = True

    @property
    def total(self) -> tuple[float, float]:
        """σ²₁:T and Σ²₁:T, not below zero."""
        return max(0.0, float(self.sigma2.sum())), max(0.0, float(self.Sigma2.sum()))


def estimate_sea(
    grad: Callable[[Any, Float[np.ndarray, " d"]], Float[np.ndarray, " d"]],
    batches: Sequence[Any],
    points: Any,
) -> SEAEstimate:
    """Split-batch estimates, both unbiased.

    Each batch is split in halves A and B: σ̂_t² = ¼‖g^A − g^B‖² at x_t (of a and b rows, where their number is odd,
    ab/(a + b)² in the place of ¼), and Σ̂_t² = ⟨g_t^A − g_{t−1}^A, g_t^B − g_{t−1}^B⟩ at
    x_{t−1}, which neither of the two batches was used to reach.

    Parameters
    ----------
    grad : callable
        ``grad(rows, x)``: the mean gradient of some rows of a batch at x.
    batches : sequence
        The batches in order, each a sequence of at least two rows that can be sliced; of four or more to be of use.
    points : array_like, shape (T, d)
        The points that were played.

    Returns
    -------
    SEAEstimate
    """
    points = as_matrix(points, "points", dtype=np.float64)
    if len(batches) != len(points):
        raise ValueError(
            f"points must have one row a batch, got {len(points)} for {len(batches)} batches"
        )
    if any(len(batch) < 2 for batch in batches):
        raise ValueError("batches must have at least two rows each, to be split in halves")
    sigma2, Sigma2 = np.zeros(len(points)), np.zeros(len(points))
    halves = [(batch[: len(batch) // 2], batch[len(batch) // 2 :]) for batch in batches]
    for t, x in enumerate(points):
        a, b = (grad(half, x) for half in halves[t])
        n, m = map(len, halves[t])  # E‖a − b‖² = s²/n + s²/m, s² the variance of a row
        sigma2[t] = ((a - b) ** 2).sum() * (n * m / (n + m) ** 2)
        if t:
            before = points[t - 1]
            (a, b), (a0, b0) = ([grad(half, before) for half in halves[s]] for s in (t, t - 1))
            Sigma2[t] = (a - a0) @ (b - b0)
    return SEAEstimate(sigma2, Sigma2)


def random_order_sea(
    slopes: Callable[[Float[np.ndarray, " n"], Float[np.ndarray, " n"]], Float[np.ndarray, " n"]],
    A: Float[np.ndarray, "n d"],
    y: Float[np.ndarray, " n"],
    points: Float[np.ndarray, "T d"],
    batch: int,
) -> SEAEstimate:
    """The truth in random order, where F_t is the mean over the rows not yet seen before round t.

    `slopes` maps predictions and targets to the derivative of each row's loss. A ridge term is the same in every round and
    cancels. Streams of more than 5,000 rows are looked at in 512 evenly spaced rounds, and scaled up.
    """
    n, T = len(A), len(points)
    as_int(batch, "batch", low=1)
    norms = np.einsum("ij,ij->i", A, A)
    chosen = np.arange(T) if n <= LONG else np.unique(np.linspace(0, T - 1, SAMPLED).astype(int))
    sigma2, Sigma2 = np.zeros(T), np.zeros(T)
    for t in chosen:
        start = t * batch
        rest, target, left = A[start:], y[start:], n - start
        c = slopes(rest @ points[t], target)
        centre = rest.T @ c / left
        variance = max(0.0, float((c * c) @ norms[start:]) / left - float(centre @ centre))
        size = min(batch, left)
        # Mean of a sample without replacement: variance over size, times the finite-population correction.
        sigma2[t] = variance / size * ((left - size) / (left - 1) if left > 1 else 0.0)
        if t:
            before = start - batch
            c = slopes(A[before:] @ points[t - 1], y[before:])
            old = A[before:].T @ c / (n - before)
            new = rest.T @ c[batch:] / left
            Sigma2[t] = ((new - old) ** 2).sum()
    if len(chosen) < T:
        filled = np.arange(T)
        sigma2, Sigma2 = (np.interp(filled, chosen, v[chosen]) for v in (sigma2, Sigma2))
    return SEAEstimate(sigma2, Sigma2, estimated=len(chosen) < T)
