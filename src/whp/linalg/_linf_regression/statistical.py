"""The ordinary standard error of least-squares coefficients, robust to unequal variances (HC3).

``V Σ w_i² a_i a_iᵀ V`` with V = (AᵀA)⁻¹, w_i = r_i/(1 − h_i), leverages h_i (MacKinnon & White 1985).
A sketch cannot know it: mixing rows keeps AᵀA, Aᵀb and ‖b‖ and loses which row had which residual.
So it is computed exactly, in one pass over A once the exact solution is known: about two to four
times the cost of that solution, and only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from whp.linalg._linf_regression.factor import Factored
from whp.linalg._linf_regression.problem import Problem, row_blocks
from whp.progress import track

__all__ = ["Statistics"]

SINGULAR = 1e-8  # 1 − h below this: without the row A loses rank
WELL_CONDITIONED = 1e5  # up to here V itself is accurate enough for leverages


@dataclass(frozen=True, eq=False)
class Statistics:
    """How to compute HC3 for one run.

    Parameters
    ----------
    problem : Problem, optional
        The data, held by reference; None after pickling.
    factor : Factored, optional
        Of A, with its exact solution, where that is known.
    solver : callable, optional
        Computes it where it is not.
    centred : ndarray, optional
        Leverages of an intercept that was taken out by centring, w/Σw of each row.
    """

    problem: Problem | None
    factor: Factored | None
    solver: Callable[[Problem], tuple[Factored, np.ndarray]] | None
    centred: np.ndarray | None = None

    def without_data(self) -> Statistics:
        """What is left for a pickle, where the result carries the numbers."""
        return replace(self, problem=None, factor=None, solver=None, centred=None)

    def __call__(self) -> np.ndarray:
        """Standard errors (d, k) in the user's units; infinite where one row alone says it.

        Raises
        ------
        ValueError
            If A or b, held by reference, are not what they were, or did not travel with a pickle.
        """
        if self.problem is None or self.solver is None:
            raise ValueError(
                "statistical_stderr must be asked for where the data are: they do not travel with a "
                "copy or a pickle, which has it only if it could still be computed then"
            )
        factor = self.factor or self.solver(self.problem)[0]
        return self.problem.to_user(np.sqrt(_variance(self.problem, factor, self.centred)))


def _variance(problem: Problem, factor: Factored, centred: np.ndarray | None) -> np.ndarray:
    A = problem.A.tocsr() if hasattr(problem.A, "tocsr") else problem.A
    inverse, blocks = factor.inverse, row_blocks(A)
    covariance = inverse @ inverse.T
    variance, gradient = np.zeros_like(factor.y), np.zeros_like(factor.y)
    squares, rss = np.zeros(len(factor.y)), np.zeros(factor.y.shape[1])
    for i in track(blocks, "statistical standard errors"):
        part = A[i : i + blocks.step]
        part = part.toarray() if hasattr(part, "toarray") else np.asarray(part)
        rows = part.astype(np.float64, copy=False) / problem.norms
        if factor.condition < WELL_CONDITIONED:
            direction = rows @ covariance
            leverage = np.einsum("ij,ij->i", rows, direction)
        else:
            basis = rows @ inverse
            direction = basis @ inverse.T
            leverage = np.einsum("ij,ij->i", basis, basis)
        if centred is not None:
            leverage = leverage + centred[i : i + blocks.step]
        left = problem.b[i : i + blocks.step] - rows @ factor.y
        squares += np.einsum("ij,ij->j", rows, rows)
        gradient += rows.T @ left
        rss += np.einsum("ij,ij->j", left, left)
        alone = 1 - leverage < SINGULAR
        weighted = left / np.where(alone, np.inf, 1 - leverage)[:, None]
        variance += (direction**2).T @ weighted**2
        if alone.any():
            hangs = np.abs(direction[alone]) > 1e-6 * np.sqrt(factor.diagonal)
            variance[hangs.any(axis=0)] = np.inf
    # Twice what rounding leaves, since sums come in another order here.
    may_be = 2 * factor.leaves(factor.y, np.sqrt(rss))
    moved = np.linalg.norm(factor.reduce(gradient), axis=0) > may_be
    if moved.any() or np.any((np.abs(squares - 1) > 1e-4) & (squares > 0)):
        raise ValueError(
            "A or b was changed in place since it was solved; pass copies, or ask for "
            "statistical_stderr before the change"
        )
    return variance
