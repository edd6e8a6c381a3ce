"""The subset of stable variables with the smallest worst case over all changes of the mutable mechanisms.

Problem: a predictor that was trained where a variable followed one mechanism meets a place where it follows another. ERM can
lose without limit; to use everything that is stable can be worse than to use less.

Idea: with the mutable variables set, not observed, E[Y | x, do(mutable)] does not depend on how they come about. Its worst case
over all mechanisms is reached at functions of their parents, and for one mutable variable is a sum of maxima over cells. Subsets
that the graph says predict alike are one class, and the class with the smallest worst case is chosen.

Cost: one pass over the rows for every class; an exact class search without touching the 2^n subsets.

What is proven: an upper limit for the mean loss in every environment that differs only in the mutable mechanisms, how far the
choice may be from the best, when the whole stable set is best, and that members of a class predict alike.

References
----------
M. Liu, X. Zheng, X. Sun, F. Fang, Y. Wang. Which Invariance Should We Transfer? A Causal Minimax Learning Approach. ICML 2023.
arXiv:2107.01876.
"""

from whp.invariance._causal_minimax.estimator import CausalMinimaxRegressor
from whp.invariance._causal_minimax.exact import ModelMinimax, minimax_of_model
from whp.invariance._causal_minimax.front_door import causal_minimax
from whp.invariance._causal_minimax.graph import (
    GraphCondition,
    minimal_representative,
    stable_classes,
    whole_stable_set_is_optimal,
)
from whp.invariance._causal_minimax.model import DiscreteSCM, worst_case_risk
from whp.invariance._causal_minimax.result import MinimaxResult

__all__ = [
    "CausalMinimaxRegressor",
    "DiscreteSCM",
    "GraphCondition",
    "MinimaxResult",
    "ModelMinimax",
    "causal_minimax",
    "minimal_representative",
    "minimax_of_model",
    "stable_classes",
    "whole_stable_set_is_optimal",
    "worst_case_risk",
]
