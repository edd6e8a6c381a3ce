"""The front door: rows of several clients in, a linear model trained on compressed gradients out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed.error_feedback.compressors import (
    BlockTopK,
    Compressor,
    Identity,
    NaturalDeterministic,
    RandK,
    TopK,
)
from whp.distributed.error_feedback.guarantee import in_expectation
from whp.distributed.error_feedback.solver import ef21
from whp.distributed.error_feedback.stepsizes import Smoothness, glm_smoothness, rare_features
from whp.io import Data
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_int, as_matrix, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ErrorFeedbackResult", "LinearModel", "error_feedback", "in_groups"]

Method = Literal["EF21", "EF21-W", "EF21-PP", "EF21-SGD"]
Step = Literal["am", "qm", "rf", "guarded"]


@dataclass(frozen=True, eq=False)
class ErrorFeedbackResult(Result):
    """A linear model trained by error feedback.

    Attributes
    ----------
    x : ndarray, shape (d,)
        Coefficients of the standardised columns, the intercept last.
    value, grad_norm2 : float
        f and ‖∇f‖² at x.
    L, L_AM, L_QM : float
        Smoothness of f, and means of the clients'.
    r, c : float
        Most features a client owns, and the rare-feature number: n if all clients own some feature.
    step, old_step : float
        The step that was taken (the first one, if guarded), and that of the old analysis.
    speedup : float
        step/old_step: predicted ratio of numbers of steps.
    history : DataFrame
        A row a step and method: ``f``, ``grad_norm2``, ``bytes_up`` (all clients together).
    certificates : tuple of Certificate
        ``mean-gradient``, ``lyapunov`` of the run; several runs' mean where the method draws.
    """

    x: np.ndarray
    value: float
    grad_norm2: float
    clients: int
    d: int
    L: float
    L_AM: float
    L_QM: float
    r: int
    c: float
    step: float
    old_step: float
    speedup: float
    megabytes_up: float
    history: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def artifacts(self) -> dict[str, Any]:
        """Coefficients and the history."""
        return {"arrays.npz": {"x": self.x}, "history.csv": self.history}

    def plot(self, ax: Axes | None = None) -> Axes:
        """‖∇f‖² over the bytes that clients have sent."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        for name, group in self.history.groupby("method", sort=False):
            ax.plot(group["bytes_up"].clip(lower=1), group["grad_norm2"], label=str(name))
        ax.set(xscale="log", yscale="log", xlabel="bytes sent by all clients", ylabel="‖∇f‖²")
        ax.legend(frameon=False, fontsize=8)
        return ax


class LinearModel:
    """f = (1/n) Σ f_i of a generalised linear model: client means of a loss, plus reg · Σ x_j²/(1 + x_j²).

    Parameters
    ----------
    groups : list of (matrix, vector)
        Rows and targets of each client; dense or scipy.sparse.
    loss : {"logistic", "squared"}
        Targets are ±1 for the first.
    reg : float
        Weight of the regulariser, which is not convex; its derivative is 2 reg-smooth.
    by_size : bool
        Weigh clients by their rows.
    own : bool
        Regularise for each client only the features that it owns, so that its gradient stays sparse.
    """

    def __init__(
        self,
        groups: list[tuple[Any, np.ndarray]],
        loss: str,
        reg: float,
        by_size: bool = False,
        own: bool = False,
    ) -> None:
        self.groups, self.loss, self.reg = groups, loss, reg
        n, sizes = len(groups), np.array([len(t) for _, t in groups])
        self.factor = n * sizes / sizes.sum() if by_size else np.ones(n)
        self.supports = np.stack(
            [np.asarray((A != 0).sum(axis=0)).reshape(-1) > 0 for A, _ in groups]
        )
        self.regularised = self.supports if own else np.ones_like(self.supports)

    @property
    def smoothness(self) -> Smoothness:
        """Upper bounds of L and all L_i, by power iteration."""
        curvature = 0.25 if self.loss == "logistic" else 1.0
        clients = np.array(
            [
                a * glm_smoothness(A, curvature) + 2 * self.reg
                for (A, _), a in zip(self.groups, self.factor, strict=True)
            ]
        )
        pooled = _stack(
            [
                A * np.sqrt(a / (len(self.groups) * A.shape[0]))
                for (A, _), a in zip(self.groups, self.factor, strict=True)
            ]
        )
        return Smoothness(
            min(
                glm_smoothness(pooled, curvature * pooled.shape[0]) + 2 * self.reg,
                float(clients.mean()),
            ),
            clients,
        )

    def _slope(self, t: np.ndarray, z: np.ndarray) -> np.ndarray:
        from scipy.special import expit

        return -t * expit(-t * z) if self.loss == "logistic" else z - t

    def gradient(
        self, i: int, rows: np.ndarray | None = None
    ) -> Callable[[np.ndarray], np.ndarray]:
        """∇f_i, of all rows or of some."""
        A, t = (
            self.groups[i] if rows is None else (self.groups[i][0][rows], self.groups[i][1][rows])
        )
        factor, mask = self.factor[i] / len(t), self.regularised[i]

        def of(x: np.ndarray) -> np.ndarray:
            return (
                factor * (A.T @ self._slope(t, A @ x)) + 2 * self.reg * mask * x / (1 + x**2) ** 2
            )

        return of

    def noisy(self, i: int, batch: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
        """Gradients of f_i from `batch` rows drawn with replacement."""

        def of(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
            return self.gradient(i, rng.integers(len(self.groups[i][1]), size=batch))(x)

        return of

    def variance(self, i: int, batch: int) -> float:
        """A bound of the variance of such gradients, for the logistic loss: its slope is at most 1, so rows' norms bound it."""
        A, _ = self.groups[i]
        norms = np.asarray((A.multiply(A) if hasattr(A, "multiply") else A**2).sum(axis=1))
        return float(self.factor[i] ** 2 * norms.mean() / batch)

    def value(self, i: int) -> Callable[[np.ndarray], float]:
        """f_i."""
        A, t = self.groups[i]
        factor, mask = self.factor[i], self.regularised[i]

        def of(x: np.ndarray) -> float:
            z = A @ x
            loss = (
                np.logaddexp(0, -t * z).mean()
                if self.loss == "logistic"
                else ((z - t) ** 2).mean() / 2
            )
            return factor * float(loss) + self.reg * float((mask * x**2 / (1 + x**2)).sum())

        return of

    def solve(self, known: Smoothness, **options: Any) -> Any:
        """:func:`ef21` from 0, certificates and all."""
        n = len(self.groups)
        return ef21(
            [self.gradient(i) for i in range(n)],
            np.zeros(self.supports.shape[1]),
            f=[self.value(i) for i in range(n)],
            smoothness=known.clients,
            L=known.L,
            **options,
        )


def _stack(parts: list[Any]) -> Any:
    import scipy.sparse

    return (
        scipy.sparse.vstack(parts).tocsr()
        if scipy.sparse.issparse(parts[0])
        else np.concatenate(parts)
    )


def in_groups(
    X: np.ndarray, y: np.ndarray, labels: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and targets by label, in the order of labels."""
    return [(X[labels == g], y[labels == g]) for g in np.unique(labels)]


def error_feedback(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("vector")],
    clients: Annotated[Any, Data("vector")] = None,
    *,
    loss: Literal["logistic", "squared"] = "logistic",
    reg: float = 1e-3,
    n_clients: int = 20,
    compressor: Literal["topk", "block", "randk", "natural", "none"] | Compressor = "topk",
    k: int = 1,
    ratio: float | None = None,
    method: Method = "EF21",
    step: Step | float = "am",
    steps: int = 1000,
    participation: float = 0.5,
    batch: int = 8,
    seeds: int = 20,
    by_size: bool = False,
    standardise: bool = True,
    compare: bool = True,
    rng: np.random.Generator | int | None = None,
) -> ErrorFeedbackResult:
    """Train a linear model of several clients on compressed gradients, with the step that theory licenses.

    Parameters
    ----------
    X : array-like, shape (m, p)
        Rows.
    y : array-like, shape (m,)
        Two values for the logistic loss, numbers for the squared one.
    clients : array-like, shape (m,), optional
        Who owns each row. By default rows are sorted by their norm and dealt to `n_clients` in turn, so that clients differ.
    loss : {"logistic", "squared"}
        Mean over each client's rows.
    reg : float
        Weight of Σ x_j²/(1 + x_j²).
    n_clients : int
        How many, without `clients`.
    compressor : {"topk", "block", "randk", "natural", "none"} or Compressor
        What is sent of a difference of gradients.
    k : int
        Entries, for topk and randk.
    ratio : float, optional
        Share of entries in the place of `k`, and for block.
    method : {"EF21", "EF21-W", "EF21-PP", "EF21-SGD"}
        W weighs clients by smoothness, PP lets each take part with probability `participation`, SGD draws `batch` rows.
    step : {"am", "qm", "rf", "guarded"} or float
        New analysis, old, rare features, or checked at every step and doubled as long as the check holds.
    steps : int
        Number of steps.
    participation : float
        For PP.
    batch : int
        For SGD.
    seeds : int
        Runs, where the method draws: its bound is about their mean.
    by_size : bool
        Weigh clients by their rows; else each counts the same.
    standardise : bool
        Columns to mean 0 and deviation 1, before an intercept is appended.
    compare : bool
        Run the old step and plain gradient descent as well.
    rng : Generator or int, optional
        Source of randomness.

    Returns
    -------
    ErrorFeedbackResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    A = as_matrix(X, "X", dtype=np.float64)
    target = as_vector(y, "y", size=len(A), dtype=np.float64)
    as_choice(loss, "loss", ("logistic", "squared"))
    as_choice(method, "method", ("EF21", "EF21-W", "EF21-PP", "EF21-SGD"))
    if isinstance(step, str):
        as_choice(step, "step", ("am", "qm", "rf", "guarded"))
    reg, steps, seeds = (
        as_real(reg, "reg", low=0, high=1e9),
        as_int(steps, "steps", low=1),
        as_int(seeds, "seeds", low=2),
    )
    for name, flag in (("by_size", by_size), ("standardise", standardise), ("compare", compare)):
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {flag!r}")
    if method == "EF21-SGD" and loss != "logistic":
        raise ValueError(
            "method='EF21-SGD' needs loss='logistic', whose gradients have a variance that can be bounded"
        )
    if loss == "logistic":
        kinds = np.unique(target)
        if len(kinds) != 2:
            raise ValueError(f"y must have two values for loss='logistic', got {len(kinds)}")
        target = np.where(target == kinds[1], 1.0, -1.0)
    generator = np.random.default_rng(rng)
    if standardise:
        spread = A.std(axis=0)
        A = (A - A.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    A = np.column_stack([A, np.ones(len(A))])
    if clients is None:
        n = as_int(n_clients, "n_clients", low=1, high=len(A))
        order = np.argsort((A**2).sum(axis=1), kind="stable")
        labels = np.empty(len(A), dtype=int)
        for i, part in enumerate(np.array_split(order, n)):
            labels[part] = i
    else:
        labels = as_vector(clients, "clients", size=len(A))
    model = LinearModel(in_groups(A, target, labels), loss, reg, bool(by_size), own=step == "rf")
    n, d = model.supports.shape
    chosen = _compressor(compressor, k, ratio, d)
    known = model.smoothness
    options: dict[str, Any] = {"compressor": chosen, "T": steps, "method": method, "step": step}
    if step == "rf":
        options |= {"supports": model.supports, "weights": "optimal"}
    if method == "EF21-PP":
        options["participation"] = (
            as_fraction(participation, "participation") if participation != 1 else 1.0
        )
    if method == "EF21-SGD":
        b = as_int(batch, "batch", low=1)
        options |= {
            "noisy_grads": [model.noisy(i, b) for i in range(n)],
            "variance": [model.variance(i, b) for i in range(n)],
        }
        options["step"] = "sgd" if step == "am" else step
    draws = method in ("EF21-PP", "EF21-SGD") or not chosen.deterministic
    runs = [
        model.solve(known, rng=r, **options)
        for r in (generator.spawn(seeds) if draws else [generator])
    ]
    found = runs[0]
    certificates = tuple(found.certificates)
    if draws and certificates:
        certificates = (in_expectation(runs), *certificates[1:])
    tables = [_table(f"{method}, {step}", found)]
    old = model.solve(known, compressor=chosen, T=steps if compare else 1, step="qm", rng=generator)
    if compare:
        plain = model.solve(known, T=steps, method="GD", step="am")
        tables += [_table("EF21, old step", old), _table("gradient descent", plain)]
    r, c = rare_features(model.supports, known.clients / known.clients.sum())
    return ErrorFeedbackResult(
        x=found.x,
        value=float(found.fun),
        grad_norm2=float(found.jac @ found.jac),
        clients=n,
        d=d,
        L=known.L,
        L_AM=known.am,
        L_QM=known.qm,
        r=r,
        c=c,
        step=float(found.step),
        old_step=float(old.step),
        speedup=float(found.step / old.step),
        megabytes_up=float(found.history["bytes_up"][-1] / 1e6),
        history=pd.concat(tables, ignore_index=True),
        certificates=certificates,
    )


def _compressor(name: str | Compressor, k: int, ratio: float | None, d: int) -> Compressor:
    if isinstance(name, Compressor):
        return name
    as_choice(name, "compressor", ("topk", "block", "randk", "natural", "none"))
    k = as_int(k, "k", low=1, high=d)
    match name:
        case "topk":
            return TopK(k) if ratio is None else TopK(ratio=ratio)
        case "block":
            return BlockTopK(0.01 if ratio is None else ratio)
        case "randk":
            return RandK(k)
        case "natural":
            return NaturalDeterministic()
    return Identity()


def _table(name: str, found: Any) -> pd.DataFrame:
    h = found.history
    return pd.DataFrame(
        {
            "method": name,
            "step": range(len(h["f"])),
            "f": h["f"],
            "grad_norm2": h["grad_norm2"],
            "bytes_up": h["bytes_up"],
        }
    )
