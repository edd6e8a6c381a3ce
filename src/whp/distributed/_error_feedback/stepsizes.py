"""Constants of the compressor and of the functions, and the stepsizes that they license."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.validate import as_real, as_vector

__all__ = [
    "Constants",
    "Smoothness",
    "cloned",
    "constants",
    "estimated_smoothness",
    "glm_smoothness",
    "noisy",
    "optimal_weights",
    "rare_features",
    "spread",
    "stepsize",
    "weighted_mean",
]


@dataclass(frozen=True)
class Constants:
    """Of a compressor with contraction α.

    Attributes
    ----------
    alpha, theta, beta, xi : float
        θ = 1 − √(1 − α), β = (1 − α)/θ, ξ = √(β/θ).
    """

    alpha: float
    theta: float
    beta: float
    xi: float


def constants(alpha: float) -> Constants:
    """θ, β and ξ; free of cancellation for tiny α.

    Raises
    ------
    ValueError
        If α is not in (0, 1].
    """
    alpha = as_real(alpha, "alpha", low=0, high=1)
    if alpha == 0:
        raise ValueError("alpha must be in (0, 1], got 0")
    root = math.sqrt(1 - alpha)
    theta = alpha / (1 + root)  # = 1 − √(1 − α)
    return Constants(alpha, theta, (1 - alpha) / theta, root * (1 + root) / alpha)


@dataclass(frozen=True, eq=False)
class Smoothness:
    """L of the average and L_i of the clients.

    Attributes
    ----------
    L : float
        Of f = (1/n) Σ f_i.
    clients : ndarray, shape (n,)
        Of each f_i.
    estimated : bool
        Whether they were estimated from gradients, which can only find them too small.
    """

    L: float
    clients: np.ndarray
    estimated: bool = False

    @property
    def am(self) -> float:
        """Arithmetic mean."""
        return float(self.clients.mean())

    @property
    def qm(self) -> float:
        """Quadratic mean."""
        return weighted_mean(self.clients, np.full(len(self.clients), 1 / len(self.clients)))

    @property
    def variance(self) -> float:
        """L_QM² − L_AM²: what the new analysis gains from."""
        return float(self.clients.var())


def cloned(clients: Any) -> np.ndarray:
    """L_i of the cloned problem, N_i = ⌈L_i/L_AM⌉ copies of client i: at most 2n of them, quadratic mean at most √2 · L_AM.

    A client that stands N_i times among N counts N_i/N; its copies carry f_i · N/(n N_i).
    """
    L = as_vector(clients, "clients", dtype=np.float64)
    copies = np.ceil(L / L.mean() - 1e-12).astype(int)
    total = copies.sum()
    return np.repeat(L * total / (len(L) * copies), copies)


def rare_features(supports: Any, weights: np.ndarray) -> tuple[int, float]:
    """r, the most coordinates a client owns, and c = n · max_j Σ_{i: j ∈ J_i} w_i.

    Parameters
    ----------
    supports : array-like of bool, shape (n, d)
        Which coordinates of client i's gradient can be other than zero.
    weights : ndarray, shape (n,)
        w_i, summing to 1.
    """
    owned = np.asarray(supports, dtype=bool)
    return int(owned.sum(axis=1).max()), float(len(owned) * (weights @ owned).max())


def optimal_weights(supports: Any, clients: Any, steps: int = 5000) -> np.ndarray:
    """Weights that make [max_j Σ_{i: j ∈ J_i} w_i] · Σ L_i²/(n² w_i) least (derived here; every w > 0 is valid).

    Σ L_i²/(n² w_i) under Σ_{i: j ∈ J_i} w_i ≤ 1 has the dual max_p (Σ_i (L_i/n) √(Σ_{j ∈ J_i} p_j))² over distributions p, which
    multiplicative steps solve; any p gives a feasible w.

    Returns
    -------
    ndarray, shape (n,)
        Summing to 1.
    """
    owned = np.unique(np.asarray(supports, dtype=bool), axis=1)
    L = np.asarray(clients, dtype=np.float64)
    L = L / L.max()  # only their ratios matter, and squares of small units would be 0
    if not owned.any(axis=1).all():
        raise ValueError(
            f"supports must give each client a coordinate, client {int((~owned.any(axis=1)).argmax())} has none"
        )
    B = owned[:, owned.any(axis=0)].astype(float)
    p = np.full(B.shape[1], 1 / B.shape[1])
    candidates = (L, np.ones(len(L)))  # the usual weights; never worse than those
    kept = min(candidates, key=lambda w: (w @ B).max() * float((L**2 / w).sum()))
    best = (kept @ B).max() * float((L**2 / kept).sum())
    for _ in range(steps):
        w = L / np.sqrt(B @ p)
        load = w @ B
        value = load.max() * float((L**2 / w).sum())
        if value < best:
            best, kept = value, w
        lower = float((L * np.sqrt(B @ p)).sum()) ** 2
        if value <= lower * (1 + 1e-7):
            break
        p *= load
        p /= p.sum()
    return kept / kept.sum()


def spread(supports: Any, weights: np.ndarray, clients: np.ndarray) -> float:
    """√D: what takes the place of L_AM with rare features; √(c/n) · L_AM for w ∝ L."""
    _, c = rare_features(supports, weights)
    return math.sqrt(c / len(clients)) * weighted_mean(clients, weights)


def weighted_mean(clients: np.ndarray, weights: np.ndarray) -> float:
    """√(Σ L_i²/(n² w_i)): L_AM for w ∝ L, and more for other weights."""
    n, top = len(clients), float(clients.max())  # squares of small units would be 0
    return top * math.sqrt(float(((clients / top) ** 2 / (n**2 * weights)).sum()))


def stepsize(
    name: str,
    smoothness: Smoothness,
    alpha: float,
    *,
    mu: float | None = None,
    supports: Any = None,
    weights: np.ndarray | None = None,
    k: int | None = None,
    participation: float = 1.0,
) -> float:
    """The largest stepsize that the theorem of that name licenses.

    Parameters
    ----------
    name : {"am", "qm", "pl", "rf", "sgd"}
        New analysis; old; Polyak–Łojasiewicz, which needs `mu`; rare features, which needs `supports`, `weights` and `k`; noisy
        gradients.
    smoothness : Smoothness
    alpha : float
        Contraction of the compressor.
    mu : float, optional
        A4: f(x) − f* ≤ ‖∇f(x)‖²/(2μ).
    supports, weights, k : optional
        Of :func:`rare_features`, and the k of TopK: α is k/r there.
    participation : float
        Least probability that a client takes part: composed with it, C contracts by α·p.
    """
    known = constants(alpha * participation)
    L = smoothness.L
    match name:
        case "am":
            return 1 / (L + smoothness.am * known.xi)
        case "qm":
            return 1 / (L + smoothness.qm * known.xi)
        case "pl":
            if mu is None:
                raise ValueError("step='pl' needs mu, the constant of Polyak and Łojasiewicz")
            mu = as_real(mu, "mu", low=0, high=math.inf, open_ends=True)
            if mu > L * (1 + 1e-12):
                raise ValueError(f"mu must be at most L = {L:g}, got {mu:g}")
            return min(1 / (L + math.sqrt(2) * smoothness.am * known.xi), known.theta / (2 * mu))
        case "rf":
            if supports is None or weights is None or k is None:
                raise ValueError("step='rf' needs supports, and a TopK compressor")
            r, _ = rare_features(supports, weights)
            own = constants(min(1.0, k / r) * participation)
            return 1 / (L + spread(supports, weights, smoothness.clients) * own.xi)
        case "sgd":
            _, B, _, theta = noisy(alpha * participation)
            return 1 / (L + smoothness.am * math.sqrt(B / theta))
    raise ValueError(f"step must be 'am', 'qm', 'pl', 'rf', 'sgd' or a number, got {name!r}")


def noisy(alpha: float) -> tuple[float, float, float, float]:
    """A, B, C_n and θ̂ = 1 − A of the recursion with noisy gradients (derived here), at ρ = α/(2(1−α)), ν = (α/4)/(1−α/2)."""
    if alpha == 1:
        return 0.0, 0.0, 1.0, 1.0
    rho, nu = alpha / (2 * (1 - alpha)), (alpha / 4) / (1 - alpha / 2)
    A, B = (1 - alpha) * (1 + rho) * (1 + nu), (1 - alpha) * (1 + rho) * (1 + 1 / nu)
    return A, B, (1 - alpha) * (1 + rho) + 1 + 1 / rho, 1 - A


def glm_smoothness(A: Any, curvature: float, ridge: float = 0.0) -> float:
    """curvature · λ_max(AᵀA)/m + ridge, never too small: power iteration to 1e-6, and then that much more."""
    m, d = A.shape
    v = np.random.default_rng(0).normal(size=d)
    size = last = 0.0
    for _ in range(100_000):
        u = A.T @ (A @ v)
        size = float(np.linalg.norm(u))
        if size == 0:
            return float(ridge)
        v = u / size
        if abs(size - last) <= 1e-12 * size:  # far below the tolerance: the last gaps close slowly
            break
        last = size
    return float(curvature) * size * (1 + 1e-6) / m + float(ridge)


def estimated_smoothness(
    grads: Sequence[Callable[[np.ndarray], np.ndarray]], x: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Lower bounds of L_i: power iteration on differences of gradients around x."""
    found = []
    for g in grads:
        base, v, top = g(x), rng.normal(size=len(x)), 0.0
        for _ in range(20):
            v /= np.linalg.norm(v)
            reach = 1e-4 * max(1.0, float(np.linalg.norm(x)))
            v = (g(x + reach * v) - base) / reach
            top = max(top, float(np.linalg.norm(v)))
            if top == 0:
                break
        found.append(top)
    return np.array(found)
