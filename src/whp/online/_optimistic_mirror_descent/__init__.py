"""Online learning whose step sizes tune themselves to how predictable the gradients are.

Problem: play a point of a convex set, see a gradient, play again. Worst-case regret grows like √T, yet most streams are neither
adversarial nor perfectly still: they drift slowly, or come in batches of low variance, and no learning rate is known for them.

Idea: take each gradient as the guess of the next (optimism), and let the step shrink with how far the guesses were off,
η_t = D/√(δ + V̄_{t−1}), V̄ the summed squared differences of successive gradients. Regret is then O(D√V̄) on the very path, and
in expectation O(√σ² + √Σ²): the stochastic variance of the gradients and the adversarial variation of their means, instead of
√T. Strongly convex and exp-concave losses have rules of their own, and a pool of learners follows a comparator that moves.

Cost: O(d) time and memory a round; O(d²) for the exp-concave rule, O(Nd) with a pool of N = O(log T) learners.

What is proven: with the paper's rule (``gradient_bound``) its theorems, constants derived here. The scale-free default, which
needs no bound on gradients, is ours, as are the constants of the dynamic version.

References
----------
S. Chen, W.-W. Tu, P. Zhao, L. Zhang. Optimistic Online Mirror Descent for Bridging Stochastic and Adversarial Online Convex
Optimization. ICML 2023. arXiv:2302.04552.
S. Sachs, H. Hadiji, T. van Erven, C. Guzmán. Between Stochastic and Adversarial Online Convex Optimization. NeurIPS 2022.
"""

from whp.online._optimistic_mirror_descent.bounds import sea_bound
from whp.online._optimistic_mirror_descent.domains import Ball, Box, L1Ball, Polytope, Simplex
from whp.online._optimistic_mirror_descent.dynamic import DynamicOptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.estimator import (
    OptimisticClassifier,
    OptimisticRegressor,
)
from whp.online._optimistic_mirror_descent.front_door import (
    OptimisticMirrorDescentResult,
    optimistic_mirror_descent,
)
from whp.online._optimistic_mirror_descent.learner import OptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.predictability import SEAEstimate, estimate_sea
from whp.online._optimistic_mirror_descent.theorems import (
    check_exp_concavity,
    check_smoothness,
    check_strong_convexity,
)

__all__ = [
    "Ball",
    "Box",
    "DynamicOptimisticMirrorDescent",
    "L1Ball",
    "OptimisticClassifier",
    "OptimisticMirrorDescent",
    "OptimisticMirrorDescentResult",
    "OptimisticRegressor",
    "Polytope",
    "SEAEstimate",
    "Simplex",
    "check_exp_concavity",
    "check_smoothness",
    "check_strong_convexity",
    "estimate_sea",
    "optimistic_mirror_descent",
    "sea_bound",
]
