"""One pass of a learner over rows and targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from whp.online._optimistic_mirror_descent import kernels
from whp.online._optimistic_mirror_descent.domains import Ball
from whp.online._optimistic_mirror_descent.dynamic import DynamicOptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.learner import OptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.losses import Linear
from whp.online._optimistic_mirror_descent.predictability import SEAEstimate, random_order_sea
from whp.validate import as_real

__all__ = ["Learner", "Run", "learn_stream", "make_learner", "play"]

Learner = OptimisticMirrorDescent | DynamicOptimisticMirrorDescent


def make_learner(
    family: Linear,
    dim: int,
    *,
    curvature: str = "auto",
    dynamic: bool = False,
    gradient_bound: float | None = None,
    smoothness: float | None = None,
    pool_cap: float | None = None,
    horizon: int | None = None,
) -> Learner:
    """The learner for a loss on a ball around zero, its constants taken from the loss where they are not given."""
    domain = Ball(family.R)
    L = family.smoothness if smoothness is None else as_real(smoothness, "smoothness", low=0)
    if dynamic:
        if horizon is None:
            raise ValueError("horizon must be given with dynamic=True, got None")
        if L == 0:
            raise ValueError(
                "loss must be smooth and not linear with dynamic=True: its pool begins at 1/(16L)"
            )
        if curvature not in ("auto", "convex"):
            raise ValueError(
                f"curvature must be left out with dynamic=True, whose rule is its own, got {curvature!r}"
            )
        G = family.gradient_bound if gradient_bound is None else gradient_bound
        return DynamicOptimisticMirrorDescent(
            domain, dim=dim, smoothness=L, gradient_bound=G, horizon=horizon, pool_cap=pool_cap
        )
    if pool_cap is not None:
        raise ValueError(f"pool_cap must be left out unless dynamic=True, got {pool_cap}")
    if curvature == "auto":
        curvature = "strongly_convex" if family.l2 > 0 else "convex"
    match curvature:
        case "strongly_convex":
            if family.l2 <= 0:
                raise ValueError(
                    f"l2 must be positive for curvature='strongly_convex', got {family.l2:g}"
                )
            settings: dict[str, Any] = {
                "strong_convexity": family.l2,
                "gradient_bound": gradient_bound,
            }
        case "exp_concave":
            if family.l2 > 0 or family.exp_concavity <= 0:
                raise ValueError(
                    "loss must be logistic or squared, and l2 zero, for curvature='exp_concave'"
                )
            G = family.gradient_bound if gradient_bound is None else gradient_bound
            settings = {"exp_concavity": family.exp_concavity, "gradient_bound": G}
        case _:
            settings = {"gradient_bound": gradient_bound}
    return OptimisticMirrorDescent(domain, dim=dim, curvature=curvature, smoothness=L, **settings)  # type: ignore[arg-type]


EMPTY, NO_POINTS = np.zeros(0), np.zeros((0, 0))


def learn_stream(
    learner: Learner,
    family: Linear,
    rows: np.ndarray,
    targets: np.ndarray,
    *,
    normalize: bool,
    batch: int,
    losses: np.ndarray = EMPTY,
    variation: np.ndarray = EMPTY,
    points: np.ndarray = NO_POINTS,
) -> None:
    """Feed rows to a learner on a ball, in one compiled loop; the last three arrays are filled where they have room."""
    whole = learner._streamed == learner.rounds
    work = (family.code, family.l2, normalize, batch, rows, targets, losses, variation, points)
    if isinstance(learner, DynamicOptimisticMirrorDescent):
        stopped = kernels.learn_pool(
            learner._p,
            learner.smoothness,
            learner._low,
            learner._size,
            learner._s,
            learner._W,
            learner._P,
            learner._Q,
            *work,
        )
    else:
        stopped = kernels.learn(
            learner._rule,
            learner._p,
            learner._low,
            learner._size,
            learner._s,
            learner._W,
            learner._M,
            *work,
        )
    if whole:  # else some gradients came from elsewhere, and so it stays
        learner._streamed = learner.rounds
    if stopped >= 0:
        raise ValueError(
            f"rows must give finite gradients, that of row {stopped} is not; it and what follows are unlearnt"
        )


@dataclass(frozen=True, eq=False)
class Run:
    """A learner after one pass, and what it played on."""

    learner: Learner
    family: Linear
    A: np.ndarray
    target: np.ndarray
    batch: int
    losses: np.ndarray
    variation: np.ndarray
    points: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """First row of each batch."""
        return np.arange(0, len(self.A), self.batch)

    @property
    def weights(self) -> np.ndarray:
        """Of each row: losses are means over batches, and so are the comparator's."""
        sizes = np.diff(np.append(self.starts, len(self.A)))
        return np.repeat(1 / sizes, sizes)

    def sea(self) -> SEAEstimate:
        """Of the random order."""
        return random_order_sea(self.family.slopes, self.A, self.target, self.points, self.batch)


def play(learner: Learner, family: Linear, A: np.ndarray, target: np.ndarray, batch: int) -> Run:
    """One pass, everything kept."""
    T = -(-len(A) // batch)
    losses, variation, points = np.zeros(T), np.zeros(T), np.zeros((T, A.shape[1]))
    learn_stream(
        learner,
        family,
        A,
        target,
        normalize=False,
        batch=batch,
        losses=losses,
        variation=variation,
        points=points,
    )
    return Run(learner, family, A, target, batch, losses, variation, points)
