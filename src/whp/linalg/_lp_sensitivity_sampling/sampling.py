"""From scores to rows: the rate at which each row is kept, and the coins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np

from whp.door import AtLeast, Between, front_door
from whp.linalg._lp_sensitivity_sampling.basis import as_design, whiten
from whp.validate import as_vector, private_stream

__all__ = ["Draw", "RootLeverageSample", "draw", "inclusion", "root_leverage_sampling"]

Scheme = Literal["poisson", "fixed", "multinomial"]


@dataclass(frozen=True, eq=False)
class Draw:
    """Rows kept, ``xi`` that multiplies their ``|aᵀx|^p``, and each row's probability q."""

    index: np.ndarray
    xi: np.ndarray
    probabilities: np.ndarray


def inclusion(scores: Any, rows: float) -> tuple[np.ndarray, float]:
    """Probabilities ``q_i = min(1, u_i/α)`` that sum to `rows`, and α.

    Parameters
    ----------
    scores : array_like, shape (n,)
        u, not negative.
    rows : float
        Expected number of rows; from the number of positive scores on, every such row is certain
        and α is 0.

    Returns
    -------
    probabilities : ndarray, shape (n,)
    alpha : float
    """
    u = as_vector(scores, "scores", dtype=np.float64)
    if u.min() < 0 or not u.any():
        raise ValueError("scores must not be negative, nor all zero")
    if not rows > 0:
        raise ValueError(f"rows must be positive, got {rows}")
    if rows >= np.count_nonzero(u):
        return (u > 0).astype(np.float64), 0.0
    with np.errstate(over="ignore"):
        unit = 1.0 if np.isfinite(u.sum()) else float(u.max())
    u = u / unit
    ordered = np.sort(u)[::-1]
    rest = np.cumsum(ordered[::-1])[::-1]  # sum of the scores from k on
    certain = np.arange(min(math.ceil(rows), len(u)))
    alphas = rest[certain] / (rows - certain)
    # The fewest certain rows that leave all others below one.
    k = int(np.argmax(ordered[certain] <= alphas * (1 + 1e-12)))
    alpha = float(alphas[k])
    return np.minimum(1.0, u / alpha), alpha * unit


def inverse(q: np.ndarray) -> np.ndarray:
    """What a row weighs that is kept with probability q, for its mean to be one."""
    return 1 / q


def draw(q: np.ndarray, sampling: Scheme, rng: np.random.Generator) -> Draw:
    """Keep rows by their probabilities; ``E xi_i = 1`` where q_i > 0, in every scheme."""
    match sampling:
        case "poisson":
            index = np.flatnonzero(rng.random(len(q)) < q)
            return Draw(index, inverse(q[index]), q)
        case "fixed":
            # Systematic: one coin, a comb of unit width over the cumulated probabilities; in random
            # order, since in that of the file it would lose or double classes of its period.
            order = rng.permutation(len(q))
            edges = np.concatenate([[0.0], np.cumsum(q[order])])
            edges *= max(round(edges[-1]), 1) / edges[-1]
            teeth = rng.random() + np.arange(round(edges[-1]))
            place = np.clip(np.searchsorted(edges, teeth, side="right") - 1, 0, len(q) - 1)
            index = np.unique(order[place])
            return Draw(index, inverse(q[index]), q)
        case "multinomial":
            m, shares = max(round(q.sum()), 1), q / q.sum()
            counts = rng.multinomial(m, shares)
            index = np.flatnonzero(counts)
            return Draw(index, counts[index] / (m * shares[index]), np.minimum(1.0, m * shares))
    raise ValueError(f"sampling must be one of 'poisson', 'fixed', 'multinomial', got {sampling!r}")


@dataclass(frozen=True, eq=False)
class RootLeverageSample:
    """Rows kept by repeated root-leverage sampling.

    Attributes
    ----------
    index, xi : ndarray, shape (m,)
        Rows and what multiplies their ``|aᵀx|^p``: the product over the rounds.
    alphas : tuple of float
        ``max s_i/q_i`` of each round, by ``s ≤ τ^{p/2}``: what its bound depends on.
    sizes : tuple of int
        Rows left after each round.
    """

    index: np.ndarray
    xi: np.ndarray
    alphas: tuple[float, ...]
    sizes: tuple[int, ...]


def root_leverage_in_basis(
    U: np.ndarray, p: float, rows: int, rounds: int, rng: np.random.Generator
) -> RootLeverageSample:
    """See :func:`root_leverage_sampling`."""
    index = np.flatnonzero(U.any(axis=1))
    xi = np.ones(len(index))
    n = len(index)
    alphas, sizes = [], []
    for k in range(1, rounds + 1):
        target = (
            rows
            if k == rounds
            else math.exp(math.log(n) + (math.log(rows) - math.log(n)) * k / rounds)
        )
        B = U[index] * (xi ** (1 / p))[:, None]
        tau = (
            whiten(B, on_rank="drop").leverage
            if k > 1
            else np.minimum(np.einsum("ij,ij->i", B, B), 1.0)
        )
        q, alpha = inclusion(tau ** (p / 2), target)
        kept = np.flatnonzero(rng.random(len(q)) < q)
        if not len(kept):
            kept = np.array([int(np.argmax(q))])
        index, xi = index[kept], xi[kept] * inverse(q[kept])
        alphas.append(alpha)
        sizes.append(len(kept))
    return RootLeverageSample(index, xi, tuple(alphas), tuple(sizes))


@front_door
def root_leverage_sampling(
    A: Any,
    p: Annotated[float, Between(1, 2)],
    rows: Annotated[int, AtLeast(1)],
    rounds: Annotated[int, Between(1, 64)] = 4,
    rng: np.random.Generator | int | None = None,
) -> RootLeverageSample:
    """Keep rows with ``q ∝ τ^{p/2}``, τ the leverage scores of what is left, again and again.

    O(nd²), no fixed point. One round keeps the norms but on many rows, ``n^{1−p/2}d^{p/2}`` up to
    constants; repeated it comes down to about d, as Lewis weights do (Woodruff & Yasuda 2023, root
    leverage score sampling).

    Parameters
    ----------
    A : array_like, DataFrame or sparse array, shape (n, d)
        Of full column rank.
    p : float
        Power in [1, 2].
    rows : int
        Expected rows after the last round.
    rounds : int
        Their sizes go down geometrically from n to `rows`.
    rng : numpy.random.Generator, int or None
        Source of randomness.

    Returns
    -------
    RootLeverageSample
    """
    clean, names = as_design(A)
    if rows > len(clean):
        raise ValueError(f"rows must be at most {len(clean)}, the rows of A, got {rows}")
    return root_leverage_in_basis(whiten(clean, names).U, p, rows, rounds, private_stream(rng))
