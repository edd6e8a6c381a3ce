"""The front door: a whole stream with its groups, the predictions, and the regret of every group beside its bound."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.intervals import Estimate, exact
from whp.io import Data
from whp.online.groupwise_regret.groups import features, members
from whp.online.groupwise_regret.guarantee import (
    PAPER,
    assumptions,
    azuma,
    group_certificate,
    rounding,
)
from whp.online.groupwise_regret.hedge import meta_bound
from whp.online.groupwise_regret.ridge import (
    AVERAGE,
    EXECUTED,
    GLOBAL,
    LOGDET,
    LOSS,
    MIXTURE,
    OWN,
    ROUNDS,
    SQUARES,
    SUMS,
    as_range,
    hindsight,
    learn_block,
)
from whp.result import Result
from whp.validate import as_choice, as_fraction, as_real, as_vector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Forecaster", "GroupwiseRegretResult", "groupwise_regret"]

EMPTY = np.zeros((0, 0))
LARGEST = 1e30  # squares of squares still fit
CLAIM = {
    "mean": "loss of the group's rows ≤ that of its best linear predictor in hindsight with penalty, plus √(3C(ln 1/q + ln B)) for "
    "the mixture and the executed bound E of its own learner"
}
CLAIM["sample"] = CLAIM["mean"] + ", plus √(½ T ln(N/δ)) for the coins"


class Forecaster:
    """State of the whole reduction with one online ridge a group: what front door and estimator share."""

    def __init__(
        self,
        dim: int,
        names: Sequence[str],
        *,
        lam: float = 1.0,
        forecaster: str = "ridge",
        prediction: str = "mean",
        loss_range: Any = None,
        prior: Any = None,
        delta: float = 0.05,
    ) -> None:
        as_choice(forecaster, "forecaster", ("ridge", "vaw"))
        as_choice(prediction, "prediction", ("mean", "sample"))
        self.lam = as_real(lam, "lam", low=0, high=math.inf, open_ends=True)
        low, high = (0.0, 1.0) if loss_range is None else as_range(loss_range, "loss_range")
        self.names, self.forecaster, self.prediction, self.width = (
            tuple(names),
            forecaster,
            prediction,
            high - low,
        )
        if low != 0:
            raise ValueError(f"loss_range must begin at 0 for squared errors, got {low:g}")
        self.delta = as_fraction(delta, "delta")
        N = len(self.names)
        self.prior = (
            np.full(N, 1 / N)
            if prior is None
            else as_vector(prior, "prior", size=N, dtype=np.float64)
        )
        if (self.prior <= 0).any() or abs(self.prior.sum() - 1) > 1e-9:
            raise ValueError(
                f"prior must be positive and sum to 1, got a sum of {self.prior.sum():g}"
            )
        self.gram = np.tile(self.lam * np.eye(dim), (N + 1, 1, 1))
        self.inverse = np.tile(np.eye(dim) / self.lam, (N + 1, 1, 1))
        self.s, self.R, self.C = np.zeros((N + 1, dim)), np.zeros(N), np.zeros(N)
        self.budget, self.sums, self.asleep = np.array([1.0, 0.0, 0.0]), np.zeros((N + 1, SUMS)), 0

    def learn(
        self,
        X: np.ndarray,
        y: np.ndarray,
        active: np.ndarray,
        coins: np.ndarray,
        weights: np.ndarray = EMPTY,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Predict, then learn, row by row; predictions and losses, targets and predictions in [0, 1]."""
        if np.abs(X).max() > LARGEST:
            raise ValueError(
                f"X must have entries of at most {LARGEST:g}, got {np.abs(X).max():g}; scale its columns"
            )
        predictions, losses = np.empty(len(X)), np.empty(len(X))
        learn_block(
            np.ascontiguousarray(X),
            y,
            np.ascontiguousarray(active),
            coins,
            self.forecaster == "vaw",
            self.prediction == "sample",
            1 / self.width,
            self.gram,
            self.inverse,
            self.s,
            self.R,
            self.C,
            self.budget,
            self.prior,
            self.sums,
            predictions,
            losses,
            weights,
        )
        self.asleep += int((~active.any(axis=1)).sum())
        return predictions, losses

    def predict(self, X: np.ndarray, active: np.ndarray) -> np.ndarray:
        """Mixtures of what the groups' learners say, without learning."""
        from whp.online.groupwise_regret.hedge import hedge_weights

        theta = np.stack(
            [np.linalg.solve(A, s) for A, s in zip(self.gram[:-1], self.s[:-1], strict=True)]
        )
        raw = X @ theta.T
        if self.forecaster == "vaw":
            h = np.einsum("ti,gij,tj->tg", X, self.inverse[:-1], X)
            raw = raw / (1 + h)
        out, p = np.empty(len(X)), np.empty(len(self.names))
        for t, row in enumerate(np.ascontiguousarray(active)):
            hedge_weights(self.R, self.C, self.prior, row, p)
            out[t] = p @ np.clip(raw[t], 0, 1) if row.any() else 0.0
        return out

    def meta(self) -> np.ndarray:
        """Bound on the mixture's regret to each group's learner."""
        return self.width * meta_bound(self.C, self.prior, float(self.budget[0]))

    def report(self) -> pd.DataFrame:
        """A row a group; losses are sums of squared errors, targets in [0, 1]."""
        meta, rows = self.meta(), []
        for g, name in enumerate(self.names):
            total = self.sums[g]
            best, plain = hindsight(self.gram[g], self.s[g], float(total[SQUARES]), self.lam)
            extra = (
                azuma(total[ROUNDS], len(self.names), self.delta)
                if self.prediction == "sample"
                else 0.0
            )
            bound = meta[g] + total[EXECUTED] + extra + rounding(total[ROUNDS])
            rows.append(
                {
                    "group": name,
                    "rounds": int(total[ROUNDS]),
                    "loss": total[LOSS],
                    "mixture": total[MIXTURE],
                    "global": total[GLOBAL],
                    "own": total[OWN],
                    "average": total[AVERAGE],
                    "best": best,
                    "best_plain": plain,
                    "regret": total[LOSS] - best,
                    "global_regret": total[GLOBAL] - best,
                    "bound": bound,
                    "meta_bound": meta[g],
                    "executed": total[EXECUTED],
                    "logdet": total[LOGDET],
                }
            )
        return pd.DataFrame(rows)

    def certificates(self, target_range: str) -> tuple[Certificate, ...]:
        """One a group."""
        sample = self.prediction == "sample"
        checked = assumptions(
            rows=int(self.sums[-1, ROUNDS]),
            asleep=self.asleep,
            worst=float(self.budget[1]),
            largest=float(self.budget[2]),
            target_range=target_range,
            oblivious=sample,
        )
        made = []
        for g, row in enumerate(self.report().itertuples()):
            inputs = {
                "T_g": row.rounds,
                "meta bound": row.meta_bound,
                "E_g": row.executed,
                "ln det form of E_g": row.logdet,
                "R_g": self.width * float(self.R[g]),
                "C_g": float(self.C[g]),
                "B": float(self.budget[0]),
                "best in hindsight, penalised": row.best,
                "the same without penalty": row.best_plain,
                "λ": self.lam,
            }
            measured: Estimate | None = exact(float(row.regret)) if row.rounds else None  # type: ignore[arg-type]
            # Without a round nothing is promised and nothing is trivial.
            trivial = float(row.rounds - row.best) if row.rounds else None  # type: ignore[operator]
            made.append(
                group_certificate(
                    str(row.group),
                    float(row.bound),
                    measured,
                    math.inf if trivial is None else trivial,  # type: ignore[arg-type]
                    1 - self.delta if sample else 1.0,
                    checked,
                    inputs,
                    claim=CLAIM[self.prediction],
                    source=f"{PAPER}, main theorem with {'ridge' if self.forecaster == 'ridge' else 'VAW'} learners",
                )
            )
        return tuple(made)


@dataclass(frozen=True, eq=False)
class GroupwiseRegretResult(Result):
    """One pass over a stream.

    Attributes
    ----------
    predictions, losses : ndarray, shape (T,)
        In units of the target, and squared errors of the target scaled to [0, 1].
    report : DataFrame
        A row a group: rounds; squared error of ours, of the mixture, of one global model, of the group's own learner, of the
        plain average of learners, of the best linear predictor in hindsight; regret, its bound and its verdict;
        ``global_wins`` where one global model did better, which no bound forbids.
    weights : ndarray, shape (T, N), or None
        Of the groups' learners, where they were tracked.
    certificates : tuple of Certificate
        One a group.
    """

    predictions: np.ndarray
    losses: np.ndarray
    report: pd.DataFrame
    certificates: tuple[Certificate, ...]
    weights: np.ndarray | None = field(repr=False, default=None)
    scaled: str = ""
    curves: Mapping[str, Any] = field(repr=False, default_factory=dict)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Totals, and how many groups fared better than under one global model."""
        everyone = self.report.iloc[self.report["rounds"].argmax()]
        found: dict[str, bool | int | float | str | None] = {
            "rounds": len(self.losses),
            "groups": len(self.report),
            "squared_error": float(self.losses.sum()),
            "of_one_global_model": float(everyone["global"]),
            "groups_better_than_under_it": int((~self.report["global_wins"]).sum()),
            "largest_share_of_a_bound": float((self.report["regret"] / self.report["bound"]).max()),
        }
        return found | ({"scaled_by_the_data": self.scaled} if self.scaled else {})

    def artifacts(self) -> dict[str, Any]:
        """Predictions, and the report."""
        table = pd.DataFrame({"prediction": self.predictions, "loss": self.losses})
        return {"predictions.csv": table, "groups.csv": self.report}

    def plot(self, ax: Axes | None = None) -> Axes:
        """Regret of the largest groups over their own time; of one global model dashed."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        for name, (time, ours, theirs) in self.curves.items():
            (line,) = ax.plot(time, ours, label=name)
            ax.plot(time, theirs, "--", color=line.get_color(), linewidth=0.8)
        ax.axhline(0, color="0.6", linewidth=0.8)
        ax.set(
            xlabel="rounds of the group",
            ylabel="regret against its best linear model; one global model dashed",
        )
        ax.legend(frameon=False, fontsize="small")
        return ax


def groupwise_regret(
    X: Annotated[Any, Data("features")],
    y: Annotated[Any, Data("labels", "target")],
    groups: str | Sequence[Any] | Mapping[str, Any] | np.ndarray | pd.DataFrame | None = None,
    *,
    group_names: Sequence[str] | None = None,
    lam: float = 1.0,
    forecaster: Literal["ridge", "vaw"] = "ridge",
    prediction: Literal["mean", "sample"] = "mean",
    target_range: tuple[float, float] | None = None,
    loss_range: tuple[float, float] | None = None,
    order: Literal["given", "shuffle"] = "given",
    track: bool = False,
    rng: np.random.Generator | int | None = None,
) -> GroupwiseRegretResult:
    """Predict a stream nearly as well, on every group, as the best linear model of that group in hindsight.

    Parameters
    ----------
    X : array_like or data frame, shape (T, d)
        Rows in the order in which they arrive. Of a table, text becomes dummies, numbers are scaled to [0, 1], a 1 is appended.
    y : array_like, shape (T,)
        Targets: numbers, or two classes.
    groups : str, sequence, mapping, or array_like of shape (T, N), optional
        Columns of the table, ``"sex,race,age:35:50"``, a number with the edges between its groups; from Python also 0/1 flags,
        a data frame of them, or predicates ``{"name": function of X}``. They may overlap; everyone is a group of its own.
    group_names : sequence of str, optional
        Names of the columns of a matrix.
    lam : float
        λ of the ridge penalty, for learners and for the best model in hindsight.
    forecaster : {"ridge", "vaw"}
        Learner of each group; Vovk-Azoury-Warmuth shrinks towards zero, and is seldom better.
    prediction : {"mean", "sample"}
        The mixture of the groups' predictions, or that of a group drawn from the weights as in the paper.
    target_range : (float, float), optional
        Range of the targets, from public knowledge; read from the data by default, which the summary says.
    loss_range : (float, float), optional
        Range (0, b) of squared errors after scaling, (0, 1) by default. A smaller b learns weights faster; a loss above makes the
        certificates void.
    order : {"given", "shuffle"}
        Whether the rows are taken as they are or in random order.
    track : bool
        Whether to keep the weights of every round.
    rng : numpy.random.Generator, int or None
        Of the random order and of the sampled groups.

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
    as_choice(order, "order", ("given", "shuffle"))
    if X is None:
        raise TypeError("X must be an array of numbers or a table, got None")
    rows, _, scaled = features(X)
    target, span, told = _targets(y, len(rows), target_range)
    active, names = members(groups, X, group_names)
    random = np.random.default_rng(rng)
    if order == "shuffle":
        chosen = random.permutation(len(rows))
        rows, target, active = rows[chosen], target[chosen], active[chosen]
    state = Forecaster(
        rows.shape[1],
        names,
        lam=lam,
        forecaster=forecaster,
        prediction=prediction,
        loss_range=loss_range,
    )
    weights = np.zeros((len(rows), len(names))) if track else EMPTY
    coins = random.random(len(rows)) if prediction == "sample" else np.zeros(len(rows))
    predictions, losses = state.learn(rows, target, active, coins, weights)
    certificates = state.certificates(f"[{span[0]:g}, {span[1]:g}], {told}")
    report = state.report()
    report["verdict"] = [str(c.verdict) for c in certificates]
    report["global_wins"] = report["global"] < report["loss"]
    by_data = [w for w, used in (("features", scaled), ("targets", target_range is None)) if used]
    return GroupwiseRegretResult(
        predictions=span[0] + (span[1] - span[0]) * predictions,
        losses=losses,
        report=report,
        certificates=certificates,
        weights=weights if track else None,
        scaled=" and ".join(by_data),
        curves=_curves(state, rows, target, active, losses, names),
    )


def _targets(y: Any, T: int, target_range: Any) -> tuple[np.ndarray, tuple[float, float], str]:
    """Targets scaled to [0, 1], their range, and where that comes from."""
    if y is None:
        raise TypeError("y must be an array of numbers or of two labels, got None")
    values = np.asarray(y)
    if (
        values.dtype.kind in "OUS"
        and values.ndim == 1
        and all(isinstance(v, str) for v in values.tolist())
    ):
        classes = np.unique(values.astype(str))
        if len(classes) != 2:
            raise ValueError(f"y must be numbers or two labels, got {len(classes)} labels")
        values = (values.astype(str) == classes[1]).astype(np.float64)
    values = as_vector(values, "y", size=T, dtype=np.float64)
    if target_range is None:
        low, high = float(values.min()), float(values.max())
        told = "read from the data"
        if low == high:
            high = low + max(1.0, abs(low))
        if not np.isfinite(high - low):
            raise ValueError(f"y must span a finite range, got {low:g} to {high:g}")
    else:
        low, high = as_range(target_range, "target_range")
        told = "given"
    outside = np.flatnonzero((values < low) | (values > high))
    if len(outside):
        raise ValueError(
            f"y must lie in target_range [{low:g}, {high:g}], row {outside[0]} has {values[outside[0]]:g}"
        )
    return (values - low) / (high - low), (low, high), told


def _curves(
    state: Forecaster,
    rows: np.ndarray,
    target: np.ndarray,
    active: np.ndarray,
    losses: np.ndarray,
    names: Sequence[str],
) -> dict[str, Any]:
    """Running regret of the six largest groups, ours and that of the global model."""
    largest = np.argsort(-active.sum(axis=0), kind="stable")[:6]
    theirs = np.empty(len(rows))
    alone = Forecaster(rows.shape[1], ["everyone"], lam=state.lam, forecaster=state.forecaster)
    _, theirs = alone.learn(rows, target, np.ones((len(rows), 1), dtype=bool), np.zeros(len(rows)))
    found: dict[str, Any] = {}
    for g in largest:
        own = np.flatnonzero(active[:, g])
        if not len(own):
            continue
        theta = np.linalg.solve(state.gram[g], state.s[g])
        best = (rows[own] @ theta - target[own]) ** 2
        kept = np.unique(np.linspace(0, len(own) - 1, min(len(own), 500)).astype(int))
        ours, other = np.cumsum(losses[own] - best)[kept], np.cumsum(theirs[own] - best)[kept]
        found[str(names[g])] = (kept + 1, ours, other)
    return found
