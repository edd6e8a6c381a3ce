"""Worlds of worst cases: the risk of what was fitted is summed over all rows that there could be."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from whp.certificate import Verdict
from whp.experiment.worlds import Instance, Worlds
from whp.invariance import (
    CausalMinimaxRegressor,
    DiscreteSCM,
    MinimaxResult,
    ModelMinimax,
    causal_minimax,
    minimal_representative,
    minimax_of_model,
)
from whp.invariance._causal_minimax.theorems import (
    ADDITIVE,
    BINS,
    CERTIFIED,
    GRAPH,
    HIDDEN,
    KEPT,
    MUTABLE,
    RANGE,
    ROWS,
    RULE,
    SUPPORT,
    THEOREMS,
)
from whp.studies.causal_minimax.laws import Law, Tables, best_prediction, random_law

__all__ = ["model_k", "worlds"]

worlds = Worlds("causal-minimax", THEOREMS)
HOME = "whp.invariance._causal_minimax"
Truths = dict[str, bool | None]


def fair(p: Any) -> np.ndarray:
    """P(node | parents) of a binary node from P(1 | parents)."""
    one = np.asarray(p, float)
    return np.stack([1 - one, one], axis=-1)


def model_k(M: Any = (0.35, 0.65), W: Any = (0.1, 0.9), Y: float = 0.5) -> Law:
    """Y → M, (Y, M) → X, Y → W: X tells of Y only where M is 0."""
    nodes: Tables = {
        "Y": ((), fair(Y)),
        "M": (("Y",), fair(M)),
        "X": (("Y", "M"), fair([[0.0, 0.5], [0.75, 0.5]])),
        "W": (("Y",), fair(W)),
    }
    return Law(nodes)


def surprising(p: float, q: float, m: float = 0.5) -> Law:
    """Y → M, (Y, M) → X: the whole stable set is worse than nothing."""
    nodes: Tables = {
        "Y": ((), fair(p)),
        "M": (("Y",), fair([m, m])),
        "X": (("Y", "M"), fair([[0.0, 0.5], [q, 0.5]])),
    }
    return Law(nodes)


def usable(
    made: MinimaxResult, mutable: tuple[str, ...], parents: tuple[str, ...]
) -> Callable[..., bool]:
    """Which pairs the user is told that the claim is about."""
    rows = made.cells
    known = {
        (tuple(pa), tuple(m))
        for pa, m, ok in zip(
            rows[list(parents)].to_numpy(),
            rows[list(mutable)].to_numpy(),
            rows["supported"],
            strict=True,
        )
        if ok
    }
    return lambda pa, m: (tuple(map(word, pa)), tuple(map(word, m))) in known


def word(value: Any) -> str:
    """A code as the result writes it."""
    return str(value)


def parents_of(law: Law, mutable: tuple[str, ...]) -> tuple[str, ...]:
    """All parents of mutable nodes that are not mutable."""
    return tuple(
        v for v in law.names if v not in mutable and any(v in law.nodes[m][0] for m in mutable)
    )


def judge(law: Law, mutable: tuple[str, ...] = ("M",)) -> Callable[[MinimaxResult], Truths]:
    """Both claims by what the user is given: predictor, limit, pairs, and the predictors of all classes."""
    parents = parents_of(law, mutable)

    def truths(made: MinimaxResult) -> Truths:
        may = usable(made, mutable, parents)
        found: Truths = {}
        for c in made.certificates:
            if c.name == "worst-case-risk":
                found[c.name] = (
                    law.worst(made.predict(as_user(law.grid)), mutable, parents, may) <= c.bound
                )
            elif c.name == "selection":
                every = [
                    law.worst(p.predict(as_user(law.grid)), mutable, parents, may)
                    for p in made.predictors
                ]
                own = law.worst(made.predict(as_user(law.grid)), mutable, parents, may)
                found[c.name] = own - min(every) <= c.bound
            elif c.name == "whole-set":
                found[c.name] = whole_is_best(law, mutable)
        return found

    return truths


def as_user(grid: pd.DataFrame) -> pd.DataFrame:
    """The target as a user's column: a float."""
    return grid.assign(Y=grid["Y"].astype(float))


def whole_is_best(law: Law, mutable: tuple[str, ...]) -> bool | None:
    """Whether no subset beats the whole stable set, by going through all and all functions of the parents."""
    stable = [v for v in law.names if v != "Y" and v not in mutable]
    risks = [true_risk(law, s, mutable) for s in subsets(stable)]
    gap = true_risk(law, stable, mutable) - min(risks)
    return None if 1e-11 < gap < 1e-9 else gap <= 1e-10


def subsets(names: list[str]) -> list[list[str]]:
    """All of them."""
    found: list[list[str]] = [[]]
    for name in names:
        found += [[*s, name] for s in found]
    return found


def true_risk(law: Law, subset: list[str], mutable: tuple[str, ...]) -> float:
    """Worst case of the population's predictor, by going through all functions of the parents."""
    prediction = best_prediction(law, subset, mutable)
    gain = law.mass(mutable) * (law.grid["Y"].to_numpy() - prediction) ** 2
    play = [np.ones(len(law.grid), bool)]
    for m in mutable:
        parents = law.nodes[m][0]
        keys = list(map(tuple, law.grid[list(parents)].to_numpy()))
        cells = sorted(set(keys))
        own = law.grid[m].to_numpy()
        size = law.nodes[m][1].shape[-1]
        more = []
        for code in range(size ** len(cells)):
            choice = {cell: code // size**i % size for i, cell in enumerate(cells)}
            more.append(own == np.array([choice[k] for k in keys]))
        play = [p & q for p in play for q in more]
    return max(float(gain[p].sum()) for p in play)


def environments(
    rng: np.random.Generator,
    law: Law,
    n: int,
    *,
    count: int = 4,
    held: int = 0,
    name: str = "M",
    low: float = 0.15,
) -> pd.DataFrame:
    """Rows of environments in which one mechanism is drawn anew, the last of them to be held out."""
    parts = []
    table = law.nodes[name][1]
    for e in range(count):
        size = n // (count - bool(held)) if e < count - 1 or not held else held
        drawn = rng.uniform(low, 1 - low, table.shape[:-1])
        parts.append(law.replaced(**{name: fair(drawn)}).sample(rng, size).assign(env=f"e{e}"))
    return pd.concat(parts, ignore_index=True)


def ask(law: Law, table: pd.DataFrame, rng: np.random.Generator, **options: Any) -> dict[str, Any]:
    """Arguments of the front door."""
    given = {"graph": law.graph, "target": "Y", "mutable": "M", "rng": int(rng.integers(1 << 31))}
    return {"data": table, **given, **options}


# Nothing is broken


@worlds.world(run=causal_minimax, strengths=(10_000, 500, 2_000, 50_000))
def a_useful_model(rng: np.random.Generator, strength: float) -> Instance:
    """Four environments of one mechanism, a fifth held out; as many rows as the strength says."""
    law = model_k()
    table = environments(rng, law, int(strength), count=5, held=2000)
    arguments = ask(law, table, rng, env="env", test_env=["e4"])
    return Instance(arguments, judge(law))


@worlds.world(run=causal_minimax, strengths=(60, 400))
def a_rare_cell(rng: np.random.Generator, strength: float) -> Instance:
    """The mutable variable is 1 in 2 % of rows, so that half A often lacks a pair; or the target nearly always is."""
    law = surprising(*((0.8, 0.75, 0.02) if rng.random() < 0.5 else (0.98, 0.75, 0.5)))
    table = law.sample(rng, int(strength))
    table.loc[:3, ["Y", "M"]] = [
        [0, 0],
        [0, 1],
        [1, 0],
        [1, 1],
    ]  # four rows that nobody can do without
    return Instance(ask(law, table, rng), judge(law))


@worlds.world(run=causal_minimax, strengths=(200, 2_000, 20_000))
def nearly_tied(rng: np.random.Generator, strength: float) -> Instance:
    """Two classes with worst cases .24 and .244: the estimated best is often not the best."""
    law = surprising(0.6, 1 / 3)
    return Instance(ask(law, law.sample(rng, int(strength)), rng), judge(law))


@worlds.world(run=causal_minimax, strengths=(300, 2_000))
def random_models(rng: np.random.Generator, strength: float) -> Instance:
    """Random graphs and tables of four or five nodes, one or two of them mutable with nothing stable between."""
    while True:
        law, mutable = random_law(rng, int(rng.integers(4, 6)), int(rng.integers(1, 3)))
        table = law.sample(rng, int(strength))
        between = any(
            m in nx.descendants(law.graph, v) and v in nx.descendants(law.graph, k)
            for m in mutable
            for k in mutable
            for v in law.names
            if v not in mutable
        )
        if not between and all(table[c].nunique() == 2 for c in law.names):
            break
    return Instance(ask(law, table, rng, mutable=list(mutable)), judge(law, mutable))


@worlds.world(run=causal_minimax, strengths=(4_000, 1_000))
def counts_that_are_mostly_zero(rng: np.random.Generator, strength: float) -> Instance:
    """M is 0 in 85 % of rows and one of 40 counts in the others, whose law stays; a mechanism moves the share of 0."""
    counts = np.zeros((2, 41))
    counts[0, 0], counts[1, 1:] = 1.0, 1 / 40
    nodes: Tables = {
        "Y": ((), fair(0.5)),
        "some": (("Y",), fair([0.1, 0.2])),
        "M": (("some",), counts),
        "X": (("Y", "some"), fair([[0.05, 0.95], [0.95, 0.05]])),
        "W": (("Y",), fair([0.3, 0.7])),
    }
    law = Law(nodes)
    table = law.sample(rng, int(strength)).drop(columns="some")
    given = ask(law, table, rng, bins=3) | {"graph": model_k().graph}
    return Instance(
        given,
        lambda made: one_claim(made, law.worst(made.predict(as_user(law.grid)), ("some",), ("Y",))),
    )


@worlds.world(run=causal_minimax, strengths=(3_000, 30))
def rare_words(rng: np.random.Generator, strength: float) -> Instance:
    """Two columns of as many words as the strength says, many of them rare, that tell of nothing."""
    law = model_k()
    table = law.sample(rng, 6_000)
    for name in "AB":
        often, rare = rng.integers(0, 4, 6_000), rng.integers(0, int(strength), 6_000)
        words = np.where(rng.random(6_000) < 0.3, often, rare)
        table[name] = [f"word {i}" for i in words]
    graph = law.graph
    graph.add_edges_from([("Y", "A"), ("Y", "B")])
    given = ask(law, table, rng) | {"graph": graph}
    grid = as_user(law.grid).assign(A="word 0", B="word 0")
    return Instance(
        given,
        lambda made: (
            one_claim(made, law.worst(made.predict(grid), ("M",), ("Y",)))
            if not {"A", "B"} & set(made.subset)
            else {"worst-case-risk": None}
        ),
    )


@worlds.world(run=causal_minimax, strengths=(0.3, 0.1))
def a_share_asked_for(rng: np.random.Generator, strength: float) -> Instance:
    """M is 1 in a fifth of rows, and `support` leaves out what is rarer than the strength."""
    law = model_k(M=(0.2, 0.2))
    table = law.sample(rng, 4_000)
    return Instance(ask(law, table, rng, support=strength), judge(law))


@worlds.world(run=causal_minimax, strengths=(3_000,))
def scores_in_a_range(rng: np.random.Generator, strength: float) -> Instance:
    """A target of five scores from −20 to 60 that acts on a mutable variable of three values."""
    values = np.array([-20.0, 0.0, 5.0, 30.0, 60.0])
    nodes: Tables = {
        "Y": ((), rng.dirichlet(np.full(5, 4.0))),
        "M": (("Y",), rng.dirichlet(np.full(3, 2.0), 5)),
        "X": (("Y", "M"), fair(rng.uniform(0.1, 0.9, (5, 3)))),
    }
    law = Law(nodes)
    law.grid["score"] = values[law.grid["Y"]]
    table = law.sample(rng, int(strength))
    given = ask(law, table.assign(Y=values[table["Y"]]), rng, y_range=(-20.0, 60.0))

    def truths(made: MinimaxResult) -> Truths:
        grid = law.grid[["Y", "M", "X"]]
        scored = grid.assign(Y=law.grid["score"])
        rows = made.cells
        known = set(zip(rows["Y"].astype(float), rows["M"], rows["supported"], strict=True))

        def worst(prediction: np.ndarray) -> float:
            gain = law.mass(("M",)) * (law.grid["score"].to_numpy() - prediction) ** 2
            total = pd.Series(gain).groupby([law.grid["score"], law.grid["M"]]).sum()
            return sum(
                max((v for (_, m), v in part.items() if (y, str(m), True) in known), default=0.0)
                for y, part in total.groupby(level=0)
            )

        own, every = (
            worst(made.predict(scored)),
            [worst(p.predict(scored)) for p in made.predictors],
        )
        bounds = {c.name: c.bound for c in made.certificates}
        return {
            "worst-case-risk": own <= bounds["worst-case-risk"],
            "selection": own - min(every) <= bounds["selection"],
        }

    return Instance(given, truths)


def as_model(law: Law, mutable: tuple[str, ...]) -> DiscreteSCM:
    """The same law as the library holds it."""
    parents = {v: p for v, (p, _) in law.nodes.items()}
    return DiscreteSCM(
        law.graph, {v: t for v, (_, t) in law.nodes.items()}, "Y", mutable, None, parents
    )


def judge_model(
    law: Law, mutable: tuple[str, ...], rng: np.random.Generator
) -> Callable[[ModelMinimax], Truths]:
    """Claims of a given model: the choice against all subsets, and members of classes against each other."""
    stable = [v for v in law.names if v != "Y" and v not in mutable]
    one = [v for v in stable if rng.random() < 0.5]

    def truths(made: ModelMinimax) -> Truths:
        risks = [true_risk(law, s, mutable) for s in subsets(stable)]
        chosen = true_risk(law, list(made.subset), mutable)
        other = sorted(minimal_representative(law.graph, "Y", list(mutable), one))
        mass = law.mass(mutable)
        first, second = (best_prediction(law, s, mutable)[mass > 0] for s in (one, other))
        return {
            "whole-set": whole_is_best(law, mutable),
            "best-of-all-subsets": chosen - min(risks) <= 1e-10,
            "same-class": bool(np.abs(first - second).max(initial=0.0) <= 1e-12),
        }

    return truths


def model_where(
    rng: np.random.Generator, holds: bool, mutable: int = 1
) -> tuple[Law, tuple[str, ...]]:
    """A random law whose graph satisfies the condition of Theorem 1, or does not."""
    while True:
        law, chosen = random_law(rng, int(rng.integers(4, 6)), mutable)
        G = law.graph
        first = [m for m in chosen if G.has_edge("Y", m)]
        below = {v for m in first for v in nx.descendants(G, m)} - set(first)
        if holds == (not any(G.has_edge("Y", v) for v in below)):
            return law, chosen


@worlds.world(run=minimax_of_model)
def given_models(rng: np.random.Generator, strength: float) -> Instance:
    """Random laws as models, one mutable node, where the graph says that the whole set is best."""
    law, mutable = model_where(rng, True)
    return Instance({"model": as_model(law, mutable), "rng": 0}, judge_model(law, mutable, rng))


@worlds.world(run=minimax_of_model, strengths=(1e8, 1e12))
def a_target_far_from_zero(rng: np.random.Generator, strength: float) -> Instance:
    """The same models with a target of the strength and one more."""
    law, mutable = model_where(rng, True)
    model = replace(as_model(law, mutable), values=[strength, strength + 1])
    return Instance({"model": model, "rng": 0}, judge_model(law, mutable, rng))


@worlds.world(run=minimax_of_model)
def two_mutable_nodes(rng: np.random.Generator, strength: float) -> Instance:
    """The same with two mutable nodes, each of which sees its own parents."""
    law, mutable = model_where(rng, True, 2)
    return Instance({"model": as_model(law, mutable), "rng": 0}, judge_model(law, mutable, rng))


@worlds.world(run=minimax_of_model)
def the_surprising_example(rng: np.random.Generator, strength: float) -> Instance:
    """Y → M, (Y, M) → X → Z: nothing beats something, and Z is a class of its own."""
    base = surprising(float(rng.uniform(0.55, 0.95)), float(rng.uniform(0.2, 0.9)))
    z = (("X",), fair(rng.uniform(0.05, 0.95, 2)))
    law = Law({**base.nodes, "Z": z})

    def truths(made: ModelMinimax) -> Truths:
        found = judge_model(law, ("M",), rng)(made)
        del found["whole-set"]  # the certificate of it is void here, as it should be
        return found

    return Instance({"model": as_model(law, ("M",)), "rng": 0}, truths)


# The graph


@worlds.world(run=causal_minimax, breaks=GRAPH, strengths=(0.4, 0.2, 0.1, 0.05), broken_from=0.2)
def a_missing_edge(rng: np.random.Generator, strength: float) -> Instance:
    """C moves M by the strength, and the graph has no such edge: 2,000 rows."""
    nodes: Tables = {
        "C": ((), fair(0.5)),
        "Y": (("C",), fair([0.3, 0.7])),
        "M": (
            ("Y", "C"),
            fair(
                [
                    [0.35 - strength / 2, 0.35 + strength / 2],
                    [0.65 - strength / 2, 0.65 + strength / 2],
                ]
            ),
        ),
        "X": (("Y", "M"), fair([[0.0, 0.5], [0.75, 0.5]])),
        "W": (("Y",), fair([0.1, 0.9])),
    }
    law = Law(nodes)
    graph = law.graph
    graph.remove_edge("C", "M")
    given = ask(law, law.sample(rng, 2000), rng) | {"graph": graph}
    return Instance(
        given,
        lambda made: one_claim(
            made, law.worst(made.predict(as_user(law.grid)), ("M",), ("Y", "C"))
        ),
    )


@worlds.world(run=causal_minimax, breaks=GRAPH, strengths=(0.0, 1.0), noticeable=False)
def a_reversed_edge(rng: np.random.Generator, strength: float) -> Instance:
    """M causes Y, the graph says that Y causes M: the same independences, so that nothing can notice."""
    nodes: Tables = {
        "M": ((), fair(0.5)),
        "Y": (("M",), fair([0.5 - 0.45 * strength, 0.5 + 0.45 * strength])),
        "X": (("Y", "M"), fair([[0.0, 0.5], [0.75, 0.5]])),
    }
    law = Law(nodes)
    graph = nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])
    given = ask(law, law.sample(rng, 5000), rng) | {"graph": graph}
    return Instance(
        given, lambda made: one_claim(made, law.worst(made.predict(as_user(law.grid)), ("M",), ()))
    )


def one_claim(made: MinimaxResult, risk: float) -> Truths:
    """The limit against a risk that the claim speaks of."""
    return {c.name: risk <= c.bound for c in made.certificates if c.name == "worst-case-risk"}


# What must not change


def bad_environment(
    rng: np.random.Generator, share: float, f: float, held: bool = False
) -> Instance:
    """Ten environments of 20,000 rows, in one of which W tells less of Y; or that one is held out."""
    law = model_k()
    other = law.replaced(W=fair([0.1 + f, 0.9 - f]))
    bad = int(20_000 * share)
    part = other.sample(rng, bad).assign(env="bad")
    rest = law.sample(rng, 20_000 - bad).assign(env=[f"e{i % 9}" for i in range(20_000 - bad)])
    table = pd.concat([part, rest], ignore_index=True)
    given = ask(law, table, rng, env="env", **({"test_env": ["bad"]} if held else {}))
    return Instance(
        given,
        lambda made: one_claim(made, other.worst(made.predict(as_user(law.grid)), ("M",), ("Y",))),
    )


@worlds.world(run=causal_minimax, breaks=KEPT, strengths=(0.2, 0.05, 0.01))
def one_bad_environment(rng: np.random.Generator, strength: float) -> Instance:
    """In one environment, with this share of the rows, W is wrong in 30 % instead of 10 %."""
    return bad_environment(rng, strength, 0.2)


@worlds.world(run=causal_minimax, breaks=KEPT, strengths=(0.2, 0.05, 0.02, 0.01), noticeable=False)
def one_slightly_bad_environment(rng: np.random.Generator, strength: float) -> Instance:
    """W is wrong in 20 % instead of 10 %: 1 % of the rows show that in every other run."""
    return bad_environment(rng, strength, 0.1)


@worlds.world(run=causal_minimax, expects=Verdict.FAILS)
def a_bad_environment_held_out(rng: np.random.Generator, strength: float) -> Instance:
    """The environment in which W is wrong in 60 % was held out: the measurement refutes the claim for it."""
    return bad_environment(rng, 0.2, 0.5, held=True)


@worlds.world(run=causal_minimax, breaks=KEPT, strengths=(0.4, 0.2))
def the_target_itself(rng: np.random.Generator, strength: float) -> Instance:
    """P(Y = 1) goes from .5 minus half the strength to .5 plus it over four environments."""
    shares = 0.5 + strength * np.linspace(-0.5, 0.5, 4)
    parts = [model_k(Y=float(p)).sample(rng, 2500).assign(env=i) for i, p in enumerate(shares)]
    worst = model_k(Y=float(shares[-1]))
    given = ask(worst, pd.concat(parts, ignore_index=True), rng, env="env")
    return Instance(
        given,
        lambda made: one_claim(
            made, worst.worst(made.predict(as_user(worst.grid)), ("M",), ("Y",))
        ),
    )


@worlds.world(run=causal_minimax, breaks=KEPT, strengths=(0.8, 0.4))
def a_mutable_one_left_out(rng: np.random.Generator, strength: float) -> Instance:
    """W's mechanism changes from one environment to the next, and only M is named as mutable."""
    parts = []
    for e in range(4):
        w = 0.5 + strength * (-0.5 if e % 2 else 0.5)
        parts.append(model_k(W=(1 - w, w)).sample(rng, 2500).assign(env=e))
    worst = model_k(W=(0.99, 0.01))
    given = ask(worst, pd.concat(parts, ignore_index=True), rng, env="env")
    return Instance(
        given,
        lambda made: one_claim(
            made, worst.worst(made.predict(as_user(worst.grid)), ("M",), ("Y",))
        ),
    )


# Pairs that nobody saw


def new_cell(rng: np.random.Generator, share: float, unknown: bool) -> Instance:
    """M = 2 never occurs in training, and has a share of a held-out environment; X then says the contrary of Y."""
    third = np.array([[0.65, 0.35, 0.0], [0.35, 0.65, 0.0]])
    nodes: Tables = {
        "Y": ((), fair(0.5)),
        "M": (("Y",), third),
        "X": (("Y", "M"), fair([[0.0, 0.5, 1.0], [0.75, 0.5, 0.0]])),
        "W": (("Y",), fair([0.1, 0.9])),
    }
    law = Law(nodes)
    there = third * (1 - share)
    there[:, 2] = share
    other = law.replaced(M=there)
    train = law.sample(rng, 4000).assign(env="a")
    if not unknown:  # the value is known, but with Y = 0 alone
        seen = law.replaced(M=[[0.5, 0.3, 0.2], [0.35, 0.65, 0.0]])
        train = seen.sample(rng, 4000).assign(env="a")
    table = pd.concat([train, other.sample(rng, 2000).assign(env="b")], ignore_index=True)
    given = ask(law, table, rng, env="env", test_env=["b"])

    def truths(made: MinimaxResult) -> Truths:
        c = made.certificates[0]
        # What the page adds for an environment that leaves the support: its share there.
        return {c.name: other.risk(made.predict(as_user(law.grid))) <= c.bound + share}

    return Instance(given, truths)


@worlds.world(run=causal_minimax, breaks=SUPPORT, strengths=(0.5, 0.2, 0.03), broken_from=0.1)
def a_new_value(rng: np.random.Generator, strength: float) -> Instance:
    """A value of M that no training row has makes up this share of the held-out environment."""
    return new_cell(rng, strength, True)


@worlds.world(run=causal_minimax, breaks=SUPPORT, strengths=(0.5, 0.3), broken_from=0.3)
def a_new_pair(rng: np.random.Generator, strength: float) -> Instance:
    """A value of M that occurred with Y = 0 alone comes with Y = 1 in the held-out environment."""
    return new_cell(rng, strength, False)


@worlds.world(run=causal_minimax, breaks=SUPPORT, strengths=(0.5, 0.2, 0.03), broken_from=0.1)
def a_new_combination(rng: np.random.Generator, strength: float) -> Instance:
    """Each of two mutable variables was 1 in training, never both; both together turn X round."""

    def rows(n: int, both: float) -> pd.DataFrame:
        y, u = rng.integers(0, 2, n), rng.random(n)
        first, second = u < both + 0.3, (u < both) | (u > 0.7)
        x = y ^ (first & second) ^ (rng.random(n) < 0.05)
        return pd.DataFrame({"Y": y, "M": first, "N": second, "X": x}).astype(int)

    table = pd.concat([rows(4000, 0.0).assign(env="a"), rows(2000, strength).assign(env="b")])
    edges = [("Y", "M"), ("Y", "N"), ("Y", "X"), ("M", "X"), ("N", "X")]
    given = ask(model_k(), table, rng, env="env", test_env=["b"], mutable=["M", "N"])
    there = rows(40_000, strength)
    return Instance(
        given | {"graph": nx.DiGraph(edges)},
        lambda made: one_claim(
            made, float(((there["Y"] - made.predict(there)) ** 2).mean()) - strength
        ),
    )


@worlds.world(run=causal_minimax, breaks=SUPPORT)
def a_value_too_rare(rng: np.random.Generator, strength: float) -> Instance:
    """`support` leaves out a value that a fifth of all training rows have, and most rows of a held-out environment."""
    law = model_k(M=(0.2, 0.2))
    other = law.replaced(M=fair([0.8, 0.8]))
    parts = [law.sample(rng, 4000).assign(env="a"), other.sample(rng, 1000).assign(env="b")]
    given = ask(law, pd.concat(parts), rng, env="env", test_env=["b"], support=0.3)
    return Instance(
        given, lambda made: one_claim(made, other.risk(made.predict(as_user(law.grid))) - 0.8)
    )


# Hidden causes


@worlds.world(run=causal_minimax, breaks=HIDDEN, strengths=(1.0, 0.75, 0.5, 0.0), noticeable=False)
def a_hidden_cause(rng: np.random.Generator, strength: float) -> Instance:
    """H moves M and decides whether X shows Y; an environment's mechanism may listen to H."""
    c = strength
    nodes: Tables = {
        "Y": ((), fair(0.5)),
        "H": ((), fair(0.5)),
        "M": (("H",), fair([0.5 - 0.45 * c, 0.5 + 0.45 * c])),
        "X": (("Y", "H"), fair([[0.5, 0.05], [0.5, 0.95]])),
    }
    law = Law(nodes)
    graph = nx.DiGraph([("Y", "X"), ("M", "X"), ("Y", "M")])
    given = ask(law, law.sample(rng, 20_000)[["Y", "M", "X"]], rng) | {"graph": graph}
    return Instance(
        given,
        lambda made: one_claim(
            made, law.worst(made.predict(as_user(law.grid)), ("M",), ("H", "Y"))
        ),
    )


@worlds.world(run=causal_minimax, breaks=HIDDEN, strengths=(1.0, 0.5), noticeable=False)
def a_hidden_cause_of_the_target(rng: np.random.Generator, strength: float) -> Instance:
    """H moves M and Y, and the graph has M as an effect of nothing."""
    s = 0.45 * strength
    nodes: Tables = {
        "H": ((), fair(0.5)),
        "Y": (("H",), fair([0.5 - s, 0.5 + s])),
        "M": (("H",), fair([0.5 - s, 0.5 + s])),
        "X": (("Y", "M"), fair([[0.1, 0.5], [0.9, 0.5]])),
    }
    law = Law(nodes)
    graph = nx.DiGraph([("Y", "X"), ("M", "X"), ("M", "Y")])
    given = ask(law, law.sample(rng, 10_000)[["Y", "M", "X"]], rng) | {"graph": graph}
    return Instance(
        given,
        lambda made: one_claim(made, law.worst(made.predict(as_user(law.grid)), ("M",), ("H",))),
    )


# Bins


def gaussian(
    rng: np.random.Generator, n: int, M: Callable[[np.ndarray], np.ndarray]
) -> pd.DataFrame:
    """Y, a measurement M, and X that M turns round."""
    y = rng.integers(0, 2, n)
    m = M(y)
    x = ((2 * y - 1) * (1 - 0.7 * m) + 0.5 * rng.normal(size=n) > 0).astype(int)
    return pd.DataFrame({"Y": y, "M": m, "X": x})


@worlds.world(run=causal_minimax, breaks=BINS, strengths=(5.0, 3.0, 2.0, 1.5), noticeable=False)
def inside_the_last_bin(rng: np.random.Generator, strength: float) -> Instance:
    """M ~ N(Y/2, 1) in terciles; a new environment sets M to the strength, inside the last bin."""
    table = gaussian(rng, 4000, lambda y: 0.5 * y + rng.normal(size=len(y)))
    there = gaussian(rng, 40_000, lambda y: np.full(len(y), strength))
    given = ask(model_k(), table, rng, bins=3) | {
        "graph": nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])
    }
    return Instance(
        given, lambda made: one_claim(made, float(((there["Y"] - made.predict(there)) ** 2).mean()))
    )


@worlds.world(run=causal_minimax, breaks=BINS, strengths=(1.0, 0.0), noticeable=False)
def a_cause_in_two_bins(rng: np.random.Generator, strength: float) -> Instance:
    """M listens to more of C than its bin, and so does Y."""

    def rows(n: int, listens: float) -> pd.DataFrame:
        c = rng.normal(size=n)
        y = (c + 0.3 * rng.normal(size=n) > 0.7).astype(int)
        m = (listens * (c - 0.7) + 0.3 * rng.normal(size=n) > 0).astype(int)
        return pd.DataFrame({"Y": y, "M": m, "C": c})

    table, there = rows(4000, 0.0), rows(40_000, -5 * strength)
    given = ask(model_k(), table, rng, bins=2) | {"graph": nx.DiGraph([("C", "Y"), ("C", "M")])}
    return Instance(
        given, lambda made: one_claim(made, float(((there["Y"] - made.predict(there)) ** 2).mean()))
    )


# Rows


@worlds.world(run=causal_minimax, breaks=ROWS, strengths=(300, 100, 30))
def copies_with_a_measurement(rng: np.random.Generator, strength: float) -> Instance:
    """60 rows as many times as the strength says; a column of measurements shows it."""
    law = model_k()
    few = law.sample(rng, 60)
    few.loc[:3, ["Y", "M"]] = [[0, 0], [0, 1], [1, 0], [1, 1]]
    few = few.assign(weight=rng.normal(size=60))
    table = pd.concat([few] * int(strength), ignore_index=True)
    return Instance(
        ask(law, table, rng), lambda made: {"worst-case-risk": judge(law)(made)["worst-case-risk"]}
    )


@worlds.world(run=causal_minimax, breaks=ROWS, strengths=(300, 100, 30))
def copies_with_numbers(rng: np.random.Generator, strength: float) -> Instance:
    """The same with a running number, as files have after copies were made, and an environment drawn for each copy."""
    made = copies_with_a_measurement.make(rng, strength)
    table = made.arguments["data"]
    table = table.assign(number=np.arange(len(table)), env=rng.integers(0, 3, len(table)))
    return Instance({**made.arguments, "data": table, "env": "env"}, made.truths)


@worlds.world(run=causal_minimax, breaks=ROWS, strengths=(300, 100, 30), noticeable=False)
def copies_of_categories(rng: np.random.Generator, strength: float) -> Instance:
    """The same without the measurement: rows that agree and copies cannot be told apart."""
    made = copies_with_a_measurement.make(rng, strength)
    return Instance(
        {**made.arguments, "data": made.arguments["data"].drop(columns="weight")}, made.truths
    )


@worlds.world(
    run=causal_minimax, breaks=ROWS, strengths=(0.05, 0.2), noticeable=False, rising=False
)
def balanced_classes(rng: np.random.Generator, strength: float) -> Instance:
    """As many rows of Y = 1 as of Y = 0, although this share of the world has Y = 1 and X tells less there."""
    law = Law({**surprising(0.5, 0.75).nodes, "W": (("Y",), fair([0.4, 0.95]))})
    world = law.replaced(Y=fair(strength))
    given = ask(law, law.sample(rng, 20_000), rng)
    return Instance(
        given,
        lambda made: one_claim(made, world.worst(made.predict(as_user(law.grid)), ("M",), ("Y",))),
    )


# The range of the target


def stretched(rng: np.random.Generator, factor: float, held: bool) -> Instance:
    """A target of which one environment has a multiple of the range."""

    def rows(n: int, scale: float) -> pd.DataFrame:
        y = rng.choice([-1.0, 0.0, 1.0], n) * scale
        m = (rng.random(n) < np.where(y > 0, 0.65, 0.35)).astype(int)
        return pd.DataFrame({"Y": y, "M": m, "W": (y + rng.normal(size=n) > 0).astype(int)})

    train, there = rows(4000, 1.0).assign(env="a"), rows(2000, factor).assign(env="b")
    table = pd.concat([train, there] if held else [train], ignore_index=True)
    given = ask(model_k(), table, rng, env="env") | {"graph": nx.DiGraph([("Y", "M"), ("Y", "W")])}
    given |= {"test_env": ["b"]} if held else {}
    return Instance(
        given, lambda made: one_claim(made, float(((there["Y"] - made.predict(there)) ** 2).mean()))
    )


@worlds.world(run=causal_minimax, breaks=RANGE, strengths=(3.0, 1.2), broken_from=1.1)
def a_wider_target(rng: np.random.Generator, strength: float) -> Instance:
    """The held-out environment has a multiple of the training rows' range."""
    return stretched(rng, strength, True)


@worlds.world(run=causal_minimax, breaks=RANGE, strengths=(3.0, 1.2), noticeable=False)
def a_wider_target_to_come(rng: np.random.Generator, strength: float) -> Instance:
    """The same in an environment that nobody has rows of."""
    return stretched(rng, strength, False)


@worlds.world(run=causal_minimax, breaks=RANGE, strengths=(1e-4, 2e-5), noticeable=False)
def a_count_taken_for_two_values(rng: np.random.Generator, strength: float) -> Instance:
    """Y is 0 or 1 in all training rows, and 60 in a share of the world that they do not show."""
    law = model_k()
    given = ask(law, law.sample(rng, 4000), rng)
    grid = as_user(law.grid)

    def truths(made: MinimaxResult) -> Truths:
        prediction = made.predict(grid)
        rare = float((law.mass() * (60 - prediction) ** 2).sum())
        inside = law.worst(prediction, ("M",), ("Y",))
        return one_claim(made, (1 - strength) * inside + strength * rare)

    return Instance(given, truths)


# No adversary, another predictor


@worlds.world(run=causal_minimax, breaks=MUTABLE)
def nothing_is_mutable(rng: np.random.Generator, strength: float) -> Instance:
    """No variable is named, and M changes all the same."""
    law = model_k()
    given = ask(law, law.sample(rng, 2000), rng) | {"mutable": []}
    return Instance(
        given,
        lambda made: one_claim(made, law.worst(made.predict(as_user(law.grid)), ("M",), ("Y",))),
    )


def by_estimator(X: pd.DataFrame, y: pd.Series, seed: int) -> Any:
    """The estimator without a graph, which is plain regression."""
    model = CausalMinimaxRegressor(method="tabular", random_state=seed).fit(X, y)
    assert model.result_ is not None
    return model.result_


@worlds.world(run=by_estimator, breaks=MUTABLE)
def an_estimator_without_graph(rng: np.random.Generator, strength: float) -> Instance:
    """Every column is taken for a cause, none for mutable."""
    law = model_k()
    table = law.sample(rng, 2000)
    given = {
        "X": table[["M", "X", "W"]].astype(float),
        "y": table["Y"],
        "seed": int(rng.integers(1 << 31)),
    }

    def truths(made: MinimaxResult) -> Truths:
        grid = law.grid[["M", "X", "W"]].astype(float)
        return one_claim(made, law.worst(made.predict(grid), ("M",), ("Y",)))

    return Instance(given, truths)


@worlds.world(run=causal_minimax, breaks=CERTIFIED, strengths=(100, 2_000))
def fitted_again(rng: np.random.Generator, strength: float) -> Instance:
    """The predictor that is returned was fitted on all rows, half B among them."""
    law = model_k()
    table = law.sample(rng, int(strength))
    table.loc[:3, ["Y", "M"]] = [[0, 0], [0, 1], [1, 0], [1, 1]]
    return Instance(ask(law, table, rng, refit=True), judge(law))


def stored(**arguments: Any) -> MinimaxResult:
    """Fitted on all rows, then stored and loaded."""
    return pickle.loads(pickle.dumps(causal_minimax(**arguments)))


@worlds.world(run=stored, breaks=CERTIFIED)
def fitted_again_and_loaded(rng: np.random.Generator, strength: float) -> Instance:
    """The same after pickling: what made it void is not forgotten."""
    return fitted_again.make(rng, 500)


# Equations


def regressed(
    rng: np.random.Generator, noise: Callable[[np.ndarray], np.ndarray], n: int
) -> Instance:
    """A chain with noise that is not additive, by fitted equations."""
    y = rng.normal(size=n)
    m = 0.5 * y + rng.normal(size=n)
    x = y + m + noise(m)
    table = pd.DataFrame({"Y": y, "M": m, "X": x})
    given = ask(model_k(), table, rng, method="regression")
    given |= {"graph": nx.DiGraph([("Y", "M"), ("Y", "X"), ("M", "X")])}
    return Instance(given, lambda made: one_claim(made, float(y.max() - y.min()) ** 2))


@worlds.world(
    run=causal_minimax, breaks=ADDITIVE, strengths=(2.0, 0.5), noticeable=False, slow=True, seeds=20
)
def noise_that_grows(rng: np.random.Generator, strength: float) -> Instance:
    """The noise of X grows with M: fitted equations have no limit, so that nothing holds."""
    return regressed(rng, lambda m: np.exp(strength * m / 2) * rng.normal(size=len(m)), 200)


@worlds.world(run=causal_minimax, breaks=ADDITIVE, noticeable=False, slow=True, seeds=20)
def a_jump(rng: np.random.Generator, strength: float) -> Instance:
    """X jumps where M is above 1."""
    return regressed(rng, lambda m: np.where(m > 1, 5.0, 0.0) * rng.choice([-1, 1], len(m)), 200)


# The rule of the graph


@worlds.world(run=minimax_of_model, breaks=RULE)
def a_child_below(rng: np.random.Generator, strength: float) -> Instance:
    """Random models in which the target has a child below its mutable child: the whole set may be beaten."""
    law, mutable = model_where(rng, False)
    return Instance({"model": as_model(law, mutable), "rng": 0}, judge_model(law, mutable, rng))


@worlds.world(run=minimax_of_model, breaks=RULE, strengths=(0.9, 0.75, 0.4))
def a_child_that_misleads(rng: np.random.Generator, strength: float) -> Instance:
    """The surprising example, in which X tells of Y by the strength."""
    law = surprising(0.8, strength)
    return Instance({"model": as_model(law, ("M",)), "rng": 0}, judge_model(law, ("M",), rng))


# Mutants


def _halved(f: Callable[..., float]) -> Callable[..., float]:
    return lambda *args, **kwargs: f(*args, **kwargs) / 2


def _half_an_upper_end(f: Callable[..., Any]) -> Callable[..., Any]:
    def gap(*args: Any) -> tuple[float, float]:
        made, upper = f(*args)
        return made - upper / 2, upper / 2

    return gap


def _observed(_: Callable[..., Any]) -> Callable[..., Any]:
    """Conditioning on the mutable variables instead of setting them."""

    def table(model: DiscreteSCM, subset: Any) -> np.ndarray:
        law = model.law()
        used = {*subset, *model.mutable}
        out = tuple(i for i, v in enumerate(model.axes) if v not in used)
        y = model.axes.index(model.target)
        values = np.arange(law.shape[y]).reshape([-1 if i == y else 1 for i in range(law.ndim)])
        mass = law.sum(axis=out, keepdims=True)
        return np.where(
            mass > 0, (law * values).sum(axis=out, keepdims=True) / np.where(mass > 0, mass, 1), 0.0
        )

    return table


worlds.mutant(
    "worst-case-risk",
    "U halved",
    target=f"{HOME}.by_tables:upper_limit",
    change=_halved,
    world=a_useful_model,
)
worlds.mutant(
    "selection",
    "the upper end halved",
    target=f"{HOME}.by_tables:_gap",
    change=_half_an_upper_end,
    world=a_useful_model,
    strength=50_000,
)
worlds.mutant(
    "whole-set",
    "the mutable variables observed, not set",
    target=f"{HOME}.exact:predictor_table",
    change=_observed,
    world=given_models,
    caught_by="false fails",
)
worlds.mutant(
    "best-of-all-subsets",
    "the largest risk chosen",
    target=f"{HOME}.exact:chosen_row",
    change=lambda _: lambda risks, sizes: int(np.argmax(risks)),
    world=given_models,
)
worlds.mutant(
    "same-class",
    "half of each boundary",
    target=f"{HOME}.graph:Dag.boundary",
    change=lambda f: (
        lambda self, subset, without: (lambda b: b & (b - 1))(f(self, subset, without))
    ),
    world=given_models,
)
