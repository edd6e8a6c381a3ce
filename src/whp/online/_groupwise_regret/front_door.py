"""The front door: a whole stream with its groups in, predictions and every group's regret out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.door import Above, Fraction, front_door
from whp.io import Data
from whp.online._groupwise_regret import theorems as th
from whp.online._groupwise_regret.forecaster import EMPTY, Forecaster
from whp.online._groupwise_regret.groups import features, members
from whp.online._groupwise_regret.ridge import as_range, range_of
from whp.result import Result
from whp.validate import as_vector, same_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["GroupwiseRegretResult", "groupwise_regret"]


@dataclass(frozen=True, eq=False)
class GroupwiseRegretResult(Result):
    """One pass over a stream.

    Attributes
    ----------
    predictions, losses : ndarray, shape (T,)
        In units of the target, and squared errors of the target scaled to [0, 1]; in the order in
        which rows were taken.
    rows : ndarray, shape (T,), int
        Where each of them stood in the data, from 0.
    report : DataFrame
        A row a group: rounds; squared error of ours, of the mixture, of one global model, of the
        group's own learner, of the plain average of learners, of the best linear predictor in
        hindsight; regret, its bound and its verdict; ``global_wins`` where one global model did
        better, which no bound forbids; root mean squared errors of ours and of the global model in
        the unit of the target.
    weights : ndarray, shape (T, N), or None
        Of the groups' learners, where they were tracked.
    certificates : tuple of Certificate
        One a group.
    """

    predictions: np.ndarray
    losses: np.ndarray
    rows: np.ndarray = field(repr=False)
    report: pd.DataFrame
    certificates: tuple[Certificate, ...]
    weights: np.ndarray | None = field(repr=False, default=None)
    scaled: str = ""
    curves: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Totals, and how many groups fared better than under one global model."""
        everyone = self.report.iloc[self.report["rounds"].argmax()]
        better = self.report["loss"] < self.report["global"]
        made: dict[str, bool | int | float | str | None] = {
            "rounds": len(self.losses),
            "groups": len(self.report),
            "squared_error": float(self.losses.sum()),
            "of_one_global_model": float(everyone["global"]),
            "groups_better_than_under_it": int(better.sum()),
            "largest_share_of_a_bound": float((self.report["regret"] / self.report["bound"]).max()),
        }
        return made | ({"scaled_by_the_data": self.scaled} if self.scaled else {})

    def artifacts(self) -> dict[str, Any]:
        """Predictions, and the report."""
        table = pd.DataFrame(
            {"row": self.rows, "prediction": self.predictions, "loss": self.losses}
        )
        return {"predictions.csv": table, "groups.csv": self.report}

    def draw(self, ax: Axes) -> None:
        """Regret of the largest groups over their own time; of one global model dashed."""
        for name, (time, ours, theirs) in self.curves.items():
            (line,) = ax.plot(time, ours, label=name)
            ax.plot(time, theirs, "--", color=line.get_color(), linewidth=0.8)
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(
            xlabel="rounds of the group",
            ylabel="regret against its best linear model; one global model dashed",
        )
        ax.legend(frameon=False, fontsize="small")


@front_door
def groupwise_regret(
    X: Annotated[Any, Data("features")],
    y: Annotated[Any, Data("labels", "target")],
    groups: str | Sequence[Any] | Mapping[str, Any] | np.ndarray | pd.DataFrame | None = None,
    *,
    group_names: Sequence[str] | None = None,
    lam: Annotated[float, Above(0)] = 1.0,
    forecaster: Literal["ridge", "vaw"] = "ridge",
    prediction: Literal["mean", "sample"] = "mean",
    target_range: tuple[float, float] | None = None,
    loss_range: tuple[float, float] | None = None,
    order: Literal["given", "shuffle"] = "given",
    delta: Annotated[float, Fraction()] = 0.05,
    track: bool = False,
    rng: np.random.Generator | int | None = None,
) -> GroupwiseRegretResult:
    """Predict a stream nearly as well, on every group, as that group's best linear model in hindsight.

    Parameters
    ----------
    X : array_like or data frame, shape (T, d)
        Rows in the order in which they arrive. Of a table, text becomes dummies, numbers are scaled
        to [0, 1], a 1 is appended.
    y : array_like, shape (T,)
        Targets: numbers, or two classes.
    groups : str, sequence, mapping, or array_like of shape (T, N), optional
        Columns of the table, ``"sex,race,age:35:50"``, a number with the edges between its groups;
        from Python also 0/1 flags, a data frame of them, or predicates ``{"name": function of X}``.
        They may overlap; everyone is a group of its own.
    group_names : sequence of str, optional
        Names of the columns of a matrix.
    lam : float
        λ of the ridge penalty, for learners and for the best model in hindsight.
    forecaster : {"ridge", "vaw"}
        Learner of each group; Vovk-Azoury-Warmuth shrinks towards zero, and is seldom better.
    prediction : {"mean", "sample"}
        The mixture of the groups' predictions, or that of a group drawn from the weights, as in the
        paper.
    target_range : (float, float), optional
        Range of the targets, known before the stream; read from the data by default, which the
        summary says.
    loss_range : (float, float), optional
        Range (0, b) of squared errors after scaling, (0, 1) by default. A smaller b learns weights
        faster; a loss above makes the certificates void.
    order : {"given", "shuffle"}
        Whether the rows are taken as they are or in random order.
    delta : float
        Probability with which coins of ``prediction="sample"`` may break a bound of any group.
    track : bool
        Whether to keep the weights of every round.
    rng : numpy.random.Generator, int or None
        Source of randomness of the order and of the sampled groups.

    Returns
    -------
    GroupwiseRegretResult

    Raises
    ------
    TypeError, ValueError
        If data do not fit together or an option is out of range; the message names the argument.

    References
    ----------
    Acharya, Arunachaleswaran, Kannan, Roth, Ziani (ICLR 2024), arXiv 2310.04652.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((500, 3))
    >>> G = np.column_stack([X[:, 0] > 0.5, X[:, 1] > 0.3])
    >>> result = groupwise_regret(X, np.where(G[:, 0], X[:, 1], X[:, 2]), G, target_range=(0, 1))
    >>> bool((result.report["regret"] <= result.report["bound"]).all())
    True
    """
    same_order(X=X, y=y, groups=groups)
    if X is None:
        raise TypeError("X must be an array of numbers or a table, got None")
    rows, _, scaled = features(X)
    target, span, source = _targets(y, len(rows), target_range)
    active, names = members(groups, X, group_names)
    random = np.random.default_rng(rng)
    taken = random.permutation(len(rows)) if order == "shuffle" else np.arange(len(rows))
    rows, target, active = rows[taken], target[taken], active[taken]
    state = Forecaster(
        rows.shape[1],
        names,
        lam=lam,
        forecaster=forecaster,
        prediction=prediction,
        loss_range=loss_range,
        delta=delta,
    )
    weights = np.zeros((len(rows), len(names))) if track else EMPTY
    coins = random.random(len(rows)) if prediction == "sample" else np.zeros(len(rows))
    predictions, losses, alone = state.learn(rows, target, active, coins, weights)
    in_time = th.LABELS_IN_TIME.by_construction("one call predicted and learnt row by row")
    certificates = state.certificates(span, source, in_time)
    report = state.report()
    report["verdict"] = [str(c.verdict) for c in certificates]
    report["global_wins"] = report["global"] < report["loss"]
    size = report["rounds"].clip(lower=1)
    for name in ("loss", "global"):
        report[f"rmse_{name}"] = (span[1] - span[0]) * np.sqrt(report[name] / size)
    by_data = [w for w, used in (("features", scaled), ("targets", target_range is None)) if used]
    return GroupwiseRegretResult(
        predictions=span[0] + (span[1] - span[0]) * predictions,
        losses=losses,
        rows=taken,
        report=report,
        certificates=certificates,
        weights=weights if track else None,
        scaled=" and ".join(by_data),
        curves=_curves(state, rows, target, active, losses, alone, names),
    )


def _targets(y: Any, T: int, target_range: Any) -> tuple[np.ndarray, tuple[float, float], str]:
    """Targets scaled to [0, 1], their range, and where that comes from."""
    if y is None:
        raise TypeError("y must be an array of numbers or of two labels, got None")
    values = np.asanyarray(y)  # masks are kept, to be refused
    if values.ndim == 1 and all(isinstance(v, str) for v in values.tolist()):
        words = values.astype(str)
        try:
            values = words.astype(np.float64)  # numbers read as text
        except ValueError:
            values = _labels(words)
    values = as_vector(values, "y", size=T, dtype=np.float64)
    if target_range is None:
        low, high = range_of(values, "y")
        source = "read from the data"
    else:
        low, high = as_range(target_range, "target_range")
        source = "given"
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        raise ValueError(
            f"y must lie in target_range [{low:g}, {high:g}], row {outside[0]} has "
            f"{values[outside[0]]:g}"
        )
    return (values - low) / (high - low), (low, high), source


def _labels(words: np.ndarray) -> np.ndarray:
    """Whether each is the second of two labels."""
    if len(empty := np.flatnonzero(words == "")):
        raise ValueError(f"y must have no missing labels, row {empty[0]} has none")
    classes = np.unique(words)
    if len(classes) != 2:
        raise ValueError(f"y must be numbers or two labels, got {len(classes)} labels")
    return (words == classes[1]).astype(np.float64)


def _curves(
    state: Forecaster,
    rows: np.ndarray,
    target: np.ndarray,
    active: np.ndarray,
    losses: np.ndarray,
    theirs: np.ndarray,
    names: Sequence[str],
) -> dict[str, Any]:
    """Running regret of the six largest groups, ours and that of the global model."""
    largest = np.argsort(-active.sum(axis=0), kind="stable")[:6]
    curves: dict[str, Any] = {}
    for g in largest:
        own = np.flatnonzero(active[:, g])
        if not len(own):
            continue
        best = (rows[own] @ state.theta[g] - target[own]) ** 2
        kept = np.unique(np.linspace(0, len(own) - 1, min(len(own), 500)).astype(int))
        ours, other = np.cumsum(losses[own] - best)[kept], np.cumsum(theirs[own] - best)[kept]
        curves[str(names[g])] = (kept + 1, ours, other)
    return curves
