"""Small layered problems that tests share."""

import numpy as np

from whp.rl import LinearQModel


def example(signed: bool):
    """Two steps, states, actions and features by an angle; not linear, to check arithmetic on."""
    h, x, a = np.meshgrid(range(2), range(2), range(2), indexing="ij")
    tau = 0.4 + 0.9 * x + 1.1 * a + 0.5 * h
    phi = np.stack([np.cos(tau), np.sin(tau)], axis=-1)
    phi = phi if signed else phi**2
    stay = 0.2 + 0.3 * x[0] + 0.25 * a[0]
    return LinearQModel(phi, np.stack([stay, 1 - stay], axis=-1)[None], [1.0, 0.0])


def linear(seed=0, H=3, X=4, A=2, d=3):
    """A linear model with a state that nothing starts in."""
    rng = np.random.default_rng(seed)
    phi = rng.dirichlet(np.ones(d), (H, X, A))
    mu = rng.dirichlet(np.ones(X), (H - 1, d))
    init = np.r_[0.0, np.ones(X - 1)] / (X - 1)
    return LinearQModel(phi, np.einsum("hxad,hdy->hxay", phi[:-1], mu), init)


def losses_of(model, K, seed=1):
    """Losses that are linear in the features."""
    H, _, _, d = model.shape
    return np.einsum("hxad,khd->khxa", model.phi, np.random.default_rng(seed).random((K, H, d)))
