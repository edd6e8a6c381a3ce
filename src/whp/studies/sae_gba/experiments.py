"""Sparse dictionaries on the statistical model and on real activations."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from whp.datasets.superposition import simulated
from whp.experiment.study import Scale, Study
from whp.interpretability._sae_gba.formulas import nearest, recovery_rate, unit_rows
from whp.interpretability._sae_gba.front_door import sae_gba
from whp.interpretability._sae_gba.power import bias_adaptation
from whp.interpretability._sae_gba.training import Training

__all__ = ["MIXED", "RATIOS", "REAL", "study"]

RATIOS = (0.25, 0.5, 1.0, 2.0, 4.0)
MIXED: dict[str, dict[str, Any]] = {
    "gba": {"method": "gba"},
    "gba, wrong range": {"method": "gba", "high": 0.01, "low": 0.001},
    "topk 3": {"method": "topk", "k": 3},
    "topk 20": {"method": "topk", "k": 20},
    "l1": {"method": "l1", "l1": 0.05},
}
REAL: dict[str, dict[str, Any]] = {
    "gba": {"method": "gba", "high": 0.1},
    "topk 8": {"method": "topk", "k": 8},
    "topk 19": {"method": "topk", "k": 19},
    "l1": {"method": "l1"},
    "gba, high .05": {"method": "gba", "high": 0.05},
    "gba, high .2": {"method": "gba", "high": 0.2},
    "topk 12": {"method": "topk", "k": 12},
    "topk 40": {"method": "topk", "k": 40},
}
Row = dict[str, Any]
SEEDS = {"quick": 2, "standard": 5, "full": 20}
FEWER = {"quick": 2, "standard": 3, "full": 6}
study = Study("sae-gba")


@contextmanager
def _few_rows() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*rows are few")
        yield


def _points(scale: Scale) -> list[Row]:
    usual: Row = {"neurons": 512, "unit": True}
    points = [{"ratio": ratio, **usual} for ratio in RATIOS]
    points += [{"ratio": 1.0, **usual, "neurons": neurons} for neurons in (128, 2048)]
    return [*points, {"ratio": 1.0, "neurons": 2048, "unit": False}]


@study.experiment(seeds=SEEDS, grid=_points)
def resonance(config: Row, rng: np.random.Generator) -> Row:
    """The theorem's algorithm at a target p around the features' frequency f = 3/128."""
    given = np.random.default_rng(config["seed"])
    X, V, _ = simulated(128, 64, (3,), 6000, given, same_length=config["unit"])
    W, _ = bias_adaptation(X, config["neurons"], 3 / 128 * config["ratio"], rng=config["seed"])
    return {"frr": recovery_rate(V, W), "on_feature": float((nearest(W, V) >= 0.9).mean())}


@study.experiment(seeds=SEEDS)
def crowded(config: Row, rng: np.random.Generator) -> Row:
    """256 features in 10 dimensions."""
    X, V, _ = simulated(256, 10, (3,), 6000, np.random.default_rng(config["seed"]))
    W, _ = bias_adaptation(X, 512, 3 / 256, rng=config["seed"])
    return {"frr": recovery_rate(V, W), "chance": recovery_rate(V, rng.normal(size=W.shape))}


@study.experiment(seeds=SEEDS, steps=1500, quick={"steps": 400})
def shrinkage(config: Row, rng: np.random.Generator) -> list[Row]:
    """Slope of true on recovered coefficients, neurons within 0.9 of a feature."""
    X, V, H = simulated(128, 64, (3,), 6000, np.random.default_rng(config["seed"]))
    training = Training(steps=config["steps"], batch_size=256, lr=3e-3)
    rows = []
    kinds: dict[str, Row] = {
        "gba": {"method": "gba", "high": 0.1},
        "l1": {"method": "l1", "l1": 0.05},
    }
    for method, options in kinds.items():
        made = sae_gba(X, 512, training=training, n_seeds=1, rng=config["seed"], **options)
        cosines = unit_rows(made.decoder) @ unit_rows(V).T
        near = cosines.max(axis=1) >= 0.9
        if not near.any():
            continue
        codes = made.encode(X[:2000]).toarray()[:, near] * made.scale[near] * made.input_scale
        true = H[:2000][:, cosines[near].argmax(axis=1)]
        both = (codes > 0) & (true > 0)
        slope = (
            float((codes[both] * true[both]).sum() / np.square(codes[both]).sum())
            if both.any()
            else float("nan")
        )
        rows.append({"method": method, "slope": slope, "neurons_near": int(near.sum())})
    return rows


def _row(made: Any) -> Row:
    row: Row = {"fvu": made.fvu.value, "active": made.active, "alive": made.alive}
    for c in made.certificates:
        row[f"verdict_{c.name}"], row[f"tightness_{c.name}"] = str(c.verdict), c.tightness
    if np.isfinite(made.consistency).any():
        live = made.frequency > 0
        for level in (0.5, 0.7, 0.9):
            row[f"back_{level}"] = float((made.consistency[live] > level).mean())
        most = np.argsort(-made.frequency)[: max(1, len(live) // 20)]
        row["back_top"] = float((made.consistency[most] > 0.9).mean())
        chance = next(c for c in made.certificates if c.name == "came-back")
        row["chance_0.7"] = float(chance.inputs["chance, covariance"])
        row["chance_rows_0.7"] = float(chance.inputs["chance, rows"])
    return row


def _mixtures(scale: Scale) -> list[Row]:
    """The same grid of rates and widths for every method."""
    methods = list(MIXED)[::2] if scale == "quick" else list(MIXED)
    points = [(3e-3, 512)] if scale == "quick" else [(3e-3, 512), (1e-3, 512), (3e-3, 256)]
    return [{"method": m, "lr": lr, "neurons": M} for m in methods for lr, M in points]


@study.experiment(
    seeds=FEWER,
    grid=_mixtures,
    rows=20_000,
    steps=3000,
    quick={"rows": 4000, "steps": 300},
    full={"rows": 20_000, "steps": 30_000},
)
def mixed(config: Row, rng: np.random.Generator) -> Row:
    """Half of the rows hold 3 features, half 20: 128 features in 42 dimensions."""
    X, V, _ = simulated(128, 42, (3, 20), config["rows"], np.random.default_rng(config["seed"]))
    training = Training(steps=config["steps"], batch_size=256, lr=config["lr"])
    options = MIXED[config["method"]]
    with _few_rows():
        made = sae_gba(
            X, config["neurons"], training=training, n_seeds=1, rng=config["seed"], **options
        )
    near = {f"frr{k}": recovery_rate(V, made.decoder, k / 10) for k in (8, 9)}
    return _row(made) | near


def _dictionary(config: Row) -> Row:
    from whp.datasets.activations import transformer_activations, word_vectors

    if config["experiment"] == "tokens":
        A, groups = word_vectors(), None
    else:
        A, _, groups = transformer_activations()
    training = Training(steps=config["steps"], batch_size=256, lr=2e-3)
    made = sae_gba(
        A,
        1024,
        training=training,
        n_seeds=2,
        groups=groups,
        rng=config["seed"],
        **REAL[config["method"]],
    )
    return _row(made)


def _lengths(scale: Scale) -> list[Row]:
    if scale == "quick":
        return []
    return [{"method": method, "steps": 1200} for method in REAL]


@study.experiment(seeds={"standard": 3, "full": 6}, grid=_lengths)
def real(config: Row, rng: np.random.Generator) -> Row:
    """A dictionary of 1,024 of a transformer's activations, and how much comes back under a second seed."""
    return _dictionary(config)


def _longer(scale: Scale) -> list[Row]:
    steps = 4000 if scale == "standard" else 20_000
    return [{"method": method, "steps": steps} for method in ("gba", "topk 19")]


@study.experiment(seeds={"standard": 1, "full": 2}, grid=_longer)
def longer(config: Row, rng: np.random.Generator) -> Row:
    """The same, trained longer."""
    return _dictionary(config | {"seed": 100 + config["seed"]})


@study.experiment(seeds={"standard": 1, "full": 3}, method=("gba", "topk 8"), steps=1200)
def tokens(config: Row, rng: np.random.Generator) -> Row:
    """A dictionary of word vectors, which are nearly isotropic."""
    return _dictionary(config)


@study.experiment(seeds={"standard": 1, "full": 1}, neurons=4096)
def million(config: Row, rng: np.random.Generator) -> Row:
    """One pass over a million activations of width 384 with 4,096 neurons."""
    from whp.datasets.activations import phrases

    A = phrases()
    start = time.perf_counter()
    training = Training(steps=int(0.9 * len(A)) // 512, batch_size=512, lr=1e-3)
    made = sae_gba(A, config["neurons"], training=training, n_seeds=1, high=0.1, rng=config["seed"])
    minutes = (time.perf_counter() - start) / 60
    return _row(made) | {"rows": len(A), "steps_done": training.steps, "minutes": minutes}
