"""Worlds of sparse dictionaries: firings of known frequency, planted features, and planted returns.

Training is dear, so that most worlds draw what a training would give: on which rows neurons fire,
where directions point. Truth is what was planted. A demand that is true is judged by the interval
that the user is given; one that is false must come to the verdict that the world expects.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from whp.certificate import Certificate, Verdict
from whp.datasets.superposition import simulated
from whp.experiment.worlds import Instance, Worlds
from whp.interpretability._sae_gba import theorems as t
from whp.interpretability._sae_gba.chance import Chance, matched_chance
from whp.interpretability._sae_gba.dependence import (
    hashes,
    in_file_order,
    nearly_repeated,
    repeated,
    whole_groups,
)
from whp.interpretability._sae_gba.front_door import _one_a_group, _split, sae_gba
from whp.interpretability._sae_gba.rows import Rows
from whp.interpretability._sae_gba.training import Training

__all__ = ["worlds"]

worlds = Worlds("sae-gba", t.THEOREMS)
HERE = "whp.interpretability._sae_gba"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows over their lengths."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def contains(c: Certificate, truth: float) -> bool:
    """Whether what the user is given contains the truth, which was computed in double precision."""
    assert c.measured is not None
    slack = 1e-12 * max(1.0, abs(truth))
    return bool(c.measured.low - slack <= truth <= c.measured.high + slack)


def given(name: str, truth: float, demanded: bool = True) -> Callable[[Any], Truths]:
    """Judge: the demand is true and the interval given contains the truth; a false demand is false."""

    def truths(result: Any) -> Truths:
        made = [result] if isinstance(result, Certificate) else result
        (c,) = [c for c in made if c.name == name]
        return {name: demanded and contains(c, truth)}

    return truths


# Frequencies: counts are drawn


TARGETS = 0.5 * (0.01 / 0.5) ** (np.arange(128) * 10 // 128 / 9)


def of_counts(fired: np.ndarray, rows: int, target: np.ndarray, **options: Any) -> Certificate:
    """The certificate of counts that came from elsewhere."""
    unknown = "counted elsewhere"
    answers = (t.INDEPENDENT.unchecked(unknown), t.HELD_OUT.unchecked(unknown))
    return t.frequency(fired, rows, target, answers=answers, **options)


def counts(
    rng: Rng, rows: int, rate: np.ndarray, target: np.ndarray = TARGETS, demanded: bool = True
) -> Instance:
    """Counts of neurons that fire independently of each other, or all by the same uniform number of a row."""
    if rng.random() < 0.5:
        fired = rng.binomial(rows, rate)
    else:
        uniform = np.sort(rng.random(rows))
        fired = np.searchsorted(uniform, rate)
    truth = float((rate / target).max())
    arguments = {"fired": fired, "rows": rows, "target": target}
    return Instance(arguments, given("frequency", truth, demanded))


@worlds.world(run=of_counts, strengths=(100, 500, 5000))
def at_the_target(rng: Rng, strength: float) -> Instance:
    """128 neurons, all exactly at their targets (.5 to .01), on so many rows."""
    return counts(rng, int(strength), TARGETS)


@worlds.world(run=of_counts, strengths=(500, 20_000))
def at_the_edge(rng: Rng, strength: float) -> Instance:
    """All neurons at twice their targets, which slack 1 just allows."""
    return counts(rng, int(strength), np.minimum(2 * TARGETS, 1.0))


@worlds.world(run=of_counts)
def rare_neurons(rng: Rng, strength: float) -> Instance:
    """1,024 neurons with targets of 1e-4 on 2,000 rows: most never fire there."""
    return counts(rng, 2000, np.full(1024, 1e-4), np.full(1024, 1e-4))


@worlds.world(run=of_counts)
def targets_kept(rng: Rng, strength: float) -> Instance:
    """An ordinary training: rates at .4 to 1 of the targets, 8,000 rows; has to hold."""
    return counts(rng, 8000, TARGETS * rng.uniform(0.4, 1.0, 128))


@worlds.world(run=of_counts, expects=Verdict.FAILS, strengths=(3, 20))
def above_the_target(rng: Rng, strength: float) -> Instance:
    """Neurons of the two rarest groups fire so many times as often as they should, 8,000 rows."""
    rate = TARGETS * np.where(np.arange(128) >= 102, strength, 1.0)
    return counts(rng, 8000, np.minimum(rate, 1.0), demanded=False)


@worlds.world(run=of_counts, expects=Verdict.INCONCLUSIVE, strengths=(2.2, 3))
def too_few_rows(rng: Rng, strength: float) -> Instance:
    """The same on 150 rows, which cannot tell: never holds."""
    rate = TARGETS * np.where(np.arange(128) >= 102, strength, 1.0)
    return counts(rng, 150, rate, demanded=False)


@worlds.world(run=of_counts, breaks=t.CHOSEN_BEFORE, strengths=(1, 20, 200), noticeable=False)
def best_of_many_seeds(rng: Rng, strength: float) -> Instance:
    """Of so many dictionaries, each with one of eight neurons at twice its target, the one that fires least on 2,000 rows."""
    target = np.full(8, 0.05)
    rate = target * np.where(np.arange(8) == 0, 2.0, 0.5)
    tried = rng.binomial(2000, rate, (int(strength), 8))
    fired = min(tried, key=lambda counts: int(counts.max()))
    arguments = {"fired": fired, "rows": 2000, "target": target}
    return Instance(arguments, given("frequency", 2.0))


# Rows of a file: dependence


SPARSE = np.repeat([0.2, 0.1, 0.05, 0.02], 6)
PLANTED = 0.25  # cosine of the one pair of directions that are not orthogonal: below 2.5 active


def planted_decoder(m: int, d: int, rng: Rng) -> np.ndarray:
    """Orthonormal rows, but for one pair."""
    Q = np.linalg.qr(rng.normal(size=(d, m)))[0].T
    Q[1] = PLANTED * Q[0] + math.sqrt(1 - PLANTED**2) * Q[1]
    return Q.astype(np.float32)


def share_not_unique(rate: np.ndarray) -> float:
    """Probability that none or three and more of independent neurons fire."""
    law = np.ones(1)
    for p in rate:
        law = np.convolve(law, [1 - p, p])
    return float(1 - law[1] - law[2])


def of_rows(
    fires: np.ndarray, x: np.ndarray, units: np.ndarray | None, decoder: np.ndarray, rng: Rng
) -> list[Certificate]:
    """What the front door does with neurons' firings on the rows of a file, a quarter of it held out."""
    inside, outside = _split(Rows(x), units, 0.25, rng)
    test, distance = in_file_order(lambda chosen: fires[chosen], inside, units, rng)
    if units is not None:
        again = repeated(*(whole_groups(hashes(x[v]), units[v])[1] for v in (outside, inside)))
        outside = outside[_one_a_group(units[outside], rng)]
    else:
        again = repeated(hashes(x[outside]), hashes(x[inside]))
        again = max(again, nearly_repeated(x[outside][:200], x[inside]))
    grouped = units is not None
    answers = (
        t.independence(test, again, len(outside), grouped, distance),
        t.HELD_OUT.by_construction("held back"),
    )
    counted = fires[outside]
    options: dict[str, Any] = {"answers": answers}
    fired = counted.sum(axis=0)
    return [
        t.frequency(fired, len(outside), SPARSE, slack=4.0, grouped=grouped, **options),
        t.unique_code(counted.sum(axis=1), decoder, at_most=0.9, **options),
    ]


def file_of(
    rng: Rng,
    n: int,
    size: int,
    copied: float,
    *,
    told: bool,
    mixed: bool = False,
    apart: float = 0.0,
) -> Instance:
    """n rows in groups of `size`; each is, with probability `copied`, a copy of its group's.

    With `mixed` the file is shuffled, and copies are so far apart: 0 is to the bit.
    """
    groups = np.arange(n) // size
    own = rng.random((n, len(SPARSE)))
    common = rng.random((groups[-1] + 1, len(SPARSE)))
    copies = rng.random(n) < copied
    fires = np.where(copies[:, None], common[groups], own) < SPARSE
    x = rng.normal(size=(n, 3)).astype(np.float32)
    if mixed:
        originals = rng.normal(size=(groups[-1] + 1, 3))
        moved = originals[groups] + apart * rng.normal(size=x.shape)
        x = np.where(copies[:, None], moved, x).astype(np.float32)
        order = rng.permutation(n)
        fires, x, groups = fires[order], x[order], groups[order]
    share = share_not_unique(SPARSE)

    def truths(result: Sequence[Certificate]) -> Truths:
        return {"frequency": contains(result[0], 1.0), "unique-code": contains(result[1], share)}

    arguments = {"fires": fires, "x": x, "units": groups if told else None}
    return Instance(
        arguments | {"decoder": planted_decoder(len(SPARSE), 32, rng), "rng": rng}, truths
    )


@worlds.world(run=of_rows, false_voids=0.01)
def independent_rows(rng: Rng, strength: float) -> Instance:
    """2,000 independent rows of a file, 24 neurons."""
    return file_of(rng, 2000, 1, 0.0, told=False)


@worlds.world(run=of_rows, strengths=(1.0, 0.3), false_voids=0.01)
def groups_declared(rng: Rng, strength: float) -> Instance:
    """Groups of five rows, copies of each other with that probability, and declared."""
    return file_of(rng, 2000, 5, strength, told=True)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1.0, 0.3, 0.1), broken_from=0.3)
def groups_forgotten(rng: Rng, strength: float) -> Instance:
    """The same, not declared."""
    return file_of(rng, 2000, 5, strength, told=False)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(0.3, 0.1), broken_from=0.3)
def texts_forgotten(rng: Rng, strength: float) -> Instance:
    """Groups of twenty rows, not declared."""
    return file_of(rng, 2000, 20, strength, told=False)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1.0, 0.02), broken_from=0.3)
def copies_in_any_order(rng: Rng, strength: float) -> Instance:
    """Rows that are there again (tokens of the same word), shuffled over the file."""
    return file_of(rng, 2000, 5, strength, told=False, mixed=True)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1e-5, 1e-4), rising=False)
def near_copies_in_any_order(rng: Rng, strength: float) -> Instance:
    """Groups of five rows that differ by rounding only (half precision, another batch), shuffled."""
    return file_of(rng, 2000, 5, 1.0, told=False, mixed=True, apart=strength)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1.0, 0.3), noticeable=False)
def groups_shuffled(rng: Rng, strength: float) -> Instance:
    """Groups of five rows that fire alike but are far apart, not declared, and shuffled: nothing shows them."""
    return file_of(rng, 2000, 5, strength, told=False, mixed=True, apart=1.0)


def in_columns(rng: Rng, texts: int, copied: float, *, by_place: bool) -> Instance:
    """2,000 rows of so many texts, the first row of each, then the second of each, and so on.

    With `by_place` what is declared are places in the text, which all texts have in common.
    """
    made = file_of(rng, 2000, 2000 // texts, copied, told=False)
    order = np.argsort(np.arange(2000) % (2000 // texts), kind="stable")
    changed = {"fires": made.arguments["fires"][order]}
    if by_place:
        changed["units"] = np.arange(2000) // texts
    return Instance({**made.arguments, **changed}, made.truths)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1.0, 0.3, 0.1), broken_from=1.0)
def places_before_texts(rng: Rng, strength: float) -> Instance:
    """Twenty texts, not declared, of which the first rows come first (batches with the place as first axis)."""
    return in_columns(rng, 20, strength, by_place=False)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1.0, 0.3), noticeable=False)
def places_declared_as_groups(rng: Rng, strength: float) -> Instance:
    """The same, declared by place instead of text: what texts do there, places do in a right file."""
    return in_columns(rng, 20, strength, by_place=True)


@worlds.world(run=of_rows, breaks=t.INDEPENDENT, strengths=(1.0, 0.1))
def texts_read_again(rng: Rng, strength: float) -> Instance:
    """400 groups of five rows; that share of them is one of forty, under a number of its own."""
    made = file_of(rng, 2000, 5, 0.0, told=True)
    old = rng.integers(0, 40, 400)
    source = np.where(rng.random(400) < strength, old, np.arange(400))
    rows = (5 * source[:, None] + np.arange(5)).ravel()
    fires, x = (made.arguments[name][rows] for name in ("fires", "x"))
    return Instance({**made.arguments, "fires": fires, "x": x}, made.truths)


# Codes


def of_codes(active: np.ndarray, decoder: np.ndarray, **options: Any) -> Certificate:
    """The certificate of codes that came from elsewhere."""
    unknown = "counted elsewhere"
    answers = (t.INDEPENDENT.unchecked(unknown), t.HELD_OUT.unchecked(unknown))
    return t.unique_code(active, decoder, answers=answers, **options)


def coded(rng: Rng, share: float, rows: int, demanded: bool = True) -> Instance:
    """Rows of 1 or 2 active neurons, unique by what was planted, and a share with 3, 4 or none."""
    over = rng.random(rows) < share
    active = np.where(
        over, rng.choice([0, 3, 4], rows, p=[0.1, 0.6, 0.3]), rng.integers(1, 3, rows)
    )
    decoder = planted_decoder(20, 64, rng)
    truth = given("unique-code", share, demanded)
    return Instance({"active": active, "decoder": decoder}, truth)


@worlds.world(run=of_codes, strengths=(0.01, 0.03, 0.05))
def mostly_unique(rng: Rng, strength: float) -> Instance:
    """20 directions, all but two orthogonal; that share of 1,000 codes is not unique, 5 % may be."""
    return coded(rng, strength, 1000)


@worlds.world(run=of_codes)
def few_codes(rng: Rng, strength: float) -> Instance:
    """60 rows with 4 % of codes that are not unique."""
    return coded(rng, 0.04, 60)


@worlds.world(run=of_codes, breaks=t.CHOSEN_BEFORE, strengths=(1, 20, 200), noticeable=False)
def best_of_many_settings(rng: Rng, strength: float) -> Instance:
    """Of so many dictionaries, 5 % of whose codes are not unique, the one with fewest of them among 1,000."""
    made = [coded(rng, 0.05, 1000) for _ in range(int(strength))]
    over = [int(((m.arguments["active"] == 0) | (m.arguments["active"] > 2)).sum()) for m in made]
    return made[int(np.argmin(over))]


@worlds.world(run=of_codes, expects=Verdict.FAILS, strengths=(0.1, 0.3))
def often_not_unique(rng: Rng, strength: float) -> Instance:
    """More codes than allowed are not unique."""
    return coded(rng, strength, 1000, demanded=False)


@worlds.world(run=of_codes, expects=Verdict.FAILS, strengths=(0.1, 0.03, 0.01))
def dead_twins(rng: Rng, strength: float) -> Instance:
    """Each live neuron has one that never fires at that distance: its twin would do as well."""
    live = planted_decoder(20, 64, rng)
    twins = unit(live + strength * unit(rng.normal(size=live.shape)))
    decoder = np.concatenate([live, twins]).astype(np.float32)
    truth = given("unique-code", 1.0, False)
    return Instance({"active": rng.integers(1, 3, 500), "decoder": decoder}, truth)


@worlds.world(run=of_codes, expects=Verdict.VACUOUS)
def orthonormal(rng: Rng, strength: float) -> Instance:
    """Fewer orthonormal directions than columns: every code is the only one, whatever fires."""
    decoder = np.linalg.qr(rng.normal(size=(64, 12)))[0].T.astype(np.float32)
    unbiased = np.maximum(rng.binomial(12, 0.5, 500), 1)
    arguments = {"active": rng.integers(1, 4, 500), "decoder": decoder, "unbiased": unbiased}
    return Instance(arguments, given("unique-code", 0.0))


# Coming back


NO_CHANCE = Chance(0.0, 0.0, 0.0)


def compared(
    first: np.ndarray, others: list[np.ndarray], chance: Chance = NO_CHANCE, **options: Any
) -> list[Certificate]:
    """Both certificates of dictionaries that came from elsewhere."""
    given_ = {"seeds": t.seeds_by_hand(first, others), "cosine": 0.7, **options}
    return [
        t.came_back(first, others, chance, **given_),
        t.consistency(first, others, chance, **given_),
    ]


def against_chance(
    first: np.ndarray, other: np.ndarray, X: np.ndarray, at_least: float, rng: Rng
) -> list[Certificate]:
    """The same, chance taken from activations."""
    chance = matched_chance(X, first, other, 0.7, rng, draws=4)
    return compared(first, [other], chance, at_least=at_least)


def returned(
    rng: Rng, shares: np.ndarray, cosine: float = 0.9, m: int = 60
) -> tuple[np.ndarray, list[np.ndarray], list[float]]:
    """A dictionary of orthonormal rows, and runs in which that share of it comes back at that cosine; others come near .5."""
    first = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    others, seen = [], []
    for share in shares:
        back = rng.random(m) < share
        at = np.where(back, cosine, 0.5)[:, None]
        others.append((at * first[:m] + np.sqrt(1 - at**2) * first[m : 2 * m]).astype(np.float32))
        seen.append(float(back.mean()))
    return first[:m].astype(np.float32), others, seen


def back(
    rng: Rng,
    shares: np.ndarray,
    mean: float,
    demanded: tuple[bool | None, bool | None],
    **options: Any,
) -> Instance:
    """Runs in which features come back; what is true of these runs, and on average.

    `demanded` says whether the demand is true of these runs and on average; None looks for that.
    """
    cosine = options.pop("cosine_back", 0.9)
    first, others, seen = returned(rng, shares, cosine)
    at_least = options.get("at_least", 0.25)

    def truths(result: Sequence[Certificate]) -> Truths:
        here = min(seen) >= at_least if demanded[0] is None else demanded[0]
        return {
            "came-back": (here and contains(result[0], min(seen))) or (None if not here else False),
            "consistency": bool(demanded[1] and contains(result[1], mean)),
        }

    return Instance({"first": first, "others": others, **options}, truths)


@worlds.world(run=compared, strengths=(1, 2, 5))
def half_come_back(rng: Rng, strength: float) -> Instance:
    """Half of 60 features in each of so many other runs."""
    return back(rng, np.full(int(strength), 0.5), 0.5, (True, True))


@worlds.world(run=compared)
def most_come_back(rng: Rng, strength: float) -> Instance:
    """80 to 90 % in each of nine other runs: has to hold on average too."""
    return back(rng, rng.uniform(0.8, 0.9, 9), 0.85, (True, True))


@worlds.world(run=compared, strengths=(1, 3, 8))
def all_or_nothing(rng: Rng, strength: float) -> Instance:
    """A run finds all features with probability .3, else none: a demand of .25 is true on average."""
    shares = (rng.random(int(strength)) < 0.3) * 1.0
    return back(rng, shares, 0.3, (None, True))


@worlds.world(run=compared, strengths=(1e-3, 1e-5))
def at_the_cosine(rng: Rng, strength: float) -> Instance:
    """Features that come back do so at a cosine above .7 by that much, ten times rounding or within it."""
    return back(rng, np.full(2, 0.6), 0.6, (True, True), cosine_back=0.7 + strength)


@worlds.world(run=compared, expects=Verdict.FAILS)
def few_come_back(rng: Rng, strength: float) -> Instance:
    """Three of a hundred in each of 24 other runs."""
    first, others, _ = returned(rng, np.full(24, 0.03))
    arguments = {"first": first, "others": others, "at_least": 0.5}
    return Instance(arguments, lambda _: {"came-back": False, "consistency": False})


@worlds.world(run=against_chance, expects=Verdict.VACUOUS, strengths=(1.0, 0.5, 0.2))
def nobody_learnt(rng: Rng, strength: float) -> Instance:
    """Directions drawn with the activations' covariance; the share that sees most variance is live."""
    spread = np.sqrt(1 / np.arange(1, 33))
    drawn = [unit(rng.normal(size=(128, 32)) * spread) for _ in range(2)]
    live = [W[np.argsort(-np.square(W * spread).sum(axis=1))[: int(128 * strength)]] for W in drawn]
    share = float(((live[0] @ live[1].T).max(axis=1) > 0.7).mean())
    X = (rng.normal(size=(1000, 32)) * spread).astype(np.float32)
    mine, other = (W.astype(np.float32) for W in live)
    arguments = {
        "first": mine,
        "other": other,
        "X": X,
        "at_least": max(share / 2, 0.01),
        "rng": rng,
    }
    return Instance(arguments, lambda _: {"came-back": None})


@worlds.world(run=against_chance, expects=Verdict.VACUOUS, strengths=(4, 3))
def rows_for_directions(rng: Rng, strength: float) -> Instance:
    """Both dictionaries are rows of activations with t entries of so many degrees of freedom."""
    spread = np.sqrt(1 / np.arange(1, 33))
    every = (rng.standard_t(strength, size=(1256, 32)) * spread).astype(np.float32)
    first, other = unit(every[:128]), unit(every[128:256])
    share = float(((first @ other.T).max(axis=1) > 0.7).mean())
    arguments = {"first": first, "other": other, "X": every[256:], "at_least": max(share / 2, 0.01)}
    return Instance(arguments | {"rng": rng}, lambda _: {"came-back": None})


def false_of_new_seeds(result: Sequence[Certificate]) -> Truths:
    """Nothing would come back from directions of its own."""
    return {"came-back": False, "consistency": False}


@worlds.world(run=compared, breaks=t.SEEDS, strengths=(1.0, 0.5, 0.2))
def same_seed_twice(rng: Rng, strength: float) -> Instance:
    """That share of the neurons of nine other runs are the first one's, to the bit."""
    first = unit(rng.normal(size=(60, 128))).astype(np.float32)
    others = []
    for _ in range(9):
        fresh = unit(rng.normal(size=(60, 128))).astype(np.float32)
        others.append(np.where((rng.random(60) < strength)[:, None], first, fresh))
    return Instance({"first": first, "others": others}, false_of_new_seeds)


@worlds.world(run=compared, breaks=t.SEEDS, strengths=(0.1, 0.5), noticeable=False)
def warm_start(rng: Rng, strength: float) -> Instance:
    """The other runs went on from the first one, and moved by that much."""
    first = unit(rng.normal(size=(60, 128))).astype(np.float32)
    moved = [unit(first + strength * unit(rng.normal(size=first.shape))) for _ in range(9)]
    arguments = {"first": first, "others": [W.astype(np.float32) for W in moved]}
    return Instance(arguments, false_of_new_seeds)


# Recovery: features are planted


def of_model(
    decoder: np.ndarray,
    truth: np.ndarray,
    codes: np.ndarray,
    X: np.ndarray,
    rng: Rng,
    p: float = 0.1,
) -> Certificate:
    """The certificate of a dictionary of the theorem's algorithm."""
    return t.recovery(decoder, t.Model(truth, codes, X), p=p, own=True, rng=rng)


def planted(
    rng: Rng,
    share: float,
    *,
    n: int = 40,
    d: int = 48,
    cosine: float = 0.95,
    demanded: bool = True,
    change: Callable[[np.ndarray, np.ndarray, Rng], tuple[np.ndarray, np.ndarray]] | None = None,
    noise: float = 0.0,
    other: bool = False,
) -> Instance:
    """A dictionary with a neuron at that cosine for a share of the features, at .6 for the others, among random ones."""
    V = unit(rng.normal(size=(n, d)))
    H = np.zeros((400, n))
    order = np.argsort(rng.random(H.shape), axis=1)[:, :3]
    np.put_along_axis(H, order, 1 / math.sqrt(3), axis=1)
    if change is not None:
        V, H = change(V, H, rng)
    X = H @ V
    X = X + noise * np.linalg.norm(X) / math.sqrt(X.size) * rng.normal(size=X.shape)
    if other:
        V = unit(rng.normal(size=V.shape))
    found = math.ceil(share * n - 1e-9)
    at = np.where(np.arange(n) < found, cosine, 0.6)[:, None]
    U, aside = unit(V), rng.normal(size=V.shape)
    aside = unit(aside - (aside * U).sum(axis=1, keepdims=True) * U)
    decoder = np.concatenate([at * U + np.sqrt(1 - at**2) * aside, unit(rng.normal(size=(20, d)))])
    best = (U @ decoder.T).max(axis=1)
    truth = given("recovery", float((best >= 0.9).mean()), demanded)
    arguments = {"decoder": decoder[rng.permutation(len(decoder))].astype(np.float32), "truth": V}
    return Instance(arguments | {"codes": H, "X": X.astype(np.float32), "rng": rng}, truth)


@worlds.world(run=of_model, strengths=(0.9, 0.95, 1.0), false_voids=0.01)
def features_found(rng: Rng, strength: float) -> Instance:
    """That share of 40 features has a neuron at cosine .95; 90 % are demanded."""
    return planted(rng, strength)


@worlds.world(run=of_model, false_voids=0.01)
def few_features(rng: Rng, strength: float) -> Instance:
    """Nine features in 64 dimensions."""
    return planted(rng, 1.0, n=9, d=64)


@worlds.world(run=of_model, strengths=(1.0, 1e-100, 1e100), false_voids=0.01)
def features_of_gaussian_length(rng: Rng, strength: float) -> Instance:
    """Features are Gaussian vectors, in a unit of that size; coefficients are in its inverse."""

    def change(V: np.ndarray, H: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.sqrt(rng.chisquare(V.shape[1], (len(V), 1)))
        return strength * lengths * V, H / strength

    return planted(rng, 1.0, change=change)


@worlds.world(run=of_model, strengths=(1e-3, 1e-6), false_voids=0.01)
def at_the_threshold(rng: Rng, strength: float) -> Instance:
    """Neurons at a cosine above .9 by that much."""
    return planted(rng, 1.0, cosine=0.9 + strength)


@worlds.world(run=of_model, expects=Verdict.FAILS, strengths=(0.85, 0.3))
def features_missed(rng: Rng, strength: float) -> Instance:
    """Fewer are found than demanded."""
    return planted(rng, strength, demanded=False)


@worlds.world(
    run=of_model, breaks=t.EXPLAINED_BY, strengths=(1, 0.1, 0.01, 0.001), broken_from=0.01
)
def noise_in_activations(rng: Rng, strength: float) -> Instance:
    """Activations with noise of that share of their length."""
    return planted(rng, 1.0, noise=strength)


@worlds.world(run=of_model, breaks=t.EXPLAINED_BY, strengths=(1.0, 0.03))
def noise_in_one_row(rng: Rng, strength: float) -> Instance:
    """One row of 400 with noise of that share of its length."""
    made = planted(rng, 1.0)
    X = made.arguments["X"].copy()
    aside = rng.normal(size=X.shape[1])
    X[7] += (strength * np.linalg.norm(X[7]) * aside / np.linalg.norm(aside)).astype(np.float32)
    return Instance({**made.arguments, "X": X}, made.truths)


@worlds.world(run=of_model, breaks=t.EXPLAINED_BY)
def features_of_another_model(rng: Rng, strength: float) -> Instance:
    """Truth is of another model than activations."""
    return planted(rng, 1.0, other=True)


def _negative(
    V: np.ndarray, H: np.ndarray, rng: Rng, share: float
) -> tuple[np.ndarray, np.ndarray]:
    return V, np.where(rng.random(H.shape) < share, -H, H)


@worlds.world(run=of_model, breaks=t.NONNEGATIVE, strengths=(0.5, 0.1, 0.02))
def signed_codes(rng: Rng, strength: float) -> Instance:
    """That share of the codes is negative."""
    return planted(rng, 1.0, change=lambda V, H, r: _negative(V, H, r, strength))


@worlds.world(run=of_model, breaks=t.NONNEGATIVE)
def centred_codes(rng: Rng, strength: float) -> Instance:
    """The mean was taken off the codes."""
    return planted(rng, 1.0, change=lambda V, H, r: (V, H - H.mean(axis=0)))


def _uneven(V: np.ndarray, H: np.ndarray, rng: Rng, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    return V, H * np.exp(sigma * rng.normal(size=H.shape))


@worlds.world(run=of_model, breaks=t.ALIKE, strengths=(1, 0.1, 0.01))
def uneven_coefficients(rng: Rng, strength: float) -> Instance:
    """Coefficients are log-normal with that spread."""
    return planted(rng, 1.0, change=lambda V, H, r: _uneven(V, H, r, strength))


def _uncounted(
    V: np.ndarray, H: np.ndarray, rng: Rng, share: float
) -> tuple[np.ndarray, np.ndarray]:
    few = rng.random(len(H)) < share
    few[0] = True
    H = H.copy()
    H[few] *= (H[few].cumsum(axis=1) < 0.6) * 1.0
    return V, H


@worlds.world(run=of_model, breaks=t.ALIKE, strengths=(0.5, 0.02))
def uneven_rows(rng: Rng, strength: float) -> Instance:
    """That share of the rows holds one feature, the others three."""
    return planted(rng, 1.0, change=lambda V, H, r: _uncounted(V, H, r, strength))


def _together(
    V: np.ndarray, H: np.ndarray, rng: Rng, share: float
) -> tuple[np.ndarray, np.ndarray]:
    H = H.copy()
    for i in np.flatnonzero(H[:, 0] > 0):
        if rng.random() < share and H[i, 1] == 0:
            out = np.flatnonzero(H[i, 2:])[0] + 2
            H[i, 1], H[i, out] = H[i, out], 0.0
    return V, H


@worlds.world(run=of_model, breaks=t.APART, strengths=(1.0, 0.8, 0.3), broken_from=0.8)
def features_together(rng: Rng, strength: float) -> Instance:
    """The first feature brings the second along with that probability."""
    return planted(rng, 1.0, change=lambda V, H, r: _together(V, H, r, strength))


def _blocks(V: np.ndarray, H: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    block = rng.integers(0, H.shape[1] // 3, len(H))
    made = np.zeros_like(H)
    np.put_along_axis(made, 3 * block[:, None] + np.arange(3), 1 / math.sqrt(3), axis=1)
    return V, made


@worlds.world(run=of_model, breaks=t.APART)
def features_in_threes(rng: Rng, strength: float) -> Instance:
    """Features come in threes that are always together."""
    return planted(rng, 1.0, change=_blocks)


@worlds.world(run=of_model, breaks=t.GAUSSIAN)
def features_along_axes(rng: Rng, strength: float) -> Instance:
    """Each feature is an axis."""
    return planted(rng, 1.0, change=lambda V, H, r: (np.eye(*V.shape), H))


@worlds.world(run=of_model, breaks=t.GAUSSIAN, strengths=(2, 1, 0.5, 0.2), broken_from=0.5)
def features_that_lean(rng: Rng, strength: float) -> Instance:
    """All features have that much of one direction."""
    lean = strength * np.eye(1, 48)
    return planted(rng, 1.0, change=lambda V, H, r: (unit(V + lean), H))


@worlds.world(run=of_model, breaks=t.GAUSSIAN, strengths=(1.0, 0.3, 0.1), broken_from=0.3)
def features_of_unlike_lengths(rng: Rng, strength: float) -> Instance:
    """Lengths of features, in place of coefficients, are log-normal with that spread."""

    def change(V: np.ndarray, H: np.ndarray, rng: Rng) -> tuple[np.ndarray, np.ndarray]:
        return np.exp(strength * rng.normal(size=(len(V), 1))) * V, H

    return planted(rng, 1.0, change=change)


# Training: from activations to certificates


def trained(X: np.ndarray, n_neurons: int, **options: Any) -> Any:
    """A training of some steps."""
    if options.get("method") != "ba":
        steps, size = options.pop("steps", 2), options.pop("batch_size", 32)
        options["training"] = Training(steps=steps, batch_size=size, lr=3e-3)
    return sae_gba(X, n_neurons, **options)


def found_by_world(V: np.ndarray) -> Callable[[Any], Truths]:
    """Share of the features near a neuron, against the demand."""

    def truths(result: Any) -> Truths:
        best = (V @ unit(result.decoder.astype(np.float64)).T).max(axis=1)
        return {"recovery": bool((best >= 0.9).mean() >= 0.9)}

    return truths


def tiny(rng: Rng, **options: Any) -> Instance:
    """12 features in 16 dimensions, 300 rows."""
    X, V, H = simulated(12, 16, (2,), 300, rng)
    arguments = {"X": X, "n_neurons": 24, "truth": V, "codes": H, "n_seeds": 1, "rng": rng}
    return Instance(arguments | options, found_by_world(V))


@worlds.world(run=trained, breaks=t.ALGORITHM, strengths=(0, 1, 2), rising=False, broken_from=2)
def another_method(rng: Rng, strength: float) -> Instance:
    """Grouped adaptation (0), TopK (1), an ℓ1 penalty (2)."""
    way: tuple[dict[str, Any], ...] = (
        {"method": "gba", "low": 0.05, "n_groups": 3},
        {"method": "topk", "k": 3},
        {"method": "l1"},
    )
    return tiny(rng, **way[int(strength)], preprocess=False)


@worlds.world(run=trained, breaks=t.ALGORITHM)
def centred_activations(rng: Rng, strength: float) -> Instance:
    """The theorem's algorithm on activations whose mean was taken off."""
    return tiny(rng, method="ba", high=1 / 6)


@worlds.world(run=trained, breaks=t.CONSTANTS, strengths=(1, 2, 4), noticeable=False)
def another_frequency(rng: Rng, strength: float) -> Instance:
    """A target of so many times the features' frequency."""
    return tiny(rng, method="ba", high=strength / 6, preprocess=False)


@worlds.world(run=trained, breaks=t.CONSTANTS, strengths=(2, 8), noticeable=False)
def too_few_neurons(rng: Rng, strength: float) -> Instance:
    """So many neurons for twelve features."""
    return tiny(rng, method="ba", high=1 / 6, preprocess=False, n_neurons=int(strength))


@worlds.world(run=trained, slow=True, seeds=20)
def an_ordinary_training(rng: Rng, strength: float) -> Instance:
    """48 features in 24 dimensions, 20,000 rows, 96 neurons, 1,500 steps: targets are kept on 40,000 fresh rows."""
    d, n = 24, 48
    V = unit(rng.normal(size=(n, d)))
    parts = []
    for N in (20_000, 40_000):
        H = np.zeros((N, n))
        order = np.argsort(rng.random(H.shape), axis=1)[:, :3]
        np.put_along_axis(H, order, 1 / math.sqrt(3), axis=1)
        parts.append(H @ V + 0.02 * rng.normal(size=(N, d)))
    X, fresh = parts

    def truths(result: Any) -> Truths:
        rate = (result.encode(fresh) > 0).sum(axis=0) / len(fresh)
        (c,) = [c for c in result.certificates if c.name == "frequency"]
        off = 3 * np.sqrt(rate * (1 - rate) / len(fresh))  # of the fresh rows themselves
        largest = float((np.maximum(rate - off, 0) / result.target).max())
        return {"frequency": bool(largest <= 2.0 and largest <= c.measured.high)}

    options = {"high": 0.2, "low": 0.01, "n_groups": 5, "steps": 1500, "batch_size": 128}
    options["n_seeds"] = 1
    return Instance({"X": X, "n_neurons": 96, "rng": rng, **options}, truths)


@worlds.world(run=trained, slow=True, seeds=20, expects=Verdict.FAILS)
def not_trained(rng: Rng, strength: float) -> Instance:
    """The same after 30 steps."""
    X, _, _ = simulated(48, 24, (3,), 6000, rng)
    X = X + 0.02 * rng.normal(size=X.shape)
    options = {"high": 0.2, "low": 0.01, "n_groups": 5, "steps": 30, "batch_size": 128}
    options["n_seeds"] = 1
    truth: Truths = {"frequency": False}
    return Instance({"X": X, "n_neurons": 96, "rng": rng, **options}, lambda _: truth)


@worlds.world(run=trained, slow=True, seeds=20)
def recovered(rng: Rng, strength: float) -> Instance:
    """The theorem's algorithm where it works in practice: 24 features in 200 dimensions, two a row, 1,500 neurons."""
    X, V, H = simulated(24, 200, (2,), 4000, rng)
    arguments = {"X": X, "n_neurons": 1500, "truth": V, "codes": H, "n_seeds": 1, "rng": rng}
    options = {"method": "ba", "high": 1 / 12, "preprocess": False, "found": 0.5}

    def truths(result: Any) -> Truths:
        best = (V @ unit(result.decoder.astype(np.float64)).T).max(axis=1)
        return {"recovery": bool((best >= 0.9).mean() >= 0.5)}

    return Instance(arguments | options, truths)


# Mutants and what no run can break


def _without_bonferroni(f: Callable[..., Any]) -> Callable[..., Any]:
    def changed(fired: np.ndarray, rows: int, delta: float) -> Any:
        return f(fired, rows, min(0.99, delta * len(fired) / 2))

    return changed


def _cosine_halved(f: Callable[..., Any]) -> Callable[..., Any]:
    def changed(first: Any, others: Any, cosine: float) -> Any:
        return f(first, others, cosine / 2)

    return changed


def _half_as_wide(f: Callable[..., Any]) -> Callable[..., Any]:
    def changed(values: Any, delta: float) -> Any:
        e = f(values, delta)
        return replace(e, low=(e.low + e.value) / 2, high=(e.high + e.value) / 2)

    return changed


worlds.mutant(
    "frequency",
    "one neuron's limits for all",
    target=f"{HERE}.theorems:upper_limits",
    change=_without_bonferroni,
    world=at_the_target,
    strength=500,
)
worlds.mutant(
    "unique-code",
    "bound doubled",
    target=f"{HERE}.theorems:code_bound",
    change=lambda f: lambda mu: 2 * f(mu),
    world=mostly_unique,
    strength=0.05,
)
worlds.mutant(
    "came-back",
    "cosine halved",
    target=f"{HERE}.theorems:shares_back",
    change=_cosine_halved,
    world=half_come_back,
)
worlds.mutant(
    "consistency",
    "interval half as wide",
    target=f"{HERE}.theorems:betting",
    change=_half_as_wide,
    world=all_or_nothing,
)
worlds.mutant(
    "recovery",
    "cosine halved",
    target=f"{HERE}.theorems:features_found",
    change=_cosine_halved,
    world=features_found,
)
worlds.by_construction(
    t.HELD_OUT,
    "tests/interpretability/sae_gba/test_front_door.py::test_construction_cannot_be_feigned",
)
