"""Rewards and finite decision processes by other libraries."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from whp.experiment.benchmark import Peer

__all__ = ["PAIR_PROGRAM", "QUANTECON", "optimal_by_quantecon", "regret_by_program"]


def optimal_by_quantecon(transitions: np.ndarray, reward: np.ndarray, discount: float) -> Any:
    """Best values by policy iteration."""
    from quantecon.markov import DiscreteDP

    return DiscreteDP(reward, transitions, discount).solve(method="policy_iteration").v


def regret_by_program(
    transitions: np.ndarray,
    reward1: np.ndarray,
    reward2: np.ndarray,
    start: np.ndarray,
    discount: float,
) -> float:
    """The worst that optimising reward 2 can cost, as one linear program over pairs of visits.

    Rewards are expected ones, of shape (S, A).
    """
    from scipy.optimize import linprog

    S, A = reward1.shape
    rows = np.repeat(np.arange(S), A)
    here = sp.csr_array((np.ones(S * A), (rows, np.arange(S * A))), shape=(S, S * A))
    flow = here - discount * sp.csr_array(transitions.reshape(S * A, S)).T
    equal = sp.block_diag([flow, flow], format="csr")
    r1, r2 = reward1.ravel(), reward2.ravel()
    found = linprog(
        np.concatenate([-r1, r1]),
        A_ub=sp.csr_array(np.concatenate([r2, -r2])[None]),
        b_ub=[0.0],
        A_eq=equal,
        b_eq=np.concatenate([start, start]),
        method="highs",
    )
    if found.status:
        raise ArithmeticError(found.message)
    return -float(found.fun)


QUANTECON = Peer("quantecon policy iteration", optimal_by_quantecon, "quantecon==0.11.4")
PAIR_PROGRAM = Peer(
    "linear program of HiGHS", regret_by_program, "scipy", "all digits of HiGHS's tolerance"
)
