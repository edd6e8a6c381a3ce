"""Erasure codes over a group of nodes that all carry data: parity rotates, as in RAID 5 and 6, and any m lost nodes come back.

Stripe s = 0..n−1 has its parity rows r = 0..m−1 on nodes (s + r) mod n; the other k = n − m nodes, ascending, are its data columns.
So every node is a data node in k stripes, and its shard is cut into k blocks, used in ascending order of the stripes. Parity row r
is Σ_c a_rc · block_c in GF(2⁸), polynomial 0x11d, with a_rc = 2^(rc) for m ≤ 3 (plain XOR, RAID 6, triple parity) and the Cauchy
matrix 1/(r ⊕ (m + c)) for m ≥ 4: with a fourth power row the code loses distance at k = 22 (columns 0, 10 and 21).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from whp.validate import as_choice, as_int

__all__ = ["ErasureGroup", "gf_inverse", "gf_product", "tables"]

CHUNK = 256 * 1024
COMPILED_FROM = 128 * 1024
Bytes = np.ndarray


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """Product table (256, 256) and inverses (256) of GF(2⁸)."""
    power, log = np.zeros(512, dtype=np.int64), np.zeros(256, dtype=np.int64)
    x = 1
    for i in range(255):
        power[i], log[x] = x, i
        x = (x << 1) ^ (0x11D if x & 0x80 else 0)
    power[255:510] = power[:255]
    product = power[log[:, None] + log[None, :]].astype(np.uint8)
    product[0, :] = product[:, 0] = 0
    inverse = np.zeros(256, dtype=np.uint8)
    inverse[1:] = power[255 - log[1:]]
    return product, inverse


def gf_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Matrix product over GF(2⁸), from tables: slow and plain, what faster code is tested against."""
    product = tables()[0]
    return np.bitwise_xor.reduce(product[a[:, :, None], b[None, :, :]], axis=1)


def gf_inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a square matrix over GF(2⁸) by Gauss and Jordan.

    Raises
    ------
    ValueError
        If it is singular.
    """
    product, inverse = tables()
    u = len(matrix)
    work = np.concatenate([matrix.astype(np.uint8), np.eye(u, dtype=np.uint8)], axis=1)
    for i in range(u):
        pivots = np.flatnonzero(work[i:, i])
        if not len(pivots):
            raise ValueError("matrix must be invertible over GF(2⁸), got a singular one")
        j = i + int(pivots[0])
        work[[i, j]] = work[[j, i]]
        work[i] = product[inverse[work[i, i]], work[i]]
        for other in range(u):
            if other != i:
                work[other] ^= product[work[other, i], work[i]]
    return work[:, u:]


def _words(block: Bytes) -> np.ndarray:
    """The bytes as 64-bit words: a view where they are aligned, else a copy with zeros at the end."""
    if len(block) % 8 == 0 and block.ctypes.data % 8 == 0 and block.flags.c_contiguous:
        return block.view(np.uint64)
    padded = np.zeros(-(-len(block) // 8) * 8, dtype=np.uint8)
    padded[: len(block)] = block
    return padded.view(np.uint64)


def _double(x: np.ndarray) -> np.ndarray:
    return ((x & np.uint64(0x7F7F7F7F7F7F7F7F)) << np.uint64(1)) ^ (
        ((x >> np.uint64(7)) & np.uint64(0x0101010101010101)) * np.uint64(0x1D)
    )


class ErasureGroup:
    """A code over `n` nodes of which any `m` may be lost.

    Parameters
    ----------
    n : int
        Nodes, at most 255.
    m : int
        Losses to survive, 0 ≤ m < n.
    codec : {"auto", "power", "cauchy", "replica"}
        Powers of two (m ≤ 3), a Cauchy matrix, or, as a baseline, whole copies of each shard on the m next nodes.
        By default powers where they can do it, else Cauchy.
    kernel : {"auto", "numba", "numpy"}
        Compiled, or chunks of numpy; by default compiled from 128 KiB on, since a process that codes little should not wait for it.

    Raises
    ------
    ValueError
        If m nodes of n cannot be survived with that codec.
    """

    def __init__(self, n: int, m: int, codec: str = "auto", *, kernel: str = "auto") -> None:
        self.n, self.m = as_int(n, "n", low=1, high=255), as_int(m, "m", low=0)
        if self.m >= self.n:
            raise ValueError(
                f"m must be less than n, got m={m} of n={n} nodes: a node without data could not be rebuilt"
            )
        self.k = self.n - self.m
        as_choice(codec, "codec", ("auto", "power", "cauchy", "replica"))
        self.kernel = as_choice(kernel, "kernel", ("auto", "numba", "numpy"))
        if codec == "power" and self.m > 3:
            raise ValueError(
                f"codec='power' survives at most m=3 losses, got m={m}: with a fourth row of powers columns 0, 10 and 21 are "
                "dependent; take codec='cauchy'"
            )
        self.codec = ("power" if self.m <= 3 else "cauchy") if codec == "auto" else codec
        product, inverse = tables()
        self.matrix = np.ones((self.m, self.k), dtype=np.uint8)
        if self.codec == "power":
            for c in range(1, self.k):
                for r in range(self.m):  # 2^(rc): multiply by 2^r from column to column
                    self.matrix[r, c] = product[self.matrix[r, c - 1], 1 << r]
        elif self.codec == "cauchy":
            x, y = np.arange(self.m)[:, None], self.m + np.arange(self.k)[None, :]
            self.matrix = inverse[x ^ y]

    def __repr__(self) -> str:
        return f"ErasureGroup(n={self.n}, m={self.m}, codec={self.codec!r})"

    @property
    def overhead(self) -> float:
        """Bytes of parity a byte of data: m/(n − m), or m for whole copies."""
        return float(self.m) if self.codec == "replica" else self.m / self.k

    def parity_nodes(self, stripe: int) -> list[int]:
        """Node of each parity row of a stripe."""
        return [(stripe + r) % self.n for r in range(self.m)]

    def data_nodes(self, stripe: int) -> list[int]:
        """Nodes of the columns of a stripe, ascending."""
        parity = set(self.parity_nodes(stripe))
        return [node for node in range(self.n) if node not in parity]

    def data_stripes(self, node: int) -> list[int]:
        """Stripes of the blocks 0..k−1 of a node's shard, ascending."""
        return [s for s in range(self.n) if (node - s) % self.n >= self.m]

    def parity_stripes(self, node: int) -> list[int]:
        """Stripe of each parity row 0..m−1 that a node holds."""
        return [(node - r) % self.n for r in range(self.m)]

    def block_of(self, node: int, stripe: int) -> int:
        """Which block of a data node's shard belongs to a stripe."""
        return self.data_stripes(node).index(stripe)

    def block_length(self, length: int) -> int:
        """Bytes in a block of shards of that length."""
        return length if self.codec == "replica" else -(-length // self.k)

    # Kernels

    def _compiled(self, words: np.ndarray) -> bool:
        return self.kernel == "numba" or (self.kernel == "auto" and words.nbytes >= COMPILED_FROM)

    def _rows(self, columns: Sequence[Bytes]) -> list[np.ndarray]:
        """Parity rows, as words, of a stripe's columns."""
        words = [_words(column) for column in columns]
        size = len(words[0])
        if self.m == 0 or size == 0:
            return [np.zeros(size, dtype=np.uint64) for _ in range(self.m)]
        if self.codec == "cauchy":
            rows = [np.zeros(size, dtype=np.uint64) for _ in range(self.m)]
            for row, factors in zip(rows, self.matrix, strict=True):
                for column, factor in zip(words, factors, strict=True):
                    self.add(row, column, int(factor))
            return rows
        if self.m == 1 or not self._compiled(words[0]):
            return self._rows_numpy(words)
        from whp.distributed._in_memory_fault_tolerance import kernels

        rows = [np.zeros(size if r < self.m else 0, dtype=np.uint64) for r in range(3)]
        left = words[::-1]
        while len(left) >= 4:
            kernels.horner_four(*rows, *left[:4])
            left = left[4:]
        for column in left:
            kernels.horner(*rows, column)
        return rows[: self.m]

    def _rows_numpy(self, words: list[np.ndarray]) -> list[np.ndarray]:
        rows = [np.zeros(len(words[0]), dtype=np.uint64) for _ in range(self.m)]
        step = CHUNK // 8
        for start in range(0, len(words[0]), step):
            part = slice(start, start + step)
            for column in words[::-1]:
                for r, row in enumerate(rows):
                    chunk = row[part]
                    for _ in range(r):
                        chunk = _double(chunk)
                    np.bitwise_xor(chunk, column[part], out=row[part])
        return rows

    def add(self, to: np.ndarray, words: np.ndarray, factor: int) -> None:
        """`to` += factor · words, in place, both of 64-bit words."""
        if factor == 1:
            np.bitwise_xor(to, words, out=to)
        elif factor and self._compiled(words):
            from whp.distributed._in_memory_fault_tolerance import kernels

            kernels.add_multiple(to, words, factor)
        elif factor:
            times, to_bytes, from_bytes = (
                tables()[0][factor],
                to.view(np.uint8),
                words.view(np.uint8),
            )
            for start in range(0, len(to_bytes), CHUNK):
                to_bytes[start : start + CHUNK] ^= times[from_bytes[start : start + CHUNK]]

    # Stripes

    def restore_stripe(
        self, data: Sequence[Bytes | None], parity: Sequence[Bytes | None]
    ) -> list[Bytes]:
        """All columns of a stripe of which some are None, from those that are there and as many parity rows.

        Parameters
        ----------
        data : sequence of k arrays of uint8 or None
        parity : sequence of m arrays of uint8 or None

        Raises
        ------
        ValueError
            If more is missing than the parity rows can give.
        """
        unknown = [c for c, block in enumerate(data) if block is None]
        rows = [r for r, block in enumerate(parity) if block is not None][: len(unknown)]
        if len(rows) < len(unknown):
            raise ValueError(
                f"{len(unknown)} blocks of a stripe are lost, and {len(rows)} parity blocks are left"
            )
        if not unknown:
            return [block for block in data if block is not None]
        length = next(len(block) for block in (*data, *parity) if block is not None)
        syndromes = []
        for r in rows:
            syndrome = _words(np.array(parity[r]))
            for c, block in enumerate(data):
                if block is not None:
                    self.add(syndrome, _words(block), int(self.matrix[r, c]))
            syndromes.append(syndrome)
        inverse = gf_inverse(self.matrix[np.ix_(rows, unknown)])
        found: list[Any] = list(data)
        for c, factors in zip(unknown, inverse, strict=True):
            total = np.zeros(len(syndromes[0]), dtype=np.uint64)
            for syndrome, factor in zip(syndromes, factors, strict=True):
                self.add(total, syndrome, int(factor))
            found[c] = total.view(np.uint8)[:length]
        return found

    def parity_of_stripe(self, data: Sequence[Bytes]) -> list[Bytes]:
        """Parity rows of a stripe's columns."""
        return [row.view(np.uint8)[: len(data[0])] for row in self._rows(data)]

    # Shards

    def _checked(self, shards: Any, argument: str) -> tuple[list[Bytes | None], int]:
        if isinstance(shards, str | bytes) or not hasattr(shards, "__len__"):
            raise TypeError(
                f"{argument} must be a sequence of {self.n} arrays of bytes, got {type(shards).__name__}"
            )
        if len(shards) != self.n:
            raise ValueError(
                f"{argument} must hold one entry for each of {self.n} nodes, got {len(shards)}"
            )
        found: list[Bytes | None] = []
        for i, shard in enumerate(shards):
            if shard is None:
                found.append(None)
                continue
            if isinstance(shard, bytes | bytearray | memoryview):
                shard = np.frombuffer(shard, dtype=np.uint8)
            if not isinstance(shard, np.ndarray) or shard.dtype != np.uint8:
                kind = getattr(shard, "dtype", type(shard).__name__)
                raise TypeError(f"{argument}[{i}] must be bytes or an array of uint8, got {kind}")
            found.append(shard)
        lengths = {shard.shape for shard in found if shard is not None}
        if len(lengths) > 1:
            raise ValueError(
                f"{argument} must be equally long, got shapes {sorted(lengths)}; pad the short ones with zeros"
            )
        if not lengths:
            return found, 0
        return found, next(iter(lengths))[-1]

    def _blocks(self, shard: Bytes) -> list[Bytes]:
        size = self.block_length(len(shard))
        if size * self.k != len(shard):
            shard = np.concatenate([shard, np.zeros(size * self.k - len(shard), dtype=np.uint8)])
        return [shard[j * size : (j + 1) * size] for j in range(self.k)]

    def encode(self, shards: Any) -> list[Bytes]:
        """Parity that each node holds.

        Parameters
        ----------
        shards : sequence of n arrays of uint8 (or bytes), equally long
            What each node has; a length that is no multiple of k is padded with zeros.

        Returns
        -------
        list of n arrays, shape (m, ⌈length/k⌉)
            Row r of node i belongs to stripe (i − r) mod n. With ``codec="replica"`` it is the shard of node (i − 1 − r) mod n.
        """
        given, length = self._checked(shards, "shards")
        if any(shard is None or shard.ndim != 1 for shard in given):
            raise ValueError(
                "shards must be one-dimensional and complete to be encoded, got None or more dimensions"
            )
        whole = [shard for shard in given if shard is not None]
        size = self.block_length(length)
        parity = [np.zeros((self.m, size), dtype=np.uint8) for _ in range(self.n)]
        if self.codec == "replica":
            for i in range(self.n):
                for r in range(self.m):
                    parity[i][r] = whole[(i - 1 - r) % self.n]
            return parity
        blocks = [self._blocks(shard) for shard in whole]
        for s in range(self.n):
            columns = [blocks[node][self.block_of(node, s)] for node in self.data_nodes(s)]
            for r, row in enumerate(self._rows(columns)):
                parity[(s + r) % self.n][r] = row.view(np.uint8)[:size]
        return parity

    def decode(self, shards: Any, parity: Any, *, length: int | None = None) -> list[Bytes]:
        """All shards, from those of the nodes that are left and their parity.

        Parameters
        ----------
        shards : sequence of n arrays of uint8 or None
        parity : sequence of n arrays (m, ⌈length/k⌉) of uint8 or None
        length : int, optional
            Of a shard, where none is left.

        Raises
        ------
        ValueError
            If more than m nodes are lost, or argument shapes do not agree.
        """
        given, found = self._checked(shards, "shards")
        rows, size = self._checked(parity, "parity")
        lost = [i for i in range(self.n) if given[i] is None]
        if len(lost) > self.m:
            raise ValueError(
                f"{len(lost)} of {self.n} nodes are lost ({lost}), and the code survives {self.m}"
            )
        if len(lost) == self.n or all(shard is None for shard in given):
            raise ValueError("shards must have at least one that is not None")
        length = found if length is None else as_int(length, "length", low=0)
        if any(
            row is not None and row.shape != (self.m, self.block_length(length)) for row in rows
        ):
            wanted = (self.m, self.block_length(length))
            raise ValueError(
                f"parity must hold arrays of shape {wanted}, got one with rows of {size} bytes"
            )
        whole = [shard for shard in given if shard is not None]
        if not lost:
            return whole
        if self.codec == "replica":
            return self._decode_copies(given, rows)
        blocks: list[list[Any]] = [
            [None] * self.k if shard is None else self._blocks(shard) for shard in given
        ]
        for s in range(self.n):
            nodes = self.data_nodes(s)
            at = [self.block_of(node, s) for node in nodes]
            columns = [blocks[node][j] for node, j in zip(nodes, at, strict=True)]
            holders = [rows[node] for node in self.parity_nodes(s)]
            mine = [None if held is None else held[r] for r, held in enumerate(holders)]
            for node, j, block in zip(nodes, at, self.restore_stripe(columns, mine), strict=True):
                blocks[node][j] = block
        return [
            np.concatenate(blocks[i])[:length] if shard is None else shard
            for i, shard in enumerate(given)
        ]

    def _decode_copies(self, shards: list[Bytes | None], copies: list[Bytes | None]) -> list[Bytes]:
        found = []
        for i, shard in enumerate(shards):
            held = [copies[(i + 1 + r) % self.n] for r in range(self.m)]
            have = (
                shard
                if shard is not None
                else next((c[r] for r, c in enumerate(held) if c is not None), None)
            )
            if have is None:
                raise ValueError(f"node {i} is lost, and so are all copies of its shard")
            found.append(have)
        return found
