"""What the front door returns: rows with weights, and the regression on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse

from whp.certificate import Certificate
from whp.linalg._lp_sensitivity_sampling.distortion import Distortion
from whp.result import PALETTE, Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

__all__ = ["LpCoreset"]


@dataclass(frozen=True, eq=False)
class LpCoreset(Result):
    """Weighted rows that stand for all of them, and the regression solved on them.

    Attributes
    ----------
    index : ndarray of int, shape (m,)
        Rows kept.
    xi : ndarray, shape (m,)
        What multiplies their ``|aᵀx|^p``: the `sample_weight` of a refit.
    probabilities, scores : ndarray, shape (n,)
        With which each row was kept (nan for recursive sampling, where it is that of the last of
        several rounds), and in proportion to what.
    total_score : float
        Sum of the scores.
    x : ndarray, shape (d,), or None
        Coefficients, if there was a right-hand side.
    cost, lower_bound, gap : float or None
        Cost of x on *all* rows, what no coefficients can undercut, and so how far, relative, x may
        be above the optimum; certain, rounding included.
    exact : bool
        Whether all rows were kept.
    p : float
        The power.
    shape : tuple of int
        Rows and columns of A.
    names : tuple of str
        Of the columns.
    certificates : tuple of Certificate
        ``subspace-embedding``, ``sharp-rate``; with a right-hand side ``regression-cost`` and
        ``optimality-gap``.
    distortion : Distortion or None
        The worst directions found.
    left_out : tuple of str
        Columns that depend on others and have coefficient zero, where that was asked for.
    heavy : int
        How few rows carry 99 % of the cost, where they are at most ten; else 0.
    """

    index: np.ndarray
    xi: np.ndarray
    probabilities: np.ndarray
    scores: np.ndarray
    total_score: float
    x: np.ndarray | None
    cost: float | None
    lower_bound: float | None
    gap: float | None
    exact: bool
    p: float
    shape: tuple[int, int]
    names: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    distortion: Distortion | None = field(default=None, repr=False)
    left_out: tuple[str, ...] = ()
    heavy: int = 0

    @property
    def row_scale(self) -> np.ndarray:
        """``xi^{1/p}``, which multiplies the rows themselves."""
        return self.xi ** (1 / self.p)

    @property
    def table(self) -> pd.DataFrame:
        """Row number and weight, one line a row kept: all that a refit needs."""
        import pandas as pd

        return pd.DataFrame({"row": self.index, "weight": self.xi})

    def transform(self, A: Any) -> np.ndarray:
        """The rows kept, scaled so that the ℓp norm of their products is that of all rows."""
        A = np.asarray(A.toarray() if issparse(A) else A, dtype=np.float64)
        if len(A) != self.shape[0]:
            raise ValueError(f"A must have {self.shape[0]} rows, got {len(A)}")
        return (A[self.index].T * self.row_scale).T

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Sizes, and how good the regression is."""
        n, d = self.shape
        said: dict[str, bool | int | float | str | None] = {
            "rows_of_A": n,
            "columns_of_A": d,
            "p": self.p,
            "rows_kept": len(self.index),
            "all_rows_kept": self.exact,
            "total_score": self.total_score,
        }
        if self.distortion is not None:
            said["worst_distortion_found"] = self.distortion.value
        if self.x is not None:
            said |= {"cost_on_all_rows": self.cost, "cost_above_optimum_at_most": self.gap}
            if self.left_out:
                said["columns_left_out"] = ", ".join(self.left_out[:10])
            if self.heavy:
                said["rows_that_carry_99_%_of_the_cost"] = self.heavy
        return said

    def artifacts(self) -> dict[str, Any]:
        """The rows with their weights, and the coefficients."""
        import pandas as pd

        made: dict[str, Any] = {"coreset.csv": self.table}
        if self.x is not None:
            made["coefficients.csv"] = pd.DataFrame({"name": self.names, "coefficient": self.x})
        return made

    def draw(self, ax: Axes) -> None:
        """Share of all scores that the most important rows carry, against their number."""
        ordered = np.sort(self.scores)[::-1]
        share = np.cumsum(ordered) / ordered.sum()
        rank = np.arange(1, len(share) + 1)
        ax.plot(rank, share, color=PALETTE["ours"], label="rows by importance")
        ax.plot(rank, rank / len(share), "--", color=PALETTE["quiet"], label="all rows alike")
        kept = f"{len(self.index):,} rows kept"
        ax.axvline(len(self.index), color=PALETTE["other"], label=kept)
        ax.set(
            xscale="log",
            xlabel="rows, the most important first",
            ylabel="share of the total score",
            ylim=(0, 1.02),
        )
        ax.legend(frameon=False)
