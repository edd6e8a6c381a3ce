"""Episodes with changing costs against plain NumPy loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Target
from whp.peers.policy_optimisation import LOOPS
from whp.rl import AdversarialPolicyOptimizer, LinearQModel, log_barrier

H, X, A, D, K = 3, 8, 3, 4, 1000


def layers() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    phi = rng.dirichlet(np.ones(D), (H, X, A))
    P = np.einsum("hxad,hdy->hxay", phi[:-1], rng.dirichlet(np.ones(X), (H - 1, D)))
    model = LinearQModel(phi, P, np.full(X, 1 / X))
    losses = np.einsum("hxad,khd->khxa", phi, rng.random((K, H, D)))
    AdversarialPolicyOptimizer(model, n_episodes=2).run(losses[:2])  # compile
    return {"model": model, "losses": losses}


def runs(n: int) -> Any:
    def run(data: dict[str, Any]) -> None:
        made = AdversarialPolicyOptimizer(data["model"], n_episodes=K, n_runs=n, random_state=0)
        made.run(data["losses"])

    return run


def by_loops(data: dict[str, Any]) -> Any:
    made = AdversarialPolicyOptimizer(data["model"], n_episodes=K)
    rates = (made.rates.eta, made.rates.beta, made.rates.gamma)
    return data["model"], data["losses"], rates, np.random.default_rng(0)


def scores() -> dict[str, Any]:
    rows = 30 * np.random.default_rng(0).random((1_000_000, 10))
    log_barrier(rows[:10])
    return {"rows": rows}


CASES = [
    Case(
        name="1,000 episodes, 3 steps, 8 states, 3 actions, d = 4",
        setup=layers,
        ours=runs(1),
        peers=[LOOPS.on(by_loops)],
        repeats=5,
        target=Target(LOOPS.name, 0.25),
        note="Ours also computes the expected loss of every episode, and what the certificates want.",
    ),
    Case(
        name="the same, 32 replays",
        setup=layers,
        ours=runs(32),
        repeats=5,
        target=Target(seconds=1.6),
        note="50 µs an episode and replay.",
    ),
    Case(
        name="log-barrier policies of 10⁶ states, 10 actions",
        setup=scores,
        ours=lambda data: log_barrier(data["rows"]),
        repeats=3,
        target=Target(seconds=1.0),
    ),
]
