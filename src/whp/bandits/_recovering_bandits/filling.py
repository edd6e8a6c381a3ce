"""Arms in the slots that a periodic timetable leaves empty."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

__all__ = ["fill"]


def fill(
    R: Float[np.ndarray, "N D"],
    period: Int[np.ndarray, " N"],
    offset: Int[np.ndarray, " N"],
    table: list[np.ndarray],
    K: int,
) -> list[np.ndarray]:
    """The timetable with empty slots given, in order of time, to the arm that gains most.

    Pulled a periods after its last pull and b before its next planned one, an arm gains
    R(a) + R(b) − R(a + b). All arms were just pulled before the first period.
    """
    N, D = R.shape
    arms, last = np.arange(N), np.full(N, -1)

    def pays(gap: Int[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        return R[arms, np.minimum(gap, D) - 1]

    every = np.maximum(period, 1)
    made = []
    for when, planned in enumerate(table):
        after = np.where(period > 0, (offset - when - 1) % every + 1, D)  # until the next pull
        since = when - last
        gain = pays(since) + np.where(period > 0, pays(after) - pays(since + after), 0.0)
        gain[planned] = -np.inf
        best = np.argsort(-gain, kind="stable")[: K - len(planned)]
        chosen = np.sort(np.concatenate([planned, best[gain[best] > 0]])).astype(np.int64)
        last[chosen] = when
        made.append(chosen)
    return made
