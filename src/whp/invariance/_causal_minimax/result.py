"""What comes out: the subset, its predictor, the worst case and who plays it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.invariance._causal_minimax.coding import Coding
from whp.invariance._causal_minimax.graph import GraphCondition
from whp.invariance._causal_minimax.tabular import CellMeans
from whp.result import PALETTE, Result
from whp.text import nearest
from whp.validate import as_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MinimaxResult", "Predictor", "wanted_columns"]


def wanted_columns(data: Any, names: tuple[str, ...]) -> pd.DataFrame:
    """The columns of a table that are asked for, none with a gap."""
    table = as_frame(data)
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"data must be a data frame, got {type(table).__name__}")
    table = table.set_axis([str(c) for c in table.columns], axis=1)
    for name in names:
        if name not in table:
            raise ValueError(f"data has no column {name!r}{nearest(name, table.columns)}")
        if missing := int(table[name].isna().sum()):
            some = "a missing value" if missing == 1 else f"{missing:,} missing values"
            raise ValueError(
                f"column {name!r} has {some}; a missing value can be a category of its own: fill it"
            )
    return table[list(names)]


@dataclass(frozen=True, eq=False)
class Predictor:
    """E[Y | x of the subset, do(mutable)] as fitted.

    Attributes
    ----------
    subset, mutable : tuple of str
        The columns that it looks at.
    coding : Coding
    means : CellMeans
    low, high : float
        Predictions are clipped to the target's range.
    """

    subset: tuple[str, ...]
    mutable: tuple[str, ...]
    coding: Coding
    means: CellMeans
    low: float
    high: float

    def predict(self, data: Any) -> np.ndarray:
        """A prediction a row; values that were not trained on get the mean of the training rows.

        Raises
        ------
        ValueError
            If a column is missing, has gaps, or holds texts where it held numbers or the other way round.
        """
        names = (*self.subset, *self.mutable)
        table = wanted_columns(data, names)
        columns = {n: self.coding.columns[n] for n in names}
        for name, column in columns.items():
            column.check(table[name])
        codes = Coding(columns).codes(table)
        return np.clip(self.means(codes), self.low, self.high)


@dataclass(frozen=True, eq=False)
class MinimaxResult(Result):
    """The predictor with the smallest worst case over all changes of the mutable mechanisms.

    Attributes
    ----------
    subset : tuple of str
        Stable variables that it uses beside the mutable ones.
    worst_risk : float
        Worst mean squared error on half B: an estimate that is below the truth half of the time, no
        bound; for several mutable variables what adversaries reach who each see their own parents.
    upper_risk : float
        What one reaches who sees more; equal for one mutable variable.
    upper_limit : float
        U: no environment of the claim is worse, with probability 1 − δ; infinite where none is derived.
    erm_worst_risk : float
        Worst case of plain means of the same columns.
    adversary : dict of str to DataFrame
        The worst mechanism of each mutable variable: its value by the values of its parents.
    table : DataFrame
        A class of subsets a row: smallest member, members, training risk, worst case, limit, ERM's.
    graph_condition : GraphCondition
    stable, mutable : tuple of str
    predictor : object
        Has ``predict(data)``.
    certificates : tuple of Certificate
    method : str
        ``"tabular"`` or ``"regression"``.
    rows : tuple of int
        Of halves A and B, and held out.
    predictors : tuple
        Those of all classes, in the order of `table`, as half A fitted them.
    cells : DataFrame
        Tabular: each pair of parents and value of the mutable variable with its rows in both halves,
        and whether the adversary of the limit may use it; empty for pairs beyond 10,000.
    notes : tuple of str
        What was done to the input.
    """

    subset: tuple[str, ...]
    worst_risk: float
    upper_risk: float
    upper_limit: float
    erm_worst_risk: float
    adversary: dict[str, pd.DataFrame] = field(repr=False)
    table: pd.DataFrame = field(repr=False)
    graph_condition: GraphCondition = field(repr=False)
    stable: tuple[str, ...]
    mutable: tuple[str, ...]
    predictor: Any = field(repr=False)
    certificates: tuple[Certificate, ...] = field(repr=False)
    method: str = "tabular"
    rows: tuple[int, int, int] = (0, 0, 0)
    predictors: tuple[Any, ...] = field(repr=False, default=())
    cells: pd.DataFrame = field(repr=False, default_factory=pd.DataFrame)
    notes: tuple[str, ...] = field(repr=False, default=())

    def predict(self, data: Any) -> np.ndarray:
        """Predictions of the target for the rows of a table."""
        return self.predictor.predict(data)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """The choice, its worst case and the limit; what was read in another way at the end."""
        chosen = self.table.iloc[int(self.table["chosen"].to_numpy().argmax())]
        made: dict[str, bool | int | float | str | None] = {
            "subset": ", ".join(self.subset) or "none",
            "mutable": ", ".join(self.mutable) or "none",
            "worst_risk": self.worst_risk,
            "at_most": None if np.isinf(self.upper_limit) else self.upper_limit,
            "risk_in_training": float(chosen["training_risk"]),
            "worst_risk_of_ERM": self.erm_worst_risk,
            "classes": len(self.table),
            "whole_set_is_best_by_the_graph": self.graph_condition.holds,
            "method": self.method,
            "rows_A_B_held_out": ", ".join(f"{n:,}" for n in self.rows),
        }
        if self.upper_risk > self.worst_risk:
            made["value_of_an_adversary_who_sees_more"] = self.upper_risk
        for name, choice in self.adversary.items():
            made[f"worst_{name}"] = _told(choice, name)
        if self.notes:
            made["input"] = "; ".join(self.notes)
        return made

    def artifacts(self) -> Mapping[str, Any]:
        """Classes, and the worst mechanisms."""
        tables = {f"worst-{i}.csv": t for i, t in enumerate(self.adversary.values(), 1)}
        cells = {"cells.csv": self.cells} if len(self.cells) else {}
        return {"classes.csv": self.table, **tables, **cells}

    def draw(self, ax: Axes) -> None:
        """Worst case of each class by its size, ours and ERM's, with the limit of the chosen one."""
        x = self.table["size"].to_numpy(float)
        limits = self.table["upper_limit"].to_numpy(float)
        finite = np.isfinite(limits)
        ax.vlines(
            x[finite],
            self.table["worst_risk"].to_numpy(float)[finite],
            limits[finite],
            color=PALETTE["quiet"],
            linewidth=1,
            label="up to the limit U",
        )
        ax.plot(
            x,
            self.table["erm_worst_risk"],
            "s",
            color=PALETTE["other"],
            label="ERM, worst case",
            alpha=0.8,
        )
        ax.plot(
            x,
            self.table["worst_risk"],
            "o",
            color=PALETTE["ours"],
            label="set, not observed: worst case",
        )
        ax.plot(x, self.table["training_risk"], ".", color=PALETTE["third"], label="as sampled")
        best = self.table[self.table["chosen"]]
        ax.plot(
            best["size"],
            best["worst_risk"],
            "o",
            mfc="none",
            ms=13,
            color=PALETTE["truth"],
            label="chosen",
        )
        ax.set_xticks(sorted(set(x.astype(int))))
        ax.margins(0.15)
        top = float(
            np.nanmax([self.table["erm_worst_risk"].max(), limits[finite].max(initial=0.0)])
        )
        ax.set(
            xlabel="stable variables in the subset",
            ylabel="mean squared error",
            ylim=(0, 1.5 * top or 1.0),
        )
        ax.legend(frameon=False, fontsize="small", ncols=2, loc="upper right")


def _told(choice: pd.DataFrame, name: str) -> str:
    """A mechanism in words; of a large one how large it is."""
    if len(choice) > 8 or choice.shape[1] > 3:
        return f"a function of {', '.join(choice.columns[:-1])}, {len(choice)} cells"
    parts = []
    for row in choice.to_dict("records"):
        value = row.pop(name)
        given = ", ".join(f"{k} = {v}" for k, v in row.items())
        parts.append(f"{value} where {given}" if given else f"{value}")
    return "; ".join(parts)
