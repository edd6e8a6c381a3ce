"""Predictors and worst cases from counts, for finite alphabets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whp.invariance._causal_minimax.coding import Cells, Codes
from whp.invariance._causal_minimax.graph import Dag
from whp.invariance._causal_minimax.model import _mutable_first, joined_parents
from whp.invariance._causal_minimax.risk import Counts, Worst, several_nodes

__all__ = ["CellMeans", "Mechanism", "cell_means", "mechanisms", "play"]

DENSE_GAME = 2_000_000
MOST = 20_000_000  # combinations of which each may have its own rows


@dataclass(frozen=True, eq=False)
class CellMeans:
    """A predictor that looks up its cell; cells that half A has not seen get the mean of half A.

    Attributes
    ----------
    cells : Cells
    means : ndarray
    fill : float
    empty : int
        Possible cells without rows.
    """

    cells: Cells
    means: np.ndarray
    fill: float
    empty: int

    def __call__(self, codes: Codes) -> np.ndarray:
        """A prediction a row."""
        place = self.cells.of(codes)
        return np.where(place < 0, self.fill, self.means[np.maximum(place, 0)])


def cell_means(
    codes: Codes, y: np.ndarray, names: Sequence[str], weights: np.ndarray | None
) -> CellMeans:
    """Weighted means of `y` over cells of `names`.

    With the weights Π 1/p̂(m|pa) the mean of a cell is E[Y | x, do(mutable)]: the law in which the
    mutable variables are set, not observed. Without weights it is what ERM predicts.
    """
    cells = Cells(codes, names)
    place = cells.of(codes)
    mass = np.bincount(place, weights, cells.size)
    total = np.bincount(place, y if weights is None else y * weights, cells.size)
    fill = float(y.mean())
    means = np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), fill)
    empty = codes.product(names) - int((mass > 0).sum())
    # A weighted mean of values may leave their range by rounding.
    return CellMeans(cells, np.clip(means, y.min(), y.max()), fill, empty)


@dataclass(frozen=True, eq=False)
class Mechanism:
    """One mutable variable, or several that are taken as one, in half A.

    Attributes
    ----------
    nodes : tuple of str
    parents : tuple of str
        Those that are not mutable themselves when several are joined.
    cells : Cells
        Of the parents.
    support : ndarray of bool, shape (P, m)
        Pairs that half A has seen in at least the share asked for.
    rows : ndarray, shape (P, m)
        Rows of half A.
    """

    nodes: tuple[str, ...]
    parents: tuple[str, ...]
    cells: Cells
    support: np.ndarray
    rows: np.ndarray

    def weights(self, codes: Codes) -> np.ndarray:
        """1/p̂(m|pa) of rows of half A."""
        place, own = self.cells.of(codes), codes.key(self.nodes)
        return self.rows.sum(axis=1)[place] / self.rows[place, own]

    def outside(self, codes: Codes) -> np.ndarray:
        """Rows whose pair is not in the support."""
        place, own = self.cells.of(codes), codes.key(self.nodes)
        known = (place >= 0) & (own >= 0)
        return ~known | ~self.support[np.maximum(place, 0), np.maximum(own, 0)]


def mechanism(
    codes: Codes, nodes: Sequence[str], parents: Sequence[str], support: float
) -> Mechanism:
    """What half A shows of P(nodes | parents)."""
    cells = Cells(codes, parents)
    width = codes.product(nodes)
    if cells.size * width > MOST:
        raise ValueError(
            f"mutable: {', '.join(nodes)} and their parents have {cells.size * width:,} combinations; take "
            "coarser bins, fewer words or fewer mutable variables"
        )
    place = cells.of(codes) * width + codes.key(nodes)
    rows = np.bincount(place, minlength=cells.size * width).reshape(cells.size, width)
    share = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
    return Mechanism(tuple(nodes), tuple(parents), cells, (rows > 0) & (share >= support), rows)


def mechanisms(codes: Codes, dag: Dag, support: float) -> tuple[list[Mechanism], Mechanism | None]:
    """Each mutable variable by itself, and all as one where no stable variable lies between them."""
    single = [mechanism(codes, [m], dag.parents[m], support) for m in dag.mutable]
    if len(single) == 1:
        return single, single[0]
    above = joined_parents(dag)
    if not dag.mutable or above is None:
        return single, None
    return single, mechanism(codes, dag.mutable, above, support)


def counts(one: Mechanism, codes: Codes, losses: np.ndarray, known: bool) -> Counts:
    """Half B by cell.

    Parameters
    ----------
    one : Mechanism
        From half A.
    codes : Codes
        Half B.
    losses : ndarray
        In units of the largest possible one.
    known : bool
        Whether the parents' alphabets were known beforehand; else there is one more cell, for values
        that half A has not seen.
    """
    place, own = one.cells.of(codes), codes.key(one.nodes)
    P, width = one.support.shape
    place = np.where(place < 0, P, place)  # a last cell without support
    parents = np.bincount(place, minlength=P + 1)
    inside = own >= 0
    flat = place[inside] * width + own[inside]
    rows = np.bincount(flat, minlength=(P + 1) * width).reshape(P + 1, width)
    summed = np.bincount(flat, losses[inside], (P + 1) * width).reshape(P + 1, width)
    support = np.vstack([one.support, np.zeros((1, width), bool)])
    free = int(support.any(axis=1).sum())
    possible = codes.product(one.parents) + (0 if known else 1)
    kept = (parents > 0) | support.any(axis=1)
    return Counts(
        codes.n,
        parents[kept],
        rows[kept],
        summed[kept],
        support[kept],
        possible,
        free * math.log(width),
        np.flatnonzero(kept),
    )


def play(
    single: Sequence[Mechanism],
    dag: Dag,
    codes: Codes,
    losses: np.ndarray,
    rng: np.random.Generator,
) -> Worst:
    """The game of several mutable variables on the rows of half B, without a limit for its error."""
    used = {*dag.mutable, *(p for one in single for p in one.parents)}
    order = _mutable_first(dag, used)
    if codes.product(order) > DENSE_GAME:
        raise ValueError(
            f"mutable: their parents have {codes.product(order):,} cells together; take coarser bins "
            "or fewer mutable variables"
        )
    key = codes.key(order)
    inside = key >= 0
    weights = np.ones(codes.n)
    allowed, parents = {}, {}
    for one in single:
        (node,) = one.nodes
        place, own = one.cells.of(codes), codes.key(one.nodes)
        width = one.support.shape[1]
        seen = (place >= 0) & (own >= 0)
        rows = np.bincount(place[seen] * width + own[seen], minlength=one.support.size)
        rows = rows.reshape(one.support.shape)
        share = rows / np.maximum(rows.sum(axis=1, keepdims=True), 1)
        flat = np.maximum(place, 0), np.maximum(own, 0)
        weights = np.where(seen, weights / np.maximum(share[flat], 1e-300), 0.0)
        inside &= seen
        sizes = [codes.sizes[p] for p in one.parents]
        allowed[node] = one.support.reshape(*sizes, width)
        parents[node] = one.parents
    gains = np.bincount(
        key[inside], (losses * weights)[inside] / codes.n, codes.product(order)
    ).reshape([codes.sizes[v] for v in order])
    return several_nodes(gains, order, parents, allowed, rng)
