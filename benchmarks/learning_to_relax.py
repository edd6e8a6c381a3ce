"""Sweeps against pyamg's, and sequences of the heat equation against fixed ω, sparse LU and multigrid."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from whp.datasets.linear_systems import heat_equation, stencil
from whp.experiment.benchmark import Case
from whp.linalg.learning_to_relax import RelaxationTuner, System, solve_sequence, sor

SWEEPS = 100


def large() -> dict[str, Any]:
    A = stencil(200)
    return {"A": A, "system": System(A), "b": np.ones(A.shape[0])}


def our_sweeps(data: dict[str, Any]) -> Any:
    return sor(data["system"], data["b"], 1.5, cap=SWEEPS, tol=1e-15)


def pyamg_sweeps(*, residual: bool) -> Any:
    """pyamg's sweep has no stopping rule: its users look at the residual themselves."""

    def work(data: dict[str, Any]) -> Any:
        from pyamg.relaxation.relaxation import sor as theirs
        from scipy.sparse import csr_matrix

        A, x = csr_matrix(data["A"]), np.zeros(len(data["b"]))
        for _ in range(SWEEPS):
            theirs(A, x, data["b"], 1.5, iterations=1)
            if residual and np.linalg.norm(data["b"] - A @ x) < 1e-15:
                break
        return x

    return work


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


def sparse_lu(systems: list[Any]) -> Any:
    from scipy.sparse.linalg import spsolve

    return [spsolve(A.tocsc(), b) for A, b, _ in systems]


def scipy_cg(systems: list[Any]) -> Any:
    from scipy.sparse.linalg import cg

    x = None
    for A, b, _ in systems:
        x, _ = cg(A, b, x0=x, rtol=1e-8)
    return x


def multigrid(*, reuse: bool) -> Any:
    def work(systems: list[Any]) -> Any:
        from pyamg import ruge_stuben_solver
        from scipy.sparse import csr_matrix
        from scipy.sparse.linalg import cg

        x = None
        hardest = max((A for A, _, _ in systems), key=lambda A: float(A.diagonal().max()))
        preconditioner = ruge_stuben_solver(csr_matrix(hardest)).aspreconditioner()
        for A, b, _ in systems:
            if not reuse:
                preconditioner = ruge_stuben_solver(csr_matrix(A)).aspreconditioner()
            x, _ = cg(A, b, x0=x, rtol=1e-8, M=preconditioner)
        return x

    return work


def asked(learner: str) -> Any:
    def work(rounds: int) -> Any:
        tuner = RelaxationTuner(learner, context_range=(0.0, 1.0), rng=0)
        for t, c in zip(range(rounds), itertools.cycle((0.1, 0.5, 0.9))):
            tuner.ask(c)
            tuner.tell(50 + t % 7)

    return work


PEERS = {
    "own, ω = 1": learnt(1.0),
    "own, ω = 1.4": learnt(1.4),
    "own, ω = 1.8": learnt(1.8),
    "scipy cg, no preconditioner": scipy_cg,
    "scipy spsolve": sparse_lu,
    "pyamg, new hierarchy each": multigrid(reuse=False),
    "pyamg, hierarchy of the hardest kept": multigrid(reuse=True),
}

CASES = [
    Case(
        name=f"{SWEEPS} SOR sweeps, 40,000 unknowns",
        setup=large,
        ours=our_sweeps,
        peers={
            "pyamg with residual norms": pyamg_sweeps(residual=True),
            "pyamg, sweeps alone": pyamg_sweeps(residual=False),
        },
        repeats=5,
        target="≤ 0.7 × pyamg with residual norms",
        note="Ours includes the residual norm of every sweep.",
    ),
    *(
        Case(
            name=f"{steps} steps of the heat equation, {(nx - 1) ** 2:,} unknowns, SSOR-CG with ω learnt by ChebCB",
            setup=heat(nx, steps),
            ours=learnt("chebcb"),
            peers=PEERS,
            repeats=3,
            note="Over five periods of the diffusion. The hierarchy that is kept is that of the system with the largest diffusion.",
        )
        for nx, steps in ((25, 200), (50, 100), (100, 50), (200, 25))
    ),
    Case(
        name="1,000 rounds of ChebCB",
        setup=lambda: 1000,
        ours=asked("chebcb"),
        peers={"own Tsallis-INF": asked("tsallis")},
        repeats=5,
        target="≤ 50 µs a round; Tsallis-INF ≤ 30 µs",
    ),
]
