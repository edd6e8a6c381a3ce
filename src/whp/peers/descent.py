"""What the method is measured against on streams of rows: online learners on the same ball, with the steps of their theory."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled
from whp.online._optimistic_mirror_descent.kernels import ball_quadratic, slope
from whp.online._optimistic_mirror_descent.losses import Linear

__all__ = ["BASELINES", "Baseline", "baseline_losses"]

Baseline = Literal["ogd", "adagrad-norm", "optimistic-ftrl", "online-newton", "vovk-azoury-warmuth"]
BASELINES = ("ogd", "adagrad-norm", "optimistic-ftrl", "online-newton", "vovk-azoury-warmuth")


def baseline_losses(
    rule: Baseline,
    family: Linear,
    A: Float[np.ndarray, "T d"],
    y: Float[np.ndarray, " T"],
    *,
    multiple: float = 1.0,
) -> Float[np.ndarray, " T"]:
    """Losses of one pass, row by row.

    Parameters
    ----------
    rule : str
        Online gradient descent with D/(G√(2t)), or 1/(λt) under a ridge term (Zinkevich 2003; Hazan et al. 2007);
        AdaGrad-norm with D/√(2Σ‖g‖²) (Streeter & McMahan 2010); optimistic FTRL (Sachs et al. 2022); online Newton step
        (Hazan et al. 2007); Vovk-Azoury-Warmuth, which is for squared loss and knows no ball.
    family : Linear
        The loss, with the radius of the ball.
    A, y : ndarray, shapes (T, d) and (T,)
        Rows and targets.
    multiple : float
        Of its step, for tuning in hindsight.
    """
    A = np.ascontiguousarray(A)
    if rule == "vovk-azoury-warmuth":
        if family.name != "squared":
            raise ValueError(f"family must be the squared loss for {rule}, got {family.name}")
        return _forward(A, y, 1 / multiple)
    D, G, L = 2 * family.R, family.gradient_bound, family.smoothness
    if rule == "online-newton":
        if family.exp_concavity <= 0:
            raise ValueError(
                f"family must be logistic or squared loss for {rule}, got {family.name}"
            )
        gamma = 0.5 * min(1 / (4 * G * D), family.exp_concavity)
        return _newton(A, y, family.code, family.R, gamma, multiple / gamma)
    return _first_order(
        A,
        y,
        family.code,
        family.l2,
        BASELINES.index(rule),
        family.R,
        multiple * D,
        G,
        10 * D * D * L * L + 4 * G * G,
    )


@compiled
def _first_order(A, y, loss, l2, rule, radius, D, G, offset):
    T, d = A.shape
    losses = np.empty(T)
    x, g, total, before = np.zeros(d), np.zeros(d), np.zeros(d), np.zeros(d)
    squares, variation = 0.0, 0.0
    for t in range(T):
        value, c = slope(loss, A[t] @ x, y[t])
        losses[t] = value + 0.5 * l2 * (x @ x)
        change = 0.0
        for k in range(d):
            g[k] = c * A[t, k] + l2 * x[k]
            squares += g[k] * g[k]
            change += (g[k] - before[k]) ** 2
            total[k] += g[k]
        variation += change
        if rule == 2:
            eta = D / math.sqrt(offset + variation)
            for k in range(d):
                x[k] = -eta * (total[k] + g[k])
        else:
            if l2 > 0 and rule == 0:
                eta = D / (2 * radius) / (l2 * (t + 1))
            elif rule == 0:
                eta = D / (G * math.sqrt(2.0 * (t + 1)))
            else:
                eta = D / math.sqrt(2 * squares) if squares > 0 else 0.0
            for k in range(d):
                x[k] -= eta * g[k]
        size = math.sqrt(x @ x)
        if size > radius:
            for k in range(d):
                x[k] *= radius / size
        before[:] = g
    return losses


@compiled
def _newton(A, y, loss, radius, gamma, step):
    T, d = A.shape
    losses = np.empty(T)
    start = 1 / (gamma * gamma * 4 * radius * radius)
    H, inverse = np.eye(d) * start, np.eye(d) / start
    x = np.zeros(d)
    for t in range(T):
        value, c = slope(loss, A[t] @ x, y[t])
        losses[t] = value
        g = c * A[t]
        u = inverse @ g
        H += np.outer(g, g)
        inverse -= np.outer(u, u) / (1 + g @ u)
        z = x - step * (inverse @ g)
        x = z if z @ z <= radius * radius else ball_quadratic(H, H @ z, radius)
    return losses


@compiled
def _forward(A, y, ridge):
    T, d = A.shape
    losses = np.empty(T)
    inverse, b = np.eye(d) / ridge, np.zeros(d)
    for t in range(T):
        u = inverse @ A[t]
        # The row that is to be predicted counts already (Azoury & Warmuth 2001, forward algorithm).
        inverse -= np.outer(u, u) / (1 + A[t] @ u)
        z = A[t] @ (inverse @ b)
        losses[t] = 0.5 * (z - y[t]) ** 2
        b += y[t] * A[t]
    return losses
