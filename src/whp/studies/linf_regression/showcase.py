"""The built-in example, and the method on real data against its baseline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.linalg import SRHT, LinfRegression, linf_regression, sketch_and_solve
from whp.peers.sketches import RowSampling
from whp.result import PALETTE
from whp.studies.linf_regression.experiments import DIAMONDS_ROWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Logarithm of the price of diamonds; all of them where the extra is installed, else the shipped sample."""
    from whp.datasets.tables import diamonds_regression

    A, b = diamonds_regression()
    return {"A": A, "b": b, "rows": DIAMONDS_ROWS, "measure": True, "rng": 0}


def showcase() -> Showcase:
    """Error bars of the SRHT against those of as many uniformly sampled rows."""
    data = example()
    A, b = data["A"], data["b"]
    ours = linf_regression(**data)
    exact = linf_regression(A, b).x
    hits: dict[str, list[bool]] = {"srht": [], "uniform rows": []}
    shown: dict[str, LinfRegression] = {}
    draws = 100
    for rng in np.random.default_rng(0).spawn(draws):
        for name in hits:
            make: Any = SRHT if name == "srht" else RowSampling
            result = sketch_and_solve(make(len(A), DIAMONDS_ROWS, rng), A, b)
            low, high = result.conf_int(0.95).T
            hits[name].append(bool(((low <= exact) & (exact <= high)).all()))
            shown[name] = result

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, 2, sharey=True, sharex=True)
        scale = ours.column_norms / math.sqrt(len(A))
        order = np.argsort(np.abs(ours.x * scale))
        for ax, (name, result), colour in zip(
            axes, shown.items(), (PALETTE["ours"], PALETTE["other"]), strict=True
        ):
            low, high = (result.conf_int(0.95) - exact[:, None]).T * scale
            outside = ((low > 0) | (high < 0))[order]
            middle, half = ((low + high) / 2)[order], ((high - low) / 2)[order]
            where = np.arange(len(order))
            for chosen, shade in ((~outside, colour), (outside, PALETTE["truth"])):
                ax.errorbar(
                    middle[chosen],
                    where[chosen],
                    xerr=half[chosen],
                    fmt="o",
                    markersize=3,
                    color=shade,
                    capsize=2,
                )
            ax.axvline(0, color=PALETTE["quiet"], linewidth=0.8)
            ax.set_xlabel(f"{name}: error, with 95 % bars")
        axes[0].set_xscale("symlog", linthresh=0.1)
        axes[0].set_yticks(np.arange(len(order)), np.array(ours.names)[order], fontsize=7)

    return Showcase(
        data=f"{len(A):,} diamonds, {A.shape[1]} columns",
        quantity=f"draws whose 95 % error bars cover all {A.shape[1]} coefficients",
        ours=f"{sum(hits['srht'])} of {draws}",
        baseline=f"{sum(hits['uniform rows'])} of {draws}",
        baseline_name="as many uniformly sampled rows",
        certificates=ours.certificates,
        draw=draw,
        caption="Distance of each coefficient to the exact one, in units of its effect on log price, "
        f"from {DIAMONDS_ROWS} rows. Bars should reach zero; red ones do not.",
        code="linf_regression(A, b, rows=768, measure=True)",
    )
