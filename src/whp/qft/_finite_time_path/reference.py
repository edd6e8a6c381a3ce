"""The same numbers by other representations, with which error bars are compared."""

from __future__ import annotations

import math

import numpy as np

from whp.qft._finite_time_path import medium
from whp.qft._finite_time_path.composite import DEGREE, _medium_cut
from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.quadrature import panels

__all__ = ["DIGITS", "dispersion", "feynman"]

DIGITS = 20


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
            x = (1 - s / 4) + s * v * v / 4
            return mp.mpc(x.real, -(mp.mpf(10) ** (-3 * DIGITS))) if real else x

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


def dispersion(q: np.ndarray, p: float, field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Medium part of Σ_R over m² by (1/π)∫Im Σ(E)/(E − q)dE over both cuts, and its error.

    Not by angles and momenta: only the imaginary part, a one-dimensional integral of f, goes in.
    """
    rough, fine = (_dispersed(q, p, field, split) for split in (1, 2))
    return fine, np.abs(fine - rough) + 1e-15 * np.abs(fine)


def _dispersed(q: np.ndarray, p: float, field: Field, split: int) -> np.ndarray:
    folded = np.abs(np.real(q)) + 1j * np.imag(q)
    total = np.zeros(len(q), complex)
    for edges, *_ in _medium_cut(p, field):
        low, high = float(edges[0]), float(edges[-1])
        x, w = panels(_split(edges, split), DEGREE)
        im = medium.imaginary(x, p, field.f)[0]
        for k, at in enumerate(folded):
            total[k] += w @ (im / (x + at))
            if not low < at.real < high:
                total[k] += w @ (im / (x - at))
                continue
            nodes, weights, values = x, w, im
            if at.imag > 0:  # the integrand turns within that distance
                near = min(at.real - low, high - at.real) * 0.5 ** np.arange(2, 40)
                joined = np.unique(np.r_[edges, at.real - near, at.real + near])
                nodes, weights = panels(_split(joined, split), DEGREE)
                values = medium.imaginary(nodes, p, field.f)[0]
            here = medium.imaginary(np.array([at.real]), p, field.f)[0][0]
            # The value at q is taken off, and its logarithm put back; below a real q the path bends.
            with np.errstate(divide="ignore", invalid="ignore"):
                total[k] += np.nan_to_num(weights * (values - here) / (nodes - at)).sum()
            total[k] += here * (np.log(high - at) - np.log(at - low) + 1j * math.pi)
    total *= field.scale / math.pi
    return np.where(np.real(q) < 0, total.conj(), total)


def _split(edges: np.ndarray, parts: int) -> np.ndarray:
    steps = np.arange(parts) / parts
    return np.r_[(edges[:-1, None] + np.diff(edges)[:, None] * steps).ravel(), edges[-1]]
