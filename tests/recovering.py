"""Curves, logs and environments that tests of recovering bandits share."""

import numpy as np
import pandas as pd

THREE = [(0.2, 0.6, 0.9, 1.0), (0.5, 0.6, 0.65, 0.65), (0.0, 0.0, 1.2, 1.2)]


def exponential(rng, N, D):
    a, tau = rng.uniform(0.2, 1, N), rng.uniform(0.5, D / 2, N)
    return a[:, None] * (1 - np.exp(-np.arange(1, D + 1) / tau[:, None]))


def events(rng, curves, T=400):
    rows = []
    for i, curve in enumerate(curves):
        t = 0
        while t < T:
            gap = int(rng.integers(1, len(curve) + 1))
            t += gap
            rows.append(
                {"arm": f"a{i}", "time": t, "reward": curve[gap - 1] + 0.05 * rng.standard_normal()}
            )
    return pd.DataFrame(rows)


class World:
    """True curves with normal noise, all arms just pulled."""

    def __init__(self, R, sigma, seed):
        self.R, self.sigma, self.rng, self.last = (
            R,
            sigma,
            np.random.default_rng(seed),
            np.full(len(R), -1),
        )

    def __call__(self, t, arms):
        gap = np.minimum(t - self.last[arms], self.R.shape[1]) - 1
        self.last[arms] = t
        return self.R[arms, gap] + self.sigma * self.rng.standard_normal(len(arms))
