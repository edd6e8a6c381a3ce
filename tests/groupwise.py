"""A stream with groups that tests of groupwise regret share."""

import numpy as np


def stream(T=200, d=3, N=3, seed=0):
    rng = np.random.default_rng(seed)
    X, G = rng.random((T, d)), rng.random((T, N)) < 0.5
    return (
        X,
        np.clip(X @ rng.random(d) / d + 0.2 * G[:, 0] + 0.05 * rng.standard_normal(T), 0, 1),
        G,
    )


class Constant:
    """A learner that knows nothing of hindsight."""

    def predict_one(self, x):
        return 0.5

    def learn_one(self, x, y):
        pass
