"""What is run: sketches of generated and real least-squares problems against the exact solution."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg as sl
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from whp.datasets.linear_models import deceptive_map, dense_regression, spike
from whp.experiment.study import Scale, Study
from whp.linalg import (
    SRHT,
    LinfRegression,
    PooledHadamard,
    SubsampledCirculant,
    sketch_and_solve,
    tensor_linf_regression,
)
from whp.peers.sketches import CountSketch, RowSampling

__all__ = ["CONTRAST", "DIAMONDS_ROWS", "FLIGHTS_ROWS", "study"]

CONTRAST = 0.05 * 0.05 / (1 - 0.05**2)
DIAMONDS_ROWS, FLIGHTS_ROWS = 768, 1600
Row = dict[str, Any]

study = Study("linf-regression")


def judged(
    name: str, result: LinfRegression, exact: np.ndarray, residual: float, pinv: float
) -> Row:
    """What is recorded of one sketch; errors of columns scaled to norm 1, as the bound has them."""
    error = np.abs(result.x - exact) * result.column_norms
    low, high = result.conf_int(0.95).T
    relative, bound = float(error.max() / (residual * pinv)), result.certificates[1].bound
    return {
        "sketch": name,
        "scaled_error": math.sqrt(result.rows) * relative,
        "flatness": float(error.max() / max(np.linalg.norm(error), np.finfo(float).tiny)),
        "covered": bool(((low <= exact) & (exact <= high)).all()),
        "bounds": 1,
        "broken": int(relative > bound),
        "tightness_linf-bound": relative / bound if math.isfinite(bound) else None,
    }


def _sizes(scale: Scale) -> list[Mapping[str, Any]]:
    d = {"quick": (16, 64), "standard": (16, 64, 256), "full": (16, 64, 256, 1024)}[scale]
    return [{"d": v, "n": 4096 if scale == "quick" else 32 * v} for v in d]


@study.experiment(
    seeds={"quick": 4, "standard": 30, "full": 100},
    grid=_sizes,
    design=("gaussian", "student", "spike"),
)
def dimension(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Four sketches of m = 16 d rows on designs of d columns."""
    d = config["d"]
    m = 16 * d
    if config["design"] == "spike":
        A, b = spike(d, m)
        exact, residual, pinv = np.zeros(d), 1.0, 1.0
    else:
        A, b = dense_regression(max(config["n"], 2 * m), d, rng, design=config["design"])
        exact = sl.lstsq(A, b, lapack_driver="gelsy", check_finite=False)[0]
        residual = float(np.linalg.norm(b - A @ exact))
        scaled = A / np.linalg.norm(A, axis=0)
        pinv = 1 / float(np.sqrt(sl.eigvalsh(scaled.T @ scaled)[0]))
    # On the spike n = d + 16 < m: these sketches see it padded with zeros, which changes nothing.
    n = max(len(A), 2 * m)
    A, b = np.pad(A, ((0, n - len(A)), (0, 0))), np.pad(b, (0, n - len(b)))
    rows = []
    makers = (SRHT, PooledHadamard, SubsampledCirculant, CountSketch)
    for make in makers:
        operator: Any = make(n, m, rng)
        try:
            row = judged(operator.family, sketch_and_solve(operator, A, b), exact, residual, pinv)
        except np.linalg.LinAlgError:  # columns collided: judge the solution of least norm
            error = np.abs(sl.lstsq(operator @ A, operator @ b)[0] - exact)
            size = float(np.linalg.norm(error))
            row = {
                "sketch": operator.family,
                "scaled_error": float(math.sqrt(m) * error.max() / (residual * pinv)),
                "flatness": float(error.max() / size) if size else 0.0,
                "covered": False,
            }
        row["over_limit"] = row["scaled_error"] / (1.5 * math.sqrt(2 * math.log(2 * d)))
        row["unevenness"] = row["flatness"] / math.sqrt(2 * math.log(d) / d)
        row["collided"] = row["scaled_error"] >= 0.49 * math.sqrt(d)
        rows.append({"m": m, **row})
    return rows


@lru_cache(maxsize=2)
def _table(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float, np.ndarray]:
    """A, b, exact solution, ‖r‖, ‖A†‖ after scaling, leverage scores."""
    from whp.datasets.tables import diamonds_regression, flights_regression

    frame, target = diamonds_regression(full=True) if name == "diamonds" else flights_regression()
    A, b = frame.to_numpy(), target.to_numpy(dtype=np.float64)
    norms = np.linalg.norm(A, axis=0)
    q, r = sl.qr(A / norms, mode="economic")
    exact = sl.solve_triangular(r, q.T @ b) / norms
    pinv = 1 / float(sl.svdvals(r)[-1])
    return A, b, exact, float(np.linalg.norm(b - A @ exact)), pinv, np.einsum("ij,ij->i", q, q)


def _on_table(name: str, m: int, makers: Mapping[str, LinearOperator]) -> list[Row]:
    A, b, exact, residual, pinv, _ = _table(name)
    rows = []
    for sketch, operator in makers.items():
        try:
            row = judged(sketch, sketch_and_solve(operator, A, b), exact, residual, pinv)
        except np.linalg.LinAlgError:  # the rows miss a column altogether: an airline, an hour
            row = {"sketch": sketch, "covered": False}
        rows.append({"m": m, **row})
    return rows


def _sketches(name: str, m: int, rng: np.random.Generator) -> dict[str, LinearOperator]:
    A, *_, leverage = _table(name)
    n = len(A)
    return {
        "srht": SRHT(n, m, rng),
        "pooled": PooledHadamard(n, m, rng),
        "countsketch": CountSketch(n, m, rng),
        "uniform rows": RowSampling(n, m, rng),
        "leverage rows": RowSampling(n, m, rng, leverage),
    }


@study.experiment(seeds={"quick": 12, "standard": 200, "full": 1000}, rows=DIAMONDS_ROWS)
def diamonds(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """53,940 diamonds, and the bootstrap of the SRHT."""
    m = config["rows"]
    makers = _sketches("diamonds", m, rng)
    A, b, exact, *_ = _table("diamonds")
    makers["srht with replacement"] = SRHT(len(A), m, rng, replace=True)
    makers["circulant"] = SubsampledCirculant(len(A), m, rng)
    resampled = {
        "m": m,
        "sketch": "srht, bootstrap",
        **_bootstrap(makers["srht"], A, b, exact, rng),
    }
    return [*_on_table("diamonds", m, makers), resampled]


@study.experiment(seeds={"quick": 3, "standard": 40, "full": 200}, rows=FLIGHTS_ROWS)
def flights(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """327,346 flights."""
    return _on_table("flights", config["rows"], _sketches("flights", config["rows"], rng))


def _bootstrap(
    operator: LinearOperator,
    A: np.ndarray,
    b: np.ndarray,
    exact: np.ndarray,
    rng: np.random.Generator,
    draws: int = 100,
) -> Row:
    """Error bars by resampling the sketched rows (Lopes, Wang & Mahoney 2018), and their cost."""
    norms = np.linalg.norm(A, axis=0)
    SA, Sb = operator @ (A / norms), operator @ b
    start = time.perf_counter()
    R = sl.qr(np.column_stack([SA, Sb]), mode="r", check_finite=False)[0]
    sl.solve_triangular(R[: len(norms), : len(norms)], np.eye(len(norms)), check_finite=False)
    middle = time.perf_counter()
    centre = sl.lstsq(SA, Sb, lapack_driver="gelsy", check_finite=False)[0]
    largest = []
    for _ in range(draws):
        chosen = rng.integers(len(SA), size=len(SA))
        again = sl.lstsq(SA[chosen], Sb[chosen], lapack_driver="gelsy", check_finite=False)[0]
        largest.append(np.abs(again - centre).max())
    end = time.perf_counter()
    covered = np.abs(centre - exact * norms).max() <= np.quantile(largest, 0.95)
    return {"covered": bool(covered), "cost_ratio": (end - middle) / (middle - start)}


def _timed(sizes: list[tuple[int, int]], rng: np.random.Generator) -> list[Row]:
    rows = []
    for n, d in sizes:
        X = rng.standard_normal((n, d))
        S = SRHT(n, 1024, rng)
        seconds = []
        S.matmat(X[:, :1])
        for _ in range(4):
            start = time.perf_counter()
            S.matmat(X)
            seconds.append(time.perf_counter() - start)
        rows.append({"sketch": "srht", "n_timed": n, "d_timed": d, "seconds": min(seconds)})
    return rows


TIMED_SEEDS = {"quick": 2, "standard": 6, "full": 10}


@study.experiment(
    seeds=TIMED_SEEDS, d=32, top=18, quick={"d": 32, "top": 16}, full={"d": 32, "top": 22}
)
def runtime_over_n(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Seconds of a sketch at five numbers of rows."""
    top = config["top"]
    return _timed([(1 << k, config["d"]) for k in range(top - 4, top + 1)], rng)


@study.experiment(seeds=TIMED_SEEDS, n=1 << 15, quick={"n": 1 << 13})
def runtime_over_d(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Seconds of a sketch at five numbers of columns."""
    return _timed([(config["n"], 1 << k) for k in range(5, 10)], rng)


@study.experiment(seeds={"quick": 4, "standard": 30, "full": 100})
def tensor(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """TensorSRHT of a Kronecker product at four numbers of rows, five draws each."""
    A1, A2 = rng.standard_normal((64, 4)), rng.standard_normal((32, 3))
    B = rng.standard_normal((64, 32))
    rows = []
    for m in (100, 200, 400, 800):
        bounds = [
            tensor_linf_regression(A1, A2, B, rows=m, measure=True, rng=rng).certificates[1]
            for _ in range(5)
        ]
        error = float(np.mean([c.measured.value for c in bounds if c.measured]))
        rows.append(
            {
                "sketch": "tensor-srht",
                "m": m,
                "raw_error": error,
                "scaled_error": math.sqrt(m) * error,
                "tightness_linf-bound": bounds[0].tightness,
            }
        )
    return rows


@study.experiment(seeds={"quick": 4, "standard": 30, "full": 100})
def deception(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """A map with both embedding properties whose error does not fall with d."""
    rows = []
    for d in (8, 64, 512):
        S = deceptive_map(d, rng)
        gram = S.T @ S - np.eye(d + 1)
        g, h = (v / np.linalg.norm(v) for v in rng.standard_normal((2, d + 1)))
        x = sketch_and_solve(aslinearoperator(S), np.eye(d + 1)[:, :d], np.eye(d + 1)[-1]).x
        rows.append(
            {
                "sketch": "deceptive",
                "d_timed": d,
                "contrast": float(x[0]),
                "deviation": abs(float(x[0]) / CONTRAST - 1),
                "subspace_distortion": float(np.linalg.norm(gram[:d, :d], 2)),
                "pair_distortion": float(abs(g @ gram @ h)),
            }
        )
    return rows
