"""The latent MDP that tests of the method work out."""

import numpy as np

from whp.rl._latent_mdp.model import LatentMDP


def worked(H=3):
    """M = 2, S = 3, A = 2."""
    M, S, A = 2, 3, 2
    m, s, a, t = np.ogrid[:M, :S, :A, :S]
    P = 1.0 + (m * (1 + s) + s + 2 * a + t) % 3
    m, s, a = np.ogrid[:M, :S, :A]
    R = ((m + 2 * s + 3 * a * (1 + m)) % 5) / (4 * H)
    return LatentMDP([0.4, 0.6], [[1, 0, 0], [0.5, 0.5, 0]], P / P.sum(-1, keepdims=True), R, H)
