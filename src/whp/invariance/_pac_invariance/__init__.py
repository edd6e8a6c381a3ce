"""Predictors that lose little in every environment, and what that says of a new one.

Problem: data come from several environments (hospitals, carriers by month, knock-outs), and a predictor is
wanted whose loss in a new one, against the best that could be done there, is known beforehand.

Idea: a representation is invariant if one linear head is the best in every environment. Exactly invariant
ones seldom exist; but the head whose largest residual over the environments is smallest always does, and the
environments are random draws: a new one exceeds that residual rarely, as few environments hold it up.

Cost: second moments once, O(n p²); then a few milliseconds a subset of columns, all subsets of a size at once.

What is proven: how often a new environment exceeds the fitted residual, whatever the law of its rows; how many
of those held out do; the paper's bound for all heads at once; and, for Gaussian rows, true losses.

References
----------
A. Parulekar, K. Shanmugam, S. Shakkottai. PAC Generalization via Invariant Representations. ICML 2023.
arXiv:2205.15196.
M. Campi, S. Garatti. The exact feasibility of randomized solutions of uncertain convex programs. SIAM Journal on
Optimization 2008.
"""

from whp.invariance._pac_invariance.bounds import environments_needed, vc_dimension
from whp.invariance._pac_invariance.estimator import InvariantRegressor
from whp.invariance._pac_invariance.front_door import (
    certify_moments,
    certify_representation,
    pac_invariance,
)
from whp.invariance._pac_invariance.result import InvarianceResult

__all__ = [
    "InvarianceResult",
    "InvariantRegressor",
    "certify_moments",
    "certify_representation",
    "environments_needed",
    "pac_invariance",
    "vc_dimension",
]
