"""What is known of ω where orderings are consistent: Young's formula, and the surrogate for counts."""

from __future__ import annotations

import math
import numbers
from typing import Any, Literal

import numpy as np

from whp.linalg._learning_to_relax.solvers import as_omega
from whp.linalg._learning_to_relax.system import System
from whp.validate import as_choice, as_int, as_real

__all__ = ["asymptocity", "jacobi_radius", "optimal_omega", "sor_radius", "surrogate"]


def optimal_omega(beta: Any) -> float:
    """ω* = 1 + (β/(1 + √(1 − β²)))², the best relaxation of a consistently ordered matrix (Young 1950).

    Parameters
    ----------
    beta : float or matrix
        Spectral radius of Jacobi's iteration, below 1, or the symmetric matrix that it is computed of.
    """
    if isinstance(beta, numbers.Real):
        value = as_real(beta, "beta", low=0, high=1)
    elif (value := jacobi_radius(beta)) >= 1:
        raise ValueError(
            f"beta must be below 1, Jacobi's iteration on this matrix has the radius {value:.6g}: "
            "its ordering is not consistent, or it is not definite"
        )
    return 1 + (value / (1 + math.sqrt(max(1 - value * value, 0.0)))) ** 2


def jacobi_radius(
    A: Any, method: Literal["lanczos", "power"] = "lanczos", *, steps: int = 200
) -> float:
    """β = ρ(I − D⁻¹A) of a symmetric matrix, by Lanczos or so many power steps.

    Parameters
    ----------
    A : scipy.sparse, array_like or System
    method : {"lanczos", "power"}
    steps : int
        Of the power method, whose answer is a lower bound.

    Raises
    ------
    ValueError
        If A is not symmetric.
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    as_choice(method, "method", ("lanczos", "power"))
    system = A if isinstance(A, System) else System(A)
    if system.skew is not None:
        raise ValueError(f"A must be symmetric, {system.skew}")
    if np.count_nonzero(system.data) == system.n:  # diagonal: Lanczos has nothing to begin with
        return 0.0
    root = 1 / np.sqrt(system.diagonal)

    def jacobi(v: np.ndarray) -> np.ndarray:
        v = np.asarray(v).ravel()
        return v - root * (system.matrix @ (root * v))

    if method == "power":
        v = np.ones(system.n) / math.sqrt(system.n)
        size = 0.0
        for _ in range(as_int(steps, "steps", low=1)):
            v = jacobi(v)
            size = float(np.linalg.norm(v))
            if size == 0:
                return 0.0
            v /= size
        return size
    if system.n < 4:
        dense = np.eye(system.n) - root[:, None] * system.matrix.toarray() * root
        return float(np.abs(np.linalg.eigvalsh((dense + dense.T) / 2)).max())
    operator = LinearOperator((system.n, system.n), matvec=jacobi, dtype=np.float64)  # type: ignore[call-arg]
    return float(abs(eigsh(operator, k=1, which="LM", return_eigenvectors=False, tol=1e-12)[0]))


def sor_radius(omega: float, beta: float) -> float:
    """ρ of one sweep: ¼(ωβ + √(ω²β² − 4(ω − 1)))² below ω*, ω − 1 above; exact for consistently ordered matrices."""
    w, b = as_omega(omega), as_real(beta, "beta", low=0, high=1)
    under = w * w * b * b - 4 * (w - 1)
    return w - 1 if under < 0 else (w * b + math.sqrt(under)) ** 2 / 4


def surrogate(omega: float, beta: float, tau: float, tol: float) -> float:
    """U(ω) = 1 + ln tol / ln(ρ + τ(1 − ρ)): a bound on the count that is smooth enough to be learnt on a grid.

    Infinite where no sweep takes anything off, β = 1 or τ = 1.

    Parameters
    ----------
    omega, beta : float
        Relaxation; radius of Jacobi's iteration.
    tau : float
        Asymptocity in [0, 1), see :func:`asymptocity`.
    tol : float
        Of the stopping rule.
    """
    rho = sor_radius(omega, beta)
    kept = rho + as_real(tau, "tau", low=0, high=1) * (1 - rho)
    needed = math.log(as_real(tol, "tol", low=0, high=1, open_ends=True))
    if kept >= 1:
        return math.inf
    return 1 + needed / math.log(kept) if kept > 0 else 1.0


def asymptocity(A: Any, omega: float, count: int) -> float:
    """The smallest τ with ‖C^{k−1}‖^{1/(k−1)} ≤ ρ + τ(1 − ρ) after k sweeps, by dense algebra: for small matrices.

    Parameters
    ----------
    A : scipy.sparse or array_like
    omega : float
    count : int
        k, at least 2.
    """
    system = A if isinstance(A, System) else System(A)
    dense, w = system.matrix.toarray(), as_omega(omega)
    M = np.diag(system.diagonal / w) + np.tril(dense, -1)
    C = np.eye(system.n) - np.linalg.solve(M, dense)
    # In the norm of the residuals, which the stopping rule looks at: r ← (I − A M⁻¹) r.
    R = np.eye(system.n) - dense @ np.linalg.inv(M)
    rho = float(np.abs(np.linalg.eigvals(C)).max())
    k = as_int(count, "count", low=2)
    size = float(np.linalg.norm(np.linalg.matrix_power(R, k - 1), 2)) ** (1 / (k - 1))
    return max(0.0, (size - rho) / (1 - rho)) if rho < 1 else 1.0
