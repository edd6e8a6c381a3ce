"""One loss with a dial, from sum-exponential over cross-entropy to mean absolute error, and what it says about error.

Problem: cross-entropy is what networks are trained on, zero-one error is what they are judged by.
Labels with noise call for a loss that forgives, attacks call for a smooth one, and in every case a
user asks: my loss is 0.31, what may I conclude?

Idea: with u the sum over the other classes of exp(their logit minus the label's), the losses
Φ^τ(u) = ((1 + u)^(1−τ) − 1)/(1 − τ) run through the known ones: τ = 0 sum-exponential, 1
cross-entropy, 1 to 2 generalised cross-entropy, 2 mean absolute error. The excess of the risk over
the best possible one bounds the excess of the zero-one error through a convex function T_τ, known in
closed form. A smooth version bounds the loss under attack by the loss itself plus ν times how far the
attack moves the margins.

Cost: that of cross-entropy for the loss; k + 2 forward and backward passes for the adversarial one
with k steps, as TRADES; the certificates are a few passes over n × C numbers.

What is proven: Theorem 3.1 of the paper for the transformation; its tightness for 1 < τ < 2 and more
than two classes is not what exact computation of the regret shows (``transform="sharp"``, which is
larger, is not proved). The same rows show errors directly, and mostly more sharply: the bound is for
who has a loss, or wants to know what it is worth.

References
----------
A. Mao, M. Mohri, Y. Zhong. Cross-Entropy Loss Functions: Theoretical Analysis and Applications. ICML
2023. arXiv:2304.07288.
"""

from whp.losses._comp_sum_losses.front_door import CompSumResult, comp_sum_losses
from whp.losses._comp_sum_losses.loss import (
    best_conditional_risk,
    comp_sum,
    comp_sum_loss,
    noise_risk,
)
from whp.losses._comp_sum_losses.regret import conditional_regret, inverse_transform, transform
from whp.losses._comp_sum_losses.robust import RobustBound, robust_error_bound

__all__ = [
    "CompSumResult",
    "RobustBound",
    "best_conditional_risk",
    "comp_sum",
    "comp_sum_loss",
    "comp_sum_losses",
    "conditional_regret",
    "inverse_transform",
    "noise_risk",
    "robust_error_bound",
    "transform",
]
