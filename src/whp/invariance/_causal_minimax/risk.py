"""Worst cases: what an adversary who sets the mutable mechanisms can reach, and limits for it from rows.

The risk is linear in every mechanism, so that the worst ones are functions of the parents. One mutable node is
solved cell by cell; of several a lower value comes from functions that each see their own parents, an upper one
from an adversary who sees more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Counts", "Worst", "lower_limit", "one_node", "several_nodes", "upper_limit", "weissman"]

FUNCTIONS = 20_000  # of all mutable nodes but one, that are tried one by one
STARTS = 20


@dataclass(frozen=True)
class Worst:
    """The value of the adversary's game.

    Attributes
    ----------
    lower, upper : float
        Equal for one mutable node.
    choice : dict of str to ndarray
        Of each mutable node the value that attains `lower`, in each cell of its parents.
    exact : bool
        Whether `lower` is the worst case itself: all functions were compared.
    """

    lower: float
    upper: float
    choice: dict[str, np.ndarray]
    exact: bool = True


def one_node(gains: np.ndarray, allowed: np.ndarray | None = None) -> tuple[float, np.ndarray]:
    """Σ over parent cells of the largest gain, and where it is; cells with nothing allowed gain 0."""
    masked = gains if allowed is None else np.where(allowed, gains, -np.inf)
    best = masked.max(axis=1)
    some = np.isfinite(best)
    return float(best[some].sum()), np.where(some, masked.argmax(axis=1), -1)


def several_nodes(
    gains: np.ndarray,
    axes: Sequence[str],
    parents: Mapping[str, Sequence[str]],
    allowed: Mapping[str, np.ndarray] | None = None,
    rng: np.random.Generator | None = None,
) -> Worst:
    """The game of several mutable nodes.

    Parameters
    ----------
    gains : ndarray
        Expected loss times the probability of all factors that are kept, an axis a variable.
    axes : sequence of str
        The variables, causes first; the mutable ones are the keys of `parents`.
    parents : mapping of str to sequence of str
        Of each mutable node, in the order of its `allowed`.
    allowed : mapping of str to ndarray of bool, optional
        Which values a mechanism may take: its parents' axes, then its own.
    rng : Generator, optional
        Of the starts where functions are too many.
    """
    nodes = list(parents)
    place = {a: i for i, a in enumerate(axes)}

    def spread(array: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """An array over `names` broadcast against `gains`."""
        order = sorted(range(len(names)), key=lambda i: place[names[i]])
        shape = [1] * gains.ndim
        for i in order:
            shape[place[names[i]]] = array.shape[i]
        return array.transpose(order).reshape(shape)

    def reduced(array: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Sums over all axes but `names`, in their order."""
        keep = [place[n] for n in names]
        summed = array.sum(axis=tuple(i for i in range(array.ndim) if i not in keep))
        return summed.transpose(np.argsort(np.argsort(keep)))

    own = {v: (*parents[v], v) for v in nodes}
    size = {v: gains.shape[place[v]] for v in nodes}
    shape = {v: tuple(gains.shape[place[p]] for p in parents[v]) for v in nodes}
    may = {
        v: np.ones((*shape[v], size[v]), bool) if allowed is None else np.asarray(allowed[v])
        for v in nodes
    }

    def indicator(v: str, choice: np.ndarray) -> np.ndarray:
        return spread((np.arange(size[v]) == choice[..., None]).astype(float), own[v])

    def best_reply(v: str, others: np.ndarray) -> tuple[float, np.ndarray]:
        table = reduced(others, own[v])
        table = np.where(may[v], table, -np.inf)
        choice = np.where(may[v].any(axis=-1), table.argmax(axis=-1), -1)
        best = table.max(axis=-1)
        return float(best[np.isfinite(best)].sum()), choice

    counts = {v: math.prod(max(int(c), 1) for c in may[v].sum(axis=-1).ravel()) for v in nodes}
    last = max(nodes, key=lambda v: counts[v])
    others = [v for v in nodes if v != last]
    few = math.prod(counts[v] for v in others) <= FUNCTIONS
    best, choice = -math.inf, {}
    if few:
        options = {v: [np.flatnonzero(row) for row in may[v].reshape(-1, size[v])] for v in others}
        for picked in itertools.product(
            *(
                itertools.product(*[o if len(o) else np.array([-1]) for o in options[v]])
                for v in others
            )
        ):
            table = gains
            made = {v: np.array(c).reshape(shape[v]) for v, c in zip(others, picked, strict=True)}
            for v, c in made.items():
                table = table * indicator(v, c)
            value, reply = best_reply(last, table)
            if value > best:
                best, choice = value, {**made, last: reply}
    else:
        generator = np.random.default_rng(rng)
        for _ in range(STARTS):
            noise = {v: np.where(may[v], generator.random(may[v].shape), -1.0) for v in nodes}
            made = {v: np.where(may[v].any(-1), noise[v].argmax(-1), -1) for v in nodes}
            value, before = -1.0, -math.inf
            while value > before:  # each reply is the best one, so that values rise and end
                before = value
                for v in nodes:
                    table = gains
                    for u in nodes:
                        if u != v:
                            table = table * indicator(u, made[u])
                    value, made[v] = best_reply(v, table)
            if value > best:
                best, choice = value, dict(made)
    # An adversary with perfect recall sees all axes before its own: sums and maxima from the last to the first.
    table = gains
    for name in reversed(axes):
        if name in parents:
            open_ = spread(may[name], own[name])
            open_ = open_.reshape(open_.shape[: table.ndim])  # parents come before
            table = np.where(open_, table, -np.inf)
            table = table.max(axis=-1)
            table = np.where(np.isfinite(table), table, 0.0)
        else:
            table = table.sum(axis=-1)
    return Worst(best, max(float(table), best), choice, few)


@dataclass(frozen=True)
class Counts:
    """Half B by parent cell and value of the mutable node: all that the limits need.

    Attributes
    ----------
    n : int
        Rows of half B.
    parents : ndarray, shape (P,)
        Rows of each parent cell that half A or B has seen.
    rows : ndarray, shape (P, m)
        Rows of each cell.
    losses : ndarray, shape (P, m)
        Sum of losses in each cell, in units of the largest possible loss.
    support : ndarray of bool, shape (P, m)
        Cells that the adversary may use, fixed by half A.
    cells : int
        Parent cells that there could be.
    functions : float
        ln of the number of functions from parent cells to values.
    index : ndarray, shape (P,)
        Number of each parent cell in the mechanism; that of unknown ones is one more than it has.
    """

    n: int
    parents: np.ndarray
    rows: np.ndarray
    losses: np.ndarray
    support: np.ndarray
    cells: int
    functions: float
    index: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """p̂(pa)."""
        return self.parents / self.n

    @property
    def means(self) -> np.ndarray:
        """Mean loss of each cell, NaN where it is empty."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(self.rows > 0, self.losses / self.rows, np.nan)

    @property
    def point(self) -> tuple[float, np.ndarray]:
        """The worst case of the cell means, and the values that attain it; never a bound."""
        usable = self.support & (self.rows > 0)
        value, choice = one_node(self.share[:, None] * np.nan_to_num(self.means), usable)
        bare = ~usable.any(axis=1)  # nothing to choose: what was seen there
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = self.losses.sum(axis=1) / self.n
        return value + float(seen[bare].sum()), choice


def weissman(cells: int, n: int, delta: float) -> float:
    """Half of the largest distance in ℓ1 between shares and probabilities, with probability 1 − delta."""
    if cells <= 1:
        return 0.0
    sets = cells * math.log(2) + math.log1p(-(2.0 ** (1 - cells)))
    return 0.5 * math.sqrt(2 * (sets + math.log(1 / delta)) / n)


def _levels(c: Counts, delta: float, classes: int) -> tuple[float, np.ndarray]:
    """L, and a grid of λ that contains the scale of the best one: √(V/8L) with 1/n ≤ V ≤ 1."""
    L = math.log(2 * classes / delta) + c.functions
    return L, np.geomspace(0.5 * math.sqrt(1 / (8 * c.n * L)), 1.0, 40)


def upper_limit(c: Counts, delta: float, classes: int = 1) -> float:
    """No environment of the claim has a larger mean loss, for all `classes` at once, in units of the largest loss.

    Hoeffding's inequality for every function from parents to values at δ/2 together, made separable
    over parent cells by √(LV/2) ≤ λL + V/(8λ), and Weissman's for the shares of parents at δ/2.
    """
    L, grid = _levels(c, delta, classes)
    p, bare = c.share[:, None], ~c.support.any(axis=1)
    means, rows = np.nan_to_num(c.means), np.maximum(c.rows, 1)

    def value(lam: float) -> float:
        cell = p * np.minimum(means, 1.0) + p**2 / (8 * lam * rows)
        cell = np.where(c.rows > 0, cell, p)
        best = np.where(c.support, cell, -np.inf).max(axis=1)
        return lam * L + float(np.where(bare, c.share, best).sum())

    return min(_best(value, grid) + weissman(c.cells, c.n, delta / 2), 1.0)


def lower_limit(c: Counts, delta: float, classes: int = 1) -> float:
    """Some environment of the claim has at least this mean loss, for all `classes` at once."""
    L, grid = _levels(c, delta, classes)
    p, usable = c.share[:, None], c.support & (c.rows > 0)
    means, rows = np.nan_to_num(c.means), np.maximum(c.rows, 1)

    def value(lam: float) -> float:
        cell = np.where(usable, p * means - p**2 / (8 * lam * rows), -np.inf)
        best = cell.max(axis=1)
        return lam * L - float(best[np.isfinite(best)].sum())

    return max(-_best(value, grid) - weissman(c.cells, c.n, delta / 2), 0.0)


def _best(value, grid: np.ndarray) -> float:
    """Smallest value over λ: on a grid, then between the neighbours of its best point. Any λ is valid."""
    from scipy.optimize import minimize_scalar

    found = [value(float(g)) for g in grid]
    i = int(np.argmin(found))
    ends = np.log(grid[max(i - 1, 0)]), np.log(grid[min(i + 1, len(grid) - 1)])
    made = minimize_scalar(
        lambda x: value(math.exp(x)), bounds=ends, method="bounded", options={"xatol": 1e-9}
    )
    return min(float(made.fun), found[i])
