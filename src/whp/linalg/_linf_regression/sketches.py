"""Random maps S with E SᵀS = I as scipy linear operators: ``S @ X``, and the adjoint ``S.T @ Y``.

A sketch whose every random part this process drew is registered (:mod:`whp.provenance`): what a
theorem says of its rows then holds by construction. One with signs or rows passed by hand is not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.fft
from scipy.sparse.linalg import LinearOperator

from whp.linalg._linf_regression.hadamard import (
    _dense_transform,
    _panel,
    _share,
    _width,
    fwht,
    next_power_of_two,
    sampled_fwht,
)
from whp.provenance import register
from whp.validate import as_int, private_stream

__all__ = [
    "SRHT",
    "GaussianSketch",
    "PooledHadamard",
    "Sketch",
    "SubsampledCirculant",
    "TensorSRHT",
]

Rng = np.random.Generator | int | None


def floats(x: np.ndarray) -> np.ndarray:
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float64)


class Sketch(LinearOperator):
    """An m×n random map with E SᵀS = I.

    Attributes
    ----------
    family : str
        Its name.
    inflation : float
        Variance of ``gᵀSᵀSh`` for flat g ⊥ h, relative to that of a Gaussian sketch; error bars are
        widened by its root.
    """

    family = "custom"

    @property
    def inflation(self) -> float:
        """See the attributes of the class."""
        return 1.0

    @property
    def repeats(self) -> np.ndarray:
        """How many times the sketch has each of its m rows, which is above 1 if drawn so."""
        return np.ones(self.shape[0], dtype=np.int64)

    @property
    def population(self) -> float:
        """Number of orthogonal rows, of which the rows were drawn; infinite for other sketches."""
        return math.inf

    def __init__(self, n: int, m: int) -> None:
        super().__init__(np.float64, (as_int(m, "m", low=1), as_int(n, "n", low=1)))

    def _matvec(self, x: np.ndarray) -> np.ndarray:
        return self._matmat(np.reshape(x, (-1, 1)))[:, 0]

    def _rmatvec(self, x: np.ndarray) -> np.ndarray:
        return self._rmatmat(np.reshape(x, (-1, 1)))[:, 0]


def counted(rows: np.ndarray) -> np.ndarray:
    """How many times each of `rows` is among them."""
    _, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    return counts[inverse]


def draw_rows(total: int, m: int, replace: bool, rng: np.random.Generator) -> np.ndarray:
    if not replace and m > total:
        raise ValueError(f"m must be at most {total} without replacement, got {m}")
    return rng.integers(total, size=m) if replace else rng.choice(total, m, replace=False)


class SRHT(Sketch):
    """Subsampled randomized Hadamard transform ``(1/√m) P H Π D`` after padding n to N, a power of two.

    Rows are permuted at random: without Π, groups of rows that are aligned with powers of two, such
    as pairs of adjacent rows, keep their products of signs together through H.

    Parameters
    ----------
    n, m : int
        Rows of the input and of the sketch.
    rng : numpy.random.Generator or int, optional
        Source of signs and rows.
    replace : bool
        Draw rows with replacement, as in the theory; without, the variance is smaller by about 1 - m/N.
    signs : ndarray, optional
        The n random signs D, where they are given.
    rows : ndarray, optional
        The m sampled rows P, numbers below N, where they are given.
    order : ndarray, optional
        The permutation Π: row i of Π X is row ``order[i]`` of X. Where it is not given, but signs
        or rows are, rows stay where they are.
    """

    family = "srht"

    def __init__(
        self,
        n: int,
        m: int,
        rng: Rng = None,
        *,
        replace: bool = False,
        signs: np.ndarray | None = None,
        rows: np.ndarray | None = None,
        order: np.ndarray | None = None,
    ) -> None:
        super().__init__(n, m)
        drawn = signs is None and rows is None and order is None
        rng = private_stream(rng)
        self.padded = next_power_of_two(n)
        self.signs = (
            rng.choice(np.array([-1.0, 1.0]), n)
            if signs is None
            else np.asarray(signs, dtype=np.float64)
        )
        self.rows = (
            draw_rows(self.padded, m, replace, rng)
            if rows is None
            else np.asarray(rows, dtype=np.int64)
        )
        if drawn:
            self.order = rng.permutation(n)
        else:
            self.order = np.arange(n) if order is None else np.asarray(order, dtype=np.int64)
        if not np.array_equal(np.sort(self.order), np.arange(n)):
            raise ValueError(f"order must be a permutation of 0..{n - 1}")
        if self.signs.shape != (n,) or (np.abs(self.signs) != 1).any():
            raise ValueError(f"signs must be {n} entries of -1 or 1, got shape {self.signs.shape}")
        if self.rows.shape != (m,) or self.rows.min() < 0 or self.rows.max() >= self.padded:
            raise ValueError(
                f"rows must be {m} numbers in 0..{self.padded - 1}, got shape {self.rows.shape}"
            )
        if drawn:
            register(self, "signs", "order", "rows", "padded", "shape")

    @property
    def repeats(self) -> np.ndarray:
        """See :class:`Sketch`."""
        return counted(self.rows)

    @property
    def population(self) -> float:
        """See :class:`Sketch`."""
        return self.padded

    def _matmat(self, X: Any) -> np.ndarray:
        scale = self.shape[0] ** -0.5
        return sampled_fwht(X, self.signs, self.order, self.rows, self.padded, scale)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        Y = floats(Y)
        spread = np.zeros((self.padded, Y.shape[1]), dtype=Y.dtype)
        np.add.at(spread, self.rows, Y)
        result = np.empty((self.shape[1], Y.shape[1]), dtype=Y.dtype)
        result[self.order] = fwht(spread, overwrite=True)[: self.shape[1]]
        result *= (self.signs * self.shape[0] ** -0.5)[:, None].astype(Y.dtype)
        return result


class PooledHadamard(Sketch):
    """Balanced Gaussian pooling of the flattened input, ``B D_γ Π (H/√N) D_σ J`` (Song & Zhang 2026, Section 10).

    Pad, flip signs, transform, permute, multiply by iid N(0, 1), add up m consecutive blocks whose
    sizes differ by one at most. Given signs and permutation its rows are independent Gaussian
    vectors, which is what the complete proof rests on.

    Parameters
    ----------
    n, m : int
        Rows of the input and of the sketch; m at most the padded N.
    rng : numpy.random.Generator or int, optional
        Source of signs, permutation and weights.
    """

    family = "pooled"

    def __init__(self, n: int, m: int, rng: Rng = None) -> None:
        super().__init__(n, m)
        rng = private_stream(rng)
        self.padded = next_power_of_two(n)
        if m > self.padded:
            raise ValueError(f"m must be at most the padded number of rows {self.padded}, got {m}")
        self.signs = rng.choice(np.array([-1.0, 1.0]), n)
        self.order = rng.permutation(self.padded)
        self.weights = rng.standard_normal(self.padded)
        self.starts = (np.arange(m) * self.padded) // m
        register(self, "signs", "order", "weights", "starts", "padded", "shape")

    @property
    def inflation(self) -> float:
        """A block of s entries shares its weights between g and h.

        E (Σγg)²(Σγh)² = ‖g‖²‖h‖² + 2⟨g, h⟩², and E ⟨g, h⟩² = ‖g‖²‖h‖²/s.
        """
        return 1 + 2 * self.shape[0] / self.padded

    def flatten(self, X: np.ndarray) -> np.ndarray:
        """Rows of ``Π (H/√N) D_σ J X``, before weights and pooling."""
        X = floats(X)
        v = np.zeros((self.padded, X.shape[1]), dtype=X.dtype)
        np.multiply(X, self.signs[:, None], out=v[: len(X)], casting="same_kind")
        _dense_transform(v, self.padded)
        v *= v.dtype.type(self.padded**-0.5)
        return v[self.order]

    def distortion(self, U: np.ndarray) -> float:
        """Largest ``‖m W_iᵀW_i - I‖`` over blocks W_i of the flattened orthonormal `U`.

        Theorem 10.1 needs it to be at most κ.
        """
        blocks = np.split(self.flatten(U), self.starts[1:])
        eye = np.eye(U.shape[1])
        return max(float(np.linalg.norm(self.shape[0] * w.T @ w - eye, 2)) for w in blocks)

    def _matmat(self, X: Any) -> np.ndarray:
        out = np.empty(
            (self.shape[0], X.shape[1]), dtype=np.float32 if X.dtype == np.float32 else np.float64
        )
        weights = self.weights[:, None].astype(out.dtype)

        def work(first: int, last: int) -> None:
            part = _panel(X, first, last).astype(out.dtype, copy=False)
            np.add.reduceat(
                self.flatten(part) * weights, self.starts, axis=0, out=out[:, first:last]
            )

        _share(work, X.shape[1], _width(min(self.padded, 1 << 13), out.itemsize, X.shape[1]))
        return out

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        Y = floats(Y)
        sizes = np.diff(np.append(self.starts, self.padded))
        v = np.empty((self.padded, Y.shape[1]), dtype=Y.dtype)
        v[self.order] = np.repeat(Y, sizes, axis=0) * self.weights[:, None]
        v = fwht(v, overwrite=True)[: self.shape[1]]
        v *= (self.signs * self.padded**-0.5)[:, None].astype(Y.dtype)
        return v


class SubsampledCirculant(Sketch):
    """Subsampled randomized circulant ``(1/√m) P G Π D``, G the circulant of random signs, by FFT.

    The random permutation Π parts rows that lie side by side, as in :class:`SRHT`.

    Parameters
    ----------
    n, m : int
        Rows of the input and of the sketch. No padding to a power of two.
    rng : numpy.random.Generator or int, optional
        Source of both sets of signs, of the permutation and of the rows.
    replace : bool
        Draw rows with replacement.
    """

    family = "circulant"

    def __init__(self, n: int, m: int, rng: Rng = None, *, replace: bool = False) -> None:
        super().__init__(n, m)
        rng = private_stream(rng)
        signs = np.array([-1.0, 1.0])
        self.signs = rng.choice(signs, n)
        self.generator = rng.choice(signs, n)
        self.rows = draw_rows(n, m, replace, rng)
        self.order = rng.permutation(n)
        register(self, "signs", "generator", "order", "rows", "shape")

    @property
    def repeats(self) -> np.ndarray:
        """See :class:`Sketch`."""
        return counted(self.rows)

    def _convolve(self, X: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        if X.dtype == np.float32:
            spectrum = spectrum.astype(np.complex64)
        lines = np.ascontiguousarray(X.T)
        return scipy.fft.irfft(scipy.fft.rfft(lines) * spectrum, n=self.shape[1]).T

    def _matmat(self, X: Any) -> np.ndarray:
        out = np.empty(
            (self.shape[0], X.shape[1]), dtype=np.float32 if X.dtype == np.float32 else np.float64
        )
        spectrum = scipy.fft.rfft(self.generator)
        signs = self.signs[:, None].astype(out.dtype)

        def work(first: int, last: int) -> None:
            part = (_panel(X, first, last) * signs)[self.order]
            out[:, first:last] = self._convolve(part, spectrum)[self.rows]

        _share(work, X.shape[1], 16)
        out *= self.shape[0] ** -0.5
        return out

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        Y = floats(Y)
        spread = np.zeros((self.shape[1], Y.shape[1]), dtype=Y.dtype)
        np.add.at(spread, self.rows, Y)
        result = np.empty_like(spread)
        result[self.order] = self._convolve(spread, np.conj(scipy.fft.rfft(self.generator)))
        return result * (self.signs * self.shape[0] ** -0.5)[:, None].astype(Y.dtype)


class GaussianSketch(Sketch):
    """Independent N(0, 1/m) entries: O(nmd), the reference for which every statement is exact.

    Parameters
    ----------
    n, m : int
        Rows of the input and of the sketch.
    rng : numpy.random.Generator or int, optional
        Source of the entries, which are drawn again, from the same state, at every application
        instead of being stored.
    """

    family = "gaussian"
    chunk = 1 << 22  # entries of S held at a time

    def __init__(self, n: int, m: int, rng: Rng = None) -> None:
        super().__init__(n, m)
        self.seed = int(np.random.default_rng(rng).integers(1 << 62))
        register(self, "seed", "shape")

    def _pieces(self) -> Any:
        m, n = self.shape
        rng = np.random.default_rng(self.seed)
        step = max(1, self.chunk // m)
        for start in range(0, n, step):
            stop = min(n, start + step)
            yield start, stop, rng.standard_normal((stop - start, m)) * m**-0.5

    def _matmat(self, X: Any) -> np.ndarray:
        dense = not hasattr(X, "toarray")
        X = floats(X) if dense else X.tocsr()
        out = np.zeros(
            (self.shape[0], X.shape[1]), dtype=np.float32 if X.dtype == np.float32 else np.float64
        )
        for start, stop, piece in self._pieces():
            out += piece.T @ X[start:stop] if dense else (X[start:stop].T @ piece).T
        return out

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        Y = floats(Y)
        out = np.empty((self.shape[1], Y.shape[1]), dtype=Y.dtype)
        for start, stop, piece in self._pieces():
            out[start:stop] = piece @ Y
        return out


class TensorSRHT(Sketch):
    """SRHT of a Kronecker product: row k is ``(1/√m) (h_{i_k} D₁) ⊗ (h_{j_k} D₂)``.

    Parameters
    ----------
    n1, n2, m : int
        Rows of the two factors and of the sketch.
    rng : numpy.random.Generator or int, optional
        Source of signs and of the pairs of rows.
    replace : bool
        Draw pairs with replacement, as in the theory.
    """

    family = "tensor-srht"

    def __init__(self, n1: int, n2: int, m: int, rng: Rng = None, *, replace: bool = True) -> None:
        super().__init__(as_int(n1, "n1", low=1) * as_int(n2, "n2", low=1), m)
        rng = private_stream(rng)
        self.sizes = (n1, n2)
        self.padded = (next_power_of_two(n1), next_power_of_two(n2))
        self.signs = tuple(rng.choice(np.array([-1.0, 1.0]), size) for size in self.sizes)
        pairs = draw_rows(self.padded[0] * self.padded[1], m, replace, rng)
        self.rows = np.divmod(pairs, self.padded[1])
        register(self, "sizes", "padded", "signs", "rows", "shape")

    @property
    def inflation(self) -> float:
        """Bound 9 for any A: E (σᵀGσ')²(σᵀRσ')² ≤ 9 ‖G‖²‖R‖² by hypercontractivity.

        Where A is a Kronecker product it is 3 (docs: tensor).
        """
        return 9.0

    @property
    def repeats(self) -> np.ndarray:
        """See :class:`Sketch`."""
        return counted(self.rows[0] * self.padded[1] + self.rows[1])

    @property
    def population(self) -> float:
        """See :class:`Sketch`."""
        return self.padded[0] * self.padded[1]

    def _factor(self, k: int, X: np.ndarray) -> np.ndarray:
        """``(H D_k [X; 0])[rows_k]``."""
        order = np.arange(self.sizes[k])
        return sampled_fwht(floats(X), self.signs[k], order, self.rows[k], self.padded[k], 1.0)

    def kron(self, A1: np.ndarray, A2: np.ndarray) -> np.ndarray:
        """``S (A1 ⊗ A2)`` in O(n₁d₁ log n₁ + n₂d₂ log n₂ + m d₁d₂), without the product."""
        left, right = self._factor(0, A1), self._factor(1, A2)
        rows = left[:, :, None] * right[:, None, :] * self.shape[0] ** -0.5
        return rows.reshape(self.shape[0], -1)

    def _matmat(self, X: Any) -> np.ndarray:
        X = floats(X.toarray() if hasattr(X, "toarray") else X)
        (n1, n2), (N1, N2), (i, j) = self.sizes, self.padded, self.rows
        cube = np.zeros((N1, N2, X.shape[1]), dtype=X.dtype)
        cube[:n1, :n2] = X.reshape(n1, n2, -1) * np.multiply.outer(*self.signs)[:, :, None]
        cube = fwht(fwht(cube, 0, overwrite=True), 1, overwrite=True)
        return cube[i, j] * X.dtype.type(self.shape[0] ** -0.5)

    def _rmatmat(self, Y: np.ndarray) -> np.ndarray:
        Y = floats(Y)
        (n1, n2), (N1, N2), (i, j) = self.sizes, self.padded, self.rows
        cube = np.zeros((N1, N2, Y.shape[1]), dtype=Y.dtype)
        np.add.at(cube, (i, j), Y)
        cube = fwht(fwht(cube, 0, overwrite=True), 1, overwrite=True)[:n1, :n2]
        cube = cube * (np.multiply.outer(*self.signs) * self.shape[0] ** -0.5)[:, :, None]
        return cube.reshape(n1 * n2, -1).astype(Y.dtype, copy=False)
