"""What is run: timetables on known curves and on promotions, and learning against simpler policies."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from whp.bandits import (
    RecoveryCurves,
    fit_recovery,
    learn_recovering,
    plan_recovering,
    recovering_bandits,
    upper_bound,
)
from whp.bandits._recovering_bandits.curves import myopic_rate
from whp.experiment.study import Study
from whp.peers.bandits import ucb1
from whp.studies.recovering_bandits.truth import optimum

__all__ = ["LOG", "SLOTS", "known_curves", "promotion_curves", "study"]

Row = dict[str, Any]
SLOTS = (4, 16, 64)
LOG: dict[str, Any] = {
    "arm": "product_category",
    "time": "week",
    "reward": "reward",
    "unit": "product_id",
}

study = Study("recovering-bandits")


def _curves(rng: np.random.Generator, N: int, D: int, slowest: float) -> np.ndarray:
    a, tau = rng.uniform(0.2, 1, N), rng.uniform(0.5, slowest, N)
    return a[:, None] * (1 - np.exp(-np.arange(1, D + 1) / tau[:, None]))


@lru_cache(maxsize=1)
def known_curves() -> np.ndarray:
    """Ten arms with eight gaps, always the same."""
    return _curves(np.random.default_rng(3), 10, 8, 4.0)


@lru_cache(maxsize=1)
def promotion_curves() -> tuple[pd.DataFrame, RecoveryCurves]:
    """The log of a year of promotions, and the curves of 23 categories fitted to it."""
    from whp.datasets.streams import promotions

    log = promotions()
    return log, fit_recovery(log, **LOG)


class World:
    """Known curves with normal noise, all arms just pulled at the start."""

    def __init__(self, R: np.ndarray, sigma: float, rng: np.random.Generator) -> None:
        self.R, self.sigma, self.rng, self.paid = R, sigma, rng, 0.0
        self.last = np.full(len(R), -1)

    def __call__(self, t: int, arms: np.ndarray) -> np.ndarray:
        """Rewards of these arms in period t."""
        means = self.R[arms, np.minimum(t - self.last[arms], self.R.shape[1]) - 1]
        self.last[arms] = t
        self.paid += float(means.sum())
        return means + self.sigma * self.rng.standard_normal(len(arms))


SEEDS = {"quick": 3, "standard": 20, "full": 100}


@study.experiment(seeds=SEEDS, K=SLOTS)
def planning(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Six arms a slot that recover exponentially over 24 gaps."""
    K = config["K"]
    plan = plan_recovering(_curves(rng, 6 * K, 24, 12.0), K, local_search=False)
    row: Row = {
        "ratio": plan.ratio,
        "lost": max(1 - plan.ratio, 1e-9),
        "gamma": plan.gamma,
        "myopic": plan.myopic / plan.upper_bound,
        "static": plan.static / plan.upper_bound,
        "over_myopic": plan.ratio - plan.myopic / plan.upper_bound,
    }
    for certificate in plan.certificates:
        row[f"verdict_{certificate.name}"] = str(certificate.verdict)
        row[f"tightness_{certificate.name}"] = certificate.tightness
    return row


@study.experiment(seeds=SEEDS, T=(1000, 4000, 16000), quick={"T": (1000, 4000)})
def learning(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Ten arms, three slots, learnt over T periods; the oracle pays most now and knows the curves."""
    R, T = known_curves(), config["T"]
    world = World(R, 0.1, rng)
    run = learn_recovering(world, 10, 3, T, D=8, noise=0.1, truth=R)
    own = plan_recovering(R, 3, local_search=False).value
    share = world.paid / T / run.benchmark
    certificate = run.certificates[0]
    return {
        "regret": own * T - world.paid,
        "share": share,
        "over_oracle": share - myopic_rate(R, 3) / run.benchmark,
        "verdict_regret": str(certificate.verdict),
        "tightness_regret": certificate.tightness,
    }


@study.experiment(seeds={"quick": 2, "standard": 10, "full": 20}, T=4000, quick={"T": 1000})
def peer(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """UCB1 of mabwiser on the same arms, which does not know that they tire."""
    R, T = known_curves(), config["T"]
    world, bound = World(R, 0.1, rng), upper_bound(R, 3)
    ucb1(world, len(R), 3, T, int(rng.integers(1 << 31)))
    return {"share": world.paid / T / bound, "myopic": myopic_rate(R, 3) / bound}


@study.experiment(seeds={"quick": 5, "standard": 50, "full": 250}, K=(1, 2))
def exact(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Three arms, four gaps: the true optimum by value iteration over all idle times."""
    R, K = np.sort(rng.random((3, 4)), axis=1), config["K"]
    low, high = optimum(R, K)
    plan = plan_recovering(R, K)
    return {
        "plan_share": plan.value / high,
        "bound_share": low / plan.upper_bound,
        "myopic_share": myopic_rate(R, K, 400) / high,
        "lookahead_share": myopic_rate(R, K, 400, lookahead=2) / high,
    }


@study.experiment(seeds=1, K=(1, 2, 3, 5, 10))
def market(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """A year of promotions of 23 categories of products; gains by bootstrap over products."""
    log, fit = promotion_curves()
    report = recovering_bandits(log, config["K"], **LOG, resamples=200, rng=rng)
    gains = report.gain.set_index("policy")
    row: Row = {"bound": report.plan.upper_bound, "ratio": report.plan.ratio, "arms": len(fit.arms)}
    for name in ("myopic", "static"):
        for end in ("gain", "low", "high"):
            row[f"{name}_{end}"] = gains.loc[name, end]
    for certificate in report.certificates:
        row[f"verdict_{certificate.name}"] = str(certificate.verdict)
    return row


@study.experiment(seeds={"quick": 30, "standard": 300, "full": 1000}, T=200)
def honesty(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Short runs of four arms: does the bound on regret hold?"""
    R = np.sort(rng.random((4, 4)), axis=1)
    run = learn_recovering(World(R, 0.1, rng), 4, 2, config["T"], D=4, noise=0.1, truth=R)
    return {"broken": bool(run.regret is not None and run.regret > run.regret_bound)}
