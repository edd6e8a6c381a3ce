"""What is run: attacks by decomposition, filters, bounds on random tables, the price, repetitions, a fitted adversary."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from whp.certificate import Verdict
from whp.datasets.networks import asia, child, elements
from whp.experiment.study import Study
from whp.llm import Censor, audit_adversary, censor_unknown, information_censorship, read_system
from whp.llm._information_censorship.attack import composed
from whp.llm._information_censorship.leakage import Measure, leakage
from whp.llm._information_censorship.mechanism import leaked, output

__all__ = ["DATA", "study", "task"]

Row = dict[str, Any]
DATA = ("asia", "elements", "child", "parity")
BUDGETS = (0.01, 0.03, 0.1, 0.3, 1.0)  # of H
MOST = 2_000_000
NEWBORNS = 20_000

study = Study("information-censorship")


@lru_cache(maxsize=4)
def task(data: str) -> dict[str, Any]:
    """What is refused, what is asked, and what an honest user wants, of one data set."""
    if data == "asia":
        return {
            "table": asia(),
            "target": "lung",
            "prior": "weight",
            "ask": "smoke,xray,dysp",
            "benign": "bronc",
        }
    if data == "elements":
        return {
            "table": elements(),
            "target": "radioactive",
            "ask": "period,group,block",
            "benign": "series",
        }
    if data == "child":
        table = child(NEWBORNS, np.random.default_rng(0))
        asked = "XrayReport,LowerBodyO2,CO2Report,GruntingReport,LVHreport"
        counted = (
            table.value_counts([*asked.split(","), "Disease", "Age"]).rename("weight").reset_index()
        )
        return {
            "table": counted,
            "target": "Disease",
            "prior": "weight",
            "ask": asked,
            "benign": "Age",
        }
    bits = pd.DataFrame(
        [(a, b, a ^ b) for a in (0, 1) for b in (0, 1)], columns=["first", "second", "parity"]
    )
    return {"table": bits, "target": "parity", "ask": "first,second", "benign": "first"}


@study.experiment(seeds=1, data=DATA, quick={"data": ("asia", "parity")})
def decomposition(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The refused question leaks nothing; innocent ones together."""
    made = information_censorship(**task(config["data"]), mechanism="none", rng=rng)
    return {
        "refused": 0.0,
        "together": made.leakage_uncensored,
        "H": made.ceiling,
        "share": made.leakage_uncensored / made.ceiling,
        "largest_alone": float(made.per_question["alone"].max()),
    }


@study.experiment(seeds=1, data=DATA, budget=(0.05, 0.2, 0.5), quick={"data": ("asia", "parity")})
def filters(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """A filter lets every question pass that leaks at most ε/k by itself; and each passes."""
    made = task(config["data"])
    H = information_censorship(**made, mechanism="none", measure=False).ceiling
    eps = config["budget"] * H
    filtered = information_censorship(**made, mechanism="filter", eps=eps, rng=rng)
    passes = bool((filtered.per_question["alone"] <= eps / filtered.k + 1e-12).all())
    return {
        "eps": eps,
        "leakage": filtered.leakage,
        "all_pass": passes,
        "over": max(filtered.leakage or 0.0, 0.0) / eps,
        "verdict_leakage": str(filtered.certificates[0].verdict),
    }


@study.experiment(seeds={"quick": 4, "standard": 20, "full": 100})
def bounds(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """A hundred random tables: how often is a theorem broken, and how often is the best adversary adaptive?"""
    broken: dict[str, int] = dict.fromkeys(
        ("once", "erasure", "swapping", "composition", "published"), 0
    )
    adaptive, slack = 0, []
    for _ in range(100):
        W, J = int(rng.integers(3, 13)), 4
        channels = [
            rng.dirichlet(np.full(2, float(rng.choice([0.05, 1, 20]))), W) for _ in range(J)
        ]
        prior = rng.dirichlet(np.full(W, 0.2))
        system = read_system(channels, rng.integers(0, 2, W), np.maximum(prior, 1e-12))
        mask = np.zeros(len(system.names), bool)
        mask[: int(rng.integers(1, len(mask) + 1))] = True
        measure, P = Measure(mask), system.probabilities
        p, eta = float(rng.random()), float(rng.exponential())
        erase = Censor("erase", J, 1.0, p, measure.ceiling(P), float(P[mask].sum()))
        swap = replace(erase, name="krr", strength=eta)
        dense = [system.dense(j) for j in range(J)]
        one = leaked(system.only([0]), [erase.matrix(2)], 1, measure, MOST)
        broken["once"] += abs(one - p * leakage(system, dense[:1], measure)) > 1e-12
        for name, censor in (("erasure", erase), ("swapping", swap)):
            value = leaked(system, [censor.matrix(2)] * J, J, measure, MOST)
            broken[name] += value > censor.bound * (1 + 1e-9) + 1e-12
            if name == "erasure" and censor.bound > 0:
                slack.append(value / censor.bound)
        terms = composed(system, output(system, [np.eye(2)] * J), mask)
        broken["composition"] += terms.joint > terms.single + terms.dependence + terms.rest + 1e-12
        broken["published"] += terms.joint > terms.single + terms.dependence + 1e-12
        matrices = [replace(erase, strength=0.7).matrix(2)] * 2
        fixed = max(
            leaked(system.only(T), matrices, 2, measure, MOST) for T in combinations(range(J), 2)
        )
        best = leaked(system, matrices * 2, 2, measure, MOST)
        adaptive += best > 1.05 * fixed + 1e-12
    return {"tables": 100, **broken, "adaptive_gains": int(adaptive), "used": float(np.mean(slack))}


@study.experiment(
    seeds=1, data=DATA, mechanism=("erase", "krr"), quick={"data": ("asia", "parity")}
)
def price(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Accuracy of the honest user by budget, exactly calibrated."""
    made, rows = task(config["data"]), []
    H = information_censorship(**made, mechanism="none", measure=False).ceiling
    for budget in BUDGETS:
        result = information_censorship(
            **made, mechanism=config["mechanism"], eps=budget * H, calibrate="exact", rng=rng
        )
        universal = information_censorship(
            **made, mechanism=config["mechanism"], eps=budget * H, measure=False
        )
        utility = next(c for c in result.certificates if c.name == "utility")
        rows.append(
            {
                "budget": budget,
                "accuracy": result.utility["accuracy_of_honest_users"],
                "uncertain": result.utility["uncertain_of_benign"],
                "strength": result.strength,
                "over_universal": (result.strength or 0.0) / (universal.strength or 1.0),
                "leakage": result.leakage,
                "broken": utility.verdict is Verdict.FAILS,
                "used": (result.leakage or 0.0) / result.certificates[1].bound,
            }
        )
    steps = np.diff([r["accuracy"] for r in rows])
    return [{**r, "falls": bool((steps < -1e-9).any())} for r in rows]


@study.experiment(seeds=1)
def choices(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """A victim that names one of four answers rightly with .7: silence against swapping at equal leakage."""
    victim = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    rows = []
    for eps in (0.01, 0.05, 0.2):
        row: Row = {"eps": eps}
        for name in ("erase", "krr"):
            made = information_censorship(
                [victim],
                np.arange(4),
                eps=eps,
                mechanism=name,
                calibrate="exact",
                benign=np.arange(4),
                rng=rng,
            )
            row[name] = made.utility["accuracy_of_honest_users"]
        rows.append(row | {"swapping_gains": row["krr"] - row["erase"]})
    return rows


@study.experiment(seeds=1, k=(1, 2, 4, 8, 16))
def repetitions(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """k answers of the victim, each drawn anew: what p may be, and what stickiness saves."""
    k = config["k"]
    victim = np.full((4, 4), 0.1) + 0.6 * np.eye(4)
    universal = censor_unknown([0.25] * 4, k, 0.05)
    row: Row = {"p": universal.strength}
    if k <= 8:
        once = read_system([victim], np.arange(4))
        measure, matrix = Measure(np.ones(4, bool)), replace(universal, strength=0.1).matrix(4)
        fresh = read_system([victim] * k, np.arange(4))
        row["fresh"] = leaked(fresh, [matrix] * k, k, measure, MOST)
        row["sticky"] = leaked(once, [matrix], 1, measure, MOST)
        row["over_sticky"] = row["fresh"] / row["sticky"]
    return row


@study.experiment(seeds={"quick": 3, "standard": 100, "full": 500}, p=(0.05, 0.2, 0.5))
def fitted(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Biopsies whose features are told behind erasure to a logistic regression, which is no Bayesian."""
    from sklearn.linear_model import LogisticRegression

    from whp.datasets.streams import breast_cancer

    X, y = breast_cancer()
    signs = np.where(X[:, :8] > 0, 1.0, -1.0)
    order = rng.permutation(len(y))
    train, test = order[:300], order[300:]
    # Silence is a zero, and training saw as much of it: the adversary knows the censor.
    hidden = np.where(rng.random((300, 8)) < config["p"], signs[train], 0.0)
    model = LogisticRegression().fit(hidden, y[train])
    told = np.where(rng.random((len(test), 8)) < config["p"], signs[test], 0.0)
    before = model.predict_proba(np.zeros((1, 8)))
    after = model.predict_proba(told)
    censor = replace(censor_unknown(before[0].tolist(), 8, 0.05), strength=config["p"])
    made = audit_adversary(after, before, censor, answered=(told != 0).sum(axis=1))
    certificate = made.certificates[0]
    return {
        "gained": made.gained.value,
        "bound": certificate.bound,
        "used": made.gained.value / certificate.bound,
        "broken": certificate.verdict is Verdict.FAILS,
        "within": made.gained.value <= certificate.bound,
    }
