"""Recovering rewards: how close a timetable comes to what any policy could earn, and what learning costs (Simchi-Levi, Zheng & Zhu,
ICML 2021).

The paper proves bounds; its constants are measured here, on known curves and on a year of promotions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.bandits.recovering_bandits import (
    RecoveryCurves,
    fit_recovery,
    learn_recovering,
    plan_recovering,
    upper_bound,
)
from whp.bandits.recovering_bandits.log import recovering_bandits
from whp.bandits.recovering_bandits.plan import myopic_rate
from whp.experiment.measures import difference
from whp.experiment.study import Claim, NotTested, Scale, Showcase, select
from whp.intervals import Estimate, exact, mean, proportion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLAIMS", "FIGURES", "example", "run", "showcase", "trials"]

SLOTS = (4, 16, 64)
MARKET = (1, 2, 3, 5, 10)
HORIZONS = (1000, 4000, 16000)


# Trials


def trials(scale: Scale) -> Iterable[dict[str, Any]]:
    """Configurations of all experiments."""
    for seed in range({"quick": 3, "standard": 20, "full": 100}[scale]):
        for K in SLOTS:
            yield {"experiment": "planning", "K": K, "seed": seed}
        for T in HORIZONS[:2] if scale == "quick" else HORIZONS:
            yield {"experiment": "learning", "T": T, "seed": seed}
    for seed in range({"quick": 10, "standard": 100, "full": 500}[scale]):
        yield {"experiment": "exact", "K": 1 + seed % 2, "seed": seed}
    for seed in range({"quick": 2, "standard": 10, "full": 20}[scale]):
        yield {"experiment": "peer", "T": 1000 if scale == "quick" else 4000, "seed": seed}
    for K in MARKET:
        yield {"experiment": "market", "K": K, "seed": 0}
    for seed in range({"quick": 30, "standard": 300, "full": 1000}[scale]):
        yield {"experiment": "honesty", "T": 200, "seed": seed}


def run(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One trial of the experiment that `config` names."""
    match config["experiment"]:
        case "planning":
            return [_planning(config["K"], rng)]
        case "learning":
            return [_learning(config["T"], rng)]
        case "exact":
            return [_exact(config["K"], rng)]
        case "peer":
            return [_peer(config["T"], rng)]
        case "market":
            return [_market(config["K"], rng)]
        case "honesty":
            return [_honesty(config["T"], rng)]
        case other:
            raise ValueError(f"experiment must be one of those of trials(), got {other!r}")


def _curves(rng: np.random.Generator, N: int, D: int, slowest: float) -> np.ndarray:
    a, tau = rng.uniform(0.2, 1, N), rng.uniform(0.5, slowest, N)
    return a[:, None] * (1 - np.exp(-np.arange(1, D + 1) / tau[:, None]))


def _planning(K: int, rng: np.random.Generator) -> dict[str, Any]:
    R = _curves(rng, 6 * K, 24, 12.0)
    plan = plan_recovering(R, K, local_search=False)
    row: dict[str, Any] = {
        "ratio": plan.ratio,
        "gamma": plan.gamma,
        "myopic": plan.myopic / plan.upper_bound,
        "static": plan.static / plan.upper_bound,
    }
    for certificate in plan.certificates:
        row[f"verdict_{certificate.name}"] = str(certificate.verdict)
        row[f"tightness_{certificate.name}"] = certificate.tightness
    return row


@lru_cache(maxsize=1)
def _known() -> np.ndarray:
    return _curves(np.random.default_rng(3), 10, 8, 4.0)


class _World:
    """Known curves with normal noise, all arms just pulled at the start."""

    def __init__(self, R: np.ndarray, sigma: float, rng: np.random.Generator) -> None:
        self.R, self.sigma, self.rng, self.last, self.paid = R, sigma, rng, np.full(len(R), -1), 0.0

    def __call__(self, t: int, arms: np.ndarray) -> np.ndarray:
        rewards = self.R[arms, np.minimum(t - self.last[arms], self.R.shape[1]) - 1]
        self.last[arms] = t
        self.paid += float(rewards.sum())
        return rewards + self.sigma * self.rng.standard_normal(len(arms))


def _learning(T: int, rng: np.random.Generator) -> dict[str, Any]:
    R = _known()
    world = _World(R, 0.1, rng)
    found = learn_recovering(world, 10, 3, T, D=8, noise=0.1, truth=R)
    own = plan_recovering(R, 3, local_search=False).value
    certificate = found.certificates[0]
    return {
        "regret": own * T - world.paid,
        "share": world.paid / T / found.benchmark,
        "verdict_regret": str(certificate.verdict),
        "tightness_regret": certificate.tightness,
    }


def _peer(T: int, rng: np.random.Generator) -> dict[str, Any]:
    """UCB1 of mabwiser on the same arms, which does not know that they tire."""
    from mabwiser.mab import MAB, LearningPolicy

    R = _known()
    world, arms = _World(R, 0.1, rng), list(range(10))
    seed = int(rng.integers(1 << 31))
    mab = MAB(arms, LearningPolicy.UCB1(alpha=0.2), seed=seed)
    first = world(0, np.arange(3)).tolist()
    mab.fit([0, 1, 2], first)
    for t in range(1, T):
        said = mab.predict_expectations()
        assert isinstance(said, dict)
        chosen = np.array(sorted(arms, key=lambda a: -said[a])[:3])
        mab.partial_fit(chosen.tolist(), world(t, chosen).tolist())
    return {
        "share": world.paid / T / upper_bound(R, 3),
        "myopic": myopic_rate(R, 3) / upper_bound(R, 3),
    }


def _exact(K: int, rng: np.random.Generator) -> dict[str, Any]:
    """Three arms, four gaps: the true optimum by value iteration over all idle times."""
    import itertools

    R = np.sort(rng.random((3, 4)), axis=1)
    states = np.array(list(itertools.product(range(4), repeat=3)))
    actions = [c for k in range(K + 1) for c in itertools.combinations(range(3), k)]
    reward, following = np.zeros((64, len(actions))), np.zeros((64, len(actions)), dtype=int)
    for a, chosen in enumerate(actions):
        after = np.minimum(states + 1, 3)
        after[:, list(chosen)] = 0
        reward[:, a] = sum((R[j, states[:, j]] for j in chosen), np.zeros(64))
        following[:, a] = after @ np.array([16, 4, 1])
    v, low, high = np.zeros(64), 0.0, math.inf
    for _ in range(2000):
        new = 0.5 * v + 0.5 * (reward + v[following]).max(
            axis=1
        )  # half a step of waiting makes it aperiodic
        low, high = 2 * float((new - v).min()), 2 * float((new - v).max())
        v = new - new.min()
        if high - low < 1e-10:
            break
    plan = plan_recovering(R, K)
    return {
        "plan_share": plan.value / high,
        "bound_share": low / plan.upper_bound,
        "myopic_share": myopic_rate(R, K, 400) / high,
    }


@lru_cache(maxsize=1)
def _promotions() -> tuple[pd.DataFrame, RecoveryCurves]:
    from whp.datasets.streams import promotions

    log = promotions()
    return log, fit_recovery(
        log, arm="product_category", time="week", reward="reward", unit="product_id", D=8
    )


def _market(K: int, rng: np.random.Generator) -> dict[str, Any]:
    log, fit = _promotions()
    found = recovering_bandits(
        log,
        K,
        arm="product_category",
        time="week",
        reward="reward",
        unit="product_id",
        D=8,
        resamples=200,
        rng=rng,
    )
    gains = found.gain.set_index("policy")
    return {
        "bound": found.plan.upper_bound,
        "ratio": found.plan.ratio,
        "gain": gains.loc["myopic", "gain"],
        "gain_low": gains.loc["myopic", "low"],
        "gain_high": gains.loc["myopic", "high"],
        "gain_static": gains.loc["static", "gain"],
        "static_low": gains.loc["static", "low"],
        "static_high": gains.loc["static", "high"],
        "arms": len(fit.arms),
    }


def _honesty(T: int, rng: np.random.Generator) -> dict[str, Any]:
    R = np.sort(rng.random((4, 4)), axis=1)
    found = learn_recovering(_World(R, 0.1, rng), 4, 2, T, D=4, noise=0.1, truth=R)
    return {"broken": bool(found.regret is not None and found.regret > found.regret_bound)}


# Claims


def _mean(experiment: str, column: str, **wanted: Any) -> Callable[[pd.DataFrame], Estimate]:
    return lambda records: mean(select(records, experiment, **wanted)[column].to_numpy(dtype=float))


def _least(experiment: str, column: str) -> Callable[[pd.DataFrame], Estimate]:
    return lambda records: exact(float(select(records, experiment)[column].min()))


def _slope(
    experiment: str, column: str, over: str, flip: bool = False
) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        slopes = []
        for _, g in select(records, experiment).groupby("seed"):
            y = g[column].to_numpy(dtype=float)
            y = np.maximum(1 - y if flip else y, 1e-9)
            slopes.append(float(np.polyfit(np.log(g[over].to_numpy(dtype=float)), np.log(y), 1)[0]))
        return mean(slopes)

    return measure


def _above_myopic(K: int) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "planning", K=K)
        return mean((part["ratio"] - part["myopic"]).to_numpy(dtype=float))

    return measure


def _market_gain(K: int) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        row = select(records, "market", K=K).iloc[0]
        return Estimate(
            float(row["gain_static"]),
            float(row["static_low"]),
            float(row["static_high"]),
            0.95,
            200,
            "bootstrap",
        )

    return measure


def _market_least(records: pd.DataFrame) -> Estimate:
    return exact(float(select(records, "market")["ratio"].min()))


def _over_peer(records: pd.DataFrame) -> Estimate | NotTested:
    theirs = select(records, "peer")
    T = int(theirs["T"].iloc[0])
    return difference("share", experiment="learning", less="peer", where={"T": T})(records)


def _over_oracle(records: pd.DataFrame) -> Estimate:
    oracle = float(select(records, "peer")["myopic"].iloc[0])
    part = select(records, "learning")
    ours = part[part["T"] == part["T"].max()]["share"].to_numpy(dtype=float)
    return mean(ours - oracle)


def _broken(records: pd.DataFrame) -> Estimate:
    flags = select(records, "honesty")["broken"].astype(bool)
    return proportion(int(flags.sum()), len(flags))


NONE = "the paper has no such number"
RATIO, REGRET = "long-term ratio 1 − O(1/√K)", "regret Õ(N√T)"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "The share that is lost falls at least like K^{−1/2}.",
        RATIO,
        "slope of log lost share over log K",
        "<=",
        -0.5,
        _slope("planning", "ratio", "K", flip=True),
    ),
    Claim(
        "C1b",
        "With four slots the timetable earns more than the arms that pay most now.",
        NONE,
        "difference of shares of the bound",
        ">=",
        0.0,
        _above_myopic(4),
    ),
    Claim(
        "C1c",
        "With 64 as well.",
        NONE,
        "difference of shares of the bound",
        ">=",
        0.0,
        _above_myopic(64),
    ),
    Claim(
        "C1d",
        "With 16 slots it earns 99 % of what any policy could.",
        RATIO,
        "value over upper bound",
        ">=",
        0.99,
        _mean("planning", "ratio", K=16),
    ),
    Claim(
        "C2a",
        "On promotions the timetable earns 99 % of the bound for all K.",
        NONE,
        "least value over upper bound",
        ">=",
        0.99,
        _market_least,
        computed=True,
    ),
    Claim(
        "C2b",
        "With ten slots it earns more than always the same ten categories.",
        NONE,
        "dollars a week, bootstrap over products",
        ">=",
        0.0,
        _market_gain(10),
        note="The timetable is held fixed; its own choice is not drawn anew.",
    ),
    Claim(
        "C2c",
        "With two as well.",
        NONE,
        "dollars a week, bootstrap over products",
        ">=",
        0.0,
        _market_gain(2),
        note="As C2b. Observational data, no causal claim.",
    ),
    Claim(
        "C3a",
        "Regret of learning grows at most like T^{0.6}.",
        REGRET,
        "slope of log regret over log T",
        "<=",
        0.6,
        _slope("learning", "regret", "T"),
    ),
    Claim(
        "C3b",
        "It earns at least 15 points of the bound more than UCB1, which ignores recovery.",
        NONE,
        "difference of shares",
        ">=",
        0.15,
        _over_peer,
    ),
    Claim(
        "C3c",
        "In the end it passes the myopic policy that knows the curves.",
        NONE,
        "difference of shares, longest run",
        ">=",
        0.0,
        _over_oracle,
    ),
    Claim(
        "C3d",
        "The executed bound breaks at most as often as δ = 0.05.",
        REGRET,
        "share of runs",
        "<=",
        0.05,
        _broken,
    ),
    Claim(
        "C4a",
        "On small instances the timetable comes within 1.5 % of the true optimum on average.",
        NONE,
        "share of the optimum",
        ">=",
        0.985,
        _mean("exact", "plan_share"),
    ),
    Claim(
        "C4b",
        "And never below 85 %.",
        "at least a quarter, K = 1",
        "least share of the optimum",
        ">=",
        0.85,
        _least("exact", "plan_share"),
        note="The least of 100 is 0.8496, one slot and three arms: periods that share a slot must divide one another.",
    ),
    Claim(
        "C4c",
        "The optimum comes within 1.5 % of the bound on average.",
        NONE,
        "optimum over upper bound",
        ">=",
        0.985,
        _mean("exact", "bound_share"),
    ),
)


# Figures


def _draw_planning(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "planning").groupby("K")[["ratio", "myopic", "static", "gamma"]].mean()
    labels = {
        "ratio": "timetable",
        "myopic": "pay most now",
        "static": "always the same",
        "gamma": "certain beforehand",
    }
    for name, label in labels.items():
        ax.plot(cells.index, cells[name], "o--" if name == "gamma" else "o-", label=label)
    ax.set(xscale="log", xlabel="pulls a period K", ylabel="share of what any policy could earn")
    ax.legend(frameon=False)


def _draw_learning(records: pd.DataFrame, ax: Axes) -> None:
    cells = select(records, "learning").groupby("T")["share"].mean()
    ax.plot(cells.index, cells, "o-", label="learnt")
    peer = select(records, "peer")
    ax.axhline(
        float(peer["myopic"].mean()), linestyle="--", color="0.5", label="myopic, curves known"
    )
    ax.axhline(float(peer["share"].mean()), linestyle=":", color="0.5", label="mabwiser UCB1")
    ax.set(xscale="log", xlabel="periods", ylabel="share of what any policy could earn")
    ax.legend(frameon=False)


FIGURES = {"planning": _draw_planning, "learning": _draw_learning}


# The example and the showcase


def example() -> dict[str, Any]:
    """A year of promotions of 23 categories of products, ten a week; exponential curves without the extra."""
    from whp.datasets.streams import has_baskets, promotions

    if not has_baskets():
        return {"table": _known(), "K": 3}
    return {
        "table": promotions(),
        "K": 10,
        "arm": "product_category",
        "time": "week",
        "unit": "product_id",
        "D": 8,
        "rng": 0,
    }


def showcase() -> Showcase:
    """Promotions of ten categories a week: the timetable, always the same ten, and what no policy can exceed."""
    from whp.datasets.streams import has_baskets

    if has_baskets():
        found = recovering_bandits(
            _promotions()[0],
            10,
            arm="product_category",
            time="week",
            unit="product_id",
            D=8,
            resamples=20,
            rng=0,
        )
    else:
        found = recovering_bandits(_known(), 3)
    plan = found.plan
    unit = "$" if has_baskets() else ""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        plan.plot(left)
        left.set_title("")
        names = ("always the same", "pay most now", "timetable", "no policy above")
        right.bar(
            names,
            (plan.static, plan.myopic, plan.value, plan.upper_bound),
            color=("0.7", "tab:orange", "tab:blue", "0.9"),
        )
        right.set(ylabel="reward a period", ylim=(0.9 * plan.static, 1.02 * plan.upper_bound))
        right.tick_params(axis="x", rotation=60, labelsize="small")

    return Showcase(
        data=f"a year of promotions, {len(plan.period)} categories of products"
        if has_baskets()
        else "10 arms",
        quantity=f"reward a week from {plan.K} promotions",
        ours=f"{unit}{plan.value:.2f}",
        baseline=f"{unit}{plan.static:.2f}",
        baseline_name="always the same ones",
        certificates=found.certificates,
        draw=draw,
        caption=f"Promotions wear out and recover. The timetable earns {100 * plan.ratio:.1f} % of what any policy could; "
        "no week has more than it may have.",
        code="recovering_bandits(log, K=10, arm='product_category', time='week', unit='product_id')",
    )
