"""Tadpoles: the vacuum's divergence and its counterterm, the medium's shift, and what becomes of the oscillation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import gamma

from whp.qft._finite_time_path.composite import DEGREE, _graded, _series, _transform
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.propagators import as_times
from whp.qft._finite_time_path.quadrature import half_line, panels
from whp.qft._finite_time_path.self_energy import as_kappa
from whp.validate import as_array, as_real

__all__ = [
    "Tadpole",
    "counterterm_residue",
    "density",
    "oscillation",
    "pairs",
    "tadpole",
    "vacuum_by_subtraction",
    "vacuum_tadpole",
]

Kind = Literal["homogeneous", "gaussian", "callable", "table"]
AMPLITUDE = math.sqrt(math.pi) / (8 * math.pi**2)  # of ∫√σ e^{iσt} over 2π²
NEGLIGIBLE = 1e-17
PHASE, MANY = 6.0, 1500  # radians a panel that Gauss-Legendre resolves; panels


def density(field: Field) -> float:
    """T_f = ∫k²dk f/(2π²ω) over m²: what the occupied modes add to ⟨φ²⟩."""
    if field.f.kind == "vacuum":
        return 0.0
    rule = half_line(1 / 32)
    omega = 1 + rule.left
    with np.errstate(over="ignore", invalid="ignore"):
        term = np.sqrt(rule.left * (omega + 1)) * np.where(omega <= field.f.last, field.f(omega), 0)
    return float(np.where(np.isfinite(term), term, 0.0) @ rule.weight / (2 * np.pi**2))


def vacuum_tadpole(kappa: float, log_mu: float = 0.0) -> float:
    """T_vac over m²: (4πμ²/m²)^κ Γ(κ − 1)/16π², with its pole −1/(16π²κ)."""
    return (
        math.exp(kappa * (math.log(4 * math.pi) + log_mu))
        * float(gamma(kappa - 1))
        / (16 * math.pi**2)
    )


def vacuum_by_subtraction(kappa: float) -> float:
    """The same at μ = m by the momentum integral in D = 3 − 2κ dimensions, its divergent part taken off."""
    D = 3 - 2 * kappa
    area = 2 * math.pi ** (D / 2) / float(gamma(D / 2)) / (2 * math.pi) ** D
    rule = half_line(1 / 32)
    k = 1 / (1 + rule.left)  # from 0 to 1
    inner = (1 / (2 * np.hypot(k, 1)) - 1 / (2 * k)) * k ** (D - 1) * k**2
    k = 1 + rule.left
    y = np.hypot(1, 1 / k)
    gap = 1 / k**2 / (1 + y)  # y − 1
    outer = gap**2 * (y + 2) / (4 * y * k) * k ** (D - 1)
    return area * float((inner + outer) @ rule.weight - 1 / (8 * kappa))


def counterterm_residue(field: Field, counterterm: Callable[[float], float] | None = None) -> float:
    """Coefficient of 1/κ in (g/2)T − c over g m²/(32π²), T by subtraction and c by `counterterm` (or Γ).

    Richardson's extrapolation of κ((g/2)T − c) from four κ.
    """
    kappas = np.array([0.08, 0.04, 0.02, 0.01])
    c = counterterm or (lambda kappa: vacuum_tadpole(kappa) / 2)
    left = [k * (vacuum_by_subtraction(k) / 2 - c(k)) * 32 * math.pi**2 for k in kappas]
    table = np.array(left)
    for order in range(1, len(kappas)):
        table = (2**order * table[1:] - table[:-1]) / (2**order - 1)
    return float(table[0])


@dataclass(frozen=True)
class Source:
    """J(p) of a localised excitation, by what was given."""

    kind: Kind
    J: Callable[[np.ndarray], np.ndarray]
    scale: float  # momenta that matter, in masses


def as_source(given: Any, mass: float) -> Source:
    """A source from "homogeneous", a width in position, J(p), or rows of p and J."""
    if isinstance(given, str):
        if given != "homogeneous":
            raise ValueError(
                f"source must be 'homogeneous', a width, a function of momentum or a table, got {given!r}"
            )
        return Source("homogeneous", np.ones_like, 1.0)
    if callable(given):
        J = lambda p: np.asarray(given(p * mass), float)  # noqa: E731
        at = np.geomspace(1e-3, 1e4, 400)
        size = np.abs(J(at)) * at**2
        if not np.isfinite(size).all() or size.max() == 0:
            raise ValueError("source must be finite, and not 0 everywhere")
        seen = np.flatnonzero(size > NEGLIGIBLE * size.max())
        if seen[-1] == len(at) - 1:
            raise ValueError(
                "source must fall off with momentum faster than p^-2 times 1e-17 at 1e4 masses"
            )
        return Source("callable", J, float(at[seen[-1] + 1]))
    if np.ndim(given) == 2:
        rows = as_array(given, "source").astype(float)
        if (
            rows.shape[1] != 2
            or len(rows) < 2
            or not np.isfinite(rows).all()
            or (np.diff(rows[:, 0]) <= 0).any()
        ):
            raise ValueError("source must hold rows of p (rising) and J, all finite")
        p, J_of = rows[:, 0] / mass, rows[:, 1]
        return Source("table", lambda q: np.interp(q, p, J_of, right=0.0), float(p[-1]))
    a = as_real(given, "source", low=0, open_ends=True) * mass
    return Source("gaussian", lambda p: np.exp(-(p**2) * a**2 / 2), 9.0 / a)


def _waves(weight: Callable[[np.ndarray], np.ndarray], far: float, t: np.ndarray) -> np.ndarray:
    """∫₀^far weight(x) e^{−i(1 + x)t} dx; the weight begins like a square root.

    Where few panels resolve the fastest wave they are summed as they are, else by series.
    """
    edges = _graded([0.0], 0.0, far, 1e-12 * far)
    longest = PHASE / max(float(t.max(initial=0)), 1e-300)

    def cut(a: float, b: float, most: float) -> np.ndarray:
        return np.linspace(a, b, max(4, math.ceil((b - a) / most)), endpoint=False)

    plain = far / longest < MANY
    pieces = [cut(a, b, longest if plain else np.inf) for a, b in itertools.pairwise(edges)]
    fine = np.r_[np.concatenate(pieces), far]
    x, w = panels(fine, DEGREE)
    values, turned = weight(x), np.exp(-1j * t)
    if not plain:
        return turned * _transform(fine, _series(values), t)
    made = [
        np.exp(-1j * part[:, None] * x) @ (w * values)
        for part in np.array_split(t, 1 + len(t) // 64)
    ]
    return turned * np.concatenate(made)


def oscillation(t: Any, source: Any, field: Field) -> np.ndarray:
    """O(t) = (1/2π²)∫ p² J(p) cos(ω_p t)/ω_p² dp over m: the oscillation of a localised source."""
    made = as_source(source, field.mass)
    times = np.asarray(as_times(t, "times") * field.mass)
    if made.kind == "homogeneous":
        return np.cos(times)

    def weight(x: np.ndarray) -> np.ndarray:  # dp p²/ω² = (p/ω) dω
        p = np.sqrt(x * (x + 2))
        return made.J(p) * p / (1 + x)

    value = np.real(_waves(weight, math.hypot(made.scale, 1.0) - 1, times.ravel())) / (2 * np.pi**2)
    return value.reshape(times.shape)


def leading(t: np.ndarray, source: Any, field: Field) -> np.ndarray:
    """(J(0)/2π²)(√π/4)(2/t)^{3/2} cos(t + 3π/4): what is left of O(t) at late times, over m."""
    made = as_source(source, field.mass)
    return float(made.J(np.zeros(1))[0]) * AMPLITUDE * (2 / t) ** 1.5 * np.cos(t + 0.75 * np.pi)


def pairs(z: Any, h: Callable[[np.ndarray], np.ndarray], field: Field) -> np.ndarray:
    """T_h(z) = ∫k²dk h(ω) cos(2ωz)/(2π²ω) over m²: correlated pairs of the initial state.

    Parameters
    ----------
    z : array_like
        Times since the switch.
    h : callable
        Of ω, smooth; it must fall off as fast as an exponential by 200 masses.
    field : Field
        For the mass.
    """
    times = np.asarray(as_times(z, "z") * field.mass)

    def weight(x: np.ndarray) -> np.ndarray:
        return np.asarray(h((1 + x) * field.mass), float) * np.sqrt(x * (x + 2))

    value = np.real(_waves(weight, 200.0, 2 * times.ravel())) / (2 * np.pi**2)
    return value.reshape(times.shape)


@dataclass(frozen=True, eq=False)
class Tadpole:
    """The mean field after the linear counterterm took off the vacuum's tadpole.

    Attributes
    ----------
    times : ndarray
        As given.
    mean : ndarray
        ⟨φ⟩(t): shift and oscillation.
    shift : float
        The equilibrium value −gT_f/2m²: constant.
    oscillation : ndarray
        ⟨φ⟩(t) − shift: energy is not conserved at the switch. Undamped for a constant source.
    density : float
        T_f, what occupied modes add to ⟨φ²⟩.
    pole : float
        Coefficient of 1/κ in the vacuum's ⟨φ²⟩, which the counterterm removes.
    average : ndarray
        Largest average of the oscillation over a window as long as t: it vanishes like 1/t.
    """

    times: np.ndarray
    mean: np.ndarray
    shift: float
    oscillation: np.ndarray
    density: float
    pole: float
    average: np.ndarray


def tadpole(
    times: Any, field: Field, *, source: Any = "homogeneous", width: float = 0.0, kappa: float = 0.0
) -> Tadpole:
    """Mean field of a state that is switched on at time 0.

    The oscillating part vanishes at late times in three senses, and for a constant source in none
    pointwise: averaged over a window τ it is below 2/(mτ) of its amplitude; with a width Γ it dies
    like e^{−Γt/2}; of a localised source it spreads like t^{−3/2}.

    Parameters
    ----------
    times : array_like
        Times since the switch, at least 0.
    field : Field
        Mass, coupling, occupation.
    source : "homogeneous", float, callable or array_like, shape (n, 2)
        Constant in space; a Gaussian e^{−p²a²/2} of width a; J(p); rows of p and J.
    width : float
        Γ, the decay rate of a mode at rest, which one loop does not give on the shell.
    kappa : float
        (4 − d)/2; what is finite does not depend on it.

    Returns
    -------
    Tadpole
    """
    m, g = field.mass, field.coupling / field.mass
    as_kappa(kappa)
    gone = as_real(width, "width", low=0) / m
    t = np.asarray(as_times(times, "times") * m)
    T_f = density(field)
    shift = -g * T_f / 2
    wave = oscillation(t / m, source, field)
    swing = -shift * wave * np.exp(-gone * t / 2)
    with np.errstate(divide="ignore"):
        average = abs(shift) * np.minimum(1.0, 2 / t)
    return Tadpole(
        t / m,
        (shift + swing) * m,
        shift * m,
        swing * m,
        T_f * m**2,
        -(m**2) / (16 * math.pi**2),
        average * m,
    )
