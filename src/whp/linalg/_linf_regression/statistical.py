"""The ordinary standard error of least-squares coefficients, robust to unequal variances (HC3).

``V Σ w_i² a_i a_iᵀ V`` with V = (AᵀA)⁻¹, w_i = r_i/(1 − h_i), leverages h_i (MacKinnon & White 1985).
A sketch cannot know it: mixing rows keeps AᵀA, Aᵀb and ‖b‖ and loses which row had which residual.
So it takes one pass over A, exact where R, x* are those of A, which costs about four products of
A with a d×d matrix. From a sketch the pass costs two products with 96 columns: leverages by
Johnson-Lindenstrauss, and G = Aᵀ(w ∘ ξ) for 64 vectors ξ of random signs, whose covariance is the
sum that is wanted whatever the w_i are; so each standard error is off by about 1/√128.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from whp.linalg._linf_regression.factor import Factored
from whp.linalg._linf_regression.problem import Problem, row_blocks

__all__ = ["Statistics"]

SIGNS, PROJECTIONS = 64, 32
HIGH_LEVERAGE = 0.1  # from here on a leverage is computed and not estimated
SINGULAR = 1e-8  # 1 − h below this: without the row A loses rank


@dataclass(frozen=True, eq=False)
class Statistics:
    """How to compute HC3 from one run.

    Parameters
    ----------
    problem : Problem, optional
        The data, held by reference; None after pickling.
    factor : Factored, optional
        Of A, or of its sketch.
    y : ndarray, optional
        The solution, columns of norm 1.
    rows : int, optional
        Rows of the sketch; None where `factor` is that of A.
    seed : int
        Of the random signs.
    """

    problem: Problem | None
    factor: Factored | None
    y: np.ndarray | None
    rows: int | None = None
    seed: int = 0

    def without_data(self) -> Statistics:
        """What is left for a pickle, where the result carries the numbers."""
        return replace(self, problem=None, factor=None, y=None)

    def __call__(self) -> np.ndarray:
        """Standard errors (d, k) in the user's units."""
        assert self.problem is not None
        assert self.factor is not None
        assert self.y is not None
        if self.rows is None:
            variance = _exact(self.problem, self.factor, self.y)
        else:
            variance = _estimated(self.problem, self.factor, self.y, self.rows, self.seed)
        return self.problem.to_user(np.sqrt(variance))


def _blocks(problem: Problem, y: np.ndarray):
    """Blocks of rows of the scaled A with their residuals, dense, in double precision."""
    A = problem.A.tocsr() if hasattr(problem.A, "tocsr") else problem.A
    blocks = row_blocks(A)
    for i in blocks:
        part = A[i : i + blocks.step]
        part = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
        part = part.astype(np.float64, copy=False) / problem.norms
        yield part, problem.b[i : i + blocks.step] - part @ y


def _exact(problem: Problem, factor: Factored, y: np.ndarray) -> np.ndarray:
    variance = np.zeros_like(y)
    for rows, left in _blocks(problem, y):
        basis = rows @ factor.inverse
        room = 1 - np.einsum("ij,ij->i", basis, basis)
        direction = basis @ factor.inverse.T
        alone = room < SINGULAR
        weighted = left / np.where(alone, 1.0, room)[:, None]
        variance += (direction**2).T @ (weighted**2 * ~alone[:, None])
        if alone.any():  # what only this row says has no spread to estimate it from
            hangs = np.abs(direction[alone]) > 1e-6 * np.sqrt(factor.diagonal)
            variance[hangs.any(axis=0)] = np.inf
    return variance


def _estimated(problem: Problem, factor: Factored, y: np.ndarray, m: int, seed: int) -> np.ndarray:
    (d, k), p = y.shape, m - y.shape[0]
    rng = np.random.default_rng(seed)
    inflated = m / max(p - 1, 1)  # E ((SA)ᵀSA)⁻¹ = m/(m − d − 1) (AᵀA)⁻¹
    project = factor.inverse @ rng.standard_normal((d, PROJECTIONS)) / math.sqrt(PROJECTIONS)
    sums = np.zeros((k, d, SIGNS))
    for rows, left in _blocks(problem, y):
        leverage = np.einsum("ij,ij->i", near := rows @ project, near) / inflated
        high = np.flatnonzero(leverage > HIGH_LEVERAGE)
        if high.size:
            basis = rows[high] @ factor.inverse
            leverage[high] = np.einsum("ij,ij->i", basis, basis) / inflated
        weighted = left / np.maximum(1 - leverage, 0.05)[:, None]
        signs = rng.integers(0, 2, (len(rows), SIGNS)) * 2.0 - 1
        for t in range(k):
            sums[t] += rows.T @ (weighted[:, t : t + 1] * signs)
    variance = np.empty_like(y)
    for t in range(k):
        # For a Gaussian sketch E V̂BV̂ = m² ((p − 1) VBV + tr(BV) V)/(p (p − 1) (p − 3)), p = m − d.
        halves = factor.inverse.T @ sums[t]
        biased = ((factor.inverse @ halves) ** 2).mean(axis=1)
        trace = float((halves**2).sum(axis=0).mean()) / inflated
        extra = trace * factor.diagonal / inflated / max(p - 1, 1)
        shrunk = biased * p * max(p - 3, 1) / m**2 - extra
        variance[:, t] = np.maximum(shrunk, 0.1 * biased / inflated**2)
    return variance
