"""How far a coreset is off, looked for: over a net of directions, and on from its worst."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import scipy.linalg as sl

from whp.door import AtLeast, Between, front_door
from whp.linalg._lp_sensitivity_sampling.basis import Basis, as_design, squared_rows, whiten
from whp.linalg._lp_sensitivity_sampling.solvers import powers
from whp.validate import as_vector

__all__ = ["Distortion", "as_rows", "distortion"]

NET = 256


@dataclass(frozen=True, eq=False)
class Distortion:
    """Least and greatest ``R(x) = Σξ|a_iᵀx|^p/Σ|a_iᵀx|^p`` found, and where.

    What was found exists: the true distortion is at least `value`. It may be more, so this refutes
    and never confirms, unless `exact`: for p = 2 and for a single column.
    """

    low_ratio: float
    high_ratio: float
    x_low: np.ndarray
    x_high: np.ndarray
    ratios: np.ndarray
    exact: bool

    @property
    def value(self) -> float:
        """``max |R(x) − 1|`` over all x tried."""
        return max(self.high_ratio - 1, 1 - self.low_ratio)


def as_rows(index: Any, xi: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers and weights of a coreset of n rows, checked."""
    rows = as_vector(index, "index", dtype=np.float64)
    if (rows != np.floor(rows)).any() or rows.min() < 0 or rows.max() >= n:
        raise ValueError(f"index must hold whole row numbers 0 to {n - 1}")
    weights = as_vector(xi, "xi", size=len(rows), dtype=np.float64)
    if weights.min() < 0:
        raise ValueError(f"xi must not be negative, got {weights.min():g}")
    return rows.astype(np.int64), weights


def search(
    basis: Basis,
    index: np.ndarray,
    xi: np.ndarray,
    p: float,
    starts: int,
    steps: int,
    rng: np.random.Generator,
) -> Distortion:
    """See :func:`distortion`; all directions of a step are one matrix product."""
    U, S = basis.U, basis.U[index]
    scaled = S * (xi ** (1 / p))[:, None]
    values, vectors = sl.eigh(scaled.T @ scaled, check_finite=False)
    if p == 2:
        return Distortion(
            float(values[0]),
            float(values[-1]),
            basis.coefficients(vectors[:, 0]),
            basis.coefficients(vectors[:, -1]),
            values,
            True,
        )
    d = U.shape[1]

    def ratio(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        full, part = U @ X, S @ X
        den = powers(np.abs(full), p).sum(axis=0)
        num = xi @ powers(np.abs(part), p)
        return num / den, num, den, full, part

    # The net: eigenvectors, directions in which single rows weigh most, Gaussians to fill the gaps.
    heavy = np.argsort(-squared_rows(U))[: NET // 4]
    dropped = np.setdiff1d(heavy, index)
    pick = rng.choice(len(S), min(len(S), NET // 4), replace=False)
    if d == 1:
        heavy, dropped, pick, starts, steps = heavy[:1], heavy[:0], pick[:0], 1, 0
    net = np.hstack(
        [
            vectors,
            U[heavy].T,
            U[dropped].T,
            S[pick].T,
            rng.standard_normal((d, max(NET - d, NET // 4) if d > 1 else 0)),
        ]
    )
    net = net[:, np.linalg.norm(net, axis=0) > 0]
    net /= np.linalg.norm(net, axis=0)
    at_net = ratio(net)[0]
    order = np.argsort(at_net)
    k = min(starts, net.shape[1])
    X = np.hstack([net[:, order[-k:]], net[:, order[:k]]])
    sign = np.repeat([1.0, -1.0], [k, k])
    R, num, den, full, part = ratio(X)
    step = np.full(2 * k, 0.5)
    for _ in range(steps):
        up = (
            S.T
            @ (xi[:, None] * powers(np.abs(part), p - 1) * np.sign(part))
            / np.maximum(num, 1e-300)
        )
        down = U.T @ (powers(np.abs(full), p - 1) * np.sign(full)) / den
        g = (up - down) * sign
        size = np.linalg.norm(g, axis=0)
        Y = X + step * g / np.where(size > 0, size, 1.0)
        Y /= np.linalg.norm(Y, axis=0)
        tried = ratio(Y)
        better = (tried[0] - R) * sign > 0
        X[:, better], R[better], num[better], den[better] = (
            Y[:, better],
            *(v[better] for v in tried[:3]),
        )
        full[:, better], part[:, better] = tried[3][:, better], tried[4][:, better]
        step = np.where(better, step * 1.5, step / 2)
        if step.max() < 1e-9:
            break
    # A ratio of piecewise linear functions is extreme at a vertex, where d − 1 rows vanish.
    if p == 1 and d > 1:
        vertices = [_vertex(U, x) for x in X[:, [int(np.argmax(R)), int(np.argmin(R))]].T]
        if d == 2:  # few enough to try them all
            vertices += [np.column_stack([-U[:NET, 1], U[:NET, 0]]).T]
        V = np.column_stack(vertices)
        V = V[:, np.linalg.norm(V, axis=0) > 0]
        X, R = np.hstack([X, V]), np.concatenate([R, ratio(V)[0]])
    X, R = np.hstack([X, net]), np.concatenate([R, at_net])
    low, high = int(np.argmin(R)), int(np.argmax(R))
    return Distortion(
        float(R[low]),
        float(R[high]),
        basis.coefficients(X[:, low]),
        basis.coefficients(X[:, high]),
        at_net,
        d == 1,
    )


def _vertex(U: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The direction next to x that the d − 1 rows nearest to it are orthogonal to."""
    sizes = np.sqrt(squared_rows(U))
    angle = np.where(sizes > 0, np.abs(U @ x) / np.where(sizes > 0, sizes, 1.0), np.inf)
    near = np.argsort(angle)[: U.shape[1] - 1]
    return sl.qr(U[near].T, check_finite=False)[0][:, -1]


@front_door
def distortion(
    A: Any,
    index: Any,
    xi: Any,
    p: Annotated[float, Between(1, 64)],
    *,
    starts: Annotated[int, AtLeast(1)] = 24,
    steps: Annotated[int, AtLeast(0)] = 60,
    rng: np.random.Generator | int | None = None,
) -> Distortion:
    """Search for the directions in which a coreset is most wrong.

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    index, xi : array_like, shape (m,)
        Rows of the coreset and what multiplies their ``|aᵀx|^p``.
    p : float
        Power, at least 1.
    starts : int
        From how many of the net's worst directions, on either side, to go on by normalised gradient
        steps.
    steps : int
        How many of those.
    rng : numpy.random.Generator, int or None
        Source of the random part of the net.

    Returns
    -------
    Distortion
    """
    clean, names = as_design(A)
    rows, weights = as_rows(index, xi, len(clean))
    return search(whiten(clean, names), rows, weights, p, starts, steps, np.random.default_rng(rng))
