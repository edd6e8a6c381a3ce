"""Least-squares problems that tests of sketches share."""

from __future__ import annotations

import numpy as np

SKETCHES = ("srht", "pooled", "gaussian", "circulant")


def problem(n=600, d=7, seed=0, k=None):
    """A normal design with columns of sizes 0.01 to 100, coefficients and noise of size 1."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, d)) * np.logspace(-2, 2, d)
    b = A @ rng.standard_normal((d,) if k is None else (d, k))
    return A, b + rng.standard_normal((n,) if k is None else (n, k))


def verdicts(result):
    """Those of a result's certificates."""
    return [c.verdict for c in result.certificates]


def coverage(result, exact):
    """Whether the intervals of a result cover the exact solution."""
    low, high = np.moveaxis(result.conf_int(1 - result.delta), -1, 0)
    return bool(((low <= exact) & (exact <= high)).all())
