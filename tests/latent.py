"""The latent MDPs that tests of the method work out, and streams drawn from them."""

import numpy as np

from whp.rl import LatentMDP, LatentMDPLearner
from whp.rl._latent_mdp.optimism import Snapshot, Structure
from whp.rl._latent_mdp.simulation import Simulation


def worked(H=3):
    """M = 2, S = 3, A = 2."""
    M, S, A = 2, 3, 2
    m, s, a, t = np.ogrid[:M, :S, :A, :S]
    P = 1.0 + (m * (1 + s) + s + 2 * a + t) % 3
    m, s, a = np.ogrid[:M, :S, :A]
    R = ((m + 2 * s + 3 * a * (1 + m)) % 5) / (4 * H)
    return LatentMDP([0.4, 0.6], [[1, 0, 0], [0.5, 0.5, 0]], P / P.sum(-1, keepdims=True), R, H)


def learner(model, /, **options):
    """One that knows the rewards of a model, and measures by it unless told otherwise."""
    options = {"reward_table": model.R * model.reward_scale, "model": model} | options
    return LatentMDPLearner(*model.shape, model.horizon, **options)


def played(model, episodes, seed=0, /, **options):
    """A learner after so many episodes."""
    options = {"n_episodes": episodes} | options
    return learner(model, **options).fit(Simulation(model, np.random.default_rng(seed)), episodes)


def nothing_ruled_out(model):
    M, S, A = model.shape
    row = np.arange(M * S * A).reshape(M, S, A)
    return Structure.of(
        model.horizon, np.ones((M, S, A, S), bool), np.ones((M, S), bool), row, model.R
    )


def as_seen(model, n, iota):
    """A snapshot whose frequencies are the laws, with the law of the start known."""
    M, S, A = model.shape
    rows = M * S * A
    return Snapshot(
        model.P.reshape(-1, S).copy(),
        np.full(rows, float(n)),
        np.full(rows, float(iota)),
        model.w[:, None] * model.nu,
        1e300,
        iota,
        model.R,
        np.zeros((S, A)),
    )
