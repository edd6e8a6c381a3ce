"""Windowed calibration error against log-loss and other recalibrators, on real digits.

The paper's fifteen tasks are logits of networks on CIFAR, SVHN and ImageNet, which no package carries;
its claims are tested on real digits with small classifiers. An interval over seeds speaks of training
and split together, since splits share rows.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import numpy as np

from whp.calibration._h_calibration.band import band
from whp.calibration._h_calibration.fit import fit_ensemble, fit_piecewise, fit_temperature
from whp.calibration._h_calibration.maps import HCalibrationMap, standardise
from whp.calibration._h_calibration.metrics import METRICS, ece
from whp.calibration._h_calibration.objective import Objective
from whp.calibration._h_calibration.theorems import calibration_test, error_band, overfit
from whp.certificate import Verdict
from whp.experiment.study import Study
from whp.peers.calibration import dirichlet, isotonic, temperature_scaling
from whp.studies.h_calibration.worlds import labels_of, misses

__all__ = ["SEGMENTS", "TEMPERATURE", "WINDOWS", "images", "naive_logits", "study"]

TEMPERATURE = "temperature scaling"
WINDOWS = (50, 200, 800)
SEGMENTS = (1, 10, 100, 500)
SIZES = {"mnist": (2000, 1500, 1500), "digits": (400, 600, 797)}
# Rows, Dirichlet parameters, how much sharper than the truth.
LAWS: dict[str, tuple[int, tuple[float, ...], float]] = {
    "even": (500, (1, 1, 1), 1.0),
    "even, sharpened": (500, (1, 1, 1), 1.6),
    "ten classes, sharpened": (500, (0.3,) * 10, 1.5),
    "skewed": (300, (8, 1, 1), 1.0),
}
BIASED: dict[str, tuple[int, tuple[float, ...]]] = {
    "even": (5000, (1, 1, 1)),
    "8:1:1": (5000, (8, 1, 1)),
    "binary 4:1": (10000, (4, 1)),
}

Probs = np.ndarray
Part = tuple[np.ndarray, np.ndarray]
study = Study("h-calibration")


@cache
def images(name: str) -> Part:
    """Pixels in [0, 1] and classes."""
    from whp.datasets.images import digits, mnist

    return mnist() if name == "mnist" else digits()


def _parts(name: str, rng: np.random.Generator) -> list[Part]:
    """Rows for training, calibration and test."""
    X, y = images(name)
    order = rng.permutation(len(y))
    return [(X[part], y[part]) for part in np.split(order, np.cumsum(SIZES[name]))[:3]]


def _network_logits(config: dict[str, Any], rng: np.random.Generator) -> list[Part]:
    """Standardised logits and classes of calibration and test rows, of a network of 64 units trained too long."""
    from sklearn.neural_network import MLPClassifier

    (X, y), *rest = _parts(config["data"], rng)
    seed = int(rng.integers(1 << 31))
    net = MLPClassifier(
        (64,), alpha=0.0, batch_size=32, max_iter=config["epochs"], random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is meant to overfit, not to converge
        net.fit(X, y)
    first, second = net.coefs_
    shift, bias = net.intercepts_
    return [
        (standardise(np.maximum(A @ first + shift, 0) @ second + bias), labels)
        for A, labels in rest
    ]


def naive_logits(parts: list[Part]) -> list[Part]:
    """Standardised logits and classes of all parts but the first, which trains Gaussian naive Bayes."""
    from sklearn.naive_bayes import GaussianNB

    (X, y), *rest = parts
    model = GaussianNB(var_smoothing=1e-2).fit(X, y)
    return [(standardise(model.predict_joint_log_proba(A)), labels) for A, labels in rest]


def _floor(P: Probs, rng: np.random.Generator, draws: int = 50) -> float:
    """Mean ECE of these probabilities if they were the true ones."""
    return float(np.mean([ece(P, labels_of(P, rng)) for _ in range(draws)]))


def _row(
    name: str, before: Probs, after: Probs, y: np.ndarray, rng: np.random.Generator
) -> dict[str, Any]:
    """Metrics, floor and changed decisions of one set of test probabilities."""
    row: dict[str, Any] = {"method": name} | {k: metric(after, y) for k, metric in METRICS.items()}
    row["changed"] = int((before.argmax(axis=1) != after.argmax(axis=1)).sum())
    row["accuracy"] = float((after.argmax(axis=1) == y).mean())
    return row | {"excess": row["ece"] - _floor(after, rng)}


def _rows(
    tests: dict[str, Probs], raw: Probs, y: np.ndarray, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """The same with certificates, for several methods."""
    rows = []
    for name, after in tests.items():
        row = _row(name, raw, after, y, rng)
        test = calibration_test(after, y, Objective(), rng=rng)[0]
        for c in (*error_band(after, y), test):
            row |= {f"verdict_{c.name}": str(c.verdict), f"tightness_{c.name}": c.tightness}
        rows.append(row | {"p_value": float(test.inputs["p-value"])})
    return rows


SEEDS = {"quick": 2, "standard": 12, "full": 50}
TWICE = {scale: 2 * n for scale, n in SEEDS.items()}


@study.experiment(
    seeds=SEEDS, data=("digits", "mnist"), epochs=60, quick={"data": "digits", "epochs": 20}
)
def network(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One and several temperatures, slopes and other recalibrators on an overconfident network."""
    (z, y), (t, labels) = _network_logits(config, rng)
    raw = np.exp(t)
    tests = {"none": raw, TEMPERATURE: temperature_scaling(z, y, t)}
    for window in WINDOWS:
        fitted = fit_ensemble(z, y, Objective(window=window), max_iter=120, members=1)[0]
        tests[f"ours, window {window}"] = fitted.apply(t)
    tests["ours, exact search"] = fit_temperature(z, y, Objective())[0].apply(t)
    tests["ours, ensemble"] = fit_ensemble(z, y, Objective())[0].apply(t)
    tests["ours, piecewise"] = fit_piecewise(z, y, Objective())[0].apply(t)
    tests["isotonic"] = isotonic(np.exp(z), y)(raw)
    tests["dirichlet"] = dirichlet(z, y)(t)
    return _rows(tests, raw, labels, rng)


@study.experiment(seeds=TWICE, data=("digits", "mnist"))
def naive_bayes(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Logits in the hundreds."""
    (z, y), (t, labels) = naive_logits(_parts(config["data"], rng))
    raw = np.exp(t)
    tests = {
        "none": raw,
        TEMPERATURE: temperature_scaling(z, y, t),
        "ours": fit_temperature(z, y, Objective())[0].apply(t),
        "ours, ensemble": fit_ensemble(z, y, Objective())[0].apply(t),
        "isotonic": isotonic(np.exp(z), y)(raw),
        "dirichlet": dirichlet(z, y)(t),
    }
    return _rows(tests, raw, labels, rng)


@study.experiment(seeds=TWICE, data="digits")
def imbalanced(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Calibration and test rows keep class 0 whole and a fifth of the others."""
    train, *rest = _parts(config["data"], rng)
    thinned = []
    for A, labels in rest:
        kept = (labels == 0) | (rng.random(len(labels)) < 0.2)
        thinned.append((A[kept], labels[kept]))
    (z, y), (t, labels) = naive_logits([train, *thinned])
    window = min(200, max(2, 2 * (z.size // 40)))
    rows = []
    for kind in ("pooled", "leave-one-class-out", "classwise"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # leaving classes out runs to the edge
            fitted = fit_temperature(z, y, Objective(kind, window=window))[0]
        rows.append({"beta": fitted.beta, **_row(kind, np.exp(t), fitted.apply(t), labels, rng)})
    return rows


@study.experiment(seeds=SEEDS, data="mnist", epochs=60, quick={"data": "digits"})
def segments(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """Maps of 1 to 500 slopes, on 300 rows and on all."""
    (z, y), (t, labels) = _network_logits(config, rng)
    rows = []
    for n in (300, len(y)):
        inside, known = np.ascontiguousarray(z[:n]), y[:n]
        objective = Objective(window=min(200, 2 * (inside.size // 40)))
        for count in SEGMENTS:
            fitted = fit_piecewise(inside, known, objective, segments=count)[0]
            certificate = overfit(fitted.apply(inside), known, objective, rng=rng)
            rows.append(
                {
                    "segments": count,
                    "small": n == 300,
                    "n": n,
                    **_row("piecewise", np.exp(t), fitted.apply(t), labels, rng),
                    "verdict_overfit": str(certificate.verdict),
                    "tightness_overfit": certificate.tightness,
                }
            )
    return rows


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 50},
    law=tuple(LAWS),
    instances=100,
    quick={"instances": 20},
)
def truth(config: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """Instances whose true probabilities are known: how often the band misses one, how often the test rejects."""
    n, alpha, factor = LAWS[config["law"]]
    missed = rejected = 0
    for _ in range(config["instances"]):
        C = rng.dirichlet(alpha, n)
        P = HCalibrationMap.temperature(factor).apply(np.log(np.maximum(C, 1e-300)))
        y = labels_of(C, rng)
        missed += not all(misses(band(P, y, blocks=20), P, C).values())
        test = calibration_test(P, y, Objective(window=50), rng=rng)[0]
        rejected += test.verdict is Verdict.FAILS
    return {"calibrated": factor == 1.0, "missed": missed, "rejected": rejected}


@study.experiment(seeds={"quick": 3, "standard": 20, "full": 100}, law=tuple(BIASED))
def bias(config: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """What both objectives say of perfectly calibrated predictions."""
    n, alpha = BIASED[config["law"]]
    P = rng.dirichlet(alpha, n)
    y = labels_of(P, rng)
    return {"pooled": Objective()(P, y), "left_out": Objective("leave-one-class-out")(P, y)}
