"""Arithmetic in GF(2⁸) on eight bytes at a time, polynomial 0x11d, compiled; imported only where more than XOR is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.kernel import compiled

__all__ = ["add_multiple", "horner", "horner_four"]

LOW = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
ONES = np.uint64(0x0101_0101_0101_0101)
POLY = np.uint64(0x1D)
ONE, SEVEN = np.uint64(1), np.uint64(7)
ZERO, ALL = np.uint64(0), np.uint64(0xFFFF_FFFF_FFFF_FFFF)


def _horner(p: Any, q: Any, t: Any, d: Any) -> None:
    """One column: P += d, Q = 2Q + d, T = 4T + d. Rows of length 0 are not kept."""
    for i in range(len(d)):
        x = d[i]
        p[i] ^= x
        if len(q):
            y = q[i]
            q[i] = (((y & LOW) << ONE) ^ (((y >> SEVEN) & ONES) * POLY)) ^ x
        if len(t):
            z = t[i]
            z = ((z & LOW) << ONE) ^ (((z >> SEVEN) & ONES) * POLY)
            t[i] = (((z & LOW) << ONE) ^ (((z >> SEVEN) & ONES) * POLY)) ^ x


def _horner_four(p: Any, q: Any, t: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """Four columns, the highest first, in one pass over the rows."""
    if len(t):
        for i in range(len(a)):
            y, z = q[i], t[i]
            p[i] ^= a[i] ^ b[i] ^ c[i] ^ d[i]
            for x in (a[i], b[i], c[i], d[i]):
                y = (((y & LOW) << ONE) ^ (((y >> SEVEN) & ONES) * POLY)) ^ x
                z = ((z & LOW) << ONE) ^ (((z >> SEVEN) & ONES) * POLY)
                z = (((z & LOW) << ONE) ^ (((z >> SEVEN) & ONES) * POLY)) ^ x
            q[i] = y
            t[i] = z
    else:
        for i in range(len(a)):
            y = q[i]
            p[i] ^= a[i] ^ b[i] ^ c[i] ^ d[i]
            y = (((y & LOW) << ONE) ^ (((y >> SEVEN) & ONES) * POLY)) ^ a[i]
            y = (((y & LOW) << ONE) ^ (((y >> SEVEN) & ONES) * POLY)) ^ b[i]
            y = (((y & LOW) << ONE) ^ (((y >> SEVEN) & ONES) * POLY)) ^ c[i]
            q[i] = (((y & LOW) << ONE) ^ (((y >> SEVEN) & ONES) * POLY)) ^ d[i]


def _add_multiple(to: Any, d: Any, factor: Any) -> None:
    """`to` += factor · d, by doubling d and adding where the factor has a bit."""
    m0 = ALL if factor & 1 else ZERO
    m1 = ALL if factor & 2 else ZERO
    m2 = ALL if factor & 4 else ZERO
    m3 = ALL if factor & 8 else ZERO
    m4 = ALL if factor & 16 else ZERO
    m5 = ALL if factor & 32 else ZERO
    m6 = ALL if factor & 64 else ZERO
    m7 = ALL if factor & 128 else ZERO
    for i in range(len(d)):
        x = d[i]
        total = x & m0
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        total ^= x & m1
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        total ^= x & m2
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        total ^= x & m3
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        total ^= x & m4
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        total ^= x & m5
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        total ^= x & m6
        x = ((x & LOW) << ONE) ^ (((x >> SEVEN) & ONES) * POLY)
        to[i] ^= total ^ (x & m7)


horner: Any = compiled(_horner)
horner_four: Any = compiled(_horner_four)
add_multiple: Any = compiled(_add_multiple)
