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
FEATURES = 64
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
    objects, ours, fresh, repeated : bool
        As in :class:`~whp.privacy._dp_continual_release.theorems.Attack`.
    """

    choose: list[Scores]
    test: list[Scores]
    attack: str
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
    attack = "likelihood ratio of all answers, by the plan alone"
    return Seen(
        [(zero[:quarter], one[:quarter])],
        [(zero[quarter:], one[quarter:])],
        attack + (", records chosen after seeing answers" if adaptive else ""),
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
    random: np.random.Generator,
) -> Seen:
    """Objects by their own run: a quarter of the runs trains, a quarter chooses, half is tested."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    times = np.unique(np.linspace(challenge - 1, plan.T - 1, FEATURES).astype(int))
    by = weights(plan, challenge) if _linear(plan) else None
    linear: list[np.ndarray] = []
    features: list[np.ndarray] = []
    fresh, ours, repeated, made = True, True, False, first
    seen = _Once()
    for world in (0, 1):
        scores, rows = [], []
        for _ in track(range(n), f"runs of world {world}"):
            made = make() if made is None else made
            repeated |= seen.before(made)
            ours &= type(made) in KINDS and "run" not in vars(made)
            rest = _run(made, plan, challenge, adaptive, world)
            # Not what the object says of itself.
            fresh &= isinstance(made, Mechanism) and vars(Mechanism)["drawn_here"].fget(made)
            scores.append(float((by @ rest).sum()) if by is not None else 0.0)
            rows.append(_features(plan, rest, times))
            made = None
        order = random.permutation(n)
        linear.append(np.array(scores)[order])
        features.append(np.stack(rows)[order])
    quarter = n // 4
    train = np.concatenate([f[:quarter] for f in features])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train, np.repeat([0, 1], quarter))
    learned = [model.decision_function(f) for f in features]
    # No threshold falls on a tie.
    learned = [s + 1e-9 * random.standard_normal(n) for s in learned]
    kinds = [learned] if by is None else [linear, learned]
    attack = "run of each object, logistic regression on its answers"
    if by is not None:
        attack = (
            "run of each object, likelihood ratio of its plan or logistic regression on its answers"
        )
    return Seen(
        [(s[0][quarter : 2 * quarter], s[1][quarter : 2 * quarter]) for s in kinds],
        [(s[0][2 * quarter :], s[1][2 * quarter :]) for s in kinds],
        attack + (", records chosen after seeing answers" if adaptive else ""),
        objects=True,
        ours=ours,
        fresh=fresh,
        repeated=repeated,
    )


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
    made: Any, plan: ReleasePlan, challenge: int, adaptive: bool, world: int
) -> Float[np.ndarray, "T width"]:
    """Answers of one run, less what the adversary knows that it put in."""
    X = np.zeros((plan.T, plan.d), dtype=np.uint8)
    if not adaptive:
        X[challenge - 1] = world
        answers = np.asarray(made.run(X), dtype=np.float64)
        return answers.reshape(plan.T, -1)
    known = np.zeros(plan.d)
    rest: list[np.ndarray] = []
    for t in range(plan.T):
        row = np.full(plan.d, world, np.uint8) if t == challenge - 1 else _next(plan, rest)
        if t != challenge - 1:
            known += row
        answer = np.asarray(made.run(row[None]), dtype=np.float64).reshape(-1)
        rest.append(answer - _counted(plan, known))
    return np.stack(rest)


def _counted(plan: ReleasePlan, known: np.ndarray) -> Any:
    if plan.query == "sumselect":
        return 0.0
    return known if plan.query == "counts" else known.max()


def _next(plan: ReleasePlan, rest: list[np.ndarray]) -> np.ndarray:
    """A record after seeing answers: a one where the count is under-estimated, for a leader in another column."""
    row = np.zeros(plan.d, np.uint8)
    if plan.query == "sumselect":
        row[(int(rest[-1][0]) + 1) % plan.d if rest else 0] = 1
    elif rest:
        row[:] = rest[-1] < 0.5
    return row


def _features(plan: ReleasePlan, rest: np.ndarray, times: np.ndarray) -> np.ndarray:
    if plan.query == "sumselect":  # which column it is, not how large its number
        return np.array([(rest[times] == j).sum() for j in range(plan.d)], dtype=float)
    return rest[times].ravel()
