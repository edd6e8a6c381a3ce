"""Foreign wrappers and black-box adversaries, judged by what they did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import rel_entr
from scipy.stats import binomtest, fisher_exact

from whp.certificate import Answer, Certificate
from whp.concentration import empirical_bernstein
from whp.intervals import Estimate
from whp.llm._information_censorship import theorems as th
from whp.llm._information_censorship.mechanism import Censor, answered_once
from whp.validate import as_frame, as_int

__all__ = ["AdversaryAudit", "LogAudit", "audit_adversary", "audit_log", "impermissible_leakage"]

LEVEL = 1e-6
COMMON = 20  # questions, the commonest, whose coins are compared in pairs
FEW = 5  # rows, below which nothing is compared
KINDS = 50  # answers that are compared with all others
FLOOR = 1e-12
MOVED = 1e-6


@dataclass(frozen=True, eq=False)
class LogAudit:
    """What a log of a wrapper shows.

    Attributes
    ----------
    p : float
        Of coins that depend on answers or on each other, all tests together.
    tests : DataFrame
        Each: what was compared, rows, p.
    interactions : int
        Largest number in one session (all rows without sessions).
    repeated : int
        Questions that got more than one true answer within a session.
    certificates : tuple of Certificate
        ``universal-erasure`` of the censor that is claimed, unmeasured.
    """

    p: float
    tests: pd.DataFrame
    interactions: int
    repeated: int
    certificates: tuple[Certificate, ...]


def audit_log(log: Any, censor: Censor) -> LogAudit:
    """Whether a wrapper that claims to erase at random does.

    Parameters
    ----------
    log : DataFrame
        `question`, `answered` (0 or 1), `answer` (the true one, erased or not), and `session` if there are several; rows in
        the order asked, one adversary a session.
    censor : Censor
        What is claimed.

    Returns
    -------
    LogAudit
        Every answer of a question, and of all questions, against all others, and the coins of two questions and the first two
        coins within sessions, by Fisher's exact test; the share of answers that left against the p that is claimed, by the
        binomial one. p is the smallest times the number of tests.

    Raises
    ------
    ValueError
        If a column is missing or has an empty cell, or `answered` is not 0 and 1.

    Examples
    --------
    >>> from whp.llm import censor_unknown
    >>> log = pd.DataFrame({"question": "q", "answered": [1, 0] * 50, "answer": ["yes", "no"] * 50})
    >>> log["session"] = range(100)
    >>> audit_log(log, censor_unknown([0.5, 0.5], 1, 0.1)).p < 1e-6
    True
    """
    if censor.name != "erase":
        raise ValueError("censor must be one of erasure: a log shows coins that silence answers")
    table = as_frame(log)
    missing = [
        c for c in ("question", "answered", "answer") if c not in getattr(table, "columns", ())
    ]
    if missing:
        raise ValueError(
            f"log must have the columns question, answered and answer; it lacks {', '.join(missing)}"
        )
    if not len(table):
        raise ValueError("log must have at least one row")
    coins = pd.to_numeric(table["answered"], errors="coerce")
    if not coins.isin([0, 1]).all():
        row = int(np.flatnonzero(~coins.isin([0, 1]).to_numpy())[0])
        raise ValueError(
            f"log: answered must be 0 or 1, row {row} has {table['answered'].iloc[row]!r}"
        )
    known = "session" in table
    for column in ("question", "answer", *(["session"] if known else [])):
        if (empty := table[column].isna().to_numpy()).any():
            raise ValueError(
                f"log: {column} must be there in every row, also where nothing was returned; row "
                f"{int(np.argmax(empty))} has none"
            )
    rows = pd.DataFrame(
        {
            "question": [" ".join(str(q).casefold().split()) for q in table["question"]],
            "coin": coins.to_numpy(dtype=bool),
            "answer": table["answer"].astype(str).to_numpy(),
            "session": table["session"].astype(str).to_numpy() if known else "",
        }
    )
    # A repeated question shows the same coin again: only the first one is a draw.
    first = rows.drop_duplicates(["session", "question"]) if known else rows
    answers = _by_answer(first)
    tests = [
        _rate(first["coin"], censor.strength),
        *answers,
        *(_by_session(first) if known else []),
    ]
    p = min(1.0, min(t["p"] for t in tests) * len(tests))
    same = rows.groupby(["session", "question"])
    repeated = int((same["answer"].nunique() > 1).sum()) if known else 0
    # A kept answer is told again for nothing; a fresh coin, or a fresh answer, is one more interaction.
    fresh = bool(repeated or (same["coin"].nunique() > 1).any())
    asked = rows.groupby("session")["question"].agg("size" if fresh else "nunique")
    interactions = int(asked.max()) if known else len(rows)
    sees = _sees(first["coin"], max((t["rows"] for t in answers), default=0))
    limit = (
        th.LIMIT.unchecked("the log has no sessions: whose questions these are is not known")
        if not known
        else th.LIMIT.check(
            False, f"{interactions} interactions in one session, allowed are {censor.k}"
        )
        if interactions > censor.k
        else th.LIMIT.unchecked(
            f"at most {interactions} of {censor.k} a session; accounts of one person are not known"
        )
    )
    if repeated:
        judged = th.COINS.check(False, f"{repeated} questions were answered anew under one coin")
    else:
        judged = th.COINS.tested(p, LEVEL, sees)
    certificate = th.universal(
        censor,
        None,
        (
            judged,
            limit,
            th.PRIOR.unchecked("what an adversary believes beforehand is not in the log"),
            th.SIDE.unchecked("latency and wording of refusals are not in the log"),
        ),
    )
    frame = pd.DataFrame(tests, columns=["compared", "rows", "p"])
    return LogAudit(p, frame, interactions, repeated, (certificate,))


def _fisher(first: np.ndarray, second: np.ndarray) -> float:
    table = [
        [int((first & second).sum()), int((first & ~second).sum())],
        [int((~first & second).sum()), int((~first & ~second).sum())],
    ]
    return float(fisher_exact(table).pvalue)


def _by_answer(rows: pd.DataFrame) -> list[dict[str, Any]]:
    tests = []
    parts = list(rows.groupby("question"))
    # Every coin has the same p, so that questions can be thrown together; each asked once, they say nothing alone.
    for question, part in [*parts, *([("all questions", rows)] if len(parts) > 1 else [])]:
        coin, answer = part["coin"].to_numpy(), part["answer"].to_numpy()
        kinds, counts = np.unique(answer, return_counts=True)
        if len(part) < FEW or len(kinds) < 2 or coin.all() or not coin.any():
            continue
        kinds = kinds[np.argsort(-counts, kind="stable")][:KINDS]
        tests += [
            {
                "compared": f"{question}: coin with answer {kind!r}",
                "rows": len(part),
                "p": _fisher(coin, answer == kind),
            }
            for kind in kinds[: 1 if len(kinds) == 2 else None]
        ]
    return tests


def _rate(coins: pd.Series, claimed: float) -> dict[str, Any]:
    """More answers than the claimed p lets through; fewer give away less."""
    return {
        "compared": f"share of answers that left with the claimed {claimed:.4g}",
        "rows": len(coins),
        "p": float(binomtest(int(coins.sum()), len(coins), claimed, alternative="greater").pvalue),
    }


def _by_session(rows: pd.DataFrame) -> list[dict[str, Any]]:
    place = rows.groupby("session").cumcount()
    one, two = (rows[place == i].set_index("session")["coin"] for i in (0, 1))
    tests = []
    if len(two) >= FEW:
        pair = _fisher(one.loc[two.index].to_numpy(), two.to_numpy())
        tests.append({"compared": "first two coins of a session", "rows": len(two), "p": pair})
    counts = rows["question"].value_counts(sort=True)
    common = sorted(counts.index[counts >= FEW][:COMMON])
    wide = rows[rows["question"].isin(common)].pivot(
        index="session", columns="question", values="coin"
    )
    for a, b in combinations(wide.columns, 2):
        both = wide[[a, b]].dropna().to_numpy(dtype=bool)
        if len(both) >= FEW:
            tests.append(
                {
                    "compared": f"coins of {a} and {b}",
                    "rows": len(both),
                    "p": _fisher(both[:, 0], both[:, 1]),
                }
            )
    return tests


def _sees(coins: pd.Series, n: int) -> str:
    """A difference of rates that is at five standard deviations, which is what 1e-6 asks for."""
    if not n:
        return "more answers than p lets through, and nothing of which they are: there were no two kinds to compare"
    share = float(coins.mean())
    gap = 6.2 * math.sqrt(max(share * (1 - share), 1 / n) * 4 / n)
    return (
        f"{n} rows in which answers leave at rates {min(gap, 1):.2g} apart, about nine times in ten"
    )


def impermissible_leakage(
    p_after: Any, p_before: Any, impermissible: Sequence[int] | None = None
) -> np.ndarray:
    """Impermissible information leakage of probability vectors, Σ_A p ln p/p₀, nats.

    Parameters
    ----------
    p_after, p_before : array_like, shape (n, m) or (m,)
        Beliefs after and before, rows renormalised, below 1e-12 taken as 1e-12.
    impermissible : sequence of int, optional
        Numbers of the answers that count; all by default.

    Returns
    -------
    ndarray, shape (n,)

    Raises
    ------
    ValueError
        If shapes differ, or a vector is no law.

    Examples
    --------
    >>> impermissible_leakage([0.9, 0.1], [0.5, 0.5]).round(4)
    array([0.3681])
    """
    after, before = _beliefs(p_after, "p_after"), _beliefs(p_before, "p_before")
    if after.shape[1] != before.shape[1] or len(before) not in (1, len(after)):
        raise ValueError(
            f"p_after and p_before must be of one shape, got {after.shape} and {before.shape}"
        )
    terms = rel_entr(after, before)
    return terms[:, chosen_answers(impermissible, after.shape[1])].sum(axis=1)


def chosen_answers(impermissible: Sequence[int] | None, m: int) -> list[int]:
    if impermissible is None:
        return list(range(m))
    chosen = sorted({as_int(a, "impermissible") for a in impermissible})
    if not chosen or chosen[0] < 0 or chosen[-1] >= m:
        raise ValueError(
            f"impermissible must be numbers of answers from 0 to {m - 1}, got {list(impermissible)}"
        )
    return chosen


def _beliefs(value: Any, argument: str) -> np.ndarray:
    array = np.atleast_2d(np.asarray(value, dtype=np.float64))
    if array.ndim != 2 or not array.size:
        raise ValueError(f"{argument} must have shape (n, m), got {np.shape(value)}")
    bad = ~np.isfinite(array) | (array < 0)
    if bad.any():
        row, column = map(int, np.argwhere(bad)[0])
        raise ValueError(
            f"{argument} row {row} column {column} is {array[row, column]}: probabilities are wanted"
        )
    if (array.sum(axis=1) <= 0).any():
        raise ValueError(f"{argument} row {int(np.argmin(array.sum(axis=1)))} is 0 everywhere")
    array = np.maximum(array / array.sum(axis=1, keepdims=True), FLOOR)
    return array / array.sum(axis=1, keepdims=True)


@dataclass(frozen=True, eq=False)
class AdversaryAudit:
    """What a black-box adversary gained.

    Attributes
    ----------
    gained : Estimate
        Mean impermissible leakage, nats, with its empirical Bernstein interval.
    values : ndarray, shape (n,)
        Of each conversation.
    floored : int
        Probabilities that were raised to 1e-12.
    certificates : tuple of Certificate
        ``adversary``.
    """

    gained: Estimate
    values: np.ndarray
    floored: int
    certificates: tuple[Certificate, ...]


def audit_adversary(
    p_after: Any,
    p_before: Any,
    censor: Censor,
    *,
    answered: Any = None,
    asked: Any = None,
    p_silent: Any = None,
    impermissible: Sequence[int] | None = None,
    delta: float = 0.05,
) -> AdversaryAudit:
    """Judge an adversary that need not be Bayesian by its probability vectors.

    Parameters
    ----------
    p_after, p_before : array_like, shape (n, m)
        Its beliefs after and before each of n independent conversations; one row of p_before serves all.
    censor : Censor
        The erasure that it faced.
    answered, asked : array_like of int, shape (n,), optional
        How many questions were answered and asked in each; `answered` may be 0 and 1 for none and some.
    p_silent : array_like, shape (n, m) or (r, m), optional
        Its beliefs when every answer was erased.
    impermissible : sequence of int, optional
        Numbers of the answers that count; all by default.
    delta : float
        Failure probability of the interval.

    Raises
    ------
    ValueError
        If shapes or ranges are wrong.

    Examples
    --------
    >>> from whp.llm import censor_unknown
    >>> censor = censor_unknown([0.5, 0.5], 1, 0.1)
    >>> before = np.array([[0.5, 0.5]])
    >>> after = np.repeat(before, 400, axis=0)
    >>> audit_adversary(after, before, censor, answered=np.zeros(400)).gained.value
    0.0
    """
    if censor.name != "erase":
        raise ValueError("censor must be one of erasure: beliefs under swapping have no such bound")
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    before, after = _beliefs(p_before, "p_before"), _beliefs(p_after, "p_after")
    values = impermissible_leakage(after, before, impermissible)
    before = np.broadcast_to(before, after.shape)
    chosen = chosen_answers(impermissible, after.shape[1])
    most = -np.log(before[:, chosen].min(axis=1))
    low, high = -float(before[:, chosen].sum(axis=1).max()) / math.e, float(most.max())
    gained = empirical_bernstein(np.clip(values, low, high), delta, low=low, high=high)
    floored = sum(int((np.asarray(v, dtype=np.float64) < FLOOR).sum()) for v in (p_after, p_before))
    counts = {"asked": asked, "answered": answered}
    numbers = {n: np.asarray(c, dtype=np.float64) for n, c in counts.items() if c is not None}
    for name, count in numbers.items():
        if count.shape != (len(after),):
            raise ValueError(
                f"{name} must have one entry a conversation ({len(after)}), got shape {count.shape}"
            )
    largest = max((float(c.max()) for c in numbers.values()), default=0.0)
    if largest > censor.k:
        limit = th.LIMIT.check(
            False, f"{largest:.0f} questions in one conversation, allowed are {censor.k}"
        )
    else:
        limit = th.LIMIT.unchecked("how many accounts one adversary has is not in these data")
    certificate = th.adversary(
        censor,
        float(most.mean()),
        gained,
        (_heard(numbers, len(after), censor), limit, _ignores(after, before, answered, p_silent)),
    )
    return AdversaryAudit(gained, values, floored, (certificate,))


def _heard(numbers: dict[str, np.ndarray], n: int, censor: Censor) -> Answer:
    """Whether more was answered than p lets through; of what the coins depended on nothing is seen here."""
    if "answered" not in numbers:
        return th.COINS.unchecked("the coins are not in these data: audit_log looks at them")
    heard, p = int((numbers["answered"] > 0).sum()), answered_once(censor.strength, censor.k)
    if "asked" in numbers:
        heard, n, p = int(numbers["answered"].sum()), int(numbers["asked"].sum()), censor.strength
    if heard > n:
        raise ValueError(f"answered must be at most asked, got {heard} of {n} in all")
    found = float(binomtest(heard, n, p, alternative="greater").pvalue) if n else 1.0
    return th.COINS.tested(
        found,
        LEVEL,
        "many more answers than p lets through, not what the coins depend on, or whether conversations were copied or added "
        "until one liked the mean",
    )


def _ignores(after: np.ndarray, before: np.ndarray, answered: Any, p_silent: Any) -> Answer:
    """Whether beliefs stay where they were when nothing was answered."""
    moved: list[float] = []
    if answered is not None:
        silent = np.asarray(answered) == 0
        if silent.any():
            moved.append(float(np.abs(after - before)[silent].max()))
    if p_silent is not None:
        beliefs = _beliefs(p_silent, "p_silent")
        if len(beliefs) != len(before) and np.ptp(before, axis=0).max() == 0:
            before = before[:1]  # one belief beforehand serves all
        if beliefs.shape[1] != before.shape[1] or len(before) not in (1, len(beliefs)):
            raise ValueError(f"p_silent must be of the shape of p_after, got {beliefs.shape}")
        moved.append(float(np.abs(beliefs - before).max()))
    if not moved:
        return th.IGNORES.unchecked("no conversation was silent throughout")
    return th.IGNORES.check(
        max(moved) <= MOVED, f"at silence beliefs moved by up to {max(moved):.2g}"
    )
