"""Whether a function of complex energy is the transform of something that comes after its cause.

Everything is in units of the mass. A user's function is called with complex energies above the
real axis; values on the axis are taken :data:`NEAR` above it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from whp.qft._finite_time_path.quadrature import EPS, legendre, panels

__all__ = [
    "BOXES",
    "PROBES",
    "Residual",
    "arcs",
    "boxes",
    "by_cutoffs",
    "mirrored",
    "residual",
    "residuals",
    "slopes",
]

Function = Callable[[np.ndarray], np.ndarray]
PROBES = np.array([0.3 + 0.7j, -3 + 1j, 4 + 2j, -0.5 + 3j, 6 + 0.5j])
BOXES = (0.05, 0.005, 0.0005)  # heights of the base of the rectangles [−10, 10] × [y, 5]
# On the axis as well: a pure delay falls off everywhere else.
ANGLES = np.array([1e-9, 0.01, 0.25 * np.pi, 0.5 * np.pi, 0.75 * np.pi, np.pi - 0.01, np.pi - 1e-9])
RADII = np.array([1e2, 1e3, 1e4])
NEAR = 1e-6
GRID = 1001  # angles of an arc
MARGIN = 1.01  # for what lies between them
ROUNDS = 40
TOLERANCE = 1e-9  # of a panel, relative to F(z0)


class Residual(NamedTuple):
    """How far a dispersion relation is off, with the error of its quadrature, and what it may be off."""

    off: float
    error: float
    bound: float


def called(F: Function, z: np.ndarray) -> np.ndarray:
    """F at these energies, checked."""
    with np.errstate(all="ignore"):
        values = np.asarray(F(z), complex)
    if values.shape != z.shape:
        raise TypeError(
            f"F must return one number an energy, got shape {values.shape} for {z.shape}"
        )
    return values


def boxes(F: Function) -> float:
    """Largest relative error of Cauchy's formula at the probes, over all rectangles.

    Not of Cauchy's theorem: ∮F vanishes for a double pole, and for two opposite residues.
    """
    worst = 0.0
    at = called(F, PROBES)
    for y in BOXES:
        corners = [-10 + 1j * y, 10 + 1j * y, 10 + 5j, -10 + 5j]
        total = np.zeros(len(PROBES), complex)
        for k, (a, b) in enumerate(zip(corners, [*corners[1:], corners[0]], strict=True)):
            if k == 0:
                edges = np.linspace(0, 1, int(np.ceil(abs(b - a) / y)) + 1)
            else:  # the sides end next to the axis
                graded = np.r_[0, 2.0 ** np.arange(-18, 0)]
                edges = np.unique(np.r_[np.linspace(0, 1, 41), graded, 1 - graded])
            x, w = panels(edges, 8)
            z = a + (b - a) * x
            with np.errstate(all="ignore"):
                values = called(F, z) * w * (b - a)
            total += np.array([(values / (z - q)).sum() for q in PROBES])
        scale = np.maximum(np.abs(at), 1e-300)
        worst = max(
            worst,
            float(np.max(np.nan_to_num(np.abs(total / (2j * np.pi) - at) / scale, nan=np.inf))),
        )
    return worst


def slopes(F: Function) -> tuple[np.ndarray, float]:
    """Both slopes of ln max|F| against ln Λ over the arcs, and the smallest |F| that was met."""
    values = np.abs(called(F, RADII[:, None] * np.exp(1j * ANGLES)))
    most = values.max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        made = np.diff(np.log(most)) / np.diff(np.log(RADII))
    return np.nan_to_num(made, nan=np.inf, posinf=np.inf, neginf=-np.inf), float(values.min())


def arcs(F: Function, radius: float, near: float = NEAR, grid: int = GRID) -> float:
    """Largest |F| on the upper half circle, with a margin for what lies between the angles."""
    angle = np.linspace(0, np.pi, grid)
    z = radius * np.exp(1j * angle)
    return MARGIN * float(np.abs(called(F, z.real + 1j * np.maximum(z.imag, near))).max())


def residual(F: Function, z0: complex, radius: float) -> Residual:
    """|(1/2πi)∫F(p)/(p − z0)dp − F(z0)| over (−Λ, Λ), against ½ Λ/(Λ − |z0|) max|F| on the arc."""
    return residuals(F, z0, np.array([radius], dtype=float))[0]


def residuals(
    F: Function,
    z0: complex,
    radii: np.ndarray,
    *,
    near: float = NEAR,
    grid: int = GRID,
    doubt: Function | None = None,
) -> list[Residual]:
    """The same for several rising radii, of which the larger ones go on where the smaller ones end.

    The left side knows the axis and F(z0), the right side the arc alone. Values of F that are off by
    `doubt` move the left side by no more than doubt(z0) and what the axis weighs of it.
    """
    at = called(F, np.array([z0]))[0]

    def integrand(x: np.ndarray) -> np.ndarray:
        return called(F, x + 1j * near) / (x + 1j * near - z0)

    made, integral, error, inner = [], 0j, 0.0, 0.0
    if doubt is not None:
        error += 2 * np.pi * float(np.abs(doubt(np.array([z0])))[0])
    for radius in map(float, radii):
        start = np.geomspace(inner or 1e-2, radius, 60 if inner == 0 else 9)
        sides = [np.r_[-start[::-1], 0.0, start]] if inner == 0 else [-start[::-1], start]
        for edges in sides:
            if inner == 0:
                edges = np.unique(np.r_[edges, z0.real])
            more, wrong = _adaptive(integrand, edges, TOLERANCE * abs(at))
            integral, error = integral + more, error + wrong
            if doubt is not None:
                x, w = panels(edges, 8)
                z = x + 1j * near
                error += float((w * np.abs(doubt(z)) / np.abs(z - z0)).sum())
        inner = radius
        off = abs(integral / (2j * np.pi) - at)
        bound = 0.5 * radius / (radius - abs(z0)) * arcs(F, radius, near, grid)
        # The line is that near to the axis, and so misses two pieces of the arc of that length.
        lifted = 2 * near * bound / radius
        rounding = error / (2 * np.pi) + lifted + 8 * EPS * abs(at)
        made.append(Residual(float(off), float(rounding), float(bound)))
    return made


def by_cutoffs(F: Function, z0: complex, cutoffs: np.ndarray) -> np.ndarray:
    """|(1/2πi)∫F(p)/(p − z0)dp| from L to 2L for each L: what another upper cut-off adds to P₊F(z0)."""
    made = []
    for L in cutoffs:
        x, w = panels(L * np.linspace(1, 2, 9), 16)
        with np.errstate(all="ignore"):
            made.append(abs((w * np.asarray(F(x), complex) / (x - z0)).sum()) / (2 * np.pi))
    return np.array(made)


def _adaptive(f: Function, edges: np.ndarray, tolerance: float) -> tuple[complex, float]:
    """Gauss-Legendre on panels that are halved where 8 and 16 nodes differ."""
    a, b = edges[:-1], edges[1:]
    total, error = 0j, 0.0
    (x8, w8), (x16, w16) = legendre(8), legendre(16)
    for level in range(ROUNDS):
        width = b - a
        fine = f((a[:, None] + width[:, None] * x16).ravel()).reshape(-1, 16) @ w16 * width
        rough = f((a[:, None] + width[:, None] * x8).ravel()).reshape(-1, 8) @ w8 * width
        apart = np.abs(fine - rough)
        done = (apart <= tolerance) | (level == ROUNDS - 1) | (len(a) > 4000)
        total += fine[done].sum()
        error += float((apart[done] * np.where(apart[done] <= tolerance, 1e-2, 1.0)).sum())
        a, b = a[~done], b[~done]
        if not a.size:
            break
        middle = (a + b) / 2
        a, b = np.r_[a, middle], np.r_[middle, b]
    return complex(total), error


def mirrored(F: Function) -> Function:
    """A function with F(−z*) = F(z)*, called at every pair of mirrored energies once."""

    def folded(z: np.ndarray) -> np.ndarray:
        seen, back = np.unique(np.abs(np.real(z)) + 1j * np.imag(z), return_inverse=True)
        values = np.asarray(F(seen), complex)[back].reshape(z.shape)
        return np.where(np.real(z) < 0, values.conj(), values)

    return folded
