"""What learners lose on average and what sweeps do, computed apart from the certificates' code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from whp.linalg import RelaxationTuner

__all__ = ["below", "cg_count", "contextual", "sor_count", "swept", "tsallis"]

Rng = np.random.Generator


def _weights(k: np.ndarray, R: np.ndarray) -> np.ndarray:
    """p_i = (R/(k_i − x))², Σp = 1, a row a run: Newton's steps on Σp − 1, which is convex in x."""
    x = k.min(axis=1) - R
    for _ in range(12):
        q = R[:, None] / (k - x[:, None])
        x -= ((q * q).sum(axis=1) - 1) / (2 * q**3 / R[:, None]).sum(axis=1)
    p = (R[:, None] / (k - x[:, None])) ** 2
    return p / p.sum(axis=1, keepdims=True)


def tsallis(costs: np.ndarray, rng: Rng, *, scale: float = 0.0, runs: int = 150) -> np.ndarray:
    """What Tsallis-INF pays in each of many runs; `scale` 0 for the running mean."""
    T, d = costs.shape
    k, rate, total, paid = np.zeros((runs, d)), np.zeros(runs), np.zeros(runs), np.zeros(runs)
    every = np.arange(runs)
    for t in range(T):
        p = _weights(k, rate) if t else np.full((runs, d), 1 / d)
        arm = (p.cumsum(axis=1) < rng.random((runs, 1))).sum(axis=1).clip(max=d - 1)
        paid += (p * costs[t]).sum(axis=1)
        a = costs[t, arm] - 1
        total += a
        sigma = np.full(runs, scale) if scale else np.maximum(total / (t + 1), 1.0)
        k[every, arm] += a / p[every, arm]
        rate = np.maximum(rate, sigma * np.sqrt(max(t + 1, 2) + (t > 0)))
    return paid


def contextual(costs: np.ndarray, contexts: np.ndarray, rng: Rng, *, runs: int = 30) -> np.ndarray:
    """What ChebCB, with contexts in [0, 1], pays in each of many runs, by asking and telling."""
    paid, grid = np.zeros(runs), np.linspace(1, 1.9, costs.shape[1])
    for n in range(runs):
        tuner = RelaxationTuner(
            "chebcb", grid, context_range=(0.0, 1.0), rng=int(rng.integers(1 << 62))
        )
        for row, c in zip(costs, contexts.tolist(), strict=True):
            arm, _ = tuner.ask(c)
            tuner.tell(row[arm])
            paid[n] += tuner.probabilities @ row
    return paid


def below(paid: np.ndarray, against: float, bound: float) -> bool | None:
    """Whether an expectation less `against` is at most `bound`; None within four standard errors."""
    off = 4 * float(paid.std()) / np.sqrt(len(paid)) + 1e-9 * abs(bound)
    lost = float(paid.mean()) - against
    return None if abs(lost - bound) <= off else lost < bound


def swept(A: np.ndarray, omega: float) -> np.ndarray:
    """The matrix by which a sweep of SOR multiplies residuals."""
    M = np.diag(np.diag(A)) / omega + np.tril(A, -1)
    return np.eye(len(A)) - A @ solve_triangular(M, np.eye(len(A)), lower=True)


def sor_count(A: np.ndarray, b: np.ndarray, omega: float, tol: float, cap: int) -> int:
    """Sweeps until ‖r‖ < tol ‖b‖, from zero, by residuals alone."""
    R, r, first = swept(A, omega), b.copy(), np.linalg.norm(b)
    for count in range(1, cap + 1):
        r = R @ r
        if np.linalg.norm(r) < tol * first:
            return count
    return cap + 1


def cg_count(A: np.ndarray, b: np.ndarray, omega: float, tol: float, cap: int) -> int:
    """Steps of conjugate gradients with dense SSOR until ‖r‖ ≤ tol ‖b‖, from zero."""
    half = np.diag(np.diag(A)) / omega + np.tril(A, -1)
    M = omega / (2 - omega) * half @ np.diag(1 / np.diag(A)) @ half.T
    solve: Callable[[Any], Any] = lambda r: np.linalg.solve(M, r)  # noqa: E731
    r, p, rho = b.copy(), np.zeros(len(b)), 1.0
    for count in range(1, cap + 1):
        z = solve(r)
        before, rho = rho, float(r @ z)
        p = z + (rho / before if count > 1 else 0.0) * p
        q = A @ p
        r = r - rho / float(p @ q) * q
        if np.linalg.norm(r) <= tol * np.linalg.norm(b):
            return count
    return cap + 1
