"""The built-in example, and the method on real data against its baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.bandits import recovering_bandits
from whp.certificate import Status
from whp.experiment.study import Showcase
from whp.result import PALETTE
from whp.studies.recovering_bandits.experiments import LOG, known_curves, promotion_curves

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """A year of promotions of 23 categories of products, ten a week; exponential curves without the extra."""
    from whp.datasets.streams import has_baskets, promotions

    if not has_baskets():
        return {"table": known_curves(), "K": 3}
    return {"table": promotions(), "K": 10, **LOG, "rng": 0}


def showcase() -> Showcase:
    """Promotions of ten categories a week: the timetable, always the same ten, what no policy exceeds."""
    from whp.datasets.streams import has_baskets

    real = has_baskets()
    if real:
        report = recovering_bandits(promotion_curves()[0], 10, **LOG, resamples=20, rng=0)
    else:
        report = recovering_bandits(known_curves(), 3)
    plan, unit = report.plan, "$" if real else ""

    def draw(figure: Figure) -> None:
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        plan.plot(left)
        left.set_title("")
        shown = {
            "pay most now": (plan.myopic, "other"),
            "timetable": (plan.value, "ours"),
            "no policy above": (plan.upper_bound, "quiet"),
        }
        gains = [value - plan.static for value, _ in shown.values()]
        right.barh(list(shown), gains, color=[PALETTE[c] for _, c in shown.values()])
        right.axvline(0, color=PALETTE["quiet"], linewidth=0.8)
        right.invert_yaxis()
        right.set(xlabel=f"gain over\nalways the same{', $' if real else ''}")

    loss = report.certificates[0]
    why = next((c.remedy for c in loss.conditions if c.status is Status.VIOLATED), "")
    return Showcase(
        data=f"a year of promotions, {len(plan.period)} categories of products"
        if real
        else "10 arms",
        quantity=f"reward a week from {plan.K} promotions, on the fitted curves",
        ours=f"{unit}{plan.value:.2f}",
        baseline=f"{unit}{plan.static:.2f}",
        baseline_name="always the same ones",
        certificates=report.certificates,
        draw=draw,
        caption="Promotions wear out and recover. On the curves fitted to a year of them the timetable "
        f"earns {100 * plan.ratio:.1f} % of what any policy could."
        + (f" What the log says of later weeks is void: {why}" if why else ""),
        code="recovering_bandits(log, K=10, arm='product_category', time='week', unit='product_id')",
    )
