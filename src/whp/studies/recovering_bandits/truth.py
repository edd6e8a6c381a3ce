"""What policies really earn on known curves: exact optima, the linear program, timetables played."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog

__all__ = ["optimum", "played", "program"]

ITERATIONS = 4000


def optimum(R: Float[np.ndarray, "N D"], K: int) -> tuple[float, float]:
    """Between which numbers the best long-run average lies: value iteration over all idle times."""
    N, D = R.shape
    states = np.array(list(itertools.product(range(D), repeat=N)))
    weights = D ** np.arange(N)[::-1]
    actions = [c for k in range(min(K, N) + 1) for c in itertools.combinations(range(N), k)]
    reward = np.zeros((len(states), len(actions)))
    following = np.zeros(reward.shape, dtype=int)
    for a, chosen in enumerate(actions):
        after = np.minimum(states + 1, D - 1)
        after[:, list(chosen)] = 0
        reward[:, a] = sum((R[j, states[:, j]] for j in chosen), np.zeros(len(states)))
        following[:, a] = after @ weights
    v, low, high = np.zeros(len(states)), 0.0, math.inf
    for _ in range(ITERATIONS):
        # Half a step of waiting makes the iteration aperiodic.
        new = 0.5 * v + 0.5 * (reward + v[following]).max(axis=1)
        low, high = 2 * float((new - v).min()), 2 * float((new - v).max())
        v = new - new.min()
        if high - low < 1e-10:
            break
    return low, high


def program(R: Float[np.ndarray, "N D"], K: int) -> float:
    """UB as a linear program over shares of time at each gap, solved by HiGHS."""
    N, D = R.shape
    d = np.tile(np.arange(1, D + 1), N)
    own = np.kron(np.eye(N), np.ones(D))
    solved = linprog(
        -R.ravel() / d, A_ub=np.vstack([own, 1 / d]), b_ub=np.append(np.ones(N), K), method="highs"
    )
    return -float(solved.fun)


def played(
    R: Float[np.ndarray, "N D"],
    table: Sequence[Any],
    pays: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> tuple[float, int]:
    """Reward a period of the second half of a timetable, and its most pulls in a period.

    Parameters
    ----------
    R : ndarray, shape (N, D)
    table : sequence of arrays of int
        Arms of each period.
    pays : callable, optional
        From the arms of a period and what their curves pay to what they do pay.
    """
    D, last, total, most = R.shape[1], np.full(len(R), -1), 0.0, 0
    half = len(table) // 2
    for t, arms in enumerate(table):
        chosen = np.asarray(arms, dtype=int)
        paid = R[chosen, np.minimum(t - last[chosen], D) - 1]
        if t >= half:
            total += float((paid if pays is None else pays(chosen, paid)).sum())
        last[chosen], most = t, max(most, len(chosen))
    return total / (len(table) - half), most
