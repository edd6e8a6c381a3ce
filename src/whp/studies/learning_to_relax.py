"""Learning to relax: does a bandit find ω, and a contextual one each system's own (Khodak, Chow, Balcan & Talwalkar, ICLR 2024)?

The paper's two simulations, and the Laplacian of a real graph.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.datasets.linear_systems import digits_graph, heat_equation, shifted_laplacians, stencil
from whp.experiment.study import Claim, Scale, Showcase, select
from whp.intervals import Estimate, mean
from whp.linalg.learning_to_relax import (
    RelaxationTuner,
    jacobi_radius,
    run_grid,
    solve_sequence,
    sor,
)
from whp.linalg.learning_to_relax.tuner import GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CLAIMS", "FIGURES", "example", "run", "showcase", "trials"]

RANGE = {"shifts": (-0.15, 0.45), "digits": (float(np.log(0.01)), 0.0), "heat": (0.0, 10.0)}
LEARNERS = ("tsallis", "tsallis worst case", "tsallis-cb", "chebcb", "uniform")


# Trials


def trials(scale: Scale) -> Iterable[dict[str, Any]]:
    """Configurations of all experiments."""
    seeds = {"quick": 2, "standard": 10, "full": 40}[scale]
    T = {"quick": 1000, "standard": 5000, "full": 5000}[scale]
    for seed in range(seeds):
        for variance in ("high", "low"):
            yield {"experiment": "shifts", "variance": variance, "rounds": T, "seed": seed}
    for seed in range({"quick": 2, "standard": 5, "full": 20}[scale]):
        yield {"experiment": "digits", "rounds": 30 if scale == "quick" else 300, "seed": seed}
        for learner in ("1.0", "1.4", "tsallis", "tsallis-cb", "chebcb"):
            yield {"experiment": "heat", "learner": learner, "nx": 25, "rounds": T, "seed": seed}
    for seed in range({"quick": 2, "standard": 3, "full": 3}[scale]):
        for nx in (
            (25, 50)
            if scale == "quick"
            else (25, 50, 100)
            if scale == "standard"
            else (25, 50, 100, 200, 400)
        ):
            yield {
                "experiment": "clock",
                "nx": nx,
                "rounds": 20 if scale == "quick" else 100,
                "seed": seed,
            }
    for seed in range({"quick": 50, "standard": 400, "full": 2000}[scale]):
        yield {"experiment": "honesty", "rounds": 300, "seed": seed}


def run(config: dict[str, Any], rng: np.random.Generator) -> list[dict[str, Any]]:
    """One trial of the experiment that `config` names."""
    match config["experiment"]:
        case "shifts":
            return _learn(_table("shifts", config["variance"], config["rounds"]), "shifts", rng)
        case "digits":
            return _learn(_table("digits", "", config["rounds"]), "digits", rng)
        case "heat":
            return [_heat(config["learner"], config["nx"], config["rounds"], rng)]
        case "clock":
            return _clock(config["nx"], config["rounds"], rng)
        case "honesty":
            return [_honesty(config["rounds"], rng)]
        case other:
            raise ValueError(f"experiment must be one of those of trials(), got {other!r}")


@lru_cache(maxsize=4)
def _table(name: str, variance: str, T: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of every ω on every system, contexts, and counts of Young's ω where it is known."""
    if name == "shifts":
        systems = list(shifted_laplacians(T, variance=variance, rng=0))
    else:
        systems = list(digits_graph(T, rng=0))
    counts = run_grid(systems, GRID, cap=20_000)
    young = np.full(T, np.nan)
    if name == "shifts":
        base = stencil(10)
        tuner = RelaxationTuner("young", jacobi=(jacobi_radius(base), 4.0))
        for t, (A, b, c) in enumerate(systems):
            young[t] = sor(A, b, tuner.ask(c)[1]).iterations
    return counts, np.array([c for _, _, c in systems]), young


def _learn(
    table: tuple[np.ndarray, np.ndarray, np.ndarray], name: str, rng: np.random.Generator
) -> list[dict[str, Any]]:
    counts, contexts, young = table
    T = len(counts)
    best = int(counts.sum(axis=0).argmin())
    rows = [
        {"learner": "ω = 1", "mean": float(counts[:, 0].mean())},
        {"learner": "best fixed ω", "mean": float(counts[:, best].mean())},
        {"learner": "best ω of the grid per system", "mean": float(counts.min(axis=1).mean())},
    ]
    if np.isfinite(young).all():
        rows.append({"learner": "young", "mean": float(young.mean())})
    for learner in LEARNERS:
        if learner == "uniform":
            paid = counts[np.arange(T), rng.integers(len(GRID), size=T)]
            rows.append({"learner": learner, "mean": float(paid.mean())})
            continue
        options: dict[str, Any] = {}
        if learner == "tsallis worst case":
            options["rate"] = f"fixed:{counts.max() - 1}"
        tuner = RelaxationTuner(learner.split()[0], context_range=RANGE[name], rng=rng, **options)
        paid = np.empty(T)
        for t in range(T):
            arm, _ = tuner.ask(contexts[t])
            paid[t] = counts[t, arm]
            tuner.tell(paid[t])
        row = {
            "learner": learner,
            "mean": float(paid.mean()),
            "late": float(paid[T // 2 :].mean()),
            "regret": float(paid.sum() - counts[:, best].sum()),
            "bound": tuner.bound,
        }
        for length in (
            300,
            1000,
            3000,
        ):  # regret along the way, to the best ω of that much of the sequence
            if length <= T:
                row[f"regret_{length}"] = float(
                    paid[:length].sum() - counts[:length].sum(axis=0).min()
                )
        if learner == "tsallis":
            trivial = float(counts.mean() * T - counts[:, best].sum())
            row["verdict_regret"] = (
                "vacuous"
                if tuner.bound >= trivial
                else "holds"
                if row["regret"] <= tuner.bound
                else "fails"
            )
            row["tightness_regret"] = row["regret"] / tuner.bound
        rows.append(row)
    return rows


def _heat(learner: str, nx: int, T: int, rng: np.random.Generator) -> dict[str, Any]:
    chosen: str | float = float(learner) if learner[0].isdigit() else learner
    found = solve_sequence(
        heat_equation(nx, T),
        solver="ssor-cg",
        learner=chosen,
        context_range=RANGE["heat"],
        bins=6,
        rng=rng,
    )
    return {"total": float(found.iterations.sum()) * 5000 / T}


def _clock(nx: int, T: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Seconds of the same steps of the heat equation by learners, by ω = 1, by a sparse LU and by multigrid."""
    from pyamg import ruge_stuben_solver
    from scipy.sparse.linalg import spsolve

    def learnt(learner: str | float) -> float:
        return solve_sequence(
            heat_equation(nx, T),
            solver="ssor-cg",
            learner=learner,
            context_range=RANGE["heat"],
            rng=rng,
        ).seconds

    def driven(solve: Callable[[Any, np.ndarray, np.ndarray], np.ndarray]) -> float:
        steps, seconds = heat_equation(nx, T), 0.0
        A, b, _ = next(steps)
        x = np.zeros(len(b))
        while True:
            start = time.perf_counter()
            x = solve(A, b, x)
            seconds += time.perf_counter() - start
            try:
                A, b, _ = steps.send(x)
            except StopIteration:
                return seconds

    def multigrid(A: Any, b: np.ndarray, x: np.ndarray) -> np.ndarray:
        from scipy.sparse import csr_matrix

        return ruge_stuben_solver(csr_matrix(A)).solve(b, x0=x, tol=1e-8, accel="cg")

    learnt("tsallis")  # compiled before anything is timed
    return [
        {"who": "chebcb", "seconds": learnt("chebcb")},
        {"who": "tsallis", "seconds": learnt("tsallis")},
        {"who": "ω = 1", "seconds": learnt(1.0)},
        {"who": "sparse LU", "seconds": driven(lambda A, b, x: np.asarray(spsolve(A.tocsc(), b)))},
        {"who": "multigrid", "seconds": driven(multigrid)},
    ]


def _honesty(T: int, rng: np.random.Generator) -> dict[str, Any]:
    """Costs with a heavy tail and a change of fortunes, d = 5: regret against the executed bound."""
    from whp.bandits import TsallisINF

    costs = np.ceil(1 + rng.exponential(1 + 150 * rng.random(5), (T, 5)))
    change = int(rng.integers(T // 4, T))
    costs[change:] = costs[change:, rng.permutation(5)]
    learner, paid = TsallisINF(5, rng=rng), 0.0
    for row in costs:
        arm = learner.ask()
        learner.tell(row[arm])
        paid += row[arm]
    return {"regret": float(paid - costs.sum(axis=0).min()), "bound": learner.bound}


# Claims


def _ratio(
    experiment: str,
    ours: str,
    theirs: str,
    column: str = "mean",
    key: str = "learner",
    **wanted: Any,
) -> Callable[[pd.DataFrame], Estimate]:
    """Mean over seeds of the ratio."""

    def measure(records: pd.DataFrame) -> Estimate:
        cells = select(records, experiment, **wanted).pivot_table(
            index="seed", columns=key, values=column
        )
        return mean((cells[ours] / cells[theirs]).to_numpy(dtype=float))

    return measure


def _late(variance: str) -> Callable[[pd.DataFrame], Estimate]:
    def measure(records: pd.DataFrame) -> Estimate:
        part = select(records, "shifts", variance=variance)
        late = part[part["learner"] == "tsallis"].set_index("seed")["late"]
        best = part[part["learner"] == "best fixed ω"].set_index("seed")["mean"]
        return mean((late / best).to_numpy(dtype=float))

    return measure


def _slope(records: pd.DataFrame) -> Estimate:
    part = select(records, "shifts", variance="high", learner="tsallis")
    lengths = [
        n for n in (300, 1000, 3000) if f"regret_{n}" in part and part[f"regret_{n}"].notna().all()
    ]
    return mean(
        [
            np.polyfit(
                np.log(lengths),
                np.log(np.maximum([float(row[f"regret_{n}"]) for n in lengths], 1.0)),
                1,
            )[0]
            for _, row in part.iterrows()
        ]
    )


def _honest(records: pd.DataFrame) -> Estimate:
    part = select(records, "honesty")
    return mean((part["regret"] - part["bound"]).to_numpy(dtype=float))


NONE = "not in the paper"
FIG2, FIG3, FIG4 = (
    "Figure 2: Tsallis-INF close to ω = 1.8 and 1.6",
    "Figure 3: ChebCB below every fixed ω",
    "Figure 4, heat equation",
)

OVER = "iterations over those of the best fixed ω"

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "C1a",
        "With shifts of high variance Tsallis-INF comes within a quarter of the best fixed ω.",
        FIG2,
        OVER,
        "<=",
        1.25,
        _ratio("shifts", "tsallis", "best fixed ω", variance="high"),
    ),
    Claim(
        "C1b",
        "With low variance as well.",
        FIG2,
        OVER,
        "<=",
        1.25,
        _ratio("shifts", "tsallis", "best fixed ω", variance="low"),
    ),
    Claim("C1c", "In the second half it is within a tenth.", FIG2, OVER, "<=", 1.1, _late("high")),
    Claim(
        "C1d",
        "It needs a quarter of the iterations of ω = 1.",
        FIG2,
        "iterations over those of ω = 1",
        "<=",
        0.25,
        _ratio("shifts", "tsallis", "ω = 1", variance="high"),
    ),
    Claim(
        "C1e",
        "The textbook's scaling by the largest cost is worse by a third.",
        NONE,
        "iterations over those of the running scale",
        ">=",
        1.33,
        _ratio("shifts", "tsallis worst case", "tsallis", variance="high"),
    ),
    Claim(
        "C2a",
        "ChebCB needs fewer iterations than the best fixed ω, high variance.",
        FIG3,
        OVER,
        "<=",
        1.0,
        _ratio("shifts", "chebcb", "best fixed ω", variance="high"),
    ),
    Claim(
        "C2b",
        "With low variance as well.",
        FIG3,
        OVER,
        "<=",
        1.0,
        _ratio("shifts", "chebcb", "best fixed ω", variance="low"),
    ),
    Claim(
        "C2c",
        "Bins of the context suffice for that.",
        FIG3,
        OVER,
        "<=",
        1.0,
        _ratio("shifts", "tsallis-cb", "best fixed ω", variance="high"),
    ),
    Claim(
        "C2d",
        "ChebCB is no worse than Young's formula with a known β.",
        NONE,
        "iterations over Young's",
        "<=",
        1.0,
        _ratio("shifts", "chebcb", "young", variance="high"),
        note="A strong rival: one eigenvalue, known beforehand, and no learning.",
    ),
    Claim(
        "C3a",
        "On the heat equation ChebCB beats ω = 1 by a fifth.",
        FIG4,
        "SSOR-CG iterations over those of ω = 1",
        "<=",
        0.8,
        _ratio("heat", "chebcb", "1.0", "total"),
    ),
    Claim(
        "C3b",
        "It beats ω = 1.4, the best fixed one.",
        FIG4,
        "SSOR-CG iterations over those of ω = 1.4",
        "<=",
        1.0,
        _ratio("heat", "chebcb", "1.4", "total"),
    ),
    Claim(
        "C3c",
        "Tsallis-INF is within a tenth of ω = 1.4.",
        FIG4,
        "SSOR-CG iterations over those of ω = 1.4",
        "<=",
        1.1,
        _ratio("heat", "tsallis", "1.4", "total"),
    ),
    Claim(
        "C4a",
        "The executed bound is above the mean regret.",
        "Theorem for Tsallis-INF",
        "mean of regret less bound",
        "<=",
        0.0,
        _honest,
    ),
    Claim(
        "C5a",
        "Regret grows more slowly than the number of systems.",
        "O(√T)",
        "slope of log regret over log T",
        "<=",
        0.75,
        _slope,
    ),
    Claim(
        "C6a",
        "At nx = 25 ChebCB saves time against ω = 1.",
        "wall clock",
        "ratio of seconds",
        "<=",
        1.0,
        _ratio("clock", "chebcb", "ω = 1", "seconds", "who", nx=25),
    ),
    Claim(
        "C6b",
        "At nx = 50 it is faster than a sparse LU of every system.",
        "wall clock",
        "ratio of seconds",
        "<=",
        1.0,
        _ratio("clock", "chebcb", "sparse LU", "seconds", "who", nx=50),
    ),
    Claim(
        "C6c",
        "At nx = 50 it is faster than multigrid with a new hierarchy for every system.",
        NONE,
        "ratio of seconds",
        "<=",
        1.0,
        _ratio("clock", "chebcb", "multigrid", "seconds", "who", nx=50),
    ),
    Claim(
        "C7a",
        "On the graph of digits, which is not consistently ordered, ChebCB beats every fixed ω.",
        NONE,
        "SOR iterations over those of the best fixed ω",
        "<=",
        1.0,
        _ratio("digits", "chebcb", "best fixed ω"),
        note="300 systems pay for trying 20 arms, some of which cost thousands of sweeps; on a grid of five it beats the best.",
    ),
    Claim(
        "C7b",
        "Tsallis-INF comes within a quarter of it.",
        NONE,
        "SOR iterations over those of the best fixed ω",
        "<=",
        1.25,
        _ratio("digits", "tsallis", "best fixed ω"),
        note="300 systems are few for 20 arms.",
    ),
)


# Figures


def _bars(
    records: pd.DataFrame,
    ax: Axes,
    experiment: str,
    column: str,
    key: str = "learner",
    **wanted: Any,
) -> None:
    cells = select(records, experiment, **wanted).groupby(key)[column].mean().sort_values()
    ax.barh(list(cells.index), cells, color="tab:blue")
    ax.set(xlabel=f"{column} of iterations" if column != "seconds" else "seconds")


def _draw_shifts(records: pd.DataFrame, ax: Axes) -> None:
    _bars(records, ax, "shifts", "mean", variance="high")


def _draw_digits(records: pd.DataFrame, ax: Axes) -> None:
    _bars(records, ax, "digits", "mean")


def _draw_clock(records: pd.DataFrame, ax: Axes) -> None:
    for who, group in select(records, "clock").groupby("who"):
        cells = group.groupby("nx")["seconds"].mean()
        ax.plot(np.asarray(cells.index) ** 2, cells, "o-", label=str(who))
    ax.set(xscale="log", yscale="log", xlabel="unknowns", ylabel="seconds for the same steps")
    ax.legend(frameon=False)


FIGURES = {"shifts": _draw_shifts, "digits": _draw_digits, "clock": _draw_clock}


# The example and the showcase


def example() -> dict[str, Any]:
    """Label propagation on the neighbours of 1,797 handwritten digits, with shifts that change: (Lap + μI)x = b."""
    systems = list(digits_graph(200, rng=0))
    base, _, first = systems[0]
    laplacian = base - np.exp(first) * _identity(base.shape[0])
    return {
        "A": laplacian + 0.01 * _identity(base.shape[0]),
        "b": np.stack([b for _, b, _ in systems]),
        "shifts": np.exp([c for _, _, c in systems]) - 0.01,
        "rng": 0,
    }


def _identity(n: int) -> Any:
    from scipy.sparse import csr_array, eye_array

    return csr_array(eye_array(n))


def _graph(T: int) -> Iterator[Any]:
    return digits_graph(T, rng=0)


def showcase() -> Showcase:
    """Cumulated iterations on the graph of digits: learnt with and without context, against fixed ω."""
    T, grid = 200, (1.0, 1.5, 1.8, 1.9, 1.95)
    runs = {
        name: solve_sequence(
            _graph(T),
            learner=name,
            omegas=grid,
            context_range=RANGE["digits"],
            warm_start=False,
            audit=audit,
            rng=0,
        )
        for name, audit in (("chebcb", 0.0), ("tsallis", 0.05))
    }
    fixed = {w: solve_sequence(_graph(T), learner=w, warm_start=False).iterations for w in grid[2:]}
    best = min(fixed, key=lambda w: int(fixed[w].sum()))

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for w, counts in fixed.items():
            ax.plot(np.cumsum(counts), color="0.6", linewidth=0.9)
            ax.annotate(f"ω = {w:g}", (T - 1, float(counts.sum())), fontsize="small", color="0.4")
        for (name, found), colour in zip(runs.items(), ("tab:blue", "tab:green"), strict=True):
            label = "learnt, shift as context" if name == "chebcb" else "learnt from counts alone"
            ax.plot(np.cumsum(found.iterations), color=colour, label=label)
        ax.set(xlabel="systems solved", ylabel="sweeps in all")
        ax.legend(frameon=False)

    return Showcase(
        data=f"{T} systems on the neighbours of 1,797 handwritten digits",
        quantity="SOR sweeps a system",
        ours=f"{runs['chebcb'].iterations.mean():.0f}",
        baseline=f"{fixed[best].mean():.0f}",
        baseline_name=f"the best fixed ω, {best:g}",
        certificates=runs["tsallis"].certificates,
        draw=draw,
        caption="No fixed ω is good for all shifts. The learner sees the shift and what each solve cost, and finds the ω for it. "
        "The certificates are of the learner without context.",
        code="solve_sequence(systems, learner='chebcb', context_range=(-4.6, 0))",
    )
