"""Certificates of single objects, also of a user's own functions and numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from whp.certificate import Certificate, worst
from whp.qft._finite_time_path import theorems as th
from whp.qft._finite_time_path.causality import RADII, by_cutoffs, called, residuals
from whp.qft._finite_time_path.composite import by_time
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.reference import dispersion, feynman
from whp.qft._finite_time_path.self_energy import (
    Part,
    Scheme,
    Values,
    as_kappa,
    as_scheme,
    retarded,
    self_energy,
)
from whp.qft._finite_time_path.tadpole import as_source, leading, oscillation
from whp.validate import as_real, as_vector

__all__ = ["balance", "causality", "compared", "split_of", "tadpole_decay", "vertex_of"]

START = 25.0  # m·t from which the t^{−3/2} law is looked at
DRAWN = 40  # numbers that are computed again
SAMPLES = 300  # some 75 a period


def causality(
    F: Callable[[np.ndarray], Any],
    *,
    mass: float = 1.0,
    kappa: float | None = None,
    z0: complex = 0.5 + 0.5j,
) -> Certificate:
    """Whether a function of complex energy is causal: a finite dispersion relation at three radii.

    Parameters
    ----------
    F : callable
        Complex energies above the real axis in, an array of the same shape out.
    mass : float
        Unit of energies.
    kappa : float, optional
        In d = 4 − 2κ a loop falls off like the power −2κ; unknown by default.
    z0 : complex
        Where it is looked at, above the axis, in units of the mass; at most 10 in size.

    Returns
    -------
    Certificate
        Void where it has a singularity that the boxes see or does not fall off; what is further out or
        faster than 1e-4/mass in time is not seen.

    Raises
    ------
    TypeError
        If F takes real energies alone.
    ValueError
        If F is not finite where it has to be.
    """
    m = as_real(mass, "mass", low=0, open_ends=True)
    if kappa is not None:
        kappa = as_kappa(kappa)
    if not (z0.imag > 0 and abs(z0) <= 10):
        raise ValueError(f"z0 must lie above the real axis and at most 10 from 0, got {z0:g}")

    def scaled(z: np.ndarray) -> np.ndarray:
        try:
            return np.asarray(F(z * m), complex)
        except TypeError as error:
            raise TypeError(f"F must take complex energies above the real axis: {error}") from error

    at = float(abs(called(scaled, np.array([z0]))[0]))
    answers = (th.analytic(scaled), th.vanishes(scaled, kappa), th.occupation(None))
    off = residuals(scaled, z0, RADII)
    # The arc may overflow, where what comes too early grows; the axis may not.
    if not np.isfinite([at, *(r.off for r in off)]).all() or np.isnan([r.error for r in off]).any():
        raise ValueError("F must be finite at z0 and just above the real axis")
    return th.causal(off, RADII, at, answers, z0)


def vertex_of(
    values: Any,
    times: Any,
    p: float,
    field: Field,
    *,
    kappa: float = 0.0,
    scheme: Scheme = "msbar",
    error: Any = 0.0,
) -> Certificate:
    """Whether numbers of yours for (G_R * Σ_R)(t) are the convolution in time.

    Parameters
    ----------
    values, times : array_like, shape (n,)
        Your numbers, and their positive times.
    p, field, kappa, scheme
        As in :func:`whp.qft.self_energy`.
    error : float or array_like
        Of your numbers.
    """
    m = field.mass
    given = as_vector(values, "values") / m
    t = as_vector(times, "times", size=len(given)) * m
    if (t <= 0).any():
        raise ValueError("times must be positive")
    kappa, q = as_kappa(kappa), as_real(p, "p", low=0) / m
    scheme = as_scheme(scheme, kappa)
    bars = np.asarray(error, float)
    if bars.shape not in ((), t.shape):
        raise ValueError(f"error must be one number or {len(t)}, got shape {bars.shape}")
    if not (np.isfinite(bars).all() and (bars >= 0).all()):
        raise ValueError("error must be finite and at least 0")
    second = by_time(t, q, field, kappa=kappa, scheme=scheme)
    if field.f.rows is not None:  # the numbers are not known to be of this interpolation
        other = by_time(t, q, field.as_interpolated(coarse=True), kappa=kappa, scheme=scheme)
        off = np.abs(second.value - other.value) / 2
        second = Values(second.value, second.error + other.error + off.max())
    largest = float(np.abs(second.value).max())
    radius = np.broadcast_to(bars / m, t.shape) + second.error
    omega = math.hypot(q, 1.0)

    def product(at: np.ndarray) -> np.ndarray:
        loop = retarded(at, q, field, kappa=kappa, scheme=scheme, part="all").value
        return loop / ((at - omega) * (at + omega))

    answers = (th.vanishes(product, None), th.occupation(field))
    return th.vertex(given, second.value, radius, t, omega, answers, largest)


def split_of(
    F: Callable[[np.ndarray], Any], *, mass: float = 1.0, kappa: float | None = None
) -> Certificate:
    """Whether a Feynman function of real energy splits into parts that no cut-off changes.

    Parameters
    ----------
    F : callable
        Real energies in, complex numbers out.
    mass : float
        Unit of energies.
    kappa : float, optional
        Where the fall-off −2κ is known.
    """
    m = as_real(mass, "mass", low=0, open_ends=True)
    if kappa is not None:
        kappa = as_kappa(kappa)
    cutoffs, answers = 10.0 ** np.arange(1, 5), (th.occupation(None),)
    sides = {}
    for side, sign in (("upper cut-off", 1), ("lower cut-off", -1)):
        z0 = complex(sign * 0.5, 0.5)
        effects = by_cutoffs(lambda x, sign=sign: np.asarray(F(sign * x * m)), z0, cutoffs)
        if not np.isfinite(effects).all():
            raise ValueError(
                "F must be finite at real energies of 10 to 20,000 masses of both signs"
            )
        sides[side] = th.splittable(effects, kappa, answers)
    return worst(sides)


def balance(field: Field, p: float, E: np.ndarray) -> Certificate:
    """Thermal balance at these energies, in units of the mass."""
    m, T = field.mass, field.f.temperature
    at = np.unique(np.abs(np.r_[E[E != 0], np.linspace(0.05, 8, 60) + p]))
    r = self_energy(at * m, p * m, field, with_error=True)
    k = self_energy(at * m, p * m, field, "K", with_error=True)
    jump = 2j * r.value.imag / m**2
    value, largest = k.value / m**2, float(np.abs(k.value).max()) / m**2
    ratio = 1 / np.tanh(at / (2 * (T or 1.0)))
    off = np.abs(value - ratio * jump)
    rounding = (k.error + 2 * ratio * r.error) / m**2
    worst_at = int(np.argmax(off))
    table = field.f.table_error > 0  # its error is in the bound
    radius = 1e-13 * largest if table else float(rounding[worst_at])
    return th.kms(field, float(off[worst_at]), radius, largest, float(np.abs(value - jump).max()))


def tadpole_decay(source: Any, field: Field, *, start: float | None = None) -> Certificate:
    """Whether the oscillation of a source is its t^{−3/2} term from `start` on (25/mass by default).

    Parameters
    ----------
    source : "homogeneous", float, callable or array_like, shape (n, 2)
        As in :func:`whp.qft.tadpole`.
    field : Field
        For the mass.
    start : float, optional
        t; at least 25/mass.
    """
    t = START if start is None else as_real(start, "start", low=START / field.mass) * field.mass
    made = as_source(source, field.mass)
    smooth = {
        "gaussian": th.SMOOTH.by_construction("a Gaussian of the given width"),
        "callable": th.SMOOTH.unchecked(
            "a kink between the points that are asked for would not be seen"
        ),
        "table": th.SMOOTH.check(False, "a table has a kink in every row"),
        "homogeneous": th.SMOOTH.by_construction("it is constant"),
    }[made.kind]
    wide = 9.0 / made.scale if made.kind == "gaussian" else 0.0
    shown = (
        "constant in space"
        if made.kind == "homogeneous"
        else f"a width of {wide:.3g}/m, to spread by √t"
    )
    if made.kind in ("callable", "table"):
        shown = f"momenta up to {made.scale:.3g} m"
    localised = th.LOCALISED.check(made.kind != "homogeneous" and wide**2 < t / 3, shown)
    answers = (smooth, localised)
    if made.kind == "homogeneous":
        return th.decay(0.0, None, 1.0, answers, t)

    def remainder(times: np.ndarray) -> np.ndarray:
        off = oscillation(times / field.mass, source, field) - leading(times, source, field)
        return np.abs(off) * (times / (2 * t)) ** 2.5

    limit = float(remainder(np.linspace(t, 2 * t, SAMPLES)).max())
    measured = float(remainder(np.linspace(2 * t, 4 * t, 2 * SAMPLES)).max())
    first = abs(float(made.J(np.zeros(1))[0]))
    size = float(np.abs(oscillation(np.zeros(1), source, field))[0])
    trivial = first * math.sqrt(math.pi) / (8 * math.pi**2) * t**-1.5 if first > 0 else size
    return th.decay(limit, measured, trivial, answers, t)


def compared(
    field: Field,
    p: float,
    scheme: Scheme,
    E: np.ndarray,
    sigma: Values,
    rng: np.random.Generator,
    *,
    part: Part = "all",
    product: Values | None = None,
    second: Values | None = None,
    measure: bool = True,
) -> Certificate:
    """Numbers drawn from all that are returned, and computed again by other representations.

    Parameters
    ----------
    field, p, scheme, part
        As in :func:`whp.qft.self_energy`, in units of the mass.
    E, sigma
        Energies in units of the mass, and what was returned for them.
    rng : Generator
        Which are drawn.
    product, second : Values, optional
        The product in time, and the same by convolution.
    measure : bool
        Compute them again.
    """
    later = 0 if product is None else len(product.value)
    every = len(E) + later <= DRAWN
    drawn = np.sort(rng.permutation(len(E) + later)[:DRAWN])
    answers = (th.occupation(field),)
    if not measure:
        return th.accuracy(None, len(drawn), answers, "")
    at = drawn[drawn < len(E)]
    again, unsure = np.zeros(len(at), complex), np.zeros(len(at))
    if part != "medium":
        shift = 0j
        if scheme == "onshell":
            shift = feynman(complex(math.hypot(p, 1.0)), p, field).real
        again = np.array([feynman(complex(q), p, field) - shift for q in E[at]], complex)
    if part != "vacuum" and field.f.kind != "vacuum" and len(at):
        more, unsure = dispersion(E[at] + 0j, p, field)
        again = again + more
    m2 = field.mass**2
    excess = (np.abs(sigma.value[at] / m2 - again) - unsure) / (sigma.error[at] / m2)
    names = [f"energy {q * field.mass:.6g}" for q in E[at]]
    if product is not None and second is not None:
        rest = drawn[drawn >= len(E)] - len(E)
        off = np.abs(product.value - second.value)[rest] - second.error[rest]
        excess = np.r_[excess, off / product.error[rest]]
        names += [f"time number {k + 1}" for k in rest]
    outside = int((excess > 1).sum())
    return th.accuracy(
        outside, len(drawn), answers, names[int(np.argmax(excess))] if outside else "", every=every
    )
