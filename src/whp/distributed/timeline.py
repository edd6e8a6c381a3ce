"""The picture that methods of recovery share: what every process did over time, and when it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Event", "draw_timeline"]

COLOURS = {"work": "#4c9f70", "recovery": "#e9a03b", "copy": "#4878b0", "waiting": "#c9cdd2"}


@dataclass(frozen=True)
class Event:
    """Something that happened to a process.

    Parameters
    ----------
    who : str
        The process's row.
    what : str
        ``"kill"`` is a moment; ``"work"``, ``"recovery"``, ``"copy"`` and ``"waiting"`` last from `start` to `end`.
    start, end : float
        Seconds since the run began.
    note : str
        For a reader.
    """

    who: str
    what: str
    start: float
    end: float
    note: str = ""


def draw_timeline(events: Sequence[Event], ax: Axes, rows: Sequence[str] | None = None) -> Axes:
    """A row a process, bars for what it did, a cross for every kill."""
    order = list(rows) if rows is not None else list(dict.fromkeys(e.who for e in events))
    place = {name: len(order) - 1 - i for i, name in enumerate(order)}
    for what, colour in COLOURS.items():
        for name in order:
            bars = [
                (e.start, max(e.end - e.start, 1e-9))
                for e in events
                if e.who == name and e.what == what
            ]
            if bars:
                ax.broken_barh(bars, (place[name] - 0.36, 0.72), facecolors=colour, linewidth=0)
    shown = [what for what in COLOURS if any(e.what == what for e in events)]
    handles = [ax.plot([], [], "s", color=COLOURS[what], label=what)[0] for what in shown]
    kills = [e for e in events if e.what == "kill"]
    if kills:
        handles += ax.plot(
            [e.start for e in kills],
            [place[e.who] for e in kills],
            "X",
            color="#c0392b",
            markersize=9,
            markeredgecolor="white",
            label="killed",
            linestyle="none",
        )
    ax.set_yticks(range(len(order)), order[::-1])
    ax.set(xlabel="seconds", ylim=(-0.6, len(order) - 0.4))
    ax.legend(
        handles=handles,
        frameon=False,
        ncols=len(handles),
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        fontsize=8,
    )
    return ax
