"""The front door: a linear model fitted with few gradients of its loss, beside what others reach with as many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import issparse

from whp.certificate import Answer, Certificate
from whp.door import Above, AtLeast, Range, front_door
from whp.io import Data
from whp.optim._target_surrogates import theorems as th
from whp.optim._target_surrogates.comparison import lbfgs_curve, sgd_curve
from whp.optim._target_surrogates.data import as_design, encode_targets
from whp.optim._target_surrogates.expectation import (
    mean_distances,
    recursion_bound,
    shrinkage,
    target_noise,
)
from whp.optim._target_surrogates.linear import (
    UNIT,
    Batches,
    History,
    Inner,
    Rule,
    Schedule,
    Settings,
    fit_linear,
)
from whp.optim._target_surrogates.losses import LOSSES, Loss
from whp.optim._target_surrogates.problem import RANK, LinearProblem, dependence
from whp.result import PALETTE, Result
from whp.validate import private_stream, same_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TargetSurrogateFit", "checked", "majorised", "steps_of", "target_surrogates"]

SAME_COLUMN = 1e-13  # of their size: columns that differ by less are copies of each other
LARGEST = 400_000_000  # multiplications a step up to which the exact mean over batches is computed


@dataclass(frozen=True, eq=False)
class TargetSurrogateFit(Result):
    """A linear model, what it cost, and what others would have made of as many calls.

    Attributes
    ----------
    coef : ndarray, shape (d,) or (C, d)
        One a column of X, that of a constant column included; `names` are theirs.
    intercept : float or ndarray
        What constant columns add to every output; 0 without one.
    classes : ndarray or None
        Labels, for classification.
    mean_loss : float
        Mean loss of all rows at the end.
    n_oracle, n_values : int
        Calls with a gradient, and of the value alone (line search).
    curves : DataFrame
        ``calls``, and the mean loss after so many: ``sso``, and with ``compare`` ``sgd`` (best of a
        grid of rates) and ``lbfgs``.
    history : DataFrame
        A row an outer step; the loss after it, ``after``, is at most ``surrogate`` plus ``slack``.
    certificates : tuple of Certificate
        ``majorisation``; for full batches ``descent``, for minibatches of the squared loss
        ``recursion``.
    """

    loss: str
    mean_loss: float
    n_oracle: int
    n_values: int
    coef: np.ndarray
    intercept: Any
    names: tuple[str, ...] = field(repr=False)
    classes: np.ndarray | None
    curves: pd.DataFrame
    history: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Loss and calls, beside the others'."""
        rows: dict[str, bool | int | float | str | None] = {
            "loss": self.loss,
            "mean_loss": self.mean_loss,
            "oracle_calls": self.n_oracle,
            "function_values": self.n_values,
        }
        for name in ("sgd", "lbfgs"):
            if name in self.curves:
                rows[f"mean_loss_of_{name}_after_as_many"] = float(self.curves[name].iloc[-1])
        return rows

    def artifacts(self) -> dict[str, Any]:
        """Coefficients by name, curves, and the steps."""
        if self.coef.ndim == 1:
            table = pd.DataFrame({"column": self.names, "coefficient": self.coef})
        else:
            assert self.classes is not None
            table = pd.DataFrame({"column": self.names})
            for label, row in zip(self.classes, self.coef, strict=True):
                table[f"coefficient of {label}"] = row
        return {"coefficients.csv": table, "curves.csv": self.curves, "history.csv": self.history}

    def draw(self, ax: Axes) -> None:
        """Mean loss over calls of the loss's gradient."""
        lines = (
            ("sso", "target surrogates", "ours"),
            ("sgd", "SGD, best rate of a grid", "other"),
            ("lbfgs", "L-BFGS", "third"),
        )
        for column, label, colour in lines:
            if column in self.curves and np.isfinite(self.curves[column]).all():
                ax.plot(
                    self.curves["calls"], self.curves[column], label=label, color=PALETTE[colour]
                )
        ax.set(xlabel="calls of the loss's gradient", ylabel="mean loss")
        if self.curves["sso"].min() > 0:
            ax.set_yscale("log")
        ax.legend(frameon=False)


def checked(
    loss: Loss,
    *,
    m: int | None,
    inner: Inner,
    eta: float | str,
    rule: Rule,
    schedule: Schedule,
    projection: Literal["full", "batch"],
    batch_size: int | None,
    batches: Batches,
    max_iter: int,
    tol: float,
    alpha: float,
    solver: Literal["direct", "cg"] = "direct",
) -> Settings:
    """Settings that are all used; what would be ignored is refused."""
    if m is not None and inner == "exact":
        raise ValueError("m, a number of inner steps, goes with inner='gd' or 'armijo'")
    if inner != "exact" and rule in ("newton", "adagrad-diag"):
        raise ValueError(f"inner must be 'exact' for rule={rule!r}")
    if batch_size is None and (projection == "batch" or batches == "passes"):
        raise ValueError("projection and batches go with batch_size")
    if eta != "auto" and rule == "sls":
        raise ValueError("eta must be 'auto' for rule='sls', which searches it")
    if eta == "auto" and loss.smoothness is None and rule in ("sgd", "adagrad"):
        raise ValueError(
            f"eta must be a number for rule={rule!r}: loss {loss.name!r} has no L; or take 'sls'"
        )
    return Settings(
        m=20 if m is None and inner != "exact" else m,
        inner=inner,
        eta=None if isinstance(eta, str) else float(eta),
        rule=rule,
        schedule=schedule,
        projection=projection,
        batch_size=batch_size,
        batches=batches,
        max_iter=max_iter,
        tol=tol,
        alpha=alpha,
        solver=solver,
    )


@front_door
def target_surrogates(
    X: Annotated[Any, Data("design")],
    y: Annotated[Any, Data("labels", column="target")],
    *,
    loss: Literal["auto", "squared", "logistic", "softmax", "huber", "poisson"] = "auto",
    m: Annotated[int, AtLeast(1)] | None = None,
    inner: Literal["exact", "gd", "armijo"] = "exact",
    eta: Annotated[float, Above(0)] | Literal["auto"] = "auto",
    rule: Literal["auto", "sgd", "sls", "adagrad", "adagrad-diag", "newton"] = "auto",
    schedule: Literal["constant", "sqrt", "exponential"] = "constant",
    projection: Literal["full", "batch"] = "full",
    batch_size: Annotated[int, AtLeast(1)] | None = None,
    batches: Literal["independent", "passes"] = "independent",
    max_iter: Annotated[int, AtLeast(1)] = 100,
    tol: Annotated[float, AtLeast(0)] = 1e-6,
    alpha: Annotated[float, Range(0, 1e12)] = 0.0,
    compare: bool = True,
    measure: bool = True,
    rng: np.random.Generator | int | None = None,
) -> TargetSurrogateFit:
    """Fit a linear model with few calls of its loss, and show what SGD and L-BFGS reach with as many.

    For a model of your own take :class:`whp.optim.SSO`, for pipelines
    :class:`whp.optim.SSOClassifier` and :class:`whp.optim.SSORegressor`. Where gradients of the loss
    are cheap, L-BFGS is the better choice.

    Parameters
    ----------
    X : array-like or sparse, shape (n, d)
        Features; a constant column is an intercept, which alpha leaves free (tables get one).
    y : array-like, shape (n,)
        Numbers, or labels.
    loss : str
        Which loss; by default softmax or logistic for labels that are text, squared for numbers.
    m : int, optional
        Steps on each surrogate, with another `inner` than exact; 20 if not given.
    inner : {"exact", "gd", "armijo"}
        How the surrogate is minimised.
    eta : float or "auto"
        Step in the outputs: 1/L for full batches, half of the inverse of the largest smoothness for
        minibatches.
    rule : str
        Where the step comes from: ``"sgd"`` keeps η, ``"sls"`` searches it by function values,
        ``"adagrad"`` and ``"adagrad-diag"`` adapt it, ``"newton"`` takes the loss's curvature;
        ``"auto"`` keeps it where the loss has an L, and searches otherwise.
    schedule : {"constant", "sqrt", "exponential"}
        Of η over steps.
    projection : {"full", "batch"}
        Whether the proximity term covers all rows, as the theory has it, or the batch alone, which
        overfits the batch.
    batch_size : int, optional
        Rows a call; all by default.
    batches : {"independent", "passes"}
        Draw each batch anew, as the theory has it, or go through the rows in shuffled passes.
    max_iter : int
        Calls.
    tol : float
        Norm of the gradient at which to stop, as a share of the first one; full batches alone stop.
    alpha : float
        Ridge penalty a sample.
    compare : bool
        Run SGD over a grid of rates, and L-BFGS.
    measure : bool
        Compute the mean over batches that the certificate of minibatches speaks of, O(n d²) a step.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    TargetSurrogateFit

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted, or would be ignored; the message names it.
    FloatingPointError
        If the loss becomes infinite.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> X = random.normal(size=(100, 3))
    >>> fit = target_surrogates(X, X @ [1.0, 2, 3], compare=False)
    >>> [str(c.verdict) for c in fit.certificates]
    ['holds', 'holds']
    """
    same_order(X=X, y=y)
    A, names, constant = as_design(X)
    n = A.shape[0]
    targets, name, classes = encode_targets(y, n, loss)
    chosen = LOSSES[name]
    settings = checked(
        chosen,
        m=m,
        inner=inner,
        eta=eta,
        rule=rule,
        schedule=schedule,
        projection=projection,
        batch_size=batch_size,
        batches=batches,
        max_iter=max_iter,
        tol=tol,
        alpha=alpha,
    )
    random = private_stream(rng)
    d = A.shape[1]
    start = np.zeros(d if classes is None or name == "logistic" else (d, len(classes)))
    problem = LinearProblem(A, settings.alpha, "direct", constant)
    whole = settings.batch_size is None or settings.batch_size >= n
    values = [chosen.value(A @ start, targets)]

    def watch(t: int, theta: np.ndarray, after: float) -> bool:
        values.append(after if whole else chosen.value(A @ theta, targets))
        return False

    theta, history = fit_linear(
        A, targets, chosen, settings, start, random, problem=problem, stop=watch
    )
    curves = pd.DataFrame({"calls": np.arange(len(values)), "sso": np.array(values) / n})
    if compare:
        calls = len(values) - 1
        curves["sgd"] = sgd_curve(A, targets, chosen, settings, problem, start, calls, random)
        curves["lbfgs"] = lbfgs_curve(A, targets, chosen, problem, start, calls)
    certificates = majorised(history, chosen, targets, whole)
    if not whole and name == "squared" and settings.rule_for(chosen) == "sgd":
        certificates += (_recursion(problem, targets, settings, history, measure),)
    at_rest = A[[0]].toarray()[0] if issparse(A) else A[0]
    return TargetSurrogateFit(
        loss=name,
        mean_loss=values[-1] / n,
        n_oracle=history.n_oracle,
        n_values=int(history.column("values").sum()),
        coef=theta.T if theta.ndim == 2 else theta,
        intercept=_plain((at_rest * constant) @ theta),
        names=names,
        classes=classes,
        curves=curves,
        history=history.to_frame(),
        certificates=certificates,
    )


def _plain(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def steps_of(history: History) -> th.Steps:
    """What the theorems want to know of each step of a linear model."""
    column = history.column
    return th.Steps(
        loss=column("loss"),
        after=column("after"),
        surrogate=column("surrogate"),
        slack=column("slack"),
        rounding=column("rounding"),
        eta=column("eta"),
        gradient=column("gradient"),
        gradient_rounding=column("gradient_rounding"),
        share=column("share"),
        penalty=float(history.rows[0]["penalty"]) if history.rows else 0.0,
    )


def majorised(history: History, loss: Loss, y: np.ndarray, whole: bool) -> tuple[Certificate, ...]:
    """``majorisation`` and, for full batches, ``descent``."""
    steps = steps_of(history)
    ours = LOSSES.get(loss.name) is loss
    if loss.smoothness is None:
        smooth = th.SMOOTH.check(False, f"loss {loss.name!r} has no L")
    elif ours:
        smooth = th.SMOOTH.by_construction(f"loss {loss.name!r}, L = {loss.smoothness:g}")
    else:
        smooth = th.SMOOTH.unchecked("the loss is not one of this library")
    answers: tuple[Answer, ...] = (th.step_size(steps.eta, loss.smoothness), smooth)
    made = (th.majorisation(steps, answers, {"L": loss.smoothness or np.inf}),)
    if not whole:
        return made
    lower = loss.least(y)
    seen = np.append(steps.loss, steps.after)
    floor = th.lower_bound(lower, seen, f"least of loss {loss.name!r}" if ours else "")
    same = th.SAME_ROWS.by_construction("one call asked about all rows at every step")
    return (*made, th.descent(steps, lower, (*answers, same, floor), {}))


def _recursion(
    problem: LinearProblem, y: np.ndarray, s: Settings, history: History, measure: bool
) -> Certificate:
    """The mean over batches of a run with the squared loss, bound and, if wanted, value."""
    n, b = problem.n, s.batch_size or problem.n
    etas = history.column("eta")
    plain = LinearProblem(problem.X.toarray() if issparse(problem.X) else problem.X)
    U, _, R = plain.basis
    left, s_values, _ = np.linalg.svd(R, full_matrices=False)
    U = U @ left  # left singular vectors, along which gradient steps shrink each by itself
    best = U.T @ y
    residual = U @ best - y
    sigma2 = target_noise(U, residual, b)
    start = float(best @ best)
    known, gaps, mean, radius = s.inner != "armijo", None, None, 0.0
    covered = s.projection == "full" and s.alpha == 0
    small = U.shape[1] ** 2 * n <= LARGEST
    shares = shrinkage(np.square(s_values), 1.0, s.m) if U.shape[1] else np.ones(1)
    least, dropped = dependence(plain.X)
    normal = s.m is None and not problem.by_basis  # factored XᵀX, in which both are squared
    if known and covered and (s.m is not None or measure) and small and U.shape[1]:
        D, off, missed = mean_distances(U, -best, residual, etas, b, shares)
        gaps = missed if s.m is not None else None
        mean, radius = (D, float(off[-1])) if measure else (None, 0.0)
    left_out = 0.0 if s.m is None else 1 - float(shares.min())
    bounds = recursion_bound(start, etas, sigma2, 1.0, n / b, gaps, left_out)
    if s.projection != "full":
        full = th.FULL_PROJECTION.check(False, "it covers the batch alone")
    elif s.alpha > 0:
        full = th.FULL_PROJECTION.check(False, f"alpha = {s.alpha:g} adds a penalty")
    elif not known:
        full = th.FULL_PROJECTION.check(False, f"what {s.inner} steps miss was not computed")
    elif dropped > SAME_COLUMN:
        full = th.FULL_PROJECTION.check(
            False, f"columns that differ by {dropped:.2g} of their size were taken for dependent"
        )
    elif normal and least**2 < 4 * RANK:
        full = th.FULL_PROJECTION.check(
            False, f"columns that differ by {least:.2g} of their size are one to a factor of XᵀX"
        )
    else:
        how = "exactly" if s.m is None else f"by {s.m} gradient steps"
        full = th.FULL_PROJECTION.check(
            True,
            f"all rows, alpha = 0, minimised {how}; columns differ by at least {least:.2g} of their "
            "size, or not at all",
        )
    if s.batches != "independent":
        drawn = th.BATCHES.check(
            False, "drawn in shuffled passes, so that no row comes twice in one"
        )
    else:
        drawn = th.BATCHES.by_construction(
            "each was drawn here from all rows, by numpy's generator"
        )
    size = float(np.linalg.norm(y)) + float(np.linalg.norm(best))
    worse = least**2 if normal else least
    return th.recursion(
        bounds,
        64 * UNIT * (problem.d + 2) * size * n / b / worse,
        start,
        mean,
        radius,
        (th.half_step(etas, n, b), full, drawn),
        {"noise": sigma2, "rows of a batch": b},
    )
