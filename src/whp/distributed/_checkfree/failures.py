"""Which stages are lost when: as listed, or drawn at a rate."""

from __future__ import annotations

import re

import numpy as np

from whp.distributed._checkfree.recovery import sources

__all__ = ["draw_failures", "read_failures"]


def read_failures(text: str, stages: int, steps: int) -> dict[int, tuple[int, ...]]:
    """Iteration to stages that are killed at its start, from ``"2@150,0@300"``.

    Raises
    ------
    ValueError
        If a part is not stage@iteration, or names what is not there.
    """
    found: dict[int, set[int]] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d{1,9})\s*@\s*(\d{1,9})", part, re.ASCII)
        if match is None:
            raise ValueError(f"fail must list stage@iteration, as in '2@150,0@300', got {part!r}")
        stage, at = map(int, match.groups())
        if stage >= stages or at >= steps:
            raise ValueError(
                f"fail must name stages 0..{stages - 1} and iterations 0..{steps - 1}, got {part!r}"
            )
        found.setdefault(at, set()).add(stage)
    return {at: tuple(sorted(who)) for at, who in sorted(found.items())}


def draw_failures(
    rate: float, stages: int, steps: int, mode: str, rng: np.random.Generator, rule: str = "grad"
) -> dict[int, tuple[int, ...]]:
    """Failures that strike each recoverable stage with this probability at every iteration.

    As in the paper's experiments, stages that would be rebuilt from each other are not lost in the same iteration: the later one
    is spared.
    """
    struck = rng.random((steps, stages)) < rate
    if mode != "checkfree+":
        struck[:, [0, -1]] = False  # the same failures for all modes that are compared with it
    found: dict[int, tuple[int, ...]] = {}
    for at in np.flatnonzero(struck.any(axis=1)):
        lost: list[int] = []
        for stage in map(int, np.flatnonzero(struck[at])):
            near = _near(stage, stages, mode, rule)
            if not near & set(lost) and not any(
                stage in _near(s, stages, mode, rule) for s in lost
            ):
                lost.append(stage)
        found[int(at)] = tuple(lost)
    return found


def _near(stage: int, stages: int, mode: str, rule: str) -> set[int]:
    return (
        set(
            sources(
                stage, stages, mode if mode in ("checkfree+", "redundant") else "checkfree", rule
            )
        )
        if mode != "none"
        else set()
    )
