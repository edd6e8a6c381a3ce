"""Arms that tire and recover: a timetable, its exact reward, and what no policy can exceed.

Problem: N arms pay more the longer they have rested, K may be pulled a period. The K best now keep
pulling tired arms; a bandit library knows no fatigue.

Idea: pull arm i every d_i periods. A linear program over concave envelopes of the rate (1/d, R(d)/d)
bounds every policy; its solution is rounded to periods that pack into K slots without a conflict, by
splitting residue classes. Unknown curves are learnt in phases: plan on upper confidence limits of
every arm and gap.

Cost: O(N D log(N D)) for a bound, a few dozen packings of O(N log N) for a plan; local search, or all
timetables where they are few, on top for small N.

What is proven: the upper bound for every policy, a share γ_K ≈ 1 − 2/√K of it beforehand and the
computed share afterwards; for curves out of a log, with the sampling error of every mean; regret and
bands of learning, executed on the run. Constants are derived here.

References
----------
D. Simchi-Levi, Z. Zheng, F. Zhu. Offline Planning and Online Learning under Recovering Rewards. ICML
2021. arXiv:2106.14813.
"""

from typing import TYPE_CHECKING, Any

from whp.bandits._recovering_bandits.front_door import RecoveringReport, recovering_bandits
from whp.bandits._recovering_bandits.learn import RecoveringPolicy, RecoveringRun, learn_recovering
from whp.bandits._recovering_bandits.log import RecoveryCurves, fit_recovery
from whp.bandits._recovering_bandits.plan import RecoveringPlan, plan_recovering, upper_bound

if TYPE_CHECKING:
    from whp.bandits._recovering_bandits.environment import RecoveringEnv

__all__ = [
    "RecoveringEnv",
    "RecoveringPlan",
    "RecoveringPolicy",
    "RecoveringReport",
    "RecoveringRun",
    "RecoveryCurves",
    "fit_recovery",
    "learn_recovering",
    "plan_recovering",
    "recovering_bandits",
    "upper_bound",
]


def __getattr__(name: str) -> Any:
    if name == "RecoveringEnv":  # gymnasium is in an extra
        from whp.bandits._recovering_bandits.environment import RecoveringEnv

        return RecoveringEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
