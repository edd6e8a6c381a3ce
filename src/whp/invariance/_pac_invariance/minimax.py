"""The head whose largest residual over all environments is smallest, with a proof that it is.

Each residual is ‖M_e w − z_e‖ with M_e and z_e from the rows of environment e alone, so the problem is a
convex programme in (w, t) with one constraint an environment. It is solved by a primal-dual interior-point
method, for many subsets of columns at once: there are few variables and many constraints, so an iteration
costs a pass over the environments. The multipliers prove a lower bound on the largest residual of any head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Heads", "minimax", "residuals"]

TINY = 1e-10  # residuals below are rounding: the pooled solution is returned
ROUNDS, STEPS, GAP = 3, 100, 1e-13
BOLD, SHY = 0.05, 0.9  # of the gap, what a step aims at after a long one and after a short one
PROVEN = 1e-9
SHRUNK = 1e-3  # of the largest residual: recentre the problem there, to keep its digits


@dataclass(frozen=True, eq=False)
class Heads:
    """Solutions of a batch of problems.

    Attributes
    ----------
    w : ndarray, shape (B, s)
        Heads.
    multipliers : ndarray, shape (B, m)
        Weights of the environments, which sum to 1; those that bind have the most.
    lower : ndarray, shape (B,)
        No head has a smaller largest residual, by duality.
    """

    w: np.ndarray
    multipliers: np.ndarray
    lower: np.ndarray


def residuals(M: np.ndarray, z: np.ndarray, w: np.ndarray) -> np.ndarray:
    """‖M_e w − z_e‖ for M of shape (..., m, k, s), z (..., m, k) and w (..., s)."""
    return np.linalg.norm(np.matmul(M, w[..., None, :, None])[..., 0] - z, axis=-1)


def minimax(M: np.ndarray, z: np.ndarray) -> Heads:
    """Minimise the largest of ‖M_e w − z_e‖ over w, for a batch of problems.

    Parameters
    ----------
    M : ndarray, shape (B, m, k, s)
    z : ndarray, shape (B, m, k)

    Returns
    -------
    Heads
    """
    B, m, _, s = M.shape
    unit = np.linalg.norm(z, axis=2).max(axis=1)
    unit[unit == 0] = 1.0
    z = z / unit[:, None, None]
    pooled = np.einsum("bmki,bmkj->bij", M, M) / m
    size = np.sqrt(np.einsum("bii->bi", pooled))
    size[size == 0] = 1.0
    pooled /= size[:, :, None] * size[:, None, :]
    root = np.linalg.cholesky(pooled + 1e-14 * np.eye(s))
    # In coordinates in which the environments' mean curvature is the identity.
    change = np.linalg.inv(root).swapaxes(1, 2) / size[:, :, None]
    N = np.matmul(M, change[:, None])
    u = np.einsum("bmks,bmk->bs", N, z) / m
    multipliers = np.full((B, m), 1.0 / m)
    live = np.arange(B)
    before = np.full(B, np.inf)
    for _ in range(ROUNDS):
        top = residuals(N[live], z[live], u[live]).max(axis=1)
        lower = _lower(N[live], z[live], multipliers[live])
        again = (top > TINY) & ((top < SHRUNK * before[live]) | (lower < (1 - PROVEN) * top))
        live, top = live[again], top[again]
        if not live.size:
            break
        before[live] = top
        left = (z[live] - np.matmul(N[live], u[live][:, None, :, None])[..., 0]) / top[
            :, None, None
        ]
        step, found = _interior(N[live], left)
        u[live] += top[:, None] * step
        multipliers[live] = found
    w = np.einsum("bij,bj->bi", change, u) * unit[:, None]
    return Heads(w, multipliers, _lower(N, z, multipliers) * unit)


def _lower(N: np.ndarray, z: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Root of the least weighted mean of squared residuals: a lower bound on the largest one."""
    H = np.einsum("bm,bmki,bmkj->bij", weights, N, N)
    c = np.einsum("bm,bmki,bmk->bi", weights, N, z)
    w = np.linalg.solve(H + 1e-15 * np.eye(H.shape[-1]), c[..., None])[..., 0]
    squares = (weights * residuals(N, z, w) ** 2).sum(axis=1)
    return np.sqrt(squares)


@np.errstate(all="ignore")  # what rounding stops is judged by its own lower bound
def _interior(N: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Head and multipliers of problems whose largest residual at 0 is 1."""
    B, m, _, s = N.shape
    P = 2 * np.einsum("bmki,bmkj->bmij", N, N, optimize=True)
    v, t, length = np.zeros((B, s)), np.full(B, 2.0), np.zeros(B)
    lam = 1 / (2 - (z**2).sum(axis=2))  # complementarity is the same for all
    lam /= lam.sum(axis=1, keepdims=True)
    done = np.zeros(B, bool)
    K = np.zeros((B, s + 1, s + 1))
    right = np.zeros((B, s + 1))
    for _ in range(STEPS):
        miss = np.matmul(N, v[:, None, :, None])[..., 0] - z
        f = (miss**2).sum(axis=2) - t[:, None]
        g = 2 * np.matmul(miss[:, :, None], N)[:, :, 0]
        gap = -(lam * f).sum(axis=1)
        off = np.abs(np.einsum("bm,bms->bs", lam, g)).max(axis=1) + np.abs(1 - lam.sum(axis=1))
        done = (gap <= GAP * t) & (off <= 1e-9)
        if done.all():
            break
        mu = np.clip((1 - length) ** 2, BOLD, SHY) * gap / m
        weight = lam / -f
        Gw = g * weight[:, :, None]
        K[:, :s, :s] = np.matmul(lam[:, None], P.reshape(B, m, s * s)).reshape(B, s, s)
        K[:, :s, :s] += np.matmul(g.swapaxes(1, 2), Gw)
        K[:, :s, s] = K[:, s, :s] = -Gw.sum(axis=1)
        K[:, s, s] = weight.sum(axis=1)
        right[:, :s] = mu[:, None] * (g / f[:, :, None]).sum(axis=1)
        right[:, s] = -1 - mu * (1 / f).sum(axis=1)
        scale = 1 / np.sqrt(np.einsum("bii->bi", K))
        scaled = K * scale[:, :, None] * scale[:, None, :]
        try:
            move = scale * np.linalg.solve(scaled, (scale * right)[..., None])[..., 0]
        except np.linalg.LinAlgError:
            break
        dv, dt = move[:, :s], move[:, s]
        slope = np.matmul(g, dv[..., None])[..., 0] - dt[:, None]
        dlam = -lam - mu[:, None] / f - weight * -slope
        bend = (np.matmul(N, dv[:, None, :, None])[..., 0] ** 2).sum(axis=2)
        # The largest steps that keep multipliers positive, and heads inside: a quadratic each.
        most = np.where(dlam < 0, -lam / dlam, np.inf).min(axis=1)
        exits = -2 * f / (slope + np.sqrt(slope**2 - 4 * bend * f))
        most = np.minimum(most, np.where(exits > 0, exits, np.inf).min(axis=1))
        length = np.where(done, 0.0, np.minimum(1.0, 0.99 * most))
        length = np.where(np.isfinite(length), length, 0.0)
        v += length[:, None] * np.nan_to_num(dv)
        t += length * np.nan_to_num(dt)
        lam += length[:, None] * np.nan_to_num(dlam)
    total = lam.sum(axis=1, keepdims=True)
    even = np.full((B, m), 1.0 / m)
    return v, np.where(np.isfinite(total) & (total > 0), lam / total, even)
