"""What is claimed, and how it is measured from the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from whp.experiment.measures import Measuring, least, mean, measure, paired, rate, share, statistic
from whp.experiment.study import Claim, select
from whp.intervals import mean as interval
from whp.result import PALETTE
from whp.studies.comp_sum_losses.experiments import RADIUS, study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from whp.intervals import Estimate

__all__ = ["CLAIMS", "FIGURES"]

NONE = "not in the paper"
SEEDS = "Splits share rows: the interval speaks of training and split, not of new data."
SMALL = (
    "A small network on 1,200 digits: all three methods lie on one curve of clean against robust "
    "accuracy, and there is little to gain over it."
)
ATTACKED = (
    "CIFAR-10, WRN-70-16: 85.3 clean / 57.1 AutoAttack of TRADES' recipe, 86.2 / 57.8 of theirs (as "
    "remembered)"
)
BUDGET = "clean and robust accuracy / 2, six values of each method's parameter, chosen on the other seeds"
INTERMEDIATE = "intermediate dials are best under noise; no number read"
ERROR = "clean test error, difference"


def dial(noise: float, tau: float, less: float = 1.0, experiment: str = "noise") -> Measuring:
    """Clean error of a dial less that of another one."""
    where = {"experiment": experiment, "noise": noise}
    return paired("clean_error", tau=tau, less=less, where=where)


@measure
def smallest_is_worst(records: pd.DataFrame, level: float) -> Estimate:
    """Share of seeds in which the dial 0 has the largest clean error, at both noise levels."""
    rows = select(records, "noise", noise=[0.2, 0.4])
    select(rows, tau=0.0)
    table = rows.pivot_table(index=["seed", "noise"], columns="tau", values="clean_error").dropna()
    worst = (table.idxmax(axis=1) == 0.0).groupby("seed").all()
    frame = pd.DataFrame({"seed": worst.index, "worst": worst.to_numpy()})
    made = share("worst")(frame, level)
    if isinstance(made, Exception):
        raise made
    return made


def regret(reduce: Any, **where: Any) -> Measuring:
    """A number of the least ratios of exact regrets to what the transformation promises."""
    return statistic(reduce, {"experiment": "regret", **where})


def over_power(rows: pd.DataFrame) -> float:
    """Least regret over the transformation, over (n/2)^(τ−1), at τ = 1.5."""
    found = rows.groupby("classes")["least"].min()
    return float((found / (found.index.to_numpy() / 2) ** 0.5).min())


def curve(method: str) -> Measuring:
    """Ours less another method, each with the parameter that was best on the other seeds."""

    def chosen(records: pd.DataFrame, name: str) -> pd.DataFrame:
        part = select(records, "attack", method=name, tau=1.0, rho=1.0)
        table = part.pivot_table(index="parameter", columns="seed", values="both")
        best = {s: table.drop(columns=s).mean(axis=1).idxmax() for s in table.columns}
        scores = [table.loc[best[s], s] for s in table.columns]
        return pd.DataFrame({"seed": list(table.columns), "method": name, "both": scores})

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        both = pd.concat([chosen(records, "ours"), chosen(records, method)])
        made = paired("both", method="ours", less=method)(both, level)
        if isinstance(made, Exception):
            raise made
        return made

    return take


def at(method: str, value: float, score: str, experiment: str = "attack") -> Measuring:
    """Ours at ν = 0.3 less another method at one value of its parameter."""

    @measure
    def take(records: pd.DataFrame, level: float) -> Estimate:
        rows = select(records, experiment, tau=1.0, rho=1.0)
        both = [
            select(rows, method=name, parameter=parameter)
            for name, parameter in (("ours", 0.3), (method, value))
        ]
        made = paired(score, method="ours", less=method)(pd.concat(both), level)
        if isinstance(made, Exception):
            raise made
        return made

    return take


CLAIMS = study.claims(
    Claim(
        "C1a",
        "No distribution has less regret than the transformation says (Theorem 3.1).",
        "Theorem 3.1",
        "least regret over T_τ, random distributions, 2 to 10 classes",
        at_least=1 - 1e-9,
        measure=least("least", {"experiment": "regret"}),
    ),
    Claim(
        "C1b",
        "Two classes: it is tight for every dial.",
        "tight",
        "largest over dials of the least ratio",
        at_most=1.01,
        measure=regret(lambda r: float(r.groupby("dial")["least"].min().max()), classes=2),
    ),
    Claim(
        "C1c",
        "τ ≤ 1: it is tight for any number of classes.",
        "tight",
        "largest over dials and classes of the least ratio",
        at_most=1.05,
        measure=regret(
            lambda r: float(r.groupby(["dial", "classes"])["least"].min().max()),
            dial=[0.0, 0.5, 1.0],
        ),
    ),
    Claim(
        "C1d",
        "1 < τ < 2, three classes and more: it is tight.",
        "tight",
        "smallest of the least ratios",
        at_most=1.05,
        measure=regret(lambda r: float(r["least"].min()), dial=[1.2, 1.5, 1.8], classes=[3, 5, 10]),
        note="Exact regrets are larger by (n/2)^(τ−1) up to τ = 1.5: the transformation is valid and "
        "not tight there.",
    ),
    Claim(
        "C1e",
        "At τ = 1.5 the regret is at least (n/2)^(τ−1) times the transformation.",
        NONE,
        "smallest ratio to that",
        at_least=0.999,
        measure=regret(over_power, dial=1.5, classes=[3, 5, 10]),
    ),
    Claim(
        "C1f",
        "No distribution has less regret than the sharper transformation.",
        NONE,
        "least ratio",
        at_least=1.0,
        measure=least("sharpest", {"experiment": "regret"}),
    ),
    Claim(
        "C2a",
        "Digits, a fifth of the labels flipped: τ = 1.7 has lower clean error than cross-entropy by 3 "
        "points or more.",
        INTERMEDIATE,
        ERROR,
        at_most=-0.03,
        measure=dial(0.2, 1.7),
        note=SEEDS,
    ),
    Claim(
        "C2b",
        "The same with two fifths flipped.",
        "no number read",
        ERROR,
        at_most=-0.03,
        measure=dial(0.4, 1.7),
        note=SEEDS,
    ),
    Claim(
        "C2c",
        "MNIST, a fifth flipped.",
        "no number read",
        ERROR,
        at_most=0.0,
        measure=dial(0.2, 1.7, experiment="noise on mnist"),
        note=SEEDS,
    ),
    Claim(
        "C2d",
        "Without noise τ = 1.7 costs at most half a point.",
        "no number read",
        ERROR,
        at_most=0.005,
        measure=dial(0.0, 1.7),
        note=SEEDS,
    ),
    Claim(
        "C2e",
        "Mean absolute error (τ = 2) is worse than τ = 1.7 under noise of a fifth.",
        "τ = 2 collapses on CIFAR-100",
        ERROR,
        at_least=0.0,
        measure=dial(0.2, 2.0, less=1.7),
        note=SEEDS,
    ),
    Claim(
        "C2f",
        "The smallest dial is the worst under noise.",
        "sum-exponential is worst",
        "share of seeds, both noise levels",
        at_least=0.5,
        measure=smallest_is_worst,
    ),
    Claim(
        "C2g",
        "The bound on the excess error at τ = 1.7 and a fifth flipped says less than the elementary one.",
        NONE,
        "share of runs that say vacuous",
        at_least=0.5,
        measure=share(
            "verdict_h-consistency",
            {"experiment": "noise", "noise": 0.2, "tau": 1.7},
            equals="vacuous",
            by="seed",
        ),
    ),
    Claim(
        "C3a",
        "Known probabilities (digits, centroid teacher): the limit of the risk is below it in at most "
        "5 % of samples.",
        NONE,
        "share of samples",
        at_most=0.05,
        measure=rate("missed", "instances", {"experiment": "truth"}),
    ),
    Claim(
        "C3b",
        "The bound of the excess error is broken in at most 5 % of samples.",
        NONE,
        "share of samples",
        at_most=0.05,
        measure=rate("broken", "instances", {"experiment": "truth"}),
    ),
    Claim(
        "C3c",
        "There the theorem's bound at τ = 1 beats the elementary one.",
        NONE,
        "bound less elementary bound",
        at_most=0.0,
        measure=mean(
            lambda r: float((r["bound"] - r["elementary"]).mean()),
            {"experiment": "truth", "dial": 1.0},
        ),
        computed=True,
    ),
    Claim(
        "C4a",
        "Digits, attacks within 0.1: better than TRADES at the same budget.",
        ATTACKED,
        BUDGET,
        at_least=0.0,
        measure=curve("trades"),
        note=SEEDS,
    ),
    Claim(
        "C4b",
        "Better than adversarial training at the same budget.",
        "better than the state of the art",
        BUDGET,
        at_least=0.0,
        measure=curve("pgd"),
        note=f"{SMALL} {SEEDS}",
    ),
    Claim(
        "C4c",
        "Robust accuracy at ν = 0.3 is not below that of TRADES with λ = 6.",
        ATTACKED,
        "difference",
        at_least=0.0,
        measure=at("trades", 6.0, "robust"),
        note=SEEDS,
    ),
    Claim(
        "C4d",
        "Clean accuracy at ν = 0.3 is not below that of TRADES with λ = 6.",
        ATTACKED,
        "difference",
        at_least=0.0,
        measure=at("trades", 6.0, "clean"),
        note=SEEDS,
    ),
    Claim(
        "C4e",
        "MNIST: robust accuracy at ν = 0.3 is not below that of TRADES with λ = 6.",
        ATTACKED,
        "difference",
        at_least=0.0,
        measure=at("trades", 6.0, "robust", "attack on mnist"),
        note=SEEDS,
    ),
    Claim(
        "C5a",
        "The ρ-margin bound is never below the robust error.",
        NONE,
        "least bound less robust error",
        at_least=0.0,
        measure=least("above", {"experiment": "robust"}),
    ),
    Claim(
        "C5b",
        "Of a linear classifier, the ρ-margin bound says more than the count of rows that are not safe.",
        NONE,
        "share of seeds in which it holds at both radii",
        at_least=0.5,
        measure=share(
            "verdict_robust-margin",
            {"experiment": "robust", "model": "linear"},
            equals="holds",
            each="all",
            by="seed",
        ),
        note="It cannot: each row that is not safe costs Φ(1) or more, so that the count is never above "
        "it.",
    ),
    Claim(
        "C5c",
        "The smooth loss's bound says nothing.",
        NONE,
        "share of seeds in which it is vacuous for both models, radius 0.05",
        at_least=0.5,
        measure=share(
            "verdict_robust-smooth",
            {"experiment": "robust", "radius": 0.05},
            equals="vacuous",
            each="all",
            by="seed",
        ),
    ),
)


def _draw_noise(records: pd.DataFrame, ax: Axes) -> None:
    colours = iter(("ours", "other", "third", "fourth"))
    for noise, group in select(records, "noise").groupby("noise"):
        cells = {float(t): interval(g["clean_error"]) for t, g in group.groupby("tau")}
        taus, colour = sorted(cells), PALETTE[next(colours)]
        label = f"{noise:.0%} of the labels flipped"
        ax.plot(taus, [cells[t].value for t in taus], "o-", color=colour, label=label)
        low, high = ([getattr(cells[t], end) for t in taus] for end in ("low", "high"))
        ax.fill_between(taus, low, high, color=colour, alpha=0.15)
    ax.set(
        xlabel="dial τ (1: cross-entropy, 2: mean absolute error)",
        ylabel="error on clean test digits",
    )
    ax.legend(frameon=False)


def _draw_attack(records: pd.DataFrame, ax: Axes) -> None:
    shown = {
        "standard": ("no attack", "quiet"),
        "ours": ("adversarial comp-sum", "ours"),
        "trades": ("TRADES", "other"),
        "pgd": ("adversarial training", "third"),
    }
    part = select(records, "attack", tau=1.0, rho=1.0)
    for method, group in part.groupby("method"):
        label, colour = shown[str(method)]
        line = group.groupby("parameter")[["clean", "robust"]].mean().sort_values("clean")
        ax.plot(line["clean"], line["robust"], "o-", color=PALETTE[colour], label=label)
    ax.set(xlabel="clean accuracy", ylabel=f"accuracy under attack, radius {RADIUS}")
    ax.legend(frameon=False)


def _draw_truth(records: pd.DataFrame, ax: Axes) -> None:
    table = select(records, "truth").groupby("dial")[["bound", "elementary", "excess"]].mean()
    for column, label, colour in (
        ("bound", "the theorem", "ours"),
        ("elementary", "elementary", "other"),
        ("excess", "truth", "truth"),
    ):
        ax.plot(table.index, table[column], "o-", color=PALETTE[colour], label=label)
    ax.set(xlabel="dial τ", ylabel="excess error", ylim=(0, 1.05))
    ax.legend(frameon=False)


FIGURES = {"noise": _draw_noise, "attack": _draw_attack, "truth": _draw_truth}
