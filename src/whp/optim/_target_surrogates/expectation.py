"""The mean over independent batches, for the squared loss: what is proven, and what it is exactly.

With U an orthonormal basis of the columns of X, the distance to the best outputs is e = U u. A batch
moves u by a linear map, so that its first two moments follow a recursion without any drawing.
"""

from __future__ import annotations

import numpy as np

__all__ = ["mean_distances", "recursion_bound", "shrinkage", "target_noise"]

ROUNDING = 1e-13  # of a distance, per step


def target_noise(U: np.ndarray, residual: np.ndarray, b: int) -> float:
    """σ² at the best outputs, for ½‖z − y‖² and b of n rows: (n/b)(n − b)/(n − 1) Σ H_ii r_i²."""
    n = len(residual)
    leverage = np.square(U).sum(axis=1)
    return float(n / b * (n - b) / (n - 1) * (leverage * np.square(residual)).sum())


def recursion_bound(
    start: float,
    etas: np.ndarray,
    sigma2: float,
    mu: float,
    L_max: float,
    gaps: np.ndarray | None = None,
    left: float = 0.0,
) -> np.ndarray:
    """E‖z_t − z*‖² after each step: D ← (√((1 − 2ημ(1 − ηL_max)) D + 2η²σ²) + ε)².

    ε is `gaps` where they are known; else at most what inner steps that leave the share `left` of
    an exact step miss of it, η · left · √(2 L_max D + 2σ²).
    """
    D, bounds = start, []
    for t, eta in enumerate(etas):
        gap = eta * left * np.sqrt(2 * L_max * D + 2 * sigma2) if gaps is None else gaps[t]
        D = (1 - 2 * eta * mu * (1 - eta * L_max)) * D + 2 * eta**2 * sigma2
        if gap > 0:
            D = (np.sqrt(D) + gap) ** 2
        bounds.append(D)
    return np.array(bounds)


def shrinkage(eigenvalues: np.ndarray, eta: float, m: int | None) -> np.ndarray:
    """Which share of the exact step m gradient steps of size η/λ_max take, a direction an entry."""
    if m is None:
        return np.ones_like(eigenvalues)
    return 1 - (1 - eigenvalues / eigenvalues.max()) ** m


def mean_distances(
    U: np.ndarray,
    start: np.ndarray,
    residual: np.ndarray,
    etas: np.ndarray,
    b: int,
    shares: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E‖z_t − z*‖² after each step, its rounding, and the root mean square of what the inner steps miss.

    Parameters
    ----------
    U : ndarray, shape (n, r)
        Orthonormal.
    start : ndarray, shape (r,)
        Uᵀ(z_0 − z*).
    residual : ndarray, shape (n,)
        z* − y, orthogonal to U.
    etas : ndarray, shape (T,)
    b : int
        Rows of a batch, without replacement.
    shares : ndarray, shape (r,)
        Of the exact step, a column of U each.
    """
    n = len(U)
    mean, M = start.copy(), np.outer(start, start)
    one, two = b / n, b * (b - 1) / (n * (n - 1))
    missed, both = 1 - shares, np.outer(shares, shares)
    distances, rounding, gaps = np.empty(len(etas)), np.empty(len(etas)), np.empty(len(etas))
    D = float(start @ start)
    radius = ROUNDING * D
    for t, eta in enumerate(etas):
        # v_i = E(q_iᵀu + r_i)², and K = E g gᵀ with g = (n/b) Σ_B q_i (q_iᵀu + r_i)
        v = ((U @ M) * U).sum(axis=1) + 2 * residual * (U @ mean) + residual**2
        K = (n / b) ** 2 * ((one - two) * (U.T * v) @ U + two * M)
        gaps[t] = eta * np.sqrt(max(float((np.diag(K) * missed**2).sum()), 0.0))
        pulled = eta * shares[:, None] * M
        M = M - pulled - pulled.T + eta**2 * both * K
        M = (M + M.T) / 2  # an antisymmetric part would grow by 1 + (ηn/b)² a step
        mean = (1 - eta * shares) * mean
        D, before = float(np.trace(M)), D
        growth = min(max(1 - 2 * eta * float(shares.min()) + eta**2 * n / b, 0.0), 1.0)
        radius = growth * radius + ROUNDING * max(abs(D), abs(before))
        distances[t], rounding[t] = max(D, 0.0), radius
    return distances, rounding, gaps
