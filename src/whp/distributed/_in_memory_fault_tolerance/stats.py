"""What a restore did, and what snapshots cost."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Report", "Stats"]


@dataclass(frozen=True)
class Report:
    """What a restore did.

    Attributes
    ----------
    source : {"smp", "replica", "erasure", "persist", "fresh"}
        The keeper's memory, a living rank's, memory after members were rebuilt, disk, or nothing.
    version, step : int
        What was restored; −1 on a fresh run.
    newest_common : int
        The newest version that every keeper had whole.
    rebuilt_nodes : tuple of int
        Members of which blocks were made anew.
    seconds : float
    digest : str
        Of all members' checksums, taken when the version was copied.
    digest_ok : bool
        Whether the state that was loaded has the bytes that were copied then.
    last_step : int
        Newest step that some rank had finished, as far as the keepers know; −1: unknown.
    begun : int
        Snapshots that were begun under this name before.
    said : str
        The same in a sentence.
    """

    source: str
    version: int
    step: int
    newest_common: int
    rebuilt_nodes: tuple[int, ...]
    seconds: float
    digest: str
    digest_ok: bool
    last_step: int = -1
    begun: int = 0
    said: str = ""

    @property
    def steps_lost(self) -> int:
        """Steps that have to be done again."""
        return max(0, self.last_step - self.step)


@dataclass
class Stats:
    """What snapshots cost.

    Attributes
    ----------
    stalls_ms : list of float
        Milliseconds of each snapshot for which the trainer waited, at both ends, for the other ranks too.
    watched_ms : float
        Milliseconds of training in which these stalls came.
    copies_ms, checks_ms, lags_ms : list of float
        Milliseconds of copying, of comparing the copy with its source, and from the beginning of a snapshot to its commit.
    setup_ms : float
        Milliseconds of the first allocation.
    begun, versions, abandoned, postponed : int
        Snapshots that were begun; committed; given up; due while the previous was not committed.
    torn, unfenced : int
        Snapshots thrown away because tensors changed under the copy; steps without :meth:`SnapshotGuard.pre_step`. Those of
        processes that died are counted, too.
    keepers_lost, longest_period : int
        Keepers that died and were replaced; largest number of iterations between snapshots.
    longest_stride : int
        Largest difference between the numbers of two steps that follow each other.
    longest_lag_ms, shortest_step_ms : float
        Longest time to a commit and shortest iteration of the whole run, those of processes that died, too. So are all other
        extremes, and snapshots that were given up.
    """

    n: int = 1
    m: int = 0
    stalls_ms: list[float] = field(default_factory=list)
    watched_ms: float = 0.0
    copies_ms: list[float] = field(default_factory=list)
    checks_ms: list[float] = field(default_factory=list)
    lags_ms: list[float] = field(default_factory=list)
    setup_ms: float = 0.0
    begun: int = 0
    shard_bytes: int = 0
    state_bytes: int = 0
    versions: int = 0
    abandoned: int = 0
    postponed: int = 0
    fence_waits: int = 0
    torn: int = 0
    unfenced: int = 0
    keepers_lost: int = 0
    longest_period: int = 0
    longest_stride: int = 1
    longest_lag_ms: float = 0.0
    shortest_step_ms: float = 0.0

    def begin_stall(self, seconds: float) -> None:
        """The first half of a snapshot's stall; the first snapshot's, which allocates, is not typical and not counted."""
        if self.begun > 1:
            self.stalls_ms.append(1e3 * seconds)

    def add_stall(self, seconds: float) -> None:
        """The second half, at the fence."""
        if self.stalls_ms:
            self.stalls_ms[-1] += 1e3 * seconds

    @property
    def typical_stall(self) -> float:
        """Median seconds for which a snapshot blocks."""
        return float(np.median(self.stalls_ms)) / 1e3 if self.stalls_ms else 0.0

    @property
    def typical_lag(self) -> float:
        """Median seconds from the beginning of a snapshot to its commit."""
        return float(np.median(self.lags_ms or [0.0])) / 1e3

    def summary(self) -> dict[str, float]:
        """Medians in milliseconds, and counts."""
        middle = {
            k: float(np.median(getattr(self, k) or [0.0]))
            for k in ("stalls_ms", "copies_ms", "checks_ms", "lags_ms")
        }
        counts = {
            k: getattr(self, k)
            for k in (
                "versions",
                "abandoned",
                "postponed",
                "fence_waits",
                "torn",
                "unfenced",
                "shard_bytes",
            )
        }
        return {**middle, **counts, "n": self.n, "m": self.m}
