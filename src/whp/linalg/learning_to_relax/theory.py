"""What is known of ω: Young's formula, the surrogate for counts, and bounds on counts that are computed beforehand."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from whp.linalg.learning_to_relax.solvers import System, as_omega
from whp.validate import as_choice, as_int, as_real

__all__ = [
    "asymptocity",
    "energy_bound",
    "energy_rate",
    "gershgorin",
    "jacobi_radius",
    "optimal_omega",
    "sor_radius",
    "ssor_bound",
    "surrogate",
]


def optimal_omega(beta: Any) -> float:
    """ω* = 1 + (β/(1 + √(1 − β²)))², the best relaxation of a consistently ordered matrix (Young 1950).

    Parameters
    ----------
    beta : float or matrix
        Spectral radius of Jacobi's iteration, below 1, or the symmetric matrix that it is computed of.
    """
    value = (
        as_real(beta, "beta", low=0, high=1)
        if np.ndim(beta) == 0 and not hasattr(beta, "shape")
        else jacobi_radius(beta)
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
    """
    from scipy.sparse.linalg import LinearOperator, eigsh

    as_choice(method, "method", ("lanczos", "power"))
    system = A if isinstance(A, System) else System(A)
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
    t = as_real(tau, "tau", low=0, high=1)
    return 1 + math.log(as_real(tol, "tol", low=0, high=1, open_ends=True)) / math.log(
        rho + t * (1 - rho)
    )


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


def gershgorin(system: System) -> tuple[float, float, float] | None:
    """For a strictly dominant symmetric matrix: γ ≤ λ_min(D⁻¹A), λ_min and λ_max of A within; None where it is not."""
    absolute = abs(system.matrix)
    off = np.asarray(absolute.sum(axis=1)).ravel() - system.diagonal
    if (off >= system.diagonal).any():
        return None
    # D⁻¹A is similar to a matrix whose rows have off/diagonal around 1.
    return (
        float(1 - (off / system.diagonal).max()),
        float((system.diagonal - off).min()),
        float((system.diagonal + off).max()),
    )


def energy_rate(omega: float, gamma: float, Gamma: float) -> float:
    """q < 1 with ‖I − M⁻¹A‖ ≤ q in the norm of A: q² = 1 − 2Ω/(max(s, 0)/γ + 1/ω), Ω = 1/ω − ½, s = Ω² + Γ − ¼."""
    w = as_omega(omega)
    g, G = (
        as_real(gamma, "gamma", low=0, open_ends=True, high=math.inf),
        as_real(Gamma, "Gamma", low=0),
    )
    half = 1 / w - 0.5
    s = half * half + G - 0.25
    return math.sqrt(max(0.0, 1 - 2 * half / (max(s, 0.0) / g + 1 / w)))


def energy_bound(
    A: Any,
    omega: float,
    *,
    gamma: float | None = None,
    Gamma: float | None = None,
    condition: float | None = None,
    tol: float = 1e-8,
) -> int:
    """Sweeps that SOR needs at most, for symmetric positive definite A, without any eigenvector.

    Parameters
    ----------
    A : scipy.sparse, array_like or System
    omega : float
    gamma, Gamma, condition : float, optional
        γ ≤ λ_min(D⁻¹A), Γ ≥ ρ(D⁻¹L D⁻¹U), κ ≥ cond(A). By default Gershgorin's for a strictly dominant matrix, else by Lanczos
        (which is no proof); Γ from the largest row sums.
    tol : float
        Of the stopping rule.
    """
    system = A if isinstance(A, System) else System(A)
    if gamma is None or condition is None:
        found = gershgorin(system)
        if found is None:
            found = _by_lanczos(system)
        gamma = found[0] if gamma is None else gamma
        condition = found[2] / found[1] if condition is None else condition
    if Gamma is None:
        import scipy.sparse

        scaled = scipy.sparse.diags_array(1 / system.diagonal) @ system.matrix
        lower, upper = abs(scipy.sparse.tril(scaled, -1)), abs(scipy.sparse.triu(scaled, 1))
        Gamma = float(np.max(lower.sum(axis=1))) * float(np.max(upper.sum(axis=1)))
    q = energy_rate(omega, gamma, Gamma)
    if q == 0:
        return 1
    return max(1, math.ceil(math.log(tol / math.sqrt(condition)) / math.log(q)))


def _by_lanczos(system: System) -> tuple[float, float, float]:
    from scipy.sparse.linalg import eigsh

    if system.n < 500:
        dense = system.matrix.toarray()
        root = 1 / np.sqrt(system.diagonal)
        low, high = np.linalg.eigvalsh(dense)[[0, -1]]
        gamma = float(np.linalg.eigvalsh(root[:, None] * dense * root)[0])
    else:
        import scipy.sparse

        root = scipy.sparse.diags_array(1 / np.sqrt(system.diagonal))
        scaled = (root @ system.matrix @ root).tocsc()
        gamma = float(eigsh(scaled, k=1, sigma=0, return_eigenvectors=False)[0])
        low = float(eigsh(system.matrix.tocsc(), k=1, sigma=0, return_eigenvectors=False)[0])
        high = float(eigsh(system.matrix, k=1, return_eigenvectors=False)[0])
    if gamma <= 0 or low <= 0:
        raise ValueError(f"A must be positive definite, its least eigenvalue is {float(low):.3g}")
    return gamma, float(low), float(high)


def ssor_bound(A: Any, omega: float, *, tol: float = 1e-8) -> tuple[float, float]:
    """χ ≥ cond(M⁻¹A) of the SSOR preconditioner, and a bound on the steps of CG (Axelsson 1994, Theorem 7.17); dense algebra."""
    system = A if isinstance(A, System) else System(A)
    dense, w = system.matrix.toarray(), as_omega(omega)
    D, L = np.diag(system.diagonal), np.tril(dense, -1)
    inverse = np.linalg.inv(dense)
    a = float(np.linalg.eigvals(D @ inverse).real.max())
    e = float(np.linalg.eigvals((L @ np.linalg.solve(D, L.T) - D / 4) @ inverse).real.max())
    delta = 2 - w
    chi = (1 + delta * delta * a / (4 * w) + e * w) / delta
    root = math.sqrt(np.linalg.cond(dense)) / tol
    return chi, 1 + math.log(root + math.sqrt(root * root - 1)) / -math.log(
        1 - 2 / (1 + math.sqrt(chi))
    )
