"""SOR and SSOR-preconditioned conjugate gradients, compiled, on sparse matrices in any ordering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.kernel import compiled
from whp.linalg._learning_to_relax.system import System
from whp.validate import as_int, as_real, as_vector

__all__ = ["SolveInfo", "as_omega", "conjugate_gradients", "sor", "ssor_cg"]

GROWTH = 1e30
SMALL, LARGE = 1e-100, 1e100  # beyond, squares of residuals over A would vanish or overflow
CURVED = 1e-10  # curvature below minus this share of ‖p‖‖Ap‖ is no rounding


@dataclass(frozen=True, eq=False)
class SolveInfo:
    """How a solve went.

    Attributes
    ----------
    x : ndarray, shape (n,)
        The solution, or the last iterate; the first guess where the iteration diverged.
    iterations : int
        Sweeps, or steps of conjugate gradients.
    converged : bool
    residual : float
        ‖b − Ax‖ at the end, computed anew.
    stagnated : bool
        The residual of the recurrence met the tolerance, and the true one did not: rounding.
    indefinite : bool
        Conjugate gradients met a direction p with pᵀAp < 0.
    """

    x: Float[np.ndarray, " n"]
    iterations: int
    converged: bool
    residual: float
    stagnated: bool = False
    indefinite: bool = False


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
    """Conjugate gradients, preconditioned by SSOR where ω is positive; 1 where curvature was negative."""
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
        if not rho > 0:  # NaN, or nothing left
            return count, np.inf, 0
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
            bent = curvature < -CURVED * math.sqrt(p @ p) * math.sqrt(q @ q)
            return count, np.inf, int(bent)
        alpha = rho / curvature
        total = 0.0
        for i in range(n):
            x[i] += alpha * p[i]
            r[i] -= alpha * q[i]
            total += r[i] * r[i]
        norm = math.sqrt(total)
        count += 1
    return count, norm, 0


@dataclass(eq=False)
class _Start:
    """A solve before its first step: A, b, x and r over powers of two that keep squares in range."""

    system: System
    data: np.ndarray
    right: np.ndarray
    x: np.ndarray
    r: np.ndarray
    first: float
    tol: float
    cap: int
    unit: int  # exponents of the powers of two of b, and of x
    unknowns: int

    def end(self, count: int, converged: bool, residual: float, **flags: bool) -> SolveInfo:
        """The answer in the units of b."""
        x, left = np.ldexp(self.x, self.unknowns), float(np.ldexp(residual, self.unit))
        return SolveInfo(x, count, converged, left, **flags)

    def residual(self) -> float:
        """r computed anew, and its norm."""
        s = self.system
        return _residual(s.indptr, s.indices, self.data, self.x, self.right, self.r)


def _start(A: Any, b: Any, x0: Any, tol: Any, cap: Any) -> _Start:
    system = A if isinstance(A, System) else System(A)
    right = system.right(b)
    x = (
        np.zeros(system.n)
        if x0 is None
        else as_vector(x0, "x0", size=system.n, dtype=np.float64).copy()
    )
    r = np.empty(system.n)
    _residual(system.indptr, system.indices, system.data, x, right, r)
    largest, unit = max(float(np.abs(r).max()), float(np.abs(right).max())), 0
    if math.isfinite(largest) and largest > 0 and not SMALL < largest < LARGE:
        unit = math.frexp(largest)[1]
    data, exponent = system.scaled
    right, x = np.ldexp(right, -unit), np.ldexp(x, exponent - unit)
    first = _residual(system.indptr, system.indices, data, x, right, r)
    tolerance = as_real(tol, "tol", low=0, high=1, open_ends=True)
    most = as_int(cap, "cap", low=1)
    return _Start(system, data, right, x, r, first, tolerance, most, unit, unit - exponent)


def sor(
    A: Any, b: Any, omega: float, *, x0: Any = None, tol: float = 1e-8, cap: int = 10_000
) -> SolveInfo:
    """Successive over-relaxation until the residual has fallen by `tol` from where it began.

    Parameters
    ----------
    A : scipy.sparse, array_like or System, shape (n, n)
        Real, with a positive diagonal.
    b : array_like, shape (n,)
        Right-hand side.
    omega : float
        In (0, 2); 1 is Gauss-Seidel.
    x0 : array_like, shape (n,), optional
        First guess, zero by default. The stopping rule is relative to its residual.
    tol : float
        ‖r‖ < tol ‖r₀‖ ends it. Where the first guess is so good that rounding does not let the true residual
        fall that far, ‖r‖ ≤ tol ‖b‖ is enough.
    cap : int
        Sweeps at most.
    """
    start = _start(A, b, x0, tol, cap)
    system, most = start.system, start.cap
    w, target = as_omega(omega), start.tol * start.first
    cold = start.tol * float(np.linalg.norm(start.right))  # where a solve from zero ends
    if start.first == 0:
        return start.end(0, True, 0.0)
    delta, count, stagnated, begin = np.empty(system.n), 0, False, start.x.copy()
    last = math.inf  # true residual when the recurrence met the tolerance before
    while True:
        swept, norm = _sor(
            system.indptr,
            system.indices,
            start.data,
            system.place,
            w,
            start.x,
            start.r,
            target,
            GROWTH * start.first,
            most - count,
            delta,
        )
        count += swept
        if not math.isfinite(norm):
            start.x = begin
            return start.end(most, False, start.first)
        # The residual in the loop is exact but for rounding; look once more before it is believed.
        true = start.residual()
        fine = true <= 2 * target or (norm < target and true <= cold)
        stagnated |= norm < target and not fine
        stuck, last = norm < target and true > last / 2, true
        if fine or stuck or count >= most:
            return start.end(count, fine and norm < target, true, stagnated=stagnated)


def ssor_cg(
    A: Any, b: Any, omega: float, *, x0: Any = None, tol: float = 1e-8, cap: int = 10_000
) -> SolveInfo:
    """Conjugate gradients preconditioned by symmetric SOR, for symmetric positive definite matrices.

    Parameters as in :func:`sor`; the stopping rule is ‖r‖ ≤ tol ‖b‖.

    Raises
    ------
    ValueError
        If A is not symmetric.
    """
    start = _start(A, b, x0, tol, cap)
    if (skew := start.system.skew) is not None:
        raise ValueError(f"A must be symmetric for ssor-cg ({skew}); use sor")
    return _conjugate(start, as_omega(omega))


def conjugate_gradients(
    A: Any, b: Any, *, x0: Any = None, tol: float = 1e-8, cap: int = 10_000
) -> SolveInfo:
    """Conjugate gradients without a preconditioner; parameters as in :func:`ssor_cg`."""
    return _conjugate(_start(A, b, x0, tol, cap), 0.0)


def _conjugate(start: _Start, omega: float) -> SolveInfo:
    system, size = start.system, float(np.linalg.norm(start.right))
    if size == 0:  # no tolerance relative to b could be met
        start.x[:] = 0
        return start.end(0, True, 0.0)
    target, count, stagnated, last = start.tol * size, 0, False, math.inf
    while True:
        taken, norm, bent = _cg(
            system.indptr,
            system.indices,
            start.data,
            system.place,
            omega,
            start.x,
            start.r,
            target,
            start.cap - count,
        )
        count += int(taken)
        true, met = start.residual(), norm <= target
        fine = met and true <= 2 * target
        stagnated |= met and not fine
        stuck, last = true > last / 2, true
        if fine or stuck or not met or count >= start.cap:
            return start.end(count, fine, true, stagnated=stagnated, indefinite=bool(bent))
