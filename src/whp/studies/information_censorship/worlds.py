"""Worlds of censored answers: what an adversary gains is counted here by its definition, history by history."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate, Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.llm import (
    Censor,
    CensorshipResult,
    audit_adversary,
    audit_log,
    censor_unknown,
    information_censorship,
)
from whp.llm._information_censorship.attack import Terms
from whp.llm._information_censorship.theorems import (
    COINS,
    IGNORES,
    LIMIT,
    PRIOR,
    SIDE,
    TABLE,
    THEOREMS,
    WHOLE,
    WITHIN,
)

__all__ = ["worlds"]

worlds = Worlds("information-censorship", THEOREMS)
HOME = "whp.llm._information_censorship"
Channels = Sequence[np.ndarray]


def gain(
    prior: np.ndarray,
    answer: np.ndarray,
    channels: Channels,
    mask: np.ndarray,
    k: int | None = None,
) -> float:
    """What the best adaptive adversary gains of k answers, by recursion over all it can hear."""
    total = np.bincount(answer, prior, len(mask))

    def best(weights: np.ndarray, left: tuple[int, ...], asks: int) -> float:
        mass = weights.sum()
        if mass <= 0:
            return 0.0
        if not asks:
            after = np.bincount(answer, weights, len(mask)) / mass
            return float(
                sum(
                    mass * q * math.log(q / p)
                    for q, p, m in zip(after, total, mask, strict=True)
                    if m and q > 0
                )
            )
        return max(
            sum(
                best(weights * channels[j][:, z], tuple(i for i in left if i != j), asks - 1)
                for z in range(channels[j].shape[1])
            )
            for j in left
        )

    J = len(channels)
    k = J if k is None else k
    if k == J:  # the order cannot matter
        made = prior[:, None]
        for channel in channels:
            made = (made[:, :, None] * channel[:, None, :]).reshape(len(prior), -1)
        return float(sum(best(made[:, h], (), 0) for h in range(made.shape[1])))
    return best(prior, tuple(range(J)), k)


def behind(made: CensorshipResult, channels: Channels, p: float | None = None) -> list[np.ndarray]:
    """P(returned | world) by the strength that the user is given."""
    strength = made.strength if p is None else p
    assert strength is not None
    out = []
    for channel in channels:
        size = channel.shape[1]
        if made.mechanism == "erase":
            out.append(np.column_stack([strength * channel, np.full(len(channel), 1 - strength)]))
        elif strength == math.inf or size == 1:
            out.append(channel)
        else:
            other = 1 / (math.exp(strength) + size - 1)
            out.append(
                channel
                @ (np.full((size, size), other) + (math.exp(strength) - 1) * other * np.eye(size))
            )
    return out


def below(value: float, bound: float) -> bool | None:
    """Whether a value is at most a bound; None within rounding of sums of probabilities."""
    return None if abs(value - bound) <= 1e-9 * abs(bound) + 1e-11 else value < bound


def named(made: Any, name: str) -> Certificate:
    """The certificate of that name."""
    return next(c for c in made.certificates if c.name == name)


def judge(
    made: CensorshipResult,
    prior: np.ndarray,
    answer: np.ndarray,
    channels: Channels,
    mask: np.ndarray,
) -> dict[str, bool | None]:
    """All claims by what the user is given: budget, bounds, and the strength that goes into the system."""
    returned = behind(made, channels)
    gained = gain(prior, answer, returned, mask, made.k)
    truths: dict[str, bool | None] = {}
    for c in made.certificates:
        if c.name in ("leakage", "leakage-of-these-rows"):
            truths[c.name] = below(gained, made.eps)
        elif c.name.startswith("universal") or c.name == "composition":
            truths[c.name] = gained <= c.bound
    return truths


def labels(names: Sequence[str], mask: np.ndarray) -> Any:
    """The impermissible answers as a user names them."""
    return "all" if mask.all() else [n for n, m in zip(names, mask, strict=True) if m]


def ask(
    prior: np.ndarray, answer: np.ndarray, channels: Channels, mask: np.ndarray, **options: Any
) -> dict[str, Any]:
    """Arguments of the front door."""
    told = labels([str(a) for a in range(len(mask))], mask)
    return {
        "table": list(channels),
        "target": answer,
        "prior": prior,
        "impermissible": told,
        **options,
    }


# Nothing is broken


@worlds.world(run=information_censorship)
def random_tables(rng: np.random.Generator, strength: float) -> Instance:
    """Up to eight worlds and three questions, concentrated or spread laws, a prior with zeros, some answers, one to all asks."""
    W, J, m = int(rng.integers(3, 9)), int(rng.integers(1, 4)), int(rng.integers(2, 4))
    alpha = float(rng.choice([0.05, 1.0, 20.0]))
    channels = [rng.dirichlet(np.full(int(rng.integers(2, 4)), alpha), W) for _ in range(J)]
    answer = (
        np.concatenate([np.arange(m), rng.integers(0, m, W - m)]) if m < W else np.arange(W) % m
    )
    prior = np.maximum(rng.dirichlet(np.full(W, 0.2)), 1e-12) * (rng.random(W) < 0.9)
    prior = (prior + (prior.sum() == 0)) / (prior + (prior.sum() == 0)).sum()
    mask = rng.random(m) < 0.7
    mask = mask if mask.any() else np.ones(m, bool)
    k = int(rng.choice([1, max(J - 1, 1), J]))
    mechanism = str(rng.choice(["erase", "krr"]))
    how = str(rng.choice(["universal", "exact"] + ["answers"] * (mechanism == "erase")))
    eps = float(rng.random() * 0.05)
    arguments = ask(prior, answer, channels, mask, k=k, mechanism=mechanism, calibrate=how, eps=eps)
    return Instance(arguments, lambda made: judge(made, prior, answer, channels, mask))


@worlds.world(run=information_censorship)
def telling_all(rng: np.random.Generator, strength: float) -> Instance:
    """Every question is the refused one itself: the universal bound is what leaks."""
    m, J = int(rng.integers(2, 5)), int(rng.integers(1, 4))
    prior = rng.dirichlet(np.ones(m))
    mask = np.ones(m, bool)
    channels = [np.eye(m)] * J
    H = -float((prior * np.log(prior)).sum())
    arguments = ask(prior, np.arange(m), channels, mask, eps=float(rng.uniform(0.05, 0.9)) * H)
    return Instance(arguments, lambda made: judge(made, prior, np.arange(m), channels, mask))


@worlds.world(run=information_censorship)
def rows_that_tell_all(rng: np.random.Generator, strength: float) -> Instance:
    """The same for rows that are said to be a sample; the claim is about them."""
    n = int(rng.integers(20, 60))
    answer = rng.integers(0, 3, n)
    answer[:3] = np.arange(3)
    prior, mask = np.full(n, 1 / n), np.ones(3, bool)
    P = np.bincount(answer) / n
    eps = float(rng.uniform(0.05, 0.9)) * -float((P * np.log(P)).sum())
    channels = [np.eye(3)[answer]]
    arguments = {"table": answer[:, None], "target": answer, "rows": "sample", "eps": eps}

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        found = judge(made, prior, answer, channels, mask)
        return {"leakage-of-these-rows": found["leakage-of-these-rows"]}

    return Instance(arguments, truths)


@worlds.world(run=information_censorship)
def rare_and_swapped(rng: np.random.Generator, strength: float) -> Instance:
    """One of two answers, a millionth to a tenth of the worlds, swapped: the bound of swapping is nearly what leaks."""
    rare = 10.0 ** -float(rng.uniform(1, 6))
    prior, mask = np.array([1 - rare, rare]), np.array([False, True])
    # Small against H, and large against the rounding of a sum of probabilities.
    eps = rare * float(rng.uniform(0.05, 0.5))
    channels = [np.eye(2)]
    arguments = ask(prior, np.arange(2), channels, mask, eps=eps, mechanism="krr")
    return Instance(arguments, lambda made: judge(made, prior, np.arange(2), channels, mask))


def parity(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Two bits, not quite even, and their parity: each says hardly anything alone."""
    first, second = rng.uniform(0.4, 0.6, 2)
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    prior = np.where(bits[:, 0], first, 1 - first) * np.where(bits[:, 1], second, 1 - second)
    return prior, bits[:, 0] ^ bits[:, 1], [np.eye(2)[bits[:, j]] for j in range(2)]


@worlds.world(run=information_censorship)
def two_bits(rng: np.random.Generator, strength: float) -> Instance:
    """Two bits of which the parity is refused, calibrated exactly: leakage and budget are equal."""
    prior, answer, channels = parity(rng)
    mask = np.ones(2, bool)
    arguments = ask(
        prior, answer, channels, mask, eps=float(rng.uniform(0.01, 0.5)), calibrate="exact"
    )
    return Instance(arguments, lambda made: judge(made, prior, answer, channels, mask))


@worlds.world(run=information_censorship)
def branching(rng: np.random.Generator, strength: float) -> Instance:
    """Which of two questions tells depends on a third: no fixed pair does."""
    states = [(i, a, r) for i in (0, 1) for a in (0, 1) for r in (0, 1)]
    table = np.array([[i, a if i == 0 else r, a if i == 1 else r] for i, a, r in states])
    answer, mask = np.array([a for _, a, _ in states]), np.ones(2, bool)
    prior = rng.dirichlet(np.full(8, 5.0))
    channels = [np.eye(2)[table[:, j]] for j in range(3)]
    arguments = ask(
        prior, answer, channels, mask, eps=float(rng.uniform(0.05, 0.3)), k=2, calibrate="exact"
    )
    return Instance(arguments, lambda made: judge(made, prior, answer, channels, mask))


@worlds.world(run=information_censorship)
def hardly_ever(rng: np.random.Generator, strength: float) -> Instance:
    """Worlds of probability 1e-300 beside ordinary ones, and answers that nobody gives."""
    prior = np.array([0.6, 0.4, 1e-300, 0.0])
    answer, mask = np.array([0, 1, 2, 2]), np.ones(3, bool)
    channels = [np.eye(2)[[0, 1, 1, 0]], rng.dirichlet(np.ones(3), 4)]
    arguments = ask(
        prior, answer, channels, mask, eps=float(rng.uniform(0.01, 0.3)), calibrate="exact"
    )
    return Instance(arguments, lambda made: judge(made, prior, answer, channels, mask))


@worlds.world(run=information_censorship)
def sampled_histories(rng: np.random.Generator, strength: float) -> Instance:
    """Rare answers by five questions right with .9, more histories than may be summed."""
    rare = float(rng.choice([1e-3, 1e-2, 0.2]))
    prior, mask = np.array([1 - rare, rare]), np.array([bool(rng.integers(2)), True])
    channels = [np.array([[0.9, 0.1], [0.1, 0.9]])] * 5
    H = -float((prior * np.log(prior))[mask].sum())
    arguments = ask(
        prior,
        np.arange(2),
        channels,
        mask,
        eps=0.5 * H,
        max_cells=100,
        n_mc=2000,
        rng=int(rng.integers(1 << 31)),
    )
    return Instance(arguments, lambda made: judge(made, prior, np.arange(2), channels, mask))


@worlds.world(run=information_censorship)
def pieces_of_one_answer(rng: np.random.Generator, strength: float) -> Instance:
    """Only one answer is refused, and each question rules the others out by a part: single leakages do not add up."""
    q = float(rng.uniform(0.05, 0.4))
    prior, answer = np.array([q, (1 - q) / 2, (1 - q) / 2]), np.array([0, 1, 1])
    mask = np.array([True, False])
    channels = [np.eye(2)[[1, 1, 0]], np.eye(2)[[1, 0, 1]]]
    arguments = ask(prior, answer, channels, mask, eps=float(rng.uniform(0.01, 0.05)))
    return Instance(arguments, lambda made: judge(made, prior, answer, channels, mask))


def left_uncertain(prior: np.ndarray, benign: np.ndarray, channels: Channels) -> float:
    """H(B | returned) by the definition."""
    made = prior[:, None]
    for channel in channels:
        made = (made[:, :, None] * channel[:, None, :]).reshape(len(prior), -1)
    total = 0.0
    for h in range(made.shape[1]):
        mass = made[:, h].sum()
        law = np.bincount(benign, made[:, h]) / mass if mass > 0 else np.zeros(1)
        total -= mass * float(sum(q * math.log(q) for q in law if q > 0))
    return float(total)


@worlds.world(run=information_censorship)
def a_secret_half(rng: np.random.Generator, strength: float) -> Instance:
    """Honest users want a number, its parity is refused."""
    n = 2 * int(rng.integers(2, 4))
    b = np.arange(n)
    prior, mask = rng.dirichlet(np.full(n, 5.0)), np.ones(2, bool)
    channels = [np.eye(n)]
    arguments = ask(
        prior, b % 2, channels, mask, eps=float(rng.uniform(0.01, 0.2)), calibrate="exact", benign=b
    )

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        left = left_uncertain(prior, b, behind(made, channels))
        found: dict[str, bool | None] = {
            c.name: left >= c.bound - 1e-9 for c in made.certificates if c.name == "utility"
        }
        return judge(made, prior, b % 2, channels, mask) | found

    return Instance(arguments, truths)


@worlds.world(run=information_censorship)
def the_other_half(rng: np.random.Generator, strength: float) -> Instance:
    """The number without its parity is returned as it is: nobody can do better."""
    b, mask = np.arange(4), np.ones(2, bool)
    prior = rng.dirichlet(np.full(4, 20.0))
    halves = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [0, 1.0]])
    leaked = gain(prior, b % 2, [halves], mask)
    arguments = ask(
        prior, b % 2, [np.eye(4)], mask, eps=leaked + 1e-6, mechanism=[halves], benign=b
    )

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        left = left_uncertain(prior, b, [halves])
        return {c.name: left >= c.bound - 1e-9 for c in made.certificates if c.name == "utility"}

    return Instance(arguments, truths)


def believed(rng: np.random.Generator, sure: float, p: float, k: int, n: int) -> dict[str, Any]:
    """Conversations of a believer who jumps to `sure` in the rare answer at the first thing that it hears."""
    before = np.array([0.945, 0.055])
    heard = rng.random(n) < 1 - (1 - p) ** k
    after = np.where(heard[:, None], [1 - sure, sure], before)
    censor = replace(censor_unknown(before.tolist(), k, 0.01), strength=p)
    return {
        "p_after": after,
        "p_before": before,
        "censor": censor,
        "answered": heard,
        "impermissible": [1],
    }


@worlds.world(run=audit_adversary)
def overconfident(rng: np.random.Generator, strength: float) -> Instance:
    """Believers of every temper, behind coins that are right."""
    sure, p, k = (
        float(rng.choice([0.5, 0.9, 1 - 1e-9])),
        float(rng.uniform(0.1, 0.6)),
        int(rng.integers(1, 4)),
    )
    arguments = believed(rng, sure, p, k, 3000)
    gained = (1 - (1 - p) ** k) * sure * math.log(sure / 0.055)
    return Instance(arguments, lambda made: {"adversary": gained <= named(made, "adversary").bound})


@worlds.world(run=audit_adversary)
def quite_sure(rng: np.random.Generator, strength: float) -> Instance:
    """Believers who are surer than anything told them: the bound is what they gain."""
    p, k = float(rng.uniform(0.1, 0.6)), int(rng.integers(1, 4))
    gained = (1 - (1 - p) ** k) * math.log(1 / 0.055)
    return Instance(
        believed(rng, 1.0, p, k, 3000),
        lambda made: {"adversary": gained <= named(made, "adversary").bound},
    )


def log_of(
    rng: np.random.Generator, n: int, p: float, s: float, share: float = 0.3
) -> pd.DataFrame:
    """One question in each of n sessions; "yes" leaves with probability 1 − (1 − p)(1 − s)."""
    yes = rng.random(n) < share
    coin = rng.random(n) < np.where(yes, 1 - (1 - p) * (1 - s), p)
    return pd.DataFrame(
        {
            "session": np.arange(n),
            "question": "x-ray?",
            "answered": coin.astype(int),
            "answer": np.where(yes, "yes", "no"),
        }
    )


def of_a_log(s: float, share: float, k: int, eps: float) -> tuple[Censor, bool]:
    """A censor, and whether its bound is true of coins that favour "yes" by s."""
    censor = censor_unknown([1 - share, share], k, eps)
    p = censor.strength
    yes = 1 - (1 - p) * (1 - s)
    law = np.array([[p, 0, 1 - p], [0, yes, 1 - yes]])
    gained = gain(np.array([1 - share, share]), np.arange(2), [law], np.ones(2, bool))
    return censor, gained <= censor.bound * (1 + 1e-9) + 1e-12


@worlds.world(run=audit_log)
def honest_logs(rng: np.random.Generator, strength: float) -> Instance:
    """Logs of coins that know nothing, of 200 to 3,000 rows."""
    censor, true = of_a_log(0.0, 0.3, 1, float(rng.uniform(0.05, 0.5)))
    log = log_of(rng, int(rng.integers(200, 3000)), censor.strength, 0.0)
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": true})


# Coins


@worlds.world(run=audit_log, breaks=COINS, strengths=(0.4, 0.6, 1.0))
def answers_yes_more_often(rng: np.random.Generator, strength: float) -> Instance:
    """A wrapper that lets "yes" pass more often, by a log of 4,000 rows."""
    censor, true = of_a_log(strength, 0.3, 1, 0.05)
    log = log_of(rng, 4000, censor.strength, strength)
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": true})


@worlds.world(run=audit_log, breaks=COINS, strengths=(0.02, 0.05, 0.1, 0.2), noticeable=False)
def hardly_more_often(rng: np.random.Generator, strength: float) -> Instance:
    """The same by little, in 2,000 rows, which no test can tell for sure."""
    censor, true = of_a_log(strength, 0.3, 1, 0.05)
    log = log_of(rng, 2000, censor.strength, strength)
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": true})


@worlds.world(run=audit_log, breaks=COINS, strengths=(100, 200, 400))
def one_coin_a_session(rng: np.random.Generator, strength: float) -> Instance:
    """One coin for all questions of a session instead of one for each."""
    censor = replace(censor_unknown([0.5, 0.5], 2, 0.15), strength=0.3)
    rows = [
        (s, q, int(c), "ab"[int(rng.integers(2))])
        for s, c in enumerate(rng.random(int(strength)) < 0.3)
        for q in ("x", "y")
    ]
    log = pd.DataFrame(rows, columns=["session", "question", "answered", "answer"])
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": True})


@worlds.world(run=audit_log, breaks=COINS, strengths=(2, 3, 5))
def answers_drawn_anew(rng: np.random.Generator, strength: float) -> Instance:
    """The coin is kept, the answer is asked for again: each repetition of a sure coin tells more."""
    repeats = int(strength)
    censor = replace(censor_unknown([0.5, 0.5], 9, 0.1), strength=0.2)
    rows = []
    for session in range(40):
        coin = int(rng.random() < 0.2)
        rows += [(session, "q", coin, "abcd"[int(rng.integers(4))]) for _ in range(repeats)]
    log = pd.DataFrame(rows, columns=["session", "question", "answered", "answer"])
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": True})


def too_often(rng: np.random.Generator, times: float, n: int, questions: int) -> Instance:
    """Coins that know nothing, and let through so many times the answers that are claimed."""
    censor = censor_unknown([0.7, 0.3], 1, 0.05)
    p = min(times * censor.strength, 1.0)
    log = log_of(rng, n, p, 0.0).assign(question=[f"q{i % questions}" for i in range(n)])
    law = np.array([[p, 0, 1 - p], [0, p, 1 - p]])
    true = gain(np.array([0.7, 0.3]), np.arange(2), [law], np.ones(2, bool)) <= censor.bound
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": true})


@worlds.world(run=audit_log, breaks=COINS, strengths=(2, 4, 10))
def answers_more_than_claimed(rng: np.random.Generator, strength: float) -> Instance:
    """A wrapper whose p is a multiple of the one that the bound is of."""
    return too_often(rng, strength, 2000, 1)


@worlds.world(run=audit_log, breaks=COINS, strengths=(1.02, 1.05, 1.1), noticeable=False)
def answers_hardly_more_than_claimed(rng: np.random.Generator, strength: float) -> Instance:
    """The same by little, in 500 rows."""
    return too_often(rng, strength, 500, 1)


@worlds.world(run=audit_log)
def questions_asked_once(rng: np.random.Generator, strength: float) -> Instance:
    """Honest logs in which no question comes twice, or all was silence: there is hardly anything to test."""
    return too_often(rng, 1.0, n := int(rng.integers(1, 400)), n)


@worlds.world(run=audit_log, breaks=COINS, strengths=(0.4, 0.6, 1.0))
def answers_yes_to_whatever_is_asked(rng: np.random.Generator, strength: float) -> Instance:
    """ "yes" passes more often, in a log where no question comes twice, of a wrapper that answers less than it may."""
    censor = censor_unknown([0.7, 0.3], 1, 0.3)
    rare = 0.1 * censor.strength
    log = log_of(rng, 3000, rare, strength).assign(question=[f"q{i}" for i in range(3000)])
    yes = 1 - (1 - rare) * (1 - strength)
    law = np.array([[rare, 0, 1 - rare], [0, yes, 1 - yes]])
    gained = gain(np.array([0.7, 0.3]), np.arange(2), [law], np.ones(2, bool))
    return Instance(
        {"log": log, "censor": censor}, lambda made: {"universal-erasure": gained <= censor.bound}
    )


@worlds.world(run=audit_adversary, breaks=COINS, strengths=(2, 4, 8))
def hears_more_than_claimed(rng: np.random.Generator, strength: float) -> Instance:
    """Sure believers behind a wrapper whose p is a multiple of the one that the bound is of."""
    p, k = 0.05, 2
    arguments = believed(rng, 1.0, p * strength, k, 3000)
    arguments |= {"censor": replace(arguments["censor"], strength=p)}
    gained = (1 - (1 - p * strength) ** k) * math.log(1 / 0.055)
    return Instance(arguments, lambda made: {"adversary": gained <= named(made, "adversary").bound})


# More than k


@worlds.world(run=audit_log, breaks=LIMIT, strengths=(1, 3, 6))
def asks_on(rng: np.random.Generator, strength: float) -> Instance:
    """Sessions that go on after k questions, all about the same secret."""
    k, more = 2, int(strength)
    censor = censor_unknown([0.5, 0.5], k, 0.1)
    p, H = censor.strength, math.log(2)
    rows = [
        (s, f"q{j}", int(rng.random() < p), "ab"[s % 2]) for s in range(30) for j in range(k + more)
    ]
    log = pd.DataFrame(rows, columns=["session", "question", "answered", "answer"])
    true = (1 - (1 - p) ** (k + more)) * H <= censor.bound
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": true})


@worlds.world(run=audit_log, breaks=LIMIT, strengths=(5, 10, 20))
def fresh_coins_on_repeats(rng: np.random.Generator, strength: float) -> Instance:
    """The same question again and again in one session, each time with a coin of its own."""
    repeats, censor = int(strength), censor_unknown([0.5, 0.5], 2, 0.3)
    p = censor.strength
    rows = [(s, "q", int(rng.random() < p), "ab"[s % 2]) for s in range(60) for _ in range(repeats)]
    log = pd.DataFrame(rows, columns=["session", "question", "answered", "answer"])
    true = (1 - (1 - p) ** repeats) * math.log(2) <= censor.bound
    return Instance({"log": log, "censor": censor}, lambda made: {"universal-erasure": true})


@worlds.world(run=audit_adversary, breaks=LIMIT, strengths=(1, 3, 10))
def too_many_asks_of_a_black_box(rng: np.random.Generator, strength: float) -> Instance:
    """Believers who asked more often than the censor was for, and say so."""
    p, k, more = 0.1, 2, int(strength)
    arguments = believed(rng, 1.0, p, k + more, 2000)
    arguments |= {"censor": replace(arguments["censor"], k=k), "asked": np.full(2000, k + more)}
    gained = (1 - (1 - p) ** (k + more)) * math.log(1 / 0.055)
    return Instance(arguments, lambda made: {"adversary": gained <= named(made, "adversary").bound})


@worlds.world(run=information_censorship, breaks=LIMIT, strengths=(2, 3, 5), noticeable=False)
def several_accounts(rng: np.random.Generator, strength: float) -> Instance:
    """One person with several accounts, each of which keeps to k."""
    prior, answer, channels = parity(rng)
    mask = np.ones(2, bool)

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        assert made.strength is not None
        together = behind(made, channels, 1 - (1 - made.strength) ** strength)
        gained = gain(prior, answer, together, mask)
        return {
            "leakage": below(gained, made.eps),
            "universal-erasure": gained <= named(made, "universal-erasure").bound,
        }

    return Instance(ask(prior, answer, channels, mask, eps=0.05, calibrate="exact"), truths)


# Other priors


def with_another_prior(rng: np.random.Generator, believed_yes: float) -> Instance:
    """A rare illness, and an adversary who holds it more likely."""
    prior, answer, mask = (
        np.array([0.7, 0.245, 0.005, 0.05]),
        np.array([0, 0, 1, 1]),
        np.ones(2, bool),
    )
    channels = [np.eye(2)[[0, 1, 0, 1]], rng.dirichlet(np.ones(2), 4)]
    theirs = prior * np.where(answer == 1, believed_yes / 0.055, (1 - believed_yes) / 0.945)

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        gained = gain(theirs, answer, behind(made, channels), mask)
        return {
            "leakage": below(gained, made.eps),
            "universal-erasure": gained <= named(made, "universal-erasure").bound,
        }

    return Instance(ask(prior, answer, channels, mask, eps=0.01, calibrate="exact"), truths)


@worlds.world(run=information_censorship, breaks=PRIOR, strengths=(0.1, 0.3, 0.5), noticeable=False)
def knows_the_patient(rng: np.random.Generator, strength: float) -> Instance:
    """An adversary with a suspicion of the one that is ill."""
    return with_another_prior(rng, strength)


@worlds.world(run=information_censorship, breaks=PRIOR, strengths=(0.7, 0.9), noticeable=False)
def is_nearly_sure(rng: np.random.Generator, strength: float) -> Instance:
    """An adversary who wants only to be confirmed."""
    return with_another_prior(rng, strength)


@worlds.world(run=information_censorship)
def any_prior_is_covered(rng: np.random.Generator, strength: float) -> Instance:
    """Calibrated for every prior, and adversaries of every prior."""
    m = int(rng.integers(2, 5))
    mask = np.zeros(m, bool)
    mask[: int(rng.integers(1, m + 1))] = True
    prior, theirs = (
        rng.dirichlet(np.ones(m)),
        rng.dirichlet(np.full(m, float(rng.choice([0.3, 1, 20])))),
    )
    channels = [np.eye(m)] * 2

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        gained = gain(theirs, np.arange(m), behind(made, channels), mask)
        return {"universal-erasure": gained <= named(made, "universal-erasure").bound}

    return Instance(ask(prior, np.arange(m), channels, mask, eps=0.05, priors="any"), truths)


# Side channels


@worlds.world(run=information_censorship, breaks=SIDE, strengths=(0.1, 0.5, 1.0), noticeable=False)
def longer_refusals(rng: np.random.Generator, strength: float) -> Instance:
    """Refusals of one answer read differently, by chance `strength`."""
    prior, answer, mask = np.array([0.7, 0.3]), np.arange(2), np.ones(2, bool)

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        assert made.strength is not None
        p = made.strength
        seen = np.array([[p, 0, 1 - p, 0], [0, p, (1 - p) * (1 - strength), (1 - p) * strength]])
        gained = gain(prior, answer, [seen], mask)
        return {
            "leakage": below(gained, made.eps),
            "universal-erasure": gained <= named(made, "universal-erasure").bound,
        }

    return Instance(ask(prior, answer, [np.eye(2)], mask, eps=0.05), truths)


@worlds.world(run=information_censorship, breaks=SIDE, strengths=(1, 3, 10), noticeable=False)
def slower_answers(rng: np.random.Generator, strength: float) -> Instance:
    """What is erased was computed, and "yes" takes so many tenths longer, with noise of one."""
    from scipy.stats import norm

    prior, answer, mask = np.array([0.7, 0.3]), np.arange(2), np.ones(2, bool)
    late = norm.sf([0.0, -strength / 10])

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        assert made.strength is not None
        p = made.strength
        rows = [
            [p * (a == 0), p * (a == 1), (1 - p) * late[a], (1 - p) * (1 - late[a])] for a in (0, 1)
        ]
        gained = gain(prior, answer, [np.array(rows)], mask)
        return {
            "leakage": below(gained, made.eps),
            "universal-erasure": gained <= named(made, "universal-erasure").bound,
        }

    return Instance(ask(prior, answer, [np.eye(2)], mask, eps=0.05), truths)


# Tables that are not the system


@worlds.world(
    run=information_censorship, breaks=TABLE, strengths=(5, 20, 100), noticeable=False, rising=False
)
def a_few_calls_a_world(rng: np.random.Generator, strength: float) -> Instance:
    """P(response | world) estimated by so many calls."""
    W, mask = 6, np.ones(2, bool)
    prior, answer = np.full(W, 1 / W), np.arange(W) % 2
    channels = [rng.dirichlet(np.ones(3), W) for _ in range(2)]
    calls = int(strength)
    guessed = [np.array([rng.multinomial(calls, row) for row in c]) / calls for c in channels]
    arguments = ask(prior, answer, guessed, mask, eps=0.02, calibrate="exact")

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        gained = gain(prior, answer, behind(made, channels), mask)
        return {
            "leakage": below(gained, made.eps),
            "universal-erasure": gained <= named(made, "universal-erasure").bound,
        }

    return Instance(arguments, truths)


@worlds.world(
    run=information_censorship,
    breaks=TABLE,
    strengths=(10, 30, 100),
    noticeable=False,
    rising=False,
)
def a_sample_called_all_worlds(rng: np.random.Generator, strength: float) -> Instance:
    """So many patients instead of all."""
    W, n, mask = 8, int(strength), np.ones(2, bool)
    prior = rng.dirichlet(np.ones(W))
    table = rng.integers(0, 2, (W, 2))
    answer = np.arange(W) % 2
    drawn = rng.choice(W, n, p=prior)
    drawn[:2] = (0, 1)
    channels = [np.eye(2)[table[:, j]] for j in range(2)]
    arguments = {
        "table": [c[drawn] for c in channels],
        "target": answer[drawn],
        "eps": 0.02,
        "calibrate": "exact",
    }

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        return {"leakage": below(gain(prior, answer, behind(made, channels), mask), made.eps)}

    return Instance(arguments, truths)


@worlds.world(run=information_censorship, breaks=TABLE, strengths=(0.2, 0.6, 1.0), noticeable=False)
def shared_noise(rng: np.random.Generator, strength: float) -> Instance:
    """Two answers are the secret and a coin, mixed: by themselves pure noise; with chance `strength` it is one coin."""
    prior, answer, mask = np.array([0.5, 0.5]), np.arange(2), np.ones(2, bool)
    channels = [np.full((2, 2), 0.5)] * 2
    arguments = ask(prior, answer, channels, mask, eps=0.02)
    # z_1 = a + n, z_2 = n: together they are a.
    joint = np.array(
        [
            [(strength * (z1 ^ z2 == a) + (1 - strength) / 2) / 2 for z1 in (0, 1) for z2 in (0, 1)]
            for a in (0, 1)
        ]
    )

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        assert made.strength is not None
        p = made.strength
        gained = p * p * gain(prior, answer, [joint], mask)
        return {
            "leakage": below(gained, made.eps),
            "universal-erasure": gained <= named(made, "universal-erasure").bound,
            "composition": gained <= named(made, "composition").bound
            if len(made.certificates) > 2
            else True,
        }

    return Instance(arguments, truths)


# Beliefs that move at silence


def moved(rng: np.random.Generator, d: float, told: str) -> Instance:
    arguments = believed(rng, 0.9, 0.2, 2, 1000)
    silent = np.array([0.945 - d, 0.055 + d])
    heard = arguments.pop("answered")
    arguments["p_after"] = np.where(heard[:, None], arguments["p_after"], silent)
    arguments |= {"answered": heard} if told == "answered" else {"p_silent": silent[None]}
    q, once = 0.055 + d, 1 - 0.8**2
    gained = once * 0.9 * math.log(0.9 / 0.055) + (1 - once) * q * math.log(q / 0.055)
    return Instance(arguments, lambda made: {"adversary": gained <= named(made, "adversary").bound})


@worlds.world(run=audit_adversary, breaks=IGNORES, strengths=(1e-5, 1e-3, 0.1, 0.5))
def silence_is_suspicious(rng: np.random.Generator, strength: float) -> Instance:
    """An adversary who takes refusal for a yes."""
    return moved(rng, strength, "answered")


@worlds.world(run=audit_adversary, breaks=IGNORES, strengths=(1e-5, 1e-3, 0.1, 0.5))
def asked_in_silence(rng: np.random.Generator, strength: float) -> Instance:
    """The same, found by asking it with everything erased."""
    return moved(rng, strength, "silent")


# What utility rests on


def shared(rng: np.random.Generator, m: int, inside: Sequence[int], **options: Any) -> Instance:
    n = 2 * m
    b, mask = np.arange(n), np.isin(np.arange(m), inside)
    prior = rng.dirichlet(np.full(n, 5.0))
    arguments = ask(prior, b % m, [np.eye(n)], mask, benign=b, measure=True, **options)

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        returned = behind(made, [np.eye(n)]) if made.strength is not None else [np.eye(n)]
        left = left_uncertain(prior, b, returned)
        return {"utility": left >= named(made, "utility").bound - 1e-9}

    return Instance(arguments, truths)


@worlds.world(run=information_censorship, breaks=WHOLE)
def one_answer_of_two(rng: np.random.Generator, strength: float) -> Instance:
    """Only "yes" is refused."""
    return shared(rng, 2, [1], eps=0.05)


@worlds.world(run=information_censorship, breaks=WHOLE, strengths=(1, 2, 3))
def some_answers_of_four(rng: np.random.Generator, strength: float) -> Instance:
    """One to three of four answers are refused."""
    return shared(rng, 4, range(int(strength)), eps=0.05)


@worlds.world(run=information_censorship, breaks=WITHIN)
def without_a_censor(rng: np.random.Generator, strength: float) -> Instance:
    """Everything is answered."""
    return shared(rng, 2, [0, 1], eps=0.05, mechanism="none")


@worlds.world(run=information_censorship, breaks=WITHIN, strengths=(0.05, 0.1, 0.3))
def behind_a_filter(rng: np.random.Generator, strength: float) -> Instance:
    """Two bits pass a filter one by one, and their parity with them."""
    _, answer, channels = parity(rng)
    prior, b, mask = np.full(4, 0.25), np.arange(4), np.ones(2, bool)
    arguments = ask(
        prior, answer, channels, mask, eps=strength, mechanism="filter", benign=b, measure=True
    )

    def truths(made: CensorshipResult) -> dict[str, bool | None]:
        return {"utility": named(made, "utility").bound <= 1e-9}

    return Instance(arguments, truths)


@worlds.world(run=information_censorship, expects=Verdict.FAILS)
def filtered_parity(rng: np.random.Generator, strength: float) -> Instance:
    """Each of two bits passes a filter: what they say together is over the budget, and the certificate says so."""
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    prior, answer, channels = (
        np.full(4, 0.25),
        bits[:, 0] ^ bits[:, 1],
        [np.eye(2)[bits[:, j]] for j in range(2)],
    )
    mask = np.ones(2, bool)
    arguments = ask(
        prior,
        answer,
        channels,
        mask,
        eps=float(rng.uniform(0.01, 0.5)),
        mechanism="filter",
        measure=True,
    )
    return Instance(
        arguments, lambda made: {"leakage": gain(prior, answer, channels, mask) <= made.eps}
    )


@worlds.world(run=information_censorship, expects=Verdict.VACUOUS)
def budgets_beyond_all_there_is(rng: np.random.Generator, strength: float) -> Instance:
    """ε between what leaks without a censor and H: nothing is censored, which is no merit."""
    W, mask = 6, np.ones(2, bool)
    prior, answer = rng.dirichlet(np.full(W, 5.0)), np.arange(W) % 2
    channels = [rng.dirichlet(np.ones(2), W)]
    plain, P = gain(prior, answer, channels, mask), np.bincount(answer, prior)
    eps = (plain - float((P * np.log(P)).sum())) / 2
    arguments = ask(prior, answer, channels, mask, eps=eps, calibrate="exact")
    return Instance(arguments, lambda made: {"leakage": True})


# Mutants


def twice_the_budget(calibrated: Any) -> Any:
    return lambda censor, *rest: replace(
        calibrated(replace(censor, eps=2 * censor.eps), *rest), eps=censor.eps
    )


def halved(bound: Any) -> Any:
    return lambda *arguments: bound(*arguments) / 2


def half_the_terms(composed: Any) -> Any:
    def change(*arguments: Any) -> Terms:
        made = composed(*arguments)
        return Terms(made.single, made.dependence / 2, made.rest / 2, made.joint)

    return change


worlds.mutant(
    "leakage",
    "twice the budget",
    target=f"{HOME}.front_door:calibrated",
    change=twice_the_budget,
    world=two_bits,
)
worlds.mutant(
    "leakage-of-these-rows",
    "twice the budget",
    target=f"{HOME}.front_door:calibrated",
    change=twice_the_budget,
    world=rows_that_tell_all,
)
worlds.mutant(
    "universal-erasure",
    "bound halved",
    target=f"{HOME}.mechanism:universal_bound",
    change=halved,
    world=telling_all,
)
worlds.mutant(
    "universal-swapping",
    "bound halved",
    target=f"{HOME}.mechanism:universal_bound",
    change=halved,
    world=rare_and_swapped,
)
worlds.mutant(
    "composition",
    "terms halved",
    target=f"{HOME}.certify:composed",
    change=half_the_terms,
    world=pieces_of_one_answer,
)
worlds.mutant(
    "utility",
    "half as much again is shared",
    target=f"{HOME}.certify:shared",
    change=lambda f: lambda *a: 1.5 * f(*a),
    world=the_other_half,
)
worlds.mutant(
    "adversary",
    "bound halved",
    target=f"{HOME}.theorems:adversary",
    change=lambda f: lambda censor, most, *rest: f(censor, most / 2, *rest),
    world=quite_sure,
)
