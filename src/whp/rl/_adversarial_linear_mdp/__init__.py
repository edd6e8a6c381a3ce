"""Compete with the best fixed policy when costs change arbitrarily from episode to episode.

Problem: in each episode a path of H steps is chosen, and only its costs are seen; an adversary sets the
costs of all states and actions anew each time. Learners that average past costs (UCBVI, LSVI-UCB,
greedy) can lose a constant share of every episode.

Idea: at every state follow the regularised leader on estimated action values, less a bonus for what
the policy rarely sees, which is passed back along the dynamics (dilated). Estimates from the inverse
covariance of the features can be as low as −H/γ, which hedge does not bear: either take the log-barrier,
whose regret holds for losses of any size (a refined analysis), or take off the negative part and add
its mean (magnitude-reduced), which is never below −H/√γ. Regret √K in place of K^{2/3}.

Cost: O(H X A d² + H X² A) an episode, and O(H (X A)² d) for the mean of the negative part.

References
----------
Y. Dai, H. Luo, C.-Y. Wei, J. Zimmert. Refined Regret for Adversarial MDPs with Linear Function
Approximation. ICML 2023. arXiv:2301.12942.
H. Luo, C.-Y. Wei, C.-W. Lee. Policy Optimization in Adversarial MDPs: Improved Exploration via Dilated
Bonuses. NeurIPS 2021. arXiv:2107.08346.
G. Neu, J. Olkhovskaya. Efficient and robust algorithms for adversarial linear contextual bandits. COLT
2020. arXiv:2002.00287.
L. Li, W. Chu, J. Langford, X. Wang. Unbiased offline evaluation of contextual-bandit-based news article
recommendation algorithms. WSDM 2011. arXiv:1003.5956.
"""

from whp.rl._adversarial_linear_mdp.environment import LayeredEnv
from whp.rl._adversarial_linear_mdp.front_door import (
    AdversarialLinearMDPResult,
    adversarial_linear_mdp,
)
from whp.rl._adversarial_linear_mdp.ftrl import LogBarrierFTRL, log_barrier
from whp.rl._adversarial_linear_mdp.learner import AdversarialPolicyOptimizer
from whp.rl._adversarial_linear_mdp.model import LinearQModel, regret_against_best_fixed
from whp.rl._adversarial_linear_mdp.simulator import SimulatorPolicyOptimizer
from whp.rl._adversarial_linear_mdp.unknown import LinearMDPPolicyOptimizer

__all__ = [
    "AdversarialLinearMDPResult",
    "AdversarialPolicyOptimizer",
    "LayeredEnv",
    "LinearMDPPolicyOptimizer",
    "LinearQModel",
    "LogBarrierFTRL",
    "SimulatorPolicyOptimizer",
    "adversarial_linear_mdp",
    "log_barrier",
    "regret_against_best_fixed",
]
