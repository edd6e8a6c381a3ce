"""SOR and SSOR-preconditioned conjugate gradients, compiled, on sparse matrices in any ordering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled
from whp.validate import as_int, as_real, as_sparse, as_vector

__all__ = ["SolveInfo", "System", "as_omega", "conjugate_gradients", "sor", "ssor_cg"]

GROWTH = 1e30


@dataclass(frozen=True, eq=False)
class SolveInfo:
    """How a solve went.

    Attributes
    ----------
    x : ndarray, shape (n,)
        The solution, or the last iterate.
    iterations : int
        Sweeps, or steps of conjugate gradients.
    converged : bool
    residual : float
        ‖b − Ax‖ at the end, computed anew.
    """

    x: Float[np.ndarray, " n"]
    iterations: int
    converged: bool
    residual: float


class System:
    """A square matrix in CSR with the place of each row's diagonal, so that sweeps need no comparison.

    Parameters
    ----------
    A : scipy.sparse or array_like, shape (n, n)
        Real, with a positive diagonal.
    like : System, optional
        One whose pattern is reused where it is the same.

    Raises
    ------
    ValueError
        If it is not square, not finite, or has an entry on the diagonal that is not positive.
    """

    def __init__(self, A: Any, like: System | None = None) -> None:
        matrix = as_sparse(A, "A")
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
            raise ValueError(f"A must be square and not empty, got shape {matrix.shape}")
        if not matrix.has_sorted_indices or not matrix.has_canonical_format:
            matrix = matrix.copy()
            matrix.sum_duplicates()
        if not np.isfinite(matrix.data).all():
            raise ValueError("A must be finite, got NaN or infinity")
        self.matrix, self.n = matrix, matrix.shape[0]
        same = (
            like is not None and like.n == self.n and np.array_equal(like.indices, matrix.indices)
        )
        if same and like is not None and np.array_equal(like.indptr, matrix.indptr):
            self.indptr, self.indices, self.place = like.indptr, like.indices, like.place
        else:
            self.indptr, self.indices = (
                matrix.indptr.astype(np.int64),
                matrix.indices.astype(np.int64),
            )
            rows = np.repeat(np.arange(self.n), np.diff(self.indptr))
            found = np.flatnonzero(self.indices == rows)
            if len(found) < self.n:
                missing = int(np.setdiff1d(np.arange(self.n), rows[found])[0])
                raise ValueError(f"A has a non-positive diagonal entry at row {missing}")
            self.place = found
        self.data = matrix.data
        self.diagonal = self.data[self.place]
        if (self.diagonal <= 0).any():
            raise ValueError(
                f"A has a non-positive diagonal entry at row {int(np.argmax(self.diagonal <= 0))}"
            )

    @property
    def symmetric(self) -> bool:
        """Whether A = Aᵀ, but for rounding."""
        gap = self.matrix - self.matrix.T
        return gap.nnz == 0 or float(np.abs(gap.data).max()) <= 1e-12 * float(
            np.abs(self.data).max()
        )

    def right(self, b: Any) -> Float[np.ndarray, " n"]:
        """A right-hand side of fitting length."""
        return as_vector(b, "b", size=self.n, dtype=np.float64)


def as_omega(omega: Any, name: str = "omega") -> float:
    """A relaxation parameter in (0, 2)."""
    return as_real(omega, name, low=0, high=2, open_ends=True)


@compiled
def _residual(indptr, indices, data, x, b, r):
    total = 0.0
    for i in range(len(b)):
        s = b[i]
        for k in range(indptr[i], indptr[i + 1]):
            s -= data[k] * x[indices[k]]
        r[i] = s
        total += s * s
    return math.sqrt(total)


@compiled
def _sor(indptr, indices, data, place, omega, x, r, target, largest, cap, delta):
    """Sweeps in residual form, one pass over the matrix each: (D/ω + L)δ = r, x += δ, r = ((1/ω − 1)D − U)δ."""
    n = len(r)
    back = 1 / omega - 1
    count, norm = 0, np.inf
    while count < cap:
        count += 1
        for i in range(n):
            s = r[i]
            for k in range(indptr[i], place[i]):
                s -= data[k] * delta[indices[k]]
            delta[i] = s * omega / data[place[i]]
        total = 0.0
        for i in range(n):
            s = back * data[place[i]] * delta[i]
            for k in range(place[i] + 1, indptr[i + 1]):
                s -= data[k] * delta[indices[k]]
            r[i] = s
            x[i] += delta[i]
            total += s * s
        norm = math.sqrt(total)
        if norm < target:
            break
        if not norm < largest:  # NaN as well
            return count, np.inf
    return count, norm


@compiled
def _precondition(indptr, indices, data, place, omega, r, z):
    """z = M⁻¹r, M = (ω/(2 − ω))(D/ω + L)D⁻¹(D/ω + U)."""
    n = len(r)
    for i in range(n):
        s = r[i]
        for k in range(indptr[i], place[i]):
            s -= data[k] * z[indices[k]]
        z[i] = s * omega / data[place[i]]
    for i in range(n):
        z[i] *= (2 - omega) / omega * data[place[i]]
    for i in range(n - 1, -1, -1):
        s = z[i]
        for k in range(place[i] + 1, indptr[i + 1]):
            s -= data[k] * z[indices[k]]
        z[i] = s * omega / data[place[i]]


@compiled
def _cg(indptr, indices, data, place, omega, x, r, target, cap):
    """Conjugate gradients, preconditioned by SSOR where ω is positive."""
    n = len(r)
    z, p, q = np.empty(n), np.zeros(n), np.empty(n)
    norm = math.sqrt(r @ r)
    rho, count = 0.0, 0
    while norm > target and count < cap:
        if omega > 0:
            _precondition(indptr, indices, data, place, omega, r, z)
        else:
            z[:] = r
        before, rho = rho, r @ z
        if not rho > 0:  # not positive definite, or NaN
            return count, np.inf
        share = rho / before if count else 0.0
        for i in range(n):
            p[i] = z[i] + share * p[i]
        curvature = 0.0
        for i in range(n):
            s = 0.0
            for k in range(indptr[i], indptr[i + 1]):
                s += data[k] * p[indices[k]]
            q[i] = s
            curvature += s * p[i]
        if not curvature > 0:
            return count, np.inf
        alpha = rho / curvature
        total = 0.0
        for i in range(n):
            x[i] += alpha * p[i]
            r[i] -= alpha * q[i]
            total += r[i] * r[i]
        norm = math.sqrt(total)
        count += 1
    return count, norm


def _start(
    A: Any, b: Any, x0: Any, tol: Any, cap: Any
) -> tuple[System, np.ndarray, np.ndarray, np.ndarray, float, float, int]:
    system = A if isinstance(A, System) else System(A)
    right = system.right(b)
    x = (
        np.zeros(system.n)
        if x0 is None
        else as_vector(x0, "x0", size=system.n, dtype=np.float64).copy()
    )
    r = np.empty(system.n)
    first = _residual(system.indptr, system.indices, system.data, x, right, r)
    tolerance = as_real(tol, "tol", low=0, high=1, open_ends=True)
    return system, right, x, r, first, tolerance, as_int(cap, "cap", low=1)


def sor(
    A: Any, b: Any, omega: float, *, x0: Any = None, tol: float = 1e-8, cap: int = 10_000
) -> SolveInfo:
    """Successive over-relaxation until the residual has fallen by `tol` from where it began.

    Parameters
    ----------
    A : scipy.sparse, array_like or System, shape (n, n)
    b : array_like, shape (n,)
    omega : float
        In (0, 2); 1 is Gauss-Seidel.
    x0 : array_like, shape (n,), optional
        First guess, zero by default. The stopping rule is relative to its residual.
    tol : float
        ‖r‖ < tol ‖r₀‖ ends it.
    cap : int
        Sweeps at most.
    """
    system, right, x, r, first, tolerance, most = _start(A, b, x0, tol, cap)
    w, target = as_omega(omega), tolerance * first
    if first == 0:
        return SolveInfo(x, 0, True, 0.0)
    delta, count = np.empty(system.n), 0
    while True:
        swept, norm = _sor(
            system.indptr,
            system.indices,
            system.data,
            system.place,
            w,
            x,
            r,
            target,
            GROWTH * first,
            most - count,
            delta,
        )
        count += swept
        if not math.isfinite(norm):
            return SolveInfo(x, most, False, math.inf)
        # The residual in the loop is exact but for rounding; look once more before it is believed.
        true = _residual(system.indptr, system.indices, system.data, x, right, r)
        if true <= 2 * target or count >= most:
            return SolveInfo(x, count, true <= 2 * target and norm < target, true)


def ssor_cg(
    A: Any, b: Any, omega: float, *, x0: Any = None, tol: float = 1e-8, cap: int = 10_000
) -> SolveInfo:
    """Conjugate gradients preconditioned by symmetric SOR, for symmetric positive definite matrices.

    Parameters as in :func:`sor`; the stopping rule is ‖r‖ ≤ tol ‖b‖.
    """
    system, _, x, r, _, tolerance, most = _start(A, b, x0, tol, cap)
    if not isinstance(A, System) and not system.symmetric:
        raise ValueError("A must be symmetric for ssor-cg; use sor")
    return _conjugate(system, b, as_omega(omega), x, r, tolerance, most)


def conjugate_gradients(
    A: Any, b: Any, *, x0: Any = None, tol: float = 1e-8, cap: int = 10_000
) -> SolveInfo:
    """Conjugate gradients without a preconditioner; parameters as in :func:`ssor_cg`."""
    system, _, x, r, _, tolerance, most = _start(A, b, x0, tol, cap)
    return _conjugate(system, b, 0.0, x, r, tolerance, most)


def _conjugate(
    system: System, b: Any, omega: float, x: np.ndarray, r: np.ndarray, tol: float, cap: int
) -> SolveInfo:
    right = system.right(b)
    target = tol * float(np.linalg.norm(right))
    count, norm = _cg(
        system.indptr, system.indices, system.data, system.place, omega, x, r, target, cap
    )
    true = _residual(system.indptr, system.indices, system.data, x, right, r)
    return SolveInfo(x, int(count), norm <= target, true)
