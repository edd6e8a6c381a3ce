"""What is run: hourly bicycle hires, biopsies and environments whose variances are known, against baselines and river."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from whp.certificate import Certificate
from whp.experiment.study import Study
from whp.online import (
    Ball,
    OptimisticMirrorDescent,
    OptimisticMirrorDescentResult,
    optimistic_mirror_descent,
    sea_bound,
)
from whp.online._optimistic_mirror_descent.losses import Linear, normalized_rows
from whp.peers.descent import BASELINES, Baseline, baseline_losses

__all__ = ["HIRES", "PREFIXES", "hourly", "study"]

Row = dict[str, Any]
MULTIPLES = tuple(2.0**k for k in range(-4, 5))  # of each baseline's own step
HIRES = Linear("squared", 1.0, 2.0, 1.0)
PREFIXES = (500, 1000, 2000, 4000, 8645)
NOISES, TURNS = (0.0, 0.1, 0.5, 1.0), (0.0, 0.01, math.pi)
SEGMENTS, CAPS = (1, 2, 5, 10), {"1/(16L)": 0.25, "1/(8L)": 0.5}
RATES = (0.01, 0.1, 1.0, 10.0)
SEEDS = {"quick": 3, "standard": 20, "full": 100}

study = Study("optimistic-mirror-descent")


def _certified(*certificates: Certificate) -> Row:
    found: Row = {}
    for certificate in certificates:
        found[f"verdict_{certificate.name}"] = str(certificate.verdict)
        found[f"tightness_{certificate.name}"] = certificate.tightness
    return found


@lru_cache(maxsize=1)
def hourly() -> tuple[np.ndarray, np.ndarray]:
    """Hours of bicycle hires: features, and riders as a share of the most."""
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


def _hires(X: np.ndarray, y: np.ndarray) -> list[Row]:
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


@study.experiment(seeds=1)
def hires_in_time(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Hourly hires in the order of time."""
    return _hires(*hourly())


@study.experiment(seeds=SEEDS)
def hires_shuffled(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """The same hours in random order, with the variation, bound and regret of the paper's rule in time beside."""
    X, y = hourly()
    chosen = rng.permutation(len(X))
    rows = _hires(X[chosen], y[chosen])
    in_time = optimistic_mirror_descent(X, y, loss="squared", radius=HIRES.R, gradient_bound=3.0)
    beside = _of("paper", in_time)
    for row in rows:
        if row["rule"] == "paper":
            row |= {f"{k}_less": row[k] - beside[k] for k in ("variation", "a_priori", "regret")}
    theirs = {row["rule"]: row["regret"] for row in rows}
    rows[0]["over_ogd"] = rows[0]["regret"] - theirs["ogd"]
    return rows


@study.experiment(seeds=SEEDS)
def growth(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Prefixes of the shuffled hours."""
    X, y = hourly()
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


@study.experiment(seeds=SEEDS, noise=NOISES, turn=TURNS, rounds=2000)
def circle(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """½‖x − a_t‖² on the unit ball of ℝ⁵; the mean of a_t walks on a circle, its noise is uniform on a sphere."""
    noise, turn, rounds = config["noise"], config["turn"], config["rounds"]
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


@study.experiment(seeds=SEEDS, batch=(1, 4, 16))
def batches(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Biopsies in random order, in batches."""
    X, y = _cancer()
    size = config["batch"]
    result = optimistic_mirror_descent(X, y, radius=5.0, batch_size=size, order="shuffle", rng=rng)
    return _of("scale-free", result)


@study.experiment(seeds=SEEDS, segments=SEGMENTS)
def segments(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Ten shuffled passes over the biopsies; the labels flip from segment to segment."""
    X, y = _cancer()
    count = config["segments"]
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


@study.experiment(seeds=SEEDS, rounds=(1000, 4000, 16000), quick={"rounds": (1000, 4000)})
def saddle(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """½xᵀ(½I ± 2B)x − 0.3·1ᵀx: each loss may be concave along some direction, their expectation is convex."""
    rounds, d, G = config["rounds"], 4, 3.1
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


@study.experiment(seeds={"quick": 2, "standard": 10, "full": 20})
def peers(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
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
