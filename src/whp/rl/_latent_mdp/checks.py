"""Tests of a stream of labelled episodes: one law throughout, and nothing that matters but the context."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2

from whp.certificate import Answer
from whp.theorem import Condition

__all__ = [
    "LEVEL",
    "Steps",
    "fits",
    "goodness",
    "halves",
    "independence",
    "pays_otherwise",
    "shared",
    "together",
]

LEVEL = 0.01  # of each of the four tests of a stream
EXPECTED = 10.0  # counts below which G exceeds its limits more often than chi-squared does


@dataclass(frozen=True, eq=False)
class Steps:
    """All steps of a stream, one entry a step.

    Attributes
    ----------
    episode, context, state, action, after, reward, before, first : ndarray
        `before` is the state of the step before, -1 in the first step; `first` that of the episode.
    start_context, start : ndarray of int
        One entry an episode.
    """

    episode: np.ndarray
    context: np.ndarray
    state: np.ndarray
    action: np.ndarray
    after: np.ndarray
    reward: np.ndarray
    before: np.ndarray
    first: np.ndarray
    start_context: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Family:
    """Tests of many tables at once.

    Attributes
    ----------
    p : float
        Twice the smaller of Holm's smallest p-value and that of the sum of all.
    tested, rows : int
        Tables with enough counts, and all that were seen.
    least : int
        Visits of the rarest.
    most : int
        Of the one seen most, and `degrees` its degrees of freedom.
    """

    p: float
    tested: int
    rows: int
    least: int
    most: int
    degrees: int

    def sees(self, level: float) -> str:
        """What would have been noticed in the table that was seen most."""
        critical = float(chi2.isf(level / 2 / max(self.tested, 1), self.degrees))
        over = critical - self.degrees + 1.3 * math.sqrt(2 * (2 * critical - self.degrees))
        apart = min(1.0, math.sqrt(over / max(self.most, 1)))
        return (
            f"laws {apart:.2g} apart in the pair seen most ({self.most:,} visits), about nine times "
            f"in ten; {self.tested} of {self.rows} rows tested, the rarest has {self.least} visits"
        )


def independence(table: np.ndarray) -> tuple[float, int] | None:
    """G statistic and degrees of freedom of a table of counts; None where counts do not suffice.

    Rows and columns with too few counts are put together with their next larger neighbours.
    """
    table = table[table.sum(axis=1) > 0][:, table.sum(axis=0) > 0].astype(float)
    if min(table.shape, default=0) < 2:
        return None
    table = table[np.argsort(table.sum(axis=1))][:, np.argsort(table.sum(axis=0))]
    total = table.sum()
    while True:
        rows, columns = table.sum(axis=1), table.sum(axis=0)
        if rows.min() * columns.min() >= EXPECTED * total:
            break
        by_row = rows.min() < columns.min()
        if table.shape[1 - by_row] <= 2:
            by_row = not by_row
        if table.shape[1 - by_row] <= 2:
            return None
        turned = table if by_row else table.T
        turned = np.vstack([turned[:1] + turned[1:2], turned[2:]])
        turned = turned[np.argsort(turned.sum(axis=1))]
        table = turned if by_row else turned.T
    expected = np.outer(rows, columns) / total
    G = 2 * float((xlogy(table, table) - xlogy(table, expected)).sum())
    return max(G, 0.0), (table.shape[0] - 1) * (table.shape[1] - 1)


def goodness(counts: np.ndarray, p: np.ndarray) -> tuple[float, int] | None:
    """The same for counts against a law; infinite where the impossible was seen."""
    if counts[p == 0].any():
        return math.inf, 1
    counts, p = counts[p > 0].astype(float), p[p > 0]
    order = np.argsort(p)
    counts, p, total = counts[order], p[order], counts.sum()
    while len(p) > 1 and p[0] * total < EXPECTED:
        counts = np.concatenate([[counts[0] + counts[1]], counts[2:]])
        p = np.concatenate([[p[0] + p[1]], p[2:]])
        order = np.argsort(p)
        counts, p = counts[order], p[order]
    if len(p) < 2:
        return None
    return max(0.0, 2 * float((xlogy(counts, counts) - xlogy(counts, total * p)).sum())), len(p) - 1


def together(found: list[tuple[tuple[float, int] | None, int]]) -> Family:
    """Many tests as one; each with the number of its visits."""
    tested = [(test, n) for test, n in found if test is not None]
    least = min((n for _, n in found), default=0)
    if not tested:
        return Family(1.0, 0, len(found), least, 0, 1)
    G = np.array([test[0] for test, _ in tested])
    degrees = np.array([test[1] for test, _ in tested])
    holm = float(chi2.sf(G, degrees).min()) * len(G)
    p = min(1.0, 2 * min(holm, float(chi2.sf(G.sum(), degrees.sum()))))
    most = int(np.argmax([n for _, n in tested]))
    return Family(p, len(G), len(found), least, tested[most][1], int(degrees[most]))


def tables(key: np.ndarray, part: np.ndarray, value: np.ndarray) -> list[np.ndarray]:
    """A table of `part` by `value` for each distinct `key`."""
    if not len(key):
        return []
    order = np.argsort(key, kind="stable")
    key, part, value = key[order], part[order], value[order]
    P, V = int(part.max()) + 1, int(value.max()) + 1
    edges = np.flatnonzero(np.diff(key)) + 1
    code = part * V + value
    return [
        np.bincount(code[i:j], minlength=P * V).reshape(P, V)
        for i, j in zip([0, *edges], [*edges, len(key)], strict=True)
    ]


def family(key: np.ndarray, part: np.ndarray, value: np.ndarray) -> Family:
    """Whether `value` depends on `part`, given `key`."""
    found = [t for t in tables(key, part, value) if (t.sum(axis=0) > 0).sum() > 1]
    return together([(independence(t), int(t.sum())) for t in found])


def triple(steps: Steps, sizes: tuple[int, int, int]) -> np.ndarray:
    """Context, state and action as one number."""
    _, S, A = sizes
    return (steps.context * S + steps.state) * A + steps.action


def with_rewards(
    steps: Steps, key: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Key and value of next states, and of rewards above the mean of their key; and places of both."""
    at = np.flatnonzero(chosen)
    key = key[at]
    number = np.unique(key, return_inverse=True)[1].ravel()
    paid = steps.reward[at]
    mean = np.bincount(number, paid) / np.maximum(np.bincount(number), 1) if len(at) else paid
    above = (paid > mean[number] + 1e-9).astype(np.int64) if len(at) else number
    return (
        np.concatenate([2 * key, 2 * key + 1]),
        np.concatenate([steps.after[at], above]),
        np.concatenate([at, at]),
    )


def halves(steps: Steps, sizes: tuple[int, int, int]) -> dict[str, Family]:
    """One law throughout: halves of the stream against each other, and odd against even episodes."""
    M, S, _ = sizes
    K = len(steps.start)
    key, value, at = with_rewards(steps, triple(steps, sizes), np.ones(len(steps.state), bool))
    first = np.full(K, 2 * M * S * sizes[2])  # the law of contexts and first states is one more row
    start = steps.start_context * S + steps.start
    key, value = np.concatenate([key, first]), np.concatenate([value, start])
    episode = np.concatenate([steps.episode[at], np.arange(K)])
    return {
        "halves": family(key, (2 * episode >= K).astype(np.int64), value),
        "odd against even episodes": family(key, episode % 2, value),
    }


def order(steps: Steps, sizes: tuple[int, int, int]) -> dict[str, Family]:
    """Nothing matters but the context: the state before, and the first state of the episode."""
    key, value, at = with_rewards(steps, triple(steps, sizes), steps.before >= 0)
    return {
        "state before": family(key, steps.before[at], value),
        "first state": family(key, steps.first[at], value),
    }


def shared(steps: Steps, sizes: tuple[int, int, int], row: np.ndarray) -> Family:
    """Pairs of a group against each other."""
    key = row[steps.context, steps.state, steps.action]
    return family(key, np.unique(triple(steps, sizes), return_inverse=True)[1].ravel(), steps.after)


def fits(steps: Steps, w: np.ndarray, nu: np.ndarray, P: np.ndarray) -> Family:
    """Counts against the laws of a model."""
    M, S, A = P.shape[:3]
    code = ((steps.context * S + steps.state) * A + steps.action) * S + steps.after
    counts = np.bincount(code, minlength=M * S * A * S).reshape(-1, S)
    laws = P.reshape(-1, S)
    found = [
        (goodness(counts[i], laws[i]), int(counts[i].sum()))
        for i in np.flatnonzero(counts.sum(axis=1))
    ]
    start = np.bincount(steps.start_context * S + steps.start, minlength=M * S)
    found.append((goodness(start, (w[:, None] * nu).ravel()), int(start.sum())))
    return together(found)


def pays_otherwise(steps: Steps, R: np.ndarray, level: float) -> np.ndarray:
    """Where mean rewards are not those of a model, by the box of Maurer and Pontil for any number of visits.

    Returns
    -------
    ndarray of bool, shape (M, S, A)
    """
    key = triple(steps, R.shape)  # type: ignore[arg-type]
    n = np.bincount(key, minlength=R.size)
    off = steps.reward - R.ravel()[key]
    mean = np.bincount(key, off, R.size) / np.maximum(n, 1)
    spread = np.bincount(key, (off - mean[key]) ** 2, R.size)
    more = np.maximum(n - 1, 1)
    u = np.log(4 * R.size * np.maximum(n * (n + 1), 2) / level)
    wide = np.sqrt(2 * spread / more * u / np.maximum(n, 1)) + 7 * u / (3 * more)
    return ((np.abs(mean) > wide) & (n > 1)).reshape(R.shape)


def answer(condition: Condition, families: dict[str, Family], level: float) -> Answer:
    """Violated, or not refuted with what would have been seen; unchecked where nothing could be tested.

    Each test has the same share of the level.
    """
    tested = {name: f for name, f in families.items() if f.tested}
    if not tested:
        seen = max((f.rows for f in families.values()), default=0)
        return condition.unchecked(f"no row of {seen} has the visits that a test needs")
    name, worst = min(tested.items(), key=lambda item: item[1].p)
    p = min(1.0, len(families) * worst.p)
    label = f"{name}: {worst.sees(level / len(families))}"
    made: Any = condition.tested(p, level, label)
    return made
