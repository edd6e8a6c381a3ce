"""The front door: a whole stream of rows and targets, learnt in one pass, with its regret and certificates."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np

from whp.certificate import Assumption, Certificate, met, unchecked
from whp.intervals import Estimate
from whp.io import Data
from whp.online.optimistic_mirror_descent import guarantee, kernels
from whp.online.optimistic_mirror_descent.domains import Ball
from whp.online.optimistic_mirror_descent.dynamic import DynamicOptimisticMirrorDescent
from whp.online.optimistic_mirror_descent.learner import OptimisticMirrorDescent
from whp.online.optimistic_mirror_descent.losses import Linear, best_point, normalized_rows
from whp.online.optimistic_mirror_descent.predictability import SEAEstimate, estimate_sea, random_order_sea
from whp.progress import track
from whp.result import Result
from whp.validate import as_choice, as_int, as_matrix, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OptimisticMirrorDescentResult", "learn_stream", "make_learner", "optimistic_mirror_descent"]

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
            ax.plot(rounds, self.running_bound, color="tab:orange", label="bound, as the gradients came")
        ax.plot(rounds, np.cumsum(self.losses - self.comparator_losses), color="tab:blue", label="regret")
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(xlabel="rounds", ylabel="regret against the best point in hindsight")
        ax.legend(frameon=False)
        return ax


def optimistic_mirror_descent(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels", "target")],
    *,
    loss: Literal["auto", "logistic", "squared", "linear"] | tuple[Callable[..., Any], Callable[..., Any]] = "auto",
    curvature: Literal["auto", "convex", "strongly_convex", "exp_concave"] = "auto",
    radius: float = 5.0,
    batch_size: int = 1,
    l2: float = 0.0,
    gradient_bound: float | None = None,
    smoothness: float | None = None,
    dynamic: bool = False,
    pool_cap: float | None = None,
    segments: int = 1,
    order: Literal["given", "shuffle"] = "given",
    normalize: Literal["row", "none"] = "row",
    row_bound: float | None = None,
    rng: np.random.Generator | int | None = None,
) -> OptimisticMirrorDescentResult:
    """Learn a linear predictor online, in one pass and without a learning rate, and bound its regret.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Rows in the order in which they arrive.
    y : array_like, shape (n,)
        Targets: numbers, or labels of two classes.
    loss : {"auto", "logistic", "squared", "linear"} or pair of callables
        Of the prediction ⟨a, w⟩; linear is y⟨a, w⟩. By default logistic for two classes, else squared. From Python also a
        pair ``(loss(w, row, target), gradient(w, row, target))``, which needs `smoothness`.
    curvature : {"auto", "convex", "strongly_convex", "exp_concave"}
        Rule of the step sizes: by default strongly_convex where `l2` is positive, else convex. The exp-concave rule has a
        better bound in the long run and does worse on most streams, so it is never chosen unasked.
    radius : float
        Of the ball around zero that the predictor stays in.
    batch_size : int
        Rows a round; their mean gradient is one gradient.
    l2 : float
        λ of a ridge term ½λ‖w‖².
    gradient_bound : float, optional
        G: runs the paper's convex rule. The default runs a scale-free one that needs none.
    smoothness : float, optional
        L of the expected losses, by default computed from the loss.
    dynamic : bool
        Compete with a comparator that moves, at the price of a pool of learners.
    pool_cap : float, optional
        Largest step of that pool, 1/(16L) by default; 1/(8L) is the paper's.
    segments : int
        Equal pieces of the stream, each with its own best point in hindsight; more than one needs `dynamic`.
    order : {"given", "shuffle"}
        Whether the rows are taken as they are or in random order.
    normalize : {"row", "none"}
        Append a 1 to each row and divide by its norm, which needs no knowledge of rows to come; or take rows as they are.
    row_bound : float, optional
        Largest norm of a row, for ``normalize="none"``.
    rng : numpy.random.Generator, int or None
        Source of the random order.

    Returns
    -------
    OptimisticMirrorDescentResult

    Raises
    ------
    TypeError, ValueError
        If data do not fit together or an option is out of range; the message names the argument.

    References
    ----------
    Chen, Tu, Zhao, Zhang (ICML 2023), arXiv 2302.04552.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((500, 3))
    >>> result = optimistic_mirror_descent(X, X[:, 0] > 0, radius=2.0)
    >>> result.certificates[0].verdict
    <Verdict.HOLDS: 'holds'>
    """
    raw = np.ascontiguousarray(as_matrix(X, "X", dtype=np.float64))
    n = len(raw)
    as_choice(order, "order", ("given", "shuffle"))
    as_choice(normalize, "normalize", ("row", "none"))
    as_choice(curvature, "curvature", ("auto", *guarantee.CURVATURES))
    radius = as_real(radius, "radius", low=0, high=math.inf, open_ends=True)
    batch, l2 = as_int(batch_size, "batch_size", low=1), as_real(l2, "l2", low=0, high=1e300)
    pieces = as_int(segments, "segments", low=1, high=n)
    if pieces > 1 and not dynamic:
        raise ValueError(f"segments must be 1 unless dynamic=True: the bound is for one comparator, got {pieces}")
    callables = not isinstance(loss, str)
    name, target = ("", as_vector(y, "y", size=n, dtype=np.float64)) if callables else _targets(loss, y, n)
    if order == "shuffle":
        chosen = np.random.default_rng(rng).permutation(n)
        raw, target = raw[chosen], target[chosen]
    A = normalized_rows(raw) if normalize == "row" else raw
    largest = 1.0 if normalize == "row" else _row_bound(row_bound, A)
    if callables:
        return _by_callables(
            loss, A, target, curvature=curvature, radius=radius, batch=batch, gradient_bound=gradient_bound,
            smoothness=smoothness, refused={"dynamic": dynamic, "l2": l2, "pool_cap": pool_cap},
        )  # fmt: skip
    family = Linear(name, largest, radius, float(np.abs(target).max()), l2)
    learner = make_learner(
        family, A.shape[1], curvature=curvature, dynamic=dynamic, gradient_bound=gradient_bound, smoothness=smoothness,
        pool_cap=pool_cap, horizon=-(-n // batch),
    )  # fmt: skip
    T = -(-n // batch)
    losses, variation, points = np.zeros(T), np.zeros(T), np.zeros((T, A.shape[1]))
    learn_stream(
        learner, family, A, target, normalize=False, batch=batch, losses=losses, variation=variation, points=points
    )
    return _judge(learner, family, A, target, batch, pieces, losses, variation, points, order)


def _targets(loss: str, y: Any, n: int) -> tuple[str, np.ndarray]:
    """The loss that is meant, and targets for it: ±1 for the logistic one."""
    as_choice(loss, "loss", ("auto", "logistic", "squared", "linear"))
    if y is None:
        raise TypeError("y must be an array of numbers or labels, got None")
    values = np.asarray(y)
    if values.ndim != 1 or len(values) != n:
        raise ValueError(f"y must have {n} entries, one a row, got shape {values.shape}")
    if values.dtype.kind == "O":
        if not all(isinstance(v, str) for v in values):
            return _targets(loss, as_vector(values, "y", size=n), n)
        values = values.astype(str)
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        raise ValueError("y must be finite, got NaN or infinity")
    classes = np.unique(values)
    if loss == "logistic" or (loss == "auto" and len(classes) == 2):
        if len(classes) != 2:
            raise ValueError(
                f"y must have two classes for loss='logistic', got {len(classes)}; see OptimisticClassifier"
            )
        return "logistic", np.where(values == classes[1], 1.0, -1.0)
    return ("squared" if loss == "auto" else loss), as_vector(values, "y", size=n, dtype=np.float64)


def _row_bound(row_bound: float | None, A: np.ndarray) -> float:
    if row_bound is None:
        raise ValueError("row_bound must be given with normalize='none', got None")
    bound = as_real(row_bound, "row_bound", low=0, high=math.inf, open_ends=True)
    longest = float(np.sqrt(np.einsum("ij,ij->i", A, A)).max())
    if longest > bound * (1 + 1e-12):
        raise ValueError(f"row_bound must be at least the longest row, {longest:.6g}, got {bound:g}")
    return bound


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
            raise ValueError("loss must be smooth and not linear with dynamic=True: its pool begins at 1/(16L)")
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
                raise ValueError(f"l2 must be positive for curvature='strongly_convex', got {family.l2:g}")
            settings: dict[str, Any] = {"strong_convexity": family.l2, "gradient_bound": gradient_bound}
        case "exp_concave":
            if family.l2 > 0 or family.exp_concavity <= 0:
                raise ValueError("loss must be logistic or squared, and l2 zero, for curvature='exp_concave'")
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
            learner._rule, learner._p, learner._low, learner._size, learner._s, learner._W, learner._M, *work
        )
    if stopped >= 0:
        raise ValueError(
            f"rows must give finite gradients, that of row {stopped} is not; it and what follows are unlearnt"
        )


def _judge(
    learner: Learner,
    family: Linear,
    A: np.ndarray,
    target: np.ndarray,
    batch: int,
    pieces: int,
    losses: np.ndarray,
    variation: np.ndarray,
    points: np.ndarray,
    order: str,
) -> OptimisticMirrorDescentResult:
    """Comparators, regret and certificates of a run."""
    n, T = len(A), len(losses)
    starts = np.arange(0, n, batch)
    sizes = np.diff(np.append(starts, n))
    weights = np.repeat(1 / sizes, sizes)  # losses are means over batches, and so are the comparator's
    edges = np.append(starts, n)[np.linspace(0, T, pieces + 1).round().astype(int)]
    found = [best_point(family, A[i:j], target[i:j], weights[i:j]) for i, j in pairwise(edges)]
    best = np.stack([w for w, _, _ in found])
    best_loss, gap = sum(v for _, v, _ in found), sum(g for _, _, g in found)
    path = float(np.linalg.norm(np.diff(best, axis=0), axis=1).sum())
    which = np.repeat(np.arange(pieces), np.diff(edges))
    rowwise = weights * family.values(np.einsum("ij,ij->i", A, best[which]), target)
    theirs = np.add.reduceat(rowwise, starts) + family.l2 / 2 * np.einsum("ij,ij->i", best, best)[which[starts]]
    total = math.fsum(losses)
    regret = Estimate(total - best_loss, total - best_loss, total - best_loss + gap, 1.0, method="duality gap")
    checked = [*learner.assumptions()]
    if learner.curvature in ("strongly_convex", "exp_concave"):
        # What gradients alone cannot show holds for these losses by their formula.
        curved = f"the losses are {learner.curvature.replace('_', ' ')}"
        evidence = f"{family.name} loss with row norms ≤ {family.B:g}, ‖w‖ ≤ {family.R:g}, λ = {family.l2:g}"
        checked = [a for a in checked if not a.statement.startswith(("the losses are", "each loss is"))]
        checked.append(met(curved, evidence))
    extra = {"path_length": path} if isinstance(learner, DynamicOptimisticMirrorDescent) else {}
    certificates = [learner.certificate(regret=regret, assumptions=checked, **extra)]
    estimate: SEAEstimate | None = None
    if order == "shuffle":
        estimate = random_order_sea(family.slopes, A, target, points, batch)
    elif batch >= 4 and T > 1:
        estimate = _split(family, A, target, points, batch)
    if estimate is not None and learner.smoothness is not None:
        certificates.append(_sea(learner, family, A, target, estimate, checked, path, order))
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
        rule=certificates[0].source.partition(",")[0] if learner.curvature == "convex" else learner.curvature,
        sigma2=sigma2,
        Sigma2=Sigma2,
        comparator_losses=theirs,
        running_bound=_running(learner, variation),
    )


def _running(learner: Learner, variation: np.ndarray) -> np.ndarray:
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


def _split(family: Linear, A: np.ndarray, target: np.ndarray, points: np.ndarray, batch: int) -> SEAEstimate:
    """Split-batch estimates; a last batch of a single row is left out, as it has no halves."""

    def grad(rows: np.ndarray, x: np.ndarray) -> np.ndarray:
        return A[rows].T @ family.slopes(A[rows] @ x, target[rows]) / len(rows)

    batches = [np.arange(i, min(i + batch, len(A))) for i in range(0, len(A), batch)]
    if len(batches[-1]) < 2:
        batches.pop()
    return estimate_sea(grad, batches, points[: len(batches)])


def _sea(
    learner: Learner,
    family: Linear,
    A: np.ndarray,
    target: np.ndarray,
    estimate: SEAEstimate,
    checked: list[Assumption],
    path: float,
    order: str,
) -> Certificate:
    sigma2, Sigma2 = estimate.total

    def mean_gradient(w: np.ndarray) -> np.ndarray:
        return A.T @ family.slopes(A @ w, target) / len(A) + family.l2 * w

    L = float(learner.smoothness or 0)
    if family.smoothness * (1 - 1e-12) <= L:
        smooth = met("the expected losses are L-smooth", f"L = {L:.4g}, from the loss and the row norms")
    else:
        smooth = guarantee.check_smoothness(mean_gradient, learner.domain, L, dim=A.shape[1])
    assumptions = [
        *checked,
        smooth,
        met("the expected losses are convex", f"{family.name} loss of a linear prediction"),
    ]
    if order == "shuffle":
        how = "computed over the rows not yet seen" + (", in 512 rounds" if estimate.estimated else "")
        assumptions.append(met("nature draws each round's rows without having seen the draw", "the order is random"))
    else:
        how = "estimated from split batches"
        assumptions.append(unchecked("nature draws each round's rows independently", f"σ² and Σ² are {how}"))
    if isinstance(learner, DynamicOptimisticMirrorDescent):
        bound = learner.sea_bound(sigma2, Sigma2, path)
        if learner.pool_cap is not None and learner.pool_cap > 1 / (16 * L) * (1 + 1e-12):
            statement = "no step of the pool exceeds 1/(16L)"
            evidence = f"pool_cap = {learner.pool_cap:.4g} > {1 / (16 * L):.4g}"
            assumptions.append(guarantee.violated(statement, evidence, "leave pool_cap out."))
    elif learner.curvature == "strongly_convex":
        noise, drift = np.maximum(estimate.sigma2, 0), estimate.Sigma2
        bound = learner.sea_bound(*(np.pad(v, (0, learner.rounds - len(v)), "edge") for v in (noise, drift)))
    else:
        bound = learner.sea_bound(sigma2, Sigma2)
    inputs = {"σ²": sigma2, "Σ²": Sigma2, "L": L, "D": float(learner.domain.diameter), "σ² and Σ²": how}
    return guarantee.sea(bound, None, learner.trivial, assumptions, inputs)


def _by_callables(
    pair: Any,
    A: np.ndarray,
    target: np.ndarray,
    *,
    curvature: str,
    radius: float,
    batch: int,
    gradient_bound: float | None,
    smoothness: float | None,
    refused: dict[str, Any],
) -> OptimisticMirrorDescentResult:
    """A loss of the user's own: regret is bounded by its linear part, and the comparator is the hardest for that."""
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(map(callable, pair))):
        raise TypeError("loss must be a name or a pair of callables (loss, gradient)")
    if wrong := [k for k, v in refused.items() if v]:
        raise ValueError(f"{wrong[0]} must be left out where loss is a pair of callables")
    as_choice(curvature, "curvature", ("auto", "convex"))
    value, slope = pair
    learner = OptimisticMirrorDescent(
        Ball(radius), dim=A.shape[1], smoothness=smoothness, gradient_bound=gradient_bound
    )
    T = -(-len(A) // batch)
    losses, variation, points = np.zeros(T), np.zeros(T), np.zeros((T, A.shape[1]))
    for t in track(range(T), "learning"):
        rows = range(t * batch, min((t + 1) * batch, len(A)))
        x = points[t] = learner.x
        losses[t] = np.mean([value(x, A[i], target[i]) for i in rows])
        before = learner.gradient_variation
        learner.step(np.mean([slope(x, A[i], target[i]) for i in rows], axis=0))
        variation[t] = learner.gradient_variation - before
    best = learner.domain.linear_min(learner._W[kernels.GSUM])
    theirs = np.array([np.mean([value(best, A[i], target[i]) for i in range(t * batch, min((t + 1) * batch, len(A)))])
                       for t in range(T)])  # fmt: skip
    return OptimisticMirrorDescentResult(
        points, losses, variation, best, T, math.fsum(losses), math.fsum(theirs), math.fsum(losses - theirs),
        (learner.certificate(),), "convex", comparator_losses=theirs, running_bound=_running(learner, variation),
    )  # fmt: skip
