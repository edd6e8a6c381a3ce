"""The runs behind an audit, and the scores that tell the two worlds apart."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from whp.privacy._dp_continual_release.accuracy import ReleasePlan, square_root
from whp.privacy._dp_continual_release.counters import counter
from whp.privacy._dp_continual_release.mechanisms import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    Mechanism,
)
from whp.privacy._dp_continual_release.noise import OsEntropy
from whp.progress import track

__all__ = ["Seen", "attack_objects", "attack_plan", "weights"]

BLOCK = 1 << 22  # numbers held at once
FEATURES = 64  # numbers that a logistic regression reads
HELD = 1 << 24  # numbers of all runs that are kept to choose those from
KINDS = (ContinualArgmax, ContinualCounter, ContinualMaxSum)
Scores = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Seen:
    """Scores of runs of both worlds.

    Parameters
    ----------
    choose, test : list of pairs of ndarray
        Of each score, on the runs that choose score and threshold, and on those that are tested.
    attack : str
        How they were made.
    streams : str
        The two that were told apart.
    read : str
        What of the answers the scores are made of.
    objects, ours, fresh, repeated : bool
        As in :class:`~whp.privacy._dp_continual_release.theorems.Attack`.
    """

    choose: list[Scores]
    test: list[Scores]
    attack: str
    streams: str
    read: str
    objects: bool
    ours: bool
    fresh: bool
    repeated: bool


def weights(plan: ReleasePlan, challenge: int) -> Float[np.ndarray, " T"]:
    """Of the answers after each record in the log-likelihood ratio, up to a factor.

    With answers L y and y = R x + z it is Σ (R e)_i y_i, for the noisy numbers y_i that hold the challenge record e.
    """
    T = plan.T
    late = np.arange(1, T + 1) >= challenge
    if plan.strategy == "naive":
        return late.astype(float)
    out = np.zeros(T)
    if plan.strategy == "tree":
        # Node i is what answer i adds to the answer before its first record.
        for i in range(challenge, T + 1):
            before = i - (i & -i)
            if before < challenge:
                out[i - 1] += 1
                if before:
                    out[before - 1] -= 1
        return out
    c = square_root(T)
    held = np.zeros(T)
    held[challenge - 1 :] = c[: T - challenge + 1]
    # y = L⁻¹ a with L = R, whose inverse takes differences of R: the weight of a_j is Σ_i held_i (L⁻¹)_{ij}.
    back = np.diff(c, prepend=0.0)
    from scipy.signal import fftconvolve

    return fftconvolve(held[::-1], back)[:T][::-1]


def _linear(plan: ReleasePlan) -> bool:
    """Whether the plan says what the likelihood ratio is."""
    counts = plan.query == "counts" or (plan.query == "maxsum" and plan.d == 1)
    return counts and plan.strategy in ("tree", "sqrt", "naive")


def attack_plan(plan: ReleasePlan, n: int, challenge: int, adaptive: bool) -> Seen:
    """The noise of a plan, many runs side by side."""
    if not _linear(plan):
        raise ValueError(
            "make_mechanism must make objects: only noisy counts can be attacked by their plan"
        )
    zero, one = (_side_by_side(plan, n, challenge, adaptive, world) for world in (0, 1))
    quarter = n // 4
    return Seen(
        [(zero[:quarter], one[:quarter])],
        [(zero[quarter:], one[quarter:])],
        "likelihood ratio of all answers, by the plan alone",
        _streams(challenge, adaptive, None),
        f"all {plan.T} answers, by their weights in the likelihood ratio",
        objects=False,
        ours=False,
        fresh=True,
        repeated=False,
    )


def _side_by_side(
    plan: ReleasePlan, n: int, challenge: int, adaptive: bool, world: int
) -> Float[np.ndarray, " n"]:
    at_once = max(1, BLOCK // (plan.T * plan.d))
    by = weights(plan, challenge)
    scores = []
    for start in track(range(0, n, at_once), f"runs of world {world}"):
        runs = min(at_once, n - start)
        inner = counter(plan, OsEntropy(), runs * plan.d)
        if adaptive:
            rest = np.empty((plan.T, runs * plan.d))
            known = np.zeros(runs * plan.d)
            rows = np.zeros((1, runs * plan.d), np.uint8)
            for t in range(plan.T):
                if t == challenge - 1:
                    rows[:] = world
                rest[t] = inner.advance(rows)[0] - known - (rows[0] if t != challenge - 1 else 0)
                known += rows[0] if t != challenge - 1 else 0
                rows = (rest[t] < 0.5).astype(np.uint8)[None]
        else:
            rows = np.zeros((plan.T, runs * plan.d), np.uint8)
            rows[challenge - 1] = world
            rest = inner.advance(rows)
        scores.append((by @ rest).reshape(runs, plan.d).sum(axis=1))
    return np.concatenate(scores)


def attack_objects(
    make: Callable[[], Any],
    first: Any,
    plan: ReleasePlan,
    n: int,
    challenge: int,
    adaptive: bool,
    others: np.ndarray | None,
    random: np.random.Generator,
) -> Seen:
    """Objects by their own run: a quarter of the runs trains, a quarter chooses, half is tested."""
    kept = max(1, min(plan.T, HELD // (2 * n * plan.d)))
    times = np.unique(np.linspace(0, plan.T - 1, kept).astype(int))
    by = weights(plan, challenge) if _linear(plan) else None
    linear: list[np.ndarray] = []
    answers: list[np.ndarray] = []
    fresh, ours, repeated, made = True, True, False, first
    seen = _Once()
    for world in (0, 1):
        scores, rows = [], []
        for _ in track(range(n), f"runs of world {world}"):
            made = make() if made is None else made
            again = seen.before(made)
            repeated |= again
            if not again and getattr(made, "plan", None) != plan:
                raise ValueError("make_mechanism must make mechanisms of one plan")
            ours &= type(made) in KINDS and "run" not in vars(made)
            rest = _run(made, plan, challenge, adaptive, others, world)
            # Not what the object says of itself.
            fresh &= isinstance(made, Mechanism) and vars(Mechanism)["drawn_here"].fget(made)
            scores.append(float((by @ rest).sum()) if by is not None else 0.0)
            rows.append(rest[times])
            made = None
        order = random.permutation(n)
        linear.append(np.array(scores)[order])
        answers.append(np.stack(rows)[order])
    quarter = n // 4
    learned, looked_at = _learned(plan, answers, quarter, random)
    read = f"{looked_at} after {len(times)} of {plan.T} records"
    attack = "run of each object, the number that differs most or logistic regression"
    if by is not None:
        learned = [linear, *learned]
        attack = f"{attack}, or likelihood ratio of its plan"
        read = f"all {plan.T} answers, by their weights in the likelihood ratio; {read}"
    return Seen(
        [(s[0][quarter : 2 * quarter], s[1][quarter : 2 * quarter]) for s in learned],
        [(s[0][2 * quarter :], s[1][2 * quarter :]) for s in learned],
        attack,
        _streams(challenge, adaptive, others),
        read,
        objects=True,
        ours=ours,
        fresh=fresh,
        repeated=repeated,
    )


def _streams(challenge: int, adaptive: bool, others: np.ndarray | None) -> str:
    """The two streams, in words."""
    if adaptive:
        rest = "chosen after seeing answers"
    elif others is None:
        rest = "all zeros"
    else:
        rest = f"as given, with {int(others.sum())} ones in all"
    return f"record {challenge} all ones or all zeros, the others {rest}"


def _learned(
    plan: ReleasePlan, answers: list[np.ndarray], quarter: int, random: np.random.Generator
) -> tuple[list[list[np.ndarray]], str]:
    """Two scores of runs of either world, learned on their first quarter; and what they were chosen from, in words."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if plan.query == "sumselect":  # which column it is, not how large its number
        led = [a[..., 0] for a in answers]
        kinds = [[(a == j).astype(float) for a in led] for j in range(plan.d)]
        kinds += [[np.stack([(a == j).sum(axis=1) for j in range(plan.d)], axis=1) for a in led]]
        words = "whether each column leads, and how often,"
    else:
        flat = [a.reshape(len(a), -1) for a in answers]
        # A record can also hide behind the point, or in whether a whole number is even.
        kinds = [flat, [a - np.floor(a) for a in flat], [np.floor(a) % 2 for a in flat]]
        words = "values, fractions and parities of the answers"
    apart = [_apart(*(a[:quarter] for a in kind)) for kind in kinds]
    sizes = np.cumsum([0, *map(len, apart)])
    best = np.argsort(-np.concatenate(apart), kind="stable")[:FEATURES]
    which = np.searchsorted(sizes, best, side="right") - 1
    chosen = [
        np.stack([kinds[k][w][:, i - sizes[k]] for k, i in zip(which, best, strict=True)], axis=1)
        for w in (0, 1)
    ]
    sign = 1.0 if chosen[0][:quarter, 0].mean() <= chosen[1][:quarter, 0].mean() else -1.0
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.concatenate([c[:quarter] for c in chosen]), np.repeat([0, 1], quarter))
    learned = [model.decision_function(c) for c in chosen]
    # No threshold falls on a tie.
    learned = [s + 1e-9 * random.standard_normal(len(s)) for s in learned]
    words = (
        f"the {len(best)} of {sizes[-1]} numbers that differ most in a quarter of the runs: {words}"
    )
    return [[sign * c[:, 0] for c in chosen], learned], words


def _apart(zero: np.ndarray, one: np.ndarray) -> np.ndarray:
    """How far the means of each column are apart, in standard deviations."""
    gap = np.abs(one.mean(axis=0) - zero.mean(axis=0))
    deviation = np.sqrt((one.var(axis=0) + zero.var(axis=0)) / 2)
    return gap / np.maximum(deviation, 1e-300)


class _Once:
    """Which objects there were, without keeping them alive where that can be."""

    def __init__(self) -> None:
        self._seen: dict[int, Callable[[], Any]] = {}

    def before(self, made: Any) -> bool:
        """Whether it was here before; from now on it was."""
        old = self._seen.get(id(made), lambda: None)()
        try:
            self._seen[id(made)] = weakref.ref(made)
        except TypeError:
            self._seen[id(made)] = lambda: made
        return old is made


def _run(
    made: Any,
    plan: ReleasePlan,
    challenge: int,
    adaptive: bool,
    others: np.ndarray | None,
    world: int,
) -> Float[np.ndarray, "T width"]:
    """Answers of one run, less what the adversary knows that it put in."""
    if not adaptive:
        X = np.zeros((plan.T, plan.d), dtype=np.uint8) if others is None else others.copy()
        X[challenge - 1] = 0
        counts = np.cumsum(X, axis=0, dtype=np.int64)
        X[challenge - 1] = world
        return _answers(made, X) - (0 if others is None else _counted(plan, counts))
    known = np.zeros(plan.d)
    rest: list[np.ndarray] = []
    for t in range(plan.T):
        row = np.full(plan.d, world, np.uint8) if t == challenge - 1 else _next(plan, rest)
        if t != challenge - 1:
            known += row
        rest.append((_answers(made, row[None]) - _counted(plan, known[None]))[0])
    return np.stack(rest)


def _answers(made: Any, X: np.ndarray) -> Float[np.ndarray, "n width"]:
    """Of an object's own run, a row for each record."""
    answers = np.asarray(made.run(X), dtype=np.float64)
    if answers.ndim not in (1, 2) or len(answers) != len(X) or not np.isfinite(answers).all():
        raise ValueError(
            f"run of what make_mechanism makes must give {len(X)} finite answers, got shape {answers.shape}"
        )
    return answers.reshape(len(X), -1)


def _counted(plan: ReleasePlan, known: np.ndarray) -> Any:
    """What answers without noise would be after records that add up to `known`, shape (n, d)."""
    if plan.query == "sumselect":
        return 0.0
    return known if plan.query == "counts" else known.max(axis=1, keepdims=True)


def _next(plan: ReleasePlan, rest: list[np.ndarray]) -> np.ndarray:
    """A record after seeing answers: a one where the count is under-estimated, for a leader in another column."""
    row = np.zeros(plan.d, np.uint8)
    if plan.query == "sumselect":
        row[(int(rest[-1][0]) + 1) % plan.d if rest else 0] = 1
    elif rest:
        row[:] = rest[-1] < 0.5
    return row
