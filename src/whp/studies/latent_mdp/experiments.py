"""Learning on small models, on the lower bound's family, and on real tables of labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from whp.experiment.study import Study
from whp.rl import LatentMDP, LatentMDPLearner, latent_mdp
from whp.rl._latent_mdp.selection import TestSelection, fitted, outcomes
from whp.rl._latent_mdp.simulation import Simulation
from whp.studies.latent_mdp.truth import probe

__all__ = ["SOLVERS", "hard", "learnt", "selection", "study", "worked"]

Rng = np.random.Generator
Row = dict[str, Any]
study = Study("latent-mdp")

# Name: solver, scale of bonuses, share of episodes in which an action is taken at random.
SOLVERS = {
    "bernstein": ("bernstein", 1.0, 0.0),
    "bernstein .1": ("bernstein", 0.1, 0.0),
    "bernstein .03": ("bernstein", 0.03, 0.0),
    "mvp": ("mvp", 1.0, 0.0),
    "mvp .1": ("mvp", 0.1, 0.0),
    "l1 .1": ("l1", 0.1, 0.0),
    "posterior": ("posterior", 1.0, 0.0),
    "greedy": ("greedy", 1.0, 0.0),
    "greedy, 10 % at random": ("greedy", 1.0, 0.1),
}


def worked(H: int = 3) -> LatentMDP:
    """Two contexts, three states, two actions."""
    m, s, a, to = np.ogrid[:2, :3, :2, :3]
    P = 1.0 + (m * (1 + s) + s + 2 * a + to) % 3
    m, s, a = np.ogrid[:2, :3, :2]
    R = ((m + 2 * s + 3 * a * (1 + m)) % 5) / (4 * H)
    return LatentMDP([0.4, 0.6], [[1, 0, 0], [0.5, 0.5, 0]], P / P.sum(-1, keepdims=True), R, H)


def certain() -> LatentMDP:
    """The worked model with the likeliest next state of each row certain."""
    model = worked()
    P = np.eye(3)[model.P.argmax(axis=-1)]
    return LatentMDP(model.w, model.nu, P, model.R, 3)


def hard(M: int, S: int, A: int, epsilon: float) -> LatentMDP:
    """The lower bound's family: a walk through half of the states names the context, then one of them is a bandit.

    The order of the walk is each context's own; in its last state one action of A succeeds with
    probability 1/2 + ε, the others with 1/2.
    """
    half = S // 2
    rng = np.random.default_rng([M, S, A])
    seen: set[tuple[int, ...]] = set()
    while len(seen) < M:
        seen.add(tuple(rng.permutation(half)))
    good, end = half, half + 1
    P = np.zeros((M, half + 2, A, half + 2))
    P[:, [good, end], :, end] = 1
    nu, R = np.zeros((M, half + 2)), np.zeros((M, half + 2, A))
    R[:, good] = 1
    for m, order in enumerate(sorted(seen)):
        nu[m, order[0]] = 1
        for here, to in itertools.pairwise(order):
            P[m, here, :, to] = 1
        P[m, order[-1], :, good] = 0.5
        P[m, order[-1], rng.integers(A), good] += epsilon
        P[m, order[-1], :, end] = 1 - P[m, order[-1], :, good]
    return LatentMDP(np.full(M, 1 / M), nu, P, R, half + 1)


def learnt(model: LatentMDP, solver: str, episodes: int, rng: Rng, **options: Any) -> np.ndarray:
    """Regret after each episode, by the values of the policies played."""
    name, scale, random = SOLVERS[solver]
    named: Any = name
    learner = LatentMDPLearner(
        *model.shape,
        model.horizon,
        solver=named,
        bonus_scale=scale,
        model=model,
        n_episodes=episodes,
        reward_table=model.R,
        random_state=rng,
        **options,
    )
    env = Simulation(model, rng)
    best = model.best.value
    A = model.shape[2]
    uniform = _at_random(model) if random else 0.0
    lost = []
    for _ in range(episodes):
        state, _ = env.reset()
        learner.begin_episode(state)
        wild = rng.random() < random
        info: dict[str, Any] = {}
        for _ in range(model.horizon):
            planned = learner.act()
            action = int(rng.integers(A)) if wild else planned
            state, paid, _, _, info = env.step(action)
            learner.observe(action, paid, state)
        learner.end_episode(info["context"])
        lost.append(best - (uniform if wild else learner._true[-1]))
    return np.cumsum(lost)


def _at_random(model: LatentMDP) -> float:
    values = np.zeros(model.nu.shape)
    for _ in range(model.horizon):
        values = (model.R + np.einsum("msat,mt->msa", model.P, values)).mean(axis=-1)
    return float((model.w[:, None] * model.nu * values).sum())


def _structure(model: LatentMDP) -> dict[str, Any]:
    return {"possible": (model.P > 0).any(axis=0), "starts": (model.nu > 0).any(axis=0)}


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 30},
    solver=("mvp .1", "l1 .1"),
    episodes=1000,
    quick={"episodes": 300},
)
def horizons(config: dict[str, Any], rng: Rng) -> Row:
    """The probe at horizons 4, 8 and 16."""
    row: Row = {}
    for H in (4, 8, 16):
        model = LatentMDP(**probe(H))
        made = learnt(model, config["solver"], config["episodes"], rng)  # told nothing
        row[f"regret_{H}"] = float(made[-1])
    row["ratio"] = row["regret_16"] / row["regret_4"]
    return row


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 30}, episodes=8000, quick={"episodes": 2000}
)
def spread(config: dict[str, Any], rng: Rng) -> Row:
    """Regret of the worked model, and of one whose next states are certain, as episodes grow."""
    K = config["episodes"]
    sure = learnt(certain(), "bernstein", K, rng)
    noisy = learnt(worked(), "bernstein", K, rng)
    return {
        "certain_after_half": float(sure[-1] - sure[K // 2 - 1]),
        "noisy_four_times": float(noisy[-1] / noisy[K // 4 - 1]),
    }


@study.experiment(
    seeds={"quick": 1, "standard": 10, "full": 30},
    M=(2, 4, 8),
    K=(1000, 4000, 16000),
    solver=("bernstein .1", "posterior"),
    quick={"M": 2, "K": (500, 1000)},
    standard={"M": (2, 6), "K": (1000, 4000)},
)
def lower(config: dict[str, Any], rng: Rng) -> Row:
    """The lower bound's family, with the success that is hardest to find in so many episodes."""
    M, S, A, K = config["M"], 8, 3, config["K"]
    model = hard(M, S, A, min(0.4, float(np.sqrt(M * S * A / K))))
    made = learnt(model, config["solver"], K, rng, planner="alternating", **_structure(model))
    var = model.variance(model.best.policy).total
    return {"regret": float(made[-1]), "floor": float(made[-1] / np.sqrt(var * M * S * A * K))}


@study.experiment(seeds=1)
def history(config: dict[str, Any], rng: Rng) -> Row:
    """What remembering is worth on the worked model."""
    from itertools import product

    from whp.rl._latent_mdp.policy import memoryless

    model = worked()
    plans = (np.reshape(a, (3, 3)) for a in product((0, 1), repeat=9))
    return {
        "best": model.best.value,
        "memoryless": max(model.value(memoryless(a)) for a in plans),
        "known": model.known_context(),
    }


def selection(name: str, tests: int, queries: int) -> TestSelection:
    """The model of all rows of a table of scikit-learn."""
    from sklearn import datasets

    data: Any = getattr(datasets, f"load_{name}")(as_frame=True)
    y = data.target.to_numpy()
    rows, names = np.ones(len(y), dtype=bool), [str(m) for m in range(int(y.max()) + 1)]
    found, _ = outcomes(data.data, rows, 3)
    fit = fitted(found, y, len(names), rows, tests, ())
    return TestSelection.of(fit.w, fit.laws, names, queries)


@study.experiment(
    seeds={"quick": 1, "standard": 5, "full": 20},
    solver=(
        "bernstein",
        "bernstein .1",
        "bernstein .03",
        "posterior",
        "greedy",
        "greedy, 10 % at random",
    ),
    episodes=3000,
    quick={"solver": ("bernstein .1", "greedy", "posterior"), "episodes": 1000},
)
def tests_on_wine(config: dict[str, Any], rng: Rng) -> Row:
    """Learning which test to ask next: wine, five tests, two questions."""
    problem = selection("wine", 5, 2)
    made = learnt(
        problem.model,
        config["solver"],
        config["episodes"],
        rng,
        planner="alternating",
        groups=problem.groups,
        **_structure(problem.model),
    )
    return {"regret": float(made[-1]), "last_tenth": float(made[-1] - made[-len(made) // 10])}


@study.experiment(
    seeds={"quick": 5, "standard": 20, "full": 100},
    data=("wine", "digits", "breast_cancer"),
    quick={"data": "wine"},
)
def held_out(config: dict[str, Any], rng: Rng) -> Row:
    """Share of right labels in sample and in rows that were not fitted."""
    from sklearn import datasets

    data: Any = getattr(datasets, f"load_{config['data']}")(as_frame=True)
    frame: pd.DataFrame = data.frame
    made = latent_mdp(frame, context="target", queries=2, rng=rng)
    assert made.accuracy is not None
    demand = next(c for c in made.certificates if c.name == "accuracy")
    return {
        "value": made.value,
        "accuracy": made.accuracy.value,
        "flattered": made.value - made.accuracy.value,
        "verdict": str(demand.verdict),
        "low": made.accuracy.low,
    }


@study.experiment(
    seeds={"quick": 2, "standard": 10, "full": 30},
    solver=("bernstein", "mvp", "l1 .1", "posterior"),
    episodes=2000,
    quick={"episodes": 500, "solver": ("bernstein", "mvp")},
)
def solvers(config: dict[str, Any], rng: Rng) -> Row:
    """Solvers on the worked model."""
    return {"regret": float(learnt(worked(), config["solver"], config["episodes"], rng)[-1])}
