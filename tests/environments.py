"""Tables with environments that tests of invariance share."""

from __future__ import annotations

import numpy as np


def hospitals(m=80, n=60, seed=0, spread=1.0):
    """A cause, and an effect whose strength differs by environment: X (mn, 2), y, env."""
    rng = np.random.default_rng(seed)
    env = np.repeat(np.arange(m), n)
    cause = np.exp(0.5 * rng.standard_normal(m))[env] * rng.standard_normal(m * n)
    y = cause + rng.standard_normal(m * n)
    effect = (1 + spread * rng.standard_normal(m))[env] * y + rng.standard_normal(m * n)
    return np.column_stack([cause, effect]), y, env


def effects(a, n=200, seed=0):
    """The same with effects of the given strengths."""
    rng = np.random.default_rng(seed)
    a = np.asarray(a, float)
    env = np.repeat(np.arange(len(a)), n)
    cause = np.exp(0.5 * rng.standard_normal(len(a)))[env] * rng.standard_normal(len(env))
    y = cause + rng.standard_normal(len(env))
    return np.column_stack([cause, a[env] * y + rng.standard_normal(len(env))]), y, env


def named(result):
    """Certificates by name."""
    return {c.name: c for c in result.certificates}


def answer(certificate, condition):
    """How a condition is answered."""
    return str(next(a.status for a in certificate.conditions if a.name == condition))
