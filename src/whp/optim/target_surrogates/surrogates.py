"""The front door: a linear model fitted with few calls of the loss, beside what SGD and L-BFGS reach with as many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.io import Data
from whp.optim.target_surrogates import guarantee
from whp.optim.target_surrogates.linear import History, LinearProblem, Settings, fit_linear
from whp.optim.target_surrogates.losses import LOSSES, Loss
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_matrix, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["TargetSurrogateFit", "encode_targets", "settings_of", "target_surrogates"]

RATES = tuple(10.0 ** np.arange(-3, 3.5, 0.5))


@dataclass(frozen=True, eq=False)
class TargetSurrogateFit(Result):
    """A linear model, what it cost, and what others would have made of as many calls.

    Attributes
    ----------
    coef : ndarray, shape (d,) or (C, d)
    intercept : float or ndarray
    classes : ndarray or None
        Labels, for classification.
    mean_loss : float
        Mean loss of all rows at the end.
    n_oracle, n_values : int
        Calls with a gradient, and of the value alone (line search).
    curves : DataFrame
        ``calls``, and the mean loss after so many: ``sso``, and with ``compare`` ``sgd`` (best of a grid of rates) and ``lbfgs``.
    history : DataFrame
        A row an outer step.
    certificates : tuple of Certificate
        ``majorisation`` and ``descent`` for full batches, ``recursion`` for minibatches of the squared loss.
    """

    loss: str
    mean_loss: float
    n_oracle: int
    n_values: int
    coef: np.ndarray
    intercept: Any
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

    def plot(self, ax: Axes | None = None) -> Axes:
        """Mean loss over calls of the oracle."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        names = {"sso": "target surrogates", "sgd": "SGD, best rate", "lbfgs": "L-BFGS"}
        for column, label in names.items():
            if column in self.curves:
                ax.plot(self.curves["calls"], self.curves[column], label=label)
        ax.set(xlabel="calls of the loss's gradient", ylabel="mean loss")
        if self.curves["sso"].min() > 0:
            ax.set_yscale("log")
        ax.legend(frameon=False)
        return ax


def encode_targets(y: Any, n: int, loss: str) -> tuple[np.ndarray, str, np.ndarray | None]:
    """Targets as numbers, the loss's name, and the classes if there are any."""
    values = np.asarray(y)
    if values.ndim != 1:
        raise ValueError(f"y must be one-dimensional, got shape {values.shape}")
    if len(values) != n:
        raise ValueError(f"y must have {n} entries, one a row, got {len(values)}")
    text = values.dtype.kind in "OUSb" and not all(
        isinstance(v, int | float | np.number) and v is not True for v in values.tolist()
    )
    if loss == "auto":
        loss = "squared"
        if text or (values.dtype.kind in "iu" and len(np.unique(values)) <= 20):
            loss = "softmax"
    if loss in ("logistic", "softmax"):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("y must be finite, got NaN or infinity")
        try:
            classes, codes = np.unique(values.astype(str) if text else values, return_inverse=True)
        except TypeError as error:
            raise TypeError(f"y must hold labels of one kind: {error}") from error
        if len(classes) < 2:
            raise ValueError("y must hold at least two classes, got one")
        if loss == "logistic" and len(classes) > 2:
            raise ValueError(
                f"y must hold two classes for loss='logistic', got {len(classes)}; take 'softmax'"
            )
        name = "logistic" if len(classes) == 2 else "softmax"
        return codes.astype(np.float64 if name == "logistic" else np.int64), name, classes
    numbers = as_vector(y, "y", size=n, dtype=np.float64)
    if loss == "poisson" and (numbers < 0).any():
        raise ValueError("y must be at least 0 for loss='poisson'")
    return numbers, loss, None


def settings_of(
    *,
    m: Any,
    inner: str,
    eta: Any,
    rule: str,
    schedule: str,
    projection: str,
    batch_size: Any,
    max_iter: Any,
    tol: Any,
    alpha: Any,
    solver: str,
) -> Settings:
    """Checked settings."""
    as_choice(inner, "inner", ("exact", "gd", "armijo"))
    as_choice(rule, "rule", ("sgd", "sls", "adagrad", "adagrad-diag", "newton"))
    as_choice(schedule, "schedule", ("constant", "sqrt", "exponential"))
    as_choice(projection, "projection", ("full", "batch"))
    as_choice(solver, "solver", ("direct", "cg"))
    m = None if m is None else as_int(m, "m", low=1)
    if m is None and inner != "exact":
        m = 20
    step = None
    if eta != "auto":
        step = as_real(eta, "eta", low=0, high=1e12, open_ends=True)
    return Settings(
        m=m,
        inner=inner if m is not None else "exact",  # type: ignore[arg-type]
        eta=step,
        rule=rule,  # type: ignore[arg-type]
        schedule=schedule,  # type: ignore[arg-type]
        projection=projection,  # type: ignore[arg-type]
        batch_size=None if batch_size is None else as_int(batch_size, "batch_size", low=1),
        max_iter=as_int(max_iter, "max_iter", low=1),
        tol=as_real(tol, "tol", low=0, high=1e9),
        alpha=as_real(alpha, "alpha", low=0, high=1e12),
        solver=solver,  # type: ignore[arg-type]
    )


def target_surrogates(
    X: Annotated[Any, Data("design")],
    y: Annotated[Any, Data("labels", column="target")],
    *,
    loss: Literal["auto", "squared", "logistic", "softmax", "huber", "poisson"] = "auto",
    m: int | None = None,
    inner: Literal["exact", "gd", "armijo"] = "exact",
    eta: float | Literal["auto"] = "auto",
    rule: Literal["sgd", "sls", "adagrad", "adagrad-diag", "newton"] = "sgd",
    schedule: Literal["constant", "sqrt", "exponential"] = "constant",
    projection: Literal["full", "batch"] = "full",
    batch_size: int | None = None,
    max_iter: int = 100,
    tol: float = 1e-6,
    alpha: float = 0.0,
    seeds: int = 20,
    compare: bool = True,
    delta: float = 0.05,
    rng: np.random.Generator | int | None = None,
) -> TargetSurrogateFit:
    """Fit a linear model with few calls of its loss, and show what SGD and L-BFGS reach with as many.

    For a model of your own take :class:`whp.optim.SSO`, for pipelines :class:`whp.optim.SSOClassifier` and
    :class:`whp.optim.SSORegressor`. Where gradients of the loss are cheap, L-BFGS is the better choice.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Features; a constant column is an intercept (tables get one).
    y : array-like, shape (n,)
        Numbers, or labels.
    loss : str
        By default softmax or logistic for labels and for whole numbers of at most 20 kinds, squared otherwise.
    m : int, optional
        Steps on each surrogate; by default it is minimised exactly, and 20 with another `inner`.
    inner : {"exact", "gd", "armijo"}
        How the surrogate is minimised.
    eta : float or "auto"
        Step in the outputs: 1/L for full batches, half of the inverse of the largest smoothness for minibatches.
    rule : str
        ``"sgd"`` keeps η, ``"sls"`` searches it by function values, ``"adagrad"`` and ``"adagrad-diag"`` adapt it, ``"newton"``
        takes the loss's curvature.
    schedule : {"constant", "sqrt", "exponential"}
        Of η over steps.
    projection : {"full", "batch"}
        Whether the proximity term covers all rows, as the theory has it, or the batch alone, which overfits the batch.
    batch_size : int, optional
        Rows a call.
    max_iter : int
        Calls.
    tol : float
        Gradient norm at which to stop.
    alpha : float
        Ridge penalty a sample.
    seeds : int
        Runs for the certificate of minibatches.
    compare : bool
        Run SGD over a grid of rates, and L-BFGS.
    delta : float
        Failure probability of the certificate of minibatches.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    TargetSurrogateFit

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    FloatingPointError
        If the loss becomes infinite.
    """
    A = as_matrix(X, "X", dtype=np.float64)
    as_choice(loss, "loss", ("auto", *LOSSES))
    targets, name, classes = encode_targets(y, len(A), loss)
    settings = settings_of(
        m=m,
        inner=inner,
        eta=eta,
        rule=rule,  # type: ignore[arg-type]
        schedule=schedule,
        projection=projection,
        batch_size=batch_size,
        max_iter=max_iter,
        tol=tol,
        alpha=alpha,
        solver="direct",
    )
    seeds, delta = as_int(seeds, "seeds", low=2), as_fraction(delta, "delta")
    if not isinstance(compare, bool | np.bool_):
        raise TypeError(f"compare must be True or False, got {compare!r}")
    chosen = LOSSES[name]
    rng = np.random.default_rng(rng)
    shape = (A.shape[1],) if name != "softmax" else (A.shape[1], len(classes))  # type: ignore[arg-type]
    start = np.zeros(shape)
    problem = LinearProblem(A, settings.alpha, "direct")
    whole = settings.batch_size is None or settings.batch_size >= len(A)
    values = [chosen.value(A @ start, targets)]

    def watch(t: int, theta: np.ndarray) -> bool:
        values.append(chosen.value(A @ theta, targets))
        return False

    theta, history = fit_linear(
        A, targets, chosen, settings, start, rng, problem=problem, stop=watch
    )
    curves = pd.DataFrame({"calls": np.arange(len(values)), "sso": np.array(values) / len(A)})
    if compare:
        curves["sgd"] = _sgd(A, targets, chosen, settings, start, len(values) - 1, rng)
        curves["lbfgs"] = _lbfgs(A, targets, chosen, settings, start, len(values) - 1)
    certificates = _certificates(
        A, targets, chosen, settings, problem, history, values, whole, seeds, delta, rng
    )
    return TargetSurrogateFit(
        loss=name,
        mean_loss=values[-1] / len(A),
        n_oracle=history.n_oracle,
        n_values=int(sum(r["values"] for r in history.rows)),
        coef=theta.T if theta.ndim == 2 else theta,
        intercept=0.0,
        classes=classes,
        curves=curves,
        history=history.to_frame(),
        certificates=certificates,
    )


def _certificates(
    A: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    s: Settings,
    problem: LinearProblem,
    history: History,
    values: list[float],
    whole: bool,
    seeds: int,
    delta: float,
    rng: np.random.Generator,
) -> tuple[Certificate, ...]:
    found = []
    least = min((r["eta"] for r in history.rows), default=1.0)
    if s.rule in ("sgd", "sls", "adagrad") and (whole or loss.name != "squared" or s.rule != "sgd"):
        found.append(guarantee.majorisation(history, values[-1], loss.smoothness, whole))
        beta = None if s.inner == "armijo" else problem.norm / least
        found.append(guarantee.descent(history, values[-1], beta, 0.0, whole, s.alpha > 0))
    if not whole and loss.name == "squared" and s.rule == "sgd":
        n, b = len(A), s.batch_size or len(A)
        best = np.linalg.lstsq(A, y, rcond=None)[0]
        z = A @ best
        distances, gaps, etas = [], [], np.empty(0)
        for _ in range(seeds):
            _, run = fit_linear(
                A, y, loss, s, np.zeros(A.shape[1]), rng, problem=problem, keep=True
            )
            distances.append([float(np.square(u - z).sum()) for u in run.outputs])
            gaps.append(run.exact_gap)
            etas = np.array([r["eta"] for r in run.rows])
        found.append(
            guarantee.recursion(
                distances,
                etas,
                float(np.square(z).sum()),
                guarantee.target_noise(A, z - y, b),
                1.0,
                n / b,
                gaps=np.sqrt(np.square(gaps).mean(axis=0)),
                projection=s.projection,
                delta=delta,
            )
        )
    return tuple(found)


def _penalised(A: np.ndarray, y: np.ndarray, loss: Loss, s: Settings) -> Any:
    def both(theta: np.ndarray) -> tuple[float, np.ndarray]:
        z = A @ theta
        penalty = s.alpha * len(A)
        return loss.value(z, y) + penalty / 2 * float(np.square(theta).sum()), A.T @ loss.gradient(
            z, y
        ) + penalty * theta

    return both


def _sgd(
    A: np.ndarray,
    y: np.ndarray,
    loss: Loss,
    s: Settings,
    start: np.ndarray,
    calls: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Mean losses after each call, at the rate of the grid with the lowest loss at the end."""
    n = len(A)
    b = n if s.batch_size is None else min(s.batch_size, n)
    seed = int(rng.integers(2**31))
    best = np.full(calls + 1, np.inf)
    for rate in RATES:
        random, theta, found = np.random.default_rng(seed), start.copy(), [loss.value(A @ start, y)]
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(calls):
                rows = slice(None) if b == n else random.choice(n, b, replace=False)
                part = A[rows]
                theta = theta - rate * (
                    part.T @ loss.gradient(part @ theta, y[rows]) / b + s.alpha * theta
                )
                found.append(loss.value(A @ theta, y))
        if np.isfinite(found).all() and found[-1] < best[-1]:
            best = np.array(found)
    return best / n


def _lbfgs(
    A: np.ndarray, y: np.ndarray, loss: Loss, s: Settings, start: np.ndarray, calls: int
) -> np.ndarray:
    """Lowest mean loss after each call of full-batch value and gradient."""
    from scipy.optimize import minimize

    both, found = _penalised(A, y, loss, s), []

    def counted(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = both(theta.reshape(start.shape))
        found.append(loss.value(A @ theta.reshape(start.shape), y))
        return value, slope.ravel()

    minimize(
        counted,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxfun": calls + 1, "maxiter": calls + 1},
    )
    found = (found + [found[-1]] * (calls + 1))[: calls + 1]
    return np.minimum.accumulate(found) / len(A)
