"""Fast regression with an ℓ∞ guarantee: dense sketches against sparse ones and row sampling (Song, Ye, Yin & Zhang, ICML 2023).

The paper has no experiments; its theorems are tested here, together with the 2026 correction by two of its authors and with
error bars that neither has.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.linalg as sl
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from whp.datasets.linear_models import deceptive_map, dense_regression, spike
from whp.experiment.study import Claim, Scale, Showcase, select
from whp.intervals import Estimate, bootstrap, mean, proportion
from whp.linalg._linf_regression import (
    SRHT,
    GaussianSketch,
    LinfRegression,
    PooledHadamard,
    SubsampledCirculant,
    linf_regression,
    sketch_and_solve,
    tensor_linf_regression,
)
from whp.peers.sketches import CountSketch, RowSampling

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLAIMS", "FIGURES", "example", "run", "showcase", "trials"]

CONTRAST = 0.05 * 0.05 / (1 - 0.05**2)
DIAMONDS_ROWS, FLIGHTS_ROWS = 768, 1600


DENSE: dict[str, Any] = {
    "srht": SRHT,
    "pooled": PooledHadamard,
    "circulant": SubsampledCirculant,
    "gaussian": GaussianSketch,
}


# Trials


def trials(scale: Scale) -> Iterable[dict[str, Any]]:
    """Configurations of all experiments."""
    few = scale == "quick"
    seeds = {"quick": 4, "standard": 30, "full": 100}[scale]
    for d in {"quick": (16, 64), "standard": (16, 64, 256), "full": (16, 64, 256, 1024)}[scale]:
        for design in ("gaussian", "student", "spike"):
            for seed in range(seeds):
                yield {
                    "experiment": "dimension",
                    "design": design,
                    "d": d,
                    "n": 4096 if few else 32 * d,
                    "seed": seed,
                }
    for seed in range({"quick": 12, "standard": 200, "full": 1000}[scale]):
        yield {"experiment": "diamonds", "rows": DIAMONDS_ROWS, "seed": seed}
    for seed in range({"quick": 3, "standard": 40, "full": 200}[scale]):
        yield {"experiment": "flights", "rows": FLIGHTS_ROWS, "seed": seed}
    for seed in range({"quick": 2, "standard": 6, "full": 10}[scale]):
        top = {"quick": 16, "standard": 18, "full": 22}[scale]
        yield {"experiment": "runtime over n", "d": 32, "from": top - 4, "to": top, "seed": seed}
        yield {
            "experiment": "runtime over d",
            "n": 1 << (13 if few else 15),
            "from": 5,
            "to": 9,
            "seed": seed,
        }
    for seed in range(seeds):
        yield {"experiment": "tensor", "seed": seed}
        yield {"experiment": "deception", "seed": seed}


def run(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One trial of the experiment that `config` names."""
    match config["experiment"]:
        case "dimension":
            return _dimension(config, rng)
        case "diamonds" | "flights":
            return _real(config, rng)
        case "runtime over n":
            sizes = [(1 << k, config["d"]) for k in range(config["from"], config["to"] + 1)]
            return _runtime(sizes, rng)
        case "runtime over d":
            sizes = [(config["n"], 1 << k) for k in range(config["from"], config["to"] + 1)]
            return _runtime(sizes, rng)
        case "tensor":
            return _tensor(rng)
        case "deception":
            return _deception(rng)
        case other:
            raise ValueError(f"experiment must be one of those of trials(), got {other!r}")


def _row(
    name: str, result: LinfRegression, exact: np.ndarray, residual: float, pinv: float
) -> dict[str, Any]:
    """What is recorded of one sketch; norms and errors in coordinates scaled as the certificates scale them."""
    error = np.abs(result.x - exact) * result.column_norms
    low, high = result.conf_int(0.95).T
    bars, bound = result.certificates
    return {
        "sketch": name,
        "scaled_error": float(math.sqrt(result.rows) * error.max() / (residual * pinv)),
        "flatness": float(error.max() / max(np.linalg.norm(error), np.finfo(float).tiny)),
        "covered": bool(((low <= exact) & (exact <= high)).all()),
        "verdict_coordinate-error-bars": str(bars.verdict),
        "verdict_linf-bound": str(bound.verdict),
        "tightness_linf-bound": bound.tightness,
    }


def _dimension(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    d = config["d"]
    m = 16 * d
    if config["design"] == "spike":
        A, b = spike(d, m)
        exact, residual, pinv = np.zeros(d), 1.0, 1.0
    else:
        A, b = dense_regression(max(config["n"], 2 * m), d, rng, design=config["design"])
        exact = sl.lstsq(A, b, lapack_driver="gelsy", check_finite=False)[0]
        residual = float(np.linalg.norm(b - A @ exact))
        pinv = 1 / float(
            np.sqrt(sl.eigvalsh((A / (c := np.linalg.norm(A, axis=0))).T @ (A / c))[0])
        )
    rows = []
    sketches: dict[str, Any] = {k: DENSE[k] for k in ("srht", "pooled", "circulant")}
    for name, make in {**sketches, "countsketch": CountSketch}.items():
        # On the spike n = d + 16 < m: these sketches see it padded with zeros, which changes nothing in the problem.
        n = max(len(A), 2 * m)
        padded = np.zeros((n, d)), np.zeros(n)
        padded[0][: len(A)], padded[1][: len(A)] = A, b
        operator = make(n, m, rng)
        try:
            row = _row(
                name, sketch_and_solve(operator, *padded, x_exact=exact), exact, residual, pinv
            )
        except (
            np.linalg.LinAlgError
        ):  # columns of the spike collided: judge the solution of least norm
            error = np.abs(sl.lstsq(operator @ padded[0], operator @ padded[1])[0] - exact)
            size = float(np.linalg.norm(error))
            row = {
                "sketch": name,
                "scaled_error": float(math.sqrt(m) * error.max() / (residual * pinv)),
                "flatness": float(error.max() / size) if size else 0.0,
                "covered": False,
                "verdict_linf-bound": None,
            }
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


def _real(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    A, b, exact, residual, pinv, leverage = _table(config["experiment"])
    n, m = len(A), config["rows"]
    makers: dict[str, LinearOperator] = {
        "srht": SRHT(n, m, rng),
        "pooled": PooledHadamard(n, m, rng),
        "countsketch": CountSketch(n, m, rng),
        "uniform rows": RowSampling(n, m, rng),
        "leverage rows": RowSampling(n, m, rng, leverage),
    }
    if config["experiment"] == "diamonds":
        makers["srht with replacement"] = SRHT(n, m, rng, replace=True)
        makers["circulant"] = SubsampledCirculant(n, m, rng)
    rows = []
    for name, operator in makers.items():
        try:
            rows.append(
                {
                    "m": m,
                    **_row(
                        name, sketch_and_solve(operator, A, b, x_exact=exact), exact, residual, pinv
                    ),
                }
            )
        except (
            np.linalg.LinAlgError
        ):  # the sampled rows miss a column altogether: an airline, an hour
            rows.append({"m": m, "sketch": name, "covered": False, "verdict_linf-bound": None})
    if config["experiment"] == "diamonds":
        rows.append(
            {"m": m, "sketch": "srht, bootstrap", **_bootstrap(makers["srht"], A, b, exact, rng)}
        )
    return rows


def _bootstrap(
    operator: LinearOperator,
    A: np.ndarray,
    b: np.ndarray,
    exact: np.ndarray,
    rng: np.random.Generator,
    draws: int = 100,
) -> dict[str, Any]:
    """Error bars by resampling the sketched rows (Lopes, Wang & Mahoney 2018), and their cost against the closed form's."""
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


def _runtime(sizes: list[tuple[int, int]], rng: np.random.Generator) -> list[dict[str, Any]]:
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


def _tensor(rng: np.random.Generator) -> list[dict[str, Any]]:
    A1, A2, B = (
        rng.standard_normal((64, 4)),
        rng.standard_normal((32, 3)),
        rng.standard_normal((64, 32)),
    )
    rows = []
    for m in (100, 200, 400, 800):
        results = [
            tensor_linf_regression(A1, A2, B, rows=m, verify=True, rng=rng) for _ in range(5)
        ]
        bounds = [r.certificates[1] for r in results]
        scale = float(bounds[0].inputs["residual norm"]) * float(bounds[0].inputs["norm of A†"])
        errors = [c.measured.value / scale for c in bounds if c.measured]
        rows.append(
            {
                "sketch": "tensor-srht",
                "m": m,
                "raw_error": float(np.mean(errors)),
                "scaled_error": float(math.sqrt(m) * np.mean(errors)),
                "verdict_linf-bound": str(bounds[0].verdict),
                "tightness_linf-bound": bounds[0].tightness,
            }
        )
    return rows


def _deception(rng: np.random.Generator) -> list[dict[str, Any]]:
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
                "subspace_distortion": float(np.linalg.norm(gram[:d, :d], 2)),
                "pair_distortion": float(abs(g @ gram @ h)),
            }
        )
    return rows


# Claims


def _where(records: pd.DataFrame, experiment: str, *sketches: str) -> pd.DataFrame:
    return select(records, experiment, **({"sketch": sketches} if sketches else {}))


def _growth(records: pd.DataFrame) -> Estimate:
    part = _where(records, "dimension", "srht", "pooled", "circulant")
    relative = part.assign(
        relative=part["scaled_error"] / (1.5 * np.sqrt(2 * np.log(2 * part["d"].astype(float))))
    )
    groups = [mean(g["relative"]) for _, g in relative.groupby(["design", "d", "sketch"])]
    return max(groups, key=lambda e: e.value)


def _slope(part: pd.DataFrame, over: str, value: str) -> Estimate:
    """Slope of log value over log size, fitted seed by seed."""
    slopes = []
    for _, g in part.groupby("seed"):
        cells = np.log(g.groupby(over)[value].mean())
        slopes.append(
            np.polyfit(np.log(cells.index.to_numpy(dtype=float)), cells.to_numpy(dtype=float), 1)[0]
        )
    return mean(slopes)


def _rate(flags: pd.Series) -> Estimate:
    return proportion(int(flags.astype(bool).sum()), len(flags))


def _spiked(records: pd.DataFrame, *sketches: str) -> pd.DataFrame:
    return select(_where(records, "dimension", *sketches), design="spike")


def _collisions(records: pd.DataFrame) -> Estimate:
    part = _spiked(records, "countsketch")
    return _rate(part["scaled_error"] >= 0.49 * np.sqrt(part["d"].astype(float)))


def _spike_growth(records: pd.DataFrame) -> Estimate:
    cells = (
        _spiked(records, "countsketch")
        .pivot_table(index="seed", columns="d", values="scaled_error")
        .dropna()
    )
    d = np.log(cells.columns.to_numpy(dtype=float))

    def slope(*columns: np.ndarray) -> float:
        return float(np.polyfit(d, np.log([max(float(np.mean(c)), 0.1) for c in columns]), 1)[0])

    return bootstrap(cells.to_numpy(dtype=float), slope, resamples=999)


def _flatness(records: pd.DataFrame) -> Estimate:
    part = _where(records, "dimension", "srht", "pooled", "circulant")
    d = part["d"].astype(float)
    return mean(part["flatness"] / np.sqrt(2 * np.log(d) / d))


def _coverage(experiment: str, sketch: str) -> Any:
    return lambda records: _rate(_where(records, experiment, sketch)["covered"])


def _relative(ours: str, theirs: str) -> Any:
    """Ratio of mean errors, as the mean of ours over theirs' overall mean."""

    def measure(records: pd.DataFrame) -> Estimate:
        level = float(_where(records, "diamonds", theirs)["scaled_error"].mean())
        return mean(_where(records, "diamonds", ours)["scaled_error"].astype(float) / level)

    return measure


def _tensor_error(records: pd.DataFrame) -> Estimate:
    part = _where(records, "tensor")
    return max((mean(g["scaled_error"]) for _, g in part.groupby("m")), key=lambda e: e.value)


def _deviation(records: pd.DataFrame) -> Estimate:
    return mean(np.abs(_where(records, "deception")["contrast"].astype(float) / CONTRAST - 1))


def _broken(records: pd.DataFrame) -> Estimate:
    part = _where(records, "dimension", "srht", "pooled", "circulant")
    return _rate(part["verdict_linf-bound"] == "fails")


NONE = "the paper has no experiment; Theorem 1.1"
CORRECTION = "Song & Zhang 2026, on the proof of Theorem 1.1"
EXTRA = "not in the paper: error bars derived here"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "With m = 16d rows, dense sketches keep √m ‖x̃ − x*‖∞ below 1.5 √(2 ln 2d) ‖r‖ ‖A†‖.",
        NONE,
        "that error over its limit, for the worst design, d and sketch",
        "<=",
        1.0,
        _growth,
    ),
    Claim(
        "C1b",
        "With m ∝ d the error of dense sketches does not grow with a power of d.",
        NONE,
        "slope of log error over log d",
        "<=",
        0.15,
        lambda r: _slope(
            _where(r, "dimension", "srht", "pooled", "circulant"), "d", "scaled_error"
        ),
    ),
    Claim(
        "C2a",
        "A CountSketch hits the spike with constant probability (0.64 predicted).",
        NONE + ", lower bound",
        "share of draws with √m ‖x̃ − x*‖∞ ≥ 0.49 √d",
        ">=",
        0.5,
        _collisions,
    ),
    Claim(
        "C2b",
        "On the spike the error of CountSketch grows like √d.",
        NONE + ", lower bound",
        "slope of log mean error over log d",
        ">=",
        0.4,
        _spike_growth,
        note="A draw without a collision has no error at all, so the slope is that of means over seeds.",
    ),
    Claim(
        "C2c",
        "On the spike SRHT and pooled sketches stay below 5.",
        NONE,
        "share of draws with √m ‖x̃ − x*‖∞ ≤ 5",
        ">=",
        0.95,
        lambda r: _rate(_spiked(r, "srht", "pooled")["scaled_error"] <= 5),
    ),
    Claim(
        "C3",
        "The error of a dense sketch is spread evenly: ‖e‖∞ ≈ √(2 ln d / d) ‖e‖₂.",
        NONE,
        "‖e‖∞/‖e‖₂ over √(2 ln d/d)",
        "<=",
        1.25,
        _flatness,
    ),
    Claim(
        "C4a",
        "On 53,940 diamonds, m = 768, simultaneous 95 % error bars of the SRHT cover all 24 coefficients.",
        EXTRA,
        "share of draws that cover",
        ">=",
        0.9,
        _coverage("diamonds", "srht"),
    ),
    Claim(
        "C4b",
        "So do those of the pooled sketch.",
        EXTRA,
        "share of draws that cover",
        ">=",
        0.9,
        _coverage("diamonds", "pooled"),
    ),
    Claim(
        "C4c",
        "With uniformly sampled rows the same bars fail.",
        EXTRA,
        "share of draws that cover",
        "<=",
        0.5,
        _coverage("diamonds", "uniform rows"),
    ),
    Claim(
        "C4d",
        "With rows sampled by leverage they fall short of 95 %.",
        EXTRA,
        "share of draws that cover",
        "<=",
        0.9,
        _coverage("diamonds", "leverage rows"),
    ),
    Claim(
        "C4e",
        "Uniform rows err several times more than the SRHT.",
        NONE,
        "mean error over the SRHT's",
        ">=",
        3.0,
        _relative("uniform rows", "srht"),
    ),
    Claim(
        "C4f",
        "On benign data a CountSketch is as good as the SRHT.",
        NONE,
        "mean error over the SRHT's",
        "<=",
        1.25,
        _relative("countsketch", "srht"),
        note="The spike of C2 is a worst case, not what most tables look like.",
    ),
    Claim(
        "C4g",
        "On 327,346 flights, m = 1,600, the SRHT's bars cover all 50 coefficients.",
        EXTRA,
        "share of draws that cover",
        ">=",
        0.9,
        _coverage("flights", "srht"),
        note="Few draws at the standard scale: 40.",
    ),
    Claim(
        "C4h",
        "Bootstrapping the sketch (Lopes, Wang & Mahoney 2018) covers as well.",
        EXTRA,
        "share of draws that cover",
        ">=",
        0.9,
        _coverage("diamonds", "srht, bootstrap"),
    ),
    Claim(
        "C4i",
        "The closed form costs a small fraction of the bootstrap.",
        EXTRA,
        "time of 100 resamples over the closed form's",
        ">=",
        20.0,
        lambda r: mean(_where(r, "diamonds", "srht, bootstrap")["cost_ratio"].astype(float)),
    ),
    Claim(
        "C5a",
        "Sketching takes time linear in n up to logarithms.",
        "Theorem 1.1, O(nd log n)",
        "slope of log time over log n",
        "<=",
        1.15,
        lambda r: _slope(_where(r, "runtime over n"), "n_timed", "seconds"),
        note="From 4 MB to 64 MB of data the caches cease to help, and a second trial shares the memory bus.",
    ),
    Claim(
        "C5b",
        "Sketching takes time linear in d.",
        "Theorem 1.1, O(nd log n)",
        "slope of log time over log d",
        "<=",
        1.1,
        lambda r: _slope(_where(r, "runtime over d"), "d_timed", "seconds"),
        note="As C5a, from 8 MB to 128 MB of data.",
    ),
    Claim(
        "C6a",
        "TensorSRHT keeps √m ‖x̃ − x*‖∞/(‖r‖ ‖A†‖) small for a Kronecker product.",
        "tensor section",
        "that error, for the worst m",
        "<=",
        2.0,
        _tensor_error,
    ),
    Claim(
        "C6b",
        "Its error falls like 1/√m.",
        "tensor section",
        "slope of log error over log m",
        "<=",
        -0.4,
        lambda r: _slope(_where(r, "tensor"), "m", "raw_error"),
    ),
    Claim(
        "C7",
        "Subspace embedding and coordinate-wise embedding together do not suffice: a map with both errs by αρ/(1 − ρ²) "
        "for every d.",
        CORRECTION,
        "relative distance of the error to αρ/(1 − ρ²)",
        "<=",
        1e-8,
        _deviation,
    ),
    Claim(
        "C8",
        "The explicit bound, proven for Gaussian sketches, holds for SRHT, pooled and circulant at δ = 0.05.",
        EXTRA,
        "share of bounds broken",
        "<=",
        0.05,
        _broken,
    ),
)


# Figures


def _draw_dimension(records: pd.DataFrame, ax: Axes) -> None:
    part = _where(records, "dimension")
    part = part[part["design"] == "spike"]
    for name, group in part.groupby("sketch"):
        cells = group.groupby("d")["scaled_error"]
        ax.plot(cells.mean().index, cells.mean(), "o-", label=str(name))
    d = np.array(sorted(part["d"].unique()), dtype=float)
    ax.plot(d, np.sqrt(d), "--", color="0.5", label="√d")
    ax.set(xscale="log", yscale="log", xlabel="columns d", ylabel="√m ‖x̃ − x*‖∞ on the spike")
    ax.legend(frameon=False)


def _draw_coverage(records: pd.DataFrame, ax: Axes) -> None:
    cells = _where(records, "diamonds").groupby("sketch")["covered"].apply(_rate)
    names = sorted(cells.index, key=lambda k: cells[k].value)
    for i, name in enumerate(names):
        e = cells[name]
        ax.errorbar(
            e.value,
            i,
            xerr=[[e.value - e.low], [e.high - e.value]],
            fmt="o",
            color="tab:blue",
            capsize=3,
        )
    ax.axvline(0.95, color="0.5", linestyle="--", linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlabel="share of draws whose 95 % bars cover all 24 coefficients", xlim=(-0.02, 1.02))


def _draw_runtime(records: pd.DataFrame, ax: Axes) -> None:
    part = _where(records, "runtime over n").groupby("n_timed")["seconds"].min()
    ax.plot(part.index, part, "o-", label="SRHT, d = 32")
    ax.plot(
        part.index, part.iloc[0] * part.index / part.index[0], "--", color="0.5", label="linear"
    )
    ax.set(xscale="log", yscale="log", xlabel="rows n", ylabel="seconds")
    ax.legend(frameon=False)


FIGURES = {"spike": _draw_dimension, "diamonds": _draw_coverage, "runtime": _draw_runtime}


# The example and the showcase


def example() -> dict[str, Any]:
    """Logarithm of the price of diamonds; all of them where the extra is installed, else the shipped sample."""
    from whp.datasets.tables import diamonds_regression

    A, b = diamonds_regression()
    return {"A": A, "b": b, "rows": DIAMONDS_ROWS, "verify": True, "rng": 0}


def showcase() -> Showcase:
    """Error bars of the SRHT against those of as many uniformly sampled rows."""
    data = example()
    A, b = data["A"], data["b"]
    ours = linf_regression(**data)
    exact = linf_regression(A, b).x
    hits: dict[str, list[bool]] = {"srht": [], "uniform rows": []}
    shown: dict[str, LinfRegression] = {}
    draws = 200
    for rng in np.random.default_rng(0).spawn(draws):
        for name in hits:
            make: Any = SRHT if name == "srht" else RowSampling
            result = sketch_and_solve(make(len(A), DIAMONDS_ROWS, rng), A, b)
            low, high = result.conf_int(0.95).T
            hits[name].append(bool(((low <= exact) & (exact <= high)).all()))
            shown[name] = result

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True, sharex=True)
        scale = ours.column_norms / math.sqrt(len(A))
        order = np.argsort(np.abs(ours.x * scale))
        for ax, (name, result), colour in zip(
            axes, shown.items(), ("tab:blue", "tab:orange"), strict=True
        ):
            low, high = (result.conf_int(0.95) - exact[:, None]).T * scale
            outside = ((low > 0) | (high < 0))[order]
            middle, half = ((low + high) / 2)[order], ((high - low) / 2)[order]
            where = np.arange(len(order))
            for chosen, shade in ((~outside, colour), (outside, "tab:red")):
                ax.errorbar(
                    middle[chosen],
                    where[chosen],
                    xerr=half[chosen],
                    fmt="o",
                    markersize=3,
                    color=shade,
                    capsize=2,
                )
            ax.axvline(0, color="0.5", linewidth=0.8)
            ax.set_xlabel(f"{name}: error, with 95 % bars")
        axes[0].set_xscale("symlog", linthresh=0.1)
        axes[0].set_yticks(np.arange(len(order)), np.array(ours.names)[order], fontsize=7)

    return Showcase(
        data=f"{len(A):,} diamonds, {A.shape[1]} columns",
        quantity=f"draws whose 95 % error bars cover all {A.shape[1]} coefficients",
        ours=f"{sum(hits['srht'])} of {draws}",
        baseline=f"{sum(hits['uniform rows'])} of {draws}",
        baseline_name="as many uniformly sampled rows",
        certificates=ours.certificates,
        draw=draw,
        caption=f"Distance of each coefficient to the exact one, in units of its effect on log price, from {DIAMONDS_ROWS} rows. "
        "Bars should reach zero; red ones do not.",
        code="linf_regression(A, b, rows=768, verify=True)",
    )
