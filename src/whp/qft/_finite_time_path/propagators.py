"""Free propagators: at infinite and at finite time after the interaction was switched on, and their products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.self_energy import COMPONENTS, Component, as_energies
from whp.validate import as_choice, as_real

__all__ = ["convolve", "propagator"]

SHELL = 1e-4  # distance from p0 = ±ω, in units of ω, within which a series is used


def propagator(
    p0: Any, p: float, field: Field, component: Component = "R", *, time: float | None = None
) -> np.ndarray:
    """Free propagator in energy and momentum.

    Parameters
    ----------
    p0 : array_like
        Energies; for "R" at infinite time also above the real axis. A real p0 means p0 + i0.
    p : float
        Momentum, at least 0.
    field : Field
        Mass and occupation.
    component : {"R", "A", "K", "F", ">", "<"}
        Retarded, advanced, Keldysh, Feynman, greater, lesser.
    time : float, optional
        X0, the mean of both times since the switch; the Wigner transform at that time. Infinite by
        default, where K, > and < are delta functions on the shell, and F of occupied modes has one.

    Returns
    -------
    ndarray of complex
        Of dimension 1/mass².

    Raises
    ------
    TypeError, ValueError
        If something is out of range, or a delta function is asked for.
    """
    component = as_choice(component, "component", COMPONENTS)
    m = field.mass
    p = as_real(p, "p", low=0) / m
    energies = as_energies(p0, upper=component == "R" and time is None)
    q = energies.ravel() / m
    omega = math.hypot(p, 1.0)
    occupied = float(field.f(np.array([omega]))[0])
    if time is not None:
        X = as_real(time, "time", low=0, open_ends=True) * m
        return np.asarray(
            _at_time(q.real, omega, occupied, component, X).reshape(energies.shape) / m**2
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        if component in ("R", "A", "F") and not (component == "F" and occupied > 0):
            return (1 / ((q - omega) * (q + omega)) / m**2).reshape(energies.shape)
    raise ValueError(
        f"component {component!r} of occupied modes is a delta function on the shell at infinite time: give time"
    )


def _at_time(E: np.ndarray, omega: float, f: float, component: Component, X: float) -> np.ndarray:
    """∫ds e^{iEs} G(s) over the |s| ≤ 2X that finite time leaves."""
    if component == "A":
        return _retarded_at(E, omega, X).conj()
    if component == "R":
        return _retarded_at(E, omega, X)
    plus, minus = _window(E - omega, X), _window(E + omega, X)  # of e^{−iωs} and e^{iωs}
    keldysh = -1j * (1 + 2 * f) / (2 * omega) * (plus + minus)
    if component == "K":
        return keldysh
    if component == "F":
        return keldysh / 2 + np.real(_retarded_at(E, omega, X))
    first, second = ((1 + f), f) if component == ">" else (f, (1 + f))
    return -1j / (2 * omega) * (first * plus + second * minus)


def _window(x: np.ndarray, X: float) -> np.ndarray:
    """∫ e^{ixs} ds over |s| ≤ 2X."""
    return 4 * X * np.sinc(2 * X * x / np.pi)


def _retarded_at(E: np.ndarray, omega: float, X: float) -> np.ndarray:
    """∫₀^{2X} e^{iEs}(−sin ωs/ω) ds; (e^{ixT} − 1)/x by its sine, which has no quotient of zeros."""
    T = 2 * X

    def one_sided(x: np.ndarray) -> np.ndarray:
        return T * np.exp(1j * x * X) * np.sinc(x * X / np.pi)

    return -(one_sided(E + omega) - one_sided(E - omega)) / (2j * omega)


def convolve(
    first: Component, second: Component, x0: Any, y0: Any, p: float, field: Field
) -> np.ndarray:
    """Product ∫₀^∞ dz G(x0 − z) G(z − y0) of two free propagators after the switch, in closed form.

    Parameters
    ----------
    first, second : {"R", "A", "K"}
        RR and AA depend on x0 − y0 alone; RK and KA do not: energy is not conserved at their vertex,
        and they grow with time (a "pinch", finite here).
    x0, y0 : array_like
        Times since the switch, at least 0; they broadcast.
    p : float
        Momentum.
    field : Field
        Mass and occupation.

    Returns
    -------
    ndarray of complex
        Of dimension 1/mass³.

    Raises
    ------
    ValueError
        If a time is negative, or the product is none of the four.
    """
    m = field.mass
    x, y = (np.asarray(as_times(t, n) * m) for t, n in ((x0, "x0"), (y0, "y0")))
    omega = math.hypot(as_real(p, "p", low=0) / m, 1.0)
    f = float(field.f(np.array([omega]))[0])
    match first + second:
        case "RR" | "AA":
            t = omega * (x - y if first == "R" else y - x)
            made = np.where(t > 0, (np.sin(t) - t * np.cos(t)) / (2 * omega**3), 0) + 0j
        case "RK" | "KA":
            a, b = (x, y) if first == "R" else (y, x)
            bracket = a * np.sin(omega * (a - b))
            bracket = bracket + (np.cos(omega * (a - b)) - np.cos(omega * (a + b))) / (2 * omega)
            made = 1j * (1 + 2 * f) / (2 * omega**2) * bracket
        case _:
            raise ValueError(f"first and second must be RR, AA, RK or KA, got {first}{second}")
    return np.asarray(made / m**3)


def as_times(value: Any, name: str) -> np.ndarray:
    """Finite real numbers of at least 0."""
    array = np.asarray(value, dtype=float)
    if not np.isfinite(array).all() or (array < 0).any():
        raise ValueError(
            f"{name} must be finite and at least 0, got {array[~(array >= 0)].ravel()[:1]}"
        )
    return array
