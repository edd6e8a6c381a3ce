"""The front door: a whole stream of rows and targets, learnt in one pass, with its regret and certificates."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from scipy.special import expit

from whp.certificate import Certificate, worst
from whp.door import Above, AtLeast, Between, Fraction, front_door
from whp.io import Data
from whp.online._optimistic_mirror_descent.domains import Ball
from whp.online._optimistic_mirror_descent.hindsight import Judged, judge, running_bound
from whp.online._optimistic_mirror_descent.learner import OptimisticMirrorDescent
from whp.online._optimistic_mirror_descent.losses import Linear, normalized_rows
from whp.online._optimistic_mirror_descent.passes import Run, make_learner, play
from whp.progress import track
from whp.provenance import plain_generator
from whp.result import PALETTE, Result
from whp.validate import as_floats, as_matrix, as_real, as_vector, private_stream, same_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["OptimisticMirrorDescentResult", "optimistic_mirror_descent"]

FEW = 20  # distinct whole numbers that may be meant as classes


@dataclass(frozen=True, eq=False)
class OptimisticMirrorDescentResult(Result):
    """One pass over a stream.

    Attributes
    ----------
    points : ndarray, shape (T, d) or (T, K, d)
        The points that were played, of each of K classes where there are more than two; where rows
        are normalised the bias comes first.
    losses : ndarray, shape (T,)
        Loss of each point on its batch, the mean over its rows; summed over classes.
    variation : ndarray, shape (T,)
        v_t, the squared distance of each gradient from the one before; summed over classes.
    predictions : ndarray, shape (n,) or (n, K)
        What was predicted for each row just before it was learnt, in the order in which rows were
        taken: numbers in the unit of the target, or the probability of the second class, or of each
        of K classes (one against the rest, not made to sum to one).
    rows : ndarray, shape (n,), int
        Where each of them stood in the data, from 0.
    classes : ndarray or None
        The labels, in the order of `predictions`.
    comparator : ndarray, shape (d,), (K, d) or (segments, d)
        The best fixed point in hindsight, of each class, or of each segment.
    loss, best_loss, regret : float
        Sum of `losses`, that of the comparator, and their difference.
    certificates : tuple of Certificate
        The regret of this run, named after its rule; ``sea-regret`` where variance and variation can
        be had: in random order, and from batches of four. Of several classes the worst.
    """

    points: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    variation: np.ndarray = field(repr=False)
    comparator: np.ndarray = field(repr=False)
    rounds: int
    loss: float
    best_loss: float
    regret: float
    certificates: tuple[Certificate, ...]
    rule: str = "convex"
    loss_name: str = "squared"
    sigma2: float | None = None
    Sigma2: float | None = None
    predictions: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))
    rows: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, dtype=np.int64))
    classes: np.ndarray | None = None
    rmse: float | None = None
    comparator_losses: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))
    running_bound: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0))

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Rounds, losses, regret and the gradients' variation, with the most that it could have been."""
        found: dict[str, bool | int | float | str | None] = {
            "rounds": self.rounds,
            "dimension": self.points.shape[-1],
            "loss_of_a_round": self.loss_name,
            "rule": self.rule,
            "loss": self.loss,
            "best_fixed_loss": self.best_loss,
            "regret": self.regret,
            "gradient_variation": float(self.variation.sum()),
        }
        if self.classes is not None and len(self.classes) > 2:
            found["classes"] = len(self.classes)
        if self.rmse is not None:
            found["root_mean_squared_error"] = self.rmse
        if self.sigma2 is not None:
            found |= {"stochastic_variance": self.sigma2, "adversarial_variation": self.Sigma2}
        return found

    def artifacts(self) -> dict[str, Any]:
        """The arrays, and a table of predictions by the row of the data."""
        names = ("points", "losses", "variation", "comparator")
        table = pd.DataFrame({"row": self.rows})
        if self.predictions.ndim == 2 and self.classes is not None:
            for k, name in enumerate(self.classes):
                table[f"p_{name}"] = self.predictions[:, k]
        elif self.classes is not None:
            table[f"p_{self.classes[1]}"] = self.predictions
        else:
            table["prediction"] = self.predictions
        return {
            "arrays.npz": {k: getattr(self, k) for k in names},
            "predictions.csv": table.sort_values("row"),
        }

    def draw(self, ax: Axes) -> None:
        """Cumulative regret under its running bound."""
        rounds = np.arange(1, self.rounds + 1)
        if len(self.running_bound):
            label = "bound, as the gradients came"
            ax.plot(rounds, self.running_bound, color=PALETTE["truth"], label=label)
        regret = np.cumsum(self.losses - self.comparator_losses)
        ax.plot(rounds, regret, color=PALETTE["ours"], label="regret")
        ax.axhline(0, color=PALETTE["quiet"], linewidth=0.8)
        ax.set(xlabel="rounds", ylabel="regret against the best point in hindsight")
        ax.legend(frameon=False)


@front_door
def optimistic_mirror_descent(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels", "target")],
    *,
    loss: Literal["auto", "logistic", "squared", "linear"]
    | tuple[Callable[..., Any], Callable[..., Any]] = "auto",
    curvature: Literal["auto", "convex", "strongly_convex", "exp_concave"] = "auto",
    radius: Annotated[float, Above(0)] = 5.0,
    target_range: tuple[float, float] | None = None,
    batch_size: Annotated[int, AtLeast(1)] = 1,
    l2: Annotated[float, Between(0, 1e300)] = 0.0,
    gradient_bound: Annotated[float, Above(0)] | None = None,
    smoothness: Annotated[float, AtLeast(0)] | None = None,
    dynamic: bool = False,
    pool_cap: Annotated[float, Above(0)] | None = None,
    segments: Annotated[int, AtLeast(1)] = 1,
    order: Literal["given", "shuffle"] = "given",
    repeats: Annotated[int, Between(1, 10_000)] = 1,
    normalize: Literal["row", "none"] = "row",
    row_bound: Annotated[float, Above(0)] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    rng: np.random.Generator | int | None = None,
) -> OptimisticMirrorDescentResult:
    """Learn a linear predictor online, in one pass and without a learning rate, and bound its regret.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Rows in the order in which they arrive.
    y : array_like, shape (n,)
        Targets: numbers, or labels.
    loss : {"auto", "logistic", "squared", "linear"} or pair of callables
        Of the prediction ⟨a, w⟩; linear is y⟨a, w⟩. By default logistic for two classes and for words,
        else squared. More than two classes have a learner each, one against the rest. From Python
        also a pair ``(loss(w, row, target), gradient(w, row, target))``, which needs `smoothness`.
    curvature : {"auto", "convex", "strongly_convex", "exp_concave"}
        Rule of the step sizes: by default strongly_convex where `l2` is positive, else convex. The
        exp-concave rule has a better bound in the long run and does worse on most streams, so it is
        never chosen unasked.
    radius : float
        Of the ball around zero that the predictor stays in. Predictions of normalised rows end there.
    target_range : (float, float), optional
        Range of the targets of ``loss="squared"``, which are then scaled to [-1, 1]; losses and bounds
        are in these units, predictions in those of the target.
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
    repeats : int
        Random orders that are learnt; their mean regret is held against the bound in expectation.
        The result shows the first.
    normalize : {"row", "none"}
        Append a 1 to each row and divide by its norm, which needs no knowledge of rows to come; or take
        rows as they are.
    row_bound : float, optional
        Largest norm of a row, for ``normalize="none"``.
    delta : float
        Failure probability of the interval of the mean regret over `repeats`.
    rng : numpy.random.Generator, int or None
        Source of the random order.

    Returns
    -------
    OptimisticMirrorDescentResult

    Raises
    ------
    TypeError, ValueError
        If data do not fit together or an option is out of range; the message names the argument.

    Warns
    -----
    UserWarning
        If targets lie beyond what such a predictor reaches, or few whole numbers are regressed on.

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
    same_order(X=X, y=y)
    raw = np.ascontiguousarray(as_matrix(X, "X", dtype=np.float64))
    n = len(raw)
    if repeats > 1 and (order == "given" or segments > 1):
        raise ValueError(f"repeats must be 1 unless order='shuffle' and segments=1, got {repeats}")
    if segments > (rounds := -(-n // batch_size)):
        raise ValueError(f"segments must be at most the {rounds} rounds, got {segments}")
    if segments > 1 and not dynamic:
        raise ValueError(
            "segments must be 1 unless dynamic=True: the bound is for one comparator, got "
            f"{segments}"
        )
    if row_bound is not None and normalize == "row":
        raise ValueError("row_bound must be left out with normalize='row', whose rows have norm 1")
    random = private_stream(rng)
    orders = [np.arange(n)]
    if order == "shuffle":
        orders = [random.permutation(n) for _ in range(repeats)]
    A = normalized_rows(raw) if normalize == "row" else raw
    largest = 1.0 if normalize == "row" else _row_bound(row_bound, A)
    if not isinstance(loss, str):
        target = as_vector(y, "y", size=n, dtype=np.float64)[orders[0]]
        given = {
            "dynamic": dynamic,
            "l2": l2,
            "pool_cap": pool_cap,
            "repeats": repeats > 1,
            "target_range": target_range,
            "curvature": curvature not in ("auto", "convex"),
        }
        return _by_callables(
            loss,
            A[orders[0]],
            target,
            orders[0],
            radius=radius,
            batch=batch_size,
            gradient_bound=gradient_bound,
            smoothness=smoothness,
            refused=given,
        )
    name, targets, classes = _targets(loss, y, n)
    unit = (0.0, 1.0)
    if name == "squared":
        targets[0], unit = _scaled(targets[0], target_range)
        _warn_of_reach(targets[0], largest * radius, target_range is not None)
    elif target_range is not None:
        raise ValueError(
            f"target_range must be left out with loss={name!r}: it scales squared losses"
        )

    def learnt(target: np.ndarray) -> tuple[Run, Judged]:
        family = Linear(name, largest, radius, float(np.abs(target).max()), l2)
        runs = []
        for taken in track(orders, "random orders") if len(orders) > 1 else orders:
            learner = make_learner(
                family,
                A.shape[1],
                curvature=curvature,
                dynamic=dynamic,
                gradient_bound=gradient_bound,
                smoothness=smoothness,
                pool_cap=pool_cap,
                horizon=-(-n // batch_size),
            )
            runs.append(play(learner, family, A[taken], target[taken], batch_size))
        drawn = "none" if order == "given" else "ours" if plain_generator(rng) else "theirs"
        return runs[0], judge(runs[0], runs[1:], segments, drawn, delta / len(targets))

    made = [learnt(target) for target in targets]
    scores = np.column_stack([_scores(run) for run, _ in made])
    if name == "logistic":
        scores = expit(scores)
    predictions = scores[:, 0] if len(made) == 1 else scores
    result = _joined([j for _, j in made], classes)
    rmse = None
    if name == "squared":
        middle, half = unit if target_range is not None else (0.0, 1.0)
        rmse = half * float(np.sqrt(np.mean((predictions - targets[0][orders[0]]) ** 2)))
        predictions = middle + half * predictions
    return replace(
        result, loss_name=name, predictions=predictions, rows=orders[0], classes=classes, rmse=rmse
    )


def _scores(run: Run) -> np.ndarray:
    """⟨a, x⟩ of every row at the point played in its round."""
    which = np.repeat(np.arange(len(run.starts)), np.diff(np.append(run.starts, len(run.A))))
    return np.einsum("ij,ij->i", run.A, run.points[which])


def _joined(made: Sequence[Judged], classes: np.ndarray | None) -> OptimisticMirrorDescentResult:
    """One learner's result, or that of one a class: sums, and the worst certificate of each theorem."""
    first = made[0]
    if len(made) == 1:
        return OptimisticMirrorDescentResult(**vars(first))
    assert classes is not None
    certificates = tuple(
        worst({f"{c}": m.certificates[i] for c, m in zip(classes, made, strict=True)})
        for i in range(len(first.certificates))
    )
    sums: dict[str, Any] = {
        k: sum(getattr(m, k) for m in made)
        for k in ("losses", "variation", "loss", "best_loss", "regret", "comparator_losses")
    }
    known = [m.sigma2 is not None for m in made]
    return OptimisticMirrorDescentResult(
        points=np.stack([m.points for m in made], axis=1),
        comparator=np.stack([m.comparator for m in made]),
        rounds=first.rounds,
        certificates=certificates,
        rule=first.rule,
        sigma2=sum(m.sigma2 or 0.0 for m in made) if all(known) else None,
        Sigma2=sum(m.Sigma2 or 0.0 for m in made) if all(known) else None,
        running_bound=np.sum([m.running_bound for m in made], axis=0),
        **sums,
    )


def _targets(loss: str, y: Any, n: int) -> tuple[str, list[np.ndarray], np.ndarray | None]:
    """The loss that is meant, targets for it, ±1 for the logistic one, and the classes."""
    if y is None:
        raise TypeError("y must be an array of numbers or labels, got None")
    if np.ma.isMaskedArray(y) and np.ma.getmaskarray(y).any():
        raise ValueError("y must have no masked entries; fill them or drop their rows")
    values = np.asarray(y)
    if values.ndim != 1 or len(values) != n:
        raise ValueError(f"y must have {n} entries, one a row, got shape {values.shape}")
    if values.dtype.kind in "OUSTM":
        # As objects: numpy makes the word 'nan' of a missing label among words.
        single = np.asarray(y, dtype=object)
        missing = pd.isna(single)
        missing[~missing] = single[~missing] == ""
        if (none := np.flatnonzero(missing)).size:
            raise ValueError(
                f"y must have a label or a number in every row, row {none[0]} has none"
            )
        if all(isinstance(v, bool | np.bool_) for v in single):
            values = values.astype(bool)
    words = values.dtype.kind in "OUST" and all(isinstance(v, str) for v in values.tolist())
    if words:
        values = values.astype(str)
    elif values.dtype.kind == "O":
        values = as_vector(values, "y", size=n, dtype=np.float64)
    if values.dtype.kind in "fc" and not np.isfinite(values).all():
        raise ValueError("y must be finite, got NaN or infinity")
    classes = np.unique(values)
    if loss == "logistic" or (loss == "auto" and (len(classes) == 2 or words)):
        if len(classes) < 2:
            raise ValueError(
                f"y must have two classes or more for loss='logistic', got {len(classes)}"
            )
        if len(classes) == 2:
            return "logistic", [np.where(values == classes[1], 1.0, -1.0)], classes
        if len(classes) > 1000:
            raise ValueError(
                f"y must have at most 1,000 classes for loss='logistic', got {len(classes):,}"
            )
        return "logistic", [np.where(values == c, 1.0, -1.0) for c in classes], classes
    numbers = as_vector(values, "y", size=n, dtype=np.float64)
    if (
        loss == "auto"
        and 2 < len(classes) <= min(FEW, n // 4)
        and (numbers == np.round(numbers)).all()
    ):
        warnings.warn(
            f"y has {len(classes)} distinct whole numbers, taken as numbers with loss='squared'; if "
            "they are classes, say loss='logistic'",
            stacklevel=4,
        )
    return ("squared" if loss == "auto" else loss), [numbers], None


def _scaled(
    target: np.ndarray, target_range: tuple[float, float] | None
) -> tuple[np.ndarray, tuple[float, float]]:
    """Targets in [-1, 1], and the middle and half of their range."""
    if target_range is None:
        return target, (0.0, 1.0)
    low, high = (as_real(v, "target_range") for v in target_range)
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"target_range must be (low, high) with low < high, got {target_range}")
    if (wrong := np.flatnonzero((target < low) | (target > high))).size:
        raise ValueError(
            f"y must lie in target_range [{low:g}, {high:g}], row {wrong[0]} has {target[wrong[0]]:g}"
        )
    middle, half = low / 2 + high / 2, high / 2 - low / 2
    return (target - middle) / half, (middle, half)


def _warn_of_reach(target: np.ndarray, reach: float, scaled: bool) -> None:
    beyond = float(np.mean(np.abs(target) > reach))
    if beyond == 0:
        return
    cure = (
        "raise radius"
        if scaled
        else (
            f"give their range, target_range=({target.min():g}, {target.max():g}), or raise radius"
        )
    )
    warnings.warn(
        f"y: {beyond:.0%} of the targets lie beyond {reach:g}, where predictions of such a predictor "
        f"end, and the best fixed predictor's as well; {cure}",
        stacklevel=4,
    )


def _row_bound(row_bound: float | None, A: np.ndarray) -> float:
    if row_bound is None:
        raise ValueError("row_bound must be given with normalize='none', got None")
    longest = float(np.sqrt(np.einsum("ij,ij->i", A, A)).max())
    if longest > row_bound * (1 + 1e-12):
        raise ValueError(
            f"row_bound must be at least the longest row, {longest:.6g}, got {row_bound:g}"
        )
    return row_bound


def _by_callables(
    pair: Any,
    A: np.ndarray,
    target: np.ndarray,
    rows: np.ndarray,
    *,
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
    value, slope = pair

    def cost(w: np.ndarray, i: int) -> float:
        found = float(value(w.copy(), A[i].copy(), target[i]))  # theirs may work in place
        if not math.isfinite(found):
            raise ValueError(f"loss must return finite numbers, got {found} for row {rows[i]}")
        return found

    learner = OptimisticMirrorDescent(
        Ball(radius), dim=A.shape[1], smoothness=smoothness, gradient_bound=gradient_bound
    )
    starts = range(0, len(A), batch)
    batches = [range(i, min(i + batch, len(A))) for i in starts]
    losses, variation, points = np.zeros(len(batches)), np.zeros(len(batches)), []
    for t, of in enumerate(track(batches, "learning")):
        x = learner.x
        points.append(x)
        losses[t] = np.mean([cost(x, i) for i in of])
        before = learner.gradient_variation
        slopes = [slope(x.copy(), A[i].copy(), target[i]) for i in of]
        learner.step(np.mean([as_floats(s, "gradient") for s in slopes], axis=0))
        variation[t] = learner.gradient_variation - before
    best = learner.hardest()
    theirs = np.array([np.mean([cost(best, i) for i in of]) for of in batches])
    return OptimisticMirrorDescentResult(
        points=np.array(points),
        losses=losses,
        variation=variation,
        comparator=best,
        rounds=len(batches),
        loss=math.fsum(losses),
        best_loss=math.fsum(theirs),
        regret=math.fsum(losses - theirs),
        certificates=(learner.certificate(),),
        loss_name="of your own",
        predictions=np.array([float(A[i] @ points[i // batch]) for i in range(len(A))]),
        rows=rows,
        comparator_losses=theirs,
        running_bound=running_bound(learner, variation),
    )
