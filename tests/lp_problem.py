"""A regression with heavy tails, and a matrix whose sensitivities are known."""

import numpy as np

A4 = np.array([[1.0, 0], [0, 1], [1, 1], [2, -1]])
LEWIS = {
    1: [0.3082353282, 0.4292228182, 0.5623583759, 0.7001834777],
    1.5: [0.2350759837, 0.3905407950, 0.6035509794, 0.7708322419],
    2: [3 / 17, 6 / 17, 11 / 17, 14 / 17],
    3: [0.0953778594, 0.2834066694, 0.7291354022, 0.8920800690],
    4: [0.0491329904, 0.2238268934, 0.7959789808, 0.9310611354],
}


def problem(n=3000, d=5, seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_t(3, (n, d))
    return A, A @ np.arange(1.0, d + 1) + rng.standard_t(3, n)
