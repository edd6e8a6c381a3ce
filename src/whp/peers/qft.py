"""Loops by other libraries: mpmath's and scipy's quadrature, and a grid in real time."""

from __future__ import annotations

import numpy as np

from whp.experiment.benchmark import Peer

__all__ = ["GRID", "MPMATH", "PYSECDEC", "SCIPY", "cauchy_quad", "feynman_quad", "time_grid"]


def feynman_quad(energies: np.ndarray) -> list[complex]:
    """The Feynman integral of the vacuum at rest, m = g = μ = 1, to 1e-8 by mpmath."""
    import mpmath as mp

    made = []
    with mp.workdps(12):
        for E in energies:
            s = mp.mpf(float(E)) ** 2
            ends = [0, mp.sqrt(1 - 4 / s), 1] if s > 4 else [0, 1]
            loop = mp.quad(lambda v, s=s: mp.log(mp.mpc(1 - s * (1 - v * v) / 4, -1e-30)), ends)
            made.append(complex(loop / (32 * mp.pi**2)))
    return made


def cauchy_quad(energies: np.ndarray, T: float) -> np.ndarray:
    """Real part of the medium at rest above the threshold, by scipy's quad with a principal value."""
    from scipy.integrate import quad

    def weight(w: float) -> float:
        return -np.sqrt(w * w - 1) * np.exp(-w / T) / np.expm1(-w / T) if w > 1 else 0.0

    made = []
    for E in energies:
        c = E / 2
        near = quad(
            lambda w, c=c: -weight(w) / (w + c) / 4, 1, 2 * c, weight="cauchy", wvar=c, limit=200
        )[0]
        far = quad(lambda w, c=c: -weight(w) / (w * w - c * c) / 4, 2 * c, np.inf, limit=200)[0]
        made.append((near + far) / (2 * np.pi**2))
    return np.array(made)


def time_grid(times: np.ndarray, n: int = 2000) -> np.ndarray:
    """(G_R * Σ_R)(t) at κ = .3 and at rest by the trapezoid on a grid of n × n times."""
    from whp.qft import Field, self_energy_time

    t = np.linspace(0, float(times.max()), n + 1)
    h = t[1]
    sigma = np.r_[0.0, self_energy_time(t[1:], 0.0, Field(), kappa=0.3)]
    green = -np.sin(np.subtract.outer(t, t)) * np.tri(n + 1)
    return np.interp(times, t, h * green @ sigma)


MPMATH = Peer("mpmath quad, Feynman parameter", feynman_quad, "mpmath==1.3.0", "12 digits")
SCIPY = Peer("scipy quad, principal values", cauchy_quad, "scipy>=1.15")
GRID = Peer(
    "grid of 2,000 × 2,000 times",
    time_grid,
    "",
    "the trapezoid with our Σ_R(t); its error is of the order of .01 where the self-energy is singular",
)
PYSECDEC = Peer(
    "pySecDec vacuum bubble",
    None,
    "pysecdec==1.6.6",
    "compiles for minutes, knows the vacuum alone, and was not installed",
)
