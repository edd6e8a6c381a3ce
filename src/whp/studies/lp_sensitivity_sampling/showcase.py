"""The built-in example, and the method on real data against its baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.linalg import lp_regression, lp_sensitivity_sampling
from whp.linalg._lp_sensitivity_sampling.sampling import inclusion
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Logarithm of the price of diamonds, absolute deviations; without the extra a sample."""
    from whp.datasets.tables import diamonds_regression

    A, b = diamonds_regression()
    return {"A": A, "b": b, "p": 1.0, "rows": 1500, "rng": 0}


def showcase() -> Showcase:
    """Cubic regression on diamonds from Lewis rows and from as many uniform ones."""
    from whp.datasets.tables import diamonds_regression

    A, b = diamonds_regression()
    matrix, target = A.to_numpy(dtype=np.float64), b.to_numpy(dtype=np.float64)
    p, rows, draws = 3.0, 1500 if len(A) > 10_000 else 600, 30
    ours = lp_sensitivity_sampling(A, b, p=p, rows=rows, measure=True, rng=0)

    def cost(x: np.ndarray) -> float:
        return float((np.abs(target - matrix @ x) ** p).sum())

    best = cost(lp_regression(matrix, target, p))
    # All draws share the scores, so only the coins and the small regressions are done again.
    excess: dict[str, list[float]] = {"lewis": [], "uniform": []}
    rates = {
        "lewis": inclusion(ours.scores, rows)[0],
        "uniform": np.full(len(matrix), rows / len(matrix)),
    }
    for rng in np.random.default_rng(0).spawn(draws):
        for name, q in rates.items():
            kept = np.flatnonzero(rng.random(len(q)) < q)
            x = lp_regression(matrix[kept], target[kept], p, weights=1 / q[kept], on_rank="drop")
            excess[name].append(max(100 * (cost(x) / best - 1), 1e-4))

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        for name, colour in (("uniform", PALETTE["other"]), ("lewis", PALETTE["ours"])):
            order = np.arange(1, draws + 1)
            ax.plot(order, np.sort(excess[name]), "o-", color=colour, label=f"{name} rows")
        ax.set(
            yscale="log",
            xlabel="draws, the best first",
            ylabel="cost above the optimum on all rows, %",
        )
        ax.legend(frameon=False)

    return Showcase(
        data=f"{len(A):,} diamonds, {A.shape[1]} columns",
        quantity=f"median excess cost of ℓ₃ regression from {rows:,} rows",
        ours=f"{np.median(excess['lewis']):.2g} %",
        baseline=f"{np.median(excess['uniform']):.3g} %",
        baseline_name="as many uniformly sampled rows",
        certificates=ours.certificates,
        draw=draw,
        caption="Each point is one draw of rows; few diamonds decide the ℓ₃ cost, and uniform rows "
        "miss them.",
        code="lp_sensitivity_sampling(A, b, p=3, rows=1500)",
    )
