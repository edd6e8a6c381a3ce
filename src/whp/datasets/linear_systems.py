"""Sequences of linear systems: shifted Laplacians, an implicit heat equation, and the graph of handwritten digits."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from functools import lru_cache

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float

__all__ = ["digits_graph", "heat_equation", "shifted_laplacians", "stencil"]

System = tuple[sp.csr_array, np.ndarray, float]


def stencil(m: int) -> sp.csr_array:
    """The five-point Laplacian on m×m points, 4 on the diagonal."""
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(m, m))
    return sp.csr_array(sp.kron(line, sp.eye_array(m)) + sp.kron(sp.eye_array(m), line))


def shifted_laplacians(
    steps: int, *, variance: str = "high", m: int = 10, rng: np.random.Generator | int | None = None
) -> Iterator[System]:
    """A₀ + cI, context c = −0.15 + 0.6·Beta(½, 3/2), or Beta(2, 6) for ``variance="low"``, and normal b with ‖b‖ ≤ √n.

    The simulation of Khodak, Chow, Balcan and Talwalkar (2024), Section 2.
    """
    random = np.random.default_rng(rng)
    A, n = stencil(m), m * m
    a, b = (0.5, 1.5) if variance == "high" else (2.0, 6.0)
    eye = sp.csr_array(sp.eye_array(n))
    for _ in range(steps):
        c = -0.15 + 0.6 * random.beta(a, b)
        right = random.standard_normal(n)
        while np.linalg.norm(right) > math.sqrt(n):
            right = random.standard_normal(n)
        yield sp.csr_array(A + c * eye), right, c


def _bump(x: np.ndarray, y: np.ndarray, cx: float, cy: float, r: float) -> np.ndarray:
    inside = np.minimum(1, ((x - cx) ** 2 + (y - cy) ** 2) / r**2)
    with np.errstate(divide="ignore", over="ignore"):
        return np.where(inside < 1, np.exp(1 - 1 / np.maximum(1 - inside, 1e-300)), 0.0)


def heat_equation(nx: int, steps: int) -> Generator[System, Float[np.ndarray, " n"] | None, None]:
    """Crank-Nicolson on the unit square with a diffusion that oscillates and a source that moves; send each solution back.

    Of Khodak, Chow, Balcan and Talwalkar (2024), Section 4: (I − ½κ dt Δ)u⁺ = (I + ½κ dt Δ)u + dt f, dt = 5/steps,
    κ(t) = max(0.1 sin 2πt, −10 sin 2πt), which is the context.
    """
    m, dt = nx - 1, 5 / steps
    grid = np.arange(1, nx) / nx
    y, x = (v.ravel() for v in np.meshgrid(grid, grid, indexing="ij"))
    minus = stencil(m) * (nx * nx)  # −Δ
    eye = sp.csr_array(sp.eye_array(m * m))
    u = _bump(x, y, 0.5, 0.5, 0.25)

    def kappa(t: float) -> float:
        return max(0.1 * math.sin(2 * math.pi * t), -10 * math.sin(2 * math.pi * t))

    for step in range(steps):
        t = step * dt
        half = t + dt / 2
        k = kappa(half)
        source = 32 * _bump(
            x,
            y,
            0.5 + math.cos(16 * math.pi * half) / 4,
            0.5 + math.sin(16 * math.pi * half) / 4,
            1 / 8,
        )
        right = u - 0.5 * k * dt * (minus @ u) + dt * source
        sent = yield sp.csr_array(eye + 0.5 * k * dt * minus), right, kappa(t)
        if sent is None:
            raise ValueError("heat_equation needs each solution sent back to it")
        u = sent


@lru_cache(maxsize=2)
def _digits(nodes: int) -> tuple[sp.csr_array, np.ndarray]:
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    X, labels = (part[:nodes] for part in load_digits(return_X_y=True))
    near = sp.csr_array(kneighbors_graph(X, 10))
    W = sp.csr_array(((near + near.T) > 0).astype(np.float64))
    return sp.csr_array(sp.diags_array(np.asarray(W.sum(axis=1)).ravel()) - W), labels


def digits_graph(
    steps: int, rng: np.random.Generator | int | None = None, *, nodes: int = 1797
) -> Iterator[System]:
    """Label propagation on the 10 nearest neighbours of the first digits: (Lap + μI)x = 1[y = digit] − 0.1, context ln μ.

    Digits in turn, μ log-uniform in [0.01, 1]. E. Alpaydin and C. Kaynak, UCI (CC BY 4.0); comes with scikit-learn.
    """
    random = np.random.default_rng(rng)
    laplacian, labels = _digits(nodes)
    eye = sp.csr_array(sp.eye_array(laplacian.shape[0]))
    for step in range(steps):
        log = random.uniform(math.log(0.01), 0)
        yield sp.csr_array(laplacian + math.exp(log) * eye), (labels == step % 10) - 0.1, log
