"""What :func:`pac_invariance` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.result import PALETTE, Result
from whp.validate import as_frame, as_matrix, as_real, column_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["InvarianceResult"]

BINDS = 1e-6
APART = 0.2  # of the picture, between dots that get a name


@dataclass(frozen=True, eq=False)
class InvarianceResult(Result):
    """A subset of the columns and the linear head that serves all environments best.

    Attributes
    ----------
    support : tuple of int
        Columns chosen; none where no subset is within `eps`.
    names : tuple of str
        Their names.
    coef : ndarray, shape (len(support),)
        The head.
    intercept : float
        Mean of the fitted environments' own constants; with ``center=False`` the common one.
    intercept_spread : float
        Standard deviation of those constants, in the target's unit.
    intercept_spread_in_sd : float
        The same in standard deviations of the target.
    epsilon : float
        Largest residual of the fitted environments.
    trivial_epsilon : float
        The same of saying nothing.
    eta : float
        Probability with which a new environment may exceed epsilon.
    r2 : float
        Mean over fitted environments of the share of variance that the head explains.
    heterogeneity_p : float
        p-value of the test that all environments have one best head.
    residuals, held_out_residuals : Series
        Of each fitted, and each held-out, environment, by its label.
    binding : tuple
        Labels of the environments whose residual is the largest.
    path : DataFrame
        A row a subset tried: columns, epsilon, eta, R², whether it was admissible.
    certificates : tuple of Certificate
    message : str
        What was left out, and what to know before the head is used.
    """

    support: tuple[int, ...]
    names: tuple[str, ...]
    coef: np.ndarray
    intercept: float
    intercept_spread: float
    intercept_spread_in_sd: float
    epsilon: float
    trivial_epsilon: float
    eta: float
    r2: float
    heterogeneity_p: float
    residuals: pd.Series
    held_out_residuals: pd.Series
    binding: tuple[Any, ...]
    path: pd.DataFrame
    certificates: tuple[Certificate, ...]
    message: str = ""
    columns: int = field(default=0, repr=False)
    features: tuple[str, ...] = field(default=(), repr=False)
    figure_size: ClassVar[tuple[float, float]] = (6.4, 4.2)

    def predict(self, X: Any, constant: float | None = None) -> np.ndarray:
        """The head's prediction.

        Parameters
        ----------
        X : array_like, shape (n, p)
            All columns of the table that was fitted, in their order.
        constant : float, optional
            Intercept of the environment at hand, where it is known; by default the mean one, which may
            be off by several of `intercept_spread`.
        """
        X = as_frame(X)
        names = column_names(X)
        if names is not None and names != self.features and set(names) == set(self.features):
            raise ValueError(
                f"X has the columns in another order than fitted; pass X[{list(self.features)}]"
            )
        array = as_matrix(X, "X", dtype=np.float64)
        if array.shape[1] != self.columns:
            raise ValueError(f"X must have {self.columns} columns as fitted, got {array.shape[1]}")
        if constant is not None:
            constant = as_real(constant, "constant")
        at = self.intercept if constant is None else constant
        return array[:, list(self.support)] @ self.coef + at

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The subset, its numbers, and what to know before the head is used."""
        made: dict[str, bool | int | float | str | None] = {
            "columns": ", ".join(self.names) or "none",
            "epsilon": self.epsilon,
            "epsilon_of_saying_nothing": self.trivial_epsilon,
            "new_environments_above_at_most": self.eta,
            "variance_explained": self.r2,
            "environments_fitted": len(self.residuals),
            "environments_held_out": len(self.held_out_residuals),
            "held_out_above_epsilon": int((self.held_out_residuals > self.epsilon).sum()),
            "binding_environments": ", ".join(map(str, self.binding[:8])),
            "intercept_spread_in_sd_of_the_target": self.intercept_spread_in_sd,
            "heterogeneity_p": self.heterogeneity_p,
            "subsets_tried": len(self.path),
        }
        return made | ({"message": self.message} if self.message else {})

    def artifacts(self) -> dict[str, Any]:
        """The head, all subsets, residuals."""
        head = pd.DataFrame(
            {"column": [*self.names, "intercept"], "coefficient": [*self.coef, self.intercept]}
        )
        both = [(self.residuals, False), (self.held_out_residuals, True)]
        table = pd.concat(
            [
                pd.DataFrame(
                    {"environment": r.index.astype(str), "residual": r.to_numpy(), "held_out": h}
                )
                for r, h in both
            ],
            ignore_index=True,
        )
        return {"head.csv": head, "subsets.csv": self.path, "environments.csv": table}

    def draw(self, ax: Axes) -> None:
        """Epsilon against variance explained, a dot a subset; those that no other beats in both are named."""
        path = self.path[self.path["r2"] >= self.path["r2"].max() / 2]
        path = self.path if self.path["r2"].max() <= 0 else path
        hidden = len(self.path) - len(path)
        good = path["admissible"].to_numpy(bool)
        x, y = path["epsilon"].to_numpy(), path["r2"].to_numpy()
        ax.scatter(x[good], y[good], s=16, color=PALETTE["quiet"])
        ax.scatter(x[~good], y[~good], s=16, facecolors="none", edgecolors=PALETTE["quiet"])
        order = np.argsort(x, kind="stable")
        front = [i for k, i in enumerate(order) if k == 0 or y[i] > y[order[:k]].max()]
        ax.plot(x[front], y[front], color=PALETTE["quiet"], linewidth=0.8, drawstyle="steps-post")
        mine = (path["subset"] == ", ".join(self.names)).to_numpy(bool)
        ax.scatter(x[mine], y[mine], s=50, color=PALETTE["ours"], zorder=3)
        low, high = float(x.min()), float(x.max())
        apart = APART * max(high - low, 1e-300), APART * max(float(np.ptp(y)), 1e-300)
        named = [int(i) for i in np.flatnonzero(mine)]
        for i in front:  # names that would lie on each other are left out
            if all(abs(x[i] - x[j]) > apart[0] or abs(y[i] - y[j]) > apart[1] for j in named):
                named.append(int(i))
        for i in named:
            right = x[i] > (low + high) / 2
            ax.annotate(
                path["subset"].iloc[i],
                (x[i], y[i]),
                textcoords="offset points",
                xytext=(-6 if right else 6, -14),
                ha="right" if right else "left",
                fontsize=8,
                color=PALETTE["ours"] if mine[i] else PALETTE["quiet"],
            )
        ax.margins(x=0.15, y=0.2)
        told = f" ({hidden} weaker subsets not shown)" if hidden else ""
        ax.set(xlabel=f"epsilon{told}", ylabel="variance explained")
