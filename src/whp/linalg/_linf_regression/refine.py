"""Improve a sketched solution on all of A, preconditioned by the R of the sketch."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.sparse.linalg import LinearOperator, lsqr

from whp.linalg._linf_regression.factor import Factored
from whp.linalg._linf_regression.problem import Problem, adjoint, product
from whp.progress import track

__all__ = ["refined"]


def refined(problem: Problem, start: Factored, m: int, refine: int | Literal["lsqr"]) -> np.ndarray:
    """Coefficients (d, k) of the scaled columns after so many steps, or by LSQR to rounding."""
    y, norms = start.y, problem.norms
    if refine == "lsqr":
        preconditioned = LinearOperator(
            problem.A.shape,
            dtype=np.float64,
            matvec=lambda z: product(problem.A, (start.inverse @ z) / norms),
            rmatvec=lambda r: (
                start.inverse.T @ (adjoint(problem.A, r.reshape(-1, 1))[:, 0] / norms)
            ),
        )
        unit = float(np.finfo(np.float64).eps)
        steps = [
            lsqr(preconditioned, left, atol=unit, btol=unit, conlim=0, iter_lim=200)[0]
            for left in problem.left(y).T
        ]
        return y + start.inverse @ np.stack(steps, axis=1)
    # Plain steps diverge once m < 11.7 d: the preconditioned spectrum ends at 1/(1 − √ρ)², ρ = d/m.
    # The heavy ball with these two constants contracts by √ρ a step for every m > d.
    rho = len(y) / m
    previous = y
    for _ in track(range(refine), "refining"):
        step = (1 - rho) ** 2 * start.solve(problem.gradient(problem.left(y)))
        y, previous = y + step + rho * (y - previous), y
    return y
