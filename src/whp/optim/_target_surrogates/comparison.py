"""What others reach with as many gradients of the loss."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.optim._target_surrogates.linear import Settings
from whp.optim._target_surrogates.losses import Loss
from whp.optim._target_surrogates.problem import LinearProblem

__all__ = ["lbfgs_curve", "sgd_curve"]

# In units of one over the smoothness of the mean loss, the longest step that is safe everywhere.
RATES = tuple(10.0 ** np.arange(-2, 2.5, 0.5))


def sgd_curve(
    A: Any,
    y: np.ndarray,
    loss: Loss,
    s: Settings,
    problem: LinearProblem,
    start: np.ndarray,
    calls: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Mean losses after each call, at the rate of the grid with the lowest loss at the end.

    The grid goes with the data's own scale, and on downwards while everything diverges.
    """
    n = len(y)
    b = n if s.batch_size is None else min(s.batch_size, n)
    unit = n / max(problem.norm * (loss.smoothness or 1.0) + n * s.alpha, 1e-300)
    seed, penalty = int(rng.integers(2**31)), problem.penalty / n
    best = np.full(calls + 1, np.inf)
    rates = [unit * r for r in RATES]
    while rates:
        rate = rates.pop(0)
        random, theta = np.random.default_rng(seed), start.copy()
        found = [loss.value(A @ start, y)]
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(calls):
                rows = slice(None) if b == n else random.choice(n, b, replace=False)
                part = A[rows]
                slope = part.T @ loss.gradient(part @ theta, y[rows]) / b
                theta = theta - rate * (slope + (penalty * theta.T).T)
                found.append(loss.value(A @ theta, y))
        if np.isfinite(found).all() and found[-1] < best[-1]:
            best = np.array(found)
        if not rates and not np.isfinite(best[-1]) and rate > 1e-12 * unit:
            rates = [min(rate, unit * RATES[0]) / 10]
    return best / n


def lbfgs_curve(
    A: Any, y: np.ndarray, loss: Loss, problem: LinearProblem, start: np.ndarray, calls: int
) -> np.ndarray:
    """Lowest mean loss after each call of full-batch value and gradient."""
    from scipy.optimize import minimize

    found: list[float] = []

    def both(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(start.shape)
        z = A @ theta
        value, pull = loss.value(z, y), problem.pull(theta)
        found.append(value)
        slope = A.T @ loss.gradient(z, y) + pull
        return value + 0.5 * float((pull * theta).sum()), slope.ravel()

    with np.errstate(over="ignore", invalid="ignore"):
        minimize(
            both,
            start.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxfun": calls + 1, "maxiter": calls + 1},
        )
    found = (found + [found[-1]] * (calls + 1))[: calls + 1]
    return np.minimum.accumulate(found) / len(y)
