"""What learners lose on average and what sweeps do, computed apart from the certificates' code."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import solve_triangular

from whp.kernel import compiled
from whp.linalg import RelaxationTuner

__all__ = ["below", "cg_count", "contextual", "sor_count", "swept", "tsallis"]

Rng = np.random.Generator


@compiled
def _played(costs, scale, uniforms, paid):
    """Tsallis-INF a run a row of uniforms; p_i = (R/(k_i − x))², Σp = 1, by bisection between −R√d and −R below min k."""
    T, d = costs.shape
    k, p = np.zeros(d), np.zeros(d)
    for n in range(len(uniforms)):
        k[:] = 0
        p[:] = 1 / d
        rate, total = 0.0, 0.0
        for t in range(T):
            if t > 0:
                low, high, least = rate, rate * math.sqrt(d), k.min()
                for _ in range(30):
                    x, mass = (low + high) / 2, 0.0
                    for i in range(d):
                        mass += (rate / (k[i] - least + x)) ** 2
                    low, high = (x, high) if mass > 1 else (low, x)
                for i in range(d):
                    p[i] = (rate / (k[i] - least + high)) ** 2
            arm, run = 0, p[0]
            while run < uniforms[n, t] and arm < d - 1:
                arm += 1
                run += p[arm]
            for i in range(d):
                paid[n] += p[i] * costs[t, i]
            total += costs[t, arm] - 1
            sigma = scale if scale > 0 else max(total / (t + 1), 1.0)
            k[arm] += (costs[t, arm] - 1) / p[arm]
            rate = max(rate, sigma * math.sqrt(t + 2))


def tsallis(costs: np.ndarray, rng: Rng, *, scale: float = 0.0, runs: int = 150) -> np.ndarray:
    """What Tsallis-INF pays in each of many runs; `scale` 0 for the running mean."""
    paid = np.zeros(runs)
    _played(np.ascontiguousarray(costs, float), scale, rng.random((runs, len(costs))), paid)
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
    # Probabilities come from a bisection, which rounds what is paid.
    rounding = 1e-9 * (abs(bound) + abs(float(paid.mean())))
    off = 4 * float(paid.std()) / np.sqrt(len(paid)) + rounding
    lost = float(paid.mean()) - against
    return None if abs(lost - bound) <= off else lost < bound


def swept(A: np.ndarray, omega: float) -> np.ndarray:
    """The matrix by which a sweep of SOR multiplies residuals."""
    M = np.diag(np.diag(A)) / omega + np.tril(A, -1)
    return np.eye(len(A)) - A @ solve_triangular(M, np.eye(len(A)), lower=True)


def sor_count(A: np.ndarray, b: np.ndarray, omega: float, tol: float, cap: int) -> int:
    """Sweeps until ‖r‖ < tol ‖b‖, from zero, by residuals alone."""
    R, r, first = swept(A, omega), b.copy(), math.sqrt(b @ b)
    for count in range(1, cap + 1):
        r = R @ r
        if math.sqrt(r @ r) < tol * first:
            return count
    return cap + 1


def cg_count(A: np.ndarray, b: np.ndarray, omega: float, tol: float, cap: int) -> int:
    """Steps of conjugate gradients with dense SSOR until ‖r‖ ≤ tol ‖b‖, from zero."""
    half = np.diag(np.diag(A)) / omega + np.tril(A, -1)
    inverse = np.linalg.inv(omega / (2 - omega) * half @ np.diag(1 / np.diag(A)) @ half.T)
    r, p, rho = b.copy(), np.zeros(len(b)), 1.0
    for count in range(1, cap + 1):
        z = inverse @ r
        before, rho = rho, float(r @ z)
        p = z + (rho / before if count > 1 else 0.0) * p
        q = A @ p
        r = r - rho / float(p @ q) * q
        if r @ r <= tol * tol * (b @ b):
            return count
    return cap + 1
