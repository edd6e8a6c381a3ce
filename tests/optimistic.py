"""Streams and learners that the tests of optimistic mirror descent share."""

import numpy as np

from whp.datasets.streams import breast_cancer
from whp.online import Ball, OptimisticMirrorDescent

GRADIENTS = np.array([(1, 0), (1, 0.5), (-0.5, 1), (0, -2.0)])


STRONG = {"curvature": "strongly_convex", "strong_convexity": 0.5}
CONCAVE = {"curvature": "exp_concave", "exp_concavity": 1.0, "gradient_bound": 2.0}


def fed(learner, gradients=GRADIENTS):
    return np.array([learner.step(g) for g in gradients])


def cancer():
    X, y = breast_cancer()
    order = np.random.default_rng(0).permutation(569)
    return X[order], y[order]


def hostile(learner, rng, rounds, scale):
    """Gradients at random, along the point played, or switching; norms at most `scale` where it is given."""
    kind, played, gradients = rng.integers(3), [], []
    for t in range(rounds):
        x = learner.x
        g = rng.standard_normal(len(x))
        if kind == 1:
            g = x + 1e-3 * g
        elif kind == 2:
            g = np.eye(len(x))[0] * (1 if (t // 5) % 2 else -1) + 0.1 * g
        g *= scale / np.linalg.norm(g) if scale else 10 ** rng.uniform(-3, 3)
        played.append(x)
        gradients.append(g)
        learner.step(g)
    return np.array(played), np.array(gradients)


def sphere(rng, rounds, d, radius):
    z = rng.standard_normal((rounds, d))
    return radius * z / np.linalg.norm(z, axis=1, keepdims=True)


def quadratic(rng, settings, rounds, centre, sigma):
    """Regret in the expected losses ½‖x − a‖² against a, and the learner."""
    learner = OptimisticMirrorDescent(Ball(1.0), dim=len(centre), smoothness=1.0, **settings)
    regret = 0.0
    for noise in sphere(rng, rounds, len(centre), sigma):
        x = learner.x
        regret += ((x - centre) ** 2).sum() / 2
        learner.step(x - centre - noise)
    return regret, learner
