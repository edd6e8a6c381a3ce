"""The front door: logits and labels in, a bound on the excess error out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.intervals import Estimate, mean, proportion
from whp.io import Data
from whp.losses.comp_sum_losses import guarantee
from whp.losses.comp_sum_losses.guarantee import Sample
from whp.losses.comp_sum_losses.loss import check_tau
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_labels, as_matrix, as_real

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CompSumResult", "comp_sum_losses"]

DIALS = (0.0, 0.5, 1.0, 1.5, 1.7, 2.0, 3.0)
SUM_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class CompSumResult(Result):
    """What a classifier's loss says about its error.

    Attributes
    ----------
    tau : float
        The dial.
    risk : Estimate
        Mean loss of the rows, softmax mixed with a little of the uniform distribution (`floor`).
    best_risk : float
        Mean of the least losses possible, 0 where nothing is known of the labels.
    excess_risk : float
        Their difference: at least the minimizability gap of any class of models that this one is in.
    gap : Estimate or None
        The gap of the class of models, between 0 and the excess of the best of it, if `logits_best` was given.
    bound, elementary : float
        Upper bounds of the excess error by the theorem, and by error ≤ risk / ℓ(½).
    error : Estimate
        Share of rows whose label is not the predicted class.
    table : DataFrame
        For several dials: ``tau``, ``risk``, ``best_risk``, ``excess_limit``, ``bound``, ``elementary``.
    certificates : tuple of Certificate
        ``h-consistency``, and ``pointwise`` where the probabilities are known.
    """

    tau: float
    risk: Estimate
    best_risk: float
    excess_risk: float
    gap: Estimate | None
    bound: float
    elementary: float
    error: Estimate
    table: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Risk, what of it cannot be avoided, and the bounds."""
        return {
            "tau": self.tau,
            "risk": str(self.risk),
            "least_possible_risk": self.best_risk,
            "excess_risk": self.excess_risk,
            "minimizability_gap": "not estimated: give logits_best"
            if self.gap is None
            else str(self.gap),
            "bound_of_excess_error": self.bound,
            "elementary_bound": self.elementary,
            "error": str(self.error),
        }

    def artifacts(self) -> dict[str, Any]:
        """The table over dials."""
        return {"bounds.csv": self.table}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Both bounds over the dial, beside what was measured."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        ax.plot(
            self.table["tau"], self.table["bound"], "o-", color="tab:blue", label="by the theorem"
        )
        ax.plot(
            self.table["tau"],
            self.table["elementary"],
            "s--",
            color="tab:orange",
            label="elementary: risk / ℓ(½)",
        )
        measured = self.certificates[0].measured
        if measured is not None:
            ax.axhspan(
                measured.low,
                measured.high,
                color="tab:green",
                alpha=0.4,
                label="excess error, measured",
            )
        ax.axvline(self.tau, color="0.7", linewidth=0.8)
        ax.set(xlabel="dial τ of the loss", ylabel="bound of the excess error", ylim=(0, 1.05))
        ax.legend(frameon=False)
        return ax


def comp_sum_losses(
    logits: Annotated[Any, Data("matrix")],
    y: Annotated[Any, Data("labels")],
    *,
    conditional: Annotated[Any, Data("matrix")] = None,
    y_clean: Annotated[Any, Data("labels")] = None,
    logits_best: Annotated[Any, Data("matrix")] = None,
    tau: float = 1.0,
    noise: float | None = None,
    floor: float = 1e-3,
    delta: float = 0.05,
    transform: Literal["paper", "sharp"] = "paper",
    distinct: bool = True,
    weight: None = None,
    label_smoothing: float = 0.0,
) -> CompSumResult:
    """Bound how much worse than the best classifier a model's predictions are, from its loss on new rows.

    Train with :class:`whp.losses.CompSumLoss`; any other model's logits will do as well. The rows must not have trained it.

    Parameters
    ----------
    logits : array-like, shape (n, C)
        A column an output of the model.
    y : array-like, shape (n,)
        Observed class of each row, 0 to C − 1.
    conditional : array-like, shape (n, C), optional
        True probabilities of the classes, where they are known (simulations, several annotators, a teacher).
    y_clean : array-like, shape (n,), optional
        Classes before the noise; with them the excess error is measured, and `noise` is checked.
    logits_best : array-like, shape (n, C), optional
        Those of the best model of the same class that you found: its excess risk bounds the class's minimizability gap.
    tau : float
        The dial of the loss: 0 sum-exponential, 1 cross-entropy, 1 to 2 generalised cross-entropy, 2 mean absolute error.
    noise : float, optional
        Probability with which a certain label was replaced by another, uniformly chosen.
    floor : float
        Share of the uniform distribution that is mixed into softmax, so that the loss is bounded; predictions stay.
    delta : float
        Failure probability of the certificate.
    transform : {"paper", "sharp"}
        The theorem's transformation, or the larger one that exact regrets suggest for 1 < tau < 2; the latter is not proved.
    distinct : bool
        Whether equal rows are copies, which void the certificate; False where inputs are discrete and repeat by themselves.
    weight : None
        The certificate speaks of the plain loss: a weighted one is refused.
    label_smoothing : float
        Must be 0, for the same reason.

    Returns
    -------
    CompSumResult

    Raises
    ------
    TypeError, ValueError
        If an argument is not what is accepted; the message names it.
    """
    if weight is not None or label_smoothing:
        raise ValueError(
            "weight and label_smoothing must not be given: the certificate needs unweighted, unsmoothed loss"
        )
    tau, floor, delta = check_tau(tau), as_fraction(floor, "floor"), as_fraction(delta, "delta")
    as_choice(transform, "transform", ("paper", "sharp"))
    if not isinstance(distinct, bool | np.bool_):
        raise TypeError(f"distinct must be True or False, got {distinct!r}")
    z = as_matrix(logits, "logits", dtype=np.float64)
    n, classes = z.shape
    if n < 2 or classes < 2:
        raise ValueError(f"logits must have at least 2 rows and 2 columns, got shape {z.shape}")
    labels = as_labels(y, "y", size=n, classes=classes)
    clean = None if y_clean is None else as_labels(y_clean, "y_clean", size=n, classes=classes)
    if conditional is not None:
        if noise is not None:
            raise ValueError("noise must not be given beside conditional, which says it already")
        conditional = _probabilities(conditional, z.shape)
    elif noise is not None:
        noise = as_real(noise, "noise", low=0, high=1)
        if noise >= (classes - 1) / classes:
            raise ValueError(
                f"noise must be below {(classes - 1) / classes:.4g}, where labels say nothing, got {noise:g}"
            )
    sample = Sample(z, labels, conditional, noise, clean, floor)
    values = sample.bounds(tau, delta, transform)
    table = pd.DataFrame([{"tau": t, **sample.bounds(t, delta, transform)} for t in DIALS])
    known = guarantee.assumptions(
        sample, distinct=bool(distinct), excess_limit=values["excess_limit"]
    )
    certificates = [guarantee.consistency(sample, tau, delta, transform, known, values)]
    if conditional is not None:
        certificates.append(guarantee.pointwise(sample, tau, transform, known))
    gap = None
    if logits_best is not None:
        best = as_matrix(logits_best, "logits_best", dtype=np.float64)
        if best.shape != z.shape:
            raise ValueError(
                f"logits_best must have shape {z.shape} as logits has, got {best.shape}"
            )
        other = Sample(best, labels, conditional, noise, clean, floor)
        most = max(0.0, other.bounds(tau, delta, transform)["excess_limit"])
        found = min(most, max(0.0, float((other.losses(tau) - other.best(tau)).mean())))
        gap = Estimate(found, 0.0, most, 1 - delta, n, "empirical Bernstein, upper end only")
    return CompSumResult(
        tau=tau,
        risk=mean(sample.losses(tau), level=1 - delta),
        best_risk=values["best_risk"],
        excess_risk=max(0.0, values["risk"] - values["best_risk"]),
        gap=gap,
        bound=values["bound"],
        elementary=values["elementary"],
        error=proportion(int((z.argmax(axis=1) != labels).sum()), n, level=1 - delta),
        table=table,
        certificates=tuple(certificates),
    )


def _probabilities(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    P = as_matrix(value, "conditional", dtype=np.float64)
    if P.shape != shape:
        raise ValueError(f"conditional must have shape {shape} as logits has, got {P.shape}")
    if (P < 0).any():
        raise ValueError(f"conditional must hold probabilities, got {P.min():g}")
    off = np.abs(P.sum(axis=1) - 1)
    if off.max() > SUM_TOLERANCE:
        raise ValueError(
            f"conditional must have rows that sum to 1 ± 1e-6, row {int(off.argmax())} is off by {off.max():.3g}"
        )
    return P
