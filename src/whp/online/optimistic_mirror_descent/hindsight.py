"""Looking back on a stream: the best point in hindsight, the regret, and what the theorems say of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.certificate import Certificate
from whp.intervals import Estimate, mean
from whp.online.optimistic_mirror_descent import guarantee, kernels
from whp.online.optimistic_mirror_descent.dynamic import DynamicOptimisticMirrorDescent
from whp.online.optimistic_mirror_descent.learner import OptimisticMirrorDescent
from whp.online.optimistic_mirror_descent.losses import Linear, best_point
from whp.online.optimistic_mirror_descent.predictability import (
    SEAEstimate,
    estimate_sea,
    random_order_sea,
)
from whp.result import Result
from whp.undeclared import Assumption, met, unchecked, violated

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OptimisticMirrorDescentResult", "Run", "judge", "running_bound"]

Learner = OptimisticMirrorDescent | DynamicOptimisticMirrorDescent


@dataclass(frozen=True, eq=False)
class OptimisticMirrorDescentResult(Result):
    """One pass over a stream.

    Attributes
    ----------
    points : ndarray, shape (T, d)
        The points that were played; where rows are normalised the bias comes first.
    losses : ndarray, shape (T,)
        Loss of each point on its batch, the mean over its rows.
    variation : ndarray, shape (T,)
        v_t, the squared distance of each gradient from the one before.
    comparator : ndarray, shape (d,) or (segments, d)
        The best fixed point in hindsight, or that of each segment.
    loss, best_loss, regret : float
        Sum of `losses`, that of the comparator, and their difference.
    certificates : tuple of Certificate
        ``pathwise-regret``; ``sea-regret`` where variance and variation can be had: in random order, and from batches of four.
    """

    points: np.ndarray
    losses: np.ndarray
    variation: np.ndarray
    comparator: np.ndarray
    rounds: int
    loss: float
    best_loss: float
    regret: float
    certificates: tuple[Certificate, ...]
    rule: str = "convex"
    sigma2: float | None = None
    Sigma2: float | None = None
    comparator_losses: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))
    running_bound: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Rounds, losses, regret and the gradients' variation, with the most that it could have been."""
        found: dict[str, bool | int | float | str | None] = {
            "rounds": self.rounds,
            "dimension": self.points.shape[1],
            "rule": self.rule,
            "loss": self.loss,
            "best_fixed_loss": self.best_loss,
            "regret": self.regret,
            "gradient_variation": float(self.variation.sum()),
        }
        if self.sigma2 is not None:
            found |= {"stochastic_variance": self.sigma2, "adversarial_variation": self.Sigma2}
        return found

    def artifacts(self) -> dict[str, Any]:
        """The arrays, and the last point."""
        names = ("points", "losses", "variation", "comparator")
        return {"arrays.npz": {k: getattr(self, k) for k in names}}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Cumulative regret under its running bound."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        rounds = np.arange(1, self.rounds + 1)
        if len(self.running_bound):
            ax.plot(
                rounds, self.running_bound, color="tab:orange", label="bound, as the gradients came"
            )
        ax.plot(
            rounds,
            np.cumsum(self.losses - self.comparator_losses),
            color="tab:blue",
            label="regret",
        )
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(xlabel="rounds", ylabel="regret against the best point in hindsight")
        ax.legend(frameon=False)
        return ax


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


def _mean(first: Run, others: list[Run], best_loss: float) -> tuple[Estimate, SEAEstimate]:
    """Mean regret over all orders, and mean variances: all bounds are concave in them, so that theirs bound its mean."""
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
    return mean(regrets), SEAEstimate(sigma2, Sigma2, estimates[0].estimated)


def judge(first: Run, others: list[Run], pieces: int, order: str) -> OptimisticMirrorDescentResult:
    """Comparators, regret and certificates."""
    learner, family, A, target, batch = (
        first.learner,
        first.family,
        first.A,
        first.target,
        first.batch,
    )
    losses, variation, points = first.losses, first.variation, first.points
    n, T, starts, weights = len(A), len(losses), first.starts, first.weights
    edges = np.append(starts, n)[np.linspace(0, T, pieces + 1).round().astype(int)]
    found = [best_point(family, A[i:j], target[i:j], weights[i:j]) for i, j in pairwise(edges)]
    best = np.stack([w for w, _, _ in found])
    best_loss, gap = sum(v for _, v, _ in found), sum(g for _, _, g in found)
    path = float(np.linalg.norm(np.diff(best, axis=0), axis=1).sum())
    which = np.repeat(np.arange(pieces), np.diff(edges))
    rowwise = weights * family.values(np.einsum("ij,ij->i", A, best[which]), target)
    theirs = (
        np.add.reduceat(rowwise, starts)
        + family.l2 / 2 * np.einsum("ij,ij->i", best, best)[which[starts]]
    )
    total = math.fsum(losses)
    regret = Estimate(
        total - best_loss, total - best_loss, total - best_loss + gap, 1.0, method="duality gap"
    )
    checked = [*learner.assumptions()]
    if learner.curvature in ("strongly_convex", "exp_concave"):
        # What gradients alone cannot show holds for these losses by their formula.
        curved = f"the losses are {learner.curvature.replace('_', ' ')}"
        evidence = f"{family.name} loss with row norms ≤ {family.B:g}, ‖w‖ ≤ {family.R:g}, λ = {family.l2:g}"
        checked = [
            a for a in checked if not a.statement.startswith(("the losses are", "each loss is"))
        ]
        checked.append(met(curved, evidence))
    extra = {"path_length": path} if isinstance(learner, DynamicOptimisticMirrorDescent) else {}
    certificates = [learner.certificate(regret=regret, assumptions=checked, **extra)]
    estimate: SEAEstimate | None = None
    average: Estimate | None = None
    if order == "shuffle" and others:
        average, estimate = _mean(first, others, best_loss)
    elif order == "shuffle":
        estimate = first.sea()
    elif batch >= 4 and T > 1:
        estimate = _split(family, A, target, points, batch)
    if estimate is not None and learner.smoothness is not None:
        certificates.append(_sea(first, estimate, checked, path, order, average, 1 + len(others)))
    scale_free = learner.curvature == "convex" and learner.gradient_bound is None
    sigma2, Sigma2 = estimate.total if estimate is not None else (None, None)
    return OptimisticMirrorDescentResult(
        points=points,
        losses=losses,
        variation=variation,
        comparator=best if pieces > 1 else best[0],
        rounds=T,
        loss=total,
        best_loss=best_loss,
        regret=total - best_loss,
        certificates=tuple(certificates),
        rule="scale-free convex" if scale_free else learner.curvature.replace("_", " "),
        sigma2=sigma2,
        Sigma2=Sigma2,
        comparator_losses=theirs,
        running_bound=running_bound(learner, variation),
    )


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
    estimate: SEAEstimate,
    checked: list[Assumption],
    path: float,
    order: str,
    average: Estimate | None,
    runs: int,
) -> Certificate:
    learner, family, A, target = run.learner, run.family, run.A, run.target
    sigma2, Sigma2 = estimate.total

    def mean_gradient(w: np.ndarray) -> np.ndarray:
        return A.T @ family.slopes(A @ w, target) / len(A) + family.l2 * w

    L = float(learner.smoothness or 0)
    if family.smoothness * (1 - 1e-12) <= L:
        smooth = met(
            "the expected losses are L-smooth", f"L = {L:.4g}, from the loss and the row norms"
        )
    else:
        smooth = guarantee.check_smoothness(mean_gradient, learner.domain, L, dim=A.shape[1])
    assumptions = [
        *checked,
        smooth,
        met("the expected losses are convex", f"{family.name} loss of a linear prediction"),
    ]
    if order == "shuffle":
        how = "computed over the rows not yet seen" + (
            ", in 512 rounds" if estimate.estimated else ""
        )
        assumptions.append(
            met(
                "nature draws each round's rows without having seen the draw", "the order is random"
            )
        )
    else:
        how = "estimated from split batches"
        assumptions.append(
            unchecked("nature draws each round's rows independently", f"σ² and Σ² are {how}")
        )
    inputs = {"L": L, "σ² and Σ²": how, "runs": runs}
    if isinstance(learner, DynamicOptimisticMirrorDescent):
        if learner.pool_cap is not None and learner.pool_cap > 1 / (16 * L) * (1 + 1e-12):
            statement = "no step of the pool exceeds 1/(16L)"
            evidence = f"pool_cap = {learner.pool_cap:.4g} > {1 / (16 * L):.4g}"
            assumptions.append(violated(statement, evidence, "leave pool_cap out."))
        known = {
            "regret": average,
            "assumptions": assumptions,
            "inputs": inputs,
            "path_length": path,
        }
        return learner.sea_certificate(sigma2, Sigma2, **known)
    noise: Any = sigma2
    drift: Any = Sigma2
    if learner.curvature == "strongly_convex":
        each = (np.maximum(estimate.sigma2, 0), estimate.Sigma2)
        noise, drift = (np.pad(v, (0, learner.rounds - len(v)), "edge") for v in each)
    return learner.sea_certificate(
        noise, drift, regret=average, assumptions=assumptions, inputs=inputs
    )
