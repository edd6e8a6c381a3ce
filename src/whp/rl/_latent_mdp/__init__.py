"""Acting in episodes whose dynamics depend on a hidden type that is revealed afterwards.

Problem: a diagnosis is confirmed later, a customer's segment is known at the end of the month, a fault
at tear-down. A learner of plain Markov decision processes has the wrong class of policies, which must
remember what they saw; solvers of partially observed ones want the model.

Idea: with labels in hindsight, transitions of each context can be counted. Plan over histories in the
kindest model that the counts allow; that is optimistic, so that regret is bounded by what optimistic
values promise above what is earned, and both are known on the run. Histories matter through
their alpha vectors, what is still earned in each context, whose backups are monotone: dominated ones are
never needed.

Cost: a plan only when the visits of a pair double, M S A log2(HK) times at most; O(H) an episode else.

References
----------
R. Zhou, R. Wang, S. S. Du. Horizon-Free and Variance-Dependent Reinforcement Learning for Latent Markov
Decision Processes. ICML 2023. arXiv:2210.11604.
A. Maurer, M. Pontil. Empirical Bernstein Bounds and Sample Variance Penalization. COLT 2009.
J. Kwon, Y. Efroni, C. Caramanis, S. Mannor. RL for Latent MDPs: Regret Guarantees and a Lower Bound.
NeurIPS 2021. arXiv:2102.04939.
"""

from typing import TYPE_CHECKING, Any

from whp.rl._latent_mdp.certify import certificates as latent_mdp_certificates
from whp.rl._latent_mdp.front_door import LatentMDPResult, latent_mdp
from whp.rl._latent_mdp.learner import LatentMDPLearner
from whp.rl._latent_mdp.model import LatentMDP
from whp.rl._latent_mdp.planning import PlanningBudgetError, PlanResult
from whp.rl._latent_mdp.policy import Policy
from whp.rl._latent_mdp.selection import TestSelection
from whp.rl._latent_mdp.variance import VarianceParts

if TYPE_CHECKING:
    from whp.rl._latent_mdp.environment import LatentMDPEnv

__all__ = [
    "LatentMDP",
    "LatentMDPEnv",
    "LatentMDPLearner",
    "LatentMDPResult",
    "PlanResult",
    "PlanningBudgetError",
    "Policy",
    "TestSelection",
    "VarianceParts",
    "latent_mdp",
    "latent_mdp_certificates",
]


def __getattr__(name: str) -> Any:
    if name == "LatentMDPEnv":  # gymnasium is in an extra
        from whp.rl._latent_mdp.environment import LatentMDPEnv

        return LatentMDPEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
