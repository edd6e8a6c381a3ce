"""Curves, streams and networks that tests of continual learning share."""

import numpy as np
import torch
from torch import nn

NAN = np.nan


A = np.array(
    [
        [0.2, 0.6, 0.9, 0.95, 0.4, 0.5, 0.8, 0.85, 0.3, 0.7, 0.75, 0.8],
        [NAN] * 4 + [0.1, 0.5, 0.9, 0.92, 0.6, 0.7, 0.88, 0.9],
        [NAN] * 8 + [0.2, 0.7, 0.85, 0.96],
    ]
)


ENDS = [4, 8, 12]


def curves_of(seed, K=3, steps=8):
    rng = np.random.default_rng(seed)
    T = K * steps
    accuracy = np.where(np.arange(T) >= np.arange(K)[:, None] * steps, rng.random((K, T)), np.nan)
    return accuracy, [steps * (k + 1) for k in range(K)]


def dipping(rng, rows, T=60, N=400):
    dip = 0.9 - 0.5 * np.exp(-(((np.arange(T) - 20) / 6) ** 2))
    hardness = rng.random(N)
    return (hardness[None] + 0.15 * rng.normal(size=(T, N))) < dip[:, None], hardness


def run_of(drop, n=400, K=2, T=20, seed=0, recover=True):
    """The first task falls by `drop` in the middle of the second."""
    rng = np.random.default_rng(seed)
    hardness = rng.random(n)
    level = np.full(2 * T, 0.9)
    level[T : T + 5] -= drop
    if not recover:
        level[T:] = 0.9 - drop
    return [hardness[None] < level[:, None], np.ones((T, n), dtype=bool)], [T, 2 * T]


def stream(K=3, n=60, seed=0, d=6):
    """Classes 2k and 2k + 1 in task k, far from each other."""
    rng = np.random.default_rng(seed)
    centres = 2 * rng.normal(size=(2 * K, d))
    train, test = [], []
    for k in range(K):
        for part, size in ((train, n), (test, 40)):
            y = np.repeat([2 * k, 2 * k + 1], size // 2)
            X = (centres[y] + rng.normal(size=(size, d))).astype(np.float32)
            part.append((torch.from_numpy(X), torch.from_numpy(y)))
    return train, test


def network(d=6, classes=6, seed=0, norm=False):
    torch.manual_seed(seed)
    layers = [
        nn.Linear(d, 16),
        *([nn.BatchNorm1d(16)] if norm else []),
        nn.ReLU(),
        nn.Linear(16, classes),
    ]
    return nn.Sequential(*layers)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])
