"""Worlds of continual evaluation: curves, recordings and training runs whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate, Verdict
from whp.continual import StabilityGapResult, stability_gap
from whp.continual._stability_gap import theorems as t
from whp.experiment.worlds import Instance, Worlds

__all__ = ["worlds"]

worlds = Worlds("stability-gap", t.THEOREMS)
HERE = "whp.continual._stability_gap"
NEAR = 1e-9
TASKS, STEPS = 3, 20
GAP = 0.05
Rng = np.random.Generator
Truths = Mapping[str, bool | None]


# Curves


def dipping(depth: float, width: int, steps: int = STEPS) -> np.ndarray:
    """Accuracies (K, T): a new task rises to .92, old ones fall by `depth` and come back.

    They fall at the first update of each later task, and are back after `width` updates.
    """
    T = TASKS * steps
    A = np.full((TASKS, T), np.nan)
    for i in range(TASKS):
        own = np.arange(steps)
        A[i, i * steps : (i + 1) * steps] = 0.92 - 0.6 * np.exp(-own / 2)
        A[i, (i + 1) * steps - 1] = 0.92
        for k in range(i + 1, TASKS):
            A[i, k * steps : (k + 1) * steps] = 0.92 - depth * np.clip(1 - own / width, 0, 1)
    return A


def ends_of(A: np.ndarray) -> list[int]:
    """Updates done when each task ended."""
    return [A.shape[1] // TASKS * (k + 1) for k in range(TASKS)]


def flipped(A: np.ndarray, eta: float) -> np.ndarray:
    """Accuracies after each answer is turned with probability η."""
    return A * (1 - eta) + (1 - A) * eta


def outcomes(rng: Rng, A: np.ndarray, n: int, eta: float, alike: int = 1) -> list[np.ndarray]:
    """Which of n rows are right; `alike` rows each have the same answers."""
    made = []
    for row in A:
        curve = row[~np.isnan(row)]
        units = -(-n // alike)
        right = rng.random(units) < curve[:, None]
        if eta:
            right ^= rng.random((len(curve), units)) < eta
        made.append(np.repeat(right, alike, axis=1)[:, :n] if alike > 1 else right)
    return made


def curves(right: list[np.ndarray]) -> np.ndarray:
    """Shares of right rows, (K, T)."""
    T = len(right[0])
    return np.array([np.r_[np.full(T - len(r), np.nan), r.mean(axis=1)] for r in right])


def hidden(A: np.ndarray) -> float:
    """ACC − WC-ACC at the end."""
    ends = ends_of(A)
    return sum(A[i, -1] - A[i, ends[i] :].min() for i in range(TASKS - 1)) / TASKS


def temporary(A: np.ndarray) -> float:
    """The largest min(drop, recovery) of an old task during a later one."""
    ends, most = ends_of(A), 0.0
    for i in range(TASKS):
        for k in range(i + 1, TASKS):
            least = A[i, ends[k - 1] : ends[k]].min()
            most = max(most, min(A[i, ends[k - 1] - 1], A[i, ends[k] - 1]) - least)
    return most


def told(c: Certificate, truth: float, *, more: bool = True) -> bool | None:
    """Whether the user's interval has the truth; where it does and rightly fails, None."""
    demanded = truth <= c.bound + NEAR if c.name == "hidden-drop" else truth >= c.bound - NEAR
    if c.verdict is Verdict.FAILS and demanded:
        return True
    if c.measured is None:
        return None
    inside = bool(c.measured.low - NEAR <= truth <= c.measured.high + NEAR and more)
    return None if inside and c.verdict is Verdict.FAILS else inside


def judge(A: np.ndarray, *, band: bool = False) -> Callable[[StabilityGapResult], Truths]:
    """By the true accuracies: the intervals, and all limits of the band."""
    h, f = hidden(A), temporary(A)

    def truths(made: StabilityGapResult) -> Truths:
        by_name = {c.name: c for c in made.certificates}
        right = True
        if band:
            seen = A[:, made.times - 1]
            off = (seen < made.low - NEAR) | (seen > made.high + NEAR)
            right = not bool(off[~np.isnan(made.accuracy)].any())
        return {
            "hidden-drop": told(by_name["hidden-drop"], h, more=right),
            "temporary-forgetting": told(by_name["temporary-forgetting"], f),
        }

    return truths


def counted(rng: Rng, A: np.ndarray, n: int, eta: float = 0.02, **options: Any) -> Instance:
    """Accuracies of n rows."""
    B = flipped(A, eta)
    given = {"curves": curves(outcomes(rng, A, n, eta)), "task_ends": ends_of(A), "n": n}
    return Instance(given | options, judge(B, band=True))


def rowwise(rng: Rng, A: np.ndarray, n: int, eta: float = 0.02, **options: Any) -> Instance:
    """Which of n rows were right."""
    right = outcomes(rng, A, n, eta)
    given = {"curves": None, "correct": right, "task_ends": ends_of(A)}
    return Instance(given | options, judge(flipped(A, eta)))


@worlds.world(run=stability_gap, strengths=(2000, 400))
def flat(rng: Rng, strength: float) -> Instance:
    """Nothing falls; outcomes of as many rows as the strength: 2,000 are enough to say so."""
    return rowwise(rng, dipping(0, 1), int(strength), eta=0.002)


@worlds.world(run=stability_gap, expects=Verdict.FAILS, strengths=(0.3,))
def falls_and_recovers(rng: Rng, strength: float) -> Instance:
    """Old tasks fall by the strength at each switch, 400 rows: a stability gap is proved."""
    made = rowwise(rng, dipping(strength, 10), 400)

    def truths(result: StabilityGapResult) -> Truths:
        return {"hidden-drop": made.truths(result)["hidden-drop"]}

    return Instance(made.arguments, truths)


@worlds.world(run=stability_gap)
def falls_deep(rng: Rng, strength: float) -> Instance:
    """Old tasks lose a half at each switch and get it back: temporary forgetting is proved."""
    return rowwise(rng, dipping(0.5, 10), 400)


@worlds.world(run=stability_gap)
def just_below_the_demand(rng: Rng, strength: float) -> Instance:
    """What is hidden is just below the demand, 1,000 rows."""
    A = dipping(0.1, 8)
    return rowwise(rng, A, 1000, gap=hidden(flipped(A, 0.02)) + 1e-6)


@worlds.world(run=stability_gap, strengths=(99_991, 2115))
def written_with_two_digits(rng: Rng, strength: float) -> Instance:
    """Accuracies of so many rows in a log of whole percents, the demand just below what is hidden."""
    A = dipping(0.08 + 0.04 * rng.random(), 6)
    B, n = flipped(A, 0.002), int(strength)
    seen = np.round(curves(outcomes(rng, A, n, 0.002)), 2)
    given = {"curves": seen, "task_ends": ends_of(A), "n": n, "gap": hidden(B) - 0.001}
    return Instance(given, judge(B, band=True))


@worlds.world(run=stability_gap, strengths=(2115, 2000))
def written_in_fewer_bits(rng: Rng, strength: float) -> Instance:
    """Whole percents in single precision, or shares of 2,000 rows in half precision."""
    A, n = dipping(0.1, 6), int(strength)
    seen = curves(outcomes(rng, A, n, 0.02))
    seen = seen.astype(np.float16) if n == 2000 else np.round(seen, 2).astype(np.float32)
    return Instance(
        {"curves": seen, "task_ends": ends_of(A), "n": n}, judge(flipped(A, 0.02), band=True)
    )


@worlds.world(run=stability_gap, strengths=(0.0, 0.15))
def noisy_rows(rng: Rng, strength: float) -> Instance:
    """Three answers in ten are turned at random, 100 rows: minima are far too low."""
    return counted(rng, dipping(strength, 6), 100, eta=0.3)


@worlds.world(run=stability_gap)
def noisy_outcomes(rng: Rng, strength: float) -> Instance:
    """The same with outcomes: paired limits, the table of gaps among them."""
    A = dipping(0.15, 6)
    B = flipped(A, 0.3)
    made = rowwise(rng, A, 100, eta=0.3)

    def truths(result: StabilityGapResult) -> Truths:
        found, ends, inside = made.truths(result), ends_of(B), True
        for row in result.gaps.itertuples():
            i, k = int(row.old_task), int(row.new_task)  # type: ignore[arg-type]
            least = B[i, ends[k - 1] : ends[k]].min()
            for name, value in (
                ("drop", B[i, ends[k - 1] - 1] - least),
                ("recovery", B[i, ends[k] - 1] - least),
            ):
                low, high = getattr(row, f"{name}_low"), getattr(row, f"{name}_high")
                inside = inside and bool(low - NEAR <= value <= high + NEAR)
        both = found["temporary-forgetting"]
        return {**found, "temporary-forgetting": both if both is None else both and inside}

    return Instance(made.arguments, truths)


@worlds.world(run=stability_gap, strengths=(5, 20))
def log_with_gaps(rng: Rng, strength: float) -> Instance:
    """A deep fall of ten updates, evaluated as seldom as is said: 2,000 rows."""
    A, every = dipping(0.4, 10), int(strength)
    kept = [r[_kept(A, r, every)] for r in outcomes(rng, A, 2000, 0.02)]
    given = {"curves": None, "correct": kept, "task_ends": ends_of(A), "every": every}
    return Instance(given, judge(flipped(A, 0.02)))


def _kept(A: np.ndarray, right: np.ndarray, every: int) -> np.ndarray:
    """Which of a task's evaluations are on the grid."""
    updates = np.arange(A.shape[1] - len(right) + 1, A.shape[1] + 1)
    return (updates % every == 0) | np.isin(updates, ends_of(A))


@worlds.world(run=stability_gap)
def whole_set_matters(rng: Rng, strength: float) -> Instance:
    """100 of 150 rows, and the 150 are all that matters; three answers in ten are turned."""
    A = dipping(0.1, 6)
    whole = outcomes(rng, A, 150, 0.3)
    chosen = [rng.permutation(150)[:100] for _ in whole]
    seen = [r[:, c] for r, c in zip(whole, chosen, strict=True)]
    sizes = {"n": 100, "n_total": 150, "target": "set"}
    given = {"curves": curves(seen), "task_ends": ends_of(A), **sizes}
    return Instance(given, judge(curves(whole), band=True))


def no_union(original: Callable[..., Any]) -> Callable[..., Any]:
    """The band of each evaluation by itself."""

    def single(accuracy: Any, n: int, delta: float, *rest: Any) -> Any:
        return original(accuracy, n, min(0.5, 120 * delta), *rest)

    return single


def no_margin(original: Callable[..., Any]) -> Callable[..., Any]:
    """Paired limits at a level of one half."""

    def wide(lost: Any, gained: Any, n: int, level: float, *rest: Any) -> Any:
        return original(lost, gained, n, 0.5, *rest)

    return wide


worlds.mutant(
    "hidden-drop",
    "no union over evaluations",
    target=f"{HERE}.limits:band",
    change=no_union,
    world=noisy_rows,
)
worlds.mutant(
    "temporary-forgetting",
    "limits without a margin",
    target=f"{HERE}.limits:paired_limits",
    change=no_margin,
    world=noisy_outcomes,
)


# What is wrong with logs


def table_of(A: np.ndarray, kept: np.ndarray) -> pd.DataFrame:
    """A log with a row an evaluation of a task."""
    rows = [
        (int(u), f"task {i}", float(A[i, u - 1]))
        for i in range(TASKS)
        for u in kept
        if not np.isnan(A[i, u - 1])
    ]
    return pd.DataFrame(rows, columns=["iteration", "task", "accuracy"])


@worlds.world(run=stability_gap, breaks=t.EVERY_UPDATE, strengths=(20, 10, 2))
def log_said_to_be_complete(rng: Rng, strength: float) -> Instance:
    """A table of every so many-th update that is said to have every one."""
    A, every = dipping(0.4, 10), int(strength)
    made = curves(outcomes(rng, A, 500, 0.02))
    table = table_of(made, np.arange(every, A.shape[1] + 1, every))
    given = {"curves": table, "task_ends": ends_of(A), "n": 500, "every": 1}
    return Instance(given, judge(flipped(A, 0.02)))


@worlds.world(run=stability_gap, breaks=t.EVERY_UPDATE, strengths=(20, 10, 2), noticeable=False)
def columns_taken_as_updates(rng: Rng, strength: float) -> Instance:
    """An array of every so many-th update, handed in as if it were all: no number shows it."""
    A, every = dipping(0.4, 8, steps=60), int(strength)
    right = outcomes(rng, A, 1000, 0.002)
    kept = [r[_kept(A, r, every)] for r in right]
    given = {"curves": None, "correct": kept, "task_ends": [e // every for e in ends_of(A)]}
    h, f = hidden(flipped(A, 0.002)), temporary(flipped(A, 0.002))

    def truths(made: StabilityGapResult) -> Truths:
        first, second = made.certificates[:2]
        return {first.name: told(first, h), second.name: told(second, f)}

    return Instance(given, truths)


@worlds.world(run=stability_gap, breaks=t.UNSEEN, strengths=(0.9, 0.3), noticeable=False)
def trained_on_likenesses(rng: Rng, strength: float) -> Instance:
    """A share of evaluation rows was trained on, slightly changed: they are never wrong."""
    A = dipping(0.3, 10)
    right = outcomes(rng, A, 400, 0.02)
    for rows in right:
        rows[:, : int(strength * 400)] = True
    given = {"curves": None, "correct": right, "task_ends": ends_of(A)}
    return Instance(given, judge(flipped(A, 0.02)))


@worlds.world(run=stability_gap, breaks=t.SUBSET, strengths=(100, 1000), noticeable=False)
def redrawn_rows(rng: Rng, strength: float) -> Instance:
    """Other rows at each evaluation, as many as the strength; the number of rows is given."""
    B, n = dipping(0.0, 1), int(strength)
    counts = rng.binomial(n, np.nan_to_num(B))
    seen = np.where(np.isnan(B), np.nan, counts / n)
    return Instance({"curves": seen, "task_ends": ends_of(B), "n": n}, judge(B, band=True))


@worlds.world(run=stability_gap, breaks=t.NOT_CHOSEN, strengths=(20,), noticeable=False)
def best_of_many_runs(rng: Rng, strength: float) -> Instance:
    """Of so many runs the one whose worst case looks best on these rows."""
    A = dipping(0.1, 6)
    runs = [outcomes(rng, A, 100, 0.3) for _ in range(int(strength))]
    best = max(runs, key=lambda r: -hidden(curves(r)))
    given = {"curves": None, "correct": best, "task_ends": ends_of(A)}
    return Instance(given, judge(flipped(A, 0.3)))


@worlds.world(run=stability_gap, breaks=t.NOT_CHOSEN, strengths=(10,), noticeable=False)
def stopped_early(rng: Rng, strength: float) -> Instance:
    """The last task is stopped at that of so many updates at which the accuracies look best."""
    A = dipping(0.1, 6)
    right = outcomes(rng, A, 100, 0.3)
    seen = curves(right)
    last = A.shape[1] - int(strength) + int(np.argmax(seen[:, -int(strength) :].mean(axis=0))) + 1
    ends = [*ends_of(A)[:-1], last]
    cut = [r[: len(r) - (A.shape[1] - last)] for r in right]
    B = flipped(A, 0.3)[:, :last]
    h = sum(B[i, -1] - B[i, ends[i] :].min() for i in range(TASKS - 1)) / TASKS

    def truths(made: StabilityGapResult) -> Truths:
        return {"hidden-drop": told(made.certificates[0], h)}

    return Instance({"curves": None, "correct": cut, "task_ends": ends}, truths)


@worlds.world(run=stability_gap, breaks=t.INDEPENDENT, strengths=(50, 5), noticeable=False)
def frames_of_films(rng: Rng, strength: float) -> Instance:
    """As many rows as the strength show the same thing and have the same answers."""
    A = dipping(0.1, 6)
    right = outcomes(rng, A, 400, 0.02, alike=int(strength))
    given = {"curves": None, "correct": right, "task_ends": ends_of(A)}
    return Instance(given, judge(flipped(A, 0.02)))


@worlds.world(run=stability_gap, strengths=(20, 5))
def frames_with_their_films(rng: Rng, strength: float) -> Instance:
    """The same, and it is said which rows belong together."""
    A = dipping(0.1, 6)
    right = outcomes(rng, A, 400, 0.02, alike=int(strength))
    groups = [np.arange(400) // int(strength)] * TASKS
    given = {"curves": None, "correct": right, "groups": groups, "task_ends": ends_of(A)}
    return Instance(given, judge(flipped(A, 0.02)))


@worlds.world(run=stability_gap, breaks=t.COUNTS, strengths=(100, 20, 5), broken_from=5)
def rows_of_the_whole_set(rng: Rng, strength: float) -> Instance:
    """100 rows were looked at, and so many times as many are given as n."""
    A = dipping(0.1, 6)
    made = counted(rng, A, 100, eta=0.1)
    return Instance({**made.arguments, "n": 100 * int(strength)}, judge(flipped(A, 0.1)))


@worlds.world(run=stability_gap, breaks=t.COUNTS, strengths=(0.9, 0.6, 0.3))
def smoothed_curves(rng: Rng, strength: float) -> Instance:
    """Each accuracy is mixed with those before by the strength, as a dashboard shows it."""
    return smoothed(rng, dipping(0.4, 10), 500, strength)


def smoothed(rng: Rng, A: np.ndarray, n: int, strength: float) -> Instance:
    """Accuracies of n rows, each mixed with those before."""
    made = counted(rng, A, n)
    seen = made.arguments["curves"].copy()
    for row in seen:
        known = np.flatnonzero(~np.isnan(row))
        for at in known[1:]:
            row[at] = strength * row[at - 1] + (1 - strength) * row[at]
    return Instance({**made.arguments, "curves": seen}, made.truths)


@worlds.world(run=stability_gap, breaks=t.COUNTS, strengths=(0.9, 0.6), noticeable=False)
def smoothed_and_rounded(rng: Rng, strength: float) -> Instance:
    """The same of 2,115 rows, in three digits: any number is then a share of so many rows."""
    A = dipping(0.2, 3)
    made = smoothed(rng, A, 2115, strength)
    seen = np.round(made.arguments["curves"], 3)
    return Instance({**made.arguments, "curves": seen, "gap": 0.1}, made.truths)


@worlds.world(run=stability_gap, breaks=t.EXACT, strengths=(100, 1000), noticeable=False)
def nobody_said_how_many(rng: Rng, strength: float) -> Instance:
    """Accuracies of so many rows, and their number is not given."""
    made = counted(rng, dipping(0.1, 6), int(strength))
    given = {k: v for k, v in made.arguments.items() if k != "n"}
    return Instance(given, of_the_log(given["curves"]))


@worlds.world(run=stability_gap, breaks=t.EXACT, strengths=(100,), noticeable=False)
def redrawn_and_nobody_said(rng: Rng, strength: float) -> Instance:
    """Other rows at each evaluation, and their number is not given."""
    B = dipping(0.0, 1)
    counts = rng.binomial(int(strength), np.nan_to_num(B))
    seen = np.where(np.isnan(B), np.nan, counts / strength)
    return Instance({"curves": seen, "task_ends": ends_of(B)}, of_the_log(seen))


def of_the_log(A: np.ndarray) -> Callable[[StabilityGapResult], Truths]:
    """What fails is about the log; what holds would be about the tasks, so nothing may hold."""
    judged = judge(A)

    def truths(made: StabilityGapResult) -> Truths:
        holds = {c.name: c.verdict is Verdict.HOLDS for c in made.certificates}
        return {k: False if holds[k] else v for k, v in judged(made).items()}

    return truths


# Recordings of a model that is right where the world says


def recorded(
    right: list[np.ndarray],
    whole: list[np.ndarray] | None = None,
    *,
    subset: Any = 1000,
    width: int = 2,
    copies: int = 0,
    trained_on: int = 0,
    meddle: Callable[[Any, int], None] | None = None,
    between: Callable[[Any, int], None] | None = None,
    by_hand: bool = False,
    every: int = 1,
    seed: int = 0,
    target: str = "population",
) -> StabilityGapResult:
    """A recorder around a loop whose model answers the rows of each task as prescribed.

    Parameters
    ----------
    right : list of ndarray, (T_i, N_i)
        Which rows are right after each update from the task's first on.
    subset, target
        For the recorder.
    width : int
        Numbers a row.
    copies : int
        The last so many rows of each task are copies of the first.
    trained_on : int
        So many rows of the first task are trained on.
    meddle, between : callable, optional
        ``(model, number)`` is called at every prediction, and between updates.
    by_hand : bool
        Updates are told to the recorder instead of seen.
    every : int
        Updates between evaluations.
    seed : int
        Of the recorder.
    """
    import torch
    from torch import nn

    from whp.continual import ContinualEvaluator

    T = len(right[0])
    offsets = np.cumsum([0, *(r.shape[1] for r in right)])
    table = np.zeros((T + 1, offsets[-1]), dtype=bool)
    for r, a, b in zip(right, offsets[:-1], offsets[1:], strict=True):
        table[T + 1 - len(r) :, a:b] = r
    answers = torch.from_numpy(table)

    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clock = nn.Parameter(torch.zeros(1))
            self.register_buffer("seen", torch.zeros(1))

        def forward(self, X: Any) -> Any:
            good = answers[round(float(self.clock.detach())), X[:, 0].long()]
            return torch.stack([good.float(), 1 - good.float()], dim=1)

    sets = []
    for a, b in pairwise(offsets.tolist()):
        rows = torch.arange(a, b).float()
        if copies:
            rows[len(rows) - copies :] = rows[:copies]
        sets.append((rows[:, None].repeat(1, width), torch.zeros(b - a, dtype=torch.int64)))
    model = Scripted()
    calls = iter(range(10**9))

    def predict(net: Any, X: Any, task: int) -> Any:
        if meddle is not None:
            meddle(net, next(calls))
        return net(X).argmax(dim=1)

    evaluator = ContinualEvaluator(
        sets, every=every, subset=subset, predict=predict, random_state=seed
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for k in range(len(right)):
        steps = (T - len(right[k + 1]) if k + 1 < len(right) else T) - evaluator.updates
        batch = sets[0][0][:trained_on] if trained_on else torch.full((1, width), -1.0)
        with evaluator.task(k, model, None if by_hand else optimizer):
            evaluator.watch(batch)
            for step in range(steps):
                model.clock.grad = -torch.ones(1)
                optimizer.step()
                if by_hand:
                    evaluator.after_step(model)
                if between is not None:
                    between(model, step)
    return evaluator.result(windows=(2,), target=target)


def recording(rng: Rng, n: int = 40, eta: float = 0.1, depth: float = 0.0) -> list[np.ndarray]:
    """Outcomes of three short tasks."""
    return outcomes(rng, dipping(depth, 3, steps=5), n, eta)


def of_a_recording(depth: float, eta: float = 0.1) -> Callable[[StabilityGapResult], Truths]:
    """By the true accuracies of :func:`recording`."""
    return judge(flipped(dipping(depth, 3, steps=5), eta))


@worlds.world(run=recorded)
def recorder_in_a_loop(rng: Rng, strength: float) -> Instance:
    """A recorder around a loop that does nothing wrong."""
    return Instance({"right": recording(rng, depth=0.2)}, of_a_recording(0.2))


@worlds.world(run=recorded)
def recorder_of_subsets(rng: Rng, strength: float) -> Instance:
    """20 of 60 rows of each task are looked at, and all where minima appear."""
    right = recording(rng, n=60, eta=0.3)
    true = curves(right)

    def truths(made: StabilityGapResult) -> Truths:
        judged = dict(judge(true, band=True)(made))
        off = (true < made.low - NEAR) | (true > made.high + NEAR)
        judged["band-audit"] = not bool(off[~np.isnan(made.accuracy)].any())
        return judged

    seed = int(rng.integers(2**31))
    return Instance({"right": right, "subset": 20, "seed": seed, "target": "set"}, truths)


def half_room(original: Callable[..., Any]) -> Callable[..., Any]:
    """A band of a quarter of the width."""

    def narrow(accuracy: Any, *rest: Any) -> Any:
        low, high = original(accuracy, *rest)
        return accuracy - (accuracy - low) / 4, accuracy + (high - accuracy) / 4

    return narrow


worlds.mutant(
    "band-audit",
    "a quarter of the width",
    target=f"{HERE}.front_door:band",
    change=half_room,
    world=recorder_of_subsets,
    caught_by="false fails",
)


@worlds.world(run=recorded, breaks=t.SUBSET)
def easiest_rows_chosen(rng: Rng, strength: float) -> Instance:
    """The caller looks at the easiest 50 of 200 rows; whole sets show it."""
    A = dipping(0.5, 4, steps=5) - 0.2
    hardness = np.sort(rng.random(200))
    right = [hardness < row[~np.isnan(row)][:, None] for row in A]
    chosen = [list(range(50))] * TASKS
    given = {"right": right, "subset": chosen, "target": "set"}
    return Instance(given, judge(curves(right)))


@worlds.world(run=recorded, breaks=t.UNSEEN, strengths=(0.5, 0.1, 0.025))
def trained_on_copies(rng: Rng, strength: float) -> Instance:
    """A share of the first task's evaluation rows is trained on as it is."""
    right = recording(rng)
    rows = int(strength * 40)
    right[0][:, :rows] = True
    return Instance({"right": right, "trained_on": rows}, of_a_recording(0.0))


def _dropped(model: Any, step: int) -> None:
    import torch

    if step == 1:
        with torch.no_grad():
            model.clock += 0.0


@worlds.world(run=recorded, breaks=t.EVERY_UPDATE)
def weights_averaged_in_between(rng: Rng, strength: float) -> Instance:
    """The loop writes to the parameters between two steps of its optimiser."""
    return Instance({"right": recording(rng), "between": _dropped}, of_a_recording(0.0))


def _best_put_back(model: Any, step: int) -> None:
    if step == 4:  # the last update of a task
        model.clock.data -= 1.0


def _average_put_in(model: Any, step: int) -> None:
    if (
        step == 4 and float(model.clock.detach()) > 10
    ):  # of the last task, after which nothing comes
        model.clock.data += 0.25


@worlds.world(run=recorded, breaks=t.EVERY_UPDATE, strengths=(1.0, 0.25))
def changed_when_the_task_is_over(rng: Rng, strength: float) -> Instance:
    """Weights from before are put back at each task's end, or others at the end of the last alone."""
    between = _best_put_back if strength == 1.0 else _average_put_in
    return Instance({"right": recording(rng), "between": between}, of_a_recording(0.0))


def _after_the_switch_put_back(model: Any, step: int) -> None:
    if step == 9:  # the last update of a task, but the first
        model.clock.data -= 8 * (float(model.clock.detach()) > 10)


@worlds.world(run=recorded, breaks=t.EVERY_UPDATE, strengths=(5, 1))
def seldom_looked_at_and_put_back(rng: Rng, strength: float) -> Instance:
    """Evaluated at so many-th updates, a new task's first weights are put back at its end.

    Old tasks fell by the switch and never came back, while the evaluation before says so.
    """
    A = dipping(0.5, 8, steps=10)
    served = A.copy()
    for k in (1, 2):  # the end of each later task is what its second update left
        served[:, 10 * k + 9] = A[:, 10 * k + 1]
    right = outcomes(rng, A, 400, 0.02)
    given = {"right": right, "every": int(strength), "between": _after_the_switch_put_back}
    h, f = hidden(flipped(served, 0.02)), temporary(flipped(served, 0.02))

    def truths(made: StabilityGapResult) -> Truths:
        by_name = {c.name: c for c in made.certificates}
        return {
            "hidden-drop": told(by_name["hidden-drop"], h),
            "temporary-forgetting": told(by_name["temporary-forgetting"], f),
        }

    return Instance(given, truths)


def skipping(right: list[np.ndarray], cut: bool) -> StabilityGapResult:
    """An evaluation breaks off; the loop goes on with the next batch, or is begun again."""
    import torch

    from whp.continual import ContinualEvaluator

    T, n = len(right[0]), right[0].shape[1]
    calls = iter(range(10**9))

    def predict(net: Any, X: Any, task: int) -> Any:
        if next(calls) == 12:
            raise MemoryError
        good = right[task][round(float(net.weight.detach())) - 1 - (T - len(right[task]))]
        return torch.from_numpy(~good).long()

    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    sets = [(torch.arange(n).float()[:, None], torch.zeros(n, dtype=torch.int64)) for _ in right]
    evaluator = ContinualEvaluator(sets, predict=predict)

    def train(last: int) -> None:
        while round(float(model.weight.detach())) < last:
            model.weight.grad = -torch.ones(1, 1)
            try:
                optimizer.step()
            except MemoryError:
                if cut:
                    raise

    for k in range(len(right)):
        last = T - len(right[k + 1]) if k + 1 < len(right) else T
        try:
            with evaluator.task(k, model, optimizer):
                evaluator.watch(torch.full((1, 1), -1.0))
                train(last)
        except MemoryError:
            with evaluator.task(k, model, optimizer):
                train(last)
    return evaluator.result(windows=(2,))


@worlds.world(run=skipping, breaks=t.EVERY_UPDATE)
def an_evaluation_was_skipped(rng: Rng, strength: float) -> Instance:
    """An evaluation runs out of memory, which the loop catches, and goes on."""
    return Instance({"right": recording(rng), "cut": False}, of_a_recording(0.0))


@worlds.world(run=skipping)
def cut_off_and_begun_again(rng: Rng, strength: float) -> Instance:
    """The same ends the loop, which is begun again where it was."""
    return Instance({"right": recording(rng, depth=0.2), "cut": True}, of_a_recording(0.2))


class Meddler:
    """Does something at predictions from the given one on."""

    def __init__(self, first: int, how: str) -> None:
        self.first, self.how = first, how

    def __call__(self, model: Any, number: int) -> None:
        import torch

        if number >= self.first:
            if self.how == "buffers":
                model.seen.add_(1)
            elif self.how == "mode":
                model.train()
            else:
                torch.rand(1)


@worlds.world(run=recorded, breaks=t.NO_TRACE, strengths=(1, 20), broken_from=20, rising=False)
def prediction_in_training_mode(rng: Rng, strength: float) -> Instance:
    """From its so many-th call on, prediction sets the model to training, or writes a buffer."""
    how = "mode" if rng.random() < 0.5 else "buffers"
    given = {"right": recording(rng), "meddle": Meddler(int(strength), how)}
    return Instance(given, of_a_recording(0.0))


@worlds.world(run=recorded, breaks=t.NO_TRACE, strengths=(20,), broken_from=20, rising=False)
def prediction_draws_numbers(rng: Rng, strength: float) -> Instance:
    """From its so many-th call on, prediction takes a number out of the generator."""
    given = {"right": recording(rng), "meddle": Meddler(int(strength), "draw")}
    return Instance(given, of_a_recording(0.0))


@worlds.world(run=recorded, breaks=t.INDEPENDENT, strengths=(0.5, 0.2), slow=True)
def copied_rows(rng: Rng, strength: float) -> Instance:
    """A share of evaluation rows repeats another one."""
    given = {"right": recording(rng), "width": 9, "copies": int(strength * 40)}
    return Instance(given, of_a_recording(0.0))


# The first step of a task


def trained(
    strategy: str,
    layer: Any = None,
    *,
    momentum: float = 0.0,
    seed: int = 0,
    lr: float = 0.05,
    **options: Any,
) -> Certificate:
    """Three short tasks of Gaussian classes, and what is said of their first steps."""
    import torch
    from torch import nn

    from whp.continual import continual_fit
    from whp.continual._stability_gap.first_step import conditions_of

    rng = np.random.default_rng(seed)
    tasks = []
    for k in range(3):
        y = np.arange(12) % 2 + 2 * k
        X = rng.normal(size=(12, 5)) + 2 * np.eye(6)[y][:, :5]
        tasks.append((torch.from_numpy(X.astype(np.float32)), torch.from_numpy(y)))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        first = nn.Linear(5, 12)
        model = nn.Sequential(first, layer or nn.Identity(), nn.ReLU(), nn.Linear(12, 6))
        fit = continual_fit(
            model,
            tasks,
            strategy=strategy,
            batch_size=6,
            epochs=1,
            lr=lr,
            momentum=momentum,
            reset_optimizer=not momentum,
            record_gradients=True,
            random_state=seed,
            **options,
        )
    return t.first_step(*conditions_of(fit))


def resting(rng: Rng, strategy: str, truth: bool | None = True, **options: Any) -> Instance:
    """A run, and whether it is true that nothing pulls at the first step of its later tasks."""
    given = {"strategy": strategy, "seed": int(rng.integers(2**31)), **options}
    return Instance(given, lambda _: {"first-step": truth})


@worlds.world(run=trained)
def distillation(rng: Rng, strength: float) -> Instance:
    """Distillation of the old model, in single precision, with a dropout layer that drops nothing."""
    from torch import nn

    return resting(rng, "lwf", layer=nn.Dropout(0.0))


@worlds.world(run=trained)
def distillation_with_frozen_statistics(rng: Rng, strength: float) -> Instance:
    """Distillation; a batch norm is in evaluation mode while the model trains, as fine-tuning does."""
    from torch import nn

    return resting(rng, "lwf", layer=nn.BatchNorm1d(12).eval())


@worlds.world(run=trained, slow=True)
def intelligent_synapses(rng: Rng, strength: float) -> Instance:
    """Parameters held where they did much for the loss."""
    return resting(rng, "si")


@worlds.world(run=trained, slow=True)
def elastic_weights(rng: Rng, strength: float) -> Instance:
    """Parameters held by the Fisher information, around one anchor."""
    return resting(rng, "ewc", samples=4)


worlds.mutant(
    "first-step",
    "a threshold below single precision",
    target=f"{HERE}.theorems:AT_REST",
    change=lambda _: 1e-10,
    world=distillation,
    caught_by="false fails",
)


@worlds.world(run=trained, expects=Verdict.FAILS)
def an_anchor_a_task(rng: Rng, strength: float) -> Instance:
    """Elastic weights with one anchor for each old task pull at the second switch."""
    return resting(rng, "ewc", None, online=False, strength=10.0, samples=4)


@worlds.world(run=trained, strengths=(1e-3, 1e-4, 1e-5, 1e-6))
def a_weak_anchor_a_task(rng: Rng, strength: float) -> Instance:
    """The same with a small strength: its pull is small, and it is there from the first step on."""
    options = {"online": False, "strength": strength, "samples": 4}
    made = resting(rng, "ewc", **options)

    def truths(c: Certificate) -> Truths:
        return {"first-step": False if c.verdict is Verdict.HOLDS else None}

    return Instance(made.arguments, truths)


@worlds.world(run=trained, strengths=(1e3, 1e5))
def strong_distillation(rng: Rng, strength: float) -> Instance:
    """Distillation of a great strength: what rounding leaves of its gradient is multiplied by it."""
    return resting(rng, "lwf", strength=strength, lr=0.05 / strength)


@worlds.world(run=trained, expects=Verdict.VACUOUS, slow=True)
def no_strength(rng: Rng, strength: float) -> Instance:
    """A stability loss of strength zero never pulls, which says nothing."""
    return resting(rng, "ewc", None, strength=0.0, samples=4)


@worlds.world(run=trained, breaks=t.CENTRED)
def replayed_rows(rng: Rng, strength: float) -> Instance:
    """Rows from memory pull from the start."""
    return resting(rng, "er", truth=False, memory=8)


@worlds.world(run=trained, breaks=t.CENTRED, slow=True)
def projected_gradients(rng: Rng, strength: float) -> Instance:
    """A projection on what does not raise old losses acts from the start."""
    return resting(rng, "gem", truth=False, memory=8)


@worlds.world(run=trained, breaks=t.FRESH, strengths=(0.1,))
def momentum_is_kept(rng: Rng, strength: float) -> Instance:
    """Distillation; the optimiser's momentum of this size is kept over the switch."""
    return resting(rng, "lwf", momentum=strength, truth=False)


@worlds.world(run=trained, breaks=t.FRESH, strengths=(0.9, 0.1), slow=True)
def momentum_is_kept_by_synapses(rng: Rng, strength: float) -> Instance:
    """Synaptic intelligence with a momentum that is kept."""
    return resting(rng, "si", momentum=strength, truth=False)


def noise(size: float, how: str) -> Any:
    """A layer that computes something else in training."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTM(12, 12, num_layers=2, dropout=size) if how == "lstm" else None

        def forward(self, x: Any) -> Any:
            if self.cell is not None:
                return self.cell(x)[0]
            if how == "dropout":
                return functional.dropout(x, size, self.training)
            return x + size * torch.randn_like(x) if self.training else x

    return Layer()


@worlds.world(run=trained, breaks=t.SAME_FUNCTION, strengths=(0.5, 0.1), broken_from=0.1)
def dropout_in_a_function(rng: Rng, strength: float) -> Instance:
    """Dropout written into the forward pass, or into a recurrent layer: no module shows it."""
    how = "dropout" if rng.random() < 0.5 else "lstm"
    return resting(rng, "lwf", truth=False, layer=noise(strength, how))


@worlds.world(run=trained, breaks=t.SAME_FUNCTION, strengths=(0.1, 1e-2, 1e-4))
def noise_in_training(rng: Rng, strength: float) -> Instance:
    """Normal noise of the strength is added in training."""
    return resting(rng, "lwf", truth=False, layer=noise(strength, "noise"))


# Reports


def report(rng: Rng, eta: float = 0.0) -> tuple[dict[str, Any], dict[str, float]]:
    """A complete run of 500 rows with its true metrics."""
    A = curves(outcomes(rng, dipping(0.1, 6), 500, 0.02))
    acc = float(A[:, -1].mean())
    return {"curves": A, "task_ends": ends_of(A), "n": 500}, {"acc": acc, "wc_acc": acc - hidden(A)}


@worlds.world(run=stability_gap)
def rounded_report(rng: Rng, strength: float) -> Instance:
    """Numbers of this run in three digits."""
    given, true = report(rng)
    told_of = {k: round(v, 3) for k, v in true.items()}
    return Instance({**given, "reported": told_of}, lambda _: {"envelope": True})


worlds.mutant(
    "envelope",
    "half of a digit halved",
    target=f"{HERE}.theorems:ROUNDED",
    change=lambda r: r / 2,
    world=rounded_report,
    caught_by="false fails",
)


@worlds.world(run=stability_gap, breaks=t.SAME_ROWS, strengths=(0.01, 0.002), noticeable=False)
def report_on_other_rows(rng: Rng, strength: float) -> Instance:
    """Numbers that somebody measured on other rows, off by as much as the strength."""
    given, true = report(rng)
    off = {k: float(np.clip(v + strength * rng.choice([-1, 1]), 0, 1)) for k, v in true.items()}
    return Instance({**given, "reported": off}, not_theirs)


@worlds.world(run=stability_gap, breaks=t.SAME_ROWS, strengths=(0.05, 0.02), noticeable=False)
def report_of_boundaries(rng: Rng, strength: float) -> Instance:
    """The worst case of another run, that much better than this one's, beside this run's accuracy."""
    given, true = report(rng)
    off = {"acc": true["acc"], "wc_acc": min(1.0, true["acc"] + strength)}
    return Instance({**given, "reported": off}, not_theirs)


def not_theirs(made: StabilityGapResult) -> Truths:
    """The report is of something else: it may not hold; that it fails is right."""
    envelope = next(c for c in made.certificates if c.name == "envelope")
    return {"envelope": None if envelope.verdict is Verdict.FAILS else False}


worlds.by_construction(
    t.SUBSET,
    "tests/continual/stability_gap/test_recorder.py::test_nobody_gets_round_the_drawn_subset",
)
