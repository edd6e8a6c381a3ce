"""A few weighted rows that preserve every ℓp norm, and ℓp or quantile regression solved on them.

Problem: for a tall n×d matrix A keep m ≪ n rows with weights ξ so that ``Σ ξ_i|a_iᵀx|^p`` is
``(1 ± ε)‖Ax‖_p^p`` for *every* x.

Idea: keep each row by a coin of its own, with a probability in proportion to how much of
``‖Ax‖_p^p`` it can be: its sensitivity, or a proxy that is cheaper (Lewis weights, leverage scores
to the power p/2) or safer (their sum). The rows serve any later regression on them; how far its
answer is from the optimum on all n rows follows, for certain, by duality.

Cost: O(nd²) a step for Lewis weights, about ten steps; O(nkd) for all sensitivities against k rows.

What is proven: the paper's rates hide constants and polylogarithms, so its bound is calibrated and
marked unchecked. The bounds that decide how many rows are kept have explicit constants: a net with
Bernstein's inequality for any p, symmetrisation with duality for p < 2, matrix Chernoff for p = 2.
They are valid for whatever scores, and loose by 3 to 20 times.

References
----------
D. Woodruff, T. Yasuda. Sharper Bounds for ℓp Sensitivity Sampling. ICML 2023. arXiv:2306.00732.
X. Chen, M. Dereziński. Query Complexity of Least Absolute Deviation Regression via Robust Uniform
Convergence. COLT 2021.
A. Munteanu, S. Omlor. Optimal Bounds for ℓp Sensitivity Sampling via ℓ2 Augmentation. ICML 2024.
M. B. Cohen, R. Peng. ℓp Row Sampling by Lewis Weights. STOC 2015.
"""

from whp.linalg._lp_sensitivity_sampling.bounds import lp_rows_needed
from whp.linalg._lp_sensitivity_sampling.coreset import LpCoreset
from whp.linalg._lp_sensitivity_sampling.distortion import Distortion, distortion
from whp.linalg._lp_sensitivity_sampling.estimator import CoresetSampler, LpRegressor
from whp.linalg._lp_sensitivity_sampling.front_door import certify, lp_sensitivity_sampling
from whp.linalg._lp_sensitivity_sampling.gap import OptimalityGap, optimality_gap
from whp.linalg._lp_sensitivity_sampling.lewis import (
    LewisWeights,
    leverage_scores,
    lewis_weights,
    one_sided_ratio,
)
from whp.linalg._lp_sensitivity_sampling.sampling import (
    RootLeverageSample,
    inclusion,
    root_leverage_sampling,
)
from whp.linalg._lp_sensitivity_sampling.sensitivities import Sensitivities, sensitivities
from whp.linalg._lp_sensitivity_sampling.solvers import lp_regression

__all__ = [
    "CoresetSampler",
    "Distortion",
    "LewisWeights",
    "LpCoreset",
    "LpRegressor",
    "OptimalityGap",
    "RootLeverageSample",
    "Sensitivities",
    "certify",
    "distortion",
    "inclusion",
    "leverage_scores",
    "lewis_weights",
    "lp_regression",
    "lp_rows_needed",
    "lp_sensitivity_sampling",
    "one_sided_ratio",
    "optimality_gap",
    "root_leverage_sampling",
    "sensitivities",
]
