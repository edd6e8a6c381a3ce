"""The front door: logits and labels in, a bound on the excess error out."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.door import AtLeast, Fraction, Range, front_door
from whp.intervals import Estimate, mean
from whp.io import Data
from whp.losses._comp_sum_losses import evidence
from whp.losses._comp_sum_losses import theorems as t
from whp.losses._comp_sum_losses.loss import check_tau
from whp.losses._comp_sum_losses.rows import Rows
from whp.result import PALETTE, Result
from whp.scores import as_classes, as_logits, as_units, check_columns, in_order
from whp.validate import as_floats, same_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CompSumResult", "comp_sum_losses"]

DIALS = (0.0, 0.5, 1.0, 1.5, 1.7, 2.0, 3.0)
EXACT, ROUNDED = 1e-6, 0.05  # how far sums of probabilities may be from 1, silently and said


@dataclass(frozen=True, eq=False)
class CompSumResult(Result):
    """What a classifier's loss says about its error.

    Attributes
    ----------
    tau : float
        The dial.
    risk : Estimate
        Mean loss of the rows, softmax mixed with a share `floor` of the uniform distribution.
    best_risk : float
        Mean of the least losses possible, 0 where nothing is known of the labels.
    excess_risk : float
        Their difference: at least the minimizability gap of any class of models that this one is in.
    gap : Estimate or None
        The gap of the class of models, between 0 and the excess of the best of it, if `logits_best`
        was given.
    bound, elementary : float
        Upper bounds of the excess error by the theorem, and by error ≤ risk / ℓ(½); each with
        probability 1 − delta.
    error : Estimate
        Share of rows whose label is not the predicted class.
    counted : Estimate
        The excess error counted directly: the error less what the stated noise explains, or less
        the errors of the class that the given probabilities call likeliest.
    floor : float
        Share of the uniform distribution that was mixed in.
    scores : str
        Whether logits were read as logits or as probabilities, and conditional as what.
    table : DataFrame
        For several dials: ``tau``, ``risk``, ``best_risk``, ``excess_limit``, ``bound``,
        ``elementary``; with probability 1 − delta all of them hold, so that the best may be chosen.
    certificates : tuple of Certificate
        ``h-consistency``, and ``pointwise`` where true probabilities are given.
    """

    tau: float
    risk: Estimate
    best_risk: float
    excess_risk: float
    gap: Estimate | None
    bound: float
    elementary: float
    error: Estimate
    counted: Estimate
    floor: float
    scores: str
    table: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Risk, what of it cannot be avoided, and the bounds."""
        return {
            "tau": self.tau,
            "read_as": self.scores,
            "risk": str(self.risk),
            "least_possible_risk": self.best_risk,
            "excess_risk": self.excess_risk,
            "minimizability_gap": "not estimated: give logits_best"
            if self.gap is None
            else str(self.gap),
            "bound_of_excess_error": self.bound,
            "elementary_bound": self.elementary,
            "excess_error_counted": str(self.counted),
            "error": str(self.error),
            "floor": self.floor,
        }

    def artifacts(self) -> dict[str, Any]:
        """The table over dials."""
        return {"bounds.csv": self.table}

    def draw(self, ax: Axes) -> None:
        """Both bounds over the dial, beside the excess error that was counted."""
        for column, colour, mark, label in (
            ("bound", "ours", "o-", "by the theorem"),
            ("elementary", "other", "s--", "elementary: risk / ℓ(½)"),
        ):
            ax.plot(self.table["tau"], self.table[column], mark, color=PALETTE[colour], label=label)
        low, high = max(0.0, self.counted.low), max(0.0, self.counted.high)
        ax.axhspan(low, high, color=PALETTE["third"], alpha=0.4, label="excess error, counted")
        ax.axvline(self.tau, color=PALETTE["quiet"], linewidth=0.8)
        ax.set(xlabel="dial τ of the loss", ylabel="bound of the excess error", ylim=(0, 1.3))
        ax.set_yticks(np.linspace(0, 1, 6))
        ax.legend(frameon=False, loc="upper center", ncols=3, fontsize="small")


@front_door
def comp_sum_losses(
    logits: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    *,
    conditional: Annotated[Any, Data("matrix")] = None,
    y_clean: Annotated[Any, Data("labels")] = None,
    logits_best: Annotated[Any, Data("matrix")] = None,
    groups: Annotated[Any, Data("ids")] = None,
    classes: tuple[str, ...] | None = None,
    from_probs: bool | None = None,
    tau: Annotated[float, Range(0, 1e6)] = 1.0,
    noise: Annotated[float, AtLeast(0)] | None = None,
    floor: Annotated[float, Fraction()] | None = None,
    delta: Annotated[float, Fraction()] = 0.05,
    transform: Literal["paper", "sharp"] = "paper",
    distinct: bool = True,
) -> CompSumResult:
    """Bound how much worse than the best classifier a model's predictions are, from its loss on new rows.

    Train with :class:`whp.losses.CompSumLoss`; any other model's logits will do as well. The rows
    must not have trained it: from logits alone that cannot be seen.

    Parameters
    ----------
    logits : array-like, shape (n, C)
        Logits or probabilities, a column a class; −infinity is an impossible class.
    y : array-like, shape (n,)
        Observed class of each row: 0 to C − 1, or names that the columns or `classes` have.
    conditional : array-like, shape (n, C), optional
        True probabilities of the classes (simulations), or whole numbers of votes, which stand in
        for them. A teacher's probabilities are not the truth, however calibrated.
    y_clean : array-like, shape (n,), optional
        Classes before the noise; with them `noise` is tested and the excess error measured.
    logits_best : array-like, shape (n, C), optional
        Those of the best model of the same class that you found: its excess risk bounds the class's
        minimizability gap.
    groups : array-like, shape (n,), optional
        Rows of one group may depend on each other (visits of a patient): each group counts once,
        with the mean of its rows.
    classes : sequence, optional
        The classes in the order of the columns.
    from_probs : bool or None
        Whether `logits` are probabilities; by default they are if all lie in [0, 1] and rows sum to
        1, up to rounding. Scores in [0, 1] that may be either are refused.
    tau : float
        The dial of the loss: 0 sum-exponential, 1 cross-entropy, 1 to 2 generalised cross-entropy, 2
        mean absolute error.
    noise : float, optional
        Probability with which a certain label was replaced by another, uniformly chosen. One that is
        what `y` and `y_clean` say is as uncertain as they are, which the bounds allow for.
    floor : float, optional
        Share of the uniform distribution that is mixed into softmax, so that the loss is bounded;
        predictions stay. By default 0.001 or, with `noise`, what makes the loss of certain predictions
        least, whichever bounds better; `delta` is shared between them.
    delta : float
        Failure probability of each certificate, and of the table over dials.
    transform : {"paper", "sharp"}
        The theorem's transformation, or the larger one that exact regrets suggest for 1 < tau < 2;
        the latter is not proved.
    distinct : bool
        Whether equal rows are copies, which void the certificates; False where inputs are discrete
        and repeat by themselves.

    Returns
    -------
    CompSumResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.

    References
    ----------
    A. Mao, M. Mohri, Y. Zhong. Cross-Entropy Loss Functions: Theoretical Analysis and Applications.
    ICML 2023. arXiv:2304.07288.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> clean = rng.integers(0, 3, 5000)
    >>> flipped = (clean + (rng.random(5000) < 0.3) * rng.integers(1, 3, 5000)) % 3
    >>> logits = 5.0 * np.eye(3)[clean] + rng.normal(size=(5000, 3))
    >>> result = comp_sum_losses(logits, flipped, noise=0.3, y_clean=clean)
    >>> str(result.certificates[0].verdict)
    'holds'
    """
    same_order(
        logits=logits,
        y=y,
        conditional=conditional,
        y_clean=y_clean,
        logits_best=logits_best,
        groups=groups,
    )
    tau = check_tau(tau)
    rows, how = _read(logits, y, conditional, y_clean, groups, classes, from_probs, noise, floor)
    values = rows.bounds(tau, delta, transform)
    # Limits that differ in more than a constant are events of their own.
    looks = len(DIALS) * (2 if rows.conditional is not None else 1)
    table = pd.DataFrame([{"tau": d, **rows.bounds(d, delta / looks, transform)} for d in DIALS])
    return CompSumResult(
        tau=tau,
        risk=mean(rows.units(rows.losses(tau, values["floor"])), level=1 - delta),
        best_risk=values["best_risk"],
        excess_risk=max(0.0, values["risk"] - values["best_risk"]),
        gap=_gap(rows, logits_best, logits, from_probs, tau, delta, transform),
        bound=values["bound"],
        elementary=values["elementary"],
        error=rows.error(1 - delta),
        counted=rows.counted(1 - delta),
        floor=values["floor"],
        scores=how,
        table=table,
        certificates=_certificates(rows, tau, delta, transform, distinct, values),
    )


def _certificates(
    rows: Rows,
    tau: float,
    delta: float,
    kind: Literal["paper", "sharp"],
    distinct: bool,
    values: dict[str, float],
) -> tuple[Certificate, ...]:
    known = evidence.answers(rows, distinct=distinct, excess_limit=values["excess_limit"])
    trivial = min(rows.worst_excess(), values["elementary"])
    counted = rows.counted(1 - delta)
    if rows.conditional is None and rows.noise is None:
        trivial = min(trivial, counted.high)
    shared = {
        "delta": delta,
        "measured": rows.measured(1 - delta),
        "answers": known,
        "sharp": kind == "sharp" and 1 < tau < 2 and rows.n_classes > 2,
    }
    inputs = {
        "rows": len(rows.y),
        "classes": rows.n_classes,
        "tau": tau,
        "risk": values["risk"],
        "least possible risk": values["best_risk"],
        "limit of the excess risk": values["excess_limit"],
        "elementary bound": values["elementary"],
        "excess error counted": str(counted),
        "transform": kind,
        "floor": values["floor"],
    }
    made = [
        t.excess(t.H_CONSISTENCY, bound=values["bound"], trivial=trivial, inputs=inputs, **shared)
    ]
    if rows.conditional is not None and not rows.votes:
        inputs = {"rows": len(rows.y), "tau": tau, "transform": kind, "floor": values["floor"]}
        bound = rows.pointwise(tau, delta, kind)
        made.append(t.excess(t.POINTWISE, bound=bound, trivial=trivial, inputs=inputs, **shared))
    return tuple(made)


def _gap(
    rows: Rows,
    best: Any,
    logits: Any,
    from_probs: bool | None,
    tau: float,
    delta: float,
    kind: Literal["paper", "sharp"],
) -> Estimate | None:
    """Between 0 and the excess risk of the best model of the class."""
    if best is None:
        return None
    z, _ = as_logits(in_order(best, "logits_best", logits, "logits"), "logits_best", from_probs)
    if z.shape != rows.logits.shape:
        raise ValueError(
            f"logits_best must have shape {rows.logits.shape} as logits has, got {z.shape}"
        )
    other = replace(rows, logits=z)
    values = other.bounds(tau, delta, kind)
    most = max(0.0, values["excess_limit"])
    value = min(most, max(0.0, values["risk"] - values["best_risk"]))
    return Estimate(value, 0.0, most, 1 - delta, len(z), "empirical Bernstein, upper end only")


def _read(
    logits: Any,
    y: Any,
    conditional: Any,
    y_clean: Any,
    groups: Any,
    classes: Any,
    from_probs: bool | None,
    noise: float | None,
    floor: float | None,
) -> tuple[Rows, str]:
    """The rows, and in words what was read as what."""
    z, were_probs = as_logits(logits, "logits", from_probs)
    n, number = z.shape
    check_columns(logits, "logits", z, were_probs)
    if n < 2:
        raise ValueError(f"logits must have at least 2 rows, got shape {z.shape}")
    labels = as_classes(y, "y", n, logits, classes, number)
    clean = None
    if y_clean is not None:
        if noise is None:
            raise ValueError("y_clean must come with noise=, the rate of flips that it tests")
        clean = as_classes(y_clean, "y_clean", n, logits, classes, number, beside=y)
        # Both are read alike: what one holds says whether the other counts from 0.
        labels = as_classes(y, "y", n, logits, classes, number, beside=y_clean)
    if noise is not None and noise >= (number - 1) / number:
        raise ValueError(
            f"noise must be below {(number - 1) / number:.4g}, where labels say nothing, got {noise:g}"
        )
    how, votes = "probabilities" if were_probs else "logits", ""
    P = None
    if conditional is not None:
        if noise is not None:
            raise ValueError("noise must not be given beside conditional, which says it already")
        conditional = in_order(conditional, "conditional", logits, "logits")
        P, votes = _probabilities(conditional, z.shape)
        how += f"; conditional as votes of {votes}" if votes else "; conditional as probabilities"
    codes = None
    if groups is not None:
        codes = np.unique(as_units(groups, "groups", n), return_inverse=True)[1].ravel()
        if codes.max() < 1:
            raise ValueError("groups must name at least 2 groups")
    given = np.asarray(as_floats(logits, "logits"), dtype=np.float64).reshape(n, -1)
    return Rows(z, labels, P, noise, clean, floor, codes, votes, given), how


def _probabilities(value: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, str]:
    """Rows that sum to 1, and whose votes they are, if they are whole numbers."""
    P = np.asarray(as_floats(value, "conditional"), dtype=np.float64)
    if P.shape != shape:
        raise ValueError(f"conditional must have shape {shape} as logits has, got {P.shape}")
    if not (np.isfinite(P).all() and (P >= 0).all()):
        raise ValueError(f"conditional must hold probabilities, or votes, got {P.min():g}")
    sums = P.sum(axis=1)
    if (np.round(P) == P).all() and sums.max() > 1:
        if sums.min() < 1:
            raise ValueError(
                f"conditional must have a vote in every row, row {int(sums.argmin())} has none"
            )
        least, most = int(sums.min()), int(sums.max())
        people = f"{least}" if least == most else f"{least} to {most}"
        return P / sums[:, None], f"{people} a row"
    off = np.abs(sums - 1)
    if off.max() > ROUNDED:
        row = int(off.argmax())
        raise ValueError(
            f"conditional must have rows that sum to 1, row {row} sums to {sums[row]:g}"
        )
    if off.max() > EXACT:
        warnings.warn(
            f"rows of conditional sum to 1 within {off.max():.2g} only, as rounded probabilities do; "
            "each row is divided by its sum",
            stacklevel=4,
        )
    return P / sums[:, None], ""
