"""The largest of 302 counts after every basket, private at all times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.experiment.study import Showcase
from whp.privacy._dp_continual_release import ContinualCounter, release_stream
from whp.result import PALETTE
from whp.studies.dp_continual_release.experiments import RHO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """The best-selling category after each of 155,659 baskets; random bits without the extra."""
    from whp.datasets.streams import baskets, has_baskets

    if not has_baskets():
        bits = np.random.default_rng(0).integers(0, 2, (20_000, 50))
        return {"stream": bits, "T": 20_000, "rho": RHO}
    X, names = baskets()
    return {"stream": X, "categories": names, "query": "maxsum", "T": X.shape[0], "rho": RHO}


def showcase() -> Showcase:
    """The largest count of 302 categories after every basket, against a fresh answer each time."""
    given = example()
    stream = given.pop("stream")
    ours = release_stream(stream, **given, measure=True, reveal=True)
    T, d = ours.plan.T, ours.plan.d
    # A fresh answer after every record: the same budget over T releases.
    naive = ContinualCounter(1, T=T, rho=RHO, strategy="naive", neighbours="add-remove")
    fresh = np.abs(naive.run(np.zeros((T, 1), np.uint8))[:, 0])
    errors = ours.errors
    assert errors is not None

    def draw(figure: Figure) -> None:
        ax = figure.subplots()
        shown = np.unique(np.linspace(0, T - 1, 3000).astype(int))
        ax.plot(
            shown,
            fresh[shown],
            color=PALETTE["other"],
            linewidth=0.5,
            label="fresh noise after every record",
        )
        label = f"one release every {ours.plan.period} records"
        ax.plot(shown, errors[shown], color=PALETTE["ours"], linewidth=0.8, label=label)
        label = f"proven for all times at once: {ours.bound:.0f}"
        ax.axhline(ours.bound, color=PALETTE["ours"], linestyle="--", label=label)
        ax.set(yscale="symlog", xlabel="records", ylabel="error of the private answer")
        ax.legend(frameon=False, loc="lower right")

    return Showcase(
        data=f"{T:,} shopping baskets, {d} categories",
        quantity="largest error of the private maximum at any time, ρ = 0.5",
        ours=f"{errors.max():.0f}",
        baseline=f"{fresh.max():.0f}",
        baseline_name="fresh noise after every record",
        certificates=ours.certificates,
        draw=draw,
        caption="After every basket a private answer leaves, all of them under one budget. No private method can stay below "
        "the lower bound in its certificate.",
        code="release_stream(X, query='maxsum', T=155_659, rho=0.5)",
    )
