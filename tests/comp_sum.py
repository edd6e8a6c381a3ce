"""Data that the tests of the comp-sum losses share."""

from functools import cache

import numpy as np

from whp.datasets import images

TAUS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
LOSSES = {
    0.0: (0.1851223516, 7.7569355401, 22.8038187517),
    0.5: (0.1772664987, 3.9184239592, 7.7578314705),
    1.0: (0.1698460196, 2.1698460196, 3.1698460196),
    1.5: (0.1628339928, 1.3241443959, 1.5900728546),
    2.0: (0.1562052655, 0.8858048006, 0.9579899339),
    3.0: (0.1440052230, 0.4934797282, 0.4991175772),
}


@cache
def centroids():
    """Digits, their classes, class means, distances to them, and distances on the first 40 pixels."""
    X, y = images.digits()
    X = X.astype(float)
    centres = np.stack([X[y == c].mean(axis=0) for c in range(10)])
    far = ((X[:, None] - centres) ** 2).sum(axis=2)
    part = ((X[:, None, :40] - centres[:, :40]) ** 2).sum(axis=2)
    return X, y, centres, far, part


def labels_of(P, rng):
    """Labels drawn from probabilities."""
    return (P.cumsum(axis=1) < rng.random((len(P), 1))).sum(axis=1).clip(max=P.shape[1] - 1)


def noisy(n=3000, noise=0.2, seed=0, classes=10):
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, classes, n)
    y = np.where(rng.random(n) < noise, (clean + rng.integers(1, classes, n)) % classes, clean)
    return rng, clean, y
