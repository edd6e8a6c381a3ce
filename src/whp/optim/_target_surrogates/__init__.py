"""Training a cheap model under an expensive loss: one call of the oracle, then many steps on a surrogate.

Problem: the gradient of a loss with respect to a model's outputs may come from a simulator, an
expert or a slow teacher, and cost far more than a pass through the model. Usual optimizers ask for
it at every step.

Idea: at outputs z_t with gradient G_t, ⟨G, f(θ) − z_t⟩ + ‖f(θ) − z_t‖²/(2η) bounds the loss from
above, as a function of outputs, if η is at most the inverse of the loss's smoothness *in the
outputs*. It is cheap: m steps on it need no oracle. Minimising it is a projection of z_t − ηG_t onto
what the model can output, so that the conditioning of the features plays no part.

Cost: one oracle call, 2 + m forward and m backward passes a step; memory that of one copy of
outputs, gradient and parameters. For linear models O(n d²) once, then O(b d + d²) a step.

What is proven: with η ≤ 1/L the surrogate majorises the loss, and any number of inner steps makes
gradients small. With minibatches of the squared loss and exact projection the distance to the best
outputs contracts up to noise; the constants here are derived anew, and checked on the run. For
networks with minibatches that statement does not apply, and no certificate of it is made.

References
----------
J. W. Lavington, S. Vaswani, R. Babanezhad, M. Schmidt, N. Le Roux. Target-based Surrogates for
Stochastic Optimization. ICML 2023. arXiv:2302.02607.
"""

from whp.optim._target_surrogates.front_door import TargetSurrogateFit, target_surrogates

__all__ = ["TargetSurrogateFit", "target_surrogates"]
