"""Looking back on a stream: the best point in hindsight, the regret, and what the theorems say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from whp.certificate import Answer, Certificate, Status
from whp.intervals import Estimate
from whp.online._optimistic_mirror_descent import kernels
from whp.online._optimistic_mirror_descent import theorems as th
from whp.online._optimistic_mirror_descent.dynamic import DynamicOptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.losses import Linear, best_point
from whp.online._optimistic_mirror_descent.passes import Learner, Run
from whp.online._optimistic_mirror_descent.predictability import SEAEstimate, estimate_sea

__all__ = ["Judged", "judge", "known_of", "running_bound"]

Drawn = Literal["none", "ours", "theirs"]


@dataclass(frozen=True, eq=False)
class Judged:
    """A pass with its comparators, regret and certificates, under the names that the result has."""

    points: np.ndarray
    losses: np.ndarray
    variation: np.ndarray
    comparator: np.ndarray
    rounds: int
    loss: float
    best_loss: float
    regret: float
    certificates: tuple[Certificate, ...]
    rule: str
    sigma2: float | None
    Sigma2: float | None
    comparator_losses: np.ndarray
    running_bound: np.ndarray


def judge(first: Run, others: list[Run], pieces: int, drawn: Drawn, delta: float) -> Judged:
    """Comparators, regret and certificates.

    Parameters
    ----------
    first, others : Run
        Passes over the same rows; those of `others` and the first are in random orders.
    pieces : int
        Of the stream, each with a comparator of its own.
    drawn : {"none", "ours", "theirs"}
        Whose generator drew the orders, if they are random.
    delta : float
        Failure probability of the interval of the mean regret.
    """
    learner, family, A, target = first.learner, first.family, first.A, first.target
    n, T, starts, weights = len(A), len(first.losses), first.starts, first.weights
    edges = np.append(starts, n)[np.linspace(0, T, pieces + 1).round().astype(int)]
    found = [best_point(family, A[i:j], target[i:j], weights[i:j]) for i, j in pairwise(edges)]
    best = np.stack([w for w, _, _ in found])
    best_loss, gap = sum(v for _, v, _ in found), sum(g for _, _, g in found)
    path = float(np.linalg.norm(np.diff(best, axis=0), axis=1).sum())
    which = np.repeat(np.arange(pieces), np.diff(edges))
    rowwise = weights * family.values(np.einsum("ij,ij->i", A, best[which]), target)
    ridge = family.l2 / 2 * np.einsum("ij,ij->i", best, best)[which[starts]]
    total = math.fsum(first.losses)
    # Both losses are known to their rounding, which can be more than the regret is; its linear
    # part is at least it, and does not cancel.
    rounding = 8 * float(np.finfo(float).eps) * (np.sqrt(n) + A.shape[1]) * abs(total)
    high = total - best_loss + gap + rounding
    if pieces == 1:
        linear = learner._regret(None, learner.linearised_regret, None).high
        high = max(min(high, linear), total - best_loss - rounding)
    regret = Estimate.between(
        total - best_loss - rounding, high, value=total - best_loss, level=1.0, method="duality gap"
    )
    known = known_of(family)
    if isinstance(learner, DynamicOptimisticMirrorDescent):
        known[th.PATH.name] = th.PATH.by_construction(
            f"{pieces} best points in hindsight, {path:.4g} apart"
            if pieces > 1
            else "a single point"
        )
        certificate = learner._of_the_run(path, None, regret, (), known)
    else:
        certificate = learner._of_the_run(None, regret, (), known)
    certificates = [certificate]
    regrets: list[float] | None = None
    estimate: SEAEstimate | None = None
    if drawn != "none":
        regrets, estimate = _over_orders(first, others, best_loss)
    elif first.batch >= 4 and T > 1:
        estimate = _split(family, A, target, first.points, first.batch)
    if estimate is not None and learner.smoothness is not None:
        certificates.append(
            _sea(first, others, estimate, path, drawn, regrets if others else None, delta, known)
        )
    scale_free = learner.curvature == "convex" and learner.gradient_bound is None
    sigma2, Sigma2 = estimate.total if estimate is not None else (None, None)
    return Judged(
        points=first.points,
        losses=first.losses,
        variation=first.variation,
        comparator=best if pieces > 1 else best[0],
        rounds=T,
        loss=total,
        best_loss=best_loss,
        regret=total - best_loss,
        certificates=tuple(certificates),
        rule="scale-free convex" if scale_free else learner.curvature.replace("_", " "),
        sigma2=sigma2,
        Sigma2=Sigma2,
        comparator_losses=np.add.reduceat(rowwise, starts) + ridge,
        running_bound=running_bound(learner, first.variation),
    )


def known_of(family: Linear) -> dict[str, Answer]:
    """What holds of a pass of this library over losses of linear predictions."""
    formula = f"{family.name} loss of a linear prediction"
    bounds = f"{formula}, row norms ≤ {family.B:g}, ‖w‖ ≤ {family.R:g}, λ = {family.l2:g}"
    found = (
        th.AT_THE_POINT_PLAYED.by_construction("one pass took every gradient where it played"),
        th.CONVEX.by_construction(formula),
        th.CURVED.by_construction(bounds),
        th.CONVEX_ON_AVERAGE.by_construction(formula),
    )
    return {a.name: a for a in found}


def _over_orders(
    first: Run, others: list[Run], best_loss: float
) -> tuple[list[float], SEAEstimate]:
    """Regret of every order, and mean variances: all bounds are concave in them, so that theirs bound its mean."""
    regrets, estimates = [math.fsum(first.losses) - best_loss], [first.sea()]
    for run in others:
        # Without a shorter last batch every order has the same best point.
        even = len(run.A) % run.batch == 0
        best = best_loss if even else best_point(run.family, run.A, run.target, run.weights)[1]
        regrets.append(math.fsum(run.losses) - best)
        estimates.append(run.sea())
    sigma2, Sigma2 = (
        np.mean([getattr(e, k) for e in estimates], axis=0) for k in ("sigma2", "Sigma2")
    )
    return regrets, SEAEstimate(sigma2, Sigma2, estimates[0].estimated)


def running_bound(learner: Learner, variation: np.ndarray) -> np.ndarray:
    """The measured form of the bound after each round, where it is a function of the v_t alone."""
    D = float(learner.domain.diameter)
    if isinstance(learner, DynamicOptimisticMirrorDescent) or learner.curvature == "exp_concave":
        return np.zeros(0)
    if learner.curvature == "strongly_convex":
        t, lam = np.arange(1, len(variation) + 1), float(learner.strong_convexity or 0)
        return lam * D**2 / 4 + 2 / lam * np.cumsum((1 / t + 1 / t**2) * variation)
    offset = float(learner._p[kernels.OFFSET])
    known = offset + np.concatenate([[0.0], np.cumsum(variation)[:-1]])
    eta = np.divide(D, np.sqrt(np.where(known > 0, known, np.maximum(variation, 1e-300))))
    cost = eta * variation
    if learner.gradient_bound is None:
        cost = np.minimum(cost, D * np.sqrt(variation))
    return D**2 / (2 * eta) + np.cumsum(cost)


def _split(
    family: Linear, A: np.ndarray, target: np.ndarray, points: np.ndarray, batch: int
) -> SEAEstimate:
    """Split-batch estimates; a last batch of a single row is left out, as it has no halves."""

    def grad(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        return A[rows].T @ family.slopes(A[rows] @ x, target[rows]) / len(rows)

    batches = [np.arange(i, min(i + batch, len(A))) for i in range(0, len(A), batch)]
    if len(batches[-1]) < 2:
        batches.pop()
    return estimate_sea(grad, batches, points[: len(batches)])


def _sea(
    run: Run,
    others: list[Run],
    estimate: SEAEstimate,
    path: float,
    drawn: Drawn,
    regrets: list[float] | None,
    delta: float,
    known: dict[str, Answer],
) -> Certificate:
    learner, family, A, target = run.learner, run.family, run.A, run.target

    def mean_gradient(w: np.ndarray) -> np.ndarray:
        return A.T @ family.slopes(A @ w, target) / len(A) + family.l2 * w

    L = float(learner.smoothness or 0)
    if family.smoothness * (1 - 1e-12) <= L:
        smooth = th.SMOOTH.by_construction(f"L = {L:.4g}, from the loss and the row norms")
    else:
        smooth = th.check_smoothness(mean_gradient, learner.domain, L, dim=A.shape[1])
    found = [smooth]
    if drawn == "none":
        how = "estimated from split batches"
        found.append(th.KNOWN_VARIANCE.unchecked(f"σ² and Σ² are {how}"))
    elif estimate.estimated:
        how = "computed over the rows not yet seen, in 512 rounds"
        found.append(th.KNOWN_VARIANCE.unchecked(f"σ² and Σ² are {how}"))
    else:
        how = "computed over the rows not yet seen"
        found.append(th.KNOWN_VARIANCE.by_construction(how))
    if drawn == "ours":
        found.append(th.INDEPENDENT.by_construction("the order is random"))
        if regrets is not None:
            of_them = f"{len(regrets)} random orders of one call"
            if learner.gradient_bound is None:  # G is the loss's own
                found.append(th.OF_THE_RUNS.by_construction(of_them))
            else:
                answer = _no_longer_than(learner.gradient_bound, (run, *others), of_them)
                found.append(answer)
                if answer.status is Status.VIOLATED:
                    regrets = None  # they may lie beyond what such gradients allow
    elif drawn == "theirs":
        found.append(th.INDEPENDENT.unchecked("the order was drawn by a generator of your own"))
    inputs = {"L": L, "σ² and Σ²": how}
    length = {"path_length": path} if isinstance(learner, DynamicOptimisticMirrorDescent) else {}
    sigma2, Sigma2 = estimate.total
    noise: Any = sigma2
    drift: Any = Sigma2
    if learner.curvature == "strongly_convex":
        each = (np.maximum(estimate.sigma2, 0), estimate.Sigma2)
        noise, drift = (np.pad(v, (0, learner.rounds - len(v)), "edge") for v in each)
    G = family.gradient_bound if learner.gradient_bound is None else None
    return learner._on_average(
        noise, drift, regrets, delta, G, (), {**known, **{a.name: a for a in found}}, inputs, length
    )


def _no_longer_than(G: float, runs: Sequence[Run], said: str) -> Answer:
    """Whether a G that was told holds in every run, not in the first alone."""
    largest = max(float(run.learner._s[kernels.GMAX]) for run in runs)
    return th.OF_THE_RUNS.check(
        largest <= G * (1 + 1e-12), f"{said}, whose largest gradient has norm {largest:.6g}"
    )
