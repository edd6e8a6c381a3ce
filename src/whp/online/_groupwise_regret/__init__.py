"""Online prediction that is nearly as good on every group as its best model in hindsight.

Problem: rows arrive one by one and belong to overlapping groups (age, sex, race, …). One global
online model averages minorities away; one model a group does not say which to use for a person in
five groups.

Idea: every group has an online learner of its own that sees only its rounds. AdaNormalHedge for
experts that sleep mixes the learners of the groups that are active, and its regret to each is
√(T_g ln N) on that group's own rounds, without a learning rate.

Cost: O(d²) a row and active group, N d² numbers; linear in the number of groups. Shortest paths: one
pass over the graph a round and active group.

What is proven: the regret of each group, executed on the run with all constants (for paths: in
expectation over coins). Against a global model there is no bound on a group; the report says where it
wins.

References
----------
K. Acharya, E. Arunachaleswaran, S. Kannan, A. Roth, J. Ziani. Oracle Efficient Algorithms for
Groupwise Regret. ICLR 2024. arXiv:2310.04652.
A. Blum, T. Lykouris. Advancing Subgroup Fairness via Sleeping Experts. ITCS 2020.
"""

from whp.online._groupwise_regret.estimator import GroupwiseRegressor
from whp.online._groupwise_regret.front_door import GroupwiseRegretResult, groupwise_regret
from whp.online._groupwise_regret.hedge import AdaNormalHedge
from whp.online._groupwise_regret.learner import GroupwiseLearner
from whp.online._groupwise_regret.paths import GroupwiseShortestPath, grid
from whp.online._groupwise_regret.ridge import OnlineRidge

__all__ = [
    "AdaNormalHedge",
    "GroupwiseLearner",
    "GroupwiseRegressor",
    "GroupwiseRegretResult",
    "GroupwiseShortestPath",
    "OnlineRidge",
    "grid",
    "groupwise_regret",
]
