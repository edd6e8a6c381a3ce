"""What is run: learners on tables of counts, the heat equation as it comes, and clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from whp.bandits import TsallisINF
from whp.datasets.linear_systems import digits_graph, heat_equation, shifted_laplacians, stencil
from whp.experiment.study import Scale, Study
from whp.linalg import RelaxationTuner, jacobi_radius, replay_counts, run_grid, solve_sequence, sor
from whp.linalg._learning_to_relax.tuner import GRID
from whp.peers import solvers as peers

__all__ = ["RANGE", "study"]

Row = dict[str, Any]
RANGE = {"shifts": (-0.15, 0.45), "digits": (float(np.log(0.01)), 0.0), "heat": (0.0, 10.0)}
LEARNERS = ("tsallis", "tsallis worst case", "tsallis-cb", "chebcb", "uniform")
LENGTHS = (300, 1000, 3000)

study = Study("learning-to-relax")


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


def _learnt(
    table: tuple[np.ndarray, np.ndarray, np.ndarray], name: str, rng: np.random.Generator
) -> list[Row]:
    """Mean counts of learners and of fixed ω; certificates over replays."""
    counts, contexts, young = table
    T = len(counts)
    best = int(counts.sum(axis=0).argmin())
    rows: list[Row] = [
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
        rate = f"fixed:{counts.max() - 1}" if learner.endswith("worst case") else None
        kind: Any = learner.split()[0]
        tuner = RelaxationTuner(kind, context_range=RANGE[name], rate=rate, rng=rng)
        paid = np.empty(T)
        for t in range(T):
            arm, _ = tuner.ask(contexts[t])
            paid[t] = counts[t, arm]
            tuner.tell(paid[t])
        row: Row = {
            "learner": learner,
            "mean": float(paid.mean()),
            "late": float(paid[T // 2 :].mean()),
            "late_over_best": float(paid[T // 2 :].mean() / counts[:, best].mean()),
            "regret": float(paid.sum() - counts[:, best].sum()),
        }
        for length in LENGTHS:  # regret to the best ω of that much of the sequence
            if length <= T:
                least = counts[:length].sum(axis=0).min()
                row[f"regret_{length}"] = float(paid[:length].sum() - least)
        seen = {} if kind == "tsallis" else {"contexts": contexts, "context_range": RANGE[name]}
        replayed = replay_counts(counts, kind, **seen, rate=rate, replays=200, rng=rng)
        for certificate in replayed.certificates:
            row[f"verdict_{certificate.name}"] = str(certificate.verdict)
            row[f"tightness_{certificate.name}"] = certificate.tightness
        rows.append(row)
    return rows


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 40},
    variance=("high", "low"),
    rounds=5000,
    quick={"variance": ("high", "low"), "rounds": 1000},
)
def shifts(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """The paper's synthetic stream: a stencil with shifts of high or low variance."""
    return _learnt(_table("shifts", config["variance"], config["rounds"]), "shifts", rng)


@study.experiment(seeds={"quick": 2, "standard": 5, "full": 20}, rounds=300, quick={"rounds": 30})
def digits(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Label propagation on the neighbours of 1,797 digits, which is not consistently ordered."""
    return _learnt(_table("digits", "", config["rounds"]), "digits", rng)


def _range(learner: str | float) -> tuple[float, float] | None:
    """Of the contexts of the heat equation, for learners that look at them."""
    return RANGE["heat"] if learner in ("tsallis-cb", "chebcb") else None


@study.experiment(
    seeds={"quick": 2, "standard": 5, "full": 20},
    learner=("1.0", "1.4", "tsallis", "tsallis-cb", "chebcb"),
    nx=25,
    rounds=5000,
    quick={"learner": ("1.0", "1.4", "tsallis", "tsallis-cb", "chebcb"), "nx": 25, "rounds": 1000},
)
def heat(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """The paper's heat equation by SSOR-CG, warm starts, iterations of 5,000 steps."""
    learner, T = config["learner"], config["rounds"]
    chosen: str | float = float(learner) if learner[0].isdigit() else learner
    made = solve_sequence(
        heat_equation(config["nx"], T),
        solver="ssor-cg",
        learner=chosen,
        context_range=_range(chosen),
        bins=6 if learner == "tsallis-cb" else None,
        rng=rng,
    )
    row: Row = {"total": float(made.iterations.sum()) * 5000 / T}
    counted = made.certificates[-1]
    return row | {
        "verdict_iteration-bound": str(counted.verdict),
        "tightness_iteration-bound": counted.tightness,
    }


def _sizes(scale: Scale) -> list[dict[str, Any]]:
    sizes = {"quick": (25, 50), "standard": (25, 50, 100), "full": (25, 50, 100, 200, 400)}
    return [{"nx": nx, "rounds": 20 if scale == "quick" else 100} for nx in sizes[scale]]


@study.experiment(seeds={"quick": 2, "standard": 3, "full": 3}, grid=_sizes)
def clock(config: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    """Seconds of the same steps by learners, by ω = 1, by a sparse LU and by multigrid."""
    nx, T = config["nx"], config["rounds"]

    def learnt(learner: str | float) -> float:
        return solve_sequence(
            heat_equation(nx, T),
            solver="ssor-cg",
            learner=learner,
            context_range=_range(learner),
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

    learnt("tsallis")  # compiled before anything is timed
    return [
        {"who": "chebcb", "seconds": learnt("chebcb")},
        {"who": "tsallis", "seconds": learnt("tsallis")},
        {"who": "ω = 1", "seconds": learnt(1.0)},
        {"who": "sparse LU", "seconds": driven(peers.sparse_lu)},
        {"who": "multigrid", "seconds": driven(peers.multigrid)},
    ]


@study.experiment(seeds={"quick": 50, "standard": 400, "full": 2000}, rounds=300)
def honesty(config: dict[str, Any], rng: np.random.Generator) -> Row:
    """Costs with a heavy tail and a change of fortunes, d = 5: regret against the executed sum."""
    T = config["rounds"]
    costs = np.ceil(1 + rng.exponential(1 + 150 * rng.random(5), (T, 5)))
    change = int(rng.integers(T // 4, T))
    costs[change:] = costs[change:, rng.permutation(5)]
    learner, paid = TsallisINF(5, rng=rng), 0.0
    for row in costs:
        arm = learner.ask()
        learner.tell(row[arm])
        paid += row[arm]
    regret = float(paid - costs.sum(axis=0).min())
    return {"regret": regret, "bound": learner.bound, "above": regret - learner.bound}
