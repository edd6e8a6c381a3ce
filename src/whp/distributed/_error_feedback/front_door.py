"""The front door: rows of several clients in, a linear model trained on compressed gradients out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed._error_feedback.compressors import (
    BlockTopK,
    Compressor,
    Identity,
    NaturalDeterministic,
    RandK,
    TopK,
)
from whp.distributed._error_feedback.model import LinearModel, in_groups
from whp.distributed._error_feedback.solver import in_expectation
from whp.distributed._error_feedback.stepsizes import rare_features
from whp.door import AtLeast, Between, Fraction, front_door
from whp.io import Data
from whp.result import Result
from whp.validate import as_int, as_matrix, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["ErrorFeedbackResult", "error_feedback"]

Method = Literal["EF21", "EF21-W", "EF21-PP", "EF21-SGD"]
Step = Literal["auto", "am", "qm", "rf", "sgd", "guarded"]
ILL = 1e6  # L over the least eigenvalue, from which standardising is worth a word
DENSE = 2000  # columns up to which the least eigenvalue is worked out


@dataclass(frozen=True, eq=False)
class ErrorFeedbackResult(Result):
    """A linear model trained by error feedback.

    Attributes
    ----------
    x : ndarray, shape (d,)
        Coefficients of the standardised columns, the intercept last.
    value, grad_norm2 : float
        f and ‖∇f‖² at x.
    clients, d : int
    rows_of_clients : str
        How many rows each client has.
    L, L_AM, L_QM : float
        Smoothness of f, and means of the clients'.
    condition_number : float
        L over the least curvature of the loss, regulariser left out; NaN for many columns.
    advice : str
        What to do about badly scaled columns; "" where there is nothing.
    r, c : float
        Most features a client owns, and the rare-feature number: n if all clients own some feature.
    step, old_step : float
        The step that was taken (the first one, if guarded), and that of the old analysis.
    speedup : float
        step/old_step: predicted ratio of numbers of steps.
    steps_made : int
        Fewer than were asked for if the run diverged.
    ended : str
        Why the run ended.
    history : DataFrame
        A row a step and method: ``f``, ``grad_norm2``, ``bytes_up`` (all clients together).
    certificates : tuple of Certificate
        ``mean-gradient`` and ``lyapunov`` of the run, or ``expected-gradient`` and ``best-run`` of
        several where the method draws; x is that of the best run then.
    """

    x: np.ndarray
    value: float
    grad_norm2: float
    clients: int
    rows_of_clients: str
    d: int
    L: float
    L_AM: float
    L_QM: float
    condition_number: float
    advice: str
    r: int
    c: float
    step: float
    old_step: float
    speedup: float
    steps_made: int
    ended: str
    megabytes_up: float
    history: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Scalars, without advice where there is none."""
        values = super().summary()
        return {k: v for k, v in values.items() if k != "advice" or v}

    def artifacts(self) -> dict[str, Any]:
        """Coefficients and the history."""
        return {"arrays.npz": {"x": self.x}, "history.csv": self.history}

    def draw(self, ax: Axes) -> None:
        """‖∇f‖² over the bytes that clients have sent."""
        for name, group in self.history.groupby("method", sort=False):
            ax.plot(group["bytes_up"].clip(lower=1), group["grad_norm2"], label=str(name))
        ax.set(xscale="log", yscale="log", xlabel="bytes sent by all clients", ylabel="‖∇f‖²")
        ax.legend(frameon=False, fontsize=8)


@front_door
def error_feedback(
    X: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    clients: Annotated[Any, Data("ids")] = None,
    *,
    loss: Literal["logistic", "squared"] = "logistic",
    reg: Annotated[float, Between(0, 1e9)] = 1e-3,
    n_clients: Annotated[int, AtLeast(1)] | None = None,
    compressor: Literal["topk", "block", "randk", "natural", "none"] | Compressor = "topk",
    k: Annotated[int, AtLeast(1)] | None = None,
    ratio: Annotated[float, Between(0, 1)] | None = None,
    method: Method = "EF21",
    step: Step | float = "auto",
    steps: Annotated[int, AtLeast(1)] = 1000,
    participation: Annotated[float, Between(0, 1)] | None = None,
    batch: Annotated[int, AtLeast(1)] | None = None,
    seeds: Annotated[int, AtLeast(2)] | None = None,
    delta: Annotated[float, Fraction()] | None = None,
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
        Two values or names for the logistic loss, numbers for the squared one.
    clients : array-like, shape (m,), optional
        Who owns each row, by number or name. By default rows are sorted by their norm and cut into
        `n_clients` parts, so that clients differ.
    loss : {"logistic", "squared"}
        Mean over each client's rows.
    reg : float
        Weight of the penalty Σ x_j²/(1 + x_j²).
    n_clients : int, optional
        How many clients, where `clients` is not given; by default 20.
    compressor : {"topk", "block", "randk", "natural", "none"} or Compressor
        What is sent of a difference of gradients.
    k : int, optional
        Entries that topk and randk send; by default 1.
    ratio : float, optional
        Share of entries that topk and block send, in the place of `k`; for block by default 0.01.
    method : {"EF21", "EF21-W", "EF21-PP", "EF21-SGD"}
        EF21-W weighs clients by smoothness, EF21-PP lets each take part with some probability,
        EF21-SGD draws rows.
    step : {"auto", "am", "qm", "rf", "sgd", "guarded"} or float
        What the theorem of the method allows, new analysis, old one, rare features, noisy
        gradients, or checked at every step and doubled as long as the check holds.
    steps : int
        Number of steps.
    participation : float, optional
        Probability with which a client takes part in a step of EF21-PP; by default 0.5.
    batch : int, optional
        Rows that a client draws in a step of EF21-SGD; by default 8.
    seeds : int, optional
        Independent runs, where the method draws; by default 20. The best one is returned.
    delta : float, optional
        Failure probability of what is said of those runs; by default 0.05.
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
        If an argument is not what is accepted, or would be ignored; the message names it.
    """
    A = as_matrix(X, "X", dtype=np.float64)
    target = _target(y, len(A), loss)
    if method == "EF21-SGD" and loss != "logistic":
        raise ValueError(
            "method='EF21-SGD' needs loss='logistic', whose gradients have a variance that can be "
            "bounded"
        )
    _refuse_ignored(method, compressor, clients, n_clients, k, ratio, participation, batch)
    generator = np.random.default_rng(rng)
    if standardise:
        # to about 1 first, exactly: squares of 1e±160 are infinite or 0, and the column was lost
        A = np.ldexp(A, -np.frexp(np.abs(A).max(axis=0))[1])
        spread = A.std(axis=0)
        # of equal entries the mean is off by rounding, which is not to be blown up to a column of ones
        constant = np.ptp(A, axis=0) == 0
        A = np.where(constant, 0.0, (A - A.mean(axis=0)) / np.where(constant, 1.0, spread))
    A = np.column_stack([A, np.ones(len(A))])
    labels, names = _owners(A, clients, n_clients)
    model = LinearModel(in_groups(A, target, labels), loss, reg, bool(by_size), own=step == "rf")
    n, d = model.supports.shape
    chosen = _compressor(compressor, k, ratio, d)
    draws = method in ("EF21-PP", "EF21-SGD") or not chosen.deterministic
    if not draws and (seeds is not None or delta is not None):
        name = "seeds" if seeds is not None else "delta"
        raise ValueError(f"{name} is for methods that draw: EF21-PP, EF21-SGD, randk")
    known = model.smoothness
    options: dict[str, Any] = {"compressor": chosen, "T": steps, "method": method, "step": step}
    if step == "rf":
        options |= {"supports": model.supports, "weights": "optimal"}
    if method == "EF21-PP":
        options["participation"] = 0.5 if participation is None else participation
    if method == "EF21-SGD":
        b = 8 if batch is None else batch
        options |= {
            "noisy_grads": [model.noisy(i, b) for i in range(n)],
            "variance": [model.variance(i, b) for i in range(n)],
        }
    runs = [
        model.solve(known, rng=r, **options)
        for r in (generator.spawn(20 if seeds is None else seeds) if draws else [generator])
    ]
    made = runs[0]
    certificates = tuple(made.certificates)
    if draws and all(r.run is not None for r in runs):
        certificates = in_expectation(runs, delta=0.05 if delta is None else delta)
        made = min(runs, key=lambda r: r.run.seen)
    elif draws:  # an expectation is about all of them: one that diverged is what the user must see
        certificates = ()
        made = next(r for r in runs if r.run is None)
    tables = [_table(f"{method}, {step}", made)]
    plainly = {"compressor": chosen, "rng": generator}
    old = model.solve(known, T=steps if compare else 1, step="qm", **plainly)
    if compare:
        tables += [
            _table("EF21, old step", old),
            _table("gradient descent", model.solve(known, T=steps, method="GD", step="am")),
        ]
    r, c = rare_features(model.supports, known.clients / known.clients.sum())
    condition, advice = _conditioning(model, known.L, standardise)
    return ErrorFeedbackResult(
        x=made.x,
        value=float(made.fun),
        grad_norm2=float(made.jac @ made.jac),
        clients=n,
        rows_of_clients=_counts(names, model),
        d=d,
        L=known.L,
        L_AM=known.am,
        L_QM=known.qm,
        condition_number=condition,
        advice=advice,
        r=r,
        c=c,
        step=float(made.step),
        old_step=float(old.step),
        speedup=float(made.step / old.step),
        steps_made=int(made.nit),
        ended=str(made.message),
        megabytes_up=float(made.history["bytes_up"][-1] / 1e6),
        history=pd.concat(tables, ignore_index=True),
        certificates=certificates,
    )


def _target(y: Any, m: int, loss: str) -> np.ndarray:
    """Numbers, or −1 and 1 for two values."""
    if loss == "squared":
        return as_vector(y, "y", size=m, dtype=np.float64)
    labels = _names(y, "y", m)
    kinds = np.unique(labels)
    if len(kinds) != 2:
        raise ValueError(f"y must have two values for loss='logistic', got {len(kinds)}")
    return np.where(labels == kinds[1], 1.0, -1.0)


def _names(value: Any, argument: str, m: int) -> np.ndarray:
    """Numbers or text, one a row and none missing."""
    array = np.asarray(value)
    if array.dtype.kind == "O":
        missing = np.array([v is None or v != v for v in array.ravel()], bool)
        kept = {type(v) for v, gone in zip(array.ravel(), missing, strict=True) if not gone}
        if not missing.any():
            array = array.astype(str) if str in kept else array.astype(float)
    elif array.dtype.kind == "f":
        missing = ~np.isfinite(array)
    else:
        missing = np.zeros(array.shape, bool)
    if array.dtype.kind not in "OUSbiuf" or array.ndim != 1:
        raise ValueError(f"{argument} must hold numbers or names, one a row")
    if len(array) != m:
        raise ValueError(f"{argument} must have {m} entries, one a row, got {len(array)}")
    if missing.any():
        raise ValueError(f"{argument}: row {int(missing.argmax())} is missing or not finite")
    return array


def _refuse_ignored(
    method: str,
    compressor: Any,
    clients: Any,
    n_clients: Any,
    k: Any,
    ratio: Any,
    participation: Any,
    batch: Any,
) -> None:
    """What was given and would change nothing."""
    kind = compressor if isinstance(compressor, str) else "a Compressor"
    rules = (
        ("participation", participation, method == "EF21-PP", "method='EF21-PP'"),
        ("batch", batch, method == "EF21-SGD", "method='EF21-SGD'"),
        ("n_clients", n_clients, clients is None, "no clients given"),
        ("k", k, kind in ("topk", "randk"), "compressor 'topk' or 'randk'"),
        ("ratio", ratio, kind in ("topk", "block"), "compressor 'topk' or 'block'"),
    )
    for name, value, used, needs in rules:
        if value is not None and not used:
            raise ValueError(f"{name} is only used with {needs}")
    if k is not None and ratio is not None:
        raise ValueError("k and ratio say the same: give one")


def _owners(A: np.ndarray, clients: Any, n_clients: int | None) -> tuple[np.ndarray, list[str]]:
    """The client of each row, and their names."""
    if clients is not None:
        names, labels = np.unique(_names(clients, "clients", len(A)), return_inverse=True)
        return labels.ravel(), [str(name) for name in names]
    n = as_int(20 if n_clients is None else n_clients, "n_clients", low=1, high=len(A))
    order = np.argsort((A**2).sum(axis=1), kind="stable")
    labels = np.empty(len(A), dtype=int)
    for i, part in enumerate(np.array_split(order, n)):
        labels[part] = i
    return labels, [str(i) for i in range(n)]


def _counts(names: list[str], model: LinearModel) -> str:
    """The rows of each client, the first dozen by name."""
    sizes = [len(t) for _, t in model.groups]
    told = ", ".join(f"{name}: {m}" for name, m in list(zip(names, sizes, strict=True))[:12])
    more = len(sizes) - 12
    return told if more <= 0 else f"{told}, and {more} more of {min(sizes)} to {max(sizes)}"


def _conditioning(model: LinearModel, L: float, standardise: bool) -> tuple[float, str]:
    """L over the least curvature of the squared loss, and what to do about it."""
    d = model.supports.shape[1]
    if d > DENSE:
        return float("nan"), ""
    n, curvature = len(model.groups), 0.25 if model.loss == "logistic" else 1.0
    pooled = sum(
        (a / (n * len(t))) * (B.T @ B) for (B, t), a in zip(model.groups, model.factor, strict=True)
    )
    least = curvature * float(np.linalg.eigvalsh(np.asarray(pooled))[0])
    condition = L / least if least > 0 else float("inf")
    if condition < ILL:
        return condition, ""
    remedy = "some columns are (nearly) combinations of others" if standardise else "standardise"
    return condition, f"L is {condition:.1g} times the smallest eigenvalue: {remedy}"


def _compressor(name: str | Compressor, k: int | None, ratio: float | None, d: int) -> Compressor:
    if isinstance(name, Compressor):
        return name
    k = as_int(1 if k is None else k, "k", low=1, high=d)
    if ratio is not None:
        ratio = as_real(ratio, "ratio", low=0, high=1)
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


def _table(name: str, made: Any) -> pd.DataFrame:
    h = made.history
    return pd.DataFrame(
        {
            "method": name,
            "step": range(len(h["f"])),
            "f": h["f"],
            "grad_norm2": h["grad_norm2"],
            "bytes_up": h["bytes_up"],
        }
    )
