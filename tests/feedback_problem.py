"""Clients whose gradients are known, for the tests of error feedback."""

from functools import cache

import numpy as np

from whp.datasets.tables import breast_cancer_clients
from whp.distributed._error_feedback.model import LinearModel, in_groups

A = (np.diag([1.0, 2.0]), np.diag([10.0, 1.0]))
B = (np.array([1.0, -1.0]), np.array([0.0, 2.0]))
GRADS = [lambda x, i=i: A[i] @ (x - B[i]) for i in range(2)]
VALUES = [lambda x, i=i: 0.5 * (x - B[i]) @ A[i] @ (x - B[i]) for i in range(2)]
BEST = 1.7272727272727273
PROBLEM = {"smoothness": [2.0, 10.0], "L": 5.5, "f": VALUES}


@cache
def breast_cancer():
    model = LinearModel(in_groups(*breast_cancer_clients()), "logistic", 1e-3)
    return model, model.smoothness


def named(certificates):
    return {c.name: c for c in certificates}


def status(certificate, condition):
    return str(next(a.status for a in certificate.conditions if a.name == condition))


def quadratic(rng, n=6, d=5):
    M = rng.normal(size=(n, d, d))
    H = M @ M.transpose(0, 2, 1) * np.exp(rng.normal(size=n))[:, None, None]
    b = rng.normal(size=(n, d))
    L = np.linalg.eigvalsh(H)[:, -1] * (1 + 1e-12)
    best = np.linalg.solve(H.mean(axis=0), (H @ b[:, :, None])[:, :, 0].mean(axis=0))
    values = [lambda x, i=i: 0.5 * float((x - b[i]) @ H[i] @ (x - b[i])) for i in range(n)]
    return {
        "grads": [lambda x, i=i: H[i] @ (x - b[i]) for i in range(n)],
        "x0": np.full(d, 3.0),
        "smoothness": L,
        "L": float(np.linalg.eigvalsh(H.mean(axis=0))[-1]) * (1 + 1e-12),
        "f": values,
        "f_inf": float(np.mean([v(best) for v in values])) - 1e-9,
    }
