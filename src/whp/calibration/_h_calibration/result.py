"""What :func:`h_calibration` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from whp.calibration._h_calibration.band import TOP
from whp.calibration._h_calibration.maps import HCalibrationMap
from whp.certificate import Certificate
from whp.result import PALETTE, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["HCalibrationResult", "draw_band"]


@dataclass(frozen=True, eq=False)
class HCalibrationResult(Result):
    """A recalibrated classifier: the map, its probabilities, and how far they may be from the truth.

    Attributes
    ----------
    map : HCalibrationMap
        Call it on new logits.
    probs : ndarray, shape (n, C)
        Recalibrated probabilities of the calibration rows.
    probs_test : ndarray or None
        Those of the test rows.
    objective_before, objective_after : float
        Windowed error on the certification rows, and after calibration.
    objective_calibrated : float
        Median windowed error of a perfectly calibrated model on those rows: the floor.
    history : ndarray
        The objective along the fit: over temperatures tried, or over evaluations.
    blocks : DataFrame
        The reliability band, see :func:`whp.calibration.band`.
    blocks_before : DataFrame
        That of the probabilities as they were.
    metrics : DataFrame
        Metric, before, after, on the certification rows.
    certificates : tuple of Certificate
        ``top-label-error``, ``error-bound``, ``calibration-test``, ``accuracy-preserved`` and
        ``overfit``.
    rows : tuple of int
        Rows that fitted and rows that certified.
    window : int
        The window that was used.
    """

    map: HCalibrationMap
    probs: np.ndarray
    probs_test: np.ndarray | None
    objective_before: float
    objective_after: float
    objective_calibrated: float
    history: np.ndarray = field(repr=False)
    blocks: pd.DataFrame = field(repr=False)
    blocks_before: pd.DataFrame = field(repr=False)
    metrics: pd.DataFrame = field(repr=False)
    certificates: tuple[Certificate, ...]
    rows: tuple[int, int] = (0, 0)
    window: int = 200
    figure_size: ClassVar[tuple[float, float]] = (5.0, 5.0)

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """Map, windowed error and metrics before and after."""
        out: dict[str, bool | int | float | str | None] = {
            "rows_to_fit": self.rows[0],
            "rows_to_certify": self.rows[1],
            "map": self.map.kind,
            "inverse_temperature": self.map.beta,
            "windowed_error": f"{self.objective_before:.4g} before, {self.objective_after:.4g} "
            f"after, {self.objective_calibrated:.4g} if calibrated perfectly",
        }
        for row in self.metrics.itertuples():
            out[str(row.metric)] = f"{row.before:.4g} before, {row.after:.4g} after"
        return out

    def numbers(self) -> dict[str, bool | int | float | str | None]:
        """The summary with one number an entry, as a record of the run holds it."""
        out = dict(list(self.summary().items())[:4])
        kinds = ("before", "after", "calibrated")
        out |= {f"windowed_error_{k}": getattr(self, f"objective_{k}") for k in kinds}
        for row in self.metrics.to_dict("records"):
            out |= {f"{row['metric']}_{k}": float(row[k]) for k in kinds[:2]}
        return out

    def artifacts(self) -> dict[str, Any]:
        """Probabilities, reliability band, metrics and the map."""
        arrays = {"probs": self.probs}
        if self.probs_test is not None:
            arrays["probs_test"] = self.probs_test
        return {
            "arrays.npz": arrays,
            "blocks.csv": self.blocks,
            "metrics.csv": self.metrics,
            "map.json": self.map.to_dict(),
        }

    def draw(self, ax: Axes) -> None:
        """True frequency of the top label against its stated probability, with the band."""
        draw_band(ax, self.blocks_before, PALETTE["other"], "as it was")
        draw_band(ax, self.blocks, PALETTE["ours"], "recalibrated")
        ax.plot([0, 1], [0, 1], color=PALETTE["quiet"], linewidth=0.8)
        ax.set(
            xlabel="stated probability of the top label",
            ylabel="how often it is right, simultaneous interval",
            xlim=(-0.02, 1.02),
            ylim=(-0.02, 1.02),
        )
        ax.legend(frameon=False)


def draw_band(ax: Axes, table: pd.DataFrame, colour: str, label: str, part: str = TOP) -> None:
    """Blocks of one part of a band as points with bars."""
    rows = table[table["part"] == part]
    middle = rows["frequency"].to_numpy()
    bars = np.stack([middle - rows["lower"].to_numpy(), rows["upper"].to_numpy() - middle])
    style = {"markersize": 4, "capsize": 2, "elinewidth": 1.2}
    ax.errorbar(
        rows["mean_predicted"],
        middle,
        yerr=np.maximum(bars, 0),
        fmt="o",
        color=colour,
        label=label,
        **style,
    )
