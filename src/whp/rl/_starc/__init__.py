"""How far two reward functions are apart, and the regret of confusing them.

Problem: a reward that was learnt or simplified is optimised where another one is meant. Comparing
returns of trained agents is dear and says nothing of other policies; earlier distances (EPIC, DARD)
can be tiny while all return is lost.

Idea: two rewards order all policies alike if they differ by shaping, by where reward falls among
next states, and by a positive factor. Take the first two away by a canonical form c (the advantage
function of a reference policy), the third by a norm, and measure what is left: zero exactly for
equivalent rewards, with bounds on the worst regret from both sides. The worst regret itself is
found exactly on tables: by duality it is the least range of returns of r1 − λ r2 over λ ≥ 0.

Cost: one factorisation of S × S for the form, a dozen policy iterations for the worst case.

References
----------
J. Skalse, L. Farnik, S. Motwani, E. Jenner, A. Gleave, A. Abate. STARC: A General Framework For
Quantifying Differences Between Reward Functions. ICLR 2024. arXiv:2309.15257.
A. Gleave, M. Dennis, S. Legg, S. Russell, J. Leike. Quantifying Differences in Reward Functions.
ICLR 2021. arXiv:2006.13900.
B. Wulfe, L. Ellis, J. Mercat, R. McAllister, A. Gaidon. Dynamics-Aware Comparison of Learned Reward
Functions. ICLR 2022. arXiv:2201.10081.
"""

from whp.rl._starc.dynamics import Dynamics
from whp.rl._starc.environments import TabularModel, tabular_model
from whp.rl._starc.front_door import (
    StarcResult,
    canonicalise,
    reward_distance_matrix,
    starc,
    worst_case_regret,
)
from whp.rl._starc.regret import WorstCase, range_of_return
from whp.rl._starc.sampled import SampledResult, starc_sampled

__all__ = [
    "Dynamics",
    "SampledResult",
    "StarcResult",
    "TabularModel",
    "WorstCase",
    "canonicalise",
    "range_of_return",
    "reward_distance_matrix",
    "starc",
    "starc_sampled",
    "tabular_model",
    "worst_case_regret",
]
