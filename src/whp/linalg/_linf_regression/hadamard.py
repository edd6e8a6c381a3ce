"""The fast Walsh-Hadamard transform, whole or only in sampled rows.

All passes run on panels of columns that are copied into one contiguous buffer, so that rows lie side by side, the inner
loops vectorise and a stride that is a power of two cannot thrash the cache. Panels are shared out to threads; the kernels
release the GIL and use no threading layer of numba's, which keeps them safe under fork and under callers' own threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit
from numba.core import config

from whp.validate import as_int

__all__ = ["fwht", "next_power_of_two"]

L1_BYTES = 1 << 15
L2_BYTES = 1 << 19
PANEL = 64  # widest panel, in columns


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile what lies under any run-time type checker: numba compiles plain functions only."""
    return njit(cache=True, nogil=True, fastmath=True, error_model="numpy")(
        inspect.unwrap(function)
    )


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is at least `n`."""
    return 1 << (int(n) - 1).bit_length() if n > 1 else 1


@_compiled
def _passes(v, start, stop, stride):
    """Butterflies of strides `stride`, 2 `stride`, ... on v[start:stop]; (stop - start) / stride is a power of two."""
    h = stride
    span = (stop - start) // stride
    odd = 0
    while span > 1:
        span >>= 1
        odd ^= 1
    if odd:
        for base in range(start, stop, 2 * h):
            v0 = v[base : base + h]
            v1 = v[base + h : base + 2 * h]
            for j in range(h):
                a = v0[j]
                b = v1[j]
                v0[j] = a + b
                v1[j] = a - b
        h *= 2
    while h < stop - start:  # radix 4: two passes for one trip through memory
        for base in range(start, stop, 4 * h):
            v0 = v[base : base + h]
            v1 = v[base + h : base + 2 * h]
            v2 = v[base + 2 * h : base + 3 * h]
            v3 = v[base + 3 * h : base + 4 * h]
            for j in range(h):
                a = v0[j]
                b = v1[j]
                c = v2[j]
                d = v3[j]
                s = a + b
                t = a - b
                u = c + d
                w = c - d
                v0[j] = s + u
                v1[j] = t + w
                v2[j] = s - u
                v3[j] = t - w
        h *= 4


@_compiled
def _transform(v, width, length, small, large):
    """Hadamard transform of `length` rows of `width` entries in v, in place; blocks of `small`, then `large`, rows first."""
    total = length * width
    first = min(small, length) * width
    second = min(large, length) * width
    for outer in range(0, total, second):
        for inner in range(outer, outer + second, first):
            _passes(v, inner, inner + first, width)
        if first < second:
            _passes(v, outer, outer + second, first)
    if second < total:
        _passes(v, 0, total, second)


@_compiled
def _fwht_panel(a, out, length, small, large):
    """out = H a for one panel; both (length, width)."""
    width = a.shape[1]
    v = np.empty(length * width, dtype=out.dtype)
    for i in range(length):
        for j in range(width):
            v[i * width + j] = a[i, j]
    _transform(v, width, length, small, large)
    for i in range(length):
        for j in range(width):
            out[i, j] = v[i * width + j]


@_compiled
def _sampled_panel(a, signs, order, high, low, parity, length, small, scale, out):
    """Rows (high, low) of scale * H [(diag(signs) a)[order]; 0] for one panel, reading `a` once.

    H_N = H_{N/L} kron H_L with L = `length`: each block of L rows is transformed in cache, and its rows are added, with the sign
    that H_{N/L} gives them, to the sampled rows alone. That replaces the last log2(N/L) passes over all N rows.
    """
    n, width = a.shape
    m = len(high)
    v = np.empty(length * width, dtype=out.dtype)
    total = np.zeros(m * width, dtype=out.dtype)
    for block in range((n + length - 1) // length):
        start = block * length
        stop = min(n, start + length)
        for i in range(start, stop):
            source = order[i]
            s = signs[source]
            for j in range(width):
                v[(i - start) * width + j] = s * a[source, j]
        for j in range((stop - start) * width, length * width):
            v[j] = 0.0
        _transform(v, width, length, small, length)
        for k in range(m):
            row = v[low[k] * width : (low[k] + 1) * width]
            sums = total[k * width : (k + 1) * width]
            if parity[high[k] & block]:
                for j in range(width):
                    sums[j] -= row[j]
            else:
                for j in range(width):
                    sums[j] += row[j]
    for k in range(m):
        for j in range(width):
            out[k, j] = scale * total[k * width + j]


def _share(work: Callable[[int, int], Any], columns: int, panel: int) -> None:
    """Call work(first, last) for every panel of columns, on as many threads as numba may use."""
    panels = [(c, min(columns, c + panel)) for c in range(0, columns, panel)]
    threads = min(len(panels), int(getattr(config, "NUMBA_NUM_THREADS", 1)))
    if threads == 1:
        for first, last in panels:
            work(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda p: work(*p), panels))


def _width(rows: int, itemsize: int, columns: int) -> int:
    """Columns of a panel: as many as keep `rows` of them in the second-level cache, at least one cache line."""
    fitting = L2_BYTES // (max(rows, 1) * itemsize)
    return max(64 // itemsize, min(PANEL, 1 << max(fitting, 1).bit_length() - 1, columns))


def _rows_within(size: int, width: int, itemsize: int) -> int:
    return 1 << max(1, size // (width * itemsize)).bit_length() - 1


def _panel(a: Any, first: int, last: int) -> np.ndarray:
    """Columns first..last-1 of a dense or sparse matrix, dense."""
    part = a[:, first:last]
    return part.toarray() if hasattr(part, "toarray") else part


def _dense_transform(v: np.ndarray, length: int) -> None:
    """H v in place for a contiguous (length, width) buffer."""
    width, size = v.shape[1], v.itemsize
    _transform(
        v.reshape(-1),
        width,
        length,
        _rows_within(L1_BYTES, width, size),
        _rows_within(L2_BYTES, width, size),
    )


def fwht(a: Any, axis: int = 0, overwrite: bool = False) -> np.ndarray:
    """Unnormalised Walsh-Hadamard transform along one axis, in Sylvester's (natural) order.

    Parameters
    ----------
    a : array_like
        Real or complex; its length along `axis` must be a power of two. float32 and complex64 keep their precision,
        whole numbers become float64.
    axis : int
        The axis to transform.
    overwrite : bool
        Write the result into `a` where that is a floating array.

    Returns
    -------
    ndarray
        ``scipy.linalg.hadamard(N) @ a`` along `axis`; applied twice it multiplies by N.

    Examples
    --------
    >>> fwht([1.0, 2.0, 3.0, 4.0])
    array([10., -2., -4.,  0.])
    """
    array = np.asarray(a)
    if array.dtype.kind not in "fciub":
        raise TypeError(f"a must hold numbers, got dtype {array.dtype}")
    if array.ndim == 0:
        raise ValueError("a must have at least one dimension, got a scalar")
    axis = as_int(axis, "axis", low=-array.ndim, high=array.ndim - 1)
    length = array.shape[axis]
    if length < 1 or length & (length - 1):
        raise ValueError(
            f"a must have a power of two entries along axis {axis}, got {length}; pad it with zeros"
        )
    if array.dtype.kind == "c":
        result = fwht(np.real(array), axis) + 1j * fwht(np.imag(array), axis)
        if overwrite:
            array[...] = result
            return array
        return result.astype(array.dtype, copy=False)
    kept = array.dtype in (np.float32, np.float64)
    if not kept:
        array = array.astype(np.float64)
    out = array if overwrite and kept else np.empty_like(array)
    source, target = (np.moveaxis(x, axis, 0).reshape(length, -1) for x in (array, out))
    inside = np.shares_memory(target, out) if out.size else True
    width = _width(min(length, 1 << 13), array.itemsize, target.shape[1])
    small, large = (_rows_within(size, width, array.itemsize) for size in (L1_BYTES, L2_BYTES))
    if not inside:
        target = np.empty_like(source)
    _share(
        lambda i, j: _fwht_panel(source[:, i:j], target[:, i:j], length, small, large),
        target.shape[1],
        width,
    )
    if not inside:
        np.moveaxis(out, axis, 0)[...] = target.reshape(np.moveaxis(out, axis, 0).shape)
    return out


def sampled_fwht(
    a: Any, signs: np.ndarray, order: np.ndarray, rows: np.ndarray, padded: int, scale: float
) -> np.ndarray:
    """scale * (H [(diag(signs) a)[order]; 0])[rows] with `padded` rows in all, for a dense or sparse (n, d) `a`."""
    d = a.shape[1]
    dtype = np.dtype(np.float32 if a.dtype == np.float32 else np.float64)
    # A block as long as the sample balances the passes saved against the additions they are replaced by.
    length = min(padded, max(64, next_power_of_two(len(rows)) // 2))
    width = _width(length + len(rows), dtype.itemsize, d)
    small = _rows_within(L1_BYTES, width, dtype.itemsize)
    high, low = (rows // length).astype(np.int64), (rows % length).astype(np.int64)
    parity = np.array([i.bit_count() & 1 for i in range(padded // length)], dtype=np.uint8)
    signs = signs.astype(dtype, copy=False)
    out = np.empty((len(rows), d), dtype=dtype)

    def work(first: int, last: int) -> None:
        part = _panel(a, first, last)
        part = part.astype(dtype, copy=False)
        _sampled_panel(
            part,
            signs,
            order,
            high,
            low,
            parity,
            length,
            small,
            dtype.type(scale),
            out[:, first:last],
        )

    _share(work, d, width)
    return out
