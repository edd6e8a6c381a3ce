"""Worlds of groupwise regret: streams whose best predictors are computed apart.

A group's true regret is the loss of the predictions that were published on its rounds, less the
penalised least-squares optimum of those rounds, both from the generator's own data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from whp.certificate import Certificate, worst
from whp.experiment.worlds import Instance, Worlds
from whp.online import (
    GroupwiseLearner,
    GroupwiseRegressor,
    GroupwiseShortestPath,
    OnlineRidge,
    grid,
    groupwise_regret,
)
from whp.online._groupwise_regret import theorems as t

__all__ = ["worlds"]

worlds = Worlds("groupwise-regret", t.THEOREMS)
HERE = "whp.online._groupwise_regret"
Rng = np.random.Generator
Truths = Mapping[str, bool | None]


@dataclass(frozen=True)
class Run:
    """What a user is given: a certificate a group, and predictions in the order of the rows."""

    every: tuple[Certificate, ...]
    published: np.ndarray
    excess: np.ndarray | None = None  # of sampled losses over the mixture's, a group

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The worst of each theorem."""
        names = sorted({c.name.partition(" of ")[0] for c in self.every})
        return tuple(
            worst(
                {
                    c.name: replace(c, name=name)
                    for c in self.every
                    if c.name.partition(" of ")[0] == name
                }
            )
            for name in names
        )


def optimum(X: np.ndarray, y: np.ndarray, lam: float = 1.0) -> float:
    """min over θ of Σ(θᵀx − y)² + λ‖θ‖², by QR of the rows."""
    if not len(X):
        return 0.0
    stacked = np.vstack([X, np.sqrt(lam) * np.eye(X.shape[1])])
    right = np.append(y, np.zeros(X.shape[1]))
    theta = np.linalg.lstsq(stacked, right)[0]
    return float(((right - stacked @ theta) ** 2).sum())


def below(regret: float, bound: float, size: float) -> bool | None:
    """Whether a regret is within its bound; None where they are equal but for rounding."""
    if abs(regret - bound) <= 1e-9 * (1 + size):
        return None
    return bool(regret <= bound)


def judge(
    X: np.ndarray, y: np.ndarray, active: np.ndarray, lam: float = 1.0, unit: float = 1.0
) -> Callable[[Run], Truths]:
    """Every group's published loss against its best linear predictor; targets in [0, √unit]."""

    def truths(run: Run) -> Truths:
        judged: dict[str, list[bool | None]] = {}
        for g, certificate in enumerate(run.every):
            mine = active[:, g]
            loss = float(((run.published[mine] - y[mine]) ** 2).sum())
            best = unit * optimum(X[mine], y[mine] / np.sqrt(unit), lam)
            name = certificate.name.partition(" of ")[0]
            fine = below(loss - best, certificate.bound, unit * float(mine.sum()))
            if run.excess is not None:
                fine = fine and bool(
                    run.excess[g] <= float(certificate.inputs["bound of the coins"]) + 1e-9
                )
            judged.setdefault(name, []).append(fine)
        return {k: False if False in v else None if None in v else True for k, v in judged.items()}

    return truths


def stream(rng: Rng, T: int, d: int, N: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with a bias, linear targets with effects of overlapping groups, memberships with everyone."""
    X = np.column_stack([rng.random((T, d - 1)), np.ones(T)])
    G = np.column_stack([rng.random((T, N)) < rng.uniform(0.2, 0.8, N), np.ones(T, dtype=bool)])
    weights, effects = rng.normal(size=(N + 1, d)) / d, rng.normal(size=N + 1) / 4
    active = G / G.sum(axis=1, keepdims=True)
    y = 0.5 + ((X @ weights.T + effects) * active).sum(axis=1) + 0.1 * rng.standard_normal(T)
    return X, np.clip(y, 0, 1), G


def passed(X: np.ndarray, y: np.ndarray, groups: np.ndarray, **options: Any) -> Run:
    """The front door."""
    made = groupwise_regret(X, y, groups, **{"target_range": (0, 1), **options})
    report, excess = made.report, None
    if options.get("prediction") == "sample":
        excess = (report["loss"] - report["mixture"]).to_numpy()
    return Run(made.certificates, made.predictions, excess)


def one_pass(X: np.ndarray, y: np.ndarray, G: np.ndarray, **options: Any) -> Instance:
    """A pass of the front door."""
    lam = options.get("lam", 1.0)
    return Instance({"X": X, "y": y, "groups": G, **options}, judge(X, y, G, lam))


@worlds.world(run=passed, strengths=(0, 1))
def people(rng: Rng, strength: float) -> Instance:
    """1,000 people in five overlapping groups, linear with effects of groups, ridge or (1) VAW."""
    made = one_pass(*stream(rng, 1000, 4, 5))
    name = "vaw" if strength else "ridge"
    return replace(made, arguments={**made.arguments, "forecaster": name})


@worlds.world(run=passed)
def coins(rng: Rng, strength: float) -> Instance:
    """Labels are fair coins."""
    X, _, G = stream(rng, 1000, 4, 5)
    return one_pass(X, (rng.random(1000) < 0.5) * 1.0, G)


@worlds.world(run=passed)
def sorted_by_target(rng: Rng, strength: float) -> Instance:
    """The rows come sorted by their target."""
    X, y, G = stream(rng, 1000, 4, 5)
    order = np.argsort(y)
    return one_pass(X[order], y[order], G[order])


@worlds.world(run=passed)
def a_dozen_rows(rng: Rng, strength: float) -> Instance:
    """Twelve rows, one of two groups may be empty: bounds are attained where nothing is clipped."""
    X, y, G = stream(rng, 12, 3, 2)
    return one_pass(X, y, G)


@worlds.world(run=passed)
def a_few_rows_of_one_group(rng: Rng, strength: float) -> Instance:
    """Everyone alone, forty rows: nothing to mix, the learner's bound is all there is."""
    X, y, _ = stream(rng, 40, 3, 1)
    return one_pass(X, 0.25 + 0.5 * y, np.ones((40, 1), dtype=bool))


@worlds.world(run=passed, strengths=(1e6, 1e-6, 1e8))
def features_of_any_scale(rng: Rng, strength: float) -> Instance:
    """Features times 10⁶, 10⁸, or 10⁻⁶ with a penalty as small."""
    X, y, G = stream(rng, 600, 4, 3)
    return one_pass(X * strength, y, G, lam=min(1.0, strength**2))


@worlds.world(run=passed, strengths=(3600, 10))
def unix_times(rng: Rng, strength: float) -> Instance:
    """Start and end in seconds since 1970, up to so many apart, and targets linear in what is between."""
    start, apart = 1.6e9 + np.sort(rng.random(600)) * 1e7, strength * rng.random(600)
    X = np.column_stack([start, start + apart, np.ones(600)])
    y = np.clip(0.2 + 0.6 * apart / strength + 0.02 * rng.standard_normal(600), 0, 1)
    return one_pass(X, y, np.column_stack([rng.random(600) < 0.4, np.ones(600, dtype=bool)]))


@worlds.world(run=passed, strengths=(0, 1))
def sampled(rng: Rng, strength: float) -> Instance:
    """A group's learner is drawn each round; linear targets, or (1) coins."""
    X, y, G = stream(rng, 500, 4, 5)
    y = (rng.random(500) < 0.5) * 1.0 if strength else y
    return one_pass(X, y, G, prediction="sample", rng=int(rng.integers(1 << 31)))


def judge_planted(
    X: np.ndarray, y: np.ndarray, active: np.ndarray, planted: np.ndarray
) -> Callable[[Run], Truths]:
    """Regret where no solver in doubles finds the best: it loses nothing, and at most what `planted` does."""

    def truths(run: Run) -> Truths:
        fine = []
        for g, certificate in enumerate(run.every):
            mine = active[:, g]
            loss = float(((run.published[mine] - y[mine]) ** 2).sum())
            most = float(((X[mine] @ planted - y[mine]) ** 2).sum() + planted @ planted)
            fine.append(
                True
                if loss <= certificate.bound
                else None
                if loss - most <= certificate.bound
                else False
            )
        return {"regret": False if False in fine else None if None in fine else True}

    return truths


@worlds.world(run=passed, strengths=(1e9, 1e6, 1e4, 1000, 600))
def nanoseconds(rng: Rng, strength: float) -> Instance:
    """Start and end in nanoseconds since 1970, of which a double keeps every 256th; the targets are what is between."""
    T = 300
    start = 1.6e18 + np.sort(rng.random(T)) * 1e16
    end = start + rng.random(T) * strength
    most = max(float((end - start).max()), 256.0)
    X = np.column_stack([start, end, np.ones(T)])
    y = 0.1 + 0.8 * (end - start) / most
    G = np.column_stack([rng.random(T) < 0.4, np.ones(T, dtype=bool)])
    planted = np.array([-0.8, 0.8, 0.1 * most]) / most
    return Instance({"X": X, "y": y, "groups": G}, judge_planted(X, y, G, planted))


class Fixed:
    """A learner that always says the same."""

    def __init__(self, said: float) -> None:
        self.said = said

    def predict_one(self, x: Any) -> float:
        """It."""
        return self.said

    def learn_one(self, x: Any, y: Any) -> None:
        """Nothing."""


def learned(
    makers: Sequence[Callable[[], Any]],
    X: np.ndarray,
    y: np.ndarray,
    active: np.ndarray,
    block: int = 1,
    **options: Any,
) -> Run:
    """A loop with :class:`GroupwiseLearner`; labels come after `block` predictions."""
    made = iter(makers)
    learner = GroupwiseLearner(lambda: next(made)(), len(makers), **options)
    published = np.zeros(len(X))
    for start in range(0, len(X), block):
        rows = range(start, min(start + block, len(X)))
        for i in rows:
            published[i] = learner.predict(X[i], active[i])
        for i in rows:
            learner.update(X[i], y[i], active[i])
    sampling = options.get("prediction") == "sample"
    return Run(
        learner.certificates(), published, learner.losses - learner.mixture if sampling else None
    )


def own(said: Sequence[float], y: np.ndarray, active: np.ndarray) -> Callable[[Run], Truths]:
    """Absolute loss of what was published against that of each group's fixed learner."""

    def truths(run: Run) -> Truths:
        fine = []
        for g, certificate in enumerate(run.every):
            mine = active[:, g].astype(bool)
            regret = np.abs(run.published - y)[mine].sum() - np.abs(said[g] - y)[mine].sum()
            fine.append(below(float(regret), certificate.bound, float(mine.sum())))
        return {"own-regret": False if False in fine else None if None in fine else True}

    return truths


def fixed_learners(said: np.ndarray, y: np.ndarray, active: np.ndarray, **options: Any) -> Instance:
    """Learners that always say `said`, absolute loss."""
    makers = [lambda v=v: Fixed(v) for v in said.tolist()]
    X = np.arange(len(y))[:, None]
    arguments = {"makers": makers, "X": X, "y": y, "active": active, "loss": "absolute", **options}
    return Instance(arguments, own(said.tolist(), y, active))


@worlds.world(run=learned)
def any_learner(rng: Rng, strength: float) -> Instance:
    """Four groups with learners of an absolute loss, of which no optimum is known."""
    active = np.column_stack([rng.random((300, 3)) < 0.6, np.ones(300, dtype=bool)])
    return fixed_learners(rng.random(4), rng.random(300), active)


@worlds.world(run=learned)
def one_of_many_is_right(rng: Rng, strength: float) -> Instance:
    """Of 300 learners one is always right, for ten rounds: two thirds of the bound are used."""
    said = np.append(0.0, np.ones(299))[rng.permutation(300)]
    return fixed_learners(said, np.zeros(10), np.ones((10, 300), dtype=bool))


class Says(OnlineRidge):
    """Always says the same, learns as the ridge does, and promises nothing."""

    def __init__(self, said: float) -> None:
        super().__init__(1)
        self.said = said

    def predict_one(self, x: Any) -> float:
        """It."""
        return self.said

    def bound(self) -> float:
        """Whatever it lost."""
        return float(self.rounds)


def errs_where_it_weighs(T: int, seed: int, stop: bool = False) -> Run:
    """Two learners, drawn; the heavier one errs, so that weights stay at a half and coins decide.

    With `stop` the first group is sent no more once its coins fell worse than Azuma's bound for one T.
    """
    rng, said = np.random.default_rng(seed), iter((0.0, 1.0))
    learner = GroupwiseLearner(
        lambda: Says(next(said)), 2, prediction="sample", random_state=seed, delta=0.01
    )
    row, both = np.zeros(1), np.ones(2)
    for _ in range(T):
        strayed, rounds = learner.losses[0] - learner.mixture[0], learner.rounds[0]
        if stop and strayed > np.sqrt(rounds / 2 * np.log(2 / learner.delta)):
            both = np.array([0.0, 1.0])
        p = learner.hedge.weights(both)
        heavier = int(p[1] > p[0]) if p[0] != p[1] else int(rng.integers(2))
        learner.predict(row, both)
        learner.update(row, 1.0 - heavier, both)
    return Run(learner.certificates(), np.zeros(0), learner.losses - learner.mixture)


def judge_coins(run: Run) -> Truths:
    """By how far sampled losses are above the mixture's."""
    assert run.excess is not None
    bounds = [float(c.inputs["bound of the coins"]) for c in run.every]
    return {"sampled-regret": bool((run.excess <= bounds).all())}


@worlds.world(run=errs_where_it_weighs)
def heavier_expert_errs(rng: Rng, strength: float) -> Instance:
    """The heavier of two learners always errs: nothing but coins decides, for 400 rounds."""
    return Instance({"T": 400, "seed": int(rng.integers(1 << 31))}, judge_coins)


@worlds.world(run=errs_where_it_weighs, seeds=100)
def nature_stops_where_coins_fell_badly(rng: Rng, strength: float) -> Instance:
    """The same, and a group comes no more once its coins fell badly: how many rounds it has is no constant."""
    return Instance({"T": 400, "seed": int(rng.integers(1 << 31)), "stop": True}, judge_coins)


# Broken


@worlds.world(run=learned, breaks=t.AWAKE, strengths=(0.2, 0.01), broken_from=0.01, rising=True)
def rows_of_nobody(rng: Rng, strength: float) -> Instance:
    """A share of the rows lies in no group."""
    active = rng.random((300, 3)) < 0.7
    active[:, 0] |= ~active.any(axis=1)
    active[rng.random(300) < strength] = False
    active[-1] = False
    return fixed_learners(rng.random(3), rng.random(300), active)


@worlds.world(run=learned, breaks=t.AWAKE)
def a_group_that_was_not_foreseen(rng: Rng, strength: float) -> Instance:
    """Late rows all belong to a group that no learner was made for."""
    active = rng.random((300, 2)) < 0.7
    active[:, 0] |= ~active.any(axis=1)
    active[250:] = False
    return fixed_learners(rng.random(2), rng.random(300), active)


@worlds.world(
    run=passed, breaks=t.IN_RANGE, strengths=(0.8, 0.4, 0.1), broken_from=0.4, rising=False
)
def a_loss_range_that_is_too_short(rng: Rng, strength: float) -> Instance:
    """Uniform targets, and losses said to lie below the strength."""
    X, _, G = stream(rng, 300, 3, 3)
    return one_pass(X, rng.random(300), G, loss_range=(0, strength))


@worlds.world(run=learned, breaks=t.IN_RANGE)
def losses_beyond_one(rng: Rng, strength: float) -> Instance:
    """Targets up to 3 where losses are said to lie in [0, 1]."""
    return fixed_learners(rng.random(2), 3 * rng.random(200), np.ones((200, 2), dtype=bool))


@worlds.world(run=passed, breaks=t.KNOWN_BEFORE, noticeable=False)
def groups_made_of_the_label(rng: Rng, strength: float) -> Instance:
    """A group is those whose label is above .8."""
    X, y, G = stream(rng, 500, 4, 2)
    return one_pass(X, y, np.column_stack([y > 0.8, G]))


@worlds.world(run=passed, breaks=t.KNOWN_BEFORE, noticeable=False)
def range_of_the_stream(rng: Rng, strength: float) -> Instance:
    """The range of the targets is read from the stream itself."""
    X, y, G = stream(rng, 500, 4, 3)
    low, high = y.min(), y.max()
    scaled = (y - low) / (high - low)
    made = one_pass(X, scaled, G)
    return replace(made, arguments={**made.arguments, "target_range": None})


def in_blocks(X: np.ndarray, y: np.ndarray, groups: np.ndarray, block: int) -> Run:
    """The estimator predicts a block, whose labels come later."""
    model = GroupwiseRegressor(target_range=(0, 1), fit_intercept=False)
    published = np.zeros(len(X))
    for start in range(0, len(X), block):
        part = slice(start, start + block)
        if start:
            published[part] = model.predict(X[part], groups[part])
        model.partial_fit(X[part], y[part], groups[part])
    return Run(model.certificates_, published)


@worlds.world(run=in_blocks, breaks=t.LABELS_IN_TIME, strengths=(50, 200, 1000), noticeable=False)
def labels_of_a_block_come_later(rng: Rng, strength: float) -> Instance:
    """A level that swings once over 2,000 rows, predicted in blocks by the estimator."""
    T = 2000
    X = np.column_stack([np.ones(T), rng.random(T)])
    y = 0.5 + 0.5 * np.sin(2 * np.pi * np.arange(T) / T)
    G = rng.random((T, 3)) < 0.5
    active = np.column_stack([G, np.ones(T, dtype=bool)])
    return Instance({"X": X, "y": y, "groups": G, "block": int(strength)}, judge(X, y, active))


@worlds.world(run=learned, breaks=t.LABELS_IN_TIME, strengths=(100, 10, 2))
def labels_come_late(rng: Rng, strength: float) -> Instance:
    """So many rows are predicted before their labels come, with the learner of any loss."""
    T = 400
    y = 0.5 + 0.5 * np.sign(np.sin(2 * np.pi * np.arange(T) / 200))
    return fixed_learners(np.array([0.0, 1.0]), y, np.ones((T, 2), dtype=bool), block=int(strength))


class Liar(OnlineRidge):
    """Says that the best predictor loses more than it does."""

    more = 0.0

    def hindsight(self) -> tuple[float, float]:
        """The optimum, and so much more for every round."""
        best, plain = super().hindsight()
        return best + self.more * self.rounds, plain

    def predict_one(self, x: Any) -> float:
        """Always wrong by as much as it can be made up for."""
        return 0.0


@worlds.world(run=learned, breaks=t.SAME_LOSS, strengths=(0.1, 0.5), noticeable=False)
def a_learner_that_lies(rng: Rng, strength: float) -> Instance:
    """A learner of one's own predicts 0 and reports an optimum that is too large."""

    def make() -> Liar:
        liar = Liar(3)
        liar.more = strength
        return liar

    X, y, _ = stream(rng, 300, 3, 1)
    active = np.ones((300, 1), dtype=bool)
    arguments = {"makers": [make], "X": X, "y": y, "active": active}
    return Instance(arguments, judge(X, y, active))


class Scaled(OnlineRidge):
    """Reports its optimum and bound for targets scaled to [0, 1], whatever its range is."""

    def hindsight(self) -> tuple[float, float]:
        """In the wrong units."""
        best, plain = super().hindsight()
        return best / self.unit, plain / self.unit

    def bound(self) -> float:
        """In the wrong units."""
        return super().bound() / self.unit


@worlds.world(run=learned, breaks=t.SAME_LOSS, noticeable=False)
def a_learner_in_other_units(rng: Rng, strength: float) -> Instance:
    """A learner of one's own reports in other units than the loss: an honest run looks bad."""
    X, y, _ = stream(rng, 300, 3, 1)
    active = np.ones((300, 1), dtype=bool)
    arguments = {
        "makers": [lambda: Scaled(3, clip=(0, 10))],
        "X": X,
        "y": 10 * y,
        "active": active,
        "loss_range": (0, 100),
    }
    return Instance(arguments, lambda run: {"regret": None})


def taught(rng: Rng, rows: int) -> OnlineRidge:
    """A ridge that has learnt coins."""
    ridge = OnlineRidge(3)
    for _ in range(rows):
        ridge.learn_one([*rng.random(2), 1.0], float(rng.random() < 0.5))
    return ridge


@worlds.world(run=learned, breaks=t.SAME_LOSS, strengths=(1000, 100, 1))
def a_learner_taught_before(rng: Rng, strength: float) -> Instance:
    """Learners are copies of one that has learnt so many rows of another stream."""
    ridge = taught(rng, int(strength))
    X, y = np.column_stack([rng.random((400, 2)), np.ones(400)]), np.full(400, 0.95)
    active = np.ones((400, 2), dtype=bool)
    makers = [lambda: deepcopy(ridge)] * 2
    return Instance({"makers": makers, "X": X, "y": y, "active": active}, judge(X, y, active))


@worlds.world(run=learned, breaks=t.SAME_LOSS)
def one_learner_for_all_groups(rng: Rng, strength: float) -> Instance:
    """The same object is the learner of a group and of everyone."""
    ridge = OnlineRidge(3)
    X = np.column_stack([rng.random((400, 2)), np.ones(400)])
    few = rng.random(400) < 0.2
    y = np.where(few, 1.0, rng.random(400) < 0.5)
    active = np.column_stack([few, np.ones(400, dtype=bool)])
    makers = [lambda: ridge] * 2
    return Instance({"makers": makers, "X": X, "y": y, "active": active}, judge(X, y, active))


def against_the_coins(said: Sequence[float], T: int, share: float, seed: int) -> Run:
    """Nature sees what was drawn and answers against it in a share of the rounds."""
    rng = np.random.default_rng(seed)
    makers = iter(said)
    learner = GroupwiseLearner(
        lambda: Fixed(next(makers)),
        len(said),
        loss="absolute",
        prediction="sample",
        random_state=seed,
    )
    published, labels = np.zeros(T), np.zeros(T)
    active = np.ones(len(said))
    for i in range(T):
        published[i] = learner.predict(i, active)
        labels[i] = 1.0 - published[i] if rng.random() < share else float(rng.random() < 0.5)
        learner.update(i, labels[i], active)
    return Run(learner.certificates(), np.abs(published - labels), labels)


@worlds.world(run=against_the_coins, breaks=t.COINS, strengths=(1.0, 0.5), noticeable=False)
def nature_sees_the_coins(rng: Rng, strength: float) -> Instance:
    """Labels are the opposite of what was just drawn, always or half of the time."""
    said = [0.0, 1.0]

    def truths(run: Run) -> Truths:
        labels = run.excess
        assert labels is not None
        fine = [
            run.published.sum() - np.abs(v - labels).sum() <= c.bound
            for v, c in zip(said, run.every, strict=True)
        ]
        return {"own-regret": bool(all(fine))}

    arguments = {"said": said, "T": 1000, "share": strength, "seed": int(rng.integers(1 << 31))}
    return Instance(arguments, truths)


# Shortest paths


@dataclass(frozen=True)
class Paths:
    """Regrets of several runs on the same costs, and the certificates of their mean."""

    certificates: tuple[Certificate, ...]
    every: tuple[Certificate, ...]
    regrets: np.ndarray


def walked(
    costs: np.ndarray,
    active: np.ndarray,
    runs: int,
    seed: int,
    against: float = 0.0,
    noise: bool = True,
    share: float = 1.0,
    numbers: bool = False,
    again: float = 0.0,
) -> Paths:
    """So many runs on a 3×3 grid; `against` is added to the edges that were just taken.

    What is handed in are the runs, or their regrets as numbers, on the first `share` of the rounds. The
    share `again` of the runs has the seed of the first.
    """

    def walk(number: int, rounds: int) -> GroupwiseShortestPath:
        own = 0 if number < again * runs else number
        one = GroupwiseShortestPath(
            grid(3, 3), (0, 0), (2, 2), active.shape[1], noise=noise, random_state=seed + own
        )
        place = {e: i for i, e in enumerate(one.edges)}
        for c, a in zip(costs[:rounds], active[:rounds], strict=True):
            path = one.choose(a)
            taken = [place[e] for e in pairwise(path)]
            given = c.copy()
            given[taken] = np.minimum(given[taken] + against, max(1.0, c.max()))
            one.update(given)
        return one

    whole = [walk(number, len(costs)) for number in range(runs)]
    handed = (
        whole if share == 1 else [walk(number, int(share * len(costs))) for number in range(runs)]
    )
    # Where costs answer to the path, no two runs see the same, and only their numbers can be handed in.
    regrets = [one.regret() for one in handed]
    every = whole[-1].certificates(regrets if numbers or against else handed)
    named = {c.name: replace(c, name="path-regret") for c in every}
    return Paths((worst(named),), every, np.array([one.regret() for one in whole]))


def judge_paths(paths: Paths) -> Truths:
    """By means of runs with four standard errors."""
    mean, error = (
        paths.regrets.mean(axis=0),
        paths.regrets.std(axis=0) / np.sqrt(len(paths.regrets)),
    )
    bounds = np.array([c.bound for c in paths.every])
    if (mean + 4 * error <= bounds).all():
        return {"path-regret": True}
    return {"path-regret": False if (mean - 4 * error > bounds).any() else None}


def route(rng: Rng, T: int = 100, **options: Any) -> Instance:
    """Costs with means of the edge's own for two groups, one of them everyone."""
    means = rng.random(12)
    arguments = {
        "costs": (rng.random((T, 12)) < means) * 1.0,
        "active": np.column_stack([rng.random(T) < 0.4, np.ones(T, dtype=bool)]),
        "runs": 20,
        "seed": int(rng.integers(1 << 30)),
        **options,
    }
    return Instance(arguments, judge_paths)


@worlds.world(run=walked, seeds=200)
def routes(rng: Rng, strength: float) -> Instance:
    """Twenty runs of 100 rounds, Bernoulli costs, two groups."""
    return route(rng)


@worlds.world(run=walked, slow=True, seeds=10)
def long_routes(rng: Rng, strength: float) -> Instance:
    """Sixty runs of 1,000 rounds, after which the bound is worth something."""
    return route(rng, 1000, runs=60)


@worlds.world(run=walked, breaks=t.COSTS, strengths=(5.0, 1.01), seeds=100)
def costs_beyond_one(rng: Rng, strength: float) -> Instance:
    """Costs are up to so large."""
    made = route(rng, 60, runs=3)
    return replace(made, arguments={**made.arguments, "costs": strength * made.arguments["costs"]})


@worlds.world(run=walked, breaks=t.COSTS, seeds=100)
def one_jam(rng: Rng, strength: float) -> Instance:
    """One edge costs 3 in one round."""
    made = route(rng, 60, runs=3)
    costs = made.arguments["costs"].copy()
    costs[30, 4] = 3.0
    return replace(made, arguments={**made.arguments, "costs": costs})


@worlds.world(run=walked, breaks=t.COINS, strengths=(1.0, 0.5), noticeable=False, seeds=50)
def jams_where_one_just_went(rng: Rng, strength: float) -> Instance:
    """Edges that were just taken cost more, others nothing."""
    made = route(rng, 300, runs=10, against=strength)
    return replace(made, arguments={**made.arguments, "costs": np.zeros((300, 12))})


@worlds.world(run=walked, breaks=t.SAME_COSTS, strengths=(0.1, 0.5, 0.98), seeds=50)
def runs_that_stopped_early(rng: Rng, strength: float) -> Instance:
    """The runs that are handed in saw so large a share of the rounds."""
    return route(rng, runs=5, share=strength)


@worlds.world(run=walked, breaks=t.SAME_COSTS, strengths=(0.1, 0.5), noticeable=False, seeds=50)
def regrets_of_shorter_runs(rng: Rng, strength: float) -> Instance:
    """Regrets on a share of the rounds, handed in as numbers."""
    return route(rng, share=strength, numbers=True)


@worlds.world(run=walked, breaks=t.SAME_COSTS, strengths=(1.0, 0.4), seeds=50)
def runs_of_one_seed(rng: Rng, strength: float) -> Instance:
    """So large a share of the runs has the same random_state, and is one run."""
    return route(rng, runs=5, again=strength)


@worlds.world(run=walked, breaks=t.PERTURBED, seeds=50)
def leaders_without_noise(rng: Rng, strength: float) -> Instance:
    """Nothing is perturbed, on honest costs."""
    return route(rng, noise=False)


@worlds.world(run=walked, breaks=t.PERTURBED, strengths=(1.0, 0.5), seeds=50)
def leaders_without_noise_are_led(rng: Rng, strength: float) -> Instance:
    """Nothing is perturbed, and what was just taken costs more."""
    made = route(rng, 300, runs=5, against=strength, noise=False)
    return replace(made, arguments={**made.arguments, "costs": np.zeros((300, 12))})


# Mutants


def _bound(**factors: float) -> Callable[[Any], property]:
    """The bound of a group with its parts times factors."""

    def changed(_: Any) -> property:
        def total(self: t.Group) -> float:
            parts = {"meta": self.meta, "learner": self.learner, "coins": self.coins}
            return sum(factors.get(k, 1.0) * v for k, v in parts.items()) + 2 * self.rounding

        return property(total)

    return changed


worlds.mutant(
    "regret",
    "executed bound halved",
    target=f"{HERE}.theorems:Group.bound",
    change=_bound(learner=0.5),
    world=a_few_rows_of_one_group,
)
worlds.mutant(
    "own-regret",
    "bound of the mixture halved",
    target=f"{HERE}.theorems:Group.bound",
    change=_bound(meta=0.5),
    world=one_of_many_is_right,
)
worlds.mutant(
    "sampled-regret",
    "a third of the bound of the coins",
    target=f"{HERE}.theorems:coins_bound",
    change=lambda bound: lambda *given: bound(*given) / 3,
    world=heavier_expert_errs,
    seeds=60,
)
worlds.mutant(
    "path-regret",
    "bound over 50; the true one is some twenty times what is lost",
    target=f"{HERE}.paths:GroupwiseShortestPath.bound",
    change=lambda bound: lambda self: bound(self) / 50,
    world=routes,
)
worlds.by_construction(
    t.SAME_LOSS, "tests/online/groupwise_regret/test_learner.py::test_a_subclass_vouches_for_itself"
)
