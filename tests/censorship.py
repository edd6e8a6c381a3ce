"""Systems that tests of information censorship share."""

import numpy as np

from whp.llm._information_censorship.leakage import Measure
from whp.llm._information_censorship.system import read_system

BITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
PARITY = [0, 1, 1, 0]
ALL = Measure(np.ones(2, bool))
MOST = 2_000_000


def victim(right=0.7, repeats=1):
    """Four answers, named rightly with .7."""
    channel = np.full((4, 4), (1 - right) / 3) + (right - (1 - right) / 3) * np.eye(4)
    return read_system([channel] * repeats, np.arange(4))


def one(mask=None, m=4, **kind):
    return Measure(np.ones(m, bool) if mask is None else np.isin(np.arange(m), mask), **kind)


def random_system(seed, most=4):
    rng = np.random.default_rng(seed)
    W, J = rng.integers(2, 9), rng.integers(1, most)
    alpha = rng.choice([0.05, 1.0, 20.0])
    channels = [rng.dirichlet(np.full(rng.integers(1, 4), alpha), W) for _ in range(J)]
    prior = rng.dirichlet(np.full(W, 0.2)) * (rng.random(W) < 0.8)
    prior = np.full(W, 1 / W) if prior.sum() <= 0 else prior
    system = read_system(channels, rng.integers(0, 3, W), prior)
    m = len(system.names)
    mask = rng.random(m) < 0.6
    return system, mask if mask.any() else np.ones(m, bool), rng
