"""What the occupation of the modes adds to the self-energy: one-dimensional integrals over f.

The angular integral is a logarithm; its singularities on the real axis are the ends of panels, next
to which distances, not differences, enter it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from whp.qft._finite_time_path.field import Field
from whp.qft._finite_time_path.quadrature import EPS, half_line, unit

__all__ = ["ends", "imaginary", "keldysh", "retarded"]

Occupied = Callable[[np.ndarray], np.ndarray]
Pair = tuple[np.ndarray, np.ndarray]
AT_REST = 3e-6  # momentum over energy below which the limit of zero momentum is taken
BLOCK = 128
HOT = 30.0  # temperature in masses


def ends(E: np.ndarray, p: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends of the cut in ω, for E ≥ 0, and whether there is one (pairs, s > 4, or Landau damping, s < 0).

    ½(E ∓ pβ) for s ≥ 4, ½(pβ ∓ E) for s < 0, else both E/2.
    """
    s, above = (E - p) * (E + p), (E - np.hypot(p, 2.0)) * (E + np.hypot(p, 2.0))
    pairs, landau = above >= 0, s < 0
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = np.sqrt(np.where(pairs | landau, above / s, 0.0))
        low = np.where(pairs, (E - p * beta) / 2, np.where(landau, (p * beta - E) / 2, E / 2))
        high = np.where(pairs, (E + p * beta) / 2, np.where(landau, (p * beta + E) / 2, E / 2))
    return np.minimum(low, 1e150), np.minimum(high, 1e150), pairs | landau


def _each(field: Field, integral: Callable[[Occupied, float], Pair]) -> Pair:
    """An integral over f, its error that of quadrature and, of a table, of its interpolation."""
    value, error = integral(field.f, field.f.last)
    if field.f.rows is not None:
        other = integral(field.f.coarse, field.f.last)
        error = error + np.abs(value - other[0]) / 2
    return value, error


def retarded(q: np.ndarray, p: float, field: Field) -> Pair:
    """Medium part of Σ_R over m², and its error, at energies q in the closed upper half plane."""
    flat = np.asarray(q, complex).ravel()
    turned = np.real(flat) < 0
    folded = np.where(turned, -np.real(flat), np.real(flat)) + 1j * np.imag(flat)
    # The step grows with the energy: about hot modes halving it squares a larger error than that of all.
    kind = "callable" if (field.f.temperature or 0.0) > HOT else field.f.kind
    kind = "rows" if field.f.rows is not None else kind  # numbers that are returned

    def integral(f: Occupied, last: float) -> Pair:
        value, error = np.zeros(len(folded), complex), np.zeros(len(folded))
        for start in range(0, len(folded), BLOCK):
            part = slice(start, start + BLOCK)
            value[part], error[part] = _dispersive(folded[part], p, f, last, kind)
        real = folded.imag == 0
        if real.any():
            im, off = imaginary(folded[real].real, p, f)
            value[real], error[real] = np.real(value[real]) + 1j * im, error[real] + off
        return value, error

    value, error = _each(field, integral)
    value = field.scale * np.where(turned, value.conj(), value)
    return value.reshape(np.shape(q)), (field.scale * error).reshape(np.shape(q))


def imaginary(E: np.ndarray, p: float, f: Occupied) -> Pair:
    """−(π/p)∫f over the cut, for E ≥ 0: Im Σ_R of the medium over g²/16π²."""
    low, high, there = ends(E, p)
    s = (E - p) * (E + p)
    rule = unit()
    # (high − low)/p without the quotient of two small numbers: β or E/p
    with np.errstate(divide="ignore", invalid="ignore"):
        beta = np.sqrt(np.maximum((E - np.hypot(p, 2.0)) * (E + np.hypot(p, 2.0)) / s, 0))
        width = np.where(there, np.where(s > 0, beta, E / p if p else 0.0), 0.0)
    at = np.maximum(low[:, None] + (high - low)[:, None] * rule.left, 1.0)
    values = f(at)
    made = -np.pi * width * (values @ rule.weight)
    error = np.abs(made + np.pi * width * (values @ rule.coarse)) + 16 * EPS * np.abs(made)
    return made, error


def keldysh(E: np.ndarray, p: float, field: Field) -> Pair:
    """Medium part of Σ_K over m² and its error, on the real axis, even in E."""
    flat = np.abs(np.asarray(E, float).ravel())
    low, high, _ = ends(flat, p)
    s = (flat - p) * (flat + p)
    threshold = np.hypot(p, 2.0)

    def integral(f: Occupied, last: float) -> Pair:
        value, error = np.zeros(len(flat), complex), np.zeros(len(flat))
        pairs, landau = flat >= threshold, (s < 0)
        if pairs.any():
            rule, w = unit(), flat[pairs]
            beta = np.sqrt((w - threshold) * (w + threshold) / s[pairs])
            at = np.maximum(low[pairs, None] + (p * beta)[:, None] * rule.left, 1.0)
            one, other = f(at), f(np.maximum(w[:, None] - at, 1.0))
            both = one + other + 2 * one * other
            value[pairs] = -1j * np.pi * beta * (both @ rule.weight)
            error[pairs] = np.abs(value[pairs] + 1j * np.pi * beta * (both @ rule.coarse))
        if landau.any():
            rule, w = half_line(), flat[landau]
            at = high[landau, None] + rule.left
            one, other = f(at), f(np.maximum(low[landau, None] + rule.left, 1.0))
            both = one + other + 2 * one * other
            value[landau] = -2j * np.pi / p * (both @ rule.weight)
            error[landau] = np.abs(value[landau] + 2j * np.pi / p * (both @ rule.coarse))
        return value, error + 16 * EPS * np.abs(value)

    value, error = _each(field, integral)
    return (field.scale * value).reshape(np.shape(E)), (field.scale * error).reshape(np.shape(E))


def _dispersive(q: np.ndarray, p: float, f: Occupied, last: float, kind: str) -> Pair:
    """∫dω f(ω) Σ± ln[(a± + 2kp)/(a± − 2kp)]/p with a± = s ± 2qω; on the real axis its real part."""
    E = np.real(q)
    at_rest = p <= AT_REST * np.abs(q)
    s_real = (E - p) * (E + p)
    # Where p is small the limit at the same s is taken; its error is of the order (p/q)².
    seen = np.where(at_rest, np.sqrt(np.maximum(s_real, 0.0)), E)
    low, high, _ = ends(E, p)
    low = np.where(at_rest, seen / 2, low)
    high = np.where(at_rest, np.maximum(seen - 1, seen / 2), high)
    edges = [
        np.ones_like(E),
        np.clip(low, 1.0, min(last, 1e12)),
        np.clip(high, 1.0, min(last, 1e12)),
    ]
    if last < np.inf:
        edges.append(np.full_like(E, last))
    terms, weights, coarse = [], [], []
    for j in range(len(edges) - (last < np.inf)):
        closed = j + 1 < len(edges)
        rule = unit() if closed else half_line()
        width = (edges[j + 1] - edges[j]) if closed else np.ones_like(E)
        over = width[:, None] * rule.left
        omega = edges[j][:, None] + over
        k = np.sqrt(((edges[j] - 1)[:, None] + over) * (omega + 1))

        def distance(b: np.ndarray, j: int = j, over=over, rule=rule, width=width) -> np.ndarray:
            """ω − b, exact where b is an end of this panel."""
            from_left = (edges[j] - b)[:, None] + over
            if np.isinf(rule.right[0]):
                return from_left
            from_right = (edges[j + 1] - b)[:, None] - width[:, None] * rule.right
            return np.where(rule.left <= 0.5, from_left, from_right)

        kernel = _kernel(q, p, omega, k, distance, at_rest, seen, low, high)
        with np.errstate(invalid="ignore", over="ignore"):
            term = kernel * np.where(omega <= last, f(omega), 0.0)
        terms.append(np.where(np.isfinite(term), term, 0.0))
        weights.append(width[:, None] * rule.weight)
        coarse.append(width[:, None] * rule.coarse)
    total = np.sum([(t * w).sum(axis=1) for t, w in zip(terms, weights, strict=True)], axis=0)
    other = np.sum([(t * w).sum(axis=1) for t, w in zip(terms, coarse, strict=True)], axis=0)
    size = np.sum(
        [(np.abs(t) * w).sum(axis=1) for t, w in zip(terms, weights, strict=True)], axis=0
    )
    apart = np.abs(total - other)
    if kind == "thermal":  # halving the step squares the relative error where f is analytic
        apart = 10 * apart * np.sqrt(np.minimum(apart / np.maximum(size, 1e-300), 0.01))
    if kind == "table":  # and takes it by eight where its second derivative jumps
        apart = apart / 4
    if kind == "rows":  # as a rule: two rules may agree by chance, and a third tells
        sparse = [np.where(np.arange(c.shape[1]) % 4 == 0, 2 * c, 0.0) for c in coarse]
        third = np.sum([(t * w).sum(axis=1) for t, w in zip(terms, sparse, strict=True)], axis=0)
        apart = np.maximum(apart, np.abs(other - third) / 8)
    error = apart + 16 * EPS * size
    return total, error + np.where(at_rest, 4 * (p / np.maximum(np.abs(q), 1e-300)) ** 2, 0) * size


def _kernel(
    q: np.ndarray,
    p: float,
    omega: np.ndarray,
    k: np.ndarray,
    distance: Callable[[np.ndarray], np.ndarray],
    at_rest: np.ndarray,
    seen: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """Σ± ln[(a± + 2kp)/(a± − 2kp)]/p, at rest 8k/(q² − 4ω²)."""
    made = np.empty(omega.shape, complex)
    real = np.imag(q) == 0
    if (rest := at_rest & real).any():
        x = distance(seen / 2)[rest]
        with np.errstate(divide="ignore"):
            made[rest] = -2 * k[rest] / (x * (omega[rest] + seen[rest, None] / 2))
    if (rest := at_rest & ~real).any():
        q2 = (q[rest] ** 2 - p * p)[:, None]
        made[rest] = 8 * k[rest] / (q2 - 4 * omega[rest] ** 2)
    if (moving := ~at_rest & ~real).any():
        made[moving] = _above(q[moving][:, None], p, omega[moving], k[moving])
    if (moving := ~at_rest & real).any():
        x1, x2 = distance(low)[moving], distance(high)[moving]
        made[moving] = _on_axis(
            np.real(q[moving])[:, None],
            p,
            omega[moving],
            k[moving],
            low[moving, None],
            high[moving, None],
            x1,
            x2,
        )
    return made


def _above(q: np.ndarray, p: float, omega: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Above the real axis: the two points of a logarithm lie in one half plane."""
    s, made = (q - p) * (q + p), 0.0
    for a in (s + 2 * q * omega, s - 2 * q * omega):
        with np.errstate(divide="ignore", invalid="ignore"):
            x = 2 * k * p / a
            small = np.abs(x) < 0.5
            near = 2 * np.arctanh(np.where(small, x, 0))
            made = made + np.where(small, near, np.log(a + 2 * k * p) - np.log(a - 2 * k * p))
    return made / p


def _on_axis(
    E: np.ndarray,
    p: float,
    omega: np.ndarray,
    k: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    x1: np.ndarray,
    x2: np.ndarray,
) -> np.ndarray:
    """Real part on the axis; a² − 4k²p² is 4s times the distances from its roots, x1 from low, x2 from high."""
    s, made = (E - p) * (E + p), np.zeros(omega.shape)
    rootless = (s >= 0) & ((E - np.hypot(p, 2.0)) * (E + np.hypot(p, 2.0)) < 0)
    for sign in (1.0, -1.0):
        a = s + sign * 2 * E * omega
        with np.errstate(divide="ignore", invalid="ignore"):
            plain = s * s + 4 * p * p + 4 * s * omega * (omega + sign * E)
            middle = 4 * s * (omega + sign * E / 2) ** 2 + p * p * (4 - s)
            if sign < 0:
                product = np.where(s < 0, 4 * s * x2 * (omega + low), 4 * s * x1 * x2)
            else:
                product = np.where(s < 0, x1, omega + low) * 4 * s * (omega + high)
            product = np.where(rootless, np.where(s < 1, plain, middle), product)
            x = 2 * k * p / a
            size = np.abs(x)
            far = np.where(size < 0.5, 2 * np.arctanh(np.where(size < 0.5, x, 0)), 0.0)
            far = np.where(size > 2, 2 * np.arctanh(np.where(size > 2, 1 / x, 0)), far)
            near = np.sign(a) * (2 * np.log(np.abs(a) + 2 * k * p) - np.log(np.abs(product)))
            made = made + np.where((size < 0.5) | (size > 2), far, near)
    return made / p
