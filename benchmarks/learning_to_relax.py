"""Sweeps against pyamg's, and sequences of the heat equation against fixed ω, sparse LU and multigrid."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from whp.datasets.linear_systems import heat_equation, stencil
from whp.experiment.benchmark import Case, Peer, Target
from whp.linalg import RelaxationTuner, System, replay_counts, solve_sequence, sor
from whp.peers import solvers as peers

SWEEPS = 100


def large() -> dict[str, Any]:
    A = stencil(200)
    return {"A": A, "system": System(A), "b": np.ones(A.shape[0])}


def our_sweeps(data: dict[str, Any]) -> Any:
    return sor(data["system"], data["b"], 1.5, cap=SWEEPS, tol=1e-15)


def heat(nx: int, steps: int) -> Any:
    """The systems as they come when each is solved well, so that all solve the same ones."""

    def setup() -> list[Any]:
        from scipy.sparse.linalg import spsolve

        gen = heat_equation(nx, steps)  # all periods of the diffusion
        found = [next(gen)]
        while len(found) < steps:
            A, b, _ = found[-1]
            found.append(gen.send(np.asarray(spsolve(A.tocsc(), b))))
        return found

    return setup


def learnt(learner: str | float) -> Any:
    return lambda systems: solve_sequence(
        systems, solver="ssor-cg", learner=learner, context_range=(0.0, 10.0), rng=0
    )


def told_again(counts: np.ndarray) -> Any:
    for n in range(100):
        tuner = RelaxationTuner("tsallis", rng=n)
        for row in counts:
            arm, _ = tuner.ask()
            tuner.tell(row[arm])


def fixed(omega: float) -> Peer:
    return Peer(f"own, ω = {omega:g}", learnt(omega))


def swept(peer: Peer) -> Peer:
    return peer.on(lambda data: (data["A"], data["b"], 1.5, SWEEPS))


def asked(learner: str) -> Any:
    def work(rounds: int) -> Any:
        tuner = RelaxationTuner(learner, context_range=(0.0, 1.0), rng=0)
        for t, c in zip(range(rounds), itertools.cycle((0.1, 0.5, 0.9))):
            tuner.ask(c)
            tuner.tell(50 + t % 7)

    return work


PEERS = [
    fixed(1.0),
    fixed(1.4),
    fixed(1.8),
    peers.SCIPY_CG,
    peers.SPARSE_LU,
    peers.MULTIGRID,
    peers.KEPT_MULTIGRID,
]

CASES = [
    Case(
        name=f"{SWEEPS} SOR sweeps, 40,000 unknowns",
        setup=large,
        ours=our_sweeps,
        peers=[swept(peers.PYAMG_SOR_WITH_NORMS), swept(peers.PYAMG_SOR)],
        repeats=5,
        target=(Target(peers.PYAMG_SOR_WITH_NORMS.name, 0.7),),
        note="Ours includes the residual norm of every sweep.",
    ),
    *(
        Case(
            name=f"{steps} steps of the heat equation, {(nx - 1) ** 2:,} unknowns, SSOR-CG with ω learnt by ChebCB",
            setup=heat(nx, steps),
            ours=learnt("chebcb"),
            peers=PEERS,
            repeats=3,
            note="Over five periods of the diffusion.",
        )
        for nx, steps in ((25, 200), (50, 100), (100, 50), (200, 25))
    ),
    Case(
        name="1,000 rounds of ChebCB",
        setup=lambda: 1000,
        ours=asked("chebcb"),
        peers=[Peer("own Tsallis-INF", asked("tsallis"))],
        repeats=5,
        target=(Target(seconds=0.05),),
    ),
    Case(
        name="replays of Tsallis-INF, 100 of 400 systems, 20 ω",
        setup=lambda: np.random.default_rng(0).integers(10, 300, (400, 20)).astype(float),
        ours=lambda counts: replay_counts(counts, replays=100, rng=0),
        peers=[Peer("asking and telling a tuner", told_again)],
        repeats=3,
        target=(Target("asking and telling a tuner", 0.2),),
    ),
]
