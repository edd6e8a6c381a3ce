"""Time domain: the self-energy, and its product with the propagator by two routes that share no quadrature.

By frequency: a line above the real axis, on whose panels the product is a Legendre series, so that
e^{−ip0 t} is integrated exactly for all times; the end of the line is turned down (up, for t < 0).
By time: every energy of the cut is convolved with the propagator in closed form.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import spherical_jn

from whp.qft._finite_time_path import medium
from whp.qft._finite_time_path.field import FARTHEST, Field
from whp.qft._finite_time_path.quadrature import EPS, half_line, legendre, panels
from whp.qft._finite_time_path.self_energy import (
    Part,
    Scheme,
    Values,
    as_kappa,
    as_scheme,
    cut,
    retarded,
)
from whp.validate import as_array, as_choice, as_real

__all__ = ["by_frequency", "by_time", "composite", "self_energy_at", "self_energy_time"]

DEGREE = 16
DECADE = 8.0  # times of a group differ by at most this factor
SMEARED = 200.0  # energies of the cut that are smeared at finite time, in masses
HEIGHT = 0.5  # of the line above the real axis, in masses


class Line(NamedTuple):
    """The product on the line Im p0 = η: panels with Legendre coefficients, and its end."""

    edges: np.ndarray
    series: np.ndarray
    eta: float
    size: float


def reach(field: Field) -> float:
    """Energy beyond which no modes are occupied that matter, in masses."""
    if field.f.kind == "vacuum":
        return 1.0
    # A temperature occupies modes up to some thirty times it.
    far = max(FARTHEST, 60 * (field.f.temperature or 0.0))
    at = np.geomspace(1.0, min(field.f.last, far), 300)
    weight = field.f(at) * at**2
    above = np.flatnonzero(weight > 1e-12 * weight.max())
    return float(at[above[-1]]) if above.size else 1.0


def _graded(singular: list[float], start: float, end: float, least: float) -> np.ndarray:
    """Edges from `start` to `end`, at most half as wide as they are far from singular points."""
    edges = [start]
    while edges[-1] < end:
        at = edges[-1]
        # A panel must also not run into a point that lies ahead.
        room = min((abs(x - at) for x in singular if x <= at), default=np.inf)
        ahead = min((x - at for x in singular if x > at), default=np.inf)
        edges.append(at + max(least, min(room / 2, ahead / 3)))
    edges[-1] = end
    return np.array(edges)


def _series(values: np.ndarray) -> np.ndarray:
    """Legendre coefficients on each panel from values at its Gauss nodes."""
    x, w = legendre(DEGREE)
    basis = np.polynomial.legendre.legvander(2 * x - 1, DEGREE - 1)
    return (values.reshape(-1, DEGREE) * w) @ basis * (2 * np.arange(DEGREE) + 1)


def _transform(edges: np.ndarray, series: np.ndarray, t: np.ndarray) -> np.ndarray:
    """∫ e^{−ixt} of the piecewise series, by ∫P_n(x) e^{−iax} dx = 2(−i)^n j_n(a) over [−1, 1]."""
    half, centre = np.diff(edges) / 2, (edges[:-1] + edges[1:]) / 2
    made = np.zeros(len(t), complex)
    argument = half[:, None] * np.abs(t)
    for n in range(DEGREE):
        bessel = spherical_jn(n, argument) * np.where(t < 0, (-1.0) ** n, 1.0)
        moved = 2 * (-1j) ** n * bessel * np.exp(-1j * centre[:, None] * t)
        made += (half * series[:, n]) @ moved
    return made


def by_frequency(
    t: np.ndarray,
    p: float,
    field: Field,
    *,
    kappa: float = 0.0,
    scheme: Scheme = "msbar",
    part: Part = "all",
    height: float | None = None,
) -> Values:
    """(1/2π)∫ e^{−ip0 t} G_R(p0) Σ_R(p0) dp0 along Im p0 = η, for times of either sign, in units of m.

    Parameters
    ----------
    t : ndarray of float, shape (n,)
        Times, not 0, in units of 1/m.
    p, field, kappa, scheme, part
        As in :func:`self_energy`, in units of m.
    height : float, optional
        η; by default ½, or 1/t where that is less.
    """
    value, error = np.zeros(len(t)), np.zeros(len(t))
    size = np.abs(t)
    left = np.ones(len(t), bool)
    while left.any():
        longest = size[left].max()
        group = left & (size > longest / DECADE if height is None else True)
        eta = min(HEIGHT, 1 / longest) if height is None else height
        value[group], error[group] = _on_line(t[group], p, field, kappa, scheme, part, eta)
        left &= ~group
    return Values(value, error)


def _on_line(
    t: np.ndarray, p: float, field: Field, kappa: float, scheme: Scheme, part: Part, eta: float
) -> tuple[np.ndarray, np.ndarray]:
    omega, threshold = math.hypot(p, 1.0), math.hypot(p, 2.0)
    far = 4 * max(3 * threshold, 2 * reach(field))
    edges = _graded([p, omega, threshold], 0.0, far, 0.7 * eta)
    x, _ = panels(edges, DEGREE)
    q = x + 1j * eta
    green = 1 / ((q - omega) * (q + omega))
    sigma = retarded(q, p, field, kappa=kappa, scheme=scheme, part=part)
    series = _series(sigma.value * green)
    turn, off_turn = _turned(t, far + 1j * eta, p, field, kappa, scheme, part)
    integral = _transform(edges, series, t) * np.exp(eta * t)
    value = np.real(integral + turn) / np.pi
    widths = np.repeat(np.diff(edges), DEGREE) * np.tile(legendre(DEGREE)[1], len(edges) - 1)
    grown = np.exp(eta * t)
    rounding = (widths * np.abs(green) * (sigma.error + 8 * EPS * np.abs(sigma.value))).sum()
    last = (np.abs(series[:, -2:]).sum(axis=1) * np.diff(edges)).sum()
    return value, grown * (rounding + last) / np.pi + off_turn / np.pi


def _turned(
    t: np.ndarray, end: complex, p: float, field: Field, kappa: float, scheme: Scheme, part: Part
) -> tuple[np.ndarray, np.ndarray]:
    """The integral from the end of the line on, down through the cut for t > 0, up for t < 0."""
    rule = half_line(1 / 32)
    omega = math.hypot(p, 1.0)
    size = abs(end)
    y = size * rule.left
    value, error = np.zeros(len(t), complex), np.zeros(len(t))
    for down in (True, False):
        chosen = t > 0 if down else t < 0
        if not chosen.any():
            continue
        q = end + (-1j if down else 1j) * y
        sigma, off = _continued(q, p, field, kappa, scheme, part, end)
        f = sigma / ((q - omega) * (q + omega)) * size * (-1j if down else 1j)
        wave = np.exp(-1j * q * t[chosen, None])
        value[chosen] = (wave * f) @ rule.weight
        coarse = (wave * f) @ rule.coarse
        error[chosen] = np.abs(value[chosen] - coarse) * 1e-3  # the error falls with its square
        error[chosen] += off * (np.abs(wave) * np.abs(f)) @ rule.weight / max(abs(sigma[0]), 1e-300)
    return value, error


def _continued(
    q: np.ndarray, p: float, field: Field, kappa: float, scheme: Scheme, part: Part, end: complex
) -> tuple[np.ndarray, float]:
    """Σ_R on a vertical line, below the real axis on the sheet that is reached through the cut."""
    made, off = np.zeros(len(q), complex), 0.0
    if part != "medium":
        above = np.imag(q) >= 0
        seen = np.where(above, q, q.conj())
        sigma = retarded(seen, p, field, kappa=kappa, scheme=scheme, part="vacuum").value
        through = np.where(above, 0, 2j * cut(np.where(above, end, q), p, kappa, field.log_mu))
        made = np.where(above, sigma, sigma.conj() - field.scale / 2 * through)
    if part != "vacuum" and field.f.kind != "vacuum":
        # Far beyond all occupied modes the medium is a/q² + b/q⁴.
        at = np.array([end, 2 * end, 4 * end])
        values = medium.retarded(at, p, field)[0]
        a, b = np.linalg.solve(np.stack([at[:2] ** -2.0, at[:2] ** -4.0], axis=1), values[:2])
        off = abs(a / at[2] ** 2 + b / at[2] ** 4 - values[2]) * 16
        made = made + a / q**2 + b / q**4
    return made, float(off)


def by_time(
    t: np.ndarray,
    p: float,
    field: Field,
    *,
    kappa: float = 0.0,
    scheme: Scheme = "msbar",
    part: Part = "all",
) -> Values:
    """∫₀^t dz G_R(t − z) Σ_R(z), energy by energy of the cut, in units of m; 0 for t < 0.

    The part of Σ_R that is a delta function in time, and what of the integral would diverge, are
    Σ_R on the shell: (2/π)∫ Im Σ(E) sin(Et)/(E² − ω²) dE − Σ_R(ω) sin(ωt)/ω.
    """
    late = np.maximum(t, 0.0)
    omega = math.hypot(p, 1.0)
    value, error = np.zeros(len(t)), np.zeros(len(t))
    if part != "medium":
        shell = retarded(
            np.array([omega + 0j]), p, field, kappa=kappa, scheme=scheme, part="vacuum"
        )
        value, error = _over_cut(late, p, field, kappa, lambda E: 1 / ((E - omega) * (E + omega)))
        value = value - shell.value[0].real * np.sin(omega * late) / omega
        error = error + shell.error[0] / omega
    if part != "vacuum" and field.f.kind != "vacuum":
        on_shell, moving, off = 0.0, np.zeros(len(t)), 0.0
        for edges, x, w, im, wrong in _medium_cut(p, field):
            product = im / ((omega - x) * (omega + x))
            on_shell += float(w @ (x * product))
            moving = moving - np.imag(_transform(edges, _series(product), late))
            off += float(w @ (wrong * (1 + x) / np.abs((omega - x) * (omega + x))))
        value = value + 2 / np.pi * (np.sin(omega * late) / omega * on_shell - moving)
        error = error + 4 / np.pi * off
    return Values(np.where(t > 0, value, 0.0), error)


def _over_cut(
    t: np.ndarray, p: float, field: Field, kappa: float, weight: Any
) -> tuple[np.ndarray, np.ndarray]:
    """(2/π)∫ Im Σ(E) sin(Et) w(E) dE of the vacuum from the threshold on, along E = E₀ + iy."""
    rule = half_line(1 / 32)
    E = math.hypot(p, 2.0) + 1j * rule.left
    factor = -field.scale / 2 * cut(E, p, kappa, field.log_mu) * weight(E)
    wave = np.exp(1j * E * t[:, None])
    made = (1j * wave * factor) @ rule.weight
    coarse = (1j * wave * factor) @ rule.coarse
    size = (np.abs(wave * factor)) @ rule.weight
    return 2 / np.pi * made.imag, 1e-3 * np.abs(made - coarse) + 32 * EPS * size


def _medium_cut(p: float, field: Field, most: float = np.inf) -> list[tuple[np.ndarray, ...]]:
    """Im Σ_R of the medium on (0, p) and from the threshold on: edges, nodes, weights, values, errors."""
    threshold = math.hypot(p, 2.0)
    # A power of the energy ends nowhere: far enough for the rounding of what weighs it by 1/E³.
    far = 1e7 if field.f.kind == "callable" else 4 * max(3 * threshold, 2 * reach(field))
    far, made = min(far, max(most, 2 * threshold)), []
    for low, high, singular in ((threshold, far, [threshold]), (0.0, p, [0.0, p])):
        if high > low:
            edges = _graded(singular, low, high, 1e-10 * min(high - low, 1 + p))
            x, w = panels(edges, DEGREE)
            im, error = medium.imaginary(x, p, field.f)
            made.append((edges, x, w, field.scale * im, field.scale * error))
    return made


def composite(
    times: Any,
    p: float,
    field: Field,
    *,
    kappa: float = 0.0,
    scheme: Scheme = "msbar",
    part: Part = "all",
    with_error: bool = False,
) -> Any:
    """G_R * Σ_R in time: the product whose vertex conserves energy, and in which the pole may be subtracted.

    Parameters
    ----------
    times : array_like
        Relative times x0 − y0, of either sign, in units of 1/mass's unit. 0 gives 0.
    p : float
        Momentum.
    field, kappa, scheme, part, with_error
        As in :func:`self_energy`.

    Returns
    -------
    ndarray of float, or Values
        Of the dimension of a mass.
    """
    m = field.mass
    kappa, p = as_kappa(kappa), as_real(p, "p", low=0) / m
    part = as_choice(part, "part", ("all", "vacuum", "medium"))
    scheme = as_scheme(scheme, 1.0 if part == "medium" else kappa)
    t = np.asarray(as_array(times, "times").astype(float) * m)
    if not np.isfinite(t).all():
        raise ValueError("times must be finite, got NaN or infinity")
    flat = np.where(t == 0, 1.0, t).ravel()
    made = by_frequency(flat, p, field, kappa=kappa, scheme=scheme, part=part)
    value = np.asarray(np.where(t == 0, 0.0, made.value.reshape(t.shape)) * m)
    error = np.asarray(np.where(t == 0, 0.0, made.error.reshape(t.shape)) * m)
    return Values(value, error) if with_error else value


def self_energy_time(t: Any, p: float, field: Field, *, kappa: float = 0.0) -> np.ndarray:
    """Σ_R of the vacuum in time, at t ≠ 0; 0 for t < 0.

    At κ = 0 it goes like 1/t at small t and cannot be integrated: that is the divergence. What is
    subtracted in energy is a delta function in time, and does not show here.
    """
    m = field.mass
    at = np.asarray(as_array(t, "t").astype(float) * m)
    if (at == 0).any() or not np.isfinite(at).all():
        raise ValueError("t must be finite and not 0, where the self-energy is singular")
    late = np.abs(at).ravel()
    p, kappa = as_real(p, "p", low=0) / m, as_kappa(kappa)
    made = _over_cut(late, p, field, kappa, lambda E: 1.0)[0].reshape(at.shape)
    return np.asarray(np.where(at > 0, made, 0.0) * m**3)


def self_energy_at(
    p0: Any, p: float, field: Field, time: float, *, part: Part = "all"
) -> np.ndarray:
    """Σ_R at κ = 0 (MS-bar) as the Wigner transform at the finite time X0.

    Of all relative times those up to 2·X0 have been lived through: the energies of the cut are
    smeared over 1/X0, and decays below the threshold are possible.

    Parameters
    ----------
    p0 : array_like
        Real energies.
    p : float
        Momentum.
    field : Field
        Mass, coupling, occupation.
    time : float
        X0 > 0.
    part : {"all", "vacuum", "medium"}
        Which part.
    """
    m = field.mass
    X = as_real(time, "time", low=0, open_ends=True) * m
    part = as_choice(part, "part", ("all", "vacuum", "medium"))
    p = as_real(p, "p", low=0) / m
    E = np.asarray(as_array(p0, "p0").astype(float) / m)
    flat, made = E.ravel(), np.zeros(E.size, complex)
    if part != "medium":
        infinite = retarded(flat + 0j, p, field, kappa=0.0, scheme="msbar", part="vacuum").value
        rule = half_line(1 / 32)
        at = math.hypot(p, 2.0) + 1j * rule.left
        weight = -field.scale / 2 * cut(at, p, 0.0, 0.0) * 1j * rule.weight * np.exp(2j * X * at)
        ahead = np.exp(2j * X * flat[:, None]) * 1j
        # What the relative times beyond 2X would have added, each e^{±iEs} integrated in closed form.
        with np.errstate(divide="ignore", invalid="ignore"):
            later = ahead / (flat[:, None] + at) * weight
            later = later - ahead / (flat[:, None] - at.conj()) * weight.conj()
        made = infinite - np.nan_to_num(later).sum(axis=1) / (1j * np.pi)
    if part != "vacuum" and field.f.kind != "vacuum":
        for edges, *_ in _medium_cut(p, field, SMEARED):
            fine = np.concatenate(
                [
                    np.linspace(a, b, 2 + int((b - a) * X), endpoint=False)
                    for a, b in itertools.pairwise(edges)
                ]
                + [edges[-1:]]
            )
            x, w = panels(fine, DEGREE)
            im = w * field.scale * medium.imaginary(x, p, field.f)[0]
            kernel = _lived(flat[:, None] + x, X) - _lived(flat[:, None] - x, X)
            made = made + kernel @ im / (1j * np.pi)
    return np.asarray(made.reshape(E.shape) * m**2)


def _lived(x: np.ndarray, X: float) -> np.ndarray:
    """∫₀^{2X} e^{ixs} ds."""
    return 2 * X * np.exp(1j * x * X) * np.sinc(x * X / np.pi)
