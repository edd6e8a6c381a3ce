"""Sketched least squares against exact solvers and other sketches."""

from __future__ import annotations

from typing import Any

import numpy as np

from whp.experiment.benchmark import Case, Peer, Target
from whp.linalg import fwht, linf_regression
from whp.peers import sketches


def problem(n: int, d: int) -> Any:
    def setup() -> dict[str, Any]:
        rng = np.random.default_rng(0)
        A = rng.standard_normal((n, d))
        return {"A": A, "b": A @ rng.standard_normal(d) + rng.standard_normal(n), "rows": 4 * d}

    return setup


def ours(sketch: Any) -> Any:
    return lambda data: linf_regression(
        data["A"], data["b"], rows=data["rows"], sketch=sketch, rng=0
    )


def solved(*peers: Peer) -> list[Peer]:
    return [peer.on(lambda data: (data["A"], data["b"], data["rows"])) for peer in peers]


EXACT = (sketches.LSTSQ, sketches.GELSY, sketches.NORMAL_EQUATIONS)

CASES = [
    Case(
        name="65,536×512, m = 2,048, SRHT",
        setup=problem(65536, 512),
        ours=ours("srht"),
        peers=solved(*EXACT, sketches.CLARKSON_WOODRUFF),
        repeats=5,
        target=(Target("numpy.linalg.lstsq", 0.2), Target("normal equations", 1.2)),
        note="The exact solvers are exact; ours adds error bars to a sketched solution. The CountSketch has no error bars.",
    ),
    Case(
        name="65,536×512, m = 2,048, pooled",
        setup=problem(65536, 512),
        ours=ours("pooled"),
        peers=solved(*EXACT),
        repeats=3,
        note="The sketch whose proof is complete: it needs the whole transform.",
    ),
    Case(
        name="262,144×64, m = 256, SRHT",
        setup=problem(262144, 64),
        ours=ours("srht"),
        peers=solved(*EXACT, sketches.CLARKSON_WOODRUFF),
        repeats=5,
        note="Below the break-even: linf_regression solves exactly unless rows are asked for.",
    ),
    Case(
        name="262,144×16, m = 64, SRHT",
        setup=problem(262144, 16),
        ours=ours("srht"),
        peers=solved(*EXACT, sketches.CLARKSON_WOODRUFF),
        repeats=5,
        note="Few columns: a sketch has nothing to win here.",
    ),
    Case(
        name="16,384×128, m = 512, SRHT",
        setup=problem(16384, 128),
        ours=ours("srht"),
        peers=solved(*EXACT, sketches.CLARKSON_WOODRUFF, sketches.GAUSSIAN_PROJECTION),
        repeats=5,
    ),
    Case(
        name="262,144×64, rows not given",
        setup=problem(262144, 64),
        ours=lambda data: linf_regression(data["A"], data["b"]),
        peers=solved(*EXACT),
        repeats=5,
        target=(Target("numpy.linalg.lstsq", 0.5), Target("scipy.linalg.lstsq gelsy", 0.5)),
        note="What a user gets by default: the exact solution, with the radius of its rounding.",
    ),
    Case(
        name="fwht of 65,536×128",
        setup=lambda: np.random.default_rng(0).standard_normal((65536, 128)),
        ours=fwht,
        peers=[sketches.HADAMARD.on(lambda data: (data,)), *sketches.ABSENT],
        repeats=5,
    ),
]
