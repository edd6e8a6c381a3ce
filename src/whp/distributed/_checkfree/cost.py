"""What each strategy costs at a given rate of failures, from the numbers of one's own machine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from whp.validate import as_int, as_real

__all__ = ["PAPER_REDUNDANCY", "Comparison", "expected_executed", "expected_time"]

PAPER_REDUNDANCY = 151.04 / 91.32  # iteration time of redundant computation over plain, Table 2


def expected_executed(failure: float, every: int) -> float:
    """Iterations executed, on average, for `every` useful ones between checkpoints.

    A block of K iterations counts once K in a row went well; a failure takes back those since the checkpoint. The expected
    number of trials until K successes in a row is (1 − (1−P)^K) / (P (1−P)^K), and K without failures.

    Parameters
    ----------
    failure : float
        Probability P that an iteration sees a failure.
    every : int
        Iterations K between checkpoints.
    """
    P, K = as_real(failure, "failure", low=0, high=1), as_int(every, "every", low=1)
    if P in (0.0, 1.0):
        return float(K) if P == 0 else math.inf
    log_whole = K * math.log1p(-P)
    return math.inf if log_whole < -700 else -math.expm1(log_whole) / (P * math.exp(log_whole))


@dataclass(frozen=True)
class Comparison:
    """Expected seconds until the target, by strategy.

    Attributes
    ----------
    checkpoint, redundant, checkfree : float
        Seconds.
    best : str
        The least of them.
    threshold : float
        Iterations that CheckFree may need, over those without failures, to beat redundant computation.
    """

    checkpoint: float
    redundant: float
    checkfree: float
    threshold: float

    @property
    def best(self) -> str:
        """The strategy with the least time."""
        times = {
            "checkfree": self.checkfree,
            "redundant": self.redundant,
            "checkpoint": self.checkpoint,
        }
        return min(times, key=lambda k: times[k])


def expected_time(
    failure: float,
    iterations: int,
    checkfree_iterations: int,
    *,
    iteration_seconds: float,
    recovery_seconds: float = 0.3,
    checkpoint_every: int = 100,
    restart_seconds: float = 0.0,
    redundancy: float = PAPER_REDUNDANCY,
) -> Comparison:
    """Compare checkpoints, redundant computation and CheckFree for a rate of failures.

    Parameters
    ----------
    failure : float
        Probability that an iteration sees a failure of any stage.
    iterations : int
        Needed to reach the target without failures (N_0).
    checkfree_iterations : int
        Needed by CheckFree at this rate of failures, measured (N_cf).
    iteration_seconds, restart_seconds : float
        Time of an iteration, and of going back to a checkpoint.
    recovery_seconds : float
        Mean time of a CheckFree recovery, hangs and roll-backs included: a median leaves out what
        costs most. The half iteration that a loss wastes, as it strikes at any moment, is added.
    checkpoint_every : int
        Iterations between checkpoints.
    redundancy : float
        Iteration time of redundant computation over plain; the paper's is 1.654.

    Returns
    -------
    Comparison
    """
    P = as_real(failure, "failure", low=0, high=1)
    n, m = (
        as_int(iterations, "iterations", low=1),
        as_int(checkfree_iterations, "checkfree_iterations", low=1),
    )
    seconds = as_real(iteration_seconds, "iteration_seconds", low=0, open_ends=True)
    heal = as_real(recovery_seconds, "recovery_seconds", low=0)
    restart, rho = (
        as_real(restart_seconds, "restart_seconds", low=0),
        as_real(redundancy, "redundancy", low=0),
    )
    every = as_int(checkpoint_every, "checkpoint_every", low=1)
    executed = n / every * expected_executed(P, every)
    return Comparison(
        checkpoint=executed * (seconds + P * restart),
        redundant=n * rho * seconds,
        checkfree=m * (seconds + P * (heal + seconds / 2)),
        threshold=rho / (1 + P * (heal / seconds + 0.5)),
    )
