"""Which test to ask next: latent MDPs of labelled tables, whose contexts are the labels."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from whp.io import MAX_LEVELS
from whp.rl._latent_mdp.model import LatentMDP
from whp.rl._latent_mdp.policy import Policy
from whp.text import nearest, visible

__all__ = [
    "Fit",
    "Outcomes",
    "TestSelection",
    "fitted",
    "from_visits",
    "halved",
    "named_apart",
    "outcomes",
]

MISSING, OTHER = "missing", "other"
STRAY, MOST_STRAY_VALUES = 0.1, 20  # share of words among so many different numbers that is a fault
MOST_TEXTS = 1 / 3  # different texts a row, beyond which a column is a name and no result


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Results of tests as numbers.

    Attributes
    ----------
    code : ndarray of int, shape (n, F)
        Result of each test of each unit; -1 where it was not done.
    names : tuple of str
        Of the tests.
    values : tuple of tuple of str
        Of their results.
    """

    code: np.ndarray
    names: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class TestSelection:
    """A latent MDP in which an action asks for a test or names a label.

    Attributes
    ----------
    model : LatentMDP
        State 0 is the start, then come the results of each test, last the end; actions are tests,
        then labels. The right label pays 1.
    first : ndarray of int, shape (F + 1,)
        Where the states of each test begin.
    labels : tuple of str
    """

    model: LatentMDP
    first: np.ndarray
    labels: tuple[str, ...]

    __test__ = False  # pytest takes the name for that of a test

    @classmethod
    def of(
        cls, w: np.ndarray, laws: Sequence[np.ndarray], labels: Sequence[str], queries: int
    ) -> TestSelection:
        """Out of the probabilities of labels (M,) and of results given the label, (M, results) each."""
        M, F = len(w), len(laws)
        first = np.cumsum([1, *(law.shape[1] for law in laws)])
        S, end = int(first[-1]) + 1, int(first[-1])
        P = np.zeros((M, S, F + M, S))
        for j, law in enumerate(laws):
            P[:, :end, j, first[j] : first[j + 1]] = law[:, None, :]
        P[:, :end, F:, end] = 1.0
        P[:, end, :, end] = 1.0
        R = np.zeros((M, S, F + M))
        R[np.arange(M), :end, F + np.arange(M)] = 1.0
        nu = np.zeros((M, S))
        nu[:, 0] = 1.0
        return cls(LatentMDP(w, nu, P, R, queries + 1), first, tuple(labels))

    @property
    def groups(self) -> np.ndarray:
        """Actions do the same from every state but the end; shape (S, A)."""
        S, A = self.model.shape[1:]
        tied = np.tile(np.arange(A), (S, 1))
        tied[-1] += A
        return tied

    @property
    def possible(self) -> np.ndarray:
        """Transitions of any context, shape (S, A, S)."""
        return np.asarray(np.any(self.model.P, axis=0))

    def play(self, policy: Policy, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the policy names for each row of results, and how many tests it asked; -1 if it asks what was not done.

        A test that is asked again answers as before.
        """
        F, n = len(self.first) - 1, len(code)
        at = np.arange(n)
        node = np.broadcast_to(policy.root[0], n).copy()
        named, asked = np.full(n, -1), np.zeros(n, dtype=np.int64)
        going = np.ones(n, dtype=bool)
        for layer in policy.layers:
            action = layer.action[node]
            names = going & (action >= F)
            named[names] = action[names] - F
            going &= ~names
            result = code[at, np.minimum(action, F - 1)] if F else np.zeros(n, int)
            going &= result >= 0
            asked += going
            state = np.where(going, self.first[np.minimum(action, F - 1)] + result, 0)
            node = layer.child[node, state]
        return named, asked

    def repeats(self, policy: Policy) -> bool:
        """Whether some history asks a test twice, which real units answer the same way."""
        F = len(self.first) - 1
        seen: list[set[frozenset[int]]] = [set() for _ in policy.layers[0].state]
        seen[policy.root[0]].add(frozenset())
        for t, layer in enumerate(policy.layers):
            last = t + 1 == len(policy.layers)
            after: list[set[frozenset[int]]] = (
                [] if last else [set() for _ in policy.layers[t + 1].state]
            )
            for n, sets in enumerate(seen):
                a = int(layer.action[n])
                if a >= F:
                    continue
                for asked in sets:
                    if a in asked:
                        return True
                    if not last:
                        for s in range(self.first[a], self.first[a + 1]):
                            after[layer.child[n, s]].add(asked | {a})
            seen = after
        return False

    def table(
        self, policy: Policy, names: Sequence[str], values: Sequence[Sequence[str]]
    ) -> pd.DataFrame:
        """The plan as rows: after which results it asks or names what, and in which share of episodes."""
        F, M = len(names), len(self.labels)
        rows: list[dict[str, Any]] = []
        P = self.model.P
        stack: list[tuple[int, int, str, np.ndarray]] = [
            (0, int(policy.root[0]), "", self.model.w.copy())
        ]
        while stack:
            t, node, history, weight = stack.pop()
            if t == len(policy.layers) or len(rows) >= 100_000:
                continue
            layer = policy.layers[t]
            a = int(layer.action[node])
            ask = a < F
            most = weight / max(weight.sum(), 1e-300)
            rows.append(
                {
                    "step": t + 1,
                    "after": history or "(start)",
                    "does": f"ask {names[a]}" if ask else f"name {self.labels[a - F]}",
                    "share": float(weight.sum()),
                    "likeliest": self.labels[int(most.argmax())] if M else "",
                    "with_probability": float(most.max()),
                }
            )
            if not ask:
                continue
            for b in reversed(range(len(values[a]))):
                s = int(self.first[a] + b)
                then = f"{history}, " if history else ""
                on = weight * P[:, 0, a, s]
                stack.append(
                    (t + 1, int(layer.child[node, s]), f"{then}{names[a]} {values[a][b]}", on)
                )
        return pd.DataFrame(rows)


@dataclass(frozen=True, eq=False)
class Fit:
    """Tests out of a table: what was fitted to a part of its rows, and all rows by it.

    Attributes
    ----------
    tests : Outcomes
        All rows, the chosen tests.
    w : ndarray, shape (M,)
    laws : tuple of ndarray, shape (M, results)
    notes : tuple of str
        What was left out or set apart.
    """

    tests: Outcomes
    w: np.ndarray
    laws: tuple[np.ndarray, ...]
    notes: tuple[str, ...]


def halved(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A half of the rows, as near as can be half of each label; shape (n,)."""
    chosen = np.zeros(len(y), dtype=bool)
    spare = False  # odd labels give their middle row to either half in turn
    for m in range(int(y.max()) + 1):
        rows = rng.permutation(np.flatnonzero(y == m))
        take = (len(rows) + spare) // 2
        spare = not spare if len(rows) % 2 else spare
        chosen[rows[:take]] = True
    return chosen


def outcomes(
    table: pd.DataFrame, rows: np.ndarray, bins: int, *, log: bool = False
) -> tuple[Outcomes, tuple[str, ...]]:
    """Columns as tests: numbers into `bins` by the quantiles of `rows`, texts as they are.

    Missing numbers and texts are results of their own; in a `log`, whose numbers of `bins` kinds or
    fewer stay as they are, they are tests not done. What is the same in all of `rows` is dropped.

    Returns
    -------
    Outcomes, tuple of str
        And what was done, in words.
    """
    codes, names, values, notes = [], [], [], []
    for name in table.columns:
        column = table[name]
        missing = column.isna().to_numpy()
        number = pd.to_numeric(column, errors="coerce").to_numpy(dtype=float)
        coded = _coded(column) or (log and column.nunique() <= bins)
        if not coded:
            _no_stray(str(name), column, number, missing)
        numeric = (np.isfinite(number) | missing).all() and not missing.all() and not coded
        if numeric and column.dtype != bool:
            known = number[rows & ~missing]
            edges = (
                np.unique(np.quantile(known, np.arange(1, bins) / bins))
                if len(known)
                else np.zeros(0)
            )
            code = np.searchsorted(edges, number, side="right")
            limits = [-np.inf, *edges, np.inf]
            kinds = [_between(a, b) for a, b in itertools.pairwise(limits)]
        else:
            text = column.astype(str).to_numpy(dtype=object)
            kinds = sorted({str(v) for v in text[rows & ~missing]})
            if len(kinds) > min(MAX_LEVELS, max(2.0, MOST_TEXTS * rows.sum())):
                notes.append(
                    f"{visible(str(name))!r} has {len(kinds):,} different texts in {_rows(rows)} of "
                    "the half that is fitted: dropped, it names rows"
                )
                continue
            place = {v: i for i, v in enumerate(kinds)}
            code = np.array([place.get(str(v), len(kinds)) for v in text])
            if (code[~missing] == len(kinds)).any():
                kinds = [*kinds, OTHER]
        if log:
            code = np.where(missing, -1, code)
        elif missing.any():
            notes.append(
                f"{visible(str(name))!r} is missing in {_rows(missing)}: a result of its own"
            )
            code = np.where(missing, len(kinds), code)
            kinds = [*kinds, MISSING]
        if len(np.unique(code[rows & (code >= 0)])) < 2:
            notes.append(
                f"{visible(str(name))!r} is the same in all rows of the half that is fitted: dropped"
            )
            continue
        codes.append(code.astype(np.int64))
        names.append(str(name))
        values.append(tuple(kinds))
    if not codes:
        raise ValueError(
            "no feature is left: all are the same in the half of the rows that is fitted"
        )
    return Outcomes(np.column_stack(codes), tuple(names), tuple(values)), tuple(notes)


def _coded(column: pd.Series) -> bool:
    """Whether texts are codes: 007 is not the number 7."""
    if column.dtype.kind in "fiub":
        return False
    return bool(column.dropna().astype(str).str.fullmatch(r"\s*0\d+\s*").any())


def _no_stray(name: str, column: pd.Series, number: np.ndarray, missing: np.ndarray) -> None:
    """Refuse what is no finite number among numbers."""
    known = np.isfinite(number)
    stray = ~known & ~missing
    numeric = column.dtype.kind in "fiu"
    few = stray.any() and stray.sum() <= STRAY * (~missing).sum()
    if (numeric and stray.any()) or (few and len(np.unique(number[known])) > MOST_STRAY_VALUES):
        row = int(stray.argmax())
        raise ValueError(
            f"column {visible(name)!r} holds {visible(str(column.iloc[row]))!r} in row {row + 1} among "
            "numbers: mend it, leave it empty, or leave the column out"
        )


def _rows(chosen: np.ndarray) -> str:
    n = int(chosen.sum())
    return f"{n:,} row{'s' * (n != 1)}"


def _between(low: float, high: float) -> str:
    if low == -np.inf:
        return f"below {high:.4g}" if high < np.inf else "any"
    return f"{low:.4g} or more" if high == np.inf else f"{low:.4g} to {high:.4g}"


def information(code: np.ndarray, y: np.ndarray) -> float:
    """Mutual information of results and labels, in nats, of rows where the test was done."""
    from scipy.special import xlogy

    done = code >= 0
    if not done.any():
        return 0.0
    table = np.zeros((int(code.max()) + 1, int(y.max()) + 1))
    np.add.at(table, (code[done], y[done]), 1)
    p = table / table.sum()
    return float(
        (xlogy(p, p)).sum() - xlogy(p.sum(0), p.sum(0)).sum() - xlogy(p.sum(1), p.sum(1)).sum()
    )


def fitted(
    found: Outcomes, y: np.ndarray, M: int, rows: np.ndarray, tests: int, notes: tuple[str, ...]
) -> Fit:
    """Laws of the `tests` that say most about the label, one added to each count, of `rows` alone."""
    says = np.array([information(code[rows], y[rows]) for code in found.code.T])
    best = np.sort(np.argsort(-says, kind="stable")[:tests])
    w = np.bincount(y[rows], minlength=M).astype(float)
    laws = []
    for j in best:
        counts = np.ones((M, len(found.values[j])))
        done = rows & (found.code[:, j] >= 0)
        np.add.at(counts, (y[done], found.code[done, j]), 1)
        laws.append(counts / counts.sum(axis=1, keepdims=True))
    chosen = Outcomes(
        found.code[:, best],
        tuple(found.names[j] for j in best),
        tuple(found.values[j] for j in best),
    )
    return Fit(chosen, w / w.sum(), tuple(laws), notes)


def from_visits(
    table: pd.DataFrame, episode: str, test: str, result: str, context: str, drop: bool
) -> tuple[pd.DataFrame, np.ndarray, tuple[str, ...]]:
    """A log with a row for each test that was done, as a row of results and a label for each episode.

    Raises
    ------
    ValueError
        If an episode has no label, or two, or did a test twice with two results; it is named.
    """
    frame = named_apart(table)
    for column in (episode, test, result, context):
        if column not in frame.columns:
            have = list(frame.columns)
            raise ValueError(
                f"data has no column {column!r}{nearest(column, have)}; it has {', '.join(have[:10])}"
            )
    for column in (episode, test, result):
        if frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax()) + 1
            raise ValueError(f"column {column!r} has a missing value in row {row}")
    key = frame[episode].astype(str)
    order, which = np.unique(key.to_numpy(dtype=object), return_inverse=True)
    seen = pd.unique(key)  # in the order of the file
    labels: dict[str, set[str]] = {e: set() for e in order}
    told = frame[context].notna()
    for e, label in zip(key[told], frame[context][told].astype(str), strict=True):
        labels[e].add(label)
    notes: list[str] = []
    if twice := [e for e in seen if len(labels[e]) > 1]:
        raise ValueError(
            f"episode {visible(twice[0])} has two labels: {', '.join(sorted(labels[twice[0]]))}"
        )
    if bare := [e for e in seen if not labels[e]]:
        if not drop:
            raise ValueError(
                f"episode {visible(bare[0])} has no {context}: the theorem needs the label of every "
                "episode; leaving such episodes out is a selection nobody can check (pass "
                "on_missing='drop' to do it and see it printed)"
            )
        notes.append(f"{len(bare)} of {len(seen)} episodes have no label and were left out")
    kept = [e for e in order if labels[e]]
    if not kept:
        raise ValueError(f"no episode has a label in column {context!r}")
    place = {e: i for i, e in enumerate(kept)}
    names = sorted({str(v) for v in frame[test]})
    wide = np.full((len(kept), len(names)), None, dtype=object)
    columns = {n: j for j, n in enumerate(names)}
    for e, n, v in zip(
        order[which.ravel()], frame[test].astype(str), frame[result].astype(str), strict=True
    ):
        if e not in place:
            continue
        at = place[e], columns[n]
        if wide[at] not in (None, v):
            raise ValueError(
                f"episode {visible(e)} did test {visible(n)} twice, with results {wide[at]} and {v}: "
                "name repeated tests apart"
            )
        wide[at] = v
    made = pd.DataFrame(wide, columns=pd.Index(names))
    return made, np.array([next(iter(labels[e])) for e in kept], dtype=object), tuple(notes)


def named_apart(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with texts for names of columns, of which no two are alike."""
    names = pd.Index([str(c) for c in table.columns])
    if len(twice := names[names.duplicated()]):
        raise ValueError(f"data have two columns {visible(str(twice[0]))!r}: name them apart")
    frame = table.copy()
    frame.columns = names
    return frame


def warned(notes: Sequence[str]) -> None:
    """Tell what was left out or set apart."""
    for note in notes:
        warnings.warn(note, stacklevel=4)
