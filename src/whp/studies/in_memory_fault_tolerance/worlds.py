"""Worlds of failures: what was restored is judged by the bytes that were drawn, what was lost by the clock that drew it."""

from __future__ import annotations

import secrets
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.stats import betabinom, binom

from whp.certificate import Certificate, Verdict
from whp.distributed._in_memory_fault_tolerance import recovery, theorems
from whp.distributed._in_memory_fault_tolerance.codes import ErasureGroup
from whp.distributed._in_memory_fault_tolerance.copying import Copy
from whp.distributed._in_memory_fault_tolerance.failure_log import FailureLog
from whp.distributed._in_memory_fault_tolerance.guard import SnapshotGuard
from whp.distributed._in_memory_fault_tolerance.shards import flatten, unflatten
from whp.distributed._in_memory_fault_tolerance.theorems import (
    ALIKE,
    ALL_COMMITTED,
    ALL_TIMED,
    APART,
    AT_REST,
    CORRELATED,
    EXTREMES,
    FENCED,
    FEW,
    INDEPENDENT,
    RATE,
    REPEATABLE,
    THEOREMS,
    WHOLE_STATE,
    WINDOWS,
    Failure,
    Pace,
    Watch,
)
from whp.experiment.worlds import Instance, Worlds

__all__ = ["worlds"]

worlds = Worlds("in-memory-fault-tolerance", THEOREMS)
HOME = "whp.distributed._in_memory_fault_tolerance"
Rng = np.random.Generator


@dataclass(frozen=True)
class Played:
    """What a world came to: its certificates, and what the user was given."""

    certificates: tuple[Certificate, ...]
    given: Any = None


# Survival


def alive(law: Any, m: int, groups: int = 1) -> float:
    """True probability that all of independent groups lose at most m, by the law of one group."""
    return float(law.cdf(m)) ** groups


def judged(options: Mapping[str, Any], truth: float, counts: np.ndarray | None, n: int) -> Instance:
    """The bound that the user is given against the true probability."""
    log = None if counts is None else FailureLog.from_counts(counts, n)

    def truths(made: Any) -> dict[str, bool | None]:
        off = truth - made.bound
        return {made.name: None if abs(off) < 1e-12 else off > 0}

    return Instance({"log": log, "n": n, "window": 1.0, **options}, truths)


def hosts(n: int, groups: int = 1) -> list[list[str]]:
    """Every member on a host of its own."""
    return [[f"{g}.{i}" for i in range(n)] for g in range(groups)]


def per_second(p: float) -> float:
    """Rate of a clock that rings within a second with probability p."""
    return float(-np.log1p(-p))


def beta_binomial(n: int, p: float, rho: float) -> Any:
    """Losses of a group with correlation rho."""
    return betabinom(n, p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho)


@worlds.world(run=theorems.survival, strengths=(2000, 20_000))
def binomial(rng: Rng, strength: float) -> Instance:
    """Groups of eight, one loss survived, p = .01 as it was given, so many windows."""
    counts = rng.binomial(8, 0.01, int(strength))
    options = {"m": 1, "rate": per_second(0.01), "hosts": hosts(8)}
    return judged(options, alive(binom(8, 0.01), 1), counts, 8)


@worlds.world(run=theorems.survival)
def rarer_than_given(rng: Rng, strength: float) -> Instance:
    """The same with p = .005 where .01 was given."""
    counts = rng.binomial(8, 0.005, 20_000)
    options = {"m": 1, "rate": per_second(0.01), "hosts": hosts(8)}
    return judged(options, alive(binom(8, 0.005), 1), counts, 8)


@worlds.world(run=theorems.survival)
def own_rate(rng: Rng, strength: float) -> Instance:
    """Three groups of six, two losses survived, p = .05, and the rate out of the log."""
    counts = rng.binomial(6, 0.05, (3000, 3))
    options = {"m": 2, "groups": 3, "hosts": hosts(6, 3)}
    return judged(options, alive(binom(6, 0.05), 2, 3), counts, 6)


@worlds.world(run=theorems.survival)
def one_of_sixteen(rng: Rng, strength: float) -> Instance:
    """A log of one group and a plan for sixteen: the bound stands unmeasured."""
    counts = rng.binomial(8, 0.02, 3000)
    options = {"m": 1, "groups": 16, "hosts": hosts(8, 16)}
    return judged(options, alive(binom(8, 0.02), 1, 16), counts, 8)


@worlds.world(run=theorems.survival)
def demanded(rng: Rng, strength: float) -> Instance:
    """A demand of .995 where the truth is .9973; what the log proves is the measurement."""
    counts = rng.binomial(8, 0.01, 20_000)
    options = {"m": 1, "hosts": hosts(8), "demand": 0.995}
    return demand_judged(options, alive(binom(8, 0.01), 1), counts)


@worlds.world(run=theorems.survival, expects=Verdict.FAILS)
def demanded_too_much(rng: Rng, strength: float) -> Instance:
    """A demand of .999 where the truth is .9973."""
    counts = rng.binomial(8, 0.01, 20_000)
    options = {"m": 1, "hosts": hosts(8), "demand": 0.999}
    return demand_judged(options, alive(binom(8, 0.01), 1), counts)


def demand_judged(options: Mapping[str, Any], truth: float, counts: np.ndarray) -> Instance:
    """The user is given an interval of the probability, which must hold the truth; the claim is the demand."""
    whole = judged(options, truth, counts, 8)
    return Instance(whole.arguments, lambda _: {"survival": truth >= options["demand"]})


@worlds.world(run=theorems.survival)
def as_correlated_as_given(rng: Rng, strength: float) -> Instance:
    """Losses of correlation .1, which was given, and the rate out of the log."""
    law = beta_binomial(8, 0.01, 0.1)
    counts = law.rvs(size=20_000, random_state=rng)
    return judged({"m": 1, "rho": 0.1, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival)
def less_correlated_than_given(rng: Rng, strength: float) -> Instance:
    """Losses of correlation .05 where .1 was given."""
    law = beta_binomial(8, 0.02, 0.05)
    counts = law.rvs(size=20_000, random_state=rng)
    return judged({"m": 1, "rho": 0.1, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival, strengths=(0.5, 0.3))
def strongly_correlated_as_given(rng: Rng, strength: float) -> Instance:
    """Losses of a large correlation, which was given: they are far fewer independent trials than members."""
    law = beta_binomial(8, 0.01, strength)
    counts = law.rvs(size=20_000, random_state=rng)
    return judged({"m": 1, "rho": strength, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival, strengths=(1.0, 0.9))
def a_correlation_to_be_safe(rng: Rng, strength: float) -> Instance:
    """Losses of correlation .3, at which fewest are lived through, where a larger one was given to be safe."""
    law = beta_binomial(8, 0.01, 0.3)
    counts = law.rvs(size=2000, random_state=rng)
    return judged({"m": 1, "rho": strength, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival, breaks=APART, strengths=(8, 4, 2), broken_from=2)
def shared_host(rng: Rng, strength: float) -> Instance:
    """So many of eight members live on one host, and are lost with it."""
    k = int(strength)
    one = rng.random(3000) < 0.01
    counts = rng.binomial(8 - k, 0.01, 3000) + k * one
    names = [["same"] * k + [f"{i}" for i in range(8 - k)]]
    truth = 0.99 * alive(binom(8 - k, 0.01), 1) if k < 8 else 0.99
    return judged({"m": 1, "hosts": names}, truth, counts, 8)


ALIASES = ("gpu1", "gpu1:29500", "GPU1.cluster.example.", "root@gpu1", "gpu1/0", "gpu1 slots=8")


@worlds.world(run=theorems.survival, breaks=APART)
def one_host_by_other_names(rng: Rng, strength: float) -> Instance:
    """Two of eight members live on one host, which a list of hosts names in two ways."""
    one, two = rng.choice(len(ALIASES), 2, replace=False)
    names = [[ALIASES[one], ALIASES[two], *(f"n{i}" for i in range(6))]]
    counts = rng.binomial(6, 0.01, 3000) + 2 * (rng.random(3000) < 0.01)
    return judged({"m": 1, "hosts": names}, 0.99 * alive(binom(6, 0.01), 1), counts, 8)


@worlds.world(run=theorems.survival, breaks=APART)
def shared_host_and_a_correlation_by_hand(rng: Rng, strength: float) -> Instance:
    """All members on one host, no log, and a correlation of a millionth that the user gave."""
    options = {"m": 1, "rate": 1e-3, "hosts": [["same"] * 8], "rho": 1e-6}
    return judged(options, float(np.exp(-1e-3)), None, 8)


@worlds.world(
    run=theorems.survival, breaks=INDEPENDENT, strengths=(0.5, 0.1, 0.03), broken_from=0.03
)
def correlated(rng: Rng, strength: float) -> Instance:
    """Beta-binomial losses of this correlation, p = .01, 20,000 windows."""
    law = beta_binomial(8, 0.01, strength)
    counts = law.rvs(size=20_000, random_state=rng)
    return judged({"m": 1, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival, breaks=INDEPENDENT, strengths=(1.0, 0.3, 0.1), broken_from=0.1)
def racks(rng: Rng, strength: float) -> Instance:
    """Racks of two: this share of losses takes the neighbour, too. 20,000 windows."""
    single, pair = 0.01 * (1 - strength), 0.01 * strength
    lost = rng.random((20_000, 4)) < pair
    alone = rng.random((20_000, 8)) < single
    counts = (alone | np.repeat(lost, 2, axis=1)).sum(axis=1)
    q = (1 - pair) ** 4
    truth = q * alive(binom(8, single), 1)
    return judged({"m": 1, "hosts": hosts(8)}, truth, counts, 8)


@worlds.world(run=theorems.survival, breaks=INDEPENDENT, strengths=(0.01, 0.001), noticeable=False)
def slightly_correlated(rng: Rng, strength: float) -> Instance:
    """The same with a correlation that 2,000 windows cannot show."""
    law = beta_binomial(8, 0.01, strength)
    counts = law.rvs(size=2000, random_state=rng)
    return judged({"m": 1, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival, breaks=CORRELATED, strengths=(0.5, 0.2, 0.1), broken_from=0.1)
def more_correlated_than_given(rng: Rng, strength: float) -> Instance:
    """Losses of this correlation where .01 was given."""
    law = beta_binomial(8, 0.01, strength)
    counts = law.rvs(size=20_000, random_state=rng)
    return judged({"m": 1, "rho": 0.01, "hosts": hosts(8)}, alive(law, 1), counts, 8)


@worlds.world(run=theorems.survival, breaks=CORRELATED, strengths=(1.0, 0.3), broken_from=0.3)
def racks_under_a_small_correlation(rng: Rng, strength: float) -> Instance:
    """Racks of two where a correlation of a thousandth was given."""
    lost = rng.random((20_000, 4)) < 0.01 * strength
    alone = rng.random((20_000, 8)) < 0.01 * (1 - strength)
    counts = (alone | np.repeat(lost, 2, axis=1)).sum(axis=1)
    truth = (1 - 0.01 * strength) ** 4 * alive(binom(8, 0.01 * (1 - strength)), 1)
    return judged({"m": 1, "rho": 1e-3, "hosts": hosts(8)}, truth, counts, 8)


@worlds.world(run=theorems.survival, breaks=RATE, strengths=(4, 2, 1.5, 1.2), broken_from=1.5)
def oftener_than_given(rng: Rng, strength: float) -> Instance:
    """Members are lost so many times as often as was given."""
    counts = rng.binomial(8, 0.01 * strength, 2000)
    options = {"m": 1, "rate": per_second(0.01), "hosts": hosts(8)}
    return judged(options, alive(binom(8, 0.01 * strength), 1), counts, 8)


@worlds.world(run=theorems.survival, breaks=RATE)
def rate_an_hour(rng: Rng, strength: float) -> Instance:
    """A rate an hour that was given as one a second of a window in seconds, the other way round."""
    counts = rng.binomial(8, 0.01, 2000)
    options = {"m": 1, "rate": per_second(0.01) / 3600, "hosts": hosts(8)}
    return judged(options, alive(binom(8, 0.01), 1), counts, 8)


def unlike(rng: Rng, rates: np.ndarray, windows: int) -> Instance:
    """Groups with rates of their own, and a demand that is a tenth of the losses too high."""
    counts = rng.binomial(8, rates, (windows, len(rates)))
    truth = float(np.prod([alive(binom(8, float(p)), 1) for p in rates]))
    demand = truth + 0.1 * (1 - truth)
    options = {"m": 1, "groups": len(rates), "hosts": hosts(8, len(rates)), "demand": demand}
    return demand_judged(options, truth, counts)


@worlds.world(run=theorems.survival, breaks=ALIKE, strengths=(1.0, 0.6), broken_from=0.6)
def half_are_older(rng: Rng, strength: float) -> Instance:
    """Sixteen groups, half of which lose members oftener than the mean by this share, the others more seldom."""
    return unlike(rng, 0.002 * np.repeat([1 + strength, 1 - strength], 8), 2000)


@worlds.world(run=theorems.survival, breaks=ALIKE, strengths=(20, 6), broken_from=6)
def one_worn_group(rng: Rng, strength: float) -> Instance:
    """One of sixteen groups loses members so many times as often as the others."""
    return unlike(rng, np.where(np.arange(16) == 5, 5e-4 * strength, 5e-4), 4000)


@worlds.world(run=theorems.survival, breaks=WINDOWS, strengths=(1.0, 0.95, 0.5), broken_from=0.95)
def empty_windows_left_out(rng: Rng, strength: float) -> Instance:
    """This share of the windows without a loss is not in the log."""
    counts = rng.binomial(8, 0.01, 20_000)
    kept = (counts > 0) | (rng.random(len(counts)) > strength)
    return judged({"m": 1, "hosts": hosts(8)}, alive(binom(8, 0.01), 1), counts[kept], 8)


@worlds.world(run=theorems.survival, breaks=WINDOWS, strengths=(20, 8, 4), broken_from=4)
def bad_weeks(rng: Rng, strength: float) -> Instance:
    """In a tenth of the time, at a stretch, members are lost so many times as often."""
    p = np.full(20_000, 0.01)
    p[:2000] *= strength
    counts = rng.binomial(8, p)
    truth = 0.9 * alive(binom(8, 0.01), 1) + 0.1 * alive(binom(8, 0.01 * strength), 1)
    return judged({"m": 1, "hosts": hosts(8)}, truth, counts, 8)


@worlds.world(run=theorems.survival, breaks=WINDOWS, strengths=(1.0, 0.7), broken_from=0.7)
def office_hours(rng: Rng, strength: float) -> Instance:
    """A year of five-minute windows; this share of the losses comes in eight hours of the day. A demand a tenth too high."""
    busy = np.arange(365 * 288) % 288 < 96
    p = 3e-4 * np.where(busy, 3 * strength, 1.5 * (1 - strength))
    counts = rng.binomial(8, p)
    chances = (alive(binom(8, 9e-4 * strength), 1), alive(binom(8, 4.5e-4 * (1 - strength)), 1))
    truth = (chances[0] + 2 * chances[1]) / 3
    options = {"m": 1, "hosts": hosts(8), "demand": truth + 0.1 * (1 - truth)}
    made = demand_judged(options, truth, counts)
    log = replace(made.arguments["log"], seconds=300.0)
    return Instance({**made.arguments, "log": log, "window": 300.0}, made.truths)


@worlds.world(run=theorems.survival)
def a_year_alike(rng: Rng, strength: float) -> Instance:
    """A year of windows of five minutes without a rhythm; a demand that the log proves."""
    made = demand_judged(
        {"m": 1, "hosts": hosts(8), "demand": 0.99999},
        alive(binom(8, 3e-4), 1),
        rng.binomial(8, 3e-4, 365 * 288),
    )
    log = replace(made.arguments["log"], seconds=300.0)
    return Instance({**made.arguments, "log": log, "window": 300.0}, made.truths)


def halved(function: Callable[..., float]) -> Callable[..., float]:
    """Half of what a function gives."""
    return lambda *arguments: function(*arguments) / 2


worlds.mutant(
    "survival",
    "upper limit of the rate halved",
    target=f"{HOME}.theorems:largest_rate",
    change=halved,
    world=own_rate,
)
worlds.mutant(
    "survival-correlated",
    "losses halved",
    target=f"{HOME}.theorems:least_survival",
    change=lambda f: lambda *a, **k: 1 - (1 - f(*a, **k)) / 2,
    world=as_correlated_as_given,
)


# How much a failure costs


def loses(
    rng: Rng,
    every: int,
    lags: np.ndarray,
    taus: np.ndarray,
    *,
    worst: bool,
    kept: Any = None,
    stride: int = 1,
) -> list[Failure]:
    """A run of len(taus) iterations with snapshots: failures of three kills, each by itself.

    Snapshot i takes lags[i] to its commit. One that `kept` denies is thrown away. Kills come at uniform times, or just before a
    commit. Numbers of iterations grow by `stride`.
    """
    ends = np.cumsum(taus)
    due, last_commit, done = 0, -1.0, []
    for step, end in enumerate(ends):
        if stride * step < due or end < last_commit:
            continue
        commit = float(end + lags[len(done)])
        good = kept is None or bool(kept[len(done)])
        done.append((step, commit if good else np.inf))
        due, last_commit = stride * step + every, commit
    commits = np.array([c for _, c in done])
    steps = np.array([s for s, _ in done])
    finite = commits[np.isfinite(commits) & (commits < ends[-1])]
    failures = []
    for _ in range(3):
        at = float(rng.uniform(finite[0], ends[-1])) if len(finite) else float(ends[-1])
        if worst and len(finite) > 1:
            at = float(finite[1:][rng.integers(len(finite) - 1)]) - 1e-9
        finished = int(np.searchsorted(ends, at, side="right")) - 1
        held = steps[commits <= at]
        restored = int(held.max()) if len(held) else -1
        numbers = stride * finished, stride * restored
        failures.append(Failure((0,), (), *numbers, restored >= 0, True))
    return failures


def costly(failures: Sequence[Failure], pace: Pace, steps: int) -> Instance:
    """The bound that the user is given against the work that the clock says was lost."""
    most = max(f.last_step - f.restored_step for f in failures)

    def truths(made: Any) -> dict[str, bool | None]:
        return {"rollback-length": most <= made.bound}

    return Instance({"failures": failures, "pace": pace, "steps": steps, "m": 1}, truths)


def extremes(every: int, lags: np.ndarray, taus: np.ndarray, **more: Any) -> Pace:
    """What a guard reckons with."""
    longest, shortest = float(lags.max()), float(taus.min())
    return Pace(every, longest, shortest, longest, shortest, **more)


STEPS = 400


@worlds.world(run=theorems.rollback, strengths=(3.3, 0.2, 6.5))
def steady(rng: Rng, strength: float) -> Instance:
    """Every five iterations; commits take so many iterations; kills at any time."""
    lags, taus = np.full(STEPS, strength), np.ones(STEPS)
    return costly(loses(rng, 5, lags, taus, worst=False), extremes(5, lags, taus), STEPS)


@worlds.world(run=theorems.rollback, strengths=(3.3, 6.5))
def at_the_worst_moment(rng: Rng, strength: float) -> Instance:
    """The same with kills just before a commit."""
    lags, taus = np.full(STEPS, strength), np.ones(STEPS)
    return costly(loses(rng, 5, lags, taus, worst=True), extremes(5, lags, taus), STEPS)


@worlds.world(run=theorems.rollback)
def wandering(rng: Rng, strength: float) -> Instance:
    """Lags that are now and then ten times as long, iterations that get shorter, kills just before a commit."""
    lags = rng.uniform(0.5, 2, STEPS) * np.where(rng.random(STEPS) < 0.05, 10, 1)
    taus = np.where(np.arange(STEPS) < STEPS // 2, 1.0, 0.3)
    return costly(loses(rng, 4, lags, taus, worst=True), extremes(4, lags, taus), STEPS)


@worlds.world(run=theorems.rollback, strengths=(4, 32))
def batches_numbered(rng: Rng, strength: float) -> Instance:
    """Gradients of so many batches are accumulated, and the batches are numbered."""
    lags, taus = np.full(STEPS, 3.3), np.ones(STEPS)
    stride = int(strength)
    failures = loses(rng, 20, lags, taus, worst=True, stride=stride)
    return costly(failures, extremes(20, lags, taus, stride=stride), stride * STEPS)


worlds.mutant(
    "rollback-length",
    "the lag counted once",
    target=f"{HOME}.theorems:rollback_bound",
    change=lambda f: lambda *reckoned: f(*reckoned) / 2,
    world=at_the_worst_moment,
)


@worlds.world(run=theorems.rollback, breaks=EXTREMES, strengths=(0.2, 0.05, 0.01))
def medians(rng: Rng, strength: float) -> Instance:
    """The median lag is reckoned with, where this share of lags is ten times as long."""
    lags = rng.uniform(2, 4.5, STEPS) * np.where(rng.random(STEPS) < strength, 10, 1)
    taus = np.ones(STEPS)
    pace = replace(extremes(5, lags, taus), lag=float(np.median(lags)))
    return costly(loses(rng, 5, lags, taus, worst=True), pace, STEPS)


@worlds.world(run=theorems.rollback, breaks=EXTREMES, strengths=(0.1, 0.3, 0.8), rising=False)
def faster_later(rng: Rng, strength: float) -> Instance:
    """Iterations of the second half take this share of those that are reckoned with."""
    lags, taus = np.full(STEPS, 6.5), np.ones(STEPS)
    taus[STEPS // 2 :] = strength
    pace = replace(extremes(5, lags, taus), step=1.0)
    return costly(loses(rng, 5, lags, taus, worst=True), pace, STEPS)


@worlds.world(run=theorems.rollback, breaks=EXTREMES, noticeable=False)
def record_lost(rng: Rng, strength: float) -> Instance:
    """The longest lag was on the record of a keeper that was lost."""
    lags = rng.uniform(1, 2, STEPS) * np.where(rng.random(STEPS) < 0.05, 10, 1)
    taus = np.ones(STEPS)
    pace = replace(extremes(5, lags, taus), lag=2.0, longest=2.0, lost_records=1)
    return costly(loses(rng, 5, lags, taus, worst=True), pace, STEPS)


@worlds.world(run=theorems.rollback, breaks=ALL_COMMITTED, strengths=(0.9, 0.5, 0.1))
def thrown_away(rng: Rng, strength: float) -> Instance:
    """This share of the snapshots is torn and thrown away."""
    lags, taus = np.full(STEPS, 3.3), np.ones(STEPS)
    kept = rng.random(STEPS) > strength
    kept[0] = True
    pace = extremes(5, lags, taus, given_up=int((~kept[:70]).sum()))
    return costly(loses(rng, 5, lags, taus, worst=False, kept=kept), pace, STEPS)


@worlds.world(run=theorems.rollback, breaks=ALL_COMMITTED, strengths=(20, 5), broken_from=5)
def keeper_hung(rng: Rng, strength: float) -> Instance:
    """A keeper hangs for so many snapshots in a row, which are given up."""
    lags, taus = np.full(STEPS, 3.3), np.ones(STEPS)
    kept = np.ones(STEPS, dtype=bool)
    start = int(rng.integers(5, 30))
    kept[start : start + int(strength)] = False
    pace = extremes(5, lags, taus, given_up=int(strength))
    return costly(loses(rng, 5, lags, taus, worst=False, kept=kept), pace, STEPS)


# What comes back from lost members


def rebuilt(shards: Sequence[np.ndarray], lost: Sequence[int], code: ErasureGroup) -> Played:
    """Shards are encoded, members lost with all that they held, and what is decoded is held against checksums of before."""
    crc = [zlib.crc32(s.tobytes()) for s in shards]
    parity = code.encode(list(shards))
    try:
        back = code.decode(
            [None if i in lost else s for i, s in enumerate(shards)],
            [None if i in lost else p for i, p in enumerate(parity)],
        )
        good = [zlib.crc32(s.tobytes()) for s in back] == crc
    except ValueError:
        back, good = None, False
    failure = Failure((0,), tuple(lost), 9, 8, back is not None, good, 5, 5, "erasure")
    watch = Watch(ours=True)
    pace = Pace(5, 1.0, 1.0, 1.0, 1.0)
    certificates = (
        theorems.exact_recovery([failure], watch, code.m),
        theorems.newest_common([failure], code.m),
        theorems.rollback([failure], pace, 100, code.m),
    )
    return Played(certificates, back)


def shards_of(rng: Rng, n: int, m: int, lost: int) -> Instance:
    """A group that loses some of its members."""
    code = ErasureGroup(n, m)
    shards = [rng.integers(0, 256, 64 * 4 * code.k, dtype=np.uint8) for _ in range(n)]
    gone = sorted(map(int, rng.choice(n, lost, replace=False)))

    def truths(made: Any) -> dict[str, bool | None]:
        same = made.given is not None and all(map(np.array_equal, made.given, shards))
        return {"bit-exact-recovery": same, "rollback-length": same, "newest-common-version": same}

    return Instance({"shards": shards, "lost": gone, "code": code}, truths)


@worlds.world(run=rebuilt)
def lost_members(rng: Rng, strength: float) -> Instance:
    """Groups of three to six that lose as many members as their parity rows."""
    m = int(rng.integers(1, 4))
    return shards_of(rng, m + 1 + int(rng.integers(1, 3)), m, m)


@worlds.world(run=rebuilt, breaks=FEW, strengths=(3, 2))
def too_many_at_once(rng: Rng, strength: float) -> Instance:
    """So many members of five are lost where one is survived."""
    return shards_of(rng, 5, 1, int(strength))


@worlds.world(run=rebuilt, breaks=FEW)
def a_node_with_three(rng: Rng, strength: float) -> Instance:
    """Three members of six lived on the node that was lost, where two are survived."""
    return shards_of(rng, 6, 2, 3)


worlds.mutant(
    "bit-exact-recovery",
    "parity halved",
    target=f"{HOME}.codes:ErasureGroup.encode",
    change=lambda f: lambda self, shards: [p >> 1 for p in f(self, shards)],
    world=lost_members,
)


# Writes under a copy

VALUE, TENSORS = 3.0, 6


def copied(
    write: Callable[[list[torch.Tensor]], None],
    delay: float,
    mode: str,
    size: int,
    number: int = TENSORS,
) -> Played:
    """Tensors of one value are copied while `write` is at them, and restored from the copy unless it was found torn.

    With a negative delay the write comes between post_step() and the copy.
    """
    tensors = [torch.full((size,), VALUE) for _ in range(number)]
    flat = flatten({f"t{i}": t for i, t in enumerate(tensors)})
    into = np.zeros(flat.size, dtype=np.uint8)
    copying = Copy(flat, 0, into)
    if mode == "sync":
        copying.take()
        write(tensors)
    elif delay < 0:
        write(tensors)
        copying.take()
    else:
        thread = threading.Thread(target=copying.take)
        thread.start()
        time.sleep(delay)
        write(tensors)
        thread.join()
    torn = bool(copying.torn)
    back = None if torn else unflatten(into, flat.manifest, flat.plain)
    failure = Failure((0,), (), 0, -1 if torn else 0, not torn, not torn, 1)
    watch = Watch(mode, torn=int(torn), ours=True)
    return Played((theorems.exact_recovery([failure], watch, 0),), back)


def written(
    write: Any, delay: float = 0.0, mode: str = "overlap", size: int = 1 << 19, **more: Any
) -> Instance:
    """The claim is true if what is restored is what the step left."""

    def truths(made: Any) -> dict[str, bool | None]:
        if made.given is None:
            return {"bit-exact-recovery": False}
        return {"bit-exact-recovery": all(bool((t == VALUE).all()) for t in made.given.values())}

    arguments = {"write": write, "delay": delay, "mode": mode, "size": size, **more}
    return Instance(arguments, truths)


def nothing(tensors: list[torch.Tensor]) -> None:
    """No write."""


def clipped(tensors: list[torch.Tensor]) -> None:
    """Weights clipped past autograd, the last first."""
    for tensor in reversed(tensors):
        tensor.data.clamp_(-0.01, 0.01)


def through_numpy(tensors: list[torch.Tensor]) -> None:
    """Written through views of numpy."""
    for tensor in reversed(tensors):
        tensor.numpy()[:] = 0.01


def through_a_buffer(tensors: list[torch.Tensor]) -> None:
    """Written through tensors that share memory and no counter."""
    for tensor in reversed(tensors):
        torch.frombuffer(tensor.numpy(), dtype=torch.float32).mul_(0.5)


def averaged(tensors: list[torch.Tensor]) -> None:
    """One tensor, an average of weights, is moved."""
    tensors[3].data.mul_(0.5)


@worlds.world(run=copied)
def at_rest(rng: Rng, strength: float) -> Instance:
    """Nobody writes."""
    return written(nothing, size=1 << 16)


@worlds.world(run=copied)
def clipped_after_a_copy_at_once(rng: Rng, strength: float) -> Instance:
    """mode='sync': weights are clipped past autograd after post_step(), when the copy is over."""
    return written(clipped, mode="sync", size=1 << 16)


@worlds.world(run=copied, breaks=AT_REST)
def clipped_behind_autograd(rng: Rng, strength: float) -> Instance:
    """`p.data.clamp_` right after post_step(), before the copy comes to it."""
    return written(clipped, -1.0)


@worlds.world(run=copied, breaks=AT_REST)
def written_through_views(rng: Rng, strength: float) -> Instance:
    """numpy views, or tensors of one buffer, right after post_step()."""
    return written((through_numpy, through_a_buffer)[int(rng.integers(2))], -1.0)


@worlds.world(run=copied, breaks=AT_REST, strengths=(0.1, 1.0, 20.0), broken_from=0.0, rising=False)
def clipped_later(rng: Rng, strength: float) -> Instance:
    """`p.data.clamp_` so many milliseconds after post_step(): where the copy is over by then, the claim is true."""
    return written(clipped, strength / 1e3)


@worlds.world(run=copied, breaks=AT_REST, strengths=(1.0,), broken_from=2.0)
def one_average(rng: Rng, strength: float) -> Instance:
    """One of six tensors is moved right after post_step(): before, while or after it is copied."""
    return written(averaged)


@worlds.world(run=copied, breaks=AT_REST)
def one_of_many_tensors(rng: Rng, strength: float) -> Instance:
    """One of 600 tensors is moved between post_step() and the copy."""
    one = int(rng.integers(600))
    return written(lambda tensors: tensors[one].data.mul_(0.5), -1.0, size=64, number=600)


@worlds.world(run=copied, breaks=AT_REST, strengths=(1e-3, 1e-4), noticeable=False)
def a_few_weights_clipped(rng: Rng, strength: float) -> Instance:
    """This share of the weights is clipped between post_step() and the copy; a sample seldom meets one."""
    chosen = [int(i) for i in rng.integers(1 << 16, size=max(1, int(strength * (1 << 16))))]

    def clipped_here(tensors: list[torch.Tensor]) -> None:
        tensors[2].numpy()[chosen] = 0.01

    return written(clipped_here, -1.0, size=1 << 16)


def told(failure: Failure, watch: Watch) -> Certificate:
    """The certificate of a failure under what was watched."""
    return theorems.exact_recovery([failure], watch, 1)


def unwatched(rng: Rng, unfenced: int, torn: bool) -> Instance:
    """A run whose snapshot was written under the copy, or not."""
    failure = Failure((0,), (), 9, 8, True, True, 3)
    watch = Watch(unfenced=unfenced, ours=True)
    return Instance(
        {"failure": failure, "watch": watch}, lambda _: {"bit-exact-recovery": not torn}
    )


@worlds.world(run=told, breaks=FENCED, strengths=(1.0, 0.3, 0.1), broken_from=0.1)
def no_fence(rng: Rng, strength: float) -> Instance:
    """pre_step() is left out in this share of 400 steps."""
    return unwatched(rng, max(1, int(rng.binomial(400, strength))), bool(rng.random() < strength))


@worlds.world(run=told, breaks=FENCED)
def fence_forgotten_in_one_branch(rng: Rng, strength: float) -> Instance:
    """pre_step() is left out where gradients are accumulated."""
    return unwatched(rng, int(rng.integers(1, 5)), bool(rng.random() < 0.5))


@worlds.world(run=told, breaks=WHOLE_STATE, noticeable=False)
def scheduler_left_out(rng: Rng, strength: float) -> Instance:
    """What is given comes back; the learning rate's schedule, which is not given, does not."""
    return unwatched(rng, 0, False)


@worlds.world(run=told, breaks=WHOLE_STATE, noticeable=False)
def generator_left_out(rng: Rng, strength: float) -> Instance:
    """The same with a generator of the loop's own."""
    return unwatched(rng, 0, False)


# The newest version


def agreed(
    keepers: list[dict[str, Any]], n: int, m: int, newest: int, lost: tuple[int, ...]
) -> Played:
    """What the ranks agree on from the keepers' answers, against what the launcher had heard."""
    code = ErasureGroup(n, m)
    found = recovery.agree(code, keepers)
    failure = Failure((0,), lost, 9, 8, True, True, found.version, newest, "erasure")
    return Played((theorems.newest_common([failure], m),), found.version)


def versions(rng: Rng, gone: int) -> Instance:
    """Four keepers, one loss survived: a version that all have, and perhaps a newer one that all, or some, have."""
    n, base = 4, int(rng.integers(3, 50))
    everywhere = bool(rng.random() < 0.5)
    newer = np.ones(n, bool) if everywhere else rng.random(n) < 0.6
    if not everywhere:
        newer[int(rng.integers(n))] = False
    lost = tuple(sorted(map(int, rng.choice(n, gone, replace=False))))
    keepers = []
    for i in range(n):
        held = [] if i in lost else [{"version": base, "state": "committed", "bad": []}]
        if i not in lost:
            state = "encoded" if newer[i] else "copied"
            held.append({"version": base + 1, "state": state, "bad": []})
        keepers.append({"n": n, "floor": base, "held": held})
    kept = [i for i in range(n) if i not in lost]
    newest = base + 1 if all(newer[i] for i in kept) else base

    def truths(made: Any) -> dict[str, bool | None]:
        return {"newest-common-version": made.given >= newest}

    arguments = {"keepers": keepers, "n": n, "m": 1, "newest": newest, "lost": lost}
    return Instance(arguments, truths)


@worlds.world(run=agreed)
def half_way(rng: Rng, strength: float) -> Instance:
    """A commit that got lost half-way, or a version that some have not encoded; one keeper may be gone."""
    return versions(rng, int(rng.integers(2)))


@worlds.world(run=agreed, breaks=FEW, strengths=(3, 2))
def keepers_gone(rng: Rng, strength: float) -> Instance:
    """So many keepers of four are gone, where one is survived."""
    return versions(rng, int(strength))


worlds.mutant(
    "newest-common-version",
    "version halved",
    target=f"{HOME}.recovery:agree",
    change=lambda f: lambda *a: replace(f(*a), version=f(*a).version // 2),
    world=half_way,
)


# Stall


def stalled(stalls: np.ndarray, share: float, budget: float, **more: Any) -> Instance:
    """Stalls that are this share of the time that was watched."""
    arguments = {
        "stalls_ms": list(map(float, stalls)),
        "watched_ms": float(stalls.sum() / share),
        "budget": budget,
        "snapshots": len(stalls),
        **more,
    }
    off = budget - share
    return Instance(
        arguments, lambda _: {"stall-budget": None if abs(off) < 1e-9 else bool(off > 0)}
    )


@worlds.world(run=theorems.stall_budget)
def light(rng: Rng, strength: float) -> Instance:
    """Stalls of 20 ± 3 ms that are 1 to 4 % of the time, where 5 % are granted."""
    return stalled(rng.normal(20, 3, 50), float(rng.uniform(0.01, 0.04)), 0.05)


@worlds.world(run=theorems.stall_budget)
def seldom_long(rng: Rng, strength: float) -> Instance:
    """One stall in a hundred takes 5 s, which makes 3 % of the time, where 5 % are granted."""
    stalls = np.where(rng.random(300) < 0.01, 5000.0, 10.0)
    return stalled(stalls, 0.03, 0.05)


@worlds.world(run=theorems.stall_budget, expects=Verdict.FAILS)
def busy(rng: Rng, strength: float) -> Instance:
    """Stalls that are 6 to 9 % of the time, where 5 % are granted."""
    return stalled(rng.lognormal(3, 2, 50), float(rng.uniform(0.06, 0.09)), 0.05)


worlds.mutant(
    "stall-budget",
    "stalls halved",
    target=f"{HOME}.theorems:stall_share",
    change=halved,
    world=busy,
    caught_by="false holds",
)


def untimed(stalls: np.ndarray, share: float, kept: np.ndarray) -> Instance:
    """Some of the stalls are not in the list."""
    whole = stalled(stalls, share, 0.05)
    arguments = {**whole.arguments, "stalls_ms": list(map(float, stalls[kept]))}
    return Instance(arguments, whole.truths)


@worlds.world(run=theorems.stall_budget, breaks=ALL_TIMED, strengths=(0.9, 0.5, 0.1))
def list_cleared(rng: Rng, strength: float) -> Instance:
    """The list of stalls was cleared after this share of the run."""
    stalls = rng.normal(20, 3, 50)
    return untimed(stalls, 0.08, np.arange(50) >= int(50 * strength))


@worlds.world(run=theorems.stall_budget, breaks=ALL_TIMED)
def long_ones_left_out(rng: Rng, strength: float) -> Instance:
    """The longest tenth is left out as if it were noise."""
    stalls = rng.lognormal(3, 2, 50)
    return untimed(stalls, 0.08, stalls < np.quantile(stalls, 0.9))


# The same as without failures


def compared(ours: Mapping[Any, float], theirs: Mapping[Any, float], first: int) -> Certificate:
    """As the front door compares a run with one without failures."""
    before = theorems.differences(ours, theirs, 0, first)
    wrong, seen = theorems.differences(ours, theirs, first, 1 << 30)
    return theorems.same_as_undisturbed(wrong, seen, before)


def curves(rng: Rng, noise: float, after: float, same: bool) -> Instance:
    """Losses of 60 steps and two ranks; `noise` is the share that rounding changes, `after` what a failure at step 20 changes."""
    keys = [(s, r) for s in range(60) for r in range(2)]
    theirs = {key: float(x) for key, x in zip(keys, rng.random(len(keys)), strict=True)}
    ours = dict(theirs)
    for key in keys:
        if rng.random() < noise:
            ours[key] += 1e-7
        if key[0] >= 20:
            ours[key] += after
    arguments = {"ours": ours, "theirs": theirs, "first": 20}
    return Instance(arguments, lambda _: {"same-as-undisturbed": same})


@worlds.world(run=compared)
def as_without(rng: Rng, strength: float) -> Instance:
    """All losses are the same."""
    return curves(rng, 0.0, 0.0, True)


@worlds.world(run=compared)
def diverged_alike(rng: Rng, strength: float) -> Instance:
    """Losses are the same, and none is a number from step 10 on."""
    made = curves(rng, 0.0, 0.0, True)
    for losses in (made.arguments["ours"], made.arguments["theirs"]):
        losses.update({key: float("nan") for key in losses if key[0] >= 10})
    return made


@worlds.world(run=compared, expects=Verdict.FAILS)
def sampler_not_restored(rng: Rng, strength: float) -> Instance:
    """The sampler's position was not in the state: losses after the failure are others."""
    return curves(rng, 0.0, 1e-3, False)


worlds.mutant(
    "same-as-undisturbed",
    "differences not counted",
    target=f"{HOME}.theorems:differences",
    change=lambda f: lambda *a: (0, f(*a)[1]),
    world=sampler_not_restored,
    caught_by="false holds",
)


@worlds.world(run=compared, breaks=REPEATABLE, strengths=(1.0, 0.5, 0.2), broken_from=0.2)
def sums_in_any_order(rng: Rng, strength: float) -> Instance:
    """Kernels that sum in any order change this share of the losses."""
    return curves(rng, strength, 0.0, False)


@worlds.world(run=compared, breaks=REPEATABLE)
def another_machine(rng: Rng, strength: float) -> Instance:
    """The run without failures was made on another machine, and the sampler was not restored."""
    return curves(rng, 1.0, 1e-3, False)


# End to end, with a keeper


def guarded(write: Callable[[list[torch.Tensor]], None], mode: str, size: int) -> Played:
    """A guard copies each of four steps, is given up, and a second one restores."""
    tensors = [torch.zeros(size) for _ in range(TENSORS)]
    state = {f"t{i}": t for i, t in enumerate(tensors)}
    options: dict[str, Any] = {"every": 1, "mode": mode, "verbose": False, "linger": 30.0}
    run = f"world{secrets.token_hex(4)}"
    first = SnapshotGuard(state, run=run, **options)
    first.restore()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(4):
            first.pre_step()
            for tensor in tensors:
                tensor.fill_(step + 1.0)
            first.post_step(step)
            write(tensors)
            time.sleep(0.02)
        first.abandon()
        second = SnapshotGuard(state, run=run, **options)
        start = second.restore()
    back = [float(start)] + [t.clone() for t in tensors]
    certificates = second.certificates()
    second.close()
    return Played(certificates[:1], back)


def ended(write: Any, mode: str = "overlap") -> Instance:
    """The claim is true if all tensors are the step that is gone on from."""

    def truths(made: Any) -> dict[str, bool | None]:
        step, *tensors = made.given
        good = step > 0 and all(bool((t == step).all()) for t in tensors)
        return {"bit-exact-recovery": good}

    return Instance({"write": write, "mode": mode, "size": 1 << 20}, truths)


@worlds.world(run=guarded, slow=True, seeds=20)
def guard_at_rest(rng: Rng, strength: float) -> Instance:
    """The ordinary loop: a snapshot each step, a second process goes on."""
    return ended(nothing)


def stopped(after: str, steps: int) -> Played:
    """A loop whose step fails before or after the optimizer wrote, and which goes on with ``restore(live=True)``."""
    weights = torch.zeros(1 << 10)
    options: dict[str, Any] = {"every": 1, "verbose": False, "linger": 30.0}
    guard = SnapshotGuard({"w": weights}, run=f"world{secrets.token_hex(4)}", **options)
    guard.restore()
    for step in range(steps):
        guard.pre_step()
        weights += 1
        guard.post_step(step)
    if after != "backward":
        guard.pre_step()
    if after == "step":
        weights += 1
    start = guard.restore(live=True)
    certificates = guard.certificates()
    guard.close()
    return Played(certificates[:1], [float(start), weights.clone()])


@worlds.world(run=stopped, slow=True, seeds=20)
def stopped_in_a_step(rng: Rng, strength: float) -> Instance:
    """Another rank's death is noticed in backward(), at the fence, or once the optimizer has written."""

    def truths(made: Any) -> dict[str, bool | None]:
        start, weights = made.given
        return {"bit-exact-recovery": bool((weights == start).all())}

    after = str(rng.choice(["backward", "fence", "step"]))
    return Instance({"after": after, "steps": int(rng.integers(2, 6))}, truths)


@worlds.world(run=guarded, slow=True, seeds=20)
def guard_at_once(rng: Rng, strength: float) -> Instance:
    """mode='sync', and weights clipped past autograd after post_step()."""
    return ended(clipped, "sync")


@worlds.world(run=guarded, breaks=AT_REST, slow=True, seeds=20)
def guard_clipped(rng: Rng, strength: float) -> Instance:
    """Weights clipped past autograd right after post_step()."""
    return ended(clipped)
