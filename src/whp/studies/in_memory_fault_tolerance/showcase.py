"""A character model of four ranks through three kills and a lost node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from whp.experiment.study import Showcase
from whp.result import PALETTE
from whp.studies.in_memory_fault_tolerance.experiments import text_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["example", "showcase"]


def example() -> dict[str, Any]:
    """3,000 verses of the King James Bible; three kills and one lost node."""
    return {"text": text_of(), "steps": 80, "rng": 0}


def showcase() -> Showcase:
    """A character model of four ranks through three kills and a lost node, beside what the kills would cost without copies."""
    from whp.distributed import in_memory_fault_tolerance

    arguments: dict[str, Any] = example() | {"steps": 44, "batch": 8, "context": 48}
    found = in_memory_fault_tolerance(**arguments)
    again = int(found.failures["last_step"].sum()) + len(found.failures)

    def draw(figure: Figure) -> None:
        figure.set_layout_engine("constrained")
        top, bottom = figure.subplots(2, 1, gridspec_kw={"height_ratios": (2, 1)})
        found.plot(top)
        bottom.plot(found.losses, color=PALETTE["ours"])
        for step in found.failures["last_step"]:
            bottom.axvline(step, color=PALETTE["truth"], linewidth=0.8)
        bottom.set(xlabel="step", ylabel="loss")

    return Showcase(
        data=f"{len(example()['text']):,} characters of the King James Bible, 4 ranks",
        quantity=f"steps to do again after {len(found.failures)} failures",
        ours=f"{int(found.failures['steps_lost'].sum())}",
        baseline=f"{again}",
        baseline_name="starting again",
        certificates=found.certificates,
        draw=draw,
        caption="What each rank did, and its deaths: restored from keepers of memory, training ends with the weights of a run "
        "without failures, bit for bit.",
        code="in_memory_fault_tolerance(text, ranks=4, parity=1, kills=3, node_kills=1)",
    )
