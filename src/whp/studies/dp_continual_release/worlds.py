"""Worlds of private streams: errors are judged by the answers against the stream as it came, privacy by the noise in them."""

from __future__ import annotations

import math
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate, Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.io import Log
from whp.privacy._dp_continual_release import mechanisms
from whp.privacy._dp_continual_release.accuracy import ReleasePlan, plan_release, planned
from whp.privacy._dp_continual_release.audit import PrivacyAudit, audit_release
from whp.privacy._dp_continual_release.budget import Budget
from whp.privacy._dp_continual_release.front_door import release_stream
from whp.privacy._dp_continual_release.mechanisms import (
    ContinualArgmax,
    ContinualCounter,
    ContinualMaxSum,
    Mechanism,
)
from whp.privacy._dp_continual_release.noise import (
    Noise,
    OsEntropy,
    SeededEntropy,
    discrete_gaussian,
)
from whp.privacy._dp_continual_release.result import PrivateStream
from whp.privacy._dp_continual_release.theorems import (
    ATTACKED,
    FRESH,
    HORIZON,
    INDEPENDENT,
    ONCE,
    ONE_EACH,
    PUBLIC,
    RECORDS,
    THEOREMS,
    UNCUT,
    WIDE,
)

__all__ = ["worlds"]

worlds = Worlds("dp-continual-release", THEOREMS)
HOME = "whp.privacy._dp_continual_release"
RHO = 0.5


@dataclass(frozen=True)
class Played:
    """A stream that was answered."""

    answers: np.ndarray
    bound: float
    certificates: tuple[Certificate, ...]


def largest_error(query: str, answers: np.ndarray, X: np.ndarray) -> float:
    """By the definition, against the stream as it came."""
    worst, counts = 0.0, np.zeros(X.shape[1], dtype=np.int64)
    for row, answer in zip(X, answers, strict=True):
        counts = counts + row
        if query == "counts":
            off = np.abs(answer - counts).max()
        elif query == "maxsum":
            off = abs(answer - counts.max())
        else:
            off = counts.max() - counts[int(answer)]
        worst = max(worst, float(off))
    return worst


def bits(rng: np.random.Generator, T: int, p: Any) -> np.ndarray:
    """Independent bits, column j one with probability p_j."""
    return (rng.random((T, len(p))) < np.asarray(p)).astype(np.uint8)


def seed(rng: np.random.Generator) -> int:
    """For noise that a test can draw again; the privacy certificate is void then and not judged."""
    return int(rng.integers(1 << 31))


def play(
    kind: Callable[..., Mechanism], X: np.ndarray, options: Mapping[str, Any], measure: bool
) -> Played:
    """All records at once, by a mechanism of these options."""
    mechanism = kind(X.shape[1], **options)
    return played(mechanism, X, mechanism.run(X), measure)


def played(mechanism: Mechanism, X: np.ndarray, answers: np.ndarray, measure: bool) -> Played:
    """With the certificates of the mechanism."""
    worst = largest_error(mechanism.query, answers, X)
    errors = np.full(len(X), worst) if measure else None
    return Played(answers, mechanism.error_bound(), mechanism.certificates(errors))


def error_judged(kind: Any, X: np.ndarray, options: Mapping[str, Any], **more: Any) -> Instance:
    """The bound against the answers."""

    def truths(made: Any) -> dict[str, bool | None]:
        off = largest_error(kind.query, made.answers, X) - made.bound
        return {"max-error": None if abs(off) < 1e-9 else off < 0}

    return Instance({"kind": kind, "X": X, "options": options, **more}, truths)


# Errors: nothing is broken


@worlds.world(run=play)
def tree(rng: np.random.Generator, strength: float) -> Instance:
    """A thousand fair bits, no power of two, counted by the tree."""
    options = {"T": 1000, "rho": RHO, "strategy": "tree", "insecure_seed": seed(rng)}
    return error_judged(ContinualCounter, bits(rng, 1000, [0.5]), options)


@worlds.world(run=play)
def square_root(rng: np.random.Generator, strength: float) -> Instance:
    """Two columns of 1,024 fair bits by the square root."""
    options = {"T": 1024, "rho": RHO, "strategy": "sqrt", "insecure_seed": seed(rng)}
    return error_judged(ContinualCounter, bits(rng, 1024, [0.5, 0.5]), options)


@worlds.world(run=play)
def recompute(rng: np.random.Generator, strength: float) -> Instance:
    """MaxSum by recomputing, of fair bits, of a column that is always one, or of nothing but zeros."""
    p = ([0.5] * 3, [1.0, 0.5, 0.0], [0.0] * 3)[int(rng.integers(3))]
    options = {"T": 2000, "rho": RHO, "strategy": "recompute", "insecure_seed": seed(rng)}
    return error_judged(ContinualMaxSum, bits(rng, 2000, p), options)


@worlds.world(run=play)
def pure_recompute(rng: np.random.Generator, strength: float) -> Instance:
    """The same for pure ε = 1."""
    options = {
        "T": 2000,
        "epsilon": 1.0,
        "delta": 0,
        "strategy": "recompute",
        "insecure_seed": seed(rng),
    }
    return error_judged(ContinualMaxSum, bits(rng, 2000, [0.5] * 3), options)


@worlds.world(run=play)
def pure_tree(rng: np.random.Generator, strength: float) -> Instance:
    """Laplace noise in a tree of 1,024 records."""
    options = {
        "T": 1024,
        "epsilon": 1.0,
        "delta": 0,
        "strategy": "tree",
        "insecure_seed": seed(rng),
    }
    return error_judged(ContinualCounter, bits(rng, 1024, [0.5]), options)


@worlds.world(run=play)
def few_records(rng: np.random.Generator, strength: float) -> Instance:
    """Eight records with fresh noise, or a tree of one."""
    T, strategy = ((8, "naive"), (1, "tree"))[int(rng.integers(2))]
    options = {"T": T, "rho": RHO, "strategy": strategy, "insecure_seed": seed(rng)}
    return error_judged(ContinualCounter, bits(rng, T, [0.5]), options)


@worlds.world(run=play)
def hardly_any_noise(rng: np.random.Generator, strength: float) -> Instance:
    """Budgets so large that the noise is nearly always zero, and rounding is what is left."""
    rho, T = ((200.0, 64), (5000.0, 4))[int(rng.integers(2))]
    strategy = ("tree", "sqrt")[int(rng.integers(2))]
    options = {"T": T, "rho": rho, "strategy": strategy, "insecure_seed": seed(rng)}
    return error_judged(ContinualCounter, bits(rng, T, [0.5, 0.9]), options)


@worlds.world(run=play)
def tied_columns(rng: np.random.Generator, strength: float) -> Instance:
    """Which of 302 columns leads, where all are alike."""
    options = {"T": 1000, "rho": RHO, "strategy": "recompute", "insecure_seed": seed(rng)}
    return error_judged(ContinualArgmax, bits(rng, 1000, [0.3] * 302), options)


@worlds.world(run=play, expects=Verdict.VACUOUS)
def hopeless_budget(rng: np.random.Generator, strength: float) -> Instance:
    """ρ = 10⁻⁴: half the number of records is as good an answer."""
    options = {"T": 500, "rho": 1e-4, "strategy": "recompute", "insecure_seed": seed(rng)}
    return error_judged(ContinualMaxSum, bits(rng, 500, [0.5] * 3), options)


def select_once(plan: ReleasePlan, X: np.ndarray, rng_seed: int, measure: bool) -> Played:
    """SumSelect of a plan whose period is given."""
    source = mechanisms.SeededEntropy(rng_seed)
    mechanism = ContinualArgmax.from_plan(plan, source=source)
    return played(mechanism, X, mechanism.run(X), measure)


@worlds.world(run=select_once)
def one_selection(rng: np.random.Generator, strength: float) -> Instance:
    """One release among columns that trail by just what a selection may miss, then the leader alone until the end."""
    d, r, beta = 40, 150, 0.05
    budget = Budget.of(0.5, None, None)
    plan = planned("sumselect", 2 * r - 1, d, budget, "recompute", None, "replace", beta, r)
    sharpness = math.sqrt(8 * 0.5)
    gap = math.floor(2 / sharpness * math.log(d / beta)) + 1
    X = np.zeros((2 * r - 1, d), np.uint8)
    X[:gap, 0], X[r:, 0] = 1, 1

    def truths(made: Played) -> dict[str, bool | None]:
        return {"max-error": largest_error("sumselect", made.answers, X) <= made.bound}

    return Instance({"plan": plan, "X": X, "rng_seed": seed(rng)}, truths)


def by_plan(plan: ReleasePlan, X: np.ndarray, rng_seed: int, measure: bool) -> Played:
    """The mechanism of a plan, with the noise of a seed."""
    mechanism = Mechanism.from_plan(plan, source=SeededEntropy(rng_seed))
    return played(mechanism, X, mechanism.run(X), measure)


@worlds.world(run=by_plan)
def wider_noise(rng: np.random.Generator, strength: float) -> Instance:
    """Plans whose scale was put up by half as much again: the error bound has to go with it."""
    query, strategy = (("counts", "tree"), ("counts", "sqrt"), ("maxsum", "recompute"))[
        int(rng.integers(3))
    ]
    plan = plan_release(query, 500, 2, rho=RHO, strategy=strategy)  # type: ignore[arg-type]
    X = bits(rng, 500, [1.0, 0.5])

    def truths(made: Played) -> dict[str, bool | None]:
        return {"max-error": largest_error(query, made.answers, X) <= made.bound}

    wider = replace(plan, scale=plan.scale * 3 / 2)
    return Instance({"plan": wider, "X": X, "rng_seed": seed(rng)}, truths)


@worlds.world(run=play)
def doubled_horizon(rng: np.random.Generator, strength: float) -> Instance:
    """Epochs of 64, 128, 256 records, recomputed, one column always one: answers outlive their epoch."""
    options = {
        "T": 64,
        "rho": 20.0,
        "strategy": "recompute",
        "horizon": "double",
        "insecure_seed": seed(rng),
    }
    return error_judged(ContinualMaxSum, bits(rng, 448, [1.0, 0.5]), options)


def stop_and_go(
    kind: Callable[..., Mechanism],
    X: np.ndarray,
    options: Mapping[str, Any],
    stop: int,
    measure: bool,
) -> Played:
    """State saved after some records, loaded into another mechanism."""
    first = kind(X.shape[1], **options)
    before = first.run(X[:stop])
    second = kind(X.shape[1], **options)
    second.load_state_dict(first.state_dict())
    return played(second, X, np.concatenate([before, second.run(X[stop:])]), measure)


@worlds.world(run=stop_and_go)
def resumed(rng: np.random.Generator, strength: float) -> Instance:
    """A stream in epochs, stopped in the middle of one or just at its end."""
    strategy = ("tree", "sqrt", "naive")[int(rng.integers(3))]
    stop = (64, 100, 192)[int(rng.integers(3))]
    options = {
        "T": 64,
        "rho": 50.0,
        "strategy": strategy,
        "horizon": "double",
        "insecure_seed": seed(rng),
    }
    X = bits(rng, 256, [1.0, 0.5])
    return error_judged(ContinualCounter, X, options, stop=stop)


@worlds.world(run=release_stream)
def categories(rng: np.random.Generator, strength: float) -> Instance:
    """One of four categories a record, through the front door."""
    where = rng.integers(0, 4, 800)
    X = np.eye(4, dtype=np.uint8)[where]
    measure = bool(rng.integers(4))
    query = ("counts", "maxsum", "sumselect")[int(rng.integers(3))]

    def truths(made: PrivateStream) -> dict[str, bool | None]:
        return {"max-error": largest_error(query, made.answers, X) <= made.bound}

    arguments = {
        "stream": np.array(list("abcd"))[where],
        "categories": "a,b,c,d",
        "query": query,
        "T": 800,
        "rho": 0.5,
        "measure": measure,
        "reveal": measure,
        "insecure_seed": seed(rng),
    }
    return Instance(arguments, truths)


@worlds.world(run=release_stream)
def lists_in_other_words(rng: np.random.Generator, strength: float) -> Instance:
    """Dates, codes, bytes, True and False in memory, whose list is written as people write it; others count for none."""
    where = rng.integers(0, 2, 400)
    zone = str(rng.choice(("Europe/Paris", "America/New_York")))
    days = pd.Series(pd.to_datetime(["2024-03-31", "2024-04-01"]))
    kinds: tuple[tuple[Any, Any], ...] = (
        (days, ["2024-03-31", "2024-04-01"]),
        (days.dt.tz_localize(zone), ["2024-03-31", "2024-04-01"]),
        (pd.Series([1.0, 2.5]), "1,2.50"),
        (pd.Series([7, 8], dtype=np.int8), ["7.0", "08"]),
        (pd.Series([0.1, 0.2], dtype=np.float32), [0.1, 0.2]),
        (pd.Series([True, False]), "true,false"),
    )
    values, listed = kinds[int(rng.integers(len(kinds)))]
    X = np.eye(2, dtype=np.uint8)[where]

    def truths(made: PrivateStream) -> dict[str, bool | None]:
        return {"max-error": largest_error("counts", made.answers, X) <= made.bound}

    arguments = {
        "stream": pd.DataFrame({"c": values.iloc[where].reset_index(drop=True)}),
        "column": "c",
        "categories": listed,
        "on_unknown": "none",
        "query": "counts",
        "T": 400,
        "rho": 5.0,
        "insecure_seed": seed(rng),
    }
    return Instance(arguments, truths)


for target, what, home in (
    ("_gaussian_bound", "Gaussian bound halved", square_root),
    ("_laplace_bound", "Laplace bound halved", pure_tree),
):
    worlds.mutant(
        "max-error",
        what,
        target=f"{HOME}.accuracy:{target}",
        change=lambda f: lambda *a: f(*a) / 2,
        world=home,
    )


def _halved(f: Callable[..., Any]) -> Callable[..., Any]:
    def changed(*arguments: Any) -> Any:
        made = f(*arguments)
        return replace(made, bound=made.bound / 2)

    return changed


for home in (recompute, pure_recompute):
    worlds.mutant(
        "max-error",
        f"bound of recomputing halved, {home.name}",
        target=f"{HOME}.accuracy:_recompute",
        change=_halved,
        world=home,
    )
worlds.mutant(
    "max-error",
    "selection half as sharp",
    target=f"{HOME}.releases:_select",
    change=lambda f: lambda words, sums, numerator, places: f(words, sums, numerator // 2, places),
    world=one_selection,
)
worlds.mutant(
    "max-error",
    "staleness over an epoch's end left out",
    target=f"{HOME}.mechanisms:over_epochs",
    change=lambda f: lambda plans: plans[-1].bound / 1.5,
    world=doubled_horizon,
)


# Errors: cut records


def cut_stream(X: np.ndarray, options: Mapping[str, Any], measure: bool) -> PrivateStream:
    """Through the front door, measured and told, or not."""
    return release_stream(X, measure=measure, reveal=measure, **options)


def _cut(X: np.ndarray, query: str, ones: int, measure: bool, rng: np.random.Generator) -> Instance:
    options = {
        "query": query,
        "T": len(X),
        "rho": RHO,
        "max_ones": ones,
        "insecure_seed": seed(rng),
    }

    def truths(made: PrivateStream) -> dict[str, bool | None]:
        return {"max-error": largest_error(query, made.answers, X) <= made.bound}

    return Instance({"X": X, "options": options, "measure": measure}, truths)


ONES = (12, 10, 9, 8, 7, 5)


@worlds.world(run=cut_stream, breaks=UNCUT, strengths=ONES, broken_from=8, rising=False)
def ones_cut(rng: np.random.Generator, strength: float) -> Instance:
    """Six of 20 ones on average, cut to m, and the error measured."""
    return _cut(bits(rng, 1000, [0.3] * 20), "counts", int(strength), True, rng)


@worlds.world(run=cut_stream, breaks=UNCUT, strengths=ONES, noticeable=False, rising=False)
def ones_cut_unseen(rng: np.random.Generator, strength: float) -> Instance:
    """The same unmeasured: how many ones were cut is private."""
    return _cut(bits(rng, 1000, [0.3] * 20), "counts", int(strength), False, rng)


@worlds.world(run=cut_stream, breaks=UNCUT)
def best_seller_cut(rng: np.random.Generator, strength: float) -> Instance:
    """MaxSum of 20 columns, one of which is nearly always bought, cut to two ones."""
    p = [0.6] + [float(rng.choice((0.05, 0.1, 0.2)))] * 19
    return _cut(bits(rng, 2000, p), "maxsum", 2, True, rng)


# Records and horizon


def _refused(stream: Any, **options: Any) -> Instance:
    return Instance(
        {"stream": stream, **options}, lambda made: {"privacy": False, "max-error": None}
    )


@worlds.world(run=release_stream, breaks=RECORDS, refuses=(ValueError,))
def a_two(rng: np.random.Generator, strength: float) -> Instance:
    """One entry of many is 2, −1, a half or missing."""
    X = bits(rng, 300, [0.5] * 3).astype(float)
    X[int(rng.integers(300)), int(rng.integers(3))] = rng.choice((2, -1, 0.5, math.nan))
    return _refused(X, T=300)


@worlds.world(run=release_stream, breaks=RECORDS, refuses=(ValueError,))
def a_wide_row(rng: np.random.Generator, strength: float) -> Instance:
    """An iterator gives a row that is wider than the first."""
    rows = [*bits(rng, 20, [0.5] * 3), np.ones(4, np.uint8)]
    return _refused(iter(rows), T=300)


def told_of_a_record(labels: list[str]) -> PrivateStream:
    """A log stops at a category that is not listed, and is then continued."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        path.write_text("c\n" + "\n".join(labels) + "\n")
        options: dict[str, Any] = {
            "categories": "a,b",
            "T": 500,
            "state": Path(folder) / "state",
            "column": "c",
        }
        try:
            return release_stream(Log(path), **options)
        except ValueError:
            return release_stream(Log(path), on_unknown="none", **options)


@worlds.world(run=told_of_a_record, breaks=RECORDS)
def an_error_tells(rng: np.random.Generator, strength: float) -> Instance:
    """An error said which record has another category; the rest is then answered with on_unknown='none'."""
    labels = rng.choice(["a", "b"], 60)
    labels[int(rng.integers(60))] = "c"
    return Instance({"labels": labels.tolist()}, lambda made: {"privacy": False})


def told_by_a_step(X: np.ndarray) -> Played:
    """The error of a step is caught, and the stream goes on."""
    mechanism = ContinualCounter(X.shape[1], T=len(X), rho=RHO)
    answers = []
    for row in X:
        try:
            answers.append(mechanism.step(row))
        except ValueError:
            answers.append(mechanism.step(np.zeros(X.shape[1])))
    return played(mechanism, X, np.stack(answers), False)


@worlds.world(run=told_by_a_step, breaks=RECORDS)
def an_error_of_a_step_tells(rng: np.random.Generator, strength: float) -> Instance:
    """Records are taken one by one, and an error said that one was 2."""
    X = bits(rng, 60, [0.5] * 2)
    X[int(rng.integers(60)), 0] = 2
    return Instance({"X": X}, lambda made: {"privacy": False, "max-error": None})


@worlds.world(run=release_stream, breaks=HORIZON, refuses=(ValueError,))
def too_long(rng: np.random.Generator, strength: float) -> Instance:
    """One record more than planned."""
    return _refused(bits(rng, 201, [0.5]), T=200, query="counts")


@worlds.world(run=release_stream, breaks=HORIZON, refuses=(ValueError,))
def too_long_by_steps(rng: np.random.Generator, strength: float) -> Instance:
    """The same record by record."""
    return _refused(iter(bits(rng, 41, [0.5])), T=40, query="counts")


# Privacy


def _private(**arguments: Any) -> Instance:
    """Privacy that is lost, so that its claim is false of what the user relies on."""
    return Instance(arguments, lambda made: {"privacy": False})


@worlds.world(run=play)
def noise_in_the_answers(rng: np.random.Generator, strength: float) -> Instance:
    """A thousand columns, whose answers show how much noise there is: it must be what the budget asks for."""
    strategy, T, d = ("tree", "naive")[int(rng.integers(2))], 4, 1000
    rho = float(rng.choice((0.1, 0.5, 2.0)))
    X = bits(rng, T, [0.5] * d)
    levels = sum(2**k <= T for k in range(10)) if strategy == "tree" else T
    times = [0, 1, 3] if strategy == "tree" else list(range(T))  # answers of one node

    def truths(made: Played) -> dict[str, bool | None]:
        rest = (made.answers - np.cumsum(X, axis=0, dtype=int))[times]
        return {"privacy": float((rest**2).mean()) >= 0.85 * levels * d / (2 * rho)}

    options = {"T": T, "rho": rho, "strategy": strategy}
    return Instance({"kind": ContinualCounter, "X": X, "options": options}, truths)


worlds.mutant(
    "privacy",
    "σ² halved",
    target=f"{HOME}.accuracy:root_above",
    change=lambda f: lambda value: f(value / 2),
    world=noise_in_the_answers,
)


def by_threads(mechanism: Mechanism, n: int) -> Played:
    """Empty records, one by one, from four threads at once."""
    ready = threading.Barrier(4)

    def steps(_: int) -> list[np.ndarray]:
        ready.wait()
        return [mechanism.step(np.zeros(mechanism.d)) for _ in range(n)]

    with ThreadPoolExecutor(4) as pool:
        answers = np.array([a for part in pool.map(steps, range(4)) for a in part])
    return Played(answers, mechanism.error_bound(), mechanism.certificates())


@worlds.world(run=by_threads)
def four_threads(rng: np.random.Generator, strength: float) -> Instance:
    """Four threads share a counter of 300 columns with fresh noise: no two answers have the same noise."""
    mechanism = ContinualCounter(300, T=80, rho=RHO, strategy="naive")

    def truths(made: Played) -> dict[str, bool | None]:
        return {"privacy": len(np.unique(made.answers, axis=0)) == len(made.answers)}

    return Instance({"mechanism": mechanism, "n": 20}, truths)


@worlds.world(run=play, breaks=ONE_EACH, strengths=(2, 10), noticeable=False)
def one_person_many_rows(rng: np.random.Generator, strength: float) -> Instance:
    """A person in g rows: ρ g² is what protects them."""
    X = bits(rng, 100, [0.5] * 3)
    X[rng.choice(100, int(strength), replace=False)] = 1
    options = {"T": 100, "rho": RHO}
    return _private(kind=ContinualCounter, X=X, options=options)


@worlds.world(run=release_stream, breaks=ONE_EACH, strengths=(5,), noticeable=False)
def one_patient_many_visits(rng: np.random.Generator, strength: float) -> Instance:
    """Visits, of which five are one patient's, as categories."""
    wards = np.array(list("abc"))[rng.integers(0, 3, 100)]
    wards[rng.choice(100, int(strength), replace=False)] = "a"
    return _private(stream=wards, categories="a,b,c", epsilon=1.0, delta=1e-6)


@worlds.world(run=play, breaks=FRESH)
def seeded(rng: np.random.Generator, strength: float) -> Instance:
    """Noise of a seed."""
    options = {"T": 100, "rho": RHO, "insecure_seed": seed(rng)}
    return _private(kind=ContinualCounter, X=bits(rng, 100, [0.5] * 2), options=options)


def seed_forgotten(
    X: np.ndarray, options: Mapping[str, Any], rng_seed: int, strategy: str
) -> Played:
    """The first part with a seed, the rest without."""
    first = ContinualCounter(X.shape[1], insecure_seed=rng_seed, strategy=strategy, **options)  # type: ignore[arg-type]
    before = first.run(X[:32])
    second = ContinualCounter(X.shape[1], strategy=strategy, **options)  # type: ignore[arg-type]
    second.load_state_dict(first.state_dict())
    return played(second, X, np.concatenate([before, second.run(X[32:])]), False)


@worlds.world(run=seed_forgotten, breaks=FRESH)
def seeded_before_the_resume(rng: np.random.Generator, strength: float) -> Instance:
    """A state with a seed's noise in its open nodes, continued without the seed."""
    return _private(
        X=bits(rng, 40, [0.5] * 2),
        options={"T": 64, "rho": RHO},
        rng_seed=seed(rng),
        strategy=("tree", "sqrt", "naive")[int(rng.integers(3))],
    )


def noise_replaced(X: np.ndarray, by: float) -> Played:
    """The noise inside the object is put in anew, with a smaller scale."""
    mechanism = ContinualCounter(X.shape[1], T=len(X), rho=RHO, strategy="tree")
    inner: Any = mechanism._inner
    inner.noise = Noise("gaussian", mechanism.plan.scale / int(by), mechanism.source)
    return played(mechanism, X, mechanism.run(X), False)


def noise_put_back(X: np.ndarray, rng_seed: int) -> Played:
    """Foreseeable noise for all records but the last."""
    mechanism = ContinualCounter(X.shape[1], T=len(X), rho=RHO, strategy="tree")
    inner: Any = mechanism._inner
    own = inner.noise
    inner.noise = Noise("gaussian", mechanism.plan.scale, SeededEntropy(rng_seed))
    before = mechanism.run(X[:-1])
    inner.noise = own
    return played(mechanism, X, np.concatenate([before, mechanism.run(X[-1:])]), False)


@worlds.world(run=noise_put_back, breaks=FRESH, noticeable=False)
def other_noise_for_a_while(rng: np.random.Generator, strength: float) -> Instance:
    """Noise inside the object was replaced by that of a seed, and put back before anyone looks."""
    return _private(X=bits(rng, 64, [0.5] * 2), rng_seed=seed(rng))


@worlds.world(run=noise_replaced, breaks=FRESH, strengths=(2, 100), noticeable=False)
def other_noise(rng: np.random.Generator, strength: float) -> Instance:
    """Noise inside the object was replaced by less: unchecked, and the account of the noise fails."""
    return _private(X=bits(rng, 64, [0.5] * 2), by=strength)


def continued_twice(X: np.ndarray) -> Played:
    """One state, continued by two processes that do not know of each other."""
    first = ContinualCounter(X.shape[1], T=200, rho=RHO, strategy="tree")
    first.run(X[:33])

    def elsewhere() -> Played:
        made = ContinualCounter(X.shape[1], T=200, rho=RHO, strategy="tree")
        mechanisms._ANSWERED.pop(first.identity)  # as another process has it
        made.load_state_dict(first.state_dict())
        return played(made, X[33:], made.run(X[33:]), False)

    return [elsewhere() for _ in range(2)][-1]


@worlds.world(run=continued_twice, breaks=FRESH, noticeable=False)
def state_copied(rng: np.random.Generator, strength: float) -> Instance:
    """A copied state is continued twice, each time with new noise for the same records."""
    return _private(X=bits(rng, 64, [0.5] * 2))


@worlds.world(run=release_stream, breaks=PUBLIC)
def names_from_data(rng: np.random.Generator, strength: float) -> Instance:
    """The list of categories is read from the records."""
    names = np.array([f"patient {i}" for i in rng.integers(0, 50, 100)])
    return _private(stream=names, categories="from-data", T=100)


def names_then_listed(labels: list[str]) -> PrivateStream:
    """Read from the data first, given afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path, state = Path(folder) / "log.csv", Path(folder) / "state"
        path.write_text("ward\n" + "\n".join(labels) + "\n")
        options: dict[str, Any] = {"column": "ward", "T": 500, "state": state}
        found = release_stream(Log(path), categories="from-data", **options)
        with path.open("a") as file:
            file.write(f"{labels[0]}\n")
        return release_stream(Log(path), categories=list(found.names), **options)


@worlds.world(run=names_then_listed, breaks=PUBLIC)
def names_from_data_before_the_resume(rng: np.random.Generator, strength: float) -> Instance:
    """Categories that were read from the first part are given as if they had been public."""
    return _private(labels=rng.choice(["a", "b", "c"], 50).tolist())


@worlds.world(run=release_stream, breaks=PUBLIC, noticeable=False)
def horizon_from_data(rng: np.random.Generator, strength: float) -> Instance:
    """T is the number of records, which nobody knew before."""
    X = bits(rng, int(rng.integers(50, 150)), [0.5] * 2)
    return _private(stream=X, T=len(X))


def best_of_four(X: np.ndarray) -> PrivateStream:
    """The strategy that erred least is shown."""
    strategies = ("tree", "sqrt", "naive", "recompute")
    made = [
        release_stream(X, T=len(X), strategy=s, measure=True)  # type: ignore[arg-type]
        for s in strategies
    ]
    return min(made, key=lambda m: float(np.max(m.errors)))  # type: ignore[arg-type]


@worlds.world(run=best_of_four, breaks=PUBLIC, noticeable=False)
def strategy_from_data(rng: np.random.Generator, strength: float) -> Instance:
    """The best of four runs by its true error."""
    return _private(X=bits(rng, 100, [0.5] * 2))


def released_again(X: np.ndarray, times: int) -> PrivateStream:
    """The same records with a new budget."""
    return [release_stream(X, T=len(X), rho=RHO) for _ in range(times)][-1]


@worlds.world(run=released_again, breaks=ONCE, strengths=(2, 5), noticeable=False)
def rerun(rng: np.random.Generator, strength: float) -> Instance:
    """The same records are answered again: budgets add up."""
    return _private(X=bits(rng, 60, [0.5] * 2), times=int(strength))


def state_removed(labels: list[str]) -> PrivateStream:
    """The state is removed and the log answered anew."""
    with tempfile.TemporaryDirectory() as folder:
        path, state = Path(folder) / "log.csv", Path(folder) / "state"
        path.write_text("c\n" + "\n".join(labels) + "\n")
        options: dict[str, Any] = {"column": "c", "categories": "a,b", "T": 500, "state": state}
        release_stream(Log(path), **options)
        state.unlink()
        return release_stream(Log(path), **options)


@worlds.world(run=state_removed, breaks=ONCE, refuses=(RuntimeError,))
def answered_anew(rng: np.random.Generator, strength: float) -> Instance:
    """Without its state, but with the ledger, the same log is given again."""
    return _private(labels=rng.choice(["a", "b"], 30).tolist())


# The price


def priced(T: int, d: int, rho: float) -> Certificate:
    """Before the first record."""
    mechanism = ContinualMaxSum(d, T=T, rho=rho, strategy="recompute")
    return next(c for c in mechanism.certificates() if c.name == "price")


@worlds.world(run=priced)
def lower_bounds(rng: np.random.Generator, strength: float) -> Instance:
    """Streams of hundreds to ten thousands of records: n²ρ must be less than Fano's inequality asks for."""
    T, d = int(10 ** rng.uniform(2.5, 4.5)), int(rng.integers(20, 400))
    rho = float(10 ** rng.uniform(-2, 0))

    def truths(made: Certificate) -> dict[str, bool | None]:
        n = 2 * made.bound
        fits = any(
            2 * n * columns <= T and n * n * rho < (0.95 * columns - 1) * math.log(2)
            for columns in range(1, d + 1)
        )
        return {"price": n == 0 or fits}

    return Instance({"T": T, "d": d, "rho": rho}, truths)


worlds.mutant(
    "price",
    "information halved",
    target=f"{HOME}.theorems:lower_bound",
    change=lambda f: lambda query, T, d, size, **more: f(query, T, d, size / 2, **more),
    world=lower_bounds,
)


# Audits


def attacked(make: Callable[[], Any] | ReleasePlan, **options: Any) -> PrivacyAudit:
    """An audit."""
    return audit_release(make, **options)


def _of(theorem: str, truth: bool | None) -> Callable[[Any], dict[str, bool | None]]:
    return lambda made: {theorem: truth}


def _tree_plan(T: int = 8, rho: float = RHO) -> ReleasePlan:
    return plan_release("counts", T, rho=rho, strategy="tree", neighbours="add-remove")


def _objects(plan: ReleasePlan, **options: Any) -> dict[str, Any]:
    return {"make": lambda: ContinualCounter.from_plan(plan), "n": 400, **options}


@worlds.world(run=attacked)
def honest_objects(rng: np.random.Generator, strength: float) -> Instance:
    """Trees that draw what they claim, attacked first, late, or by records chosen after seeing answers."""
    way = ({}, {"challenge": 5}, {"adaptive": True})[int(rng.integers(3))]
    return Instance(_objects(_tree_plan(), rng=rng, **way), _of("audit-mu", True))


@worlds.world(run=attacked)
def generous_objects(rng: np.random.Generator, strength: float) -> Instance:
    """Twice the noise that is claimed: to be cleared."""
    plan = _tree_plan()
    return Instance(
        _objects(replace(plan, scale=2 * plan.scale), rng=rng),
        lambda made: {"audit-mu": True, "audit-epsilon": True},
    )


@worlds.world(run=attacked)
def honest_pure(rng: np.random.Generator, strength: float) -> Instance:
    """Laplace noise on one number, for pure ε = 1."""
    plan = plan_release("counts", 1, epsilon=1.0, strategy="tree", neighbours="add-remove")
    return Instance({"make": plan, "n": 2000, "rng": rng}, _of("audit-epsilon", True))


@worlds.world(run=attacked)
def generous_pure_objects(rng: np.random.Generator, strength: float) -> Instance:
    """Laplace noise for ε = 1 in objects that claim 2: to be cleared."""
    plan = plan_release("counts", 1, epsilon=2.0, strategy="tree", neighbours="add-remove")
    wider = replace(plan, scale=2 * plan.scale)
    arguments = _objects(wider, rng=rng) | {"n": 200}
    return Instance(arguments, _of("audit-epsilon", True))


@worlds.world(run=attacked)
def small_budget(rng: np.random.Generator, strength: float) -> Instance:
    """All of ρ = 0.05 is spent: one threshold shows less than the ε at δ = 10⁻⁶ that follows from it, which is to be seen."""
    return Instance(
        {"make": _tree_plan(4, 0.05), "n": 2000, "rng": rng}, _of("audit-epsilon", True)
    )


@worlds.world(run=attacked)
def whole_pure_tree(rng: np.random.Generator, strength: float) -> Instance:
    """All of a pure ε = 1 is spent on three nodes, which no one threshold on their sum shows."""
    plan = plan_release("counts", 4, epsilon=1.0, strategy="tree", neighbours="add-remove")
    return Instance({"make": plan, "n": 2000, "rng": rng}, _of("audit-epsilon", True))


worlds.mutant(
    "audit-mu",
    "μ doubled",
    target=f"{HOME}.audit:_mu",
    change=lambda f: lambda F, G: 2 * f(F, G),
    world=honest_objects,
    caught_by="false fails",
    seeds=60,
)
worlds.mutant(
    "audit-epsilon",
    "ε doubled",
    target=f"{HOME}.audit:_epsilon",
    change=lambda f: lambda F, G, delta: 2 * f(F, G, delta),
    world=honest_pure,
    caught_by="false fails",
)


@worlds.world(run=attacked, expects=Verdict.FAILS, strengths=(2, 4))
def less_noise(rng: np.random.Generator, strength: float) -> Instance:
    """Objects with a half or a quarter of the noise inside."""
    plan = _tree_plan()

    def make() -> ContinualCounter:
        made: Any = ContinualCounter.from_plan(plan)
        made._inner.noise = Noise("gaussian", made.plan.scale / int(strength), made.source)
        return made

    return Instance({"make": make, "n": 400, "rng": rng}, _of("audit-mu", False))


@worlds.world(run=attacked, expects=Verdict.FAILS)
def exact_answers(rng: np.random.Generator, strength: float) -> Instance:
    """An object whose run was replaced by one without noise."""
    plan = _tree_plan()

    def make() -> ContinualCounter:
        made: Any = ContinualCounter.from_plan(plan)
        made.run = lambda X: np.cumsum(np.asarray(X), axis=0).astype(float)
        return made

    return Instance({"make": make, "n": 400, "rng": rng}, _of("audit-mu", False))


class Foreign:
    """A user's tree with less noise than it claims."""

    def __init__(self, plan: ReleasePlan, less: int) -> None:
        self.plan, self.less = plan, less

    def run(self, X: Any) -> np.ndarray:
        inner: Any = ContinualCounter.from_plan(
            replace(self.plan, scale=self.plan.scale / self.less)
        )
        return inner.run(X)


@worlds.world(run=attacked, expects=Verdict.FAILS, strengths=(2, 4))
def foreign_objects(rng: np.random.Generator, strength: float) -> Instance:
    """A class of a user's own, with a half or a quarter of the noise."""
    plan = _tree_plan()
    make = lambda: Foreign(plan, int(strength))  # noqa: E731
    return Instance({"make": make, "n": 400, "rng": rng}, _of("audit-mu", False))


class Leaking:
    """A user's tree with a leak: some answers tell the record that is attacked, or the count."""

    def __init__(
        self, plan: ReleasePlan, leak: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> None:
        self.plan, self.leak = plan, leak

    def run(self, X: Any) -> np.ndarray:
        answers = ContinualCounter.from_plan(self.plan).run(X)
        return self.leak(answers, np.asarray(X, dtype=float))


def _at_a_moment(answers: np.ndarray, X: np.ndarray) -> np.ndarray:
    answers[101] = X[:102].sum()
    return answers


def _behind_the_point(answers: np.ndarray, X: np.ndarray) -> np.ndarray:
    answers[-1] += 1e-6 * X[0]
    return answers


def _in_the_last_bit(answers: np.ndarray, X: np.ndarray) -> np.ndarray:
    answers[40] += (answers[40] + X[0]) % 2
    return answers


def _after_two_ones(answers: np.ndarray, X: np.ndarray) -> np.ndarray:
    counts = np.cumsum(X, axis=0)
    return np.where(counts > 1, counts, answers)


@worlds.world(run=attacked, expects=Verdict.FAILS)
def leaks_in_a_corner(rng: np.random.Generator, strength: float) -> Instance:
    """One exact answer of 128, the record behind the point or in the last bit of one, or exact counts after two ones."""
    plan = _tree_plan(T=128)
    leaks = (_at_a_moment, _behind_the_point, _in_the_last_bit, _after_two_ones)
    leak = leaks[int(rng.integers(4))]
    arguments: dict[str, Any] = {"make": lambda: Leaking(plan, leak), "n": 200, "rng": rng}
    if leak is _after_two_ones:
        arguments["others"] = bits(rng, 128, [0.5])
    return Instance(arguments, _of("audit-mu", False))


@worlds.world(run=attacked)
def honest_among_other_records(rng: np.random.Generator, strength: float) -> Instance:
    """Honest counts and maxima among records that are not zeros."""
    query, strategy = (("counts", "tree"), ("counts", "sqrt"), ("maxsum", "recompute"))[
        int(rng.integers(3))
    ]
    plan = plan_release(query, 16, 2, rho=RHO, strategy=strategy)  # type: ignore[arg-type]
    arguments = {
        "make": lambda: Mechanism.from_plan(plan),
        "n": 200,
        "others": bits(rng, 16, [0.5, 0.5]),
        "challenge": int(rng.integers(1, 17)),
        "rng": rng,
    }
    return Instance(arguments, _of("audit-mu", True))


@worlds.world(run=attacked, breaks=INDEPENDENT)
def one_object(rng: np.random.Generator, strength: float) -> Instance:
    """The same object is handed out again and again."""
    shared = ContinualCounter(1, T=8, rho=RHO, strategy="tree", horizon="double")
    plan = _tree_plan()

    class Same:
        def __init__(self) -> None:
            self.plan = plan

        def run(self, X: Any) -> np.ndarray:
            return shared.run(X)

    only = Same()
    return Instance({"make": lambda: only, "n": 100, "rng": rng}, _of("audit-mu", None))


@worlds.world(run=attacked, breaks=INDEPENDENT)
def three_objects(rng: np.random.Generator, strength: float) -> Instance:
    """Three objects are handed out in turn."""
    options: dict[str, Any] = {"T": 8, "rho": RHO, "strategy": "tree", "horizon": "double"}
    pool = [ContinualCounter(1, **options) for _ in range(3)]
    taken = iter(range(10**9))
    arguments = {"make": lambda: pool[next(taken) % 3], "n": 100, "rng": rng}
    return Instance(arguments, _of("audit-mu", None))


@worlds.world(run=attacked, breaks=INDEPENDENT, noticeable=False)
def noise_from_a_pool(rng: np.random.Generator, strength: float) -> Instance:
    """Objects that take their noise in turn from 64 draws made beforehand."""
    plan = _tree_plan(T=1)
    pool = discrete_gaussian(plan.scale, 64, OsEntropy())
    taken = iter(range(10**9))

    class Pooled:
        def __init__(self) -> None:
            self.plan = plan

        def run(self, X: Any) -> np.ndarray:
            return np.asarray(X) + pool[next(taken) % 64]

    return Instance({"make": Pooled, "n": 400, "rng": rng}, _of("audit-mu", None))


@worlds.world(run=attacked, breaks=ATTACKED, strengths=(2, 4), noticeable=False)
def plan_of_another(rng: np.random.Generator, strength: float) -> Instance:
    """The plan is attacked; what answers has less noise."""
    return Instance({"make": _tree_plan(), "n": 400, "rng": rng}, _of("audit-mu", False))


@worlds.world(run=attacked, breaks=ATTACKED, noticeable=False)
def adaptive_plan_of_another(rng: np.random.Generator, strength: float) -> Instance:
    """The same with records chosen after seeing answers."""
    arguments = {"make": _tree_plan(), "n": 400, "adaptive": True, "rng": rng}
    return Instance(arguments, _of("audit-mu", False))


@worlds.world(run=attacked, breaks=WIDE, strengths=(20, 50, 200))
def hardly_any_noise_to_attack(rng: np.random.Generator, strength: float) -> Instance:
    """σ below one, where a discrete Gaussian is no Gaussian."""
    plan = _tree_plan(2, strength)
    return Instance({"make": plan, "n": 200, "rng": rng}, _of("audit-mu", None))


@worlds.world(run=attacked, breaks=WIDE)
def hardly_any_noise_in_objects(rng: np.random.Generator, strength: float) -> Instance:
    """The same for objects."""
    arguments = _objects(_tree_plan(2, 50.0), rng=rng) | {"n": 100}
    return Instance(arguments, _of("audit-mu", None))
