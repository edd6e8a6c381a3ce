"""Integer noise drawn exactly: discrete Gaussian and discrete Laplace by rejection from unbiased bits, without a float.

Every comparison is of whole numbers below 2⁶³, so that the law of a draw is the one that the privacy proof is about and not its
floating-point neighbour, which can be attacked (Mironov 2012). Scales are rational and rounded up, which only adds privacy.

References
----------
C. Canonne, G. Kamath, T. Steinke. The Discrete Gaussian for Differential Privacy. NeurIPS 2020. Algorithms 1-3.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from abc import abstractmethod
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt64

from whp.kernel import compiled
from whp.provenance import register

__all__ = [
    "CHUNK",
    "WIDEST",
    "BitSource",
    "Lock",
    "Noise",
    "OsEntropy",
    "SeededEntropy",
    "below",
    "discrete_gaussian",
    "discrete_laplace",
    "happens",
]

WIDEST = 1 << 31  # products of two numbers below it, doubled, stay below 2⁶³
CHUNK = 1 << 14


_sources: weakref.WeakSet[BitSource] = weakref.WeakSet()


def _forget_bits() -> None:
    """Parent and child of a fork must not draw the same noise from what was fetched ahead."""
    for source in list(_sources):
        source._ahead = np.zeros(0, np.uint64)
        source.lock = Lock()  # a thread that is not here may have held the old one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_bits)


class Lock:
    """A lock of one thread at a time, which may take it again; a copy of it is a new one."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Lock], tuple[()]]:
        return Lock, ()


class BitSource:
    """Unbiased bits, one after the other: what is looked at and not used is there again.

    What was fetched ahead is dropped in the child of a fork. Between :meth:`peek` and :meth:`drop` the `lock` is held, so that
    no two threads draw from the same bits.
    """

    name = ""
    secure = False

    def __init__(self) -> None:
        self._ahead = np.zeros(0, np.uint64)
        self.lock = Lock()
        _sources.add(self)

    @abstractmethod
    def words(self, count: int) -> UInt64[np.ndarray, " count"]:
        """So many words of 64 fresh bits."""
        ...

    def peek(self, least: int) -> UInt64[np.ndarray, " n"]:
        """At least so many of the next words."""
        if len(self._ahead) < least:
            self._ahead = np.concatenate([self._ahead, self.words(least)])
        return self._ahead

    def drop(self, used: int) -> None:
        """Those are used up."""
        self._ahead = self._ahead[used:]


class OsEntropy(BitSource):
    """The operating system's generator, which no one can seed or foresee."""

    name, secure = "os.urandom", True

    def __init__(self) -> None:
        super().__init__()
        register(self)

    def __reduce__(self) -> tuple[type[OsEntropy], tuple[()]]:
        """A copy fetches bits of its own: with those that were fetched ahead two would draw the same noise."""
        return type(self), ()

    def words(self, count: int) -> UInt64[np.ndarray, " count"]:
        """Fresh bits."""
        return np.frombuffer(os.urandom(8 * count), dtype=np.uint64)


class SeededEntropy(BitSource):
    """Bits that anyone with the seed can draw again: for tests and studies, never for release."""

    name, secure = "seeded PCG64", False

    def __init__(self, seed: int | np.random.Generator) -> None:
        super().__init__()
        self._generator = np.random.default_rng(seed)

    def words(self, count: int) -> UInt64[np.ndarray, " count"]:
        """The next bits of the seed's stream."""
        return self._generator.integers(0, 1 << 64, count, dtype=np.uint64)


@compiled
def below(words, at, n):
    """A uniform whole number in [0, n), n < 2⁶³, by rejection under the next power of two; and where to read on.

    A place beyond the words' end says that they ran out.
    """
    mask = np.uint64(n - 1)
    shift = np.uint64(1)
    while shift < np.uint64(64):
        mask |= mask >> shift
        shift <<= np.uint64(1)
    while at < len(words):
        value = words[at] & mask
        at += 1
        if value < np.uint64(n):
            return np.int64(value), at
    return np.int64(0), len(words) + 1


@compiled
def happens(words, at, numerator, denominator):
    """Bernoulli(exp(−numerator/denominator)) for 0 ≤ numerator ≤ denominator (Algorithm 1)."""
    k = 1
    while True:
        value, at = below(words, at, denominator)
        if at > len(words):
            return False, at
        hit = value < numerator
        if hit and k > 1:
            value, at = below(words, at, k)
            if at > len(words):
                return False, at
            hit = value == 0
        if not hit:
            return k % 2 == 1, at
        k += 1


@compiled
def _laplace(words, at, t, s):
    """Discrete Laplace of scale t/s, P(x) ∝ exp(−|x| s/t) (Algorithm 2)."""
    while True:
        u, at = below(words, at, t)
        if at > len(words):
            return np.int64(0), at
        fine, at = happens(words, at, u, t)
        if at > len(words):
            return np.int64(0), at
        if not fine:
            continue
        v = 0
        while True:
            more, at = happens(words, at, 1, 1)
            if at > len(words):
                return np.int64(0), at
            if not more:
                break
            v += 1
        size = (u + t * v) // s
        sign, at = below(words, at, 2)
        if at > len(words):
            return np.int64(0), at
        if sign == 1 and size == 0:
            continue
        return (size if sign == 0 else -size), at


@compiled
def _survives(words, at, w, q):
    """Bernoulli(exp(−w²/(2q²))), q < 2³¹: with w = uq + v the exponent is u²/2 + uv/q + v²/(2q²), each part small."""
    u, v = w // q, w % q
    for _ in range(u * u):
        fine, at = happens(words, at, 1, 2)
        if at > len(words) or not fine:
            return False, at
    for _ in range(u):
        fine, at = happens(words, at, v, q)
        if at > len(words) or not fine:
            return False, at
    return happens(words, at, v * v, 2 * q * q)


@compiled
def _gaussian(words, at, a, b, t):
    """Discrete Gaussian of σ = a/b out of discrete Laplace of scale t (Algorithm 3, whose t may be any).

    Acceptance is exp(−(|y| − σ²/t)²/(2σ²)) = exp(−w²/(2q²)) with w = | |y| b² t − a² |, q = a b t; for b = 1 and t = a both
    have the factor a.
    """
    while True:
        y, at = _laplace(words, at, t, 1)
        if at > len(words):
            return np.int64(0), at
        w, q = (abs(y) - a, a) if b == 1 and t == a else (abs(y) * b * b * t - a * a, a * b * t)
        fine, at = _survives(words, at, abs(w), q)
        if at > len(words):
            return np.int64(0), at
        if fine:
            return y, at


@compiled
def _fill(words, out, done, kind, a, b, t):
    """Draw on until the words or the places end; how many places are filled, and how many words were used by them."""
    at = 0
    while done < len(out):
        value, after = _gaussian(words, at, a, b, t) if kind == 0 else _laplace(words, at, a, b)
        if after > len(words):
            break
        out[done] = value
        done += 1
        at = after
    return done, at


class Noise:
    """A source of exact draws of one law.

    Draws follow the bits one after the other, so that a stream taken in steps or at once is the same for the same bits.

    Parameters
    ----------
    law : {"gaussian", "laplace"}
        Discrete Gaussian with parameter σ, or discrete Laplace, P(x) ∝ exp(−|x|/scale).
    scale : Fraction or float
        σ or the scale; rounded up to a fraction that the sampler has room for, by less than 5·10⁻⁵ of itself. Zero makes no
        noise, and no privacy.
    source : BitSource
        Of the bits.

    Raises
    ------
    ValueError
        If the scale is negative, or above 2³¹.
    """

    def __init__(
        self, law: Literal["gaussian", "laplace"], scale: Fraction | float, source: BitSource
    ) -> None:
        if not 0 <= scale < WIDEST:
            raise ValueError(f"scale must be at least 0 and below 2³¹, got {float(scale):g}")
        self.law, self.source = law, source
        self.scale = _rounded(Fraction(scale), law)
        register(self, "law", "scale", "source")

    def draw(self, count: int) -> Int[np.ndarray, " count"]:
        """So many independent draws, int64."""
        out = np.zeros(count, dtype=np.int64)
        if self.scale == 0:
            return out
        a, b = self.scale.numerator, self.scale.denominator
        t = a if b == 1 else math.floor(self.scale) + 1
        kind = 0 if self.law == "gaussian" else 1
        done, wanted = 0, 0
        source = self.source
        with source.lock:
            while done < count:
                wanted = max(wanted, min(CHUNK, 64 * (count - done) + 64))
                done, used = _fill(source.peek(wanted), out, done, kind, a, b, t)
                source.drop(used)
                wanted = 0 if used else 2 * wanted  # not even one draw: these bits again, and more
        return out


def _rounded(scale: Fraction, law: str) -> Fraction:
    """The least fraction not below the scale, with the largest denominator for which q < 2³¹."""
    if scale == 0:
        return scale
    if law == "laplace":
        b = max(
            1,
            min(
                scale.denominator, math.floor(Fraction(WIDEST - 1) / scale) if scale < WIDEST else 1
            ),
        )
    else:
        # q = a b t with a = bσ, t ≤ σ + 1: b²σ(σ + 1) < 2³¹.
        b = max(1, math.isqrt(math.floor(Fraction(WIDEST - 1) / (scale * (scale + 1)))))
        if scale.denominator <= b:
            b = scale.denominator
    while True:
        made = Fraction(math.ceil(scale * b), b)
        q = made.numerator * made.denominator * (math.floor(made) + 1)
        if law == "laplace" or made.denominator == 1 or q < WIDEST:
            return made
        b -= 1


def discrete_gaussian(
    sigma: Fraction | float, size: int, source: BitSource | None = None
) -> Int[np.ndarray, " size"]:
    """Draws of the discrete Gaussian N_ℤ(σ²), P(x) ∝ exp(−x²/(2σ²)).

    Parameters
    ----------
    sigma : Fraction or float
        σ, rounded up as in :class:`Noise`.
    size : int
        How many.
    source : BitSource, optional
        Of the bits, by default the operating system.
    """
    return Noise("gaussian", sigma, source or OsEntropy()).draw(size)


def discrete_laplace(
    scale: Fraction | float, size: int, source: BitSource | None = None
) -> Int[np.ndarray, " size"]:
    """Draws of the discrete Laplace law, P(x) ∝ exp(−|x|/scale); parameters as in :func:`discrete_gaussian`."""
    return Noise("laplace", scale, source or OsEntropy()).draw(size)
