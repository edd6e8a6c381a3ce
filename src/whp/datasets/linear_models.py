"""Generative models of least-squares problems: the instances on which sketches differ."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float

__all__ = ["deceptive_map", "dense_regression", "spike"]


def dense_regression(
    n: int,
    d: int,
    rng: np.random.Generator,
    *,
    design: Literal["gaussian", "student", "outliers"] = "gaussian",
    noise: float = 1.0,
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """A linear model ``b = A x + noise`` with unit coefficients.

    Parameters
    ----------
    n, d : int
        Rows and columns.
    rng : numpy.random.Generator
        Source of randomness.
    design : {"gaussian", "student", "outliers"}
        Rows iid normal; entries iid Student with 3 degrees of freedom; or normal with n/1000 rows (at least d) blown up
        tenfold that also have tenfold noise: high leverage times high residual, the bane of row sampling.
    noise : float
        Standard deviation of the noise.

    Returns
    -------
    A, b : ndarray
    """
    A = rng.standard_t(3, size=(n, d)) if design == "student" else rng.standard_normal((n, d))
    errors = noise * rng.standard_normal(n)
    if design == "outliers":
        count = max(d, n // 1000)
        A[:count] *= 10
        errors[:count] *= 10
    return A, A.sum(axis=1) + errors


def spike(d: int, m: int) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
    """The instance on which sparse sketches fail: A = [I; 0], b of t = m/d entries 1/√t below the identity.

    The exact solution is 0, ‖b − Ax*‖ = 1 and ‖A†‖ = 1. A sketch with one non-zero a column sends some entry of b onto a row of
    the identity with constant probability, and that coefficient is then off by 1/√t, which is √d times too much.
    """
    t = max(1, m // d)
    A = np.zeros((d + t, d))
    A[:d] = np.eye(d)
    b = np.zeros(d + t)
    b[d:] = t**-0.5
    return A, b


def deceptive_map(
    d: int, rng: np.random.Generator, *, alpha: float = 0.05, rho: float = 0.05
) -> Float[np.ndarray, "n n"]:
    """A random S that embeds the range of A = [I; 0] and every fixed pair of directions, yet errs by αρ/(1 − ρ²) in x₁.

    With a random unit vector s in coordinates 2..d and r the last of n = d + 1 coordinates,
    ``SᵀS = I + ρ(e₁sᵀ + se₁ᵀ) − α(srᵀ + rsᵀ)``. The subspace distortion is ρ; a fixed pair (g, h) sees O((α + ρ)/√d); but the
    inverse of UᵀSᵀSU turns towards s, where the noise waits: the first coefficient of argmin ‖S(Ax − e_n)‖ is αρ/(1 − ρ²) for
    every d.
    """
    s = np.zeros(d + 1)
    s[1:d] = rng.standard_normal(d - 1)
    s /= np.linalg.norm(s)
    first, last = np.eye(d + 1)[0], np.eye(d + 1)[-1]
    gram = np.eye(d + 1)
    gram += rho * (np.outer(first, s) + np.outer(s, first)) - alpha * (
        np.outer(s, last) + np.outer(last, s)
    )
    return np.linalg.cholesky(gram).T
