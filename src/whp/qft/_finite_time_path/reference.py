"""The same numbers by other representations, with which error bars are compared."""

from __future__ import annotations

import math

import numpy as np

from whp.qft._finite_time_path import medium
from whp.qft._finite_time_path.composite import DEGREE, _medium_cut
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.quadrature import panels

__all__ = ["DIGITS", "dispersion", "feynman"]

DIGITS = 30


def feynman(q: complex, p: float, field: Field, kappa: float = 0.0) -> complex:
    """Vacuum part of Σ_R over m² (MS-bar, or at κ > 0 without its pole) by the Feynman parameter, mpmath.

    The closed form is not used: ∫₀¹dv ln(1 − s(1 − v²)/4) or its power, cut where it is singular.
    """
    import mpmath as mp

    with mp.workdps(DIGITS):
        energy, momentum = mp.mpc(abs(q.real), q.imag), mp.mpf(p)
        s = energy**2 - momentum**2
        real = q.imag == 0
        beta = mp.sqrt(1 - 4 / s) if s != 0 else mp.inf
        ends = [mp.mpf(0), mp.mpf(1)]
        if real and s.real > 4:
            ends = [mp.mpf(0), beta.real, mp.mpf(1)]
        elif s != 0 and 0 < mp.re(beta) < 1:  # nearly singular there
            ends = [mp.mpf(0), mp.re(beta), mp.mpf(1)]

        def argument(v: mp.mpf) -> mp.mpc:
            x = 1 - s * (1 - v * v) / 4
            return mp.mpc(x.real, -mp.mpf(10) ** (-3 * DIGITS)) if real else x

        mu = mp.mpf(field.mu) / mp.mpf(field.mass)
        if kappa == 0:
            made = -mp.quad(lambda v: mp.log(argument(v)), ends) + 2 * mp.log(mu)
        else:
            k = mp.mpf(kappa)
            power = mp.quad(lambda v: argument(v) ** (-k), ends)
            made = (4 * mp.pi * mu**2) ** k * mp.gamma(k) * power
            made -= 1 / k - mp.euler + mp.log(4 * mp.pi)
        g = mp.mpf(field.coupling) / mp.mpf(field.mass)
        made *= -(g**2) / (32 * mp.pi**2)
        value = complex(made)
    return value.conjugate() if q.real < 0 else value


def dispersion(q: complex, p: float, field: Field) -> tuple[complex, float]:
    """Medium part of Σ_R over m² by (2/π)∫E Im Σ(E)/(E² − q²)dE over both cuts, and its error.

    Not by angles and momenta: only the imaginary part, a one-dimensional integral of f, goes in.
    """
    size = abs(q.real) + 1j * q.imag
    values = [_dispersed(size, p, field, split) for split in (1, 2)]
    value = values[1].conjugate() if q.real < 0 else values[1]
    return value, abs(values[1] - values[0]) + 1e-15 * abs(value)


def _dispersed(q: complex, p: float, field: Field, split: int) -> complex:
    total = 0j
    at = float(q.real)
    for edges, *_ in _medium_cut(p, field):
        low, high = float(edges[0]), float(edges[-1])
        inside = low < at < high
        extra = at + np.r_[-(0.5 ** np.arange(2, 30)), 0.5 ** np.arange(2, 30)] * min(at - low, high - at) if inside else []
        joined = np.unique(np.r_[edges, extra])
        fine = np.unique(np.concatenate([np.linspace(a, b, split + 1) for a, b in zip(joined, joined[1:], strict=False)]))
        x, w = panels(fine, DEGREE)
        im = medium.imaginary(x, p, field.f)[0]
        total += w @ (im / (x + q))
        if not inside:
            total += w @ (im / (x - q))
            continue
        here = medium.imaginary(np.array([at]), p, field.f)[0][0]
        # The value at q is taken off, and its logarithm put back; below a real q the path bends.
        total += w @ ((im - here) / (x - q))
        above = q if q.imag > 0 else complex(at, 0.0)
        log = np.log(complex(high) - above) - np.log(above - complex(low)) + 1j * math.pi
        total += here * log
    return complex(total) * field.scale / math.pi
