"""Exact noise and private running counts against OpenDP, diffprivlib and fresh noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Peer, Target
from whp.peers import privacy
from whp.privacy._dp_continual_release import ContinualCounter, discrete_gaussian, discrete_laplace

DRAWS = 20_000


def counts(strategy: str) -> Any:
    def work(X: np.ndarray) -> Any:
        return ContinualCounter(X.shape[1], T=len(X), rho=0.5, strategy=strategy).run(X)  # type: ignore[arg-type]

    return work


def steps(strategy: str) -> Any:
    def work(X: np.ndarray) -> Any:
        mechanism = ContinualCounter(X.shape[1], T=len(X), rho=0.5, strategy=strategy)  # type: ignore[arg-type]
        for x in X:
            mechanism.step(x)

    return work


def bits(T: int, d: int) -> Any:
    return lambda: np.random.default_rng(0).integers(0, 2, (T, d)).astype(np.uint8)


CASES = [
    Case(
        name="20,000 exact discrete Gaussians, σ = 20",
        setup=lambda: [0] * DRAWS,
        ours=lambda data: discrete_gaussian(20.0, len(data)),
        peers=(privacy.GAUSSIAN, privacy.DIFFPRIVLIB),
        repeats=5,
        target=(Target(privacy.GAUSSIAN.name, 0.2), Target(seconds=DRAWS / 1e6)),
    ),
    Case(
        name="20,000 exact discrete Laplace draws, scale 20",
        setup=lambda: [0] * DRAWS,
        ours=lambda data: discrete_laplace(20.0, len(data)),
        peers=(privacy.LAPLACE,),
        repeats=5,
        target=Target(privacy.LAPLACE.name, 0.2),
    ),
    Case(
        name="all running counts of 16,384 records, 16 columns",
        setup=bits(16_384, 16),
        ours=counts("tree"),
        peers=(
            privacy.TREE,
            privacy.JAX_PRIVACY,
            Peer("own square root", counts("sqrt")),
            Peer("own naive", counts("naive")),
        ),
        repeats=3,
    ),
    *(
        Case(
            name=f"step() on 2,000 records, 16 columns, {strategy}",
            setup=bits(2_000, 16),
            ours=steps(strategy),
            peers={"own, at once": counts(strategy)},
            repeats=3,
            target=Target(seconds=2_000 * 30e-6),
        )
        for strategy in ("tree", "sqrt")
    ),
]
