"""Recovery curves as a matrix, and what policies without a plan earn on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from whp.validate import as_floats, as_frame

__all__ = ["as_curves", "falls", "myopic_rate", "named_curves", "rate_of", "static_arms"]

GAP = re.compile(r"(?:gap|d|R|x|day|week|period)?[ _]?(\d+)", re.IGNORECASE)
ROUNDING = 1e-9  # a fall of less, as a share of the largest reward, is rounding


def as_curves(curves: Any, name: str = "curves") -> Float[np.ndarray, "N D"]:
    """Recovery curves as a matrix, those of unequal length padded with their last value."""
    return named_curves(curves, name)[0]


def named_curves(
    curves: Any, name: str = "curves"
) -> tuple[Float[np.ndarray, "N D"], list[str] | None]:
    """Recovery curves, and the arms' names where a data frame has them.

    They are in a first column whose name is no gap, or in the index, as after a pivot.
    """
    if curves is None:
        raise TypeError(f"{name} must be an array of numbers, got None")
    table = as_frame(curves)
    if not isinstance(table, pd.DataFrame):
        return _matrix(table, name), None
    names = None if table.index.equals(pd.RangeIndex(len(table))) else table.index
    places = [GAP.fullmatch(str(c).strip()) for c in table.columns]
    first = table.iloc[:, 0] if table.shape[1] else None
    if first is not None and (places[0] is None or first.dtype.kind not in "iufb"):
        names, places, table = first, places[1:], table.iloc[:, 1:]
    odd = [str(c) for c, place in zip(table.columns, places, strict=True) if place is None]
    if odd or not places:
        raise ValueError(
            f"{name} must hold a log, with columns arm, time and reward (or named by these "
            "options), or curves, with columns 1, 2, 3, … after a first one of names; got "
            f"{', '.join(odd)}"
        )
    gaps = [int(place.group(1)) for place in places if place]
    if gaps not in (list(range(1, len(gaps) + 1)), list(range(len(gaps)))):
        raise ValueError(
            f"columns of {name} must be 1, 2, 3, … in order, got {', '.join(map(str, gaps[:12]))}"
        )
    if gaps[0] == 0 and [str(c) for c in table.columns] != [str(g) for g in gaps]:
        raise ValueError(f"columns of {name} must begin with gap 1: pulled in the period before")
    return _matrix(table.to_numpy(), name), None if names is None else [str(n) for n in names]


def _matrix(curves: Any, name: str) -> Float[np.ndarray, "N D"]:
    if hasattr(curves, "to_numpy"):
        curves = curves.to_numpy()
    if np.ma.isMaskedArray(curves):
        curves = as_floats(curves, name)
    if isinstance(curves, str | bytes) or not np.iterable(curves):
        raise TypeError(f"{name} must hold real numbers, an arm a row, got {type(curves).__name__}")
    rows = [np.atleast_1d(as_floats(row, name)) for row in curves]
    if not rows or any(r.ndim != 1 or len(r) == 0 for r in rows):
        raise ValueError(f"{name} must have at least one arm, and each arm at least one gap")
    D = max(map(len, rows))
    R = np.stack([np.concatenate([r, np.full(D - len(r), r[-1])]) for r in rows])
    if not np.isfinite(R).all() or (R < 0).any():
        i, d = np.argwhere(~np.isfinite(R) | (R < 0))[0]
        raise ValueError(
            f"{name} must be finite and not negative, arm {i} has {R[i, d]:g} at d = {d + 1}"
        )
    if R.max() > 1e150 or 0 < R.max() < 1e-150:
        raise ValueError(f"{name} must be of a size between 1e-150 and 1e150, got {R.max():g}")
    return R


def falls(R: Float[np.ndarray, "N D"], tol: float = ROUNDING) -> tuple[int, int] | None:
    """Arm and gap of the first fall beyond tolerance."""
    drop = -np.diff(R, axis=1) > tol * float(R.max())
    if not drop.any():
        return None
    i, d = np.argwhere(drop)[0]
    return int(i), int(d) + 2


def fallen(R: Float[np.ndarray, "N D"], fall: tuple[int, int], names: Sequence[str] = ()) -> str:
    """A fall in words."""
    i, d = fall
    who = f"arm {i}" + (f" ({names[i]})" if names else "")
    return f"{who} pays {R[i, d - 2]:g} at d = {d - 1} and {R[i, d - 1]:g} at d = {d}"


def rate_of(R: Float[np.ndarray, "N D"], period: Int[np.ndarray, " N"]) -> float:
    """Σ R_i(d_i)/d_i over the arms that are scheduled: long-run reward a period of a timetable."""
    used = np.flatnonzero(period)
    d = period[used]
    return float((R[used, np.minimum(d, R.shape[1]) - 1] / d).sum())


def static_arms(R: Float[np.ndarray, "N D"], K: int) -> Int[np.ndarray, " k"]:
    """The K arms that pay most when always pulled; of equals those with the smallest numbers."""
    return np.argsort(-R[:, 0], kind="stable")[:K]


def myopic_rate(
    R: Float[np.ndarray, "N D"], K: int, periods: int = 2000, lookahead: int = 1
) -> float:
    """Reward a period of pulling the K arms that pay most now, after as many periods of settling.

    Parameters
    ----------
    R : ndarray, shape (N, D)
    K : int
    periods : int
        Counted, after as many that are not.
    lookahead : int
        Periods that are planned ahead in each period, for curves that do not fall; 1 is myopic. Of
        equals the smallest numbers are pulled.
    """
    N, D = R.shape
    idle, total = np.ones(N, dtype=np.int64), 0.0
    for t in range(2 * periods):
        now = R[np.arange(N), np.minimum(idle, D) - 1]
        if lookahead == 1 or K >= N:
            chosen = np.argsort(-now, kind="stable")[:K]
        else:
            chosen = _ahead(R, idle, K, lookahead)
        if t >= periods:
            total += float(now[chosen].sum())
        idle += 1
        idle[chosen] = 1
    return total / periods


def _ahead(
    R: Float[np.ndarray, "N D"], idle: Int[np.ndarray, " N"], K: int, depth: int
) -> Int[np.ndarray, " k"]:
    """First pulls of the best plan of `depth` periods, by dynamic programming over the slots used.

    An arm earns by its own pulls alone, one of 2^depth patterns; the state is how many slots of each
    period are taken. Of the arms those K·depth that would pay most at the end are enough, as curves
    do not fall, and 8 more for ties.
    """
    D = R.shape[1]
    rested = R[np.arange(len(R)), np.minimum(idle + depth - 1, D) - 1]
    arms = np.sort(np.argsort(-rested, kind="stable")[: K * depth + 8])
    patterns = list(product((0, 1), repeat=depth))
    best = np.full((K + 1,) * depth, -np.inf)
    best[(0,) * depth] = 0.0
    taken = []
    for i in arms:
        options = np.full((len(patterns), *best.shape), -np.inf)
        for p, pulls in enumerate(patterns):
            gap, paid = int(idle[i]), 0.0
            for pulled in pulls:
                paid += pulled * float(R[i, min(gap, D) - 1])
                gap = 1 if pulled else gap + 1
            target = tuple(slice(1, None) if b else slice(None) for b in pulls)
            source = tuple(slice(None, -1) if b else slice(None) for b in pulls)
            options[p][target] = best[source] + paid
        taken.append(options.argmax(axis=0))
        best = options.max(axis=0)
    at = np.unravel_index(int(best.argmax()), best.shape)
    first = []
    for i, choice in zip(arms[::-1], taken[::-1], strict=True):
        pulls = patterns[int(choice[at])]
        at = tuple(np.subtract(at, pulls))
        if pulls[0]:
            first.append(int(i))
    return np.array(sorted(first), dtype=np.int64)
