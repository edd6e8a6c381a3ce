"""Graphs of blocks for tests of communities."""

import numpy as np
import scipy.sparse as sp

from whp.datasets.graph_models import block_model
from whp.graph import hierarchical_communities


def planted(rng, k=3, size=60, inside=0.3, between=0.05):
    p = np.full((k, k), between)
    np.fill_diagonal(p, inside)
    return block_model(p, np.full(k, size), rng)


def cliques(*sizes):
    return sp.csr_array(sp.block_diag([np.ones((s, s)) - np.eye(s) for s in sizes]))


def verdict(result, name):
    return next(c for c in result.certificates if c.name == name).verdict


def without_structure(rng, holdout):
    A, _ = block_model(np.array([[0.08]]), np.array([200]), rng)
    return hierarchical_communities(A, 6, holdout=holdout, delta=0.1, rng=rng)
