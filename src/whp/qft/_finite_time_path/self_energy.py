"""The one-loop self-energy in d = 4 − 2κ dimensions, all components, with the error of each number."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import beta as beta_function
from scipy.special import gammaln, zeta

from whp.qft._finite_time_path import medium
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.quadrature import EPS, panels
from whp.validate import as_choice, as_real

__all__ = [
    "COMPONENTS",
    "Component",
    "Part",
    "Scheme",
    "Values",
    "as_energies",
    "as_scheme",
    "cut",
    "retarded",
    "self_energy",
    "vacuum",
]

Component = Literal["R", "A", "K", "F", ">", "<"]
Scheme = Literal["msbar", "onshell", "bare"]
Part = Literal["all", "vacuum", "medium"]
COMPONENTS: tuple[Component, ...] = ("R", "A", "K", "F", ">", "<")
SERIES = 40
CLOSE = 0.25  # |s/(s − 4m²)| up to which the series about s = 0 is summed
BLOCK = 512
NODES = 12  # of Gauss-Legendre a panel


class Values(NamedTuple):
    """Complex numbers, and how far rounding and quadrature may have moved each."""

    value: np.ndarray
    error: np.ndarray


def as_energies(p0: Any, *, upper: bool) -> np.ndarray:
    """Energies as complex128, real or (for R alone) above the real axis."""
    array = np.asarray(p0)
    if array.dtype.kind not in "iufc":
        raise TypeError(f"p0 must hold numbers, got dtype {array.dtype}")
    array = array.astype(complex)
    if not np.isfinite(array).all():
        raise ValueError("p0 must be finite, got NaN or infinity")
    if (np.imag(array) < 0).any() or (not upper and (np.imag(array) != 0).any()):
        wanted = "real or above the real axis" if upper else "real for this component"
        raise ValueError(f"p0 must be {wanted}, got {array[np.imag(array) != 0].ravel()[0]:g}")
    return array


def _quadrant(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies folded into the first quadrant by F(−q*) = F(q)*, and which were."""
    turned = np.real(q) < 0
    return np.where(turned, -np.real(q), np.real(q)) + 1j * np.imag(q), turned


def _invariants(q: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """s, s − 4 and the rounding of both, for energies in the first quadrant."""
    threshold = math.hypot(p, 2.0)
    s, above = (q - p) * (q + p), (q - threshold) * (q + threshold)
    # A real energy is q + i0: the imaginary part of s must be +0.
    real = np.imag(q) == 0
    s = np.where(real, s.real + 0j, s)
    above = np.where(real, above.real + 0j, above)
    return s, above, 4 * EPS * (np.abs(q) ** 2 + p * p + 4)


def vacuum(q: np.ndarray, p: float, kappa: float, log_mu: float) -> Values:
    """The vacuum part over −g²/(32π²) without the pole of the modified minimal subtraction.

    At κ > 0 that is (4πμ²/m²)^κ Γ(κ) ₂F₁(κ, 1; 3/2; s/4m²) − (1/κ − γ + ln 4π).

    Parameters
    ----------
    q : ndarray of complex
        Energies in units of the mass, in the closed upper half plane.
    p : float
        Momentum in units of the mass.
    kappa : float
        (4 − d)/2.
    log_mu : float
        ln(μ²/m²).
    """
    folded, turned = _quadrant(np.asarray(q, complex))
    s, above, rounding = _invariants(folded.ravel(), p)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        made = _finite(s, above) if kappa == 0 else _dimensional(s, above, kappa, log_mu)
    if kappa == 0:
        made = made + log_mu
    # Near the threshold the loop goes like (1 − s/4)^{1/2 − κ}, which magnifies the rounding of s.
    amplitude = math.exp(kappa * (math.log(4 * math.pi) + log_mu))
    at = np.maximum(np.abs(above), rounding) / 4
    within = np.where(np.abs(above) < 4 * rounding, min(1 / (0.5 - kappa), 40.0), 1.0)
    moved = rounding / 4 * at ** (-0.5 - kappa) * within / np.sqrt(np.maximum(np.abs(s) / 4, 1))
    size = np.abs(made) + abs(log_mu) + 8 + np.log1p(np.abs(s))
    error = amplitude * 2 * moved + 8 * EPS * (size + amplitude)
    value = np.where(turned.ravel(), made.conj(), made)
    return Values(value.reshape(folded.shape), error.reshape(folded.shape))


def _finite(s: np.ndarray, above: np.ndarray) -> np.ndarray:
    """2 − β ln((β + 1)/(β − 1)), the logarithm as ln(−s(1 + β)²/4), which keeps its digits at large s."""
    inverse = s / above  # 1/β²
    beta = np.sqrt(above / s)
    # arg s is in [0, π] here, so that −s = s e^{−iπ}; numpy's √ and ln have Re β ≥ 0, Im β ≥ 0.
    log = 2 * np.log(1 + beta) + np.log(s / 4) - 1j * np.pi
    far = 2 - beta * log
    far = np.where(above == 0, 2.0, far)
    near, power = np.zeros_like(s), np.ones_like(s)
    small = np.abs(inverse) < CLOSE
    w = np.where(small, inverse, 0)
    for k in range(1, SERIES):
        power = power * w
        near = near - 2 * power / (2 * k + 1)
    return np.where(small, near, far)


def _dimensional(s: np.ndarray, above: np.ndarray, kappa: float, log_mu: float) -> np.ndarray:
    """The Feynman integral ∫₀¹dv (1 − s(1 − v²)/4)^{−κ} along v = t − it(1 − t), below the branch point β.

    Panels halve towards both ends, down to the distances of β from them: no panel comes nearer to β
    than its own width.
    """
    offset = _log_gamma(kappa) + kappa * (math.log(4 * math.pi) + log_mu)
    made = np.empty_like(s)
    for start in range(0, len(s), BLOCK):
        part = slice(start, start + BLOCK)
        at = np.where(s[part] == 0, 1e-290, s[part])[:, None]
        beta = np.sqrt(above[part, None] / at)
        gap = 4 / at / (1 + beta)  # 1 − β
        t, u, weight = _graded(
            _halvings(np.abs(beta), 30), _halvings(np.minimum(np.abs(gap), 1), 44)
        )
        v, one_minus = t - 1j * t * u, u + 1j * t * u
        # β − v keeps its digits where both are next to one.
        to_branch = np.where(np.abs(gap) < 0.5, one_minus - gap, beta - v)
        to_branch = np.real(to_branch) + 1j * np.maximum(to_branch.imag, 0.0)
        log = np.log(at / 4) + np.log(to_branch * (v + beta)) - 1j * np.pi
        near = np.abs(at) < 1e-3
        if near.any():
            small = np.where(near, at, 0) / 4
            log = np.where(near, np.log1p(-small * one_minus * (1 + v)), log)
        made[part] = np.expm1(offset - kappa * log) @ (weight * (1 - 1j * (u - t))) / kappa
    return made + np.euler_gamma - math.log(4 * math.pi)


def _log_gamma(kappa: float) -> float:
    """ln Γ(1 + κ) by its series, which has all digits of κ."""
    k = np.arange(2, 60)
    return float(-np.euler_gamma * kappa + (zeta(k) * (-kappa) ** k / k).sum())


def _halvings(distance: np.ndarray, most: int) -> int:
    """How often a half has to be halved to come to the smallest of these distances."""
    smallest = max(float(distance.min(initial=1.0)), 2.0**-60)
    return min(max(2, 2 - math.floor(math.log2(smallest))), most)


@cache
def _graded(left: int, right: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes on [0, 1], their distances from 1, and weights, in panels that halve towards the ends."""
    t, w = panels(np.r_[0.0, 2.0 ** -np.arange(left, 0.5, -1)], NODES)
    u, w2 = panels(np.r_[0.0, 2.0 ** -np.arange(right, 0.5, -1)], NODES)
    return np.r_[t, 1 - u], np.r_[1 - t, u], np.r_[w, w2]


def cut(E: Any, p: float, kappa: float, log_mu: float) -> np.ndarray:
    """Im Σ_R of the vacuum over −g²/(32π²), continued from above the threshold to complex energies.

    πβ at κ = 0, else β((s − 4m²)/4m²)^{−κ} (4πμ²/m²)^κ π B(½, 1 − κ)/(2Γ(1 − κ)).
    """
    E = np.asarray(E, complex)
    threshold = math.hypot(p, 2.0)
    s, above = (E - p) * (E + p), (E - threshold) * (E + threshold)
    root = np.sqrt(above) / np.sqrt(s)
    if kappa == 0:
        return np.pi * root
    size = math.exp(kappa * (math.log(4 * math.pi) + log_mu) - gammaln(1 - kappa))
    return (
        np.pi * size * beta_function(0.5, 1 - kappa) / 2 * root * np.exp(-kappa * np.log(above / 4))
    )


def pole(kappa: float) -> float:
    """1/κ − γ + ln 4π."""
    return 1 / kappa - np.euler_gamma + math.log(4 * math.pi)


def retarded(
    q: np.ndarray, p: float, field: Field, *, kappa: float, scheme: Scheme, part: Part
) -> Values:
    """Σ_R over m² at energies and momentum over m."""
    value, error = np.zeros(q.shape, complex), np.zeros(q.shape)
    factor = -field.scale / 2
    if part != "medium":
        value, error = vacuum(q, p, kappa, field.log_mu)
        if scheme == "onshell":
            on_shell = vacuum(np.array([math.hypot(p, 1.0) + 0j]), p, kappa, field.log_mu)
            value, error = value - on_shell.value[0].real, error + on_shell.error[0]
        elif scheme == "bare" and kappa:
            value = value + pole(kappa)
            error = error + 4 * EPS * abs(pole(kappa))
        value, error = factor * value, abs(factor) * error
    if part != "vacuum" and field.f.kind != "vacuum":
        more = medium.retarded(q, p, field)
        value, error = value + more[0], error + more[1]
    return Values(value, error)


def self_energy(
    p0: Any,
    p: float,
    field: Field,
    component: Component = "R",
    *,
    kappa: float = 0.0,
    scheme: Scheme = "msbar",
    part: Part = "all",
    with_error: bool = False,
) -> Any:
    """One-loop self-energy, in d = 4 − 2κ dimensions.

    Parameters
    ----------
    p0 : array_like
        Energies; real, or for "R" above the real axis. A real p0 means p0 + i0.
    p : float
        Momentum, at least 0.
    field : Field
        Mass, coupling, occupation, scale.
    component : {"R", "A", "K", "F", ">", "<"}
        Retarded, advanced, Keldysh, Feynman, greater, lesser.
    kappa : float
        In [0, ½); at 0 the pole must be subtracted. The part of the medium is finite and is taken
        at κ = 0.
    scheme : {"msbar", "onshell", "bare"}
        What is subtracted of R, A and F: (1/κ − γ + ln 4π), in the limit the modified minimal
        subtraction; the real part at s = m²; nothing.
    part : {"all", "vacuum", "medium"}
        Which part.
    with_error : bool
        Return errors, too.

    Returns
    -------
    ndarray of complex, or Values
        Of the dimension of a mass squared.

    Raises
    ------
    TypeError, ValueError
        If something is out of range; the message names it.

    References
    ----------
    Dadić & Klabučar, Particles 2019, arXiv 2001.00124; normalisation and formulas: docs, "Why it is
    true".
    """
    kappa = as_kappa(kappa)
    component = as_choice(component, "component", COMPONENTS)
    part = as_choice(part, "part", ("all", "vacuum", "medium"))
    scheme = as_scheme(scheme, 1.0 if part == "medium" or component not in "RAF" else kappa)
    m = field.mass
    p = as_real(p, "p", low=0, high=1e12 * m) / m
    energies = as_energies(p0, upper=component == "R")
    kwargs: dict[str, Any] = {"kappa": kappa, "scheme": scheme, "part": part}
    made = _component(energies.ravel() / m, p, field, component, **kwargs)
    value, error = (part.reshape(energies.shape) * m**2 for part in made)
    return Values(value, error) if with_error else value


def as_kappa(kappa: Any, name: str = "kappa") -> float:
    """(4 − d)/2, in [0, ½)."""
    kappa = as_real(kappa, name, low=0)
    if kappa >= 0.5:
        raise ValueError(f"{name} must be in [0, 0.5), got {kappa:g}")
    return kappa


def as_scheme(scheme: Any, kappa: float) -> Scheme:
    """What is subtracted; at κ = 0 something must be."""
    scheme = as_choice(scheme, "scheme", ("msbar", "onshell", "bare"))
    if scheme == "bare" and kappa == 0:
        raise ValueError("scheme 'bare' must go with kappa > 0: at 0 the self-energy is infinite")
    return scheme


def _component(
    q: np.ndarray, p: float, field: Field, component: Component, *, part: Part, **options: Any
) -> Values:
    if component == "K":
        return _keldysh(np.real(q), p, field, part, options["kappa"])
    r = retarded(q, p, field, part=part, **options)
    if component == "R":
        return r
    if component == "A":
        return Values(r.value.conj(), r.error)
    k = _keldysh(np.real(q), p, field, part, options["kappa"])
    if component == "F":
        return Values(k.value / 2 + np.real(r.value), k.error / 2 + r.error)
    sign = 1 if component == ">" else -1
    return Values(k.value / 2 + sign * 1j * np.imag(r.value), k.error / 2 + r.error)


def _keldysh(E: np.ndarray, p: float, field: Field, part: Part, kappa: float) -> Values:
    """Σ_K on the real axis; the vacuum's is sgn(p0)(Σ_R − Σ_A)."""
    value, error = np.zeros(E.shape, complex), np.zeros(E.shape)
    if part != "medium":
        flat = vacuum(np.abs(E) + 0j, p, kappa, field.log_mu)
        value = -1j * field.scale * np.imag(flat.value)
        error = field.scale * flat.error
    if part != "vacuum" and field.f.kind != "vacuum":
        more = medium.keldysh(E, p, field)
        value, error = value + more[0], error + more[1]
    return Values(value, error)
