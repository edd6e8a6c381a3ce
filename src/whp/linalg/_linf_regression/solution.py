"""What the front door returns."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from whp.certificate import Certificate
from whp.linalg._linf_regression import bounds
from whp.linalg._linf_regression.statistical import Statistics
from whp.result import PALETTE, Result
from whp.validate import as_fraction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from rich.table import Table

__all__ = ["LinfRegression"]

SHOWN = 10  # coefficients on the terminal
DRAWN = 30  # coefficients in the picture


@dataclass(frozen=True, eq=False)
class LinfRegression(Result):
    """A sketched least-squares solution and how far each coefficient is from the exact one.

    Attributes
    ----------
    x : ndarray
        The d coefficients, or d×k for k right-hand sides.
    stderr : ndarray
        Standard error of each coefficient's distance to the *exact least-squares solution*, caused
        by the sketch and by rounding: not the statistical standard error, which is
        `statistical_stderr`. After refinement and for an exact solution the radius of a bound.
    rounding : ndarray
        The part of `stderr` that is rounding, a radius.
    rows : int
        Rows of the sketch, m; the rows of A if it was solved exactly.
    residual_estimate : float or ndarray
        √(m RSS / (m − d)), the estimate of ‖b − Ax*‖, one a right-hand side.
    sketch : str
        Which sketch; "none" if it was solved exactly.
    solved : {"sketched", "refined", "exactly"}
        How.
    shape : tuple of int
        Rows and columns of A.
    names : tuple of str
        Names of the columns.
    delta : float
        Failure probability of the certificates.
    certificates : tuple of Certificate
        ``coordinate-error-bars`` and ``linf-bound``; ``refined-error-bars``; or ``exact-solution``.
    column_norms : ndarray
        Norms of the columns of A.
    degrees : ndarray
        Degrees of freedom of `stderr`, one a right-hand side.
    embedding_rows : float
        Rows of a sketch of all rows at once that embeds the range of A as well as this one.
    statistics : Statistics
        Where `statistical_stderr` comes from.
    """

    x: np.ndarray
    stderr: np.ndarray
    rounding: np.ndarray
    rows: int
    residual_estimate: float | np.ndarray
    sketch: str
    solved: Literal["sketched", "refined", "exactly"]
    shape: tuple[int, int]
    names: tuple[str, ...]
    delta: float
    certificates: tuple[Certificate, ...]
    column_norms: np.ndarray = field(repr=False)
    degrees: np.ndarray = field(repr=False)
    embedding_rows: float = field(repr=False)
    statistics: Statistics = field(repr=False)

    @property
    def exact(self) -> bool:
        """Whether a sketch would not have paid and the exact solution was computed."""
        return self.solved == "exactly"

    def half_widths(self, level: float = 0.95, *, simultaneous: bool = True) -> np.ndarray:
        """Half-width of each error bar, rounding included; see :meth:`conf_int`."""
        return self._half_widths(1 - as_fraction(level, "level"), simultaneous)

    def _half_widths(self, delta: float, simultaneous: bool = True) -> np.ndarray:
        """By δ, which may be so small that 1 − δ is 1."""
        if self.solved == "exactly":
            return self.rounding
        if self.solved == "refined":
            wide: Any = bounds.refined_quantile(delta, self.embedding_rows, self.shape[1])
        else:
            bars = self.x.size if simultaneous else 1
            wide = bounds.student_quantile(delta, bars, self.degrees)
            wide = wide if self.x.ndim == 2 else wide[0]
        return bounds.times(wide, np.maximum(self.stderr - self.rounding, 0)) + self.rounding

    def conf_int(self, level: float = 0.95, *, simultaneous: bool = True) -> np.ndarray:
        """Interval of each coefficient for the exact least-squares solution.

        Parameters
        ----------
        level : float
            Confidence level. An exact solution's radius does not depend on it.
        simultaneous : bool
            Whether all coefficients are to be covered at once (Bonferroni), or each by itself.

        Returns
        -------
        ndarray
            Lower and upper ends in the last axis: shape (d, 2) or (d, k, 2).
        """
        return self._ends(self.half_widths(level, simultaneous=simultaneous))

    def _ends(self, half: np.ndarray) -> np.ndarray:
        return np.stack([self.x - half, self.x + half], axis=-1)

    @cached_property
    def statistical_stderr(self) -> np.ndarray:
        """Ordinary standard error of the exact coefficients, for noise in b of any variance (HC3).

        Not of the sketch, which cannot know it: computed from all of A, with the exact solution,
        when first asked for, from the arrays that were passed in, which must not have changed since.
        It costs several times the exact solution. Infinite where a single row determines a
        coefficient.
        """
        return self.statistics().reshape(self.x.shape)

    @property
    def total_stderr(self) -> np.ndarray:
        """√(stderr² + statistical_stderr²): error of the sketch and of the noise in b."""
        return np.hypot(self.stderr, self.statistical_stderr)

    def __getstate__(self) -> dict[str, Any]:
        """Computed numbers travel, the user's data do not.

        Of data that were changed in place nothing can be computed any more; the rest still travels.
        """
        state = {**self.__dict__, "statistics": self.statistics.without_data()}
        with suppress(ValueError):
            state["statistical_stderr"] = self.statistical_stderr
        return state

    @property
    def coefficients(self) -> pd.DataFrame:
        """One row a coefficient: its value, both standard errors, and its interval.

        Columns `distance_stderr`, `low` and `high` (at level 1 − delta, simultaneous) are about the
        distance to the exact least-squares solution; `statistical_stderr` is about noise in b.
        """
        import pandas as pd

        ends = self._ends(self._half_widths(self.delta)).reshape(-1, 2)
        k = self.x.size // len(self.names)
        table = pd.DataFrame(
            {
                "name": np.repeat(np.array(self.names, dtype=object), k),
                "coefficient": self.x.ravel(),
                "distance_stderr": self.stderr.ravel(),
                "low": ends[:, 0],
                "high": ends[:, 1],
                "statistical_stderr": self.statistical_stderr.ravel(),
            }
        )
        if self.x.ndim == 2:
            table.insert(1, "target", np.tile(np.arange(k), len(self.names)))
        return table

    def _effects(self, values: np.ndarray) -> np.ndarray:
        """Times the r.m.s. of their columns, shape (d, k): in units of b."""
        scale = self.column_norms / math.sqrt(self.shape[0])
        return np.reshape(values, (len(self.names), -1)) * scale[:, None]

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Size, sketch, residual and the widest error bar in units of b."""
        n, d = self.shape
        how = {
            "sketched": f"from {self.rows} sketched rows",
            "refined": f"from {self.rows} sketched rows, refined on all of A",
            "exactly": "exactly, which is cheaper here than a sketch",
        }
        residual = float(np.max(self.residual_estimate))
        wider = max(float(c.inputs.get("wider for uneven blocks", 1.0)) for c in self.certificates)
        return {
            "rows_of_A": n,
            "columns_of_A": d,
            "solved": how[self.solved],
            "sketch": self.sketch,
            **({"bars_wider_for_uneven_blocks": wider} if wider > 1 else {}),
            "residual_norm": residual,
            "residual_rms": residual / math.sqrt(n),
            "widest_bar_in_units_of_b": float(self._effects(self._half_widths(self.delta)).max()),
        }

    def artifacts(self) -> dict[str, Any]:
        """The table of coefficients."""
        return {"coefficients.csv": self.coefficients}

    def __rich__(self) -> Table:
        from rich.table import Table

        table = self.coefficients
        order = np.argsort(-np.abs(self._effects(self.x)).ravel(), kind="stable")[:SHOWN]
        shown = Table(box=None, padding=(0, 2, 0, 0), title_justify="left")
        shown.title = f"{len(order)} of {len(table)} coefficients, largest effects first"
        for name in table.columns:
            shown.add_column(name.replace("_", " "), justify="left" if name == "name" else "right")
        for row in table.iloc[order].itertuples(index=False):
            shown.add_row(*(f"{v:.5g}" if isinstance(v, float) else str(v) for v in row))
        both = Table.grid()
        both.add_row(super().__rich__())
        both.add_row("")
        both.add_row(shown)
        return both

    def draw(self, ax: Axes) -> None:
        """Coefficients times the r.m.s. of their columns, with both kinds of bars; the largest."""
        x, half = (self._effects(v)[:, 0] for v in (self.x, self._half_widths(self.delta)))
        noise = 2 * self._effects(self.statistical_stderr)[:, 0]
        order = np.argsort(-np.abs(x), kind="stable")[:DRAWN]
        shown = np.sort(order)[::-1]
        where = np.arange(len(shown))
        ax.axvline(0, color=PALETTE["quiet"], linewidth=0.8)
        ax.errorbar(
            x[shown],
            where + 0.15,
            xerr=np.where(np.isfinite(noise), noise, 0)[shown],
            fmt="none",
            ecolor=PALETTE["quiet"],
            elinewidth=1.5,
            label="± 2 statistical standard errors",
        )
        ax.errorbar(
            x[shown],
            where - 0.15,
            xerr=np.where(np.isfinite(half), half, 0)[shown],
            fmt="o",
            markersize=4,
            color=PALETTE["ours"],
            ecolor=PALETTE["other"],
            elinewidth=2,
            capsize=3,
            label=f"{1 - self.delta:.0%} simultaneous bars to the exact solution",
        )
        ax.set_yticks(where, [self.names[i] for i in shown])
        ax.set_xlabel("coefficient × r.m.s. of its column, in units of b")
        ax.legend(frameon=False, fontsize="small")
