"""Subsets of columns: which are tried, what each costs, and which is taken."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from whp.invariance._pac_invariance.bounds import violation
from whp.invariance._pac_invariance.environments import Environments, Metric
from whp.invariance._pac_invariance.minimax import minimax, residuals
from whp.progress import track
from whp.validate import as_int, as_sequence

__all__ = ["MOST", "Fitted", "as_subsets", "best", "every", "fit", "forward", "frame", "number"]

MOST = 8000  # subsets that are tried: all of 12 columns, or up to four of 20
BATCH = 2e6  # numbers of a batch of subsets
PIVOT = 1e-8  # share of a column's variance below which it repeats others
RELATIVE, ABSOLUTE = 1e-9, 1e-8  # what rounding may have moved a residual by


@dataclass(frozen=True, eq=False)
class Fitted:
    """The minimax head of one subset.

    Attributes
    ----------
    subset : tuple of int
        Columns, in order.
    w : ndarray
        Head of the scaled columns.
    residuals : ndarray, shape (m,)
        Of each environment.
    epsilon : float
        The largest of them, and a little for rounding.
    gap : float
        How far the largest residual may be above that of the best head, relative to it.
    unit : float
        Size that residuals are compared with: 1, or that of the gradients at zero.
    r2 : float
        Mean over environments of the share of variance explained.
    sound : bool
        Whether no column nearly repeats others in an environment.
    delta : float
        Share of the failure probability that this subset has.
    """

    subset: tuple[int, ...]
    w: np.ndarray
    residuals: np.ndarray
    epsilon: float
    gap: float
    unit: float
    r2: float
    sound: bool
    delta: float


def as_subsets(given: Any, names: Sequence[str], max_size: int | None) -> list[tuple[int, ...]]:
    """Subsets that a caller lists, as sorted tuples of column numbers."""
    made: list[tuple[int, ...]] = []
    for one in as_sequence(given, "subsets"):
        columns = []
        for c in as_sequence(one, "subsets"):
            if isinstance(c, str):
                if c not in names:
                    raise ValueError(
                        f"subsets: there is no column {c!r}; there are {', '.join(names)}"
                    )
                columns.append(names.index(c))
            else:
                columns.append(as_int(c, "subsets", low=0, high=len(names) - 1))
        if not columns:
            raise ValueError("subsets must not list the empty one, which is always invariant")
        if len(set(columns)) < len(columns):
            raise ValueError(f"subsets names a column twice: {list(one)}")
        made.append(tuple(sorted(columns)))
    if not made or len(set(made)) < len(made):
        raise ValueError("subsets must list at least one subset, and each once")
    if max_size is not None and max(map(len, made)) > max_size:
        raise ValueError("subsets has one larger than max_size; leave max_size out")
    return made


def every(p: int, max_size: int) -> list[tuple[int, ...]]:
    """All non-empty subsets of at most `max_size` of p columns."""
    return [S for size in range(1, max_size + 1) for S in combinations(range(p), size)]


def number(p: int, max_size: int) -> int:
    """How many non-empty subsets of at most `max_size` of p columns there are."""
    return sum(math.comb(p, size) for size in range(1, max_size + 1))


def fit(
    environments: Environments,
    subsets: Iterable[tuple[int, ...]],
    metric: Metric,
    delta_of: Callable[[int], float],
) -> list[Fitted]:
    """Minimax heads of all subsets, in their order; `delta_of` says which share of delta one of a size has."""
    by_size: dict[int, list[tuple[int, ...]]] = {}
    for S in subsets:
        by_size.setdefault(len(S), []).append(S)
    parts: list[np.ndarray] = []
    for size, group in by_size.items():
        step = max(1, int(BATCH / (len(environments) * (size + 1) ** 2)))
        array = np.array(group)
        parts += [array[i : i + step] for i in range(0, len(array), step)]
    return [
        one
        for part in track(parts, "subsets", len(parts))
        for one in _batch(environments, part, metric, delta_of(part.shape[1]))
    ]


def _batch(
    environments: Environments, subsets: np.ndarray, metric: Metric, delta: float
) -> list[Fitted]:
    M, z, pivots = environments.problem(subsets, metric)
    heads = minimax(M, z)
    found = residuals(M, z, heads.w)
    if metric == "excess":
        explained, excess = (z**2).sum(axis=2), found
    else:
        M, own, _ = environments.problem(subsets, "excess")
        explained, excess = (own**2).sum(axis=2), residuals(M, own, heads.w)
    r2 = (explained + 1 - environments.total - excess**2).mean(axis=1)
    units = np.linalg.norm(z, axis=2).max(axis=1) if metric == "gradient" else np.ones(len(subsets))
    return [
        Fitted(
            tuple(int(j) for j in subsets[i]),
            heads.w[i],
            found[i],
            limit(found[i], float(units[i])),
            optimality(found[i], float(heads.lower[i]), float(units[i])),
            float(units[i]),
            float(r2[i]),
            bool(pivots[i] > PIVOT),
            delta,
        )
        for i in range(len(subsets))
    ]


def limit(found: np.ndarray, unit: float) -> float:
    """The largest residual, and what rounding may have taken from it."""
    return float(found.max() * (1 + RELATIVE) + ABSOLUTE * unit)


def optimality(found: np.ndarray, lower: float, unit: float) -> float:
    """How far the largest residual is above a bound that no head is below, relative to it; 0 where it is rounding."""
    top = float(found.max())
    return 0.0 if top <= ABSOLUTE * unit else max(0.0, 1 - lower / top)


def forward(
    environments: Environments,
    p: int,
    max_size: int,
    metric: Metric,
    delta: float,
    eps: float | None,
) -> list[Fitted]:
    """Add one column at a time, that of the largest R² among those with ε̂ ≤ eps, or else of the smallest ε̂."""
    chosen: tuple[int, ...] = ()
    path: list[Fitted] = []

    def share(size: int) -> float:
        return delta / (max_size * math.comb(p, size))

    for _ in range(max_size):
        tries = [tuple(sorted((*chosen, j))) for j in range(p) if j not in chosen]
        found = fit(environments, tries, metric, share)
        path += found
        chosen = (best(found, eps) or min(found, key=lambda f: (not f.sound, f.epsilon))).subset
    return path


def best(path: Sequence[Fitted], eps: float | None) -> Fitted | None:
    """The subset that explains most, of those that are admissible; of equals the smaller."""
    kept = [f for f in path if f.sound and (eps is None or f.epsilon <= eps)]
    if not kept and eps is None:  # the certificate says that its columns repeat each other
        kept = list(path)
    return max(kept, key=lambda f: (f.r2, -len(f.subset)), default=None)


def frame(
    path: Sequence[Fitted], names: Sequence[str], draws: int, center: bool, eps: float | None
) -> pd.DataFrame:
    """A row a subset: columns, ε̂, η, mean R², whether it may be chosen."""
    return pd.DataFrame(
        {
            "subset": [", ".join(names[j] for j in f.subset) for f in path],
            "size": [len(f.subset) for f in path],
            "epsilon": [f.epsilon for f in path],
            "eta": [violation(draws, len(f.subset) + 1 + (not center), f.delta) for f in path],
            "r2": [f.r2 for f in path],
            "admissible": [f.sound and (eps is None or f.epsilon <= eps) for f in path],
        }
    )
