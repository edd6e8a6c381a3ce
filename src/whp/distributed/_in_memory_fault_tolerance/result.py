"""What a training run through failures came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from whp.certificate import Certificate
from whp.distributed.timeline import Event, draw_timeline
from whp.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["InMemoryResult"]


@dataclass(frozen=True, eq=False)
class InMemoryResult(Result):
    """A training run through real failures.

    Attributes
    ----------
    losses : ndarray, shape (steps,)
        Mean loss of each step, in nats a character, at its first run.
    finished : bool
        Whether training came to its end; if not, `fault` says why.
    failures : DataFrame
        Of each failure: ranks killed, members lost, where the state came from, steps and seconds lost.
    restores : int
        Restores that succeeded.
    stall_ms, copy_ms, encode_ms : float
        Median milliseconds of a snapshot that the trainer waited, that copying took, and until it was encoded and committed.
    step_ms : float
        Median milliseconds of an iteration.
    overhead : float
        Bytes of parity a byte of state.
    events : tuple of Event
        For the picture.
    weights : dict of str to ndarray
        Of the trained model.
    """

    losses: np.ndarray
    finished: bool
    fault: str
    failures: pd.DataFrame
    restores: int
    replayed_steps: int
    stall_ms: float
    copy_ms: float
    encode_ms: float
    step_ms: float
    state_bytes: int
    overhead: float
    seconds: float
    events: tuple[Event, ...] = field(repr=False)
    weights: dict[str, np.ndarray] = field(repr=False)
    vocab: str = field(repr=False)
    certificates: tuple[Certificate, ...] = ()

    def summary(self) -> dict[str, bool | int | float | str | None]:
        """How it ended, what failures cost and what snapshots did."""
        lost = self.failures["steps_lost"]
        return {
            "finished": self.finished,
            **({"fault": self.fault} if self.fault else {}),
            "final_loss": float(self.losses[-10:].mean()) if len(self.losses) else None,
            "failures": len(self.failures),
            "restores": self.restores,
            "steps_lost": f"{lost.mean():.1f} a failure, {lost.max()} at most"
            if len(lost)
            else "0",
            "recovery_seconds": f"{self.failures['seconds'].median():.2f}" if len(lost) else "",
            "stall_ms": self.stall_ms,
            "copy_ms": self.copy_ms,
            "encode_ms": self.encode_ms,
            "step_ms": self.step_ms,
            "state_bytes": self.state_bytes,
            "parity_overhead": self.overhead,
            "seconds": self.seconds,
        }

    def artifacts(self) -> dict[str, Any]:
        """Losses, failures and weights."""
        from safetensors.numpy import save_file

        return {
            "arrays.npz": {"losses": self.losses},
            "failures.csv": self.failures,
            "model.safetensors": lambda path: save_file(
                {k: np.ascontiguousarray(v) for k, v in self.weights.items()}, path
            ),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """What every rank did over time, with its deaths."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots()[1]
        rows = sorted({e.who for e in self.events}, key=lambda who: int(who.split()[-1]))
        return draw_timeline(self.events, ax, rows)
