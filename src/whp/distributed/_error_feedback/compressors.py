"""Contractive compressors: ‖C(v) − v‖² ≤ (1 − α)‖v‖², in expectation where they draw.

One class serves the numpy reference and the communication hook: both ask it which coordinates to
send.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.kernel import compiled
from whp.provenance import made_here, plain_generator, register
from whp.validate import as_int, as_real

__all__ = [
    "BlockTopK",
    "Compressor",
    "Identity",
    "NaturalDeterministic",
    "Payload",
    "RandK",
    "TopK",
    "contracts_by_construction",
]


@dataclass(frozen=True, eq=False)
class Payload:
    """What a worker sends.

    Parameters
    ----------
    values : ndarray, shape (k,)
        Of the chosen coordinates, or of all.
    indices : ndarray of int, shape (k,), or None
        Which coordinates; None for all.
    shape : tuple of int
        Of what was compressed.
    bits : float
        A coordinate takes on the wire: a float32 value and an int32 index, unless the compressor is
        thriftier.
    """

    values: np.ndarray
    indices: np.ndarray | None
    shape: tuple[int, ...]
    bits: float = 64.0

    @property
    def nbytes(self) -> int:
        """Bytes on the wire."""
        return math.ceil(self.values.size * self.bits / 8)


class Compressor(ABC):
    """Base of compressors.

    Attributes
    ----------
    homogeneous : bool
        Whether C(t v) = t C(v) for every t > 0; only then are EF21 and EF21-W the same iterates.
    deterministic : bool
        Whether it draws nothing.
    """

    homogeneous = True
    deterministic = True

    def __repr__(self) -> str:
        # a checkpoint names its compressor by this: no address, and nothing that changes in a run
        return f"{type(self).__qualname__}()"

    @abstractmethod
    def alpha(self, d: int) -> float:
        """Contraction α in dimension d."""

    @abstractmethod
    def count(self, d: int) -> int:
        """Coordinates that are sent of d; the same on every worker."""

    @abstractmethod
    def select(self, v: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Indices of the coordinates to send, of a vector, each once."""

    def compress(self, v: Any, generator: np.random.Generator | None = None) -> Payload:
        """What to send for `v`, an array of any shape.

        Parameters
        ----------
        v : ndarray or Tensor
            A tensor on the CPU is read without a copy.
        generator : Generator, optional
            For compressors that draw.
        """
        flat = np.ascontiguousarray(v).reshape(-1)
        indices = self.select(flat, generator)
        return Payload(flat[indices], indices, tuple(np.shape(v)))

    def decompress(self, payload: Payload) -> np.ndarray:
        """C(v), of v's shape."""
        if payload.indices is None:
            return payload.values.reshape(payload.shape)
        out = np.zeros(math.prod(payload.shape), dtype=payload.values.dtype)
        out[payload.indices] = payload.values
        return out.reshape(payload.shape)

    def difference(
        self, gradient: np.ndarray, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """Values and indices (None: all) of C(gradient − shift); whether all of it was finite.

        By ``compress`` and ``decompress``, so that a compressor which rounds what it sends does so
        here as well.
        """
        delta = gradient - shift
        good = bool(np.isfinite(delta).all())
        payload = self.compress(delta if good else np.zeros_like(delta))
        values, indices = payload.values, payload.indices
        if type(self).decompress is not Compressor.decompress:
            values = np.asarray(self.decompress(payload)).reshape(-1)
            values = values if indices is None else values[indices]
        return values.astype(delta.dtype, copy=False), indices, good


class TopK(Compressor):
    """The k largest in magnitude; of equal ones the first. α = k/d.

    Parameters
    ----------
    k : int, optional
        How many; by default ``max(1, ceil(ratio * d))``.
    ratio : float
        Share of them.
    """

    def __init__(self, k: int | None = None, ratio: float = 0.01) -> None:
        self.k = None if k is None else as_int(k, "k", low=1)
        self.ratio = _share(ratio)
        register(self, "k", "ratio")

    def __repr__(self) -> str:
        name = type(self).__qualname__
        return f"{name}(k={self.k})" if self.k else f"{name}(ratio={self.ratio:g})"

    def count(self, d: int) -> int:
        """k."""
        if self.k is not None and self.k > d:
            raise ValueError(f"k={self.k} exceeds dimension {d}")
        return self.k if self.k is not None else _ceil(self.ratio, d)

    def alpha(self, d: int) -> float:
        """k/d."""
        return self.count(d) / d

    def select(self, v: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Indices of the k largest, ascending."""
        return _largest(np.abs(v), self.count(len(v)))


class BlockTopK(Compressor):
    """The largest of every block of consecutive coordinates: as contractive as TopK, and faster.

    Parameters
    ----------
    ratio : float
        Share that is sent; k_b = ⌈ratio · length⌉ of each block.
    block : int
        Length of a block. α = min k_b/length over the blocks, so that `ratio · block` had best be
        whole.
    """

    def __init__(self, ratio: float = 0.01, block: int = 100) -> None:
        self.ratio, self.block = _share(ratio), as_int(block, "block", low=1)
        register(self, "ratio", "block")

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(ratio={self.ratio:g}, block={self.block})"

    def plan(self, d: int) -> tuple[int, int, int, int]:
        """Number of whole blocks, what is sent of each, length of the rest, what is sent of it."""
        whole, rest = divmod(d, self.block)
        return whole, _ceil(self.ratio, self.block), rest, _ceil(self.ratio, rest) if rest else 0

    def count(self, d: int) -> int:
        """Sum of k_b."""
        whole, k, _, last = self.plan(d)
        return whole * k + last

    def alpha(self, d: int) -> float:
        """Least k_b/length."""
        whole, k, rest, last = self.plan(d)
        return min(([k / self.block] if whole else []) + ([last / rest] if rest else []))

    def select(self, v: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Indices, block by block."""
        whole, k, rest, last = self.plan(len(v))
        return np.asarray(_blocks(v, np.zeros(0, v.dtype), self.block, whole, k, rest, last)[1])

    def difference(
        self, gradient: np.ndarray, shift: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """In one pass over memory."""
        whole, k, rest, last = self.plan(len(gradient))
        values, indices, total = _blocks(gradient, shift, self.block, whole, k, rest, last)
        return values, indices, math.isfinite(total)


class RandK(Compressor):
    """k coordinates at random, as they are. α = k/d in expectation.

    Parameters
    ----------
    k : int
        How many.
    scaled : bool
        Refused: multiplied by d/k it is unbiased but not contractive, and error feedback diverges.
    """

    deterministic = False

    def __init__(self, k: int, scaled: bool = False) -> None:
        self.k = as_int(k, "k", low=1)
        if scaled:
            raise ValueError(
                "scaled must be False: RandK times d/k is unbiased but not contractive "
                "(‖C(v) − v‖ > ‖v‖)"
            )
        register(self, "k")

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}(k={self.k})"

    count, alpha = TopK.count, TopK.alpha
    ratio = 0.0

    def select(self, v: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """Indices, ascending."""
        generator = np.random.default_rng() if generator is None else generator
        return np.sort(generator.choice(len(v), self.count(len(v)), replace=False))


class NaturalDeterministic(Compressor):
    """Every value rounded to the nearest power of two: α = 8/9, nine bits each, not homogeneous."""

    homogeneous = False

    def __init__(self) -> None:
        register(self)

    def count(self, d: int) -> int:
        """All."""
        return d

    def alpha(self, d: int) -> float:
        """8/9: the worst value is 1.5, a third off."""
        return 8 / 9

    def select(self, v: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
        """All."""
        return np.arange(len(v))

    def compress(self, v: Any, generator: np.random.Generator | None = None) -> Payload:
        """Rounded values."""
        mantissa, exponent = np.frexp(
            np.asarray(v)
        )  # |mantissa| in [1/2, 1); of 3/4, both ends are as near: up
        rounded = np.ldexp(
            np.sign(mantissa), np.where(np.abs(mantissa) >= 0.75, exponent, exponent - 1)
        )
        return Payload(rounded.reshape(-1), None, tuple(np.shape(v)), 9.0)


class Identity(Compressor):
    """Everything. α = 1: EF21 is gradient descent."""

    def __init__(self) -> None:
        register(self)

    def __repr__(self) -> str:
        return "Identity()"

    count, select = NaturalDeterministic.count, NaturalDeterministic.select

    def alpha(self, d: int) -> float:
        """1."""
        return 1.0

    def compress(self, v: Any, generator: np.random.Generator | None = None) -> Payload:
        """All values."""
        return Payload(np.array(v).reshape(-1), None, tuple(np.shape(v)), 32.0)


def contracts_by_construction(compressor: Compressor, rng: Any = None) -> str:
    """Why it contracts, if it is exactly one of this module, as its constructor made it; else "".

    Parameters
    ----------
    compressor : Compressor
    rng : Generator or seed, optional
        Where it draws from.
    """
    if made_here(compressor, TopK, BlockTopK, NaturalDeterministic, Identity):
        return f"{compressor!r} keeps the largest or rounds: no vector loses more"
    if made_here(compressor, RandK) and plain_generator(rng):
        return f"{compressor!r} keeps each coordinate with probability k/d"
    return ""


def _share(ratio: Any) -> float:
    share = as_real(ratio, "ratio", low=0, high=1)
    if share == 0:
        raise ValueError("ratio must be in (0, 1], got 0")
    return share


def _ceil(ratio: float, d: int) -> int:
    return min(d, max(1, math.ceil(ratio * d - 1e-9)))  # 0.07 · 100 is a little over 7


def _largest(size: np.ndarray, k: int) -> np.ndarray:
    if k == 1:
        return np.array([size.argmax()])
    threshold = np.partition(size, len(size) - k)[len(size) - k]
    above = np.flatnonzero(size > threshold)
    return np.sort(np.concatenate([above, np.flatnonzero(size == threshold)[: k - len(above)]]))


@compiled
def _argmax(v, shift, start, stop):
    best, where, total = -1.0, start, 0.0
    if len(shift):
        for j in range(start, stop):
            x = v[j] - shift[j]
            total += x
            if abs(x) > best:
                best, where = abs(x), j
    else:
        for j in range(start, stop):
            total += v[j]
            if abs(v[j]) > best:
                best, where = abs(v[j]), j
    return where, total


@compiled
def _blocks(v, shift, block, whole, k, rest, last):
    """The k largest of each block of v − shift: values, indices, and a sum that is finite if all is.

    No shift is an empty one.
    """
    m = whole * k + last
    values, indices, total = np.empty(m, v.dtype), np.empty(m, np.int64), 0.0
    place, size = 0, np.empty(max(k, last, 1), v.dtype)
    for b in range(whole + (rest > 0)):
        start = b * block
        stop, many = (start + block, k) if b < whole else (start + rest, last)
        if many == 1:
            where, part = _argmax(v, shift, start, stop)
            total += part
            indices[place] = where
        else:  # the largest so far, in order; an equal one that comes later stays behind
            found = 0
            for j in range(start, stop):
                x = v[j] - shift[j] if len(shift) else v[j]
                total += x
                if found == many and not abs(x) > size[many - 1]:
                    continue
                slot = found if found < many else many - 1
                while slot > 0 and abs(x) > size[slot - 1]:
                    size[slot], indices[place + slot] = size[slot - 1], indices[place + slot - 1]
                    slot -= 1
                size[slot], indices[place + slot] = abs(x), j
                found = min(found + 1, many)
        for j in range(place, place + many):
            i = indices[j]
            values[j] = v[i] - shift[i] if len(shift) else v[i]
        place += many
    return values, indices, total
