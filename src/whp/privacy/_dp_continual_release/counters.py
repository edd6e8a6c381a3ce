"""Private running counts: tree, square-root factorisation and fresh noise, in steps or at once with the same numbers."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from scipy import fft
from scipy.signal import fftconvolve

from whp.kernel import compiled
from whp.privacy._dp_continual_release.accuracy import ReleasePlan, levels, root_above, square_root
from whp.privacy._dp_continual_release.noise import BitSource, Noise
from whp.provenance import register

__all__ = ["Counter", "Drawing", "NaiveCounter", "SquareRootCounter", "TreeCounter", "counter"]

BITS = 24  # binary places of the factor in the square-root version, fewer where its noise would not fit
NEAR = 64  # records that are added one by one before a transform pays


class Drawing:
    """What keeps account of the noise that was really drawn, whoever put the noise there.

    Attributes
    ----------
    t : int
        Records seen.
    least : Fraction or None
        Smallest scale that a number was drawn with (largest sharpness of a selection); None before the first.
    """

    t: int
    law: Literal["gaussian", "laplace"]
    noise: Noise
    least: Fraction | None = None
    _noted: Fraction | None = None

    def drawn(self, count: int) -> np.ndarray:
        """So many draws, entered into the account."""
        scale = self.noise.scale
        if scale is not self._noted:
            self._noted = scale
            self.least = scale if self.least is None else min(self.least, scale)
        return self.noise.draw(count)

    def cost(self, uses: Fraction) -> Fraction:
        """ρ, or ε, of numbers with that sensitivity: squared ℓ₂ for Gaussian noise, ℓ₁ for Laplace noise."""
        if self.least is None:
            return Fraction(0)
        if self.least == 0:
            return Fraction(10**9)
        return uses / (self.least if self.law == "laplace" else 2 * self.least**2)

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Secret arrays that the rest of the stream depends on."""
        ...

    def restore(self, t: int, state: Mapping[str, np.ndarray]) -> None:
        """Go on after t records.

        Raises
        ------
        ValueError
            If an array is missing or does not fit.
        """
        for name, array in self.state().items():
            given = np.asarray(state[name])
            if given.shape != array.shape or given.dtype != array.dtype:
                raise ValueError(
                    f"state[{name!r}] must be {array.dtype} of shape {array.shape}, got "
                    f"{given.dtype} of {given.shape}"
                )
            if not np.isfinite(given).all():
                raise ValueError(f"state[{name!r}] must be finite")
        self.t = t
        for name in self.state():
            setattr(self, name, np.array(state[name]))


class Counter(Drawing):
    """Counts of d columns. Each record draws one row of noise, never drawn again.

    Attributes
    ----------
    t : int
        Records seen.
    noise : Noise
        Where the noise comes from.
    """

    def __init__(self, plan: ReleasePlan, source: BitSource, width: int) -> None:
        self.t, self.width, self.T = 0, width, plan.T
        self.law = "laplace" if plan.budget.pure else "gaussian"
        self.sums = np.zeros(width, dtype=np.int64)
        self._take(Noise(self.law, plan.scale, source))

    def _take(self, noise: Noise) -> None:
        self.noise = noise
        register(self, "noise")

    def advance(self, rows: UInt8[np.ndarray, "n width"]) -> Float[np.ndarray, "n width"]:
        """Counts after each of the rows."""
        fresh = self.drawn(rows.size).reshape(rows.shape)
        answers = self._answer(rows, fresh)
        self.t += len(rows)
        return answers

    @abstractmethod
    def _answer(self, rows: np.ndarray, fresh: np.ndarray) -> np.ndarray: ...

    @abstractmethod
    def uses(self) -> Fraction:
        """Sensitivity of all noisy numbers so far to one entry of the first record: squared ℓ₂, ℓ₁ for Laplace noise."""
        ...

    def spent(self, changed: int) -> Fraction:
        """ρ, or ε, that a record with so many entries that can change has cost by now."""
        return self.cost(self.uses() * changed)

    def state(self) -> dict[str, np.ndarray]:
        """Exact sums."""
        return {"sums": self.sums.copy()}


class NaiveCounter(Counter):
    """Fresh noise at every step."""

    def _answer(self, rows: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        exact = self.sums + np.cumsum(rows, axis=0, dtype=np.int64)
        self.sums = exact[-1].copy()
        return (exact + fresh).astype(np.float64)

    def uses(self) -> Fraction:
        """Every answer."""
        return Fraction(self.t)


@compiled
def _tree(rows, fresh, t, sums, nodes, out):
    """Noise of the nodes that tile 1…t, kept by level: at time t a node of level tz(t) replaces all below it."""
    n, d = rows.shape
    for s in range(n):
        t += 1
        level = 0
        while (t >> level) & 1 == 0:
            level += 1
        for j in range(d):
            sums[j] += rows[s, j]
            nodes[level, j] = fresh[s, j]
            total = sums[j]
            for k in range(level, len(nodes)):
                if (t >> k) & 1:
                    total += nodes[k, j]
            out[s, j] = total
    return t


class TreeCounter(Counter):
    """Binary tree: each record lies in at most h nodes, each answer adds up at most h of them."""

    def __init__(self, plan: ReleasePlan, source: BitSource, width: int) -> None:
        super().__init__(plan, source, width)
        self.nodes = np.zeros((levels(plan.T), width), dtype=np.int64)

    def _answer(self, rows: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        out = np.empty(rows.shape)
        _tree(rows, fresh, self.t, self.sums, self.nodes, out)
        return out

    def uses(self) -> Fraction:
        """Nodes that hold the first record."""
        return Fraction(levels(self.t))

    def state(self) -> dict[str, np.ndarray]:
        """Sums and the noise of open nodes."""
        return {"sums": self.sums.copy(), "nodes": self.nodes.copy()}


@compiled
def _step(rows, noisy, ahead_R, ahead_L, R, L, start, t, unit, out):
    """One record whose noise stands in ``noisy[t]``: y = R x + z and the answer L y, what was before `start` being ahead."""
    for j in range(rows.shape[1]):
        y = ahead_R[t, j] + noisy[t, j]
        for s in range(start, t + 1):
            if rows[s, j]:
                y += R[t - s]
        noisy[t, j] = y
        total = ahead_L[t, j]
        for s in range(start, t + 1):
            total += L[t - s] * noisy[s, j]
        out[j] = total * unit


class SquareRootCounter(Counter):
    """Noisy y = R x, then L y without more noise, where L R is the matrix of prefix sums and R ≈ its square root.

    R is rounded to 24 binary places and scaled to integers, so that y is exact and its noise an integer; L makes up for the
    rounding. Convolutions are taken online: the last records one by one, and when 2^k divides t, the last 2^k numbers are
    folded into the next 2^k at once.
    """

    def __init__(self, plan: ReleasePlan, source: BitSource, width: int) -> None:
        super().__init__(plan, source, width)
        factor = square_root(plan.T)
        self.bits = max(0, min(BITS, 29 - math.ceil(math.log2(max(float(plan.scale), 1.0)))))
        self.R = np.rint(factor * 2.0**self.bits).astype(np.int64)
        # The exact norm of the rounded column, where it is larger, takes the place of that of the plan.
        self._norms = np.cumsum(self.R.astype(object) ** 2)
        grown = Fraction(self._norms[-1], 4**self.bits) / Fraction(float((factor**2).sum()))
        scale = plan.scale * 2**self.bits * (root_above(grown) if grown > 1 else 1)
        self._take(Noise(self.law, scale, source))
        self.L = np.cumsum(_inverse(self.R / 2.0**self.bits))
        self._spectra: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._room(0, np.zeros((0, width), np.uint8), np.zeros((0, width), np.int64))

    def _room(self, size: int, rows: np.ndarray, noisy: np.ndarray) -> None:
        """Room for so many records, with all that the first ones add to the later ones."""
        t = len(rows)
        self._known, self._folded = t, t
        self._rows, self._noisy = (
            np.zeros((size, self.width), np.uint8),
            np.zeros((size, self.width), np.int64),
        )
        self._rows[:t], self._noisy[:t] = rows, noisy
        self._ahead_R, self._ahead_L = (
            np.zeros((size, self.width), np.int64),
            np.zeros((size, self.width)),
        )
        if 0 < t < size:
            self._ahead_R[t:] = _convolve(self.R[:size], rows)[t:size]
            self._ahead_L[t:] = fftconvolve(noisy, self.L[:size, None], axes=0)[t:size]

    def _answer(self, rows: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        if len(rows) > 32:
            return self._many(rows, fresh)
        out = np.empty(rows.shape)
        for row, noise, answer in zip(rows, fresh, out, strict=True):
            self._one(row, noise, answer)
        return out

    def _many(self, rows: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """The same for a block: one transform of what was before, one of the block."""
        n, t = len(rows), self._known
        if t + n > len(self._rows) or t > self._folded:
            self._room(t + n, self._rows[:t], self._noisy[:t])
        y, out = self._ahead_R[t : t + n], self._ahead_L[t : t + n]
        # Few columns at a time: transforms are larger than what they are taken of.
        for j in range(0, self.width, 8):
            part = slice(j, j + 8)
            y[:, part] += _convolve(self.R[:n], rows[:, part])[:n] + fresh[:, part]
            out[:, part] += fftconvolve(y[:, part], self.L[:n, None], axes=0)[:n]
        self._rows[t : t + n], self._noisy[t : t + n] = rows, y
        self._known = t + n
        answers = out / 2.0**self.bits
        if self._known < len(self._rows):  # what the block adds to the room that is left
            self._room(len(self._rows), self._rows[: self._known], self._noisy[: self._known])
        return answers

    def _one(self, row: np.ndarray, fresh: np.ndarray, answer: np.ndarray) -> None:
        t = self._known
        if t == len(self._rows):
            self._room(min(self.T, max(NEAR, 2 * t)), self._rows, self._noisy)
        self._rows[t], self._noisy[t] = row, fresh
        start = max(t - t % NEAR, self._folded)
        ahead = self._ahead_R, self._ahead_L
        _step(self._rows, self._noisy, *ahead, self.R, self.L, start, t, 2.0**-self.bits, answer)
        t = self._known = t + 1
        if t % NEAR == 0 and t < len(self._rows):
            self._fold(t, t & -t)

    def _fold(self, t: int, size: int) -> None:
        """What the last `size` records add to the next `size`, by circular transforms twice as long."""
        if size not in self._spectra:
            kernels = (k[: 2 * size].astype(np.float64) for k in (self.R, self.L))
            made = tuple(fft.rfft(k, 2 * size)[:, None] for k in kernels)
            self._spectra[size] = made  # type: ignore[assignment]
        first, end = max(t - size, self._folded), min(t + size, len(self._rows))
        for spectrum, values, ahead in zip(
            self._spectra[size],
            (self._rows, self._noisy),
            (self._ahead_R, self._ahead_L),
            strict=True,
        ):
            block = np.zeros((size, self.width))
            block[first - (t - size) :] = values[first:t]
            added = fft.irfft(fft.rfft(block, 2 * size, axis=0) * spectrum, 2 * size, axis=0)
            added = added[size : size + end - t]
            ahead[t:end] += np.rint(added).astype(np.int64) if ahead.dtype == np.int64 else added

    def cost(self, uses: Fraction) -> Fraction:
        """In units of counts, not of the scaled integers."""
        return super().cost(uses * (4**self.bits if self.law == "gaussian" else 2**self.bits))

    def uses(self) -> Fraction:
        """Norm of the factor's column as far as the stream went."""
        return Fraction(self._norms[self.t - 1], 4**self.bits) if self.t else Fraction(0)

    def state(self) -> dict[str, np.ndarray]:
        """All records and noisy numbers, of which a tree needs only the open nodes."""
        return {
            "rows": self._rows[: self._known].copy(),
            "noisy": self._noisy[: self._known].copy(),
        }

    def restore(self, t: int, state: Mapping[str, np.ndarray]) -> None:
        """Go on after t records."""
        rows, noisy = (np.asarray(state[k]) for k in ("rows", "noisy"))
        kinds = (rows.dtype, noisy.dtype) == (np.uint8, np.int64)
        if not kinds or rows.shape != (t, self.width) or noisy.shape != rows.shape:
            raise ValueError(
                f"state must hold {t} rows of {self.width}, got shapes {rows.shape} and {noisy.shape}"
            )
        if (rows > 1).any():
            raise ValueError("state['rows'] must be zeros and ones")
        self.t = t
        self._room(t, rows, noisy)


def _convolve(R: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """R * rows, exact: entries stay below 2⁴⁰, far from where a transform in doubles would round to another integer."""
    return np.rint(
        fftconvolve(R.astype(np.float64)[:, None], rows.astype(np.float64), axes=0)
    ).astype(np.int64)


def _inverse(c: Float[np.ndarray, " T"]) -> Float[np.ndarray, " T"]:
    """Coefficients of 1/Σ c_k x^k by Newton's iteration."""
    out = np.array([1 / c[0]])
    while len(out) < len(c):
        size = min(2 * len(out), len(c))
        error = fftconvolve(c[:size], out)[:size]
        error[0] -= 1
        out = np.concatenate([out, np.zeros(size - len(out))]) - fftconvolve(out, error)[:size]
    return out


COUNTERS: dict[str, Callable[[ReleasePlan, BitSource, int], Counter]] = {
    "tree": TreeCounter,
    "sqrt": SquareRootCounter,
    "naive": NaiveCounter,
}


def counter(plan: ReleasePlan, source: BitSource, width: int) -> Counter:
    """The counter of a plan."""
    return COUNTERS[plan.strategy](plan, source, width)
