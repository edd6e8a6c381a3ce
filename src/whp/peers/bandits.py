"""Bandits and timetables by other libraries: mabwiser's UCB1, OR-Tools' constraint programming."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from whp.experiment.benchmark import Peer

__all__ = ["CP_SAT", "MABWISER", "cyclic_timetable", "ucb1"]

CYCLE = 24  # periods of the timetable that constraint programming looks for
SECONDS = 20.0


def ucb1(
    pull: Callable[[int, np.ndarray], np.ndarray], N: int, K: int, T: int, seed: int = 0
) -> None:
    """UCB1 of mabwiser, the K largest expectations pulled: it does not know that arms tire."""
    from mabwiser.mab import MAB, LearningPolicy

    arms = list(range(N))
    mab = MAB(arms, LearningPolicy.UCB1(alpha=0.2), seed=seed)
    first = np.arange(min(K, N))
    mab.fit(first.tolist(), pull(0, first).tolist())
    for t in range(1, T):
        expected: Any = mab.predict_expectations()
        chosen = np.array(sorted(arms, key=lambda a: -expected[a])[:K])
        mab.partial_fit(chosen.tolist(), pull(t, chosen).tolist())


def cyclic_timetable(R: np.ndarray, K: int, seconds: float = SECONDS) -> float:
    """Reward a period of the best timetable of 24 periods that CP-SAT finds in the time."""
    from ortools.sat.python import cp_model

    N, D = R.shape
    model, pulls, terms = cp_model.CpModel(), [], []
    for i in range(N):
        pulled = [model.new_bool_var("") for _ in range(CYCLE)]
        pulls.append(pulled)
        for t in range(CYCLE):
            # y[d − 1] says that the last pull before t was d periods ago.
            y = [model.new_bool_var("") for _ in range(D)]
            model.add(sum(y) == pulled[t])
            for d in range(1, D + 1):
                model.add_implication(y[d - 1], pulled[(t - d) % CYCLE])
                terms.append(int(1e6 * R[i, d - 1]) * y[d - 1])
                for back in range(1, d):
                    model.add_implication(y[d - 1], pulled[(t - back) % CYCLE].negated())
    for t in range(CYCLE):
        model.add(sum(p[t] for p in pulls) <= K)
    model.maximize(sum(terms))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds, solver.parameters.num_workers = seconds, 1
    solver.solve(model)
    return solver.objective_value / 1e6 / CYCLE


MABWISER = Peer(
    "mabwiser UCB1",
    ucb1,
    "mabwiser==2.7.4",
    "it ignores recovery and earns some 20 points of the bound less",
)
CP_SAT = Peer(
    "OR-Tools CP-SAT, 24 periods, 20 s",
    cyclic_timetable,
    "ortools",
    "stops at its limit; ours also bounds every policy",
)
