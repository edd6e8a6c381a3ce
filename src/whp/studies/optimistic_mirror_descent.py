"""Optimistic mirror descent: does predictability pay (Chen, Tu, Zhao & Zhang, ICML 2023)?

The paper has no experiments; its comparisons of bounds are tested here, on hourly bicycle hires, biopsies and known models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.experiment.measures import measured
from whp.experiment.study import Claim, Scale, Showcase, select
from whp.intervals import Estimate, bootstrap, exact, mean
from whp.online.optimistic_mirror_descent import (
    Ball,
    OptimisticMirrorDescent,
    OptimisticMirrorDescentResult,
    optimistic_mirror_descent,
    sea_bound,
)
from whp.online.optimistic_mirror_descent.baselines import BASELINES, Baseline, baseline_losses
from whp.online.optimistic_mirror_descent.losses import Linear, normalized_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLAIMS", "FIGURES", "example", "run", "showcase", "trials"]

MULTIPLES = tuple(2.0**k for k in range(-4, 5))  # of each baseline's own step
HIRES = Linear("squared", 1.0, 2.0, 1.0)
PREFIXES = (500, 1000, 2000, 4000, 8645)
NOISES, TURNS = (0.0, 0.1, 0.5, 1.0), (0.0, 0.01, math.pi)
SEGMENTS, CAPS = (1, 2, 5, 10), {"1/(16L)": 0.25, "1/(8L)": 0.5}
RATES = (0.01, 0.1, 1.0, 10.0)


# Trials


def trials(scale: Scale) -> Iterable[dict[str, Any]]:
    """Configurations of all experiments."""
    seeds = {"quick": 3, "standard": 20, "full": 100}[scale]
    yield {"experiment": "hires", "order": "time", "seed": 0}
    for seed in range(seeds):
        yield {"experiment": "hires", "order": "shuffled", "seed": seed}
        yield {"experiment": "growth", "seed": seed}
        for noise in NOISES:
            for turn in TURNS:
                yield {
                    "experiment": "circle",
                    "noise": noise,
                    "turn": turn,
                    "rounds": 2000,
                    "seed": seed,
                }
        for batch in (1, 4, 16):
            yield {"experiment": "batches", "batch": batch, "seed": seed}
        for segments in SEGMENTS:
            yield {"experiment": "segments", "segments": segments, "seed": seed}
        for rounds in (1000, 4000) if scale == "quick" else (1000, 4000, 16000):
            yield {"experiment": "saddle", "rounds": rounds, "seed": seed}
    for seed in range({"quick": 2, "standard": 10, "full": 20}[scale]):
        yield {"experiment": "peers", "seed": seed}


def run(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One trial of the experiment that `config` names."""
    match config["experiment"]:
        case "hires":
            return _hires(config["order"], rng)
        case "growth":
            return _growth(rng)
        case "circle":
            return [_circle(config["noise"], config["turn"], config["rounds"], rng)]
        case "batches":
            return [_batches(config["batch"], rng)]
        case "segments":
            return _segments(config["segments"], rng)
        case "saddle":
            return [_saddle(config["rounds"], rng)]
        case "peers":
            return _peers(rng)
        case other:
            raise ValueError(f"experiment must be one of those of trials(), got {other!r}")


def _certified(*certificates: Certificate) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for certificate in certificates:
        found[f"verdict_{certificate.name}"] = str(certificate.verdict)
        found[f"tightness_{certificate.name}"] = certificate.tightness
    return found


@lru_cache(maxsize=1)
def _hourly() -> tuple[np.ndarray, np.ndarray]:
    from whp.datasets.streams import bikeshare_regression

    table, target = bikeshare_regression()
    return table.to_numpy(dtype=np.float64), target.to_numpy(dtype=np.float64)


@lru_cache(maxsize=1)
def _cancer() -> tuple[np.ndarray, np.ndarray]:
    from whp.datasets.streams import breast_cancer

    return breast_cancer()


def _of(name: str, result: OptimisticMirrorDescentResult) -> dict[str, Any]:
    certificate = result.certificates[0]
    return {
        "rule": name,
        "regret": result.regret,
        "tuned": result.regret,
        "variation": float(result.variation.sum()),
        "bound": certificate.bound,
        "a_priori": float(certificate.inputs.get("a-priori form", math.nan)),
        **_certified(*result.certificates),
    }


def _against(
    rule: Baseline, family: Linear, A: np.ndarray, y: np.ndarray, best: float
) -> dict[str, Any]:
    """A baseline with the step of its theory, and with the best multiple of it in hindsight."""
    losses = {m: float(baseline_losses(rule, family, A, y, multiple=m).sum()) for m in MULTIPLES}
    return {"rule": rule, "regret": losses[1.0] - best, "tuned": min(losses.values()) - best}


def _hires(order: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    X, y = _hourly()
    if order == "shuffled":
        chosen = rng.permutation(len(X))
        X, y = X[chosen], y[chosen]
    given: dict[str, Any] = {"loss": "squared", "radius": HIRES.R}
    runs = {
        "paper": optimistic_mirror_descent(X, y, gradient_bound=3.0, **given),
        "scale-free": optimistic_mirror_descent(X, y, **given),
        "exp-concave": optimistic_mirror_descent(X, y, curvature="exp_concave", **given),
    }
    A, best = normalized_rows(X), runs["paper"].best_loss
    return [_of(k, v) for k, v in runs.items()] + [
        _against(rule, HIRES, A, y, best) for rule in BASELINES
    ]


def _growth(rng: np.random.Generator) -> list[dict[str, Any]]:
    X, y = _hourly()
    chosen = rng.permutation(len(X))
    rows = []
    for T in PREFIXES:
        part, target = X[chosen[:T]], y[chosen[:T]]
        given: dict[str, Any] = {"loss": "squared", "radius": HIRES.R}
        convex = optimistic_mirror_descent(part, target, gradient_bound=3.0, **given)
        curved = optimistic_mirror_descent(part, target, curvature="exp_concave", **given)
        forward = baseline_losses("vovk-azoury-warmuth", HIRES, normalized_rows(part), target).sum()
        rows += [
            {
                "rule": "paper",
                "rounds": T,
                "regret": convex.regret,
                **_certified(*convex.certificates),
            },
            {
                "rule": "exp-concave",
                "rounds": T,
                "regret": curved.regret,
                **_certified(*curved.certificates),
            },
            {
                "rule": "vovk-azoury-warmuth",
                "rounds": T,
                "regret": float(forward) - convex.best_loss,
            },
        ]
    return rows


def _circle(noise: float, turn: float, rounds: int, rng: np.random.Generator) -> dict[str, Any]:
    """½‖x − a_t‖² on the unit ball of ℝ⁵; the mean of a_t walks on a circle, its noise is uniform on a sphere."""
    d, G = 5, 1.5 + noise
    angle = turn * np.arange(rounds)
    centre = np.zeros((rounds, d))
    centre[:, 0], centre[:, 1] = np.cos(angle) / 2, np.sin(angle) / 2
    draws = rng.standard_normal((rounds, d))
    drawn = centre + noise * draws / np.linalg.norm(draws, axis=1, keepdims=True)
    learner = OptimisticMirrorDescent(Ball(1.0), dim=d, smoothness=1.0, gradient_bound=G)
    played = np.zeros((rounds, d))
    for t in range(rounds):
        x = played[t] = learner.x
        learner.step(x - drawn[t])
    ogd, x = np.zeros((rounds, d)), np.zeros(d)
    for t in range(rounds):
        ogd[t] = x
        x = x - 2 / (G * math.sqrt(2 * (t + 1))) * (x - drawn[t])
        x /= max(1.0, float(np.linalg.norm(x)))
    least = (
        (centre - centre.mean(axis=0)) ** 2
    ).sum() / 2  # the mean of the centres lies in the ball
    drift = float((np.diff(centre, axis=0) ** 2).sum())
    return {
        "regret": float(((played - centre) ** 2).sum() / 2 - least),
        "ogd": float(((ogd - centre) ** 2).sum() / 2 - least),
        "variation": learner.gradient_variation,
        "bound": sea_bound("convex", D=2.0, L=1.0, G=G, sigma2=rounds * noise**2, Sigma2=drift),
        **_certified(learner.certificate()),
    }


def _batches(batch: int, rng: np.random.Generator) -> dict[str, Any]:
    X, y = _cancer()
    result = optimistic_mirror_descent(X, y, radius=5.0, batch_size=batch, order="shuffle", rng=rng)
    return _of("scale-free", result)


def _segments(count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Ten shuffled passes over the biopsies; the labels flip from segment to segment."""
    X, y = _cancer()
    chosen = np.concatenate([rng.permutation(len(X)) for _ in range(10)])
    edges = np.linspace(0, len(chosen), count + 1).round().astype(int)
    which = np.searchsorted(edges, np.arange(len(chosen)), side="right") - 1
    rows, target = X[chosen], y[chosen] * (-1.0) ** which
    A, family = normalized_rows(rows), Linear("logistic", 1.0, 5.0, 1.0)
    found = []
    best = 0.0
    for name, cap in CAPS.items():
        moving = optimistic_mirror_descent(
            rows,
            target,
            dynamic=True,
            gradient_bound=1.0,
            segments=count,
            pool_cap=None if name == "1/(16L)" else cap,
        )
        best = moving.best_loss
        found.append(_of(f"dynamic {name}", moving))
    static = optimistic_mirror_descent(rows, target)
    return [
        *found,
        {"rule": "scale-free", "regret": static.loss - best, "tuned": static.loss - best},
        *(
            _against(rule, family, A, target, best)
            for rule in ("ogd", "adagrad-norm", "optimistic-ftrl")
        ),
    ]


def _saddle(rounds: int, rng: np.random.Generator) -> dict[str, Any]:
    """½xᵀ(½I ± 2B)x − 0.3·1ᵀx: each loss may be concave along some direction, their expectation is convex."""
    d, G = 4, 3.1
    B = rng.standard_normal((d, d))
    B = (B + B.T) / 2
    B /= np.linalg.norm(B, 2)
    learner = OptimisticMirrorDescent(Ball(1.0), dim=d, smoothness=0.5, gradient_bound=G)
    signs = rng.choice([-2.0, 2.0], rounds)
    played = np.zeros((rounds, d))
    for t in range(rounds):
        x = played[t] = learner.x
        learner.step(x / 2 + signs[t] * (B @ x) - 0.3)
    optimum = np.full(d, 0.5)  # of ¼‖x‖² − 0.3·1ᵀx over the unit ball
    losses = (played**2).sum(axis=1) / 4 - 0.3 * played.sum(axis=1)
    least = float((optimum**2).sum() / 4 - 0.3 * optimum.sum())
    noise = 4 * float(((played @ B) ** 2).sum())
    return {
        "regret": float(losses.sum() - rounds * least),
        "bound": sea_bound("convex", D=2.0, L=0.5, G=G, sigma2=noise, Sigma2=0.0),
        **_certified(learner.certificate()),
    }


def _peers(rng: np.random.Generator) -> list[dict[str, Any]]:
    """Progressive log loss of one pass over the biopsies: ours untuned, river by default and tuned in hindsight."""
    from river import linear_model, optim

    X, y = _cancer()
    chosen = rng.permutation(len(X))
    X, y = X[chosen], y[chosen]
    forms = {"normalised": normalized_rows(X), "standardised": X}
    rows = [
        {
            "rule": f"R = {radius:g}",
            "rate": 0.0,
            "loss": optimistic_mirror_descent(X, y, radius=radius).loss,
        }
        for radius in (5.0, 20.0)
    ]
    makers = {
        "SGD": lambda lr: optim.SGD(lr),
        "AdaGrad": lambda lr: optim.AdaGrad(lr),
        "FTRL": lambda lr: optim.FTRLProximal(alpha=lr),
    }
    defaults = {"SGD": 0.01, "AdaGrad": 0.1, "FTRL": 0.05}
    for form, A in forms.items():
        table = [dict(enumerate(row.tolist())) for row in A]
        for name, make in makers.items():
            for rate in sorted({*RATES, defaults[name]}):
                model = linear_model.LogisticRegression(optimizer=make(rate))
                loss = 0.0
                for x, label in zip(table, (y > 0).tolist(), strict=True):
                    loss -= math.log(max(model.predict_proba_one(x)[label], 1e-15))
                    model.learn_one(x, label)
                default = rate == defaults[name]
                rows.append(
                    {
                        "rule": f"river {name}",
                        "form": form,
                        "rate": rate,
                        "default": default,
                        "loss": loss,
                    }
                )
    return rows


# Claims


def _column(part: pd.DataFrame, name: str) -> np.ndarray:
    return part.sort_values("seed")[name].to_numpy(dtype=float)


def _less_in_time(column: str) -> Callable[[pd.DataFrame], Estimate]:
    """By how much the shuffled stream exceeds the one in time order."""

    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "hires", rule="paper")
        shuffled, time = (
            _column(part[part["order"] == order], column) for order in ("shuffled", "time")
        )
        return mean(shuffled - time[0])

    return measure


def _beats(order: str, *theirs: str, column: str = "regret") -> Callable[[pd.DataFrame], Estimate]:
    """Regret of the paper's rule less that of the best of `theirs`."""

    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "hires", order=order)
        ours = _column(part[part["rule"] == "paper"], "regret")
        best = np.min([_column(part[part["rule"] == rule], column) for rule in theirs], axis=0)
        return exact(float(ours[0] - best[0])) if order == "time" else mean(ours - best)

    return measure


def _noise_slope(records: pd.DataFrame) -> Estimate:
    part = select(records, "circle", turn=0.0)
    part = part[part["noise"] > 0]
    return mean(_slopes(part, "noise"))


def _slopes(part: pd.DataFrame, over: str, column: str = "regret") -> list[float]:
    return [
        float(
            np.polyfit(
                np.log(g[over].astype(float)), np.log(np.maximum(g[column].astype(float), 1e-9)), 1
            )[0]
        )
        for _, g in part.groupby("seed")
    ]


def _worst_share(experiment: str, *cells: str) -> Callable[[pd.DataFrame], Estimate]:
    """Mean regret over the mean bound in the worst cell: both are expectations."""

    def measure(records: pd.DataFrame) -> Estimate:
        made = []
        for _, g in select(records, experiment).groupby(list(cells)):
            bound = float(g["bound"].mean())
            m = mean(g["regret"].to_numpy(dtype=float))
            made.append(
                Estimate(m.value / bound, m.low / bound, m.high / bound, m.level, m.n, m.method)
            )
        return max(made, key=lambda e: e.high)

    return measure


def _batch_ratio(column: str, larger: int, smaller: int = 1) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        a, b = (
            _column(select(records, "batches", batch=batch), column) for batch in (larger, smaller)
        )
        return mean(a / b)

    return measure


def _curved_ratio(rule: str) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "growth", rounds=PREFIXES[-1])
        a, b = (_column(part[part["rule"] == r], "regret") for r in ("exp-concave", rule))
        return mean(a / b)

    return measure


def _growth_slope(records: pd.DataFrame) -> Estimate:
    """Exponent of T in the regret: the exp-concave rule's less the convex one's."""
    part = select(records, "growth")
    curved, convex = (
        np.array(_slopes(part[part["rule"] == r], "rounds")) for r in ("exp-concave", "paper")
    )
    return mean(curved - convex)


def _moving(
    ours: str, theirs: str, segments: int, column: str = "regret"
) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "segments", segments=segments)
        a = _column(part[part["rule"] == ours], "regret")
        b = _column(part[part["rule"] == theirs], column)
        return mean(a / b)

    return measure


def _broken(records: pd.DataFrame) -> Estimate:
    verdicts = measured(records, "verdict_pathwise-regret")["verdict_pathwise-regret"]
    return exact(float((verdicts == "fails").sum()))


def _saddle_slope(records: pd.DataFrame) -> Estimate:
    return mean(_slopes(select(records, "saddle"), "rounds"))


def _river(radius: float, default: bool) -> Callable[[pd.DataFrame], Estimate]:
    """Ours over the best of river, its rate, optimiser and scaling taken by default or chosen in hindsight."""

    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "peers")
        ours = _column(part[part["rule"] == f"R = {radius:g}"], "loss")
        theirs = part[part["rule"].str.startswith("river")]
        if default:
            theirs = theirs[theirs["default"].astype(bool) & (theirs["form"] == "normalised")]
        best = theirs.groupby("seed")["loss"].min().sort_index().to_numpy(dtype=float)
        return bootstrap(ours / best, np.mean, resamples=1999)

    return measure


NONE = "the paper has no experiment"
CONVEX = "convex theorem: √σ² + √Σ² in the place of √T"
EXTRA = "not in the paper: derived here"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "In time order hourly hires are more predictable than shuffled: less gradient variation.",
        CONVEX,
        "V̄ shuffled less V̄ in time order",
        ">=",
        0.0,
        _less_in_time("variation"),
    ),
    Claim(
        "C1b",
        "So the bound is smaller.",
        CONVEX,
        "a-priori bound, shuffled less in time order",
        ">=",
        0.0,
        _less_in_time("a_priori"),
    ),
    Claim(
        "C1c",
        "And so is the regret.",
        CONVEX,
        "regret shuffled less in time order",
        ">=",
        0.0,
        _less_in_time("regret"),
    ),
    Claim(
        "C2a",
        "In time order optimism beats gradient descent and AdaGrad-norm.",
        NONE,
        "regret less that of the better",
        "<=",
        0.0,
        _beats("time", "ogd", "adagrad-norm"),
        computed=True,
    ),
    Claim(
        "C2b",
        "It keeps up with optimistic FTRL.",
        NONE,
        "regret less that of optimistic FTRL",
        "<=",
        1.0,
        _beats("time", "optimistic-ftrl"),
        computed=True,
    ),
    Claim(
        "C2c",
        "In time order it beats gradient descent and AdaGrad-norm whose steps are tuned in hindsight.",
        NONE,
        "regret less that of the better",
        "<=",
        0.0,
        _beats("time", "ogd", "adagrad-norm", column="tuned"),
        note="Ours is untuned.",
        computed=True,
    ),
    Claim(
        "C2d",
        "Shuffled, optimism costs nothing against gradient descent.",
        NONE,
        "regret less that of gradient descent",
        "<=",
        0.0,
        _beats("shuffled", "ogd"),
        note="Gradients in random order cannot be guessed: expected to fail narrowly.",
    ),
    Claim(
        "C3a",
        "Regret grows linearly in the noise, at least with exponent 0.8.",
        CONVEX,
        "slope of log regret over log σ",
        ">=",
        0.8,
        _noise_slope,
    ),
    Claim(
        "C3b",
        "And at most with exponent 1.2.",
        CONVEX,
        "slope of log regret over log σ",
        "<=",
        1.2,
        _noise_slope,
    ),
    Claim(
        "C3c",
        "The bound in expectation holds from still to adversarial drift.",
        CONVEX,
        "mean regret over bound, worst of 12 cells",
        "<=",
        1.0,
        _worst_share("circle", "noise", "turn"),
    ),
    Claim(
        "C4a",
        "Batches of four cut the gradient variation to less than a quarter.",
        "σ² of a batch's mean gradient",
        "V̄ at b = 4 over V̄ at b = 1",
        "<=",
        0.25,
        _batch_ratio("variation", 4),
    ),
    Claim(
        "C4b",
        "Batches of sixteen have less regret.",
        CONVEX,
        "regret at b = 16 over b = 1",
        "<=",
        1.0,
        _batch_ratio("regret", 16),
    ),
    Claim(
        "C5a",
        "For exp-concave losses the logarithmic rule has less regret than the convex one.",
        "exp-concave theorem: (d/α) log(σ² + Σ²)",
        "regret, exp-concave over convex rule, T = 8,645",
        "<=",
        1.0,
        _curved_ratio("paper"),
        note="Expected to fail at this length: 16d/β outweighs √T until T is in the millions.",
    ),
    Claim(
        "C5b",
        "Its regret grows more slowly in T.",
        "log T against √T",
        "difference of exponents over T = 500…8,645",
        "<=",
        0.0,
        _growth_slope,
    ),
    Claim(
        "C5c",
        "It is within a factor of two of Vovk-Azoury-Warmuth.",
        NONE,
        "ratio of regrets",
        "<=",
        2.0,
        _curved_ratio("vovk-azoury-warmuth"),
    ),
    Claim(
        "C6a",
        "With five flips of all labels the pool beats gradient descent.",
        "dynamic theorem: √(1 + P)",
        "ratio of regrets",
        "<=",
        1.0,
        _moving("dynamic 1/(16L)", "ogd", 5),
    ),
    Claim(
        "C6b",
        "With ten as well.",
        "dynamic theorem: √(1 + P)",
        "ratio of regrets",
        "<=",
        1.0,
        _moving("dynamic 1/(16L)", "ogd", 10),
    ),
    Claim(
        "C6c",
        "With ten flips the pool beats the static rule.",
        "dynamic theorem",
        "ratio of regrets",
        "<=",
        1.0,
        _moving("dynamic 1/(16L)", "scale-free", 10),
        note="Expected to fail: the pool stops at 1/(16L) = 0.25, and the static rule's steps stay larger than that.",
    ),
    Claim(
        "C6d",
        "The paper's cap 1/(8L) learns faster than our certified 1/(16L).",
        "η ≤ 1/(8L)",
        "ratio of regrets, ten flips",
        "<=",
        1.0,
        _moving("dynamic 1/(8L)", "dynamic 1/(16L)", 10),
    ),
    Claim(
        "C7a",
        "Where losses are convex only in expectation the regret still grows like √T.",
        CONVEX,
        "slope of log regret over log T",
        "<=",
        0.6,
        _saddle_slope,
    ),
    Claim(
        "C7b",
        "And stays under the bound.",
        CONVEX,
        "mean regret over mean bound, worst length",
        "<=",
        1.0,
        _worst_share("saddle", "rounds"),
    ),
    Claim(
        "C8a",
        "Untuned, R = 5 beats every default of river on one pass.",
        EXTRA,
        "log loss over the best default",
        "<=",
        1.0,
        _river(5.0, True),
    ),
    Claim(
        "C8b",
        "Untuned, R = 20 is within a fifth of river tuned in hindsight.",
        EXTRA,
        "log loss over the best of optimisers, rates and scalings",
        "<=",
        1.2,
        _river(20.0, False),
    ),
    Claim(
        "C9",
        "No pathwise bound breaks on any run.",
        "theorems on the path",
        "certificates that failed",
        "<=",
        0.0,
        _broken,
    ),
)


# Figures


def _draw_growth(records: pd.DataFrame, ax: Axes) -> None:
    for rule, group in select(records, "growth").groupby("rule"):
        cells = group.groupby("rounds")["regret"].mean()
        ax.plot(cells.index, cells, "o-", label=str(rule))
    ax.set(xscale="log", yscale="log", xlabel="rounds", ylabel="regret, shuffled hires")
    ax.legend(frameon=False)


def _draw_segments(records: pd.DataFrame, ax: Axes) -> None:
    for rule, group in select(records, "segments").groupby("rule"):
        cells = group.groupby("segments")["regret"].mean()
        ax.plot(cells.index, cells, "o-", label=str(rule))
    ax.set(xlabel="segments with flipped labels", ylabel="regret against each segment's best point")
    ax.legend(frameon=False)


def _draw_circle(records: pd.DataFrame, ax: Axes) -> None:
    for turn, group in select(records, "circle").groupby("turn"):
        cells = group.groupby("noise")[["regret", "bound"]].mean()
        (line,) = ax.plot(cells.index, cells["bound"], "--", linewidth=1)
        ax.plot(
            cells.index,
            cells["regret"],
            "o-",
            color=line.get_color(),
            label=f"turns by {turn:.3g} a round",
        )
    ax.set(xlabel="noise σ", ylabel="mean regret, and its bound dashed", yscale="symlog")
    ax.legend(frameon=False)


FIGURES = {"growth": _draw_growth, "segments": _draw_segments, "circle": _draw_circle}


# The example and the showcase


def example() -> dict[str, Any]:
    """Hourly bicycle hires in time order; biopsies in random order without the extra."""
    from whp.datasets.streams import bikeshare_regression, breast_cancer, has_bikeshare

    if not has_bikeshare():
        X, y = breast_cancer()
        return {"X": X, "y": y, "order": "shuffle", "rng": 0}
    table, target = bikeshare_regression()
    return {"X": table, "y": target, "radius": HIRES.R}


def showcase() -> Showcase:
    """A stream in time order: regret hour by hour, against gradient descent and AdaGrad-norm."""
    from whp.datasets.streams import breast_cancer, has_bikeshare

    X, y = _hourly() if has_bikeshare() else breast_cancer()
    family = HIRES if has_bikeshare() else Linear("logistic", 1.0, 5.0, 1.0)
    ours = optimistic_mirror_descent(X, y, radius=family.R)
    A = normalized_rows(X)
    theirs = ours.comparator_losses
    curves = {"optimistic mirror descent": np.cumsum(ours.losses - theirs)}
    names: dict[str, Baseline] = {"AdaGrad-norm": "adagrad-norm", "gradient descent": "ogd"}
    for name, rule in names.items():
        curves[name] = np.cumsum(baseline_losses(rule, family, A, y) - theirs)

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        rounds = np.arange(1, len(X) + 1)
        ax.plot(
            rounds,
            ours.running_bound,
            "--",
            color="0.5",
            label="bound on ours, as the gradients came",
        )
        for (name, curve), colour in zip(
            curves.items(), ("tab:blue", "tab:green", "tab:orange"), strict=True
        ):
            ax.plot(rounds, curve, color=colour, label=name)
        ax.axhline(0, color="0.8", linewidth=0.8, zorder=0)
        ax.set(xlabel="hours", ylabel="regret against the best fixed predictor")
        ax.legend(frameon=False)

    return Showcase(
        data=f"{len(X):,} hours of bicycle hires in time order"
        if has_bikeshare()
        else f"{len(X)} biopsies",
        quantity="regret against the best fixed predictor",
        ours=f"{ours.regret:.1f}",
        baseline=f"{curves['gradient descent'][-1]:.1f}",
        baseline_name="online gradient descent",
        certificates=ours.certificates,
        draw=draw,
        caption="Below zero the learner predicts better than the best fixed predictor in hindsight: it follows the day. No "
        "learning rate was set; the dashed bound holds for whatever gradients come.",
        code="optimistic_mirror_descent(X, y, radius=2)",
    )
