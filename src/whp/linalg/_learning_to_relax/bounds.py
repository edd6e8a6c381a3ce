"""How many iterations a solve can take, computed beforehand from bounds on the spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.linalg._learning_to_relax.solvers import as_omega
from whp.linalg._learning_to_relax.system import System
from whp.validate import as_real

__all__ = [
    "Definite",
    "Spectra",
    "Spectrum",
    "energy_bound",
    "energy_rate",
    "gershgorin",
    "ssor_bound",
    "steps_of_cg",
    "sweeps_of_sor",
]

UNIT = np.finfo(np.float64).eps / 2
SMALL = 400  # unknowns up to which eigenvalues are computed
LOOSE = 0.5  # of a least eigenvalue, what Weyl's inequality may lose before it is computed again


@dataclass(frozen=True)
class Spectrum:
    """What bounds on counts are made of.

    Parameters
    ----------
    gamma : float
        At most λ_min(D⁻¹A), positive.
    Gamma : float
        At least ρ(D⁻¹L D⁻¹U).
    condition : float
        At least cond₂(A).
    """

    gamma: float
    Gamma: float
    condition: float


@dataclass(frozen=True)
class Definite:
    """Whether a symmetric matrix is positive definite.

    Parameters
    ----------
    known : bool or None
        None where it cannot be told.
    how : str
        What told it.
    spectrum : Spectrum, optional
        Where it is.
    """

    known: bool | None
    how: str
    spectrum: Spectrum | None = None


def gershgorin(system: System) -> tuple[float, float, float] | None:
    """For a strictly dominant symmetric matrix: γ ≤ λ_min(D⁻¹A), λ_min and λ_max of A within; None where it is not."""
    diagonal = system.diagonal
    off = np.asarray(abs(system.matrix).sum(axis=1)).ravel() - diagonal
    off = off + 4 * UNIT * int(np.diff(system.indptr).max()) * (off + diagonal)
    gamma = float(1 - (off / diagonal).max())
    if gamma <= 0:
        return None
    # D⁻¹A is similar to a matrix whose rows have off/diagonal around 1.
    return gamma, float((diagonal - off).min()), float((diagonal + off).max())


def products(system: System) -> float:
    """At least ρ(D⁻¹L D⁻¹U) = ‖L̂‖², L̂ = D^−½ L D^−½: the lesser of ‖D⁻¹L‖_∞ ‖D⁻¹U‖_∞ and ‖L̂‖_1 ‖L̂‖_∞.

    The first is good for uneven degrees, the second does not change with the units of the unknowns.
    """
    p = system.pattern
    root = 1 / np.sqrt(system.diagonal)
    below = p.indices < p.rows
    rows, columns = p.rows[below], p.indices[below]
    sizes = np.abs(system.data[below])

    def largest(at: np.ndarray, weights: np.ndarray) -> float:
        return float(np.bincount(at, weights, system.n).max())

    shares = sizes * root[rows] * root[columns]
    even = largest(rows, shares) * largest(columns, shares)
    # U = Lᵀ: its rows are the columns of L.
    plain = largest(rows, sizes * root[rows] ** 2) * largest(columns, sizes * root[columns] ** 2)
    grown = 1 + 8 * UNIT * (int(np.diff(p.indptr).max()) + 4)
    return min(even, plain) * grown


class Spectra:
    """Bounds on the spectra of symmetric systems as they come.

    Row sums where A is strictly dominant. Else eigenvalues of D^−½ A D^−½, up to 400 unknowns; they are
    computed for one matrix and moved by Weyl's inequality to those that differ from it by little, or
    on the diagonal alone.
    """

    def __init__(self) -> None:
        self._anchor: tuple[System, float, float] | None = None

    def of(self, system: System) -> Definite:
        """Whether the symmetric matrix is positive definite, and its spectrum."""
        found = gershgorin(system)
        if found is not None:
            gamma, low, high = found
            spectrum = Spectrum(gamma, products(system), high / low)
            return Definite(True, "strictly dominant", spectrum)
        if system.n > SMALL:
            return Definite(None, f"{system.n:,} unknowns are more than {SMALL}, not dominant")
        moved = self._moved(system)
        if moved is None or moved[0] <= 0:
            moved = self._computed(system)
        low, high = moved
        rounding = 16 * system.n * UNIT * max(abs(low), abs(high))
        if low + rounding < 0:
            return Definite(False, f"the least eigenvalue of D^−½ A D^−½ is {low:.3g}")
        if low <= rounding:
            return Definite(None, f"singular within rounding, least eigenvalue {low:.2g}")
        assert self._anchor is not None
        low, high = low - rounding, high + rounding
        base, diagonal = self._anchor[0].diagonal, system.diagonal
        spectrum = Spectrum(
            low / float((diagonal / base).max()),
            products(system),
            high * float(base.max()) / (low * float(base.min())),
        )
        return Definite(True, "by eigenvalues", spectrum)

    def _computed(self, system: System) -> tuple[float, float]:
        root = 1 / np.sqrt(system.diagonal)
        scaled = root[:, None] * system.matrix.toarray() * root
        ends = np.linalg.eigvalsh((scaled + scaled.T) / 2)
        self._anchor = system, float(ends[0]), float(ends[-1])
        return float(ends[0]), float(ends[-1])

    def _moved(self, system: System) -> tuple[float, float] | None:
        """Ends of the spectrum, scaled as the anchor is, by Weyl's inequality; None where it is too coarse."""
        if self._anchor is None or self._anchor[0].pattern is not system.pattern:
            return None
        anchor, low, high = self._anchor
        p, root = system.pattern, 1 / np.sqrt(anchor.diagonal)
        change = (system.data - anchor.data) * root[p.rows] * root[p.indices]
        own = change[p.place]
        others = np.bincount(p.rows, np.abs(change), system.n) - np.abs(own)
        least, most = float((own - others).min()), float((own + others).max())
        # On the diagonal alone the loss is the spread of the change; a shift of the identity of a
        # constant diagonal loses nothing.
        if most - least > LOOSE * max(low + least, 0.0):
            return None
        return low + least, high + most


def exponent(omega: float, gamma: float, Gamma: float) -> float:
    """2Ω/(max(s, 0)/γ + 1/ω), Ω = 1/ω − ½, s = Ω² + Γ − ¼: what a sweep takes off the squared energy norm.

    Times ω² above and below: Ω cancels where ω is near 2, and its square overflows where ω is near 0.
    """
    w = as_omega(omega)
    return w * (2 - w) / (max(1 - w + Gamma * w * w, 0.0) / gamma + w)


def energy_rate(omega: float, gamma: float, Gamma: float) -> float:
    """q < 1 with ‖I − M⁻¹A‖ ≤ q in the norm of A: q² = 1 − 2Ω/(max(s, 0)/γ + 1/ω), s = Ω² + Γ − ¼."""
    g = as_real(gamma, "gamma", low=0, open_ends=True, high=math.inf)
    return math.sqrt(max(0.0, 1 - exponent(omega, g, as_real(Gamma, "Gamma", low=0))))


def sweeps_of_sor(spectrum: Spectrum, omega: float, tol: float) -> float:
    """Sweeps after which the residual has fallen by `tol`, whatever the right-hand side and first guess."""
    taken = exponent(omega, spectrum.gamma, spectrum.Gamma)
    if taken >= 1:
        return 1.0
    needed = 0.5 * math.log(spectrum.condition) - math.log(tol)
    fall = -0.5 * math.log1p(-taken)
    # Units so far apart that the condition overflows, or ω so small that a sweep does nothing.
    if fall == 0 or needed / fall == math.inf:
        return math.inf
    return max(1.0, math.floor(needed / fall) + 1)


def steps_of_cg(spectrum: Spectrum, omega: float, tol: float) -> float:
    """Steps of SSOR-CG after which the residual has fallen by `tol` from the first one."""
    taken = exponent(omega, spectrum.gamma, spectrum.Gamma)
    chi = max(1.0, 1 / taken) if taken > 0 else math.inf
    steps = _axelsson(chi, spectrum.condition, tol)
    return math.floor(steps) if steps < math.inf else math.inf


def _axelsson(chi: float, condition: float, tol: float) -> float:
    """1 + arcosh(√κ/tol)/−ln(1 − 2/(1 + √χ))."""
    fall = -math.log1p(-2 / (1 + math.sqrt(chi))) if chi > 1 else math.inf
    needed = math.acosh(max(1.0, math.sqrt(condition) / tol))
    return 1 + needed / fall if fall > 0 else math.inf


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
        Symmetric.
    omega : float
        In (0, 2).
    gamma, Gamma, condition : float, optional
        γ ≤ λ_min(D⁻¹A), Γ ≥ ρ(D⁻¹L D⁻¹U), κ ≥ cond(A). By default by row sums for a strictly dominant
        matrix, else by eigenvalues, which beyond 400 unknowns are Lanczos's and no proof.
    tol : float
        Of the stopping rule.

    Raises
    ------
    ValueError
        If A is not symmetric, or not positive definite.
    """
    system = A if isinstance(A, System) else System(A)
    if system.skew is not None:
        raise ValueError(f"A must be symmetric, {system.skew}")
    if gamma is None or condition is None:
        found = _spectrum(system)
        gamma = found.gamma if gamma is None else gamma
        condition = found.condition if condition is None else condition
    g = as_real(gamma, "gamma", low=0, open_ends=True, high=math.inf)
    G = products(system) if Gamma is None else as_real(Gamma, "Gamma", low=0)
    kappa = as_real(condition, "condition", low=1, high=math.inf)
    tolerance = as_real(tol, "tol", low=0, high=1, open_ends=True)
    bound = sweeps_of_sor(Spectrum(g, G, kappa), omega, tolerance)
    if bound == math.inf:
        raise ValueError(f"omega = {omega:g} and a condition of {kappa:.3g} leave no finite bound")
    return int(bound)


def _spectrum(system: System) -> Spectrum:
    """Of a matrix that has to be positive definite."""
    told = Spectra().of(system)
    if told.spectrum is not None:
        return told.spectrum
    if told.known is None and system.n > SMALL:
        from scipy.sparse import diags_array
        from scipy.sparse.linalg import eigsh

        root = diags_array(1 / np.sqrt(system.diagonal))
        scaled = (root @ system.matrix @ root).tocsc()
        try:
            # Shift and invert finds those next to 0; of their inverses, the least is negative if any is.
            below = float(eigsh(scaled, k=1, sigma=0, which="SA", return_eigenvectors=False)[0])
            gamma = float(eigsh(scaled, k=1, sigma=0, return_eigenvectors=False)[0])
        except RuntimeError as error:
            if "singular" not in str(error):  # of Lanczos, not of the factorisation
                raise
            raise ValueError(f"A must be positive definite: {str(error).lower()}") from error
        if abs(gamma) <= 16 * system.n * UNIT * float(abs(scaled).sum(axis=1).max()):
            raise ValueError(
                f"A must be positive definite: singular within rounding, D^−½ A D^−½ has the eigenvalue {gamma:.2g}"
            )
        if below <= 0:
            raise ValueError(
                f"A must be positive definite, D^−½ A D^−½ has the eigenvalue {below:.3g}"
            )
        low = float(eigsh(system.matrix.tocsc(), k=1, sigma=0, return_eigenvectors=False)[0])
        high = float(eigsh(system.matrix, k=1, return_eigenvectors=False)[0])
        if gamma > 0 and low > 0:
            return Spectrum(gamma, products(system), high / low)
        raise ValueError(f"A must be positive definite, its least eigenvalue is {low:.3g}")
    raise ValueError(f"A must be positive definite: {told.how}")


def ssor_bound(A: Any, omega: float, *, tol: float = 1e-8) -> tuple[float, float]:
    """χ ≥ cond(M⁻¹A) of the SSOR preconditioner, and a bound on the steps of CG (Axelsson 1994, Theorem 7.17); dense algebra."""
    system = A if isinstance(A, System) else System(A)
    if system.skew is not None:
        raise ValueError(f"A must be symmetric, {system.skew}")
    dense, w = system.matrix.toarray(), as_omega(omega)
    if (least := float(np.linalg.eigvalsh(dense)[0])) <= 0:
        raise ValueError(f"A must be positive definite, its least eigenvalue is {least:.3g}")
    D, L = np.diag(system.diagonal), np.tril(dense, -1)
    inverse = np.linalg.inv(dense)
    a = float(np.linalg.eigvals(D @ inverse).real.max())
    e = float(np.linalg.eigvals((L @ np.linalg.solve(D, L.T) - D / 4) @ inverse).real.max())
    delta = 2 - w
    chi = (1 + delta * delta * a / (4 * w) + e * w) / delta
    return chi, _axelsson(chi, float(np.linalg.cond(dense)), tol)
