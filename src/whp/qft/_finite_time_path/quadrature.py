"""Rules for integrands with known singular ends, and panels for those that oscillate."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

__all__ = ["EPS", "Rule", "half_line", "legendre", "panels", "unit"]

EPS = float(np.finfo(float).eps)
STEP = 1 / 16


class Rule(NamedTuple):
    """Nodes with their distances from both ends, which keep their digits there.

    Attributes
    ----------
    left, right : ndarray, shape (n,)
        Distance from the left and from the right end (infinite for a half line).
    weight : ndarray, shape (n,)
        Weights; every second node, with twice the weight, is a rule of its own.
    """

    left: np.ndarray
    right: np.ndarray
    weight: np.ndarray

    @property
    def coarse(self) -> np.ndarray:
        """Weights of the rule with every second node."""
        return np.where(np.arange(len(self.weight)) % 2 == 0, 2 * self.weight, 0.0)


@cache
def unit(step: float = STEP, reach: float = 4.0) -> Rule:
    """Tanh-sinh rule on [0, 1]; exact to rounding with singular ends and features of any scale near them."""
    t = np.arange(-round(reach / step), round(reach / step) + 1) * step
    u = np.pi * np.sinh(t)
    left, right = 1 / (1 + np.exp(-u)), 1 / (1 + np.exp(u))
    weight = step * np.pi * np.cosh(t) * left * right
    keep = (left > 1e-40) & (right > 1e-40)
    return Rule(left[keep], right[keep], weight[keep])


@cache
def half_line(step: float = STEP, reach: float = 3.6) -> Rule:
    """Exp-sinh rule on [0, ∞), for algebraic and exponential decay alike, and a logarithm at 0."""
    t = np.arange(-round((reach + 0.8) / step), round(reach / step) + 1) * step
    x = np.exp(np.pi / 2 * np.sinh(t))
    return Rule(x, np.full_like(x, np.inf), step * np.pi / 2 * np.cosh(t) * x)


@cache
def legendre(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(n)
    return (x + 1) / 2, w / 2


def panels(edges: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss-Legendre on each panel between consecutive edges, in order."""
    x, w = legendre(n)
    width = np.diff(edges)
    return (edges[:-1, None] + width[:, None] * x).ravel(), (width[:, None] * w).ravel()
