"""A sketch for data that arrive in blocks of rows, and what that costs in width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.linalg._linf_regression.factor import Factored
from whp.linalg._linf_regression.sketches import SRHT, Rng, Sketch
from whp.provenance import register
from whp.validate import as_int

__all__ = ["FEWEST", "BlockSRHT", "Spread", "repeated", "spread"]

# Rows of a block: of fewer, a row of the sketch mixes too few for a level of a dozen rows (bars
# were missed in 28 % of runs with 8 or 16, in 2 % with 64).
FEWEST = 64


class BlockSRHT(Sketch):
    """One SRHT for each block of rows: block-diagonal, with rows in proportion to the block.

    Parameters
    ----------
    n, m : int
        Rows of the input and of the sketch in all.
    block_rows : int
        Rows of a block, at least 64; powers of two need no padding. A last block of fewer than 64
        rows is joined to the one before.
    rng : numpy.random.Generator or int, optional
        Source of all randomness.
    replace : bool
        Draw rows with replacement within a block.

    Attributes
    ----------
    blocks : tuple of SRHT
        The sketch of each block of rows, to be applied as the block arrives.
    edges : ndarray
        Block i has rows ``edges[i]:edges[i + 1]`` of the input.
    row_edges : ndarray
        And rows ``row_edges[i]:row_edges[i + 1]`` of the sketch.
    """

    family = "block-srht"

    def __init__(
        self, n: int, m: int, block_rows: int, rng: Rng = None, *, replace: bool = False
    ) -> None:
        super().__init__(n, m)
        block_rows = as_int(block_rows, "block_rows", low=FEWEST)
        rng = np.random.default_rng(rng)
        starts = np.arange(0, n, block_rows)
        if len(starts) > 1 and n - starts[-1] < FEWEST:
            starts = starts[:-1]
        self.edges = np.append(starts, n)
        if m < len(self.edges) - 1:
            raise ValueError(
                f"block_rows must leave each of the {len(self.edges) - 1} blocks a row of the "
                f"sketch, got {block_rows} with rows = {m}"
            )
        self.row_edges = np.round(self.edges * (m / n)).astype(np.int64)
        sizes, counts = np.diff(self.edges), np.diff(self.row_edges)
        if counts.min() < 1:
            self.row_edges = np.unique(np.linspace(0, m, len(self.edges)).round().astype(np.int64))
            counts = np.diff(self.row_edges)
        self.blocks = tuple(
            SRHT(int(s), int(c), rng, replace=replace) for s, c in zip(sizes, counts, strict=True)
        )
        register(self, "blocks", "edges", "row_edges", "shape")

    @property
    def repeats(self) -> np.ndarray:
        """See :class:`Sketch`."""
        return np.concatenate([part.repeats for part in self.blocks])

    def _matmat(self, X: Any) -> np.ndarray:
        X = X.tocsr() if hasattr(X, "tocsr") else X
        return np.concatenate(
            [s @ X[i:j] for s, i, j in zip(self.blocks, self.edges, self.edges[1:], strict=False)]
        )

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        ends = zip(self.blocks, self.row_edges, self.row_edges[1:], strict=False)
        return np.concatenate([s.T @ Y[i:j] for s, i, j in ends])


@dataclass(frozen=True, eq=False)
class Spread:
    """How evenly the rows, and the blocks of them, carry what the error is made of.

    Parameters
    ----------
    factor : ndarray, shape (d, k)
        F: variance of each coefficient over that of a sketch of all rows at once.
    degrees : ndarray, shape (k,)
        Degrees of freedom of the estimate of ‖r‖.
    rows : float
        Rows of a sketch of all rows at once that embeds the range of A as well.
    left : float
        Mean of ‖Sb − SAx‖² in units of ‖r‖²/m.
    """

    factor: np.ndarray
    degrees: np.ndarray
    rows: float
    left: float


def repeated(repeats: np.ndarray, population: float, SA: np.ndarray, fit: Factored) -> Spread:
    """What rows that were drawn several times cost (docs: repeated-rows).

    Parameters
    ----------
    repeats : ndarray, shape (m,)
        How many times each row was drawn.
    population : float
        Number of orthogonal rows of which they were drawn, infinite for rows that are not.
    SA : ndarray
        The sketch, columns of A scaled to norm 1.
    fit : Factored
        Of the sketch.
    """
    m, d = SA.shape
    k = fit.y.shape[1]
    if repeats.max() == 1:
        return Spread(np.ones((d, k)), np.full(k, float(m - d)), float(m), float(m - d))
    basis = SA @ fit.inverse
    leverage = np.einsum("ij,ij->i", basis, basis)
    twice = (basis.T * repeats) @ basis
    left = max(m - float(np.trace(twice)), 1e-9)
    squares = repeats.sum() - 2 * (repeats**2 @ leverage) + (twice**2).sum()
    degrees = left**2 / max(float(squares), left)
    variance = repeats @ (basis @ fit.inverse.T) ** 2 / fit.diagonal
    # r is orthogonal to A; (AᵀA)⁻¹ is smaller than (RᵀR)⁻¹ by so much on average.
    variance -= m / population * (1 - d * repeats.mean() / m)
    factor = np.broadcast_to(np.maximum(variance, 1.0)[:, None], (d, k))
    return Spread(factor, np.full(k, degrees), m / float(repeats.mean()), left)


def spread(
    row_edges: np.ndarray, repeats: np.ndarray, SA: np.ndarray, Sb: np.ndarray, fit: Factored
) -> Spread:
    """What the blocks of a sketch carry, read from the sketch (docs: blocks).

    With g = A(AᵀA)⁻¹e_j, the error of coefficient j is gᵀSᵀSr in first order, whose variance is the
    sum over blocks i of (‖gᵢ‖²‖rᵢ‖² + ⟨gᵢ, rᵢ⟩²)/mᵢ. A share of all leverage would not do in place
    of ‖gᵢ‖²: one coefficient may live in the block that has the large residuals.

    Parameters
    ----------
    row_edges : ndarray
        Where the blocks of rows of the sketch end.
    repeats : ndarray, shape (m,)
        How many times each row was drawn.
    SA, Sb : ndarray
        The sketch, columns of A scaled to norm 1.
    fit : Factored
        Of the sketch.
    """
    first, counts = row_edges[:-1], np.diff(row_edges).astype(float)
    m, d = SA.shape
    drawn = repeated(repeats, np.inf, SA, fit)
    basis = SA @ fit.inverse
    leverage = np.minimum(repeats * np.einsum("ij,ij->i", basis, basis), 1 - 1e-6)
    # What fitting took out of the residual of a row with large leverage is put back.
    left = (Sb - SA @ fit.y) / np.sqrt(1 - leverage)[:, None]
    direction = basis @ fit.inverse.T
    g2 = np.add.reduceat(repeats[:, None] * direction**2, first)
    r2 = np.add.reduceat(left**2, first)
    total = np.maximum(r2.sum(axis=0), np.finfo(float).tiny)
    factor = np.empty((d, Sb.shape[1]))
    for t in range(Sb.shape[1]):
        inner = np.add.reduceat(direction * left[:, t : t + 1], first)
        both = (g2 * r2[:, t : t + 1] + inner**2) / counts[:, None]
        factor[:, t] = m * both.sum(axis=0) / (fit.diagonal * total[t])
    # Satterthwaite's degrees of freedom; the 2 takes out the spread of the estimates themselves.
    alike = counts**2 / np.add.reduceat(repeats, first)  # rows without repeats that say as much
    part = r2 / total
    degrees = 1 / np.maximum((part**2 / (alike + 2)[:, None]).sum(axis=0), 1 / m) - d
    share = np.add.reduceat(leverage, first) / leverage.sum() / (counts / m)
    return Spread(
        np.maximum(factor, 1.0),
        np.minimum(degrees, drawn.degrees),
        drawn.rows / max(share.max(), 1.0),
        drawn.left,
    )
